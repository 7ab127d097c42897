/*
 * What is at a path, and the attributes made of it.
 */
#include <errno.h>
#include <sys/stat.h>

#include "plain/plain_priv.h"

#define NOW_WITHIN_MS 1000 /* the protocol's times are whole seconds */

/* ---- what is there ---- */

int plain_readlink(struct plain_work *w, struct slice path, struct plain_reply *ret)
{
	struct plain_request q = {.op = PLAIN_READLINK, .path = path};
	int r = plain_exchange(w, &q, ret);

	if (r == 0 && ret->data.len == 0)
		return -EIO; /* no link has an empty target */
	return r;
}

bool plain_told_as_link(const struct plain_stat *st)
{
	return !st->is_dir && (st->mode & PLAIN_MODE_LINK) != 0;
}

/*
 * Where lookup follows links, only op 17 tells one: asked after every lookup,
 * also a failed one, because links may dangle or lead out of the export.
 */
static int find_link(struct plain_work *w, struct slice path, int found, struct plain_found *f)
{
	struct plain_reply p;
	int r = plain_readlink(w, path, &p);

	if (r == -ENOTCONN)
		return r;
	if (r < 0)
		return found;
	f->is_link = true;
	f->stat = (struct plain_stat){.size = (int64_t)p.data.len,
				      .mode = PLAIN_PERMISSIONS,
				      .mtime = found == 0 ? f->stat.mtime : 0};
	return 0;
}

int plain_find(struct plain_work *w, enum plain_op op, struct slice path, struct plain_found *ret)
{
	struct plain_request q = {.op = op, .path = path};
	struct plain_found f = {0};
	struct plain_reply p;
	int r = plain_exchange(w, &q, &p);

	if (r == 0 && !p.has_stat)
		return plain_lost(w, "a lookup's reply without stat");
	if (r == 0) {
		f.stat = p.stat;
		f.is_link = plain_told_as_link(&p.stat);
		if (f.is_link)
			w->links = LINKS_TOLD;
	}
	if (op == PLAIN_LOOKUP && w->links == LINKS_FOLLOWED && r != -ENOTCONN &&
	    r != -ENAMETOOLONG && r != -ENOTDIR)
		r = find_link(w, path, r, &f);
	if (r == 0)
		*ret = f;
	return r;
}

uint32_t plain_type(const struct plain_found *f)
{
	return f->is_link ? S_IFLNK : f->stat.is_dir ? S_IFDIR : S_IFREG;
}

int plain_install(struct plain_work *w, struct plain_node *node, struct slice path,
		  const struct plain_found *f)
{
	const struct plain_stat *st = &f->stat;
	uint32_t type = plain_type(f);

	if (node->has_attr && (node->attr.mode & S_IFMT) != type)
		return -ESTALE;
	uint64_t ino = st->ino != 0 ? st->ino : node->attr.ino;
	const struct msg_time mtime = {.sec = st->mtime};
	node->has_attr = true;
	node->attr = (struct attr){
		.ino = ino != 0 ? ino : plain_path_ino(path),
		.mode = type | (st->mode & PLAIN_PERMISSIONS),
		.nlink = type == S_IFDIR ? 2 : 1,
		.uid = w->uid,
		.gid = w->gid,
		.size = (uint64_t)st->size,
		.blocks = ((uint64_t)st->size + 511) / 512,
		.blksize = PLAIN_BLOCK_SIZE,
		.atime = mtime,
		.mtime = mtime,
		.ctime = mtime,
	};
	return 0;
}

int plain_refresh(struct plain_work *w, struct plain_node *node)
{
	struct plain_found f;
	struct slice path;
	int r = plain_path(w, node, PLAIN_NO_NAME, &path);

	if (r < 0)
		return r;
	/* Of a link that lookup would follow, the target is all that can change. */
	bool link = node->has_attr && S_ISLNK(node->attr.mode) && w->links == LINKS_FOLLOWED;
	if (link) {
		f = (struct plain_found){.stat = {.mtime = node->attr.mtime.sec}};
		r = find_link(w, path, -ENOENT, &f);
		f.stat.mtime = node->attr.mtime.sec;
	} else {
		r = plain_find(w, PLAIN_GETATTR, path, &f);
	}
	if (r == -ENOENT || r == -ENOTDIR)
		return -ESTALE; /* makes the kernel look the name up again */
	return r < 0 ? r : plain_install(w, node, path, &f);
}

void plain_reply_attr(struct plain_work *w, struct msg *reply, const struct plain_node *node)
{
	MSG_SET(reply, attr, node->attr);
	reply->attr.version = ++w->version;
	if (!plain_nodes_attached(w->nodes, node))
		reply->attr.nlink = 0;
}

int plain_reply_entry(struct plain_work *w, struct msg *reply, struct plain_node *parent,
		      struct slice name, struct slice path, const struct plain_found *f)
{
	struct plain_node *node;
	int r = plain_nodes_get(w->nodes, parent, name, &node);

