/* Functions that several handlers use: nodes, names, callers, replies. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "core/stats.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/ops.h"
#include "host/promise.h"
#include "host/watch.h"

void pinned_done(struct pinned *p)
{
	if (p->node == NULL)
		return;
	if (p->pinned)
		hnode_unpin(p->nodes, p->node);
	hnode_unref(p->nodes, p->node);
	p->node = NULL;
}

/* True if the client takes no promises, or if a change of n will be seen. */
static bool covered(const struct request *r, struct hnode *n, int fd)
{
	return !promise_pushing(session_promises(r->session)) || watch_cover(r->host->watch, n, fd);
}

static int pin(struct request *r, uint64_t id, unsigned arm, bool open_stays, struct pinned *ret)
{
	struct pinned p = {.nodes = r->host->nodes};
	int e = promise_node(session_promises(r->session), id, FAULT(late_promise) ? 0 : arm,
			     &r->stamp, &p.node);

	if (e < 0)
		return e;
	e = (open_stays ? hnode_pin_open : hnode_pin)(p.nodes, p.node, &p.fd);
	if (e < 0) {
		hnode_unref(p.nodes, p.node);
		return e;
	}
	p.pinned = true;
	p.seen = hnodes_seen(p.nodes);
	if (arm != 0 && !covered(r, p.node, p.fd))
		r->stamp.uncovered = true;
	*ret = p;
	return 0;
}

int request_pin(struct request *r, uint64_t id, unsigned arm, struct pinned *ret)
{
	return pin(r, id, arm, false, ret);
}

int request_pin_open(struct request *r, uint64_t id, unsigned arm, struct pinned *ret)
{
	return pin(r, id, arm, true, ret);
}

int request_inside(const struct request *r, const struct pinned *p)
{
	int e = hnode_inside(p->nodes, p->node, p->fd);

	if (e == -ESTALE) {
		hnodes_moved(p->nodes,
			     true); /* objects that were moved or made there are outside as well */
		stats_add(r->host->config->stats, STAT_server_outside, 1);
		export_log_outside(msg_op_name(r->q.op));
	}
	return e;
}

int request_attr(const struct request *r, struct hnode *node, int fd, struct attr *ret)
{
	uint64_t version = hnode_version(node); /* before the statx */
	int e = export_attr(r->host->export, fd, ret);

	if (e == 0 && session_acl(r->session) && export_no_acl(fd, ret->mode))
		ret->flags |= ATTR_NO_ACL;
	ret->version = FAULT(late_version) ? hnode_version(node) : version;
	return e;
}

void request_arm(struct request *r, const struct handle *h, unsigned arm)
{
	if (!promise_arm(session_promises(r->session), h->node, arm, &r->stamp) ||
	    !covered(r, h->node, h->fd))
		r->stamp.uncovered = true;
}

int request_tell_attr(struct request *r, struct hnode *n, int fd, struct attr *ret,
		      bool *ret_covered)
{
	struct promise_session *s = session_promises(r->session);
	int e = promise_tell(s, n, FAULT(late_promise) ? 0 : INV_ATTR, &r->stamp);
	bool again = false;

	if (e < 0)
		return e;
	e = request_attr(r, n, fd, ret);
	*ret_covered = e < 0 || !promise_pushing(s) ||
		       watch_cover_found(r->host->watch, n, fd, ret, &again);
	if (e == 0 && again)
		e = request_attr(r, n, fd, ret);
	if (e < 0)
		session_forget(r->session, hnode_id(n), 1);
	return e;
}

int request_tell_node(struct request *r, struct hnode *n, int fd)
{
	bool covers;
	int e = request_tell_attr(r, n, fd, &r->p.attr, &covers);

	if (e < 0)
		return e;
	if (!covers)
		r->stamp.uncovered = true;
	MSG_SET(&r->p, node, hnode_id(n));
	r->p.present |= MSG_BIT(attr);
	return 0;
}

