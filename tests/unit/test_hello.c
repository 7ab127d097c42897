/*
 * The greeting between this generation, the one before it, which is held here
 * as bytes, and one that says more: who meets whom goes on, and a refusal is
 * final. The other client is a socket, the other server a thread.
 */
#include "unit.h"

#include "host_fixture.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/un.h>

#include "temp_path.h"
#include "connect/connect.h"
#include "transport/endpoint.h"

/* ---- today's bytes ---- */

/* What clients of version 1 say: without a feature, with cache=lease, and with acl as well. */
static const char *const hello_of_today[] = {
	"00000018 a2 626f70 1820 6464617461 4c 56534f434b465331 a1 181d01",
	"0000001b a2 626f70 1820 6464617461 4f 56534f434b465331 a2 181d01 181e04",
	"0000001c a2 626f70 1820 6464617461 50 56534f434b465331 a2 181d01 181e1844",
};
static const uint64_t features_of_today[] = {0, HELLO_PUSH, HELLO_PUSH | HELLO_ACL};

/* The map of what a privileged server answers, without its head: node to session. */
#define PAIRS_OF_TODAY                                                                             \
	"0401 0f00 1000 1819 90 03 190708 1941ed 04 1903e8 1903e8 00 191000 08 191000"             \
	"1a6553f102 00 1a6553f101 00 1a6553f101 00"                                                \
	"181d01 181e01 181f190100 18201b0123456789abcdef 182105"
#define MAGIC "56534f434b465331"
static const char reply_of_today[] =
	"00000060 a2 63657272 00 6464617461 5853" MAGIC "a9" PAIRS_OF_TODAY;

/* All that such a client takes in a reply: anything else ended it. */
#define KEYS_OF_TODAY                                                                              \
	(MSG_BIT(node) | MSG_BIT(uid) | MSG_BIT(gid) | MSG_BIT(attr) | MSG_BIT(version) |          \
	 MSG_BIT(features) | MSG_BIT(slots) | MSG_BIT(epoch) | MSG_BIT(session))

/* Five pairs that a later version may add: keys of any kind, values of any kind and depth. */
#define PAIRS_OF_LATER                                                                             \
	"1903e8 82 a1018200f6 43616263  183f 6178  20 f5  666578706f7274 427372  4101 1bffffffffffffffff"

static size_t frame_from_hex(const char *hex, unsigned char *buf)
{
	size_t n = unit_from_hex(hex, buf, 512);

	assert_int_equal(n, 4 + (buf[2] << 8 | buf[3]));
	return n;
}

/* ---- a server that the test plays ---- */

/* What it does with a greeting; what comes after it, it answers as a plain one. */
enum manner { ANSWERS, CLOSES, IS_SILENT };

struct played {
	enum manner manner;
	unsigned char reply[1024]; /* a whole frame */
	size_t reply_len;
	int listener;
	int done; /* eventfd: no more clients come */
	pthread_t thread;
	unsigned connections, greetings, others; /* read after the thread has ended */
	unsigned char greeting[512];		 /* the last one, with its length */
	size_t greeting_len;
};

static void answer_plainly(struct stream *s)
{
	static const struct plain_reply root = {
		.has_stat = true, .stat = {.mode = 0755, .is_dir = true, .ino = 1}};
	struct plain_buf out = {0};

	assert_int_equal(plain_reply_encode(&root, &out), 0);
	(void)stream_send_plain(s, out.data, out.len);
	plain_buf_done(&out);
}

static bool answer_greeting(struct played *p, struct stream *s, const unsigned char *frame,
			    size_t len)
{
	p->greetings++;
	if (len <= sizeof(p->greeting)) {
		memcpy(p->greeting, frame, len);
		p->greeting_len = len;
	}
	if (p->manner == ANSWERS)
		(void)stream_send_raw(s, p->reply, p->reply_len, NULL, 0);
	return p->manner != CLOSES;
}

static void play(struct played *p, int fd)
{
	unsigned char *buf = NULL;
	size_t cap = 0, len;
	struct stream *s;

	p->connections++;
	if (stream_new(fd, &s) < 0)
		return;
	while (stream_recv_plain(s, PLAIN_FRAME_MAX, &buf, &cap, &len, -1) == 0) {
		struct plain_request q;
		const char *why;

		if (plain_request_decode(buf, len, &q, &why) < 0)
			break; /* extended by now */
		if (q.op == PLAIN_HELLO) {
			if (!answer_greeting(p, s, buf, len))
				break;
		} else {
			p->others++;
			answer_plainly(s);
		}
	}
	free(buf);
	stream_free(s);
}

