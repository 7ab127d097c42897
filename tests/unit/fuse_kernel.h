/*
 * A kernel for the tests of src/fuse: it speaks <linux/fuse.h> through a struct channel, over
 * the cache and the backend of cache_lease.h. Nothing here has a thread: kernel_ask hands a
 * request to the loop and sees to it that it has been handled, kernel_notified lets the
 * notifiers do what they can do at the time of fake_now.
 *
 * It checks what fuse_dev_do_write checks: that a reply is whole, and that its request waits.
 */
#pragma once

#include "cache_lease.h"

#include <limits.h>
#include <linux/fuse.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "fuse/fs_priv.h"

/* Of newer kernels' <linux/fuse.h>. */
#define KERNEL_INIT_EXT		 (1u << 30)
#define KERNEL_DIRECT_MMAP	 (1u << (36 - 32))
#define KERNEL_EXPIRE_ONLY	 (1u << (35 - 32)) /* INIT, flags2 */
#define KERNEL_NOTE_EXPIRES	 (1u << 0)	   /* NOTIFY_INVAL_ENTRY */
#define KERNEL_SYNCFS		 50
#define KERNEL_TMPFILE		 51
#define KERNEL_OPCODES		 64
#define KERNEL_OLD_INIT		 16 /* bytes of struct fuse_init_in before 7.36 */

/* What a kernel offers by INIT (fuse_new_init); 6.18's was read off one. */
struct kernel_version {
	const char *name;
	uint32_t minor, flags, flags2;
};
static const struct kernel_version kernel_6_18 = {"6.18", 45, 0x73fffffb, 0x5fd};

/* A request, and what came of it. */
struct question {
	struct question *next;
	uint64_t unique;
	uint32_t opcode;
	bool answered;
	bool gone; /* its caller was killed before */
	int err; /* of the reply, positive */
	unsigned char *out;
	size_t len;
};

/* A notification. */
struct note {
	int code;	 /* FUSE_NOTIFY_* */
	uint64_t ino;	 /* or the directory */
	int64_t off, len; /* INVAL_INODE; STORE: len bytes at off */
	uint64_t child;	 /* DELETE */
	uint32_t flags;	 /* INVAL_ENTRY */
	char name[NAME_MAX + 1];
	bool unreadable; /* STORE: the bytes cannot be read */
	unsigned char data[64]; /* STORE: the first bytes */
};

struct kernel {
	struct channel channel; /* first */
	struct world *w;
	struct fs *fs;
	struct fuse_buf buf; /* of the loop */
	pthread_mutex_t lock; /* the fields below */
	struct question *questions; /* all of them, the newest first */
	struct slice *bytes;	    /* requests that were not read yet */
	size_t n_bytes, first_byte;
	uint64_t unique;
	struct note *notes; /* since kernel_forget_notes */
	size_t n_notes;
	uint32_t agreed; /* INIT's flags */
	uint32_t uid;	 /* of who asks */
	pthread_cond_t news; /* a request was answered, or a notification came */
	unsigned strays; /* replies that nobody waits for */
	struct call *cancelled; /* the last one */
	int refuses;	 /* the next reply fails with this errno: with ENOENT its request is gone */
	int unreadable;	 /* the next reading fails with this errno */
	/* Inside a notification, without a lock: what it fails with (errno), or 0. */
	int (*notified)(struct kernel *k, const struct note *note);
	void *arg; /* notified's */
};

/* ---- the channel ---- */

static inline ssize_t kernel_receive(struct channel *c, void *buf, size_t len)
{
	struct kernel *k = (struct kernel *)c;
	uint64_t n;

	(void)pthread_mutex_lock(&k->lock);
	int e = k->unreadable;
	k->unreadable = 0;
	(void)pthread_mutex_unlock(&k->lock);
	if (e != 0) {
		errno = e;
		return -1;
	}
	if (read(c->fd, &n, sizeof(n)) < 0)
		return -1;
	SCOPE_LOCK(&k->lock);
	struct slice s = k->bytes[k->first_byte++];

	assert_true(s.len <= len);
	if (s.len > 0)
		memcpy(buf, s.data, s.len);
	free((void *)(uintptr_t)s.data);
	return (ssize_t)s.len;
}

static inline struct question *kernel_waiting_locked(struct kernel *k, uint64_t unique)
{
	struct question *q = k->questions;

	while (q != NULL && (q->unique != unique || q->answered))
		q = q->next;
	return q;
}

