/*
 * Promises, and what breaks them: stamps, INV, ACK, RESET, FENCE.
 *
 * What happens "on the host" is done by another process, because the server
 * passes over its own events; each rule has its negative.
 */
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "host_fixture.h"

static int setup_push(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	host_server_start(&f->hs, NULL);
	host_client_start_push(&f->c, &f->hs);
	*state = f;
	return 0;
}

static int start_remote(void **state, void (*prepare)(void))
{
	struct fixture *f = calloc(1, sizeof(*f));

	host_remote_start(&f->hs, &f->c, prepare);
	*state = f;
	return 0;
}

static int setup_remote(void **state)
{
	return start_remote(state, NULL);
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
		_exit(1);
}

static int setup_unprivileged(void **state)
{
	return start_remote(state, become_nobody);
}

/* False, with a reason, where this machine's fanotify cannot do it. */
static bool watched(const struct fixture *f)
{
	if ((f->c.hello.features & (HELLO_WATCH | HELLO_WATCH_DIRS)) == HELLO_WATCH)
		return true;
	print_message("no file system marks here: not privileged?\n");
	return false;
}

/* ---- another process ---- */

typedef int (*foreign_fn)(int dir);

/* Runs fn in a process of its own; dir is the export. */
static void foreign(const struct fixture *f, foreign_fn fn)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn(f->hs.fd) < 0 ? 1 : 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int write_at_end(int dir, const char *name, int flags, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | flags, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return -1;
	return close(fd);
}

static int prepare(int dir)
{
	if (mkdirat(dir, "d", 0755) < 0 || mkdirat(dir, "e", 0755) < 0 ||
	    mkdirat(dir, "e/empty", 0755) < 0 ||
	    write_at_end(dir, "d/file", O_CREAT, "hello") < 0 ||
	    write_at_end(dir, "d/other", O_CREAT, "other") < 0 ||
	    write_at_end(dir, "../outside", O_CREAT, "outside") < 0)
		return -1;
	return symlinkat("file", dir, "d/link");
}

/* What is one call. */
/* clang-format off */
#define DO(name, call)                                                                             \
	static int do_##name(int d)                                                                \
	{                                                                                          \
		return call;                                                                       \
	}
DO(write, write_at_end(d, "d/file", 0, "HELLO"))
DO(append, write_at_end(d, "d/file", O_APPEND, "more"))
DO(truncate, write_at_end(d, "d/file", O_TRUNC, ""))
DO(chmod, fchmodat(d, "d/file", 0600, 0))
DO(create, write_at_end(d, "d/new", O_CREAT, ""))
DO(unlink, unlinkat(d, "d/file", 0))
DO(rename, renameat(d, "d/file", d, "d/renamed"))
DO(rename_back, renameat(d, "d/renamed", d, "d/file"))
DO(rename_over, renameat(d, "d/other", d, "d/file"))
DO(rename_across, renameat(d, "d/file", d, "e/moved"))
DO(rename_out, renameat(d, "d/file", d, "../gone"))
DO(rename_in, renameat(d, "../outside", d, "d/file"))
DO(mkdir, mkdirat(d, "d/dir", 0755))
DO(rmdir, unlinkat(d, "e/empty", AT_REMOVEDIR))
DO(symlink, symlinkat("target", d, "d/sym"))
DO(link, linkat(d, "d/file", d, "e/second", 0))
DO(write_second, write_at_end(d, "e/second", 0, "HELLO"))
DO(chmod_dir, fchmodat(d, "d", 0700, 0))
DO(unknown, write_at_end(d, "e/unknown", O_CREAT, "x"))
DO(outside, write_at_end(d, "../outside", 0, "x"))
DO(move_within, renameat(d, "a/sub", d, "b/sub"))
DO(move_out, renameat(d, "b/sub", d, "../sub"))
DO(move_back, renameat(d, "../sub", d, "a/sub"))
DO(write_moved, write_at_end(d, "e/moved", 0, "HELLO"))
DO(write_linked, write_at_end(d, "e/linked", 0, "OTHER"))
/* clang-format on */

