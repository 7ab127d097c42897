/* The hash table: what is in it is found, and nothing else, while it grows and shrinks. */
#include "unit.h"

#include "core/hash.h"

#define N 20000u

struct thing {
	struct hash_link link;
	bool in;
};

static struct thing things[N];

/* Some share a hash. */
static uint32_t hash_of(unsigned i)
{
	return (uint32_t)hash_mix(i % (N - N / 8));
}

static bool is_in(const struct hash_table *t, unsigned i)
{
	unsigned n = 0;

	for (struct hash_link *l = hash_first(t, hash_of(i)); l != NULL; l = hash_next(l)) {
		assert_int_equal(l->hash, hash_of(i));
		n += l == &things[i].link;
	}
	assert_true(n <= 1);
	return n == 1;
}

static void add(struct hash_table *t, unsigned i)
{
	assert_int_equal(hash_add(t, &things[i].link, hash_of(i)), 0);
	things[i].in = true;
}

static void del(struct hash_table *t, unsigned i)
{
	hash_del(t, &things[i].link);
	things[i].in = false;
}

static void assert_all(const struct hash_table *t)
{
	size_t in = 0, found = 0;

	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(is_in(t, i), things[i].in);
		in += things[i].in;
	}
	assert_int_equal(t->count, in);
	for (size_t i = 0; i < t->size; i++)
		for (const struct hash_link *l = *hash_bucket(t, i); l != NULL; l = l->next)
			found++;
	assert_int_equal(found, in);
}

static void test_grows_and_shrinks(void **state)
{
	struct hash_table t = {0};

	(void)state;
	assert_null(hash_first(&t, 5));
	for (unsigned i = 0; i < N; i++) {
		add(&t, i);
		if (i % 4999 == 0 || i == 511 || i == 512 || i == 1024)
			assert_all(&t);
	}
	assert_int_equal(t.size, N);
	assert_all(&t);
	for (unsigned i = 0; i < N; i++)
		if (i % 16 != 0)
			del(&t, i);
	assert_all(&t);
	hash_trim(&t);
	assert_true(t.size <= N / 4);
	assert_int_equal(t.buckets.count, (t.size + HASH_PER_PAGE - 1) / HASH_PER_PAGE);
	assert_all(&t);
	for (unsigned i = 0; i < N; i++)
		if (things[i].in)
			del(&t, i);
	hash_trim(&t);
	assert_int_equal(t.size, HASH_PER_PAGE);
	for (unsigned i = 0; i < N; i += 3)
		add(&t, i);
	assert_all(&t);
	hash_done(&t);
	assert_null(hash_first(&t, 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_grows_and_shrinks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
