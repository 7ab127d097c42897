/* Frames over a socket: cut anywhere, in heaps, too long, too late, and woken up by a shutdown. */
#include "sample.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/codec.h"
#include "transport/stream.h"

#define PLAIN_LIMIT ((size_t)64 << 20)

/* A stream, and the raw socket at its other end. */
struct pair {
	struct stream *s;
	int fd;
};

static struct pair pair_new(void)
{
	int fd[2];
	struct pair p;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(stream_new(fd[0], &p.s), 0);
	small_send_buffer(fd[0]);
	p.fd = fd[1];
	return p;
}

static void pair_done(struct pair *p)
{
	stream_free(p->s);
	if (p->fd >= 0)
		assert_int_equal(close(p->fd), 0);
}

static void hang_up(struct pair *p)
{
	assert_int_equal(close(p->fd), 0);
	p->fd = -1;
}

static void put(int fd, const void *data, size_t len)
{
	const unsigned char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		assert_true(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

/* Waits until the other end has read all that was sent. */
static void wait_drained(int fd)
{
	struct timespec now, end = unit_deadline();
	int left = 1;

	for (;;) {
		assert_int_equal(ioctl(fd, SIOCOUTQ, &left), 0);
		if (left == 0)
			return;
		(void)clock_gettime(CLOCK_REALTIME, &now);
		assert_true(now.tv_sec < end.tv_sec);
		(void)sched_yield();
	}
}

/* ---- a thread that sends parts, each when the one before was read ---- */

struct feeder {
	pthread_t thread;
	int fd;
	const unsigned char *data;
	size_t len;
	size_t cut; /* bytes of the first part */
	bool bytewise;
};

static void *feed(void *arg)
{
	struct feeder *f = arg;

	if (f->bytewise) {
		for (size_t i = 0; i < f->len; i++) {
			put(f->fd, f->data + i, 1);
			wait_drained(f->fd);
		}
	} else {
		put(f->fd, f->data, f->cut);
		wait_drained(f->fd);
		put(f->fd, f->data + f->cut, f->len - f->cut);
	}
	return NULL;
}

static void feeder_start(struct feeder *f)
{
	assert_int_equal(pthread_create(&f->thread, NULL, feed, f), 0);
}

static void feeder_join(struct feeder *f)
{
	assert_int_equal(pthread_join(f->thread, NULL), 0);
}

/* ---- frames ---- */

/* A frame of m with its payload bytes behind the head. */
static unsigned char *frame_of(const struct msg *m, size_t *ret_len)
{
	size_t payload = MSG_HAS(m, payload) ? m->payload.len : 0;
	size_t bound = codec_encode_bound(m);
	unsigned char *buf = malloc(bound + payload);

	assert_non_null(buf);
	size_t n = codec_encode(m, buf, bound);
	assert_int_not_equal(n, 0);
	if (payload > 0)
		memcpy(buf + n, m->payload.data, payload);
	*ret_len = n + payload;
	return buf;
}

static struct msg write_request(uint64_t id, const void *data, size_t len)
{
	struct msg m = {0};

	MSG_SET(&m, op, MSG_WRITE);
	MSG_SET(&m, id, id);
	MSG_SET(&m, name, SLICE("a name"));
	MSG_SET(&m, payload, ((struct slice){data, len}));
	return m;
}

static void fill(unsigned char *p, size_t len, uint64_t seed)
{
	struct unit_random random = {seed + 1};

	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)unit_next(&random);
}

/* Receives one frame and compares it with want. */
static void expect_frame(struct stream *s, struct head_buf *hb, const struct msg *want)
{
	struct msg got = {0};
	const char *why = NULL;
	int r = stream_recv(s, hb, &got, &why);

	if (r != 0)
		fail_msg("stream_recv: %d %s", r, why != NULL ? why : "");
	assert_same_msg(&got, want);
	if (MSG_HAS(want, payload)) {
		size_t len = want->payload.len;
		unsigned char *data = malloc(len + 1);

		assert_non_null(data);
		assert_int_equal(stream_recv_payload(s, data, len), 0);
		if (len > 0)
			assert_memory_equal(data, want->payload.data, len);
		free(data);
	}
}

static void test_cut_anywhere(void **state)
{
	static const unsigned char data[] = "sixteen bytes...";
	struct msg m = write_request(7, data, sizeof(data) - 1);
	struct head_buf hb = {0};
	size_t len;
	unsigned char *frame = frame_of(&m, &len);

	(void)state;
	for (size_t cut = 1; cut < len; cut++) {
		struct pair p = pair_new();
		struct feeder f = {.fd = p.fd, .data = frame, .len = len, .cut = cut};

		feeder_start(&f);
		expect_frame(p.s, &hb, &m);
		feeder_join(&f);
		assert_false(stream_buffered(p.s));
		pair_done(&p);
	}
	struct pair p = pair_new();
	struct feeder f = {.fd = p.fd, .data = frame, .len = len, .bytewise = true};
	feeder_start(&f);
	expect_frame(p.s, &hb, &m);
	feeder_join(&f);
	pair_done(&p);
	head_buf_done(&hb);
	free(frame);
}

/* Payloads below and above what is read ahead, cut where one part of it is in the buffer. */
static void test_payload_cut(void **state)
{
	static const size_t lens[] = {1, 4000, 4095, 4096, 4097, 70000, MSG_PAYLOAD_MAX};
	static unsigned char data[MSG_PAYLOAD_MAX];
	struct head_buf hb = {0};

	(void)state;
	fill(data, sizeof(data), 1);
	for (size_t i = 0; i < COUNT(lens); i++) {
		struct msg m = write_request(i, data, lens[i]);
		size_t len;
		unsigned char *frame = frame_of(&m, &len);
		size_t head = len - lens[i];
		const size_t cuts[] = {1, head - 1, head, head + 1, head + lens[i] / 2, len - 1};

		for (size_t k = 0; k < COUNT(cuts); k++) {
			struct pair p = pair_new();
			struct feeder f = {.fd = p.fd, .data = frame, .len = len, .cut = cuts[k]};

			feeder_start(&f);
			expect_frame(p.s, &hb, &m);
			feeder_join(&f);
			pair_done(&p);
		}
		free(frame);
	}
	head_buf_done(&hb);
}

static void test_pipelined(void **state)
{
	enum { FRAMES = 200 };
	static unsigned char data[FRAMES * 37];
	struct pair p = pair_new();
	struct head_buf hb = {0};
	struct msg want[FRAMES];
	unsigned char *all = malloc(1 << 20);
	size_t len = 0;

	(void)state;
	assert_non_null(all);
	fill(data, sizeof(data), 2);
	for (size_t i = 0; i < FRAMES; i++) {
		size_t n;

		want[i] = write_request(i, data, i * 37);
		if (i % 3 == 0)
			want[i].present &= ~MSG_BIT(payload);
		unsigned char *frame = frame_of(&want[i], &n);
		assert_true(len + n <= 1 << 20);
		memcpy(all + len, frame, n);
		len += n;
		free(frame);
	}
	assert_false(stream_buffered(p.s));
	struct feeder f = {.fd = p.fd, .data = all, .len = len, .cut = 100};
	feeder_start(&f);
	bool seen_buffered = false;
	for (size_t i = 0; i < FRAMES; i++) {
		expect_frame(p.s, &hb, &want[i]);
		seen_buffered |= stream_buffered(p.s);
	}
	feeder_join(&f);
	assert_true(seen_buffered);
	assert_false(stream_buffered(p.s));
	head_buf_done(&hb);
	free(all);
	pair_done(&p);
}

static void test_payload_passed_over(void **state)
{
	static const size_t lens[] = {0, 5, 4096, 100000};
	static unsigned char data[100000];
	struct head_buf hb = {0};

	(void)state;
	for (size_t i = 0; i < COUNT(lens); i++) {
		struct pair p = pair_new();
		struct msg m = write_request(1, data, lens[i]), next = write_request(2, "x", 1),
			   got;
		const char *why = NULL;
		size_t len, more;
		unsigned char *frame = frame_of(&m, &len), *frame2 = frame_of(&next, &more);

		frame = realloc(frame, len + more);
		assert_non_null(frame);
		memcpy(frame + len, frame2, more);
		struct feeder f = {.fd = p.fd, .data = frame, .len = len + more, .cut = 20};
		feeder_start(&f);
		assert_int_equal(stream_recv(p.s, &hb, &got, &why), 0);
		assert_int_equal(got.payload.len, lens[i]);
		assert_int_equal(stream_recv_payload(p.s, NULL, lens[i]), 0);
		expect_frame(p.s, &hb, &next);
		feeder_join(&f);
		free(frame);
		free(frame2);
		pair_done(&p);
	}
	head_buf_done(&hb);
}

/* Heads larger than the buffer that is part of a head_buf, up to the limit, and small ones again.
 */
static void test_large_heads(void **state)
{
	static unsigned char groups[MSG_HEAD_MAX];
	static const size_t lens[] = {10, 1019, 1020, 1021, 5000, MSG_HEAD_MAX - 5, 10};
	struct pair p = pair_new();
	struct head_buf hb = {0};

	(void)state;
	fill(groups, sizeof(groups), 3);
	for (size_t i = 0; i < COUNT(lens); i++) {
		struct msg m = {0};
		size_t len;

		MSG_SET(&m, groups, ((struct slice){groups, lens[i]}));
		unsigned char *frame = frame_of(&m, &len);
		struct feeder f = {.fd = p.fd, .data = frame, .len = len, .cut = len / 2};
		feeder_start(&f);
		expect_frame(p.s, &hb, &m);
		feeder_join(&f);
		free(frame);
	}
	head_buf_done(&hb);
	head_buf_done(&hb); /* twice is no harm */
	pair_done(&p);
}

static void test_end_of_file(void **state)
{
	static const unsigned char data[] = "payload";
	struct msg m = write_request(7, data, sizeof(data) - 1), got;
	const char *why = NULL;
	size_t len;
	unsigned char *frame = frame_of(&m, &len);

	(void)state;
	for (size_t cut = 0; cut <= len; cut++) {
		struct pair p = pair_new();
		struct head_buf hb = {0};
		unsigned char buf[sizeof(data)];

		put(p.fd, frame, cut);
		hang_up(&p);
		int r = stream_recv(p.s, &hb, &got, &why);
		if (r == 0 && cut < len)
			r = stream_recv_payload(p.s, buf, sizeof(data) - 1);
		if (cut == 0)
			assert_int_equal(r, -ENODATA);
		else if (cut < len)
			assert_int_equal(r, -ECONNRESET);
		else
			assert_int_equal(r, 0);
		if (cut == len) {
			assert_int_equal(stream_recv_payload(p.s, buf, sizeof(data) - 1), 0);
			assert_int_equal(stream_recv(p.s, &hb, &got, &why), -ENODATA);
		}
		head_buf_done(&hb);
		pair_done(&p);
	}
	free(frame);
}

static void test_malformed_frames(void **state)
{
	static const char *const bad[] = {
	    "00000000 00000000",    "00000001 00010001 a0",    "ffffffff 00000001 a0",
	    "00000001 00000001 a1", "00000002 00000001 a0 00", "00000003 00000003 a11823",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct pair p = pair_new();
		struct head_buf hb = {0};
		struct msg got;
		unsigned char buf[32];
		const char *why = NULL;

		put(p.fd, buf, unit_from_hex(bad[i], buf, sizeof(buf)));
		assert_int_equal(stream_recv(p.s, &hb, &got, &why), -EPROTO);
		assert_non_null(why);
		head_buf_done(&hb);
		pair_done(&p);
	}
}

/* ---- sending ---- */

static void test_send(void **state)
{
	static unsigned char data[300000], groups[20000];
	struct pair p = pair_new();
	struct stream *other;
	struct head_buf hb = {0};
	struct msg m = {0};

	(void)state;
	assert_int_equal(stream_new(p.fd, &other), 0);
	p.fd = -1;
	fill(data, sizeof(data), 4);
	/* without payload, with an empty one, a head that fits no stack buffer */
	MSG_SET(&m, op, MSG_PING);
	assert_int_equal(stream_send(p.s, &m), 0);
	expect_frame(other, &hb, &m);
	MSG_SET(&m, payload, ((struct slice){NULL, 0}));
	assert_int_equal(stream_send(p.s, &m), 0);
	expect_frame(other, &hb, &m);
	MSG_SET(&m, groups, ((struct slice){groups, sizeof(groups)}));
	assert_int_equal(stream_send(p.s, &m), 0);
	expect_frame(other, &hb, &m);
	/* what is above a limit is not sent, not even in part */
	m.groups.len = sizeof(groups);
	MSG_SET(&m, payload, ((struct slice){data, MSG_PAYLOAD_MAX + 1}));
	assert_int_equal(stream_send(p.s, &m), -EMSGSIZE);
	m.payload.len = 100;
	assert_int_equal(stream_send(p.s, &m), 0);
	expect_frame(other, &hb, &m);
	head_buf_done(&hb);
	stream_free(other);
	pair_done(&p);
}

struct sender {
	pthread_t thread;
	struct stream *s;
	unsigned number;
	int result;
	unsigned char *data;
};

enum { SENDERS = 8, SENDER_FRAMES = 60, SENDER_MAX = 40000 };

/* Every frame tells its sender, its turn, and by these its payload. */
static size_t sender_frame(unsigned number, unsigned turn, unsigned char *data, struct msg *ret)
{
	size_t len = (number * 7919 + turn * 104729) % SENDER_MAX;

	fill(data, len, number * 1000 + turn);
	*ret = write_request(number * 1000 + turn, data, len);
	return len;
}

static void *send_frames(void *arg)
{
	struct sender *s = arg;

	for (unsigned turn = 0; turn < SENDER_FRAMES && s->result == 0; turn++) {
		struct msg m;

		(void)sender_frame(s->number, turn, s->data, &m);
		s->result = stream_send(s->s, &m);
	}
	return NULL;
}

/* Frames of many threads arrive whole, those of one thread in order. */
static void test_many_senders(void **state)
{
	struct sender senders[SENDERS];
	struct pair p = pair_new();
	struct stream *other;
	struct head_buf hb = {0};
	unsigned turns[SENDERS] = {0};
	unsigned char *data = malloc(SENDER_MAX), *want = malloc(SENDER_MAX);

	(void)state;
	assert_non_null(data);
	assert_non_null(want);
	assert_int_equal(stream_new(p.fd, &other), 0);
	p.fd = -1;
	for (unsigned i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){.s = p.s, .number = i, .data = malloc(SENDER_MAX)};
		assert_non_null(senders[i].data);
		assert_int_equal(pthread_create(&senders[i].thread, NULL, send_frames, &senders[i]),
				 0);
	}
	for (unsigned i = 0; i < SENDERS * SENDER_FRAMES; i++) {
		struct msg got, expected;
		const char *why = NULL;

		assert_int_equal(stream_recv(other, &hb, &got, &why), 0);
		unsigned number = (unsigned)(got.id / 1000), turn = (unsigned)(got.id % 1000);
		assert_true(number < SENDERS);
		assert_int_equal(turn, turns[number]++);
		size_t len = sender_frame(number, turn, want, &expected);
		assert_int_equal(got.payload.len, len);
		assert_int_equal(stream_recv_payload(other, data, len), 0);
		if (len > 0)
			assert_memory_equal(data, want, len);
	}
	for (unsigned i = 0; i < SENDERS; i++) {
		assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
		assert_int_equal(senders[i].result, 0);
		free(senders[i].data);
	}
	head_buf_done(&hb);
	free(data);
	free(want);
	stream_free(other);
	pair_done(&p);
}

