/* Names under promises: what is known of them, what own changes leave, what the kernel is told. */
#include "cache_lease.h"

#define FILE_MODE (S_IFREG | 0644u)
#define DIR_MODE  (S_IFDIR | 0755u)

/* ---- what is known ---- */

static void test_names_are_kept_to_their_cap(void **state)
{
	struct world *w = world_new();
	struct cache_options options = lease_options();

	(void)state;
	options.cap.attr = 1000 * SECOND;
	options.stats = w->stats;
	cache_set_options(w->c, &options);
	uint64_t ino = look_up_file(w, "f", 50);
	look_up_absent(w, CACHE_ROOT, "no", w->seq);
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "no");
	assert_in_range(a->reply.entry_ttl, NEG_CAP - TICK_NS, NEG_CAP);
	free(a);
	fake_now += NEG_CAP - TICK_NS;
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), ABSENT);
	fake_now += TICK_NS;
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), UNKNOWN);
	a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	assert_int_equal(a->reply.ino, ino);
	assert_in_range(a->reply.entry_ttl, ENTRY_CAP - NEG_CAP - TICK_NS, ENTRY_CAP - NEG_CAP);
	free(a);
	fake_now += ENTRY_CAP - NEG_CAP;
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	world_free(w);
}

/* A name is the directory's: the same one elsewhere is another. */
static void test_names_belong_to_directories(void **state)
{
	struct world *w = world_new();
	uint64_t d = look_up_dir(w, "d", 40), e = look_up_dir(w, "e", 41);
	uint64_t in_d = look_up(w, d, "x", 50, FILE_MODE, w->seq);

	(void)state;
	look_up_absent(w, e, "x", w->seq);
	assert_int_equal(known_name(w, d, "x"), in_d);
	assert_int_equal(known_name(w, e, "x"), ABSENT);
	assert_int_equal(known_name(w, CACHE_ROOT, "x"), UNKNOWN);
	assert_int_equal(known_name(w, d, "xx"), UNKNOWN);
	assert_int_equal(known_name(w, d, ""), UNKNOWN);
	char path[32];
	assert_true(cache_path(w->c, d, path, sizeof(path)));
	assert_string_equal(path, "d");
	assert_int_equal(cache_find_path(w->c, "d/x"), in_d);
	assert_int_equal(cache_find_path(w->c, "e/x"), 0);
	world_free(w);
}

/* A name answers only with attributes: those of a node that lost its promise are asked for. */
static void test_name_of_an_unknown_node(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	(void)inv(w, 50, INV_ATTR);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	done_with(w, ask(w->c, MSG_GETATTR, ino), reply_attr(w, NO_STAMP, FILE_MODE, 50));
	assert_int_equal(known_size(w, ino), 50);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN); /* no promise */
	world_free(w);
}

/* ---- what the kernel is told of names ---- */

static void test_held_names_are_told(void **state)
{
	struct world *w = world_new();
	uint64_t f = look_up_file(w, "f", 50), g = look_up_file(w, "g", 51);

	(void)state;
	look_up_absent(w, CACHE_ROOT, "no", w->seq);
	(void)inv_name(w, FAKE_ROOT, "f");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"), 1);
	assert_int_equal(w->n_told, 1);
	(void)inv_name(w, FAKE_ROOT, "no");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "no"), 1);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "g"), g); /* was not meant */
	/* once: it does not hold them any more, nor what it forgot, nor what it never had */
	told_clear(w);
	cache_forget(w->c, g, 1);
	(void)inv_name(w, FAKE_ROOT, "f");
	(void)inv_name(w, FAKE_ROOT, "no");
	(void)inv_name(w, FAKE_ROOT, "g");
	(void)inv_name(w, FAKE_ROOT, "never");
	assert_int_equal(w->n_told, 0);
	assert_int_equal(known_size(w, f), 50); /* its name is not the file */
	world_free(w);
}

