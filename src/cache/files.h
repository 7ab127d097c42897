/* Open files that nobody uses, or that requests go by. */
#pragma once

#include "cache/cache_priv.h"

/* An idle open file of the node, taken out; false if there is none. */
bool idle_take_locked(struct cache *c, struct node *n, uint64_t *ret_fh, uint64_t *ret_flags);
/* Closes those of a node that no request goes by; NULL: all. */
void idle_close_locked(struct cache *c, struct node *n);

/*
 * A name of the node was taken away: its blocks are to be free if that was the last one. Not with
 * no_open: nobody knows who has the file open.
 */
void idle_unnamed_locked(struct cache *c, struct node *n);
/* Keeps fh for the next open(2), or closes it, or the oldest, above the bound. */
void idle_keep_locked(struct cache *c, struct node *n, uint64_t fh, uint64_t flags);
/* The server is out of descriptors, and some of them were only kept for later: OPEN is sent again.
 */
bool files_open_again(struct cache *c, struct call *open, uint64_t err, bool *retried);
/* Submits r, by_node with the open files that it goes by. Without cache.lock. */
void files_submit(struct cache *c, struct cache_req *r);
/* r is done with its open files. */
void files_put_locked(struct cache *c, struct cache_req *r);
/* Closes what was open for writing and is not used any more; when to call it again. */
uint64_t files_tick_locked(struct cache *c, uint64_t now);
