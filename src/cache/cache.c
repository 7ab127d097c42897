#include "cache/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"

#define PAIR_MAX 20 /* bytes of one item of a sequence */

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

/* Takes over data. Without memory the server keeps what it has until the session ends. */
static void send_oneway(struct cache *c, enum msg_op op, unsigned char *data, size_t len)
{
	struct oneway *o = calloc(1, sizeof(*o));

	if (o == NULL) {
		free(data);
		return;
	}
	o->data = data;
	o->call.sent = oneway_sent;
	MSG_SET(&o->call.req, op, op);
	MSG_SET(&o->call.req, payload, ((struct slice){data, len}));
	c->backend->ops->submit(c->backend, &o->call);
}

void cache_give_back_locked(struct cache *c, uint64_t server, uint64_t n)
{
	if (c->forget_cap - c->forget_len < PAIR_MAX) {
		size_t cap = c->forget_cap == 0 ? 1024 : c->forget_cap * 2;
		unsigned char *p = cap > MSG_PAYLOAD_MAX ? NULL : realloc(c->forget, cap);

		if (p == NULL)
			return;
		c->forget = p;
		c->forget_cap = cap;
	}
	c->forget_len +=
		c->backend->sequences->put_pair(server, n, c->forget + c->forget_len, PAIR_MAX);
}

void cache_forget_flush(struct cache *c)
{
	(void)pthread_mutex_lock(&c->lock);
	unsigned char *data = TAKE_PTR(c->forget);
	size_t len = c->forget_len;
	c->forget_len = c->forget_cap = 0;
	(void)pthread_mutex_unlock(&c->lock);
	if (data != NULL)
		send_oneway(c, MSG_FORGET, data, len);
}

void cache_forget(struct cache *c, uint64_t ino, uint64_t n)
{
	SCOPE_LOCK(&c->lock);
	struct node *node = node_get_locked(c, ino);

	if (node == NULL)
		return;
	node->nlookup -= n < node->nlookup ? n : node->nlookup;
	node_put_locked(c, node);
}

void cache_undo_lookup(struct cache *c, uint64_t ino)
{
	cache_forget(c, ino, 1);
	cache_forget_flush(c);
}

void cache_close(struct cache *c, uint64_t fh)
{
	unsigned char *data = malloc(PAIR_MAX);

	if (data != NULL)
		send_oneway(c, MSG_CLOSE, data,
			    c->backend->sequences->put_uint(fh, data, PAIR_MAX));
}

/* ---- requests ---- */

/* What a request changes, as far as names and attributes go. */
enum touch {
	TOUCH_NOTHING,
	TOUCH_NODE,   /* the object `node` */
	TOUCH_NAMES,  /* names in the directory `node` */
	TOUCH_LINK,   /* the object `node` and names in `node2` */
	TOUCH_RENAME, /* names in `node` and `node2` */
};