/* A name answered from the cache is held by the kernel from then on. */
static void test_answered_names_are_told(void **state)
{
	struct world *w = world_new();
	uint64_t dir = look_up_dir(w, "d", 40), f = look_up_file(w, "f", 50);
	struct msg m = reply_node(w, w->seq, 60, DIR_MODE, 1);

	(void)state;
	cache_forget(w->c, f, 1);
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	assert_int_equal(a->reply.ino, f);
	assert_true(a->local);
	free(a);
	(void)inv_name(w, FAKE_ROOT, "f");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"), 1);
	/* and so is one that is absent because the directory is complete */
	MSG_SET(&m, flags, MKNOD_EMPTY);
	a = ask_name(w, MSG_MKNOD, dir, "new");
	answer(w->f, a, &m);
	uint64_t new = a->reply.ino;
	free(a);
	(void)inv_name(w, 60, "x");
	assert_int_equal(told(w, TOLD_ENTRY, new, "x"), 0);
	m = reply_node(w, w->seq, 61, DIR_MODE, 1);
	MSG_SET(&m, flags, MKNOD_EMPTY);
	a = ask_name(w, MSG_MKNOD, dir, "new2");
	answer(w->f, a, &m);
	new = a->reply.ino;
	free(a);
	assert_int_equal(known_name(w, new, "x"), ABSENT);
	(void)inv_name(w, 61, "x");
	assert_int_equal(told(w, TOLD_ENTRY, new, "x"), 1);
	world_free(w);
}

/* What went to the kernel for no time is not held. */
static void test_names_for_no_time_are_not_told(void **state)
{
	struct world *w = world_new();
	uint64_t old = w->seq;

	(void)state;
	(void)inv_name(w, FAKE_ROOT, "no");
	look_up_absent(w, CACHE_ROOT, "no", old);
	(void)inv_name(w, FAKE_ROOT, "no");
	assert_int_equal(w->n_told, 0);
	world_free(w);
}

static void test_all_names(void **state)
{
	struct world *w = world_new();
	uint64_t dir = look_up_dir(w, "d", 40), f = look_up_file(w, "f", 50),
		 g = look_up_file(w, "g", 51);

	(void)state;
	look_up_absent(w, CACHE_ROOT, "no", w->seq);
	look_up_absent(w, dir, "other", w->seq);
	cache_forget(w->c, g, 1);
	(void)inv(w, FAKE_ROOT, INV_NAMES);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "d"), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "no"), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, ""), 1);
	assert_int_equal(w->n_told, 4);
	assert_int_equal(w->told[3].len, 0); /* the listing last */
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), UNKNOWN);
	assert_int_equal(known_name(w, dir, "other"), ABSENT);
	assert_int_equal(known_size(w, f), 50);
	world_free(w);
}

/* Where the server pushes but does not watch, names are kept for a time, and not noted. */
static void test_names_without_a_lease_are_told(void **state)
{
	struct world *w = world_watched(lease_options(), false);

	(void)state;
	look_up_absent(w, CACHE_ROOT, "no", NO_STAMP);
	assert_int_equal(known_name(w, CACHE_ROOT, "no"), UNKNOWN);
	(void)inv_name(w, FAKE_ROOT, "no");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "no"), 1);
	world_free(w);
}

/* ---- own changes ---- */

static void test_unsure_during_a_change(void **state)
{
	static const enum msg_op ops[] = {MSG_UNLINK, MSG_RMDIR, MSG_CREATE, MSG_SYMLINK,
					  MSG_MKNOD};

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++) {
		struct world *w = world_new();
		uint64_t ino = look_up_file(w, "f", 50), other = look_up_file(w, "g", 51);

		look_up_absent(w, CACHE_ROOT, "no", w->seq);
		const char *name = i < 2 ? "f" : "no";
		struct asked *a = ask_name(w, ops[i], CACHE_ROOT, name);
		assert_int_equal(known_name(w, CACHE_ROOT, name), UNKNOWN);
		assert_int_equal(known_name(w, CACHE_ROOT, "g"), other);
		/* failed: nobody knows, and the kernel still holds what it held */
		done_with(w, a, reply_err(NO_STAMP, EIO));
		assert_int_equal(known_name(w, CACHE_ROOT, name), UNKNOWN);
		assert_int_equal(known_name(w, CACHE_ROOT, "g"), other);
		assert_int_equal(w->n_told, 0);
		(void)inv_name(w, FAKE_ROOT, name);
		assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, name), 1);
		assert_int_equal(known_size(w, ino), 50);
		world_free(w);
	}
}

