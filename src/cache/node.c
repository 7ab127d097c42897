#define HASH_NONFATAL_OOM 1

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/cache_priv.h"

/* An insertion that runs out of memory leaves the node out, and says so. */
#undef uthash_nonfatal_oom
#define uthash_nonfatal_oom(elt) ((elt)->id = 0)

uint64_t cache_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct node *find_id(struct cache *c, uint64_t id)
{
	struct node *n;

	HASH_FIND(by_id, c->by_id, &id, sizeof(id), n);
	return n;
}

struct node *node_find_server_locked(struct cache *c, uint64_t server)
{
	struct node *n;

	HASH_FIND(by_server, c->by_server, &server, sizeof(server), n);
	return n;
}

struct node *node_get_locked(struct cache *c, uint64_t id)
{
	struct node *n = find_id(c, id);

	if (n != NULL)
		n->refs++;
	return n;
}

void node_put_locked(struct cache *c, struct node *n)
{
	if (n == NULL || --n->refs > 0 || n->nlookup > 0)
		return;
	cache_give_back_locked(c, n->server, n->server_refs);
	HASH_DELETE(by_id, c->by_id, n);
	HASH_DELETE(by_server, c->by_server, n);
	stats_sub(c->options.stats, STAT_cache_nodes, 1);
	free(n);
}

struct node *node_named_locked(struct cache *c, uint64_t server)
{
	struct node *n = node_find_server_locked(c, server);

	if (n == NULL) {
		n = calloc(1, sizeof(*n));
		if (n == NULL) {
			cache_give_back_locked(c, server, 1);
			return NULL;
		}
		n->id = c->next_id;
		n->server = server;
		HASH_ADD(by_id, c->by_id, id, sizeof(n->id), n);
		if (n->id != 0) {
			HASH_ADD(by_server, c->by_server, server, sizeof(n->server), n);
			if (n->id == 0) {
				n->id = c->next_id;
				HASH_DELETE(by_id, c->by_id, n);
				n->id = 0;
			}
		}
		if (n->id == 0) {
			free(n);
			cache_give_back_locked(c, server, 1);
			return NULL;
		}
		c->next_id++;
		stats_add(c->options.stats, STAT_cache_nodes, 1);
	}
	n->server_refs++;
	n->refs++;
	return n;
}

void node_bump_locked(struct cache *c, struct node *n)
{
	n->bumped = ++c->clock;
	n->attr_until = 0;
}

void node_bump_names_locked(struct cache *c, struct node *n)
{
	node_bump_locked(c, n);
	n->names_bumped = n->bumped;
}

uint64_t node_install_locked(struct cache *c, struct node *n, const struct attr *a,
			     uint64_t submitted)
{
	if (n->bumped > submitted) {
		stats_add(c->options.stats, STAT_cache_tainted, 1);
		return 0;
	}
	if (a->version != 0 && a->version <= n->attr.version) {
		/* Older than what is known: tell it, but for no time. */
		return a->version == n->attr.version ? c->options.attr_ttl : 0;
	}
	n->attr = *a;
	n->attr_until = cache_now() + c->options.attr_ttl;
	return c->options.attr_ttl;
}

void nodes_free(struct cache *c)
{
	struct node *n, *next;

	HASH_ITER (by_id, c->by_id, n, next) {
		HASH_DELETE(by_id, c->by_id, n);
		HASH_DELETE(by_server, c->by_server, n);
		free(n);
	}
}
