/* Pages that are asked for again, and open files that are opened again. */
#include "cache_lease.h"

#define FILE_MODE (S_IFREG | 0644u)
#define KIB	  1024u
#define BLOCK	  (128 * KIB)
#define MAX	  (4 * BLOCK)

/* The fake server's file: what is at an offset, in this generation of it. */
static unsigned char bytes[MAX];

static void fill(unsigned generation)
{
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i / BLOCK * 16 + generation + i % 7);
}

static struct msg reply_read(struct world *w, uint64_t stamp, uint64_t off, size_t len)
{
	struct msg m = reply_attr(w, stamp, FILE_MODE, 50);

	MSG_SET(&m, payload, ((struct slice){bytes + off, len}));
	return m;
}

static struct asked *ask_read(struct world *w, uint64_t ino, uint64_t off, size_t size)
{
	struct asked *a = asked_new(MSG_READ);

	MSG_SET(&a->req.call.req, off, off);
	MSG_SET(&a->req.call.req, size, size);
	cache_submit(w->c, &a->req, ino, 0);
	return a;
}

/* Reads, `end` being the file's size; whether the cache answered. What came is checked. */
static bool read_at(struct world *w, uint64_t ino, uint64_t off, size_t size, size_t end)
{
	uint64_t hits = stats_get(w->stats, STAT_cache_page_hits);
	struct asked *a = ask_read(w, ino, off, size);
	size_t len = off >= end ? 0 : off + size > end ? end - off : size;
	bool hit = a->completions == 1;

	if (!hit) {
		struct msg m = reply_read(w, w->seq, off, len);

		answer(w->f, a, &m);
	}
	assert_int_equal(a->reply.err, 0);
	assert_int_equal(a->len, len);
	if (len > 0)
		assert_memory_equal(a->data, bytes + off,
				    len < sizeof(a->data) ? len : sizeof(a->data));
	assert_int_equal(stats_get(w->stats, STAT_cache_page_hits) - hits, hit);
	free(a);
	return hit;
}

static int setup(void **state)
{
	(void)state;
	fill(0);
	return 0;
}

/* ---- pages ---- */

static void test_kept_when_asked_again(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	assert_false(read_at(w, ino, 0, BLOCK, MAX));
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), 0);
	assert_false(read_at(w, ino, 0, BLOCK, MAX)); /* now it is kept */
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), BLOCK);
	assert_true(read_at(w, ino, 0, BLOCK, MAX));
	assert_true(read_at(w, ino, 5 * KIB, 4 * KIB, MAX));
	assert_false(read_at(w, ino, 100 * KIB, 64 * KIB, MAX)); /* goes beyond */
	assert_false(read_at(w, ino, BLOCK, BLOCK, MAX));
	uint64_t other = look_up_file(w, "g", 51);
	assert_false(read_at(w, other, 0, BLOCK, MAX));
	world_free(w);
}

/* Several blocks at a time, parts of them not. */
static void test_blocks(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_false(read_at(w, ino, 64 * KIB, 3 * BLOCK, MAX));
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), 2 * BLOCK);
	assert_true(read_at(w, ino, BLOCK, 2 * BLOCK, MAX));
	assert_true(read_at(w, ino, BLOCK + 77, BLOCK + 1000, MAX));
	assert_false(read_at(w, ino, 0, 4 * KIB, MAX));
	world_free(w);
}

/* The last block is shorter: reads at, over and behind the end. */
static void test_end_of_file(void **state)
{
	enum { END = BLOCK + 1000 };
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_false(read_at(w, ino, 0, 2 * BLOCK, END));
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), END);
	assert_true(read_at(w, ino, 0, 2 * BLOCK, END));
	assert_true(read_at(w, ino, BLOCK, 4 * KIB, END));
	assert_true(read_at(w, ino, END - 1, 1, END));
	assert_true(read_at(w, ino, END - 1, 10, END));
	assert_true(read_at(w, ino, END, 10, END));
	assert_true(read_at(w, ino, BLOCK + 2000, 10, END));
	world_free(w);
}

