#include "host/connection.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/stats.h"
#include "host/copied.h"
#include "host/greeting.h"
#include "host/ops.h"
#include "host/plain_server.h"
#include "host/promise.h"
#include "host/sessions.h"
#include "host/share.h"
#include "host/slots.h"
#include "plain/plain_codec.h"
#include "transport/hello.h"
#include "transport/stream.h"

#define RESUME_MS  5000		      /* for all that a client tells before its session goes on */
#define PLAIN_SURE ((size_t)64 << 10) /* bytes of one message, and all of the first one */

struct connection {
	struct host *host;
	uint64_t id;
	void (*done)(void *arg);
	void *done_arg;
	pthread_t main;
	_Atomic bool finished;
	_Atomic bool
		spoken; /* a whole message has come, of one who has the secret if there is one */
	uint64_t since; /* ns */
	struct stream *stream;
	struct share buffers; /* of the stream's */
	struct turns *turns;
	struct challenge challenge; /* main */

	pthread_mutex_t mutex;
	struct greeted greeted; /* mutex; set once, before other threads; empty at the end */
	uint64_t gen;		/* mutex; of the session's connections; 0: it is not attached */
};

/* The memory and the identity of one thread that executes requests. */
struct request_thread {
	struct head_buf head;
	unsigned char *buf;
	struct creds creds;
};

bool connection_shutdown(struct connection *c)
{
	bool first = turns_end(c->turns);

	stream_shutdown(c->stream);
	SCOPE_LOCK(&c->mutex);
	struct session *s = c->greeted.session;
	if (s != NULL && !session_resumes(s))
		session_stop(s);
	else if (s != NULL && c->gen != 0)
		session_cut(s, c->gen);
	return first;
}

/* ---- extended ---- */

/* Receives the next request with its payload. */
static int receive(struct connection *c, struct request_thread *t, struct request *r)
{
	memset(&r->q, 0, sizeof(r->q));
	r->why = NULL;
	int e = stream_recv(c->stream, &t->head, &r->q, &r->why);
	if (e == 0 && MSG_HAS(&r->q, payload)) {
		e = stream_recv_payload(c->stream, t->buf, r->q.payload.len);
		r->q.payload.data = t->buf;
	}
	return e;
}

static void log_end(const struct connection *c, const struct request *r, int e)
{
	unsigned long long id = c->id;

	if (e == -EPROTO)
		log_warning("client %llu: malformed message (%s): %s; connection closed", id,
			    msg_op_name(MSG_HAS(&r->q, op) ? r->q.op : 0),
			    r->why != NULL ? r->why : "no reason given");
	else if (e != -ENODATA)
		log_info("client %llu: connection lost: %s", id, strerror(-e));
}

/* The work of each thread: to receive and execute requests until the connection's end. */
static void work(void *arg)
{
	struct connection *c = arg;
	struct request_thread t = {.creds = CREDS_NONE, .buf = malloc(MSG_PAYLOAD_MAX + 1)};
	struct session *s = c->greeted.session;
	struct request r = {
		.session = s,
		.gen = c->gen,
		.host = c->host,
		.creds = &t.creds,
		.buf = t.buf,
		.change = {.promises = c->host->promises, .self = session_promises(s)},
		.turn.turns = c->turns,
	};
	int e = t.buf == NULL ? -ENOMEM : 0;

	while (e == 0 && turn_take(&r.turn)) {
		e = receive(c, &t, &r);
		if (e == 0)
			e = request_execute(&r);
	}
	if (e < 0 && connection_shutdown(c))
		log_end(c, &r, e);
	head_buf_done(&t.head);
	free(t.buf);
}

/* ---- plain, and the change to extended ---- */

/*
 * 1: the connection is extended from the next frame on. 0: the connection remains plain.
 * -ENODATA: the client is refused, which ends the connection. Otherwise a client that takes the
 * error for one of a plain server would go on without a greeting.
 */
