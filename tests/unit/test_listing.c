/* Listings: batches, offsets, which entry may carry attributes, and whose references they are. */
#include "cache_fake.h"

#include "cache/listing.h"

#define ATTR_TTL  1000
#define ENTRY_TTL 2000

/*
 * A directory of the fake server: entries "e0", "e1"... with offsets that
 * mean nothing (neither ascending nor dense), every third without a node.
 */
#define ENTRIES	   5000
#define NODE_OF(i) (2000 + (i))

struct world {
	struct fake *f;
	struct cache *c;
	struct listing *l;
	uint64_t told[ENTRIES];
	uint64_t version;
};

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct cache_options options = {.ttl.attr = ATTR_TTL, .ttl.entry = ENTRY_TTL};

	assert_non_null(w);
	w->f = fake_new();
	assert_int_equal(cache_new(&w->f->base, &options, &w->c), 0);
	assert_int_equal(listing_new(w->c, CACHE_ROOT, &w->l), 0);
	w->version = 100;
	return w;
}

/* Every reference that the server gave must have come back, or be the kernel's. */
static void world_free(struct world *w)
{
	listing_free(w->l);
	cache_forget_flush(w->c);
	for (size_t i = 0; i < ENTRIES; i++)
		assert_int_equal(fake_forgotten(w->f, NODE_OF(i)), w->told[i]);
	cache_free(w->c);
	fake_free(w->f);
	free(w);
}

static uint64_t off_of(size_t i) /* before entry i; i > 0 */
{
	return i == 0 ? 0 : (i * UINT64_C(0x9e3779b97f4a7c15)) >> 1 | 1;
}

static size_t index_of(uint64_t off, size_t entries)
{
	for (size_t i = 0; i <= entries; i++)
		if (off_of(i) == off)
			return i;
	fail_msg("no entry has this offset");
	return 0;
}

static bool has_node(size_t i)
{
	return i % 3 != 2;
}

/* ---- the server ---- */

static struct asked *fetch(struct world *w, uint64_t off, bool plus)
{
	struct asked *a = calloc(1, sizeof(*a));

	assert_non_null(a);
	a->req.done = asked_done;
	listing_fetch(w->l, &a->req, off, plus);
	return a;
}

static void answer_payload(struct world *w, struct asked *a, const void *data, size_t len,
			   uint64_t flags)
{
	const struct call *call = &a->req.call;
	struct msg m = {0};

	assert_int_equal(call->req.op, MSG_READDIRPLUS);
	assert_true(len <= call->req.size && len <= call->dest_len);
	if (len > 0)
		memcpy(call->dest, data, len);
	MSG_SET(&m, payload, ((struct slice){call->dest, len}));
	if (flags != 0)
		MSG_SET(&m, flags, flags);
	answer(w->f, a, &m);
}

static struct dir_entry entry(size_t i, char *name, size_t len)
{
	return (struct dir_entry){
	    .name = {name, (size_t)snprintf(name, len, "e%zu", i)},
	    .off = off_of(i + 1),
	    .type = i % 2 == 0 ? 8 : 4,
	    .ino = 900000 + i,
	};
}

/* Answers a fetch with as many of the entries as fit, at most `most`, as the server does. */
static void answer_fetch(struct world *w, struct asked *a, size_t entries, size_t most)
{
	const struct msg *q = &a->req.call.req;
	size_t size = (size_t)q->size, len = 0, i = index_of(q->off, entries);
	bool plain = MSG_HAS(q, flags) && (q->flags & READDIR_PLAIN) != 0;
	unsigned char *buf = malloc(size);

	assert_non_null(buf);
	for (; i < entries && most > 0; i++, most--) {
		char name[16];
		struct dir_entry e = entry(i, name, sizeof(name));

		if (has_node(i) && !plain) {
			e.node = NODE_OF(i);
			e.attr = attr_of(++w->version, i);
		}
		size_t n = codec_put_entry(&e, buf + len, size - len);
		if (n == 0)
			break;
		if (e.node != 0)
			w->told[i]++;
		len += n;
	}
	answer_payload(w, a, buf, len, i == entries ? READDIR_END : 0);
	free(buf);
}

static void fetched_ok(struct world *w, uint64_t off, bool plus, size_t entries, size_t most)
{
	struct asked *a = fetch(w, off, plus);

	assert_int_equal(a->completions, 0);
	answer_fetch(w, a, entries, most);
	assert_int_equal(a->reply.err, 0);
	free(a);
}

