/* Sessions that go on with another server's process: what it finds, what it does again, and what it does not believe. */
#include "host_client.h"

#include <dirent.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/xattr.h>
#include <time.h>

#include "core/log.h"
#include "core/stats.h"
#include "host/slots.h"
#include "host/state.h"

struct fixture {
	struct host_server hs;
	struct state *state;
	struct stats *stats;
	struct host_client c;
	char states[96];
	uint64_t uses; /* of slot 0 */
};

static void open_state(struct fixture *f)
{
	char err[256];

	if (state_open(f->states, "/export", "unix:s", 0, &f->state, err, sizeof(err)) < 0)
		fail_msg("%s", err);
}

static void start_server(struct fixture *f, const struct server_config *like)
{
	struct server_config config = like != NULL ? *like : (struct server_config){0};
	char err[256];

	open_state(f);
	assert_int_equal(stats_new(NULL, &f->stats), 0);
	config.dir = f->hs.dir;
	config.plain = &plain_host;
	config.plain_prefix = "/workspace";
	config.session_grace_ms = 60000;
	config.stats = f->stats;
	config.state = f->state;
	if (server_new(&config, &f->hs.server, err, sizeof(err)) < 0)
		fail_msg("%s", err);
}

static void end_server(struct fixture *f)
{
	server_free(f->hs.server);
	stats_free(f->stats);
	state_close(f->state);
	f->hs.server = NULL;
	f->state = NULL;
}

/*
 * The first server is a process of its own, which is killed: what it leaves is what is in its
 * files.
 */
static void start_first(struct fixture *f, uint64_t features)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->hs.pid = fork();
	assert_true(f->hs.pid >= 0);
	if (f->hs.pid == 0) {
		(void)close(sv[1]);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when the test is killed */
		start_server(f, NULL);
		if (server_add(f->hs.server, sv[0]) < 0)
			_exit(1);
		(void)server_run(f->hs.server, false);
		_exit(0);
	}
	(void)close(sv[0]);
	f->c.fd = sv[1];
	assert_int_equal(stream_new(sv[1], &f->c.stream), 0);
	host_client_hello_with(&f->c, HELLO_RESUME | features);
}

static void kill_first(struct fixture *f)
{
	assert_int_equal(kill(f->hs.pid, SIGKILL), 0);
	assert_int_equal(waitpid(f->hs.pid, NULL, 0), f->hs.pid);
	f->hs.pid = 0;
	host_client_lose(&f->c);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	host_server_directory(&f->hs);
	(void)snprintf(f->states, sizeof(f->states), "%s/states", f->hs.base);
	host_put(&f->hs, "a", "12345");
	host_put(&f->hs, "b", "67890");
	start_first(f, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[96];

	if (f->c.stream != NULL)
		host_client_stop(&f->c);
	if (f->hs.pid > 0) {
		(void)kill(f->hs.pid, SIGKILL);
		(void)waitpid(f->hs.pid, NULL, 0);
	}
	if (f->hs.server != NULL)
		end_server(f);
	(void)close(f->hs.fd);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", f->hs.base);
	assert_int_equal(system(cmd), 0);
	free(f);
	return 0;
}

static uint64_t look(struct fixture *f, const char *name)
{
	struct msg p;

	assert_int_equal(host_lookup(&f->c, f->c.root, name, &p), 0);
	return p.node;
}

static uint64_t open_node(struct fixture *f, uint64_t node, uint64_t flags)
{
	struct msg p;

	assert_int_equal(host_open(&f->c, node, flags, &p), 0);
	return p.fh;
}

/* One reference of each node, and one open file or none; slot 0 is asked for again. */
static void come_back(struct fixture *f, const uint64_t *nodes, size_t n, uint64_t fh, bool slot)
{
	struct host_items known = {0}, files = {0}, slots = {0};

	assert_int_equal(host_client_return(&f->c, &f->hs), 0);
	assert_true(f->c.hello.features & HELLO_RESUMED);
	host_item_pair(&known, f->c.root, 1);
	for (size_t i = 0; i < n; i++)
		host_item_pair(&known, nodes[i], 1);
	if (fh != 0)
		host_item(&files, fh);
	if (slot)
		host_item_pair(&slots, 0, f->uses);
	host_resume(&f->c, RESUME_NODES, RESUME_FIRST, &known);
	host_resume(&f->c, RESUME_FILES, 0, &files);
	host_resume(&f->c, RESUME_SLOTS, RESUME_LAST, &slots);
	assert_int_equal(host_resumed(&f->c), 0);
}

/* q in slot 0, for the first time or again. */
static int ask(struct fixture *f, uint64_t op, struct msg *q, struct msg *p, bool again)
{
	unsigned char at[MSG_SLOT_LEN];

	f->uses += !again;
	msg_slot_put((struct msg_slot){0, f->uses}, at);
	MSG_SET(q, slot, ((struct slice){at, sizeof(at)}));
	(void)host_send(&f->c, op, q);
	assert_int_equal(host_recv(&f->c, p), q->id);
	return MSG_HAS(p, err) ? -(int)p->err : 0;
}

/* ---- what goes on ---- */

static struct msg lock_request(uint64_t fh, uint64_t flags)
{
	struct msg q = {0};

	MSG_SET(&q, fh, fh);
	MSG_SET(&q, owner, 5);
	MSG_SET(&q, type, LOCK_TYPE_WRITE);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, off2, INT64_MAX);
	MSG_SET(&q, flags, flags);
	return q;
}

