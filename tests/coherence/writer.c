#include "actor.h"
#include "child.h"
#include "view.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define OWN_BOUND_NS UINT64_C(2000000000)

static struct world *world;
static struct prng rng;
static unsigned id, place;
static uint64_t serial; /* marks what each write leaves */
static unsigned char buf[FILE_MAX];

/* ---- what an operation comes to -------------------------------------------------------------- */

/* What a call on a path may meet while others change the tree. */
static bool is_race(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case EEXIST:
	case EISDIR:
	case ENOTEMPTY:
	case EMLINK:
	case EINVAL: /* a directory into itself */
	case EPERM:  /* a hard link to a directory */
	case ETXTBSY:
	case ENODEV: /* a shared mapping of a file that is open for appending */
	case ENAMETOOLONG:
	case ENODATA:
	case EOPNOTSUPP: /* extended attributes */
		return true;
	default:
		return false;
	}
}

static bool result(long r, const char *op, const char *a, const char *b)
{
	struct tally *t = world_tally(world);
	int error = r < 0 ? errno : 0;

	world_log(world, id, op, a, b, error);
	atomic_fetch_add(place == 0 ? &t->host_changes : &t->guest_changes, 1);
	if (error == ESTALE) {
		atomic_fetch_add(&t->estale, 1);
	} else if (error != 0 && !is_race(error)) {
		atomic_fetch_add(&t->errors, 1);
		printf("error: worker %u in place %u: %s %s %s: %s\n", id, place, op, a,
		       b != NULL ? b : "", strerrorname_np(error));
		(void)fflush(stdout);
	}
	return r >= 0;
}

/* ---- names and bytes ------------------------------------------------------------------------- */

static struct name some(void)
{
	return name_pick(world, &rng);
}

static struct name some_dir(void)
{
	return name_dir(1 + (unsigned)prng_below(&rng, DIRS_MAX - 1));
}

static struct name with_suffix(const struct name *n, const char *suffix)
{
	struct name r;

	(void)snprintf(r.s, sizeof(r.s), "%.30s%s", n->s, suffix);
	return r;
}

/* Every 8 bytes tell who wrote them, and when. */
static size_t fill(size_t most)
{
	uint64_t mark = (uint64_t)id << 48 | ++serial;
	size_t len = 1 + prng_below(&rng, most);

	for (size_t i = 0; i < len; i += sizeof(mark))
		memcpy(buf + i, &mark, sizeof(mark));
	return len;
}

static size_t some_size(void)
{
	return prng_below(&rng, 20) != 0 ? 9000 : 150000;
}

static bool put(const char *op, const char *name, int flags, off_t at)
{
	int fd = open(name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | flags, 0644);

	if (!result(fd, op, name, NULL))
		return false;
	size_t len = fill(flags & O_APPEND ? 3000 : some_size());
	(void)result(pwrite(fd, buf, len, at), "pwrite", name, NULL);
	if (prng_below(&rng, 30) == 0)
		(void)fsync(fd);
	return result(close(fd), "close", name, NULL);
}

/* ---- operations ------------------------------------------------------------------------------ */

static void op_write(void)
{
	struct name n = some();

	(void)put("write", n.s, O_CREAT | O_TRUNC, 0);
}

static void op_create(void)
{
	struct name n = some();

	(void)put("create", n.s, O_CREAT | O_EXCL, 0);
}

static void op_overwrite(void)
{
	struct name n = some();

	(void)put("overwrite", n.s, 0, (off_t)prng_below(&rng, 12000));
}

static void op_append(void)
{
	struct name n = some();

	/* Appending beyond FILE_MAX would hide the end from the comparison. */
	struct stat st;
	if (stat(n.s, &st) != 0 || st.st_size < FILE_MAX - 5000)
		(void)put("append", n.s, O_APPEND | (prng_below(&rng, 2) ? O_CREAT : 0), 0);
}

static void op_truncate(void)
{
	struct name n = some();
	struct stat st;

	if (lstat(n.s, &st) == 0 && S_ISREG(st.st_mode))
		(void)result(truncate(n.s, (off_t)prng_below(&rng, some_size())), "truncate", n.s,
			     NULL);
}

static void op_rename(void)
{
	struct name a = prng_below(&rng, 8) ? some() : some_dir(), b = some();

	(void)result(rename(a.s, b.s), "rename", a.s, b.s);
}

