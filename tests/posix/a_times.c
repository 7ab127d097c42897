/*
 * Which operation moves which of the times of the file and of the directories concerned: one
 * table, each line a call and what it must move; all else must stay to the nanosecond.
 */
#include "harness.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/uio.h>

#define ACM (TM_A | TM_M | TM_C)
#define CM  (TM_C | TM_M)

static int fd, dirfd_;
static char buf[64];

static long do_read(void)
{
	return pread(fd, buf, 4, 0);
}

static long do_write(void)
{
	return pwrite(fd, "new", 3, 0);
}

static long do_append(void)
{
	int a = open("d/f", O_WRONLY | O_APPEND);
	long r = write(a, "x", 1);

	return close(a) ? -1 : r;
}

static long do_writev(void)
{
	struct iovec v = {buf, 5};

	return writev(fd, &v, 1);
}

static long do_mkdir_rmdir(void)
{
	return mkdir("d/x", 0755) || rmdir("d/x") ? -1 : 0;
}

static long do_create(void)
{
	return h_touch("d/x");
}

static long do_rename_over(void)
{
	return h_touch("x") || rename("x", "d/f") ? -1 : 0;
}

static long do_opendir(void)
{
	return h_count("d") >= 0 ? 0 : -1;
}

static long do_truncating_open(void)
{
	return h_opens("d/f", O_WRONLY | O_TRUNC, 0);
}

static long do_exchange(void)
{
	return renameat2(AT_FDCWD, "d/f", AT_FDCWD, "e/g", RENAME_EXCHANGE);
}

/* "d/f" is the file, "d" its directory, "e" another one with a file "e/g". */
static const struct {
	const char *name;
	long (*fn)(void);
	unsigned file, dir, other;
	unsigned any_file, any_dir; /* not looked at */
} op[] = {
#define OP(text, call, ...)                                                                        \
	{                                                                                          \
		.name = text, .fn = call, __VA_ARGS__                                              \
	}
    OP("read", do_read, .any_file = TM_A),
    OP("write", do_write, .file = CM),
    OP("append", do_append, .file = CM),
    OP("writev", do_writev, .file = CM),
    OP("open and close with O_TRUNC", do_truncating_open, .file = CM),
    OP("create beside it", do_create, .dir = CM),
    OP("mkdir and rmdir beside it", do_mkdir_rmdir, .dir = CM),
    OP("exchange", do_exchange, .file = 0, .dir = CM, .other = CM, .any_file = ACM),
    OP("rename of another over it", do_rename_over, .dir = CM, .any_file = ACM),
    OP("listing", do_opendir, .any_dir = TM_A),
};

#define CALL(id, expr)                                                                             \
	static long c_##id(void)                                                                   \
	{                                                                                          \
		return expr;                                                                       \
	}
CALL(zero_write, write(fd, "", 0))
CALL(fsync, fsync(fd))
CALL(ftruncate, ftruncate(fd, 3))
CALL(ftruncate_grow, ftruncate(fd, 100))
CALL(ftruncate_same, ftruncate(fd, 10))
CALL(truncate, truncate("d/f", 2))
CALL(chmod, chmod("d/f", 0600))
CALL(fchmod, fchmod(fd, 0600))
CALL(chown, chown("d/f", geteuid(), getegid()))
CALL(link, link("d/f", "d/l"))
CALL(link_out, link("d/f", "e/l"))
CALL(rename, rename("d/f", "d/f"))
CALL(stat, access("d/f", R_OK))
CALL(open_close, h_opens("d/f", O_RDWR, 0))
CALL(symlink, symlink("f", "d/s"))
CALL(mkfifo, mkfifo("d/p", 0600))
CALL(unlink_other, unlink("e/g"))
CALL(rename_out, rename("d/r", "e/r"))
CALL(rename_in, rename("e/g", "d/h"))
CALL(mkdir, mkdir("d/sub", 0700))
CALL(chmod_dir, fchmod(dirfd_, 0700))
CALL(fsync_dir, fsync(dirfd_))
CALL(failed_create, open("d/f", O_CREAT | O_EXCL | O_RDWR, 0600) == -1 ? 0 : -1)
CALL(failed_unlink, unlink("d/none") == -1 ? 0 : -1)
CALL(failed_mkdir, mkdir("d/f", 0700) == -1 ? 0 : -1)
CALL(failed_rename, rename("d/f", "e") == -1 ? 0 : -1)
CALL(failed_truncate, truncate("d/f", -1) == -1 ? 0 : -1)
CALL(failed_link, link("d/f", "e/g") == -1 ? 0 : -1)

