/* Open files by node, where the kernel opens without asking. */
#include "cache_lease.h"

#define FILE_MODE (S_IFREG | 0644u)
#define BOUND	  1024 /* open files that are kept */

static struct world *no_open_world(void)
{
	struct cache_options options = lease_options();

	options.no_open = true;
	options.page_budget = 0;
	return world_with(options);
}

/* A request that goes by an open file of ino. */
static struct asked *ask_by_node(struct world *w, enum msg_op op, uint64_t ino, uint64_t ino2)
{
	struct asked *a = asked_new(op);

	a->req.by_node = true;
	MSG_SET(&a->req.call.req, off, 0);
	MSG_SET(&a->req.call.req, size, 100);
	MSG_SET(&a->req.call.req, valid, SET_SIZE);
	cache_submit(w->c, &a->req, ino, ino2);
	return a;
}

/* The n-th call that waits is an OPEN of this node for this. */
static struct call *opens(struct world *w, size_t i, uint64_t node, uint64_t access)
{
	assert_true(i < w->f->n_waiting);
	struct call *call = w->f->waiting[i];
	assert_int_equal(call->req.op, MSG_OPEN);
	assert_int_equal(call->req.node, node);
	assert_int_equal(call->req.flags, access | OPEN_GIVE_UP);
	return call;
}

/* Answers the OPEN that alone waits. */
static void open_done(struct world *w, uint64_t node, uint64_t access, uint64_t fh, uint64_t flags)
{
	struct msg m = reply_attr(w, w->seq, FILE_MODE, node);
	struct call *call = opens(w, 0, node, access);

	MSG_SET(&m, fh, fh);
	if (flags != 0)
		MSG_SET(&m, flags, flags);
	assert_true(fake_take(w->f, 0) == call);
	call->done(call, &m);
}

static void open_fails(struct world *w, uint64_t err)
{
	struct msg m = reply_err(NO_STAMP, err);
	struct call *call = fake_take(w->f, 0);

	assert_int_equal(call->req.op, MSG_OPEN);
	call->done(call, &m);
}

/* The i-th call that waits is a's, and goes by this file. */
static void assert_sent(struct world *w, size_t i, const struct asked *a, uint64_t fh)
{
	assert_true(i < w->f->n_waiting);
	assert_true(w->f->waiting[i] == &a->req.call);
	assert_true(MSG_HAS(&a->req.call.req, fh));
	assert_int_equal(a->req.call.req.fh, fh);
}

static void finish_as(struct world *w, struct asked *a, uint32_t mode)
{
	struct msg m = reply_attr(w, w->seq, mode, 50);

	MSG_SET(&m, off, 0);
	MSG_SET(&m, size, 100);
	MSG_SET(&m, payload, SLICE("x"));
	done_with(w, a, m);
}

static void finish(struct world *w, struct asked *a)
{
	finish_as(w, a, FILE_MODE);
}

/* Opens for reading, as the first of them does. */
static void read_once(struct world *w, uint64_t ino, uint64_t node, uint64_t fh)
{
	struct asked *a = ask_by_node(w, MSG_READ, ino, 0);

	if (fh != 0)
		open_done(w, node, O_RDONLY, fh, 0);
	finish(w, a);
}

static void test_one_open_for_many(void **state)
{
	struct world *w = no_open_world();
	uint64_t ino = look_up_file(w, "f", 50);
	struct asked *reads[3];

	(void)state;
	for (size_t i = 0; i < COUNT(reads); i++)
		reads[i] = ask_by_node(w, MSG_READ, ino, 0);
	assert_int_equal(w->f->n_waiting, 1);
	open_done(w, 50, O_RDONLY, 7, 0);
	assert_int_equal(w->f->n_waiting, COUNT(reads));
	for (size_t i = 0; i < COUNT(reads); i++)
		assert_sent(w, i, reads[i], 7);
	for (size_t i = 0; i < COUNT(reads); i++)
		finish(w, reads[i]);
	struct asked *a = ask_by_node(w, MSG_LSEEK, ino, 0);
	assert_sent(w, 0, a, 7);
	finish(w, a);
	assert_int_equal(w->f->n_closed, 0);
	world_free(w);
}

