/*
 * The loop and the requests in flight: interrupts, replies that nobody waits for any more or that
 * the kernel refuses, requests that are no requests, and the threads.
 */
#include "fuse_kernel.h"

#include <sys/stat.h>

#define FILE_MODE (S_IFREG | 0644)
#define FH	  77

/* ---- who is being killed ---- */

static pid_t killed;

bool __wrap_task_being_killed(pid_t tid);
bool __wrap_task_being_killed(pid_t tid)
{
	return tid == killed;
}

#define PID 4242 /* of every request of the fake kernel */

/* The watch looks at the interrupted requests. True: there are some to be looked at again. */
static bool watch_looks(struct kernel *k)
{
	SCOPE_LOCK(&k->fs->lock);
	return krequests_check_killed_locked(k->fs);
}

static struct question *interrupts(struct kernel *k, const struct question *q)
{
	struct fuse_interrupt_in in = {.unique = q->unique};

	return kernel_ask(k, FUSE_INTERRUPT, 0, ARG(in));
}

static struct kernel *mounted(void)
{
	killed = 0;
	return kernel_mounted(kernel_options());
}

static struct msg made(struct kernel *k, uint64_t node, uint32_t mode)
{
	return reply_node(k->w, k->w->seq, node, mode, node);
}

static uint64_t a_file(struct kernel *k)
{
	return kernel_looks_up(k, CACHE_ROOT, "f", 50, FILE_MODE);
}

/* The cache knows the name: the reference that it gives now is the only one. */
static uint64_t one_reference(struct kernel *k, const char *name)
{
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING(name));
	uint64_t ino = ANSWER(q, struct fuse_entry_out)->nodeid;

	assert_true(cache_kernel_knows(k->w->c, ino));
	cache_forget(k->w->c, ino, 1);
	assert_false(cache_kernel_knows(k->w->c, ino));
	return ino;
}

/* ---- interrupts ---- */

/* A lock that is waited for is given up at once. */
static void test_interrupted_lock(void **state)
{
	struct kernel *k = mounted();
	uint64_t ino = a_file(k);
	struct fuse_lk_in in = {.fh = kernel_opens(k, ino, O_RDWR, FH, 50),
				.lk = {.end = 9, .type = F_WRLCK}};
	struct question *q = kernel_ask(k, FUSE_SETLKW, ino, ARG(in));

	(void)state;
	assert_false(interrupts(k, q)->answered);
	assert_ptr_equal(k->cancelled, k->w->f->waiting[0]);
	assert_false(q->answered);
	host_says(k, MSG_SETLK, reply_err(NO_STAMP, EINTR));
	assert_err(q, EINTR);
	/* one that would not wait is as any other request */
	k->cancelled = NULL;
	q = kernel_ask(k, FUSE_SETLK, ino, ARG(in));
	(void)interrupts(k, q);
	assert_null(k->cancelled);
	host_says(k, MSG_SETLK, reply_stamp(NO_STAMP));
	assert_err(q, 0);
	kernel_unmounted(k);
}

/* Any other request goes on, until its task is being killed. */
static void test_killed(void **state)
{
	struct kernel *k = mounted();
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("a"));
	struct question *other = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("b"));

	(void)state;
	killed = PID;
	assert_false(watch_looks(k)); /* nobody was interrupted */
	killed = 0;
	assert_false(interrupts(k, q)->answered);
	assert_int_equal(stats_get(k->w->stats, STAT_fuse_interrupts), 1);
	assert_null(k->cancelled);
	assert_true(watch_looks(k));
	assert_false(q->answered);
	killed = PID;
	assert_false(watch_looks(k));
	assert_err(q, EINTR);
	assert_false(watch_looks(k)); /* and not again */
	/* The host's reply comes after all: its reference goes back. */
	struct msg m = made(k, 50, FILE_MODE);
	host_replies(k, MSG_LOOKUP, &m);
	(void)one_reference(k, "a");
	m = reply_err(k->w->seq, EACCES);
	host_replies(k, MSG_LOOKUP, &m);
	assert_err(other, EACCES);
	kernel_unmounted(k);
}

