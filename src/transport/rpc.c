#include "transport/rpc.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "transport/codec.h"

/*
 * Where a call is: `next` links the send queue; table[] holds each call that
 * waits for a reply, queued or sent, under the low bits of its id.
 */
#define TABLE_BITS 20
#define TABLE_MAX  (1u << TABLE_BITS)

#define SUBMIT_BURST 4 /* calls that a submitter sends; the rest is the writer's */
#define SENT_YIELDS  8 /* times that the reader looks again before it sleeps for the sender */

struct rpc {
	struct backend base; /* first: struct backend * is a struct rpc * */
	struct rpc_options options;
	struct stream *stream;
	pthread_t reader, writer;

	pthread_mutex_t lock; /* the fields below; never held across a send or a completion */
	pthread_cond_t work;  /* to the writer: queue, slots or dead changed */
	pthread_cond_t sent;  /* to the reader: sending ended */
	pthread_cond_t room;  /* to wait_room: queued_bytes fell */
	struct call *head, **tail;
	size_t queued_bytes;
	/*
	 * The call that some thread is sending (it is in the queue no more), and
	 * whether that thread is waiting for the socket with a part of it unsent.
	 * A reply cannot complete, and so free, a call before its sender let go.
	 */
	struct call *sending;
	bool send_stuck;
	unsigned in_flight, slots;
	struct call **table;
	uint32_t *free_index;
	uint32_t table_size, free_count;
	uint64_t sequence;
	bool dead, stopping;
	void (*pushed)(void *arg, const struct msg *m); /* NULL: nobody listens yet */
	void *pushed_arg;
};

static struct rpc *to_rpc(struct backend *b)
{
	return (struct rpc *)b;
}

/* ---- the table of calls ---- */

static int table_add_locked(struct rpc *r, struct call *call)
{
	if (r->free_count == 0) {
		uint32_t size = r->table_size == 0 ? 256 : r->table_size * 2;

		if (size > TABLE_MAX)
			return -EAGAIN;
		struct call **table = realloc(r->table, size * sizeof(*table));
		if (table == NULL)
			return -ENOMEM;
		r->table = table;
		uint32_t *index = realloc(r->free_index, size * sizeof(*index));
		if (index == NULL)
			return -ENOMEM;
		r->free_index = index;
		for (uint32_t i = size; i > r->table_size; i--) {
			table[i - 1] = NULL;
			index[r->free_count++] = i - 1;
		}
		r->table_size = size;
	}
	uint32_t at = r->free_index[--r->free_count];
	r->table[at] = call;
	call->id = ++r->sequence << TABLE_BITS | at;
	return 0;
}

static struct call *table_find_locked(const struct rpc *r, uint64_t id)
{
	uint64_t at = id & (TABLE_MAX - 1);
	struct call *call = at < r->table_size ? r->table[at] : NULL;

	return call != NULL && call->id == id ? call : NULL;
}

static void table_remove_locked(struct rpc *r, const struct call *call)
{
	uint32_t at = (uint32_t)(call->id & (TABLE_MAX - 1));

	r->table[at] = NULL;
	r->free_index[r->free_count++] = at;
}

/* ---- sending ---- */

static size_t call_payload(const struct call *call)
{
	return MSG_HAS(&call->req, payload) ? call->req.payload.len : 0;
}

static size_t call_bytes(const struct call *call)
{
	return call->wire_len + call_payload(call);
}

static void call_release(struct call *call)
{
	if (call->wire != call->wire_inline)
		free(call->wire);
	call->wire = NULL;
}

static void call_fail(struct rpc *r, struct call *call, int err)
{
	struct msg reply = {.err = (uint64_t)err, .present = MSG_BIT(err)};

	stats_rpc_drop(r->options.stats, &call->span);
	call_release(call);
	if (call->done != NULL)
		call->done(call, &reply);
	else
		call->sent(call);
}

static bool may_send_locked(const struct rpc *r)
{
	return !r->dead && r->sending == NULL && r->head != NULL &&
	       (r->head->done == NULL || r->in_flight < r->slots);
}

/* Takes the first call off the queue and makes the caller its sender. */
static struct call *begin_send_locked(struct rpc *r)
{
	struct call *call = r->head;

