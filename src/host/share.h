/*
 * A peer has a share of what the server has, not the whole: open files, locks, nodes, threads,
 * bytes.
 *
 * A quarter of a pool is set aside in 64 parts, and the first things that anybody takes are of
 * that: so whoever comes late finds something, however greedy the others were. Of the rest each may
 * have three times as much as is left for all others: one alone gets three quarters of it, and so
 * half of everything.
 *
 * struct share_pool is the server's, struct share that of one session or connection. Both are
 * zeroed and then initialized; there is nothing to free. Thread-safe, without a lock.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define SHARE_PARTS 64
#define SHARE_TIMES 3

struct share_pool {
	size_t max, floor; /* constant */
	atomic_size_t used;
	atomic_size_t common; /* of these, those beyond what was set aside */
};

struct share {
	struct share_pool *pool;
	atomic_size_t own;
};

void share_pool_init(struct share_pool *p, size_t max);
void share_init(struct share *s, struct share_pool *pool);
/* False, and nothing is taken, if this one has its share. */
bool share_take(struct share *s, size_t n);
void share_give(struct share *s, size_t n);
/* Whether one could be taken now. */
bool share_room(const struct share *s);
