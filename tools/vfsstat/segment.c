#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/stats.h"

#define SIZE_LIMIT   ((size_t)16 << 20)
#define HANGS_AFTER  UINT64_C(3000000000) /* ns; it shows signs of life every second */
#define DIRECTORY_AT 16

struct segment {
	int fd;
	size_t size;
	const _Atomic uint64_t *map;
};

struct snapshot {
	char *copy;
	size_t size;
	uint64_t now, real;
	bool locked; /* its daemon lives */
	uint32_t scalars, values;
	uint32_t sections;
	struct stats_section section[STATS_SECTIONS_MAX];
};

/* ---- the file ---- */

int segment_open(const char *path, struct segment **ret)
{
	/* O_NONBLOCK: whatever lies there, this does not wait */
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < 64 || (size_t)st.st_size > SIZE_LIMIT)
		return -EPROTO;
	struct segment *g = calloc(1, sizeof(*g));
	if (g == NULL)
		return -ENOMEM;
	g->size = (size_t)st.st_size & ~(size_t)7;
	void *map = mmap(NULL, g->size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		int e = -errno;

		free(g);
		return e;
	}
	g->map = map;
	g->fd = take_fd(&fd);
	struct snapshot *s = segment_take(g);
	if (s == NULL || s->sections == 0) {
		snapshot_free(s);
		segment_close(g);
		return s == NULL ? -ENOMEM : -EPROTO;
	}
	snapshot_free(s);
	*ret = g;
	return 0;
}

void segment_close(struct segment *g)
{
	if (g == NULL)
		return;
	(void)munmap((void *)(uintptr_t)g->map, g->size);
	cleanup_close(&g->fd);
	free(g);
}

/* ---- snapshots ---- */

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool inside(const struct snapshot *s, uint64_t at, uint64_t rows, uint64_t stride)
{
	return at % 4 == 0 && stride % 4 == 0 && at <= s->size &&
	       (stride == 0 || rows <= (s->size - at) / stride);
}

static void end_names(struct snapshot *s, uint32_t at, uint32_t rows)
{
	for (uint32_t i = 0; i < rows; i++) {
		struct stats_info *info = (struct stats_info *)(void *)(s->copy + at) + i;

		info->name[sizeof(info->name) - 1] = '\0';
		info->type[sizeof(info->type) - 1] = '\0';
		info->unit[sizeof(info->unit) - 1] = '\0';
		info->text[sizeof(info->text) - 1] = '\0';
	}
}

/* Checks a section and makes its texts end. */
static bool accept(struct snapshot *s, struct stats_section *t)
{
	t->name[sizeof(t->name) - 1] = '\0';
	if (!inside(s, t->offset, t->rows, t->stride) ||
	    !inside(s, t->info, t->info != 0 ? t->rows : 0, sizeof(struct stats_info)))
		return false;
	if (t->info != 0)
		end_names(s, t->info, t->rows);
	if (strcmp(t->name, "text") == 0 && t->stride < sizeof(struct stats_text))
		return false;
	for (uint32_t i = 0; strcmp(t->name, "text") == 0 && i < t->rows; i++) {
		struct stats_text *text = (void *)(s->copy + t->offset + (size_t)i * t->stride);

		text->text[0][STATS_TEXT_MAX - 1] = text->text[1][STATS_TEXT_MAX - 1] = '\0';
	}
	return true;
}

/* Leaves sections at 0 if this is none. */
static void parse(struct snapshot *s)
{
	uint32_t n = 0;

	if (memcmp(s->copy, STATS_MAGIC, 8) != 0)
		return;
	memcpy(&s->scalars, s->copy + 8, 4);
	memcpy(&s->values, s->copy + 12, 4);
	size_t at = DIRECTORY_AT + (size_t)s->scalars * sizeof(struct stats_info);
	if (!inside(s, DIRECTORY_AT, s->scalars, sizeof(struct stats_info)) ||
	    !inside(s, s->values, s->scalars, sizeof(uint64_t)) || s->values % 8 != 0 ||
	    !inside(s, at, 1, 8))
		return;
	memcpy(&n, s->copy + at, 4);
	if (n > STATS_SECTIONS_MAX || !inside(s, at + 8, n, sizeof(struct stats_section)))
		return;
	end_names(s, DIRECTORY_AT, s->scalars);
	memcpy(s->section, s->copy + at + 8, n * sizeof(struct stats_section));
	for (uint32_t i = 0; i < n; i++)
		if (!accept(s, &s->section[i]))
			return;
	s->sections = n;
}

struct snapshot *segment_take(struct segment *g)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->copy = malloc(g->size)) == NULL) {
		free(s);
		return NULL;
	}
	s->size = g->size;
	s->now = clock_ns(CLOCK_MONOTONIC);
	s->real = clock_ns(CLOCK_REALTIME);
	for (size_t i = 0; i < g->size / 8; i++) {
		uint64_t v = atomic_load_explicit(&g->map[i], memory_order_relaxed);

		memcpy(s->copy + 8 * i, &v, 8);
	}
	s->locked = stats_locked(g->fd);
	parse(s);
	return s;
}

void snapshot_free(struct snapshot *s)
{
	if (s == NULL)
		return;
	free(s->copy);
	free(s);
}

uint64_t snapshot_time(const struct snapshot *s)
{
	return s->now;
}

/* ---- rows ---- */