/* What was opened for reading is never written through, nor the other way round. */
static void test_reading_and_writing(void **state)
{
	struct world *w = no_open_world();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	read_once(w, ino, 50, 7);
	struct asked *a = ask_by_node(w, MSG_WRITE, ino, 0);
	struct asked *b = ask_by_node(w, MSG_READ, ino, 0);
	assert_sent(w, 1, b, 7);
	finish(w, b);
	open_done(w, 50, O_WRONLY, 8, 0);
	assert_sent(w, 0, a, 8);
	assert_int_equal(a->req.call.req.flags & O_DSYNC, 0);
	finish(w, a);
	a = ask_by_node(w, MSG_FALLOCATE, ino, 0);
	assert_sent(w, 0, a, 8);
	finish(w, a);
	/* copying wants one of each, of two nodes or of one */
	uint64_t other = look_up_file(w, "g", 51);
	a = ask_by_node(w, MSG_COPY, other, ino);
	assert_true(MSG_HAS(&a->req.call.req, fh));
	open_done(w, 51, O_WRONLY, 9, 0);
	assert_sent(w, 0, a, 7);
	assert_int_equal(a->req.call.req.fh2, 9);
	finish(w, a);
	a = ask_by_node(w, MSG_COPY, other, other);
	open_done(w, 51, O_RDONLY, 10, 0);
	assert_sent(w, 0, a, 10);
	assert_int_equal(a->req.call.req.fh2, 9);
	finish(w, a);
	world_free(w);
}

/* SETATTR and FSYNC take a file that was written through, and go without one. */
static void test_only_if_there_is_one(void **state)
{
	static const enum msg_op ops[] = {MSG_SETATTR, MSG_FSYNC};
	struct world *w = no_open_world();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	read_once(w, ino, 50, 7);
	for (int with = 0; with < 2; with++) {
		for (size_t i = 0; i < COUNT(ops); i++) {
			struct asked *a = ask_by_node(w, ops[i], ino, 0);

			if (with != 0)
				assert_sent(w, 0, a, 8);
			else
				assert_false(MSG_HAS(&a->req.call.req, fh));
			finish(w, a);
		}
		cache_keep_open(w->c, ino, opened(w->c, 8), O_RDWR | O_CREAT, 0);
	}
	/* that serves everything, and one of them is enough */
	assert_int_equal(w->f->n_closed, 1);
	assert_int_equal(w->f->closed[0], 8);
	world_free(w);
}

static void test_created(void **state)
{
	struct world *w = no_open_world();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	cache_keep_open(w->c, ino, opened(w->c, 8), O_RDWR | O_CREAT, 0);
	for (int i = 0; i < 2; i++) {
		struct asked *a = ask_by_node(w, i == 0 ? MSG_READ : MSG_WRITE, ino, 0);

		assert_sent(w, 0, a, 8);
		finish(w, a);
	}
	forget_all(w, ino);
	assert_int_equal(w->f->n_closed, 1);
	world_free(w);
}

/* Where close(2) could tell of an error, each write has to. */
static void test_errors_at_close(void **state)
{
	struct world *w = no_open_world();
	uint64_t ino = look_up_file(w, "f", 50);
	struct asked *a = ask_by_node(w, MSG_WRITE, ino, 0);

	(void)state;
	open_done(w, 50, O_WRONLY, 8, OPEN_FLUSH);
	assert_sent(w, 0, a, 8);
	assert_int_equal(a->req.call.req.flags & O_DSYNC, O_DSYNC);
	finish(w, a);
	world_free(w);
}

static void test_open_refused(void **state)
{
	struct world *w = no_open_world();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	for (int again = 0; again < 2; again++) {
		struct asked *reads[] = {ask_by_node(w, MSG_READ, ino, 0),
					 ask_by_node(w, MSG_READ, ino, 0)};
		struct asked *write = ask_by_node(w, MSG_WRITE, ino, 0);

		open_fails(w, EACCES);
		for (size_t i = 0; i < COUNT(reads); i++) {
			assert_int_equal(reads[i]->completions, 1);
			assert_int_equal(reads[i]->reply.err, EACCES);
			free(reads[i]);
		}
		assert_int_equal(write->completions, 0);
		open_fails(w, EROFS);
		assert_int_equal(write->reply.err, EROFS);
		free(write);
	}
	assert_int_equal(w->f->n_waiting, 0);
	world_free(w);
}

/* What nobody goes by is given up, once. */
static void test_out_of_descriptors(void **state)
{
	struct world *w = no_open_world();
	uint64_t used = look_up_file(w, "f", 50), other = look_up_file(w, "g", 51),
		 wanted = look_up_file(w, "h", 52);

	(void)state;
	read_once(w, used, 50, 7);
	read_once(w, other, 51, 8);
	struct asked *user = ask_by_node(w, MSG_READ, used, 0);
	struct asked *a = ask_by_node(w, MSG_READ, wanted, 0);
	struct call *open = opens(w, 1, 52, O_RDONLY);
	for (int again = 0; again < 2; again++) {
		struct msg m = reply_err(NO_STAMP, ENFILE);

		assert_true(fake_take(w->f, 1) == open);
		assert_int_equal(a->completions, 0);
		open->done(open, &m);
		assert_int_equal(w->f->n_closed, 1);
		assert_int_equal(w->f->closed[0], 8);
	}
	assert_int_equal(a->reply.err, ENFILE);
	free(a);
	finish(w, user);
	world_free(w);
}

