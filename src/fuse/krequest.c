#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "fuse/fs_priv.h"
#include "fuse/task.h"

#define SPARE_MAX 64 /* freed requests kept for the next ones */

_Thread_local struct current current;

/* ---- life ---- */

static struct krequest *krequest_alloc(struct fs *fs)
{
	struct krequest *r;

	(void)pthread_mutex_lock(&fs->lock);
	r = fs->spare;
	if (r != NULL) {
		fs->spare = r->next;
		fs->spare_count--;
	}
	(void)pthread_mutex_unlock(&fs->lock);
	if (r == NULL)
		r = malloc(sizeof(*r));
	if (r != NULL) {
		/* All but the inline wire buffer, which nothing reads before it is written. */
		struct call *call = &r->creq.call;

		memset(r, 0, offsetof(struct call, wire_inline));
		memset((char *)r + sizeof(*call), 0, sizeof(*r) - sizeof(*call));
	}
	return r;
}

struct krequest *krequest_new(fuse_req_t req, enum msg_op op,
			      void (*finish)(struct krequest *r, const struct cache_reply *reply))
{
	struct fs *fs = req_fs(req);
	struct krequest *r = krequest_alloc(fs);

	if (r == NULL) {
		(void)fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	r->fs = fs;
	r->req = req;
	r->finish = finish;
	r->unique = r->creq.call.unique = current.unique;
	r->pid = fuse_req_ctx(req)->pid;
	r->creq.call.uid = uid_to_server(fs, fuse_req_ctx(req)->uid);
	r->creq.call.gid = gid_to_server(fs, fuse_req_ctx(req)->gid);
	REQUEST_SET(r, op, op);
	return r;
}

void krequest_free(struct krequest *r)
{
	struct fs *fs = r->fs;

	if (r->past_pages)
		cache_direct_write(fs->cache, r->ino, false);
	if (r->cuts)
		cache_cut_ends(fs->cache, r->ino);
	if (r->creq.call.kept)
		cache_backend(fs->cache)->ops->settled(cache_backend(fs->cache), &r->creq.call);
	(void)pthread_mutex_lock(&fs->lock);
	if (r->buffer != NULL && fs->buffer_count < BUFFERS_MAX) {
		/* a fresh one costs a page fault per page on each WRITE */
		fs->buffers[fs->buffer_count++] = r->buffer;
		r->buffer = NULL;
	}
	bool keep = fs->spare_count < SPARE_MAX;
	if (keep) {
		r->next = fs->spare;
		fs->spare = r;
		fs->spare_count++;
	}
	void *buffer = r->buffer;
	(void)pthread_mutex_unlock(&fs->lock);
	free(buffer);
	if (!keep)
		free(r);
}

void *krequest_buffer(struct fs *fs)
{
	SCOPE_LOCK(&fs->lock);
	return fs->buffer_count > 0 ? fs->buffers[--fs->buffer_count] : NULL;
}

void krequests_free(struct fs *fs)
{
	while (fs->spare != NULL) {
		struct krequest *r = fs->spare;

		fs->spare = r->next;
		free(r);
	}
	while (fs->buffer_count > 0)
		free(fs->buffers[--fs->buffer_count]);
}

static void track(struct krequest *r)
{
	struct fs *fs = r->fs;

	SCOPE_LOCK(&fs->lock);
	if (r->interrupted) /* which the kernel says once only */
		alarm_ring(&fs->watch);
	r->prev = NULL;
	r->next = fs->in_flight;
	if (r->next != NULL)
		r->next->prev = r;
	fs->in_flight = r;
}

static void untrack(struct krequest *r)
{
	struct fs *fs = r->fs;

	SCOPE_LOCK(&fs->lock);
	if (r->next != NULL)
		r->next->prev = r->prev;
	if (r->prev != NULL)
		r->prev->next = r->next;
	else
		fs->in_flight = r->next;
}

static bool krequest_claim(struct krequest *r)
{
	return !atomic_exchange(&r->answered, true);
}

/*
 * The task was killed and took the request for interrupted, but the host has
 * done it: the kernel is to look again at all that it was about.
 */
static void done_unseen(struct krequest *r)
{
	const struct cache_req *c = &r->creq;
	struct notify *n = r->fs->notify;
	uint64_t op = c->call.req.op;

	if (msg_is(op, TRAIT_CHANGES_NAME2))
		notify_inval_entry(n, r->ino2, c->names[1], c->name_len[1]);
	if (msg_is(op, TRAIT_CHANGES_NAME))
		notify_inval_entry(n, r->ino, c->names[0], c->name_len[0]);
	if (msg_is(op, TRAIT_CHANGES_OBJECT))
		notify_inval_range(n, r->ino, 0, 0);
}

/* Nobody waits for this reply any more: gives back what it brought. */
static void discard(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0)
		return;
	if (reply->ino != 0)
		cache_undo_lookup(r->fs->cache, reply->ino);
	if (reply->fh != 0)
		cache_close(r->fs->cache, r->ino, reply->fh, false);
	if (r->holds == NULL) /* else that was when it was killed */
		done_unseen(r);
}