static void test_goes_on(void **state)
{
	struct fixture *f = *state;
	struct msg p, lock;
	const uint64_t a = look(f, "a"), b = look(f, "b");
	const uint64_t fh = open_node(f, a, O_RDWR);

	lock = lock_request(fh, LOCK_BSD);
	assert_int_equal(host_call(&f->c, MSG_SETLK, &lock, NULL), 0);
	kill_first(f);
	start_server(f, NULL);
	int fd = openat(f->hs.fd, "a", O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), -1); /* before the client is back */
	come_back(f, (const uint64_t[]){a, b}, 2, fh, false);
	assert_false(f->c.hello.features & HELLO_LOCKS_LOST);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), -1);
	assert_int_equal(host_getattr(&f->c, a, &p), 0);
	assert_int_equal(host_getattr(&f->c, b, &p), 0);
	assert_int_equal(host_write(&f->c, fh, 0, "x", 0, &p), 0);
	/* numbers that are given now are new */
	const uint64_t other = open_node(f, b, O_RDONLY);
	assert_true(other > fh);
	host_put(&f->hs, "c", "");
	const uint64_t c = look(f, "c");
	assert_true(c > a && c > b);
	host_close(&f->c, fh);
	assert_int_equal(host_getattr(&f->c, a, &p), 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	(void)close(fd);
	/* and once more, by a server that ends in order */
	host_client_lose(&f->c);
	end_server(f);
	start_server(f, NULL);
	come_back(f, (const uint64_t[]){a, b, c}, 3, other, false);
	assert_int_equal(host_read(&f->c, other, 0, 9, &p), 0);
	assert_int_equal(p.payload.len, 5);
	assert_int_equal(host_getattr(&f->c, c, &p), 0);
	assert_int_equal(host_read(&f->c, fh, 0, 9, &p), -EBADF);
}

static void test_lock_taken_meanwhile(void **state)
{
	struct fixture *f = *state;
	const uint64_t a = look(f, "a"), fh = open_node(f, a, O_RDWR);
	struct msg lock = lock_request(fh, LOCK_BSD);

	assert_int_equal(host_call(&f->c, MSG_SETLK, &lock, NULL), 0);
	kill_first(f);
	int fd = openat(f->hs.fd, "a", O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), 0);
	start_server(f, NULL);
	come_back(f, &a, 1, fh, false);
	assert_true(f->c.hello.features & HELLO_LOCKS_LOST);
	(void)close(fd);
}

