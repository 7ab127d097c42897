/* The size of a file as the kernel has it: what is made known there first, and what is told
 * meanwhile. */
#include "cache_lease.h"

#define FILE_MODE (S_IFREG | 0644u)
#define WRITER	  77 /* tasks */
#define OTHER	  78

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

/* ---- requests ---- */

#define CACHED UINT64_MAX

static struct asked *ask_as(uint32_t task, enum msg_op op)
{
	struct asked *a = asked_new(op);

	a->req.task = task;
	cache_submit(w->c, &a->req, ino, 0);
	return a;
}

/* A GETATTR: what it tells, and whether that has to be made known first. */
static uint64_t look_as(uint32_t task, uint64_t size, bool *ret_first)
{
	struct asked *a = ask_as(task, MSG_GETATTR);

	assert_int_equal(a->completions, size == CACHED);
	if (size != CACHED) {
		struct msg m = reply_attr(w, w->seq, FILE_MODE, size);

		answer(w->f, a, &m);
	}
	*ret_first = a->reply.size_first;
	uint64_t told_size = a->attr.size;
	free(a);
	return told_size;
}

/* The same, and nothing is to be made known. */
static uint64_t look(uint64_t size)
{
	bool first;
	uint64_t ret = look_as(0, size, &first);

	assert_false(first);
	return ret;
}

static bool look_first(uint64_t size)
{
	bool first;

	(void)look_as(0, size, &first);
	return first;
}

/* What the notifier does with a reply that is held: where the STORE begins; UNKNOWN: there is none.
 */
static uint64_t release(uint64_t size)
{
	struct attr a = {.version = UINT64_MAX, .mode = FILE_MODE, .size = size};
	uint64_t from = UNKNOWN;

	if (!cache_size_to_tell(w->c, ino, &a, &from))
		return UNKNOWN;
	assert_int_equal(a.size, size);
	cache_size_stored(w->c, ino, size, true);
	return from;
}

static void invalidated(void)
{
	(void)inv(w, 50, INV_ATTR | INV_DATA);
}

static struct asked *write_begins(uint32_t task, uint64_t off, uint64_t size)
{
	struct asked *a = asked_new(MSG_WRITE);

	a->req.task = task;
	MSG_SET(&a->req.call.req, off, off);
	MSG_SET(&a->req.call.req, payload, ((struct slice){"", size}));
	cache_submit(w->c, &a->req, ino, 0);
	return a;
}

static void write_ends(struct asked *a, uint64_t off, uint64_t size, uint64_t then)
{
	struct msg m = reply_attr(w, w->seq, FILE_MODE, then);

	MSG_SET(&m, off, off);
	MSG_SET(&m, size, size);
	done_with(w, a, m);
}

static void write_as(uint32_t task, uint64_t off, uint64_t size)
{
	write_ends(write_begins(task, off, size), off, size, off + size);
}

static void truncated(uint64_t size)
{
	struct asked *a = asked_new(MSG_SETATTR);

	MSG_SET(&a->req.call.req, valid, SET_SIZE);
	MSG_SET(&a->req.call.req, size, size);
	cache_submit(w->c, &a->req, ino, 0);
	done_with(w, a, reply_attr(w, w->seq, FILE_MODE, size));
}

/* ---- what others make longer ---- */

static void test_growth(void **state)
{
	struct asked *a;

	(void)state;
	invalidated();
	assert_true(look_first(60));
	assert_true(look_first(CACHED)); /* as long as the kernel does not have it */
	a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	assert_true(a->from_cache && a->reply.size_first);
	free(a);
	assert_int_equal(release(60), 59);
	assert_int_equal(look(CACHED), 60);
	assert_int_equal(release(60), UNKNOWN); /* one that was held as well */
	/* it is shorter again, by the host, before that was told */
	invalidated();
	assert_true(look_first(100));
	invalidated();
	assert_int_equal(look(40), 40);
	assert_int_equal(look(CACHED), 40);
}

