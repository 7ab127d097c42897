#include "host/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"

#define KEEP_CAP 1024 /* entries whose memory stays for the next ones */

struct pending_name {
	struct pending_name *next;
	unsigned char len;
	char text[];
};

static void free_names(struct pending *p, struct pending_node *e)
{
	while (e->names != NULL) {
		struct pending_name *n = e->names;

		e->names = n->next;
		free(n);
	}
	p->count -= e->n_names;
	e->n_names = 0;
}

static struct pending_node *entry(struct pending *p, uint64_t node)
{
	struct idmap_slot *slot = idmap_get(&p->by_id, node);

	if (slot != NULL)
		return &p->v[slot->n - 1];
	if (p->n == p->cap) {
		size_t cap = p->cap > 0 ? p->cap * 2 : 16;
		struct pending_node *v = realloc(p->v, cap * sizeof(*v));

		if (v == NULL)
			return NULL;
		p->v = v;
		p->cap = cap;
	}
	slot = idmap_put(&p->by_id, node);
	if (slot == NULL)
		return NULL;
	p->v[p->n] = (struct pending_node){.node = node};
	slot->n = ++p->n;
	p->count++;
	return &p->v[p->n - 1];
}

static int add_name(struct pending *p, struct pending_node *e, const char *name)
{
	size_t len = strlen(name);

	if (e->class & INV_NAMES)
		return PENDING_ALL_NAMES;
	for (const struct pending_name *n = e->names; n != NULL; n = n->next)
		if (n->len == len && memcmp(n->text, name, len) == 0)
			return 0;
	if (e->n_names == PENDING_NAMES_MAX) {
		free_names(p, e);
		e->class |= INV_NAMES;
		return PENDING_ALL_NAMES;
	}
	struct pending_name *n = malloc(sizeof(*n) + len);
	if (n == NULL)
		return -ENOMEM;
	n->next = e->names;
	n->len = (unsigned char)len;
	memcpy(n->text, name, len);
	e->names = n;
	e->n_names++;
	p->count++;
	return 0;
}

int pending_add(struct pending *p, uint64_t node, unsigned class, const char *name, uint64_t seen)
{
	if (p->count >= PENDING_MAX)
		return -ENOBUFS;
	struct pending_node *e = entry(p, node);
	if (e == NULL)
		return -ENOMEM;
	if (p->oldest == 0 || seen < p->oldest)
		p->oldest = seen;
	e->class |= class & ~(unsigned)INV_NAME;
	if (e->class & INV_NAMES)
		free_names(p, e);
	return name != NULL ? add_name(p, e, name) : 0;
}

void pending_clear(struct pending *p)
{
	for (size_t i = 0; i < p->n; i++)
		free_names(p, &p->v[i]);
	p->n = p->count = 0;
	p->oldest = 0;
	idmap_done(&p->by_id);
	if (p->cap > KEEP_CAP) {
		free(TAKE_PTR(p->v));
		p->cap = 0;
	}
}

void pending_done(struct pending *p)
{
	pending_clear(p);
	free(p->v);
	*p = (struct pending){0};
}

void pending_swap(struct pending *a, struct pending *b)
{
	struct pending c = *a;

	*a = *b;
	*b = c;
}

uint64_t pending_oldest(const struct pending *p)
{
	return p->oldest;
}

/* The first item of a node has the classes that are broken besides the names. */
bool pending_next(const struct pending *p, struct pending_cursor *at, struct inv_item *ret)
{
	if (at->in_names && at->name == NULL) {
		at->in_names = false;
		at->i++;
	}
	if (at->i == p->n)
		return false;
	const struct pending_node *e = &p->v[at->i];
	*ret = (struct inv_item){.node = e->node};
	if (!at->in_names) {
		at->in_names = true;
		at->name = e->names;
		ret->class = e->class;
	}
	if (at->name != NULL) {
		ret->class |= INV_NAME;
		ret->name = (struct slice){at->name->text, at->name->len};
		at->name = at->name->next;
	}
	return true;
}