/* try_send takes what fits; send_from goes on from there. */
static void test_try_send(void **state)
{
	static unsigned char a[100000], b[MSG_PAYLOAD_MAX], got[sizeof(a) + sizeof(b)];
	struct pair p = pair_new();
	size_t from = 0;
	ssize_t n;

	(void)state;
	fill(a, sizeof(a), 5);
	fill(b, sizeof(b), 6);
	while ((n = stream_try_send(p.s, a, sizeof(a), b, sizeof(b), from)) > 0)
		from += (size_t)n;
	assert_int_equal(n, -EAGAIN);
	assert_in_range(from, 1, sizeof(got) - 1);

	size_t have = 0;
	while (have < from) {
		n = read(p.fd, got + have, from - have);
		assert_true(n > 0);
		have += (size_t)n;
	}
	(void)stream_wait_writable(p.s);
	n = stream_try_send(p.s, a, sizeof(a), b, sizeof(b), from);
	assert_true(n > 0);
	from += (size_t)n;

	while (from < sizeof(got)) {
		while (have < from) {
			n = read(p.fd, got + have, from - have);
			assert_true(n > 0);
			have += (size_t)n;
		}
		n = stream_try_send(p.s, a, sizeof(a), b, sizeof(b), from);
		assert_true(n > 0);
		from += (size_t)n;
		if (sizeof(got) - from < 1000) {
			assert_int_equal(stream_send_from(p.s, a, sizeof(a), b, sizeof(b), from),
					 0);
			from = sizeof(got);
		}
	}
	while (have < from) {
		n = read(p.fd, got + have, from - have);
		assert_true(n > 0);
		have += (size_t)n;
	}
	assert_memory_equal(got, a, sizeof(a));
	assert_memory_equal(got + sizeof(a), b, sizeof(b));

	hang_up(&p);
	n = stream_try_send(p.s, a, 1, NULL, 0, 0);
	assert_int_equal(n, -EPIPE); /* and no SIGPIPE */
	pair_done(&p);
}

