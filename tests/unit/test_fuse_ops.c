/*
 * The operations: for each line of fuse_ops.def what a request of the kernel asks of the host,
 * and what the kernel is answered. A test for every line is there, or this does not compile;
 * that it asks the kernel's request is counted.
 */
#include "fuse_kernel.h"

#include <sys/file.h>
#include <sys/stat.h>

#define FILE_MODE (S_IFREG | 0644)
#define DIR_MODE  (S_IFDIR | 0755)
#define FH	  77 /* the server's */

#define FUSE_OP(opcode, name) static void op_##name(struct kernel *k);
#include "core/fuse_ops.def"
#undef FUSE_OP

static uint64_t a_file(struct kernel *k)
{
	return kernel_looks_up(k, CACHE_ROOT, "f", 50, FILE_MODE);
}

static uint64_t a_dir(struct kernel *k)
{
	return kernel_looks_up(k, CACHE_ROOT, "d", 60, DIR_MODE);
}

static uint64_t opened_file(struct kernel *k, uint64_t *ret_ino)
{
	*ret_ino = a_file(k);
	return kernel_opens(k, *ret_ino, O_RDWR, FH, 50);
}

static void assert_name(struct slice s, const char *name)
{
	unit_assert_slice(s, name);
}

/* What the host says that has nothing to tell. */
static struct msg done(struct kernel *k)
{
	return reply_stamp(k->w->seq);
}

static struct msg made(struct kernel *k, uint64_t node, uint32_t mode)
{
	return reply_node(k->w, k->w->seq, node, mode, node);
}

/* An entry that was made: it leads to a new node with these attributes. */
static void assert_entry(const struct question *q, uint32_t mode, uint64_t node)
{
	const struct fuse_entry_out *e = ANSWER(q, struct fuse_entry_out);

	assert_true(e->nodeid > CACHE_ROOT);
	assert_int_equal(e->attr.mode, mode);
	assert_int_equal(e->attr.size, node);
	assert_int_equal(e->attr.ino, 5000 + node);
	assert_int_equal(e->attr.rdev, 8 << 8 | 17);
}

/* ---- names ---- */

static void op_LOOKUP(struct kernel *k)
{
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f"));
	const struct msg *m = host_asked(k, MSG_LOOKUP);

	assert_int_equal(m->node, FAKE_ROOT);
	assert_name(m->name, "f");
	assert_false(q->answered);
	host_says(k, MSG_LOOKUP, made(k, 50, FILE_MODE));
	assert_entry(q, FILE_MODE, 50);
	const struct fuse_entry_out *e = ANSWER(q, struct fuse_entry_out);
	assert_int_equal(e->attr_valid, ATTR_CAP / SECOND);
	assert_int_equal(e->entry_valid, ENTRY_CAP / SECOND);

	/* the same name again is answered without the host, with the same number */
	struct question *again = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f"));
	assert_int_equal(ANSWER(again, struct fuse_entry_out)->nodeid, e->nodeid);

	q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("none"));
	host_says(k, MSG_LOOKUP, reply_err(k->w->seq, ENOENT));
	assert_int_equal(ANSWER(q, struct fuse_entry_out)->nodeid, 0);
	assert_int_equal(ANSWER(q, struct fuse_entry_out)->entry_valid, NEG_CAP / SECOND);

	q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("other"));
	host_says(k, MSG_LOOKUP, reply_err(k->w->seq, EACCES));
	assert_err(q, EACCES);
	assert_err(kernel_ask(k, FUSE_LOOKUP, 999999, STRING("f")), ESTALE);

	char name[MSG_NAME_MAX + 2];
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_err(kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING(name)), ENAMETOOLONG);
	assert_int_equal(k->w->f->n_waiting, 0);
}

static void op_FORGET(struct kernel *k)
{
	uint64_t ino = a_file(k);
	struct fuse_forget_in in = {.nlookup = 1};

	(void)kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f"));
	struct question *q = kernel_ask(k, FUSE_FORGET, ino, ARG(in));
	assert_false(q->answered);
	assert_true(cache_kernel_knows(k->w->c, ino));
	(void)kernel_ask(k, FUSE_FORGET, ino, ARG(in));
	assert_false(cache_kernel_knows(k->w->c, ino));
	/* more than there are, and of one that never was */
	in.nlookup = 1000;
	(void)kernel_ask(k, FUSE_FORGET, ino, ARG(in));
	(void)kernel_ask(k, FUSE_FORGET, 999999, ARG(in));
}

static void op_BATCH_FORGET(struct kernel *k)
{
	uint64_t a = a_file(k), b = a_dir(k), c = kernel_looks_up(k, CACHE_ROOT, "c", 70, FILE_MODE);
	struct fuse_batch_forget_in in = {.count = 3};
	struct fuse_forget_one one[] = {{a, 1}, {999999, 1}, {b, 1}};
	struct question *q = kernel_ask(k, FUSE_BATCH_FORGET, 0, ARG(in), ARG(one));

	assert_false(q->answered);
	assert_false(cache_kernel_knows(k->w->c, a));
	assert_false(cache_kernel_knows(k->w->c, b));
	assert_true(cache_kernel_knows(k->w->c, c));
	in.count = 0;
	(void)kernel_ask(k, FUSE_BATCH_FORGET, 0, ARG(in));
}

static void op_GETATTR(struct kernel *k)
{
	uint64_t ino = a_file(k);
	struct fuse_getattr_in in = {0};
	struct question *q = kernel_ask(k, FUSE_GETATTR, ino, ARG(in));

	/* the cache has them */
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.size, 50);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr_valid, ATTR_CAP / SECOND);
	fake_now += ATTR_CAP;
	q = kernel_ask(k, FUSE_GETATTR, ino, ARG(in));
	assert_int_equal(host_asked(k, MSG_GETATTR)->node, 50);
	host_says(k, MSG_GETATTR, reply_attr(k->w, k->w->seq, FILE_MODE, 50));
	kernel_notified(k);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.mode, FILE_MODE);
	fake_now += ATTR_CAP;
	q = kernel_ask(k, FUSE_GETATTR, ino, ARG(in));
	host_says(k, MSG_GETATTR, reply_err(k->w->seq, ESTALE));
	assert_err(q, ESTALE);
}

