/* One request: the steps before and after its handler. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/stats.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/ops.h"
#include "host/resolve.h"
#include "host/slots.h"

static int dispatch(struct request *r)
{
	static int (*const handlers[])(struct request *) = {
#define MESSAGE(code, NAME, request_, reply_, traits_, text) [code] = op_##NAME,
#define PUSH(code, NAME, request_, reply_, traits_, text)
#include "core/messages.def"
#undef MESSAGE
	};

	if (!msg_op_known(r->q.op))
		return -ENOSYS;
	if (handlers[r->q.op] == NULL) {
		r->why = "a message that only servers send";
		return OP_MALFORMED;
	}
	if (!msg_request_complete(&r->q)) {
		r->why = "a required field is missing";
		return OP_MALFORMED;
	}
	return handlers[r->q.op](r);
}

/*
 * Landlock refuses what the host has moved out of the export since it was looked for, and a file
 * that was found by its handle alone. ESTALE has the guest's kernel look it up again.
 */
static int was_refused(struct request *r, int result)
{
	const uint64_t ids[] = {MSG_HAS(&r->q, node) ? r->q.node : 0,
				MSG_HAS(&r->q, node2) ? r->q.node2 : 0};

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		CLEANUP_PINNED struct pinned p = {0};

		if (ids[i] != 0 && (request_pin(r, ids[i], 0, &p) == -ESTALE ||
				    (p.node != NULL && hnode_unnamed(p.nodes, p.node))))
			return -ESTALE;
	}
	return result;
}

/*
 * Messages after which nothing is received before they have had their
 * effect: a lock that waits must be known when its CANCEL comes, and a lock
 * that a CLOSE releases is free for the next SETLK. Those that cost next to nothing
 * (PING, FENCE, ACK, FORGET) are so as well: a flood of them keeps one thread busy and not all
 * that the connection may have.
 */
static bool in_order(const struct msg *q)
{
	bool waits = !msg_is(q->op, TRAIT_FILE_LOCK) || (q->flags & LOCK_WAIT) != 0;

	return msg_is(q->op, TRAIT_IN_ORDER) && waits;
}

/* Sets the stamp of a reply that promises something. That a name does not exist is a promise,
 * too. */
static void set_stamp(struct request *r, int result)
{
	const struct stamp *stamp = &r->stamp;

	if (stamp->armed && !stamp->uncovered &&
	    (result == 0 || (result == -ENOENT && msg_is(r->q.op, TRAIT_LOOKS_UP))))
		MSG_SET(&r->p, stamp, stamp->seq);
}

/* With FAULT(slow_host): one in four takes up to 2 ms before it is executed, one in four after
 * it. */
static void wait_a_moment(const struct request *r, bool executed)
{
	uint64_t x = hash_mix(r->q.id) >> (executed ? 0 : 16);
	const struct timespec ts = {.tv_nsec = (long)(x / 4 % 2000) * 1000};

	if (x % 4 == 0)
		(void)nanosleep(&ts, NULL);
}

/* With FAULT(late_promise): arms the promise that should have been armed before the handler. */
static void arm_late(struct request *r)
{
	const uint64_t ids[] = {r->q.node, r->q.node2, r->p.node};

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct hnode *n;

		if (promise_node(session_promises(r->session), ids[i],
				 INV_ATTR | INV_DATA | INV_NAMES, &r->stamp, &n) == 0)
			hnode_unref(r->host->nodes, n);
	}
}

static void wait_for_others(struct request *r)
{
	if (!change_waits(&r->change))
		return;
	turn_leave(&r->turn);
	change_wait(&r->change);
	turn_return(&r->turn);
}

static void warn_of_limit(struct host *h, int result)
{
	if ((result == -EMFILE || result == -ENFILE) && !atomic_exchange(&h->fds_short, true))
		log_warning("requests are refused for want of file descriptors: raise the limit "
			    "(RLIMIT_NOFILE, LimitNOFILE= of systemd)");
}

/* A request that comes again, whose reply is known. What synchronises does so again. */
static int replay(struct request *r)
{
	turn_pass(&r->turn);
	stats_add(r->host->config->stats, STAT_server_replayed, 1);
	if (r->p.err == 0 && msg_synchronises(&r->q))
		(void)promise_fence(session_promises(r->session));
	return session_send(r->session, r->gen, &r->p);
}

/* Where an append begins, the next process could not tell. */
static void note_size(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	struct stat st;

	if (r->host->state != NULL && msg_is(r->q.op, TRAIT_WRITES) &&
	    (r->q.flags & O_APPEND) != 0 && request_handle(r, r->q.fh, &file) == 0 &&
	    fstat(file.h->fd, &st) == 0)
		slots_note_size(session_slots(r->session), r->slot, (uint64_t)st.st_size);
}

