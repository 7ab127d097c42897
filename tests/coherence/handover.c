/*
 * handover: the host and mounts of it take turns, in several directories at once. Whoever has the
 * turn finds all that the last one left: the bytes of a file, the size of another, and a name.
 *
 *   handover [--turns N] [--pairs N] WAY[,WAY...] HOST MOUNT...
 *
 * The turn is handed over by a lock (fcntl, ofd, flock: at once, waited for, raised, lowered), a
 * file made with O_EXCL (lockfile), a directory (lockdir), or a name that is taken by renaming it
 * (rename); all in the directory whose files are changed under it.
 *
 * Each process has its turn so many times; what is found wrong is counted. Several pairs: who
 * passes an invalidation on then waits for a CPU longer than the reply that grants the lock.
 *
 * Exit code: 0 well, 1 not, 2 usage, 3 could not go on.
 */
#include "child.h"
#include "clock.h"
#include "options.h"
#include "tree.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PLACES_MAX 4
#define PAIRS_MAX  16
#define LEN	   20
#define TEXT_LEN   32
#define AHEAD	   2
#define STUCK_NS   UINT64_C(120000000000)

enum way { FCNTL, OFD, FLOCK, LOCKFILE, LOCKDIR, RENAME, WAYS };
static const char *const way_name[WAYS] = {"fcntl",    "ofd",	  "flock",
					   "lockfile", "lockdir", "rename"};

enum wrong { BYTES, BYTES_ANEW, SIZE, END, NAME, OLD_NAME, TWO, WRONGS };
static const char *const wrong_name[WRONGS] = {
	"bytes", "bytes after open", "size", "bytes at the end", "name", "old name", "two had it",
};

struct pair {
	atomic_int holders; /* that change something */
	atomic_long truth;  /* how often it was changed; who may change it has the turn */
	atomic_long turns[PLACES_MAX], wrong[PLACES_MAX][WRONGS];
};

static struct shared {
	atomic_bool stop;
	struct pair pair[PAIRS_MAX];
} * shared;

static unsigned long turns = 100, pairs = 4;
static char place[PLACES_MAX][PATH_MAX];
static unsigned places;

/* ---- one process ----------------------------------------------------------------------------- */

struct side {
	struct pair *p;
	enum way way;
	unsigned place;
	int dir, bytes, log, lock;
	bool on_bytes; /* the lock is on the file that is changed under it */
	long turn;
};

static void found(struct side *s, enum wrong w, bool right)
{
	if (!right)
		atomic_fetch_add(&s->p->wrong[s->place][w], 1);
}

