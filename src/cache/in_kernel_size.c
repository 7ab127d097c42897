/*
 * The size of a file as the kernel has it: what it was told, what it makes of the
 * guest's own writes, and what is being told.
 *
 * stat(2) shows the size of a GETATTR's reply as it came, but whoever reads or maps
 * the file is stopped by i_size. The kernel does not take a size from a GETATTR while a
 * write(2) makes the file longer (FUSE_I_SIZE_UNSTABLE), nor when anything outdated the
 * request meanwhile (attr_version); and splice(2), sendfile(2), copy_file_range(2) and
 * page faults ask for no size at all. Where it does take one, the task that digests the
 * reply cuts off the pages behind it (truncate_pagecache) after it has set i_size, without
 * a lock: so it may cut a page that a later READ has brought.
 *
 * Therefore a size is told only when the kernel has it. `has` is a lower bound of i_size.
 * A reply that tells more is held until a notification has set i_size (size_first of
 * cache_reply, notify.c): then there is nothing to cut either, and the reply is older than
 * that notification.
 *
 * The kernel makes a file longer by itself when it digests the reply to a write of the
 * guest's own (`set`). That this has happened is known from the next request of the
 * same task, or from one for which the kernel holds the inode's lock, as it does during a write(2).
 *
 * Digesting SETATTR, LINK, or the CREATE of a file that was there, the kernel takes the
 * size whatever it has been told since (fuse_do_setattr; create_new_entry and
 * fuse_create_open pass no attr_version). So these are answered with the size that the
 * kernel has, when none is on its way there (`storing`), and until they have been digested
 * no other one is told (`forced`).
 * Where no request shows that, the notifier makes sure (cache_sink.settle): it waits for
 * the lock under which the kernel digests the reply, and where no name is sure to lead to
 * that, until the task has gone on.
 *
 * For a file that is open the client asks for the size itself when its content has
 * changed, so that those who never ask see it as well; where nobody tells of changes, when
 * the time of its attributes is over.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "cache/attrs.h"
#include "cache/in_kernel_names.h"
#include "cache/in_kernel_size.h"
#include "cache/node.h"
#include "cache/request.h"
#include "core/cleanup.h"
#include "core/fault.h"

#define STORE_MAX (UINT64_C(1) << 30)

/* Nobody tells, and attributes are kept for a time: they are asked for when it is over, */
#define ASK_LEAST   UINT64_C(100000000)	 /* ns, but no more often than that; */
#define ASK_AT_ONCE UINT64_C(1000000000) /* so often where they are not kept */

static struct kernel_size *size_of(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->file != NULL ? &n->file->size : NULL;
}

static uint64_t kernel_has(const struct node *n)
{
	return (n->flags & NODE_SIZE) != 0 ? n->file->size.has : n->attr.size;
}

static void has_locked(struct node *n, uint64_t size)
{
	struct file *f = size != n->attr.size ? file_of_locked(n) : NULL;

	n->flags &= ~(uint32_t)NODE_SIZE;
	if (f != NULL) {
		f->size.has = size;
		n->flags |= NODE_SIZE;
	}
	node_outlive_locked(n);
}

void size_unknown_locked(struct node *n)
{
	struct kernel_size *k = size_of(n);

	n->flags &= ~(uint32_t)NODE_SIZE;
	if (k == NULL)
		return;
	k->set = 0;
	k->is_forced = false;
	n->file->used = false;
}

bool size_is_told_locked(const struct node *n, uint64_t size)
{
	const struct kernel_size *k = size_of(n);

	return n->nlookup == 0 || !S_ISREG(n->attr.mode) ||
	       (size == kernel_has(n) && (k == NULL || !k->is_forced || size == k->forced));
}

/* ---- the guest's own writes ---- */

/* The size that a request makes the file have at least, when its reply is digested; 0: none. */
static uint64_t end_of(const struct cache_req *r, const struct msg *m)
{
	const struct msg *q = &r->call.req;

	if (!msg_is(q->op, TRAIT_WRITES) || r->writeback)
		return 0;
	if (msg_is(q->op, TRAIT_KEEPS_SIZE) && q->flags != 0)
		return 0;
	uint64_t off = MSG_HAS(q, off2) ? q->off2 : q->off;
	return off + (MSG_HAS(m, size) ? m->size : q->size);
}