static int handle_hello(struct connection *c, const struct plain_request *q)
{
	unsigned char data[HELLO_DATA_MAX];
	struct plain_reply reply = {0};
	struct plain_buf out = {0};
	struct greeted greeted = {0};

	greeting_answer(c->host, c->id, c->stream, q->data, data, &reply, &c->challenge, &greeted);
	{
		SCOPE_LOCK(&c->mutex);
		c->greeted = greeted;
	}
	int r = plain_reply_encode(&reply, &out);
	if (r == 0)
		r = stream_send_plain(c->stream, out.data, out.len);
	plain_buf_done(&out);
	if (r < 0)
		return r;
	if (greeted.session != NULL) {
		atomic_store(&c->spoken, true);
		return 1;
	}
	return reply.err == -ENOSYS || c->challenge.asked ? 0 : -ENODATA;
}

/* Where a secret is demanded: the plain protocol has no words for one. */
static int refuse_plain(struct connection *c)
{
	const struct plain_reply reply = {.err = -EACCES};
	struct plain_buf out = {0};

	log_warning("client %llu: refused: a client of the plain protocol has no secret",
		    (unsigned long long)c->id);
	int r = plain_reply_encode(&reply, &out);
	if (r == 0)
		r = stream_send_plain(c->stream, out.data, out.len);
	plain_buf_done(&out);
	return r < 0 ? r : -ENODATA;
}

/* It has said what it wants, so it is worth large buffers, if there are some. */
static void enlarge(struct connection *c)
{
	if (share_take(&c->buffers, STREAM_BUFFERS))
		stream_enlarge(c->stream);
}

/* The memory that large messages of a plain client take. */
struct plain_room {
	struct share bytes;
	size_t request, reply; /* of these; 0 for a small one */
};

/* *have becomes what a buffer of this size counts for: false if that is more than the share. */
static bool resize(struct share *bytes, size_t *have, size_t size)
{
	size_t want = size > PLAIN_SURE ? size : 0;

	if (want < *have)
		share_give(bytes, *have - want);
	else if (want > *have && !share_take(bytes, want - *have))
		return false;
	*have = want;
	return true;
}

static bool may_buffer(void *arg, size_t size)
{
	struct plain_room *room = arg;

	return resize(&room->bytes, &room->request, size);
}

/* Frees the buffer of a large message before the next one. */
static void shrink(unsigned char **buf, size_t *cap, struct plain_room *room)
{
	if (*cap <= PLAIN_SURE)
		return;
	free(TAKE_PTR(*buf));
	*cap = 0;
	(void)may_buffer(room, 0);
}

static int handle_plain(struct connection *c, struct plain_session **plain, struct plain_room *room,
			const struct plain_request *q)
{
	const struct plain_server *server = c->host->config->plain;
	const struct host *h = c->host;
	const void *reply;
	size_t len = 0;
	int r = 0;

	if (h->config->secret != NULL)
		return refuse_plain(c);
	if (*plain == NULL)
		enlarge(c);
	if (*plain == NULL)
		r = server->session_new(h->export, h->nodes, h->promises, &c->host->handles.pool,
					plain);
	uint64_t start = stats_now();
	if (r == 0)
		r = server->handle(*plain, q, &reply, &len);
	stats_executed(h->config->stats, 0, stats_now() - start, 0);
	/* It is kept until the next one is made. */
	if (r == 0 && !resize(&room->bytes, &room->reply, len))
		return -ENOBUFS;
	return r < 0 ? r : stream_send_plain(c->stream, reply, len);
}

/* Returns 1 when the client has said HELLO, or -errno at the end of the connection. */
static int serve_plain(struct connection *c)
{
	struct plain_session *plain = NULL;
	unsigned char *buf = NULL;
	size_t cap = 0, len = 0, limit = PLAIN_SURE;
	struct plain_room room = {0};
	int r = 0;

	share_init(&room.bytes, &c->host->bytes);
	stream_set_room(c->stream, may_buffer, &room);
	while (r == 0) {
		struct plain_request q;
		const char *why = "a frame of length 0 or more than the limit";

		r = stream_recv_plain(c->stream, limit, &buf, &cap, &len, -1);
		limit = c->host->config->secret != NULL ? PLAIN_SURE : PLAIN_FRAME_MAX;
		if (r == 0)
			r = plain_request_decode(buf, len, &q, &why);
		if (r == 0 && c->host->config->secret == NULL)
			atomic_store(&c->spoken, true);
		if (r == -EPROTO)
			log_warning("client %llu: malformed plain message: %s; connection closed",
				    (unsigned long long)c->id, why);
		else if (r < 0 && r != -ENODATA)
			log_info("client %llu: connection lost: %s", (unsigned long long)c->id,
				 strerror(-r));
		if (r < 0)
			break;
		r = q.op == PLAIN_HELLO ? handle_hello(c, &q) : handle_plain(c, &plain, &room, &q);
		shrink(&buf, &cap, &room);
	}
	stream_set_room(c->stream, NULL, NULL);
	c->host->config->plain->session_free(plain);
	free(buf);
	share_give(&room.bytes, atomic_load(&room.bytes.own));
	return r;
}

