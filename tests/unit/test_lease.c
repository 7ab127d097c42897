/* Promises: which reply is kept and for how long, what INV and RESET undo, and the lease. */
#include "cache_lease.h"

#define FILE_MODE (S_IFREG | 0644u)
#define DIR_MODE  (S_IFDIR | 0755u)

/* ---- what a stamp is worth ---- */

static void test_promised_attributes(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 7);

	(void)state;
	answer(w->f, a, &m);
	assert_int_equal(a->reply.attr_ttl, ATTR_CAP);
	assert_int_equal(a->reply.entry_ttl, ENTRY_CAP);
	uint64_t ino = a->reply.ino;
	free(a);
	fake_now += ATTR_CAP - 1;
	assert_int_equal(known_size(w, ino), 7);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), ino);
	fake_now += 1;
	assert_int_equal(known_size(w, ino), UNKNOWN);
	/* the name leads to a node of which nothing is known */
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	world_free(w);
}

/* Without a stamp: the attributes for their time, the name only in the kernel. */
static void test_without_a_stamp(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	struct msg m = reply_node(w, NO_STAMP, 50, FILE_MODE, 7);

	(void)state;
	answer(w->f, a, &m);
	assert_int_equal(a->reply.attr_ttl, ATTR_TTL);
	assert_int_equal(a->reply.entry_ttl, ENTRY_TTL);
	uint64_t ino = a->reply.ino;
	free(a);
	assert_int_equal(known_size(w, ino), 7);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	fake_now += ATTR_TTL - 1;
	assert_int_equal(known_size(w, ino), 7);
	fake_now += 1;
	assert_int_equal(known_size(w, ino), UNKNOWN);

	a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "no");
	m = reply_err(NO_STAMP, ENOENT);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.entry_ttl, NEG_TTL);
	free(a);
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), UNKNOWN);
	world_free(w);
}

/* Neither a server that does not watch nor options without caps give a lease. */
static void test_no_lease(void **state)
{
	struct cache_options options = lease_options();

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct fake *f = fake_new();
		struct cache *c;

		f->base.info.push = i != 0;
		f->base.info.watch = i != 1;
		if (i == 2)
			options.cap.attr = options.cap.entry = options.cap.negative =
			    options.cap.dir = 0;
		if (i == 3)
			options = lease_options();
		assert_int_equal(cache_new(&f->base, &options, &c), 0);
		assert_int_equal(cache_leased(c), i == 3);
		assert_non_null(f->pushed); /* of locks that are lost it hears in any case */
		cache_free(c);
		assert_null(f->pushed);
		fake_free(f);
	}
}

static struct msg stamped_getattr(struct world *w, uint64_t stamp, uint64_t size)
{
	return reply_attr(w, stamp, FILE_MODE, size);
}

/* A GETATTR's reply with this stamp; how long the kernel may keep it. */
static uint64_t getattr_ttl(struct world *w, uint64_t ino, uint64_t stamp)
{
	struct asked *a = ask(w->c, MSG_GETATTR, ino);
	struct msg m = stamped_getattr(w, stamp, 1234);

	assert_int_equal(a->completions, 0);
	answer(w->f, a, &m);
	assert_int_equal(a->attr.size, 1234); /* told in any case: somebody waits for it */
	uint64_t ttl = a->reply.attr_ttl;
	free(a);
	return ttl;
}

/* An INV of the node, by either class, makes older stamps worthless, and no other node's. */
static void test_stamp_of_a_node(void **state)
{
	static const uint64_t classes[] = {INV_ATTR, INV_DATA, INV_ATTR | INV_DATA};

	(void)state;
	for (size_t i = 0; i < COUNT(classes); i++) {
		struct world *w = world_new();
		uint64_t ino = look_up_file(w, "f", 50), other = look_up_file(w, "g", 51);
		uint64_t old = w->seq, seq = inv(w, 50, classes[i]);
		uint64_t tainted = stats_get(w->stats, STAT_cache_tainted);

		assert_int_equal(getattr_ttl(w, ino, old), 0);
		assert_int_equal(stats_get(w->stats, STAT_cache_tainted), tainted + 1);
		assert_int_equal(known_size(w, ino), UNKNOWN);
		assert_int_equal(getattr_ttl(w, ino, seq), ATTR_CAP);
		assert_int_equal(known_size(w, ino), 1234);
		assert_int_equal(known_size(w, other), 51);
		world_free(w);
	}
}

/* The INV comes while the request is in flight: the same. Names have their own stamps. */
static void test_overtaken(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 7);

	(void)state;
	(void)inv(w, 50, INV_ATTR); /* a node that is not known yet */
	answer(w->f, a, &m);
	assert_int_equal(a->reply.attr_ttl, 0);
	assert_int_equal(a->reply.entry_ttl, ENTRY_CAP); /* the name is as true as ever */
	assert_int_equal(known_size(w, a->reply.ino), UNKNOWN);
	free(a);

	a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "g");
	m = reply_node(w, w->seq, 51, FILE_MODE, 7);
	(void)inv_name(w, FAKE_ROOT, "g");
	answer(w->f, a, &m);
	assert_int_equal(a->reply.entry_ttl, 0);
	assert_int_equal(a->reply.attr_ttl, ATTR_CAP);
	assert_int_equal(known_size(w, a->reply.ino), 7);
	assert_int_equal(known_name(w, CACHE_ROOT, "g"), UNKNOWN);
	free(a);
	world_free(w);
}

/* One name's INV is about that name; INV_NAMES about all of the directory, and of no other. */
static void test_stamp_of_a_name(void **state)
{
	struct world *w = world_new();
	uint64_t dir = look_up_dir(w, "d", 40), old = w->seq;

	(void)state;
	(void)inv_name(w, FAKE_ROOT, "a");
	look_up_absent(w, CACHE_ROOT, "a", old);
	look_up_absent(w, CACHE_ROOT, "b", old);
	look_up_absent(w, dir, "a", old);
	assert_int_equal(known_name(w, CACHE_ROOT, "a"), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "b"), ABSENT);
	assert_int_equal(known_name(w, dir, "a"), ABSENT);
	look_up_absent(w, CACHE_ROOT, "a", w->seq);
	assert_int_equal(known_name(w, CACHE_ROOT, "a"), ABSENT);

	old = w->seq;
	(void)inv(w, FAKE_ROOT, INV_NAMES);
	look_up_absent(w, CACHE_ROOT, "a", old);
	look_up_absent(w, CACHE_ROOT, "c", old);
	look_up_absent(w, dir, "c", old);
	assert_int_equal(known_name(w, CACHE_ROOT, "a"), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "c"), UNKNOWN);
	assert_int_equal(known_name(w, dir, "c"), ABSENT);
	look_up_absent(w, CACHE_ROOT, "c", w->seq);
	assert_int_equal(known_name(w, CACHE_ROOT, "c"), ABSENT);
	world_free(w);
}

