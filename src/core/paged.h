/*
 * Numbered pages of 4 KiB, found in two steps and never moved. A large table that is made of them
 * grows without a large allocation and without copying its content.
 *
 * Not thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdlib.h>

#define PAGED_BYTES 4096u
#define PAGED_FAN   (PAGED_BYTES / sizeof(void *)) /* pointers in a page */

struct paged {
	void ***top; /* PAGED_FAN of as many pages; NULL: there is none */
	size_t count;
};

static inline void *paged_at(const struct paged *p, size_t i)
{
	return p->top[i / PAGED_FAN][i % PAGED_FAN];
}

/* Adds a page of zeros. -1 without memory. */
static inline int paged_grow(struct paged *p)
{
	size_t i = p->count;

	if (i / PAGED_FAN == PAGED_FAN)
		return -1;
	if (p->top == NULL)
		p->top = calloc(PAGED_FAN, sizeof(*p->top));
	if (p->top == NULL)
		return -1;
	void ***at = &p->top[i / PAGED_FAN];
	if (*at == NULL)
		*at = calloc(PAGED_FAN, sizeof(**at));
	void *page = *at != NULL ? calloc(1, PAGED_BYTES) : NULL;
	if (page == NULL)
		return -1;
	(*at)[i % PAGED_FAN] = page;
	p->count++;
	return 0;
}

/* Frees the last page. */
static inline void paged_shrink(struct paged *p)
{
	size_t i = --p->count;

	free(p->top[i / PAGED_FAN][i % PAGED_FAN]);
	if (i % PAGED_FAN == 0) {
		free(p->top[i / PAGED_FAN]);
		p->top[i / PAGED_FAN] = NULL;
	}
}

static inline void paged_done(struct paged *p)
{
	while (p->count > 0)
		paged_shrink(p);
	for (size_t i = 0; p->top != NULL && i < PAGED_FAN; i++)
		free(p->top[i]); /* may exist without pages, if there was no memory for the first */
	free(p->top);
	*p = (struct paged){0};
}
