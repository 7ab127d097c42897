/* chown lchown fchown fchownat: what is set, through what, by whom, and which mode bits fall. */
#include "harness.h"

static void as_root(void)
{
	FOR_TYPES(t, T_ALL) {
		struct stat before;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0644));
		EXPECT_OWNER(0, 0, "f");
		before = h_rewind("f");
		EXPECT_OK(lchown("f", UA, GB));
		EXPECT_OWNER(UA, GB, "f");
		EXPECT_TIMES("f", &before, TM_C, 0);
		EXPECT_OK(lchown("f", (uid_t)-1, GX));
		EXPECT_OWNER(UA, GX, "f");
		EXPECT_OK(lchown("f", UB, (gid_t)-1));
		EXPECT_OWNER(UB, GX, "f");
		before = h_rewind("f");
		EXPECT_OK(lchown("f", (uid_t)-1, (gid_t)-1));
		EXPECT_OWNER(UB, GX, "f");
		EXPECT_TIMES("f", &before, TM_C, 0);
		EXPECT_OK(lchown("f", 0, 0));
		EXPECT_OWNER(0, 0, "f");
		EXPECT_OK(fchownat(AT_FDCWD, "f", 123456, 654321, AT_SYMLINK_NOFOLLOW));
		EXPECT_OWNER(123456, 654321, "f");
		EXPECT_OK(lchown("f", 4294967294u, 4294967293u));
		EXPECT_OWNER(4294967294u, 4294967293u, "f");
		if (t != T_LNK) {
			EXPECT_OK(symlink("f", "l"));
			EXPECT_OK(chown("l", 1, 2));
			EXPECT_OWNER(1, 2, "f");
			EXPECT_OWNER(0, 0, "l");
			EXPECT_OK(lchown("l", 3, 4));
			EXPECT_OWNER(1, 2, "f");
			EXPECT_OWNER(3, 4, "l");
			EXPECT_OK(fchownat(AT_FDCWD, "l", 5, 6, 0));
			EXPECT_OWNER(5, 6, "f");
			EXPECT_OWNER(3, 4, "l");
			EXPECT_OK(chown("f", 7, 8));
			EXPECT_OWNER(7, 8, "f");
			EXPECT_OK(unlink("l"));
		}
		h_remove("f");
	}
	h_ctx(NULL);
}

static void by_descriptor(void)
{
	int fd, path;

	REQUIRE_OK(h_touch("f"));
	fd = (int)REQUIRE_OK(open("f", O_RDONLY));
	path = (int)REQUIRE_OK(open("f", O_PATH));
	EXPECT_OK(fchown(fd, UA, GA));
	EXPECT_OWNER(UA, GA, "f");
	EXPECT_OK(fchown(fd, (uid_t)-1, GB));
	EXPECT_OWNER(UA, GB, "f");
	EXPECT_OK(fchownat(path, "", UB, GA, AT_EMPTY_PATH));
	EXPECT_OWNER(UB, GA, "f");
	EXPECT_ERR(EBADF, fchown(path, 0, 0));
	EXPECT_ERR(EINVAL, fchownat(fd, "f", 0, 0, 0x40000000));
	EXPECT_ERR(ENOENT, fchownat(fd, "", 0, 0, 0));
	EXPECT_OWNER(UB, GA, "f");
	EXPECT_OK(unlink("f"));
	struct stat st = {0};

	EXPECT_OK(fchown(fd, 11, 12));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(11, st.st_uid);
	EXPECT_EQ(12, st.st_gid);
	close(fd);
	close(path);
}

static void who(void)
{
	FOR_TYPES(t, T_ALL) {
		struct stat before;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0777));
		REQUIRE_OK(lchown("f", UA, GA));
		before = h_rewind("f");
		AS(BOB) {
			EXPECT_ERR(EPERM, lchown("f", UB, GB));
			EXPECT_ERR(EPERM, lchown("f", UA, GB));
			EXPECT_ERR(EPERM, lchown("f", (uid_t)-1, GB));
			EXPECT_ERR(EPERM, lchown("f", UB, (gid_t)-1));
			EXPECT_ERR(EPERM, lchown("f", UA, GA));
		}
		AS(ALICE) {
			EXPECT_ERR(EPERM, lchown("f", UB, (gid_t)-1));
			EXPECT_ERR(EPERM, lchown("f", 0, (gid_t)-1));
			EXPECT_ERR(EPERM, lchown("f", (uid_t)-1, GB));
			EXPECT_ERR(EPERM, lchown("f", UA, 0));
		}
		AS(CRED(UA, GA, GX)) {
			EXPECT_ERR(EPERM, lchown("f", (uid_t)-1, GB));
			EXPECT_ERR(EPERM, lchown("f", UB, GX));
		}
		EXPECT_OWNER(UA, GA, "f");
		EXPECT_TIMES("f", &before, 0, 0);
		AS(CRED(UA, GA, GX, GB)) {
			EXPECT_OK(lchown("f", UA, GA));
			EXPECT_OK(lchown("f", (uid_t)-1, GB));
			EXPECT_OWNER(UA, GB, "f");
			EXPECT_OK(lchown("f", UA, GX));
			EXPECT_OWNER(UA, GX, "f");
			EXPECT_OK(lchown("f", (uid_t)-1, GA));
			EXPECT_OWNER(UA, GA, "f");
		}
		h_remove("f");
	}
	h_ctx("descriptor");
	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(chown("f", UA, GA));
	REQUIRE_OK(chmod("f", 0666));
	AS(CRED(UA, GA, GX)) {
		int fd = (int)REQUIRE_OK(open("f", O_RDONLY));

		EXPECT_OK(fchown(fd, (uid_t)-1, GX));
		EXPECT_OWNER(UA, GX, "f");
		EXPECT_ERR(EPERM, fchown(fd, UB, (gid_t)-1));
		EXPECT_ERR(EPERM, fchown(fd, (uid_t)-1, GB));
	}
	AS(BOB) {
		int fd = (int)REQUIRE_OK(open("f", O_RDWR));

		EXPECT_ERR(EPERM, fchown(fd, UB, GB));
	}
	EXPECT_OWNER(UA, GX, "f");
	unlink("f");
	h_ctx(NULL);
}

