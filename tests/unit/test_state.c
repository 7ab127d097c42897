/* What outlives the server's process: the tables of records and who may have them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four */
#include "cmocka_any.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/state.h"

struct world {
	char base[32], dir[64];
	struct state *s;
	char err[256];
};

static int try_open(struct world *w, const char *dir, struct state **ret)
{
	return state_open(dir, "/srv/x", "unix:/run/x", 0, ret, w->err, sizeof(w->err));
}

static void reopen(struct world *w)
{
	state_close(w->s);
	w->s = NULL;
	if (try_open(w, w->dir, &w->s) < 0)
		fail_msg("%s", w->err);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	(void)snprintf(w->base, sizeof(w->base), "/tmp/vsockfs-state-XXXXXX");
	assert_non_null(mkdtemp(w->base));
	(void)snprintf(w->dir, sizeof(w->dir), "%s/above/states", w->base);
	reopen(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char cmd[64];

	state_close(w->s);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", w->base);
	assert_int_equal(system(cmd), 0);
	free(w);
	return 0;
}

/* The one folder below dir; the number of entries there. */
static unsigned folder(const struct world *w, char path[256])
{
	DIR *d = opendir(w->dir);
	unsigned n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, 256, "%.100s/%.100s", w->dir, e->d_name);
		n++;
	}
	(void)closedir(d);
	return n;
}

static void path_of(const struct world *w, const char *name, char path[300])
{
	char in[256];

	assert_int_equal(folder(w, in), 1);
	(void)snprintf(path, 300, "%s/%s", in, name);
}

static uint32_t put(struct world *w, uint64_t id, bool keep)
{
	uint32_t n = state_take(w->s, STATE_NODES);

	if (n == 0)
		return 0;
	((struct state_node *)state_at(w->s, STATE_NODES, n))->id = id;
	if (keep)
		state_keep(w->s, STATE_NODES, n);
	return n;
}

/* So that closing does not remove all. */
static uint32_t put_session(struct world *w)
{
	uint32_t n = state_take(w->s, STATE_SESSIONS);

	assert_true(n > 0);
	state_keep(w->s, STATE_SESSIONS, n);
	return n;
}

static uint64_t id_at(const struct world *w, uint32_t n)
{
	return ((const struct state_node *)state_at(w->s, STATE_NODES, n))->id;
}

static void test_records(void **state)
{
	struct world *w = *state;

	put_session(w);
	uint32_t a = put(w, 1, true), b = put(w, 2, false), c = put(w, 3, true);
	assert_true(a != 0 && b != 0 && c != 0 && a != b && b != c && a != c);
	assert_int_equal(state_next(w->s, STATE_NODES, 0), a);
	assert_int_equal(state_next(w->s, STATE_NODES, a), c); /* b does not count yet */
	assert_int_equal(state_next(w->s, STATE_NODES, c), 0);
	reopen(w);
	assert_int_equal(state_next(w->s, STATE_NODES, 0), a);
	assert_int_equal(state_next(w->s, STATE_NODES, a), c);
	assert_int_equal(state_next(w->s, STATE_NODES, c), 0);
	assert_int_equal(id_at(w, a), 1);
	assert_int_equal(id_at(w, c), 3);
	/* what does not count is free, and one that is taken again is empty */
	assert_int_equal(put(w, 0, false), b);
	assert_int_equal(id_at(w, b), 0);
	state_give(w->s, STATE_NODES, a);
	assert_int_equal(state_next(w->s, STATE_NODES, 0), c);
	assert_int_equal(put(w, 4, true), a);
	state_give(w->s, STATE_NODES, 0);
	state_keep(w->s, STATE_NODES, 0);
	reopen(w);
	assert_int_equal(id_at(w, a), 4);
}

static void test_epoch(void **state)
{
	struct world *w = *state;
	struct state *other;

	put_session(w);
	uint64_t epoch = state_epoch(w->s);
	assert_int_equal(state_generation(w->s), 1);
	reopen(w);
	assert_true(state_epoch(w->s) == epoch);
	assert_int_equal(state_generation(w->s), 2);
	/* of another export, and of another listener */
	assert_int_equal(state_open(w->dir, "/srv/y", "unix:/run/x", 0, &other, w->err, 256), 0);
	assert_true(state_epoch(other) != epoch);
	state_close(other);
	assert_int_equal(state_open(w->dir, "/srv/x", "unix:/run/y", 0, &other, w->err, 256), 0);
	assert_true(state_epoch(other) != epoch);
	state_close(other);
}