static void sets_locked(struct node *n, uint64_t size, uint32_t task)
{
	struct kernel_size *k = size_of(n);

	if ((n->flags & NODE_SIZE) == 0 || k == NULL || size <= k->has)
		return;
	k->set = size > k->set ? size : k->set;
	k->set_by = task;
	node_outlive_locked(n);
}

void size_written_locked(struct cache_req *r, const struct msg *m)
{
	const struct msg *q = &r->call.req;
	struct node *n = r->node;
	bool cut = (q->valid & SET_SIZE) != 0;

	if (!S_ISREG(n->attr.mode))
		return;
	if (msg_is(q->op, TRAIT_OPENS) && (q->flags & O_TRUNC) != 0)
		has_locked(n, 0);
	else if (cut && q->size < kernel_has(n))
		has_locked(n, q->size);
	sets_locked(n, cut ? q->size : end_of(r, m), r->task);
}

uint64_t size_own_end_locked(const struct node *n)
{
	const struct kernel_size *k = size_of(n);
	uint64_t end = n->attr.size;

	if (k == NULL)
		return end;
	end = k->set > end ? k->set : end;
	return n->file->writing > 0 && n->file->writing_to > end ? n->file->writing_to : end;
}

/* Requests for which the kernel holds the inode's lock, as it does for write(2). */
static bool locks_inode(uint64_t op, bool writeback)
{
	return msg_is(op, TRAIT_LOCKS) && !writeback;
}

static void digested_locked(struct node *n)
{
	struct kernel_size *k = &n->file->size;
	uint64_t size = k->set;

	k->set = 0;
	if ((n->flags & NODE_SIZE) != 0 && size > k->has)
		has_locked(n, size);
}

void size_arrives_locked(struct node *n, uint64_t op, uint32_t task, bool writeback)
{
	struct kernel_size *k = size_of(n);
	bool locks = locks_inode(op, writeback);
	/*
	 * write(2) may send several WRITEs before it sets the size, and reads what it copies
	 * from: neither shows that it has returned. Another task's WRITE does, by the lock.
	 */
	bool within = msg_is(op, TRAIT_WITHIN_WRITE);

	if (k == NULL || (k->set == 0 && !k->is_forced))
		return;
	bool same = task != 0 && task == k->set_by;
	if (k->set > 0 && (within ? locks && task != 0 && !same : locks || same))
		digested_locked(n);
	same = task != 0 && task == k->forced_by;
	if (k->is_forced && (same || (locks && k->inode_locked)))
		k->is_forced = false;
}

void cache_task_goes_on(struct cache *c, uint64_t ino, uint32_t task)
{
	SCOPE_LOCK(&c->lock);
	names_arrive_locked(c, task);
	struct node *n = node_find_locked(c, ino);
	if (n != NULL)
		size_arrives_locked(n, MSG_FLUSH, task, false);
}

/*
 * Past the page cache nothing stops the reader at i_size. What he has seen he may map or splice
 * next: so the size is made known before the reply, which keeps no page locked.
 */
void size_read_locked(struct cache_req *r, uint64_t len, struct cache_reply *out)
{
	struct node *n = r->node;
	uint64_t end = r->call.req.off + len;

	if (!S_ISREG(n->attr.mode) || n->nlookup == 0)
		return;
	/* fuse_short_read: the kernel takes that for the end */
	if (!r->unpaged && len < r->call.req.size && end < kernel_has(n))
		has_locked(n, end);
	if (FAULT(read_unsaid))
		return;
	if (r->unpaged)
		out->size_first = len > 0 && end > kernel_has(n) && n->attr.size >= end;
	else
		out->longer = n->attr.size > kernel_has(n);
}

/* ---- what is forced ---- */

