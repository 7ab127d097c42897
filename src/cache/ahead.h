/* When the listing of a directory is fetched ahead, and who waits for it. */
#pragma once

#include "cache/cache_priv.h"

/*
 * r is not answered by the cache. True: it waits for a listing of its directory, and is to be
 * submitted again (ahead_take_locked); *ret_fetch: which is to be fetched, by cache.fetch_ahead.
 */
bool ahead_waits_locked(struct cache *c, struct cache_req *r, bool *ret_fetch);
/* A batch has come, or none will: those that have waited, linked by `waiting`. */
struct cache_req *ahead_take_locked(struct node *dir);
/* Bytes that a directory's own size makes it likely to have; 0: not known. */
uint64_t ahead_size(const struct node *dir);