/* A table grows, no record is two, and there is an end. */
static void test_many(void **state)
{
	enum { N = 20000 };
	struct world *w = *state;
	static unsigned char seen[N + 1];
	uint32_t n;

	memset(seen, 0, sizeof(seen));
	put_session(w);
	for (uint64_t i = 1; i <= N; i++) {
		n = put(w, i, true);
		assert_true(n >= 1 && n <= N && seen[n] == 0);
		seen[n] = 1;
	}
	reopen(w);
	uint32_t at = 0;
	for (uint64_t i = 1; i <= N; i++) {
		at = state_next(w->s, STATE_NODES, at);
		assert_true(at != 0 && id_at(w, at) == i);
	}
	assert_int_equal(state_next(w->s, STATE_NODES, at), 0);
	/* one is there already */
	for (unsigned i = 1; i < STATE_SESSIONS_MAX; i++)
		put_session(w);
	assert_int_equal(state_take(w->s, STATE_SESSIONS), 0);
	state_give(w->s, STATE_SESSIONS, 5);
	assert_int_equal(state_take(w->s, STATE_SESSIONS), 5);
}

static void test_frozen(void **state)
{
	struct world *w = *state;

	put_session(w);
	uint32_t a = put(w, 1, true);
	assert_false(state_frozen(w->s));
	state_freeze(w->s);
	assert_true(state_frozen(w->s));
	assert_int_equal(state_take(w->s, STATE_NODES), 0);
	state_give(w->s, STATE_NODES, a);
	reopen(w);
	assert_int_equal(state_next(w->s, STATE_NODES, 0), a);
	assert_false(state_frozen(w->s));
	/* none at all */
	state_freeze(NULL);
	state_close(NULL);
	assert_int_equal(state_take(NULL, STATE_NODES), 0);
	assert_int_equal(state_next(NULL, STATE_NODES, 0), 0);
	state_keep(NULL, STATE_NODES, 0);
	state_give(NULL, STATE_NODES, 0);
}

/* Nobody has a session: nothing is left. */
static void test_removed(void **state)
{
	struct world *w = *state;
	char path[256];

	assert_int_equal(folder(w, path), 1);
	put(w, 1, true);
	state_close(w->s);
	w->s = NULL;
	assert_int_equal(folder(w, path), 0);
}

static void overwrite(const struct world *w, const char *name, off_t at, const void *data,
		      size_t len)
{
	char path[300];

	path_of(w, name, path);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, at), len);
	assert_int_equal(close(fd), 0);
}

/* The header of another version, and one that a server was killed in before it was whole. */
static void test_other_version(void **state)
{
	static const struct {
		off_t at;
		uint64_t value;
	} cases[] = {{8, 99}, {0, 0}, {24, UINT64_MAX}, {32, 1}};
	struct world *w = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t epoch = state_epoch(w->s);

		put_session(w);
		put(w, 1, true);
		state_close(w->s);
		w->s = NULL;
		overwrite(w, "header", cases[i].at, &cases[i].value, 8);
		reopen(w);
		assert_true(state_epoch(w->s) != epoch);
		assert_int_equal(state_generation(w->s), 1);
		assert_int_equal(state_next(w->s, STATE_SESSIONS, 0), 0);
		assert_int_equal(state_next(w->s, STATE_NODES, 0), 0);
	}
}

