/*
 * What this guest has set of a file and the server's protocol has no words
 * for: times, owners, modes. It is kept here for the life of the mount and
 * shown instead of what the server tells.
 *
 * What is kept belongs to the node, moves with its name, and goes when the name does, or
 * when the server's size, mtime or inode number shows that somebody else has
 * changed the file: then the server's word counts again. Our own changes of
 * content move size and mtime as well: plain_kept_changed takes the next that
 * are told for ours. An mtime that was set ends with such a change.
 *
 * Somebody else's change within the same second that leaves the size alone is
 * not seen. One thread only, as plain_nodes.h.
 */
#pragma once

#include "core/msg.h"

#define PLAIN_KEPT_MAX (1u << 20) /* files of one mount of which something is kept: ENOSPC */

struct plain_node;
struct plain_stat;
struct plain_work;

/* Values that may be kept: bits of SETATTR's valid. */
#define PLAIN_KEPT_VALUES (SET_MODE | SET_UID | SET_GID | SET_ATIME | SET_MTIME)

/*
 * Keeps those of `valid` that the node's attributes, just told by the server,
 * do not show already, and shows them. 0, -ENOMEM, -ENOSPC.
 */
int plain_kept_set(struct plain_work *w, struct plain_node *node, uint64_t valid,
		   const struct attr *values);
/* The server is about to be told these: what was kept of them counts no more. */
void plain_kept_forget(struct plain_node *node, uint64_t valid);
/* node->attr has just been made of st: shows what is kept, or lets it go. */
void plain_kept_show(struct plain_node *node, const struct plain_stat *st);
/* We have changed content, or names in a directory. */
void plain_kept_changed(struct plain_node *node);
/* A further name of the same file. */
int plain_kept_copy(struct plain_work *w, const struct plain_node *from, struct plain_node *to);
void plain_kept_drop(struct plain_node *node);
