/*
 * What one client holds on this server: nodes that it was told of, open files, locks, the
 * promises about them and the invalidations that it is still to hear. What requests do to them
 * is in ops_*.c.
 *
 * A session exists by itself; a connection (connection.h) is a way to it. Without one all stays
 * as it is, and a reply fails with -ENOTCONN; for now a push that cannot be sent is the last one.
 *
 * Calling sequence: session_new, session_attach for each connection, session_push,
 * session_stop, session_free, which gives back all that is held.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/handle.h"
#include "host/server.h"

#define SESSION_SLOTS 256 /* requests that a client may have in flight */

struct change;
struct dirs;
struct export;
struct hnodes;
struct lock_session;
struct locks;
struct msg;
struct promise_session;
struct promises;
struct session;
struct stream;
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

/* features: what the client has asked for (HELLO_PUSH, HELLO_ACL). 0 or -errno. */
int session_new(struct host *host, uint64_t id, uint64_t features, struct session **ret);
/*
 * What the session says goes to this stream from now on; NULL: to nobody. When this returns,
 * nobody sends on the one before any more, which has been shut down.
 */
void session_attach(struct session *s, struct stream *stream);
/* From now on the client hears what is broken, if it has asked to; once. */
int session_push(struct session *s);
/* The session is ending: whoever waits for other clients on its behalf, or for it, is woken. Any
 * thread. */
void session_stop(struct session *s);
void session_free(struct session *s); /* NULL is allowed */

/* ---- for the handlers ---- */

uint64_t session_id(const struct session *s);
struct handles *session_handles(struct session *s);
struct lock_session *session_locks(struct session *s);
struct dirs *session_dirs(struct session *s);
struct promise_session *session_promises(struct session *s);
void session_forget(struct session *s, uint64_t id, uint64_t n);
bool session_acl(const struct session *s); /* the client has asked for POSIX ACLs */

/* Sends p as the reply to request id, or an error instead: a negative result. */
int session_reply(struct session *s, struct msg *p, uint64_t id, int result);

/*
 * A request that synchronises has been carried out: what the host had done before is broken
 * now, and the INVs about it leave before the reply. So the client, which receives in order,
 * knows of them when the reply comes. One that takes none may have another mount that does.
 */
void session_follow_host(struct session *s, struct change *c);

/* A lock that had to wait has been decided: sends the reply to request id, from whatever thread. */
void session_lock_granted(struct session *s, uint64_t id, int result);
