/* Fetches the listing of a directory, a batch after the other, that no reader has asked for. */
#include <stdlib.h>

#include "cache/ahead.h"
#include "cache/ahead_fetch.h"
#include "cache/listing.h"
#include "cache/listing_priv.h"
#include "cache/names.h"
#include "cache/node.h"
#include "cache/submit.h"
#include "core/cleanup.h"

#define BATCHES_MAX	8 /* and one more for each BYTES_PER_BATCH of the directory's own size */
#define BYTES_PER_BATCH (64u << 10)

struct ahead {
	struct cache_req req; /* first */
	struct cache *cache;
	struct listing *listing;
	uint64_t ino, batches; /* how many more may be fetched */
};

static void batch_came(struct cache_req *r, const struct cache_reply *reply);

static void next_batch(struct ahead *a, uint64_t off)
{
	a->req = (struct cache_req){.done = batch_came, .own = true, .unpaged = true};
	a->batches--;
	listing_fetch(a->listing, &a->req, off, true);
}

static void end(struct ahead *a)
{
	struct cache *c = a->cache;

	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, a->ino);
	struct dir *dir = n != NULL ? dir_if_any(n) : NULL;
	if (dir != NULL)
		dir->ahead = false;
	(void)pthread_mutex_unlock(&c->lock);
	listing_free(a->listing);
	free(a);
}

static void batch_came(struct cache_req *r, const struct cache_reply *reply)
{
	struct ahead *a = (struct ahead *)r;
	struct cache *c = a->cache;
	uint64_t ino = a->ino, off = 0;
	bool answered = reply->msg != NULL; /* else nothing was submitted */

	if (reply->err == 0 && a->batches > 0 && listing_goes_on(a->listing, &off))
		next_batch(a, off);
	else
		end(a);
	if (!answered)
		cache_go_on(c, ino);
}

void ahead_fetch(struct cache *c, uint64_t ino)
{
	struct ahead *a = calloc(1, sizeof(*a));
	struct listing *l;

	if (a == NULL || listing_new(c, ino, &l) < 0) {
		free(a);
		(void)pthread_mutex_lock(&c->lock);
		struct node *n = node_find_locked(c, ino);
		if (n != NULL && dir_if_any(n) != NULL)
			n->dir->ahead = false;
		(void)pthread_mutex_unlock(&c->lock);
		cache_go_on(c, ino);
		return;
	}
	stats_add(c->options.stats, STAT_cache_listings_ahead, 1);
	a->cache = c;
	a->ino = ino;
	a->listing = l;
	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, ino);
	a->batches = BATCHES_MAX + (n != NULL ? ahead_size(n) / BYTES_PER_BATCH : 0);
	(void)pthread_mutex_unlock(&c->lock);
	next_batch(a, 0);
}
