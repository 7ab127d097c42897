#include "fuse/notify.h"

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "core/hash.h"
#include "core/log.h"
#include "fuse/fs_priv.h"
#include "fuse/mounts.h"

#define NOTIFIERS 4 /* half of them for entries */

#define MS	      UINT64_C(1000000)
#define PARK_MAX      (20 * MS)	 /* an entry is held back no longer, if the host answers at all */
#define DEFER_AFTER   (2 * MS)	 /* the server is told that an acknowledgement will take longer */
#define DEFER_ALWAYS  (100 * MS) /* whatever it is that takes so long */
#define RETRY_FIRST   (1 * MS)	 /* doubled each time, */
#define RETRY_DOUBLED 5		 /* this often */
#define SIZE_TRIES    20	 /* that is for 0.6 s */

#define ACKS_MAX   64	/* acknowledgements that wait; more become one */
#define QUEUE_FULL 4096 /* items, from which on names that nobody knows are not told one by one */

/* A name that no directory has, and a node that none is. */
#define NO_NAME "/"
#define NO_NODE UINT64_MAX

struct item {
	struct item *next;	    /* of the queue, or of those that wait for their time */
	struct item *prev;	    /* of the latter */
	struct item *older, *newer; /* of all that are not done */
	struct hash_link same;	    /* notify.same, if hashed */
	bool hashed;		    /* queued or waiting, and stands for its equals */
	uint64_t ticket;	    /* ascending */
	uint64_t ino;
	bool nothing;	  /* only done is called */
	bool entry;	  /* a name in ino, and ino's listing; else ino itself */
	bool data;	  /* with pages from off on, len of them or all (0) */
	bool settles;	  /* an entry: only to wait for a lock (cache_sink.settle) */
	bool asks;	  /* for the size as well, if the file is open, when all else is done */
	bool asked;	  /* it has; or that is not to be */
	bool parked;	  /* behind a request in the directory */
	uint64_t running; /* inside the kernel since then; 0: not */
	unsigned tries;
	unsigned drops; /* how often cache_pages_dropped is to be called */
	uint64_t born, not_before;
	uint64_t changed; /* on the host, on our clock; 0: it is no push */
	uint64_t off, len;
	void (*done)(void *arg);
	void *arg;
	struct notify *notify;
	uint32_t serial; /* with settles: of node */
	uint64_t node;
	size_t name_len;
	char name[];
};

/* An acknowledgement is to be sent when everything up to ticket is done. */
struct ack {
	uint64_t ticket, seq, deadline, born;
};

struct shard {
	struct notify *notify;
	pthread_t thread;
	pthread_cond_t work;
	struct item *head, **tail;
	struct item *waiting, *last_waiting; /* by not_before */
};

struct notify {
	struct fs *fs;
	struct mounts *mounts;
	pthread_mutex_t lock; /* all that follows */
	struct shard shards[NOTIFIERS];
	unsigned started;
	uint64_t ticket;
	struct item *oldest, *newest;
	size_t count;		/* of items */
	struct hash_table same; /* those that others may be merged into, by what they are about */
	struct notify_fence *fences;
	struct ack acks[ACKS_MAX]; /* ascending */
	unsigned n_acks;
	bool stopping;
	void *unreadable; /* a page, without the lock */
};

/* ---- what is not done yet ---- */

static struct shard *shard_of(struct notify *n, uint64_t ino, bool entry)
{
	const unsigned half = NOTIFIERS / 2;

	return &n->shards[ino % half + (entry ? half : 0)];
}

static void enqueue_locked(struct notify *n, struct item *i)
{
	struct shard *s = shard_of(n, i->ino, i->entry);

	i->next = NULL;
	*s->tail = i;
	s->tail = &i->next;
	(void)pthread_cond_signal(&s->work);
}

static void wait_locked(struct shard *s, struct item *i, uint64_t not_before)
{
	struct item *before = s->last_waiting;

	i->not_before = not_before;
	while (before != NULL && before->not_before > not_before)
		before = before->prev;
	i->prev = before;
	i->next = before != NULL ? before->next : s->waiting;
	*(i->next != NULL ? &i->next->prev : &s->last_waiting) = i;
	*(before != NULL ? &before->next : &s->waiting) = i;
}

static void unwait_locked(struct shard *s, struct item *i)
{
	*(i->prev != NULL ? &i->prev->next : &s->waiting) = i->next;
	*(i->next != NULL ? &i->next->prev : &s->last_waiting) = i->prev;
}

