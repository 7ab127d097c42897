/* Stamps: the lease, and the sequence numbers of invalidations. */
#pragma once

#include "cache/cache_priv.h"

/* Signs of life in one lease; what was promised is dropped as much before its end. */
#define LEASE_BEATS 5

bool link_alive_locked(const struct cache *c, uint64_t now);
/* The stamp of a reply, and whether nothing later was said about what it tells. */
bool stamp_good_node_locked(const struct cache *c, const struct msg *m, uint64_t server);
bool stamp_good_name_locked(const struct cache *c, const struct msg *m, uint64_t dir,
			    const char *name, size_t len);
bool stamp_good_listing_locked(const struct cache *c, const struct msg *m, uint64_t dir);
/* The item of an invalidation has come; all names of a directory are as if it had. */
void stamps_pushed_locked(struct cache *c, const struct inv_item *i, uint64_t seq);
void stamps_names_void_locked(struct cache *c, uint64_t dir);