static enum touch touches(uint64_t op)
{
	switch (op) {
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

static void bump_request_locked(struct cache *c, struct cache_req *r)
{
	switch (touches(r->call.req.op)) {
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
}

/*
 * A node that a reply tells about besides those of the request: the victim of
 * an UNLINK, the objects that a RENAME moved. Its attributes changed.
 */
static void install_other_locked(struct cache *c, const struct cache_req *r, uint64_t server,
				 const struct attr *a)
{
	struct node *n = node_find_server_locked(c, server);

	if (n == NULL)
		return;
	if (a == NULL || node_install_locked(c, n, a, r->submitted) == 0)
		node_bump_locked(c, n);
}

/*
 * The reply's attributes: first tested against the generations, then the
 * request's own changes bump them a second time, so that a reply evaluated
 * before the change finds them newer than itself.
 */
static void install_reply_locked(struct cache *c, struct cache_req *r, const struct msg *m,
				 struct cache_reply *out)
{
	uint64_t op = r->call.req.op;
	struct node *object = r->node, *parent = NULL, *parent2 = NULL;

	if (names_object(op)) {
		object = out->ino != 0 ? node_find_server_locked(c, m->node) : NULL;
		parent = op == MSG_LINK ? r->node2 : r->node;
	} else if (op == MSG_UNLINK || op == MSG_RMDIR || op == MSG_RENAME) {
		object = NULL;
		parent = r->node;
		parent2 = r->node2;
	}
	bool raced = (parent != NULL && parent->names_bumped > r->submitted) ||
		     (op == MSG_LINK && r->node->bumped > r->submitted);
	uint64_t ttl = 0, parent_ttl = 0, parent2_ttl = 0;

	if (object != NULL && MSG_HAS(m, attr))
		ttl = node_install_locked(c, object, &m->attr, r->submitted);
	if (parent != NULL && MSG_HAS(m, attr2))
		parent_ttl = node_install_locked(c, parent, &m->attr2, r->submitted);
	if (parent2 != NULL && MSG_HAS(m, attr3))
		parent2_ttl = node_install_locked(c, parent2, &m->attr3, r->submitted);
	if (object == NULL && MSG_HAS(m, node))
		install_other_locked(c, r, m->node, MSG_HAS(m, attr) ? &m->attr : NULL);
	if (op == MSG_RENAME && MSG_HAS(m, node2))
		install_other_locked(c, r, m->node2, NULL);

	if ((op == MSG_READ || op == MSG_READDIRPLUS || op == MSG_READLINK) && !MSG_HAS(m, attr))
		r->node->attr_until = 0; /* the access time moved */

	/* The second bump forgets what was installed just now, so it is kept aside. */
	uint64_t now = cache_now();
	if (touches(op) != TOUCH_NOTHING)
		bump_request_locked(c, r);
	if (object != NULL && ttl > 0)
		object->attr_until = now + ttl;
	if (parent != NULL && parent_ttl > 0)
		parent->attr_until = now + parent_ttl;
	if (parent2 != NULL && parent2_ttl > 0)
		parent2->attr_until = now + parent2_ttl;

	out->attr_ttl = raced ? 0 : ttl;
	out->entry_ttl = raced ? 0 : c->options.entry_ttl;
}

static void cache_done(struct call *call, const struct msg *m)
{
	struct cache_req *r = (struct cache_req *)call;
	struct cache *c = r->cache;
	struct cache_reply out = {.err = (int)m->err, .msg = m};

	(void)pthread_mutex_lock(&c->lock);
	if (m->err == 0) {
		struct node *named = NULL;

		if (names_object(call->req.op)) {
			named = node_named_locked(c, m->node);
			if (named != NULL) {
				named->nlookup++;
				out.ino = named->id;
			} else {
				out.err = ENOMEM;
			}
		}
		install_reply_locked(c, r, m, &out);
		out.attr = MSG_HAS(m, attr) ? &m->attr : NULL;
		if (named != NULL)
			named->refs--; /* nlookup holds it now */
	} else if (touches(call->req.op) != TOUCH_NOTHING) {
		bump_request_locked(c, r);
	} else if (m->err == ENOENT && call->req.op == MSG_LOOKUP) {
		out.entry_ttl = r->node->names_bumped > r->submitted ? 0 : c->options.negative_ttl;
	}
	struct node *node = r->node, *node2 = r->node2;
	(void)pthread_mutex_unlock(&c->lock);

	if (out.err != (int)m->err && MSG_HAS(m, fh))
		cache_close(c, m->fh); /* of a file whose node could not be made */
	r->done(r, &out);	       /* r may be gone */

	(void)pthread_mutex_lock(&c->lock);
	node_put_locked(c, node);
	node_put_locked(c, node2);
	bool flush = c->forget_len > 0;
	(void)pthread_mutex_unlock(&c->lock);
	if (flush)
		cache_forget_flush(c);
}

static void complete_here(struct cache_req *r, int err)
{
	struct cache_reply out = {.err = err};

	r->done(r, &out);
}

/* Answers a GETATTR from the node; false if its attributes are not known well enough. */
static bool answer_getattr(struct cache *c, struct cache_req *r)
{
	struct cache_reply out = {0};
	struct attr attr;

	(void)pthread_mutex_lock(&c->lock);
	uint64_t now = cache_now();
	bool hit = r->node->attr_until > now;
	if (hit) {
		attr = r->node->attr;
		out.attr = &attr;
		out.attr_ttl = r->node->attr_until - now;
		node_put_locked(c, r->node);
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (hit) {
		stats_add(c->options.stats, STAT_cache_attr_hits, 1);
		r->done(r, &out);
	}
	return hit;
}

void cache_submit(struct cache *c, struct cache_req *r, uint64_t ino, uint64_t ino2)
{
	struct msg *m = &r->call.req;

	r->cache = c;
	r->call.done = cache_done;
	r->node2 = NULL;
	(void)pthread_mutex_lock(&c->lock);
	r->node = node_get_locked(c, ino);
	if (r->node != NULL && ino2 != 0) {
		r->node2 = node_get_locked(c, ino2);
		if (r->node2 == NULL) {
			node_put_locked(c, r->node);
			r->node = NULL;
		}
	}
	if (r->node != NULL) {
		bump_request_locked(c, r);
		r->submitted = c->clock;
		MSG_SET(m, node, r->node->server);
		if (r->node2 != NULL)
			MSG_SET(m, node2, r->node2->server);
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (r->node == NULL) {
		complete_here(r, ESTALE);
		return;
	}
	if (m->op == MSG_GETATTR && answer_getattr(c, r))
		return;
	c->backend->ops->submit(c->backend, &r->call);
}

void cache_mark_locked(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_get_locked(c, ino);

	if (n != NULL)
		n->locked = true;
	node_put_locked(c, n);
}

bool cache_is_locked(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_get_locked(c, ino);
	bool locked = n == NULL || n->locked;

	node_put_locked(c, n);
	return locked;
}

uint32_t cache_mode(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_get_locked(c, ino);
	uint32_t mode = n != NULL ? n->attr.mode : 0;

	node_put_locked(c, n);
	return mode;
}

/* ---- life ---- */

int cache_new(struct backend *backend, const struct cache_options *options, struct cache **ret)
{
	struct cache *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->backend = backend;
	c->options = *options;
	c->next_id = CACHE_ROOT;
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_mutex_lock(&c->lock);
	struct node *root = node_named_locked(c, backend->info.root_node);
	if (root != NULL) {
		root->nlookup = 1; /* never forgotten */
		root->refs = 0;
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (root == NULL) {
		cache_free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

void cache_free(struct cache *c)
{
	if (c == NULL)
		return;
	listings_free(c);
	nodes_free(c);
	free(c->forget);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
}

struct backend *cache_backend(struct cache *c)
{
	return c->backend;
}
