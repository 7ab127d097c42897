/*
 * Messages without a reply: references and open files that go back to the server.
 *
 * References that are given back under the cache's lock gather in pieces of 4 KiB, until somebody
 * sends them without the lock: then as many as fit become one message. So none of it is lost,
 * however much comes at once; the kernel's own forgets are sent as soon as a message is full.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "cache/opens.h"
#include "cache/outbox.h"
#include "core/cleanup.h"
#include "core/log.h"

#define ITEM_MAX   20		/* bytes of one item of a sequence */
#define PIECE	   4096		/* bytes that are allocated for one */
#define TRIM_AFTER 4096		/* nodes that were freed, and as many as are left */
#define BYTES_MAX  (256u << 10) /* of a message's payload */

struct piece {
	struct piece *next; /* which is full */
	size_t len, count;  /* bytes; pieces, with those behind it */
	unsigned char data[];
};

#define PIECE_MAX  (PIECE - sizeof(struct piece))
#define PIECES_MAX (BYTES_MAX / PIECE_MAX) /* of one message */

struct oneway {
	struct call call;
	unsigned char data[];
};

static void oneway_sent(struct call *call)
{
	free(call);
}

/* Without memory the server keeps the thing until the session ends. */
static unsigned char *room(struct piece **at)
{
	struct piece *p = *at;

	if (p != NULL && PIECE_MAX - p->len >= ITEM_MAX)
		return p->data + p->len;
	p = malloc(PIECE);
	if (p == NULL) {
		log_err("no memory to give something back to the server");
		return NULL;
	}
	*p = (struct piece){.next = *at, .count = *at != NULL ? (*at)->count + 1 : 1};
	*at = p;
	return p->data;
}

void cache_give_back_locked(struct cache *c, uint64_t server, uint64_t n)
{
	unsigned char *p = room(&c->forgets);

	if (p != NULL)
		c->forgets->len += c->backend->sequences->put_pair(server, n, p, ITEM_MAX);
}

void outbox_close_locked(struct cache *c, uint64_t server)
{
	unsigned char *p = room(&c->closes);

	if (p != NULL)
		c->closes->len += c->backend->sequences->put_uint(server, p, ITEM_MAX);
}

void cache_close_locked(struct cache *c, uint64_t fh)
{
	uint64_t server = opens_take_locked(c, fh);

	if (server != 0)
		outbox_close_locked(c, server);
}

static bool is_full(const struct piece *p)
{
	return p != NULL && p->count >= PIECES_MAX;
}

bool outbox_full_locked(const struct cache *c)
{
	return is_full(c->forgets) || is_full(c->closes);
}

static struct piece *oldest_first(struct piece *p)
{
	struct piece *first = NULL;

	for (struct piece *next; p != NULL; p = next) {
		next = p->next;
		p->next = first;
		first = p;
	}
	return first;
}

/* The first pieces in one message, NULL without memory for it; *at becomes what follows them. */
static struct oneway *join(struct piece **at)
{
	struct piece *p = *at;
	size_t n = 0, len = 0;

	for (const struct piece *i = p; i != NULL && n < PIECES_MAX; i = i->next, n++)
		len += i->len;
	struct oneway *o = malloc(sizeof(*o) + len);
	len = 0;
	for (struct piece *next; n > 0; n--, p = next) {
		next = p->next;
		if (o != NULL)
			memcpy(o->data + len, p->data, p->len);
		len += p->len;
		free(p);
	}
	*at = p;
	if (o == NULL) {
		log_err("no memory to give something back to the server");
		return NULL;
	}
	o->call = (struct call){.sent = oneway_sent};
	MSG_SET(&o->call.req, payload, ((struct slice){o->data, len}));
	return o;
}

static void send(struct cache *c, enum msg_op op, struct piece *p)
{
	p = oldest_first(p);
	while (p != NULL) {
		struct oneway *o = join(&p);

		if (o == NULL)
			continue;
		MSG_SET(&o->call.req, op, op);
		c->backend->ops->submit(c->backend, &o->call);
	}
}

static void drop(struct piece *p)
{
	for (struct piece *next; p != NULL; p = next) {
		next = p->next;
		free(p);
	}
}

void outbox_done(struct cache *c)
{
	drop(TAKE_PTR(c->forgets));
	drop(TAKE_PTR(c->closes));
}

void outbox_stop(struct cache *c)
{
	(void)pthread_mutex_lock(&c->outbox);
	SCOPE_LOCK(&c->lock);
	outbox_done(c);
}

void outbox_go_on(struct cache *c)
{
	(void)pthread_mutex_unlock(&c->outbox);
}

/* From giving the last reference, or open file, of something to when its blocks are free for sure.
 */
#define SPACE_SETTLES UINT64_C(1000000000) /* ns */

void space_moves_locked(struct cache *c)
{
	c->space_settles = cache_now() + SPACE_SETTLES;
}

bool space_settled_locked(struct cache *c, uint64_t now)
{
	if (c->space_settles == 0)
		return true;
	if (now < c->space_settles)
		return false;
	c->space_settles = 0;
	c->space_changed = ++c->clock;
	return true;
}

/*
 * The memory that the nodes of a walk leave is scattered over the heap, which would keep it. The
 * heap is trimmed when as many nodes have gone as are left: so that costs little per node.
 */
static bool trim_due_locked(struct cache *c)
{
	if (c->freed < TRIM_AFTER + c->node_count)
		return false;
	c->freed = 0;
	hash_trim(&c->by_server);
	hash_trim(&c->names);
	return true;
}

void cache_forget_flush(struct cache *c)
{
	(void)pthread_mutex_lock(&c->lock);
	bool some = c->forgets != NULL || c->closes != NULL, trim = trim_due_locked(c);
	(void)pthread_mutex_unlock(&c->lock);
	if (some) {
		SCOPE_LOCK(&c->outbox);
		(void)pthread_mutex_lock(&c->lock);
		struct piece *forgets = TAKE_PTR(c->forgets), *closes = TAKE_PTR(c->closes);
		(void)pthread_mutex_unlock(&c->lock);
		send(c, MSG_CLOSE, closes);
		send(c, MSG_FORGET, forgets);
	}
	if (trim)
		(void)malloc_trim(0);
}
