/*
 * Messages without a reply: references and open files that go back to the server.
 *
 * What is given back under the cache's lock gathers in a message, and in further ones when that
 * is full, until somebody sends them without the lock. So none of it is lost, however much comes at
 * once; the kernel's own forgets are sent as soon as a message is full.
 */
#include <malloc.h>
#include <stdlib.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"
#include "core/log.h"

#define ITEM_MAX   20		/* bytes of one item of a sequence */
#define BYTES_MIN  256		/* of a message's payload, doubled */
#define TRIM_AFTER 4096		/* nodes that were freed, and as many as are left */
#define BYTES_MAX  (256u << 10) /* up to this */

struct oneway {
	struct call call;
	struct oneway *next; /* which is full */
	size_t len, cap;
	unsigned char data[];
};

static void oneway_sent(struct call *call)
{
	free(call);
}

/* Without memory the server keeps the thing until the session ends. */
static struct oneway *grown(struct oneway *o, size_t cap)
{
	struct oneway *p = realloc(o, sizeof(*p) + cap);

	if (p == NULL)
		return NULL;
	if (o == NULL)
		*p = (struct oneway){.len = 0};
	p->cap = cap;
	return p;
}

static unsigned char *room(struct oneway **at)
{
	struct oneway *o = *at;

	if (o == NULL || (o->cap - o->len < ITEM_MAX && o->cap >= BYTES_MAX)) {
		o = grown(NULL, BYTES_MIN);
		if (o != NULL)
			o->next = *at;
	} else if (o->cap - o->len < ITEM_MAX) {
		o = grown(o, o->cap * 2);
	}
	if (o == NULL) {
		log_err("no memory to give something back to the server");
		return NULL;
	}
	*at = o;
	return o->data + o->len;
}

void cache_give_back_locked(struct cache *c, uint64_t server, uint64_t n)
{
	unsigned char *p = room(&c->forgets);

	if (p != NULL)
		c->forgets->len += c->backend->sequences->put_pair(server, n, p, ITEM_MAX);
}

void cache_close_locked(struct cache *c, uint64_t fh)
{
	unsigned char *p = room(&c->closes);

	if (p != NULL)
		c->closes->len += c->backend->sequences->put_uint(fh, p, ITEM_MAX);
}

static bool is_full(const struct oneway *o)
{
	return o != NULL && (o->next != NULL || o->cap >= BYTES_MAX);
}

bool outbox_full_locked(const struct cache *c)
{
	return is_full(c->forgets) || is_full(c->closes);
}

static void send(struct cache *c, enum msg_op op, struct oneway *o)
{
	for (struct oneway *next; o != NULL; o = next) {
		next = o->next;
		o->call.sent = oneway_sent;
		MSG_SET(&o->call.req, op, op);
		MSG_SET(&o->call.req, payload, ((struct slice){o->data, o->len}));
		c->backend->ops->submit(c->backend, &o->call);
	}
}

void outbox_done(struct cache *c)
{
	struct oneway *const all[] = {c->forgets, c->closes};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (struct oneway *o = all[i], *next; o != NULL; o = next) {
			next = o->next;
			free(o);
		}
	}
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
 * What a walk has left is scattered over the heap, which would keep it. It goes back to the system
 * when as many nodes have gone as are left: so that costs little per node.
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
	struct oneway *forgets = TAKE_PTR(c->forgets), *closes = TAKE_PTR(c->closes);
	bool trim = trim_due_locked(c);
	(void)pthread_mutex_unlock(&c->lock);
	send(c, MSG_CLOSE, closes);
	send(c, MSG_FORGET, forgets);
	if (trim)
		(void)malloc_trim(0);
}
