/* Names and attributes: what needs no open file. */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "fuse/fs_priv.h"

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (krequest_hit(req, MSG_LOOKUP, parent, name, &finisher_entry))
		return;
	struct krequest *r = krequest_new(req, MSG_LOOKUP, finish_entry);

	if (r != NULL && krequest_name(r, name))
		krequest_submit(r, parent, 0);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct fs *fs = req_fs(req);

	cache_forget(fs->cache, ino, nlookup);
	cache_forget_flush(fs->cache);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = req_fs(req);

	for (size_t i = 0; i < count; i++)
		cache_forget(fs->cache, forgets[i].ino, forgets[i].nlookup);
	cache_forget_flush(fs->cache);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi; /* a node's attributes do not depend on who opened it */
	if (krequest_hit(req, MSG_GETATTR, ino, "", &finisher_attr))
		return;
	struct krequest *r = krequest_new(req, MSG_GETATTR, finish_attr);

	if (r != NULL)
		krequest_submit(r, ino, 0);
}

static void set_time(struct krequest *r, int to_set, int now_flag, int set_flag,
		     const struct timespec *ts, bool is_atime, uint64_t *valid)
{
	if ((to_set & now_flag) != 0) {
		*valid |= is_atime ? SET_ATIME_NOW : SET_MTIME_NOW;
	} else if ((to_set & set_flag) != 0) {
		struct msg_time t = {ts->tv_sec, (uint32_t)ts->tv_nsec};

		*valid |= is_atime ? SET_ATIME : SET_MTIME;
		if (is_atime)
			REQUEST_SET(r, atime, t);
		else
			REQUEST_SET(r, mtime, t);
	}
}

/* Giving a file to an owner that the two-way mapping cannot express. */
static bool owner_refused(const struct fs *fs, const struct stat *attr, int to_set)
{
	return ((to_set & FUSE_SET_ATTR_UID) != 0 && !uid_settable(fs, attr->st_uid)) ||
	       ((to_set & FUSE_SET_ATTR_GID) != 0 && !gid_settable(fs, attr->st_gid));
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct fs *fs = req_fs(req);
	uint64_t valid = 0;

	if (owner_refused(fs, attr, to_set)) {
		(void)fuse_reply_err(req, EPERM);
		return;
	}
	struct krequest *r = krequest_new(req, MSG_SETATTR, finish_attr);
	if (r == NULL)
		return;
	if ((to_set & FUSE_SET_ATTR_MODE) != 0) {
		valid |= SET_MODE;
		REQUEST_SET(r, mode, attr->st_mode & 07777 & ~fs->options.umask);
	}
	if ((to_set & FUSE_SET_ATTR_UID) != 0) {
		valid |= SET_UID;
		REQUEST_SET(r, uid, uid_to_server(fs, attr->st_uid));
	}
	if ((to_set & FUSE_SET_ATTR_GID) != 0) {
		valid |= SET_GID;
		REQUEST_SET(r, gid, gid_to_server(fs, attr->st_gid));
	}
	if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
		valid |= SET_SIZE;
		REQUEST_SET(r, size, (uint64_t)attr->st_size);
		r->ino = ino;
		r->cuts = cache_cut_begins(fs->cache, ino, (uint64_t)attr->st_size);
		if (fi != NULL)
			krequest_file(r, fi);
		if (fuse_req_ctx(req)->uid != 0)
			REQUEST_SET(r, flags, STRIP_IDS);
	}
	set_time(r, to_set, FUSE_SET_ATTR_ATIME_NOW, FUSE_SET_ATTR_ATIME, &attr->st_atim, true,
		 &valid);
	set_time(r, to_set, FUSE_SET_ATTR_MTIME_NOW, FUSE_SET_ATTR_MTIME, &attr->st_mtim, false,
		 &valid);
	/* FUSE_SET_ATTR_CTIME comes with a writeback cache only; nothing can set a ctime. */
	REQUEST_SET(r, valid, valid);
	krequest_submit(r, ino, 0);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct krequest *r = krequest_new(req, MSG_READLINK, finish_data);

	if (r != NULL)
		krequest_submit(r, ino, 0);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct krequest *r = krequest_new(req, MSG_MKNOD, finish_entry);

	if (r == NULL || !krequest_name(r, name))
		return;
	krequest_mode(r, mode);
	REQUEST_SET(r, rdev, (uint64_t)major(rdev) << 32 | minor(rdev));
	krequest_caller(r, mode);
	krequest_submit(r, parent, 0);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	op_mknod(req, parent, name, S_IFDIR | (mode & 07777), 0);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct krequest *r = krequest_new(req, MSG_SYMLINK, finish_entry);

	if (r == NULL || !krequest_name(r, name))
		return;
	krequest_caller(r, 0);
	krequest_payload(r, target, strlen(target));
	krequest_submit(r, parent, 0);
}

static void remove_name(fuse_req_t req, enum msg_op op, fuse_ino_t parent, const char *name)
{
	struct krequest *r = krequest_new(req, op, finish_err);

	if (r != NULL && krequest_name(r, name))
		krequest_submit(r, parent, 0);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, MSG_UNLINK, parent, name);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, MSG_RMDIR, parent, name);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned int flags)
{
	struct krequest *r = krequest_new(req, MSG_RENAME, finish_err);

	if (r == NULL || !krequest_name(r, name) || !krequest_name2(r, newname))
		return;
	if (flags != 0)
		REQUEST_SET(r, flags, flags);
	krequest_submit(r, parent, newparent);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct krequest *r = krequest_new(req, MSG_LINK, finish_entry);

	if (r != NULL && krequest_name2(r, newname))
		krequest_submit(r, ino, newparent);
}

static void finish_statfs(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0) {
		(void)fuse_reply_err(r->req, reply->err);
	} else {
		const struct fsinfo *fs = reply->fs;
		struct statvfs v = {.f_bsize = fs->bsize,
				    .f_frsize = fs->frsize,
				    .f_blocks = fs->blocks,
				    .f_bfree = fs->bfree,
				    .f_bavail = fs->bavail,
				    .f_files = fs->files,
				    .f_ffree = fs->ffree,
				    .f_namemax = fs->namemax};

		(void)fuse_reply_statfs(r->req, &v);
	}
	krequest_free(r);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct krequest *r = krequest_new(req, MSG_STATFS, finish_statfs);

	if (r != NULL)
		krequest_submit(r, ino != 0 ? ino : FUSE_ROOT_ID, 0);
}

void ops_names(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->readlink = op_readlink;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
	ops->link = op_link;
	ops->statfs = op_statfs;
}