static int do_utimens(int d)
{
	const struct timespec ts[2] = {{1, 2}, {3, 4}};

	return utimensat(d, "d/file", ts, 0);
}
static int do_mmap(int d)
{
	int fd = openat(d, "d/file", O_RDWR | O_CLOEXEC);
	char *p = mmap(NULL, 5, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (fd < 0 || p == MAP_FAILED)
		return -1;
	p[0] = 'J';
	(void)munmap(p, 5);
	return close(fd);
}
static int do_read(int d)
{
	char buf[5];
	int fd = openat(d, "d/file", O_RDONLY | O_CLOEXEC);

	return read(fd, buf, sizeof(buf)) == 5 ? close(fd) : -1;
}

/* What the client knows of the prepared tree. */
struct known {
	uint64_t d, e, file, other, empty, fh;
};

/* Asks for everything, so that it is promised. */
static void learn(struct host_client *c, struct known *k)
{
	struct msg p;

	(void)host_fence(c); /* what has happened until now breaks nothing of it */
	assert_int_equal(host_lookup(c, c->root, "d", &p), 0);
	k->d = p.node;
	assert_true(MSG_HAS(&p, stamp));
	assert_int_equal(host_lookup(c, c->root, "e", &p), 0);
	k->e = p.node;
	assert_int_equal(host_lookup(c, k->d, "file", &p), 0);
	k->file = p.node;
	assert_int_equal(host_lookup(c, k->d, "other", &p), 0);
	k->other = p.node;
	assert_int_equal(host_lookup(c, k->e, "empty", &p), 0);
	k->empty = p.node;
	assert_int_equal(host_lookup(c, k->d, "new", &p), -ENOENT);
	assert_true(MSG_HAS(&p, stamp));
	assert_int_equal(host_open(c, k->file, O_RDONLY, &p), 0);
	k->fh = p.fh;
	assert_int_equal(host_read(c, k->fh, 0, 100, &p), 0);
	assert_true(MSG_HAS(&p, stamp));
	assert_int_equal(host_getattr(c, k->d, &p), 0);
	assert_int_equal(host_getattr(c, k->e, &p), 0);
	assert_true(MSG_HAS(&p, stamp));
	(void)host_fence(c);
	host_clear(c);
}

/* Node by its place in struct known, so that the table can name it. */
enum who { D, E, FILE_, OTHER, EMPTY, WHOS };

struct expectation {
	const char *what;
	foreign_fn fn;
	struct {
		enum who who;
		uint64_t class;
		const char *name; /* with INV_NAME */
	} told[6];
};

#define ATTR INV_ATTR, NULL
#define BOTH INV_ATTR | INV_DATA, NULL
#define NAME INV_NAME

static const struct expectation changes[] = {
	{"write", do_write, {{FILE_, BOTH}}},
	{"append", do_append, {{FILE_, BOTH}}},
	{"truncate", do_truncate, {{FILE_, BOTH}}},
	{"chmod", do_chmod, {{FILE_, ATTR}}},
	{"utimens", do_utimens, {{FILE_, ATTR}}},
	{"mmap", do_mmap, {{FILE_, BOTH}}},
	{"create", do_create, {{D, NAME, "new"}, {D, ATTR}}},
	{"mkdir", do_mkdir, {{D, NAME, "dir"}, {D, ATTR}}},
	{"symlink", do_symlink, {{D, NAME, "sym"}, {D, ATTR}}},
	{"unlink", do_unlink, {{D, NAME, "file"}, {D, ATTR}, {FILE_, ATTR}}},
	{"rmdir", do_rmdir, {{E, NAME, "empty"}, {E, ATTR}, {EMPTY, ATTR}}},
	{"link", do_link, {{E, NAME, "second"}, {E, ATTR}, {FILE_, ATTR}}},
	{"rename", do_rename, {{D, NAME, "file"}, {D, NAME, "renamed"}, {D, ATTR}, {FILE_, ATTR}}},
	{"rename over",
	 do_rename_over,
	 {{D, NAME, "file"}, {D, NAME, "other"}, {D, ATTR}, {OTHER, ATTR}, {FILE_, ATTR}}},
	{"rename across",
	 do_rename_across,
	 {{D, NAME, "file"}, {E, NAME, "moved"}, {D, ATTR}, {E, ATTR}, {FILE_, ATTR}}},
	{"rename out", do_rename_out, {{D, NAME, "file"}, {D, ATTR}, {FILE_, ATTR}}},
	{"rename in", do_rename_in, {{D, NAME, "file"}, {D, ATTR}, {FILE_, ATTR}}},
	{"chmod of a directory", do_chmod_dir, {{D, ATTR}}},
	/* and the negatives */
	{"read", do_read, {{0}}},
	{"something outside", do_outside, {{0}}},
};

/* Without privileges: see watch.h, and test_host_changes_unprivileged. */
static bool excused(const struct expectation *x, enum who w, uint64_t told, uint64_t expected)
{
	bool rename = strncmp(x->what, "rename", 6) == 0;

	return rename && w == FILE_ && (told == (expected | INV_DATA) || told == 0);
}

static void check_change(const struct fixture *f, const struct known *k,
			 const struct expectation *x, bool privileged)
{
	const uint64_t ids[WHOS] = {k->d, k->e, k->file, k->other, k->empty};
	uint64_t classes[WHOS] = {0};
	size_t names = 0, told_names = 0;

	for (size_t t = 0; t < 6 && x->told[t].class != 0; t++) {
		if (x->told[t].name == NULL) {
			classes[x->told[t].who] |= x->told[t].class;
			continue;
		}
		names++;
		if (host_told(&f->c, ids[x->told[t].who], x->told[t].name) == 0)
			fail_msg("%s: nothing about the name %s", x->what, x->told[t].name);
	}
	for (enum who w = 0; w < WHOS; w++) {
		uint64_t told = host_told(&f->c, ids[w], NULL);

		if (told != classes[w] && (privileged || !excused(x, w, told, classes[w])))
			fail_msg("%s: of node %d %llu was told, not %llu", x->what, (int)w,
				 (unsigned long long)told, (unsigned long long)classes[w]);
	}
	for (size_t n = 0; n < f->c.n_inv; n++)
		told_names += (f->c.inv[n].class & INV_NAME) != 0;
	assert_int_equal(told_names, names);
	assert_int_equal(f->c.n_resets, 0);
	assert_int_equal(f->c.n_wanted, 0);
}

static void test_host_changes(void **state)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct fixture *f;
		struct known k;

		(void)setup_push(state);
		f = *state;
		if (!watched(f)) {
			(void)teardown(state);
			skip();
		}
		foreign(f, prepare);
		learn(&f->c, &k);
		foreign(f, changes[i].fn);
		(void)host_fence(&f->c);
		check_change(f, &k, &changes[i], true);
		(void)teardown(state);
	}
}

/*
 * The same with marks on objects. Of a file that is replaced by a rename no
 * directory's mark tells, and one that is renamed gives up its content too.
 */
static void test_host_changes_unprivileged(void **state)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct fixture *f;
		struct known k;

		(void)setup_unprivileged(state);
		f = *state;
		if (!(f->c.hello.features & HELLO_WATCH_DIRS)) {
			print_message("no marks on objects here\n");
			(void)teardown(state);
			skip();
		}
		assert_int_equal(prepare(f->hs.fd), 0);
		learn(&f->c, &k);
		assert_int_equal(changes[i].fn(f->hs.fd) < 0, 0);
		(void)host_fence(&f->c);
		check_change(f, &k, &changes[i], false);
		(void)teardown(state);
	}
}

static void few_files(void)
{
	const struct rlimit rl = {256, 256};

	become_nobody();
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		_exit(1);
}

static int setup_few_marks(void **state)
{
	return start_remote(state, few_files);
}

/* Only so many directories are promised; forgotten ones make room. */
static void test_few_marks(void **state)
{
	enum { DIRS = 64 };
	struct fixture *f = *state;
	uint64_t node[DIRS];
	int promised = 0;
	struct msg p;

	if (!(f->c.hello.features & HELLO_WATCH_DIRS))
		skip();
	for (int i = 0; i < 2 * DIRS; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "d%d", i % DIRS);
		if (i < DIRS) {
			assert_int_equal(mkdirat(f->hs.fd, name, 0755), 0);
			continue;
		}
		if (i == DIRS)
			(void)host_fence(&f->c);
		assert_int_equal(host_lookup(&f->c, f->c.root, name, &p), 0);
		node[i - DIRS] = p.node;
		if (MSG_HAS(&p, stamp))
			assert_int_equal(promised++, i - DIRS);
	}
	assert_in_range(promised, 1, DIRS - 1);
	assert_int_equal(host_getattr(&f->c, node[DIRS - 1], &p), 0);
	assert_false(MSG_HAS(&p, stamp));
	host_forget(&f->c, node[0], 1);
	expect_forgotten(&f->c, node[0]);
	assert_int_equal(host_getattr(&f->c, node[DIRS - 1], &p), 0);
	assert_true(MSG_HAS(&p, stamp));
	(void)host_fence(&f->c);
	host_clear(&f->c);
	assert_int_equal(fchmodat(f->hs.fd, "d63", 0700, 0), 0);
	assert_int_equal(fchmodat(f->hs.fd, "d1", 0700, 0), 0);
	assert_int_equal(fchmodat(f->hs.fd, "d0", 0700, 0), 0);
	(void)host_fence(&f->c);
	assert_int_equal(host_told(&f->c, node[DIRS - 1], NULL), INV_ATTR);
	assert_int_equal(host_told(&f->c, node[1], NULL), INV_ATTR);
	assert_int_equal(host_told(&f->c, node[0], NULL), 0);
}

/* A file with two names has a mark of its own: the other name may be anywhere. */
static void test_hard_link(void **state)
{
	struct fixture *f = *state;
	struct msg p;

	if (!(f->c.hello.features & HELLO_WATCH))
		skip();
	foreign(f, prepare);
	foreign(f, do_link);
	(void)host_fence(&f->c);
	assert_int_equal(host_lookup(&f->c, f->c.root, "d", &p), 0);
	assert_int_equal(host_lookup(&f->c, p.node, "file", &p), 0);
	assert_true(MSG_HAS(&p, stamp));
	uint64_t file = p.node;
	foreign(f, do_write_second);
	(void)host_fence(&f->c);
	assert_int_equal(host_told(&f->c, file, NULL), INV_ATTR);
}

