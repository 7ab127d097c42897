/*
 * The file systems that the export crosses: what identifies an object in
 * them, and inode numbers that do not collide.
 *
 * One entry per mount, not per device: a file that is bound at a second place
 * is another object there, because that mount may be read-only, and opening by
 * handle goes through a mount. Thread-safe; a mount once seen stays until
 * filesystems_free and keeps one fd, so that the host cannot unmount it
 * meanwhile. What is found out about each, by trying: whether it has file
 * handles, whether this process may open by them (CAP_DAC_READ_SEARCH), and
 * whether it reports errors at close(2).
 */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct filesystems;

/*
 * Which object a descriptor is, whatever it is called: the same if every
 * member is. Either a file handle, whose generation tells a reused inode
 * number, or device, inode number and birth time where there are no handles.
 */
struct identity {
	uint32_t fs;
	int32_t type; /* handle_type, or IDENTITY_INODE */
	uint32_t len;
	unsigned char bytes[MAX_HANDLE_SZ];
};
#define IDENTITY_INODE (-1000)

/* root: an object of the exported directory; proc: a fd of /proc/self/fd. Both are borrowed. */
int filesystems_new(int root, int proc, struct filesystems **ret);
void filesystems_free(struct filesystems *t);

/* fd: an object or an open file. One name_to_handle_at(2) where the file system has handles. */
int filesystems_identify(struct filesystems *t, int fd, struct identity *ret);
/*
 * What a name is, without opening it: 0, -ENOENT if there is nothing, any
 * other error if it has to be opened for that. Follows no link.
 */
int filesystems_identify_at(struct filesystems *t, int dirfd, const char *name,
			    struct identity *ret);
/* Of what a file system's events tell of an object: its handle, not through which mount. */
uint64_t identity_handle_hash(int32_t type, const void *bytes, uint32_t len);
uint64_t identity_hash(const struct identity *id, uint64_t seed);

/*
 * An object by its identity. -EOPNOTSUPP where it must be looked up by name
 * instead (identity_by_handle false), -ESTALE if it does not exist any more.
 * Takes no notice of where the object is: the export's caller checks that.
 */
int filesystems_open(struct filesystems *t, const struct identity *id, int *ret_fd);
bool filesystems_by_handle(struct filesystems *t, uint32_t fs);

/*
 * Whoever watches for changes: mark(arg, fd) is called for each file system that is
 * known and for each new one before anything on it is identified; true if changes
 * on it will be seen. NULL: nobody watches, as at the beginning.
 */
void filesystems_watch(struct filesystems *t, bool (*mark)(void *arg, int fd), void *arg);
/* The file system has file handles, which is what events name, and nobody changes it from
 * elsewhere. */
bool filesystems_watchable(const struct filesystems *t, uint32_t fs);
bool filesystems_watched(const struct filesystems *t, uint32_t fs);
bool filesystems_all_watched(const struct filesystems *t);
/*
 * The mounts of one file system, for its events: the number of the next one
 * from *at on with this fsid (f_fsid of statfs(2)), and *at moved behind it.
 */
bool filesystems_next(const struct filesystems *t, const void *fsid, uint32_t *at, uint32_t *ret);

/* close(2) on this file system may report an error that write(2) did not. */
bool filesystems_flush(struct filesystems *t, uint32_t fs);

/*
 * st_ino of the exported directory's own device as it is, of others in a
 * range of their own: two objects never share a number.
 */
uint64_t filesystems_ino(struct filesystems *t, dev_t dev, uint64_t ino);