/* The STORE begins in a page that no WRITE at the end holds. */
static void test_where_it_begins(void **state)
{
	static const struct {
		uint64_t to, from;
	} steps[] = {{4095, 4094},
		     {4096, 4095},
		     {10000, 0},
		     {10001, 4096},
		     {UINT64_C(1) << 40, (UINT64_C(1) << 40) - 1}};

	(void)state;
	for (size_t i = 0; i < COUNT(steps); i++) {
		invalidated();
		assert_true(look_first(steps[i].to));
		assert_int_equal(release(steps[i].to), steps[i].from);
	}
}

/* A reply that an invalidation overtook tells the newest size, too. */
static void test_tainted(void **state)
{
	uint64_t stamp = w->seq;

	(void)state;
	invalidated();
	struct asked *early = ask(w->c, MSG_GETATTR, ino);
	struct asked *late = ask(w->c, MSG_GETATTR, ino);
	struct msg old = reply_attr(w, w->seq, FILE_MODE, 60);
	struct msg m = reply_attr(w, stamp, FILE_MODE, 70);

	answer(w->f, late, &m);
	assert_int_equal(late->reply.attr_ttl, 0);
	assert_true(late->reply.size_first);
	free(late);
	/* and nobody is told what is older than that */
	answer(w->f, early, &old);
	assert_int_equal(early->reply.attr_ttl, 0);
	assert_int_equal(early->reply.attr->size, 70);
	assert_true(early->reply.size_first);
	free(early);
	assert_int_equal(known_size(w, ino), UNKNOWN);
}

/* The kernel has none, or a new inode. */
static void test_new_inode(void **state)
{
	(void)state;
	invalidated();
	assert_true(look_first(60));
	cache_forget(w->c, ino, 1);
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	assert_true(a->from_cache);
	assert_int_equal(a->reply.ino, ino);
	assert_false(a->reply.size_first);
	free(a);
	assert_int_equal(look(CACHED), 60);
}

/* A READ that ends before the size: the kernel takes that for the end (fuse_short_read). */
static void test_short_read(void **state)
{
	(void)state;
	for (int unpaged = 1; unpaged >= 0; unpaged--) {
		struct asked *a = asked_new(MSG_READ);
		struct msg m = reply_attr(w, w->seq, FILE_MODE, 50);

		a->req.unpaged = unpaged;
		MSG_SET(&a->req.call.req, size, 4096);
		MSG_SET(&m, payload, ((struct slice){"0123456789", 10}));
		cache_submit(w->c, &a->req, ino, 0);
		answer(w->f, a, &m);
		assert_int_equal(a->reply.longer, !unpaged);
		free(a);
		assert_int_equal(look_first(CACHED), !unpaged);
	}
}

/* A READ that shows more than was told: the kernel is to ask again. */
static void test_longer_read(void **state)
{
	(void)state;
	for (uint64_t size = 50; size <= 60; size += 10) {
		struct asked *a = asked_new(MSG_READ);
		struct msg m = reply_attr(w, w->seq, FILE_MODE, size);

		MSG_SET(&a->req.call.req, size, size);
		MSG_SET(&m, payload,
			((struct slice){"0123456789012345678901234567890123456789"
					"01234567890123456789",
					size}));
		cache_submit(w->c, &a->req, ino, 0);
		answer(w->f, a, &m);
		assert_int_equal(a->reply.longer, size > 50);
		free(a);
	}
}

/* ---- the guest's own ---- */