/*
 * The host has linked the file to the new name just before: rename(2) of two names of one
 * file leaves both, and whoever asked for it takes the old one for gone.
 */
static void test_rename_to_itself(void **state)
{
	struct fixture *f = *state;
	struct msg q = {0}, p;
	struct known k;

	foreign(f, prepare);
	learn(&f->c, &k);
	foreign(f, do_link);
	(void)host_fence(&f->c);
	host_clear(&f->c);
	MSG_SET(&q, node, k.d);
	MSG_SET(&q, name, SLICE("file"));
	MSG_SET(&q, node2, k.e);
	MSG_SET(&q, name2, SLICE("second"));
	assert_int_equal(host_call(&f->c, MSG_RENAME, &q, &p), 0);
	assert_int_equal(host_lookup(&f->c, k.d, "file", &p), 0);
	(void)host_fence(&f->c);
	assert_true(host_told(&f->c, k.d, "file") & INV_NAME);
	/* one that takes the old name away is the client's own, and not told */
	host_clear(&f->c);
	MSG_SET(&q, name2, SLICE("third"));
	assert_int_equal(host_call(&f->c, MSG_RENAME, &q, &p), 0);
	(void)host_fence(&f->c);
	assert_int_equal(host_told(&f->c, k.d, "file"), 0);
}

/* A promise is broken once; what was not promised is not told. */
static void test_content_with_open_is_promised(void **state)
{
	struct fixture *f = *state;
	struct known k;

	if (!watched(f))
		skip();
	foreign(f, prepare);
	learn(&f->c, &k);
	for (uint64_t size = 0; size <= 100; size += 100) { /* 0: its content is not asked for */
		struct msg q = {0}, p;

		foreign(f, do_append); /* uses up what was promised before */
		(void)host_fence(&f->c);
		host_clear(&f->c);
		MSG_SET(&q, node, k.file);
		MSG_SET(&q, flags, O_RDONLY);
		MSG_SET(&q, size, size);
		assert_int_equal(host_call(&f->c, MSG_OPEN, &q, &p), 0);
		assert_true(MSG_HAS(&p, stamp));
		assert_int_equal(MSG_HAS(&p, payload), size > 0);
		foreign(f, do_append);
		(void)host_fence(&f->c);
		assert_int_equal(host_told(&f->c, k.file, NULL) & INV_DATA,
				 size > 0 ? INV_DATA : 0);
	}
}

static void test_consumed(void **state)
{
	struct fixture *f = *state;
	struct known k;
	struct msg p;

	if (!watched(f))
		skip();
	foreign(f, prepare);
	learn(&f->c, &k);
	foreign(f, do_chmod);
	(void)host_fence(&f->c);
	assert_int_equal(host_told(&f->c, k.file, NULL), INV_ATTR);
	host_clear(&f->c);
	foreign(f, do_utimens);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_inv, 0);
	assert_int_equal(host_getattr(&f->c, k.file, &p), 0);
	assert_true(MSG_HAS(&p, stamp) && p.stamp == f->c.seq);
	foreign(f, do_utimens);
	(void)host_fence(&f->c);
	assert_int_equal(host_told(&f->c, k.file, NULL), INV_ATTR);
	host_clear(&f->c);
	/* names stay promised */
	foreign(f, do_create);
	foreign(f, do_mkdir);
	(void)host_fence(&f->c);
	assert_int_equal(host_told(&f->c, k.d, "new"), INV_NAME);
	assert_int_equal(host_told(&f->c, k.d, "dir"), INV_NAME);
	host_clear(&f->c);
	/* in e only "empty" was looked up: so its names are promised, but not this file */
	foreign(f, do_unknown);
	(void)host_fence(&f->c);
	assert_int_equal(host_told(&f->c, k.e, "unknown"), INV_NAME);
	host_forget(&f->c, k.e, 1);
	expect_forgotten(&f->c, k.e);
	host_clear(&f->c);
	foreign(f, do_unknown);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_inv, 0);
}

/* A client that does not take pushes gets none, and no stamps. */
static void test_no_push(void **state)
{
	struct fixture *f = *state;
	struct host_client c;
	struct msg p;

	foreign(f, prepare);
	host_client_start(&c, &f->hs);
	assert_int_equal(c.hello.features & (HELLO_PUSH | HELLO_WATCH), 0);
	assert_int_equal(host_lookup(&c, c.root, "d", &p), 0);
	assert_false(MSG_HAS(&p, stamp));
	assert_int_equal(host_lookup(&c, p.node, "file", &p), 0);
	foreign(f, do_write);
	assert_int_equal(host_fence(&c), 0);
	assert_int_equal(c.n_inv, 0);
	host_client_stop(&c);
}

/* ---- fences ---- */

#define FENCE_FILES 300

static int touch_all(int dir)
{
	for (int i = 0; i < FENCE_FILES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		if (write_at_end(dir, name, 0, "x") < 0)
			return -1;
	}
	return 0;
}

static int make_all(int dir)
{
	for (int i = 0; i < FENCE_FILES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		if (write_at_end(dir, name, O_CREAT, "") < 0)
			return -1;
	}
	return 0;
}

static void know_all(struct fixture *f, uint64_t node[FENCE_FILES])
{
	struct msg p;

	for (int i = 0; i < FENCE_FILES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(host_lookup(&f->c, f->c.root, name, &p), 0);
		node[i] = p.node;
	}
	(void)host_fence(&f->c);
	host_clear(&f->c);
}

static void test_fence(void **state)
{
	struct fixture *f = *state;
	uint64_t node[FENCE_FILES];
	struct msg p, q = {0};

	if (!watched(f))
		skip();
	foreign(f, make_all);
	(void)host_fence(&f->c);
	for (int round = 0; round < 20; round++) {
		know_all(f, node);
		foreign(f, touch_all);
		/* PING is a fence as well */
		if (round % 2 == 0)
			(void)host_fence(&f->c);
		else
			assert_int_equal(host_call(&f->c, MSG_PING, &q, &p), 0);
		for (int i = 0; i < FENCE_FILES; i++)
			assert_int_equal(host_told(&f->c, node[i], NULL) & INV_ATTR, INV_ATTR);
	}
}

/* ---- what synchronises ---- */

/* A lock of the whole file by one that waits for it, or does not. */
static int set_lock(struct host_client *c, uint64_t fh, enum lock_type type, uint64_t flags)
{
	struct msg q = {0};

	MSG_SET(&q, fh, fh);
	MSG_SET(&q, owner, 1);
	MSG_SET(&q, pid, 1);
	MSG_SET(&q, type, type);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, off2, INT64_MAX);
	if (flags != 0)
		MSG_SET(&q, flags, flags);
	return host_call(c, MSG_SETLK, &q, NULL);
}

static int make_name(struct fixture *f, uint64_t op, const char *name, uint64_t node)
{
	struct msg q = {0};

	MSG_SET(&q, node, op == MSG_LINK ? node : f->c.root);
	if (op == MSG_LINK) {
		MSG_SET(&q, node2, f->c.root);
		MSG_SET(&q, name2, SLICE(name));
	} else {
		MSG_SET(&q, name, SLICE(name));
	}
	if (op == MSG_MKNOD)
		MSG_SET(&q, mode, S_IFDIR | 0755);
	if (op == MSG_SYMLINK)
		MSG_SET(&q, payload, SLICE("x"));
	if (op == MSG_RENAME) {
		MSG_SET(&q, node2, f->c.root);
		MSG_SET(&q, name2, SLICE("moved"));
	}
	return host_call(&f->c, op, &q, NULL);
}

