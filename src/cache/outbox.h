/* Outbox: what goes to the server without a reply. */
#pragma once

#include "cache/cache_priv.h"

/* n references to a server node are to go back, an open file is to be closed: see
 * cache_forget_flush. */
void cache_give_back_locked(struct cache *c, uint64_t server, uint64_t n);
void cache_close_locked(struct cache *c, uint64_t fh);	    /* by its own number: see opens.h */
void outbox_close_locked(struct cache *c, uint64_t server); /* by the server's */
/* A message is full: cache_forget_flush is due. */
bool outbox_full_locked(const struct cache *c);
/* Between these nothing is sent, and what waited at the first of them is dropped. */
void outbox_stop(struct cache *c);
void outbox_go_on(struct cache *c);
void outbox_done(struct cache *c);
/* With what is given back the host may get blocks back, a moment later. */
void space_moves_locked(struct cache *c);
/* Whether that is over; then nothing that was told meanwhile counts. */
bool space_settled_locked(struct cache *c, uint64_t now);
