/*
 * The export below the protocol: names, confinement while others rename and
 * swap links, paths of plain clients, inode numbers, the caller's identity.
 */
#include "export_fixture.h"

#include <pthread.h>

#include "host/creds.h"
#include "host/export.h"
#include "host/filesystem.h"
#include "host/idmap.h"

/* ---- the map ---- */

static void test_idmap(void **state)
{
	enum { N = 512, STEPS = 200000 };
	struct idmap m = {0};
	bool there[N] = {false};
	uint64_t seed = 1;
	size_t used = 0;

	(void)state;
	for (int i = 0; i < STEPS; i++) {
		seed = idmap_mix(seed + 1);
		uint64_t k = seed % N;
		/* growing, then shrinking */
		bool put = (seed >> 32) % 4 < (i / 20000 % 2 == 0 ? 3u : 1u);

		if (put) {
			struct idmap_slot *s = idmap_put(&m, k + 1);
			assert_non_null(s);
			assert_int_equal(s->n, there[k] ? k : 0);
			s->n = k;
			used += !there[k];
		} else {
			idmap_del(&m, k + 1);
			used -= there[k];
		}
		there[k] = put;
		assert_int_equal(m.used, used);
		uint64_t other = (seed >> 40) % N;
		assert_int_equal(idmap_get(&m, other + 1) != NULL, there[other]);
	}
	struct idmap_slot *s = NULL;
	while ((s = idmap_next(&m, s)) != NULL) {
		assert_true(there[s->key - 1] && s->n == s->key - 1);
		used--;
	}
	assert_int_equal(used, 0);
	idmap_done(&m);
	assert_null(idmap_get(&m, 1));
}

/* ---- names and paths ---- */

static void test_name_check(void **state)
{
	char longest[MSG_NAME_MAX + 1];

	(void)state;
	memset(longest, 'a', sizeof(longest));
	assert_int_equal(export_name_check((struct slice){longest, MSG_NAME_MAX}), 0);
	assert_int_equal(export_name_check((struct slice){longest, MSG_NAME_MAX + 1}),
			 -ENAMETOOLONG);
	assert_int_equal(export_name_check((struct slice){NULL, 0}), -EINVAL);
	assert_int_equal(export_name_check(SLICE(".")), -EINVAL);
	assert_int_equal(export_name_check(SLICE("..")), -EINVAL);
	assert_int_equal(export_name_check(SLICE("...")), 0);
	assert_int_equal(export_name_check(SLICE(".a")), 0);
	assert_int_equal(export_name_check(SLICE("a/")), -EINVAL);
	assert_int_equal(export_name_check((struct slice){"a\0", 2}), -EINVAL);
}

static int walk(struct fixture *f, const char *path, enum walk_links links, ino_t *ret_ino)
{
	struct export_place p;
	struct stat st = {0};
	int r = export_walk(f->e, path, links, &p);

	if (r < 0)
		return r;
	if (p.object >= 0)
		assert_int_equal(fstat(p.object, &st), 0);
	else
		assert_int_equal(p.mode, 0);
	assert_int_equal(st.st_mode, p.mode);
	*ret_ino = st.st_ino;
	export_place_done(&p);
	return 0;
}

