/*
 * An intrusive hash table with chains, for objects of which there may be
 * millions: 16 bytes in the object and a pointer per bucket.
 *
 * The table grows by one bucket with each object (linear hashing, Litwin 1980), so that no call
 * takes long or allocates more than a page.
 *
 * The caller hashes and compares: walk the chain of hash_first with hash_next
 * and look at each link's object. Not thread-safe. Nothing is owned.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/paged.h"

struct hash_link {
	struct hash_link *next;
	uint32_t hash;
};

#define HASH_PER_PAGE (PAGED_BYTES / sizeof(struct hash_link *))

struct hash_table {
	struct paged buckets;
	size_t size; /* buckets */
	size_t half; /* a power of two: half <= size < 2 * half; buckets from size - half on are
			still to be split in two */
	size_t count;
};

#define HASH_ENTRY(link, type, member) ((type *)((char *)(link)-offsetof(type, member)))

/* A mix of all bits (splitmix64's finalizer, Steele et al. 2014). */
static inline uint64_t hash_mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* FNV-1a (Fowler, Noll, Vo) over bytes, started with seed. */
static inline uint32_t hash_bytes(const void *data, size_t len, uint64_t seed)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325u ^ seed;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return (uint32_t)hash_mix(h);
}

static inline struct hash_link *hash_match(struct hash_link *link, uint32_t hash)
{
	while (link != NULL && link->hash != hash)
		link = link->next;
	return link;
}

static inline struct hash_link **hash_bucket(const struct hash_table *t, size_t i)
{
	return (struct hash_link **)paged_at(&t->buckets, i / HASH_PER_PAGE) + i % HASH_PER_PAGE;
}

static inline struct hash_link **hash_home(const struct hash_table *t, uint32_t hash)
{
	size_t i = hash & (2 * t->half - 1);

	return hash_bucket(t, i < t->size ? i : i - t->half);
}

static inline struct hash_link *hash_first(const struct hash_table *t, uint32_t hash)
{
	return t->size > 0 ? hash_match(*hash_home(t, hash), hash) : NULL;
}

static inline struct hash_link *hash_next(struct hash_link *link)
{
	return hash_match(link->next, link->hash);
}

/* One more bucket, or the first page of them; -1 without memory. */
static inline int hash_grow(struct hash_table *t)
{
	size_t i = t->size;

	if (i / HASH_PER_PAGE == t->buckets.count && paged_grow(&t->buckets) < 0)
		return -1;
	if (i == 0) {
		t->size = t->half = HASH_PER_PAGE;
		return 0;
	}
	struct hash_link **to = hash_bucket(t, i), **at = hash_bucket(t, i - t->half);
	while (*at != NULL) {
		struct hash_link *l = *at;

		if ((l->hash & (2 * t->half - 1)) != i) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		l->next = *to;
		*to = l;
	}
	t->size++;
	if (t->size == 2 * t->half)
		t->half = t->size;
	return 0;
}

/* The last bucket is joined to the one from which it was split. */
static inline void hash_shrink(struct hash_table *t)
{
	size_t i = --t->size;

	if (i < t->half)
		t->half /= 2;
	struct hash_link *first = *hash_bucket(t, i), **at = hash_bucket(t, i - t->half);
	while (*at != NULL)
		at = &(*at)->next;
	*at = first;
	*hash_bucket(t, i) = NULL;
	if (i % HASH_PER_PAGE == 0)
		paged_shrink(&t->buckets);
}

/* Gives back buckets when there are far fewer objects. */
static inline void hash_trim(struct hash_table *t)
{
	while (t->size > HASH_PER_PAGE && t->count * 4 < t->size)
		hash_shrink(t);
}

/* 0, or -1 without memory for the first buckets; without memory for more the chains become
 * longer. */
static inline int hash_add(struct hash_table *t, struct hash_link *link, uint32_t hash)
{
	if (t->count >= t->size && hash_grow(t) < 0 && t->size == 0)
		return -1;
	struct hash_link **at = hash_home(t, hash);
	link->hash = hash;
	link->next = *at;
	*at = link;
	t->count++;
	return 0;
}

static inline void hash_del(struct hash_table *t, struct hash_link *link)
{
	struct hash_link **at = hash_home(t, link->hash);

	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	t->count--;
}

static inline void hash_done(struct hash_table *t)
{
	paged_done(&t->buckets);
	*t = (struct hash_table){0};
}
