/* An alarm, and the deadlines of condition variables. */
#include "unit.h"

#include <pthread.h>

#include "core/clock.h"

#define MS UINT64_C(1000000)

static void test_time(void **state)
{
	struct alarm a;
	uint64_t now = clock_now();

	(void)state;
	assert_int_equal(alarm_init(&a), 0);
	alarm_wait(&a, now + 20 * MS);
	assert_true(clock_now() >= now + 20 * MS);
	alarm_wait(&a, now); /* over: at once, as are these */
	alarm_wait(&a, 1);
	alarm_wait(&a, 0);
	alarm_done(&a);
}

static void *ring(void *arg)
{
	alarm_ring(arg);
	return NULL;
}

/* It ends one wait, before or while that waits. */
static void test_ring(void **state)
{
	struct alarm a;
	pthread_t t;

	(void)state;
	assert_int_equal(alarm_init(&a), 0);
	alarm_ring(&a);
	alarm_ring(&a);
	alarm_wait(&a, UINT64_MAX);
	assert_int_equal(pthread_create(&t, NULL, ring, &a), 0);
	alarm_wait(&a, UINT64_MAX);
	assert_int_equal(pthread_join(t, NULL), 0);
	uint64_t now = clock_now();
	alarm_wait(&a, now + 5 * MS); /* and not another one */
	assert_true(clock_now() >= now + 5 * MS);
	alarm_done(&a);
}

static uint64_t monotonic(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

static void test_deadline(void **state)
{
	uint64_t before = monotonic();
	struct timespec ts = clock_deadline(clock_now() + 7000 * MS);
	uint64_t at = (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;

	(void)state;
	assert_true(ts.tv_nsec >= 0 && (uint64_t)ts.tv_nsec < 1000 * MS);
	assert_true(at >= before + 6999 * MS && at <= monotonic() + 7001 * MS);
	ts = clock_deadline(0);
	assert_true((uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec <= monotonic());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
