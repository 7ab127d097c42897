/*
 * The way to a client: the stream of the connection that its session has at the moment, or none.
 * All replies and invalidations of a session are sent through its way, so that only the connection
 * itself keeps a pointer to the stream, which comes and goes.
 *
 * Connections are numbered, from 1: a reply belongs to the one on which its request came, and is
 * not for the next one, on which the request may come again.
 *
 * Thread-safe. The lock is held, shared, while a message is sent, and only that of the stream is
 * taken inside.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

struct msg;
struct stream;

struct way {
	pthread_rwlock_t lock;
	struct stream *stream; /* lock */
	uint64_t gen;	       /* lock: its number, or the last one's */
};

#define WAY_ANY 0 /* whichever connection there is */

void way_init(struct way *w);
void way_done(struct way *w);

/*
 * NULL: there is none. When this returns, nobody sends on the one before, which was shut down.
 * Returns the number of the connection.
 */
uint64_t way_set(struct way *w, struct stream *stream);

/* Blocks. -ENOTCONN if there is no stream, or another one, else as stream_send. */
int way_send(struct way *w, uint64_t gen, const struct msg *m);
/* Shuts that stream down, if it is still there: its connection ends. */
void way_break(struct way *w, uint64_t gen);
uint64_t way_gen(struct way *w);