	r->head = call->next;
	if (r->head == NULL)
		r->tail = &r->head;
	call->queued = false;
	r->sending = call;
	r->in_flight += call->done != NULL;
	stats_rpc_send(r->options.stats, &call->span, call->req.op, call->done == NULL);
	return call;
}

static void set_queued_locked(struct rpc *r, size_t bytes)
{
	bool full = bytes > r->options.send_queue;

	r->queued_bytes = bytes;
	if (atomic_load(&r->base.full) != full) {
		atomic_store(&r->base.full, full);
		(void)pthread_cond_broadcast(&r->room);
	}
}

/* The call is on its way: from here on the reader may complete it. */
static void end_send_locked(struct rpc *r, size_t bytes)
{
	r->sending = NULL;
	r->send_stuck = false;
	set_queued_locked(r, r->queued_bytes - bytes);
	(void)pthread_cond_signal(&r->sent);
}

/*
 * Sends one call as far as the socket takes it; with wait, all of it. Called
 * and returns with the lock held; false if the link broke or, without wait,
 * if a part is left: then *from says how much went.
 */
static bool send_call_locked(struct rpc *r, struct call *call, size_t *from, bool wait)
{
	const void *payload = call->req.payload.data;
	size_t len = call_payload(call), total = call_bytes(call);
	bool oneway = call->done == NULL;
	ssize_t n = 0;

	for (;;) {
		r->send_stuck = false;
		(void)pthread_mutex_unlock(&r->lock);
		n = stream_try_send(r->stream, call->wire, call->wire_len, payload, len, *from);
		(void)pthread_mutex_lock(&r->lock);
		if (n > 0)
			*from += (size_t)n;
		if (*from == total)
			break;
		r->send_stuck = true;
		(void)pthread_cond_signal(&r->sent);
		if (r->dead || (n < 0 && n != -EAGAIN) || !wait)
			return false;
		if (n < 0) {
			(void)pthread_mutex_unlock(&r->lock);
			int e = stream_wait_writable(r->stream);
			(void)pthread_mutex_lock(&r->lock);
			if (e < 0)
				return false;
		}
	}
	stats_add(r->options.stats, STAT_rpc_bytes_sent, total);
	end_send_locked(r, total);
	if (oneway) {
		(void)pthread_mutex_unlock(&r->lock);
		call_release(call);
		call->sent(call);
		(void)pthread_mutex_lock(&r->lock);
	}
	return true;
}

static void *writer_main(void *arg)
{
	struct rpc *r = arg;

	SCOPE_LOCK(&r->lock);
	while (!r->stopping) {
		size_t from = 0;
		struct call *call;

		if (r->sending != NULL && r->send_stuck && !r->dead) {
			/* left over by a submitter: wire_sent tells how far it came */
			call = r->sending;
			from = call->wire_sent;
		} else if (may_send_locked(r)) {
			call = begin_send_locked(r);
		} else {
			(void)pthread_cond_wait(&r->work, &r->lock);
			continue;
		}
		if (!send_call_locked(r, call, &from, true)) {
			/* The reader finds the link dead, and fails the call. */
			stream_shutdown(r->stream);
			r->dead = true;
		}
	}
	return NULL;
}

static int call_encode(struct call *call)
{
	size_t need = codec_encode_bound(&call->req);

	call->wire = call->wire_inline;
	if (need > sizeof(call->wire_inline)) {
		call->wire = malloc(need);
		if (call->wire == NULL)
			return -ENOMEM;
	} else {
		need = sizeof(call->wire_inline);
	}
	call->wire_len = codec_encode(&call->req, call->wire, need);
	return call->wire_len > 0 ? 0 : -EMSGSIZE;
}