static void op_SETATTR(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_setattr_in in = {.valid = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE |
					      FATTR_FH | FATTR_ATIME | FATTR_MTIME | FATTR_MTIME_NOW,
				     .fh = fh,
				     .size = 123,
				     .atime = 7,
				     .atimensec = 8,
				     .mode = S_IFREG | 0600,
				     .uid = 11,
				     .gid = 12};
	struct question *q = kernel_ask(k, FUSE_SETATTR, ino, ARG(in));
	const struct msg *m = host_asked(k, MSG_SETATTR);

	assert_int_equal(m->node, 50);
	assert_int_equal(m->valid,
			 SET_MODE | SET_UID | SET_GID | SET_SIZE | SET_ATIME | SET_MTIME_NOW);
	assert_int_equal(m->mode, 0600);
	assert_int_equal(m->uid, 11);
	assert_int_equal(m->gid, 12);
	assert_int_equal(m->size, 123);
	assert_int_equal(m->fh, FH);
	assert_int_equal(m->atime.sec, 7);
	assert_int_equal(m->atime.nsec, 8);
	assert_false(MSG_HAS(m, mtime));
	assert_int_equal(m->flags, STRIP_IDS); /* the caller is not root */
	host_says(k, MSG_SETATTR, reply_attr(k->w, k->w->seq, S_IFREG | 0600, 123));
	kernel_notified(k);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.size, 123);
	in.valid = FATTR_MODE;
	q = kernel_ask(k, FUSE_SETATTR, ino, ARG(in));
	assert_false(MSG_HAS(host_asked(k, MSG_SETATTR), fh));
	host_says(k, MSG_SETATTR, reply_err(NO_STAMP, EPERM));
	assert_err(q, EPERM);
}

static void op_READLINK(struct kernel *k)
{
	uint64_t ino = kernel_looks_up(k, CACHE_ROOT, "l", 80, S_IFLNK | 0777);
	struct question *q = kernel_ask_bare(k, FUSE_READLINK, ino);
	struct msg m = done(k);

	assert_int_equal(host_asked(k, MSG_READLINK)->node, 80);
	MSG_SET(&m, payload, SLICE("to/there"));
	host_says(k, MSG_READLINK, m);
	unit_assert_slice((struct slice){answer_of(q, 8), q->len}, "to/there");
}

static void op_SYMLINK(struct kernel *k)
{
	struct question *q =
	    kernel_ask(k, FUSE_SYMLINK, CACHE_ROOT, STRING("l"), STRING("to/there"));
	const struct msg *m = host_asked(k, MSG_SYMLINK);

	assert_name(m->name, "l");
	assert_name(m->payload, "to/there");
	assert_int_equal(m->uid, 1000);
	assert_int_equal(m->gid, 1000);
	host_says(k, MSG_SYMLINK, made(k, 80, S_IFLNK | 0777));
	assert_entry(q, S_IFLNK | 0777, 80);
}

static void op_MKNOD(struct kernel *k)
{
	struct fuse_mknod_in in = {.mode = S_IFCHR | 0666, .rdev = 5 << 8 | 6, .umask = 022};
	struct question *q = kernel_ask(k, FUSE_MKNOD, CACHE_ROOT, ARG(in), STRING("n"));
	const struct msg *m = host_asked(k, MSG_MKNOD);

	assert_name(m->name, "n");
	assert_int_equal(m->mode, S_IFCHR | 0666);
	assert_true(m->rdev == (UINT64_C(5) << 32 | 6));
	assert_int_equal(m->umask, 022);
	assert_int_equal(m->uid, 1000);
	host_says(k, MSG_MKNOD, made(k, 81, S_IFCHR | 0644));
	assert_entry(q, S_IFCHR | 0644, 81);
}

static void op_MKDIR(struct kernel *k)
{
	struct fuse_mkdir_in in = {.mode = 01777, .umask = 077};
	struct question *q = kernel_ask(k, FUSE_MKDIR, CACHE_ROOT, ARG(in), STRING("d"));
	const struct msg *m = host_asked(k, MSG_MKNOD);

	assert_name(m->name, "d");
	assert_int_equal(m->mode, S_IFDIR | 01777);
	assert_int_equal(m->umask, 077);
	host_says(k, MSG_MKNOD, made(k, 82, DIR_MODE));
	assert_entry(q, DIR_MODE, 82);
	q = kernel_ask(k, FUSE_MKDIR, CACHE_ROOT, ARG(in), STRING("e"));
	host_says(k, MSG_MKNOD, reply_err(NO_STAMP, EEXIST));
	assert_err(q, EEXIST);
}

static void removes(struct kernel *k, uint32_t opcode, enum msg_op op)
{
	struct question *q = kernel_ask(k, opcode, CACHE_ROOT, STRING("x"));
	const struct msg *m = host_asked(k, op);

	assert_int_equal(m->node, FAKE_ROOT);
	assert_name(m->name, "x");
	host_says(k, op, done(k));
	assert_err(q, 0);
	assert_int_equal(q->len, 0);
	q = kernel_ask(k, opcode, CACHE_ROOT, STRING("y"));
	host_says(k, op, reply_err(NO_STAMP, EBUSY));
	assert_err(q, EBUSY);
}

static void op_UNLINK(struct kernel *k)
{
	removes(k, FUSE_UNLINK, MSG_UNLINK);
}

static void op_RMDIR(struct kernel *k)
{
	removes(k, FUSE_RMDIR, MSG_RMDIR);
}

static void assert_renames(const struct msg *m)
{
	assert_int_equal(m->node, FAKE_ROOT);
	assert_name(m->name, "from");
	assert_int_equal(m->node2, 60);
	assert_name(m->name2, "to");
}

static void op_RENAME(struct kernel *k)
{
	struct fuse_rename_in in = {.newdir = a_dir(k)};
	struct question *q =
	    kernel_ask(k, FUSE_RENAME, CACHE_ROOT, ARG(in), STRING("from"), STRING("to"));

	assert_renames(host_asked(k, MSG_RENAME));
	assert_false(MSG_HAS(host_asked(k, MSG_RENAME), flags));
	host_says(k, MSG_RENAME, done(k));
	kernel_notified(k);
	assert_err(q, 0);
}

static void op_RENAME2(struct kernel *k)
{
	struct fuse_rename2_in in = {.newdir = a_dir(k), .flags = 2};
	struct question *q =
	    kernel_ask(k, FUSE_RENAME2, CACHE_ROOT, ARG(in), STRING("from"), STRING("to"));

	assert_renames(host_asked(k, MSG_RENAME));
	assert_int_equal(host_asked(k, MSG_RENAME)->flags, 2);
	host_says(k, MSG_RENAME, reply_err(NO_STAMP, EINVAL));
	assert_err(q, EINVAL);
}

static void op_LINK(struct kernel *k)
{
	uint64_t dir = a_dir(k);
	struct fuse_link_in in = {.oldnodeid = a_file(k)};
	struct question *q = kernel_ask(k, FUSE_LINK, dir, ARG(in), STRING("again"));
	const struct msg *m = host_asked(k, MSG_LINK);

	assert_int_equal(m->node, 50);
	assert_int_equal(m->node2, 60);
	assert_name(m->name2, "again");
	host_says(k, MSG_LINK, made(k, 50, FILE_MODE));
	kernel_notified(k);
	assert_int_equal(ANSWER(q, struct fuse_entry_out)->nodeid, in.oldnodeid);
}

