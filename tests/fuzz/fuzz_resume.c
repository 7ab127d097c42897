/*
 * A hostile server of a session that goes on over another connection, again and again, while calls
 * are in flight: what it says of itself, what it answers to RESUME, and to calls that came before.
 *
 * Every call ends exactly once with an errno that a program may see, and the link always ends.
 */
#include "fuzz.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "transport/codec.h"
#include "transport/link.h"
#include "transport/stream.h"

#define CALLS	24
#define RECORDS 64
#define DIALS	6
#define RESUMED UINT64_MAX /* the id of each RESUME of ours */

struct tried {
	struct call call;
	atomic_uint completions;
	unsigned char dest[64];
};

static struct {
	struct fuzz_in *in;
	struct stream *stream; /* the server's end */
	int fd;
	struct head_buf head;
	struct tried calls[CALLS];
	unsigned n_calls, dials;
	uint64_t ids[CALLS * 2]; /* as the server has heard them */
	unsigned n_ids;
	sem_t ended,
		dialled; /* a call has ended; the next server is there, or none comes any more */
	atomic_bool lost;
} peer;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_init("vsockfs", LOG_EMERG);
	return 0;
}

/* Between two tries to connect again nobody waits. */
int __wrap_patience_pause(const struct patience *p, int ms);
int __wrap_patience_pause(const struct patience *p, int ms)
{
	struct pollfd stop = {.fd = p->stop_fd, .events = POLLIN};

	(void)ms;
	return poll(&stop, 1, 0) == 1 ? -EINTR : 0;
}

/* ---- the client ---- */

static void on_done(struct call *call, const struct msg *reply)
{
	struct tried *t = (struct tried *)call;

	FUZZ_CHECK(atomic_fetch_add(&t->completions, 1) == 0);
	FUZZ_CHECK(reply->err <= MSG_ERR_MAX);
	FUZZ_CHECK(reply->err != 0 || msg_reply_complete(call->req.op, reply));
	FUZZ_CHECK(sem_post(&peer.ended) == 0);
}

static void on_push(void *arg, const struct msg *m)
{
	(void)arg;
	FUZZ_CHECK(msg_is(m->op, TRAIT_PUSHED) && MSG_HAS(m, seq));
}

static uint64_t heard(void *arg)
{
	(void)arg;
	return 7;
}

static void holds(void *arg, const struct backend_holds *to)
{
	(void)arg;
	to->begin(to->arg);
	for (uint64_t i = 1; i < 4; i++)
		to->node(to->arg, i, i);
	to->file(to->arg, 1);
}

static void locks_lost(void *arg)
{
	(void)arg;
}

static void lost(void *arg)
{
	(void)arg;
	atomic_store(&peer.lost, true);
	FUZZ_CHECK(sem_post(&peer.dialled) == 0);
}

static void submit(struct fuzz_in *in, struct backend *b)
{
	static const uint8_t ops[] = {MSG_GETATTR, MSG_READ,   MSG_WRITE, MSG_MKNOD,
				      MSG_SETLK,   MSG_UNLINK, MSG_OPEN};
	struct tried *t = &peer.calls[peer.n_calls++];

	t->call.done = on_done;
	t->call.req.op = ops[fuzz_byte(in) % sizeof(ops)];
	MSG_SET(&t->call.req, op, t->call.req.op);
	fuzz_missing(in, &t->call.req, fuzz_needs(t->call.req.op, false));
	if (MSG_HAS(&t->call.req, name) && t->call.req.name.len > MSG_NAME_MAX)
		t->call.req.name.len = MSG_NAME_MAX;
	if (MSG_HAS(&t->call.req, size))
		t->call.req.size %= MSG_PAYLOAD_MAX + 1;
	if (t->call.req.op == MSG_SETLK)
		MSG_SET(&t->call.req, flags, LOCK_WAIT);
	t->call.dest = t->dest;
	t->call.dest_len = sizeof(t->dest);
	b->ops->submit(b, &t->call);
	if (fuzz_byte(in) % 8 == 0)
		(void)b->ops->cancel(b, &t->call);
}

/* ---- the server ---- */

