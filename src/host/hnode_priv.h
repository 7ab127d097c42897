/* The nodes and their table, for hnode.c and hnode_place.c. */
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
	atomic_uint depth; /* of a directory: steps below the root, when it was checked last */
	atomic_bool file;  /* the object is no directory */

	/* hnodes.mutex covers the members from here on: */
	struct hnode *chain;	     /* the next in its bucket */
	struct hnode *newer, *older; /* in the list of descriptors that may be closed */
	struct hnode_user *users;
	int fd;	      /* O_PATH, or -1 */
	bool unnamed; /* fd was found by the handle alone: see open_again */
	unsigned pins;
	bool listed;	 /* in the list: fd >= 0, no pin, not kept */
	bool keep;	 /* fd stays open for as long as the node lives */
	bool marked;	 /* see hnode_covered */
	bool by_parent;	 /* covered by the parent's mark, as long as the parent has one */
	uint64_t parent; /* the directory where it was seen last; 0: not known */
	char *name;	 /* the name in parent; only where needs_name */
	uint32_t record; /* of the state; 0: none */

	/* These are used where every rename is seen: */
	bool linked;	  /* the node still is in parent */
	bool outside;	  /* a directory that was moved out of the export */
	uint32_t epoch;	  /* hnodes.lost when the two above were set: they are true while equal */
	uint32_t checked; /* hnodes.moves when the node was found to be inside */

	/* constant: the identity */
	uint32_t fs;
	int32_t handle_type;
	uint32_t handle_len;
	unsigned char handle[];
};

/*
 * Descriptors: a descriptor with pins is in use. The descriptors without pins
 * are in a list, newest first, unless they are kept. The oldest of the list are
 * closed when there are more than fd_max in all.
 */
struct hnodes {
	const struct export *export;
	struct filesystems *fs;
	size_t fd_max;
	uint64_t seed;
	atomic_uint filter[FILTER_SIZE]; /* how many nodes have a handle of this hash */
	struct state *state;		 /* NULL: nothing outlives the process */
	uint64_t first_version;
	pthread_mutex_t mutex;

	/* mutex: */
	uint64_t last_id;
	size_t count;
	struct hnode **buckets; /* by identity */
	size_t n_buckets;	/* a power of two, or 0 */
	struct idmap parents;	/* by id: the nodes that another node was found in */
	size_t freed;		/* nodes freed since memory was given back to the system */
	_Atomic uint64_t seen;	/* renames of any object */
	_Atomic uint32_t moves; /* renames of directories, which move all below them; from 1 */
	uint32_t lost;		/* how often renames may have been missed */
	void (*catch_up)(
		void *arg); /* NULL: not every rename is seen; constant after the first use */
	void *catch_up_arg;
	void (*unmark)(void *arg, int fd);
	void *unmark_arg;
	size_t fds, kept;
	struct hnode *newest, *oldest;
};

/* hnode_*_locked are called with hnodes.mutex held. */
bool hnode_is(const struct hnode *n, const struct identity *id);
struct hnode *hnode_find_locked(const struct hnodes *t, const struct identity *id, uint64_t hash);
void hnode_name_locked(struct hnodes *t, struct hnode *n, struct hnode *parent, const char *name,
		       uint64_t seen);
struct hnode *hnode_parent_locked(const struct hnodes *t, const struct hnode *n);
/* The directory, with a reference, and the name where the node was seen last; or NULL. */
struct hnode *hnode_last_seen(struct hnodes *t, const struct hnode *n, char name[NAME_MAX + 1]);
/* hnode_pin for a node that may be outside; depth: how many nodes were opened to find this one. */
int hnode_pin_depth(struct hnodes *t, struct hnode *n, unsigned depth, int *ret_fd);
