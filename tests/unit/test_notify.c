/*
 * What the kernel is told, and how: the queue and its mergers, errors and when a notification is
 * repeated, names behind requests in their directory, expiry and its proof, settling.
 */
#include "notify_world.h"

/* ---- inodes ---- */

static void test_inode(void **state)
{
	(void)state;
	(void)inv(k->w, 50, INV_ATTR);
	kernel_notified(k);
	assert_int_equal(k->n_notes, 1);
	assert_int_equal(inodes(file), 1);
	assert_int_equal(k->notes[0].off, -1); /* attributes only */
	kernel_forget_notes(k);
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	assert_int_equal(inodes(file), 1);
	assert_int_equal(k->notes[0].off, 0);
	assert_int_equal(k->notes[0].len, 0);
	assert_int_equal(count(STAT_inval_sent), 2);
	assert_int_equal(count(STAT_inval_waiting), 0);
	/* what it has forgotten it is not told */
	kernel_forget_notes(k);
	notify_inval_range(k->fs->notify, file, 0, 0);
	cache_forget(k->w->c, file, 1);
	kernel_notified(k);
	assert_int_equal(k->n_notes, 0);
	assert_int_equal(count(STAT_inval_waiting), 0);
}

/* What is queued already is not queued again. */
static void test_merged(void **state)
{
	struct notify *n = k->fs->notify;

	(void)state;
	for (int i = 0; i < 10; i++)
		(void)inv(k->w, 50, INV_DATA);
	assert_int_equal(count(STAT_inval_waiting), 1);
	(void)inv(k->w, 50, INV_ATTR);
	assert_int_equal(count(STAT_inval_waiting), 2);
	kernel_notified(k);
	assert_int_equal(inodes(file), 2);
	/* ranges grow together, and one that has no end takes in all */
	kernel_forget_notes(k);
	notify_inval_range(n, file, 8192, 100);
	notify_inval_range(n, file, 4096, 10);
	kernel_notified(k);
	assert_int_equal(k->n_notes, 1);
	assert_int_equal(k->notes[0].off, 4096);
	assert_int_equal(k->notes[0].len, 4196);
	notify_inval_range(n, file, 8192, 100);
	notify_inval_range(n, file, 100, 0);
	kernel_notified(k);
	assert_int_equal(k->n_notes, 2);
	assert_int_equal(k->notes[1].off, 100);
	assert_int_equal(k->notes[1].len, 0);
	/* names: by name; nothing is taken for another one */
	kernel_forget_notes(k);
	for (int i = 0; i < 3; i++) {
		notify_inval_entry(n, CACHE_ROOT, "f", 1);
		notify_inval_entry(n, CACHE_ROOT, "d", 1);
		notify_inval_entry(n, dir, "f", 1);
	}
	assert_int_equal(count(STAT_inval_waiting), 3);
	kernel_notified(k);
	assert_int_equal(entries(CACHE_ROOT, "f"), 1);
	assert_int_equal(entries(CACHE_ROOT, "d"), 1);
	assert_int_equal(entries(dir, "f"), 1);
}

/* ---- errors ---- */

static int fails_with; /* what INVAL_INODE gets from the kernel */

static int inode_fails(struct kernel *kernel, const struct note *note)
{
	(void)kernel;
	return note->code == FUSE_NOTIFY_INVAL_INODE ? fails_with : 0;
}

/*
 * The kernel has no such inode yet: it is told again, after 1 ms, 2, 4 and so on to 32, until it
 * has, or has none of it any more.
 */
static void test_repeated(void **state)
{
	uint64_t ms = 1;

	(void)state;
	k->notified = inode_fails;
	fails_with = ENOENT;
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	for (size_t tries = 1; tries < 10; tries++) {
		assert_int_equal(inodes(file), tries);
		assert_int_equal(count(STAT_inval_retried), tries);
		kernel_later(k, ms * MSEC - 1);
		assert_int_equal(inodes(file), tries);
		kernel_later(k, 1);
		ms = ms < 32 ? ms * 2 : 32;
	}
	assert_int_equal(inodes(file), 10);
	/* news of it is told at once, for both */
	(void)inv(k->w, 50, INV_DATA);
	assert_int_equal(count(STAT_inval_waiting), 1);
	fails_with = 0;
	kernel_notified(k);
	assert_int_equal(inodes(file), 11);
	assert_int_equal(count(STAT_inval_waiting), 0);
	kernel_later(k, SECOND);
	assert_int_equal(inodes(file), 11);
}