static void test_absent_name_overtaken_is_told_for_no_time(void **state)
{
	struct world *w = world_new();
	uint64_t old = w->seq;

	(void)state;
	(void)inv_name(w, FAKE_ROOT, "a");
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "a");
	struct msg m = reply_err(old, ENOENT);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.err, ENOENT);
	assert_int_equal(a->reply.entry_ttl, 0);
	free(a);
	a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "a");
	m = reply_err(w->seq, ENOENT);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.entry_ttl, NEG_CAP);
	free(a);
	world_free(w);
}

/* RESET: no stamp below its number is worth anything, whatever it is about. */
static void test_stamp_below_a_reset(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50), old = w->seq;

	(void)state;
	(void)reset(w);
	assert_int_equal(getattr_ttl(w, ino, old), 0);
	look_up_absent(w, CACHE_ROOT, "a", old);
	assert_int_equal(known_name(w, CACHE_ROOT, "a"), UNKNOWN);
	assert_int_equal(getattr_ttl(w, ino, w->seq), ATTR_CAP);
	look_up_absent(w, CACHE_ROOT, "a", w->seq);
	assert_int_equal(known_name(w, CACHE_ROOT, "a"), ABSENT);
	world_free(w);
}

/* Two nodes in one slot: the other's reply looks raced, and nothing worse. */
static void test_collision(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50), old = w->seq, twin = 51;

	(void)state;
	while (hash_mix(twin) % SEQ_SLOTS != hash_mix(50) % SEQ_SLOTS)
		twin++;
	(void)inv(w, twin, INV_ATTR);
	assert_int_equal(known_size(w, ino), 50); /* what is kept stays */
	struct asked *a = ask(w->c, MSG_SETATTR, ino);
	struct msg m = stamped_getattr(w, old, 77);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.attr_ttl, 0);
	free(a);
	assert_int_equal(getattr_ttl(w, ino, w->seq), ATTR_CAP);
	world_free(w);
}

/* ---- what INV undoes, and what the kernel is told ---- */

static void test_inv_attr(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50), other = look_up_file(w, "g", 51);

	(void)state;
	(void)inv(w, 50, INV_ATTR);
	assert_int_equal(w->n_told, 1);
	assert_int_equal(told(w, TOLD_ATTR, ino, NULL), 1);
	assert_int_equal(known_size(w, ino), UNKNOWN);
	assert_int_equal(known_size(w, other), 51);
	assert_int_equal(getattr_ttl(w, ino, w->seq), ATTR_CAP);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), ino); /* the name was not meant */
	world_free(w);
}

/* Data of a file is told as such also if the kernel has none: it may, before it is told. */
static void test_inv_data(void **state)
{
	static const enum msg_op cases[] = {MSG_READ, MSG_WRITE, MSG_GETATTR};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct world *w = world_new();
		uint64_t ino = look_up_file(w, "f", 50);

		(void)inv(w, 50, INV_ATTR); /* so that the GETATTR gets through */
		done_with(w, ask(w->c, cases[i], ino), reply_attr(w, w->seq, FILE_MODE, 50));
		assert_int_equal(known_size(w, ino), 50);
		told_clear(w);
		(void)inv(w, 50, INV_ATTR);
		assert_int_equal(told(w, TOLD_ATTR, ino, NULL), 1);
		(void)inv(w, 50, INV_DATA);
		assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
		assert_int_equal(told(w, TOLD_ATTR, ino, NULL), 1);
		assert_int_equal(known_size(w, ino), UNKNOWN); /* the size is part of it */
		told_clear(w);
		(void)inv(w, 50, INV_DATA);
		assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
		assert_int_equal(told(w, TOLD_ATTR, ino, NULL), 0);
		world_free(w);
	}
}

static void test_the_kernel_is_told_of_what_it_holds(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	cache_forget(w->c, ino, 1);
	(void)inv(w, 50, INV_ATTR | INV_DATA); /* kept, but not by the kernel */
	(void)inv(w, 777, INV_ATTR | INV_DATA); /* known to nobody */
	(void)inv_name(w, 777, "x");
	(void)inv(w, 777, INV_NAMES);
	assert_int_equal(w->n_told, 0);
	assert_int_equal(stats_get(w->stats, STAT_inval_received), 4);
	assert_int_equal(stats_get(w->stats, STAT_inval_noop), 3);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1);
	cache_forget_flush(w->c);
	assert_int_equal(fake_forgotten(w->f, 50), 1); /* an INV ended its idle life */
	world_free(w);
}

/* When the server saw the change is known while the kernel is told, and then no more. */
static void test_age(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);
	struct inv_item i = {.node = 50, .class = INV_ATTR};
	unsigned char buf[32];
	struct msg m = {0};

	(void)state;
	fake_now += SECOND;
	MSG_SET(&m, op, MSG_INV);
	MSG_SET(&m, seq, ++w->seq);
	MSG_SET(&m, age, 300);
	MSG_SET(&m, payload, ((struct slice){buf, codec_put_inv(&i, buf, sizeof(buf))}));
	w->f->pushed(w->f->pushed_arg, &m);
	assert_int_equal(told(w, TOLD_ATTR, ino, NULL), 1);
	assert_int_equal(w->told[0].changed_at, fake_now - 300);
	cache_drop(w->c, ino);
	assert_int_equal(w->told[1].changed_at, 0);
	world_free(w);
}

static void test_reset(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50), dir = look_up_dir(w, "d", 40),
		 gone = look_up_file(w, "g", 51);

	(void)state;
	look_up_absent(w, dir, "no", w->seq);
	done_with(w, ask(w->c, MSG_READ, ino), reply_attr(w, w->seq, FILE_MODE, 50));
	cache_forget(w->c, gone, 1);
	told_clear(w);
	(void)reset(w);
	assert_int_equal(known_size(w, ino), UNKNOWN);
	assert_int_equal(known_size(w, dir), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	assert_int_equal(known_name(w, dir, "no"), UNKNOWN);
	assert_int_equal(told(w, TOLD_ATTR, ino, NULL), 1);
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
	assert_int_equal(told(w, TOLD_ATTR, dir, NULL), 1);
	assert_int_equal(told(w, TOLD_ENTRY, dir, "no"), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, ""), 1); /* the listing */
	assert_int_equal(told(w, TOLD_ATTR, gone, NULL) + told(w, TOLD_DATA, gone, NULL), 0);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "g"), 0);
	assert_int_equal(fake_forgotten(w->f, 51), 1);
	/* attributes before anything that may wait for a request in flight */
	bool later = false;
	for (size_t i = 0; i < w->n_told; i++) {
		later = later || w->told[i].kind != TOLD_ATTR;
		assert_true(!later || w->told[i].kind != TOLD_ATTR);
	}
	assert_int_equal(stats_get(w->stats, STAT_inval_resets), 1);
	world_free(w);
}

