/* How names are taken back from the kernel: files go, directories stay where they are and expire.
 */
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

/* ---- who was told that a name is what he has, and may not have digested that ---- */

enum { TASK = 4711, OTHER = 4712 };

static struct asked *ask_as(struct world *w, uint32_t task, const char *name)
{
	struct asked *a = asked_new(MSG_LOOKUP);

	a->req.task = task;
	MSG_SET(&a->req.call.req, name, ((struct slice){name, strlen(name)}));
	cache_submit(w->c, &a->req, CACHE_ROOT, 0);
	return a;
}

static uint64_t look_as(struct world *w, uint32_t task, uint64_t node, uint32_t mode,
			uint64_t stamp)
{
	struct asked *a = ask_as(w, task, "d");

	if (!a->local) {
		struct msg m = reply_node(w, stamp, node, mode, node);

		answer(w->f, a, &m);
	}
	uint64_t ttl = a->reply.entry_ttl;
	free(a);
	return ttl;
}

/* Who is taken out; 0: nobody. */
static uint32_t confirmed_to(struct world *w)
{
	struct confirmed t[2] = {{0}};
	size_t n = cache_take_confirmed(w->c, fake_now, t, 2);

	assert_true(n <= 1);
	return t[0].task;
}

/* The look-up of a dentry that has expired holds no lock; the first one does. */
static void test_confirmed(void **state)
{
	(void)state;
	for (int from_cache = 0; from_cache < 2; from_cache++) {
		struct world *w = world_new();

		assert_true(look_as(w, TASK, 51, DIR_MODE, w->seq) > 0);
		assert_int_equal(confirmed_to(w), 0); /* the first was under the lock */
		if (!from_cache)
			(void)inv_name(w, FAKE_ROOT, "d");
		assert_true(look_as(w, TASK, 51, DIR_MODE, w->seq) > 0);
		struct confirmed t;
		assert_int_equal(cache_take_confirmed(w->c, fake_now, &t, 1),
				 1);
		assert_int_equal(t.task, TASK);
		assert_int_equal(confirmed_to(w), 0); /* it was taken out */
		t.cpu = 7;
		cache_put_confirmed(w->c, &t);
		assert_int_equal(cache_take_confirmed(w->c, fake_now, &t, 1),
				 1);
		assert_int_equal(t.cpu, 7);
		/* nobody takes so long */
		fake_now += 10 * SECOND;
		cache_put_confirmed(w->c, &t);
		assert_int_equal(confirmed_to(w), 0);
		world_free(w);
	}
}

/* Whoever sends a request has digested the reply to the one before. */
static void test_heard_of(void **state)
{
	struct world *w = world_new();
	uint64_t f = look_up_file(w, "f", 50);

	(void)state;
	(void)look_as(w, TASK, 51, DIR_MODE, w->seq);
	(void)look_as(w, TASK, 51, DIR_MODE, w->seq);
	(void)look_as(w, OTHER, 51, DIR_MODE, w->seq);
	struct asked *a = ask_as(w, TASK, "f"); /* of something else */
	free(a);
	assert_int_equal(confirmed_to(w), OTHER);
	(void)look_as(w, TASK, 51, DIR_MODE, w->seq);
	cache_task_goes_on(w->c, f, OTHER);
	assert_int_equal(confirmed_to(w), TASK);
	(void)look_as(w, TASK, 51, DIR_MODE, w->seq);
	cache_task_goes_on(w->c, f, TASK); /* what is no request of the cache's */
	assert_int_equal(confirmed_to(w), 0);
	world_free(w);
}

/* Who is told after the news is told the truth, and is not waited for: he may look for ever. */
static void test_told_after_the_news(void **state)
{
	struct world *w = world_new();
	struct confirmed t;

	(void)state;
	(void)look_as(w, TASK, 51, DIR_MODE, w->seq);
	(void)look_as(w, TASK, 51, DIR_MODE, w->seq);
	uint64_t news = ++fake_now;
	(void)inv_name(w, FAKE_ROOT, "d");
	fake_now++;
	(void)look_as(w, OTHER, 51, DIR_MODE, w->seq);
	assert_int_equal(cache_take_confirmed(w->c, news, &t, 1), 1);
	assert_int_equal(t.task, TASK);
	assert_int_equal(cache_take_confirmed(w->c, news, &t, 1), 0);
	/* but by the next news */
	assert_int_equal(confirmed_to(w), OTHER);
	world_free(w);
}

/* An answer for no time gives none back, and one that nobody can be held to is for no time. */
static void test_for_no_time(void **state)
{
	struct world *w = world_new();
	uint64_t old = w->seq;

	(void)state;
	(void)look_as(w, TASK, 51, DIR_MODE, w->seq);
	(void)inv_name(w, FAKE_ROOT, "d");
	assert_int_equal(look_as(w, TASK, 51, DIR_MODE, old), 0); /* overtaken */
	assert_int_equal(confirmed_to(w), 0);
	assert_int_equal(look_as(w, 0, 51, DIR_MODE, w->seq), 0); /* of another pid namespace */
	assert_int_equal(confirmed_to(w), 0);
	/* a file's name is taken out of the tree, whoever has digested what */
	world_free(w);
	w = world_new();
	(void)look_as(w, TASK, 50, FILE_MODE, w->seq);
	(void)inv_name(w, FAKE_ROOT, "d");
	assert_true(look_as(w, 0, 50, FILE_MODE, w->seq) > 0);
	assert_int_equal(confirmed_to(w), 0);
	world_free(w);
}

/* More tasks than are remembered: the next ones are told the name for no time. */
static void test_many(void **state)
{
	enum { MANY = 5000 };
	struct world *w = world_new();
	unsigned told_for_a_time = 0;

	(void)state;
	(void)look_as(w, TASK, 51, DIR_MODE, w->seq);
	for (uint32_t task = 1; task <= MANY; task++)
		told_for_a_time += look_as(w, task, 51, DIR_MODE, w->seq) > 0;
	assert_int_equal(told_for_a_time, 4096);
	/* one that is taken out and put back keeps its place, whoever comes meanwhile */
	struct confirmed t;
	assert_int_equal(cache_take_confirmed(w->c, fake_now, &t, 1), 1);
	assert_true(look_as(w, MANY + 1, 51, DIR_MODE, w->seq) > 0);
	cache_put_confirmed(w->c, &t);
	assert_int_equal(w->c->confirmed.count, 4097);
	fake_now += 10 * SECOND + 1;
	assert_true(look_as(w, MANY + 2, 51, DIR_MODE, w->seq) > 0);
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
	assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES);
	world_free(w);
	/* with timeouts no answer is noted */
	memset(&options.cap, 0, sizeof(options.cap));
	w = world_watched(options, false);
	(void)look_up(w, CACHE_ROOT, "d", 51, DIR_MODE, NO_STAMP);
	assert_int_equal(way_after_inv(w, "d"), ENTRY_EXPIRES);
	world_free(w);
}

/* The notifier asks once more when it comes to a name: an own change may have put a directory
 * there. */
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
		cmocka_unit_test(test_heard_of),
		cmocka_unit_test(test_told_after_the_news),
		cmocka_unit_test(test_for_no_time),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_asked_later),
		cmocka_unit_test(test_renamed_without_a_promise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