static inline int kernel_answered(struct kernel *k, const unsigned char *bytes, size_t len)
{
	struct fuse_out_header h;

	memcpy(&h, bytes, sizeof(h));
	assert_true(h.error <= 0 && h.error > -1000);
	SCOPE_LOCK(&k->lock);
	struct question *q = kernel_waiting_locked(k, h.unique);

	if (k->refuses != 0) {
		int e = k->refuses;

		k->refuses = 0;
		if (q != NULL && e == ENOENT)
			q->answered = q->gone = true;
		return e;
	}
	if (q == NULL) {
		k->strays++;
		return ENOENT;
	}
	if (h.error != 0 && len > sizeof(h))
		return EINVAL;
	q->answered = true;
	q->err = -h.error;
	q->len = len - sizeof(h);
	q->out = unit_copy(bytes + sizeof(h), q->len);
	(void)pthread_cond_broadcast(&k->news);
	return 0;
}

static inline struct note kernel_note(const struct fuse_out_header *h, const unsigned char *at,
				      size_t len)
{
	struct note n = {.code = h->error};
	size_t name_len = 0, name_at = 0;

	if (h->error == FUSE_NOTIFY_INVAL_INODE) {
		struct fuse_notify_inval_inode_out o;

		assert_int_equal(len, sizeof(o));
		memcpy(&o, at, sizeof(o));
		n.ino = o.ino;
		n.off = o.off;
		n.len = o.len;
	} else if (h->error == FUSE_NOTIFY_INVAL_ENTRY) {
		struct {
			uint64_t parent;
			uint32_t namelen, flags;
		} o;

		memcpy(&o, at, sizeof(o));
		n.ino = o.parent;
		n.flags = o.flags;
		name_at = sizeof(o);
		name_len = o.namelen;
	} else if (h->error == FUSE_NOTIFY_DELETE) {
		struct fuse_notify_delete_out o;

		memcpy(&o, at, sizeof(o));
		n.ino = o.parent;
		n.child = o.child;
		name_at = sizeof(o);
		name_len = o.namelen;
	} else {
		struct fuse_notify_store_out o;

		assert_int_equal(h->error, FUSE_NOTIFY_STORE);
		memcpy(&o, at, sizeof(o));
		n.ino = o.nodeid;
		n.off = (int64_t)o.offset;
		n.len = o.size;
		n.unreadable = len < sizeof(o) + o.size;
		memcpy(n.data, at + sizeof(o),
		       len - sizeof(o) < sizeof(n.data) ? len - sizeof(o) : sizeof(n.data));
	}
	if (name_at > 0) {
		assert_int_equal(len, name_at + name_len + 1);
		assert_int_equal(at[name_at + name_len], 0);
		assert_true(name_len < sizeof(n.name));
		memcpy(n.name, at + name_at, name_len);
	}
	return n;
}

static inline ssize_t kernel_send(struct channel *c, const struct iovec *iov, int count)
{
	struct kernel *k = (struct kernel *)c;
	struct fuse_out_header h;
	size_t len = 0;

	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	unsigned char *bytes = malloc(len);
	const struct iovec to = {bytes, len};
	assert_non_null(bytes);
	/* what cannot be read is no reason to die: writev(2) ends there as well */
	ssize_t n = process_vm_readv(getpid(), &to, 1, iov, (unsigned long)count, 0);
	assert_true(n >= (ssize_t)sizeof(h));
	memcpy(&h, bytes, sizeof(h));
	assert_int_equal(h.len, len);
	int e = 0;
	if (h.unique != 0) {
		assert_int_equal(n, len);
		e = kernel_answered(k, bytes, len);
	} else {
		struct note note = kernel_note(&h, bytes + sizeof(h), (size_t)n - sizeof(h));

		(void)pthread_mutex_lock(&k->lock);
		k->notes = realloc(k->notes, (k->n_notes + 1) * sizeof(note));
		assert_non_null(k->notes);
		k->notes[k->n_notes++] = note;
		(void)pthread_cond_broadcast(&k->news);
		(void)pthread_mutex_unlock(&k->lock);
		e = k->notified != NULL ? k->notified(k, &note) : 0;
		if (e == 0 && n < (ssize_t)len)
			e = EFAULT;
	}
	free(bytes);
	errno = e;
	return e == 0 ? (ssize_t)len : -1;
}

/* ---- requests ---- */

#define ARG(v)	  ((struct slice){&(v), sizeof(v)})
#define STRING(s) ((struct slice){s, strlen(s) + 1})

/* Puts bytes where the loop reads them. */
static inline void kernel_put(struct kernel *k, const void *data, size_t len)
{
	uint64_t one = 1;

	SCOPE_LOCK(&k->lock);
	k->bytes = realloc(k->bytes, (k->n_bytes + 1) * sizeof(*k->bytes));
	assert_non_null(k->bytes);
	k->bytes[k->n_bytes++] = (struct slice){unit_copy(data, len), len};
	assert_int_equal(write(k->channel.fd, &one, sizeof(one)), sizeof(one));
}

