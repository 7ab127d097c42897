/*
 * The client's end of an extended connection against a server that the test
 * plays: what it is asked, in which order it answers, and how it misbehaves.
 */
#include "sample.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include "core/log.h"
#include "transport/codec.h"
#include "transport/link.h"

#define QUIET_MS 30 /* so long nothing may come where nothing is to come */

/* ---- completions ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over all that completions write */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct world;
struct tried;
static void submit(struct world *w, struct tried *t);

/* A call, and how it ended. */
struct tried {
	struct call call;
	unsigned completions;
	uint64_t err;
	struct msg reply; /* without the bytes of its slices */
	unsigned char *data;
	size_t len;
	bool in_dest;
	void (*then)(struct tried *t); /* on the reader */
	struct tried *next;	       /* for then */
	struct world *w;
};

static void on_done(struct call *call, const struct msg *reply)
{
	struct tried *t = (struct tried *)call;

	(void)pthread_mutex_lock(&lock);
	void (*then)(struct tried *t) = t->then; /* without one t may be freed from the unlock on */
	t->completions++;
	t->err = reply->err;
	t->reply = *reply;
	if (reply->err == 0 && MSG_HAS(reply, payload)) {
		t->len = reply->payload.len;
		t->data = unit_copy(reply->payload.data, t->len);
		t->in_dest = reply->payload.data == call->dest;
	}
	(void)pthread_mutex_unlock(&lock);
	if (then != NULL)
		then(t);
	(void)pthread_mutex_lock(&lock);
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
}

static void on_sent(struct call *call)
{
	struct tried *t = (struct tried *)call;

	(void)pthread_mutex_lock(&lock);
	t->completions++;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
}

static struct tried *call_new(enum msg_op op)
{
	struct tried *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->call.done = on_done;
	MSG_SET(&t->call.req, op, op);
	return t;
}

static struct tried *oneway_new(const void *data, size_t len)
{
	struct tried *t = call_new(MSG_FORGET);

	t->call.done = NULL;
	t->call.sent = on_sent;
	MSG_SET(&t->call.req, payload, ((struct slice){data, len}));
	return t;
}

static struct tried *read_new(uint64_t off, size_t size)
{
	struct tried *t = call_new(MSG_READ);

	MSG_SET(&t->call.req, fh, 1);
	MSG_SET(&t->call.req, off, off);
	MSG_SET(&t->call.req, size, size);
	return t;
}

static struct tried *write_new(uint64_t off, const void *data, size_t len)
{
	struct tried *t = call_new(MSG_WRITE);

	MSG_SET(&t->call.req, fh, 1);
	MSG_SET(&t->call.req, off, off);
	MSG_SET(&t->call.req, payload, ((struct slice){data, len}));
	return t;
}

static void tried_free(struct tried *t)
{
	free(t->data);
	free(t);
}

/* Ended exactly once, with this errno. */
static void assert_ended(struct tried *t, uint64_t err)
{
	(void)pthread_mutex_lock(&lock);
	unsigned completions = t->completions;
	uint64_t got = t->err;
	(void)pthread_mutex_unlock(&lock);
	assert_int_equal(completions, 1);
	assert_int_equal(got, err);
}

static void wait_completed(const struct tried *t)
{
	struct timespec end = unit_deadline();
	int r = 0;

	(void)pthread_mutex_lock(&lock);
	while (t->completions == 0 && r == 0)
		r = pthread_cond_timedwait(&changed, &lock, &end);
	(void)pthread_mutex_unlock(&lock);
	assert_int_equal(r, 0);
}

static void wait_ended(struct tried *t, uint64_t err)
{
	wait_completed(t);
	assert_ended(t, err);
}

static void assert_waiting(struct tried *t)
{
	(void)pthread_mutex_lock(&lock);
	unsigned completions = t->completions;
	(void)pthread_mutex_unlock(&lock);
	assert_int_equal(completions, 0);
}

/* ---- a connection, with the test as its server ---- */

struct world {
	struct backend *b;
	struct stats *stats;
	struct stream *server; /* NULL: hung up */
	int fd;		       /* the server's */
	struct head_buf hb;
	unsigned char *payload; /* of the request received last */
	/* lock: */
	unsigned lost;
	/* The dialler's. */
	bool may_dial, dial_waits; /* waits: until there is a server, or the end; else it fails */
	struct msg dial_hello;
	unsigned dials, freed;
	uint64_t asked_session, asked_epoch, asked_seq, asked_features;
	unsigned char asked_token[MSG_TOKEN_LEN];
};

static void on_lost(void *arg)
{
	struct world *w = arg;

	(void)pthread_mutex_lock(&lock);
	w->lost++;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
}

/* Features besides. */
static struct world *world_with(uint64_t slots, size_t send_queue, uint64_t features, uint64_t timeo)
{
	struct world *w = calloc(1, sizeof(*w));
	struct msg hello = {0};
	struct stream *client;
	int fd[2];

	assert_non_null(w);
	w->payload = malloc(MSG_PAYLOAD_MAX);
	assert_non_null(w->payload);
	assert_int_equal(stats_new(NULL, &w->stats), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(stream_new(fd[0], &client), 0);
	small_send_buffer(fd[0]);
	assert_int_equal(stream_new(fd[1], &w->server), 0);
	w->fd = fd[1];
	MSG_SET(&hello, version, 1);
	MSG_SET(&hello, slots, slots);
	MSG_SET(&hello, node, 77);
	MSG_SET(&hello, epoch, 78);
	MSG_SET(&hello, session, 79);
	MSG_SET(&hello, features, HELLO_READONLY | HELLO_PUSH | features);
	MSG_SET(&hello, uid, 1000);
	MSG_SET(&hello, files, 5000);
	const struct link_options options = {.send_queue = send_queue,
					     .timeo_ms = timeo,
					     .stats = w->stats,
					     .lost = on_lost,
					     .lost_arg = w};
	const struct dialled server = {.stream = client, .hello = hello, .token = "first"};
	assert_int_equal(link_new(&server, &options, &w->b), 0);
	w->dial_hello = hello;
	return w;
}

static struct world *world_new(uint64_t slots, size_t send_queue)
{
	return world_with(slots, send_queue, 0, 0);
}

static void hang_up(struct world *w)
{
	stream_free(w->server);
	w->server = NULL;
}

/* What is left of it when its backend has gone. */
static void world_done(struct world *w)
{
	head_buf_done(&w->hb);
	stats_free(w->stats);
	free(w->payload);
	free(w);
}

static void submit(struct world *w, struct tried *t)
{
	w->b->ops->submit(w->b, &t->call);
}

static void world_free(struct world *w)
{
	w->b->ops->shutdown(w->b);
	w->b->ops->free(w->b);
	hang_up(w);
	world_done(w);
}

/* The next request, its payload in w->payload. */
static struct msg receive(struct world *w)
{
	struct msg m;
	const char *why = NULL;

	assert_int_equal(stream_recv(w->server, &w->hb, &m, &why), 0);
	if (MSG_HAS(&m, payload))
		assert_int_equal(stream_recv_payload(w->server, w->payload, m.payload.len), 0);
	return m;
}

static struct msg receive_op(struct world *w, enum msg_op op)
{
	struct msg m = receive(w);