static void *played_main(void *arg)
{
	struct played *p = arg;

	for (;;) {
		struct pollfd on[2] = {{.fd = p->listener, .events = POLLIN},
				       {.fd = p->done, .events = POLLIN}};

		if (poll(on, 2, -1) < 0 && errno != EINTR)
			break;
		if (on[0].revents != 0)
			play(p, accept(p->listener, NULL, NULL));
		else if (on[1].revents != 0)
			break;
	}
	return NULL;
}

static struct endpoint address(void)
{
	struct endpoint e = {.kind = ENDPOINT_UNIX};

	memcpy(e.path, temp_path, sizeof(temp_path));
	return e;
}

static void played_start(struct played *p)
{
	const struct endpoint e = address();
	bool connected;
	char err[256];

	p->connections = p->greetings = p->others = 0;
	assert_int_equal(endpoint_listen(&e, NULL, &p->listener, &connected, err, sizeof(err)), 0);
	p->done = eventfd(0, EFD_CLOEXEC);
	assert_true(p->done >= 0);
	assert_int_equal(pthread_create(&p->thread, NULL, played_main, p), 0);
}

static void played_stop(struct played *p)
{
	uint64_t one = 1;

	assert_int_equal(write(p->done, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(p->thread, NULL), 0);
	(void)close(p->done);
	(void)close(p->listener);
	(void)unlink(temp_path);
}

/* The frame of a reply to HELLO; data NULL: none. */
static void reply_with(struct played *p, int err, const unsigned char *data, size_t len)
{
	const struct plain_reply reply = {.err = err, .data = {data, len}};
	struct plain_buf out = {0};

	assert_int_equal(plain_reply_encode(&reply, &out), 0);
	assert_true(out.len + 4 <= sizeof(p->reply));
	memcpy(p->reply, (unsigned char[]){0, 0, (unsigned char)(out.len >> 8), (unsigned char)out.len},
	       4);
	memcpy(p->reply + 4, out.data, out.len);
	p->reply_len = out.len + 4;
	p->manner = ANSWERS;
	plain_buf_done(&out);
}

static void reply_with_hex(struct played *p, int err, const char *hex)
{
	unsigned char data[512];

	reply_with(p, err, data, unit_from_hex(hex, data, sizeof(data)));
}

/* ---- a client of ours ---- */

struct outcome {
	int r;
	char err[512];
	struct backend_info info;
};

static struct outcome meet(struct played *p, const struct connect_options *like)
{
	struct connect_options o = *like;
	const struct endpoint e = address();
	struct backend *b = NULL;
	struct outcome out = {.err = ""};

	o.stop_fd = -1;
	o.timeout_ms = o.timeout_ms != 0 ? o.timeout_ms : UNIT_DEADLINE_S * 1000;
	o.plain_base = "/w";
	o.send_queue = 1 << 20;
	played_start(p);
	out.r = transport_connect(&e, &o, &b, out.err, sizeof(out.err));
	if (out.r == 0) {
		out.info = b->info;
		b->ops->shutdown(b);
		b->ops->free(b);
	}
	played_stop(p);
	return out;
}

static void expect_extended(struct played *p, const struct connect_options *o)
{
	struct outcome out = meet(p, o);

	if (out.r < 0)
		fail_msg("%s", out.err);
	assert_false(out.info.plain);
	assert_true(out.info.server_root);
	assert_int_equal(out.info.root_node, 1);
	assert_true(out.info.epoch == 81985529216486895);
	assert_int_equal(out.info.idle_files, IDLE_FILES); /* it does not say */
	assert_int_equal(p->connections, 1);
}

static void expect_plain(struct played *p, const struct connect_options *o, unsigned connections)
{
	struct outcome out = meet(p, o);

	if (out.r < 0)
		fail_msg("%s", out.err);
	assert_true(out.info.plain);
	assert_int_equal(p->connections, connections);
	assert_int_equal(p->greetings, 1);
	assert_true(p->others > 0);
}

/* Final: one connection, one greeting, nothing else said; and the reason names each text. */
static void expect_final(struct played *p, const struct connect_options *o, const char *text,
			 const char *also)
{
	struct outcome out = meet(p, o);

	assert_true(out.r < 0);
	if (strstr(out.err, text) == NULL || strstr(out.err, also) == NULL)
		fail_msg("'%s' and '%s' are to be in: %s", text, also, out.err);
	assert_null(strchr(out.err, '\n'));
	assert_int_equal(p->connections, 1);
	assert_int_equal(p->greetings, 1);
	assert_int_equal(p->others, 0);
}

static const struct connect_options nothing_special = {0};

/* ---- the client and servers of each generation ---- */

static void test_today_is_still_said(void **state)
{
	struct played p = {0};

	(void)state;
	for (size_t i = 0; i < COUNT(hello_of_today); i++) {
		const struct connect_options o = {.push = (features_of_today[i] & HELLO_PUSH) != 0,
						  .acl = (features_of_today[i] & HELLO_ACL) != 0};
		unsigned char want[512];
		size_t n = frame_from_hex(hello_of_today[i], want);

		p.reply_len = frame_from_hex(reply_of_today, p.reply);
		expect_extended(&p, &o);
		assert_int_equal(p.greeting_len, n - 4);
		assert_memory_equal(p.greeting, want + 4, n - 4);
	}
}

static void test_later_server(void **state)
{
	struct played p = {0};

	(void)state;
	reply_with_hex(&p, 0, MAGIC "ae" PAIRS_OF_LATER PAIRS_OF_TODAY);
	expect_extended(&p, &nothing_special);
	reply_with_hex(&p, 0, MAGIC "ae" PAIRS_OF_TODAY PAIRS_OF_LATER);
	expect_extended(&p, &nothing_special);
}

/* What is not a map any more is no server, however it came about: not a plain one either. */
static void test_broken_server(void **state)
{
	static const char *const broken[] = {
		MAGIC,				   /* no map */
		MAGIC "a1181d01",		   /* of a version, and nothing else */
		MAGIC "aa" PAIRS_OF_TODAY,	   /* a pair too few */
		MAGIC "ab" PAIRS_OF_TODAY "1903e8 00 80 00", /* an array as a key */
		MAGIC "aa" PAIRS_OF_TODAY "1903e8 8181818181818181818100", /* too deep */
		MAGIC "aa" PAIRS_OF_TODAY "1903e8 9b00000000ffffffff",	   /* more than there is */
		MAGIC "aa" PAIRS_OF_TODAY "1903e8 c000",		   /* a tag */
	};
	struct played p = {0};

	(void)state;
	for (size_t i = 0; i < COUNT(broken); i++) {
		reply_with_hex(&p, 0, broken[i]);
		expect_final(&p, &nothing_special, "no vsockfs server", "");
	}
}

static void test_other_version(void **state)
{
	struct msg m = {0};
	struct played p = {0};
	unsigned char data[HELLO_DATA_MAX];

	(void)state;
	for (unsigned v = 0; v <= 2; v += 2) {
		char says[64];

		(void)snprintf(says, sizeof(says), "version %u of", v);
		MSG_SET(&m, version, v);
		MSG_SET(&m, slots, 1);
		MSG_SET(&m, node, 1);
		MSG_SET(&m, attr, ((struct attr){.mode = S_IFDIR}));
		reply_with(&p, 0, data, hello_encode(&m, data));
		expect_final(&p, &nothing_special, "the server speaks", says);
	}
}

/* ---- refusals ---- */

static void test_refused(void **state)
{
	static const struct {
		int err;
		const char *reason, *says;
	} cases[] = {
		{-ENOENT, "there is no export 'site'", "refuses: there is no export 'site'"},
		{-EACCES, "wrong secret", "refuses: wrong secret"},
		{-EPROTONOSUPPORT, "version 1 is not spoken any more", "not spoken any more"},
		{-EACCES, "", "refuses: Permission denied"},
		{-ENOENT, NULL, "refuses: No such file or directory"},
		{-EIO, "a line\nand \x1b[31mmore\xff", "refuses: a line?and ?[31mmore?"},
		{-4096, NULL, "refuses: Input/output error"},
		{1, NULL, "refuses: Input/output error"},
	};
	struct played p = {0};
	unsigned char data[HELLO_DATA_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t n = cases[i].reason != NULL ? hello_encode_refusal(cases[i].reason, data) : 0;

		reply_with(&p, cases[i].err, data, n);
		expect_final(&p, &nothing_special, "the server", cases[i].says);
	}
}

/* A reason is cut before it fills the log, and one with more in its map is read all the same. */
static void test_reason_of_later(void **state)
{
	char want[HELLO_REASON_MAX + 1];
	struct played p = {0};
	unsigned char data[600];

	(void)state;
	reply_with_hex(&p, -EACCES, MAGIC "a6" PAIRS_OF_LATER "1826 4474686973");
	expect_final(&p, &nothing_special, "refuses: this", "");

	size_t n = unit_from_hex(MAGIC "a1 1826 5901f4", data, sizeof(data));
	memset(data + n, 'x', 500);
	reply_with(&p, -EACCES, data, n + 500);
	struct outcome out = meet(&p, &nothing_special);
	assert_int_equal(strspn(strchr(out.err, ':') + 2, "x"), HELLO_REASON_MAX);
	memset(want, 'x', sizeof(want) - 1);
	want[sizeof(want) - 1] = '\0';
	assert_non_null(strstr(out.err, want));
}

/* ---- who falls back ---- */

static void test_falls_back(void **state)
{
	struct played p = {0};

	(void)state;
	reply_with(&p, -ENOSYS, NULL, 0);
	expect_plain(&p, &nothing_special, 1);
	reply_with_hex(&p, 0, "76616e696c6c61"); /* a plain server that takes any op for one of its */
	expect_plain(&p, &nothing_special, 1);
	p.manner = CLOSES;
	expect_plain(&p, &nothing_special, 2);
	/* Silence leaves time for what follows, however short all of it is. */
	const struct connect_options hurried = {.timeout_ms = 3000};
	p.manner = IS_SILENT;
	expect_plain(&p, &hurried, 2);
}

static void test_never_falls_back(void **state)
{
	struct connect_options asks[] = {{.proto = PROTO_EXTENDED, .needs = "proto=extended"},
					 {.needs = "acl", .acl = true}};
	struct played p = {0};

	(void)state;
	for (size_t i = 0; i < COUNT(asks); i++) {
		reply_with(&p, -ENOSYS, NULL, 0);
		expect_final(&p, &asks[i], "plain protocol only", asks[i].needs);
		reply_with_hex(&p, 0, "76616e696c6c61");
		expect_final(&p, &asks[i], "plain protocol only", asks[i].needs);
		p.manner = CLOSES;
		expect_final(&p, &asks[i], "closed the connection", asks[i].needs);
		p.manner = IS_SILENT;
		asks[i].timeout_ms = 300;
		expect_final(&p, &asks[i], "silent", asks[i].needs);
	}
}

/* ---- the server and clients of each generation ---- */

/* Sends one frame of these bytes; what is answered. To be freed: *ret_buf. */
static struct plain_reply say(struct host_client *c, struct fixture *f, const unsigned char *frame,
			      size_t n, unsigned char **ret_buf)
{
	struct plain_reply reply = {0};
	size_t cap = 0, len;
	const char *why;

	*ret_buf = NULL;
	host_client_connect(c, &f->hs);
	assert_int_equal(stream_send_raw(c->stream, frame, n, NULL, 0), 0);
	assert_int_equal(stream_recv_plain(c->stream, 65536, ret_buf, &cap, &len, -1), 0);
	assert_int_equal(plain_reply_decode(*ret_buf, len, &reply, &why), 0);
	return reply;
}

static struct plain_reply say_data(struct host_client *c, struct fixture *f, const char *hex,
				   unsigned char **ret_buf)
{
	static unsigned char data[512];
	struct plain_buf out = {0};
	unsigned char frame[600];
	const struct plain_request q = {.op = PLAIN_HELLO,
					.data = {data, unit_from_hex(hex, data, sizeof(data))}};

	assert_int_equal(plain_request_encode(&q, &out), 0);
	memcpy(frame, (unsigned char[]){0, 0, (unsigned char)(out.len >> 8), (unsigned char)out.len},
	       4);
	memcpy(frame + 4, out.data, out.len);
	struct plain_reply reply = say(c, f, frame, out.len + 4, ret_buf);
	plain_buf_done(&out);
	return reply;
}

static void expect_session(struct host_client *c, const struct plain_reply *reply,
			   unsigned char *buf)
{
	struct msg p;

	assert_int_equal(reply->err, 0);
	assert_int_equal(hello_decode(reply->data, &c->hello), 0);
	assert_int_equal(c->hello.version, 1);
	c->root = c->hello.node;
	free(buf);
	assert_int_equal(host_getattr(c, c->root, &p), 0);
	host_client_stop(c);
}

static void test_today_is_still_understood(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = malloc(sizeof(*c));
	unsigned char frame[512], *buf;

	for (size_t i = 0; i < COUNT(hello_of_today); i++) {
		size_t n = frame_from_hex(hello_of_today[i], frame);
		struct plain_reply reply = say(c, f, frame, n, &buf);
		/* A client of today ends at any key that it does not know. */
		struct slice in = {(const char *)reply.data.data + HELLO_MAGIC_LEN,
				   reply.data.len - HELLO_MAGIC_LEN};
		struct item it;

		assert_int_equal(item_get(&in, &it), 0);
		assert_int_equal(it.type, ITEM_MAP);
		uint64_t pairs = it.value;
		for (uint64_t k = 0; k < pairs; k++) {
			assert_int_equal(item_get(&in, &it), 0);
			assert_true(it.type == ITEM_UINT && it.value < 64 &&
				    (KEYS_OF_TODAY >> it.value & 1) != 0);
			assert_int_equal(item_skip(&in, MSG_DEPTH_MAX), 0);
		}
		assert_int_equal(in.len, 0);
		expect_session(c, &reply, buf);
		assert_int_equal(c->hello.features & (HELLO_PUSH | HELLO_ACL), features_of_today[i]);
	}
	free(c);
}

static void test_later_client(void **state)
{
	static const char *const says[] = {
		MAGIC "a7 181d07 181e1b0001000000000004" PAIRS_OF_LATER, /* version 7, feature 2^48 */
		MAGIC "a7" PAIRS_OF_LATER "181e1b0001000000000004 181d07",
	};
	struct fixture *f = *state;
	struct host_client *c = malloc(sizeof(*c));
	unsigned char *buf;

	for (size_t i = 0; i < COUNT(says); i++) {
		struct plain_reply reply = say_data(c, f, says[i], &buf);

		expect_session(c, &reply, buf);
		assert_true((c->hello.features & HELLO_PUSH) != 0);
		assert_true((c->hello.features & UINT64_C(1) << 48) == 0);
	}
	free(c);
}

/* What we refuse says why, and the connection is over: it is no plain one without a greeting. */
static void test_refuses(void **state)
{
	static const struct {
		const char *hex, *says;
	} cases[] = {
		{MAGIC, "malformed"},
		{MAGIC "a1181d", "malformed"},
		{MAGIC "a2181d01 181d01", "malformed"},
		{MAGIC "a2181d01 1903e8 8181818181818181818100", "malformed"},
		{MAGIC "a2181d01 1903e8 bf01ff", "malformed"},
		{MAGIC "a0", "version"},
		{MAGIC "a1181d00", "version"},
		{MAGIC "a1181e04", "version"},
	};
	struct fixture *f = *state;
	struct host_client *c = malloc(sizeof(*c));
	char reason[HELLO_REASON_MAX + 1];
	unsigned char *buf, more[8];

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct plain_reply reply = say_data(c, f, cases[i].hex, &buf);

		assert_int_equal(reply.err, -EPROTO);
		hello_reason(reply.data, EPROTO, reason);
		if (strstr(reason, cases[i].says) == NULL)
			fail_msg("case %zu: %s", i, reason);
		free(buf);
		assert_int_equal(read(c->fd, more, sizeof(more)), 0);
		host_client_stop(c);
	}
	free(c);
}