static uint32_t item_hash(const struct item *i)
{
	return hash_bytes(i->name, i->name_len,
			  hash_mix(i->ino << 2 | (i->entry ? 2u : 0u) | (i->data ? 1u : 0u)));
}

static struct item *equal_locked(const struct notify *n, const struct item *i)
{
	struct hash_link *l = hash_first(&n->same, item_hash(i));

	for (; l != NULL; l = hash_next(l)) {
		struct item *o = HASH_ENTRY(l, struct item, same);

		if (o->ino == i->ino && o->entry == i->entry && o->data == i->data &&
		    o->name_len == i->name_len && memcmp(o->name, i->name, i->name_len) == 0)
			return o;
	}
	return NULL;
}

static void hash_locked(struct notify *n, struct item *i)
{
	i->hashed = !i->nothing && !i->settles && !i->asked && i->done == NULL &&
		    hash_add(&n->same, &i->same, item_hash(i)) == 0;
}

static void unhash_locked(struct notify *n, struct item *i)
{
	if (i->hashed)
		hash_del(&n->same, &i->same);
	i->hashed = false;
}

/* into, which is yet to be done, does what i asks for as well. */
static void merge(struct item *into, const struct item *i)
{
	uint64_t end = into->off + into->len, end2 = i->off + i->len;
	bool all = into->len == 0 || i->len == 0;

	into->tries = 0;
	into->drops += i->drops;
	into->asks = into->asks || i->asks;
	if (into->changed == 0 || (i->changed != 0 && i->changed < into->changed))
		into->changed = i->changed;
	if (i->off < into->off)
		into->off = i->off;
	into->len = all ? 0 : (end > end2 ? end : end2) - into->off;
}

/* Takes over i. What is queued already is not queued again: so the queue is no longer than
 * what the kernel holds, and what our own requests ask for. */
static void add(struct notify *n, struct item *i)
{
	SCOPE_LOCK(&n->lock);
	struct item *o = i->done == NULL && !i->settles ? equal_locked(n, i) : NULL;

	i->notify = n;
	if (o != NULL) {
		if (o->tries > 0) { /* waits for its time, which has come */
			unwait_locked(shard_of(n, o->ino, o->entry), o);
			enqueue_locked(n, o);
		}
		merge(o, i);
		free(i);
		return;
	}
	i->ticket = ++n->ticket;
	i->born = cache_now();
	i->older = n->newest;
	*(i->older != NULL ? &i->older->newer : &n->oldest) = i;
	n->newest = i;
	n->count++;
	stats_add(n->fs->stats, STAT_inval_waiting, 1);
	hash_locked(n, i);
	enqueue_locked(n, i);
}

/*
 * Without memory for it the kernel would go on showing what is no longer true,
 * for as long as a day: then it is better to show nothing.
 */
static struct item *item_new(uint64_t ino, const char *name, size_t len)
{
	struct item *i = calloc(1, sizeof(*i) + len + 1);

	if (i == NULL) {
		log_err("no memory to invalidate what the kernel keeps: the mount ends");
		abort();
	}
	i->ino = ino;
	i->name_len = len;
	memcpy(i->name, name, len);
	return i;
}

static void finish_locked(struct notify *n, struct item *i)
{
	unhash_locked(n, i);
	*(i->older != NULL ? &i->older->newer : &n->oldest) = i->newer;
	*(i->newer != NULL ? &i->newer->older : &n->newest) = i->older;
	n->count--;
	stats_sub(n->fs->stats, STAT_inval_waiting, 1);
	if (i->changed != 0)
		stats_time(n->fs->stats, HIST_inval_lag, cache_now() - i->changed);
	free(i);
}

/* What waits for the item goes on, whatever became of the item. Without the lock. */
static void item_done(const struct item *i)
{
	if (i->settles)
		cache_size_settled(i->notify->fs->cache, i->node, i->serial);
	if (i->done != NULL)
		i->done(i->arg);
}

/* ---- fences and acknowledgements ---- */

/* Whether something up to ticket waits for a request of our own, which may wait for others. */
static bool held_up_locked(const struct notify *n, uint64_t ticket, uint64_t now)
{
	for (const struct item *i = n->oldest; i != NULL && i->ticket <= ticket; i = i->newer)
		if (i->parked || (i->running != 0 && now - i->running >= DEFER_AFTER))
			return true;
	return false;
}

