/*
 * The names that the kernel was told, and how they are taken back.
 *
 * A name may be taken back in two ways. inval_entry takes the dentry out of
 * the tree (d_invalidate): what is looked up there is a new one. An expired one stays
 * where it is, and is looked up before it is used again; if it still means the same
 * node, nobody notices.
 *
 * A directory's dentry is the place where processes are: their working directory, and
 * what getcwd(2) says of it. Taken out of the tree it has no path any more, for
 * good, though the directory may be where it was. So names of directories
 * expire, and so do those of which nobody knows what the kernel has there.
 *
 * But a look-up of a dentry that has expired holds no lock (fuse_dentry_revalidate): one that was
 * answered just before the name changed may be digested after it has expired again, and
 * gives the dentry its time back. So each task that was answered so is noted
 * (`confirmed`) until something else is heard of it: whoever sends a request has digested
 * the reply to the one before. A name expires again until none of those is left to whom one
 * was confirmed before the news came; whoever tells the kernel finds out by other means as well
 * whether they have gone on (src/fuse/task.h). What was confirmed later is true: who looks again
 * and again holds nothing up. What is looked up for the first time is under the directory's lock,
 * which the notification waits for.
 *
 * It does not matter under which name the directory was confirmed. Its dentry moves with it, by a
 * rename here or when somebody finds it elsewhere (d_splice_alias); and then the late answer about
 * its old name gives the dentry time under the name that it has by now.
 */
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cache/in_kernel_names.h"
#include "cache/node.h"
#include "core/cleanup.h"
#include "core/fault.h"

#define CONFIRMED_MAX 4096
#define CONFIRMED_NS  UINT64_C(10000000000) /* no task that can run takes so long */

struct confirmation {
	struct hash_link link; /* cache.confirmed, by task */
	struct confirmed what;
};

static struct confirmation *find_locked(const struct cache *c, uint32_t task)
{
	struct hash_link *l = hash_first(&c->confirmed, (uint32_t)hash_mix(task));

	for (; l != NULL; l = hash_next(l)) {
		struct confirmation *t = HASH_ENTRY(l, struct confirmation, link);

		if (t->what.task == task)
			return t;
	}
	return NULL;
}

static void remove_locked(struct cache *c, struct confirmation *t)
{
	hash_del(&c->confirmed, &t->link);
	free(t);
}

void names_arrive_locked(struct cache *c, uint32_t task)
{
	struct confirmation *t = c->confirmed.count > 0 ? find_locked(c, task) : NULL;

	if (t != NULL)
		remove_locked(c, t);
}

/* Calls each for all; it may remove what it is given. */
static void each_locked(struct cache *c,
			void (*each)(struct cache *c, struct confirmation *t, void *arg), void *arg)
{
	for (size_t i = 0; i < c->confirmed.size; i++) {
		for (struct hash_link *l = *hash_bucket(&c->confirmed, i), *next; l != NULL;
		     l = next) {
			next = l->next;
			each(c, HASH_ENTRY(l, struct confirmation, link), arg);
		}
	}
}

static void remove_old(struct cache *c, struct confirmation *t, void *arg)
{
	if (t->what.at < *(uint64_t *)arg)
		remove_locked(c, t);
}

/* again: it was taken out, and its place may have been taken. */
static bool add_locked(struct cache *c, const struct confirmed *what, bool again)
{
	struct confirmation *t = find_locked(c, what->task);
	uint64_t old = cache_now() - CONFIRMED_NS;

	if (t == NULL && c->confirmed.count >= CONFIRMED_MAX)
		each_locked(c, remove_old, &old);
	if (t == NULL && (again || c->confirmed.count < CONFIRMED_MAX)) {
		t = calloc(1, sizeof(*t));
		if (t != NULL &&
		    hash_add(&c->confirmed, &t->link, (uint32_t)hash_mix(what->task)) < 0)
			free(TAKE_PTR(t));
	}
	if (t != NULL)
		t->what = *what;
	return t != NULL;
}

bool name_confirmed_locked(struct cache *c, uint32_t task, const struct node *n)
{
	const struct confirmed what = {.at = cache_now(), .task = task};

	if (!S_ISDIR(n->attr.mode) || FAULT(expire_once))
		return true;
	/* of another pid namespace: nobody could tell when it has gone on */
	return task != 0 && add_locked(c, &what, false);
}

struct harvest {
	uint64_t until;
	struct confirmed *ret;
	size_t n, max;
};

static void take(struct cache *c, struct confirmation *t, void *arg)
{
	struct harvest *w = arg;

	if (w->n == w->max || t->what.at > w->until)
		return;
	w->ret[w->n++] = t->what;
	remove_locked(c, t);
}

size_t cache_take_confirmed(struct cache *c, uint64_t until, struct confirmed *ret, size_t max)
{
	struct harvest w = {.until = until, .ret = ret, .max = max};

	SCOPE_LOCK(&c->lock);
	if (c->confirmed.count > 0)
		each_locked(c, take, &w);
	return w.n;
}

void cache_put_confirmed(struct cache *c, const struct confirmed *t)
{
	SCOPE_LOCK(&c->lock);
	/* one that was told something later has gone on */
	if (find_locked(c, t->task) == NULL && cache_now() - t->at < CONFIRMED_NS)
		(void)add_locked(c, t, true);
}

static void remove_any(struct cache *c, struct confirmation *t, void *arg)
{
	(void)arg;
	remove_locked(c, t);
}

void names_done(struct cache *c)
{
	each_locked(c, remove_any, NULL);
	hash_done(&c->confirmed);
}

/* ---- taking back ---- */

bool name_kernel_holds_locked(const struct cache *c, const struct dentry *d)
{
	if (!d->told)
		return false;
	if (d->kind != NAME_NODE)
		return true;
	const struct node *n = node_find_locked(c, d->id);
	return n != NULL && n->nlookup > 0;
}

/*
 * d: what is known of the name; NULL: nothing. With timeouts only nothing is noted; else it may
 * come with the reply to a change of ours, under the directory's lock.
 */
enum entry_way name_way(const struct dentry *d)
{
	if (d == NULL || d->kind == NAME_UNSURE)
		return ENTRY_EXPIRES;
	if (d->kind != NAME_ABSENT && (d->type == DT_DIR || d->type == DT_UNKNOWN))
		return ENTRY_EXPIRES;
	return ENTRY_DROPS;
}

void name_take_back_locked(struct cache *c, const struct node *dir, const char *name, size_t len,
			   const struct dentry *d)
{
	if (c->sink != NULL)
		c->sink->entry(c->sink_arg, dir->id, name, len, name_way(d));
}