static void op_rename_dir(void)
{
	struct name a = some_dir(), b = some_dir();

	(void)result(rename(a.s, b.s), "rename dir", a.s, b.s);
}

static void op_exchange(void)
{
	struct name a = some(), b = prng_below(&rng, 10) ? some() : some_dir();

	(void)result(renameat2(AT_FDCWD, a.s, AT_FDCWD, b.s, RENAME_EXCHANGE), "exchange", a.s,
		     b.s);
}

static void op_unlink(void)
{
	struct name n = some();

	(void)result(unlink(n.s), "unlink", n.s, NULL);
}

static void op_mkdir(void)
{
	struct name n = prng_below(&rng, 10) ? some_dir() : some();

	(void)result(mkdir(n.s, 0755), "mkdir", n.s, NULL);
}

static void op_rmdir(void)
{
	struct name n = prng_below(&rng, 2) ? some_dir() : some();

	(void)result(rmdir(n.s), "rmdir", n.s, NULL);
}

static void op_chmod(void)
{
	struct name n = prng_below(&rng, 6) ? some() : some_dir();
	struct stat st;

	/* The owner keeps all rights, so that an ordinary user is not locked out. */
	if (lstat(n.s, &st) == 0 && !S_ISLNK(st.st_mode))
		(void)result(chmod(n.s, 0700 | (mode_t)prng_below(&rng, 0100)), "chmod", n.s, NULL);
}

static void op_utimens(void)
{
	struct name n = some();
	struct timespec ts[2] = {
		{1000000000 + (time_t)prng_below(&rng, 1000000000), 1},
		{1000000000 + (time_t)prng_below(&rng, 1000000000),
		 (long)prng_below(&rng, 1000000000)},
	};

	(void)result(utimensat(AT_FDCWD, n.s, ts, AT_SYMLINK_NOFOLLOW), "utimens", n.s, NULL);
}

/* Targets never lead upwards, so that nothing leaves the tree. */
static void op_symlink(void)
{
	struct name n = some(), t;

	(void)snprintf(t.s, sizeof(t.s), "n%u-%lu", (unsigned)prng_below(&rng, NAMES_IN_DIR),
		       (unsigned long)++serial % 1000);
	(void)result(symlink(t.s, n.s), "symlink", n.s, NULL);
}

static void op_link(void)
{
	struct name a = some(), b = some();

	(void)result(link(a.s, b.s), "link", a.s, b.s);
}

/* An editor's save, by a temporary file. The mode is set last, on an inode that is a moment old. */
static void op_save(void)
{
	struct name n = some(), tmp = with_suffix(&n, ".tmp");

	if (!put("save to", tmp.s, O_CREAT | O_TRUNC, 0))
		return;
	/* By now it may be a directory, whose owner is to get in. */
	if (result(rename(tmp.s, n.s), "rename", tmp.s, n.s) && prng_below(&rng, 2))
		(void)result(chmod(n.s, 0700 | (mode_t)prng_below(&rng, 0100)), "chmod", n.s, NULL);
}

static void op_save_backup(void)
{
	struct name n = some(), backup = with_suffix(&n, "~");

	if (result(rename(n.s, backup.s), "rename", n.s, backup.s))
		(void)put("save new", n.s, O_CREAT | O_EXCL, 0);
	if (prng_below(&rng, 2))
		(void)result(unlink(backup.s), "unlink", backup.s, NULL);
}

