/*
 * A client's session on this server: the nodes that the client was told of, its open files and
 * locks, the promises about them, and the invalidations that are still to be sent. The requests
 * that change these are in ops_*.c.
 *
 * A session exists by itself; a connection (connection.h) is a way to it. Without a connection the
 * session stays as it is, and a reply fails with -ENOTCONN; for now a push that cannot be sent is
 * the last one.
 *
 * Calling sequence: session_new, session_attach for each connection, session_push,
 * session_stop, session_free, which gives back all that the session holds.
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

/* The parts of a server that all sessions share; constant while there is a session. */
struct host {
	const struct server_config *config;
	struct export *export;
	struct hnodes *nodes;
	struct locks *locks;
	struct promises *promises;
	struct watch *watch;
	struct handle_budget handles;
	atomic_bool fds_short; /* the lack of file descriptors has been logged */
	uint64_t epoch; /* random: another value tells a client that the server was started again */
};

/* features: those that the client has asked for (HELLO_PUSH, HELLO_ACL). 0 or -errno. */
int session_new(struct host *host, uint64_t id, uint64_t features, struct session **ret);
/*
 * Replies and pushes go to this stream from now on; NULL: nowhere. When session_attach returns,
 * the stream used before has been shut down, and no thread sends on it any more.
 */
void session_attach(struct session *s, struct stream *stream);
/* From now on the client is sent invalidations, if it has asked for them. To be called once. */
int session_push(struct session *s);
/* The session is ending: wakes the threads that wait for other clients on behalf of this session,
 * and those that wait for this session. Any thread. */
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

/* Sends the reply to request id: p, or the error if result is negative. */
int session_reply(struct session *s, struct msg *p, uint64_t id, int result);

/*
 * A request that synchronises has been executed: breaks the promises about all that the host had
 * changed before, so that the INVs are sent before the reply. The client receives in order, and has
 * them when the reply comes. A client without pushes may have another mount that takes them.
 */
void session_follow_host(struct session *s, struct change *c);

/* A lock does not wait any more: sends the reply to request id. Any thread. */
void session_lock_granted(struct session *s, uint64_t id, int result);
