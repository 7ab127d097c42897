#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cache/cache_priv.h"
#include "core/fault.h"

uint64_t cache_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- ids: the number of a slot, and above it how often the slot was used ---- */

static int grow_slots(struct cache *c)
{
	uint32_t cap = c->slot_cap == 0 ? 256 : c->slot_cap * 2;
	void *p;

	if (cap < c->slot_cap)
		return -1;
	if ((p = realloc(c->slots, cap * sizeof(*c->slots))) == NULL)
		return -1;
	c->slots = p;
	if ((p = realloc(c->slot_uses, cap * sizeof(*c->slot_uses))) == NULL)
		return -1;
	c->slot_uses = p;
	if ((p = realloc(c->free_slots, cap * sizeof(*c->free_slots))) == NULL)
		return -1;
	c->free_slots = p;
	if (c->slot_cap == 0) {
		c->slots[0] = NULL; /* an id is never 0 */
		c->slot_uses[0] = 0;
		c->slot_count = 1;
	}
	c->slot_cap = cap;
	return 0;
}

/* Gives n an id that none had before. */
static int take_id(struct cache *c, struct node *n)
{
	uint32_t at;

	if (c->free_count > 0) {
		at = c->free_slots[--c->free_count];
	} else {
		if (c->slot_count == c->slot_cap && grow_slots(c) < 0)
			return -1;
		at = c->slot_count++;
		c->slot_uses[at] = 0;
	}
	c->slots[at] = n;
	n->id = (uint64_t)c->slot_uses[at] << 32 | at;
	return 0;
}

static void give_id(struct cache *c, const struct node *n)
{
	uint32_t at = (uint32_t)n->id;

	c->slots[at] = NULL;
	if (++c->slot_uses[at] != 0) /* after 2^32 uses the slot is retired */
		c->free_slots[c->free_count++] = at;
}

struct node *node_find_locked(const struct cache *c, uint64_t id)
{
	uint32_t at = (uint32_t)id;

	return at < c->slot_count && c->slots[at] != NULL && c->slots[at]->id == id ? c->slots[at]
										    : NULL;
}

struct node *node_find_server_locked(struct cache *c, uint64_t server)
{
	struct hash_link *l = hash_first(&c->by_server, (uint32_t)hash_mix(server));

	for (; l != NULL; l = hash_next(l)) {
		struct node *n = HASH_ENTRY(l, struct node, by_server);

		if (n->server == server)
			return n;
	}
	return NULL;
}

/* ---- attributes ---- */

static void keep_attr(struct node *n, const struct attr *a)
{
	n->attr = (struct kept_attr){
		.version = a->version,
		.ino = a->ino,
		.size = a->size,
		.blocks = a->blocks,
		.atime = a->atime.sec,
		.mtime = a->mtime.sec,
		.ctime = a->ctime.sec,
		.atime_nsec = a->atime.nsec,
		.mtime_nsec = a->mtime.nsec,
		.ctime_nsec = a->ctime.nsec,
		.mode = a->mode,
		.nlink = a->nlink < UINT32_MAX ? (uint32_t)a->nlink : UINT32_MAX,
		.uid = a->uid,
		.gid = a->gid,
		.blksize = a->blksize,
		.rdev = (uint32_t)(a->rdev >> 32) << 20 | ((uint32_t)a->rdev & 0xfffff),
	};
}

void node_attr(const struct node *n, struct attr *ret)
{
	const struct kept_attr *k = &n->attr;

	*ret = (struct attr){
		.version = k->version,
		.ino = k->ino,
		.mode = k->mode,
		.nlink = k->nlink,
		.uid = k->uid,
		.gid = k->gid,
		.rdev = (uint64_t)(k->rdev >> 20) << 32 | (k->rdev & 0xfffff),
		.size = k->size,
		.blocks = k->blocks,
		.blksize = k->blksize,
		.atime = {k->atime, k->atime_nsec},
		.mtime = {k->mtime, k->mtime_nsec},
		.ctime = {k->ctime, k->ctime_nsec},
	};
}

void node_identify(struct node *n, const struct attr *a)
{
	if (n->attr.ino == 0)
		n->attr.ino = a->ino;
	if (n->attr.mode == 0)
		n->attr.mode = a->mode;
}

bool node_other_type(const struct node *n, const struct attr *a)
{
	return n->attr.mode != 0 && ((a->mode ^ n->attr.mode) & S_IFMT) != 0;
}

bool node_fresh_locked(const struct cache *c, const struct node *n, uint64_t now)
{
	return n->attr_until > now && ((n->flags & NODE_PROMISED) == 0 || now < c->lease_until);
}

uint64_t node_install_locked(struct cache *c, struct node *n, const struct attr *a,
			     uint64_t submitted, bool promised)
{
	uint64_t now = cache_now();
	uint64_t ttl = c->options.ttl.attr;

	if (node_other_type(n, a))
		return 0;
	node_identify(n, a);
	if (n->bumped > submitted && !FAULT(taint_ignored)) {
		stats_add(c->options.stats, STAT_cache_tainted, 1);
		if (a->version > n->attr.version)
			keep_attr(n, a); /* to compare with, not to be told */
		return 0;
	}
	if (promised && now < c->lease_until)
		ttl = c->options.cap.attr;
	else
		promised = false;
	if (a->version != 0 && a->version <= n->attr.version) {
		/* Older than what is known: tell it, but for no time. */
		return a->version == n->attr.version ? ttl : 0;
	}
	keep_attr(n, a);
	n->attr_until = now + ttl;
	n->flags = promised ? n->flags | NODE_PROMISED : n->flags & ~(uint32_t)NODE_PROMISED;
	return ttl;
}