	if (r < 0)
		return r;
	r = plain_install(w, node, path, f);
	if (r == -ESTALE) {
		/* Something else has taken the name's place. */
		plain_nodes_detach(w->nodes, node);
		r = plain_nodes_get(w->nodes, parent, name, &node);
		if (r == 0)
			r = plain_install(w, node, path, f);
	}
	if (r < 0)
		return r;
	node->refs++;
	MSG_SET(reply, node, node->id);
	plain_reply_attr(w, reply, node);
	return 0;
}

void plain_fix_mode(struct plain_work *w, struct slice path, uint32_t mode, struct plain_found *f)
{
	struct plain_request q = {
		.op = PLAIN_SETATTR, .path = path, .mode = mode & PLAIN_PERMISSIONS};
	struct plain_reply p;

	if ((f->stat.mode & PLAIN_PERMISSIONS) == q.mode)
		return;
	/* The server's umask took bits away. It is made already: what cannot be mended shows. */
	if (plain_exchange(w, &q, &p) == 0)
		f->stat.mode = (f->stat.mode & ~PLAIN_PERMISSIONS) | q.mode;
}

/* ---- GETATTR and SETATTR ---- */

int plain_do_getattr(struct plain_work *w, struct msg *reply)
{
	struct plain_node *node;
	int r = plain_node(w, w->call->req.node, &node);

	if (r < 0)
		return r;
	r = plain_refresh(w, node);
	if (r == -ESTALE && node->has_attr &&
	    (node->open > 0 || !plain_nodes_attached(w->nodes, node))) {
		/* An open file outlives its name; nothing but the last answer tells of it. */
		plain_reply_attr(w, reply, node);
		reply->attr.nlink = 0;
		return 0;
	}
	if (r == 0)
		plain_reply_attr(w, reply, node);
	return r;
}

/* True if "now" is when our own last change of the node was made, in whole seconds. */
static bool just_touched(const struct plain_node *node)
{
	return node->touched != 0 && plain_now_ms() - node->touched <= NOW_WITHIN_MS;
}

static bool shown_time(const struct msg_time *want, const struct msg_time *shown)
{
	return want->sec == shown->sec && want->nsec == shown->nsec;
}

/*
 * There is no operation for times. What a request asks for may hold already:
 * a truncation sets them itself, "now" is when we wrote or made the file a
 * moment ago (touch of a new file), or the file shows them.
 */
static bool times_hold(const struct msg *m, const struct plain_node *node)
{
	bool now = (m->valid & SET_SIZE) != 0 || just_touched(node);

	if ((m->valid & (SET_ATIME_NOW | SET_MTIME_NOW)) != 0 && !now)
		return false;
	if ((m->valid & (SET_ATIME | SET_ATIME_NOW)) == SET_ATIME &&
	    !shown_time(&m->atime, &node->attr.atime))
		return false;
	return (m->valid & (SET_MTIME | SET_MTIME_NOW)) != SET_MTIME ||
	       shown_time(&m->mtime, &node->attr.mtime);
}

static int set_mode(struct plain_work *w, struct plain_node *node, uint32_t mode)
{
	struct plain_request q = {.op = PLAIN_SETATTR, .mode = mode & PLAIN_PERMISSIONS};
	struct plain_reply p;
	int r = plain_path(w, node, PLAIN_NO_NAME, &q.path);

	return r < 0 ? r : plain_exchange(w, &q, &p);
}

int plain_do_setattr(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	const uint64_t times = SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW;
	struct plain_node *node;
	int r = plain_node(w, m->node, &node);

	/* Everything is checked before anything is done. */
	if (r < 0)
		return r;
	if (((m->valid & SET_UID) && m->uid != w->uid) ||
	    ((m->valid & SET_GID) && m->gid != w->gid))
		return -EPERM;
	if ((m->valid & SET_MODE) && (m->mode & PLAIN_SPECIAL_BITS) != 0)
		return -EPERM;
	if ((m->valid & SET_MODE) && node->has_attr && S_ISLNK(node->attr.mode))
		return -EOPNOTSUPP;
	if (m->valid & times) {
		r = plain_refresh(w, node);
		if (r < 0 && r != -ESTALE)
			return r;
		if (!times_hold(m, node))
			return -EOPNOTSUPP;
	}
	if (m->valid & SET_SIZE) {
		r = plain_set_size(w, node, m->size);
		if (r < 0)
			return r;
	}
	if (m->valid & SET_MODE) {
		r = set_mode(w, node, (uint32_t)m->mode);
		if (r < 0)
			return r;
	}
	return plain_do_getattr(w, reply);
}

/* ---- the start ---- */

int plain_probe(struct plain_work *w)
{
	struct plain_node *root = plain_nodes_find(w->nodes, PLAIN_ROOT);
	struct plain_found f;
	struct plain_reply p;
	struct slice path;
	int r = plain_path(w, root, PLAIN_NO_NAME, &path);

	if (r == 0)
		r = plain_find(w, PLAIN_GETATTR, path, &f);
	if (r == 0 && !f.stat.is_dir)
		r = -ENOTDIR;
	if (r == 0)
		r = plain_install(w, root, path, &f);
	if (r < 0)
		return r;
	root->attr.version = ++w->version;
	r = plain_readlink(w, path, &p);
	if (w->links == LINKS_NONE && r != -ENOSYS)
		w->links = LINKS_FOLLOWED;
	return r == -ENOTCONN ? r : 0;
}
