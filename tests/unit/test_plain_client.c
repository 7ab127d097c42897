/*
 * The plain client against a scripted server: a thread at the other end of a
 * socketpair that expects one request after the other and answers as told.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cmocka_any.h"

#include "core/log.h"
#include "plain/plain_client.h"
#include "plain/plain_codec.h"
#include "transport/codec.h"
#include "transport/stream.h"

#define TEXT(s) ((struct slice){s, sizeof(s) - 1})

/* ---- the scripted server ---- */

struct step {
	struct plain_request want; /* all fields count, uid and gid included; times where it has any */
	struct plain_reply reply;
	const struct plain_entry *entries;
	size_t entry_count;
	struct slice raw; /* instead of reply: what goes over the wire */
	bool hang_up;	  /* after it */
	bool silent;	  /* no reply */
};

#define FILE_STAT(size_, ino_)                                                                     \
	{                                                                                          \
		.size = (size_), .mode = 0644, .mtime = 77, .ino = (ino_)                          \
	}
#define DIR_STAT(ino_)                                                                             \
	{                                                                                          \
		.mode = PLAIN_MODE_DIR | 0755, .mtime = 77, .is_dir = true, .ino = (ino_)          \
	}

#define ASK(op_, ...) .want = {.op = PLAIN_##op_, __VA_ARGS__}
#define ANSWER(...)   .reply = {__VA_ARGS__}
#define ERROR(e)      .reply = {.err = -(e)}
#define STAT(...)     .reply = {.has_stat = true, .stat = __VA_ARGS__}
#define PATH(p)	      .path = TEXT(p)

/* What every client starts with; the second: an old server, which has no op 17. */
#define START_OLD                                                                                  \
	{ASK(GETATTR, PATH("/w")), STAT(DIR_STAT(2))},                                             \
	{                                                                                          \
		ASK(READLINK, PATH("/w")), ERROR(ENOSYS)                                           \
	}
#define START_NEW                                                                                  \
	{ASK(GETATTR, PATH("/w")), STAT(DIR_STAT(2))},                                             \
	{                                                                                          \
		ASK(READLINK, PATH("/w")), ERROR(EINVAL)                                           \
	}

struct script {
	struct stream *stream;
	const struct step *steps;
	size_t count;
	pthread_t thread;
	sem_t silences; /* requests received that get no reply */
	char problem[256];
};

