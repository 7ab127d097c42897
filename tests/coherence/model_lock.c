/*
 * Locks of five kinds: fcntl(2) by process and by open file description, flock(2), files made with
 * O_EXCL, and directories. Who has one counts itself in, so that a lock that is given twice is
 * noticed whatever the file system says; and says when it begins to let go: by then the next one
 * cannot have it yet, so that all that has returned by then shows to the next one.
 */
#include "model.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define TRIES 300

static enum lock_kind kind_of(unsigned i)
{
	return i / (LOCKS / LOCK_KINDS);
}

static const char *lock_name(unsigned i)
{
	static const char *const names[LOCK_KINDS] = {"fcntl lock", "OFD lock", "flock",
						      "lock file", "lock directory"};

	return names[kind_of(i)];
}

/* In the directories whose names are changed under them. */
static void lock_path(unsigned i, char *to, size_t size)
{
	(void)snprintf(to, size, "%s/lock%u", dir_path(i % DIRS), i);
}

/* As fcntl(2) has them: F_RDLCK, F_WRLCK, F_UNLCK. */
static int call(struct actor *a, unsigned i, short type, bool wait)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
	int op = type == F_UNLCK ? LOCK_UN : type == F_RDLCK ? LOCK_SH : LOCK_EX;
	char path[32];
	int fd;

	lock_path(i, path, sizeof(path));
	switch (kind_of(i)) {
	case LOCK_FCNTL:
		return fcntl(a->lock_fd[i], wait ? F_SETLKW : F_SETLK, &l);
	case LOCK_OFD:
		return fcntl(a->lock_fd[i], wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
	case LOCK_FLOCK:
		return flock(a->lock_fd[i], op | (wait ? 0 : LOCK_NB));
	case LOCK_FILE:
		if (type == F_UNLCK)
			return unlinkat(a->at, path, 0);
		fd = openat(a->at, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		return fd < 0 ? -1 : close(fd);
	default:
		if (type == F_UNLCK)
			return unlinkat(a->at, path, AT_REMOVEDIR);
		return mkdirat(a->at, path, 0700);
	}
}

static void raise_to(_Atomic uint64_t *time, uint64_t to)
{
	uint64_t now = atomic_load(time);

	while (now < to && !atomic_compare_exchange_weak(time, &now, to))
		;
}

static void granted(struct actor *a, unsigned i, bool exclusive, const struct look *l)
{
	struct lock *lock = &a->m->lock[i];
	uint64_t since = l->begin;
	bool alone;

	if (exclusive)
		alone = atomic_fetch_add(&lock->writers, 1) == 0 &&
			atomic_load(&lock->readers) == 0;
	else
		alone = (atomic_fetch_add(&lock->readers, 1), atomic_load(&lock->writers) == 0);
	atomic_fetch_add(&a->m->tally.locked, 1);
	check_call(l, alone);
	if (!alone)
		report(l, -1, NULL, "%s %u was given to two", lock_name(i), i);
	uint64_t released = atomic_load(&lock->write_released);
	since = released > since ? released : since;
	released = atomic_load(&lock->read_released);
	if (exclusive && released > since)
		since = released;
	if (a->m->set.synchronises == SYNC_ALL ||
	    (a->m->set.synchronises == SYNC_LOCKS && kind_of(i) <= LOCK_FLOCK))
		actor_synchronised(a, lock_name(i), since);
}

static void letting_go(struct actor *a, unsigned i, bool exclusive)
{
	struct lock *lock = &a->m->lock[i];

	atomic_fetch_sub(exclusive ? &lock->writers : &lock->readers, 1);
	raise_to(exclusive ? &lock->write_released : &lock->read_released, now_ns());
}

/* Nobody waits for a file: it is tried again. */
static bool take(struct actor *a, unsigned i, bool exclusive)
{
	bool by_name = kind_of(i) >= LOCK_FILE, wait = !by_name && chance(a, 70);
	short type = exclusive ? F_WRLCK : F_RDLCK;

	for (unsigned tries = 0; tries < TRIES && !atomic_load(&a->m->stop); tries++) {
		struct look l = look_begin(a, lock_name(i));

		if (call(a, i, type, wait) == 0) {
			look_end(&l);
			atomic_fetch_add(&a->m->tally.waited, wait || tries > 0);
			granted(a, i, exclusive, &l);
			return true;
		}
		if (errno != EAGAIN && errno != EACCES && errno != EEXIST && errno != EINTR)
			err(3, "%s", lock_name(i));
		if (!by_name)
			return false;
		(void)sched_yield();
	}
	return false;
}

/*
 * From shared to exclusive or back. flock(2) lets go before it takes, and may end with nothing;
 * fcntl(2) changes at once.
 */
static bool change_to(struct actor *a, unsigned i, bool exclusive)
{
	struct look l = look_begin(a, lock_name(i));
	bool releases = kind_of(i) == LOCK_FLOCK;

	if (releases || !exclusive)
		letting_go(a, i, !exclusive);
	if (!releases && !exclusive) /* others may have it shared as soon as the call begins */
		atomic_fetch_add(&a->m->lock[i].readers, 1);
	int r = call(a, i, exclusive ? F_WRLCK : F_RDLCK, false);
	look_end(&l);
	if (r != 0 && errno != EAGAIN && errno != EACCES)
		err(3, "%s", lock_name(i));
	if (!releases && (r == 0 || !exclusive))
		atomic_fetch_sub(&a->m->lock[i].readers, 1);
	if (r != 0)
		return false;
	atomic_fetch_add(exclusive ? &a->m->tally.raised : &a->m->tally.lowered, 1);
	granted(a, i, exclusive, &l);
	return true;
}

static void under_lock(struct actor *a)
{
	unsigned looks = a->place == 0 ? 1 : 4;

	for (unsigned i = 1 + (unsigned)prng_below(&a->rng, 3); i > 0; i--) {
		if (chance(a, a->place == 0 ? 80 : 25))
			change_some(a);
		for (unsigned k = (unsigned)prng_below(&a->rng, looks + 1); k > 0; k--)
			look_some(a);
	}
}

void lock_session(struct actor *a)
{
	unsigned first = a->m->set.locks ? 0 : LOCKS - LOCKS / LOCK_KINDS * 2;
	unsigned i = first + (unsigned)prng_below(&a->rng, LOCKS - first);
	bool exclusive = kind_of(i) >= LOCK_FILE || chance(a, 65), has = take(a, i, exclusive);

	if (!has)
		return;
	under_lock(a);
	if (kind_of(i) < LOCK_FILE && chance(a, 30)) {
		has = change_to(a, i, !exclusive);
		/* Who did not get it has what it had, but for flock(2). */
		if (has)
			exclusive = !exclusive;
		else
			has = kind_of(i) != LOCK_FLOCK;
		if (has)
			under_lock(a);
	}
	if (has)
		letting_go(a, i, exclusive);
	if (call(a, i, F_UNLCK, false) != 0)
		err(3, "%s: letting go", lock_name(i));
}

void lock_init(struct actor *a)
{
	char path[32];

	for (unsigned i = 0; i < LOCKS; i++) {
		if (kind_of(i) >= LOCK_FILE)
			continue;
		lock_path(i, path, sizeof(path));
		a->lock_fd[i] = openat(a->at, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (a->lock_fd[i] < 0)
			err(3, "%s", path);
	}
}
