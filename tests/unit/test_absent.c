/*
 * A peer that is not there, for every kind of source: connecting ends when its
 * time is over or when it is told to, says why, and looks again a few times a
 * second instead of all the time. A virtio-serial port is modelled as its
 * driver behaves (port_fops_write, _poll, _read): while nobody holds it open on
 * the host, writev says EAGAIN and poll POLLHUP at once, and read the end.
 */
#include "unit.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "temp_path.h"
#include "connect/connect.h"
#include "transport/endpoint.h"
#include "transport/hello.h"
#include "plain/plain_codec.h"
#include "transport/stream.h"

#define A_MOMENT_MS 300
/* Looks of 50 ms each that fit in, and one before and after; each is three calls. */
#define LOOKS 8
#define HOURS (UINT64_C(3600) * 1000 * 24)

/* ---- the port ---- */

static struct {
	ino_t ino;	  /* what its descriptors are told by */
	int host;	  /* what is behind it while it is open there */
	_Atomic bool open;
	_Atomic unsigned writes, polls;
	unsigned opens_at;  /* that write finds it open; 0: none */
	unsigned stops_at;  /* at that write stop_fd becomes readable */
	size_t closes_after; /* so many bytes; 0: never */
	int stop_fd;
} port;

ssize_t __real_writev(int fd, const struct iovec *iov, int n);
ssize_t __wrap_writev(int fd, const struct iovec *iov, int n);
int __real_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
ssize_t __real_read(int fd, void *buf, size_t len);
ssize_t __wrap_read(int fd, void *buf, size_t len);

static bool is_port(int fd)
{
	struct stat st;

	return fd >= 0 && port.ino != 0 && fstat(fd, &st) == 0 && st.st_ino == port.ino;
}

static void count_write(void)
{
	unsigned n = ++port.writes;
	uint64_t one = 1;

	if (n == port.opens_at)
		port.open = true;
	if (n == port.stops_at && write(port.stop_fd, &one, sizeof(one)) < 0)
		abort();
}

ssize_t __wrap_writev(int fd, const struct iovec *iov, int n)
{
	if (!is_port(fd))
		return __real_writev(fd, iov, n);
	count_write();
	if (!port.open) {
		errno = EAGAIN;
		return -1;
	}
	if (port.closes_after == 0)
		return __real_writev(port.host, iov, n);
	/* takes a part, and then whoever held it open goes */
	port.open = false;
	struct iovec part = {iov[0].iov_base, port.closes_after};
	return __real_writev(port.host, &part, 1);
}

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	struct pollfd real[4];
	nfds_t at = n;

	assert_true(n <= COUNT(real));
	for (nfds_t i = 0; i < n; i++) {
		real[i] = p[i];
		if (is_port(p[i].fd)) {
			port.polls++;
			at = i;
			real[i].fd = port.open ? port.host : -1;
		}
	}
	bool hup = at < n && !port.open;
	int r = __real_poll(real, n, hup ? 0 : timeout);
	for (nfds_t i = 0; i < n; i++)
		p[i].revents = real[i].revents;
	if (hup) {
		p[at].revents = (short)(POLLHUP | (p[at].events & POLLIN));
		r++;
	}
	return r;
}

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
	if (!is_port(fd))
		return __real_read(fd, buf, len);
	return port.open ? __real_read(port.host, buf, len) : 0;
}

/* Its descriptor; *ret_host is the host's end. */
static int port_new(int *ret_host)
{
	int sv[2], fd = memfd_create("port", MFD_CLOEXEC);
	struct stat st;

	memset(&port, 0, sizeof(port));
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	port.ino = st.st_ino;
	port.host = sv[0];
	*ret_host = sv[1];
	return fd;
}

static void port_done(int fd, int host)
{
	port.ino = 0;
	(void)close(port.host);
	(void)close(host);
	(void)close(fd);
}

/* ---- connecting ---- */

struct attempt {
	struct connect_options o;
	struct endpoint e;
	int r;
	struct backend *b;
	char err[512];
};

static void connect_now(struct attempt *a)
{
	a->o.plain_base = "/w";
	a->o.send_queue = 1 << 20;
	if (a->o.stop_fd == 0)
		a->o.stop_fd = -1;
	(void)alarm(UNIT_DEADLINE_S); /* what waits for ever would not be told by its name */
	a->r = transport_connect(&a->e, &a->o, &a->b, a->err, sizeof(a->err));
	(void)alarm(0);
}

static void expect_failure(struct attempt *a, const char *says)
{
	connect_now(a);
	assert_true(a->r < 0);
	if (strstr(a->err, says) == NULL)
		fail_msg("'%s' is to be in: %s", says, a->err);
	assert_null(strchr(a->err, '\n'));
}

