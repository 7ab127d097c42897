/*
 * Promises: the facts that each client was told and may keep until it is told of a
 * change, and the invalidations by which it is told.
 *
 * A session holds the nodes that its client was told of, each with its references
 * and with promise bits, INV_ATTR, INV_DATA and INV_NAMES of enum inv_class: the
 * client may rely on that part of its knowledge. A bit is armed before the host is
 * asked for the reply's facts, and the session's sequence at that moment is the
 * reply's stamp. After a change, the thread that made or saw the change breaks the
 * promises about the node: it clears the bit, raises the sequence, and queues an
 * item for the session's pusher, a thread that sends INV. So a reply whose facts
 * are older than a change has a stamp below the sequence of the INV about that
 * change, in whatever order the two arrive.
 *
 * INV_NAMES stays armed when one name is broken: the other names are still true.
 * Bits outlive a RESET; at worst they then cause an INV that the client ignores.
 *
 * Changes by clients are waited for (struct change): the reply is not sent
 * before every other session has acknowledged the invalidations.
 *
 * Calling sequence: promises_new, for each client promise_session_new,
 * promise_session_push if it takes pushes, promise_session_stop at its end
 * (any thread; wakes all threads that wait for the session or in it), then
 * promise_session_free, which waits for the pusher.
 *
 * Thread-safe. Locks, in this order: that of the list of sessions, that of one
 * session, that of its way. The hnodes' mutex is never taken inside these, and no lock is held
 * while sending. 0 or -errno; times in nanoseconds of CLOCK_MONOTONIC (see core/clock.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/msg.h"

struct hnode;
struct hnodes;
struct promise_session;
struct promises;
struct stats;
struct way;

#define PROMISE_ACK_MS                                                                             \
	10000 /* a session that does not acknowledge for so long is not waited for                 \
	       */

/* ack_ms: 0 means PROMISE_ACK_MS; nodes_max, which all sessions share: 0 means 16 Mi. */
int promises_new(struct hnodes *nodes, unsigned ack_ms, size_t nodes_max, struct stats *stats,
		 struct promises **ret);
void promises_free(struct promises *t); /* NULL is allowed */

int promise_session_new(struct promises *t, struct promise_session **ret);
/* The session is in the state, and has been before this process if restored. Before any node. */
void promise_use_record(struct promise_session *s, uint32_t record, bool restored);
/* Its client has numbers of another session: promise_resume goes on from there. Before push. */
void promise_use_numbers(struct promise_session *s);
/*
 * From now on replies are stamped and changes pushed; the way must outlive free. resumes: the
 * session outlives what it leads to.
 */
int promise_session_push(struct promise_session *s, struct way *way, bool resumes);
/* The way leads nowhere: nothing is pushed until promise_resume, and nobody waits for that. */
void promise_cut(struct promise_session *s);
/* It leads to the client again, which has heard of everything up to seq: else RESET follows. */
void promise_resume(struct promise_session *s, uint64_t seq);
bool promise_pushing(const struct promise_session *s);
void promise_session_stop(struct promise_session *s);
bool promise_session_ended(const struct promise_session *s);
void promise_session_free(struct promise_session *s);	       /* NULL is allowed */
size_t promise_session_nodes(const struct promise_session *s); /* that it was told of */

/* ---- the nodes of a session ---- */

/* The stamp of a reply: the sequence when the first bit was armed. A struct of zeros is no
 * stamp. */
struct stamp {
	bool armed;
	bool uncovered; /* a change of a fact in the reply would not be seen: no promise.
			   Set by the handlers */
	uint64_t seq;
};

/*
 * The node of an id that this session's client was told, with a reference; -ESTALE for
 * any other id: ids belong to a session. arm: promise bits, or 0.
 */
int promise_node(struct promise_session *s, uint64_t id, unsigned arm, struct stamp *stamp,
		 struct hnode **ret);
/* A reply names n: the client gets one more reference, which it will forget. -ENFILE, -ENOMEM. */
int promise_tell(struct promise_session *s, struct hnode *n, unsigned arm, struct stamp *stamp);
/* False if the session does not know the node, or no longer. */
bool promise_arm(struct promise_session *s, const struct hnode *n, unsigned arm,
		 struct stamp *stamp);
/* True if the session knows the node no longer. */
bool promise_forget(struct promise_session *s, uint64_t id, uint64_t n);

/*
 * The references of the client after a connection was lost, with replies and FORGETs in it: from
 * begin on no reference counts but those that are counted anew; gone tells nodes that have none, to
 * be forgotten. No other request runs meanwhile.
 */
void promise_recount_begin(struct promise_session *s);
void promise_recount(struct promise_session *s, uint64_t id, uint64_t n);
size_t promise_recount_gone(struct promise_session *s, uint64_t *ids, size_t max);

/* ---- what the client says ---- */

/* Waits until the invalidations of all promises broken so far are sent; returns the sequence. */
uint64_t promise_fence(struct promise_session *s);
/* The client has acknowledged seq. -EPROTO: no INV with that sequence was sent. */
int promise_ack(struct promise_session *s, uint64_t seq);

/* ---- breaking ---- */

/* A change was seen on the host at the time `seen`: class of n is not true any more. name: with
 * INV_NAME. */
void promises_break(struct promises *t, struct hnode *n, unsigned class, const char *name,
		    uint64_t seen);
/* Changes may have been missed: every session is told that nothing is promised. */
void promises_reset(struct promises *t);
/* True if a session takes pushes. */
bool promises_wanted(const struct promises *t);
uint64_t promise_clock(void);

/*
 * A change by a client: breaks the promises to all other clients. The caller sets the
 * first two members, the others are zero. After the change itself, change_broke is
 * called for each node and name it touched, then change_wait once, without locks. Not
 * thread-safe.
 */
struct change {
	struct promises *promises;    /* NULL: no client is told */
	struct promise_session *self; /* NULL: a plain client */
	struct ack_wait *waits;
	size_t n_waits;
};

void change_broke(struct change *c, struct hnode *n, unsigned class);
void change_broke_name(struct change *c, struct hnode *dir, const char *name);
/* change_broke for an object or open file that a client may know. name may be NULL. */
void change_broke_fd(struct change *c, int fd, unsigned class, const char *name);
/*
 * For a call of this client that synchronises: waits until the other sessions, among them other
 * mounts of the same guest, have acknowledged the invalidations about all that the host had done
 * before.
 */
void change_follows_host(struct change *c);
/* True if change_wait would wait. */
bool change_waits(const struct change *c);
void change_wait(struct change *c);