enum { SYNCHRONISING = 11 };

static int synchronise(struct fixture *f, int how, uint64_t fh, uint64_t node)
{
	struct msg p;

	switch (how) {
	case 0:
		return set_lock(&f->c, fh, LOCK_TYPE_READ, 0);
	case 1: /* upgraded */
		return set_lock(&f->c, fh, LOCK_TYPE_WRITE, LOCK_WAIT);
	case 2:
		return set_lock(&f->c, fh, LOCK_TYPE_READ, 0);
	case 3:
		return set_lock(&f->c, fh, LOCK_TYPE_WRITE, LOCK_BSD | LOCK_WAIT);
	case 4:
		return host_create(&f->c, f->c.root, "created", O_WRONLY | O_EXCL, 0644, &p);
	case 5:
		return make_name(f, MSG_MKNOD, "dir", 0);
	case 6:
		return make_name(f, MSG_SYMLINK, "symlink", 0);
	case 7:
		return make_name(f, MSG_LINK, "linked", node);
	case 8:
		return make_name(f, MSG_RENAME, "linked", 0);
	case 9:
		return make_name(f, MSG_UNLINK, "moved", 0);
	default:
		return make_name(f, MSG_RMDIR, "dir", 0);
	}
}

/* All that the host had done is told before the reply, without a fence. */
static void test_synchronises(void **state)
{
	struct fixture *f = *state;
	uint64_t node[FENCE_FILES];
	struct msg p;

	if (!watched(f))
		skip();
	foreign(f, make_all);
	(void)host_fence(&f->c);
	know_all(f, node);
	assert_int_equal(host_open(&f->c, node[0], O_RDWR, &p), 0);
	uint64_t fh = p.fh;
	for (int how = 0; how < SYNCHRONISING; how++) {
		know_all(f, node);
		foreign(f, touch_all);
		assert_int_equal(synchronise(f, how, fh, node[0]), 0);
		for (int i = 0; i < FENCE_FILES; i++)
			assert_int_equal(host_told(&f->c, node[i], NULL) & INV_ATTR, INV_ATTR);
	}
}

/* More than 64 names of one directory at once are all of them. */
static void test_collapse(void **state)
{
	struct fixture *f = *state;
	struct msg p;

	if (!watched(f))
		skip();
	assert_int_equal(host_lookup(&f->c, f->c.root, "f1", &p), -ENOENT);
	assert_true(MSG_HAS(&p, stamp));
	foreign(f, make_all);
	(void)host_fence(&f->c);
	size_t names = 0;
	bool all = false;
	for (size_t i = 0; i < f->c.n_inv; i++) {
		assert_int_equal(f->c.inv[i].node, f->c.root);
		names += (f->c.inv[i].class & INV_NAME) != 0;
		all = all || (f->c.inv[i].class & INV_NAMES);
	}
	assert_true(all || names == FENCE_FILES);
}

/* ---- what is lost, and what is revoked ---- */

/* While the server is stopped its queue overflows: then nothing is promised any more. */
static void test_overflow(void **state)
{
	struct fixture *f = *state;
	struct known k;
	int max = 0, status;
	char name[32];
	FILE *limit = fopen("/proc/sys/fs/fanotify/max_queued_events", "re");
	struct msg p;

	if (!watched(f) || limit == NULL || fscanf(limit, "%d", &max) != 1 || max > 50000) {
		print_message("a queue of %d events is too long to fill\n", max);
		if (limit != NULL)
			(void)fclose(limit);
		skip();
	}
	(void)fclose(limit);
	assert_int_equal(prepare(f->hs.fd), 0);
	learn(&f->c, &k);
	assert_int_equal(kill(f->hs.pid, SIGSTOP), 0);
	assert_int_equal(waitpid(f->hs.pid, &status, WUNTRACED), f->hs.pid);
	for (int i = 0; i < max + 100; i++) {
		(void)snprintf(name, sizeof(name), "../x%d", i);
		assert_int_equal(symlinkat("t", f->hs.fd, name), 0);
		assert_int_equal(unlinkat(f->hs.fd, name, 0), 0);
	}
	assert_int_equal(do_chmod(f->hs.fd), 0); /* its event is lost */
	assert_int_equal(kill(f->hs.pid, SIGCONT), 0);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_resets, 1);
	/* and it goes on */
	assert_int_equal(host_getattr(&f->c, k.file, &p), 0);
	assert_true(MSG_HAS(&p, stamp) && p.stamp >= f->c.seq);
	host_clear(&f->c);
	assert_int_equal(do_utimens(f->hs.fd), 0);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_resets, 0);
	assert_int_equal(host_told(&f->c, k.file, NULL), INV_ATTR);
}

static int setup_mounts(void **state)
{
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		*state = NULL;
	return setup_remote(state);
}

/* What is mounted inside changes what names lead to, and is watched as well. */
static void test_mount(void **state)
{
	struct fixture *f = *state;
	char where[96];
	struct known k;
	struct msg p;

	if (!watched(f))
		skip();
	assert_int_equal(prepare(f->hs.fd), 0);
	learn(&f->c, &k);
	(void)snprintf(where, sizeof(where), "%s/d", f->hs.dir);
	assert_int_equal(mount("none", where, "tmpfs", 0, NULL), 0);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_resets, 1);
	assert_int_equal(host_lookup(&f->c, f->c.root, "d", &p), 0);
	assert_true(MSG_HAS(&p, stamp) && p.node != k.d);
	assert_int_equal(host_lookup(&f->c, p.node, "new", &p), -ENOENT);
	assert_true(MSG_HAS(&p, stamp));
	host_clear(&f->c);
	assert_int_equal(do_create(f->hs.fd), 0);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_resets, 0);
	assert_int_equal(f->c.n_inv, 1);
	assert_string_equal(f->c.inv[0].name, "new");
	assert_int_equal(umount2(where, MNT_DETACH), 0);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_resets, 1);
	/* one elsewhere is nobody's business */
	host_clear(&f->c);
	(void)snprintf(where, sizeof(where), "%s/away", f->hs.base);
	assert_int_equal(mkdir(where, 0755), 0);
	assert_int_equal(mount("none", where, "tmpfs", 0, NULL), 0);
	(void)host_fence(&f->c);
	assert_int_equal(umount(where), 0);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_resets, 0);
}

static int prepare_deep(int d)
{
	if (mkdirat(d, "a", 0755) < 0 || mkdirat(d, "b", 0755) < 0 ||
	    mkdirat(d, "a/sub", 0755) < 0 || mkdirat(d, "a/sub/deep", 0755) < 0 ||
	    write_at_end(d, "a/sub/deep/open", O_CREAT, "still") < 0)
		return -1;
	return write_at_end(d, "a/sub/deep/file", O_CREAT, "x");
}