/* Of greetings in general: other data is nobody's of ours, and what is too long is not read. */
static void test_decode(void **state)
{
	static unsigned char data[HELLO_TAKEN_MAX + 1];
	struct msg m;
	size_t n = unit_from_hex(MAGIC "a2 181d01 1903e8 59", data, 32);

	(void)state;
	assert_int_equal(hello_decode(SLICE(""), &m), -ENOMSG);
	assert_int_equal(hello_decode(SLICE("VSOCKFS"), &m), -ENOMSG);
	assert_int_equal(hello_decode(SLICE("VSOCKFS2\xa0"), &m), -ENOMSG);
	for (size_t len = HELLO_TAKEN_MAX; len <= sizeof(data); len++) {
		size_t rest = len - n - 2;

		data[n] = (unsigned char)(rest >> 8);
		data[n + 1] = (unsigned char)rest;
		assert_int_equal(hello_decode((struct slice){data, len}, &m),
				 len > HELLO_TAKEN_MAX ? -EPROTO : 0);
	}
}

int main(void)
{
#define S(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_today_is_still_said),
		cmocka_unit_test(test_later_server),
		cmocka_unit_test(test_broken_server),
		cmocka_unit_test(test_other_version),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_reason_of_later),
		cmocka_unit_test(test_falls_back),
		cmocka_unit_test(test_never_falls_back),
		S(test_today_is_still_understood),
		S(test_later_client),
		S(test_refuses),
		cmocka_unit_test(test_decode),
	};

	return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
