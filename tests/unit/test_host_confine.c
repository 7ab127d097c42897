/*
 * What the host moves out of the export is out: for each way to know of moves, and
 * when it is moved while a request is carried out. Beside the export lies what it
 * was moved to, the canary: nothing of it may change or be told. The same requests
 * about a twin inside succeed, or the test proves nothing.
 */
#include <grp.h>
#include <signal.h>

#include "host/confine.h"
#include "host/export.h"
#include "host_fixture.h"

/* ---- the seams: what the server calls, with the host's move just before ---- */

#define TRIP	  "trip" /* the name that is made, removed... */
#define TRIP_MODE 0701	 /* the mode that is set */

static char tripped[128], away[128]; /* of a directory: where it is, and where it is moved to */
static bool no_fanotify;
static bool stays;		/* it is not moved */
static void (*meanwhile)(void); /* called after the move, unless NULL */

struct move {
	char from[128], to[128];
};

static int mover = -1; /* a process that Landlock does not confine, where this one is */

static void run_mover(int sock)
{
	struct move m;

	while (recv(sock, &m, sizeof(m), 0) == sizeof(m)) {
		int e = rename(m.from, m.to) < 0 ? errno : 0;

		if (send(sock, &e, sizeof(e), 0) < 0)
			break;
	}
	_exit(0);
}

static void start_mover(void)
{
	int p[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0 || (pid = fork()) < 0)
		_exit(1);
	(void)close(p[pid == 0 ? 0 : 1]);
	if (pid == 0)
		run_mover(p[1]);
	mover = p[0];
}

static void move_by_mover(const char *from, const char *to)
{
	struct move m = {0};
	int e;

	(void)snprintf(m.from, sizeof(m.from), "%s", from);
	(void)snprintf(m.to, sizeof(m.to), "%s", to);
	if (send(mover, &m, sizeof(m), 0) < 0 || recv(mover, &e, sizeof(e), 0) < 0 || e != 0)
		abort();
}

/* Somebody else's, as the server sees it. */
static void move(const char *from, const char *to)
{
	if (mover >= 0) {
		move_by_mover(from, to);
		return;
	}
	pid_t pid = fork();

	if (pid == 0)
		_exit(rename(from, to) < 0);
	int status;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		abort();
}

static void trip(const char *name)
{
	if (stays || strcmp(name, TRIP) != 0)
		return;
	move(tripped, away);
	if (meanwhile != NULL)
		meanwhile();
}

#define WRAP(type, fn, params, args, name)                                                         \
	type __real_##fn params;                                                                   \
	type __wrap_##fn params;                                                                   \
	type __wrap_##fn params                                                                    \
	{                                                                                          \
		trip(name);                                                                        \
		return __real_##fn args;                                                           \
	}
WRAP(int, mkdirat, (int d, const char *n, mode_t m), (d, n, m), n)
WRAP(int, mknodat, (int d, const char *n, mode_t m, dev_t v), (d, n, m, v), n)
WRAP(int, symlinkat, (const char *t, int d, const char *n), (t, d, n), n)
WRAP(int, unlinkat, (int d, const char *n, int f), (d, n, f), n)
WRAP(int, linkat, (int o, const char *f, int d, const char *n, int g), (o, f, d, n, g), n)
WRAP(int, renameat, (int d, const char *n, int e, const char *m), (d, n, e, m), m)
WRAP(int, renameat2, (int d, const char *n, int e, const char *m, unsigned f), (d, n, e, m, f), m)
WRAP(int, export_chmod, (const struct export *e, int o, mode_t m), (e, o, m),
     m == TRIP_MODE ? TRIP : "")
WRAP(int, export_reopen, (const struct export *e, int o, int f, int *r), (e, o, f, r),
     (f & O_DSYNC) != 0 ? TRIP : "")
WRAP(int, export_open, (const struct export *e, int d, const char *n, int f, mode_t m, int *r),
     (e, d, n, f, m, r), (f & O_CREAT) != 0 ? n : "")
WRAP(int, setxattr, (const char *p, const char *n, const void *v, size_t l, int f), (p, n, v, l, f),
     n + 5)
WRAP(int, removexattr, (const char *p, const char *n), (p, n), n + 5)

int __real_fanotify_init(unsigned flags, unsigned event_flags);
int __wrap_fanotify_init(unsigned flags, unsigned event_flags);
int __wrap_fanotify_init(unsigned flags, unsigned event_flags)
{
	if (!no_fanotify)
		return __real_fanotify_init(flags, event_flags);
	errno = ENOSYS;
	return -1;
}

