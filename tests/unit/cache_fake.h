/*
 * What the tests of src/cache put around it: a backend that keeps every call
 * until the test answers it, a clock that only the test moves, and memory
 * that runs out when the test says so.
 *
 * The clock and the memory are src/cache/node.c's, compiled here in place of
 * the library's.
 */
#pragma once

#include "sample.h"

#include <pthread.h>

/* ---- the clock of clock.c and the memory of node.c ---- */

static uint64_t fake_now = 1000000; /* ns; time that goes on while the machine is suspended */
static uint64_t fake_suspended;	    /* of it, as long as that was */
static long fake_memory = -1;	    /* allocations that still succeed; -1: all */

static inline int fake_clock_gettime(clockid_t clock, struct timespec *ts)
{
	uint64_t ns = fake_now - (clock == CLOCK_BOOTTIME ? 0 : fake_suspended);

	*ts = (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
				.tv_nsec = (long)(ns % 1000000000u)};
	return 0;
}

static inline bool fake_memory_left(void)
{
	if (fake_memory == 0)
		return false;
	fake_memory -= fake_memory > 0;
	return true;
}

static inline void *fake_calloc(size_t n, size_t size)
{
	return fake_memory_left() ? calloc(n, size) : NULL;
}

static inline void *fake_malloc(size_t size)
{
	return fake_memory_left() ? malloc(size) : NULL;
}

#define clock_gettime fake_clock_gettime
#include "core/clock.c"
#undef clock_gettime

#define calloc fake_calloc
#define malloc fake_malloc
#include "cache/node.c"
#include "cache/stamps.c"
#undef calloc
#undef malloc

#include "cache/opens.h"
#include "transport/codec.h"

/* Leaves room for so many new nodes: the next one needs memory. */
static inline void fake_fill_chunk(struct cache *c, uint32_t left)
{
	uint64_t server = UINT64_C(1) << 40;

	while (chunk_at(c, c->chunk_hint)->used != NODES_PER_CHUNK - left)
		assert_non_null(node_named_locked(c, ++server));
}

/* ---- the backend ---- */

#define FAKE_ROOT     1000 /* the server's id of the root */
#define FAKE_CALLS    64
#define FAKE_MESSAGES 524288

struct fake_pair {
	uint64_t node, n;
};

struct fake {
	struct backend base; /* first */
	pthread_mutex_t lock;
	struct call *waiting[FAKE_CALLS]; /* in the order of their submission */
	size_t n_waiting;
	/* What came without a reply. */
	struct fake_pair forgets[FAKE_MESSAGES];
	size_t n_forgets, n_forget_messages;
	uint64_t closed[4096];
	size_t n_closed;
	struct fake_ack {
		uint64_t seq, flags;
	} acks[64];
	size_t n_acks;
	unsigned n_silent; /* so often the link was taken for lost */
	bool stuck;	   /* ACK stays on its way */
	struct call *sending; /* which */
	/* Where pushes go. */
	const struct backend_events *events;
	void (*pushed)(void *arg, const struct msg *m);
	void *pushed_arg;
};

static inline void fake_oneway(struct fake *f, const struct msg *m)
{
	struct slice in = m->payload;
	int r;

	assert_true(m->payload.len <= MSG_PAYLOAD_MAX);
	if (m->op == MSG_FORGET) {
		struct fake_pair p;

		f->n_forget_messages++;
		assert_true(in.len > 0);
		while ((r = codec_get_pair(&in, &p.node, &p.n)) == 1) {
			assert_true(f->n_forgets < FAKE_MESSAGES);
			f->forgets[f->n_forgets++] = p;
		}
	} else if (m->op == MSG_ACK) {
		assert_true(f->n_acks < COUNT(f->acks));
		f->acks[f->n_acks++] = (struct fake_ack){m->seq, m->flags};
		r = 0;
	} else {
		uint64_t fh;

		assert_int_equal(m->op, MSG_CLOSE);
		while ((r = codec_get_uint(&in, &fh)) == 1) {
			assert_true(f->n_closed < COUNT(f->closed));
			f->closed[f->n_closed++] = fh;
		}
	}
	assert_int_equal(r, 0);
}

static inline void fake_submit(struct backend *b, struct call *call)
{
	struct fake *f = (struct fake *)b;
	bool oneway = call->done == NULL;
	bool stays = oneway && f->stuck && call->req.op == MSG_ACK;

	(void)pthread_mutex_lock(&f->lock);
	if (oneway) {
		fake_oneway(f, &call->req);
		if (stays)
			f->sending = call;
	} else {
		assert_true(f->n_waiting < FAKE_CALLS);
		f->waiting[f->n_waiting++] = call; /* may be answered as soon as it is there */
	}
	(void)pthread_mutex_unlock(&f->lock);
	if (oneway && !stays)
		call->sent(call);
}

