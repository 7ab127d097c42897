/* Nodes that the kernel has forgotten: how long they stay, which go first, what one costs. */
#include "cache_lease.h"

#include <malloc.h>
#include <sched.h>
#include <stdatomic.h>

#define FILE_MODE (S_IFREG | 0644u)
#define DIR_MODE  (S_IFDIR | 0755u)

static void name_it(char *ret, size_t len, uint64_t i)
{
	(void)snprintf(ret, len, "name%06llu", (unsigned long long)i);
}

/* A file that the kernel looks up and forgets at once; its id. */
static uint64_t pass(struct world *w, uint64_t i)
{
	char name[32];

	name_it(name, sizeof(name), i);
	uint64_t ino = look_up(w, CACHE_ROOT, name, 10000 + i, FILE_MODE, w->seq);
	cache_forget(w->c, ino, 1);
	cache_forget_flush(w->c);
	return ino;
}

static bool is_known(struct world *w, uint64_t i)
{
	char name[32];

	name_it(name, sizeof(name), i);
	return known_name(w, CACHE_ROOT, name) != UNKNOWN;
}

/* ---- the idle list ---- */

static void test_forgotten_and_kept(void **state)
{
	struct world *w = world_new();
	uint64_t ino = pass(w, 1);

	(void)state;
	assert_int_equal(w->f->n_forgets, 0);
	char name[32];
	name_it(name, sizeof(name), 1);
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, name);
	assert_true(a->local);
	assert_int_equal(a->reply.ino, ino); /* the same node, and so the same pages */
	assert_int_equal(a->attr.size, 10001);
	assert_int_equal(a->attr.ino, 5000 + 10001);
	assert_true(cache_kernel_knows(w->c, ino));
	free(a);
	forget_all(w, ino);
	assert_false(cache_kernel_knows(w->c, ino));
	assert_true(is_known(w, 1));

	(void)look_up(w, CACHE_ROOT, "device", 77, S_IFBLK | 0600, w->seq);
	a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "device");
	assert_true(a->local);
	assert_true(a->attr.rdev == (UINT64_C(8) << 32 | 17) && a->attr.size == 0);
	free(a);
	world_free(w);
}

/* Only what a promise covers is worth it. */
static void test_forgotten_and_gone(void **state)
{
	enum { NO_PROMISE, LOST, UNLINKED, EXPIRED_LATER, HOWS };

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		struct world *w = world_new();
		uint64_t ino = look_up(w, CACHE_ROOT, "f", 50, FILE_MODE,
				       how == NO_PROMISE ? NO_STAMP : w->seq);
		struct msg m = reply_attr(w, w->seq, FILE_MODE, 50);

		if (how == LOST)
			(void)inv(w, 50, INV_ATTR);
		if (how == UNLINKED) {
			m.attr.nlink = 0;
			done_with(w, ask(w->c, MSG_SETATTR, ino), m);
		}
		forget_all(w, ino);
		assert_int_equal(fake_forgotten(w->f, 50), how != EXPIRED_LATER);
		if (how == EXPIRED_LATER) {
			(void)reset(w);
			assert_int_equal(fake_forgotten(w->f, 50), 1);
		}
		assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1);
		world_free(w);
	}
}

static struct world *world_of(uint64_t budget)
{
	struct cache_options options = lease_options();

	options.node_budget = budget;
	return world_with(options);
}

static void test_node_budget(void **state)
{
	enum { BUDGET = 10, NODES = 100 };
	struct world *w = world_of(BUDGET);

	(void)state;
	for (uint64_t i = 0; i < NODES; i++)
		(void)pass(w, i);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1 + BUDGET);
	assert_int_equal(w->f->n_forgets, NODES - BUDGET);
	for (uint64_t i = 0; i < NODES - BUDGET; i++) {
		assert_int_equal(w->f->forgets[i].node, 10000 + i); /* the oldest first */
		assert_int_equal(w->f->forgets[i].n, 1);
	}
	/* what the kernel holds does not count */
	for (uint64_t i = 0; i < NODES; i++) {
		char name[32];

		name_it(name, sizeof(name), 1000 + i);
		(void)look_up(w, CACHE_ROOT, name, 20000 + i, FILE_MODE, w->seq);
	}
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1 + BUDGET + NODES);
	struct cache_options options;
	cache_get_options(w->c, &options);
	options.node_budget = 3;
	cache_set_options(w->c, &options);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1 + 3 + NODES);
	world_free(w);
}

