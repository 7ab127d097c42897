#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cache/node.h"
#include "cache/outbox.h"
#include "core/cleanup.h"
#include "core/outlive.h"

/*
 * ---- ids and memory: nodes live in chunks, and the number of a node's slot is half its id ----
 *
 * The other half is how often the slot was used. A chunk none of whose nodes is in use
 * is given up, and remembers that of all its slots. New nodes come into the first chunk that has
 * room, so that the last ones empty.
 */

static struct chunk_page *page_of(const struct cache *c, uint32_t chunk)
{
	return paged_at(&c->chunks, chunk / CHUNKS_PER_PAGE);
}

/* Moves the hint to the first chunk that has room, or behind all. */
static void find_room(struct cache *c, uint32_t n)
{
	while (c->chunk_hint < n && chunk_at(c, c->chunk_hint)->used == NODES_PER_CHUNK) {
		bool skip = c->chunk_hint % CHUNKS_PER_PAGE == 0 &&
			    page_of(c, c->chunk_hint)->full == CHUNKS_PER_PAGE;

		c->chunk_hint += skip ? CHUNKS_PER_PAGE : 1;
	}
}

/* The first chunk with a free slot is that of the hint; NULL without memory. */
static struct chunk *chunk_with_room(struct cache *c)
{
	uint32_t n = c->slot_count / NODES_PER_CHUNK;

	find_room(c, n);
	bool new = c->chunk_hint == n;
	if (new &&n == UINT32_MAX / NODES_PER_CHUNK)
		return NULL;
	if (new &&n / CHUNKS_PER_PAGE == c->chunks.count && paged_grow(&c->chunks) < 0)
		return NULL;
	struct chunk *k = chunk_at(c, c->chunk_hint);
	if (k->nodes == NULL) {
		k->nodes = calloc(NODES_PER_CHUNK, sizeof(struct node));
		if (k->nodes == NULL)
			return NULL;
		k->fresh = k->used = 0;
		k->free_slot = 0;
	}
	if (new)
		c->slot_count += NODES_PER_CHUNK;
	return k;
}

/* From the chunk of the hint. */
static struct node *take_from(struct cache *c, struct chunk *k)
{
	uint32_t first = c->chunk_hint * NODES_PER_CHUNK, slot = k->free_slot;

	if (++k->used == NODES_PER_CHUNK)
		page_of(c, c->chunk_hint)->full++;
	if (slot != 0) {
		k->free_slot = node_slot(c, slot)->older;
		return node_slot(c, slot);
	}
	slot = first + k->fresh++;
	node_slot(c, slot)->id = (uint64_t)k->uses << 32 | slot;
	return node_slot(c, slot);
}

/* A zeroed node with an id that none had before; NULL without memory. */
static struct node *take_node(struct cache *c)
{
	struct chunk *k = chunk_with_room(c);

	if (k == NULL)
		return NULL;
	if (c->chunk_hint == 0 && k->used == 0)
		take_from(c, k)->flags = NODE_FREE; /* no id is 0 */
	struct node *n = take_from(c, k);
	*n = (struct node){.id = n->id};
	return n;
}

static void give_up(struct chunk *k)
{
	for (uint32_t i = 0; i < k->fresh; i++)
		if (k->nodes[i].id >> 32 > k->uses)
			k->uses = (uint32_t)(k->nodes[i].id >> 32);
	free(TAKE_PTR(k->nodes));
	k->fresh = 0;
	k->free_slot = 0;
}