/* A file that lost its name may be open: what serves it stays until the kernel forgets it. */
static void test_kept_without_a_name(void **state)
{
	enum { UNLINKED, REPLACED, NAME, NAMES, HOWS };

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		struct world *w = no_open_world();
		uint64_t ino = look_up_file(w, "f", 50);
		struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 50);

		(void)look_up_file(w, "g", 51);
		read_once(w, ino, 50, 7);
		if (how == UNLINKED) {
			m.attr.nlink = 0;
			done_with(w, ask_name(w, MSG_UNLINK, CACHE_ROOT, "f"), m);
		} else if (how == REPLACED) {
			m = reply_node(w, w->seq, 51, FILE_MODE, 51);
			MSG_SET(&m, node2, 50);
			done_with(w, ask_rename(w, CACHE_ROOT, "g", CACHE_ROOT, "f", 0), m);
		} else if (how == NAME) {
			(void)inv_name(w, FAKE_ROOT, "f");
		} else {
			(void)inv(w, FAKE_ROOT, INV_NAMES);
		}
		if (w->f->n_closed != 0)
			fail_msg("case %d", how);
		read_once(w, ino, 50, 0);
		forget_all(w, ino);
		assert_int_equal(w->f->n_closed, 1);
		world_free(w);
	}
}

/* The oldest go, but for those in use. */
static void test_bound(void **state)
{
	enum { FILES = BOUND + 100 };
	struct world *w = no_open_world();
	uint64_t first = 0, second = 0;
	struct asked *user = NULL;

	(void)state;
	for (uint64_t i = 0; i < FILES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%u", (unsigned)i);
		uint64_t ino = look_up_file(w, name, 2000 + i);
		read_once(w, ino, 2000 + i, 10 + i);
		if (i == 0) {
			first = ino;
			user = ask_by_node(w, MSG_READ, first, 0);
			/* answered at the end: the fake's calls are taken from the front */
			assert_true(fake_take(w->f, 0) == &user->req.call);
		} else if (i == 1) {
			second = ino;
		} else if (i == BOUND / 2) {
			read_once(w, second, 2001, 0); /* now it is not the oldest */
		}
	}
	cache_forget_flush(w->c);
	assert_int_equal(w->f->n_closed, FILES - BOUND);
	for (size_t i = 0; i < w->f->n_closed; i++)
		assert_int_equal(w->f->closed[i], 12 + i);
	read_once(w, second, 2001, 0);
	/* forgotten while it is in use: closed when it is not */
	forget_all(w, first);
	assert_int_equal(w->f->n_closed, FILES - BOUND);
	struct msg m = reply_attr(w, w->seq, FILE_MODE, 50);
	user->req.call.done(&user->req.call, &m);
	assert_int_equal(user->completions, 1);
	assert_int_equal(w->f->closed[w->f->n_closed - 1], 10);
	free(user);
	world_free(w);
}

/* The timer; nothing is told of the lease. */
static void tick(struct world *w)
{
	assert_true(cache_tick(w->c) <= fake_now + SECOND);
}

/* What is open for writing is closed when it has not been used for a second, if it can be again. */
static void test_writing_ends(void **state)
{
	static const struct {
		uint32_t mode;
		bool root, closed;
	} cases[] = {{0644, false, true}, {0444, false, false}, {0444, true, true}};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct world *w = no_open_world();
		uint64_t ino = look_up(w, CACHE_ROOT, "f", 50, S_IFREG | cases[i].mode, w->seq);

		w->f->base.info.server_root = cases[i].root;
		read_once(w, ino, 50, 7);
		cache_keep_open(w->c, ino, opened(w->c, 8), O_WRONLY, 0);
		struct asked *a = ask_by_node(w, MSG_WRITE, ino, 0);
		fake_now += 10 * SECOND;
		tick(w);
		assert_int_equal(w->f->n_closed, 0); /* it is in use */
		finish_as(w, a, S_IFREG | cases[i].mode);
		a = ask_by_node(w, MSG_FSYNC, ino, 0);
		finish_as(w, a, S_IFREG | cases[i].mode);
		fake_now += SECOND - 1;
		tick(w);
		assert_int_equal(w->f->n_closed, 0);
		fake_now += 1;
		tick(w);
		assert_int_equal(w->f->n_closed, cases[i].closed);
		if (cases[i].closed)
			assert_int_equal(w->f->closed[0], 8);
		world_free(w);
	}
}

/*
 * What may be executed on the host is not kept open for writing, unless it could not be again or
 * the server gives it up by itself.
 */