/* cache_drop forgets one node, or all, without a word from the server. */
static void test_drop(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50), other = look_up_file(w, "g", 51);

	(void)state;
	cache_drop(w->c, ino);
	assert_int_equal(known_size(w, ino), UNKNOWN);
	assert_int_equal(known_size(w, other), 51);
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
	cache_drop(w->c, 12345); /* nobody's */
	cache_drop(w->c, 0);
	assert_int_equal(known_size(w, other), UNKNOWN);
	assert_int_equal(told(w, TOLD_ATTR, other, NULL), 1);
	world_free(w);
}

/* ---- own changes ---- */

/* A reply that was evaluated before the change, and one that was handled before the change's. */
static void test_double_bump(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	(void)inv(w, 50, INV_ATTR);
	struct asked *before = ask(w->c, MSG_GETATTR, ino), *change = ask(w->c, MSG_SETATTR, ino),
		     *during = ask(w->c, MSG_GETATTR, ino);
	struct msg old = stamped_getattr(w, w->seq, 1), old2 = stamped_getattr(w, w->seq, 2),
		   new = stamped_getattr(w, w->seq, 3);
	answer(w->f, before, &old);
	assert_int_equal(before->reply.attr_ttl, 0); /* the first bump */
	answer(w->f, change, &new);
	assert_int_equal(change->reply.attr_ttl, ATTR_CAP);
	old2.attr.version = new.attr.version + 1;
	answer(w->f, during, &old2);
	assert_int_equal(during->reply.attr_ttl, 0); /* the second */
	free(before);
	free(change);
	free(during);
	world_free(w);
}

static struct asked *ask_range(struct world *w, enum msg_op op, uint64_t ino, uint64_t off, size_t n)
{
	static char bytes[8192];
	struct asked *a = asked_new(op);

	if (op == MSG_WRITE)
		MSG_SET(&a->req.call.req, payload, ((struct slice){bytes, n}));
	MSG_SET(&a->req.call.req, off, off);
	MSG_SET(&a->req.call.req, size, n);
	cache_submit(w->c, &a->req, ino, 0);
	return a;
}

/* A READ of its range and its reply. */
static void read_page(struct world *w, uint64_t ino, uint64_t off)
{
	static char bytes[4096];
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 9000);

	MSG_SET(&m, payload, ((struct slice){bytes, sizeof(bytes)}));
	done_with(w, ask_range(w, MSG_READ, ino, off, sizeof(bytes)), m);
}

static bool write_raced(struct world *w, struct asked *a)
{
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 9000);

	answer(w->f, a, &m);
	bool raced = a->reply.raced;
	free(a);
	return raced;
}

/*
 * The kernel has dropped the file's pages before the WRITE came, or since, and
 * has read them again before its reply: what it read may be from before the WRITE.
 */
static void test_raced_write(void **state)
{
	(void)state;
	for (int drop = 0; drop < 5; drop++) {
		for (int read = 0; read < 4; read++) {
			struct world *w = world_new();
			uint64_t ino = look_up_file(w, "f", 50);

			(void)inv(w, 50, INV_ATTR);
			done_with(w, ask(w->c, MSG_GETATTR, ino),
				  reply_attr(w, w->seq, FILE_MODE, 9000));
			read_page(w, ino, 0);
			assert_false(write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)));
			if (drop == 1)
				(void)inv(w, 50, INV_DATA);
			else if (drop == 2)
				cache_drops_pages(w->c, ino);
			else
				(void)inv(w, 50, INV_ATTR);
			if (drop == 1 || drop == 2)
				cache_pages_dropped(w->c, ino);
			if (read == 1) /* only with a drop before it nothing holds it up */
				read_page(w, ino, 0);
			struct asked *a = ask_range(w, MSG_WRITE, ino, 100, 1);
			if (drop == 3)
				cache_drops_pages(w->c, ino);
			if (read == 2)
				read_page(w, ino, 0);
			else if (read == 3)
				read_page(w, ino, 4096);
			assert_int_equal(write_raced(w, a), (read == 1 && (drop == 1 || drop == 2)) ||
								    read == 2);
			/* the next one has copied its bytes later, unless pages are still to go */
			assert_int_equal(
				write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)),
				drop == 3 && read == 2);
			if (drop == 4) {
				/* as long as they are, whatever is read may be old */
				cache_drops_pages(w->c, ino);
				assert_false(write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)));
				read_page(w, ino, 0);
				assert_true(write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)));
				cache_pages_dropped(w->c, ino);
				assert_true(write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)));
				assert_false(write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)));
			}
			world_free(w);
		}
	}
}

/* The same with the very first WRITE: the daemon has seen neither READ nor WRITE of the file. */
static void test_raced_first_write(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	(void)inv(w, 50, INV_ATTR);
	done_with(w, ask(w->c, MSG_GETATTR, ino), reply_attr(w, w->seq, FILE_MODE, 9000));
	(void)inv(w, 50, INV_DATA);
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
	cache_pages_dropped(w->c, ino);
	read_page(w, ino, 0);
	assert_true(write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)));
	assert_false(write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)));
	world_free(w);
}

/* The reply to an OPEN: keep, or behind the pages of whose drop the daemon knows. */
static void check_open(struct world *w, uint64_t ino, uint64_t flags, uint64_t stamp, bool keep,
		       bool drop)
{
	struct asked *a = asked_new(MSG_OPEN);
	struct msg m = reply_attr(w, stamp, FILE_MODE, flags & O_TRUNC ? 0 : 9000);

	told_clear(w);
	MSG_SET(&a->req.call.req, flags, flags);
	cache_submit(w->c, &a->req, ino, 0);
	if (a->completions == 0) {
		MSG_SET(&m, fh, 7);
		answer(w->f, a, &m);
	}
	assert_int_equal(a->reply.keep, keep);
	assert_int_equal(a->reply.hold, stamp == NO_STAMP && (flags & O_TRUNC) == 0);
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), drop);
	free(a);
}

