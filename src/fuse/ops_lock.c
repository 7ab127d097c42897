/* POSIX, OFD and BSD locks on the host. Left out with locks=local: the kernel then does them. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "fuse/fs_priv.h"

/* The protocol's lock types do not depend on what F_RDLCK is on a machine. */
static uint64_t type_to_server(short type)
{
	return type == F_RDLCK	 ? LOCK_TYPE_READ
	       : type == F_WRLCK ? LOCK_TYPE_WRITE
				 : LOCK_TYPE_NONE;
}

static short type_to_kernel(uint64_t type)
{
	return type == LOCK_TYPE_READ ? F_RDLCK : type == LOCK_TYPE_WRITE ? F_WRLCK : F_UNLCK;
}

static void set_range(struct krequest *r, const struct flock *lock)
{
	uint64_t last = lock->l_len == 0 ? (uint64_t)INT64_MAX
					 : (uint64_t)(lock->l_start + lock->l_len - 1);

	REQUEST_SET(r, type, type_to_server(lock->l_type));
	REQUEST_SET(r, off, (uint64_t)lock->l_start);
	REQUEST_SET(r, off2, last);
}

static void finish_getlk(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0) {
		(void)fuse_reply_err(r->req, reply->err);
	} else {
		const struct msg *m = reply->msg;
		struct flock lock = {.l_type = type_to_kernel(m->type), .l_whence = SEEK_SET};

		if (lock.l_type != F_UNLCK) {
			lock.l_start = MSG_HAS(m, off) ? (off_t)m->off : 0;
			uint64_t last = MSG_HAS(m, off2) ? m->off2 : (uint64_t)INT64_MAX;
			lock.l_len = last >= (uint64_t)INT64_MAX
					     ? 0
					     : (off_t)(last - (uint64_t)lock.l_start + 1);
			lock.l_pid = MSG_HAS(m, pid) ? (pid_t)m->pid : 0;
		}
		(void)fuse_reply_lock(r->req, &lock);
	}
	krequest_free(r);
}

static void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct krequest *r = krequest_new(req, MSG_GETLK, finish_getlk);

	if (r == NULL)
		return;
	if (!krequest_file(r, fi))
		return;
	REQUEST_SET(r, owner, fi->lock_owner);
	set_range(r, lock);
	krequest_submit(r, ino, 0);
}

static void finish_locked(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err == 0)
		kfile_was_locked(r->fs, kfile_of(r->fs, &r->fi));
	finish_err(r, reply);
}

static void set_lock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
		     const struct flock *lock, uint64_t flags)
{
	bool unlocks = lock->l_type == F_UNLCK;
	struct krequest *r = krequest_new(req, MSG_SETLK, unlocks ? finish_err : finish_locked);

	if (r == NULL || !krequest_file(r, fi))
		return;
	/* what was locked through an open file goes with it: it must not live on as another one */
	kfile_not_again(r->fs, kfile_of(r->fs, fi));
	r->fi = *fi;
	REQUEST_SET(r, owner, fi->lock_owner);
	REQUEST_SET(r, pid, (uint64_t)(unsigned)lock->l_pid);
	set_range(r, lock);
	if (unlocks)
		flags &= ~(uint64_t)LOCK_WAIT;
	if (flags != 0)
		REQUEST_SET(r, flags, flags);
	r->waits_for_lock = (flags & LOCK_WAIT) != 0;
	krequest_submit(r, ino, 0);
}

static void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock,
		     int sleep)
{
	cache_mark_locked(req_fs(req)->cache, ino);
	set_lock(req, ino, fi, lock, sleep ? LOCK_WAIT : 0);
}

static void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct flock lock = {.l_whence = SEEK_SET};

	switch (op & ~LOCK_NB) {
	case LOCK_SH:
		lock.l_type = F_RDLCK;
		break;
	case LOCK_EX:
		lock.l_type = F_WRLCK;
		break;
	default:
		lock.l_type = F_UNLCK;
		break;
	}
	set_lock(req, ino, fi, &lock, LOCK_BSD | ((op & LOCK_NB) == 0 ? LOCK_WAIT : 0));
}

void ops_lock(struct fuse_lowlevel_ops *ops)
{
	ops->getlk = op_getlk;
	ops->setlk = op_setlk;
	ops->flock = op_flock;
}
