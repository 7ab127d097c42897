/*
 * The timed loop that every benchmark program shares.
 *
 *   struct timing t;
 *   timing_new(&t, warmup, count);
 *   for (unsigned i = 0; i < t.warmup + t.count; i++) { start = timing_now(); ...; timing_add(&t,
 * i, start); } timing_print(&t, stdout); timing_done(&t);
 *
 * One thread. Times are nanoseconds of CLOCK_MONOTONIC. Failures end the program with exit code 1.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

struct timing {
	unsigned warmup, count; /* operations: not timed, timed */
	uint64_t *ns;		/* count of them */
};

void timing_new(struct timing *t, unsigned warmup, unsigned count);
void timing_done(struct timing *t);

uint64_t timing_now(void);

/* Operation i, of warmup + count, began at start and ends now. */
void timing_add(struct timing *t, unsigned i, uint64_t start);

/* "count":N,"mean":..,"p50":..,"p99":..,"min":..,"max":.. : members of a JSON object, in ns. Sorts.
 */
void timing_print(struct timing *t, FILE *f);

/* A number of an option, or exit code 2. */
unsigned timing_number(const char *text, const char *what);