static void test_unlink(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up_file(w, "f", 50);
	struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 50);

	(void)state;
	m.attr.nlink = 0;
	done_with(w, ask_name(w, MSG_UNLINK, CACHE_ROOT, "f"), m);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	assert_int_equal(known_size(w, ino), 50);
	/* the kernel knows: of the name nothing is left to be told */
	(void)inv_name(w, FAKE_ROOT, "f");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"), 0);
	/* its directory's attributes are made newer than what it may still be digesting */
	assert_int_equal(w->n_told, 1);
	assert_int_equal(told(w, TOLD_ATTR, CACHE_ROOT, ""), 1);
	cache_forget(w->c, ino, 1); /* without a name it is of no more use */
	cache_forget_flush(w->c);
	assert_int_equal(fake_forgotten(w->f, 50), 1);
	world_free(w);
}

static void test_create(void **state)
{
	struct world *w = world_new();

	(void)state;
	look_up_absent(w, CACHE_ROOT, "f", w->seq);
	struct asked *a = ask_name(w, MSG_CREATE, CACHE_ROOT, "f");
	struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 0);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.entry_ttl, ENTRY_CAP);
	assert_int_equal(a->reply.attr_ttl, ATTR_CAP);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), a->reply.ino);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"),
			 0); /* it put the name there itself */
	free(a);
	(void)inv_name(w, FAKE_ROOT, "f");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"), 1);
	world_free(w);
}

/* A CREATE that an INV overtook: for no time; and what the kernel held is told all the same. */
static void test_create_that_raced(void **state)
{
	struct world *w = world_new();
	uint64_t old = w->seq;

	(void)state;
	look_up_absent(w, CACHE_ROOT, "f", w->seq);
	struct asked *a = ask_name(w, MSG_CREATE, CACHE_ROOT, "f");
	(void)inv_name(w, FAKE_ROOT, "f");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"), 1);
	struct msg m = reply_node(w, old, 50, FILE_MODE, 0);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.entry_ttl, 0);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	free(a);
	world_free(w);
}

/* Two changes of one directory at once: neither reply tells names for longer than now. */
static void test_creates_at_once(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask_name(w, MSG_CREATE, CACHE_ROOT, "a"),
		     *b = ask_name(w, MSG_CREATE, CACHE_ROOT, "b");
	struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 0);

	(void)state;
	answer(w->f, a, &m);
	assert_int_equal(a->reply.entry_ttl, 0);
	m = reply_node(w, w->seq, 51, FILE_MODE, 0);
	answer(w->f, b, &m);
	assert_int_equal(b->reply.entry_ttl, 0); /* by the first one's second bump */
	assert_int_equal(known_name(w, CACHE_ROOT, "a"), UNKNOWN);
	assert_int_equal(known_name(w, CACHE_ROOT, "b"), UNKNOWN);
	free(a);
	free(b);
	world_free(w);
}

/* A LOOKUP that a change of ours overtakes says nothing, not even of another name. */
static void test_look_up_and_own_change(void **state)
{
	struct world *w = world_new();
	struct asked *before = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f"),
		     *create = ask_name(w, MSG_CREATE, CACHE_ROOT, "f"),
		     *during = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "f");
	struct msg none = reply_err(w->seq, ENOENT), m = reply_node(w, w->seq, 50, FILE_MODE, 0);

	(void)state;
	answer(w->f, before, &none);
	assert_int_equal(before->reply.entry_ttl, 0);
	answer(w->f, create, &m);
	assert_int_equal(create->reply.entry_ttl, ENTRY_CAP);
	answer(w->f, during, &none);
	assert_int_equal(during->reply.entry_ttl, 0);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), create->reply.ino);
	free(before);
	free(create);
	free(during);
	world_free(w);
}

/* While a request holds the directory in the kernel, an INV is told without a record. */
static void test_told_while_busy(void **state)
{
	static const enum msg_op ops[] = {MSG_LOOKUP, MSG_CREATE, MSG_UNLINK, MSG_READDIRPLUS};

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++) {
		struct world *w = world_new();
		uint64_t dir = look_up_dir(w, "d", 40);
		struct asked *a = ask_name(w, ops[i], dir, "a");

		(void)inv_name(w, 40, "x");
		assert_int_equal(told(w, TOLD_ENTRY, dir, "x"), 1);
		assert_true(cache_dir_park(w->c, dir, false));
		assert_int_equal(told(w, TOLD_UNPARK, dir, NULL), 0);
		done_with(w, a, reply_err(NO_STAMP, EIO));
		assert_int_equal(told(w, TOLD_UNPARK, dir, NULL), 1);
		assert_false(cache_dir_park(w->c, dir, false));
		told_clear(w);
		(void)inv(w, 40, INV_ATTR); /* takes the mark of the listing's pages away */
		(void)inv_name(w, 40, "y");
		(void)inv_name(w, 40, "z");
		assert_int_equal(told(w, TOLD_ENTRY, dir, "z"), 0);
		world_free(w);
	}
}

