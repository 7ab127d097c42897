#include "fuse/notify.h"

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
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
#include "fuse/task.h"

#define NOTIFIERS 4 /* half of them for entries */

#define MS	      UINT64_C(1000000)
#define PARK_MAX      (20 * MS)	 /* an entry is held back no longer, if the host answers at all */
#define DEFER_AFTER   (2 * MS)	 /* the server is told that an acknowledgement will take longer */
#define DEFER_ALWAYS  (100 * MS) /* whatever it is that takes so long */
#define RETRY_FIRST   (1 * MS)	 /* doubled each time, */
#define RETRY_DOUBLED 5		 /* this often */
#define SIZE_TRIES    300	 /* that is for 10 s */

#define NAMES_LOOK  (10 * MS) /* a directory that is asked for waits for its names: looked at */
#define NAMES_LOOKS 10	      /* so often at most */

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
	/*
	 * Of what the host has changed, until it is done: of n->host_inodes or n->host_entries;
	 * an entry leaves the latter when a reply is given past it, and counts in its directory.
	 */
	struct chain *chain;
	struct item *chain_older, *chain_newer;
	uint64_t host_ticket; /* ascending in a chain */
	struct passed_dir *passed;
	bool back; /* takes back what the kernel has of a directory whose names were passed */
	uint64_t ino;
	bool nothing; /* only done is called */
	bool entry;   /* a name in ino, and ino's listing; else ino itself */
	bool data;    /* with pages from off on, len of them or all (0) */
	bool settles; /* an entry: only to wait for a lock (cache_sink.settle) */
	bool asks;    /* for the size as well, if the file is open, when all else is done */
	bool asked;   /* it has; or that is not to be */
	bool expires; /* again, since a task may have given the name its time back */
	enum entry_way way;
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
	uint32_t serial; /* with settles: of node; */
	uint32_t task;	 /* which is to go on, too, unless 0 */
	uint64_t cpu;	 /* task_went_on */
	uint64_t node;
	size_t name_len;
	char name[];
};

struct chain {
	struct item *oldest, *newest;
};

/*
 * A directory in which names that the host has changed are still to be told, past which a
 * reply that synchronises was given. Its attributes have been taken back: so whoever goes
 * through it asks for them, and is answered when the names have been told.
 */
struct passed_dir {
	struct hash_link link; /* notify.passed */
	uint64_t ino;
	unsigned count; /* of its items */
};

/* An acknowledgement is to be sent when everything of the host's up to ticket is done. */
struct ack {
	uint64_t ticket, seq, deadline, born;
	bool passed; /* names that may be held up are not waited for */
};

struct shard {
	struct notify *notify;
	pthread_t thread;
	pthread_cond_t work;
	struct item *head, **tail;
	struct item *waiting, *last_waiting; /* by not_before */
	struct item *running;
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
	uint64_t host_ticket;
	struct chain host_inodes, host_entries;
	/* those whose size is asked for, all else being done, and what settles one; no order */
	struct chain host_sizes;
	unsigned backs; /* items with back */
	struct hash_table passed;
	atomic_uint n_host, n_passed; /* items in the two chains; directories in passed */
	struct ack acks[ACKS_MAX];    /* ascending */
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

static bool follow_host(struct notify *n, struct notify_fence *f, bool hurry);
static void pass_names_locked(struct notify *n, bool hurry);
static bool wait_for_names(struct notify *n, struct notify_fence *f);

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

/* ---- what the host has changed ---- */

static void chain_in_locked(struct notify *n, struct item *i, struct chain *c)
{
	i->chain = c;
	i->host_ticket = ++n->host_ticket;
	i->chain_newer = NULL;
	i->chain_older = c->newest;
	*(i->chain_older != NULL ? &i->chain_older->chain_newer : &c->oldest) = i;
	c->newest = i;
	atomic_fetch_add(&n->n_host, 1);
}

static void chain_locked(struct notify *n, struct item *i)
{
	chain_in_locked(n, i,
			i->settles ? &n->host_sizes
			: i->entry ? &n->host_entries
				   : &n->host_inodes);
}

static void unchain_locked(struct notify *n, struct item *i)
{
	struct chain *c = i->chain;

	if (c == NULL)
		return;
	*(i->chain_older != NULL ? &i->chain_older->chain_newer : &c->oldest) = i->chain_newer;
	*(i->chain_newer != NULL ? &i->chain_newer->chain_older : &c->newest) = i->chain_older;
	i->chain = NULL;
	atomic_fetch_sub(&n->n_host, 1);
}

/* by takes the place that i has in its chain. */
static void replace_locked(struct item *i, struct item *by)
{
	struct chain *c = by->chain = i->chain;

	by->host_ticket = i->host_ticket;
	by->chain_older = i->chain_older;
	by->chain_newer = i->chain_newer;
	*(i->chain_older != NULL ? &i->chain_older->chain_newer : &c->oldest) = by;
	*(i->chain_newer != NULL ? &i->chain_newer->chain_older : &c->newest) = by;
	i->chain = NULL;
}

/* All but its size has been told. */
static void asks_locked(struct notify *n, struct item *i)
{
	uint64_t ticket = i->host_ticket;

	if (i->chain != &n->host_inodes)
		return;
	unchain_locked(n, i);
	chain_in_locked(n, i, &n->host_sizes);
	i->host_ticket = ticket;
}

static struct passed_dir *passed_locked(const struct notify *n, uint64_t ino)
{
	struct hash_link *l = hash_first(&n->passed, (uint32_t)hash_mix(ino));