/*
 * If the kernel dropped the pages itself when it has the reply to OPEN, READs behind that
 * would go unnoticed by a WRITE whose bytes were in them.
 */
static void test_open_without_a_promise(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	check_open(w, ino, O_RDONLY, NO_STAMP, true, false); /* there are none */
	(void)inv(w, 50, INV_ATTR);
	done_with(w, ask(w->c, MSG_GETATTR, ino), reply_attr(w, w->seq, FILE_MODE, 9000));
	for (int cached = 0; cached < 2; cached++) {
		read_page(w, ino, 0);
		check_open(w, ino, O_RDONLY, w->seq, true, false);
		check_open(w, ino, O_RDWR | O_TRUNC, NO_STAMP, false, false);
		struct asked *a = asked_new(MSG_SETATTR);
		MSG_SET(&a->req.call.req, valid, SET_SIZE);
		MSG_SET(&a->req.call.req, size, 9000);
		cache_submit(w->c, &a->req, ino, 0);
		done_with(w, a, reply_attr(w, w->seq, FILE_MODE, 9000));
		read_page(w, ino, 0);
		if (cached) {
			(void)inv(w, 50, INV_ATTR);
			done_with(w, ask(w->c, MSG_GETATTR, ino),
				  reply_attr(w, NO_STAMP, FILE_MODE, 9000));
			cache_close(w->c, ino, 7, true);
		}
		check_open(w, ino, O_RDONLY, NO_STAMP, true, true);
		assert_int_equal(stats_get(w->stats, STAT_cache_open_hits), 0);
		cache_pages_dropped(w->c, ino);
		read_page(w, ino, 0);
		assert_true(write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)));
		assert_false(write_raced(w, ask_range(w, MSG_WRITE, ino, 100, 1)));
	}
	world_free(w);
}

/* With attributes the file could grow over a page that the kernel has still to drop. */
static void test_hold(void **state)
{
	static const enum msg_op ops[] = {MSG_READ, MSG_WRITE};

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++) {
		struct world *w = world_new();
		uint64_t ino = look_up_file(w, "f", 50);

		done_with(w, ask(w->c, ops[i], ino), reply_attr(w, w->seq, FILE_MODE, 50));
		for (int more = 2; more >= 0; more--) {
			if (more == 2) {
				(void)inv(w, 50, INV_DATA);
				assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
			} else if (more == 1) {
				cache_drops_pages(w->c, ino); /* for another reason */
				cache_pages_dropped(w->c, ino);
			} else {
				cache_pages_dropped(w->c, ino);
			}
			struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
			struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 50);

			if (a->completions == 0)
				answer(w->f, a, &m);
			assert_int_equal(a->reply.hold, more > 0);
			free(a);
			a = ask(w->c, MSG_GETATTR, ino); /* from the cache */
			assert_true(a->from_cache);
			assert_int_equal(a->reply.hold, more > 0);
			free(a);
		}
		world_free(w);
	}
}

/* A reply tells of a change before its INV does: pages go first. Of its own, a WRITE tells. */
static void test_size_that_nobody_explained(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	done_with(w, ask(w->c, MSG_READ, ino), reply_attr(w, w->seq, FILE_MODE, 50));
	assert_int_equal(w->n_told, 0);
	struct asked *a = ask(w->c, MSG_WRITE, ino);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 60);
	MSG_SET(&m, off, 50);
	MSG_SET(&m, size, 10);
	answer(w->f, a, &m);
	free(a);
	assert_int_equal(w->n_told, 0);
	done_with(w, ask(w->c, MSG_OPEN, ino), reply_attr(w, w->seq, FILE_MODE, 61));
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
	world_free(w);
}

/*
 * While the kernel writes through its own cache, what others hear of the file
 * may be of that: its pages stay, when it is looked at and when it is opened.
 */
static void test_own_write_in_flight(void **state)
{
	(void)state;
	for (int direct = 0; direct < 2; direct++) {
		struct world *w = world_new();
		uint64_t ino = look_up_file(w, "f", 50);

		done_with(w, ask(w->c, MSG_READ, ino), reply_attr(w, w->seq, FILE_MODE, 50));
		struct asked *a = asked_new(MSG_WRITE);
		a->req.direct = direct != 0;
		MSG_SET(&a->req.call.req, off, 50);
		MSG_SET(&a->req.call.req, payload, ((struct slice){"0123456789", 10}));
		cache_submit(w->c, &a->req, ino, 0);
		told_clear(w);
		done_with(w, ask(w->c, MSG_GETATTR, ino), reply_attr(w, w->seq, FILE_MODE, 60));
		assert_int_equal(told(w, TOLD_DATA, ino, NULL), direct);
		struct asked *o = ask(w->c, MSG_OPEN, ino);
		struct msg m = reply_attr(w, w->seq, FILE_MODE, 60);
		MSG_SET(&m, off, 50);
		MSG_SET(&m, size, 10);
		answer(w->f, a, &m);
		free(a);
		m = reply_attr(w, w->seq, FILE_MODE, 60);
		MSG_SET(&m, fh, 1);
		answer(w->f, o, &m);
		assert_true(o->reply.keep);
		free(o);
		/* and when it is over they go again */
		told_clear(w);
		done_with(w, ask(w->c, MSG_READ, ino), reply_attr(w, w->seq, FILE_MODE, 60));
		done_with(w, ask(w->c, MSG_OPEN, ino), reply_attr(w, w->seq, FILE_MODE, 61));
		assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
		world_free(w);
	}
}

/* ---- small things that are kept ---- */

static void test_readlink(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, "l", 50, S_IFLNK | 0777, w->seq);
	struct asked *a = ask(w->c, MSG_READLINK, ino);
	struct msg m = reply_attr(w, w->seq, S_IFLNK | 0777, 9);

	(void)state;
	assert_int_equal(a->completions, 0);
	MSG_SET(&m, payload, SLICE("to/where"));
	answer(w->f, a, &m);
	free(a);
	a = ask(w->c, MSG_READLINK, ino);
	assert_true(a->from_cache);
	unit_assert_slice((struct slice){a->data, a->len}, "to/where");
	free(a);
	/* no file: nothing of it is answered as if it were one */
	a = ask(w->c, MSG_READ, ino);
	assert_int_equal(a->completions, 0);
	answer_err(w->f, a, EINVAL);
	free(a);
	world_free(w);
}