static bool same_slice(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool same_request(const struct plain_request *a, const struct plain_request *b)
{
	return a->op == b->op && same_slice(a->path, b->path) &&
	       same_slice(a->new_path, b->new_path) && a->fh == b->fh && a->off == b->off &&
	       a->sz == b->sz && same_slice(a->data, b->data) && a->flags == b->flags &&
	       a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
	       (!b->has_mtime || (a->has_atime && a->has_mtime && a->atime_ns == b->atime_ns &&
				  a->mtime_ns == b->mtime_ns));
}

static void describe(char *out, size_t cap, const struct plain_request *q)
{
	(void)snprintf(out, cap,
		       "op %u path %.*s new %.*s fh %llu off %lld sz %u data %zu flags %o mode %o "
		       "uid %u gid %u",
		       q->op, (int)q->path.len, (const char *)q->path.data, (int)q->new_path.len,
		       (const char *)q->new_path.data, (unsigned long long)q->fh, (long long)q->off,
		       q->sz, q->data.len, q->flags, q->mode, q->uid, q->gid);
}

static void answer(struct script *s, const struct step *step)
{
	struct plain_buf b = {0}, entries = {0};
	struct plain_reply p = step->reply;

	if (step->raw.data != NULL) {
		(void)stream_send_raw(s->stream, step->raw.data, step->raw.len, NULL, 0);
		return;
	}
	for (size_t i = 0; i < step->entry_count; i++)
		(void)plain_entry_put(&entries, &step->entries[i]);
	p.entry_count = step->entry_count;
	p.entries = (struct slice){entries.data, entries.len};
	if (plain_reply_encode(&p, &b) == 0)
		(void)stream_send_plain(s->stream, b.data, b.len);
	plain_buf_done(&b);
	plain_buf_done(&entries);
}

static void *serve(void *arg)
{
	struct script *s = arg;
	unsigned char *buf = NULL;
	size_t cap = 0, len, i;

	for (i = 0; i <= s->count && s->problem[0] == '\0'; i++) {
		struct plain_request q;
		const char *why = "not decoded";
		int r = stream_recv_plain(s->stream, PLAIN_FRAME_MAX, &buf, &cap, &len, -1);

		if (r < 0)
			break;
		if (plain_request_decode(buf, len, &q, &why) < 0) {
			(void)snprintf(s->problem, sizeof(s->problem), "request %zu: %s", i, why);
		} else if (i == s->count || !same_request(&q, &s->steps[i].want)) {
			int at = snprintf(s->problem, sizeof(s->problem), "request %zu is ", i);

			describe(s->problem + at, sizeof(s->problem) - (size_t)at, &q);
		} else if (s->steps[i].silent) {
			(void)sem_post(&s->silences);
		} else {
			answer(s, &s->steps[i]);
			if (s->steps[i].hang_up) {
				i++;
				break;
			}
		}
	}
	if (s->problem[0] == '\0' && i < s->count)
		(void)snprintf(s->problem, sizeof(s->problem), "only %zu of %zu requests came", i,
			       s->count);
	stream_shutdown(s->stream);
	free(buf);
	return NULL;
}

/* ---- the fixture ---- */

struct fixture {
	struct script script;
	struct backend *backend;
	atomic_int lost;
	sem_t told; /* as often as lost was counted */
	uint32_t uid, gid; /* whose calls they are */
};

static void wait_for_sem(sem_t *s)
{
	struct timespec end;

	(void)clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 30;
	assert_int_equal(sem_timedwait(s, &end), 0);
}

static void count_lost(void *arg)
{
	struct fixture *f = arg;

	f->lost++;
	(void)sem_post(&f->told);
}

static int start(struct fixture *f, const struct step *steps, size_t count, char *err,
		 size_t err_len)
{
	int fds[2];
	const struct plain_options o = {
	    .base = "/w",
	    .uid = 1000,
	    .gid = 100,
	    .sure_ms = UINT64_MAX, /* how often a directory is asked about is not left to the clock */
	    .lost = count_lost,
	    .lost_arg = f};

	memset(f, 0, sizeof(*f));
	(void)sem_init(&f->script.silences, 0, 0);
	(void)sem_init(&f->told, 0, 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(stream_new(fds[1], &f->script.stream), 0);
	f->script.steps = steps;
	f->script.count = count;
	assert_int_equal(pthread_create(&f->script.thread, NULL, serve, &f->script), 0);
	return plain_client_new(fds[0], &o, &f->backend, err, err_len);
}

static void stop_peer(struct fixture *f)
{
	if (f->backend != NULL) {
		f->backend->ops->shutdown(f->backend);
		f->backend->ops->free(f->backend);
	}
	(void)pthread_join(f->script.thread, NULL);
	stream_free(f->script.stream);
	if (f->script.problem[0] != '\0')
		fail_msg("%s", f->script.problem);
}

#define START(f, steps)                                                                            \
	do {                                                                                       \
		char start_err[256] = "";                                                          \
		if (start(f, steps, sizeof(steps) / sizeof((steps)[0]), start_err,                 \
			  sizeof(start_err)) < 0)                                                  \
			fail_msg("start: %s", start_err);                                          \
	} while (0)

/* One call and its reply, waited for. */
struct answer {
	struct call call;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is_done;
	struct msg reply;
	unsigned char payload[65536];
};

static void on_done(struct call *call, const struct msg *reply)
{
	struct answer *a = (struct answer *)call;

	(void)pthread_mutex_lock(&a->lock);
	a->reply = *reply;
	if (MSG_HAS(reply, payload)) {
		assert_true(reply->payload.len <= sizeof(a->payload));
		if (reply->payload.len > 0)
			memcpy(a->payload, reply->payload.data, reply->payload.len);
		a->reply.payload.data = a->payload;
	}
	a->is_done = true;
	(void)pthread_cond_signal(&a->done);
	(void)pthread_mutex_unlock(&a->lock);
}

static void on_sent(struct call *call)
{
	const struct msg none = {0};

	on_done(call, &none);
}

static struct answer the_answer = {.lock = PTHREAD_MUTEX_INITIALIZER,
				   .done = PTHREAD_COND_INITIALIZER};

static void submit(struct fixture *f, struct answer *a, struct msg m, bool oneway)
{
	a->call = (struct call){
	    .req = m, .uid = f->uid, .gid = f->gid, .done = oneway ? NULL : on_done, .sent = on_sent};
	a->is_done = false;
	f->backend->ops->submit(f->backend, &a->call);
}

static const struct msg *wait_for(struct answer *a)
{
	(void)pthread_mutex_lock(&a->lock);
	while (!a->is_done)
		(void)pthread_cond_wait(&a->done, &a->lock);
	(void)pthread_mutex_unlock(&a->lock);
	return &a->reply;
}

static const struct msg *ask(struct fixture *f, struct msg m)
{
	submit(f, &the_answer, m, false);
	return wait_for(&the_answer);
}

static struct msg request(uint64_t op, uint64_t node)
{
	struct msg m = {0};

	MSG_SET(&m, op, op);
	MSG_SET(&m, node, node);
	return m;
}

static struct msg named(uint64_t op, uint64_t node, const char *name)
{
	struct msg m = request(op, node);
	const struct slice s = {name, strlen(name)};

	MSG_SET(&m, name, s);
	return m;
}

static struct msg named2(uint64_t op, uint64_t node, const char *name, uint64_t node2,
			 const char *name2)
{
	struct msg m = name != NULL ? named(op, node, name) : request(op, node);
	const struct slice s = {name2, strlen(name2)};

	MSG_SET(&m, node2, node2);
	MSG_SET(&m, name2, s);
	return m;
}

static struct msg on_file(uint64_t op, uint64_t fh, uint64_t off)
{
	struct msg m = {0};

	MSG_SET(&m, op, op);
	MSG_SET(&m, fh, fh);
	MSG_SET(&m, off, off);
	return m;
}

static uint64_t lookup(struct fixture *f, uint64_t node, const char *name)
{
	const struct msg *r = ask(f, named(MSG_LOOKUP, node, name));

	assert_int_equal(r->err, 0);
	assert_true(MSG_HAS(r, node) && MSG_HAS(r, attr));
	return r->node;
}

static uint64_t open_file(struct fixture *f, uint64_t node, unsigned flags)
{
	struct msg m = request(MSG_OPEN, node);

	MSG_SET(&m, flags, flags);
	const struct msg *r = ask(f, m);
	assert_int_equal(r->err, 0);
	assert_true(MSG_HAS(r, fh) && MSG_HAS(r, attr));
	return r->fh;
}

static void oneway(struct fixture *f, uint64_t op, const unsigned char *data, size_t len)
{
	struct msg m = {0};
	const struct slice payload = {data, len};

	MSG_SET(&m, op, op);
	MSG_SET(&m, payload, payload);
	submit(f, &the_answer, m, true);
	(void)wait_for(&the_answer);
}

static void forget(struct fixture *f, uint64_t node, uint64_t n)
{
	unsigned char buf[32];

	oneway(f, MSG_FORGET, buf, codec_put_pair(node, n, buf, sizeof(buf)));
}

static void close_file(struct fixture *f, uint64_t fh)
{
	unsigned char buf[16];

	oneway(f, MSG_CLOSE, buf, codec_put_uint(fh, buf, sizeof(buf)));
}

/* ---- names and attributes ---- */

static void test_lookup(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/d")), STAT(DIR_STAT(5))},
	    {ASK(LOOKUP, PATH("/w/d/f")), STAT({.size = 1025, .mode = 0640, .mtime = 99})},
	    {ASK(LOOKUP, PATH("/w/d/f")), STAT({.size = 1, .mode = 0640, .mtime = 99})},
	    {ASK(LOOKUP, PATH("/w/no"), .uid = 7, .gid = 8), ERROR(ENOENT)},
	    {ASK(GETATTR, PATH("/w/d/f")), ANSWER(.err = -512)},
	    {ASK(GETATTR, PATH("/w/d/f")), ANSWER(.err = -EHWPOISON)},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	assert_true(f.backend->info.plain);
	uint64_t root = f.backend->info.root_node;
	uint64_t d = lookup(&f, root, "d");
	const struct msg *r = ask(&f, named(MSG_LOOKUP, d, "f"));
	assert_int_equal(r->err, 0);
	uint64_t node = r->node;
	assert_int_equal(r->attr.mode, S_IFREG | 0640);
	assert_int_equal(r->attr.size, 1025);
	assert_int_equal(r->attr.blocks, 3);
	assert_int_equal(r->attr.uid, 1000);
	assert_int_equal(r->attr.gid, 100);
	assert_int_equal(r->attr.nlink, 1);
	assert_int_equal(r->attr.mtime.sec, 99);
	assert_int_equal(r->attr.ctime.sec, 99);
	assert_true(r->attr.ino > 1);
	uint64_t ino = r->attr.ino, version = r->attr.version;
	r = ask(&f, named(MSG_LOOKUP, d, "f"));
	assert_true(r->node == node && r->attr.ino == ino && r->attr.version > version);

	struct msg m = named(MSG_LOOKUP, root, "no");
	f.uid = 7;
	f.gid = 8;
	assert_int_equal(ask(&f, m)->err, ENOENT);
	f.uid = f.gid = 0;
	assert_int_equal(ask(&f, request(MSG_GETATTR, node))->err, EIO); /* no errno of programs */
	assert_int_equal(ask(&f, request(MSG_GETATTR, node))->err, EHWPOISON);
	assert_int_equal(ask(&f, request(MSG_GETATTR, 12345))->err, ESTALE);
	assert_int_equal(ask(&f, named(MSG_LOOKUP, root, "\xff\xfe"))->err, EILSEQ);
	assert_int_equal(ask(&f, named(MSG_LOOKUP, root, ".."))->err, EINVAL);
	assert_int_equal(ask(&f, named(MSG_LOOKUP, root, "a/b"))->err, EINVAL);
	stop_peer(&f);
	assert_int_equal(f.lost, 0);
}

static void test_forget(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/d")), STAT(DIR_STAT(5))},
	    {ASK(LOOKUP, PATH("/w/d/f")), STAT(FILE_STAT(1, 6))},
	    {ASK(LOOKUP, PATH("/w/d/f")), STAT(FILE_STAT(1, 6))},
	    {ASK(GETATTR, PATH("/w/d/f")), STAT(FILE_STAT(1, 6))},
	    {ASK(LOOKUP, PATH("/w/d")), STAT(DIR_STAT(5))},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	uint64_t d = lookup(&f, root, "d");
	uint64_t file = lookup(&f, d, "f");
	assert_int_equal(lookup(&f, d, "f"), file);
	forget(&f, d, 1); /* the file's path still needs it */
	forget(&f, file, 1);
	assert_int_equal(ask(&f, request(MSG_GETATTR, file))->err, 0);
	assert_int_equal(ask(&f, request(MSG_GETATTR, d))->err, ESTALE);
	forget(&f, file, 1);
	assert_int_equal(ask(&f, request(MSG_GETATTR, file))->err, ESTALE);
	assert_true(lookup(&f, root, "d") > file); /* numbers are not used again */
	forget(&f, 999, 1);
	forget(&f, root, 5);
	stop_peer(&f);
}

static void test_rename(void **state)
{
	static const struct plain_entry names[] = {{.name = TEXT("b"), .is_dir = true}};
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/a")), STAT(DIR_STAT(5))},
	    {ASK(LOOKUP, PATH("/w/a/f")), STAT(FILE_STAT(1, 6))},
	    {ASK(LOOKUP, PATH("/w/v")), STAT(FILE_STAT(9, 7))},
	    {ASK(RENAME, PATH("/w/a"), .new_path = TEXT("/w/b"))},
	    {ASK(GETATTR, PATH("/w/b/f")), STAT(FILE_STAT(2, 6))},
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 1},
	    {ASK(RENAME, PATH("/w/b/f"), .new_path = TEXT("/w/v"))},
	    {ASK(GETATTR, PATH("/w/v")), STAT(FILE_STAT(3, 6))},
	    {ASK(RENAME, PATH("/w/b"), .new_path = TEXT("/w/v")), ERROR(EEXIST)},
	    {ASK(RENAME, PATH("/w/x"), .new_path = TEXT("/w/y")), ERROR(EIO)},
	    {ASK(READDIR, PATH("/w/y")), ERROR(EIO)},
	    {ASK(RENAME, PATH("/w/b"), .new_path = TEXT("/w/b"))},
	    {ASK(GETATTR, PATH("/w/b")), STAT(DIR_STAT(5))},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	uint64_t a = lookup(&f, root, "a"), file = lookup(&f, a, "f"), v = lookup(&f, root, "v");
	assert_int_equal(ask(&f, named2(MSG_RENAME, root, "a", root, "b"))->err, 0);
	assert_int_equal(ask(&f, request(MSG_GETATTR, file))->attr.size, 2);
	assert_int_equal(ask(&f, named2(MSG_RENAME, a, "f", root, "v"))->err, 0);
	assert_int_equal(ask(&f, request(MSG_GETATTR, file))->attr.size, 3);
	/* what was replaced keeps its last attributes, and no name */
	const struct msg *r = ask(&f, request(MSG_GETATTR, v));
	assert_int_equal(r->err, 0);
	assert_true(r->attr.size == 9 && r->attr.nlink == 0);
	struct msg m = request(MSG_OPEN, v);
	MSG_SET(&m, flags, O_RDONLY);
	assert_int_equal(ask(&f, m)->err, ESTALE);
	assert_int_equal(ask(&f, named2(MSG_RENAME, root, "b", root, "v"))->err, ENOTEMPTY);
	assert_int_equal(ask(&f, named2(MSG_RENAME, root, "x", root, "y"))->err, EIO);
	assert_int_equal(ask(&f, named2(MSG_RENAME, root, "b", root, "b"))->err, 0);
	assert_int_equal(ask(&f, request(MSG_GETATTR, a))->err, 0);
	m = named2(MSG_RENAME, root, "b", root, "c");
	MSG_SET(&m, flags, 1);
	assert_int_equal(ask(&f, m)->err, EINVAL);
	/* a directory into itself would make paths without an end */
	assert_int_equal(ask(&f, named2(MSG_RENAME, root, "b", a, "x"))->err, EINVAL);
	stop_peer(&f);
}

static void test_remove(void **state)
{
	static const struct plain_entry one[] = {{.name = TEXT("x")}};
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(1, 6))},
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(1, 6))}, /* rmdir */
	    {ASK(LOOKUP, PATH("/w/d")), STAT(DIR_STAT(5))},	/* unlink */
	    {ASK(LOOKUP, PATH("/w/d")), STAT(DIR_STAT(5))},
	    {ASK(RMDIR, PATH("/w/d")), ERROR(EIO)},
	    {ASK(READDIR, PATH("/w/d")), .entries = one, .entry_count = 1},
	    {ASK(LOOKUP, PATH("/w/d")), STAT(DIR_STAT(5))},
	    {ASK(RMDIR, PATH("/w/d")), ERROR(EEXIST)},
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(1, 6))},
	    {ASK(UNLINK, PATH("/w/f"))},
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(8, 9))},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	uint64_t file = lookup(&f, root, "f");
	assert_int_equal(ask(&f, named(MSG_RMDIR, root, "f"))->err, ENOTDIR);
	assert_int_equal(ask(&f, named(MSG_UNLINK, root, "d"))->err, EISDIR);
	assert_int_equal(ask(&f, named(MSG_RMDIR, root, "d"))->err, ENOTEMPTY);
	assert_int_equal(ask(&f, named(MSG_RMDIR, root, "d"))->err, ENOTEMPTY);
	assert_int_equal(ask(&f, named(MSG_UNLINK, root, "f"))->err, 0);
	const struct msg *r = ask(&f, request(MSG_GETATTR, file));
	assert_true(r->err == 0 && r->attr.nlink == 0 && r->attr.size == 1);
	assert_true(lookup(&f, root, "f") != file);
	stop_peer(&f);
}