/* Whatever changes the content, or makes the promise end, ends what is kept of it. */
static void test_pages_end(void **state)
{
	enum { INV, ATTR, RESET, WRITE, TRUNCATE, FALLOCATE, COPY, OPEN, CHMOD, EXPIRY, HOWS };
	static const enum msg_op ops[] = {
		[WRITE] = MSG_WRITE, [TRUNCATE] = MSG_SETATTR, [FALLOCATE] = MSG_FALLOCATE,
		[COPY] = MSG_COPY,   [OPEN] = MSG_OPEN,	       [CHMOD] = MSG_SETATTR};

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		struct world *w = world_new();
		uint64_t ino = look_up_file(w, "f", 50);

		for (int i = 0; i < 3; i++)
			assert_int_equal(read_at(w, ino, 0, BLOCK, MAX), i == 2);
		if (how == INV) {
			(void)inv(w, 50, INV_DATA);
		} else if (how == ATTR) {
			(void)inv(w, 50, INV_ATTR);
			assert_int_equal(stats_get(w->stats, STAT_cache_pages), BLOCK);
		} else if (how == RESET) {
			(void)reset(w);
		} else if (how == EXPIRY) {
			fake_now += ATTR_CAP;
		} else {
			struct asked *a = asked_new(ops[how]);

			if (how == OPEN)
				MSG_SET(&a->req.call.req, flags, O_WRONLY | O_TRUNC);
			MSG_SET(&a->req.call.req, valid, how == TRUNCATE ? SET_SIZE : SET_MODE);
			cache_submit(w->c, &a->req, ino, 0);
			done_with(w, a, reply_attr(w, w->seq, FILE_MODE, 50));
		}
		bool stays = how == CHMOD || how == ATTR || how == EXPIRY;
		if (!stays)
			fill(1);
		assert_int_equal(stats_get(w->stats, STAT_cache_pages), stays ? BLOCK : 0);
		/* until the attributes are there, it is not known whether they are still true */
		done_with(w, ask(w->c, MSG_OPEN, ino), reply_attr(w, w->seq, FILE_MODE, 50));
		assert_int_equal(read_at(w, ino, 0, BLOCK, MAX), stays);
		fill(0);
		world_free(w);
	}
}

/* Read before, and arrived after, a change: not kept. One that the INV overtook neither. */
static void test_late_reads(void **state)
{
	enum { INV, NO_PROMISE, WRITE_AROUND, WRITE_ENDS, TRUNCATES, CREATES, HOWS };

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		struct world *w = world_new();
		uint64_t ino = look_up_file(w, "f", 50), stamp = w->seq;
		struct asked *change = NULL, *reads[2];

		assert_false(read_at(w, ino, 0, BLOCK, MAX));
		if (how == WRITE_ENDS || how == TRUNCATES) {
			change = asked_new(how == TRUNCATES ? MSG_OPEN : MSG_WRITE);
			MSG_SET(&change->req.call.req, flags, how == TRUNCATES ? O_TRUNC : 0);
			cache_submit(w->c, &change->req, ino, 0);
		}
		for (size_t i = 0; i < COUNT(reads); i++) /* what is dropped is new again */
			reads[i] = ask_read(w, ino, 0, BLOCK);
		if (how == INV)
			(void)inv(w, 50, INV_DATA);
		if (how == WRITE_AROUND)
			change = ask(w->c, MSG_WRITE, ino);
		if (how == CREATES) {
			change = asked_new(MSG_CREATE);
			MSG_SET(&change->req.call.req, name, SLICE("again"));
			MSG_SET(&change->req.call.req, flags, O_CREAT | O_TRUNC);
			cache_submit(w->c, &change->req, CACHE_ROOT, 0);
		}
		struct msg m = reply_read(w, how == NO_PROMISE ? NO_STAMP : stamp, 0, BLOCK);
		if (change != NULL)
			done_with(w, change, reply_node(w, w->seq, 50, FILE_MODE, 50));
		for (size_t i = 0; i < COUNT(reads); i++)
			done_with(w, reads[i], m);
		if (stats_get(w->stats, STAT_cache_pages) != 0)
			fail_msg("case %d", how);
		world_free(w);
	}
}

/* A file that a CREATE finds and truncates may be one that is known by another name. */
static void test_create_truncates(void **state)
{
	(void)state;
	for (int truncates = 0; truncates < 2; truncates++) {
		struct world *w = world_new();
		uint64_t ino = look_up_file(w, "f", 50);
		struct asked *a = asked_new(MSG_CREATE);
		struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 50);

		for (int i = 0; i < 3; i++)
			(void)read_at(w, ino, 0, BLOCK, MAX);
		MSG_SET(&a->req.call.req, name, SLICE("g"));
		MSG_SET(&a->req.call.req, flags, O_CREAT | (truncates ? O_TRUNC : 0));
		cache_submit(w->c, &a->req, CACHE_ROOT, 0);
		m.attr.version = ++w->version;
		answer(w->f, a, &m);
		assert_int_equal(a->reply.ino, ino);
		assert_int_equal(a->reply.attr_ttl, 0); /* see in_kernel_size.c */
		assert_int_equal(a->reply.entry_ttl, ENTRY_CAP);
		free(a);
		assert_int_equal(known_size(w, ino), 50);
		assert_int_equal(stats_get(w->stats, STAT_cache_pages), truncates ? 0 : BLOCK);
		world_free(w);
	}
}