/* The INTERRUPT overtook its request, or came after the reply: the kernel is to ask again. */
static void test_unknown_interrupt(void **state)
{
	struct kernel *k = mounted();
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("a"));

	(void)state;
	host_says(k, MSG_LOOKUP, reply_err(k->w->seq, EACCES));
	assert_err(interrupts(k, q), EAGAIN);
	assert_int_equal(stats_get(k->w->stats, STAT_fuse_interrupts), 0);
	kernel_unmounted(k);
}

/* What is done for a task that does not see it any more is to be looked at again. */
struct unseen {
	uint32_t opcode;
	enum msg_op op;
	int code;
	bool on_file; /* else on the root */
	bool fails;   /* the host has not done it */
};

static struct question *ask_unseen(struct kernel *k, const struct unseen *u, uint64_t file,
				   uint64_t fh)
{
	union {
		struct fuse_mknod_in mknod;
		struct fuse_mkdir_in mkdir;
		struct fuse_create_in create;
		struct fuse_rename_in rename;
		struct fuse_link_in link;
		struct fuse_open_in open;
		struct fuse_write_in write;
		struct fuse_setattr_in setattr;
		struct fuse_fallocate_in fallocate;
	} in = {0};

	switch (u->opcode) {
	case FUSE_MKNOD:
		in.mknod.mode = FILE_MODE;
		return kernel_ask(k, u->opcode, CACHE_ROOT, ARG(in.mknod), STRING("x"));
	case FUSE_MKDIR:
		return kernel_ask(k, u->opcode, CACHE_ROOT, ARG(in.mkdir), STRING("x"));
	case FUSE_CREATE:
		in.create.mode = FILE_MODE;
		return kernel_ask(k, u->opcode, CACHE_ROOT, ARG(in.create), STRING("x"));
	case FUSE_SYMLINK:
		return kernel_ask(k, u->opcode, CACHE_ROOT, STRING("x"), STRING("to"));
	case FUSE_UNLINK:
	case FUSE_RMDIR:
		return kernel_ask(k, u->opcode, CACHE_ROOT, STRING("x"));
	case FUSE_RENAME:
		in.rename.newdir = CACHE_ROOT;
		return kernel_ask(k, u->opcode, CACHE_ROOT, ARG(in.rename), STRING("x"),
				  STRING("y"));
	case FUSE_LINK:
		in.link.oldnodeid = file;
		return kernel_ask(k, u->opcode, CACHE_ROOT, ARG(in.link), STRING("x"));
	case FUSE_OPEN:
		in.open.flags = O_RDWR | O_TRUNC;
		return kernel_ask(k, u->opcode, file, ARG(in.open));
	case FUSE_WRITE:
		in.write.fh = fh;
		in.write.size = 2;
		return kernel_ask(k, u->opcode, file, ARG(in.write), STRING("w"));
	case FUSE_SETATTR:
		in.setattr.valid = FATTR_MODE;
		return kernel_ask(k, u->opcode, file, ARG(in.setattr));
	case FUSE_FALLOCATE:
		in.fallocate.fh = fh;
		return kernel_ask(k, u->opcode, file, ARG(in.fallocate));
	case FUSE_REMOVEXATTR:
		return kernel_ask(k, u->opcode, file, STRING("user.x"));
	default:
		return kernel_ask(k, u->opcode, CACHE_ROOT, STRING("x"));
	}
}

