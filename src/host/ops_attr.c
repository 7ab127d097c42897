/* Attributes, extended attributes, file system totals. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "core/cleanup.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/ops.h"
#include "host/owners.h"

#define XATTR_LIST_MAX_ 65536 /* XATTR_LIST_MAX of the kernel */
#define XATTR_VALUE_MAX 65536

static int reply_attr(struct request *r, struct hnode *node, int fd)
{
	int e = request_attr(r, node, fd, &r->p.attr);

	if (e == 0)
		r->p.present |= MSG_BIT(attr);
	return e;
}

int op_GETATTR(struct request *r)
{
	CLEANUP_PINNED struct pinned p = {0};
	int e = request_pin_open(r, r->q.node, INV_ATTR, &p);

	return e < 0 ? e : reply_attr(r, p.node, p.fd);
}

/* ---- SETATTR ---- */

static void strip_ids(const struct request *r, int fd)
{
	if (request_strips_ids(r))
		request_strip_ids(r, fd);
}

static int set_size(struct request *r, const struct pinned *p)
{
	CLEANUP_HANDLE struct handle_ref file = {0};

	if (r->q.size > INT64_MAX)
		return -EFBIG;
	if (!MSG_HAS(&r->q, fh)) {
		strip_ids(r, p->fd);
		return export_truncate(r->host->export, p->fd, (off_t)r->q.size);
	}
	/* A file that is open for writing may be truncated, whatever its permissions are now. */
	int e = request_handle(r, r->q.fh, &file);
	if (e < 0)
		return e;
	if (file.h->node != p->node)
		return -EBADF;
	if ((file.h->flags & O_ACCMODE) == O_RDONLY)
		return -EINVAL; /* as ftruncate(2) */
	e = handle_write_begin(r->host->export, file.h);
	if (e < 0)
		return e;
	strip_ids(r, file.h->fd);
	e = ftruncate(file.h->fd, (off_t)r->q.size) < 0 ? -errno : 0;
	handle_write_end(r->host->export, file.h);
	return e;
}

/*
 * By the new mode an open file may become one that the host executes, or one that the server could
 * not open for writing any more.
 */
static int set_mode(struct request *r, const struct pinned *p)
{
	const struct export *e = r->host->export;
	mode_t mode = (mode_t)(r->q.mode & 07777);

	if (!(mode & S_IWUSR) && !export_privileged(e))
		handles_take_back(session_handles(r->session), e, p->node);
	int result = export_chmod(e, p->fd, mode);
	if (result == 0 && (mode & (S_IXUSR | S_IXGRP | S_IXOTH)))
		handles_give_up(session_handles(r->session), e, p->node);
	return result;
}

