/* GETATTR and SETATTR. */
#include <errno.h>
#include <sys/stat.h>
#include <time.h>

#include "plain/plain_priv.h"

int plain_do_getattr(struct plain_work *w, struct msg *reply)
{
	struct plain_node *node;
	int r = plain_node(w, w->call->req.node, &node);

	if (r < 0)
		return r;
	r = plain_refresh(w, node);
	if (r == -ESTALE && node->has_attr &&
	    (node->open > 0 || !plain_nodes_attached(w->nodes, node))) {
		/* An open file outlives its name; its last attributes are all that is known
		 * then. */
		plain_reply_attr(w, reply, node);
		reply->attr.nlink = 0;
		return 0;
	}
	if (r == 0)
		plain_reply_attr(w, reply, node);
	return r;
}

static int set_mode(struct plain_work *w, struct plain_node *node, uint32_t mode)
{
	struct plain_request q = {.op = PLAIN_SETATTR, .mode = plain_told_mode(mode)};
	struct plain_reply p;
	int r = plain_path(w, node, PLAIN_NO_NAME, &q.path);

	return r < 0 ? r : plain_exchange(w, &q, &p);
}

/* The time in whole seconds, as the server's own times, with which make(1) compares it. */
static struct msg_time now(void)
{
	return (struct msg_time){.sec = time(NULL)};
}

/* The values that SETATTR asks for; valid tells which of them count. */
static struct attr requested_attr(const struct msg *m)
{
	return (struct attr){
		.mode = (uint32_t)m->mode,
		.uid = (uint32_t)m->uid,
		.gid = (uint32_t)m->gid,
		.atime = m->valid & SET_ATIME_NOW ? now() : m->atime,
		.mtime = m->valid & SET_MTIME_NOW ? now() : m->mtime,
	};
}

/* The values to be set: after a truncation no time that is "now", for the truncation has set it. */
static uint64_t valid_values(const struct msg *m)
{
	uint64_t valid = m->valid & PLAIN_KEPT_VALUES & ~(uint64_t)(SET_ATIME | SET_MTIME);
	bool sized = (m->valid & SET_SIZE) != 0;

	if (m->valid & SET_ATIME_NOW ? !sized : (m->valid & SET_ATIME) != 0)
		valid |= SET_ATIME;
	if (m->valid & SET_MTIME_NOW ? !sized : (m->valid & SET_MTIME) != 0)
		valid |= SET_MTIME;
	return valid;
}

static bool nanoseconds(const struct msg_time *t, int64_t *ret)
{
	return !__builtin_mul_overflow(t->sec, INT64_C(1000000000), ret) &&
	       !__builtin_add_overflow(*ret, (int64_t)t->nsec, ret);
}

/*
 * Both times are sent, because servers differ in their meaning of an absent time. So an
 * access time alone is not sent: the mtime beside it would lose its fraction of a second.
 * The times of a link are not sent either: most servers would set those of its target.
 */
static int set_times(struct plain_work *w, struct plain_node *node, uint64_t valid,
		     const struct attr *attr)
{
	struct plain_request q = {.op = PLAIN_TIMES, .has_atime = true, .has_mtime = true};
	const struct msg_time *atime = valid & SET_ATIME ? &attr->atime : &node->attr.atime;
	struct plain_reply p;

	if (!(valid & SET_MTIME) || S_ISLNK(node->attr.mode) || plain_peer_lacks(w, q.op) ||
	    !nanoseconds(atime, &q.atime_ns) || !nanoseconds(&attr->mtime, &q.mtime_ns))
		return 0;
	int r = plain_path(w, node, PLAIN_NO_NAME, &q.path);
	if (r < 0) {
		q.fh = plain_request_fh(w);
		if (q.fh == 0)
			return 0;
	}
	r = plain_exchange(w, &q, &p);
	if (r == 0)
		plain_kept_changed(node);
	return r == -ENOSYS ? 0 : r;
}

/* Tells the server the values that it can be told. */
static int tell_values(struct plain_work *w, struct plain_node *node, uint64_t valid,
		       const struct attr *attr)
{
	int r = 0;

	if ((valid & SET_MODE) && S_ISLNK(node->attr.mode))
		return -EOPNOTSUPP;
	if (valid & (SET_MODE | SET_ATIME | SET_MTIME))
		r = plain_sure_of(w, node);
	if (r == 0 && (valid & SET_MODE) && plain_nodes_attached(w->nodes, node))
		r = set_mode(w, node, attr->mode);
	return r < 0 && r != -ENOSYS ? r : set_times(w, node, valid, attr);
}

int plain_do_setattr(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	const struct attr attr = requested_attr(m);
	uint64_t valid = valid_values(m);
	struct plain_node *node;
	int r = plain_node(w, m->node, &node);

	if (r == 0 && (m->valid & SET_SIZE))
		r = plain_set_size(w, node, m->size);
	if (r == 0)
		r = tell_values(w, node, valid, &attr);
	if (r < 0)
		return r;
	plain_kept_forget(node, valid);
	r = plain_do_getattr(w, reply);
	if (r == 0)
		r = plain_kept_set(w, node, valid, &attr);
	if (r == 0)
		plain_reply_attr(w, reply, node);
	return r;
}
