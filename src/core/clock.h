/*
 * The client's clock of promises, which goes on while the machine is suspended: what was promised
 * for ten seconds is over after a night. CLOCK_MONOTONIC stands still meanwhile.
 *
 * The server's deadlines are of CLOCK_MONOTONIC: a server that was suspended must not take a client
 * for silent that could not reach it.
 */
#pragma once

#include <stdint.h>
#include <time.h>

uint64_t clock_now(void); /* ns */
/* The clock of the kernel's own timeouts, which stands still while the machine is suspended. */
uint64_t clock_awake(void); /* ns */

/*
 * For pthread_cond_timedwait, which knows no such clock: the same time by CLOCK_MONOTONIC, as long
 * as the machine is not suspended before. So only for what may be late then; an alarm is not.
 */
struct timespec clock_deadline(uint64_t until);

/* A thread's wait until a time of clock_now, however long the machine was suspended meanwhile. */
struct alarm {
	int timer, wake; /* file descriptors */
};

int alarm_init(struct alarm *a); /* 0 or -errno */
void alarm_done(struct alarm *a);
/* Ends the wait, or the next one if there is none. Any thread. */
void alarm_ring(const struct alarm *a);
/* UINT64_MAX: until it rings. */
void alarm_wait(const struct alarm *a, uint64_t until);