/* What is moved out of the export, and all below it, is nobody's any more, but for open files. */
static void test_moved_out(void **state)
{
	struct fixture *f = *state;
	struct msg p;
	uint64_t a, sub, deep, file, open_file, fh;

	if (!(f->c.hello.features & HELLO_WATCH))
		skip();
	foreign(f, prepare_deep);
	assert_int_equal(host_lookup(&f->c, f->c.root, "a", &p), 0);
	a = p.node;
	assert_int_equal(host_lookup(&f->c, a, "sub", &p), 0);
	sub = p.node;
	assert_int_equal(host_lookup(&f->c, sub, "deep", &p), 0);
	deep = p.node;
	assert_int_equal(host_lookup(&f->c, deep, "file", &p), 0);
	file = p.node;
	assert_int_equal(host_lookup(&f->c, deep, "open", &p), 0);
	open_file = p.node;
	assert_int_equal(host_open(&f->c, open_file, O_RDONLY, &p), 0);
	fh = p.fh;
	foreign(f, do_move_within);
	(void)host_fence(&f->c);
	if (!(f->c.hello.features & HELLO_WATCH_DIRS)) { /* else it is found by its name only */
		assert_int_equal(host_getattr(&f->c, sub, &p), 0);
		assert_int_equal(host_getattr(&f->c, file, &p), 0);
	}
	foreign(f, do_move_out);
	(void)host_fence(&f->c);
	assert_int_equal(host_getattr(&f->c, sub, &p), -ESTALE);
	assert_int_equal(host_getattr(&f->c, deep, &p), -ESTALE);
	assert_int_equal(host_getattr(&f->c, file, &p), -ESTALE);
	assert_int_equal(host_lookup(&f->c, deep, "file", &p), -ESTALE);
	assert_int_equal(host_open(&f->c, file, O_RDONLY, &p), -ESTALE);
	assert_int_equal(host_getattr(&f->c, open_file, &p), 0);
	assert_int_equal(host_read(&f->c, fh, 0, 100, &p), 0);
	assert_int_equal(p.payload.len, 5);
	assert_int_equal(host_getattr(&f->c, a, &p), 0);
	foreign(f, do_move_back);
	(void)host_fence(&f->c);
	assert_int_equal(host_lookup(&f->c, a, "sub", &p), 0);
	assert_int_equal(p.node, sub);
	assert_int_equal(host_getattr(&f->c, file, &p), 0);
}

/* A single file that leaves is gone too; one that is renamed is not. */
static void test_file_moved_out(void **state)
{
	struct fixture *f = *state;
	struct known k;
	struct msg p;

	if (!watched(f))
		skip();
	foreign(f, prepare);
	learn(&f->c, &k);
	host_close(&f->c, k.fh);
	foreign(f, do_rename);
	(void)host_fence(&f->c);
	assert_int_equal(host_getattr(&f->c, k.file, &p), 0);
	foreign(f, do_rename_back);
	foreign(f, do_rename_out);
	(void)host_fence(&f->c);
	assert_int_equal(host_getattr(&f->c, k.file, &p), -ESTALE);
}

/* ---- against somebody who replaces names all the time ---- */

/* A process that runs fn again and again until race_stop. */
static pid_t race_start(const struct fixture *f, foreign_fn fn)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		_exit(1);
	while (pid == 0)
		(void)fn(f->hs.fd);
	return pid;
}

static void race_stop(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int do_replace(int d)
{
	if (write_at_end(d, "fresh", O_CREAT, "x") < 0)
		return -1;
	return renameat(d, "fresh", d, "name");
}

static int do_replace_by_dir(int d)
{
	(void)unlinkat(d, "name", 0);
	(void)mkdirat(d, "name", 0755);
	return unlinkat(d, "name", AT_REMOVEDIR);
}

/* open(O_CREAT) of a name that is there all the time, if never the same file, succeeds. */
static void test_create_race(void **state)
{
	struct fixture *f = *state;
	struct msg p;

	foreign(f, do_replace);
	pid_t pid = race_start(f, do_replace);
	for (int i = 0; i < 1000; i++) {
		host_clear(&f->c);
		assert_int_equal(host_create(&f->c, f->c.root, "name", O_RDWR, 0600, &p), 0);
		host_close(&f->c, p.fh);
		host_forget(&f->c, p.node, 1);
	}
	race_stop(pid);
}

/* What is made is told of, or it is gone already; never something else. */
static void test_make_race(void **state)
{
	struct fixture *f = *state;
	int made = 0;
	struct msg p;

	pid_t pid = race_start(f, do_replace_by_dir);
	for (int i = 0; i < 1000; i++) {
		host_clear(&f->c);
		int r = host_mknod(&f->c, "name", S_IFIFO | 0600, &p);

		assert_true(r == 0 || r == -ENOENT || r == -EEXIST);
		if (r != 0)
			continue;
		made++;
		assert_true(S_ISFIFO(p.attr.mode));
		host_forget(&f->c, p.node, 1);
	}
	race_stop(pid);
	assert_true(made > 0);
}

static void test_directories(void **state)
{
	struct fixture *f = *state;
	struct msg p, q = {0};

	foreign(f, prepare);
	assert_int_equal(host_create(&f->c, f->c.root, "d", O_RDWR, 0600, &p), -EISDIR);
	assert_int_equal(host_lookup(&f->c, f->c.root, "e", &p), 0);
	assert_int_equal(host_lookup(&f->c, p.node, "empty", &p), 0);
	MSG_SET(&q, node, p.node);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, size, 4096);
	assert_int_equal(host_call(&f->c, MSG_READDIRPLUS, &q, &p), 0);
	assert_true(MSG_HAS(&p, stamp));
	foreign(f, do_rmdir);
	int r = host_call(&f->c, MSG_READDIRPLUS, &q, &p);
	assert_true(r == -ENOENT || (r == 0 && p.payload.len == 0));
	/* one that was never told of is another matter */
	MSG_SET(&q, node, 12345);
	assert_int_equal(host_call(&f->c, MSG_READDIRPLUS, &q, &p), -ESTALE);
}

/* ---- two clients ---- */

static void start_second(struct fixture *f, struct host_client *c)
{
	host_client_start_push(c, &f->hs);
	assert_true(c->hello.features & HELLO_PUSH);
}

/* Receives in the background, so that it acknowledges. */
struct listener {
	pthread_t thread;
	struct host_client *c;
};

static void *listen_main(void *arg)
{
	struct host_client *c = arg;
	const char *why;

	for (;;) {
		struct msg m = {0};

		if (stream_recv(c->stream, &c->head, &m, &why) < 0)
			return NULL;
		if (MSG_HAS(&m, payload)) {
			if (stream_recv_payload(c->stream, c->payload, m.payload.len) < 0)
				return NULL;
			m.payload.data = c->payload;
		}
		if (MSG_HAS(&m, id))
			return NULL; /* the reply of listen_stop */
		host_record(c, &m);
	}
}

static void listen_start(struct listener *l, struct host_client *c)
{
	l->c = c;
	assert_int_equal(pthread_create(&l->thread, NULL, listen_main, c), 0);
}

/* What was sent until now is recorded. */
static void listen_stop(struct listener *l)
{
	struct msg q = {0};

	(void)host_send(l->c, MSG_FENCE, &q);
	assert_int_equal(pthread_join(l->thread, NULL), 0);
}

