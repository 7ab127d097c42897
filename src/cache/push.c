/* Invalidations: what the server pushes is taken in, and acknowledged. */
#include <sys/stat.h>

#include "cache/drop.h"
#include "cache/in_kernel.h"
#include "cache/node.h"
#include "cache/push.h"
#include "cache/stamps.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/outlive.h"

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
	stamps_pushed_locked(c, i, seq);
	if (n == NULL) {
		stats_add(c->options.stats, STAT_inval_noop, 1);
		return;
	}
	/* the union of a node goes by its type, whatever the server takes it for */
	if ((i->class & INV_NAME) != 0 && S_ISDIR(n->attr.mode))
		known = name_lose_locked(c, n, i->name);
	if ((i->class & INV_NAMES) != 0 && S_ISDIR(n->attr.mode)) {
		names_lose_locked(c, n);
		known = true;
	}
	if (i->class & (INV_ATTR | INV_DATA)) {
		known = known || n->attr_until > 0 || n->nlookup > 0;
		node_lose_attr_locked(n);
		if (i->class & INV_DATA)
			node_lose_content_locked(c, n);
		tell_inode_locked(c, n, (i->class & INV_DATA) != 0);
	}
	if (!known)
		stats_add(c->options.stats, STAT_inval_noop, 1);
	node_check_locked(c, n); /* an idle one may have lost what it was kept for */
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
	if (outlive != NULL)
		outlive->seq = m->seq;
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
