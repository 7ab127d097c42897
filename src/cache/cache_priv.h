/* What the files of src/cache share. */
#pragma once

#include <pthread.h>
#include <uthash.h>

#include "cache/cache.h"

struct node {
	uint64_t id;	 /* FUSE node id */
	uint64_t server; /* server node id */
	/* All below: cache.lock. */
	uint64_t nlookup;      /* references that the kernel holds */
	uint64_t server_refs;  /* replies that named it; given back by FORGET */
	uint32_t refs;	       /* requests and listings in flight */
	bool locked;	       /* see cache_mark_locked */
	uint64_t bumped;       /* generation of the object: attributes and data */
	uint64_t names_bumped; /* generation of the names in a directory */
	uint64_t attr_until;   /* attr may be told until then */
	struct attr attr;
	UT_hash_handle by_id, by_server;
};

struct cache {
	struct backend *backend;
	struct cache_options options;
	pthread_mutex_t lock;
	struct node *by_id, *by_server; /* uthash heads */
	uint64_t next_id;
	uint64_t clock;	       /* generations */
	unsigned char *forget; /* a FORGET payload in the making */
	size_t forget_len, forget_cap;
	struct listing *listings; /* open ones: what is left at the end is freed */
};

uint64_t cache_now(void);

/* n references to a server node are to go back to the server. */
void cache_give_back_locked(struct cache *c, uint64_t server, uint64_t n);

/* Frees the listings that nobody closed. No fetch is in flight any more. */
void listings_free(struct cache *c);

/* Finds a node by FUSE id and holds it; NULL if there is none. */
struct node *node_get_locked(struct cache *c, uint64_t id);
void node_put_locked(struct cache *c, struct node *n);
void nodes_free(struct cache *c);

/*
 * The node of a server id, made if it is new, held, with one more server
 * reference. NULL without memory: the reference is then given back.
 */
struct node *node_named_locked(struct cache *c, uint64_t server);
struct node *node_find_server_locked(struct cache *c, uint64_t server);

void node_bump_locked(struct cache *c, struct node *n);
void node_bump_names_locked(struct cache *c, struct node *n);

/*
 * Installs attributes that a request submitted at `submitted` brought.
 * Returns how long the kernel may keep them: 0 if a change raced with them.
 */
uint64_t node_install_locked(struct cache *c, struct node *n, const struct attr *a,
			     uint64_t submitted);