static void test_type_change(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/x")), STAT(FILE_STAT(1, 6))},
	    {ASK(GETATTR, PATH("/w/x")), STAT(DIR_STAT(7))},
	    {ASK(LOOKUP, PATH("/w/x")), STAT(DIR_STAT(7))},
	    {ASK(GETATTR, PATH("/w/x")), ERROR(ENOENT)},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	uint64_t x = lookup(&f, root, "x");
	assert_int_equal(ask(&f, request(MSG_GETATTR, x))->err, ESTALE);
	uint64_t dir = lookup(&f, root, "x");
	assert_true(dir != x);
	assert_int_equal(ask(&f, request(MSG_GETATTR, dir))->err, ESTALE);
	stop_peer(&f);
}

/* ---- files ---- */

#define MAKE (O_RDWR | O_CREAT | O_EXCL)

static void test_create(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    /* new, with the permissions that the server's umask took */
	    {ASK(LOOKUP, PATH("/w/n"), .uid = 5), ERROR(ENOENT)},
	    {ASK(CREATE, PATH("/w/n"), .flags = MAKE, .mode = 0666, .uid = 5),
	     ANSWER(.fh = 0, .has_stat = true, .stat = FILE_STAT(0, 6))},
	    {ASK(SETATTR, PATH("/w/n"), .mode = 0666, .uid = 5)},
	    {ASK(READ, .fh = 0, .off = 0, .sz = 10)},
	    /* there: opened, not created */
	    {ASK(LOOKUP, PATH("/w/n")), STAT(FILE_STAT(3, 6))},
	    {ASK(OPEN, PATH("/w/n"), .flags = O_WRONLY), ANSWER(.fh = 4)},
	    /* to append: the server fails every write to such a handle */
	    {ASK(OPEN, PATH("/w/n"), .flags = O_WRONLY | O_APPEND), ANSWER(.fh = 14)},
	    {ASK(WRITE, .fh = 14), ERROR(EINVAL)},
	    {ASK(RELEASE, .fh = 14)},
	    /* there, O_EXCL */
	    {ASK(LOOKUP, PATH("/w/n")), STAT(FILE_STAT(3, 6))},
	    /* there, O_TRUNC */
	    {ASK(LOOKUP, PATH("/w/n")), STAT(FILE_STAT(3, 6))},
	    {ASK(OPEN, PATH("/w/n"), .flags = O_RDWR | O_TRUNC), ANSWER(.fh = 5)},
	    {ASK(GETATTR, PATH("/w/n")), STAT(FILE_STAT(0, 6))},
	    /* a directory */
	    {ASK(LOOKUP, PATH("/w/d")), STAT(DIR_STAT(6))},
	    /* a reply without stat */
	    {ASK(LOOKUP, PATH("/w/m")), ERROR(ENOENT)},
	    {ASK(CREATE, PATH("/w/m"), .flags = MAKE, .mode = 0644), ANSWER(.fh = 9)},
	    {ASK(GETATTR, PATH("/w/m")), STAT(FILE_STAT(0, 12))},
	    {ASK(RELEASE, .fh = 9)},
	    /* somebody else makes it after the look-up: it is opened */
	    {ASK(LOOKUP, PATH("/w/o")), ERROR(ENOENT)},
	    {ASK(CREATE, PATH("/w/o"), .flags = MAKE, .mode = 0644), ERROR(EEXIST)},
	    {ASK(LOOKUP, PATH("/w/o")), STAT(FILE_STAT(4, 13))},
	    {ASK(OPEN, PATH("/w/o"), .flags = O_WRONLY), ANSWER(.fh = 10)},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	struct msg m = named(MSG_CREATE, root, "n");
	MSG_SET(&m, flags, O_RDWR | O_CREAT | O_EXCL);
	MSG_SET(&m, mode, S_IFREG | 0666);
	f.uid = 5;
	const struct msg *r = ask(&f, m);
	f.uid = 0;
	assert_int_equal(r->err, 0);
	assert_int_equal(r->attr.mode, S_IFREG | 0666);
	assert_true(r->fh != 0);
	uint64_t node = r->node;
	m = on_file(MSG_READ, r->fh, 0);
	MSG_SET(&m, size, 10);
	assert_int_equal(ask(&f, m)->payload.len, 0);

	m = named(MSG_CREATE, root, "n");
	MSG_SET(&m, mode, 0644);
	MSG_SET(&m, flags, O_WRONLY | O_CREAT | O_APPEND);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->node == node && r->attr.size == 3);
	MSG_SET(&m, flags, O_WRONLY | O_CREAT | O_EXCL);
	assert_int_equal(ask(&f, m)->err, EEXIST);
	MSG_SET(&m, flags, O_RDWR | O_CREAT | O_TRUNC);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.size == 0);
	m = named(MSG_CREATE, root, "d");
	MSG_SET(&m, mode, 0644);
	MSG_SET(&m, flags, O_WRONLY | O_CREAT);
	assert_int_equal(ask(&f, m)->err, EISDIR);
	m = named(MSG_CREATE, root, "m");
	MSG_SET(&m, mode, 0644);
	MSG_SET(&m, flags, O_WRONLY | O_CREAT);
	r = ask(&f, m);
	assert_int_equal(r->err, 0);
	close_file(&f, r->fh);
	close_file(&f, r->fh);
	m = named(MSG_CREATE, root, "o");
	MSG_SET(&m, mode, 0644);
	MSG_SET(&m, flags, O_WRONLY | O_CREAT);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.size == 4);
	stop_peer(&f);
}

