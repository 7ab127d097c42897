/*
 * One connection of a link, with the test as the link and as the server: which call goes when and
 * on whose thread, and what is left of a call when the connection ends.
 */
#include "sample.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "transport/codec.h"
#include "transport/wire.h"

#define CALLS 16

/* ---- the link that the test plays ---- */

struct world {
	struct wire *wire;
	struct stats *stats;
	struct stream *server; /* NULL: hung up */
	int fd;		       /* the server's */
	struct head_buf hb;

	pthread_mutex_t lock; /* the rest */
	pthread_cond_t changed;
	struct call *queue[CALLS];
	size_t n_queue;
	bool held; /* what is queued may not be sent yet */
	struct call *begun[CALLS], *sent[CALLS];
	size_t n_begun, n_sent;
	pthread_t begun_by; /* the last one */
	size_t received;    /* messages */
	struct slice payload;
	const char *refuse; /* why the next message is to end it */
	unsigned char dest[16];
	size_t dest_len;
	unsigned lost;
	const char *why;
	struct call *part;
};

static struct call *next_locked(void *arg)
{
	struct world *w = arg;

	return w->held || w->n_queue == 0 ? NULL : w->queue[0];
}

static void begun_locked(void *arg, struct call *call)
{
	struct world *w = arg;

	assert_ptr_equal(call, w->queue[0]);
	assert_int_equal(w->lost, 0);
	memmove(w->queue, w->queue + 1, --w->n_queue * sizeof(call));
	w->begun[w->n_begun++] = call;
	w->begun_by = pthread_self();
}

static void sent_locked(void *arg, struct call *call)
{
	struct world *w = arg;

	w->sent[w->n_sent++] = call;
	(void)pthread_cond_broadcast(&w->changed);
}

static const char *received(void *arg, struct wire *wire, struct msg *m)
{
	struct world *w = arg;
	int r = wire_rest(wire, m, w->dest_len > 0 ? w->dest : NULL, w->dest_len);

	(void)pthread_mutex_lock(&w->lock);
	w->received++;
	w->payload = m->payload;
	const char *why = w->refuse;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
	return r < 0 ? strerror(-r) : why;
}

static void lost(void *arg, const char *why, struct call *part)
{
	struct world *w = arg;

	(void)pthread_mutex_lock(&w->lock);
	w->lost++;
	w->why = why;
	w->part = part;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
}

/* A new connection for what the world has. */
static void world_connect(struct world *w)
{
	const struct wire_owner owner = {.lock = &w->lock,
					 .stats = w->stats,
					 .arg = w,
					 .next_locked = next_locked,
					 .begun_locked = begun_locked,
					 .sent_locked = sent_locked,
					 .received = received,
					 .lost = lost};
	struct stream *client;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(stream_new(fd[0], &client), 0);
	small_send_buffer(fd[0]);
	assert_int_equal(stream_new(fd[1], &w->server), 0);
	w->fd = fd[1];
	assert_int_equal(wire_new(client, &owner, &w->wire), 0);
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_int_equal(stats_new(NULL, &w->stats), 0);
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->changed, NULL);
	world_connect(w);
	return w;
}

static void hang_up(struct world *w)
{
	stream_free(w->server);
	w->server = NULL;
}

static void disconnect(struct world *w)
{
	if (w->wire != NULL)
		wire_end(w->wire);
	wire_free(w->wire);
	w->wire = NULL;
	hang_up(w);
}

static void world_free(struct world *w)
{
	disconnect(w);
	head_buf_done(&w->hb);
	stats_free(w->stats);
	(void)pthread_mutex_destroy(&w->lock);
	(void)pthread_cond_destroy(&w->changed);
	free(w);
}

static void wait_for(struct world *w, const size_t *n, size_t least)
{
	struct timespec end = unit_deadline();
	int r = 0;

	(void)pthread_mutex_lock(&w->lock);
	while (*n < least && r == 0)
		r = pthread_cond_timedwait(&w->changed, &w->lock, &end);
	(void)pthread_mutex_unlock(&w->lock);
	assert_int_equal(r, 0);
}

