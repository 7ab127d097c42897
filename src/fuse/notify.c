/*
 * The notifiers, and what is asked of them. notify_queue.c is their queue, notify_kernel.c what
 * each item does, notify_wait.c who waits for them.
 */
#include "fuse/notify_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/clock.h"
#include "core/fault.h"
#include "fuse/fs_priv.h"
#include "fuse/mounts.h"

#define RETRY_FIRST   (1 * MS) /* doubled each time, */
#define RETRY_DOUBLED 5	       /* this often */
#define QUEUE_FULL    4096 /* items, from which on names that nobody knows are not told one by one */

/* ---- the notifiers ---- */

/* The next to be done; NULL: none now, and *ret_until tells when to look again. */
static struct notification *next_locked(struct shard *s, uint64_t *ret_until)
{
	const struct notify *n = s->notify;
	struct notification *i = s->waiting;

	if (i != NULL && i->not_before <= cache_now()) {
		shard_unwait_locked(s, i);
		return i;
	}
	*ret_until = i != NULL ? i->not_before : UINT64_MAX;
	if (n->n_acks > 0 && n->acks[0].deadline < *ret_until)
		*ret_until = n->acks[0].deadline;
	for (const struct notify_fence *f = n->fences; f != NULL; f = f->next)
		if (f->not_before > 0 && f->not_before < *ret_until)
			*ret_until = f->not_before;
	i = s->head;
	if (i != NULL) {
		s->head = i->next;
		if (s->head == NULL)
			s->tail = &s->head;
	}
	return i;
}

/*
 * The notification waits for unpark, or for PARK_MAX, from before the look whether it has to: for
 * unpark may come right after that look. Returns whether it is parked for the first time.
 */
static bool parks(struct shard *s, struct notification *i)
{
	SCOPE_LOCK(&s->notify->lock);
	bool first = !i->parked;

	i->parked = true;
	shard_wait_locked(s, i, cache_now() + PARK_MAX);
	return first;
}

/*
 * The notification does not have to wait. It still is in the list: unpark only moves it to the
 * front, and one that is added is not merged into it.
 */
static void parks_not(struct shard *s, struct notification *i)
{
	SCOPE_LOCK(&s->notify->lock);
	shard_unwait_locked(s, i);
	i->parked = false;
}

/*
 * inval_entry waits for the lock of the directory, which a request in flight
 * there may hold until the host answers; and once it waits, nobody else gets
 * the lock. So it lets such a request end first.
 */
static enum outcome do_entry(struct shard *s, struct notification *i)
{
	struct notify *n = s->notify;
	struct cache *c = n->fs->cache;
	bool late = cache_now() - i->born >= PARK_MAX && cache_link_alive(c);

	if (i->nothing || (i->tries > 0 && !i->expires))
		return notify_do_entry(n, i);
	bool first = parks(s, i);
	if (cache_dir_park(c, i->ino, late)) {
		stats_add(n->fs->stats, STAT_inval_parked, first);
		return PARKED;
	}
	parks_not(s, i);
	return notify_do_entry(n, i);
}

/* An item that is to come after all others of its file waits for pages that are parked, too. */
static bool parks_behind_pages(struct shard *s, struct notification *i)
{
	SCOPE_LOCK(&s->notify->lock);
	const struct notification *w = s->notify->pages_parked > 0 ? s->waiting : NULL;

	while (w != NULL && !(w->pages_parked && w->data && w->ino == i->ino))
		w = w->next;
	if (w == NULL)
		return false;
	i->parked = true;
	shard_wait_locked(s, i, cache_now() + PARK_MAX);
	return true;
}

/* Dropping a page waits for its lock, which a READ or WRITE in flight holds. */
static enum outcome do_inode(struct shard *s, struct notification *i)
{
	struct notify *n = s->notify;

	if (i->nothing && (i->done != NULL || i->asks) && parks_behind_pages(s, i))
		return PARKED;
	if (i->nothing || !i->data)
		return notify_do_inode(n, i);
	bool first = parks(s, i);
	enum outcome o = notify_do_inode(n, i);
	if (o == PARKED)
		stats_add(n->fs->stats, STAT_inval_parked, first);
	else
		parks_not(s, i);
	return o;
}

static void again_locked(struct shard *s, struct notification *i)
{
	unsigned doubled = i->tries < RETRY_DOUBLED ? i->tries : RETRY_DOUBLED;

	/* The kernel has no such directory, and so no name in it. The reply that is to make it
	 * known may be the one that waits: it must not wait for this. */
	s->notify->backs -= i->back;
	i->back = false;
	stats_add(s->notify->fs->stats, STAT_inval_retried, 1);
	i->tries++;
	shard_wait_locked(s, i, cache_now() + (RETRY_FIRST << doubled));
	if (!i->asked)
		item_rejoin_locked(s->notify, i);
}

