/*
 * The client's end of an extended connection: a backend over one stream.
 *
 * Threads: a reader runs the completions; a writer sends what could not be
 * sent at once by the thread that submitted it. submit sends directly when
 * nothing else is being sent and the socket takes the frame: that spares a
 * thread switch on every uncached operation. Calls beyond the server's slots
 * wait in the queue. Lost link: every call completes with ENOTCONN.
 */
#pragma once

#include "core/backend.h"
#include "core/stats.h"
#include "transport/stream.h"

struct rpc_options {
	size_t send_queue; /* bytes that may wait before backend_wait_room waits */
	struct stats *stats;
	void (*lost)(void *arg); /* called once by the reader when the link is lost */
	void *lost_arg;
};

/* Takes over the stream, also on failure. hello is the server's answer. */
int rpc_new(struct stream *stream, const struct msg *hello, const struct rpc_options *options,
	    struct backend **ret);
