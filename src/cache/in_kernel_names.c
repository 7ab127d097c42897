/*
 * What the kernel was told of names, and how that is taken back.
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
 * answered just before the name changed may be digested after it has expired again,
 * and gives the dentry its time back. Nothing tells when it has been. So if such an answer was
 * given within AGAIN_NS, the name expires several times more. What is looked up for the
 * first time is under the directory's lock, which the notification waits for.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"
#include "core/fault.h"

#define AGAIN_NS UINT64_C(1000000000)

void name_told_locked(struct cache *c, struct dentry *d, bool held)
{
	struct node *n = held && d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;
	struct dir *dir = n != NULL ? dir_of_locked(n) : NULL;

	d->told = 1;
	if (dir != NULL)
		dir->told_again = cache_now();
}

bool name_kernel_holds_locked(const struct cache *c, const struct dentry *d)
{
	if (!d->told)
		return false;
	if (d->kind != NAME_NODE)
		return true;
	const struct node *n = node_find_locked(c, d->id);
	return n != NULL && n->nlookup > 0;
}

/* d: what is known of the name; NULL: nothing. */
static enum entry_way way_of_locked(const struct cache *c, const struct dentry *d)
{
	/* with timeouts only nothing is noted; else it may come with the reply to a change of ours,
	 * under the directory's lock */
	if (d == NULL)
		return c->leased ? ENTRY_EXPIRES : ENTRY_EXPIRES_AGAIN;
	bool unsure = d->kind == NAME_UNSURE || d->type == DT_UNKNOWN;
	if (d->kind == NAME_ABSENT || (!unsure && d->type != DT_DIR))
		return ENTRY_DROPS;
	const struct node *n = d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;
	if (n == NULL)
		return ENTRY_EXPIRES_AGAIN;
	const struct dir *dir = dir_if_any(n);
	bool again = dir != NULL && dir->told_again != 0 &&
		     cache_now() - dir->told_again < AGAIN_NS && !FAULT(expire_once);
	return again ? ENTRY_EXPIRES_AGAIN : ENTRY_EXPIRES;
}

void name_take_back_locked(struct cache *c, const struct node *dir, const char *name, size_t len,
			   const struct dentry *d)
{
	if (c->sink != NULL)
		c->sink->entry(c->sink_arg, dir->id, name, len, way_of_locked(c, d));
}

enum entry_way cache_entry_way(struct cache *c, uint64_t parent, const char *name, size_t len)
{
	SCOPE_LOCK(&c->lock);
	const struct node *n = node_find_locked(c, parent);
	const struct dentry *d = n != NULL ? name_find_locked(c, n, name, len) : NULL;

	return d != NULL && name_kernel_holds_locked(c, d) ? way_of_locked(c, d) : ENTRY_DROPS;
}
