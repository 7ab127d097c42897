/* utimensat futimens utimes utime: values, UTIME_NOW and UTIME_OMIT, who may. */
#include "harness.h"

#include <sys/time.h>
#include <utime.h>

#define TS(s, n)   ((struct timespec){.tv_sec = (s), .tv_nsec = (n)})
#define PAIR(a, m) ((const struct timespec[2]){a, m})

static const struct timespec now = {.tv_nsec = UTIME_NOW}, omit = {.tv_nsec = UTIME_OMIT};

static bool same(struct timespec a, struct timespec b)
{
	return h_tscmp(a, b) == 0;
}

static void values(void)
{
	static const struct timespec value[] = {{0, 0},
						{0, 1},
						{1, 999999999},
						{1234567890, 123456789},
						{2147483647, 999999999},
						{1700000000, 1000},
						{1700000001, 1000000}};
	enum { N = sizeof(value) / sizeof(value[0]) };

	FOR_TYPES(t, T_ALL) {
		struct stat before, st;

		REQUIRE_OK(h_make(t, "f", 0644));
		for (int i = 0; i < N; i++) {
			struct timespec a = value[i], m = value[N - 1 - i];

			h_ctx("%s: %lld.%09ld", h_type_name(t), (long long)a.tv_sec, a.tv_nsec);
			before = h_lstat("f");
			h_tick(before.st_ctim);
			EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(a, m), AT_SYMLINK_NOFOLLOW));
			st = h_lstat("f");
			EXPECT_TRUE(same(st.st_atim, a), "atime is as set, to the nanosecond");
			EXPECT_TRUE(same(st.st_mtim, m), "mtime is as set, to the nanosecond");
			EXPECT_TRUE(h_tscmp(st.st_ctim, before.st_ctim) > 0, "ctime moves");
		}
		h_remove("f");
	}
	h_ctx(NULL);
}

static void now_and_omit(void)
{
	FOR_TYPES(t, T_BIT(T_REG) | T_BIT(T_DIR) | T_BIT(T_FIFO) | T_BIT(T_LNK)) {
		struct stat before;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0644));
		before = h_rewind("f");
		EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(omit, omit), AT_SYMLINK_NOFOLLOW));
		EXPECT_TIMES("f", &before, 0, 0);
		EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(now, omit), AT_SYMLINK_NOFOLLOW));
		EXPECT_TIMES("f", &before, TM_A | TM_C, 0);
		before = h_rewind("f");
		EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(omit, now), AT_SYMLINK_NOFOLLOW));
		EXPECT_TIMES("f", &before, TM_M | TM_C, 0);
		before = h_rewind("f");
		EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(now, now), AT_SYMLINK_NOFOLLOW));
		EXPECT_TIMES("f", &before, TM_A | TM_M | TM_C, 0);
		EXPECT_TRUE(same(h_lstat("f").st_atim, h_lstat("f").st_mtim),
			    "both are the same moment");
		before = h_rewind("f");
		EXPECT_OK(utimensat(AT_FDCWD, "f", NULL, AT_SYMLINK_NOFOLLOW));
		EXPECT_TIMES("f", &before, TM_A | TM_M | TM_C, 0);
		before = h_rewind("f");
		EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(TS(5, 6), omit), AT_SYMLINK_NOFOLLOW));
		EXPECT_TIMES("f", &before, TM_C, TM_A);
		EXPECT_TRUE(same(h_lstat("f").st_atim, TS(5, 6)), "atime is as set");
		before = h_rewind("f");
		EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(omit, TS(7, 8)), AT_SYMLINK_NOFOLLOW));
		EXPECT_TIMES("f", &before, TM_C, TM_M);
		EXPECT_TRUE(same(h_lstat("f").st_mtim, TS(7, 8)), "mtime is as set");
		EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(TS(9, 10), now), AT_SYMLINK_NOFOLLOW));
		EXPECT_TRUE(same(h_lstat("f").st_atim, TS(9, 10)), "atime is as set");
		EXPECT_TRUE(h_lstat("f").st_mtim.tv_sec > 1000000, "mtime is now");
		/* Seconds do not count beside the special values. */
		before = h_rewind("f");
		EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(TS(77, UTIME_OMIT), TS(88, UTIME_NOW)),
				    AT_SYMLINK_NOFOLLOW));
		EXPECT_TIMES("f", &before, TM_M | TM_C, 0);
		h_remove("f");
	}
	h_ctx(NULL);
}