/* A file that was open for writing is not, where nothing may be written now. */
static void test_read_only_now(void **state)
{
	const struct server_config config = {.read_only = true};
	struct fixture *f = *state;
	struct msg p;
	const uint64_t a = look(f, "a"), fh = open_node(f, a, O_RDWR);

	kill_first(f);
	start_server(f, &config);
	come_back(f, &a, 1, fh, false);
	assert_int_not_equal(host_write(&f->c, fh, 0, "x", 0, &p), 0);
	assert_int_equal(host_read(&f->c, fh, 0, 9, &p), -EBADF);
}

static void test_unlinked(void **state)
{
	struct fixture *f = *state;
	struct msg p;
	const uint64_t a = look(f, "a"), fh = open_node(f, a, O_RDWR);

	assert_int_equal(unlinkat(f->hs.fd, "a", 0), 0);
	kill_first(f);
	start_server(f, NULL);
	come_back(f, &a, 1, fh, false);
	assert_int_equal(host_read(&f->c, fh, 0, 9, &p), -EBADF);
	assert_int_equal(host_getattr(&f->c, a, &p), -ESTALE);
}

/* A session of which a slot could not be written down is not taken over. */
static void test_incomplete(void **state)
{
	struct fixture *f = *state;

	kill_first(f);
	open_state(f);
	assert_int_equal(state_next(f->state, STATE_SESSIONS, 0), 1);
	state_miss(f->state, 1, STATE_LOCKS_MISSING);
	state_close(f->state);
	start_server(f, NULL);
	come_back(f, NULL, 0, 0, false);
	assert_true(f->c.hello.features & HELLO_LOCKS_LOST);
	host_client_lose(&f->c);
	state_miss(f->state, 1, STATE_SLOTS_MISSING);
	end_server(f);
	start_server(f, NULL);
	assert_int_equal(host_client_return(&f->c, &f->hs), 0);
	assert_false(f->c.hello.features & HELLO_RESUMED);
}

/* ---- requests that come again ---- */

static void test_replayed(void **state)
{
	struct fixture *f = *state;
	struct msg q = {0}, p, again;

	MSG_SET(&q, node, f->c.root);
	MSG_SET(&q, name, SLICE("d"));
	MSG_SET(&q, mode, S_IFDIR | 0755);
	assert_int_equal(ask(f, MSG_MKNOD, &q, &p, false), 0);
	kill_first(f);
	start_server(f, NULL);
	come_back(f, NULL, 0, 0, true);
	assert_int_equal(ask(f, MSG_MKNOD, &q, &again, true), 0);
	assert_true(again.node == p.node);
	assert_int_equal(host_getattr(&f->c, p.node, &p), 0);
	assert_int_equal(stats_get(f->stats, STAT_server_replayed), 1);
	assert_int_equal(stats_get(f->stats, STAT_server_resolved), 0);
}

/* As the server leaves it that is killed inside a request. */
static void begun(struct fixture *f)
{
	kill_first(f);
	open_state(f);
	uint32_t n = state_next(f->state, STATE_SLOTS, 0);
	assert_int_not_equal(n, 0);
	((struct state_slot *)state_at(f->state, STATE_SLOTS, n))->phase = STATE_BEGUN;
	state_close(f->state);
}

enum outcome { AGAIN, ANSWERED, UNTOLD };

struct change {
	const char *what;
	uint64_t op;
	const char *name, *name2, *payload;
	uint64_t mode, flags;
	const char *meanwhile; /* by the shell, in the export */
	enum outcome outcome;
	int result;
	const char *after; /* a test of the shell */
};

