/* Requests: what they are about and change, and which locks the kernel holds until the reply. */
#include <fcntl.h>
#include <sys/stat.h>

#include "cache/attrs.h"
#include "cache/in_kernel.h"
#include "cache/names.h"
#include "cache/node.h"
#include "cache/pages.h"
#include "cache/request.h"
#include "cache/timed.h"
#include "core/cleanup.h"
#include "core/outlive.h"

/* O_TMPFILE: the name that comes with it is the kernel's own. */
bool request_is_nameless(const struct msg *m)
{
	return msg_is(m->op, TRAIT_OPENS) && (m->flags & O_TMPFILE) == O_TMPFILE;
}

/* The reply's size is the kernel's as well; not where the request itself has set it. */
bool request_tells_size(const struct msg *m)
{
	return msg_is(m->op, TRAIT_TELLS_SIZE) && (m->valid & SET_SIZE) == 0;
}

/*
 * Requests with whose reply a regular file may grow in the kernel, and that hold
 * up no dropping of pages: one that sets a size does, for until its reply the
 * kernel lets no dirty page go (fuse_set_nowrite, fuse_launder_folio). With that
 * reply it drops the pages itself.
 */
bool request_may_grow(const struct cache_req *r)
{
	const struct msg *m = &r->call.req;
	bool paged = msg_is(m->op, TRAIT_PAGES) && !r->direct;

	return request_tells_size(m) || (msg_is(m->op, TRAIT_WRITES) && !paged);
}

void request_bump_locked(struct cache *c, struct cache_req *r)
{
	uint32_t changes = msg_changes(&r->call.req);

	if (changes != 0)
		c->space_changed = ++c->clock;
	if ((changes & TRAIT_CHANGES_OBJECT) != 0)
		node_bump_locked(c, r->node);
	if ((changes & TRAIT_CHANGES_NAME) != 0)
		node_bump_names_locked(c, r->node);
	if ((changes & TRAIT_CHANGES_NAME2) != 0)
		node_bump_names_locked(c, r->node2);
	if (msg_changes_data(&r->call.req) && S_ISREG(r->node->attr.mode))
		pages_drop_locked(c, r->node);
}

/* The node that the kernel's dentry of a name stands for, as far as is known; 0: none. */
static uint64_t kernel_has_locked(struct cache *c, const struct node *dir, const char *name,
				  size_t len)
{
	const struct dentry *d = name_find_locked(c, dir, name, len);

	return d != NULL && d->kind == NAME_NODE && d->told ? d->id : 0;
}

/* The names that the request is about to change are not known until its reply. */
static void unsure_request_locked(struct cache *c, struct cache_req *r)
{
	uint64_t op = r->call.req.op;

	if (request_is_nameless(&r->call.req))
		return;
	if (msg_is(op, TRAIT_CHANGES_NAME) && msg_is(op, TRAIT_CHANGES_NAME2)) {
		r->had[0] = kernel_has_locked(c, r->node, r->names[0], r->name_len[0]);
		r->had[1] = kernel_has_locked(c, r->node2, r->names[1], r->name_len[1]);
	}
	if (msg_is(op, TRAIT_CHANGES_NAME))
		name_unsure_locked(c, r->node, r->names[0], r->name_len[0]);
	if (msg_is(op, TRAIT_CHANGES_NAME2))
		name_unsure_locked(c, r->node2, r->names[1], r->name_len[1]);
}

/* ---- from submission to reply ---- */

static void count_change(struct cache_req *r, unsigned i, struct node *n)
{
	struct dir *dir = dir_of_locked(n);

	if (dir == NULL)
		return;
	dir->changing++;
	r->counted[i] = true;
}

static void count_changes_locked(struct cache_req *r)
{
	uint32_t changes = msg_changes(&r->call.req);

	if ((changes & TRAIT_CHANGES_NAME) != 0)
		count_change(r, 0, r->node);
	if ((changes & TRAIT_CHANGES_NAME2) != 0)
		count_change(r, 1, r->node2);
}

void request_changed_locked(struct cache_req *r)
{
	if (r->counted[0])
		r->node->dir->changing--;
	if (r->counted[1])
		r->node2->dir->changing--;
	r->counted[0] = r->counted[1] = false;
}

/*
 * For a listing of our own the kernel holds no lock that would keep changes of names away. One that
 * is in flight may be in it or not, whatever its reply will leave: nothing of it is kept.
 */
static bool meets_a_change(const struct cache_req *r)
{
	const struct dir *dir = r->own ? dir_if_any(r->node) : NULL;

	return dir != NULL && dir->changing > 0;
}

static void lock_locked(struct cache_req *r, unsigned i, struct node *n)
{
	struct dir *dir = n != NULL ? dir_of_locked(n) : NULL;

	if (dir == NULL)
		return;
	dir->busy++;
	n->refs++;
	r->locks[i] = n;
}

/* The node of a name in the request: the kernel locks an inode that is removed, moved or replaced
 * as well (vfs_rmdir, vfs_rename). */
static struct node *named_locked(struct cache *c, const struct cache_req *r, unsigned i)
{
	struct node *dir = i == 0 ? r->node : r->node2;
	const struct dentry *d = name_find_locked(c, dir, r->names[i], r->name_len[i]);

