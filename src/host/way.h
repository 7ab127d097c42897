/*
 * The way to a client: the stream of the connection that its session has at the moment, or none.
 * All replies and invalidations of a session are sent through its way, so that only the connection
 * itself keeps a pointer to the stream, which comes and goes.
 *
 * Thread-safe. The lock is held, shared, while a message is sent; only the stream's lock is taken
 * inside.
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

/* NULL: there is no stream. When way_set returns, the stream before has been shut down, and no
 * thread sends on it. */
void way_set(struct way *w, struct stream *stream);

/* Blocks. -ENOTCONN if there is no stream, else as stream_send. */
int way_send(struct way *w, const struct msg *m);
/* Shuts the stream down: its connection ends. */
void way_break(struct way *w);