static void test_repeated_until_forgotten(void **state)
{
	(void)state;
	k->notified = inode_fails;
	fails_with = ENOENT;
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	kernel_later(k, MSEC);
	assert_int_equal(inodes(file), 2);
	cache_forget(k->w->c, file, 1);
	kernel_later(k, SECOND);
	assert_int_equal(inodes(file), 2);
	assert_int_equal(count(STAT_inval_waiting), 0);
}

/* The kernel forgets it while it is told: that is why it knows none. */
static int forgets(struct kernel *kernel, const struct note *note)
{
	if (note->code != FUSE_NOTIFY_INVAL_INODE)
		return 0;
	cache_forget(kernel->w->c, note->ino, 1);
	return ENOENT;
}

static void test_forgotten_meanwhile(void **state)
{
	(void)state;
	k->notified = forgets;
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	assert_int_equal(inodes(file), 1);
	assert_int_equal(count(STAT_inval_retried), 0);
	assert_int_equal(count(STAT_inval_waiting), 0);
}

/* Any other error says that it cannot be done, and again would be no better. */
static void test_other_errors(void **state)
{
	static const int errors[] = {EBUSY, EIO, ENOTCONN, ENODEV, EINTR, EINVAL};

	(void)state;
	k->notified = inode_fails;
	for (size_t i = 0; i < COUNT(errors); i++) {
		fails_with = errors[i];
		kernel_forget_notes(k);
		(void)inv(k->w, 50, INV_DATA);
		kernel_notified(k);
		kernel_later(k, SECOND);
		assert_int_equal(inodes(file), 1);
		assert_int_equal(count(STAT_inval_waiting), 0);
	}
	assert_int_equal(count(STAT_inval_retried), 0);
}

static int entry_fails(struct kernel *kernel, const struct note *note)
{
	(void)kernel;
	return note->code == FUSE_NOTIFY_INVAL_ENTRY ? fails_with : 0;
}

/* A name that the kernel has not (ENOENT), or that is busy: the listing goes all the same. */
static void test_entry_errors(void **state)
{
	static const int errors[] = {ENOENT, EBUSY, ENOTDIR, EIO};

	(void)state;
	k->notified = entry_fails;
	for (size_t i = 0; i < COUNT(errors); i++) {
		fails_with = errors[i];
		(void)kernel_looks_up(k, dir, "x", 70, FILE_MODE);
		kernel_forget_notes(k);
		(void)inv_name(k->w, 60, "x");
		kernel_notified(k);
		kernel_later(k, SECOND);
		assert_int_equal(entries(dir, "x"), 1);
		assert_int_equal(inodes(dir), 1);
		assert_int_equal(count(STAT_inval_waiting), 0);
	}
}

/* ---- names ---- */

/* The name first, which waits for whoever reads the directory, and then the listing. */
static void test_entry(void **state)
{
	(void)state;
	(void)inv_name(k->w, FAKE_ROOT, "f");
	kernel_notified(k);
	assert_int_equal(k->n_notes, 2);
	assert_int_equal(k->notes[0].code, FUSE_NOTIFY_INVAL_ENTRY);
	assert_string_equal(k->notes[0].name, "f");
	assert_int_equal(k->notes[0].flags, 0); /* a file's name goes */
	assert_int_equal(k->notes[1].code, FUSE_NOTIFY_INVAL_INODE);
	assert_int_equal(k->notes[1].ino, CACHE_ROOT);
	assert_int_equal(k->notes[1].off, 0);
	assert_int_equal(k->notes[1].len, 0);
	/* a directory's stays in the tree, and expires */
	(void)inv_name(k->w, FAKE_ROOT, "d");
	kernel_notified(k);
	assert_int_equal(k->notes[2].flags, KERNEL_NOTE_EXPIRES);
	/* the listing alone: a name that none is */
	kernel_forget_notes(k);
	notify_inval_listing(k->fs->notify, dir);
	kernel_notified(k);
	assert_int_equal(entries(dir, "/"), 1);
	assert_int_equal(inodes(dir), 1);
}

/* What is mounted at a name, or below it, must not go with it. */
static void test_mounted(void **state)
{
	(void)state;
	mounted_below = true;
	(void)inv_name(k->w, FAKE_ROOT, "f");
	kernel_notified(k);
	assert_int_equal(entries(CACHE_ROOT, "f"), 1);
	assert_int_equal(k->notes[0].flags, KERNEL_NOTE_EXPIRES);
}

static const struct kernel_version kernel_6_1 = {"6.1", 37, 0x73fffffb, 0x5};

