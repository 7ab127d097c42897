#include "cache/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/ahead_fetch.h"
#include "cache/attrs.h"
#include "cache/drop.h"
#include "cache/files.h"
#include "cache/in_kernel.h"
#include "cache/in_kernel_names.h"
#include "cache/listing_priv.h"
#include "cache/names.h"
#include "cache/node.h"
#include "cache/opens.h"
#include "cache/outbox.h"
#include "cache/pages.h"
#include "cache/push.h"
#include "cache/restore.h"
#include "cache/resume.h"
#include "cache/timed.h"
#include "core/cleanup.h"
#include "core/outlive.h"

/* ---- what the kernel gives back ---- */

static void forget_locked(struct cache *c, struct node *n, uint64_t count)
{
	n->nlookup -= count < n->nlookup ? count : n->nlookup;
	node_outlive_locked(n);
	if (n->nlookup > 0)
		return;
	kernel_data_forgotten_locked(n);
	idle_close_locked(c, n);
	node_check_locked(c, n);
}

void cache_forget(struct cache *c, uint64_t ino, uint64_t n)
{
	(void)pthread_mutex_lock(&c->lock);
	struct node *node = node_find_locked(c, ino);

	if (node != NULL)
		forget_locked(c, node, n);
	bool full = outbox_full_locked(c);
	(void)pthread_mutex_unlock(&c->lock);
	if (full)
		cache_forget_flush(c);
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
	if (n != NULL && n->attr.nlink > 0 && node_fresh_locked(c, n, cache_now())) {
		idle_keep_locked(c, n, fh, 0);
	} else {
		cache_close_locked(c, fh);
		n = node_find_locked(c, ino);
		if (n == NULL || node_may_be_gone(n))
			space_moves_locked(c);
	}
	(void)pthread_mutex_unlock(&c->lock);
	cache_forget_flush(c);
}

void cache_not_gained(struct cache *c, uint64_t unique)
{
	for (uint32_t i = 0; i < OUTLIVE_GAINS; i++) {
		struct outlive_gain *g = &outlive->gain[i];

		if (g->unique != unique)
			continue;
		cache_forget(c, g->ino, 1);
		g->unique = 0;
	}
}

void cache_settle_doubt(struct cache *c, uint64_t ino, bool gone)
{
	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, ino);
	bool doubted = n != NULL && (n->flags & NODE_DOUBTED) != 0;
	uint64_t refs = doubted && gone ? n->nlookup : 0;
	if (doubted)
		n->flags &= ~(uint32_t)NODE_DOUBTED;
	(void)pthread_mutex_unlock(&c->lock);
	if (refs > 0)
		cache_forget(c, ino, refs);
}

/* ---- single questions ---- */

void cache_mark_locked(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	if (n != NULL) {
		n->flags |= NODE_LOCKED;
		node_outlive_locked(n);
	}
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

	return n != NULL && n->nlookup > 0 && (n->flags & NODE_DOUBTED) == 0;
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

/* ---- life ---- */

static const struct backend_events events = {.pushed = cache_pushed,
					     .heard = cache_heard,
					     .holds = cache_holds,
					     .locks_lost = cache_locks_lost};

static int root_new_locked(struct cache *c)
{
	struct node *root = node_named_locked(c, c->backend->info.root_node);

	if (root == NULL)
		return -ENOMEM;
	root->nlookup = 1; /* never forgotten */
	root->refs = 0;
	root->attr.mode = S_IFDIR;
	node_outlive_locked(root);
	return 0;
}

int cache_new(struct backend *backend, const struct cache_options *options, struct cache **ret)
{
	struct cache *c = calloc(1, sizeof(*c));
	pthread_rwlockattr_t attr;

	if (c == NULL)
		return -ENOMEM;
	c->backend = backend;
	c->options = *options;
	c->empty_node = node_empty_locked;
	c->fetch_ahead = ahead_fetch;
	c->pushed = backend->info.push && backend->ops->listen != NULL;
	c->leased = c->pushed && backend->info.watch &&
		    (options->cap.attr | options->cap.entry | options->cap.negative |
		     options->cap.dir) != 0;
	/* The server was there a moment ago. */
	c->lease_until = options->lease > 0 ? cache_now() + options->lease : UINT64_MAX;
	(void)pthread_mutex_init(&c->outbox, NULL);
	(void)pthread_mutex_init(&c->lock, NULL);
	/* Invalidations go before the answers that come all the time. */
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&c->gate, &attr);
	(void)pthread_rwlockattr_destroy(&attr);
	(void)pthread_mutex_lock(&c->lock);
	int r = outlive != NULL && outlive->begun ? cache_restore_locked(c) : root_new_locked(c);
	(void)pthread_mutex_unlock(&c->lock);
	if (r < 0) {
		cache_free(c);
		return r;
	}
	if (backend->ops->listen != NULL)
		backend->ops->listen(backend, &events, c);
	*ret = c;
	return 0;
}

void cache_free(struct cache *c)
{
	if (c == NULL)
		return;
	if (c->backend->ops->listen != NULL)
		c->backend->ops->listen(c->backend, NULL, NULL);
	c->sink = NULL;
	listings_free(c);
	nodes_free(c);
	hash_done(&c->names);
	hash_done(&c->blocks);
	timed_done(c);
	names_done(c);
	outbox_done(c);
	opens_done(c);
	(void)pthread_mutex_destroy(&c->outbox);
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
