/*
 * The turn to receive on a connection, and the threads that take it. The thread that has the turn
 * reads a frame, passes the turn on, and executes the request. So a client that does not read its
 * replies stops the threads of its own connection and no others.
 *
 * Calling sequence: turns_new; turns_start, from which on `work` runs on further threads, each
 * started when no other is left to receive; turns_end at any time, turns_join, turns_free. Each
 * thread, also one that was not started here, has a struct turn of its own with `turns` set.
 */
#pragma once

#include <stdbool.h>

#define TURNS_THREADS_MAX    32	   /* besides the first, and those that wait for other clients */
#define TURNS_THREADS_SURE   1	   /* of these, those that a connection has in any case */
#define TURNS_WAITING_SURE   16	   /* threads that wait for others, and are replaced in any case */
#define TURNS_IDLE_MS	     10000 /* then a thread that was started besides goes */
#define TURNS_THREADS_SHARED 512   /* beyond these, of all connections: share.h */

struct share_pool;
struct stream;
struct turns;

struct turn {
	struct turns *turns;
	bool mine;
};

/* fd: that of the stream; all are borrowed. 0 or -errno. */
int turns_new(struct stream *stream, int fd, struct share_pool *threads, struct turns **ret);
int turns_start(struct turns *t, void (*work)(void *arg), void *arg);
/* No thread gets a turn from now on. True for the first call. Any thread. */
bool turns_end(struct turns *t);
/* After turns_end: waits for the threads that were started. */
void turns_join(struct turns *t);
void turns_free(struct turns *t); /* NULL is allowed */

/* Waits for the turn; false at the end. */
bool turn_take(struct turn *turn);
/* Lets another thread receive, if this one still has the turn: before anything that may take
 * long. */
void turn_pass(struct turn *turn);

/*
 * Called around a wait for other clients. A thread that waits does not count, and may be
 * replaced: otherwise two clients that wait for each other with all their threads would
 * receive no ACK.
 */
void turn_leave(struct turn *turn);
void turn_return(struct turn *turn);
