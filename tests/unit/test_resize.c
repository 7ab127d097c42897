/* The size of a file as the kernel has it: what grows there first, and which page goes again. */
#include "cache_lease.h"

#define FILE_MODE (S_IFREG | 0644u)

static struct world *w;
static uint64_t ino;

static int begin(void **state)
{
	(void)state;
	w = world_new();
	ino = look_up_file(w, "f", 50); /* and has 50 bytes */
	return 0;
}

static int end(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

#define CACHED UINT64_MAX

/* What a GETATTR makes the file grow to first. */
static uint64_t look(uint64_t size)
{
	struct asked *a = ask(w->c, MSG_GETATTR, ino);

	assert_int_equal(a->completions, size == CACHED);
	if (size != CACHED) {
		struct msg m = reply_attr(w, w->seq, FILE_MODE, size);

		answer(w->f, a, &m);
	}
	uint64_t grow = a->reply.grow;
	free(a);
	return grow;
}

static void changed(uint64_t size)
{
	(void)inv(w, 50, INV_ATTR | INV_DATA);
	(void)look(size);
}

/* How often the page of that size goes again. */
static size_t repeated(uint64_t from, uint64_t to)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n_told; i++) {
		const struct told *t = &w->told[i];

		if (t->kind != TOLD_REPEAT)
			continue;
		assert_int_equal(t->ino, ino);
		assert_int_equal(t->from, from);
		assert_int_equal(t->to, to);
		n++;
	}
	told_clear(w);
	return n;
}

static void write_bytes(uint64_t off, uint64_t size, uint64_t then)
{
	struct asked *a = ask(w->c, MSG_WRITE, ino);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, then);

	MSG_SET(&m, off, off);
	MSG_SET(&m, size, size);
	done_with(w, a, m);
}

/* Others have made it longer: every reply has it grow, until it has. */
static void test_growth(void **state)
{
	(void)state;
	(void)inv(w, 50, INV_ATTR | INV_DATA);
	assert_int_equal(look(60), 60);
	assert_int_equal(look(CACHED), 60);
	assert_true(cache_grows(w->c, ino, 60));
	assert_false(cache_grows(w->c, ino, 61));
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	assert_true(a->from_cache);
	assert_int_equal(a->reply.grow, 60);
	free(a);
	cache_grown(w->c, ino, 60);
	assert_int_equal(look(CACHED), 0);
	assert_false(cache_grows(w->c, ino, 60));
	/* and once more before it has: then it is not done yet */
	changed(70);
	changed(80);
	cache_grown(w->c, ino, 70);
	assert_int_equal(look(CACHED), 80);
	cache_grown(w->c, ino, 80);
	assert_int_equal(look(CACHED), 0);
	assert_int_equal(repeated(0, 0), 0); /* nothing was cut */
}

/* The size is the same, or the guest's own, or the inode is new to the kernel. */
static void test_no_growth(void **state)
{
	(void)state;
	changed(50);
	assert_int_equal(look(CACHED), 0);
	write_bytes(50, 10, 60);
	assert_int_equal(look(CACHED), 0);
	struct asked *a = asked_new(MSG_SETATTR);
	MSG_SET(&a->req.call.req, valid, SET_SIZE);
	MSG_SET(&a->req.call.req, size, 90);
	cache_submit(w->c, &a->req, ino, 0);
	done_with(w, a, reply_attr(w, w->seq, FILE_MODE, 90));
	assert_int_equal(look(CACHED), 0);
	/* what was made shorter before it had grown is not to grow */
	changed(95);
	assert_true(cache_grows(w->c, ino, 95));
	a = asked_new(MSG_SETATTR);
	MSG_SET(&a->req.call.req, valid, SET_SIZE);
	MSG_SET(&a->req.call.req, size, 90);
	cache_submit(w->c, &a->req, ino, 0);
	done_with(w, a, reply_attr(w, w->seq, FILE_MODE, 90));
	assert_false(cache_grows(w->c, ino, 95));
	assert_int_equal(look(CACHED), 0);
	/* what others hear of while the guest writes may be of that */
	a = ask(w->c, MSG_WRITE, ino);
	assert_int_equal(look(100), 0);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 100);
	MSG_SET(&m, off, 90);
	MSG_SET(&m, size, 10);
	done_with(w, a, m);
	assert_int_equal(look(CACHED), 0);
	/* a WRITE that somebody else's comes before */
	write_bytes(100, 10, 500);
	assert_int_equal(look(CACHED), 500);
	cache_forget(w->c, ino, 1);
	a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	assert_true(a->from_cache);
	assert_int_equal(a->reply.ino, ino);
	assert_int_equal(a->reply.grow, 0);
	free(a);
	assert_int_equal(look(CACHED), 0);
}

