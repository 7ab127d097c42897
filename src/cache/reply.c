/* Replies: what they leave in the cache, and for how long the kernel may keep what they tell. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/cache_priv.h"
#include "core/fault.h"

/*
 * A node that a reply tells about besides those of the request: the victim of
 * an UNLINK, the objects that a RENAME moved. Its attributes changed.
 */
static void install_other_locked(struct cache *c, const struct cache_req *r, const struct msg *m,
				 uint64_t server, const struct attr *a)
{
	struct node *n = node_find_server_locked(c, server);
	bool good = stamp_good_node_locked(c, m, server);

	if (n == NULL)
		return;
	if (a != NULL)
		node_compare_locked(c, n, a); /* before its invalidation has come */
	if (a == NULL || (MSG_HAS(m, stamp) && !good) ||
	    node_install_locked(c, n, a, r->submitted, good) == 0)
		node_bump_locked(c, n);
	if (a == NULL || a->nlink == 0) /* NULL: replaced by a RENAME, maybe its last name */
		idle_unnamed_locked(c, n);
	node_check_locked(c, n);
}

/*
 * Attributes that tell of a change by somebody else, before its invalidation
 * has come: pages go before the kernel hears of the new size.
 */
static void compare_locked(struct cache *c, const struct cache_req *r, const struct msg *m,
			   struct node *n, const struct attr *a)
{
	const struct msg *q = &r->call.req;
	uint64_t size = n->attr.size, end = 0;

	if (q->op == MSG_SETATTR && (q->valid & SET_SIZE) == 0 &&
	    (q->valid & (SET_MTIME | SET_MTIME_NOW)) != 0 && a->size == size)
		return; /* the time is our own */
	if (!request_changes_data(q) && q->op != MSG_CREATE) {
		node_compare_locked(c, n, a);
		return;
	}
	/* our own: then the size is what it made of it */
	if (q->op == MSG_SETATTR)
		size = q->size;
	else if (q->op == MSG_OPEN)
		size = 0;
	else if (q->op == MSG_WRITE)
		end = m->off + m->size;
	else if (q->op == MSG_FALLOCATE)
		end = q->off + q->size;
	else
		return;
	if (a->size > (end > size ? end : size))
		node_lose_data_locked(c, n);
}

/* Whether the kernel is given the attributes of its object, and takes no size of its own for them.
 */
static bool tells_size(const struct msg *q)
{
	return request_names_object(q->op) || q->op == MSG_GETATTR ||
	       (q->op == MSG_SETATTR && (q->valid & SET_SIZE) == 0);
}

/* It has no promise, and what has none was taken back since the request left. */
static bool timed_out(const struct cache *c, const struct cache_req *r, const struct msg *m)
{
	return (!c->leased || !MSG_HAS(m, stamp)) && r->submitted < c->timed.dropped;
}

/* Attributes of a node of the request; how long the kernel may keep them. */
static uint64_t install_attr_locked(struct cache *c, const struct cache_req *r, const struct msg *m,
				    struct node *n, const struct attr *a)
{
	bool good = stamp_good_node_locked(c, m, n->server);
	uint64_t ttl = 0;

	node_identify(n, a);
	compare_locked(c, r, m, n, a);
	if (!timed_out(c, r, m) && (!c->leased || !MSG_HAS(m, stamp) || good)) {
		ttl = node_install_locked(c, n, a, r->submitted, good);
	} else {
		stats_add(c->options.stats, STAT_cache_tainted, 1);
		node_note_locked(n, a);
	}
	return ttl;
}

/*
 * The name that a reply leads to an object, or to nothing (node NULL). How
 * long the kernel may keep it; 0 too where there is no memory to note that.
 */
static uint64_t install_name_locked(struct cache *c, const struct msg *m, struct node *dir,
				    const char *name, size_t len, struct node *node)
{
	if (!c->leased || !MSG_HAS(m, stamp)) {
		uint64_t ttl = node != NULL ? c->options.ttl.entry : c->options.ttl.negative;

		if (ttl == 0 || (node != NULL && name_opens(c, node->attr.mode)))
			return 0;
		bool is_dir = node != NULL && S_ISDIR(node->attr.mode);
		return timed_name_locked(c, dir, name, len, is_dir, ttl) ? ttl : 0;
	}
	if (!stamp_good_name_locked(c, m, dir->server, name, len)) {
		stats_add(c->options.stats, STAT_cache_tainted, 1);
		return 0;
	}
	struct dentry *d = node != NULL ? name_set_node_locked(c, dir, name, len, node)
					: name_set_absent_locked(c, dir, name, len);
	if (d == NULL)
		return 0;
	uint64_t cap = node != NULL ? c->options.cap.entry : c->options.cap.negative;
	if (cap > 0)
		d->told = 1;
	return cap;
}

