/*
 * fsstorm: many processes at once on one small tree.
 *
 * Names are few, so that the processes meet. Each operation has the errnos that a race may give it
 * (ENOENT, EEXIST, ...); any other (EIO, ESTALE, ENOTCONN, EINVAL where nothing was invalid, ...)
 * is reported. Files are written with marked bytes, so that a read finds out when bytes turn up
 * that nobody wrote. What each process does depends on the seed and its number alone; what comes
 * of it depends on the others. The tree is left for the caller to compare.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "prng.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_PROCS = 127, MAX_SIZE = 300000, MAX_SHOWN = 30 };

#define MARK 0x80u /* bytes of process p are MARK | p, and 0 is a hole */

static struct shared {
	atomic_ulong done, raced, wrong;
} * tally;

static struct {
	unsigned long procs, ops, seed;
} opt = {.procs = 4, .ops = 1000, .seed = 1};

static struct prng rng;
static unsigned me;
static unsigned char buf[MAX_SIZE];

/* ---- names --------------------------------------------------------------------------------- */

struct name {
	char s[64];
};

/* One of 6 directories on up to 3 levels, one of 8 names of each kind. */
static struct name some_name(const char *kinds)
{
	struct name n;
	size_t at = 0, depth = prng_below(&rng, 4), count = strlen(kinds);

	for (size_t i = 0; i < depth; i++)
		at +=
		    (size_t)snprintf(n.s + at, sizeof(n.s) - at, "d%d/", (int)prng_below(&rng, 3));
	snprintf(n.s + at, sizeof(n.s) - at, "%c%d", kinds[prng_below(&rng, count)],
		 (int)prng_below(&rng, 8));
	return n;
}

static struct name some_dir(void)
{
	struct name n = {""};
	size_t at = 0, depth = 1 + prng_below(&rng, 3);

	for (size_t i = 0; i < depth; i++)
		at += (size_t)snprintf(n.s + at, sizeof(n.s) - at, "%sd%d", i ? "/" : "",
				       (int)prng_below(&rng, 3));
	return n;
}

/* Mostly the name of a file, now and then of a directory. */
static struct name some_path(void)
{
	return prng_below(&rng, 4) ? some_name("fl") : some_dir();
}

/* ---- results ------------------------------------------------------------------------------- */

static void report(const char *op, const char *a, const char *b, const char *what)
{
	char line[256];
	int n;

	if (atomic_fetch_add(&tally->wrong, 1) >= MAX_SHOWN)
		return;
	n = snprintf(line, sizeof(line), "fsstorm: process %u: %s %s%s%s: %s\n", me, op, a,
		     b ? " " : "", b ? b : "", what);
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(3);
}

/* What any call with a path may meet while others change the tree. */
static bool is_race(int err)
{
	return err == ENOENT || err == ENOTDIR || err == ELOOP;
}

static bool result(long r, const char *op, const char *a, const char *b, const int *also)
{
	int err = errno;

	atomic_fetch_add(&tally->done, 1);
	if (r >= 0)
		return true;
	atomic_fetch_add(&tally->raced, 1);
	if (is_race(err))
		return false;
	for (; also && *also; also++)
		if (*also == err)
			return false;
	report(op, a, b, strerrorname_np(err) ? strerrorname_np(err) : "an unknown errno");
	return false;
}

#define MAY(...) ((const int[]){__VA_ARGS__, 0})

/* ---- operations ---------------------------------------------------------------------------- */

static void op_create(void)
{
	struct name n = some_name("f");
	int fd = open(n.s, O_RDWR | O_CREAT | (prng_below(&rng, 2) ? O_EXCL : 0),
		      0600 | (int)prng_below(&rng, 0200));

	if (result(fd, "create", n.s, NULL, MAY(EEXIST, EISDIR)))
		close(fd);
}

static void op_unlink(void)
{
	struct name n = some_path();

	result(unlink(n.s), "unlink", n.s, NULL, MAY(EISDIR));
}

static void op_mkdir(void)
{
	struct name n = prng_below(&rng, 8) ? some_dir() : some_name("fl");

	result(mkdir(n.s, 0700 | (mode_t)prng_below(&rng, 0100)), "mkdir", n.s, NULL, MAY(EEXIST));
}

static void op_rmdir(void)
{
	struct name n = some_dir();

	result(rmdir(n.s), "rmdir", n.s, NULL, MAY(ENOTEMPTY));
}