static struct msg renamed(struct world *w, uint64_t stamp, uint64_t node)
{
	return reply_node(w, stamp, node, FILE_MODE, node);
}

static void test_rename(void **state)
{
	struct world *w = world_new();
	uint64_t dir = look_up_dir(w, "d", 40), f = look_up_file(w, "f", 50);
	uint64_t victim = look_up(w, dir, "g", 51, FILE_MODE, w->seq);
	struct asked *a = ask_rename(w, CACHE_ROOT, "f", dir, "g", 0);
	struct msg m = renamed(w, w->seq, 50);

	(void)state;
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	assert_int_equal(known_name(w, dir, "g"), UNKNOWN);
	MSG_SET(&m, node2, 51);
	done_with(w, a, m);
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), UNKNOWN);
	assert_int_equal(known_name(w, dir, "g"), f);
	assert_int_equal(known_size(w, victim), UNKNOWN);   /* lost a link */
	assert_int_equal(told(w, TOLD_ENTRY, dir, "g"), 0); /* the kernel moved its dentry */
	(void)inv_name(w, FAKE_ROOT, "f");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"), 0);
	/* both directories and the moved file */
	assert_int_equal(told(w, TOLD_ATTR, CACHE_ROOT, ""), 1);
	assert_int_equal(told(w, TOLD_ATTR, dir, ""), 1);
	assert_int_equal(told(w, TOLD_ATTR, f, ""), 1);
	(void)inv_name(w, 40, "g");
	assert_int_equal(told(w, TOLD_ENTRY, dir, "g"), 1);
	world_free(w);
}

/* Attributes that were on their way when a change of ours was made are outdated in the kernel. */
static void test_attributes_after_own_changes(void **state)
{
	struct world *w = world_new();
	uint64_t dir = look_up_dir(w, "d", 40), f = look_up_file(w, "f", 50);

	(void)state;
	done_with(w, ask_name(w, MSG_CREATE, dir, "a"), reply_node(w, w->seq, 60, FILE_MODE, 1));
	assert_int_equal(told(w, TOLD_ATTR, dir, NULL), 1);
	assert_int_equal(told(w, TOLD_ATTR, CACHE_ROOT, NULL), 0);
	told_clear(w);
	done_with(w, ask_rename(w, CACHE_ROOT, "f", dir, "g", 0), renamed(w, w->seq, 50));
	assert_int_equal(told(w, TOLD_ATTR, CACHE_ROOT, NULL), 1);
	assert_int_equal(told(w, TOLD_ATTR, dir, NULL), 1);
	assert_int_equal(told(w, TOLD_ATTR, f, NULL), 1);
	assert_int_equal(w->n_told, 3);
	told_clear(w);
	done_with(w, ask_name(w, MSG_UNLINK, dir, "a"), reply_err(NO_STAMP, ENOENT));
	done_with(w, ask(w->c, MSG_SETATTR, f), reply_attr(w, w->seq, FILE_MODE, 50));
	assert_int_equal(told(w, TOLD_ATTR, f, NULL), 0); /* that one the kernel orders itself */
	world_free(w);
}

static void test_exchange(void **state)
{
	struct world *w = world_new();
	uint64_t f = look_up_file(w, "f", 50), g = look_up_file(w, "g", 51);
	struct asked *a = ask_rename(w, CACHE_ROOT, "f", CACHE_ROOT, "g", 2);
	struct msg m = renamed(w, w->seq, 50);

	(void)state;
	MSG_SET(&m, node2, 51);
	done_with(w, a, m);
	assert_int_equal(told(w, TOLD_ATTR, f, NULL), 1);
	assert_int_equal(told(w, TOLD_ATTR, g, NULL), 1);
	/* the second one's attributes did not come */
	done_with(w, ask(w->c, MSG_GETATTR, g), reply_attr(w, w->seq, FILE_MODE, 51));
	assert_int_equal(known_name(w, CACHE_ROOT, "f"), g);
	assert_int_equal(known_name(w, CACHE_ROOT, "g"), f);
	(void)inv_name(w, FAKE_ROOT, "f");
	(void)inv_name(w, FAKE_ROOT, "g");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "f"), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "g"), 1);
	world_free(w);
}