static void test_walk(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *path;
		enum walk_links links;
		int r;
		const char *is; /* in the export; NULL: nothing */
	} cases[] = {
		{"/workspace", WALK_FOLLOW, 0, "."},
		{"/workspace/", WALK_FOLLOW, 0, "."},
		{"/workspace/d/f", WALK_FOLLOW, 0, "d/f"},
		{"/workspace//d/./f", WALK_FOLLOW, 0, "d/f"},
		{"/workspace/d/../d/f", WALK_FOLLOW, 0, "d/f"},
		{"/workspace/..", WALK_FOLLOW, -EACCES, NULL},
		{"/workspace/../../../d/f", WALK_FOLLOW, -EACCES, NULL},
		{"/workspace/d/..", WALK_FOLLOW, 0, "."},
		{"/workspace/d/none", WALK_FOLLOW, 0, NULL},
		{"/workspace/none/none", WALK_FOLLOW, -ENOENT, NULL},
		{"/workspace/d/f/x", WALK_FOLLOW, -ENOTDIR, NULL},
		{"/workspace/rel", WALK_FOLLOW, 0, "d/f"},
		{"/workspace/rel", WALK_FOLLOW_DIRS, 0, "rel"},
		{"/workspace/abs", WALK_FOLLOW, 0, "d/f"},
		{"/workspace/dirlink/f", WALK_FOLLOW_DIRS, 0, "d/f"},
		{"/workspace/dirlink/up", WALK_FOLLOW, 0, "d/f"},
		{"/workspace/dangling", WALK_FOLLOW, 0, NULL},
		{"/workspace/dangling", WALK_FOLLOW_DIRS, 0, "dangling"},
		{"/workspace/outside", WALK_FOLLOW, -EACCES, NULL},
		{"/workspace/outside", WALK_FOLLOW_DIRS, 0, "outside"},
		{"/workspace/outside/passwd", WALK_FOLLOW_DIRS, -EACCES, NULL},
		{"/workspace/escape", WALK_FOLLOW, -EACCES,
		 NULL}, /* ../../../../etc is not /etc of the export */
		{"/workspace/sibling", WALK_FOLLOW, -EACCES, NULL},
		{"/workspace/loop", WALK_FOLLOW, -ELOOP, NULL},
		{"/etc/passwd", WALK_FOLLOW, -EACCES, NULL},
		{"/workspaces/d/f", WALK_FOLLOW, -EACCES, NULL},
		{"workspace/d/f", WALK_FOLLOW, -EINVAL, NULL},
		{"", WALK_FOLLOW, -EINVAL, NULL},
		{"/workspace/d/f", WALK_NO_LINKS, 0, "d/f"},
		{"/workspace/dirlink", WALK_NO_LINKS, 0, "dirlink"},
		{"/workspace/dirlink/", WALK_NO_LINKS, 0, "dirlink"},
		{"/workspace/dirlink/f", WALK_NO_LINKS, -ELOOP, NULL},
		{"/workspace/outside/passwd", WALK_NO_LINKS, -ELOOP, NULL},
	};

	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	make_file(f->fd, "d/f");
	assert_int_equal(symlinkat("d/f", f->fd, "rel"), 0);
	assert_int_equal(symlinkat("/workspace/d/f", f->fd, "abs"), 0);
	assert_int_equal(symlinkat("./d/", f->fd, "dirlink"), 0);
	assert_int_equal(symlinkat("../rel", f->fd, "d/up"), 0);
	assert_int_equal(symlinkat("d/none", f->fd, "dangling"), 0);
	assert_int_equal(symlinkat("/etc", f->fd, "outside"), 0);
	assert_int_equal(symlinkat("../../../../etc", f->fd, "escape"), 0);
	assert_int_equal(symlinkat("/workspacex", f->fd, "sibling"), 0);
	assert_int_equal(symlinkat("loop", f->fd, "loop"), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stat st = {0};
		ino_t ino = 0;
		int r = walk(f, cases[i].path, cases[i].links, &ino);

		if (r != cases[i].r)
			fail_msg("%s: %d instead of %d", cases[i].path, r, cases[i].r);
		if (cases[i].is != NULL)
			assert_int_equal(fstatat(f->fd, cases[i].is, &st, AT_SYMLINK_NOFOLLOW), 0);
		if (ino != st.st_ino)
			fail_msg("%s: another file than %s", cases[i].path, cases[i].is);
	}
	/* 40 links are one too few for a chain of 41. */
	for (int i = 0; i <= 41; i++) {
		char name[16], to[16];

		(void)snprintf(name, sizeof(name), "l%d", i);
		(void)snprintf(to, sizeof(to), "l%d", i - 1);
		if (i == 0)
			make_file(f->fd, name);
		else
			assert_int_equal(symlinkat(to, f->fd, name), 0);
	}
	ino_t ino;
	assert_int_equal(walk(f, "/workspace/l40", WALK_FOLLOW, &ino), 0);
	assert_int_equal(walk(f, "/workspace/l41", WALK_FOLLOW, &ino), -ELOOP);
}

