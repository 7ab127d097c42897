/* A session by itself: connections come and go, and what it holds stays. */
#include "export_fixture.h"

#include <pthread.h>
#include <sched.h>

#include "host/hnode.h"
#include "host/lock.h"
#include "host/promise.h"
#include "host/session.h"
#include "host/sessions.h"

/* What a server has for its sessions; nobody takes pushes, so nothing is watched. */
struct world {
	struct fixture *f;
	struct host host;
	struct session *s;
};

/* A connection's stream, and the client's end of it. */
struct line {
	struct stream *stream, *peer;
};

static int setup_world(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	void *inner;

	(void)setup(&inner);
	w->f = inner;
	w->host.export = w->f->e;
	share_pool_init(&w->host.handles.pool, 10);
	assert_int_equal(hnodes_new(w->f->e, 10, &w->host.nodes), 0);
	assert_int_equal(promises_new(w->host.nodes, 0, 0, NULL, &w->host.promises), 0);
	assert_int_equal(locks_new(w->f->e, w->host.nodes, 10, &w->host.locks), 0);
	assert_int_equal(session_new(&w->host, 7, 0, &w->s), 0);
	*state = w;
	return 0;
}

static int teardown_world(void **state)
{
	struct world *w = *state;
	void *inner = w->f;

	session_unref(w->s);
	promises_free(w->host.promises);
	locks_free(w->host.locks);
	hnodes_free(w->host.nodes); /* asserts that every reference was given back */
	free(w);
	return teardown(&inner);
}

static void connect_line(struct world *w, struct line *l)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(stream_new(sv[0], &l->stream), 0);
	assert_int_equal(stream_new(sv[1], &l->peer), 0);
	session_attach(w->s, l->stream);
}

static void lose_line(struct world *w, struct line *l)
{
	stream_shutdown(l->stream);
	session_cut(w->s, session_gen(w->s));
	stream_free(l->stream);
	stream_free(l->peer);
}

static int reply(struct world *w, uint64_t id)
{
	struct msg p = {0};

	session_reply(&p, id, 0);
	return session_send(w->s, session_gen(w->s), &p);
}

static uint64_t received(struct line *l)
{
	struct head_buf head = {0};
	const char *why;
	struct msg m;

	memset(&m, 0, sizeof(m));
	assert_int_equal(stream_recv(l->peer, &head, &m, &why), 0);
	head_buf_done(&head);
	return m.id;
}

/* The root, told to the client once. */
static struct hnode *tell_root(struct world *w)
{
	struct stamp stamp = {0};
	struct hnode *n;

	assert_int_equal(hnodes_intern(w->host.nodes, export_root(w->f->e), NULL, NULL, 0, &n), 0);
	assert_int_equal(promise_tell(session_promises(w->s), n, 0, &stamp), 0);
	return n;
}

static int lock_as(struct session *s, struct hnode *n, enum range_type type)
{
	const struct lock_request q = {.node = n, .bsd = true, .type = type};

	return lock_set(session_locks(s), &q, NULL);
}

static void test_outlives_its_connections(void **state)
{
	struct world *w = *state;
	struct stamp stamp = {0};
	struct session *other;
	struct hnode *again;
	struct line l;

	assert_int_equal(session_id(w->s), 7);
	assert_int_equal(session_new(&w->host, 8, 0, &other), 0);
	struct hnode *n = tell_root(w);
	assert_int_equal(lock_as(w->s, n, RANGE_WRITE), 0);
	for (uint64_t id = 1; id < 4; id++) {
		assert_int_equal(reply(w, id), -ENOTCONN);
		connect_line(w, &l);
		assert_int_equal(reply(w, id), 0);
		assert_int_equal(received(&l), id);
		lose_line(w, &l);
		/* The node is still the client's, and so is the lock. */
		assert_int_equal(
			promise_node(session_promises(w->s), hnode_id(n), 0, &stamp, &again), 0);
		assert_ptr_equal(again, n);
		hnode_unref(w->host.nodes, again);
		assert_int_equal(lock_as(other, n, RANGE_WRITE), -EAGAIN);
	}
	/* Gone with the session, and only then. */
	session_unref(w->s);
	assert_int_equal(lock_as(other, n, RANGE_WRITE), 0);
	w->s = other;
	hnode_unref(w->host.nodes, n);
}

static void decided(void *arg, int result)
{
	session_lock_granted(arg, 1, SLOT_NONE, result);
}