	assert_int_equal(m.op, op);
	return m;
}

static void assert_quiet(struct world *w)
{
	struct pollfd p = {.fd = w->fd, .events = POLLIN};

	assert_false(stream_buffered(w->server));
	assert_int_equal(poll(&p, 1, QUIET_MS), 0);
}

static void reply_data(struct world *w, uint64_t id, const void *data, size_t len)
{
	struct msg m = {0};

	MSG_SET(&m, id, id);
	MSG_SET(&m, payload, ((struct slice){data, len}));
	assert_int_equal(stream_send(w->server, &m), 0);
}

static void reply_err(struct world *w, uint64_t id, uint64_t err)
{
	struct msg m = {0};

	MSG_SET(&m, id, id);
	MSG_SET(&m, err, err);
	assert_int_equal(stream_send(w->server, &m), 0);
}

static void reply_written(struct world *w, uint64_t id, uint64_t off, uint64_t size)
{
	struct msg m = {0};

	MSG_SET(&m, id, id);
	MSG_SET(&m, off, off);
	MSG_SET(&m, size, size);
	assert_int_equal(stream_send(w->server, &m), 0);
}

static unsigned lost_count(struct world *w)
{
	(void)pthread_mutex_lock(&lock);
	unsigned n = w->lost;
	(void)pthread_mutex_unlock(&lock);
	return n;
}

/* ---- what works ---- */

static void test_hello(void **state)
{
	struct world *w = world_new(4, 1 << 20);
	const struct backend_info *info = &w->b->info;

	(void)state;
	assert_false(info->plain);
	assert_false(info->server_root);
	assert_int_equal(info->root_node, 77);
	assert_int_equal(info->epoch, 78);
	assert_int_equal(info->server_uid, 1000);
	assert_int_equal(info->server_gid, 0);
	assert_int_equal(info->idle_files, 5000);
	assert_ptr_equal(w->b->sequences, &codec_sequences);
	world_free(w);
}

static void test_replies_out_of_order(void **state)
{
	struct world *w = world_new(8, 1 << 20);
	struct tried *t[5];
	uint64_t id[5];
	char text[8];

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		t[i] = read_new(i * 10, 5);
		submit(w, t[i]);
	}
	for (unsigned i = 0; i < 5; i++) {
		struct msg m = receive_op(w, MSG_READ);

		assert_int_equal(m.off, i * 10); /* sent in order */
		assert_int_equal(m.fh, 1);
		assert_int_equal(m.size, 5);
		assert_true(MSG_HAS(&m, id));
		id[i] = m.id;
		for (unsigned k = 0; k < i; k++)
			assert_true(id[k] != id[i]);
	}
	static const unsigned order[] = {3, 0, 4, 1, 2};
	for (unsigned i = 0; i < 5; i++) {
		unsigned n = order[i];

		(void)snprintf(text, sizeof(text), "data%u", n);
		if (n == 1)
			reply_err(w, id[n], EIO);
		else
			reply_data(w, id[n], text, 5);
		wait_ended(t[n], n == 1 ? EIO : 0);
		if (n != 1)
			assert_memory_equal(t[n]->data, text, 5);
		for (unsigned k = i + 1; k < 5; k++)
			assert_waiting(t[order[k]]);
	}
	assert_int_equal(stats_get(w->stats, STAT_rpc_requests), 5);
	assert_int_equal(stats_get(w->stats, STAT_rpc_errors), 1);
	assert_int_equal(stats_get(w->stats, STAT_rpc_oneway), 0);
	assert_int_equal(stats_get(w->stats, STAT_rpc_queued), 0);
	assert_true(stats_get(w->stats, STAT_rpc_bytes_sent) > 0);
	assert_true(stats_get(w->stats, STAT_rpc_bytes_received) > 0);
	assert_int_equal(lost_count(w), 0);
	for (unsigned i = 0; i < 5; i++)
		tried_free(t[i]);
	world_free(w);
}

/* Names need to be valid during submit only: they are encoded there. */
static void test_names_are_copied(void **state)
{
	struct world *w = world_new(1, 1 << 20);
	struct tried *first = read_new(0, 1), *t[40];
	char name[MSG_NAME_MAX];

	(void)state;
	submit(w, first); /* the others wait for its slot */
	for (unsigned i = 0; i < COUNT(t); i++) {
		size_t len = i % 2 == 0 ? sizeof(name) : 1; /* in the call, and beyond its room */

		t[i] = call_new(MSG_RENAME);
		memset(name, 'a' + (int)(i % 26), sizeof(name));
		MSG_SET(&t[i]->call.req, node, i);
		MSG_SET(&t[i]->call.req, node2, 2);
		MSG_SET(&t[i]->call.req, name, ((struct slice){name, len}));
		MSG_SET(&t[i]->call.req, name2, ((struct slice){name, len}));
		MSG_SET(&t[i]->call.req, groups, ((struct slice){name, len}));
		submit(w, t[i]);
		memset(name, 0, sizeof(name));
	}
	struct msg m = receive_op(w, MSG_READ);
	reply_data(w, m.id, "x", 1);
	for (unsigned i = 0; i < COUNT(t); i++) {
		m = receive_op(w, MSG_RENAME);
		assert_int_equal(m.node, i);
		assert_int_equal(m.name2.len, i % 2 == 0 ? sizeof(name) : 1);
		for (size_t k = 0; k < m.name2.len; k++)
			assert_int_equal(((const char *)m.name2.data)[k], 'a' + (int)(i % 26));
		reply_err(w, m.id, 0);
		wait_ended(t[i], 0);
		tried_free(t[i]);
	}
	wait_ended(first, 0);
	tried_free(first);
	world_free(w);
}

static void test_slots(void **state)
{
	enum { CALLS = 7, SLOTS = 2 };
	struct world *w = world_new(SLOTS, 1 << 20);
	struct tried *t[CALLS];
	uint64_t id[CALLS];

	(void)state;
	for (unsigned i = 0; i < CALLS; i++) {
		t[i] = read_new(i, 1);
		submit(w, t[i]);
	}
	for (unsigned i = 0; i < SLOTS; i++)
		id[i] = receive_op(w, MSG_READ).id;
	assert_int_equal(stats_get(w->stats, STAT_rpc_queued), CALLS - SLOTS);
	for (unsigned i = SLOTS; i < CALLS; i++) {
		assert_quiet(w);
		/* each reply, whichever, lets one more go */
		reply_data(w, id[i - 1], "x", 1);
		wait_ended(t[i - 1], 0);
		struct msg m = receive_op(w, MSG_READ);
		assert_int_equal(m.off, i);
		id[i] = m.id;
	}
	assert_waiting(t[0]);
	reply_data(w, id[0], "x", 1);
	reply_data(w, id[CALLS - 1], "", 0);
	for (unsigned i = 0; i < CALLS; i++) {
		wait_ended(t[i], 0);
		tried_free(t[i]);
	}
	world_free(w);
}

/* No slots at all would be a connection for nothing. */
static void test_slots_out_of_bounds(void **state)
{
	static const uint64_t slots[] = {0, UINT64_MAX};
	static const unsigned want[] = {1, MSG_SLOTS_MAX};

	(void)state;
	for (size_t i = 0; i < COUNT(slots); i++) {
		struct world *w = world_new(slots[i], 1 << 20);
		struct tried **t = calloc(want[i] + 1, sizeof(*t));

		assert_non_null(t);
		for (unsigned k = 0; k <= want[i]; k++) {
			t[k] = call_new(MSG_PING);
			submit(w, t[k]);
		}
		uint64_t id = 0;
		for (unsigned k = 0; k < want[i]; k++)
			id = receive_op(w, MSG_PING).id;
		assert_quiet(w);
		reply_err(w, id, 0);
		(void)receive_op(w, MSG_PING);
		hang_up(w);
		for (unsigned k = 0; k <= want[i]; k++) {
			wait_ended(t[k], k == want[i] - 1 ? 0 : ENOTCONN);
			tried_free(t[k]);
		}
		free(t);
		world_free(w);
	}
}