static void ways(void)
{
	struct timeval tv[2] = {{100, 200}, {300, 400}};
	struct utimbuf ub = {.actime = 500, .modtime = 600};
	struct stat st, before;
	int fd, d;

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(h_touch("d/f"));
	REQUIRE_OK(symlink("f", "d/l"));
	d = (int)REQUIRE_OK(open("d", O_PATH | O_DIRECTORY));
	fd = (int)REQUIRE_OK(open("d/f", O_RDONLY));
	EXPECT_OK(futimens(fd, PAIR(TS(1, 2), TS(3, 4))));
	st = h_lstat("d/f");
	EXPECT_TRUE(same(st.st_atim, TS(1, 2)) && same(st.st_mtim, TS(3, 4)), "futimens");
	EXPECT_OK(utimensat(d, "f", PAIR(TS(5, 6), TS(7, 8)), 0));
	st = h_lstat("d/f");
	EXPECT_TRUE(same(st.st_atim, TS(5, 6)) && same(st.st_mtim, TS(7, 8)),
		    "utimensat below a descriptor");
	EXPECT_OK(utimes("d/f", tv));
	st = h_lstat("d/f");
	EXPECT_TRUE(same(st.st_atim, TS(100, 200000)) && same(st.st_mtim, TS(300, 400000)),
		    "utimes");
	EXPECT_OK(utime("d/f", &ub));
	st = h_lstat("d/f");
	EXPECT_TRUE(same(st.st_atim, TS(500, 0)) && same(st.st_mtim, TS(600, 0)), "utime");
	before = h_rewind("d/f");
	EXPECT_OK(utimes("d/f", NULL));
	EXPECT_TIMES("d/f", &before, TM_A | TM_M | TM_C, 0);
	before = h_rewind("d/f");
	EXPECT_OK(utime("d/f", NULL));
	EXPECT_TIMES("d/f", &before, TM_A | TM_M | TM_C, 0);
	before = h_rewind("d/f");
	EXPECT_OK(futimens(fd, NULL));
	EXPECT_TIMES("d/f", &before, TM_A | TM_M | TM_C, 0);
	/* A symlink: through it, or itself. */
	before = h_lstat("d/l");
	EXPECT_OK(utimensat(d, "l", PAIR(TS(11, 12), TS(13, 14)), 0));
	st = h_lstat("d/f");
	EXPECT_TRUE(same(st.st_atim, TS(11, 12)) && same(st.st_mtim, TS(13, 14)),
		    "set through a symlink");
	EXPECT_TIMES("d/l", &before, 0, TM_A);
	EXPECT_OK(utimensat(d, "l", PAIR(TS(21, 22), TS(23, 24)), AT_SYMLINK_NOFOLLOW));
	st = h_lstat("d/l");
	EXPECT_TRUE(same(st.st_atim, TS(21, 22)) && same(st.st_mtim, TS(23, 24)),
		    "a symlink's own times");
	EXPECT_TRUE(same(h_lstat("d/f").st_mtim, TS(13, 14)), "its target keeps its own");
	/* What is written later moves what was set. */
	EXPECT_OK(h_put("d/f", "x", 1));
	EXPECT_TRUE(h_lstat("d/f").st_mtim.tv_sec > 1000000, "a write moves mtime on");
	EXPECT_OK(unlink("d/f"));
	EXPECT_OK(futimens(fd, PAIR(TS(31, 32), TS(33, 34))));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_TRUE(same(st.st_atim, TS(31, 32)) && same(st.st_mtim, TS(33, 34)),
		    "times of a file without name");
	close(fd);
	close(d);
	h_rmtree(AT_FDCWD, "d");
}

static void errors(void)
{
	static const long bad[] = {-1, 1000000000, LONG_MAX, UTIME_NOW + 1, UTIME_OMIT - 1};
	struct stat before;

	REQUIRE_OK(h_touch("f"));
	before = h_rewind("f");
	for (int i = 0; i < 5; i++) {
		h_ctx("nanoseconds %ld", bad[i]);
		EXPECT_ERR(EINVAL, utimensat(AT_FDCWD, "f", PAIR(TS(1, bad[i]), TS(1, 1)), 0));
		EXPECT_ERR(EINVAL, utimensat(AT_FDCWD, "f", PAIR(TS(1, 1), TS(1, bad[i])), 0));
	}
	h_ctx(NULL);
	EXPECT_ERR(EINVAL, utimensat(AT_FDCWD, "f", NULL, 0x40000000));
	EXPECT_TIMES("f", &before, 0, 0);
	EXPECT_ERR(ENOENT, utimensat(AT_FDCWD, "none", NULL, 0));
	EXPECT_ERR(ENOENT, utimensat(AT_FDCWD, "", NULL, 0));
	EXPECT_ERR(ENOTDIR, utimensat(AT_FDCWD, "f/x", NULL, 0));
	EXPECT_ERR(EBADF, utimensat(-1, "f", NULL, 0));
	EXPECT_ERR(EBADF, futimens(-1, NULL));
	REQUIRE_OK(symlink("none", "l"));
	EXPECT_ERR(ENOENT, utimensat(AT_FDCWD, "l", NULL, 0));
	unlink("l");
	unlink("f");
}

