#include "fuse/channel.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/log.h"
#include "core/outlive.h"
#include "fuse/fs_priv.h"

#define PAGE 4096

static ssize_t device_receive(struct channel *c, void *buf, size_t len)
{
	return read(c->fd, buf, len);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
#define INTERPOSES /* writev(3): see below */
#endif

static ssize_t write_all(int fd, const struct iovec *iov, int count)
{
#ifdef INTERPOSES
	return syscall(SYS_writev, fd, iov, count);
#else
	return writev(fd, iov, count); /* in which ThreadSanitizer sees what the kernel orders */
#endif
}

static ssize_t device_send(struct channel *c, const struct iovec *iov, int count)
{
	return write_all(c->fd, iov, count);
}

struct channel channel_device(int fd)
{
	return (struct channel){.receive = device_receive, .send = device_send, .fd = fd};
}

void channel_error(struct channel *c, uint64_t unique, int err)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = -err, .unique = unique};
	const struct iovec iov = {&out, sizeof(out)};

	if (c->send(c, &iov, 1) < 0) {
		/* it was answered meanwhile */
	}
}

/*
 * A request that the kernel cannot copy here gets EIO (fuse_dev_do_read), and while a process is
 * being killed it copies to no page that is yet to be made.
 */
static void make_pages(void *buf, size_t len)
{
	volatile unsigned char *p = buf;

	for (size_t at = 0; at < len; at += PAGE)
		p[at] = 0;
	p[len - 1] = 0;
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	struct fs *fs = userdata;

	(void)fd;
	if (outlive != NULL)
		make_pages(buf, len);
	return fs->channel->receive(fs->channel, buf, len);
}

/*
 * All that libfuse sends, notifications included. INIT gets what this libfuse
 * has no name for. A reply that the kernel refuses (fuse_dev_do_write: EINVAL)
 * would leave its request waiting for ever, unkillable: that gets EIO, and
 * libfuse hears that nobody waits any more.
 */
static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fs *fs = userdata;
	const struct fuse_out_header *reply = iov[0].iov_base;

	(void)fd;
	if (fs->replaying)
		return reply->len;
	account_end(fs, iov, count);
	init_reply(iov, count);
	ssize_t n = fs->channel->send(fs->channel, iov, count);

	if (n < 0 && errno == EINVAL && reply->unique != 0) {
		log_err("the kernel refuses a reply of %u bytes, error %d: it gets EIO", reply->len,
			-reply->error);
		channel_error(fs->channel, reply->unique, EIO);
		errno = ENOENT;
	}
	return n;
}

#ifdef INTERPOSES
/*
 * From 3.18 on libfuse may be built without fuse_session_custom_io, as Debian's is. It reads and
 * writes the mount's descriptor by itself then, the latter with writev(3): this one, which a
 * program's dynamic linker finds first.
 */
static _Atomic(struct fs *) interposed;

ssize_t writev(int fd, const struct iovec *iov, int count)
{
	struct fs *fs = interposed;

	if (fs == NULL || fd != fs->channel->fd)
		return write_all(fd, iov, count);
	return io_writev(fd, (struct iovec *)(uintptr_t)iov, count, fs);
}

static int interpose(struct fs *fs)
{
	if (!fs->mounted) /* what is no mount's descriptor has to be read by custom_io */
		return -EOPNOTSUPP;
	interposed = fs;
	return 0;
}

void channel_detach(struct fs *fs)
{
	struct fs *mine = fs;

	(void)atomic_compare_exchange_strong(&interposed, &mine, NULL);
}
#else
static int interpose(struct fs *fs)
{
	(void)fs;
	return -EOPNOTSUPP;
}

void channel_detach(struct fs *fs)
{
	(void)fs;
}
#endif

int channel_attach(struct fs *fs)
{
	static const struct fuse_custom_io io = {.read = io_read, .writev = io_writev};

	return fuse_session_custom_io(fs->se, &io, fs->channel->fd) == 0 ? 0 : interpose(fs);
}
