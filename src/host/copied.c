#include "host/copied.h"

#include <errno.h>

#include "host/hnode.h"
#include "host/promise.h"
#include "host/slots.h"
#include "transport/codec.h"

/* A node that the first session does not hold any more is ESTALE: the guest looks it up by name. */
static void copy_node(struct session *s, struct session *from, uint64_t id, uint64_t n)
{
	struct stamp none = {0};
	struct hnode *node;

	if (n == 0 || promise_node(session_promises(from), id, 0, &none, &node) < 0)
		return;
	if (promise_tell(session_promises(s), node, 0, &none) == 0)
		promise_recount(session_promises(s), id, n - 1);
	hnode_unref(session_handles(s)->nodes, node);
}

static void copy_file(struct session *s, struct session *from, uint64_t fh)
{
	struct handle *h = handle_get(session_handles(from), fh);

	if (h == NULL)
		return;
	/* As OPEN asks: the host may have moved the file out since. */
	if (hnode_inside(session_handles(from)->nodes, h->node, h->fd) == 0)
		(void)handle_copy(session_handles(s), session_export(s), h, fh);
	handle_put(session_handles(from), h);
}

static int take_item(struct session *s, struct session *from, uint64_t type, struct slice *in,
		     struct copied *c)
{
	uint64_t a, b;
	int r = type == RESUME_FILES ? codec_get_uint(in, &a) : codec_get_pair(in, &a, &b);

	if (r != 1)
		return r;
	if (type == RESUME_NODES)
		copy_node(s, from, a, b);
	else if (type == RESUME_FILES)
		copy_file(s, from, a);
	else if (a >= SESSION_SLOTS)
		return -EPROTO;
	else if (type == RESUME_SLOTS && slots_last_use(session_slots(from), a) < b)
		c->len += codec_put_pair(a, b, c->fresh + c->len, sizeof(c->fresh) - c->len);
	return 1;
}

int copied_resume(struct session *s, struct session *from, const struct msg *q, struct copied *c,
		  const char **ret_why)
{
	struct slice in = q->payload;
	int r;

	*ret_why = "RESUME: not a sequence of what its type says";
	if (q->type > RESUME_USED)
		return -EPROTO;
	while ((r = take_item(s, from, q->type, &in, c)) == 1)
		;
	return r < 0 ? r : (q->flags & RESUME_LAST) != 0;
}