static void who(void)
{
	FOR_TYPES(t, T_BIT(T_REG) | T_BIT(T_DIR) | T_BIT(T_FIFO)) {
		struct stat before;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0644));
		REQUIRE_OK(chown("f", UA, GA));
		before = h_rewind("f");
		AS(BOB) { /* neither owner nor writer */
			EXPECT_ERR(EACCES, utimensat(AT_FDCWD, "f", NULL, 0));
			EXPECT_ERR(EACCES, utimensat(AT_FDCWD, "f", PAIR(now, now), 0));
			EXPECT_ERR(EPERM, utimensat(AT_FDCWD, "f", PAIR(TS(1, 1), TS(2, 2)), 0));
			EXPECT_ERR(EPERM, utimensat(AT_FDCWD, "f", PAIR(now, omit), 0));
			EXPECT_ERR(EPERM, utimensat(AT_FDCWD, "f", PAIR(omit, now), 0));
			EXPECT_ERR(EPERM, utimensat(AT_FDCWD, "f", PAIR(TS(1, 1), omit), 0));
			EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(omit, omit), 0));
		}
		EXPECT_TIMES("f", &before, 0, 0);
		REQUIRE_OK(chmod("f", 0646));
		before = h_rewind("f");
		AS(BOB) { /* a writer may say "now", nothing else */
			EXPECT_ERR(EPERM, utimensat(AT_FDCWD, "f", PAIR(TS(1, 1), TS(2, 2)), 0));
			EXPECT_ERR(EPERM, utimensat(AT_FDCWD, "f", PAIR(now, omit), 0));
			EXPECT_ERR(EPERM, utimensat(AT_FDCWD, "f", PAIR(omit, now), 0));
			EXPECT_ERR(EPERM, utimensat(AT_FDCWD, "f", PAIR(now, TS(1, 1)), 0));
		}
		EXPECT_TIMES("f", &before, 0, 0);
		AS(BOB) {
			EXPECT_OK(utimensat(AT_FDCWD, "f", NULL, 0));
		}
		EXPECT_TIMES("f", &before, TM_A | TM_M | TM_C, 0);
		before = h_rewind("f");
		AS(BOB) {
			EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(now, now), 0));
		}
		EXPECT_TIMES("f", &before, TM_A | TM_M | TM_C, 0);
		REQUIRE_OK(chmod("f", 0));
		before = h_rewind("f");
		AS(ALICE) { /* the owner may all, whatever the mode */
			EXPECT_OK(utimensat(AT_FDCWD, "f", NULL, 0));
			EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(TS(1, 1), TS(2, 2)), 0));
			EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(now, omit), 0));
			EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(omit, TS(3, 3)), 0));
		}
		EXPECT_TRUE(same(h_lstat("f").st_mtim, TS(3, 3)), "mtime is as the owner set it");
		EXPECT_OK(utimensat(AT_FDCWD, "f", PAIR(TS(4, 4), TS(5, 5)), 0)); /* root */
		EXPECT_TRUE(same(h_lstat("f").st_mtim, TS(5, 5)), "mtime is as root set it");
		h_remove("f");
	}
	h_ctx("descriptor");
	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(chown("f", UA, GA));
	REQUIRE_OK(chmod("f", 0666));
	AS(BOB) {
		int fd = (int)REQUIRE_OK(open("f", O_RDWR));

		EXPECT_OK(futimens(fd, NULL));
		EXPECT_ERR(EPERM, futimens(fd, PAIR(TS(1, 1), TS(2, 2))));
	}
	unlink("f");
	h_ctx(NULL);
}

void area_utimensat(void)
{
	values();
	now_and_omit();
	ways();
	errors();
	if (h_root())
		who();
}
