/*
 * The greeting: a client that says HELLO in a plain frame is extended from the next frame on,
 * and has a session.
 */
#pragma once

#include <stdint.h>

#include <stdbool.h>

#include "core/msg.h"
#include "transport/secret.h"

struct host;
struct plain_reply;
struct session;
struct stream;

/* The session of a client that has said HELLO. */
struct greeted {
	struct session *session; /* a reference */
	bool resumed;		 /* it has been taken (sessions.h), and RESUME follows */
	struct session *copied;	 /* it is new, and RESUME follows: of a copy of this one's client. A
				    reference; NULL: no copy */
	uint64_t seq;		 /* then: the last invalidation that the client has heard of */
};

/* The challenge of a connection that is to prove that it has the server's secret. Zeros:
 * nothing. */
struct challenge {
	bool asked;
	struct secret_nonces nonces;
};

/*
 * Answers HELLO, whose data is given; the reply's goes to buf (HELLO_DATA_MAX bytes). err 0:
 * *ret is the client's. -ENOSYS: this is no HELLO of ours, and the connection remains plain. Any
 * other: the client is refused; -EAGAIN: for the moment.
 *
 * A server with a secret refuses the first HELLO with a challenge: asked, which was not, is set.
 * The client answers it with another HELLO. stream: the client's.
 */
void greeting_answer(struct host *h, uint64_t client, struct stream *stream, struct slice data,
		     unsigned char *buf, struct plain_reply *reply, struct challenge *challenge,
		     struct greeted *ret);
