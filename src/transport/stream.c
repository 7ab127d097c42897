#include "transport/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "transport/codec.h"

/*
 * The bytes that one read(2) may bring beyond the frame that is being read. Small
 * frames come in one call; of a payload at most this many bytes are copied twice.
 */
#define READ_AHEAD 4096

#define SOCKET_BUFFER (4 << 20) /* the kernel doubles it */

#define LOOK_AGAIN_MS 50 /* how often it is tried whether somebody is behind a port by now */

struct stream {
	int fd;
	int wake; /* eventfd of a stream that shutdown(2) cannot end: a virtio-serial port; else -1
		   */
	pthread_mutex_t send_lock;
	bool bounded; /* by patience: system calls do not block, all waiting is done in wait_fd */
	struct patience patience;
	bool (*room)(void *arg, size_t size); /* stream_set_room; NULL: there is room */
	void *room_arg;

	/* Receiving; one thread at a time. buf[at, end) is read but not used. */
	size_t at, end;
	unsigned char buf[READ_AHEAD];
};

/* Best effort: without CAP_NET_ADMIN the buffers cannot become larger than the system's limit. */
void stream_enlarge(struct stream *s)
{
	int fd = s->fd;
	const int size = SOCKET_BUFFER;
	const uint64_t vsock_size = SOCKET_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	(void)setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &vsock_size,
			 sizeof(vsock_size));
	(void)setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &vsock_size, sizeof(vsock_size));
}

