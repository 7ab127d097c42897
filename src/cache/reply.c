/* Replies: what they leave in the cache, and for how long the kernel may keep what they tell. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/attrs.h"
#include "cache/drop.h"
#include "cache/files.h"
#include "cache/in_kernel.h"
#include "cache/in_kernel_names.h"
#include "cache/in_kernel_size.h"
#include "cache/names.h"
#include "cache/node.h"
#include "cache/pages.h"
#include "cache/reply.h"
#include "cache/request.h"
#include "cache/stamps.h"
#include "cache/timed.h"
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
	    node_install_locked(c, n, a, node_bumped_since(n, r->submitted), good) == 0)
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

	if ((q->valid & SET_SIZE) == 0 && (q->valid & (SET_MTIME | SET_MTIME_NOW)) != 0 &&
	    a->size == size)
		return; /* the time is our own */
	if (msg_is(q->op, TRAIT_OPENS) && msg_is(q->op, TRAIT_NAMES_OBJECT))
		return; /* nobody has asked what there was under the name */
	if (!msg_changes_data(q)) {
		node_compare_locked(c, n, a);
		return;
	}
	/* our own: then the size is what it made of it */
	if ((q->valid & SET_SIZE) != 0)
		size = q->size;
	else if (msg_is(q->op, TRAIT_OPENS))
		size = 0;
	else if (MSG_HAS(q, off2))
		return;
	else
		end = MSG_HAS(m, size) ? m->off + m->size : q->off + q->size;
	if (a->size > (end > size ? end : size))
		node_lose_data_locked(c, n);
}

/* The reply has no promise, and what has none was taken back since its request left. */
static bool timed_out(const struct cache *c, const struct cache_req *r, const struct msg *m)
{
	return (!c->leased || !MSG_HAS(m, stamp)) && r->submitted < c->timed.dropped;
}

/* Attributes of a node of the request. */
struct fact {
	struct node *node;
	const struct attr *attr; /* NULL: none came */
	bool raced;		 /* a change of ours, but for the request's own, came between */
};

/* To be called before the request's own changes bump the second time. */
static struct fact fact_of(const struct cache_req *r, struct node *n, bool has,
			   const struct attr *a)
{
	bool some = n != NULL && has;

	return (struct fact){n, some ? a : NULL, some && node_bumped_since(n, r->submitted)};
}

/* How long the kernel may keep them. */
static uint64_t install_attr_locked(struct cache *c, const struct cache_req *r, const struct msg *m,
				    const struct fact *f)
{
	struct node *n = f->node;

	if (f->attr == NULL)
		return 0;
	bool good = stamp_good_node_locked(c, m, n->server);
	node_identify(n, f->attr);
	compare_locked(c, r, m, n, f->attr);
	if (!timed_out(c, r, m) && (!c->leased || !MSG_HAS(m, stamp) || good))
		return node_install_locked(c, n, f->attr, f->raced, good);
	stats_add(c->options.stats, STAT_cache_tainted, 1);
	node_note_locked(n, f->attr);
	return 0;
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
		name_told_locked(d, true);
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
	uint64_t op = r->call.req.op;

	if (!msg_is(op, TRAIT_REMOVES))
		return;
	if (exchange)
		moved_name_locked(c, m, r->node, r->names[0], r->name_len[0],
				  MSG_HAS(m, node2) ? m->node2 : 0, r->had[1]);
	else if (!whiteout)
		removed_name_locked(c, r->node, r->names[0], r->name_len[0]);
	if (msg_is(op, TRAIT_CHANGES_NAME2))
		moved_name_locked(c, m, r->node2, r->names[1], r->name_len[1],
				  MSG_HAS(m, node) ? m->node : 0, r->had[0]);
}

/* Changes of an object after which the kernel itself makes its attributes newer (attr_version). */
static bool kernel_outdates(const struct cache_req *r)
{
	return msg_is(r->call.req.op, TRAIT_OUTDATES) && !r->writeback;
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
	bool removes = msg_is(r->call.req.op, TRAIT_REMOVES);

	if (!c->leased || msg_changes(&r->call.req) == 0 || kernel_outdates(r))
		return;
	tell_inode_locked(c, r->node, false);
	if (r->node2 != NULL && r->node2 != r->node)
		tell_inode_locked(c, r->node2, false);
	/* what moved, and what was exchanged for it or replaced */
	if (removes && r->node2 != NULL && MSG_HAS(m, node))
		outdate_other_locked(c, m->node);
	if (removes && r->node2 != NULL && MSG_HAS(m, node2))
		outdate_other_locked(c, m->node2);
}

/* Where a request that names an object has the name, and the directory that it is in. */
static struct node *named_in(const struct cache_req *r, unsigned *ret_name)
{
	*ret_name = msg_is(r->call.req.op, TRAIT_CHANGES_NAME2);
	return *ret_name ? r->node2 : r->node;
}

/*
 * The request's own changes bump the second time, so that a reply evaluated before the change
 * finds them newer than itself.
 */
