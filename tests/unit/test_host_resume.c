/* The server of a client whose connection is lost: what the session has, and what is done once. */
#include "host_client.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "core/stats.h"

/* ---- a MKDIR that hangs ---- */

static atomic_bool mkdir_hangs;
static atomic_uint mkdirs; /* that were begun */

int __real_mkdirat(int dir, const char *name, mode_t mode);
int __wrap_mkdirat(int dir, const char *name, mode_t mode);

int __wrap_mkdirat(int dir, const char *name, mode_t mode)
{
	atomic_fetch_add(&mkdirs, 1);
	while (atomic_load(&mkdir_hangs))
		(void)sched_yield();
	return __real_mkdirat(dir, name, mode);
}

/* ---- a server, a client that comes back, and another one ---- */

struct fixture {
	struct host_server hs;
	struct stats *stats;
	struct host_client c, other;
	uint64_t a; /* the node of a file that the client has looked up once */
};

static int start(void **state, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct server_config config = {.session_grace_ms = 60000};
	struct msg p;

	assert_non_null(f);
	assert_int_equal(stats_new(NULL, &f->stats), 0);
	config.stats = f->stats;
	host_server_start(&f->hs, &config);
	host_put(&f->hs, "a", "content");
	host_put(&f->hs, "b", "content");
	host_client_start_with(&f->c, &f->hs, HELLO_RESUME | features);
	assert_true(f->c.hello.features & HELLO_RESUME);
	assert_false(f->c.hello.features & HELLO_RESUMED);
	host_client_start(&f->other, &f->hs);
	assert_false(f->other.hello.features & HELLO_RESUME);
	assert_int_equal(host_lookup(&f->c, f->c.root, "a", &p), 0);
	f->a = p.node;
	atomic_store(&mkdirs, 0);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return start(state, 0);
}

static int setup_push(void **state)
{
	return start(state, HELLO_PUSH);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	atomic_store(&mkdir_hangs, false);
	host_client_stop(&f->c);
	host_client_stop(&f->other);
	host_server_stop(&f->hs);
	stats_free(f->stats);
	free(f);
	return 0;
}

/* What the server has sent is there to be read: so it has executed what was sent before. */
static void wait_readable(const struct host_client *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 30000), 1);
}

/* The connection ends without another message. */
static void expect_end(struct host_client *c)
{
	const char *why;
	struct msg m;

	assert_int_not_equal(stream_recv(c->stream, &c->head, &m, &why), 0);
}

/* As a client does it: a session that is busy is asked for again. */
static void say_hello_again(struct fixture *f)
{
	int r;

	while ((r = host_client_return(&f->c, &f->hs)) == -EAGAIN)
		host_client_lose(&f->c);
	assert_int_equal(r, 0);
}

static void come_back(struct fixture *f, const struct host_items *nodes,
		      const struct host_items *files, const struct host_items *slots)
{
	say_hello_again(f);
	assert_true(f->c.hello.features & HELLO_RESUMED);
	host_resume(&f->c, RESUME_NODES, RESUME_FIRST, nodes);
	host_resume(&f->c, RESUME_FILES, 0, files);
	host_resume(&f->c, RESUME_SLOTS, RESUME_LAST, slots);
	assert_int_equal(host_resumed(&f->c), 0);
}

static void lose_and_come_back(struct fixture *f, const struct host_items *nodes,
			       const struct host_items *files, const struct host_items *slots)
{
	host_client_lose(&f->c);
	come_back(f, nodes, files, slots);
}

/* The root and so many references of a. */
static struct host_items root_and(const struct fixture *f, uint64_t n)
{
	struct host_items i = {0};

	host_item_pair(&i, f->c.root, 1);
	if (n > 0)
		host_item_pair(&i, f->a, n);
	return i;
}

static struct host_items one_slot(uint32_t slot, uint64_t use)
{
	struct host_items i = {0};

	host_item_pair(&i, slot, use);
	return i;
}

/* A request that is executed at most once; sent again with the same q it is the same. */
static void send_once(struct host_client *c, uint64_t op, struct msg *q, uint32_t slot, uint64_t use)
{
	unsigned char at[MSG_SLOT_LEN];

	msg_slot_put((struct msg_slot){slot, use}, at);
	MSG_SET(q, slot, ((struct slice){at, sizeof(at)}));
	(void)host_send(c, op, q);
}

static int expect_reply(struct host_client *c, const struct msg *q, struct msg *p)
{
	assert_int_equal(host_recv(c, p), q->id);
	return MSG_HAS(p, err) ? -(int)p->err : 0;
}

static void expect_forgotten(struct host_client *c, uint64_t node)
{
	struct msg p;
	int r = 0;

	/* FORGET has no reply, and is not in order with the requests behind it. */
	for (int i = 0; i < 100000 && r == 0; i++)
		r = host_getattr(c, node, &p);
	assert_int_equal(r, -ESTALE);
}

static uint64_t open_file(struct host_client *c, uint64_t node)
{
	struct msg p;

	assert_int_equal(host_open(c, node, O_RDWR, &p), 0);
	return p.fh;
}

static struct msg lock_request(uint64_t fh, uint64_t type, uint64_t flags)
{
	struct msg q = {0};

	MSG_SET(&q, fh, fh);
	MSG_SET(&q, owner, 5);
	MSG_SET(&q, type, type);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, off2, INT64_MAX);
	MSG_SET(&q, flags, flags);
	return q;
}

static int lock_now(struct host_client *c, uint64_t fh, uint64_t type)
{
	struct msg q = lock_request(fh, type, 0);

	return host_call(c, MSG_SETLK, &q, NULL);
}

/* The other client's open file of a. */
static uint64_t open_by_other(struct fixture *f)
{
	struct msg p;

	assert_int_equal(host_lookup(&f->other, f->other.root, "a", &p), 0);
	return open_file(&f->other, p.node);
}

/* ---- what the session has is what the client tells ---- */

