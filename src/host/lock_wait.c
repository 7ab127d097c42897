/*
 * Locks that have to wait: a thread each, cancelling them, and the search for
 * deadlocks among our own POSIX owners.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "core/cleanup.h"
#include "host/lock_priv.h"

#define DEADLOCK_STEPS	100000	/* the search ends there, as the kernel's after 10 owners */
#define CANCEL_AGAIN_NS 2000000 /* a signal may come just before the system call it is to end */
#define CANCEL_TRIES	500	/* then lock_cancel leaves it to the file system */

/*
 * True if the owner of w waits, over any number of other owners, for itself. All
 * that is read here is covered by t->mutex, which nobody else gets meanwhile. A breadth-first
 * search over waiters; the mark is the search's number.
 */
static bool deadlock_locked(struct locks *t, struct waiter *w)
{
	struct waiter *first = w, *last = w;
	size_t steps = 0;

	w->mark = ++t->search;
	w->queued = NULL;
	for (; first != NULL; first = first->queued) {
		for (struct lock_file *f = first->node->files; f != NULL; f = f->next) {
			steps += 1 + (f->bsd ? 0 : f->ranges.n);
			if (steps > DEADLOCK_STEPS)
				return false;
			if (f == first->file || f->bsd ||
			    ranges_conflict(&f->ranges, first->q.start, first->q.end,
					    first->q.type) == NULL)
				continue;
			if (f->session == w->session && f->owner == w->q.owner)
				return true;
			for (struct waiter *o = f->session->waiters; o != NULL; o = o->next) {
				if (o->q.owner != f->owner || o->q.bsd || o->left ||
				    o->mark == t->search)
					continue;
				o->mark = t->search;
				o->queued = NULL;
				last->queued = o;
				last = o;
			}
		}
	}
	return false;
}

/* Blocks until the host grants the lock, or the waiter is cancelled. */
static int waiter_wait(struct waiter *w)
{
	struct locks *t = w->session->locks;
	struct lock_file *f = w->file;

	for (;;) {
		unsigned generation;
		{
			SCOPE_LOCK(&t->mutex);
			generation = f->generation;
			if (w->cancelled)
				return -EINTR;
		}
		int r = lock_host(f, &w->q, true);
		if (r == -EINTR)
			continue;
		if (r < 0)
			return r;
		SCOPE_LOCK(&w->node->mutex);
		/* Another close(2) of this owner released all its locks, maybe this one too: try
		 * again. */
		if (generation == f->generation) {
			r = lock_record(t, f, &w->q);
			lock_file_record(w->node, f);
			return r;
		}
	}
}

static void *waiter_main(void *arg)
{
	struct waiter *w = arg;
	struct locks *t = w->session->locks;
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, LOCK_SIGNAL);
	(void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	int r = waiter_wait(w);
	{
		SCOPE_LOCK(&w->node->mutex);
		{
			SCOPE_LOCK(&t->mutex);
			w->left = true; /* from here on no signal comes */
			w->file->waiters--;
			w->session->n_waiters--;
			(void)pthread_cond_broadcast(&t->cond);
		}
		lock_settle(t, w->node, w->file);
	}
	w->wait.done(w->wait.arg, r);
	{
		SCOPE_LOCK(&t->mutex);
		w->finished = true;
		share_give(&w->session->waiting, 1);
	}
	return NULL;
}

void lock_reap(struct lock_session *s, bool all)
{
	struct locks *t = s->locks;

	for (;;) {
		struct waiter *w;
		{
			SCOPE_LOCK(&t->mutex);
			struct waiter **at = &s->waiters;

			while (*at != NULL && !((*at)->finished && (*at)->pins == 0) && !all)
				at = &(*at)->next;
			w = *at;
			if (w == NULL)
				return;
			if (!w->finished) {
				/* the search for deadlocks must find the waiter until it has
				 * left */
				while (!w->left)
					(void)pthread_cond_wait(&t->cond, &t->mutex);
				at = &s->waiters;
				while (*at != w)
					at = &(*at)->next;
			}
			*at = w->next;
		}
		(void)pthread_join(w->thread, NULL);
		lock_node_put(t, w->node);
		free(w);
	}
}

int lock_start_waiter(struct lock_session *s, struct lock_node *ln, struct lock_file *f,
		      const struct lock_request *q, const struct lock_wait *wait)
{
	struct locks *t = s->locks;
	struct waiter *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return -ENOMEM;
	w->session = s;
	w->node = ln;
	w->file = f;
	w->q = *q;
	w->wait = *wait;
	SCOPE_LOCK(&t->mutex);
	bool room = s->n_waiters < LOCK_WAITERS_MAX && !s->ending && share_take(&s->waiting, 1);
	int r = room ? 0 : -ENOLCK;
	if (r == 0 && !q->bsd && deadlock_locked(t, w))
		r = -EDEADLK;
	if (r == 0)
		r = -pthread_create(&w->thread, &t->attr, waiter_main, w);
	if (r < 0) {
		if (room)
			share_give(&s->waiting, 1);
		free(w);
		return r == -EAGAIN ? -ENOLCK : r; /* no thread: not "somebody has it" */
	}
	f->waiters++;
	w->next = s->waiters;
	s->waiters = w;
	s->n_waiters++;
	return -EINPROGRESS;
}

void lock_cancel_locked(struct locks *t, struct waiter *w)
{
	w->cancelled = true;
	for (int i = 0; !w->left && i < CANCEL_TRIES; i++) {
		struct timespec until;

		(void)pthread_kill(w->thread, LOCK_SIGNAL);
		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += CANCEL_AGAIN_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		(void)pthread_cond_timedwait(&t->cond, &t->mutex, &until);
	}
}

void lock_cancel(struct lock_session *s, uint64_t id)
{
	SCOPE_LOCK(&s->locks->mutex);
	struct waiter *w = s->waiters;

	while (w != NULL && (w->wait.id != id || w->left))
		w = w->next;
	if (w == NULL)
		return;
	w->pins++;
	lock_cancel_locked(s->locks, w);
	w->pins--;
	(void)pthread_cond_broadcast(&s->locks->cond);
}
