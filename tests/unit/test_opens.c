/* The client's own numbers of open files. */
#include "cache_fake.h"

#include "cache/opens.h"

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct cache));
	assert_non_null(*state);
	return 0;
}

static int teardown(void **state)
{
	opens_done(*state);
	free(*state);
	return 0;
}

#define FILES 1000

static void test_numbers(void **state)
{
	struct cache *c = *state;
	uint64_t fh[FILES], last = 0;

	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < FILES; i++) {
			fh[i] = opens_add_locked(c, 5000 + i);
			assert_int_not_equal(fh[i], 0);
			/* each use of a slot has a number of its own */
			assert_int_equal(fh[i] >> 32, round + 1);
		}
		for (uint64_t i = 0; i < FILES; i++)
			assert_int_equal(opens_find_locked(c, fh[i]), 5000 + i);
		for (uint64_t i = 0; i < FILES; i++) {
			last = fh[i];
			assert_int_equal(opens_take_locked(c, last), 5000 + i);
			assert_int_equal(opens_find_locked(c, last), 0);
			assert_int_equal(opens_take_locked(c, last), 0);
		}
	}
}

static void test_unknown(void **state)
{
	struct cache *c = *state;
	const uint64_t none[] = {0, 1, UINT64_C(1) << 32, UINT64_MAX};

	for (int with = 0; with < 2; with++) {
		for (size_t i = 0; i < COUNT(none); i++) {
			assert_int_equal(opens_find_locked(c, none[i]), 0);
			assert_int_equal(opens_take_locked(c, none[i]), 0);
		}
		uint64_t fh = opens_add_locked(c, 7);
		assert_int_equal(opens_find_locked(c, fh + (UINT64_C(1) << 32)), 0);
		assert_int_equal(opens_find_locked(c, fh + 1), 0);
		assert_int_equal(opens_find_locked(c, fh), 7);
	}
}

/* Each that is open, once, whatever was closed in between. */
static void test_next(void **state)
{
	struct cache *c = *state;
	uint64_t fh[FILES], at = 0, server;
	bool seen[FILES] = {false};
	size_t n = 0;

	assert_int_equal(opens_next_locked(c, &at), 0);
	for (uint64_t i = 0; i < FILES; i++)
		fh[i] = opens_add_locked(c, 5000 + i);
	for (uint64_t i = 0; i < FILES; i += 3)
		(void)opens_take_locked(c, fh[i]);
	while ((server = opens_next_locked(c, &at)) != 0) {
		assert_in_range(server, 5000, 5000 + FILES - 1);
		assert_int_not_equal((server - 5000) % 3, 0);
		assert_false(seen[server - 5000]);
		seen[server - 5000] = true;
		n++;
	}
	assert_int_equal(n, FILES - (FILES + 2) / 3);
	assert_int_equal(at, 0); /* it begins anew */
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_numbers), T(test_unknown), T(test_next)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