static void op_STATFS(struct kernel *k)
{
	struct question *q = kernel_ask_bare(k, FUSE_STATFS, CACHE_ROOT);
	struct msg m = done(k);

	assert_int_equal(host_asked(k, MSG_STATFS)->node, FAKE_ROOT);
	MSG_SET(&m, fs, ((struct fsinfo){4096, 512, 100, 90, 80, 70, 60, 255}));
	host_says(k, MSG_STATFS, m);
	const struct fuse_kstatfs *s = &ANSWER(q, struct fuse_statfs_out)->st;
	assert_int_equal(s->bsize, 4096);
	assert_int_equal(s->frsize, 512);
	assert_int_equal(s->blocks, 100);
	assert_int_equal(s->bfree, 90);
	assert_int_equal(s->bavail, 80);
	assert_int_equal(s->files, 70);
	assert_int_equal(s->ffree, 60);
	assert_int_equal(s->namelen, 255);
}

/* ---- open files ---- */

static void op_OPEN(struct kernel *k)
{
	uint64_t ino = a_file(k);
	struct fuse_open_in in = {.flags = O_WRONLY | O_APPEND};
	struct question *q = kernel_ask(k, FUSE_OPEN, ino, ARG(in));
	struct msg m = reply_attr(k->w, k->w->seq, FILE_MODE, 50);

	assert_int_equal(host_asked(k, MSG_OPEN)->node, 50);
	assert_int_equal(host_asked(k, MSG_OPEN)->flags, O_WRONLY | O_APPEND);
	MSG_SET(&m, fh, FH);
	host_says(k, MSG_OPEN, m);
	const struct fuse_open_out *o = ANSWER(q, struct fuse_open_out);
	assert_true(o->fh != 0);
	/* appends go past the kernel's cache, and its FLUSH is wanted */
	assert_int_equal(o->open_flags & (FOPEN_DIRECT_IO | FOPEN_NOFLUSH), FOPEN_DIRECT_IO);
	in.flags = O_RDWR;
	q = kernel_ask(k, FUSE_OPEN, ino, ARG(in));
	host_says(k, MSG_OPEN, m);
	assert_int_equal(ANSWER(q, struct fuse_open_out)->open_flags & FOPEN_DIRECT_IO, 0);
	q = kernel_ask(k, FUSE_OPEN, ino, ARG(in));
	host_says(k, MSG_OPEN, reply_err(NO_STAMP, EMFILE));
	assert_err(q, EMFILE);
}

static void op_CREATE(struct kernel *k)
{
	struct fuse_create_in in = {.flags = O_RDWR | O_EXCL, .mode = S_IFREG | 0666, .umask = 027};
	struct question *q = kernel_ask(k, FUSE_CREATE, CACHE_ROOT, ARG(in), STRING("new"));
	const struct msg *m = host_asked(k, MSG_CREATE);
	struct msg reply = made(k, 83, FILE_MODE);

	assert_name(m->name, "new");
	assert_int_equal(m->flags, O_RDWR | O_EXCL);
	assert_int_equal(m->mode, 0666);
	assert_int_equal(m->umask, 027);
	assert_int_equal(m->uid, 1000);
	MSG_SET(&reply, fh, FH);
	host_says(k, MSG_CREATE, reply);
	assert_entry(q, FILE_MODE, 83);
	assert_int_equal(q->len, sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out));
	q = kernel_ask(k, FUSE_CREATE, CACHE_ROOT, ARG(in), STRING("new"));
	host_says(k, MSG_CREATE, reply_err(NO_STAMP, EEXIST));
	assert_err(q, EEXIST);
}

static void op_TMPFILE(struct kernel *k)
{
	struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
	struct question *q = kernel_ask(k, KERNEL_TMPFILE, CACHE_ROOT, ARG(in), STRING("/"));
	struct msg reply = made(k, 84, S_IFREG | 0600);

	assert_int_equal(host_asked(k, MSG_CREATE)->flags & O_TMPFILE, O_TMPFILE);
	MSG_SET(&reply, fh, FH);
	host_says(k, MSG_CREATE, reply);
	assert_entry(q, S_IFREG | 0600, 84);
	/* the next CREATE is none */
	q = kernel_ask(k, FUSE_CREATE, CACHE_ROOT, ARG(in), STRING("new"));
	assert_int_equal(host_asked(k, MSG_CREATE)->flags, O_RDWR);
	host_says(k, MSG_CREATE, reply_err(NO_STAMP, EIO));
	assert_err(q, EIO);
}

static void op_READ(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_read_in in = {.fh = fh, .offset = 8192, .size = 4096};
	struct question *q = kernel_ask(k, FUSE_READ, ino, ARG(in));
	const struct msg *m = host_asked(k, MSG_READ);
	struct msg reply = done(k);

	assert_int_equal(m->fh, FH);
	assert_int_equal(m->off, 8192);
	assert_int_equal(m->size, 4096);
	MSG_SET(&reply, payload, SLICE("bytes"));
	host_says(k, MSG_READ, reply);
	unit_assert_slice((struct slice){answer_of(q, 5), q->len}, "bytes");
	in.offset = 0;
	q = kernel_ask(k, FUSE_READ, ino, ARG(in));
	host_says(k, MSG_READ, reply_err(NO_STAMP, EIO));
	assert_err(q, EIO);
}

static void host_wrote(struct kernel *k, uint64_t off, uint64_t size)
{
	struct msg reply = done(k);

	host_replies(k, MSG_WRITE, (MSG_SET(&reply, size, size), MSG_SET(&reply, off, off), &reply));
}

/* The rest of "short" that the host has not written, from `from` on. */
static void assert_rest(struct kernel *k, uint64_t from)
{
	const struct msg *m = host_asked(k, MSG_WRITE);

	assert_int_equal(m->fh, FH);
	assert_int_equal(m->off, 10 + from);
	assert_int_equal(m->payload.len, 6 - from);
	assert_memory_equal(m->payload.data, "short" + from, 6 - from);
}

/*
 * A program hears how much was written. Of pages that the kernel writes back nobody would: the host
 * is asked for the rest, and says why not.
 */
static void short_writes(struct kernel *k, uint64_t ino, const struct fuse_write_in *like)
{
	struct fuse_write_in in = *like;
	struct question *q;

	in.size = 6;
	q = kernel_ask(k, FUSE_WRITE, ino, ARG(in), STRING("short"));
	host_wrote(k, 10, 4);
	assert_int_equal(ANSWER(q, struct fuse_write_out)->size, 4);

	in.write_flags = FUSE_WRITE_CACHE;
	q = kernel_ask(k, FUSE_WRITE, ino, ARG(in), STRING("short"));
	host_wrote(k, 10, 1);
	assert_rest(k, 1);
	host_wrote(k, 11, 3);
	assert_rest(k, 4);
	host_wrote(k, 14, 2);
	assert_int_equal(ANSWER(q, struct fuse_write_out)->size, 6);

	q = kernel_ask(k, FUSE_WRITE, ino, ARG(in), STRING("short"));
	host_wrote(k, 10, 4);
	assert_rest(k, 4);
	host_says(k, MSG_WRITE, reply_err(NO_STAMP, ENOSPC));
	assert_err(q, ENOSPC);

	/* one who says neither, for ever */
	q = kernel_ask(k, FUSE_WRITE, ino, ARG(in), STRING("short"));
	host_wrote(k, 10, 0);
	assert_err(q, EIO);
}