static int enqueue(struct rpc *r, struct call *call)
{
	SCOPE_LOCK(&r->lock);
	if (r->dead)
		return -ENOTCONN;
	if (call->done != NULL) {
		int e = table_add_locked(r, call);
		if (e < 0)
			return e;
		MSG_SET(&call->req, id, call->id);
	}
	int e = call_encode(call);
	if (e < 0) {
		if (call->done != NULL)
			table_remove_locked(r, call);
		return e;
	}
	call->next = NULL;
	call->queued = true;
	stats_rpc_queue(r->options.stats, &call->span, call->done == NULL);
	*r->tail = call;
	r->tail = &call->next;
	set_queued_locked(r, r->queued_bytes + call_bytes(call));
	if (r->head != call || !may_send_locked(r)) {
		/* Whoever sends now, or frees a slot, wakes the writer. */
		stats_add(r->options.stats, STAT_rpc_queued, 1);
		if (may_send_locked(r))
			(void)pthread_cond_signal(&r->work);
		return 0;
	}
	/* What others queue meanwhile goes along, so that nobody wakes the writer for it. */
	for (unsigned n = 0; n < SUBMIT_BURST && may_send_locked(r); n++) {
		struct call *next = begin_send_locked(r);
		size_t from = 0;

		if (!send_call_locked(r, next, &from, false)) {
			next->wire_sent = from;
			r->send_stuck = true;
			break;
		}
		/* After a complete send the call may be gone. */
	}
	if (r->send_stuck || may_send_locked(r))
		(void)pthread_cond_signal(&r->work);
	return 0;
}

static void rpc_submit(struct backend *b, struct call *call)
{
	struct rpc *r = to_rpc(b);
	int e = enqueue(r, call);

	if (e < 0)
		call_fail(r, call, -e);
}

static void rpc_wait_room(struct backend *b)
{
	struct rpc *r = to_rpc(b);

	SCOPE_LOCK(&r->lock);
	while (!r->dead && atomic_load(&r->base.full))
		(void)pthread_cond_wait(&r->room, &r->lock);
}

static void free_call(struct call *call)
{
	free(call);
}

static bool rpc_cancel(struct backend *b, const struct call *target)
{
	struct rpc *r = to_rpc(b);
	uint64_t id = 0;

	(void)pthread_mutex_lock(&r->lock);
	for (uint32_t i = 0; i < r->table_size && id == 0; i++)
		if (r->table[i] == target)
			id = target->id;
	(void)pthread_mutex_unlock(&r->lock);
	if (id == 0)
		return false;
	struct call *call = calloc(1, sizeof(*call));
	if (call == NULL)
		return true; /* the request then ends when it ends */
	call->sent = free_call;
	MSG_SET(&call->req, op, MSG_CANCEL);
	MSG_SET(&call->req, id, id);
	rpc_submit(b, call);
	return true;
}

/* ---- receiving ---- */

/*
 * Finds the call that a reply answers and takes it out of the table; NULL if
 * there is none or it cannot have been received yet.
 */
static struct call *take_answered(struct rpc *r, uint64_t id)
{
	SCOPE_LOCK(&r->lock);
	struct call *call = table_find_locked(r, id);

	/* The sender is on its way back from the system call: as a rule that takes no time. */
	for (unsigned n = 0; call != NULL && r->sending == call && !r->send_stuck && !r->dead;
	     n++) {
		if (n >= SENT_YIELDS) {
			(void)pthread_cond_wait(&r->sent, &r->lock);
			continue;
		}
		(void)pthread_mutex_unlock(&r->lock);
		(void)sched_yield();
		(void)pthread_mutex_lock(&r->lock);
	}
	if (call == NULL || call->queued || r->sending == call)
		return NULL;
	table_remove_locked(r, call);
	r->in_flight--;
	if (may_send_locked(r))
		(void)pthread_cond_signal(&r->work);
	return call;
}

static void rpc_listen(struct backend *b, void (*pushed)(void *arg, const struct msg *m), void *arg)
{
	struct rpc *r = to_rpc(b);

	SCOPE_LOCK(&r->lock);
	r->pushed = pushed;
	r->pushed_arg = arg;
}

/* INV or RESET. */
static const char *receive_push(struct rpc *r, struct msg *m, unsigned char *buffer)
{
	if (!r->base.info.push || MSG_HAS(m, id) || !msg_is(m->op, TRAIT_PUSHED))
		return "a message that is no reply";
	if (!msg_request_complete(m))
		return "an invalidation without a required field";
	if (MSG_HAS(m, payload)) {
		m->payload.data = buffer;
		int e = stream_recv_payload(r->stream, buffer, m->payload.len);
		if (e < 0)
			return strerror(-e);
	}
	stats_add(r->options.stats, STAT_rpc_bytes_received,
		  FRAME_HEADER + (MSG_HAS(m, payload) ? m->payload.len : 0));
	stats_set(r->options.stats, STAT_conn_heard, stats_now());
	(void)pthread_mutex_lock(&r->lock);
	void (*pushed)(void *arg, const struct msg *m) = r->pushed;
	void *arg = r->pushed_arg;
	(void)pthread_mutex_unlock(&r->lock);
	if (pushed != NULL)
		pushed(arg, m);
	return NULL;
}