static void setattr_mode(struct host_client *c, uint64_t node, uint64_t mode)
{
	struct msg q = {0};

	MSG_SET(&q, node, node);
	MSG_SET(&q, valid, SET_MODE);
	MSG_SET(&q, mode, mode);
	assert_int_equal(host_call(c, MSG_SETATTR, &q, NULL), 0);
}

static void rename_within(struct host_client *c, uint64_t dir, const char *from, const char *to)
{
	struct msg q = {0};

	MSG_SET(&q, node, dir);
	MSG_SET(&q, name, SLICE(from));
	MSG_SET(&q, node2, dir);
	MSG_SET(&q, name2, SLICE(to));
	assert_int_equal(host_call(c, MSG_RENAME, &q, NULL), 0);
}

/* Each change by one client is told to the other, before the reply, and not to itself. */
static void test_other_client(void **state)
{
	struct fixture *f = *state;
	struct listener l;
	struct host_client *other = calloc(1, sizeof(*other));
	struct known mine, theirs;
	struct msg p, q = {0};

	foreign(f, prepare);
	start_second(f, other);
	learn(&f->c, &mine);
	learn(other, &theirs);
	assert_int_equal(mine.file, theirs.file);

	listen_start(&l, other);
	assert_int_equal(host_open(&f->c, mine.file, O_RDWR, &p), 0);
	uint64_t fh = p.fh;
	assert_int_equal(host_write(&f->c, fh, 0, "x", 0, &p), 0);
	assert_int_equal(other->n_wanted, 1); /* acknowledged before the reply came */
	assert_int_equal(host_told(other, theirs.file, NULL), INV_ATTR | INV_DATA);
	listen_stop(&l);

	learn(other, &theirs);
	listen_start(&l, other);
	setattr_mode(&f->c, mine.other, 0600);
	assert_int_equal(host_told(other, theirs.other, NULL), INV_ATTR);
	assert_int_equal(host_create(&f->c, mine.d, "new", O_RDWR, 0644, &p), 0);
	assert_int_equal(host_told(other, theirs.d, "new"), INV_NAME);
	assert_int_equal(host_told(other, theirs.d, NULL), INV_ATTR);
	assert_int_equal(host_name_op(&f->c, MSG_UNLINK, mine.d, "other"), 0);
	assert_int_equal(host_told(other, theirs.d, "other"), INV_NAME);
	rename_within(&f->c, mine.d, "file", "renamed");
	assert_int_equal(host_told(other, theirs.d, "file"), INV_NAME);
	assert_int_equal(host_told(other, theirs.d, "renamed"), INV_NAME);
	assert_int_equal(host_told(other, theirs.file, NULL), INV_ATTR);
	assert_int_equal(host_name_op(&f->c, MSG_RMDIR, mine.e, "empty"), 0);
	assert_int_equal(host_told(other, theirs.e, "empty"), INV_NAME);
	assert_int_equal(host_told(other, theirs.empty, NULL), INV_ATTR);
	MSG_SET(&q, fh, fh);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, size, 4096);
	assert_int_equal(host_call(&f->c, MSG_FALLOCATE, &q, &p), 0);
	assert_int_equal(host_told(other, theirs.file, NULL), INV_ATTR | INV_DATA);
	listen_stop(&l);

	/* nothing of all that came back */
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_inv, 0);
	host_client_stop(other);
	free(other);
}

struct renamer {
	struct host_client *c;
	pthread_barrier_t turn;
	_Atomic bool done;
};

enum { TURNS = 1500 };

static void *renamer_main(void *arg)
{
	struct renamer *r = arg;

	for (int i = 0; i < TURNS; i++) {
		(void)pthread_barrier_wait(&r->turn);
		rename_within(r->c, r->c->root, "x", "v");
		r->done = true;
		(void)pthread_barrier_wait(&r->turn);
	}
	return NULL;
}

/* One client replaces a name that the other has made just then: that one hears of the lost link. */
static void test_replaced_as_it_is_made(void **state)
{
	struct fixture *f = *state;
	struct host_client *other = calloc(1, sizeof(*other));
	struct renamer r = {.c = other};
	struct msg p, q = {0};
	unsigned replaced = 0;
	pthread_t thread;

	assert_non_null(other);
	host_client_start(other, &f->hs);
	host_put(&f->hs, "f", "f");
	assert_int_equal(host_lookup(&f->c, f->c.root, "f", &p), 0);
	uint64_t file = p.node;
	MSG_SET(&q, node, file);
	MSG_SET(&q, node2, f->c.root);
	MSG_SET(&q, name2, SLICE("v"));
	assert_int_equal(pthread_barrier_init(&r.turn, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, renamer_main, &r), 0);
	for (int i = 0; i < TURNS; i++) {
		struct stat st;

		host_put(&f->hs, "x", "x");
		r.done = false;
		host_clear(&f->c);
		(void)pthread_barrier_wait(&r.turn);
		int e = host_call(&f->c, MSG_LINK, &q, &p);
		while (!r.done) /* takes what is pushed meanwhile */
			assert_int_equal(host_getattr(&f->c, f->c.root, &p), 0);
		(void)host_fence(&f->c);
		assert_int_equal(fstatat(f->hs.fd, "f", &st, 0), 0);
		assert_int_equal(st.st_nlink, 1);
		if (e == 0) {
			replaced++;
			assert_true((host_told(&f->c, file, NULL) & INV_ATTR) != 0 ||
				    f->c.n_resets > 0);
		}
		(void)pthread_barrier_wait(&r.turn);
		assert_int_equal(unlinkat(f->hs.fd, "v", 0), 0);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(pthread_barrier_destroy(&r.turn), 0);
	print_message("%u of %d links were replaced at once\n", replaced, TURNS);
	host_client_stop(other);
	free(other);
}

/* A server without privileges in this process, for a second client. */
static int setup_nobody(void **state)
{
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	return setup_push(state);
}

static int teardown_nobody(void **state)
{
	int r = teardown(state);

	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	return r;
}

static void plain_call(struct host_client *plain, const struct plain_request *q)
{
	struct plain_buf out = {0};
	struct plain_reply reply;
	unsigned char *buf = NULL;
	size_t cap = 0, len = 0;
	const char *why;

	assert_int_equal(plain_request_encode(q, &out), 0);
	assert_int_equal(stream_send_plain(plain->stream, out.data, out.len), 0);
	plain_buf_done(&out);
	assert_int_equal(stream_recv_plain(plain->stream, 65536, &buf, &cap, &len, -1), 0);
	assert_int_equal(plain_reply_decode(buf, len, &reply, &why), 0);
	assert_int_equal(reply.err, 0);
	free(buf);
}

/* A client of the plain protocol breaks promises as well. */
static void test_plain_client(void **state)
{
	struct fixture *f = *state;
	struct host_client *plain = calloc(1, sizeof(*plain));
	struct plain_request q = {.op = PLAIN_SETATTR, .mode = 0600};
	struct listener l;
	struct known k;

	foreign(f, prepare);
	learn(&f->c, &k);
	listen_start(&l, &f->c);
	host_client_connect(plain, &f->hs);
	q.path = SLICE("/workspace/d/file");
	plain_call(plain, &q);
	assert_int_equal(host_told(&f->c, k.file, NULL), INV_ATTR);
	q = (struct plain_request){.op = PLAIN_UNLINK, .path = SLICE("/workspace/d/other")};
	plain_call(plain, &q);
	assert_int_equal(host_told(&f->c, k.d, "other"), INV_NAME);
	assert_int_equal(host_told(&f->c, k.other, NULL), INV_ATTR);
	listen_stop(&l);
	host_client_stop(plain);
	free(plain);
}

/* What a plain client moves out of the directory whose mark saw it is still watched. */
static void test_plain_moves(void **state)
{
	struct fixture *f = *state;
	struct host_client *plain = calloc(1, sizeof(*plain));
	struct plain_request rename = {.op = PLAIN_RENAME}, link = {.op = PLAIN_LINK};
	struct listener l;
	struct msg p;

	if (!(f->c.hello.features & HELLO_WATCH_DIRS)) {
		free(plain);
		skip();
	}
	foreign(f, prepare);
	assert_int_equal(host_lookup(&f->c, f->c.root, "d", &p), 0);
	uint64_t d = p.node;
	assert_int_equal(host_lookup(&f->c, d, "file", &p), 0);
	uint64_t file = p.node;
	assert_int_equal(host_lookup(&f->c, d, "other", &p), 0);
	assert_true(MSG_HAS(&p, stamp));
	uint64_t other = p.node;
	listen_start(&l, &f->c);
	host_client_connect(plain, &f->hs);
	rename.path = SLICE("/workspace/d/file");
	rename.new_path = SLICE("/workspace/e/moved");
	plain_call(plain, &rename);
	link.path = SLICE("/workspace/d/other");
	link.new_path = SLICE("/workspace/e/linked");
	plain_call(plain, &link);
	listen_stop(&l);
	host_client_stop(plain);
	free(plain);
	assert_true(host_told(&f->c, file, NULL) & INV_ATTR);
	assert_true(host_told(&f->c, other, NULL) & INV_ATTR);
	host_clear(&f->c);
	assert_int_equal(host_getattr(&f->c, file, &p), 0);
	assert_true(MSG_HAS(&p, stamp));
	assert_int_equal(host_getattr(&f->c, other, &p), 0);
	assert_true(MSG_HAS(&p, stamp));
	foreign(f, do_write_moved);
	foreign(f, do_write_linked);
	(void)host_fence(&f->c);
	assert_int_equal(host_told(&f->c, file, NULL), INV_ATTR);
	assert_int_equal(host_told(&f->c, other, NULL), INV_ATTR);
}

static bool readable(struct host_client *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};

	return stream_buffered(c->stream) || poll(&p, 1, 0) == 1;
}

