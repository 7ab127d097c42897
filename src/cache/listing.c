#include "cache/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"

/* The first batch serves most directories; a large one is fetched in fewer, larger ones. */
#define BATCH_FIRST (32u << 10)

struct listing {
	struct cache *cache;
	struct listing *prev, *next; /* cache.lock */
	uint64_t ino;
	pthread_mutex_t lock; /* before cache.lock */
	size_t want;	      /* bytes of the next batch */
	bool fetching;
	bool closed;		 /* freed while fetching: its caller was killed */
	unsigned char *incoming; /* where its payload goes */

	/* The batch. */
	unsigned char *data;
	struct slice rest; /* entries not taken yet */
	size_t len;
	uint64_t start, at;  /* offset before the first entry, and before the rest */
	bool valid, end;     /* end: nothing follows the batch */
	uint64_t submitted;  /* generation clock of its request */
	uint64_t arrived;    /* when it came: what it tells ages from then on */
	struct node **nodes; /* per entry, held; NULL where it has none */
	size_t count, index; /* entries, and the index of the first in rest */
};

int listing_new(struct cache *c, uint64_t ino, struct listing **ret)
{
	struct listing *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return -ENOMEM;
	l->cache = c;
	l->ino = ino;
	l->want = BATCH_FIRST;
	(void)pthread_mutex_init(&l->lock, NULL);
	SCOPE_LOCK(&c->lock);
	l->next = c->listings;
	if (l->next != NULL)
		l->next->prev = l;
	c->listings = l;
	*ret = l;
	return 0;
}

static void drop_batch(struct listing *l)
{
	struct cache *c = l->cache;

	(void)pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < l->count; i++)
		node_put_locked(c, l->nodes[i]);
	(void)pthread_mutex_unlock(&c->lock);
	free(l->nodes);
	free(l->data);
	l->nodes = NULL;
	l->data = NULL;
	l->count = 0;
	l->valid = false;
}

static void destroy(struct listing *l)
{
	struct cache *c = l->cache;

	drop_batch(l);
	(void)pthread_mutex_lock(&c->lock);
	*(l->prev != NULL ? &l->prev->next : &c->listings) = l->next;
	if (l->next != NULL)
		l->next->prev = l->prev;
	(void)pthread_mutex_unlock(&c->lock);
	free(l->incoming);
	(void)pthread_mutex_destroy(&l->lock);
	free(l);
}

void listing_free(struct listing *l)
{
	if (l == NULL)
		return;
	(void)pthread_mutex_lock(&l->lock);
	struct cache *c = l->fetching ? NULL : l->cache;
	l->closed = true;
	(void)pthread_mutex_unlock(&l->lock);
	if (c == NULL)
		return; /* the completion frees it */
	destroy(l);
	cache_forget_flush(c);
}

void listings_free(struct cache *c)
{
	while (c->listings != NULL)
		destroy(c->listings);
}

void listing_lock(struct listing *l)
{
	(void)pthread_mutex_lock(&l->lock);
}

void listing_unlock(struct listing *l)
{
	(void)pthread_mutex_unlock(&l->lock);
}

/* Moves to the entry that follows off, within the batch. */
static bool seek_in_batch(struct listing *l, uint64_t off)
{
	if (off == l->at)
		return true;
	struct slice in = {l->data, l->len};
	struct dir_entry e;
	size_t i = 0;
	uint64_t at = l->start;

	while (at != off) {
		if (l->cache->backend->sequences->get_entry(&in, &e) != 1)
			return false;
		at = e.off;
		i++;
	}
	l->rest = in;
	l->index = i;
	l->at = off;
	return true;
}

/* Fills in what the kernel may keep of an entry; leaves ino 0 if that is nothing. */
static void entry_attributes(struct listing *l, const struct dir_entry *e,
			     struct listing_entry *ret)
{
	struct cache *c = l->cache;
	struct node *n = l->nodes[l->index];
	uint64_t age = cache_now() - l->arrived;

	SCOPE_LOCK(&c->lock);
	struct node *dir = node_get_locked(c, l->ino);
	bool fresh = dir != NULL && dir->names_bumped <= l->submitted && age < c->options.attr_ttl;
	node_put_locked(c, dir);
	if (!fresh || n->bumped > l->submitted || e->attr.version < n->attr.version)
		return;
	ret->ino = n->id;
	ret->attr = e->attr;
	ret->attr_ttl = c->options.attr_ttl - age;
	ret->entry_ttl = age < c->options.entry_ttl ? c->options.entry_ttl - age : 0;
}

