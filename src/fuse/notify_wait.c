/*
 * Who waits for what the notifiers do: fences, replies that synchronise, and acknowledgements
 * to the server.
 */
#include "fuse/notify_priv.h"

#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "fuse/fs_priv.h"
#include "fuse/task.h"

#define DEFER_AFTER	  (2 * MS) /* the server is told that an acknowledgement will take longer */
#define DEFER_ALWAYS	  (100 * MS) /* whatever it is that takes so long */
#define SIZE_LOOKS	  50 /* so often the host's answer about a size is waited for, PARK_MAX each, */
#define SIZE_LOOKS_LOCKED 5 /* and so often a size by whoever may keep it from being settled */
#define CUT_DOUBLED	  4 /* a truncation is looked at after 1 ms, then twice as long each time, */
#define CUT_LOOKS	  64	    /* so often at most: for a second */
#define NAMES_LOOK	  (10 * MS) /* a directory that is asked for waits for its names: looked at */
#define NAMES_LOOKS	  10	    /* so often at most while somebody waits for a lock, */
#define NAMES_WAITS	  1000	    /* and so often if nobody does */

/* ---- fences ---- */

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

/* Whether the size of the file is to be settled by a lock that a held reply keeps. */
static bool settling_is_held_up_locked(const struct notify *n, uint64_t ino)
{
	const struct notification *i = n->host_sizes.oldest;

	while (i != NULL && !(i->settles && i->held_up && i->node == ino))
		i = i->chain_newer;
	return i != NULL;
}

/*
 * The notifier that settles a size may wait for a lock of the very request that waits here: see
 * settle_locked.
 * So a request that has locked directories waits for what is known to be held up so at the first
 * look only, and for the rest not as long as others: there may be another lock between (see
 * pass_names_locked). Nor is the host waited for for ever, whose answer may be about another file
 * than the one it is slow with.
 */
static bool size_passed_locked(const struct notify *n, const struct notify_fence *f,
			       const struct notification *i)
{
	if (f->looks > (f->locks && (i->settles || i->tries > 0) ? SIZE_LOOKS_LOCKED : SIZE_LOOKS))
		return true;
	return f->locks && f->looks > 0 &&
	       ((i->settles && i->held_up) ||
		(i->tries > 0 && settling_is_held_up_locked(n, i->ino)));
}

static bool sizes_done_locked(const struct notify *n, const struct notify_fence *f)
{
	const struct notification *i = n->host_sizes.oldest;

	while (i != NULL && (i->host_ticket > f->ticket || size_passed_locked(n, f, i)))
		i = i->chain_newer;
	return i == NULL;
}

