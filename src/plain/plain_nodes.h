/*
 * The plain client's nodes: ids for paths.
 *
 * A node is a name in a parent node; its path is the root's base and the
 * names on the way. A node lives while a reply's reference is not forgotten, a
 * file is open on the node, a node below it lives, or values are kept of it that
 * only this guest knows (plain_kept.h). Ids are never used twice; the root is
 * PLAIN_ROOT and is never freed. A detached node has lost its name: the object was
 * removed, replaced, or found to be another one.
 *
 * One thread only: the plain client's worker. Functions return 0 or -errno.
 */
#pragma once

#include "core/msg.h"

#define PLAIN_ROOT 1

struct plain_nodes;

struct plain_node {
	uint64_t id;
	uint64_t refs;		   /* replies that named the node */
	unsigned open;		   /* open files */
	unsigned children;	   /* nodes that have this parent */
	struct plain_node *parent; /* NULL: the root, or detached */
	bool has_attr;
	struct attr attr;	 /* last known; ino is never 0 once set */
	int64_t server_mtime;	 /* the one that attr was made from */
	struct plain_kept *kept; /* see plain_kept.c; goes with the name */
	uint64_t sure;		 /* ms of the monotonic clock: seen to be a directory and no link */
};

/* base: absolute, UTF-8; made canonical here. -EINVAL, -EILSEQ, -ENAMETOOLONG. */
int plain_nodes_new(const char *base, struct plain_nodes **ret);
void plain_nodes_free(struct plain_nodes *t);

/* NULL if there is none. */
struct plain_node *plain_nodes_find(const struct plain_nodes *t, uint64_t id);
struct plain_node *plain_nodes_child(const struct plain_nodes *t, const struct plain_node *parent,
				     struct slice name);

/*
 * The node of a name, made if needed. A new node has no reference yet: the next
 * plain_nodes_release frees it unless one is added.
 */
int plain_nodes_get(struct plain_nodes *t, struct plain_node *parent, struct slice name,
		    struct plain_node **ret);

/* Frees the node if nothing keeps it, and then the parents that nothing else keeps. */
void plain_nodes_release(struct plain_nodes *t, struct plain_node *node);
/* Takes n references away; an unknown id or too large an n is no error. */
void plain_nodes_forget(struct plain_nodes *t, uint64_t id, uint64_t n);

/* Takes the node's name away. The node may be freed. */
void plain_nodes_detach(struct plain_nodes *t, struct plain_node *node);
/* Gives the node another name, which must be free. -ENOMEM: the node is detached instead. */
int plain_nodes_move(struct plain_nodes *t, struct plain_node *node, struct plain_node *parent,
		     struct slice name);

bool plain_nodes_attached(const struct plain_nodes *t, const struct plain_node *node);

/*
 * The path of a node, or of name in it when name.len > 0, in *buf, which is
 * grown with realloc. -ESTALE: the node or one above it is detached.
 */
int plain_nodes_path(const struct plain_nodes *t, const struct plain_node *node, struct slice name,
		     char **buf, size_t *cap, struct slice *ret);

/* The clock of `sure`. */
uint64_t plain_now_ms(void);

/* An inode number where the server gives none: a hash of the path, neither 0 nor 1. */
uint64_t plain_path_ino(struct slice path);
