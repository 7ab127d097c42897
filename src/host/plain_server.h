/*
 * How plain clients are served: a table that the program hands over when it starts the server, so
 * that src/host knows no request of that protocol but HELLO, which the connection answers.
 *
 * One plain_session per connection that has not become extended; all calls of it come from the
 * connection's main thread:
 *
 *	session_new
 *	stream_recv_plain(limit PLAIN_FRAME_MAX) -> plain_request_decode
 *		-EPROTO: log the reason, close the connection
 *		else handle -> stream_send_plain
 *	session_free	closes the session's files; NULL is allowed
 */
#pragma once

#include <stddef.h>

struct export;
struct hnodes;
struct plain_request;
struct plain_session;
struct promises;
struct share_pool;

struct plain_server {
	/*
	 * All arguments are borrowed until session_free. The changes that this client makes
	 * break the promises in p; nodes (NULL: there are none), which other clients know, are
	 * told of their new places when this client moves them. Of files the session has open what
	 * its share is. 0 or -errno.
	 */
	int (*session_new)(struct export *ex, struct hnodes *nodes, struct promises *p,
			   struct share_pool *files, struct plain_session **ret);
	void (*session_free)(struct plain_session *s);
	/*
	 * Executes q and gives the encoded reply, which s owns until the next call. An
	 * error of the request is part of the reply; -ENOMEM is returned only when there
	 * is no memory for any reply: the connection is then closed.
	 */
	int (*handle)(struct plain_session *s, const struct plain_request *q,
		      const void **ret_reply, size_t *ret_len);
};
