#include "fuse/notify.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "core/log.h"
#include "fuse/fs_priv.h"
#include "fuse/mounts.h"

#define NOTIFIERS 4 /* half of them for entries */

#define MS	      UINT64_C(1000000)
#define PARK_MAX      (20 * MS)	 /* an entry is held back no longer, if the host answers at all */
#define DEFER_AFTER   (2 * MS)	 /* the server is told that an acknowledgement will take longer */
#define DEFER_ALWAYS  (100 * MS) /* whatever it is that takes so long */
#define RETRY_FIRST   (1 * MS)	 /* doubled each time, */
#define RETRY_DOUBLED 5		 /* this often */

/* A name that no directory has. */
#define NO_NAME "/"

struct item {
	struct item *next;	    /* of the queue, or of those that wait for their time */
	struct item *older, *newer; /* of all that are not done */
	uint64_t ticket;	    /* ascending */
	uint64_t ino;
	bool asked;	  /* by the cache, which counts */
	bool nothing;	  /* only done is called */
	bool entry;	  /* a name in ino, and ino's listing; else ino itself */
	bool data;	  /* with pages from off on, len of them or all (0) */
	bool parked;	  /* behind a request in the directory */
	uint64_t running; /* inside the kernel since then; 0: not */
	unsigned tries;
	uint64_t born, not_before;
	uint64_t changed; /* on the host, on our clock; 0: it is no push */
	uint64_t off, len;
	void (*done)(void *arg);
	void *arg;
	size_t name_len;
	char name[];
};

/* Something is to be said when everything up to ticket is done. */
struct mark {
	struct mark *next;
	uint64_t ticket;
	uint64_t seq, deadline, born; /* an acknowledgement; done NULL */
	void (*done)(void *arg);
	void *arg;
};

struct shard {
	struct notify *notify;
	pthread_t thread;
	pthread_cond_t work;
	struct item *head, **tail;
	struct item *waiting; /* until not_before */
};

struct notify {
	struct fs *fs;
	struct mounts *mounts;
	pthread_mutex_t lock; /* all that follows */
	struct shard shards[NOTIFIERS];
	unsigned started;
	uint64_t ticket;
	struct item *oldest, *newest;
	struct mark *marks;
	bool stopping;
};

/* ---- what is not done yet ---- */

static struct shard *shard_of(struct notify *n, uint64_t ino, bool entry)
{
	const unsigned half = NOTIFIERS / 2;

	return &n->shards[ino % half + (entry ? half : 0)];
}

static void enqueue_locked(struct notify *n, struct item *i)
{
	struct shard *s = shard_of(n, i->ino, i->entry);

	i->next = NULL;
	*s->tail = i;
	s->tail = &i->next;
	(void)pthread_cond_signal(&s->work);
}

static void add(struct notify *n, struct item *i)
{
	SCOPE_LOCK(&n->lock);
	i->ticket = ++n->ticket;
	i->born = cache_now();
	i->older = n->newest;
	*(i->older != NULL ? &i->older->newer : &n->oldest) = i;
	n->newest = i;
	stats_add(n->fs->stats, STAT_inval_waiting, 1);
	enqueue_locked(n, i);
}

static struct item *item_new(uint64_t ino, const char *name, size_t len)
{
	struct item *i = calloc(1, sizeof(*i) + len + 1);

	if (i == NULL) {
		log_err("no memory to invalidate what the kernel keeps of inode %llu",
			(unsigned long long)ino);
		return NULL;
	}
	i->ino = ino;
	i->name_len = len;
	memcpy(i->name, name, len);
	return i;
}

static void finish_locked(struct notify *n, struct item *i)
{
	*(i->older != NULL ? &i->older->newer : &n->oldest) = i->newer;
	*(i->newer != NULL ? &i->newer->older : &n->newest) = i->older;
	stats_sub(n->fs->stats, STAT_inval_waiting, 1);
	if (i->changed != 0)
		stats_time(n->fs->stats, HIST_inval_lag, cache_now() - i->changed);
	free(i);
}

/* What waits for the item goes on, whatever became of the item. Without the lock. */
static void item_done(const struct item *i)
{
	if (i->done != NULL)
		i->done(i->arg);
}

/* ---- marks ---- */

/* Whether something up to ticket waits for a request of our own, which may wait for others. */
static bool held_up_locked(const struct notify *n, uint64_t ticket, uint64_t now)
{
	for (const struct item *i = n->oldest; i != NULL && i->ticket <= ticket; i = i->newer)
		if (i->parked || (i->running != 0 && now - i->running >= DEFER_AFTER))
			return true;
	return false;
}

