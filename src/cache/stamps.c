/*
 * Until when and since when something is true: the clock, the lease, and the sequence numbers of
 * invalidations, with which the stamp of a reply is compared.
 */
#include "cache/stamps.h"
#include "core/clock.h"
#include "core/fault.h"

uint64_t cache_now(void)
{
	return clock_now();
}

/* ---- the lease ---- */

bool link_alive_locked(const struct cache *c, uint64_t now)
{
	return c->options.lease == 0 ||
	       now + c->options.lease / LEASE_BEATS * (LEASE_BEATS - 2) < c->lease_until;
}

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

void stamps_pushed_locked(struct cache *c, const struct inv_item *i, uint64_t seq)
{
	if (i->class & (INV_ATTR | INV_DATA))
		c->node_seq[seq_slot(i->node)] = seq;
	if (i->class & INV_NAME)
		c->name_seq[name_slot(i->node, i->name.data, i->name.len)] = seq;
	if (i->class & INV_NAMES)
		c->names_seq[seq_slot(i->node)] = seq;
	if (i->class & (INV_NAME | INV_NAMES))
		c->listing_seq[seq_slot(i->node)] = seq;
}

void stamps_names_void_locked(struct cache *c, uint64_t dir)
{
	c->names_seq[seq_slot(dir)] = c->last_seq;
}