/* EINVAL is right for a directory into itself, and only when one name begins with the other. */
static void op_rename(void)
{
	struct name a = some_path(), b = some_path();
	unsigned flags = prng_below(&rng, 4)   ? 0
			 : prng_below(&rng, 2) ? RENAME_NOREPLACE
					       : RENAME_EXCHANGE;

	result(renameat2(AT_FDCWD, a.s, AT_FDCWD, b.s, flags),
	       flags == 0		   ? "rename"
	       : flags == RENAME_NOREPLACE ? "rename NOREPLACE"
					   : "rename EXCHANGE",
	       a.s, b.s,
	       MAY(EEXIST, ENOTEMPTY, EISDIR,
		   /* A symlink on the way can hide that one is inside the other. */
		   EINVAL));
}

static void op_link(void)
{
	struct name a = some_path(), b = some_name("fl");

	result(link(a.s, b.s), "link", a.s, b.s, MAY(EEXIST, EPERM));
}

/* Targets never lead upwards, so the storm stays in its tree. */
static void op_symlink(void)
{
	struct name n = some_name("l"), t = prng_below(&rng, 3) ? some_name("f") : some_dir();

	result(symlink(t.s, n.s), "symlink", t.s, n.s, MAY(EEXIST));
}

static void op_readlink(void)
{
	struct name n = some_name("lf");
	ssize_t r = readlink(n.s, (char *)buf, sizeof(buf));

	if (result(r, "readlink", n.s, NULL, MAY(EINVAL)) && (r == 0 || memchr(buf, 0, (size_t)r)))
		report("readlink", n.s, NULL, "an empty target or one with NUL");
}

static void op_write(void)
{
	struct name n = some_name("fl");
	int fd = open(n.s,
		      O_WRONLY | (prng_below(&rng, 2) ? O_CREAT : 0) |
			  (prng_below(&rng, 4) ? 0 : O_APPEND),
		      0600);
	size_t len = 1 + prng_below(&rng, prng_below(&rng, 3) ? 5000 : 200000);
	struct stat st;

	if (!result(fd, "open for writing", n.s, NULL, MAY(EISDIR)))
		return;
	memset(buf, (int)(MARK | (me & 0x7f)), len);
	/* Whatever others do to the name, the descriptor works. */
	for (unsigned k = 1 + (unsigned)prng_below(&rng, 3); k; k--) {
		ssize_t w = pwrite(fd, buf, len, (off_t)prng_below(&rng, MAX_SIZE - len));

		if (result(w, "write", n.s, NULL, NULL) && (size_t)w != len)
			report("write", n.s, NULL, "a short count");
	}
	result(fstat(fd, &st), "fstat", n.s, NULL, NULL);
	if (prng_below(&rng, 10) == 0)
		result(fsync(fd), "fsync", n.s, NULL, NULL);
	result(close(fd), "close after writing", n.s, NULL, NULL);
}

static void op_read(void)
{
	struct name n = some_name("fl");
	int fd = open(n.s, O_RDONLY);
	ssize_t r;

	if (!result(fd, "open for reading", n.s, NULL, NULL))
		return;
	r = pread(fd, buf, sizeof(buf),
		  (off_t)prng_below(&rng, 2) * (off_t)prng_below(&rng, MAX_SIZE));
	if (result(r, "read", n.s, NULL, MAY(EISDIR)))
		for (ssize_t i = 0; i < r; i++)
			if (buf[i] && !(buf[i] & MARK && (buf[i] & 0x7fu) < opt.procs)) {
				report("read", n.s, NULL, "bytes that nobody wrote");
				break;
			}
	result(close(fd), "close after reading", n.s, NULL, NULL);
}

static void op_truncate(void)
{
	struct name n = some_name("fl");

	if (prng_below(&rng, 2)) {
		result(truncate(n.s, (off_t)prng_below(&rng, MAX_SIZE)), "truncate", n.s, NULL,
		       MAY(EISDIR));
	} else {
		int fd = open(n.s, O_WRONLY | (prng_below(&rng, 2) ? O_TRUNC : 0));

		if (!result(fd, "open to truncate", n.s, NULL, MAY(EISDIR)))
			return;
		result(ftruncate(fd, (off_t)prng_below(&rng, 100000)), "ftruncate", n.s, NULL,
		       NULL);
		result(close(fd), "close after ftruncate", n.s, NULL, NULL);
	}
}

static void op_chmod(void)
{
	struct name n = some_path();
	struct stat st;
	/* Its owner keeps all rights, so that an ordinary user is not locked out. */
	mode_t mode = 0700 | (mode_t)prng_below(&rng, 0100);

	if (lstat(n.s, &st) == 0 && S_ISLNK(st.st_mode))
		return;
	result(chmod(n.s, mode), "chmod", n.s, NULL, NULL);
}

