/*
 * The client's end of an extended session: the part of the backend that outlives a connection. The
 * link has the calls that are not answered yet, queued or in flight, with the bytes that another
 * connection would send again; their ids, the server's slots, and the facts about the server. The
 * part that belongs to one connection is the link's wire (wire.h).
 *
 * Threads: the wire's reader runs the completions. submit sends at once where it can. Calls beyond
 * the server's slots wait in the queue. A link that has lost its wire is lost as well, for now:
 * every call completes with ENOTCONN.
 */
#pragma once

#include "core/backend.h"
#include "core/stats.h"
#include "transport/stream.h"

struct link_options {
	size_t send_queue; /* bytes that may wait before backend_wait_room waits */
	struct stats *stats;
	void (*lost)(void *arg); /* called once by the reader when the link is lost */
	void *lost_arg;
};

/* Takes over the stream, also on failure. hello is the server's answer. */
int link_new(struct stream *stream, const struct msg *hello, const struct link_options *options,
	     struct backend **ret);