/* The kernel has the size when the write(2) has returned: as what its task does next shows. */
static void test_own_writes(void **state)
{
	bool first;

	(void)state;
	write_as(WRITER, 0, 50); /* as long as it is */
	assert_int_equal(look(CACHED), 50);
	write_as(WRITER, 50, 10);
	(void)look_as(OTHER, CACHED, &first);
	assert_true(first);
	(void)look_as(WRITER, CACHED, &first);
	assert_false(first);
	assert_int_equal(look(CACHED), 60);
	/* the next WRITE may be of the same write(2) */
	write_as(WRITER, 60, 10);
	write_as(WRITER, 70, 10);
	assert_true(look_first(CACHED));
	/* another task's is not, for that waits for the inode's lock */
	struct asked *a = write_begins(OTHER, 0, 1);
	assert_int_equal(look(80), 80);
	write_ends(a, 0, 1, 80);
	write_as(WRITER, 80, 10);
	cache_task_goes_on(w->c, ino, OTHER);
	assert_true(look_first(CACHED));
	cache_task_goes_on(w->c, ino, WRITER); /* close(2) */
	assert_int_equal(look(CACHED), 90);
	/* with a task that is not known nothing is */
	write_as(0, 90, 10);
	assert_true(look_first(CACHED));
	assert_int_equal(release(100), 99);
	/* while it is in flight, and there already */
	a = write_begins(WRITER, 100, 10);
	assert_true(look_first(110));
	assert_int_equal(release(110), 109);
	write_ends(a, 100, 10, 110);
	assert_int_equal(look(CACHED), 110);
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 0);
}

/* Another one's bytes behind those of a WRITE in flight: the page of the old end goes first. */
static void test_growth_beside_a_write(void **state)
{
	(void)state;
	struct asked *a = write_begins(WRITER, 50, 10);

	assert_true(look_first(60));
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 0);
	(void)inv(w, 50, INV_ATTR);
	assert_true(look_first(61));
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
	write_ends(a, 50, 10, 61);
}

static void test_own_truncation(void **state)
{
	struct asked *a;

	(void)state;
	truncated(30);
	assert_int_equal(look(CACHED), 30);
	truncated(90);
	assert_true(look_first(CACHED)); /* until it has digested that */
	write_as(WRITER, 0, 1);
	(void)release(90);
	a = asked_new(MSG_OPEN);
	MSG_SET(&a->req.call.req, flags, O_WRONLY | O_TRUNC);
	cache_submit(w->c, &a->req, ino, 0);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 0);
	MSG_SET(&m, fh, 7);
	done_with(w, a, m);
	assert_int_equal(look(CACHED), 0);
	write_as(WRITER, 0, 20);
	assert_true(look_first(CACHED));
}

/* ---- what is forced ---- */

enum forcing { SETATTR, LINK, CREATE };

/* Answered with this size. */
static struct asked *force(enum forcing how, uint64_t size)
{
	struct asked *a;

	if (how == SETATTR) {
		a = ask_as(WRITER, MSG_SETATTR);
	} else if (how == LINK) {
		a = asked_new(MSG_LINK);
		a->req.task = WRITER;
		MSG_SET(&a->req.call.req, name, ((struct slice){"g", 1}));
		cache_submit(w->c, &a->req, ino, CACHE_ROOT);
	} else {
		a = asked_new(MSG_CREATE);
		a->req.task = WRITER;
		MSG_SET(&a->req.call.req, name, ((struct slice){"h", 1}));
		cache_submit(w->c, &a->req, CACHE_ROOT, 0);
	}
	struct msg m = reply_node(w, w->seq, 50, FILE_MODE, size);
	answer(w->f, a, &m);
	assert_true(a->reply.forces);
	assert_int_equal(a->reply.attr_ttl, how == SETATTR ? ATTR_CAP : 0);
	return a;
}

static void forced(enum forcing how, uint64_t size)
{
	struct asked *a = force(how, size);

	assert_false(a->reply.size_first);
	assert_true(cache_size_force(w->c, &a->req, ino, how == SETATTR ? 0 : CACHE_ROOT, &size, NULL));
	free(a);
	told_clear(w);
}

/* No other size is told until it is settled. */
static void test_forced(void **state)
{
	(void)state;
	for (enum forcing how = SETATTR; how <= CREATE; how++) {
		uint64_t size = 50 + 10 * how, more = size + 10;

		forced(how, size);
		assert_int_equal(look(CACHED), size);
		assert_int_equal(w->n_told, 0);
		invalidated();
		assert_int_equal(told(w, TOLD_SETTLE, CACHE_ROOT, NULL), 1);
		const struct told *t = &w->told[0];
		assert_int_equal(t->kind, TOLD_SETTLE);
		assert_int_equal(t->of, ino);
		assert_int_equal(t->task, 0);
		assert_true(how == SETATTR ? t->len == 1 : t->len == 0);
		assert_int_equal(look(more), size);
		assert_int_equal(look(CACHED), size);
		assert_int_equal(release(size), UNKNOWN);
		assert_int_equal(told(w, TOLD_SETTLE, CACHE_ROOT, NULL), 1); /* once is enough */
		cache_size_settled(w->c, ino, t->serial - 1);
		assert_int_equal(look(CACHED), size);
		cache_size_settled(w->c, ino, t->serial);
		assert_true(look_first(CACHED));
		assert_int_equal(release(more), more - 1);
	}
}

