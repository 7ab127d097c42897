/*
 * Who waits for the notifiers: fences, replies that are held, names that they pass, acknowledgements,
 * and sizes that are made known first.
 */
#include "notify_world.h"

static bool killed;

bool __wrap_task_being_killed(pid_t tid);
bool __wrap_task_being_killed(pid_t tid)
{
	return tid == PID && killed;
}

/* ---- the kernel holds a notification up ---- */

/* What happens while a notification of this kind waits inside the kernel; once. */
static struct {
	int code;
	uint64_t ino;
	void (*meanwhile)(void);
	int fails; /* and what it gets at the end */
} held_up;

static int holds_up(struct kernel *kernel, const struct note *note)
{
	(void)kernel;
	if (held_up.meanwhile == NULL || note->code != held_up.code || note->ino != held_up.ino)
		return 0;
	void (*meanwhile)(void) = TAKE_PTR(held_up.meanwhile);
	meanwhile();
	return held_up.fails;
}

static void hold_up(int code, uint64_t ino, void (*meanwhile)(void))
{
	held_up.code = code;
	held_up.ino = ino;
	held_up.meanwhile = meanwhile;
	held_up.fails = 0;
	k->notified = holds_up;
}

/* It was, and it is over. */
static void assert_was_held_up(void)
{
	assert_null(held_up.meanwhile);
}

static struct question *asked; /* by what happens meanwhile */

/* ---- fences ---- */

static unsigned passed;

static void count_it(void *arg)
{
	++*(unsigned *)arg;
}

static void fence(struct notify_fence *f)
{
	passed = 0;
	*f = (struct notify_fence){.done = count_it, .arg = &passed};
	notify_fence(k->fs->notify, f);
}

static int file_fails(struct kernel *kernel, const struct note *note)
{
	(void)kernel;
	return note->code == FUSE_NOTIFY_INVAL_INODE && note->ino == file ? ENOENT : 0;
}

/* Everything that was queued before, parked and repeated ones too; nothing that comes later. */
static void test_fence(void **state)
{
	struct notify_fence f;

	(void)state;
	fence(&f);
	assert_int_equal(passed, 0); /* on a notifier */
	kernel_notified(k);
	assert_int_equal(passed, 1);
	struct question *q = looks_up(dir, "slow");
	notify_inval_entry(k->fs->notify, dir, "x", 1);
	fence(&f);
	kernel_notified(k);
	assert_int_equal(passed, 0);
	k->notified = file_fails;
	(void)inv(k->w, 50, INV_ATTR);
	host_made(MSG_LOOKUP, 61);
	assert_err(q, 0);
	kernel_notified(k);
	assert_int_equal(entries(dir, "x"), 1);
	assert_int_equal(passed, 1);
	fence(&f);
	kernel_later(k, 10 * MSEC);
	assert_int_equal(passed, 0);
	k->notified = NULL;
	kernel_later(k, SECOND);
	assert_int_equal(passed, 1);
}

/* ---- replies that synchronise ---- */

/* The reply waits until what the host had changed is told; nobody is to keep what it says. */
static void test_held(void **state)
{
	(void)state;
	(void)inv(k->w, 50, INV_DATA);
	struct question *q = makes(CACHE_ROOT, "new");
	host_made(MSG_MKNOD, 61);
	assert_false(q->answered);
	assert_int_equal(count(STAT_fence_waits), 1);
	/* other replies go */
	struct fuse_getattr_in in = {0};
	assert_err(kernel_ask(k, FUSE_GETATTR, dir, ARG(in)), 0);
	kernel_notified(k);
	assert_int_equal(inodes(file), 1);
	assert_int_equal(ANSWER(q, struct fuse_entry_out)->entry_valid, 0);
	assert_int_equal(ANSWER(q, struct fuse_entry_out)->attr_valid, 0);
	assert_int_equal(ANSWER(q, struct fuse_entry_out)->attr.mode, DIR_MODE);
	/* with nothing to wait for it goes at once, and may be kept */
	q = makes(CACHE_ROOT, "newer");
	host_made(MSG_MKNOD, 62);
	assert_true(ANSWER(q, struct fuse_entry_out)->entry_valid > 0);
	/* our own changes are nothing to wait for */
	notify_inval_range(k->fs->notify, file, 0, 0);
	q = makes(CACHE_ROOT, "newest");
	host_made(MSG_MKNOD, 63);
	assert_err(q, 0);
	assert_int_equal(count(STAT_fence_waits), 1);
}

/* What comes after the reply may be about what it makes known: that it does not wait for. */
static void test_not_what_comes_later(void **state)
{
	(void)state;
	(void)inv(k->w, 60, INV_ATTR);
	struct question *q = makes(CACHE_ROOT, "new");
	host_made(MSG_MKNOD, 61);
	assert_false(q->answered);
	k->notified = file_fails;
	(void)inv(k->w, 50, INV_ATTR);
	kernel_notified(k);
	assert_err(q, 0);
	assert_int_equal(count(STAT_inval_waiting), 1);
	k->notified = NULL;
	kernel_later(k, SECOND);
}

