/*
 * The objects that clients know: server node ids, and descriptors for them.
 *
 * One table for all sessions. An id is never used again within a table, so
 * whoever kept one too long gets ESTALE and never another file. A node is its
 * identity (filesystem.h); how it is called plays no part, except that where
 * it cannot be opened by handle, or nobody sees it moved, its last parent and
 * name are kept to find it.
 *
 * References: a session holds one per node it was told of (its own count of
 * replies is its business), every operation one while it runs, every open
 * file and lock one. At zero the node goes.
 *
 * Descriptors: hnode_pin gives an O_PATH descriptor of the object that is valid
 * until hnode_unpin. At most a bounded number is kept for later; the others
 * are opened again: by handle, else by looking the name up in the parent and
 * comparing identities (-ESTALE if that is something else now).
 *
 * Confinement: RESOLVE_BENEATH only looks at the way down from a descriptor. A
 * node that the host has moved out of the export, or that lies below one, is
 * therefore refused with -ESTALE at each use (hnode_pin), and looked for again
 * after a change (hnode_inside). Where it is, its ".." tell, and of a file the
 * name that the kernel has for its descriptor. Where every rename on the file
 * systems concerned is seen (hnodes_on_use) the remembered parents tell as much,
 * once all that was renamed before has been read.
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

/* How many renames have been seen: what was found since is still there if they are as many. */
uint64_t hnodes_seen(const struct hnodes *t);

/*
 * The node of an object or open file, made if there is none; the caller gets
 * a reference. parent and name: where it was found, NULL for the root or a
 * file without a name. seen: hnodes_seen from before it was looked for there.
 */
int hnodes_intern(struct hnodes *t, int fd, struct hnode *parent, const char *name, uint64_t seen,
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
/* Events would be told to be about it, and there would be one for each change. */
bool hnode_watchable(const struct hnodes *t, const struct hnode *n);
bool hnode_by_handle(struct hnodes *t, const struct hnode *n); /* it needs no name to be found */

/*
 * Draws the version of the attributes that are read next: two replies about
 * one node are ordered by it, so it comes before the statx.
 */
uint64_t hnode_version(struct hnode *n);

/* -ESTALE if it is not in the export. */
int hnode_pin(struct hnodes *t, struct hnode *n, int *ret_fd);
/* The same, but a regular file that is open may be anywhere. */
int hnode_pin_open(struct hnodes *t, struct hnode *n, int *ret_fd);
/* Of a pinned one: 0 if it still is in the export, -ESTALE if not. */
int hnode_inside(struct hnodes *t, struct hnode *n, int fd);
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
 * Set before any use, by who sees each rename on the file systems that it watches:
 * catch_up returns when those that had returned before have been told of.
 */
void hnodes_on_use(struct hnodes *t, void (*catch_up)(void *arg), void *arg);
/*
 * Something was renamed on the host, be it known or not; before hnode_moved of it. Or a call of
 * ours has put something where the host had moved the directory out.
 */
void hnodes_moved(struct hnodes *t, bool is_dir);
/* Renames may have been missed, or mounts have changed: nobody knows where anything is. */
void hnodes_lost(struct hnodes *t);
/* The host has moved n: to the directory with this handle (NULL: nobody knows where). */
struct file_handle;
void hnode_moved(struct hnodes *t, struct hnode *n, bool is_dir, const struct file_handle *to,
		 const char *name);

/*
 * The node is called so now, after a rename or link of ours; parent NULL if nobody knows the
 * directory. seen: from before that.
 */
void hnode_renamed(struct hnodes *t, struct hnode *n, struct hnode *parent, const char *name,
		   uint64_t seen);

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
