/* The queue of the notifiers: items that stand for their equals, and those about the host's
 * changes. */
#include "fuse/notify_priv.h"

#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/outlive.h"
#include "fuse/fs_priv.h"

/* ---- items ---- */

/*
 * Without memory for it the kernel would go on showing what is no longer true,
 * for as long as a day: then it is better to show nothing.
 */
_Noreturn void notify_no_memory(void)
{
	log_err("no memory to invalidate what the kernel keeps: the mount ends");
	abort();
}

struct notification *item_new(uint64_t ino, const char *name, size_t len)
{
	struct notification *i = calloc(1, sizeof(*i) + len + 1);

	if (i == NULL)
		notify_no_memory();
	i->ino = ino;
	i->name_len = len;
	memcpy(i->name, name, len);
	return i;
}

/* ---- what is not done yet ---- */

struct shard *notify_shard(struct notify *n, uint64_t ino, bool entry)
{
	const unsigned half = NOTIFIERS / 2;

	return &n->shards[ino % half + (entry ? half : 0)];
}

void item_enqueue_locked(struct notify *n, struct notification *i)
{
	struct shard *s = notify_shard(n, i->ino, i->entry);

	i->next = NULL;
	*s->tail = i;
	s->tail = &i->next;
	(void)pthread_cond_signal(&s->work);
}

void shard_wait_locked(struct shard *s, struct notification *i, uint64_t not_before)
{
	struct notification *before = s->last_waiting;

	i->not_before = not_before;
	while (before != NULL && before->not_before > not_before)
		before = before->prev;
	i->prev = before;
	i->next = before != NULL ? before->next : s->waiting;
	*(i->next != NULL ? &i->next->prev : &s->last_waiting) = i;
	*(before != NULL ? &before->next : &s->waiting) = i;
}

void shard_unwait_locked(struct shard *s, struct notification *i)
{
	*(i->prev != NULL ? &i->prev->next : &s->waiting) = i->next;
	*(i->next != NULL ? &i->next->prev : &s->last_waiting) = i->prev;
}

static uint32_t item_hash(const struct notification *i)
{
	return hash_bytes(i->name, i->name_len,
			  hash_mix(i->ino << 2 | (i->entry ? 2u : 0u) | (i->data ? 1u : 0u)));
}

static struct notification *equal_locked(const struct notify *n, const struct notification *i)
{
	struct hash_link *l = hash_first(&n->same, item_hash(i));

	for (; l != NULL; l = hash_next(l)) {
		struct notification *o = HASH_ENTRY(l, struct notification, same);

		if (o->ino == i->ino && o->entry == i->entry && o->data == i->data &&
		    o->name_len == i->name_len && memcmp(o->name, i->name, i->name_len) == 0)
			return o;
	}
	return NULL;
}

static void hash_locked(struct notify *n, struct notification *i)
{
	i->hashed = !i->nothing && !i->settles && !i->asked && i->done == NULL &&
		    hash_add(&n->same, &i->same, item_hash(i)) == 0;
}

void item_unhash_locked(struct notify *n, struct notification *i)
{
	if (i->hashed)
		hash_del(&n->same, &i->same);
	i->hashed = false;
}

/* ---- what the host has changed ---- */

static void chain_in_locked(struct notify *n, struct notification *i, struct chain *c)
{
	i->chain = c;
	i->host_ticket = ++n->host_ticket;
	i->chain_newer = NULL;
	i->chain_older = c->newest;
	*(i->chain_older != NULL ? &i->chain_older->chain_newer : &c->oldest) = i;
	c->newest = i;
	atomic_fetch_add(&n->n_host, 1);
}

static void chain_locked(struct notify *n, struct notification *i)
{
	chain_in_locked(n, i,
			i->settles ? &n->host_sizes
			: i->entry ? &n->host_entries
				   : &n->host_inodes);
}