/* Nor if it is a smaller one, or others ask. */
static void test_forced_before_it_shrinks(void **state)
{
	(void)state;
	forced(SETATTR, 50);
	invalidated();
	assert_int_equal(look(20), 50);
	cache_size_settled(w->c, ino, w->told[0].serial);
	assert_int_equal(look(CACHED), 20);
}

/*
 * While the guest itself makes it shorter the kernel takes no size: who asks for it is told when
 * that has been digested, or would read on up to the old end.
 */
static bool look_is_cut(uint32_t task, uint64_t size)
{
	struct asked *a = ask_as(task, MSG_GETATTR);

	if (!a->from_cache) {
		struct msg m = reply_attr(w, w->seq, FILE_MODE, size);

		answer(w->f, a, &m);
	}
	bool ret = a->reply.cut_first;
	free(a);
	return ret;
}

static void test_cut_is_digested(void **state)
{
	uint32_t task;

	(void)state;
	assert_false(cache_cut_begins(w->c, ino, 50)); /* it is no shorter then */
	assert_true(cache_cut_begins(w->c, ino, 20));
	struct asked *a = asked_new(MSG_SETATTR);
	a->req.task = WRITER;
	MSG_SET(&a->req.call.req, valid, SET_SIZE);
	MSG_SET(&a->req.call.req, size, 20);
	cache_submit(w->c, &a->req, ino, 0);
	assert_true(cache_size_cut(w->c, ino, &task));
	assert_int_equal(task, 0);
	assert_false(look_is_cut(OTHER, 50)); /* not carried out yet */
	(void)inv(w, 50, INV_ATTR);
	assert_true(look_is_cut(OTHER, 20));
	assert_true(look_is_cut(OTHER, 20)); /* what is told twice is not true by that */
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 20);
	answer(w->f, a, &m);
	uint64_t size = 20;
	assert_true(cache_size_force(w->c, &a->req, ino, 0, &size, NULL));
	cache_cut_ends(w->c, ino);
	assert_true(cache_size_cut(w->c, ino, &task));
	assert_int_equal(task, WRITER);
	assert_true(look_is_cut(OTHER, 20));
	free(a);
	cache_task_goes_on(w->c, ino, WRITER);
	assert_false(cache_size_cut(w->c, ino, &task));
	assert_false(look_is_cut(OTHER, 20));
	/* chmod(2) cuts nothing */
	forced(SETATTR, 20);
	assert_false(cache_size_cut(w->c, ino, &task));
}

/* The task goes on, or somebody has the inode's lock. */
static void test_forced_is_digested(void **state)
{
	uint64_t size = 50;

	(void)state;
	for (enum forcing how = SETATTR; how <= CREATE; how++) {
		bool first;

		forced(how, size);
		invalidated();
		size += 10;
		(void)look_as(OTHER, size, &first);
		assert_false(first);
		(void)look_as(WRITER, CACHED, &first);
		assert_true(first);
		(void)release(size);
		forced(how, size);
		invalidated();
		size += 10;
		struct asked *a = write_begins(OTHER, 0, 1); /* CREATE does without that lock */
		(void)look_as(OTHER, size, &first);
		assert_int_equal(first, how != CREATE);
		write_ends(a, 0, 1, size);
		cache_task_goes_on(w->c, ino, WRITER);
		(void)release(size);
	}
}

