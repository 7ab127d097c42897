/*
 * The segment: its layout, its file, and the lock on the file.
 */
#include "core/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/stats_priv.h"

#define NAMES_MAX 1000 /* files that one process may leave behind */

struct stats_row {
	const char *name, *type, *unit, *text;
};

static const struct stats_row scalars[STAT_COUNT] = {
#define COUNTER(name, unit, text) {#name, "counter", #unit, text},
#define GAUGE(name, unit, text)	  {#name, "gauge", #unit, text},
#include "core/counters.def"
};

/* One row more than there are, because a side without rows would make an empty array. */
static const struct stats_row hists[HIST_COUNT + 1] = {
#define HISTOGRAM(name, unit, text) {#name, "hist", #unit, text},
#include "core/counters.def"
};

static const struct stats_row texts[TEXT_COUNT + 1] = {
#define TEXT(name, text) {#name, "text", "", text},
#include "core/counters.def"
};

/* Rows first up to end of a table, by side. */
struct row_range {
	uint32_t first, end;
};

static struct row_range rows_of(enum stats_side side, uint32_t common, uint32_t server,
				uint32_t all)
{
	return side == STATS_MOUNT ? (struct row_range){0, server}
				   : (struct row_range){common, all};
}

/* ---- describing ---- */

static void describe(struct stats_info *info, const struct stats_row *row)
{
	(void)snprintf(info->name, sizeof(info->name), "%s", row->name);
	(void)snprintf(info->type, sizeof(info->type), "%s", row->type);
	(void)snprintf(info->unit, sizeof(info->unit), "%s", row->unit);
	(void)snprintf(info->text, sizeof(info->text), "%s", row->text);
}

/* A row of a table: the first underscore parts the section from the rest. */
static void describe_dotted(struct stats_info *info, const struct stats_row *row)
{
	describe(info, row);
	char *sep = strchr(info->name, '_');
	if (sep != NULL)
		*sep = '.';
}

/* ---- laying out ---- */

/* The segment while it is laid out, in two passes: the first without memory, to find the size. */
struct layout {
	char *base; /* NULL: the first pass */
	size_t at;
	struct stats_section section[STATS_SECTIONS_MAX];
	uint32_t sections;
};

static size_t place(struct layout *l, size_t size)
{
	size_t at = (l->at + 63) & ~(size_t)63;

	l->at = at + size;
	return at;
}

static struct stats_info *add_section(struct layout *l, const char *name, uint32_t rows,
				      uint32_t stride, size_t offset, bool named)
{
	size_t info = named ? place(l, rows * sizeof(struct stats_info)) : 0;
	struct stats_section *s = &l->section[l->sections++];

	*s = (struct stats_section){
		.rows = rows, .stride = stride, .info = (uint32_t)info, .offset = (uint32_t)offset};
	(void)snprintf(s->name, sizeof(s->name), "%s", name);
	return named && l->base != NULL ? (struct stats_info *)(void *)(l->base + info) : NULL;
}

static size_t add_table(struct layout *l, const char *name, const struct stats_row *rows,
			struct row_range range, uint32_t all, size_t stride)
{
	size_t at = place(l, all * stride);
	struct stats_info *info = add_section(l, name, range.end - range.first, (uint32_t)stride,
					      at + range.first * stride, true);

	for (uint32_t i = range.first; info != NULL && i < range.end; i++)
		describe_dotted(&info[i - range.first], &rows[i]);
	return at;
}

static size_t add_ops(struct layout *l, const char *name, const struct stats_op_name *names,
		      uint32_t rows)
{
	size_t at = place(l, rows * sizeof(struct stats_op));
	struct stats_info *info = add_section(l, name, rows, sizeof(struct stats_op), at, true);

	for (uint32_t i = 0; info != NULL && i < rows; i++)
		describe(&info[i], &(struct stats_row){names[i].name, "op", "ns", names[i].text});
	return at;
}

static size_t add_rows(struct layout *l, const char *name, uint32_t rows, size_t stride)
{
	size_t at = place(l, rows * stride);

	(void)add_section(l, name, rows, (uint32_t)stride, at, false);
	return at;
}

