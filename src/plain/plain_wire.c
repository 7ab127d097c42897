/* The connection: one request and its reply. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "plain/plain_priv.h"
#include "transport/stream.h"

/* The part of a reply's buffer that stays allocated after a large listing. */
#define FRAME_KEEP_MAX ((size_t)2 << 20)

void plain_wire_done(struct plain_wire *c)
{
	plain_buf_done(&c->request);
	free(c->frame);
	stream_free(c->stream);
}

int plain_lost(struct plain_work *w, const char *why)
{
	struct plain_wire *c = &w->wire;

	if (c->down)
		return -ENOTCONN;
	c->down = true;
	stream_shutdown(c->stream);
	if (!c->started) {
		c->start_error = why;
	} else if (!atomic_load(&c->stopping)) {
		log_err("connection to the server lost: %s", why);
		stats_add(c->stats, STAT_conn_lost, 1);
		stats_text(c->stats, TEXT_conn_state, "lost");
		if (c->lost != NULL)
			c->lost(c->lost_arg);
	}
	return -ENOTCONN;
}

static const char *link_error(int r)
{
	switch (r) {
	case -ENODATA:
		return "closed by the server";
	case -ECONNRESET:
		return "closed by the server inside a reply";
	case -EPROTO:
		return "a reply of no bytes or more than 64 MiB";
	case -ETIMEDOUT:
		return "the server does not answer";
	case -EHOSTDOWN:
		return "nobody is behind the descriptor";
	default:
		return strerror(-r);
	}
}

/* A server's error is a negative errno; a number that is no errno of Linux becomes EIO. */
static int server_error(int32_t err)
{
	return err < 0 ? msg_errno(err) : -EIO;
}

int plain_exchange(struct plain_work *w, struct plain_request *q, struct plain_reply *ret)
{
	struct plain_wire *c = &w->wire;
	const char *why = NULL;
	size_t len = 0;

	if (c->down)
		return -ENOTCONN;
	if (plain_peer_lacks(w, q->op))
		return -ENOSYS;
	if (c->frame_cap > FRAME_KEEP_MAX) {
		free(TAKE_PTR(c->frame));
		c->frame_cap = 0;
	}
	if (w->call != NULL) {
		q->uid = w->call->uid;
		q->gid = w->call->gid;
	}
	int r = plain_request_encode(q, &c->request);
	if (r < 0)
		return r;
	struct stats_span own = {0}, *span = w->call != NULL ? &w->call->span : &own;
	uint64_t op = w->call != NULL ? w->call->req.op : 0;
	stats_rpc_send(c->stats, span, op, false);
	r = stream_send_plain(c->stream, c->request.data, c->request.len);
	if (r == 0)
		r = stream_recv_plain(c->stream, PLAIN_FRAME_MAX, &c->frame, &c->frame_cap, &len,
				      -1);
	if (r < 0) {
		stats_rpc_drop(c->stats, span);
		return plain_lost(w, link_error(r));
	}
	stats_add(c->stats, STAT_rpc_bytes_sent, c->request.len + 4);
	stats_add(c->stats, STAT_rpc_bytes_received, len + 4);
	bool good = plain_reply_decode(c->frame, len, ret, &why) == 0;
	int err = good && ret->err != 0 ? server_error(ret->err) : 0;
	stats_rpc_done(c->stats, span, op, -err);
	if (!good)
		return plain_lost(w, why);
	plain_peer_answered(w, q->op, err);
	return err;
}
