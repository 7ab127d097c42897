/* Open files: create, read, write and what else takes a file handle. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "fuse/fs_priv.h"

/* The reply of COPY_FILE_RANGE has 32 bits; a short copy is allowed, and stays interruptible. */
#define COPY_MAX (1u << 30)

/* ---- open, create, release ---- */

/*
 * Makes the struct kfile before the request leaves: no open file may be lost to ENOMEM. With
 * no_open there is none: the kernel sends no RELEASE, not even of what CREATE opened
 * (fuse_file_put).
 */
static bool with_file(struct krequest *r, const struct fuse_file_info *fi)
{
	r->fi = *fi;
	if (r->fs->options.no_open)
		return true;
	r->file = kfile_new(r->fs);
	if (r->file != NULL)
		return true;
	(void)fuse_reply_err(r->req, ENOMEM);
	krequest_free(r);
	return false;
}

static void opened(struct krequest *r, const struct cache_reply *reply)
{
	struct fs *fs = r->fs;

	r->file->fh = reply->fh;
	r->file->flush = (reply->flags & OPEN_FLUSH) != 0;
	r->fi.keep_cache = reply->keep;
	r->fi.fh = r->file->number;
	/*
	 * The kernel takes the offset of an append from its own idea of the size
	 * (fuse_perform_write); only without its page cache does a write elsewhere
	 * leave no wrong page behind. Such a write does not take the set-id bits off
	 * what the kernel shows (fuse_direct_io leaves them to the server), so files
	 * that have any go through the cache.
	 */
	r->fi.direct_io = (r->fi.flags & O_APPEND) != 0 && (r->fi.flags & O_ACCMODE) != O_RDONLY &&
			  (reply->attr == NULL || (reply->attr->mode & (S_ISUID | S_ISGID)) == 0);
	r->file->direct = r->fi.direct_io;
	/*
	 * A reader of the kernel's pages takes the page of the end and then looks at
	 * the size (filemap_read): it must not grow in between.
	 */
	if (reply->appended && (r->fi.flags & O_ACCMODE) == O_RDONLY)
		r->fi.direct_io = 1;
	r->file->writes = (r->fi.flags & O_ACCMODE) != O_RDONLY;
	/*
	 * Without FLUSH the kernel would not tell when a close releases POSIX locks, nor
	 * before close(2) returns that the host may execute what was written.
	 */
	r->fi.noflush = !fs->options.host_locks && !r->file->flush && !r->file->writes;
	kfile_outlive(fs, r->file, reply->ino != 0 ? reply->ino : r->ino, r->unique);
}

/* The file that CREATE opened serves whoever opens it next, too. */
static void opened_by_node(struct krequest *r, const struct cache_reply *reply)
{
	cache_keep_open(r->fs->cache, reply->ino, reply->fh, r->creq.call.req.flags, reply->flags);
	r->fi.fh = 0;
	r->fi.noflush = 1;
}

/* The kernel does not know the file: nobody waits for it any more. */
static void open_refused(struct krequest *r, const struct cache_reply *reply)
{
	if (r->file != NULL)
		cache_opened(r->fs->cache, reply->ino != 0 ? reply->ino : r->ino, false,
			     r->file->direct);
	if (r->file != NULL) /* else it goes with the node */
		cache_close(r->fs->cache, r->ino, reply->fh, false);
	if (reply->ino != 0)
		cache_undo_lookup(r->fs->cache, reply->ino);
	kfile_free(r->fs, r->file);
}

