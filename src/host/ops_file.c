/* Open files: opening, creating, closing. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/cleanup.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/lock.h"
#include "host/ops.h"
#include "transport/codec.h"

#define CREATE_TRIES 16 /* a name that comes and goes while we look */

/*
 * The guest's flags with which the server opens a file. O_APPEND is not one of
 * them, because pwrite(2) would ignore its offset: each WRITE has that flag. O_DIRECT
 * would need aligned buffers here; O_CREAT and O_EXCL belong to CREATE.
 */
static int host_flags(uint64_t flags)
{
	return (int)(flags & (O_ACCMODE | O_SYNC | O_DSYNC | O_NOATIME)) | O_CLOEXEC | O_NOCTTY;
}

static int check_flags(const struct request *r, uint64_t flags)
{
	if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC))
		return request_writable(r);
	return 0;
}

/* Opens a regular file by its object. */
static int open_object(const struct request *r, int object, uint64_t q_flags, int *ret_fd)
{
	int flags = host_flags(q_flags) | (int)(q_flags & O_TRUNC);
	int e = export_reopen(r->host->export, object, flags, ret_fd);

	if (e == -EPERM &&
	    (flags &
	     O_NOATIME)) /* only the owner may set it, and the guest's kernel has checked that */
		e = export_reopen(r->host->export, object, flags & ~O_NOATIME, ret_fd);
	if (e == -EPERM && (q_flags & O_APPEND)) /* an append-only file (may_open) */
		e = export_reopen(r->host->export, object, (flags & ~O_NOATIME) | O_APPEND, ret_fd);
	return e;
}

static void reply_open(struct request *r, const struct hnode *n, uint64_t fh)
{
	MSG_SET(&r->p, fh, fh);
	r->p.present |= MSG_BIT(attr);
	if (hnode_flush(r->host->nodes, n))
		MSG_SET(&r->p, flags, OPEN_FLUSH);
}

static int add_handle(struct request *r, struct hnode *n, int fd, uint64_t *ret_fh)
{
	return handle_add(session_handles(r->session), n, fd, host_flags(r->q.flags),
			  (r->q.flags & OPEN_GIVE_UP) != 0, ret_fh);
}

/*
 * Opens node p, and makes the reply. An open file stays open wherever the host moves it:
 * so its place is checked once more before the client gets it.
 */
static int open_node(struct request *r, const struct pinned *p)
{
	struct hnode *n = p->node;
	uint64_t fh;
	int fd, object = p->fd;
	int e = request_attr(r, n, object, &r->p.attr);

	/* Never a FIFO or a device: opening alone would wait or act (CVE-2020-35517). */
	if (e == 0)
		e = export_openable(r->p.attr.mode);
	if (e == 0)
		e = open_object(r, object, r->q.flags, &fd);
	if (e < 0)
		return e;
	if (r->q.flags & O_TRUNC) {
		if (request_strips_ids(r))
			request_strip_ids(r,
					  fd); /* the guest's kernel leaves O_TRUNC to the server */
		change_broke(&r->change, n, INV_ATTR | INV_DATA);
		e = request_attr(r, n, fd, &r->p.attr);
	}
	if (e == 0)
		e = request_inside(r, p);
	if (e < 0) {
		(void)close(fd);
		return e;
	}
	e = add_handle(r, n, fd, &fh);
	if (e == 0)
		reply_open(r, n, fh);
	return e;
}

/* The client asks for the content along with the open file. */
static bool wants_content(const struct msg *q)
{
	return MSG_HAS(q, size) && q->size > 0 && (q->flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY;
}

/* All of it, if that is less than was asked for; else, or on an error, READ tells. */
static void bring_content(struct request *r, const struct pinned *p)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	size_t done = 0, size = (size_t)r->q.size;
	ssize_t n;

	if (!wants_content(&r->q) || r->p.attr.size >= size ||
	    request_handle(r, r->p.fh, &file) < 0)
		return;
	while ((n = pread(file.h->fd, r->buf + done, size - done, (off_t)done)) > 0)
		done += (size_t)n;
	if (n == 0 && done < size) {
		MSG_SET(&r->p, payload, ((struct slice){r->buf, done}));
		(void)request_attr(r, p->node, file.h->fd, &r->p.attr); /* the access time moved */
	}
}

int op_OPEN(struct request *r)
{
	CLEANUP_PINNED struct pinned p = {0};
	bool content = wants_content(&r->q);
	int e = content && r->q.size > MSG_PAYLOAD_MAX ? -EINVAL : check_flags(r, r->q.flags);

	if (e == 0)
		e = request_pin(r, r->q.node, content ? INV_ATTR | INV_DATA : INV_ATTR, &p);
	if (e == 0)
		e = open_node(r, &p);
	if (e == 0)
		bring_content(r, &p);
	return e;
}

/* ---- CREATE ---- */

/* Completes CREATE for a file that was just made; new_fd is taken over. */
static int finish_new(struct request *r, const struct pinned *dir, const char *name, int new_fd)
{
	CLEANUP_CLOSE int fd = new_fd;
	struct hnode *n;
	uint64_t fh = 0;
	int e = request_inside(r, dir);

	if (e == 0)
		e = request_intern(r, dir, name, fd, &n);
	if (e < 0)
		return e;
	if (r->q.flags & O_NOATIME)
		(void)fcntl(fd, F_SETFL, O_NOATIME); /* at creation EPERM would come too late */
	e = request_tell_node(r, n, fd);
	if (e == 0) {
		if (name == NULL) {
			/* Nothing but this descriptor leads to an O_TMPFILE. */
			int object;

			e = export_reopen(r->host->export, fd, O_PATH, &object);
			if (e == 0)
				hnode_keep(r->host->nodes, n, object);
		}
		if (e == 0)
			e = add_handle(r, n, take_fd(&fd), &fh);
		if (e < 0)
			session_forget(r->session, hnode_id(n), 1);
	}
	if (e == 0)
		reply_open(r, n, fh);
	if (e == 0 && (r->q.flags & OPEN_GIVE_UP))
		handles_give_up(session_handles(r->session), r->host->export, n);
	hnode_unref(r->host->nodes, n);
	return e;
}

