/* Names: looking up, making, removing, renaming. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/cleanup.h"
#include "host/dirlock.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/links.h"
#include "host/ops.h"
#include "host/watch.h"

/* The directory and the name of a request that is about to change the directory. */
static int target(struct request *r, uint64_t node, struct slice name, struct pinned *dir,
		  char *ret_name)
{
	int e = request_writable(r);

	if (e == 0)
		e = request_name(name, ret_name);
	if (e == 0)
		e = request_pin(r, node, INV_NAMES | INV_ATTR, dir);
	return e < 0 ? e : export_changeable(r->host->export, dir->fd);
}

/* Answers for a name whose node is known and has a descriptor; -EAGAIN if the object has to be
 * opened. */
static int tell_known(struct request *r, const struct pinned *dir, const char *name)
{
	CLEANUP_PINNED struct pinned p = {.nodes = r->host->nodes};

	if (r->host->config->xdev == XDEV_HIDE)
		return -EAGAIN; /* only openat2(2) can tell a mount point */
	int e = hnodes_find_at(p.nodes, dir->node, dir->fd, name, &p.node, &p.fd);
	if (e < 0)
		return e;
	p.pinned = true;
	return request_tell_node(r, p.node, p.fd);
}

/* Tells the client which node the name has in dir. */
static int tell_name(struct request *r, const struct pinned *dir, const char *name)
{
	int fd;
	int e = export_open(r->host->export, dir->fd, name, O_PATH, 0, &fd);

	return e < 0 ? e : request_tell(r, dir, name, fd);
}

int op_LOOKUP(struct request *r)
{
	CLEANUP_PINNED struct pinned dir = {0};
	char name[MSG_NAME_MAX + 1];
	int e = request_name(r->q.name, name);

	if (e == 0)
		e = request_pin(r, r->q.node, INV_NAMES, &dir);
	if (e < 0)
		return e;
	e = tell_known(r, &dir, name);
	return e == -EAGAIN ? tell_name(r, &dir, name) : e;
}

/*
 * Tells the client of the object that this request has made. Another process may have
 * put a different object in its place already, which the client did not ask for.
 */
static int tell_made(struct request *r, const struct pinned *dir, const char *name, mode_t type)
{
	change_broke_name(&r->change, dir->node, name);
	int e = request_inside(r, dir);
	if (e == 0)
		e = tell_name(r, dir, name);

	if (e == 0 && (r->p.attr.mode & S_IFMT) != type) {
		session_forget(r->session, r->p.node, 1);
		e = -ENOENT;
	}
	if (e == 0)
		request_parent_attr(r, dir);
	return e;
}

#define MAKE_TRIES 64 /* of a name that the host removes as fast as it can */

static uint64_t rdev_of(const struct request *r)
{
	return MSG_HAS(&r->q, rdev) ? r->q.rdev : 0;
}

static int make_node(const struct request *r, const struct pinned *dir, const char *name,
		     mode_t mode)
{
	uint64_t rdev = rdev_of(r);
	int e;

	if (S_ISLNK(mode))
		return links_symlink(r->host->export, (const char *)r->buf, dir->fd, name);
	if (S_ISDIR(mode))
		e = mkdirat(dir->fd, name, mode & 07777);
	else
		e = mknodat(dir->fd, name, export_no_setid(r->host->export) ? mode & ~06000u : mode,
			    makedev((unsigned)(rdev >> 32), (unsigned)(rdev & UINT32_MAX)));
	return e < 0 ? -errno : 0;
}

/*
 * Makes the object with the caller's identity, and tells the client. A process of the host
 * may remove the object before this server has opened it: then it is made again, because
 * the reply needs a node. After MAKE_TRIES, ESTALE makes the guest's kernel try again
 * (retry_estale).
 */
