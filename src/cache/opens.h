/*
 * Open files of the server, by numbers of the client's own: what a session is told again of when it
 * goes on over another connection, and what outlives the server's numbers.
 */
#pragma once

#include "cache/cache_priv.h"

/* A number for the server's open file; 0 without memory. */
uint64_t opens_add_locked(struct cache *c, uint64_t server);
/* The server's, 0 if there is none of that number. */
uint64_t opens_find_locked(const struct cache *c, uint64_t fh);
/* The number is of no use any more: the server's. */
uint64_t opens_take_locked(struct cache *c, uint64_t fh);
/* The next in no order: *at is 0 at first, and behind the last. */
uint64_t opens_next_locked(const struct cache *c, uint64_t *at);
void opens_done(struct cache *c);