/* After an own UNLINK or RMDIR the kernel knows that the name is gone. */
static void removed_name_locked(struct cache *c, struct node *dir, const char *name, size_t len)
{
	struct dentry *d = name_find_locked(c, dir, name, len);

	if (d != NULL)
		name_remove_locked(c, d);
}

/*
 * The kernel moves its dentry, with the time that it had, and with the inode
 * `had`: the host may have put something else under the old name, and then
 * that is what has moved.
 */
static void moved_name_locked(struct cache *c, const struct msg *m, struct node *dir,
			      const char *name, size_t len, uint64_t server, uint64_t had)
{
	struct node *n = server != 0 ? node_find_server_locked(c, server) : NULL;

	if (!c->leased) {
		if (c->options.ttl.entry == 0 ||
		    timed_name_locked(c, dir, name, len, n == NULL || S_ISDIR(n->attr.mode),
				      c->options.ttl.entry))
			return;
		/* no memory to note that the kernel has it */
	}
	/* without a promise nothing is noted, and nobody would tell it later */
	if (n != NULL && n->id == had && MSG_HAS(m, stamp) &&
	    install_name_locked(c, m, dir, name, len, n) > 0)
		return;
	/* what the caller sees next is to be what is there: see "What synchronises" */
	c->by_host = true;
	name_take_back_locked(c, dir, name, len, name_find_locked(c, dir, name, len));
	c->by_host = false;
}

static void install_names_locked(struct cache *c, struct cache_req *r, const struct msg *m)
{
	bool exchange = (r->call.req.flags & RENAME_EXCHANGE) != 0;
	bool whiteout = (r->call.req.flags & RENAME_WHITEOUT) != 0; /* has the old name now */

	switch (r->call.req.op) {
	case MSG_UNLINK:
	case MSG_RMDIR:
		removed_name_locked(c, r->node, r->names[0], r->name_len[0]);
		break;
	case MSG_RENAME:
		if (exchange)
			moved_name_locked(c, m, r->node, r->names[0], r->name_len[0],
					  MSG_HAS(m, node2) ? m->node2 : 0, r->had[1]);
		else if (!whiteout)
			removed_name_locked(c, r->node, r->names[0], r->name_len[0]);
		moved_name_locked(c, m, r->node2, r->names[1], r->name_len[1],
				  MSG_HAS(m, node) ? m->node : 0, r->had[0]);
		break;
	default:
		break;
	}
}

/* Changes of an object after which the kernel itself makes its attributes newer (attr_version). */
static bool kernel_outdates(const struct cache_req *r)
{
	uint64_t op = r->call.req.op;

	return op == MSG_SETATTR || op == MSG_OPEN || (op == MSG_WRITE && !r->writeback);
}

static void outdate_other_locked(struct cache *c, uint64_t server)
{
	struct node *n = node_find_server_locked(c, server);

	if (n != NULL)
		tell_inode_locked(c, n, false);
}

/*
 * After any other the kernel marks the attributes of what was changed as
 * invalid (fuse_dir_changed, fuse_update_ctime), but not as newer: a
 * reply to an earlier GETATTR or LOOKUP that it has not digested yet would make
 * the old ones valid again, for as long as that reply said.
 */
static void outdate_locked(struct cache *c, const struct cache_req *r, const struct msg *m)
{
	enum touch t = request_touches(&r->call.req);

	if (!c->leased || t == TOUCH_NOTHING || kernel_outdates(r))
		return;
	tell_inode_locked(c, r->node, false);
	if (r->node2 != NULL && r->node2 != r->node)
		tell_inode_locked(c, r->node2, false);
	/* what moved, and what was exchanged for it or replaced */
	if (t == TOUCH_RENAME && MSG_HAS(m, node))
		outdate_other_locked(c, m->node);
	if (t == TOUCH_RENAME && MSG_HAS(m, node2))
		outdate_other_locked(c, m->node2);
}

/* Where a request that names an object has the name, and the directory that it is in. */
static struct node *named_in(const struct cache_req *r, unsigned *ret_name)
{
	*ret_name = r->call.req.op == MSG_LINK;
	return *ret_name ? r->node2 : r->node;
}

/*
 * The reply's attributes and names: first tested against the generations and
 * the stamp, then the request's own changes bump a second time, so that a
 * reply evaluated before the change finds them newer than itself.
 */
static void install_reply_locked(struct cache *c, struct cache_req *r, const struct msg *m,
				 struct node *named, struct cache_reply *out)
{
	uint64_t op = r->call.req.op;
	struct node *object = r->node, *parent = NULL, *parent2 = NULL;
	unsigned name = 0;