/* ---- the ways ---- */

static const struct host_server *serving; /* this one, in its process */

static void prepare_trip(void)
{
	(void)snprintf(tripped, sizeof(tripped), "%s/d", serving->dir);
	(void)snprintf(away, sizeof(away), "%s/out", serving->base);
}

static void become_nobody(void)
{
	prepare_trip();
	if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
		_exit(1);
}

static void watch_nothing(void)
{
	prepare_trip();
	no_fanotify = true;
}

static void nobody_unwatched(void)
{
	watch_nothing();
	become_nobody();
}

static void confined(void)
{
	int abi;

	prepare_trip();
	start_mover();
	if (confine_no_new_privs() < 0 || confine_files(serving->dir, false, false, &abi) < 0)
		_exit(1);
	host_confined = true;
}

static bool in_landlock; /* the server is */

static int start_way(void **state, void (*prepare)(void), uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	serving = &f->hs;
	in_landlock = prepare == confined;
	host_remote_start_with(&f->hs, &f->c, prepare, features);
	assert_int_equal(chmod(f->hs.base, 0777), 0);
	assert_int_equal(chmod(f->hs.dir, 0777), 0);
	*state = f;
	return 0;
}

static int setup_pushes(void **state)
{
	return start_way(state, prepare_trip, HELLO_PUSH);
}

/* A mount with cache=ttl or cache=none. */
static int setup_without_pushes(void **state)
{
	return start_way(state, prepare_trip, 0);
}

static int setup_unwatched(void **state)
{
	return start_way(state, watch_nothing, HELLO_PUSH);
}

static int setup_nobody(void **state)
{
	return start_way(state, become_nobody, HELLO_PUSH);
}

static int setup_nobody_unwatched(void **state)
{
	return start_way(state, nobody_unwatched, 0);
}

static int setup_confined(void **state)
{
	return start_way(state, confined, HELLO_PUSH);
}

/* ---- a tree, and what a client knows of it ---- */

struct tree {
	uint64_t top, sub, deep, file, open, link, fh;
};

/* Both below the fixture's directory. */
static void host_moves(const struct fixture *f, const char *from, const char *to)
{
	char a[128], b[128];

	(void)snprintf(a, sizeof(a), "%.60s/%.60s", f->hs.base, from);
	(void)snprintf(b, sizeof(b), "%.60s/%.60s", f->hs.base, to);
	move(a, b);
}

static void shell(const struct fixture *f, const char *cmd, char *ret, size_t len)
{
	char line[512];

	(void)snprintf(line, sizeof(line), "cd %s && %s", f->hs.base, cmd);
	FILE *p = popen(line, "re");
	assert_non_null(p);
	size_t n = fread(ret, 1, len - 1, p);
	ret[n] = '\0';
	assert_int_equal(pclose(p), 0);
}

static void make_tree(const struct fixture *f, const char *where)
{
	char cmd[400], out[64];

	(void)snprintf(
		cmd, sizeof(cmd),
		"mkdir -p %1$s/sub/deep && cd %1$s/sub && echo file >file && echo open >open && "
		"echo gone >gone && ln -s target link && setfattr -n user.there -v x file; "
		"chown -R 65534:65534 ../.; chmod -R a+rwX ../.",
		where);
	shell(f, cmd, out, sizeof(out));
}

/* A file in the root, of the server's account: linking to another's is protected
 * (fs.protected_hardlinks). */
static void make_plain(struct fixture *f, const char *name)
{
	host_put(&f->hs, name, "p");
	assert_int_equal(fchownat(f->hs.fd, name, 65534, 65534, 0), 0);
	assert_int_equal(fchmodat(f->hs.fd, name, 0666, 0), 0);
}

/* All that could be told from outside that somebody has been at it. */
static void look_at(const struct fixture *f, const char *where, char ret[8192])
{
	char cmd[256];

	(void)snprintf(
		cmd, sizeof(cmd),
		"find %1$s -printf '%%p %%y %%m %%n %%U %%G %%s %%T@ %%C@ %%l\\n' | sort; "
		"cd %1$s && find . -type f | sort | xargs cat; getfattr -Rd . 2>/dev/null || :",
		where);
	shell(f, cmd, ret, 8192);
}

static uint64_t find(struct host_client *c, uint64_t dir, const char *name)
{
	struct msg p;

	assert_int_equal(host_lookup(c, dir, name, &p), 0);
	return p.node;
}