static const struct change changes[] = {
	{"mkdir", MSG_MKNOD, "n", NULL, NULL, S_IFDIR | 0755, 0, "", ANSWERED, 0, "test -d n"},
	{"mkdir, not done", MSG_MKNOD, "n", NULL, NULL, S_IFDIR | 0755, 0, "rmdir n", AGAIN, 0,
	 "test -d n"},
	{"mkdir, replaced", MSG_MKNOD, "n", NULL, NULL, S_IFDIR | 0755, 0, "rmdir n; echo >n",
	 UNTOLD, -EIO, "test -f n"},
	{"mknod", MSG_MKNOD, "n", NULL, NULL, S_IFREG | 0644, 0, "", ANSWERED, 0, "test -f n"},
	{"mknod, not done", MSG_MKNOD, "n", NULL, NULL, S_IFREG | 0644, 0, "rm n", AGAIN, 0,
	 "test -f n"},
	{"mknod, refused", MSG_MKNOD, "old", NULL, NULL, S_IFREG | 0644, 0, "", AGAIN, -EEXIST,
	 "test -f old"},
	{"create", MSG_CREATE, "n", NULL, NULL, 0644, O_RDWR | O_EXCL, "", AGAIN, 0, "test -f n"},
	{"create, not done", MSG_CREATE, "n", NULL, NULL, 0644, O_RDWR | O_EXCL, "rm n", AGAIN, 0,
	 "test -f n"},
	{"create, replaced", MSG_CREATE, "n", NULL, NULL, 0644, O_RDWR | O_EXCL, "rm n; mkdir n",
	 UNTOLD, -EIO, "test -d n"},
	{"symlink", MSG_SYMLINK, "n", NULL, "to", 0, 0, "", ANSWERED, 0, "test -L n"},
	{"symlink, not done", MSG_SYMLINK, "n", NULL, "to", 0, 0, "rm n", AGAIN, 0, "test -L n"},
	{"symlink, replaced", MSG_SYMLINK, "n", NULL, "to", 0, 0, "ln -sfn else n", UNTOLD, -EIO,
	 "test $(readlink n) = else"},
	{"unlink", MSG_UNLINK, "old", NULL, NULL, 0, 0, "", ANSWERED, 0, "test ! -e old"},
	{"unlink, not done", MSG_UNLINK, "old", NULL, NULL, 0, 0, "mv -n spare old", AGAIN, 0,
	 "test ! -e old"},
	{"unlink, made again", MSG_UNLINK, "old", NULL, NULL, 0, 0, "echo >old", UNTOLD, -EIO,
	 "test -e old"},
	{"rmdir", MSG_RMDIR, "dir", NULL, NULL, 0, 0, "", ANSWERED, 0, "test ! -e dir"},
	{"rmdir, made again", MSG_RMDIR, "dir", NULL, NULL, 0, 0, "mkdir dir", UNTOLD, -EIO,
	 "test -e dir"},
	{"rename", MSG_RENAME, "old", "n", NULL, 0, 0, "", ANSWERED, 0, "test ! -e old -a -e n"},
	{"rename, not done", MSG_RENAME, "old", "n", NULL, 0, 0, "mv n old", AGAIN, 0,
	 "test ! -e old -a -e n"},
	{"rename, made again", MSG_RENAME, "old", "n", NULL, 0, 0, "echo >old", UNTOLD, -EIO,
	 "test -e old -a -e n"},
	{"exchange", MSG_RENAME, "old", "dir", NULL, 0, RENAME_EXCHANGE, "", UNTOLD, -EIO,
	 "test -d old"},
};

static void shell(struct fixture *f, const char *text)
{
	char cmd[256];

	(void)snprintf(cmd, sizeof(cmd), "cd %s && { %s\n}", f->hs.dir, text);
	if (text[0] != '\0' && system(cmd) != 0)
		fail_msg("%s", cmd);
}

static struct msg change_request(const struct fixture *f, const struct change *c)
{
	struct msg q = {0};

	MSG_SET(&q, node, f->c.root);
	MSG_SET(&q, name, SLICE(c->name));
	if (c->name2 != NULL) {
		MSG_SET(&q, node2, f->c.root);
		MSG_SET(&q, name2, SLICE(c->name2));
	}
	if (c->payload != NULL)
		MSG_SET(&q, payload, SLICE(c->payload));
	if (c->mode != 0)
		MSG_SET(&q, mode, c->mode);
	if (c->flags != 0 || c->op == MSG_RENAME)
		MSG_SET(&q, flags, c->flags);
	return q;
}

