/*
 * The client's cache: the nodes that the kernel knows, their attributes, and
 * the generations that keep a late reply from undoing a newer truth.
 *
 * It sits between the FUSE adapter and a backend. The adapter fills a
 * cache_req and submits it with FUSE node ids; the cache answers it, or turns
 * the ids into the server's, passes the call on, and on the reply installs
 * what it says before the adapter's completion runs.
 *
 * Identity: a FUSE node id is never used again while the cache lives; the
 * root is 1. A node lives as long as the kernel (nlookup), a request or a
 * listing (refs) holds it; then its references go back to the server.
 *
 * Generations: a clock counts changes. Each of our own mutations bumps the
 * nodes that it touches when it is submitted and again when its reply is
 * handled; a reply is installed, and given to the kernel with a timeout, only
 * if nothing it tells about was bumped since its request was submitted.
 * Attributes also carry the server's version: only a higher one is installed.
 *
 * Threads: every function may be called from any thread. One reader thread
 * runs all completions, so replies reach the kernel in the order in which the
 * cache handled them. One mutex guards the nodes; it is never held across a
 * backend call, a completion or a call into libfuse.
 *
 * Units: times in nanoseconds, CLOCK_MONOTONIC.
 */
#pragma once

#include "core/backend.h"
#include "core/stats.h"

struct cache;
struct node;
struct cache_req;
struct listing;

#define CACHE_ROOT 1

struct cache_options {
	uint64_t attr_ttl, entry_ttl, negative_ttl; /* ns; how long the kernel may keep a reply */
	struct stats *stats;
};

/* What the adapter learns from a completed request. Valid until done returns. */
struct cache_reply {
	int err;		 /* errno, 0 on success */
	const struct msg *msg;	 /* the reply; NULL if the cache answered by itself */
	const struct attr *attr; /* of the object; NULL if none came */
	uint64_t attr_ttl;
	/* Requests that name an object: its node, of which the kernel now holds one more reference.
	 */
	uint64_t ino;
	uint64_t entry_ttl;
};

/*
 * One request on its way. The adapter sets call.req (all but node and node2),
 * and done; the struct must stay until done has run. Zero-initialised.
 */
struct cache_req {
	struct call call;
	void (*done)(struct cache_req *r, const struct cache_reply *reply);

	/* The cache's own. */
	struct cache *cache;
	struct node *node, *node2;
	uint64_t submitted; /* generation clock */
	struct listing *listing;
	void (*listing_done)(struct cache_req *r, const struct cache_reply *reply);
};

int cache_new(struct backend *backend, const struct cache_options *options, struct cache **ret);
void cache_free(struct cache *c);
struct backend *cache_backend(struct cache *c);

/*
 * Submits r for the node ino and, where the request has two, ino2 (0: none).
 * An unknown id completes with ESTALE. done may run before this returns.
 */
void cache_submit(struct cache *c, struct cache_req *r, uint64_t ino, uint64_t ino2);

/* A message without a reply about open files: CLOSE. */
void cache_close(struct cache *c, uint64_t fh);

/* The kernel dropped n references to ino. cache_forget_flush sends what has gathered. */
void cache_forget(struct cache *c, uint64_t ino, uint64_t n);
void cache_forget_flush(struct cache *c);

/*
 * A reference of the kernel that a completion took (reply->ino) but that
 * could not be delivered, because the caller had been answered already.
 */
void cache_undo_lookup(struct cache *c, uint64_t ino);

/* The mode of a node as last heard, maybe outdated; 0 if it is unknown. */
uint32_t cache_mode(struct cache *c, uint64_t ino);

/*
 * Whether a POSIX lock was ever asked for on the node: only then does a
 * close(2) have to tell the host. True also for an unknown node.
 */
void cache_mark_locked(struct cache *c, uint64_t ino);
bool cache_is_locked(struct cache *c, uint64_t ino);
