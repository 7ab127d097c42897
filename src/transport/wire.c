#include "transport/wire.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "transport/codec.h"

#define SUBMIT_BURST 4 /* calls that a submitter sends; the rest is the writer's */
#define SENT_YIELDS  8 /* times that the reader looks again before it sleeps for the sender */

struct wire {
	struct wire_owner owner;
	struct stream *stream;
	pthread_t reader, writer;

	/* Used by the reader alone. */
	struct head_buf head;
	unsigned char *buffer; /* MSG_PAYLOAD_MAX bytes for payloads */

	/* All members below are covered by owner.lock. */
	pthread_cond_t work;   /* to the writer: there is a call to send, or `dead` is set */
	pthread_cond_t let_go; /* to the reader: a sender has finished, or `stuck` is set */
	/*
	 * The call that some thread is sending, how many of its bytes have gone, and whether that
	 * thread is waiting for the socket, or has left the rest to the writer.
	 */
	struct call *sending;
	size_t from;
	bool stuck;
	bool dead;
};

/* ---- a call's bytes ---- */

static size_t payload_bytes(const struct call *call)
{
	return MSG_HAS(&call->req, payload) ? call->req.payload.len : 0;
}

size_t wire_bytes(const struct call *call)
{
	return call->wire_len + payload_bytes(call);
}

void wire_set_slot(struct call *call)
{
	msg_slot_put((struct msg_slot){call->slot, call->use}, call->wire + call->slot_at);
}

int wire_encode(struct call *call)
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
	if (call->wire_len == 0)
		return -EMSGSIZE;
	call->slot_at = 0;
	if (MSG_HAS(&call->req, slot)) /* the last key but for the payload's */
		call->slot_at =
			(uint32_t)(call->wire_len - codec_payload_head(&call->req) - MSG_SLOT_LEN);
	return 0;
}

void wire_release(struct call *call)
{
	if (call->wire != call->wire_inline)
		free(call->wire);
	call->wire = NULL;
}

/* ---- sending ---- */

static bool may_send_locked(const struct wire *w)
{
	return !w->dead && w->sending == NULL && w->owner.next_locked(w->owner.arg) != NULL;
}

static void begin_locked(struct wire *w)
{
	w->sending = w->owner.next_locked(w->owner.arg);
	w->from = 0;
	w->owner.begun_locked(w->owner.arg, w->sending);
}

/* All bytes of the call have been sent: from here on the reader may complete the call. */
static void end_locked(struct wire *w)
{
	struct call *call = w->sending;

	w->sending = NULL;
	w->stuck = false;
	(void)pthread_cond_signal(&w->let_go);
	stats_add(w->owner.stats, STAT_rpc_bytes_sent, w->from);
	w->owner.sent_locked(w->owner.arg, call);
}

/* Makes one system call, and returns its result; the lock is free meanwhile. */
static ssize_t try_send_locked(struct wire *w)
{
	const struct call *call = w->sending;

	w->stuck = false;
	(void)pthread_mutex_unlock(w->owner.lock);
	ssize_t n = stream_try_send(w->stream, call->wire, call->wire_len, call->req.payload.data,
				    payload_bytes(call), w->from);
	(void)pthread_mutex_lock(w->owner.lock);
	if (n > 0)
		w->from += (size_t)n;
	return n;
}

static int wait_writable_locked(struct wire *w)
{
	(void)pthread_mutex_unlock(w->owner.lock);
	int r = stream_wait_writable(w->stream);
	(void)pthread_mutex_lock(w->owner.lock);
	return r;
}

/*
 * Sends the rest of the call that is being sent, or else the next call: as much as the socket takes
 * at the moment, or with `wait` all of it. Returns with the lock; false if a part is left.
 */
static bool send_locked(struct wire *w, bool wait)
{
	if (w->sending == NULL)
		begin_locked(w);
	size_t total = wire_bytes(w->sending);
	for (;;) {
		ssize_t n = try_send_locked(w);

		if (w->from == total)
			break;
		w->stuck = true;
		(void)pthread_cond_signal(&w->let_go);
		if (w->dead || (n < 0 && n != -EAGAIN) || !wait)
			return false;
		if (n < 0 && wait_writable_locked(w) < 0)
			return false;
	}
	end_locked(w);
	return true;
}

static void *writer_main(void *arg)
{
	struct wire *w = arg;

	SCOPE_LOCK(w->owner.lock);
	while (!w->dead) {
		bool left = w->sending != NULL && w->stuck; /* by a submitter */

		if (!left && !may_send_locked(w)) {
			(void)pthread_cond_wait(&w->work, w->owner.lock);
		} else if (!send_locked(w, true)) {
			/* the reader finds the connection dead, and gives the call back */
			stream_shutdown(w->stream);
			w->dead = true;
		}
	}
	return NULL;
}

