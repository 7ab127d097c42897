/* chmod fchmod fchmodat: what is set, through what, by whom. */
#include "harness.h"

static const mode_t modes[] = {0000, 0111, 0222, 0444,	0755,  0644,  0600, 0070,
			       0007, 0777, 0135, 01777, 04711, 02755, 06775};
enum { MODES = sizeof(modes) / sizeof(modes[0]) };

static void by_path(void)
{
	FOR_TYPES(t, T_NOLNK) {
		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0600));
		REQUIRE_OK(symlink("f", "l"));
		for (int i = 0; i < MODES; i++) {
			EXPECT_OK(chmod("f", modes[i]));
			EXPECT_MODE(modes[i], "f");
			EXPECT_OK(chmod("l", modes[MODES - 1 - i]));
			EXPECT_MODE(modes[MODES - 1 - i], "f");
			EXPECT_MODE(0777, "l");
			EXPECT_OK(fchmodat(AT_FDCWD, "f", modes[i], 0));
			EXPECT_MODE(modes[i], "f");
		}
		EXPECT_EQ(h_type_mode(t), h_lstat("f").st_mode & S_IFMT);
		unlink("l");
		h_remove("f");
	}
	h_ctx(NULL);
}

static void every_mode(void)
{
	REQUIRE_OK(h_touch("f"));
	for (mode_t m = 0; m <= 07777; m += 13) {
		h_ctx("mode %04o", m);
		EXPECT_OK(chmod("f", m));
		EXPECT_MODE(m, "f");
	}
	h_ctx(NULL);
	/* The type bits of the argument do not count. */
	EXPECT_OK(chmod("f", S_IFDIR | 0640));
	EXPECT_MODE(0640, "f");
	EXPECT_EQ(S_IFREG, h_lstat("f").st_mode & S_IFMT);
	unlink("f");
}

static void by_descriptor(void)
{
	int fd, dfd, path;

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(h_touch("d/f"));
	fd = (int)REQUIRE_OK(open("d/f", O_RDONLY));
	dfd = (int)REQUIRE_OK(open("d", O_RDONLY | O_DIRECTORY));
	path = (int)REQUIRE_OK(open("d/f", O_PATH));
	for (int i = 0; i < MODES; i++) {
		h_ctx("mode %04o", modes[i]);
		EXPECT_OK(fchmod(fd, modes[i]));
		EXPECT_MODE(modes[i], "d/f");
		EXPECT_OK(fchmodat(dfd, "f", 0400, 0));
		EXPECT_MODE(0400, "d/f");
		if (modes[i] & 0100) { /* or an ordinary user is locked out */
			EXPECT_OK(fchmod(dfd, modes[i] | 0700));
			EXPECT_MODE(modes[i] | 0700, "d");
		}
	}
	h_ctx(NULL);
	EXPECT_ERR(EBADF, fchmod(path, 0644));
	EXPECT_ERR(EINVAL, fchmodat(dfd, "f", 0644, 0x40000000));
	EXPECT_OK(symlink("f", "d/l"));
	EXPECT_ERR(EOPNOTSUPP, fchmodat(dfd, "l", 0600, AT_SYMLINK_NOFOLLOW));
	EXPECT_MODE(0777, "d/l");
	EXPECT_MODE(0400, "d/f");
	EXPECT_OK(unlink("d/l"));
	/* A mode taken away does not end what is open. */
	EXPECT_OK(close(fd));
	EXPECT_OK(chmod("d/f", 0600));
	fd = (int)REQUIRE_OK(open("d/f", O_RDWR));
	EXPECT_OK(fchmod(fd, 0));
	EXPECT_EQ(3, write(fd, "abc", 3));
	EXPECT_EQ(3, lseek(fd, 0, SEEK_CUR));
	EXPECT_OK(ftruncate(fd, 1));
	EXPECT_SIZE(1, "d/f");
	/* Nor does a name taken away end the mode. */
	EXPECT_OK(unlink("d/f"));
	EXPECT_OK(fchmod(fd, 0641));
	struct stat st = {0};

	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(0641, st.st_mode & 07777);
	close(fd);
	close(dfd);
	close(path);
	EXPECT_OK(rmdir("d"));
}

