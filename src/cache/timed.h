/* Timed: what is kept by time only, to be taken back at once. */
#pragma once

#include "cache/cache_priv.h"

/* The kernel, or this cache, is to keep attributes or pages of n without a promise. */
void timed_node_locked(struct cache *c, struct node *n);
uint64_t timed_node_at(const struct timed *t, size_t i);
/* The same of a name in dir, for ttl. False without memory: then it may be told for no time. */
bool timed_name_locked(struct cache *c, const struct node *dir, const char *name, size_t len,
		       bool is_dir, uint64_t ttl);
/* All names that are noted are told to the kernel, and not noted any more. */
void timed_tell_names_locked(struct cache *c);
void timed_done(struct cache *c);
