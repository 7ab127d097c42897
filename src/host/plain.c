#include "host/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "host/hnode.h"
#include "host/plain_priv.h"

/* Somebody else may make and remove the name meanwhile. */
#define CREATE_TRIES 8
/* The first step of a read's buffer, in bytes. */
#define READ_CHUNK ((size_t)256 << 10)
/* Bytes of a buffer that stay allocated. */
#define KEEP_MAX ((size_t)2 << 20)

/* What counts of open's and create's flags, besides how the name is dealt with. */
#define KEPT_FLAGS ((uint32_t)(O_ACCMODE | O_APPEND | O_SYNC))

/* A handle is the slot's use count and its index; 0 is none. */
#define SLOT_BITS 16
#define SLOT_MASK ((UINT64_C(1) << SLOT_BITS) - 1)

/* ---- handles ---- */

static int slot_find(struct plain_session *s, uint64_t fh, struct plain_slot **ret)
{
	uint64_t index = (fh & SLOT_MASK) - 1; /* of 0: too large */

	if (index >= s->slot_count || s->slots[index].fd < 0 ||
	    s->slots[index].uses != fh >> SLOT_BITS)
		return -EBADF;
	*ret = &s->slots[index];
	return 0;
}

/* Takes over fd, also on failure. */
static int slot_add(struct plain_session *s, int fd, uint64_t *ret_fh)
{
	size_t i = 0;

	if (s->open_count == PLAIN_FILES_MAX) {
		(void)close(fd);
		return -EMFILE;
	}
	while (i < s->slot_count && s->slots[i].fd >= 0)
		i++;
	if (i == s->slot_count) {
		size_t count = s->slot_count == 0 ? 16 : s->slot_count * 2;
		struct plain_slot *p = realloc(s->slots, count * sizeof(*p));

		if (p == NULL) {
			(void)close(fd);
			return -ENOMEM;
		}
		for (size_t k = s->slot_count; k < count; k++)
			p[k] = (struct plain_slot){.fd = -1};
		s->slots = p;
		s->slot_count = count;
	}
	s->slots[i].fd = fd;
	s->open_count++;
	*ret_fh = s->slots[i].uses << SLOT_BITS | (i + 1);
	return 0;
}
_Static_assert(PLAIN_FILES_MAX < SLOT_MASK, "an index fits into a handle");

/* ---- paths and attributes ---- */

int plain_walk(struct plain_session *s, struct slice path, bool follow, struct export_place *ret)
{
	char text[PATH_MAX];

	if (path.len == 0)
		return -ENOENT;
	if (path.len >= sizeof(text))
		return -ENAMETOOLONG;
	if (memchr(path.data, '\0', path.len) != NULL)
		return -EINVAL;
	memcpy(text, path.data, path.len);
	text[path.len] = '\0';
	enum walk_links links = s->shows_links ? WALK_NO_LINKS
				: follow       ? WALK_FOLLOW
					       : WALK_FOLLOW_DIRS;
	int r = export_walk(s->export, text, links, ret);
	if (r == -EINVAL && text[0] != '/')
		r = -ENOENT;
	if (r < 0)
		return r;
	/* The host may have moved a directory out while we were in it. */
	r = export_contains(s->export, ret->dirfd, NULL);
	return r > 0 ? 0 : r == 0 ? -ESTALE : r;
}

int plain_inside(const struct plain_job *j, int fd, bool afterwards)
{
	int r = export_inside(j->s->export, fd);

	if (r == 0 && afterwards) {
		if (j->s->nodes != NULL)
			hnodes_moved(j->s->nodes, true);
		export_log_outside("a request of a plain client");
	}
	return r > 0 ? 0 : r == 0 ? -ESTALE : r;
}

/* The same, of something that is to be there. */
int plain_walk_existing(struct plain_session *s, struct slice path, bool follow,
			struct export_place *ret)
{
	int r = plain_walk(s, path, follow, ret);

	return r == 0 && ret->object < 0 ? -ENOENT : r;
}

/* From a request: FUSE clients send Linux bits, others may send Go's. */
mode_t plain_linux_mode(uint32_t mode)
{
	return (mode & 07777) | plain_special_bits(mode);
}