static int open_in(const struct side *s, const char *name, int flags)
{
	int fd = openat(s->dir, name, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		err(3, "%s in place %u", name, s->place);
	return fd;
}

/* ---- the turn -------------------------------------------------------------------------------- */

static int call(const struct side *s, short type, bool wait)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = 1 << 20, .l_len = 1};
	char mine[16];
	int fd;

	(void)snprintf(mine, sizeof(mine), "token%u", s->place);
	switch (s->way) {
	case FCNTL:
		return fcntl(s->lock, wait ? F_SETLKW : F_SETLK, &l);
	case OFD:
		return fcntl(s->lock, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
	case FLOCK:
		return flock(s->lock, (type == F_UNLCK	 ? LOCK_UN
				       : type == F_RDLCK ? LOCK_SH
							 : LOCK_EX) |
					      (wait ? 0 : LOCK_NB));
	case LOCKFILE:
		if (type == F_UNLCK)
			return unlinkat(s->dir, "lock", 0);
		fd = openat(s->dir, "lock", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		return fd < 0 ? -1 : close(fd);
	case LOCKDIR:
		return type == F_UNLCK ? unlinkat(s->dir, "lock", AT_REMOVEDIR)
				       : mkdirat(s->dir, "lock", 0755);
	default:
		return type == F_UNLCK ? renameat(s->dir, mine, s->dir, "token")
				       : renameat(s->dir, "token", s->dir, mine);
	}
}

static bool refused(const struct side *s)
{
	if (s->way <= FLOCK)
		return errno == EAGAIN || errno == EACCES || errno == EINTR;
	return errno == (s->way == RENAME ? ENOENT : EEXIST);
}

static bool ask(struct side *s, short type, bool wait)
{
	if (call(s, type, wait) == 0)
		return true;
	if (!refused(s))
		err(3, "%s in place %u", way_name[s->way], s->place);
	return false;
}

static void take(struct side *s, short type)
{
	uint64_t begun = now_ns();

	while (!ask(s, type, s->turn % 2 == 0)) {
		if (now_ns() - begun > STUCK_NS)
			errx(3, "%s in place %u: not had", way_name[s->way], s->place);
		pause_for_a_moment();
	}
}

static void let_go(struct side *s)
{
	if (call(s, F_UNLCK, false) != 0)
		err(3, "%s in place %u: letting go", way_name[s->way], s->place);
}

/* ---- what is handed over --------------------------------------------------------------------- */

static void text_of(char *to, long n)
{
	(void)snprintf(to, TEXT_LEN, "%0*ld\n", LEN - 1, n);
}

static void name_of(char *to, size_t size, long n)
{
	(void)snprintf(to, size, "name%ld", n % 1000);
}

static bool has(int fd, const char *text, off_t at)
{
	char is[LEN + 1] = "";

	return pread(fd, is, LEN, at) == LEN && memcmp(is, text, LEN) == 0;
}

static bool there(const struct side *s, const char *name)
{
	struct stat st;

	if (fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return true;
	if (errno != ENOENT)
		err(3, "%s in place %u", name, s->place);
	return false;
}

static void check(struct side *s)
{
	long n = atomic_load(&s->p->truth);
	char text[TEXT_LEN], name[16], old[16];
	struct stat st;

	text_of(text, n);
	name_of(name, sizeof(name), n);
	name_of(old, sizeof(old), n - 1);
	if (s->turn % 2 == 0)
		found(s, NAME, there(s, name));
	found(s, BYTES, has(s->bytes, text, 0));
	if (fstatat(s->dir, "log", &st, 0) != 0)
		err(3, "log in place %u", s->place);
	found(s, SIZE, st.st_size == n * LEN);
	found(s, END, n == 0 || has(s->log, text, (n - 1) * LEN));
	found(s, NAME, there(s, name));
	found(s, OLD_NAME, n == 0 || !there(s, old));
	if (s->way == FCNTL && s->on_bytes)
		return; /* close(2) would let go */
	int anew = open_in(s, "bytes", O_RDONLY);
	found(s, BYTES_ANEW, has(anew, text, 0));
	(void)close(anew);
}

static void change(struct side *s)
{
	long n = atomic_load(&s->p->truth) + 1;
	char text[TEXT_LEN], name[16], old[16];

	text_of(text, n);
	name_of(name, sizeof(name), n);
	name_of(old, sizeof(old), n - 1);
	if (renameat(s->dir, old, s->dir, name) != 0) {
		if (errno != ENOENT || s->place == 0)
			err(3, "%s in place %u", old, s->place);
		found(s, NAME, false);
		return;
	}
	if (pwrite(s->bytes, text, LEN, 0) != LEN ||
	    pwrite(s->log, text, LEN, (n - 1) * LEN) != LEN)
		err(3, "a write in place %u", s->place);
	atomic_store(&s->p->truth, n);
}

/* With the lock held exclusively, and alone. */
static void have_turn(struct side *s)
{
	found(s, TWO, atomic_fetch_add(&s->p->holders, 1) == 0);
	check(s);
	/* A mount looks more than it changes: a change of its own would bring fresh attributes. */
	if (s->place == 0 || s->turn % 3 == 0)
		change(s);
	atomic_fetch_sub(&s->p->holders, 1);
}

/* Shared at first; raised if nobody else has it, and lowered again. */
static void have_raised_turn(struct side *s)
{
	take(s, F_RDLCK);
	check(s);
	if (ask(s, F_WRLCK, false)) {
		have_turn(s);
		if (!ask(s, F_RDLCK, false))
			errx(3, "%s in place %u was not lowered", way_name[s->way], s->place);
		check(s);
	}
}

/* The host is faster than any mount: nobody gets further ahead of the slowest than this. */
static void let_others(struct side *s)
{
	for (unsigned p = 0; p < places; p++)
		while (atomic_load(&s->p->turns[s->place]) > atomic_load(&s->p->turns[p]) + AHEAD &&
		       !atomic_load(&shared->stop))
			pause_for_a_moment();
}

static _Noreturn void work(struct side *s)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/pair%d", place[s->place],
		       (int)(s->p - shared->pair));
	uint64_t begun = now_ns();
	while ((s->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
	       !there(s, "ready")) {
		if (now_ns() - begun > STUCK_NS)
			err(3, "%s", path);
		pause_for_a_moment();
		if (s->dir >= 0)
			(void)close(s->dir);
	}
	s->bytes = open_in(s, "bytes", O_RDWR);
	s->log = open_in(s, "log", O_RDWR);
	s->on_bytes = (s->p - shared->pair) % 2 == 0;
	s->lock = open_in(s, s->on_bytes ? "bytes" : "held", O_RDWR);
	while (!atomic_load(&shared->stop)) {
		s->turn++;
		if (s->way <= OFD && s->turn % 4 == 0) {
			have_raised_turn(s);
		} else {
			take(s, F_WRLCK);
			have_turn(s);
		}
		let_go(s);
		if (atomic_fetch_add(&s->p->turns[s->place], 1) + 1 == (long)turns)
			child_says();
		let_others(s);
	}
	_exit(0);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void make_pair(unsigned i)
{
	static const char *const names[] = {"bytes", "log", "held", "token", "name0", "ready"};
	char path[PATH_MAX + 32], text[TEXT_LEN];

	(void)snprintf(path, sizeof(path), "%s/pair%u", place[0], i);
	if (mkdir(path, 0755) != 0)
		err(3, "%s", path);
	text_of(text, 0);
	for (unsigned k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
		(void)snprintf(path, sizeof(path), "%s/pair%u/%s", place[0], i, names[k]);
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0 || (k == 0 && write(fd, text, LEN) != LEN))
			err(3, "%s", path);
		(void)close(fd);
	}
}

static bool all_had(void)
{
	for (unsigned i = 0; i < pairs; i++)
		for (unsigned p = 0; p < places; p++)
			if (atomic_load(&shared->pair[i].turns[p]) < (long)turns)
				return false;
	return true;
}

static void wait_for_all(unsigned processes)
{
	const uint64_t until = now_ns() + 4 * STUCK_NS;
	int status;

	while (!all_had()) {
		child_hear(until);
		if (waitpid(-1, &status, WNOHANG) > 0)
			errx(3, "a process ended");
		if (now_ns() > until)
			errx(3, "not all had their turns");
	}
	atomic_store(&shared->stop, true);
	for (unsigned i = 0; i < processes; i++)
		if (wait(&status) < 0 || status != 0)
			errx(3, "a process ended with status %#x", (unsigned)status);
}

static long print_sum(enum way way)
{
	long all = 0;

	for (unsigned p = 0; p < places; p++) {
		long had = 0;

		for (unsigned i = 0; i < pairs; i++)
			had += atomic_load(&shared->pair[i].turns[p]);
		printf("%s: place %u: %ld turns; wrong:", way_name[way], p, had);
		for (unsigned w = 0; w < WRONGS; w++) {
			long n = 0;

			for (unsigned i = 0; i < pairs; i++)
				n += atomic_load(&shared->pair[i].wrong[p][w]);
			if (n > 0)
				printf(" %s %ld,", wrong_name[w], n);
			all += n;
		}
		printf(" of all so far %ld\n", all);
	}
	return all;
}

static long run(enum way way)
{
	char path[PATH_MAX + 32];

	memset(shared, 0, sizeof(*shared));
	for (unsigned i = 0; i < pairs; i++) {
		make_pair(i);
		for (unsigned p = 0; p < places; p++) {
			struct side s = {.p = &shared->pair[i], .way = way, .place = p, .turn = i};
			if (child_fork() == 0)
				work(&s);
		}
	}
	wait_for_all((unsigned)pairs * places);
	for (unsigned i = 0; i < pairs; i++) {
		(void)snprintf(path, sizeof(path), "%s/pair%u", place[0], i);
		if (tree_remove(path) != 0)
			err(3, "%s", path);
	}
	return print_sum(way);
}

static enum way way_of(const char *text)
{
	for (unsigned w = 0; w < WAYS; w++)
		if (strcmp(text, way_name[w]) == 0)
			return w;
	errx(2, "no way '%s'", text);
}

/* Each run has directories that no mount has looked for before. */
static void make_places(char **argv, enum way way)
{
	for (unsigned p = 0; p < places; p++)
		(void)snprintf(place[p], sizeof(place[p]), "%s/handover-%s-%d", argv[p],
			       way_name[way], (int)getpid());
	if (mkdir(place[0], 0755) != 0)
		err(3, "%s", place[0]);
}

static const struct option_row rows[] = {
	{"turns", "N", "of each process: 100", .number = &turns},
	{"pairs", "N", "directories in which they take turns: 4", .number = &pairs},
	{0},
};

static const struct options options = {
	.usage = "WAY[,WAY...] HOST MOUNT...",
	.row = rows,
	.exit_codes = "0 well, 1 not",
};

int main(int argc, char **argv)
{
	long wrong = 0;
	int first = options_parse(&options, argc, argv);

	places = (unsigned)(argc - first - 1);
	if (argc - first < 3 || places > PLACES_MAX || pairs == 0 || pairs > PAIRS_MAX)
		options_wrong(&options);
	child_hear_begin();
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	shared = child_memory(sizeof(*shared));
	for (char *w = strtok(argv[first], ","); w != NULL; w = strtok(NULL, ",")) {
		enum way way = way_of(w);

		make_places(argv + first + 1, way);
		wrong += run(way);
		(void)rmdir(place[0]);
	}
	return wrong != 0;
}