static void settle_locked(struct cache *c, struct node *n)
{
	struct kernel_size *k = &n->file->size;
	const struct dentry *d = n->name;

	if (k->settling == k->serial || c->sink == NULL)
		return;
	k->settling = k->serial;
	/* a name of several may be one that the kernel has not: then there is no lock */
	uint32_t task = d == NULL || n->attr.nlink > 1 ? k->forced_by : 0;
	if (k->forced_in != 0)
		c->sink->settle(c->sink_arg, n->id, k->serial, 0, k->forced_in, "", 0);
	else if (d != NULL)
		c->sink->settle(c->sink_arg, n->id, k->serial, task, d->dir->id, d->name, d->len);
	else
		c->sink->settle(c->sink_arg, n->id, k->serial, task, n->id, "", 0);
}

void size_outdated_locked(struct cache *c, struct node *n)
{
	struct kernel_size *k = size_of(n);

	if (k != NULL && k->is_forced)
		settle_locked(c, n);
}

void cache_size_settled(struct cache *c, uint64_t ino, uint32_t serial)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct kernel_size *k = n != NULL ? size_of(n) : NULL;

	if (k != NULL && k->serial == serial)
		k->is_forced = false;
}

bool cache_size_force(struct cache *c, const struct cache_req *r, uint64_t ino, uint64_t dir,
		      uint64_t *size, struct size_wait *w)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct file *f = n != NULL ? file_of_locked(n) : NULL;

	if (f == NULL || FAULT(size_unforced))
		return true;
	struct kernel_size *k = &f->size;
	uint64_t has = kernel_has(n);
	/* what makes it longer itself drops all pages then, and what is stored past the old end */
	if ((r->call.req.valid & SET_SIZE) != 0 && has < *size)
		has = *size;
	if (w == NULL && (k->storing > 0 || has != *size))
		return false;
	if (k->storing > 0) {
		w->next = k->forcing;
		k->forcing = w;
		return false;
	}
	*size = has;
	k->forced = has;
	k->is_forced = true;
	k->forced_cut = (r->call.req.valid & SET_SIZE) != 0;
	k->forced_by = r->task;
	k->inode_locked = msg_is(r->call.req.op, TRAIT_CHANGES_OBJECT); /* else the directory */
	k->forced_in = dir;
	k->serial++;
	/*
	 * News that came while the reply was held: a fence behind it is to find this settled. Where
	 * there is no news, whoever asks next is.
	 */
	if (!c->leased || n->attr_until == 0 || n->attr.size != has)
		settle_locked(c, n);
	return true;
}

/* ---- the guest's own truncations ---- */

bool cache_cut_begins(struct cache *c, uint64_t ino, uint64_t size)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct file *f = n != NULL ? file_of_locked(n) : NULL;
	uint64_t has = f != NULL ? kernel_has(n) : 0;

	if (size >= has)
		return false;
	if (f->size.cuts++ == 0 || has > f->size.cut_from)
		f->size.cut_from = has;
	return true;
}

void cache_cut_ends(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct kernel_size *k = n != NULL ? size_of(n) : NULL;

	if (k != NULL && k->cuts > 0)
		k->cuts--;
}

static bool cut_locked(const struct kernel_size *k)
{
	return k->cuts > 0 || (k->is_forced && k->forced_cut);
}

bool cache_size_cut(struct cache *c, uint64_t ino, uint32_t *ret_task)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct kernel_size *k = n != NULL ? size_of(n) : NULL;

	if (k == NULL || !cut_locked(k))
		return false;
	*ret_task = k->cuts > 0 ? 0 : k->forced_by;
	return true;
}

bool size_is_cut_locked(const struct node *n, uint64_t size)
{
	const struct kernel_size *k = size_of(n);

	return k != NULL && cut_locked(k) && size < k->cut_from;
}

/* ---- telling ---- */

/* Whether a size is told, and which, in *size; sets whether it has to be made known first. */
static bool tell_locked(struct cache *c, struct node *n, uint64_t *size)
{
	struct kernel_size *k = size_of(n);

	if (k != NULL && k->is_forced && *size != k->forced) {
		settle_locked(c, n);
		*size = k->forced;
		return false;
	}
	if (*size > kernel_has(n) && !FAULT(no_growth))
		return true;
	has_locked(n, *size);
	return false;
}

