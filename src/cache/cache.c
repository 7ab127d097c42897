#include "cache/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"

/* ---- replies ---- */

static void take_holds(const struct cache_req *r, struct cache_holds *ret)
{
	*ret = (struct cache_holds){.node = r->node, .node2 = r->node2};
	memcpy(ret->busy, r->locks, sizeof(ret->busy));
}

static void cache_done(struct call *call, const struct msg *m)
{
	struct cache_req *r = (struct cache_req *)call;
	struct cache *c = r->cache;
	bool held = false;
	struct cache_reply out = {.err = (int)m->err, .msg = m, .ret_held = &held};
	struct cache_holds holds;

	if (msg_is(call->req.op, TRAIT_OPENS) && files_open_again(c, call, m->err, &r->retried))
		return;
	(void)pthread_rwlock_rdlock(&c->gate);
	(void)pthread_mutex_lock(&c->lock);
	reply_locked(c, r, m, &out);
	files_put_locked(c, r);
	if (out.err != (int)m->err && MSG_HAS(m, fh))
		cache_close_locked(c, m->fh); /* of a file whose node could not be made */
	take_holds(r, &holds);
	bool closes = r->by_node && c->closes != NULL;
	(void)pthread_mutex_unlock(&c->lock);
	if (closes) /* before somebody acts upon the reply: see files_put_locked */
		cache_forget_flush(c);
	r->done(r, &out); /* r may be gone */
	(void)pthread_rwlock_unlock(&c->gate);
	if (!held)
		cache_delivered(c, &holds);
}

void cache_hold(struct cache *c, const struct cache_req *r, struct cache_holds *ret)
{
	take_holds(r, ret);
	ret->held = true;
	SCOPE_LOCK(&c->lock);
	for (unsigned i = 0; i < REQUEST_LOCKS; i++)
		if (ret->busy[i] != NULL)
			ret->busy[i]->dir->held++;
}

void cache_delivered(struct cache *c, const struct cache_holds *h)
{
	(void)pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; i < REQUEST_LOCKS; i++)
		node_not_busy_locked(c, h->busy[i], h->held);
	node_put_locked(c, h->node);
	node_put_locked(c, h->node2);
	bool flush = c->forgets != NULL || c->closes != NULL;
	(void)pthread_mutex_unlock(&c->lock);
	if (flush)
		cache_forget_flush(c);
}

/* ---- requests ---- */

static void complete_here(struct cache_req *r, int err)
{
	struct cache_reply out = {.err = err};

	r->done(r, &out);
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
	size_arrives_locked(r);
	return 0;
}

void cache_submit(struct cache *c, struct cache_req *r, uint64_t ino, uint64_t ino2)
{
	bool maybe = answer_possible(r->call.req.op), answered = false;
	struct answer a = {.buffer = NULL};

	r->cache = c;
	r->call.done = cache_done;
	keep_names(r);
	if (maybe)
		(void)pthread_rwlock_rdlock(&c->gate);
	(void)pthread_mutex_lock(&c->lock);
	names_arrive_locked(c, r->task);
	a.out.err = begin_locked(c, r, ino, ino2);
	if (a.out.err == 0) {
		answered = maybe && answer_locked(c, r, &a);
		if (answered)
			node_put_locked(c, r->node);
		else
			request_leaves_locked(c, r);
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

bool cache_dir_park(struct cache *c, uint64_t ino, bool late)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct dir *dir = n != NULL ? dir_if_any(n) : NULL;

	if (dir == NULL || (late ? dir->held : dir->busy) == 0)
		return false;
	dir->parked = true;
	return true;
}

void cache_lock_dirs(struct cache *c)
{
	(void)pthread_mutex_lock(&c->lock);
}

void cache_unlock_dirs(struct cache *c)
{
	(void)pthread_mutex_unlock(&c->lock);
}

bool cache_dir_held(const struct cache *c, uint64_t ino)
{
	const struct node *n = node_find_locked(c, ino);
	const struct dir *dir = n != NULL ? dir_if_any(n) : NULL;

	return dir != NULL && dir->held > 0;
}

bool cache_dir_busy(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	const struct node *n = node_find_locked(c, ino);
	const struct dir *dir = n != NULL ? dir_if_any(n) : NULL;

	return dir != NULL && dir->busy > 0;
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
	timed_done(c);
	names_done(c);
	oneway_done(c);
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
