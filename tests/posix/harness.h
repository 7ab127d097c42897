/*
 * harness: assertions, credentials, child processes and file-system helpers for posix-suite.
 *
 * Calling sequence: main() calls h_init() once and h_run_area() per area. The area's function runs
 * in a forked child whose working directory is a fresh directory of its own; it uses the EXPECT_*
 * macros, which count in shared memory, so that assertions made in further children (AS blocks,
 * peers) count too. The runner removes the directory, also after a failure, a crash or a hang.
 *
 * Output: one line per failure or skip, written with one write(2). Threads: none.
 * Errors: an EXPECT_* records and goes on; a REQUIRE_* records and ends the process (set-up that
 * everything after it needs).
 */
#ifndef POSIX_HARNESS_H
#define POSIX_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* ---- areas -------------------------------------------------------------------------------- */

#define AREA(name, text) void area_##name(void);
#include "areas.def"
#undef AREA

struct h_options {
	bool large;	  /* the 100,000-entry directory too */
	unsigned timeout; /* seconds per area */
};

void h_init(const char *dir, const struct h_options *opt);
void h_run_area(const char *name, void (*fn)(void));
/* Prints the closing line; returns the program's exit status. */
int h_summary(void);
const struct h_options *h_opt(void);

/* ---- assertions --------------------------------------------------------------------------- */

