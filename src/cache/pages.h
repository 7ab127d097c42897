/* Blocks: content that is kept, and READs that may bring the kernel old bytes again. */
#pragma once

#include "cache/cache_priv.h"

#define PAGES_BLOCKS 9 /* of 128 KiB, in which a READ of 1 MiB may lie */

/* The blocks that hold the bytes of a READ. */
struct pages {
	struct block *blocks[PAGES_BLOCKS];
	unsigned count;
	size_t from, len; /* in the first block; of all */
};

void pages_drop_locked(struct cache *c, struct node *n);
/* Finds all blocks of a READ and holds them; false if one is missing. */
bool pages_read_locked(struct cache *c, struct node *n, uint64_t off, size_t size,
		       struct pages *ret);
/* Copies the blocks to a new buffer, without the lock, and lets go of them; NULL without memory. */
void *pages_copy(struct pages *p);
void pages_evict_locked(struct cache *c);
/* Which blocks of a READ's reply of `len` bytes are to be kept: those that were asked for before.
 */
struct pages_wanted pages_want_locked(struct cache *c, struct node *n, uint64_t off, size_t asked,
				      size_t len);
/*
 * How many bytes of the file OPEN is to bring: more than it has, so that all of it comes; 0: none.
 * A small file that is opened is read, as a rule; where that turns out not to be so, few are asked
 * for.
 */
uint64_t pages_with_open_locked(struct cache *c, const struct node *n, const struct msg *m);
struct pages_wanted pages_brought_locked(struct cache *c, struct node *n, size_t len);
/* Keeps them, unless the node's were dropped meanwhile. Without the lock, but for a moment. */
void pages_keep(struct cache *c, struct node *n, uint64_t off, struct slice data,
		const struct pages_wanted *w);

/*
 * Pages that the kernel is still to drop: attributes with which the file may
 * grow there, over a page of its old end, are to wait.
 */
static inline bool pages_to_drop(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->file != NULL && n->file->drops > 0;
}

/* Open for appending, past the kernel's cache. */
static inline bool is_appended(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->file != NULL && n->file->appending > 0;
}

/*
 * A WRITE through the kernel's cache copies its bytes into a page, lets go of
 * its lock, and comes here. If the page is dropped meanwhile, a READ may bring
 * back the old bytes before the host has the new ones. So READs are watched
 * from the moment that pages are dropped, or a WRITE comes, until the reply of
 * a WRITE; the writer holds the inode's lock, so the next has copied nothing
 * before that.
 */
void file_watch_reads_locked(struct file *f);
void file_read_locked(struct node *n, uint64_t off, uint64_t size);
/* At the reply of a WRITE: whether READs of its range came. last: it is the writer's. */
bool file_written_locked(struct node *n, uint64_t off, uint64_t size, bool last);
