#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "fuse/fs_priv.h"

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
	r->unique = current.unique;
	r->pid = fuse_req_ctx(req)->pid;
	REQUEST_SET(r, op, op);
	return r;
}

void krequest_free(struct krequest *r)
{
	struct fs *fs = r->fs;

	if (r->past_pages)
		cache_direct_write(fs->cache, r->ino, false);
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
	const struct msg *q = &c->call.req;
	struct notify *n = r->fs->notify;

	switch (q->op) {
	case MSG_RENAME:
		notify_inval_entry(n, r->ino2, c->names[1], c->name_len[1]);
		/* fall through */
	case MSG_CREATE:
	case MSG_MKNOD:
	case MSG_SYMLINK:
	case MSG_UNLINK:
	case MSG_RMDIR:
		notify_inval_entry(n, r->ino, c->names[0], c->name_len[0]);
		break;
	case MSG_LINK:
		notify_inval_entry(n, r->ino2, c->names[1], c->name_len[1]);
		notify_inval_range(n, r->ino, 0, 0);
		break;
	case MSG_OPEN: /* O_TRUNC */
	case MSG_WRITE:
	case MSG_SETATTR:
	case MSG_FALLOCATE:
	case MSG_COPY:
	case MSG_SETXATTR:
	case MSG_REMOVEXATTR:
		notify_inval_range(n, r->ino, 0, 0);
		break;
	default:
		break;
	}
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
	done_unseen(r);
}

/* A reply that waits until the kernel has dropped pages, or knows the size. */
struct held {
	struct krequest *r;
	struct size_wait wait;
	struct cache_reply reply;
	struct attr attr;
	struct msg msg; /* without what its slices point to */
};

static fuse_ino_t object_of(const struct krequest *r, const struct cache_reply *reply)
{
	return reply->ino != 0 ? reply->ino : r->ino;
}

static void finish(struct krequest *r, const struct cache_reply *reply)
{
	const uint64_t op = r->creq.call.req.op;

	if (reply->forces)
		cache_size_forced(r->fs->cache, &r->creq, object_of(r, reply),
				  op == MSG_LINK     ? r->ino2
				  : op == MSG_CREATE ? r->ino
						     : 0,
				  reply->attr->size);
	r->finish(r, reply);
}

static void release(void *arg)
{
	struct held *h = arg;

	if (h->reply.attr != NULL)
		notify_size(h->r->fs->notify, object_of(h->r, &h->reply), &h->attr);
	finish(h->r, &h->reply);
	free(h);
}

/* An append past the page cache is up to date: see cache_direct_write. */
static void appended(void *arg)
{
	struct held *h = arg;

	notify_after(h->r->fs->notify, object_of(h->r, &h->reply), release, h);
}

/* False without memory for it. */
static bool hold(struct krequest *r, const struct cache_reply *reply)
{
	struct held *h = malloc(sizeof(*h));

	if (h == NULL)
		return false;
	h->r = r;
	h->reply = *reply;
	/* it may be outdated by then: nobody is to keep it */
	h->reply.attr_ttl = h->reply.entry_ttl = 0;
	h->reply.hold = false;
	if (r->creq.call.req.op != MSG_OPEN) /* of which the pages have gone by then */
		h->reply.keep = false;
	if (reply->attr != NULL) {
		h->attr = *reply->attr;
		h->reply.attr = &h->attr;
	}
	if (reply->msg != NULL) {
		h->msg = *reply->msg;
		h->reply.msg = &h->msg;
	}
	h->reply.data = (struct slice){0}; /* gone by then */
	h->wait = (struct size_wait){.done = appended, .arg = h};
	if (!reply->size_first || !cache_size_wait(r->fs->cache, object_of(r, reply), &h->wait))
		appended(h);
	return true;
}

static void krequest_done(struct cache_req *creq, const struct cache_reply *reply)
{
	struct krequest *r = (struct krequest *)creq;

	untrack(r);
	if (krequest_claim(r)) {
		if ((!reply->hold && !reply->size_first) || !hold(r, reply))
			finish(r, reply);
	} else {
		discard(r, reply);
		file_free(r->fs, r->file);
		krequest_free(r);
	}
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

void krequest_payload(struct krequest *r, const void *data, size_t len)
{
	r->buffer = current.buf->mem;
	current.buf->mem = NULL; /* libfuse takes a new one for the next request */
	REQUEST_SET(r, payload, ((struct slice){data, len}));
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
	const struct fuse_ctx *ctx = fuse_req_ctx(r->req);

	if (!r->fs->info.server_root && !r->fs->info.plain)
		return; /* the server creates as itself */
	REQUEST_SET(r, uid, uid_to_server(r->fs, ctx->uid));
	REQUEST_SET(r, gid, gid_to_server(r->fs, ctx->gid));
	if ((mode & S_ISGID) != 0 && r->fs->info.server_root)
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
	(void)pthread_cond_signal(&fs->watch);
	if (r->waits_for_lock) {
		struct backend *b = cache_backend(fs->cache);

		/* cannot complete meanwhile: krequest_done wants fs.lock */
		return b->ops->cancel(b, &r->creq.call);
	}
	return true;
}

/* Whether task tid has a SIGKILL that it has not seen yet, or is gone. */
static bool being_killed(pid_t tid)
{
	char path[64], line[256];
	bool killed = false;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	if (tid == 0)
		return false; /* of a foreign pid namespace: not to be known */
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return true;
	while (fgets(line, sizeof(line), f) != NULL) {
		unsigned long long mask;

		if ((sscanf(line, "SigPnd: %llx", &mask) == 1 ||
		     sscanf(line, "ShdPnd: %llx", &mask) == 1) &&
		    (mask >> (SIGKILL - 1) & 1) != 0)
			killed = true;
	}
	(void)fclose(f);
	return killed;
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
		if (!being_killed(r->pid))
			more = true;
		else if (krequest_claim(r))
			(void)fuse_reply_err(r->req, EINTR);
	}
	return more;
}

/* ---- finishers ---- */

void finish_err(struct krequest *r, const struct cache_reply *reply)
{
	(void)fuse_reply_err(r->req, reply->err);
	krequest_free(r);
}

void finish_entry(struct krequest *r, const struct cache_reply *reply)
{
	struct fuse_entry_param e = {0};
	int e_sent;

	if (reply->err == ENOENT && reply->entry_ttl > 0) {
		e.entry_timeout = seconds(reply->entry_ttl); /* ino 0: a negative entry */
		(void)fuse_reply_entry(r->req, &e);
	} else if (reply->err != 0) {
		(void)fuse_reply_err(r->req, reply->err);
	} else {
		entry_param(r->fs, reply->ino, reply->attr, reply->attr_ttl, reply->entry_ttl, &e);
		e_sent = fuse_reply_entry(r->req, &e);
		if (e_sent < 0)
			discard(r, reply);
	}
	krequest_free(r);
}

void finish_attr(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0) {
		(void)fuse_reply_err(r->req, reply->err);
	} else {
		struct stat st;

		attr_to_stat(r->fs, reply->attr, &st);
		(void)fuse_reply_attr(r->req, &st, seconds(reply->attr_ttl));
	}
	krequest_free(r);
}

void finish_data(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0)
		(void)fuse_reply_err(r->req, reply->err);
	else
		(void)fuse_reply_buf(r->req, reply->data.data, reply->data.len);
	krequest_free(r);
}