/* Nor longer than 20 ms for what the kernel holds up. */
static void makes_meanwhile(void)
{
	asked = makes(CACHE_ROOT, "new");
	host_made(MSG_MKNOD, 61);
	assert_false(asked->answered);
	kernel_later(k, 20 * MSEC - 1);
	assert_false(asked->answered);
	kernel_later(k, 1);
}

static void makes_meanwhile_and_waits(void)
{
	makes_meanwhile();
	assert_false(asked->answered);
	kernel_later(k, SECOND);
	assert_false(asked->answered);
}

static void makes_meanwhile_and_passes(void)
{
	makes_meanwhile();
	/* the directory's attributes and listing have gone instead of the name */
	assert_int_equal(inodes(dir), 1);
	assert_err(asked, 0);
	assert_true(notify_names_passed(k->fs->notify, dir));
}

static void test_stuck_inode(void **state)
{
	(void)state;
	hold_up(FUSE_NOTIFY_INVAL_INODE, file, makes_meanwhile_and_waits);
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	assert_was_held_up();
	assert_err(asked, 0);
}

static void test_stuck_name(void **state)
{
	(void)state;
	(void)kernel_looks_up(k, dir, "x", 70, FILE_MODE);
	hold_up(FUSE_NOTIFY_INVAL_ENTRY, dir, makes_meanwhile_and_passes);
	(void)inv_name(k->w, 60, "x");
	kernel_notified(k);
	assert_was_held_up();
	assert_false(notify_names_passed(k->fs->notify, dir));
	assert_int_equal(inodes(dir), 2);
}

/*
 * A notifier waits for the lock of dir, which a request has whose reply is held: the reply waits
 * for nothing that the same notifier has still to tell, or both would for ever.
 */
static void replies_meanwhile(void)
{
	(void)inv_name(k->w, FAKE_ROOT, "f");
	host_made(MSG_MKNOD, 61);
	assert_false(asked->answered);
	kernel_notified(k);
	assert_err(asked, 0);
	assert_int_equal(drops(dir, 0, 0), 1);
	assert_int_equal(drops(CACHE_ROOT, 0, 0), 1);
	assert_int_equal(entries(CACHE_ROOT, "f"), 0);
}

static void test_stuck_notifier(void **state)
{
	(void)state;
	(void)kernel_looks_up(k, dir, "x", 70, FILE_MODE);
	assert_int_equal(dir % 2, CACHE_ROOT % 2); /* one notifier tells names of both */
	asked = makes(dir, "new");
	(void)inv_name(k->w, 60, "x");
	kernel_notified(k); /* parked */
	hold_up(FUSE_NOTIFY_INVAL_ENTRY, dir, replies_meanwhile);
	kernel_later(k, 20 * MSEC);
	assert_was_held_up();
	assert_int_equal(entries(CACHE_ROOT, "f"), 1);
}

/* ---- names that were passed ---- */

/*
 * A name in the directory that a request has locked: its reply does not wait for the name, or both
 * would for ever. The directory's attributes and its listing go before it instead. The name x of
 * dir still waits behind `other`.
 */
static struct question *other;

static void pass_x(void)
{
	(void)kernel_looks_up(k, dir, "x", 70, FILE_MODE);
	struct question *q = makes(dir, "new");
	other = looks_up(dir, "slow");
	(void)inv_name(k->w, 60, "x");
	kernel_notified(k);
	host_made(MSG_MKNOD, 61);
	assert_false(q->answered);
	assert_int_equal(drops(dir, 0, 0), 0);
	kernel_notified(k);
	assert_err(q, 0);
	assert_int_equal(drops(dir, 0, 0), 1);
	assert_int_equal(entries(dir, "x"), 0);
	assert_true(notify_names_passed(k->fs->notify, dir));
	assert_false(notify_names_passed(k->fs->notify, CACHE_ROOT));
}

static void x_is_told(void)
{
	host_made(MSG_LOOKUP, 62);
	assert_err(other, 0);
	kernel_notified(k);
	assert_int_equal(entries(dir, "x"), 1);
	assert_false(notify_names_passed(k->fs->notify, dir));
}

/* Nobody is to keep attributes of that directory: so whoever goes through it asks. */
static void test_passed(void **state)
{
	(void)state;
	pass_x();
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("d"));
	struct call *call = fake_take(k->w->f, 1); /* behind `other` */
	struct msg m = reply_node(k->w, k->w->seq, 60, DIR_MODE, 60);
	call->done(call, &m);
	assert_int_equal(ANSWER(q, struct fuse_entry_out)->attr_valid, 0);
	x_is_told();
}

static struct question *stats(uint64_t ino)
{
	struct fuse_getattr_in in = {0};
	struct question *q = kernel_ask(k, FUSE_GETATTR, ino, ARG(in));

	for (size_t i = 0; i < k->w->f->n_waiting; i++) {
		if (k->w->f->waiting[i]->req.op != MSG_GETATTR)
			continue;
		struct call *call = fake_take(k->w->f, i);
		struct msg m = reply_attr(k->w, k->w->seq, DIR_MODE, 60);

		call->done(call, &m);
	}
	return q;
}

