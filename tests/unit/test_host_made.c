/*
 * Names that somebody on the host removes as soon as they are there: what was asked for has been
 * done, and nobody is told that it was not.
 */
#include "host_fixture.h"

#define NAME "gone"

/* In this process, which is the server too. */
static struct {
	unsigned times; /* that it is still removed */
	bool replace;	/* and a directory put in its place */
} remover;

static int removed(int r, int dir, const char *name, int flags);

#define WRAP(type, fn, params, args, dir, name, flags)                                             \
	type __real_##fn params;                                                                   \
	type __wrap_##fn params;                                                                   \
	type __wrap_##fn params                                                                    \
	{                                                                                          \
		return removed(__real_##fn args, dir, name, flags);                                \
	}
WRAP(int, mkdirat, (int d, const char *n, mode_t m), (d, n, m), d, n, AT_REMOVEDIR)
WRAP(int, mknodat, (int d, const char *n, mode_t m, dev_t v), (d, n, m, v), d, n, 0)
WRAP(int, symlinkat, (const char *t, int d, const char *n), (t, d, n), d, n, 0)
WRAP(int, linkat, (int o, const char *f, int d, const char *n, int g), (o, f, d, n, g), d, n, 0)

static int removed(int r, int dir, const char *name, int flags)
{
	if (r < 0 || strcmp(name, NAME) != 0 || remover.times == 0)
		return r;
	remover.times--;
	assert_int_equal(unlinkat(dir, name, flags), 0);
	return remover.replace ? __real_mkdirat(dir, name, 0700) : r;
}

struct making {
	const char *what;
	uint64_t op, mode;
};

static const struct making makings[] = {
	{"mkdir", MSG_MKNOD, S_IFDIR | 0755},
	{"mknod", MSG_MKNOD, S_IFREG | 0644},
	{"mkfifo", MSG_MKNOD, S_IFIFO | 0644},
	{"symlink", MSG_SYMLINK, 0},
	{"link", MSG_LINK, 0},
};
#define MAKINGS (sizeof(makings) / sizeof(makings[0]))

static int make(struct fixture *f, const struct making *m, struct msg *p)
{
	struct host_client *c = &f->c;
	struct msg q = {0};

	if (m->op == MSG_LINK) {
		host_put(&f->hs, "source", "x");
		assert_int_equal(host_lookup(c, c->root, "source", p), 0);
		MSG_SET(&q, node2, c->root);
		MSG_SET(&q, name2, SLICE(NAME));
	}
	MSG_SET(&q, node, m->op == MSG_LINK ? p->node : c->root);
	MSG_SET(&q, name, SLICE(NAME));
	if (m->op == MSG_MKNOD)
		MSG_SET(&q, mode, m->mode);
	if (m->op == MSG_SYMLINK)
		MSG_SET(&q, payload, SLICE("target"));
	return host_call(c, m->op, &q, p);
}

static void test_made_again(void **state)
{
	struct fixture *f = *state;
	struct msg p;

	for (size_t i = 0; i < MAKINGS; i++) {
		remover.times = 5;
		int r = make(f, &makings[i], &p);
		if (r != 0)
			fail_msg("%s: %d", makings[i].what, r);
		assert_int_equal(host_getattr(&f->c, p.node, &p), 0);
		remover.times = 0;
		(void)unlinkat(f->hs.fd, NAME, 0);
		(void)unlinkat(f->hs.fd, NAME, AT_REMOVEDIR);
	}
}

/* Whoever goes on for ever is not waited for, and the answer still is not that nothing was there.
 */
static void test_never_there(void **state)
{
	struct fixture *f = *state;
	struct msg p;

	for (size_t i = 0; i < MAKINGS; i++) {
		remover.times = UINT32_MAX;
		int r = make(f, &makings[i], &p);
		if (r != (makings[i].op == MSG_LINK ? 0 : -ESTALE))
			fail_msg("%s: %d", makings[i].what, r);
	}
	remover.times = 0;
}

/* Something else has been put in its place: the client did not make that. */
static void test_replaced(void **state)
{
	struct fixture *f = *state;
	struct msg p;

	for (size_t i = 1; i < MAKINGS - 1; i++) {
		remover.times = 1;
		remover.replace = true;
		int r = make(f, &makings[i], &p);
		remover.replace = false;
		remover.times = 0;
		if (r != -EEXIST)
			fail_msg("%s: %d", makings[i].what, r);
		assert_int_equal(unlinkat(f->hs.fd, NAME, AT_REMOVEDIR), 0);
	}
}

/* The directory itself is gone: there nothing can be made. */
static void test_no_directory(void **state)
{
	struct fixture *f = *state;
	struct msg p, q = {0};

	assert_int_equal(mkdirat(f->hs.fd, "d", 0755), 0);
	assert_int_equal(host_lookup(&f->c, f->c.root, "d", &p), 0);
	MSG_SET(&q, node, p.node);
	assert_int_equal(unlinkat(f->hs.fd, "d", AT_REMOVEDIR), 0);
	MSG_SET(&q, name, SLICE(NAME));
	MSG_SET(&q, mode, S_IFDIR | 0755);
	assert_int_equal(host_call(&f->c, MSG_MKNOD, &q, &p), -ENOENT);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_made_again),
		T(test_never_there),
		T(test_replaced),
		T(test_no_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