/* What is used again stays, though everything else passes by. */
static void test_scan(void **state)
{
	enum { BUDGET = 10, SCAN = 200, USED = 3 };
	struct world *w = world_of(BUDGET);

	(void)state;
	for (uint64_t i = 0; i < USED; i++)
		(void)pass(w, i);
	for (uint64_t i = USED; i < SCAN; i++) {
		for (uint64_t used = 0; used < USED; used++)
			assert_true(is_known(w, used)); /* looks it up, and forgets it */
		(void)pass(w, i);
	}
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1 + BUDGET);
	/* and does not stay when the others are used again as well */
	for (uint64_t i = SCAN; i < SCAN + 3 * BUDGET; i++) {
		(void)pass(w, i);
		(void)is_known(w, i);
	}
	for (uint64_t used = 0; used < USED; used++)
		assert_false(is_known(w, used));
	world_free(w);
}

/* Used once, while it was idle: outlives all that came with it, without being in use. */
static void test_visited_once(void **state)
{
	enum { BUDGET = 10 };
	struct world *w = world_of(BUDGET);

	(void)state;
	for (uint64_t i = 0; i < BUDGET; i++)
		(void)pass(w, i);
	assert_true(is_known(w, 0)); /* comes back as the newest */
	assert_true(is_known(w, 5));
	for (uint64_t i = BUDGET; i < 2 * BUDGET - 2; i++)
		(void)pass(w, i);
	for (uint64_t i = 0; i < BUDGET; i++)
		assert_int_equal(fake_forgotten(w->f, 10000 + i), i != 0 && i != 5);
	/* the hand has reached them: they have another round, those behind them have not */
	for (uint64_t i = 2 * BUDGET; i < 2 * BUDGET + 6; i++)
		(void)pass(w, i);
	assert_int_equal(fake_forgotten(w->f, 10000 + BUDGET), 1);
	assert_true(is_known(w, 0) && is_known(w, 5));
	world_free(w);
}

/* A request that holds an idle node keeps it over any number of others. */
static void test_held_by_a_request(void **state)
{
	enum { BUDGET = 5 };
	struct world *w = world_of(BUDGET);
	uint64_t ino = pass(w, 0);
	struct asked *a = ask(w->c, MSG_READ, ino);

	(void)state;
	assert_int_equal(a->completions, 0);
	for (uint64_t i = 1; i < 50; i++)
		(void)pass(w, i);
	assert_int_equal(fake_forgotten(w->f, 10000), 0);
	done_with(w, a, reply_attr(w, w->seq, FILE_MODE, 1));
	assert_int_equal(known_size(w, ino), 1);
	for (uint64_t i = 50; i < 100; i++)
		(void)pass(w, i);
	assert_int_equal(fake_forgotten(w->f, 10000), 1);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1 + BUDGET);
	world_free(w);
}

/* A directory goes with all that is known of its names; what they led to stays. */
static void test_evicted_directory(void **state)
{
	struct world *w = world_of(2);
	uint64_t dir = look_up_dir(w, "d", 40);
	uint64_t in = look_up(w, dir, "in", 41, FILE_MODE, w->seq);
	char path[32];

	(void)state;
	look_up_absent(w, dir, "no", w->seq);
	assert_int_equal(stats_get(w->stats, STAT_cache_names), 3);
	assert_true(cache_path(w->c, dir, path, sizeof(path)));
	cache_forget(w->c, dir, 1);
	for (uint64_t i = 0; i < 10; i++)
		(void)pass(w, i);
	assert_int_equal(fake_forgotten(w->f, 40), 1);
	assert_int_equal(stats_get(w->stats, STAT_cache_names), 2); /* the two of the budget */
	assert_int_equal(known_size(w, in), 41);
	assert_false(cache_path(w->c, in, path, sizeof(path)));
	world_free(w);
}

/* A file under two names: when it goes, neither leads anywhere. */
static void test_two_names(void **state)
{
	struct world *w = world_of(2);
	uint64_t ino = look_up(w, CACHE_ROOT, "a", 50, FILE_MODE, w->seq);

	(void)state;
	assert_int_equal(look_up(w, CACHE_ROOT, "b", 50, FILE_MODE, w->seq), ino);
	forget_all(w, ino);
	assert_int_equal(known_name(w, CACHE_ROOT, "a"), ino);
	assert_int_equal(known_name(w, CACHE_ROOT, "b"), ino);
	struct cache_options options;
	cache_get_options(w->c, &options);
	options.node_budget = 0;
	cache_set_options(w->c, &options);
	assert_int_equal(fake_forgotten(w->f, 50), 2);
	assert_int_equal(known_name(w, CACHE_ROOT, "a"), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "b"), UNKNOWN);
	world_free(w);
}

