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

/* One call of transport_connect, or one try to connect again. */
struct dialling {
	const struct endpoint *endpoint;
	const struct connect_options *options;
	struct patience patience; /* over connecting and greeting */
	char *err;
	size_t err_len;
};

static int fail(const struct dialling *d, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(const struct dialling *d, int r, const char *fmt, ...)
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

/* A server that is not there yet may come. */
static int dial(const struct dialling *d, int *ret_fd)
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
	ANSWER_BUSY, /* refused for the moment */
	ANSWER_GARBAGE,
	ANSWER_NOBODY, /* no process took the greeting */
	ANSWER_SILENT,
	ANSWER_CLOSED,
};

/* Where a connection that is lost can be made again. */
static bool asks_to_resume(const struct dialling *d)
{
	return d->options->resume && d->endpoint->kind != ENDPOINT_FD;
}

static int send_hello(struct stream *s, struct msg *hello)
{
	unsigned char data[HELLO_DATA_MAX];
	CLEANUP(plain_buf_done) struct plain_buf frame = {0};
	struct plain_request request = {.op = MSG_HELLO};

	MSG_SET(hello, version, HELLO_VERSION);
	request.data = (struct slice){data, hello_encode(hello, data)};
	int r = plain_request_encode(&request, &frame);
	return r < 0 ? r : stream_send_plain(s, frame.data, frame.len);
}

/* resume: what a session that is to go on is known by; NULL: a new one. */
static struct msg whole_hello(const struct dialling *d, const struct msg *resume)
{
	const struct connect_options *o = d->options;
	struct msg hello = resume != NULL ? *resume : (struct msg){0};
	uint64_t features = (o->push ? HELLO_PUSH : 0u) | (o->acl ? HELLO_ACL : 0u) |
			    (o->keep_files ? HELLO_FILES : 0u) |
			    (asks_to_resume(d) ? HELLO_RESUME | HELLO_COPIES : 0u) |
			    hello.features; /* HELLO_COPY */
	if (features != 0)
		MSG_SET(&hello, features, features);
	return hello;
}

/* The slices of a hello point into the frame: of them the secret is used. */
static bool take_token(const struct msg *hello, unsigned char *ret)
{
	if ((hello->features & HELLO_RESUME) == 0)
		return true;
	if (!MSG_HAS(hello, token) || hello->token.len != MSG_TOKEN_LEN)
		return false;
	memcpy(ret, hello->token.data, MSG_TOKEN_LEN);
	return true;
}

/* Whether another try may find the error to be over. */
static bool passes(int e)
{
	return e == EAGAIN || e == ENOMEM || e == EMFILE || e == ENFILE;
}

/* Judges a reply to HELLO; the reason of a refusal, or that it is garbage, goes to d->err. */
static enum answer judge(const struct dialling *d, const struct plain_reply *reply,
			 struct dialled *to)
{
	struct msg *ret = &to->hello;
	char reason[HELLO_REASON_MAX + 1];

	if (reply->err == -ENOSYS)
		return ANSWER_PLAIN;
	if (reply->err != 0) { /* the server knows HELLO, and refuses this client */
		int e = reply->err < 0 && reply->err >= -MSG_ERR_MAX ? -reply->err : EIO;

		hello_reason(reply->data, e, reason);
		(void)fail(d, 0, "the server refuses: %s", reason);
		return passes(e) ? ANSWER_BUSY : ANSWER_REFUSED;
	}
	int r = hello_decode(reply->data, ret);
	if (r == -ENOMSG)
		return ANSWER_PLAIN;
	(void)fail(d, 0, "what answered is no vsockfs server");
	if (r < 0 || !msg_reply_complete(MSG_HELLO, ret) || !take_token(ret, to->token))
		return ANSWER_GARBAGE;
	if (ret->version > 0 && ret->version <= HELLO_VERSION)
		return ANSWER_EXTENDED;
	(void)fail(d, 0, "the server speaks version %llu of the extended protocol, this client %d",
		   (unsigned long long)ret->version, HELLO_VERSION);
	return ANSWER_REFUSED;
}

struct answer_frame {
	unsigned char *buf;
	size_t cap, len;
	struct plain_reply reply; /* points into buf */
};

static void answer_frame_done(struct answer_frame *f)
{
	free(f->buf);
}

/* Sends hello and receives what is answered; ANSWER_EXTENDED if that is a reply. */
static enum answer exchange(const struct dialling *d, struct stream *s, struct msg *hello,
			    struct answer_frame *ret)
{
	const char *why;
	int r = send_hello(s, hello);

