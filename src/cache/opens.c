#include "cache/opens.h"

#include "core/cleanup.h"

/* The numbers of a slot follow each other, as those of nodes do. */
struct open_file {
	uint64_t fh;	 /* the slot, and above it how often that was used */
	uint64_t server; /* 0: the slot is free */
	uint32_t next;	 /* then: the next free one */
};

#define PER_PAGE (PAGED_BYTES / sizeof(struct open_file))

static struct open_file *slot_of(const struct cache *c, uint64_t fh)
{
	uint32_t slot = (uint32_t)fh;

	if (slot == 0 || slot >= c->opens.slots)
		return NULL;
	return (struct open_file *)paged_at(&c->opens.pages, slot / PER_PAGE) + slot % PER_PAGE;
}

static struct open_file *find(const struct cache *c, uint64_t fh)
{
	struct open_file *f = slot_of(c, fh);

	return f != NULL && f->fh == fh && f->server != 0 ? f : NULL;
}

static struct open_file *take_slot(struct cache *c)
{
	uint32_t slot = c->opens.free;

	if (slot != 0) {
		struct open_file *f = slot_of(c, slot);

		c->opens.free = f->next;
		return f;
	}
	slot = c->opens.slots > 0 ? c->opens.slots : 1; /* no number is 0 */
	if (slot / PER_PAGE == c->opens.pages.count && paged_grow(&c->opens.pages) < 0)
		return NULL;
	c->opens.slots = slot + 1;
	struct open_file *f = slot_of(c, slot);
	f->fh = slot;
	return f;
}

uint64_t opens_add_locked(struct cache *c, uint64_t server)
{
	struct open_file *f = take_slot(c);

	if (f == NULL)
		return 0;
	f->fh += UINT64_C(1) << 32;
	f->server = server;
	return f->fh;
}

uint64_t opens_find_locked(const struct cache *c, uint64_t fh)
{
	const struct open_file *f = find(c, fh);

	return f != NULL ? f->server : 0;
}

uint64_t opens_take_locked(struct cache *c, uint64_t fh)
{
	struct open_file *f = find(c, fh);

	if (f == NULL)
		return 0;
	uint64_t server = f->server;
	f->server = 0;
	f->next = c->opens.free;
	c->opens.free = (uint32_t)fh;
	return server;
}

uint64_t opens_next_locked(const struct cache *c, uint64_t *at)
{
	for (uint64_t slot = *at + 1; slot < c->opens.slots; slot++) {
		const struct open_file *f = slot_of(c, slot);

		if (f->server != 0) {
			*at = slot;
			return f->server;
		}
	}
	*at = 0;
	return 0;
}

void opens_done(struct cache *c)
{
	paged_done(&c->opens.pages);
}