/* Without handing it to the loop. */
static inline struct question *kernel_put_request(struct kernel *k, uint32_t opcode, uint64_t node,
						  const struct slice *parts, size_t n)
{
	struct question *q = calloc(1, sizeof(*q));
	unsigned char bytes[8192];
	size_t len = sizeof(struct fuse_in_header);

	assert_non_null(q);
	for (size_t i = 0; i < n; i++) {
		assert_true(len + parts[i].len <= sizeof(bytes));
		memcpy(bytes + len, parts[i].data, parts[i].len);
		len += parts[i].len;
	}
	(void)pthread_mutex_lock(&k->lock);
	q->unique = k->unique += 2;
	q->opcode = opcode;
	q->next = k->questions;
	k->questions = q;
	(void)pthread_mutex_unlock(&k->lock);
	struct fuse_in_header h = {.len = (uint32_t)len,
				   .opcode = opcode,
				   .unique = q->unique,
				   .nodeid = node,
				   .uid = k->uid,
				   .gid = 1000,
				   .pid = 4242};
	memcpy(bytes, &h, sizeof(h));
	kernel_put(k, bytes, len);
	return q;
}

/* The loop reads one request and sees to it. */
static inline void kernel_loop(struct kernel *k)
{
	assert_true(loop_take(k->fs, &k->buf));
}

static inline struct question *kernel_ask_parts(struct kernel *k, uint32_t opcode, uint64_t node,
						const struct slice *parts, size_t n)
{
	struct question *q = kernel_put_request(k, opcode, node, parts, n);

	kernel_loop(k);
	return q;
}

/* kernel_ask(k, opcode, node, ARG(in), STRING(name)...) */
#define kernel_ask(k, opcode, node, ...)                                                           \
	kernel_ask_parts(k, opcode, node, (const struct slice[]){__VA_ARGS__},                     \
			 sizeof((const struct slice[]){__VA_ARGS__}) / sizeof(struct slice))
#define kernel_ask_bare(k, opcode, node) kernel_ask_parts(k, opcode, node, NULL, 0)

/* ---- replies ---- */

static inline void assert_err(const struct question *q, int err)
{
	assert_true(q->answered);
	assert_int_equal(q->err, err);
}

/* The reply of q is a success with len bytes or more; to be cast. */
static inline const void *answer_of(const struct question *q, size_t len)
{
	assert_err(q, 0);
	assert_true(q->len >= len);
	return q->out;
}
#define ANSWER(q, type) ((const type *)answer_of(q, sizeof(type)))

/* Answers the message that waits at the host for longest: it is to be an op. */
static inline void host_replies(struct kernel *k, enum msg_op op, const struct msg *m)
{
	struct call *call = fake_take(k->w->f, 0);
	struct msg reply = *m;

	assert_int_equal(call->req.op, op);
	if (MSG_HAS(m, payload) && m->payload.len <= call->dest_len) {
		if (m->payload.len > 0)
			memcpy(call->dest, m->payload.data, m->payload.len);
		reply.payload.data = call->dest;
	}
	call->done(call, &reply);
}

static inline void host_says(struct kernel *k, enum msg_op op, struct msg m)
{
	assert_int_equal(k->w->f->n_waiting, 1);
	host_replies(k, op, &m);
}

/* The only message that waits at the host. */
static inline const struct msg *host_asked(const struct kernel *k, enum msg_op op)
{
	assert_int_equal(k->w->f->n_waiting, 1);
	assert_int_equal(k->w->f->waiting[0]->req.op, op);
	return &k->w->f->waiting[0]->req;
}

/* ---- notifications ---- */

/* The notifiers do all that can be done now. */
static inline void kernel_notified(struct kernel *k)
{
	while (notify_turn(k->fs->notify))
		;
}

static inline void kernel_later(struct kernel *k, uint64_t ns)
{
	fake_now += ns;
	kernel_notified(k);
}

static inline void kernel_forget_notes(struct kernel *k)
{
	k->n_notes = 0;
}

/* How often; name NULL: whatever name. */
static inline size_t kernel_noted(const struct kernel *k, int code, uint64_t ino, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < k->n_notes; i++) {
		const struct note *o = &k->notes[i];

		n += o->code == code && o->ino == ino && (name == NULL || strcmp(o->name, name) == 0);
	}
	return n;
}

/* ---- life ---- */

static struct kernel *kernel_of_backend; /* there is one at a time */

static inline bool kernel_cancel(struct backend *b, const struct call *call)
{
	(void)b;
	kernel_of_backend->cancelled = (struct call *)(uintptr_t)call;
	return true;
}

static inline void kernel_wait_room(struct backend *b)
{
	atomic_store(&b->full, false);
}

