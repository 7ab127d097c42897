#include "host/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/ops.h"
#include "host/session.h"
#include "host/slots.h"

/* ---- what there is ---- */

/* The object that a name means, a symbolic link itself included. */
struct looked {
	bool there;
	bool made_since; /* it came to be after the request had begun */
	bool unknown;	 /* the file system does not tell when that was */
	bool changed_since;
	struct stat st;
};

static uint64_t ns_of(struct timespec t)
{
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void look(int dirfd, const char *name, uint64_t began, struct looked *ret)
{
	struct statx stx;

	*ret = (struct looked){0};
	if (fstatat(dirfd, name, &ret->st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0 ||
	    statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, STATX_BTIME, &stx) < 0)
		return;
	ret->there = true;
	ret->changed_since = ns_of(ret->st.st_ctim) >= began;
	ret->unknown = (stx.stx_mask & STATX_BTIME) == 0;
	ret->made_since =
		!ret->unknown &&
		(uint64_t)stx.stx_btime.tv_sec * 1000000000 + stx.stx_btime.tv_nsec >= began;
}

/* A directory of the request and a name in it. */
struct place {
	struct pinned dir;
	char name[MSG_NAME_MAX + 1];
	struct looked found;
};

static bool find_place(struct request *r, uint64_t node, struct slice name, uint64_t began,
		       struct place *ret)
{
	if (request_name(name, ret->name) < 0 || request_pin(r, node, 0, &ret->dir) < 0)
		return false;
	look(ret->dir.fd, ret->name, began, &ret->found);
	return true;
}

static bool changed_since(int fd, uint64_t began)
{
	struct stat st;

	return fstat(fd, &st) == 0 && ns_of(st.st_mtim) >= began;
}

/* ---- names ---- */

/* The reply is that of a LOOKUP. */
static enum resolution answer_name(struct request *r, uint64_t node, struct slice name)
{
	const struct msg q = r->q;

	MSG_SET(&r->q, node, node);
	MSG_SET(&r->q, name, name);
	int e = op_LOOKUP(r);
	r->q = q;
	return e == 0 ? RESOLVE_DONE : RESOLVE_UNKNOWN;
}

static bool is_target(const struct place *p, struct slice target)
{
	char link[MSG_TARGET_MAX + 1];
	ssize_t n = readlinkat(p->dir.fd, p->name, link, sizeof(link));

	return n >= 0 && (size_t)n == target.len && memcmp(link, target.data, target.len) == 0;
}

static enum resolution resolve_made(struct request *r, const struct place *p)
{
	bool link = msg_is(r->q.op, TRAIT_TARGET);
	mode_t type = link ? S_IFLNK : (mode_t)(r->q.mode & S_IFMT);
	const struct looked *f = &p->found;

	if (!f->there)
		return RESOLVE_EXECUTE;
	if (f->unknown)
		return RESOLVE_UNKNOWN;
	if (!f->made_since)
		return RESOLVE_EXECUTE;	    /* EEXIST, as before */
	if (msg_is(r->q.op, TRAIT_OPENS)) { /* it is there: what is left is to open it */
		r->q.flags &= ~(uint64_t)(O_EXCL | O_TRUNC);
		return S_ISREG(f->st.st_mode) ? RESOLVE_EXECUTE : RESOLVE_UNKNOWN;
	}
	if ((f->st.st_mode & S_IFMT) != (type != 0 ? type : S_IFREG) ||
	    (type == S_IFLNK && !is_target(p, r->q.payload)))
		return RESOLVE_UNKNOWN;
	return answer_name(r, r->q.node, r->q.name);
}

static enum resolution resolve_removed(const struct place *p, uint64_t began)
{
	if (p->found.there)
		return p->found.made_since || p->found.unknown ? RESOLVE_UNKNOWN : RESOLVE_EXECUTE;
	return changed_since(p->dir.fd, began) ? RESOLVE_DONE : RESOLVE_EXECUTE; /* ENOENT */
}

static enum resolution resolve_link(struct request *r, const struct place *to)
{
	CLEANUP_PINNED struct pinned object = {0};
	struct stat st;

	if (!to->found.there)
		return RESOLVE_EXECUTE;
	if (request_pin_open(r, r->q.node, 0, &object) < 0 || fstat(object.fd, &st) < 0)
		return RESOLVE_UNKNOWN;
	bool same = st.st_dev == to->found.st.st_dev && st.st_ino == to->found.st.st_ino;
	if (!same || !to->found.changed_since)
		return RESOLVE_EXECUTE; /* EEXIST */
	return answer_name(r, r->q.node2, r->q.name2);
}

/* An object that was moved has another ctime than before. */
static enum resolution resolve_rename(const struct request *r, const struct place *from,
				      const struct place *to)
{
	bool moved = to->found.there && to->found.changed_since;

	if (r->q.flags & RENAME_EXCHANGE)
		return moved || from->found.changed_since ? RESOLVE_UNKNOWN : RESOLVE_EXECUTE;
	if (from->found.there)
		return from->found.changed_since && moved ? RESOLVE_UNKNOWN : RESOLVE_EXECUTE;
	return moved ? RESOLVE_DONE : RESOLVE_EXECUTE; /* ENOENT */
}

static enum resolution resolve_names(struct request *r, uint64_t began)
{
	struct place from = {0}, to = {0};
	bool two = msg_is(r->q.op, TRAIT_CHANGES_NAME2), one = msg_is(r->q.op, TRAIT_CHANGES_NAME);
	enum resolution result = RESOLVE_EXECUTE; /* which says what is wrong */

	if ((!one || find_place(r, r->q.node, r->q.name, began, &from)) &&
	    (!two || find_place(r, r->q.node2, r->q.name2, began, &to)))
		result = one && two			  ? resolve_rename(r, &from, &to)
			 : two				  ? resolve_link(r, &to)
			 : msg_is(r->q.op, TRAIT_REMOVES) ? resolve_removed(&from, began)
							  : resolve_made(r, &from);
	pinned_done(&from.dir);
	pinned_done(&to.dir);
	return result;
}

/* ---- content ---- */

/* How many bytes of the payload are in the file from off on. */
static size_t written(int fd, struct slice payload, uint64_t off)
{
	unsigned char some[65536];
	size_t at = 0;

	while (at < payload.len) {
		size_t want = payload.len - at < sizeof(some) ? payload.len - at : sizeof(some);
		ssize_t n = pread(fd, some, want, (off_t)(off + at));

		for (ssize_t i = 0; i < n; i++, at++)
			if (some[i] != ((const unsigned char *)payload.data)[at])
				return at;
		if (n < (ssize_t)want)
			return at;
	}
	return at;
}

static enum resolution wrote(struct request *r, size_t n, uint64_t off)
{
	MSG_SET(&r->p, size, n);
	MSG_SET(&r->p, off, off);
	return RESOLVE_DONE;
}

/* Nothing but ours has been appended, as far as that can be told: then a part of it is told. */
static enum resolution resolve_append(struct request *r, int fd, const struct slot_trace *t)
{
	struct stat st;

	if (t->size == SIZE_UNNOTED)
		return RESOLVE_EXECUTE;
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < t->size)
		return RESOLVE_UNKNOWN;
	if ((uint64_t)st.st_size == t->size)
		return RESOLVE_EXECUTE;
	size_t n = written(fd, r->q.payload, t->size);
	bool all = n == r->q.payload.len, part = (uint64_t)st.st_size == t->size + n;
	return all || (n > 0 && part) ? wrote(r, n, t->size) : RESOLVE_UNKNOWN;
}

