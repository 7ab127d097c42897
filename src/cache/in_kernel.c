/*
 * The pages and attributes of a node that the kernel may hold, and how it hears that they are no
 * longer true. Its names and sizes have files of their own: in_kernel_names.c, in_kernel_size.c.
 */
#include <sys/stat.h>

#include "cache/in_kernel.h"
#include "cache/in_kernel_names.h"
#include "cache/in_kernel_size.h"
#include "cache/names.h"
#include "cache/node.h"
#include "cache/pages.h"
#include "core/cleanup.h"
#include "core/fault.h"

void node_told_locked(struct cache *c, struct node *n)
{
	if (n->nlookup == 0)
		size_unknown_locked(n); /* it makes a new inode */
	node_known_locked(c, n);
}

/* ---- telling the kernel ---- */

void tell_inode_locked(struct cache *c, struct node *n, bool data)
{
	if (c->sink == NULL || n->nlookup == 0)
		return;
	/*
	 * A file may get pages before the kernel is told, and attributes that are on their
	 * way there with an old size would then cut them off (truncate_pagecache).
	 */
	data = data && (kernel_has_data_locked(n) || S_ISREG(n->attr.mode));
	if (data) {
		/* also of one whose first WRITE is yet to come: the kernel may have its pages */
		struct file *f = file_of_locked(n);

		kernel_data_forgotten_locked(n);
		if (f != NULL) {
			file_watch_reads_locked(f);
			f->drops++;
		}
	}
	if (data || c->by_host)
		size_outdated_locked(c, n);
	c->sink->inode(c->sink_arg, n->id, data);
}

void node_lose_data_locked(struct cache *c, struct node *n)
{
	if (!S_ISREG(n->attr.mode))
		return;
	pages_drop_locked(c, n);
	if (kernel_has_data_locked(n))
		tell_inode_locked(c, n, true);
}

void node_open_locked(struct cache *c, struct node *n, bool with_attr, struct cache_reply *out)
{
	if (!with_attr)
		n->attr_until = 0;
	if (c->leased) {
		node_lose_data_locked(c, n);
		out->keep = !kernel_has_data_locked(n);
	}
	if (FAULT(open_unasked))
		return;
	tell_inode_locked(c, n, false);
	out->hold = true;
}

void node_compare_locked(struct cache *c, struct node *n, const struct attr *a)
{
	const struct kept_attr *k = &n->attr;

	if (!S_ISREG(k->mode) || k->version == 0 || a->version <= k->version)
		return;
	/*
	 * It may be of a WRITE of our own in flight; of what else it is, an invalidation
	 * will tell. But not where the file is longer than that WRITE makes it.
	 */
	bool told = c->leased ? (n->flags & NODE_PROMISED) != 0 : true;
	if (told && n->file != NULL &&
	    (n->file->size.direct > 0 ||
	     (n->file->writing > 0 && a->size <= size_own_end_locked(n))))
		return;
	/* without promises the kernel compares the mtime */
	if (a->size == k->size &&
	    (!c->leased || (a->mtime.sec == k->mtime && a->mtime.nsec == k->mtime_nsec)))
		return;
	if (!FAULT(open_unasked))
		node_lose_data_locked(c, n);
}

enum entry_way cache_entry_way(struct cache *c, uint64_t parent, const char *name, size_t len)
{
	SCOPE_LOCK(&c->lock);
	const struct node *n = node_find_locked(c, parent);
	const struct dentry *d = n != NULL ? name_find_locked(c, n, name, len) : NULL;

	return d != NULL && name_kernel_holds_locked(c, d) ? name_way(d) : ENTRY_DROPS;
}