static int begin_old(void **state)
{
	(void)state;
	return begin_with(&kernel_6_1);
}

/* A kernel that knows nothing of entries that only expire would take the flag for none. */
static void test_old_kernel(void **state)
{
	(void)state;
	(void)inv_name(k->w, FAKE_ROOT, "d");
	kernel_notified(k);
	assert_int_equal(entries(CACHE_ROOT, "d"), 1);
	assert_int_equal(k->notes[0].flags, 0);
	kernel_forget_notes(k);
	mounted_below = true;
	(void)kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("d"));
	host_made(MSG_LOOKUP, 60);
	(void)inv_name(k->w, FAKE_ROOT, "d");
	kernel_notified(k);
	assert_int_equal(entries(CACHE_ROOT, NULL), 0);
	assert_int_equal(inodes(CACHE_ROOT), 1);
}

/* ---- behind a request in the directory ---- */

static void test_parked(void **state)
{
	(void)state;
	struct question *q = looks_up(dir, "slow");
	(void)inv_name(k->w, 60, "x");
	(void)inv(k->w, 50, INV_DATA);
	(void)inv_name(k->w, FAKE_ROOT, "f");
	kernel_notified(k);
	/* it holds up nothing else */
	assert_int_equal(entries(dir, "x"), 0);
	assert_int_equal(inodes(file), 1);
	assert_int_equal(entries(CACHE_ROOT, "f"), 1);
	assert_int_equal(count(STAT_inval_parked), 1);
	(void)inv_name(k->w, 60, "x");
	kernel_notified(k);
	assert_int_equal(count(STAT_inval_waiting), 1);
	host_made(MSG_LOOKUP, 61);
	assert_err(q, 0);
	kernel_notified(k);
	assert_int_equal(entries(dir, "x"), 1);
	assert_int_equal(inodes(dir), 1);
	assert_int_equal(count(STAT_inval_parked), 1);
	assert_int_equal(count(STAT_inval_waiting), 0);
}

/* No longer than 20 ms, though: the host may be slow. */
static void test_parked_for_a_time(void **state)
{
	(void)state;
	struct question *q = looks_up(dir, "slow");
	(void)inv_name(k->w, 60, "x");
	kernel_notified(k);
	kernel_later(k, 20 * MSEC - 1);
	assert_int_equal(entries(dir, "x"), 0);
	kernel_later(k, 1);
	assert_int_equal(entries(dir, "x"), 1);
	assert_false(q->answered);
	host_made(MSG_LOOKUP, 61);
	kernel_notified(k);
	assert_int_equal(entries(dir, "x"), 1);
	assert_int_equal(count(STAT_inval_parked), 1);
}

/* One request ends, another is in flight: it waits on. */
static void test_parked_behind_two(void **state)
{
	(void)state;
	struct question *a = looks_up(dir, "a"), *b = looks_up(dir, "b");
	(void)inv_name(k->w, 60, "x");
	(void)inv_name(k->w, 60, "y");
	kernel_notified(k);
	host_made(MSG_LOOKUP, 61);
	kernel_notified(k);
	assert_err(a, 0);
	assert_int_equal(entries(dir, NULL), 0);
	host_made(MSG_LOOKUP, 62);
	kernel_notified(k);
	assert_err(b, 0);
	assert_int_equal(entries(dir, "x"), 1);
	assert_int_equal(entries(dir, "y"), 1);
}

/* ---- behind a READ or WRITE in the file ---- */

/* Its pages are locked in the kernel until the host answers: no notifier is to wait for them. */
static struct question *reads(uint64_t fh, uint64_t off)
{
	struct fuse_read_in in = {.fh = fh, .offset = off, .size = 4096};

	return kernel_ask(k, FUSE_READ, file, ARG(in));
}

static void host_read(void)
{
	struct msg m = reply_stamp(k->w->seq);
	const struct slice bytes = {"bytes", 5};

	MSG_SET(&m, payload, bytes);
	host_replies(k, MSG_READ, &m);
}

static void host_sizes(void)
{
	while (k->w->f->n_waiting > 0) {
		struct msg m = reply_attr(k->w, k->w->seq, FILE_MODE, 50);

		host_replies(k, MSG_GETATTR, &m);
	}
	kernel_notified(k);
}