/* ---- plain frames ---- */

struct plain_in {
	unsigned char *buf;
	size_t cap, len;
};

static int recv_plain(struct stream *s, size_t limit, struct plain_in *in, int timeout_ms)
{
	return stream_recv_plain(s, limit, &in->buf, &in->cap, &in->len, timeout_ms);
}

static size_t plain_frame(unsigned char *to, const void *data, size_t len)
{
	to[0] = (unsigned char)(len >> 24);
	to[1] = (unsigned char)(len >> 16);
	to[2] = (unsigned char)(len >> 8);
	to[3] = (unsigned char)len;
	if (len > 0)
		memcpy(to + 4, data, len);
	return len + 4;
}

static void test_plain_frames(void **state)
{
	static const size_t lens[] = {1, 100, 4095, 4096, 16384, 16385, 200000};
	static unsigned char data[200000], frame[200004];
	struct pair p = pair_new();
	struct plain_in in = {0};

	(void)state;
	fill(data, sizeof(data), 7);
	for (size_t i = 0; i < COUNT(lens); i++) {
		size_t n = plain_frame(frame, data, lens[i]);
		struct feeder f = {.fd = p.fd, .data = frame, .len = n, .cut = n / 2};

		feeder_start(&f);
		assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, -1), 0);
		feeder_join(&f);
		assert_int_equal(in.len, lens[i]);
		assert_memory_equal(in.buf, data, lens[i]);
	}
	/* cut anywhere, and byte by byte with a time limit that is not reached */
	size_t n = plain_frame(frame, data, 20);
	for (size_t cut = 1; cut < n; cut++) {
		struct feeder f = {.fd = p.fd, .data = frame, .len = n, .cut = cut};

		feeder_start(&f);
		assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, UNIT_DEADLINE_S * 1000), 0);
		feeder_join(&f);
		assert_int_equal(in.len, 20);
		assert_memory_equal(in.buf, data, 20);
	}
	struct feeder f = {.fd = p.fd, .data = frame, .len = n, .bytewise = true};
	feeder_start(&f);
	assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, UNIT_DEADLINE_S * 1000), 0);
	feeder_join(&f);
	assert_memory_equal(in.buf, data, 20);
	/* two at once */
	n += plain_frame(frame + n, data + 20, 30);
	put(p.fd, frame, n);
	assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, -1), 0);
	assert_int_equal(in.len, 20);
	assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, -1), 0);
	assert_int_equal(in.len, 30);
	assert_memory_equal(in.buf, data + 20, 30);
	hang_up(&p);
	assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, -1), -ENODATA);
	free(in.buf);
	pair_done(&p);
}