/* And who asks is answered when the names have been told, however long a request holds them up. */
static void test_attributes_of_passed(void **state)
{
	(void)state;
	pass_x();
	assert_err(stats(CACHE_ROOT), 0);
	struct question *q = stats(dir);
	assert_false(q->answered);
	changes_names = true; /* of no importance while a request of ours is there */
	for (int i = 0; i < 15; i++)
		kernel_later(k, MSEC);
	assert_false(q->answered);
	x_is_told();
	assert_err(q, 0);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr_valid, 0);
	assert_int_equal(count(STAT_fence_late), 0);
}

/* Whoever asks may be the one that has the directory locked: then he is answered, and counted. */
static struct question *walker;

static void stats_meanwhile(void)
{
	makes_meanwhile_and_passes();
	struct question *q = stats(dir);
	for (int i = 0; i < 10; i++) {
		assert_false(q->answered);
		kernel_later(k, 10 * MSEC);
	}
	assert_err(q, 0);
	assert_int_equal(count(STAT_fence_late), 1);
	/* one that is inside a system call that makes a name: at the first look */
	changes_names = true;
	q = stats(dir);
	assert_false(q->answered);
	kernel_later(k, 10 * MSEC);
	assert_err(q, 0);
	assert_int_equal(count(STAT_fence_late), 2);
	/* one that is on its way there has locked nothing: it waits for the names */
	walks = true;
	walker = stats(dir);
	for (int i = 0; i < 20; i++)
		kernel_later(k, 10 * MSEC);
	assert_false(walker->answered);
}

static void test_attributes_late(void **state)
{
	(void)state;
	(void)kernel_looks_up(k, dir, "x", 70, FILE_MODE);
	hold_up(FUSE_NOTIFY_INVAL_ENTRY, dir, stats_meanwhile);
	(void)inv_name(k->w, 60, "x");
	kernel_notified(k);
	assert_was_held_up();
	kernel_notified(k);
	assert_err(walker, 0);
	assert_int_equal(count(STAT_fence_late), 2);
}

/*
 * But not where nobody waits for a lock: the machine is busy, or the kernel does not know the
 * directory yet (-ENOENT), and then who asks for its attributes waits for its names.
 */
static int dir_fails(struct kernel *kernel, const struct note *note)
{
	(void)kernel;
	return note->code == FUSE_NOTIFY_INVAL_INODE && note->ino == dir ? ENOENT : 0;
}

static void test_attributes_of_nobody_stuck(void **state)
{
	(void)state;
	(void)kernel_looks_up(k, dir, "x", 70, FILE_MODE);
	k->notified = dir_fails;
	(void)inv_name(k->w, 60, "x");
	struct question *q = makes(CACHE_ROOT, "new");
	host_made(MSG_MKNOD, 61);
	for (int ms = 0; ms < 20; ms++)
		kernel_later(k, MSEC);
	assert_err(q, 0);
	assert_true(notify_names_passed(k->fs->notify, dir));
	changes_names = true;
	q = stats(dir);
	for (int ms = 0; ms < 2000; ms++)
		kernel_later(k, MSEC);
	assert_false(q->answered);
	k->notified = NULL;
	kernel_later(k, 32 * MSEC); /* at most from one try to the next */
	assert_false(notify_names_passed(k->fs->notify, dir));
	assert_err(q, 0);
	assert_int_equal(count(STAT_fence_late), 0);
}

/* Its task gets a SIGKILL while it waits. */
static void kills(const struct question *q)
{
	struct fuse_interrupt_in in = {.unique = q->unique};

	assert_false(q->answered);
	assert_false(kernel_ask(k, FUSE_INTERRUPT, 0, ARG(in))->answered);
	killed = true;
	(void)pthread_mutex_lock(&k->fs->lock);
	assert_false(krequests_check_killed_locked(k->fs));
	(void)pthread_mutex_unlock(&k->fs->lock);
	killed = false;
	assert_err(q, EINTR);
}

/* A killed task need not wait for its reply, which then is given to nobody. */
static void test_killed_while_held(void **state)
{
	(void)state;
	k->notified = file_fails;
	(void)inv(k->w, 50, INV_ATTR);
	struct question *q = makes(CACHE_ROOT, "new");
	host_made(MSG_MKNOD, 61);
	kills(q);
	/* the kernel is to look at the name that was made, however long the reply would wait */
	kernel_notified(k);
	assert_int_equal(entries(CACHE_ROOT, "new"), 1);
	assert_non_null(k->fs->in_flight);
	k->notified = NULL;
	kernel_later(k, SECOND);
	assert_int_equal(entries(CACHE_ROOT, "new"), 1); /* and once */
	assert_null(k->fs->in_flight);
}

/* Nor for a fence of its own. */
static void test_killed_in_fence(void **state)
{
	struct fuse_ioctl_in in = {.cmd = VSOCKFS_IOC_FENCE, .out_size = sizeof(uint64_t)};
	struct msg m = {0};

	(void)state;
	struct question *q = kernel_ask(k, FUSE_IOCTL, CACHE_ROOT, ARG(in));
	kills(q);
	MSG_SET(&m, seq, 1);
	host_says(k, MSG_FENCE, m);
	kernel_notified(k);
	assert_null(k->fs->in_flight);
}

