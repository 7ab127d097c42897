/*
 * A directory in which look-ups miss the cache again and again is listed, with attributes: one
 * round trip in place of one for each name, and it tells which names are not there as well, so that
 * what makes a name need not ask whether there is one.
 *
 * It is listed at the second miss (list_after) if it is small. The larger it is, the more misses it
 * takes, BYTES_PER_MISS of the size that the directory has itself for each: who looks up two names
 * among 100,000 fetches none of the others. Each listing doubles the number: one that is taken back
 * over and over is not fetched over and over.
 *
 * The look-ups that come meanwhile wait for the first batch. The kernel holds the directory's lock
 * for them, so they count as busy there. Then each is answered or goes to the host.
 */
#include "cache/ahead.h"
#include "cache/names.h"
#include "cache/node.h"
#include "cache/request.h"

#define BYTES_PER_MISS 2048u
#define DOUBLED_MAX    7 /* times */

uint64_t ahead_size(const struct node *dir)
{
	return dir->attr.version != 0 ? dir->attr.size : 0;
}

static bool is_due_locked(const struct cache *c, const struct node *n, struct dir *dir)
{
	uint64_t after = ahead_size(n) / BYTES_PER_MISS;

	if (after < c->options.list_after)
		after = c->options.list_after;
	return ++dir->misses >= after << dir->aheads;
}

bool ahead_waits_locked(struct cache *c, struct cache_req *r, bool *ret_fetch)
{
	bool may = c->leased && c->options.list_after != 0 && !r->waited &&
		   msg_is(r->call.req.op, TRAIT_LOOKS_UP);
	struct dir *dir = may ? dir_of_locked(r->node) : NULL;

	if (dir == NULL || dir->complete || (dir->ahead && !dir->ahead_first))
		return false;
	if (!dir->ahead) {
		if (dir->build != 0 || !is_due_locked(c, r->node, dir))
			return false; /* somebody reads it just now; or it does not pay yet */
		dir->ahead = dir->ahead_first = *ret_fetch = true;
		dir->misses = 0;
		if (dir->aheads < DOUBLED_MAX)
			dir->aheads++;
	}
	r->waited = true;
	r->waiting = dir->waiting;
	dir->waiting = r;
	request_locks_locked(c, r);
	return true;
}

struct cache_req *ahead_take_locked(struct node *n)
{
	struct dir *dir = dir_if_any(n);
	struct cache_req *r = dir != NULL ? dir->waiting : NULL;

	if (dir == NULL)
		return NULL;
	dir->ahead_first = false;
	dir->waiting = NULL;
	return r;
}