int listing_peek(struct listing *l, uint64_t off, bool plus, struct listing_entry *ret)
{
	struct dir_entry e;

	if (!l->valid || !seek_in_batch(l, off))
		return -EAGAIN;
	struct slice in = l->rest;
	int r = l->cache->backend->sequences->get_entry(&in, &e);
	if (r < 0)
		return r;
	if (r == 0)
		return l->end ? 0 : -EAGAIN;
	*ret = (struct listing_entry){
		.name = e.name, .off = e.off, .type = e.type, .server_ino = e.ino};
	if (plus && e.node != 0 && l->nodes[l->index] != NULL)
		entry_attributes(l, &e, ret);
	return 1;
}

void listing_take(struct listing *l, const struct listing_entry *e)
{
	struct dir_entry passed;

	(void)l->cache->backend->sequences->get_entry(&l->rest, &passed);
	if (e->ino != 0) {
		SCOPE_LOCK(&l->cache->lock);
		l->nodes[l->index]->nlookup++;
	}
	l->index++;
	l->at = e->off;
}

static bool name_valid(struct slice name)
{
	return name.len > 0 && name.len <= MSG_NAME_MAX &&
	       memchr(name.data, '/', name.len) == NULL &&
	       memchr(name.data, '\0', name.len) == NULL;
}

/*
 * Checks the batch that arrived, and takes the references that it brought.
 * The server counted each entry with a node, so that a malformed tail leaks
 * references at the server only until the session ends.
 */
static int install_batch(struct listing *l, size_t len)
{
	struct cache *c = l->cache;
	struct slice in = {l->data, len};
	struct dir_entry e;
	size_t cap = 0;
	int r;

	SCOPE_LOCK(&c->lock);
	while ((r = c->backend->sequences->get_entry(&in, &e)) == 1) {
		if (!name_valid(e.name))
			return -EPROTO;
		if (l->count == cap) {
			cap = cap == 0 ? 64 : cap * 2;
			struct node **p = realloc(l->nodes, cap * sizeof(*p));
			if (p == NULL)
				return -ENOMEM;
			l->nodes = p;
		}
		struct node *n = e.node != 0 ? node_named_locked(c, e.node) : NULL;
		if (n != NULL)
			(void)node_install_locked(c, n, &e.attr, l->submitted);
		l->nodes[l->count++] = n;
	}
	return r;
}

static void fetched(struct cache_req *r, const struct cache_reply *reply)
{
	struct listing *l = r->listing;
	struct cache_reply out = *reply;

	(void)pthread_mutex_lock(&l->lock);
	unsigned char *data = TAKE_PTR(l->incoming);
	l->fetching = false;
	if (reply->err == 0) {
		const struct slice payload = reply->msg->payload;

		l->data = data;
		l->len = payload.len;
		l->rest = payload;
		l->index = 0;
		l->at = l->start;
		l->end = (reply->msg->flags & READDIR_END) != 0 || payload.len == 0;
		l->submitted = r->submitted;
		l->arrived = cache_now();
		int e = payload.data == data ? install_batch(l, payload.len) : -EPROTO;
		l->valid = e == 0;
		out.err = -e;
	} else {
		free(data);
	}
	bool closed = l->closed;
	(void)pthread_mutex_unlock(&l->lock);
	if (closed)
		destroy(l);
	r->listing_done(r, &out);
}

void listing_fetch(struct listing *l, struct cache_req *r, uint64_t off, bool plus)
{
	struct cache_reply failed = {0};

	(void)pthread_mutex_lock(&l->lock);
	if (l->fetching)
		failed.err = EBUSY;
	else {
		drop_batch(l);
		l->incoming = malloc(l->want);
		failed.err = l->incoming == NULL ? ENOMEM : 0;
	}
	if (failed.err == 0) {
		l->fetching = true;
		l->start = off;
		r->listing = l;
		r->listing_done = r->done;
		r->done = fetched;
		r->call.dest = l->incoming;
		r->call.dest_len = l->want;
		MSG_SET(&r->call.req, op, MSG_READDIRPLUS);
		MSG_SET(&r->call.req, off, off);
		MSG_SET(&r->call.req, size, l->want);
		if (!plus || l->cache->options.attr_ttl == 0) /* nobody would keep them */
			MSG_SET(&r->call.req, flags, READDIR_PLAIN);
		if (l->want < MSG_PAYLOAD_MAX)
			l->want *= 2;
	}
	(void)pthread_mutex_unlock(&l->lock);
	if (failed.err != 0)
		r->done(r, &failed);
	else
		cache_submit(l->cache, r, l->ino, 0);
}