/* The end of the mount lets it go. */
static void test_ends_while_held(void **state)
{
	(void)state;
	k->notified = file_fails;
	(void)inv(k->w, 50, INV_ATTR);
	struct question *q = makes(CACHE_ROOT, "new");
	host_made(MSG_MKNOD, 61);
	kernel_notified(k);
	assert_false(q->answered);
	cache_set_sink(k->w->c, NULL, NULL);
	notify_free(k->fs->notify);
	k->fs->notify = NULL;
	assert_err(q, 0);
	assert_null(k->fs->in_flight);
}

/* ---- acknowledgements ---- */

static uint64_t inv_to_acknowledge(uint64_t node, uint64_t class, const char *name)
{
	push_item(k->w, ++k->w->seq, INV_ACK, node, class, name);
	return k->w->seq;
}

static void assert_acknowledged(size_t n, uint64_t seq, uint64_t flags)
{
	const struct fake *f = k->w->f;

	assert_int_equal(f->n_acks, n);
	assert_int_equal(f->acks[n - 1].seq, seq);
	assert_int_equal(f->acks[n - 1].flags, flags);
}

static void test_acknowledged(void **state)
{
	(void)state;
	uint64_t seq = inv_to_acknowledge(50, INV_DATA, NULL);
	assert_int_equal(k->w->f->n_acks, 0);
	kernel_notified(k);
	assert_int_equal(inodes(file), 1);
	assert_acknowledged(1, seq, 0);
	kernel_later(k, SECOND);
	assert_int_equal(k->w->f->n_acks, 1);
	/* of what the kernel has none there is nothing to tell */
	seq = inv_to_acknowledge(999, INV_DATA, NULL);
	kernel_notified(k);
	assert_acknowledged(2, seq, 0);
}

/* Names behind a request of ours are passed after 2 ms. */
static void test_acknowledged_past_names(void **state)
{
	(void)state;
	(void)kernel_looks_up(k, dir, "x", 70, FILE_MODE);
	struct question *q = looks_up(dir, "slow");
	uint64_t seq = inv_to_acknowledge(60, INV_NAME, "x");
	kernel_notified(k);
	kernel_later(k, 2 * MSEC - 1);
	assert_int_equal(k->w->f->n_acks, 0);
	assert_int_equal(inodes(dir), 0);
	kernel_later(k, 1);
	assert_int_equal(inodes(dir), 1);
	assert_int_equal(entries(dir, "x"), 0);
	assert_acknowledged(1, seq, 0);
	assert_true(notify_names_passed(k->fs->notify, dir));
	host_made(MSG_LOOKUP, 61);
	assert_err(q, 0);
	kernel_notified(k);
	assert_int_equal(k->w->f->n_acks, 1);
}

/* What is held up inside the kernel: the server hears that it takes longer, after twice 2 ms. */
static void not_yet_acknowledged(void)
{
	kernel_later(k, 2 * MSEC);
	assert_int_equal(k->w->f->n_acks, 0);
	kernel_later(k, 2 * MSEC - 1);
	assert_int_equal(k->w->f->n_acks, 0);
	kernel_later(k, 1);
	assert_acknowledged(1, k->w->seq, ACK_DEFERRED);
}

static void test_deferred(void **state)
{
	(void)state;
	hold_up(FUSE_NOTIFY_INVAL_INODE, file, not_yet_acknowledged);
	(void)inv_to_acknowledge(50, INV_DATA, NULL);
	kernel_notified(k);
	assert_was_held_up();
	kernel_later(k, SECOND);
	assert_int_equal(k->w->f->n_acks, 1);
}

/* What is not inside the kernel is soon done, mostly: that it is not is told after 100 ms. */
static void test_deferred_late(void **state)
{
	(void)state;
	k->notified = file_fails;
	uint64_t seq = inv_to_acknowledge(50, INV_DATA, NULL);
	for (int ms = 0; ms < 99; ms++) {
		kernel_notified(k);
		assert_int_equal(k->w->f->n_acks, 0);
		kernel_later(k, MSEC);
	}
	kernel_later(k, 5 * MSEC);
	assert_acknowledged(1, seq, ACK_DEFERRED);
	k->notified = NULL;
	kernel_later(k, SECOND);
	assert_int_equal(k->w->f->n_acks, 1);
}

/* More than are remembered: the last one stands for the rest. */
static void test_many_acknowledgements(void **state)
{
	(void)state;
	k->notified = file_fails;
	for (int i = 0; i < 70; i++)
		(void)inv_to_acknowledge(50, INV_DATA, NULL);
	k->notified = NULL;
	kernel_notified(k);
	assert_int_equal(inodes(file), 1);
	assert_acknowledged(64, k->w->seq, 0);
	for (size_t i = 1; i < 64; i++)
		assert_true(k->w->f->acks[i].seq > k->w->f->acks[i - 1].seq);
}