	if (request_names_object(op)) {
		object = named;
		parent = named_in(r, &name);
	} else if (op == MSG_UNLINK || op == MSG_RMDIR || op == MSG_RENAME) {
		object = NULL;
		parent = r->node;
		parent2 = r->node2;
	}
	bool raced = (parent != NULL && node_names_bumped_since(parent, r->submitted)) ||
		     (op == MSG_LINK && node_bumped_since(r->node, r->submitted));
	uint64_t ttl = 0, parent_ttl = 0, parent2_ttl = 0;

	if (object != NULL && MSG_HAS(m, attr))
		ttl = install_attr_locked(c, r, m, object, &m->attr);
	if (parent != NULL && MSG_HAS(m, attr2))
		parent_ttl = install_attr_locked(c, r, m, parent, &m->attr2);
	if (parent2 != NULL && MSG_HAS(m, attr3))
		parent2_ttl = install_attr_locked(c, r, m, parent2, &m->attr3);
	if (object == NULL && MSG_HAS(m, node))
		install_other_locked(c, r, m, m->node, MSG_HAS(m, attr) ? &m->attr : NULL);
	if (op == MSG_RENAME && MSG_HAS(m, node2))
		install_other_locked(c, r, m, m->node2, NULL);

	if ((op == MSG_READ || op == MSG_READDIRPLUS || op == MSG_READLINK) && !MSG_HAS(m, attr))
		r->node->attr_until = 0; /* the access time moved */

	/* The second bump forgets what was installed just now, so it is kept aside. */
	uint64_t now = cache_now();
	if (request_touches(&r->call.req) != TOUCH_NOTHING && !FAULT(bump_once))
		request_bump_locked(c, r);
	if (op == MSG_CREATE && (r->call.req.flags & O_TRUNC) != 0 && named != NULL)
		node_bump_data_locked(c, named); /* of a file that was there */
	if (object != NULL && ttl > 0)
		object->attr_until = now + ttl;
	if (parent != NULL && parent_ttl > 0)
		parent->attr_until = now + parent_ttl;
	if (parent2 != NULL && parent2_ttl > 0)
		parent2->attr_until = now + parent2_ttl;

	out->attr_ttl = raced ? 0 : ttl;
	if (request_names_object(op) && named != NULL && !raced && !timed_out(c, r, m) &&
	    !request_is_nameless(&r->call.req)) {
		out->entry_ttl =
			install_name_locked(c, m, parent, r->names[name], r->name_len[name], named);
		/* with one more reference by now */
		if (op == MSG_LOOKUP && out->entry_ttl > 0 && named->nlookup > 1 &&
		    !name_confirmed_locked(c, r, parent, r->names[0], r->name_len[0], named))
			out->entry_ttl = 0;
		if (op == MSG_MKNOD && MSG_HAS(m, flags) && (m->flags & MKNOD_EMPTY) != 0 &&
		    out->entry_ttl > 0 && stamp_good_listing_locked(c, m, named->server) &&
		    dir_of_locked(named) != NULL) {
			named->dir->complete = true;
			named->dir->until = now + c->options.cap.dir;
		}
	}
	install_names_locked(c, r, m);
	outdate_locked(c, r, m);
}

/* What single requests leave in the cache. */
static void install_more_locked(struct cache *c, struct cache_req *r, const struct msg *m,
				bool promised, bool good, struct cache_reply *out)
{
	struct node *n = r->node;

	switch (r->call.req.op) {
	case MSG_OPEN:
		if ((r->call.req.flags & O_TRUNC) == 0) {
			/* what we write ourselves is in the kernel's pages */
			out->keep = promised;
			if (!promised)
				node_open_locked(c, n, MSG_HAS(m, attr), out);
		}
		out->appended = is_appended(n);
		break;
	case MSG_READ:
		out->data = m->payload;
		out->longer = size_read_locked(r, m->payload.len);
		if (good && S_ISREG(n->attr.mode))
			pages_install_locked(c, n, r->call.req.off, r->call.req.size, m->payload);
		break;
	case MSG_READLINK:
		out->data = m->payload;
		if (c->leased && S_ISLNK(n->attr.mode) && n->target == NULL &&
		    memchr(m->payload.data, '\0', m->payload.len) == NULL)
			n->target = strndup(m->payload.data, m->payload.len);
		break;
	case MSG_WRITE:
		out->raced =
			!r->direct && file_written_locked(n, r->call.req.off,
							  r->call.req.payload.len, !r->writeback);
		/* without pushes nobody tells; a new mtime drops the pages then */
		out->keep = good || !c->leased;
		out->has_pages = (n->flags & NODE_KERNEL_DATA) != 0;
		out->data = MSG_HAS(m, payload) ? m->payload : (struct slice){0};
		break;
	case MSG_STATFS:
		out->fs = &m->fs;
		if (c->one_fs) {
			c->fs = m->fs;
			c->fs_clock = r->submitted;
		}
		break;
	case MSG_LISTXATTR:
		if (good && m->size == 0)
			n->flags |= NODE_NO_XATTR;
		break;
	default:
		break;
	}
	out->fh = MSG_HAS(m, fh) ? m->fh : 0;
	out->flags = MSG_HAS(m, flags) ? m->flags : 0;
}