static void what_else_changes(void)
{
	FOR_TYPES(t, T_NOLNK) {
		struct stat before, after;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0600));
		before = h_rewind("f");
		EXPECT_OK(chmod("f", 0640));
		EXPECT_TIMES("f", &before, TM_C, 0);
		after = h_lstat("f");
		EXPECT_EQ(before.st_ino, after.st_ino);
		EXPECT_EQ(before.st_size, after.st_size);
		EXPECT_EQ(before.st_nlink, after.st_nlink);
		EXPECT_EQ(before.st_uid, after.st_uid);
		EXPECT_EQ(before.st_gid, after.st_gid);
		h_tick(after.st_ctim);
		EXPECT_OK(chmod("f", 0640)); /* the same again */
		EXPECT_TIMES("f", &after, TM_C, 0);
		EXPECT_MODE(0640, "f");
		h_remove("f");
	}
	h_ctx(NULL);
	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(link("f", "g"));
	EXPECT_OK(chmod("f", 0421));
	EXPECT_MODE(0421, "g");
	unlink("f");
	unlink("g");
}

static void who(void)
{
	FOR_TYPES(t, T_NOLNK) {
		struct stat before;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0644));
		REQUIRE_OK(chown("f", UA, GA));
		before = h_rewind("f");
		AS(BOB) {
			EXPECT_ERR(EPERM, chmod("f", 0642));
			EXPECT_ERR(EPERM, chmod("f", 0644));
		}
		AS(CRED(UB, GA)) { /* the group does not help */
			EXPECT_ERR(EPERM, chmod("f", 0642));
		}
		EXPECT_MODE(0644, "f");
		EXPECT_TIMES("f", &before, 0, 0);
		AS(ALICE) {
			EXPECT_OK(chmod("f", 0600));
			EXPECT_MODE(0600, "f");
			EXPECT_OK(chmod("f", 0));
			EXPECT_OK(chmod("f", 0644));
		}
		REQUIRE_OK(chown("f", UB, GB));
		AS(ALICE) {
			EXPECT_ERR(EPERM, chmod("f", 0600));
		}
		AS(BOB) {
			EXPECT_OK(chmod("f", 01755));
			EXPECT_MODE(01755, "f");
			EXPECT_OK(chmod("f", 04755));
			EXPECT_MODE(04755, "f");
		}
		h_remove("f");
	}
	h_ctx("descriptor");
	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(chown("f", UA, GA));
	REQUIRE_OK(chmod("f", 0666));
	AS(BOB) {
		int fd = (int)REQUIRE_OK(open("f", O_RDWR));

		EXPECT_ERR(EPERM, fchmod(fd, 0777));
		EXPECT_ERR(EPERM, fchmodat(AT_FDCWD, "f", 0777, 0));
	}
	EXPECT_MODE(0666, "f");
	unlink("f");
	h_ctx(NULL);
}

/* Outside the file's group its owner cannot keep the set-group-id bit; root can. */
static void setgid_bit(void)
{
	FOR_TYPES(t, T_BIT(T_REG) | T_BIT(T_DIR) | T_BIT(T_FIFO)) {
		h_ctx("set-group-id of a %s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0755));
		REQUIRE_OK(chown("f", UA, GB));
		AS(ALICE) {
			EXPECT_OK(chmod("f", 02755));
			EXPECT_MODE(0755, "f");
			EXPECT_OK(chmod("f", 06777));
			EXPECT_MODE(04777, "f");
		}
		AS(CRED(UA, GA, GX, GB)) {
			EXPECT_OK(chmod("f", 02755));
			EXPECT_MODE(02755, "f");
		}
		AS(CRED(UA, GB)) {
			EXPECT_OK(chmod("f", 06750));
			EXPECT_MODE(06750, "f");
		}
		EXPECT_OK(chmod("f", 02711));
		EXPECT_MODE(02711, "f");
		AS(ALICE) {
			EXPECT_OK(chmod("f", 02711));
			EXPECT_MODE(0711, "f");
		}
		h_remove("f");
	}
	h_ctx(NULL);
}

void area_chmod(void)
{
	by_path();
	every_mode();
	by_descriptor();
	what_else_changes();
	if (h_root()) {
		who();
		setgid_bit();
	}
}
