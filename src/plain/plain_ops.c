#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "plain/plain_priv.h"
#include "transport/codec.h"

/* The real totals are not known: these leave room for any program that checks. */
#define STATFS_BLOCKS (UINT64_C(1) << 28)

/* ---- names ---- */

/* The host has removed the name: an object that gets the name later is another one. */
static void forget_kept(struct plain_work *w, const struct plain_node *parent, struct slice name)
{
	struct plain_node *node = plain_nodes_child(w->nodes, parent, name);

	if (node == NULL || node->kept == NULL)
		return;
	plain_kept_drop(node);
	plain_nodes_release(w->nodes, node);
}

static int do_lookup(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_node *parent;
	struct plain_found f;
	struct slice path;
	int r = plain_named(w, &parent, &path);

	if (r == 0)
		r = plain_find(w, PLAIN_LOOKUP, path, &f);
	if (r == -ENOENT)
		forget_kept(w, parent, m->name);
	return r < 0 ? r : plain_reply_entry(w, reply, parent, m->name, path, &f);
}

static int make_dir(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_request q = {.op = PLAIN_MKDIR, .mode = (uint32_t)m->mode & PLAIN_PERMISSIONS};
	struct plain_node *parent;
	struct plain_reply p;
	int r = plain_named_sure(w, &parent, &q.path);

	if (r == 0)
		r = plain_exchange(w, &q, &p);
	if (r < 0)
		return r;
	struct plain_found f = plain_found_of(w, &p.stat);
	plain_forget_name(w, parent, m->name);
	if (!p.has_stat || !p.stat.is_dir)
		r = plain_find(w, PLAIN_GETATTR, q.path, &f);
	if (r < 0)
		return r;
	plain_fix_mode(w, q.path, (uint32_t)m->mode, &f);
	r = plain_reply_entry(w, reply, parent, m->name, q.path, &f);
	return r < 0 ? r : plain_made(w, reply, parent);
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

/* ---- symbolic links ---- */

static int send_symlink(struct plain_work *w, enum plain_target order, struct slice link,
			struct slice target, struct plain_reply *ret)
{
	struct plain_request q = {.op = PLAIN_SYMLINK};

	q.path = order == TARGET_PATH ? target : link;
	if (order == TARGET_PATH)
		q.new_path = link;
	else
		*(order == TARGET_NEW_PATH ? &q.new_path : &q.data) = target;
	if (order != TARGET_DATA && order != TARGET_UNKNOWN && !utf8_valid(target))
		return -EILSEQ;
	return plain_exchange(w, &q, ret);
}

/* Removes path if it is a link. */
static bool was_link(struct plain_work *w, struct slice path)
{
	struct plain_request q = {.op = PLAIN_UNLINK, .path = path};
	struct plain_reply p;

	return plain_readlink(w, path, &p) == 0 && plain_exchange(w, &q, &p) == 0;
}

/*
 * Finds out in which field the server expects the target, if not in `data`. With the
 * fields exchanged, a server would make the link at the target's path. So both fields
 * get fresh names that no file has: the one that is a link afterwards shows the order.
 */
static void probe_target(struct plain_work *w, struct plain_node *parent)
{
	uint64_t salt[2];
	struct slice path[2];
	struct plain_reply p;
	char name[64];

	if (getentropy(salt, sizeof(salt)) < 0)
		return;
	int n = snprintf(name, sizeof(name), ".vsockfs-%016" PRIx64 "%016" PRIx64 "-", salt[0],
			 salt[1]);
	for (int i = 0; i < 2; i++) {
		name[n] = (char)('a' + i);
		if ((i == 0 ? plain_path2 : plain_path3)(
			    w, parent, (struct slice){name, (size_t)n + 1}, &path[i]) < 0)
			return;
	}
	if (send_symlink(w, TARGET_NEW_PATH, path[0], path[1], &p) < 0)
		return;
	if (was_link(w, path[0]))
		plain_peer_target(w, TARGET_NEW_PATH);
	else if (was_link(w, path[1]))
		plain_peer_target(w, TARGET_PATH);
}

/* Makes the link at path, in the order of fields that the server takes. */
static int make_link(struct plain_work *w, struct plain_node *parent, struct slice path,
		     struct slice target, struct plain_reply *ret)
{
	enum plain_target order = w->peer.target;
	int r = send_symlink(w, order, path, target, ret);

	if (r == 0 && order == TARGET_UNKNOWN)
		plain_peer_target(w, TARGET_DATA);
	if (r == 0 || r == -ENOSYS || r == -ENOTCONN || order != TARGET_UNKNOWN)
		return r;
	/* A server that expects the target in another field found none, and made nothing. */
	probe_target(w, parent);
	order = w->peer.target;
	return order == TARGET_UNKNOWN ? r : send_symlink(w, order, path, target, ret);
}

static int do_symlink(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_node *parent = NULL;
	struct plain_reply p;
	struct slice path;
	int r = plain_named_sure(w, &parent, &path);

	if (r == 0 && m->payload.len == 0)
		r = -ENOENT; /* as symlink(2) */
	if (r == 0)
		r = make_link(w, parent, path, m->payload, &p);
	if (r < 0)
		return r == -ENOSYS ? -EPERM : r;
	plain_forget_name(w, parent, m->name);
	struct plain_found f = plain_found_of(w, &p.stat);
	if (!p.has_stat || f.type != S_IFLNK)
		r = plain_find(w, PLAIN_LOOKUP, path, &f);
	if (r == -ENOTCONN)
		return r;
	if (r < 0 || f.type != S_IFLNK)
		f = (struct plain_found){.type = S_IFLNK,
					 .stat = {.size = (int64_t)m->payload.len,
						  .mode = PLAIN_PERMISSIONS,
						  .mtime = time(NULL)}};
	r = plain_reply_entry(w, reply, parent, m->name, path, &f);
	return r < 0 ? r : plain_made(w, reply, parent);
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
		r = plain_named2_sure(w, &parent, &q.new_path);
	if (r == 0)
		r = plain_exchange(w, &q, &p);
	if (r < 0)
		return r == -ENOSYS ? -EPERM : r;
	plain_forget_name(w, parent, m->name2);
	plain_kept_changed(parent);
	r = plain_find(w, PLAIN_LOOKUP, q.new_path, &f);
	if (r == 0)
		r = plain_reply_entry(w, reply, parent, m->name2, q.new_path, &f);
	if (r < 0)
		return r;
	r = plain_kept_copy(w, node, plain_nodes_find(w->nodes, reply->node));
	plain_reply_attr(w, reply, plain_nodes_find(w->nodes, reply->node));
	return r;
}

/*
 * unlink and rmdir are one operation for servers that use Go's os.Remove, so the type
 * is checked first. For a directory that is not empty such servers answer EEXIST or EIO.
 */
static int do_remove(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	bool rmdir = m->op == MSG_RMDIR;
	struct plain_request q = {.op = rmdir ? PLAIN_RMDIR : PLAIN_UNLINK};
	struct plain_node *parent;
	struct plain_found f;
	struct plain_reply p;
	int r = plain_named_sure(w, &parent, &q.path);

	(void)reply;
	if (r == 0)
		r = plain_find(w, PLAIN_LOOKUP, q.path, &f);
	if (r < 0)
		return r;
	bool is_dir = f.type == S_IFDIR;
	if (rmdir != is_dir)
		return rmdir ? -ENOTDIR : -EISDIR;
	r = plain_exchange(w, &q, &p);
	if (rmdir && (r == -EEXIST || (r == -EIO && plain_not_empty(w, q.path))))
		r = -ENOTEMPTY;
	if (r == 0) {
		plain_forget_name(w, parent, m->name);
		plain_kept_changed(parent);
	}
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
	int r = plain_named_sure(w, &from, &q.path);
	if (r == 0)
		r = plain_named2_sure(w, &to, &q.new_path);
	if (r < 0)
		return r;
	struct plain_node *node = plain_nodes_child(w->nodes, from, m->name);
	if (node != NULL && is_within(to, node))
		return -EINVAL; /* refused also if a server allows it: a path must end */
	r = plain_exchange(w, &q, &p);
	if (r == -EEXIST || (r == -EIO && plain_not_empty(w, q.new_path)))
		r = -ENOTEMPTY;
	if (r < 0)
		return r;
	plain_kept_changed(from);
	plain_kept_changed(to);
	struct plain_node *old = plain_nodes_child(w->nodes, to, m->name2);
	if (old != NULL && old == node)
		return 0; /* the file is renamed to its own name */
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

/* The error for a message for which the plain protocol has no operation. */
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
