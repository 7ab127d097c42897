/*
 * Open files that the kernel has closed. One that was opened for reading only
 * serves the next such open(2) of the same node: no round trip, and as it is a
 * descriptor of the server, no later unlink on the host takes it away.
 *
 * As many are kept as the server grants. When that is full, a file is kept instead of the one that
 * was closed the longest time ago only if it came back sooner than that: so of a walk over more
 * files than fit, most stay for the next walk (the oldest going first would leave none), and one
 * walk through a tree does not push out what is used every day, unless it is OLD_AFTER times as
 * long as what is kept.
 *
 * With no_open the kernel opens and closes without a word. Then an open file is
 * asked for when the first request wants to go by it, one for reading and one
 * for writing, and is kept: the former until the kernel forgets the node or there
 * are too many, the latter until it has not been used for a moment. Nobody tells of
 * close(2), and as long as a file is open for writing the host's programs do not
 * hear IN_CLOSE_WRITE, and cannot execute it (ETXTBSY): of what is executable the
 * server gives up the descriptor after each request (OPEN_GIVE_UP).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cache/files.h"
#include "cache/node.h"
#include "cache/opens.h"
#include "cache/outbox.h"
#include "core/cleanup.h"

#define OLD_AFTER  4			/* closes for each file that is kept */
#define WRITE_IDLE UINT64_C(1000000000) /* ns for which an unused one for writing is kept */

static struct idle_file *idle_of(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->file != NULL ? n->file->idle : NULL;
}

static void unlink_idle(struct cache *c, struct idle_file *f)
{
	struct idle_file **at = &f->node->file->idle;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	*(f->newer != NULL ? &f->newer->older : &c->file_newest) = f->older;
	*(f->older != NULL ? &f->older->newer : &c->file_oldest) = f->newer;
	c->file_count--;
}

static void link_idle(struct cache *c, struct idle_file *f)
{
	f->next = f->node->file->idle;
	f->node->file->idle = f;
	f->newer = NULL;
	f->older = c->file_newest;
	*(f->older != NULL ? &f->older->newer : &c->file_oldest) = f;
	c->file_newest = f;
	c->file_count++;
}

static void close_idle(struct cache *c, struct idle_file *f)
{
	unlink_idle(c, f);
	cache_close_locked(c, f->fh);
	if (node_may_be_gone(f->node))
		space_moves_locked(c);
	free(f);
}

static size_t idle_max(const struct cache *c)
{
	return atomic_load(&c->backend->info.idle_files);
}

static void evict_locked(struct cache *c)
{
	struct idle_file *f = c->file_oldest, *newer;

	for (; f != NULL && c->file_count > idle_max(c); f = newer) {
		newer = f->newer;
		if (f->uses == 0)
			close_idle(c, f);
	}
}

bool idle_take_locked(struct cache *c, struct node *n, uint64_t *ret_fh, uint64_t *ret_flags)
{
	struct idle_file *f = idle_of(n);

	if (f == NULL)
		return false;
	*ret_fh = f->fh;
	*ret_flags = f->flags;
	unlink_idle(c, f);
	free(f);
	return true;
}

static int keep_locked(struct cache *c, struct node *n, const struct idle_file *what)
{
	struct idle_file *f = file_of_locked(n) != NULL ? malloc(sizeof(*f)) : NULL;

	if (f == NULL) {
		cache_close_locked(c, what->fh);
		return -ENOMEM;
	}
	*f = *what;
	f->node = n;
	f->used = cache_now();
	f->closed = c->file_closes;
	link_idle(c, f);
	return 0;
}

/* Whether a file that is closed now is worth more than the oldest of those that are kept. */
static bool worth_keeping_locked(struct cache *c, struct node *n)
{
	struct file *file = file_of_locked(n);
	uint64_t now = ++c->file_closes, last = file != NULL ? file->closed : 0;
	const struct idle_file *oldest = c->file_oldest;

	if (file != NULL)
		file->closed = now;
	if (c->file_count < idle_max(c))
		return true;
	if (oldest == NULL)
		return false;
	uint64_t age = now - oldest->closed;
	return age > OLD_AFTER * idle_max(c) || (last != 0 && now - last < age);
}

void idle_keep_locked(struct cache *c, struct node *n, uint64_t fh, uint64_t flags)
{
	const struct idle_file f = {.fh = fh, .flags = flags, .access = O_RDONLY};

	if (n->nlookup == 0 || !worth_keeping_locked(c, n))
		cache_close_locked(c, fh);
	else if (keep_locked(c, n, &f) == 0)
		evict_locked(c);
}

void idle_close_locked(struct cache *c, struct node *n)
{
	struct idle_file *f = n != NULL ? idle_of(n) : c->file_oldest, *next;

	for (; f != NULL; f = next) {
		next = n != NULL ? f->next : f->newer;
		if (f->uses == 0)
			close_idle(c, f);
	}
}