static void test_read_write(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(OPEN, PATH("/w/f"), .flags = O_RDWR), ANSWER(.fh = 7)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(OPEN, PATH("/w/f"), .flags = O_WRONLY | O_APPEND), ERROR(EACCES)},
	    /* short although the file is longer: the rest is asked for */
	    {ASK(READ, .fh = 7, .sz = 100), ANSWER(.data = TEXT("01234"))},
	    {ASK(READ, .fh = 7, .off = 5, .sz = 95), ANSWER(.data = TEXT("56789"))},
	    {ASK(WRITE, .fh = 7, .off = 3, .data = TEXT("abcd")), ANSWER(.written = 3)},
	    {ASK(WRITE, .fh = 7, .off = 6, .data = TEXT("d")), ANSWER(.written = 1)},
	    {ASK(WRITE, .fh = 7, .off = 3, .data = TEXT("abcd")), ANSWER(.written = 1)},
	    {ASK(WRITE, .fh = 7, .off = 4, .data = TEXT("bcd")), ERROR(ENOSPC)},
	    {ASK(WRITE, .fh = 7, .off = 3, .data = TEXT("abcd")), ERROR(ENOSPC)},
	    {ASK(WRITE, .fh = 7, .off = 3, .data = TEXT("abcd"))},
	    /* append: at the end that the server tells */
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(42, 6))},
	    {ASK(WRITE, .fh = 7, .off = 42, .data = TEXT("zz")), ANSWER(.written = 2)},
	    {ASK(FSYNC, .fh = 7), ERROR(EIO)},
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(44, 6))},
	    {ASK(UNLINK, PATH("/w/f"))},
	    /* without a name the end is where we wrote last */
	    {ASK(WRITE, .fh = 7, .off = 44, .data = TEXT("!")), ANSWER(.written = 1)},
	    {ASK(RELEASE, .fh = 7)},
	};
	struct fixture f;
	const struct slice abcd = TEXT("abcd"), zz = TEXT("zz"), mark = TEXT("!");

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	uint64_t node = lookup(&f, root, "f"),
		 fh = open_file(&f, node, O_RDWR | O_APPEND | O_NOFOLLOW);
	struct msg m = on_file(MSG_READ, fh, 0);
	MSG_SET(&m, size, 100);
	const struct msg *r = ask(&f, m);
	assert_int_equal(r->err, 0);
	assert_int_equal(r->payload.len, 10);
	assert_memory_equal(r->payload.data, "0123456789", 10);

	m = on_file(MSG_WRITE, fh, 3);
	MSG_SET(&m, payload, abcd);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->size == 4 && r->off == 3);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->size == 1); /* what was written counts */
	assert_int_equal(ask(&f, m)->err, ENOSPC);
	assert_int_equal(ask(&f, m)->err, EIO); /* nothing written, no reason */
	m = on_file(MSG_WRITE, fh, 10);
	MSG_SET(&m, flags, O_APPEND | O_RDWR);
	MSG_SET(&m, payload, zz);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->size == 2 && r->off == 42);
	m = request(MSG_FSYNC, node);
	MSG_SET(&m, fh, fh);
	assert_int_equal(ask(&f, m)->err, EIO);
	assert_int_equal(ask(&f, named(MSG_UNLINK, root, "f"))->err, 0);
	m = on_file(MSG_WRITE, fh, 0);
	MSG_SET(&m, flags, O_APPEND | O_RDWR);
	MSG_SET(&m, payload, mark);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->off == 44);
	r = ask(&f, request(MSG_GETATTR, node));
	assert_true(r->err == 0 && r->attr.size == 45 && r->attr.nlink == 0);
	close_file(&f, fh);
	m = on_file(MSG_READ, fh, 0);
	MSG_SET(&m, size, 1);
	assert_int_equal(ask(&f, m)->err, EBADF);
	stop_peer(&f);
}

static struct msg set_size(uint64_t node, uint64_t size)
{
	struct msg m = request(MSG_SETATTR, node);

	MSG_SET(&m, valid, SET_SIZE | SET_MTIME | SET_MTIME_NOW);
	MSG_SET(&m, size, size);
	return m;
}

static void test_truncate(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    /* to 0: op 15 is not there, an open with O_TRUNC does it */
	    {ASK(TRUNCATE, PATH("/w/f")), ERROR(ENOSYS)},
	    {ASK(OPEN, PATH("/w/f"), .flags = O_WRONLY | O_TRUNC), ANSWER(.fh = 3)},
	    {ASK(RELEASE, .fh = 3)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(0, 6))},
	    /* growing: one zero at the end */
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(0, 6))},
	    {ASK(OPEN, PATH("/w/f"), .flags = O_WRONLY), ANSWER(.fh = 4)},
	    {ASK(WRITE, .fh = 4, .off = 99, .data = TEXT("\0")), ANSWER(.written = 1)},
	    {ASK(RELEASE, .fh = 4)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(100, 6))},
	    /* in between */
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(100, 6))},
	    /* to what it is */
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(100, 6))},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(100, 6))},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t node = lookup(&f, f.backend->info.root_node, "f");
	const struct msg *r = ask(&f, set_size(node, 0));
	assert_true(r->err == 0 && r->attr.size == 0);
	r = ask(&f, set_size(node, 100));
	assert_true(r->err == 0 && r->attr.size == 100);
	assert_int_equal(ask(&f, set_size(node, 50))->err, EOPNOTSUPP);
	assert_int_equal(ask(&f, set_size(node, 100))->err, 0);
	stop_peer(&f);
}

static void test_truncate_op(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(TRUNCATE, PATH("/w/f"), .off = 5, .sz = 5)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(5, 6))},
	    {ASK(TRUNCATE, PATH("/w/f"), .off = INT64_C(1) << 32), ERROR(EFBIG)},
	    /* through an open file, by both */
	    {ASK(OPEN, PATH("/w/f"), .flags = O_RDWR), ANSWER(.fh = 7)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(5, 6))},
	    {ASK(TRUNCATE, PATH("/w/f"), .fh = 7, .off = 3, .sz = 3)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(3, 6))},
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(3, 6))},
	    {ASK(UNLINK, PATH("/w/f"))},
	    {ASK(TRUNCATE, .fh = 7, .off = 2, .sz = 2)},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t node = lookup(&f, f.backend->info.root_node, "f");
	struct msg m = request(MSG_SETATTR, node);
	MSG_SET(&m, valid, SET_SIZE);
	MSG_SET(&m, size, 5);
	assert_int_equal(ask(&f, m)->attr.size, 5);
	MSG_SET(&m, size, UINT64_C(1) << 32);
	assert_int_equal(ask(&f, m)->err, EFBIG);
	uint64_t fh = open_file(&f, node, O_RDWR);
	MSG_SET(&m, fh, fh);
	MSG_SET(&m, size, 3);
	assert_int_equal(ask(&f, m)->attr.size, 3);
	assert_int_equal(ask(&f, named(MSG_UNLINK, f.backend->info.root_node, "f"))->err, 0);
	MSG_SET(&m, size, 2);
	assert_int_equal(ask(&f, m)->err, 0);
	stop_peer(&f);
}

static struct msg set_values(uint64_t node, uint64_t valid)
{
	struct msg m = request(MSG_SETATTR, node);

	MSG_SET(&m, valid, valid);
	return m;
}

/* A server without words for owners and times: they are kept here. */
static void test_kept(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(SETATTR, PATH("/w/f"), .mode = 0600)},
	    {ASK(GETATTR, PATH("/w/f")), STAT({.size = 10, .mode = 0600, .mtime = 77, .ino = 6})},
	    /* set-id bits are told, and not taken */
	    {ASK(SETATTR, PATH("/w/f"), .mode = PLAIN_MODE_SETUID | 0755)},
	    {ASK(GETATTR, PATH("/w/f")), STAT({.size = 10, .mode = 0755, .mtime = 77, .ino = 6})},
	    /* owner, by somebody else; both times now; one time */
	    {ASK(GETATTR, PATH("/w/f"), .uid = 5, .gid = 6),
	     STAT({.size = 10, .mode = 0755, .mtime = 77, .ino = 6})},
	    {ASK(TIMES, PATH("/w/f")), ERROR(ENOSYS)},
	    {ASK(GETATTR, PATH("/w/f")), STAT({.size = 10, .mode = 0755, .mtime = 77, .ino = 6})},
	    {ASK(GETATTR, PATH("/w/f")), STAT({.size = 10, .mode = 0755, .mtime = 77, .ino = 6})},
	    /* it follows a rename, and the kernel's forgetting */
	    {ASK(RENAME, PATH("/w/f"), .new_path = TEXT("/w/g"))},
	    {ASK(LOOKUP, PATH("/w/g")), STAT({.size = 10, .mode = 0755, .mtime = 77, .ino = 6})},
	    /* writing moves the mtime, and nothing else */
	    {ASK(OPEN, PATH("/w/g"), .flags = O_RDWR), ANSWER(.fh = 3)},
	    {ASK(GETATTR, PATH("/w/g")), STAT({.size = 10, .mode = 0755, .mtime = 77, .ino = 6})},
	    {ASK(WRITE, .fh = 3, .off = 10, .data = TEXT("x")), ANSWER(.written = 1)},
	    {ASK(GETATTR, PATH("/w/g")), STAT({.size = 11, .mode = 0755, .mtime = 99, .ino = 6})},
	    /* somebody else's change ends it */
	    {ASK(GETATTR, PATH("/w/g")), STAT({.size = 11, .mode = 0755, .mtime = 100, .ino = 6})},
	    /* and so does another file under the name */
	    {ASK(GETATTR, PATH("/w/g")), STAT({.size = 11, .mode = 0755, .mtime = 100, .ino = 6})},
	    {ASK(GETATTR, PATH("/w/g")), STAT({.size = 11, .mode = 0755, .mtime = 100, .ino = 6})},
	    {ASK(GETATTR, PATH("/w/g")), STAT({.size = 11, .mode = 0755, .mtime = 100, .ino = 7})},
	};
	const struct msg_time t = {.sec = 5, .nsec = 6};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node, node = lookup(&f, root, "f");
	struct msg m = set_values(node, SET_MODE);
	MSG_SET(&m, mode, S_IFREG | 0600);
	assert_int_equal(ask(&f, m)->attr.mode, S_IFREG | 0600);
	MSG_SET(&m, mode, 04755);
	assert_int_equal(ask(&f, m)->attr.mode, S_IFREG | 04755);

	m = set_values(node, SET_UID | SET_GID);
	MSG_SET(&m, uid, 12);
	MSG_SET(&m, gid, 100);
	f.uid = 5;
	f.gid = 6;
	const struct msg *r = ask(&f, m);
	f.uid = f.gid = 0;
	assert_true(r->err == 0 && r->attr.uid == 12 && r->attr.gid == 100);
	int64_t now = time(NULL);
	r = ask(&f, set_values(node, SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW));
	assert_true(r->err == 0 && r->attr.mtime.sec >= now && r->attr.mtime.nsec == 0);
	m = set_values(node, SET_MTIME);
	MSG_SET(&m, mtime, t);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.mtime.sec == 5 && r->attr.mtime.nsec == 6);
	assert_true(r->attr.atime.sec >= now && r->attr.uid == 12);

	assert_int_equal(ask(&f, named2(MSG_RENAME, root, "f", root, "g"))->err, 0);
	forget(&f, node, 1);
	r = ask(&f, named(MSG_LOOKUP, root, "g"));
	assert_true(r->node == node && r->attr.mtime.nsec == 6);
	assert_true(r->attr.uid == 12 && r->attr.mode == (S_IFREG | 04755));

	uint64_t fh = open_file(&f, node, O_RDWR);
	const struct slice x = TEXT("x");
	m = on_file(MSG_WRITE, fh, 10);
	MSG_SET(&m, payload, x);
	assert_int_equal(ask(&f, m)->err, 0);
	r = ask(&f, request(MSG_GETATTR, node));
	assert_true(r->attr.mtime.sec == 99 && r->attr.uid == 12 && r->attr.size == 11);
	r = ask(&f, request(MSG_GETATTR, node));
	assert_true(r->attr.uid == 1000 && r->attr.mode == (S_IFREG | 0755));
	assert_true(r->attr.mtime.sec == 100 && r->attr.atime.sec == 100);

	m = set_values(node, SET_GID);
	MSG_SET(&m, gid, 7);
	assert_int_equal(ask(&f, m)->attr.gid, 7);
	assert_int_equal(ask(&f, request(MSG_GETATTR, node))->attr.gid, 7);
	assert_int_equal(ask(&f, request(MSG_GETATTR, node))->attr.gid, 100);
	stop_peer(&f);
}

