/*
 * The way of a LOOKUP or GETATTR that the cache answers: it takes the gate and the lock of the
 * cache, each once, and none else.
 */
#include "fuse_kernel.h"

#include <sys/stat.h>

#define FILE_MODE (S_IFREG | 0644)

/* ---- locks are counted; not those of the fake kernel ---- */

static const void *of_the_kernel;
static unsigned locks;

int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
	locks += (const void *)m != of_the_kernel;
	return __real_pthread_mutex_lock(m);
}

int __real_pthread_rwlock_rdlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
	locks++;
	return __real_pthread_rwlock_rdlock(l);
}

int __real_pthread_rwlock_wrlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
	locks++;
	return __real_pthread_rwlock_wrlock(l);
}

static struct kernel *counted(void)
{
	struct kernel *k = kernel_mounted(kernel_options());

	of_the_kernel = &k->lock;
	return k;
}

static uint64_t hits(const struct kernel *k, enum stat_id id)
{
	return stats_get(k->w->stats, id);
}

/* ---- */

static void test_getattr(void **state)
{
	struct kernel *k = counted();
	uint64_t ino = kernel_looks_up(k, CACHE_ROOT, "f", 50, FILE_MODE);
	struct fuse_getattr_in in = {0};

	(void)state;
	uint64_t before = hits(k, STAT_cache_attr_hits);
	locks = 0;
	struct question *q = kernel_ask(k, FUSE_GETATTR, ino, ARG(in));
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.size, 50);
	assert_int_equal(hits(k, STAT_cache_attr_hits) - before, 1);
	assert_in_range(locks, 1, 2);
	kernel_unmounted(k);
}

static void test_lookup(void **state)
{
	struct kernel *k = counted();
	uint64_t ino = kernel_looks_up(k, CACHE_ROOT, "f", 50, FILE_MODE);

	(void)state;
	uint64_t before = hits(k, STAT_cache_name_hits);
	locks = 0;
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f"));
	assert_int_equal(ANSWER(q, struct fuse_entry_out)->nodeid, ino);
	assert_int_equal(hits(k, STAT_cache_name_hits) - before, 1);
	assert_in_range(locks, 1, 2);
	kernel_unmounted(k);
}

static void test_absent(void **state)
{
	struct kernel *k = counted();
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("none"));

	(void)state;
	host_says(k, MSG_LOOKUP, reply_err(k->w->seq, ENOENT));
	locks = 0;
	q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("none"));
	assert_int_equal(ANSWER(q, struct fuse_entry_out)->nodeid, 0);
	assert_true(ANSWER(q, struct fuse_entry_out)->entry_valid > 0);
	assert_in_range(locks, 1, 2);
	kernel_unmounted(k);
}

/* The kernel is still to drop pages: the answer is there, and waits in the table of requests. */
static void test_answer_that_waits(void **state)
{
	struct kernel *k = counted();
	uint64_t ino = kernel_looks_up(k, CACHE_ROOT, "f", 50, FILE_MODE);
	struct fuse_getattr_in in = {0};

	(void)state;
	for (int lookup = 0; lookup < 2; lookup++) {
		cache_drops_pages(k->w->c, ino);
		struct question *q = lookup ? kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f"))
					    : kernel_ask(k, FUSE_GETATTR, ino, ARG(in));
		assert_false(q->answered);
		assert_non_null(k->fs->in_flight);
		assert_int_equal(k->fs->in_flight->unique, q->unique);
		kernel_notified(k);
		cache_pages_dropped(k->w->c, ino);
		assert_err(q, 0);
		assert_null(k->fs->in_flight);
		if (lookup) {
			assert_int_equal(ANSWER(q, struct fuse_entry_out)->nodeid, ino);
			assert_int_equal(ANSWER(q, struct fuse_entry_out)->attr_valid, 0);
		} else {
			assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr_valid, 0);
		}
	}
	assert_int_equal(k->w->f->n_waiting, 0);
	kernel_unmounted(k);
}

/* Nobody waits for the entry any more: the reference that it counted is taken back. */
static void test_refused(void **state)
{
	struct kernel *k = counted();
	uint64_t ino = kernel_looks_up(k, CACHE_ROOT, "f", 50, FILE_MODE);
	struct fuse_forget_in in = {.nlookup = 1};

	(void)state;
	k->refuses = ENOENT;
	(void)kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f"));
	assert_true(cache_kernel_knows(k->w->c, ino));
	(void)kernel_ask(k, FUSE_FORGET, ino, ARG(in));
	assert_false(cache_kernel_knows(k->w->c, ino));
	kernel_unmounted(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_getattr),
	    cmocka_unit_test(test_lookup),
	    cmocka_unit_test(test_absent),
	    cmocka_unit_test(test_answer_that_waits),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