/* A reply that an invalidation overtook tells the newest size as well. */
static void test_tainted(void **state)
{
	uint64_t stamp = w->seq;
	struct asked *a = ask(w->c, MSG_GETATTR, ino);

	(void)state;
	assert_true(a->from_cache);
	free(a);
	(void)inv(w, 50, INV_ATTR | INV_DATA);
	struct asked *early = ask(w->c, MSG_GETATTR, ino);
	struct asked *late = ask(w->c, MSG_GETATTR, ino);
	struct msg old = reply_attr(w, w->seq, FILE_MODE, 60);
	struct msg m = reply_attr(w, stamp, FILE_MODE, 70);

	answer(w->f, late, &m);
	assert_int_equal(late->reply.attr_ttl, 0);
	assert_int_equal(late->reply.grow, 70);
	free(late);
	/* and nobody is told what is older than that */
	answer(w->f, early, &old);
	assert_int_equal(early->reply.attr_ttl, 0);
	assert_int_equal(early->reply.attr->size, 70);
	assert_int_equal(early->reply.grow, 70);
	free(early);
	assert_int_equal(known_size(w, ino), UNKNOWN);
}

/* It shrinks in the kernel, at a time that nobody knows. */
static void test_shrinking(void **state)
{
	(void)state;
	changed(30);
	assert_int_equal(look(CACHED), 0);
	assert_int_equal(repeated(0, 0), 0);
	(void)inv(w, 50, INV_ATTR);
	assert_int_equal(repeated(0, 0), 0);
	changed(40);
	assert_int_equal(repeated(30, 30), 1);
	cache_grown(w->c, ino, 40);
	write_bytes(40, 1, 41);
	assert_int_equal(repeated(30, 30), 2); /* begun, and done */
	changed(20);
	assert_int_equal(repeated(30, 30), 1);
	fake_now += SECOND - 1;
	(void)inv(w, 50, INV_DATA);
	assert_int_equal(repeated(20, 30), 1);
	fake_now += 1;
	(void)inv(w, 50, INV_DATA);
	assert_int_equal(repeated(0, 0), 0);
	/* the first of a new series; to nothing, no page is cut in two */
	(void)look(10);
	(void)inv(w, 50, INV_DATA);
	assert_int_equal(repeated(10, 10), 1);
	fake_now += SECOND;
	changed(0);
	(void)inv(w, 50, INV_DATA);
	assert_int_equal(repeated(0, 0), 0);
}

/* The guest's own times are no change by others; nor is what it has emptied itself one. */
static void test_own_changes(void **state)
{
	(void)state;
	done_with(w, ask(w->c, MSG_READ, ino), reply_attr(w, w->seq, FILE_MODE, 50));
	done_with(w, ask(w->c, MSG_SETATTR, ino), reply_attr(w, w->seq, FILE_MODE, 50));
	struct asked *a = asked_new(MSG_SETATTR);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 50);
	MSG_SET(&a->req.call.req, valid, SET_MTIME);
	m.attr.mtime.sec = 1234;
	cache_submit(w->c, &a->req, ino, 0);
	done_with(w, a, m);
	assert_int_equal(w->n_told, 0);
	a = asked_new(MSG_OPEN);
	MSG_SET(&a->req.call.req, flags, O_WRONLY | O_TRUNC);
	cache_submit(w->c, &a->req, ino, 0);
	m = reply_attr(w, w->seq, FILE_MODE, 0);
	MSG_SET(&m, fh, 7);
	done_with(w, a, m);
	write_bytes(0, 20, 20);
	assert_int_equal(look(CACHED), 0);
	write_bytes(20, 100, 120);
	assert_int_equal(look(CACHED), 0);
	assert_int_equal(repeated(0, 0), 0);
}

/* A reply that is held has been overtaken by another: the file grows for each in turn. */
static void test_overtaken(void **state)
{
	(void)state;
	changed(60);
	changed(70);
	assert_true(cache_grows(w->c, ino, 60));
	cache_grown(w->c, ino, 60);
	assert_false(cache_grows(w->c, ino, 60));
	assert_true(cache_grows(w->c, ino, 70));
}

/* What the kernel takes whatever it was told since. */
static void test_forced(void **state)
{
	(void)state;
	for (int op = 0; op < 3; op++) {
		struct asked *a;

		if (op == 0) {
			a = ask(w->c, MSG_SETATTR, ino);
		} else if (op == 1) {
			a = asked_new(MSG_LINK);
			MSG_SET(&a->req.call.req, name, ((struct slice){"g", 1}));
			cache_submit(w->c, &a->req, ino, CACHE_ROOT);
		} else {
			a = ask_name(w, MSG_CREATE, CACHE_ROOT, "h");
		}
		struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 50);
		answer(w->f, a, &m);
		assert_int_equal(a->reply.attr_ttl, op == 0 ? ATTR_CAP : 0);
		assert_int_equal(a->reply.grow, 0);
		free(a);
		assert_int_equal(known_size(w, ino), 50);
		told_clear(w);
		write_bytes(0, 1, 50); /* the kernel's own come behind it */
		assert_int_equal(repeated(0, 0), 0);
		assert_int_equal(look(CACHED), 0);
		(void)inv(w, 50, INV_ATTR | INV_DATA);
		assert_int_equal(repeated(50, 50), 1);
		assert_int_equal(look(50), 50); /* it may have another by then */
		cache_grown(w->c, ino, 50);
		fake_now += SECOND;
		(void)inv(w, 50, INV_ATTR | INV_DATA);
		assert_int_equal(repeated(0, 0), 0);
		assert_int_equal(look(50), 0);
	}
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)
	const struct CMUnitTest tests[] = {
	    TEST(test_growth),	  TEST(test_no_growth), TEST(test_tainted),
	    TEST(test_shrinking), TEST(test_own_changes), TEST(test_overtaken), TEST(test_forced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
