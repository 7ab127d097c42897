#include "cache/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"
#include "core/fault.h"

#define ITEM_MAX 20 /* bytes of one item of a sequence */

/* ---- messages without a reply ---- */

struct oneway {
	struct call call;
	unsigned char *data;
};

static void oneway_sent(struct call *call)
{
	struct oneway *o = (struct oneway *)call;

	free(o->data);
	free(o);
}

static struct oneway *oneway_new(enum msg_op op)
{
	struct oneway *o = calloc(1, sizeof(*o));

	if (o != NULL) {
		o->call.sent = oneway_sent;
		MSG_SET(&o->call.req, op, op);
	}
	return o;
}

/* Takes over what has gathered. Without memory the server keeps what it has until the end. */
static void send_heap(struct cache *c, enum msg_op op, struct heap *h)
{
	struct oneway *o = h->len > 0 ? oneway_new(op) : NULL;

	if (o == NULL) {
		free(h->data);
		return;
	}
	o->data = h->data;
	MSG_SET(&o->call.req, payload, ((struct slice){h->data, h->len}));
	c->backend->ops->submit(c->backend, &o->call);
}

static unsigned char *heap_room(struct heap *h)
{
	if (h->cap - h->len < ITEM_MAX) {
		size_t cap = h->cap == 0 ? 256 : h->cap * 2;
		unsigned char *p = cap > MSG_PAYLOAD_MAX ? NULL : realloc(h->data, cap);

		if (p == NULL)
			return NULL;
		h->data = p;
		h->cap = cap;
	}
	return h->data + h->len;
}

void cache_give_back_locked(struct cache *c, uint64_t server, uint64_t n)
{
	unsigned char *p = heap_room(&c->forgets);

	if (p != NULL)
		c->forgets.len += c->backend->sequences->put_pair(server, n, p, ITEM_MAX);
}

void cache_close_locked(struct cache *c, uint64_t fh)
{
	unsigned char *p = heap_room(&c->closes);

	if (p != NULL)
		c->closes.len += c->backend->sequences->put_uint(fh, p, ITEM_MAX);
}

static struct heap take_heap(struct heap *h)
{
	struct heap taken = *h;

	*h = (struct heap){0};
	return taken;
}

void cache_forget_flush(struct cache *c)
{
	(void)pthread_mutex_lock(&c->lock);
	struct heap forgets = take_heap(&c->forgets), closes = take_heap(&c->closes);
	(void)pthread_mutex_unlock(&c->lock);
	send_heap(c, MSG_CLOSE, &closes);
	send_heap(c, MSG_FORGET, &forgets);
}

void cache_forget(struct cache *c, uint64_t ino, uint64_t n)
{
	SCOPE_LOCK(&c->lock);
	struct node *node = node_find_locked(c, ino);

	if (node == NULL)
		return;
	node->nlookup -= n < node->nlookup ? n : node->nlookup;
	if (node->nlookup == 0) {
		node->flags &= ~(uint32_t)NODE_KERNEL_DATA;
		idle_close_locked(c, node);
		node_check_locked(c, node);
	}
}

void cache_undo_lookup(struct cache *c, uint64_t ino)
{
	cache_forget(c, ino, 1);
	cache_forget_flush(c);
}

void cache_close(struct cache *c, uint64_t ino, uint64_t fh, bool again)
{
	(void)pthread_mutex_lock(&c->lock);
	struct node *n = again && c->leased ? node_find_locked(c, ino) : NULL;
	if (n != NULL && n->attr.nlink > 0 && node_fresh_locked(c, n, cache_now()))
		idle_keep_locked(c, n, fh, 0);
	else
		cache_close_locked(c, fh);
	(void)pthread_mutex_unlock(&c->lock);
	cache_forget_flush(c);
}

void cache_appending(struct cache *c, uint64_t ino, bool opened)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct file *f = n != NULL ? file_of_locked(n) : NULL;

	if (f == NULL)
		return;
	if (opened)
		f->appending++;
	else if (f->appending > 0)
		f->appending--;
}

