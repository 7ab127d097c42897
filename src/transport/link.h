/*
 * The client's end of an extended session: a backend, and what of it survives a connection. The
 * link has the calls that are not answered yet, queued or in flight, with the bytes that are sent
 * again; their ids, the server's slots, and the server's facts. What comes and goes is its wire
 * (wire.h).
 *
 * Threads: the wire's reader runs the completions. submit sends at once where it can. Calls beyond
 * the server's slots wait in the queue. A link with a dialler has a thread of its own, the keeper:
 * when the wire is lost it dials until the server answers, and resumes the session (link_resume.c);
 * meanwhile the calls wait. Without a dialler, or if the server refuses or has lost the session,
 * every call completes with ENOTCONN.
 */
#pragma once

#include "core/backend.h"
#include "core/stats.h"
#include "transport/patience.h"
#include "transport/stream.h"

/* A server that has answered HELLO. */
struct dialled {
	struct stream *stream;
	struct msg hello; /* without what its slices point to */
	unsigned char token[MSG_TOKEN_LEN];
};

struct dialler {
	/*
	 * One try to connect and to say HELLO with what `resume` has besides. -EPROTO: trying again
	 * would not help; -EINTR: the patience was stopped. One line in err that tells why.
	 */
	int (*dial)(struct dialler *d, const struct msg *resume, const struct patience *p,
		    struct dialled *ret, char *err, size_t err_len);
	void (*free)(struct dialler *d);
};

struct link_options {
	size_t send_queue; /* bytes that may wait before backend_wait_room waits */
	uint64_t timeo_ms; /* of a lost connection: calls end with ETIMEDOUT after it; 0: never */
	struct stats *stats;
	void (*lost)(void *arg); /* called once when the link is lost for good */
	void *lost_arg;
};

/* Takes over the stream, also on failure. */
int link_new(const struct dialled *server, const struct link_options *options,
	     struct backend **ret);

/*
 * The link of a client that takes the place of one that was killed (core/outlive.h): with the
 * session of before, and without a wire. Calls of requests that come again wait in the queue,
 * with the slots that they had; the keeper connects.
 */
int link_take_over(const struct link_options *options, struct backend **ret);

/*
 * Gives the link a keeper, if its server resumes sessions. Before the first call. Takes over the
 * dialler, also on failure, and frees it at the end.
 */
int link_keep(struct backend *b, struct dialler *dialler);
