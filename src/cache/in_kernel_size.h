/* In kernel, sizes: which size the kernel has of a file, and which is told. */
#pragma once

#include "cache/cache_priv.h"

/* The kernel does not know the file, or makes a new inode of it. */
void size_unknown_locked(struct node *n);
/* The kernel has exactly that size, or does not know the file. */
bool size_is_told_locked(const struct node *n, uint64_t size);
/* The kernel has a smaller one than is known: who opens the file may map or splice it at once. */
bool size_is_longer_locked(const struct node *n);
/* A request of the task about n comes: what it shows of the replies before it. */
void size_arrives_locked(struct node *n, uint64_t op, uint32_t task, bool writeback);
/* The reply to a request of the guest's that gives the file a size. */
void size_written_locked(struct cache_req *r, const struct msg *m);
/*
 * The reply to a READ of so many bytes, which may show more than the kernel knows to be there: sets
 * longer or, past the page cache, size_first.
 */
void size_read_locked(struct cache_req *r, uint64_t len, struct cache_reply *out);
/* The size that the guest itself may have made of it. */
uint64_t size_own_end_locked(const struct node *n);
/* The kernel, which knows the file, is to get out->attr. */
void size_tell_locked(struct cache *c, struct node *n, struct cache_reply *out);
/*
 * A truncation of the guest's own makes the file shorter, and the kernel may not have digested
 * that: until then it takes no size (FUSE_I_SIZE_UNSTABLE), and whoever is told this one reads on
 * up to the old end.
 */
bool size_is_cut_locked(const struct node *n, uint64_t size);
/* Somebody else has changed it: another size may have to be told soon. */
void size_outdated_locked(struct cache *c, struct node *n);
/* The node is about to be freed. */
void size_free_locked(struct node *n);
/* Whether the size is to be asked for; then it is being asked for until size_asked_locked. */
bool size_asks_locked(const struct cache *c, struct node *n);
void size_asked_locked(struct node *n);
/* Asks for the size of open files of which nobody tells; when to call it again. */
uint64_t size_tick_locked(struct cache *c, uint64_t now);