static void test_no_xattr(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);
	struct asked *a = ask(w->c, MSG_GETXATTR, ino);

	(void)state;
	assert_int_equal(a->completions, 0);
	answer_err(w->f, a, ENODATA);
	free(a);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 9);
	MSG_SET(&m, size, 0);
	done_with(w, ask(w->c, MSG_LISTXATTR, ino), m);
	a = ask(w->c, MSG_GETXATTR, ino);
	assert_true(a->local);
	assert_int_equal(a->reply.err, ENODATA);
	free(a);
	(void)inv(w, 50, INV_ATTR);
	(void)getattr_ttl(w, ino, w->seq);
	a = ask(w->c, MSG_GETXATTR, ino);
	assert_int_equal(a->completions, 0);
	answer_err(w->f, a, ENODATA);
	free(a);
	m = reply_attr(w, w->seq, FILE_MODE, 9);
	MSG_SET(&m, size, 0);
	done_with(w, ask(w->c, MSG_LISTXATTR, ino), m);
	done_with(w, ask(w->c, MSG_SETXATTR, ino), reply_attr(w, w->seq, FILE_MODE, 9));
	a = ask(w->c, MSG_GETXATTR, ino);
	assert_int_equal(a->completions, 0);
	answer_err(w->f, a, ENODATA);
	free(a);
	world_free(w);
}

/* Attributes that say so answer the kernel's question for an ACL, as long as they are true. */
static void test_no_acl(void **state)
{
	static const char *const names[] = {"system.posix_acl_access", "system.posix_acl_default"};
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		struct msg m = reply_attr(w, w->seq, FILE_MODE, 9);

		(void)inv(w, 50, INV_ATTR);
		m.attr.flags = round == 1 ? 0 : ATTR_NO_ACL;
		m.stamp = w->seq;
		done_with(w, ask(w->c, MSG_GETATTR, ino), m);
		if (round == 2)
			(void)inv(w, 50, INV_ATTR);
		for (unsigned i = 0; i < COUNT(names); i++) {
			struct asked *a = asked_new(MSG_GETXATTR);

			MSG_SET(&a->req.call.req, name2,
				((struct slice){names[i], strlen(names[i])}));
			cache_submit(w->c, &a->req, ino, 0);
			if (round == 0 && i == 0) {
				assert_true(a->local);
				assert_int_equal(a->reply.err, ENODATA);
			} else {
				assert_int_equal(a->completions, 0);
				answer_err(w->f, a, ENODATA);
			}
			free(a);
		}
	}
	world_free(w);
}

/* ---- acknowledging ---- */

static void test_ack(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	(void)inv(w, 50, INV_ATTR);
	assert_int_equal(told(w, TOLD_MARK, w->seq, NULL), 0); /* nobody waits for it */
	push_item(w, ++w->seq, INV_ACK, 50, INV_DATA, NULL);
	assert_int_equal(told(w, TOLD_MARK, w->seq, NULL), 1);
	assert_int_equal(w->told[w->n_told - 1].kind, TOLD_MARK); /* behind what it is about */
	assert_int_equal(told(w, TOLD_ATTR, ino, NULL), 1);
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
	assert_int_equal(w->f->n_acks, 0); /* not before the mark is reached */
	cache_acknowledge(w->c, w->seq, false);
	cache_acknowledge(w->c, w->seq, true);
	assert_int_equal(w->f->n_acks, 2);
	assert_int_equal(w->f->acks[0].seq, w->seq);
	assert_int_equal(w->f->acks[0].flags, 0);
	assert_int_equal(w->f->acks[1].flags, ACK_DEFERRED);
	(void)reset(w);
	assert_int_equal(told(w, TOLD_MARK, w->seq, NULL), 1);
	/* nobody to be told: there is nothing to wait for */
	cache_set_sink(w->c, NULL, NULL);
	push_item(w, ++w->seq, INV_ACK, 50, INV_DATA, NULL);
	assert_int_equal(w->f->n_acks, 3);
	assert_int_equal(w->f->acks[2].seq, w->seq);
	world_free(w);
}

/* ---- the lease ---- */

#define LEASE (10 * SECOND)
#define BEAT  (2 * SECOND)

static struct world *world_with_lease(void)
{
	struct cache_options options = lease_options();

	options.lease = LEASE;
	return world_with(options);
}

/* The PING that waits at the server, NULL: none. */
static struct call *ping(const struct world *w)
{
	struct call *found = NULL;

	for (size_t i = 0; i < w->f->n_waiting; i++) {
		if (w->f->waiting[i]->req.op != MSG_PING)
			continue;
		assert_null(found);
		found = w->f->waiting[i];
	}
	return found;
}

static void pong(struct world *w, uint64_t err)
{
	struct call *call = ping(w);
	struct msg m = {0};
	size_t i = 0;

	assert_non_null(call);
	while (w->f->waiting[i] != call)
		i++;
	(void)fake_take(w->f, i);
	if (err != 0)
		MSG_SET(&m, err, err);
	call->done(call, &m);
}

static void test_beats(void **state)
{
	struct world *w = world_with_lease();
	uint64_t ino = look_up_file(w, "f", 50), start = fake_now;

	(void)state;
	for (int i = 0; i < 20; i++) {
		uint64_t next = cache_tick(w->c);

		assert_non_null(ping(w));
		assert_true(next > fake_now && next <= fake_now + BEAT);
		pong(w, 0);
		assert_true(cache_link_alive(w->c));
		fake_now = next - 1;
		(void)cache_tick(w->c); /* too early */
		assert_null(ping(w));
		fake_now = next;
	}
	assert_true(fake_now - start > 3 * LEASE);
	assert_int_equal(known_size(w, ino), 50);
	assert_int_equal(stats_get(w->stats, STAT_inval_resets), 0);
	world_free(w);
}

