/*
 * The objects that clients know: server node ids, and descriptors for them.
 *
 * One table for all sessions. An id is never used again within a table, so
 * whoever kept one too long gets ESTALE and never another file. A node is its
 * identity (filesystem.h); how it is called plays no part, except that where
 * it cannot be opened by handle its last parent and name are kept to find it.
 *
 * References: a session holds one per node it was told of (its own count of
 * replies is its business), every operation one while it runs, every open
 * file and lock one. At zero the node goes.
 *
 * Descriptors: hnode_pin gives an O_PATH descriptor of the object that is valid
 * until hnode_unpin. At most a bounded number is kept for later; the others
 * are opened again: by handle, else by looking the name up in the parent and
 * comparing identities (-ESTALE if that is something else now). A directory
 * that comes back by handle must be inside the export.
 *
 * Thread-safe; one mutex in the table, never held across a system call that
 * could wait for a disk. The functions return 0 or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/msg.h"

struct export;
struct hnode;
struct hnodes;

/* fd_max: descriptors kept. e is borrowed. */
int hnodes_new(const struct export *e, size_t fd_max, struct hnodes **ret);
/* Every reference must have been given back. */
void hnodes_free(struct hnodes *t);

/*
 * The node of an object or open file, made if there is none; the caller gets
 * a reference. parent and name: where it was found, NULL for the root or a
 * file without a name.
 */
int hnodes_intern(struct hnodes *t, int fd, struct hnode *parent, const char *name,
		  struct hnode **ret);

/* Only if it is known already; -ENOENT if not. */
int hnodes_find(struct hnodes *t, int fd, struct hnode **ret);

/*
 * The node that a name of a directory is, pinned, if it is known and its
 * descriptor open: one system call instead of three for a look-up that only
 * confirms what the client knew. -ENOENT: there is no such name. -EAGAIN: it
 * has to be opened and interned.
 */
int hnodes_find_at(struct hnodes *t, struct hnode *dir, int dirfd, const char *name,
		   struct hnode **ret, int *ret_fd);

/*
 * The node that an event is about, on each of the file system's mounts: *at is
 * 0 to begin with; NULL when there are no more. Most events are about objects
 * that nobody knows, and cost no lock.
 */
struct hnode *hnodes_find_event(struct hnodes *t, const void *fsid, int32_t handle_type,
				const void *handle, uint32_t handle_len, uint32_t *at);

void hnode_ref(struct hnode *n);
void hnode_unref(struct hnodes *t, struct hnode *n); /* NULL is allowed */

uint64_t hnode_id(const struct hnode *n);
bool hnode_flush(struct hnodes *t, const struct hnode *n);	   /* see filesystems_flush */
bool hnode_watched(const struct hnodes *t, const struct hnode *n); /* its file system has a mark */
bool hnode_has_handle(const struct hnode *n); /* events can be told to be about it */
bool hnode_by_handle(struct hnodes *t, const struct hnode *n); /* it needs no name to be found */

/*
 * Draws the version of the attributes that are read next: two replies about
 * one node are ordered by it, so it comes before the statx.
 */
uint64_t hnode_version(struct hnode *n);

int hnode_pin(struct hnodes *t, struct hnode *n, int *ret_fd);
void hnode_unpin(struct hnodes *t, struct hnode *n);

/* Offers an O_PATH descriptor to be kept; takes it over in any case. */
void hnode_offer(struct hnodes *t, struct hnode *n, int fd);

/*
 * The object is losing a name, or never had one: keep this descriptor (taken
 * over) until the node goes, because no name and maybe no handle leads back.
 */
void hnode_keep(struct hnodes *t, struct hnode *n, int fd);

/*
 * Where each object has a mark of its own instead of its file system: those
 * of a directory also see the files in it, unless they have further names.
 */
bool hnode_covered(struct hnodes *t, const struct hnode *n);
/* n has a mark now. fd is its object: it stays open, and is what is given to unmark. */
int hnode_marked(struct hnodes *t, struct hnode *n, int fd); /* 1: it had one already */
/* Set before any mark. unmark is called, with the mutex held, when a node with a mark goes. */
void hnodes_on_unmark(struct hnodes *t, void (*unmark)(void *arg, int fd), void *arg);
/* n is no directory, was found in a directory with a mark, and has, or has not, other names. */
void hnode_cover_by_parent(struct hnodes *t, struct hnode *n, bool alone);

/*
 * The host has moved n: to the directory with this handle (NULL: nobody knows
 * where). What is no longer inside, with everything below it, is -ESTALE from
 * now on, but for regular files that are open.
 */
struct file_handle;
void hnode_moved(struct hnodes *t, struct hnode *n, const struct file_handle *to, const char *name);

/* The node is called so now, after a rename or link of ours. */
void hnode_renamed(struct hnodes *t, struct hnode *n, struct hnode *parent, const char *name);

/* An open file of the node, from which the node can be reached as well. The caller owns it. */
struct hnode_user {
	struct hnode_user *next, *prev;
	int fd;
};
void hnode_attach(struct hnodes *t, struct hnode *n, struct hnode_user *u);
void hnode_detach(struct hnodes *t, struct hnode *n, struct hnode_user *u);

/* For statistics and tests. */
size_t hnodes_count(struct hnodes *t);
size_t hnodes_open(struct hnodes *t);