/*
 * The kernel moves its dentry with the time that it had; where the new name is
 * not promised, it is told to give that up.
 */
static void test_rename_to_where_nothing_is_promised(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		struct world *w = world_new();
		uint64_t dir = look_up_dir(w, "d", 40), old = w->seq;

		(void)look_up_file(w, "f", 50);
		(void)look_up_file(w, "e", 51);
		/* the host has put something else there, and the kernel has not heard it yet */
		if (i == 3)
			(void)inv_name(w, FAKE_ROOT, "f");
		old = i == 3 ? w->seq : old;
		struct asked *a = ask_rename(w, CACHE_ROOT, "f", dir, "g", 0);
		if (i == 0)
			(void)inv_name(w, 40, "g");
		told_clear(w);
		/* overtaken; without a promise; of a node that the reply does not name; of
		   another one than the kernel has, as far as is known, and as the reply says */
		struct msg m = renamed(w, i == 1 ? NO_STAMP : old, i == 4 ? 51 : 50);
		if (i == 2)
			m.present &= ~MSG_BIT(node);
		done_with(w, a, m);
		assert_int_equal(told(w, TOLD_ENTRY, dir, "g"), 1);
		assert_int_equal(known_name(w, dir, "g"), UNKNOWN);
		world_free(w);
	}
}

/* ---- directories of which all names are known ---- */

/* A new directory is empty; its FUSE id. */
static uint64_t make_dir(struct world *w, const char *name, uint64_t node, uint64_t stamp,
			 uint64_t flags)
{
	struct asked *a = ask_name(w, MSG_MKNOD, CACHE_ROOT, name);
	struct msg m = reply_node(w, stamp, node, DIR_MODE, 1);

	if (flags != 0)
		MSG_SET(&m, flags, flags);
	answer(w->f, a, &m);
	uint64_t ino = a->reply.ino;
	free(a);
	return ino;
}

static void test_new_directory_is_empty(void **state)
{
	struct world *w = world_new();
	uint64_t empty = make_dir(w, "a", 40, w->seq, MKNOD_EMPTY),
		 plain = make_dir(w, "b", 41, w->seq, 0), old = w->seq;

	(void)state;
	assert_int_equal(known_name(w, empty, "x"), ABSENT);
	assert_int_equal(known_name(w, plain, "x"), UNKNOWN);
	(void)inv_name(w, 42, "x"); /* somebody was quicker */
	assert_int_equal(known_name(w, make_dir(w, "c", 42, old, MKNOD_EMPTY), "x"), UNKNOWN);
	assert_int_equal(known_name(w, make_dir(w, "d", 43, NO_STAMP, MKNOD_EMPTY), "x"), UNKNOWN);
	fake_now += DIR_CAP;
	assert_int_equal(known_name(w, empty, "y"), UNKNOWN);
	world_free(w);
}

/* It stays so through our own changes, and no longer than nobody else makes any. */
static void test_complete_through_own_changes(void **state)
{
	struct world *w = world_new();
	uint64_t dir = make_dir(w, "d", 40, w->seq, MKNOD_EMPTY);

	(void)state;
	struct asked *a = ask_name(w, MSG_CREATE, dir, "a");
	assert_int_equal(known_name(w, dir, "a"), UNKNOWN);
	assert_int_equal(known_name(w, dir, "b"), ABSENT);
	struct msg m = reply_node(w, w->seq, 50, FILE_MODE, 50);
	answer(w->f, a, &m);
	uint64_t ino = a->reply.ino;
	free(a);
	assert_int_equal(known_name(w, dir, "a"), ino);
	assert_int_equal(known_name(w, dir, "c"), ABSENT);

	done_with(w, ask_rename(w, dir, "a", dir, "b", 0), renamed(w, w->seq, 50));
	assert_int_equal(known_name(w, dir, "a"), ABSENT);
	assert_int_equal(known_name(w, dir, "b"), ino);

	/* with a whiteout there is something under the old name, and nobody has told what */
	done_with(w, ask_rename(w, dir, "b", dir, "g", RENAME_WHITEOUT), renamed(w, w->seq, 50));
	assert_int_equal(known_name(w, dir, "b"), UNKNOWN);
	assert_int_equal(known_name(w, dir, "g"), ino);
	assert_int_equal(known_name(w, dir, "h"), ABSENT);
	done_with(w, ask_rename(w, dir, "g", dir, "b", 0), renamed(w, w->seq, 50));

	a = ask_name(w, MSG_UNLINK, dir, "b");
	assert_int_equal(known_name(w, dir, "b"), UNKNOWN);
	done_with(w, a, renamed(w, w->seq, 50));
	assert_int_equal(known_name(w, dir, "b"), ABSENT);

	done_with(w, ask_name(w, MSG_UNLINK, dir, "b"), reply_err(NO_STAMP, EIO));
	assert_int_equal(known_name(w, dir, "b"), UNKNOWN); /* nobody knows */
	assert_int_equal(known_name(w, dir, "e"), ABSENT);
	(void)inv_name(w, 40, "other");
	assert_int_equal(known_name(w, dir, "f"), UNKNOWN);
	world_free(w);
}

