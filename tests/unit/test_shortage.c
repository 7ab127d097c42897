/*
 * Memory, descriptors and threads that are not there: what a module asks for while it does one
 * thing is counted, and then each in turn is refused. It ends with an errno, or does without; it
 * has given back whatever it had (descriptors here, memory by the address sanitizer), and the next
 * try succeeds.
 *
 * Only what this thread asks for is refused.
 */
#include "host_client.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <syslog.h>

#include "cache/cache.h"
#include "connect/connect.h"
#include "core/log.h"
#include "plain/plain_client.h"


/* ---- what is refused ---- */

static _Thread_local bool counting;
static _Thread_local long until; /* so many are granted before the one that is refused */

static bool refused(void)
{
	return counting && until-- == 0;
}

typedef void *address;


#define WRAP(type, name, params, args, failure, err)                                               \
	type __real_##name params;                                                                 \
	type __wrap_##name params;                                                                 \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		if (!refused())                                                                    \
			return __real_##name args;                                                 \
		errno = err;                                                                       \
		return failure;                                                                    \
	}

WRAP(address, malloc, (size_t n), (n), NULL, ENOMEM)
WRAP(address, calloc, (size_t n, size_t size), (n, size), NULL, ENOMEM)
WRAP(address, realloc, (void *p, size_t n), (p, n), NULL, ENOMEM)
WRAP(address, mmap64, (void *at, size_t n, int prot, int flags, int fd, off_t off),
     (at, n, prot, flags, fd, off), MAP_FAILED, ENOMEM)
WRAP(int, eventfd, (unsigned value, int flags), (value, flags), -1, EMFILE)
WRAP(int, open64, (const char *path, int flags, mode_t mode), (path, flags, mode), -1, EMFILE)
WRAP(int, openat64, (int dir, const char *path, int flags, mode_t mode),
     (dir, path, flags, mode), -1, ENFILE)
WRAP(int, fcntl64, (int fd, int cmd, long arg), (fd, cmd, arg), -1, EMFILE)
WRAP(int, epoll_create1, (int flags), (flags), -1, EMFILE)
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1, EMFILE)
WRAP(int, pipe2, (int *fds, int flags), (fds, flags), -1, EMFILE)
WRAP(int, fanotify_init, (unsigned flags, unsigned events), (flags, events), -1, EMFILE)
WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len),
     (fd, level, name, value, len), -1, ENOBUFS)
WRAP(int, pthread_create,
     (pthread_t * t, const pthread_attr_t *attr, void *(*run)(void *), void *arg),
     (t, attr, run, arg), EAGAIN, EAGAIN)

/* ---- what is tried ---- */

static size_t descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n;
}

static int encode_plain(void *arg)
{
	static char data[5000];
	struct plain_request q = {.op = PLAIN_WRITE, .path = SLICE("/w"), .data = {data, sizeof(data)}};
	struct plain_entry e = {.name = SLICE("name")};
	struct plain_buf request = {0}, entries = {0}, reply = {0};
	int r = plain_request_encode(&q, &request);

	(void)arg;
	for (int i = 0; i < 100 && r == 0; i++)
		r = plain_entry_put(&entries, &e);
	if (r == 0) {
		struct plain_reply p = {.entry_count = 100, .entries = {entries.data, entries.len}};
		r = plain_reply_encode(&p, &reply);
	}
	plain_buf_done(&request);
	plain_buf_done(&entries);
	plain_buf_done(&reply);
	return r;
}