static void test_plain_limit(void **state)
{
	static const unsigned char heads[][4] = {
	    {0, 0, 0, 0}, {0, 0, 0, 101}, {0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}};
	unsigned char frame[104] = {0, 0, 0, 100};

	(void)state;
	for (size_t i = 0; i < COUNT(heads); i++) {
		struct pair p = pair_new();
		struct plain_in in = {0};

		put(p.fd, heads[i], 4);
		assert_int_equal(recv_plain(p.s, 100, &in, -1), -EPROTO);
		assert_null(in.buf); /* nothing was allocated for it */
		pair_done(&p);
	}
	struct pair p = pair_new();
	struct plain_in in = {0};
	put(p.fd, frame, sizeof(frame));
	assert_int_equal(recv_plain(p.s, 100, &in, -1), 0);
	assert_int_equal(in.len, 100);
	assert_true(in.cap <= 100);
	free(in.buf);
	pair_done(&p);
}

/* Memory grows with what arrives, whatever the length says. */
static void test_plain_claims(void **state)
{
	unsigned char frame[4 + 10] = {0x04, 0, 0, 0}; /* 64 MiB */
	struct pair p = pair_new();
	struct plain_in in = {0};

	(void)state;
	put(p.fd, frame, sizeof(frame));
	hang_up(&p);
	assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, -1), -ECONNRESET);
	assert_true(in.cap <= 65536);
	free(in.buf);
	pair_done(&p);

	for (size_t cut = 1; cut < 6; cut++) {
		unsigned char small[] = {0, 0, 0, 2, 1, 2};

		p = pair_new();
		in = (struct plain_in){0};
		put(p.fd, small, cut);
		hang_up(&p);
		assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, -1), -ECONNRESET);
		free(in.buf);
		pair_done(&p);
	}
}

