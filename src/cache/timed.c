/*
 * Attributes, names and pages that the kernel was told without a promise, so that it keeps them by
 * time only. Nobody says when they are no longer true, so they are noted here, and a fence or a
 * granted lock takes back all of them at once (timed_drop_locked in drop.c). That costs as much as
 * was told since the last time, and nothing where all is promised.
 *
 * A name is noted until its time is over.
 */
#include <stdlib.h>
#include <string.h>

#include "cache/node.h"
#include "cache/timed.h"
#include "core/clock.h"

#define NAMES_MAX ((size_t)4 << 20) /* bytes of noted names; above, the oldest is taken back */

/* ---- nodes ---- */

static uint64_t *node_at(const struct timed *t, size_t i)
{
	return (uint64_t *)paged_at(&t->nodes, i / TIMED_PER_PAGE) + i % TIMED_PER_PAGE;
}

uint64_t timed_node_at(const struct timed *t, size_t i)
{
	return *node_at(t, i);
}

static size_t room_for_nodes(const struct timed *t)
{
	return t->nodes.count * TIMED_PER_PAGE;
}

/* Leaves out those that have gone, or were taken back. */
static void compact_nodes(struct cache *c)
{
	struct timed *t = &c->timed;
	size_t n = 0;

	for (size_t i = 0; i < t->n_nodes; i++) {
		uint64_t id = *node_at(t, i);
		const struct node *node = node_find_locked(c, id);

		if (node != NULL && (node->flags & NODE_TIMED) != 0)
			*node_at(t, n++) = id;
	}
	t->n_nodes = n;
}

/*
 * When all pages are full, most may have gone: so before there are twice as many these are left
 * out, and there are at most four times as many as there are nodes.
 */
static bool make_room_for_node(struct cache *c)
{
	struct timed *t = &c->timed;

	if (t->nodes.count >= t->pages_allowed) {
		compact_nodes(c);
		if (t->n_nodes < room_for_nodes(t) / 2)
			return true;
		t->pages_allowed = t->pages_allowed == 0 ? 1 : t->pages_allowed * 2;
	}
	return paged_grow(&t->nodes) == 0 || t->n_nodes < room_for_nodes(t);
}

void timed_node_locked(struct cache *c, struct node *n)
{
	struct timed *t = &c->timed;

	if (n->flags & NODE_TIMED)
		return;
	if (t->n_nodes == room_for_nodes(t) && !make_room_for_node(c)) {
		t->all = true;
		return;
	}
	*node_at(t, t->n_nodes++) = n->id;
	n->flags |= NODE_TIMED;
}

/* ---- names: records one behind the other, the oldest first ---- */

struct timed_page {
	struct timed_page *next;
	uint32_t from, to; /* records */
	unsigned char data[];
};

#define PAGE_ROOM (PAGED_BYTES - sizeof(struct timed_page))

struct timed_name {
	uint64_t dir, until;
	uint32_t len; /* of the name, which follows */
	uint32_t way; /* enum entry_way */
};

static size_t record_size(size_t len)
{
	return sizeof(struct timed_name) + (len + 7) / 8 * 8;
}

/* There is one. */
static const char *first_name(const struct timed *t, struct timed_name *ret)
{
	const unsigned char *at = t->oldest->data + t->oldest->from;

	memcpy(ret, at, sizeof(*ret));
	return (const char *)at + sizeof(*ret);
}

static void pass_first(struct timed *t, size_t size)
{
	struct timed_page *p = t->oldest;

	p->from += (uint32_t)size;
	t->name_bytes -= size;
	if (p->from < p->to)
		return;
	t->oldest = p->next;
	if (t->oldest == NULL)
		t->newest = NULL;
	free(p);
}

static void tell_first(struct cache *c, uint64_t now)
{
	struct timed_name r;
	const char *name = first_name(&c->timed, &r);

	if (r.until > now && c->sink != NULL)
		c->sink->entry(c->sink_arg, r.dir, name, r.len, (enum entry_way)r.way);
	pass_first(&c->timed, record_size(r.len));
}

static void pass_over(struct cache *c, uint64_t now)
{
	struct timed *t = &c->timed;
	struct timed_name r;

	while (t->oldest != NULL) {
		(void)first_name(t, &r);
		if (r.until > now && t->name_bytes < NAMES_MAX)
			return;
		tell_first(c, now);
	}
}

/* Where a record of that size goes; NULL without memory. */
static unsigned char *add_record(struct timed *t, size_t size)
{
	struct timed_page *p = t->newest;

	if (p == NULL || PAGE_ROOM - p->to < size) {
		p = malloc(PAGED_BYTES);
		if (p == NULL)
			return NULL;
		*p = (struct timed_page){.next = NULL};
		*(t->newest != NULL ? &t->newest->next : &t->oldest) = p;
		t->newest = p;
	}
	p->to += (uint32_t)size;
	t->name_bytes += size;
	return p->data + p->to - size;
}

bool timed_name_locked(struct cache *c, const struct node *dir, const char *name, size_t len,
		       bool is_dir, uint64_t ttl)
{
	struct timed *t = &c->timed;
	uint64_t now = clock_awake(); /* the kernel's time of a name */
	const struct timed_name r = {.dir = dir->id,
				     .until = now + ttl,
				     .len = (uint32_t)len,
				     .way = is_dir ? ENTRY_EXPIRES : ENTRY_DROPS};

	pass_over(c, now);
	unsigned char *to = add_record(t, record_size(len));
	if (to == NULL)
		return false;
	memcpy(to, &r, sizeof(r));
	memcpy(to + sizeof(r), name, len);
	return true;
}

void timed_tell_names_locked(struct cache *c)
{
	uint64_t now = clock_awake(); /* the kernel's time of a name */

	while (c->timed.oldest != NULL)
		tell_first(c, now);
}

void timed_done(struct cache *c)
{
	struct timed *t = &c->timed;

	paged_done(&t->nodes);
	while (t->oldest != NULL) {
		struct timed_page *next = t->oldest->next;

		free(t->oldest);
		t->oldest = next;
	}
}
