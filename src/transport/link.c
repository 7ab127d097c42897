#include "transport/link_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/outlive.h"
#include "transport/codec.h"

#define GOODBYE_S 1 /* for which the end waits until the server has heard GOODBYE */

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
	call->at = at;
	call->id = ++l->sequence << TABLE_BITS | at;
	return 0;
}

static struct call *table_find_locked(const struct link *l, uint64_t id)
{
	uint64_t at = id & (TABLE_MAX - 1);
	struct call *call = at < l->table_size ? l->table[at] : NULL;

	if (call != NULL && call->id == id)
		return call;
	for (uint32_t i = 0; i < l->old_count; i++)
		if (l->old[i]->id == id)
			return l->old[i];
	return NULL;
}

static void table_remove_locked(struct link *l, const struct call *call)
{
	uint32_t i = 0;

	l->table[call->at] = NULL;
	l->free_index[l->free_count++] = call->at;
	while (i < l->old_count && l->old[i] != call)
		i++;
	if (i < l->old_count)
		l->old[i] = l->old[--l->old_count];
}

static void link_settled(struct backend *b, struct call *call)
{
	struct link *l = to_link(b);

	SCOPE_LOCK(&l->lock);
	link_slot_settle_locked(l, call);
}

/* ---- the queue; what the wire asks about it ---- */

void link_call_fail(struct link *l, struct call *call, int err)
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
	link_slot_take_locked(l, call);
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
	static const unsigned char no_slot[MSG_SLOT_LEN]; /* set when it is sent */

	SCOPE_LOCK(&l->lock);
	if (l->lost || l->overdue)
		return l->lost ? -ENOTCONN : -ETIMEDOUT;
	if (call->done != NULL) {
		int e = table_add_locked(l, call);
		if (e < 0)
			return e;
		MSG_SET(&call->req, id, call->id);
	}
	link_slot_settle_locked(l, call);
	call->use = 0;
	call->cancelled = false;
	if (l->resumes && msg_is(call->req.op, TRAIT_ONCE))
		MSG_SET(&call->req, slot, ((struct slice){no_slot, sizeof(no_slot)}));
	int e = link_slot_claim_locked(l, call);
	if (e == 0)
		e = wire_encode(call);
	if (e < 0) {
		if (call->done != NULL)
			table_remove_locked(l, call);
		return e;
	}
	if (call->use != 0)
		wire_set_slot(call);
	stats_rpc_queue(l->options.stats, &call->span, call->done == NULL);
	queue_add_locked(l, call);
	/* After a complete send the call may be gone. */
	if (l->wire == NULL || !wire_queued_locked(l->wire, l->head == call))
		stats_add(l->options.stats, STAT_rpc_queued, 1);
	return 0;
}

static void link_submit(struct backend *b, struct call *call)
{
	struct link *l = to_link(b);
	int e = enqueue(l, call);

	if (e < 0)
		link_call_fail(l, call, -e);
}

static void link_wait_room(struct backend *b)
{
	struct link *l = to_link(b);

	SCOPE_LOCK(&l->lock);
	while (!l->lost && !l->overdue && atomic_load(&l->base.full))
		(void)pthread_cond_wait(&l->room, &l->lock);
}

static void free_call(struct call *call)
{
	free(call);
}

bool link_send_cancel(struct link *l, uint64_t id)
{
	struct call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return false; /* the request then ends when it ends */
	call->sent = free_call;
	MSG_SET(&call->req, op, MSG_CANCEL);
	MSG_SET(&call->req, id, id);
	int e = enqueue(l, call);
	if (e < 0)
		free(call);
	return e == 0;
}

static bool link_cancel(struct backend *b, const struct call *target)
{
	struct link *l = to_link(b);
	uint64_t id = 0;

	(void)pthread_mutex_lock(&l->lock);
	for (uint32_t i = 0; i < l->table_size && id == 0; i++) {
		if (l->table[i] == target) {
			id = target->id;
			l->table[i]->cancelled = true;
		}
	}
	(void)pthread_mutex_unlock(&l->lock);
	if (id != 0)
		(void)link_send_cancel(l, id);
	return id != 0;
}

static void link_silent(struct backend *b)
{
	struct link *l = to_link(b);

	SCOPE_LOCK(&l->lock);
	if (l->keeper != NULL && l->wire != NULL)
		wire_break_locked(l->wire);
}

