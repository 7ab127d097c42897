/*
 * Nodes and generations: who is who, what goes back to the server, and which
 * reply may be kept.
 */
#include "cache_fake.h"

#include <sched.h>
#include <stdatomic.h>

#define ATTR_TTL     1000
#define ENTRY_TTL    2000
#define NEGATIVE_TTL 3000

struct world {
	struct fake *f;
	struct cache *c;
	struct stats *stats;
	uint64_t version;
};

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->f = fake_new();
	assert_int_equal(stats_new(NULL, &w->stats), 0);
	const struct cache_options options = {.ttl.attr = ATTR_TTL,
					      .ttl.entry = ENTRY_TTL,
					      .ttl.negative = NEGATIVE_TTL,
					      .stats = w->stats};
	assert_int_equal(cache_new(&w->f->base, &options, &w->c), 0);
	return w;
}

static void world_free(struct world *w)
{
	cache_free(w->c);
	fake_free(w->f);
	stats_free(w->stats);
	free(w);
}

/* Looks a name up that leads to this server node; its FUSE node id. */
static uint64_t look_up(struct world *w, uint64_t parent, uint64_t node)
{
	struct asked *a = ask(w->c, MSG_LOOKUP, parent);

	answer_node(w->f, a, node, attr_of(++w->version, 0));
	assert_int_equal(a->reply.err, 0);
	assert_true(a->reply.ino > CACHE_ROOT);
	uint64_t ino = a->reply.ino;
	free(a);
	return ino;
}

static uint64_t hits(const struct world *w)
{
	return stats_get(w->stats, STAT_cache_attr_hits);
}

/* Whether a GETATTR is answered without the host; if it is, the size it tells. */
static bool known(struct world *w, uint64_t ino, uint64_t *ret_size, uint64_t *ret_ttl)
{
	uint64_t before = hits(w);
	struct asked *a = ask(w->c, MSG_GETATTR, ino);
	bool hit = a->completions == 1;

	assert_int_equal(hits(w) - before, hit);
	if (hit) {
		assert_true(a->from_cache);
		assert_int_equal(a->reply.err, 0);
		assert_non_null(a->reply.attr);
		*ret_size = a->attr.size;
		*ret_ttl = a->reply.attr_ttl;
	} else {
		answer_err(w->f, a, EIO);
		assert_int_equal(a->reply.err, EIO);
	}
	free(a);
	return hit;
}

static void assert_known(struct world *w, uint64_t ino, uint64_t size)
{
	uint64_t got = 0, ttl = 0;

	assert_true(known(w, ino, &got, &ttl));
	assert_int_equal(got, size);
	assert_in_range(ttl, 1, ATTR_TTL);
}

static void assert_unknown(struct world *w, uint64_t ino)
{
	uint64_t size, ttl;

	assert_false(known(w, ino, &size, &ttl));
}

/* ---- identity ---- */

static void test_ids_become_the_servers(void **state)
{
	struct world *w = world_new();
	uint64_t a = look_up(w, CACHE_ROOT, 50), b = look_up(w, a, 60);

	(void)state;
	assert_int_not_equal(a, b);
	struct asked *q = asked_new(MSG_RENAME);
	MSG_SET(&q->req.call.req, name, SLICE("from"));
	MSG_SET(&q->req.call.req, name2, SLICE("to"));
	cache_submit(w->c, &q->req, a, b);
	const struct msg *m = &w->f->waiting[0]->req;
	assert_int_equal(m->op, MSG_RENAME);
	assert_int_equal(m->node, 50);
	assert_int_equal(m->node2, 60);
	unit_assert_slice(m->name, "from");
	unit_assert_slice(m->name2, "to");
	answer_err(w->f, q, 0);
	assert_int_equal(q->reply.err, 0);
	free(q);
	q = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
	assert_int_equal(w->f->waiting[0]->req.node, FAKE_ROOT);
	assert_false(MSG_HAS(&w->f->waiting[0]->req, node2));
	answer_err(w->f, q, EIO);
	assert_int_equal(q->reply.err, EIO);
	assert_int_equal(q->reply.ino, 0);
	free(q);
	world_free(w);
}

static void test_unknown_ids(void **state)
{
	static const uint64_t ids[] = {0, 2, 77, UINT64_MAX};
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);

	(void)state;
	cache_forget(w->c, ino, 1);
	for (size_t i = 0; i < COUNT(ids) + 1; i++) {
		uint64_t id = i < COUNT(ids) ? ids[i] : ino;
		struct asked *a = ask(w->c, MSG_GETATTR, id);

		assert_int_equal(a->completions, 1);
		assert_int_equal(a->reply.err, ESTALE);
		free(a);
		if (id == 0)
			continue; /* as the second node it means none */
		a = ask2(w->c, MSG_RENAME, CACHE_ROOT, id);
		assert_int_equal(a->completions, 1);
		assert_int_equal(a->reply.err, ESTALE);
		free(a);
		cache_forget(w->c, id, 1); /* passed over */
	}
	assert_int_equal(w->f->n_waiting, 0);
	world_free(w);
}

/* The same object has one id, whatever its names; once it is gone its id is gone for good. */
static void test_ids_are_never_used_again(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50), last = ino;

	(void)state;
	assert_int_equal(look_up(w, CACHE_ROOT, 50), ino);
	assert_int_not_equal(look_up(w, CACHE_ROOT, 51), ino);
	cache_forget(w->c, ino, 2);
	for (int i = 0; i < 100; i++) {
		uint64_t again = look_up(w, CACHE_ROOT, 50);

		assert_true(again > last);
		last = again;
		cache_forget(w->c, again, 1);
	}
	world_free(w);
}

