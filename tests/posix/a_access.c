/* access faccessat, and the permission bits of directories in every class. */
#include "harness.h"

#include <grp.h>

static const char *const cls[] = {"owner", "group", "supplementary group", "other"};

/* The credentials of class c towards a file of Alice's. */
#define IN_CLASS(c)                                                                                \
	((c) == 0   ? CRED(UA, GB)                                                                 \
	 : (c) == 1 ? CRED(UB, GA)                                                                 \
	 : (c) == 2 ? CRED(UB, GB, GX, GA)                                                         \
		    : CRED(UB, GB))

static int shift_of(int c)
{
	return c == 0 ? 6 : c == 3 ? 0 : 3;
}

/* Only this class's bits count: the others get the opposite. */
static mode_t mode_for(int c, mode_t bits)
{
	return (0777u & ~(7u << shift_of(c)) & ((7u & ~bits) * 0111u)) | (bits << shift_of(c));
}

static void access_matrix(void)
{
	FOR_TYPES(t, T_NOLNK) {
		REQUIRE_OK(h_make(t, "f", 0644));
		REQUIRE_OK(chown("f", UA, GA));
		for (int c = 0; c < 4; c++) {
			if (t != T_REG && t != T_DIR && c > 0)
				continue; /* the kernel's decision is the same for all types */
			for (mode_t bits = 0; bits < 8; bits++) {
				REQUIRE_OK(chmod("f", mode_for(c, bits)));
				AS(IN_CLASS(c)) {
					for (int want = 0; want < 8; want++) {
						h_ctx("%s of a %s of mode %04o asks for %o", cls[c],
						      h_type_name(t), mode_for(c, bits), want);
						if (((int)bits & want) == want)
							EXPECT_OK(access("f", want));
						else
							EXPECT_ERR(EACCES, access("f", want));
					}
				}
			}
		}
		h_remove("f");
	}
	h_ctx(NULL);
}

/* Reading, searching and writing a directory, as each class with each combination of bits. */
static void directory_matrix(void)
{
	for (int c = 0; c < 4; c++) {
		for (mode_t bits = 0; bits < 8; bits++) {
			mode_t mode = mode_for(c, bits);
			bool r = bits & 4, w = bits & 2, x = bits & 1;
			struct stat st;

			REQUIRE_OK(mkdir("d", 0755));
			REQUIRE_OK(mkdir("d/sub", 0755));
			REQUIRE_OK(chmod("d/sub", 0777));
			REQUIRE_OK(h_touch("d/f"));
			REQUIRE_OK(chmod("d/f", 0666));
			REQUIRE_OK(chown("d", UA, GA));
			REQUIRE_OK(chmod("d", mode));
			h_ctx("%s of a directory of mode %04o", cls[c], mode);
			AS(IN_CLASS(c)) {
#define WHEN(cond, call) ((cond) ? EXPECT_OK(call) : EXPECT_ERR(EACCES, call))
				WHEN(r, h_opens("d", O_RDONLY, 0));
				if (r)
					EXPECT_EQ(2, h_count("d"));
				WHEN(x, stat("d/f", &st));
				WHEN(x, stat("d/.", &st));
				WHEN(x, h_opens("d/f", O_RDWR, 0));
				WHEN(x, access("d/sub", R_OK | W_OK | X_OK));
				WHEN(x, h_count("d/sub") == 0 ? 0 : -1);
				if (x)
					EXPECT_ERR(ENOENT, stat("d/none", &st));
				else
					EXPECT_ERR(EACCES, stat("d/none", &st));
				WHEN(w && x, h_opens("d/new", O_WRONLY | O_CREAT, 0600));
				WHEN(w && x, mkdir("d/newdir", 0700));
				WHEN(w && x, symlink("x", "d/newlink"));
				WHEN(w && x, mkfifo("d/newfifo", 0600));
				WHEN(w && x, rename("d/f", "d/g"));
				WHEN(w && x, unlink(w && x ? "d/g" : "d/f"));
				WHEN(w && x, rmdir("d/sub"));
				WHEN(x, chdir("d"));
			}
			h_rmtree(AT_FDCWD, "d");
		}
	}
	h_ctx(NULL);
}

