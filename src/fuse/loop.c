/*
 * Our own session loop, not fuse_session_loop_mt: a handler may keep the
 * receive buffer, requests that this libfuse does not know are seen first,
 * and interrupts follow our own rule.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "fuse/fs_priv.h"

/*
 * Workers parse and pass on; they wait for nobody but, over the bound of the
 * send queue, for the socket. Two serve two cores; one more goes on reading
 * interrupts and forgets while the others wait.
 */
#define WORKERS 3
_Static_assert(WORKERS <= WORKERS_MAX, "room in struct fs");

#define KILL_CHECK_NS UINT64_C(100000000)

/* Of newer kernels' <linux/fuse.h>. */
#define INIT_EXT		   (1u << 30)
#define INIT2_DIRECT_IO_ALLOW_MMAP (1u << (36 - 32))
#define OPCODE_TMPFILE		   51

/* ---- INIT ---- */

static void want(struct fuse_conn_info *conn, unsigned cap, bool yes)
{
	if (yes)
		conn->want |= conn->capable & cap;
	else
		conn->want &= ~cap;
}

void loop_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	want(conn, FUSE_CAP_ASYNC_READ, true);
	/* without OPEN nobody would truncate: then SETATTR does */
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, !fs->options.no_open);
	want(conn, FUSE_CAP_PARALLEL_DIROPS, true);
	want(conn, FUSE_CAP_ASYNC_DIO, true);
	/* a default ACL on the host takes the place of the umask: only there is it known */
	want(conn, FUSE_CAP_DONT_MASK, fs->info.umask);
	want(conn, FUSE_CAP_POSIX_ACL, fs->options.acl);
	/*
	 * Without a server that tells of changes a new mtime must drop the pages;
	 * with one, the guest's own writes must not.
	 */
	bool leased = cache_leased(fs->cache);
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, !leased);
	want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA, leased);
	want(conn, FUSE_CAP_CACHE_SYMLINKS, leased);
	want(conn, FUSE_CAP_EXPIRE_ONLY, true);
	want(conn, FUSE_CAP_IOCTL_DIR, true);
	fs->expire_entries = (conn->capable & FUSE_CAP_EXPIRE_ONLY) != 0;
	want(conn, FUSE_CAP_READDIRPLUS, true);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO, false); /* always: a LOOKUP each costs more */
	want(conn, FUSE_CAP_POSIX_LOCKS, fs->options.host_locks);
	want(conn, FUSE_CAP_FLOCK_LOCKS, fs->options.host_locks);
	want(conn, FUSE_CAP_SPLICE_READ, false); /* a WRITE keeps its receive buffer */
	want(conn, FUSE_CAP_WRITEBACK_CACHE,
	     false); /* never: the kernel would trust its own size */
	want(conn, FUSE_CAP_HANDLE_KILLPRIV, false); /* the guest's kernel clears suid and sgid */
	conn->max_write = MSG_PAYLOAD_MAX;
	conn->max_readahead = fs->options.readahead > 0 ? fs->options.readahead : 1u << 17;
	conn->max_background = fs->options.max_background;
	conn->congestion_threshold = fs->options.max_background * 3 / 4;
	conn->time_gran = 1;
}

struct init_seen {
	bool is_init;
	uint32_t flags, flags2;
};
static _Thread_local struct init_seen init_seen;

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

/*
 * All that libfuse sends, notifications included. INIT gets what this libfuse
 * has no name for. A reply that the kernel refuses (fuse_dev_do_write: EINVAL)
 * would leave its request waiting for ever, unkillable: that gets EIO, and
 * libfuse hears that nobody waits any more.
 */
