#include "core/stats.h"

#include <stdio.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/stats_priv.h"

uint64_t stats_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void stats_add(struct stats *s, enum stat_id id, uint64_t n)
{
	if (s != NULL)
		stats_count(&s->value[id], n);
}

void stats_sub(struct stats *s, enum stat_id id, uint64_t n)
{
	if (s != NULL)
		(void)atomic_fetch_sub_explicit(&s->value[id], n, memory_order_relaxed);
}

void stats_set(struct stats *s, enum stat_id id, uint64_t n)
{
	if (s != NULL)
		atomic_store_explicit(&s->value[id], n, memory_order_relaxed);
}

uint64_t stats_get(const struct stats *s, enum stat_id id)
{
	return s == NULL ? 0 : atomic_load_explicit(&s->value[id], memory_order_relaxed);
}

void stats_hist_add(struct stats_hist *h, uint64_t v)
{
	unsigned bucket = v < 2 ? 0 : 63 - (unsigned)__builtin_clzll(v);

	stats_count(&h->sum, v);
	stats_count(&h->bucket[bucket < STATS_BUCKETS ? bucket : STATS_BUCKETS - 1], 1);
}

void stats_time(struct stats *s, enum stat_hist id, uint64_t ns)
{
	if (s != NULL)
		stats_hist_add(&s->hist[id], ns);
}

void stats_text(struct stats *s, enum stat_text id, const char *text)
{
	if (s == NULL)
		return;
	SCOPE_LOCK(&s->texts);
	struct stats_text *t = &s->text[id];
	uint32_t next = atomic_load_explicit(&t->active, memory_order_relaxed) ^ 1;
	(void)snprintf(t->text[next], STATS_TEXT_MAX, "%s", text);
	atomic_store_explicit(&t->active, next, memory_order_release);
}