	return d != NULL && d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;
}

/* Before its names are unsure. */
void request_locks_locked(struct cache *c, struct cache_req *r)
{
	uint64_t op = r->call.req.op;

	if (r->own || r->locks[0] != NULL)
		return;
	if (msg_is(op, TRAIT_LOCKS))
		lock_locked(r, 0, r->node);
	if (msg_is(op, TRAIT_CHANGES_NAME2))
		lock_locked(r, 1, r->node2);
	if (!msg_is(op, TRAIT_LOCKS_NAMED))
		return;
	lock_locked(r, 2, named_locked(c, r, 0));
	if (msg_is(op, TRAIT_CHANGES_NAME2))
		lock_locked(r, 3, named_locked(c, r, 1));
}

/* Its message is the backend's from now on, and not to be looked at. */
static void pages_busy_locked(struct file *f, struct cache_req *r)
{
	const struct msg *m = &r->call.req;
	uint64_t len = MSG_HAS(m, payload) ? m->payload.len : m->size;

	if (r->let_go) /* killed before it has left */
		return;
	r->pages = (struct busy_pages){.off = (m->off - r->before) & ~(PAGE - 1),
				       .end = (m->off + len + PAGE - 1) & ~(PAGE - 1),
				       .wait = MSG_HAS(m, payload)};
	r->left = cache_now();
	r->paging_at = &f->paging;
	r->paging = f->paging;
	if (r->paging != NULL)
		r->paging->paging_at = &r->paging;
	f->paging = r;
}

void pages_not_busy_locked(struct cache *c, struct cache_req *r)
{
	if (r->paging_at == NULL)
		return;
	struct file *f = r->node->file;
	*r->paging_at = r->paging;
	if (r->paging != NULL)
		r->paging->paging_at = r->paging_at;
	r->paging_at = NULL;
	if (!f->parked)
		return;
	f->parked = false;
	if (c->sink != NULL)
		c->sink->unpark(c->sink_arg, r->node->id);
}

void cache_pages_let_go(struct cache *c, struct cache_req *r)
{
	SCOPE_LOCK(&c->lock);
	r->let_go = true;
	pages_not_busy_locked(c, r);
}

bool pages_busy_at_locked(const struct node *n, uint64_t off)
{
	for (const struct cache_req *r = n->file != NULL ? n->file->paging : NULL; r != NULL;
	     r = r->paging)
		if (r->pages.off <= off && off < r->pages.end)
			return true;
	return false;
}

bool cache_pages_busy(struct cache *c, uint64_t ino, uint64_t off, uint64_t end, uint64_t news,
		      bool late, struct busy_pages *ret)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct file *f = n != NULL && S_ISREG(n->attr.mode) ? n->file : NULL;
	bool any = false;

	for (const struct cache_req *r = f != NULL ? f->paging : NULL; r != NULL; r = r->paging) {
		struct busy_pages b = r->pages;

		if (b.end <= off || b.off >= end || (b.wait && late) || (any && b.off >= ret->off))
			continue;
		b.wait = b.wait || r->left <= news;
		*ret = b;
		any = true;
	}
	if (any && ret->wait)
		f->parked = true;
	return any;
}

void request_leaves_locked(struct cache *c, struct cache_req *r)
{
	const struct msg *m = &r->call.req;
	bool pages = msg_is(m->op, TRAIT_PAGES), writes = pages && msg_is(m->op, TRAIT_WRITES);

	request_locks_locked(c, r);
	request_bump_locked(c, r);
	unsure_request_locked(c, r);
	count_changes_locked(r);
	/* of what was answered to another client nobody knows what has come since */
	bool resent = (r->call.unique & OUTLIVE_RESENT) != 0;
	r->submitted = resent || meets_a_change(r) ? 0 : c->clock;
	/* a mapping of a file opened with O_DIRECT has pages, and reads them with its flags */
	if (pages && !r->unpaged && !(writes && r->direct)) {
		kernel_data_noted_locked(r->node);
		/* what takes it back meanwhile waits for the page (invalidate_inode_pages2) */
		if (!c->leased || (r->node->flags & NODE_PROMISED) == 0)
			timed_node_locked(c, r->node);
	}
	struct file *f = pages ? file_of_locked(r->node) : NULL;
	if (f == NULL)
		return;
	if (!r->unpaged && !(writes && r->direct))
		pages_busy_locked(f, r);
	f->used = true;
	if (!writes) {
		file_read_locked(r->node, m->off, m->size);
	} else if (!r->direct) {
		uint64_t end = m->off + m->payload.len;

		file_watch_reads_locked(f);
		f->writing_to = f->writing++ == 0 || end > f->writing_to ? end : f->writing_to;
		r->writing = true;
	}
}

void node_not_busy_locked(struct cache *c, struct node *n, bool held)
{
	if (n == NULL)
		return;
	struct dir *dir = n->dir;

	dir->held -= held;
	if (--dir->busy == 0 && dir->parked) {
		dir->parked = false;
		if (c->sink != NULL)
			c->sink->unpark(c->sink_arg, n->id);
	}
	node_put_locked(c, n);
}
