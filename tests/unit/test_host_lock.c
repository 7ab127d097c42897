/* Locks over the protocol: owners, waiting, cancelling, deadlocks, release; and the range list. */
#include "host_client.h"

#include <poll.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "host/lock.h"
#include "host/range.h"

struct fixture {
	struct host_server hs;
	struct host_client c;
	uint64_t node, fh, fh2; /* the file "a", opened twice */
	int host;		/* and on the host */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct msg p;

	assert_non_null(f);
	host_server_start(&f->hs, NULL);
	host_client_start(&f->c, &f->hs);
	assert_int_equal(host_create(&f->c, f->c.root, "a", O_RDWR, 0600, &p), 0);
	f->node = p.node;
	f->fh = p.fh;
	assert_int_equal(host_open(&f->c, f->node, O_RDWR, &p), 0);
	f->fh2 = p.fh;
	f->host = openat(f->hs.fd, "a", O_RDWR | O_CLOEXEC);
	assert_true(f->host >= 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	host_client_stop(&f->c);
	host_server_stop(&f->hs);
	(void)close(f->host);
	free(f);
	return 0;
}

static void lock_msg(struct msg *q, uint64_t fh, uint64_t owner, uint64_t type, uint64_t start,
		     uint64_t end, uint64_t flags)
{
	*q = (struct msg){0};
	MSG_SET(q, fh, fh);
	MSG_SET(q, owner, owner);
	MSG_SET(q, type, type);
	MSG_SET(q, off, start);
	MSG_SET(q, off2, end);
	MSG_SET(q, flags, flags);
	MSG_SET(q, pid, owner + 1000);
}

static int lock(struct host_client *c, uint64_t fh, uint64_t owner, uint64_t type, uint64_t start,
		uint64_t end, uint64_t flags)
{
	struct msg q, p;

	lock_msg(&q, fh, owner, type, start, end, flags);
	return host_call(c, MSG_SETLK, &q, &p);
}

static void query(struct host_client *c, uint64_t fh, uint64_t owner, uint64_t type, uint64_t start,
		  uint64_t end, struct msg *p)
{
	struct msg q;

	lock_msg(&q, fh, owner, type, start, end, 0);
	assert_int_equal(host_call(c, MSG_GETLK, &q, p), 0);
}

static void flush(struct host_client *c, uint64_t fh, uint64_t owner, uint64_t flags)
{
	struct msg q = {0};

	MSG_SET(&q, fh, fh);
	MSG_SET(&q, owner, owner);
	MSG_SET(&q, flags, flags);
	assert_int_equal(host_call(c, MSG_FLUSH, &q, NULL), 0);
}

/* What a process of the host would get. */
static int host_try(struct fixture *f, short type, off_t start, off_t len)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(f->host, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* Waits until the server lets go of it: the end of a session is not answered. */
static void host_wait(struct fixture *f, short type, off_t start, off_t len)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	(void)alarm(60);
	assert_int_equal(fcntl(f->host, F_OFD_SETLKW, &fl), 0);
	(void)alarm(0);
}

static void test_posix(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c, *other = malloc(sizeof(*other));
	struct msg p;

	assert_int_equal(lock(c, f->fh, 1, RANGE_WRITE, 10, 19, 0), 0);
	/* The same owner through another open file: no conflict, and it may split it. */
	assert_int_equal(lock(c, f->fh2, 1, RANGE_READ, 14, 15, 0), 0);
	assert_int_equal(lock(c, f->fh2, 2, RANGE_READ, 14, 15, 0), 0);
	assert_int_equal(lock(c, f->fh2, 2, RANGE_READ, 10, 10, 0), -EAGAIN);
	assert_int_equal(host_try(f, F_RDLCK, 14, 2), 0);
	assert_int_equal(host_try(f, F_RDLCK, 13, 1), -EAGAIN);
	assert_int_equal(host_try(f, F_RDLCK, 20, 0), 0);

	query(c, f->fh2, 2, RANGE_WRITE, 0, INT64_MAX, &p);
	assert_true(p.type == RANGE_WRITE && p.off == 10 && p.off2 == 13 && p.pid == 1001);
	/* Its own locks are in nobody's way but others'. */
	query(c, f->fh, 1, RANGE_WRITE, 10, 13, &p);
	assert_true(p.type == RANGE_NONE);
	query(c, f->fh, 1, RANGE_WRITE, 30, 40, &p); /* the host's */
	assert_true(p.type == RANGE_READ && p.off == 20 && p.off2 == INT64_MAX && p.pid == 0);

	/* Another guest: a conflict, whose pid means nothing there. */
	host_client_start(other, &f->hs);
	assert_int_equal(host_lookup(other, other->root, "a", &p), 0);
	assert_int_equal(host_open(other, p.node, O_RDWR, &p), 0);
	uint64_t fh = p.fh;
	assert_int_equal(lock(other, fh, 1, RANGE_READ, 10, 10, 0), -EAGAIN);
	query(other, fh, 1, RANGE_READ, 10, 10, &p);
	assert_true(p.type == RANGE_WRITE && p.pid == 0);
	assert_int_equal(lock(other, fh, 1, RANGE_WRITE, 0, 5, 0), 0);
	assert_int_equal(host_try(f, F_RDLCK, 0, 1), -EAGAIN);
	host_client_stop(other);
	free(other);
	host_wait(f, F_RDLCK, 0, 1);

	/* close(2) of either releases the owner's. */
	flush(c, f->fh2, 1, 0);
	assert_int_equal(host_try(f, F_WRLCK, 10, 4), 0);
	assert_int_equal(host_try(f, F_WRLCK, 14, 2), -EAGAIN); /* owner 2 */
	assert_int_equal(lock(c, f->fh2, 2, RANGE_NONE, 0, INT64_MAX, 0), 0);
	assert_int_equal(host_try(f, F_WRLCK, 0, 0), 0);
	assert_int_equal(lock(c, f->fh, 3, RANGE_NONE, 0, INT64_MAX, 0), 0);

	assert_int_equal(lock(c, f->fh, 1, 3, 0, 1, 0), -EINVAL);
	assert_int_equal(lock(c, f->fh, 1, RANGE_READ, 2, 1, 0), -EINVAL);
	assert_int_equal(lock(c, f->fh, 1, RANGE_READ, UINT64_MAX, UINT64_MAX, 0), -EINVAL);
	assert_int_equal(lock(c, 99, 1, RANGE_READ, 0, 1, 0), -EBADF);
}

/* Locks of an open file description of the guest: no FLUSH names their owner. */
static void test_close(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;

	assert_int_equal(lock(c, f->fh, 77, RANGE_WRITE, 0, 9, 0), 0);
	assert_int_equal(lock(c, f->fh, 88, RANGE_WRITE, 0, INT64_MAX, LOCK_BSD), 0);
	flush(c, f->fh, 1, 0);
	assert_int_equal(host_try(f, F_WRLCK, 0, 1), -EAGAIN);
	host_close(c, f->fh2);
	assert_int_equal(lock(c, f->fh, 2, RANGE_WRITE, 0, 1, 0), -EAGAIN);
	assert_int_equal(flock(f->host, LOCK_EX | LOCK_NB), -1);
	host_close(c, f->fh);
	struct msg p;
	assert_int_equal(host_open(c, f->node, O_RDWR, &p), 0); /* in order behind CLOSE */
	assert_int_equal(host_try(f, F_WRLCK, 0, 1), 0);
	assert_int_equal(flock(f->host, LOCK_EX | LOCK_NB), 0);
}

static void test_bsd(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;

	assert_int_equal(lock(c, f->fh, 1, RANGE_WRITE, 0, INT64_MAX, LOCK_BSD), 0);
	assert_int_equal(lock(c, f->fh2, 2, RANGE_READ, 0, INT64_MAX, LOCK_BSD), -EAGAIN);
	/* The two kinds do not see each other, as on Linux. */
	assert_int_equal(lock(c, f->fh2, 2, RANGE_WRITE, 0, INT64_MAX, 0), 0);
	assert_int_equal(flock(f->host, LOCK_SH | LOCK_NB), -1);
	assert_int_equal(lock(c, f->fh, 1, RANGE_READ, 0, INT64_MAX, LOCK_BSD), 0);
	assert_int_equal(lock(c, f->fh2, 2, RANGE_READ, 0, INT64_MAX, LOCK_BSD), 0);
	assert_int_equal(lock(c, f->fh, 1, RANGE_NONE, 0, INT64_MAX, LOCK_BSD), 0);
	flush(c, f->fh2, 2, 0); /* any close: not the BSD lock */
	assert_int_equal(flock(f->host, LOCK_EX | LOCK_NB), -1);
	flush(c, f->fh2, 2, LOCK_CLOSE);
	assert_int_equal(flock(f->host, LOCK_EX | LOCK_NB), 0);
}

static uint64_t wait_for(struct host_client *c, uint64_t fh, uint64_t owner, uint64_t type,
			 uint64_t start, uint64_t end, uint64_t flags)
{
	struct msg q;

	lock_msg(&q, fh, owner, type, start, end, flags | LOCK_WAIT);
	return host_send(c, MSG_SETLK, &q);
}

static void cancel(struct host_client *c, uint64_t id)
{
	struct msg q = {0};

	MSG_SET(&q, id, id);
	host_post(c, MSG_CANCEL, &q);
}

static void expect(struct host_client *c, uint64_t id, int err)
{
	struct msg p;

	assert_true(host_recv(c, &p) == id);
	assert_int_equal(p.err, err);
}

/* Two successes in whatever order: the lock that waited, and what let it go. */
static void expect_both(struct host_client *c, uint64_t a, uint64_t b)
{
	struct msg p;
	uint64_t got = host_recv(c, &p);

	assert_true((got == a || got == b) && p.err == 0);
	got ^= host_recv(c, &p);
	assert_true(got == (a ^ b) && p.err == 0);
}

static uint64_t send_flush(struct host_client *c, uint64_t fh, uint64_t owner)
{
	struct msg q = {0};

	MSG_SET(&q, fh, fh);
	MSG_SET(&q, owner, owner);
	return host_send(c, MSG_FLUSH, &q);
}

static void test_wait(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p;

	/* Granted at once, when there is nobody to wait for. */
	expect(c, wait_for(c, f->fh, 1, RANGE_WRITE, 0, 9, 0), 0);
	uint64_t id = wait_for(c, f->fh2, 2, RANGE_WRITE, 5, 5, 0);
	/* Other requests go on meanwhile. */
	assert_int_equal(host_getattr(c, c->root, &p), 0);
	struct msg q;
	lock_msg(&q, f->fh, 1, RANGE_NONE, 0, INT64_MAX, 0);
	expect_both(c, id, host_send(c, MSG_SETLK, &q));
	assert_int_equal(lock(c, f->fh, 1, RANGE_WRITE, 5, 5, 0), -EAGAIN);

	/* By the host's doing, and for both kinds. */
	assert_int_equal(host_try(f, F_WRLCK, 100, 1), 0);
	id = wait_for(c, f->fh, 1, RANGE_READ, 100, 100, 0);
	assert_int_equal(host_getattr(c, c->root, &p), 0);
	assert_int_equal(host_try(f, F_UNLCK, 100, 1), 0);
	expect(c, id, 0);
	assert_int_equal(flock(f->host, LOCK_EX), 0);
	id = wait_for(c, f->fh, 1, RANGE_WRITE, 0, INT64_MAX, LOCK_BSD);
	assert_int_equal(host_getattr(c, c->root, &p), 0);
	assert_int_equal(flock(f->host, LOCK_UN), 0);
	expect(c, id, 0);
	assert_int_equal(flock(f->host, LOCK_EX | LOCK_NB), -1);
}

static void test_cancel(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;

	assert_int_equal(host_try(f, F_WRLCK, 0, 0), 0);
	assert_int_equal(flock(f->host, LOCK_EX), 0);
	cancel(c, 4711); /* of nothing */
	for (int i = 0; i < 200; i++) {
		/* Sent together: CANCEL must not overtake. */
		uint64_t id = wait_for(c, f->fh, 1, RANGE_WRITE, 0, 9, i % 2 ? LOCK_BSD : 0);

		cancel(c, id);
		expect(c, id, EINTR);
		cancel(c, id); /* too late */
	}
	/* Nothing was left behind. */
	assert_int_equal(host_try(f, F_UNLCK, 0, 0), 0);
	assert_int_equal(host_try(f, F_WRLCK, 0, 0), 0);
}

static void test_too_many(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	uint64_t first = 0;

	assert_int_equal(host_try(f, F_WRLCK, 0, 0), 0);
	for (uint64_t i = 0; i < LOCK_WAITERS_MAX; i++) {
		uint64_t id = wait_for(c, f->fh, i, RANGE_WRITE, 0, 9, 0);

		first = i == 0 ? id : first;
	}
	uint64_t id = wait_for(c, f->fh, 1, RANGE_WRITE, 0, 9, 0);
	expect(c, id, ENOLCK);
	cancel(c, first);
	expect(c, first, EINTR);
	id = wait_for(c, f->fh, 1, RANGE_WRITE, 0, 9, 0);
	cancel(c, id);
	expect(c, id, EINTR);
	/* The rest ends with the session, in teardown. */
}

static void test_deadlock(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p;

	assert_int_equal(host_create(c, c->root, "b", O_RDWR, 0600, &p), 0);
	uint64_t b = p.fh;
	/* 1 has a0, 2 has a1, 3 has b0; 1 waits for 2, 2 for 3, and 3 for 1 would be a circle. */
	assert_int_equal(lock(c, f->fh, 1, RANGE_WRITE, 0, 0, 0), 0);
	assert_int_equal(lock(c, f->fh, 2, RANGE_READ, 1, 1, 0), 0);
	assert_int_equal(lock(c, b, 3, RANGE_WRITE, 0, 0, 0), 0);
	uint64_t id1 = wait_for(c, f->fh, 1, RANGE_WRITE, 1, 1, 0);
	assert_int_equal(host_getattr(c, c->root, &p), 0);
	uint64_t id2 = wait_for(c, b, 2, RANGE_READ, 0, 0, 0);
	assert_int_equal(host_getattr(c, c->root, &p), 0);
	uint64_t id3 = wait_for(c, f->fh, 3, RANGE_READ, 0, 0, 0);
	expect(c, id3, EDEADLK);
	/* No circle: somebody who holds nothing. */
	uint64_t id4 = wait_for(c, f->fh, 4, RANGE_READ, 0, 0, 0);
	assert_int_equal(host_getattr(c, c->root, &p), 0);
	/* 3 gives up: everything runs down. */
	struct msg q;
	lock_msg(&q, b, 3, RANGE_NONE, 0, INT64_MAX, 0);
	expect_both(c, id2, host_send(c, MSG_SETLK, &q));
	expect_both(c, id1, send_flush(c, f->fh, 2));
	expect_both(c, id4, send_flush(c, f->fh, 1));
}

static void test_end_of_session(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = malloc(sizeof(*c));
	struct msg p;

	host_client_start(c, &f->hs);
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	assert_int_equal(host_open(c, p.node, O_RDWR, &p), 0);
	assert_int_equal(host_try(f, F_WRLCK, 0, 10), 0);
	assert_int_equal(lock(c, p.fh, 1, RANGE_WRITE, 20, 29, 0), 0);
	(void)wait_for(c, p.fh, 1, RANGE_WRITE, 0, 9, 0);
	(void)wait_for(c, p.fh, 2, RANGE_WRITE, 0, 9, 0);
	host_client_stop(c);
	free(c);
	host_wait(f, F_WRLCK, 0, 0);
}

/* A program that runs cannot be opened for writing; it can be locked for reading. */
static void test_text_busy(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	char cmd[160];
	struct msg p;

	(void)snprintf(cmd, sizeof(cmd), "cp /bin/sleep %s/sleep", f->hs.dir);
	assert_int_equal(system(cmd), 0);
	(void)snprintf(cmd, sizeof(cmd), "%s/sleep", f->hs.dir);
	int said[2];
	assert_int_equal(pipe2(said, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		(void)execl(cmd, "sleep", "100", (char *)NULL);
		_exit(write(said[1], "", 1) == 1 ? 127 : 126);
	}
	char failed;
	(void)close(said[1]);
	assert_int_equal(read(said[0], &failed, 1), 0); /* closed by the execve */
	(void)close(said[0]);
	int fd = openat(f->hs.fd, "sleep", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) /* Linux 6.11 and 6.12.0 */
		(void)close(fd);
	else
		assert_int_equal(errno, ETXTBSY);
	assert_int_equal(host_lookup(c, c->root, "sleep", &p), 0);
	assert_int_equal(host_open(c, p.node, O_RDONLY, &p), 0);
	assert_int_equal(lock(c, p.fh, 1, RANGE_READ, 0, 9, 0), 0);
	assert_int_equal(lock(c, p.fh, 1, RANGE_READ, 0, INT64_MAX, LOCK_BSD), 0);
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- the range list against a plain array ---- */

static void test_ranges(void **state)
{
	enum { N = 64, STEPS = 20000 };
	struct ranges r = {0};
	uint8_t model[N];
	unsigned seed = 1;

	(void)state;
	memset(model, RANGE_NONE, sizeof(model));
	for (int i = 0; i < STEPS; i++) {
		seed = seed * 1103515245 + 12345;
		uint64_t a = (seed >> 16) % N, b = (seed >> 22) % N;
		enum range_type type = (enum range_type)((seed >> 8) % 3);
		uint64_t start = a < b ? a : b, end = a < b ? b : a;

		assert_int_equal(ranges_set(&r, start, end, type, 7), 0);
		memset(model + start, type, end - start + 1);

		/* In order, apart, joined, and as many as it says. */
		size_t n = 0;
		for (const struct range *x = r.first; x != NULL; x = x->next, n++) {
			assert_true(x->start <= x->end && x->type != RANGE_NONE);
			if (x->next != NULL)
				assert_true(
					x->next->start > x->end + 1 ||
					(x->next->start == x->end + 1 && x->next->type != x->type));
		}
		assert_int_equal(n, r.n);
		for (uint64_t at = 0; at < N; at++) {
			const struct range *w = ranges_conflict(&r, at, at, RANGE_WRITE);
			const struct range *rd = ranges_conflict(&r, at, at, RANGE_READ);

			assert_int_equal(w != NULL ? w->type : RANGE_NONE, model[at]);
			assert_int_equal(rd != NULL, model[at] == RANGE_WRITE);
		}
	}
	assert_null(ranges_conflict(&r, 0, N, RANGE_NONE));
	ranges_clear(&r);
	assert_int_equal(r.n, 0);
	assert_int_equal(ranges_set(&r, 0, INT64_MAX, RANGE_READ, 1), 0);
	assert_int_equal(ranges_set(&r, 5, 5, RANGE_READ, 2), 0);
	assert_int_equal(r.n, 3); /* of different processes */
	assert_int_equal(ranges_set(&r, INT64_MAX, INT64_MAX, RANGE_NONE, 0), 0);
	assert_true(r.first->next->next->end == INT64_MAX - 1);
	ranges_clear(&r);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_posix),	   T(test_close),
		T(test_bsd),	   T(test_wait),
		T(test_cancel),	   T(test_too_many),
		T(test_deadlock),  T(test_end_of_session),
		T(test_text_busy), cmocka_unit_test(test_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