/* ---- sizes ---- */

static size_t stores(uint64_t ino)
{
	return kernel_noted(k, FUSE_NOTIFY_STORE, ino, NULL);
}

static struct question *asks_size(void)
{
	struct fuse_getattr_in in = {0};

	return kernel_ask(k, FUSE_GETATTR, file, ARG(in));
}

static void host_has(uint64_t size)
{
	struct msg m = reply_attr(k->w, k->w->seq, FILE_MODE, size);

	host_replies(k, MSG_GETATTR, &m);
}

/* A size that the kernel has not is made known by a STORE of bytes that cannot be read. */
static void test_size_first(void **state)
{
	(void)state;
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	kernel_forget_notes(k);
	struct question *q = asks_size();
	host_has(60);
	assert_false(q->answered);
	kernel_notified(k);
	assert_int_equal(stores(file), 1);
	assert_int_equal(k->notes[0].off, 59);
	assert_int_equal(k->notes[0].len, 1);
	assert_true(k->notes[0].unreadable);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.size, 60);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr_valid, 0);
	/* and now it has it */
	q = asks_size();
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.size, 60);
	assert_true(ANSWER(q, struct fuse_attr_out)->attr_valid > 0);
	/* what becomes shorter is told as it is */
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	q = asks_size();
	host_has(40);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.size, 40);
	assert_int_equal(stores(file), 1);
}

static int store_fails(struct kernel *kernel, const struct note *note)
{
	(void)kernel;
	return note->code == FUSE_NOTIFY_STORE ? ENOENT : 0;
}

/* It did not take it: whoever asks next has it tried again. */
static void test_size_not_stored(void **state)
{
	(void)state;
	k->notified = store_fails;
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	struct question *q = asks_size();
	host_has(60);
	kernel_notified(k);
	assert_int_equal(stores(file), 1);
	assert_err(q, 0);
	k->notified = NULL;
	q = asks_size();
	assert_false(q->answered);
	kernel_notified(k);
	assert_int_equal(stores(file), 2);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.size, 60);
}

/* Of a file that is open the client asks for the size itself, and a fence waits for that. */
static void test_size_asked(void **state)
{
	struct notify_fence f;

	(void)state;
	(void)kernel_opens(k, file, O_RDONLY, 77, 50);
	(void)inv(k->w, 50, INV_DATA);
	fence(&f);
	kernel_notified(k);
	assert_int_equal(inodes(file), 1);
	assert_int_equal(passed, 0);
	host_has(5000);
	assert_int_equal(passed, 0);
	kernel_notified(k);
	assert_int_equal(stores(file), 1);
	assert_int_equal(k->notes[1].off + k->notes[1].len, 5000);
	assert_int_equal(passed, 1);
	/* or cannot tell */
	(void)inv(k->w, 50, INV_DATA);
	fence(&f);
	kernel_notified(k);
	host_says(k, MSG_GETATTR, reply_err(NO_STAMP, EIO));
	kernel_notified(k);
	assert_int_equal(passed, 1);
	assert_int_equal(stores(file), 1);
}

static struct question *made_while_a_size_is_asked(void)
{
	(void)kernel_opens(k, file, O_RDONLY, 77, 50);
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	struct question *q = makes(CACHE_ROOT, "new");
	struct call *call = fake_take(k->w->f, 1);
	struct msg m = reply_node(k->w, k->w->seq, 61, DIR_MODE, 61);
	call->done(call, &m);
	return q;
}

/* Replies wait for the host's answer about such a size; for a second only, it may be slow with that file. */
static void test_size_asked_too_long(void **state)
{
	(void)state;
	struct question *q = made_while_a_size_is_asked();
	for (int i = 0; i < 51; i++) {
		kernel_later(k, 20 * MSEC - 1);
		assert_false(q->answered);
		assert_int_equal(count(STAT_fence_late), 0);
		kernel_later(k, 1);
	}
	assert_err(q, 0);
	assert_int_equal(count(STAT_fence_late), 1);
	host_has(50);
	kernel_notified(k);
}

static void test_size_asked_late(void **state)
{
	(void)state;
	struct question *q = made_while_a_size_is_asked();
	kernel_later(k, 30 * MSEC);
	assert_false(q->answered);
	host_has(5000);
	kernel_notified(k);
	assert_int_equal(stores(file), 1);
	assert_err(q, 0);
	assert_int_equal(count(STAT_fence_late), 0);
}

/*
 * SETATTR makes the kernel take the reply's size whatever it is told meanwhile. So that is made
 * known first, and with news of it the notifier waits for the lock under which it is digested.
 */
static void test_size_forced(void **state)
{
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = FILE_MODE};

	(void)state;
	struct question *q = kernel_ask(k, FUSE_SETATTR, file, ARG(in));
	struct msg m = reply_attr(k->w, k->w->seq, FILE_MODE, 60);
	host_replies(k, MSG_SETATTR, &m);
	assert_false(q->answered);
	kernel_notified(k);
	assert_int_equal(stores(file), 1);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.size, 60);
	assert_int_equal(kernel_noted(k, FUSE_NOTIFY_DELETE, CACHE_ROOT, "f"), 0);
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	assert_int_equal(kernel_noted(k, FUSE_NOTIFY_DELETE, CACHE_ROOT, "f"), 1);
}

