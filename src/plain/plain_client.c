#include "plain/plain_client.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "plain/plain_priv.h"
#include "transport/codec.h"
#include "transport/hello.h"
#include "transport/stream.h"

/* Payload bytes that may be queued before wait_room waits. */
#define QUEUE_BYTES_MAX ((size_t)64 << 20)

/* How long a directory counts as one after the server has said so. No promise covers that. */
#define SURE_MS 1000

struct plain_client {
	struct backend base; /* first: struct backend * is a struct plain_client * */
	struct plain_options options;
	int fd;	  /* of the connection, to wait for its end */
	int wake; /* eventfd: a call was queued while the worker was idle */
	pthread_t worker;

	pthread_mutex_t lock; /* the fields below */
	pthread_cond_t room;  /* queued_bytes fell, or closed */
	struct call *head, **tail;
	size_t queued_bytes;
	bool idle;   /* the worker waits for wake */
	bool closed; /* submit fails at once */

	struct plain_work work; /* used by the worker alone, and by plain_client_new before it
				   starts the worker */
};

static struct plain_client *to_client(struct backend *b)
{
	return (struct plain_client *)b;
}

/* ---- the worker ---- */

static size_t call_bytes(const struct call *call)
{
	return MSG_HAS(&call->req, payload) ? call->req.payload.len : 0;
}

/* Waits for a wake-up or for the end of the link, whichever comes first. */
static void wait_idle(struct plain_client *c)
{
	struct pollfd p[2] = {{.fd = c->wake, .events = POLLIN},
			      {.fd = c->fd, .events = POLLIN | POLLRDHUP}};

	if (poll(p, 2, -1) < 0)
		return;
	if (p[0].revents != 0) {
		uint64_t n;

		if (read(c->wake, &n, sizeof(n)) < 0) {
			/* the eventfd does not block: it may have been read already */
		}
	} else if (p[1].revents != 0) {
		(void)plain_lost(&c->work, p[1].revents & (POLLHUP | POLLRDHUP | POLLERR)
						   ? "closed by the server"
						   : "a reply that no request waits for");
	}
}

/* The next call; *ret_closed: the call is to fail. NULL when the link is down and no call is
 * left. */
static struct call *next_call(struct plain_client *c, bool *ret_closed)
{
	for (;;) {
		(void)pthread_mutex_lock(&c->lock);
		struct call *call = c->head;

		if (call != NULL) {
			c->head = call->next;
			if (c->head == NULL)
				c->tail = &c->head;
			c->queued_bytes -= call_bytes(call);
			(void)pthread_cond_broadcast(&c->room);
		}
		c->idle = call == NULL;
		if (c->work.wire.down || atomic_load(&c->work.wire.stopping)) {
			c->idle = false;
			c->closed = true;
			(void)pthread_cond_broadcast(&c->room);
		}
		bool closed = c->closed;
		(void)pthread_mutex_unlock(&c->lock);
		*ret_closed = closed;
		if (call != NULL || closed)
			return call;
		wait_idle(c);
	}
}

static void call_fail(struct call *call, int err)
{
	struct msg reply = {.err = (uint64_t)err, .present = MSG_BIT(err)};

	if (call->done != NULL)
		call->done(call, &reply);
	else
		call->sent(call);
}

static void execute(struct plain_client *c, struct call *call)
{
	struct msg reply = {0};

	c->work.call = call;
	int r = plain_execute(&c->work, &reply);
	c->work.call = NULL;
	stats_rpc_drop(c->options.stats, &call->span);
	if (r < 0 || call->done == NULL)
		call_fail(call, -r);
	else
		call->done(call, &reply);
}

static void *worker_main(void *arg)
{
	struct plain_client *c = arg;
	struct call *call;
	bool closed;

	while ((call = next_call(c, &closed)) != NULL) {
		if (closed) {
			stats_rpc_drop(c->options.stats, &call->span);
			call_fail(call, ENOTCONN);
		} else {
			execute(c, call);
		}
	}
	return NULL;
}

/* ---- the backend; any thread ---- */