static void link_listen(struct backend *b, const struct backend_events *events, void *arg)
{
	struct link *l = to_link(b);

	SCOPE_LOCK(&l->lock);
	l->events = events;
	l->events_arg = arg;
}

const struct backend_events *link_events(struct link *l, void **ret_arg)
{
	SCOPE_LOCK(&l->lock);
	*ret_arg = l->events_arg;
	return l->events;
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
	void *arg;

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
	const struct backend_events *events = link_events(l, &arg);
	if (events != NULL)
		events->pushed(arg, m);
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
	if (reply->err == 0 && MSG_HAS(reply, fh) && reply->fh == 0)
		return "an open file of number 0";
	if (claims_too_much(req, reply))
		return "more bytes done than asked for";
	if (claims_too_far(req, reply))
		return "bytes done beyond the end of any file";
	if (MSG_HAS(reply, payload) && MSG_HAS(req, size) && reply->payload.len > req->size)
		return "more bytes than asked for";
	return NULL;
}

/* The whole reply has been received: the call is not in flight any more. */
static void take_answered(struct link *l, struct wire *w, struct call *call,
			  const struct msg *reply)
{
	SCOPE_LOCK(&l->lock);
	table_remove_locked(l, call);
	link_slot_keep_locked(l, call, reply);
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
	take_answered(l, w, call, reply);
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

/* The first in the queue that has no reply. */
static struct call *take_oneway_locked(struct link *l)
{
	struct call **at = &l->head;

	while (*at != NULL && (*at)->done != NULL)
		at = &(*at)->next;
	struct call *call = *at;
	if (call == NULL)
		return NULL;
	*at = call->next;
	if (call->next == NULL)
		l->tail = at;
	set_queued_locked(l, l->queued_bytes - wire_bytes(call));
	return call;
}

struct call *link_take_any(struct link *l, bool oneway)
{
	SCOPE_LOCK(&l->lock);
	struct call *first = take_oneway_locked(l);

	if (first != NULL || oneway)
		return first;
	l->head = NULL;
	l->tail = &l->head;
	set_queued_locked(l, 0);
	for (uint32_t i = 0; i < l->table_size; i++) {
		struct call *call = l->table[i];

		if (call != NULL) {
			table_remove_locked(l, call);
			link_slot_give_locked(l, call);
			return call;
		}
	}
	return NULL;
}

/* All that were sent are in the queue again. */
static struct call *take_unsure_locked(struct link *l, const struct msg_slot *but, size_t n)
{
	struct call **at = &l->head, *taken = NULL;

	l->tail = &l->head;
	while (*at != NULL) {
		struct call *call = *at;

		if (call->done == NULL || call->use == 0 ||
		    link_slot_among(call->slot, call->use, but, n)) {
			at = l->tail = &call->next;
			continue;
		}
		*at = call->next;
		table_remove_locked(l, call);
		link_slot_give_locked(l, call);
		set_queued_locked(l, l->queued_bytes - wire_bytes(call));
		call->next = taken;
		taken = call;
	}
	return taken;
}

unsigned link_end_unsure(struct link *l, const struct msg_slot *but, size_t n)
{
	unsigned ended = 0;

	(void)pthread_mutex_lock(&l->lock);
	struct call *taken = take_unsure_locked(l, but, n);
	link_slots_spoil(l, but, n);
	(void)pthread_mutex_unlock(&l->lock);
	while (taken != NULL) {
		struct call *call = taken;

		taken = call->next;
		link_call_fail(l, call, EIO);
		ended++;
	}
	return ended;
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = (*(struct call *const *)a)->id, y = (*(struct call *const *)b)->id;

	return (x > y) - (x < y);
}

static void queue_again_locked(struct link *l, struct call *call)
{
	call->queued = true;
	call->next = l->head;
	if (l->head == NULL)
		l->tail = &call->next;
	l->head = call;
}

/* In flight are no more calls than there are slots. */
static void requeue_locked(struct link *l)
{
	struct call *sent[MSG_SLOTS_MAX];
	size_t n = 0;

	for (uint32_t i = 0; i < l->table_size; i++)
		if (l->table[i] != NULL && !l->table[i]->queued)
			sent[n++] = l->table[i];
	qsort(sent, n, sizeof(sent[0]), by_id);
	while (n-- > 0) {
		queue_again_locked(l, sent[n]);
		set_queued_locked(l, l->queued_bytes + wire_bytes(sent[n]));
		stats_rpc_again(l->options.stats, &sent[n]->span);
	}
	l->in_flight = 0;
}

void link_end(struct link *l, const char *why)
{
	struct call *call;

	(void)pthread_mutex_lock(&l->lock);
	bool stopping = l->stopping;
	l->lost = true;
	atomic_store(&l->base.away, false);
	(void)pthread_cond_broadcast(&l->room);
	(void)pthread_mutex_unlock(&l->lock);
	if (!stopping) {
		log_err("connection to the server lost: %s", why);
		stats_text(l->options.stats, TEXT_conn_state, "lost");
		if (l->options.lost != NULL)
			l->options.lost(l->options.lost_arg);
	}
	while ((call = link_take_any(l, false)) != NULL)
		link_call_fail(l, call, ENOTCONN);
}

static void link_lost(void *arg, const char *why, struct call *part)
{
	struct link *l = arg;

	(void)pthread_mutex_lock(&l->lock);
	if (part != NULL && part->done != NULL) /* its bytes are counted still */
		set_queued_locked(l, l->queued_bytes - wire_bytes(part));
	requeue_locked(l);
	if (part != NULL && part->done == NULL)
		queue_again_locked(l, part);
	bool again = l->keeper != NULL && !l->stopping;
	if (again) {
		l->down = true;
		atomic_store(&l->base.away, true);
		l->why = why;
		(void)pthread_cond_signal(&l->keep);
	}
	if (!l->stopping)
		stats_add(l->options.stats, STAT_conn_lost, 1);
	(void)pthread_mutex_unlock(&l->lock);
	if (!again)
		link_end(l, why);
}

/* ---- the end ---- */

/*
 * So that the server keeps nothing for a client that does not come back. It closes the connection
 * when it has heard: if ours were closed at once, what it is about to send could take the message
 * with it.
 */
static void say_goodbye(struct link *l)
{
	struct call *call = calloc(1, sizeof(*call));
	struct timespec end;

	if (call == NULL)
		return;
	call->sent = free_call;
	MSG_SET(&call->req, op, MSG_GOODBYE);
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += GOODBYE_S;
	link_submit(&l->base, call);
	SCOPE_LOCK(&l->lock);
	while (!l->lost && pthread_cond_clockwait(&l->room, &l->lock, CLOCK_MONOTONIC, &end) == 0)
		;
}

static void link_shutdown(struct backend *b)
{
	struct link *l = to_link(b);

	(void)pthread_mutex_lock(&l->lock);
	bool say = !l->stopping && !l->lost && !l->down && l->resumes;
	l->stopping = true;
	(void)pthread_cond_signal(&l->keep);
	(void)pthread_mutex_unlock(&l->lock);
	if (say)
		say_goodbye(l);
	if (l->keeper != NULL)
		l->keeper_end(l->keeper);
	if (l->wire != NULL)
		wire_end(l->wire);
	link_end(l, "ended"); /* of a wire that was lost just before nobody has ended the calls */
}

static void link_free(struct backend *b)
{
	struct link *l = to_link(b);

	wire_free(l->wire);
	if (l->keeper != NULL)
		l->keeper_free(l->keeper);
	free(l->table);
	free(l->free_index);
	(void)pthread_mutex_destroy(&l->lock);
	(void)pthread_cond_destroy(&l->room);
	(void)pthread_cond_destroy(&l->keep);
	free(l);
}

static const struct backend_ops link_ops = {
	.submit = link_submit,
	.settled = link_settled,
	.wait_room = link_wait_room,
	.cancel = link_cancel,
	.silent = link_silent,
	.listen = link_listen,
	.shutdown = link_shutdown,
	.free = link_free,
};

/* Notes the server's facts from its HELLO; also of one that was started anew. */
void link_set_facts(struct link *l, const struct msg *hello)
{
	struct backend_info *i = &l->base.info;

	i->server_root = (hello->features & HELLO_ROOT) != 0;
	i->umask = (hello->features & HELLO_UMASK) != 0;
	i->gives_up = (hello->features & HELLO_GIVE_UP) != 0;
	i->server_uid = (uint32_t)hello->uid;
	i->server_gid = (uint32_t)hello->gid;
	i->idle_files = !MSG_HAS(hello, files)		? IDLE_FILES
			: hello->files > IDLE_FILES_MAX ? IDLE_FILES_MAX
							: (uint32_t)hello->files;
	stats_set(l->options.stats, STAT_conn_epoch, hello->epoch);
}

/* For whoever takes our place. */
void link_outlive(const struct link *l, const struct msg *hello)
{
	if (outlive == NULL)
		return;
	struct outlive_session *s = &outlive->session;
	s->features = hello->features;
	s->uid = hello->uid;
	s->gid = hello->gid;
	s->slots = l->slots;
	s->root = l->base.info.root_node;
	s->epoch = l->base.info.epoch;
	s->session = l->session;
	_Static_assert(sizeof(s->token) == MSG_TOKEN_LEN, "of one length");
	memcpy(s->token, l->token, sizeof(s->token));
}

/* Notes the facts that last as long as the session. */
static void set_session(struct link *l, const struct dialled *server)
{
	const struct msg *hello = &server->hello;
	struct backend_info *i = &l->base.info;

	i->push = (hello->features & HELLO_PUSH) != 0;
	i->watch = (hello->features & HELLO_WATCH) != 0;
	i->acl = (hello->features & HELLO_ACL) != 0;
	i->root_node = hello->node;
	i->epoch = hello->epoch;
	l->slots = hello->slots == 0		  ? 1
		   : hello->slots > MSG_SLOTS_MAX ? MSG_SLOTS_MAX
						  : (unsigned)hello->slots;
	if (outlive != NULL && l->slots > OUTLIVE_SLOTS) /* each has a record there */
		l->slots = OUTLIVE_SLOTS;
	l->resumes = (hello->features & HELLO_RESUME) != 0;
	l->session = hello->session;
	memcpy(l->token, server->token, sizeof(l->token));
	link_slots_init(l);
	link_outlive(l, hello);
}

int link_connect_wire(struct link *l, struct stream *stream)
{
	const struct wire_owner owner = {.lock = &l->lock,
					 .stats = l->options.stats,
					 .arg = l,
					 .next_locked = link_next_locked,
					 .begun_locked = link_begun_locked,
					 .sent_locked = link_sent_locked,
					 .received = link_received,
					 .lost = link_lost};
	struct wire *w;

	stats_text(l->options.stats, TEXT_conn_state, "connected");
	stats_set(l->options.stats, STAT_conn_heard, stats_now());
	int r = wire_new(stream, &owner, &w);
	if (r < 0)
		return r;
	SCOPE_LOCK(&l->lock);
	l->wire = w;
	wire_wake_locked(w);
	return 0;
}

static struct link *link_alloc(const struct link_options *options)
{
	struct link *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->base.ops = &link_ops;
	l->base.sequences = &codec_sequences;
	l->options = *options;
	l->tail = &l->head;
	(void)pthread_mutex_init(&l->lock, NULL);
	(void)pthread_cond_init(&l->room, NULL);
	(void)pthread_cond_init(&l->keep, NULL);
	stats_text(l->options.stats, TEXT_conn_proto, "extended");
	return l;
}

int link_take_over(const struct link_options *options, struct backend **ret)
{
	const struct outlive_session *s = &outlive->session;
	struct dialled before = {.hello = {.features = s->features,
					   .uid = s->uid,
					   .gid = s->gid,
					   .node = s->root,
					   .epoch = s->epoch,
					   .slots = s->slots,
					   .session = s->session}};
	struct link *l = link_alloc(options);

	if (l == NULL)
		return -ENOMEM;
	memcpy(before.token, s->token, sizeof(before.token));
	link_set_facts(l, &before.hello);
	set_session(l, &before);
	for (uint32_t i = 0; i < l->slots; i++) {
		uint64_t sequence = outlive->slot[i].id >> TABLE_BITS;

		l->slot_uses[i] = outlive->slot[i].use;
		l->sequence = sequence > l->sequence ? sequence : l->sequence;
	}
	l->down = true;
	l->why = "its client was replaced";
	atomic_store(&l->base.away, true);
	*ret = &l->base;
	return 0;
}

int link_new(const struct dialled *server, const struct link_options *options, struct backend **ret)
{
	struct link *l = link_alloc(options);

	if (l == NULL) {
		stream_free(server->stream);
		return -ENOMEM;
	}
	link_set_facts(l, &server->hello);
	set_session(l, server);
	int r = link_connect_wire(l, server->stream);
	if (r < 0) {
		link_free(&l->base);
		return r;
	}
	*ret = &l->base;
	return 0;
}