static struct mark *due_locked(struct notify *n, uint64_t now, bool *ret_deferred)
{
	for (struct mark **at = &n->marks; *at != NULL; at = &(*at)->next) {
		struct mark *m = *at;
		bool done = n->oldest == NULL || n->oldest->ticket > m->ticket;

		if (!done && (m->done != NULL || now < m->deadline))
			continue;
		if (!done && now < m->born + DEFER_ALWAYS && !held_up_locked(n, m->ticket, now)) {
			m->deadline = now + DEFER_AFTER; /* only slow */
			continue;
		}
		*ret_deferred = !done;
		*at = m->next;
		return m;
	}
	return NULL;
}

/* Says what is due to be said. Called and returns with the lock. */
static void say_marks_locked(struct notify *n)
{
	struct mark *m;
	bool deferred;

	while ((m = due_locked(n, cache_now(), &deferred)) != NULL) {
		(void)pthread_mutex_unlock(&n->lock);
		if (m->done != NULL)
			m->done(m->arg);
		else
			cache_acknowledge(n->fs->cache, m->seq, deferred);
		free(m);
		(void)pthread_mutex_lock(&n->lock);
	}
}

static void add_mark(struct notify *n, const struct mark *what)
{
	struct mark *m = malloc(sizeof(*m));

	SCOPE_LOCK(&n->lock);
	if (m == NULL) {
		log_err("no memory to acknowledge invalidations");
		return;
	}
	*m = *what;
	m->next = n->marks;
	m->ticket = n->ticket;
	n->marks = m;
	/* All: any of them may be inside the kernel. */
	for (unsigned i = 0; i < NOTIFIERS; i++)
		(void)pthread_cond_signal(&n->shards[i].work);
}

/* ---- the kernel ---- */

enum outcome { DONE, AGAIN };

/* The kernel creates the inode only when whoever waits for our reply has run: until then it knows
 * none. */
static enum outcome inval_inode(struct notify *n, uint64_t ino, int64_t off, int64_t len)
{
	int r = FAULT(no_notify) ? 0 : fuse_lowlevel_notify_inval_inode(n->fs->se, ino, off, len);

	stats_add(n->fs->stats, STAT_inval_sent, 1);
	return r == -ENOENT && !FAULT(no_barrier) && cache_kernel_knows(n->fs->cache, ino) ? AGAIN
											   : DONE;
}

static enum outcome do_inode(struct notify *n, const struct item *i)
{
	bool known = !i->nothing && cache_kernel_knows(n->fs->cache, i->ino);
	enum outcome o = DONE;

	if (known && !i->data)
		return inval_inode(n, i->ino, -1, 0);
	if (known)
		o = inval_inode(n, i->ino, (int64_t)i->off, (int64_t)i->len);
	if (i->data && i->tries == 0)
		cache_pages_dropped(n->fs->cache, i->ino);
	return o;
}

/*
 * The name first, which waits for whoever reads the directory, and so sees to
 * it that what was told of it before is in the listing's pages when they go.
 */
static enum outcome do_entry(struct notify *n, const struct item *i)
{
	struct fs *fs = n->fs;
	enum mounted m = MOUNTED_NONE;

	if (!cache_kernel_knows(fs->cache, i->ino))
		return DONE;
	if (i->tries == 0) {
		if (i->name_len > 0)
			m = mounts_below(n->mounts, fs->cache, i->ino, i->name, i->name_len);
		stats_add(fs->stats, STAT_inval_sent, 1);
		if (FAULT(no_notify))
			return DONE;
		if (m == MOUNTED_NONE)
			(void)fuse_lowlevel_notify_inval_entry(
				fs->se, i->ino, i->name_len > 0 ? i->name : NO_NAME,
				i->name_len > 0 ? i->name_len : sizeof(NO_NAME) - 1);
		else if (fs->expire_entries)
			(void)fuse_lowlevel_notify_expire_entry(fs->se, i->ino, i->name,
								i->name_len, FUSE_LL_EXPIRE_ONLY);
	}
	return inval_inode(n, i->ino, 0, 0);
}

/* ---- the notifiers ---- */

static void wait_locked(struct shard *s, struct item *i, uint64_t not_before)
{
	i->not_before = not_before;
	i->next = s->waiting;
	s->waiting = i;
}

/* The next to be done; NULL: none now, and *ret_until tells when to look again. */
static struct item *next_locked(struct shard *s, uint64_t *ret_until)
{
	uint64_t now = cache_now(), until = UINT64_MAX;

