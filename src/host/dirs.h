/* Readable directory descriptors, kept between two READDIRPLUS of a session. */
#pragma once

#include <stdint.h>

struct dirs;
struct export;
struct hnode;

int dirs_new(struct dirs **ret);
void dirs_free(struct dirs *d);
/* A descriptor of the node that no other thread uses, kept or new, positioned at off. */
int dirs_take(struct dirs *d, const struct export *e, struct hnode *node, int object, uint64_t off,
	      int *ret_fd);
/* As lseek(2), but -ENOENT if the directory has been removed, for which ext4 refuses most offsets
 * with EINVAL. */
int dirs_seek(int fd, uint64_t off);
/* Takes over fd, which is positioned at off, and keeps it for the next dirs_take. */
void dirs_give(struct dirs *d, struct hnode *node, int fd, uint64_t off);
void dirs_forget(struct dirs *d, uint64_t node_id);