static bool done_locked(const struct notify *n, uint64_t ticket)
{
	return n->oldest == NULL || n->oldest->ticket > ticket;
}

static struct notify_fence *take_fence_locked(struct notify *n)
{
	for (struct notify_fence **at = &n->fences; *at != NULL; at = &(*at)->next) {
		struct notify_fence *f = *at;

		if (done_locked(n, f->ticket)) {
			*at = f->next;
			return f;
		}
	}
	return NULL;
}

/* The oldest first: what it acknowledges includes all before it. */
static bool take_ack_locked(struct notify *n, uint64_t now, uint64_t *ret_seq, bool *ret_deferred)
{
	struct ack *a = &n->acks[0];

	if (n->n_acks == 0)
		return false;
	bool done = done_locked(n, a->ticket);
	if (!done && now < a->deadline)
		return false;
	if (!done && now < a->born + DEFER_ALWAYS && !held_up_locked(n, a->ticket, now)) {
		a->deadline = now + DEFER_AFTER; /* only slow */
		return false;
	}
	*ret_seq = a->seq;
	*ret_deferred = !done;
	memmove(a, a + 1, --n->n_acks * sizeof(*a));
	return true;
}

/* Says what is due to be said. Called and returns with the lock. */
static void say_locked(struct notify *n)
{
	struct notify_fence *f;
	uint64_t seq;
	bool deferred;

	while ((f = take_fence_locked(n)) != NULL) {
		(void)pthread_mutex_unlock(&n->lock);
		f->done(f->arg);
		(void)pthread_mutex_lock(&n->lock);
	}
	while (take_ack_locked(n, cache_now(), &seq, &deferred)) {
		(void)pthread_mutex_unlock(&n->lock);
		cache_acknowledge(n->fs->cache, seq, deferred);
		(void)pthread_mutex_lock(&n->lock);
	}
}

/* All: any of them may be inside the kernel. */
static void wake_locked(struct notify *n)
{
	for (unsigned i = 0; i < NOTIFIERS; i++)
		(void)pthread_cond_signal(&n->shards[i].work);
}

/* ---- the kernel ---- */

enum outcome { DONE, AGAIN, WAITS };

/* The kernel creates the inode only when whoever waits for our reply has run: until then it knows
 * none. */
static enum outcome inval_inode(struct notify *n, uint64_t ino, int64_t off, int64_t len)
{
	int r = FAULT(no_notify) ? 0 : fuse_lowlevel_notify_inval_inode(n->fs->se, ino, off, len);

	stats_add(n->fs->stats, STAT_inval_sent, 1);
	return r == -ENOENT && !FAULT(no_barrier) && cache_kernel_knows(n->fs->cache, ino) ? AGAIN
											   : DONE;
}

static enum outcome do_inode(struct notify *n, struct item *i)
{
	bool known = !i->nothing && cache_kernel_knows(n->fs->cache, i->ino);
	enum outcome o = DONE;

	if (known && !i->data)
		return inval_inode(n, i->ino, -1, 0);
	if (known)
		o = inval_inode(n, i->ino, (int64_t)i->off, (int64_t)i->len);
	for (; i->drops > 0; i->drops--)
		cache_pages_dropped(n->fs->cache, i->ino);
	return o;
}

/*
 * The lock of the directory, or that of what has the name in it: of a node that it cannot be
 * (fuse_reverse_inval_entry looks at the node with the lock held), so that nothing is deleted.
 */
static enum outcome do_settle(struct notify *n, const struct item *i)
{
	struct fs *fs = n->fs;

	stats_add(fs->stats, STAT_inval_sent, 1);
	if (i->name_len == 0)
		(void)fuse_lowlevel_notify_inval_entry(fs->se, i->ino, NO_NAME,
						       sizeof(NO_NAME) - 1);
	else if (mounts_below(n->mounts, fs->cache, i->ino, i->name, i->name_len) == MOUNTED_NONE)
		(void)fuse_lowlevel_notify_delete(fs->se, i->ino, NO_NODE, i->name, i->name_len);
	return DONE;
}

/*
 * The name first, which waits for whoever reads the directory, and so sees to
 * it that what was told of it before is in the listing's pages when they go.
 */
static enum outcome do_entry(struct notify *n, const struct item *i)
{
	struct fs *fs = n->fs;
	enum mounted m = MOUNTED_NONE;

