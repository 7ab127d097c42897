/* Directories that are listed because look-ups in them miss the cache. */
#include "cache_lease.h"

#define FILE_MODE  (S_IFREG | 0644u)
#define DIR_MODE   (S_IFDIR | 0755u)
#define DIR_NODE   50
#define SMALL	   10u
#define NODE_OF(i) (2000 + (i))

static struct world *ahead_world(void)
{
	struct cache_options options = lease_options();

	options.list_after = 2;
	return world_with(options);
}

static uint64_t look_up_directory(struct world *w, uint64_t size)
{
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "d");
	struct msg m = reply_node(w, w->seq, DIR_NODE, DIR_MODE, size);

	answer(w->f, a, &m);
	uint64_t ino = a->reply.ino;
	free(a);
	return ino;
}

static uint64_t ahead(const struct world *w)
{
	return stats_get(w->stats, STAT_cache_listings_ahead);
}

/* The READDIRPLUS that waits at this place. */
static struct call *listing(struct world *w, size_t i)
{
	assert_true(i < w->f->n_waiting);
	assert_int_equal(w->f->waiting[i]->req.op, MSG_READDIRPLUS);
	assert_int_equal(w->f->waiting[i]->req.node, DIR_NODE);
	return fake_take(w->f, i);
}

/* Answers with the files f0 to f(n-1), behind `from` of them. */
static void answer_listing(struct world *w, struct call *call, uint64_t stamp, unsigned from,
			   unsigned n, bool end)
{
	struct msg m = reply_attr(w, stamp, DIR_MODE, SMALL);
	size_t len = 0;

	assert_int_equal(call->req.off, from);
	for (unsigned i = from; i < from + n; i++) {
		char name[16];
		struct dir_entry e = {.off = i + 1, .type = 8, .ino = 9000 + i, .node = NODE_OF(i)};

		(void)snprintf(name, sizeof(name), "f%u", i);
		e.name = (struct slice){name, strlen(name)};
		e.attr = attr_now(w, FILE_MODE, i);
		len += codec_put_entry(&e, (unsigned char *)call->dest + len, call->req.size - len);
	}
	MSG_SET(&m, payload, ((struct slice){call->dest, len}));
	if (end)
		MSG_SET(&m, flags, READDIR_END);
	call->done(call, &m);
}

static void fail_listing(struct call *call, uint64_t err)
{
	struct msg m = reply_err(NO_STAMP, err);

	call->done(call, &m);
}

static struct asked *miss(struct world *w, uint64_t dir, const char *name)
{
	struct asked *a = ask_name(w, MSG_LOOKUP, dir, name);

	assert_int_equal(a->completions, 0);
	return a;
}

/* Answered from the listing: ENOENT, or a node. */
static void was_answered(struct asked *a, int err)
{
	assert_int_equal(a->completions, 1);
	assert_int_equal(a->reply.err, err);
	assert_true(a->local && a->reply.entry_ttl > 0);
	free(a);
}

/* The second miss waits for the listing, and so do those that come meanwhile. */
static void test_second_miss(void **state)
{
	struct world *w = ahead_world();
	uint64_t dir = look_up_directory(w, SMALL);

	(void)state;
	done_with(w, miss(w, dir, "f0"), reply_node(w, w->seq, NODE_OF(0), FILE_MODE, 0));
	struct asked *second = miss(w, dir, "f1"), *third = miss(w, dir, "f2"),
		     *absent = miss(w, dir, "no"), *late = miss(w, dir, "f9");
	assert_int_equal(w->f->n_waiting, 1);
	struct call *call = listing(w, 0);
	answer_listing(w, call, w->seq, 0, 5, false);
	was_answered(second, 0);
	was_answered(third, 0);
	/* what is not in the first batch is asked for by itself */
	assert_int_equal(w->f->n_waiting, 3);
	answer_listing(w, listing(w, 0), w->seq, 5, 3, true);
	done_with(w, late, reply_err(w->seq, ENOENT));
	done_with(w, absent, reply_err(w->seq, ENOENT));
	assert_int_not_equal(known_name(w, dir, "f7"), UNKNOWN);
	assert_int_equal(known_name(w, dir, "f8"), ABSENT);
	assert_int_equal(ahead(w), 1);
	assert_int_equal(w->f->n_waiting, 0);
	world_free(w);
}

/* A name that is being made, and one that has been, while the listing was on its way. */
static void test_meets_a_change(void **state)
{
	(void)state;
	for (int before = 0; before < 2; before++) {
		struct world *w = ahead_world();
		uint64_t dir = look_up_directory(w, SMALL);
		struct asked *made = NULL;

		done_with(w, miss(w, dir, "a"), reply_err(w->seq, ENOENT));
		if (before) /* its task was killed: the kernel does not keep look-ups away */
			made = ask_name(w, MSG_MKNOD, dir, "new");
		struct asked *waits = miss(w, dir, "b");
		struct call *call = listing(w, (size_t)before);
		if (!before)
			made = ask_name(w, MSG_MKNOD, dir, "new");
		answer_listing(w, call, w->seq, 0, 3, true); /* as it was before */
		assert_int_equal(waits->completions, 0);     /* its listing is worth nothing */
		assert_int_equal(known_name(w, dir, "f1"), UNKNOWN);
		/* made, but no promise: nobody knows whether it is there */
		done_with(w, made, reply_node(w, NO_STAMP, 77, FILE_MODE, 77));
		assert_int_equal(known_name(w, dir, "new"), UNKNOWN);
		done_with(w, waits, reply_err(w->seq, ENOENT));
		world_free(w);
	}
}

