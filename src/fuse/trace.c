#include "fuse/trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"

#define LINES 512
#define NAMES 1024 /* of requests that are not answered yet */

struct name {
	uint64_t unique;
	char text[TRACE_NAME_MAX];
};

struct trace {
	struct stats *stats;
	int wake;
	_Atomic uint64_t min;

	pthread_mutex_t lock; /* the fields below */
	unsigned first, count;
	struct trace_line line[LINES];
	struct name name[NAMES]; /* by unique; a later request takes the place of an older one */
};

int trace_new(struct stats *stats, int wake, struct trace **ret)
{
	struct trace *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	t->stats = stats;
	t->wake = wake;
	t->min = UINT64_MAX;
	(void)pthread_mutex_init(&t->lock, NULL);
	*ret = t;
	return 0;
}

void trace_free(struct trace *t)
{
	if (t == NULL)
		return;
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
}

void trace_want(struct trace *t, uint64_t min)
{
	atomic_store_explicit(&t->min, min, memory_order_relaxed);
}

static uint64_t wanted_min(const struct trace *t)
{
	return t == NULL ? UINT64_MAX : atomic_load_explicit(&t->min, memory_order_relaxed);
}

bool trace_wanted(const struct trace *t)
{
	return wanted_min(t) != UINT64_MAX;
}

/* The kernel's numbers go up by two. */
static struct name *name_of(struct trace *t, uint64_t unique)
{
	return &t->name[(unique >> 1) % NAMES];
}

void trace_name(struct trace *t, uint64_t unique, const char *name, size_t len)
{
	SCOPE_LOCK(&t->lock);
	struct name *n = name_of(t, unique);

	if (len >= TRACE_NAME_MAX)
		len = TRACE_NAME_MAX - 1;
	n->unique = unique;
	memcpy(n->text, name, len);
	n->text[len] = '\0';
}

void trace_answer(struct trace *t, const struct stats_answer *a)
{
	struct timespec ts;

	if (a->ns < wanted_min(t) || !trace_wanted(t))
		return;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	SCOPE_LOCK(&t->lock);
	if (t->count == LINES) {
		stats_add(t->stats, STAT_trace_dropped, 1);
		return;
	}
	struct trace_line *l = &t->line[(t->first + t->count++) % LINES];
	struct name *n = name_of(t, a->unique);
	l->answer = *a;
	l->when = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	l->name[0] = '\0';
	if (n->unique == a->unique)
		memcpy(l->name, n->text, sizeof(l->name));
	stats_add(t->stats, STAT_trace_lines, 1);
	uint64_t one = 1;
	if (t->count == 1 && write(t->wake, &one, sizeof(one)) < 0) {
		/* the counter is full: it is readable */
	}
}

bool trace_take(struct trace *t, struct trace_line *ret)
{
	SCOPE_LOCK(&t->lock);
	if (t->count == 0)
		return false;
	*ret = t->line[t->first];
	t->first = (t->first + 1) % LINES;
	t->count--;
	return true;
}