/*
 * A reply that waits for notifications. The request stays in the table meanwhile: whoever is
 * killed while he waits need not wait on.
 */
struct held_reply {
	struct krequest *r;
	struct size_wait wait;
	struct cache_reply reply;
	struct attr attr;
	struct msg msg; /* without what its slices point to */
	struct notify_fence fence;
	uint64_t since;
	bool taken; /* the request came from the host, and holds something of the cache */
	struct cache_holds holds;
	void *data; /* of a READ */
};

static void held_free(struct held_reply *h)
{
	free(h->data);
	free(h);
}

void krequest_wait(struct krequest *r)
{
	atomic_store(&r->answered, false);
	track(r);
}

bool krequest_waited(struct krequest *r)
{
	untrack(r);
	if (krequest_claim(r))
		return true;
	done_unseen(r);
	return false;
}

static fuse_ino_t object_of(const struct krequest *r, const struct cache_reply *reply)
{
	return reply->ino != 0 ? reply->ino : r->ino;
}

static void deliver(struct krequest *r, const struct cache_reply *reply)
{
	untrack(r);
	if (krequest_claim(r)) {
		r->finish(r, reply);
	} else {
		discard(r, reply);
		kfile_free(r->fs, r->file);
		krequest_free(r);
	}
}

/* The directory in which the request names its object; 0: it does not. */
static fuse_ino_t named_in(const struct krequest *r)
{
	uint64_t op = r->creq.call.req.op;

	if (msg_is(op, TRAIT_CHANGES_NAME2))
		return r->ino2;
	return msg_is(op, TRAIT_CHANGES_NAME) ? r->ino : 0;
}

static bool force_size(struct krequest *r, const struct cache_reply *reply, uint64_t *size,
		       struct size_wait *w)
{
	return cache_size_force(r->fs->cache, &r->creq, object_of(r, reply), named_in(r), size, w);
}

/* False: see cache_size_force. r is gone otherwise. */
static bool deliver_with_size(struct krequest *r, const struct cache_reply *reply, uint64_t *size,
			      struct size_wait *w)
{
	struct fs *fs = r->fs;

	if (!reply->forces) {
		deliver(r, reply);
		return true;
	}
	(void)pthread_rwlock_rdlock(&fs->forcing);
	bool done = force_size(r, reply, size, w);
	if (done)
		deliver(r, reply);
	(void)pthread_rwlock_unlock(&fs->forcing);
	return done;
}

static void release(void *arg)
{
	struct held_reply *h = arg;
	struct fs *fs = h->r->fs;

	h->wait = (struct size_wait){.done = release, .arg = h};
	if (!deliver_with_size(h->r, &h->reply, &h->attr.size, &h->wait))
		return;
	if (h->taken)
		cache_delivered(fs->cache, &h->holds);
	held_free(h);
}