/* Whether a reply claims to have done more bytes than there were to do. */
static bool claims_too_much(const struct msg *req, const struct msg *reply)
{
	uint64_t asked = MSG_HAS(req, payload) ? req->payload.len : req->size;

	return reply->err == 0 && msg_is(req->op, TRAIT_WRITES) && MSG_HAS(reply, size) &&
	       reply->size > asked;
}

static const char *receive_message(struct rpc *r, struct head_buf *hb, unsigned char *buffer)
{
	const char *why = NULL;
	struct msg reply;
	int e = stream_recv(r->stream, hb, &reply, &why);

	if (e < 0)
		return why != NULL ? why : e == -ENODATA ? "closed by the server" : strerror(-e);
	if (MSG_HAS(&reply, op))
		return receive_push(r, &reply, buffer);
	if (!MSG_HAS(&reply, id))
		return "a message that is no reply";
	struct call *call = take_answered(r, reply.id);
	if (call == NULL)
		return "a reply that no request waits for";
	call_release(call);

	if (reply.err > MSG_ERR_MAX) {
		why = "an errno out of range";
	} else if (!msg_reply_complete(call->req.op, &reply)) {
		why = "a reply without a required field";
	} else if (claims_too_much(&call->req, &reply)) {
		why = "more bytes done than asked for";
	} else if (MSG_HAS(&reply, payload)) {
		if (MSG_HAS(&call->req, size) && reply.payload.len > call->req.size)
			why = "more bytes than asked for";
		bool fits = call->dest != NULL && reply.payload.len <= call->dest_len;
		void *dst = fits ? call->dest : buffer;
		reply.payload.data = dst;
		e = why == NULL ? stream_recv_payload(r->stream, dst, reply.payload.len) : 0;
		if (e < 0)
			why = strerror(-e);
	}
	if (why != NULL) {
		call_fail(r, call, ENOTCONN);
		return why;
	}
	stats_add(r->options.stats, STAT_rpc_bytes_received,
		  FRAME_HEADER + (MSG_HAS(&reply, payload) ? reply.payload.len : 0));
	/* As the kernel's own file systems treat a link that is damaged on the disk. */
	if (reply.err == 0 && msg_is(call->req.op, TRAIT_TARGET) && MSG_HAS(&reply, payload) &&
	    !msg_target_valid(reply.payload))
		reply = (struct msg){.err = EIO, .present = MSG_BIT(err)};
	stats_rpc_done(r->options.stats, &call->span, call->req.op, (int)reply.err);
	call->done(call, &reply);
	return NULL;
}

/* Completes all that is left. The writer no longer touches any call: it saw dead. */
static void fail_all(struct rpc *r)
{
	for (;;) {
		struct call *call = NULL;

		(void)pthread_mutex_lock(&r->lock);
		while (r->head != NULL) {
			struct call *c = r->head;

			r->head = c->next;
			if (c->done == NULL) {
				call = c;
				break;
			}
		}
		r->tail = &r->head;
		for (uint32_t i = 0; i < r->table_size && call == NULL; i++) {
			call = r->table[i];
			if (call != NULL)
				table_remove_locked(r, call);
		}
		(void)pthread_mutex_unlock(&r->lock);
		if (call == NULL)
			return;
		call_fail(r, call, ENOTCONN);
	}
}

static void *reader_main(void *arg)
{
	struct rpc *r = arg;
	struct head_buf hb = {0};
	unsigned char *buffer = malloc(MSG_PAYLOAD_MAX);
	const char *why = buffer == NULL ? "out of memory" : NULL;

	while (why == NULL)
		why = receive_message(r, &hb, buffer);
	stream_shutdown(r->stream);
	(void)pthread_mutex_lock(&r->lock);
	bool stopping = r->stopping;
	r->dead = true;
	(void)pthread_cond_broadcast(&r->work);
	(void)pthread_cond_broadcast(&r->room);
	/* A submitter that is inside try_send lets go at once; a stuck part is ours. */
	while (r->sending != NULL && !r->send_stuck)
		(void)pthread_cond_wait(&r->sent, &r->lock);
	(void)pthread_mutex_unlock(&r->lock);
	if (!stopping) {
		log_err("connection to the server lost: %s", why);
		stats_add(r->options.stats, STAT_conn_lost, 1);
		stats_text(r->options.stats, TEXT_conn_state, "lost");
		if (r->options.lost != NULL)
			r->options.lost(r->options.lost_arg);
	}
	(void)pthread_mutex_lock(&r->lock);
	r->stopping = true;
	(void)pthread_cond_broadcast(&r->work);
	(void)pthread_mutex_unlock(&r->lock);
	(void)pthread_join(r->writer, NULL);
	struct call *part = r->sending; /* a one-way call is in no table */
	if (part != NULL && part->done == NULL)
		call_fail(r, part, ENOTCONN);
	r->sending = NULL;
	fail_all(r);
	head_buf_done(&hb);
	free(buffer);
	return NULL;
}