static bool is_appended(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->file != NULL && n->file->appending > 0;
}

/* ---- what requests are about ---- */

/* What a request changes, as far as names and attributes go. */
enum touch {
	TOUCH_NOTHING,
	TOUCH_NODE,   /* the object `node` */
	TOUCH_NAMES,  /* names in the directory `node` */
	TOUCH_LINK,   /* the object `node` and names in `node2` */
	TOUCH_RENAME, /* names in `node` and `node2` */
};

static enum touch touches(const struct msg *m)
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
static bool names_object(uint64_t op)
{
	return op == MSG_LOOKUP || op == MSG_CREATE || op == MSG_MKNOD || op == MSG_SYMLINK ||
	       op == MSG_LINK;
}

/* O_TMPFILE: the name that comes with it is the kernel's own. */
static bool is_nameless(const struct msg *m)
{
	return m->op == MSG_CREATE && (m->flags & O_TMPFILE) == O_TMPFILE;
}

/* Requests during which the kernel holds the lock of a directory: node, node2. */
static bool holds_node(const struct msg *m)
{
	return m->op == MSG_LOOKUP || m->op == MSG_READDIRPLUS || m->op == MSG_RENAME ||
	       m->op == MSG_SETATTR || m->op == MSG_SETXATTR || m->op == MSG_REMOVEXATTR ||
	       m->op == MSG_FSYNC || touches(m) == TOUCH_NAMES;
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
static bool may_grow(const struct cache_req *r)
{
	const struct msg *m = &r->call.req;
	uint64_t op = m->op;

	return names_object(op) || op == MSG_GETATTR ||
	       (op == MSG_SETATTR && (m->valid & SET_SIZE) == 0) || op == MSG_FALLOCATE ||
	       op == MSG_COPY || (op == MSG_WRITE && r->direct);
}

static bool changes_data(const struct msg *m)
{
	return m->op == MSG_WRITE || m->op == MSG_FALLOCATE || m->op == MSG_COPY ||
	       (m->op == MSG_SETATTR && (m->valid & SET_SIZE) != 0) ||
	       (m->op == MSG_OPEN && (m->flags & O_TRUNC) != 0);
}

static void bump_data_locked(struct cache *c, struct node *n)
{
	node_bump_locked(c, n);
	if (S_ISREG(n->attr.mode))
		pages_drop_locked(c, n);
}

static void bump_request_locked(struct cache *c, struct cache_req *r)
{
	if (touches(&r->call.req) != TOUCH_NOTHING)
		c->space_changed = ++c->clock;
	switch (touches(&r->call.req)) {
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
	if (changes_data(&r->call.req) && S_ISREG(r->node->attr.mode))
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
	enum touch t = touches(&r->call.req);

	if (is_nameless(&r->call.req))
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

/* ---- replies ---- */

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

	if (!changes_data(q) && q->op != MSG_CREATE) {
		node_compare_locked(c, n, a);
		return;
	}
	/* our own: then the size is what it made of it */
	if (q->op == MSG_SETATTR)
		size = q->size;
	else if (q->op == MSG_WRITE)
		end = m->off + m->size;
	else if (q->op == MSG_FALLOCATE)
		end = q->off + q->size;
	else
		return;
	if (a->size > (end > size ? end : size))
		node_lose_data_locked(c, n);
}

/* Attributes of a node of the request; how long the kernel may keep them. */
static uint64_t install_attr_locked(struct cache *c, const struct cache_req *r, const struct msg *m,
				    struct node *n, const struct attr *a)
{
	bool good = stamp_good_node_locked(c, m, n->server);

	node_identify(n, a);
	if (c->leased)
		compare_locked(c, r, m, n, a);
	if (c->leased && MSG_HAS(m, stamp) && !good) {
		stats_add(c->options.stats, STAT_cache_tainted, 1);
		return 0;
	}
	return node_install_locked(c, n, a, r->submitted, good);
}

/*
 * The name that a reply leads to an object, or to nothing (node NULL). How
 * long the kernel may keep it; 0 too where there is no memory to note that.
 */
static uint64_t install_name_locked(struct cache *c, const struct msg *m, struct node *dir,
				    const char *name, size_t len, struct node *node)
{
	if (!c->leased || !MSG_HAS(m, stamp)) {
		if (node != NULL && name_opens(c, node->attr.mode))
			return 0;
		return node != NULL ? c->options.ttl.entry : c->options.ttl.negative;
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

	if (!c->leased)
		return;
	/* without a promise nothing is noted, and nobody would tell it later */
	if (n != NULL && n->id == had && MSG_HAS(m, stamp) &&
	    install_name_locked(c, m, dir, name, len, n) > 0)
		return;
	if (c->sink != NULL)
		c->sink->entry(c->sink_arg, dir->id, name, len);
}

static void install_names_locked(struct cache *c, struct cache_req *r, const struct msg *m)
{
	bool exchange = (r->call.req.flags & 2u) != 0; /* RENAME_EXCHANGE */

	switch (r->call.req.op) {
	case MSG_UNLINK:
	case MSG_RMDIR:
		removed_name_locked(c, r->node, r->names[0], r->name_len[0]);
		break;
	case MSG_RENAME:
		if (exchange)
			moved_name_locked(c, m, r->node, r->names[0], r->name_len[0],
					  MSG_HAS(m, node2) ? m->node2 : 0, r->had[1]);
		else
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

/*
 * After any other the kernel marks the attributes of what was changed as
 * invalid (fuse_dir_changed, fuse_update_ctime), but not as newer: a
 * reply to an earlier GETATTR or LOOKUP that it has not digested yet would make
 * the old ones valid again, for as long as that reply said.
 */
static void outdate_locked(struct cache *c, const struct cache_req *r, const struct msg *m)
{
	enum touch t = touches(&r->call.req);
	struct node *moved =
		t == TOUCH_RENAME && MSG_HAS(m, node) ? node_find_server_locked(c, m->node) : NULL;

	if (!c->leased || t == TOUCH_NOTHING || kernel_outdates(r))
		return;
	tell_inode_locked(c, r->node, false);
	if (r->node2 != NULL && r->node2 != r->node)
		tell_inode_locked(c, r->node2, false);
	if (moved != NULL)
		tell_inode_locked(c, moved, false);
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

	if (names_object(op)) {
		object = named;
		parent = named_in(r, &name);
	} else if (op == MSG_UNLINK || op == MSG_RMDIR || op == MSG_RENAME) {
		object = NULL;
		parent = r->node;
		parent2 = r->node2;
	}
	bool raced = (parent != NULL && node_names_bumped(parent) > r->submitted) ||
		     (op == MSG_LINK && r->node->bumped > r->submitted);
	uint64_t ttl = 0, parent_ttl = 0, parent2_ttl = 0;

	raced = raced && !FAULT(taint_ignored);
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
	if (touches(&r->call.req) != TOUCH_NOTHING && !FAULT(bump_once))
		bump_request_locked(c, r);
	if (op == MSG_CREATE && (r->call.req.flags & O_TRUNC) != 0 && named != NULL)
		bump_data_locked(c, named); /* of a file that was there */
	if (object != NULL && ttl > 0)
		object->attr_until = now + ttl;
	if (parent != NULL && parent_ttl > 0)
		parent->attr_until = now + parent_ttl;
	if (parent2 != NULL && parent2_ttl > 0)
		parent2->attr_until = now + parent2_ttl;

	out->attr_ttl = raced ? 0 : ttl;
	if (names_object(op) && named != NULL && !raced && !is_nameless(&r->call.req)) {
		out->entry_ttl =
			install_name_locked(c, m, parent, r->names[name], r->name_len[name], named);
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
				bool good, struct cache_reply *out)
{
	struct node *n = r->node;

	switch (r->call.req.op) {
	case MSG_OPEN:
		out->keep = good && (r->call.req.flags & O_TRUNC) == 0;
		out->appended = is_appended(n);
		break;
	case MSG_READ:
		out->data = m->payload;
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
		out->keep = good;
		out->stale_pages = r->direct && (n->flags & NODE_KERNEL_DATA) != 0;
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
 * Whether a reply with the attributes of n has to wait: with them the file may
 * grow in the kernel, over a page of the old end that it is still to drop.
 */
static bool holds_reply(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->file != NULL && n->file->drops > 0;
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

	if (names_object(op))
		return named;
	return op == MSG_UNLINK || op == MSG_RMDIR || op == MSG_RENAME ? NULL : r->node;
}

static void done_locked(struct cache *c, struct cache_req *r, const struct msg *m,
			struct cache_reply *out)
{
	uint64_t op = r->call.req.op;

	if (m->err == ESTALE) {
		gone_locked(c, r->node);
		gone_locked(c, r->node2);
	}

	if (m->err == 0) {
		struct node *named = names_object(op) ? node_named_locked(c, m->node) : NULL;
		const struct node *object = told_object(r, named);

		if (object != NULL && MSG_HAS(m, attr) && node_other_type(object, &m->attr)) {
			/* with them the kernel would take the inode for a bad one */
			out->err = EIO;
			bump_request_locked(c, r);
			node_put_locked(c, named);
			return;
		}
		if (named != NULL) {
			node_told_locked(c, named);
			out->ino = named->id;
		} else if (names_object(op)) {
			out->err = ENOMEM;
		}
		/* before its own second bump */
		bool good = stamp_good_node_locked(c, m, r->node->server) &&
			    r->node->bumped <= r->submitted;
		install_reply_locked(c, r, m, named, out);
		install_more_locked(c, r, m, good, out);
		if (named != NULL && name_opens(c, named->attr.mode) &&
		    (!MSG_HAS(m, stamp) || c->expired))
			node_lose_data_locked(c, named);
		out->attr = MSG_HAS(m, attr) ? &m->attr : NULL;
		out->hold = holds_reply(named != NULL ? named : r->node) && may_grow(r);
		if (named != NULL)
			named->refs--; /* nlookup holds it now */
	} else if (touches(&r->call.req) != TOUCH_NOTHING) {
		bump_request_locked(c, r);
	} else if (m->err == ENOENT && op == MSG_LOOKUP) {
		out->entry_ttl = node_names_bumped(r->node) > r->submitted
					 ? 0
					 : install_name_locked(c, m, r->node, r->names[0],
							       r->name_len[0], NULL);
	}
}

/* The kernel's locks of the request's directories are about to be given up. */
static void not_busy_locked(struct cache *c, struct node *n)
{
	struct dir *dir = dir_if_any(n);

	if (dir == NULL || dir->busy == 0 || --dir->busy > 0 || !dir->parked)
		return;
	dir->parked = false;
	if (c->sink != NULL)
		c->sink->unpark(c->sink_arg, n->id);
}

/* OPEN was refused for want of descriptors, and some of them are only kept for later. */
static bool retry_open(struct cache *c, struct cache_req *r, const struct msg *m)
{
	if ((m->err != EMFILE && m->err != ENFILE) || r->retried ||
	    (r->call.req.op != MSG_OPEN && r->call.req.op != MSG_CREATE))
		return false;
	(void)pthread_mutex_lock(&c->lock);
	bool some = c->file_count > 0;
	idle_close_locked(c, NULL);
	(void)pthread_mutex_unlock(&c->lock);
	if (!some)
		return false;
	r->retried = true;
	cache_forget_flush(c);
	c->backend->ops->submit(c->backend, &r->call);
	return true;
}

static void cache_done(struct call *call, const struct msg *m)
{
	struct cache_req *r = (struct cache_req *)call;
	struct cache *c = r->cache;
	struct cache_reply out = {.err = (int)m->err, .msg = m};

	if (retry_open(c, r, m))
		return;
	(void)pthread_rwlock_rdlock(&c->gate);
	(void)pthread_mutex_lock(&c->lock);
	done_locked(c, r, m, &out);
	files_put_locked(c, r);
	if (out.err != (int)m->err && MSG_HAS(m, fh))
		cache_close_locked(c, m->fh); /* of a file whose node could not be made */
	struct node *node = r->node, *node2 = r->node2;
	struct node *busy = r->busy && holds_node(&call->req) ? node : NULL;
	struct node *busy2 = r->busy && holds_node2(call->req.op) ? node2 : NULL;
	bool closes = r->by_node && c->closes.len > 0;
	(void)pthread_mutex_unlock(&c->lock);
	if (closes) /* before somebody acts upon the reply: see files_put_locked */
		cache_forget_flush(c);
	r->done(r, &out); /* r may be gone */
	(void)pthread_rwlock_unlock(&c->gate);

	(void)pthread_mutex_lock(&c->lock);
	if (busy != NULL)
		not_busy_locked(c, busy);
	if (busy2 != NULL)
		not_busy_locked(c, busy2);
	node_put_locked(c, node);
	node_put_locked(c, node2);
	bool flush = c->forgets.len > 0 || c->closes.len > 0;
	(void)pthread_mutex_unlock(&c->lock);
	if (flush)
		cache_forget_flush(c);
}

/* ---- answers from the cache ---- */

struct answer {
	struct cache_reply out;
	struct attr attr;
	struct fsinfo fs;
	void *buffer;
};

static bool answer_attr(struct cache *c, struct node *n, uint64_t now, struct answer *a)
{
	if (!node_fresh_locked(c, n, now))
		return false;
	node_attr(n, &a->attr);
	a->out.attr = &a->attr;
	a->out.attr_ttl = n->attr_until - now;
	a->out.hold = holds_reply(n);
	return true;
}

static bool answer_lookup(struct cache *c, struct cache_req *r, uint64_t now, struct answer *a)
{
	struct node *n;
	uint64_t ttl;
	int e = name_answer_locked(c, r->node, r->names[0], r->name_len[0], now, &n, &ttl);

	if (e < 0)
		return false;
	a->out.entry_ttl = ttl;
	if (e == 0) {
		a->out.err = ENOENT;
		return true;
	}
	(void)answer_attr(c, n, now, a);
	node_told_locked(c, n);
	a->out.ino = n->id;
	return true;
}

static bool answer_open(struct cache *c, struct cache_req *r, uint64_t now, struct answer *a)
{
	const uint64_t other = O_ACCMODE | O_TRUNC | O_DIRECT | O_SYNC | O_DSYNC | O_NOATIME;
	struct node *n = r->node;

	if ((r->call.req.flags & other) != O_RDONLY || !node_fresh_locked(c, n, now) ||
	    !idle_take_locked(c, n, &a->out.fh, &a->out.flags))
		return false;
	(void)answer_attr(c, n, now, a);
	a->out.appended = is_appended(n);
	a->out.hold = false; /* OPEN brings no attributes to the kernel */
	a->out.keep = (n->flags & NODE_PROMISED) != 0;
	return true;
}

static bool answer_read(struct cache *c, struct cache_req *r, uint64_t now, struct answer *a)
{
	const struct msg *m = &r->call.req;
	size_t len;

	if (r->direct || !node_fresh_locked(c, r->node, now) ||
	    !pages_read_locked(c, r->node, m->off, m->size, &a->buffer, &len))
		return false;
	a->out.data = (struct slice){a->buffer, len};
	r->node->flags |= NODE_KERNEL_DATA;
	file_read_locked(r->node, m->off, m->size);
	return true;
}

static bool answer_readlink(const struct cache *c, struct cache_req *r, uint64_t now,
			    struct answer *a)
{
	struct node *n = r->node;

	if (!S_ISLNK(n->attr.mode) || n->target == NULL || now >= c->lease_until)
		return false;
	a->out.data = (struct slice){n->target, strlen(n->target)};
	a->buffer = strdup(n->target);
	if (a->buffer == NULL)
		return false;
	a->out.data.data = a->buffer;
	return true;
}

/* Told with every PING, and so no older than that, unless a change of ours has moved them. */
static bool answer_statfs(const struct cache *c, uint64_t now, struct answer *a)
{
	if (!c->one_fs || c->fs_clock < c->space_changed || c->options.lease == 0 ||
	    !link_alive_locked(c, now))
		return false;
	a->fs = c->fs;
	a->out.fs = &a->fs;
	return true;
}

static bool answer_getxattr(const struct cache *c, struct cache_req *r, uint64_t now,
			    struct answer *a)
{
	if ((r->node->flags & NODE_NO_XATTR) == 0 || !node_fresh_locked(c, r->node, now))
		return false;
	a->out.err = ENODATA;
	return true;
}

/* Answers from what is cached under a promise, a GETATTR also from what is kept for a time. */
static bool answer_locked(struct cache *c, struct cache_req *r, struct answer *a)
{
	uint64_t now = cache_now();
	enum stat_id counter = STAT_cache_attr_hits;
	bool hit = false;

	switch (r->call.req.op) {
	case MSG_GETATTR:
		hit = answer_attr(c, r->node, now, a);
		break;
	case MSG_LOOKUP:
		hit = c->leased && answer_lookup(c, r, now, a);
		counter = STAT_cache_name_hits;
		break;
	case MSG_OPEN:
		hit = c->leased && answer_open(c, r, now, a);
		counter = STAT_cache_open_hits;
		break;
	case MSG_READ:
		hit = c->leased && answer_read(c, r, now, a);
		counter = STAT_cache_page_hits;
		break;
	case MSG_READLINK:
		hit = c->leased && answer_readlink(c, r, now, a);
		break;
	case MSG_STATFS:
		hit = c->leased && answer_statfs(c, now, a);
		break;
	case MSG_GETXATTR:
		hit = c->leased && answer_getxattr(c, r, now, a);
		break;
	default:
		break;
	}
	if (hit)
		stats_add(c->options.stats, counter, 1);
	return hit;
}

/* ---- requests ---- */

static void complete_here(struct cache_req *r, int err)
{
	struct cache_reply out = {.err = err};

	r->done(r, &out);
}

static bool may_answer(uint64_t op)
{
	return op == MSG_GETATTR || op == MSG_LOOKUP || op == MSG_OPEN || op == MSG_READ ||
	       op == MSG_READLINK || op == MSG_GETXATTR || op == MSG_STATFS;
}

/* The names move into the request: it outlives the memory that they came in. */
static void keep_names(struct cache_req *r)
{
	struct msg *m = &r->call.req;
	struct slice *const names[] = {&m->name, &m->name2};
	const bool has[] = {MSG_HAS(m, name), MSG_HAS(m, name2)};

	for (unsigned i = 0; i < 2; i++) {
		size_t len = has[i] && names[i]->len <= MSG_NAME_MAX ? names[i]->len : 0;

		r->name_len[i] = (uint8_t)len;
		if (len == 0)
			continue;
		memcpy(r->names[i], names[i]->data, len);
		names[i]->data = r->names[i];
	}
}

static void busy_locked(struct node *n)
{
	struct dir *dir = dir_of_locked(n);

	if (dir != NULL)
		dir->busy++;
}

/* Finds the nodes and notes what the request is about to change; ESTALE for an unknown one. */
static int begin_locked(struct cache *c, struct cache_req *r, uint64_t ino, uint64_t ino2)
{
	struct msg *m = &r->call.req;

	r->node2 = NULL;
	r->node = node_get_locked(c, ino);
	if (r->node != NULL && ino2 != 0) {
		r->node2 = node_get_locked(c, ino2);
		if (r->node2 == NULL) {
			node_put_locked(c, r->node);
			r->node = NULL;
		}
	}
	if (r->node == NULL)
		return ESTALE;
	MSG_SET(m, node, r->node->server);
	if (r->node2 != NULL)
		MSG_SET(m, node2, r->node2->server);
	return 0;
}

static void leave_locked(struct cache *c, struct cache_req *r)
{
	uint64_t op = r->call.req.op;

	bump_request_locked(c, r);
	unsure_request_locked(c, r);
	r->submitted = c->clock;
	r->busy = true;
	if (holds_node(&r->call.req))
		busy_locked(r->node);
	if (holds_node2(op))
		busy_locked(r->node2);
	/* a mapping of a file opened with O_DIRECT has pages, and reads them with its flags */
	if (op == MSG_READDIRPLUS || op == MSG_READ || (op == MSG_WRITE && !r->direct))
		r->node->flags |= NODE_KERNEL_DATA;
	struct file *f = op == MSG_READ || op == MSG_WRITE ? file_of_locked(r->node) : NULL;
	if (f != NULL && op == MSG_READ)
		file_read_locked(r->node, r->call.req.off, r->call.req.size);
	else if (f != NULL && !r->direct)
		file_watch_reads_locked(f);
}

void cache_submit(struct cache *c, struct cache_req *r, uint64_t ino, uint64_t ino2)
{
	bool maybe = may_answer(r->call.req.op), answered = false;
	struct answer a = {.buffer = NULL};

	r->cache = c;
	r->call.done = cache_done;
	keep_names(r);
	if (maybe)
		(void)pthread_rwlock_rdlock(&c->gate);
	(void)pthread_mutex_lock(&c->lock);
	a.out.err = begin_locked(c, r, ino, ino2);
	if (a.out.err == 0) {
		answered = maybe && answer_locked(c, r, &a);
		if (answered)
			node_put_locked(c, r->node);
		else
			leave_locked(c, r);
	}
	(void)pthread_mutex_unlock(&c->lock);
	bool failed = a.out.err != 0 && !answered;
	if (answered)
		r->done(r, &a.out);
	if (maybe)
		(void)pthread_rwlock_unlock(&c->gate);
	free(a.buffer);
	if (failed)
		complete_here(r, a.out.err);
	else if (!answered)
		files_submit(c, r);
}

void cache_reply_begin(struct cache *c)
{
	(void)pthread_rwlock_rdlock(&c->gate);
}

void cache_reply_end(struct cache *c)
{
	(void)pthread_rwlock_unlock(&c->gate);
}

/* ---- single questions ---- */

void cache_mark_locked(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	if (n != NULL)
		n->flags |= NODE_LOCKED;
}

bool cache_is_locked(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	return n == NULL || (n->flags & NODE_LOCKED) != 0;
}

uint32_t cache_mode(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	return n != NULL ? n->attr.mode : 0;
}

bool cache_kernel_knows(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	return n != NULL && n->nlookup > 0;
}

bool cache_dir_park(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct dir *dir = n != NULL ? dir_if_any(n) : NULL;

	if (dir == NULL || dir->busy == 0)
		return false;
	dir->parked = true;
	return true;
}

void cache_drops_pages(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct file *f = n != NULL ? file_of_locked(n) : NULL;

	if (f == NULL)
		return;
	file_watch_reads_locked(f);
	f->drops++;
}

void cache_pages_dropped(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	if (n != NULL && S_ISREG(n->attr.mode) && n->file != NULL && n->file->drops > 0)
		n->file->drops--;
}

bool cache_path(struct cache *c, uint64_t ino, char *ret, size_t len)
{
	SCOPE_LOCK(&c->lock);
	size_t at = len - 1;

	ret[at] = '\0';
	for (unsigned depth = 0; ino != CACHE_ROOT; depth++) {
		struct node *n = node_find_locked(c, ino);
		struct dentry *d = n != NULL ? n->name : NULL;

		if (d == NULL || depth > 4096 || at < (size_t)d->len + 1)
			return false;
		if (ret[at] != '\0')
			ret[--at] = '/';
		at -= d->len;
		memcpy(ret + at, d->name, d->len);
		ino = d->dir->id;
	}
	memmove(ret, ret + at, len - at);
	return true;
}

uint64_t cache_find_path(struct cache *c, const char *path)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, CACHE_ROOT);

	while (n != NULL) {
		path += strspn(path, "/");
		size_t len = strcspn(path, "/");

		if (len == 0)
			return n->id;
		struct dentry *d = S_ISDIR(n->attr.mode) ? name_find_locked(c, n, path, len) : NULL;
		n = d != NULL && d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;
		path += len;
	}
	return 0;
}

void cache_drop(struct cache *c, uint64_t ino)
{
	(void)pthread_rwlock_wrlock(&c->gate);
	(void)pthread_mutex_lock(&c->lock);
	if (ino == 0) {
		cache_drop_all_locked(c);
	} else {
		struct node *n = node_find_locked(c, ino);

		if (n != NULL)
			node_drop_locked(c, n);
	}
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_rwlock_unlock(&c->gate);
	cache_forget_flush(c);
}

/* ---- life ---- */

int cache_new(struct backend *backend, const struct cache_options *options, struct cache **ret)
{
	struct cache *c = calloc(1, sizeof(*c));
	pthread_rwlockattr_t attr;

	if (c == NULL)
		return -ENOMEM;
	c->backend = backend;
	c->options = *options;
	c->pushed = backend->info.push && backend->ops->listen != NULL;
	c->leased = c->pushed && backend->info.watch &&
		    (options->cap.attr | options->cap.entry | options->cap.negative |
		     options->cap.dir) != 0;
	/* The server was there a moment ago. */
	c->lease_until = options->lease > 0 ? cache_now() + options->lease : UINT64_MAX;
	(void)pthread_mutex_init(&c->lock, NULL);
	/* Invalidations go before the answers that come all the time. */
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&c->gate, &attr);
	(void)pthread_rwlockattr_destroy(&attr);
	(void)pthread_mutex_lock(&c->lock);
	struct node *root = node_named_locked(c, backend->info.root_node);
	if (root != NULL) {
		root->nlookup = 1; /* never forgotten */
		root->refs = 0;
		root->attr.mode = S_IFDIR;
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (root == NULL) {
		cache_free(c);
		return -ENOMEM;
	}
	if (c->pushed)
		backend->ops->listen(backend, cache_pushed, c);
	*ret = c;
	return 0;
}

void cache_free(struct cache *c)
{
	if (c == NULL)
		return;
	if (c->pushed)
		c->backend->ops->listen(c->backend, NULL, NULL);
	c->sink = NULL;
	listings_free(c);
	nodes_free(c);
	hash_done(&c->names);
	hash_done(&c->blocks);
	free(c->forgets.data);
	free(c->closes.data);
	(void)pthread_mutex_destroy(&c->lock);
	(void)pthread_rwlock_destroy(&c->gate);
	free(c);
}

struct backend *cache_backend(struct cache *c)
{
	return c->backend;
}

bool cache_leased(const struct cache *c)
{
	return c->leased;
}

void cache_set_sink(struct cache *c, const struct cache_sink *sink, void *arg)
{
	SCOPE_LOCK(&c->lock);
	c->sink = sink;
	c->sink_arg = arg;
}

void cache_get_options(struct cache *c, struct cache_options *ret)
{
	SCOPE_LOCK(&c->lock);
	*ret = c->options;
}

void cache_set_options(struct cache *c, const struct cache_options *options)
{
	(void)pthread_mutex_lock(&c->lock);
	if (options->lease != c->options.lease) {
		/* begins anew; whoever ticks is to be woken */
		uint64_t now = cache_now();

		c->lease_until = options->lease > 0 ? now + options->lease : UINT64_MAX;
		c->ping_due = now;
		c->expired = false;
	}
	c->options = *options;
	nodes_evict_locked(c);
	pages_evict_locked(c);
	(void)pthread_mutex_unlock(&c->lock);
	cache_forget_flush(c);
}
