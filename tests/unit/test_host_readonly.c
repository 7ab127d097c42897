/*
 * A read-only export is never changed: every message of messages.def, with whatever would
 * change something, by a client that does not care what it was told. Twice: on a read-only
 * export, of which all that can be seen must stay, and on its twin that may be written, where
 * the same must succeed and show.
 */
#include <sys/file.h>
#include <sys/xattr.h>

#include "host_fixture.h"

static void shell(const struct host_server *hs, const char *what, char *ret, size_t len)
{
	char cmd[640];

	(void)snprintf(cmd, sizeof(cmd), "cd %s && %s", hs->dir, what);
	FILE *p = popen(cmd, "re");
	assert_non_null(p);
	size_t n = fread(ret, 1, len - 1, p);
	ret[n] = '\0';
	assert_int_equal(pclose(p), 0);
}

#define TIMES                                                                                      \
	"stat -c '%n %f %h %u %g %s %y %z %x' . f g d d/empty d/old 2>/dev/null; "                 \
	"stat -c '%n %f %h %u %g %s %y %z' l 2>/dev/null || :"
#define CONTENT                                                                                    \
	"{ find . -type f | sort | xargs grep ''; getfattr -Rhd -m - .; ls -AlR; } 2>/dev/null || :"

/*
 * All that shows a change. To look at content moves access times: so the times come first, of
 * what was there at the beginning, and old ones, which reading would move (relatime). Reading a
 * symbolic link cannot be kept from moving its own.
 */
struct look {
	char times[4096], content[8192];
};

static void look_before(const struct host_server *hs, struct look *l)
{
	char none[64];

	shell(hs, CONTENT, l->content, sizeof(l->content));
	shell(hs, "touch -a -d '2 days ago' f g d d/empty d/old . 2>/dev/null || :", none,
	      sizeof(none));
	shell(hs, TIMES, l->times, sizeof(l->times));
}

static bool changed(const struct host_server *hs, const struct look *before)
{
	struct look now;

	shell(hs, TIMES, now.times, sizeof(now.times));
	shell(hs, CONTENT, now.content, sizeof(now.content));
	return strcmp(before->times, now.times) != 0 || strcmp(before->content, now.content) != 0;
}

static void make_tree(const struct host_server *hs)
{
	char cmd[512];

	(void)snprintf(cmd, sizeof(cmd),
		       "cd %s && mkdir d d/empty && echo content >f && echo more >g && "
		       "ln -s f l && touch d/old && setfattr -n user.x -v y g; "
		       "chown 1000:1000 f && chmod 6755 f && "
		       "touch g",
		       hs->dir);
	assert_int_equal(system(cmd), 0);
}

struct attempt {
	struct host_client *c;
	uint64_t f, g, d, empty, l;
	uint64_t fh, gh;
	struct msg q, p;
};