/* Something new, changed at once, again and again: what a compiler does to its output. */
static void op_remake(void)
{
	struct name n = some();

	if (unlink(n.s) != 0 && errno != ENOENT)
		return;
	int fd = open(n.s, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (!result(fd, "remake", n.s, NULL))
		return;
	for (unsigned i = 1 + (unsigned)prng_below(&rng, 3); i > 0; i--)
		(void)result(write(fd, buf, fill(3000)), "write", n.s, NULL);
	(void)result(fchmod(fd, 0600 | (mode_t)prng_below(&rng, 0100)), "fchmod", n.s, NULL);
	(void)result(close(fd), "close", n.s, NULL);
}

/* Seen by others when the mapping is gone and the file is closed. */
static void op_map(void)
{
	struct name n = some();
	struct stat st;
	int fd = open(n.s, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 4096) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	unsigned char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (result(map == MAP_FAILED ? -1 : 0, "mmap", n.s, NULL)) {
		size_t at = prng_below(&rng, 4000);
		uint64_t mark = (uint64_t)id << 48 | ++serial;

		(void)copy_mapped(map + at, &mark, sizeof(mark));
		(void)result(munmap(map, 4096), "munmap", n.s, NULL);
	}
	(void)result(close(fd), "close", n.s, NULL);
}

/* ---- a name of one's own --------------------------------------------------------------------- */

static struct view views[PLACES_MAX];

static unsigned long differing;

static bool shows_own(unsigned i, const char *a, const char *b)
{
	differing = 0;
	view_name(&views[i], a);
	view_name(&views[i], b);
	view_content(&views[i], a);
	view_xattr(&views[i], a);
	return differing == 0;
}

static void see_own(unsigned i, const char *a, const char *b)
{
	struct tally *t = world_tally(world);
	uint64_t start = now_ns(), waited = 0;

	if (shows_own(i, a, b))
		return;
	while (!shows_own(i, a, b) && waited < OWN_BOUND_NS)
		waited = now_ns() - start;
	waited = now_ns() - start;
	atomic_fetch_add(&t->late, 1);
	unsigned long us = (unsigned long)(waited / 1000), most = atomic_load(&t->latest_us);
	while (us > most && !atomic_compare_exchange_weak(&t->latest_us, &most, us))
		;
	unsigned long bound =
		i == place ? world_settings(world)->own_late_ms : world_settings(world)->late_ms;
	if (waited > bound * UINT64_C(1000000))
		view_late(&views[i], a, waited);
}

/*
 * Of the second file the reply has no attributes, so whoever looks at it asks the host, and may be
 * asking while the next exchange is made.
 */
static void exchange_own(const char *a, const char *b)
{
	for (unsigned i = 1 + (unsigned)prng_below(&rng, 8); i > 0; i--)
		if (!result(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), "own exchange", a,
			    b))
			break;
}

/* While another process lists them, which may be told that there are none (NODE_NO_XATTR). */
static void xattr_own(const char *name)
{
	static atomic_bool *listing;
	char names[256], value[24];

	if (listing == NULL)
		listing = child_memory(sizeof(*listing));
	atomic_store(listing, true);
	pid_t pid = child_fork();
	if (pid == 0) {
		while (atomic_load(listing))
			(void)listxattr(name, names, sizeof(names));
		_exit(0);
	}
	for (unsigned i = 1 + (unsigned)prng_below(&rng, 4); i > 0; i--) {
		(void)result(removexattr(name, XATTR_NAME), "own removexattr", name, NULL);
		(void)snprintf(value, sizeof(value), "%lu", (unsigned long)++serial);
		(void)result(setxattr(name, XATTR_NAME, value, strlen(value), 0), "own setxattr",
			     name, NULL);
	}
	atomic_store(listing, false);
	if (waitpid(pid, NULL, 0) != pid)
		err(3, "waitpid");
}

/* What is replaced lives on under its other name. */
static void replace_linked_own(const char *name, const char *other)
{
	struct name tmp;

	(void)snprintf(tmp.s, sizeof(tmp.s), "own%u-tmp", id);
	(void)result(link(name, other), "own link", name, other);
	if (put("own save to", tmp.s, O_CREAT | O_TRUNC, 0))
		(void)result(rename(tmp.s, name), "own rename", tmp.s, name);
}

/*
 * A guest's change is seen at once: by itself, on the host, and in the other mounts. All of them
 * looked before, so that what they had is cached.
 */
static void op_own(void)
{
	const struct settings *set = world_settings(world);
	struct name n, other;
	struct timespec ts[2] = {{1, 1}, {(time_t)prng_below(&rng, 1000000000), 7}};

	if (place == 0)
		return;
	(void)snprintf(n.s, sizeof(n.s), "own%u", id);
	other = with_suffix(&n, "-b");
	switch (prng_below(&rng, 11)) {
	case 0:
		(void)put("own write", n.s, O_CREAT | O_TRUNC, 0);
		break;
	case 1:
		(void)put("own append", n.s, O_CREAT | O_APPEND, 0);
		break;
	case 2:
		(void)result(truncate(n.s, (off_t)prng_below(&rng, 9000)), "own truncate", n.s,
			     NULL);
		break;
	case 3:
		(void)result(chmod(n.s, 0600 | (mode_t)prng_below(&rng, 0100)), "own chmod", n.s,
			     NULL);
		break;
	case 4:
		(void)result(rename(n.s, other.s), "own rename", n.s, other.s);
		break;
	case 5:
		(void)result(rename(other.s, n.s), "own rename", other.s, n.s);
		break;
	case 6:
		(void)result(unlink(n.s), "own unlink", n.s, NULL);
		break;
	case 7:
		exchange_own(n.s, other.s);
		break;
	case 8:
		replace_linked_own(n.s, other.s);
		break;
	case 9:
		xattr_own(n.s);
		break;
	default:
		(void)result(utimensat(AT_FDCWD, n.s, ts, 0), "own utimens", n.s, NULL);
		break;
	}
	struct stat st;
	if (stat(n.s, &st) == 0 && st.st_size > FILE_MAX - 5000)
		(void)result(truncate(n.s, 0), "own truncate", n.s, NULL);
	for (unsigned i = 1; i < set->places; i++)
		if (i == place || set->instant)
			see_own(i, n.s, other.s);
}