/* It is answered when the kernel has the newest size, too. */
static void test_forced_and_longer(void **state)
{
	(void)state;
	invalidated();
	struct asked *a = force(SETATTR, 60);

	assert_true(a->reply.size_first);
	assert_int_equal(release(60), 59);
	uint64_t size = 60;
	assert_true(cache_size_force(w->c, &a->req, ino, 0, &size, NULL));
	free(a);
	assert_int_equal(look(CACHED), 60);
}

/* Whoever is told next is told the new size: so the news of the host settles it, whatever it is. */
static void test_forced_and_outdated(void **state)
{
	(void)state;
	forced(SETATTR, 50);
	(void)inv(w, 50, INV_ATTR);
	assert_int_equal(told(w, TOLD_SETTLE, CACHE_ROOT, NULL), 1);
	cache_size_settled(w->c, ino, w->told[0].serial);
	assert_int_equal(look(20), 20);
}

/* Nor does it when the news came while the reply was held back, and maybe others have asked since. */
static void test_forced_outdated(void **state)
{
	(void)state;
	for (int asked_since = 0; asked_since < 2; asked_since++) {
		uint64_t size = 50;
		struct asked *a = force(SETATTR, size);

		told_clear(w);
		(void)inv(w, 50, INV_ATTR);
		if (asked_since)
			assert_true(look_first(60));
		assert_int_equal(told(w, TOLD_SETTLE, CACHE_ROOT, NULL), 0);
		assert_true(cache_size_force(w->c, &a->req, ino, 0, &size,
					     &(struct size_wait){.next = NULL}));
		assert_int_equal(size, 50);
		assert_int_equal(told(w, TOLD_SETTLE, CACHE_ROOT, NULL), 1);
		cache_size_settled(w->c, ino, w->told[w->n_told - 1].serial);
		if (asked_since)
			assert_true(look_first(CACHED));
		free(a);
	}
}

static void count(void *arg)
{
	++*(unsigned *)arg;
}

/* No size is on its way to the kernel when one is forced on it, and what is forced is the newest. */
static void test_forced_behind_a_store(void **state)
{
	struct attr attr = {.version = UINT64_MAX, .mode = FILE_MODE, .size = 60};
	unsigned n = 0;
	struct size_wait wait = {.done = count, .arg = &n};
	uint64_t from, size = 50;

	(void)state;
	struct asked *a = force(SETATTR, 50);
	invalidated();
	assert_true(look_first(60));
	assert_true(cache_size_to_tell(w->c, ino, &attr, &from));
	assert_false(cache_size_force(w->c, &a->req, ino, 0, &size, NULL));
	assert_false(cache_size_force(w->c, &a->req, ino, 0, &size, &wait));
	assert_int_equal(n, 0);
	cache_size_stored(w->c, ino, 60, true);
	assert_int_equal(n, 1);
	assert_false(cache_size_force(w->c, &a->req, ino, 0, &size, NULL));
	assert_int_equal(size, 50);
	assert_true(cache_size_force(w->c, &a->req, ino, 0, &size, &wait));
	assert_int_equal(size, 60);
	free(a);
}

/* Nor does the kernel have what was cut off while it was on its way. */
static void test_cut_behind_a_store(void **state)
{
	struct attr attr = {.version = UINT64_MAX, .mode = FILE_MODE, .size = 60};
	uint64_t from;

	(void)state;
	invalidated();
	assert_true(look_first(60));
	assert_true(cache_size_to_tell(w->c, ino, &attr, &from));
	struct asked *a = asked_new(MSG_SETATTR);
	a->req.task = WRITER;
	MSG_SET(&a->req.call.req, valid, SET_SIZE);
	MSG_SET(&a->req.call.req, size, 10);
	cache_submit(w->c, &a->req, ino, 0);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 10);
	answer(w->f, a, &m);
	cache_size_stored(w->c, ino, 60, true);
	uint64_t size = 10;
	assert_true(cache_size_force(w->c, &a->req, ino, 0, &size, NULL));
	free(a);
}