/* A lock is decided while nobody is there to hear of it. */
static void test_lock_without_connection(void **state)
{
	struct world *w = *state;
	struct session *other;
	struct line l;

	assert_int_equal(session_new(&w->host, 8, 0, &other), 0);
	struct hnode *n = tell_root(w);
	assert_int_equal(lock_as(other, n, RANGE_WRITE), 0);
	const struct lock_request q = {.node = n, .bsd = true, .type = RANGE_WRITE};
	const struct lock_wait wait = {.id = 1, .done = decided, .arg = w->s};
	connect_line(w, &l);
	assert_int_equal(lock_set(session_locks(w->s), &q, &wait), -EINPROGRESS);
	lose_line(w, &l);
	assert_int_equal(lock_as(other, n, RANGE_NONE), 0);
	int r;
	/* The lock is the waiter's as soon as its thread has it. */
	while ((r = lock_as(other, n, RANGE_WRITE)) == 0)
		assert_int_equal(lock_as(other, n, RANGE_NONE), 0);
	assert_int_equal(r, -EAGAIN);
	session_unref(other);
	hnode_unref(w->host.nodes, n);
}

struct talker {
	struct world *w;
	_Atomic unsigned said;
};

static void *talk(void *arg)
{
	struct talker *t = arg;

	while (reply(t->w, 1) == 0)
		t->said++;
	return NULL;
}

/* Nobody reads: one waits for the socket, and the others for that one. */
static void lose_while_it_sends(struct world *w)
{
	struct talker t = {.w = w};
	pthread_t threads[8];
	struct line l;

	connect_line(w, &l);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, talk, &t), 0);
	while (t.said < 100)
		(void)sched_yield();
	lose_line(w, &l);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(reply(w, 2), -ENOTCONN);
}

static void test_lost_while_it_sends(void **state)
{
	for (int i = 0; i < 20; i++)
		lose_while_it_sends(*state);
}

/* ---- sessions whose clients may come back ---- */

#define LONG_MS 60000

struct kept {
	struct sessions *all;
	struct session *s;
	unsigned char token[MSG_TOKEN_LEN];
	struct line line;
	struct hnode *n;
};

static struct kept kept_new(struct world *w, unsigned grace_ms, unsigned lease_ms)
{
	struct kept k = {0};

	assert_int_equal(sessions_new(grace_ms, lease_ms, NULL, &k.all), 0);
	session_unref(w->s);
	assert_int_equal(session_new(&w->host, 9, HELLO_RESUME, &w->s), 0);
	k.s = w->s;
	assert_int_equal(sessions_add(k.all, k.s, k.token), 0);
	return k;
}

/* Attached, and with a lock. */
static struct kept keep(struct world *w, unsigned grace_ms, unsigned lease_ms)
{
	struct kept k = kept_new(w, grace_ms, lease_ms);

	connect_line(w, &k.line);
	sessions_taken(k.all, k.s, true);
	k.n = tell_root(w);
	assert_int_equal(lock_as(k.s, k.n, RANGE_WRITE), 0);
	return k;
}

static void lose(struct kept *k)
{
	sessions_park(k->all, k->s, session_gen(k->s));
	stream_free(k->line.stream);
	stream_free(k->line.peer);
}

static void kept_done(struct world *w, struct kept *k)
{
	hnode_unref(w->host.nodes, k->n);
	sessions_free(k->all);
}

static int take(struct kept *k)
{
	unsigned char next[MSG_TOKEN_LEN];
	struct session *s;
	int r = sessions_take(k->all, 9, (struct slice){k->token, MSG_TOKEN_LEN}, NULL, &s,
			      next);

	if (r == 0) {
		memcpy(k->token, next, sizeof(next));
		assert_ptr_equal(s, k->s);
		session_unref(s);
	}
	return r;
}

/* Somebody else gets the lock: it has been released. */
static bool locked(struct world *w, const struct kept *k)
{
	struct session *other;

	assert_int_equal(session_new(&w->host, 10, 0, &other), 0);
	int r = lock_as(other, k->n, RANGE_WRITE);
	session_unref(other);
	assert_true(r == 0 || r == -EAGAIN);
	return r != 0;
}

static void test_away_within_grace(void **state)
{
	struct world *w = *state;
	struct kept k = keep(w, LONG_MS, LONG_MS / 2);

	assert_int_equal(sessions_tick(k.all), -1); /* nobody is away */
	assert_int_equal(sessions_away(k.all), 0);
	sessions_park(k.all, k.s, session_gen(k.s) - 1); /* an older connection's end */
	assert_int_equal(sessions_away(k.all), 0);
	lose(&k);
	assert_int_equal(sessions_away(k.all), 1);
	assert_in_range(sessions_tick(k.all), 1, LONG_MS / 2); /* when its locks are over */
	assert_true(locked(w, &k));
	assert_int_equal(take(&k), 0);
	assert_int_equal(sessions_away(k.all), 0);
	assert_int_equal(sessions_tick(k.all), -1);
	assert_false(session_locks_lost(k.s));
	sessions_taken(k.all, k.s, false); /* that connection is lost, too */
	assert_int_equal(sessions_away(k.all), 1);
	assert_int_equal(take(&k), 0);
	kept_done(w, &k);
}

static void test_away_for_too_long(void **state)
{
	struct world *w = *state;
	struct kept k = keep(w, 0, LONG_MS);

	lose(&k);
	assert_int_equal(sessions_away(k.all), 1);
	assert_int_equal(sessions_tick(k.all), -1);
	assert_int_equal(sessions_away(k.all), 0);
	assert_int_equal(take(&k), -ENOENT);
	kept_done(w, &k);
}

