/* Sessions: greeting, nodes, hostile and deaf clients, many at once; other file systems inside. */
#include "host_fixture.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

static bool may_mount; /* set by main */

static void test_hello(void **state)
{
	struct fixture *f = *state;
	struct host_client *other = malloc(sizeof(*other));

	assert_int_equal(f->c.hello.version, HELLO_VERSION);
	assert_true(f->c.hello.slots > 0);
	assert_true(S_ISDIR(f->c.hello.attr.mode));
	assert_int_equal(f->c.hello.uid, geteuid());
	assert_int_equal((f->c.hello.features & HELLO_ROOT) != 0, geteuid() == 0);

	/* Another session: the same epoch and node, an id of its own. */
	host_client_start(other, &f->hs);
	assert_true(other->hello.epoch == f->c.hello.epoch);
	assert_true(other->hello.session != f->c.hello.session);
	assert_true(other->root == f->c.root);
	host_client_stop(other);
	free(other);
}

static void test_nodes(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c, *other = malloc(sizeof(*other));
	struct msg p;

	host_put(&f->hs, "x", "1");
	assert_int_equal(linkat(f->hs.fd, "x", f->hs.fd, "y", 0), 0);
	assert_int_equal(host_lookup(c, c->root, "x", &p), 0);
	uint64_t node = p.node, version = p.attr.version;
	assert_int_equal(host_lookup(c, c->root, "y", &p), 0);
	assert_true(p.node == node && p.attr.nlink == 2 && p.attr.version > version);

	/* An id means nothing in a session that was not told it. */
	host_client_start(other, &f->hs);
	assert_int_equal(host_getattr(other, node, &p), -ESTALE);
	assert_int_equal(host_open(other, node, O_RDONLY, &p), -ESTALE);
	assert_int_equal(host_lookup(other, other->root, "x", &p), 0);
	assert_true(p.node == node);
	host_client_stop(other);
	free(other);

	/* Gone with the last of the references, not before. */
	host_forget(c, node, 1);
	assert_int_equal(host_getattr(c, node, &p), 0);
	host_forget(c, node, 1);
	expect_forgotten(c, node);
	assert_int_equal(host_getattr(c, 0, &p), -ESTALE);
	assert_int_equal(host_getattr(c, UINT64_MAX, &p), -ESTALE);

	/* Another file under the same name is another node. */
	assert_int_equal(host_lookup(c, c->root, "x", &p), 0);
	node = p.node;
	assert_int_equal(unlinkat(f->hs.fd, "x", 0), 0);
	assert_int_equal(unlinkat(f->hs.fd, "y", 0), 0);
	host_put(&f->hs, "x", "2");
	assert_int_equal(host_lookup(c, c->root, "x", &p), 0);
	assert_true(p.node != node);
}

/* The server closes the connection, and goes on with others. */
static void expect_closed(struct host_client *c)
{
	struct msg p;
	const char *why;
	int r = stream_recv(c->stream, &c->head, &p, &why);

	assert_true(r == -ENODATA || r == -ECONNRESET);
}