void request_parent_attr(struct request *r, const struct pinned *dir)
{
	if (request_attr(r, dir->node, dir->fd, &r->p.attr2) == 0)
		r->p.present |= MSG_BIT(attr2);
}

int request_name(struct slice s, char *name)
{
	int e = export_name_check(s);

	if (e < 0)
		return e;
	memcpy(name, s.data, s.len);
	name[s.len] = '\0';
	return 0;
}

int request_writable(const struct request *r)
{
	return export_read_only(r->host->export) ? -EROFS : 0;
}

/* Of the caller's supplementary groups. */
static gid_t group_at(const struct msg *q, size_t i)
{
	const unsigned char *p = (const unsigned char *)q->groups.data + 4 * i;

	return (gid_t)p[0] << 24 | (gid_t)p[1] << 16 | (gid_t)p[2] << 8 | p[3];
}

int request_assume(struct request *r, struct creds_caller like, gid_t groups[MSG_GROUPS_MAX])
{
	const struct msg *q = &r->q;
	size_t n = MSG_HAS(q, groups) ? q->groups.len / 4 : 0;

	like.umask = MSG_HAS(q, umask) ? (mode_t)(q->umask & 0777) : 0;
	if (export_squashed(r->host->export, &like.uid, &like.gid))
		return creds_assume(r->creds, export_assumes(r->host->export), &like);
	if (!MSG_HAS(q, uid) ||
	    !MSG_HAS(q, gid)) /* the server's own, which the guest may not have */
		return export_owners(r->host->export) != NULL && export_assumes(r->host->export)
			       ? -EPERM
			       : creds_assume(r->creds, false, &like);
	if (q->uid >= UINT32_MAX || q->gid >= UINT32_MAX || n > MSG_GROUPS_MAX ||
	    (MSG_HAS(q, groups) && q->groups.len % 4 != 0))
		return -EINVAL;
	if (!export_assumes(r->host->export))
		return creds_assume(r->creds, false, &like);
	int e = export_host_uid(r->host->export, q->uid, &like.uid);
	if (e == 0)
		e = export_host_gid(r->host->export, q->gid, &like.gid);
	if (e < 0)
		return e;
	/* Of a group that is none on the host nobody is a member. */
	for (size_t i = 0; i < n; i++)
		if (export_host_gid(r->host->export, group_at(q, i), &groups[like.n_groups]) == 0)
			like.n_groups++;
	like.groups = groups;
	return creds_assume(r->creds, export_assumes(r->host->export), &like);
}

static bool caller_in_group(const struct msg *q, gid_t gid)
{
	size_t n = MSG_HAS(q, groups) ? q->groups.len / 4 : 0;

	if (q->gid == gid)
		return true;
	for (size_t i = 0; i < n; i++)
		if (group_at(q, i) == gid)
			return true;
	return false;
}

void request_strip_ids(const struct request *r, int fd)
{
	struct stat st;

	/* For an unprivileged server the host's kernel takes the bits off. */
	if (!export_privileged(r->host->export) || fstat(fd, &st) < 0 ||
	    !(st.st_mode & (S_ISUID | S_ISGID)))
		return;
	mode_t mode = st.st_mode & ~(mode_t)S_ISUID;
	if ((mode & S_IXGRP) ||
	    (MSG_HAS(&r->q, gid) &&
	     !caller_in_group(&r->q, export_shown_gid(r->host->export, st.st_gid))))
		mode &= ~(mode_t)S_ISGID;
	if (export_no_setid(r->host->export))
		mode &= ~(mode_t)S_ISGID;
	if (mode != st.st_mode)
		(void)export_chmod(r->host->export, fd, mode & 07777);
}

bool request_strips_ids(const struct request *r)
{
	const struct msg *q = &r->q;

	if (export_no_setid(r->host->export))
		return true;
	if (msg_is(q->op, TRAIT_STRIP_FLAG)) /* SETATTR's uid is the new owner */
		return (q->flags & STRIP_IDS) != 0;
	return MSG_HAS(q, uid) && q->uid != 0;
}