static void bump_again_locked(struct cache *c, struct cache_req *r, struct node *named)
{
	uint64_t op = r->call.req.op;

	if (msg_changes(&r->call.req) != 0 && !FAULT(bump_once))
		request_bump_locked(c, r);
	if (msg_is(op, TRAIT_OPENS) && (r->call.req.flags & O_TRUNC) != 0 && named != NULL)
		node_bump_data_locked(c, named); /* of a file that was there */
}

/*
 * A LOOKUP and a listing of our own in one directory may be evaluated in either order, and names
 * have no version. So what was submitted before the other was answered is not kept. True: a listing
 * was.
 */
static bool looked_locked(struct cache *c, const struct cache_req *r)
{
	struct dir *dir = dir_if_any(r->node);

	if (dir == NULL)
		return false;
	dir->looked = ++c->clock;
	return dir->listed > r->submitted;
}

/*
 * The reply's attributes and names. They are tested against the generations before the request's
 * own second bump, and installed after it: what the reply tells has seen the request's change.
 */
static void install_reply_locked(struct cache *c, struct cache_req *r, const struct msg *m,
				 struct node *named, struct cache_reply *out)
{
	uint64_t op = r->call.req.op;
	struct node *object = r->node, *parent = NULL, *parent2 = NULL;
	unsigned name = 0;

	if (msg_is(op, TRAIT_NAMES_OBJECT)) {
		object = named;
		parent = named_in(r, &name);
	} else if (msg_is(op, TRAIT_REMOVES)) {
		object = NULL;
		parent = r->node;
		parent2 = r->node2;
	}
	bool raced = (parent != NULL && node_names_bumped_since(parent, r->submitted)) ||
		     (parent != NULL && msg_is(op, TRAIT_CHANGES_OBJECT) &&
		      node_bumped_since(r->node, r->submitted));
	if (msg_is(op, TRAIT_LOOKS_UP))
		raced = raced || looked_locked(c, r);
	const struct fact of_object = fact_of(r, object, MSG_HAS(m, attr), &m->attr);
	const struct fact of_parent = fact_of(r, parent, MSG_HAS(m, attr2), &m->attr2);
	const struct fact of_parent2 = fact_of(r, parent2, MSG_HAS(m, attr3), &m->attr3);

	if (msg_is(op, TRAIT_READS) && !MSG_HAS(m, attr))
		r->node->attr_until = 0; /* the access time moved */
	bump_again_locked(c, r, named);

	uint64_t ttl = install_attr_locked(c, r, m, &of_object);
	(void)install_attr_locked(c, r, m, &of_parent);
	(void)install_attr_locked(c, r, m, &of_parent2);
	if (object == NULL && MSG_HAS(m, node))
		install_other_locked(c, r, m, m->node, MSG_HAS(m, attr) ? &m->attr : NULL);
	if (parent2 != NULL && MSG_HAS(m, node2))
		install_other_locked(c, r, m, m->node2, NULL);

	out->attr_ttl = raced ? 0 : ttl;
	if (named != NULL && !raced && !timed_out(c, r, m) && !request_is_nameless(&r->call.req)) {
		out->entry_ttl =
			install_name_locked(c, m, parent, r->names[name], r->name_len[name], named);
		/* with one more reference by now */
		if (msg_is(op, TRAIT_LOOKS_UP) && out->entry_ttl > 0 && named->nlookup > 1 &&
		    !name_confirmed_locked(c, r->task, named))
			out->entry_ttl = 0;
		if (msg_is(op, TRAIT_CHANGES_NAME) && S_ISDIR(named->attr.mode) &&
		    MSG_HAS(m, flags) && (m->flags & MKNOD_EMPTY) != 0 && out->entry_ttl > 0 &&
		    stamp_good_listing_locked(c, m, named->server) &&
		    dir_of_locked(named) != NULL) {
			named->dir->complete = true;
			named->dir->until = cache_now() + c->options.cap.dir;
		}
	}
	install_names_locked(c, r, m);
	outdate_locked(c, r, m);
}

/* ---- what single requests leave in the cache ---- */

struct facts {
	bool promised; /* what the reply tells of the node holds until an invalidation */
	bool good;     /* and we have not changed it */
};

static void take_open(struct cache *c, struct cache_req *r, const struct msg *m,
		      const struct facts *f, struct cache_reply *out)
{
	/* Attributes that are newer than these, installed already, are of a later moment. */
	if (f->good && MSG_HAS(m, payload) && m->attr.version >= r->node->attr.version)
		r->keep = pages_brought_locked(c, r->node, m->payload.len);
	if ((r->call.req.flags & O_TRUNC) == 0) {
		/* what we write ourselves is in the kernel's pages */
		out->keep = f->promised;
		if (!f->promised)
			node_open_locked(c, r->node, MSG_HAS(m, attr), out);
	}
	out->appended = is_appended(r->node);
}

static void take_read(struct cache *c, struct cache_req *r, const struct msg *m,
		      const struct facts *f, struct cache_reply *out)
{
	const struct msg *q = &r->call.req;

	out->data = m->payload;
	size_read_locked(r, m->payload.len, out);
	if (f->good && S_ISREG(r->node->attr.mode))
		r->keep = pages_want_locked(c, r->node, q->off, q->size, m->payload.len);
}

