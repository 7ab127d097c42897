/*
 * The sessions that may be resumed, and with what: each has a secret, which only its client knows,
 * and a new one each time it is resumed. So of two clients that were copied with all that they
 * knew (a virtual machine that was restored twice) one gets the session, and the other, who knows
 * a secret of before, one of its own (copied.h). A client that has not heard the new secret may
 * come with the one before.
 *
 * A session that has lost its connection is kept for the grace time, and its locks for the lease
 * of the client: after that it answers nothing from what it was promised.
 *
 * Thread-safe; one mutex, taken before any of a session's. Times in milliseconds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/msg.h"

struct session;
struct sessions;
struct state;
struct stream;

#define SESSIONS_GRACE_MS 60000
#define SESSIONS_AWAY_MAX 1024 /* of clients that are away; of more, the longest goes */

/* state: where they outlive the process; NULL: nowhere. */
int sessions_new(unsigned grace_ms, unsigned lease_ms, struct state *state, struct sessions **ret);
/* Ends all that are kept. No connection is left. */
void sessions_free(struct sessions *t);

/* A new one, with its secret in token; takes a reference. Nobody else gets it until sessions_taken.
 */
int sessions_add(struct sessions *t, struct session *s, unsigned char token[MSG_TOKEN_LEN]);
/* One of the state, which a server before this one had: its client is away. Takes a reference. */
int sessions_restore(struct sessions *t, struct session *s, uint32_t record);
/*
 * The session with this number and secret, with a reference: cut and settled, and given to nobody
 * else until sessions_taken; new_token is its new secret. taker: what is shut down, if another one
 * comes with the secret meanwhile. -ENOENT: there is none. -EAGAIN: what was asked before is still
 * being executed, or another connection has not let go of it.
 */
int sessions_take(struct sessions *t, uint64_t id, struct slice token, struct stream *taker,
		  struct session **ret, unsigned char new_token[MSG_TOKEN_LEN]);
/*
 * The session with this number whose secret this is, or once was, with a reference: for a copy of
 * its client, and left alone. NULL: there is none. The secrets of before are bounded.
 */
struct session *sessions_copied(struct sessions *t, uint64_t id, struct slice token);
/* The client has spoken after sessions_take: it knows the new secret. */
void sessions_confirm(struct sessions *t, const struct session *s);
/* It has been attached, or the connection on which it was to be is lost. */
void sessions_taken(struct sessions *t, const struct session *s, bool attached);
/* Its connection gen is lost: it is kept, or ends if the client said goodbye. Nothing if it has
 * another one, or is being taken. */
void sessions_park(struct sessions *t, struct session *s, uint64_t gen);
/* It has ended, before it was attached. */
void sessions_remove(struct sessions *t, const struct session *s);

/* Drops what is over. Returns when it is to be called again: in so many ms, -1: at the next loss.
 */
int sessions_tick(struct sessions *t);
size_t sessions_away(struct sessions *t); /* clients that are away */
