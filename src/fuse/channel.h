/*
 * The way to the kernel and back: whole messages of <linux/fuse.h>. That of a mount is
 * /dev/fuse; the unit tests have a kernel of their own behind it.
 *
 * Both functions are called by any number of threads at a time, and fail as the system calls
 * do, with -1 and errno.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct fs;

struct channel {
	/* Waits for the next request; 0: the mount has gone. EINTR by a signal. */
	ssize_t (*receive)(struct channel *c, void *buf, size_t len);
	/*
	 * A reply, or (unique 0) a notification. ENOENT: nobody waits for the reply, or the kernel
	 * knows no such inode or name. A notification may wait for an answer of ours.
	 */
	ssize_t (*send)(struct channel *c, const struct iovec *iov, int count);
	int fd; /* what libfuse takes for the session's, and closes */
};

/* The channel of a descriptor of /dev/fuse. */
struct channel channel_device(int fd);

/*
 * From now on all that libfuse writes goes through fs->channel, and what it reads, unless that
 * is a mount's. 0 or -errno. One mount of a process at a time. channel_detach: before the session
 * goes.
 */
int channel_attach(struct fs *fs);
void channel_detach(struct fs *fs);

/* Answers with an error (errno) past libfuse. */
void channel_error(struct channel *c, uint64_t unique, int err);