/* Sets the reply's stat to fd's. */
int plain_reply_stat(struct plain_job *j, int fd)
{
	struct attr a;
	int r = export_attr(j->s->export, fd, &a);

	if (r < 0)
		return r;
	j->p->has_stat = true;
	j->p->stat = (struct plain_stat){.size = (int64_t)a.size,
					 .mode = plain_go_mode(a.mode),
					 .mtime = a.mtime.sec,
					 .is_dir = S_ISDIR(a.mode),
					 .ino = a.ino,
					 .uid = a.uid,
					 .gid = a.gid};
	return 0;
}

int plain_assume_caller(struct plain_job *j)
{
	struct creds_caller caller = {.uid = j->q->uid, .gid = j->q->gid};

	(void)export_squashed(j->s->export, &caller.uid, &caller.gid);
	return creds_assume(&j->s->creds, export_privileged(j->s->export), &caller);
}

/*
 * A write by a privileged server leaves the set-id bits where the kernel
 * would take them from the caller's (CVE-2021-20263).
 */
static void drop_setid(struct plain_session *s, int fd)
{
	struct stat st;

	if (!export_privileged(s->export) || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	bool group = (st.st_mode & S_IXGRP) || export_no_setid(s->export);
	mode_t drop = st.st_mode & (mode_t)(group ? S_ISUID | S_ISGID : S_ISUID);
	if (drop != 0 && fchmod(fd, (st.st_mode & ~drop) & 07777) < 0)
		log_debug("set-id bits stay after a write: %m");
}

void plain_broke_name(struct plain_job *j, const struct export_place *place)
{
	change_broke_fd(&j->s->change, place->dirfd, INV_ATTR | INV_NAME, place->name);
	if (place->object >= 0)
		change_broke_fd(&j->s->change, place->object, INV_ATTR, NULL);
}

/* ---- attributes ---- */

static int do_lookup(struct plain_job *j)
{
	int r = plain_walk_existing(j->s, j->q->path, true, &j->place);

	return r < 0 ? r : plain_reply_stat(j, j->place.object);
}

static int do_getattr(struct plain_job *j)
{
	struct plain_slot *slot;

	if (j->q->path.len != 0 || j->q->fh == 0)
		return do_lookup(j);
	int r = slot_find(j->s, j->q->fh, &slot);
	return r < 0 ? r : plain_reply_stat(j, slot->fd);
}

static int do_setattr(struct plain_job *j)
{
	int r = plain_walk_existing(j->s, j->q->path, true, &j->place);

	if (r == 0)
		r = export_chmod(j->s->export, j->place.object, plain_linux_mode(j->q->mode));
	if (r == 0) {
		change_broke_fd(&j->s->change, j->place.object, INV_ATTR, NULL);
		r = plain_inside(j, j->place.object, true);
	}
	return r < 0 ? r : plain_reply_stat(j, j->place.object);
}

/* The open file of a request that may name one instead of a path, or with it. */
static bool names_slot(struct plain_job *j, struct plain_slot **ret)
{
	return j->q->fh != 0 && slot_find(j->s, j->q->fh, ret) == 0;
}

static int open_to_truncate(struct plain_job *j, int *ret_fd)
{
	int r = plain_walk_existing(j->s, j->q->path, true, &j->place);

	if (r == 0)
		r = export_openable(j->place.mode);
	return r < 0 ? r : export_reopen(j->s->export, j->place.object, O_WRONLY, ret_fd);
}

static int do_truncate(struct plain_job *j)
{
	/* Nobody has said which field has the size: whichever is not 0. */
	int64_t size = j->q->off != 0 ? j->q->off : (int64_t)j->q->sz;
	CLEANUP_CLOSE int own = -1;
	struct plain_slot *slot;
	int r = 0;

	if (size < 0)
		return -EINVAL;
	bool open = names_slot(j, &slot);
	if (!open)
		r = j->q->path.len == 0 && j->q->fh != 0 ? -EBADF : open_to_truncate(j, &own);
	if (r < 0)
		return r;
	int fd = open ? slot->fd : own;
	if (ftruncate(fd, size) < 0)
		return -errno;
	drop_setid(j->s, fd);
	change_broke_fd(&j->s->change, fd, INV_ATTR | INV_DATA, NULL);
	r = open ? 0 : plain_inside(j, fd, true);
	return r < 0 ? r : plain_reply_stat(j, fd);
}

/* What is left out is left alone; a request without any time means 0, which Go leaves out. */
static struct timespec time_of(bool has, bool other, int64_t ns)
{
	const int64_t second = 1000000000;
	struct timespec ts = {.tv_sec = ns / second, .tv_nsec = ns % second};

	if (!has && other)
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += second;
	}
	return ts;
}

