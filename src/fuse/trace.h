/*
 * The live log of requests: what the kernel asked, how it ended, where the
 * time went. Off, it costs one relaxed load per request. On, the threads that
 * answer put lines into a bounded ring, and the control thread takes them out;
 * when that is too slow, lines are left out and counted (trace.dropped).
 *
 * Any thread, except for trace_take, which belongs to the control thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/stats.h"

#define TRACE_NAME_MAX 256

struct trace_line {
	struct stats_answer answer;
	uint64_t when;		   /* CLOCK_REALTIME, ns */
	char name[TRACE_NAME_MAX]; /* of the entry, for operations on one; else "" */
};

struct trace;

/* wake: an eventfd that is written to when the first line is put in. */
int trace_new(struct stats *stats, int wake, struct trace **ret);
void trace_free(struct trace *t);

/* Which answers are wanted: those that took min ns or longer; UINT64_MAX: none. */
void trace_want(struct trace *t, uint64_t min);
bool trace_wanted(const struct trace *t);

/* A request for name came. */
void trace_name(struct trace *t, uint64_t unique, const char *name, size_t len);
/* And was answered. */
void trace_answer(struct trace *t, const struct stats_answer *a);

/* The oldest line; false: there is none. */
bool trace_take(struct trace *t, struct trace_line *ret);