/* The change of one that waits for the other's ACK: the request is sent, the INV received. */
static uint64_t begin_wait(struct fixture *f, struct host_client *other, struct known *k)
{
	struct known theirs;
	struct msg q = {0}, m;

	foreign(f, prepare);
	start_second(f, other);
	learn(&f->c, k);
	learn(other, &theirs);
	other->ack = HOST_ACK_NONE;
	MSG_SET(&q, node, k->file);
	MSG_SET(&q, valid, SET_MODE);
	MSG_SET(&q, mode, 0600);
	uint64_t id = host_send(&f->c, MSG_SETATTR, &q);
	host_recv_any(other, &m);
	host_record(other, &m);
	assert_int_equal(other->n_wanted, 1);
	assert_int_equal(host_told(other, theirs.file, NULL), INV_ATTR);
	return id;
}

static void expect_reply(struct host_client *c, uint64_t id)
{
	struct msg p;

	assert_true(host_recv(c, &p) == id);
	assert_false(MSG_HAS(&p, err));
}

static void wait_with(struct fixture *f, enum host_ack how)
{
	struct host_client *other = calloc(1, sizeof(*other));
	struct known k;
	struct msg p;
	uint64_t id = begin_wait(f, other, &k);

	/* other requests go on meanwhile, and this one has not been answered */
	struct msg q = {0};
	MSG_SET(&q, node, k.d);
	uint64_t id2 = host_send(&f->c, MSG_GETATTR, &q);
	assert_true(host_recv(&f->c, &p) == id2);
	assert_false(readable(&f->c));
	if (how != HOST_ACK_NONE)
		host_ack(other, other->seq, how == HOST_ACK_DEFERRED ? ACK_DEFERRED : 0);
	else
		host_client_stop(other);
	expect_reply(&f->c, id);
	if (how != HOST_ACK_NONE)
		host_client_stop(other);
	free(other);
}

static void test_ack(void **state)
{
	wait_with(*state, HOST_ACK_DONE);
}

static void test_ack_deferred(void **state)
{
	wait_with(*state, HOST_ACK_DEFERRED);
}

static void test_end_while_waited_for(void **state)
{
	wait_with(*state, HOST_ACK_NONE);
}

/*
 * The second change finds no promise any more, but the first has not been
 * acknowledged: it waits as well.
 */
static void test_second_change_waits(void **state)
{
	struct fixture *f = *state;
	struct host_client *other = calloc(1, sizeof(*other));
	struct known k;
	struct msg p, m, q = {0};
	uint64_t id = begin_wait(f, other, &k);
	uint64_t first = other->seq;

	MSG_SET(&q, node, k.file);
	MSG_SET(&q, valid, SET_MODE);
	MSG_SET(&q, mode, 0640);
	uint64_t id2 = host_send(&f->c, MSG_SETATTR, &q);
	host_recv_any(other, &m);
	host_record(other, &m);
	assert_int_equal(other->n_wanted, 2);
	host_ack(other, first, 0);
	assert_true(host_recv(&f->c, &p) == id);
	assert_false(readable(&f->c));
	host_ack(other, other->seq, 0);
	expect_reply(&f->c, id2);
	host_client_stop(other);
	free(other);
}

/*
 * What the host did has been sent to another session, which may be a further mount of the
 * same guest: a reply that synchronises waits until it has digested that. It changes
 * nothing that the other knows of.
 */
static void synchronises_others(struct fixture *f, struct host_client *c)
{
	struct host_client *other = calloc(1, sizeof(*other));
	struct known k;
	struct msg m, p, q = {0};

	foreign(f, prepare);
	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE("own"));
	MSG_SET(&q, mode, S_IFDIR | 0755);
	assert_int_equal(host_call(c, MSG_MKNOD, &q, &p), 0);
	q = (struct msg){0};
	MSG_SET(&q, node, p.node);
	start_second(f, other);
	learn(other, &k);
	other->ack = HOST_ACK_NONE;
	foreign(f, do_write);
	(void)host_fence(other);
	assert_int_equal(host_told(other, k.file, NULL) & INV_DATA, INV_DATA);
	assert_int_equal(other->n_wanted, 0);
	MSG_SET(&q, name, SLICE("lock"));
	MSG_SET(&q, mode, S_IFDIR | 0755);
	uint64_t id = host_send(c, MSG_MKNOD, &q);
	host_recv_any(other, &m);
	host_record(other, &m);
	assert_int_equal(other->n_wanted, 1);
	assert_false(readable(c));
	host_ack(other, other->seq, 0);
	expect_reply(c, id);
	host_client_stop(other);
	free(other);
}