	for (struct item **at = &s->waiting; *at != NULL; at = &(*at)->next) {
		struct item *i = *at;

		if (i->not_before <= now) {
			*at = i->next;
			return i;
		}
		until = i->not_before < until ? i->not_before : until;
	}
	struct item *i = s->head;
	if (i != NULL) {
		s->head = i->next;
		if (s->head == NULL)
			s->tail = &s->head;
	}
	for (const struct mark *m = s->notify->marks; m != NULL; m = m->next)
		if (m->done == NULL && m->deadline < until)
			until = m->deadline;
	*ret_until = until;
	return i;
}

/*
 * inval_entry waits for the lock of the directory, which a request in flight
 * there may hold until the host answers; and once it waits, nobody else gets
 * the lock. So it lets such a request end first. True: it waits.
 */
static bool park(struct shard *s, struct item *i)
{
	struct notify *n = s->notify;
	struct cache *c = n->fs->cache;
	uint64_t now = cache_now();

	if (i->tries > 0 || (now - i->born >= PARK_MAX && cache_link_alive(c)))
		return false;
	(void)pthread_mutex_lock(&n->lock);
	bool first = !i->parked;
	i->parked = true;
	wait_locked(s, i, now + PARK_MAX);
	(void)pthread_mutex_unlock(&n->lock);
	/* unpark may come from now on */
	if (cache_dir_park(c, i->ino)) {
		stats_add(n->fs->stats, STAT_inval_parked, first);
		return true;
	}
	/* nothing is in flight: this thread alone takes from the list */
	(void)pthread_mutex_lock(&n->lock);
	struct item **at = &s->waiting;
	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	(void)pthread_mutex_unlock(&n->lock);
	return false;
}

static void execute_locked(struct shard *s, struct item *i)
{
	struct notify *n = s->notify;
	enum outcome o = DONE;

	i->running = cache_now();
	(void)pthread_mutex_unlock(&n->lock);
	bool parked = i->entry && park(s, i);
	if (!parked)
		o = i->entry ? do_entry(n, i) : do_inode(n, i);
	(void)pthread_mutex_lock(&n->lock);
	i->running = 0;
	if (parked)
		return;
	if (o == DONE) {
		(void)pthread_mutex_unlock(&n->lock);
		item_done(i);
		(void)pthread_mutex_lock(&n->lock);
		finish_locked(n, i);
		return;
	}
	stats_add(n->fs->stats, STAT_inval_retried, 1);
	unsigned doubled = i->tries < RETRY_DOUBLED ? i->tries : RETRY_DOUBLED;
	i->tries++;
	wait_locked(s, i, cache_now() + (RETRY_FIRST << doubled));
}

static void *notify_main(void *arg)
{
	struct shard *s = arg;
	struct notify *n = s->notify;

	SCOPE_LOCK(&n->lock);
	while (!n->stopping) {
		uint64_t until;

		say_marks_locked(n);
		struct item *i = next_locked(s, &until);
		if (i != NULL) {
			execute_locked(s, i);
		} else if (n->stopping) {
			break;
		} else if (until == UINT64_MAX) {
			(void)pthread_cond_wait(&s->work, &n->lock);
		} else {
			struct timespec ts = {.tv_sec = (time_t)(until / 1000000000),
					      .tv_nsec = (long)(until % 1000000000)};
			(void)pthread_cond_timedwait(&s->work, &n->lock, &ts);
		}
	}
	return NULL;
}

/* ---- what is asked of them ---- */

static void sink_inode(void *arg, uint64_t ino, bool data)
{
	struct notify *n = arg;
	struct item *i = item_new(ino, "", 0);

	if (i != NULL) {
		i->data = data;
		i->changed = cache_changed_at(n->fs->cache);
		add(n, i);
	}
}

static void add_entry(struct notify *n, uint64_t parent, const char *name, size_t len,
		      uint64_t changed)
{
	struct item *i = item_new(parent, name, len);

	if (i != NULL) {
		i->entry = true;
		i->changed = changed;
		add(n, i);
	}
}

static void sink_entry(void *arg, uint64_t parent, const char *name, size_t len)
{
	struct notify *n = arg;

	add_entry(n, parent, name, len, cache_changed_at(n->fs->cache));
}

static void sink_unpark(void *arg, uint64_t parent)
{
	struct notify *n = arg;
	struct shard *s = shard_of(n, parent, true);

	SCOPE_LOCK(&n->lock);
	for (struct item *i = s->waiting; i != NULL; i = i->next)
		if (i->parked && i->ino == parent)
			i->not_before = 0;
	(void)pthread_cond_signal(&s->work);
}