static void test_references(void **state)
{
	struct fixture *f = *state;
	struct msg q = {0}, p, b;

	for (int i = 0; i < 2; i++)
		assert_int_equal(host_lookup(&f->c, f->c.root, "a", &p), 0);
	/* three, of which a FORGET that was lost has given back one; and b, of which no reply told */
	MSG_SET(&q, node, f->c.root);
	MSG_SET(&q, name, SLICE("b"));
	(void)host_send(&f->c, MSG_LOOKUP, &q);
	wait_readable(&f->c);
	assert_int_equal(host_lookup(&f->other, f->other.root, "b", &b), 0);
	struct host_items nodes = root_and(f, 2);
	host_item_pair(&nodes, UINT64_C(1) << 40, 5); /* one that there never was */
	host_item_pair(&nodes, 0, 1);
	lose_and_come_back(f, &nodes, NULL, NULL);
	assert_int_equal(host_getattr(&f->c, b.node, &p), -ESTALE);
	assert_int_equal(host_getattr(&f->c, UINT64_C(1) << 40, &p), -ESTALE);
	assert_int_equal(host_getattr(&f->c, f->c.root, &p), 0);
	host_forget(&f->c, f->a, 1);
	assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
	host_forget(&f->c, f->a, 1);
	expect_forgotten(&f->c, f->a);
	/* and the other client has what it had */
	assert_int_equal(host_getattr(&f->other, b.node, &p), 0);
	nodes = root_and(f, 0);
	lose_and_come_back(f, &nodes, NULL, NULL);
	assert_int_equal(host_getattr(&f->c, f->c.root, &p), 0);
}

/* Items are counted together, over as many messages as there are. */
static void test_references_in_pieces(void **state)
{
	struct fixture *f = *state;
	struct host_items one = {0};
	struct msg p;

	host_item_pair(&one, f->a, 1);
	host_client_lose(&f->c);
	for (int again = 0; again < 2; again++) { /* what was told before a loss is void */
		say_hello_again(f);
		host_resume(&f->c, RESUME_NODES, RESUME_FIRST, &one);
		host_resume(&f->c, RESUME_NODES, 0, &one);
		if (again == 0)
			host_client_lose(&f->c);
	}
	host_resume(&f->c, RESUME_NODES, RESUME_LAST, &one);
	assert_int_equal(host_resumed(&f->c), 0);
	host_forget(&f->c, f->a, 2);
	assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
	host_forget(&f->c, f->a, 1);
	expect_forgotten(&f->c, f->a);
}

/* Descriptors of this process, the server's among them, that lead to a file of the export. */
static unsigned descriptors_of(const struct fixture *f, const char *name)
{
	char path[128], link[64], to[256];
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	(void)snprintf(path, sizeof(path), "%s/%s", f->hs.dir, name);
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		(void)snprintf(link, sizeof(link), "/proc/self/fd/%.20s", e->d_name);
		ssize_t len = readlink(link, to, sizeof(to) - 1);
		if (len > 0)
			n += (size_t)len == strlen(path) && memcmp(to, path, (size_t)len) == 0;
	}
	(void)closedir(d);
	return n;
}

static void test_open_files(void **state)
{
	struct fixture *f = *state;
	struct host_items files = {0}, nodes = root_and(f, 1);
	uint64_t others = open_by_other(f);
	struct msg p;

	uint64_t kept = open_file(&f->c, f->a);
	unsigned before = descriptors_of(f, "a");
	uint64_t lost = open_file(&f->c, f->a), again = open_file(&f->c, f->a);
	assert_int_equal(lock_now(&f->c, lost, LOCK_TYPE_WRITE), 0);
	assert_int_equal(lock_now(&f->other, others, LOCK_TYPE_WRITE), -EAGAIN);
	host_item(&files, kept);
	host_item(&files, 4711); /* not open */
	lose_and_come_back(f, &nodes, &files, NULL);
	assert_int_equal(host_read(&f->c, kept, 0, 10, &p), 0);
	assert_int_equal(host_read(&f->c, lost, 0, 10, &p), -EBADF);
	assert_int_equal(host_read(&f->c, again, 0, 10, &p), -EBADF);
	assert_int_equal(descriptors_of(f, "a"), before);
	/* the lock has gone with the file through which it was set */
	assert_int_equal(lock_now(&f->other, others, LOCK_TYPE_WRITE), 0);
	assert_int_equal(lock_now(&f->c, kept, LOCK_TYPE_WRITE), -EAGAIN);
}

/* A lock through a file that is listed is still held. */
static void test_locks_stay(void **state)
{
	struct fixture *f = *state;
	struct host_items files = {0}, nodes = root_and(f, 1);
	uint64_t others = open_by_other(f), fh = open_file(&f->c, f->a);

	assert_int_equal(lock_now(&f->c, fh, LOCK_TYPE_WRITE), 0);
	host_item(&files, fh);
	for (int i = 0; i < 3; i++) {
		lose_and_come_back(f, &nodes, &files, NULL);
		assert_false(f->c.hello.features & HELLO_LOCKS_LOST);
		assert_int_equal(lock_now(&f->other, others, LOCK_TYPE_WRITE), -EAGAIN);
	}
	assert_int_equal(lock_now(&f->c, fh, LOCK_TYPE_NONE), 0);
	assert_int_equal(lock_now(&f->other, others, LOCK_TYPE_WRITE), 0);
}

/* ---- once ---- */

static struct msg create_request(const struct fixture *f, const char *name)
{
	struct msg q = {0};

	MSG_SET(&q, node, f->c.root);
	MSG_SET(&q, name, SLICE(name));
	MSG_SET(&q, flags, O_RDWR | O_EXCL);
	MSG_SET(&q, mode, 0644);
	return q;
}

/* What its reply told is counted once, although it came twice, and is the client's. */
static void test_create_again(void **state)
{
	struct fixture *f = *state;
	struct msg q = create_request(f, "new"), first, second, p;
	struct host_items nodes = root_and(f, 1), files = {0}, slots = one_slot(3, 1);

	send_once(&f->c, MSG_CREATE, &q, 3, 1);
	assert_int_equal(expect_reply(&f->c, &q, &first), 0);
	for (int i = 0; i < 2; i++) { /* as if it had not come, and then again */
		lose_and_come_back(f, &nodes, NULL, &slots);
		send_once(&f->c, MSG_CREATE, &q, 3, 1);
		assert_int_equal(expect_reply(&f->c, &q, &second), 0);
		assert_int_equal(second.node, first.node);
		assert_int_equal(second.fh, first.fh);
	}
	assert_int_equal(stats_get(f->stats, STAT_server_replayed), 2);
	assert_int_equal(host_write(&f->c, first.fh, 0, "text", 0, &p), 0);
	assert_int_equal(host_getattr(&f->c, first.node, &p), 0);
	assert_int_equal(p.attr.size, 4);
	/* now they are the client's to tell of */
	host_item_pair(&nodes, first.node, 1);
	host_item(&files, first.fh);
	lose_and_come_back(f, &nodes, &files, NULL);
	assert_int_equal(host_read(&f->c, first.fh, 0, 10, &p), 0);
	host_forget(&f->c, first.node, 1);
	expect_forgotten(&f->c, first.node);
	nodes = root_and(f, 1);
	lose_and_come_back(f, &nodes, NULL, NULL);
	assert_int_equal(host_read(&f->c, first.fh, 0, 10, &p), -EBADF);
}

