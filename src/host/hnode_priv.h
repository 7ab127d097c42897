/* What hnode.c and hnode_place.c share: the nodes themselves. */
#pragma once

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "host/filesystem.h"
#include "host/hnode.h"
#include "host/idmap.h"

#define FILTER_SIZE 65536
#define DEPTH_MAX   4096 /* parents in a row that are opened to find one node again */

struct hnode {
	uint64_t id, hash;
	_Atomic uint64_t refs;
	_Atomic uint64_t version;
	atomic_uint depth; /* of a directory: below the root, when it was looked for last */
	atomic_bool file;  /* it is no directory */

	/* the rest: hnodes.mutex */
	struct hnode *chain;	     /* the next in its bucket */
	struct hnode *newer, *older; /* in the list of descriptors that may be closed */
	struct hnode_user *users;
	int fd; /* O_PATH, or -1 */
	unsigned pins;
	bool listed;	 /* in that list: fd >= 0, no pin, not kept */
	bool keep;	 /* for as long as the node lives */
	bool marked;	 /* see hnode_covered */
	bool by_parent;	 /* covered by the parent's mark, as long as it has one */
	uint64_t parent; /* where it was seen last; 0: nobody knows */
	char *name;	 /* there; only where needs_name */

	/* Where every rename is seen: */
	bool linked;	  /* and there it still is */
	bool outside;	  /* a directory that was moved out of the export */
	uint32_t epoch;	  /* of hnodes.lost: else neither is known */
	uint32_t checked; /* of hnodes.moves: it was inside after that move */

	/* constant: what it is */
	uint32_t fs;
	int32_t handle_type;
	uint32_t handle_len;
	unsigned char handle[];
};

/*
 * Descriptors: those with pins are in use. Those without are in the list,
 * newest first, unless they are kept. Of the list the oldest are closed when
 * there are more than fd_max in all.
 */
struct hnodes {
	const struct export *export;
	struct filesystems *fs;
	size_t fd_max;
	uint64_t seed;
	atomic_uint filter[FILTER_SIZE]; /* how many nodes have a handle of this hash */
	pthread_mutex_t mutex;

	/* mutex: */
	uint64_t last_id;
	size_t count;
	struct hnode **buckets;	     /* by identity */
	size_t n_buckets;	     /* a power of two, or 0 */
	struct idmap parents;	     /* by id: those that some node was found in */
	size_t freed;		     /* nodes, since memory went back to the system */
	_Atomic uint64_t seen;	     /* renames, of anything */
	_Atomic uint32_t moves;	     /* of directories: what may have taken others along; from 1 */
	uint32_t lost;		     /* times that renames may have been missed */
	void (*catch_up)(void *arg); /* NULL: not every rename is seen; constant once used */
	void *catch_up_arg;
	void (*unmark)(void *arg, int fd);
	void *unmark_arg;
	size_t fds, kept;
	struct hnode *newest, *oldest;
};

/* hnode_*_locked: with hnodes.mutex. */
bool hnode_is(const struct hnode *n, const struct identity *id);
struct hnode *hnode_find_locked(const struct hnodes *t, const struct identity *id, uint64_t hash);
void hnode_name_locked(struct hnodes *t, struct hnode *n, struct hnode *parent, const char *name,
		       uint64_t seen);
struct hnode *hnode_parent_locked(const struct hnodes *t, const struct hnode *n);
/* Where it was seen last: the directory, with a reference, or NULL. */
struct hnode *hnode_last_seen(struct hnodes *t, const struct hnode *n, char name[NAME_MAX + 1]);
/* hnode_pin of what may be outside; depth: of nodes that were opened to find this one. */
int hnode_pin_depth(struct hnodes *t, struct hnode *n, unsigned depth, int *ret_fd);
