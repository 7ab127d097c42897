/* Touches: what a request of ours changes, and which locks the kernel holds for it. */
#pragma once

#include "cache/cache_priv.h"

/* O_TMPFILE: the name that comes with it is the kernel's own. */
bool request_is_nameless(const struct msg *m);
/* The kernel takes the size that the reply tells of the object. */
bool request_tells_size(const struct msg *m);
/* A regular file may grow in the kernel with its reply. */
bool request_may_grow(const struct cache_req *r);
/* Raises the generations of what the request changes: when it is submitted, and when answered. */
void request_bump_locked(struct cache *c, struct cache_req *r);
/* Notes which directories the kernel has locked for it, if that has not been done. */
void request_locks_locked(struct cache *c, struct cache_req *r);
/* The request is about to be submitted. */
void request_leaves_locked(struct cache *c, struct cache_req *r);
/* Its reply has been handled: it is no change in flight any more. */
void request_changed_locked(struct cache_req *r);
/* A request of ours does not hold n up any more; NULL is allowed. */
void node_not_busy_locked(struct cache *c, struct node *n, bool held);
void pages_not_busy_locked(struct cache *c, struct cache_req *r);
bool pages_busy_at_locked(const struct node *n, uint64_t off);
