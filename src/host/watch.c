#include "host/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/mountinfo.h"
#include "core/stats.h"
#include "host/export.h"
#include "host/filesystem.h"
#include "host/hnode.h"
#include "host/promise.h"

#define BUFFER_SIZE 65536
#define MARKS_MAX   8192 /* in WATCH_OBJECTS; each keeps a descriptor open as well */
#define MARKS_SHARE 8	 /* of what the user, or the process, may have */

/* The headers may be older than the kernel. */
#ifndef FAN_RENAME
#define FAN_RENAME 0x10000000
#endif

#define MASK_FILE   (FAN_ATTRIB | FAN_MODIFY | FAN_CLOSE_WRITE | FAN_DELETE_SELF | FAN_MOVE_SELF)
#define MASK_COMMON (MASK_FILE | FAN_CREATE | FAN_DELETE | FAN_ONDIR)

struct watch {
	struct export *export;
	struct hnodes *nodes;
	struct promises *promises;
	struct stats *stats;
	enum watch_mode mode;
	pid_t self;
	struct watch_group group;
	int mountinfo;	 /* -1 if mounts cannot be watched */
	int stop;	 /* eventfd */
	uint64_t rename; /* FAN_RENAME, or FAN_MOVE of older kernels */
	size_t marks_max;
	atomic_size_t marks;
	char *root; /* path of the export, for mountinfo */
	pthread_t thread;
	bool started;

	/* Covers reading events, breaking promises and queueing INVs, so that a fence knows that
	 * all three are done. */
	pthread_mutex_t mutex;
	_Atomic uint64_t drains; /* how many have begun; changes with the mutex held */
	/* mutex: */
	uint64_t seen; /* when the events at hand were read */
	unsigned char *buf;

	/*
	 * Fences are done one after the other, before `mutex`, and those that wait for one are
	 * done with the next: so they keep nobody else from `mutex`, however many come.
	 */
	pthread_mutex_t fencing;
	_Atomic uint64_t fences; /* how many have begun; changes with fencing held */
	/* fencing: */
	uint64_t mounts;   /* fingerprint of the mounts inside */
	atomic_uint below; /* how many mounts inside are not that of the root; read by anybody */
};

/* ---- one event ---- */

struct event_object {
	const void *fsid;
	const struct file_handle *handle;
	const char *name; /* an entry's, if handle is the directory's; else NULL */
};

struct event {
	uint64_t mask;
	struct event_object dir, object, from, to;
};

/* False also for ".": such an event is about the directory itself. */
static bool is_name(const struct event_object *o)
{
	return o->name != NULL && strcmp(o->name, ".") != 0;
}

static void broke(struct watch *w, const struct event_object *o, unsigned class)
{
	const struct file_handle *h = o->handle;
	const char *name = class & INV_NAME ? o->name : NULL;
	uint32_t at = 0;
	struct hnode *n;

	if (h == NULL)
		return;
	while ((n = hnodes_find_event(w->nodes, o->fsid, h->handle_type, h->f_handle,
				      h->handle_bytes, &at)) != NULL) {
		promises_break(w->promises, n, class, name, w->seen);
		hnode_unref(w->nodes, n);
	}
}

static void broke_name(struct watch *w, const struct event_object *o)
{
	broke(w, o, is_name(o) ? INV_ATTR | INV_NAME : INV_ATTR);
}

/* Notes the new place of a renamed object, which the event has only if that directory is
 * watched. */
static void moved(struct watch *w, const struct event *e)
{
	const struct event_object *to = e->mask & FAN_MOVED_TO ? &e->dir : &e->to;
	const struct file_handle *h = e->object.handle;
	uint32_t at = 0;
	struct hnode *n;

	hnodes_moved(w->nodes, (e->mask & FAN_ONDIR) != 0);
	if (h == NULL)
		return;
	while ((n = hnodes_find_event(w->nodes, e->object.fsid, h->handle_type, h->f_handle,
				      h->handle_bytes, &at)) != NULL) {
		hnode_moved(w->nodes, n, (e->mask & FAN_ONDIR) != 0, to->handle, to->name);
		hnode_unref(w->nodes, n);
	}
}

