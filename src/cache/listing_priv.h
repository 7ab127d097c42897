/* Listings, for src/cache: listing.h is for src/fuse. */
#pragma once

#include "cache/cache_priv.h"

/* More is to be fetched, behind *ret_off, of what is being put together. */
bool listing_goes_on(struct listing *l, uint64_t *ret_off);
/* Frees the listings that nobody closed. No fetch is in flight any more. */
void listings_free(struct cache *c);
