/* Telling the kernel: one item at a time, on a notifier. */
#include "fuse/notify_priv.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/uio.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "fuse/fs_priv.h"
#include "fuse/mounts.h"
#include "fuse/task.h"

#define SIZE_TRIES 300 /* that is for 10 s */

/* A name that no directory has, and a node that none is. */
#define NO_NAME "/"
#define NO_NODE UINT64_MAX

/* ---- the kernel ---- */

/* The kernel creates the inode only when whoever waits for our reply has run: until then it knows
 * none. */
static enum outcome inval_inode(struct notify *n, uint64_t ino, int64_t off, int64_t len)
{
	int r = FAULT(no_notify) ? 0 : fuse_lowlevel_notify_inval_inode(n->fs->se, ino, off, len);

	stats_add(n->fs->stats, STAT_inval_sent, 1);
	return r == -ENOENT && !FAULT(no_barrier) && cache_kernel_knows(n->fs->cache, ino) ? AGAIN
											   : DONE;
}

/*
 * Pages that a READ or WRITE in flight holds are left out: who drops them waits in the kernel until
 * the host answers, and no signal ends that. The notification keeps those that are still to be
 * dropped, behind the replies.
 */
static enum outcome drop_pages(struct notify *n, struct notification *i)
{
	struct cache *c = n->fs->cache;
	bool late = cache_now() - i->born >= PARK_MAX && cache_link_alive(c);
	uint64_t end = i->len != 0 ? i->off + i->len : INT64_MAX, left_off = end, left_end = 0;
	enum outcome o = DONE;

	for (uint64_t at = i->off, to = at; at < end && o == DONE; at = to) {
		struct busy_pages b;
		bool busy = cache_pages_busy(c, i->ino, at, end, i->news, late, &b);

		to = busy ? b.end : end;
		if (busy && b.wait) {
			left_off = b.off < left_off ? b.off : left_off;
			left_end = b.end;
		}
		if (!busy || b.off > at)
			o = inval_inode(n, i->ino, (int64_t)at,
					busy	     ? (int64_t)(b.off - at)
					: i->len > 0 ? (int64_t)(end - at)
						     : 0);
		else if (at == i->off) /* else the attributes would stay */
			o = inval_inode(n, i->ino, -1, 0);
	}
	if (o != DONE || left_end == 0)
		return o;
	i->off = left_off;
	i->len = left_end - left_off;
	return PARKED;
}

enum outcome notify_do_inode(struct notify *n, struct notification *i)
{
	bool known = !i->nothing && cache_kernel_knows(n->fs->cache, i->ino);
	enum outcome o = DONE;

	if (known && !i->data)
		return inval_inode(n, i->ino, -1, 0);
	if (known)
		o = drop_pages(n, i);
	if (o == PARKED)
		return o;
	for (; i->drops > 0; i->drops--)
		cache_pages_dropped(n->fs->cache, i->ino);
	return o;
}

#define TOLD_AT_ONCE 16 /* tasks that are looked at */

/* Whether all tasks to which a name was confirmed before the news have digested that. */
static bool digested(struct notify *n, const struct notification *i)
{
	struct cache *c = n->fs->cache;
	struct confirmed t[TOLD_AT_ONCE];
	size_t count = cache_take_confirmed(c, i->news, t, TOLD_AT_ONCE);
	bool all = count < TOLD_AT_ONCE;

	for (size_t k = 0; k < count; k++) {
		if (task_went_on((pid_t)t[k].task, &t[k].cpu))
			continue;
		cache_put_confirmed(c, &t[k]);
		all = false;
	}
	return all;
}

/* It is done when nobody can give the name back the time that it has lost. */
static void expire(struct notify *n, struct notification *i)
{
	i->expires = !digested(n, i);
	(void)fuse_api_expire_entry(n->fs->se, i->ino, i->name, i->name_len);
}

/* Tells the kernel of a name. A mount at the name or below it would go with the dentry: then the
 * name expires instead. */
static void tell_name(struct notify *n, struct notification *i)
{
	struct fs *fs = n->fs;
	bool can = fs->expire_entries && !FAULT(no_expiry);
	enum entry_way now = cache_entry_way(fs->cache, i->ino, i->name, i->name_len);
	enum entry_way way = now > i->way ? now : i->way;

	i->expires = false; /* it may have gone another way the last time */
	if (can && way != ENTRY_DROPS)
		expire(n, i);
	else if (mounts_below(n->mounts, fs->cache, i->ino, i->name, i->name_len) == MOUNTED_NONE)
		(void)fuse_lowlevel_notify_inval_entry(fs->se, i->ino, i->name, i->name_len);
	else if (fs->expire_entries)
		expire(n, i);
}

/*
 * The lock of the directory, or that of what has the name in it: of a node that it cannot be
 * (fuse_reverse_inval_entry looks at the node with the lock held), so that nothing is deleted.
 */
static void wait_for_lock(struct notify *n, const struct notification *i)
{
	struct fs *fs = n->fs;

	stats_add(fs->stats, STAT_inval_sent, 1);
	if (i->name_len == 0)
		(void)fuse_lowlevel_notify_inval_entry(fs->se, i->ino, NO_NAME,
						       sizeof(NO_NAME) - 1);
	else if (mounts_below(n->mounts, fs->cache, i->ino, i->name, i->name_len) == MOUNTED_NONE)
		(void)fuse_lowlevel_notify_delete(fs->se, i->ino, NO_NODE, i->name, i->name_len);
}