/* Down a deep tree and up again: each ".." climbs to the root, and so the work has a limit. */
static void test_walk_far(void **state)
{
	static const struct {
		unsigned depth;
		int result;
	} tries[] = {{60, 0}, {600, -ELOOP}};
	struct fixture *f = *state;
	int at = dup(f->fd);
	ino_t ino;

	for (unsigned i = 0; i < 600; i++) {
		assert_int_equal(mkdirat(at, "d", 0755), 0);
		int below = openat(at, "d", O_PATH | O_CLOEXEC);
		assert_true(below >= 0);
		(void)close(at);
		at = below;
	}
	(void)close(at);
	for (size_t t = 0; t < sizeof(tries) / sizeof(tries[0]); t++) {
		char path[4096] = "/workspace/";
		size_t len = strlen(path);

		for (unsigned i = 0; i < 2 * tries[t].depth; i++)
			len += (size_t)snprintf(path + len, sizeof(path) - len, "%s",
						i < tries[t].depth ? "d/" : "../");
		assert_true(len < sizeof(path));
		assert_int_equal(walk(f, path, WALK_FOLLOW, &ino), tries[t].result);
	}
}

/* ---- others swap links and move directories while we look ---- */

struct swapper {
	struct fixture *f;
	_Atomic bool stop;
};

/* "d" is a directory, or a link to what is outside; "m" is inside, or moved outside. */
static void *swap(void *arg)
{
	struct swapper *s = arg;

	while (!s->stop) {
		(void)renameat2(s->f->fd, "d", s->f->fd, "link", RENAME_EXCHANGE);
		(void)renameat2(s->f->fd, "m", s->f->base_fd, "m", RENAME_NOREPLACE);
		(void)renameat2(s->f->fd, "d", s->f->fd, "link", RENAME_EXCHANGE);
		(void)renameat2(s->f->base_fd, "m", s->f->fd, "m", RENAME_NOREPLACE);
	}
	return NULL;
}

static void test_confinement(void **state)
{
	enum { ROUNDS = 30000 };
	static const char *const paths[] = {"/workspace/d/secret", "/workspace/d/../secret",
					    "/workspace/m/sub/../../secret",
					    "/workspace/m/up/secret", "/workspace/link/../secret"};
	struct fixture *f = *state;
	struct swapper s = {.f = f};
	struct stat secret, root;
	pthread_t thread;
	unsigned inside = 0;

	make_file(f->base_fd, "secret");
	assert_int_equal(fstatat(f->base_fd, "secret", &secret, 0), 0);
	assert_int_equal(fstat(f->fd, &root), 0);
	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	make_file(f->fd, "d/secret");
	assert_int_equal(symlinkat(f->base, f->fd, "link"), 0);
	assert_int_equal(mkdirat(f->fd, "m", 0755), 0);
	assert_int_equal(mkdirat(f->fd, "m/sub", 0755), 0);
	assert_int_equal(symlinkat("..", f->fd, "m/up"), 0);
	assert_int_equal(pthread_create(&thread, NULL, swap, &s), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct export_place p;
		struct stat st;
		int dir, file;

		if (export_walk(f->e, paths[i % 5], WALK_FOLLOW, &p) == 0) {
			if (p.object >= 0) {
				assert_int_equal(fstat(p.object, &st), 0);
				assert_true(st.st_ino != secret.st_ino);
				inside++;
			}
			export_place_done(&p);
		}
		/* Component by component, as extended clients come. */
		if (export_open(f->e, export_root(f->e), "d", O_PATH, 0, &dir) == 0) {
			if (export_open(f->e, dir, "secret", O_PATH, 0, &file) == 0) {
				assert_int_equal(fstat(file, &st), 0);
				assert_true(st.st_ino != secret.st_ino);
				(void)close(file);
				inside++;
			}
			(void)close(dir);
		}
	}
	s.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(inside > 0);
	assert_true(root.st_ino != secret.st_ino);
}

