/* Listings, for src/cache: listing.h is for src/fuse. */
#pragma once

#include "cache/cache_priv.h"

/* Frees the listings that nobody closed. No fetch is in flight any more. */
void listings_free(struct cache *c);
