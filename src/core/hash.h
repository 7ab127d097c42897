/*
 * An intrusive hash table with chains, for objects of which there may be
 * millions: 16 bytes in the object and a pointer per bucket.
 *
 * The caller hashes and compares: walk the chain of hash_first with hash_next
 * and look at each link's object. Not thread-safe. Nothing is owned.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct hash_link {
	struct hash_link *next;
	uint32_t hash;
};

struct hash_table {
	struct hash_link **buckets;
	size_t size; /* a power of two, or 0 */
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

static inline struct hash_link *hash_first(const struct hash_table *t, uint32_t hash)
{
	return t->size > 0 ? hash_match(t->buckets[hash & (t->size - 1)], hash) : NULL;
}

static inline struct hash_link *hash_next(struct hash_link *link)
{
	return hash_match(link->next, link->hash);
}

/* As many buckets as there are objects, more or less; -1 without memory for them. */
static inline int hash_resize(struct hash_table *t, size_t size)
{
	struct hash_link **b = calloc(size, sizeof(struct hash_link *));

	if (b == NULL)
		return -1;
	for (size_t i = 0; i < t->size; i++) {
		for (struct hash_link *l = t->buckets[i], *next; l != NULL; l = next) {
			next = l->next;
			l->next = b[l->hash & (size - 1)];
			b[l->hash & (size - 1)] = l;
		}
	}
	free(t->buckets);
	t->buckets = b;
	t->size = size;
	return 0;
}

/* Gives back what far fewer objects do not need. */
static inline void hash_trim(struct hash_table *t)
{
	size_t size = t->size;

	while (size > 64 && t->count * 4 < size)
		size /= 2;
	if (size < t->size)
		(void)hash_resize(t, size);
}

/* 0, or -1 without memory for the first buckets; for want of more, chains just grow. */
static inline int hash_add(struct hash_table *t, struct hash_link *link, uint32_t hash)
{
	if (t->count >= t->size) {
		if (hash_resize(t, t->size > 0 ? t->size * 2 : 64) < 0 && t->size == 0)
			return -1;
	}
	struct hash_link **at = &t->buckets[hash & (t->size - 1)];
	link->hash = hash;
	link->next = *at;
	*at = link;
	t->count++;
	return 0;
}

static inline void hash_del(struct hash_table *t, struct hash_link *link)
{
	struct hash_link **at = &t->buckets[link->hash & (t->size - 1)];

	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	t->count--;
}

static inline void hash_done(struct hash_table *t)
{
	free(t->buckets);
	*t = (struct hash_table){0};
}
