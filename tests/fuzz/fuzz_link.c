/*
 * A hostile server, as the client's transport meets it: it answers HELLO, and then calls that are
 * in flight, with messages of any fields or bytes as they come, and pushes what it likes.
 *
 * Every call ends exactly once with an errno that a program may see; what a reply has is what its
 * table says; a READ brings no more than was asked for.
 */
#include "fuzz.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connect/connect.h"
#include "core/log.h"
#include "plain/plain_codec.h"
#include "transport/codec.h"
#include "transport/hello.h"
#include "transport/stream.h"

#define CALLS	12
#define RECORDS 48

struct tried {
	struct call call;
	unsigned completions;
	unsigned char dest[64];
};

static struct {
	int fd; /* the server's end */
	struct stream *stream;
	struct head_buf head;
	struct tried calls[CALLS];
	unsigned n_calls;
	uint64_t ids[CALLS]; /* as the server has heard them */
	unsigned n_ids;
	sem_t ended;
} peer;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_init("vsockfs", LOG_EMERG);
	return 0;
}

/* ---- the client ---- */

static void on_done(struct call *call, const struct msg *reply)
{
	struct tried *t = (struct tried *)call;
	const unsigned char *p = reply->payload.data;
	unsigned sum = 0;

	FUZZ_CHECK(t->completions++ == 0);
	FUZZ_CHECK(reply->err <= MSG_ERR_MAX);
	if (reply->err == 0) {
		FUZZ_CHECK(msg_reply_complete(call->req.op, reply));
		if (MSG_HAS(reply, payload)) {
			FUZZ_CHECK(!MSG_HAS(&call->req, size) ||
				   reply->payload.len <= call->req.size);
			for (size_t i = 0; i < reply->payload.len; i++) /* they are there */
				sum += p[i];
			FUZZ_CHECK(sum != 1 || p != NULL);
		}
	}
	FUZZ_CHECK(sem_post(&peer.ended) == 0);
}

static void on_push(void *arg, const struct msg *m)
{
	struct slice in = m->payload;
	struct inv_item item;

	(void)arg;
	FUZZ_CHECK(msg_is(m->op, TRAIT_PUSHED) && MSG_HAS(m, seq));
	if (m->op == MSG_INV)
		while (codec_get_inv(&in, &item) == 1)
			;
}

/* Its payload must stay: it points into the input. */
static void submit(struct fuzz_in *in, struct backend *b)
{
	struct tried *t = &peer.calls[peer.n_calls++];

	t->call.done = on_done;
	t->call.req.op = fuzz_op(in);
	if (!msg_op_known(t->call.req.op) ||
	    msg_is(t->call.req.op, TRAIT_ONEWAY | TRAIT_PUSHED) || t->call.req.op == MSG_HELLO)
		t->call.req.op = MSG_READ;
	MSG_SET(&t->call.req, op, t->call.req.op);
	fuzz_missing(in, &t->call.req, fuzz_needs(t->call.req.op, false));
	if (MSG_HAS(&t->call.req, name) && t->call.req.name.len > MSG_NAME_MAX)
		t->call.req.name.len = MSG_NAME_MAX;
	if (MSG_HAS(&t->call.req, size) && t->call.req.op != MSG_SETATTR)
		t->call.req.size %= MSG_PAYLOAD_MAX + 1; /* as the client above asks */
	if (fuzz_byte(in) & 1) {
		t->call.dest = t->dest;
		t->call.dest_len = sizeof(t->dest);
	}
	b->ops->submit(b, &t->call);
}

/* ---- the server ---- */

