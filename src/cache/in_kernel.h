/* In kernel: what the kernel may hold of a node, and how it hears that this is no longer true. */
#pragma once

#include "cache/cache_priv.h"

/* One more reference of the kernel's. */
void node_told_locked(struct cache *c, struct node *n);

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