static void test_direct_reads(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	for (int i = 0; i < 3; i++)
		(void)read_at(w, ino, 0, BLOCK, MAX);
	struct asked *a = asked_new(MSG_READ);
	a->req.direct = true;
	MSG_SET(&a->req.call.req, size, BLOCK);
	cache_submit(w->c, &a->req, ino, 0);
	assert_int_equal(a->completions, 0);
	done_with(w, a, reply_read(w, w->seq, 0, BLOCK));
	world_free(w);
}

/* The kernel has pages from the cache like others: an INV must tell it so. */
static void test_pages_from_the_cache_are_told(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	for (int i = 0; i < 3; i++)
		(void)read_at(w, ino, 0, BLOCK, MAX);
	forget_all(w, ino); /* takes its pages with it */
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), ino);
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	assert_int_equal(a->reply.ino, ino);
	free(a);
	assert_true(read_at(w, ino, 0, BLOCK, MAX));
	(void)inv(w, 50, INV_DATA);
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
	world_free(w);
}

/* ---- the budget ---- */

static void test_page_budget(void **state)
{
	enum { FILES = 40, KEPT = 8 };
	struct cache_options options = lease_options();
	uint64_t inos[FILES];

	(void)state;
	options.page_budget = KEPT * BLOCK;
	struct world *w = world_with(options);
	for (size_t i = 0; i < FILES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%zu", i);
		inos[i] = look_up_file(w, name, 100 + i);
	}
	/* two that are used again and again, and a scan */
	for (size_t i = 0; i < FILES; i++) {
		for (int twice = 0; twice < 2; twice++)
			(void)read_at(w, inos[i], 0, BLOCK, MAX);
		for (size_t used = 0; used < 2 && used < i; used++)
			assert_true(read_at(w, inos[used], 0, BLOCK, MAX));
		assert_true(stats_get(w->stats, STAT_cache_pages) <= KEPT * BLOCK);
	}
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), KEPT * BLOCK);
	options.page_budget = 2 * BLOCK;
	options.stats = w->stats;
	cache_set_options(w->c, &options);
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), 2 * BLOCK);
	options.page_budget = 0;
	cache_set_options(w->c, &options);
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), 0);
	for (int i = 0; i < 4; i++)
		assert_false(read_at(w, inos[9], 0, BLOCK, MAX));
	world_free(w);
}

/* ---- idle open files ---- */

/* An open(2) with these flags that the cache answers; UINT64_MAX: it does not. */
static uint64_t open_cached(struct world *w, uint64_t ino, uint64_t flags)
{
	struct asked *a = asked_new(MSG_OPEN);
	uint64_t fh = UINT64_MAX;

	MSG_SET(&a->req.call.req, flags, flags);
	cache_submit(w->c, &a->req, ino, 0);
	if (a->completions == 1) {
		assert_int_equal(a->reply.err, 0);
		assert_true(a->reply.keep);
		fh = a->reply.fh;
	} else {
		answer_err(w->f, a, EIO);
	}
	free(a);
	return fh;
}

static void test_opened_again(void **state)
{
	static const uint64_t others[] = {O_WRONLY, O_RDWR,  O_TRUNC,  O_DIRECT,
					  O_SYNC,   O_DSYNC, O_NOATIME};
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50), other = look_up_file(w, "g", 51);
	uint64_t first = opened(w->c, 7), second = opened(w->c, 8), third = opened(w->c, 9);

	(void)state;
	cache_close(w->c, ino, first, true);
	assert_int_equal(w->f->n_closed, 0);
	for (size_t i = 0; i < COUNT(others); i++) {
		if (others[i] != O_TRUNC) /* that ends what is known of the attributes */
			assert_true(open_cached(w, ino, others[i]) == UINT64_MAX);
	}
	assert_true(open_cached(w, other, O_RDONLY) == UINT64_MAX);
	assert_int_equal(open_cached(w, ino, O_RDONLY), first);
	assert_int_equal(stats_get(w->stats, STAT_cache_open_hits), 1);
	assert_true(open_cached(w, ino, O_RDONLY) == UINT64_MAX); /* one opener at a time */
	cache_close(w->c, ino, second, false);
	assert_int_equal(w->f->n_closed, 1);
	assert_int_equal(w->f->closed[0], 8);
	cache_close(w->c, ino, third, true);
	(void)open_cached(w, ino, O_TRUNC);
	assert_int_equal(w->f->n_closed, 1);
	world_free(w);
}