static bool fence_done_locked(const struct notify *n, struct notify_fence *f, uint64_t now)
{
	switch (f->kind) {
	case NOTIFY_HOST:
		return now >= f->not_before ||
		       (host_done_locked(n, f->ticket) && sizes_done_locked(n, f));
	case NOTIFY_NAMES:
		return now >= f->not_before || notify_passed_locked(n, f->ino) == NULL;
	case NOTIFY_CUT:
		return now >= f->not_before;
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

/* All: any of them may be inside the kernel. */
static void notify_wake_locked(struct notify *n)
{
	for (unsigned i = 0; i < NOTIFIERS; i++)
		(void)pthread_cond_signal(&n->shards[i].work);
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
	notify_wake_locked(n);
}

/* ---- replies that synchronise ---- */

/*
 * A name is told under the lock of its directory, which a request may hold until its reply:
 * then no reply waits for the name. The directory's attributes and listing go instead, which
 * waits for no lock.
 */
static void pass_locked(struct notify *n, struct notification *i)
{
	struct passed_dir *d = notify_passed_locked(n, i->ino);

	item_unchain_locked(n, i);
	if (d == NULL) {
		struct notification *back = item_new(i->ino, "", 0);

		d = calloc(1, sizeof(*d));
		if (d == NULL || hash_add(&n->passed, &d->link, (uint32_t)hash_mix(i->ino)) < 0)
			notify_no_memory();
		d->ino = i->ino;
		atomic_fetch_add(&n->n_passed, 1);
		back->data = back->back = true;
		n->backs++;
		notify_add_locked(n, back, false);
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
		const struct notification *i = n->shards[k].running;

		stuck[k] = i != NULL && i->entry && cache_dir_held(c, i->ino);
	}
	for (struct notification *i = n->host_entries.oldest, *next; i != NULL; i = next) {
		next = i->chain_newer;
		if (all || stuck[notify_shard(n, i->ino, true) - n->shards] ||
		    cache_dir_held(c, i->ino))
			pass_locked(n, i);
	}
	for (struct notification *i = n->host_sizes.oldest; i != NULL; i = i->chain_newer)
		i->held_up = i->settles && (stuck[notify_shard(n, i->ino, true) - n->shards] ||
					    cache_dir_held(c, i->ino));
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
	f->looks = hurry ? f->looks + 1 : 0;
	stats_add(n->fs->stats, STAT_fence_late, f->looks == SIZE_LOOKS + 1);
	bool wait = !host_done_locked(n, f->ticket) || !sizes_done_locked(n, f);
	if (wait) {
		add_fence_locked(n, f);
		notify_wake_locked(n); /* for the time at which it hurries */
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
	return notify_passed_locked(n, ino) != NULL;
}

static bool wait_for_names(struct notify *n, struct notify_fence *f)
{
	SCOPE_LOCK(&n->lock);
	if (notify_passed_locked(n, f->ino) == NULL)
		return false;
	f->not_before = cache_now() + NAMES_LOOK;
	add_fence_locked(n, f);
	notify_wake_locked(n);
	return true;
}

bool notify_after_names(struct notify *n, fuse_ino_t ino, struct notify_fence *f)
{
	f->kind = NOTIFY_NAMES;
	f->ino = ino;
	f->looks = f->waits = 0;
	return wait_for_names(n, f);
}

/*
 * Whether who tells names of the directory waits for a lock in the kernel: he sleeps there then.
 * On a busy machine he may be there for as long, and is only to run.
 */
static bool names_are_stuck(struct notify *n, uint64_t ino)
{
	SCOPE_LOCK(&n->lock);
	const struct shard *s = notify_shard(n, ino, true);

	return s->running != NULL && cache_now() - s->running->running >= NAMES_LOOK / 2 &&
	       (s->tid == 0 || task_waits_for_lock(s->tid));
}

/*
 * The names of a directory have not been told for so long. While a request of ours holds the
 * lock of the directory, its reply is waited for. If none does, then maybe the very task that
 * asks for the attributes (may_create, may_delete), which would wait for ever; but not if
 * it is still on its way there, or nobody waits for a lock: the machine is busy, and the names will
 * be told.
 */
static bool after_names_still(struct notify *n, struct notify_fence *f)
{
	bool busy = cache_dir_busy(n->fs->cache, f->ino);
	bool stuck = !busy && names_are_stuck(n, f->ino) && !task_walks(f->tid);

	f->looks += stuck;
	f->waits += !busy;
	if (busy || (stuck ? f->looks < NAMES_LOOKS && !task_changes_names(f->tid)
			   : f->waits < NAMES_WAITS))
		return wait_for_names(n, f);
	stats_add(n->fs->stats, STAT_fence_late, notify_names_passed(n, f->ino));
	return false;
}

/* ---- truncations of the guest's own ---- */

static bool wait_for_cut(struct notify *n, struct notify_fence *f)
{
	unsigned doubled = f->looks < CUT_DOUBLED ? f->looks : CUT_DOUBLED;

	SCOPE_LOCK(&n->lock);
	f->not_before = cache_now() + (MS << doubled);
	add_fence_locked(n, f);
	notify_wake_locked(n);
	return true;
}

bool notify_after_cut(struct notify *n, fuse_ino_t ino, struct notify_fence *f)
{
	uint32_t task;

	f->kind = NOTIFY_CUT;
	f->ino = ino;
	f->looks = 0;
	f->cpu = 0;
	return cache_size_cut(n->fs->cache, ino, &task) && wait_for_cut(n, f);
}

/* It waits for no lock of the kernel's: whoever asks may hold one that truncating needs. */
static bool after_cut_still(struct notify *n, struct notify_fence *f)
{
	struct cache *c = n->fs->cache;
	uint32_t task;

	if (!cache_size_cut(c, f->ino, &task))
		return false;
	if (task != 0) {
		notify_after_forced(n);
		if (task_went_on((pid_t)task, &f->cpu)) {
			cache_task_goes_on(c, f->ino, task);
			return false;
		}
	}
	return ++f->looks <= CUT_LOOKS && wait_for_cut(n, f);
}

/* f, taken out of the list, is not done yet, and was put back. */
static bool waits_still(struct notify *n, struct notify_fence *f)
{
	switch (f->kind) {
	case NOTIFY_HOST:
		return cache_now() >= f->not_before && follow_host(n, f, true);
	case NOTIFY_NAMES:
		return after_names_still(n, f);
	case NOTIFY_CUT:
		return after_cut_still(n, f);
	default:
		return false;
	}
}

/* ---- acknowledgements ---- */

/* Whether a notification waits, inside the kernel or parked, for the reply to a request of ours. */
static bool held_up_locked(const struct notify *n, uint64_t now)
{
	if (n->pages_parked > 0)
		return true;
	for (unsigned k = 0; k < NOTIFIERS; k++) {
		const struct notification *i = n->shards[k].running;

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
void notify_say_locked(struct notify *n)
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

void notify_mark(void *arg, uint64_t seq)
{
	struct notify *n = arg;
	uint64_t now = cache_now();

	SCOPE_LOCK(&n->lock);
	if (n->n_acks < ACKS_MAX)
		n->acks[n->n_acks++] = (struct ack){.deadline = now + DEFER_AFTER, .born = now};
	n->acks[n->n_acks - 1].ticket = n->host_ticket;
	n->acks[n->n_acks - 1].passed = false;
	n->acks[n->n_acks - 1].seq = seq;
	notify_wake_locked(n);
}
