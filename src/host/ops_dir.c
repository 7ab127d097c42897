/* READDIRPLUS: a directory's entries with their attributes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "core/cleanup.h"
#include "host/dirs.h"
#include "host/export.h"
#include "host/filesystem.h"
#include "host/hnode.h"
#include "host/ops.h"
#include "transport/codec.h"

#define DIRENTS_MAX    32768
#define DIRENT_LEN_MAX (sizeof(struct dirent64) + 8) /* the longest name */
#define ENTRY_ATTR_MAX 200 /* bytes of an encoded entry without its name */

struct listing_reply {
	struct request *r;
	struct pinned dir;
	bool plain;
	bool hide; /* mount points are left out */
	bool is_root;
	bool unpromised; /* the reply has no stamp anyway */
	uint64_t ino;	 /* the directory's inode number */
	dev_t dev;
	size_t cap, used;
	bool full;
};

/*
 * Fills in the members beyond name and type. False if the entry is to be left
 * out: it was removed, or is a mount point that is hidden. An entry that cannot
 * be opened (EMFILE, EACCES...) stays, with its name: an entry is never lost
 * (CVE-2020-10717, microsandbox#1157).
 */
static bool complete(struct listing_reply *l, const char *name, struct dir_entry *e)
{
	struct request *r = l->r;
	CLEANUP_CLOSE int fd = -1;
	struct hnode *n;
	bool covers;

	if (l->plain && !l->hide)
		return true;
	int err = export_open(r->host->export, l->dir.fd, name, O_PATH, 0, &fd);
	if (err < 0)
		return err != -ENOENT;
	if (l->plain || request_intern(r, &l->dir, name, fd, &n) < 0)
		return true;
	if (request_tell_attr(r, n, fd, &e->attr, &covers) == 0) {
		if (covers || l->unpromised) {
			e->node = hnode_id(n);
			e->ino = e->attr.ino;
			e->type = IFTODT(e->attr.mode);
		} else {
			/* Telling this node would cost the whole listing its promise. */
			session_forget(r->session, hnode_id(n), 1);
		}
	}
	hnode_unref(r->host->nodes, n);
	return true;
}

/* False if there is no room for the entry. */
static bool add_entry(struct listing_reply *l, const struct dirent64 *d)
{
	size_t len = strlen(d->d_name), room = l->cap - l->used;
	struct dir_entry e = {
		.name = {d->d_name, len},
		.off = (uint64_t)d->d_off,
		.type = d->d_type,
		.ino = filesystems_ino(export_filesystems(l->r->host->export), l->dev, d->d_ino),
	};

	/* Checked before the client is told of a node, so that no reference has to be taken
	 * back. */
	if (room < len + (l->plain ? 40 : ENTRY_ATTR_MAX))
		return false;
	bool self = strcmp(d->d_name, ".") == 0, up = strcmp(d->d_name, "..") == 0;
	if (up && l->is_root) /* the directory above the export is not shown to clients */
		e.ino = l->ino;
	if (self || up || complete(l, d->d_name, &e))
		l->used += codec_put_entry(&e, l->r->buf + l->used, room);
	return true;
}

/*
 * Asks for about as many directory entries as the payload has room for: an
 * entry with attributes takes some four times the bytes of a struct dirent.
 */
static size_t dirents_len(const struct listing_reply *l)
{
	size_t room = l->cap - l->used;
	size_t n = l->plain ? room / 4 * 3 : room / 4;

	if (n > DIRENTS_MAX)
		return DIRENTS_MAX;
	return n < DIRENT_LEN_MAX ? DIRENT_LEN_MAX : n;
}

/* 1 at the end of the directory, 0 if the payload is full, -errno. *off: where the next one
 * begins. */
static int fill(struct listing_reply *l, int fd, uint64_t *off)
{
	char buf[DIRENTS_MAX] __attribute__((aligned(8)));

	for (;;) {
		if (session_ending(l->r->session))
			return -ECONNRESET;
		ssize_t n = getdents64(fd, buf, dirents_len(l));

		if (n <= 0) /* ENOENT: the directory has been removed (IS_DEADDIR) */
			return n == 0 || errno == ENOENT ? 1 : -errno;
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const struct dirent64 *)(buf + at);

			if (!add_entry(l, d)) {
				int r = dirs_seek(fd, *off);

				return r == -ENOENT ? 1 : r;
			}
			*off = (uint64_t)d->d_off;
			at += d->d_reclen;
		}
		if (l->used > 0 && l->cap - l->used < MSG_NAME_MAX + ENTRY_ATTR_MAX)
			return 0;
	}
}

/* ENOENT for a known directory that cannot be opened any more: it has been removed, and is empty
 * for a process that has it open. */
static int removed(struct request *r, int error)
{
	struct hnode *n;

	if (error != -ESTALE ||
	    promise_node(session_promises(r->session), r->q.node, 0, &r->stamp, &n) < 0)
		return error;
	hnode_unref(r->host->nodes, n);
	return -ENOENT; /* as getdents(2) */
}

static int list(struct request *r)
{
	CLEANUP_PINNED struct pinned dir = {0};
	CLEANUP_CLOSE int fd = -1;
	uint64_t off = r->q.off;
	struct stat st, root;
	int e = off > INT64_MAX ? -EINVAL : request_pin(r, r->q.node, INV_NAMES | INV_ATTR, &dir);

	if (e < 0)
		return removed(r, e);
	e = dirs_take(session_dirs(r->session), r->host->export, dir.node, dir.fd, off, &fd);
	if (e < 0)
		return removed(r, e);
	if (fstat(fd, &st) < 0)
		return -errno;
	struct listing_reply l = {
		.r = r,
		.dir = dir,
		.plain = (r->q.flags & READDIR_PLAIN) != 0,
		.hide = r->host->config->xdev == XDEV_HIDE,
		.unpromised = r->stamp.uncovered,
		.is_root = fstat(export_root(r->host->export), &root) == 0 &&
			   root.st_dev == st.st_dev && root.st_ino == st.st_ino,
		.ino = filesystems_ino(export_filesystems(r->host->export), st.st_dev, st.st_ino),
		.dev = st.st_dev,
		.cap = r->q.size < MSG_PAYLOAD_MAX ? (size_t)r->q.size : MSG_PAYLOAD_MAX,
	};
	e = fill(&l, fd, &off);
	if (e < 0 && l.used == 0)
		return e; /* if there are entries, the next READDIRPLUS gets the error */
	if (e == 0 && l.used == 0)
		return -EINVAL; /* not even one entry fits: as getdents(2) */
	MSG_SET(&r->p, flags, e == 1 ? READDIR_END : 0u);
	if (request_attr(r, dir.node, dir.fd, &r->p.attr) == 0)
		r->p.present |= MSG_BIT(attr); /* listing may have changed the access time */
	MSG_SET(&r->p, payload, ((struct slice){r->buf, l.used}));
	if (e == 0)
		dirs_give(session_dirs(r->session), dir.node, take_fd(&fd), off);
	return 0;
}

int op_READDIRPLUS(struct request *r)
{
	if (!session_listing_begin(r->session))
		return -ECONNRESET;
	int e = list(r);
	session_listing_end(r->session);
	return e;
}