static void op_WRITE(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_write_in in = {.fh = fh, .offset = 10, .size = 5, .flags = O_RDWR};
	struct question *q = kernel_ask(k, FUSE_WRITE, ino, ARG(in), STRING("byte"));
	struct msg reply = done(k);

	assert_int_equal(host_asked(k, MSG_WRITE)->fh, FH);
	assert_int_equal(host_asked(k, MSG_WRITE)->off, 10);
	assert_true(host_asked(k, MSG_WRITE)->flags == (O_RDWR | STRIP_IDS));
	/* it lies in the receive buffer, which the next request does not get */
	assert_null(k->buf.mem);
	struct question *other = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("overwritten"));
	host_replies(k, MSG_WRITE, (MSG_SET(&reply, size, 5), MSG_SET(&reply, off, 10), &reply));
	assert_int_equal(ANSWER(q, struct fuse_write_out)->size, 5);
	host_says(k, MSG_LOOKUP, reply_err(k->w->seq, EACCES));
	assert_err(other, EACCES);
	q = kernel_ask(k, FUSE_WRITE, ino, ARG(in), STRING("more"));
	assert_int_equal(host_asked(k, MSG_WRITE)->payload.len, 5);
	assert_memory_equal(host_asked(k, MSG_WRITE)->payload.data, "more", 5);
	host_says(k, MSG_WRITE, reply_err(NO_STAMP, ENOSPC));
	assert_err(q, ENOSPC);
	short_writes(k, ino, &in);
	/* root keeps the set-id bits, unless the kernel has seen that he has to lose them */
	k->uid = 0;
	for (uint32_t kill = 0; kill <= FUSE_WRITE_KILL_SUIDGID; kill += FUSE_WRITE_KILL_SUIDGID) {
		in.write_flags = kill;
		q = kernel_ask(k, FUSE_WRITE, ino, ARG(in), STRING("root"));
		assert_int_equal((host_asked(k, MSG_WRITE)->flags & STRIP_IDS) != 0, kill != 0);
		host_says(k, MSG_WRITE, reply_err(NO_STAMP, ENOSPC));
		assert_err(q, ENOSPC);
	}
}

static void op_FLUSH(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_flush_in in = {.fh = fh, .lock_owner = 5};
	struct fuse_open_in open = {.flags = O_RDWR};
	struct msg reply = reply_attr(k->w, k->w->seq, FILE_MODE, 50);

	/* nothing that the host would have to hear of */
	assert_err(kernel_ask(k, FUSE_FLUSH, ino, ARG(in)), 0);
	struct question *q = kernel_ask(k, FUSE_OPEN, ino, ARG(open));
	MSG_SET(&reply, fh, FH + 1);
	MSG_SET(&reply, flags, OPEN_FLUSH);
	host_says(k, MSG_OPEN, reply);
	in.fh = ANSWER(q, struct fuse_open_out)->fh;
	q = kernel_ask(k, FUSE_FLUSH, ino, ARG(in));
	assert_int_equal(host_asked(k, MSG_FLUSH)->fh, FH + 1);
	assert_true(MSG_HAS(host_asked(k, MSG_FLUSH), owner));
	host_says(k, MSG_FLUSH, reply_err(NO_STAMP, EDQUOT));
	assert_err(q, EDQUOT);
}

static void op_RELEASE(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_release_in in = {.fh = fh, .flags = O_RDWR};

	assert_err(kernel_ask(k, FUSE_RELEASE, ino, ARG(in)), 0);
	assert_int_equal(k->w->f->n_closed, 1);
	assert_int_equal(k->w->f->closed[0], FH);
	assert_null(k->fs->files);
}

static void op_FSYNC(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_fsync_in in = {.fh = fh, .fsync_flags = FUSE_FSYNC_FDATASYNC};
	struct question *q = kernel_ask(k, FUSE_FSYNC, ino, ARG(in));

	assert_int_equal(host_asked(k, MSG_FSYNC)->fh, FH);
	assert_int_equal(host_asked(k, MSG_FSYNC)->flags, 1);
	host_says(k, MSG_FSYNC, done(k));
	assert_err(q, 0);
	in.fsync_flags = 0;
	q = kernel_ask(k, FUSE_FSYNC, ino, ARG(in));
	assert_false(MSG_HAS(host_asked(k, MSG_FSYNC), flags));
	host_says(k, MSG_FSYNC, reply_err(NO_STAMP, EIO));
	assert_err(q, EIO);
}

static void op_FALLOCATE(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_fallocate_in in = {.fh = fh, .offset = 4096, .length = 8192, .mode = 3};
	struct question *q = kernel_ask(k, FUSE_FALLOCATE, ino, ARG(in));
	const struct msg *m = host_asked(k, MSG_FALLOCATE);

	assert_int_equal(m->fh, FH);
	assert_int_equal(m->off, 4096);
	assert_int_equal(m->size, 8192);
	assert_int_equal(m->flags, 3);
	host_says(k, MSG_FALLOCATE, reply_err(NO_STAMP, EOPNOTSUPP));
	assert_err(q, EOPNOTSUPP);
}

static void op_LSEEK(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_lseek_in in = {.fh = fh, .offset = 100, .whence = SEEK_HOLE};
	struct question *q = kernel_ask(k, FUSE_LSEEK, ino, ARG(in));
	struct msg reply = done(k);

	assert_int_equal(host_asked(k, MSG_LSEEK)->off, 100);
	assert_int_equal(host_asked(k, MSG_LSEEK)->flags, SEEK_HOLE);
	MSG_SET(&reply, off, 4096);
	host_says(k, MSG_LSEEK, reply);
	assert_int_equal(ANSWER(q, struct fuse_lseek_out)->offset, 4096);
	q = kernel_ask(k, FUSE_LSEEK, ino, ARG(in));
	host_says(k, MSG_LSEEK, reply_err(NO_STAMP, ENXIO));
	assert_err(q, ENXIO);
}