static void say_raw(const void *data, size_t len)
{
	if (peer.fd >= 0 && len > 0 && send(peer.fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return; /* it has hung up, or does not listen */
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

static void listen_in(void)
{
	static unsigned char payload[MSG_PAYLOAD_MAX];
	char one;

	while (peer.fd >= 0 && peer.n_ids < FUZZ_COUNT(peer.ids) &&
	       (stream_buffered(peer.stream) ||
		recv(peer.fd, &one, 1, MSG_PEEK | MSG_DONTWAIT) == 1)) {
		struct msg m = {0};
		const char *why;

		if (stream_recv(peer.stream, &peer.head, &m, &why) < 0 ||
		    (MSG_HAS(&m, payload) &&
		     stream_recv_payload(peer.stream, payload, m.payload.len) < 0))
			return;
		if (MSG_HAS(&m, id))
			peer.ids[peer.n_ids++] = m.id;
	}
}

static void reply(struct fuzz_in *in, uint8_t how)
{
	unsigned i = fuzz_byte(in) % CALLS;
	struct msg m = {0};

	listen_in();
	MSG_SET(&m, id, i < peer.n_ids ? peer.ids[i] : fuzz_number(in));
	if (how & 8)
		fuzz_fields(in, &m);
	if (how & 16 && i < peer.n_calls)
		fuzz_missing(in, &m, fuzz_needs(peer.calls[i].call.req.op, true));
	say(&m);
}

/* What comes after HELLO's answer: the answer to RESUME, or something else. */
static void answer_resume(struct fuzz_in *in)
{
	struct msg m = {0};
	uint8_t how = fuzz_byte(in);
	struct slice raw;

	if (how < 160) {
		MSG_SET(&m, id, RESUMED);
	} else if (how < 224) {
		fuzz_fields(in, &m);
	} else {
		raw = fuzz_bytes(in, 256);
		say_raw(raw.data, raw.len);
		return;
	}
	if (how % 16 == 1)
		MSG_SET(&m, err, fuzz_number(in));
	if (how % 16 == 2)
		MSG_SET(&m, op, fuzz_op(in));
	say(&m);
}

static void hello(struct fuzz_in *in, struct msg *m)
{
	uint8_t how = fuzz_byte(in);

	MSG_SET(m, version, 1);
	MSG_SET(m, slots, how & 1 ? fuzz_number(in) : 16);
	MSG_SET(m, node, 1);
	MSG_SET(m, session, 5);
	MSG_SET(m, epoch, how & 2 ? fuzz_number(in) : 9);
	MSG_SET(m, features,
		HELLO_RESUME | (how & 4 ? fuzz_number(in) : HELLO_RESUMED | HELLO_PUSH));
	MSG_SET(m, attr, ((struct attr){.mode = 040755, .nlink = 1, .ino = 1}));
	if (how & 8)
		fuzz_fields(in, m);
}

static void next_server(struct fuzz_in *in, struct dialled *ret)
{
	int sv[2];

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	FUZZ_CHECK(stream_new(sv[0], &ret->stream) == 0);
	FUZZ_CHECK(stream_new(sv[1], &peer.stream) == 0);
	peer.fd = sv[1];
	hello(in, &ret->hello);
}

/* On the keeper; the other thread waits meanwhile. */
static int dial(struct dialler *d, const struct msg *resume, const struct patience *p,
		struct dialled *ret, char *err, size_t err_len)
{
	(void)d;
	(void)p;
	FUZZ_CHECK(MSG_HAS(resume, token) && MSG_HAS(resume, session));
	(void)snprintf(err, err_len, "no more");
	if (peer.stream != NULL || ++peer.dials > DIALS) /* the first try is the only one */
		return -EPROTO;
	next_server(peer.in, ret);
	answer_resume(peer.in);
	FUZZ_CHECK(sem_post(&peer.dialled) == 0);
	return 0;
}

static void free_dialler(struct dialler *d)
{
	free(d);
}

static void hang_up(void)
{
	if (peer.stream == NULL)
		return;
	stream_shutdown(peer.stream);
	stream_free(peer.stream);
	peer.stream = NULL;
	peer.fd = -1;
}

/* Until there is another one. */
static void cut(void)
{
	if (atomic_load(&peer.lost))
		return;
	hang_up();
	while (sem_wait(&peer.dialled) < 0)
		;
}

static struct backend *start(struct fuzz_in *in)
{
	static const struct backend_events events = {
		.pushed = on_push, .heard = heard, .holds = holds, .locks_lost = locks_lost};
	const struct link_options o = {.send_queue = 1 << 20, .lost = lost};
	struct dialler *d = calloc(1, sizeof(*d));
	struct dialled server = {0};
	struct backend *b = NULL;

	FUZZ_CHECK(d != NULL);
	*d = (struct dialler){.dial = dial, .free = free_dialler};
	next_server(in, &server);
	server.hello.features |= HELLO_RESUME;
	FUZZ_CHECK(link_new(&server, &o, &b) == 0);
	FUZZ_CHECK(link_keep(b, d) == 0);
	b->ops->listen(b, &events, NULL);
	return b;
}

static void talk(struct fuzz_in *in, struct backend *b)
{
	for (unsigned i = 0; i < RECORDS && in->left > 0; i++) {
		uint8_t how = fuzz_byte(in);
		struct msg m = {0};

		switch (how & 7) {
		case 0:
			cut();
			break;
		case 1:
			MSG_SET(&m, op, how & 8 ? MSG_RESET : MSG_INV);
			MSG_SET(&m, seq, fuzz_number(in));
			MSG_SET(&m, payload, (struct slice){0});
			say(&m);
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
	peer.in = &in;
	FUZZ_CHECK(sem_init(&peer.ended, 0, 0) == 0 && sem_init(&peer.dialled, 0, 0) == 0);
	struct backend *b = start(&in);
	talk(&in, b);
	b->ops->shutdown(b);
	for (unsigned i = 0; i < peer.n_calls; i++)
		FUZZ_CHECK(atomic_load(&peer.calls[i].completions) == 1);
	b->ops->free(b);
	hang_up();
	head_buf_done(&peer.head);
	(void)sem_destroy(&peer.ended);
	(void)sem_destroy(&peer.dialled);
	return 0;
}