static void release_with_size(void *arg)
{
	struct held_reply *h = arg;

	notify_size(h->r->fs->notify, object_of(h->r, &h->reply), &h->attr);
	release(h);
}

/* A READ past the page cache has seen more than the kernel knows of. */
static void release_behind_size(void *arg)
{
	struct held_reply *h = arg;

	notify_missing_size(h->r->fs->notify, h->r->ino);
	release(h);
}

/* Not of a name that was removed or moved: the kernel is told nothing of its object. */
static bool tells_attributes(const struct held_reply *h)
{
	return h->reply.attr != NULL && !msg_is(h->r->creq.call.req.op, TRAIT_REMOVES);
}

/* An append past the page cache is up to date: see cache_direct_write. */
static void appended(void *arg)
{
	struct held_reply *h = arg;

	bool reads = msg_is(h->r->creq.call.req.op, TRAIT_READS);

	notify_after(h->r->fs->notify, object_of(h->r, &h->reply),
		     reads		   ? release_behind_size
		     : tells_attributes(h) ? release_with_size
					   : release,
		     h);
}

/* Holds a reply back for pages, or for a size. */
static void hold_for_size(void *arg)
{
	struct held_reply *h = arg;
	struct fs *fs = h->r->fs;

	h->wait = (struct size_wait){.done = appended, .arg = h};
	if (h->reply.size_first && cache_size_wait(fs->cache, object_of(h->r, &h->reply), &h->wait))
		return;
	if (h->reply.hold || h->reply.size_first || tells_attributes(h))
		appended(h);
	else
		release(h);
}

/* Holds a reply back for the names of a directory, or for notifications that come before a size. */
static void hold_on(void *arg)
{
	struct held_reply *h = arg;
	struct fs *fs = h->r->fs;

	if (h->reply.synchronises)
		stats_time(fs->stats, HIST_fence_wait, cache_now() - h->since);
	h->fence = (struct notify_fence){.done = release, .arg = h, .tid = h->r->pid};
	if (msg_is(h->r->creq.call.req.op, TRAIT_AFTER_NAMES) &&
	    notify_after_names(fs->notify, h->r->ino, &h->fence))
		return;
	h->fence = (struct notify_fence){.done = hold_for_size, .arg = h};
	if (h->reply.cut_first && notify_after_cut(fs->notify, h->r->ino, &h->fence))
		return;
	hold_for_size(h);
}

static struct held_reply *held_new(struct krequest *r, const struct cache_reply *reply)
{
	struct held_reply *h = malloc(sizeof(*h));

	if (h == NULL)
		return NULL;
	h->r = r;
	h->data = NULL;
	h->reply = *reply;
	h->since = cache_now();
	h->taken = reply->ret_held != NULL;
	/* it may be outdated by then: nobody is to keep it */
	h->reply.attr_ttl = h->reply.entry_ttl = 0;
	if (!msg_is(r->creq.call.req.op, TRAIT_OPENS)) /* of which the pages have gone by then */
		h->reply.keep = false;
	if (reply->attr != NULL) {
		h->attr = *reply->attr;
		h->reply.attr = &h->attr;
	}
	if (reply->msg != NULL) {
		h->msg = *reply->msg;
		h->reply.msg = &h->msg;
	}
	h->reply.data.data = NULL; /* gone by then */
	if (reply->data.len > 0 && msg_is(r->creq.call.req.op, TRAIT_READS)) {
		h->data = malloc(reply->data.len);
		if (h->data == NULL) {
			free(h);
			return NULL;
		}
		memcpy(h->data, reply->data.data, reply->data.len);
		h->reply.data.data = h->data;
	} else {
		h->reply.data.len = 0;
	}
	return h;
}

/*
 * Its task was killed while the reply waits: the kernel does not lock its directories any more,
 * though what the reply waits for may take for ever. And what it has done is to be seen.
 */