/* The root's own node may be named by a reply as well; it never goes. */
static void test_root_stays(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
	struct attr attr = attr_of(1, 1);

	(void)state;
	attr.mode = S_IFDIR | 0755;
	answer_node(w->f, a, FAKE_ROOT, attr);
	assert_int_equal(a->reply.ino, CACHE_ROOT);
	free(a);
	cache_forget(w->c, CACHE_ROOT, 1);
	cache_forget_flush(w->c);
	assert_int_equal(w->f->n_forgets, 0);
	(void)look_up(w, CACHE_ROOT, 50);
	world_free(w);
}

/* ---- references ---- */

static void test_forget_counts_replies(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);

	(void)state;
	(void)look_up(w, CACHE_ROOT, 50);
	(void)look_up(w, CACHE_ROOT, 50);
	cache_forget(w->c, ino, 2);
	cache_forget_flush(w->c);
	assert_int_equal(w->f->n_forgets, 0); /* the kernel has one left */
	cache_forget(w->c, ino, 1);
	assert_int_equal(w->f->n_forgets, 0); /* gathers */
	cache_forget_flush(w->c);
	assert_int_equal(w->f->n_forgets, 1);
	assert_int_equal(w->f->forgets[0].node, 50);
	assert_int_equal(w->f->forgets[0].n, 3);
	cache_forget_flush(w->c);
	assert_int_equal(w->f->n_forget_messages, 1);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1); /* the root */
	world_free(w);
}

/* Messages that make something name it like a LOOKUP does. */
static void test_every_naming_reply_counts(void **state)
{
	static const enum msg_op ops[] = {MSG_LOOKUP, MSG_CREATE, MSG_MKNOD, MSG_SYMLINK};
	struct world *w = world_new();
	uint64_t dir = look_up(w, CACHE_ROOT, 40), ino = look_up(w, CACHE_ROOT, 50);

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++) {
		struct asked *a = ask(w->c, ops[i], dir);

		answer_node(w->f, a, 50, attr_of(++w->version, 0));
		assert_int_equal(a->reply.ino, ino);
		free(a);
	}
	struct asked *a = ask2(w->c, MSG_LINK, ino, dir);
	answer_node(w->f, a, 50, attr_of(++w->version, 0));
	assert_int_equal(a->reply.ino, ino);
	free(a);
	cache_forget(w->c, ino, 1 + COUNT(ops));
	cache_forget_flush(w->c);
	assert_int_equal(w->f->n_forgets, 0);
	cache_forget(w->c, ino, 1);
	cache_forget_flush(w->c);
	assert_int_equal(fake_forgotten(w->f, 50), 2 + COUNT(ops));
	world_free(w);
}

/* Replies that tell of a node without counting a reference. */
static void test_other_replies_do_not_count(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);
	struct msg m = {0};

	(void)state;
	MSG_SET(&m, node, 50);
	MSG_SET(&m, node2, 50);
	MSG_SET(&m, attr, attr_of(99, 1));
	static const enum msg_op ops[] = {MSG_UNLINK, MSG_RMDIR, MSG_RENAME, MSG_GETATTR};
	for (size_t i = 0; i < COUNT(ops); i++) {
		struct asked *a =
		    ask2(w->c, ops[i], CACHE_ROOT, ops[i] == MSG_RENAME ? CACHE_ROOT : 0);

		answer(w->f, a, &m);
		assert_int_equal(a->reply.ino, 0);
		free(a);
	}
	/* nor do they make a node known that is not */
	m.node = m.node2 = 51;
	struct asked *a = ask(w->c, MSG_UNLINK, CACHE_ROOT);
	answer(w->f, a, &m);
	free(a);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 2);
	cache_forget(w->c, ino, 1);
	cache_forget_flush(w->c);
	assert_int_equal(fake_forgotten(w->f, 50), 1);
	assert_int_equal(fake_forgotten(w->f, 51), 0);
	world_free(w);
}

/* What a request needs stays until it is done. */
static void test_held_by_requests(void **state)
{
	struct world *w = world_new();
	uint64_t a = look_up(w, CACHE_ROOT, 50), b = look_up(w, CACHE_ROOT, 60);
	struct asked *q = ask2(w->c, MSG_RENAME, a, b), *r = ask(w->c, MSG_READ, a);

	(void)state;
	cache_forget(w->c, a, 1);
	cache_forget(w->c, b, 1);
	cache_forget_flush(w->c);
	assert_int_equal(w->f->n_forgets, 0);
	answer_err(w->f, q, 0);
	assert_int_equal(fake_forgotten(w->f, 60), 1); /* without a further call */
	assert_int_equal(fake_forgotten(w->f, 50), 0);
	struct msg m = {0};
	MSG_SET(&m, payload, SLICE("x"));
	answer(w->f, r, &m);
	assert_int_equal(fake_forgotten(w->f, 50), 1);
	free(q);
	free(r);
	world_free(w);
}