void wire_wake_locked(struct wire *w)
{
	if (may_send_locked(w))
		(void)pthread_cond_signal(&w->work);
}

bool wire_queued_locked(struct wire *w, bool first)
{
	bool mine = first && may_send_locked(w), all = true;

	/* The calls that other threads queue meanwhile are sent here as well, so that the writer
	 * need not be woken for them. */
	for (unsigned n = 0; mine && all && n < SUBMIT_BURST && may_send_locked(w); n++)
		all = send_locked(w, false);
	/* The writer is woken for a part that is left, and for a call that may be sent by now. */
	if (!all)
		(void)pthread_cond_signal(&w->work);
	else
		wire_wake_locked(w);
	return mine;
}

bool wire_let_go_locked(struct wire *w, const struct call *call)
{
	/* The sender is about to return from its system call, as a rule within microseconds. */
	for (unsigned n = 0; w->sending == call && !w->stuck && !w->dead; n++) {
		if (n >= SENT_YIELDS) {
			(void)pthread_cond_wait(&w->let_go, w->owner.lock);
			continue;
		}
		(void)pthread_mutex_unlock(w->owner.lock);
		(void)sched_yield();
		(void)pthread_mutex_lock(w->owner.lock);
	}
	return w->sending != call;
}

/* ---- receiving ---- */

int wire_rest(struct wire *w, struct msg *m, void *dest, size_t dest_len)
{
	size_t len = MSG_HAS(m, payload) ? m->payload.len : 0;
	void *to = dest != NULL && len <= dest_len ? dest : w->buffer;

	if (MSG_HAS(m, payload)) {
		int r = stream_recv_payload(w->stream, to, len);

		if (r < 0)
			return r;
		m->payload.data = to;
	}
	stats_add(w->owner.stats, STAT_rpc_bytes_received, FRAME_HEADER + len);
	return 0;
}

static const char *receive(struct wire *w)
{
	const char *why = NULL;
	struct msg m;
	int r = stream_recv(w->stream, &w->head, &m, &why);

	if (r < 0)
		return why != NULL ? why : r == -ENODATA ? "closed by the server" : strerror(-r);
	return w->owner.received(w->owner.arg, w, &m);
}

static void *reader_main(void *arg)
{
	struct wire *w = arg;
	const char *why = NULL;

	while (why == NULL)
		why = receive(w);
	stream_shutdown(w->stream);
	(void)pthread_mutex_lock(w->owner.lock);
	w->dead = true;
	(void)pthread_cond_signal(&w->work);
	/* A submitter that is inside a send lets go of its call at once; a call that was sent in
	 * part is then given back from here. */
	while (w->sending != NULL && !w->stuck)
		(void)pthread_cond_wait(&w->let_go, w->owner.lock);
	(void)pthread_mutex_unlock(w->owner.lock);
	(void)pthread_join(w->writer, NULL);
	w->owner.lost(w->owner.arg, why, w->sending);
	return NULL;
}

/* ---- life ---- */

void wire_end(struct wire *w)
{
	stream_shutdown(w->stream);
	(void)pthread_join(w->reader, NULL);
}

void wire_break_locked(struct wire *w)
{
	stream_shutdown(w->stream);
}

void wire_free(struct wire *w)
{
	if (w == NULL)
		return;
	stream_free(w->stream);
	head_buf_done(&w->head);
	free(w->buffer);
	(void)pthread_cond_destroy(&w->work);
	(void)pthread_cond_destroy(&w->let_go);
	free(w);
}

static int start(struct wire *w)
{
	int e = pthread_create(&w->writer, NULL, writer_main, w);

	if (e != 0)
		return -e;
	e = pthread_create(&w->reader, NULL, reader_main, w);
	if (e != 0) {
		(void)pthread_mutex_lock(w->owner.lock);
		w->dead = true;
		(void)pthread_cond_signal(&w->work);
		(void)pthread_mutex_unlock(w->owner.lock);
		(void)pthread_join(w->writer, NULL);
	}
	return -e;
}

int wire_new(struct stream *stream, const struct wire_owner *owner, struct wire **ret)
{
	struct wire *w = calloc(1, sizeof(*w));

	if (w == NULL) {
		stream_free(stream);
		return -ENOMEM;
	}
	w->owner = *owner;
	w->stream = stream;
	(void)pthread_cond_init(&w->work, NULL);
	(void)pthread_cond_init(&w->let_go, NULL);
	w->buffer = malloc(MSG_PAYLOAD_MAX);
	int r = w->buffer == NULL ? -ENOMEM : start(w);
	if (r < 0) {
		wire_free(w);
		return r;
	}
	*ret = w;
	return 0;
}