struct rows snapshot_rows(const struct snapshot *s, const char *section, size_t min)
{
	if (strcmp(section, "scalar") == 0)
		return (struct rows){.info = (const void *)(s->copy + DIRECTORY_AT),
				     .first = s->copy + s->values,
				     .count = s->scalars,
				     .stride = sizeof(uint64_t)};
	for (uint32_t i = 0; i < s->sections; i++) {
		const struct stats_section *t = &s->section[i];

		if (strcmp(t->name, section) == 0 && t->stride >= min)
			return (struct rows){
				.info = t->info != 0 ? (const void *)(s->copy + t->info) : NULL,
				.first = s->copy + t->offset,
				.count = t->rows,
				.stride = t->stride};
	}
	return (struct rows){0};
}

const void *rows_at(const struct rows *r, uint32_t i)
{
	return r->first + (size_t)i * r->stride;
}

static const void *find(const struct snapshot *s, const char *section, size_t min, const char *name)
{
	struct rows r = snapshot_rows(s, section, min);

	for (uint32_t i = 0; r.info != NULL && i < r.count; i++)
		if (strcmp(r.info[i].name, name) == 0)
			return rows_at(&r, i);
	return NULL;
}

uint64_t snapshot_value(const struct snapshot *s, const char *name)
{
	const uint64_t *v = find(s, "scalar", sizeof(uint64_t), name);

	return v != NULL ? *v : 0;
}

const char *stats_text_now(const struct stats_text *t)
{
	return t->text[t->active & 1];
}

const char *snapshot_text(const struct snapshot *s, const char *name)
{
	const struct stats_text *t = find(s, "text", sizeof(*t), name);

	return t != NULL ? stats_text_now(t) : "";
}

bool snapshot_is_mount(const struct snapshot *s)
{
	return snapshot_rows(s, "fuse", 0).count > 0;
}

/* ---- the daemon ---- */

/* The rest of /proc/PID/stat behind the command; false if this is no process of ours. */
static bool read_stat(uint64_t pid, char *buf, size_t len)
{
	char path[40], line[512];

	(void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/stat", pid);
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : -1;
	if (n <= 0)
		return false;
	line[n] = '\0';
	const char *name = strchr(line, '('), *end = strrchr(line, ')');
	/* another process may have the number, as after a crash or in another pid namespace */
	if (name == NULL || end == NULL || strncmp(name, "(vsockfs", 8) != 0)
		return false;
	(void)snprintf(buf, len, "%s", end + 1);
	return true;
}

enum daemon_state snapshot_daemon(const struct snapshot *s)
{
	char rest[512];

	if (!s->locked)
		return strcmp(snapshot_text(s, "conn.state"), "ended") == 0 ? DAEMON_ENDED
									    : DAEMON_DIED;
	if (read_stat(snapshot_value(s, "proc.pid"), rest, sizeof(rest)) &&
	    (strncmp(rest, " T", 2) == 0 || strncmp(rest, " t", 2) == 0))
		return DAEMON_STOPPED;
	uint64_t beat = snapshot_value(s, "proc.heartbeat");
	return beat != 0 && s->now > beat + HANGS_AFTER ? DAEMON_HANGS : DAEMON_RUNS;
}

const char *daemon_state_name(enum daemon_state state)
{
	static const char *const names[] = {"running", "stopped", "hangs", "ended", "died"};

	return names[state];
}

uint64_t snapshot_uptime(const struct snapshot *s)
{
	uint64_t started = snapshot_value(s, "proc.started");

	return s->real > started ? s->real - started : 0;
}

uint64_t snapshot_rss(const struct snapshot *s)
{
	char rest[512];
	unsigned long pages;

	if (!s->locked || !read_stat(snapshot_value(s, "proc.pid"), rest, sizeof(rest)))
		return 0;
	/* the 24th field, the 22nd of these (proc_pid_stat(5)) */
	if (sscanf(rest, "%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%lu",
		   &pages) != 1)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- what is pending ---- */

struct oldest snapshot_oldest(const struct snapshot *s)
{
	struct rows r = snapshot_rows(s, "pending", sizeof(struct stats_pending));
	struct rows fuse = snapshot_rows(s, "fuse", 0), rpc = snapshot_rows(s, "rpc", 0);
	const struct stats_pending *first = NULL;
	struct oldest o = {0};

	for (uint32_t i = 0; i < r.count; i++) {
		const struct stats_pending *p = rows_at(&r, i);

		if (p->unique != 0 && p->start != 0 && p->op < fuse.count &&
		    (first == NULL || p->start < first->start))
			first = p;
	}
	if (first == NULL || fuse.info == NULL)
		return o;
	o.exists = true;
	o.op = fuse.info[first->op].name;
	o.rpc = first->rpc > 0 && first->rpc <= rpc.count && rpc.info != NULL
			? rpc.info[first->rpc - 1].name
			: NULL;
	o.node = first->node;
	o.age = s->now > first->start ? s->now - first->start : 0;
	o.sent_age = first->sent != 0 && s->now > first->sent ? s->now - first->sent : 0;
	o.pid = first->pid;
	o.uid = first->uid;
	return o;
}

void command_name(uint32_t pid, const char *noted, char *buf, size_t len)
{
	char path[40];
	ssize_t n = -1;

	(void)snprintf(buf, len, "%s", noted[0] != '\0' ? noted : "-");
	(void)snprintf(path, sizeof(path), "/proc/%" PRIu32 "/comm", pid);
	CLEANUP_CLOSE int fd = noted[0] == '\0' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0)
		n = read(fd, buf, len - 1);
	if (n > 0)
		buf[n - 1] = '\0';
	for (char *p = buf; *p != '\0'; p++)
		if ((unsigned char)*p < ' ')
			*p = '?';
}
