/* Requests: from the adapter to an answer of the cache or to the backend, and back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/ahead.h"
#include "cache/answer.h"
#include "cache/files.h"
#include "cache/in_kernel.h"
#include "cache/in_kernel_names.h"
#include "cache/in_kernel_size.h"
#include "cache/node.h"
#include "cache/opens.h"
#include "cache/outbox.h"
#include "cache/pages.h"
#include "cache/reply.h"
#include "cache/request.h"
#include "cache/submit.h"
#include "core/cleanup.h"
#include "core/outlive.h"

/* ---- replies ---- */

static void take_holds(const struct cache_req *r, struct cache_holds *ret)
{
	*ret = (struct cache_holds){.node = r->node, .node2 = r->node2};
	memcpy(ret->busy, r->locks, sizeof(ret->busy));
}

/*
 * The gate, shared. A completion may submit a request that fails at once: then this thread has the
 * gate already, and whoever wants it alone would keep it from having the gate a second time.
 */
static _Thread_local unsigned gate_depth;

static void gate_enter(struct cache *c)
{
	if (gate_depth++ == 0)
		(void)pthread_rwlock_rdlock(&c->gate);
}

static void gate_leave(struct cache *c)
{
	if (--gate_depth == 0)
		(void)pthread_rwlock_unlock(&c->gate);
}

/* It is closed again if its node could not be made. */
static void take_file_locked(struct cache *c, uint64_t server, struct cache_reply *out)
{
	out->fh = out->err == 0 ? opens_add_locked(c, server) : 0;
	if (out->fh != 0)
		return;
	if (out->err == 0)
		out->err = ENOMEM;
	outbox_close_locked(c, server);
}

static void cache_done(struct call *call, const struct msg *m)
{
	struct cache_req *r = (struct cache_req *)call;
	struct cache *c = r->cache;
	bool held = false, listed = r->own && r->listing != NULL;
	uint64_t ino = r->node->id;
	struct cache_reply out = {.err = (int)m->err, .msg = m, .ret_held = &held};
	struct cache_holds holds;

	outlive_unique = call->unique & ~OUTLIVE_RESENT;

	if (msg_is(call->req.op, TRAIT_OPENS) && files_open_again(c, call, m->err, &r->retried))
		return;
	gate_enter(c);
	(void)pthread_mutex_lock(&c->lock);
	reply_locked(c, r, m, &out);
	request_changed_locked(r);
	files_put_locked(c, r);
	if (m->err == 0 && msg_is(call->req.op, TRAIT_OPENS))
		take_file_locked(c, m->fh, &out);
	take_holds(r, &holds);
	bool closes = r->by_node && c->closes != NULL;
	(void)pthread_mutex_unlock(&c->lock);
	pages_keep(c, r->node, call->req.off, m->payload, &r->keep);
	if (closes) /* before somebody acts upon the reply: see files_put_locked */
		cache_forget_flush(c);
	r->done(r, &out); /* r may be gone */
	outlive_gained();
	outlive_unique = 0;
	gate_leave(c);
	if (!held)
		cache_delivered(c, &holds);
	if (listed)
		cache_go_on(c, ino);
}

void cache_hold(struct cache *c, const struct cache_req *r, struct cache_holds *ret)
{
	take_holds(r, ret);
	ret->held = true;
	ret->gain = outlive_gain_hold();
	SCOPE_LOCK(&c->lock);
	for (unsigned i = 0; i < REQUEST_LOCKS; i++)
		if (ret->busy[i] != NULL)
			ret->busy[i]->dir->held++;
}

void cache_delivered(struct cache *c, const struct cache_holds *h)
{
	(void)pthread_mutex_lock(&c->lock);
	outlive_gain_end(h->gain);
	for (unsigned i = 0; i < REQUEST_LOCKS; i++)
		node_not_busy_locked(c, h->busy[i], h->held);
	node_put_locked(c, h->node);
	node_put_locked(c, h->node2);
	bool flush = c->forgets != NULL || c->closes != NULL;
	(void)pthread_mutex_unlock(&c->lock);
	if (flush)
		cache_forget_flush(c);
}

/* ---- requests ---- */

static void complete_here(struct cache_req *r, int err)
{
	struct cache_reply out = {.err = err};

	r->done(r, &out);
}

/* The names move into the request: it outlives the memory that they came in. */
static void keep_names(struct cache_req *r)
{
	struct msg *m = &r->call.req;
	struct slice *const names[] = {&m->name, &m->name2};
	const bool has[] = {MSG_HAS(m, name), MSG_HAS(m, name2)};

	for (unsigned i = 0; i < 2; i++) {
		size_t len = has[i] && names[i]->len <= MSG_NAME_MAX ? names[i]->len : 0;

		r->name_len[i] = (uint8_t)len;
		if (len == 0)
			continue;
		memcpy(r->names[i], names[i]->data, len);
		names[i]->data = r->names[i];
	}
}