/* A reply that names a node which the kernel is forgetting keeps it. */
static void test_forget_meets_a_reply(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);
	struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);

	(void)state;
	cache_forget(w->c, ino, 1); /* node and id are gone, though a reply is on its way */
	cache_forget_flush(w->c);
	answer_node(w->f, a, 50, attr_of(++w->version, 0));
	assert_int_not_equal(a->reply.ino, ino);
	assert_int_equal(fake_forgotten(w->f, 50), 1);
	cache_forget(w->c, a->reply.ino, 1);
	cache_forget_flush(w->c);
	assert_int_equal(fake_forgotten(w->f, 50), 2);
	free(a);
	world_free(w);
}

static void test_undo_lookup(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);

	(void)state;
	(void)look_up(w, CACHE_ROOT, 50);
	cache_undo_lookup(w->c, ino);
	assert_int_equal(w->f->n_forgets, 0);
	cache_undo_lookup(w->c, ino);
	assert_int_equal(fake_forgotten(w->f, 50), 2); /* sent at once */
	world_free(w);
}

static void test_forget_too_much(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);

	(void)state;
	cache_forget(w->c, ino, UINT64_MAX);
	cache_forget_flush(w->c);
	assert_int_equal(fake_forgotten(w->f, 50), 1);
	world_free(w);
}

/* However many come at once: none is lost, and memory for them is bounded by sending. */
static void test_many_forgets(void **state)
{
	enum { NODES = 400000 };
	struct world *w = world_new();
	uint64_t *ino = calloc(NODES, sizeof(*ino));

	(void)state;
	assert_non_null(ino);
	for (uint64_t i = 0; i < NODES; i++)
		ino[i] = look_up(w, CACHE_ROOT, 2000 + i);
	for (uint64_t i = 0; i < NODES; i++)
		cache_forget(w->c, ino[i], 1);
	assert_true(w->f->n_forgets > NODES / 2);
	cache_forget_flush(w->c);
	assert_in_range(w->f->n_forget_messages, 2, NODES / 1000);
	assert_int_equal(w->f->n_forgets, NODES);
	for (size_t i = 0; i < NODES; i++)
		assert_true(w->f->forgets[i].node == 2000 + i && w->f->forgets[i].n == 1);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1);
	free(ino);
	world_free(w);
}

/* Anything in any order: in the end the server got back each reference that it gave. */
static void test_references_against_a_model(void **state)
{
	enum { SERVER_NODES = 40, STEPS = 20000 };
	struct world *w = world_new();
	struct unit_random random = {7};
	struct asked *flying[16] = {NULL};
	struct {
		uint64_t told, kernel, ino;
	} model[SERVER_NODES] = {{0, 0, 0}};

	(void)state;
	for (int step = 0; step < STEPS; step++) {
		size_t i = unit_below(&random, COUNT(flying)),
		       n = unit_below(&random, SERVER_NODES);
		uint64_t node = 50 + n;

		if (unit_below(&random, 3) == 0) { /* the kernel forgets some */
			if (model[n].kernel > 0) {
				uint64_t some = 1 + unit_below(&random, model[n].kernel);

				cache_forget(w->c, model[n].ino, some);
				model[n].kernel -= some;
			}
		} else if (flying[i] == NULL) {
			uint64_t ino = model[n].kernel > 0 && unit_below(&random, 2) == 0
					   ? model[n].ino
					   : CACHE_ROOT;

			flying[i] =
			    ask(w->c, unit_below(&random, 3) == 0 ? MSG_CREATE : MSG_LOOKUP, ino);
		} else {
			if (unit_below(&random, 4) == 0) {
				answer_err(w->f, flying[i], ENOENT);
			} else {
				answer_node(w->f, flying[i], node, attr_of(++w->version, 0));
				uint64_t ino = flying[i]->reply.ino;
				if (model[n].kernel > 0)
					assert_int_equal(ino, model[n].ino);
				model[n].ino = ino;
				model[n].kernel++;
				model[n].told++;
			}
			free(flying[i]);
			flying[i] = NULL;
		}
	}
	for (size_t i = 0; i < COUNT(flying); i++) {
		if (flying[i] != NULL)
			answer_err(w->f, flying[i], EIO);
		free(flying[i]);
	}
	for (size_t n = 0; n < SERVER_NODES; n++)
		if (model[n].kernel > 0)
			cache_forget(w->c, model[n].ino, model[n].kernel);
	cache_forget_flush(w->c);
	for (size_t n = 0; n < SERVER_NODES; n++)
		assert_int_equal(fake_forgotten(w->f, 50 + n), model[n].told);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1);
	world_free(w);
}

/* ---- attributes ---- */

static void test_attributes_are_kept_for_their_time(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
	uint64_t size, ttl;

	(void)state;
	answer_node(w->f, a, 50, attr_of(5, 123));
	assert_int_equal(a->reply.attr_ttl, ATTR_TTL);
	assert_int_equal(a->reply.entry_ttl, ENTRY_TTL);
	assert_int_equal(a->attr.size, 123);
	uint64_t ino = a->reply.ino;
	free(a);
	assert_true(known(w, ino, &size, &ttl));
	assert_int_equal(size, 123);
	assert_int_equal(ttl, ATTR_TTL);
	fake_now += ATTR_TTL - 1;
	assert_true(known(w, ino, &size, &ttl));
	assert_int_equal(ttl, 1); /* the kernel may keep it no longer than we */
	fake_now += 1;
	a = ask(w->c, MSG_GETATTR, ino);
	assert_int_equal(a->completions, 0);
	answer_node(w->f, a, 0, attr_of(6, 124));
	assert_int_equal(a->reply.attr_ttl, ATTR_TTL);
	assert_false(a->from_cache);
	free(a);
	assert_known(w, ino, 124);
	world_free(w);
}