/* ---- budgets ---- */

static void test_absent_names_are_bounded(void **state)
{
	enum { BUDGET = 20, NAMES = 500 };
	struct cache_options options = lease_options();
	bool held[NAMES];

	(void)state;
	options.node_budget = BUDGET;
	struct world *w = world_with(options);
	uint64_t dir = look_up_dir(w, "d", 40);
	for (int i = 0; i < NAMES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "no%d", i);
		struct asked *a = ask_name(w, MSG_LOOKUP, dir, name);
		struct msg m = reply_err(w->seq, ENOENT);
		answer(w->f, a, &m);
		held[i] = a->reply.entry_ttl > 0;
		free(a);
	}
	unsigned known = 0;
	for (int i = 0; i < NAMES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "no%d", i);
		bool absent = known_name(w, dir, name) == ABSENT;
		known += absent;
		/* the kernel does not hold what is not noted any more */
		assert_int_equal(told(w, TOLD_ENTRY, dir, name), held[i] && !absent);
	}
	assert_in_range(known, 1, BUDGET);
	assert_true(w->n_told > NAMES / 2);
	assert_int_equal(stats_get(w->stats, STAT_cache_names), known + 1); /* "d" */
	world_free(w);
}

/* Such names come without the server as well: a complete directory has all of them. */
static void test_absent_names_of_a_complete_directory(void **state)
{
	enum { BUDGET = 20, NAMES = 500 };
	struct cache_options options = lease_options();

	(void)state;
	options.node_budget = BUDGET;
	struct world *w = world_with(options);
	uint64_t dir = make_dir(w, "d", 40, w->seq, MKNOD_EMPTY);
	size_t told_before = 0;
	for (int i = 0; i < NAMES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "no%d", i);
		uint64_t got = known_name(w, dir, name);
		assert_true(got == ABSENT || got == UNKNOWN);
		told_before += got == ABSENT;
	}
	size_t evicted = w->n_told;
	assert_true(told_before > NAMES / 2);
	assert_in_range(told_before - evicted, 1, BUDGET);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_kept_to_their_cap),
		cmocka_unit_test(test_names_belong_to_directories),
		cmocka_unit_test(test_name_of_an_unknown_node),
		cmocka_unit_test(test_held_names_are_told),
		cmocka_unit_test(test_answered_names_are_told),
		cmocka_unit_test(test_names_for_no_time_are_not_told),
		cmocka_unit_test(test_all_names),
		cmocka_unit_test(test_names_without_a_lease_are_told),
		cmocka_unit_test(test_unsure_during_a_change),
		cmocka_unit_test(test_unlink),
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_create_that_raced),
		cmocka_unit_test(test_creates_at_once),
		cmocka_unit_test(test_look_up_and_own_change),
		cmocka_unit_test(test_told_while_busy),
		cmocka_unit_test(test_rename),
		cmocka_unit_test(test_attributes_after_own_changes),
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_rename_to_where_nothing_is_promised),
		cmocka_unit_test(test_new_directory_is_empty),
		cmocka_unit_test(test_complete_through_own_changes),
		cmocka_unit_test(test_absent_names_are_bounded),
		cmocka_unit_test(test_absent_names_of_a_complete_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