static void handle_event(struct watch *w, const struct event *e)
{
	unsigned class = INV_ATTR;

	if (e->mask &
	    (FAN_MODIFY | FAN_CLOSE_WRITE)) /* stores of mmap and AIO show at close only */
		class |= INV_DATA;
	if (e->mask & (FAN_RENAME | FAN_MOVED_FROM | FAN_MOVED_TO)) {
		moved(w, e);
		if (w->mode == WATCH_OBJECTS)
			class |= INV_DATA; /* the old directory's mark sees writes no more */
	}
	if (!promises_wanted(w->promises))
		return;
	if (e->mask & (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO))
		broke_name(w, &e->dir);
	broke_name(w, &e->from);
	broke_name(w, &e->to);
	broke(w, &e->object, class);
	if (e->object.handle == NULL && !is_name(&e->dir))
		broke(w, &e->dir, class);
}

static void parse_info(const struct fanotify_event_info_fid *info, struct event *e)
{
	struct event_object o = {.fsid = &info->fsid,
				 .handle = (const struct file_handle *)info->handle};

	switch (info->hdr.info_type) {
	case FAN_EVENT_INFO_TYPE_FID:
		e->object = o;
		return;
	case FAN_EVENT_INFO_TYPE_DFID_NAME:
	case FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
	case FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
		o.name = (const char *)o.handle->f_handle + o.handle->handle_bytes;
		break;
	case FAN_EVENT_INFO_TYPE_DFID:
		break;
	default:
		return;
	}
	*(info->hdr.info_type == FAN_EVENT_INFO_TYPE_OLD_DFID_NAME   ? &e->from
	  : info->hdr.info_type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME ? &e->to
								     : &e->dir) = o;
}

/* Changes have been missed: no promise and no remembered place is sure any more. */
static void lost(struct watch *w)
{
	hnodes_lost(w->nodes);
	promises_reset(w->promises);
}

/* p: the information records behind m. */
static void handle_metadata(struct watch *w, const struct fanotify_event_metadata *m,
			    const unsigned char *p)
{
	const unsigned char *end = p - m->metadata_len + m->event_len;
	struct event e = {.mask = m->mask};

	if (m->mask & FAN_Q_OVERFLOW) {
		log_notice("more changes on the host at once than the kernel queues (%zu): all "
			   "clients look at everything again",
			   w->group.queue_max);
		stats_add(w->stats, STAT_server_overflows, 1);
		lost(w);
		return;
	}
	stats_add(w->stats, m->pid == w->self ? STAT_server_events_own : STAT_server_events, 1);
	if (m->pid == w->self)
		return;
	while (p < end) {
		const struct fanotify_event_info_fid *info = (const void *)p;

		parse_info(info, &e);
		p += info->hdr.len;
	}
	handle_event(w, &e);
}

/* ---- reading ---- */

/* Events are aligned to 4 bytes, less than their type needs, so each one is copied. */
static size_t handle_buffer(struct watch *w, size_t len)
{
	size_t events = 0;

	for (const unsigned char *p = w->buf, *end = p + len; p < end; events++) {
		struct fanotify_event_metadata m;

		memcpy(&m, p, sizeof(m));
		handle_metadata(w, &m, p + m.metadata_len);
		p += m.event_len;
	}
	return events;
}

/*
 * Reads the events in the queue. Processes may go on making events, so reading stops after as
 * many as the queue can hold: all that were there at the beginning have then been read.
 */
static void drain_locked(struct watch *w)
{
	size_t events = 0;

	atomic_fetch_add(&w->drains, 1);
	while (events <= w->group.queue_max) {
		ssize_t len = read(w->group.fd, w->buf, BUFFER_SIZE);

		if (len < 0 && errno == EINTR)
			continue;
		if (len <= 0) {
			if (len < 0 && errno != EAGAIN) {
				/* an event is lost: the kernel could not make its descriptor or
				 * handle */
				log_debug("reading events: %m");
				lost(w);
			}
			return;
		}
		w->seen = promise_clock();
		events += handle_buffer(w, (size_t)len);
	}
}