static void learn(struct host_client *c, const char *top, struct tree *t)
{
	struct msg p;

	t->top = find(c, c->root, top);
	t->sub = find(c, t->top, "sub");
	t->deep = find(c, t->sub, "deep");
	t->file = find(c, t->sub, "file");
	t->open = find(c, t->sub, "open");
	t->link = find(c, t->sub, "link");
	assert_int_equal(host_open(c, t->open, O_RDWR, &p), 0);
	t->fh = p.fh;
}

/* ---- every request that names a node ---- */

struct attempt {
	struct host_client *c;
	const struct tree *t;
	uint64_t other; /* a directory in the export */
	struct msg q, p;
};

static int of_name(struct attempt *a, uint64_t op, uint64_t node, const char *name)
{
	MSG_SET(&a->q, node, node);
	MSG_SET(&a->q, name, SLICE(name));
	return host_call(a->c, op, &a->q, &a->p);
}

static int do_lookup(struct attempt *a)
{
	return of_name(a, MSG_LOOKUP, a->t->sub, "file");
}

static int do_getattr_dir(struct attempt *a)
{
	return host_getattr(a->c, a->t->sub, &a->p);
}

static int do_getattr_deep(struct attempt *a)
{
	return host_getattr(a->c, a->t->deep, &a->p);
}

static int do_getattr_file(struct attempt *a)
{
	return host_getattr(a->c, a->t->file, &a->p);
}

static int do_readdir(struct attempt *a)
{
	MSG_SET(&a->q, node, a->t->sub);
	MSG_SET(&a->q, off, 0);
	MSG_SET(&a->q, size, 4096);
	return host_call(a->c, MSG_READDIRPLUS, &a->q, &a->p);
}

static int do_open(struct attempt *a)
{
	return host_open(a->c, a->t->file, O_RDONLY, &a->p);
}

static int do_open_again(struct attempt *a)
{
	return host_open(a->c, a->t->open, O_RDONLY, &a->p);
}

static int do_open_again_to_write(struct attempt *a)
{
	return host_open(a->c, a->t->open, O_RDWR, &a->p);
}

static int do_truncate(struct attempt *a)
{
	return host_open(a->c, a->t->open, O_WRONLY | O_TRUNC, &a->p);
}

static int do_create(struct attempt *a)
{
	return host_create(a->c, a->t->sub, "new", O_RDWR, 0644, &a->p);
}

static int do_create_known(struct attempt *a)
{
	return host_create(a->c, a->t->sub, "file", O_RDWR, 0644, &a->p);
}

static int do_mkdir(struct attempt *a)
{
	MSG_SET(&a->q, mode, S_IFDIR | 0755);
	return of_name(a, MSG_MKNOD, a->t->sub, "newdir");
}

static int do_mkfifo(struct attempt *a)
{
	MSG_SET(&a->q, mode, S_IFIFO | 0644);
	return of_name(a, MSG_MKNOD, a->t->deep, "newfifo");
}

static int do_symlink(struct attempt *a)
{
	MSG_SET(&a->q, payload, SLICE("target"));
	return of_name(a, MSG_SYMLINK, a->t->sub, "newlink");
}

static int link_to(struct attempt *a, uint64_t file, uint64_t dir, const char *name)
{
	MSG_SET(&a->q, node, file);
	MSG_SET(&a->q, node2, dir);
	MSG_SET(&a->q, name2, SLICE(name));
	return host_call(a->c, MSG_LINK, &a->q, &a->p);
}

static int do_link_out(struct attempt *a)
{
	return link_to(a, a->t->file, a->other, "taken");
}

static int do_link_open_out(struct attempt *a)
{
	return link_to(a, a->t->open, a->other, "taken2");
}

static int do_link_in(struct attempt *a)
{
	return link_to(a, find(a->c, a->c->root, "plain"), a->t->sub, "given");
}

static int do_unlink(struct attempt *a)
{
	return of_name(a, MSG_UNLINK, a->t->sub, "gone");
}

static int do_rmdir(struct attempt *a)
{
	return of_name(a, MSG_RMDIR, a->t->sub, "deep");
}

static int rename_to(struct attempt *a, uint64_t from, const char *name, uint64_t to,
		     const char *name2)
{
	MSG_SET(&a->q, node, from);
	MSG_SET(&a->q, name, SLICE(name));
	MSG_SET(&a->q, node2, to);
	MSG_SET(&a->q, name2, SLICE(name2));
	return host_call(a->c, MSG_RENAME, &a->q, &a->p);
}

