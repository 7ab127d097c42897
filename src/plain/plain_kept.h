/*
 * Values that this guest has set of a file and cannot tell the server: times, owners,
 * modes. They are kept here for the life of the mount, and shown instead of the server's.
 *
 * Kept values belong to the node and move with its name. They end with the name, or when
 * the server's size, mtime or inode number shows that another process has changed the
 * file: then the server's values are shown again. This client's own changes of content
 * change size and mtime as well: after plain_kept_changed, the next size and mtime that
 * the server tells count as this client's. An mtime that was set ends with such a change.
 *
 * A change by another process within the same second, which leaves the size, is not seen.
 * One thread only, as plain_nodes.h.
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
 * Keeps, and shows, the values of `valid` that the node's attributes, just told by the
 * server, do not have already. 0, -ENOMEM, -ENOSPC.
 */
int plain_kept_set(struct plain_work *w, struct plain_node *node, uint64_t valid,
		   const struct attr *values);
/* The server is about to be told these values: they are not kept any more. */
void plain_kept_forget(struct plain_node *node, uint64_t valid);
/* node->attr has just been made from st: shows the kept values instead, or drops them. */
void plain_kept_show(struct plain_node *node, const struct plain_stat *st);
/* This client has changed the content, or names in a directory. */
void plain_kept_changed(struct plain_node *node);
/* `to` is another name of the same file. */
int plain_kept_copy(struct plain_work *w, const struct plain_node *from, struct plain_node *to);
void plain_kept_drop(struct plain_node *node);