static void expect_counted(const struct fixture *f, const char *what, enum outcome o)
{
	if (stats_get(f->stats, STAT_server_resolved) != (o == ANSWERED) ||
	    stats_get(f->stats, STAT_server_unresolved) != (o == UNTOLD))
		fail_msg("%s: resolved %llu, unresolved %llu", what,
			 (unsigned long long)stats_get(f->stats, STAT_server_resolved),
			 (unsigned long long)stats_get(f->stats, STAT_server_unresolved));
}

/* What is older than the request, as the clock of the file system has it. */
static void pass_a_tick(void)
{
	struct timespec then, now;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &then);
	do
		(void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
	while (now.tv_sec == then.tv_sec && now.tv_nsec == then.tv_nsec);
}

static void check_change(const struct change *c)
{
	struct fixture *f;
	struct msg q, p;

	assert_int_equal(setup((void **)&f), 0);
	shell(f, "echo 1 >old; echo 2 >spare; mkdir dir");
	pass_a_tick();
	q = change_request(f, c);
	int first = ask(f, c->op, &q, &p, false);
	assert_int_equal(first, c->result == -EIO ? 0 : c->result);
	begun(f);
	shell(f, c->meanwhile);
	start_server(f, NULL);
	come_back(f, NULL, 0, 0, true);
	int r = ask(f, c->op, &q, &p, true);
	if (r != c->result)
		fail_msg("%s: %d", c->what, r);
	expect_counted(f, c->what, c->outcome);
	shell(f, c->after);
	/* once more: it has a reply now */
	struct msg again;
	assert_int_equal(ask(f, c->op, &q, &again, true), r);
	assert_int_equal(stats_get(f->stats, STAT_server_replayed), 1);
	assert_int_equal(teardown((void **)&f), 0);
}

static void test_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		check_change(&changes[i]);
}

/* An append: `found` is what is there when it comes again, of "12345" and "abc". */
static void check_append(const char *found, enum outcome o, const char *after, bool unnoted)
{
	struct fixture *f;
	struct msg q = {0}, p;
	char text[32];

	assert_int_equal(setup((void **)&f), 0);
	const uint64_t a = look(f, "a"), fh = open_node(f, a, O_RDWR | O_APPEND);
	MSG_SET(&q, fh, fh);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, flags, O_APPEND);
	MSG_SET(&q, payload, SLICE("abc"));
	assert_int_equal(ask(f, MSG_WRITE, &q, &p, false), 0);
	begun(f);
	if (unnoted) {
		open_state(f);
		uint32_t n = state_next(f->state, STATE_SLOTS, 0);
		((struct state_slot *)state_at(f->state, STATE_SLOTS, n))->size = SIZE_UNNOTED;
		state_close(f->state);
	}
	host_put(&f->hs, "a", found);
	start_server(f, NULL);
	come_back(f, &a, 1, fh, true);
	assert_int_equal(ask(f, MSG_WRITE, &q, &p, true), o == UNTOLD ? -EIO : 0);
	expect_counted(f, found, o);
	if (o != UNTOLD)
		assert_int_equal(p.off, 5);
	/* written down for the next one, too */
	uint32_t n = state_next(f->state, STATE_SLOTS, 0);
	assert_int_equal(((struct state_slot *)state_at(f->state, STATE_SLOTS, n))->size, 5);
	int fd = openat(f->hs.fd, "a", O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, text, sizeof(text));
	(void)close(fd);
	if (len != (ssize_t)strlen(after) || memcmp(text, after, (size_t)len) != 0)
		fail_msg("%s: %.*s", found, (int)len, text);
	assert_int_equal(teardown((void **)&f), 0);
}

static void test_append(void **state)
{
	(void)state;
	check_append("12345", AGAIN, "12345abc", false);
	check_append("12345abc", ANSWERED, "12345abc", false);
	check_append("12345abcd", ANSWERED, "12345abcd", false); /* somebody else's, behind it */
	check_append("12345ab", ANSWERED, "12345ab", false);	 /* a part of it */
	check_append("12345xyz", UNTOLD, "12345xyz", false);
	check_append("12345abx", UNTOLD, "12345abx", false);
	check_append("123", UNTOLD, "123", false);
	check_append("12345", AGAIN, "12345abc", true);
}