static int do_rename_out(struct attempt *a)
{
	return rename_to(a, a->t->sub, "link", a->other, "fetched");
}

static int do_rename_in(struct attempt *a)
{
	return rename_to(a, a->c->root, "plain2", a->t->sub, "brought");
}

static int do_rename_there(struct attempt *a)
{
	return rename_to(a, a->t->sub, "file", a->t->sub, "file2");
}

static int set(struct attempt *a, uint64_t node, uint64_t valid)
{
	MSG_SET(&a->q, node, node);
	MSG_SET(&a->q, valid, valid);
	MSG_SET(&a->q, mode, 0700);
	MSG_SET(&a->q, size, 1);
	MSG_SET(&a->q, mtime, ((struct msg_time){1, 1}));
	return host_call(a->c, MSG_SETATTR, &a->q, &a->p);
}

static int do_chmod(struct attempt *a)
{
	return set(a, a->t->file, SET_MODE);
}

static int do_chmod_open(struct attempt *a)
{
	return set(a, a->t->open, SET_MODE);
}

static int do_chmod_dir(struct attempt *a)
{
	return set(a, a->t->deep, SET_MODE);
}

static int do_utimens(struct attempt *a)
{
	return set(a, a->t->sub, SET_MTIME);
}

static int do_set_size(struct attempt *a)
{
	return set(a, a->t->file, SET_SIZE);
}

static int do_readlink(struct attempt *a)
{
	MSG_SET(&a->q, node, a->t->link);
	return host_call(a->c, MSG_READLINK, &a->q, &a->p);
}

static int of_xattr(struct attempt *a, uint64_t op, const char *name)
{
	MSG_SET(&a->q, node, a->t->file);
	MSG_SET(&a->q, name2, SLICE(name));
	MSG_SET(&a->q, size, 100);
	if (op == MSG_SETXATTR)
		MSG_SET(&a->q, payload, SLICE("value"));
	return host_call(a->c, op, &a->q, &a->p);
}

static int do_getxattr(struct attempt *a)
{
	return of_xattr(a, MSG_GETXATTR, "user.there");
}

static int do_setxattr(struct attempt *a)
{
	return of_xattr(a, MSG_SETXATTR, "user.new");
}

static int do_listxattr(struct attempt *a)
{
	return of_xattr(a, MSG_LISTXATTR, "user.there");
}

static int do_removexattr(struct attempt *a)
{
	return of_xattr(a, MSG_REMOVEXATTR, "user.there");
}

static int do_statfs(struct attempt *a)
{
	MSG_SET(&a->q, node, a->t->sub);
	return host_call(a->c, MSG_STATFS, &a->q, &a->p);
}

/* In an order in which each succeeds on a tree that is there. */
static const struct {
	const char *name;
	int (*run)(struct attempt *);
	bool xattr;
} attempts[] = {
#define A(name)                                                                                    \
	{                                                                                          \
#name, do_##name, false                                                            \
	}
	A(lookup),
	A(getattr_dir),
	A(getattr_deep),
	A(getattr_file),
	A(readdir),
	A(open),
	A(open_again),
	A(open_again_to_write),
	A(truncate),
	A(create),
	A(create_known),
	A(mkdir),
	A(mkfifo),
	A(symlink),
	A(link_out),
	A(link_open_out),
	A(link_in),
	A(unlink),
	A(chmod),
	A(chmod_open),
	A(chmod_dir),
	A(utimens),
	A(set_size),
	A(readlink),
	{"getxattr", do_getxattr, true},
	{"setxattr", do_setxattr, true},
	{"listxattr", do_listxattr, true},
	{"removexattr", do_removexattr, true},
	A(statfs),
	A(rename_out),
	A(rename_in),
	A(rename_there),
#undef A
};

static void try_all(struct host_client *c, const struct tree *t, uint64_t other, bool inside)
{
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		struct attempt a = {.c = c, .t = t, .other = other};
		int r = attempts[i].run(&a);

		if (attempts[i].xattr && inside && r == -EOPNOTSUPP)
			continue; /* not on this file system */
		/* what a directory has that is not there is nothing (READDIRPLUS) */
		if (!inside && r == -ENOENT && attempts[i].run == do_readdir)
			continue;
		if (r != (inside ? 0 : -ESTALE))
			fail_msg("%s: %d", attempts[i].name, r);
	}
}