/*
 * The host has lost the object before its invalidation came. The kernel walks
 * the path once more (LOOKUP_REVAL), and must not be led here again.
 */
static void gone_locked(struct cache *c, struct node *n)
{
	if (n == NULL || !c->leased)
		return;
	n->attr_until = 0;
	if (n->name != NULL) {
		const struct dentry *d = n->name;

		name_unsure_locked(c, d->dir, d->name, d->len);
	}
}

/* The object of which a reply gives the kernel attributes; NULL: of none. */
static struct node *told_object(const struct cache_req *r, struct node *named)
{
	uint64_t op = r->call.req.op;

	if (request_names_object(op))
		return named;
	return op == MSG_UNLINK || op == MSG_RMDIR || op == MSG_RENAME ? NULL : r->node;
}

/* known: the kernel knows it already. */
static void tell_object_locked(struct cache *c, const struct cache_req *r, struct node *n,
			       bool known, struct cache_reply *out)
{
	const struct msg *q = &r->call.req;

	if (out->attr->version < n->attr.version) {
		node_attr(n, &out->newest);
		out->attr = &out->newest;
	}
	if (!known)
		size_unknown_locked(n); /* it makes a new inode */
	if (!known || r->own || !S_ISREG(n->attr.mode))
		return;
	out->forces = q->op == MSG_LINK || q->op == MSG_CREATE || q->op == MSG_SETATTR;
	if (q->op == MSG_OPEN && c->leased)
		out->size_first = size_is_longer_locked(n);
	if (!tells_size(q))
		return;
	size_tell_locked(c, n, out);
	if (c->leased && (q->op == MSG_LINK || q->op == MSG_CREATE))
		out->attr_ttl = 0; /* the kernel may be told otherwise before it digests that */
}

void reply_locked(struct cache *c, struct cache_req *r, const struct msg *m,
		  struct cache_reply *out)
{
	uint64_t op = r->call.req.op;

	if (r->writing)
		r->node->file->writing--;
	if (m->err == ESTALE) {
		gone_locked(c, r->node);
		gone_locked(c, r->node2);
	}

	if (m->err == 0) {
		struct node *named =
			request_names_object(op) ? node_named_locked(c, m->node) : NULL;
		const struct node *object = told_object(r, named);

		if (object != NULL && MSG_HAS(m, attr) && node_other_type(object, &m->attr)) {
			/* with them the kernel would take the inode for a bad one */
			out->err = EIO;
			request_bump_locked(c, r);
			node_put_locked(c, named);
			return;
		}
		bool known = named == NULL || named->nlookup > 0; /* by the kernel */
		if (named != NULL) {
			node_told_locked(c, named);
			out->ino = named->id;
		} else if (request_names_object(op)) {
			out->err = ENOMEM;
		}
		bool promised = stamp_good_node_locked(c, m, r->node->server);
		/* nor have we changed it: before its own second bump */
		bool good = promised && !node_bumped_since(r->node, r->submitted);
		if (op == MSG_SETLK && msg_synchronises(&r->call.req) && !FAULT(no_sync_fence))
			timed_drop_locked(c);
		if ((op == MSG_READ || op == MSG_WRITE || op == MSG_READDIRPLUS) &&
		    (!c->leased || !MSG_HAS(m, stamp)))
			timed_node_locked(c, r->node);
		out->synchronises = msg_synchronises(&r->call.req) && !FAULT(no_sync_fence);
		install_reply_locked(c, r, m, named, out);
		install_more_locked(c, r, m, promised, good, out);
		size_written_locked(r, m);
		if (named != NULL && name_opens(c, named->attr.mode) &&
		    (!MSG_HAS(m, stamp) || c->expired))
			node_lose_data_locked(c, named);
		out->attr = MSG_HAS(m, attr) ? &m->attr : NULL;
		if (object != NULL && out->attr != NULL)
			tell_object_locked(c, r, named != NULL ? named : r->node, known, out);
		if (request_may_grow(r))
			out->hold = pages_to_drop(named != NULL ? named : r->node);
		if (named != NULL)
			named->refs--; /* nlookup holds it now */
	} else if (request_touches(&r->call.req) != TOUCH_NOTHING) {
		request_bump_locked(c, r);
	} else if (m->err == ENOENT && op == MSG_LOOKUP) {
		out->entry_ttl =
			node_names_bumped_since(r->node, r->submitted) || timed_out(c, r, m)
				? 0
				: install_name_locked(c, m, r->node, r->names[0], r->name_len[0],
						      NULL);
	}
}