static void test_pages_parked(void **state)
{
	(void)state;
	uint64_t fh = kernel_opens(k, file, O_RDWR, 7, 50);
	struct question *a = reads(fh, 4096), *b = reads(fh, 16384);
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	assert_int_equal(drops(file, 0, 4096), 1);
	assert_int_equal(drops(file, 8192, 8192), 1);
	assert_int_equal(drops(file, 20480, 0), 1);
	assert_int_equal(inodes(file), 3);
	assert_int_equal(count(STAT_inval_parked), 1);
	assert_int_equal(count(STAT_inval_waiting), 1);
	/* no longer is no cure: nothing says that the host answers it ever */
	kernel_forget_notes(k);
	kernel_later(k, 3 * SECOND);
	assert_int_equal(drops(file, 4096, 4096) + drops(file, 16384, 4096), 0);
	kernel_forget_notes(k);
	host_read();
	kernel_notified(k);
	assert_err(a, 0);
	assert_int_equal(drops(file, 4096, 12288), 1);
	assert_int_equal(drops(file, 16384, 4096), 0);
	host_read();
	kernel_notified(k);
	assert_err(b, 0);
	assert_int_equal(drops(file, 16384, 4096), 1);
	assert_int_equal(count(STAT_inval_parked), 1);
	host_sizes();
	assert_int_equal(count(STAT_inval_waiting), 0);
}

static void count_it(void *arg)
{
	++*(unsigned *)arg;
}

/* What is to come after it comes after it, parked or not. */
static void test_after_pages(void **state)
{
	(void)state;
	int before = 0, after = 0;
	uint64_t fh = kernel_opens(k, file, O_RDWR, 7, 50);
	struct question *q = reads(fh, 0);
	(void)inv(k->w, 50, INV_DATA);
	kernel_notified(k);
	notify_after(k->fs->notify, dir, count_it, &before);
	notify_after(k->fs->notify, file, count_it, &after);
	notify_after(k->fs->notify, file, count_it, &after);
	/* what is told meanwhile is neither lost in it nor waits in numbers */
	for (int n = 0; n < 10; n++) {
		(void)inv(k->w, 50, INV_DATA);
		kernel_later(k, SECOND);
	}
	assert_int_equal(before, 1);
	assert_int_equal(after, 0);
	assert_int_equal(count(STAT_inval_waiting), 3);
	host_read();
	assert_err(q, 0);
	kernel_notified(k);
	assert_int_equal(drops(file, 0, 4096), 1);
	assert_int_equal(after, 2);
	host_sizes();
}

/* What has left after the news brings what is new: it is left alone, and not waited for. */
static void test_pages_new(void **state)
{
	(void)state;
	uint64_t fh = kernel_opens(k, file, O_RDWR, 7, 50);
	(void)inv(k->w, 50, INV_DATA);
	fake_now++;
	struct question *q = reads(fh, 0);
	kernel_notified(k);
	assert_int_equal(drops(file, -1, 0), 1); /* the attributes are old all the same */
	assert_int_equal(drops(file, 4096, 0), 1);
	assert_int_equal(inodes(file), 2);
	assert_int_equal(count(STAT_inval_parked), 0);
	host_read();
	assert_err(q, 0);
	host_sizes();
	assert_int_equal(drops(file, 0, 0) + drops(file, 0, 4096), 0);
	assert_int_equal(count(STAT_inval_waiting), 0);
}

/* The rest of a page that is being written stays old, whenever the WRITE has left. */
static void test_pages_written(void **state)
{
	(void)state;
	uint64_t fh = kernel_opens(k, file, O_RDWR, 7, 50);
	struct fuse_write_in in = {.fh = fh, .offset = 10, .size = 4, .flags = O_RDWR};
	(void)inv(k->w, 50, INV_DATA);
	fake_now++;
	struct question *q = kernel_ask(k, FUSE_WRITE, file, ARG(in), STRING("byt"));
	kernel_notified(k);
	assert_int_equal(drops(file, 4096, 0), 1);
	assert_int_equal(count(STAT_inval_parked), 1);
	kernel_later(k, 20 * MSEC - 2);
	assert_int_equal(drops(file, 0, 4096), 0);
	/* one WRITE may follow the other */
	kernel_later(k, 2);
	assert_int_equal(drops(file, 0, 4096), 1);
	assert_false(q->answered);
	struct msg reply = reply_attr(k->w, k->w->seq, FILE_MODE, 50);
	host_replies(k, MSG_WRITE, (MSG_SET(&reply, size, 4), MSG_SET(&reply, off, 10), &reply));
	assert_err(q, 0);
	kernel_notified(k);
	host_sizes();
	assert_int_equal(count(STAT_inval_waiting), 0);
}

