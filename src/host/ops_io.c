/* Reading and writing open files. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/ops.h"

#define GAP_MAX	 ((uint64_t)128 << 10) /* bytes that a WRITE brings back */
#define COPY_MAX ((size_t)64 << 20)    /* of one COPY: what may keep a guest's process waiting */

/* Adds the attributes after the operation; without them the client asks for them. */
static void reply_attr(struct request *r, const struct handle *h)
{
	if (request_attr(r, h->node, h->fd, &r->p.attr) == 0)
		r->p.present |= MSG_BIT(attr);
}

/*
 * An open file through which the client may write. A read-only export has none, whatever
 * the client says, which is checked before anything is done to the file.
 */
static int writable_handle(struct request *r, uint64_t fh, struct handle_ref *ret)
{
	int e = request_writable(r);

	if (e == 0)
		e = request_handle(r, fh, ret);
	if (e == 0 && (ret->h->flags & O_ACCMODE) != O_WRONLY &&
	    (ret->h->flags & O_ACCMODE) != O_RDWR)
		e = -EBADF;
	return e;
}

int op_READ(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	size_t done = 0, size = (size_t)r->q.size;

	if (r->q.size > MSG_PAYLOAD_MAX || r->q.off > INT64_MAX)
		return -EINVAL;
	int e = request_handle(r, r->q.fh, &file);
	if (e < 0)
		return e;
	request_arm(r, file.h, INV_ATTR | INV_DATA);
	while (done < size) {
		ssize_t n = pread(file.h->fd, r->buf + done, size - done, (off_t)(r->q.off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) /* a short reply would be the end of the file */
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	MSG_SET(&r->p, payload, ((struct slice){r->buf, done}));
	reply_attr(r, file.h); /* the access time has changed */
	return 0;
}

/* ---- writing ---- */

static int sync_flags(uint64_t flags)
{
	if ((flags & O_SYNC) == O_SYNC)
		return RWF_SYNC;
	return flags & O_DSYNC ? RWF_DSYNC : 0;
}

/* Writes all bytes, or as many as can be written; -errno if none could. */
static ssize_t write_at(int fd, const unsigned char *p, size_t len, off_t off, int flags)
{
	size_t done = 0;

	while (done < len) {
		struct iovec iov = {(void *)(uintptr_t)(p + done), len - done};
		off_t at = off < 0 ? -1 : off + (off_t)done;
		ssize_t n = pwritev2(fd, &iov, 1, at, flags);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && done == 0)
			return -errno;
		if (n <= 0)
			break; /* the bytes written are reported; the next WRITE gets the error */
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/*
 * The guest's kernel takes the offset of an append from the size that it knows,
 * which may be old; only the host knows the end. With offset -1, pwritev2(2) moves
 * the open file's own offset, which then tells where the bytes were written.
 */
static ssize_t append(struct handle *h, const unsigned char *p, size_t len, int flags,
		      uint64_t *ret_off)
{
	SCOPE_LOCK(&h->position);
	ssize_t n = write_at(h->fd, p, len, -1, flags | RWF_APPEND);
	off_t end = n < 0 ? 0 : lseek(h->fd, 0, SEEK_CUR);

	if (n < 0 || end < n)
		return n < 0 ? n : -EIO;
	*ret_off = (uint64_t)(end - n);
	return n;
}

/*
 * Adds the bytes between the end that the client knew and the real one: with them
 * the client can bring the kernel's pages up to date instead of dropping pages that
 * a process is reading.
 */
static void reply_gap(struct request *r, const struct handle *h, uint64_t from, uint64_t to)
{
	CLEANUP_CLOSE int fd = -1;

	if (to <= from || to - from > GAP_MAX ||
	    export_reopen(r->host->export, h->fd, O_RDONLY, &fd) < 0)
		return;
	if (pread(fd, r->buf, (size_t)(to - from), (off_t)from) == (ssize_t)(to - from))
		MSG_SET(&r->p, payload, ((struct slice){r->buf, (size_t)(to - from)}));
}

int op_WRITE(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	size_t len = r->q.payload.len;
	uint64_t off = r->q.off;
	ssize_t n;
	int e = writable_handle(r, r->q.fh, &file);

	if (e < 0)
		return e;
	if (off > INT64_MAX - len)
		return -EFBIG;
	if (file.h->append && !(r->q.flags & O_APPEND))
		return -EPERM; /* pwrite(2) would write at the end all the same */
	e = handle_write_begin(r->host->export, file.h);
	if (e < 0)
		return e;
	request_arm(r, file.h, INV_ATTR | INV_DATA);
	if (len > 0 && request_strips_ids(r))
		request_strip_ids(r, file.h->fd);
	if (len > 0 && (r->q.flags & O_APPEND))
		n = append(file.h, r->buf, len, sync_flags(r->q.flags), &off);
	else
		n = write_at(file.h->fd, r->buf, len, (off_t)off, sync_flags(r->q.flags));
	handle_write_end(r->host->export, file.h);
	change_broke(&r->change, file.h->node, INV_ATTR | INV_DATA);
	if (n < 0)
		return (int)n;
	MSG_SET(&r->p, size, (uint64_t)n);
	MSG_SET(&r->p, off, off);
	reply_gap(r, file.h, r->q.off, off);
	reply_attr(r, file.h);
	return 0;
}

/* ---- other operations on open files ---- */

static int sync_fd(int fd, bool data_only)
{
	return (data_only ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}

int op_FSYNC(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	CLEANUP_PINNED struct pinned p = {0};
	CLEANUP_CLOSE int fd = -1;
	bool data_only = (r->q.flags & 1) != 0;
	struct stat st;
	int e;

	if (MSG_HAS(&r->q, fh)) {
		e = request_handle(r, r->q.fh, &file);
		return e < 0 ? e : sync_fd(file.h->fd, data_only);
	}
	e = request_pin_open(r, r->q.node, 0, &p);
	if (e < 0)
		return e;
	if (fstat(p.fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EINVAL;
	e = export_reopen(r->host->export, p.fd, O_RDONLY, &fd);
	return e < 0 ? e : sync_fd(fd, data_only);
}

int op_LSEEK(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref file = {0};

	if (r->q.off > INT64_MAX || (r->q.flags != SEEK_DATA && r->q.flags != SEEK_HOLE))
		return r->q.off > INT64_MAX ? -ENXIO : -EINVAL;
	int e = request_handle(r, r->q.fh, &file);
	if (e < 0)
		return e;
	SCOPE_LOCK(&file.h->position);
	off_t off = lseek(file.h->fd, (off_t)r->q.off, (int)r->q.flags);
	if (off < 0)
		return -errno;
	MSG_SET(&r->p, off, (uint64_t)off);
	return 0;
}

int op_FALLOCATE(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	int e = writable_handle(r, r->q.fh, &file);

	if (e < 0)
		return e;
	if (r->q.off > INT64_MAX || r->q.size > INT64_MAX || r->q.flags > INT32_MAX)
		return r->q.flags > INT32_MAX ? -EOPNOTSUPP : -EFBIG;
	e = handle_write_begin(r->host->export, file.h);
	if (e < 0)
		return e;
	request_arm(r, file.h, INV_ATTR);
	if (request_strips_ids(r))
		request_strip_ids(r, file.h->fd);
	do {
		e = fallocate(file.h->fd, (int)r->q.flags, (off_t)r->q.off, (off_t)r->q.size) < 0
			    ? -errno
			    : 0;
	} while (e == -EINTR);
	handle_write_end(r->host->export, file.h);
	change_broke(&r->change, file.h->node, INV_ATTR | INV_DATA);
	if (e == 0)
		reply_attr(r, file.h);
	return e;
}

int op_COPY(struct request *r)
{
	CLEANUP_HANDLE struct handle_ref from = {0}, to = {0};
	size_t len = r->q.size < COPY_MAX ? (size_t)r->q.size : COPY_MAX;
	off_t off = (off_t)r->q.off, off2 = (off_t)r->q.off2;

	if (r->q.off > INT64_MAX || r->q.off2 > INT64_MAX)
		return -EOVERFLOW;
	int e = request_handle(r, r->q.fh, &from);
	if (e == 0)
		e = writable_handle(r, r->q.fh2, &to);
	if (e == 0)
		e = handle_write_begin(r->host->export, to.h);
	if (e < 0)
		return e;
	request_arm(r, to.h, INV_ATTR);
	if (len > 0 && request_strips_ids(r))
		request_strip_ids(r, to.h->fd);
	ssize_t n = copy_file_range(from.h->fd, &off, to.h->fd, &off2, len, (unsigned)r->q.flags);
	e = n < 0 ? -errno : 0;
	handle_write_end(r->host->export, to.h);
	change_broke(&r->change, to.h->node, INV_ATTR | INV_DATA);
	if (e < 0)
		return e;
	MSG_SET(&r->p, size, (uint64_t)n);
	reply_attr(r, to.h);
	return 0;
}