/* What waits holds the directory's lock: an entry is not told to the kernel meanwhile. */
static void test_counts_as_busy(void **state)
{
	struct world *w = ahead_world();
	uint64_t dir = look_up_directory(w, SMALL);

	(void)state;
	done_with(w, miss(w, dir, "a"), reply_err(w->seq, ENOENT));
	assert_false(cache_dir_park(w->c, dir, false));
	struct asked *waits = miss(w, dir, "f1");
	assert_true(cache_dir_park(w->c, dir, false));
	answer_listing(w, listing(w, 0), w->seq, 0, 3, true);
	was_answered(waits, 0);
	assert_int_equal(told(w, TOLD_UNPARK, dir, NULL), 1);
	assert_false(cache_dir_park(w->c, dir, false));
	world_free(w);
}

/* An invalidation overtakes the listing: it is not kept, and the look-up asks by itself. */
static void test_overtaken(void **state)
{
	struct world *w = ahead_world();
	uint64_t dir = look_up_directory(w, SMALL), stamp = w->seq;

	(void)state;
	done_with(w, miss(w, dir, "a"), reply_err(w->seq, ENOENT));
	struct asked *waits = miss(w, dir, "f1");
	struct call *call = listing(w, 0);
	(void)inv_name(w, DIR_NODE, "f1");
	answer_listing(w, call, stamp, 0, 3, true);
	done_with(w, waits, reply_err(w->seq, ENOENT));
	assert_int_equal(known_name(w, dir, "f1"), ABSENT);
	assert_int_equal(known_name(w, dir, "other"), UNKNOWN);
	world_free(w);
}

/* A look-up and a listing that were on their way together: whichever comes second is not kept. */
static void test_meets_a_look_up(void **state)
{
	(void)state;
	for (int first = 0; first < 2; first++) {
		struct world *w = ahead_world();
		uint64_t dir = look_up_directory(w, SMALL);

		struct asked *early = miss(w, dir, "f1"), *waits = miss(w, dir, "f0");
		struct call *call = listing(w, 1);
		if (first) /* it says that f1 is gone; the listing may have been read before */
			done_with(w, early, reply_err(w->seq, ENOENT));
		answer_listing(w, call, w->seq, 0, 3, true);
		if (first) {
			assert_int_equal(known_name(w, dir, "f1"), ABSENT);
			done_with(w, waits, reply_err(w->seq, ENOENT));
		} else {
			was_answered(waits, 0);
			struct msg m = reply_err(w->seq, ENOENT);
			answer(w->f, early, &m);
			assert_int_equal(early->reply.entry_ttl, 0);
			free(early);
			assert_int_not_equal(known_name(w, dir, "f1"), ABSENT);
		}
		world_free(w);
	}
}

/* The server may not read the directory, or is gone; each listing takes twice the misses. */
static void test_fails(void **state)
{
	struct world *w = ahead_world();
	uint64_t dir = look_up_directory(w, SMALL);
	char name[16];
	unsigned n = 0;

	(void)state;
	for (uint64_t listings = 1; listings <= 3; listings++) {
		for (unsigned i = 1; i < 1u << listings; i++) {
			(void)snprintf(name, sizeof(name), "n%u", n++);
			done_with(w, miss(w, dir, name), reply_err(NO_STAMP, ENOENT));
		}
		assert_int_equal(ahead(w), listings - 1);
		struct asked *waits = miss(w, dir, "x");
		fail_listing(listing(w, 0), EACCES);
		assert_int_equal(ahead(w), listings);
		done_with(w, waits, reply_err(NO_STAMP, ENOENT));
	}
	world_free(w);
}

/* The larger a directory is, the more misses it takes. Without promises none is enough. */
static void test_does_not_pay(void **state)
{
	enum { LARGE, TIMED, OFF, CASES };
	struct cache_options options = lease_options();

	(void)state;
	for (int which = 0; which < CASES; which++) {
		options.list_after = which == OFF ? 0 : 2;
		struct world *w = world_watched(options, which != TIMED);
		uint64_t dir = look_up_directory(w, which == LARGE ? 100 * 2048 : SMALL);

		for (unsigned i = 1; i < 100; i++) {
			char name[16];

			(void)snprintf(name, sizeof(name), "n%u", i);
			done_with(w, miss(w, dir, name), reply_err(NO_STAMP, ENOENT));
		}
		assert_int_equal(ahead(w), 0);
		struct asked *a = miss(w, dir, "one more");
		if (which == LARGE)
			fail_listing(listing(w, 0), EIO);
		done_with(w, a, reply_err(NO_STAMP, ENOENT));
		assert_int_equal(ahead(w), which == LARGE);
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_meets_a_look_up),
		cmocka_unit_test(test_second_miss),    cmocka_unit_test(test_meets_a_change),
		cmocka_unit_test(test_counts_as_busy), cmocka_unit_test(test_overtaken),
		cmocka_unit_test(test_fails),	       cmocka_unit_test(test_does_not_pay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