/* ---- expiry ---- */

/*
 * A task was told that the name is still what it has, and may not have digested that: then it
 * gives the name its time back. So the name expires again until the task has gone on.
 */
static void test_expires_again(void **state)
{
	(void)state;
	struct question *q = looks_up(CACHE_ROOT, "d"); /* of a dentry that had expired */
	assert_err(q, 0);
	(void)inv_name(k->w, FAKE_ROOT, "d");
	kernel_notified(k);
	assert_int_equal(looked_at, 1);
	assert_int_equal(entries(CACHE_ROOT, "d"), 1);
	assert_int_equal(count(STAT_inval_waiting), 1);
	kernel_later(k, MSEC - 1);
	assert_int_equal(entries(CACHE_ROOT, "d"), 1);
	kernel_later(k, 1);
	assert_int_equal(entries(CACHE_ROOT, "d"), 2);
	assert_int_equal(looked_at, 2);
	went_on = true;
	kernel_later(k, 2 * MSEC);
	assert_int_equal(looked_at, 3);
	assert_int_equal(entries(CACHE_ROOT, "d"), 3);
	assert_int_equal(count(STAT_inval_waiting), 0);
	kernel_later(k, SECOND);
	assert_int_equal(entries(CACHE_ROOT, "d"), 3);
}

/* Nor does the name under which it was told: the directory may have another one by now. */
static void test_expires_under_another_name(void **state)
{
	(void)state;
	(void)looks_up(CACHE_ROOT, "d");
	(void)kernel_looks_up(k, dir, "sub", 61, DIR_MODE);
	struct question *q = looks_up(CACHE_ROOT, "d");
	assert_err(q, 0);
	(void)inv_name(k->w, 60, "sub");
	kernel_notified(k);
	assert_int_equal(entries(dir, "sub"), 1);
	assert_int_equal(count(STAT_inval_waiting), 1);
	went_on = true;
	kernel_later(k, MSEC);
	assert_int_equal(entries(dir, "sub"), 2);
	assert_int_equal(count(STAT_inval_waiting), 0);
}

/* Nobody was: once is enough. */
static void test_expires_once(void **state)
{
	(void)state;
	(void)inv_name(k->w, FAKE_ROOT, "d");
	kernel_notified(k);
	kernel_later(k, SECOND);
	assert_int_equal(looked_at, 0);
	assert_int_equal(entries(CACHE_ROOT, "d"), 1);
}

/* News of the name while it expires is told with it, at once. */
static void test_expires_and_news(void **state)
{
	(void)state;
	(void)looks_up(CACHE_ROOT, "d");
	(void)inv_name(k->w, FAKE_ROOT, "d");
	kernel_notified(k);
	notify_inval_entry(k->fs->notify, CACHE_ROOT, "d", 1);
	assert_int_equal(count(STAT_inval_waiting), 1);
	went_on = true;
	kernel_notified(k);
	assert_int_equal(entries(CACHE_ROOT, "d"), 2);
	assert_int_equal(count(STAT_inval_waiting), 0);
}

/* ---- settling ---- */

static void settle(uint32_t task, uint64_t parent, const char *name)
{
	notify_sink.settle(k->fs->notify, file, 1, task, parent, name, strlen(name));
}

/* By the lock of the directory, or that of the name's object, none of which is taken away. */
static void test_settles_by_lock(void **state)
{
	(void)state;
	settle(0, dir, "");
	kernel_notified(k);
	assert_int_equal(k->n_notes, 1);
	assert_int_equal(entries(dir, "/"), 1);
	settle(0, dir, "x");
	kernel_notified(k);
	assert_int_equal(k->n_notes, 2);
	assert_int_equal(kernel_noted(k, FUSE_NOTIFY_DELETE, dir, "x"), 1);
	assert_true(k->notes[1].child == UINT64_MAX);
	/* where something is mounted below, that would go */
	mounted_below = true;
	settle(0, dir, "y");
	kernel_notified(k);
	assert_int_equal(k->n_notes, 2);
	assert_int_equal(count(STAT_inval_waiting), 0);
}