#define AT(type, at) ((type *)(void *)(s->base + (at)))

/* Returns the size; where base is, fills it in and points s into it. */
static size_t lay_out(struct stats *s)
{
	struct layout l = {.base = s->base};
	struct row_range scalar = rows_of(s->side, STAT_COMMON, STAT_SERVER, STAT_COUNT);
	uint32_t count = scalar.end - scalar.first, zero = 0;
	bool mount = s->side == STATS_MOUNT;

	size_t head = place(&l, 16);
	size_t info = 16, directory = info + count * sizeof(struct stats_info);
	l.at = directory + 8 + STATS_SECTIONS_MAX * sizeof(struct stats_section);
	size_t value = place(&l, STAT_COUNT * sizeof(uint64_t));
	size_t hist =
		add_table(&l, "hist", hists, rows_of(s->side, HIST_COMMON, HIST_SERVER, HIST_COUNT),
			  HIST_COUNT, sizeof(struct stats_hist));
	size_t text =
		add_table(&l, "text", texts, rows_of(s->side, TEXT_COMMON, TEXT_SERVER, TEXT_COUNT),
			  TEXT_COUNT, sizeof(struct stats_text));
	size_t rpc = add_ops(&l, "rpc", stats_rpc_names, stats_rpc_rows);
	size_t fuse = mount ? add_ops(&l, "fuse", stats_fuse_names, stats_fuse_rows) : 0;
	size_t pending =
		mount ? add_rows(&l, "pending", STATS_PENDING, sizeof(struct stats_pending)) : 0;
	size_t process =
		mount ? add_rows(&l, "process", STATS_PROCESSES, sizeof(struct stats_process)) : 0;
	if (s->base == NULL)
		return l.at;

	for (uint32_t i = 0; i < count; i++)
		describe_dotted(AT(struct stats_info, info) + i, &scalars[scalar.first + i]);
	memcpy(s->base + directory, &l.sections, 4);
	memcpy(s->base + directory + 4, &zero, 4);
	memcpy(s->base + directory + 8, l.section, sizeof(l.section));
	s->value = AT(_Atomic uint64_t, value);
	s->hist = AT(struct stats_hist, hist);
	s->text = AT(struct stats_text, text);
	s->rpc = AT(struct stats_op, rpc);
	s->fuse = mount ? AT(struct stats_op, fuse) : NULL;
	s->pending = mount ? AT(struct stats_pending, pending) : NULL;
	s->process = mount ? AT(struct stats_process, process) : NULL;
	uint32_t first = (uint32_t)(value + scalar.first * sizeof(uint64_t));
	memcpy(s->base + head + 8, &count, 4);
	memcpy(s->base + head + 12, &first, 4);
	memcpy(s->base + head, STATS_MAGIC,
	       8); /* written last: a reader that sees the magic sees the rest */
	return l.at;
}

/* ---- life ---- */

static void introduce(struct stats *s)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	stats_set(s, STAT_proc_pid, (uint64_t)getpid());
	stats_set(s, STAT_proc_started, (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec);
	stats_set(s, STAT_proc_heartbeat, stats_now());
}

/* Takes a lock of the open file description, which a child that inherits the descriptor has,
 * too. */
static int lock_file(int fd)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

/* Only a lock for writing counts: a program that may only read the file cannot take one. */
bool stats_locked(int fd)
{
	struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

/* Takes over fd, also on failure; -1: private memory. */
static int stats_map(int fd, enum stats_side side, struct stats **ret)
{
	struct stats *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		cleanup_close(&fd);
		return -ENOMEM;
	}
	s->side = side;
	s->fd = fd;
	s->size = lay_out(s);
	(void)pthread_mutex_init(&s->texts, NULL);
	/* allocated, not sparse: otherwise a full disk would cause a SIGBUS later */
	int r = fd >= 0 ? -posix_fallocate(fd, 0, (off_t)s->size) : 0;
	void *p = r == 0 ? mmap(NULL, s->size, PROT_READ | PROT_WRITE,
				MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0)
			 : MAP_FAILED;
	if (r == 0 && p == MAP_FAILED)
		r = -errno;
	if (r < 0) {
		stats_free(s);
		return r;
	}
	s->base = p;
	(void)lay_out(s);
	introduce(s);
	*ret = s;
	return 0;
}