static void wait_lost(struct world *w)
{
	struct timespec end = unit_deadline();
	int r = 0;

	(void)pthread_mutex_lock(&w->lock);
	while (w->lost == 0 && r == 0)
		r = pthread_cond_timedwait(&w->changed, &w->lock, &end);
	(void)pthread_mutex_unlock(&w->lock);
	assert_int_equal(r, 0);
}

static struct call *call_new(uint64_t id, const void *data, size_t len)
{
	struct call *call = calloc(1, sizeof(*call));

	assert_non_null(call);
	MSG_SET(&call->req, op, MSG_WRITE);
	MSG_SET(&call->req, id, id);
	if (data != NULL)
		MSG_SET(&call->req, payload, ((struct slice){data, len}));
	assert_int_equal(wire_encode(call), 0);
	return call;
}

static void call_free(struct call *call)
{
	wire_release(call);
	free(call);
}

/* Whether this thread sent it. */
static bool queue(struct world *w, struct call *call)
{
	(void)pthread_mutex_lock(&w->lock);
	bool first = w->n_queue == 0;
	w->queue[w->n_queue++] = call;
	bool mine = wire_queued_locked(w->wire, first);
	(void)pthread_mutex_unlock(&w->lock);
	return mine;
}

/* The server takes a request in; its id. */
static uint64_t take(struct world *w, unsigned char *payload)
{
	const char *why = NULL;
	struct msg m;

	assert_int_equal(stream_recv(w->server, &w->hb, &m, &why), 0);
	if (MSG_HAS(&m, payload))
		assert_int_equal(stream_recv_payload(w->server, payload, m.payload.len), 0);
	return m.id;
}

static void say(struct world *w, const char *text)
{
	struct msg m = {0};

	MSG_SET(&m, id, 1);
	MSG_SET(&m, payload, ((struct slice){text, strlen(text)}));
	assert_int_equal(stream_send(w->server, &m), 0);
}

/* ---- sending ---- */

/* The first goes at once, on the thread that queued it, together with what came meanwhile. */
static void test_who_sends(void **state)
{
	struct world *w = world_new();
	struct call *call[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		call[i] = call_new(i + 1, NULL, 0);
	assert_true(queue(w, call[0]));
	assert_true(pthread_equal(w->begun_by, pthread_self()));
	assert_int_equal(w->n_sent, 1);
	assert_int_equal(take(w, NULL), 1);

	/* what may not go stays, and then all of it goes, in order, by the writer */
	w->held = true;
	assert_false(queue(w, call[1]));
	assert_false(queue(w, call[2]));
	assert_false(queue(w, call[3]));
	assert_int_equal(w->n_begun, 1);
	(void)pthread_mutex_lock(&w->lock);
	w->held = false;
	wire_wake_locked(w->wire);
	(void)pthread_mutex_unlock(&w->lock);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(take(w, NULL), i + 1);
	wait_for(w, &w->n_sent, 4);
	assert_false(pthread_equal(w->begun_by, pthread_self()));
	for (unsigned i = 0; i < 4; i++) {
		assert_ptr_equal(w->sent[i], call[i]);
		call_free(call[i]);
	}
	world_free(w);
}

/* ---- receiving ---- */

static void test_rest(void **state)
{
	struct world *w = world_new();
	size_t seen = 0;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		w->dest_len = i == 0 ? 4 : i == 1 ? 3 : 0; /* room; too little; none */
		say(w, "four");
		wait_for(w, &w->received, ++seen);
		assert_int_equal(w->payload.len, 4);
		assert_memory_equal(w->payload.data, "four", 4);
		assert_int_equal(w->payload.data == w->dest, i == 0);
		assert_int_equal(stats_get(w->stats, STAT_rpc_bytes_received),
				 seen * (FRAME_HEADER + 4));
	}
	world_free(w);
	/* cut off inside it */
	w = world_new();
	unsigned char buf[64];
	struct msg m = {0};
	MSG_SET(&m, id, 1);
	MSG_SET(&m, payload, SLICE("four"));
	size_t n = codec_encode(&m, buf, sizeof(buf));
	assert_int_equal(stream_send_raw(w->server, buf, n, "fo", 2), 0);
	hang_up(w);
	wait_lost(w);
	assert_string_equal(w->why, strerror(ECONNRESET));
	assert_int_equal(stats_get(w->stats, STAT_rpc_bytes_received), 0);
	world_free(w);
}

