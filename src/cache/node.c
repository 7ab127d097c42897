#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"
#include "core/fault.h"

uint64_t cache_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- ids and memory: nodes live in chunks, and the number of a node's slot is half its id ---- */

static int grow_chunks(struct cache *c)
{
	uint32_t cap = c->chunk_cap == 0 ? 16 : c->chunk_cap * 2;
	struct node **p = NULL;

	if (cap <= UINT32_MAX / NODES_PER_CHUNK)
		p = realloc(c->chunks, cap * sizeof(struct node *));
	if (p == NULL)
		return -1;
	c->chunks = p;
	c->chunk_cap = cap;
	return 0;
}

/* A slot that none had before. */
static uint32_t new_slot(struct cache *c)
{
	uint32_t chunk = c->slot_count / NODES_PER_CHUNK;

	if (c->slot_count % NODES_PER_CHUNK == 0) {
		if (chunk == c->chunk_cap && grow_chunks(c) < 0)
			return 0;
		c->chunks[chunk] = calloc(NODES_PER_CHUNK, sizeof(struct node));
		if (c->chunks[chunk] == NULL)
			return 0;
	}
	if (c->slot_count == 0)
		node_slot(c, c->slot_count++)->flags = NODE_FREE; /* no id is 0 */
	uint32_t slot = c->slot_count++;
	node_slot(c, slot)->id = slot;
	return slot;
}

/* A zeroed node with an id that none had before; NULL without memory. */
static struct node *take_node(struct cache *c)
{
	uint32_t slot = c->free_slot;

	if (slot != 0)
		c->free_slot = node_slot(c, slot)->older;
	else if ((slot = new_slot(c)) == 0)
		return NULL;
	struct node *n = node_slot(c, slot);
	*n = (struct node){.id = n->id};
	return n;
}

static void give_node(struct cache *c, struct node *n)
{
	uint64_t next = n->id + (UINT64_C(1) << 32);

	*n = (struct node){.id = next, .flags = NODE_FREE};
	if (next >> 32 == 0)
		return; /* after 2^32 uses the slot is retired */
	n->older = c->free_slot;
	c->free_slot = (uint32_t)n->id;
}

struct node *node_find_locked(const struct cache *c, uint64_t id)
{
	uint32_t slot = (uint32_t)id;
	struct node *n = slot < c->slot_count ? node_at_locked(c, slot) : NULL;

