/* INIT: what is agreed with the kernel. */
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>

#include "core/log.h"
#include "core/outlive.h"
#include "fuse/fs_priv.h"

/* Of newer kernels' <linux/fuse.h>. */
#define INIT_EXT		   (1u << 30)
#define INIT2_DIRECT_IO_ALLOW_MMAP (1u << (36 - 32))

static void agree_on(struct fuse_conn_info *conn, unsigned cap, bool yes)
{
	if (yes)
		conn->want |= conn->capable & cap;
	else
		conn->want &= ~cap;
}

void init_agree(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	agree_on(conn, FUSE_CAP_ASYNC_READ, true);
	/* without OPEN nobody would truncate: then SETATTR does */
	agree_on(conn, FUSE_CAP_ATOMIC_O_TRUNC, !fs->options.no_open);
	agree_on(conn, FUSE_CAP_PARALLEL_DIROPS, true);
	agree_on(conn, FUSE_CAP_ASYNC_DIO, true);
	/* a default ACL on the host takes the place of the umask: only there is it known */
	agree_on(conn, FUSE_CAP_DONT_MASK, fs->server->umask);
	fs->masks = (conn->want & FUSE_CAP_DONT_MASK) != 0;
	agree_on(conn, FUSE_CAP_POSIX_ACL, fs->options.acl);
	/*
	 * Without a server that tells of changes a new mtime must drop the pages;
	 * with one, the guest's own writes must not.
	 */
	bool leased = cache_leased(fs->cache);
	agree_on(conn, FUSE_CAP_AUTO_INVAL_DATA, !leased);
	agree_on(conn, FUSE_CAP_EXPLICIT_INVAL_DATA, leased);
	agree_on(conn, FUSE_CAP_CACHE_SYMLINKS, leased);
	agree_on(conn, FUSE_CAP_EXPIRE_ONLY, true);
	agree_on(conn, FUSE_CAP_IOCTL_DIR, true);
	fs->expire_entries = (conn->capable & FUSE_CAP_EXPIRE_ONLY) != 0;
	agree_on(conn, FUSE_CAP_READDIRPLUS, true);
	agree_on(conn, FUSE_CAP_READDIRPLUS_AUTO, false); /* always: a LOOKUP each costs more */
	agree_on(conn, FUSE_CAP_POSIX_LOCKS, fs->options.host_locks);
	agree_on(conn, FUSE_CAP_FLOCK_LOCKS, fs->options.host_locks);
	agree_on(conn, FUSE_CAP_SPLICE_READ, false); /* a WRITE keeps its receive buffer */
	agree_on(conn, FUSE_CAP_WRITEBACK_CACHE,
		 false); /* never: the kernel would trust its own size */
	agree_on(conn, FUSE_CAP_HANDLE_KILLPRIV,
		 false); /* the guest's kernel clears suid and sgid */
	conn->max_write = MSG_PAYLOAD_MAX;
	conn->max_readahead = fs->options.readahead > 0 ? fs->options.readahead : 1u << 17;
	conn->max_background = fs->options.max_background;
	conn->congestion_threshold = fs->options.max_background * 3 / 4;
	conn->time_gran = 1;
}

/* The request that this thread handles. */
struct init_seen {
	bool is_init;
	uint32_t flags, flags2;
};
static _Thread_local struct init_seen init_seen;

void init_begin(const struct fuse_in_header *in)
{
	const struct fuse_init_in *arg = (const void *)(in + 1);

	init_seen = (struct init_seen){.is_init = in->opcode == FUSE_INIT};
	/* before 7.36 (Linux 5.17) it ends there */
	if (init_seen.is_init && in->len >= sizeof(*in) + offsetof(struct fuse_init_in, flags2))
		init_seen.flags = arg->flags;
	if (init_seen.is_init && in->len >= sizeof(*in) + sizeof(*arg))
		init_seen.flags2 = arg->flags2;
	if (init_seen.is_init && outlive != NULL && in->len <= OUTLIVE_INIT_MAX) {
		memcpy(outlive->init, in, in->len);
		outlive->init_len = in->len;
	}
}

/* Agrees on the flags of INIT for which this libfuse has no name. */
void init_reply(const struct iovec *iov, int count)
{
	if (!init_seen.is_init || count != 2 || iov[1].iov_len < sizeof(struct fuse_init_out))
		return;
	struct fuse_init_out *out = iov[1].iov_base;

	/* look-ups in one directory go side by side: libfuse 3.14 asks for it, and says nothing of
	 * it to the kernel */
	out->flags |= init_seen.flags & FUSE_PARALLEL_DIROPS;
	if ((init_seen.flags & INIT_EXT) != 0 &&
	    (init_seen.flags2 & INIT2_DIRECT_IO_ALLOW_MMAP) != 0) {
		/* files opened for appending are FOPEN_DIRECT_IO, and may be mapped */
		out->flags |= INIT_EXT;
		out->flags2 |= INIT2_DIRECT_IO_ALLOW_MMAP;
	}
}

/*
 * Reads are as large as the readahead of the backing device, which INIT can
 * only lower from the kernel's 128 KiB; root may raise it.
 */
void init_done(struct fs *fs)
{
	char dev[32];

	if (!init_seen.is_init)
		return;
	if (outlive != NULL)
		outlive->begun = outlive->init_len > 0;
	if (device_number(fs, dev, sizeof(dev)))
		stats_text(fs->stats, TEXT_mount_device, dev);
	int r = fs->options.readahead > 0 ? device_readahead(fs, fs->options.readahead) : 0;
	if (r < 0)
		log_debug("readahead: %s", strerror(-r));
}

int init_replay(struct fs *fs)
{
	unsigned char bytes[OUTLIVE_INIT_MAX];
	struct fuse_buf buf = {.mem = bytes, .size = outlive->init_len};
	char dev[32];

	if (buf.size < sizeof(struct fuse_in_header) + sizeof(uint32_t[4]))
		return -EPROTO;
	memcpy(bytes, outlive->init, buf.size);
	fs->replaying = true;
	fuse_session_process_buf(fs->se, &buf);
	fs->replaying = false;
	if (device_number(fs, dev, sizeof(dev)))
		stats_text(fs->stats, TEXT_mount_device, dev);
	return fuse_session_exited(fs->se) ? -EPROTO : 0;
}