/* No answer: everything is dropped before the lease is over, once, and nothing is kept. */
static void test_silence(void **state)
{
	struct world *w = world_with_lease();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	(void)cache_tick(w->c);
	pong(w, 0);
	uint64_t last = fake_now;
	look_up_absent(w, CACHE_ROOT, "no", w->seq);
	fake_now = cache_tick(w->c);
	while (stats_get(w->stats, STAT_inval_resets) == 0) {
		assert_int_equal(known_size(w, ino), 50);
		assert_int_equal(known_name(w, CACHE_ROOT, "no"), ABSENT);
		assert_int_equal(w->n_told, 0);
		uint64_t next = cache_tick(w->c);

		assert_true(next > fake_now);
		if (stats_get(w->stats, STAT_inval_resets) == 0)
			fake_now = next;
	}
	assert_int_equal(fake_now, last + LEASE - BEAT);
	assert_int_equal(told(w, TOLD_ATTR, ino, NULL), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "no"), 1);
	assert_non_null(ping(w)); /* one, however long it takes */
	assert_false(cache_link_alive(w->c));
	assert_int_equal(known_size(w, ino), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), UNKNOWN);
	/* a reply that comes all the same is kept for its time only */
	struct asked *a = ask(w->c, MSG_GETATTR, ino);
	struct msg m = stamped_getattr(w, w->seq, 5);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.attr_ttl, 0);
	free(a);
	look_up_absent(w, CACHE_ROOT, "no", w->seq);
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), UNKNOWN);
	fake_now += LEASE;
	(void)cache_tick(w->c);
	assert_non_null(ping(w));
	assert_int_equal(stats_get(w->stats, STAT_inval_resets), 1);

	/* it lives after all, or did when the PING left: too long ago to begin a new lease */
	pong(w, 0);
	assert_false(cache_link_alive(w->c));
	assert_int_equal(getattr_ttl(w, ino, w->seq), 0);
	(void)cache_tick(w->c);
	pong(w, 0);
	assert_true(cache_link_alive(w->c));
	assert_int_equal(stats_get(w->stats, STAT_inval_resets), 1);
	assert_int_equal(getattr_ttl(w, ino, w->seq), ATTR_CAP);
	assert_int_equal(known_size(w, ino), 1234);
	world_free(w);
}

/* Nobody ticked: what is kept is not answered with all the same. */
static void test_end_without_a_tick(void **state)
{
	struct world *w = world_with_lease();
	uint64_t ino = look_up_file(w, "f", 50);
	uint64_t link = look_up(w, CACHE_ROOT, "l", 51, S_IFLNK | 0777, w->seq);
	struct msg m = reply_attr(w, w->seq, S_IFLNK | 0777, 9);

	(void)state;
	look_up_absent(w, CACHE_ROOT, "no", w->seq);
	MSG_SET(&m, payload, SLICE("there"));
	done_with(w, ask(w->c, MSG_READLINK, link), m);
	fake_now += LEASE - 1;
	assert_int_equal(known_size(w, ino), 50);
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), ABSENT);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), ino);
	fake_now += 1;
	assert_int_equal(known_size(w, ino), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	struct asked *a = ask(w->c, MSG_READLINK, link);
	assert_int_equal(a->completions, 0);
	answer_err(w->f, a, EIO);
	free(a);
	world_free(w);
}

/* CLOCK_MONOTONIC stands still; nothing has woken anybody yet when the first question comes. */
static void test_suspended(void **state)
{
	struct world *w = world_with_lease();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	(void)cache_tick(w->c);
	pong(w, 0);
	look_up_absent(w, CACHE_ROOT, "no", w->seq);
	fake_now += BEAT;
	(void)cache_tick(w->c); /* sends another PING */
	assert_int_equal(known_size(w, ino), 50);
	fake_suspended = 3600 * SECOND;
	fake_now += fake_suspended;
	assert_int_equal(known_size(w, ino), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), UNKNOWN);
	assert_int_equal(w->f->n_silent, 0);
	(void)cache_tick(w->c);
	assert_int_equal(w->f->n_silent, 1); /* the line is taken for lost at once */
	assert_int_equal(told(w, TOLD_ATTR, ino, NULL), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "no"), 1);
	assert_false(cache_link_alive(w->c));
	/* the reply to the PING of before the night comes late: it is no sign of life */
	pong(w, 0);
	assert_false(cache_link_alive(w->c));
	(void)cache_tick(w->c);
	pong(w, 0);
	assert_true(cache_link_alive(w->c));
	fake_suspended = 0;
	world_free(w);
}

/* A PING that failed is no sign of life; the next is sent when it is due. */
static void test_link_error(void **state)
{
	struct world *w = world_with_lease();
	unsigned pings = 0;

	(void)state;
	uint64_t ino = look_up_file(w, "f", 50), end = fake_now + LEASE;
	while (fake_now < end - BEAT) {
		fake_now = cache_tick(w->c);
		if (ping(w) != NULL) {
			pong(w, ENOTCONN);
			pings++;
		}
	}
	(void)cache_tick(w->c);
	assert_int_equal(stats_get(w->stats, STAT_inval_resets), 1);
	assert_true(pings >= 4);
	assert_int_equal(known_size(w, ino), UNKNOWN);
	if (ping(w) != NULL)
		pong(w, ENOTCONN);
	world_free(w);
}

/* What the last PING told of the file system's space, until we change something ourselves. */
static void test_space(void **state)
{
	struct world *w = world_with_lease();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	for (int changed = 0; changed < 3; changed++) {
		struct asked *change = changed == 2 ? ask(w->c, MSG_WRITE, ino) : NULL;

		fake_now = cache_tick(w->c);
		(void)cache_tick(w->c);
		struct call *call = ping(w);
		struct msg m = {0};
		assert_non_null(call);
		MSG_SET(&m, fs, ((struct fsinfo){.bsize = 4096, .bfree = 7}));
		size_t i = 0;
		while (w->f->waiting[i] != call)
			i++;
		(void)fake_take(w->f, i);
		if (changed == 1) /* later than the PING: it may not have seen it */
			change = ask(w->c, MSG_WRITE, ino);
		call->done(call, &m);
		if (change != NULL)
			done_with(w, change, reply_attr(w, w->seq, FILE_MODE, 50));
		struct asked *a = ask(w->c, MSG_STATFS, CACHE_ROOT);
		assert_int_equal(a->completions, changed == 0);
		if (a->completions == 0)
			answer_err(w->f, a, EIO);
		free(a);
	}
	world_free(w);
}

/* The host's answer to a ping, which has the totals of the file system: *m. */
static void tell_space(struct world *w, struct msg *m)
{
	MSG_SET(m, fs, ((struct fsinfo){.bsize = 4096, .bfree = 7}));
	fake_now = cache_tick(w->c);
	(void)cache_tick(w->c);
	assert_non_null(ping(w));
	struct call *call = fake_take(w->f, 0);
	call->done(call, m);
}