static void test_done_unseen(void **state)
{
	static const struct unseen all[] = {
	    {FUSE_MKNOD, MSG_MKNOD, FUSE_NOTIFY_INVAL_ENTRY, false, false},
	    {FUSE_MKDIR, MSG_MKNOD, FUSE_NOTIFY_INVAL_ENTRY, false, false},
	    {FUSE_CREATE, MSG_CREATE, FUSE_NOTIFY_INVAL_ENTRY, false, false},
	    {FUSE_SYMLINK, MSG_SYMLINK, FUSE_NOTIFY_INVAL_ENTRY, false, false},
	    {FUSE_UNLINK, MSG_UNLINK, FUSE_NOTIFY_INVAL_ENTRY, false, false},
	    {FUSE_RMDIR, MSG_RMDIR, FUSE_NOTIFY_INVAL_ENTRY, false, false},
	    {FUSE_RENAME, MSG_RENAME, FUSE_NOTIFY_INVAL_ENTRY, false, false},
	    {FUSE_LINK, MSG_LINK, FUSE_NOTIFY_INVAL_ENTRY, false, false},
	    {FUSE_LINK, MSG_LINK, FUSE_NOTIFY_INVAL_INODE, true, false},
	    {FUSE_OPEN, MSG_OPEN, FUSE_NOTIFY_INVAL_INODE, true, false},
	    {FUSE_WRITE, MSG_WRITE, FUSE_NOTIFY_INVAL_INODE, true, false},
	    {FUSE_SETATTR, MSG_SETATTR, FUSE_NOTIFY_INVAL_INODE, true, false},
	    {FUSE_FALLOCATE, MSG_FALLOCATE, FUSE_NOTIFY_INVAL_INODE, true, false},
	    {FUSE_REMOVEXATTR, MSG_REMOVEXATTR, FUSE_NOTIFY_INVAL_INODE, true, false},
	    {FUSE_UNLINK, MSG_UNLINK, FUSE_NOTIFY_INVAL_ENTRY, false, true},
	    {FUSE_WRITE, MSG_WRITE, FUSE_NOTIFY_INVAL_INODE, true, true},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(all); i++) {
		const struct unseen *u = &all[i];
		struct kernel *k = mounted();
		uint64_t file = a_file(k), fh = kernel_opens(k, file, O_RDWR, FH, 50);
		struct msg m = u->op == MSG_LINK ? made(k, 50, FILE_MODE) : made(k, 90, FILE_MODE);

		/* what was known to be there the cache does not tell of by itself */
		if (u->op == MSG_RENAME)
			(void)kernel_looks_up(k, CACHE_ROOT, "x", 90, FILE_MODE);
		struct question *q = ask_unseen(k, u, file, fh);
		(void)interrupts(k, q);
		killed = PID;
		assert_false(watch_looks(k));
		assert_err(q, EINTR);
		if (u->op == MSG_CREATE || u->op == MSG_OPEN)
			MSG_SET(&m, fh, FH + 1);
		MSG_SET(&m, size, 2);
		MSG_SET(&m, off, 0);
		if (u->fails)
			m = reply_err(NO_STAMP, EIO);
		kernel_forget_notes(k);
		host_says(k, u->op, m);
		kernel_notified(k);
		size_t n = kernel_noted(k, u->code, u->on_file ? file : CACHE_ROOT,
					u->code == FUSE_NOTIFY_INVAL_ENTRY ? "x" : NULL);
		if ((n > 0) == u->fails)
			fail_msg("opcode %u: %zu notifications", u->opcode, n);
		if (u->op == MSG_RENAME)
			assert_int_equal(
			    kernel_noted(k, FUSE_NOTIFY_INVAL_ENTRY, CACHE_ROOT, "y"), 1);
		/* what was opened is closed, and the kernel has none of it */
		assert_int_equal(k->w->f->n_closed, u->op == MSG_CREATE || u->op == MSG_OPEN);
		kernel_unmounted(k);
	}
}

/* ---- replies ---- */