static void killed_while_held_locked(struct krequest *r)
{
	struct cache_holds locks = *r->holds;

	memset(r->holds->busy, 0, sizeof(r->holds->busy));
	locks.node = locks.node2 = NULL;
	cache_delivered(r->fs->cache, &locks);
	done_unseen(r);
}

static bool locks_any(const struct cache_req *r)
{
	unsigned i = 0;

	while (i < REQUEST_LOCKS && r->locks[i] == NULL)
		i++;
	return i < REQUEST_LOCKS;
}

static void hold(struct held_reply *h, const struct cache_reply *reply)
{
	struct krequest *r = h->r;

	if (h->taken) {
		*reply->ret_held = true;
		cache_hold(r->fs->cache, &r->creq, &h->holds);
	}
	(void)pthread_mutex_lock(&r->fs->lock);
	r->waits_for_lock = false; /* it has it: the call is not the backend's any more */
	r->holds = h->taken ? &h->holds : NULL;
	if (h->taken && atomic_load(&r->answered))
		killed_while_held_locked(r);
	(void)pthread_mutex_unlock(&r->fs->lock);
	h->fence = (struct notify_fence){.done = hold_on, .arg = h, .locks = locks_any(&r->creq)};
	if (!h->reply.synchronises || !notify_follow_host(r->fs->notify, &h->fence))
		hold_on(h);
}

/* Whether the reply has to wait, as far as can be told without a lock. */
static bool waits(const struct fs *fs, uint64_t op, fuse_ino_t ino, const struct cache_reply *reply)
{
	struct notify *n = fs->notify;

	return reply->hold || reply->size_first || reply->cut_first ||
	       (reply->synchronises && notify_host_waits(n)) ||
	       (msg_is(op, TRAIT_AFTER_NAMES) && notify_names_passed(n, ino));
}

static void krequest_done(struct cache_req *creq, const struct cache_reply *reply)
{
	struct krequest *r = (struct krequest *)creq;
	struct held_reply *h;

	if (reply->synchronises)
		stats_add(r->fs->stats,
			  msg_is(creq->call.req.op, TRAIT_FILE_LOCK) ? STAT_fence_locks
								     : STAT_fence_names,
			  1);
	uint64_t size = reply->forces ? reply->attr->size : 0;
	if (!waits(r->fs, creq->call.req.op, r->ino, reply) &&
	    deliver_with_size(r, reply, &size, NULL))
		return;
	h = held_new(r, reply); /* without memory it goes at once */
	if (h != NULL && reply->synchronises)
		stats_add(r->fs->stats, STAT_fence_waits, 1);
	if (h != NULL)
		hold(h, reply);
	else
		deliver(r, reply);
}

void krequest_submit(struct krequest *r, fuse_ino_t ino, fuse_ino_t ino2)
{
	r->ino = ino;
	r->ino2 = ino2;
	r->creq.done = krequest_done;
	r->creq.task = (uint32_t)r->pid;
	track(r);
	cache_submit(r->fs->cache, &r->creq, ino, ino2);
}

void krequest_fetch(struct krequest *r, struct listing *l, uint64_t off, bool plus)
{
	r->creq.done = krequest_done;
	track(r);
	listing_fetch(l, &r->creq, off, plus);
}

/* ---- what the cache answers before a krequest is made ---- */

/* A request of the kernel, as a query of the cache. */
struct kquery {
	fuse_req_t req;
	const struct finisher *f;
	struct cache_query q;
};

static void kquery_done(void *arg, const struct cache_reply *reply)
{
	const struct kquery *k = arg;
	const struct cache_query *q = &k->q;
	struct fs *fs = req_fs(k->req);

	if (!waits(fs, q->op, q->ino, reply)) {
		k->f->reply(fs, k->req, q->ino, reply);
		return;
	}
	struct krequest *r = krequest_new(k->req, q->op, k->f->finish);
	if (r != NULL) {
		r->ino = q->ino;
		track(r);
		krequest_done(&r->creq, reply);
	} else if (reply->ino != 0) {
		cache_undo_lookup(fs->cache, reply->ino);
	}
}

