/* Readable directory descriptors, kept between two READDIRPLUS of a session. */
#pragma once

#include <stdint.h>

struct dirs;
struct export;
struct hnode;

int dirs_new(struct dirs **ret);
void dirs_free(struct dirs *d);
/* One of the node that nobody uses, or a new one; off is set already. */
int dirs_take(struct dirs *d, const struct export *e, struct hnode *node, int object, uint64_t off,
	      int *ret_fd);
/* As lseek(2); -ENOENT if the directory has been removed: ext4 then refuses most offsets (EINVAL).
 */
int dirs_seek(int fd, uint64_t off);
/* Keeps fd, which stands at off, for the next; takes it over. */
void dirs_give(struct dirs *d, struct hnode *node, int fd, uint64_t off);
void dirs_forget(struct dirs *d, uint64_t node_id);