/* An open(2) for reading that asks the host: how many bytes it asks for, and whether they came. */
static uint64_t open_asks(struct world *w, uint64_t ino, uint64_t flags, struct msg *content)
{
	struct asked *a = asked_new(MSG_OPEN);
	static uint64_t fh = 500;

	MSG_SET(&a->req.call.req, flags, flags);
	cache_submit(w->c, &a->req, ino, 0);
	assert_int_equal(a->completions, 0);
	const struct msg *q = &a->req.call.req;
	uint64_t asked = MSG_HAS(q, size) ? q->size : 0;
	MSG_SET(content, fh, ++fh);
	answer(w->f, a, content);
	assert_int_equal(a->reply.err, 0);
	cache_close(w->c, ino, a->reply.fh, false);
	free(a);
	return asked;
}

static uint64_t file_of_size(struct world *w, const char *name, uint64_t node, uint64_t size)
{
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, name);
	struct msg m = reply_node(w, w->seq, node, FILE_MODE, size);

	answer(w->f, a, &m);
	uint64_t ino = a->reply.ino;
	free(a);
	return ino;
}

static struct msg with_content(struct world *w, uint64_t stamp, size_t len)
{
	struct msg m = reply_attr(w, stamp, FILE_MODE, len);

	MSG_SET(&m, payload, ((struct slice){bytes, len}));
	return m;
}

/* A small file comes with OPEN, and is kept until the kernel has read it. */
static void test_content_with_open(void **state)
{
	struct world *w = world_new();
	uint64_t ino = file_of_size(w, "f", 50, 5000);
	struct msg m = with_content(w, w->seq, 5000);

	(void)state;
	assert_in_range(open_asks(w, ino, O_RDONLY, &m), 5001, 64 * KIB);
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), 5000);
	assert_true(read_at(w, ino, 0, 4096, 5000));
	assert_true(read_at(w, ino, 4096, 4096, 5000));
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), 0);
	/* the kernel has pages by now: no more is asked for */
	m = reply_attr(w, w->seq, FILE_MODE, 5000);
	assert_int_equal(open_asks(w, ino, O_RDONLY, &m), 0);
	assert_false(read_at(w, ino, 0, 4096, 5000));
	world_free(w);
}

/* Not to be kept: what an invalidation or a change of ours has overtaken, or has no promise. */
static void test_content_with_open_is_void(void **state)
{
	enum { OVERTAKEN, LATER, CHANGED, UNPROMISED, HOWS };

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		struct world *w = world_new();
		uint64_t ino = file_of_size(w, "f", 50, 5000), stamp = w->seq;
		struct asked *a = asked_new(MSG_OPEN), *change = NULL;

		MSG_SET(&a->req.call.req, flags, O_RDONLY);
		cache_submit(w->c, &a->req, ino, 0);
		if (how == OVERTAKEN)
			(void)inv(w, 50, INV_ATTR | INV_DATA);
		if (how == CHANGED) {
			change = asked_new(MSG_SETATTR);
			MSG_SET(&change->req.call.req, valid, SET_SIZE);
			MSG_SET(&change->req.call.req, size, 3000);
			cache_submit(w->c, &change->req, ino, 0);
		}
		struct msg m = with_content(w, how == UNPROMISED ? NO_STAMP : stamp, 5000);
		MSG_SET(&m, fh, 7);
		done_with(w, a, m);
		if (change != NULL && stats_get(w->stats, STAT_cache_pages) != 0)
			fail_msg("while it is changed");
		if (change != NULL)
			done_with(w, change, reply_attr(w, stamp, FILE_MODE, 3000));
		if (how == LATER)
			(void)inv(w, 50, INV_ATTR | INV_DATA);
		if (stats_get(w->stats, STAT_cache_pages) != 0)
			fail_msg("case %d", how);
		assert_false(read_at(w, ino, 0, 3000, 3000));
		world_free(w);
	}
}