static void op_utimens(void)
{
	struct name n = some_path();
	struct timespec ts[2] = {
	    {(time_t)prng_below(&rng, 2000000000), 1},
	    {(time_t)prng_below(&rng, 2000000000), (long)prng_below(&rng, 1000000000)}};

	result(utimensat(AT_FDCWD, n.s, ts, AT_SYMLINK_NOFOLLOW), "utimensat", n.s, NULL, NULL);
}

static void op_stat(void)
{
	struct name n = some_path();
	struct stat st;
	bool follow = prng_below(&rng, 2);

	if (!result(follow ? stat(n.s, &st) : lstat(n.s, &st), follow ? "stat" : "lstat", n.s, NULL,
		    NULL))
		return;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !(S_ISLNK(st.st_mode) && !follow))
		report("stat", n.s, NULL, "a type that nobody made");
	if (st.st_size < 0 || (S_ISREG(st.st_mode) && st.st_size > 100L * 1000 * 1000 * 1000))
		report("stat", n.s, NULL, "an impossible size");
}

static void op_readdir(void)
{
	struct name n = prng_below(&rng, 4) ? some_dir() : (struct name){"."};
	DIR *d = opendir(n.s);
	struct dirent *e;
	int entries = 0;

	if (!result(d ? 0 : -1, "opendir", n.s, NULL, NULL))
		return;
	errno = 0;
	while ((e = readdir(d)) && ++entries < 10000) {
		if (!strchr("fdl.", e->d_name[0]))
			report("readdir", n.s, e->d_name, "a name that nobody made");
		errno = 0;
	}
	if (!e) /* of a removed directory ENOENT is right */
		result(errno ? -1 : 0, "readdir", n.s, NULL, NULL);
	else
		report("readdir", n.s, NULL, "no end");
	closedir(d);
}

static const struct {
	void (*fn)(void);
	unsigned weight;
} ops[] = {{op_create, 10},  {op_unlink, 9},  {op_mkdir, 8},	{op_rmdir, 5},	{op_rename, 10},
	   {op_link, 5},     {op_symlink, 5}, {op_readlink, 4}, {op_write, 12}, {op_read, 10},
	   {op_truncate, 5}, {op_chmod, 5},   {op_utimens, 3},	{op_stat, 15},	{op_readdir, 6}};
enum { OPS = sizeof(ops) / sizeof(ops[0]) };

static void storm(void)
{
	unsigned total = 0;

	for (int i = 0; i < OPS; i++)
		total += ops[i].weight;
	for (unsigned long k = 0; k < opt.ops; k++) {
		unsigned pick = (unsigned)prng_below(&rng, total);

		for (int i = 0; i < OPS; i++) {
			if (pick < ops[i].weight) {
				ops[i].fn();
				break;
			}
			pick -= ops[i].weight;
		}
	}
}

static void usage(FILE *to)
{
	fprintf(to, "usage: fsstorm [-p PROCS] [-n OPS] [-s SEED] DIR\n"
		    "  -p  processes (4, at most 127)\n"
		    "  -n  operations of each (1000)\n"
		    "  -s  seed (1)\n");
}

static unsigned long number(const char *s, unsigned long most)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(s, &end, 10);
	if (errno || *end || end == s || v > most) {
		fprintf(stderr, "fsstorm: bad number '%s'\n", s);
		exit(2);
	}
	return v;
}

int main(int argc, char **argv)
{
	unsigned long died = 0, wrong;
	int c, status;

	while ((c = getopt(argc, argv, "p:n:s:h")) != -1) {
		if (c == 'p')
			opt.procs = number(optarg, MAX_PROCS);
		else if (c == 'n')
			opt.ops = number(optarg, ~0ul);
		else if (c == 's')
			opt.seed = number(optarg, ~0ul);
		else {
			usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : 2;
		}
	}
	if (optind + 1 != argc) {
		usage(stderr);
		return 2;
	}
	tally =
	    mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED || chdir(argv[optind])) {
		fprintf(stderr, "fsstorm: %s: %s\n", argv[optind], strerror(errno));
		return 2;
	}
	umask(022);
	for (me = 0; me < opt.procs; me++) {
		pid_t pid = fork();

		if (pid < 0) {
			perror("fsstorm: fork");
			return 2;
		}
		if (pid == 0) {
			rng.state = opt.seed * 1000003 + me;
			prng_next(&rng);
			storm();
			_exit(0);
		}
	}
	while (wait(&status) > 0)
		died += status != 0;
	wrong = atomic_load(&tally->wrong);
	if (died)
		printf("fsstorm: %lu of %lu processes died\n", died, opt.procs);
	printf("fsstorm: %lu calls by %lu processes, seed %lu: %lu lost races, %lu wrong results\n",
	       atomic_load(&tally->done), opt.procs, opt.seed, atomic_load(&tally->raced), wrong);
	return wrong || died ? 1 : 0;
}