/* The content that came with OPEN is not kept for a second time. */
static void test_open_again(void **state)
{
	struct fixture *f = *state;
	struct msg q = {0}, first, second;
	struct host_items nodes = root_and(f, 1), slots = one_slot(3, 1);

	host_put(&f->hs, "content", "12345");
	assert_int_equal(host_lookup(&f->c, f->c.root, "content", &first), 0);
	host_item_pair(&nodes, first.node, 1);
	MSG_SET(&q, node, first.node);
	MSG_SET(&q, flags, O_RDONLY);
	MSG_SET(&q, size, 100);
	send_once(&f->c, MSG_OPEN, &q, 3, 1);
	assert_int_equal(expect_reply(&f->c, &q, &first), 0);
	assert_true(MSG_HAS(&first, payload));
	lose_and_come_back(f, &nodes, NULL, &slots);
	send_once(&f->c, MSG_OPEN, &q, 3, 1);
	assert_int_equal(expect_reply(&f->c, &q, &second), 0);
	assert_int_equal(second.fh, first.fh);
	assert_false(MSG_HAS(&second, payload));
}

/* The second request of that number is not the one of before: never answered from the cache. */
static void test_another_request(void **state)
{
	struct fixture *f = *state;
	struct msg q = create_request(f, "new"), p;
	struct host_items nodes = root_and(f, 1), slots = one_slot(3, 1);
	struct stat st;

	send_once(&f->c, MSG_CREATE, &q, 3, 1);
	assert_int_equal(expect_reply(&f->c, &q, &p), 0);
	lose_and_come_back(f, &nodes, NULL, &slots);
	struct msg other = q;
	MSG_SET(&other, name, SLICE("other"));
	send_once(&f->c, MSG_CREATE, &other, 3, 1);
	expect_end(&f->c);
	assert_int_equal(fstatat(f->hs.fd, "other", &st, 0), -1);
	/* nothing of that harms the session */
	lose_and_come_back(f, &nodes, NULL, &slots);
	send_once(&f->c, MSG_CREATE, &q, 3, 1);
	assert_int_equal(expect_reply(&f->c, &q, &p), 0);
}

static struct msg mkdir_request(const struct fixture *f)
{
	struct msg q = {0};

	MSG_SET(&q, node, f->c.root);
	MSG_SET(&q, name, SLICE("dir"));
	MSG_SET(&q, mode, S_IFDIR | 0755);
	return q;
}

/* The connection is lost while the server is inside the call. */
static void test_stalled(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1), slots = one_slot(0, 1);
	struct msg q = mkdir_request(f), p;

	atomic_store(&mkdir_hangs, true);
	send_once(&f->c, MSG_MKNOD, &q, 0, 1);
	while (atomic_load(&mkdirs) == 0)
		(void)sched_yield();
	host_client_lose(&f->c);
	/* what it asked for is still being done: nobody may say yet what it has */
	assert_int_equal(host_client_return(&f->c, &f->hs), -EAGAIN);
	host_client_lose(&f->c);
	atomic_store(&mkdir_hangs, false);
	come_back(f, &nodes, NULL, &slots);
	send_once(&f->c, MSG_MKNOD, &q, 0, 1);
	assert_int_equal(expect_reply(&f->c, &q, &p), 0); /* not EEXIST */
	assert_int_equal(atomic_load(&mkdirs), 1);
	assert_int_equal(host_getattr(&f->c, p.node, &p), 0);
	assert_true(S_ISDIR(p.attr.mode));
}

/* It has been executed, but another client has not acknowledged yet. */
static void test_waits_for_another_client(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1), slots = one_slot(0, 1);
	struct msg q = mkdir_request(f), p;

	host_client_stop(&f->other);
	host_client_start_push(&f->other, &f->hs);
	f->other.ack = HOST_ACK_NONE;
	assert_int_equal(host_lookup(&f->other, f->other.root, "dir", &p), -ENOENT);
	assert_true(MSG_HAS(&p, stamp));
	send_once(&f->c, MSG_MKNOD, &q, 0, 1);
	wait_readable(&f->other);
	lose_and_come_back(f, &nodes, NULL, &slots);
	send_once(&f->c, MSG_MKNOD, &q, 0, 1);
	/* what follows it on this connection is served meanwhile */
	assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
	(void)host_fence(&f->other);
	host_ack(&f->other, f->other.seq, 0);
	assert_int_equal(expect_reply(&f->c, &q, &p), 0);
	assert_int_equal(atomic_load(&mkdirs), 1);
	uint64_t dir = p.node;
	assert_int_equal(host_getattr(&f->c, dir, &p), 0);
	host_forget(&f->c, dir, 1);
	expect_forgotten(&f->c, dir);
}

/* The client has given it up meanwhile: nothing is left over, and its slot serves the next. */
static void test_given_up(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	struct msg q = create_request(f, "new"), next = create_request(f, "next"), p;
	unsigned before = descriptors_of(f, "new");

	host_client_stop(&f->other);
	host_client_start_push(&f->other, &f->hs);
	f->other.ack = HOST_ACK_NONE;
	assert_int_equal(host_lookup(&f->other, f->other.root, "new", &p), -ENOENT);
	send_once(&f->c, MSG_CREATE, &q, 0, 1);
	wait_readable(&f->other);
	lose_and_come_back(f, &nodes, NULL, NULL);
	assert_int_equal(descriptors_of(f, "new"), before);
	send_once(&f->c, MSG_CREATE, &next, 0, 2);
	/* not host_fence: the other's INV may come between the fence and its reply */
	assert_int_equal(host_call(&f->other, MSG_FENCE, &(struct msg){0}, &p), 0);
	host_ack(&f->other, f->other.seq, 0);
	f->other.ack = HOST_ACK_DONE;
	assert_int_equal(expect_reply(&f->c, &next, &p), 0);
	assert_int_equal(host_write(&f->c, p.fh, 0, "text", 0, &p), 0);
}

/* ---- a lock that is waited for ---- */

struct lock_world {
	uint64_t fh, others; /* of a */
	struct host_items nodes, files, slots;
	struct msg q;
};

/* Requests that the kernel has waiting for a lock of a. */
static unsigned waiters(const struct fixture *f)
{
	FILE *locks = fopen("/proc/locks", "re");
	char line[256], inode[32];
	struct stat st;
	unsigned n = 0;

	assert_non_null(locks);
	assert_int_equal(fstatat(f->hs.fd, "a", &st, 0), 0);
	(void)snprintf(inode, sizeof(inode), ":%llu ", (unsigned long long)st.st_ino);
	while (fgets(line, sizeof(line), locks) != NULL)
		n += strstr(line, "->") != NULL && strstr(line, inode) != NULL;
	(void)fclose(locks);
	return n;
}

