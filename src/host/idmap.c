#include "host/idmap.h"

#include <stdlib.h>

#define CAP_MIN 16

static size_t home(const struct idmap *m, uint64_t key)
{
	return (size_t)idmap_mix(key) & (m->cap - 1);
}

void idmap_done(struct idmap *m)
{
	free(m->slots);
	*m = (struct idmap){0};
}

struct idmap_slot *idmap_get(const struct idmap *m, uint64_t key)
{
	if (m->used == 0)
		return NULL;
	for (size_t i = home(m, key);; i = (i + 1) & (m->cap - 1)) {
		if (m->slots[i].key == key)
			return &m->slots[i];
		if (m->slots[i].key == 0)
			return NULL;
	}
}

static struct idmap_slot *place(struct idmap *m, uint64_t key)
{
	size_t i = home(m, key);

	while (m->slots[i].key != 0 && m->slots[i].key != key)
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

static int resize(struct idmap *m, size_t cap)
{
	struct idmap bigger = {calloc(cap, sizeof(*m->slots)), cap, m->used};

	if (bigger.slots == NULL)
		return -1;
	for (size_t i = 0; i < m->cap; i++)
		if (m->slots[i].key != 0)
			*place(&bigger, m->slots[i].key) = m->slots[i];
	free(m->slots);
	*m = bigger;
	return 0;
}

struct idmap_slot *idmap_put(struct idmap *m, uint64_t key)
{
	struct idmap_slot *s = idmap_get(m, key);

	if (s != NULL)
		return s;
	/* the table is at most 3/4 full */
	if ((m->used + 1) * 4 > m->cap * 3 && resize(m, m->cap > 0 ? m->cap * 2 : CAP_MIN) < 0)
		return NULL;
	s = place(m, key);
	*s = (struct idmap_slot){.key = key};
	m->used++;
	return s;
}

void idmap_del(struct idmap *m, uint64_t key)
{
	struct idmap_slot *s = idmap_get(m, key);

	if (s == NULL)
		return;
	size_t hole = (size_t)(s - m->slots);
	/* Slots that a search would not reach any more, because of the hole, are moved back. */
	for (size_t i = (hole + 1) & (m->cap - 1); m->slots[i].key != 0;
	     i = (i + 1) & (m->cap - 1)) {
		size_t h = home(m, m->slots[i].key);

		if (((i - h) & (m->cap - 1)) >= ((i - hole) & (m->cap - 1))) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole] = (struct idmap_slot){0};
	m->used--;
	/* A session that forgot a million nodes gives the memory back. */
	if (m->cap > CAP_MIN * 4 && m->used * 8 < m->cap)
		(void)resize(m, m->cap / 2);
}

struct idmap_slot *idmap_next(const struct idmap *m, struct idmap_slot *prev)
{
	for (size_t i = prev != NULL ? (size_t)(prev - m->slots) + 1 : 0; i < m->cap; i++)
		if (m->slots[i].key != 0)
			return &m->slots[i];
	return NULL;
}
