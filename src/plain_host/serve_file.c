/* Open files. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "plain_host/plain_job.h"

/* Another process may make and remove the name meanwhile. */
#define CREATE_TRIES 8
/* The first step of a read's buffer, in bytes. */
#define READ_CHUNK ((size_t)256 << 10)
/* The flags of open and create that count, besides those about the name. */
#define KEPT_FLAGS ((uint32_t)(O_ACCMODE | O_APPEND | O_SYNC))

static bool wants_change(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_TRUNC | O_CREAT)) != 0;
}

/* An open file stays open wherever the host moves it, so its place is checked once more. */
static int keep_open(struct plain_job *j, int fd)
{
	int r = plain_inside(j, fd, true);

	if (r < 0)
		(void)close(fd);
	return r;
}

/* A client that knows links never opens one: this client takes the link for a regular file. */
static void log_link_opened(struct plain_session *s)
{
	if (!s->links_opened)
		log_notice("a plain client opens a symbolic link as if it were a file, and gets "
			   "ELOOP: for clients that know no links there is --plain-links=follow");
	s->links_opened = true;
}

/* Opens the object at place: a regular file or, for reading, a directory. */
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
		plain_drop_setid(j->s, *ret_fd);
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

int plain_serve_create(struct plain_job *j)
{
	/* Old clients send no flags, also when they want to truncate an existing file. */
	uint32_t flags = j->q->flags != 0 ? j->q->flags | O_CREAT : O_RDWR | O_CREAT | O_TRUNC;
	int fd;
	int r = open_or_create(j, flags, &fd);

	if (r == 0)
		r = plain_slot_add(j->s, fd, &j->p->fh);
	return r < 0 ? r : plain_reply_stat(j, fd);
}

int plain_serve_open(struct plain_job *j)
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
	return r < 0 ? r : plain_slot_add(j->s, fd, &j->p->fh);
}

int plain_serve_release(struct plain_job *j)
{
	struct plain_slot *slot;
	int r = plain_slot_find(j->s, j->q->fh, &slot);

	if (r < 0)
		return r;
	int fd = take_fd(&slot->fd);
	slot->uses++;
	j->s->open_count--;
	share_give(&j->s->files, 1);
	return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

/* The buffer grows with the bytes that are read, not with the length that is asked for. */
int plain_serve_read(struct plain_job *j)
{
	size_t len = j->q->sz < PLAIN_READ_MAX ? j->q->sz : PLAIN_READ_MAX, done = 0;
	struct plain_session *s = j->s;
	struct plain_slot *slot;
	int r = plain_slot_find(s, j->q->fh, &slot);

	if (r == 0 && j->q->off < 0)
		r = -EINVAL;
	while (r == 0 && done < len) {
		size_t step = done < READ_CHUNK ? READ_CHUNK : done;

		if (step > len - done)
			step = len - done;
		r = plain_data_reserve(s, done + step);
		if (r < 0)
			break;
		off_t at;
		if (__builtin_add_overflow(j->q->off, (off_t)done, &at))
			break; /* no file is so long */
		ssize_t n = pread(slot->fd, s->data + done, step, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : 0;
			break;
		}
		done += (size_t)n;
	}
	if (r < 0) /* a short reply would be the end of the file */
		return r;
	j->p->data = (struct slice){s->data, done};
	return 0;
}

int plain_serve_write(struct plain_job *j)
{
	const unsigned char *data = j->q->data.data;
	size_t len = j->q->data.len, done = 0;
	struct plain_slot *slot;
	int r = plain_slot_find(j->s, j->q->fh, &slot);

	if (r == 0 && (j->q->off < 0 || j->q->off > INT64_MAX - (int64_t)len))
		r = -EINVAL;
	while (r == 0 && done < len) {
		/* With O_APPEND this appends, whatever the offset is (pwrite(2)). */
		ssize_t n = pwrite(slot->fd, data + done, len - done, j->q->off + (off_t)done);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0)
			r = -EIO;
		else if (errno != EINTR)
			r = -errno;
	}
	if (done > 0) {
		plain_drop_setid(j->s, slot->fd);
		change_broke_fd(&j->s->change, slot->fd, INV_ATTR | INV_DATA, NULL);
	}
	if (r < 0 && done == 0)
		return r;
	j->p->written = (uint32_t)done; /* a frame is shorter than 4 GiB */
	return 0;
}

/* fsync of a file or directory that the client need not have open. */
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

int plain_serve_fsync(struct plain_job *j)
{
	struct plain_slot *slot;

	if (plain_slot_named(j, &slot))
		return fsync(slot->fd) < 0 ? -errno : 0;
	return j->q->path.len != 0 ? do_fsync_path(j) : -EBADF;
}
