/* Directories: open, list, close, sync. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/outlive.h"
#include "fuse/fs_priv.h"

/* No round trip: the first READDIR tells whether the host lets us in. */
static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = req_fs(req);
	struct kfile *f = kfile_new(fs);
	int e = f != NULL ? listing_new(fs->cache, ino, &f->listing) : -ENOMEM;

	if (e < 0) {
		kfile_free(fs, f);
		(void)fuse_reply_err(req, -e);
		return;
	}
	fi->fh = f->number;
	if (cache_leased(fs->cache)) {
		/* the kernel keeps the listing until it is told otherwise */
		fi->cache_readdir = 1;
		fi->keep_cache = 1;
	}
	kfile_outlive(fs, f, ino, current.unique);
	if (fuse_reply_open(req, fi) < 0) {
		listing_free(f->listing);
		kfile_free(fs, f);
	}
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = req_fs(req);
	struct kfile *f = kfile_of(fs, fi);

	(void)ino;
	if (f != NULL) {
		listing_free(f->listing);
		kfile_released(f);
	}
	(void)fuse_reply_err(req, 0);
	kfile_free(fs, f);
}

/* Adds e to buf if it fits; returns the bytes used, 0 if there is no room. */
static size_t add_entry(const struct fs *fs, fuse_req_t req, char *buf, size_t room, bool plus,
			const struct listing_entry *e)
{
	struct fuse_entry_param p;
	char name[MSG_NAME_MAX + 1];
	size_t n;

	memcpy(name, e->name.data, e->name.len);
	name[e->name.len] = '\0';
	if (e->ino != 0) {
		entry_param(fs, e->ino, &e->attr, e->attr_ttl, e->entry_ttl, &p);
	} else {
		memset(&p, 0, sizeof(p));
		p.attr.st_ino = e->server_ino;
		p.attr.st_mode = (mode_t)e->type << 12; /* DT_* as in a mode */
	}
	n = plus ? fuse_add_direntry_plus(req, buf, room, name, &p, (off_t)e->off)
		 : fuse_add_direntry(req, buf, room, name, &p.attr, (off_t)e->off);
	return n <= room ? n : 0;
}

/*
 * Answers from the batch that is there. False if it has nothing for off and
 * must be fetched.
 */
static bool answer_readdir(struct fs *fs, fuse_req_t req, struct listing *l, uint64_t off,
			   size_t size, bool plus)
{
	char *buf = malloc(size);
	size_t used = 0;
	int e = buf == NULL ? -ENOMEM : 1;

	listing_lock(l);
	while (e == 1) {
		struct listing_entry entry;

		e = listing_peek(l, off, plus, &entry);
		if (e == 1) {
			size_t n = add_entry(fs, req, buf + used, size - used, plus, &entry);

			if (n == 0)
				break;
			used += n;
			listing_take(l, &entry);
			off = entry.off;
		}
	}
	listing_unlock(l);
	bool fetch = used == 0 && e == -EAGAIN;
	if (!fetch) {
		if (used > 0 || e >= 0)
			(void)fuse_reply_buf(req, buf, used);
		else
			(void)fuse_reply_err(req, e == -EPROTO ? EIO : -e);
	}
	outlive_gained();
	free(buf);
	return !fetch;
}

static void finish_readdir(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err == ENOENT)
		(void)fuse_reply_buf(r->req, NULL, 0); /* removed while open: nothing in it */
	else if (reply->err != 0)
		(void)fuse_reply_err(r->req, reply->err == EPROTO ? EIO : reply->err);
	else if (!answer_readdir(r->fs, r->req, r->listing, r->off, r->size, r->plus))
		(void)fuse_reply_buf(r->req, NULL, 0); /* an empty batch that is not the end */
	if (reply->raced)
		notify_inval_listing(r->fs->notify, r->ino);
	krequest_free(r);
}

static void read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi, bool plus)
{
	struct fs *fs = req_fs(req);
	struct listing *l = kfile_of(fs, fi)->listing;

	/* rewinddir wants what is there now: a complete listing under a promise is that */
	cache_reply_begin(fs->cache);
	bool answered = (off != 0 || listing_rewind(l)) &&
			answer_readdir(fs, req, l, (uint64_t)off, size, plus);
	cache_reply_end(fs->cache);
	if (answered)
		return;
	struct krequest *r = krequest_new(req, MSG_READDIRPLUS, finish_readdir);
	if (r == NULL)
		return;
	r->ino = ino;
	r->listing = l;
	r->off = (uint64_t)off;
	r->size = size;
	r->plus = plus;
	krequest_fetch(r, l, (uint64_t)off, plus);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	read_directory(req, ino, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	read_directory(req, ino, size, off, fi, true);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)fi;
	struct krequest *r = krequest_new(req, MSG_FSYNC, finish_err);

	if (r == NULL)
		return;
	if (datasync)
		REQUEST_SET(r, flags, 1);
	krequest_submit(r, ino, 0);
}

void ops_dir(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = op_opendir;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
	ops->releasedir = op_releasedir;
	ops->fsyncdir = op_fsyncdir;
}
