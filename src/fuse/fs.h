/*
 * The FUSE adapter: one mount, from the kernel's requests to the cache and
 * back.
 *
 * Calling sequence: fs_mount (the mount exists; the kernel's requests wait),
 * fs_run (answers them until the mount goes), fs_free. fs_stop makes fs_run
 * return by unmounting; it may be called from any thread, but not from a
 * signal handler.
 *
 * Threads started by fs_run: a few workers that read /dev/fuse and never wait
 * for the host, and one that watches interrupted requests and the lease; the
 * notifiers (notify.h) and the control thread begin with fs_mount. Completions
 * come on the reader thread of the backend.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/cache.h"

struct fs;

struct fs_options {
	const char *fsname;	 /* what mount(8) shows as the source */
	const char *mount_flags; /* generic mount options, "ro,nosuid"; or "" */
	bool allow_other;
	bool read_only;
	bool host_locks; /* POSIX and BSD locks are the host's; else the guest kernel's */
	bool no_open; /* the kernel opens without asking; of a leased cache, and without host_locks
		       */
	bool xattr;
	bool acl; /* the kernel checks access by POSIX ACLs; with xattr, of a server that has them
		   */
	bool map_ids; /* show the server's account as uid:gid, two-way */
	uint32_t uid, gid;
	uint32_t umask; /* mode bits that are hidden and never set */
	unsigned max_background;
	unsigned readahead; /* bytes; 0 leaves the kernel's */
	bool debug;
	bool takes_over; /* in the place of a client that was killed: there is a mount already, */
	int device_fd;	 /* whose /dev/fuse this is */
	/* Starts the program again in the mount; tells the peer fd of the control socket how that
	 * went. False: that cannot be. */
	bool (*restart)(int fd);
	struct stats *stats;
};

/* 0 or -errno with one line in err. The cache stays the caller's. */
int fs_mount(struct cache *cache, const struct fs_options *options, const char *mountpoint,
	     struct fs **ret, char *err, size_t err_len);

/*
 * ioctl(2) on anything in the mount: waits until everything that had returned on the host before
 * is visible in the mount: what the server tells of has come, and what is kept by time only is
 * dropped. *arg is the server's invalidation sequence. ENOTCONN without a link.
 */
#define VSOCKFS_IOC_FENCE 0x80085601u /* _IOR('V', 1, uint64_t) */

/* The number of the FUSE connection; 0 if it is not known. */
unsigned fs_connection(const struct fs *fs);

/* The descriptor of /dev/fuse. */
int fs_device(const struct fs *fs);
/*
 * Between fs_mount that takes over and fs_run: what the kernel had sent to the client of before,
 * and was not answered, is submitted, and all that the kernel keeps is taken back. 0 or -errno.
 */
int fs_take_over(struct fs *fs);

int fs_run(struct fs *fs);
void fs_stop(struct fs *fs);
void fs_free(struct fs *fs);