static const struct {
	const char *name;
	long (*fn)(void);
	unsigned file, dir, other;
} call[] = {
    {"write of no bytes", c_zero_write, 0, 0, 0},
    {"fsync", c_fsync, 0, 0, 0},
    {"ftruncate", c_ftruncate, CM, 0, 0},
    {"ftruncate to grow", c_ftruncate_grow, CM, 0, 0},
    {"ftruncate to the size it has", c_ftruncate_same, CM, 0, 0},
    {"truncate", c_truncate, CM, 0, 0},
    {"chmod", c_chmod, TM_C, 0, 0},
    {"fchmod", c_fchmod, TM_C, 0, 0},
    {"chown", c_chown, TM_C, 0, 0},
    {"link in the same directory", c_link, TM_C, CM, 0},
    {"link in another directory", c_link_out, TM_C, 0, CM},
    {"rename onto itself", c_rename, 0, 0, 0},
    {"access", c_stat, 0, 0, 0},
    {"open and close", c_open_close, 0, 0, 0},
    {"symlink beside it", c_symlink, 0, CM, 0},
    {"mkfifo beside it", c_mkfifo, 0, CM, 0},
    {"unlink in another directory", c_unlink_other, 0, 0, CM},
    {"rename into another directory", c_rename_out, 0, CM, CM},
    {"rename from another directory", c_rename_in, 0, CM, CM},
    {"mkdir beside it", c_mkdir, 0, CM, 0},
    {"fchmod of the directory", c_chmod_dir, 0, TM_C, 0},
    {"fsync of the directory", c_fsync_dir, 0, 0, 0},
    {"a creation that fails", c_failed_create, 0, 0, 0},
    {"an unlink that fails", c_failed_unlink, 0, 0, 0},
    {"a mkdir that fails", c_failed_mkdir, 0, 0, 0},
    {"a rename that fails", c_failed_rename, 0, 0, 0},
    {"a truncate that fails", c_failed_truncate, 0, 0, 0},
    {"a link that fails", c_failed_link, 0, 0, 0},
};

static struct stat file, dir, other, up;

static void set_up(void)
{
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(mkdir("e", 0755));
	REQUIRE_OK(h_put("d/f", "0123456789", 10));
	REQUIRE_OK(h_touch("d/r"));
	REQUIRE_OK(h_touch("e/g"));
	fd = (int)REQUIRE_OK(open("d/f", O_RDWR));
	dirfd_ = (int)REQUIRE_OK(open("d", O_RDONLY | O_DIRECTORY));
	file = h_rewind("d/f");
	dir = h_rewind("d");
	other = h_rewind("e");
	up = h_rewind(".");
}

static void tear_down(void)
{
	close(fd);
	close(dirfd_);
	h_rmtree(AT_FDCWD, "d");
	h_rmtree(AT_FDCWD, "e");
}

static void table(void)
{
	for (unsigned i = 0; i < sizeof(call) / sizeof(call[0]); i++) {
		set_up();
		h_ctx("%s", call[i].name);
		EXPECT_OK(call[i].fn());
		EXPECT_TIMES("d/f", &file, call[i].file, 0);
		EXPECT_TIMES("d", &dir, call[i].dir, 0);
		EXPECT_TIMES("e", &other, call[i].other, 0);
		EXPECT_TIMES(".", &up, 0, TM_A);
		h_ctx(NULL);
		tear_down();
	}
	for (unsigned i = 0; i < sizeof(op) / sizeof(op[0]); i++) {
		set_up();
		h_ctx("%s", op[i].name);
		EXPECT_OK(op[i].fn());
		EXPECT_TIMES("d/f", &file, op[i].file, op[i].any_file);
		EXPECT_TIMES("d", &dir, op[i].dir, op[i].any_dir);
		EXPECT_TIMES("e", &other, op[i].other, 0);
		h_ctx(NULL);
		tear_down();
	}
}

/* A time that is read again without anything done is the same, however it is asked. */
static void stable(void)
{
	struct stat a, b = {0};

	set_up();
	EXPECT_EQ(3, pwrite(fd, "abc", 3, 0));
	a = h_lstat("d/f");
	for (int i = 0; i < 20; i++)
		EXPECT_TIMES("d/f", &a, 0, 0);
	EXPECT_OK(fstat(fd, &b));
	EXPECT_TRUE(!h_tscmp(a.st_mtim, b.st_mtim), "fstat tells the same");
	EXPECT_OK(close(fd));
	EXPECT_TIMES("d/f", &a, 0, 0);
	fd = (int)REQUIRE_OK(open("d/f", O_RDONLY));
	EXPECT_TIMES("d/f", &a, 0, 0);
	/* A new file's times are one moment, and its directory's too. */
	h_tick(h_lstat("d").st_ctim);
	EXPECT_OK(h_touch("d/n"));
	a = h_lstat("d/n");
	EXPECT_TRUE(!h_tscmp(a.st_mtim, a.st_ctim), "mtime and ctime of a new file are equal");
	/* Each change is later than the one before. */
	for (int i = 0; i < 10; i++) {
		a = h_lstat("d/n");
		h_tick(a.st_ctim);
		EXPECT_OK(i % 2 ? chmod("d/n", 0600) : h_put("d/n", "x", 1));
		EXPECT_TIMES("d/n", &a, i % 2 ? TM_C : TM_C | TM_M, 0);
	}
	tear_down();
}