/* ---- the session ---- */

static uint64_t attach(struct connection *c)
{
	struct session *s = c->greeted.session;
	uint64_t gen = session_attach(s, c->stream);

	SCOPE_LOCK(&c->mutex);
	c->gen = gen;
	return gen;
}

/* The RESUME messages of one client. */
struct resuming {
	struct head_buf head;
	unsigned char *buf;
	uint64_t id;  /* of the last one */
	bool another; /* the session is another copy's: what follows is passed over */
	struct copied copied;
};

static int take_resume(struct connection *c, const struct msg *q, struct resuming *t,
		       const char **ret_why)
{
	struct session *s = c->greeted.session;

	if (c->greeted.copied != NULL)
		return copied_resume(s, c->greeted.copied, q, &t->copied, ret_why);
	int r = t->another ? -ESTALE : session_resume(s, q, ret_why);
	if (r >= 0)
		sessions_confirm(c->host->sessions, s);
	if (r != -ESTALE)
		return r;
	t->another = true;
	return (q->flags & RESUME_LAST) != 0;
}

/* One RESUME: 1 for the last. */
static int receive_resume(struct connection *c, struct resuming *t)
{
	const char *why = NULL;
	struct msg q = {0};
	int r = stream_recv(c->stream, &t->head, &q, &why);

	if (r == 0 && MSG_HAS(&q, payload)) {
		r = stream_recv_payload(c->stream, t->buf, q.payload.len);
		q.payload.data = t->buf;
	}
	if (r == 0 && (q.op != MSG_RESUME || !MSG_HAS(&q, id) || !msg_request_complete(&q))) {
		why = "no RESUME";
		r = -EPROTO;
	}
	if (r == 0) {
		t->id = q.id;
		r = take_resume(c, &q, t, &why);
	}
	if (r == -EPROTO)
		log_warning("client %llu: malformed message: %s; connection closed",
			    (unsigned long long)c->id, why);
	return r;
}

/* Takes the client's list of all that it has of a session that goes on, or whose other copy does.
 * Before the connection is attached: nobody else sends. -ESTALE: the session is another copy's. */
static int serve_resume(struct connection *c)
{
	struct patience patience = patience_new(RESUME_MS, -1);
	CLEANUP_FREE unsigned char *buf = malloc(MSG_PAYLOAD_MAX);
	struct resuming t = {.buf = buf};
	struct msg p = {0};
	int r = buf == NULL ? -ENOMEM : 0;

	stream_set_patience(c->stream, &patience);
	while (r == 0)
		r = receive_resume(c, &t);
	head_buf_done(&t.head);
	session_reply(&p, t.id, t.another ? -ESTALE : 0);
	if (t.copied.len > 0)
		MSG_SET(&p, payload, ((struct slice){t.copied.fresh, t.copied.len}));
	if (r > 0)
		r = stream_send(c->stream, &p);
	stream_set_patience(c->stream, NULL);
	return r == 0 && t.another ? -ESTALE : r;
}

static void log_begin(const struct connection *c, const struct greeted *g)
{
	struct stats *stats = c->host->config->stats;
	unsigned long long id = c->id;

	if (g->resumed) {
		stats_add(stats, STAT_server_resumed, 1);
		log_info("client %llu: goes on as client %llu", id,
			 (unsigned long long)session_id(g->session));
	} else if (g->copied != NULL) {
		stats_add(stats, STAT_server_copied, 1);
		log_info("client %llu: was copied from client %llu, and has a session of its own",
			 id, (unsigned long long)session_id(g->copied));
	}
}