/* The caller was killed before the reply was written: what it brought goes back. */
static void test_nobody_waits(void **state)
{
	struct kernel *k = mounted();
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f"));
	struct msg m = made(k, 50, FILE_MODE);

	(void)state;
	k->refuses = ENOENT;
	host_says(k, MSG_LOOKUP, m);
	assert_true(q->gone);
	uint64_t ino = one_reference(k, "f");

	struct fuse_create_in create = {.flags = O_RDWR, .mode = FILE_MODE};
	q = kernel_ask(k, FUSE_CREATE, CACHE_ROOT, ARG(create), STRING("new"));
	m = made(k, 51, FILE_MODE);
	MSG_SET(&m, fh, FH);
	k->refuses = ENOENT;
	host_says(k, MSG_CREATE, m);
	assert_true(q->gone);
	assert_int_equal(k->w->f->n_closed, 1);
	assert_int_equal(k->w->f->closed[0], FH);
	assert_null(k->fs->files);
	(void)one_reference(k, "new");

	ino = ANSWER(kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f")), struct fuse_entry_out)
		  ->nodeid;
	struct fuse_open_in open = {.flags = O_RDWR};
	q = kernel_ask(k, FUSE_OPEN, ino, ARG(open));
	m = reply_attr(k->w, k->w->seq, FILE_MODE, 50);
	MSG_SET(&m, fh, FH + 1);
	k->refuses = ENOENT;
	host_says(k, MSG_OPEN, m);
	assert_true(q->gone);
	assert_int_equal(k->w->f->n_closed, 2);
	assert_null(k->fs->files);

	uint64_t dir = kernel_looks_up(k, CACHE_ROOT, "d", 60, S_IFDIR | 0755);
	k->refuses = ENOENT; /* the listing goes: the sanitizer sees to that */
	q = kernel_ask(k, FUSE_OPENDIR, dir, ARG(open));
	assert_true(q->gone);
	kernel_unmounted(k);
}

/* A reply that the kernel refuses would leave its caller waiting for ever. */
static void test_refused(void **state)
{
	struct kernel *k = mounted();
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f"));

	(void)state;
	k->refuses = EINVAL;
	host_says(k, MSG_LOOKUP, made(k, 50, FILE_MODE));
	assert_err(q, EIO);
	(void)one_reference(k, "f");
	kernel_unmounted(k);
}

/* ---- what is read ---- */

static void test_wrong_requests(void **state)
{
	static const uint32_t unknown[] = {0, 7, 19, 48, 49, 52, 63, 1000, 1048576, UINT32_MAX};
	struct kernel *k = mounted();
	uint64_t zero[8] = {0};

	(void)state;
	for (size_t i = 0; i < COUNT(unknown); i++)
		assert_err(kernel_ask(k, unknown[i], CACHE_ROOT, ARG(zero)), ENOSYS);
	/* too short for the number that it is about, which then is none that we know */
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("a"));
	uint32_t half = (uint32_t)q->unique;
	assert_false(kernel_ask(k, FUSE_INTERRUPT, 0, ARG(half))->answered);
	killed = PID;
	assert_false(watch_looks(k));
	assert_false(q->answered);
	host_says(k, MSG_LOOKUP, reply_err(k->w->seq, EACCES));
	assert_err(q, EACCES);
	assert_err(kernel_ask(k, FUSE_LOOKUP, 0, STRING("a")), ESTALE);
	kernel_unmounted(k);
}

/* Flags that the request is too short for are not those of the one before. */
static void test_truncated_flags(void **state)
{
	struct kernel *k = mounted();
	uint64_t ino = a_file(k), fh = kernel_opens(k, ino, O_RDWR, FH, 50);
	struct fuse_read_in in = {.fh = fh, .size = 10, .read_flags = FUSE_READ_LOCKOWNER};

	(void)state;
	(void)kernel_ask(k, FUSE_READ, ino, ARG(in));
	assert_true(current.unpaged);
	host_says(k, MSG_READ, reply_stamp(NO_STAMP));
	(void)kernel_ask(k, FUSE_READ, ino, ((struct slice){&in, sizeof(in) - 1}));
	assert_false(current.unpaged);
	host_says(k, MSG_READ, reply_stamp(NO_STAMP));
	kernel_unmounted(k);
}

static void test_reading_fails(void **state)
{
	struct kernel *k = mounted();

	(void)state;
	k->unreadable = EINTR;
	kernel_loop(k);
	k->unreadable = EAGAIN;
	kernel_loop(k);
	k->unreadable = ENOENT; /* the request was interrupted before it was read */
	assert_err(kernel_ask(k, FUSE_ACCESS, CACHE_ROOT, STRING("abcdefg")), ENOSYS);
	k->unreadable = EIO;
	assert_false(loop_take(k->fs, &k->buf));
	assert_false(fuse_session_exited(k->fs->se));
	kernel_put(k, "short", 5);
	assert_false(loop_take(k->fs, &k->buf));
	k->unreadable = ENODEV; /* unmounted */
	assert_false(loop_take(k->fs, &k->buf));
	assert_true(fuse_session_exited(k->fs->se));
	kernel_unmounted(k);
}

/* A WRITE keeps its receive buffer, which is used again. */
static void test_buffers(void **state)
{
	struct kernel *k = mounted();
	uint64_t ino = a_file(k);
	struct fuse_write_in in = {
	    .fh = kernel_opens(k, ino, O_RDWR, FH, 50), .size = 2, .offset = 100};
	const void *mem = k->buf.mem;

	(void)state;
	(void)kernel_ask(k, FUSE_WRITE, ino, ARG(in), STRING("w"));
	assert_null(k->buf.mem);
	assert_int_equal(k->fs->buffer_count, 0);
	struct msg m = reply_stamp(NO_STAMP);
	MSG_SET(&m, size, 2);
	MSG_SET(&m, off, 100);
	host_says(k, MSG_WRITE, m);
	assert_int_equal(k->fs->buffer_count, 1);
	(void)kernel_ask(k, FUSE_ACCESS, CACHE_ROOT, ARG(in));
	assert_ptr_equal(k->buf.mem, mem);
	assert_int_equal(k->fs->buffer_count, 0);
	kernel_unmounted(k);
}