/* However many go at once, none of them is lost on the way to the server. */
static void test_many_at_once(void **state)
{
	enum { NODES = 250000 };
	struct world *w = world_of(2 * NODES);

	(void)state;
	for (uint64_t i = 0; i < NODES; i++)
		(void)pass(w, i);
	assert_int_equal(w->f->n_forgets, 0);
	struct cache_options options;
	cache_get_options(w->c, &options);
	options.node_budget = 0;
	cache_set_options(w->c, &options);
	assert_int_equal(w->f->n_forgets, NODES);
	assert_in_range(w->f->n_forget_messages, 2, NODES / 1000);
	uint64_t sum = 0;
	for (size_t i = 0; i < NODES; i++) {
		assert_int_equal(w->f->forgets[i].n, 1);
		sum += w->f->forgets[i].node - 10000;
	}
	assert_true(sum == (uint64_t)NODES * (NODES - 1) / 2);
	world_free(w);
}

/* ---- memory ---- */

#define COST_MAX 300 /* bytes of a node and its name, the name's own bytes aside */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OTHER_MALLOC true /* mallinfo2 knows nothing of it */
#else
#define OTHER_MALLOC false
#endif

static int by_number(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

/* Nodes with names in directories of a hundred, as a walk leaves them. */
static void test_memory_of_a_node(void **state)
{
	enum { NODES = 100000, PER_DIR = 100, NAME_LEN = 10 };

	(void)state;
	if (OTHER_MALLOC)
		skip();
	struct world *w = world_of(2 * NODES);
	uint64_t dir = 0;
	struct mallinfo2 before = mallinfo2();

	for (uint64_t i = 0; i < NODES; i++) {
		char name[32];

		name_it(name, sizeof(name), i);
		if (i % PER_DIR == 0)
			dir = look_up(w, CACHE_ROOT, name, 1000000 + i, DIR_MODE, w->seq);
		else
			cache_forget(w->c, look_up(w, dir, name, 1000000 + i, FILE_MODE, w->seq), 1);
	}
	struct mallinfo2 after = mallinfo2();
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1 + NODES);
	assert_int_equal(stats_get(w->stats, STAT_cache_names), NODES);
	size_t used = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
	double cost = (double)used / NODES - NAME_LEN;
	print_message("%.1f bytes per node (struct node %zu, struct dentry %zu)\n", cost,
		      sizeof(struct node), sizeof(struct dentry));
	assert_true(cost > (double)sizeof(struct node)); /* it is measured at all */
	assert_true(cost < COST_MAX);
	world_free(w);
}

/* What has gone leaves no memory behind, and no number that comes back. */
static void test_memory_comes_back(void **state)
{
	enum { NODES = 50000 };

	(void)state;
	if (OTHER_MALLOC)
		skip();
	struct world *w = world_of(0);
	uint64_t *ids = calloc(2 * NODES, sizeof(*ids));
	size_t used[2];

	assert_non_null(ids);
	for (uint64_t round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < NODES; i++) {
			char name[32];

			name_it(name, sizeof(name), i);
			ids[round * NODES + i] = look_up(w, CACHE_ROOT, name, 1000000 + i, FILE_MODE, w->seq);
		}
		(void)inv(w, FAKE_ROOT, INV_NAMES);
		told_clear(w);
		for (uint64_t i = 0; i < NODES; i++)
			cache_forget(w->c, ids[round * NODES + i], 1);
		cache_forget_flush(w->c);
		assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1);
		struct mallinfo2 m = mallinfo2();
		used[round] = m.uordblks + m.hblkhd;
	}
	assert_true(used[1] < used[0] + 4096);
	for (uint32_t i = 1; i < w->c->slot_count / NODES_PER_CHUNK; i++)
		assert_null(chunk_at(w->c, i)->nodes);
	assert_true(w->c->by_server.size < NODES / 2 && w->c->names.size < NODES / 2);
	qsort(ids, 2 * NODES, sizeof(*ids), by_number);
	for (size_t i = 1; i < 2 * NODES; i++)
		assert_true(ids[i] > ids[i - 1]);
	free(ids);
	world_free(w);
}

/* ---- threads ---- */

#define SUBMITTERS 3
#define SUBMITS	   8000
#define SHARED	   30

static struct {
	atomic_uint submitted, answered;
	atomic_uint pushes;
	atomic_bool end;
	atomic_uint told[SHARED];
} shared;

static void done_by_many(struct cache_req *r, const struct cache_reply *reply)
{
	struct asked *a = (struct asked *)r;

	if (reply->ino != 0)
		cache_forget(r->cache, reply->ino, 1);
	if (reply->err == 0 && r->call.req.op == MSG_OPEN)
		cache_close(r->cache, CACHE_ROOT + 1, reply->fh, true);
	atomic_fetch_add(&shared.answered, 1);
	free(a);
}

