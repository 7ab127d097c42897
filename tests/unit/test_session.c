/* A session by itself: connections come and go, and what it holds stays. */
#include "export_fixture.h"

#include <pthread.h>
#include <sched.h>

#include "host/hnode.h"
#include "host/lock.h"
#include "host/promise.h"
#include "host/session.h"

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
	w->host.handles.max = 10;
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

#define T(name) cmocka_unit_test_setup_teardown(name, setup_world, teardown_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_outlives_its_connections),
		T(test_lock_without_connection),
		T(test_lost_while_it_sends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