/* The other client has the lock, and ours waits for it. */
static struct lock_world wait_for_lock(struct fixture *f)
{
	struct lock_world w = {.nodes = root_and(f, 1), .slots = one_slot(7, 1)};

	w.others = open_by_other(f);
	w.fh = open_file(&f->c, f->a);
	host_item(&w.files, w.fh);
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_WRITE), 0);
	w.q = lock_request(w.fh, LOCK_TYPE_WRITE, LOCK_WAIT);
	send_once(&f->c, MSG_SETLK, &w.q, 7, 1);
	while (waiters(f) == 0)
		(void)sched_yield();
	return w;
}

static void test_lock_granted_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct lock_world w = wait_for_lock(f);
	struct msg p;
	int r;

	host_client_lose(&f->c);
	say_hello_again(f); /* so the connection is cut, and nobody is attached */
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_NONE), 0);
	while ((r = lock_now(&f->other, w.others, LOCK_TYPE_WRITE)) == 0)
		assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_NONE), 0);
	assert_int_equal(r, -EAGAIN);
	lose_and_come_back(f, &w.nodes, &w.files, &w.slots);
	send_once(&f->c, MSG_SETLK, &w.q, 7, 1);
	assert_int_equal(expect_reply(&f->c, &w.q, &p), 0);
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_WRITE), -EAGAIN);
	assert_int_equal(lock_now(&f->c, w.fh, LOCK_TYPE_NONE), 0);
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_WRITE), 0);
}

static void test_lock_granted_afterwards(void **state)
{
	struct fixture *f = *state;
	struct lock_world w = wait_for_lock(f);
	struct msg p;

	for (int i = 0; i < 3; i++) {
		lose_and_come_back(f, &w.nodes, &w.files, &w.slots);
		send_once(&f->c, MSG_SETLK, &w.q, 7, 1);
		assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
	}
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_NONE), 0);
	assert_int_equal(expect_reply(&f->c, &w.q, &p), 0);
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_WRITE), -EAGAIN);
}

/* It can be cancelled after the connection on which it came. */
static void test_lock_cancelled_afterwards(void **state)
{
	struct fixture *f = *state;
	struct lock_world w = wait_for_lock(f);
	struct msg cancel = {0}, p;

	lose_and_come_back(f, &w.nodes, &w.files, &w.slots);
	send_once(&f->c, MSG_SETLK, &w.q, 7, 1);
	MSG_SET(&cancel, id, w.q.id);
	host_post(&f->c, MSG_CANCEL, &cancel);
	assert_int_equal(expect_reply(&f->c, &w.q, &p), -EINTR);
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_NONE), 0);
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_WRITE), 0);
}

static void test_lock_given_up(void **state)
{
	struct fixture *f = *state;
	struct lock_world w = wait_for_lock(f);
	struct msg next = lock_request(w.fh, LOCK_TYPE_WRITE, LOCK_WAIT), p;

	lose_and_come_back(f, &w.nodes, &w.files, NULL);
	assert_int_equal(waiters(f), 0);
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_NONE), 0);
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_WRITE), 0); /* nobody else has it */
	send_once(&f->c, MSG_SETLK, &next, 7, 2);
	assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
	assert_int_equal(lock_now(&f->other, w.others, LOCK_TYPE_NONE), 0);
	assert_int_equal(expect_reply(&f->c, &next, &p), 0);
}

/* ---- invalidations ---- */

/* What comes next is an INV or a RESET. */
static void take_push(struct fixture *f)
{
	struct msg m;

	host_recv_any(&f->c, &m);
	assert_false(MSG_HAS(&m, id));
	host_record(&f->c, &m);
}

static struct msg chmod_request(uint64_t node)
{
	struct msg q = {0};

	MSG_SET(&q, node, node);
	MSG_SET(&q, valid, SET_MODE);
	MSG_SET(&q, mode, 0600);
	return q;
}

/* What was sent and did not arrive is made up for by RESET, and the change waits for that. */
static void test_invalidation_lost(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	struct msg q = chmod_request(f->a), p;

	assert_int_equal(host_lookup(&f->other, f->other.root, "a", &p), 0);
	(void)host_send(&f->other, MSG_SETATTR, &q);
	wait_readable(&f->c);
	lose_and_come_back(f, &nodes, NULL, NULL);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_resets, 1);
	assert_int_equal(expect_reply(&f->other, &q, &p), 0);
	/* once */
	lose_and_come_back(f, &nodes, NULL, NULL);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_resets, 1);
}

/* What was not sent yet comes when there is a connection again. */
static void test_invalidation_kept(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	struct msg q = chmod_request(f->a), p;

	assert_int_equal(host_lookup(&f->other, f->other.root, "a", &p), 0);
	host_client_lose(&f->c);
	say_hello_again(f); /* cut: nothing is sent */
	(void)host_send(&f->other, MSG_SETATTR, &q);
	host_resume(&f->c, RESUME_NODES, RESUME_FIRST | RESUME_LAST, &nodes);
	assert_int_equal(host_resumed(&f->c), 0);
	while (f->c.n_inv == 0)
		take_push(f);
	assert_int_equal(f->c.n_resets, 0);
	assert_true(host_told(&f->c, f->a, NULL) & INV_ATTR);
	assert_int_equal(expect_reply(&f->other, &q, &p), 0);
}

/* An acknowledgement that was lost is asked for again. */
static void test_acknowledgement_lost(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	struct msg q = chmod_request(f->a), p;

	f->c.ack = HOST_ACK_NONE;
	assert_int_equal(host_lookup(&f->other, f->other.root, "a", &p), 0);
	(void)host_send(&f->other, MSG_SETATTR, &q);
	wait_readable(&f->c);
	(void)host_fence(&f->c);
	assert_int_equal(f->c.n_wanted, 1);
	f->c.ack = HOST_ACK_DONE;
	host_clear(&f->c);
	lose_and_come_back(f, &nodes, NULL, NULL);
	while (f->c.n_wanted == 0)
		take_push(f);
	assert_int_equal(f->c.n_resets, 0);
	assert_int_equal(f->c.n_inv, 0);
	assert_int_equal(expect_reply(&f->other, &q, &p), 0);
}

/* ---- whose session it is ---- */