void node_bump_locked(struct cache *c, struct node *n)
{
	n->bumped = ++c->clock;
	n->attr_until = 0;
	n->flags &= ~(uint32_t)NODE_NO_XATTR;
}

void node_bump_names_locked(struct cache *c, struct node *n)
{
	struct dir *d = dir_of_locked(n);

	node_bump_locked(c, n);
	if (d != NULL) {
		d->names_bumped = n->bumped;
		d->build = 0; /* what is being put together may lack the change */
	}
}

uint64_t node_names_bumped(const struct node *n)
{
	/* of what has no struct dir, for want of memory: any change */
	return S_ISDIR(n->attr.mode) && n->dir != NULL ? n->dir->names_bumped : n->bumped;
}

/* ---- the list of nodes that the kernel has forgotten ---- */

static void idle_add(struct cache *c, struct node *n)
{
	if (n->flags & NODE_IDLE)
		return;
	n->flags |= NODE_IDLE;
	n->newer = NULL;
	n->older = c->idle_newest;
	if (n->older != NULL)
		n->older->newer = n;
	else
		c->idle_oldest = n;
	c->idle_newest = n;
	c->idle_count++;
}

static void idle_del(struct cache *c, struct node *n)
{
	if ((n->flags & NODE_IDLE) == 0)
		return;
	n->flags &= ~(uint32_t)NODE_IDLE;
	if (c->idle_hand == n)
		c->idle_hand = n->newer;
	*(n->newer != NULL ? &n->newer->older : &c->idle_newest) = n->older;
	*(n->older != NULL ? &n->older->newer : &c->idle_oldest) = n->newer;
	n->newer = n->older = NULL;
	c->idle_count--;
}

static void free_node(struct cache *c, struct node *n)
{
	idle_del(c, n);
	if (S_ISDIR(n->attr.mode)) {
		names_drop_locked(c, n, false);
	} else if (S_ISREG(n->attr.mode)) {
		pages_drop_locked(c, n);
		idle_close_locked(c, n);
	}
	if (n->name != NULL)
		name_lose_node_locked(c, n->name, n);
	free(n->more);
	cache_give_back_locked(c, n->server, n->server_refs);
	give_id(c, n);
	hash_del(&c->by_server, &n->by_server);
	c->node_count--;
	stats_sub(c->options.stats, STAT_cache_nodes, 1);
	free(n);
}

/*
 * SIEVE (Zhang et al., NSDI 2024): the hand moves from the oldest to the
 * newest and takes the first that was not used since it came; a scan, whose
 * nodes are used once, leaves those in place that are used again.
 */
void nodes_evict_locked(struct cache *c)
{
	struct node *n = c->idle_hand != NULL ? c->idle_hand : c->idle_oldest;

	while (c->idle_count > c->options.node_budget) {
		if (n == NULL)
			n = c->idle_oldest;
		struct node *next = n->newer;

		if (n->flags & NODE_VISITED) {
			n->flags &= ~(uint32_t)NODE_VISITED;
		} else if (n->refs == 0) {
			free_node(c, n);
		} else {
			idle_del(c, n); /* comes back when the request is done */
		}
		n = next;
	}
	c->idle_hand = n;
}

/* ---- references ---- */

struct node *node_get_locked(struct cache *c, uint64_t id)
{
	struct node *n = node_find_locked(c, id);

	if (n != NULL)
		n->refs++;
	return n;
}

void node_check_locked(struct cache *c, struct node *n)
{
	if (n->refs > 0 || n->nlookup > 0)
		return;
	if ((n->flags & NODE_PROMISED) == 0 || n->attr.nlink == 0 || n->attr_until == 0) {
		free_node(c, n);
		return;
	}
	idle_add(c, n);
	nodes_evict_locked(c);
}

void node_put_locked(struct cache *c, struct node *n)
{
	if (n == NULL)
		return;
	n->refs--;
	node_check_locked(c, n);
}

void node_told_locked(struct cache *c, struct node *n)
{
	n->nlookup++;
	if (n->flags & NODE_IDLE) {
		idle_del(c, n);
		n->flags |= NODE_VISITED;
	}
}

struct node *node_named_locked(struct cache *c, uint64_t server)
{
	struct node *n = node_find_server_locked(c, server);

	if (n == NULL) {
		n = calloc(1, sizeof(*n));
		if (n == NULL || take_id(c, n) < 0) {
			free(n);
			cache_give_back_locked(c, server, 1);
			return NULL;
		}
		n->server = server;
		if (hash_add(&c->by_server, &n->by_server, (uint32_t)hash_mix(server)) < 0) {
			give_id(c, n);
			free(n);
			cache_give_back_locked(c, server, 1);
			return NULL;
		}
		c->node_count++;
		stats_add(c->options.stats, STAT_cache_nodes, 1);
	}
	if (n->server_refs == UINT32_MAX) {
		cache_give_back_locked(c, server, n->server_refs - 1);
		n->server_refs = 1;
	}
	n->server_refs++;
	n->refs++;
	return n;
}

void nodes_free(struct cache *c)
{
	for (uint32_t i = 1; i < c->slot_count; i++) {
		struct node *n = c->slots[i];

		if (n != NULL) {
			n->refs = 0;
			n->nlookup = 0;
			free_node(c, n);
		}
	}
	free(c->slots);
	free(c->slot_uses);
	free(c->free_slots);
	hash_done(&c->by_server);
}
