#include "cache/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>

#include "cache/attrs.h"
#include "cache/in_kernel.h"
#include "cache/in_kernel_names.h"
#include "cache/in_kernel_size.h"
#include "cache/listing_priv.h"
#include "cache/names.h"
#include "cache/node.h"
#include "cache/pages.h"
#include "cache/stamps.h"
#include "cache/timed.h"
#include "core/cleanup.h"

/* The first batch serves most directories; a large one is fetched in fewer, larger ones. */
#define BATCH_FIRST (32u << 10)
#define PART_MAX    64u /* entries of a batch that are installed under one hold of the lock */
#define BATCH_LEAPT (4u << 10) /* where nobody knows whether the reader goes on */

struct listing {
	struct cache *cache;
	struct listing *prev, *next; /* cache.lock */
	uint64_t ino;
	pthread_mutex_t lock; /* before cache.lock */
	size_t batch_size;    /* bytes of the next batch */
	uint64_t stands;      /* behind the last entry that was taken */
	bool fetching;
	bool closed;		 /* freed while fetching: its caller was killed */
	unsigned char *incoming; /* where its payload goes */

	/* The batch. */
	unsigned char *data;
	struct slice rest; /* entries not taken yet */
	size_t len;
	uint64_t start, at;  /* offset before the first entry, and before the rest */
	bool cached;	     /* the entry that was peeked at is the cache's, not the batch's */
	bool fresh;	     /* it has just come: true at a moment of this very request */
	bool valid, end;     /* end: nothing follows the batch */
	bool own;	     /* no reader has asked for it: the kernel keeps no look-up away */
	uint64_t submitted;  /* generation clock of its request */
	uint64_t arrived;    /* when it came: what it tells ages from then on */
	struct msg stamp;    /* of the reply: its stamp, if it has one */
	struct node **nodes; /* per entry, held; NULL where it has none */
	size_t count, index; /* entries, and the index of the first in rest */

	/* Where a listing from the cache goes on: before cursor, if dir.changes is still the same.
	 */
	struct dentry *cursor;
	uint64_t cursor_off;
	uint32_t cursor_changes;
	char name[MSG_NAME_MAX]; /* of the entry that was peeked at */
	struct node *held;	 /* its node, until it is taken or not */

	/* The listing that is put together from batches: see dir.build. */
	uint8_t build;
	uint64_t build_off;
};

int listing_new(struct cache *c, uint64_t ino, struct listing **ret)
{
	struct listing *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return -ENOMEM;
	l->cache = c;
	l->ino = ino;
	l->batch_size = BATCH_FIRST;
	(void)pthread_mutex_init(&l->lock, NULL);
	SCOPE_LOCK(&c->lock);
	l->next = c->listings;
	if (l->next != NULL)
		l->next->prev = l;
	c->listings = l;
	*ret = l;
	return 0;
}

static bool building(const struct listing *l, const struct dir *dir)
{
	return l->build != 0 && dir->build == l->build;
}

