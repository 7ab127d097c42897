#include "host/range.h"

#include <errno.h>
#include <stdlib.h>

static struct range *range_new(uint64_t start, uint64_t end, enum range_type type, uint64_t pid)
{
	struct range *x = malloc(sizeof(*x));

	if (x != NULL)
		*x = (struct range){NULL, start, end, type, pid};
	return x;
}

/* Takes [start, end] out of the list; tail is for what is left behind it if one range holds both
 * ends. Returns where a range at start belongs. */
static struct range **cut(struct ranges *r, uint64_t start, uint64_t end, struct range **tail)
{
	struct range **at = &r->first;

	while (*at != NULL && (*at)->end < start)
		at = &(*at)->next;
	struct range *x = *at;
	if (x != NULL && x->start < start && x->end > end) {
		**tail = (struct range){x->next, end + 1, x->end, x->type, x->pid};
		x->end = start - 1;
		x->next = *tail;
		*tail = NULL;
		r->n++;
		return &x->next;
	}
	if (x != NULL && x->start < start) {
		x->end = start - 1;
		at = &x->next;
	}
	while ((x = *at) != NULL && x->end <= end) {
		*at = x->next;
		free(x);
		r->n--;
	}
	if (x != NULL && x->start <= end)
		x->start = end + 1;
	return at;
}

static bool joins(const struct range *a, const struct range *b)
{
	return a->end + 1 == b->start && a->type == b->type && a->pid == b->pid;
}

static void join(struct ranges *r)
{
	for (struct range *x = r->first; x != NULL;) {
		struct range *next = x->next;

		if (next != NULL && joins(x, next)) {
			x->end = next->end;
			x->next = next->next;
			free(next);
			r->n--;
		} else {
			x = next;
		}
	}
}

int ranges_set(struct ranges *r, uint64_t start, uint64_t end, enum range_type type, uint64_t pid)
{
	struct range *tail = range_new(0, 0, RANGE_NONE, 0);
	struct range *x = type != RANGE_NONE ? range_new(start, end, type, pid) : NULL;

	if (tail == NULL || (type != RANGE_NONE && x == NULL)) {
		free(tail);
		free(x);
		return -ENOMEM;
	}
	struct range **at = cut(r, start, end, &tail);
	if (x != NULL) {
		x->next = *at;
		*at = x;
		r->n++;
		join(r);
	}
	free(tail);
	return 0;
}

void ranges_clear(struct ranges *r)
{
	while (r->first != NULL) {
		struct range *x = r->first;

		r->first = x->next;
		free(x);
	}
	r->n = 0;
}

const struct range *ranges_conflict(const struct ranges *r, uint64_t start, uint64_t end,
				    enum range_type type)
{
	if (type == RANGE_NONE)
		return NULL;
	for (const struct range *x = r->first; x != NULL && x->start <= end; x = x->next)
		if (x->end >= start && (type == RANGE_WRITE || x->type == RANGE_WRITE))
			return x;
	return NULL;
}