/* d, which is to be moved out, and its twin, which stays. */
static void make_twins(struct fixture *f, struct tree *t, struct tree *twin)
{
	make_tree(f, "export/d");
	make_tree(f, "export/twin");
	make_plain(f, "plain");
	make_plain(f, "plain2");
	learn(&f->c, "d", t);
	learn(&f->c, "twin", twin);
}

/* Nothing reaches what has been moved from t's place to out. */
static void attack(struct fixture *f, const struct tree *t, uint64_t other)
{
	char before[8192], after[8192];
	struct attempt rmdir_ = {.c = &f->c, .t = t};

	look_at(f, "out", before);
	try_all(&f->c, t, other, false);
	assert_int_equal(do_rmdir(&rmdir_), -ESTALE);
	look_at(f, "out", after);
	assert_string_equal(before, after);
}

static void test_moved_out(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct tree t, twin;
	struct msg p, q = {0};

	make_twins(f, &t, &twin);
	host_moves(f, "export/d", "out");
	attack(f, &t, twin.top);
	/* What is open stays: it can be read and written, and looked at. */
	assert_int_equal(host_read(c, t.fh, 0, 100, &p), 0);
	assert_int_equal(p.payload.len, 5);
	assert_int_equal(host_write(c, t.fh, 0, "OPEN", 0, &p), 0);
	assert_int_equal(host_getattr(c, t.open, &p), 0);
	MSG_SET(&q, node, t.open);
	MSG_SET(&q, fh, t.fh);
	MSG_SET(&q, valid, SET_SIZE);
	MSG_SET(&q, size, 2);
	assert_int_equal(host_call(c, MSG_SETATTR, &q, &p), 0);
	/* The same inside. */
	try_all(c, &twin, c->root, true);
	/* And back again. */
	host_moves(f, "out", "export/d");
	assert_int_equal(host_lookup(c, c->root, "d", &p), 0);
	assert_true(p.node == t.top);
	assert_int_equal(host_getattr(c, t.deep, &p), 0);
	assert_int_equal(host_lookup(c, t.sub, "file", &p), 0);
	assert_true(p.node == t.file);
	assert_int_equal(host_getattr(c, t.file, &p), 0);
}

/* One file, and one that only has another name. */
static void test_file_moved_out(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	char out[64];
	struct tree t;
	struct msg p;

	make_tree(f, "export/d");
	learn(c, "d", &t);
	host_moves(f, "export/d/sub/file", "export/d/sub/deep/renamed");
	assert_int_equal(host_getattr(c, t.file, &p), 0);
	assert_int_equal(host_open(c, t.file, O_RDWR, &p), 0);
	host_close(c, p.fh);
	assert_int_equal(host_getattr(c, t.file, &p), 0);
	host_moves(f, "export/d/sub/deep/renamed", "out");
	/* a CLOSE has no reply, and what is open may be looked at */
	for (int i = 0; i < 100000 && host_getattr(c, t.file, &p) == 0; i++)
		;
	assert_int_equal(host_getattr(c, t.file, &p), -ESTALE);
	assert_int_equal(host_open(c, t.file, O_RDONLY, &p), -ESTALE);
	struct attempt a = {.c = c, .t = &t};
	assert_int_equal(do_chmod(&a), -ESTALE);
	assert_int_equal(do_getattr_dir(&a), 0);
	/* of two names one is outside, and is moved there */
	shell(f, "ln export/d/sub/gone outside && mv outside outside2", out, sizeof(out));
	uint64_t two = find(c, t.sub, "gone");
	shell(f, "mv outside2 outside", out, sizeof(out));
	assert_int_equal(host_getattr(c, two, &p), 0);
	assert_int_equal(host_open(c, two, O_RDWR, &p), 0);
	/* unlinked by the host while it is known, alone and with its directory */
	assert_int_equal(host_getattr(c, t.open, &p), 0);
	shell(f, "rm -rf export/d/sub", out, sizeof(out));
	assert_int_equal(host_getattr(c, t.open, &p), 0);
	assert_true(p.attr.nlink == 0);
}

/* A directory that nobody told us of, above one that a client knows. */
static void test_forgotten_above(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct tree t;
	struct msg p;

	make_tree(f, "export/d");
	learn(c, "d", &t);
	host_forget(c, t.sub, 1);
	host_forget(c, t.top, 1);
	expect_forgotten(c, t.top);
	expect_forgotten(c, t.sub);
	assert_int_equal(host_getattr(c, t.deep, &p), 0);
	host_moves(f, "export/d", "out");
	assert_int_equal(host_getattr(c, t.deep, &p), -ESTALE);
	assert_int_equal(host_getattr(c, t.file, &p), -ESTALE);
	host_moves(f, "out", "export/d");
	assert_int_equal(host_lookup(c, c->root, "d", &p), 0);
	assert_int_equal(host_lookup(c, p.node, "sub", &p), 0);
	assert_int_equal(host_lookup(c, p.node, "deep", &p), 0);
	assert_true(p.node == t.deep);
	assert_int_equal(host_getattr(c, t.deep, &p), 0);
}