/* Its locks go before it, and it is told so when it comes back. */
static void test_lease_ends(void **state)
{
	struct world *w = *state;
	struct kept k = keep(w, LONG_MS, 0);

	assert_int_equal(sessions_tick(k.all), -1); /* not while it is there */
	assert_true(locked(w, &k));
	lose(&k);
	assert_in_range(sessions_tick(k.all), LONG_MS - 5000, LONG_MS);
	assert_false(locked(w, &k));
	assert_false(session_holds_locks(k.s));
	assert_int_equal(take(&k), 0);
	assert_true(session_locks_lost(k.s));
	connect_line(w, &k.line);
	session_resumed(k.s, 0);
	sessions_taken(k.all, k.s, true);
	assert_false(session_locks_lost(k.s)); /* it knows */
	assert_int_equal(lock_as(k.s, k.n, RANGE_WRITE), 0);
	assert_true(locked(w, &k));
	assert_int_equal(lock_as(k.s, k.n, RANGE_NONE), 0);
	lose(&k);
	(void)sessions_tick(k.all);
	assert_int_equal(take(&k), 0);
	assert_false(session_locks_lost(k.s)); /* it had none */
	kept_done(w, &k);
}

/* What the client asked for before is still being executed. */
static void test_busy(void **state)
{
	struct world *w = *state;
	struct kept k = keep(w, LONG_MS, 0);
	uint64_t gen = session_gen(k.s);

	assert_true(session_settle(k.s, 0));
	assert_true(session_enter(k.s, gen));
	assert_false(session_enter(k.s, gen + 1));
	assert_false(session_enter(k.s, gen - 1));
	assert_false(session_settle(k.s, 0));
	lose(&k);
	assert_false(session_enter(k.s, gen)); /* no other begins */
	assert_int_equal(take(&k), -EAGAIN);
	assert_int_equal(sessions_away(k.all), 1);
	assert_in_range(sessions_tick(k.all), 1, 1000); /* its locks are looked at soon */
	assert_true(locked(w, &k));
	session_leave(k.s);
	assert_true(session_settle(k.s, 0));
	(void)sessions_tick(k.all);
	assert_false(locked(w, &k));
	assert_int_equal(take(&k), 0);
	assert_int_equal(take(&k), -EAGAIN); /* by one at a time */
	kept_done(w, &k);
}

/* Before its first connection has it, nobody else gets it. */
static void test_new_is_nobody_elses(void **state)
{
	struct world *w = *state;
	struct kept k = kept_new(w, LONG_MS, LONG_MS);

	assert_int_equal(take(&k), -EAGAIN);
	connect_line(w, &k.line);
	sessions_taken(k.all, k.s, true);
	lose(&k);
	assert_int_equal(take(&k), 0);
	sessions_free(k.all);
}

/* Of too many that are away the longest goes. */
static void test_too_many_away(void **state)
{
	struct world *w = *state;
	struct kept k = keep(w, LONG_MS, LONG_MS);

	lose(&k);
	for (unsigned i = 0; i < SESSIONS_AWAY_MAX; i++) {
		unsigned char token[MSG_TOKEN_LEN];
		struct session *s;

		assert_int_equal(session_new(&w->host, 100 + i, HELLO_RESUME, &s), 0);
		assert_int_equal(sessions_add(k.all, s, token), 0);
		sessions_taken(k.all, s, true);
		assert_int_equal(sessions_away(k.all), i + 1);
		sessions_park(k.all, s, session_gen(s));
		session_unref(s);
	}
	assert_int_equal(sessions_away(k.all), SESSIONS_AWAY_MAX);
	assert_int_equal(take(&k), -ENOENT);
	kept_done(w, &k);
}

/* What belongs to one connection neither goes to the next nor ends it. */
static void test_replies_belong_to_a_connection(void **state)
{
	struct world *w = *state;
	struct line first, second;
	struct msg p = {0};

	connect_line(w, &first);
	uint64_t gen = session_gen(w->s);
	session_cut(w->s, gen);
	connect_line(w, &second);
	session_reply(&p, 5, 0);
	assert_int_equal(session_send(w->s, gen, &p), -ENOTCONN);
	session_cut(w->s, gen); /* as the first connection's thread may do late */
	assert_int_equal(reply(w, 6), 0);
	assert_int_equal(received(&second), 6);
	stream_free(first.stream);
	stream_free(first.peer);
	lose_line(w, &second);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup_world, teardown_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_outlives_its_connections),
		T(test_lock_without_connection),
		T(test_lost_while_it_sends),
		T(test_away_within_grace),
		T(test_away_for_too_long),
		T(test_lease_ends),
		T(test_busy),
		T(test_new_is_nobody_elses),
		T(test_too_many_away),
		T(test_replies_belong_to_a_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