static int set_owner(const struct request *r, int fd)
{
	const struct msg *q = &r->q;
	uint64_t uid = q->valid & SET_UID ? q->uid : UINT32_MAX;
	uint64_t gid = q->valid & SET_GID ? q->gid : UINT32_MAX;

	/* fchownat(2) would take -1 for "unchanged", and the client has not asked for that */
	if ((q->valid & SET_UID && uid >= UINT32_MAX) || (q->valid & SET_GID && gid >= UINT32_MAX))
		return -EINVAL;
	uid_t own_uid;
	gid_t own_gid;
	if (export_squashed(r->host->export, &own_uid, &own_gid)) {
		if ((q->valid & SET_UID && uid != own_uid) ||
		    (q->valid & SET_GID && gid != own_gid))
			return -EPERM;
		uid = gid =
			UINT32_MAX; /* the id is the one shown already: only the ctime changes */
	}
	own_uid = (uid_t)-1;
	own_gid = (gid_t)-1;
	/* As chown(2) in a user namespace (make_kuid). */
	if ((uid < UINT32_MAX && export_host_uid(r->host->export, uid, &own_uid) < 0) ||
	    (gid < UINT32_MAX && export_host_gid(r->host->export, gid, &own_gid) < 0))
		return -EINVAL;
	return fchownat(fd, "", own_uid, own_gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno
											   : 0;
}

static struct timespec to_timespec(uint64_t valid, uint64_t now, uint64_t set,
				   const struct msg_time *t)
{
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (valid & set)
		return (struct timespec){.tv_sec = t->sec, .tv_nsec = (long)t->nsec};
	return (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int set_times(const struct request *r, int fd)
{
	const struct msg *q = &r->q;
	const struct timespec ts[2] = {
		to_timespec(q->valid, SET_ATIME_NOW, SET_ATIME, &q->atime),
		to_timespec(q->valid, SET_MTIME_NOW, SET_MTIME, &q->mtime),
	};

	return utimensat(fd, "", ts, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* True if the message has every value that its field valid announces. */
static bool values_present(const struct msg *q)
{
	return (!(q->valid & SET_MODE) || MSG_HAS(q, mode)) &&
	       (!(q->valid & SET_UID) || MSG_HAS(q, uid)) &&
	       (!(q->valid & SET_GID) || MSG_HAS(q, gid)) &&
	       (!(q->valid & SET_SIZE) || MSG_HAS(q, size)) &&
	       (!(q->valid & SET_ATIME) || MSG_HAS(q, atime)) &&
	       (!(q->valid & SET_MTIME) || MSG_HAS(q, mtime));
}

/*
 * In the kernel's own order (notify_change callers): truncating and changing
 * the owner both clear set-id bits, so the mode is set after them, and the
 * times are set after all that changes them.
 */
int op_SETATTR(struct request *r)
{
	const uint64_t times = SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW;
	CLEANUP_PINNED struct pinned p = {0};
	const struct msg *q = &r->q;
	bool through_file = q->valid == SET_SIZE && MSG_HAS(q, fh); /* as WRITE */

	if (!values_present(q)) {
		r->why = "SETATTR without a value that its field valid announces";
		return OP_MALFORMED;
	}
	int e = request_writable(r);
	if (e == 0)
		e = (through_file ? request_pin_open : request_pin)(r, q->node, INV_ATTR, &p);
	if (e == 0 && !through_file)
		e = export_changeable(r->host->export, p.fd);
	if (e == 0 && (q->valid & SET_SIZE))
		e = set_size(r, &p);
	/* A chown without owner and group sets nothing, but the ctime changes. */
	if (e == 0 && (q->valid == 0 || (q->valid & (SET_UID | SET_GID))))
		e = set_owner(r, p.fd);
	if (e == 0 && (q->valid & SET_MODE))
		e = set_mode(r, &p);
	if (e == 0 && (q->valid & times))
		e = set_times(r, p.fd);
	change_broke(&r->change, p.node, q->valid & SET_SIZE ? INV_ATTR | INV_DATA : INV_ATTR);
	if (e == 0 && !through_file)
		e = request_inside(r, &p);
	return e < 0 ? e : reply_attr(r, p.node, p.fd);
}

int request_statfs(struct request *r, int fd)
{
	struct statfs sfs;

	if (fstatfs(fd, &sfs) < 0)
		return -errno;
	r->p.fs = (struct fsinfo){
		.bsize = (uint64_t)sfs.f_bsize,
		.frsize = (uint64_t)(sfs.f_frsize > 0 ? sfs.f_frsize : sfs.f_bsize),
		.blocks = sfs.f_blocks,
		.bfree = sfs.f_bfree,
		.bavail = sfs.f_bavail,
		.files = sfs.f_files,
		.ffree = sfs.f_ffree,
		.namemax = (uint64_t)sfs.f_namelen,
	};
	r->p.present |= MSG_BIT(fs);
	return 0;
}

int op_STATFS(struct request *r)
{
	CLEANUP_PINNED struct pinned p = {0};
	int e = request_pin(r, r->q.node, 0, &p);

	return e < 0 ? e : request_statfs(r, p.fd);
}

/* ---- extended attributes ---- */

static bool begins(const char *name, size_t len, const char *with)
{
	size_t n = strlen(with);

	return len >= n && memcmp(name, with, n) == 0;
}

static bool is(const char *name, size_t len, const char *what)
{
	return len == strlen(what) && begins(name, len, what);
}

static bool is_acl(const char *name, size_t len)
{
	return is(name, len, "system.posix_acl_access") ||
	       is(name, len, "system.posix_acl_default");
}

/*
 * The attributes that a client may see and set: user.*; ACLs, if the client's kernel
 * checks access by them; and those of overlayfs, where the export allows them, because
 * they have an effect on the host if the host mounts an overlayfs over the same files.
 * security.capability and others of that kind are never let through.
 */
static bool passes(const struct request *r, const char *name, size_t len)
{
	const struct export *e = r->host->export;

	return begins(name, len, "user.") || (session_acl(r->session) && is_acl(name, len)) ||
	       (export_special(e) && export_privileged(e) && begins(name, len, "trusted.overlay."));
}

static int xattr_target(struct request *r, struct pinned *p, char *name,
			char path[EXPORT_PROC_PATH_MAX])
{
	struct slice s = r->q.name2;

	if (s.len == 0 || s.len > MSG_NAME_MAX)
		return -ERANGE; /* as the kernel does */
	if (memchr(s.data, '\0', s.len) != NULL)
		return -EINVAL;
	if (!passes(r, s.data, s.len))
		return -EOPNOTSUPP;
	memcpy(name, s.data, s.len);
	name[s.len] = '\0';
	int e = request_pin(r, r->q.node, INV_ATTR, p);
	if (e == 0)
		(void)export_proc_path(p->fd, path);
	return e;
}

int op_GETXATTR(struct request *r)
{
	CLEANUP_PINNED struct pinned p = {0};
	char name[MSG_NAME_MAX + 1], path[EXPORT_PROC_PATH_MAX];
	size_t size = r->q.size < XATTR_VALUE_MAX ? (size_t)r->q.size : XATTR_VALUE_MAX;
	int e = xattr_target(r, &p, name, path);

	if (e < 0)
		return e;
	/* The magic link in the path leads to the object, even if the object is a symbolic link. */
	ssize_t n = getxattr(path, name, r->buf, size);
	if (n < 0)
		return -errno;
	if (size > 0 && is_acl(name, strlen(name)) && export_owners(r->host->export) != NULL)
		acl_to_guest(export_owners(r->host->export), r->buf, (size_t)n);
	MSG_SET(&r->p, size, (uint64_t)n);
	if (size > 0)
		MSG_SET(&r->p, payload, ((struct slice){r->buf, (size_t)n}));
	return 0;
}

/*
 * Sets an ACL with the caller's identity: the kernel then clears a set-group-ID bit
 * that this caller may not set (posix_acl_update_mode).
 */
static int set_xattr(struct request *r, const char *path, const char *name)
{
	gid_t groups[MSG_GROUPS_MAX];
	const struct owners *owners = export_owners(r->host->export);
	bool acl = is_acl(name, strlen(name));
	int e = acl && owners != NULL ? acl_to_host(owners, r->buf, r->q.payload.len) : 0;

	if (e == 0 && acl)
		e = request_assume(r, (struct creds_caller){.owner = true}, groups);
	if (e == 0 && setxattr(path, name, r->buf, r->q.payload.len, (int)r->q.flags) < 0)
		e = -errno;
	creds_restore(r->creds);
	return e;
}

int op_SETXATTR(struct request *r)
{
	CLEANUP_PINNED struct pinned p = {0};
	char name[MSG_NAME_MAX + 1], path[EXPORT_PROC_PATH_MAX];
	int e = request_writable(r);

	if (r->q.payload.len > XATTR_VALUE_MAX)
		return -E2BIG;
	if (r->q.flags & ~(uint64_t)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (e == 0)
		e = xattr_target(r, &p, name, path);
	if (e == 0)
		e = export_changeable(r->host->export, p.fd);
	if (e == 0)
		e = set_xattr(r, path, name);
	if (e < 0)
		return e;
	change_broke(&r->change, p.node, INV_ATTR);
	(void)reply_attr(r, p.node, p.fd); /* the ctime has changed */
	return request_inside(r, &p);
}

int op_REMOVEXATTR(struct request *r)
{
	CLEANUP_PINNED struct pinned p = {0};
	char name[MSG_NAME_MAX + 1], path[EXPORT_PROC_PATH_MAX];
	int e = request_writable(r);

	if (e == 0)
		e = xattr_target(r, &p, name, path);
	if (e == 0)
		e = export_changeable(r->host->export, p.fd);
	if (e == 0 && removexattr(path, name) < 0)
		e = -errno;
	if (e < 0)
		return e;
	change_broke(&r->change, p.node, INV_ATTR);
	(void)reply_attr(r, p.node, p.fd);
	return request_inside(r, &p);
}

int op_LISTXATTR(struct request *r)
{
	CLEANUP_PINNED struct pinned p = {0};
	CLEANUP_FREE char *all = malloc(XATTR_LIST_MAX_);
	char path[EXPORT_PROC_PATH_MAX];
	size_t used = 0;
	int e = request_pin(r, r->q.node, INV_ATTR, &p);

	if (e < 0 || all == NULL)
		return e < 0 ? e : -ENOMEM;
	ssize_t n = listxattr(export_proc_path(p.fd, path), all, XATTR_LIST_MAX_);
	if (n < 0)
		return -errno;
	/* buf has room for all names */
	for (ssize_t at = 0; at < n;) {
		size_t len = strnlen(all + at, (size_t)(n - at));

		if (passes(r, all + at, len)) {
			memcpy(r->buf + used, all + at, len);
			r->buf[used + len] = '\0';
			used += len + 1;
		}
		at += (ssize_t)len + 1;
	}
	if (r->q.size > 0 && used > r->q.size)
		return -ERANGE;
	MSG_SET(&r->p, size, used);
	if (r->q.size > 0)
		MSG_SET(&r->p, payload, ((struct slice){r->buf, used}));
	return 0;
}
