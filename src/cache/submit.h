/* Requests, for src/cache: cache.h is for src/fuse. */
#pragma once

#include "cache/cache_priv.h"

/* Requests that have waited for a listing of ino are answered, or go to the host. Without the gate.
 */
void cache_go_on(struct cache *c, uint64_t ino);