	if (i->nothing || !cache_kernel_knows(fs->cache, i->ino))
		return DONE;
	if (i->settles)
		return do_settle(n, i);
	if (i->tries == 0) {
		if (i->name_len > 0)
			m = mounts_below(n->mounts, fs->cache, i->ino, i->name, i->name_len);
		stats_add(fs->stats, STAT_inval_sent, 1);
		if (FAULT(no_notify))
			return DONE;
		if (m == MOUNTED_NONE)
			(void)fuse_lowlevel_notify_inval_entry(
				fs->se, i->ino, i->name_len > 0 ? i->name : NO_NAME,
				i->name_len > 0 ? i->name_len : sizeof(NO_NAME) - 1);
		else if (fs->expire_entries)
			(void)fuse_lowlevel_notify_expire_entry(fs->se, i->ino, i->name,
								i->name_len, FUSE_LL_EXPIRE_ONLY);
	}
	return inval_inode(n, i->ino, 0, 0);
}

/* ---- the notifiers ---- */

/* The next to be done; NULL: none now, and *ret_until tells when to look again. */
static struct item *next_locked(struct shard *s, uint64_t *ret_until)
{
	const struct notify *n = s->notify;
	struct item *i = s->waiting;

	if (i != NULL && i->not_before <= cache_now()) {
		unwait_locked(s, i);
		return i;
	}
	*ret_until = i != NULL ? i->not_before : UINT64_MAX;
	if (n->n_acks > 0 && n->acks[0].deadline < *ret_until)
		*ret_until = n->acks[0].deadline;
	i = s->head;
	if (i != NULL) {
		s->head = i->next;
		if (s->head == NULL)
			s->tail = &s->head;
	}
	return i;
}

/*
 * inval_entry waits for the lock of the directory, which a request in flight
 * there may hold until the host answers; and once it waits, nobody else gets
 * the lock. So it lets such a request end first. True: it waits.
 */
static bool park(struct shard *s, struct item *i)
{
	struct notify *n = s->notify;
	struct cache *c = n->fs->cache;
	uint64_t now = cache_now();
	bool late = now - i->born >= PARK_MAX && cache_link_alive(c);

	(void)pthread_mutex_lock(&n->lock);
	bool first = !i->parked, may = i->tries == 0 && !late;
	i->parked = may;
	if (may)
		wait_locked(s, i, now + PARK_MAX);
	(void)pthread_mutex_unlock(&n->lock);
	if (!may)
		return false;
	/* unpark may come from now on */
	if (cache_dir_park(c, i->ino)) {
		stats_add(n->fs->stats, STAT_inval_parked, first);
		return true;
	}
	/* nothing is in flight */
	(void)pthread_mutex_lock(&n->lock);
	unwait_locked(s, i); /* where it still is: unpark only moves it, add does not see it */
	i->parked = false;
	(void)pthread_mutex_unlock(&n->lock);
	return false;
}

/* It is to be done later, with what was asked for meanwhile. */
static void rejoin_locked(struct notify *n, struct item *i)
{
	struct item *o = i->settles ? NULL : equal_locked(n, i);

	if (o != NULL) {
		unhash_locked(n, o);
		merge(i, o);
		o->nothing = true;
		o->drops = 0;
		o->changed = 0;
	}
	hash_locked(n, i);
}

/* ---- sizes ---- */

/*
 * There is no notification of a size alone. NOTIFY_STORE sets i_size to the end of what it
 * stores, and then takes the bytes (fuse_notify_store): these are where they cannot be read.
 */
static void store_size(struct notify *n, uint64_t ino, uint64_t from, uint64_t size)
{
	struct fuse_notify_store_out store = {
		.nodeid = ino, .offset = from, .size = (uint32_t)(size - from)};
	struct fuse_out_header out = {.len = (uint32_t)(sizeof(out) + sizeof(store)) + store.size,
				      .error = FUSE_NOTIFY_STORE};
	struct iovec iov[] = {
		{&out, sizeof(out)}, {&store, sizeof(store)}, {n->unreadable, store.size}};

	stats_add(n->fs->stats, STAT_inval_sent, 1);
	if (FAULT(no_notify))
		return;
	if (writev(fuse_session_fd(n->fs->se), iov, 3) < 0 && errno == EFAULT)
		cache_size_stored(n->fs->cache, ino, size);
}

void notify_size(struct notify *n, fuse_ino_t ino, struct attr *a)
{
	uint64_t from;

	if (cache_size_to_tell(n->fs->cache, ino, a, &from))
		store_size(n, ino, from, a->size);
}