static void op_COPY_FILE_RANGE(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	uint64_t ino2 = kernel_looks_up(k, CACHE_ROOT, "g", 51, FILE_MODE);
	struct fuse_copy_file_range_in in = {.fh_in = fh,
					     .off_in = 1,
					     .nodeid_out = ino2,
					     .fh_out = kernel_opens(k, ino2, O_RDWR, FH + 1, 51),
					     .off_out = 2,
					     .len = UINT64_C(1) << 40};
	struct question *q = kernel_ask(k, FUSE_COPY_FILE_RANGE, ino, ARG(in));
	const struct msg *m = host_asked(k, MSG_COPY);
	struct msg reply = done(k);

	assert_int_equal(m->fh, FH);
	assert_int_equal(m->off, 1);
	assert_int_equal(m->fh2, FH + 1);
	assert_int_equal(m->off2, 2);
	assert_int_equal(m->size, 1 << 30); /* the reply has 32 bits */
	MSG_SET(&reply, size, 99);
	host_says(k, MSG_COPY, reply);
	kernel_notified(k);
	assert_int_equal(ANSWER(q, struct fuse_write_out)->size, 99);
}

/* ---- directories ---- */

static uint64_t opened_dir(struct kernel *k, uint64_t *ret_ino)
{
	struct fuse_open_in in = {.flags = O_RDONLY | O_DIRECTORY};

	*ret_ino = a_dir(k);
	struct question *q = kernel_ask(k, FUSE_OPENDIR, *ret_ino, ARG(in));
	return ANSWER(q, struct fuse_open_out)->fh;
}

static void op_OPENDIR(struct kernel *k)
{
	uint64_t ino = a_dir(k);
	struct fuse_open_in in = {.flags = O_RDONLY | O_DIRECTORY};
	struct question *q = kernel_ask(k, FUSE_OPENDIR, ino, ARG(in));

	/* no word to the host; the kernel keeps the listing */
	assert_int_equal(k->w->f->n_waiting, 0);
	assert_int_equal(ANSWER(q, struct fuse_open_out)->open_flags,
			 FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE);
	struct fuse_release_in rel = {.fh = ANSWER(q, struct fuse_open_out)->fh};
	assert_err(kernel_ask(k, FUSE_RELEASEDIR, ino, ARG(rel)), 0);
}

static void close_dir(struct kernel *k, uint64_t ino, uint64_t fh)
{
	struct fuse_release_in in = {.fh = fh};

	assert_err(kernel_ask(k, FUSE_RELEASEDIR, ino, ARG(in)), 0);
}

static void op_RELEASEDIR(struct kernel *k)
{
	uint64_t ino, fh = opened_dir(k, &ino);

	close_dir(k, ino, fh);
	assert_int_equal(k->w->f->n_waiting, 0);
}

/* Two entries: a file with attributes, and one of which there are none. */
static struct msg listing_of_two(struct kernel *k, unsigned char *buf, size_t cap)
{
	struct dir_entry with = {.name = SLICE("one"),
				 .off = 11,
				 .type = S_IFREG >> 12,
				 .ino = 5090,
				 .node = 90,
				 .attr = attr_now(k->w, FILE_MODE, 90)};
	struct dir_entry without = {.name = SLICE("second"), .off = 22, .type = 4, .ino = 5091};
	size_t n = codec_put_entry(&with, buf, cap);
	struct msg m = reply_stamp(k->w->seq);

	n += codec_put_entry(&without, buf + n, cap - n);
	MSG_SET(&m, flags, READDIR_END);
	MSG_SET(&m, payload, ((struct slice){buf, n}));
	return m;
}

static void assert_dirent(const unsigned char *at, uint64_t ino, uint64_t off, uint32_t type,
			  const char *name)
{
	struct fuse_dirent d;

	memcpy(&d, at, FUSE_NAME_OFFSET);
	assert_int_equal(d.ino, ino);
	assert_int_equal(d.off, off);
	assert_int_equal(d.type, type);
	assert_name((struct slice){at + FUSE_NAME_OFFSET, d.namelen}, name);
}

static void op_READDIR(struct kernel *k)
{
	uint64_t ino, fh = opened_dir(k, &ino);
	struct fuse_read_in in = {.fh = fh, .size = 4096};
	struct question *q = kernel_ask(k, FUSE_READDIR, ino, ARG(in));
	unsigned char buf[512];

	assert_int_equal(host_asked(k, MSG_READDIRPLUS)->node, 60);
	assert_int_equal(host_asked(k, MSG_READDIRPLUS)->off, 0);
	host_says(k, MSG_READDIRPLUS, listing_of_two(k, buf, sizeof(buf)));
	const unsigned char *out = answer_of(q, 2 * FUSE_NAME_OFFSET);
	size_t first = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + 3);
	assert_dirent(out, 5090, 11, S_IFREG >> 12, "one");
	assert_dirent(out + first, 5091, 22, 4, "second");
	/* and then there is no more: that is no question for the host */
	in.offset = 22;
	q = kernel_ask(k, FUSE_READDIR, ino, ARG(in));
	assert_err(q, 0);
	assert_int_equal(q->len, 0);
	close_dir(k, ino, fh);
}

static void op_READDIRPLUS(struct kernel *k)
{
	uint64_t ino, fh = opened_dir(k, &ino);
	struct fuse_read_in in = {.fh = fh, .size = 4096};
	struct question *q = kernel_ask(k, FUSE_READDIRPLUS, ino, ARG(in));
	unsigned char buf[512];
	struct fuse_entry_out e;

	host_says(k, MSG_READDIRPLUS, listing_of_two(k, buf, sizeof(buf)));
	const unsigned char *out = answer_of(q, 2 * sizeof(e));
	size_t first = FUSE_DIRENT_ALIGN(sizeof(e) + FUSE_NAME_OFFSET + 3);
	memcpy(&e, out, sizeof(e));
	assert_true(e.nodeid > CACHE_ROOT && cache_kernel_knows(k->w->c, e.nodeid));
	assert_int_equal(e.attr.size, 90);
	assert_in_range(e.entry_valid, ENTRY_CAP / SECOND - 1, ENTRY_CAP / SECOND); /* to a tick */
	assert_dirent(out + sizeof(e), 5090, 11, S_IFREG >> 12, "one");
	memcpy(&e, out + first, sizeof(e));
	assert_int_equal(e.nodeid, 0);
	assert_dirent(out + first + sizeof(e), 5091, 22, 4, "second");
	/* where the directory is gone, there is nothing in it; other errors are told */
	fake_now += DIR_CAP;
	q = kernel_ask(k, FUSE_READDIRPLUS, ino, ARG(in));
	host_says(k, MSG_READDIRPLUS, reply_err(k->w->seq, ENOENT));
	assert_err(q, 0);
	assert_int_equal(q->len, 0);
	q = kernel_ask(k, FUSE_READDIRPLUS, ino, ARG(in));
	host_says(k, MSG_READDIRPLUS, reply_err(k->w->seq, EACCES));
	assert_err(q, EACCES);
	close_dir(k, ino, fh);
}

static void op_FSYNCDIR(struct kernel *k)
{
	uint64_t ino, fh = opened_dir(k, &ino);
	struct fuse_fsync_in in = {.fh = fh};
	struct question *q = kernel_ask(k, FUSE_FSYNCDIR, ino, ARG(in));

	assert_int_equal(host_asked(k, MSG_FSYNC)->node, 60);
	assert_false(MSG_HAS(host_asked(k, MSG_FSYNC), fh));
	host_says(k, MSG_FSYNC, done(k));
	assert_err(q, 0);
	close_dir(k, ino, fh);
}