/* Completes CREATE for a file that existed already. */
static int open_existing(struct request *r, const struct pinned *dir, const char *name)
{
	CLEANUP_CLOSE int object = -1;
	struct hnode *n;
	int e = export_open(r->host->export, dir->fd, name, O_PATH, 0, &object);

	if (e < 0)
		return e;
	e = request_intern(r, dir, name, object, &n);
	if (e < 0)
		return e;
	e = request_tell_node(r, n, object);
	if (e == 0) {
		e = open_node(r,
			      &(struct pinned){.nodes = r->host->nodes, .node = n, .fd = object});
		if (e < 0)
			session_forget(r->session, hnode_id(n), 1);
	}
	if (e == 0)
		hnode_offer(r->host->nodes, n, take_fd(&object));
	hnode_unref(r->host->nodes, n);
	return e;
}

/* Creates the file with the caller's identity. */
static int make_file(struct request *r, const struct pinned *dir, const char *name, int flags,
		     int *ret_fd)
{
	gid_t groups[MSG_GROUPS_MAX];
	int e = request_assume(r, (struct creds_caller){0}, groups);

	if (e < 0)
		return e;
	e = export_open(r->host->export, dir->fd, name, host_flags(r->q.flags) | flags,
			(mode_t)(r->q.mode & 07777), ret_fd);
	creds_restore(r->creds);
	return e;
}

int op_CREATE(struct request *r)
{
	CLEANUP_PINNED struct pinned dir = {0};
	bool unnamed = (r->q.flags & O_TMPFILE) == O_TMPFILE;
	char name[MSG_NAME_MAX + 1];
	int fd = -1;
	int e = check_flags(r, r->q.flags);

	if (e == 0)
		e = request_writable(r);
	if (e == 0 && !unnamed)
		e = request_name(r->q.name, name);
	if (e == 0 && !handles_room(session_handles(r->session)))
		e = -ENFILE; /* before there is a file */
	if (e == 0)
		e = request_pin(r, r->q.node, INV_NAMES | INV_ATTR, &dir);
	if (e < 0)
		return e;
	if (unnamed) {
		e = make_file(r, &dir, ".", O_TMPFILE | (int)(r->q.flags & O_EXCL), &fd);
		return e < 0 ? e : finish_new(r, &dir, NULL, fd);
	}
	for (int i = 0; i < CREATE_TRIES; i++) {
		e = make_file(r, &dir, name, O_CREAT | O_EXCL, &fd);
		if (e == 0) {
			change_broke_name(&r->change, dir.node, name);
			e = finish_new(r, &dir, name, fd);
			break;
		}
		if (e != -EEXIST || (r->q.flags & O_EXCL))
			break;
		e = open_existing(r, &dir, name);
		/* ESTALE: it was replaced between the look-up and opening it by its handle */
		if (e != -ENOENT && e != -ESTALE)
			break;
	}
	if (e == 0)
		request_parent_attr(r, &dir);
	/*
	 * There is a symbolic link or a FIFO where the guest saw no file, or a regular file.
	 * ESTALE makes the guest's kernel look the name up and walk again (LOOKUP_REVAL), and
	 * that walk follows the link in the guest.
	 */
	return e == -ELOOP || e == -ENXIO ? -ESTALE : e;
}

/* ---- closing ---- */

/*
 * close(2) may free the blocks of a large file, or wait for a file server. All other files are
 * closed before the next frame is received. That frame may be the chmod(2) by which a linker makes
 * the file that it has closed executable: the host's programs would get ETXTBSY.
 */
static bool closes_at_once(const struct request *r, const struct handle *h)
{
	struct stat st;

	return !hnode_flush(r->host->nodes, h->node) && fstat(h->fd, &st) == 0 && st.st_nlink > 0;
}

int op_CLOSE(struct request *r)
{
	struct slice in = {r->buf, r->q.payload.len};
	struct handles *t = session_handles(r->session);
	struct handle *closed = NULL, *h;
	uint64_t fh;
	int e;

	while ((e = codec_get_uint(&in, &fh)) == 1) {
		h = handle_remove(t, fh);
		if (h == NULL)
			continue;
		lock_release_handle(session_locks(r->session), h->node, fh);
		if (closes_at_once(r, h)) {
			handle_put(t, h);
		} else {
			h->next = closed;
			closed = h;
		}
	}
	turn_pass(&r->turn);
	while ((h = closed) != NULL) {
		closed = h->next;
		handle_put(t, h);
	}
	if (e < 0)
		r->why = "CLOSE: not a sequence of numbers";
	return e < 0 ? OP_MALFORMED : OP_NO_REPLY;
}

/* Closes a duplicate: each close(2) flushes, and reports the errors that write(2) did not. */
static int flush(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return -errno;
	return close(copy) < 0 && errno != EINTR ? -errno : 0;
}

int op_FLUSH(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	int e = request_handle(r, r->q.fh, &file);

	if (e < 0)
		return e;
	struct handle *h = file.h;
	if (MSG_HAS(&r->q, owner))
		lock_release_owner(session_locks(r->session), h->node, r->q.owner,
				   (r->q.flags & LOCK_CLOSE) != 0);
	if (hnode_flush(r->host->nodes, h->node))
		e = flush(h->fd);
	if (r->q.flags & FLUSH_GIVE_UP)
		handle_give_up(r->host->export, h);
	return e;
}