/* What the host tells while it may still be freeing blocks is not kept. */
static void test_space_given_back(void **state)
{
	struct world *w = world_with_lease();
	struct msg m = {0}, gone = reply_node(w, w->seq, 50, FILE_MODE, 50);
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	tell_space(w, &m);
	gone.attr.nlink = 0;
	done_with(w, ask_name(w, MSG_UNLINK, CACHE_ROOT, "f"), gone);
	for (int step = 0; step < 5; step++) {
		if (step == 2)
			forget_all(w, ino); /* the blocks go with it */
		if (step == 4)
			fake_now += SECOND + 1;
		/* the first after each change asks the host, and those beside it */
		for (int i = 0; i < 2; i++) {
			struct asked *a = ask(w->c, MSG_STATFS, CACHE_ROOT);
			bool kept = i == 1 && (step < 2 || step == 4);

			if (step == 1)
				kept = true;
			if (a->local != kept)
				fail_msg("step %d, look %d", step, i);
			if (kept)
				free(a);
			else
				done_with(w, a, m);
		}
	}
	world_free(w);
}

/* A host that cannot be asked is not: umount(8) asks, and is not to wait for it. */
static void test_space_while_away(void **state)
{
	struct world *w = world_with_lease();
	struct msg m = {0};

	(void)state;
	tell_space(w, &m);
	fake_now += 100 * SECOND; /* what was told is of long ago */
	for (int away = 0; away < 2; away++) {
		atomic_store(&w->f->base.away, away == 1);
		struct asked *a = ask(w->c, MSG_STATFS, CACHE_ROOT);
		assert_int_equal(a->local, away == 1);
		if (a->local)
			free(a);
		else
			done_with(w, a, m);
	}
	world_free(w);
}

/* Without a lease there are no PINGs, and what is promised holds. */
static void test_no_beats(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_true(cache_tick(w->c) == UINT64_MAX);
	assert_int_equal(w->f->n_waiting, 0);
	assert_true(cache_link_alive(w->c));
	world_free(w);
}

/* ---- a hostile server ---- */

static void test_malformed_payload(void **state)
{
	static const char *const payloads[] = {"\xff", "\x83\x01\x04", "\x82\x01", "\x00",
					       "\x83\x01\x01\x41x", "\x82\x01\x04"};
	struct world *w = world_new();

	(void)state;
	for (size_t i = 0; i < COUNT(payloads); i++) {
		uint64_t ino = look_up_file(w, "f", 50), old = w->seq;

		told_clear(w);
		push_payload(w, MSG_INV, ++w->seq, 0, payloads[i],
			     i == 3 ? 1 : strlen(payloads[i]));
		assert_int_equal(known_size(w, ino), UNKNOWN);
		assert_true(told(w, TOLD_ATTR, ino, NULL) >= 1);
		assert_int_equal(getattr_ttl(w, ino, old), 0);
		forget_all(w, ino);
	}
	world_free(w);
}

static void test_long_and_strange_names(void **state)
{
	struct world *w = world_new();
	char name[300];

	(void)state;
	memset(name, 'n', sizeof(name));
	for (size_t len = 254; len <= 257; len++) {
		name[len] = '\0';
		(void)inv_name(w, FAKE_ROOT, name);
		look_up_absent(w, CACHE_ROOT, name, w->seq);
		(void)inv_name(w, FAKE_ROOT, name);
		done_with(w, ask_name(w, MSG_CREATE, CACHE_ROOT, name), reply_err(NO_STAMP, EIO));
		name[len] = 'n';
	}
	look_up_absent(w, CACHE_ROOT, "", w->seq);
	done_with(w, ask_name(w, MSG_UNLINK, CACHE_ROOT, ""), reply_err(NO_STAMP, EINVAL));
	(void)inv(w, FAKE_ROOT, UINT64_MAX & ~(uint64_t)INV_NAME);
	world_free(w);
}

/* As done_with, but the cache may have answered already. */
static void done_somehow(struct world *w, struct asked *a, struct msg m)
{
	if (a->completions == 0)
		answer(w->f, a, &m);
	free(a);
}

/* An object that turns into one of another type: what is kept goes by the type. */
static void change_type(uint32_t from, uint32_t to)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, "x", 50, from | 0600, w->seq);
	static char block[64];
	struct msg m = reply_attr(w, w->seq, from | 0600, 64), gone = reply_err(w->seq, ENOENT);

	MSG_SET(&m, payload, ((struct slice){block, sizeof(block)}));
	for (int i = 0; i < 3; i++)
		done_somehow(w, ask(w->c, MSG_READ, ino), m);
	done_somehow(w, ask_name(w, MSG_LOOKUP, ino, "in"), gone);
	cache_close(w->c, ino, 3, true);
	done_with(w, ask(w->c, MSG_SETATTR, ino), reply_attr(w, w->seq, to | 0600, 1));
	done_somehow(w, ask_name(w, MSG_LOOKUP, CACHE_ROOT, "x"),
		     reply_node(w, w->seq, 50, to | 0600, 1));
	done_somehow(w, ask_name(w, MSG_LOOKUP, ino, "in"), gone);
	done_with(w, ask_name(w, MSG_CREATE, ino, "in"), reply_node(w, w->seq, 60, S_IFREG, 0));
	for (int i = 0; i < 3; i++) {
		m.attr = attr_now(w, to | 0600, 2);
		done_somehow(w, ask(w->c, i == 0 ? MSG_READLINK : MSG_READ, ino), m);
	}
	(void)inv_name(w, 50, "in");
	(void)inv(w, 50, INV_ATTR | INV_DATA | INV_NAMES);
	(void)reset(w);
	world_free(w);
}

/* Nobody is told of such a change: it is an error, which leaves nothing behind. */
static void test_other_type(void **state)
{
	static const enum msg_op ops[] = {MSG_SETATTR, MSG_GETATTR, MSG_OPEN};
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, "x", 50, S_IFREG | 0600, NO_STAMP);
	struct msg m = reply_attr(w, w->seq, S_IFDIR | 0700, 1);

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++) {
		struct asked *a = ask(w->c, ops[i], ino);

		if (ops[i] == MSG_OPEN)
			MSG_SET(&m, fh, 7);
		answer(w->f, a, &m);
		assert_int_equal(a->reply.err, EIO);
		free(a);
	}
	assert_int_equal(w->f->n_closed, 1);
	assert_int_equal(w->f->closed[0], 7);
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "x");
	m = reply_node(w, w->seq, 50, S_IFDIR | 0700, 1);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.err, EIO);
	assert_int_equal(a->reply.ino, 0);
	free(a);
	cache_forget(w->c, ino, 1); /* the only reference: both of the server's go back */
	cache_forget_flush(w->c);
	assert_int_equal(fake_forgotten(w->f, 50), 2);
	world_free(w);
}