static int64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void test_plain_timeout(void **state)
{
	static const unsigned char frame[] = {0, 0, 0, 2, 1, 2};

	(void)state;
	/* silence, also after a part of the frame */
	for (size_t cut = 0; cut < sizeof(frame); cut++) {
		struct pair p = pair_new();
		struct plain_in in = {0};
		int64_t began = now_ms();

		put(p.fd, frame, cut);
		assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, 20), -ETIMEDOUT);
		assert_in_range(now_ms() - began, 18, UNIT_DEADLINE_S * 1000);
		free(in.buf);
		pair_done(&p);
	}
}

static void on_signal(int sig)
{
	(void)sig;
}

struct interrupter {
	pthread_t thread, target;
	atomic_bool stop;
};

static void *interrupt_often(void *arg)
{
	struct interrupter *i = arg;

	while (!i->stop) {
		(void)pthread_kill(i->target, SIGUSR1);
		(void)sched_yield();
	}
	return NULL;
}

/* A signal handler that returns neither ends the time limit nor the wait. */
static void test_plain_timeout_with_signals(void **state)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
	struct interrupter i = {.target = pthread_self()};
	struct pair p = pair_new();
	struct plain_in in = {0};

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &sa, &old), 0);
	assert_int_equal(pthread_create(&i.thread, NULL, interrupt_often, &i), 0);
	(void)alarm(UNIT_DEADLINE_S); /* without its time limit it waits for ever */
	int r = recv_plain(p.s, PLAIN_LIMIT, &in, 100);
	(void)alarm(0);
	i.stop = true;
	assert_int_equal(pthread_join(i.thread, NULL), 0);
	assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
	assert_int_equal(r, -ETIMEDOUT);
	free(in.buf);
	pair_done(&p);
}

