/* Facts: the one place where what a reply says is applied. */
#pragma once

#include "cache/cache_priv.h"

/* Takes what a reply tells; out: what is to be told to the kernel. */
void reply_locked(struct cache *c, struct cache_req *r, const struct msg *m,
		  struct cache_reply *out);
