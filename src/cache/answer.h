/* Hit: what is answered without the host. */
#pragma once

#include "cache/cache_priv.h"
#include "cache/pages.h"

struct answer {
	struct cache_reply out;
	struct attr attr;
	struct fsinfo fs;
	void *buffer;	    /* of what out.data says; */
	struct pages pages; /* if count > 0 it is still to be copied: answer_copy */
};

/* Requests that may be answered from the cache. */
bool answer_possible(uint64_t op);
/* Copies the payload that was too long to be copied under the lock. */
void answer_copy(struct answer *a);
bool answer_locked(struct cache *c, const struct cache_query *q, struct node *n, struct answer *a);