/* The frame after the last plain one may be an extended one: nothing of it is lost. */
static void test_plain_then_extended(void **state)
{
	struct msg m = write_request(3, "data", 4);
	unsigned char buf[256];
	struct pair p = pair_new();
	struct plain_in in = {0};
	struct head_buf hb = {0};
	size_t len, n = plain_frame(buf, "plain", 5);
	unsigned char *frame = frame_of(&m, &len);

	(void)state;
	memcpy(buf + n, frame, len);
	put(p.fd, buf, n + len);
	assert_int_equal(recv_plain(p.s, PLAIN_LIMIT, &in, 1000), 0);
	assert_int_equal(in.len, 5);
	assert_memory_equal(in.buf, "plain", 5);
	assert_false(stream_buffered(p.s)); /* who hands the socket on loses nothing either */
	expect_frame(p.s, &hb, &m);
	head_buf_done(&hb);
	free(frame);
	free(in.buf);
	pair_done(&p);
}

static void test_send_plain(void **state)
{
	static unsigned char data[20000];
	struct pair p = pair_new();
	struct stream *other;
	struct plain_in in = {0};

	(void)state;
	fill(data, sizeof(data), 8);
	assert_int_equal(stream_new(p.fd, &other), 0);
	p.fd = -1;
	assert_int_equal(stream_send_plain(p.s, data, sizeof(data)), 0);
	assert_int_equal(recv_plain(other, PLAIN_LIMIT, &in, -1), 0);
	assert_int_equal(in.len, sizeof(data));
	assert_memory_equal(in.buf, data, sizeof(data));
	free(in.buf);
	stream_free(other);
	pair_done(&p);
}