static void unpark_locked(struct shard *s, uint64_t ino)
{
	for (struct notification *i = s->waiting, *next; i != NULL; i = next) {
		next = i->next;
		/* what an earlier call has let go would change places for ever */
		if (i->parked && i->ino == ino && i->not_before > 0) {
			shard_unwait_locked(s, i);
			shard_wait_locked(s, i, 0);
		}
	}
	(void)pthread_cond_signal(&s->work);
}

static void execute_locked(struct shard *s, struct notification *i)
{
	struct notify *n = s->notify;

	i->running = cache_now();
	s->running = i;
	item_unhash_locked(n, i); /* what is asked for from now on is not done by it */
	(void)pthread_mutex_unlock(&n->lock);
	enum outcome o = i->asked   ? notify_do_size(n, i)
			 : i->entry ? do_entry(s, i)
				    : do_inode(s, i);
	if (o == DONE && i->asks && !i->asked && notify_ask_size(n, i))
		o = WAITS;
	if (o == DONE)
		item_done(i);
	(void)pthread_mutex_lock(&n->lock);
	s->running = NULL;
	if (o != PARKED && i->pages_parked && i->data)
		unpark_locked(s, i->ino); /* what waits behind it */
	n->pages_parked += (unsigned)(o == PARKED && !i->entry) - (unsigned)i->pages_parked;
	i->pages_parked = o == PARKED && !i->entry;
	if (i->asked)
		item_asks_locked(n, i);
	if (o == WAITS)
		return; /* it is running until the reply */
	i->running = 0;
	if (o == PARKED)
		item_rejoin_locked(n, i);
	else if (o == DONE)
		item_finish_locked(n, i);
	else
		again_locked(s, i);
}

/*
 * One turn of a notifier's loop: says what is due, and does one item. False: there was
 * none, and *ret_until is when to look again. The lock is released meanwhile.
 */
static bool turn_locked(struct shard *s, uint64_t *ret_until)
{
	notify_say_locked(s->notify);
	struct notification *i = next_locked(s, ret_until);
	if (i != NULL)
		execute_locked(s, i);
	return i != NULL;
}

static void *notify_main(void *arg)
{
	struct shard *s = arg;
	struct notify *n = s->notify;

	SCOPE_LOCK(&n->lock);
	s->tid = gettid();
	while (!n->stopping) {
		uint64_t until;

		if (turn_locked(s, &until))
			continue;
		if (n->stopping)
			break;
		if (until == UINT64_MAX) {
			(void)pthread_cond_wait(&s->work, &n->lock);
		} else {
			const struct timespec ts = clock_deadline(until);
			(void)pthread_cond_timedwait(&s->work, &n->lock, &ts);
		}
	}
	return NULL;
}

bool notify_turn(struct notify *n)
{
	bool any = false;
	uint64_t until;

	SCOPE_LOCK(&n->lock);
	for (unsigned i = 0; i < NOTIFIERS; i++)
		if (n->shards[i].running == NULL)
			any = turn_locked(&n->shards[i], &until) || any;
	return any;
}

/* ---- what is asked of them ---- */

/* From a call of the sink. */
static void add_from_sink(struct notify *n, struct notification *i)
{
	SCOPE_LOCK(&n->lock);
	i->changed = cache_changed_at(n->fs->cache);
	notify_add_locked(n, i, cache_changed_by_host(n->fs->cache));
}

static void sink_inode(void *arg, uint64_t ino, bool data)
{
	struct notify *n = arg;
	struct notification *i = item_new(ino, "", 0);

	i->data = data;
	/* the promise of the content may be used up, and what the host appends shows so only */
	i->asks = data || cache_changed_by_host(n->fs->cache);
	i->drops = data;
	add_from_sink(n, i);
}

static void sink_entry(void *arg, uint64_t parent, const char *name, size_t len, enum entry_way way)
{
	struct notification *i = item_new(parent, name, len);

	i->entry = true;
	i->way = way;
	add_from_sink(arg, i);
}

static void sink_settle(void *arg, uint64_t ino, uint32_t serial, uint32_t task, uint64_t parent,
			const char *name, size_t len)
{
	struct notify *n = arg;
	struct notification *i = item_new(parent, name, len);

	i->entry = i->settles = true;
	i->node = ino;
	i->serial = serial;
	i->task = task;
	SCOPE_LOCK(&n->lock);
	notify_add_locked(n, i, cache_changed_by_host(n->fs->cache));
}

static void sink_size(void *arg, uint64_t ino)
{
	struct notification *i = item_new(ino, "", 0);

	i->nothing = i->asks = true;
	add_from_sink(arg, i);
}

