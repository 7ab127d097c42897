/* Invalidations: what the server pushes, and what it does to cache and kernel. */
#include <string.h>
#include <sys/stat.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"
#include "core/fault.h"
#include "core/log.h"

/* ---- sequence numbers and stamps ---- */

static size_t seq_slot(uint64_t server)
{
	return hash_mix(server) % SEQ_SLOTS;
}

static size_t name_slot(uint64_t dir, const char *name, size_t len)
{
	return hash_bytes(name, len, hash_mix(dir)) % SEQ_SLOTS;
}

static bool stamp_good(const struct cache *c, const struct msg *m, uint64_t seq)
{
	if (!c->leased || !MSG_HAS(m, stamp) || cache_now() >= c->lease_until)
		return false;
	return FAULT(stamp_ignored) || (m->stamp >= c->floor_seq && m->stamp >= seq);
}

bool stamp_good_node_locked(const struct cache *c, const struct msg *m, uint64_t server)
{
	return stamp_good(c, m, c->node_seq[seq_slot(server)]);
}

bool stamp_good_name_locked(const struct cache *c, const struct msg *m, uint64_t dir,
			    const char *name, size_t len)
{
	return stamp_good(c, m, c->name_seq[name_slot(dir, name, len)]) &&
	       stamp_good(c, m, c->names_seq[seq_slot(dir)]);
}

bool stamp_good_listing_locked(const struct cache *c, const struct msg *m, uint64_t dir)
{
	return stamp_good(c, m, c->listing_seq[seq_slot(dir)]);
}

/* ---- telling the kernel ---- */

void tell_inode_locked(struct cache *c, struct node *n, bool data)
{
	if (c->sink == NULL || n->nlookup == 0)
		return;
	/*
	 * A file may get pages before the kernel is told, and attributes that are on their
	 * way there with an old size would then cut them off (truncate_pagecache).
	 */
	data = data && ((n->flags & NODE_KERNEL_DATA) != 0 || S_ISREG(n->attr.mode));
	if (data) {
		/* also of one whose first WRITE is yet to come: the kernel may have its pages */
		struct file *f = file_of_locked(n);

		n->flags &= ~(uint32_t)NODE_KERNEL_DATA;
		if (f != NULL) {
			file_watch_reads_locked(f);
			f->drops++;
		}
	}
	if (data || c->by_host)
		size_outdated_locked(c, n);
	c->sink->inode(c->sink_arg, n->id, data);
}

void node_lose_data_locked(struct cache *c, struct node *n)
{
	if (!S_ISREG(n->attr.mode))
		return;
	pages_drop_locked(c, n);
	if (n->flags & NODE_KERNEL_DATA)
		tell_inode_locked(c, n, true);
}

void node_open_locked(struct cache *c, struct node *n, bool with_attr, struct cache_reply *out)
{
	if (!with_attr)
		n->attr_until = 0;
	if (c->leased) {
		node_lose_data_locked(c, n);
		out->keep = (n->flags & NODE_KERNEL_DATA) == 0;
	}
	if (FAULT(open_unasked))
		return;
	tell_inode_locked(c, n, false);
	out->hold = true;
}

void node_compare_locked(struct cache *c, struct node *n, const struct attr *a)
{
	const struct kept_attr *k = &n->attr;

	if (!S_ISREG(k->mode) || k->version == 0 || a->version <= k->version)
		return;
	/*
	 * It may be of a WRITE of our own in flight; of what else it is, an invalidation
	 * will tell. But not where the file is longer than that WRITE makes it.
	 */
	bool told = c->leased ? (n->flags & NODE_PROMISED) != 0 : true;
	if (told && n->file != NULL &&
	    (n->file->size.direct > 0 ||
	     (n->file->writing > 0 && a->size <= size_own_end_locked(n))))
		return;
	/* without promises the kernel compares the mtime */
	if (a->size == k->size &&
	    (!c->leased || (a->mtime.sec == k->mtime && a->mtime.nsec == k->mtime_nsec)))
		return;
	if (!FAULT(open_unasked))
		node_lose_data_locked(c, n);
}

