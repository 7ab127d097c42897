#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "plain/plain_priv.h"
#include "transport/codec.h"

/* What nobody knows: as good as unlimited for whoever asks whether there is room. */
#define STATFS_BLOCKS (UINT64_C(1) << 28)

/* ---- names, nodes, paths ---- */

int plain_name_check(struct slice name)
{
	const char *p = name.data;

	if (name.len == 0 || (name.len == 1 && p[0] == '.') ||
	    (name.len == 2 && p[0] == '.' && p[1] == '.') || memchr(p, '/', name.len) != NULL ||
	    memchr(p, '\0', name.len) != NULL)
		return -EINVAL;
	if (name.len > MSG_NAME_MAX)
		return -ENAMETOOLONG;
	return utf8_valid(name) ? 0 : -EILSEQ;
}

int plain_node(struct plain_work *w, uint64_t id, struct plain_node **ret)
{
	struct plain_node *node = plain_nodes_find(w->nodes, id);

	/* What no reply's reference holds, nobody may name: no operation frees its own nodes. */
	if (node == NULL || node->refs == 0)
		return -ESTALE;
	*ret = node;
	return 0;
}

int plain_path(struct plain_work *w, const struct plain_node *node, struct slice name,
	       struct slice *ret)
{
	return plain_nodes_path(w->nodes, node, name, &w->path[0], &w->path_cap[0], ret);
}

int plain_path2(struct plain_work *w, const struct plain_node *node, struct slice name,
		struct slice *ret)
{
	return plain_nodes_path(w->nodes, node, name, &w->path[1], &w->path_cap[1], ret);
}

/* The node and the path that the request's node and name, or node2 and name2, mean. */
static int named(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path)
{
	const struct msg *m = &w->call->req;
	int r = plain_name_check(m->name);

	if (r == 0)
		r = plain_node(w, m->node, ret_parent);
	return r < 0 ? r : plain_path(w, *ret_parent, m->name, ret_path);
}

static int named2(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path)
{
	const struct msg *m = &w->call->req;
	int r = plain_name_check(m->name2);

	if (r == 0)
		r = plain_node(w, m->node2, ret_parent);
	return r < 0 ? r : plain_path2(w, *ret_parent, m->name2, ret_path);
}

void plain_forget_name(struct plain_work *w, const struct plain_node *parent, struct slice name)
{
	struct plain_node *node = plain_nodes_child(w->nodes, parent, name);

	if (node != NULL)
		plain_nodes_detach(w->nodes, node);
}

/* ---- operations ---- */

static int do_lookup(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_node *parent;
	struct plain_found f;
	struct slice path;
	int r = named(w, &parent, &path);

	if (r == 0)
		r = plain_find(w, PLAIN_LOOKUP, path, &f);
	return r < 0 ? r : plain_reply_entry(w, reply, parent, m->name, path, &f);
}

static int make_dir(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_request q = {.op = PLAIN_MKDIR, .mode = (uint32_t)m->mode & PLAIN_PERMISSIONS};
	uint64_t began = plain_now_ms();
	struct plain_node *parent;
	struct plain_reply p;
	int r = named(w, &parent, &q.path);

	if (r == 0 && (m->mode & PLAIN_SPECIAL_BITS) != 0)
		r = -EPERM;
	if (r == 0)
		r = plain_exchange(w, &q, &p);
	if (r < 0)
		return r;
	struct plain_found f = {.stat = p.stat};
	plain_forget_name(w, parent, m->name);
	if (!p.has_stat || !p.stat.is_dir)
		r = plain_find(w, PLAIN_GETATTR, q.path, &f);
	if (r < 0)
		return r;
	plain_fix_mode(w, q.path, (uint32_t)m->mode, &f);
	r = plain_reply_entry(w, reply, parent, m->name, q.path, &f);
	if (r == 0)
		plain_nodes_find(w->nodes, reply->node)->touched = began;
	return r;
}

static int do_mknod(struct plain_work *w, struct msg *reply)
{
	switch (w->call->req.mode & S_IFMT) {
	case S_IFDIR:
		return make_dir(w, reply);
	case S_IFREG:
	case 0:
		return plain_make_file(w, reply);
	default:
		return -EPERM;
	}
}