static void test_malformed(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} frames[] = {
		{"\x00\x00\x00\x01\x00\x00\x00\x02", 8},		  /* total below head */
		{"\xff\xff\xff\xff\x00\x00\x00\x10", 8},		  /* payload of 4 GiB */
		{"\x00\x00\x00\x00\x00\x00\x00\x00", 8},		  /* no head */
		{"\x00\x00\x00\x01\x00\x00\x00\x01\xbf", 9},		  /* indefinite map */
		{"\x00\x00\x00\x03\x00\x00\x00\x03\xa1\x00\x18", 11},	  /* cut short */
		{"\x00\x00\x00\x01\x00\x00\x00\x01\xa0", 9},		  /* no op */
		{"\x00\x00\x00\x04\x00\x00\x00\x04\xa1\x00\x18\x28", 12}, /* LOOKUP without an id */
		{"\x00\x00\x00\x06\x00\x00\x00\x06\xa2\x00\x18\x28\x01\x01",
		 14}, /* LOOKUP without node and name */
		{"\x00\x00\x00\x06\x00\x00\x00\x06\xa2\x00\x18\x20\x01\x01", 14}, /* HELLO */
		{"\x00\x00\x00\x09\x00\x00\x00\x07\xa2\x00\x18\x26\x18\x22\x42\x01\x02",
		 17}, /* FORGET of no pairs */
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		struct host_client *c = malloc(sizeof(*c));

		host_client_start(c, &f->hs);
		assert_int_equal(
			stream_send_raw(c->stream, frames[i].bytes, frames[i].len, NULL, 0), 0);
		expect_closed(c);
		host_client_stop(c);
		free(c);
	}
	/* Unknown but well-formed: an error, and the connection goes on. */
	struct msg q = {0}, p;
	assert_int_equal(host_call(&f->c, 43, &q, &p), -ENOSYS);
	assert_int_equal(host_call(&f->c, 4711, &q, &p), -ENOSYS);
	assert_int_equal(host_getattr(&f->c, f->c.root, &p), 0);
	/* Ids of handles that nobody was given. */
	assert_int_equal(host_read(&f->c, 0, 0, 1, &p), -EBADF);
	assert_int_equal(host_read(&f->c, 77, 0, 1, &p), -EBADF);
	host_close(&f->c, 77);
	host_forget(&f->c, 77, UINT64_MAX);
	assert_int_equal(host_getattr(&f->c, f->c.root, &p), 0);
}

/* A client that sends a lot and reads nothing stops itself only. */
static void test_deaf_client(void **state)
{
	struct fixture *f = *state;
	struct host_client *deaf = malloc(sizeof(*deaf));
	struct msg p;

	assert_int_equal(host_create(&f->c, f->c.root, "a", O_RDWR, 0600, &p), 0);
	assert_int_equal(ftruncate(openat(f->hs.fd, "a", O_WRONLY), MSG_PAYLOAD_MAX), 0);
	host_client_start(deaf, &f->hs);
	assert_int_equal(host_lookup(deaf, deaf->root, "a", &p), 0);
	assert_int_equal(host_open(deaf, p.node, O_RDONLY, &p), 0);
	for (int i = 0; i < 100; i++) {
		struct msg q = {0};

		MSG_SET(&q, fh, p.fh);
		MSG_SET(&q, off, 0);
		MSG_SET(&q, size, MSG_PAYLOAD_MAX);
		(void)host_send(deaf, MSG_READ, &q);
	}
	for (int i = 0; i < 100; i++)
		assert_int_equal(host_getattr(&f->c, f->c.root, &p), 0);
	/* And it gets all of it when it wants to. */
	for (int i = 0; i < 50; i++) {
		(void)host_recv(deaf, &p);
		assert_int_equal(p.payload.len, MSG_PAYLOAD_MAX);
	}
	host_client_stop(deaf);
	free(deaf);
}

/* Requests that were sent together are all answered. */
static void test_many(void **state)
{
	enum { N = 200 };
	struct fixture *f = *state;
	bool answered[N + 1] = {false};
	uint64_t first = f->c.last_id;

	for (int i = 0; i < N; i++) {
		struct msg q = {0};

		MSG_SET(&q, node, f->c.root);
		(void)host_send(&f->c, MSG_GETATTR, &q);
	}
	for (int i = 0; i < N; i++) {
		struct msg p;
		uint64_t id = host_recv(&f->c, &p) - first;

		assert_true(id >= 1 && id <= N && !answered[id]);
		answered[id] = true;
	}
}