static void test_no_time_no_cache(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct cache_options options = {.ttl.attr = 0};

	(void)state;
	assert_non_null(w);
	w->f = fake_new();
	assert_int_equal(cache_new(&w->f->base, &options, &w->c), 0);
	struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
	answer_node(w->f, a, 50, attr_of(5, 1));
	assert_int_equal(a->reply.attr_ttl, 0);
	assert_int_equal(a->reply.entry_ttl, 0);
	struct asked *g = ask(w->c, MSG_GETATTR, a->reply.ino);
	assert_int_equal(g->completions, 0);
	answer_node(w->f, g, 0, attr_of(6, 1));
	free(a);
	free(g);
	a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
	answer_err(w->f, a, ENOENT);
	assert_int_equal(a->reply.entry_ttl, 0);
	free(a);
	world_free(w);
}

static void test_version_order(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);

	(void)state;
	w->version = 100;
	struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT), *b = ask(w->c, MSG_LOOKUP, CACHE_ROOT),
		     *d = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
	answer_node(w->f, a, 50, attr_of(20, 20));
	assert_int_equal(a->reply.attr_ttl, ATTR_TTL);
	assert_known(w, ino, 20);
	/* an older one comes later: not kept, and nothing is told for any time */
	answer_node(w->f, b, 50, attr_of(19, 19));
	assert_int_equal(b->reply.attr_ttl, 0);
	assert_int_equal(b->reply.entry_ttl, ENTRY_TTL); /* the name is as true as any */
	assert_int_equal(b->attr.size, 20); /* the newest that is known */
	assert_known(w, ino, 20);
	answer_node(w->f, d, 50, attr_of(21, 21));
	assert_int_equal(d->reply.attr_ttl, ATTR_TTL);
	assert_known(w, ino, 21);
	free(a);
	free(b);
	free(d);
	world_free(w);
}

/* Own changes of an object, each with and without attributes in its reply. */
static void test_own_change_of_an_object(void **state)
{
	static const enum msg_op ops[] = {MSG_WRITE, MSG_SETATTR,  MSG_FALLOCATE,
					  MSG_COPY,  MSG_SETXATTR, MSG_REMOVEXATTR};

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++) {
		struct world *w = world_new();
		uint64_t ino = look_up(w, CACHE_ROOT, 50);

		assert_known(w, ino, 0);
		struct asked *a = ask(w->c, ops[i], ino);
		assert_unknown(w, ino); /* from its submission on */
		answer_err(w->f, a, 0);
		free(a);
		assert_unknown(w, ino);

		a = ask(w->c, ops[i], ino);
		answer_node(w->f, a, 0, attr_of(++w->version, 77));
		assert_int_equal(a->reply.attr_ttl, ATTR_TTL);
		free(a);
		assert_known(w, ino, 77); /* the reply's own attributes are as new as can be */

		a = ask(w->c, ops[i], ino);
		answer_err(w->f, a, EIO); /* who knows what was done */
		free(a);
		assert_unknown(w, ino);
		world_free(w);
	}
}

/* Reading drops the access time from what is known, unless the reply tells it. */
static void test_reading_moves_atime(void **state)
{
	static const enum msg_op ops[] = {MSG_READ, MSG_READDIRPLUS, MSG_READLINK};
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++) {
		struct asked *a = ask(w->c, ops[i], ino);
		struct msg m = {0};

		assert_known(w, ino, i); /* it has not moved yet */
		MSG_SET(&m, payload, SLICE("x"));
		answer(w->f, a, &m);
		free(a);
		assert_unknown(w, ino);
		a = ask(w->c, ops[i], ino);
		MSG_SET(&m, attr, attr_of(++w->version, i + 1));
		answer(w->f, a, &m);
		free(a);
		assert_known(w, ino, i + 1);
	}
	world_free(w);
}

static void test_mode(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
	struct attr attr = attr_of(1, 0);

	(void)state;
	attr.mode = 0106755;
	answer_node(w->f, a, 50, attr);
	fake_now += 100 * ATTR_TTL;
	assert_int_equal(cache_mode(w->c, a->reply.ino), 0106755); /* as last heard */
	cache_forget(w->c, a->reply.ino, 1);
	assert_int_equal(cache_mode(w->c, a->reply.ino), 0);
	free(a);
	world_free(w);
}

/* GETATTR and WRITE of one file, in every order of submission and reply. */
static void test_taint_of_attributes(void **state)
{
	(void)state;
	for (int order = 0; order < 3; order++) {
		struct world *w = world_new();
		uint64_t ino = look_up(w, CACHE_ROOT, 50), tainted;
		struct asked *get, *set;

		fake_now += ATTR_TTL;
		if (order == 2) { /* the server read the attributes before it wrote */
			set = ask(w->c, MSG_WRITE, ino);
			get = ask(w->c, MSG_GETATTR, ino);
		} else {
			get = ask(w->c, MSG_GETATTR, ino);
			set = ask(w->c, MSG_WRITE, ino);
		}
		if (order > 0)
			answer_err(w->f, set, 0);
		tainted = stats_get(w->stats, STAT_cache_tainted);
		answer_node(w->f, get, 0, attr_of(++w->version, 1));
		assert_int_equal(get->reply.attr_ttl, 0);
		assert_int_equal(get->attr.size, 1); /* it is told all the same */
		assert_int_equal(stats_get(w->stats, STAT_cache_tainted), tainted + 1);
		assert_unknown(w, ino);
		if (order == 0)
			answer_err(w->f, set, 0);
		free(get);
		free(set);
		/* what is asked afterwards is kept */
		get = ask(w->c, MSG_GETATTR, ino);
		answer_node(w->f, get, 0, attr_of(++w->version, 2));
		assert_int_equal(get->reply.attr_ttl, ATTR_TTL);
		free(get);
		assert_known(w, ino, 2);
		world_free(w);
	}
}

