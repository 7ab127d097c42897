/*
 * What a measurement reads besides the clock: a mount's statistics segment, and the scheduler's
 * figures of processes.
 *
 *   counters_open_stats(file), counters_watch(pid)...; counters_settle();
 *   struct counters *before = counters_take(), ..., *after = counters_take();
 *   counters_print(before, after, stdout);
 *
 * One thread. Failures end the program with exit code 1.
 */
#pragma once

#include <stdio.h>
#include <sys/types.h>

#define COUNTERS_WATCH_MAX 4

/* The file of `vsockfs -o stats=FILE`; src/core/stats.h tells its layout. */
void counters_open_stats(const char *file);

/* Sums voluntary and involuntary context switches and CPU time over the threads that pid has at
 * each counters_take. */
void counters_watch(pid_t pid);

/* Waits until the mount has had no request for a while: RELEASE and FORGET come after the call that
 * caused them. */
void counters_settle(void);

struct counters *counters_take(void);

/* "counters":{"fuse.requests":N,...},"processes":[{"pid":..,"voluntary":..,...}] : what passed
 * between the two. */
void counters_print(const struct counters *before, const struct counters *after, FILE *f);