static void sink_mark(void *arg, uint64_t seq)
{
	uint64_t now = cache_now();
	const struct mark m = {.seq = seq, .deadline = now + DEFER_AFTER, .born = now};

	add_mark(arg, &m);
}

const struct cache_sink notify_sink = {
	.inode = sink_inode,
	.entry = sink_entry,
	.unpark = sink_unpark,
	.mark = sink_mark,
};

void notify_inval_range(struct notify *n, fuse_ino_t ino, uint64_t off, uint64_t len)
{
	struct item *i = item_new(ino, "", 0);

	if (i != NULL) {
		cache_drops_pages(n->fs->cache, ino);
		i->data = true;
		i->off = off;
		i->len = len;
		add(n, i);
	}
}

void notify_store(struct notify *n, fuse_ino_t ino, uint64_t off, struct slice data)
{
	struct fuse_bufvec v = FUSE_BUFVEC_INIT(data.len);

	v.buf[0].mem = (void *)(uintptr_t)data.data;
	if (!FAULT(no_notify))
		(void)fuse_lowlevel_notify_store(n->fs->se, ino, (off_t)off, &v, 0);
	stats_add(n->fs->stats, STAT_inval_sent, 1);
}

void notify_after(struct notify *n, fuse_ino_t ino, void (*done)(void *arg), void *arg)
{
	struct item *i = item_new(ino, "", 0);

	if (i == NULL) {
		done(arg);
		return;
	}
	i->nothing = true;
	i->done = done;
	i->arg = arg;
	add(n, i);
}

void notify_inval_first(struct notify *n, fuse_ino_t ino, uint64_t off, void (*done)(void *arg),
			void *arg)
{
	struct item *i = item_new(ino, "", 0);

	if (i == NULL) {
		done(arg);
		return;
	}
	cache_drops_pages(n->fs->cache, ino);
	i->data = true;
	i->off = off;
	i->done = done;
	i->arg = arg;
	add(n, i);
}

void notify_inval_entry(struct notify *n, fuse_ino_t parent, const char *name, size_t len)
{
	sink_entry(n, parent, name, len);
}

void notify_inval_listing(struct notify *n, fuse_ino_t ino)
{
	add_entry(n, ino, "", 0, 0);
}

void notify_fence(struct notify *n, void (*done)(void *arg), void *arg)
{
	const struct mark m = {.done = done, .arg = arg};

	add_mark(n, &m);
}

/* ---- life ---- */

int notify_new(struct fs *fs, struct notify **ret)
{
	struct notify *n = calloc(1, sizeof(*n));
	pthread_condattr_t attr;
	int e = n == NULL ? -ENOMEM : mounts_new(fs->mountpoint, &n->mounts);

	if (e < 0) {
		free(n);
		return e;
	}
	n->fs = fs;
	(void)pthread_mutex_init(&n->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	for (unsigned i = 0; i < NOTIFIERS; i++) {
		struct shard *s = &n->shards[i];

		s->notify = n;
		s->tail = &s->head;
		(void)pthread_cond_init(&s->work, &attr);
	}
	(void)pthread_condattr_destroy(&attr);
	for (; n->started < NOTIFIERS && e == 0; n->started += e == 0)
		e = -pthread_create(&n->shards[n->started].thread, NULL, notify_main,
				    &n->shards[n->started]);
	if (e < 0) {
		notify_free(n);
		return e;
	}
	*ret = n;
	return 0;
}

void notify_free(struct notify *n)
{
	if (n == NULL)
		return;
	(void)pthread_mutex_lock(&n->lock);
	n->stopping = true;
	for (unsigned i = 0; i < NOTIFIERS; i++)
		(void)pthread_cond_signal(&n->shards[i].work);
	(void)pthread_mutex_unlock(&n->lock);
	for (unsigned i = 0; i < n->started; i++)
		(void)pthread_join(n->shards[i].thread, NULL);
	while (n->oldest != NULL) {
		item_done(n->oldest);
		finish_locked(n, n->oldest);
	}
	while (n->marks != NULL) {
		struct mark *m = n->marks;

		n->marks = m->next;
		if (m->done != NULL)
			m->done(m->arg);
		free(m);
	}
	for (unsigned i = 0; i < NOTIFIERS; i++)
		(void)pthread_cond_destroy(&n->shards[i].work);
	mounts_free(n->mounts);
	(void)pthread_mutex_destroy(&n->lock);
	free(n);
}