/* A link changes the link count of its object: what was read before is too old. */
static void test_taint_by_link(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50), dir = look_up(w, CACHE_ROOT, 60);

	(void)state;
	fake_now += ATTR_TTL;
	struct asked *get = ask(w->c, MSG_GETATTR, ino), *link = ask2(w->c, MSG_LINK, ino, dir);
	answer_node(w->f, get, 0, attr_of(++w->version, 1));
	assert_int_equal(get->reply.attr_ttl, 0);
	answer_node(w->f, link, 50, attr_of(++w->version, 2));
	assert_int_equal(link->reply.attr_ttl, ATTR_TTL);
	free(get);
	free(link);
	/* and a write to it meanwhile makes the link's reply too old */
	link = ask2(w->c, MSG_LINK, ino, dir);
	struct asked *set = ask(w->c, MSG_WRITE, ino);
	answer_node(w->f, link, 50, attr_of(++w->version, 3));
	assert_int_equal(link->reply.attr_ttl, 0);
	assert_int_equal(link->reply.entry_ttl, 0);
	answer_err(w->f, set, 0);
	free(link);
	free(set);
	world_free(w);
}

/* What changes nothing leaves everything known; what changes a directory itself, its names. */
static void test_no_taint(void **state)
{
	static const enum msg_op ops[] = {MSG_STATFS, MSG_FSYNC, MSG_FLUSH,    MSG_OPEN,
					  MSG_LSEEK,  MSG_SETLK, MSG_GETXATTR, MSG_LISTXATTR};
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++) {
		struct asked *a = ask(w->c, ops[i], ino);

		answer_err(w->f, a, i % 2 == 0 ? 0 : EIO);
		free(a);
		assert_known(w, ino, 0);
	}
	struct attr attr = attr_of(++w->version, 0);
	struct asked *made = ask(w->c, MSG_LOOKUP, CACHE_ROOT);

	attr.mode = 040755;
	answer_node(w->f, made, 60, attr);
	ino = made->reply.ino;
	struct asked *look = ask(w->c, MSG_LOOKUP, ino), *set = ask(w->c, MSG_SETATTR, ino);
	free(made);
	answer_node(w->f, look, 70, attr_of(++w->version, 0));
	assert_int_equal(look->reply.entry_ttl, ENTRY_TTL);
	assert_int_equal(look->reply.attr_ttl, ATTR_TTL);
	answer_err(w->f, set, 0);
	free(look);
	free(set);
	world_free(w);
}

/* Two writes at once: the attributes of neither reply show the other's end. */
static void test_taint_among_writes(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50);
	struct asked *a = ask(w->c, MSG_WRITE, ino), *b = ask(w->c, MSG_WRITE, ino);

	(void)state;
	answer_node(w->f, a, 0, attr_of(++w->version, 1));
	assert_int_equal(a->reply.attr_ttl, 0);
	assert_unknown(w, ino);
	answer_node(w->f, b, 0, attr_of(++w->version, 2));
	assert_int_equal(b->reply.attr_ttl, 0); /* it was submitted before a's end */
	assert_unknown(w, ino);
	free(a);
	free(b);
	world_free(w);
}

/* ---- names ---- */

static const struct mutation {
	enum msg_op op;
	bool second; /* it is the second node whose names change */
	bool names;  /* its reply names an object */
} mutations[] = {
    {MSG_CREATE, false, true},	{MSG_MKNOD, false, true},   {MSG_SYMLINK, false, true},
    {MSG_LINK, true, true},	{MSG_UNLINK, false, false}, {MSG_RMDIR, false, false},
    {MSG_RENAME, false, false}, {MSG_RENAME, true, false},
};

static struct asked *mutate(struct world *w, const struct mutation *m, uint64_t dir, uint64_t other)
{
	if (m->op == MSG_LINK)
		return ask2(w->c, m->op, other, dir);
	if (m->op == MSG_RENAME)
		return m->second ? ask2(w->c, m->op, other, dir) : ask2(w->c, m->op, dir, other);
	return ask(w->c, m->op, dir);
}

static void mutation_done(struct world *w, const struct mutation *m, struct asked *a, bool fails)
{
	if (fails)
		answer_err(w->f, a, EEXIST);
	else if (m->names)
		answer_node(w->f, a, m->op == MSG_LINK ? 60 : 70, attr_of(++w->version, 0));
	else
		answer_err(w->f, a, 0);
	free(a);
}

/*
 * A LOOKUP in the directory, of whatever name, that was submitted before the
 * end of a change of ours and completes after its beginning.
 */