/* By the task, where there is no lock, and besides one. */
static void test_settles_by_task(void **state)
{
	(void)state;
	settle(PID, file, "");
	kernel_notified(k);
	assert_int_equal(k->n_notes, 0);
	assert_int_equal(looked_at, 1);
	kernel_later(k, MSEC);
	assert_int_equal(looked_at, 2);
	went_on = true;
	kernel_later(k, 2 * MSEC);
	assert_int_equal(count(STAT_inval_waiting), 0);
	went_on = false;
	settle(PID, dir, "x");
	kernel_notified(k);
	kernel_later(k, MSEC);
	kernel_later(k, 2 * MSEC);
	assert_int_equal(kernel_noted(k, FUSE_NOTIFY_DELETE, dir, "x"), 1); /* the lock, once */
	assert_int_equal(count(STAT_inval_waiting), 1);
	/* and not for ever: a task of which nothing is to be known */
	for (unsigned i = 0; i < 1000 && count(STAT_inval_waiting) > 0; i++)
		kernel_later(k, 32 * MSEC);
	assert_int_equal(count(STAT_inval_waiting), 0);
	assert_in_range(looked_at, 300, 310);
}

/* ---- the queue ---- */

static void test_full(void **state)
{
	struct notify *n = k->fs->notify;
	char name[16];

	(void)state;
	for (int i = 0; i < 4096; i++) {
		assert_false(notify_sink.full(n));
		(void)snprintf(name, sizeof(name), "n%d", i);
		notify_inval_entry(n, dir, name, strlen(name));
	}
	assert_true(notify_sink.full(n));
	kernel_notified(k);
	assert_false(notify_sink.full(n));
	assert_int_equal(entries(dir, NULL), 4096);
}

/* What waits for what is queued for an inode, and for that only. */
static void test_after(void **state)
{
	struct notify *n = k->fs->notify;
	unsigned after = 0, other = 0;

	(void)state;
	k->notified = inode_fails;
	fails_with = ENOENT;
	notify_inval_first(n, file, 4096, 8192, count_it, &after);
	kernel_notified(k);
	assert_int_equal(after, 0);
	notify_after(n, dir, count_it, &other);
	kernel_notified(k);
	assert_int_equal(other, 1);
	fails_with = 0;
	kernel_later(k, MSEC);
	assert_int_equal(after, 1);
	assert_int_equal(k->notes[0].off, 4096);
	assert_int_equal(k->notes[0].len, 8192);
	assert_int_equal(inodes(file), 2);
}

/* Attributes at once, whatever is queued. */
static void test_outdate(void **state)
{
	(void)state;
	notify_inval_range(k->fs->notify, file, 0, 0);
	notify_outdate(k->fs->notify, file);
	assert_int_equal(k->n_notes, 1);
	assert_int_equal(k->notes[0].off, -1);
	kernel_notified(k);
	assert_int_equal(k->n_notes, 2);
}

/* The end: nobody is told any more, and whoever waited goes on. */
static void test_ends_with_work(void **state)
{
	static unsigned after, fenced;
	static struct notify_fence f;

	(void)state;
	after = fenced = 0;
	f = (struct notify_fence){.done = count_it, .arg = &fenced};
	struct question *q = looks_up(dir, "slow");
	(void)inv_name(k->w, 60, "x");
	kernel_notified(k); /* parked */
	(void)inv(k->w, 50, INV_DATA);
	notify_after(k->fs->notify, file, count_it, &after);
	notify_fence(k->fs->notify, &f);
	host_made(MSG_LOOKUP, 61);
	assert_err(q, 0);
	size_t n = k->n_notes;
	struct world *w = k->w;
	cache_set_sink(w->c, NULL, NULL);
	notify_free(TAKE_PTR(k->fs->notify));
	assert_int_equal(k->n_notes, n);
	assert_int_equal(after, 1);
	assert_int_equal(fenced, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_inode),
	    TEST(test_merged),
	    TEST(test_repeated),
	    TEST(test_repeated_until_forgotten),
	    TEST(test_forgotten_meanwhile),
	    TEST(test_other_errors),
	    TEST(test_entry_errors),
	    TEST(test_entry),
	    TEST(test_mounted),
	    cmocka_unit_test_setup_teardown(test_old_kernel, begin_old, end),
	    TEST(test_parked),
	    TEST(test_parked_for_a_time),
	    TEST(test_parked_behind_two),
	    TEST(test_pages_parked),
	    TEST(test_after_pages),
	    TEST(test_pages_new),
	    TEST(test_pages_written),
	    TEST(test_expires_again),
	    TEST(test_expires_under_another_name),
	    TEST(test_expires_once),
	    TEST(test_expires_and_news),
	    TEST(test_settles_by_lock),
	    TEST(test_settles_by_task),
	    TEST(test_full),
	    TEST(test_after),
	    TEST(test_outdate),
	    TEST(test_ends_with_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