#define SET(field, value) MSG_SET(&a->q, field, value)
#define ATTEMPT(NAME, ...)                                                                         \
	static int do_##NAME(struct attempt *a)                                                    \
	{                                                                                          \
		__VA_ARGS__;                                                                       \
		return host_call(a->c, MSG_##NAME, &a->q, &a->p);                                  \
	}

ATTEMPT(PING, (void)0)
ATTEMPT(FENCE, (void)0)
ATTEMPT(LOOKUP, SET(node, a->d); SET(name, SLICE("old")))
ATTEMPT(GETATTR, SET(node, a->f))
ATTEMPT(READDIRPLUS, SET(node, a->d); SET(off, 0); SET(size, 4096))
ATTEMPT(OPEN, SET(node, a->g); SET(flags, O_WRONLY | O_TRUNC))
ATTEMPT(CREATE, SET(node, a->d); SET(name, SLICE("created")); SET(flags, O_RDWR); SET(mode, 0644))
ATTEMPT(READ, SET(fh, a->fh); SET(off, 0); SET(size, 100))
ATTEMPT(WRITE, SET(fh, a->fh); SET(off, 0); SET(flags, STRIP_IDS); SET(payload, SLICE("CONTENT")))
ATTEMPT(SETATTR, SET(node, a->g); SET(fh, a->gh); SET(valid, SET_MODE | SET_SIZE | SET_MTIME_NOW);
	SET(mode, 0600); SET(size, 1))
ATTEMPT(MKNOD, SET(node, a->d); SET(name, SLICE("made")); SET(mode, S_IFDIR | 0755))
ATTEMPT(SYMLINK, SET(node, a->d); SET(name, SLICE("symlink")); SET(payload, SLICE("target")))
ATTEMPT(LINK, SET(node, a->f); SET(node2, a->d); SET(name2, SLICE("link")))
ATTEMPT(UNLINK, SET(node, a->d); SET(name, SLICE("old")))
ATTEMPT(RMDIR, SET(node, a->d); SET(name, SLICE("empty")))
ATTEMPT(RENAME, SET(node, a->c->root); SET(name, SLICE("l")); SET(node2, a->d);
	SET(name2, SLICE("renamed")))
ATTEMPT(READLINK, SET(node, a->l))
ATTEMPT(STATFS, SET(node, a->f))
ATTEMPT(FSYNC, SET(node, a->f); SET(fh, a->fh))
ATTEMPT(FLUSH, SET(fh, a->fh); SET(owner, 1))
ATTEMPT(GETLK, SET(fh, a->fh); SET(owner, 2); SET(type, 0); SET(off, 0); SET(off2, 1))
ATTEMPT(SETLK, SET(fh, a->fh); SET(owner, 1); SET(type, 0); SET(off, 0); SET(off2, 1))
ATTEMPT(GETXATTR, SET(node, a->g); SET(name2, SLICE("user.x")); SET(size, 100))
ATTEMPT(SETXATTR, SET(node, a->g); SET(name2, SLICE("user.new")); SET(payload, SLICE("value")))
ATTEMPT(LISTXATTR, SET(node, a->g); SET(size, 100))
ATTEMPT(REMOVEXATTR, SET(node, a->g); SET(name2, SLICE("user.x")))
ATTEMPT(LSEEK, SET(fh, a->fh); SET(off, 0); SET(flags, SEEK_DATA))
ATTEMPT(FALLOCATE, SET(fh, a->fh); SET(off, 0); SET(size, 8192))
ATTEMPT(COPY, SET(fh, a->gh); SET(off, 0); SET(fh2, a->fh); SET(off2, 0); SET(size, 3))

/* Those without a reply, and what the session itself answers. */
static int no_reply(struct attempt *a)
{
	(void)a;
	return 0;
}
#define do_HELLO  no_reply
#define do_CANCEL no_reply
#define do_FORGET no_reply
#define do_CLOSE  no_reply
#define do_ACK	  no_reply
#define do_RESUME no_reply
#define do_GOODBYE no_reply

/* Of each message one: a new one does not compile without. */
static const struct {
	const char *name;
	int (*run)(struct attempt *);
	bool changes; /* a read-only export refuses it with EROFS */
} attempts[] = {
#define T(trait) TRAIT_##trait
#define MESSAGE(code, NAME, request_, reply_, traits, text)                                        \
	{#NAME, do_##NAME, ((traits)&TRAIT_CHANGES) != 0},
#define PUSH(code, NAME, request_, reply_, traits_, text)
#include "core/messages.def"
#undef MESSAGE
};

static uint64_t find(struct host_client *c, uint64_t dir, const char *name)
{
	struct msg p;

	assert_int_equal(host_lookup(c, dir, name, &p), 0);
	return p.node;
}

static void learn(struct host_client *c, int access, struct attempt *a)
{
	struct msg p;

	*a = (struct attempt){.c = c};
	a->f = find(c, c->root, "f");
	a->g = find(c, c->root, "g");
	a->d = find(c, c->root, "d");
	a->l = find(c, c->root, "l");
	a->empty = find(c, a->d, "empty");
	assert_int_equal(host_open(c, a->f, (uint64_t)access, &p), 0);
	a->fh = p.fh;
	assert_int_equal(host_open(c, a->g, (uint64_t)access, &p), 0);
	a->gh = p.fh;
}

static void test_every_message(void **state)
{
	struct fixture *f = *state;
	bool read_only = (f->c.hello.features & HELLO_READONLY) != 0;
	struct look before;
	struct attempt known;

	make_tree(&f->hs);
	learn(&f->c, read_only ? O_RDONLY : O_RDWR, &known);
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		bool change = attempts[i].changes, xattr = strstr(attempts[i].name, "XATTR");
		struct attempt a = known;

		look_before(&f->hs, &before);
		int r = attempts[i].run(&a);
		bool differs = changed(&f->hs, &before);
		if (xattr && (r == -EOPNOTSUPP || r == -ENODATA))
			continue; /* not on this file system */
		if (r != (read_only && change ? -EROFS : 0))
			fail_msg("%s: %d", attempts[i].name, r);
		if (read_only ? differs : change && !differs)
			fail_msg("%s changes %s", attempts[i].name,
				 differs ? "something" : "nothing");
	}
}

/* Each way to open: the handle is one to read by, or there is none. */
static void test_open_flags(void **state)
{
	static const int bad[] = {O_WRONLY,	      O_RDWR,		O_ACCMODE, O_TRUNC,
				  O_RDONLY | O_TRUNC, O_RDWR | O_APPEND};
	struct fixture *f = *state;
	struct look before;
	struct attempt a;
	struct msg p;

	make_tree(&f->hs);
	learn(&f->c, O_RDONLY, &a);
	look_before(&f->hs, &before);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(host_open(&f->c, a.f, (uint64_t)bad[i], &p), -EROFS);
		assert_int_equal(host_create(&f->c, f->c.root, "f", (uint64_t)bad[i], 0600, &p),
				 -EROFS);
	}
	assert_int_equal(host_create(&f->c, f->c.root, "f", O_RDONLY, 0600, &p), -EROFS);
	assert_int_equal(host_create(&f->c, f->c.root, "", O_TMPFILE | O_RDWR, 0600, &p), -EROFS);
	assert_false(changed(&f->hs, &before));
}