/* ---- the kernel ---- */

static int peek(struct world *w, uint64_t off, bool plus, struct listing_entry *e)
{
	listing_lock(w->l);
	int r = listing_peek(w->l, off, plus, e);
	listing_unlock(w->l);
	return r;
}

/* Takes the entry that follows off, and checks that it is the i-th. */
static struct listing_entry take(struct world *w, uint64_t off, size_t i, bool plus)
{
	struct listing_entry e;
	char name[16];
	struct dir_entry want = entry(i, name, sizeof(name));

	listing_lock(w->l);
	assert_int_equal(listing_peek(w->l, off, plus, &e), 1);
	unit_assert_slice(e.name, name);
	assert_int_equal(e.off, want.off);
	assert_int_equal(e.type, want.type);
	assert_int_equal(e.server_ino, want.ino);
	listing_take(w->l, &e);
	listing_unlock(w->l);
	return e;
}

/* ---- batches ---- */

/* Reads the whole directory as readdir does; returns the number of fetches. */
static size_t read_all(struct world *w, size_t entries, size_t most, bool plus)
{
	size_t fetches = 0, i = 0;
	uint64_t off = 0;

	for (;;) {
		struct listing_entry e;
		int r = off == 0 && fetches == 0 ? -EAGAIN : peek(w, off, plus, &e);

		if (r == 0)
			break;
		if (r == -EAGAIN) {
			fetched_ok(w, off, plus, entries, most);
			fetches++;
			continue;
		}
		assert_int_equal(r, 1);
		e = take(w, off, i, plus);
		bool with_node = plus && has_node(i);
		assert_int_equal(e.ino != 0, with_node);
		if (with_node) {
			assert_int_equal(e.attr.size, i);
			assert_int_equal(e.attr_ttl, ATTR_TTL);
			assert_int_equal(e.entry_ttl, ENTRY_TTL);
			cache_forget(w->c, e.ino, 1);
		}
		off = e.off;
		i++;
	}
	assert_int_equal(i, entries);
	return fetches;
}

static void test_whole_directories(void **state)
{
	static const size_t sizes[] = {0, 1, 2, 3, 100, ENTRIES};

	(void)state;
	for (size_t i = 0; i < COUNT(sizes) * 2; i++) {
		struct world *w = world_new();
		size_t fetches = read_all(w, sizes[i / 2], SIZE_MAX, i % 2 == 0);

		assert_in_range(fetches, 1, 8);
		/* READDIR asks for names only: references would be in vain */
		assert_int_equal(w->told[0] > 0, i % 2 == 0 && sizes[i / 2] > 0);
		world_free(w);
	}
	struct world *w = world_new();
	assert_int_equal(read_all(w, 10, 1, true), 10); /* one at a time */
	/* and again, from the beginning, with one listing */
	assert_int_equal(read_all(w, 10, 4, true), 3);
	world_free(w);
}

/* Later batches are larger, up to what a payload may have. */
static void test_batches_grow(void **state)
{
	struct world *w = world_new();
	uint64_t last = 0;

	(void)state;
	for (int i = 0; i < 10; i++) {
		struct asked *a = fetch(w, 0, true);
		const struct call *call = w->f->waiting[0];

		assert_int_equal(call->req.node, FAKE_ROOT);
		assert_int_equal(call->req.off, 0);
		assert_int_equal(call->dest_len, call->req.size);
		assert_true(call->req.size >= last && call->req.size <= MSG_PAYLOAD_MAX);
		last = call->req.size;
		answer_payload(w, a, NULL, 0, READDIR_END);
		free(a);
	}
	assert_int_equal(last, MSG_PAYLOAD_MAX);
	world_free(w);
}

/* Whoever leaps may not go on from there: what is fetched then begins small. */
static void test_leaps(void **state)
{
	enum { N = 2000 };
	struct world *w = world_new();
	size_t first = 0, sizes[3] = {0};

	(void)state;
	for (int round = 0; round < 3; round++) {
		size_t at = 500 * ((size_t)round + 1);

		for (size_t i = 0; i < COUNT(sizes); i++) {
			struct asked *a = fetch(w, off_of(at), false);

			sizes[i] = w->f->waiting[0]->dest_len;
			answer_fetch(w, a, N, 20);
			free(a);
			for (size_t n = 0; n < 20; n++, at++)
				(void)take(w, off_of(at), at, false);
		}
		assert_true(sizes[0] <= 4096 && (first == 0 || sizes[0] == first));
		assert_true(sizes[1] > sizes[0] && sizes[2] > sizes[1]);
		first = sizes[0];
	}
	world_free(w);
}