static int do_times(struct plain_job *j)
{
	const struct plain_request *q = j->q;
	const struct timespec ts[2] = {time_of(q->has_atime, q->has_mtime, q->atime_ns),
				       time_of(q->has_mtime, q->has_atime, q->mtime_ns)};
	struct plain_slot *slot;
	bool open = names_slot(j, &slot);
	int r = open ? 0 : plain_walk_existing(j->s, q->path, true, &j->place);

	if (r < 0)
		return q->path.len == 0 && q->fh != 0 ? -EBADF : r;
	int fd = open ? slot->fd : j->place.object;
	if (utimensat(fd, "", ts, AT_EMPTY_PATH) < 0)
		return -errno;
	change_broke_fd(&j->s->change, fd, INV_ATTR, NULL);
	r = open ? 0 : plain_inside(j, fd, true);
	return r < 0 ? r : plain_reply_stat(j, fd);
}

/* ---- open files ---- */

static bool wants_change(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_TRUNC | O_CREAT)) != 0;
}

/* What is open stays so, wherever the host moves it: it is looked for once more. */
static int keep_open(struct plain_job *j, int fd)
{
	int r = plain_inside(j, fd, true);

	if (r < 0)
		(void)close(fd);
	return r;
}

/* A client that knows links never does this: it takes one for a regular file. */
static void log_link_opened(struct plain_session *s)
{
	if (!s->links_opened)
		log_notice("a plain client opens a symbolic link as if it were a file, and gets "
			   "ELOOP: for clients that know no links there is --plain-links=follow");
	s->links_opened = true;
}

/* Opens what place has, which is a regular file or, for reading, a directory. */
static int open_object(struct plain_job *j, uint32_t flags, int *ret_fd)
{
	int r = export_openable(j->place.mode);

	if (r == -ELOOP)
		log_link_opened(j->s);
	if (r == -EISDIR && !wants_change(flags & ~(uint32_t)O_CREAT))
		r = 0;
	if (r < 0)
		return r;
	if ((flags & O_DIRECTORY) && !S_ISDIR(j->place.mode))
		return -ENOTDIR;
	int keep = (int)(flags & (KEPT_FLAGS | O_TRUNC));
	r = export_reopen(j->s->export, j->place.object, keep, ret_fd);
	if (r == 0 && (flags & O_TRUNC)) {
		drop_setid(j->s, *ret_fd);
		change_broke_fd(&j->s->change, *ret_fd, INV_ATTR | INV_DATA, NULL);
	}
	return r < 0 ? r : keep_open(j, *ret_fd);
}

/* Opens or makes the file at q->path, following a link as the last component. */
static int open_or_create(struct plain_job *j, uint32_t flags, int *ret_fd)
{
	for (int i = 0; i < CREATE_TRIES; i++) {
		int r = plain_walk(j->s, j->q->path, true, &j->place);

		if (r < 0)
			return r;
		if (j->place.object >= 0)
			return flags & O_EXCL ? -EEXIST : open_object(j, flags, ret_fd);
		r = plain_assume_caller(j);
		if (r < 0)
			return r;
		int keep = (int)(flags & KEPT_FLAGS) | O_CREAT | O_EXCL;
		r = export_open(j->s->export, j->place.dirfd, j->place.name, keep,
				plain_linux_mode(j->q->mode), ret_fd);
		creds_restore(&j->s->creds);
		if (r == 0) {
			plain_broke_name(j, &j->place);
			r = keep_open(j, *ret_fd);
		}
		if (r != -EEXIST || (flags & O_EXCL))
			return r;
		export_place_done(&j->place);
	}
	return -EEXIST;
}

static int do_create(struct plain_job *j)
{
	/* Old clients send no flags, some of them also to truncate a file that is there. */
	uint32_t flags = j->q->flags != 0 ? j->q->flags | O_CREAT : O_RDWR | O_CREAT | O_TRUNC;
	int fd;
	int r = open_or_create(j, flags, &fd);

	if (r == 0)
		r = slot_add(j->s, fd, &j->p->fh);
	return r < 0 ? r : plain_reply_stat(j, fd);
}

