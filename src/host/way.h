/*
 * The way to a client: the stream of the connection that its session has at the moment, or
 * none. All that a session says, replies and invalidations, goes through here, so that nobody
 * but the connection holds on to a stream that comes and goes.
 *
 * Thread-safe. The lock is held, shared, while a message is sent, and only that of the stream is
 * taken inside.
 */
#pragma once

#include <pthread.h>

struct msg;
struct stream;

struct way {
	pthread_rwlock_t lock;
	struct stream *stream; /* lock */
};

void way_init(struct way *w);
void way_done(struct way *w);

/* NULL: there is none. When this returns, nobody sends on the one before, which was shut down. */
void way_set(struct way *w, struct stream *stream);

/* Blocks. -ENOTCONN if there is no stream, else as stream_send. */
int way_send(struct way *w, const struct msg *m);
/* Shuts the stream down: its connection ends. */
void way_break(struct way *w);