/* The connections that the server has at the moment are so many. */
static void wait_connections(const struct fixture *f, uint64_t n)
{
	while (stats_get(f->stats, STAT_server_sessions) != n)
		(void)sched_yield();
}

static void test_goodbye(void **state)
{
	struct fixture *f = *state;
	uint64_t others = open_by_other(f), fh = open_file(&f->c, f->a);
	unsigned open = descriptors_of(f, "a");
	struct msg q = {0}, p;

	assert_int_equal(lock_now(&f->c, fh, LOCK_TYPE_WRITE), 0);
	uint64_t session = f->c.hello.session;
	host_post(&f->c, MSG_GOODBYE, &q);
	host_client_lose(&f->c);
	wait_connections(f, 1);
	/* at once */
	assert_int_equal(lock_now(&f->other, others, LOCK_TYPE_WRITE), 0);
	assert_true(descriptors_of(f, "a") < open + 1);
	assert_int_equal(host_client_return(&f->c, &f->hs), 0);
	assert_false(f->c.hello.features & HELLO_RESUMED);
	assert_true(f->c.hello.features & HELLO_RESUME);
	assert_true(f->c.hello.session != session);
	assert_int_equal(host_getattr(&f->c, f->a, &p), -ESTALE);
	assert_int_equal(host_read(&f->c, fh, 0, 1, &p), -EBADF);
}

/* Nobody gets it, not even while the connection is still there on which that was said. */
static void test_goodbye_is_final(void **state)
{
	struct fixture *f = *state;
	struct msg q = {0}, p;
	const char *why;
	struct host_client *old = calloc(1, sizeof(*old));

	assert_non_null(old);
	host_post(&f->c, MSG_GOODBYE, &q);
	memset(&p, 0, sizeof(p));
	assert_true(stream_recv(f->c.stream, &f->c.head, &p, &why) < 0); /* the server closes it */
	old->stream = f->c.stream;
	assert_int_equal(host_client_return(&f->c, &f->hs), 0);
	assert_false(f->c.hello.features & HELLO_RESUMED);
	host_client_stop(old);
	free(old);
}

/* Without GOODBYE all stays. */
static void test_kept(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1), files = {0};
	uint64_t others = open_by_other(f), fh = open_file(&f->c, f->a);
	struct msg p;

	host_item(&files, fh);
	assert_int_equal(lock_now(&f->c, fh, LOCK_TYPE_WRITE), 0);
	host_client_lose(&f->c);
	wait_connections(f, 1);
	assert_int_equal(lock_now(&f->other, others, LOCK_TYPE_WRITE), -EAGAIN);
	come_back(f, &nodes, &files, NULL);
	assert_int_equal(host_read(&f->c, fh, 0, 1, &p), 0);
	assert_int_equal(stats_get(f->stats, STAT_server_resumed), 1);
}

/* While the connection before is still open. */
static void test_taken_over(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	struct host_client *old = calloc(1, sizeof(*old));
	struct msg p;

	assert_non_null(old);
	for (int i = 0; i < 3; i++) {
		old->stream = f->c.stream;
		come_back(f, &nodes, NULL, NULL);
		expect_end(old);
		assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
		host_client_stop(old);
		memset(old, 0, sizeof(*old));
	}
	free(old);
}

static bool resumes_with(struct fixture *f, struct msg *m)
{
	struct host_client *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	MSG_SET(m, features, HELLO_RESUME);
	host_client_connect(c, &f->hs);
	assert_int_equal(host_client_greet(c, m), 0);
	bool resumed = (c->hello.features & HELLO_RESUMED) != 0;
	if (!resumed) { /* it is a session like any other, and another one */
		struct msg p;

		assert_true(c->hello.session != f->c.hello.session);
		assert_memory_not_equal(c->token, f->c.token, MSG_TOKEN_LEN);
		assert_int_equal(host_getattr(c, c->root, &p), 0);
		assert_int_equal(host_getattr(c, f->a, &p), -ESTALE);
	}
	host_client_stop(c);
	free(c);
	return resumed;
}

static struct msg knows(const struct fixture *f, const void *token, size_t len)
{
	struct msg m = {0};

	MSG_SET(&m, session, f->c.hello.session);
	MSG_SET(&m, epoch, f->c.hello.epoch);
	MSG_SET(&m, token, ((struct slice){token, len}));
	return m;
}

/* Who does not know all of it gets another session, and this one goes on undisturbed. */
static void test_wrong_secret(void **state)
{
	struct fixture *f = *state;
	unsigned char token[MSG_TOKEN_LEN + 1];
	struct msg m, p;

	for (size_t i = 0; i < MSG_TOKEN_LEN; i++) {
		memcpy(token, f->c.token, MSG_TOKEN_LEN);
		token[i] ^= 0x10;
		m = knows(f, token, MSG_TOKEN_LEN);
		assert_false(resumes_with(f, &m));
	}
	memcpy(token, f->c.token, MSG_TOKEN_LEN);
	token[MSG_TOKEN_LEN] = 0;
	const size_t lengths[] = {0, 1, MSG_TOKEN_LEN - 1, MSG_TOKEN_LEN + 1};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		m = knows(f, token, lengths[i]);
		assert_false(resumes_with(f, &m));
	}
	m = knows(f, token, MSG_TOKEN_LEN);
	m.epoch ^= 1;
	assert_false(resumes_with(f, &m));
	m = knows(f, token, MSG_TOKEN_LEN);
	m.session++; /* the other client's, which is never resumed */
	assert_false(resumes_with(f, &m));
	m = knows(f, token, MSG_TOKEN_LEN);
	m.present &= ~MSG_BIT(token);
	assert_false(resumes_with(f, &m));
	assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
	/* and of what was right above */
	m = knows(f, token, MSG_TOKEN_LEN);
	assert_true(resumes_with(f, &m));
}

/* Two clients that were copied: the first gets the session, and the other one its own. */
static void test_clones(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	unsigned char before[MSG_TOKEN_LEN];
	struct msg m, p;

	memcpy(before, f->c.token, sizeof(before));
	lose_and_come_back(f, &nodes, NULL, NULL);
	assert_memory_not_equal(f->c.token, before, sizeof(before));
	m = knows(f, before, sizeof(before));
	assert_false(resumes_with(f, &m));
	assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
	lose_and_come_back(f, &nodes, NULL, NULL);
}

/* ---- a client that was copied ---- */

/* All that it knows, at that moment. */
static struct host_client *copy_client(const struct fixture *f)
{
	struct host_client *copy = calloc(1, sizeof(*copy));

	assert_non_null(copy);
	copy->hello = f->c.hello;
	memcpy(copy->token, f->c.token, MSG_TOKEN_LEN);
	copy->seq = f->c.seq;
	copy->root = f->c.root;
	copy->last_id = 1000;
	return copy;
}