/* On an export that may be written: a descriptor to read by leaves the set-id bits on. */
static void test_reading_handle(void **state)
{
	struct fixture *f = *state;
	struct look before;
	struct attempt a, b;

	make_tree(&f->hs);
	learn(&f->c, O_RDONLY, &a);
	look_before(&f->hs, &before);
	b = a;
	assert_int_equal(do_WRITE(&b), -EBADF);
	b = a;
	MSG_SET(&b.q, uid, 1000);
	MSG_SET(&b.q, gid, 1000);
	assert_int_equal(do_FALLOCATE(&b), -EBADF);
	b = a;
	MSG_SET(&b.q, uid, 1000);
	MSG_SET(&b.q, gid, 1000);
	assert_int_equal(do_COPY(&b), -EBADF);
	assert_false(changed(&f->hs, &before));
}

static int flock_msg(struct attempt *known, uint64_t fh, uint64_t owner, uint64_t type)
{
	struct attempt b = *known, *a = &b;

	SET(fh, fh);
	SET(owner, owner);
	SET(type, type);
	SET(off, 0);
	SET(off2, INT64_MAX);
	SET(flags, LOCK_BSD);
	return host_call(a->c, MSG_SETLK, &a->q, &a->p);
}

/* Guests of a read-only export keep each other out, and not the host's programs. */
static void test_exclusive_locks(void **state)
{
	struct fixture *f = *state;
	bool read_only = (f->c.hello.features & HELLO_READONLY) != 0;
	struct host_client other;
	struct attempt a, b;
	struct msg p;

	make_tree(&f->hs);
	host_client_start(&other, &f->hs);
	learn(&f->c, O_RDONLY, &a);
	learn(&other, O_RDONLY, &b);
	int host = openat(f->hs.fd, "f", O_RDONLY | O_CLOEXEC);
	/* exclusive: towards the host as a shared one */
	assert_int_equal(flock_msg(&a, a.fh, 1, 1), 0);
	assert_int_equal(flock(host, LOCK_SH | LOCK_NB), read_only ? 0 : -1);
	assert_int_equal(flock(host, LOCK_UN), 0);
	assert_int_equal(flock_msg(&b, b.fh, 1, 1), -EAGAIN);
	assert_int_equal(flock_msg(&b, b.fh, 1, 0), -EAGAIN);
	/* shared: on the host as well */
	assert_int_equal(flock_msg(&a, a.fh, 1, 0), 0);
	assert_int_equal(flock_msg(&b, b.fh, 1, 0), 0);
	assert_int_equal(flock(host, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(flock_msg(&a, a.fh, 1, 2), 0);
	assert_int_equal(flock_msg(&b, b.fh, 1, 2), 0);
	assert_int_equal(flock(host, LOCK_EX | LOCK_NB), 0);
	/* what the host has locked nobody gets, and what failed is not held half */
	assert_int_equal(flock_msg(&a, a.fh, 1, 1), -EAGAIN);
	assert_int_equal(flock_msg(&a, a.fh, 1, 0), -EAGAIN);
	assert_int_equal(flock(host, LOCK_UN), 0);
	assert_int_equal(flock_msg(&b, b.fh, 1, 1), 0);
	assert_int_equal(flock_msg(&b, b.fh, 1, 2), 0);
	/* A POSIX lock for writing needs a file that is open for writing; it has no other. */
	MSG_SET(&a.q, fh, a.fh);
	MSG_SET(&a.q, owner, 1);
	MSG_SET(&a.q, type, 1);
	MSG_SET(&a.q, off, 0);
	MSG_SET(&a.q, off2, 1);
	assert_int_equal(host_call(&f->c, MSG_SETLK, &a.q, &p), read_only ? -EBADF : 0);
	(void)close(host);
	host_client_stop(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_message, setup_read_only, teardown),
		cmocka_unit_test_setup_teardown(test_every_message, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_flags, setup_read_only, teardown),
		cmocka_unit_test_setup_teardown(test_reading_handle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exclusive_locks, setup_read_only, teardown),
		cmocka_unit_test_setup_teardown(test_exclusive_locks, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