/* ---- life ---- */

static void rpc_shutdown(struct backend *b)
{
	struct rpc *r = to_rpc(b);

	(void)pthread_mutex_lock(&r->lock);
	r->stopping = true;
	(void)pthread_mutex_unlock(&r->lock);
	stream_shutdown(r->stream);
	(void)pthread_join(r->reader, NULL);
}

static void rpc_free(struct backend *b)
{
	struct rpc *r = to_rpc(b);

	stream_free(r->stream);
	free(r->table);
	free(r->free_index);
	(void)pthread_mutex_destroy(&r->lock);
	(void)pthread_cond_destroy(&r->work);
	(void)pthread_cond_destroy(&r->sent);
	(void)pthread_cond_destroy(&r->room);
	free(r);
}

static const struct backend_ops rpc_ops = {
	.submit = rpc_submit,
	.wait_room = rpc_wait_room,
	.cancel = rpc_cancel,
	.listen = rpc_listen,
	.shutdown = rpc_shutdown,
	.free = rpc_free,
};

int rpc_new(struct stream *stream, const struct msg *hello, const struct rpc_options *options,
	    struct backend **ret)
{
	struct rpc *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		stream_free(stream);
		return -ENOMEM;
	}
	r->base.ops = &rpc_ops;
	r->base.sequences = &codec_sequences;
	r->base.info = (struct backend_info){
		.server_root = (hello->features & HELLO_ROOT) != 0,
		.read_only = (hello->features & HELLO_READONLY) != 0,
		.push = (hello->features & HELLO_PUSH) != 0,
		.watch = (hello->features & HELLO_WATCH) != 0,
		.watch_dirs = (hello->features & HELLO_WATCH_DIRS) != 0,
		.umask = (hello->features & HELLO_UMASK) != 0,
		.gives_up = (hello->features & HELLO_GIVE_UP) != 0,
		.acl = (hello->features & HELLO_ACL) != 0,
		.server_uid = (uint32_t)hello->uid,
		.server_gid = (uint32_t)hello->gid,
		.root_node = hello->node,
		.epoch = hello->epoch,
		.root_attr = hello->attr,
	};
	r->options = *options;
	stats_text(r->options.stats, TEXT_conn_proto, "extended");
	stats_text(r->options.stats, TEXT_conn_state, "connected");
	stats_set(r->options.stats, STAT_conn_epoch, hello->epoch);
	stats_set(r->options.stats, STAT_conn_heard, stats_now());
	r->stream = stream;
	r->slots = hello->slots == 0		  ? 1
		   : hello->slots > MSG_SLOTS_MAX ? MSG_SLOTS_MAX
						  : (unsigned)hello->slots;
	r->tail = &r->head;
	(void)pthread_mutex_init(&r->lock, NULL);
	(void)pthread_cond_init(&r->work, NULL);
	(void)pthread_cond_init(&r->sent, NULL);
	(void)pthread_cond_init(&r->room, NULL);
	int e = pthread_create(&r->writer, NULL, writer_main, r);
	if (e == 0) {
		e = pthread_create(&r->reader, NULL, reader_main, r);
		if (e != 0) {
			(void)pthread_mutex_lock(&r->lock);
			r->stopping = true;
			(void)pthread_cond_broadcast(&r->work);
			(void)pthread_mutex_unlock(&r->lock);
			(void)pthread_join(r->writer, NULL);
		}
	}
	if (e != 0) {
		rpc_free(&r->base);
		return -e;
	}
	*ret = &r->base;
	return 0;
}
