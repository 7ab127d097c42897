/* Requests: what they are about and change, and which locks the kernel holds until the reply. */
#include <fcntl.h>
#include <sys/stat.h>

#include "cache/cache_priv.h"

enum touch request_touches(const struct msg *m)
{
	switch (m->op) {
	case MSG_OPEN:
		return (m->flags & O_TRUNC) != 0 ? TOUCH_NODE : TOUCH_NOTHING;
	case MSG_WRITE:
	case MSG_SETATTR:
	case MSG_FALLOCATE:
	case MSG_COPY:
	case MSG_SETXATTR:
	case MSG_REMOVEXATTR:
		return TOUCH_NODE;
	case MSG_CREATE:
	case MSG_MKNOD:
	case MSG_SYMLINK:
	case MSG_UNLINK:
	case MSG_RMDIR:
		return TOUCH_NAMES;
	case MSG_LINK:
		return TOUCH_LINK;
	case MSG_RENAME:
		return TOUCH_RENAME;
	default:
		return TOUCH_NOTHING;
	}
}

/* Requests whose successful reply gives the kernel a reference to an object. */
bool request_names_object(uint64_t op)
{
	return op == MSG_LOOKUP || op == MSG_CREATE || op == MSG_MKNOD || op == MSG_SYMLINK ||
	       op == MSG_LINK;
}

/* O_TMPFILE: the name that comes with it is the kernel's own. */
bool request_is_nameless(const struct msg *m)
{
	return m->op == MSG_CREATE && (m->flags & O_TMPFILE) == O_TMPFILE;
}

/* Requests during which the kernel holds the lock of a directory: node, node2. */
static bool holds_node(const struct msg *m)
{
	return m->op == MSG_LOOKUP || m->op == MSG_READDIRPLUS || m->op == MSG_RENAME ||
	       m->op == MSG_SETATTR || m->op == MSG_SETXATTR || m->op == MSG_REMOVEXATTR ||
	       m->op == MSG_FSYNC || request_touches(m) == TOUCH_NAMES;
}

static bool holds_node2(uint64_t op)
{
	return op == MSG_LINK || op == MSG_RENAME;
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
	uint64_t op = m->op;

	return request_names_object(op) || op == MSG_GETATTR ||
	       (op == MSG_SETATTR && (m->valid & SET_SIZE) == 0) || op == MSG_FALLOCATE ||
	       op == MSG_COPY || (op == MSG_WRITE && r->direct);
}

bool request_changes_data(const struct msg *m)
{
	return m->op == MSG_WRITE || m->op == MSG_FALLOCATE || m->op == MSG_COPY ||
	       (m->op == MSG_SETATTR && (m->valid & SET_SIZE) != 0) ||
	       (m->op == MSG_OPEN && (m->flags & O_TRUNC) != 0);
}

void request_bump_locked(struct cache *c, struct cache_req *r)
{
	if (request_touches(&r->call.req) != TOUCH_NOTHING)
		c->space_changed = ++c->clock;
	switch (request_touches(&r->call.req)) {
	case TOUCH_NOTHING:
		break;
	case TOUCH_NODE:
		node_bump_locked(c, r->node);
		break;
	case TOUCH_NAMES:
		node_bump_names_locked(c, r->node);
		break;
	case TOUCH_LINK:
		node_bump_locked(c, r->node);
		node_bump_names_locked(c, r->node2);
		break;
	case TOUCH_RENAME:
		node_bump_names_locked(c, r->node);
		node_bump_names_locked(c, r->node2);
		break;
	}
	if (request_changes_data(&r->call.req) && S_ISREG(r->node->attr.mode))
		pages_drop_locked(c, r->node);
}

/* What the kernel has under a name, as far as is known. */
static uint64_t kernel_has_locked(struct cache *c, const struct node *dir, const char *name,
				  size_t len)
{
	const struct dentry *d = name_find_locked(c, dir, name, len);

	return d != NULL && d->kind == NAME_NODE && d->told ? d->id : 0;
}

/* The names that the request is about to change are not known until its reply. */
static void unsure_request_locked(struct cache *c, struct cache_req *r)
{
	enum touch t = request_touches(&r->call.req);

	if (request_is_nameless(&r->call.req))
		return;
	if (t == TOUCH_RENAME) {
		r->had[0] = kernel_has_locked(c, r->node, r->names[0], r->name_len[0]);
		r->had[1] = kernel_has_locked(c, r->node2, r->names[1], r->name_len[1]);
	}
	if (t == TOUCH_NAMES || t == TOUCH_RENAME)
		name_unsure_locked(c, r->node, r->names[0], r->name_len[0]);
	if (t == TOUCH_LINK || t == TOUCH_RENAME)
		name_unsure_locked(c, r->node2, r->names[1], r->name_len[1]);
}

/* ---- from submission to reply ---- */

static void lock_locked(struct cache_req *r, unsigned i, struct node *n)
{
	struct dir *dir = n != NULL ? dir_of_locked(n) : NULL;

	if (dir == NULL)
		return;
	dir->busy++;
	n->refs++;
	r->locks[i] = n;
}

/* What is removed, moved or replaced is locked as well (vfs_rmdir, vfs_rename). */
static struct node *named_locked(struct cache *c, const struct cache_req *r, unsigned i)
{
	struct node *dir = i == 0 ? r->node : r->node2;
	const struct dentry *d = name_find_locked(c, dir, r->names[i], r->name_len[i]);

	return d != NULL && d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;
}

/* Before its names are unsure. */
static void request_locks_locked(struct cache *c, struct cache_req *r)
{
	uint64_t op = r->call.req.op;

	if (holds_node(&r->call.req))
		lock_locked(r, 0, r->node);
	if (holds_node2(op))
		lock_locked(r, 1, r->node2);
	if (op == MSG_RMDIR || op == MSG_RENAME)
		lock_locked(r, 2, named_locked(c, r, 0));
	if (op == MSG_RENAME)
		lock_locked(r, 3, named_locked(c, r, 1));
}

void request_leaves_locked(struct cache *c, struct cache_req *r)
{
	uint64_t op = r->call.req.op;

	request_locks_locked(c, r);
	request_bump_locked(c, r);
	unsure_request_locked(c, r);
	r->submitted = c->clock;
	/* a mapping of a file opened with O_DIRECT has pages, and reads them with its flags */
	if (op == MSG_READDIRPLUS || (op == MSG_READ && !r->unpaged) ||
	    (op == MSG_WRITE && !r->unpaged && !r->direct)) {
		r->node->flags |= NODE_KERNEL_DATA;
		/* what takes it back meanwhile waits for the page (invalidate_inode_pages2) */
		if (!c->leased || (r->node->flags & NODE_PROMISED) == 0)
			timed_node_locked(c, r->node);
	}
	struct file *f = op == MSG_READ || op == MSG_WRITE ? file_of_locked(r->node) : NULL;
	if (f == NULL)
		return;
	f->used = true;
	if (op == MSG_READ) {
		file_read_locked(r->node, r->call.req.off, r->call.req.size);
	} else if (!r->direct) {
		uint64_t end = r->call.req.off + r->call.req.payload.len;

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
