#include "transport/link.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "transport/codec.h"
#include "transport/wire.h"

/*
 * The places of a call: `next` links the queue of the calls that are to be sent; table[] holds each
 * call that waits for a reply, queued or sent, under the low bits of its id.
 */
#define TABLE_BITS 20
#define TABLE_MAX  (1u << TABLE_BITS)

struct link {
	struct backend base; /* first: struct backend * is a struct link * */
	struct link_options options;

	pthread_mutex_t lock; /* the fields below, and the wire's; never held across a completion */
	pthread_cond_t room;  /* to wait_room: queued_bytes fell */
	struct wire *wire;
	struct call *head, **tail;
	size_t queued_bytes; /* of the calls that have not been sent to their last byte */
	unsigned in_flight, slots;
	struct call **table;
	uint32_t *free_index;
	uint32_t table_size, free_count;
	uint64_t sequence;
	bool lost, stopping;
	void (*pushed)(void *arg, const struct msg *m); /* NULL: nobody listens yet */
	void *pushed_arg;
};

static struct link *to_link(struct backend *b)
{
	return (struct link *)b;
}

/* ---- the table of calls ---- */

static int table_add_locked(struct link *l, struct call *call)
{
	if (l->free_count == 0) {
		uint32_t size = l->table_size == 0 ? 256 : l->table_size * 2;

		if (size > TABLE_MAX)
			return -EAGAIN;
		struct call **table = realloc(l->table, size * sizeof(*table));
		if (table == NULL)
			return -ENOMEM;
		l->table = table;
		uint32_t *index = realloc(l->free_index, size * sizeof(*index));
		if (index == NULL)
			return -ENOMEM;
		l->free_index = index;
		for (uint32_t i = size; i > l->table_size; i--) {
			table[i - 1] = NULL;
			index[l->free_count++] = i - 1;
		}
		l->table_size = size;
	}
	uint32_t at = l->free_index[--l->free_count];
	l->table[at] = call;
	call->id = ++l->sequence << TABLE_BITS | at;
	return 0;
}

static struct call *table_find_locked(const struct link *l, uint64_t id)
{
	uint64_t at = id & (TABLE_MAX - 1);
	struct call *call = at < l->table_size ? l->table[at] : NULL;

	return call != NULL && call->id == id ? call : NULL;
}

static void table_remove_locked(struct link *l, const struct call *call)
{
	uint32_t at = (uint32_t)(call->id & (TABLE_MAX - 1));

	l->table[at] = NULL;
	l->free_index[l->free_count++] = at;
}

/* ---- the queue, and the questions that the wire asks about it ---- */

static void call_fail(struct link *l, struct call *call, int err)
{
	struct msg reply = {.err = (uint64_t)err, .present = MSG_BIT(err)};

	stats_rpc_drop(l->options.stats, &call->span);
	wire_release(call);
	if (call->done != NULL)
		call->done(call, &reply);
	else
		call->sent(call);
}

static void set_queued_locked(struct link *l, size_t bytes)
{
	bool full = bytes > l->options.send_queue;

	l->queued_bytes = bytes;
	if (atomic_load(&l->base.full) != full) {
		atomic_store(&l->base.full, full);
		(void)pthread_cond_broadcast(&l->room);
	}
}

static void queue_add_locked(struct link *l, struct call *call)
{
	call->next = NULL;
	call->queued = true;
	*l->tail = call;
	l->tail = &call->next;
	set_queued_locked(l, l->queued_bytes + wire_bytes(call));
}

static void queue_take_locked(struct link *l)
{
	l->head->queued = false;
	l->head = l->head->next;
	if (l->head == NULL)
		l->tail = &l->head;
}

static struct call *link_next_locked(void *arg)
{
	const struct link *l = arg;
	struct call *call = l->head;

	return call != NULL && (call->done == NULL || l->in_flight < l->slots) ? call : NULL;
}

static void link_begun_locked(void *arg, struct call *call)
{
	struct link *l = arg;

	queue_take_locked(l);
	l->in_flight += call->done != NULL;
	stats_rpc_send(l->options.stats, &call->span, call->req.op, call->done == NULL);
}