/* ---- git ------------------------------------------------------------------------------------- */

extern char **environ;

static void op_checkout(void)
{
	static unsigned branch;
	char *argv[] = {"git", "-C", "git", "checkout", "-q", "-f", ++branch % 2 ? "two" : "one",
			NULL};
	pid_t pid;
	int status;

	if (place != 0 || id != 0 || !world_settings(world)->git || prng_below(&rng, 4) != 0)
		return;
	if (posix_spawnp(&pid, "git", NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		errx(3, "git checkout failed");
	world_log(world, id, "git checkout", "git", argv[6], 0);
}

void make_repository(const char *host)
{
	static const char *const script =
		"set -e; mkdir \"$0/git\"; cd \"$0/git\"; git init -q -b one\n"
		"git config user.name t; git config user.email t@t.invalid; git config gc.auto 0\n"
		"mkdir src doc; for i in 1 2 3 4 5 6 7 8 9; do seq $i 400 >src/f$i; done\n"
		"echo one >doc/a; ln -s ../doc/a src/link; git add .; git commit -qm one\n"
		"git checkout -q -b two; git rm -q src/f1 src/f2; git mv src/f3 doc/moved\n"
		"chmod +x src/f4; seq 900 >src/f5; mkdir src/new; echo new >src/new/file\n"
		"ln -sfn ../doc src/link; git add .; git commit -qm two\n";
	char *argv[] = {"sh", "-c", (char *)(uintptr_t)script, (char *)(uintptr_t)host, NULL};
	pid_t pid;
	int status;

	if (posix_spawnp(&pid, "sh", NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		errx(3, "no repository could be made with git");
}

/* ---- the loop -------------------------------------------------------------------------------- */

static const struct {
	void (*fn)(void);
	unsigned weight;
} ops[] = {
	{op_write, 10},	     {op_create, 8},  {op_overwrite, 10}, {op_append, 8},
	{op_truncate, 6},    {op_rename, 8},  {op_rename_dir, 1}, {op_exchange, 3},
	{op_unlink, 10},     {op_mkdir, 3},   {op_rmdir, 2},	  {op_chmod, 8},
	{op_utimens, 5},     {op_symlink, 4}, {op_link, 5},	  {op_save, 10},
	{op_save_backup, 4}, {op_remake, 8},  {op_map, 4},	  {op_own, 8},
	{op_checkout, 1},
};
enum { OPS = sizeof(ops) / sizeof(ops[0]) };

static void change(unsigned count)
{
	unsigned total = 0;

	for (int i = 0; i < OPS; i++)
		total += ops[i].weight;
	while (count-- > 0) {
		unsigned pick = (unsigned)prng_below(&rng, total);
		int i = 0;

		for (; pick >= ops[i].weight; i++)
			pick -= ops[i].weight;
		ops[i].fn();
	}
}

_Noreturn void writer_main(struct world *w, unsigned me, unsigned at)
{
	const struct settings *set = world_settings(w);
	unsigned step = 0;
	enum phase phase;

	world = w;
	id = me;
	place = at;
	rng.state = set->seed * 1000003 + me;
	for (unsigned i = 1; i < set->places && place != 0; i++) {
		view_init(&views[i], w, me, i);
		views[i].instant = true;
		views[i].found = &differing;
	}
	if (chdir(set->place[at]) != 0)
		err(3, "%s", set->place[at]);
	(void)umask(022);
	while ((phase = world_next(w, &step)) != PHASE_END) {
		if (phase == PHASE_RUN)
			change(world_round(w)->ops);
		world_arrive(w);
	}
	_exit(0);
}