/* A task sleeps until its reply has been written as well: that comes first. */
void notify_after_forced(struct notify *n)
{
	(void)pthread_rwlock_wrlock(&n->fs->forcing);
	(void)pthread_rwlock_unlock(&n->fs->forcing);
}

static enum outcome do_settle(struct notify *n, struct notification *i)
{
	if (i->tries == 0 && i->ino != i->node)
		wait_for_lock(n, i);
	if (i->tries == 0 && i->task != 0)
		notify_after_forced(n);
	return i->task == 0 || task_went_on((pid_t)i->task, &i->cpu) || i->tries >= SIZE_TRIES
		       ? DONE
		       : AGAIN;
}

/*
 * The name first, which waits for whoever reads the directory, and so sees to
 * it that what was told of it before is in the listing's pages when they go.
 */
enum outcome notify_do_entry(struct notify *n, struct notification *i)
{
	struct fs *fs = n->fs;

	if (i->nothing || !cache_kernel_knows(fs->cache, i->ino))
		return DONE;
	if (i->settles)
		return do_settle(n, i);
	if (i->tries == 0 || i->expires) {
		stats_add(fs->stats, STAT_inval_sent, 1);
		if (FAULT(no_notify))
			return DONE;
		if (i->name_len > 0)
			tell_name(n, i);
		else
			(void)fuse_lowlevel_notify_inval_entry(fs->se, i->ino, NO_NAME,
							       sizeof(NO_NAME) - 1);
	}
	enum outcome o = inval_inode(n, i->ino, 0, 0);
	return i->expires ? AGAIN : o;
}

/* ---- sizes ---- */

/*
 * There is no notification of a size alone. NOTIFY_STORE sets i_size to the end of what it
 * stores, and then takes the bytes (fuse_notify_store): these are where they cannot be read.
 */
static bool store_size(struct notify *n, uint64_t ino, uint64_t from, uint64_t size)
{
	struct fuse_notify_store_out store = {
		.nodeid = ino, .offset = from, .size = (uint32_t)(size - from)};
	struct fuse_out_header out = {.len = (uint32_t)(sizeof(out) + sizeof(store)) + store.size,
				      .error = FUSE_NOTIFY_STORE};
	struct iovec iov[] = {
		{&out, sizeof(out)}, {&store, sizeof(store)}, {n->unreadable, store.size}};

	struct channel *channel = n->fs->channel;

	stats_add(n->fs->stats, STAT_inval_sent, 1);
	bool done = !FAULT(no_notify) && channel->send(channel, iov, 3) < 0 && errno == EFAULT;
	cache_size_stored(n->fs->cache, ino, size, done);
	return done;
}

void notify_size(struct notify *n, fuse_ino_t ino, struct attr *a)
{
	uint64_t from;

	if (cache_size_to_tell(n->fs->cache, ino, a, &from))
		(void)store_size(n, ino, from, a->size);
}

void notify_missing_size(struct notify *n, fuse_ino_t ino)
{
	uint64_t size, from;

	if (cache_size_missing(n->fs->cache, ino, &size, &from) > 0)
		(void)store_size(n, ino, from, size);
}

void notify_appended(struct notify *n, fuse_ino_t ino, uint64_t end)
{
	uint64_t from;

	if (cache_size_appended(n->fs->cache, ino, end, &from) && store_size(n, ino, from, end))
		cache_size_grown(n->fs->cache, ino, end);
}

/* The size has been asked for, and is to be made known. */
enum outcome notify_do_size(struct notify *n, const struct notification *i)
{
	uint64_t size, from;
	int r = cache_size_missing(n->fs->cache, i->ino, &size, &from);

	if (r > 0)
		(void)store_size(n, i->ino, from, size);
	return r == -EAGAIN && i->tries < SIZE_TRIES ? AGAIN : DONE;
}

static void size_asked(void *arg)
{
	struct notification *i = arg;
	struct notify *n = i->notify;

	SCOPE_LOCK(&n->lock);
	item_enqueue_locked(n, i);
}

/* Until it is known the item is not done: so a fence waits for it. */
bool notify_ask_size(struct notify *n, struct notification *i)
{
	i->asked = true;
	i->tries = 0;
	return cache_size_ask(n->fs->cache, i->ino, size_asked, i);
}

void notify_store(struct notify *n, fuse_ino_t ino, uint64_t off, struct slice data)
{
	struct fuse_bufvec v = FUSE_BUFVEC_INIT(data.len);

	v.buf[0].mem = (void *)(uintptr_t)data.data;
	if (!FAULT(no_notify))
		(void)fuse_lowlevel_notify_store(n->fs->se, ino, (off_t)off, &v, 0);
	stats_add(n->fs->stats, STAT_inval_sent, 1);
	cache_size_grown(n->fs->cache, ino, off + data.len);
}

void notify_outdate(struct notify *n, fuse_ino_t ino)
{
	if (!FAULT(no_notify))
		(void)fuse_lowlevel_notify_inval_inode(n->fs->se, ino, -1, 0);
	stats_add(n->fs->stats, STAT_inval_sent, 1);
}