static void test_where_a_payload_goes(void **state)
{
	struct world *w = world_new(8, 1 << 20);
	unsigned char dest[16];
	struct tried *t;
	uint64_t id;

	(void)state;
	/* into dest, if the reply fits there */
	memset(dest, '#', sizeof(dest));
	t = read_new(0, 10);
	t->call.dest = dest;
	t->call.dest_len = 10;
	submit(w, t);
	id = receive(w).id;
	reply_data(w, id, "tenletters", 10);
	wait_ended(t, 0);
	assert_true(t->in_dest);
	assert_memory_equal(dest, "tenletters######", sizeof(dest));
	tried_free(t);
	/* a shorter one as well */
	t = read_new(0, 10);
	t->call.dest = dest;
	t->call.dest_len = 10;
	submit(w, t);
	id = receive(w).id;
	reply_data(w, id, "", 0);
	wait_ended(t, 0);
	assert_true(t->in_dest);
	assert_int_equal(t->len, 0);
	tried_free(t);
	/* else into the backend's own buffer */
	for (int i = 0; i < 2; i++) {
		memset(dest, '#', sizeof(dest));
		t = read_new(0, 10);
		t->call.dest = i == 0 ? dest : NULL;
		t->call.dest_len = i == 0 ? 9 : 0;
		submit(w, t);
		id = receive(w).id;
		reply_data(w, id, "tenletters", 10);
		wait_ended(t, 0);
		assert_false(t->in_dest);
		assert_int_equal(t->len, 10);
		assert_memory_equal(t->data, "tenletters", 10);
		assert_memory_equal(dest, "################", sizeof(dest));
		tried_free(t);
	}
	/* what has no size of its own */
	static char target[MSG_TARGET_MAX];
	memset(target, 'x', sizeof(target));
	t = call_new(MSG_READLINK);
	MSG_SET(&t->call.req, node, 1);
	submit(w, t);
	id = receive(w).id;
	reply_data(w, id, target, sizeof(target));
	wait_ended(t, 0);
	assert_int_equal(t->len, sizeof(target));
	tried_free(t);
	world_free(w);
}

static void fill(unsigned char *p, size_t len, uint64_t seed)
{
	struct unit_random random = {seed + 1};

	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)unit_next(&random);
}

/* More than any socket buffer holds: the submitter leaves, the writer goes on. */
static void test_large_payloads(void **state)
{
	enum { CALLS = 8 };
	struct world *w = world_new(CALLS, 1u << 30);
	unsigned char *data = malloc((size_t)CALLS * MSG_PAYLOAD_MAX);
	struct tried *t[CALLS];

	(void)state;
	assert_non_null(data);
	fill(data, (size_t)CALLS * MSG_PAYLOAD_MAX, 1);
	for (unsigned i = 0; i < CALLS; i++) {
		t[i] = write_new(i, data + (size_t)i * MSG_PAYLOAD_MAX, MSG_PAYLOAD_MAX);
		submit(w, t[i]); /* returns though nobody reads */
	}
	for (unsigned i = 0; i < CALLS; i++) {
		struct msg m = receive_op(w, MSG_WRITE);

		assert_int_equal(m.off, i);
		assert_int_equal(m.payload.len, MSG_PAYLOAD_MAX);
		assert_memory_equal(w->payload, data + (size_t)i * MSG_PAYLOAD_MAX,
				    MSG_PAYLOAD_MAX);
		reply_written(w, m.id, m.off + 5, m.payload.len);
		wait_ended(t[i], 0);
		assert_int_equal(t[i]->reply.off, i + 5);
		tried_free(t[i]);
	}
	free(data);
	world_free(w);
}

static void test_oneway(void **state)
{
	struct world *w = world_new(1, 1 << 20);
	struct tried *t = read_new(0, 1), *f = oneway_new("abc", 3), *g = oneway_new("", 0);

	(void)state;
	submit(w, t); /* the only slot: messages without a reply need none */
	submit(w, f);
	submit(w, g);
	wait_ended(f, 0);
	wait_ended(g, 0);
	uint64_t id = receive_op(w, MSG_READ).id;
	struct msg m = receive_op(w, MSG_FORGET);
	assert_false(MSG_HAS(&m, id));
	assert_int_equal(m.payload.len, 3);
	assert_memory_equal(w->payload, "abc", 3);
	m = receive_op(w, MSG_FORGET);
	assert_int_equal(m.payload.len, 0);
	reply_data(w, id, "x", 1);
	wait_ended(t, 0);
	assert_int_equal(stats_get(w->stats, STAT_rpc_oneway), 2);
	assert_int_equal(stats_get(w->stats, STAT_rpc_requests), 1);
	tried_free(t);
	tried_free(f);
	tried_free(g);
	world_free(w);
}

static void test_cancel(void **state)
{
	struct world *w = world_new(1, 1 << 20);
	struct tried *a = call_new(MSG_SETLK), *b = call_new(MSG_SETLK);

	(void)state;
	assert_false(w->b->ops->cancel(w->b, &a->call)); /* not submitted yet */
	submit(w, a);
	submit(w, b);
	assert_true(w->b->ops->cancel(w->b, &a->call));
	uint64_t id = receive_op(w, MSG_SETLK).id;
	/* b waits for a's slot, and the CANCEL for its turn */
	reply_err(w, id, EINTR);
	wait_ended(a, EINTR);
	uint64_t id_b = receive_op(w, MSG_SETLK).id;
	struct msg m = receive_op(w, MSG_CANCEL);
	assert_int_equal(m.id, id);
	assert_true(w->b->ops->cancel(w->b, &b->call));
	m = receive_op(w, MSG_CANCEL);
	assert_int_equal(m.id, id_b);
	assert_waiting(b);
	reply_err(w, id_b, 0);
	wait_ended(b, 0);
	assert_false(w->b->ops->cancel(w->b, &b->call)); /* over */
	assert_quiet(w);
	tried_free(a);
	tried_free(b);
	world_free(w);
}

/* A request that is too large for the protocol is the caller's to hear of, and no harm to others.
 */
static void test_too_large(void **state)
{
	static unsigned char groups[MSG_HEAD_MAX];
	struct world *w = world_new(4, 1u << 30);
	struct tried *t = call_new(MSG_CREATE), *p = write_new(0, NULL, MSG_PAYLOAD_MAX + 1),
		     *ok = call_new(MSG_PING);

	(void)state;
	MSG_SET(&t->call.req, groups, ((struct slice){groups, sizeof(groups)}));
	submit(w, t);
	assert_ended(t, EMSGSIZE); /* at once */
	submit(w, p);
	assert_ended(p, EMSGSIZE);
	submit(w, ok);
	reply_err(w, receive_op(w, MSG_PING).id, 0);
	wait_ended(ok, 0);
	assert_int_equal(lost_count(w), 0);
	tried_free(t);
	tried_free(p);
	tried_free(ok);
	world_free(w);
}

static void submit_next(struct tried *t)
{
	submit(t->w, t->next);
}

/* A completion may submit. */
static void test_submit_from_completion(void **state)
{
	struct world *w = world_new(1, 1 << 20);
	struct tried *a = call_new(MSG_PING), *b = call_new(MSG_PING), *c = call_new(MSG_PING);

	(void)state;
	a->then = b->then = submit_next;
	a->next = b;
	b->next = c;
	a->w = b->w = w;
	submit(w, a);
	reply_err(w, receive(w).id, 0);
	wait_ended(a, 0);
	(void)receive(w);
	hang_up(w);
	wait_ended(b, ENOTCONN);
	wait_ended(c, ENOTCONN); /* also when the link is lost */
	tried_free(a);
	tried_free(b);
	tried_free(c);
	world_free(w);
}

/* ---- a full queue ---- */

static char task_state(long tid)
{
	char path[64], state = '?';

	(void)snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", tid);
	FILE *f = fopen(path, "re");
	if (f != NULL) {
		if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = '?';
		(void)fclose(f);
	}
	return state;
}

struct drain {
	pthread_t thread;
	struct world *w;
	long waiter;
	bool shutdown;
	atomic_bool seen_waiting, drained;
};