/* ---- extended attributes ---- */

static void op_SETXATTR(struct kernel *k)
{
	uint64_t ino = a_file(k);
	struct fuse_setxattr_in in = {.size = 3, .flags = 1};
	size_t len =
	    (k->agreed & FUSE_SETXATTR_EXT) != 0 ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE;
	struct question *q = kernel_ask(k, FUSE_SETXATTR, ino, ((struct slice){&in, len}),
					STRING("user.x"), SLICE("val"));
	const struct msg *m = host_asked(k, MSG_SETXATTR);

	assert_name(m->name2, "user.x");
	assert_name(m->payload, "val");
	assert_int_equal(m->flags, 1);
	host_says(k, MSG_SETXATTR, done(k));
	assert_err(q, 0);
	/* of another kind: it goes no further */
	q = kernel_ask(k, FUSE_SETXATTR, ino, ((struct slice){&in, len}), STRING("security.x"),
		       SLICE("val"));
	assert_err(q, EOPNOTSUPP);
}

static void op_GETXATTR(struct kernel *k)
{
	uint64_t ino = a_file(k);
	struct fuse_getxattr_in in = {.size = 64};
	struct question *q = kernel_ask(k, FUSE_GETXATTR, ino, ARG(in), STRING("user.x"));
	struct msg m = done(k);

	assert_name(host_asked(k, MSG_GETXATTR)->name2, "user.x");
	assert_int_equal(host_asked(k, MSG_GETXATTR)->size, 64);
	MSG_SET(&m, size, 3);
	MSG_SET(&m, payload, SLICE("val"));
	host_says(k, MSG_GETXATTR, m);
	unit_assert_slice((struct slice){answer_of(q, 3), q->len}, "val");
	in.size = 0; /* how long is it? */
	q = kernel_ask(k, FUSE_GETXATTR, ino, ARG(in), STRING("user.x"));
	host_says(k, MSG_GETXATTR, m);
	assert_int_equal(ANSWER(q, struct fuse_getxattr_out)->size, 3);
	assert_err(kernel_ask(k, FUSE_GETXATTR, ino, ARG(in), STRING("security.x")), EOPNOTSUPP);
	q = kernel_ask(k, FUSE_GETXATTR, ino, ARG(in), STRING("user.none"));
	host_says(k, MSG_GETXATTR, reply_err(NO_STAMP, ENODATA));
	assert_err(q, ENODATA);
}

static void op_LISTXATTR(struct kernel *k)
{
	uint64_t ino = a_file(k);
	struct fuse_getxattr_in in = {.size = 256};
	struct question *q = kernel_ask(k, FUSE_LISTXATTR, ino, ARG(in));
	static const char names[] = "user.a\0trusted.b\0user.c";
	struct msg m = done(k);

	assert_int_equal(host_asked(k, MSG_LISTXATTR)->size, 256);
	MSG_SET(&m, size, sizeof(names));
	MSG_SET(&m, payload, ((struct slice){names, sizeof(names)}));
	host_says(k, MSG_LISTXATTR, m);
	/* the caller is not root, and so is not shown what is root's */
	assert_int_equal(q->len, sizeof("user.a\0user.c"));
	assert_memory_equal(answer_of(q, 0), "user.a\0user.c", q->len);
	k->uid = 0;
	q = kernel_ask(k, FUSE_LISTXATTR, ino, ARG(in));
	host_says(k, MSG_LISTXATTR, m);
	assert_int_equal(q->len, sizeof(names));
}

static void op_REMOVEXATTR(struct kernel *k)
{
	struct question *q = kernel_ask(k, FUSE_REMOVEXATTR, a_file(k), STRING("user.x"));

	assert_name(host_asked(k, MSG_REMOVEXATTR)->name2, "user.x");
	host_says(k, MSG_REMOVEXATTR, reply_err(NO_STAMP, ENODATA));
	assert_err(q, ENODATA);
}

/* ---- locks ---- */

static struct fuse_lk_in lock_of(uint64_t fh, uint32_t type, uint64_t start, uint64_t end)
{
	return (struct fuse_lk_in){
	    .fh = fh, .owner = 5, .lk = {.start = start, .end = end, .type = type, .pid = 42}};
}

static void op_GETLK(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_lk_in in = lock_of(fh, F_WRLCK, 10, 19);
	struct question *q = kernel_ask(k, FUSE_GETLK, ino, ARG(in));
	const struct msg *m = host_asked(k, MSG_GETLK);
	struct msg reply = done(k);

	assert_int_equal(m->type, LOCK_TYPE_WRITE);
	assert_int_equal(m->off, 10);
	assert_int_equal(m->off2, 19);
	MSG_SET(&reply, type, LOCK_TYPE_READ);
	MSG_SET(&reply, off, 12);
	MSG_SET(&reply, off2, 15);
	MSG_SET(&reply, pid, 7);
	host_says(k, MSG_GETLK, reply);
	const struct fuse_file_lock *l = &ANSWER(q, struct fuse_lk_out)->lk;
	assert_int_equal(l->type, F_RDLCK);
	assert_int_equal(l->start, 12);
	assert_int_equal(l->end, 15);
	assert_int_equal(l->pid, 7);
	q = kernel_ask(k, FUSE_GETLK, ino, ARG(in));
	MSG_SET(&reply, type, LOCK_TYPE_NONE);
	host_says(k, MSG_GETLK, reply);
	assert_int_equal(ANSWER(q, struct fuse_lk_out)->lk.type, F_UNLCK);
}

static void op_SETLK(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_lk_in in = lock_of(fh, F_RDLCK, 0, INT64_MAX);
	struct question *q = kernel_ask(k, FUSE_SETLK, ino, ARG(in));
	const struct msg *m = host_asked(k, MSG_SETLK);

	assert_int_equal(m->fh, FH);
	assert_int_equal(m->type, LOCK_TYPE_READ);
	assert_true(m->off2 == INT64_MAX);
	assert_int_equal(m->pid, 42);
	assert_false(MSG_HAS(m, flags));
	host_says(k, MSG_SETLK, reply_err(NO_STAMP, EAGAIN));
	assert_err(q, EAGAIN);
}