/* Looks the request up in its slot, if it has one: enum slot_verdict, or -EPROTO. SLOT_REPLAY: r->p
 * is set. */
static int look_back(struct request *r)
{
	struct slots *slots = session_slots(r->session);

	r->slot = SLOT_NONE;
	if (slots == NULL || !MSG_HAS(&r->q, slot) || !msg_is(r->q.op, TRAIT_ONCE))
		return SLOT_EXECUTE;
	int verdict = slots_begin(slots, &r->q, r->gen, &r->p, r->buf, &r->why);
	if (verdict == SLOT_EXECUTE || verdict == SLOT_UNSURE)
		r->slot = msg_slot_get(r->q.slot.data).slot;
	return verdict;
}

/* A request of which a server before this one has not told how it ended. */
static int dispatch_unsure(struct request *r)
{
	if (!msg_request_complete(&r->q))
		return dispatch(r); /* which refuses it */
	switch (request_resolve(r)) {
	case RESOLVE_EXECUTE:
		r->p.present = 0;
		note_size(r); /* this server may be killed, too */
		return dispatch(r);
	case RESOLVE_DONE:
		stats_add(r->host->config->stats, STAT_server_resolved, 1);
		return 0;
	default:
		stats_add(r->host->config->stats, STAT_server_unresolved, 1);
		log_warning("client %llu: %s was interrupted when the server ended, and whether it "
			    "was carried out cannot be told: EIO",
			    (unsigned long long)session_id(r->session), msg_op_name(r->q.op));
		return -EIO;
	}
}

/* Executes it, and makes its reply. */
static int execute(struct request *r, bool unsure)
{
	if (FAULT(slow_host))
		wait_a_moment(r, false);
	uint64_t start = stats_now();
	if (r->slot != SLOT_NONE && !unsure)
		note_size(r);
	int result = unsure ? dispatch_unsure(r) : dispatch(r);
	if ((result == -EACCES || result == -EXDEV) && export_confined(r->host->export))
		result = was_refused(r, result);
	stats_executed(r->host->config->stats, r->q.op, stats_now() - start,
		       result < 0 ? -result : 0);
	if (result == OP_MALFORMED && r->slot != SLOT_NONE)
		slots_refused(session_slots(r->session), r->slot);
	if (result == OP_NO_REPLY || result == OP_MALFORMED)
		return result;
	if (FAULT(late_promise))
		arm_late(r);
	set_stamp(r, result);
	warn_of_limit(r->host, result);
	session_reply(&r->p, r->q.id, result);
	if (r->slot != SLOT_NONE)
		slots_executed(session_slots(r->session), r->slot, &r->p);
	return result;
}

/* Before the reply: what the change has broken is known to the other clients. */
static void settle(struct request *r, int result)
{
	bool synchronises = result == 0 && msg_synchronises(&r->q);

	if (synchronises)
		session_follow_host(r->session, &r->change);
	wait_for_others(r);
	if (synchronises)
		(void)promise_fence(session_promises(r->session));
	if (FAULT(slow_host))
		wait_a_moment(r, true);
}

int request_execute(struct request *r)
{
	if (!MSG_HAS(&r->q, op) || (!MSG_HAS(&r->q, id) && !msg_is(r->q.op, TRAIT_ONEWAY))) {
		r->why = "no op or no id";
		return -EPROTO;
	}
	r->p.present = 0;
	r->stamp = (struct stamp){0};
	if (!session_enter(r->session, r->gen))
		return -ECONNRESET; /* the session goes on over another connection */
	int verdict = look_back(r);
	if (verdict == SLOT_REPLAY)
		verdict = replay(r) < 0 ? -ECONNRESET : SLOT_WAIT;
	if (verdict != SLOT_EXECUTE && verdict != SLOT_UNSURE) {
		session_leave(r->session);
		if (verdict == SLOT_WAIT)
			turn_pass(&r->turn); /* what follows is not this request's to wait for */
		return verdict < 0 ? verdict : 0;
	}
	if (!in_order(&r->q))
		turn_pass(&r->turn);
	int result = execute(r, verdict == SLOT_UNSURE);
	turn_pass(&r->turn); /* a reply may have to wait for the client to read */
	session_leave(r->session);
	settle(r, result);
	if (result == OP_NO_REPLY) /* after GOODBYE the client waits for the end */
		return session_said_goodbye(r->session) ? -ENODATA : 0;
	if (result == OP_MALFORMED)
		return -EPROTO;
	uint64_t gen = r->gen;
	if (r->slot != SLOT_NONE)
		gen = slots_done(session_slots(r->session), r->slot, r->q.id);
	return session_send(r->session, gen, &r->p);
}
