/*
 * The statistics segment, read as a program does that has no header of this
 * project: by the layout that stats.h promises.
 */
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/stats.h"

static char dir[] = "/tmp/vsockfs-test-XXXXXX";
static char path[64];

static int make_dir(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/stats", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir);
}

/* ---- a reader ---- */

struct reader {
	const unsigned char *data;
	size_t size;
};

static struct reader reader_open(void)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	assert_int_equal(close(fd), 0);
	return (struct reader){p, (size_t)st.st_size};
}

static void reader_close(struct reader *r)
{
	assert_int_equal(munmap((void *)(uintptr_t)r->data, r->size), 0);
}

static uint32_t u32_at(const struct reader *r, size_t at)
{
	uint32_t v;

	assert_true(at + sizeof(v) <= r->size);
	memcpy(&v, r->data + at, sizeof(v));
	return v;
}

static const char *info_at(const struct reader *r, uint32_t i, size_t at, size_t len)
{
	const char *text = (const char *)r->data + 16 + (size_t)i * (48 + 16 + 128) + at;

	assert_non_null(memchr(text, '\0', len));
	return text;
}

/* The value of the counter with this name. */
static uint64_t read_value(const struct reader *r, const char *name)
{
	uint32_t n = u32_at(r, 8), offset = u32_at(r, 12);

	for (uint32_t i = 0; i < n; i++) {
		if (strcmp(info_at(r, i, 0, 48), name) == 0) {
			uint64_t v;

			memcpy(&v, r->data + offset + 8 * (size_t)i, sizeof(v));
			return v;
		}
	}
	fail_msg("no counter %s", name);
	return 0;
}

/* ---- tests ---- */

static const struct {
	const char *name, *unit, *text;
} counters[] = {
#define COUNTER(name, unit, text) {#name, #unit, text},
#include "core/counters.def"
#undef COUNTER
};

static void test_describes_itself(void **state)
{
	struct stats *s;

	(void)state;
	assert_int_equal(stats_new(path, &s), 0);
	struct reader r = reader_open();
	assert_memory_equal(r.data, "VFSSTAT1", 8);
	assert_int_equal(u32_at(&r, 8), STAT_COUNT);
	assert_int_equal(STAT_COUNT, COUNT(counters));
	uint32_t offset = u32_at(&r, 12);
	assert_true(offset >= 16 + STAT_COUNT * (48u + 16 + 128));
	assert_int_equal(offset % 8, 0);
	assert_true(offset + STAT_COUNT * 8u <= r.size);
	for (uint32_t i = 0; i < STAT_COUNT; i++) {
		char name[64];

		/* the first underscore is a dot: fuse.requests */
		(void)snprintf(name, sizeof(name), "%s", counters[i].name);
		char *sep = strchr(name, '_');
		assert_non_null(sep);
		*sep = '.';
		assert_string_equal(info_at(&r, i, 0, 48), name);
		assert_string_equal(info_at(&r, i, 48, 16), counters[i].unit);
		assert_string_equal(info_at(&r, i, 64, 128), counters[i].text);
		assert_int_not_equal(*info_at(&r, i, 64, 128), '\0');
		assert_int_equal(read_value(&r, name), 0);
		for (uint32_t k = 0; k < i; k++)
			assert_string_not_equal(counters[k].name, counters[i].name);
	}
	reader_close(&r);
	stats_free(s);
}

static void test_seen_elsewhere(void **state)
{
	struct stats *s;
	struct stat st;

	(void)state;
	mode_t old = umask(0);
	assert_int_equal(stats_new(path, &s), 0);
	(void)umask(old);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_true(st.st_blocks * 512 >= st.st_size); /* no hole: a full disk is noticed at once */

	struct reader r = reader_open();
	stats_add(s, STAT_fuse_requests, 3);
	stats_add(s, STAT_fuse_requests, 4);
	stats_add(s, STAT_cache_nodes, 10);
	stats_sub(s, STAT_cache_nodes, 4);
	assert_int_equal(read_value(&r, "fuse.requests"), 7);
	assert_int_equal(read_value(&r, "cache.nodes"), 6);
	assert_int_equal(read_value(&r, "inval.sent"), 0);
	assert_int_equal(stats_get(s, STAT_fuse_requests), 7);
	/* the reader goes on when the daemon is gone */
	stats_free(s);
	assert_int_equal(read_value(&r, "fuse.requests"), 7);
	reader_close(&r);
}

/* A new segment is a new file: whoever maps the old one keeps what it has. */
static void test_made_anew(void **state)
{
	struct stats *a, *b;

	(void)state;
	assert_int_equal(stats_new(path, &a), 0);
	stats_add(a, STAT_fuse_requests, 5);
	struct reader old = reader_open();
	assert_int_equal(stats_new(path, &b), 0);
	stats_add(b, STAT_fuse_requests, 1);
	struct reader new = reader_open();
	assert_int_equal(read_value(&old, "fuse.requests"), 5);
	assert_int_equal(read_value(&new, "fuse.requests"), 1);
	reader_close(&old);
	reader_close(&new);
	stats_free(a);
	stats_free(b);
}

/* A symbolic link in its place is replaced, never followed. */
static void test_link_in_its_place(void **state)
{
	struct stats *s;
	struct stat st;
	char target[80];

	(void)state;
	(void)unlink(path);
	(void)snprintf(target, sizeof(target), "%s/target", dir);
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(stats_new(path, &s), 0);
	stats_free(s);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(access(target, F_OK), -1);
}

static void test_failures(void **state)
{
	struct stats *s = NULL;
	char bad[80];

	(void)state;
	(void)snprintf(bad, sizeof(bad), "%s/missing/stats", dir);
	assert_int_equal(stats_new(bad, &s), -ENOENT);
	assert_true(stats_new(dir, &s) < 0); /* a directory */
	assert_null(s);
	/* No statistics at all are allowed everywhere. */
	stats_add(NULL, STAT_fuse_requests, 1);
	stats_sub(NULL, STAT_fuse_requests, 1);
	assert_int_equal(stats_get(NULL, STAT_fuse_requests), 0);
	stats_free(NULL);
}

static void *add_often(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		stats_add(arg, STAT_rpc_requests, 1);
		stats_add(arg, STAT_cache_nodes, 2);
		stats_sub(arg, STAT_cache_nodes, 2);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	struct stats *s;
	pthread_t threads[4];

	(void)state;
	assert_int_equal(stats_new(NULL, &s), 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_often, s), 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(stats_get(s, STAT_rpc_requests), 20000 * COUNT(threads));
	assert_int_equal(stats_get(s, STAT_cache_nodes), 0);
	stats_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_describes_itself), cmocka_unit_test(test_seen_elsewhere),
	    cmocka_unit_test(test_made_anew),	     cmocka_unit_test(test_link_in_its_place),
	    cmocka_unit_test(test_failures),	     cmocka_unit_test(test_many_threads),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