/* While the server is stopped its queue overflows: it has missed the move. */
static void test_after_overflow(void **state)
{
	struct fixture *f = *state;
	int max = 0, status;
	struct tree t, twin;
	FILE *limit = fopen("/proc/sys/fs/fanotify/max_queued_events", "re");

	if (limit == NULL || fscanf(limit, "%d", &max) != 1 || max > 50000)
		max = 0;
	if (limit != NULL)
		(void)fclose(limit);
	if (max == 0)
		skip();
	make_twins(f, &t, &twin);
	assert_int_equal(kill(f->hs.pid, SIGSTOP), 0);
	assert_int_equal(waitpid(f->hs.pid, &status, WUNTRACED), f->hs.pid);
	for (int i = 0; i < max + 100; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "../x%d", i);
		assert_int_equal(symlinkat("t", f->hs.fd, name), 0);
		assert_int_equal(__real_unlinkat(f->hs.fd, name, 0), 0);
	}
	host_moves(f, "export/d", "out");
	assert_int_equal(kill(f->hs.pid, SIGCONT), 0);
	attack(f, &t, twin.top);
	try_all(&f->c, &twin, f->c.root, true);
}

/* ---- moved while the request is carried out ---- */

static int trip_mkdir(struct attempt *a)
{
	MSG_SET(&a->q, mode, S_IFDIR | 0755);
	return of_name(a, MSG_MKNOD, a->t->sub, TRIP);
}

static int trip_mknod(struct attempt *a)
{
	MSG_SET(&a->q, mode, S_IFREG | 0644);
	return of_name(a, MSG_MKNOD, a->t->sub, TRIP);
}

static int trip_symlink(struct attempt *a)
{
	MSG_SET(&a->q, payload, SLICE("target"));
	return of_name(a, MSG_SYMLINK, a->t->sub, TRIP);
}

static int trip_link(struct attempt *a)
{
	return link_to(a, a->t->file, a->t->sub, TRIP);
}

static int trip_unlink(struct attempt *a)
{
	return of_name(a, MSG_UNLINK, a->t->sub, TRIP);
}

static int trip_rename_in(struct attempt *a)
{
	return rename_to(a, a->other, "plain", a->t->sub, TRIP);
}

static int trip_rename_out(struct attempt *a)
{
	return rename_to(a, a->t->sub, "file", a->other, TRIP);
}

static int trip_create(struct attempt *a)
{
	return host_create(a->c, a->t->sub, TRIP, O_RDWR, 0644, &a->p);
}

static int trip_chmod(struct attempt *a)
{
	MSG_SET(&a->q, node, a->t->sub);
	MSG_SET(&a->q, valid, SET_MODE);
	MSG_SET(&a->q, mode, TRIP_MODE);
	return host_call(a->c, MSG_SETATTR, &a->q, &a->p);
}

static int trip_chmod_file(struct attempt *a)
{
	MSG_SET(&a->q, node, a->t->file);
	MSG_SET(&a->q, valid, SET_MODE);
	MSG_SET(&a->q, mode, TRIP_MODE);
	return host_call(a->c, MSG_SETATTR, &a->q, &a->p);
}

static int trip_open(struct attempt *a)
{
	return host_open(a->c, a->t->file, O_RDWR | O_DSYNC, &a->p);
}

static int trip_setxattr(struct attempt *a)
{
	return of_xattr(a, MSG_SETXATTR, "user." TRIP);
}

static const struct {
	const char *name;
	int (*run)(struct attempt *);
	bool exists; /* TRIP is there before */
	int names;   /* so many come to be there, where nothing refuses it */
} trips[] = {
	{"mkdir", trip_mkdir, false, 1},
	{"mknod", trip_mknod, false, 1},
	{"symlink", trip_symlink, false, 1},
	{"link", trip_link, false, 1},
	{"unlink", trip_unlink, true, -1},
	{"rename in", trip_rename_in, false, 1},
	{"rename out", trip_rename_out, false, -1},
	{"create", trip_create, false, 1},
	{"chmod", trip_chmod, false, 0},
	{"chmod of a file", trip_chmod_file, false, 0},
	{"open", trip_open, false, 0},
	{"setxattr", trip_setxattr, false, 0},
};

