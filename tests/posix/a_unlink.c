/* unlink and unlinkat. */
#include "harness.h"

static void each_type(void)
{
	FOR_TYPES(t, T_NODIR) {
		struct stat dir, st;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(mkdir("d", 0755));
		REQUIRE_OK(h_make(t, "d/f", 0644));
		dir = h_rewind("d");
		EXPECT_OK(unlink("d/f"));
		EXPECT_TIMES("d", &dir, TM_M | TM_C, 0);
		EXPECT_ABSENT("d/f");
		EXPECT_EQ(0, h_count("d"));
		EXPECT_ERR(ENOENT, unlink("d/f"));
		REQUIRE_OK(h_make(t, "d/f", 0000)); /* the file's mode does not matter */
		REQUIRE_OK(link("d/f", "d/g"));
		st = h_rewind("d/g");
		EXPECT_OK(unlink("d/f"));
		EXPECT_NLINK(1, "d/g");
		EXPECT_TIMES("d/g", &st, TM_C, 0);
		EXPECT_EQ(1, h_count("d"));
		EXPECT_OK(unlink("d/g"));
		/* The name is free at once, for any other type. */
		REQUIRE_OK(h_make(t == T_REG ? T_FIFO : T_REG, "d/g", 0600));
		EXPECT_EQ(t == T_REG ? S_IFIFO : S_IFREG, h_lstat("d/g").st_mode & S_IFMT);
		EXPECT_OK(unlink("d/g"));
		EXPECT_OK(mkdir("d/g", 0700));
		EXPECT_OK(rmdir("d/g"));
		EXPECT_OK(rmdir("d"));
	}
	h_ctx(NULL);
}

static void errors(void)
{
	struct stat dir;

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(mkdir("d/e", 0755));
	REQUIRE_OK(h_touch("d/f"));
	REQUIRE_OK(symlink("e", "d/l"));
	dir = h_rewind("d");
	EXPECT_ERR(EISDIR, unlink("d"));
	EXPECT_ERR(EISDIR, unlink("d/e"));
	EXPECT_ERR(EISDIR, unlink("d/."));
	EXPECT_ERR(EISDIR, unlink(".."));
	EXPECT_ERR(EISDIR, unlink("/"));
	EXPECT_ERR(ENOENT, unlink("d/none"));
	EXPECT_ERR(ENOENT, unlink("d/none/x"));
	EXPECT_ERR(ENOENT, unlink(""));
	EXPECT_ERR(ENOTDIR, unlink("d/f/x"));
	EXPECT_ERR(ENOTDIR, unlink("d/f/"));
	EXPECT_ERR2(EISDIR, ENOTDIR, unlink("d/e/"));
	EXPECT_ERR(EINVAL, unlinkat(AT_FDCWD, "d/f", 0x40000000));
	EXPECT_ERR(ENOTDIR, unlinkat(AT_FDCWD, "d/f", AT_REMOVEDIR));
	EXPECT_ERR(EISDIR, unlinkat(AT_FDCWD, "d/e", 0));
	EXPECT_ERR(ENOTDIR, unlinkat(AT_FDCWD, "d/l", AT_REMOVEDIR));
	EXPECT_TIMES("d", &dir, 0, 0);
	/* A symlink goes, what it leads to stays. */
	EXPECT_OK(unlink("d/l"));
	EXPECT_OK(h_exists("d/e"));
	REQUIRE_OK(symlink("f", "d/l"));
	EXPECT_OK(unlink("d/l"));
	EXPECT_OK(h_exists("d/f"));
	EXPECT_NLINK(1, "d/f");
	int fd = (int)REQUIRE_OK(open("d", O_PATH | O_DIRECTORY));

	EXPECT_OK(unlinkat(fd, "f", 0));
	EXPECT_OK(unlinkat(fd, "e", AT_REMOVEDIR));
	EXPECT_ERR(ENOENT, unlinkat(fd, "f", 0));
	EXPECT_ERR(ENOENT, unlinkat(fd, "e", AT_REMOVEDIR));
	EXPECT_ERR(ENOTEMPTY, unlinkat(fd, "..", AT_REMOVEDIR));
	EXPECT_ERR(EBADF, unlinkat(-1, "f", 0));
	close(fd);
	rmdir("d");
}

/* Made and removed many times over: the old file never shines through. */
static void again_and_again(void)
{
	struct stat st = {0};

	for (int i = 0; i < 100; i++) {
		char text[16];
		int n = snprintf(text, sizeof(text), "round %d", i);

		EXPECT_OK(h_put("f", text, (size_t)n));
		EXPECT_CONTENT(text, (size_t)n, "f");
		EXPECT_OK(unlink("f"));
		EXPECT_ERR(ENOENT, stat("f", &st));
	}
}

static void who(void)
{
	static const mode_t mode[] = {0777, 0773, 0775, 0776, 0770, 0771, 0772};

	for (int i = 0; i < 7; i++) {
		bool ok = (mode[i] & 3) == 3;

		h_ctx("in a directory of mode %04o", mode[i]);
		REQUIRE_OK(mkdir("d", 0755));
		FOR_TYPES(t, T_NODIR) {
			REQUIRE_OK(h_make(t, "d/f", 0777));
			if (!ok) /* owning the file does not help */
				REQUIRE_OK(lchown("d/f", UA, GA));
			REQUIRE_OK(chmod("d", mode[i]));
			AS(ALICE) {
				if (ok)
					EXPECT_OK(unlink("d/f"));
				else
					EXPECT_ERR(EACCES, unlink("d/f"));
			}
			EXPECT_EQ(ok ? -1 : 0, h_exists("d/f"));
			if (!ok)
				EXPECT_OK(unlink("d/f"));
		}
		rmdir("d");
	}
	h_ctx("group write");
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(chown("d", 0, GX));
	REQUIRE_OK(chmod("d", 0775));
	REQUIRE_OK(h_touch("d/f"));
	AS(ALICE) {
		EXPECT_ERR(EACCES, unlink("d/f"));
	}
	AS(CRED(UA, GA, GX)) {
		EXPECT_OK(unlink("d/f"));
	}
	rmdir("d");
	h_ctx(NULL);
}

void area_unlink(void)
{
	each_type();
	errors();
	again_and_again();
	if (h_root())
		who();
}