/* The size has been asked for, and is to be made known. */
static enum outcome do_size(struct notify *n, const struct item *i)
{
	uint64_t size, from;
	int r = cache_size_missing(n->fs->cache, i->ino, &size, &from);

	if (r > 0)
		store_size(n, i->ino, from, size);
	return r == -EAGAIN && i->tries < SIZE_TRIES ? AGAIN : DONE;
}

static void size_asked(void *arg)
{
	struct item *i = arg;
	struct notify *n = i->notify;

	SCOPE_LOCK(&n->lock);
	enqueue_locked(n, i);
}

/* Until it is known the item is not done: so a fence waits for it. */
static bool ask_size(struct notify *n, struct item *i)
{
	i->asked = true;
	i->tries = 0;
	return cache_size_ask(n->fs->cache, i->ino, size_asked, i);
}

static void again_locked(struct shard *s, struct item *i)
{
	unsigned doubled = i->tries < RETRY_DOUBLED ? i->tries : RETRY_DOUBLED;

	stats_add(s->notify->fs->stats, STAT_inval_retried, 1);
	i->tries++;
	wait_locked(s, i, cache_now() + (RETRY_FIRST << doubled));
	if (!i->asked)
		rejoin_locked(s->notify, i);
}

static void execute_locked(struct shard *s, struct item *i)
{
	struct notify *n = s->notify;
	enum outcome o = DONE;

	i->running = cache_now();
	unhash_locked(n, i); /* what is asked for from now on is not done by it */
	(void)pthread_mutex_unlock(&n->lock);
	bool parked = i->entry && !i->nothing && park(s, i);
	if (!parked)
		o = i->asked ? do_size(n, i) : i->entry ? do_entry(n, i) : do_inode(n, i);
	if (!parked && o == DONE && i->asks && !i->asked && ask_size(n, i))
		o = WAITS;
	if (!parked && o == DONE)
		item_done(i);
	(void)pthread_mutex_lock(&n->lock);
	if (o == WAITS)
		return; /* it is running until the reply */
	i->running = 0;
	if (parked)
		rejoin_locked(n, i);
	else if (o == DONE)
		finish_locked(n, i);
	else
		again_locked(s, i);
}

static void *notify_main(void *arg)
{
	struct shard *s = arg;
	struct notify *n = s->notify;

	SCOPE_LOCK(&n->lock);
	while (!n->stopping) {
		uint64_t until;

		say_locked(n);
		struct item *i = next_locked(s, &until);
		if (i != NULL) {
			execute_locked(s, i);
		} else if (n->stopping) {
			break;
		} else if (until == UINT64_MAX) {
			(void)pthread_cond_wait(&s->work, &n->lock);
		} else {
			struct timespec ts = {.tv_sec = (time_t)(until / 1000000000),
					      .tv_nsec = (long)(until % 1000000000)};
			(void)pthread_cond_timedwait(&s->work, &n->lock, &ts);
		}
	}
	return NULL;
}

/* ---- what is asked of them ---- */

static void sink_inode(void *arg, uint64_t ino, bool data)
{
	struct notify *n = arg;
	struct item *i = item_new(ino, "", 0);

	i->data = i->asks = data;
	i->drops = data;
	i->changed = cache_changed_at(n->fs->cache);
	add(n, i);
}

static void add_entry(struct notify *n, uint64_t parent, const char *name, size_t len,
		      uint64_t changed)
{
	struct item *i = item_new(parent, name, len);

	i->entry = true;
	i->changed = changed;
	add(n, i);
}

static void sink_entry(void *arg, uint64_t parent, const char *name, size_t len)
{
	struct notify *n = arg;

	add_entry(n, parent, name, len, cache_changed_at(n->fs->cache));
}

static void sink_settle(void *arg, uint64_t ino, uint32_t serial, uint64_t parent, const char *name,
			size_t len)
{
	struct item *i = item_new(parent, name, len);

	i->entry = i->settles = true;
	i->node = ino;
	i->serial = serial;
	add(arg, i);
}

static void sink_size(void *arg, uint64_t ino)
{
	struct item *i = item_new(ino, "", 0);

	i->nothing = i->asks = true;
	add(arg, i);
}