static enum resolution resolve_write(struct request *r, const struct slot_trace *t)
{
	CLEANUP_HANDLE struct handle_ref file = {0};
	CLEANUP_CLOSE int fd = -1;

	if (request_handle(r, r->q.fh, &file) < 0)
		return RESOLVE_EXECUTE; /* EBADF */
	if (export_reopen(r->host->export, file.h->fd, O_RDONLY, &fd) < 0)
		return r->q.flags & O_APPEND ? RESOLVE_UNKNOWN : RESOLVE_EXECUTE;
	if (r->q.flags & O_APPEND)
		return resolve_append(r, fd, t);
	if (written(fd, r->q.payload, r->q.off) == r->q.payload.len)
		return wrote(r, r->q.payload.len, r->q.off);
	/* A part of it, or nothing: whoever has written there since the server ended is not known.
	 */
	return RESOLVE_EXECUTE;
}

/* Modes that move what is behind: twice is not once. */
static enum resolution resolve_fallocate(struct request *r, const struct slot_trace *t)
{
	CLEANUP_HANDLE struct handle_ref file = {0};

	if ((r->q.flags & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) == 0 ||
	    request_handle(r, r->q.fh, &file) < 0)
		return RESOLVE_EXECUTE;
	return changed_since(file.h->fd, t->began) ? RESOLVE_UNKNOWN : RESOLVE_EXECUTE;
}

/* ---- attributes ---- */

/* XATTR_CREATE fails if it is there, XATTR_REPLACE and removing if it is not. */
static enum resolution resolve_xattr(struct request *r, const struct slot_trace *t)
{
	CLEANUP_PINNED struct pinned p = {0};
	struct stat st;

	if (MSG_HAS(&r->q, payload) && (r->q.flags & XATTR_CREATE) == 0)
		return RESOLVE_EXECUTE; /* to be set, whatever there was */
	if (request_pin_open(r, r->q.node, 0, &p) < 0)
		return RESOLVE_EXECUTE;
	return fstat(p.fd, &st) == 0 && ns_of(st.st_ctim) >= t->began ? RESOLVE_UNKNOWN
								      : RESOLVE_EXECUTE;
}

enum resolution request_resolve(struct request *r)
{
	static enum resolution (*const others[])(struct request *, const struct slot_trace *) = {
		[MSG_WRITE] = resolve_write,
		[MSG_FALLOCATE] = resolve_fallocate,
		[MSG_SETXATTR] = resolve_xattr,
		[MSG_REMOVEXATTR] = resolve_xattr,
	};
	const struct slot_trace t = slots_trace(session_slots(r->session), r->slot);
	uint64_t op = r->q.op;

	if (msg_is(op, TRAIT_CHANGES_NAME | TRAIT_CHANGES_NAME2))
		return resolve_names(r, t.began);
	if (op < sizeof(others) / sizeof(others[0]) && others[op] != NULL)
		return others[op](r, &t);
	return RESOLVE_EXECUTE; /* what was set is set again, what was opened is opened */
}