static void finish_open(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0) {
		(void)fuse_reply_err(r->req, reply->err);
		kfile_free(r->fs, r->file);
	} else {
		opened(r, reply);
		cache_opened(r->fs->cache, r->ino, true, r->file->direct);
		if (fuse_reply_open(r->req, &r->fi) < 0)
			open_refused(r, reply);
	}
	krequest_free(r);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const int not_again = O_ACCMODE | O_TRUNC | O_DIRECT | O_SYNC | O_DSYNC | O_NOATIME;

	if (req_fs(req)->options.no_open) {
		(void)fuse_reply_err(req, ENOSYS); /* and the kernel never asks again */
		return;
	}
	struct krequest *r = krequest_new(req, MSG_OPEN, finish_open);
	if (r == NULL || !with_file(r, fi))
		return;
	r->ino = ino;
	r->file->again = (fi->flags & not_again) == O_RDONLY;
	REQUEST_SET(r, flags, (uint64_t)(unsigned)fi->flags);
	if ((fi->flags & O_TRUNC) != 0) /* takes set-id bits off unless the caller is root */
		krequest_caller(r, cache_mode(r->fs->cache, ino));
	krequest_submit(r, ino, 0);
}

static void finish_create(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0) {
		(void)fuse_reply_err(r->req, reply->err);
		kfile_free(r->fs, r->file);
	} else {
		struct fuse_entry_param e;

		if (r->file != NULL)
			opened(r, reply);
		else
			opened_by_node(r, reply);
		entry_param(r->fs, reply->ino, reply->attr, reply->attr_ttl, reply->entry_ttl, &e);
		if (r->file != NULL)
			cache_opened(r->fs->cache, reply->ino, true, r->file->direct);
		if (fuse_reply_create(r->req, &e, &r->fi) < 0)
			open_refused(r, reply);
	}
	krequest_free(r);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct krequest *r = krequest_new(req, MSG_CREATE, finish_create);
	uint64_t flags = (unsigned)fi->flags;

	if (r == NULL || !krequest_name(r, name) || !with_file(r, fi))
		return;
	if (current.tmpfile)
		flags |= O_TMPFILE;
	if (r->fs->options.no_open) /* others will go by it: these are theirs to ask for */
		flags = (flags & ~(uint64_t)(O_SYNC | O_DSYNC | O_NOATIME)) | OPEN_GIVE_UP;
	REQUEST_SET(r, flags, flags);
	krequest_mode(r, mode & 07777);
	krequest_caller(r, mode);
	krequest_submit(r, parent, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = req_fs(req);
	struct kfile *file = kfile_of(fs, fi);

	if (file == NULL) { /* no_open, and CREATE was the first to open anything; or once more */
		(void)fuse_reply_err(req, 0);
		return;
	}
	cache_opened(fs->cache, ino, false, file->direct);
	/* one that kept errors back, or was locked through, ends here */
	cache_close(fs->cache, ino, file->fh, file->again && !file->flush);
	kfile_released(file);
	(void)fuse_reply_err(req, 0);
	kfile_free(fs, file);
}

/* The host's programs get ETXTBSY from it until RELEASE, which comes after close(2) has returned.
 */
static bool keeps_from_executing(struct fs *fs, fuse_ino_t ino, const struct kfile *file)
{
	return file->writes && fs->server->gives_up &&
	       (cache_mode(fs->cache, ino) & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0;
}

/*
 * close(2). The host hears of it if it could have kept an error back, if it
 * may want to execute the file, or if the close may release POSIX locks: any
 * close by a process releases its locks on the file, whichever descriptor took
 * them.
 */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = req_fs(req);
	const struct kfile *file = kfile_of(fs, fi);

	if (fs->options.no_open) {
		(void)fuse_reply_err(req, ENOSYS); /* and the kernel never asks again */
		return;
	}
	cache_task_goes_on(fs->cache, ino, (uint32_t)fuse_req_ctx(req)->pid);
	bool executed = keeps_from_executing(fs, ino, file);
	if (!file->flush && !executed &&
	    !(fs->options.host_locks && cache_is_locked(fs->cache, ino))) {
		(void)fuse_reply_err(req, 0);
		return;
	}
	struct krequest *r = krequest_new(req, MSG_FLUSH, finish_err);
	if (r == NULL)
		return;
	REQUEST_SET(r, fh, file->fh);
	REQUEST_SET(r, owner, fi->lock_owner);
	if (executed)
		REQUEST_SET(r, flags, FLUSH_GIVE_UP);
	krequest_submit(r, ino, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct krequest *r = krequest_new(req, MSG_FSYNC, finish_err);

	if (r == NULL)
		return;
	if (!krequest_file(r, fi))
		return;
	if (datasync)
		REQUEST_SET(r, flags, 1);
	krequest_submit(r, ino, 0);
}

/* ---- data ---- */

/*
 * A READ shows that the host has made the file longer before its invalidation comes: whoever
 * reads on behind the old end is to ask for the size again.
 */
static void finish_read(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->longer)
		notify_outdate(r->fs->notify, r->ino);
	finish_data(r, reply);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct krequest *r = krequest_new(req, MSG_READ, finish_read);

	if (r == NULL)
		return;
	r->creq.direct = (fi->flags & O_DIRECT) != 0;
	r->creq.unpaged = current.unpaged;
	if (!krequest_file(r, fi))
		return;
	REQUEST_SET(r, off, (uint64_t)off);
	REQUEST_SET(r, size, size < MSG_PAYLOAD_MAX ? size : MSG_PAYLOAD_MAX);
	krequest_submit(r, ino, 0);
}