static void expect_few_looks(void)
{
	assert_in_range(port.writes, 1, LOOKS);
	assert_in_range(port.polls, 0, 3 * LOOKS);
}

static struct attempt by_fd(int fd)
{
	return (struct attempt){.e = {.kind = ENDPOINT_FD, .fd = fd}, .o = {.timeout_ms = A_MOMENT_MS}};
}

static struct attempt by_path(void)
{
	struct attempt a = {.e = {.kind = ENDPOINT_UNIX}, .o = {.timeout_ms = A_MOMENT_MS}};

	memcpy(a.e.path, temp_path, sizeof(temp_path));
	return a;
}

static void test_port_with_nobody(void **state)
{
	static const struct {
		struct connect_options o;
		const char *says;
	} cases[] = {
		{{.proto = PROTO_AUTO}, "nobody is behind it"},
		{{.proto = PROTO_EXTENDED, .needs = "proto=extended"}, "nobody is behind it"},
		{{.proto = PROTO_PLAIN}, "nobody is behind the descriptor"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int host, fd = port_new(&host);
		struct attempt a = by_fd(fd);

		a.o.proto = cases[i].o.proto;
		a.o.needs = cases[i].o.needs;
		expect_failure(&a, cases[i].says);
		expect_few_looks();
		port_done(fd, host);
	}
}

static void test_port_stopped(void **state)
{
	(void)state;
	for (int plain = 0; plain < 2; plain++) {
		int host, fd = port_new(&host);
		struct attempt a = by_fd(fd);

		port.stop_fd = a.o.stop_fd = eventfd(0, EFD_CLOEXEC);
		port.stops_at = 3;
		a.o.timeout_ms = HOURS;
		a.o.proto = plain ? PROTO_PLAIN : PROTO_AUTO;
		expect_failure(&a, "stopped by a signal");
		assert_int_equal(a.r, -EINTR);
		assert_int_equal(port.writes, 3);
		(void)close(a.o.stop_fd);
		port_done(fd, host);
	}
}

/* One that is opened on the host in time, by a plain server. */
static void *serve_plain(void *arg)
{
	static const struct plain_reply none = {.err = -ENOSYS},
					root = {.has_stat = true,
						.stat = {.is_dir = true, .mode = 0755, .ino = 1}};
	unsigned char *buf = NULL;
	size_t cap = 0, len;
	struct stream *s;

	if (stream_new(*(int *)arg, &s) < 0)
		return NULL;
	while (stream_recv_plain(s, 65536, &buf, &cap, &len, -1) == 0) {
		struct plain_buf out = {0};
		struct plain_request q;
		const char *why;

		if (plain_request_decode(buf, len, &q, &why) < 0 ||
		    plain_reply_encode(q.op == PLAIN_GETATTR ? &root : &none, &out) < 0)
			break;
		(void)stream_send_plain(s, out.data, out.len);
		plain_buf_done(&out);
	}
	free(buf);
	stream_free(s);
	return NULL;
}

static void test_port_opened_later(void **state)
{
	int host, fd = port_new(&host);
	struct attempt a = by_fd(fd);
	pthread_t thread;

	(void)state;
	port.opens_at = 4;
	a.o.timeout_ms = HOURS;
	assert_int_equal(pthread_create(&thread, NULL, serve_plain, &host), 0);
	connect_now(&a);
	if (a.r < 0)
		fail_msg("%s", a.err);
	assert_true(a.b->info.plain);
	a.b->ops->shutdown(a.b);
	a.b->ops->free(a.b);
	(void)shutdown(port.host, SHUT_RDWR);
	assert_int_equal(pthread_join(thread, NULL), 0);
	port_done(fd, -1);
}

/* Whoever was behind it goes while it is being written to: an error at once, not a loop. */
static void test_port_left(void **state)
{
	static const char data[4096];
	int host, fd = port_new(&host);
	struct stream *s;

	(void)state;
	port.open = true;
	port.closes_after = 100;
	assert_int_equal(stream_new(dup(fd), &s), 0);
	(void)alarm(UNIT_DEADLINE_S);
	assert_int_equal(stream_send_raw(s, data, sizeof(data), data, sizeof(data)), -EHOSTDOWN);
	assert_int_equal(stream_wait_writable(s), -EHOSTDOWN);
	(void)alarm(0);
	assert_int_equal(port.writes, 2);
	assert_int_equal(port.polls, 2);
	stream_free(s);
	port_done(fd, host);
}

/* ---- sockets ---- */

static int listen_at_path(int backlog)
{
	const struct attempt a = by_path();
	bool connected;
	char err[256];
	int fd;

	assert_int_equal(endpoint_listen(&a.e, NULL, &fd, &connected, err, sizeof(err)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void test_nobody_listens(void **state)
{
	struct attempt a = by_path();

	(void)state;
	expect_failure(&a, "No such file");
	int fd = listen_at_path(1);
	(void)close(fd);
	expect_failure(&a, "nobody listens there");
	a.o.timeout_ms = HOURS;
	a.o.stop_fd = eventfd(1, EFD_CLOEXEC);
	expect_failure(&a, "stopped by a signal");
	(void)close(a.o.stop_fd);
	(void)unlink(temp_path);
}

/* connect(2) of a Unix socket waits for ever while the queue is full. */
static void test_nobody_accepts(void **state)
{
	const struct patience p = patience_new(HOURS, -1);
	int listener = listen_at_path(0), waiting[8];
	struct attempt a = by_path();
	size_t n = 0;

	(void)state;
	while (n < COUNT(waiting) &&
	       endpoint_connect(&a.e, &p, &waiting[n], a.err, sizeof(a.err)) == 0)
		n++;
	assert_in_range(n, 1, COUNT(waiting) - 1);
	expect_failure(&a, "accepts nobody");
	a.o.timeout_ms = HOURS;
	a.o.stop_fd = eventfd(1, EFD_CLOEXEC);
	expect_failure(&a, "stopped by a signal");
	(void)close(a.o.stop_fd);
	while (n > 0)
		(void)close(waiting[--n]);
	(void)close(listener);
	(void)unlink(temp_path);
}

/* In the queue, where nobody ever answers: neither the greeting nor the plain protocol. */
static void test_nobody_answers(void **state)
{
	static const enum proto protos[] = {PROTO_AUTO, PROTO_PLAIN, PROTO_EXTENDED};
	int listener = listen_at_path(8);

	(void)state;
	for (size_t i = 0; i < COUNT(protos); i++) {
		struct attempt a = by_path();

		a.o.proto = protos[i];
		a.o.needs = protos[i] == PROTO_EXTENDED ? "proto=extended" : NULL;
		expect_failure(&a, protos[i] == PROTO_EXTENDED ? "silent when greeted"
							       : "does not answer");
	}
	(void)close(listener);
	(void)unlink(temp_path);
}

static void test_silent_fd(void **state)
{
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	struct attempt a = by_fd(sv[0]);
	expect_failure(&a, "nobody is behind it, or");
	assert_non_null(strstr(a.err, "proto=plain"));
	(void)close(sv[1]);
	expect_failure(&a, "closed the connection");
	(void)close(sv[0]);
}

struct stopper {
	int peer, stop_fd;
};

/* The greeting has arrived, and so the client waits for its answer. */
static void *stop_when_greeted(void *arg)
{
	struct stopper *s = arg;
	uint64_t one = 1;
	char byte;

	if (recv(s->peer, &byte, 1, MSG_WAITALL) != 1 || write(s->stop_fd, &one, sizeof(one)) < 0)
		abort();
	return NULL;
}

static void test_stopped_while_greeting(void **state)
{
	(void)state;
	for (int plain = 0; plain < 2; plain++) {
		pthread_t thread;
		int sv[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		struct attempt a = by_fd(sv[0]);
		a.o.timeout_ms = HOURS;
		a.o.proto = plain ? PROTO_PLAIN : PROTO_AUTO;
		a.o.stop_fd = eventfd(0, EFD_CLOEXEC);
		struct stopper s = {sv[1], a.o.stop_fd};
		assert_int_equal(pthread_create(&thread, NULL, stop_when_greeted, &s), 0);
		expect_failure(&a, "stopped by a signal");
		assert_int_equal(a.r, -EINTR);
		assert_int_equal(pthread_join(thread, NULL), 0);
		(void)close(a.o.stop_fd);
		(void)close(sv[0]);
		(void)close(sv[1]);
	}
}

/* Sends are bounded too. */
static void test_send_is_bounded(void **state)
{
	static char data[16 << 20];
	int sv[2];
	struct stream *s;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(stream_new(sv[0], &s), 0);
	const struct patience p = patience_new(50, -1);
	stream_set_patience(s, &p);
	(void)alarm(UNIT_DEADLINE_S);
	assert_int_equal(stream_send_raw(s, data, sizeof(data), NULL, 0), -ETIMEDOUT);
	(void)alarm(0);
	stream_free(s);
	(void)close(sv[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_port_with_nobody),
		cmocka_unit_test(test_port_stopped),
		cmocka_unit_test(test_port_opened_later),
		cmocka_unit_test(test_port_left),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_nobody_accepts),
		cmocka_unit_test(test_nobody_answers),
		cmocka_unit_test(test_silent_fd),
		cmocka_unit_test(test_stopped_while_greeting),
		cmocka_unit_test(test_send_is_bounded),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
