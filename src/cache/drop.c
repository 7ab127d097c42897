/*
 * Drops knowledge that is not true any more, or that is to be read anew: here, and in the kernel.
 */
#include <sys/stat.h>

#include "cache/drop.h"
#include "cache/files.h"
#include "cache/in_kernel.h"
#include "cache/in_kernel_names.h"
#include "cache/in_kernel_size.h"
#include "cache/names.h"
#include "cache/node.h"
#include "cache/pages.h"
#include "cache/stamps.h"
#include "cache/timed.h"

void node_lose_attr_locked(struct node *n)
{
	n->attr_until = 0;
	n->flags &= ~(uint32_t)NODE_NO_XATTR;
}

void node_lose_content_locked(struct cache *c, struct node *n)
{
	if (S_ISREG(n->attr.mode))
		pages_drop_locked(c, n);
}

/* Attributes and pages of n may be other ones now. */
static void node_lose_locked(struct cache *c, struct node *n)
{
	node_lose_attr_locked(n);
	node_lose_content_locked(c, n);
	tell_inode_locked(c, n, kernel_has_data_locked(n));
}

void names_lose_locked(struct cache *c, struct node *node)
{
	names_drop_locked(c, node, true);
	if (c->sink != NULL && node->nlookup > 0) {
		/* of no name: what follows is the listing */
		kernel_data_forgotten_locked(node);
		c->sink->entry(c->sink_arg, node->id, "", 0, ENTRY_DROPS);
	}
}

bool name_lose_locked(struct cache *c, struct node *node, struct slice name)
{
	struct dir *dir = dir_if_any(node);
	struct dentry *d = name_find_locked(c, node, name.data, name.len);
	/*
	 * A change of ours in flight may leave the name to the kernel without a word to
	 * us; and a name that is only kept for a time is not noted at all.
	 */
	bool tell = !c->leased || (dir != NULL && dir->busy > 0) ||
		    (d != NULL && name_kernel_holds_locked(c, d));
	bool listing = kernel_has_data_locked(node);
	if (tell && d == NULL && c->sink != NULL && c->sink->full(c->sink_arg)) {
		/* as if the server had said that all names are void */
		stamps_names_void_locked(c, node->server);
		names_lose_locked(c, node);
		return true;
	}
	struct node *n = d != NULL && d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;

	if (n != NULL && S_ISREG(n->attr.mode))
		idle_unnamed_locked(c, n);
	if (dir != NULL) {
		dir->complete = dir->ordered = false;
		dir->build = 0;
	}
	if (c->sink != NULL && node->nlookup > 0 && (tell || listing)) {
		kernel_data_forgotten_locked(node);
		name_take_back_locked(c, node, name.data, name.len, d);
	}
	bool known = d != NULL;
	if (known)
		name_remove_locked(c, d);
	return known || tell || listing;
}

static void node_drop_locked(struct cache *c, struct node *n)
{
	node_lose_attr_locked(n);
	node_lose_content_locked(c, n);
	if (S_ISDIR(n->attr.mode))
		names_lose_locked(c, n);
	tell_inode_locked(c, n, true);
	node_check_locked(c, n);
}

void cache_drop_all_locked(struct cache *c)
{
	stats_add(c->options.stats, STAT_inval_resets, 1);
	/* Attributes first: that never waits, whatever is in flight. */
	for (uint32_t i = 1; i < c->slot_count; i++) {
		struct node *n = node_at_locked(c, i);

		if (n == NULL)
			continue;
		node_lose_attr_locked(n);
		if (c->sink != NULL && n->nlookup > 0)
			c->sink->inode(c->sink_arg, n->id, false);
	}
	for (uint32_t i = 1; i < c->slot_count; i++) {
		struct node *n = node_at_locked(c, i);

		if (n == NULL)
			continue;
		node_lose_content_locked(c, n);
		if (S_ISDIR(n->attr.mode))
			names_lose_locked(c, n);
		else if (kernel_has_data_locked(n))
			tell_inode_locked(c, n, true);
		node_check_locked(c, n);
	}
}

void node_empty_locked(struct cache *c, struct node *n)
{
	if (S_ISDIR(n->attr.mode)) {
		names_drop_locked(c, n, false);
	} else if (S_ISREG(n->attr.mode)) {
		pages_drop_locked(c, n);
		idle_close_locked(c, n);
	}
	if (n->name != NULL)
		name_lose_node_locked(c, n->name, n);
	size_free_locked(n);
}

/* ---- what is kept by time ---- */

void timed_drop_locked(struct cache *c)
{
	struct timed *t = &c->timed;

	t->dropped = ++c->clock;
	c->by_host = true;
	if (t->all)
		cache_drop_all_locked(c);
	t->all = false;
	for (size_t i = 0; i < t->n_nodes; i++) {
		struct node *n = node_find_locked(c, timed_node_at(t, i));

		if (n == NULL || (n->flags & NODE_TIMED) == 0)
			continue;
		n->flags &= ~(uint32_t)NODE_TIMED;
		if ((n->flags & NODE_PROMISED) == 0)
			node_lose_locked(c, n);
	}
	t->n_nodes = 0;
	timed_tell_names_locked(c);
	c->by_host = false;
}

void cache_drop_timed(struct cache *c)
{
	(void)pthread_rwlock_wrlock(&c->gate);
	(void)pthread_mutex_lock(&c->lock);
	timed_drop_locked(c);
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_rwlock_unlock(&c->gate);
}

/* ---- on demand ---- */

void cache_drop_restored(struct cache *c)
{
	(void)pthread_rwlock_wrlock(&c->gate);
	(void)pthread_mutex_lock(&c->lock);
	c->by_host = true;
	cache_drop_all_locked(c);
	c->by_host = false;
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_rwlock_unlock(&c->gate);
	cache_forget_flush(c);
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