static int do_open(struct plain_job *j)
{
	uint32_t flags = j->q->flags;
	int fd, r;

	if (wants_change(flags) && export_read_only(j->s->export))
		return -EROFS;
	if (flags & O_CREAT) {
		r = open_or_create(j, flags, &fd);
	} else {
		r = plain_walk_existing(j->s, j->q->path, true, &j->place);
		if (r == 0)
			r = open_object(j, flags, &fd);
	}
	return r < 0 ? r : slot_add(j->s, fd, &j->p->fh);
}

static int do_release(struct plain_job *j)
{
	struct plain_slot *slot;
	int r = slot_find(j->s, j->q->fh, &slot);

	if (r < 0)
		return r;
	int fd = take_fd(&slot->fd);
	slot->uses++;
	j->s->open_count--;
	return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

int plain_data_reserve(struct plain_session *s, size_t cap)
{
	if (cap <= s->data_cap)
		return 0;
	unsigned char *p = realloc(s->data, cap);
	if (p == NULL)
		return -ENOMEM;
	s->data = p;
	s->data_cap = cap;
	return 0;
}

/* Grows the buffer with what there is to read, not with what is asked for. */
static int do_read(struct plain_job *j)
{
	size_t want = j->q->sz < PLAIN_READ_MAX ? j->q->sz : PLAIN_READ_MAX, done = 0;
	struct plain_session *s = j->s;
	struct plain_slot *slot;
	int r = slot_find(s, j->q->fh, &slot);

	if (r == 0 && j->q->off < 0)
		r = -EINVAL;
	while (r == 0 && done < want) {
		size_t step = done < READ_CHUNK ? READ_CHUNK : done;

		if (step > want - done)
			step = want - done;
		r = plain_data_reserve(s, done + step);
		if (r < 0)
			break;
		off_t at;
		if (__builtin_add_overflow(j->q->off, (off_t)done, &at))
			break; /* no file is that long */
		ssize_t n = pread(slot->fd, s->data + done, step, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : 0;
			break;
		}
		done += (size_t)n;
	}
	if (r < 0 && done == 0)
		return r;
	j->p->data = (struct slice){s->data, done};
	return 0;
}

static int do_write(struct plain_job *j)
{
	const unsigned char *data = j->q->data.data;
	size_t len = j->q->data.len, done = 0;
	struct plain_slot *slot;
	int r = slot_find(j->s, j->q->fh, &slot);

	if (r == 0 && (j->q->off < 0 || j->q->off > INT64_MAX - (int64_t)len))
		r = -EINVAL;
	while (r == 0 && done < len) {
		/* On a handle opened with O_APPEND this appends, whatever the offset (pwrite(2)).
		 */
		ssize_t n = pwrite(slot->fd, data + done, len - done, j->q->off + (off_t)done);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0)
			r = -EIO;
		else if (errno != EINTR)
			r = -errno;
	}
	if (done > 0) {
		drop_setid(j->s, slot->fd);
		change_broke_fd(&j->s->change, slot->fd, INV_ATTR | INV_DATA, NULL);
	}
	if (r < 0 && done == 0)
		return r;
	j->p->written = (uint32_t)done; /* a frame is shorter than 4 GiB */
	return 0;
}

/* Of a file or directory that the client need not have open. */
static int do_fsync_path(struct plain_job *j)
{
	CLEANUP_CLOSE int fd = -1;
	int r = plain_walk_existing(j->s, j->q->path, true, &j->place);

	if (r == 0 && !S_ISREG(j->place.mode) && !S_ISDIR(j->place.mode))
		r = -EINVAL;
	if (r == 0)
		r = export_reopen(j->s->export, j->place.object, O_RDONLY, &fd);
	if (r == -EACCES)
		r = export_reopen(j->s->export, j->place.object, O_WRONLY, &fd);
	return r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
}

static int do_fsync(struct plain_job *j)
{
	struct plain_slot *slot;

	if (names_slot(j, &slot))
		return fsync(slot->fd) < 0 ? -errno : 0;
	return j->q->path.len != 0 ? do_fsync_path(j) : -EBADF;
}

/* ---- the session ---- */