/* A message without a reply ends here. */
static void link_sent_locked(void *arg, struct call *call)
{
	struct link *l = arg;

	set_queued_locked(l, l->queued_bytes - wire_bytes(call));
	if (call->done != NULL)
		return;
	(void)pthread_mutex_unlock(&l->lock);
	wire_release(call);
	call->sent(call);
	(void)pthread_mutex_lock(&l->lock);
}

/* ---- the backend; any thread ---- */

static int enqueue(struct link *l, struct call *call)
{
	SCOPE_LOCK(&l->lock);
	if (l->lost)
		return -ENOTCONN;
	if (call->done != NULL) {
		int e = table_add_locked(l, call);
		if (e < 0)
			return e;
		MSG_SET(&call->req, id, call->id);
	}
	int e = wire_encode(call);
	if (e < 0) {
		if (call->done != NULL)
			table_remove_locked(l, call);
		return e;
	}
	stats_rpc_queue(l->options.stats, &call->span, call->done == NULL);
	queue_add_locked(l, call);
	/* After a complete send the call may be gone. */
	if (!wire_queued_locked(l->wire, l->head == call))
		stats_add(l->options.stats, STAT_rpc_queued, 1);
	return 0;
}

static void link_submit(struct backend *b, struct call *call)
{
	struct link *l = to_link(b);
	int e = enqueue(l, call);

	if (e < 0)
		call_fail(l, call, -e);
}

static void link_wait_room(struct backend *b)
{
	struct link *l = to_link(b);

	SCOPE_LOCK(&l->lock);
	while (!l->lost && atomic_load(&l->base.full))
		(void)pthread_cond_wait(&l->room, &l->lock);
}

static void free_call(struct call *call)
{
	free(call);
}

static bool link_cancel(struct backend *b, const struct call *target)
{
	struct link *l = to_link(b);
	uint64_t id = 0;

	(void)pthread_mutex_lock(&l->lock);
	for (uint32_t i = 0; i < l->table_size && id == 0; i++)
		if (l->table[i] == target)
			id = target->id;
	(void)pthread_mutex_unlock(&l->lock);
	if (id == 0)
		return false;
	struct call *call = calloc(1, sizeof(*call));
	if (call == NULL)
		return true; /* the request then ends when it ends */
	call->sent = free_call;
	MSG_SET(&call->req, op, MSG_CANCEL);
	MSG_SET(&call->req, id, id);
	link_submit(b, call);
	return true;
}

static void link_listen(struct backend *b, void (*pushed)(void *arg, const struct msg *m),
			void *arg)
{
	struct link *l = to_link(b);

	SCOPE_LOCK(&l->lock);
	l->pushed = pushed;
	l->pushed_arg = arg;
}

/* ---- replies and pushes: on the wire's reader ---- */

static bool items_valid(struct slice payload)
{
	struct inv_item item;
	int r;

	while ((r = codec_get_inv(&payload, &item)) == 1)
		;
	return r == 0;
}

/* Takes in an INV or a RESET. Returns NULL, or the reason to end the connection. */
static const char *receive_push(struct link *l, struct wire *w, struct msg *m)
{
	if (!l->base.info.push || MSG_HAS(m, id) || !msg_is(m->op, TRAIT_PUSHED))
		return "a message that is no reply";
	if (!msg_request_complete(m))
		return "an invalidation without a required field";
	int e = wire_rest(w, m, NULL, 0);
	if (e < 0)
		return strerror(-e);
	if (MSG_HAS(m, payload) && !items_valid(m->payload))
		return "a malformed invalidation";
	stats_set(l->options.stats, STAT_conn_heard, stats_now());
	(void)pthread_mutex_lock(&l->lock);
	void (*pushed)(void *arg, const struct msg *m) = l->pushed;
	void *arg = l->pushed_arg;
	(void)pthread_mutex_unlock(&l->lock);
	if (pushed != NULL)
		pushed(arg, m);
	return NULL;
}

/* The call that a reply answers; NULL if there is none, or the server cannot have received it
 * yet. */
