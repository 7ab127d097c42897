/* A listing that is fetched for look-ups: see ahead.c. */
#pragma once

#include "cache/cache_priv.h"

/* Begins; dir.ahead is set. Without cache.lock. */
void ahead_fetch(struct cache *c, uint64_t ino);