static void write_reply(struct krequest *r)
{
	(void)fuse_reply_write(r->req, r->written + r->size);
	krequest_free(r);
}

/* After krequest_wait. */
static void write_waited(void *arg)
{
	struct krequest *r = arg;

	if (krequest_waited(r))
		write_reply(r);
	else
		krequest_free(r);
}

/* The kernel takes the append for one at the end that it knew. */
static void append_waited(void *arg)
{
	struct krequest *r = arg;

	notify_appended(r->fs->notify, r->ino, r->off + r->size);
	write_waited(r);
}

/* Bytes that were appended, with those of others before them. */
struct stored {
	struct krequest *r;
	uint64_t off;
	size_t len;
	unsigned char data[];
};

static void store_and_reply(void *arg)
{
	struct stored *s = arg;

	notify_store(s->r->fs->notify, s->r->ino, s->off, (struct slice){s->data, s->len});
	write_waited(s->r);
	free(s);
}

/*
 * NULL if somebody has written to the file since, or the server did not tell
 * what lies between, or without memory.
 */
static struct stored *stored_new(struct krequest *r, const struct cache_reply *reply)
{
	const struct slice own = r->creq.call.req.payload, gap = reply->data;
	struct stored *s;

	if (!reply->keep || reply->msg->off < r->off || reply->msg->off - r->off != gap.len ||
	    (s = malloc(sizeof(*s) + gap.len + r->size)) == NULL)
		return NULL;
	*s = (struct stored){.r = r, .off = r->off, .len = gap.len + r->size};
	if (gap.len > 0)
		memcpy(s->data, gap.data, gap.len);
	memcpy(s->data + gap.len, own.data, r->size);
	return s;
}

/*
 * With the reply to a write past its cache the kernel lets the file grow over
 * what it has in its page of the old end: zeros. Nor does it ask for the size
 * again after an append that landed behind what it took for the end. So its
 * pages are brought up to date before the reply: those that are there, since a
 * reader may have one in hand and is yet to look at the size; dropped where
 * that cannot be done. Any other write holds the locks of its pages until the
 * reply.
 */
static void finish_direct_write(struct krequest *r, const struct cache_reply *reply)
{
	struct notify *n = r->fs->notify;
	bool moved = reply->msg->off != r->off;
	struct stored *s = reply->has_pages ? stored_new(r, reply) : NULL;

	if (s == NULL && !moved && !reply->has_pages) {
		write_reply(r);
		return;
	}
	krequest_wait(r);
	if (s != NULL) {
		notify_after(n, r->ino, store_and_reply, s);
		return;
	}
	uint64_t off = moved ? 0 : r->off;
	r->off = reply->msg->off;
	notify_inval_first(n, r->ino, off, 0, moved ? append_waited : write_waited, r);
}

static void finish_write(struct krequest *r, const struct cache_reply *reply);

/*
 * Whether the kernel takes no short write: of pages that it writes back it would lose the rest
 * without a word (fuse_writepage_end looks at the error alone), and of O_DIRECT, which it may have
 * split, it would tell EIO (fuse_get_res_by_io).
 */