void size_tell_locked(struct cache *c, struct node *n, struct cache_reply *out)
{
	struct attr a = *out->attr;

	if (!S_ISREG(a.mode) || !S_ISREG(n->attr.mode))
		return;
	out->size_first = tell_locked(c, n, &a.size);
	if (a.size == out->attr->size)
		return;
	out->newest = a;
	out->attr = &out->newest;
	out->attr_ttl = 0;
}

bool size_is_longer_locked(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->nlookup > 0 && n->attr.size > kernel_has(n);
}

/* Where a STORE to size begins: see cache_size_missing. */
static uint64_t store_from(uint64_t had, uint64_t size)
{
	uint64_t page = had / PAGE;

	return page > 0 && size - (page - 1) * PAGE < STORE_MAX ? (page - 1) * PAGE : size - 1;
}

static bool missing_locked(struct node *n, uint64_t size, uint64_t *ret_from)
{
	uint64_t had = kernel_has(n);

	if (size <= had)
		return false;
	*ret_from = store_from(had, size);
	if (pages_busy_at_locked(n, *ret_from))
		*ret_from = size - 1;
	return true;
}

/* cache_size_stored follows. */
static void stores_locked(struct node *n)
{
	struct file *f = file_of_locked(n);

	if (f != NULL)
		f->size.storing++;
}

bool cache_size_to_tell(struct cache *c, uint64_t ino, struct attr *a, uint64_t *ret_from)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	if (n == NULL || !S_ISREG(n->attr.mode) || !S_ISREG(a->mode))
		return false;
	if (a->version < n->attr.version)
		node_attr(n, a);
	if (!tell_locked(c, n, &a->size) || !missing_locked(n, a->size, ret_from))
		return false;
	stores_locked(n);
	return true;
}

bool cache_size_appended(struct cache *c, uint64_t ino, uint64_t end, uint64_t *ret_from)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	if (n == NULL || !S_ISREG(n->attr.mode) || !missing_locked(n, end, ret_from))
		return false;
	stores_locked(n);
	return true;
}

static void done_waiting(struct size_wait *w)
{
	for (struct size_wait *next; w != NULL; w = next) {
		next = w->next;
		w->done(w->arg);
	}
}

static void grown_locked(struct node *n, uint64_t size)
{
	if (n != NULL && S_ISREG(n->attr.mode) && size > kernel_has(n))
		has_locked(n, size);
}

void cache_size_grown(struct cache *c, uint64_t ino, uint64_t size)
{
	SCOPE_LOCK(&c->lock);
	grown_locked(node_find_locked(c, ino), size);
}

void cache_size_stored(struct cache *c, uint64_t ino, uint64_t size, bool done)
{
	struct size_wait *waits = NULL;

	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct kernel_size *k = n != NULL ? size_of(n) : NULL;
	/* cut meanwhile: the reply that says so is yet to be digested */
	if (done && n != NULL && size <= n->attr.size)
		grown_locked(n, size);
	if (k != NULL && k->storing > 0 && --k->storing == 0)
		waits = TAKE_PTR(k->forcing);
	(void)pthread_mutex_unlock(&c->lock);
	done_waiting(waits);
}

/* ---- a WRITE past the page cache ---- */

void cache_direct_write(struct cache *c, uint64_t ino, bool begins)
{
	struct size_wait *waits = NULL;

	(void)pthread_mutex_lock(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct file *f = n != NULL ? file_of_locked(n) : NULL;
	if (f != NULL && begins) {
		f->size.direct++;
	} else if (f != NULL && f->size.direct > 0) {
		f->size.direct--;
		waits = TAKE_PTR(f->size.waits);
	}
	(void)pthread_mutex_unlock(&c->lock);
	done_waiting(waits);
}

bool cache_size_wait(struct cache *c, uint64_t ino, struct size_wait *w)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct kernel_size *k = n != NULL ? size_of(n) : NULL;

	if (k == NULL || k->direct == 0)
		return false;
	w->next = k->waits;
	k->waits = w;
	return true;
}

