/*
 * One client: its connection, and what it holds on this server.
 *
 * Calling sequence: session_new (takes over the socket and starts a thread),
 * any time session_shutdown, session_free, which waits for the threads and
 * gives back all references, open files and locks.
 *
 * A connection is plain until it sends HELLO. From then on requests are
 * handled by up to SESSION_THREADS_MAX threads, started when there is none
 * left to receive. They take turns in receiving: one reads a frame, passes
 * the turn on, executes the request and sends the reply. So a client that
 * does not read its replies stops its own threads and nobody else's.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/handle.h"
#include "host/server.h"

#define SESSION_THREADS_MAX 32	/* besides those that wait for other clients */
#define SESSION_SLOTS	    256 /* requests that a client may have in flight */

struct export;
struct hnodes;
struct locks;
struct promises;
struct session;
struct watch;

/* What all sessions of a server share; constant while there is one. */
struct host {
	const struct server_config *config;
	struct export *export;
	struct hnodes *nodes;
	struct locks *locks;
	struct promises *promises;
	struct watch *watch;
	struct handle_budget handles;
	atomic_bool fds_short; /* that there are too few descriptors has been logged */
	uint64_t epoch;	       /* random: tells a client that the server was started again */
};

/* Takes over fd, also on failure. done(arg) runs on the session's thread at its end. */
int session_new(struct host *host, uint64_t id, int fd, void (*done)(void *arg), void *arg,
		struct session **ret);
void session_shutdown(struct session *s);
void session_free(struct session *s);

/* True after done was called: session_free does not wait. */
bool session_finished(const struct session *s);