void idle_unnamed_locked(struct cache *c, struct node *n)
{
	if (!c->options.no_open)
		idle_close_locked(c, n);
}

/* ---- no_open ---- */

/* An OPEN of our own, and who waits for it. */
struct opening {
	struct call call; /* first; its flags are the access's */
	struct cache *cache;
	struct node *node;    /* held */
	struct opening *next; /* of the same node */
	struct cache_req *waiting, **tail;
	bool retried;
};

struct access {
	struct node *node;
	uint32_t access;
	bool open;	/* else the request does without, if there is none */
	uint32_t flags; /* of the OPEN, besides */
};

/* The access that r needs as fh (0) and fh2 (1); false: it needs no open file. */
static bool access_of(const struct cache_req *r, unsigned i, struct access *ret)
{
	const struct msg *m = &r->call.req;
	bool open = msg_request_needs(m->op, MSG_BIT(fh)), writes = msg_is(m->op, TRAIT_WRITES);

	if (msg_request_needs(m->op, MSG_BIT(fh2))) { /* from fh, which is of node2, to fh2 */
		*ret = i == 0 ? (struct access){r->node2, O_RDONLY, true, 0}
			      : (struct access){r->node, O_WRONLY, true, 0};
		return true;
	}
	/* A request that can do without an open file takes one that was written through, for that
	 * one works whatever became of the file's mode. */
	*ret = (struct access){r->node, open && !writes ? O_RDONLY : O_WRONLY, open, 0};
	if (msg_is(m->op, TRAIT_OPEN_FLAGS)) /* so an append-only file can be opened as well */
		ret->flags = (uint32_t)m->flags & O_APPEND;
	return i == 0;
}

static struct idle_file *find_locked(const struct node *n, uint32_t access)
{
	struct idle_file *f = idle_of(n);

	while (f != NULL && f->access != access && f->access != O_RDWR)
		f = f->next;
	return f;
}

static void use_locked(struct cache *c, struct cache_req *r, unsigned i, struct idle_file *f)
{
	struct msg *m = &r->call.req;

	unlink_idle(c, f);
	link_idle(c, f); /* the newest */
	f->uses++;
	f->used = cache_now();
	r->files[i] = f;
	if (i == 0)
		MSG_SET(m, fh, opens_find_locked(c, f->fh));
	else
		MSG_SET(m, fh2, opens_find_locked(c, f->fh));
	/* Nobody sees the close(2) that an error could be kept back for. */
	if (msg_is(m->op, TRAIT_OPEN_FLAGS) && (f->flags & OPEN_FLUSH) != 0)
		MSG_SET(m, flags, m->flags | O_DSYNC);
}

static void opened(struct call *call, const struct msg *m);

static struct opening *opening_new(struct cache *c, const struct access *w)
{
	struct opening *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->cache = c;
	o->node = w->node;
	o->node->refs++;
	o->tail = &o->waiting;
	o->call.done = opened;
	MSG_SET(&o->call.req, op, MSG_OPEN);
	MSG_SET(&o->call.req, node, w->node->server);
	MSG_SET(&o->call.req, flags, w->access | w->flags | OPEN_GIVE_UP);
	o->next = w->node->file->opening;
	w->node->file->opening = o;
	return o;
}

/* Several requests that need the same access wait for one OPEN: *ret_open, if it is still to be
 * sent. */
static int wait_locked(struct cache *c, struct cache_req *r, const struct access *w,
		       struct call **ret_open)
{
	struct file *file = file_of_locked(w->node);
	struct opening *o = file != NULL ? file->opening : NULL;

	while (o != NULL && o->call.req.flags != (w->access | w->flags | OPEN_GIVE_UP))
		o = o->next;
	if (o == NULL) {
		o = file != NULL ? opening_new(c, w) : NULL;
		if (o == NULL)
			return -ENOMEM;
		o->call.uid = r->call.uid;
		o->call.gid = r->call.gid;
		*ret_open = &o->call;
	}
	r->waiting = NULL;
	*o->tail = r;
	o->tail = &r->waiting;
	return 1;
}

/* 0: r has all that it goes by. 1: it waits. */
static int get_locked(struct cache *c, struct cache_req *r, struct call **ret_open)
{
	for (unsigned i = 0; i < 2; i++) {
		struct idle_file *f;
		struct access w;

		if (r->files[i] != NULL || !access_of(r, i, &w))
			continue;
		f = find_locked(w.node, w.access);
		if (f != NULL)
			use_locked(c, r, i, f);
		else if (w.open)
			return wait_locked(c, r, &w, ret_open);
	}
	evict_locked(c);
	return 0;
}

static void fail(struct cache_req *r, uint64_t err)
{
	struct msg m = {0};

	MSG_SET(&m, err, err);
	r->call.done(&r->call, &m);
}

