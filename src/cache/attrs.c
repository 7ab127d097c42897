/*
 * Attributes of nodes: which are the newest, until when they may be told, and whether a change of
 * ours came between (generations).
 */
#include <sys/stat.h>

#include "cache/attrs.h"
#include "cache/node.h"
#include "cache/pages.h"
#include "cache/timed.h"
#include "core/fault.h"

static bool is_device(uint32_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

/* The size in attr changes, and not yet the kernel's: see in_kernel_size.c. */
static void size_changes_locked(struct node *n)
{
	struct file *f = (n->flags & NODE_SIZE) == 0 ? file_of_locked(n) : NULL;

	if (f == NULL)
		return;
	f->size.has = n->attr.size;
	n->flags |= NODE_SIZE;
}

static void keep_attr(struct node *n, const struct attr *a)
{
	if (S_ISREG(a->mode) && n->nlookup > 0 && n->attr.version != 0 && a->size != n->attr.size)
		size_changes_locked(n);
	n->attr = (struct kept_attr){
		.version = a->version,
		.ino = a->ino,
		.blocks = a->blocks,
		.atime = a->atime.sec,
		.mtime = a->mtime.sec,
		.ctime = a->ctime.sec,
		.atime_nsec = a->atime.nsec,
		.mtime_nsec = a->mtime.nsec,
		.ctime_nsec = a->ctime.nsec,
		.mode = a->mode,
		.nlink = a->nlink < UINT32_MAX ? (uint32_t)a->nlink : UINT32_MAX,
		.uid = a->uid,
		.gid = a->gid,
		.blksize = a->blksize,
	};
	if (is_device(a->mode))
		n->attr.rdev = a->rdev;
	else
		n->attr.size = a->size;
	n->flags &= ~(uint32_t)NODE_NO_ACL;
	if ((a->flags & ATTR_NO_ACL) != 0)
		n->flags |= NODE_NO_ACL;
	node_outlive_locked(n);
}

void node_attr(const struct node *n, struct attr *ret)
{
	const struct kept_attr *k = &n->attr;

	*ret = (struct attr){
		.version = k->version,
		.ino = k->ino,
		.mode = k->mode,
		.nlink = k->nlink,
		.uid = k->uid,
		.gid = k->gid,
		.rdev = is_device(k->mode) ? k->rdev : 0,
		.size = is_device(k->mode) ? 0 : k->size,
		.blocks = k->blocks,
		.blksize = k->blksize,
		.atime = {k->atime, k->atime_nsec},
		.mtime = {k->mtime, k->mtime_nsec},
		.ctime = {k->ctime, k->ctime_nsec},
		.flags = (n->flags & NODE_NO_ACL) != 0 ? ATTR_NO_ACL : 0,
	};
}

void node_identify(struct node *n, const struct attr *a)
{
	if (n->attr.ino == 0)
		n->attr.ino = a->ino;
	if (n->attr.mode == 0)
		n->attr.mode = a->mode;
	node_outlive_locked(n);
}

bool node_other_type(const struct node *n, const struct attr *a)
{
	return n->attr.mode != 0 && ((a->mode ^ n->attr.mode) & S_IFMT) != 0;
}

bool node_fresh_locked(const struct cache *c, const struct node *n, uint64_t now)
{
	return n->attr_until > now && ((n->flags & NODE_PROMISED) == 0 || now < c->lease_until);
}

void node_note_locked(struct node *n, const struct attr *a)
{
	if (a->version <= n->attr.version || node_other_type(n, a))
		return;
	keep_attr(n, a);
	n->attr_until = 0;
}

uint64_t node_install_locked(struct cache *c, struct node *n, const struct attr *a, bool raced,
			     bool promised)
{
	uint64_t now = cache_now();
	uint64_t ttl = c->options.ttl.attr;

	if (node_other_type(n, a))
		return 0;
	node_identify(n, a);
	if (raced) {
		stats_add(c->options.stats, STAT_cache_tainted, 1);
		node_note_locked(n, a);
		return 0;
	}
	if (promised && now < c->lease_until)
		ttl = c->options.cap.attr;
	else
		promised = false;
	if (!promised && ttl > 0)
		timed_node_locked(c, n);
	if (a->version != 0 && a->version <= n->attr.version) {
		if (a->version < n->attr.version)
			return 0; /* older than what is known: tell it, but for no time */
		if (ttl > 0)
			n->attr_until = now + ttl;
		return ttl;
	}
	keep_attr(n, a);
	n->attr_until = now + ttl;
	n->flags = promised ? n->flags | NODE_PROMISED : n->flags & ~(uint32_t)NODE_PROMISED;
	return ttl;
}

void node_bump_locked(struct cache *c, struct node *n)
{
	n->bumped = ++c->clock;
	n->attr_until = 0;
	n->flags &= ~(uint32_t)NODE_NO_XATTR;
}

void node_bump_data_locked(struct cache *c, struct node *n)
{
	node_bump_locked(c, n);
	if (S_ISREG(n->attr.mode))
		pages_drop_locked(c, n);
}

void node_bump_names_locked(struct cache *c, struct node *n)
{
	struct dir *d = dir_of_locked(n);

	node_bump_locked(c, n);
	if (d != NULL) {
		d->names_bumped = n->bumped;
		d->build = 0; /* what is being put together may lack the change */
	}
}

bool node_bumped_since(const struct node *n, uint64_t clock)
{
	return n->bumped > clock && !FAULT(taint_ignored);
}

bool node_names_bumped_since(const struct node *n, uint64_t clock)
{
	/* of what has no struct dir, for want of memory: any change */
	uint64_t at = S_ISDIR(n->attr.mode) && n->dir != NULL ? n->dir->names_bumped : n->bumped;

	return at > clock && !FAULT(taint_ignored);
}