static void give_node(struct cache *c, struct node *n)
{
	uint32_t slot = (uint32_t)n->id, chunk = slot / NODES_PER_CHUNK;
	struct chunk *k = chunk_at(c, chunk);
	uint64_t next = n->id + (UINT64_C(1) << 32);

	*n = (struct node){.id = next, .flags = NODE_FREE};
	c->freed++;
	if (next >> 32 == 0)
		return; /* after 2^32 uses the slot is retired */
	n->older = k->free_slot;
	k->free_slot = slot;
	if (k->used == NODES_PER_CHUNK)
		page_of(c, chunk)->full--;
	if (--k->used == 0)
		give_up(k);
	if (chunk < c->chunk_hint)
		c->chunk_hint = chunk;
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

/* ---- what it has besides, by its type ---- */

struct dir *dir_of_locked(struct node *n)
{
	/* of a node whose attributes never came, nothing is known yet */
	if (!S_ISDIR(n->attr.mode) && (n->attr.mode != 0 || n->id != CACHE_ROOT))
		return NULL;
	if (n->dir == NULL)
		n->dir = calloc(1, sizeof(*n->dir));
	return n->dir;
}

struct file *file_of_locked(struct node *n)
{
	if (!S_ISREG(n->attr.mode))
		return NULL;
	if (n->file == NULL)
		n->file = calloc(1, sizeof(*n->file));
	return n->file;
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
	n->nlookup = 0;
	node_outlive_locked(n);
	idle_del(c, n);
	if (node_may_be_gone(n))
		space_moves_locked(c);
	c->empty_node(c, n);
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

void node_outlive_locked(const struct node *n)
{
	if (outlive == NULL)
		return;
	const struct outlive_node record = {.id = n->id,
					    .server = n->server,
					    .nlookup = n->nlookup,
					    .size = node_kernel_size(n),
					    .mode = n->attr.mode,
					    .locked = (n->flags & NODE_LOCKED) != 0};
	outlive_node(&record);
}

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

void node_known_locked(struct cache *c, struct node *n)
{
	outlive_gain(n->id);
	n->nlookup++;
	n->flags &= ~(uint32_t)NODE_DOUBTED;
	node_outlive_locked(n);
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

/* ---- in the place of another client ---- */

/* A node of the dead client. Nobody knows what the kernel has of it, so it may have everything. */
static int restore_node(struct cache *c, struct node *n, const struct outlive_node *o)
{
	*n = (struct node){.id = o->id,
			   .server = o->server,
			   .nlookup = o->nlookup,
			   .bumped = 1,
			   .attr = {.mode = o->mode},
			   .server_refs = 1,
			   .flags = o->locked ? NODE_LOCKED : 0u};
	if (S_ISREG(o->mode)) {
		struct file *f = file_of_locked(n);

		if (f == NULL)
			return -ENOMEM;
		f->size.has = n->attr.size = o->size;
		f->used = true;
		n->flags |= NODE_SIZE;
	}
	if (hash_add(&c->by_server, &n->by_server, (uint32_t)hash_mix(n->server)) < 0)
		return -ENOMEM;
	c->node_count++;
	stats_add(c->options.stats, STAT_cache_nodes, 1);
	return 0;
}

static int restore_chunk(struct cache *c, uint32_t chunk)
{
	uint32_t first = chunk * NODES_PER_CHUNK, used = chunk == 0;

	if (chunk / CHUNKS_PER_PAGE == c->chunks.count && paged_grow(&c->chunks) < 0)
		return -ENOMEM;
	struct chunk *k = chunk_at(c, chunk);
	c->slot_count += NODES_PER_CHUNK;
	for (uint32_t i = 0; i < NODES_PER_CHUNK; i++) {
		const struct outlive_node *o = outlive_node_at(first + i);

		used += o->nlookup > 0;
		if (o->id >> 32 >= k->uses && o->id != 0)
			k->uses = (uint32_t)(o->id >> 32) + 1;
	}
	if (used == 0)
		return 0;
	k->nodes = calloc(NODES_PER_CHUNK, sizeof(struct node));
	if (k->nodes == NULL)
		return -ENOMEM;
	k->fresh = NODES_PER_CHUNK;
	k->used = used;
	for (uint32_t i = 0; i < NODES_PER_CHUNK; i++) {
		const struct outlive_node *o = outlive_node_at(first + i);
		struct node *n = &k->nodes[i];

		if (o->nlookup > 0) {
			int r = restore_node(c, n, o);

			if (r < 0)
				return r;
			continue;
		}
		*n = (struct node){.id = (uint64_t)k->uses << 32 | (first + i), .flags = NODE_FREE};
		if (first + i == 0)
			continue; /* no id is 0 */
		n->older = k->free_slot;
		k->free_slot = first + i;
	}
	if (used == NODES_PER_CHUNK)
		page_of(c, chunk)->full++;
	return 0;
}

int nodes_restore_locked(struct cache *c)
{
	uint32_t chunks = (outlive->node_slots + NODES_PER_CHUNK - 1) / NODES_PER_CHUNK;
	int r = 0;

	for (uint32_t i = 0; i < chunks && r == 0; i++)
		r = restore_chunk(c, i);
	return r;
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
		free(chunk_at(c, i / NODES_PER_CHUNK)->nodes);
	paged_done(&c->chunks);
	hash_done(&c->by_server);
}