static void *submit_by_many(void *arg)
{
	struct world *w = arg;
	struct unit_random random = {(uintptr_t)&random | 1};

	for (int i = 0; i < SUBMITS; i++) {
		static const enum msg_op asks[] = {MSG_LOOKUP, MSG_LOOKUP, MSG_GETATTR, MSG_READ,
						   MSG_OPEN};
		static const enum msg_op changes[] = {MSG_CREATE, MSG_UNLINK, MSG_WRITE};
		static const char *const names[] = {"a", "b", "c", "d", "e"};
		struct asked *a = asked_new(unit_below(&random, 40) == 0
						? changes[unit_below(&random, COUNT(changes))]
						: asks[unit_below(&random, COUNT(asks))]);
		const char *name = names[unit_below(&random, COUNT(names))];
		bool here = unit_below(&random, 3) == 0;

		MSG_SET(&a->req.call.req, name, ((struct slice){name, 1}));
		MSG_SET(&a->req.call.req, size, 64);
		a->req.done = done_by_many;
		while (atomic_load(&shared.submitted) - atomic_load(&shared.answered) >
		       FAKE_CALLS / 2)
			(void)sched_yield();
		atomic_fetch_add(&shared.submitted, 1);
		cache_submit(w->c, &a->req, here ? 2 + unit_below(&random, SHARED) : CACHE_ROOT, 0);
		if (i % 8 == 0)
			cache_forget_flush(w->c);
		if (i % 256 == 0)
			cache_drop(w->c, unit_below(&random, SHARED));
		if (i % 64 == 0)
			(void)cache_dir_park(w->c, 2 + unit_below(&random, SHARED), false);
	}
	return NULL;
}

/* The reader: replies and invalidations in the order in which they come. */
static void *answer_many(void *arg)
{
	struct world *w = arg;
	struct unit_random random = {17};
	static const char *const names[] = {"a", "b", "c", "d", "e"};

	for (unsigned n = 0;; n++) {
		(void)pthread_mutex_lock(&w->f->lock);
		size_t waiting = w->f->n_waiting;
		(void)pthread_mutex_unlock(&w->f->lock);
		if (waiting == 0) {
			if (atomic_load(&shared.end))
				return NULL;
			(void)sched_yield();
			continue;
		}
		size_t i = unit_below(&random, SHARED);
		bool dir = i % 3 == 0;
		if (n % 4 == 0) {
			uint64_t class = 1 + unit_below(&random, 15);

			push_item(w, ++w->seq, 0, unit_below(&random, 9) == 0 ? FAKE_ROOT : 50 + i,
				  class, class & INV_NAME ? names[unit_below(&random, 5)] : NULL);
			atomic_fetch_add(&shared.pushes, 1);
		}
		if (n % 1024 == 0)
			(void)reset(w);
		struct call *call = fake_take(w->f, 0);
		struct msg m = unit_below(&random, 5) == 0
				   ? reply_err(w->seq, ENOENT)
				   : reply_node(w, w->seq - unit_below(&random, 3), 50 + i,
						dir ? DIR_MODE : FILE_MODE, 1);
		MSG_SET(&m, payload, ((struct slice){names, 8}));
		if (m.err == 0 && (call->req.op == MSG_LOOKUP || call->req.op == MSG_CREATE))
			atomic_fetch_add(&shared.told[i], 1);
		call->done(call, &m);
	}
}

static void test_many_threads(void **state)
{
	struct world *w = world_of(10);
	pthread_t threads[SUBMITTERS], reader;

	(void)state;
	assert_int_equal(pthread_create(&reader, NULL, answer_many, w), 0);
	for (size_t i = 0; i < SUBMITTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, submit_by_many, w), 0);
	for (size_t i = 0; i < SUBMITTERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	atomic_store(&shared.end, true);
	assert_int_equal(pthread_join(reader, NULL), 0);
	assert_int_equal(shared.answered, SUBMITTERS * SUBMITS);
	assert_true(shared.pushes > 100);
	assert_true(w->n_told > 100);
	assert_true(stats_get(w->stats, STAT_cache_name_hits) > 0);
	/* nothing is held any more: what is left is idle, and a RESET ends that */
	(void)reset(w);
	cache_forget_flush(w->c);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1);
	assert_int_equal(stats_get(w->stats, STAT_cache_names), 0);
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), 0);
	for (size_t i = 0; i < SHARED; i++)
		assert_int_equal(fake_forgotten(w->f, 50 + i), shared.told[i]);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_forgotten_and_kept),
	    cmocka_unit_test(test_forgotten_and_gone),
	    cmocka_unit_test(test_node_budget),
	    cmocka_unit_test(test_scan),
	    cmocka_unit_test(test_visited_once),
	    cmocka_unit_test(test_held_by_a_request),
	    cmocka_unit_test(test_evicted_directory),
	    cmocka_unit_test(test_two_names),
	    cmocka_unit_test(test_memory_comes_back),
	    cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_memory_of_a_node),
	    cmocka_unit_test(test_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
