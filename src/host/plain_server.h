/*
 * How plain clients are served: a table that whoever starts the server hands over, so that
 * nothing here knows that protocol's requests but HELLO, which is the connection's own.
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

struct plain_server {
	/*
	 * All are borrowed until session_free. The promises in p are broken by what this
	 * client changes, and nodes, which other clients know, are told where it moves them
	 * (NULL: there are none). 0 or -errno.
	 */
	int (*session_new)(struct export *ex, struct hnodes *nodes, struct promises *p,
			   struct plain_session **ret);
	void (*session_free)(struct plain_session *s);
	/*
	 * Executes q and gives the encoded reply, which s owns until the next call. What
	 * goes wrong with the request is part of the reply; -ENOMEM is returned only when
	 * there is no memory for any reply: close the connection.
	 */
	int (*handle)(struct plain_session *s, const struct plain_request *q,
		      const void **ret_reply, size_t *ret_len);
};