/* ---- shutdown ---- */

struct waiter {
	pthread_t thread;
	struct stream *s;
	bool sends;
	int result;
};

static void *wait_in_stream(void *arg)
{
	static const unsigned char much[8 << 20];
	struct waiter *w = arg;
	struct head_buf hb = {0};
	struct msg m;
	const char *why;

	w->result = w->sends ? stream_send_raw(w->s, much, sizeof(much), NULL, 0)
			     : stream_recv(w->s, &hb, &m, &why);
	head_buf_done(&hb);
	return NULL;
}

/* A writable end that is full: the sender has begun, and waits. */
static void wait_full(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, UNIT_DEADLINE_S * 1000), 1);
}

static void test_shutdown_wakes(void **state)
{
	(void)state;
	for (int sends = 0; sends < 2; sends++) {
		struct pair p = pair_new();
		struct waiter w = {.s = p.s, .sends = sends};

		assert_int_equal(pthread_create(&w.thread, NULL, wait_in_stream, &w), 0);
		if (sends)
			wait_full(p.fd);
		stream_shutdown(p.s);
		assert_int_equal(pthread_join(w.thread, NULL), 0);
		assert_true(w.result < 0);
		stream_shutdown(p.s); /* again is no harm */
		/* and nothing waits from now on */
		assert_true(stream_send_raw(p.s, "x", 1, NULL, 0) < 0);
		(void)stream_wait_writable(p.s);
		pair_done(&p);
	}
}