static struct call *find_answered(struct link *l, struct wire *w, uint64_t id)
{
	SCOPE_LOCK(&l->lock);
	struct call *call = table_find_locked(l, id);

	return call != NULL && wire_let_go_locked(w, call) && !call->queued ? call : NULL;
}

/* Whether a reply claims to have done more bytes than there were to do. */
static bool claims_too_much(const struct msg *req, const struct msg *reply)
{
	uint64_t asked = MSG_HAS(req, payload) ? req->payload.len : req->size;

	return reply->err == 0 && msg_is(req->op, TRAIT_WRITES) && MSG_HAS(reply, size) &&
	       reply->size > asked;
}

/* Whether a reply claims to have done bytes beyond the largest size that a file can have. */
static bool claims_too_far(const struct msg *req, const struct msg *reply)
{
	return reply->err == 0 && msg_is(req->op, TRAIT_WRITES) && MSG_HAS(reply, off) &&
	       (reply->off > INT64_MAX || reply->size > INT64_MAX - reply->off);
}

/* The reason for which no server may send this reply to the request; NULL: there is none. */
static const char *impossible(const struct msg *req, const struct msg *reply)
{
	if (reply->err > MSG_ERR_MAX)
		return "an errno out of range";
	if (!msg_reply_complete(req->op, reply))
		return "a reply without a required field";
	if (claims_too_much(req, reply))
		return "more bytes done than asked for";
	if (claims_too_far(req, reply))
		return "bytes done beyond the end of any file";
	if (MSG_HAS(reply, payload) && MSG_HAS(req, size) && reply->payload.len > req->size)
		return "more bytes than asked for";
	return NULL;
}

/* The whole reply has been received: the call is not in flight any more. */
static void take_answered(struct link *l, struct wire *w, struct call *call)
{
	SCOPE_LOCK(&l->lock);
	table_remove_locked(l, call);
	l->in_flight--;
	wire_wake_locked(w);
}

static const char *receive_reply(struct link *l, struct wire *w, struct msg *reply)
{
	struct call *call = find_answered(l, w, reply->id);

	if (call == NULL)
		return "a reply that no request waits for";
	const char *why = impossible(&call->req, reply);
	if (why != NULL)
		return why;
	int e = wire_rest(w, reply, call->dest, call->dest_len);
	if (e < 0)
		return strerror(-e);
	take_answered(l, w, call);
	wire_release(call);
	/* The kernel's own file systems treat a link that is damaged on the disk so, too. */
	if (reply->err == 0 && msg_is(call->req.op, TRAIT_TARGET) && MSG_HAS(reply, payload) &&
	    !msg_target_valid(reply->payload))
		*reply = (struct msg){.err = EIO, .present = MSG_BIT(err)};
	stats_rpc_done(l->options.stats, &call->span, call->req.op, (int)reply->err);
	call->done(call, reply);
	return NULL;
}

static const char *link_received(void *arg, struct wire *w, struct msg *m)
{
	if (MSG_HAS(m, op))
		return receive_push(arg, w, m);
	return MSG_HAS(m, id) ? receive_reply(arg, w, m) : "a message that is no reply";
}

/* ---- the end of a wire ---- */

/* Takes one of the calls that are left: first those that are only in the queue, then those in
 * the table. NULL when no call is left. */
static struct call *take_any(struct link *l)
{
	SCOPE_LOCK(&l->lock);
	while (l->head != NULL) {
		struct call *call = l->head;

		queue_take_locked(l);
		if (call->done == NULL)
			return call;
	}
	for (uint32_t i = 0; i < l->table_size; i++) {
		struct call *call = l->table[i];

		if (call != NULL) {
			table_remove_locked(l, call);
			return call;
		}
	}
	return NULL;
}

/* A call that was sent in part is the first to be sent again. */
static void queue_again_locked(struct link *l, struct call *call)
{
	l->in_flight -= call->done != NULL;
	call->queued = true;
	call->next = l->head;
	if (l->head == NULL)
		l->tail = &call->next;
	l->head = call;
}