static void copy_done(struct host_client *copy)
{
	host_client_stop(copy);
	free(copy);
}

/* It comes back as a client does that understands all of this. */
static void copy_greets(struct fixture *f, struct host_client *copy, uint64_t features)
{
	unsigned char token[MSG_TOKEN_LEN];
	struct msg m = {0};

	memcpy(token, copy->token, sizeof(token));
	MSG_SET(&m, features,
		features | HELLO_COPIES | HELLO_RESUME | (copy->hello.features & HELLO_PUSH));
	MSG_SET(&m, session, copy->hello.session);
	MSG_SET(&m, epoch, copy->hello.epoch);
	MSG_SET(&m, seq, copy->seq);
	MSG_SET(&m, token, ((struct slice){token, sizeof(token)}));
	host_client_reconnect(copy, &f->hs);
	assert_int_equal(host_client_greet(copy, &m), 0);
	assert_true(copy->hello.features & HELLO_COPIES);
}

/* The reply to RESUME: its err, and what may be sent again, in items. */
static uint64_t copy_resumed(struct host_client *copy, struct host_items *items)
{
	struct msg p = {0};
	const char *why;

	assert_int_equal(stream_recv(copy->stream, &copy->head, &p, &why), 0);
	assert_true(MSG_HAS(&p, id) && !MSG_HAS(&p, op));
	assert_int_equal(p.id, HOST_RESUME_ID);
	items->len = 0;
	if (MSG_HAS(&p, payload)) {
		items->len = p.payload.len;
		assert_true(items->len <= sizeof(items->buf));
		assert_int_equal(stream_recv_payload(copy->stream, items->buf, items->len), 0);
	}
	return p.err;
}

static struct host_items copy_tells(struct host_client *copy, const struct host_items *nodes,
				    const struct host_items *files, const struct host_items *slots)
{
	struct host_items again;

	assert_true(copy->hello.features & HELLO_COPY);
	assert_false(copy->hello.features & HELLO_RESUMED);
	host_resume(copy, RESUME_NODES, RESUME_FIRST, nodes);
	host_resume(copy, RESUME_FILES, 0, files);
	host_resume(copy, RESUME_SLOTS, RESUME_LAST, slots);
	assert_int_equal(copy_resumed(copy, &again), 0);
	return again;
}

/* The second one gets a session of its own, with its nodes and files, but for the locks. */
static void test_copy(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 2), files = {0}, one = {0};
	uint64_t fh = open_file(&f->c, f->a), closed = open_file(&f->c, f->a),
		 others = open_by_other(f);
	struct msg p, b;

	assert_int_equal(host_lookup(&f->c, f->c.root, "a", &p), 0);
	assert_int_equal(host_lookup(&f->c, f->c.root, "b", &b), 0);
	assert_int_equal(lock_now(&f->c, fh, LOCK_TYPE_WRITE), 0);
	struct host_client *copy = copy_client(f);
	/* the first one goes on: with one of its files, and without b */
	host_item(&one, fh);
	lose_and_come_back(f, &nodes, &one, NULL);
	host_item_pair(&nodes, b.node, 1);
	host_item(&files, fh);
	host_item(&files, closed);
	copy_greets(f, copy, 0);
	assert_true(copy->hello.session != f->c.hello.session);
	assert_memory_not_equal(copy->token, f->c.token, MSG_TOKEN_LEN);
	assert_int_equal(copy_tells(copy, &nodes, &files, NULL).len, 0);
	assert_int_equal(host_getattr(copy, f->a, &p), 0);
	assert_int_equal(stats_get(f->stats, STAT_server_copied), 1);
	assert_int_equal(host_getattr(copy, b.node, &p), -ESTALE);
	assert_int_equal(host_lookup(copy, copy->root, "b", &p), 0); /* again, by name */
	assert_int_equal(host_read(copy, fh, 0, 10, &p), 0);
	assert_int_equal(host_read(copy, closed, 0, 10, &p), -EBADF);
	if (f->c.hello.features & HELLO_PUSH) {
		(void)host_fence(copy);
		assert_int_equal(copy->n_resets, 1);
		assert_int_equal(f->c.n_resets, 0);
	}
	/* the lock is the first one's */
	assert_int_equal(lock_now(copy, fh, LOCK_TYPE_WRITE), -EAGAIN);
	assert_int_equal(lock_now(copy, fh, LOCK_TYPE_NONE), 0);
	assert_int_equal(lock_now(&f->other, others, LOCK_TYPE_WRITE), -EAGAIN);
	/* what one gives back the other has still */
	host_close(copy, fh);
	host_forget(copy, f->a, 1);
	assert_int_equal(host_getattr(copy, f->a, &p), 0);
	host_forget(copy, f->a, 1);
	expect_forgotten(copy, f->a);
	assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
	assert_int_equal(host_read(&f->c, fh, 0, 10, &p), 0);
	assert_int_equal(lock_now(&f->c, fh, LOCK_TYPE_NONE), 0);
	/* nothing of the first one's stays because there was a copy of it */
	assert_int_equal(lock_now(&f->c, fh, LOCK_TYPE_WRITE), 0);
	struct msg bye = {0};
	host_post(&f->c, MSG_GOODBYE, &bye);
	expect_end(&f->c);
	while (lock_now(&f->other, others, LOCK_TYPE_WRITE) == -EAGAIN)
		(void)sched_yield();
	/* it comes back to its own */
	nodes = root_and(f, 1);
	host_client_lose(copy);
	copy_greets(f, copy, 0);
	assert_true(copy->hello.features & HELLO_RESUMED);
	host_resume(copy, RESUME_NODES, RESUME_FIRST | RESUME_LAST, &nodes);
	assert_int_equal(host_resumed(copy), 0);
	copy_done(copy);
}

