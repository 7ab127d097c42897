/*
 * What is kept by time only: attributes, names and pages that the kernel was told without a
 * promise. Nobody says when they are no longer true, so they are noted here, and a fence or a
 * granted lock takes back all of them at once (timed_drop_locked in drop.c). That costs as much as
 * was told since the last time, and nothing where all is promised.
 *
 * A name is noted until its time is over.
 */
#include <stdlib.h>
#include <string.h>

#include "cache/cache_priv.h"

#define NAMES_MAX ((size_t)4 << 20) /* bytes of noted names; above, the oldest is taken back */

/* ---- nodes ---- */

/* Leaves out those that have gone, or were taken back. */
static void compact_nodes(struct cache *c)
{
	struct timed *t = &c->timed;
	size_t n = 0;

	for (size_t i = 0; i < t->n_nodes; i++) {
		const struct node *node = node_find_locked(c, t->nodes[i]);

		if (node != NULL && (node->flags & NODE_TIMED) != 0)
			t->nodes[n++] = t->nodes[i];
	}
	t->n_nodes = n;
}

/* When all are full: most may have gone. So there are at most four times as many as there are
 * nodes. */
static bool make_room_for_node(struct cache *c)
{
	struct timed *t = &c->timed;

	compact_nodes(c);
	if (t->n_nodes < t->cap_nodes / 2)
		return true;
	size_t cap = t->cap_nodes == 0 ? 64 : t->cap_nodes * 2;
	uint64_t *p = realloc(t->nodes, cap * sizeof(*p));
	if (p == NULL)
		return t->n_nodes < t->cap_nodes;
	t->nodes = p;
	t->cap_nodes = cap;
	return true;
}

void timed_node_locked(struct cache *c, struct node *n)
{
	struct timed *t = &c->timed;

	if (n->flags & NODE_TIMED)
		return;
	if (t->n_nodes == t->cap_nodes && !make_room_for_node(c)) {
		t->all = true;
		return;
	}
	t->nodes[t->n_nodes++] = n->id;
	n->flags |= NODE_TIMED;
}

/* ---- names: records one behind the other, the oldest first ---- */

struct timed_name {
	uint64_t dir, until;
	uint32_t len; /* of the name, which follows */
	uint32_t way; /* enum entry_way */
};

static size_t record_size(size_t len)
{
	return sizeof(struct timed_name) + (len + 7) / 8 * 8;
}

static const char *first_name(const struct timed *t, struct timed_name *ret)
{
	memcpy(ret, t->names + t->names_from, sizeof(*ret));
	return (const char *)t->names + t->names_from + sizeof(*ret);
}

static void tell_first(struct cache *c, uint64_t now)
{
	struct timed_name r;
	const char *name = first_name(&c->timed, &r);

	if (r.until > now && c->sink != NULL)
		c->sink->entry(c->sink_arg, r.dir, name, r.len, (enum entry_way)r.way);
	c->timed.names_from += record_size(r.len);
}

static void pass_over(struct cache *c, uint64_t now)
{
	struct timed *t = &c->timed;
	struct timed_name r;

	while (t->names_from < t->names_to) {
		(void)first_name(t, &r);
		if (r.until > now && t->names_to - t->names_from < NAMES_MAX)
			return;
		tell_first(c, now);
	}
}

static bool make_room(struct timed *t, size_t size)
{
	size_t used = t->names_to - t->names_from;

	if (t->names_cap - t->names_to >= size)
		return true;
	if (used > 0)
		memmove(t->names, t->names + t->names_from, used);
	t->names_from = 0;
	t->names_to = used;
	if (t->names_cap / 2 >= used + size)
		return true;
	size_t cap = t->names_cap == 0 ? 4096 : t->names_cap * 2;
	unsigned char *p = realloc(t->names, cap);
	if (p == NULL)
		return t->names_cap - t->names_to >= size;
	t->names = p;
	t->names_cap = cap;
	return true;
}

bool timed_name_locked(struct cache *c, const struct node *dir, const char *name, size_t len,
		       bool is_dir, uint64_t ttl)
{
	struct timed *t = &c->timed;
	uint64_t now = cache_now();
	const struct timed_name r = {.dir = dir->id,
				     .until = now + ttl,
				     .len = (uint32_t)len,
				     .way = is_dir ? ENTRY_EXPIRES : ENTRY_DROPS};

	pass_over(c, now);
	if (!make_room(t, record_size(len)))
		return false;
	memcpy(t->names + t->names_to, &r, sizeof(r));
	memcpy(t->names + t->names_to + sizeof(r), name, len);
	t->names_to += record_size(len);
	return true;
}

void timed_tell_names_locked(struct cache *c)
{
	struct timed *t = &c->timed;
	uint64_t now = cache_now();

	while (t->names_from < t->names_to)
		tell_first(c, now);
	t->names_from = t->names_to = 0;
}

void timed_done(struct cache *c)
{
	free(c->timed.nodes);
	free(c->timed.names);
}