static void test_plain_first(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = malloc(sizeof(*c));
	struct plain_request q = {.op = PLAIN_GETATTR, .path = SLICE("/workspace")};
	struct plain_reply reply;
	struct plain_buf out = {0};
	unsigned char *buf = NULL;
	size_t cap = 0, len = 0;
	const char *why;

	host_client_connect(c, &f->hs);
	assert_int_equal(plain_request_encode(&q, &out), 0);
	assert_int_equal(stream_send_plain(c->stream, out.data, out.len), 0);
	assert_int_equal(stream_recv_plain(c->stream, 65536, &buf, &cap, &len, 5000), 0);
	assert_int_equal(plain_reply_decode(buf, len, &reply, &why), 0);
	assert_true(reply.err == 0 && reply.has_stat && reply.stat.is_dir);
	/* A HELLO that is none of ours is an unknown operation. */
	q = (struct plain_request){.op = PLAIN_HELLO, .data = SLICE("NFSv4")};
	assert_int_equal(plain_request_encode(&q, &out), 0);
	assert_int_equal(stream_send_plain(c->stream, out.data, out.len), 0);
	assert_int_equal(stream_recv_plain(c->stream, 65536, &buf, &cap, &len, 5000), 0);
	assert_int_equal(plain_reply_decode(buf, len, &reply, &why), 0);
	assert_int_equal(reply.err, -ENOSYS);
	host_client_hello(c);
	struct msg p;
	assert_int_equal(host_getattr(c, c->root, &p), 0);
	plain_buf_done(&out);
	free(buf);
	host_client_stop(c);
	free(c);
}

/* ---- file systems mounted inside ---- */

