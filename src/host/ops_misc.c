/* Locks, references, and messages about the connection. */
#include <errno.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/lock.h"
#include "host/ops.h"
#include "host/watch.h"
#include "transport/codec.h"

int op_HELLO(struct request *r)
{
	r->why = "HELLO on a connection that is extended already";
	return OP_MALFORMED;
}

int op_RESUME(struct request *r)
{
	r->why = "RESUME of a session that goes on already";
	return OP_MALFORMED;
}

int op_GOODBYE(struct request *r)
{
	session_goodbye(r->session);
	return OP_NO_REPLY;
}

/* A client that is told the totals so often need not ask for them. What tells them may hang. */
int op_PING(struct request *r)
{
	int e = op_FENCE(r);

	if (e == 0 && watch_single(r->host->watch) && session_tells_totals(r->session)) {
		turn_pass(&r->turn);
		(void)request_statfs(r, export_root(r->host->export));
	}
	return e;
}

int op_FENCE(struct request *r)
{
	watch_fence(r->host->watch);
	MSG_SET(&r->p, seq, promise_fence(session_promises(r->session)));
	return 0;
}

int op_ACK(struct request *r)
{
	if (promise_ack(session_promises(r->session), r->q.seq) < 0) {
		r->why = "ACK of an invalidation that was not sent";
		return OP_MALFORMED;
	}
	return OP_NO_REPLY;
}

int op_CANCEL(struct request *r)
{
	lock_cancel(session_locks(r->session), r->q.id);
	return OP_NO_REPLY;
}

int op_FORGET(struct request *r)
{
	struct slice in = {r->buf, r->q.payload.len};
	uint64_t node, n;
	int e;

	while ((e = codec_get_pair(&in, &node, &n)) == 1)
		session_forget(r->session, node, n);
	if (e < 0)
		r->why = "FORGET: not a sequence of [node, n]";
	return e < 0 ? OP_MALFORMED : OP_NO_REPLY;
}

/* ---- locks ---- */

static int lock_request(struct request *r, struct handle_ref *file, struct lock_request *ret)
{
	const struct msg *q = &r->q;

	if (q->type > RANGE_NONE || q->off > q->off2 || q->off > INT64_MAX)
		return -EINVAL;
	int e = request_handle(r, q->fh, file);
	if (e < 0)
		return e;
	*ret = (struct lock_request){
		.node = file->h->node,
		.fh = q->fh,
		.owner = q->owner,
		.pid = q->pid,
		.bsd = (q->flags & LOCK_BSD) != 0,
		.type = (enum range_type)q->type,
		.start = q->off,
		.end = q->off2 < INT64_MAX ? q->off2 : INT64_MAX,
	};
	return 0;
}

int op_GETLK(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	struct lock_conflict c;
	struct lock_request q;
	int e = lock_request(r, &file, &q);

	if (e == 0)
		e = lock_test(session_locks(r->session), &q, file.h->fd, &c);
	if (e < 0)
		return e;
	MSG_SET(&r->p, type, (uint64_t)c.type);
	if (c.type != RANGE_NONE) {
		MSG_SET(&r->p, off, c.start);
		MSG_SET(&r->p, off2, c.end);
		MSG_SET(&r->p, pid, c.pid);
	}
	return 0;
}

/* Where the reply goes for a lock that has to wait. */
struct lock_answer {
	struct session *session;
	uint64_t id;
	uint32_t slot;
};

static void answer_lock(void *arg, int result)
{
	struct lock_answer *a = arg;

	session_lock_granted(a->session, a->id, a->slot, result);
	free(a);
}

int op_SETLK(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	struct lock_request q;
	int e = lock_request(r, &file, &q);

	if (e < 0)
		return e;
	if (!(r->q.flags & LOCK_WAIT) || q.type == RANGE_NONE)
		return lock_set(session_locks(r->session), &q, NULL);
	struct lock_answer *a = malloc(sizeof(*a));
	if (a == NULL)
		return -ENOLCK;
	*a = (struct lock_answer){r->session, r->q.id, r->slot};
	const struct lock_wait wait = {.id = r->q.id, .done = answer_lock, .arg = a};
	e = lock_set(session_locks(r->session), &q, &wait);
	if (e == -EINPROGRESS)
		return OP_NO_REPLY;
	free(a);
	return e;
}