/*
 * Reading moves atime, where the mount keeps it (relatime at the least, as atime is before mtime).
 * A file system that answers from a cache of its own need not: over FUSE only the other times
 * count.
 */
static void access_times(void)
{
	struct statfs sfs;
	unsigned any;
	char *m;

	if (!h_has_atime()) {
		h_skip("reading does not move atime here");
		return;
	}
	EXPECT_OK(statfs(".", &sfs));
	any = sfs.f_type == FUSE_SUPER_MAGIC ? TM_A : 0;
	if (any)
		h_skip("atime over FUSE: reads from a cache need not move it");
	set_up();
	h_ctx("read");
	EXPECT_EQ(4, pread(fd, buf, 4, 0));
	EXPECT_TIMES("d/f", &file, TM_A, any);
	file = h_rewind("d/f");
	h_ctx("read of nothing");
	EXPECT_EQ(0, pread(fd, buf, 0, 0));
	EXPECT_TIMES("d/f", &file, 0, any);
	h_ctx("read with O_NOATIME");
	int quiet = (int)REQUIRE_OK(open("d/f", O_RDONLY | O_NOATIME));

	EXPECT_EQ(4, read(quiet, buf, 4));
	EXPECT_TIMES("d/f", &file, 0, any);
	close(quiet);
	h_ctx("load from a mapping");
	m = mmap(NULL, 10, PROT_READ, MAP_SHARED, fd, 0);
	EXPECT_OK(m == MAP_FAILED ? -1 : 0);
	if (m != MAP_FAILED) {
		EXPECT_EQ('0', m[0]);
		munmap(m, 10);
		EXPECT_TIMES("d/f", &file, TM_A, any);
	}
	h_ctx("listing");
	dir = h_rewind("d");
	EXPECT_EQ(2, h_count("d"));
	EXPECT_TIMES("d", &dir, TM_A, any);
	h_ctx("readlink");
	REQUIRE_OK(symlink("f", "e/s"));
	struct stat l = h_rewind("e/s");

	EXPECT_EQ(1, readlink("e/s", buf, sizeof(buf)));
	EXPECT_TIMES("e/s", &l, TM_A, any);
	h_ctx(NULL);
	tear_down();
}

void area_times(void)
{
	table();
	stable();
	access_times();
}

/* ---- timerange ----------------------------------------------------------------------------- */

void area_timerange(void)
{
	static const struct timespec value[] = {
	    {-1, 0},
	    {-1, 999999999},
	    {-1, 1},
	    {-86400, 0},
	    {-315619200, 5},
	    {-2147483647, 1},
	    {-2147483648, 0},
	    {2147483647, 999999999},
	    {2147483648, 0},
	    {2147483648, 123456789},
	    {4294967295, 999999999},
	    {4294967296, 1},
	    {7258118400, 7},
	    {10000000000, 3},
	    {15000000000, 999999999},
	};

	FOR_TYPES(t, T_BIT(T_REG) | T_BIT(T_DIR) | T_BIT(T_LNK)) {
		REQUIRE_OK(h_make(t, "f", 0644));
		for (unsigned i = 0; i < sizeof(value) / sizeof(value[0]); i++) {
			struct timespec pair[2] = {value[i], value[(i + 1) % 15]};
			struct stat st;

			h_ctx("%s, second %lld", h_type_name(t), (long long)value[i].tv_sec);
			EXPECT_OK(utimensat(AT_FDCWD, "f", pair, AT_SYMLINK_NOFOLLOW));
			st = h_lstat("f");
			EXPECT_EQ(pair[0].tv_sec, st.st_atim.tv_sec);
			EXPECT_EQ(pair[0].tv_nsec, st.st_atim.tv_nsec);
			EXPECT_EQ(pair[1].tv_sec, st.st_mtim.tv_sec);
			EXPECT_EQ(pair[1].tv_nsec, st.st_mtim.tv_nsec);
			/* It survives another change. */
			EXPECT_OK(rename("f", "g"));
			EXPECT_EQ(pair[1].tv_sec, h_lstat("g").st_mtim.tv_sec);
			EXPECT_OK(rename("g", "f"));
		}
		h_remove("f");
	}
	h_ctx(NULL);
}