static const struct backend_ops kernel_backend_ops = {.submit = fake_submit,
						      .listen = fake_listen,
						      .cancel = kernel_cancel,
						      .wait_room = kernel_wait_room};

static inline struct fs_options kernel_options(void)
{
	return (struct fs_options){
	    .fsname = "fake", .mount_flags = "", .host_locks = true, .xattr = true,
	    .max_background = 64};
}

static inline struct kernel *kernel_new(struct world *w, struct fs_options options)
{
	struct kernel *k = calloc(1, sizeof(*k));
	char err[256];

	assert_non_null(k);
	k->w = w;
	k->uid = 1000;
	w->f->base.ops = &kernel_backend_ops;
	kernel_of_backend = k;
	options.stats = w->stats;
	(void)pthread_mutex_init(&k->lock, NULL);
	(void)pthread_cond_init(&k->news, NULL);
	k->channel = (struct channel){.receive = kernel_receive,
				      .send = kernel_send,
				      .fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE)};
	assert_true(k->channel.fd >= 0);
	int r = fs_open(w->c, &options, "/no/where", &k->channel, &k->fs, err, sizeof(err));
	if (r == -EOPNOTSUPP) {
		(void)puts("skipped: this libfuse is built without fuse_session_custom_io");
		exit(77);
	}
	if (r < 0)
		fail_msg("%s", err);
	return k;
}

static inline struct question *kernel_init(struct kernel *k, const struct kernel_version *v)
{
	struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION,
				  .minor = v->minor,
				  .max_readahead = 1 << 17,
				  .flags = v->flags,
				  .flags2 = v->flags2};
	size_t len = v->minor >= 36 ? sizeof(in) : KERNEL_OLD_INIT;

	struct question *q = kernel_ask(k, FUSE_INIT, 0, ((struct slice){&in, len}));
	if (q->answered && q->err == 0 && q->len >= sizeof(struct fuse_init_out))
		k->agreed = ((const struct fuse_init_out *)(const void *)q->out)->flags;
	return q;
}

/* How many requests of this kind there were, and that all of them were answered. */
static inline unsigned kernel_count(const struct kernel *k, uint32_t opcode, bool answered)
{
	unsigned n = 0;

	for (const struct question *q = k->questions; q != NULL; q = q->next) {
		if (q->opcode != opcode)
			continue;
		assert_true(q->answered || !answered);
		n++;
	}
	return n;
}

/* No request was answered twice. */
static inline void kernel_free(struct kernel *k)
{
	assert_int_equal(k->strays, 0);
	fs_free(k->fs);
	for (struct question *q = k->questions, *next; q != NULL; q = next) {
		next = q->next;
		free(q->out);
		free(q);
	}
	while (k->first_byte < k->n_bytes)
		free((void *)(uintptr_t)k->bytes[k->first_byte++].data);
	free(k->bytes);
	free(k->notes);
	free(k->buf.mem);
	(void)pthread_mutex_destroy(&k->lock);
	(void)pthread_cond_destroy(&k->news);
	free(k);
}

/* A mount of a watched host, whose server creates as the caller, by a kernel of today. */
static inline struct kernel *kernel_mounted(struct fs_options options)
{
	struct world *w = world_new();

	w->f->base.info.server_root = w->f->base.info.umask = true;
	struct kernel *k = kernel_new(w, options);
	assert_err(kernel_init(k, &kernel_6_18), 0);
	return k;
}

static inline void kernel_unmounted(struct kernel *k)
{
	struct world *w = k->w;

	kernel_free(k);
	world_free(w);
}

/* A LOOKUP that the host answers with a node of this mode; what the kernel calls it. */
static inline uint64_t kernel_looks_up(struct kernel *k, uint64_t dir, const char *name,
				       uint64_t node, uint32_t mode)
{
	struct question *q = kernel_ask(k, FUSE_LOOKUP, dir, STRING(name));

	host_says(k, MSG_LOOKUP, reply_node(k->w, k->w->seq, node, mode, node));
	return ANSWER(q, struct fuse_entry_out)->nodeid;
}

/* An OPEN that the host answers with fh; the kernel's own handle. */
static inline uint64_t kernel_opens(struct kernel *k, uint64_t ino, uint32_t flags, uint64_t fh,
				    uint64_t size)
{
	struct fuse_open_in in = {.flags = flags};
	struct question *q = kernel_ask(k, FUSE_OPEN, ino, ARG(in));
	struct msg m = reply_attr(k->w, k->w->seq, S_IFREG | 0644, size);

	MSG_SET(&m, fh, fh);
	host_says(k, MSG_OPEN, m);
	return ANSWER(q, struct fuse_open_out)->fh;
}