static void lose_attr(struct node *n)
{
	n->attr_until = 0;
	n->flags &= ~(uint32_t)NODE_NO_XATTR;
}

static void lose_data(struct cache *c, struct node *n)
{
	if (S_ISREG(n->attr.mode))
		pages_drop_locked(c, n);
}

void node_lose_locked(struct cache *c, struct node *n)
{
	lose_attr(n);
	lose_data(c, n);
	tell_inode_locked(c, n, (n->flags & NODE_KERNEL_DATA) != 0);
}

static void lose_names(struct cache *c, struct node *node)
{
	names_drop_locked(c, node, true);
	if (c->sink != NULL && node->nlookup > 0) {
		/* of no name: what follows is the listing */
		node->flags &= ~(uint32_t)NODE_KERNEL_DATA;
		c->sink->entry(c->sink_arg, node->id, "", 0, ENTRY_DROPS);
	}
}

/* A name in a directory is not what it was. Whether that was of interest. */
static bool lose_name(struct cache *c, struct node *node, struct slice name)
{
	struct dir *dir = dir_if_any(node);
	struct dentry *d = name_find_locked(c, node, name.data, name.len);
	/*
	 * A change of ours in flight may leave it to the kernel without a word to
	 * us; and what is only kept for a time is not noted at all.
	 */
	bool tell = !c->leased || (dir != NULL && dir->busy > 0) ||
		    (d != NULL && name_kernel_holds_locked(c, d));
	bool listing = (node->flags & NODE_KERNEL_DATA) != 0;
	if (tell && d == NULL && c->sink != NULL && c->sink->full(c->sink_arg)) {
		/* as if the server had said that all names are void */
		c->names_seq[seq_slot(node->server)] = c->last_seq;
		lose_names(c, node);
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
		node->flags &= ~(uint32_t)NODE_KERNEL_DATA;
		name_take_back_locked(c, node, name.data, name.len, d);
	}
	bool known = d != NULL;
	if (known)
		name_remove_locked(c, d);
	return known || tell || listing;
}

/* ---- acknowledgements ---- */

static void ack_sent(struct call *call);

/*
 * A server that does not take them has one waiting: the next says what those
 * between would have said. Called and returns with the lock.
 */
static void send_ack_locked(struct cache *c)
{
	while (c->ack_due && !c->ack_sending && !c->ack_inside) {
		c->ack.sent = ack_sent;
		c->ack.req = (struct msg){0};
		MSG_SET(&c->ack.req, op, MSG_ACK);
		MSG_SET(&c->ack.req, seq, c->ack_seq);
		if (c->ack_deferred)
			MSG_SET(&c->ack.req, flags, ACK_DEFERRED);
		c->ack_due = c->ack_deferred = false;
		c->ack_sending = c->ack_inside = true;
		(void)pthread_mutex_unlock(&c->lock);
		c->backend->ops->submit(c->backend, &c->ack);
		(void)pthread_mutex_lock(&c->lock);
		c->ack_inside = false;
	}
}

static void ack_sent(struct call *call)
{
	struct cache *c = (struct cache *)((char *)call - offsetof(struct cache, ack));

	SCOPE_LOCK(&c->lock);
	c->ack_sending = false;
	send_ack_locked(c);
}

void cache_acknowledge(struct cache *c, uint64_t seq, bool deferred)
{
	SCOPE_LOCK(&c->lock);
	if (seq > c->ack_seq)
		c->ack_seq = seq;
	c->ack_due = true;
	c->ack_deferred = c->ack_deferred || deferred;
	send_ack_locked(c);
}

/* ---- INV and RESET ---- */

