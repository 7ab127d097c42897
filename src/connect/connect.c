#include "connect/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "plain/plain_client.h"
#include "plain/plain_codec.h"
#include "transport/codec.h"
#include "transport/hello.h"
#include "transport/link.h"

#define RETRY_MS 50

/* The state of one call of transport_connect. */
struct dialler {
	const struct endpoint *endpoint;
	const struct connect_options *options;
	struct patience patience; /* over connecting and greeting */
	char *err;
	size_t err_len;
};

static int fail(const struct dialler *d, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(const struct dialler *d, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(d->err, d->err_len, fmt, ap);
	va_end(ap);
	return r;
}

/* True if trying again would not help. */
static bool lasting(int r)
{
	return r == -EAFNOSUPPORT || r == -EMFILE || r == -EACCES || r == -EPERM || r == -ENOTDIR ||
	       r == -ELOOP;
}

/* Connects, and tries again while a server may still start. */
static int dial(const struct dialler *d, int *ret_fd)
{
	for (;;) {
		int r = endpoint_connect(d->endpoint, &d->patience, ret_fd, d->err, d->err_len);

		if (r == 0 || d->endpoint->kind == ENDPOINT_FD || lasting(r) ||
		    d->options->timeout_ms == 0)
			return r;
		if (patience_pause(&d->patience, RETRY_MS) < 0)
			return r;
	}
}

/* ---- HELLO ---- */

enum answer {
	ANSWER_EXTENDED,
	ANSWER_PLAIN,
	ANSWER_REFUSED,
	ANSWER_GARBAGE,
	ANSWER_NOBODY, /* no process took the greeting */
	ANSWER_SILENT,
	ANSWER_CLOSED,
};

static int send_hello(struct stream *s, const struct connect_options *o)
{
	unsigned char data[HELLO_DATA_MAX];
	CLEANUP(plain_buf_done) struct plain_buf frame = {0};
	struct plain_request request = {.op = MSG_HELLO};
	struct msg hello = {0};

	MSG_SET(&hello, version, HELLO_VERSION);
	uint64_t features = (o->push ? HELLO_PUSH : 0u) | (o->acl ? HELLO_ACL : 0u);
	if (features != 0)
		MSG_SET(&hello, features, features);
	request.data = (struct slice){data, hello_encode(&hello, data)};
	int r = plain_request_encode(&request, &frame);
	return r < 0 ? r : stream_send_plain(s, frame.data, frame.len);
}

/* The meaning of a reply to HELLO; d->err has the reason of a refusal, or the fault of a malformed
 * reply. */
static enum answer judge(const struct dialler *d, const struct plain_reply *reply, struct msg *ret)
{
	char reason[HELLO_REASON_MAX + 1];

	if (reply->err == -ENOSYS)
		return ANSWER_PLAIN;
	if (reply->err != 0) { /* the server knows HELLO, and refuses this client */
		int e = reply->err < 0 && reply->err >= -MSG_ERR_MAX ? -reply->err : EIO;

		hello_reason(reply->data, e, reason);
		(void)fail(d, 0, "the server refuses: %s", reason);
		return ANSWER_REFUSED;
	}
	int r = hello_decode(reply->data, ret);
	if (r == -ENOMSG)
		return ANSWER_PLAIN;
	(void)fail(d, 0, "what answered is no vsockfs server");
	/* The slices of a hello would point into the frame; none of them is used. */
	if (r < 0 || !msg_reply_complete(MSG_HELLO, ret))
		return ANSWER_GARBAGE;
	if (ret->version > 0 && ret->version <= HELLO_VERSION)
		return ANSWER_EXTENDED;
	(void)fail(d, 0, "the server speaks version %llu of the extended protocol, this client %d",
		   (unsigned long long)ret->version, HELLO_VERSION);
	return ANSWER_REFUSED;
}

/* Sends HELLO and tells what kind of server answered. */
static enum answer say_hello(const struct dialler *d, struct stream *s, struct msg *ret)
{
	CLEANUP_FREE unsigned char *buf = NULL;
	size_t cap = 0, len = 0;
	struct plain_reply reply;
	const char *why;
	int r = send_hello(s, d->options);

	if (r < 0)
		return r == -EHOSTDOWN || r == -ETIMEDOUT ? ANSWER_NOBODY : ANSWER_CLOSED;
	r = stream_recv_plain(s, HELLO_TAKEN_MAX + 64, &buf, &cap, &len, -1);
	if (r == 0 && plain_reply_decode(buf, len, &reply, &why) == 0)
		return judge(d, &reply, ret);
	if (r < 0 && r != -EPROTO)
		return r == -ETIMEDOUT ? ANSWER_SILENT : ANSWER_CLOSED;
	(void)fail(d, 0, "what answered is no vsockfs server");
	return ANSWER_GARBAGE;
}

/* ---- after the answer ---- */

/* True if a connection that was closed or silent may be tried again as a plain one: the server may
 * be a plain one. */
static bool may_dial_again(const struct dialler *d)
{
	return d->options->needs == NULL && d->endpoint->kind != ENDPOINT_FD;
}

/* The patience for the greeting, which leaves time for a second connection. */
static struct patience greeting_patience(const struct dialler *d)
{
	struct patience p = d->patience;

	if (may_dial_again(d)) {
		int half = patience_left(&p) / 2;

		p = patience_new((uint64_t)(half < HELLO_TIMEOUT_MS ? half : HELLO_TIMEOUT_MS),
				 p.stop_fd);
	}
	return p;
}

static int go_extended(const struct dialler *d, struct stream *s, const struct msg *hello,
		       struct backend **ret)
{
	const struct connect_options *o = d->options;
	struct link_options options = {.send_queue = o->send_queue,
				       .stats = o->stats,
				       .lost = o->lost,
				       .lost_arg = o->lost_arg};

	stream_set_patience(s, NULL);
	int r = link_new(s, hello, &options, ret);
	return r < 0 ? fail(d, r, "cannot start: %s", strerror(-r)) : 0;
}

static int go_plain(const struct dialler *d, int fd, struct backend **ret)
{
	const struct connect_options *o = d->options;
	struct plain_options plain = {.base = o->plain_base,
				      .uid = o->uid,
				      .gid = o->gid,
				      .owner_fixed = o->owner_fixed,
				      .stats = o->stats,
				      .lost = o->lost,
				      .lost_arg = o->lost_arg,
				      .patience = &d->patience};

	return plain_client_new(fd, &plain, ret, d->err, d->err_len);
}

/* The error for a server that closed, was silent or not there, and is not to be dialled again. */
static int no_answer(const struct dialler *d, enum answer answer)
{
	const char *what = answer == ANSWER_NOBODY ? "nobody is behind it: nobody took the greeting"
			   : answer == ANSWER_SILENT
				   ? "nobody is behind it, or a server that is silent when greeted"
				   : "whoever is behind it closed the connection when greeted";

	if (d->options->needs != NULL)
		return fail(d, -EHOSTDOWN, "%s; %s needs the extended protocol", what,
			    d->options->needs);
	return fail(d, -EHOSTDOWN, "%s; if it is a plain server, use -o proto=plain", what);
}

static int dial_for_plain(const struct dialler *d, struct backend **ret)
{
	int fd;

	log_notice("the server did not answer the greeting: trying the plain protocol");
	int r = dial(d, &fd);
	return r < 0 ? r : go_plain(d, fd, ret);
}

/* Takes over fd, on which no byte was sent or received yet. */
static int greet(const struct dialler *d, int fd, struct backend **ret)
{
	struct patience patience = greeting_patience(d);
	CLEANUP_CLOSE int again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct msg hello = {0}; /* the fields that the server leaves out are 0 */
	struct stream *s = NULL;
	int r = stream_new(fd, &s);

	if (r < 0 || again < 0) {
		stream_free(s);
		return fail(d, -EPROTO, "out of memory or file descriptors");
	}
	stream_set_patience(s, &patience);
	enum answer answer = say_hello(d, s, &hello);
	if (answer == ANSWER_EXTENDED)
		return go_extended(d, s, &hello, ret);
	stream_free(s);
	switch (answer) {
	case ANSWER_PLAIN:
		if (d->options->needs != NULL)
			return fail(d, -EPROTO,
				    "the server speaks the plain protocol only, and %s needs the "
				    "extended one",
				    d->options->needs);
		return go_plain(d, take_fd(&again), ret);
	case ANSWER_NOBODY:
	case ANSWER_SILENT:
	case ANSWER_CLOSED:
		if (!may_dial_again(d))
			return no_answer(d, answer);
		cleanup_close(&again);
		again = -1;
		return dial_for_plain(d, ret);
	default: /* the reason is in d->err already */
		return -EPROTO;
	}
}

int transport_connect(const struct endpoint *e, const struct connect_options *o,
		      struct backend **ret, char *err, size_t err_len)
{
	uint64_t ms = o->timeout_ms > 0 ? o->timeout_ms : HELLO_TIMEOUT_MS;
	const struct dialler d = {.endpoint = e,
				  .options = o,
				  .patience = patience_new(ms, o->stop_fd),
				  .err = err,
				  .err_len = err_len};
	int fd;
	int r = dial(&d, &fd);

	if (r == 0)
		r = o->proto == PROTO_PLAIN ? go_plain(&d, fd, ret) : greet(&d, fd, ret);
	if (r < 0 && patience_stopped(&d.patience))
		r = fail(&d, -EINTR, "stopped by a signal while connecting");
	return r;
}