static void expect_contains(struct fixture *f, int fd, int expected, unsigned *depth)
{
	assert_int_equal(export_contains(f->e, fd, NULL), expected);
	assert_int_equal(export_contains(f->e, fd, depth), expected);
	assert_int_equal(export_inside(f->e, fd), expected);
}

static void test_contains(void **state)
{
	struct fixture *f = *state;
	unsigned depth = 0, wrong = 64;

	assert_int_equal(mkdirat(f->fd, "a", 0755), 0);
	assert_int_equal(mkdirat(f->fd, "a/b", 0755), 0);
	int fd = openat(f->fd, "a/b", O_PATH | O_CLOEXEC);
	expect_contains(f, fd, 1, &depth);
	assert_int_equal(depth, 2);
	expect_contains(f, f->fd, 1, &wrong);
	assert_int_equal(wrong, 0);
	expect_contains(f, f->base_fd, 0, &wrong);
	/* what was known of its place is no longer true */
	assert_int_equal(renameat(f->fd, "a", f->base_fd, "a"), 0);
	expect_contains(f, fd, 0, &depth);
	assert_int_equal(renameat(f->base_fd, "a", f->fd, "a2"), 0);
	expect_contains(f, fd, 1, &depth);
	assert_int_equal(renameat(f->fd, "a2/b", f->fd, "b"), 0);
	expect_contains(f, fd, 1, &depth);
	assert_int_equal(depth, 1);
	/* the exported directory itself is moved, and another one put where it was */
	assert_int_equal(renameat(f->base_fd, "export", f->base_fd, "moved"), 0);
	assert_int_equal(mkdirat(f->base_fd, "export", 0755), 0);
	expect_contains(f, fd, 1, &depth);
	assert_int_equal(renameat(f->base_fd, "moved/b", f->base_fd, "export/b"), 0);
	expect_contains(f, fd, 0, &depth);
	(void)close(fd);
}

/* What is no directory has no "..": its name tells. */
static void test_file_inside(void **state)
{
	static const char odd[] = "f (deleted)";
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->fd, "a", 0755), 0);
	make_file(f->fd, "a/f");
	make_file(f->fd, odd);
	int fd = openat(f->fd, "a/f", O_PATH | O_CLOEXEC);
	int odd_fd = openat(f->fd, odd, O_RDONLY | O_CLOEXEC);
	assert_int_equal(export_inside(f->e, fd), 1);
	assert_int_equal(export_inside(f->e, odd_fd), 1);
	assert_int_equal(renameat(f->fd, "a/f", f->fd, "g"), 0);
	assert_int_equal(export_inside(f->e, fd), 1);
	assert_int_equal(renameat(f->fd, "g", f->base_fd, "g"), 0);
	assert_int_equal(export_inside(f->e, fd), 0);
	assert_int_equal(renameat(f->base_fd, "g", f->fd, "a/g"), 0);
	assert_int_equal(renameat(f->fd, "a", f->base_fd, "a"), 0);
	assert_int_equal(export_inside(f->e, fd), 0);
	/* "exported" is not "export", nor below it */
	assert_int_equal(renameat(f->base_fd, "a/g", f->base_fd, "exported"), 0);
	assert_int_equal(export_inside(f->e, fd), 0);
	assert_int_equal(unlinkat(f->base_fd, "exported", 0), 0);
	assert_int_equal(export_inside(f->e, fd), 0);
	assert_int_equal(renameat(f->fd, odd, f->base_fd, odd), 0);
	assert_int_equal(export_inside(f->e, odd_fd), 0);
	(void)close(fd);
	make_file(f->fd, "gone");
	fd = openat(f->fd, "gone", O_PATH | O_CLOEXEC);
	assert_int_equal(unlinkat(f->fd, "gone", 0), 0);
	assert_int_equal(export_inside(f->e, fd), 1);
	(void)close(fd);
	(void)close(odd_fd);
}