static inline void fake_listen(struct backend *b, const struct backend_events *events, void *arg)
{
	struct fake *f = (struct fake *)b;

	f->events = events;
	f->pushed = events != NULL ? events->pushed : NULL;
	f->pushed_arg = arg;
}

static inline void fake_silent(struct backend *b)
{
	((struct fake *)b)->n_silent++;
}

static const struct backend_ops fake_ops = {
	.submit = fake_submit, .listen = fake_listen, .silent = fake_silent};

static inline struct fake *fake_new(void)
{
	struct fake *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)pthread_mutex_init(&f->lock, NULL);
	f->base.ops = &fake_ops;
	f->base.sequences = &codec_sequences;
	f->base.info.root_node = FAKE_ROOT;
	f->base.info.idle_files = IDLE_FILES;
	return f;
}

static inline void fake_free(struct fake *f)
{
	assert_int_equal(f->n_waiting, 0);
	(void)pthread_mutex_destroy(&f->lock);
	free(f);
}

/* Takes the i-th waiting call out; its order among the others is the test's. */
static inline struct call *fake_take(struct fake *f, size_t i)
{
	(void)pthread_mutex_lock(&f->lock);
	assert_true(i < f->n_waiting);
	struct call *call = f->waiting[i];
	f->n_waiting--;
	memmove(f->waiting + i, f->waiting + i + 1, (f->n_waiting - i) * sizeof(call));
	(void)pthread_mutex_unlock(&f->lock);
	return call;
}

/* How often the references of a server node went back, together. */
static inline uint64_t fake_forgotten(const struct fake *f, uint64_t node)
{
	uint64_t n = 0;

	for (size_t i = 0; i < f->n_forgets; i++)
		n += f->forgets[i].node == node ? f->forgets[i].n : 0;
	return n;
}

/* ---- requests to the cache ---- */

struct asked {
	struct cache_req req; /* first */
	unsigned completions;
	struct cache_reply reply; /* attr points to the copy, msg is of no use any more */
	struct attr attr;
	bool from_cache, local; /* local: no reply of the server, error or not */
	char data[64];		/* the first bytes of it */
	size_t len;
};

static inline void asked_done(struct cache_req *r, const struct cache_reply *reply)
{
	struct asked *a = (struct asked *)r;

	a->completions++;
	a->reply = *reply;
	a->from_cache = reply->err == 0 && reply->msg == NULL;
	a->local = reply->msg == NULL;
	a->reply.msg = NULL;
	a->len = reply->data.len;
	if (a->len > 0)
		memcpy(a->data, reply->data.data, a->len < sizeof(a->data) ? a->len : sizeof(a->data));
	if (reply->attr != NULL) {
		a->attr = *reply->attr;
		a->reply.attr = &a->attr;
	}
}

static inline struct asked *asked_new(enum msg_op op)
{
	struct asked *a = calloc(1, sizeof(*a));

	assert_non_null(a);
	a->req.done = asked_done;
	MSG_SET(&a->req.call.req, op, op);
	return a;
}

/* Submits a request for one node or two. */
static inline struct asked *ask2(struct cache *c, enum msg_op op, uint64_t ino, uint64_t ino2)
{
	struct asked *a = asked_new(op);

	cache_submit(c, &a->req, ino, ino2);
	return a;
}

static inline struct asked *ask(struct cache *c, enum msg_op op, uint64_t ino)
{
	return ask2(c, op, ino, 0);
}

/* The client's number of a file that the server has opened as `server`, for the kernel. */
static inline uint64_t opened(struct cache *c, uint64_t server)
{
	(void)pthread_mutex_lock(&c->lock);
	uint64_t fh = opens_add_locked(c, server);
	(void)pthread_mutex_unlock(&c->lock);
	assert_int_not_equal(fh, 0);
	assert_int_not_equal(fh, server);
	return fh;
}

/* Answers a request that waits. */
static inline void answer(struct fake *f, struct asked *a, const struct msg *m)
{
	size_t i = 0;

	while (i < f->n_waiting && f->waiting[i] != &a->req.call)
		i++;
	struct call *call = fake_take(f, i);
	assert_int_equal(a->completions, 0);
	call->done(call, m);
	assert_int_equal(a->completions, 1);
}

static inline void answer_err(struct fake *f, struct asked *a, uint64_t err)
{
	struct msg m = {0};

	if (err != 0)
		MSG_SET(&m, err, err);
	answer(f, a, &m);
}

/* Attributes with this version; the size tells them apart. */
static inline struct attr attr_of(uint64_t version, uint64_t size)
{
	return (struct attr){.version = version, .size = size, .mode = 0100644, .nlink = 1};
}

/* Answers with a node (0: none) and its attributes. */
static inline void answer_node(struct fake *f, struct asked *a, uint64_t node, struct attr attr)
{
	struct msg m = {0};

	if (node != 0)
		MSG_SET(&m, node, node);
	MSG_SET(&m, attr, attr);
	answer(f, a, &m);
}
