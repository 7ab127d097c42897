/*
 * How long a caller is willing to wait for a peer, and the descriptor that ends
 * the wait earlier: one bound over connecting and greeting together.
 *
 * A value, read by one thread at a time; it owns nothing. Waits return 0,
 * -ETIMEDOUT when the time is over, or -EINTR once stop_fd is readable.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct patience {
	uint64_t until; /* ms of CLOCK_MONOTONIC */
	int stop_fd;	/* readable: stop; it is not read. -1: none */
};

struct patience patience_new(uint64_t ms, int stop_fd);

/* ms that are left, 0 at the end; INT_MAX for more than that. */
int patience_left(const struct patience *p);
bool patience_stopped(const struct patience *p);

/* Waits until the fd is ready for one of these events, or has failed. */
int patience_wait(const struct patience *p, int fd, short events);
int patience_pause(const struct patience *p, int ms);