static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	account_end(userdata, iov, count);
	if (init_seen.is_init && count == 2 && iov[1].iov_len >= sizeof(struct fuse_init_out)) {
		struct fuse_init_out *out = iov[1].iov_base;

		/* look-ups in one directory go side by side: libfuse 3.14 asks for it, and says
		 * nothing of it to the kernel */
		out->flags |= init_seen.flags & FUSE_PARALLEL_DIROPS;
		if ((init_seen.flags & INIT_EXT) != 0 &&
		    (init_seen.flags2 & INIT2_DIRECT_IO_ALLOW_MMAP) != 0) {
			/* files opened for appending are FOPEN_DIRECT_IO, and may be mapped */
			out->flags |= INIT_EXT;
			out->flags2 |= INIT2_DIRECT_IO_ALLOW_MMAP;
		}
	}
	ssize_t n = writev(fd, iov, count);
	const struct fuse_out_header *reply = iov[0].iov_base;

	if (n < 0 && errno == EINVAL && reply->unique != 0) {
		struct fuse_out_header eio = {
			.len = sizeof(eio), .error = -EIO, .unique = reply->unique};

		log_err("the kernel refuses a reply of %u bytes, error %d: it gets EIO", reply->len,
			-reply->error);
		(void)!write(fd, &eio, sizeof(eio));
		errno = ENOENT;
	}
	return n;
}

int loop_hook_io(struct fs *fs)
{
	static const struct fuse_custom_io io = {.read = io_read, .writev = io_writev};

	return fuse_session_custom_io(fs->se, &io, fuse_session_fd(fs->se));
}

/* ---- workers ---- */

static void interrupt(struct fs *fs, const struct fuse_in_header *in)
{
	const struct fuse_interrupt_in *arg = (const void *)(in + 1);

	if (in->len < sizeof(*in) + sizeof(*arg) || krequest_interrupt(fs, arg->unique))
		return;
	/* Another worker may be about to make the request known: the kernel asks again. */
	struct fuse_out_header out = {.len = sizeof(out), .error = -EAGAIN, .unique = in->unique};
	if (write(fuse_session_fd(fs->se), &out, sizeof(out)) < 0) {
		/* it was answered meanwhile */
	}
}

/* Looks at a request before libfuse does. True: it is done with. */
static bool intercept(struct fs *fs, struct fuse_buf *buf)
{
	struct fuse_in_header *in = buf->mem;

	current = (struct current){.unique = in->unique, .buf = buf};
	init_seen.is_init = in->opcode == FUSE_INIT;
	account_begin(fs, in);
	switch (in->opcode) {
	case FUSE_INTERRUPT:
		interrupt(fs, in);
		return true;
	case OPCODE_TMPFILE: /* the arguments and the reply of CREATE */
		current.tmpfile = true;
		in->opcode = FUSE_CREATE;
		break;
	case FUSE_WRITE:
		if (in->len >= sizeof(*in) + sizeof(struct fuse_write_in)) {
			const struct fuse_write_in *arg = (const void *)(in + 1);

			current.strip_ids = (arg->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
			/* fuse_send_write_pages names no owner */
			current.unpaged = (arg->write_flags & FUSE_WRITE_LOCKOWNER) != 0;
		}
		break;
	case FUSE_READ:
		if (in->len >= sizeof(*in) + sizeof(struct fuse_read_in)) {
			const struct fuse_read_in *arg = (const void *)(in + 1);

			current.unpaged = (arg->read_flags & FUSE_READ_LOCKOWNER) != 0;
		}
		break;
	case FUSE_INIT:
		if (in->len >= sizeof(*in) + sizeof(struct fuse_init_in)) {
			const struct fuse_init_in *arg = (const void *)(in + 1);

			init_seen.flags = arg->flags;
			init_seen.flags2 = arg->flags2;
		}
		break;
	default:
		break;
	}
	return false;
}

/* Waits while too much is queued for the host, unless this is the last worker that reads. */
static void wait_room(struct fs *fs)
{
	struct backend *b = cache_backend(fs->cache);

	if (!atomic_load_explicit(&b->full, memory_order_relaxed))
		return;
	(void)pthread_mutex_lock(&fs->lock);
	bool wait = fs->workers_waiting < WORKERS - 1;
	if (wait)
		fs->workers_waiting++;
	(void)pthread_mutex_unlock(&fs->lock);
	if (!wait)
		return;
	b->ops->wait_room(b);
	(void)pthread_mutex_lock(&fs->lock);
	fs->workers_waiting--;
	(void)pthread_mutex_unlock(&fs->lock);
}

static void *worker_main(void *arg)
{
	struct fs *fs = arg;
	struct fuse_buf buf = {0};

	while (!atomic_load(&fs->stopping) && !fuse_session_exited(fs->se)) {
		wait_room(fs);
		if (buf.mem == NULL)
			buf.mem = krequest_buffer(fs);
		int n = fuse_session_receive_buf(fs->se, &buf);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0) {
			if (n < 0 && !atomic_load(&fs->stopping))
				log_err("cannot read requests of the kernel: %s", strerror(-n));
			break;
		}
		if (intercept(fs, &buf))
			continue;
		fuse_session_process_buf(fs->se, &buf);
		if (init_seen.is_init)
			fs_initialised(fs);
	}
	free(buf.mem);
	fuse_session_exit(fs->se);
	return NULL;
}