/* A change of owner takes set-id bits from files that can be executed, never from directories. */
static void set_id_bits(void)
{
	static const struct {
		mode_t before, after;
	} file[] = {{06777, 0777}, {04755, 0755}, {02755, 0755}, {06755, 0755},
		    {04644, 0644}, {06711, 0711}, {0755, 0755},	 {01755, 01755}};

	for (unsigned i = 0; i < sizeof(file) / sizeof(file[0]); i++) {
		for (int user = 0; user < 2; user++) {
			h_ctx("%s changes the group of a file of mode %04o",
			      user ? "owner" : "root", file[i].before);
			REQUIRE_OK(h_make(T_REG, "f", 0644));
			REQUIRE_OK(chown("f", UA, GA));
			REQUIRE_OK(chmod("f", file[i].before));
			EXPECT_MODE(file[i].before, "f");
			AS(user ? CRED(UA, GA, GX) : CRED(0, 0)) {
				EXPECT_OK(chown("f", (uid_t)-1, GX));
			}
			EXPECT_MODE(file[i].after, "f");
			EXPECT_OWNER(UA, GX, "f");
			REQUIRE_OK(chown("f", UA, GA));
			REQUIRE_OK(chmod("f", file[i].before));
			AS(user ? CRED(UA, GA, GX) : CRED(0, 0)) {
				int fd = (int)REQUIRE_OK(open("f", O_PATH));

				EXPECT_OK(fchownat(fd, "", UA, GX, AT_EMPTY_PATH));
			}
			EXPECT_MODE(file[i].after, "f");
			unlink("f");
		}
	}
	for (int user = 0; user < 2; user++) {
		h_ctx("%s changes the group of a directory", user ? "owner" : "root");
		REQUIRE_OK(mkdir("d", 0755));
		REQUIRE_OK(chown("d", UA, GA));
		REQUIRE_OK(chmod("d", 07755));
		AS(user ? CRED(UA, GA, GX) : CRED(0, 0)) {
			EXPECT_OK(chown("d", (uid_t)-1, GX));
		}
		EXPECT_MODE(07755, "d");
		EXPECT_OWNER(UA, GX, "d");
		rmdir("d");
	}
	h_ctx(NULL);
}

/* What an ordinary user can do with its own files; true for root as well. */
static void as_self(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid(), list[64];
	int n = getgroups(64, list);

	FOR_TYPES(t, T_ALL) {
		h_ctx("own %s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0644));
		EXPECT_OWNER(uid, gid, "f");
		EXPECT_OK(lchown("f", uid, gid));
		EXPECT_OK(lchown("f", (uid_t)-1, (gid_t)-1));
		EXPECT_OK(lchown("f", uid, (gid_t)-1));
		EXPECT_OK(lchown("f", (uid_t)-1, gid));
		EXPECT_OWNER(uid, gid, "f");
		for (int i = 0; i < n && i < 4; i++) {
			EXPECT_OK(lchown("f", (uid_t)-1, list[i]));
			EXPECT_OWNER(uid, list[i], "f");
		}
		if (uid != 0) {
			EXPECT_ERR(EPERM, lchown("f", 0, (gid_t)-1));
			EXPECT_ERR(EPERM, lchown("f", uid + 1, (gid_t)-1));
			if (!h_in_group(0))
				EXPECT_ERR(EPERM, lchown("f", (uid_t)-1, 0));
		}
		h_remove("f");
	}
	h_ctx(NULL);
}

void area_chown(void)
{
	as_self();
	if (h_root()) {
		as_root();
		by_descriptor();
		who();
		set_id_bits();
	} else {
		h_skip("changes between users need root");
	}
}
