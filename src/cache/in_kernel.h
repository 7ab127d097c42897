/* In kernel: what the kernel may hold of a node, and how it hears that this is no longer true. */
#pragma once

#include "cache/cache_priv.h"

/* The kernel gets one more reference. */
void node_told_locked(struct cache *c, struct node *n);

/*
 * The kernel may have data of n: pages of a file, or a directory's listing. Only these calls write
 * that record: noted when the kernel may get data, forgotten when the data is taken back, or when
 * the kernel has forgotten the node.
 */
static inline void kernel_data_noted_locked(struct node *n)
{
	n->flags |= NODE_KERNEL_DATA;
}

static inline void kernel_data_forgotten_locked(struct node *n)
{
	n->flags &= ~(uint32_t)NODE_KERNEL_DATA;
}

static inline bool kernel_has_data_locked(const struct node *n)
{
	return (n->flags & NODE_KERNEL_DATA) != 0;
}

/*
 * Attributes that tell of a change of the content, before its invalidation has
 * come: the kernel's pages go before it hears of the new size.
 */
void node_compare_locked(struct cache *c, struct node *n, const struct attr *a);
void node_lose_data_locked(struct cache *c, struct node *n);
void tell_inode_locked(struct cache *c, struct node *n, bool data);

/*
 * The reply to an OPEN without a promise: who opens the file looks at its attributes anew, so that
 * the size and the pages are of one time. With promises the kernel would drop the pages by itself
 * when it has the reply (fuse_finish_open), nobody knows when. A WRITE on its way would not hear of
 * the READs behind that, so they go before the reply. with_attr: it brought the attributes.
 */
void node_open_locked(struct cache *c, struct node *n, bool with_attr, struct cache_reply *out);