/* ---- mounts ---- */

static bool inside(const struct watch *w, const char *path)
{
	size_t len = strlen(w->root);

	return strncmp(path, w->root, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* A hash over the mounts inside the export: their ids and places. */
static uint64_t fingerprint(const struct watch *w, unsigned *ret_below)
{
	struct mountinfo m CLEANUP(mountinfo_close) = mountinfo_open(MOUNTINFO_SELF);
	uint64_t sum = 0;

	*ret_below = 0;
	while (mountinfo_next(&m) > 0) {
		if (inside(w, m.path)) {
			sum += identity_handle_hash(0, m.line, (uint32_t)strlen(m.line));
			*ret_below += strcmp(m.path, w->root) != 0;
		}
	}
	return sum;
}

/* fencing is held: that file takes long to read. */
static void check_mounts_locked(struct watch *w)
{
	unsigned below;
	uint64_t now = fingerprint(w, &below);

	atomic_store(&w->below, below);
	if (now == w->mounts)
		return;
	w->mounts = now;
	lost(w);
}

/* When this returns, every rename from before the call is known. If another thread has begun to
 * read events since the call, that thread has read them. */
static void catch_up(void *arg)
{
	struct watch *w = arg;
	uint64_t before = w->drains;

	SCOPE_LOCK(&w->mutex);
	if (w->drains == before)
		drain_locked(w);
}

bool watch_single(struct watch *w)
{
	if (!w->started || w->mountinfo < 0)
		return false;
	return atomic_load(&w->below) == 0;
}

static void drain(struct watch *w)
{
	SCOPE_LOCK(&w->mutex);
	drain_locked(w);
}

void watch_drain(struct watch *w)
{
	if (w->started)
		drain(w);
}

void watch_fence(struct watch *w)
{
	if (!w->started)
		return;
	uint64_t before = w->fences;

	SCOPE_LOCK(&w->fencing);
	if (w->fences != before) /* another one has begun since the call, and is done */
		return;
	atomic_fetch_add(&w->fences, 1);
	watch_drain(w);
	/* In any case: poll(2) does not report that a mount has moved with a directory above it. */
	check_mounts_locked(w);
}

static void *watch_main(void *arg)
{
	struct watch *w = arg;
	struct pollfd p[] = {
		{.fd = w->group.fd, .events = POLLIN},
		{.fd = w->stop, .events = POLLIN},
		{.fd = w->mountinfo, .events = POLLPRI},
	};

	while (p[1].revents == 0) {
		if (poll(p, 3, -1) < 0)
			continue;      /* EINTR */
		if (p[0].revents != 0) /* `started` may not be set yet */
			drain(w);
		if (p[2].revents != 0) {
			SCOPE_LOCK(&w->fencing);
			check_mounts_locked(w);
		}
	}
	return NULL;
}

/* ---- marks ---- */

static bool mark(const struct watch *w, unsigned flags, uint64_t mask, int fd)
{
	char path[EXPORT_PROC_PATH_MAX];

	return fanotify_mark(w->group.fd, flags, mask, AT_FDCWD, export_proc_path(fd, path)) == 0;
}

/* 0 or -errno */
static int mark_whole(const struct watch *w, int fd)
{
	uint64_t mask = MASK_COMMON | w->rename;

	if (w->group.mark != NULL)
		return w->group.mark(w->group.mark_arg, mask, fd);
	return mark(w, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, fd) ? 0 : -errno;
}

static bool mark_filesystem(void *arg, int fd)
{
	struct watch *w = arg;
	int r = mark_whole(w, fd);

	if (r == -EINVAL && w->rename == FAN_RENAME) {
		w->rename = FAN_MOVED_FROM | FAN_MOVED_TO;
		r = mark_whole(w, fd);
	}
	return r == 0;
}

/* Marks a directory with its entries, or any other object. */
static bool mark_object(struct watch *w, unsigned flags, int fd)
{
	return mark(w, flags, MASK_COMMON | FAN_EVENT_ON_CHILD | w->rename, fd) ||
	       (errno == ENOTDIR && mark(w, flags, MASK_FILE, fd));
}

static void unmark_object(void *arg, int fd)
{
	struct watch *w = arg;

	(void)mark_object(w, FAN_MARK_REMOVE, fd);
	atomic_fetch_sub(&w->marks, 1);
}

bool watch_cover(struct watch *w, struct hnode *n, int fd)
{
	if (w->mode != WATCH_OBJECTS)
		return w->mode == WATCH_FILESYSTEMS && hnode_watched(w->nodes, n);
	if (hnode_covered(w->nodes, n))
		return true;
	if (!hnode_watchable(w->nodes, n))
		return false;
	if (atomic_fetch_add(&w->marks, 1) < w->marks_max && mark_object(w, FAN_MARK_ADD, fd)) {
		int r = hnode_marked(w->nodes, n, fd);

		if (r == 0)
			return true;
		if (r < 0)
			(void)mark_object(w, FAN_MARK_REMOVE, fd);
	}
	atomic_fetch_sub(&w->marks, 1);
	return hnode_covered(w->nodes, n);
}

bool watch_cover_found(struct watch *w, struct hnode *n, int fd, const struct attr *attr,
		       bool *ret_again)
{
	if (w->mode == WATCH_OBJECTS) {
		hnode_cover_by_parent(w->nodes, n, !S_ISDIR(attr->mode) && attr->nlink == 1);
		*ret_again = !hnode_covered(w->nodes, n);
	}
	return watch_cover(w, n, fd);
}

/* ---- setting up ---- */

static size_t read_number(const char *path, size_t otherwise)
{
	FILE *f = fopen(path, "re");
	size_t v;

	if (f == NULL)
		return otherwise;
	if (fscanf(f, "%zu", &v) != 1)
		v = otherwise;
	(void)fclose(f);
	return v;
}

static int root_path(struct watch *w)
{
	char link[EXPORT_PROC_PATH_MAX], path[PATH_MAX];
	ssize_t n =
		readlink(export_proc_path(export_root(w->export), link), path, sizeof(path) - 1);

	if (n < 0)
		return -errno;
	path[n == 1 ? 0 : n] = '\0'; /* "/" becomes "": every path is inside */
	w->root = strdup(path);
	return w->root == NULL ? -ENOMEM : 0;
}

static size_t max_marks(const struct watch *w)
{
	size_t n = w->group.user_marks / MARKS_SHARE;
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur / MARKS_SHARE < n)
		n = rl.rlim_cur / MARKS_SHARE;
	return n < MARKS_MAX ? n : MARKS_MAX;
}

static int choose_mode(struct watch *w)
{
	int root = export_root(w->export);

	filesystems_watch(export_filesystems(w->export), mark_filesystem, w);
	if (!filesystems_watchable(export_filesystems(w->export), 0)) /* the root's */
		return -EOPNOTSUPP;
	if (filesystems_watched(export_filesystems(w->export), 0)) {
		w->mode = WATCH_FILESYSTEMS;
		hnodes_on_use(w->nodes, catch_up, w);
		return 0;
	}
	filesystems_watch(export_filesystems(w->export), NULL, NULL);
	w->rename = FAN_RENAME;
	if (!mark_object(w, FAN_MARK_ADD, root)) {
		if (errno != EINVAL)
			return -errno;
		w->rename = FAN_MOVED_FROM | FAN_MOVED_TO;
		if (!mark_object(w, FAN_MARK_ADD, root))
			return -errno;
	}
	(void)mark_object(w, FAN_MARK_REMOVE, root);
	w->marks_max = max_marks(w);
	hnodes_on_unmark(w->nodes, unmark_object, w);
	w->mode = WATCH_OBJECTS;
	return 0;
}

int watch_group_open(struct watch_group *ret)
{
	const unsigned flags =
		FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_DFID_NAME_TARGET;
	int fd = fanotify_init(flags, O_RDONLY | O_CLOEXEC | O_LARGEFILE);

	if (fd < 0)
		return -errno;
	*ret = (struct watch_group){
		.fd = fd,
		.queue_max = read_number("/proc/sys/fs/fanotify/max_queued_events", 16384) + 1,
		.user_marks = read_number("/proc/sys/fs/fanotify/max_user_marks", 8192),
	};
	return 0;
}

static int take_group(struct watch *w, const struct watch_group *group)
{
	if (group == NULL)
		return watch_group_open(&w->group);
	w->group = *group;
	w->group.fd = fcntl(group->fd, F_DUPFD_CLOEXEC, 3);
	return w->group.fd < 0 ? -errno : 0;
}

static int start(struct watch *w, const struct watch_group *group)
{
	int r = take_group(w, group);

	if (r == 0)
		r = choose_mode(w);
	if (r == 0)
		r = root_path(w);
	if (r < 0)
		return r;
	w->mountinfo = open(MOUNTINFO_SELF, O_RDONLY | O_CLOEXEC);
	unsigned below;
	w->mounts = fingerprint(w, &below);
	atomic_store(&w->below, below);
	w->buf = malloc(BUFFER_SIZE);
	w->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->buf == NULL || w->stop < 0)
		return w->buf == NULL ? -ENOMEM : -errno;
	r = -pthread_create(&w->thread, NULL, watch_main, w);
	w->started = r == 0;
	return r;
}