static void op_SETLKW(struct kernel *k)
{
	uint64_t ino, fh = opened_file(k, &ino);
	struct fuse_lk_in in = lock_of(fh, F_WRLCK, 0, 9);
	struct question *q = kernel_ask(k, FUSE_SETLKW, ino, ARG(in));

	assert_int_equal(host_asked(k, MSG_SETLK)->flags, LOCK_WAIT);
	host_says(k, MSG_SETLK, done(k));
	assert_err(q, 0);
	in.lk_flags = FUSE_LK_FLOCK;
	q = kernel_ask(k, FUSE_SETLKW, ino, ARG(in));
	assert_int_equal(host_asked(k, MSG_SETLK)->flags, LOCK_WAIT | LOCK_BSD);
	host_says(k, MSG_SETLK, done(k));
	assert_err(q, 0);
	in.lk.type = F_UNLCK; /* never waits */
	q = kernel_ask(k, FUSE_SETLKW, ino, ARG(in));
	assert_int_equal(host_asked(k, MSG_SETLK)->flags, LOCK_BSD);
	host_says(k, MSG_SETLK, done(k));
	assert_err(q, 0);
}

/* ---- the rest ---- */

static void op_INIT(struct kernel *k)
{
	assert_int_equal(kernel_count(k, FUSE_INIT, true), 1); /* test_fuse_init.c has the rest */
}

static void op_INTERRUPT(struct kernel *k)
{
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("slow"));
	struct fuse_interrupt_in in = {.unique = q->unique};
	struct question *i = kernel_ask(k, FUSE_INTERRUPT, 0, ARG(in));

	assert_false(i->answered); /* test_fuse_loop.c has what it leads to */
	assert_false(q->answered);
	host_says(k, MSG_LOOKUP, reply_err(k->w->seq, EACCES));
	assert_err(q, EACCES);
}

static void op_IOCTL(struct kernel *k)
{
	struct fuse_ioctl_in in = {.cmd = VSOCKFS_IOC_FENCE, .out_size = sizeof(uint64_t)};
	struct question *q = kernel_ask(k, FUSE_IOCTL, CACHE_ROOT, ARG(in));
	struct msg m = {0};
	uint64_t seq;

	MSG_SET(&m, seq, 4711);
	host_says(k, MSG_FENCE, m);
	kernel_notified(k);
	assert_int_equal(ANSWER(q, struct fuse_ioctl_out)->result, 0);
	assert_int_equal(q->len, sizeof(struct fuse_ioctl_out) + sizeof(seq));
	memcpy(&seq, q->out + sizeof(struct fuse_ioctl_out), sizeof(seq));
	assert_int_equal(seq, 4711);
	q = kernel_ask(k, FUSE_IOCTL, CACHE_ROOT, ARG(in));
	host_says(k, MSG_FENCE, reply_err(NO_STAMP, ENOTCONN));
	assert_err(q, ENOTCONN);
	in.out_size = 4; /* no room for the number */
	assert_err(kernel_ask(k, FUSE_IOCTL, CACHE_ROOT, ARG(in)), ENOTTY);
	in.out_size = 8;
	in.cmd = 1;
	assert_err(kernel_ask(k, FUSE_IOCTL, CACHE_ROOT, ARG(in)), ENOTTY);
}

static void op_DESTROY(struct kernel *k)
{
	assert_err(kernel_ask_bare(k, FUSE_DESTROY, 0), 0);
}

/* Nobody asked for it. */
static void op_NOTIFY_REPLY(struct kernel *k)
{
	uint64_t in[5] = {0};

	assert_false(kernel_ask(k, FUSE_NOTIFY_REPLY, CACHE_ROOT, ARG(in))->answered);
}

/* What is the kernel's own, which hears ENOSYS and does not ask again. */
static void not_ours(struct kernel *k, uint32_t opcode)
{
	uint64_t in[8] = {0};

	assert_err(kernel_ask(k, opcode, CACHE_ROOT, ARG(in)), ENOSYS);
	assert_int_equal(k->w->f->n_waiting, 0);
}

static void op_ACCESS(struct kernel *k)
{
	not_ours(k, FUSE_ACCESS); /* default_permissions */
}

static void op_BMAP(struct kernel *k)
{
	not_ours(k, FUSE_BMAP);
}

static void op_POLL(struct kernel *k)
{
	not_ours(k, FUSE_POLL);
}

static void op_SYNCFS(struct kernel *k)
{
	not_ours(k, KERNEL_SYNCFS);
}

/* ---- all of them ---- */

struct op {
	uint32_t opcode;
	const char *name;
	void (*run)(struct kernel *k);
};
static const struct op ops[] = {
#define FUSE_OP(opcode, name) {opcode, #name, op_##name},
#include "core/fuse_ops.def"
#undef FUSE_OP
};

static bool may_be_unanswered(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT ||
	       opcode == FUSE_NOTIFY_REPLY;
}

static void test_op(void **state)
{
	const struct op *o = *state;
	struct kernel *k = kernel_mounted(kernel_options());

	o->run(k);
	assert_true(kernel_count(k, o->opcode, !may_be_unanswered(o->opcode)) > 0);
	assert_int_equal(k->w->f->n_waiting, 0);
	assert_null(k->fs->in_flight);
	kernel_unmounted(k);
}

/* The kernel opens without asking; what it asks nevertheless it hears once not to. */
static void test_no_open(void **state)
{
	struct fs_options o = kernel_options();
	struct cache_options c = lease_options();
	struct world *w;

	(void)state;
	o.no_open = c.no_open = true;
	o.host_locks = false;
	w = world_with(c);
	struct kernel *k = kernel_new(w, o);
	assert_err(kernel_init(k, &kernel_6_18), 0);
	uint64_t ino = a_file(k);
	struct fuse_open_in open = {.flags = O_RDWR};
	struct fuse_flush_in flush = {0};
	assert_err(kernel_ask(k, FUSE_OPEN, ino, ARG(open)), ENOSYS);
	assert_err(kernel_ask(k, FUSE_FLUSH, ino, ARG(flush)), ENOSYS);
	struct fuse_create_in create = {.flags = O_RDWR | O_SYNC, .mode = FILE_MODE};
	struct question *q = kernel_ask(k, FUSE_CREATE, CACHE_ROOT, ARG(create), STRING("new"));
	assert_true(host_asked(k, MSG_CREATE)->flags == (O_RDWR | OPEN_GIVE_UP));
	struct msg m = made(k, 83, FILE_MODE);
	MSG_SET(&m, fh, FH);
	host_says(k, MSG_CREATE, m);
	struct fuse_open_out opened;
	memcpy(&opened,
	       (const char *)answer_of(q, sizeof(struct fuse_entry_out) + sizeof(opened)) +
		   sizeof(struct fuse_entry_out),
	       sizeof(opened));
	assert_int_equal(opened.fh, 0);
	assert_int_equal(opened.open_flags & FOPEN_NOFLUSH, FOPEN_NOFLUSH);
	struct fuse_release_in rel = {0};
	assert_err(kernel_ask(k, FUSE_RELEASE, ino, ARG(rel)), 0);
	kernel_unmounted(k);
}