static void test_change_of_type(void **state)
{
	static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, 0};

	(void)state;
	for (size_t from = 0; from < COUNT(types); from++)
		for (size_t to = 0; to < COUNT(types); to++)
			change_type(types[from], types[to]);
}

/* However many there are, and whatever becomes of them: one is on its way, and the last comes. */
static void test_one_acknowledgement(void **state)
{
	struct world *w = world_new();

	(void)state;
	w->f->stuck = true;
	for (uint64_t seq = 1; seq <= 1000; seq++)
		cache_acknowledge(w->c, seq, seq == 500);
	assert_int_equal(w->f->n_acks, 1);
	assert_int_equal(w->f->acks[0].seq, 1);
	w->f->stuck = false;
	w->f->sending->sent(w->f->sending);
	assert_int_equal(w->f->n_acks, 2);
	assert_int_equal(w->f->acks[1].seq, 1000);
	assert_int_equal(w->f->acks[1].flags, ACK_DEFERRED); /* one of them was */
	cache_acknowledge(w->c, 1001, false);
	assert_int_equal(w->f->n_acks, 3);
	assert_int_equal(w->f->acks[2].seq, 1001);
	assert_int_equal(w->f->acks[2].flags, 0);
	world_free(w);
}

/*
 * The name of a directory with a request in flight is told though nobody is
 * known to hold it: not when too much is queued, then all names are void.
 */
static void test_full_queue(void **state)
{
	(void)state;
	for (int full = 0; full < 2; full++) {
		struct world *w = world_new();
		struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "slow");
		uint64_t old = w->seq;

		look_up_absent(w, CACHE_ROOT, "known", w->seq);
		told_clear(w);
		w->full = full;
		push_item(w, ++w->seq, 0, FAKE_ROOT, INV_NAME, "unknown");
		assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "unknown"), !full);
		assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "known"), full);
		assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, ""), full);
		/* the reply is older than that */
		struct msg m = reply_err(old, ENOENT);
		answer(w->f, a, &m);
		assert_int_equal(a->reply.entry_ttl == 0, full);
		free(a);
		world_free(w);
	}
}

/* Numbers that go back, the same node under many names, its own parent. */
static void test_random_pushes(void **state)
{
	static const char *const names[] = {"a", "b", "c", ""};
	struct unit_random random = {11};
	struct cache_options options = lease_options();

	(void)state;
	options.node_budget = 5;
	struct world *w = world_with(options);
	uint64_t inos[8] = {CACHE_ROOT};
	for (int i = 0; i < 30000; i++) {
		uint64_t *ino = &inos[unit_below(&random, COUNT(inos))];
		const char *name = names[unit_below(&random, COUNT(names))];
		uint64_t node = 50 + unit_below(&random, 6), class = 1 + unit_below(&random, 15);
		uint64_t seq = unit_below(&random, 20), dir = *ino != 0 ? *ino : CACHE_ROOT;
		bool of_name = (class & INV_NAME) != 0;

		if (unit_below(&random, 50) == 0)
			node = FAKE_ROOT;
		w->n_told = 0;
		switch (unit_below(&random, 8)) {
		case 0:
			push_item(w, seq, 0, node, class, of_name ? "b" : NULL);
			break;
		case 1:
			if (unit_below(&random, 100) == 0)
				push_payload(w, MSG_RESET, seq, 0, "", 0);
			break;
		case 2:
			if (*ino != CACHE_ROOT)
				cache_forget(w->c, *ino, 1);
			break;
		case 3:
			done_with(w, ask_rename(w, CACHE_ROOT, name, CACHE_ROOT, "c", class & 2),
				  reply_node(w, seq, node, S_IFDIR, 1));
			break;
		default: {
			static const enum msg_op ops[] = {MSG_LOOKUP, MSG_LOOKUP, MSG_MKNOD,
							  MSG_UNLINK, MSG_READ, MSG_CREATE};
			struct asked *a = ask_name(w, ops[unit_below(&random, COUNT(ops))], dir, name);
			struct msg m = unit_below(&random, 4) == 0
					   ? reply_err(seq, ENOENT)
					   : reply_node(w, seq, node, node % 2 ? S_IFREG : S_IFDIR, 1);

			MSG_SET(&m, flags, MKNOD_EMPTY);
			if (a->completions == 0)
				answer(w->f, a, &m);
			if (a->reply.ino != 0)
				*ino = a->reply.ino;
			free(a);
		}
		}
	}
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_promised_attributes),
	    cmocka_unit_test(test_one_acknowledgement),
	    cmocka_unit_test(test_full_queue),
	    cmocka_unit_test(test_without_a_stamp),
	    cmocka_unit_test(test_no_lease),
	    cmocka_unit_test(test_stamp_of_a_node),
	    cmocka_unit_test(test_overtaken),
	    cmocka_unit_test(test_stamp_of_a_name),
	    cmocka_unit_test(test_absent_name_overtaken_is_told_for_no_time),
	    cmocka_unit_test(test_stamp_below_a_reset),
	    cmocka_unit_test(test_collision),
	    cmocka_unit_test(test_inv_attr),
	    cmocka_unit_test(test_inv_data),
	    cmocka_unit_test(test_the_kernel_is_told_of_what_it_holds),
	    cmocka_unit_test(test_age),
	    cmocka_unit_test(test_reset),
	    cmocka_unit_test(test_drop),
	    cmocka_unit_test(test_double_bump),
	    cmocka_unit_test(test_raced_write),
	    cmocka_unit_test(test_raced_first_write),
	    cmocka_unit_test(test_open_without_a_promise),
	    cmocka_unit_test(test_hold),
	    cmocka_unit_test(test_size_that_nobody_explained),
	    cmocka_unit_test(test_own_write_in_flight),
	    cmocka_unit_test(test_readlink),
	    cmocka_unit_test(test_no_xattr),
	    cmocka_unit_test(test_no_acl),
	    cmocka_unit_test(test_ack),
	    cmocka_unit_test(test_beats),
	    cmocka_unit_test(test_silence),
	    cmocka_unit_test(test_end_without_a_tick),
	    cmocka_unit_test(test_suspended),
	    cmocka_unit_test(test_link_error),
	    cmocka_unit_test(test_space),
	    cmocka_unit_test(test_space_given_back),
	    cmocka_unit_test(test_space_while_away),
	    cmocka_unit_test(test_no_beats),
	    cmocka_unit_test(test_malformed_payload),
	    cmocka_unit_test(test_long_and_strange_names),
	    cmocka_unit_test(test_change_of_type),
	    cmocka_unit_test(test_other_type),
	    cmocka_unit_test(test_random_pushes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