/* Waits until the waiter waits, then reads all that was sent, or hangs up. */
static void *drain(void *arg)
{
	struct drain *d = arg;
	struct timespec now, end = unit_deadline();

	do {
		(void)sched_yield();
		(void)clock_gettime(CLOCK_REALTIME, &now);
	} while (task_state(d->waiter) != 'S' && now.tv_sec < end.tv_sec);
	d->seen_waiting = true;
	if (d->shutdown)
		hang_up(d->w);
	else
		(void)receive(d->w);
	d->drained = true;
	return NULL;
}

static void test_wait_room(void **state)
{
	static unsigned char data[MSG_PAYLOAD_MAX];

	(void)state;
	for (int shutdown = 0; shutdown < 2; shutdown++) {
		struct world *w = world_new(4, 1000);
		struct tried *t = write_new(0, data, sizeof(data));
		struct drain d = {.w = w, .waiter = syscall(SYS_gettid), .shutdown = shutdown};

		w->b->ops->wait_room(w->b); /* nothing is queued: returns */
		submit(w, t);
		assert_int_equal(pthread_create(&d.thread, NULL, drain, &d), 0);
		w->b->ops->wait_room(w->b);
		assert_true(d.seen_waiting);
		assert_int_equal(pthread_join(d.thread, NULL), 0);
		world_free(w);
		assert_ended(t, ENOTCONN);
		tried_free(t);
	}
}

/* ---- the end of the link ---- */

/*
 * Calls in every state: sent, partly sent, waiting for a slot; and messages
 * without a reply among them. Each completes once, whatever ends the link.
 */
struct crowd {
	struct tried *t[12];
	unsigned n;
};

static void crowd_join(struct world *w, struct crowd *c, struct tried *t)
{
	c->t[c->n++] = t;
	submit(w, t);
}

static void crowd_lost(struct world *w, struct crowd *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		wait_ended(c->t[i], c->t[i]->call.done != NULL ? ENOTCONN : 0);
		tried_free(c->t[i]);
	}
	assert_int_equal(lost_count(w), 1);
	/* and whatever comes later, at once */
	struct tried *late = call_new(MSG_PING), *late2 = oneway_new("x", 1);
	submit(w, late);
	assert_ended(late, ENOTCONN);
	submit(w, late2);
	assert_ended(late2, 0);
	w->b->ops->wait_room(w->b);
	assert_false(w->b->ops->cancel(w->b, &late->call));
	tried_free(late);
	tried_free(late2);
	world_free(w);
}

static void test_lost(void **state)
{
	static unsigned char data[MSG_PAYLOAD_MAX];

	(void)state;
	for (int partly = 0; partly < 3; partly++) {
		struct world *w = world_new(3, 1u << 30);
		struct crowd c = {.n = 0};

		crowd_join(w, &c, read_new(0, 10));
		crowd_join(w, &c, read_new(10, 10));
		if (partly == 1)
			crowd_join(w, &c, write_new(0, data, sizeof(data)));
		else if (partly == 2)
			crowd_join(w, &c, oneway_new(data, sizeof(data)));
		for (int i = 0; i < 3; i++) {
			crowd_join(w, &c, read_new(20, 10));
			crowd_join(w, &c, oneway_new("gone", 4));
		}
		(void)receive(w);
		(void)receive(w);
		hang_up(w);
		crowd_lost(w, &c);
	}
}

/* Our own end of it is no loss to be told of. */
static void test_shutdown(void **state)
{
	struct world *w = world_new(1, 1 << 20);
	struct tried *a = call_new(MSG_PING), *b = call_new(MSG_PING), *c = oneway_new("x", 1);

	(void)state;
	submit(w, a);
	submit(w, b);
	submit(w, c);
	w->b->ops->shutdown(w->b);
	assert_ended(a, ENOTCONN); /* before it returned */
	assert_ended(b, ENOTCONN);
	assert_ended(c, 0);
	assert_int_equal(lost_count(w), 0);
	w->b->ops->free(w->b);
	hang_up(w);
	world_done(w);
	tried_free(a);
	tried_free(b);
	tried_free(c);
}

/* ---- a hostile server ---- */

enum hostile {
	UNKNOWN_ID,
	OLD_ID,
	TWICE,
	NOT_SENT_YET,
	TOO_LONG,
	ERRNO_TOO_LARGE,
	ERRNO_HUGE,
	FIELD_MISSING,
	NO_FILE,
	NO_ID,
	A_REQUEST,
	GARBAGE,
	MALFORMED,
	MALFORMED_INV,
	CUT_OFF,
	CUT_PAYLOAD,
	HOSTILE_KINDS,
};

static void send_hex(struct world *w, const char *hex)
{
	unsigned char buf[64];
	size_t n = unit_from_hex(hex, buf, sizeof(buf));

	assert_int_equal(stream_send_raw(w->server, buf, n, NULL, 0), 0);
}

static void misbehave(struct world *w, enum hostile kind, uint64_t id, uint64_t unsent)
{
	struct msg m = {0};

	MSG_SET(&m, id, id);
	switch (kind) {
	case UNKNOWN_ID:
		reply_data(w, id + 1000, "x", 1);
		return;
	case OLD_ID: /* its place in the client's table, of another time */
		reply_data(w, id ^ UINT64_C(1) << 40, "x", 1);
		return;
	case TWICE:
		reply_data(w, id, "x", 1);
		reply_data(w, id, "x", 1);
		return;
	case NOT_SENT_YET:
		reply_data(w, unsent, "x", 1);
		return;
	case TOO_LONG:
		reply_data(w, id, "eleven bytes", 11);
		return;
	case ERRNO_TOO_LARGE:
		reply_err(w, id, 512);
		return;
	case ERRNO_HUGE:
		reply_err(w, id, UINT64_MAX);
		return;
	case FIELD_MISSING:
		MSG_SET(&m, size, 1);
		break;
	case NO_FILE:
		MSG_SET(&m, payload, SLICE("x"));
		MSG_SET(&m, fh, 0);
		break;
	case NO_ID:
		m.present = 0;
		MSG_SET(&m, payload, SLICE("x"));
		break;
	case A_REQUEST:
		MSG_SET(&m, op, MSG_READ);
		MSG_SET(&m, payload, SLICE("x"));
		break;
	case GARBAGE:
		send_hex(w, "485454502f312e3120343030");
		return;
	case MALFORMED:
		send_hex(w, "00000005 00000005 bf010118 22");
		return;
	case MALFORMED_INV: /* the name "/" */
		m.present = 0;
		MSG_SET(&m, op, MSG_INV);
		MSG_SET(&m, seq, 1);
		MSG_SET(&m, payload, SLICE("\x83\x01\x04\x41/"));
		break;
	case CUT_OFF:
		send_hex(w, "00000005 00000005 a201");
		hang_up(w);
		return;
	case CUT_PAYLOAD: {
		unsigned char buf[128];

		MSG_SET(&m, payload, SLICE("some"));
		size_t n = codec_encode(&m, buf, sizeof(buf));
		assert_int_not_equal(n, 0);
		assert_int_equal(stream_send_raw(w->server, buf, n, "som", 3), 0);
		hang_up(w);
		return;
	}
	case HOSTILE_KINDS:
		return;
	}
	assert_int_equal(stream_send(w->server, &m), 0);
}