int request_intern(const struct request *r, const struct pinned *dir, const char *name, int fd,
		   struct hnode **ret)
{
	return hnodes_intern(r->host->nodes, fd, dir->node, name, dir->seen, ret);
}

int request_tell(struct request *r, const struct pinned *dir, const char *name, int object)
{
	CLEANUP_CLOSE int fd = object;
	struct hnode *n;
	int e = request_intern(r, dir, name, fd, &n);

	if (e < 0)
		return e;
	e = request_tell_node(r, n, fd);
	if (e == 0)
		hnode_offer(r->host->nodes, n, take_fd(&fd));
	hnode_unref(r->host->nodes, n);
	return e;
}

/* ---- names that go away ---- */

/*
 * Looks the name up before the call that takes it away: afterwards nothing
 * would lead to a file that the client still has open, or to a directory that is
 * a process's working directory, and the kernel asks for attributes by node.
 */
void victim_find(struct request *r, const struct pinned *dir, const char *name, struct victim *ret)
{
	struct hnode *n;
	struct stat st;
	int fd;

	*ret = (struct victim){.nodes = r->host->nodes, .fd = -1};
	if (export_open(r->host->export, dir->fd, name, O_PATH, 0, &fd) < 0)
		return;
	ret->fd = fd;
	ret->links = fstat(fd, &st) == 0 ? st.st_nlink : 0;
	if (hnodes_find(r->host->nodes, ret->fd, &n) < 0)
		return;
	ret->node = n;
	/* A client that does not know the node ignores it in the reply. */
	if (promise_arm(session_promises(r->session), n, INV_ATTR, &r->stamp) &&
	    !covered(r, n, ret->fd))
		r->stamp.uncovered = true;
}

void victim_again(struct victim *v)
{
	if (v->node == NULL && v->fd >= 0)
		(void)hnodes_find(v->nodes, v->fd, &v->node);
}

bool victim_is_at(const struct victim *v, const struct pinned *dir, const char *name)
{
	struct stat a, b;

	return v->fd >= 0 && fstat(v->fd, &a) == 0 &&
	       fstatat(dir->fd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

void victim_unknown(struct request *r, const struct pinned *dir)
{
	if (hnode_watched(r->host->nodes, dir->node))
		promises_reset(r->host->promises);
}

void victim_gone(struct request *r, struct victim *v)
{
	victim_again(v);
	if (v->node == NULL)
		return;
	change_broke(&r->change, v->node, INV_ATTR);
	if (request_attr(r, v->node, v->fd, &r->p.attr) == 0) {
		/*
		 * The object has lost no link: the host has put another object under the name
		 * meanwhile, and it is not known which one was removed.
		 */
		if (v->links > 0 && r->p.attr.nlink >= v->links && hnode_watched(v->nodes, v->node))
			promises_reset(r->host->promises);
		/* no reference is counted: a client that does not know the node ignores it */
		MSG_SET(&r->p, node, hnode_id(v->node));
		r->p.present |= MSG_BIT(attr);
	} else {
		r->p.attr.nlink = 0;
	}
	/* A file with another link, or with a handle, will be found again. */
	if (r->p.attr.nlink == 0 || S_ISDIR(r->p.attr.mode) || !hnode_by_handle(v->nodes, v->node))
		hnode_keep(v->nodes, v->node, take_fd(&v->fd));
	else
		hnode_offer(v->nodes, v->node, take_fd(&v->fd));
}

void victim_done(struct victim *v)
{
	cleanup_close(&v->fd);
	if (v->node != NULL)
		hnode_unref(v->nodes, v->node);
	*v = (struct victim){.fd = -1};
}

/* ---- open files ---- */

int request_handle(struct request *r, uint64_t fh, struct handle_ref *ret)
{
	struct handles *t = session_handles(r->session);
	struct handle *h = handle_get(t, fh);

	if (h == NULL)
		return -EBADF;
	*ret = (struct handle_ref){t, h};
	return 0;
}

void handle_ref_done(struct handle_ref *p)
{
	if (p->h != NULL)
		handle_put(p->handles, p->h);
}