/* Where it is of no use, or is not read, nothing or little is asked for. */
static void test_content_not_asked_for(void **state)
{
	static const uint64_t others[] = {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_RDONLY | O_DIRECT};
	struct world *w = world_new();
	uint64_t large = file_of_size(w, "large", 50, 64 * KIB), empty = file_of_size(w, "e", 51, 0);
	uint64_t small = file_of_size(w, "small", 52, 100);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 64 * KIB);
	unsigned asked = 0;

	(void)state;
	assert_int_equal(open_asks(w, large, O_RDONLY, &m), 0);
	m = reply_attr(w, w->seq, FILE_MODE, 0);
	assert_int_equal(open_asks(w, empty, O_RDONLY, &m), 0);
	for (size_t i = 0; i < COUNT(others); i++) {
		m = reply_attr(w, w->seq, FILE_MODE, 100);
		assert_int_equal(open_asks(w, small, others[i], &m), 0);
	}
	for (unsigned i = 0; i < 200; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "s%u", i);
		uint64_t ino = file_of_size(w, name, 2000 + i, 100);
		m = with_content(w, w->seq, 100);
		asked += open_asks(w, ino, O_RDONLY, &m) != 0;
	}
	assert_in_range(asked, 16, 40);
	world_free(w);
}

/* Only as long as what the open would tell is known. */
static void test_not_opened_without_attributes(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);
	uint64_t first = opened(w->c, 7), second = opened(w->c, 8);

	(void)state;
	cache_close(w->c, ino, first, true);
	(void)inv(w, 50, INV_ATTR);
	assert_true(open_cached(w, ino, O_RDONLY) == UINT64_MAX);
	cache_close(w->c, ino, second, true); /* nor is one kept */
	assert_int_equal(w->f->n_closed, 1);
	world_free(w);
}

/* A file that may be gone is not held open: its blocks are to be free. */
static void test_idle_files_are_closed(void **state)
{
	enum { UNLINKED, REPLACED, NAME, FORGOTTEN, NAMES, HOWS };

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		struct world *w = world_new();
		uint64_t ino = look_up_file(w, "f", 50);
		struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 50);

		(void)look_up_file(w, "g", 51);
		const uint64_t files[] = {opened(w->c, 7), opened(w->c, 8)};
		for (size_t i = 0; i < COUNT(files); i++)
			cache_close(w->c, ino, files[i], true);
		switch (how) {
		case UNLINKED:
			m.attr.nlink = 0;
			done_with(w, ask_name(w, MSG_UNLINK, CACHE_ROOT, "f"), m);
			break;
		case REPLACED:
			m = reply_node(w, w->seq, 51, FILE_MODE, 51);
			MSG_SET(&m, node2, 50);
			done_with(w, ask_rename(w, CACHE_ROOT, "g", CACHE_ROOT, "f", 0), m);
			break;
		case NAME:
			(void)inv_name(w, FAKE_ROOT, "g");
			assert_int_equal(w->f->n_closed, 0);
			(void)inv_name(w, FAKE_ROOT, "f");
			break;
		case NAMES:
			(void)inv(w, FAKE_ROOT, INV_NAMES);
			break;
		default:
			cache_forget(w->c, ino, 1);
			cache_forget_flush(w->c);
		}
		if (w->f->n_closed != 2)
			fail_msg("case %d", how);
		world_free(w);
	}
}

static void test_idle_files_are_bounded(void **state)
{
	enum { FILES = 1500, BOUND = 1024 };
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50), files[FILES];

	(void)state;
	for (uint64_t i = 0; i < FILES; i++)
		files[i] = opened(w->c, 70 + i);
	for (uint64_t i = 0; i < FILES; i++)
		cache_close(w->c, ino, files[i], true);
	assert_int_equal(w->f->n_closed, FILES - BOUND);
	for (uint64_t i = 0; i < FILES - BOUND; i++)
		assert_int_equal(w->f->closed[i], 70 + i); /* the oldest go */
	for (uint64_t i = 0; i < BOUND; i++)
		assert_int_equal(open_cached(w, ino, O_RDONLY), files[FILES - 1 - i]);
	world_free(w);
}

/* Opens and closes each file; how often from the cache. */
static unsigned walk_files(struct world *w, const uint64_t *inos, unsigned n)
{
	unsigned hits = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t fh = open_cached(w, inos[i], O_RDONLY);

		hits += fh != UINT64_MAX;
		cache_close(w->c, inos[i], fh != UINT64_MAX ? fh : opened(w->c, 1000 + inos[i]),
			    true);
	}
	return hits;
}