static void test_hostile(void **state)
{
	(void)state;
	for (int kind = 0; kind < HOSTILE_KINDS; kind++) {
		struct world *w = world_new(2, 1 << 20);
		struct tried *first = read_new(0, 10), *unsent = read_new(20, 10);
		struct crowd c = {.n = 0};

		submit(w, first);
		crowd_join(w, &c, read_new(10, 10));
		crowd_join(w, &c, unsent);
		crowd_join(w, &c, oneway_new("x", 1));
		crowd_join(w, &c, read_new(30, 10));
		uint64_t id = receive(w).id;
		(void)receive(w);
		misbehave(w, (enum hostile)kind, id, unsent->call.id);
		wait_ended(first, kind == TWICE ? 0 : ENOTCONN);
		tried_free(first);
		if (w->server != NULL) {
			/* what was sent meanwhile, and then the end */
			struct msg m;
			const char *why;
			int r;

			do {
				r = stream_recv(w->server, &w->hb, &m, &why);
				if (r == 0 && MSG_HAS(&m, payload))
					r = stream_recv_payload(w->server, NULL, m.payload.len);
			} while (r == 0);
			assert_true(r == -ENODATA || r == -ECONNRESET);
		}
		crowd_lost(w, &c);
	}
}

/* More bytes written, or copied, than there were. */
static void test_claims(void **state)
{
	(void)state;
	for (int copy = 0; copy < 2; copy++) {
		for (uint64_t size = 4; size <= 6; size++) {
			struct world *w = world_new(2, 1 << 20);
			struct tried *t = copy ? call_new(MSG_COPY) : write_new(0, "five!", 5);

			if (copy)
				MSG_SET(&t->call.req, size, 5);
			submit(w, t);
			reply_written(w, receive(w).id, 0, size);
			wait_ended(t, size > 5 ? ENOTCONN : 0);
			tried_free(t);
			world_free(w);
		}
	}
}

/* Bytes written where no file goes: what the kernel is told of its end would be negative. */
static void test_claims_too_far(void **state)
{
	static const uint64_t offs[] = {INT64_MAX - 5, INT64_MAX - 4, INT64_MAX, UINT64_MAX - 4,
					UINT64_MAX};

	(void)state;
	for (size_t i = 0; i < COUNT(offs); i++) {
		struct world *w = world_new(2, 1 << 20);
		struct tried *t = write_new(0, "five!", 5);

		submit(w, t);
		reply_written(w, receive(w).id, offs[i], 5);
		wait_ended(t, i > 0 ? ENOTCONN : 0);
		tried_free(t);
		world_free(w);
	}
}

/* The largest errno that a kernel lets pass, and targets that no link can have. */
static void test_refusals_and_targets(void **state)
{
	static char target[MSG_TARGET_MAX + 1];
	static const struct {
		size_t len;
		unsigned nul, err; /* nul: where, from 1 */
	} tries[] = {{0, 0, EIO}, {1, 0, 0}, {10, 5, EIO}, {MSG_TARGET_MAX, 0, 0},
		     {MSG_TARGET_MAX, MSG_TARGET_MAX, EIO}, {MSG_TARGET_MAX + 1, 0, EIO}};
	struct world *w = world_new(2, 1 << 20);
	struct tried *t = read_new(0, 10);

	(void)state;
	submit(w, t);
	reply_err(w, receive(w).id, MSG_ERR_MAX);
	wait_ended(t, MSG_ERR_MAX);
	tried_free(t);
	for (size_t i = 0; i < COUNT(tries); i++) {
		t = call_new(MSG_READLINK);
		MSG_SET(&t->call.req, node, 5);
		submit(w, t);
		memset(target, 'x', sizeof(target));
		if (tries[i].nul > 0)
			target[tries[i].nul - 1] = '\0';
		reply_data(w, receive_op(w, MSG_READLINK).id, target, tries[i].len);
		wait_ended(t, tries[i].err);
		assert_int_equal(t->len, tries[i].err == 0 ? tries[i].len : 0);
		tried_free(t);
	}
	assert_int_equal(lost_count(w), 0);
	world_free(w);
}

/* A reply to a request of which a part is still here, with and without the writer at work on it. */
static void test_reply_before_all_was_sent(void **state)
{
	static unsigned char data[MSG_PAYLOAD_MAX];
	struct world *w = world_new(4, 1u << 30);
	struct crowd c = {.n = 0};
	struct msg m;
	const char *why;

	(void)state;
	crowd_join(w, &c, write_new(0, data, sizeof(data)));
	crowd_join(w, &c, oneway_new("x", 1));
	crowd_join(w, &c, read_new(0, 1));
	assert_int_equal(stream_recv(w->server, &w->hb, &m, &why), 0);
	reply_written(w, m.id, 0, sizeof(data));
	crowd_lost(w, &c);
}

/* ---- many threads ---- */

enum { THREADS = 8, PER_THREAD = 600, PENDING_MAX = 48 };

static unsigned char pattern_byte(uint64_t off, size_t i)
{
	return (unsigned char)(off * 31 + i * 7);
}

/* The other end: answers in any order, after whatever time, and may hang up in the middle. */
struct server {
	pthread_t thread;
	struct world *w;
	unsigned stop_after; /* requests; 0: never */
	unsigned requests, oneways, cancels, wrong;
};

struct pending {
	uint64_t op, id, off, size;
};

static int server_reply(struct server *s, const struct pending *p)
{
	static _Thread_local unsigned char data[8192];
	struct msg m = {0};

	MSG_SET(&m, id, p->id);
	if (p->op == MSG_READ) {
		for (size_t i = 0; i < p->size; i++)
			data[i] = pattern_byte(p->off, i);
		MSG_SET(&m, payload, ((struct slice){data, (size_t)p->size}));
	} else {
		MSG_SET(&m, off, p->off);
		MSG_SET(&m, size, p->size);
	}
	return stream_send(s->w->server, &m);
}

static bool more_to_read(const struct world *w)
{
	struct pollfd p = {.fd = w->fd, .events = POLLIN};

	return stream_buffered(w->server) || poll(&p, 1, 0) == 1;
}

static void *serve(void *arg)
{
	struct server *s = arg;
	struct world *w = s->w;
	struct pending pending[PENDING_MAX];
	struct unit_random random = {99};
	size_t n = 0;

	for (;;) {
		if (n == PENDING_MAX || (n > 0 && !more_to_read(w))) {
			size_t at = unit_below(&random, n);

			if (server_reply(s, &pending[at]) < 0)
				return NULL;
			pending[at] = pending[--n];
			continue;
		}
		struct msg m;
		const char *why;
		int r = stream_recv(w->server, &w->hb, &m, &why);
		if (r == 0 && MSG_HAS(&m, payload))
			r = stream_recv_payload(w->server, w->payload, m.payload.len);
		if (r < 0)
			return NULL;
		if (m.op == MSG_FORGET) {
			s->oneways++;
			continue;
		}
		if (m.op == MSG_CANCEL) {
			s->cancels++;
			continue;
		}
		struct pending p = {m.op, m.id, m.off, m.size};
		if (m.op == MSG_WRITE) {
			p.size = m.payload.len;
			for (size_t i = 0; i < m.payload.len; i++)
				s->wrong += w->payload[i] != pattern_byte(m.off, i);
		}
		pending[n++] = p;
		if (++s->requests == s->stop_after) {
			stream_shutdown(w->server);
			return NULL;
		}
	}
}

struct client {
	pthread_t thread;
	struct world *w;
	unsigned number;
	struct tried *t[PER_THREAD];
	unsigned char *data[PER_THREAD];
};

static void *ask(void *arg)
{
	struct client *c = arg;
	struct unit_random random = {c->number + 1};

	for (unsigned i = 0; i < PER_THREAD; i++) {
		uint64_t off = c->number * PER_THREAD + i;
		size_t len = unit_below(&random, i % 50 == 0 ? 300000 : 3000);
		unsigned char *data = NULL;
		struct tried *t;

		switch (unit_below(&random, 5)) {
		case 0:
			t = oneway_new("x", 1);
			break;
		case 1:
		case 2:
			t = read_new(off, len % 8192);
			break;
		default:
			data = malloc(len + 1);
			if (data == NULL)
				abort();
			for (size_t k = 0; k < len; k++)
				data[k] = pattern_byte(off, k);
			t = write_new(off, data, len);
			break;
		}
		c->t[i] = t;
		c->data[i] = data;
		bool has_reply = t->call.done != NULL;
		submit(c->w, t);
		if (has_reply && i % 16 == 0) {
			/* as the adapter does it: the completion cannot run meanwhile */
			(void)pthread_mutex_lock(&lock);
			if (t->completions == 0)
				(void)c->w->b->ops->cancel(c->w->b, &t->call);
			(void)pthread_mutex_unlock(&lock);
		}
		if (i % 64 == 0)
			c->w->b->ops->wait_room(c->w->b);
	}
	return NULL;
}