static void link_lost(void *arg, const char *why, struct call *part)
{
	struct link *l = arg;
	struct call *call;

	(void)pthread_mutex_lock(&l->lock);
	bool stopping = l->stopping;
	l->lost = true;
	if (part != NULL)
		queue_again_locked(l, part);
	(void)pthread_cond_broadcast(&l->room);
	(void)pthread_mutex_unlock(&l->lock);
	if (!stopping) {
		log_err("connection to the server lost: %s", why);
		stats_add(l->options.stats, STAT_conn_lost, 1);
		stats_text(l->options.stats, TEXT_conn_state, "lost");
		if (l->options.lost != NULL)
			l->options.lost(l->options.lost_arg);
	}
	while ((call = take_any(l)) != NULL)
		call_fail(l, call, ENOTCONN);
}

/* ---- life ---- */

static void link_shutdown(struct backend *b)
{
	struct link *l = to_link(b);

	(void)pthread_mutex_lock(&l->lock);
	l->stopping = true;
	(void)pthread_mutex_unlock(&l->lock);
	wire_end(l->wire);
}

static void link_free(struct backend *b)
{
	struct link *l = to_link(b);

	wire_free(l->wire);
	free(l->table);
	free(l->free_index);
	(void)pthread_mutex_destroy(&l->lock);
	(void)pthread_cond_destroy(&l->room);
	free(l);
}

static const struct backend_ops link_ops = {
	.submit = link_submit,
	.wait_room = link_wait_room,
	.cancel = link_cancel,
	.listen = link_listen,
	.shutdown = link_shutdown,
	.free = link_free,
};

/* Notes the facts about the server and the session that are in the reply to HELLO. */
static void set_facts(struct link *l, const struct msg *hello)
{
	struct backend_info *i = &l->base.info;

	i->push = (hello->features & HELLO_PUSH) != 0;
	i->watch = (hello->features & HELLO_WATCH) != 0;
	i->acl = (hello->features & HELLO_ACL) != 0;
	i->root_node = hello->node;
	i->epoch = hello->epoch;
	i->root_attr = hello->attr;
	i->server_root = (hello->features & HELLO_ROOT) != 0;
	i->read_only = (hello->features & HELLO_READONLY) != 0;
	i->watch_dirs = (hello->features & HELLO_WATCH_DIRS) != 0;
	i->umask = (hello->features & HELLO_UMASK) != 0;
	i->gives_up = (hello->features & HELLO_GIVE_UP) != 0;
	i->server_uid = (uint32_t)hello->uid;
	i->server_gid = (uint32_t)hello->gid;
	l->slots = hello->slots == 0		  ? 1
		   : hello->slots > MSG_SLOTS_MAX ? MSG_SLOTS_MAX
						  : (unsigned)hello->slots;
	stats_set(l->options.stats, STAT_conn_epoch, hello->epoch);
}

/* Takes over the stream, also on failure. */
static int connect_wire(struct link *l, struct stream *stream)
{
	const struct wire_owner owner = {.lock = &l->lock,
					 .stats = l->options.stats,
					 .arg = l,
					 .next_locked = link_next_locked,
					 .begun_locked = link_begun_locked,
					 .sent_locked = link_sent_locked,
					 .received = link_received,
					 .lost = link_lost};

	stats_text(l->options.stats, TEXT_conn_state, "connected");
	stats_set(l->options.stats, STAT_conn_heard, stats_now());
	return wire_new(stream, &owner, &l->wire);
}

int link_new(struct stream *stream, const struct msg *hello, const struct link_options *options,
	     struct backend **ret)
{
	struct link *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		stream_free(stream);
		return -ENOMEM;
	}
	l->base.ops = &link_ops;
	l->base.sequences = &codec_sequences;
	l->options = *options;
	l->tail = &l->head;
	(void)pthread_mutex_init(&l->lock, NULL);
	(void)pthread_cond_init(&l->room, NULL);
	stats_text(l->options.stats, TEXT_conn_proto, "extended");
	set_facts(l, hello);
	int r = connect_wire(l, stream);
	if (r < 0) {
		link_free(&l->base);
		return r;
	}
	*ret = &l->base;
	return 0;
}
