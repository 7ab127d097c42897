/*
 * A server with few descriptors: it says so, loses no directory entry, and
 * recovers (CVE-2020-10717, libkrun#505).
 */
#include "host_fixture.h"

#include <dirent.h>
#include <sys/resource.h>

#define FDS 200

/* Names of a listing, and how many came with attributes. */
static unsigned list(struct host_client *c, uint64_t dir, unsigned *ret_nodes)
{
	unsigned n = 0;
	uint64_t off = 0;

	*ret_nodes = 0;
	for (;;) {
		struct msg q = {0}, p;
		struct dir_entry e;

		MSG_SET(&q, node, dir);
		MSG_SET(&q, off, off);
		MSG_SET(&q, size, 16384);
		assert_int_equal(host_call(c, MSG_READDIRPLUS, &q, &p), 0);
		struct slice in = p.payload;
		while (codec_get_entry(&in, &e) == 1) {
			off = e.off;
			n += e.name.len > 2; /* not "." and ".." */
			*ret_nodes += e.node != 0;
		}
		if (p.flags & READDIR_END)
			return n;
	}
}

static void make_files(struct fixture *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "file%u", i);
		host_put(&f->hs, name, "x");
	}
}

static void test_open_files(void **state)
{
	enum { N = FDS };
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	uint64_t fh[N];
	unsigned n = 0, nodes;
	struct msg p;
	int r;

	make_files(f, 2 * FDS);
	assert_int_equal(host_lookup(c, c->root, "file0", &p), 0);
	uint64_t node = p.node;
	while ((r = host_open(c, node, O_RDONLY, &p)) == 0 && n < N)
		fh[n++] = p.fh;
	assert_int_equal(r, -ENFILE);
	assert_true(n > FDS / 8);
	/* Nothing is created that cannot be opened. */
	assert_int_equal(host_create(c, c->root, "new", O_RDWR, 0600, &p), -ENFILE);
	assert_int_equal(host_lookup(c, c->root, "new", &p), -ENOENT);
	/* The rest goes on, more nodes than there are descriptors included. */
	assert_int_equal(list(c, c->root, &nodes), 2 * FDS);
	assert_int_equal(nodes, 2 * FDS);
	for (unsigned i = 0; i < 2 * FDS; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "file%u", i);
		assert_int_equal(host_lookup(c, c->root, name, &p), 0);
	}
	while (n > 0)
		host_close(c, fh[--n]);
	assert_int_equal(host_create(c, c->root, "new", O_RDWR, 0600, &p), 0);
}

/* Unlinked files are kept for those who know them, but not without end. */
static void test_unlinked(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	uint64_t nodes[2 * FDS];
	unsigned kept = 0;
	struct msg p;

	make_files(f, 2 * FDS);
	for (unsigned i = 0; i < 2 * FDS; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "file%u", i);
		assert_int_equal(host_lookup(c, c->root, name, &p), 0);
		nodes[i] = p.node;
		assert_int_equal(host_name_op(c, MSG_UNLINK, c->root, name), 0);
	}
	for (unsigned i = 0; i < 2 * FDS; i++) {
		int r = host_getattr(c, nodes[i], &p);

		assert_true(r == 0 || r == -ESTALE);
		kept += r == 0;
		host_forget(c, nodes[i], 1);
	}
	assert_true(kept >= FDS / 8);
	assert_int_equal(host_create(c, c->root, "new", O_RDWR, 0600, &p), 0);
}

/* With none at all left, names are listed all the same. */
static void test_exhausted(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	int fds[FDS];
	unsigned n = 0, nodes;
	struct msg p;

	make_files(f, 50);
	assert_int_equal(host_getattr(c, c->root, &p), 0);
	while (n < FDS && (fds[n] = dup(f->hs.fd)) >= 0)
		n++;
	assert_int_equal(errno, EMFILE);
	assert_int_equal(host_lookup(c, c->root, "file0", &p), -EMFILE);
	assert_int_equal(host_getattr(c, c->root, &p), 0); /* has one already */
	struct msg q = {0};
	MSG_SET(&q, node, c->root);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, size, 4096);
	assert_int_equal(host_call(c, MSG_READDIRPLUS, &q, &p), -EMFILE);
	(void)close(fds[--n]); /* one for the directory itself */
	assert_int_equal(list(c, c->root, &nodes), 50);
	assert_int_equal(nodes, 0);
	while (n > 0)
		(void)close(fds[--n]);
	assert_int_equal(list(c, c->root, &nodes), 50);
	assert_int_equal(nodes, 50);
}