	if (r < 0)
		return r == -EHOSTDOWN || r == -ETIMEDOUT ? ANSWER_NOBODY : ANSWER_CLOSED;
	r = stream_recv_plain(s, HELLO_TAKEN_MAX + 64, &ret->buf, &ret->cap, &ret->len, -1);
	if (r == 0 && plain_reply_decode(ret->buf, ret->len, &ret->reply, &why) == 0)
		return ANSWER_EXTENDED;
	if (r < 0 && r != -EPROTO)
		return r == -ETIMEDOUT ? ANSWER_SILENT : ANSWER_CLOSED;
	(void)fail(d, 0, "what answered is no vsockfs server");
	return ANSWER_GARBAGE;
}

/* ---- the secret ---- */

/* The server's nonce, if the reply is a challenge. */
static bool is_challenge(const struct plain_reply *reply, unsigned char *ret)
{
	struct msg m = {0};

	if (reply->err >= 0 || hello_decode(reply->data, &m) < 0 || !MSG_HAS(&m, nonce) ||
	    m.nonce.len != SECRET_NONCE_LEN)
		return false;
	memcpy(ret, m.nonce.data, SECRET_NONCE_LEN);
	return true;
}

/* Of a server that greets: whether it has the secret, too. */
static bool has_secret(const struct dialling *d, const struct secret_nonces *nonces,
		       const struct plain_reply *reply)
{
	struct msg m = {0};

	return hello_decode(reply->data, &m) == 0 && MSG_HAS(&m, proof) &&
	       secret_proved(d->options->secret, SECRET_SERVER, nonces, m.proof.data, m.proof.len);
}

/*
 * As exchange, where a secret is to be proved. The first HELLO asks for the challenge and says
 * nothing else: who has not shown that he has the secret is told as little as can be. A server that
 * asks for no secret may be anybody's.
 */
static enum answer exchange_proofs(const struct dialling *d, struct stream *s, struct msg *hello,
				   struct answer_frame *ret)
{
	unsigned char proof[SECRET_PROOF_LEN];
	struct secret_nonces nonces;
	struct msg first = {0};

	if (secret_nonce(nonces.client) < 0) {
		(void)fail(d, 0, "no random numbers are to be had");
		return ANSWER_GARBAGE;
	}
	MSG_SET(&first, nonce, ((struct slice){nonces.client, SECRET_NONCE_LEN}));
	enum answer answer = exchange(d, s, &first, ret);
	if (answer != ANSWER_EXTENDED)
		return answer;
	if (!is_challenge(&ret->reply, nonces.server)) {
		if (ret->reply.err != 0) /* refused, or plain */
			return answer;
		(void)fail(d, 0, "the server does not ask for the secret of secret_file");
		return ANSWER_REFUSED;
	}
	secret_prove(d->options->secret, SECRET_CLIENT, &nonces, proof);
	MSG_SET(hello, proof, ((struct slice){proof, SECRET_PROOF_LEN}));
	answer = exchange(d, s, hello, ret);
	if (answer != ANSWER_EXTENDED || ret->reply.err != 0 || has_secret(d, &nonces, &ret->reply))
		return answer;
	(void)fail(d, 0, "the server does not have the secret of secret_file");
	return ANSWER_REFUSED;
}

/* Sends HELLO on ret->stream, and tells what kind of server answered. */
static enum answer say_hello(const struct dialling *d, const struct msg *resume,
			     struct dialled *ret)
{
	CLEANUP(answer_frame_done) struct answer_frame frame = {0};
	struct msg hello = whole_hello(d, resume);
	enum answer answer = (d->options->secret != NULL ? exchange_proofs : exchange)(
		d, ret->stream, &hello, &frame);

	return answer == ANSWER_EXTENDED ? judge(d, &frame.reply, ret) : answer;
}

/* ---- a greeting without an answer ---- */

/* Closed or silent may be a plain server, which another connection shows. */
static bool may_dial_again(const struct dialling *d)
{
	return d->options->needs == NULL && d->endpoint->kind != ENDPOINT_FD;
}

/* The greeting leaves time for what follows. */
static struct patience greeting_patience(const struct dialling *d)
{
	struct patience p = d->patience;

	if (may_dial_again(d)) {
		int half = patience_left(&p) / 2;

		p = patience_new((uint64_t)(half < HELLO_TIMEOUT_MS ? half : HELLO_TIMEOUT_MS),
				 p.stop_fd);
	}
	return p;
}

/* ---- a connection that is lost ---- */

struct redialler {
	struct dialler base; /* first */
	struct endpoint endpoint;
	struct connect_options options; /* of which its strings are not used any more */
};

