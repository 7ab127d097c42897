/* Answers from what is cached under a promise, without the server. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/cache_priv.h"

bool answer_possible(uint64_t op)
{
	return op == MSG_GETATTR || op == MSG_LOOKUP || op == MSG_OPEN || op == MSG_READ ||
	       op == MSG_READLINK || op == MSG_GETXATTR || op == MSG_STATFS;
}

static bool answer_attr(struct cache *c, struct node *n, uint64_t now, struct answer *a)
{
	if (!node_fresh_locked(c, n, now))
		return false;
	node_attr(n, &a->attr);
	a->out.attr = &a->attr;
	a->out.attr_ttl = n->attr_until - now;
	a->out.hold = pages_to_drop(n);
	return true;
}

static bool answer_lookup(struct cache *c, struct cache_req *r, uint64_t now, struct answer *a)
{
	struct node *n;
	uint64_t ttl;
	int e = name_answer_locked(c, r->node, r->names[0], r->name_len[0], now, &n, &ttl);

	if (e < 0)
		return false;
	a->out.entry_ttl = ttl;
	if (e == 0) {
		a->out.err = ENOENT;
		return true;
	}
	if (answer_attr(c, n, now, a) && n->nlookup > 0)
		size_tell_locked(c, n, &a->out);
	if (n->nlookup > 0 && !name_confirmed_locked(c, r, r->node, r->names[0], r->name_len[0], n))
		a->out.entry_ttl = 0;
	node_told_locked(c, n);
	a->out.ino = n->id;
	return true;
}

static bool answer_open(struct cache *c, struct cache_req *r, uint64_t now, struct answer *a)
{
	const uint64_t other = O_ACCMODE | O_TRUNC | O_DIRECT | O_SYNC | O_DSYNC | O_NOATIME;
	struct node *n = r->node;

	/* without a promise open(2) asks the host */
	if ((r->call.req.flags & other) != O_RDONLY || (n->flags & NODE_PROMISED) == 0 ||
	    !node_fresh_locked(c, n, now) || !idle_take_locked(c, n, &a->out.fh, &a->out.flags))
		return false;
	(void)answer_attr(c, n, now, a);
	a->out.appended = is_appended(n);
	a->out.hold = false; /* OPEN brings no attributes to the kernel */
	a->out.size_first = size_is_longer_locked(n);
	a->out.keep = true;
	return true;
}

static bool answer_read(struct cache *c, struct cache_req *r, uint64_t now, struct answer *a)
{
	const struct msg *m = &r->call.req;
	size_t len;

	if (r->direct || !node_fresh_locked(c, r->node, now) ||
	    !pages_read_locked(c, r->node, m->off, m->size, &a->buffer, &len))
		return false;
	a->out.data = (struct slice){a->buffer, len};
	r->node->flags |= NODE_KERNEL_DATA;
	r->node->file->used = true;
	file_read_locked(r->node, m->off, m->size);
	a->out.longer = size_read_locked(r, len);
	return true;
}

static bool answer_readlink(const struct cache *c, struct cache_req *r, uint64_t now,
			    struct answer *a)
{
	struct node *n = r->node;

	if (!S_ISLNK(n->attr.mode) || n->target == NULL || now >= c->lease_until)
		return false;
	a->out.data = (struct slice){n->target, strlen(n->target)};
	a->buffer = strdup(n->target);
	if (a->buffer == NULL)
		return false;
	a->out.data.data = a->buffer;
	return true;
}

/* Told with every PING, and so no older than that, unless a change of ours has moved them. */
static bool answer_statfs(struct cache *c, uint64_t now, struct answer *a)
{
	if (!c->one_fs || !space_settled_locked(c, now) || c->fs_clock < c->space_changed ||
	    c->options.lease == 0 || !link_alive_locked(c, now))
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

static bool answer_getxattr(const struct cache *c, struct cache_req *r, uint64_t now,
			    struct answer *a)
{
	bool none = (c->leased && (r->node->flags & NODE_NO_XATTR) != 0) ||
		    ((r->node->flags & NODE_NO_ACL) != 0 && wants_acl(r));

	if (!none || !node_fresh_locked(c, r->node, now))
		return false;
	a->out.err = ENODATA;
	return true;
}

/*
 * Answers from what is cached under a promise; a GETATTR, and that there is no ACL, also from
 * what is kept for a time.
 */
bool answer_locked(struct cache *c, struct cache_req *r, struct answer *a)
{
	uint64_t now = cache_now();
	enum stat_id counter = STAT_cache_attr_hits;
	bool hit = false;

	switch (r->call.req.op) {
	case MSG_GETATTR:
		hit = answer_attr(c, r->node, now, a);
		if (hit && !r->own)
			size_tell_locked(c, r->node, &a->out);
		break;
	case MSG_LOOKUP:
		hit = c->leased && answer_lookup(c, r, now, a);
		counter = STAT_cache_name_hits;
		break;
	case MSG_OPEN:
		hit = c->leased && answer_open(c, r, now, a);
		counter = STAT_cache_open_hits;
		break;
	case MSG_READ:
		hit = c->leased && answer_read(c, r, now, a);
		counter = STAT_cache_page_hits;
		break;
	case MSG_READLINK:
		hit = c->leased && answer_readlink(c, r, now, a);
		break;
	case MSG_STATFS:
		hit = c->leased && answer_statfs(c, now, a);
		break;
	case MSG_GETXATTR:
		hit = answer_getxattr(c, r, now, a);
		break;
	default:
		break;
	}
	if (hit)
		stats_add(c->options.stats, counter, 1);
	return hit;
}
