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
#include "host/greeting.h"
#include "host/ops.h"
#include "host/plain_server.h"
#include "plain/plain_codec.h"
#include "transport/hello.h"
#include "transport/stream.h"

struct connection {
	struct host *host;
	uint64_t id;
	void (*done)(void *arg);
	void *done_arg;
	pthread_t main;
	_Atomic bool finished;
	struct stream *stream;
	struct turns *turns;

	pthread_mutex_t mutex;
	struct session *session; /* mutex; set once, before other threads; NULL at the end */
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
	if (c->session != NULL)
		session_stop(c->session);
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
	struct request r = {
		.session = c->session,
		.host = c->host,
		.creds = &t.creds,
		.buf = t.buf,
		.change = {.promises = c->host->promises, .self = session_promises(c->session)},
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
	struct session *s = NULL;

	greeting_answer(c->host, c->id, q->data, data, &reply, &s);
	{
		SCOPE_LOCK(&c->mutex);
		c->session = s;
	}
	int r = plain_reply_encode(&reply, &out);
	if (r == 0)
		r = stream_send_plain(c->stream, out.data, out.len);
	plain_buf_done(&out);
	if (r == 0 && s != NULL) { /* after the reply: no push may come before it */
		session_attach(s, c->stream);
		r = session_push(s);
	}
	if (r < 0)
		return r;
	return s != NULL ? 1 : reply.err == -ENOSYS ? 0 : -ENODATA;
}

static int handle_plain(struct connection *c, struct plain_session **plain,
			const struct plain_request *q)
{
	const struct plain_server *server = c->host->config->plain;
	const struct host *h = c->host;
	const void *reply;
	size_t len;
	int r = 0;

	if (*plain == NULL)
		r = server->session_new(h->export, h->nodes, h->promises, plain);
	uint64_t start = stats_now();
	if (r == 0)
		r = server->handle(*plain, q, &reply, &len);
	stats_executed(h->config->stats, 0, stats_now() - start, 0);
	if (r == 0)
		r = stream_send_plain(c->stream, reply, len);
	return r;
}

/* Returns 1 when the client has said HELLO, or -errno at the end of the connection. */
static int serve_plain(struct connection *c)
{
	struct plain_session *plain = NULL;
	CLEANUP_FREE unsigned char *buf = NULL;
	size_t cap = 0, len = 0;
	int r = 0;

	while (r == 0) {
		struct plain_request q;
		const char *why = "a frame of length 0 or more than the limit";

		r = stream_recv_plain(c->stream, PLAIN_FRAME_MAX, &buf, &cap, &len, -1);
		if (r == 0)
			r = plain_request_decode(buf, len, &q, &why);
		if (r == -EPROTO)
			log_warning("client %llu: malformed plain message: %s; connection closed",
				    (unsigned long long)c->id, why);
		else if (r < 0 && r != -ENODATA)
			log_info("client %llu: connection lost: %s", (unsigned long long)c->id,
				 strerror(-r));
		if (r < 0)
			break;
		r = q.op == PLAIN_HELLO ? handle_hello(c, &q) : handle_plain(c, &plain, &q);
	}
	c->host->config->plain->session_free(plain);
	return r;
}

/* ---- a connection's life ---- */

/* For now a session ends with its connection. */
static void end_session(struct connection *c)
{
	struct session *s;
	{
		SCOPE_LOCK(&c->mutex);
		s = TAKE_PTR(c->session);
	}
	if (s == NULL)
		return;
	session_attach(s, NULL);
	session_free(s);
}

static void *connection_main(void *arg)
{
	struct connection *c = arg;
	struct stats *stats = c->host->config->stats;

	log_info("client %llu: connected", (unsigned long long)c->id);
	stats_add(stats, STAT_server_connections, 1);
	stats_add(stats, STAT_server_sessions, 1);
	if (serve_plain(c) == 1) {
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
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = -pthread_create(&c->main, NULL, connection_main, c);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

static void drop(struct connection *c)
{
	turns_free(c->turns);
	stream_free(c->stream);
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
	(void)pthread_mutex_init(&c->mutex, NULL);
	int r = stream_new(fd, &c->stream);
	if (r == 0)
		r = turns_new(c->stream, fd, &c->turns);
	if (r == 0)
		r = start_main(c);
	if (r < 0) {
		drop(c);
		return r;
	}
	*ret = c;
	return 0;
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