	return n != NULL && n->id == id ? n : NULL;
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

static bool is_device(uint32_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

static void keep_attr(struct node *n, const struct attr *a)
{
	if (S_ISREG(a->mode) && n->nlookup > 0 && n->attr.version != 0 && a->size != n->attr.size)
		size_changes_locked(n);
	n->attr = (struct kept_attr){
		.version = a->version,
		.ino = a->ino,
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
	};
	if (is_device(a->mode))
		n->attr.rdev = a->rdev;
	else
		n->attr.size = a->size;
	n->flags &= ~(uint32_t)NODE_NO_ACL;
	if ((a->flags & ATTR_NO_ACL) != 0)
		n->flags |= NODE_NO_ACL;
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
		.rdev = is_device(k->mode) ? k->rdev : 0,
		.size = is_device(k->mode) ? 0 : k->size,
		.blocks = k->blocks,
		.blksize = k->blksize,
		.atime = {k->atime, k->atime_nsec},
		.mtime = {k->mtime, k->mtime_nsec},
		.ctime = {k->ctime, k->ctime_nsec},
		.flags = (n->flags & NODE_NO_ACL) != 0 ? ATTR_NO_ACL : 0,
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

void node_note_locked(struct node *n, const struct attr *a)
{
	if (a->version <= n->attr.version || node_other_type(n, a))
		return;
	keep_attr(n, a);
	n->attr_until = 0;
}

uint64_t node_install_locked(struct cache *c, struct node *n, const struct attr *a,
			     uint64_t submitted, bool promised)
{
	uint64_t now = cache_now();
	uint64_t ttl = c->options.ttl.attr;

	if (node_other_type(n, a))
		return 0;
	node_identify(n, a);
	if (node_bumped_since(n, submitted)) {
		stats_add(c->options.stats, STAT_cache_tainted, 1);
		node_note_locked(n, a);
		return 0;
	}
	if (promised && now < c->lease_until)
		ttl = c->options.cap.attr;
	else
		promised = false;
	if (!promised && ttl > 0)
		timed_node_locked(c, n);
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

void node_bump_data_locked(struct cache *c, struct node *n)
{
	node_bump_locked(c, n);
	if (S_ISREG(n->attr.mode))
		pages_drop_locked(c, n);
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

bool node_bumped_since(const struct node *n, uint64_t clock)
{
	return n->bumped > clock && !FAULT(taint_ignored);
}

bool node_names_bumped_since(const struct node *n, uint64_t clock)
{
	/* of what has no struct dir, for want of memory: any change */
	uint64_t at = S_ISDIR(n->attr.mode) && n->dir != NULL ? n->dir->names_bumped : n->bumped;

	return at > clock && !FAULT(taint_ignored);
}

/* ---- the list of nodes that the kernel has forgotten ---- */

/* Where what comes after slot in the idle list is linked from, and what comes before it. */
static uint32_t *idle_older(struct cache *c, uint32_t slot)
{
	return slot != 0 ? &node_slot(c, slot)->older : &c->idle_newest;
}

static uint32_t *idle_newer(struct cache *c, uint32_t slot)
{
	return slot != 0 ? &node_slot(c, slot)->newer : &c->idle_oldest;
}

static void idle_add(struct cache *c, struct node *n)
{
	uint32_t slot = (uint32_t)n->id;

	if (n->flags & NODE_IDLE)
		return;
	n->flags |= NODE_IDLE;
	n->newer = 0;
	n->older = c->idle_newest;
	*idle_newer(c, n->older) = slot;
	c->idle_newest = slot;
	c->idle_count++;
}

static void idle_del(struct cache *c, struct node *n)
{
	if ((n->flags & NODE_IDLE) == 0)
		return;
	n->flags &= ~(uint32_t)NODE_IDLE;
	if (c->idle_hand == (uint32_t)n->id)
		c->idle_hand = n->newer;
	*idle_older(c, n->newer) = n->older;
	*idle_newer(c, n->older) = n->newer;
	n->newer = n->older = 0;
	c->idle_count--;
}

static void free_node(struct cache *c, struct node *n)
{
	idle_del(c, n);
	if (node_may_be_gone(n))
		space_moves_locked(c);
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
	hash_del(&c->by_server, &n->by_server);
	c->node_count--;
	stats_sub(c->options.stats, STAT_cache_nodes, 1);
	give_node(c, n);
}

/*
 * SIEVE (Zhang et al., NSDI 2024): the hand moves from the oldest to the
 * newest and takes the first that was not used since it came; a scan, whose
 * nodes are used once, leaves those in place that are used again.
 */
void nodes_evict_locked(struct cache *c)
{
	uint32_t slot = c->idle_hand;

	while (c->idle_count > c->options.node_budget) {
		struct node *n = node_slot(c, slot != 0 ? slot : c->idle_oldest);

		slot = n->newer;
		if (n->flags & NODE_VISITED)
			n->flags &= ~(uint32_t)NODE_VISITED;
		else if (n->refs == 0)
			free_node(c, n);
		else
			idle_del(c, n); /* comes back when the request is done */
	}
	c->idle_hand = slot;
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
	if (n->nlookup++ == 0)
		size_unknown_locked(n); /* it makes a new inode */
	if (n->flags & NODE_IDLE) {
		idle_del(c, n);
		n->flags |= NODE_VISITED;
	}
}

struct node *node_named_locked(struct cache *c, uint64_t server)
{
	struct node *n = node_find_server_locked(c, server);

	if (n == NULL) {
		n = take_node(c);
		if (n != NULL &&
		    hash_add(&c->by_server, &n->by_server, (uint32_t)hash_mix(server)) < 0)
			give_node(c, TAKE_PTR(n));
		if (n == NULL) {
			cache_give_back_locked(c, server, 1);
			return NULL;
		}
		n->server = server;
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
		struct node *n = node_at_locked(c, i);

		if (n != NULL) {
			n->refs = 0;
			n->nlookup = 0;
			free_node(c, n);
		}
	}
	for (uint32_t i = 0; i < c->slot_count; i += NODES_PER_CHUNK)
		free(c->chunks[i / NODES_PER_CHUNK]);
	free(c->chunks);
	hash_done(&c->by_server);
}