/* ---- the watch over interrupted requests, and the lease ---- */

static void *watch_main(void *arg)
{
	struct fs *fs = arg;
	uint64_t tick = cache_tick(fs->cache);

	SCOPE_LOCK(&fs->lock);
	while (!fs->watch_ends) {
		uint64_t now = cache_now(), until = tick;

		if (now >= tick || fs->lease_changed) {
			fs->lease_changed = false;
			(void)pthread_mutex_unlock(&fs->lock);
			tick = cache_tick(fs->cache);
			(void)pthread_mutex_lock(&fs->lock);
			continue;
		}
		if (krequests_check_killed_locked(fs) && now + KILL_CHECK_NS < until)
			until = now + KILL_CHECK_NS;
		if (until == UINT64_MAX) {
			(void)pthread_cond_wait(&fs->watch, &fs->lock);
			continue;
		}
		const struct timespec ts = {.tv_sec = (time_t)(until / 1000000000),
					    .tv_nsec = (long)(until % 1000000000)};
		(void)pthread_cond_timedwait(&fs->watch, &fs->lock, &ts);
	}
	return NULL;
}

/* ---- running ---- */

static void on_wake(int sig)
{
	(void)sig; /* only to make read(2) return */
}

int loop_run(struct fs *fs)
{
	pthread_t watch;
	unsigned n = 0;
	struct sigaction sa = {.sa_handler = on_wake}; /* without SA_RESTART */

	(void)sigaction(LOOP_WAKE_SIGNAL, &sa, NULL);
	int e = pthread_create(&watch, NULL, watch_main, fs);
	if (e != 0)
		return -e;
	(void)pthread_mutex_lock(&fs->lock);
	for (; n < WORKERS && e == 0; n++) {
		e = pthread_create(&fs->workers[n], NULL, worker_main, fs);
		if (e != 0)
			break;
	}
	fs->worker_count = n;
	(void)pthread_mutex_unlock(&fs->lock);
	if (e != 0)
		loop_stop(fs);
	for (unsigned i = 0; i < n; i++) {
		(void)pthread_join(fs->workers[i], NULL);
		(void)pthread_mutex_lock(&fs->lock);
		fs->workers_joined++;
		(void)pthread_mutex_unlock(&fs->lock);
	}
	(void)pthread_mutex_lock(&fs->lock);
	fs->watch_ends = true;
	(void)pthread_cond_signal(&fs->watch);
	(void)pthread_mutex_unlock(&fs->lock);
	(void)pthread_join(watch, NULL);
	return -e;
}

/* A signal that comes just before a worker's read(2) is lost: it is sent until all have gone. */
void loop_stop(struct fs *fs)
{
	atomic_store(&fs->stopping, true);
	for (;;) {
		(void)pthread_mutex_lock(&fs->lock);
		bool all = fs->workers_joined == fs->worker_count;
		for (unsigned i = fs->workers_joined; i < fs->worker_count; i++)
			(void)pthread_kill(fs->workers[i], LOOP_WAKE_SIGNAL);
		(void)pthread_mutex_unlock(&fs->lock);
		if (all)
			return;
		struct timespec ts = {.tv_nsec = 10 * 1000000L};
		(void)nanosleep(&ts, NULL);
	}
}
