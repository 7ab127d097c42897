#include "figure.h"

#include <stdio.h>
#include <string.h>

/* ---- histograms ---- */

/* A reader may see the parts of different moments: what went back is 0. */
static uint64_t since(uint64_t before, uint64_t now)
{
	return now > before ? now - before : 0;
}

struct hist hist_since(const struct stats_hist *before, const struct stats_hist *now)
{
	struct hist h = {0};

	h.sum = since(before != NULL ? before->sum : 0, now->sum);
	for (int i = 0; i < STATS_BUCKETS; i++) {
		h.bucket[i] = since(before != NULL ? before->bucket[i] : 0, now->bucket[i]);
		h.count += h.bucket[i];
	}
	return h;
}

void hist_merge(struct hist *into, const struct hist *more)
{
	into->count += more->count;
	into->sum += more->sum;
	for (int i = 0; i < STATS_BUCKETS; i++)
		into->bucket[i] += more->bucket[i];
}

uint64_t hist_percentile(const struct hist *h, double percent)
{
	double wanted = (double)h->count * percent / 100, seen = 0;

	for (int i = 0; i < STATS_BUCKETS && h->count > 0; i++) {
		double in = (double)h->bucket[i];

		if (in > 0 && seen + in >= wanted) {
			double low = i == 0 ? 0 : (double)(UINT64_C(1) << i);
			double high = (double)(UINT64_C(2) << i);

			return (uint64_t)(low + (high - low) * (wanted - seen) / in);
		}
		seen += in;
	}
	return 0;
}

uint64_t hist_mean(const struct hist *h)
{
	return h->count > 0 ? h->sum / h->count : 0;
}

/* ---- numbers in five columns ---- */

struct unit {
	double of;
	const char *name;
};

/* With one digit behind the point where there is room: at most 4 characters and the unit. */
static const char *scaled(double n, const struct unit *units, size_t count, char buf[FIGURE_MAX])
{
	size_t i = 0;

	while (i + 1 < count && n >= units[i + 1].of * 0.9995)
		i++;
	double v = n / units[i].of;
	if (v > 9999)
		v = 9999;
	(void)snprintf(buf, FIGURE_MAX, "%.*f%s", v < 9.95 && v != (double)(int)v ? 1 : 0, v,
		       units[i].name);
	return buf;
}
#define SCALED(n, units, buf) scaled(n, units, sizeof(units) / sizeof((units)[0]), buf)

const char *figure_count(double n, char buf[FIGURE_MAX])
{
	static const struct unit units[] = {
		{1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "G"}, {1e12, "T"}};

	return SCALED(n, units, buf);
}

const char *figure_bytes(double n, char buf[FIGURE_MAX])
{
	static const struct unit units[] = {{1, "B"},
					    {1024, "K"},
					    {1024.0 * 1024, "M"},
					    {1024.0 * 1024 * 1024, "G"},
					    {1024.0 * 1024 * 1024 * 1024, "T"}};

	return SCALED(n, units, buf);
}

const char *figure_time(uint64_t ns, char buf[FIGURE_MAX])
{
	static const struct unit units[] = {{1, "ns"},	{1e3, "us"},   {1e6, "ms"},
					    {1e9, "s"}, {3600e9, "h"}, {86400e9, "d"}};

	return SCALED((double)ns, units, buf);
}

const char *figure_share(uint64_t part, uint64_t all, char buf[FIGURE_MAX])
{
	if (all == 0)
		(void)snprintf(buf, FIGURE_MAX, "-");
	else
		(void)snprintf(buf, FIGURE_MAX, "%.0f%%",
			       100 * (double)(part < all ? part : all) / (double)all);
	return buf;
}