/* What was set is set again. */
static void test_content(void **state)
{
	struct fixture *f = *state;
	struct msg q = {0}, p;
	const uint64_t a = look(f, "a"), fh = open_node(f, a, O_RDWR);

	MSG_SET(&q, fh, fh);
	MSG_SET(&q, off, 2);
	MSG_SET(&q, flags, 0);
	MSG_SET(&q, payload, SLICE("abc"));
	assert_int_equal(ask(f, MSG_WRITE, &q, &p, false), 0);
	begun(f);
	host_put(&f->hs, "a", "12");
	start_server(f, NULL);
	come_back(f, &a, 1, fh, true);
	assert_int_equal(ask(f, MSG_WRITE, &q, &p, true), 0);
	assert_int_equal(p.size, 3);
	assert_int_equal(host_read(&f->c, fh, 0, 9, &p), 0);
	assert_int_equal(p.payload.len, 5);
	assert_memory_equal(p.payload.data, "12abc", 5);
}

/* ---- records are given back ---- */

static void count_records(const struct fixture *f, unsigned n[STATE_TABLES])
{
	for (int t = 0; t < STATE_TABLES; t++) {
		uint32_t at = 0;

		n[t] = 0;
		while ((at = state_next(f->state, (enum state_table)t, at)) != 0)
			n[t]++;
	}
}

static void test_no_leak(void **state)
{
	struct fixture *f = *state;
	unsigned before[STATE_TABLES], after[STATE_TABLES];
	struct msg p;

	kill_first(f);
	start_server(f, NULL);
	come_back(f, NULL, 0, 0, false);
	count_records(f, before);
	for (int i = 0; i < 300; i++) {
		const uint64_t a = look(f, i % 2 ? "a" : "b"), fh = open_node(f, a, O_RDWR);
		struct msg lock = lock_request(fh, i % 3 ? LOCK_BSD : 0), q = {0};

		assert_int_equal(host_call(&f->c, MSG_SETLK, &lock, NULL), 0);
		MSG_SET(&q, node, a);
		MSG_SET(&q, valid, SET_MODE);
		MSG_SET(&q, mode, 0600);
		assert_int_equal(ask(f, MSG_SETATTR, &q, &p, false), 0);
		host_close(&f->c, fh);
		host_forget(&f->c, a, 1);
		if (i % 50 == 0) { /* clients that come and go */
			struct host_client other;

			host_client_start_with(&other, &f->hs, HELLO_RESUME);
			assert_int_equal(host_lookup(&other, other.root, "a", &p), 0);
			q = (struct msg){0};
			host_post(&other, MSG_GOODBYE, &q);
			host_client_stop(&other);
		}
	}
	/* FORGET, CLOSE and the end of a connection have no reply */
	for (int i = 0; i < 100000; i++) {
		assert_int_equal(host_getattr(&f->c, f->c.root, &p), 0);
		count_records(f, after);
		after[STATE_SLOTS] = before[STATE_SLOTS];
		if (memcmp(before, after, sizeof(after)) == 0)
			break;
	}
	for (int t = 0; t < STATE_TABLES; t++)
		assert_int_equal(after[t], before[t]);
}

/* ---- a state that cannot be believed ---- */

static const char *const tables[] = {"sessions", "nodes", "files", "locks", "slots", "header"};

static void path_of(const struct fixture *f, const char *table, char path[512])
{
	DIR *d = opendir(f->states);

	assert_non_null(d);
	path[0] = '\0';
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.')
			(void)snprintf(path, 512, "%.90s/%.100s/%s", f->states, e->d_name, table);
	(void)closedir(d);
	assert_true(path[0] != '\0');
}

static unsigned seed = 1;

static unsigned draw(void)
{
	return (seed = seed * 1103515245 + 12345) >> 8;
}