static void sink_unpark(void *arg, uint64_t parent)
{
	struct notify *n = arg;
	struct shard *s = shard_of(n, parent, true);

	SCOPE_LOCK(&n->lock);
	for (struct item *i = s->waiting, *next; i != NULL; i = next) {
		next = i->next;
		/* what an earlier call has let go would change places for ever */
		if (i->parked && i->ino == parent && i->not_before > 0) {
			unwait_locked(s, i);
			wait_locked(s, i, 0);
		}
	}
	(void)pthread_cond_signal(&s->work);
}

static void sink_mark(void *arg, uint64_t seq)
{
	struct notify *n = arg;
	uint64_t now = cache_now();

	SCOPE_LOCK(&n->lock);
	if (n->n_acks < ACKS_MAX)
		n->acks[n->n_acks++] = (struct ack){.deadline = now + DEFER_AFTER, .born = now};
	n->acks[n->n_acks - 1].ticket = n->ticket;
	n->acks[n->n_acks - 1].seq = seq;
	wake_locked(n);
}

static bool sink_full(void *arg)
{
	struct notify *n = arg;

	SCOPE_LOCK(&n->lock);
	return n->count >= QUEUE_FULL;
}

const struct cache_sink notify_sink = {
	.inode = sink_inode,
	.entry = sink_entry,
	.settle = sink_settle,
	.size = sink_size,
	.full = sink_full,
	.unpark = sink_unpark,
	.mark = sink_mark,
};

void notify_inval_range(struct notify *n, fuse_ino_t ino, uint64_t off, uint64_t len)
{
	struct item *i = item_new(ino, "", 0);

	cache_drops_pages(n->fs->cache, ino);
	i->data = true;
	i->drops = 1;
	i->off = off;
	i->len = len;
	add(n, i);
}

void notify_store(struct notify *n, fuse_ino_t ino, uint64_t off, struct slice data)
{
	struct fuse_bufvec v = FUSE_BUFVEC_INIT(data.len);

	v.buf[0].mem = (void *)(uintptr_t)data.data;
	if (!FAULT(no_notify))
		(void)fuse_lowlevel_notify_store(n->fs->se, ino, (off_t)off, &v, 0);
	stats_add(n->fs->stats, STAT_inval_sent, 1);
	cache_size_stored(n->fs->cache, ino, off + data.len);
}

void notify_outdate(struct notify *n, fuse_ino_t ino)
{
	if (!FAULT(no_notify))
		(void)fuse_lowlevel_notify_inval_inode(n->fs->se, ino, -1, 0);
	stats_add(n->fs->stats, STAT_inval_sent, 1);
}

void notify_after(struct notify *n, fuse_ino_t ino, void (*done)(void *arg), void *arg)
{
	struct item *i = item_new(ino, "", 0);

	i->nothing = true;
	i->done = done;
	i->arg = arg;
	add(n, i);
}

void notify_inval_first(struct notify *n, fuse_ino_t ino, uint64_t off, uint64_t len,
			void (*done)(void *arg), void *arg)
{
	struct item *i = item_new(ino, "", 0);

	cache_drops_pages(n->fs->cache, ino);
	i->data = true;
	i->drops = 1;
	i->off = off;
	i->len = len;
	i->done = done;
	i->arg = arg;
	add(n, i);
}

void notify_inval_entry(struct notify *n, fuse_ino_t parent, const char *name, size_t len)
{
	add_entry(n, parent, name, len, 0);
}

void notify_inval_listing(struct notify *n, fuse_ino_t ino)
{
	add_entry(n, ino, "", 0, 0);
}

void notify_fence(struct notify *n, struct notify_fence *f)
{
	SCOPE_LOCK(&n->lock);
	f->ticket = n->ticket;
	f->next = n->fences;
	n->fences = f;
	wake_locked(n);
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
	for (; n->started < NOTIFIERS && e == 0; n->started += e == 0)
		e = -pthread_create(&n->shards[n->started].thread, NULL, notify_main,
				    &n->shards[n->started]);
	if (e < 0) {
		notify_free(n);
		return e;
	}
	*ret = n;
	return 0;
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
	while (n->oldest != NULL) {
		item_done(n->oldest);
		finish_locked(n, n->oldest);
	}
	while (n->fences != NULL) {
		struct notify_fence *f = n->fences;

		n->fences = f->next;
		f->done(f->arg);
	}
	hash_done(&n->same);
	for (unsigned i = 0; i < NOTIFIERS; i++)
		(void)pthread_cond_destroy(&n->shards[i].work);
	mounts_free(n->mounts);
	(void)munmap(n->unreadable, 1);
	(void)pthread_mutex_destroy(&n->lock);
	free(n);
}