static void as_root(void)
{
	struct stat st;

	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(mkdir("d", 0));
	REQUIRE_OK(h_touch("d/f"));
	for (mode_t m = 0; m < 0777; m += 0111) {
		h_ctx("root, mode %04o", m);
		REQUIRE_OK(chmod("f", m));
		EXPECT_OK(access("f", R_OK | W_OK));
		if (m & 0111)
			EXPECT_OK(access("f", X_OK));
		else
			EXPECT_ERR(EACCES, access("f", X_OK));
	}
	h_ctx("root");
	REQUIRE_OK(chmod("f", 0001));
	EXPECT_OK(access("f", X_OK));
	EXPECT_OK(access("d", R_OK | W_OK | X_OK));
	EXPECT_OK(stat("d/f", &st));
	EXPECT_EQ(1, h_count("d"));
	EXPECT_OK(unlink("d/f"));
	/* access asks for the real user, AT_EACCESS for the effective one. */
	h_ctx("real and effective user differ");
	REQUIRE_OK(chmod("f", 0600));
	AS(NULL) {
		REQUIRE_OK(setgroups(0, NULL));
		REQUIRE_OK(setresgid(GA, 0, 0));
		REQUIRE_OK(setresuid(UA, 0, 0));
		EXPECT_ERR(EACCES, access("f", R_OK));
		EXPECT_OK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
		EXPECT_OK(h_opens("f", O_RDONLY, 0));
	}
	REQUIRE_OK(chown("f", UA, GA));
	AS(NULL) {
		REQUIRE_OK(setgroups(0, NULL));
		REQUIRE_OK(setresgid(GA, GB, GB));
		REQUIRE_OK(setresuid(UA, UB, UB));
		EXPECT_OK(access("f", R_OK | W_OK));
		EXPECT_ERR(EACCES, faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
		EXPECT_ERR(EACCES, open("f", O_RDONLY));
	}
	unlink("f");
	rmdir("d");
	h_ctx(NULL);
}

/* Rights withdrawn and given back hold from the next call on, also for what has been looked up
 * before. */
static void changes_hold_at_once(void)
{
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(mkdir("d/e", 0755));
	REQUIRE_OK(h_put("d/e/f", "x", 1));
	for (int i = 0; i < 8; i++) {
		struct stat st;

		h_ctx("round %d", i);
		AS(ALICE) {
			EXPECT_OK(stat("d/e/f", &st));
			EXPECT_OK(h_opens("d/e/f", O_RDONLY, 0));
		}
		REQUIRE_OK(chmod("d", 0750));
		AS(ALICE) {
			EXPECT_ERR(EACCES, stat("d/e/f", &st));
			EXPECT_ERR(EACCES, open("d/e/f", O_RDONLY));
		}
		AS(CRED(UA, GA, 0)) {
			EXPECT_OK(stat("d/e/f", &st));
		}
		REQUIRE_OK(chown("d", UA, 0));
		AS(ALICE) {
			EXPECT_OK(stat("d/e/f", &st));
			EXPECT_OK(mkdir("d/mine", 0755));
			EXPECT_OK(rmdir("d/mine"));
		}
		REQUIRE_OK(chown("d", 0, 0));
		REQUIRE_OK(chmod("d", 0755));
	}
	h_ctx(NULL);
	h_rmtree(AT_FDCWD, "d");
}

static void as_self(void)
{
	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(symlink("f", "l"));
	REQUIRE_OK(symlink("none", "dangling"));
	EXPECT_OK(access("f", F_OK));
	EXPECT_OK(access(".", F_OK | R_OK | X_OK));
	EXPECT_OK(access("l", R_OK));
	EXPECT_ERR(ENOENT, access("none", F_OK));
	EXPECT_ERR(ENOENT, access("dangling", F_OK));
	EXPECT_OK(faccessat(AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW));
	EXPECT_ERR(EINVAL, access("f", 8));
	EXPECT_ERR(EINVAL, access("f", -1));
	EXPECT_ERR(ENOTDIR, access("f/", F_OK));
	EXPECT_ERR(ENOTDIR, access("f/x", F_OK));
	EXPECT_ERR(ENOENT, access("", F_OK));
	if (!h_root()) {
		for (mode_t bits = 0; bits < 8; bits++) {
			REQUIRE_OK(chmod("f", (mode_t)(bits << 6) | 077));
			for (int want = 0; want < 8; want++) {
				h_ctx("owner with bits %o asks for %o", bits, want);
				if (((int)bits & want) == want)
					EXPECT_OK(access("f", want));
				else
					EXPECT_ERR(EACCES, access("f", want));
				if (((int)bits & want) == want)
					EXPECT_OK(faccessat(AT_FDCWD, "l", want, AT_EACCESS));
				else
					EXPECT_ERR(EACCES,
						   faccessat(AT_FDCWD, "l", want, AT_EACCESS));
			}
		}
		h_ctx(NULL);
	}
	unlink("f");
	unlink("l");
	unlink("dangling");
}

void area_access(void)
{
	as_self();
	if (!h_root()) {
		h_skip("the classes of other users need root");
		return;
	}
	access_matrix();
	directory_matrix();
	as_root();
	changes_hold_at_once();
}