static void say_raw(const void *data, size_t len)
{
	if (len > 0 && send(peer.fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		FUZZ_CHECK(errno == EPIPE || errno == EAGAIN || errno == ECONNRESET);
}

/* Takes requests off the socket, for their ids; it does not wait for any. */
static void listen_in(void)
{
	static unsigned char payload[MSG_PAYLOAD_MAX];
	char byte;

	while (peer.n_ids < peer.n_calls &&
	       (stream_buffered(peer.stream) ||
		recv(peer.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1)) {
		struct msg m = {0};
		const char *why;

		if (stream_recv(peer.stream, &peer.head, &m, &why) < 0)
			return;
		if (MSG_HAS(&m, payload) &&
		    stream_recv_payload(peer.stream, payload, m.payload.len) < 0)
			return;
		if (MSG_HAS(&m, id))
			peer.ids[peer.n_ids++] = m.id;
	}
}

static void say(const struct msg *m)
{
	size_t bound = codec_encode_bound(m);
	unsigned char *buf = malloc(bound + (MSG_HAS(m, payload) ? m->payload.len : 0));

	FUZZ_CHECK(buf != NULL);
	size_t n = codec_encode(m, buf, bound);
	if (n > 0 && MSG_HAS(m, payload) && m->payload.len > 0) {
		memcpy(buf + n, m->payload.data, m->payload.len);
		n += m->payload.len;
	}
	say_raw(buf, n);
	free(buf);
}

static void reply(struct fuzz_in *in, uint8_t how)
{
	unsigned i = fuzz_byte(in) % CALLS;
	struct msg m = {0};

	listen_in();
	MSG_SET(&m, id, i < peer.n_ids ? peer.ids[i] : fuzz_number(in));
	fuzz_fields(in, &m);
	if (how & 8 && i < peer.n_calls)
		fuzz_missing(in, &m, fuzz_needs(peer.calls[i].call.req.op, true));
	say(&m);
}

static void push(struct fuzz_in *in)
{
	struct inv_item item = {.node = fuzz_number(in), .class = fuzz_byte(in) & 15};
	unsigned char buf[512];
	struct msg m = {0};

	if (item.class & INV_NAME)
		item.name = fuzz_name(in);
	MSG_SET(&m, op, fuzz_byte(in) & 1 ? MSG_RESET : MSG_INV);
	MSG_SET(&m, seq, fuzz_number(in));
	MSG_SET(&m, payload, ((struct slice){buf, codec_put_inv(&item, buf, sizeof(buf))}));
	fuzz_fields(in, &m);
	say(&m);
}

/* Always a whole plain frame, so that nobody waits for the rest. */
static void answer_hello(struct fuzz_in *in)
{
	unsigned char data[HELLO_DATA_MAX] = {0};
	struct plain_buf b = {0};
	struct plain_reply p = {0};
	struct msg m = {0};
	uint8_t how = fuzz_byte(in);

	if (how & 1)
		MSG_SET(&m, features, fuzz_number(in));
	if (how & 2)
		fuzz_fields(in, &m);
	m.present &= ~MSG_BIT(payload);
	if (how < 192) {
		MSG_SET(&m, version, 1);
		MSG_SET(&m, slots, how & 4 ? fuzz_number(in) : 16);
		fuzz_missing(in, &m, fuzz_needs(MSG_HELLO, true));
	}
	p.data = how == 255 ? fuzz_name(in) : (struct slice){data, hello_encode(&m, data)};
	p.err = how < 224 ? 0 : (int32_t)fuzz_number(in);
	FUZZ_CHECK(plain_reply_encode(&p, &b) == 0);
	FUZZ_CHECK(stream_send_plain(peer.stream, b.data, b.len) == 0);
	plain_buf_done(&b);
}

static void hear_hello(void)
{
	unsigned char *buf = NULL;
	size_t cap = 0, len = 0;

	FUZZ_CHECK(stream_recv_plain(peer.stream, 65536, &buf, &cap, &len, -1) == 0);
	free(buf);
}

static struct backend *connect_client(struct fuzz_in *in)
{
	const struct connect_options o = {.proto = PROTO_EXTENDED,
					  .needs = "proto",
					  .stop_fd = -1,
					  .send_queue = 1 << 20,
					  .push = true};
	struct endpoint e = {.kind = ENDPOINT_FD};
	struct backend *b = NULL;
	char err[512];
	int sv[2];

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	peer.fd = sv[1];
	FUZZ_CHECK(stream_new(sv[1], &peer.stream) == 0);
	e.fd = sv[0];
	answer_hello(in);
	int r = transport_connect(&e, &o, &b, err, sizeof(err));
	(void)close(sv[0]); /* it has its own */
	FUZZ_CHECK((r == 0) == (b != NULL));
	if (r < 0)
		return NULL;
	hear_hello();
	static const struct backend_events events = {.pushed = on_push};

	b->ops->listen(b, &events, NULL);
	return b;
}

static void talk(struct fuzz_in *in, struct backend *b)
{
	for (unsigned i = 0; i < RECORDS && in->left > 0; i++) {
		uint8_t how = fuzz_byte(in);
		struct slice s;

		switch (how & 7) {
		case 0:
			s = fuzz_bytes(in, 4096);
			say_raw(s.data, s.len);
			break;
		case 1:
			push(in);
			break;
		case 2:
		case 3:
		case 4:
			if (peer.n_calls < CALLS)
				submit(in, b);
			break;
		default:
			reply(in, how);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {.at = data, .left = size};

	memset(&peer, 0, sizeof(peer));
	FUZZ_CHECK(sem_init(&peer.ended, 0, 0) == 0);
	struct backend *b = connect_client(&in);
	if (b != NULL)
		talk(&in, b);
	stream_shutdown(peer.stream);
	for (unsigned i = 0; i < peer.n_calls; i++)
		while (sem_wait(&peer.ended) < 0)
			;
	if (b != NULL) {
		b->ops->shutdown(b);
		b->ops->free(b);
	}
	for (unsigned i = 0; i < peer.n_calls; i++)
		FUZZ_CHECK(peer.calls[i].completions == 1);
	stream_free(peer.stream);
	head_buf_done(&peer.head);
	(void)sem_destroy(&peer.ended);
	return 0;
}