/*
 * News of a file whose size is forced: the notifier waits for the lock under which that is digested.
 * Who has no lock waits for that, however busy the machine is; who has made a name not for what his
 * own directory keeps from going on, and for the rest not as long.
 */
static struct question *locking, *making, *making_there;

static void asks_while_settling(void)
{
	struct fuse_lk_in lk = {.fh = 77, .lk = {.end = 9, .type = F_WRLCK}};
	struct msg granted = {0};

	host_has(50); /* it is open: the client has asked */
	lk.fh = *(const uint64_t *)k->arg;
	locking = kernel_ask(k, FUSE_SETLK, file, ARG(lk));
	host_replies(k, MSG_SETLK, &granted);
	making = makes(dir, "new");
	host_made(MSG_MKNOD, 61);
	for (int i = 0; i < 5; i++)
		kernel_later(k, 20 * MSEC);
	assert_false(locking->answered || making->answered);
	kernel_later(k, 20 * MSEC);
	assert_err(making, 0);
	making_there = makes(CACHE_ROOT, "new");
	host_made(MSG_MKNOD, 62);
	kernel_later(k, 20 * MSEC - 1);
	assert_false(making_there->answered);
	kernel_later(k, 1);
	assert_err(making_there, 0);
	for (int i = 0; i < 10; i++)
		kernel_later(k, 20 * MSEC);
	assert_false(locking->answered);
}

static void test_settling_is_waited_for(void **state)
{
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = FILE_MODE};

	(void)state;
	uint64_t fh = kernel_opens(k, file, O_RDWR, 77, 50);
	struct question *q = kernel_ask(k, FUSE_SETATTR, file, ARG(in));
	struct msg m = reply_attr(k->w, k->w->seq, FILE_MODE, 50);
	host_replies(k, MSG_SETATTR, &m);
	assert_err(q, 0);
	k->arg = &fh;
	hold_up(FUSE_NOTIFY_DELETE, CACHE_ROOT, asks_while_settling);
	(void)inv(k->w, 50, INV_ATTR);
	kernel_notified(k);
	assert_was_held_up();
	kernel_notified(k);
	assert_err(locking, 0);
}

/* A size that the kernel does not take, for it is truncating the file, is told after that. */
static void test_size_cut(void **state)
{
	struct fuse_setattr_in in = {.valid = FATTR_SIZE, .size = 20};

	(void)state;
	(void)inv(k->w, 50, INV_ATTR);
	struct question *cut = kernel_ask(k, FUSE_SETATTR, file, ARG(in));
	struct question *q = asks_size();
	struct msg m = reply_attr(k->w, k->w->seq, FILE_MODE, 20);
	struct call *call = fake_take(k->w->f, 1);
	call->done(call, &m);
	kernel_later(k, 100 * MSEC);
	assert_false(q->answered);
	host_replies(k, MSG_SETATTR, &m);
	assert_err(cut, 0);
	went_on = true;
	kernel_later(k, 16 * MSEC);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.size, 20);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr_valid, 0);
	/* a host that does not answer is not waited for so long */
	in.size = 10;
	cut = kernel_ask(k, FUSE_SETATTR, file, ARG(in));
	q = asks_size();
	m.attr.size = 10;
	m.attr.version++;
	call = fake_take(k->w->f, 1);
	call->done(call, &m);
	for (int i = 0; i < 90; i++)
		kernel_later(k, 16 * MSEC);
	assert_err(q, 0);
	host_replies(k, MSG_SETATTR, &m);
	assert_err(cut, 0);
	kernel_notified(k);
}

/* ---- pages ---- */

static uint64_t opened_with(uint32_t flags)
{
	return kernel_opens(k, file, flags, 77, 50);
}

/* The kernel has pages of the file. */
static void reads(uint64_t fh, uint64_t size_then)
{
	struct fuse_read_in in = {.fh = fh, .size = 4096};
	struct question *q = kernel_ask(k, FUSE_READ, file, ARG(in));
	struct msg m = reply_attr(k->w, k->w->seq, FILE_MODE, size_then);
	char bytes[50] = {0};

	MSG_SET(&m, payload, ((struct slice){bytes, sizeof(bytes)}));
	host_replies(k, MSG_READ, &m);
	assert_err(q, 0);
}

static struct question *writes(uint64_t fh, uint64_t off, uint32_t write_flags, const char *data)
{
	struct fuse_write_in in = {.fh = fh,
				   .offset = off,
				   .size = (uint32_t)strlen(data),
				   .write_flags = write_flags,
				   .flags = O_RDWR};

	return kernel_ask(k, FUSE_WRITE, file, ARG(in), ((struct slice){data, strlen(data)}));
}

