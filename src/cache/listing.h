/*
 * One open directory: entries in the server's order, a batch at a time.
 *
 * The adapter takes entries until its buffer is full. -EAGAIN asks it to
 * listing_fetch and to go on in the completion. Offsets are the server's own
 * and opaque, so that seekdir works at any of them; offset 0 fetches anew, as
 * rewinddir demands, unless the cache has the complete listing.
 *
 * An entry carries attributes for the kernel only while they are as true as
 * a fresh reply's: after a change of ours to the directory or to the object,
 * or after their time, it is a name and a type only.
 *
 * Threads: the adapter keeps listing_lock from the first peek to the last
 * take of one reply, and releases it before it fetches or replies.
 */
#pragma once

#include "cache/cache.h"

struct listing;

struct listing_entry {
	struct slice name;
	uint64_t off;	     /* of the entry that follows */
	uint32_t type;	     /* DT_* */
	uint64_t server_ino; /* st_ino */
	uint64_t ino;	     /* FUSE node id; 0: no attributes */
	struct attr attr;
	uint64_t attr_ttl, entry_ttl;
};

/* A listing may be freed while it is being fetched; its completion then must not touch it. */
int listing_new(struct cache *c, uint64_t ino, struct listing **ret);
void listing_free(struct listing *l);
void listing_lock(struct listing *l);
void listing_unlock(struct listing *l);

/* Whether a reading from the beginning can be answered from the cache; forgets the batch. */
bool listing_rewind(struct listing *l);

/*
 * The entry that follows offset off; with plus, with attributes where they
 * are still good. 1: *ret is set, and its name valid while the lock is held;
 * 0: end of the directory; -EAGAIN: not here, fetch; -EPROTO: malformed.
 */
int listing_peek(struct listing *l, uint64_t off, bool plus, struct listing_entry *ret);

/* The peeked entry went into the kernel's buffer: goes past it, counts its reference. */
void listing_take(struct listing *l, const struct listing_entry *e);

/*
 * Fetches the batch that follows off; r->done runs as for cache_submit, with
 * the batch in place. One fetch at a time: the kernel holds the directory's
 * file position meanwhile; a second one gets EBUSY.
 */
void listing_fetch(struct listing *l, struct cache_req *r, uint64_t off, bool plus);
