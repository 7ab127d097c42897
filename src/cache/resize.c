/*
 * The size of a file as the kernel has it.
 *
 * Attributes with another size than the kernel's make the task that digests them
 * cut off the pages behind it (truncate_pagecache): after the size has been set,
 * without a lock, and where a READ has locked the page in which the file ends,
 * after that. So it may cut a page that a later READ has brought, sent when the
 * file had grown further, and what it leaves there is zeros. Nothing tells when
 * it has done so.
 *
 * Therefore a file that others have made longer is made to grow in the kernel
 * before the reply that tells so (cache_reply.grow): then the task finds
 * nothing to cut. Nothing but such a reply makes a file shorter; and the size that
 * LINK, CREATE and SETATTR bring the kernel takes whatever it was told since
 * (create_new_entry, fuse_create_open, fuse_do_setattr). If content changes within
 * EDGE_NS after one of these, the page in which the file ended is dropped
 * again, and again (cache_sink.repeat).
 */
#include <sys/stat.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"
#include "core/fault.h"

#define EDGE_NS UINT64_C(1000000000)

void size_changes_locked(struct node *n)
{
	struct file *f = file_of_locked(n);

	/* sizes during a WRITE of the guest's own are not taken (FUSE_I_SIZE_UNSTABLE) */
	if (f == NULL || f->writing > 0 || (n->flags & NODE_RESIZED) != 0)
		return;
	f->told_size = n->attr.size;
	n->flags |= NODE_RESIZED;
}

static void edge(struct node *n, uint64_t size, bool forced)
{
	struct file *f = size > 0 ? file_of_locked(n) : NULL; /* 0: no page is cut in two */
	uint64_t now = cache_now();

	if (f == NULL)
		return;
	bool past = f->edge_at == 0 || now - f->edge_at >= EDGE_NS;
	f->edge_from = past || size < f->edge_from ? size : f->edge_from;
	f->edge_to = past || size > f->edge_to ? size : f->edge_to;
	f->edge_forced = forced && (past || f->edge_forced);
	f->edge_at = now;
}

uint64_t size_told_locked(struct node *n, uint64_t size)
{
	if (!S_ISREG(n->attr.mode) || ((n->flags & NODE_RESIZED) == 0 && size == n->attr.size))
		return 0;
	uint64_t had = (n->flags & NODE_RESIZED) != 0 ? n->file->told_size : n->attr.size;
	if (size > had && size == n->attr.size && !FAULT(no_growth))
		return size;
	if (size != had)
		edge(n, size, false);
	n->flags &= ~(uint32_t)NODE_RESIZED;
	if (size != n->attr.size && n->file != NULL) {
		n->file->told_size = size;
		n->flags |= NODE_RESIZED;
	}
	return 0;
}

bool cache_grows(struct cache *c, uint64_t ino, uint64_t size)
{
	SCOPE_LOCK(&c->lock);
	const struct node *n = node_find_locked(c, ino);

	return n != NULL && (n->flags & NODE_RESIZED) != 0 && n->file->told_size < size &&
	       size <= n->attr.size;
}

void cache_grown(struct cache *c, uint64_t ino, uint64_t size)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	if (n == NULL || (n->flags & NODE_RESIZED) == 0)
		return;
	n->file->told_size = size;
	if (size == n->attr.size)
		n->flags &= ~(uint32_t)NODE_RESIZED;
}

void size_forced_locked(struct node *n, uint64_t size)
{
	if (S_ISREG(n->attr.mode))
		edge(n, size, true);
}

void size_edges_locked(struct cache *c, struct node *n, bool ours)
{
	struct file *f = S_ISREG(n->attr.mode) ? n->file : NULL;

	if (!c->leased || c->sink == NULL || f == NULL || f->edge_at == 0 ||
	    cache_now() - f->edge_at >= EDGE_NS || (ours && f->edge_forced))
		return;
	c->sink->repeat(c->sink_arg, n->id, f->edge_from, f->edge_to);
	if (f->edge_forced && (n->flags & NODE_RESIZED) == 0) {
		f->told_size = 0; /* it may be what was forced */
		n->flags |= NODE_RESIZED;
	}
}