static void host_wrote(uint64_t off, uint64_t size, uint64_t then)
{
	struct msg m = reply_attr(k->w, k->w->seq, FILE_MODE, then);

	MSG_SET(&m, off, off);
	MSG_SET(&m, size, size);
	host_replies(k, MSG_WRITE, &m);
}

/* An append past the kernel's pages: its bytes go into them before the reply. */
static void test_append_stored(void **state)
{
	(void)state;
	uint64_t fh = opened_with(O_RDWR | O_APPEND);
	reads(fh, 50);
	kernel_notified(k);
	kernel_forget_notes(k);
	struct question *q = writes(fh, 50, 0, "bytes");
	host_wrote(50, 5, 55);
	assert_false(q->answered);
	kernel_notified(k);
	assert_int_equal(stores(file), 1);
	assert_false(k->notes[0].unreadable);
	assert_int_equal(k->notes[0].off, 50);
	assert_int_equal(k->notes[0].len, 5);
	assert_memory_equal(k->notes[0].data, "bytes", 5);
	assert_int_equal(ANSWER(q, struct fuse_write_out)->size, 5);
	/* somebody else's bytes lie between, and are not told: the pages go instead */
	kernel_forget_notes(k);
	q = writes(fh, 55, 0, "more");
	host_wrote(70, 4, 74);
	assert_false(q->answered);
	kernel_notified(k);
	assert_int_equal(k->notes[0].code, FUSE_NOTIFY_INVAL_INODE);
	assert_int_equal(k->notes[0].off, 0);
	/* and what is now the end is told, which the kernel takes to be elsewhere */
	assert_int_equal(stores(file), 1);
	assert_true(k->notes[1].unreadable);
	assert_int_equal(k->notes[1].off + k->notes[1].len, 74);
	assert_int_equal(ANSWER(q, struct fuse_write_out)->size, 4);
}

/* One through the pages that landed behind what the kernel took for the end. */
static void test_moved_write(void **state)
{
	(void)state;
	uint64_t fh = opened_with(O_RDWR);
	struct question *q = writes(fh, 50, 0, "bytes");
	host_wrote(70, 5, 75);
	assert_err(q, 0);
	kernel_notified(k);
	assert_int_equal(drops(file, 0, 0), 1);
	assert_int_equal(stores(file), 1);
}

/* O_DIRECT beside pages: those go before the reply. */
static void test_direct_write(void **state)
{
	(void)state;
	uint64_t fh = opened_with(O_RDWR);
	reads(fh, 50);
	kernel_notified(k);
	kernel_forget_notes(k);
	struct question *q = writes(fh, 10, FUSE_WRITE_LOCKOWNER, "bytes");
	host_wrote(10, 5, 50);
	assert_false(q->answered);
	kernel_notified(k);
	assert_int_equal(drops(file, 10, 5), 1);
	assert_err(q, 0);
}

/* Whoever is killed meanwhile does not wait for that. */
static void test_killed_in_write(void **state)
{
	(void)state;
	uint64_t fh = opened_with(O_RDWR);
	reads(fh, 50);
	kernel_notified(k);
	struct question *q = writes(fh, 10, FUSE_WRITE_LOCKOWNER, "bytes");
	host_wrote(10, 5, 50);
	kills(q);
	kernel_notified(k);
	assert_null(k->fs->in_flight);
}

/*
 * The kernel keeps the pages of a READ locked until its reply: of one that left before the news
 * they are dropped behind it. With EINTR it lets them go, though the host has not answered yet.
 */
static void test_killed_in_read(void **state)
{
	(void)state;
	uint64_t fh = opened_with(O_RDONLY);
	reads(fh, 50);
	struct fuse_read_in in = {.fh = fh, .size = 4096};
	struct question *q = kernel_ask(k, FUSE_READ, file, ARG(in));
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	assert_int_equal(count(STAT_inval_parked), 1);
	kernel_forget_notes(k);
	kills(q);
	kernel_notified(k);
	assert_int_equal(drops(file, 0, 4096), 1);
	host_replies(k, MSG_READ, &(struct msg){.present = MSG_BIT(payload)});
	assert_null(k->fs->in_flight);
	if (k->w->f->n_waiting > 0) /* of the open file */
		host_has(50);
	kernel_notified(k);
}

/* A READ while the WRITE is on its way may bring back the old bytes. */
static void test_raced_write(void **state)
{
	(void)state;
	uint64_t fh = opened_with(O_RDWR);
	reads(fh, 50);
	kernel_notified(k);
	struct question *q = writes(fh, 10, 0, "bytes");
	struct fuse_read_in in = {.fh = fh, .size = 4096};
	struct question *read = kernel_ask(k, FUSE_READ, file, ARG(in));
	kernel_forget_notes(k);
	host_wrote(10, 5, 50);
	assert_err(q, 0);
	host_replies(k, MSG_READ, &(struct msg){.present = MSG_BIT(payload)});
	assert_err(read, 0);
	kernel_notified(k);
	assert_int_equal(drops(file, 10, 5), 1);
}

/* A READ shows that the file is longer: the kernel is to ask for the size again, at once. */
static void test_longer_read(void **state)
{
	(void)state;
	uint64_t fh = opened_with(O_RDONLY);
	kernel_forget_notes(k);
	reads(fh, 60);
	assert_int_equal(inodes(file), 1);
	assert_int_equal(k->notes[0].off, -1);
}