static bool wants_all(const struct krequest *r)
{
	return r->creq.writeback ||
	       (r->creq.unpaged && !r->creq.direct && (r->creq.call.req.flags & O_DIRECT) != 0);
}

/* The host has written `done` of r's bytes: writes the others, or hears why they cannot be. */
static void write_rest(struct krequest *r, size_t done, bool stale)
{
	struct krequest *rest = krequest_new(r->req, MSG_WRITE, finish_write);
	const struct slice all = r->creq.call.req.payload;

	if (rest == NULL) {
		krequest_free(r);
		return;
	}
	rest->unique = r->unique;
	rest->interrupted = r->interrupted; /* which the kernel says once only */
	rest->pid = r->pid;
	rest->ino = r->ino;
	rest->off = r->off + done;
	rest->size = r->size - done;
	rest->written = r->written + done;
	rest->fi = r->fi;
	rest->creq.before = rest->written;
	rest->creq.writeback = r->creq.writeback;
	rest->creq.unpaged = r->creq.unpaged;
	if (krequest_file(rest, &r->fi)) {
		REQUEST_SET(rest, off, rest->off);
		if (MSG_HAS(&r->creq.call.req, flags))
			REQUEST_SET(rest, flags, r->creq.call.req.flags);
		REQUEST_SET(rest, payload,
			    ((struct slice){(const char *)all.data + done, rest->size}));
		rest->buffer = TAKE_PTR(r->buffer);
		krequest_submit(rest, rest->ino, 0);
	}
	/* It waits for the rest, whose pages the kernel keeps; in case that the rest fails, behind
	 * which nothing is taken back. */
	if (stale)
		notify_inval_range(r->fs->notify, r->ino, r->off, done);
	krequest_free(r);
}

static void finish_write(struct krequest *r, const struct cache_reply *reply)
{
	struct notify *n = r->fs->notify;
	const uint64_t off = r->off - r->written, len = r->written + r->size;
	const fuse_ino_t ino = r->ino;

	if (reply->err != 0) {
		(void)fuse_reply_err(r->req, reply->err);
		krequest_free(r);
		return;
	}
	if (reply->msg->size < r->size && wants_all(r)) {
		if (reply->msg->size > 0) {
			write_rest(r, reply->msg->size, reply->raced || reply->has_pages);
		} else {
			(void)fuse_reply_err(r->req, EIO);
			krequest_free(r);
		}
		return;
	}
	r->size = reply->msg->size;
	if (r->creq.direct) {
		finish_direct_write(r, reply);
		return;
	}
	bool moved = reply->msg->off != r->off, raced = reply->raced && !moved;
	/*
	 * Behind an asynchronous write with O_DIRECT the kernel drops nothing
	 * (generic_file_direct_write does that for one that it has waited for).
	 */
	if (r->creq.unpaged && reply->has_pages && !moved && len > 0 && !FAULT(direct_kept)) {
		krequest_wait(r);
		notify_inval_first(n, ino, off, len, write_waited, r);
		return;
	}
	/*
	 * An append that landed behind what the kernel knew of: whoever asks for the
	 * size from now on hears it when the pages have gone.
	 */
	if (moved)
		notify_moved(n, ino);
	write_reply(r);
	if (raced) /* a READ in between may have brought back the old bytes */
		notify_inval_range(n, ino, off, len);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct krequest *r = krequest_new(req, MSG_WRITE, finish_write);

	if (r == NULL)
		return;
	r->ino = ino;
	r->off = (uint64_t)off;
	r->size = size;
	/* what is written back from a mapping comes from the kernel's cache */
	r->creq.direct = !r->fs->options.no_open && kfile_of(r->fs, fi)->direct && !fi->writepage;
	r->creq.writeback = fi->writepage;
	r->creq.unpaged = current.unpaged && !fi->writepage;
	r->past_pages = r->creq.direct;
	if (r->past_pages)
		cache_direct_write(r->fs->cache, ino, true);
	r->fi = *fi;
	if (!krequest_file(r, fi))
		return;
	REQUEST_SET(r, off, (uint64_t)off);
	/* Pages of a mapping go where they belong, whatever the file's flags. */
	uint64_t flags = fi->writepage ? 0 : (unsigned)fi->flags;
	if (current.strip_ids || (!fi->writepage && fuse_req_ctx(req)->uid != 0))
		flags |= STRIP_IDS;
	if (flags != 0)
		REQUEST_SET(r, flags, flags);
	krequest_payload(r, buf, size);
	krequest_submit(r, ino, 0);
}