static void test_taint_of_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(mutations) * 12; i++) {
		const struct mutation *m = &mutations[i / 12];
		int order = (int)(i % 3);
		bool found = i / 3 % 2 == 0, fails = i / 6 % 2 == 0;
		struct world *w = world_new();
		uint64_t dir = look_up(w, CACHE_ROOT, 50), other = look_up(w, CACHE_ROOT, 60);
		struct asked *look, *change;

		if (order == 2) {
			change = mutate(w, m, dir, other);
			look = ask(w->c, MSG_LOOKUP, dir);
		} else {
			look = ask(w->c, MSG_LOOKUP, dir);
			change = mutate(w, m, dir, other);
		}
		if (order > 0)
			mutation_done(w, m, change, fails);
		if (found)
			answer_node(w->f, look, 80, attr_of(++w->version, 1));
		else
			answer_err(w->f, look, ENOENT);
		assert_int_equal(look->reply.entry_ttl, 0);
		assert_int_equal(look->reply.attr_ttl, 0);
		assert_int_equal(look->reply.err, found ? 0 : ENOENT);
		if (order == 0)
			mutation_done(w, m, change, fails);
		free(look);

		/* one that begins afterwards is kept, and so is one in another directory */
		for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
			look = ask(w->c, MSG_LOOKUP, elsewhere ? CACHE_ROOT : dir);
			change = elsewhere ? mutate(w, m, dir, other) : NULL;
			if (found)
				answer_node(w->f, look, 81, attr_of(++w->version, 1));
			else
				answer_err(w->f, look, ENOENT);
			assert_int_equal(look->reply.entry_ttl, found ? ENTRY_TTL : NEGATIVE_TTL);
			if (change != NULL)
				mutation_done(w, m, change, false);
			free(look);
		}
		world_free(w);
	}
}

/* The directory's own attributes go with its names, and come with the reply's. */
static void test_parents(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(mutations); i++) {
		const struct mutation *m = &mutations[i];
		struct world *w = world_new();
		uint64_t dir = look_up(w, CACHE_ROOT, 50), other = look_up(w, CACHE_ROOT, 60);
		bool both = m->op == MSG_RENAME;

		assert_known(w, dir, 0);
		struct asked *a = mutate(w, m, dir, other);
		assert_unknown(w, dir);
		struct msg reply = {0};
		if (m->names) {
			MSG_SET(&reply, node, m->op == MSG_LINK ? 60 : 70);
			MSG_SET(&reply, attr, attr_of(++w->version, 9));
		}
		MSG_SET(&reply, attr2, attr_of(++w->version, 10));
		MSG_SET(&reply, attr3, attr_of(++w->version, 11));
		answer(w->f, a, &reply);
		free(a);
		assert_known(w, dir, both && m->second ? 11 : 10);
		if (both)
			assert_known(w, other, m->second ? 10 : 11);
		if (m->op == MSG_LINK)
			assert_known(w, other, 9); /* its link count */
		/* the same without them */
		a = mutate(w, m, dir, other);
		mutation_done(w, m, a, false);
		assert_unknown(w, dir);
		world_free(w);
	}
}

/* A new object's attributes are kept at once. */
static void test_created(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask(w->c, MSG_CREATE, CACHE_ROOT);

	(void)state;
	answer_node(w->f, a, 70, attr_of(++w->version, 5));
	assert_int_equal(a->reply.attr_ttl, ATTR_TTL);
	assert_int_equal(a->reply.entry_ttl, ENTRY_TTL);
	assert_known(w, a->reply.ino, 5);
	free(a);
	world_free(w);
}

/* What UNLINK, RMDIR and RENAME tell of the objects that they changed. */
static void test_victims(void **state)
{
	struct world *w = world_new();
	uint64_t moved = look_up(w, CACHE_ROOT, 50), replaced = look_up(w, CACHE_ROOT, 60);
	struct msg m = {0};

	(void)state;
	/* with its attributes: they are the newest */
	MSG_SET(&m, node, 50);
	MSG_SET(&m, attr, attr_of(++w->version, 33));
	struct asked *a = ask(w->c, MSG_UNLINK, CACHE_ROOT);
	answer(w->f, a, &m);
	free(a);
	assert_known(w, moved, 33);
	/* without them they are unknown from now on, and what was asked before is too old */
	m = (struct msg){0};
	MSG_SET(&m, node, 50);
	fake_now += ATTR_TTL;
	struct asked *get = ask(w->c, MSG_GETATTR, moved);
	a = ask(w->c, MSG_UNLINK, CACHE_ROOT);
	answer(w->f, a, &m);
	free(a);
	answer_node(w->f, get, 0, attr_of(++w->version, 1));
	assert_int_equal(get->reply.attr_ttl, 0);
	free(get);
	assert_unknown(w, moved);
	/* RENAME: the moved one, and the one in its way */
	get = ask(w->c, MSG_GETATTR, replaced);
	answer_node(w->f, get, 0, attr_of(++w->version, 1));
	free(get);
	assert_known(w, replaced, 1);
	m = (struct msg){0};
	MSG_SET(&m, node, 50);
	MSG_SET(&m, node2, 60);
	MSG_SET(&m, attr, attr_of(++w->version, 44));
	a = ask2(w->c, MSG_RENAME, CACHE_ROOT, CACHE_ROOT);
	answer(w->f, a, &m);
	free(a);
	assert_known(w, moved, 44);
	assert_unknown(w, replaced);
	world_free(w);
}

