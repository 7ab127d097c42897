/* What is kept by time only, and how a granted lock and a fence take it back. */
#include "cache_lease.h"

#include <string.h>

#define NS 1000000000u

static int setup(void **state)
{
	*state = world_new();
	return 0;
}

static int teardown(void **state)
{
	world_free(*state);
	return 0;
}

/* A lock that the host grants. */
static void lock_granted(struct world *w, uint64_t ino)
{
	struct asked *a = asked_new(MSG_SETLK);

	MSG_SET(&a->req.call.req, type, LOCK_TYPE_WRITE);
	cache_submit(w->c, &a->req, ino, 0);
	answer_err(w->f, a, 0);
	assert_true(a->reply.synchronises);
	free(a);
}

static void reply_with(struct world *w, struct asked *a, struct msg m)
{
	answer(w->f, a, &m);
}

/* Names and attributes without a promise are taken back; what is promised stays. */
static void test_lock(void **state)
{
	struct world *w = *state;
	uint64_t promised = look_up_file(w, "promised", 40);
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "file");

	reply_with(w, a, reply_node(w, NO_STAMP, 41, S_IFDIR | 0755, 0));
	uint64_t dir = a->reply.ino;
	assert_true(a->reply.entry_ttl > 0 && a->reply.attr_ttl > 0);
	free(a);
	a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "absent");
	reply_with(w, a, reply_err(NO_STAMP, ENOENT));
	assert_true(a->reply.entry_ttl > 0);
	free(a);
	told_clear(w);
	lock_granted(w, promised);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "file"), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "absent"), 1);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "promised"), 0);
	assert_int_equal(told(w, TOLD_ATTR, dir, NULL), 1);
	assert_int_equal(told(w, TOLD_ATTR, promised, NULL), 0);
	told_clear(w);
	lock_granted(w, promised); /* once */
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "file"), 0);
	assert_int_equal(told(w, TOLD_ATTR, dir, NULL), 0);
	forget_all(w, dir);
	forget_all(w, promised);
}

/* A reply that left before is told for no time: it may have been evaluated before the change. */
static void test_reply_in_flight(void **state)
{
	struct world *w = *state;
	struct asked *name = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "file");
	struct asked *none = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "absent");

	cache_drop_timed(w->c);
	reply_with(w, name, reply_node(w, NO_STAMP, 41, S_IFDIR | 0755, 0));
	assert_int_equal(name->reply.entry_ttl, 0);
	assert_int_equal(name->reply.attr_ttl, 0);
	reply_with(w, none, reply_err(NO_STAMP, ENOENT));
	assert_int_equal(none->reply.entry_ttl, 0);
	uint64_t ino = name->reply.ino;
	free(name);
	free(none);
	forget_all(w, ino); /* a dentry that is new to the kernel */
	name = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "file");
	reply_with(w, name, reply_node(w, NO_STAMP, 41, S_IFDIR | 0755, 0));
	assert_true(name->reply.entry_ttl > 0 && name->reply.attr_ttl > 0);
	ino = name->reply.ino;
	free(name);
	forget_all(w, ino);
}

/* Pages are kept beyond any timeout, and go as well. */
static void test_pages(void **state)
{
	struct world *w = *state;
	struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, "file");
	struct msg m = {0};

	reply_with(w, a, reply_node(w, NO_STAMP, 41, S_IFREG | 0644, 5));
	uint64_t ino = a->reply.ino;
	free(a);
	cache_drop_timed(w->c);
	a = asked_new(MSG_READ);
	MSG_SET(&a->req.call.req, fh, 1);
	MSG_SET(&a->req.call.req, off, 0);
	MSG_SET(&a->req.call.req, size, 4096);
	cache_submit(w->c, &a->req, ino, 0);
	MSG_SET(&m, payload, SLICE("12345"));
	answer(w->f, a, &m);
	free(a);
	told_clear(w);
	cache_drop_timed(w->c);
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
	/* so does the page that a READ has locked, which was evaluated before the change */
	a = asked_new(MSG_READ);
	MSG_SET(&a->req.call.req, fh, 1);
	MSG_SET(&a->req.call.req, off, 0);
	MSG_SET(&a->req.call.req, size, 4096);
	cache_submit(w->c, &a->req, ino, 0);
	told_clear(w);
	cache_drop_timed(w->c);
	assert_int_equal(told(w, TOLD_DATA, ino, NULL), 1);
	answer(w->f, a, &m);
	free(a);
	forget_all(w, ino);
}

/* Those whose time is over are not told, and more than there is room for are told early. */
static void test_names_are_bounded(void **state)
{
	enum { NAMES = 120000 }; /* of 48 bytes each: more than 4 MiB */
	struct world *w = *state;
	char name[MSG_NAME_MAX + 1];

	look_up_absent(w, CACHE_ROOT, "first", NO_STAMP);
	fake_now += UINT64_C(3600) * NS;
	told_clear(w);
	cache_drop_timed(w->c);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "first"), 0);
	for (unsigned i = 0; i < NAMES; i++) {
		(void)snprintf(name, sizeof(name), "%024u", i);
		look_up_absent(w, CACHE_ROOT, name, NO_STAMP);
		if (w->n_told > 0)
			break;
	}
	assert_true(w->n_told > 0);
	(void)snprintf(name, sizeof(name), "%024u", 0);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, name), 1);
	assert_true(w->c->timed.name_bytes <= ((size_t)4 << 20) + MSG_NAME_MAX);
	told_clear(w);
}

/* What has gone is not noted for ever: there are at most as many as were there at one time. */
static void test_nodes_are_bounded(void **state)
{
	enum { NODES = 10000 };
	struct world *w = *state;
	char name[16];

	for (unsigned i = 0; i < NODES; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		uint64_t ino = look_up(w, CACHE_ROOT, name, 100000 + i, S_IFREG | 0644, NO_STAMP);

		forget_all(w, ino);
	}
	assert_true(w->c->timed.nodes.count <= 1);
	told_clear(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reply_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nodes_are_bounded, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
