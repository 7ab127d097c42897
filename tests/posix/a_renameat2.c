/* renameat2: RENAME_NOREPLACE and RENAME_EXCHANGE. */
#include "harness.h"

static long swap(const char *a, const char *b)
{
	return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

static long keep(const char *a, const char *b)
{
	return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_NOREPLACE);
}

static void noreplace(void)
{
	FOR_TYPES(from, T_ALL) {
		struct stat a, dir;

		h_ctx("NOREPLACE of a %s", h_type_name(from));
		REQUIRE_OK(mkdir("d", 0755));
		REQUIRE_OK(h_make(from, "d/a", 0644));
		a = h_lstat("d/a");
		dir = h_rewind("d");
		EXPECT_OK(keep("d/a", "d/b"));
		EXPECT_ABSENT("d/a");
		EXPECT_EQ(a.st_ino, h_lstat("d/b").st_ino);
		EXPECT_TIMES("d", &dir, TM_M | TM_C, 0);
		FOR_TYPES(to, T_ALL) {
			h_ctx("NOREPLACE of a %s over a %s", h_type_name(from), h_type_name(to));
			REQUIRE_OK(h_make(to, "d/c", 0644));
			dir = h_rewind("d");
			EXPECT_ERR(EEXIST, keep("d/b", "d/c"));
			EXPECT_EQ(a.st_ino, h_lstat("d/b").st_ino);
			EXPECT_EQ(h_type_mode(to), h_lstat("d/c").st_mode & S_IFMT);
			EXPECT_TIMES("d", &dir, 0, 0);
			h_remove("d/c");
		}
		EXPECT_ERR(EEXIST, keep("d/b", "d/b"));
		h_rmtree(AT_FDCWD, "d");
	}
	h_ctx(NULL);
}

static void exchange(void)
{
	FOR_TYPES(ta, T_ALL) {
		FOR_TYPES(tb, T_ALL) {
			struct stat a, b, da, db;

			h_ctx("EXCHANGE of a %s and a %s", h_type_name(ta), h_type_name(tb));
			REQUIRE_OK(mkdir("d", 0755));
			REQUIRE_OK(mkdir("e", 0755));
			REQUIRE_OK(h_make(ta, "d/a", 0644));
			REQUIRE_OK(h_make(tb, "e/b", 0600));
			a = h_lstat("d/a");
			b = h_lstat("e/b");
			da = h_rewind("d");
			db = h_rewind("e");
			EXPECT_OK(swap("d/a", "e/b"));
			EXPECT_EQ(b.st_ino, h_lstat("d/a").st_ino);
			EXPECT_EQ(b.st_mode, h_lstat("d/a").st_mode);
			EXPECT_EQ(a.st_ino, h_lstat("e/b").st_ino);
			EXPECT_EQ(a.st_mode, h_lstat("e/b").st_mode);
			EXPECT_TIMES("d", &da, TM_M | TM_C, 0);
			EXPECT_TIMES("e", &db, TM_M | TM_C, 0);
			if (da.st_nlink == 2 + (ta == T_DIR)) {
				EXPECT_NLINK(2 + (tb == T_DIR), "d");
				EXPECT_NLINK(2 + (ta == T_DIR), "e");
			}
			EXPECT_OK(rename("e/b", "d/b"));
			EXPECT_OK(swap("d/a", "d/b"));
			EXPECT_EQ(a.st_ino, h_lstat("d/a").st_ino);
			EXPECT_EQ(b.st_ino, h_lstat("d/b").st_ino);
			h_rmtree(AT_FDCWD, "d");
			h_rmtree(AT_FDCWD, "e");
		}
	}
	h_ctx(NULL);
}