/* What is made belongs to its maker; a further name of a file has what is kept of it. */
static void test_kept_owner(void **state)
{
	static const struct step steps[] = {
	    START_NEW,
	    {ASK(LOOKUP, PATH("/w/f"), .uid = 5, .gid = 6), ERROR(ENOENT)},
	    {ASK(READLINK, PATH("/w/f"), .uid = 5, .gid = 6), ERROR(ENOENT)},
	    {ASK(CREATE, PATH("/w/f"), .flags = MAKE, .mode = 0644, .uid = 5, .gid = 6),
	     ANSWER(.fh = 1, .has_stat = true, .stat = FILE_STAT(0, 8))},
	    {ASK(LINK, PATH("/w/f"), .new_path = TEXT("/w/g"), .uid = 5, .gid = 6)},
	    {ASK(LOOKUP, PATH("/w/g"), .uid = 5, .gid = 6), STAT(FILE_STAT(0, 8))},
	    {ASK(READLINK, PATH("/w/g"), .uid = 5, .gid = 6), ERROR(EINVAL)},
	    {ASK(MKDIR, PATH("/w/d"), .mode = 0755, .uid = 5, .gid = 6), STAT(DIR_STAT(9))},
	    {ASK(SETATTR, PATH("/w/d"), .mode = PLAIN_MODE_STICKY | 0755, .uid = 5, .gid = 6)},
	    /* owners are told: no more of it */
	    {ASK(GETATTR, PATH("/w/f"), .uid = 5, .gid = 6),
	     STAT({.mode = 0644, .mtime = 78, .ino = 8, .uid = 3, .gid = 4, .has_ids = true})},
	    {ASK(MKDIR, PATH("/w/e"), .mode = 0755, .uid = 5, .gid = 6), STAT(DIR_STAT(10))},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	struct msg m = named(MSG_CREATE, root, "f");
	MSG_SET(&m, flags, O_RDWR | O_CREAT);
	MSG_SET(&m, mode, S_IFREG | 0644);
	f.uid = 5;
	f.gid = 6;
	const struct msg *r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.uid == 5 && r->attr.gid == 6);
	uint64_t file = r->node;
	r = ask(&f, named2(MSG_LINK, file, NULL, root, "g"));
	assert_true(r->err == 0 && r->attr.uid == 5 && r->attr.gid == 6);
	m = named(MSG_MKNOD, root, "d");
	MSG_SET(&m, mode, S_IFDIR | 01755);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.uid == 5 && r->attr.mode == (S_IFDIR | 01755));
	r = ask(&f, request(MSG_GETATTR, file));
	assert_true(r->attr.uid == 3 && r->attr.gid == 4);
	m = named(MSG_MKNOD, root, "e");
	MSG_SET(&m, mode, S_IFDIR | 0755);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.uid == 0 && r->attr.gid == 0);
	stop_peer(&f);
}

/* Op 20 is there: the server hears both times, and of a link none. */
static void test_times(void **state)
{
	static const struct step steps[] = {
	    START_NEW,
	    {ASK(LOOKUP, PATH("/w/s")),
	     STAT({.size = 3, .mode = PLAIN_MODE_LINK | 0777, .mtime = 5, .ino = 4})},
	    {ASK(GETATTR, PATH("/w/s")),
	     STAT({.size = 3, .mode = PLAIN_MODE_LINK | 0777, .mtime = 5, .ino = 4})},
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(TIMES, PATH("/w/f"), .has_atime = true, .atime_ns = INT64_C(77000000000),
		 .has_mtime = true, .mtime_ns = INT64_C(5000000006))},
	    {ASK(GETATTR, PATH("/w/f")), STAT({.size = 10, .mode = 0644, .mtime = 5, .ino = 6})},
	    /* an access time alone would cost the mtime its fraction */
	    {ASK(GETATTR, PATH("/w/f")), STAT({.size = 10, .mode = 0644, .mtime = 5, .ino = 6})},
	    {ASK(TIMES, PATH("/w/f")), ERROR(EPERM)},
	};
	const struct msg_time t = {.sec = 5, .nsec = 6};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	struct msg m = set_values(lookup(&f, root, "s"), SET_MTIME);
	MSG_SET(&m, mtime, t);
	const struct msg *r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.mtime.sec == 5 && r->attr.mtime.nsec == 6);
	uint64_t node = lookup(&f, root, "f");
	m = set_values(node, SET_MTIME);
	MSG_SET(&m, mtime, t);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.mtime.sec == 5 && r->attr.mtime.nsec == 6);
	m = set_values(node, SET_ATIME);
	MSG_SET(&m, atime, t);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.atime.nsec == 6 && r->attr.mtime.nsec == 6);
	assert_int_equal(ask(&f, set_values(node, SET_MTIME | SET_MTIME_NOW))->err, EPERM);
	stop_peer(&f);
}

/* A server that appends: at its own end, whatever ours is. */
static void test_append(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(OPEN, PATH("/w/f"), .flags = O_WRONLY), ANSWER(.fh = 7)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(OPEN, PATH("/w/f"), .flags = O_WRONLY | O_APPEND), ANSWER(.fh = 8)},
	    {ASK(WRITE, .fh = 8)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(WRITE, .fh = 8, .off = 10, .data = TEXT("zz")), ANSWER(.written = 2)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(12, 6))},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(12, 6))},
	    {ASK(WRITE, .fh = 8, .off = 12, .data = TEXT("zz")), ANSWER(.written = 2)},
	    {ASK(GETATTR, PATH("/w/f")), STAT(FILE_STAT(18, 6))}, /* others have as well */
	    /* a page of a mapping goes where it belongs */
	    {ASK(WRITE, .fh = 7, .off = 3, .data = TEXT("zz")), ANSWER(.written = 2)},
	    {ASK(RELEASE, .fh = 7)},
	    {ASK(RELEASE, .fh = 8)},
	};
	const struct slice zz = TEXT("zz");
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t node = lookup(&f, f.backend->info.root_node, "f");
	uint64_t fh = open_file(&f, node, O_WRONLY | O_APPEND);
	struct msg m = on_file(MSG_WRITE, fh, 3);
	MSG_SET(&m, flags, O_APPEND | O_WRONLY);
	MSG_SET(&m, payload, zz);
	assert_int_equal(ask(&f, m)->off, 10);
	assert_int_equal(ask(&f, m)->off, 16);
	m = on_file(MSG_WRITE, fh, 3);
	MSG_SET(&m, payload, zz);
	assert_int_equal(ask(&f, m)->off, 3);
	close_file(&f, fh);
	stop_peer(&f);
}