static void take_readlink(struct cache *c, struct cache_req *r, const struct msg *m,
			  const struct facts *f, struct cache_reply *out)
{
	struct node *n = r->node;

	(void)f;
	out->data = m->payload;
	if (c->leased && S_ISLNK(n->attr.mode) && n->target == NULL &&
	    m->payload.len < PATH_MAX && /* longer than any link says */
	    memchr(m->payload.data, '\0', m->payload.len) == NULL)
		n->target = strndup(m->payload.data, m->payload.len);
}

static void take_write(struct cache *c, struct cache_req *r, const struct msg *m,
		       const struct facts *f, struct cache_reply *out)
{
	const struct msg *q = &r->call.req;

	out->raced =
		!r->direct && file_written_locked(r->node, q->off, q->payload.len, !r->writeback);
	/* without pushes nobody tells; a new mtime drops the pages then */
	out->keep = f->good || !c->leased;
	out->has_pages = kernel_has_data_locked(r->node);
	out->data = MSG_HAS(m, payload) ? m->payload : (struct slice){0};
}

static void take_statfs(struct cache *c, struct cache_req *r, const struct msg *m,
			const struct facts *f, struct cache_reply *out)
{
	(void)f;
	out->fs = &m->fs;
	if (!c->one_fs)
		return;
	c->fs = m->fs;
	c->fs_clock = r->submitted;
}

static void take_listxattr(struct cache *c, struct cache_req *r, const struct msg *m,
			   const struct facts *f, struct cache_reply *out)
{
	(void)c;
	(void)out;
	if (f->good && m->size == 0)
		r->node->flags |= NODE_NO_XATTR;
}

static void take_more_locked(struct cache *c, struct cache_req *r, const struct msg *m,
			     const struct facts *f, struct cache_reply *out)
{
	static void (*const takers[])(struct cache *, struct cache_req *, const struct msg *,
				      const struct facts *, struct cache_reply *) = {
		[MSG_OPEN] = take_open,		[MSG_READ] = take_read,
		[MSG_READLINK] = take_readlink, [MSG_WRITE] = take_write,
		[MSG_STATFS] = take_statfs,	[MSG_LISTXATTR] = take_listxattr,
	};
	uint64_t op = r->call.req.op;

	if (op < sizeof(takers) / sizeof(takers[0]) && takers[op] != NULL)
		takers[op](c, r, m, f, out);
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

	if (msg_is(op, TRAIT_NAMES_OBJECT))
		return named;
	return msg_is(op, TRAIT_REMOVES) ? NULL : r->node;
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
	out->forces = msg_is(q->op, TRAIT_FORCES_SIZE);
	if (msg_is(q->op, TRAIT_OPENS) && c->leased)
		out->size_first = size_is_longer_locked(n);
	if (!request_tells_size(q))
		return;
	size_tell_locked(c, n, out);
	out->cut_first = q->op == MSG_GETATTR && size_is_cut_locked(n, out->attr->size);
	if (c->leased && out->forces && msg_is(q->op, TRAIT_NAMES_OBJECT))
		out->attr_ttl = 0; /* the kernel may be told otherwise before it digests that */
}

void reply_locked(struct cache *c, struct cache_req *r, const struct msg *m,
		  struct cache_reply *out)
{
	uint64_t op = r->call.req.op;

	if (r->writing)
		r->node->file->writing--;
	pages_not_busy_locked(c, r);
	if (m->err == ESTALE) {
		gone_locked(c, r->node);
		gone_locked(c, r->node2);
	}

	if (m->err == 0) {
		bool names = msg_is(op, TRAIT_NAMES_OBJECT);
		struct node *named = names ? node_named_locked(c, m->node) : NULL;
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
		} else if (names) {
			out->err = ENOMEM;
		}
		struct facts f = {.promised = stamp_good_node_locked(c, m, r->node->server)};
		/* before its own second bump */
		f.good = f.promised && !node_bumped_since(r->node, r->submitted);
		out->synchronises = msg_synchronises(&r->call.req) && !FAULT(no_sync_fence);
		if (out->synchronises && msg_is(op, TRAIT_FILE_LOCK))
			timed_drop_locked(c);
		if (msg_is(op, TRAIT_PAGES) && (!c->leased || !MSG_HAS(m, stamp)))
			timed_node_locked(c, r->node);
		install_reply_locked(c, r, m, named, out);
		take_more_locked(c, r, m, &f, out);
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
	} else if (msg_changes(&r->call.req) != 0) {
		request_bump_locked(c, r);
	} else if (m->err == ENOENT && msg_is(op, TRAIT_LOOKS_UP)) {
		out->entry_ttl = looked_locked(c, r) ||
						 node_names_bumped_since(r->node, r->submitted) ||
						 timed_out(c, r, m)
					 ? 0
					 : install_name_locked(c, m, r->node, r->names[0],
							       r->name_len[0], NULL);
	}
}
