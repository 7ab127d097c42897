/* Restores in a new client's cache what the kernel holds of the client that was killed before it.
 */
#pragma once

#include "cache/cache_priv.h"

/* Of a cache that is empty. 0 or -errno. */
int cache_restore_locked(struct cache *c);
