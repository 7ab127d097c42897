/*
 * One table of all calls that take a path, against every way a path can fail to lead anywhere.
 * What is particular to one call is tested in its own area.
 */
#include "harness.h"

#include <sys/statfs.h>
#include <sys/syscall.h>

#define OTHER "other" /* the second path of link and rename; exists */

static struct stat st;
static struct statx stx;
static struct statfs sfs;
static const struct timespec ts[2] = {{1, 1}, {1, 1}};
static char buf[64];

/*
 * Raw calls: where the C library would look at the path itself, a bad address would not reach the
 * kernel. MAKES: a missing last component is no error. NOFOLLOW: a symlink there is not followed.
 */
enum { MAKES = 1, NOFOLLOW = 2 };

#define CALLS(X)                                                                                   \
	X(open_read, syscall(SYS_openat, AT_FDCWD, p, O_RDONLY), 0)                                \
	X(open_both, syscall(SYS_openat, AT_FDCWD, p, O_RDWR), 0)                                  \
	X(open_trunc, syscall(SYS_openat, AT_FDCWD, p, O_WRONLY | O_TRUNC), 0)                     \
	X(open_creat, syscall(SYS_openat, AT_FDCWD, p, O_RDWR | O_CREAT, 0644), MAKES)             \
	X(open_excl, syscall(SYS_openat, AT_FDCWD, p, O_RDWR | O_CREAT | O_EXCL, 0644),            \
	  MAKES | NOFOLLOW)                                                                        \
	X(open_path, syscall(SYS_openat, AT_FDCWD, p, O_PATH), 0)                                  \
	X(open_directory, syscall(SYS_openat, AT_FDCWD, p, O_RDONLY | O_DIRECTORY), 0)             \
	X(creat, syscall(SYS_openat, AT_FDCWD, p, O_WRONLY | O_CREAT | O_TRUNC, 0644), MAKES)      \
	X(stat, syscall(SYS_newfstatat, AT_FDCWD, p, &st, 0), 0)                                   \
	X(lstat, syscall(SYS_newfstatat, AT_FDCWD, p, &st, AT_SYMLINK_NOFOLLOW), NOFOLLOW)         \
	X(statx, syscall(SYS_statx, AT_FDCWD, p, 0, STATX_BASIC_STATS, &stx), 0)                   \
	X(access_exists, syscall(SYS_faccessat, AT_FDCWD, p, F_OK), 0)                             \
	X(access_read, syscall(SYS_faccessat, AT_FDCWD, p, R_OK), 0)                               \
	X(statfs, syscall(SYS_statfs, p, &sfs), 0)                                                 \
	X(chmod, syscall(SYS_fchmodat, AT_FDCWD, p, 0644), 0)                                      \
	X(chown, syscall(SYS_fchownat, AT_FDCWD, p, -1, -1, 0), 0)                                 \
	X(lchown, syscall(SYS_fchownat, AT_FDCWD, p, -1, -1, AT_SYMLINK_NOFOLLOW), NOFOLLOW)       \
	X(truncate, syscall(SYS_truncate, p, 0L), 0)                                               \
	X(utimensat, syscall(SYS_utimensat, AT_FDCWD, p, ts, 0), 0)                                \
	X(lutimens, syscall(SYS_utimensat, AT_FDCWD, p, ts, AT_SYMLINK_NOFOLLOW), NOFOLLOW)        \
	X(chdir, syscall(SYS_chdir, p), 0)                                                         \
	X(readlink, syscall(SYS_readlinkat, AT_FDCWD, p, buf, sizeof(buf)), NOFOLLOW)              \
	X(mkdir, syscall(SYS_mkdirat, AT_FDCWD, p, 0755), MAKES | NOFOLLOW)                        \
	X(mkfifo, syscall(SYS_mknodat, AT_FDCWD, p, S_IFIFO | 0644, 0), MAKES | NOFOLLOW)          \
	X(mknod, syscall(SYS_mknodat, AT_FDCWD, p, S_IFREG | 0644, 0), MAKES | NOFOLLOW)           \
	X(symlink, syscall(SYS_symlinkat, "x", AT_FDCWD, p), MAKES | NOFOLLOW)                     \
	X(link_from, syscall(SYS_linkat, AT_FDCWD, p, AT_FDCWD, "fresh", 0), NOFOLLOW)             \
	X(link_from_followed,                                                                      \
	  syscall(SYS_linkat, AT_FDCWD, p, AT_FDCWD, "fresh", AT_SYMLINK_FOLLOW), 0)               \
	X(link_to, syscall(SYS_linkat, AT_FDCWD, OTHER, AT_FDCWD, p, 0), MAKES | NOFOLLOW)         \
	X(rename_from, syscall(SYS_renameat2, AT_FDCWD, p, AT_FDCWD, "fresh", 0), NOFOLLOW)        \
	X(rename_to, syscall(SYS_renameat2, AT_FDCWD, OTHER, AT_FDCWD, p, 0), MAKES | NOFOLLOW)    \
	X(unlink, syscall(SYS_unlinkat, AT_FDCWD, p, 0), NOFOLLOW)                                 \
	X(rmdir, syscall(SYS_unlinkat, AT_FDCWD, p, AT_REMOVEDIR), NOFOLLOW)