/* Nothing but regular files is ever opened: one FIFO would hold up everybody. */
static void test_special_files(void **state)
{
	static const struct {
		uint32_t mode, type;
	} kinds[] = {{PLAIN_MODE_FIFO, S_IFIFO},   {PLAIN_MODE_SOCKET, S_IFSOCK},
		     {PLAIN_MODE_DEVICE, S_IFBLK}, {PLAIN_MODE_DEVICE | PLAIN_MODE_CHAR, S_IFCHR},
		     {S_IFIFO, S_IFIFO},	   {S_IFSOCK, S_IFSOCK}};
	enum { COUNT = sizeof(kinds) / sizeof(kinds[0]) };
	struct step steps[2 + 2 * COUNT] = {START_OLD};
	struct fixture f;

	(void)state;
	for (size_t i = 2; i < 2 + 2 * COUNT; i++)
		steps[i] = (struct step){
		    ASK(LOOKUP, PATH("/w/f")),
		    STAT({.mode = kinds[(i - 2) / 2].mode | 0644, .ino = 6})};
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	for (size_t i = 0; i < COUNT; i++) {
		const struct msg *r = ask(&f, named(MSG_LOOKUP, root, "f"));
		assert_int_equal(r->attr.mode, kinds[i].type | 0644);
		struct msg m = request(MSG_OPEN, r->node);
		MSG_SET(&m, flags, O_RDONLY);
		assert_int_equal(ask(&f, m)->err, ENXIO);
		m = named(MSG_CREATE, root, "f");
		MSG_SET(&m, mode, 0644);
		MSG_SET(&m, flags, O_RDWR | O_CREAT);
		assert_int_equal(ask(&f, m)->err, ENXIO);
	}
	stop_peer(&f);
}

static void test_make(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(MKDIR, PATH("/w/d"), .mode = 0755)}, /* no stat */
	    {ASK(GETATTR, PATH("/w/d")), STAT(DIR_STAT(5))},
	    {ASK(MKDIR, PATH("/w/d"), .mode = 0755), ERROR(EEXIST)},
	    {ASK(LOOKUP, PATH("/w/f")), ERROR(ENOENT)},
	    {ASK(CREATE, PATH("/w/f"), .flags = MAKE, .mode = 0644),
	     ANSWER(.fh = 8, .has_stat = true, .stat = FILE_STAT(0, 6))},
	    {ASK(RELEASE, .fh = 8)},
	    {ASK(SYMLINK, PATH("/w/s"), .data = TEXT("to")), ERROR(ENOSYS)},
	    {ASK(LINK, PATH("/w/f"), .new_path = TEXT("/w/g"))},
	    {ASK(LOOKUP, PATH("/w/g")), STAT(FILE_STAT(0, 6))},
	};
	struct fixture f;
	const struct slice to = TEXT("to");

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	struct msg m = named(MSG_MKNOD, root, "d");
	MSG_SET(&m, mode, S_IFDIR | 0755);
	const struct msg *r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.nlink == 2 && r->attr.mode == (S_IFDIR | 0755));
	assert_int_equal(ask(&f, m)->err, EEXIST);
	m = named(MSG_MKNOD, root, "f");
	MSG_SET(&m, mode, S_IFREG | 0644);
	r = ask(&f, m);
	assert_int_equal(r->err, 0);
	uint64_t file = r->node;
	MSG_SET(&m, mode, S_IFIFO | 0644);
	assert_int_equal(ask(&f, m)->err, EPERM);
	m = named(MSG_SYMLINK, root, "s");
	MSG_SET(&m, payload, to);
	assert_int_equal(ask(&f, m)->err, EPERM);
	/* what is not there is not asked for again */
	assert_int_equal(ask(&f, m)->err, EPERM);
	assert_int_equal(ask(&f, request(MSG_READLINK, file))->err, EINVAL);
	r = ask(&f, named2(MSG_LINK, file, NULL, root, "g"));
	assert_true(r->err == 0 && r->attr.ino == 6);
	stop_peer(&f);
}

/* ---- symbolic links ---- */

/* Lookup follows, op 17 is there: every look-up asks whether it was a link. */
static void test_links_followed(void **state)
{
	static char target[MSG_TARGET_MAX + 1];
	static const struct step steps[] = {
	    START_NEW,
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(READLINK, PATH("/w/f")), ERROR(EINVAL)},
	    {ASK(LOOKUP, PATH("/w/s")), STAT(DIR_STAT(6))},
	    {ASK(READLINK, PATH("/w/s")), ANSWER(.data = TEXT("d"))},
	    {ASK(LOOKUP, PATH("/w/dangling")), ERROR(ENOENT)},
	    {ASK(READLINK, PATH("/w/dangling")), ANSWER(.data = TEXT("nowhere"))},
	    {ASK(READLINK, PATH("/w/dangling")), ANSWER(.data = TEXT("else"))}, /* GETATTR */
	    {ASK(READLINK, PATH("/w/dangling")), ANSWER(.data = TEXT("else"))},
	    {ASK(READLINK, PATH("/w/dangling")), ANSWER(.data = TEXT(""))},
	    {ASK(READLINK, PATH("/w/dangling")), ANSWER(.data = TEXT("a\0b"))},
	    {ASK(READLINK, PATH("/w/dangling")), ANSWER(.data = {target, MSG_TARGET_MAX})},
	    {ASK(READLINK, PATH("/w/dangling")), ANSWER(.data = {target, MSG_TARGET_MAX + 1})},
	    {ASK(SYMLINK, PATH("/w/n"), .data = TEXT("abc"))},
	    {ASK(LOOKUP, PATH("/w/n")), ERROR(ENOENT)},
	    {ASK(READLINK, PATH("/w/n")), ANSWER(.data = TEXT("abc"))},
	    {ASK(LOOKUP, PATH("/w/s")), STAT(DIR_STAT(6))}, /* unlink */
	    {ASK(READLINK, PATH("/w/s")), ANSWER(.data = TEXT("d"))},
	    {ASK(UNLINK, PATH("/w/s"))},
	};
	struct fixture f;
	const struct slice abc = TEXT("abc");

	(void)state;
	memset(target, 'x', sizeof(target));
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	assert_int_equal(ask(&f, named(MSG_LOOKUP, root, "f"))->attr.mode, S_IFREG | 0644);
	const struct msg *r = ask(&f, named(MSG_LOOKUP, root, "s"));
	assert_true(r->attr.mode == (S_IFLNK | 0777) && r->attr.size == 1);
	uint64_t node = lookup(&f, root, "dangling");
	r = ask(&f, request(MSG_GETATTR, node));
	assert_true(r->err == 0 && r->attr.size == 4 && S_ISLNK(r->attr.mode));
	r = ask(&f, request(MSG_READLINK, node));
	assert_int_equal(r->payload.len, 4);
	assert_memory_equal(r->payload.data, "else", 4);
	assert_int_equal(ask(&f, request(MSG_READLINK, node))->err, EIO);
	assert_int_equal(ask(&f, request(MSG_READLINK, node))->err, EIO);
	assert_int_equal(ask(&f, request(MSG_READLINK, node))->payload.len, MSG_TARGET_MAX);
	assert_int_equal(ask(&f, request(MSG_READLINK, node))->err, EIO);
	struct msg m = named(MSG_SYMLINK, root, "n");
	MSG_SET(&m, payload, abc);
	r = ask(&f, m);
	assert_true(r->err == 0 && r->attr.mode == (S_IFLNK | 0777) && r->attr.size == 3);
	assert_int_equal(ask(&f, named(MSG_UNLINK, root, "s"))->err, 0);
	stop_peer(&f);
}

/* `mode` tells a link: nothing more is asked from then on. */
static void test_links_told(void **state)
{
	static const struct step steps[] = {
	    START_NEW,
	    {ASK(LOOKUP, PATH("/w/s")),
	     STAT({.size = 3, .mode = PLAIN_MODE_LINK | 0777, .mtime = 5, .ino = 4})},
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(GETATTR, PATH("/w/s")),
	     STAT({.size = 3, .mode = PLAIN_MODE_LINK | 0777, .mtime = 5, .ino = 4})},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	const struct msg *r = ask(&f, named(MSG_LOOKUP, root, "s"));
	assert_true(r->attr.mode == (S_IFLNK | 0777) && r->attr.ino == 4);
	uint64_t node = r->node;
	(void)lookup(&f, root, "f");
	assert_int_equal(ask(&f, request(MSG_GETATTR, node))->attr.mtime.sec, 5);
	struct msg m = request(MSG_SETATTR, node);
	MSG_SET(&m, valid, SET_MODE);
	MSG_SET(&m, mode, 0600);
	assert_int_equal(ask(&f, m)->err, EOPNOTSUPP);
	stop_peer(&f);
}

