/*
 * A client's session on this server: the nodes that the client was told of, its open files and
 * locks, the promises about them, and the invalidations that are still to be sent. The requests
 * that change these are in ops_*.c.
 *
 * A session exists by itself; a connection (connection.h) is a way to it. One that is resumed
 * (HELLO_RESUME) outlives its connection: until another one is attached all stays as it is, what
 * is executed at most once keeps its reply (slots.h), and no request begins. Any other ends with
 * its connection. Which sessions there are, sessions.h knows.
 *
 * Calling sequence: session_new, session_attach for each connection, session_push once;
 * session_cut when a connection is lost, session_resume before the next is attached;
 * session_stop, and session_unref by each that has a reference: the last one frees all that is
 * held.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/handle.h"
#include "host/server.h"

#define SESSION_SLOTS	 256   /* requests that a client may have in flight */
#define SESSION_LEASE_MS 10000 /* locks of a client that is away are kept so long */

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
struct sessions;
struct slots;
struct state;
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
	struct sessions *sessions;
	struct state *state;	    /* what outlives the process; NULL: nothing */
	struct handle_pool handles; /* open files */
	struct share_pool
		threads; /* that execute requests, beyond those that each connection has */
	struct share_pool buffers; /* bytes of large buffers of the sockets of sessions */
	struct share_pool bytes; /* of what plain clients send, beyond what each may in any case */
	atomic_bool fds_short;	 /* the lack of file descriptors has been logged */
	uint64_t epoch; /* random: another value tells a client that the server was started again */
};

/* features: what the client has asked for (HELLO_PUSH, HELLO_ACL, HELLO_RESUME). 0 or -errno. */
int session_new(struct host *host, uint64_t id, uint64_t features, struct session **ret);
void session_ref(struct session *s);
void session_unref(struct session *s); /* NULL is allowed */
/*
 * The session's messages go to this stream from now on, and requests may begin that come from
 * it. Returns the number of the connection, for those below.
 */
uint64_t session_attach(struct session *s, struct stream *stream);
/* From now on the client hears what is broken, if it has asked to; once. */
int session_push(struct session *s);
/* The session is ending: wakes the threads that wait for other clients on behalf of this session,
 * and those that wait for this session. Any thread. */
void session_stop(struct session *s);
bool session_ending(const struct session *s);

/*
 * The connection gen is lost, or another one comes: its stream is shut down, and when this returns
 * nobody sends on it, and no request begins that came from it. Nothing if it is not attached any
 * more. Any thread.
 */
void session_cut(struct session *s, uint64_t gen);
uint64_t session_gen(const struct session *s);
/* Waits until no request is being executed any more; false if one still is after so long. */
bool session_settle(struct session *s, unsigned ms);
/* A request from connection gen begins: false if it must not. Else leave follows. */
bool session_enter(struct session *s, uint64_t gen);
void session_leave(struct session *s);

/*
 * RESUME, of a session that is cut and settled; seq: the last invalidation that the client has
 * heard of, as HELLO told. 1 after the last of them: to be attached, then session_resumed; 0:
 * another one follows; -EPROTO with *ret_why; -ESTALE: the session has gone on since this client
 * was copied, so it is another copy's.
 */
int session_resume(struct session *s, const struct msg *q, const char **ret_why);
void session_resumed(struct session *s, uint64_t seq);
/* Some of its locks could not be taken again. */
void session_lost_locks(struct session *s);
/* The client is away for too long to keep its locks: of one that is cut and settled. */
void session_drop_locks(struct session *s);
bool session_holds_locks(const struct session *s);
bool session_locks_lost(const struct session *s); /* it had some */

/* ---- for the handlers ---- */

uint64_t session_id(const struct session *s);
uint64_t session_features(const struct session *s); /* HELLO_*, those that the client asked for */
/* The session is in the state, and all that it comes to hold, too. restored: it was before. */
void session_use_record(struct session *s, uint32_t record, bool restored);
bool session_resumes(const struct session *s);
/* NULL: nothing is executed at most once. */
struct slots *session_slots(struct session *s);
void session_goodbye(struct session *s); /* it is of no use once its connection ends */
bool session_said_goodbye(const struct session *s);
struct handles *session_handles(struct session *s);
struct lock_session *session_locks(struct session *s);
const struct export *session_export(const struct session *s);
struct dirs *session_dirs(struct session *s);
struct promise_session *session_promises(struct session *s);
void session_forget(struct session *s, uint64_t id, uint64_t n);
/* Whether it is time to tell the client the totals of the file system: not with each PING. */
bool session_tells_totals(struct session *s);
/*
 * Around the making of a listing with attributes, which is work for thousands of requests: a
 * session has so many in the making, and the others wait.
 */
#define SESSION_LISTINGS 2
bool session_listing_begin(struct session *s); /* false: nobody waits for it any more */
void session_listing_end(struct session *s);
bool session_acl(const struct session *s); /* the client has asked for POSIX ACLs */

/* Makes p the reply to request id: an error instead if the result is negative. */
void session_reply(struct msg *p, uint64_t id, int result);
/* Sends it to the connection on which the request came. */
int session_send(struct session *s, uint64_t gen, const struct msg *p);

/*
 * A request that synchronises has been executed: breaks the promises about all that the host had
 * changed before, so that the INVs are sent before the reply. The client receives in order, and has
 * them when the reply comes. A client without pushes may have another mount that takes them.
 */
void session_follow_host(struct session *s, struct change *c);

/*
 * A lock that had to wait has been decided: sends the reply to the request, from whatever thread.
 * slot: that of the request, or SLOT_NONE.
 */
#define SLOT_NONE UINT32_MAX
void session_lock_granted(struct session *s, uint64_t id, uint32_t slot, int result);