/* ---- open files ---- */

/*
 * Who has a file open may splice or map it without a READ before. With no_open nobody knows
 * who has, and one that has been read tells; of an empty one there is nothing to read.
 */
static bool may_be_read(const struct cache *c, const struct node *n)
{
	if (!c->options.no_open)
		return n->file->opens > 0;
	return n->file->used || kernel_has(n) == 0;
}

bool size_asks_locked(const struct cache *c, struct node *n)
{
	struct kernel_size *k = size_of(n);

	if (k == NULL)
		return false;
	k->asking = n->nlookup > 0 && may_be_read(c, n) && !FAULT(size_unasked);
	return k->asking;
}

void size_asked_locked(struct node *n)
{
	struct kernel_size *k = size_of(n);

	if (k != NULL)
		k->asking = false;
}

int cache_size_missing(struct cache *c, uint64_t ino, uint64_t *ret_size, uint64_t *ret_from)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct kernel_size *k = n != NULL ? size_of(n) : NULL;

	if (n == NULL || !S_ISREG(n->attr.mode) || !missing_locked(n, n->attr.size, ret_from))
		return 0;
	*ret_size = n->attr.size;
	if (k != NULL && k->is_forced)
		settle_locked(c, n);
	if (k != NULL && (k->is_forced || k->direct > 0))
		return -EAGAIN;
	stores_locked(n);
	return 1;
}

static void link_open(struct cache *c, struct node *n)
{
	struct kernel_size *k = &n->file->size;

	k->open_next = c->open_files;
	k->open_at = &c->open_files;
	if (k->open_next != NULL)
		k->open_next->file->size.open_at = &k->open_next;
	c->open_files = n;
}

static void unlink_open(struct node *n)
{
	struct kernel_size *k = &n->file->size;

	*k->open_at = k->open_next;
	if (k->open_next != NULL)
		k->open_next->file->size.open_at = k->open_at;
}

/* An invalidation that came before the file was open has asked for nothing. */
static void size_opened_locked(struct cache *c, struct node *n)
{
	if (!c->leased || c->sink == NULL || n->attr_until > 0)
		return;
	c->by_host = true;
	c->sink->size(c->sink_arg, n->id);
	c->by_host = false;
}

void cache_opened(struct cache *c, uint64_t ino, bool opened, bool appending)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct file *f = n != NULL ? file_of_locked(n) : NULL;

	if (f == NULL)
		return;
	if (opened) {
		if (f->opens++ == 0)
			link_open(c, n);
		f->appending += appending;
		size_opened_locked(c, n);
		return;
	}
	if (f->opens > 0 && --f->opens == 0)
		unlink_open(n);
	f->appending -= appending && f->appending > 0;
}

void size_free_locked(struct node *n)
{
	if (S_ISREG(n->attr.mode) && n->file != NULL && n->file->opens > 0)
		unlink_open(n);
}

uint64_t size_tick_locked(struct cache *c, uint64_t now)
{
	const uint64_t ttl = c->options.ttl.attr;
	const uint64_t every = ttl == 0 ? ASK_AT_ONCE : ttl < ASK_LEAST ? ASK_LEAST : ttl;
	uint64_t next = c->leased ? UINT64_MAX : now + every;

	for (struct node *n = c->open_files; n != NULL; n = n->file->size.open_next) {
		if (!may_be_read(c, n) || (c->leased && (n->flags & NODE_PROMISED) != 0))
			continue;
		uint64_t due = n->attr_until > now ? n->attr_until : now + every;

		next = due < next ? due : next;
		if (n->attr_until > now || n->file->size.asking || c->sink == NULL ||
		    FAULT(size_unasked))
			continue;
		n->file->size.asking = true; /* once, however long the notifier is held up */
		c->sink->size(c->sink_arg, n->id);
	}
	return next;
}
