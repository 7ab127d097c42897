/* How names are taken back from the kernel: files go, directories stay where they are and expire. */
#include "cache_lease.h"

#include "cache/listing.h"

#define FILE_MODE (S_IFREG | 0644u)
#define DIR_MODE  (S_IFDIR | 0755u)
#define LINK_MODE (S_IFLNK | 0777u)

/* The one thing that the kernel was told since the last time, which is about this name. */
static enum entry_way way_of(struct world *w, uint64_t dir, const char *name)
{
	enum entry_way way = w->told[0].way;

	assert_int_equal(w->n_told, 1);
	assert_int_equal(told(w, TOLD_ENTRY, dir, name), 1);
	told_clear(w);
	return way;
}

static enum entry_way way_after_inv(struct world *w, const char *name)
{
	told_clear(w);
	(void)inv_name(w, FAKE_ROOT, name);
	return way_of(w, CACHE_ROOT, name);
}

static void test_by_type(void **state)
{
	struct world *w = world_new();

	(void)state;
	(void)look_up_file(w, "f", 50);
	(void)look_up_dir(w, "d", 51);
	(void)look_up(w, CACHE_ROOT, "l", 52, LINK_MODE, w->seq);
	look_up_absent(w, CACHE_ROOT, "no", w->seq);
	assert_int_equal(way_after_inv(w, "f"), ENTRY_DROPS);
	assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES);
	assert_int_equal(way_after_inv(w, "l"), ENTRY_DROPS);
	assert_int_equal(way_after_inv(w, "no"), ENTRY_DROPS);
	/* all at once, and what a reply led elsewhere meanwhile */
	(void)look_up_file(w, "f", 50);
	(void)look_up_dir(w, "d", 51);
	told_clear(w);
	(void)inv(w, FAKE_ROOT, INV_NAMES);
	for (size_t i = 0; i < w->n_told; i++)
		assert_int_equal(w->told[i].way == ENTRY_DROPS, w->told[i].name[0] != 'd');
	assert_int_equal(w->n_told, 3);
	world_free(w);
}

/*
 * The look-up of a dentry that has expired holds no lock: for a second after its answer the
 * name expires again and again.
 */
static void test_confirmed(void **state)
{
	(void)state;
	for (int from_cache = 0; from_cache < 2; from_cache++) {
		struct world *w = world_new();
		uint64_t d = look_up_dir(w, "d", 51);

		assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES); /* the first was under the lock */
		assert_int_equal(look_up_dir(w, "d", 51), d);
		if (from_cache) {
			struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "d");

			assert_true(a->local);
			free(a);
		}
		fake_now += SECOND - 1;
		assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES_AGAIN);
		assert_int_equal(look_up_dir(w, "d", 51), d);
		fake_now += SECOND;
		assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES);
		/* an answer for no time brings none back */
		uint64_t old = w->seq;
		(void)inv_name(w, FAKE_ROOT, "d");
		(void)look_up(w, CACHE_ROOT, "d", 51, DIR_MODE, old);
		(void)look_up_dir(w, "e", 52);
		told_clear(w);
		(void)inv_name(w, FAKE_ROOT, "d");
		assert_int_equal(w->n_told, 0);
		/* forgotten, and found again: a new dentry, under the lock */
		assert_int_equal(look_up_dir(w, "d", 51), d);
		fake_now += SECOND;
		forget_all(w, d);
		struct asked *again = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "d");
		assert_true(again->local);
		free(again);
		assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES);
		world_free(w);
	}
}

/* Another directory has the name: what was confirmed is not that. */
static void test_another_directory(void **state)
{
	struct world *w = world_new();

	(void)state;
	for (uint64_t node = 51; node < 53; node++) {
		(void)look_up_dir(w, "d", node);
		(void)inv_name(w, FAKE_ROOT, "d");
		(void)look_up_dir(w, "d", node);
		(void)inv_name(w, FAKE_ROOT, "d");
	}
	(void)look_up_dir(w, "d", 53);
	assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES);
	world_free(w);
}

/* Of what nobody knows it may be a directory. */
static void test_unknown(void **state)
{
	struct world *w = world_new();
	struct cache_options options = lease_options();

	(void)state;
	struct asked *a = ask_name(w, MSG_CREATE, CACHE_ROOT, "x");
	assert_int_equal(way_after_inv(w, "y"), ENTRY_EXPIRES);
	done_with(w, a, reply_err(NO_STAMP, EIO));
	/* a change of ours is in flight, or failed */
	(void)look_up_dir(w, "d", 51);
	done_with(w, ask_name(w, MSG_RMDIR, CACHE_ROOT, "d"), reply_err(NO_STAMP, EBUSY));
	assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES_AGAIN);
	world_free(w);
	/* with timeouts no answer is noted */
	memset(&options.cap, 0, sizeof(options.cap));
	w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->f = fake_new();
	w->f->base.info.push = true;
	assert_int_equal(stats_new(NULL, &w->stats), 0);
	options.stats = w->stats;
	assert_int_equal(cache_new(&w->f->base, &options, &w->c), 0);
	cache_set_sink(w->c, &recording_sink, w);
	(void)look_up(w, CACHE_ROOT, "d", 51, DIR_MODE, NO_STAMP);
	assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES_AGAIN);
	world_free(w);
}

/* The notifier asks once more when it comes to a name: an own change may have put a directory there. */
static void test_asked_later(void **state)
{
	struct world *w = world_new();

	(void)state;
	(void)look_up_file(w, "f", 50);
	assert_int_equal(way_after_inv(w, "f"), ENTRY_DROPS);
	assert_int_equal(cache_entry_way(w->c, CACHE_ROOT, "f", 1), ENTRY_DROPS);
	done_with(w, ask_name(w, MSG_MKNOD, CACHE_ROOT, "f"),
		  reply_node(w, w->seq, 60, DIR_MODE, 1));
	assert_int_equal(cache_entry_way(w->c, CACHE_ROOT, "f", 1), ENTRY_EXPIRES);
	assert_int_equal(cache_entry_way(w->c, CACHE_ROOT, "g", 1), ENTRY_DROPS);
	assert_int_equal(cache_entry_way(w->c, 4711, "f", 1), ENTRY_DROPS);
	world_free(w);
}

/* A rename of ours that brings no promise: what moved may be a directory. */
static void test_renamed_without_a_promise(void **state)
{
	struct world *w = world_new();

	(void)state;
	(void)look_up_dir(w, "d", 51);
	told_clear(w);
	done_with(w, ask_rename(w, CACHE_ROOT, "d", CACHE_ROOT, "e", 0),
		  reply_node(w, NO_STAMP, 51, DIR_MODE, 1));
	bool found = false;
	for (size_t i = 0; i < w->n_told; i++) {
		if (w->told[i].kind != TOLD_ENTRY)
			continue;
		assert_string_equal(w->told[i].name, "e");
		assert_int_not_equal(w->told[i].way, ENTRY_DROPS);
		found = true;
	}
	assert_true(found);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_type),
		cmocka_unit_test(test_confirmed),
		cmocka_unit_test(test_another_directory),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_asked_later),
		cmocka_unit_test(test_renamed_without_a_promise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
