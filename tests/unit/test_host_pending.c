/* Pending invalidations: merged, collapsed, bounded. */
#include "unit.h"

#include "host/pending.h"

/* What p holds about a node: its classes, and how many names. */
static size_t items(const struct pending *p, uint64_t node, unsigned *ret_class)
{
	struct pending_cursor at = {0};
	struct inv_item item;
	size_t names = 0;

	*ret_class = 0;
	while (pending_next(p, &at, &item)) {
		assert_true(item.class != 0);
		assert_int_equal((item.class & INV_NAME) != 0, item.name.len > 0);
		if (item.node != node)
			continue;
		*ret_class |= (unsigned)item.class & ~(unsigned)INV_NAME;
		names += item.name.len > 0;
	}
	return names;
}

static void test_merge(void **state)
{
	struct pending p = {0};
	unsigned class;

	(void)state;
	assert_int_equal(pending_oldest(&p), 0);
	assert_int_equal(pending_add(&p, 7, INV_ATTR, NULL, 200), 0);
	assert_int_equal(pending_add(&p, 7, INV_DATA, NULL, 100), 0);
	assert_int_equal(pending_add(&p, 9, INV_ATTR | INV_NAME, "a", 300), 0);
	assert_int_equal(pending_add(&p, 9, INV_NAME, "a", 300), 0);
	assert_int_equal(pending_add(&p, 9, INV_NAME, "b", 300), 0);
	assert_int_equal(p.n, 2);
	assert_int_equal(pending_oldest(&p), 100);
	assert_int_equal(items(&p, 7, &class), 0);
	assert_int_equal(class, INV_ATTR | INV_DATA);
	assert_int_equal(items(&p, 9, &class), 2);
	assert_int_equal(class, INV_ATTR);
	pending_clear(&p);
	assert_int_equal(p.count, 0);
	assert_int_equal(items(&p, 7, &class), 0);
	assert_int_equal(class, 0);
	pending_done(&p);
}

static void test_collapse(void **state)
{
	struct pending p = {0};
	char name[16];
	unsigned class;

	(void)state;
	for (int i = 0; i <= PENDING_NAMES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		assert_int_equal(pending_add(&p, 1, INV_NAME, name, 1),
				 i < PENDING_NAMES_MAX ? 0 : PENDING_ALL_NAMES);
	}
	assert_int_equal(items(&p, 1, &class), 0);
	assert_int_equal(class, INV_NAMES);
	assert_int_equal(p.count, 1);
	assert_int_equal(pending_add(&p, 1, INV_NAME, "more", 1), PENDING_ALL_NAMES);
	/* and all names at once */
	assert_int_equal(pending_add(&p, 2, INV_NAME, "x", 1), 0);
	assert_int_equal(pending_add(&p, 2, INV_NAMES, NULL, 1), 0);
	assert_int_equal(items(&p, 2, &class), 0);
	assert_int_equal(class, INV_NAMES);
	pending_done(&p);
}

static void test_bound(void **state)
{
	struct pending p = {0}, other = {0};
	unsigned class;

	(void)state;
	for (uint64_t i = 1; i <= PENDING_MAX; i++)
		assert_int_equal(pending_add(&p, i, INV_ATTR, NULL, 1), 0);
	assert_int_equal(pending_add(&p, PENDING_MAX + 1, INV_ATTR, NULL, 1), -ENOBUFS);
	assert_int_equal(pending_add(&other, 3, INV_DATA, NULL, 1), 0);
	pending_swap(&p, &other);
	assert_int_equal(p.n, 1);
	assert_int_equal(items(&p, 3, &class), 0);
	assert_int_equal(class, INV_DATA);
	assert_int_equal(other.n, PENDING_MAX);
	pending_clear(&other);
	assert_int_equal(pending_add(&other, 1, INV_ATTR, NULL, 1), 0);
	pending_done(&p);
	pending_done(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_collapse),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
