/* The time, in an order that all processes agree on; and a moment of it. */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/*
 * Before something is tried again. sched_yield(2) instead would keep all CPUs busy and, in a kernel
 * without preemption, those from running who are waited for.
 */
static inline void pause_for_a_moment(void)
{
	struct timespec ts = {0, 50000};

	(void)nanosleep(&ts, NULL);
}