	for (; l != NULL; l = hash_next(l)) {
		struct passed_dir *d = HASH_ENTRY(l, struct passed_dir, link);

		if (d->ino == ino)
			return d;
	}
	return NULL;
}

static void unpass_locked(struct notify *n, struct item *i)
{
	struct passed_dir *d = i->passed;

	i->passed = NULL;
	if (d == NULL || --d->count > 0)
		return;
	hash_del(&n->passed, &d->link);
	free(d);
	atomic_fetch_sub(&n->n_passed, 1);
}

/*
 * i, which is to be done later, does what o was to do, too: and so o's place among what is
 * waited for is i's.
 */
static void take_place_locked(struct notify *n, struct item *i, struct item *o)
{
	if (o->back && !i->back) {
		i->back = true;
		o->back = false;
	}
	if (i->passed == NULL && o->passed != NULL) {
		unchain_locked(n, i);
		i->passed = o->passed;
		o->passed = NULL;
	}
	if (i->passed != NULL)
		return;
	if (i->chain == NULL && o->chain != NULL)
		replace_locked(o, i);
}

/* into, which is yet to be done, does what i asks for as well. */
static void merge(struct item *into, const struct item *i)
{
	uint64_t end = into->off + into->len, end2 = i->off + i->len;
	bool all = into->len == 0 || i->len == 0;

	into->tries = 0;
	into->way = i->way > into->way ? i->way : into->way;
	into->drops += i->drops;
	into->asks = into->asks || i->asks;
	if (into->changed == 0 || (i->changed != 0 && i->changed < into->changed))
		into->changed = i->changed;
	if (i->off < into->off)
		into->off = i->off;
	into->len = all ? 0 : (end > end2 ? end : end2) - into->off;
}

/*
 * Takes over i. What is queued already is not queued again: so the queue is no longer than
 * what the kernel holds, and what our own requests ask for. host: it is about a change by
 * the host.
 */
static void add_locked(struct notify *n, struct item *i, bool host)
{
	struct item *o = i->done == NULL && !i->settles ? equal_locked(n, i) : NULL;

	i->notify = n;
	if (o != NULL) {
		n->backs -= i->back && o->back;
		o->back = o->back || i->back;
		if (host && o->chain == NULL && o->passed == NULL)
			chain_locked(n, o);
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
	if (host)
		chain_locked(n, i);
	hash_locked(n, i);
	enqueue_locked(n, i);
}

static void add(struct notify *n, struct item *i)
{
	SCOPE_LOCK(&n->lock);
	add_locked(n, i, false);
}

/* From a call of the sink. */
static void add_from_sink(struct notify *n, struct item *i)
{
	SCOPE_LOCK(&n->lock);
	i->changed = cache_changed_at(n->fs->cache);
	add_locked(n, i, cache_changed_by_host(n->fs->cache));
}

/*
 * Without memory for it the kernel would go on showing what is no longer true,
 * for as long as a day: then it is better to show nothing.
 */
static _Noreturn void no_memory(void)
{
	log_err("no memory to invalidate what the kernel keeps: the mount ends");
	abort();
}

static struct item *item_new(uint64_t ino, const char *name, size_t len)
{
	struct item *i = calloc(1, sizeof(*i) + len + 1);

	if (i == NULL)
		no_memory();
	i->ino = ino;
	i->name_len = len;
	memcpy(i->name, name, len);
	return i;
}

static void finish_locked(struct notify *n, struct item *i)
{
	unhash_locked(n, i);
	unchain_locked(n, i);
	unpass_locked(n, i);
	n->backs -= i->back;
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

static bool done_locked(const struct notify *n, uint64_t ticket)
{
	return n->oldest == NULL || n->oldest->ticket > ticket;
}

static bool chain_done_locked(const struct chain *c, uint64_t ticket)
{
	return c->oldest == NULL || c->oldest->host_ticket > ticket;
}

static bool host_done_locked(const struct notify *n, uint64_t ticket)
{
	return n->backs == 0 && chain_done_locked(&n->host_inodes, ticket) &&
	       chain_done_locked(&n->host_entries, ticket);
}

static bool sizes_done_locked(const struct notify *n, uint64_t ticket)
{
	const struct item *i = n->host_sizes.oldest;

	while (i != NULL && i->host_ticket > ticket)
		i = i->chain_newer;
	return i == NULL;
}

static bool fence_done_locked(const struct notify *n, struct notify_fence *f, uint64_t now)
{
	switch (f->kind) {
	case NOTIFY_HOST:
		return now >= f->not_before || (host_done_locked(n, f->ticket) &&
						(f->looks > 0 || sizes_done_locked(n, f->ticket)));
	case NOTIFY_NAMES:
		return now >= f->not_before || passed_locked(n, f->ino) == NULL;
	default:
		break;
	}
	return done_locked(n, f->ticket);
}

static struct notify_fence *take_fence_locked(struct notify *n, uint64_t now)
{
	for (struct notify_fence **at = &n->fences; *at != NULL; at = &(*at)->next) {
		struct notify_fence *f = *at;

		if (fence_done_locked(n, f, now)) {
			*at = f->next;
			return f;
		}
	}
	return NULL;
}

/*
 * The names of a directory have not been told for so long. While a request of ours holds the
 * lock of the directory, its reply is waited for. If none does, then maybe the very task that
 * asks for the attributes (may_create, may_delete), which would wait for ever.
 */
static bool after_names_still(struct notify *n, struct notify_fence *f)
{
	bool busy = cache_dir_busy(n->fs->cache, f->ino);

	f->looks += !busy;
	if (busy || (f->looks < NAMES_LOOKS && !task_changes_names(f->tid)))
		return wait_for_names(n, f);
	stats_add(n->fs->stats, STAT_fence_late, notify_names_passed(n, f->ino));
	return false;
}

/* f, taken out of the list, is not done yet, and was put back. */
static bool waits_still(struct notify *n, struct notify_fence *f)
{
	switch (f->kind) {
	case NOTIFY_HOST:
		return cache_now() >= f->not_before && follow_host(n, f, true);
	case NOTIFY_NAMES:
		return after_names_still(n, f);
	default:
		return false;
	}
}

/* ---- acknowledgements ---- */

/* Whether a notification waits inside the kernel, maybe for the reply to a request of our own. */
static bool held_up_locked(const struct notify *n, uint64_t now)
{
	for (unsigned k = 0; k < NOTIFIERS; k++) {
		const struct item *i = n->shards[k].running;

		if (i != NULL && now - i->running >= DEFER_AFTER)
			return true;
	}
	return false;
}

enum ack_state { ACK_WAITS, ACK_PASSES_NAMES, ACK_IS_DUE };

/* The oldest first: what it acknowledges includes all before it. */
static enum ack_state look_at_ack_locked(struct notify *n, uint64_t now)
{
	struct ack *a = &n->acks[0];

	if (n->n_acks == 0)
		return ACK_WAITS;
	if (host_done_locked(n, a->ticket))
		return ACK_IS_DUE;
	if (now < a->deadline)
		return ACK_WAITS;
	a->deadline = now + DEFER_AFTER;
	if (!a->passed)
		return ACK_PASSES_NAMES;
	return now >= a->born + DEFER_ALWAYS || held_up_locked(n, now) ? ACK_IS_DUE : ACK_WAITS;
}

/* Called and returns with the lock. The names may be behind requests whose replies wait for the
 * acknowledgement of another client, which waits for ours. */
static void ack_passes_names_locked(struct notify *n)
{
	(void)pthread_mutex_unlock(&n->lock);
	cache_lock_dirs(n->fs->cache);
	(void)pthread_mutex_lock(&n->lock);
	pass_names_locked(n, true);
	if (n->n_acks > 0)
		n->acks[0].passed = true;
	cache_unlock_dirs(n->fs->cache);
}

/* Called and returns with the lock. False: none is due. */
static bool acknowledge_locked(struct notify *n)
{
	struct ack a = n->acks[0];

	switch (look_at_ack_locked(n, cache_now())) {
	case ACK_PASSES_NAMES:
		ack_passes_names_locked(n);
		return true;
	case ACK_IS_DUE:
		break;
	default:
		return false;
	}
	bool deferred = !host_done_locked(n, a.ticket);
	memmove(n->acks, n->acks + 1, --n->n_acks * sizeof(n->acks[0]));
	(void)pthread_mutex_unlock(&n->lock);
	cache_acknowledge(n->fs->cache, a.seq, deferred);
	(void)pthread_mutex_lock(&n->lock);
	return true;
}

/* Says what is due to be said. Called and returns with the lock. */
static void say_locked(struct notify *n)
{
	struct notify_fence *f;
	uint64_t now = cache_now(); /* what is put back is not taken again at once */

	while ((f = take_fence_locked(n, now)) != NULL) {
		(void)pthread_mutex_unlock(&n->lock);
		if (!waits_still(n, f))
			f->done(f->arg);
		(void)pthread_mutex_lock(&n->lock);
	}
	while (acknowledge_locked(n))
		;
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

#define TOLD_AT_ONCE 16 /* tasks that are looked at */

/* Whether all tasks to which the name was confirmed before have digested that. */
static bool digested(struct notify *n, const struct item *i)
{
	struct cache *c = n->fs->cache;
	struct confirmed t[TOLD_AT_ONCE];
	size_t count = cache_take_confirmed(c, i->ino, i->name, i->name_len, t, TOLD_AT_ONCE);
	bool all = count < TOLD_AT_ONCE;

	for (size_t k = 0; k < count; k++) {
		if (task_went_on((pid_t)t[k].task, &t[k].cpu))
			continue;
		cache_put_confirmed(c, &t[k]);
		all = false;
	}
	return all;
}

/* It is done when nobody can give the name back the time that it has lost. */
static void expire(struct notify *n, struct item *i)
{
	i->expires = !digested(n, i);
	(void)fuse_lowlevel_notify_expire_entry(n->fs->se, i->ino, i->name, i->name_len,
						FUSE_LL_EXPIRE_ONLY);
}

/* What is mounted at the name or below it would go with the dentry. */
static void tell_name(struct notify *n, struct item *i)
{
	struct fs *fs = n->fs;
	bool can = fs->expire_entries && !FAULT(no_expiry);
	enum entry_way now = cache_entry_way(fs->cache, i->ino, i->name, i->name_len);
	enum entry_way way = now > i->way ? now : i->way;

	if (can && way != ENTRY_DROPS)
		expire(n, i);
	else if (mounts_below(n->mounts, fs->cache, i->ino, i->name, i->name_len) == MOUNTED_NONE)
		(void)fuse_lowlevel_notify_inval_entry(fs->se, i->ino, i->name, i->name_len);
	else if (fs->expire_entries)
		expire(n, i);
}

/*
 * The lock of the directory, or that of what has the name in it: of a node that it cannot be
 * (fuse_reverse_inval_entry looks at the node with the lock held), so that nothing is deleted.
 */
static void wait_for_lock(struct notify *n, const struct item *i)
{
	struct fs *fs = n->fs;

	stats_add(fs->stats, STAT_inval_sent, 1);
	if (i->name_len == 0)
		(void)fuse_lowlevel_notify_inval_entry(fs->se, i->ino, NO_NAME,
						       sizeof(NO_NAME) - 1);
	else if (mounts_below(n->mounts, fs->cache, i->ino, i->name, i->name_len) == MOUNTED_NONE)
		(void)fuse_lowlevel_notify_delete(fs->se, i->ino, NO_NODE, i->name, i->name_len);
}

static enum outcome do_settle(struct notify *n, struct item *i)
{
	if (i->tries == 0 && i->ino != i->node)
		wait_for_lock(n, i);
	return i->task == 0 || task_went_on((pid_t)i->task, &i->cpu) || i->tries >= SIZE_TRIES
		       ? DONE
		       : AGAIN;
}

/*
 * The name first, which waits for whoever reads the directory, and so sees to
 * it that what was told of it before is in the listing's pages when they go.
 */
static enum outcome do_entry(struct notify *n, struct item *i)
{
	struct fs *fs = n->fs;

	if (i->nothing || !cache_kernel_knows(fs->cache, i->ino))
		return DONE;
	if (i->settles)
		return do_settle(n, i);
	if (i->tries == 0 || i->expires) {
		stats_add(fs->stats, STAT_inval_sent, 1);
		if (FAULT(no_notify))
			return DONE;
		if (i->name_len > 0)
			tell_name(n, i);
		else
			(void)fuse_lowlevel_notify_inval_entry(fs->se, i->ino, NO_NAME,
							       sizeof(NO_NAME) - 1);
	}
	enum outcome o = inval_inode(n, i->ino, 0, 0);
	return i->expires ? AGAIN : o;
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

	if (i->tries > 0 && !i->expires)
		return false;
	(void)pthread_mutex_lock(&n->lock);
	bool first = !i->parked;
	i->parked = true;
	wait_locked(s, i, now + PARK_MAX);
	(void)pthread_mutex_unlock(&n->lock);
	/* unpark may come from now on */
	if (cache_dir_park(c, i->ino, late)) {
		stats_add(n->fs->stats, STAT_inval_parked, first);
		return true;
	}
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
		take_place_locked(n, i, o);
		o->nothing = true;
		o->asks = false;
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
	bool done = !FAULT(no_notify) && writev(fuse_session_fd(n->fs->se), iov, 3) < 0 &&
		    errno == EFAULT;
	cache_size_stored(n->fs->cache, ino, size, done);
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

	/* The kernel has no such directory, and so no name in it. The reply that is to make it
	 * known may be the one that waits: it must not wait for this. */
	s->notify->backs -= i->back;
	i->back = false;
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
	s->running = i;
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
	s->running = NULL;
	if (i->asked)
		asks_locked(n, i);
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

	i->data = data;
	/* the promise of the content may be used up, and what the host appends shows so only */
	i->asks = data || cache_changed_by_host(n->fs->cache);
	i->drops = data;
	add_from_sink(n, i);
}

static void sink_entry(void *arg, uint64_t parent, const char *name, size_t len, enum entry_way way)
{
	struct item *i = item_new(parent, name, len);

	i->entry = true;
	i->way = way;
	add_from_sink(arg, i);
}

static void sink_settle(void *arg, uint64_t ino, uint32_t serial, uint32_t task, uint64_t parent,
			const char *name, size_t len)
{
	struct notify *n = arg;
	struct item *i = item_new(parent, name, len);

	i->entry = i->settles = true;
	i->node = ino;
	i->serial = serial;
	i->task = task;
	SCOPE_LOCK(&n->lock);
	add_locked(n, i, cache_changed_by_host(n->fs->cache));
}

static void sink_size(void *arg, uint64_t ino)
{
	struct item *i = item_new(ino, "", 0);

	i->nothing = i->asks = true;
	add_from_sink(arg, i);
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
	n->acks[n->n_acks - 1].ticket = n->host_ticket;
	n->acks[n->n_acks - 1].passed = false;
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
	cache_size_grown(n->fs->cache, ino, off + data.len);
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
	struct item *i = item_new(parent, name, len);

	i->entry = true;
	i->way = ENTRY_EXPIRES;
	add(n, i);
}

void notify_inval_listing(struct notify *n, fuse_ino_t ino)
{
	notify_inval_entry(n, ino, "", 0);
}

static void add_fence_locked(struct notify *n, struct notify_fence *f)
{
	f->next = n->fences;
	n->fences = f;
}

void notify_fence(struct notify *n, struct notify_fence *f)
{
	SCOPE_LOCK(&n->lock);
	f->kind = NOTIFY_ALL;
	f->ticket = n->ticket;
	f->not_before = 0;
	add_fence_locked(n, f);
	wake_locked(n);
}

/*
 * A name is told under the lock of its directory, which a request may hold until its reply:
 * then no reply waits for the name. The directory's attributes and listing go instead, which
 * waits for no lock.
 */
static void pass_locked(struct notify *n, struct item *i)
{
	struct passed_dir *d = passed_locked(n, i->ino);

	unchain_locked(n, i);
	if (d == NULL) {
		struct item *back = item_new(i->ino, "", 0);

		d = calloc(1, sizeof(*d));
		if (d == NULL || hash_add(&n->passed, &d->link, (uint32_t)hash_mix(i->ino)) < 0)
			no_memory();
		d->ino = i->ino;
		atomic_fetch_add(&n->n_passed, 1);
		back->data = back->back = true;
		n->backs++;
		add_locked(n, back, false);
	}
	d->count++;
	i->passed = d;
}

bool notify_host_waits(const struct notify *n)
{
	return atomic_load(&n->n_host) > 0;
}

/*
 * No reply waits for a name in a directory that is locked until it has gone to the kernel, or
 * until another one that is held has, nor for what a notifier comes to that is stuck there. So two
 * replies do not wait for each other: a name that is waited for can be held up by a later
 * request only, whose reply passes it. all: none is waited for. A directory may also be locked
 * by a task that waits for a second one's lock, which another reply holds (lock_rename), and
 * the host may be slow to answer in it.
 */
static void pass_names_locked(struct notify *n, bool all)
{
	struct cache *c = n->fs->cache;
	bool stuck[NOTIFIERS];

	for (unsigned k = 0; k < NOTIFIERS; k++) {
		const struct item *i = n->shards[k].running;

		stuck[k] = i != NULL && i->entry && cache_dir_held(c, i->ino);
	}
	for (struct item *i = n->host_entries.oldest, *next; i != NULL; i = next) {
		next = i->chain_newer;
		if (all || stuck[shard_of(n, i->ino, true) - n->shards] ||
		    cache_dir_held(c, i->ino))
			pass_locked(n, i);
	}
}

/*
 * False if nothing is to be waited for. What comes after f->ticket never is: it may be about an
 * object that the very reply is to make known.
 */
static bool follow_host(struct notify *n, struct notify_fence *f, bool hurry)
{
	struct cache *c = n->fs->cache;

	cache_lock_dirs(c);
	(void)pthread_mutex_lock(&n->lock);
	if (!hurry)
		f->ticket = n->host_ticket;
	f->not_before = cache_now() + PARK_MAX;
	pass_names_locked(n, hurry);
	/* a size may have to wait for a lock of this very request: see settle_locked */
	f->looks = hurry;
	bool wait = !host_done_locked(n, f->ticket) || (!hurry && !sizes_done_locked(n, f->ticket));
	if (wait) {
		add_fence_locked(n, f);
		wake_locked(n); /* for the time at which it hurries */
	}
	(void)pthread_mutex_unlock(&n->lock);
	cache_unlock_dirs(c);
	return wait;
}

bool notify_follow_host(struct notify *n, struct notify_fence *f)
{
	f->kind = NOTIFY_HOST;
	return follow_host(n, f, false);
}

bool notify_names_passed(struct notify *n, fuse_ino_t ino)
{
	if (atomic_load(&n->n_passed) == 0)
		return false;
	SCOPE_LOCK(&n->lock);
	return passed_locked(n, ino) != NULL;
}

static bool wait_for_names(struct notify *n, struct notify_fence *f)
{
	SCOPE_LOCK(&n->lock);
	if (passed_locked(n, f->ino) == NULL)
		return false;
	f->not_before = cache_now() + NAMES_LOOK;
	add_fence_locked(n, f);
	wake_locked(n);
	return true;
}

bool notify_after_names(struct notify *n, fuse_ino_t ino, struct notify_fence *f)
{
	f->kind = NOTIFY_NAMES;
	f->ino = ino;
	f->looks = 0;
	return wait_for_names(n, f);
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
	/* what a fence lets go may wait for notifications next: see hold_on */
	while (n->oldest != NULL || n->fences != NULL) {
		struct notify_fence *f = n->fences;

		if (n->oldest != NULL) {
			item_done(n->oldest);
			finish_locked(n, n->oldest);
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