int stream_new(int fd, struct stream **ret)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		(void)close(fd);
		return -ENOMEM;
	}
	int type;
	socklen_t len = sizeof(type);
	s->fd = fd;
	(void)pthread_mutex_init(&s->send_lock, NULL);
	s->wake = -1;
	int r = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ? -errno : 0;
	if (r == -ENOTSOCK) {
		s->wake = eventfd(0, EFD_CLOEXEC);
		r = s->wake < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ? -errno
											   : 0;
	}
	if (r < 0) {
		stream_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void stream_free(struct stream *s)
{
	if (s == NULL)
		return;
	(void)close(s->fd);
	if (s->wake >= 0)
		(void)close(s->wake);
	(void)pthread_mutex_destroy(&s->send_lock);
	free(s);
}

void stream_shutdown(struct stream *s)
{
	uint64_t one = 1;

	if (s->wake < 0)
		(void)shutdown(s->fd, SHUT_RDWR);
	else if (write(s->wake, &one, sizeof(one)) < 0) {
		/* the counter has its largest value: the eventfd is readable as well */
	}
}

void stream_set_patience(struct stream *s, const struct patience *p)
{
	s->bounded = p != NULL;
	if (p != NULL)
		s->patience = *p;
}

/*
 * Waits for an event of the fd, or with -1 only for the time. 1: there is one. 0: timeout_ms has
 * passed, or a signal came. -ECONNRESET after stream_shutdown, -ETIMEDOUT and -EINTR when the
 * patience has ended.
 */
static int wait_events(struct stream *s, int fd, short events, int timeout_ms, short *ret)
{
	struct pollfd p[3] = {{.fd = fd, .events = events},
			      {.fd = s->wake, .events = POLLIN},
			      {.fd = s->bounded ? s->patience.stop_fd : -1, .events = POLLIN}};
	int left = s->bounded ? patience_left(&s->patience) : -1;
	bool over = left >= 0 && (timeout_ms < 0 || timeout_ms >= left);
	int n = poll(p, 3, over ? left : timeout_ms); /* a negative fd is passed over */

	*ret = p[0].revents;
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (p[1].revents != 0)
		return -ECONNRESET;
	if (p[2].revents != 0)
		return -EINTR;
	return n == 0 && over && left < INT_MAX ? -ETIMEDOUT : n;
}

/*
 * Waits until the stream's own descriptor is ready. A virtio-serial port that nobody holds open on
 * the host takes no bytes, and poll(2) reports a hang-up at once for as long as that lasts: the
 * opening of the port cannot be waited for by poll(2) (port_fops_poll), so it is looked at again
 * and again.
 */
static int wait_fd(struct stream *s, short events, int timeout_ms)
{
	short got;
	int n = wait_events(s, s->fd, events, timeout_ms, &got);

	if (n <= 0 || events != POLLOUT || (got & POLLOUT))
		return n;
	if (s->bounded)
		n = wait_events(s, -1, 0, LOOK_AGAIN_MS, &got);
	return !s->bounded || n == -ETIMEDOUT ? -EHOSTDOWN : n;
}

int stream_wait_writable(struct stream *s)
{
	int n = wait_fd(s, POLLOUT, -1);

	return n < 0 ? n : 0;
}

/* ---- receiving ---- */

/* flags: of recv(2); MSG_WAITALL saves calls where the whole length is wanted anyway. */
static ssize_t read_some(struct stream *s, void *dst, size_t len, int flags)
{
	flags |= s->bounded ? MSG_DONTWAIT : 0;
	for (;;) {
		ssize_t n = s->wake < 0 ? recv(s->fd, dst, len, flags) : read(s->fd, dst, len);

		if (n >= 0)
			return n;
		if (errno == EAGAIN) {
			/* an inherited descriptor may be non-blocking */
			int r = wait_fd(s, POLLIN, -1);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
}

/* Makes at least need bytes available at buf + at; need <= READ_AHEAD. */
static int fill(struct stream *s, size_t need)
{
	if (s->end - s->at >= need)
		return 0;
	if (s->at > 0) {
		memmove(s->buf, s->buf + s->at, s->end - s->at);
		s->end -= s->at;
		s->at = 0;
	}
	while (s->end < need) {
		ssize_t n = read_some(s, s->buf + s->end, sizeof(s->buf) - s->end, 0);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return s->end == 0 ? -ENODATA : -ECONNRESET;
		s->end += (size_t)n;
	}
	return 0;
}

int stream_recv_payload(struct stream *s, void *dst, size_t len)
{
	unsigned char *p = dst;

	while (len > 0) {
		size_t have = s->end - s->at;

		if (have > 0) {
			size_t n = have < len ? have : len;

			if (p != NULL) {
				memcpy(p, s->buf + s->at, n);
				p += n;
			}
			s->at += n;
			len -= n;
			continue;
		}
		ssize_t n;
		if (p != NULL && len >= sizeof(s->buf)) {
			n = read_some(s, p, len, MSG_WAITALL);
			if (n > 0) {
				p += n;
				len -= (size_t)n;
			}
		} else {
			s->at = s->end = 0;
			n = read_some(s, s->buf, sizeof(s->buf), 0);
			if (n > 0)
				s->end = (size_t)n;
		}
		if (n <= 0)
			return n < 0 ? (int)n : -ECONNRESET;
	}
	return 0;
}

void head_buf_done(struct head_buf *hb)
{
	if (hb->data != hb->small)
		free(hb->data);
	hb->data = NULL;
}

static int head_buf_reserve(struct head_buf *hb, size_t len)
{
	if (hb->data == NULL) {
		hb->data = hb->small;
		hb->cap = sizeof(hb->small);
	}
	if (hb->cap >= len)
		return 0;
	unsigned char *p = malloc(MSG_HEAD_MAX);
	if (p == NULL)
		return -ENOMEM;
	head_buf_done(hb);
	hb->data = p;
	hb->cap = MSG_HEAD_MAX;
	return 0;
}

int stream_recv(struct stream *s, struct head_buf *hb, struct msg *ret, const char **ret_why)
{
	size_t head, payload;
	int r = fill(s, FRAME_HEADER);

	if (r < 0)
		return r;
	r = codec_frame_header(s->buf + s->at, &head, &payload, ret_why);
	if (r < 0)
		return r;
	s->at += FRAME_HEADER;
	r = head_buf_reserve(hb, head);
	if (r < 0)
		return r;
	r = stream_recv_payload(s, hb->data, head);
	if (r < 0)
		return r;
	return codec_decode(hb->data, head, payload, ret, ret_why);
}

bool stream_buffered(const struct stream *s)
{
	return s->at < s->end;
}

static int wait_readable(struct stream *s, const struct timespec *deadline)
{
	struct timespec now;

	for (;;) {
		(void)clock_gettime(CLOCK_MONOTONIC, &now);
		int64_t ms = (deadline->tv_sec - now.tv_sec) * 1000 +
			     (deadline->tv_nsec - now.tv_nsec) / 1000000;
		if (ms <= 0)
			return -ETIMEDOUT;
		int n = wait_fd(s, POLLIN, (int)ms);
		if (n != 0)
			return n < 0 ? n : 0;
	}
}

void stream_set_room(struct stream *s, bool (*room)(void *arg, size_t size), void *arg)
{
	s->room = room;
	s->room_arg = arg;
}

int stream_recv_plain(struct stream *s, size_t limit, unsigned char **buf, size_t *cap,
		      size_t *ret_len, int timeout_ms)
{
	struct timespec deadline;
	unsigned char header[4];
	size_t got = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &deadline);
	if (timeout_ms >= 0) {
		deadline.tv_sec += timeout_ms / 1000;
		deadline.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	}
	size_t frame_len = 0; /* 0: the length is not known yet */
	while (frame_len == 0 || got < frame_len) {
		unsigned char *dst;
		size_t room;

		if (frame_len == 0) {
			dst = header + got;
			room = sizeof(header) - got;
		} else {
			if (got == *cap) {
				size_t more = *cap < 8192 ? 16384 : *cap * 2;
				if (more > limit)
					more = limit;
				if (s->room != NULL && !s->room(s->room_arg, more))
					return -ENOBUFS;
				unsigned char *p = realloc(*buf, more);
				if (p == NULL)
					return -ENOMEM;
				*buf = p;
				*cap = more;
			}
			dst = *buf + got;
			room = (*cap < frame_len ? *cap : frame_len) - got;
		}
		if (s->at == s->end) {
			s->at = s->end = 0;
			int r = timeout_ms >= 0 ? wait_readable(s, &deadline) : 0;
			if (r < 0)
				return r;
			/* never past this frame: the next frame may be an extended one */
			ssize_t n = read_some(s, s->buf,
					      room < sizeof(s->buf) ? room : sizeof(s->buf), 0);
			if (n < 0)
				return (int)n;
			if (n == 0)
				return frame_len == 0 && got == 0 ? -ENODATA : -ECONNRESET;
			s->end = (size_t)n;
		}
		size_t n = s->end - s->at < room ? s->end - s->at : room;
		memcpy(dst, s->buf + s->at, n);
		s->at += n;
		got += n;
		if (frame_len == 0 && got == sizeof(header)) {
			frame_len = (size_t)header[0] << 24 | (size_t)header[1] << 16 |
				    (size_t)header[2] << 8 | header[3];
			if (frame_len == 0 || frame_len > limit)
				return -EPROTO;
			got = 0;
		}
	}
	*ret_len = frame_len;
	return 0;
}

/* ---- sending ---- */

static ssize_t send_parts(struct stream *s, const void *a, size_t a_len, const void *b,
			  size_t b_len, size_t from, int flags)
{
	struct iovec iov[2];
	int n = 0;

	if (from < a_len)
		iov[n++] = (struct iovec){(char *)(uintptr_t)a + from, a_len - from};
	size_t b_from = from > a_len ? from - a_len : 0;
	if (b_from < b_len)
		iov[n++] = (struct iovec){(char *)(uintptr_t)b + b_from, b_len - b_from};
	if (s->wake >= 0)
		return writev(s->fd, iov, n);
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = (size_t)n};
	flags |= s->bounded ? MSG_DONTWAIT : 0;
	return sendmsg(s->fd, &mh, MSG_NOSIGNAL | flags);
}

ssize_t stream_try_send(struct stream *s, const void *a, size_t a_len, const void *b, size_t b_len,
			size_t from)
{
	ssize_t n = send_parts(s, a, a_len, b, b_len, from, MSG_DONTWAIT);
	return n < 0 ? (errno == EINTR ? -EAGAIN : -errno) : n;
}

int stream_send_from(struct stream *s, const void *a, size_t a_len, const void *b, size_t b_len,
		     size_t from)
{
	while (from < a_len + b_len) {
		ssize_t n = send_parts(s, a, a_len, b, b_len, from, 0);

		if (n >= 0) {
			from += (size_t)n;
		} else if (errno == EAGAIN) {
			int r = wait_fd(s, POLLOUT, -1);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

int stream_send_raw(struct stream *s, const void *a, size_t a_len, const void *b, size_t b_len)
{
	SCOPE_LOCK(&s->send_lock);
	return stream_send_from(s, a, a_len, b, b_len, 0);
}

int stream_send(struct stream *s, const struct msg *m)
{
	unsigned char small[1024], *buf = small;
	CLEANUP_FREE unsigned char *large = NULL;
	size_t cap = codec_encode_bound(m);
	bool payload = MSG_HAS(m, payload);

	if (cap > sizeof(small)) {
		buf = large = malloc(cap);
		if (large == NULL)
			return -ENOMEM;
	} else {
		cap = sizeof(small);
	}
	size_t len = codec_encode(m, buf, cap);
	if (len == 0)
		return -EMSGSIZE;
	return stream_send_raw(s, buf, len, payload ? m->payload.data : NULL,
			       payload ? m->payload.len : 0);
}

int stream_send_plain(struct stream *s, const void *data, size_t len)
{
	unsigned char header[4] = {(unsigned char)(len >> 24), (unsigned char)(len >> 16),
				   (unsigned char)(len >> 8), (unsigned char)len};

	return stream_send_raw(s, header, sizeof(header), data, len);
}