static void test_before_any_fetch(void **state)
{
	struct world *w = world_new();
	struct listing_entry e;

	(void)state;
	assert_int_equal(peek(w, 0, true, &e), -EAGAIN);
	assert_int_equal(peek(w, off_of(5), true, &e), -EAGAIN);
	world_free(w);
}

/* An empty batch is the end, said or not: who got nothing would ask for ever. */
static void test_empty_batch(void **state)
{
	struct world *w = world_new();
	struct listing_entry e;
	struct asked *a = fetch(w, 0, true);

	(void)state;
	answer_payload(w, a, NULL, 0, 0);
	assert_int_equal(a->reply.err, 0);
	assert_int_equal(peek(w, 0, true, &e), 0);
	free(a);
	world_free(w);
}

static void test_peek_does_not_take(void **state)
{
	struct world *w = world_new();
	struct listing_entry a, b;

	(void)state;
	fetched_ok(w, 0, true, 10, SIZE_MAX);
	assert_int_equal(peek(w, 0, true, &a), 1);
	assert_int_equal(peek(w, 0, true, &b), 1);
	assert_int_equal(a.ino, b.ino);
	world_free(w); /* nobody took it: all references go back with the listing */
}

/* ---- offsets ---- */

static void test_seek(void **state)
{
	enum { N = 200 };
	struct world *w = world_new();
	struct unit_random random = {5};
	struct listing_entry e;

	(void)state;
	fetched_ok(w, 0, false, N, SIZE_MAX);
	/* anywhere in the batch, forth and back, without a fetch */
	for (int k = 0; k < 500; k++) {
		size_t i = unit_below(&random, N);

		(void)take(w, off_of(i), i, false);
	}
	assert_int_equal(peek(w, off_of(N), false, &e), 0);
	(void)take(w, off_of(0), 0, false);
	/* what is not in it is fetched, also in the middle of a directory */
	assert_int_equal(peek(w, 12345, false, &e), -EAGAIN);
	fetched_ok(w, off_of(100), false, N, 10);
	for (size_t i = 100; i < 110; i++)
		(void)take(w, off_of(i), i, false);
	assert_int_equal(peek(w, off_of(110), false, &e), -EAGAIN); /* not the end */
	assert_int_equal(peek(w, off_of(99), false, &e), -EAGAIN);
	(void)take(w, off_of(100), 100, false);
	world_free(w);
}

/* A new fetch forgets the batch before it, wherever it stood. */
static void test_fetch_anew(void **state)
{
	struct world *w = world_new();
	struct listing_entry e;

	(void)state;
	fetched_ok(w, 0, true, 10, SIZE_MAX);
	(void)take(w, 0, 0, false);
	(void)take(w, off_of(1), 1, false);
	fetched_ok(w, 0, true, 0, SIZE_MAX); /* emptied meanwhile */
	for (size_t i = 0; i < 10; i++)	     /* and its references are back */
		assert_int_equal(fake_forgotten(w->f, NODE_OF(i)), w->told[i]);
	assert_int_equal(peek(w, 0, true, &e), 0);
	assert_int_equal(peek(w, off_of(2), true, &e), -EAGAIN);
	world_free(w);
}

/* ---- attributes ---- */

/* The entry as it is told now. */
static struct listing_entry told(struct world *w, size_t i)
{
	struct listing_entry e;

	assert_int_equal(peek(w, off_of(i), true, &e), 1);
	return e;
}

