/*
 * The file systems that the export crosses: what identifies an object in
 * them, and inode numbers that do not collide.
 *
 * One entry per mount, not per device: a file that is bound at a second place
 * is another object there, because that mount may be read-only, and opening by
 * handle goes through a mount. Thread-safe; a mount once seen stays until
 * filesystems_free and keeps one fd, so that the host cannot unmount it
 * meanwhile. Three facts about each mount are found out by trying: whether the
 * file system has file handles, whether this process may open files by them
 * (CAP_DAC_READ_SEARCH), and whether close(2) reports errors.
 */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct filesystems;

/*
 * Identifies the object behind a descriptor, whatever the object's names are: two
 * descriptors are the same object if all members are equal. An identity is a file
 * handle, whose generation tells a reused inode number, or, where there are no
 * handles, device, inode number and birth time.
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

/* fd: an object or an open file. Costs one name_to_handle_at(2) where the file system has
 * handles. */
int filesystems_identify(struct filesystems *t, int fd, struct identity *ret);
/*
 * Identifies the object that has a name, without opening the object. -ENOENT: there is
 * no such name. Any other error: the object has to be opened first. Follows no link.
 */
int filesystems_identify_at(struct filesystems *t, int dirfd, const char *name,
			    struct identity *ret);
/* A hash of an object's handle, without the mount: a file system's events name objects so. */
uint64_t identity_handle_hash(int32_t type, const void *bytes, uint32_t len);
uint64_t identity_hash(const struct identity *id, uint64_t seed);

/*
 * An object by its identity. -EOPNOTSUPP where it must be looked up by name
 * instead (identity_by_handle false), -ESTALE if it does not exist any more.
 * Does not check that the object is inside the export: the caller does.
 */
int filesystems_open(struct filesystems *t, const struct identity *id, int *ret_fd);
bool filesystems_by_handle(struct filesystems *t, uint32_t fs);
/* f_fsid of statfs(2), which is the same for the next process. */
uint64_t filesystems_fsid(const struct filesystems *t, uint32_t fs);

/*
 * Registers the watcher: mark(arg, fd) is called for each file system that is known, and
 * for each new one before any object on it is identified; mark returns true if changes
 * on the file system will be seen. With NULL, as at the beginning, nobody watches.
 */
void filesystems_watch(struct filesystems *t, bool (*mark)(void *arg, int fd), void *arg);
/* True if the file system has file handles, by which events name objects, and cannot be changed
 * from another machine. */
bool filesystems_watchable(const struct filesystems *t, uint32_t fs);
bool filesystems_watched(const struct filesystems *t, uint32_t fs);
bool filesystems_all_watched(const struct filesystems *t);
/*
 * The mounts of one file system, for its events: the number of the next one
 * from *at on with this fsid (f_fsid of statfs(2)), and *at moved behind it.
 */
bool filesystems_next(const struct filesystems *t, const void *fsid, uint32_t *at, uint32_t *ret);

/* True if close(2) on this file system may report an error that write(2) did not report. */
bool filesystems_flush(struct filesystems *t, uint32_t fs);

/*
 * st_ino of the exported directory's own device as it is, of others in a
 * range of their own: two objects never share a number.
 */
uint64_t filesystems_ino(struct filesystems *t, dev_t dev, uint64_t ino);