static void finish_lseek(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0)
		(void)fuse_reply_err(r->req, reply->err);
	else
		(void)fuse_reply_lseek(r->req, (off_t)reply->msg->off);
	krequest_free(r);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	struct krequest *r = krequest_new(req, MSG_LSEEK, finish_lseek);

	if (r == NULL)
		return;
	if (!krequest_file(r, fi))
		return;
	REQUEST_SET(r, off, (uint64_t)off);
	REQUEST_SET(r, flags, (uint64_t)(unsigned)whence);
	krequest_submit(r, ino, 0);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct krequest *r = krequest_new(req, MSG_FALLOCATE, finish_err);

	if (r == NULL)
		return;
	if (!krequest_file(r, fi))
		return;
	REQUEST_SET(r, off, (uint64_t)offset);
	REQUEST_SET(r, size, (uint64_t)length);
	if (mode != 0)
		REQUEST_SET(r, flags, (uint64_t)(unsigned)mode);
	krequest_caller(r, cache_mode(r->fs->cache, ino)); /* set-id bits: as a write */
	krequest_submit(r, ino, 0);
}

static void finish_copy(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0)
		(void)fuse_reply_err(r->req, reply->err);
	else
		(void)fuse_reply_write(r->req, reply->msg->size);
	krequest_free(r);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			       struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct krequest *r = krequest_new(req, MSG_COPY, finish_copy);

	if (r == NULL)
		return;
	if (!krequest_file(r, fi_in))
		return;
	REQUEST_SET(r, off, (uint64_t)off_in);
	if (!r->creq.by_node)
		REQUEST_SET(r, fh2, kfile_of(r->fs, fi_out)->fh);
	REQUEST_SET(r, off2, (uint64_t)off_out);
	REQUEST_SET(r, size, len < COPY_MAX ? len : COPY_MAX);
	if (flags != 0)
		REQUEST_SET(r, flags, (uint64_t)(unsigned)flags);
	krequest_caller(r, cache_mode(r->fs->cache, ino_out)); /* set-id bits: as a write */
	krequest_submit(r, ino_out, r->creq.by_node ? ino_in : 0);
}

/* ---- the fence ---- */

static void fence_done(void *arg, int err, uint64_t seq)
{
	struct krequest *r = arg;

	if (krequest_waited(r)) {
		if (err < 0)
			(void)fuse_reply_err(r->req, -err);
		else
			(void)fuse_reply_ioctl(r->req, 0, &seq, sizeof(seq));
	}
	krequest_free(r);
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
		     struct fuse_file_info *fi, unsigned flags, const void *in_buf, size_t in_bufsz,
		     size_t out_bufsz)
{
	(void)ino;
	(void)arg;
	(void)fi;
	(void)flags;
	(void)in_buf;
	(void)in_bufsz;
	if (cmd != VSOCKFS_IOC_FENCE || out_bufsz < sizeof(uint64_t)) {
		(void)fuse_reply_err(req, ENOTTY);
		return;
	}
	struct krequest *r = krequest_new(req, MSG_FENCE, NULL);
	if (r == NULL)
		return;
	krequest_wait(r);
	fs_fence_async(r->fs, fence_done, r);
}

void ops_file(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->create = op_create;
	ops->release = op_release;
	ops->flush = op_flush;
	ops->fsync = op_fsync;
	ops->read = op_read;
	ops->write = op_write;
	ops->lseek = op_lseek;
	ops->fallocate = op_fallocate;
	ops->copy_file_range = op_copy_file_range;
	ops->ioctl = op_ioctl;
}
