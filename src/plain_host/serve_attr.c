/* Attributes and sizes, by path or of an open file. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "plain_host/plain_job.h"

int plain_serve_lookup(struct plain_job *j)
{
	int r = plain_walk_existing(j->s, j->q->path, true, &j->place);

	return r < 0 ? r : plain_reply_stat(j, j->place.object);
}

int plain_serve_getattr(struct plain_job *j)
{
	struct plain_slot *slot;

	if (j->q->path.len != 0 || j->q->fh == 0)
		return plain_serve_lookup(j);
	int r = plain_slot_find(j->s, j->q->fh, &slot);
	return r < 0 ? r : plain_reply_stat(j, slot->fd);
}

int plain_serve_setattr(struct plain_job *j)
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

static int open_to_truncate(struct plain_job *j, int *ret_fd)
{
	int r = plain_walk_existing(j->s, j->q->path, true, &j->place);

	if (r == 0)
		r = export_openable(j->place.mode);
	return r < 0 ? r : export_reopen(j->s->export, j->place.object, O_WRONLY, ret_fd);
}

int plain_serve_truncate(struct plain_job *j)
{
	/* No document says which field has the size: the one that is not 0 is taken. */
	int64_t size = j->q->off != 0 ? j->q->off : (int64_t)j->q->sz;
	CLEANUP_CLOSE int own = -1;
	struct plain_slot *slot;
	int r = 0;

	if (size < 0)
		return -EINVAL;
	bool open = plain_slot_named(j, &slot);
	if (!open)
		r = j->q->path.len == 0 && j->q->fh != 0 ? -EBADF : open_to_truncate(j, &own);
	if (r < 0)
		return r;
	int fd = open ? slot->fd : own;
	if (ftruncate(fd, size) < 0)
		return -errno;
	plain_drop_setid(j->s, fd);
	change_broke_fd(&j->s->change, fd, INV_ATTR | INV_DATA, NULL);
	r = open ? 0 : plain_inside(j, fd, true);
	return r < 0 ? r : plain_reply_stat(j, fd);
}

/* A time that is left out stays unchanged. A request without both means 0, which Go leaves out. */
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

int plain_serve_times(struct plain_job *j)
{
	const struct plain_request *q = j->q;
	const struct timespec ts[2] = {time_of(q->has_atime, q->has_mtime, q->atime_ns),
				       time_of(q->has_mtime, q->has_atime, q->mtime_ns)};
	struct plain_slot *slot;
	bool open = plain_slot_named(j, &slot);
	int r = open ? 0 : plain_walk_existing(j->s, q->path, true, &j->place);

	if (r < 0)
		return q->path.len == 0 && q->fh != 0 ? -EBADF : r;
	int fd = open ? slot->fd : j->place.object;
	r = export_changeable(j->s->export, fd);
	if (r < 0)
		return r;
	if (utimensat(fd, "", ts, AT_EMPTY_PATH) < 0)
		return -errno;
	change_broke_fd(&j->s->change, fd, INV_ATTR, NULL);
	r = open ? 0 : plain_inside(j, fd, true);
	return r < 0 ? r : plain_reply_stat(j, fd);
}