/* The result of a try after such an answer. */
static int verdict(const struct dialling *d, enum answer answer)
{
	switch (answer) {
	case ANSWER_EXTENDED:
		return 0;
	case ANSWER_BUSY:
		return -EAGAIN;
	case ANSWER_REFUSED:
	case ANSWER_GARBAGE:
		return -EPROTO;
	case ANSWER_PLAIN: /* another server: a client that was extended never falls back */
		return fail(d, -EPROTO, "the server speaks the plain protocol only");
	default:
		return fail(d, -EHOSTDOWN, "nobody answers");
	}
}

static int redial(struct dialler *base, const struct msg *resume, const struct patience *p,
		  struct dialled *ret, char *err, size_t err_len)
{
	const struct redialler *re = (struct redialler *)base;
	const struct dialling d = {.endpoint = &re->endpoint,
				   .options = &re->options,
				   .patience = *p,
				   .err = err,
				   .err_len = err_len};
	int fd;
	int r = endpoint_connect(d.endpoint, &d.patience, &fd, err, err_len);

	if (r == 0)
		r = stream_new(fd, &ret->stream);
	if (r == 0) {
		stream_enlarge(ret->stream);
		stream_set_patience(ret->stream, p);
		r = verdict(&d, say_hello(&d, resume, ret));
		if (r < 0)
			stream_free(ret->stream);
	}
	return patience_stopped(p) && r < 0 ? -EINTR : r;
}

static void redialler_free(struct dialler *base)
{
	free(base);
}

static int keep(const struct dialling *d, struct backend *b)
{
	struct redialler *re = calloc(1, sizeof(*re));

	if (re == NULL)
		return -ENOMEM;
	re->base = (struct dialler){.dial = redial, .free = redialler_free};
	re->endpoint = *d->endpoint;
	re->options = *d->options;
	return link_keep(b, &re->base);
}

/* ---- what follows from the answer ---- */

static struct link_options link_options_of(const struct connect_options *o)
{
	return (struct link_options){.send_queue = o->send_queue,
				     .timeo_ms = o->timeo_ms,
				     .stats = o->stats,
				     .lost = o->lost,
				     .lost_arg = o->lost_arg};
}

static int go_extended(const struct dialling *d, const struct dialled *server, struct backend **ret)
{
	const struct connect_options *o = d->options;
	const struct link_options options = link_options_of(o);

	stream_set_patience(server->stream, NULL);
	int r = link_new(server, &options, ret);
	if (r == 0 && asks_to_resume(d)) {
		r = keep(d, *ret);
		if (r < 0) {
			(*ret)->ops->shutdown(*ret);
			(*ret)->ops->free(*ret);
		}
	}
	return r < 0 ? fail(d, r, "cannot start: %s", strerror(-r)) : 0;
}

static int go_plain(const struct dialling *d, int fd, struct backend **ret)
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

/* Closed, silent or not there, and not to be dialled again. */
static int no_answer(const struct dialling *d, enum answer answer)
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

static int dial_for_plain(const struct dialling *d, struct backend **ret)
{
	int fd;

	log_notice("the server did not answer the greeting: trying the plain protocol");
	int r = dial(d, &fd);
	return r < 0 ? r : go_plain(d, fd, ret);
}

/* Takes over fd, on which nothing was said yet. */
static int greet(const struct dialling *d, int fd, struct backend **ret)
{
	struct patience patience = greeting_patience(d);
	CLEANUP_CLOSE int again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct dialled server = {0}; /* what the server leaves out is 0 */
	int r = stream_new(fd, &server.stream);

	if (r < 0 || again < 0) {
		stream_free(server.stream);
		return fail(d, -EPROTO, "out of memory or file descriptors");
	}
	stream_enlarge(server.stream);
	stream_set_patience(server.stream, &patience);
	enum answer answer = say_hello(d, NULL, &server);
	if (answer == ANSWER_EXTENDED)
		return go_extended(d, &server, ret);
	stream_free(server.stream);
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

int transport_take_over(const struct connect_options *o, struct backend **ret)
{
	const struct link_options options = link_options_of(o);

	return link_take_over(&options, ret);
}

int transport_go_on(struct backend *b, const struct endpoint *e, const struct connect_options *o)
{
	const struct dialling d = {.endpoint = e, .options = o};

	return keep(&d, b);
}

int transport_connect(const struct endpoint *e, const struct connect_options *o,
		      struct backend **ret, char *err, size_t err_len)
{
	uint64_t ms = o->timeout_ms > 0 ? o->timeout_ms : HELLO_TIMEOUT_MS;
	const struct dialling d = {.endpoint = e,
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