/* Killed while it was making a state anew: the tables are those of before. */
static void test_header_first(void **state)
{
	struct world *w = *state;
	const uint64_t zero = 0;
	char path[300];

	put_session(w);
	put(w, 1, true);
	state_close(w->s);
	w->s = NULL;
	overwrite(w, "header", 8, &zero, 8);
	/* the tables cannot be emptied */
	path_of(w, "nodes", path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(try_open(w, w->dir, &w->s), -EISDIR);
	assert_int_equal(rmdir(path), 0);
	overwrite(w, "slots", 0, "\1\0\0\0", 4);
	reopen(w);
	assert_int_equal(state_next(w->s, STATE_SLOTS, 0), 0);
}

static void test_cut_short(void **state)
{
	static const char *const names[] = {"sessions", "nodes", "files", "locks", "slots"};
	struct world *w = *state;
	char path[300];

	for (size_t i = 0; i < 5; i++) {
		put_session(w);
		put(w, 1, true);
		state_close(w->s);
		w->s = NULL;
		path_of(w, names[i], path);
		assert_int_equal(truncate(path, 50), 0);
		reopen(w);
		assert_int_equal(state_next(w->s, (enum state_table)i, 0), 0);
		uint32_t n = state_take(w->s, (enum state_table)i);
		assert_true(n > 0);
		state_keep(w->s, (enum state_table)i, n);
		assert_int_equal(state_next(w->s, (enum state_table)i, 0), n);
		state_give(w->s, (enum state_table)i, n);
	}
	/* longer than it may be */
	put_session(w);
	state_close(w->s);
	w->s = NULL;
	path_of(w, "sessions", path);
	assert_int_equal(truncate(path, 1 << 20), 0);
	reopen(w);
	uint32_t n = 0;
	for (uint32_t at = 0; (at = state_next(w->s, STATE_SESSIONS, at)) != 0;)
		n++;
	assert_true(n > 0);
	while (state_take(w->s, STATE_SESSIONS) != 0)
		n++;
	assert_int_equal(n, STATE_SESSIONS_MAX);
}

static void test_one_server(void **state)
{
	struct world *w = *state;
	struct state *other = NULL;

	assert_int_equal(try_open(w, w->dir, &other), -EBUSY);
	assert_null(other);
	assert_non_null(strstr(w->err, "another server has it"));
	reopen(w);
}

/* One waits for the other, who takes the folder with it at its end. */
static void *close_it(void *arg)
{
	state_close(arg);
	return NULL;
}

static void test_wait(void **state)
{
	struct world *w = *state;
	pthread_t thread;

	for (int i = 0; i < 100; i++) {
		struct state *next = NULL, *third = NULL;

		assert_int_equal(pthread_create(&thread, NULL, close_it, w->s), 0);
		int r = state_open(w->dir, "/srv/x", "unix:/run/x", STATE_WAIT_MS, &next, w->err,
				   sizeof(w->err));
		assert_int_equal(pthread_join(thread, NULL), 0);
		w->s = next;
		if (r < 0)
			fail_msg("%s", w->err);
		/* what it has is what whoever comes next looks at */
		assert_int_equal(try_open(w, w->dir, &third), -EBUSY);
	}
}

static void test_refused(void **state)
{
	struct world *w = *state;
	char path[256], other[300], file[300];

	put_session(w);
	state_close(w->s);
	w->s = NULL;
	assert_int_equal(folder(w, path), 1);
	assert_int_equal(chmod(path, 0750), 0);
	assert_int_equal(try_open(w, w->dir, &w->s), -EPERM);
	assert_int_equal(chmod(path, 0700), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 65534, 0), 0);
		assert_int_equal(try_open(w, w->dir, &w->s), -EPERM);
		assert_int_equal(chown(path, 0, 0), 0);
	}
	/* links, symbolic or not, in place of the files and of the folder */
	path_of(w, "nodes", file);
	(void)snprintf(other, sizeof(other), "%s/other", w->base);
	assert_int_equal(rename(file, other), 0);
	assert_int_equal(symlink(other, file), 0);
	assert_int_equal(try_open(w, w->dir, &w->s), -ELOOP);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(link(other, file), 0);
	assert_int_equal(try_open(w, w->dir, &w->s), -EINVAL);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_true(try_open(w, w->dir, &w->s) < 0);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rename(path, other), -1); /* other is a file */
	assert_int_equal(unlink(other), 0);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
	assert_true(try_open(w, w->dir, &w->s) < 0);
	assert_null(w->s);
	/* there can be none */
	assert_int_equal(try_open(w, "/dev/null/x", &w->s), -ENOTDIR);
	assert_non_null(strstr(w->err, "/dev/null/x"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_records),       T(test_epoch),	      T(test_many),	 T(test_frozen),
		T(test_removed),       T(test_other_version), T(test_header_first), T(test_cut_short),
		T(test_one_server),    T(test_wait),	      T(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
