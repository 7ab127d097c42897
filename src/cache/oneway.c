/* Messages without a reply: references and open files that go back to the server. */
#include <stdlib.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"

#define ITEM_MAX 20 /* bytes of one item of a sequence */

struct oneway {
	struct call call;
	unsigned char *data;
};

static void oneway_sent(struct call *call)
{
	struct oneway *o = (struct oneway *)call;

	free(o->data);
	free(o);
}

static struct oneway *oneway_new(enum msg_op op)
{
	struct oneway *o = calloc(1, sizeof(*o));

	if (o != NULL) {
		o->call.sent = oneway_sent;
		MSG_SET(&o->call.req, op, op);
	}
	return o;
}

/* Takes over what has gathered. Without memory the server keeps what it has until the end. */
static void send_heap(struct cache *c, enum msg_op op, struct heap *h)
{
	struct oneway *o = h->len > 0 ? oneway_new(op) : NULL;

	if (o == NULL) {
		free(h->data);
		return;
	}
	o->data = h->data;
	MSG_SET(&o->call.req, payload, ((struct slice){h->data, h->len}));
	c->backend->ops->submit(c->backend, &o->call);
}

static unsigned char *heap_room(struct heap *h)
{
	if (h->cap - h->len < ITEM_MAX) {
		size_t cap = h->cap == 0 ? 256 : h->cap * 2;
		unsigned char *p = cap > MSG_PAYLOAD_MAX ? NULL : realloc(h->data, cap);

		if (p == NULL)
			return NULL;
		h->data = p;
		h->cap = cap;
	}
	return h->data + h->len;
}

void cache_give_back_locked(struct cache *c, uint64_t server, uint64_t n)
{
	unsigned char *p = heap_room(&c->forgets);

	if (p != NULL)
		c->forgets.len += c->backend->sequences->put_pair(server, n, p, ITEM_MAX);
}

void cache_close_locked(struct cache *c, uint64_t fh)
{
	unsigned char *p = heap_room(&c->closes);

	if (p != NULL)
		c->closes.len += c->backend->sequences->put_uint(fh, p, ITEM_MAX);
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

static struct heap take_heap(struct heap *h)
{
	struct heap taken = *h;

	*h = (struct heap){0};
	return taken;
}

void cache_forget_flush(struct cache *c)
{
	(void)pthread_mutex_lock(&c->lock);
	struct heap forgets = take_heap(&c->forgets), closes = take_heap(&c->closes);
	(void)pthread_mutex_unlock(&c->lock);
	send_heap(c, MSG_CLOSE, &closes);
	send_heap(c, MSG_FORGET, &forgets);
}

void cache_forget(struct cache *c, uint64_t ino, uint64_t n)
{
	SCOPE_LOCK(&c->lock);
	struct node *node = node_find_locked(c, ino);

	if (node == NULL)
		return;
	node->nlookup -= n < node->nlookup ? n : node->nlookup;
	if (node->nlookup == 0) {
		node->flags &= ~(uint32_t)NODE_KERNEL_DATA;
		idle_close_locked(c, node);
		node_check_locked(c, node);
	}
}

void cache_undo_lookup(struct cache *c, uint64_t ino)
{
	cache_forget(c, ino, 1);
	cache_forget_flush(c);
}

void cache_close(struct cache *c, uint64_t ino, uint64_t fh, bool again)
{
	(void)pthread_mutex_lock(&c->lock);
	struct node *n = again && c->leased ? node_find_locked(c, ino) : NULL;
	if (n != NULL && n->attr.nlink > 0 && node_fresh_locked(c, n, cache_now())) {
		idle_keep_locked(c, n, fh, 0);
	} else {
		cache_close_locked(c, fh);
		n = node_find_locked(c, ino);
		if (n == NULL || node_may_be_gone(n))
			space_moves_locked(c);
	}
	(void)pthread_mutex_unlock(&c->lock);
	cache_forget_flush(c);
}