static void release_copied(struct connection *c)
{
	(void)pthread_mutex_lock(&c->mutex);
	struct session *s = TAKE_PTR(c->greeted.copied);
	(void)pthread_mutex_unlock(&c->mutex);
	session_unref(s);
}

/* After HELLO: the session is the client's, from this connection. */
static int begin_session(struct connection *c)
{
	const struct greeted *g = &c->greeted;
	bool goes_on = g->resumed || g->copied != NULL;
	int r = goes_on ? serve_resume(c) : 0;

	if (r < 0)
		return r;
	log_begin(c, g);
	if (g->copied != NULL)
		release_copied(c); /* which may end before this one does */
	enlarge(c);
	(void)attach(c);
	if (!g->resumed)
		r = session_push(g->session);
	if (goes_on)
		session_resumed(g->session, g->seq);
	sessions_taken(c->host->sessions, g->session, true);
	return r;
}

/* It stays for another connection to resume it, or ends with this one. */
static void end_session(struct connection *c)
{
	struct sessions *all = c->host->sessions;
	struct greeted g;
	uint64_t gen;
	{
		SCOPE_LOCK(&c->mutex);
		g = c->greeted;
		gen = c->gen;
		c->greeted = (struct greeted){0};
	}
	session_unref(g.copied);
	if (g.session == NULL)
		return;
	if (!session_resumes(g.session)) {
		session_stop(g.session);
	} else if (gen != 0) {
		sessions_park(all, g.session, gen);
	} else if (g.resumed) {
		sessions_taken(all, g.session, false);
	} else { /* the client has not heard of it */
		sessions_remove(all, g.session);
	}
	session_unref(g.session);
}

/* ---- a connection's life ---- */

static void *connection_main(void *arg)
{
	struct connection *c = arg;
	struct stats *stats = c->host->config->stats;

	log_info("client %llu: connected", (unsigned long long)c->id);
	stats_add(stats, STAT_server_connections, 1);
	stats_add(stats, STAT_server_sessions, 1);
	if (serve_plain(c) == 1 && begin_session(c) == 0) {
		int r = turns_start(c->turns, work, c);

		if (r < 0)
			log_err("client %llu: cannot wait for its messages: %s",
				(unsigned long long)c->id, strerror(-r));
		else
			work(c);
	}
	(void)connection_shutdown(c);
	turns_join(c->turns);
	end_session(c);
	log_info("client %llu: gone", (unsigned long long)c->id);
	stats_sub(stats, STAT_server_sessions, 1);
	atomic_store(&c->finished, true);
	c->done(c->done_arg);
	return NULL;
}

/* All signals are blocked here: the program that runs the server handles them. */
static int start_main(struct connection *c)
{
	sigset_t all, old;

	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGSYS); /* of seccomp: a blocked one ends us without a word */
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = -pthread_create(&c->main, NULL, connection_main, c);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

static void drop(struct connection *c)
{
	turns_free(c->turns);
	stream_free(c->stream);
	share_give(&c->buffers, atomic_load(&c->buffers.own));
	(void)pthread_mutex_destroy(&c->mutex);
	free(c);
}

int connection_new(struct host *host, uint64_t id, int fd, void (*done)(void *arg), void *arg,
		   struct connection **ret)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		(void)close(fd);
		return -ENOMEM;
	}
	c->host = host;
	c->id = id;
	c->done = done;
	c->done_arg = arg;
	c->since = promise_clock();
	share_init(&c->buffers, &host->buffers);
	(void)pthread_mutex_init(&c->mutex, NULL);
	int r = stream_new(fd, &c->stream);
	if (r == 0)
		r = turns_new(c->stream, fd, &host->threads, &c->turns);
	if (r == 0)
		r = start_main(c);
	if (r < 0) {
		drop(c);
		return r;
	}
	*ret = c;
	return 0;
}

uint64_t connection_silent(const struct connection *c)
{
	return atomic_load(&c->spoken) ? 0 : (promise_clock() - c->since) / 1000000 + 1;
}

bool connection_finished(const struct connection *c)
{
	return atomic_load(&c->finished);
}

void connection_free(struct connection *c)
{
	if (c == NULL)
		return;
	(void)pthread_join(c->main, NULL);
	drop(c);
}