/* locks=local and no xattr: the kernel does it itself, and hears so. */
static void test_left_out(void **state)
{
	struct fs_options o = kernel_options();
	struct fuse_lk_in lk = {0};
	struct fuse_getxattr_in get = {0};

	(void)state;
	o.host_locks = o.xattr = false;
	struct kernel *k = kernel_mounted(o);
	uint64_t ino = a_file(k);
	assert_err(kernel_ask(k, FUSE_SETLK, ino, ARG(lk)), ENOSYS);
	assert_err(kernel_ask(k, FUSE_GETLK, ino, ARG(lk)), ENOSYS);
	assert_err(kernel_ask(k, FUSE_GETXATTR, ino, ARG(get), STRING("user.x")), ENOSYS);
	assert_err(kernel_ask(k, FUSE_LISTXATTR, ino, ARG(get)), ENOSYS);
	kernel_unmounted(k);
}

/* The two-way mapping of uid= and gid=. */
static void test_ids(void **state)
{
	struct fs_options o = kernel_options();
	struct world *w = world_new();

	(void)state;
	o.map_ids = true;
	o.uid = 1000;
	o.gid = 1000;
	o.umask = 022;
	w->f->base.info.server_root = true;
	w->f->base.info.server_uid = w->f->base.info.server_gid = 500;
	struct kernel *k = kernel_new(w, o);
	assert_err(kernel_init(k, &kernel_6_18), 0);
	struct question *q = kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("f"));
	struct msg m = made(k, 50, S_IFREG | 0666);
	m.attr.uid = m.attr.gid = 500;
	host_says(k, MSG_LOOKUP, m);
	const struct fuse_entry_out *e = ANSWER(q, struct fuse_entry_out);
	assert_int_equal(e->attr.uid, 1000);
	assert_int_equal(e->attr.gid, 1000);
	assert_int_equal(e->attr.mode, FILE_MODE);
	struct fuse_setattr_in in = {.valid = FATTR_UID, .uid = 500}; /* nobody has that number */
	assert_err(kernel_ask(k, FUSE_SETATTR, e->nodeid, ARG(in)), EPERM);
	struct fuse_mkdir_in mk = {.mode = 0777};
	q = kernel_ask(k, FUSE_MKDIR, CACHE_ROOT, ARG(mk), STRING("d"));
	assert_int_equal(host_asked(k, MSG_MKNOD)->uid, 500);
	assert_int_equal(host_asked(k, MSG_MKNOD)->mode, DIR_MODE);
	host_says(k, MSG_MKNOD, reply_err(NO_STAMP, EACCES));
	assert_err(q, EACCES);
	kernel_unmounted(k);
}

/* MKDIR: what the host is told of the mode and of the caller. */
static void makes_dir(struct kernel *k, uint32_t mode, uint32_t umask, uint32_t uid)
{
	struct fuse_mkdir_in in = {.mode = 0777, .umask = 022};
	struct question *q = kernel_ask(k, FUSE_MKDIR, CACHE_ROOT, ARG(in), STRING("d"));
	const struct msg *m = host_asked(k, MSG_MKNOD);

	assert_int_equal(m->mode, S_IFDIR | mode);
	assert_int_equal(MSG_HAS(m, umask), umask != 0);
	assert_int_equal(m->umask, umask);
	assert_int_equal(MSG_HAS(m, uid), uid != 0);
	assert_int_equal(m->uid, uid);
	host_says(k, MSG_MKNOD, reply_err(NO_STAMP, EACCES));
	assert_err(q, EACCES);
}

/* GETATTR: which owner the kernel is told. host: asked, and tells so; 0: it is not. */
static void shows_owner(struct kernel *k, uint64_t ino, uint32_t host, uint32_t shown)
{
	struct fuse_getattr_in in = {0};
	struct question *q = kernel_ask(k, FUSE_GETATTR, ino, ARG(in));
	struct msg m = reply_attr(k->w, k->w->seq, S_IFREG | 0755, 50);

	m.attr.uid = m.attr.gid = host;
	if (host != 0)
		host_says(k, MSG_GETATTR, m);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.uid, shown);
	assert_int_equal(ANSWER(q, struct fuse_attr_out)->attr.gid, shown);
}

/* The server goes on as another user with other abilities, and what it is asked follows. */
static void test_server_changes(void **state)
{
	struct fs_options o = kernel_options();
	struct world *w = world_new();
	struct backend_info *server = &w->f->base.info;
	struct fuse_open_in open = {.flags = O_WRONLY};

	(void)state;
	o.map_ids = true;
	o.uid = o.gid = 1000;
	server->server_root = server->umask = server->gives_up = true;
	server->server_uid = server->server_gid = 500;
	struct kernel *k = kernel_new(w, o);
	assert_err(kernel_init(k, &kernel_6_18), 0);
	uint64_t ino = kernel_looks_up(k, CACHE_ROOT, "f", 50, S_IFREG | 0755);
	struct question *q = kernel_ask(k, FUSE_OPEN, ino, ARG(open));
	struct msg m = reply_attr(w, w->seq, S_IFREG | 0755, 50);
	MSG_SET(&m, fh, FH);
	m.attr.uid = m.attr.gid = 500;
	host_says(k, MSG_OPEN, m);
	struct fuse_flush_in flush = {.fh = ANSWER(q, struct fuse_open_out)->fh};

	shows_owner(k, ino, 0, 1000);
	makes_dir(k, 0777, 022, 500);
	q = kernel_ask(k, FUSE_FLUSH, ino, ARG(flush));
	assert_int_equal(host_asked(k, MSG_FLUSH)->flags, FLUSH_GIVE_UP);
	host_says(k, MSG_FLUSH, reply_err(NO_STAMP, 0));
	assert_err(q, 0);

	server->server_root = server->umask = server->gives_up = false;
	server->server_uid = server->server_gid = 600;
	reset(w);
	shows_owner(k, ino, 600, 1000);
	shows_owner(k, ino, 0, 1000);
	makes_dir(k, 0755, 0, 0); /* the kernel leaves the umask to us for good */
	assert_err(kernel_ask(k, FUSE_FLUSH, ino, ARG(flush)), 0);
	assert_int_equal(w->f->n_waiting, 0);

	server->server_root = server->umask = true;
	reset(w);
	shows_owner(k, ino, 500, 500);
	makes_dir(k, 0777, 022, 600);
	kernel_unmounted(k);
}

int main(void)
{
	static const struct CMUnitTest others[] = {
	    cmocka_unit_test(test_no_open),
	    cmocka_unit_test(test_left_out),
	    cmocka_unit_test(test_ids),
	    cmocka_unit_test(test_server_changes),
	};
	struct CMUnitTest tests[COUNT(ops) + COUNT(others)];

	for (size_t i = 0; i < COUNT(ops); i++)
		tests[i] = (struct CMUnitTest){.name = ops[i].name,
					       .test_func = test_op,
					       .initial_state = (void *)(uintptr_t)&ops[i]};
	memcpy(tests + COUNT(ops), others, sizeof(others));
	return cmocka_run_group_tests_name("operations", tests, NULL, NULL);
}