/* Sent again is only what was begun for neither. */
static void test_copy_in_flight(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1), mine = one_slot(0, 1), slots = {0};
	struct msg begun = mkdir_request(f), not_begun = mkdir_request(f), p;
	uint64_t slot, use;

	MSG_SET(&not_begun, name, SLICE("second"));
	MSG_SET(&not_begun, id, 2000);
	send_once(&f->c, MSG_MKNOD, &begun, 0, 1);
	wait_readable(&f->c);
	struct host_client *copy = copy_client(f);
	lose_and_come_back(f, &nodes, NULL, &mine);
	send_once(&f->c, MSG_MKNOD, &begun, 0, 1);
	assert_int_equal(expect_reply(&f->c, &begun, &p), 0);
	host_item_pair(&slots, 0, 1);
	host_item_pair(&slots, 7, 3);
	copy_greets(f, copy, 0);
	struct host_items again = copy_tells(copy, &nodes, NULL, &slots);
	struct slice in = {again.buf, again.len};
	assert_int_equal(codec_get_pair(&in, &slot, &use), 1);
	assert_int_equal(slot, 7);
	assert_int_equal(use, 3);
	assert_int_equal(in.len, 0);
	send_once(copy, MSG_MKNOD, &not_begun, 7, 3);
	assert_int_equal(expect_reply(copy, &not_begun, &p), 0);
	assert_int_equal(atomic_load(&mkdirs), 2); /* each of them once */
	/* of the slots of one the other knows nothing */
	MSG_SET(&not_begun, name, SLICE("third"));
	MSG_SET(&not_begun, id, 2001);
	send_once(&f->c, MSG_MKNOD, &not_begun, 7, 1);
	assert_int_equal(expect_reply(&f->c, &not_begun, &p), 0);
	copy_done(copy);
}

/*
 * A snapshot is restored while the one that it was taken of goes on: the older one has a good
 * secret, but not the session.
 */
static void test_copy_is_older(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1), files = {0}, used = one_slot(3, 1), again;
	uint64_t fh = open_file(&f->c, f->a), others = open_by_other(f);
	struct msg q = create_request(f, "new"), p;

	assert_int_equal(lock_now(&f->c, fh, LOCK_TYPE_WRITE), 0);
	send_once(&f->c, MSG_CREATE, &q, 3, 1);
	assert_int_equal(expect_reply(&f->c, &q, &p), 0);
	struct host_client *copy = copy_client(f);
	q = create_request(f, "newer");
	send_once(&f->c, MSG_CREATE, &q, 3, 2);
	assert_int_equal(expect_reply(&f->c, &q, &p), 0);
	copy_greets(f, copy, 0);
	assert_true(copy->hello.features & HELLO_RESUMED); /* so it seems */
	host_resume(copy, RESUME_USED, RESUME_FIRST, &used);
	host_resume(copy, RESUME_NODES, RESUME_LAST, &nodes);
	assert_int_equal(copy_resumed(copy, &again), ESTALE);
	expect_end(copy);
	host_client_lose(copy);
	/* the other one has lost its connection by that, and nothing else */
	used = one_slot(3, 2);
	host_item(&files, fh);
	host_item(&files, p.fh);
	host_item_pair(&nodes, p.node, 1);
	host_client_lose(&f->c);
	say_hello_again(f);
	assert_true(f->c.hello.features & HELLO_RESUMED);
	assert_false(f->c.hello.features & HELLO_LOCKS_LOST);
	host_resume(&f->c, RESUME_USED, RESUME_FIRST, &used);
	host_resume(&f->c, RESUME_FILES, 0, &files);
	host_resume(&f->c, RESUME_NODES, RESUME_LAST, &nodes);
	assert_int_equal(host_resumed(&f->c), 0);
	assert_int_equal(lock_now(&f->other, others, LOCK_TYPE_WRITE), -EAGAIN);
	/* now the older one asks for a session of its own, and disturbs nobody */
	copy_greets(f, copy, HELLO_COPY);
	(void)copy_tells(copy, &nodes, &files, NULL);
	assert_int_equal(host_read(copy, fh, 0, 10, &p), 0);
	q = create_request(f, "its own");
	send_once(copy, MSG_CREATE, &q, 3, 2);
	assert_int_equal(expect_reply(copy, &q, &p), 0);
	assert_int_equal(host_read(&f->c, fh, 0, 10, &p), 0);
	copy_done(copy);
}

/* Who has no secret of it, of now or of before, gets nothing of a session. */
static void test_copy_forged(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	struct host_client *copy = copy_client(f);
	struct msg p;

	lose_and_come_back(f, &nodes, NULL, NULL);
	for (size_t i = 0; i < 2 * MSG_TOKEN_LEN; i++) {
		struct host_client *forged = calloc(1, sizeof(*forged));

		assert_non_null(forged);
		forged->hello = copy->hello;
		memcpy(forged->token, copy->token, MSG_TOKEN_LEN);
		forged->token[i / 2] ^= 1;
		copy_greets(f, forged, i % 2 ? HELLO_COPY : 0);
		assert_false(forged->hello.features & (HELLO_COPY | HELLO_RESUMED));
		assert_int_equal(host_getattr(forged, f->a, &p), -ESTALE);
		copy_done(forged);
	}
	/* a message of a copy's that no client sends ends the copy alone */
	copy_greets(f, copy, 0);
	assert_true(copy->hello.features & HELLO_COPY);
	host_resume(copy, RESUME_USED + 1, RESUME_FIRST, NULL);
	expect_end(copy);
	assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
	assert_int_equal(stats_get(f->stats, STAT_server_copied), 0);
	copy_done(copy);
}

/* So many secrets of before are known; nothing of a copy that is older still. */
static void test_copy_of_long_ago(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	struct host_client *first = copy_client(f), *second;
	struct msg p;

	lose_and_come_back(f, &nodes, NULL, NULL);
	second = copy_client(f);
	for (int i = 0; i < 64; i++)
		lose_and_come_back(f, &nodes, NULL, NULL);
	copy_greets(f, first, 0);
	assert_false(first->hello.features & (HELLO_COPY | HELLO_RESUMED));
	assert_int_equal(host_getattr(first, f->a, &p), -ESTALE);
	copy_greets(f, second, 0);
	(void)copy_tells(second, &nodes, NULL, NULL);
	assert_int_equal(host_getattr(second, f->a, &p), 0);
	copy_done(first);
	copy_done(second);
}

/* A client that has not heard the new secret comes with the one before. */
static void test_secret_not_heard(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	unsigned char before[MSG_TOKEN_LEN];

	memcpy(before, f->c.token, sizeof(before));
	host_client_lose(&f->c);
	for (int i = 0; i < 3; i++) {
		say_hello_again(f);
		assert_true(f->c.hello.features & HELLO_RESUMED);
		host_client_lose(&f->c);
		memcpy(f->c.token, before, sizeof(before));
	}
	come_back(f, &nodes, NULL, NULL);
	struct msg m = knows(f, before, sizeof(before));
	assert_false(resumes_with(f, &m));
}