/* Nobody will put it together to the end. */
static void build_give_up_locked(struct listing *l)
{
	struct node *n = node_find_locked(l->cache, l->ino);
	struct dir *dir = n != NULL ? dir_if_any(n) : NULL;

	if (dir != NULL && building(l, dir))
		dir->build = 0;
	l->build = 0;
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
	build_give_up_locked(l);
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

static void release(struct listing *l)
{
	if (l->held == NULL)
		return;
	SCOPE_LOCK(&l->cache->lock);
	node_put_locked(l->cache, TAKE_PTR(l->held));
}

void listing_unlock(struct listing *l)
{
	release(l);
	l->fresh = false;
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

/* The attributes that a listing may tell of a node under a promise; notes that the kernel holds
 * its name. */
static void promised_attributes(struct cache *c, struct dentry *d, struct node *n, uint64_t now,
				struct listing_entry *ret)
{
	uint64_t until = (uint64_t)d->until << TICK_SHIFT;

	if (!node_fresh_locked(c, n, now) || now >= until)
		return;
	if (pages_to_drop(n) || !size_is_told_locked(n, n->attr.size))
		return; /* see cache_reply.hold, cache_reply.size_first */
	ret->ino = n->id;
	node_attr(n, &ret->attr);
	ret->attr_ttl = n->attr_until - now;
	ret->entry_ttl = until - now;
	name_told_locked(d, true);
}

/* Fills in what the kernel may keep of an entry; leaves ino 0 if that is nothing. */
static void entry_attributes(struct listing *l, const struct dir_entry *e,
			     struct listing_entry *ret)
{
	struct cache *c = l->cache;
	struct node *n = l->nodes[l->index];
	uint64_t now = cache_now(), age = now - l->arrived, ttl = c->options.ttl.attr;

	SCOPE_LOCK(&c->lock);
	struct node *dir = node_find_locked(c, l->ino);
	if (dir == NULL)
		return;
	if (c->leased && MSG_HAS(&l->stamp, stamp)) {
		struct dentry *d = name_find_locked(c, dir, e->name.data, e->name.len);

		if (d != NULL && d->kind == NAME_NODE && d->id == n->id)
			promised_attributes(c, d, n, now, ret);
		return;
	}
	if (node_names_bumped_since(dir, l->submitted) || age >= ttl ||
	    l->submitted < c->timed.dropped || node_bumped_since(n, l->submitted) ||
	    e->attr.version < n->attr.version || node_other_type(n, &e->attr) ||
	    !size_is_told_locked(n, e->attr.size))
		return;
	ret->ino = n->id;
	ret->attr = e->attr;
	ret->attr_ttl = ttl - age;
	timed_node_locked(c, n);
	ttl = age < c->options.ttl.entry ? c->options.ttl.entry - age : 0;
	if (ttl > 0 && !name_opens(c, e->attr.mode) &&
	    timed_name_locked(c, dir, e->name.data, e->name.len, S_ISDIR(e->attr.mode), ttl))
		ret->entry_ttl = ttl;
}

/* ---- from the cache ---- */

static bool listing_complete_locked(const struct cache *c, const struct node *n, uint64_t now)
{
	return S_ISDIR(n->attr.mode) && n->dir != NULL && n->dir->complete && n->dir->ordered &&
	       now < n->dir->until && now < c->lease_until;
}

/*
 * The dentry at or behind which the listing goes on after off. An offset that none has was
 * never told: where they ascend, as those of ext4, XFS and Btrfs do, the listing goes on where
 * it would on the host. False: they do not.
 */
static bool find_cursor(const struct listing *l, const struct dir *dir, uint64_t off,
			struct dentry **ret)
{
	struct dentry *above = NULL;
	uint64_t last = 0;
	bool ascend = true;

	*ret = off != 0 ? l->cursor : dir->first;
	if (off == 0 || (l->cursor_off == off && l->cursor_changes == dir->changes))
		return true;
	for (struct dentry *d = dir->first; d != NULL; d = d->next) {
		if (d->kind == NAME_ABSENT)
			continue;
		if (d->off == off) {
			*ret = d->next;
			return true;
		}
		if (above == NULL && d->off > off)
			above = d;
		ascend = ascend && d->off > last;
		last = d->off;
	}
	*ret = above != NULL ? above->next : NULL;
	return ascend;
}

bool listing_rewind(struct listing *l)
{
	struct cache *c = l->cache;

	if (!c->leased)
		return false;
	SCOPE_LOCK(&l->lock);
	SCOPE_LOCK(&c->lock);
	const struct node *node = node_find_locked(c, l->ino);
	l->valid = false;
	bool yes = node != NULL && listing_complete_locked(c, node, cache_now());
	if (yes)
		stats_add(c->options.stats, STAT_cache_listing_hits, 1);
	return yes;
}

static int peek_cached(struct listing *l, uint64_t off, bool plus, struct listing_entry *ret)
{
	struct cache *c = l->cache;
	uint64_t now = cache_now();
	struct dentry *d;

	if (!c->leased)
		return -EAGAIN;
	SCOPE_LOCK(&c->lock);
	struct node *node = node_find_locked(c, l->ino);
	if (node == NULL || !listing_complete_locked(c, node, now) ||
	    !find_cursor(l, node->dir, off, &d))
		return -EAGAIN;
	while (d != NULL && d->kind == NAME_ABSENT)
		d = d->next;
	struct node *n = d != NULL && d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;
	if (d != NULL && n == NULL && d->kind != NAME_LISTED)
		return -EAGAIN;
	kernel_data_noted_locked(node);
	l->cursor_changes = node->dir->changes;
	l->cursor_off = d != NULL ? d->off : off;
	l->cursor = d != NULL ? d->next : NULL;
	if (d == NULL)
		return 0;
	memcpy(l->name, d->name, d->len);
	*ret = (struct listing_entry){.name = {l->name, d->len},
				      .off = d->off,
				      .type = d->type,
				      .server_ino = n != NULL ? n->attr.ino : d->ino};
	if (plus && n != NULL) {
		promised_attributes(c, d, n, now, ret);
		n->refs++;
		l->held = n;
	}
	return 1;
}

/* ---- an entry at a time ---- */

/* A batch that was promised, and is not true any more, is not told either. */
static bool batch_outdated(const struct listing *l)
{
	struct cache *c = l->cache;

	if (!c->leased || !MSG_HAS(&l->stamp, stamp))
		return false;
	SCOPE_LOCK(&c->lock);
	struct node *dir = node_find_locked(c, l->ino);
	if (dir == NULL)
		return false;
	kernel_data_noted_locked(dir);
	return l->stamp.stamp < c->floor_seq ||
	       !stamp_good_listing_locked(c, &l->stamp, dir->server);
}

int listing_peek(struct listing *l, uint64_t off, bool plus, struct listing_entry *ret)
{
	struct dir_entry e;

	release(l);
	int r = peek_cached(l, off, plus, ret);

	l->cached = r != -EAGAIN;
	if (l->cached)
		return r;
	if (!l->valid || !seek_in_batch(l, off) || (!l->fresh && batch_outdated(l)))
		return -EAGAIN;
	struct slice in = l->rest;
	r = l->cache->backend->sequences->get_entry(&in, &e);
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

	if (e->ino != 0) {
		SCOPE_LOCK(&l->cache->lock);
		struct node *n = node_find_locked(l->cache, e->ino);

		if (n != NULL)
			node_told_locked(l->cache, n);
	}
	l->stands = e->off;
	if (l->cached)
		return;
	(void)l->cache->backend->sequences->get_entry(&l->rest, &passed);
	l->index++;
	l->at = e->off;
}

/* ---- putting a complete listing together ---- */

static void build_begin(struct listing *l, struct dir *dir)
{
	dir->last_build = (uint8_t)(dir->last_build % 127 + 1);
	dir->build = l->build = dir->last_build;
	dir->ordered = false;
	l->build_off = 0;
}

/* The whole directory was seen, and nothing happened to it meanwhile. */
static void build_end(struct cache *c, struct listing *l, struct dir *dir)
{
	bool ordered = true;

	for (struct dentry *d = dir->first, *next; d != NULL; d = next) {
		next = d->next;
		if (d->build == l->build || d->kind == NAME_ABSENT)
			continue;
		if (name_kernel_holds_locked(c, d))
			ordered = false; /* the kernel is still to hear that it is gone */
		else
			name_remove_locked(c, d);
	}
	dir->complete = dir->ordered = ordered;
	dir->until = cache_now() + c->options.cap.dir;
	dir->build = l->build = 0;
}

/* The kernel holds the name as something else: nobody would know of that any more. */
static void tell_moved(struct cache *c, struct node *dir, struct slice name, const struct node *n)
{
	const struct dentry *d = name_find_locked(c, dir, name.data, name.len);

	if (d != NULL && (d->kind != NAME_NODE || d->id != n->id) && name_kernel_holds_locked(c, d))
		name_take_back_locked(c, dir, d->name, d->len, d);
}

static void install_entry(struct cache *c, struct listing *l, struct node *dir,
			  const struct dir_entry *e, struct node *n)
{
	if (n != NULL)
		tell_moved(c, dir, e->name, n);
	struct dentry *d = n != NULL ? name_set_node_locked(c, dir, e->name.data, e->name.len, n)
				     : name_set_listed_locked(c, dir, e->name.data, e->name.len,
							      e->ino, (uint8_t)e->type);

	if (d == NULL) {
		build_give_up_locked(l);
		return;
	}
	d->off = e->off;
	if (building(l, dir->dir)) {
		d->build = l->build & 0x7fu;
		name_to_end_locked(d);
	}
}

/* The node of an entry, with what the reply tells of it; NULL: there is none. */
static struct node *install_node(struct listing *l, const struct dir_entry *e)
{
	struct cache *c = l->cache;
	struct node *n = e->node != 0 ? node_named_locked(c, e->node) : NULL;

	if (n == NULL)
		return NULL;
	bool good = stamp_good_node_locked(c, &l->stamp, e->node);

	node_identify(n, &e->attr);
	if (c->leased)
		node_compare_locked(c, n, &e->attr);
	if (good || !c->leased || !MSG_HAS(&l->stamp, stamp))
		(void)node_install_locked(c, n, &e->attr, node_bumped_since(n, l->submitted), good);
	return n;
}

/* Whether what the batch says of the names in dir may be kept. */
static bool names_promised(const struct listing *l, struct node *dir)
{
	return dir != NULL && dir_of_locked(dir) != NULL &&
	       (l->own ? dir->dir->looked : dir->dir->listed) <= l->submitted &&
	       stamp_good_listing_locked(l->cache, &l->stamp, dir->server) &&
	       !node_names_bumped_since(dir, l->submitted);
}

/* Up to PART_MAX entries of the batch. 1: there may be more; 0: there are none; or an error. */
static int install_part(struct listing *l, struct slice *in, struct node *dir)
{
	struct cache *c = l->cache;
	struct dir_entry e;
	int r = 1;

	SCOPE_LOCK(&c->lock);
	bool promised = names_promised(l, dir);
	if (promised)
		*(l->own ? &dir->dir->listed : &dir->dir->looked) = ++c->clock;
	bool first = l->count == 0;
	if (promised && first && l->start == 0)
		build_begin(l, dir->dir);
	else if (!promised || (first && l->build_off != l->start))
		build_give_up_locked(l);
	for (size_t end = l->count + PART_MAX; l->count < end; l->build_off = e.off) {
		r = c->backend->sequences->get_entry(in, &e);
		if (r != 1)
			break;
		if (!msg_name_valid(e.name))
			return -EPROTO;
		struct node *n = install_node(l, &e);
		l->nodes[l->count++] = n;
		if (promised)
			install_entry(c, l, dir, &e, n);
	}
	if (r == 0 && l->end && promised && building(l, dir->dir))
		build_end(c, l, dir->dir);
	return r;
}

/*
 * Checks the batch that arrived, takes the references that it brought, and keeps what it
 * promises, a part at a time. The server counted each entry with a node, so that a malformed tail
 * leaks references at the server only until the session ends.
 */
static int install_batch(struct listing *l, size_t len, struct node *dir)
{
	struct slice in = {l->data, len};
	size_t cap = 0;
	int r;

	do {
		if (cap - l->count < PART_MAX) {
			cap = cap == 0 ? PART_MAX : cap * 2;
			struct node **p = realloc(l->nodes, cap * sizeof(*p));
			if (p == NULL)
				return -ENOMEM;
			l->nodes = p;
		}
		r = install_part(l, &in, dir);
	} while (r == 1);
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
		l->own = r->own;
		l->arrived = cache_now();
		l->stamp = (struct msg){.present = reply->msg->present & MSG_BIT(stamp),
					.stamp = reply->msg->stamp};
		int e = payload.data == data ? install_batch(l, payload.len, r->node) : -EPROTO;
		l->valid = l->fresh = e == 0;
		out.err = -e;
		/* nobody tells when the kernel's copy of it is no longer true */
		out.raced = l->cache->leased && !MSG_HAS(&l->stamp, stamp);
	} else {
		free(data);
	}
	bool closed = l->closed;
	(void)pthread_mutex_unlock(&l->lock);
	if (closed)
		destroy(l);
	r->listing_done(r, &out);
}

bool listing_goes_on(struct listing *l, uint64_t *ret_off)
{
	struct cache *c = l->cache;

	SCOPE_LOCK(&l->lock);
	SCOPE_LOCK(&c->lock);
	const struct node *n = node_find_locked(c, l->ino);
	struct dir *dir = n != NULL ? dir_if_any(n) : NULL;
	l->stands = *ret_off = l->build_off;
	return dir != NULL && !l->end && building(l, dir);
}

void listing_fetch(struct listing *l, struct cache_req *r, uint64_t off, bool plus)
{
	struct cache_reply failed = {0};

	(void)pthread_mutex_lock(&l->lock);
	if (l->fetching)
		failed.err = EBUSY;
	else {
		drop_batch(l);
		if (off != 0 && off != l->stands)
			l->batch_size = BATCH_LEAPT;
		l->incoming = malloc(l->batch_size);
		failed.err = l->incoming == NULL ? ENOMEM : 0;
	}
	if (failed.err == 0) {
		l->fetching = true;
		l->start = off;
		r->listing = l;
		r->listing_done = r->done;
		r->done = fetched;
		r->call.dest = l->incoming;
		r->call.dest_len = l->batch_size;
		MSG_SET(&r->call.req, op, MSG_READDIRPLUS);
		MSG_SET(&r->call.req, off, off);
		MSG_SET(&r->call.req, size, l->batch_size);
		if (!plus || (!l->cache->leased && l->cache->options.ttl.attr == 0))
			/* nobody would keep them */
			MSG_SET(&r->call.req, flags, READDIR_PLAIN);
		if (l->batch_size < MSG_PAYLOAD_MAX)
			l->batch_size *= 2;
	}
	(void)pthread_mutex_unlock(&l->lock);
	if (failed.err != 0)
		r->done(r, &failed);
	else
		cache_submit(l->cache, r, l->ino, 0);
}
