#include "core/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cleanup.h"

struct segment {
	char magic[8];
	uint32_t counters, offset;
	struct {
		char name[48], unit[16], text[128];
	} info[STAT_COUNT];
	_Alignas(64) _Atomic uint64_t value[STAT_COUNT];
};

struct stats {
	struct segment *seg;
};

static const struct {
	const char *name, *unit, *text;
} counters[STAT_COUNT] = {
#define COUNTER(name, unit, text) {#name, #unit, text},
#include "core/counters.def"
#undef COUNTER
};

static void describe(struct segment *seg)
{
	seg->counters = STAT_COUNT;
	seg->offset = (uint32_t)offsetof(struct segment, value);
	for (size_t i = 0; i < STAT_COUNT; i++) {
		(void)snprintf(seg->info[i].name, sizeof(seg->info[i].name), "%s",
			       counters[i].name);
		(void)snprintf(seg->info[i].unit, sizeof(seg->info[i].unit), "%s",
			       counters[i].unit);
		(void)snprintf(seg->info[i].text, sizeof(seg->info[i].text), "%s",
			       counters[i].text);
		/* the first underscore parts the section from the rest */
		char *sep = strchr(seg->info[i].name, '_');
		if (sep != NULL)
			*sep = '.';
	}
	memcpy(seg->magic, STATS_MAGIC, sizeof(seg->magic));
}

int stats_new(const char *path, struct stats **ret)
{
	CLEANUP_CLOSE int fd = -1;
	int flags = MAP_SHARED;

	if (path != NULL) {
		if (unlink(path) < 0 && errno != ENOENT)
			return -errno;
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (fd < 0)
			return -errno;
		/* allocated, not sparse: a full disk must not be a SIGBUS later */
		int r = posix_fallocate(fd, 0, sizeof(struct segment));
		if (r != 0)
			return -r;
	} else {
		flags |= MAP_ANONYMOUS;
	}
	struct stats *s = malloc(sizeof(*s));
	if (s == NULL)
		return -ENOMEM;
	s->seg = mmap(NULL, sizeof(struct segment), PROT_READ | PROT_WRITE, flags, fd, 0);
	if (s->seg == MAP_FAILED) {
		free(s);
		return -errno;
	}
	describe(s->seg);
	*ret = s;
	return 0;
}

void stats_free(struct stats *s)
{
	if (s == NULL)
		return;
	(void)munmap(s->seg, sizeof(struct segment));
	free(s);
}

void stats_add(struct stats *s, enum stat_id id, uint64_t n)
{
	if (s != NULL)
		atomic_fetch_add_explicit(&s->seg->value[id], n, memory_order_relaxed);
}

void stats_sub(struct stats *s, enum stat_id id, uint64_t n)
{
	if (s != NULL)
		atomic_fetch_sub_explicit(&s->seg->value[id], n, memory_order_relaxed);
}

uint64_t stats_get(const struct stats *s, enum stat_id id)
{
	return s == NULL ? 0 : atomic_load_explicit(&s->seg->value[id], memory_order_relaxed);
}