static void test_negative_names(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);

	(void)state;
	answer_err(w->f, a, ENOENT);
	assert_int_equal(a->reply.err, ENOENT);
	assert_int_equal(a->reply.entry_ttl, NEGATIVE_TTL);
	assert_int_equal(a->reply.ino, 0);
	free(a);
	/* other errors say nothing about the name, and other requests' ENOENT is no name */
	a = ask(w->c, MSG_LOOKUP, CACHE_ROOT);
	answer_err(w->f, a, EACCES);
	assert_int_equal(a->reply.entry_ttl, 0);
	free(a);
	a = ask(w->c, MSG_UNLINK, CACHE_ROOT);
	answer_err(w->f, a, ENOENT);
	assert_int_equal(a->reply.entry_ttl, 0);
	free(a);
	world_free(w);
}

/* ---- the rest ---- */

static void test_close(void **state)
{
	struct world *w = world_new();

	(void)state;
	uint64_t first = opened(w->c, 1), last = opened(w->c, UINT64_MAX);
	cache_close(w->c, CACHE_ROOT, first, false);
	cache_close(w->c, CACHE_ROOT, last, false);
	assert_int_equal(w->f->n_closed, 2);
	assert_true(w->f->closed[0] == 1 && w->f->closed[1] == UINT64_MAX);
	/* what is not open, or not any more, means nothing to the server */
	const uint64_t none[] = {0, first, last, UINT64_MAX};
	for (size_t i = 0; i < COUNT(none); i++)
		cache_close(w->c, CACHE_ROOT, none[i], false);
	assert_int_equal(w->f->n_closed, 2);
	assert_ptr_equal(cache_backend(w->c), &w->f->base);
	world_free(w);
}

static void test_locked(void **state)
{
	struct world *w = world_new();
	uint64_t ino = look_up(w, CACHE_ROOT, 50), other = look_up(w, CACHE_ROOT, 51);

	(void)state;
	assert_false(cache_is_locked(w->c, ino));
	cache_mark_locked(w->c, ino);
	assert_true(cache_is_locked(w->c, ino));
	assert_false(cache_is_locked(w->c, other));
	assert_true(cache_is_locked(w->c, 9999)); /* better once too often */
	cache_mark_locked(w->c, 9999);
	/* a new node of the same object starts anew */
	cache_forget(w->c, ino, 1);
	assert_false(cache_is_locked(w->c, look_up(w, CACHE_ROOT, 50)));
	world_free(w);
}

/* ---- no memory ---- */

static void test_no_memory_for_a_cache(void **state)
{
	struct fake *f = fake_new();
	const struct cache_options options = {.ttl.attr = 1};
	struct cache *c = NULL;
	int r = -ENOMEM;
	long n = 0;

	(void)state;
	for (; r != 0; n++) {
		fake_memory = n;
		r = cache_new(&f->base, &options, &c);
		fake_memory = -1;
		assert_true(r == 0 || r == -ENOMEM);
	}
	assert_true(n > 2); /* the node and the table */
	cache_free(c);
	cache_free(NULL);
	fake_free(f);
}

/*
 * Every allocation fails once while many nodes come: such a reply is ENOMEM,
 * its reference goes back, its open file is closed, and all goes on.
 */
static void test_no_memory_for_a_node(void **state)
{
	enum { NODES = 5000 }; /* the tables grow several times */
	struct world *w = world_new();
	struct unit_random random = {3};
	unsigned failed = 0, closed = 0;
	uint64_t *ino = calloc(NODES, sizeof(*ino)), last = CACHE_ROOT;

	(void)state;
	assert_non_null(ino);
	for (uint64_t i = 0; i < NODES; i++) {
		bool create = i % 2 == 0;
		struct asked *a = ask(w->c, create ? MSG_CREATE : MSG_LOOKUP, CACHE_ROOT);
		struct msg m = {0};

		MSG_SET(&m, node, 5000 + i);
		MSG_SET(&m, attr, attr_of(1, 0));
		if (create)
			MSG_SET(&m, fh, i + 1);
		/* none, or only for nodes: not for a table that has to grow */
		fake_memory = unit_below(&random, 4) != 0 ? 0 : i % 3 == 0 ? 1 : -1;
		w->f->n_closed = 0;
		answer(w->f, a, &m);
		fake_memory = -1;
		if (a->reply.err != 0) {
			assert_int_equal(a->reply.err, ENOMEM);
			assert_int_equal(a->reply.ino, 0);
			assert_int_equal(fake_forgotten(w->f, 5000 + i), 1);
			assert_int_equal(w->f->n_closed, create);
			closed += create;
			failed++;
		} else {
			assert_true(a->reply.ino > last);
			assert_int_equal(fake_forgotten(w->f, 5000 + i), 0);
			assert_int_equal(w->f->n_closed, 0);
			last = ino[i] = a->reply.ino;
		}
		free(a);
	}
	assert_in_range(failed, 1, NODES - 1);
	assert_in_range(closed, 1, failed - 1);
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1 + NODES - failed);
	for (uint64_t i = 0; i < NODES; i++)
		if (ino[i] != 0)
			cache_forget(w->c, ino[i], 1);
	cache_forget_flush(w->c);
	for (uint64_t i = 0; i < NODES; i++)
		assert_int_equal(fake_forgotten(w->f, 5000 + i), 1);
	free(ino);
	world_free(w);
}