static int make_and_tell(struct request *r, const struct pinned *dir, const char *name, mode_t mode)
{
	const struct creds_caller like = {.special = S_ISBLK(mode) ||
						     (S_ISCHR(mode) && rdev_of(r) != 0)};
	gid_t groups[MSG_GROUPS_MAX];

	for (unsigned i = 0; i < MAKE_TRIES; i++) {
		int e = request_assume(r, like, groups);

		if (e < 0)
			return e;
		e = make_node(r, dir, name, mode);
		creds_restore(r->creds);
		if (e < 0)
			return e;
		e = tell_made(r, dir, name, mode & S_IFMT);
		if (e != -ENOENT)
			return e;
	}
	return -ESTALE;
}

/*
 * Promises the names of a directory that was just made and is still empty: the client
 * then knows that no name exists in it.
 */
static void promise_empty(struct request *r)
{
	CLEANUP_PINNED struct pinned made = {0};
	CLEANUP_CLOSE int fd = -1;
	char buf[512] __attribute__((aligned(8)));

	if (request_pin(r, r->p.node, INV_NAMES, &made) < 0 ||
	    export_reopen(r->host->export, made.fd, O_RDONLY | O_DIRECTORY, &fd) < 0)
		return;
	ssize_t n = getdents64(fd, buf, sizeof(buf));
	for (ssize_t at = 0; at < n;) {
		const struct dirent64 *d = (const struct dirent64 *)(buf + at);

		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			return;
		at += d->d_reclen;
	}
	if (n > 0)
		MSG_SET(&r->p, flags, MKNOD_EMPTY);
}

int op_MKNOD(struct request *r)
{
	CLEANUP_PINNED struct pinned dir = {0};
	mode_t mode = (mode_t)(r->q.mode & (S_IFMT | 07777));
	bool device = S_ISCHR(mode) || S_ISBLK(mode);
	char name[MSG_NAME_MAX + 1];
	uid_t uid;
	gid_t gid;

	if ((mode & S_IFMT) == 0)
		mode |= S_IFREG; /* as mknod(2) */
	if (S_ISCHR(mode) && rdev_of(r) == 0) {
		/* a whiteout of overlayfs, which cannot be opened, and which everybody may make
		 * (vfs_mknod) */
	} else if (device || S_ISSOCK(mode)) {
		/* A process of the host that opens a device acts on the host (CVE-2020-35517). */
		if (!export_special(r->host->export))
			return -EPERM;
		if (device && export_squashed(r->host->export, &uid, &gid))
			return -EPERM;
	} else if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISDIR(mode)) {
		return -EINVAL;
	}
	int e = target(r, r->q.node, r->q.name, &dir, name);
	if (e == 0)
		e = make_and_tell(r, &dir, name, mode);
	if (e == 0 && S_ISDIR(mode))
		promise_empty(r);
	return e;
}

int op_SYMLINK(struct request *r)
{
	CLEANUP_PINNED struct pinned dir = {0};
	size_t len = r->q.payload.len;
	char name[MSG_NAME_MAX + 1];

	if (len == 0 || memchr(r->buf, '\0', len) != NULL)
		return len == 0 ? -ENOENT : -EINVAL;
	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	int e = target(r, r->q.node, r->q.name, &dir, name);
	r->buf[len] = '\0'; /* buf has a byte more than a payload */
	return e < 0 ? e : make_and_tell(r, &dir, name, S_IFLNK);
}

/*
 * n has another name now. Where only directories are watched (watch.h), the new name
 * may be in a directory without a mark, and changes of n would not be seen any more.
 */
static void keep_covered(struct request *r, struct hnode *n, int fd)
{
	if (n != NULL && watch_mode(r->host->watch) == WATCH_OBJECTS &&
	    promises_wanted(r->host->promises) && !watch_cover(r->host->watch, n, fd))
		promises_break(r->host->promises, n, INV_ATTR | INV_DATA, NULL, promise_clock());
}

