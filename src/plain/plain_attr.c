/*
 * The objects at the server's paths, and the attributes made of what the server tells of them.
 */
#include <errno.h>
#include <sys/stat.h>

#include "plain/plain_priv.h"

/* ---- the object at a path ---- */

int plain_readlink(struct plain_work *w, struct slice path, struct plain_reply *ret)
{
	struct plain_request q = {.op = PLAIN_READLINK, .path = path};
	int r = plain_exchange(w, &q, ret);

	if (r == 0 && ret->data.len == 0)
		return -EIO; /* no link has an empty target */
	return r;
}

uint32_t plain_type(uint32_t mode, bool is_dir)
{
	if (is_dir)
		return S_IFDIR;
	if (mode & PLAIN_MODE_LINK)
		return S_IFLNK;
	if (mode & PLAIN_MODE_FIFO)
		return S_IFIFO;
	if (mode & PLAIN_MODE_SOCKET)
		return S_IFSOCK;
	if (mode & PLAIN_MODE_DEVICE)
		return mode & PLAIN_MODE_CHAR ? S_IFCHR : S_IFBLK;
	switch (mode & S_IFMT) { /* without Go's bits: a server in another language */
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return mode & S_IFMT;
	default:
		return S_IFREG;
	}
}

struct plain_found plain_found_of(struct plain_work *w, const struct plain_stat *st)
{
	const struct plain_found f = {.stat = *st, .type = plain_type(st->mode, st->is_dir)};

	if (f.type == S_IFLNK)
		plain_peer_links(w, LINKS_TOLD);
	if (st->has_ids)
		plain_peer_owners(w);
	return f;
}

/*
 * Where lookup follows links, only op 17 shows that a path is a link. Op 17 is sent after
 * every lookup, also after a failed one, because links may dangle or lead out of the export.
 */
static int find_link(struct plain_work *w, struct slice path, int found, struct plain_found *f)
{
	struct plain_reply p;
	int r = plain_readlink(w, path, &p);

	if (r == -ENOTCONN)
		return r;
	if (r < 0)
		return found;
	f->type = S_IFLNK;
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
	if (r == 0)
		f = plain_found_of(w, &p.stat);
	if (op == PLAIN_LOOKUP && w->peer.links == LINKS_FOLLOWED && r != -ENOTCONN &&
	    r != -ENAMETOOLONG && r != -ENOTDIR)
		r = find_link(w, path, r, &f);
	if (r == 0)
		*ret = f;
	return r;
}

/* Installs the found attributes in the node; -ESTALE if the object has another type now. */
static int install(struct plain_work *w, struct plain_node *node, struct slice path,
		   const struct plain_found *f)
{
	const struct plain_stat *st = &f->stat;
	bool told = w->peer.owners && !w->owner_fixed;

	if (node->has_attr && (node->attr.mode & S_IFMT) != f->type)
		return -ESTALE;
	uint64_t ino = st->ino != 0 ? st->ino : node->attr.ino;
	const struct msg_time mtime = {.sec = st->mtime};
	node->has_attr = true;
	node->server_mtime = st->mtime;
	node->attr = (struct attr){
		.ino = ino != 0 ? ino : plain_path_ino(path),
		.mode = f->type | plain_special_bits(st->mode) | (st->mode & PLAIN_PERMISSIONS),
		.nlink = f->type == S_IFDIR ? 2 : 1,
		.uid = told ? st->uid : w->uid,
		.gid = told ? st->gid : w->gid,
		.size = (uint64_t)st->size,
		.blocks = ((uint64_t)st->size + 511) / 512,
		.blksize = PLAIN_BLOCK_SIZE,
		.atime = mtime,
		.mtime = mtime,
		.ctime = mtime,
	};
	plain_kept_show(node, st);
	return 0;
}

int plain_refresh(struct plain_work *w, struct plain_node *node)
{
	struct plain_found f;
	struct slice path;
	int r = plain_path(w, node, PLAIN_NO_NAME, &path);

	if (r < 0)
		return r;
	/* If lookup follows links, the target is all that can be found to have changed of a
	 * link. */
	bool link = node->has_attr && S_ISLNK(node->attr.mode) && w->peer.links == LINKS_FOLLOWED;
	if (link) {
		r = find_link(w, path, -ENOENT, &f);
		f.stat.mtime = node->server_mtime;
	} else {
		r = plain_find(w, PLAIN_GETATTR, path, &f);
	}
	if (r == -ENOENT || r == -ENOTDIR)
		return -ESTALE; /* makes the kernel look the name up again */
	return r < 0 ? r : install(w, node, path, &f);
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
	r = install(w, node, path, f);
	if (r == -ESTALE) {
		/* Another object has the name now. */
		plain_nodes_detach(w->nodes, node);
		r = plain_nodes_get(w->nodes, parent, name, &node);
		if (r == 0)
			r = install(w, node, path, f);
	}
	if (r < 0)
		return r;
	node->refs++;
	if (f->type == S_IFDIR && w->peer.links != LINKS_NONE)
		node->sure = plain_now_ms();
	MSG_SET(reply, node, node->id);
	plain_reply_attr(w, reply, node);
	return 0;
}

uint32_t plain_told_mode(uint32_t mode)
{
	return (mode & PLAIN_PERMISSIONS) | (plain_go_mode(mode & PLAIN_SPECIAL_BITS));
}

void plain_fix_mode(struct plain_work *w, struct slice path, uint32_t mode, struct plain_found *f)
{
	uint32_t special = plain_special_bits(f->stat.mode); /* a set-group-ID bit is inherited */
	struct plain_request q = {
		.op = PLAIN_SETATTR, .path = path, .mode = plain_told_mode(mode | special)};
	struct plain_reply p;

	if (plain_told_mode((f->stat.mode & PLAIN_PERMISSIONS) | special) == q.mode)
		return;
	/*
	 * The server's umask took bits away, or the server makes no set-id bits. The file is there
	 * already: a mode that the server does not take is kept in the guest (plain_made).
	 */
	if (plain_exchange(w, &q, &p) == 0)
		f->stat.mode = p.has_stat ? p.stat.mode : q.mode & PLAIN_PERMISSIONS;
}

int plain_made(struct plain_work *w, struct msg *reply, struct plain_node *parent)
{
	const struct msg *m = &w->call->req;
	struct plain_node *node = plain_nodes_find(w->nodes, reply->node);
	bool keep = !w->peer.owners && !w->owner_fixed;
	bool inherits = (parent->attr.mode & S_ISGID) != 0;
	struct attr attr = {.mode = (uint32_t)m->mode, .uid = w->call->uid};

	if (inherits && S_ISDIR(node->attr.mode))
		attr.mode |= S_ISGID; /* as inode_init_owner */
	attr.gid = inherits ? parent->attr.gid : w->call->gid;
	uint64_t valid = (keep ? SET_UID | SET_GID : 0u) | (MSG_HAS(m, mode) ? SET_MODE : 0u);
	plain_kept_changed(parent);
	node->sure = plain_now_ms();
	int r = plain_kept_set(w, node, valid, &attr);
	plain_reply_attr(w, reply, node);
	return r;
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
		r = install(w, root, path, &f);
	if (r < 0)
		return r;
	root->attr.version = ++w->version;
	r = plain_readlink(w, path, &p);
	if (w->peer.links == LINKS_NONE && r != -ENOSYS)
		plain_peer_links(w, LINKS_FOLLOWED);
	return r == -ENOTCONN ? r : 0;
}