/*
 * What is no socket (a virtio-serial port) has no shutdown(2). A FIFO that is
 * open for both directions behaves alike: it waits, and gives back what it is
 * given.
 */
static int open_fifo(void)
{
	char path[] = "/tmp/vsockfs-test-XXXXXX", fifo[64];

	assert_non_null(mkdtemp(path));
	(void)snprintf(fifo, sizeof(fifo), "%s/fifo", path);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	int fd = open(fifo, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(unlink(fifo), 0);
	assert_int_equal(rmdir(path), 0);
	return fd;
}

static void test_no_socket(void **state)
{
	struct msg m = write_request(9, "data", 4);
	struct head_buf hb = {0};
	struct plain_in in = {0};
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(open_fifo(), &s), 0);
	assert_int_equal(stream_send(s, &m), 0);
	expect_frame(s, &hb, &m);
	assert_int_equal(stream_send_plain(s, "plain", 5), 0);
	assert_int_equal(recv_plain(s, 100, &in, 1000), 0);
	assert_int_equal(in.len, 5);
	assert_int_equal(recv_plain(s, 100, &in, 20), -ETIMEDOUT);
	free(in.buf);
	head_buf_done(&hb);
	stream_free(s);
}

static void test_shutdown_wakes_no_socket(void **state)
{
	(void)state;
	for (int sends = 0; sends < 2; sends++) {
		struct stream *s;
		int fd = open_fifo(), watch = dup(fd);
		struct waiter w = {.sends = sends};

		assert_true(watch >= 0);
		assert_int_equal(stream_new(fd, &s), 0);
		w.s = s;
		assert_int_equal(pthread_create(&w.thread, NULL, wait_in_stream, &w), 0);
		if (sends)
			wait_full(watch);
		stream_shutdown(s);
		(void)alarm(UNIT_DEADLINE_S); /* a sender that goes on in circles never ends */
		assert_int_equal(pthread_join(w.thread, NULL), 0);
		(void)alarm(0);
		assert_int_equal(w.result, -ECONNRESET);
		(void)stream_wait_writable(s);
		stream_free(s);
		assert_int_equal(close(watch), 0);
	}
}

static void test_free_hangs_up(void **state)
{
	struct pair p = pair_new();
	char byte;

	(void)state;
	stream_free(p.s);
	p.s = NULL;
	assert_int_equal(read(p.fd, &byte, 1), 0);
	pair_done(&p);
}

static void test_no_descriptor(void **state)
{
	struct stream *s;
	int fd = dup(0);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(stream_new(fd, &s), -EBADF);
	stream_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_cut_anywhere),
	    cmocka_unit_test(test_payload_cut),
	    cmocka_unit_test(test_pipelined),
	    cmocka_unit_test(test_payload_passed_over),
	    cmocka_unit_test(test_large_heads),
	    cmocka_unit_test(test_end_of_file),
	    cmocka_unit_test(test_malformed_frames),
	    cmocka_unit_test(test_send),
	    cmocka_unit_test(test_many_senders),
	    cmocka_unit_test(test_try_send),
	    cmocka_unit_test(test_plain_frames),
	    cmocka_unit_test(test_plain_limit),
	    cmocka_unit_test(test_plain_claims),
	    cmocka_unit_test(test_plain_timeout),
	    cmocka_unit_test(test_plain_timeout_with_signals),
	    cmocka_unit_test(test_plain_then_extended),
	    cmocka_unit_test(test_send_plain),
	    cmocka_unit_test(test_shutdown_wakes),
	    cmocka_unit_test(test_no_socket),
	    cmocka_unit_test(test_shutdown_wakes_no_socket),
	    cmocka_unit_test(test_free_hangs_up),
	    cmocka_unit_test(test_no_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