/* One that has taken it and then says nothing makes way for another that knows the secret. */
static void test_taken_twice(void **state)
{
	struct fixture *f = *state;
	struct host_client *second = calloc(1, sizeof(*second));
	struct host_items nodes = root_and(f, 1);
	struct msg p;

	assert_non_null(second);
	second->hello = f->c.hello;
	memcpy(second->token, f->c.token, MSG_TOKEN_LEN);
	host_client_lose(&f->c);
	say_hello_again(f);
	assert_int_equal(host_client_return(second, &f->hs), 0);
	assert_true((second->hello.features & HELLO_RESUMED) != 0);
	expect_end(&f->c);
	host_resume(second, RESUME_NODES, RESUME_FIRST | RESUME_LAST, &nodes);
	assert_int_equal(host_resumed(second), 0);
	assert_int_equal(host_getattr(second, f->a, &p), 0);
	host_client_stop(second);
	free(second);
}

/* What comes in one piece with the last RESUME is executed without waiting for more. */
static void test_right_behind(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	struct msg resume = {0}, ping = {0}, p;
	unsigned char buf[1024];

	host_client_lose(&f->c);
	say_hello_again(f);
	MSG_SET(&resume, op, MSG_RESUME);
	MSG_SET(&resume, id, HOST_RESUME_ID);
	MSG_SET(&resume, type, RESUME_NODES);
	MSG_SET(&resume, flags, RESUME_FIRST | RESUME_LAST);
	MSG_SET(&resume, payload, ((struct slice){nodes.buf, nodes.len}));
	MSG_SET(&ping, op, MSG_PING);
	MSG_SET(&ping, id, 7);
	size_t n = codec_encode(&resume, buf, sizeof(buf));
	memcpy(buf + n, nodes.buf, nodes.len);
	n += nodes.len;
	n += codec_encode(&ping, buf + n, sizeof(buf) - n);
	assert_int_equal(stream_send_raw(f->c.stream, buf, n, NULL, 0), 0);
	assert_int_equal(host_resumed(&f->c), 0);
	do {
		p = (struct msg){0};
		const char *why;
		assert_int_equal(stream_recv(f->c.stream, &f->c.head, &p, &why), 0);
	} while (MSG_HAS(&p, op));
	assert_int_equal(p.id, 7);
}

/* ---- what no client of ours sends ---- */

static void test_resume_out_of_place(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);

	host_resume(&f->c, RESUME_NODES, RESUME_FIRST | RESUME_LAST, &nodes);
	expect_end(&f->c);
	lose_and_come_back(f, &nodes, NULL, NULL);
	host_resume(&f->c, RESUME_NODES, RESUME_FIRST | RESUME_LAST, &nodes);
	expect_end(&f->c);
	host_resume(&f->other, RESUME_NODES, RESUME_FIRST | RESUME_LAST, &nodes);
	expect_end(&f->other);
}

static void test_malformed_resume(void **state)
{
	static const struct {
		uint64_t type;
		const char *bytes;
		size_t len;
	} cases[] = {
		{RESUME_USED + 1, "", 0},
		{UINT64_MAX, "", 0},
		{RESUME_NODES, "\x01", 1},		 /* no pair */
		{RESUME_NODES, "\x82\x01", 2},		 /* half of one */
		{RESUME_NODES, "\x83\x01\x01\x01", 4},	 /* more than one */
		{RESUME_NODES, "\x82\x01\x01\xff", 4},	 /* and then something else */
		{RESUME_FILES, "\x82\x01\x01", 3},	 /* a pair */
		{RESUME_FILES, "\x20", 1},		 /* -1 */
		{RESUME_FILES, "\x19\x01", 2},		 /* half a number */
		{RESUME_SLOTS, "\x01", 1},		 /* no pair */
		{RESUME_SLOTS, "\x82\x19\x01\x00\x01", 5}, /* slot 256 */
		{RESUME_USED, "\x82\x19\x01\x00\x01", 5},
		{RESUME_SLOTS, "\x82\x1b\x00\x00\x00\x01\x00\x00\x00\x00\x01", 11}, /* 2^32 */
	};
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);
	struct msg p;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct host_items bad = {.len = cases[i].len};

		memcpy(bad.buf, cases[i].bytes, bad.len);
		host_client_lose(&f->c);
		say_hello_again(f);
		host_resume(&f->c, RESUME_NODES, RESUME_FIRST, &nodes);
		host_resume(&f->c, cases[i].type, RESUME_LAST, &bad);
		if (host_resumed(&f->c) == 0)
			fail_msg("case %zu is taken", i);
	}
	/* it is the client's session still */
	lose_and_come_back(f, &nodes, NULL, NULL);
	assert_int_equal(host_getattr(&f->c, f->a, &p), 0);
}

static void test_no_resume(void **state)
{
	struct fixture *f = *state;
	struct host_items nodes = root_and(f, 1);

	for (int what = 0; what < 4; what++) {
		struct msg q = {0};

		host_client_lose(&f->c);
		say_hello_again(f);
		MSG_SET(&q, op, what == 0 ? MSG_GETATTR : MSG_RESUME);
		MSG_SET(&q, node, f->c.root);
		if (what != 1)
			MSG_SET(&q, id, 5);
		if (what != 2)
			MSG_SET(&q, type, RESUME_NODES);
		if (what != 3)
			MSG_SET(&q, payload, ((struct slice){nodes.buf, nodes.len}));
		MSG_SET(&q, flags, RESUME_FIRST | RESUME_LAST);
		assert_int_equal(stream_send(f->c.stream, &q), 0);
		expect_end(&f->c);
	}
	lose_and_come_back(f, &nodes, NULL, NULL);
}

#define T(name)	     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define T_PUSH(name) cmocka_unit_test_setup_teardown(name, setup_push, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_references),
		T(test_references_in_pieces),
		T(test_open_files),
		T(test_locks_stay),
		T(test_create_again),
		T(test_open_again),
		T(test_another_request),
		T(test_stalled),
		T(test_waits_for_another_client),
		T(test_given_up),
		T(test_lock_granted_meanwhile),
		T(test_lock_granted_afterwards),
		T(test_lock_cancelled_afterwards),
		T(test_lock_given_up),
		T_PUSH(test_invalidation_lost),
		T_PUSH(test_invalidation_kept),
		T_PUSH(test_acknowledgement_lost),
		T(test_goodbye),
		T(test_goodbye_is_final),
		T(test_kept),
		T(test_taken_over),
		T(test_wrong_secret),
		T(test_clones),
		T(test_copy),
		T_PUSH(test_copy),
		T(test_copy_in_flight),
		T(test_copy_is_older),
		T(test_copy_forged),
		T(test_copy_of_long_ago),
		T(test_secret_not_heard),
		T(test_taken_twice),
		T(test_right_behind),
		T(test_resume_out_of_place),
		T(test_malformed_resume),
		T(test_no_resume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
