#include "core/clock.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)

static uint64_t ns_of(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SECOND + (uint64_t)ts.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_SECOND),
				 .tv_nsec = (long)(ns % NS_PER_SECOND)};
}

uint64_t clock_now(void)
{
	return ns_of(CLOCK_BOOTTIME);
}

uint64_t clock_awake(void)
{
	return ns_of(CLOCK_MONOTONIC);
}

struct timespec clock_deadline(uint64_t until)
{
	uint64_t now = clock_now();

	return timespec_of(ns_of(CLOCK_MONOTONIC) + (until > now ? until - now : 0));
}

int alarm_init(struct alarm *a)
{
	*a = (struct alarm){-1, -1};
	a->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (a->timer >= 0)
		a->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->wake >= 0)
		return 0;
	int e = errno;
	alarm_done(a);
	return -e;
}

void alarm_done(struct alarm *a)
{
	if (a->timer >= 0)
		(void)close(a->timer);
	if (a->wake >= 0)
		(void)close(a->wake);
	*a = (struct alarm){-1, -1};
}

void alarm_ring(const struct alarm *a)
{
	uint64_t one = 1;

	if (write(a->wake, &one, sizeof(one)) < 0) {
		/* it has rung already */
	}
}

void alarm_wait(const struct alarm *a, uint64_t until)
{
	struct pollfd on[2] = {{.fd = a->timer, .events = POLLIN},
			       {.fd = a->wake, .events = POLLIN}};
	/* A time of 0 would disarm the timer, as one that never comes does. */
	const struct itimerspec at = {.it_value = until == UINT64_MAX
							  ? (struct timespec){0}
							  : timespec_of(until > 0 ? until : 1)};
	uint64_t n;

	if (timerfd_settime(a->timer, TFD_TIMER_ABSTIME, &at, NULL) < 0)
		return;
	while (poll(on, 2, -1) < 0 && errno == EINTR)
		;
	if (on[1].revents != 0 && read(a->wake, &n, sizeof(n)) < 0) {
		/* nobody else reads it */
	}
}