/* Without op 17 only the listing tells that a directory is a link: nothing is changed through it. */
static void test_links_unseen(void **state)
{
	static const struct plain_entry names[] = {
	    {.name = TEXT("s"), .mode = PLAIN_MODE_LINK | 0777},
	    {.name = TEXT("d"), .is_dir = true, .mode = PLAIN_MODE_DIR | 0755}};
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/s")), STAT(DIR_STAT(5))},
	    {ASK(LOOKUP, PATH("/w/s/d")), STAT(DIR_STAT(6))},
	    {ASK(LOOKUP, PATH("/w/s/d/f")), STAT(FILE_STAT(1, 7))},
	    {ASK(READDIR, PATH("/w/s")), .entries = names, .entry_count = 2}, /* is d one? */
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 2},   /* is s one? */
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 2},   /* for each of them */
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 2},
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 2},
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 2},
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 2},
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 2},
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 2},
	    {ASK(READDIR, PATH("/w")), .entries = names, .entry_count = 2},
	    /* the link itself may go, and reading is no change */
	    {ASK(LOOKUP, PATH("/w/s")), STAT(DIR_STAT(5))},
	    {ASK(RMDIR, PATH("/w/s"))},
	};
	const struct slice to = TEXT("to");
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	uint64_t s = lookup(&f, root, "s"), d = lookup(&f, s, "d"), file = lookup(&f, d, "f");
	assert_int_equal(ask(&f, named(MSG_UNLINK, d, "f"))->err, EPERM);
	assert_int_equal(ask(&f, named(MSG_RMDIR, s, "d"))->err, EPERM);
	assert_int_equal(ask(&f, named2(MSG_RENAME, d, "f", root, "f"))->err, EPERM);
	assert_int_equal(ask(&f, named2(MSG_RENAME, root, "f", s, "f"))->err, EPERM);
	struct msg m = named(MSG_SYMLINK, s, "l");
	MSG_SET(&m, payload, to);
	assert_int_equal(ask(&f, m)->err, EPERM);
	m = named(MSG_MKNOD, s, "n");
	MSG_SET(&m, mode, S_IFDIR | 0755);
	assert_int_equal(ask(&f, m)->err, EPERM);
	m = set_values(s, SET_MODE);
	MSG_SET(&m, mode, 0700);
	assert_int_equal(ask(&f, m)->err, EPERM);
	m = set_values(file, SET_SIZE);
	MSG_SET(&m, size, 0);
	assert_int_equal(ask(&f, m)->err, EPERM);
	m = request(MSG_OPEN, file);
	MSG_SET(&m, flags, O_WRONLY);
	assert_int_equal(ask(&f, m)->err, EPERM);
	assert_int_equal(ask(&f, named(MSG_RMDIR, root, "s"))->err, 0);
	stop_peer(&f);
}

static const struct msg *make_link(struct fixture *f, const char *name, const char *target)
{
	struct msg m = named(MSG_SYMLINK, f->backend->info.root_node, name);
	const struct slice t = {target, strlen(target)};

	MSG_SET(&m, payload, t);
	return ask(f, m);
}

static const struct msg *symlink_reply(struct fixture *f)
{
	const struct msg *r = make_link(f, "l", "t");

	assert_int_equal(r->err, 0);
	assert_true(S_ISLNK(r->attr.mode));
	return make_link(f, "m", "bad\xff");
}

/*
 * A server that looks for the target in path or new_path: which, the client finds out by two
 * names of its own.
 */
struct order_server {
	struct stream *stream;
	bool reverse;
	unsigned made; /* links at names that were asked for */
	char probe[128];
	bool wrong;
};

/* What a server does that has the target in path or new_path. */
static int do_order(struct order_server *s, const struct plain_request *q)
{
	struct slice link = s->reverse ? q->new_path : q->path;
	struct slice target = s->reverse ? q->path : q->new_path;

	if (link.len == 0 || target.len == 0)
		return -ENOENT;
	if (link.len > 4 && memcmp(link.data, "/w/.", 4) == 0) {
		(void)snprintf(s->probe, sizeof(s->probe), "%.*s", (int)link.len,
			       (const char *)link.data);
		return 0;
	}
	s->wrong = s->wrong || link.len != 4 || target.len != 1;
	s->made++;
	return 0;
}

static bool is_probe(const struct order_server *s, struct slice path)
{
	return s->probe[0] != '\0' && path.len == strlen(s->probe) &&
	       memcmp(path.data, s->probe, path.len) == 0;
}

static void *serve_order(void *arg)
{
	struct order_server *s = arg;
	unsigned char *buf = NULL;
	struct plain_request q;
	struct plain_buf b = {0};
	const char *why;
	size_t cap = 0, len;

	while (stream_recv_plain(s->stream, PLAIN_FRAME_MAX, &buf, &cap, &len, -1) == 0 &&
	       plain_request_decode(buf, len, &q, &why) == 0) {
		struct plain_reply p = {.err = -EINVAL};

		if (q.op == PLAIN_SYMLINK) {
			p.err = do_order(s, &q);
		} else if (q.op == PLAIN_READLINK && is_probe(s, q.path)) {
			p = (struct plain_reply){.data = TEXT("x")};
		} else if (q.op == PLAIN_UNLINK && is_probe(s, q.path)) {
			s->probe[0] = '\0';
			p.err = 0;
		} else if (q.op == PLAIN_GETATTR || q.op == PLAIN_LOOKUP) {
			p = (struct plain_reply){.has_stat = true, .stat = DIR_STAT(2)};
		}
		(void)plain_reply_encode(&p, &b);
		(void)stream_send_plain(s->stream, b.data, b.len);
	}
	stream_shutdown(s->stream);
	plain_buf_done(&b);
	free(buf);
	return NULL;
}

static void test_symlink_orders(void **state)
{
	(void)state;
	for (int reverse = 0; reverse < 2; reverse++) {
		struct order_server server = {.reverse = reverse != 0};
		const struct plain_options o = {.base = "/w", .sure_ms = UINT64_MAX};
		struct fixture f = {0};
		pthread_t thread;
		char err[256];
		int fds[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		assert_int_equal(stream_new(fds[1], &server.stream), 0);
		assert_int_equal(pthread_create(&thread, NULL, serve_order, &server), 0);
		assert_int_equal(plain_client_new(fds[0], &o, &f.backend, err, sizeof(err)), 0);
		assert_int_equal(symlink_reply(&f)->err, EILSEQ);
		assert_int_equal(make_link(&f, "n", "t")->err, 0);
		f.backend->ops->shutdown(f.backend);
		f.backend->ops->free(f.backend);
		(void)pthread_join(thread, NULL);
		stream_free(server.stream);
		assert_int_equal(server.made, 2);
		assert_false(server.wrong);
		assert_int_equal(server.probe[0], '\0'); /* what was tried has gone */
	}
}

/* ---- listings ---- */

static const struct msg *readdir_at(struct fixture *f, uint64_t node, uint64_t off, uint64_t size)
{
	struct msg m = request(MSG_READDIRPLUS, node);

	MSG_SET(&m, off, off);
	MSG_SET(&m, size, size);
	return ask(f, m);
}

static void test_readdir(void **state)
{
	static const struct plain_entry entries[] = {
	    {.name = TEXT("a"), .is_dir = true, .mode = PLAIN_MODE_DIR, .ino = 11},
	    {.name = TEXT("..")},
	    {.name = TEXT("x/y")},
	    {.name = {"n\0l", 3}},
	    {.name = TEXT("")},
	    {.name = TEXT("bad\xff")},
	    {.name = TEXT("b"), .mode = 0644, .ino = 12},
	    {.name = TEXT("c"), .mode = PLAIN_MODE_LINK, .ino = 13},
	    {.name = TEXT("d")},
	};
	static const struct plain_entry later[] = {{.name = TEXT("b")}, {.name = TEXT("e")}};
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(READDIR, PATH("/w")), .entries = entries, .entry_count = 9},
	    {ASK(READDIR, PATH("/w")), .entries = later, .entry_count = 2},
	    {ASK(READDIR, PATH("/w"))},
	    {ASK(READDIR, PATH("/w")), ERROR(EACCES)},
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	};
	static const struct {
		const char *name;
		uint32_t type;
	} want[] = {{".", DT_DIR}, {"..", DT_DIR},    {"a", DT_DIR},
		    {"b", DT_REG}, {"c", DT_UNKNOWN}, {"d", DT_REG}};
	struct fixture f;
	struct dir_entry e;
	uint64_t off = 0;

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	/* one at a time, with somebody else's listing in between */
	for (size_t i = 0; i < 6; i++) {
		const struct msg *r = readdir_at(&f, root, off, 32);
		assert_int_equal(r->err, 0);
		struct slice in = r->payload;
		assert_int_equal(codec_get_entry(&in, &e), 1);
		assert_int_equal(e.name.len, strlen(want[i].name));
		assert_memory_equal(e.name.data, want[i].name, e.name.len);
		assert_int_equal(e.type, want[i].type);
		assert_int_equal(e.node, 0);
		assert_true(e.ino > 1 && e.off > off && e.off < INT64_MAX);
		off = e.off;
		if (i == 3)
			assert_int_equal(readdir_at(&f, root, 0, 4096)->flags, READDIR_END);
	}
	const struct msg *r = readdir_at(&f, root, off, 4096);
	assert_true(r->err == 0 && r->payload.len == 0 && r->flags == READDIR_END);
	r = readdir_at(&f, root, 0, 4096); /* an empty one */
	struct slice in = r->payload;
	assert_true(r->err == 0 && r->flags == READDIR_END);
	assert_true(codec_get_entry(&in, &e) == 1 && codec_get_entry(&in, &e) == 1);
	assert_int_equal(e.ino, 2); /* of "..", at the root */
	assert_int_equal(codec_get_entry(&in, &e), 0);
	assert_int_equal(readdir_at(&f, root, 0, 4096)->err, EACCES);
	assert_int_equal(readdir_at(&f, lookup(&f, root, "f"), 0, 4096)->err, ENOTDIR);
	stop_peer(&f);
}

