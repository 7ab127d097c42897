/*
 * Our own session loop, not fuse_session_loop_mt: a handler may keep the
 * receive buffer, requests that this libfuse does not know are seen first,
 * and interrupts follow our own rule.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/outlive.h"
#include "fuse/fs_priv.h"

/*
 * Workers parse and pass on; they wait for nobody but, over the bound of the
 * send queue, for the socket. Two serve two cores; one more goes on reading
 * interrupts and forgets while the others wait.
 */
#define WORKERS 3
_Static_assert(WORKERS <= WORKERS_MAX, "room in struct fs");

#define KILL_CHECK_NS UINT64_C(100000000)

#define OPCODE_TMPFILE 51 /* of newer kernels' <linux/fuse.h> */
#define NOTIFY_RESEND  7  /* too */

#define DOUBT_NS                                                                                   \
	UINT64_C(10000000000) /* no task that can run takes so long to digest an answer            \
			       */

/* ---- workers ---- */

static void interrupt(struct fs *fs, const struct fuse_in_header *in)
{
	const struct fuse_interrupt_in *arg = (const void *)(in + 1);

	if (in->len < sizeof(*in) + sizeof(*arg) || krequest_interrupt(fs, arg->unique))
		return;
	/* Another worker may be about to make the request known: the kernel asks again. */
	channel_error(fs->channel, in->unique, EAGAIN);
}

/* Looks at a request before libfuse does. True: it is done with. */
static bool intercept(struct fs *fs, struct fuse_buf *buf)
{
	struct fuse_in_header *in = buf->mem;

	current = (struct current){.unique = in->unique, .buf = buf};
	outlive_unique = in->unique & ~OUTLIVE_RESENT;
	init_begin(in);
	account_begin(fs, in);
	switch (in->opcode) {
	case FUSE_INTERRUPT:
		interrupt(fs, in);
		return true;
	case FUSE_NOTIFY_REPLY: /* to what nobody asks: libfuse 3.14 would not free it */
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

static void handle(struct fs *fs, struct fuse_buf *buf)
{
	if (intercept(fs, buf))
		return;
	fuse_session_process_buf(fs->se, buf);
	init_done(fs);
}

bool loop_take(struct fs *fs, struct fuse_buf *buf)
{
	if (buf->mem == NULL)
		buf->mem = krequest_buffer(fs);
	int n = fuse_session_receive_buf(fs->se, buf);

	if (n == -EINTR || n == -EAGAIN)
		return true;
	if (n <= 0) {
		if (n < 0 && !atomic_load(&fs->stopping))
			log_err("cannot read requests of the kernel: %s", strerror(-n));
		return false;
	}
	handle(fs, buf);
	return true;
}

/* ---- in the place of a client that was killed ---- */

/* From here on the kernel has all that was not answered at the head of its queue. */
static int resend(struct fs *fs)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = NOTIFY_RESEND};
	const struct iovec iov = {&out, sizeof(out)};

	return fs->channel->send(fs->channel, &iov, 1) < 0 ? -errno : 0;
}

struct taken {
	struct fuse_buf *buf;
	size_t n, cap;
};