/* The kernel makes the file longer itself: a STORE before would keep it from dropping the pages. */
static void test_forced_by_growth(void **state)
{
	uint64_t size = 90;

	(void)state;
	struct asked *a = asked_new(MSG_SETATTR);
	a->req.task = WRITER;
	MSG_SET(&a->req.call.req, valid, SET_SIZE);
	MSG_SET(&a->req.call.req, size, size);
	cache_submit(w->c, &a->req, ino, 0);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, size);
	answer(w->f, a, &m);
	assert_false(a->reply.size_first);
	assert_true(cache_size_force(w->c, &a->req, ino, 0, &size, NULL));
	assert_int_equal(size, 90);
	free(a);
}

/* Where no news ever come, it is settled at once: whoever looks next would be told the old size. */
static void test_forced_without_news(void **state)
{
	(void)state;
	world_free(w);
	w = world_watched(lease_options(), false);
	ino = look_up_file(w, "f", 50);
	uint64_t size = 50;
	struct asked *a = ask_as(WRITER, MSG_SETATTR);
	struct msg m = reply_node(w, NO_STAMP, 50, FILE_MODE, size);
	answer(w->f, a, &m);
	told_clear(w);
	assert_true(cache_size_force(w->c, &a->req, ino, 0, &size, NULL));
	free(a);
	assert_int_equal(w->n_told, 1);
	assert_int_equal(w->told[0].kind, TOLD_SETTLE);
	cache_size_settled(w->c, ino, w->told[0].serial);
	fake_now += ATTR_TTL;
	bool first;
	assert_int_equal(look_as(OTHER, 60, &first), 60);
}

/* What has no name any more has no lock to wait for: it is settled when the task has gone on. */
static void test_forced_without_a_name(void **state)
{
	(void)state;
	forced(SETATTR, 50);
	(void)inv_name(w, FAKE_ROOT, "f");
	told_clear(w);
	invalidated();
	assert_int_equal(told(w, TOLD_SETTLE, ino, NULL), 1);
	assert_int_equal(w->told[0].len, 0);
	assert_int_equal(w->told[0].task, WRITER);
	assert_int_equal(look(60), 50);
	cache_size_settled(w->c, ino, w->told[0].serial);
	assert_true(look_first(CACHED));
}

/* ---- past the page cache ---- */

static void test_direct(void **state)
{
	unsigned n = 0;
	struct size_wait first = {.done = count, .arg = &n}, second = {.done = count, .arg = &n};

	(void)state;
	assert_false(cache_size_wait(w->c, ino, &first));
	cache_direct_write(w->c, ino, true);
	assert_true(cache_size_wait(w->c, ino, &first));
	assert_true(cache_size_wait(w->c, ino, &second));
	(void)inv(w, 50, INV_ATTR);
	assert_true(look_first(60)); /* which is held, then */
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 0);
	cache_size_grown(w->c, ino, 60);
	cache_direct_write(w->c, ino, false);
	assert_int_equal(n, 2);
	assert_int_equal(look(CACHED), 60);
	assert_false(cache_size_wait(w->c, ino, &first));
	cache_direct_write(w->c, ino, false);
	assert_int_equal(n, 2);
}

/* ---- open files ---- */

/* Asks for the size after an invalidation; what is to be made known, UNKNOWN: it asks nobody. */
static uint64_t learn(uint64_t size)
{
	unsigned n = 0;
	uint64_t from, missing = 0;

	invalidated();
	if (!cache_size_ask(w->c, ino, count, &n))
		return UNKNOWN;
	assert_int_equal(n, 0);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, size);
	struct call *call = fake_take(w->f, 0);
	assert_int_equal(call->req.op, MSG_GETATTR);
	call->done(call, &m);
	assert_int_equal(n, 1);
	int r = cache_size_missing(w->c, ino, &missing, &from);
	if (r == 1)
		cache_size_stored(w->c, ino, missing, true);
	return r < 0 ? CACHED - 1 : missing;
}