void files_submit(struct cache *c, struct cache_req *r)
{
	struct backend *b = c->backend;
	struct call *open = NULL;
	int e = 0;

	if (r->by_node) {
		SCOPE_LOCK(&c->lock);
		e = get_locked(c, r, &open);
	}
	if (e < 0)
		fail(r, (uint64_t)-e);
	else if (e == 0)
		b->ops->submit(b, &r->call);
	else if (open != NULL)
		b->ops->submit(b, open);
}

/* A server without privileges may not be let in again through the mode. */
static bool reopens(const struct cache *c, const struct node *n)
{
	return c->backend->info.server_root || (n->attr.mode & S_IWUSR) != 0;
}

static void close_written(struct cache *c, struct node *n)
{
	struct idle_file *f = idle_of(n), *next;

	for (; f != NULL; f = next) {
		next = f->next;
		if (f->uses == 0 && f->access != O_RDONLY)
			close_idle(c, f);
	}
}

void files_put_locked(struct cache *c, struct cache_req *r)
{
	const uint32_t exec = S_IXUSR | S_IXGRP | S_IXOTH;

	for (unsigned i = 0; i < 2; i++) {
		struct idle_file *f = r->files[i];

		r->files[i] = NULL;
		if (f != NULL && --f->uses == 0 && f->node->nlookup == 0)
			close_idle(c, f);
	}
	/* A file that may be executed is not kept open for writing at all (ETXTBSY on the host),
	 * unless the server gives it up. */
	if (c->options.no_open && !c->backend->info.gives_up && r->node != NULL &&
	    (r->node->attr.mode & exec) != 0 && reopens(c, r->node))
		close_written(c, r->node);
}

uint64_t files_tick_locked(struct cache *c, uint64_t now)
{
	struct idle_file *f = c->file_oldest, *newer;

	if (!c->options.no_open)
		return UINT64_MAX;
	for (; f != NULL && f->used + WRITE_IDLE <= now; f = newer) {
		newer = f->newer;
		if (f->uses == 0 && f->access != O_RDONLY && reopens(c, f->node))
			close_idle(c, f);
	}
	return now + WRITE_IDLE;
}

bool files_open_again(struct cache *c, struct call *open, uint64_t err, bool *retried)
{
	if ((err != EMFILE && err != ENFILE) || *retried)
		return false;
	(void)pthread_mutex_lock(&c->lock);
	size_t before = c->file_count;
	idle_close_locked(c, NULL);
	bool some = c->file_count < before;
	(void)pthread_mutex_unlock(&c->lock);
	if (!some)
		return false;
	*retried = true;
	cache_forget_flush(c);
	c->backend->ops->submit(c->backend, open);
	return true;
}

/* Takes an OPEN's reply; the error for those that wait. */
static uint64_t opened_locked(struct opening *o, const struct msg *m)
{
	struct opening **at = &o->node->file->opening;
	struct idle_file f = {.access = (uint32_t)o->call.req.flags & O_ACCMODE};

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	if (m->err != 0)
		return m->err;
	f.fh = opens_add_locked(o->cache, m->fh);
	f.flags = MSG_HAS(m, flags) ? m->flags : 0;
	if (f.fh == 0) {
		outbox_close_locked(o->cache, m->fh);
		return ENOMEM;
	}
	return keep_locked(o->cache, o->node, &f) < 0 ? ENOMEM : 0;
}

static void opened(struct call *call, const struct msg *m)
{
	struct opening *o = (struct opening *)call;
	struct cache *c = o->cache;
	struct cache_req *r, *next;

	if (files_open_again(c, &o->call, m->err, &o->retried))
		return;
	(void)pthread_mutex_lock(&c->lock);
	uint64_t err = opened_locked(o, m);
	struct node *n = o->node;
	(void)pthread_mutex_unlock(&c->lock);
	for (r = o->waiting; r != NULL; r = next) {
		next = r->waiting;
		if (err != 0)
			fail(r, err);
		else
			files_submit(c, r);
	}
	free(o);
	(void)pthread_mutex_lock(&c->lock);
	node_put_locked(c, n);
	(void)pthread_mutex_unlock(&c->lock);
	cache_forget_flush(c);
}

void cache_keep_open(struct cache *c, uint64_t ino, uint64_t fh, uint64_t flags,
		     uint64_t reply_flags)
{
	const struct idle_file f = {
		.fh = fh, .flags = reply_flags, .access = (uint32_t)(flags & O_ACCMODE)};

	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, ino);
	if (n == NULL || find_locked(n, f.access) != NULL)
		cache_close_locked(c, fh); /* one is enough */
	else if (keep_locked(c, n, &f) == 0)
		evict_locked(c);
	(void)pthread_mutex_unlock(&c->lock);
	cache_forget_flush(c);
}