static int taken_add(struct taken *t, const struct fuse_buf *buf)
{
	if (t->n == t->cap) {
		size_t cap = t->cap > 0 ? t->cap * 2 : 64;
		struct fuse_buf *p = realloc(t->buf, cap * sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		t->buf = p;
		t->cap = cap;
	}
	t->buf[t->n++] = *buf;
	return 0;
}

static const struct fuse_in_header *head_of(const struct fuse_buf *buf)
{
	return buf->mem;
}

static bool comes_first(const struct fuse_in_header *in)
{
	return in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET ||
	       in->opcode == FUSE_INTERRUPT;
}

/* Up to the first request that was not sent before, which is taken as well. */
static int take_resent(struct fs *fs, struct taken *resent, struct taken *others)
{
	for (;;) {
		struct fuse_buf buf = {0};
		int n = fuse_session_receive_buf(fs->se, &buf);

		if (n == -EAGAIN) {
			free(buf.mem);
			return 0;
		}
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? n : -ENODEV;
		const struct fuse_in_header *in = head_of(&buf);
		bool again = (in->unique & OUTLIVE_RESENT) != 0 && in->opcode != FUSE_INTERRUPT;
		int r = taken_add(again ? resent : others, &buf);
		if (r < 0)
			return r;
		if (!again && !comes_first(in))
			return 0;
	}
}

/* A request that was there a moment ago may be gone: its task was killed. */
static int take_what_is_there(struct fs *fs, struct taken *resent, struct taken *others)
{
	int flags = fcntl(fs->channel->fd, F_GETFL);

	if (flags < 0 || fcntl(fs->channel->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	int r = take_resent(fs, resent, others);
	return fcntl(fs->channel->fd, F_SETFL, flags) < 0 ? -errno : r;
}

static int by_unique(const void *a, const void *b)
{
	uint64_t x = head_of(a)->unique, y = head_of(b)->unique;

	return (x > y) - (x < y);
}

static void handle_all(struct fs *fs, struct taken *t)
{
	for (size_t i = 0; i < t->n; i++) {
		handle(fs, &t->buf[i]);
		free(t->buf[i].mem);
	}
	free(t->buf);
}

static bool kernel_has(const struct fs *fs, uint64_t ino)
{
	return fuse_lowlevel_notify_inval_inode(fs->se, ino, -1, 0) != -ENOENT;
}

/*
 * A client that is killed between reading a FORGET and noting it leaves a node too many behind, and
 * news of that would be told again and again.
 */
static int look_for_doubts(struct fs *fs)
{
	for (uint32_t i = 0; i < outlive->node_slots; i++) {
		const struct outlive_node *o = outlive_node_at(i);

		if (o->nlookup == 0 || o->id == CACHE_ROOT || kernel_has(fs, o->id))
			continue;
		uint64_t *p = realloc(fs->doubts, (fs->n_doubts + 1) * sizeof(*p));
		if (p == NULL)
			return -ENOMEM;
		fs->doubts = p;
		fs->doubts[fs->n_doubts++] = o->id;
		cache_doubt(fs->cache, o->id);
	}
	fs->doubt_at = cache_now() + DOUBT_NS;
	return 0;
}

static void settle_doubts(struct fs *fs)
{
	for (size_t i = 0; i < fs->n_doubts; i++) {
		bool gone = !kernel_has(fs, fs->doubts[i]);

		cache_settle_doubt(fs->cache, fs->doubts[i], gone);
		if (!gone)
			notify_inval_range(fs->notify, fs->doubts[i], 0, 0);
	}
	fs->n_doubts = 0;
	cache_forget_flush(fs->cache);
}

int loop_take_over(struct fs *fs)
{
	struct taken resent = {0}, others = {0};
	int r = resend(fs);

	if (r == 0)
		r = take_what_is_there(fs, &resent, &others);
	if (r < 0)
		return r; /* the mount ends, and the process */
	if (resent.n > 0)
		qsort(resent.buf, resent.n, sizeof(resent.buf[0]), by_unique);
	for (size_t i = 0; i < resent.n; i++) {
		uint64_t unique = head_of(&resent.buf[i])->unique & ~OUTLIVE_RESENT;

		cache_not_gained(fs->cache, unique);
		kfiles_not_opened(fs, unique);
	}
	log_notice("in the place of the client before: %zu requests come again", resent.n);
	if (look_for_doubts(fs) < 0)
		return -ENOMEM;
	handle_all(fs, &resent);
	handle_all(fs, &others);
	/* Of all others the kernel has had the answer. */
	for (uint32_t i = 0; i < OUTLIVE_GAINS; i++)
		outlive->gain[i].unique = 0;
	return 0;
}

static void *worker_main(void *arg)
{
	struct fs *fs = arg;
	struct fuse_buf buf = {0};
	bool more = true;

	while (more && !atomic_load(&fs->stopping) && !fuse_session_exited(fs->se)) {
		wait_room(fs);
		more = loop_take(fs, &buf);
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
		if (fs->n_doubts > 0 && now >= fs->doubt_at) {
			(void)pthread_mutex_unlock(&fs->lock);
			settle_doubts(fs);
			(void)pthread_mutex_lock(&fs->lock);
			continue;
		}
		if (fs->n_doubts > 0 && fs->doubt_at < until)
			until = fs->doubt_at;
		if (krequests_check_killed_locked(fs) && now + KILL_CHECK_NS < until)
			until = now + KILL_CHECK_NS;
		(void)pthread_mutex_unlock(&fs->lock);
		alarm_wait(&fs->watch, until);
		(void)pthread_mutex_lock(&fs->lock);
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
	alarm_ring(&fs->watch);
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