bool krequest_hit(fuse_req_t req, enum msg_op op, fuse_ino_t ino, const char *name,
		  const struct finisher *f)
{
	struct kquery k = {.req = req,
			   .f = f,
			   .q = {.op = op,
				 .ino = ino,
				 .name = {name, strlen(name)},
				 .task = (uint32_t)fuse_req_ctx(req)->pid}};

	return k.q.name.len <= MSG_NAME_MAX &&
	       cache_answer(req_fs(req)->cache, &k.q, kquery_done, &k);
}

/* ---- arguments ---- */

static bool name_fits(struct krequest *r, const char *name)
{
	if (strlen(name) <= MSG_NAME_MAX)
		return true;
	(void)fuse_reply_err(r->req, ENAMETOOLONG);
	krequest_free(r);
	return false;
}

bool krequest_name(struct krequest *r, const char *name)
{
	if (!name_fits(r, name))
		return false;
	REQUEST_SET(r, name, ((struct slice){name, strlen(name)}));
	return true;
}

bool krequest_name2(struct krequest *r, const char *name)
{
	if (!name_fits(r, name))
		return false;
	REQUEST_SET(r, name2, ((struct slice){name, strlen(name)}));
	return true;
}

bool krequest_file(struct krequest *r, const struct fuse_file_info *fi)
{
	if (r->fs->options.no_open) {
		r->creq.by_node = true;
		return true;
	}
	if (atomic_load(&kfile_of(r->fs, fi)->lost)) {
		(void)fuse_reply_err(r->req, EIO);
		krequest_free(r);
		return false;
	}
	REQUEST_SET(r, fh, kfile_of(r->fs, fi)->fh);
	return true;
}

void krequest_payload(struct krequest *r, const void *data, size_t len)
{
	r->buffer = current.buf->mem;
	current.buf->mem = NULL; /* libfuse takes a new one for the next request */
	REQUEST_SET(r, payload, ((struct slice){data, len}));
}

void krequest_mode(struct krequest *r, mode_t mode)
{
	mode_t mask = r->fs->masks ? fuse_req_ctx(r->req)->umask : 0;
	bool by_server = r->fs->server->umask;

	mode &= ~r->fs->options.umask;
	REQUEST_SET(r, mode, by_server ? mode : mode & ~mask);
	if (by_server && mask != 0)
		REQUEST_SET(r, umask, mask);
}

/*
 * The groups decide one thing on the host: whether S_ISGID survives on a file
 * created in a setgid directory (mode_strip_sgid). Reading them costs a file
 * of /proc, so they are fetched only then.
 */
static void krequest_groups(struct krequest *r)
{
	static _Thread_local unsigned char bytes[4 * MSG_GROUPS_MAX];
	gid_t groups[MSG_GROUPS_MAX];
	int n = fuse_req_getgroups(r->req, MSG_GROUPS_MAX, groups);

	if (n < 0)
		return;
	if (n > MSG_GROUPS_MAX)
		n = MSG_GROUPS_MAX;
	for (int i = 0; i < n; i++) {
		uint32_t gid = gid_to_server(r->fs, groups[i]);

		for (int b = 0; b < 4; b++)
			bytes[4 * i + b] = (unsigned char)(gid >> (24 - 8 * b));
	}
	REQUEST_SET(r, groups, ((struct slice){bytes, 4 * (size_t)n}));
}

void krequest_caller(struct krequest *r, mode_t mode)
{
	if (!r->fs->server->server_root)
		return; /* the server creates as itself, or as plain's caller */
	REQUEST_SET(r, uid, r->creq.call.uid);
	REQUEST_SET(r, gid, r->creq.call.gid);
	if ((mode & S_ISGID) != 0)
		krequest_groups(r);
}

