#include "transport/patience.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <time.h>

static uint64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

struct patience patience_new(uint64_t ms, int stop_fd)
{
	return (struct patience){.until = now_ms() + ms, .stop_fd = stop_fd};
}

int patience_left(const struct patience *p)
{
	uint64_t now = now_ms();

	if (now >= p->until)
		return 0;
	return p->until - now < INT_MAX ? (int)(p->until - now) : INT_MAX;
}

bool patience_stopped(const struct patience *p)
{
	struct pollfd stop = {.fd = p->stop_fd, .events = POLLIN};

	return p->stop_fd >= 0 && poll(&stop, 1, 0) > 0;
}

/* 1: the fd is ready. 0: `most` ms are over. */
static int wait_once(const struct patience *p, int fd, short events, int most)
{
	struct pollfd on[2] = {{.fd = fd, .events = events}, {.fd = p->stop_fd, .events = POLLIN}};
	int left = patience_left(p);
	int n = poll(on, 2, left < most ? left : most); /* a negative fd is passed over */

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (on[1].revents != 0)
		return -EINTR;
	if (n == 0 && patience_left(p) == 0)
		return -ETIMEDOUT;
	return n;
}

int patience_wait(const struct patience *p, int fd, short events)
{
	int n;

	do {
		n = wait_once(p, fd, events, INT_MAX);
	} while (n == 0);
	return n < 0 ? n : 0;
}

int patience_pause(const struct patience *p, int ms)
{
	return wait_once(p, -1, 0, ms);
}