/* Locks the file before others may open it, because they could prevent that by a lock for
 * reading. */
static int create(const char *path)
{
	const mode_t mask = umask(077);
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = fd < 0 ? -errno : lock_file(fd);

	(void)umask(mask);
	if (r == 0 && fchmod(fd, 0644 & ~mask) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		(void)unlink(path);
	return r < 0 ? r : take_fd(&fd);
}

/* Makes the segment in a new file. The file is removed again if there is no room for the
 * segment. */
static int map_file(int fd, const char *path, enum stats_side side, struct stats **ret)
{
	int r = stats_map(fd, side, ret);

	if (r < 0)
		(void)unlink(path);
	return r;
}

/* Makes the file known to s; on failure s is gone. */
static int keep_path(struct stats *s, const char *path, bool remove, struct stats **ret)
{
	s->path = strdup(path);
	if (s->path == NULL) {
		stats_free(s);
		(void)unlink(path);
		return -ENOMEM;
	}
	s->remove = remove;
	*ret = s;
	return 0;
}

int stats_new_side(const char *path, enum stats_side side, struct stats **ret)
{
	struct stats *s;

	if (path == NULL)
		return stats_map(-1, side, ret);
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	int fd = create(path);
	int r = fd < 0 ? fd : map_file(fd, path, side, &s);
	return r < 0 ? r : keep_path(s, path, false, ret);
}

int stats_new(const char *path, struct stats **ret)
{
	return stats_new_side(path, STATS_MOUNT, ret);
}

int stats_directory(char *buf, size_t len)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	int n;

	if (geteuid() == 0)
		n = snprintf(buf, len, "/run/vsockfs");
	else if (runtime != NULL && runtime[0] == '/')
		n = snprintf(buf, len, "%s/vsockfs", runtime);
	else
		return -ENOENT;
	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

/* Removes a file whose daemon has died; false if its daemon lives. */
static bool clear_away(const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT;
	return !stats_locked(fd) && unlink(path) == 0;
}

/*
 * Makes dir unless it exists. No file is put into a directory in which other users may
 * make and remove files, as in an XDG_RUNTIME_DIR that is /tmp.
 */
static int own_directory(const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 ? 0 : -EPERM;
}

/* Process ids repeat among pid namespaces that share /run, and after a crash. */
int stats_new_default(enum stats_side side, struct stats **ret)
{
	char dir[256], path[320];
	struct stats *s;
	int fd = -EEXIST;

	int r = stats_directory(dir, sizeof(dir));
	if (r == 0)
		r = own_directory(dir);
	if (r < 0)
		return r;
	for (int i = 0; fd == -EEXIST && i < NAMES_MAX; i++) {
		int n = i == 0 ? snprintf(path, sizeof(path), "%s/%d.stats", dir, (int)getpid())
			       : snprintf(path, sizeof(path), "%s/%d-%d.stats", dir, (int)getpid(),
					  i);

		if (n < 0 || (size_t)n >= sizeof(path))
			return -ENAMETOOLONG;
		if (clear_away(path))
			fd = create(path);
	}
	r = fd < 0 ? fd : map_file(fd, path, side, &s);
	return r < 0 ? r : keep_path(s, path, true, ret);
}

const char *stats_path(const struct stats *s)
{
	return s != NULL ? s->path : NULL;
}

void stats_free(struct stats *s)
{
	if (s == NULL)
		return;
	if (s->remove)
		(void)unlink(s->path);
	if (s->base != NULL)
		(void)munmap(s->base, s->size);
	cleanup_close(&s->fd);
	(void)pthread_mutex_destroy(&s->texts);
	free(s->path);
	free(s);
}