static void log_mode(const struct watch *w, int error)
{
	if (w->mode == WATCH_FILESYSTEMS)
		log_info("changes on the host are seen: file system marks of fanotify");
	else if (w->mode == WATCH_OBJECTS)
		log_notice("changes on the host are seen in up to %zu directories; without "
			   "CAP_SYS_ADMIN, or on this file system, fanotify marks no more",
			   w->marks_max);
	else
		log_notice("changes on the host are not seen, clients look again after their "
			   "timeouts: fanotify: %s",
			   strerror(-error));
}

int watch_new(struct export *e, struct hnodes *nodes, struct promises *promises,
	      struct stats *stats, const struct watch_group *group, struct watch **ret)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return -ENOMEM;
	*w = (struct watch){
		.export = e,
		.nodes = nodes,
		.promises = promises,
		.stats = stats,
		.self = getpid(),
		.group.fd = -1,
		.mountinfo = -1,
		.stop = -1,
		.rename = FAN_RENAME,
	};
	(void)pthread_mutex_init(&w->mutex, NULL);
	(void)pthread_mutex_init(&w->fencing, NULL);
	int r = start(w, group);
	if (r < 0) {
		filesystems_watch(export_filesystems(e), NULL, NULL);
		hnodes_on_use(nodes, NULL, NULL);
		w->mode = WATCH_NONE;
	}
	log_mode(w, r);
	*ret = w;
	return 0;
}

void watch_free(struct watch *w)
{
	const uint64_t one = 1;

	if (w == NULL)
		return;
	if (w->started) {
		if (write(w->stop, &one, sizeof(one)) < 0) {
			/* cannot fail: the eventfd's counter is 0 */
		}
		(void)pthread_join(w->thread, NULL);
	}
	hnodes_on_use(w->nodes, NULL, NULL);
	cleanup_close(&w->group.fd);
	cleanup_close(&w->mountinfo);
	cleanup_close(&w->stop);
	(void)pthread_mutex_destroy(&w->fencing);
	(void)pthread_mutex_destroy(&w->mutex);
	free(w->buf);
	free(w->root);
	free(w);
}

enum watch_mode watch_mode(const struct watch *w)
{
	return w->mode;
}