/* ---- threads ---- */

static void wait_answered(struct kernel *k, const struct question *q)
{
	struct timespec until = unit_deadline();

	SCOPE_LOCK(&k->lock);
	while (!q->answered)
		assert_int_equal(pthread_cond_timedwait(&k->news, &k->lock, &until), 0);
}

static void wait_noted(struct kernel *k, int code, uint64_t ino)
{
	struct timespec until = unit_deadline();

	SCOPE_LOCK(&k->lock);
	while (kernel_noted(k, code, ino, NULL) == 0)
		assert_int_equal(pthread_cond_timedwait(&k->news, &k->lock, &until), 0);
}

static void *runs(void *arg)
{
	struct kernel *k = arg;

	return (void *)(intptr_t)fs_run(k->fs);
}

/* Workers, watch and notifiers: they answer, and they end. */
static void test_threads(void **state)
{
	struct kernel *k = mounted();
	uint64_t ino = a_file(k), zero[8] = {0};
	struct fuse_getattr_in in = {0};
	struct question *q[50];
	struct slice arg[] = {ARG(in)}, bare[] = {ARG(zero)};
	pthread_t run;
	void *r;

	(void)state;
	assert_int_equal(notify_start(k->fs->notify), 0);
	assert_int_equal(pthread_create(&run, NULL, runs, k), 0);
	for (size_t i = 0; i < COUNT(q); i++)
		q[i] = i % 2 == 0 ? kernel_put_request(k, FUSE_GETATTR, ino, arg, 1)
				  : kernel_put_request(k, FUSE_ACCESS, ino, bare, 1);
	for (size_t i = 0; i < COUNT(q); i++) {
		wait_answered(k, q[i]);
		assert_int_equal(q[i]->err, i % 2 == 0 ? 0 : ENOSYS);
	}
	(void)inv(k->w, 50, INV_DATA);
	wait_noted(k, FUSE_NOTIFY_INVAL_INODE, ino);
	fs_stop(k->fs);
	assert_int_equal(pthread_join(run, &r), 0);
	assert_null(r);
	kernel_unmounted(k);
}

/* The kernel says that the mount has gone: the workers end by themselves. */
static void test_mount_goes(void **state)
{
	struct kernel *k = mounted();
	pthread_t run;
	void *r;

	(void)state;
	k->unreadable = ENODEV;
	assert_int_equal(pthread_create(&run, NULL, runs, k), 0);
	/* one worker has read that; the others wait in read(2), as they do until a signal comes */
	for (int i = 0; i < 3; i++)
		kernel_put(k, "", 0);
	assert_int_equal(pthread_join(run, &r), 0);
	assert_null(r);
	kernel_unmounted(k);
}

/* A worker waits for room in the queue to the host before it reads on. */
static void test_room(void **state)
{
	struct kernel *k = mounted();
	struct slice name[] = {STRING("abcdefg")};
	pthread_t run;

	(void)state;
	atomic_store(&k->w->f->base.full, true);
	struct question *q = kernel_put_request(k, FUSE_ACCESS, CACHE_ROOT, name, 1);
	assert_int_equal(pthread_create(&run, NULL, runs, k), 0);
	wait_answered(k, q);
	assert_false(atomic_load(&k->w->f->base.full)); /* kernel_wait_room */
	fs_stop(k->fs);
	assert_int_equal(pthread_join(run, NULL), 0);
	kernel_unmounted(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_interrupted_lock), cmocka_unit_test(test_killed),
	    cmocka_unit_test(test_unknown_interrupt), cmocka_unit_test(test_done_unseen),
	    cmocka_unit_test(test_nobody_waits),     cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_wrong_requests),   cmocka_unit_test(test_truncated_flags),
	    cmocka_unit_test(test_reading_fails),    cmocka_unit_test(test_buffers),
	    cmocka_unit_test(test_threads),	     cmocka_unit_test(test_mount_goes),
	    cmocka_unit_test(test_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
