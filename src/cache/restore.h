/* What the kernel holds of a client that was killed, in the cache of the one that takes its place.
 */
#pragma once

#include "cache/cache_priv.h"

/* Of a cache that is empty. 0 or -errno. */
int cache_restore_locked(struct cache *c);