static void test_executables(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		bool writable = i % 2 != 0, gives_up = i / 2 != 0;
		const uint32_t mode = S_IFREG | (writable ? 0755 : 0555);
		const size_t closed = writable && !gives_up;
		struct world *w = no_open_world();
		uint64_t ino = look_up(w, CACHE_ROOT, "f", 50, mode, w->seq);

		w->f->base.info.gives_up = gives_up;
		cache_keep_open(w->c, ino, opened(w->c, 8), O_WRONLY, 0);
		struct asked *a = ask_by_node(w, MSG_WRITE, ino, 0);
		assert_sent(w, 0, a, 8);
		finish_as(w, a, mode);
		assert_int_equal(w->f->n_closed, closed);
		done_with(w, ask(w->c, MSG_SETATTR, ino), reply_attr(w, w->seq, mode, 50));
		assert_int_equal(w->f->n_closed, closed);
		if (closed == 0) { /* and goes on serving */
			a = ask_by_node(w, MSG_WRITE, ino, 0);
			assert_sent(w, 0, a, 8);
			finish_as(w, a, mode);
		}
		world_free(w);
	}
}

/* An append-only file can be opened only by who says that he appends: he is not made to wait for another. */
static void test_appends(void **state)
{
	struct world *w = no_open_world();
	uint64_t ino = look_up_file(w, "f", 50);
	struct asked *over = ask_by_node(w, MSG_WRITE, ino, 0), *behind = asked_new(MSG_WRITE);

	(void)state;
	behind->req.by_node = true;
	MSG_SET(&behind->req.call.req, off, 0);
	MSG_SET(&behind->req.call.req, flags, O_WRONLY | O_APPEND);
	cache_submit(w->c, &behind->req, ino, 0);
	(void)opens(w, 0, 50, O_WRONLY);
	(void)opens(w, 1, 50, O_WRONLY | O_APPEND);
	open_fails(w, EPERM);
	assert_int_equal(over->reply.err, EPERM);
	free(over);
	open_done(w, 50, O_WRONLY | O_APPEND, 8, 0);
	assert_sent(w, 0, behind, 8);
	finish(w, behind);
	world_free(w);
}

/* Forgotten before the OPEN is answered: a killed task's. Nothing is left over. */
static void test_forgotten_meanwhile(void **state)
{
	struct world *w = no_open_world();
	uint64_t ino = look_up_file(w, "f", 50);
	struct asked *a = ask_by_node(w, MSG_READ, ino, 0);

	(void)state;
	forget_all(w, ino);
	open_done(w, 50, O_RDONLY, 7, 0);
	assert_sent(w, 0, a, 7);
	finish(w, a);
	assert_int_equal(w->f->n_closed, 1);
	assert_int_equal(w->f->closed[0], 7);
	world_free(w);
}

/* Without a promise the kernel looks up whenever a file is opened, and its pages go then. */
static void test_without_a_promise(void **state)
{
	(void)state;
	for (int no_open = 0; no_open < 2; no_open++) {
		struct world *w = no_open != 0 ? no_open_world() : world_new();
		struct msg m = reply_node(w, NO_STAMP, 50, FILE_MODE, 50);
		struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");

		answer(w->f, a, &m);
		uint64_t ino = a->reply.ino;
		assert_int_equal(a->reply.entry_ttl, no_open != 0 ? 0 : ENTRY_TTL);
		assert_false(a->reply.hold);
		free(a);
		cache_keep_open(w->c, ino, opened(w->c, 8), O_RDWR, 0);
		finish(w, ask_by_node(w, MSG_READ, ino, 0));
		a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
		answer(w->f, a, &m);
		assert_int_equal(told(w, TOLD_DATA, ino, NULL), no_open);
		assert_int_equal(a->reply.hold, no_open);
		free(a);
		/* under one both stay */
		told_clear(w);
		cache_pages_dropped(w->c, ino);
		finish(w, ask_by_node(w, MSG_READ, ino, 0));
		a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
		m = reply_node(w, w->seq, 50, FILE_MODE, 50);
		answer(w->f, a, &m);
		assert_int_equal(a->reply.entry_ttl, ENTRY_CAP);
		assert_int_equal(told(w, TOLD_DATA, ino, NULL), 0);
		free(a);
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_one_open_for_many),
	    cmocka_unit_test(test_reading_and_writing),
	    cmocka_unit_test(test_only_if_there_is_one),
	    cmocka_unit_test(test_created),
	    cmocka_unit_test(test_errors_at_close),
	    cmocka_unit_test(test_open_refused),
	    cmocka_unit_test(test_out_of_descriptors),
	    cmocka_unit_test(test_kept_without_a_name),
	    cmocka_unit_test(test_bound),
	    cmocka_unit_test(test_writing_ends),
	    cmocka_unit_test(test_executables),
	    cmocka_unit_test(test_appends),
	    cmocka_unit_test(test_forgotten_meanwhile),
	    cmocka_unit_test(test_without_a_promise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
