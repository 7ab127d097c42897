#include "transport/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "transport/codec.h"
#include "transport/hello.h"
#include "transport/plain_client.h"
#include "transport/plain_codec.h"
#include "transport/rpc.h"

#define RETRY_MS	50
#define HELLO_REPLY_MAX 65536

static uint64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Trying again would not help. */
static bool lasting(int r)
{
	return r == -EAFNOSUPPORT || r == -EMFILE || r == -EACCES || r == -EPERM || r == -ENOTDIR ||
	       r == -ELOOP;
}

/* A server that is not there yet may come. */
static int connect_until(const struct endpoint *e, unsigned timeout_ms, int *ret_fd, char *err,
			 size_t err_len)
{
	uint64_t deadline = now_ms() + timeout_ms;

	for (;;) {
		int r = endpoint_connect(e, ret_fd, err, err_len);

		if (r == 0 || e->kind == ENDPOINT_FD || lasting(r) || now_ms() >= deadline)
			return r;
		struct timespec ts = {.tv_nsec = RETRY_MS * 1000000L};
		(void)nanosleep(&ts, NULL);
	}
}

enum answer { ANSWER_EXTENDED, ANSWER_PLAIN, ANSWER_NONE, ANSWER_GARBAGE };

/* Sends HELLO and tells what kind of server answered; NONE: closed or silent. */
static enum answer say_hello(struct stream *s, const struct connect_options *o, struct msg *ret)
{
	unsigned char data[HELLO_DATA_MAX];
	CLEANUP_FREE unsigned char *buf = NULL;
	CLEANUP(plain_buf_done) struct plain_buf frame = {0};
	size_t cap = 0, len = 0;
	struct msg hello = {0};
	struct plain_reply reply;
	const char *why;

	MSG_SET(&hello, version, HELLO_VERSION);
	uint64_t features = (o->push ? HELLO_PUSH : 0u) | (o->acl ? HELLO_ACL : 0u);
	if (features != 0)
		MSG_SET(&hello, features, features);
	struct plain_request request = {.op = MSG_HELLO};
	request.data = (struct slice){data, hello_encode(&hello, data)};
	if (plain_request_encode(&request, &frame) < 0 ||
	    stream_send_plain(s, frame.data, frame.len) < 0)
		return ANSWER_NONE;
	int r = stream_recv_plain(s, HELLO_REPLY_MAX, &buf, &cap, &len, HELLO_TIMEOUT_MS);
	if (r < 0)
		return r == -EPROTO ? ANSWER_GARBAGE : ANSWER_NONE;
	if (plain_reply_decode(buf, len, &reply, &why) < 0)
		return ANSWER_GARBAGE;
	if (reply.err != 0 || hello_decode(reply.data, ret) < 0)
		return ANSWER_PLAIN;
	/* The slices of a hello point into buf; none of them is used. */
	return msg_reply_complete(MSG_HELLO, ret) && ret->version == HELLO_VERSION ? ANSWER_EXTENDED
										   : ANSWER_GARBAGE;
}

static int refuse(char *err, size_t err_len, const char *what)
{
	(void)snprintf(err, err_len, "%s", what);
	return -EPROTO;
}

int transport_connect(const struct endpoint *e, const struct connect_options *o,
		      struct backend **ret, char *err, size_t err_len)
{
	struct plain_options plain = {.base = o->plain_base,
				      .uid = o->uid,
				      .gid = o->gid,
				      .stats = o->stats,
				      .lost = o->lost,
				      .lost_arg = o->lost_arg};
	int fd;
	int r = connect_until(e, o->timeout_ms, &fd, err, err_len);

	if (r < 0)
		return r;
	if (o->proto == PROTO_PLAIN)
		return plain_client_new(fd, &plain, ret, err, err_len);

	struct stream *s = NULL;
	struct msg hello = {0}; /* what the server leaves out is 0 */
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = stream_new(fd, &s);
	if (r < 0 || again < 0) {
		stream_free(s);
		cleanup_close(&again);
		return refuse(err, err_len, "out of memory or file descriptors");
	}
	switch (say_hello(s, o, &hello)) {
	case ANSWER_EXTENDED: {
		struct rpc_options rpc = {.send_queue = o->send_queue,
					  .stats = o->stats,
					  .lost = o->lost,
					  .lost_arg = o->lost_arg};
		(void)close(again);
		r = rpc_new(s, &hello, &rpc, ret);
		if (r < 0)
			(void)snprintf(err, err_len, "cannot start: %s", strerror(-r));
		return r;
	}
	case ANSWER_PLAIN:
		stream_free(s);
		break;
	case ANSWER_NONE:
		stream_free(s);
		(void)close(again);
		again = -1;
		if (o->proto == PROTO_EXTENDED)
			return refuse(
				err, err_len,
				"the server did not answer the greeting of the extended protocol");
		if (e->kind == ENDPOINT_FD)
			return refuse(
				err, err_len,
				"the server on the inherited fd closed the connection or was "
				"silent when greeted; if it is a plain one, use -o proto=plain");
		r = connect_until(e, o->timeout_ms, &again, err, err_len);
		if (r < 0)
			return r;
		break;
	case ANSWER_GARBAGE:
		stream_free(s);
		(void)close(again);
		return refuse(err, err_len, "what answered is no vsockfs server");
	}
	if (o->proto == PROTO_EXTENDED) {
		(void)close(again);
		return refuse(err, err_len, "the server speaks the plain protocol only");
	}
	return plain_client_new(again, &plain, ret, err, err_len);
}
