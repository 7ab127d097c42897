#include "timing.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

void timing_new(struct timing *t, unsigned warmup, unsigned count)
{
	t->warmup = warmup;
	t->count = count;
	t->ns = calloc(count > 0 ? count : 1, sizeof(*t->ns));
	if (t->ns == NULL)
		err(1, "calloc");
}

void timing_done(struct timing *t)
{
	free(t->ns);
	t->ns = NULL;
}

uint64_t timing_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void timing_add(struct timing *t, unsigned i, uint64_t start)
{
	uint64_t end = timing_now();

	if (i >= t->warmup && i - t->warmup < t->count)
		t->ns[i - t->warmup] = end - start;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void timing_print(struct timing *t, FILE *f)
{
	uint64_t sum = 0;
	unsigned n = t->count;

	qsort(t->ns, n, sizeof(*t->ns), compare);
	for (unsigned i = 0; i < n; i++)
		sum += t->ns[i];
	(void)fprintf(f,
		      "\"count\":%u,\"mean\":%.1f,\"p50\":%" PRIu64 ",\"p99\":%" PRIu64
		      ",\"min\":%" PRIu64 ",\"max\":%" PRIu64,
		      n, n > 0 ? (double)sum / n : 0.0, n > 0 ? t->ns[n / 2] : 0,
		      n > 0 ? t->ns[(uint64_t)n * 99 / 100] : 0, n > 0 ? t->ns[0] : 0,
		      n > 0 ? t->ns[n - 1] : 0);
}

unsigned timing_number(const char *text, const char *what)
{
	char *end;

	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n > UINT_MAX / 2)
		errx(2, "%s: '%s' is no number", what, text);
	return (unsigned)n;
}