/* A reply to a request that is not all gone cannot be one. */
static void test_let_go(void **state)
{
	static unsigned char data[MSG_PAYLOAD_MAX];
	struct world *w = world_new();
	struct call *small = call_new(1, NULL, 0), *large = call_new(2, data, sizeof(data));

	(void)state;
	assert_true(queue(w, small));
	assert_true(queue(w, large)); /* begun, and left to the writer */
	(void)pthread_mutex_lock(&w->lock);
	assert_true(wire_let_go_locked(w->wire, small));
	assert_false(wire_let_go_locked(w->wire, large));
	(void)pthread_mutex_unlock(&w->lock);
	assert_int_equal(take(w, NULL), 1);
	assert_int_equal(take(w, NULL), 2);
	wait_for(w, &w->n_sent, 2);
	(void)pthread_mutex_lock(&w->lock);
	assert_true(wire_let_go_locked(w->wire, large));
	(void)pthread_mutex_unlock(&w->lock);
	call_free(small);
	call_free(large);
	world_free(w);
}

/* ---- the end ---- */

/* The owner's word, the server's hanging up, and our own end of it. */
static void test_ends(void **state)
{
	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		struct world *w = world_new();
		struct call *call = call_new(1, NULL, 0);

		if (kind == 0) {
			w->refuse = "not this one";
			say(w, "x");
		} else if (kind == 1) {
			hang_up(w);
		} else {
			wire_end(w->wire);
			assert_int_equal(w->lost, 1); /* before it returned */
		}
		wait_lost(w);
		assert_string_equal(w->why, kind == 0 ? "not this one" : "closed by the server");
		assert_null(w->part);
		/* what comes later stays with the owner */
		assert_false(queue(w, call));
		if (kind != 2)
			wire_end(w->wire);
		assert_int_equal(w->n_begun, 0);
		assert_int_equal(w->lost, 1);
		wire_free(w->wire);
		w->wire = NULL;
		call_free(call);
		world_free(w);
	}
}

/*
 * What one connection has sent in part the next one sends whole, and then what had waited: nothing
 * of the first is left in the call.
 */
static void test_next_wire_sends_again(void **state)
{
	unsigned char *data = malloc(MSG_PAYLOAD_MAX), *got = malloc(MSG_PAYLOAD_MAX);
	struct unit_random random = {5};

	(void)state;
	assert_non_null(data);
	assert_non_null(got);
	for (size_t i = 0; i < MSG_PAYLOAD_MAX; i++)
		data[i] = (unsigned char)unit_next(&random);
	for (int by_writer = 0; by_writer < 2; by_writer++) {
		struct world *w = world_new();
		struct call *large = call_new(1, data, MSG_PAYLOAD_MAX), *small = call_new(2, NULL, 0);
		const char *why;
		struct msg m;

		assert_true(queue(w, large));
		assert_false(queue(w, small));
		if (by_writer) /* which is at work on it, then */
			assert_int_equal(stream_recv(w->server, &w->hb, &m, &why), 0);
		hang_up(w);
		wait_lost(w);
		assert_ptr_equal(w->part, large);
		assert_int_equal(w->n_sent, 0);
		assert_int_equal(w->n_queue, 1);
		disconnect(w);

		w->queue[0] = large;
		w->queue[1] = small;
		w->n_queue = 2;
		w->lost = 0;
		world_connect(w);
		(void)pthread_mutex_lock(&w->lock);
		wire_wake_locked(w->wire);
		(void)pthread_mutex_unlock(&w->lock);
		assert_int_equal(take(w, got), 1);
		assert_memory_equal(got, data, MSG_PAYLOAD_MAX);
		assert_int_equal(take(w, got), 2);
		wait_for(w, &w->n_sent, 2);
		call_free(large);
		call_free(small);
		world_free(w);
	}
	free(data);
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_who_sends),
	    cmocka_unit_test(test_rest),
	    cmocka_unit_test(test_let_go),
	    cmocka_unit_test(test_ends),
	    cmocka_unit_test(test_next_wire_sends_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