static void sink_unpark(void *arg, uint64_t ino)
{
	struct notify *n = arg;

	SCOPE_LOCK(&n->lock);
	unpark_locked(notify_shard(n, ino, true), ino);
	unpark_locked(notify_shard(n, ino, false), ino);
}

static bool sink_full(void *arg)
{
	struct notify *n = arg;

	SCOPE_LOCK(&n->lock);
	return n->count >= QUEUE_FULL;
}

static void sink_locks_lost(void *arg)
{
	const struct notify *n = arg;

	kfiles_lose_locks(n->fs);
}

const struct cache_sink notify_sink = {
	.inode = sink_inode,
	.entry = sink_entry,
	.settle = sink_settle,
	.size = sink_size,
	.full = sink_full,
	.unpark = sink_unpark,
	.mark = notify_mark,
	.locks_lost = sink_locks_lost,
};

void notify_inval_range(struct notify *n, fuse_ino_t ino, uint64_t off, uint64_t len)
{
	struct notification *i = item_new(ino, "", 0);

	cache_drops_pages(n->fs->cache, ino);
	i->data = true;
	i->drops = 1;
	i->off = off;
	i->len = len;
	notify_add(n, i);
}

void notify_moved(struct notify *n, fuse_ino_t ino)
{
	struct notification *i = item_new(ino, "", 0);

	cache_drops_pages(n->fs->cache, ino);
	i->data = i->asks = true;
	i->drops = 1;
	notify_add(n, i);
}

void notify_after(struct notify *n, fuse_ino_t ino, void (*done)(void *arg), void *arg)
{
	struct notification *i = item_new(ino, "", 0);

	i->nothing = true;
	i->done = done;
	i->arg = arg;
	notify_add(n, i);
}

void notify_inval_first(struct notify *n, fuse_ino_t ino, uint64_t off, uint64_t len,
			void (*done)(void *arg), void *arg)
{
	struct notification *i = item_new(ino, "", 0);

	cache_drops_pages(n->fs->cache, ino);
	i->data = true;
	i->drops = 1;
	i->off = off;
	i->len = len;
	i->done = done;
	i->arg = arg;
	notify_add(n, i);
}

void notify_inval_entry(struct notify *n, fuse_ino_t parent, const char *name, size_t len)
{
	struct notification *i = item_new(parent, name, len);

	i->entry = true;
	i->way = ENTRY_EXPIRES;
	notify_add(n, i);
}

void notify_inval_listing(struct notify *n, fuse_ino_t ino)
{
	notify_inval_entry(n, ino, "", 0);
}

/* ---- life ---- */

int notify_new(struct fs *fs, struct notify **ret)
{
	struct notify *n = calloc(1, sizeof(*n));
	pthread_condattr_t attr;
	int e = n == NULL ? -ENOMEM : mounts_new(fs->mountpoint, &n->mounts);

	if (e < 0) {
		free(n);
		return e;
	}
	n->unreadable = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (n->unreadable == MAP_FAILED) {
		mounts_free(n->mounts);
		free(n);
		return -ENOMEM;
	}
	n->fs = fs;
	(void)pthread_mutex_init(&n->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	for (unsigned i = 0; i < NOTIFIERS; i++) {
		struct shard *s = &n->shards[i];

		s->notify = n;
		s->tail = &s->head;
		(void)pthread_cond_init(&s->work, &attr);
	}
	(void)pthread_condattr_destroy(&attr);
	*ret = n;
	return 0;
}

int notify_start(struct notify *n)
{
	int e = 0;

	for (; n->started < NOTIFIERS && e == 0; n->started += e == 0)
		e = -pthread_create(&n->shards[n->started].thread, NULL, notify_main,
				    &n->shards[n->started]);
	return e;
}

void notify_free(struct notify *n)
{
	if (n == NULL)
		return;
	(void)pthread_mutex_lock(&n->lock);
	n->stopping = true;
	for (unsigned i = 0; i < NOTIFIERS; i++)
		(void)pthread_cond_signal(&n->shards[i].work);
	(void)pthread_mutex_unlock(&n->lock);
	for (unsigned i = 0; i < n->started; i++)
		(void)pthread_join(n->shards[i].thread, NULL);
	/* what a fence lets go may wait for notifications next: see hold_on */
	while (n->oldest != NULL || n->fences != NULL) {
		struct notify_fence *f = n->fences;

		if (n->oldest != NULL) {
			item_done(n->oldest);
			item_finish_locked(n, n->oldest);
		} else {
			n->fences = f->next;
			f->done(f->arg);
		}
	}
	hash_done(&n->same);
	hash_done(&n->passed);
	for (unsigned i = 0; i < NOTIFIERS; i++)
		(void)pthread_cond_destroy(&n->shards[i].work);
	mounts_free(n->mounts);
	(void)munmap(n->unreadable, 1);
	(void)pthread_mutex_destroy(&n->lock);
	free(n);
}