/*
 * Past the page cache nothing stops the reader at the size that the kernel knows. What he has seen he
 * may map: so that size comes first, and then all that was read.
 */
static void test_longer_direct_read(void **state)
{
	(void)state;
	uint64_t fh = opened_with(O_RDONLY);
	char bytes[60];
	memset(bytes, 'x', sizeof(bytes));
	struct msg m = reply_attr(k->w, k->w->seq, FILE_MODE, sizeof(bytes));
	MSG_SET(&m, payload, ((struct slice){bytes, sizeof(bytes)}));
	struct fuse_read_in in = {.fh = fh, .size = 4096, .read_flags = FUSE_READ_LOCKOWNER};
	struct question *q = kernel_ask(k, FUSE_READ, file, ARG(in));
	host_replies(k, MSG_READ, &m);
	memset(bytes, 0, sizeof(bytes)); /* the reply's memory is the wire's */
	assert_false(q->answered);
	kernel_forget_notes(k);
	kernel_notified(k);
	assert_int_equal(stores(file), 1);
	assert_true(k->notes[0].unreadable);
	assert_int_equal(k->notes[0].off + k->notes[0].len, 60);
	assert_err(q, 0);
	assert_int_equal(q->len, 60);
	memset(bytes, 'x', sizeof(bytes));
	assert_memory_equal(q->out, bytes, sizeof(bytes));
	/* nothing is to be made known twice */
	q = kernel_ask(k, FUSE_READ, file, ARG(in));
	host_replies(k, MSG_READ, &m);
	assert_err(q, 0);
}

/* open(2) while the kernel still has old pages to drop: its reply comes after that. */
static void test_open_after_pages(void **state)
{
	(void)state;
	uint64_t fh = opened_with(O_RDONLY);
	reads(fh, 50);
	(void)inv(k->w, 50, INV_DATA);
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct question *q = kernel_ask(k, FUSE_OPEN, file, ARG(in));
	struct msg m = reply_attr(k->w, NO_STAMP, FILE_MODE, 50);
	MSG_SET(&m, fh, 78);
	host_replies(k, MSG_OPEN, &m);
	assert_false(q->answered);
	kernel_notified(k);
	assert_err(q, 0);
	assert_true(inodes(file) > 0);
	if (k->w->f->n_waiting > 0)
		host_has(50);
	kernel_notified(k);
}

/* Nobody tells when a listing without a promise is no longer true: its pages go behind the reply. */
static void test_listing_unpromised(void **state)
{
	struct fuse_open_in open = {.flags = O_RDONLY | O_DIRECTORY};

	(void)state;
	uint64_t fh = ANSWER(kernel_ask(k, FUSE_OPENDIR, dir, ARG(open)), struct fuse_open_out)->fh;
	struct fuse_read_in in = {.fh = fh, .size = 4096};
	struct fuse_release_in rel = {.fh = fh};
	struct question *q = kernel_ask(k, FUSE_READDIRPLUS, dir, ARG(in));
	struct msg m = reply_stamp(NO_STAMP);
	MSG_SET(&m, flags, READDIR_END);
	MSG_SET(&m, payload, ((struct slice){"", 0}));
	host_replies(k, MSG_READDIRPLUS, &m);
	assert_err(q, 0);
	kernel_forget_notes(k);
	kernel_notified(k);
	assert_int_equal(entries(dir, "/"), 1);
	assert_true(inodes(dir) > 0);
	assert_err(kernel_ask(k, FUSE_RELEASEDIR, dir, ARG(rel)), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_fence),
	    TEST(test_held),
	    TEST(test_not_what_comes_later),
	    TEST(test_stuck_inode),
	    TEST(test_stuck_name),
	    TEST(test_stuck_notifier),
	    TEST(test_passed),
	    TEST(test_attributes_of_passed),
	    TEST(test_attributes_late),
	    TEST(test_attributes_of_nobody_stuck),
	    TEST(test_killed_while_held),
	    TEST(test_killed_in_fence),
	    TEST(test_killed_in_write),
	    TEST(test_killed_in_read),
	    TEST(test_ends_while_held),
	    TEST(test_acknowledged),
	    TEST(test_acknowledged_past_names),
	    TEST(test_deferred),
	    TEST(test_deferred_late),
	    TEST(test_many_acknowledgements),
	    TEST(test_size_first),
	    TEST(test_size_not_stored),
	    TEST(test_size_asked),
	    TEST(test_size_asked_too_long),
	    TEST(test_size_asked_late),
	    TEST(test_size_forced),
	    TEST(test_settling_is_waited_for),
	    TEST(test_size_cut),
	    TEST(test_append_stored),
	    TEST(test_moved_write),
	    TEST(test_direct_write),
	    TEST(test_raced_write),
	    TEST(test_longer_read),
	    TEST(test_longer_direct_read),
	    TEST(test_open_after_pages),
	    TEST(test_listing_unpromised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