static void test_taken_entries_are_the_kernels(void **state)
{
	struct world *w = world_new();

	(void)state;
	fetched_ok(w, 0, true, 10, SIZE_MAX);
	struct listing_entry a = take(w, 0, 0, true), b = take(w, off_of(1), 1, true);
	assert_int_not_equal(a.ino, 0);
	assert_int_not_equal(a.ino, b.ino);
	assert_int_equal(take(w, off_of(2), 2, true).ino, 0);  /* came without a node */
	assert_int_equal(take(w, off_of(3), 3, false).ino, 0); /* READDIR gives no references */
	listing_free(w->l);
	w->l = NULL;
	cache_forget_flush(w->c);
	assert_int_equal(fake_forgotten(w->f, NODE_OF(0)), 0);
	assert_int_equal(fake_forgotten(w->f, NODE_OF(1)), 0);
	assert_int_equal(fake_forgotten(w->f, NODE_OF(3)), 1);
	/* their attributes were installed like any reply's */
	struct asked *g = ask(w->c, MSG_GETATTR, b.ino);
	assert_int_equal(g->completions, 1);
	assert_int_equal(g->attr.size, 1);
	free(g);
	cache_forget(w->c, a.ino, 1);
	cache_forget(w->c, b.ino, 1);
	world_free(w);
}

/* What is told ages: in all it is never told for longer than its time. */
static void test_age(void **state)
{
	struct world *w = world_new();

	(void)state;
	fetched_ok(w, 0, true, 10, SIZE_MAX);
	struct listing_entry e = told(w, 0);
	assert_int_equal(e.attr_ttl, ATTR_TTL);
	assert_int_equal(e.entry_ttl, ENTRY_TTL);
	fake_now += 400;
	e = told(w, 0);
	assert_int_equal(e.attr_ttl, ATTR_TTL - 400);
	assert_int_equal(e.entry_ttl, ENTRY_TTL - 400);
	fake_now += ATTR_TTL - 400 - 1;
	assert_int_equal(told(w, 0).attr_ttl, 1);
	fake_now += 1;
	assert_int_equal(told(w, 0).ino, 0); /* name and type only */
	world_free(w);
}

enum change {
	UNLINK_IN_IT,
	UNLINK_IN_IT_FAILED,
	RENAME_INTO_IT,
	WRITE_TO_ONE,
	SETATTR_OF_ONE,
	UNLINK_ELSEWHERE,
	CHANGES,
};

/*
 * After a change of ours to the directory no entry of a batch that was asked
 * for before has attributes; after one to an object, only that one has none.
 */
static void test_changes(void **state)
{
	(void)state;
	for (int i = 0; i < CHANGES * 2; i++) {
		enum change change = (enum change)(i / 2);
		bool before_reply = i % 2 == 0; /* the batch is still on its way */
		struct world *w = world_new();

		/* entry 0 and another directory are known */
		struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
		answer_node(w->f, a, NODE_OF(0), attr_of(++w->version, 0));
		uint64_t ino = a->reply.ino;
		w->told[0]++;
		free(a);
		a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
		answer_node(w->f, a, 1500, attr_of(++w->version, 0));
		uint64_t other = a->reply.ino;
		free(a);

		struct asked *batch = fetch(w, 0, true), *c;
		if (!before_reply)
			answer_fetch(w, batch, 10, SIZE_MAX);
		switch (change) {
		case UNLINK_IN_IT:
		case UNLINK_IN_IT_FAILED:
			c = ask(w->c, MSG_UNLINK, CACHE_ROOT);
			break;
		case RENAME_INTO_IT:
			c = ask2(w->c, MSG_RENAME, other, CACHE_ROOT);
			break;
		case WRITE_TO_ONE:
			c = ask(w->c, MSG_WRITE, ino);
			break;
		case SETATTR_OF_ONE:
			c = ask(w->c, MSG_SETATTR, ino);
			break;
		default:
			c = ask(w->c, MSG_UNLINK, other);
			break;
		}
		if (before_reply)
			answer_fetch(w, batch, 10, SIZE_MAX);
		assert_int_equal(batch->reply.err, 0);
		free(batch);
		bool all = change == UNLINK_ELSEWHERE;
		bool none = change <= RENAME_INTO_IT;
		for (int done = 0; done < 2; done++) {
			assert_int_equal(told(w, 0).ino != 0, all);
			assert_int_equal(told(w, 1).ino != 0, !none);
			assert_int_equal(told(w, 2).ino, 0);
			if (!done)
				answer_err(w->f, c, change == UNLINK_IN_IT_FAILED ? EBUSY : 0);
		}
		free(c);
		/* a batch that is asked for now is as good as new */
		fetched_ok(w, 0, true, 10, SIZE_MAX);
		assert_int_not_equal(told(w, 0).ino, 0);
		assert_int_not_equal(told(w, 1).ino, 0);
		cache_forget(w->c, ino, 1);
		cache_forget(w->c, other, 1);
		world_free(w);
	}
}