static int count_names(const struct fixture *f, const char *where)
{
	char cmd[64], out[64];

	(void)snprintf(cmd, sizeof(cmd), "find %s | wc -l", where);
	shell(f, cmd, out, sizeof(out));
	return atoi(out);
}

static void test_moved_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	char out[64];

	for (size_t i = 0; i < sizeof(trips) / sizeof(trips[0]); i++) {
		struct tree t;

		make_tree(f, "export/d");
		make_plain(f, "plain");
		if (trips[i].exists)
			shell(f, "touch export/d/sub/" TRIP, out, sizeof(out));
		learn(c, "d", &t);
		struct attempt a = {.c = c, .t = &t, .other = c->root};
		int names = count_names(f, "export/d");
		int r = trips[i].run(&a);
		shell(f, "test -d out || echo not moved", out, sizeof(out));
		assert_string_equal(out, "");
		if (r != -ESTALE && !(r == -EOPNOTSUPP && trips[i].run == trip_setxattr))
			fail_msg("%s: %d", trips[i].name, r);
		/* Landlock closes the instant between the look and the call. */
		if (count_names(f, "out") != names + (in_landlock ? 0 : trips[i].names))
			fail_msg("%s: %d names where it was moved to", trips[i].name,
				 count_names(f, "out") - names);
		host_close(c, t.fh);
		shell(f, "rm -rf out export/* ", out, sizeof(out));
	}
}

/* ---- what is counted ---- */

static struct stats *counted;

static int setup_counted(void **state)
{
	assert_int_equal(stats_new(NULL, &counted), 0);
	const struct server_config config = {.stats = counted};

	no_fanotify = true; /* the move is this process's own */
	const int r = start(state, &config);
	no_fanotify = false;
	struct fixture *f = *state;

	serving = &f->hs;
	prepare_trip();
	return r;
}

static int teardown_counted(void **state)
{
	const int r = teardown(state);

	stats_free(counted);
	return r;
}

static void test_counted(void **state)
{
	struct fixture *f = *state;
	struct tree t;

	make_tree(f, "export/d");
	learn(&f->c, "d", &t);
	struct attempt a = {.c = &f->c, .t = &t, .other = f->c.root};
	assert_int_equal(stats_get(counted, STAT_server_outside), 0);
	assert_int_equal(trip_mkdir(&a), -ESTALE);
	assert_int_equal(stats_get(counted, STAT_server_outside), 1);
}

static int setup_here(void **state)
{
	const int r = setup(state);
	struct fixture *f = *state;

	serving = &f->hs;
	prepare_trip();
	return r;
}

static struct host_client looker;
static uint64_t looked_at;
static int looked;

static void look_meanwhile(void)
{
	struct msg p;

	looked = host_getattr(&looker, looked_at, &p);
}

/*
 * A client's rename takes a directory out to where the host has moved its new parent, just
 * after what is below it was found to be inside.
 */
static void test_taken_along(void **state)
{
	struct fixture *f = *state;
	struct tree t;
	struct msg p;

	make_tree(f, "export/d");
	make_tree(f, "export/twin");
	learn(&f->c, "d", &t);
	struct attempt a = {.c = &f->c, .t = &t};
	memset(&looker, 0, sizeof(looker));
	host_client_start(&looker, &f->hs);
	looked_at = find(&looker, find(&looker, looker.root, "twin"), "sub");
	looked = -EINVAL;
	meanwhile = look_meanwhile;
	int r = rename_to(&a, f->c.root, "twin", t.sub, TRIP);
	meanwhile = NULL;
	assert_int_equal(r, -ESTALE);
	assert_int_equal(looked, 0);
	assert_int_equal(host_getattr(&looker, looked_at, &p), -ESTALE);
	host_client_stop(&looker);
}

/* ---- a plain client, which names paths ---- */

static int plain_call(struct fixture *f, uint32_t op, const char *path, const char *new_path,
		      uint32_t mode)
{
	struct plain_request q = {.op = op, .path = SLICE(path), .mode = mode};
	struct plain_reply reply;
	struct plain_buf out = {0};
	struct host_client plain;
	unsigned char *buf = NULL;
	size_t cap = 0, len = 0;
	const char *why;

	if (op == PLAIN_SYMLINK)
		q.data = SLICE(new_path);
	else if (new_path != NULL)
		q.new_path = SLICE(new_path);
	host_client_connect(&plain, &f->hs);
	assert_int_equal(plain_request_encode(&q, &out), 0);
	assert_int_equal(stream_send_plain(plain.stream, out.data, out.len), 0);
	assert_int_equal(stream_recv_plain(plain.stream, 65536, &buf, &cap, &len, 5000), 0);
	assert_int_equal(plain_reply_decode(buf, len, &reply, &why), 0);
	plain_buf_done(&out);
	free(buf);
	host_client_stop(&plain);
	return (int)reply.err;
}

