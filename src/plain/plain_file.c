#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "plain/plain_priv.h"
#include "transport/codec.h"

/* Flags of open(2) that a plain server is told; a second handle is opened for O_APPEND. */
#define OPEN_FLAGS ((uint32_t)(O_ACCMODE | O_TRUNC | O_SYNC))

/* Another process may make and remove the name meanwhile. */
#define CREATE_TRIES 8

/* An open file. This client numbers the handles: a server's may be 0, or be used again. */
struct plain_file {
	uint64_t fh;
	uint64_t server_fh;
	uint64_t append_fh; /* the server appends all writes to this handle, whatever the offset */
	struct plain_node *node; /* kept by its count of open files */
	bool writable, appends;	 /* there is an append_fh */
	UT_hash_handle hh;
};

struct plain_files {
	struct plain_file *by_fh;
	uint64_t last;
};

int plain_files_new(struct plain_files **ret)
{
	struct plain_files *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	*ret = t;
	return 0;
}

void plain_files_free(struct plain_files *t)
{
	struct plain_file *f, *next;

	if (t == NULL)
		return;
	HASH_ITER (hh, t->by_fh, f, next) {
		HASH_DEL(t->by_fh, f);
		free(f);
	}
	free(t);
}

static int file_find(struct plain_work *w, uint64_t fh, struct plain_file **ret)
{
	struct plain_file *f;

	HASH_FIND(hh, w->files->by_fh, &fh, sizeof(fh), f);
	if (f == NULL)
		return -EBADF;
	*ret = f;
	return 0;
}

static void release(struct plain_work *w, uint64_t server_fh)
{
	struct plain_request q = {.op = PLAIN_RELEASE, .fh = server_fh};
	struct plain_reply p;

	(void)plain_exchange(w, &q, &p);
}

