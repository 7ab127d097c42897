/* One request: the steps before and after its handler. */
#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/stats.h"
#include "host/hnode.h"
#include "host/ops.h"

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
 * Messages after which nothing may be received before they have had their
 * effect: a lock that waits must be known when its CANCEL comes, and a lock
 * that a CLOSE releases is free for the next SETLK.
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

int request_execute(struct request *r)
{
	if (!MSG_HAS(&r->q, op) || (!MSG_HAS(&r->q, id) && !msg_is(r->q.op, TRAIT_ONEWAY))) {
		r->why = "no op or no id";
		return -EPROTO;
	}
	r->p.present = 0;
	r->stamp = (struct stamp){0};
	if (!in_order(&r->q))
		turn_pass(&r->turn);
	if (FAULT(slow_host))
		wait_a_moment(r, false);
	uint64_t start = stats_now();
	int result = dispatch(r);
	stats_executed(r->host->config->stats, r->q.op, stats_now() - start,
		       result < 0 ? -result : 0);
	turn_pass(&r->turn); /* sending the reply may block until the client reads */
	bool synchronises = result == 0 && msg_synchronises(&r->q);
	if (synchronises)
		session_follow_host(r->session, &r->change);
	wait_for_others(r);
	if (synchronises)
		(void)promise_fence(session_promises(r->session));
	if (result == OP_NO_REPLY)
		return 0;
	if (result == OP_MALFORMED)
		return -EPROTO;
	if (FAULT(slow_host))
		wait_a_moment(r, true);
	if (FAULT(late_promise))
		arm_late(r);
	set_stamp(r, result);
	warn_of_limit(r->host, result);
	return session_reply(r->session, &r->p, r->q.id, result);
}