static void run_many(unsigned stop_after)
{
	struct world *w = world_new(32, 1 << 20);
	struct server s = {.w = w, .stop_after = stop_after};
	struct client *c = calloc(THREADS, sizeof(*c));
	unsigned oneways = 0, requests = 0, lost = 0;

	assert_non_null(c);
	assert_int_equal(pthread_create(&s.thread, NULL, serve, &s), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		c[i].w = w;
		c[i].number = i;
		assert_int_equal(pthread_create(&c[i].thread, NULL, ask, &c[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(c[i].thread, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		for (unsigned k = 0; k < PER_THREAD; k++) {
			struct tried *t = c[i].t[k];
			uint64_t op = t->call.req.op;

			wait_completed(t);
			oneways += op == MSG_FORGET;
			requests += op != MSG_FORGET;
			if (t->err != 0) {
				assert_int_equal(t->err, ENOTCONN);
				lost++;
			} else if (op == MSG_READ) {
				assert_int_equal(t->len, t->call.req.size);
				for (size_t b = 0; b < t->len; b++)
					assert_int_equal(t->data[b],
							 pattern_byte(t->call.req.off, b));
			} else if (op == MSG_WRITE) {
				assert_int_equal(t->reply.size, t->call.req.payload.len);
				assert_int_equal(t->reply.off, t->call.req.off);
			}
		}
	}
	w->b->ops->shutdown(w->b);
	assert_int_equal(pthread_join(s.thread, NULL), 0);
	assert_int_equal(s.wrong, 0);
	if (stop_after == 0) {
		assert_int_equal(lost, 0);
		assert_int_equal(s.requests, requests);
		assert_int_equal(s.oneways, oneways);
		assert_true(s.cancels > 0);
		assert_int_equal(stats_get(w->stats, STAT_rpc_requests), requests);
	} else {
		assert_true(lost >= requests - stop_after);
		assert_int_equal(lost_count(w), 1);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		for (unsigned k = 0; k < PER_THREAD; k++) {
			assert_int_equal(c[i].t[k]->completions, 1);
			tried_free(c[i].t[k]);
			free(c[i].data[k]);
		}
	}
	free(c);
	w->b->ops->free(w->b);
	hang_up(w);
	world_done(w);
}

static void test_many_threads(void **state)
{
	(void)state;
	run_many(0);
}

static void test_many_threads_lose_the_link(void **state)
{
	static const unsigned after[] = {1, 10, 100, 500, 1500};

	(void)state;
	for (size_t i = 0; i < COUNT(after); i++)
		run_many(after[i]);
}

/* ---- a link that is made again ---- */

struct test_dialler {
	struct dialler base; /* first */
	struct world *w;
};

static bool dial_allowed(struct world *w)
{
	(void)pthread_mutex_lock(&lock);
	bool may = w->may_dial;
	(void)pthread_mutex_unlock(&lock);
	return may;
}

static int dial(struct dialler *d, const struct msg *resume, const struct patience *p,
		struct dialled *ret, char *err, size_t err_len)
{
	struct world *w = ((struct test_dialler *)d)->w;
	int fd[2];

	(void)pthread_mutex_lock(&lock);
	bool waits = w->dial_waits;
	w->dials++;
	w->asked_session = resume->session;
	w->asked_epoch = resume->epoch;
	w->asked_seq = MSG_HAS(resume, seq) ? resume->seq : 0;
	w->asked_features = MSG_HAS(resume, features) ? resume->features : 0;
	memcpy(w->asked_token, resume->token.data, MSG_TOKEN_LEN);
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
	(void)snprintf(err, err_len, "nobody is there");
	while (waits && !dial_allowed(w) && !patience_stopped(p))
		(void)patience_pause(p, 10000);
	if (patience_stopped(p))
		return -EINTR;
	if (!dial_allowed(w))
		return -EHOSTDOWN;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(stream_new(fd[0], &ret->stream), 0);
	ret->hello = w->dial_hello;
	memcpy(ret->token, "next", 5);
	(void)pthread_mutex_lock(&lock);
	assert_int_equal(stream_new(fd[1], &w->server), 0);
	w->fd = fd[1];
	w->may_dial = false;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
	return 0;
}

static void dialler_free(struct dialler *d)
{
	((struct test_dialler *)d)->w->freed++;
	free(d);
}

static struct world *world_kept(uint64_t slots, uint64_t features, uint64_t timeo)
{
	struct world *w = world_with(slots, 1 << 20, HELLO_RESUME | features, timeo);
	struct test_dialler *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	*d = (struct test_dialler){.base = {.dial = dial, .free = dialler_free}, .w = w};
	w->dial_hello.features |= HELLO_RESUMED;
	assert_int_equal(link_keep(w->b, &d->base), 0);
	return w;
}

static void wait_dials(struct world *w, unsigned n)
{
	(void)pthread_mutex_lock(&lock);
	while (w->dials < n)
		(void)pthread_cond_wait(&changed, &lock);
	(void)pthread_mutex_unlock(&lock);
}

/* A server is there again, and has answered HELLO. */
static void let_dial(struct world *w)
{
	(void)pthread_mutex_lock(&lock);
	w->may_dial = true;
	while (w->server == NULL)
		(void)pthread_cond_wait(&changed, &lock);
	(void)pthread_mutex_unlock(&lock);
}

/* What the link tells of the session. */
struct told {
	struct slice_copy {
		unsigned char data[256];
		size_t len;
	} of[RESUME_USED + 1];
	uint64_t id;
};

static struct told receive_resume(struct world *w)
{
	struct told t = {0};
	bool last = false;

	for (unsigned n = 0; !last; n++) {
		struct msg m = receive_op(w, MSG_RESUME);

		assert_true(m.type <= RESUME_USED);
		assert_int_equal((m.flags & RESUME_FIRST) != 0, n == 0);
		struct slice_copy *to = &t.of[m.type];
		assert_true(to->len + m.payload.len <= sizeof(to->data));
		memcpy(to->data + to->len, w->payload, m.payload.len);
		to->len += m.payload.len;
		t.id = m.id;
		last = (m.flags & RESUME_LAST) != 0;
	}
	return t;
}

static struct told resume(struct world *w)
{
	let_dial(w);
	struct told t = receive_resume(w);
	reply_err(w, t.id, 0);
	return t;
}

static void assert_pair(struct slice *in, uint64_t a, uint64_t b)
{
	uint64_t x, y;

	assert_int_equal(codec_get_pair(in, &x, &y), 1);
	assert_int_equal(x, a);
	assert_int_equal(y, b);
}

static struct msg_slot slot_of(const struct msg *m)
{
	assert_true(MSG_HAS(m, slot));
	assert_int_equal(m->slot.len, MSG_SLOT_LEN);
	return msg_slot_get(m->slot.data);
}

/* The same bytes, in the same order; what came meanwhile follows. */
static void test_sent_again(void **state)
{
	struct world *w = world_kept(3, 0, 0);
	struct tried *t[5], *oneway = oneway_new("x", 1);
	struct msg_slot slots[3];
	uint64_t ids[3];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		t[i] = i == 1 ? read_new(10, 1) : write_new(i * 10, "data", 4);
		submit(w, t[i]);
	}
	submit(w, oneway); /* behind the fourth, which waits for a slot */
	for (unsigned i = 0; i < 3; i++) {
		struct msg m = receive(w);

		ids[i] = m.id;
		assert_int_equal(MSG_HAS(&m, slot), i != 1);
		if (i != 1)
			slots[i] = slot_of(&m);
	}
	hang_up(w);
	wait_dials(w, 3);
	t[4] = write_new(40, "data", 4);
	submit(w, t[4]);
	for (unsigned i = 0; i < 5; i++)
		assert_waiting(t[i]);
	struct told told = resume(w);
	assert_int_equal(w->asked_session, 79);
	assert_int_equal(w->asked_epoch, 78);
	struct slice in = {told.of[RESUME_NODES].data, told.of[RESUME_NODES].len};
	assert_pair(&in, 77, 1); /* the root, as nobody else tells */
	assert_int_equal(in.len, 0);
	in = (struct slice){told.of[RESUME_SLOTS].data, told.of[RESUME_SLOTS].len};
	assert_pair(&in, slots[0].slot, slots[0].use);
	assert_pair(&in, slots[2].slot, slots[2].use);
	assert_int_equal(in.len, 0);
	wait_ended(oneway, 0); /* what it gave back has been told otherwise */
	for (unsigned i = 0; i < 3; i++) {
		struct msg m = receive(w);

		assert_int_equal(m.id, ids[i]);
		assert_int_equal(m.off, i * 10);
		if (i == 1)
			continue;
		assert_int_equal(slot_of(&m).slot, slots[i].slot);
		assert_int_equal(slot_of(&m).use, slots[i].use);
		assert_memory_equal(w->payload, "data", 4);
	}
	assert_quiet(w);
	for (unsigned i = 0; i < 3; i++) {
		if (i == 1)
			reply_data(w, ids[i], "x", 1);
		else
			reply_written(w, ids[i], i * 10, 4);
		wait_ended(t[i], 0);
	}
	for (unsigned i = 3; i < 5; i++) {
		struct msg m = receive_op(w, MSG_WRITE);

		assert_int_equal(m.off, i * 10);
		reply_written(w, m.id, m.off, 4);
		wait_ended(t[i], 0);
	}
	assert_quiet(w);
	assert_int_equal(lost_count(w), 0);
	assert_int_equal(stats_get(w->stats, STAT_conn_lost), 1);
	for (unsigned i = 0; i < 5; i++)
		tried_free(t[i]);
	tried_free(oneway);
	world_free(w);
}

/* The new secret is used the next time. */
static void test_secret(void **state)
{
	struct world *w = world_kept(3, 0, 0);

	(void)state;
	hang_up(w);
	(void)resume(w);
	assert_string_equal((const char *)w->asked_token, "first");
	hang_up(w);
	(void)resume(w);
	assert_string_equal((const char *)w->asked_token, "next");
	world_free(w);
}

static uint64_t heard(void *arg)
{
	(void)arg;
	return 42;
}

static void holds(void *arg, const struct backend_holds *to)
{
	(void)arg;
	to->begin(to->arg);
	for (uint64_t i = 0; i < 3; i++)
		to->node(to->arg, 100 + i, 1 + i);
	to->file(to->arg, 9);
}

static void locks_lost(void *arg)
{
	(void)pthread_mutex_lock(&lock);
	++*(unsigned *)arg;
	(void)pthread_mutex_unlock(&lock);
}

static void test_tells_what_is_held(void **state)
{
	static const struct backend_events events = {
	    .heard = heard, .holds = holds, .locks_lost = locks_lost};
	struct world *w = world_kept(3, 0, 0);
	unsigned lost = 0;
	uint64_t fh;

	(void)state;
	w->b->ops->listen(w->b, &events, &lost);
	for (unsigned with = 0; with < 2; with++) {
		if (with != 0)
			w->dial_hello.features |= HELLO_LOCKS_LOST;
		hang_up(w);
		struct told told = resume(w);
		assert_int_equal(w->asked_seq, 42);
		struct slice in = {told.of[RESUME_NODES].data, told.of[RESUME_NODES].len};
		for (uint64_t i = 0; i < 3; i++)
			assert_pair(&in, 100 + i, 1 + i);
		assert_int_equal(in.len, 0);
		in = (struct slice){told.of[RESUME_FILES].data, told.of[RESUME_FILES].len};
		assert_int_equal(codec_get_uint(&in, &fh), 1);
		assert_int_equal(fh, 9);
		assert_int_equal(in.len, 0);
		struct tried *t = read_new(0, 1); /* it goes on */
		submit(w, t);
		struct msg m = receive_op(w, MSG_READ);
		reply_data(w, m.id, "x", 1);
		wait_ended(t, 0);
		tried_free(t);
		assert_int_equal(lost, with);
	}
	world_free(w);
}

/*
 * Another copy of this client has gone on with the session: so the server says at RESUME, and then
 * at HELLO. Of the calls in flight the one goes on that the server names.
 */
static void test_copy(void **state)
{
	static const struct backend_events events = {
	    .heard = heard, .holds = holds, .locks_lost = locks_lost};
	struct world *w = world_kept(3, 0, 0);
	struct tried *unsure = write_new(0, "a", 1), *fresh = write_new(10, "b", 1),
		     *read = read_new(20, 1), *queued = write_new(30, "c", 1);
	unsigned char buf[32];
	unsigned lost = 0;

	(void)state;
	w->b->ops->listen(w->b, &events, &lost);
	submit(w, unsure);
	submit(w, fresh);
	submit(w, read);
	submit(w, queued); /* waits for a slot */
	struct msg m = receive_op(w, MSG_WRITE);
	const struct msg_slot first = slot_of(&m);
	m = receive_op(w, MSG_WRITE);
	const struct msg_slot second = slot_of(&m);
	(void)receive_op(w, MSG_READ);
	w->dial_hello.features |= HELLO_COPIES;
	hang_up(w);
	let_dial(w);
	struct told told = receive_resume(w);
	struct slice in = {told.of[RESUME_USED].data, told.of[RESUME_USED].len};
	assert_pair(&in, first.slot, first.use);
	assert_pair(&in, second.slot, second.use);
	assert_int_equal(in.len, 0);
	assert_int_equal(w->asked_features, 0);
	w->dial_hello.features = HELLO_PUSH | HELLO_RESUME | HELLO_COPIES | HELLO_COPY;
	w->dial_hello.session = 80;
	reply_err(w, told.id, ESTALE);
	hang_up(w);
	let_dial(w);
	assert_int_equal(w->asked_features, HELLO_COPY);
	assert_int_equal(w->asked_session, 79);
	told = receive_resume(w);
	assert_int_equal(told.of[RESUME_USED].len, 0);
	assert_waiting(unsure);
	assert_int_equal(lost, 0);
	reply_data(w, told.id, buf,
		   codec_put_pair(second.slot, second.use, buf, sizeof(buf)));
	wait_ended(unsure, EIO);
	m = receive_op(w, MSG_WRITE);
	assert_int_equal(m.off, 10);
	assert_int_equal(slot_of(&m).use, second.use);
	reply_written(w, m.id, 10, 1);
	m = receive_op(w, MSG_READ);
	reply_data(w, m.id, "x", 1);
	m = receive_op(w, MSG_WRITE);
	assert_int_equal(m.off, 30);
	assert_int_equal(slot_of(&m).use, slot_of(&m).slot == first.slot ? first.use + 1 : 1);
	reply_written(w, m.id, 30, 1);
	wait_ended(fresh, 0);
	wait_ended(read, 0);
	wait_ended(queued, 0);
	assert_int_equal(lost, 1);
	assert_int_equal(stats_get(w->stats, STAT_conn_copied), 1);
	assert_int_equal(stats_get(w->stats, STAT_conn_unsure), 1);
	assert_int_equal(lost_count(w), 0);
	/* that is its session now */
	w->dial_hello.features = HELLO_PUSH | HELLO_RESUME | HELLO_COPIES | HELLO_RESUMED;
	hang_up(w);
	(void)resume(w);
	assert_int_equal(w->asked_features, 0);
	assert_int_equal(w->asked_session, 80);
	tried_free(unsure);
	tried_free(fresh);
	tried_free(read);
	tried_free(queued);
	world_free(w);
}

static void test_cancelled_again(void **state)
{
	struct world *w = world_kept(3, 0, 0);
	struct tried *t = call_new(MSG_SETLK);

	(void)state;
	submit(w, t);
	struct msg m = receive_op(w, MSG_SETLK);
	uint64_t id = m.id;
	assert_true(w->b->ops->cancel(w->b, &t->call));
	assert_int_equal(receive_op(w, MSG_CANCEL).id, id);
	hang_up(w);
	(void)resume(w);
	assert_int_equal(receive_op(w, MSG_SETLK).id, id);
	assert_int_equal(receive_op(w, MSG_CANCEL).id, id);
	reply_err(w, id, EINTR);
	wait_ended(t, EINTR);
	tried_free(t);
	world_free(w);
}

/* soft: calls end, and those that come; when there is a server again all goes on. */
static void test_timeo(void **state)
{
	struct world *w = world_kept(1, 0, 1);
	struct tried *t = write_new(0, "x", 1), *queued = read_new(0, 1), *late = read_new(0, 1),
		     *after = write_new(0, "x", 1);

	(void)state;
	submit(w, t);
	submit(w, queued);
	struct msg m = receive_op(w, MSG_WRITE);
	const struct msg_slot slot = slot_of(&m);
	hang_up(w);
	wait_ended(t, ETIMEDOUT);
	wait_ended(queued, ETIMEDOUT);
	submit(w, late);
	assert_ended(late, ETIMEDOUT); /* at once */
	assert_int_equal(resume(w).of[RESUME_SLOTS].len, 0);
	/* the reply to RESUME is still on its way to the link */
	while (stats_get(w->stats, STAT_conn_resumed) == 0)
		(void)sched_yield();
	submit(w, after);
	m = receive_op(w, MSG_WRITE);
	assert_int_equal(slot_of(&m).slot, slot.slot);
	assert_int_equal(slot_of(&m).use, slot.use + 1);
	reply_written(w, m.id, 0, 1);
	wait_ended(after, 0);
	assert_int_equal(lost_count(w), 0);
	tried_free(t);
	tried_free(queued);
	tried_free(late);
	tried_free(after);
	world_free(w);
}

static void test_shutdown_while_it_dials(void **state)
{
	struct world *w = world_kept(1, 0, 0);
	struct tried *t = read_new(0, 1), *queued = read_new(0, 1);

	(void)state;
	submit(w, t);
	submit(w, queued);
	w->dial_waits = true;
	hang_up(w);
	wait_dials(w, 1);
	w->b->ops->shutdown(w->b);
	assert_ended(t, ENOTCONN);
	assert_ended(queued, ENOTCONN);
	assert_int_equal(lost_count(w), 0); /* it was to end */
	w->b->ops->free(w->b);
	assert_int_equal(w->freed, 1);
	world_done(w);
	tried_free(t);
	tried_free(queued);
}

/* Between the loss and the keeper's seeing it. */
static void test_shutdown_after_a_loss(void **state)
{
	(void)state;
	for (int i = 0; i < 200; i++) {
		struct world *w = world_kept(1, 0, 0);
		struct tried *t = read_new(0, 1);

		submit(w, t);
		hang_up(w);
		while (stats_get(w->stats, STAT_conn_lost) == 0)
			(void)sched_yield();
		w->b->ops->shutdown(w->b);
		assert_ended(t, ENOTCONN);
		w->b->ops->free(w->b);
		world_done(w);
		tried_free(t);
	}
}

/* A server that cannot go on with the session ends the link. */
static void test_session_is_gone(void **state)
{
	static const uint64_t missing[] = {HELLO_RESUMED, HELLO_PUSH, HELLO_WATCH, HELLO_ACL};

	(void)state;
	for (size_t i = 0; i < COUNT(missing); i++) {
		struct world *w = world_kept(1, HELLO_WATCH | HELLO_ACL, 0);
		struct tried *t = read_new(0, 1), *late = read_new(0, 1);

		submit(w, t);
		w->dial_hello.features &= ~missing[i];
		hang_up(w);
		let_dial(w);
		wait_ended(t, ENOTCONN);
		submit(w, late);
		wait_ended(late, ENOTCONN);
		assert_int_equal(lost_count(w), 1);
		tried_free(t);
		tried_free(late);
		world_free(w);
	}
}

/* It is tried again. */
static void test_resume_makes_no_sense(void **state)
{
	struct world *w = world_kept(1, 0, 0);
	struct tried *t = read_new(0, 1);

	(void)state;
	submit(w, t);
	for (int how = 0; how < 5; how++) {
		struct msg m = {0};

		hang_up(w);
		let_dial(w);
		struct told told = receive_resume(w);
		MSG_SET(&m, id, told.id - (how == 0));
		if (how == 1)
			MSG_SET(&m, err, EIO);
		if (how == 2)
			MSG_SET(&m, op, MSG_RESET);
		if (how == 3)
			m.present &= ~MSG_BIT(id);
		if (how < 4)
			assert_int_equal(stream_send(w->server, &m), 0);
		/* 4: it hangs up */
	}
	hang_up(w);
	(void)resume(w);
	struct msg m = receive_op(w, MSG_READ);
	reply_data(w, m.id, "x", 1);
	wait_ended(t, 0);
	tried_free(t);
	world_free(w);
}

static void test_goodbye(void **state)
{
	struct world *w = world_kept(1, 0, 0);
	const char *why;
	struct msg m;

	(void)state;
	w->b->ops->shutdown(w->b);
	(void)receive_op(w, MSG_GOODBYE);
	assert_int_equal(stream_recv(w->server, &w->hb, &m, &why), -ENODATA);
	w->b->ops->free(w->b);
	hang_up(w);
	world_done(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hello),
	    cmocka_unit_test(test_replies_out_of_order),
	    cmocka_unit_test(test_names_are_copied),
	    cmocka_unit_test(test_slots),
	    cmocka_unit_test(test_slots_out_of_bounds),
	    cmocka_unit_test(test_where_a_payload_goes),
	    cmocka_unit_test(test_large_payloads),
	    cmocka_unit_test(test_oneway),
	    cmocka_unit_test(test_cancel),
	    cmocka_unit_test(test_too_large),
	    cmocka_unit_test(test_submit_from_completion),
	    cmocka_unit_test(test_wait_room),
	    cmocka_unit_test(test_lost),
	    cmocka_unit_test(test_shutdown),
	    cmocka_unit_test(test_hostile),
	    cmocka_unit_test(test_claims),
	    cmocka_unit_test(test_claims_too_far),
	    cmocka_unit_test(test_refusals_and_targets),
	    cmocka_unit_test(test_reply_before_all_was_sent),
	    cmocka_unit_test(test_many_threads),
	    cmocka_unit_test(test_many_threads_lose_the_link),
	    cmocka_unit_test(test_sent_again),
	    cmocka_unit_test(test_secret),
	    cmocka_unit_test(test_tells_what_is_held),
	    cmocka_unit_test(test_copy),
	    cmocka_unit_test(test_cancelled_again),
	    cmocka_unit_test(test_timeo),
	    cmocka_unit_test(test_shutdown_while_it_dials),
	    cmocka_unit_test(test_shutdown_after_a_loss),
	    cmocka_unit_test(test_session_is_gone),
	    cmocka_unit_test(test_resume_makes_no_sense),
	    cmocka_unit_test(test_goodbye),
	};

	log_init("test_link", LOG_CRIT); /* lost links are what is tested */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