/* Attributes that are older than what is known by now are not told. */
static void test_older_version(void **state)
{
	struct world *w = world_new();

	(void)state;
	struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
	fetched_ok(w, 0, true, 10, SIZE_MAX);
	assert_int_not_equal(told(w, 0).ino, 0);
	answer_node(w->f, a, NODE_OF(0), attr_of(w->version + 1000, 7));
	w->told[0]++;
	assert_int_equal(told(w, 0).ino, 0);
	assert_int_not_equal(told(w, 1).ino, 0);
	cache_forget(w->c, a->reply.ino, 1);
	free(a);
	world_free(w);
}

/* ---- what goes wrong ---- */

static void test_one_fetch_at_a_time(void **state)
{
	struct world *w = world_new();
	struct asked *a = fetch(w, 0, true), *b = fetch(w, 0, true);

	(void)state;
	assert_int_equal(b->completions, 1);
	assert_int_equal(b->reply.err, EBUSY);
	assert_int_equal(a->completions, 0);
	answer_fetch(w, a, 10, SIZE_MAX);
	assert_int_equal(a->reply.err, 0);
	(void)take(w, 0, 0, false);
	free(a);
	free(b);
	world_free(w);
}

/* Its reader was killed: the completion cleans up after it. */
static void test_freed_while_fetching(void **state)
{
	(void)state;
	for (int fails = 0; fails < 2; fails++) {
		struct world *w = world_new();
		struct asked *a = fetch(w, 0, true);

		listing_free(w->l);
		w->l = NULL;
		assert_int_equal(a->completions, 0);
		if (fails)
			answer_err(w->f, a, ENOTCONN);
		else
			answer_fetch(w, a, 10, SIZE_MAX);
		assert_int_equal(a->completions, 1);
		assert_int_equal(a->reply.err, fails ? ENOTCONN : 0);
		free(a);
		world_free(w); /* the references of the batch are back */
	}
	listing_free(NULL);
}

static void test_failed_fetch(void **state)
{
	struct world *w = world_new();
	struct listing_entry e;

	(void)state;
	fetched_ok(w, 0, true, 10, SIZE_MAX);
	struct asked *a = fetch(w, 0, true);
	answer_err(w->f, a, EACCES);
	assert_int_equal(a->reply.err, EACCES);
	free(a);
	assert_int_equal(peek(w, 0, true, &e), -EAGAIN); /* nothing of before is left */
	fetched_ok(w, 0, true, 10, SIZE_MAX);
	(void)take(w, 0, 0, false);
	world_free(w);
}

/* At the end those that nobody closed go with the cache, and only they. */
static void test_left_open(void **state)
{
	(void)state;
	for (unsigned closed = 0; closed < 8; closed++) {
		struct world *w = world_new();
		struct listing *l[3];

		for (unsigned i = 0; i < COUNT(l); i++) {
			assert_int_equal(listing_new(w->c, CACHE_ROOT, &l[i]), 0);
			struct asked *a = calloc(1, sizeof(*a));
			assert_non_null(a);
			a->req.done = asked_done;
			listing_fetch(l[i], &a->req, 0, false);
			answer_payload(w, a, NULL, 0, READDIR_END);
			free(a);
		}
		for (unsigned i = 0; i < COUNT(l); i++)
			if (closed >> i & 1)
				listing_free(l[i]);
		world_free(w);
	}
}

static void test_unknown_directory(void **state)
{
	struct world *w = world_new();

	(void)state;
	listing_free(w->l);
	assert_int_equal(listing_new(w->c, 4711, &w->l), 0);
	struct asked *a = fetch(w, 0, true);
	assert_int_equal(a->completions, 1);
	assert_int_equal(a->reply.err, ESTALE);
	free(a);
	world_free(w);
}

/* The directory may go while its listing lives. */
static void test_directory_forgotten(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);

	(void)state;
	answer_node(w->f, a, 1500, attr_of(++w->version, 0));
	listing_free(w->l);
	assert_int_equal(listing_new(w->c, a->reply.ino, &w->l), 0);
	fetched_ok(w, 0, true, 10, SIZE_MAX);
	assert_int_not_equal(told(w, 0).ino, 0);
	cache_forget(w->c, a->reply.ino, 1);
	assert_int_equal(told(w, 0).ino, 0);
	free(a);
	world_free(w);
}