int op_LINK(struct request *r)
{
	CLEANUP_PINNED struct pinned dir = {0}, file = {0};
	char name[MSG_NAME_MAX + 1];
	int e = target(r, r->q.node2, r->q.name2, &dir, name);

	if (e == 0)
		e = request_pin(r, r->q.node, INV_ATTR, &file);
	if (e == 0)
		e = links_link(r->host->export, file.fd, dir.fd, name);
	if (e < 0)
		return e;
	hnode_renamed(r->host->nodes, file.node, dir.node, name, dir.seen);
	hnode_cover_by_parent(r->host->nodes, file.node, false);
	change_broke_name(&r->change, dir.node, name);
	change_broke(&r->change, file.node, INV_ATTR);
	e = request_inside(r, &dir);
	if (e == 0)
		e = request_tell_node(r, file.node, file.fd);
	keep_covered(r, file.node, file.fd);
	if (e < 0)
		return e;
	request_parent_attr(r, &dir);
	return 0;
}

static int remove_name(struct request *r, int flags)
{
	CLEANUP_PINNED struct pinned dir = {0};
	CLEANUP_VICTIM struct victim victim = {.fd = -1};
	char name[MSG_NAME_MAX + 1];
	int e = target(r, r->q.node, r->q.name, &dir, name);

	if (e < 0)
		return e;
	struct dirlock lock CLEANUP(dirlock_release) = dirlock_take(dir.fd, -1);
	victim_find(r, &dir, name, &victim);
	if (unlinkat(dir.fd, name, flags) < 0)
		return -errno;
	change_broke_name(&r->change, dir.node, name);
	if (victim.fd < 0)
		victim_unknown(r, &dir);
	victim_gone(r, &victim);
	request_parent_attr(r, &dir);
	return request_inside(r, &dir);
}

int op_UNLINK(struct request *r)
{
	return remove_name(r, 0);
}

int op_RMDIR(struct request *r)
{
	return remove_name(r, AT_REMOVEDIR);
}

/* The object has the new name that the client asked for. */
static void renamed(struct request *r, const struct victim *v, const struct pinned *dir,
		    const char *name)
{
	if (v->node == NULL)
		return;
	hnode_renamed(r->host->nodes, v->node, dir->node, name, dir->seen);
	keep_covered(r, v->node, v->fd);
}

/*
 * The host had put another object under the old name, and that object was renamed
 * instead. The watcher ignores its change, because this process has made it.
 */
static void renamed_else(struct request *r, const struct pinned *dir, const char *name)
{
	CLEANUP_PINNED struct pinned p = {.nodes = r->host->nodes};

	if (hnodes_find_at(p.nodes, dir->node, dir->fd, name, &p.node, &p.fd) < 0)
		return;
	p.pinned = true;
	promises_break(r->host->promises, p.node, INV_ATTR, NULL, promise_clock());
}

/*
 * The two names were links of one file, and both remain (rename(2)). The client, which did not
 * know that, now takes the old name for removed.
 */
static void still_there(struct request *r, const struct pinned *dir, const char *name)
{
	promises_break(r->host->promises, dir->node, INV_NAME, name, promise_clock());
}

#define LOOKS_MAX 8 /* at a name that the host makes and removes */

/*
 * Looks up the object that has the new name, and renames. If there is none, the rename
 * must not replace one: the host may put an object there in between.
 */
static int look_and_rename(struct request *r, const struct pinned *from, const char *name,
			   const struct pinned *to, const char *name2, unsigned flags,
			   struct victim *other)
{
	bool sure = (flags & RENAME_NOREPLACE) != 0;