static void test_plain_meanwhile(void **state)
{
#define D "/workspace/d/sub/"
	static const struct {
		uint32_t op;
		const char *path, *new_path;
		uint32_t mode;
		bool exists;
	} calls[] = {
		{PLAIN_MKDIR, D TRIP, NULL, 0755, false},
		{PLAIN_SYMLINK, D TRIP, "target", 0, false},
		{PLAIN_CREATE, D TRIP, NULL, 0644, false},
		{PLAIN_LINK, D "file", D TRIP, 0, false},
		{PLAIN_RENAME, D "file", D TRIP, 0, false},
		{PLAIN_RENAME, D "file", "/workspace/" TRIP, 0, false},
		{PLAIN_UNLINK, D TRIP, NULL, 0, true},
		{PLAIN_SETATTR, D "file", NULL, TRIP_MODE, false},
	};
	struct fixture *f = *state;
	char out[64];

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		for (int inside = 1; inside >= 0; inside--) { /* first a twin that stays */
			make_tree(f, "export/d");
			if (calls[i].exists)
				shell(f, "touch export/d/sub/" TRIP, out, sizeof(out));
			stays = inside;
			int r = plain_call(f, calls[i].op, calls[i].path, calls[i].new_path,
					   calls[i].mode);
			stays = false;
			if (r != (inside ? 0 : -ESTALE))
				fail_msg("plain op %u: %d", calls[i].op, r);
			shell(f, inside ? "rm -rf export/*" : "test -d out && rm -rf out export/*",
			      out, sizeof(out));
		}
	}
}

/* Over and over: what is told of a move and what is learned anew go at the same time. */
static void test_to_and_fro(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct tree t;
	struct msg p;

	make_tree(f, "export/d");
	learn(c, "d", &t);
	for (int i = 0; i < 200; i++) {
		host_moves(f, "export/d/sub", "out");
		assert_int_equal(host_lookup(c, t.sub, "file", &p), -ESTALE);
		assert_int_equal(host_getattr(c, t.file, &p), -ESTALE);
		assert_int_equal(host_lookup(c, t.top, "sub", &p), -ENOENT);
		host_moves(f, "out", "export/d/sub");
		if (i % 2 == 0)
			assert_int_equal(host_lookup(c, t.top, "sub", &p), 0);
		assert_int_equal(host_getattr(c, t.deep, &p), 0);
		assert_int_equal(host_getattr(c, t.file, &p), 0);
		assert_int_equal(host_lookup(c, t.sub, "file", &p), 0);
	}
}

static bool kernel_confines(void)
{
	pid_t pid = fork();
	int status, abi;

	if (pid == 0)
		_exit(confine_no_new_privs() < 0 || confine_files("/", false, false, &abi) < 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

#define WAY(test, way)                                                                             \
	{                                                                                          \
#test " " #way, test, setup_##way, teardown, NULL                                  \
	}
#define EACH_WAY(test)                                                                             \
	WAY(test, pushes), WAY(test, without_pushes), WAY(test, unwatched), WAY(test, nobody),     \
		WAY(test, nobody_unwatched)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH_WAY(test_moved_out),
		EACH_WAY(test_file_moved_out),
		EACH_WAY(test_forgotten_above),
		EACH_WAY(test_to_and_fro),
		cmocka_unit_test_setup_teardown(test_counted, setup_counted, teardown_counted),
		WAY(test_taken_along, here),
		EACH_WAY(test_moved_meanwhile),
		WAY(test_plain_meanwhile, here),
		WAY(test_after_overflow, pushes),
		WAY(test_after_overflow, without_pushes),
	};
	const struct CMUnitTest in_sandbox[] = {
		WAY(test_moved_out, confined),	     WAY(test_file_moved_out, confined),
		WAY(test_forgotten_above, confined), WAY(test_to_and_fro, confined),
		WAY(test_moved_meanwhile, confined),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	return failed + (kernel_confines() ? cmocka_run_group_tests(in_sandbox, NULL, NULL) : 0);
}
