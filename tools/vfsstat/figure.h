/*
 * Figures: differences of histograms, and numbers in few columns. All times
 * are nanoseconds.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/stats_layout.h"

struct hist {
	uint64_t count, sum;
	uint64_t bucket[STATS_BUCKETS];
};

/* The samples of `now` that are not in `before` (NULL: all). */
struct hist hist_since(const struct stats_hist *before, const struct stats_hist *now);
void hist_merge(struct hist *into, const struct hist *more);
/*
 * The value below which `percent` of the samples lie, interpolated inside its
 * power of two. 0 without samples.
 */
uint64_t hist_percentile(const struct hist *h, double percent);
uint64_t hist_mean(const struct hist *h);

#define FIGURE_MAX 8 /* bytes that a figure takes, with its end; at most 5 columns show */

/* "0", "12", "999", "1.2k", "123k", "4.5M"; "-" for what there is none of. */
const char *figure_count(double n, char buf[FIGURE_MAX]);
/* "0B", "512B", "1.2K", "34M" */
const char *figure_bytes(double n, char buf[FIGURE_MAX]);
/* "850ns", "12us", "1.2ms", "3.4s", "3599s", "2h", "3d" */
const char *figure_time(uint64_t ns, char buf[FIGURE_MAX]);
/* part of all: "98%", "-" when all is 0 */
const char *figure_share(uint64_t part, uint64_t all, char buf[FIGURE_MAX]);