/* Old clients have no operation on links and send create no flags. */
static bool knows_links(const struct plain_request *q)
{
	return q->op == PLAIN_SYMLINK || q->op == PLAIN_READLINK || q->op == PLAIN_FSYNC_PATH ||
	       q->op == PLAIN_TIMES || (q->op == PLAIN_CREATE && (q->flags & O_CREAT) != 0);
}

static int execute(struct plain_job *j)
{
	static const struct {
		int (*run)(struct plain_job *);
		bool change; /* refused on a read-only export; open sees to it itself */
	} table[] = {
		[PLAIN_LOOKUP] = {do_lookup, false},
		[PLAIN_GETATTR] = {do_getattr, false},
		[PLAIN_SETATTR] = {do_setattr, true},
		[PLAIN_READ] = {do_read, false},
		[PLAIN_WRITE] = {do_write, true},
		[PLAIN_CREATE] = {do_create, true},
		[PLAIN_MKDIR] = {plain_serve_mkdir, true},
		[PLAIN_UNLINK] = {plain_serve_remove, true},
		[PLAIN_RMDIR] = {plain_serve_remove, true},
		[PLAIN_RENAME] = {plain_serve_rename, true},
		[PLAIN_OPEN] = {do_open, false},
		[PLAIN_RELEASE] = {do_release, false},
		[PLAIN_READDIR] = {plain_serve_readdir, false},
		[PLAIN_FSYNC] = {do_fsync, false},
		[PLAIN_MKDIRALL] = {plain_serve_mkdirall, true},
		[PLAIN_TRUNCATE] = {do_truncate, true},
		[PLAIN_SYMLINK] = {plain_serve_symlink, true},
		[PLAIN_READLINK] = {plain_serve_readlink, false},
		[PLAIN_LINK] = {plain_serve_link, true},
		[PLAIN_FSYNC_PATH] = {do_fsync, false},
		[PLAIN_TIMES] = {do_times, true},
	};
	_Static_assert(sizeof(table) / sizeof(table[0]) == PLAIN_OPS, "every operation is here");
	uint32_t op = j->q->op;

	if (op >= PLAIN_OPS)
		return -ENOSYS;
	j->s->shows_links = j->s->shows_links || knows_links(j->q);
	if (j->q->bad_text)
		return -EILSEQ;
	if (table[op].change && export_read_only(j->s->export))
		return -EROFS;
	return table[op].run(j);
}

/* Gives back what an unusually large reply took. */
static void trim(struct plain_session *s)
{
	if (s->reply.cap > KEEP_MAX)
		plain_buf_done(&s->reply);
	if (s->entries.cap > KEEP_MAX)
		plain_buf_done(&s->entries);
	if (s->data_cap > KEEP_MAX) {
		free(TAKE_PTR(s->data));
		s->data_cap = 0;
	}
}

int plain_handle(struct plain_session *s, const struct plain_request *q, const void **ret_reply,
		 size_t *ret_len)
{
	struct plain_reply p = {0};
	struct plain_job j = {
		.s = s, .q = q, .p = &p, .place = PLAIN_NO_PLACE, .place2 = PLAIN_NO_PLACE};
	trim(s);
	int r = execute(&j);

	export_place_done(&j.place);
	export_place_done(&j.place2);
	change_wait(&s->change);
	if (r == 0)
		r = plain_reply_encode(&p, &s->reply);
	if (r < 0) {
		/* A listing or a read that fits into no frame: nothing was changed by it. */
		p = (struct plain_reply){.err = r == -EMSGSIZE ? -EOVERFLOW : msg_errno(r)};
		r = plain_reply_encode(&p, &s->reply);
	}
	if (r < 0)
		return r;
	*ret_reply = s->reply.data;
	*ret_len = s->reply.len;
	return 0;
}

int plain_session_new(struct export *ex, struct hnodes *nodes, struct promises *p,
		      struct plain_session **ret)
{
	struct plain_session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->export = ex;
	s->nodes = nodes;
	s->creds = CREDS_NONE;
	s->shows_links = !export_plain_follow(ex);
	s->change.all = p;
	*ret = s;
	return 0;
}

void plain_session_free(struct plain_session *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->slot_count; i++)
		cleanup_close(&s->slots[i].fd);
	free(s->slots);
	free(s->data);
	plain_buf_done(&s->reply);
	plain_buf_done(&s->entries);
	free(s);
}