	for (unsigned looks = 0; !sure && looks < LOOKS_MAX; looks++) {
		victim_find(r, to, name2, other);
		if (other->fd >= 0 || (flags & RENAME_EXCHANGE))
			break;
		if (renameat2(from->fd, name, to->fd, name2, flags | RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST && errno != EINVAL)
			return -errno;
		sure = errno == EINVAL; /* this file system lacks the flag, or refuses the rename */
	}
	if (renameat2(from->fd, name, to->fd, name2, flags) < 0)
		return -errno;
	if (other->fd < 0 && !sure)
		victim_unknown(r, to);
	return 0;
}

/* Called with the lock of links.h: whether the objects may be where they would be. */
static int may_rename(struct request *r, const struct pinned *from, const struct victim *moved,
		      const struct pinned *to, const char *name2, unsigned flags)
{
	const struct export *x = r->host->export;
	CLEANUP_CLOSE int other = -1;
	int e = links_may_move(x, moved->fd, from->fd, to->fd);

	if (e < 0 || !(flags & RENAME_EXCHANGE))
		return e;
	e = export_open(x, to->fd, name2, O_PATH, 0, &other);
	return e < 0 ? e : links_may_move(x, other, to->fd, from->fd);
}

int op_RENAME(struct request *r)
{
	CLEANUP_PINNED struct pinned from = {0}, to = {0};
	CLEANUP_VICTIM struct victim moved = {.fd = -1}, other = {.fd = -1};
	char name[MSG_NAME_MAX + 1], name2[MSG_NAME_MAX + 1];
	unsigned flags = (unsigned)r->q.flags;

	if (r->q.flags & ~(uint64_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	int e = target(r, r->q.node, r->q.name, &from, name);
	if (e == 0)
		e = target(r, r->q.node2, r->q.name2, &to, name2);
	if (e < 0)
		return e;
	struct dirlock lock CLEANUP(dirlock_release) = dirlock_take(from.fd, to.fd);
	victim_find(r, &from, name, &moved);
	{
		pthread_mutex_t *links CLEANUP(cleanup_unlock) = links_lock(r->host->export);

		e = links != NULL ? may_rename(r, &from, &moved, &to, name2, flags) : 0;
		if (e == 0)
			e = look_and_rename(r, &from, name, &to, name2, flags, &other);
	}
	if (e < 0)
		return e;
	victim_again(&moved);
	victim_again(&other);
	if (moved.node == other.node)
		other.links = 0; /* the file has lost no link */
	change_broke_name(&r->change, from.node, name);
	change_broke_name(&r->change, to.node, name2);
	change_broke(&r->change, moved.node, INV_ATTR);
	bool good = victim_is_at(&moved, &to, name2), good2 = true;
	if (good)
		renamed(r, &moved, &to, name2);
	else
		renamed_else(r, &to, name2);
	if (flags & RENAME_EXCHANGE) {
		change_broke(&r->change, other.node, INV_ATTR);
		good2 = victim_is_at(&other, &from, name);
		if (good2)
			renamed(r, &other, &from, name);
		else
			renamed_else(r, &from, name);
	} else {
		victim_gone(r, &other);
		if (victim_is_at(&moved, &from, name))
			still_there(r, &from, name);
	}
	/* attr and node are those of the moved object; of the other only the node is told. */
	r->p.present &= ~(MSG_BIT(attr) | MSG_BIT(node));
	if (good2 && other.node != NULL)
		MSG_SET(&r->p, node2, hnode_id(other.node));
	if (good && moved.node != NULL && request_attr(r, moved.node, moved.fd, &r->p.attr) == 0) {
		MSG_SET(&r->p, node, hnode_id(moved.node));
		r->p.present |= MSG_BIT(attr);
	}
	request_parent_attr(r, &from);
	if (request_attr(r, to.node, to.fd, &r->p.attr3) == 0)
		r->p.present |= MSG_BIT(attr3);
	e = request_inside(r, &from);
	return e == 0 && to.node != from.node ? request_inside(r, &to) : e;
}

int op_READLINK(struct request *r)
{
	CLEANUP_PINNED struct pinned link = {0};
	int e = request_pin(r, r->q.node, INV_ATTR | INV_DATA, &link);

	if (e < 0)
		return e;
	ssize_t n = readlinkat(link.fd, "", (char *)r->buf, PATH_MAX);
	if (n < 0) /* with an empty path, ENOENT means that the object is no symbolic link */
		return errno == ENOENT ? -EINVAL : -errno;
	MSG_SET(&r->p, payload, ((struct slice){r->buf, (size_t)n}));
	return 0;
}