static void take_item(struct cache *c, const struct inv_item *i, uint64_t seq)
{
	struct node *n = node_find_server_locked(c, i->node);
	bool known = false;

	stats_add(c->options.stats, STAT_inval_received, 1);
	if (i->class & (INV_ATTR | INV_DATA))
		c->node_seq[seq_slot(i->node)] = seq;
	if (i->class & INV_NAME)
		c->name_seq[name_slot(i->node, i->name.data, i->name.len)] = seq;
	if (i->class & INV_NAMES)
		c->names_seq[seq_slot(i->node)] = seq;
	if (i->class & (INV_NAME | INV_NAMES))
		c->listing_seq[seq_slot(i->node)] = seq;
	if (n == NULL) {
		stats_add(c->options.stats, STAT_inval_noop, 1);
		return;
	}
	/* the union of a node goes by its type, whatever the server takes it for */
	if ((i->class & INV_NAME) != 0 && S_ISDIR(n->attr.mode))
		known = lose_name(c, n, i->name);
	if ((i->class & INV_NAMES) != 0 && S_ISDIR(n->attr.mode)) {
		lose_names(c, n);
		known = true;
	}
	if (i->class & (INV_ATTR | INV_DATA)) {
		known = known || n->attr_until > 0 || n->nlookup > 0;
		lose_attr(n);
		if (i->class & INV_DATA)
			lose_data(c, n);
		tell_inode_locked(c, n, (i->class & INV_DATA) != 0);
	}
	if (!known)
		stats_add(c->options.stats, STAT_inval_noop, 1);
	node_check_locked(c, n); /* an idle one may have lost what it was kept for */
}

void node_drop_locked(struct cache *c, struct node *n)
{
	lose_attr(n);
	lose_data(c, n);
	if (S_ISDIR(n->attr.mode))
		lose_names(c, n);
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
		lose_attr(n);
		if (c->sink != NULL && n->nlookup > 0)
			c->sink->inode(c->sink_arg, n->id, false);
	}
	for (uint32_t i = 1; i < c->slot_count; i++) {
		struct node *n = node_at_locked(c, i);

		if (n == NULL)
			continue;
		lose_data(c, n);
		if (S_ISDIR(n->attr.mode))
			lose_names(c, n);
		else if (n->flags & NODE_KERNEL_DATA)
			tell_inode_locked(c, n, true);
		node_check_locked(c, n);
	}
}

uint64_t cache_changed_at(const struct cache *c)
{
	return c->changed_at;
}

bool cache_changed_by_host(const struct cache *c)
{
	return c->by_host;
}

void cache_pushed(void *arg, const struct msg *m)
{
	struct cache *c = arg;

	(void)pthread_rwlock_wrlock(&c->gate);
	(void)pthread_mutex_lock(&c->lock);
	c->last_seq = m->seq;
	c->changed_at = cache_now() - (MSG_HAS(m, age) ? m->age : 0);
	c->by_host = true;
	bool reset = m->op == MSG_RESET; /* or INV */
	if (reset) {
		c->floor_seq = m->seq;
		log_info("the server has lost track of changes: everything is read anew");
		cache_drop_all_locked(c);
	} else {
		struct slice in = m->payload;
		struct inv_item item;
		int r;

		while ((r = c->backend->sequences->get_inv(&in, &item)) == 1)
			take_item(c, &item, m->seq);
		if (r < 0) {
			log_err("the server sent a malformed invalidation: everything is read anew");
			c->floor_seq = m->seq;
			cache_drop_all_locked(c);
		}
	}
	bool ack = (m->flags & INV_ACK) != 0 || reset;
	if (ack && c->sink != NULL)
		c->sink->mark(c->sink_arg, m->seq);
	bool direct = ack && c->sink == NULL;
	c->changed_at = 0;
	c->by_host = false;
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_rwlock_unlock(&c->gate);
	if (direct)
		cache_acknowledge(c, m->seq, false);
	cache_forget_flush(c);
}