/* A prefix of every following text in this process (and its children); NULL clears it. */
void h_ctx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void h_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The base of all assertions; the format says what was expected and what was got. */
bool h_check(const char *file, int line, bool ok, const char *text, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
long h_expect_ok(const char *file, int line, const char *text, long ret, bool require);
bool h_expect_err(const char *file, int line, const char *text, int want, int want2, long ret);
bool h_expect_eq(const char *file, int line, const char *text, long long want, long long got);
bool h_expect_ret(const char *file, int line, const char *text, long want, long got);
bool h_expect_mode(const char *file, int line, const char *path, unsigned want);
bool h_expect_owner(const char *file, int line, const char *path, long uid, long gid);
bool h_expect_nlink(const char *file, int line, const char *path, long want);
bool h_expect_size(const char *file, int line, const char *path, long long want);
bool h_expect_content(const char *file, int line, const char *path, const void *want, size_t len);

#define H_AT __FILE_NAME__, __LINE__
/* The call returns anything but -1. Yields its value, so that `fd = EXPECT_OK(open(...))`. */
#define EXPECT_OK(call)	 h_expect_ok(H_AT, #call, (errno = 0, (long)(call)), false)
#define REQUIRE_OK(call) h_expect_ok(H_AT, #call, (errno = 0, (long)(call)), true)
/* The call returns -1 with this errno; ERR2 where the standard leaves a choice of two. */
#define EXPECT_ERR(err, call)	  h_expect_err(H_AT, #call, err, 0, (errno = 0, (long)(call)))
#define EXPECT_ERR2(e1, e2, call) h_expect_err(H_AT, #call, e1, e2, (errno = 0, (long)(call)))
#define EXPECT_EQ(want, got)	  h_expect_eq(H_AT, #got, (long long)(want), (long long)(got))
/* Both are a value or a negative errno, and printed as such. */
#define EXPECT_RET(want, got)		h_expect_ret(H_AT, #got, (long)(want), (long)(got))
#define EXPECT_TRUE(cond, text)		h_check(H_AT, (cond), text, "expected true got false (%s)", #cond)
#define EXPECT_MODE(want, path)		h_expect_mode(H_AT, path, want)
#define EXPECT_OWNER(uid, gid, path)	h_expect_owner(H_AT, path, (long)(uid), (long)(gid))
#define EXPECT_NLINK(want, path)	h_expect_nlink(H_AT, path, want)
#define EXPECT_SIZE(want, path)		h_expect_size(H_AT, path, want)
#define EXPECT_CONTENT(want, len, path) h_expect_content(H_AT, path, want, len)
#define EXPECT_ABSENT(path)		h_expect_err(H_AT, "lstat(" #path ")", ENOENT, 0, h_exists(path))

/* ---- credentials -------------------------------------------------------------------------- */

struct h_cred {
	uid_t uid;
	gid_t gid;
	unsigned ngroups;
	gid_t groups[8];
};

enum { UA = 65534, GA = 65534, UB = 65533, GB = 65533, GX = 65532, GY = 65531 };

#define CRED(u, g, ...)                                                                            \
	(&(const struct h_cred){.uid = (u),                                                        \
				.gid = (g),                                                        \
				.groups = {__VA_ARGS__},                                           \
				.ngroups =                                                         \
				    sizeof((gid_t[]){0, ##__VA_ARGS__}) / sizeof(gid_t) - 1})
#define ALICE CRED(UA, GA)
#define BOB   CRED(UB, GB)

bool h_root(void);
/* Becomes that user for good; exits on failure. */
void h_become(const struct h_cred *cred);
/* Is gid the effective group or a supplementary one of this process? */
bool h_in_group(gid_t gid);

struct h_as {
	const char *file;
	int line;
	bool child, ran;
	pid_t pid;
};
struct h_as h_as_begin(const struct h_cred *cred, const char *file, int line);
bool h_as_again(struct h_as *as);

/*
 * AS(cred) { ... } runs the block in a forked child with these credentials (NULL: unchanged) and
 * umask 022, and waits for it. No break, return or goto out of the block.
 */
#define AS(cred)      AS__(H_CAT(h_as_, __COUNTER__), cred)
#define AS__(v, cred) for (struct h_as v = h_as_begin(cred, H_AT); h_as_again(&v);)
#define H_CAT(a, b)   H_CAT_(a, b)
#define H_CAT_(a, b)  a##b

/* ---- files -------------------------------------------------------------------------------- */

enum h_type { T_REG, T_DIR, T_FIFO, T_SOCK, T_CHR, T_BLK, T_LNK, T_COUNT };
#define T_BIT(t) (1u << (t))
#define T_ALL	 (T_BIT(T_COUNT) - 1)
#define T_NODIR	 (T_ALL & ~T_BIT(T_DIR))
/* What chmod reaches by name. */
#define T_NOLNK (T_ALL & ~T_BIT(T_LNK))

/* Can this user make such a file here? (Devices need root.) */
bool h_can(enum h_type t);
const char *h_type_name(enum h_type t);
mode_t h_type_mode(enum h_type t);
#define FOR_TYPES(t, mask)                                                                         \
	for (enum h_type t = T_REG; t < T_COUNT; t++)                                              \
		if (((mask)&T_BIT(t)) && h_can(t))

/* Makes a file of that type with exactly that mode (a symlink points to "nowhere"). 0 or -1. */
int h_make(enum h_type t, const char *path, mode_t mode);
/* unlink or rmdir by type. 0 or -1. */
int h_remove(const char *path);
/* A regular file with this content, mode 0644. 0 or -1. */
int h_put(const char *path, const void *data, size_t len);
int h_touch(const char *path);
/* Opens and closes again: 0 or -1 with the errno of open. */
int h_opens(const char *path, int flags, mode_t mode);
/* lstat of path: 0 or -1. */
int h_exists(const char *path);
/* lstat; a failure is recorded and yields zeroes. */
struct stat h_lstat(const char *path);
/* Removes a tree whatever its modes. 0 or -1. */
int h_rmtree(int dirfd, const char *name);
/* len bytes of a pattern that differs for each seed and position. */
void h_fill(void *buf, size_t len, unsigned seed);
bool h_is_fill(const void *buf, size_t len, unsigned seed);
bool h_is_zero(const void *buf, size_t len);
/* An address that no process of ours may touch. */
void *h_bad_ptr(void);
/* A number from a /proc/sys file, or dflt. */
long h_sysctl(const char *path, long dflt);
/* Number of names in a directory, without "." and ".."; -1 on error. */
long h_count(const char *dir);
/* Names of len bytes ('a'..), and a path of exactly len bytes that names path ("././x"). */
char *h_name(size_t len);
char *h_long_path(const char *path, size_t len);

/* ---- times -------------------------------------------------------------------------------- */

#define TM_A 1u
#define TM_M 2u
#define TM_C 4u

int h_tscmp(struct timespec a, struct timespec b);
/* Returns when the file system's clock has passed t (it makes changes until their ctime has). */
void h_tick(struct timespec t);
/* Sets atime and mtime to long ago, yields lstat, and waits until ctime can differ. */
struct stat h_rewind(const char *path);
/* Just that these moved forward and all others stayed, `any` aside. */
#define EXPECT_TIMES(path, st, moved, any) h_expect_times(H_AT, path, st, moved, any)
void h_expect_times(const char *file, int line, const char *path, const struct stat *before,
		    unsigned moved, unsigned any);
/* Does reading a file here move its atime? */
bool h_has_atime(void);

#endif