/* Some bytes of what has been used of it, or its end. */
static void corrupt(const struct fixture *f, const char *table)
{
	static const uint64_t values[] = {0,	       1,	   64,	       65, UINT32_MAX,
					  UINT64_MAX, INT64_MAX, 1ULL << 40, '/'};
	char path[512];

	path_of(f, table, path);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (unsigned i = draw() % 8; i > 0; i--) {
		uint64_t v = draw() % 2 ? values[draw() % 9] : draw();

		(void)!pwrite(fd, &v, 1u << draw() % 4, draw() % 800 & ~3u);
	}
	if (draw() % 16 == 0)
		(void)!ftruncate(fd, draw() % 2000);
	(void)close(fd);
}

static void use_all(struct fixture *f, const uint64_t *nodes, size_t n, uint64_t fh)
{
	struct host_items known = {0}, files = {0}, slots = {0};
	struct msg p, q = {0};

	if (host_client_return(&f->c, &f->hs) < 0)
		return;
	if (f->c.hello.features & HELLO_RESUMED) {
		for (size_t i = 0; i < n; i++)
			host_item_pair(&known, nodes[i], 1);
		host_item(&files, fh);
		host_item_pair(&slots, 0, f->uses);
		host_resume(&f->c, RESUME_NODES, RESUME_FIRST, &known);
		host_resume(&f->c, RESUME_FILES, 0, &files);
		host_resume(&f->c, RESUME_SLOTS, RESUME_LAST, &slots);
		assert_int_equal(host_resumed(&f->c), 0);
	}
	for (size_t i = 0; i < n; i++) {
		(void)host_getattr(&f->c, nodes[i], &p);
		if (host_lookup(&f->c, nodes[i], "secret", &p) == 0)
			fail_msg("a client has come out of the export");
	}
	if (host_read(&f->c, fh, 0, 64, &p) == 0)
		assert_null(memmem(p.payload.data, p.payload.len, "secret", 6));
	MSG_SET(&q, payload, ((struct slice){"", 0}));
	host_client_lose(&f->c);
}

static void test_corrupt(void **state)
{
	struct fixture *f = *state;
	char path[160];
	struct msg p, q = {0};

	log_init("test", LOG_EMERG);
	(void)snprintf(path, sizeof(path), "%s/secret", f->hs.base);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, "secret", 6), 6);
	(void)close(fd);
	assert_int_equal(mkdirat(f->hs.fd, "d", 0755), 0);
	host_put(&f->hs, "d/x", "x");
	const uint64_t a = look(f, "a"), d = look(f, "d"), fh = open_node(f, a, O_RDWR);
	assert_int_equal(host_lookup(&f->c, d, "x", &p), 0);
	const uint64_t nodes[] = {f->c.root, a, d, p.node, UINT64_C(1) << 40};
	struct msg lock = lock_request(fh, 0);
	assert_int_equal(host_call(&f->c, MSG_SETLK, &lock, NULL), 0);
	MSG_SET(&q, node, f->c.root);
	MSG_SET(&q, name, SLICE("made"));
	MSG_SET(&q, mode, S_IFREG | 0644);
	assert_int_equal(ask(f, MSG_MKNOD, &q, &p, false), 0);
	kill_first(f);

	char saved[96], cmd[512];
	(void)snprintf(saved, sizeof(saved), "%s/saved", f->hs.base);
	(void)snprintf(cmd, sizeof(cmd), "cp -r %s %s", f->states, saved);
	assert_int_equal(system(cmd), 0);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s && cp -r %s %s", f->states, saved, f->states);
	unsigned char token[MSG_TOKEN_LEN];
	memcpy(token, f->c.token, sizeof(token));
	const struct msg hello = f->c.hello;
	for (int i = 0; i < 150; i++) {
		assert_int_equal(system(cmd), 0);
		memcpy(f->c.token, token, sizeof(token));
		f->c.hello = hello;
		corrupt(f, tables[draw() % 6]);
		if (draw() % 2)
			corrupt(f, tables[draw() % 5]);
		start_server(f, NULL);
		use_all(f, nodes, 5, fh);
		end_server(f);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_goes_on),
		T(test_lock_taken_meanwhile),
		T(test_read_only_now),
		T(test_unlinked),
		T(test_incomplete),
		T(test_replayed),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_append),
		T(test_content),
		T(test_no_leak),
		T(test_corrupt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