void item_unchain_locked(struct notify *n, struct notification *i)
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
static void replace_locked(struct notification *i, struct notification *by)
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
void item_asks_locked(struct notify *n, struct notification *i)
{
	uint64_t ticket = i->host_ticket;

	if (i->chain != &n->host_inodes)
		return;
	item_unchain_locked(n, i);
	chain_in_locked(n, i, &n->host_sizes);
	i->host_ticket = ticket;
}

struct passed_dir *notify_passed_locked(const struct notify *n, uint64_t ino)
{
	struct hash_link *l = hash_first(&n->passed, (uint32_t)hash_mix(ino));

	for (; l != NULL; l = hash_next(l)) {
		struct passed_dir *d = HASH_ENTRY(l, struct passed_dir, link);

		if (d->ino == ino)
			return d;
	}
	return NULL;
}

static void unpass_locked(struct notify *n, struct notification *i)
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
static void take_place_locked(struct notify *n, struct notification *i, struct notification *o)
{
	if (o->back && !i->back) {
		i->back = true;
		o->back = false;
	}
	if (i->passed == NULL && o->passed != NULL) {
		item_unchain_locked(n, i);
		i->passed = o->passed;
		o->passed = NULL;
	}
	if (i->passed != NULL)
		return;
	if (i->chain == NULL && o->chain != NULL)
		replace_locked(o, i);
}

/* into, which is yet to be done, does what i asks for as well. */
static void merge(struct notification *into, const struct notification *i)
{
	uint64_t end = into->off + into->len, end2 = i->off + i->len;
	bool all = into->len == 0 || i->len == 0;

	into->tries = 0;
	into->news = i->news > into->news ? i->news : into->news;
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
void notify_add_locked(struct notify *n, struct notification *i, bool host)
{
	struct notification *o = i->done == NULL && !i->settles ? equal_locked(n, i) : NULL;

	i->notify = n;
	i->born = i->news = cache_now();
	if (o != NULL) {
		n->backs -= i->back && o->back;
		o->back = o->back || i->back;
		if (host && o->chain == NULL && o->passed == NULL)
			chain_locked(n, o);
		if (o->tries > 0) { /* waits for its time, which has come */
			shard_unwait_locked(notify_shard(n, o->ino, o->entry), o);
			item_enqueue_locked(n, o);
		}
		merge(o, i);
		free(i);
		return;
	}
	/* whoever takes our place does it if we do not come to it */
	if (i->entry && !i->settles && i->name_len > 0)
		i->outlives = outlive_name(i->ino, i->name, i->name_len);
	i->ticket = ++n->ticket;
	i->older = n->newest;
	*(i->older != NULL ? &i->older->newer : &n->oldest) = i;
	n->newest = i;
	n->count++;
	stats_add(n->fs->stats, STAT_inval_waiting, 1);
	if (host)
		chain_locked(n, i);
	hash_locked(n, i);
	item_enqueue_locked(n, i);
}

void notify_add(struct notify *n, struct notification *i)
{
	SCOPE_LOCK(&n->lock);
	notify_add_locked(n, i, false);
}

void item_finish_locked(struct notify *n, struct notification *i)
{
	outlive_unname(i->outlives);
	item_unhash_locked(n, i);
	item_unchain_locked(n, i);
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

/* Whoever waits for the item goes on, whatever became of the item. Without the lock. */
void item_done(const struct notification *i)
{
	if (i->settles)
		cache_size_settled(i->notify->fs->cache, i->node, i->serial);
	if (i->done != NULL)
		i->done(i->arg);
}

/* It is to be done later, with what was asked for meanwhile. */
void item_rejoin_locked(struct notify *n, struct notification *i)
{
	struct notification *o = i->settles || i->nothing ? NULL : equal_locked(n, i);

	if (o != NULL) {
		item_unhash_locked(n, o);
		merge(i, o);
		take_place_locked(n, i, o);
		o->nothing = true;
		o->asks = false;
		o->drops = 0;
		o->changed = 0;
	}
	hash_locked(n, i);
}