/* More listings than are kept: a reader whose listing is gone goes on in a new one. */
static void test_many_listings(void **state)
{
	enum { COUNT = 20 };
	static const struct plain_entry entries[] = {{.name = TEXT("a")}, {.name = TEXT("b")}};
	struct step steps[2 + COUNT + 1] = {START_OLD};
	struct dir_entry e;
	struct fixture f;

	(void)state;
	for (size_t i = 2; i < sizeof(steps) / sizeof(steps[0]); i++)
		steps[i] =
		    (struct step){ASK(READDIR, PATH("/w")), .entries = entries, .entry_count = 2};
	START(&f, steps);
	uint64_t root = f.backend->info.root_node, off = 0;
	for (size_t i = 0; i < COUNT; i++) {
		struct slice in = readdir_at(&f, root, 0, 4096)->payload;

		for (int k = 0; k < 3; k++)
			assert_int_equal(codec_get_entry(&in, &e), 1);
		if (i == 0)
			off = e.off;
	}
	struct slice in = readdir_at(&f, root, off, 4096)->payload;
	assert_int_equal(codec_get_entry(&in, &e), 1);
	assert_memory_equal(e.name.data, "b", 1);
	assert_int_equal(codec_get_entry(&in, &e), 0);
	stop_peer(&f);
}

/* ---- what is not there ---- */

static void test_unsupported(void **state)
{
	static const struct step steps[] = {START_OLD};
	struct fixture f;
	struct msg m;
	const struct slice v = TEXT("v");

	(void)state;
	START(&f, steps);
	uint64_t root = f.backend->info.root_node;
	m = on_file(MSG_LSEEK, 1, 0);
	MSG_SET(&m, flags, 3);
	assert_int_equal(ask(&f, m)->err, ENOSYS);
	m = named2(MSG_SETXATTR, root, NULL, 0, "user.x");
	MSG_SET(&m, payload, v);
	assert_int_equal(ask(&f, m)->err, ENOSYS);
	m = on_file(MSG_FALLOCATE, 1, 0);
	MSG_SET(&m, size, 1);
	assert_int_equal(ask(&f, m)->err, ENOSYS);
	m = on_file(MSG_SETLK, 1, 0);
	MSG_SET(&m, owner, 1);
	MSG_SET(&m, type, 1);
	MSG_SET(&m, off2, 1);
	assert_int_equal(ask(&f, m)->err, EOPNOTSUPP);
	m = on_file(MSG_FLUSH, 1, 0);
	assert_int_equal(ask(&f, m)->err, 0);
	const struct msg *r = ask(&f, request(MSG_STATFS, root));
	assert_true(r->err == 0 && r->fs.namemax == 255 && r->fs.bfree > 0);
	stop_peer(&f);
}

static void test_enosys_is_no_answer(void **state)
{
	static const struct step steps[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/f")), STAT(FILE_STAT(10, 6))},
	    {ASK(OPEN, PATH("/w/f")), ERROR(ENOSYS)},
	};
	struct fixture f;

	(void)state;
	START(&f, steps);
	uint64_t node = lookup(&f, f.backend->info.root_node, "f");
	struct msg m = request(MSG_OPEN, node);
	MSG_SET(&m, flags, O_RDONLY);
	/* the kernel would never open again */
	assert_int_equal(ask(&f, m)->err, EOPNOTSUPP);
	stop_peer(&f);
}

/* ---- a lost link ---- */

static void lose(const struct step *steps, size_t count)
{
	struct fixture f;
	char err[256] = "";

	assert_int_equal(start(&f, steps, count, err, sizeof(err)), 0);
	uint64_t root = f.backend->info.root_node;
	assert_int_equal(ask(&f, named(MSG_LOOKUP, root, "f"))->err, ENOTCONN);
	assert_int_equal(ask(&f, request(MSG_GETATTR, root))->err, ENOTCONN);
	assert_int_equal(ask(&f, request(MSG_STATFS, root))->err, ENOTCONN);
	forget(&f, root, 1);
	stop_peer(&f);
	assert_int_equal(f.lost, 1);
}

static void test_malformed(void **state)
{
	static const struct step garbage[] = {
	    START_OLD, {ASK(LOOKUP, PATH("/w/f")), .raw = TEXT("\0\0\0\4\xff\xff\xff\xff")}};
	static const struct step oversized[] = {
	    START_OLD, {ASK(LOOKUP, PATH("/w/f")), .raw = TEXT("\xff\xff\xff\xff")}};
	static const struct step truncated[] = {
	    START_OLD,
	    {ASK(LOOKUP, PATH("/w/f")), .raw = TEXT("\0\0\1\0\xa1"), .hang_up = true},
	};
	static const struct step no_stat[] = {START_OLD, {ASK(LOOKUP, PATH("/w/f"))}};
	static const struct step closed[] = {
	    START_OLD, {ASK(LOOKUP, PATH("/w/f")), .raw = TEXT(""), .hang_up = true}};

	(void)state;
	lose(garbage, 3);
	lose(oversized, 3);
	lose(truncated, 3);
	lose(no_stat, 3);
	lose(closed, 3);
}

static void test_idle_loss(void **state)
{
	static const struct step steps[] = {START_OLD};
	struct fixture f;

	(void)state;
	START(&f, steps);
	stream_shutdown(f.script.stream);
	wait_for_sem(&f.told);
	assert_int_equal(f.lost, 1);
	assert_int_equal(ask(&f, request(MSG_GETATTR, 1))->err, ENOTCONN);
	stop_peer(&f);
}

static void test_shutdown_with_calls(void **state)
{
	enum { CALLS = 8 };
	static const struct step steps[] = {START_OLD, {ASK(LOOKUP, PATH("/w/f")), .silent = true}};
	static struct answer answers[CALLS];
	struct fixture f;

	(void)state;
	START(&f, steps);
	for (size_t i = 0; i < CALLS; i++) {
		(void)pthread_mutex_init(&answers[i].lock, NULL);
		(void)pthread_cond_init(&answers[i].done, NULL);
		submit(&f, &answers[i], named(MSG_LOOKUP, 1, "f"), false);
	}
	/* the first one must have reached the server, or the script is not fulfilled */
	wait_for_sem(&f.script.silences);
	f.backend->ops->shutdown(f.backend);
	for (size_t i = 0; i < CALLS; i++) {
		assert_true(answers[i].is_done);
		assert_int_equal(answers[i].reply.err, ENOTCONN);
	}
	assert_int_equal(ask(&f, request(MSG_GETATTR, 1))->err, ENOTCONN);
	f.backend->ops->free(f.backend);
	f.backend = NULL;
	stop_peer(&f);
	assert_int_equal(f.lost, 0);
}

static void test_start_fails(void **state)
{
	static const struct step missing[] = {{ASK(GETATTR, PATH("/w")), ERROR(ENOENT)}};
	static const struct step no_dir[] = {{ASK(GETATTR, PATH("/w")), STAT(FILE_STAT(1, 2))}};
	static const struct step closed[] = {
	    {ASK(GETATTR, PATH("/w")), .raw = TEXT(""), .hang_up = true}};
	const struct {
		const struct step *steps;
		int r;
		const char *text;
	} cases[] = {{missing, -ENOENT, "'/w'"},
		     {no_dir, -ENOTDIR, "directory"},
		     {closed, -ENOTCONN, "closed"}};
	struct fixture f;
	char err[256];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(start(&f, cases[i].steps, 1, err, sizeof(err)), cases[i].r);
		assert_non_null(strstr(err, cases[i].text));
		stop_peer(&f);
		assert_int_equal(f.lost, 0);
	}
	const struct plain_options o = {.base = "relative"};
	struct backend *b;
	assert_int_equal(plain_client_new(open("/dev/null", O_RDWR), &o, &b, err, sizeof(err)),
			 -EINVAL);
	assert_non_null(strstr(err, "relative"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lookup),
	    cmocka_unit_test(test_forget),
	    cmocka_unit_test(test_rename),
	    cmocka_unit_test(test_remove),
	    cmocka_unit_test(test_type_change),
	    cmocka_unit_test(test_create),
	    cmocka_unit_test(test_read_write),
	    cmocka_unit_test(test_truncate),
	    cmocka_unit_test(test_truncate_op),
	    cmocka_unit_test(test_kept),
	    cmocka_unit_test(test_kept_owner),
	    cmocka_unit_test(test_times),
	    cmocka_unit_test(test_append),
	    cmocka_unit_test(test_special_files),
	    cmocka_unit_test(test_make),
	    cmocka_unit_test(test_links_followed),
	    cmocka_unit_test(test_links_told),
	    cmocka_unit_test(test_links_unseen),
	    cmocka_unit_test(test_symlink_orders),
	    cmocka_unit_test(test_readdir),
	    cmocka_unit_test(test_many_listings),
	    cmocka_unit_test(test_unsupported),
	    cmocka_unit_test(test_enosys_is_no_answer),
	    cmocka_unit_test(test_malformed),
	    cmocka_unit_test(test_idle_loss),
	    cmocka_unit_test(test_shutdown_with_calls),
	    cmocka_unit_test(test_start_fails),
	};

	log_init("test_plain_client", LOG_CRIT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