/* Copies names, which are valid during submit only, into the call. */
static int keep_names(struct call *call)
{
	struct slice *const names[] = {&call->req.name, &call->req.name2};
	const bool has[] = {MSG_HAS(&call->req, name), MSG_HAS(&call->req, name2)};
	size_t at = 0;

	for (size_t i = 0; i < 2; i++) {
		if (!has[i])
			continue;
		if (names[i]->len > MSG_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(call->wire_inline + at, names[i]->data, names[i]->len);
		names[i]->data = call->wire_inline + at;
		at += names[i]->len;
	}
	return 0;
}
_Static_assert(CALL_WIRE_INLINE >= 2 * MSG_NAME_MAX, "two names fit into a call");

static void client_submit(struct backend *b, struct call *call)
{
	struct plain_client *c = to_client(b);
	int r = keep_names(call);
	bool wake = false;

	if (r == 0) {
		SCOPE_LOCK(&c->lock);
		if (c->closed) {
			r = -ENOTCONN;
		} else {
			call->next = NULL;
			stats_rpc_queue(c->options.stats, &call->span, call->done == NULL);
			*c->tail = call;
			c->tail = &call->next;
			c->queued_bytes += call_bytes(call);
			wake = c->idle;
			c->idle = false;
		}
	}
	if (r < 0) {
		call_fail(call, -r);
	} else if (wake) {
		uint64_t one = 1;

		if (write(c->wake, &one, sizeof(one)) < 0)
			log_err("eventfd: %m"); /* cannot happen: the counter is far from full */
	} else {
		stats_add(c->options.stats, STAT_rpc_queued, 1);
	}
}

static void client_wait_room(struct backend *b)
{
	struct plain_client *c = to_client(b);

	SCOPE_LOCK(&c->lock);
	while (!c->closed && c->queued_bytes > QUEUE_BYTES_MAX)
		(void)pthread_cond_wait(&c->room, &c->lock);
}

static bool client_cancel(struct backend *b, const struct call *call)
{
	/* Only locks that wait can be cancelled, and the plain protocol has no locks. */
	(void)b;
	(void)call;
	return true;
}

static void client_shutdown(struct backend *b)
{
	struct plain_client *c = to_client(b);
	uint64_t one = 1;

	atomic_store(&c->work.wire.stopping, true);
	stream_shutdown(c->work.wire.stream);
	if (write(c->wake, &one, sizeof(one)) < 0)
		log_err("eventfd: %m");
	(void)pthread_join(c->worker, NULL);
}

static void client_free(struct backend *b)
{
	struct plain_client *c = to_client(b);
	struct plain_work *w = &c->work;

	plain_listings_free(w->listings);
	plain_files_free(w->files);
	plain_nodes_free(w->nodes);
	for (size_t i = 0; i < sizeof(w->path) / sizeof(w->path[0]); i++)
		free(w->path[i]);
	free(w->payload);
	plain_wire_done(&w->wire);
	if (c->wake >= 0)
		(void)close(c->wake);
	(void)pthread_mutex_destroy(&c->lock);
	(void)pthread_cond_destroy(&c->room);
	free(c);
}

static const struct backend_ops client_ops = {
	.submit = client_submit,
	.wait_room = client_wait_room,
	.cancel = client_cancel,
	.shutdown = client_shutdown,
	.free = client_free,
};

/* ---- life ---- */

static int work_new(struct plain_client *c, const struct plain_options *o)
{
	struct plain_work *w = &c->work;
	int r = plain_nodes_new(o->base, &w->nodes);

	w->uid = o->uid;
	w->gid = o->gid;
	w->owner_fixed = o->owner_fixed;
	w->sure_ms = o->sure_ms != 0 ? o->sure_ms : SURE_MS;
	if (r == 0)
		r = plain_files_new(&w->files);
	if (r == 0)
		r = plain_listings_new(&w->listings);
	w->payload = malloc(MSG_PAYLOAD_MAX);
	return r == 0 && w->payload == NULL ? -ENOMEM : r;
}

static int start(struct plain_client *c, char *err, size_t err_len)
{
	const char *base = c->options.base;
	int r = work_new(c, &c->options);

	if (r == -EINVAL || r == -EILSEQ || r == -ENAMETOOLONG) {
		(void)snprintf(err, err_len,
			       "plain_base '%s' is no absolute path in UTF-8 without '..'", base);
		return r;
	}
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r == 0 && c->wake < 0)
		r = -errno;
	if (r < 0) {
		(void)snprintf(err, err_len, "cannot start: %s", strerror(-r));
		return r;
	}
	struct patience own = patience_new(HELLO_TIMEOUT_MS, -1);
	struct plain_wire *wire = &c->work.wire;
	stream_set_patience(wire->stream, c->options.patience != NULL ? c->options.patience : &own);
	r = plain_probe(&c->work);
	stream_set_patience(wire->stream, NULL);
	c->options.patience =
		NULL; /* it belongs to the caller, and was for plain_client_new alone */
	if (r < 0) {
		(void)snprintf(err, err_len, "the server's '%s': %s", base,
			       wire->start_error != NULL ? wire->start_error : strerror(-r));
		return r;
	}
	wire->started = true;
	stats_text(c->options.stats, TEXT_conn_proto, "plain");
	plain_peer_show(&c->work);
	stats_text(c->options.stats, TEXT_conn_state, "connected");
	stats_set(c->options.stats, STAT_conn_heard, stats_now());
	c->base.info = (struct backend_info){
		.plain = true,
		.server_uid = c->options.uid,
		.server_gid = c->options.gid,
		.root_node = PLAIN_ROOT,
	};
	r = pthread_create(&c->worker, NULL, worker_main, c);
	if (r != 0)
		(void)snprintf(err, err_len, "cannot start a thread: %s", strerror(r));
	return -r;
}

int plain_client_new(int fd, const struct plain_options *o, struct backend **ret, char *err,
		     size_t err_len)
{
	struct plain_client *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		(void)close(fd);
		(void)snprintf(err, err_len, "cannot start: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	c->base.ops = &client_ops;
	c->base.sequences = &codec_sequences;
	c->options = *o;
	c->fd = fd;
	c->wake = -1;
	c->tail = &c->head;
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_cond_init(&c->room, NULL);
	struct plain_wire *wire = &c->work.wire;
	wire->stats = o->stats;
	wire->lost = o->lost;
	wire->lost_arg = o->lost_arg;
	int r = stream_new(fd, &wire->stream);
	if (r < 0)
		(void)snprintf(err, err_len, "cannot start: %s", strerror(-r));
	else
		stream_enlarge(wire->stream);
	if (r == 0)
		r = start(c, err, err_len);
	if (r < 0) {
		client_free(&c->base);
		return r;
	}
	log_notice("plain protocol: link counts, access times and fractions of seconds are made "
		   "up, and owners where the server tells none; extended attributes and locks on "
		   "the host are not available");
	*ret = &c->base;
	return 0;
}