static int do_symlink(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_request q = {.op = PLAIN_SYMLINK, .data = m->payload};
	struct plain_node *parent;
	struct plain_reply p;
	int r = named(w, &parent, &q.path);

	if (r == 0 && m->payload.len == 0)
		r = -ENOENT; /* as symlink(2) */
	if (r == 0)
		r = plain_exchange(w, &q, &p);
	if (r < 0)
		return r == -ENOSYS ? -EPERM : r;
	plain_forget_name(w, parent, m->name);
	struct plain_found f = {.is_link = true, .stat = p.stat};
	if (!p.has_stat || !plain_told_as_link(&p.stat))
		r = plain_find(w, PLAIN_LOOKUP, q.path, &f);
	if (r == -ENOTCONN)
		return r;
	if (r < 0 || !f.is_link)
		f = (struct plain_found){.is_link = true,
					 .stat = {.size = (int64_t)m->payload.len,
						  .mode = PLAIN_PERMISSIONS,
						  .mtime = time(NULL)}};
	return plain_reply_entry(w, reply, parent, m->name, q.path, &f);
}

static int do_readlink(struct plain_work *w, struct msg *reply)
{
	struct plain_node *node;
	struct plain_reply p;
	struct slice path;
	int r = plain_node(w, w->call->req.node, &node);

	if (r == 0)
		r = plain_path(w, node, PLAIN_NO_NAME, &path);
	if (r == 0)
		r = plain_readlink(w, path, &p);
	if (r == 0 && !msg_target_valid(p.data))
		r = -EIO;
	if (r < 0)
		return r == -ENOSYS ? -EINVAL : r;
	MSG_SET(reply, payload, p.data);
	return 0;
}

static int do_link(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_request q = {.op = PLAIN_LINK};
	struct plain_node *node, *parent;
	struct plain_found f;
	struct plain_reply p;
	int r = plain_node(w, m->node, &node);

	if (r == 0)
		r = plain_path(w, node, PLAIN_NO_NAME, &q.path);
	if (r == 0)
		r = named2(w, &parent, &q.new_path);
	if (r == 0)
		r = plain_exchange(w, &q, &p);
	if (r < 0)
		return r == -ENOSYS ? -EPERM : r;
	plain_forget_name(w, parent, m->name2);
	r = plain_find(w, PLAIN_LOOKUP, q.new_path, &f);
	return r < 0 ? r : plain_reply_entry(w, reply, parent, m->name2, q.new_path, &f);
}

/*
 * unlink and rmdir are one operation for servers that use Go's os.Remove: the
 * type is looked at first. What such servers answer for a directory that is
 * not empty is an EEXIST or an EIO.
 */
static int do_remove(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	bool rmdir = m->op == MSG_RMDIR;
	struct plain_request q = {.op = rmdir ? PLAIN_RMDIR : PLAIN_UNLINK};
	struct plain_node *parent;
	struct plain_found f;
	struct plain_reply p;
	int r = named(w, &parent, &q.path);

	(void)reply;
	if (r == 0)
		r = plain_find(w, PLAIN_LOOKUP, q.path, &f);
	if (r < 0)
		return r;
	bool is_dir = plain_type(&f) == S_IFDIR;
	if (rmdir != is_dir)
		return rmdir ? -ENOTDIR : -EISDIR;
	r = plain_exchange(w, &q, &p);
	if (rmdir && (r == -EEXIST || (r == -EIO && plain_not_empty(w, q.path))))
		r = -ENOTEMPTY;
	if (r == 0)
		plain_forget_name(w, parent, m->name);
	return r;
}

static bool is_within(const struct plain_node *node, const struct plain_node *top)
{
	while (node != NULL && node != top)
		node = node->parent;
	return node == top;
}

static int do_rename(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_request q = {.op = PLAIN_RENAME};
	struct plain_node *from, *to;
	struct plain_reply p;

	(void)reply;
	if (MSG_HAS(m, flags) && m->flags != 0)
		return -EINVAL;
	int r = named(w, &from, &q.path);
	if (r == 0)
		r = named2(w, &to, &q.new_path);
	if (r < 0)
		return r;
	struct plain_node *node = plain_nodes_child(w->nodes, from, m->name);
	if (node != NULL && is_within(to, node))
		return -EINVAL; /* whatever the server says: a path must end */
	r = plain_exchange(w, &q, &p);
	if (r == -EEXIST || (r == -EIO && plain_not_empty(w, q.new_path)))
		r = -ENOTEMPTY;
	if (r < 0)
		return r;
	struct plain_node *old = plain_nodes_child(w->nodes, to, m->name2);
	if (old != NULL && old == node)
		return 0; /* onto itself */
	if (old != NULL)
		plain_nodes_detach(w->nodes, old);
	if (node != NULL)
		(void)plain_nodes_move(w->nodes, node, to, m->name2);
	return 0;
}

