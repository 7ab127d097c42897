/* Requests, for src/cache: cache.h is for src/fuse. */
#pragma once

#include "cache/cache_priv.h"

/* What has waited for a listing of ino is answered, or goes to the host. Without the gate. */
void cache_go_on(struct cache *c, uint64_t ino);
