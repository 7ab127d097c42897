#include "counters.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COUNTERS_MAX   256
#define SETTLE_STEP_NS 1000000L /* quiet for SETTLE_STEPS of these */
#define SETTLE_STEPS   5
#define SETTLE_MAX     2000

/* As the segment describes itself; it is read without a header of the project. */
struct info {
	char name[48], unit[16], text[128];
};
struct head {
	char magic[8];
	uint32_t counters, offset;
	struct info info[];
};

struct process {
	uint64_t voluntary, involuntary, cpu_ns;
};

struct counters {
	uint64_t value[COUNTERS_MAX];
	struct process process[COUNTERS_WATCH_MAX];
};

static const struct head *segment;
static pid_t watched[COUNTERS_WATCH_MAX];
static unsigned n_watched;

void counters_open_stats(const char *file)
{
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", file);
	if ((size_t)st.st_size < sizeof(*segment))
		errx(1, "%s: too short for a statistics segment", file);
	segment = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (segment == MAP_FAILED)
		err(1, "%s", file);
	(void)close(fd);
	if (memcmp(segment->magic, "VFSSTAT1", 8) != 0 || segment->counters > COUNTERS_MAX ||
	    segment->offset + segment->counters * sizeof(uint64_t) > (size_t)st.st_size)
		errx(1, "%s: no statistics segment", file);
}

void counters_watch(pid_t pid)
{
	if (n_watched == COUNTERS_WATCH_MAX)
		errx(2, "too many processes to watch");
	watched[n_watched++] = pid;
}

static uint64_t value_now(unsigned i)
{
	const char *at = (const char *)segment + segment->offset + i * sizeof(uint64_t);

	return atomic_load_explicit((const _Atomic uint64_t *)(const void *)at,
				    memory_order_relaxed);
}

static int find(const char *name)
{
	for (unsigned i = 0; segment != NULL && i < segment->counters; i++)
		if (strncmp(segment->info[i].name, name, sizeof(segment->info[i].name)) == 0)
			return (int)i;
	return -1;
}

void counters_settle(void)
{
	int fuse = find("fuse.requests"), oneway = find("rpc.oneway");
	uint64_t last = 0;

	if (fuse < 0)
		return;
	for (unsigned i = 0, quiet = 0; i < SETTLE_MAX && quiet < SETTLE_STEPS; i++) {
		struct timespec step = {.tv_nsec = SETTLE_STEP_NS};
		uint64_t now =
		    value_now((unsigned)fuse) + (oneway >= 0 ? value_now((unsigned)oneway) : 0);

		quiet = now == last ? quiet + 1 : 0;
		last = now;
		(void)nanosleep(&step, NULL);
	}
}

static bool add_file(const char *path, void (*line)(const char *text, struct process *p),
		     struct process *p)
{
	char text[256];
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return false;
	while (fgets(text, sizeof(text), f) != NULL)
		line(text, p);
	(void)fclose(f);
	return true;
}

static void status_line(const char *text, struct process *p)
{
	unsigned long long n;

	if (sscanf(text, "voluntary_ctxt_switches: %llu", &n) == 1)
		p->voluntary += n;
	else if (sscanf(text, "nonvoluntary_ctxt_switches: %llu", &n) == 1)
		p->involuntary += n;
}

static void schedstat_line(const char *text, struct process *p)
{
	unsigned long long n;

	if (sscanf(text, "%llu", &n) == 1)
		p->cpu_ns += n;
}

static void read_process(pid_t pid, struct process *p)
{
	char path[64];
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *d = opendir(path);
	if (d == NULL)
		err(1, "%s", path);
	while ((e = readdir(d)) != NULL) {
		char file[400];

		if (e->d_name[0] == '.')
			continue;
		/* a thread may have ended meanwhile */
		(void)snprintf(file, sizeof(file), "%s/%s/status", path, e->d_name);
		(void)add_file(file, status_line, p);
		(void)snprintf(file, sizeof(file), "%s/%s/schedstat", path, e->d_name);
		(void)add_file(file, schedstat_line, p);
	}
	(void)closedir(d);
}

struct counters *counters_take(void)
{
	struct counters *c = calloc(1, sizeof(*c));

	if (c == NULL)
		err(1, "calloc");
	for (unsigned i = 0; segment != NULL && i < segment->counters; i++)
		c->value[i] = value_now(i);
	for (unsigned i = 0; i < n_watched; i++)
		read_process(watched[i], &c->process[i]);
	return c;
}

void counters_print(const struct counters *before, const struct counters *after, FILE *f)
{
	(void)fputs("\"counters\":{", f);
	for (unsigned i = 0; segment != NULL && i < segment->counters; i++)
		(void)fprintf(f, "%s\"%.*s\":%" PRId64, i > 0 ? "," : "",
			      (int)sizeof(segment->info[i].name), segment->info[i].name,
			      (int64_t)(after->value[i] - before->value[i]));
	(void)fputs("},\"processes\":[", f);
	for (unsigned i = 0; i < n_watched; i++) {
		const struct process *a = &before->process[i], *b = &after->process[i];

		(void)fprintf(
		    f,
		    "%s{\"pid\":%d,\"voluntary\":%" PRId64 ",\"involuntary\":%" PRId64
		    ",\"cpu_ns\":%" PRId64 "}",
		    i > 0 ? "," : "", (int)watched[i], (int64_t)(b->voluntary - a->voluntary),
		    (int64_t)(b->involuntary - a->involuntary), (int64_t)(b->cpu_ns - a->cpu_ns));
	}
	(void)fputs("]", f);
}