static void test_ino(void **state)
{
	struct fixture *f = *state;
	struct filesystems *t = export_filesystems(f->e);
	struct stat st;

	assert_int_equal(fstat(f->fd, &st), 0);
	assert_true(filesystems_ino(t, st.st_dev, 4711) == 4711);
	uint64_t a = filesystems_ino(t, st.st_dev + 1, 4711);
	uint64_t b = filesystems_ino(t, st.st_dev + 2, 4711);
	assert_true(a != 4711 && b != 4711 && a != b);
	assert_true(filesystems_ino(t, st.st_dev + 1, 4711) == a);
	/* The next server gives the same. */
	export_free(f->e);
	(void)open_export(f);
	assert_true(filesystems_ino(export_filesystems(f->e), st.st_dev + 2, 4711) == b);
}

/* Other threads keep their own identity while one has a caller's. */
static void *own_identity(void *arg)
{
	struct stat st;
	struct fixture *f = arg;

	(void)sem_wait(&f->go);
	make_file(f->fd, "root");
	assert_int_equal(fstatat(f->fd, "root", &st, 0), 0);
	assert_int_equal(st.st_uid, 0);
	return NULL;
}

static void test_creds(void **state)
{
	const gid_t groups[] = {3000, 4000};
	const struct creds_caller caller = {.uid = 1000, .gid = 2000, .groups = groups, .n_groups = 2};
	const struct creds_caller invalid = {.uid = (uid_t)-1, .gid = 2000, .groups = groups, .n_groups = 2};
	struct fixture *f = *state;
	struct creds c = CREDS_NONE;
	pthread_t thread;
	struct stat st;

	if (!creds_privileged())
		skip();
	assert_int_equal(fchmod(f->fd, 0700), 0);
	for (int i = 0; i < 2; i++) {
		(void)sem_init(&f->go, 0, 0);
		assert_int_equal(pthread_create(&thread, NULL, own_identity, f), 0);
		assert_int_equal(creds_assume(&c, true, &caller), 0);
		make_file(f->fd, "caller"); /* in a directory that only root may write */
		(void)sem_post(&f->go);
		assert_int_equal(mknodat(f->fd, "dev", S_IFCHR | 0600, 0x103), -1);
		assert_int_equal(fchownat(f->fd, "caller", 0, 0, 0), -1);
		(void)pthread_join(thread, NULL);
		creds_restore(&c);
		assert_int_equal(fstatat(f->fd, "caller", &st, 0), 0);
		assert_true(st.st_uid == 1000 && st.st_gid == 2000);
		assert_int_equal(unlinkat(f->fd, "caller", 0), 0);
		assert_int_equal(unlinkat(f->fd, "root", 0), 0);
	}
	assert_int_equal(creds_assume(&c, true, &invalid), -EINVAL);
	make_file(f->fd, "again");
	assert_int_equal(fstatat(f->fd, "again", &st, 0), 0);
	assert_true(st.st_uid == 0 && st.st_gid == getegid());
	/* An unprivileged server creates as itself. */
	assert_int_equal(creds_assume(&c, false, &caller), 0);
	creds_restore(&c);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idmap),
		cmocka_unit_test(test_name_check),
		T(test_walk),
		T(test_walk_far),
		T(test_confinement),
		T(test_contains),
		T(test_file_inside),
		T(test_ino),
		T(test_creds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