static bool writable(uint64_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* Takes over the server's handle, also on failure. */
static int file_new(struct plain_work *w, struct plain_node *node, uint64_t server_fh,
		    uint64_t flags, struct plain_file **ret)
{
	struct plain_file *f = calloc(1, sizeof(*f));

	if (f != NULL) {
		*f = (struct plain_file){.fh = ++w->files->last,
					 .server_fh = server_fh,
					 .node = node,
					 .writable = writable(flags)};
		HASH_ADD(hh, w->files->by_fh, fh, sizeof(f->fh), f);
	}
	if (f == NULL || f->hh.tbl == NULL) {
		free(f);
		release(w, server_fh);
		return -ENOMEM;
	}
	node->open++;
	*ret = f;
	return 0;
}

static void file_free(struct plain_work *w, struct plain_file *f)
{
	HASH_DEL(w->files->by_fh, f);
	f->node->open--;
	plain_nodes_release(w->nodes, f->node);
	free(f);
}

uint64_t plain_request_fh(struct plain_work *w)
{
	const struct msg *m = &w->call->req;
	struct plain_file *f;

	return MSG_HAS(m, fh) && file_find(w, m->fh, &f) == 0 ? f->server_fh : 0;
}

/* ---- opening ---- */

/* Only regular files are opened: opening a FIFO would block the server, and so every client. */
static int openable(uint32_t mode)
{
	if (S_ISREG(mode))
		return 0;
	return S_ISDIR(mode) ? -EISDIR : S_ISLNK(mode) ? -ELOOP : -ENXIO;
}

/* Opens the file at path; *ret is the server's handle. */
static int open_at(struct plain_work *w, struct slice path, uint64_t flags, uint64_t *ret)
{
	struct plain_request q = {
		.op = PLAIN_OPEN, .path = path, .flags = (uint32_t)flags & OPEN_FLAGS};
	struct plain_reply p;
	int r = plain_exchange(w, &q, &p);

	if (r == 0)
		*ret = p.fh;
	return r;
}

/*
 * True if the server appends to this handle, which was opened with O_APPEND. Servers that write by
 * position fail every write to such a handle, also an empty write, which changes no file.
 */
static bool appends(struct plain_work *w, uint64_t server_fh)
{
	struct plain_request q = {.op = PLAIN_WRITE, .fh = server_fh};
	struct plain_reply p;

	if (w->peer.appends == APPENDS_UNKNOWN) {
		int r = plain_exchange(w, &q, &p);

		if (r == -ENOTCONN)
			return false;
		plain_peer_appends(w, r == 0 ? APPENDS_YES : APPENDS_NO);
	}
	return w->peer.appends == APPENDS_YES;
}

/*
 * Where the server can append, appended data is written through a second handle, so that it gets to
 * the end of the file whoever else writes. The first handle is for reading and for mapped pages.
 */
static void open_to_append(struct plain_work *w, struct plain_file *f, uint64_t flags)
{
	struct plain_request q = {.op = PLAIN_OPEN, .flags = O_WRONLY | O_APPEND};
	struct plain_reply p;

	if (!(flags & O_APPEND) || !f->writable || w->peer.appends == APPENDS_NO)
		return;
	q.flags |= (uint32_t)flags & O_SYNC;
	if (plain_path(w, f->node, PLAIN_NO_NAME, &q.path) < 0 || plain_exchange(w, &q, &p) < 0)
		return;
	f->append_fh = p.fh;
	f->appends = appends(w, p.fh);
	if (!f->appends)
		release(w, f->append_fh);
}

int plain_do_open(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	bool changes = writable(m->flags) || (m->flags & O_TRUNC) != 0;
	struct plain_node *node;
	struct slice path;
	struct plain_file *f;
	uint64_t server_fh = 0;
	int r = plain_node(w, m->node, &node);

	if (r == 0)
		r = plain_path(w, node, PLAIN_NO_NAME, &path);
	if (r == 0 && node->has_attr)
		r = openable(node->attr.mode);
	if (r == 0 && changes)
		r = plain_sure_of(w, node);
	if (r < 0)
		return r;
	r = open_at(w, path, m->flags, &server_fh);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (m->flags & O_TRUNC)
		plain_kept_changed(node);
	r = plain_refresh(w, node);
	if (r < 0) {
		release(w, server_fh);
		return r;
	}
	r = file_new(w, node, server_fh, m->flags, &f);
	if (r < 0)
		return r;
	open_to_append(w, f, m->flags);
	MSG_SET(reply, fh, f->fh);
	plain_reply_attr(w, reply, node);
	return 0;
}

/*
 * Makes a regular file where there was none. If another process was faster the result is -EEXIST,
 * or, with a server that ignores the flags of create, that file is truncated.
 */
static int create_at(struct plain_work *w, struct slice path, uint32_t mode,
		     struct plain_found *ret, uint64_t *ret_fh)
{
	struct plain_request q = {.op = PLAIN_CREATE,
				  .path = path,
				  .flags = O_RDWR | O_CREAT | O_EXCL,
				  .mode = mode & PLAIN_PERMISSIONS};
	struct plain_reply p;
	int r = plain_exchange(w, &q, &p);

	if (r < 0)
		return r;
	struct plain_found f = plain_found_of(w, &p.stat);
	uint64_t fh = p.fh;
	if (!p.has_stat)
		r = plain_find(w, PLAIN_GETATTR, path, &f);
	if (r == 0 && f.stat.is_dir)
		r = -EISDIR;
	if (r < 0) {
		release(w, fh);
		return r;
	}
	plain_fix_mode(w, path, mode, &f);
	*ret = f;
	*ret_fh = fh;
	return 0;
}

/*
 * The node of a file just made or opened at path, with the reply's reference,
 * node and attr; fresh: the object that had this name before is gone.
 */
static int add_entry(struct plain_work *w, struct msg *reply, struct plain_node *parent,
		     struct slice path, const struct plain_found *f, bool fresh,
		     struct plain_node **ret)
{
	struct slice name = w->call->req.name;

	if (fresh)
		plain_forget_name(w, parent, name);
	int r = plain_reply_entry(w, reply, parent, name, path, f);
	if (r < 0)
		return r;
	*ret = plain_nodes_find(w->nodes, reply->node);
	return fresh ? plain_made(w, reply, parent) : 0;
}

/* The part of CREATE and MKNOD that finds out whether the name is free. */
static int begin_create(struct plain_work *w, struct plain_node **ret_parent,
			struct slice *ret_path, struct plain_found *ret)
{
	int r = plain_named_sure(w, ret_parent, ret_path);

	return r < 0 ? r : plain_find(w, PLAIN_LOOKUP, *ret_path, ret);
}

/* Opens the file that exists already, because create would truncate it. */
static int open_existing(struct plain_work *w, struct slice path, struct plain_found *f,
			 uint64_t *ret_fh)
{
	const struct msg *m = &w->call->req;
	int r = m->flags & O_EXCL ? -EEXIST : openable(f->type);

	if (r == 0)
		r = open_at(w, path, m->flags, ret_fh);
	if (r == 0 && (m->flags & O_TRUNC)) {
		r = plain_find(w, PLAIN_GETATTR, path, f);
		if (r < 0)
			release(w, *ret_fh);
	}
	return r;
}

static int open_or_create(struct plain_work *w, struct plain_node **ret_parent,
			  struct slice *ret_path, struct plain_found *ret, bool *ret_fresh,
			  uint64_t *ret_fh)
{
	const struct msg *m = &w->call->req;
	int r = -EEXIST;

	for (int i = 0; i < CREATE_TRIES && r == -EEXIST; i++) {
		r = begin_create(w, ret_parent, ret_path, ret);
		*ret_fresh = r == -ENOENT;
		if (r == 0)
			return open_existing(w, *ret_path, ret, ret_fh);
		if (*ret_fresh)
			r = create_at(w, *ret_path, (uint32_t)m->mode, ret, ret_fh);
		if (m->flags & O_EXCL)
			break;
	}
	return r;
}

int plain_do_create(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_node *parent, *node;
	struct plain_found f;
	struct slice path;
	struct plain_file *file;
	uint64_t server_fh;
	bool fresh;
	int r = open_or_create(w, &parent, &path, &f, &fresh, &server_fh);

	if (r < 0)
		return r;
	r = add_entry(w, reply, parent, path, &f, fresh, &node);
	if (r < 0) {
		release(w, server_fh);
		return r;
	}
	if (!fresh && (m->flags & O_TRUNC))
		plain_kept_changed(node);
	/* a handle of create can be written to, whatever the flags were */
	r = file_new(w, node, server_fh, fresh ? O_RDWR : m->flags, &file);
	if (r < 0) {
		plain_nodes_forget(w->nodes, node->id, 1);
		return r;
	}
	open_to_append(w, file, m->flags);
	MSG_SET(reply, fh, file->fh);
	return 0;
}

int plain_make_file(struct plain_work *w, struct msg *reply)
{
	struct plain_node *parent, *node;
	uint64_t server_fh;
	struct plain_found f;
	struct slice path;
	int r = begin_create(w, &parent, &path, &f);

	if (r == 0)
		return -EEXIST;
	if (r == -ENOENT)
		r = create_at(w, path, (uint32_t)w->call->req.mode, &f, &server_fh);
	if (r < 0)
		return r;
	release(w, server_fh);
	return add_entry(w, reply, parent, path, &f, true, &node);
}

/* ---- reading and writing ---- */

int plain_do_read(struct plain_work *w, struct msg *reply)
{
	struct call *call = w->call;
	const struct msg *m = &call->req;
	size_t size = m->size < MSG_PAYLOAD_MAX ? (size_t)m->size : MSG_PAYLOAD_MAX, done = 0;
	unsigned char *dst = call->dest != NULL && size <= call->dest_len ? call->dest : w->payload;
	struct plain_file *f;
	int r = file_find(w, m->fh, &f);

	if (r == 0 && m->off > (uint64_t)INT64_MAX - size)
		r = -EINVAL;
	while (r == 0 && done < size) {
		struct plain_request q = {.op = PLAIN_READ,
					  .fh = f->server_fh,
					  .off = (int64_t)(m->off + done),
					  .sz = (uint32_t)(size - done)};
		struct plain_reply p;

		r = plain_exchange(w, &q, &p);
		if (r < 0)
			break;
		if (p.data.len > size - done)
			return plain_lost(w, "a read's reply with more bytes than asked for");
		if (p.data.len > 0)
			memcpy(dst + done, p.data.data, p.data.len);
		done += p.data.len;
		/* A short read is the end, unless the file was known to be longer. */
		if (p.data.len == 0 || m->off + done >= f->node->attr.size)
			break;
	}
	if (r < 0 && (done == 0 || r == -ENOTCONN))
		return r;
	const struct slice payload = {dst, done};
	MSG_SET(reply, payload, payload);
	return 0;
}

/* Writes all of data. An error after some bytes were written is left for the next write. */
static int write_all(struct plain_work *w, struct plain_file *f, uint64_t server_fh, uint64_t off,
		     struct slice data, size_t *ret_done)
{
	const unsigned char *bytes = data.data;
	size_t done = 0;
	int r = 0;

	while (r == 0 && done < data.len) {
		struct plain_request q = {.op = PLAIN_WRITE,
					  .fh = server_fh,
					  .off = (int64_t)(off + done),
					  .data = {bytes + done, data.len - done}};
		struct plain_reply p;

		r = plain_exchange(w, &q, &p);
		if (r < 0)
			break;
		if (p.written > data.len - done)
			return plain_lost(w, "a write's reply with more bytes than were sent");
		if (p.written == 0)
			r = -EIO;
		done += p.written;
	}
	if (done > 0) {
		plain_kept_changed(f->node);
		if (off + done > f->node->attr.size)
			f->node->attr.size = off + done;
	}
	if (r < 0 && (done == 0 || r == -ENOTCONN))
		return r;
	*ret_done = done;
	return 0;
}

/* The end of the file by the server; for a file without a name, by this client's own writes. */
static int find_end(struct plain_work *w, struct plain_node *node, uint64_t *ret)
{
	int r = plain_refresh(w, node);

	*ret = node->attr.size;
	return r == -ESTALE ? 0 : r;
}

/*
 * Appends. The offset sent is the end just before, for a server that can only write by
 * position. A server that appends may have found the end further on, as the size afterwards
 * shows. If the file has grown by more than these bytes, other clients have appended as well,
 * before or after: *ret_off then differs from any end that a process can have seen.
 */
static int append(struct plain_work *w, struct plain_file *f, struct slice data, uint64_t *ret_off,
		  size_t *ret_done)
{
	uint64_t end, after;
	size_t done;
	int r = find_end(w, f->node, &end);

	if (r == 0 && end > (uint64_t)INT64_MAX - data.len)
		r = -EFBIG;
	if (r == 0)
		r = write_all(w, f, f->appends ? f->append_fh : f->server_fh, end, data, &done);
	if (r < 0)
		return r;
	*ret_off = end;
	*ret_done = done;
	if (f->appends && find_end(w, f->node, &after) == 0 && after > end + done)
		*ret_off = after - done;
	return 0;
}

int plain_do_write(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	uint64_t off = m->off;
	struct plain_file *f;
	size_t done;
	int r = file_find(w, m->fh, &f);

	if (r == 0 && off > (uint64_t)INT64_MAX - m->payload.len)
		r = -EFBIG;
	if (r < 0)
		return r;
	if (MSG_HAS(m, flags) && (m->flags & O_APPEND))
		r = append(w, f, m->payload, &off, &done);
	else
		r = write_all(w, f, f->server_fh, off, m->payload, &done);
	if (r < 0)
		return r;
	MSG_SET(reply, size, done);
	MSG_SET(reply, off, off);
	return 0;
}

/* ---- sizes ---- */

/*
 * Sends op 15, with the size in both fields that a server may read, by path and handle.
 * -EOPNOTSUPP: the server has no op 15, or one that does not find a file without a name.
 */
static int truncate_op(struct plain_work *w, struct slice path, const struct plain_file *f,
		       uint64_t size)
{
	struct plain_request q = {.op = PLAIN_TRUNCATE, .path = path, .off = (int64_t)size};
	struct plain_reply p;

	if (size <= UINT32_MAX)
		q.sz = (uint32_t)size;
	if (f != NULL)
		q.fh = f->server_fh;
	if (path.len == 0 && q.fh == 0)
		return -EOPNOTSUPP;
	int r = plain_exchange(w, &q, &p);
	return r == -ENOSYS || (r < 0 && path.len == 0 && r != -ENOTCONN) ? -EOPNOTSUPP : r;
}

static int truncate_to_zero(struct plain_work *w, struct slice path)
{
	uint64_t server_fh;
	int r = open_at(w, path, O_WRONLY | O_TRUNC, &server_fh);

	if (r == 0)
		release(w, server_fh);
	return r;
}

/* Writes the last byte, through f if f is open for writing, else through a new handle. */
static int grow(struct plain_work *w, struct plain_node *node, struct plain_file *f, uint64_t size)
{
	static const unsigned char zero;
	struct plain_file own = {.node = node};
	struct slice path;
	size_t done;
	int r = 0;
	bool opened = f == NULL || !f->writable;

	if (opened) {
		r = plain_path(w, node, PLAIN_NO_NAME, &path);
		if (r == 0)
			r = open_at(w, path, O_WRONLY, &own.server_fh);
		if (r < 0)
			return r;
		f = &own;
	}
	r = write_all(w, f, f->server_fh, size - 1, (struct slice){&zero, 1}, &done);
	if (opened)
		release(w, own.server_fh);
	return r;
}

/* Sets the size without op 15: a write makes a file longer, an open empties it, and any other
 * truncation is refused. */
static int set_size_otherwise(struct plain_work *w, struct plain_node *node, struct slice path,
			      struct plain_file *f, uint64_t size)
{
	if (size == 0 && path.len != 0)
		return truncate_to_zero(w, path);
	int r = plain_refresh(w, node);
	/* A file without a name can only be made longer, through a handle that may write. */
	bool nameless = r == -ESTALE && f != NULL && f->writable && node->has_attr;
	if (r < 0 && !nameless)
		return r;
	if (size == node->attr.size)
		return 0;
	return size > node->attr.size ? grow(w, node, f, size) : -EOPNOTSUPP;
}

int plain_set_size(struct plain_work *w, struct plain_node *node, uint64_t size)
{
	const struct msg *m = &w->call->req;
	struct slice path = {NULL, 0};
	struct plain_file *f = NULL;
	int r = 0;

	if (size > INT64_MAX)
		return -EFBIG;
	if (node->has_attr && !S_ISREG(node->attr.mode))
		return S_ISDIR(node->attr.mode) ? -EISDIR : -EINVAL;
	if (MSG_HAS(m, fh))
		r = file_find(w, m->fh, &f);
	else
		r = plain_sure_of(w, node);
	if (r == 0)
		r = plain_path(w, node, PLAIN_NO_NAME, &path);
	if (r == -ESTALE && f != NULL)
		r = 0; /* the handle does not need the name */
	if (r == 0)
		r = truncate_op(w, path, f, size);
	if (r == -EOPNOTSUPP)
		r = set_size_otherwise(w, node, path, f, size);
	if (r == 0)
		plain_kept_changed(node);
	return r;
}

/* ---- flush, fsync, close ---- */

/* fsync of a file or directory that is not open: by op 19, or through a handle opened for it. */
static int fsync_by_path(struct plain_work *w, struct plain_node *node)
{
	struct plain_request by_path = {.op = PLAIN_FSYNC_PATH};
	struct plain_request q = {.op = PLAIN_FSYNC};
	struct plain_reply p;
	int r = plain_path(w, node, PLAIN_NO_NAME, &by_path.path);

	if (r == 0)
		r = plain_exchange(w, &by_path, &p);
	if (r != -ENOSYS)
		return r;
	r = open_at(w, by_path.path, O_RDONLY, &q.fh);
	/* On a server that opens no directories, fsync(2) of a directory succeeds and does
	 * nothing. */
	if (r < 0)
		return r != -ENOTCONN && S_ISDIR(node->attr.mode) ? 0 : r;
	uint64_t fh = q.fh;
	r = plain_exchange(w, &q, &p);
	release(w, fh);
	return r;
}

int plain_do_fsync(struct plain_work *w, struct msg *reply)
{
	const struct msg *m = &w->call->req;
	struct plain_request q = {.op = PLAIN_FSYNC};
	struct plain_node *node;
	struct plain_reply p;
	struct plain_file *f;
	int r = plain_node(w, m->node, &node);

	(void)reply;
	if (MSG_HAS(m, fh)) {
		r = file_find(w, m->fh, &f);
		if (r < 0)
			return r;
		q.fh = f->server_fh;
		return plain_exchange(w, &q, &p);
	}
	return r < 0 ? r : fsync_by_path(w, node);
}

int plain_do_close(struct plain_work *w, struct msg *reply)
{
	struct slice in = w->call->req.payload;
	struct plain_file *f;
	uint64_t fh;

	(void)reply;
	while (codec_get_uint(&in, &fh) == 1) {
		if (file_find(w, fh, &f) < 0)
			continue;
		release(w, f->server_fh);
		if (f->appends)
			release(w, f->append_fh);
		file_free(w, f);
	}
	return 0;
}
