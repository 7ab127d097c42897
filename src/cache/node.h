/* Nodes: ids, memory, references, and who is kept when the kernel has forgotten him. */
#pragma once

#include "cache/cache_priv.h"

static inline struct chunk *chunk_at(const struct cache *c, uint32_t i)
{
	struct chunk_page *p = paged_at(&c->chunks, i / CHUNKS_PER_PAGE);

	return &p->chunks[i % CHUNKS_PER_PAGE];
}

static inline struct node *node_slot(const struct cache *c, uint32_t slot)
{
	return &chunk_at(c, slot / NODES_PER_CHUNK)->nodes[slot % NODES_PER_CHUNK];
}

/* The node of a slot from 1 to below slot_count; NULL if it is not in use. */
static inline struct node *node_at_locked(const struct cache *c, uint32_t slot)
{
	const struct chunk *k = chunk_at(c, slot / NODES_PER_CHUNK);

	if (slot % NODES_PER_CHUNK >= k->fresh)
		return NULL;
	struct node *n = node_slot(c, slot);
	return (n->flags & NODE_FREE) == 0 ? n : NULL;
}

/* Finds a node by FUSE id and holds it; NULL if there is none. */
struct node *node_get_locked(struct cache *c, uint64_t id);
struct node *node_find_locked(const struct cache *c, uint64_t id); /* without holding it */
void node_put_locked(struct cache *c, struct node *n);
/* Nothing holds the node any more: keeps it for later or frees it. */
void node_check_locked(struct cache *c, struct node *n);
void nodes_free(struct cache *c);

/*
 * The node of a server id, made if it is new, held, with one more server
 * reference. NULL without memory: the reference is then given back.
 */
struct node *node_named_locked(struct cache *c, uint64_t server);
struct node *node_find_server_locked(struct cache *c, uint64_t server);

/* The size that the kernel has, or will when it has digested what was answered. */
static inline uint64_t node_kernel_size(const struct node *n)
{
	if ((n->flags & NODE_SIZE) == 0)
		return n->attr.size;
	const struct kernel_size *k = &n->file->size;
	return k->set > k->has ? k->set : k->has;
}

/* Its last name may have gone: blocks become free with what is given back of it. */
static inline bool node_may_be_gone(const struct node *n)
{
	return n->attr.nlink == 0 || n->attr_until == 0;
}

/* Its record for whoever takes our place: to be called when anything in it has changed. */
void node_outlive_locked(const struct node *n);
/* All that the records tell of. 0 or -errno; before any node was made. */
int nodes_restore_locked(struct cache *c);

/* One more reference of the kernel's: see node_told_locked. */
void node_known_locked(struct cache *c, struct node *n);
/* Frees idle nodes and absent names above the budget. */
void nodes_evict_locked(struct cache *c);

/* NULL without memory, or for what is no directory. */
struct dir *dir_of_locked(struct node *n);

struct file *file_of_locked(struct node *n);