/* ---- interrupts ---- */

bool krequest_interrupt(struct fs *fs, uint64_t unique)
{
	SCOPE_LOCK(&fs->lock);
	struct krequest *r = fs->in_flight;

	while (r != NULL && r->unique != unique)
		r = r->next;
	if (r == NULL)
		return false;
	stats_add(fs->stats, STAT_fuse_interrupts, 1);
	r->interrupted = true;
	alarm_ring(&fs->watch);
	if (r->waits_for_lock) {
		struct backend *b = cache_backend(fs->cache);

		/* cannot complete meanwhile: krequest_done wants fs.lock */
		return b->ops->cancel(b, &r->creq.call);
	}
	return true;
}

/*
 * The kernel sends one INTERRUPT per request, whatever signals follow, and
 * answering EINTR for any but a fatal one breaks programs that rely on
 * SA_RESTART. So an interrupted request is looked at again and again.
 */
bool krequests_check_killed_locked(struct fs *fs)
{
	bool more = false;

	for (struct krequest *r = fs->in_flight; r != NULL; r = r->next) {
		if (!r->interrupted || atomic_load(&r->answered))
			continue;
		if (!task_being_killed(r->pid)) {
			more = true;
		} else if (krequest_claim(r)) {
			(void)fuse_reply_err(r->req, EINTR);
			cache_pages_let_go(fs->cache, &r->creq);
			if (r->holds != NULL)
				killed_while_held_locked(r);
		}
	}
	return more;
}

/* ---- finishers ---- */

void finish_err(struct krequest *r, const struct cache_reply *reply)
{
	(void)fuse_reply_err(r->req, reply->err);
	krequest_free(r);
}

/* False: an entry was to be told, and nobody waits for it any more. */
static bool reply_entry(const struct fs *fs, fuse_req_t req, const struct cache_reply *reply)
{
	struct fuse_entry_param e = {0};

	if (reply->err == ENOENT && reply->entry_ttl > 0) {
		e.entry_timeout = seconds(reply->entry_ttl); /* ino 0: a negative entry */
		(void)fuse_reply_entry(req, &e);
		return true;
	}
	if (reply->err != 0) {
		(void)fuse_reply_err(req, reply->err);
		return true;
	}
	entry_param(fs, reply->ino, reply->attr, reply->attr_ttl, reply->entry_ttl, &e);
	return fuse_reply_entry(req, &e) >= 0;
}

void finish_entry(struct krequest *r, const struct cache_reply *reply)
{
	if (!reply_entry(r->fs, r->req, reply))
		discard(r, reply);
	krequest_free(r);
}

static void entry_hit(struct fs *fs, fuse_req_t req, fuse_ino_t ino,
		      const struct cache_reply *reply)
{
	(void)ino;
	if (!reply_entry(fs, req, reply))
		cache_undo_lookup(fs->cache, reply->ino);
}

const struct finisher finisher_entry = {entry_hit, finish_entry};

static void reply_attr(struct fs *fs, fuse_req_t req, fuse_ino_t ino,
		       const struct cache_reply *reply)
{
	struct stat st;

	if (reply->err != 0) {
		(void)fuse_reply_err(req, reply->err);
		return;
	}
	attr_to_stat(fs, reply->attr, &st);
	bool passed = notify_names_passed(fs->notify, ino);
	(void)fuse_reply_attr(req, &st, passed ? 0 : seconds(reply->attr_ttl));
}

void finish_attr(struct krequest *r, const struct cache_reply *reply)
{
	reply_attr(r->fs, r->req, r->ino, reply);
	krequest_free(r);
}

const struct finisher finisher_attr = {reply_attr, finish_attr};

void finish_data(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0)
		(void)fuse_reply_err(r->req, reply->err);
	else
		(void)fuse_reply_buf(r->req, reply->data.data, reply->data.len);
	krequest_free(r);
}