#define X(id, call, flags)                                                                         \
	static long c_##id(const char *p)                                                          \
	{                                                                                          \
		return call;                                                                       \
	}
CALLS(X)
#undef X

static const struct {
	const char *name;
	long (*fn)(const char *path);
	unsigned flags;
} calls[] = {
#define X(id, call, flags) {#id, c_##id, flags},
    CALLS(X)
#undef X
};
enum { N = sizeof(calls) / sizeof(calls[0]) };

static void all_fail(const char *why, int err, const char *path)
{
	for (int i = 0; i < N; i++) {
		h_ctx("%s, %s", calls[i].name, why);
		EXPECT_ERR(err, calls[i].fn(path));
	}
	h_ctx(NULL);
}

static void missing(void)
{
	all_fail("empty path", ENOENT, "");
	all_fail("missing directory", ENOENT, "none/x");
	all_fail("missing directory far up", ENOENT, "none/a/b/c/x");
	all_fail("dangling symlink as directory", ENOENT, "dangling/x");
	for (int i = 0; i < N; i++) {
		if (calls[i].flags & MAKES)
			continue;
		h_ctx("%s, missing name", calls[i].name);
		EXPECT_ERR(ENOENT, calls[i].fn("none"));
		EXPECT_ERR(ENOENT, calls[i].fn("dir/none"));
		if (!(calls[i].flags & NOFOLLOW)) {
			h_ctx("%s, dangling symlink", calls[i].name);
			EXPECT_ERR(ENOENT, calls[i].fn("dangling"));
		}
	}
	h_ctx(NULL);
	EXPECT_ABSENT("none");
}

static void not_directories(void)
{
	FOR_TYPES(t, T_NODIR & ~T_BIT(T_LNK)) {
		char why[64];

		REQUIRE_OK(h_make(t, "node", 0777));
		snprintf(why, sizeof(why), "a %s as directory", h_type_name(t));
		all_fail(why, ENOTDIR, "node/x");
		all_fail(why, ENOTDIR, "node/../x");
		h_remove("node");
	}
	all_fail("symlink to a file as directory", ENOTDIR, "tofile/x");
}

static void loops(void)
{
	all_fail("looping symlink as directory", ELOOP, "loop/x");
	all_fail("two symlinks in a loop as directory", ELOOP, "loop1/x");
	for (int i = 0; i < N; i++) {
		if (calls[i].flags & NOFOLLOW)
			continue;
		h_ctx("%s, looping symlink", calls[i].name);
		EXPECT_ERR(ELOOP, calls[i].fn("loop"));
	}
	h_ctx(NULL);
}

static void too_long(void)
{
	char *name = h_name(256), path[600];
	char *over = h_long_path("other", PATH_MAX), *far = h_long_path("other", PATH_MAX + 100);

	all_fail("name of 256 bytes", ENAMETOOLONG, name);
	snprintf(path, sizeof(path), "dir/%s", name);
	all_fail("name of 256 bytes below a directory", ENAMETOOLONG, path);
	snprintf(path, sizeof(path), "%s/x", name);
	all_fail("directory name of 256 bytes", ENAMETOOLONG, path);
	all_fail("path of PATH_MAX bytes", ENAMETOOLONG, over);
	all_fail("path longer than PATH_MAX", ENAMETOOLONG, far);
	free(name);
	free(over);
	free(far);
}

static void search(void)
{
	REQUIRE_OK(mkdir("shut", 0755));
	REQUIRE_OK(mkdir("shut/dir", 0777));
	REQUIRE_OK(h_touch("shut/dir/f"));
	REQUIRE_OK(chmod("shut/dir", 0777));
	REQUIRE_OK(chmod("shut/dir/f", 0666));
	for (mode_t m = 0; m < 8; m += 2) {
		char why[64];

		snprintf(why, sizeof(why), "no right to search, mode 0%o%o0", m, m);
		REQUIRE_OK(chmod("shut", (m << 6) | (m << 3) | m));
		AS(h_root() ? ALICE : NULL) {
			all_fail(why, EACCES, "shut/x");
			all_fail(why, EACCES, "shut/dir");
			all_fail(why, EACCES, "shut/dir/f");
			all_fail(why, EACCES, "shut/.");
		}
	}
	REQUIRE_OK(chmod("shut", 0755));
	h_rmtree(AT_FDCWD, "shut");
}

void area_errno(void)
{
	REQUIRE_OK(h_touch(OTHER));
	REQUIRE_OK(h_touch("file"));
	REQUIRE_OK(mkdir("dir", 0755));
	REQUIRE_OK(symlink("none", "dangling"));
	REQUIRE_OK(symlink("file", "tofile"));
	REQUIRE_OK(symlink("loop", "loop"));
	REQUIRE_OK(symlink("loop2", "loop1"));
	REQUIRE_OK(symlink("loop1", "loop2"));
	missing();
	not_directories();
	loops();
	too_long();
	all_fail("bad address", EFAULT, h_bad_ptr());
	search();
	EXPECT_ABSENT("fresh");
	EXPECT_OK(h_exists(OTHER));
	EXPECT_EQ(0, h_count("dir"));
	unlink(OTHER);
	unlink("file");
	rmdir("dir");
}
