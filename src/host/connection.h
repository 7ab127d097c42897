/*
 * One client's connection: the way to its session.
 *
 * Calling sequence: connection_new (takes over the socket and starts a thread), any time
 * connection_shutdown, connection_free, which waits for the thread.
 *
 * A connection is plain until the client sends HELLO (greeting.h). From then on it has a
 * session, and its frames are received and executed by several threads (turns.h). The session
 * ends when the connection ends.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct connection;
struct host;

/* Takes over fd, also on failure. done(arg) runs on the connection's thread at its end. */
int connection_new(struct host *host, uint64_t id, int fd, void (*done)(void *arg), void *arg,
		   struct connection **ret);
bool connection_shutdown(struct connection *c); /* true for the first to do it */
void connection_free(struct connection *c);

/* For how many ms the client has been connected without a message of its own; 0: it has sent one.
 */
uint64_t connection_silent(const struct connection *c);

/* True after done was called: connection_free does not wait. */
bool connection_finished(const struct connection *c);