static unsigned open_now(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n;
}

/* Locks have a fifth of what is not for nodes; also where one takes more than one descriptor. */
static void test_locks(void **state)
{
	enum { SHARE = FDS / 2 / 5 };
	struct fixture *f = *state;
	struct msg p;
	int r = 0;

	make_files(f, 1);
	assert_int_equal(host_lookup(&f->c, f->c.root, "file0", &p), 0);
	assert_int_equal(host_open(&f->c, p.node, O_RDONLY, &p), 0);
	uint64_t fh = p.fh, locks = 0;
	unsigned before = open_now();
	while (r == 0 && locks <= SHARE) {
		struct msg q = {0};

		MSG_SET(&q, fh, fh);
		MSG_SET(&q, owner, locks + 1);
		MSG_SET(&q, type, LOCK_TYPE_READ);
		MSG_SET(&q, off, 0);
		MSG_SET(&q, off2, INT64_MAX);
		MSG_SET(&q, flags, LOCK_BSD);
		r = host_call(&f->c, MSG_SETLK, &q, &p);
		locks += r == 0;
	}
	assert_int_equal(r, -ENOLCK);
	assert_in_range(locks, SHARE / 8, SHARE);
	assert_in_range(open_now() - before, locks, SHARE);
}

/* Each client gets most of what the others have left, and gives it back; some stays for all. */
static void test_granted_files(void **state)
{
	enum { ALL = FDS / 2 / 5 * 3 / 2 }; /* one has half of everything at most */
	struct fixture *f = *state;
	struct host_client *other = calloc(1, sizeof(*other));

	assert_non_null(other);
	assert_false(MSG_HAS(&f->c.hello, files)); /* has not asked */
	host_client_stop(&f->c);
	host_client_start_with(&f->c, &f->hs, HELLO_FILES);
	uint64_t rest = ALL - f->c.hello.files;
	assert_in_range(f->c.hello.files, ALL / 2, ALL);
	host_client_start_with(other, &f->hs, HELLO_FILES);
	uint64_t second = other->hello.files, again = 0;
	assert_in_range(second, rest / 2, rest);
	host_client_stop(other);
	/* the server may not have seen it off yet */
	for (int i = 0; i < 10000 && again != second; i++) {
		host_client_start_with(other, &f->hs, HELLO_FILES);
		again = other->hello.files;
		host_client_stop(other);
	}
	assert_int_equal(again, second);
	free(other);
}

static int setup_few_nodes(void **state)
{
	const struct server_config config = {.nodes_max = 40};

	return start(state, &config);
}

/* One client gets half of what there is, the next of the rest; what goes comes back. */
static void test_nodes(void **state)
{
	struct fixture *f = *state;
	struct host_client *other = calloc(1, sizeof(*other));
	unsigned nodes;
	struct msg p;

	make_files(f, 50);
	assert_int_equal(list(&f->c, f->c.root, &nodes), 50);
	assert_int_equal(nodes, 23); /* and the root */
	assert_int_equal(list(&f->c, f->c.root, &nodes), 50);
	assert_int_equal(nodes, 23); /* those that it has already */
	host_client_start(other, &f->hs);
	assert_int_equal(list(other, other->root, &nodes), 50);
	assert_int_equal(nodes, 6);
	host_client_stop(other);
	host_client_stop(&f->c);
	memset(&f->c, 0, sizeof(f->c));
	host_client_start(&f->c, &f->hs);
	int r = -ENFILE; /* the server may not have seen the others off yet */
	for (int i = 0; i < 100000 && r == -ENFILE; i++)
		for (int n = 0; n < 15; n++) {
			char name[16];

			(void)snprintf(name, sizeof(name), "file%d", n);
			r = host_lookup(&f->c, f->c.root, name, &p);
		}
	assert_int_equal(r, 0);
	free(other);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_open_files),
		T(test_unlinked),
		T(test_granted_files),
		T(test_locks),
		cmocka_unit_test_setup_teardown(test_locks, setup_read_only, teardown),
		cmocka_unit_test_setup_teardown(test_nodes, setup_few_nodes, teardown),
		T(test_exhausted),
	};
	const struct rlimit rl = {FDS, FDS};

	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