static void exchange_more(void)
{
	char buf[8] = "";
	struct stat st;
	int fd, dfd;

	REQUIRE_OK(h_put("a", "aaa", 3));
	REQUIRE_OK(h_put("b", "bb", 2));
	fd = (int)REQUIRE_OK(open("a", O_RDWR));
	EXPECT_OK(swap("a", "b"));
	EXPECT_CONTENT("bb", 2, "a");
	EXPECT_CONTENT("aaa", 3, "b");
	EXPECT_EQ(3, pread(fd, buf, 8, 0));
	EXPECT_EQ(1, pwrite(fd, "X", 1, 0));
	EXPECT_CONTENT("Xaa", 3, "b");
	close(fd);
	EXPECT_OK(swap("a", "a"));
	EXPECT_CONTENT("bb", 2, "a");
	REQUIRE_OK(link("a", "c"));
	EXPECT_OK(swap("a", "c"));
	EXPECT_NLINK(2, "a");
	EXPECT_NLINK(2, "c");
	/* A full directory may change places too, with all that is below it. */
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(mkdir("d/sub", 0755));
	REQUIRE_OK(h_put("d/sub/f", "deep", 4));
	dfd = (int)REQUIRE_OK(open("d/sub", O_RDONLY | O_DIRECTORY));
	EXPECT_OK(swap("a", "d/sub"));
	EXPECT_CONTENT("deep", 4, "a/f");
	EXPECT_CONTENT("bb", 2, "d/sub");
	st = h_lstat("a/..");
	EXPECT_EQ(h_lstat(".").st_ino, st.st_ino);
	EXPECT_OK(close(openat(dfd, "f", O_RDONLY)));
	close(dfd);
	EXPECT_OK(swap("a", "d"));
	EXPECT_CONTENT("deep", 4, "d/f");
	EXPECT_CONTENT("bb", 2, "a/sub");
	h_rmtree(AT_FDCWD, "a");
	h_rmtree(AT_FDCWD, "d");
	unlink("b");
	unlink("c");
}

static void errors(void)
{
	REQUIRE_OK(h_put("f", "x", 1));
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(mkdir("d/e", 0755));
	EXPECT_ERR(ENOENT, swap("f", "none"));
	EXPECT_ERR(ENOENT, swap("none", "f"));
	EXPECT_ERR(ENOENT, swap("none", "none2"));
	EXPECT_ERR(ENOENT, keep("none", "f"));
	EXPECT_ERR(ENOENT, keep("none", "x"));
	EXPECT_ERR(ENOENT, keep("f", "none/x"));
	EXPECT_ERR(ENOTDIR, keep("f", "f/x"));
	EXPECT_ERR(EINVAL, swap("d", "d/e"));
	EXPECT_ERR(EINVAL, swap("d/e", "d"));
	EXPECT_ERR(EINVAL, keep("d", "d/x"));
	EXPECT_ERR(EEXIST, keep("d", "d/e"));
	EXPECT_ERR(EBUSY, swap("d/.", "f"));
	EXPECT_ERR2(EBUSY, EEXIST, keep("f", "d/."));
	EXPECT_ERR(EINVAL,
		   renameat2(AT_FDCWD, "f", AT_FDCWD, "d", RENAME_NOREPLACE | RENAME_EXCHANGE));
	EXPECT_ERR(EINVAL, renameat2(AT_FDCWD, "f", AT_FDCWD, "d", 1u << 30));
	EXPECT_ERR(EINVAL,
		   renameat2(AT_FDCWD, "f", AT_FDCWD, "x", RENAME_EXCHANGE | RENAME_WHITEOUT));
	EXPECT_ABSENT("x");
	EXPECT_OK(renameat2(AT_FDCWD, "f", AT_FDCWD, "x", 0));
	EXPECT_OK(h_exists("x"));
	unlink("x");
	h_rmtree(AT_FDCWD, "d");
}

/* Of several that move to one name without replacing, just one succeeds. */
static void race(void)
{
	for (int round = 0; round < 20; round++) {
		int p[2];
		char c, name[16];
		long won = 0;

		REQUIRE_OK(pipe(p));
		for (int i = 0; i < 3; i++) {
			snprintf(name, sizeof(name), "s%d", i);
			REQUIRE_OK(h_touch(name));
		}
		for (int i = 0; i < 3; i++) {
			if (fork() == 0) {
				snprintf(name, sizeof(name), "s%d", i);
				c = keep(name, "t") == 0 ? 'w' : errno == EEXIST ? 'e' : '?';
				_exit(write(p[1], &c, 1) != 1);
			}
		}
		for (int i = 0; i < 3; i++) {
			EXPECT_EQ(1, read(p[0], &c, 1));
			EXPECT_TRUE(c != '?', "EEXIST for the losers");
			won += c == 'w';
		}
		EXPECT_EQ(1, won);
		close(p[0]);
		close(p[1]);
		unlink("t");
		for (int i = 0; i < 3; i++) {
			snprintf(name, sizeof(name), "s%d", i);
			unlink(name);
		}
	}
}

void area_renameat2(void)
{
	REQUIRE_OK(h_touch("f"));
	if (keep("f", "g") && (errno == EINVAL || errno == ENOSYS)) {
		h_skip("renameat2 flags: %s", strerrorname_np(errno));
		return;
	}
	unlink("g");
	noreplace();
	exchange();
	exchange_more();
	errors();
	race();
}
