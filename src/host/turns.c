#include "host/turns.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "core/cleanup.h"
#include "host/session.h"
#include "host/share.h"
#include "transport/stream.h"

struct turns {
	struct stream *stream;
	void (*work)(void *arg);
	void *arg;

	/*
	 * The thread that has the turn passes it on by arming one of two descriptors,
	 * each for one event and one thread: the socket, or, when the next frame is in
	 * the stream's buffer already, an eventfd that is always readable. So no thread is
	 * woken before there is something to read.
	 */
	int fd;
	int epoll;
	int event;

	pthread_mutex_t mutex;
	/* mutex: */
	bool closing;
	struct {
		pthread_t id;
		bool shared; /* it is of the share */
		bool done;   /* it has nothing more to do but to be joined */
	} threads[TURNS_THREADS_MAX + SESSION_SLOTS];
	unsigned n_threads;
	unsigned n_live;     /* of these, those that are not done */
	struct share shared; /* for those beyond the ones that a connection has in any case */
	unsigned idle;	     /* threads that wait for the turn */
	unsigned waiting;    /* threads that wait for acknowledgements of other clients */
};

static void arm(struct turns *t, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events};

	if (epoll_ctl(t->epoll, EPOLL_CTL_MOD, fd, &ev) < 0 && errno == ENOENT)
		(void)epoll_ctl(t->epoll, EPOLL_CTL_ADD, fd, &ev); /* see turns_start */
}

static void *thread_main(void *arg)
{
	struct turns *t = arg;

	t->work(t->arg);
	return NULL;
}

static void reap_locked(struct turns *t)
{
	for (unsigned i = t->n_threads; i-- > 0;) {
		if (!t->threads[i].done)
			continue;
		(void)pthread_join(t->threads[i].id, NULL);
		t->threads[i] = t->threads[--t->n_threads];
	}
}

/* The first thread, which is not counted, may wait for others as well. */
static void spawn_locked(struct turns *t)
{
	unsigned replaced = t->waiting < TURNS_WAITING_SURE ? t->waiting : TURNS_WAITING_SURE;
	bool sure = t->n_live < TURNS_THREADS_SURE + replaced;

	if (t->idle > 0 || t->n_live >= TURNS_THREADS_MAX + t->waiting || t->closing)
		return;
	reap_locked(t);
	if (t->n_threads == sizeof(t->threads) / sizeof(t->threads[0]) ||
	    (!sure && !share_take(&t->shared, 1)))
		return;
	t->threads[t->n_threads].shared = !sure;
	t->threads[t->n_threads].done = false;
	if (pthread_create(&t->threads[t->n_threads].id, NULL, thread_main, t) == 0) {
		t->n_threads++;
		t->n_live++;
	} else if (!sure) {
		share_give(&t->shared, 1);
	}
}

/* Whether this thread, which had nothing to do for a time, goes: others need its share. */
static bool retire_locked(struct turns *t)
{
	if (t->closing || t->idle == 0 || t->n_live <= TURNS_THREADS_SURE)
		return false;
	for (unsigned i = 0; i < t->n_threads; i++) {
		if (!pthread_equal(t->threads[i].id, pthread_self()))
			continue;
		t->threads[i].done = true;
		t->n_live--;
		if (t->threads[i].shared)
			share_give(&t->shared, 1);
		return true;
	}
	return false; /* the connection's own */
}

bool turn_take(struct turn *turn)
{
	struct turns *t = turn->turns;
	struct epoll_event ev;
	int n;

	turn->mine = false;
	do {
		bool further;
		{
			SCOPE_LOCK(&t->mutex);
			t->idle++;
			further = t->n_live > TURNS_THREADS_SURE;
		}
		do {
			n = epoll_wait(t->epoll, &ev, 1, further ? TURNS_IDLE_MS : -1);
		} while (n < 0 && errno == EINTR);
		SCOPE_LOCK(&t->mutex);
		t->idle--;
		if (n == 0 && retire_locked(t))
			return false;
		turn->mine = n == 1 && !t->closing;
		if (t->closing)
			return false;
	} while (n == 0);
	return turn->mine;
}

void turn_pass(struct turn *turn)
{
	struct turns *t = turn->turns;

	if (!turn->mine)
		return;
	turn->mine = false;
	/* Read before the mutex is taken: the thread with the next turn takes it as well. */
	bool more = stream_buffered(t->stream);
	SCOPE_LOCK(&t->mutex);
	if (t->closing) /* the end wakes all threads: none of them may take that for a turn */
		return;
	spawn_locked(t);
	if (more)
		arm(t, t->event, EPOLLIN | EPOLLONESHOT);
	else
		arm(t, t->fd, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT);
}

void turn_leave(struct turn *turn)
{
	SCOPE_LOCK(&turn->turns->mutex);
	turn->turns->waiting++;
	spawn_locked(turn->turns);
}

void turn_return(struct turn *turn)
{
	SCOPE_LOCK(&turn->turns->mutex);
	turn->turns->waiting--;
}

/* ---- setting up and ending ---- */

int turns_new(struct stream *stream, int fd, struct share_pool *threads, struct turns **ret)
{
	struct turns *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	t->stream = stream;
	t->fd = fd;
	share_init(&t->shared, threads);
	(void)pthread_mutex_init(&t->mutex, NULL);
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	t->event = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->epoll < 0 || t->event < 0) {
		int r = -errno;

		turns_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

int turns_start(struct turns *t, void (*work)(void *arg), void *arg)
{
	struct epoll_event later = {.events = EPOLLONESHOT};
	struct epoll_event now = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT};

	t->work = work;
	t->arg = arg;
	/* Never both armed: even without EPOLLIN a socket reports EPOLLHUP. */
	if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->event, &later) < 0 ||
	    epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->fd, &now) < 0)
		return -errno; /* EPERM: epoll cannot wait for this kind of descriptor */
	/* A client may send more right behind its last RESUME. */
	if (stream_buffered(t->stream)) {
		(void)epoll_ctl(t->epoll, EPOLL_CTL_DEL, t->fd, &now);
		arm(t, t->event, EPOLLIN | EPOLLONESHOT);
	}
	return 0;
}

bool turns_end(struct turns *t)
{
	SCOPE_LOCK(&t->mutex);
	bool first = !t->closing;

	t->closing = true;
	arm(t, t->event, EPOLLIN); /* without EPOLLONESHOT: every thread wakes up */
	return first;
}

void turns_join(struct turns *t)
{
	/* No thread is started after closing was set. */
	for (unsigned i = 0; i < t->n_threads; i++)
		(void)pthread_join(t->threads[i].id, NULL);
}

void turns_free(struct turns *t)
{
	if (t == NULL)
		return;
	share_give(&t->shared, atomic_load(&t->shared.own));
	cleanup_close(&t->epoll);
	cleanup_close(&t->event);
	(void)pthread_mutex_destroy(&t->mutex);
	free(t);
}
