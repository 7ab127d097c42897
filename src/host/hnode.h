/*
 * The objects that clients know: server node ids, and descriptors for them.
 *
 * One table for all sessions. An id is never used again within a table, so
 * a client that kept an id too long gets ESTALE and never another file. A node is
 * an object's identity (filesystem.h), whatever the object's names are. Only where
 * the object cannot be opened by handle, or moving it raises no event, the node
 * keeps the object's last parent and name to find it.
 *
 * References: a session holds one for each node that its client was told of (the
 * session itself counts in how many replies), every operation one while it runs,
 * every open file and lock one. A node without references is freed.
 *
 * Descriptors: hnode_pin gives an O_PATH descriptor of the object that is valid
 * until hnode_unpin. At most a bounded number is kept for later; the others
 * are opened again: by handle, else by looking the name up in the parent and
 * comparing identities (-ESTALE if that is something else now).
 *
 * Confinement: RESOLVE_BENEATH only looks at the way down from a descriptor. A
 * node that the host has moved out of the export, or that lies below one, is
 * therefore refused with -ESTALE at each use (hnode_pin), and looked for again
 * after a change (hnode_inside). The place of a directory is found by its "..", that
 * of a file by the path that the kernel has for its descriptor. Where every rename on
 * the file systems concerned is seen (hnodes_on_use), the remembered parents are used
 * instead, after the events of all earlier renames have been read.
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

/* fd_max: how many descriptors are kept. e is borrowed. */
int hnodes_new(const struct export *e, size_t fd_max, struct hnodes **ret);
/* Every reference must have been given back. */
void hnodes_free(struct hnodes *t);

/*
 * From now on a node is in the state for as long as a session has been told of it whose record is
 * in there. Before any node is made.
 */
struct state;
void hnodes_use_state(struct hnodes *t, struct state *state);
void hnode_told(struct hnodes *t, struct hnode *n, uint32_t session);
void hnode_untold(struct hnodes *t, struct hnode *n, uint32_t session);
/*
 * A node of the state, which a server before this one had; the caller gets a reference. -ESTALE: it
 * is on another file system than `like`, an object of the export. Where it was seen last is to be
 * told when its parent is there as well.
 */
int hnodes_restore(struct hnodes *t, uint32_t record, int like, struct hnode **ret);
void hnode_restore_place(struct hnodes *t, struct hnode *n, struct hnode *parent);

/* How many renames have been seen. A place found at a certain number is true while that number is
 * the same. */
uint64_t hnodes_seen(const struct hnodes *t);

/*
 * The node of an object or open file, made if there is none; the caller gets
 * a reference. parent and name: where it was found, NULL for the root or a
 * file without a name. seen: hnodes_seen from before it was looked for there.
 */
int hnodes_intern(struct hnodes *t, int fd, struct hnode *parent, const char *name, uint64_t seen,
		  struct hnode **ret);

/* The node of an object or open file if there is one already; -ENOENT if not. */
int hnodes_find(struct hnodes *t, int fd, struct hnode **ret);

/*
 * The node that has a name in a directory, pinned, if the node is known and its
 * descriptor open: one system call instead of three for a look-up that only
 * confirms what the client knew. -ENOENT: there is no such name. -EAGAIN: the
 * object has to be opened and interned.
 */
int hnodes_find_at(struct hnodes *t, struct hnode *dir, int dirfd, const char *name,
		   struct hnode **ret, int *ret_fd);

/*
 * The node that an event is about, on each of the file system's mounts: *at is
 * 0 to begin with; NULL when there are no more. Most events are about objects
 * that no client knows: these cost no lock.
 */
struct hnode *hnodes_find_event(struct hnodes *t, const void *fsid, int32_t handle_type,
				const void *handle, uint32_t handle_len, uint32_t *at);

void hnode_ref(struct hnode *n);
void hnode_unref(struct hnodes *t, struct hnode *n); /* NULL is allowed */

uint64_t hnode_id(const struct hnode *n);
bool hnode_flush(struct hnodes *t, const struct hnode *n);	   /* see filesystems_flush */
bool hnode_watched(const struct hnodes *t, const struct hnode *n); /* its file system has a mark */
/* True if each change of the object raises an event that names the object. */
bool hnode_watchable(const struct hnodes *t, const struct hnode *n);
/* True if the object is opened by its handle, and needs no name to be found. */
bool hnode_by_handle(struct hnodes *t, const struct hnode *n);
/*
 * True if the server found the object by its handle alone, and knew no true name of it: Landlock
 * refuses to open it until it is looked up.
 */
bool hnode_unnamed(struct hnodes *t, const struct hnode *n);

/*
 * Draws the version of the attributes that are read next. Versions order two replies
 * about one node, so this call comes before the statx.
 */
uint64_t hnode_version(struct hnode *n);

/* -ESTALE if the object is not in the export. */
int hnode_pin(struct hnodes *t, struct hnode *n, int *ret_fd);
/* The same, but a regular file that is open may be anywhere. */
int hnode_pin_open(struct hnodes *t, struct hnode *n, int *ret_fd);
/* n is pinned: 0 if its object is still in the export, -ESTALE if not. */
int hnode_inside(struct hnodes *t, struct hnode *n, int fd);
void hnode_unpin(struct hnodes *t, struct hnode *n);

/* Offers an O_PATH descriptor to be kept; takes the descriptor over in any case. */
void hnode_offer(struct hnodes *t, struct hnode *n, int fd);

/*
 * The object is losing a name, or never had one: keep this descriptor (taken
 * over) until the node goes, because no name and maybe no handle leads back.
 */
void hnode_keep(struct hnodes *t, struct hnode *n, int fd);

/*
 * True if changes of n are seen, where objects have marks of their own instead of one for the whole
 * file system. A directory's mark also sees the files in the directory, unless they have further
 * names.
 */
bool hnode_covered(struct hnodes *t, const struct hnode *n);
/* n has a mark now. fd is a descriptor of its object, which stays open and is given to unmark. */
int hnode_marked(struct hnodes *t, struct hnode *n, int fd); /* 1: n had a mark already */
/* To be set before any mark. unmark is called, with the mutex held, when a node with a mark is
 * freed. */
void hnodes_on_unmark(struct hnodes *t, void (*unmark)(void *arg, int fd), void *arg);
/* n is no directory, was found in a directory with a mark, and has, or has not, other names. */
void hnode_cover_by_parent(struct hnodes *t, struct hnode *n, bool alone);

/*
 * To be set before any use, by a watcher that sees each rename on the file systems that it watches:
 * catch_up returns when all renames that had returned before have been told of.
 */
void hnodes_on_use(struct hnodes *t, void (*catch_up)(void *arg), void *arg);
/*
 * Something was renamed on the host, be it a known node or not; called before hnode_moved of that
 * node. Also called when this server has put an object into a directory that the host had moved out
 * of the export.
 */
void hnodes_moved(struct hnodes *t, bool is_dir);
/* Renames may have been missed, or mounts have changed: nobody knows where anything is. */
void hnodes_lost(struct hnodes *t);
/* The host has moved n: to the directory with this handle (NULL: nobody knows where). */
struct file_handle;
void hnode_moved(struct hnodes *t, struct hnode *n, bool is_dir, const struct file_handle *to,
		 const char *name);

/*
 * The node has this name now, after a rename or link by this server; parent NULL if the directory
 * is not known. seen: hnodes_seen from before the call.
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

/* The number of nodes, for statistics and tests. */
size_t hnodes_count(struct hnodes *t);
size_t hnodes_open(struct hnodes *t);
