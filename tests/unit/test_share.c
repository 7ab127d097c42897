#include "host/share.h"

#include "unit.h"

enum { MAX = 64000, FLOOR = MAX / 4 / SHARE_PARTS, SHARERS = 100 };

static size_t take_all(struct share *s)
{
	size_t n = 0;

	while (share_take(s, 1)) {
		n++;
		assert_true(n <= MAX);
	}
	assert_false(share_room(s));
	return n;
}

/* Who comes late finds something, and nobody gets everything. */
static void test_greedy(void **state)
{
	struct share_pool pool = {0};
	struct share s[SHARERS] = {0};
	size_t all = 0;

	(void)state;
	share_pool_init(&pool, MAX);
	for (int i = 0; i < SHARERS; i++) {
		share_init(&s[i], &pool);
		size_t n = take_all(&s[i]);

		if (i == 0)
			assert_in_range(n, MAX / 2, MAX * 3 / 5);
		if (i < SHARE_PARTS)
			assert_true(n >= FLOOR);
		all += n;
		assert_true(all <= MAX);
	}
	assert_int_equal(atomic_load(&pool.used), all);
	for (int i = 0; i < SHARERS; i++)
		share_give(&s[i], atomic_load(&s[i].own));
	assert_int_equal(atomic_load(&pool.used), 0);
	assert_int_equal(atomic_load(&pool.common), 0);
}

/* Several at once, and what is refused takes nothing. */
static void test_several(void **state)
{
	struct share_pool pool = {0};
	struct share s = {0};

	(void)state;
	share_pool_init(&pool, MAX);
	share_init(&s, &pool);
	assert_false(share_take(&s, MAX));
	assert_int_equal(atomic_load(&pool.used), 0);
	assert_true(share_take(&s, MAX / 2));
	assert_false(share_take(&s, MAX / 4));
	assert_int_equal(atomic_load(&pool.used), MAX / 2);
	share_give(&s, MAX / 2);
	assert_int_equal(atomic_load(&pool.used) + atomic_load(&pool.common), 0);
}

/* The smallest pools give something, too. */
static void test_small(void **state)
{
	(void)state;
	for (size_t max = 0; max < 20; max++) {
		struct share_pool pool = {0};
		struct share a = {0}, b = {0};

		share_pool_init(&pool, max);
		share_init(&a, &pool);
		share_init(&b, &pool);
		size_t n = take_all(&a);
		assert_true(max == 0 ? n == 0 : n > 0);
		if (max >= 8)
			assert_true(share_take(&b, 1));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greedy),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
