/* Answers from what is cached under a promise, without the server. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/answer.h"
#include "cache/attrs.h"
#include "cache/files.h"
#include "cache/in_kernel.h"
#include "cache/in_kernel_names.h"
#include "cache/in_kernel_size.h"
#include "cache/names.h"
#include "cache/outbox.h"
#include "cache/pages.h"
#include "cache/stamps.h"

static bool node_answer(struct cache *c, struct node *n, uint64_t now, struct answer *a)
{
	if (!node_fresh_locked(c, n, now))
		return false;
	node_attr(n, &a->attr);
	a->out.attr = &a->attr;
	a->out.attr_ttl = n->attr_until - now;
	a->out.hold = pages_to_drop(n);
	return true;
}

static bool answer_getattr(struct cache *c, const struct cache_query *q, struct node *n,
			   uint64_t now, struct answer *a)
{
	if (!node_answer(c, n, now, a))
		return false;
	if (q->r != NULL && q->r->own)
		return true;
	size_tell_locked(c, n, &a->out);
	a->out.cut_first = size_is_cut_locked(n, a->out.attr->size);
	return true;
}

static bool answer_lookup(struct cache *c, const struct cache_query *q, struct node *dir,
			  uint64_t now, struct answer *a)
{
	const char *name = q->name.data;
	size_t len = q->name.len;
	struct node *n;
	uint64_t ttl;
	int e = name_answer_locked(c, dir, name, len, now, &n, &ttl);

	if (e < 0)
		return false;
	a->out.entry_ttl = ttl;
	if (e == 0) {
		a->out.err = ENOENT;
		return true;
	}
	if (node_answer(c, n, now, a) && n->nlookup > 0)
		size_tell_locked(c, n, &a->out);
	if (n->nlookup > 0 && !name_confirmed_locked(c, q->task, n))
		a->out.entry_ttl = 0;
	node_told_locked(c, n);
	a->out.ino = n->id;
	return true;
}

static bool answer_open(struct cache *c, const struct cache_query *q, struct node *n, uint64_t now,
			struct answer *a)
{
	const uint64_t other = O_ACCMODE | O_TRUNC | O_DIRECT | O_SYNC | O_DSYNC | O_NOATIME;

	/* without a promise open(2) asks the host */
	if ((q->r->call.req.flags & other) != O_RDONLY || (n->flags & NODE_PROMISED) == 0 ||
	    !node_fresh_locked(c, n, now) || !idle_take_locked(c, n, &a->out.fh, &a->out.flags))
		return false;
	(void)node_answer(c, n, now, a);
	a->out.appended = is_appended(n);
	a->out.hold = false; /* OPEN brings no attributes to the kernel */
	a->out.size_first = size_is_longer_locked(n);
	a->out.keep = true;
	return true;
}

static bool answer_read(struct cache *c, const struct cache_query *q, struct node *n, uint64_t now,
			struct answer *a)
{
	const struct msg *m = &q->r->call.req;

	if (q->r->direct || !node_fresh_locked(c, n, now) ||
	    !pages_read_locked(c, n, m->off, m->size, &a->pages))
		return false;
	kernel_data_noted_locked(n);
	n->file->used = true;
	file_read_locked(n, m->off, m->size);
	size_read_locked(q->r, a->pages.len, &a->out);
	return true;
}

static bool answer_readlink(struct cache *c, const struct cache_query *q, struct node *n,
			    uint64_t now, struct answer *a)
{
	(void)q;
	if (!S_ISLNK(n->attr.mode) || n->target == NULL || now >= c->lease_until)
		return false;
	a->out.data = (struct slice){n->target, strlen(n->target)};
	a->buffer = strdup(n->target);
	if (a->buffer == NULL)
		return false;
	a->out.data.data = a->buffer;
	return true;
}

/* Whether the totals of the file system are those that the host would tell: every PING brings them,
 * so they are no older than that, unless a change of ours has moved them. */
static bool space_known_locked(struct cache *c, uint64_t now)
{
	return space_settled_locked(c, now) && c->fs_clock >= c->space_changed &&
	       c->options.lease != 0 && link_alive_locked(c, now);
}

/*
 * While the host cannot be asked, what it told last is the answer: umount(8) asks this before it
 * unmounts, and would wait for the host for ever.
 */
static bool answer_statfs(struct cache *c, const struct cache_query *q, struct node *n,
			  uint64_t now, struct answer *a)
{
	(void)q;
	(void)n;
	if (!c->one_fs || !(atomic_load(&c->backend->away) || space_known_locked(c, now)))
		return false;
	a->fs = c->fs;
	a->out.fs = &a->fs;
	return true;
}

/* The kernel asks for it before it grants access by the mode (fuse_get_inode_acl). */
static bool wants_acl(const struct cache_req *r)
{
	static const char name[] = "system.posix_acl_access";

	return r->name_len[1] == sizeof(name) - 1 &&
	       memcmp(r->names[1], name, sizeof(name) - 1) == 0;
}

static bool answer_getxattr(struct cache *c, const struct cache_query *q, struct node *n,
			    uint64_t now, struct answer *a)
{
	bool none = (c->leased && (n->flags & NODE_NO_XATTR) != 0) ||
		    ((n->flags & NODE_NO_ACL) != 0 && wants_acl(q->r));

	if (!none || !node_fresh_locked(c, n, now))
		return false;
	a->out.err = ENODATA;
	return true;
}

/* How a request is answered from what is cached. */
static const struct hit {
	bool (*answer)(struct cache *c, const struct cache_query *q, struct node *n, uint64_t now,
		       struct answer *a);
	bool timed; /* also from what is kept for a time, without a promise */
	enum stat_id counter;
} hits[] = {
	[MSG_GETATTR] = {answer_getattr, true, STAT_cache_attr_hits},
	[MSG_LOOKUP] = {answer_lookup, false, STAT_cache_name_hits},
	[MSG_OPEN] = {answer_open, false, STAT_cache_open_hits},
	[MSG_READ] = {answer_read, false, STAT_cache_page_hits},
	[MSG_READLINK] = {answer_readlink, false, STAT_cache_attr_hits},
	[MSG_STATFS] = {answer_statfs, false, STAT_cache_attr_hits},
	[MSG_GETXATTR] = {answer_getxattr, true, STAT_cache_attr_hits},
};

static const struct hit *hit_of(uint64_t op)
{
	bool any = op < sizeof(hits) / sizeof(hits[0]) && hits[op].answer != NULL;

	return any ? &hits[op] : NULL;
}

bool answer_possible(uint64_t op)
{
	return hit_of(op) != NULL;
}

bool answer_locked(struct cache *c, const struct cache_query *q, struct node *n, struct answer *a)
{
	const struct hit *h = hit_of(q->op);

	if (h == NULL || (!c->leased && !h->timed) || !h->answer(c, q, n, cache_now(), a))
		return false;
	stats_add(c->options.stats, h->counter, 1);
	return true;
}

void answer_copy(struct answer *a)
{
	size_t len = a->pages.len;

	if (a->pages.count == 0)
		return;
	a->buffer = pages_copy(&a->pages);
	if (a->buffer != NULL)
		a->out.data = (struct slice){a->buffer, len};
	else
		a->out.err = ENOMEM;
}