static void mount_inside(struct fixture *f, const char *name)
{
	char path[128];

	assert_int_equal(mkdirat(f->hs.fd, name, 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/%s", f->hs.dir, name);
	assert_int_equal(mount("none", path, "tmpfs", 0, NULL), 0);
	(void)snprintf(path, sizeof(path), "%s/in", name);
	host_put(&f->hs, path, "1");
}

static int teardown_mount(void **state)
{
	struct fixture *f = *state;
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/m", f->hs.dir);
	(void)umount2(path, MNT_DETACH);
	return teardown(state);
}

static int setup_hide(void **state)
{
	const struct server_config config = {.xdev = XDEV_HIDE};

	return start(state, &config);
}

/* Of the names "m" and "o", those that a listing has. */
static unsigned which(struct host_client *c, uint64_t flags)
{
	struct msg q = {0}, p;
	struct dir_entry e;
	unsigned seen = 0;

	MSG_SET(&q, node, c->root);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, size, 4096);
	MSG_SET(&q, flags, flags);
	assert_int_equal(host_call(c, MSG_READDIRPLUS, &q, &p), 0);
	struct slice in = p.payload;
	while (codec_get_entry(&in, &e) == 1) {
		if (e.name.len == 1 && memcmp(e.name.data, "m", 1) == 0)
			seen |= 1;
		if (e.name.len == 1 && memcmp(e.name.data, "o", 1) == 0)
			seen |= 2;
	}
	return seen;
}

static void test_xdev_follow(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct stat st;
	struct msg p;

	if (!may_mount)
		skip();
	host_put(&f->hs, "o", "");
	mount_inside(f, "m");
	assert_int_equal(which(c, 0), 3);
	assert_int_equal(host_lookup(c, c->root, "m", &p), 0);
	assert_int_equal(host_lookup(c, p.node, "in", &p), 0);
	/* Nothing on another file system has the number of something on ours. */
	assert_int_equal(fstatat(f->hs.fd, "m/in", &st, 0), 0);
	assert_true(p.attr.ino != st.st_ino && (p.attr.ino & 0xffff) == (st.st_ino & 0xffff));
	uint64_t in = p.node;
	assert_int_equal(host_open(c, in, O_RDWR, &p), 0);
	assert_int_equal(host_write(c, p.fh, 0, "22", 0, &p), 0);
	assert_int_equal(host_name_op(c, MSG_RMDIR, c->root, "m"), -EBUSY);
}

static void test_xdev_hide(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p;

	if (!may_mount)
		skip();
	host_put(&f->hs, "o", "");
	mount_inside(f, "m");
	assert_int_equal(which(c, 0), 2);
	assert_int_equal(which(c, READDIR_PLAIN), 2);
	assert_int_equal(host_lookup(c, c->root, "m", &p), -ENOENT);
}

/* ---- many clients at once ---- */

struct storm {
	struct fixture *f;
	unsigned seed;
	pthread_t thread;
};

static void *storm_main(void *arg)
{
	enum { STEPS = 1500, FHS = 4 };
	static const char *const names[] = {"a", "b", "c", "d", "e"};
	struct storm *s = arg;
	struct host_client *c = malloc(sizeof(*c));
	uint64_t fh[FHS] = {0}, node = 0;
	struct msg p;

	host_client_start(c, &s->f->hs);
	for (int i = 0; i < STEPS; i++) {
		unsigned x = (s->seed = s->seed * 1103515245 + 12345) >> 8;
		const char *name = names[x / 16 % 5];
		uint64_t *h = &fh[x / 128 % FHS];
		struct msg q = {0};

		switch (x % 12) {
		case 0:
		case 1:
			if (host_create(c, c->root, name, O_RDWR, 0644, &p) == 0) {
				if (*h != 0)
					host_close(c, *h);
				*h = p.fh;
			}
			break;
		case 2:
			(void)host_name_op(c, MSG_UNLINK, c->root, name);
			break;
		case 3:
			(void)host_mknod(c, name, S_IFDIR | 0755, &p);
			break;
		case 4:
			(void)host_name_op(c, MSG_RMDIR, c->root, name);
			break;
		case 5:
			MSG_SET(&q, node, c->root);
			MSG_SET(&q, node2, c->root);
			MSG_SET(&q, name, SLICE(name));
			MSG_SET(&q, name2, SLICE(names[x / 512 % 5]));
			MSG_SET(&q, flags, x & 1024 ? RENAME_EXCHANGE : 0);
			(void)host_call(c, MSG_RENAME, &q, &p);
			break;
		case 6:
			if (host_lookup(c, c->root, name, &p) == 0)
				node = p.node;
			break;
		case 7:
			(void)which(c, 0);
			break;
		case 8:
			(void)host_write(c, *h, 0, "text", O_APPEND, &p);
			(void)host_read(c, *h, 0, 4096, &p);
			break;
		case 9:
			if (node != 0)
				host_forget(c, node, 1000);
			(void)host_getattr(c, node, &p);
			break;
		case 10:
			MSG_SET(&q, fh, *h);
			MSG_SET(&q, owner, x / 512 % 3);
			MSG_SET(&q, type, x / 2048 % 3);
			MSG_SET(&q, off, x / 8192 % 8);
			MSG_SET(&q, off2, q.off + 2);
			MSG_SET(&q, flags, x & 4096 ? LOCK_BSD : 0);
			(void)host_call(c, MSG_SETLK, &q, &p);
			break;
		default:
			host_close(c, *h);
			*h = 0;
			break;
		}
	}
	/* Some go without a word, with requests under way. */
	struct msg q = {0};
	MSG_SET(&q, node, c->root);
	(void)host_send(c, MSG_GETATTR, &q);
	host_client_stop(c);
	free(c);
	return NULL;
}

static void test_storm(void **state)
{
	struct storm s[6];

	for (unsigned i = 0; i < 6; i++) {
		s[i] = (struct storm){.f = *state, .seed = i + 1};
		assert_int_equal(pthread_create(&s[i].thread, NULL, storm_main, &s[i]), 0);
	}
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(pthread_join(s[i].thread, NULL), 0);
	/* That every reference was given back is asserted by hnodes_free. */
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_hello),
		T(test_nodes),
		T(test_malformed),
		T(test_deaf_client),
		T(test_many),
		T(test_plain_first),
		cmocka_unit_test_setup_teardown(test_xdev_follow, setup, teardown_mount),
		cmocka_unit_test_setup_teardown(test_xdev_hide, setup_hide, teardown_mount),
		T(test_storm),
	};

	/* Before there are threads. */
	may_mount =
		unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;

	return cmocka_run_group_tests(tests, NULL, NULL);
}