static void test_synchronises_others(void **state)
{
	struct fixture *f = *state;

	if (!watched(f))
		skip();
	synchronises_others(f, &f->c);
}

/* Also for a mount that is told of nothing itself. */
static void test_synchronises_without_pushes(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = calloc(1, sizeof(*c));

	if (!watched(f)) {
		free(c);
		skip();
	}
	host_client_start(c, &f->hs);
	synchronises_others(f, c);
	host_client_stop(c);
	free(c);
}

static int setup_push_mounts(void **state)
{
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		skip();
	return setup_push(state);
}

static int teardown_push_mounts(void **state)
{
	const struct fixture *f = *state;
	char where[96];

	(void)snprintf(where, sizeof(where), "%s/e", f->hs.dir);
	(void)umount2(where, MNT_DETACH);
	return teardown(state);
}

/* A RESET that is sent is not one that is digested: the change behind it goes on waiting. */
static void test_reset_is_waited_for(void **state)
{
	enum { ROUND_TRIPS = 100 };
	struct fixture *f = *state;
	struct host_client *other = calloc(1, sizeof(*other));
	char where[96];
	struct known k;
	struct msg p, q = {0};

	if (!watched(f)) {
		free(other);
		skip();
	}
	uint64_t id = begin_wait(f, other, &k);
	(void)snprintf(where, sizeof(where), "%s/e", f->hs.dir);
	assert_int_equal(mount("none", where, "tmpfs", 0, NULL), 0);
	(void)host_fence(other);
	assert_int_equal(other->n_resets, 1);
	MSG_SET(&q, node, k.d);
	for (int i = 0; i < ROUND_TRIPS; i++) {
		uint64_t id2 = host_send(&f->c, MSG_GETATTR, &q);
		do {
			host_recv_any(&f->c, &p); /* it hears of the mount as well */
		} while (!MSG_HAS(&p, id));
		assert_true(p.id == id2);
	}
	host_ack(other, other->seq, 0);
	expect_reply(&f->c, id);
	host_client_stop(other);
	free(other);
}

/* Many more changes than the server has threads for, in both directions, before any ACK. */
static void test_crossed_waits(void **state)
{
	enum { CHANGES = 100 };
	struct fixture *f = *state;
	struct host_client *other = calloc(1, sizeof(*other));
	struct host_client *both[2] = {&f->c, other};
	uint64_t node[2][CHANGES];
	struct msg p;

	start_second(f, other);
	for (int i = 0; i < CHANGES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		host_put(&f->hs, name, "");
		for (int c = 0; c < 2; c++) {
			assert_int_equal(host_lookup(both[c], both[c]->root, name, &p), 0);
			node[c][i] = p.node;
		}
	}
	/* without ACKs, nothing of it ends; ids are of no interest */
	for (int i = 0; i < CHANGES; i++) {
		for (int c = 0; c < 2; c++) {
			struct msg q = {0};

			MSG_SET(&q, node, node[c][i]);
			MSG_SET(&q, valid, SET_MODE);
			MSG_SET(&q, mode, 0600);
			(void)host_send(both[c], MSG_SETATTR, &q);
		}
	}
	size_t replies[2] = {0};
	while (replies[0] + replies[1] < 2 * CHANGES) {
		struct pollfd fds[2] = {{.fd = both[0]->fd, .events = POLLIN},
					{.fd = both[1]->fd, .events = POLLIN}};
		bool ready[2];

		for (int c = 0; c < 2; c++)
			ready[c] = stream_buffered(both[c]->stream);
		if (!ready[0] && !ready[1])
			assert_true(poll(fds, 2, -1) > 0);
		for (int c = 0; c < 2; c++) {
			if (!ready[c] && fds[c].revents == 0)
				continue;
			struct msg m;

			host_recv_any(both[c], &m);
			if (MSG_HAS(&m, id))
				replies[c]++;
			else
				host_record(both[c], &m);
		}
	}
	assert_int_equal(f->c.n_resets + other->n_resets, 0);
	host_client_stop(other);
	free(other);
}

static int setup_impatient(void **state)
{
	const struct server_config config = {.ack_ms = 1};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	host_server_start(&f->hs, &config);
	host_client_start_push(&f->c, &f->hs);
	*state = f;
	return 0;
}

/* Who does not acknowledge loses everything, and is not waited for until it does. */
static void test_silent_client(void **state)
{
	struct fixture *f = *state;
	struct host_client *other = calloc(1, sizeof(*other));
	struct known k;
	struct msg m, q = {0};

	foreign(f, prepare);
	start_second(f, other);
	learn(&f->c, &k);
	learn(other, &k);
	other->ack = HOST_ACK_NONE;
	setattr_mode(&f->c, k.file, 0600);
	while (other->n_resets == 0) { /* behind the INV, or instead of it */
		host_recv_any(other, &m);
		host_record(other, &m);
	}
	/* it still gets what it asks for and hears of changes */
	assert_int_equal(host_getattr(other, k.file, &m), 0);
	setattr_mode(&f->c, k.file, 0640);
	(void)host_fence(other);
	assert_int_equal(host_told(other, k.file, NULL), INV_ATTR);
	host_ack(other, other->seq, 0);
	assert_int_equal(host_call(other, MSG_PING, &q, &m), 0);
	host_client_stop(other);
	free(other);
}

static void test_bad_ack(void **state)
{
	struct fixture *f = *state;
	struct host_client c;
	struct msg m;
	const char *why;

	host_client_start_push(&c, &f->hs);
	host_ack(&c, 1000, 0);
	assert_true(stream_recv(c.stream, &c.head, &m, &why) < 0);
	host_client_stop(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_changes),
		cmocka_unit_test(test_host_changes_unprivileged),
		cmocka_unit_test_setup_teardown(test_few_marks, setup_few_marks, teardown),
		cmocka_unit_test_setup_teardown(test_hard_link, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_hard_link, setup_unprivileged, teardown),
		cmocka_unit_test_setup_teardown(test_rename_to_itself, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_overflow, setup_remote, teardown),
		cmocka_unit_test_setup_teardown(test_mount, setup_mounts, teardown),
		cmocka_unit_test_setup_teardown(test_moved_out, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_moved_out, setup_unprivileged, teardown),
		cmocka_unit_test_setup_teardown(test_file_moved_out, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_create_race, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_make_race, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_directories, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_content_with_open_is_promised, setup_push,
						teardown),
		cmocka_unit_test_setup_teardown(test_consumed, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_no_push, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_fence, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_synchronises, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_collapse, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_other_client, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_replaced_as_it_is_made, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_plain_client, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_plain_moves, setup_nobody, teardown_nobody),
		cmocka_unit_test_setup_teardown(test_ack, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_ack_deferred, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_end_while_waited_for, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_second_change_waits, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_synchronises_others, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_synchronises_without_pushes, setup_push,
						teardown),
		cmocka_unit_test_setup_teardown(test_reset_is_waited_for, setup_push_mounts,
						teardown_push_mounts),
		cmocka_unit_test_setup_teardown(test_crossed_waits, setup_push, teardown),
		cmocka_unit_test_setup_teardown(test_silent_client, setup_impatient, teardown),
		cmocka_unit_test_setup_teardown(test_bad_ack, setup_push, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