/* A walk over more files than are kept finds most of these again, and leaves what is used daily. */
static void test_idle_files_resist_a_walk(void **state)
{
	enum { KEPT = 64, DAILY = 8, FILES = 100, NEW = KEPT * 6 };
	struct world *w = world_new();
	uint64_t walked[NEW], daily[DAILY];
	char name[16];

	(void)state;
	w->f->base.info.idle_files = KEPT;
	for (unsigned i = 0; i < NEW; i++) {
		(void)snprintf(name, sizeof(name), "f%u", i);
		walked[i] = look_up_file(w, name, 2000 + i);
	}
	for (unsigned i = 0; i < DAILY; i++) {
		(void)snprintf(name, sizeof(name), "d%u", i);
		daily[i] = look_up_file(w, name, 3000 + i);
	}
	assert_int_equal(walk_files(w, daily, DAILY), 0);
	for (unsigned pass = 0; pass < 3; pass++) {
		assert_int_equal(walk_files(w, walked, FILES), pass == 0 ? 0 : KEPT - DAILY);
		assert_int_equal(walk_files(w, daily, DAILY), DAILY);
	}
	/* a file that is used again and again comes in, instead of what was not for longer */
	assert_int_equal(walk_files(w, &walked[FILES - 1], 1), 0);
	assert_int_equal(walk_files(w, &walked[FILES - 1], 1), 1);
	/* what is not used any more goes, after a while */
	(void)walk_files(w, walked, NEW);
	assert_true(walk_files(w, &walked[NEW - FILES], FILES) > KEPT / 4);
	/* a server that grants less is believed, at the next close */
	w->f->base.info.idle_files = 4;
	(void)walk_files(w, &walked[NEW - 1], 1);
	assert_true(walk_files(w, walked, NEW) <= 4);
	world_free(w);
}

/* The server is out of descriptors, and we hold some: once more, without them. */
static void test_out_of_descriptors(void **state)
{
	static const struct {
		enum msg_op op;
		int err;
		bool again;
	} cases[] = {{MSG_OPEN, EMFILE, true},
		     {MSG_OPEN, ENFILE, true},
		     {MSG_CREATE, EMFILE, true},
		     {MSG_OPEN, ENOMEM, false},
		     {MSG_LOOKUP, EMFILE, false}};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		for (unsigned idle = 0; idle < 2; idle++) {
			struct world *w = world_new();
			uint64_t ino = look_up_file(w, "f", 50), other = look_up_file(w, "g", 51);
			bool again = cases[i].again && idle > 0;

			if (idle > 0)
				cache_close(w->c, other, opened(w->c, 7), true);
			struct asked *a = cases[i].op == MSG_OPEN
						  ? ask(w->c, MSG_OPEN, ino)
						  : ask_name(w, cases[i].op, CACHE_ROOT, "new");
			struct call *call = fake_take(w->f, 0);
			struct msg m = reply_err(NO_STAMP, (uint64_t)cases[i].err);
			call->done(call, &m);
			assert_int_equal(w->f->n_closed, again);
			assert_int_equal(a->completions, !again);
			assert_int_equal(w->f->n_waiting, again);
			if (again) {
				cache_close(w->c, other, opened(w->c, 8), true);
				call = fake_take(w->f, 0);
				assert_ptr_equal(call, &a->req.call);
				if (cases[i].op == MSG_CREATE)
					unit_assert_slice(call->req.name, "new");
				call->done(call, &m); /* that was all we could do */
				assert_int_equal(a->completions, 1);
			}
			assert_int_equal(a->reply.err, cases[i].err);
			free(a);
			world_free(w);
		}
	}
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_kept_when_asked_again),
		TEST(test_blocks),
		TEST(test_end_of_file),
		TEST(test_pages_end),
		TEST(test_late_reads),
		TEST(test_create_truncates),
		TEST(test_direct_reads),
		TEST(test_pages_from_the_cache_are_told),
		TEST(test_page_budget),
		TEST(test_opened_again),
		TEST(test_not_opened_without_attributes),
		TEST(test_idle_files_are_closed),
		TEST(test_content_with_open),
		TEST(test_content_with_open_is_void),
		TEST(test_content_not_asked_for),
		TEST(test_idle_files_are_bounded),
		TEST(test_idle_files_resist_a_walk),
		TEST(test_out_of_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