/* Finds the nodes and notes what the request is about to change; ESTALE for an unknown one. */
static int begin_locked(struct cache *c, struct cache_req *r, uint64_t ino, uint64_t ino2)
{
	struct msg *m = &r->call.req;

	r->node2 = NULL;
	r->node = node_get_locked(c, ino);
	if (r->node != NULL && ino2 != 0) {
		r->node2 = node_get_locked(c, ino2);
		if (r->node2 == NULL) {
			node_put_locked(c, r->node);
			r->node = NULL;
		}
	}
	if (r->node == NULL)
		return ESTALE;
	if (MSG_HAS(m, fh))
		m->fh = opens_find_locked(c, m->fh);
	if (MSG_HAS(m, fh2))
		m->fh2 = opens_find_locked(c, m->fh2);
	MSG_SET(m, node, r->node->server);
	if (r->node2 != NULL)
		MSG_SET(m, node2, r->node2->server);
	size_arrives_locked(r->node, m->op, r->task, r->writeback);
	return 0;
}

static void leaves_locked(struct cache *c, struct cache_req *r)
{
	uint64_t bytes = kernel_has_data_locked(r->node)
				 ? 0
				 : pages_with_open_locked(c, r->node, &r->call.req);

	if (bytes != 0)
		MSG_SET(&r->call.req, size, bytes);
	request_leaves_locked(c, r);
}

/* The answer to a request that had waited has been given. */
static void not_locked(struct cache *c, struct node *dir)
{
	if (dir == NULL)
		return;
	SCOPE_LOCK(&c->lock);
	node_not_busy_locked(c, dir, false);
}

static void submit(struct cache *c, struct cache_req *r, uint64_t ino, uint64_t ino2)
{
	bool maybe = answer_possible(r->call.req.op), answered = false, waits = false,
	     fetch = false;
	struct answer a;
	struct cache_query q = {.op = (enum msg_op)r->call.req.op, .task = r->task, .r = r};
	struct node *locked = NULL;

	a.out = (struct cache_reply){0};
	a.buffer = NULL;
	a.pages.count = 0;
	q.name = (struct slice){r->names[0], r->name_len[0]};
	if (maybe)
		gate_enter(c);
	(void)pthread_mutex_lock(&c->lock);
	names_arrive_locked(c, r->task);
	a.out.err = begin_locked(c, r, ino, ino2);
	if (a.out.err == 0) {
		answered = maybe && answer_locked(c, &q, r->node, &a);
		waits = !answered && ahead_waits_locked(c, r, &fetch);
		if (answered || waits)
			node_put_locked(c, r->node);
		else
			leaves_locked(c, r);
	}
	if (answered || a.out.err != 0)
		locked = TAKE_PTR(r->locks[0]);
	(void)pthread_mutex_unlock(&c->lock);
	bool failed = a.out.err != 0 && !answered;
	if (answered) {
		answer_copy(&a);
		r->done(r, &a.out);
		outlive_gained();
	}
	if (maybe)
		gate_leave(c);
	free(a.buffer);
	if (fetch)
		c->fetch_ahead(c, ino);
	else if (failed)
		complete_here(r, a.out.err);
	else if (!answered && !waits)
		files_submit(c, r);
	not_locked(c, locked);
}

void cache_submit(struct cache *c, struct cache_req *r, uint64_t ino, uint64_t ino2)
{
	r->cache = c;
	r->call.done = cache_done;
	keep_names(r);
	submit(c, r, ino, ino2);
}

void cache_go_on(struct cache *c, uint64_t ino)
{
	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct cache_req *r = n != NULL ? ahead_take_locked(n) : NULL, *next;
	(void)pthread_mutex_unlock(&c->lock);
	for (; r != NULL; r = next) {
		next = r->waiting;
		submit(c, r, ino, 0);
	}
}

bool cache_answer(struct cache *c, const struct cache_query *q,
		  void (*done)(void *arg, const struct cache_reply *reply), void *arg)
{
	struct answer a;

	a.out = (struct cache_reply){0};
	gate_enter(c);
	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, q->ino);
	names_arrive_locked(c, q->task);
	if (n != NULL)
		size_arrives_locked(n, q->op, q->task, false);
	bool answered = n != NULL && answer_locked(c, q, n, &a);
	(void)pthread_mutex_unlock(&c->lock);
	if (answered) {
		done(arg, &a.out);
		outlive_gained();
	}
	gate_leave(c);
	return answered;
}

void cache_reply_begin(struct cache *c)
{
	gate_enter(c);
}

void cache_reply_end(struct cache *c)
{
	gate_leave(c);
}

/* ---- the client's own ---- */

/* A GETATTR of which the kernel hears nothing. */
struct size_ask {
	struct cache_req req; /* first */
	uint64_t ino;
	void (*done)(void *arg);
	void *arg;
};

static void asked(struct cache_req *r, const struct cache_reply *reply)
{
	struct size_ask *a = (struct size_ask *)r;
	struct cache *c = r->cache;

	(void)reply;
	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, a->ino);
	if (n != NULL)
		size_asked_locked(n);
	(void)pthread_mutex_unlock(&c->lock);
	a->done(a->arg);
	free(a);
}

bool cache_size_ask(struct cache *c, uint64_t ino, void (*done)(void *arg), void *arg)
{
	struct size_ask *a = calloc(1, sizeof(*a));

	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, ino);
	bool asks = n != NULL && size_asks_locked(c, n);
	if (asks && a == NULL)
		size_asked_locked(n);
	(void)pthread_mutex_unlock(&c->lock);
	if (!asks || a == NULL) {
		free(a);
		return false;
	}
	a->ino = ino;
	a->req.done = asked;
	a->req.own = true;
	a->done = done;
	a->arg = arg;
	MSG_SET(&a->req.call.req, op, MSG_GETATTR);
	cache_submit(c, &a->req, ino, 0);
	return true;
}