static void pair(int fd[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
}

/* A head that is too large for the room in a head_buf, there and back. */
static int large_heads(void *arg)
{
	static char name[3000];
	struct stream *a = NULL, *b = NULL;
	struct head_buf head = {0};
	struct msg m = {0}, got = {0};
	const char *why;
	int fd[2];

	(void)arg;
	pair(fd);
	MSG_SET(&m, op, MSG_LOOKUP);
	MSG_SET(&m, name, ((struct slice){name, sizeof(name)}));
	int r = stream_new(fd[0], &a), other = stream_new(fd[1], &b);
	if (r == 0)
		r = other;
	if (r == 0)
		r = stream_send(a, &m);
	if (r == 0)
		r = stream_recv(b, &head, &got, &why);
	head_buf_done(&head);
	stream_free(a);
	stream_free(b);
	return r;
}

static int plain_frame(void *arg)
{
	static char data[20000];
	struct stream *a = NULL, *b = NULL;
	unsigned char *buf = NULL;
	size_t cap = 0, len;
	int fd[2];

	(void)arg;
	pair(fd);
	int r = stream_new(fd[0], &a), other = stream_new(fd[1], &b);
	if (r == 0)
		r = other;
	if (r == 0)
		r = stream_send_plain(a, data, sizeof(data));
	if (r == 0)
		r = stream_recv_plain(b, PLAIN_FRAME_MAX, &buf, &cap, &len, 5000);
	free(buf);
	stream_free(a);
	stream_free(b);
	return r;
}

static int a_server(void *arg)
{
	const struct server_config config = {
		.dir = arg, .plain = &plain_host, .plain_prefix = "/w"};
	struct server *s = NULL;
	char err[256] = "";
	int r = server_new(&config, &s, err, sizeof(err));

	assert_true((r == 0) == (s != NULL));
	assert_true(r == 0 || err[0] != '\0');
	server_free(s);
	return r;
}

static int a_session(void *arg)
{
	struct host_server *hs = arg;
	int fd[2];

	pair(fd);
	int r = server_add(hs->server, fd[0]);
	(void)close(fd[1]);
	counting = false; /* until the session is gone */
	assert_int_equal(server_run(hs->server, true), 0);
	return r;
}

static size_t answer_to_hello(unsigned char *buf)
{
	unsigned char data[HELLO_DATA_MAX];
	struct plain_reply p = {0};
	struct plain_buf b = {0};
	struct msg m = {0};

	MSG_SET(&m, version, HELLO_VERSION);
	MSG_SET(&m, slots, 4);
	MSG_SET(&m, node, 1);
	MSG_SET(&m, attr, ((struct attr){.mode = S_IFDIR | 0755, .nlink = 2}));
	p.data = (struct slice){data, hello_encode(&m, data)};
	assert_int_equal(plain_reply_encode(&p, &b), 0);
	size_t len = b.len;
	assert_true(len < 256);
	memcpy(buf, (unsigned char[]){0, 0, 0, (unsigned char)len}, 4);
	memcpy(buf + 4, b.data, len);
	plain_buf_done(&b);
	return 4 + len;
}

/* Connecting, greeting, and the cache above it. */
static int a_client(void *arg)
{
	const struct connect_options o = {
		.proto = PROTO_EXTENDED, .needs = "proto", .stop_fd = -1, .send_queue = 1 << 20};
	const struct cache_options cache_options = {.page_budget = 1 << 20, .node_budget = 100};
	struct endpoint e = {.kind = ENDPOINT_FD};
	unsigned char hello[512];
	struct backend *b = NULL;
	struct cache *c = NULL;
	char err[512];
	int fd[2];

	(void)arg;
	bool counted = counting;
	counting = false;
	size_t len = answer_to_hello(hello);
	pair(fd);
	assert_int_equal(send(fd[1], hello, len, MSG_NOSIGNAL), len);
	counting = counted;
	e.fd = fd[0];
	int r = transport_connect(&e, &o, &b, err, sizeof(err));
	if (r == 0)
		r = cache_new(b, &cache_options, &c);
	if (b != NULL)
		b->ops->shutdown(b);
	if (c != NULL)
		cache_free(c);
	if (b != NULL)
		b->ops->free(b);
	(void)close(fd[0]);
	(void)close(fd[1]);
	return r;
}

/* ---- each in turn ---- */

static void in_turn(const char *what, int (*try)(void *arg), void *arg)
{
	assert_int_equal(try(arg), 0); /* what is made once and kept is there */
	size_t before = descriptors();
	long n = 0;

	for (;; n++) {
		until = n;
		counting = true;
		int r = try(arg);
		counting = false;
		bool all = until >= 0;
		if (r > 0 || r < -4095)
			fail_msg("%s, without the one after %ld: %d is no errno", what, n, r);
		if (descriptors() != before)
			fail_msg("%s, without the one after %ld: descriptors are left", what, n);
		if (all) {
			assert_int_equal(r, 0);
			break;
		}
	}
	if (n == 0)
		fail_msg("%s asks for nothing", what);
}

static void test_codecs_and_streams(void **state)
{
	(void)state;
	in_turn("the plain codec", encode_plain, NULL);
	in_turn("large heads", large_heads, NULL);
	in_turn("a plain frame", plain_frame, NULL);
}

static void test_client(void **state)
{
	(void)state;
	in_turn("a client", a_client, NULL);
}

static void test_server(void **state)
{
	struct host_server *hs = *state;

	in_turn("a server", a_server, hs->dir);
	in_turn("a session", a_session, hs);
}

static int start(void **state)
{
	struct host_server *hs = calloc(1, sizeof(*hs));

	host_server_start(hs, NULL);
	*state = hs;
	return 0;
}

static int stop(void **state)
{
	host_server_stop(*state);
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codecs_and_streams),
		cmocka_unit_test(test_client),
		cmocka_unit_test_setup_teardown(test_server, start, stop),
	};

	log_init("test", LOG_EMERG);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