static int do_statfs(struct plain_work *w, struct msg *reply)
{
	const struct fsinfo fs = {.bsize = PLAIN_BLOCK_SIZE,
				  .frsize = PLAIN_BLOCK_SIZE,
				  .blocks = STATFS_BLOCKS,
				  .bfree = STATFS_BLOCKS,
				  .bavail = STATFS_BLOCKS,
				  .files = STATFS_BLOCKS,
				  .ffree = STATFS_BLOCKS,
				  .namemax = MSG_NAME_MAX};

	(void)w;
	MSG_SET(reply, fs, fs);
	return 0;
}

static int do_forget(struct plain_work *w, struct msg *reply)
{
	struct slice in = w->call->req.payload;
	uint64_t id, n;

	(void)reply;
	while (codec_get_pair(&in, &id, &n) == 1)
		plain_nodes_forget(w->nodes, id, n);
	return 0;
}

static int do_ping(struct plain_work *w, struct msg *reply)
{
	struct plain_found f;
	struct slice path;
	int r = plain_path(w, plain_nodes_find(w->nodes, PLAIN_ROOT), PLAIN_NO_NAME, &path);

	(void)reply;
	if (r == 0)
		r = plain_find(w, PLAIN_GETATTR, path, &f);
	return r == -ENOTCONN ? r : 0;
}

static int do_nothing(struct plain_work *w, struct msg *reply)
{
	(void)w;
	(void)reply;
	return 0;
}

/* ---- dispatch ---- */

/* What is not here, and has no operation in the protocol. */
static int refusal(uint64_t op)
{
	switch (op) {
	case MSG_LSEEK:	    /* the kernel then takes a file for one piece of data */
	case MSG_FALLOCATE: /* EOPNOTSUPP to the caller; posix_fallocate then writes */
	case MSG_COPY:	    /* the kernel reads and writes instead */
	case MSG_GETXATTR:
	case MSG_SETXATTR:
	case MSG_LISTXATTR:
	case MSG_REMOVEXATTR:
		return -ENOSYS;
	default:
		return -EOPNOTSUPP;
	}
}

int plain_execute(struct plain_work *w, struct msg *reply)
{
	static int (*const table[])(struct plain_work *, struct msg *) = {
		[MSG_PING] = do_ping,
		[MSG_CANCEL] = do_nothing,
		[MSG_FORGET] = do_forget,
		[MSG_CLOSE] = plain_do_close,
		[MSG_LOOKUP] = do_lookup,
		[MSG_GETATTR] = plain_do_getattr,
		[MSG_OPEN] = plain_do_open,
		[MSG_READDIRPLUS] = plain_do_readdir,
		[MSG_READ] = plain_do_read,
		[MSG_CREATE] = plain_do_create,
		[MSG_SETATTR] = plain_do_setattr,
		[MSG_WRITE] = plain_do_write,
		[MSG_MKNOD] = do_mknod,
		[MSG_SYMLINK] = do_symlink,
		[MSG_LINK] = do_link,
		[MSG_UNLINK] = do_remove,
		[MSG_RMDIR] = do_remove,
		[MSG_RENAME] = do_rename,
		[MSG_STATFS] = do_statfs,
		[MSG_READLINK] = do_readlink,
		[MSG_FLUSH] = do_nothing,
		[MSG_FSYNC] = plain_do_fsync,
	};
	const struct msg *m = &w->call->req;

	if (!msg_request_complete(m))
		return -EINVAL;
	if (m->op >= sizeof(table) / sizeof(table[0]) || table[m->op] == NULL)
		return refusal(m->op);
	int r = table[m->op](w, reply);
	return r == -ENOSYS ? -EOPNOTSUPP : r;
}
