/*
 * A map from u64 keys to a pointer and a number, 24 bytes per slot: nodes by
 * id and by hash, the references of a session, open files by number.
 *
 * Not locked: the struct that embeds a map says which mutex covers it. Keys are never 0.
 * A slot is valid until the next put or delete. Values are not owned.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct idmap_slot {
	uint64_t key; /* 0: free */
	void *value;
	uint64_t n;
};

struct idmap {
	struct idmap_slot *slots;
	size_t cap, used;
};

/* A map of zeros is empty. idmap_done frees the slots and leaves the map empty. */
void idmap_done(struct idmap *m);

/* NULL if key is not there. */
struct idmap_slot *idmap_get(const struct idmap *m, uint64_t key);

/* The slot of key, made with value NULL and n 0 if it is new; NULL when out of memory. */
struct idmap_slot *idmap_put(struct idmap *m, uint64_t key);

void idmap_del(struct idmap *m, uint64_t key);

/* Slot after prev (NULL: the first) in no order, NULL at the end. No put or delete in between. */
struct idmap_slot *idmap_next(const struct idmap *m, struct idmap_slot *prev);

/* Spreads every bit of x over the result (splitmix64). */
static inline uint64_t idmap_mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}
