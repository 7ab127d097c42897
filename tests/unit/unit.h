/* What the unit tests share: cmocka with what it needs, bytes from hex, chance that repeats itself.
 */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "cmocka_any.h"

#include "core/msg.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SLICE(text)  ((struct slice){text, sizeof(text) - 1})

/* Nothing that a test waits for takes that long: a condition that is not met by then never is. */
#define UNIT_DEADLINE_S 30

static inline struct timespec unit_deadline(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += UNIT_DEADLINE_S;
	return ts;
}

/* Undoes what stream_new does for speed: the tests want a socket that is soon full. */
static inline void small_send_buffer(int fd)
{
	const int size = 106496; /* doubled by the kernel: the default */

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
}

/* Bytes of hex text; blanks are passed over. Returns their number. */
static inline size_t unit_from_hex(const char *hex, unsigned char *out, size_t cap)
{
	size_t n = 0;

	for (; *hex != '\0'; hex++) {
		unsigned v;

		if (*hex == ' ')
			continue;
		assert_int_equal(sscanf(hex, "%2x", &v), 1);
		assert_true(n < cap);
		out[n++] = (unsigned char)v;
		hex++;
	}
	return n;
}

static inline void unit_assert_slice(struct slice s, const char *text)
{
	assert_int_equal(s.len, strlen(text));
	if (s.len > 0)
		assert_memory_equal(s.data, text, s.len);
}

/*
 * A copy of exactly len bytes, so that the address sanitizer sees a read
 * behind them. To be freed.
 */
static inline unsigned char *unit_copy(const void *data, size_t len)
{
	unsigned char *p = malloc(len > 0 ? len : 1);

	assert_non_null(p);
	if (len > 0)
		memcpy(p, data, len);
	return p;
}

/* xorshift64: the same numbers in every run. */
struct unit_random {
	uint64_t state; /* not 0 */
};

static inline uint64_t unit_next(struct unit_random *r)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return r->state;
}

static inline size_t unit_below(struct unit_random *r, size_t n)
{
	return (size_t)(unit_next(r) % n);
}