/* This batch is refused as a whole, and a new one can be fetched. */
static void refuses(struct world *w, const void *batch, size_t len)
{
	struct listing_entry e;
	struct asked *a = fetch(w, 0, true);

	answer_payload(w, a, batch, len, READDIR_END);
	assert_int_equal(a->reply.err, EPROTO);
	free(a);
	assert_int_equal(peek(w, 0, true, &e), -EAGAIN);
	fetched_ok(w, 0, true, 3, SIZE_MAX);
	(void)take(w, 0, 0, false);
}

static void test_malformed_batches(void **state)
{
	static const char *const bad[] = {
	    "00",
	    "84 4161 01 04",		      /* cut off */
	    "84 4161 01 08 02 84 4162 02 08", /* the second is */
	    "84 6161 01 08 02",		      /* text */
	    "84 40 01 08 02",		      /* no name */
	    "84 43 612f62 01 08 02",	      /* a/b */
	    "84 42 6100 01 08 02",	      /* NUL */
	    "86 4161 01 08 02 19 07d0 00",    /* no attributes */
	};
	unsigned char buf[64];

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct world *w = world_new();

		refuses(w, buf, unit_from_hex(bad[i], buf, sizeof(buf)));
		world_free(w);
	}
}

/* A name too long, behind one that is not: what the first brought goes back. */
static void test_name_too_long(void **state)
{
	static char name[MSG_NAME_MAX + 1];
	unsigned char buf[1024];
	struct world *w = world_new();
	struct dir_entry e = {.name = {name, MSG_NAME_MAX}, .off = 1, .node = NODE_OF(0)};
	struct listing_entry got;

	(void)state;
	memset(name, 'x', sizeof(name));
	size_t n = codec_put_entry(&e, buf, sizeof(buf));
	struct asked *a = fetch(w, 0, true);
	answer_payload(w, a, buf, n, READDIR_END);
	assert_int_equal(a->reply.err, 0);
	free(a);
	assert_int_equal(peek(w, 0, true, &got), 1);
	assert_int_equal(got.name.len, MSG_NAME_MAX);

	e.name.len++;
	n += codec_put_entry(&e, buf + n, sizeof(buf) - n);
	w->told[0] += 2;
	refuses(w, buf, n);
	world_free(w);
}

/* Without memory for an entry's node it is a name and a type, and its reference goes back. */
static void test_no_memory_for_nodes(void **state)
{
	struct world *w = world_new();
	struct asked *a = fetch(w, 0, true);

	(void)state;
	fake_fill_chunk(w->c, 2);
	fake_memory = 0;
	answer_fetch(w, a, 10, SIZE_MAX);
	fake_memory = -1;
	assert_int_equal(a->reply.err, 0);
	free(a);
	assert_int_not_equal(told(w, 0).ino, 0);
	assert_int_not_equal(told(w, 1).ino, 0);
	for (size_t i = 3; i < 10; i++)
		assert_int_equal(take(w, off_of(i), i, true).ino, 0);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole_directories),
	    cmocka_unit_test(test_batches_grow),
	    cmocka_unit_test(test_leaps),
	    cmocka_unit_test(test_before_any_fetch),
	    cmocka_unit_test(test_empty_batch),
	    cmocka_unit_test(test_peek_does_not_take),
	    cmocka_unit_test(test_seek),
	    cmocka_unit_test(test_fetch_anew),
	    cmocka_unit_test(test_taken_entries_are_the_kernels),
	    cmocka_unit_test(test_age),
	    cmocka_unit_test(test_changes),
	    cmocka_unit_test(test_older_version),
	    cmocka_unit_test(test_one_fetch_at_a_time),
	    cmocka_unit_test(test_freed_while_fetching),
	    cmocka_unit_test(test_failed_fetch),
	    cmocka_unit_test(test_left_open),
	    cmocka_unit_test(test_unknown_directory),
	    cmocka_unit_test(test_directory_forgotten),
	    cmocka_unit_test(test_malformed_batches),
	    cmocka_unit_test(test_name_too_long),
	    cmocka_unit_test(test_no_memory_for_nodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