static void test_open_files(void **state)
{
	(void)state;
	assert_int_equal(learn(60), UNKNOWN);
	cache_opened(w->c, ino, true, false);
	assert_int_equal(learn(60),
			 60); /* though nobody has read it: it may be spliced or mapped */
	done_with(w, ask(w->c, MSG_READ, ino), reply_attr(w, w->seq, FILE_MODE, 60));
	(void)release(60);
	assert_int_equal(learn(60), 0);
	assert_int_equal(learn(70), 70);
	assert_int_equal(look(CACHED), 70);
	assert_int_equal(learn(65), 0); /* shorter is what whoever asks hears */
	assert_int_equal(look(CACHED), 65);
	forced(SETATTR, 65);
	assert_int_equal(learn(75), CACHED - 1); /* a moment later */
	cache_task_goes_on(w->c, ino, WRITER);
	cache_direct_write(w->c, ino, true);
	assert_int_equal(learn(80), CACHED - 1);
	cache_direct_write(w->c, ino, false);
	assert_int_equal(learn(80), 80);
	cache_opened(w->c, ino, false, false);
	assert_int_equal(learn(90), UNKNOWN);
}

static void test_open_files_no_open(void **state)
{
	struct cache_options o = lease_options();

	(void)state;
	world_free(w);
	o.no_open = true;
	w = world_with(o);
	ino = look_up_file(w, "f", 50);
	assert_int_equal(learn(60), UNKNOWN);
	struct asked *a = ask(w->c, MSG_READ, ino);
	done_with(w, a, reply_attr(w, w->seq, FILE_MODE, 60));
	assert_int_equal(learn(70), 70);
}

/* Where nobody tells of changes the size is asked for when the time of the attributes is over. */
static void test_without_a_promise(void **state)
{
	(void)state;
	done_with(w, ask(w->c, MSG_READ, ino), reply_attr(w, w->seq, FILE_MODE, 50));
	cache_opened(w->c, ino, true, false);
	assert_true(cache_tick(w->c) > fake_now + ATTR_TTL); /* it is promised */
	(void)inv(w, 50, INV_ATTR);
	done_with(w, ask(w->c, MSG_GETATTR, ino), reply_attr(w, NO_STAMP, FILE_MODE, 50));
	assert_int_equal(cache_tick(w->c), fake_now + ATTR_TTL);
	assert_int_equal(told(w, TOLD_SIZE, ino, NULL), 0);
	fake_now += ATTR_TTL;
	assert_int_equal(cache_tick(w->c), fake_now + ATTR_TTL);
	assert_int_equal(told(w, TOLD_SIZE, ino, NULL), 1);
	cache_opened(w->c, ino, true, false);
	cache_opened(w->c, ino, false, false);
	(void)cache_tick(w->c); /* a notifier that is held up has not come to it */
	assert_int_equal(told(w, TOLD_SIZE, ino, NULL), 1);
	unsigned n = 0;
	assert_true(cache_size_ask(w->c, ino, count, &n));
	struct msg m = reply_attr(w, NO_STAMP, FILE_MODE, 50);
	struct call *call = fake_take(w->f, 0);
	call->done(call, &m);
	assert_int_equal(n, 1);
	fake_now += ATTR_TTL;
	(void)cache_tick(w->c);
	assert_int_equal(told(w, TOLD_SIZE, ino, NULL), 2);
	cache_opened(w->c, ino, false, false);
	(void)cache_tick(w->c);
	assert_int_equal(told(w, TOLD_SIZE, ino, NULL), 2);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(test_growth),
		TEST(test_where_it_begins),
		TEST(test_tainted),
		TEST(test_new_inode),
		TEST(test_short_read),
		TEST(test_longer_read),
		TEST(test_own_writes),
		TEST(test_growth_beside_a_write),
		TEST(test_own_truncation),
		TEST(test_forced),
		TEST(test_forced_before_it_shrinks),
		TEST(test_forced_is_digested),
		TEST(test_cut_is_digested),
		TEST(test_forced_and_longer),
		TEST(test_forced_and_outdated),
		TEST(test_forced_outdated),
		TEST(test_forced_behind_a_store),
		TEST(test_cut_behind_a_store),
		TEST(test_forced_by_growth),
		TEST(test_forced_without_news),
		TEST(test_forced_without_a_name),
		TEST(test_direct),
		TEST(test_open_files),
		TEST(test_open_files_no_open),
		TEST(test_without_a_promise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