/* ---- threads ---- */

enum { SUBMITTERS = 4, SUBMITS = 3000, NODES_SHARED = 30 };

static struct {
	atomic_uint submitted, answered;
	atomic_bool end;
	atomic_ullong told[NODES_SHARED];
} shared;

/* The kernel: forgets what a reply names, at once. */
static void forget_at_once(struct cache_req *r, const struct cache_reply *reply)
{
	if (reply->ino != 0)
		cache_forget(r->cache, reply->ino, 1);
	atomic_fetch_add(&shared.answered, 1);
	free(r);
}

static void *submit_often(void *arg)
{
	struct world *w = arg;
	struct unit_random random = {(uintptr_t)&random | 1};

	for (int i = 0; i < SUBMITS; i++) {
		static const enum msg_op ops[] = {MSG_LOOKUP,  MSG_LOOKUP, MSG_CREATE,
						  MSG_GETATTR, MSG_WRITE,  MSG_UNLINK};
		struct asked *a = asked_new(ops[unit_below(&random, COUNT(ops))]);

		while (atomic_load(&shared.submitted) - atomic_load(&shared.answered) >
		       FAKE_CALLS / 2)
			(void)sched_yield();
		atomic_fetch_add(&shared.submitted, 1);
		a->req.done = forget_at_once;
		/* sometimes a node that may just be going */
		cache_submit(w->c, &a->req,
			     unit_below(&random, 3) == 0 ? 2 + unit_below(&random, 50) : CACHE_ROOT,
			     0);
		if (i % 8 == 0)
			cache_forget_flush(w->c);
	}
	return NULL;
}

/* The reader: answers in the order in which they come. */
static void *answer_all(void *arg)
{
	struct world *w = arg;
	struct unit_random random = {17};
	uint64_t version = 1000;

	for (;;) {
		(void)pthread_mutex_lock(&w->f->lock);
		size_t n = w->f->n_waiting;
		(void)pthread_mutex_unlock(&w->f->lock);
		if (n == 0) {
			if (atomic_load(&shared.end))
				return NULL;
			(void)sched_yield();
			continue;
		}
		struct call *call = fake_take(w->f, 0);
		struct msg m = {0};
		if (unit_below(&random, 5) == 0) {
			MSG_SET(&m, err, ENOENT);
		} else {
			size_t i = unit_below(&random, NODES_SHARED);

			MSG_SET(&m, node, 50 + i);
			MSG_SET(&m, attr, attr_of(++version, 0));
			if (call->req.op == MSG_LOOKUP || call->req.op == MSG_CREATE)
				atomic_fetch_add(&shared.told[i], 1);
		}
		call->done(call, &m);
	}
}

static void test_many_threads(void **state)
{
	struct world *w = world_new();
	pthread_t threads[SUBMITTERS], reader;

	(void)state;
	assert_int_equal(pthread_create(&reader, NULL, answer_all, w), 0);
	for (size_t i = 0; i < SUBMITTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, submit_often, w), 0);
	for (size_t i = 0; i < SUBMITTERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	atomic_store(&shared.end, true);
	assert_int_equal(pthread_join(reader, NULL), 0);
	cache_forget_flush(w->c);
	assert_int_equal(shared.answered, SUBMITTERS * SUBMITS);
	for (size_t i = 0; i < NODES_SHARED; i++) {
		assert_true(shared.told[i] > 0);
		assert_int_equal(fake_forgotten(w->f, 50 + i), shared.told[i]);
	}
	assert_int_equal(stats_get(w->stats, STAT_cache_nodes), 1);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ids_become_the_servers),
	    cmocka_unit_test(test_unknown_ids),
	    cmocka_unit_test(test_ids_are_never_used_again),
	    cmocka_unit_test(test_root_stays),
	    cmocka_unit_test(test_forget_counts_replies),
	    cmocka_unit_test(test_every_naming_reply_counts),
	    cmocka_unit_test(test_other_replies_do_not_count),
	    cmocka_unit_test(test_held_by_requests),
	    cmocka_unit_test(test_forget_meets_a_reply),
	    cmocka_unit_test(test_undo_lookup),
	    cmocka_unit_test(test_forget_too_much),
	    cmocka_unit_test(test_many_forgets),
	    cmocka_unit_test(test_references_against_a_model),
	    cmocka_unit_test(test_attributes_are_kept_for_their_time),
	    cmocka_unit_test(test_no_time_no_cache),
	    cmocka_unit_test(test_version_order),
	    cmocka_unit_test(test_own_change_of_an_object),
	    cmocka_unit_test(test_reading_moves_atime),
	    cmocka_unit_test(test_mode),
	    cmocka_unit_test(test_taint_of_attributes),
	    cmocka_unit_test(test_taint_by_link),
	    cmocka_unit_test(test_no_taint),
	    cmocka_unit_test(test_taint_among_writes),
	    cmocka_unit_test(test_taint_of_names),
	    cmocka_unit_test(test_parents),
	    cmocka_unit_test(test_created),
	    cmocka_unit_test(test_victims),
	    cmocka_unit_test(test_negative_names),
	    cmocka_unit_test(test_close),
	    cmocka_unit_test(test_locked),
	    cmocka_unit_test(test_no_memory_for_a_cache),
	    cmocka_unit_test(test_no_memory_for_a_node),
	    cmocka_unit_test(test_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
