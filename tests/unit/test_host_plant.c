/*
 * What a guest may leave on the host for others to fall for: set-id files, files of any
 * owner, devices. Without an option, with no_setid, and with squash.
 */
#include <grp.h>
#include <sys/xattr.h>

#include "host/export.h"
#include "host/owners.h"
#include "host_fixture.h"

#define USER  1000
#define GROUP 1001

static int setup_no_setid(void **state)
{
	const struct server_config config = {.no_setid = true};

	return start(state, &config);
}

static struct owners mapped = {.uid = {.ranges = {{0, USER, 1000}}, .n = 1}, .gid = {.ranges = {{0, GROUP, 1000}}, .n = 1}};

static int setup_mapped(void **state)
{
	const struct server_config config = {.special = true, .owners = &mapped};

	return start(state, &config);
}

static int setup_squash(void **state)
{
	const struct server_config config = {
		.special = true, .squash = true, .squash_uid = USER, .squash_gid = GROUP};

	return start(state, &config);
}

static struct stat on_host(const struct fixture *f, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(f->hs.fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static mode_t mode_of(const struct fixture *f, const char *name)
{
	return on_host(f, name).st_mode & 07777;
}

/* ---- whoever changes a file's content takes the bits off ---- */

#define SET(field, value) MSG_SET(q, field, value)

static int do_write(struct fixture *f, uint64_t node, uint64_t fh, struct msg *q, bool strip)
{
	(void)node;
	SET(fh, fh);
	SET(off, 0);
	SET(payload, SLICE("x"));
	if (strip)
		SET(flags, STRIP_IDS);
	return host_call(&f->c, MSG_WRITE, q, NULL);
}

static int do_truncate(struct fixture *f, uint64_t node, uint64_t fh, struct msg *q, bool strip)
{
	(void)fh;
	SET(node, node);
	SET(valid, SET_SIZE);
	SET(size, 1);
	if (strip)
		SET(flags, STRIP_IDS);
	return host_call(&f->c, MSG_SETATTR, q, NULL);
}

static int do_ftruncate(struct fixture *f, uint64_t node, uint64_t fh, struct msg *q, bool strip)
{
	SET(fh, fh);
	return do_truncate(f, node, fh, q, strip);
}

static void caller(struct msg *q, bool strip)
{
	SET(uid, strip ? 1000 : 0);
	SET(gid, strip ? 1000 : 0);
}

static int do_fallocate(struct fixture *f, uint64_t node, uint64_t fh, struct msg *q, bool strip)
{
	(void)node;
	SET(fh, fh);
	SET(off, 0);
	SET(size, 4096);
	caller(q, strip);
	return host_call(&f->c, MSG_FALLOCATE, q, NULL);
}

static int do_copy(struct fixture *f, uint64_t node, uint64_t fh, struct msg *q, bool strip)
{
	struct msg p;

	(void)node;
	host_put(&f->hs, "source", "source");
	assert_int_equal(host_lookup(&f->c, f->c.root, "source", &p), 0);
	assert_int_equal(host_open(&f->c, p.node, O_RDONLY, &p), 0);
	SET(fh, p.fh);
	SET(off, 0);
	SET(fh2, fh);
	SET(off2, 0);
	SET(size, 3);
	caller(q, strip);
	return host_call(&f->c, MSG_COPY, q, NULL);
}

static int do_open_trunc(struct fixture *f, uint64_t node, uint64_t fh, struct msg *q, bool strip)
{
	(void)fh;
	SET(node, node);
	SET(flags, O_WRONLY | O_TRUNC);
	caller(q, strip);
	return host_call(&f->c, MSG_OPEN, q, NULL);
}

static const struct {
	const char *name;
	int (*run)(struct fixture *, uint64_t, uint64_t, struct msg *, bool strip);
	bool gid; /* the request tells the caller's group */
} changes[] = {
	{"write", do_write, false},
	{"truncate", do_truncate, false},
	{"ftruncate", do_ftruncate, false},
	{"fallocate", do_fallocate, true},
	{"copy", do_copy, true},
	{"open(O_TRUNC)", do_open_trunc, true},
};

/* A VFS_CAP_REVISION_2 of no capability but CAP_CHOWN. */
static const unsigned char capability[20] = {1, 0, 0, 2, 1};

/* A set-id file of the host's; 06755, or with a group that may not execute it. */
static void plant(struct fixture *f, mode_t mode)
{
	host_put(&f->hs, "planted", "content");
	int fd = openat(f->hs.fd, "planted", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fchown(fd, 0, 50), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	if (fsetxattr(fd, "security.capability", capability, sizeof(capability), 0) < 0)
		assert_true(errno == EOPNOTSUPP || errno == EPERM);
	assert_int_equal(close(fd), 0);
}

static bool has_capability(const struct fixture *f)
{
	char path[EXPORT_PROC_PATH_MAX], value[64];
	int fd = openat(f->hs.fd, "planted", O_PATH | O_CLOEXEC);
	ssize_t n =
		getxattr(export_proc_path(fd, path), "security.capability", value, sizeof(value));

	(void)close(fd);
	return n >= 0;
}

static void expect_mode(struct fixture *f, size_t i, bool strip, mode_t before, mode_t after)
{
	struct msg p, q = {0};

	plant(f, before);
	assert_int_equal(host_lookup(&f->c, f->c.root, "planted", &p), 0);
	uint64_t node = p.node;
	assert_int_equal(host_open(&f->c, node, O_RDWR, &p), 0);
	uint64_t fh = p.fh;
	int r = changes[i].run(f, node, fh, &q, strip);
	if (r != 0 || mode_of(f, "planted") != after)
		fail_msg("%s%s: %d, mode %o becomes %o", changes[i].name, strip ? "" : " by root",
			 r, (unsigned)before, (unsigned)mode_of(f, "planted"));
	if (has_capability(f))
		fail_msg("%s leaves the capabilities", changes[i].name);
	host_close(&f->c, fh);
	assert_int_equal(unlinkat(f->hs.fd, "planted", 0), 0);
}

static void test_strip(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		expect_mode(f, i, true, 06755, 0755);
		/* who is not of the group may not keep it */
		expect_mode(f, i, true, 02745, changes[i].gid ? 0745 : 02745);
		expect_mode(f, i, true, 0755, 0755);
		expect_mode(f, i, false, 06755, 06755);
	}
}

/* Whoever says that he is root may not keep them either. */
static void test_strip_always(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		expect_mode(f, i, false, 06755, 0755);
		expect_mode(f, i, false, 02745, 0745);
		expect_mode(f, i, true, 06755, 0755);
	}
}

/* ---- what is made ---- */

static void chmod_to(struct fixture *f, uint64_t node, uint64_t mode, struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, node, node);
	MSG_SET(&q, valid, SET_MODE);
	MSG_SET(&q, mode, mode);
	assert_int_equal(host_call(&f->c, MSG_SETATTR, &q, p), 0);
}

static void plain_mode(struct fixture *f, const char *path, uint32_t op, uint32_t mode)
{
	struct host_client plain;
	struct plain_request q = {.op = op, .path = SLICE(path), .mode = mode};
	struct plain_reply reply;
	struct plain_buf out = {0};
	unsigned char *buf = NULL;
	size_t cap = 0, len = 0;
	const char *why;

	host_client_connect(&plain, &f->hs);
	assert_int_equal(plain_request_encode(&q, &out), 0);
	assert_int_equal(stream_send_plain(plain.stream, out.data, out.len), 0);
	assert_int_equal(stream_recv_plain(plain.stream, 65536, &buf, &cap, &len, 5000), 0);
	assert_int_equal(plain_reply_decode(buf, len, &reply, &why), 0);
	assert_int_equal(reply.err, 0);
	plain_buf_done(&out);
	free(buf);
	host_client_stop(&plain);
}

/* The set-id bits of everything that a guest makes; mask: those that are left. */
static void expect_made(struct fixture *f, mode_t mask)
{
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	assert_int_equal(host_create(c, c->root, "created", O_RDWR, 06755, &p), 0);
	assert_int_equal(mode_of(f, "created"), 06755 & mask);
	chmod_to(f, p.node, 0755, &p);
	assert_int_equal(host_lookup(c, c->root, "created", &p), 0);
	chmod_to(f, p.node, 06711, &p);
	assert_int_equal(mode_of(f, "created"), 06711 & mask);
	assert_int_equal(p.attr.mode & 07777, 06711 & mask);
	assert_int_equal(host_mknod(c, "made", S_IFREG | 06755, &p), 0);
	assert_int_equal(mode_of(f, "made"), 06755 & mask);
	int r = host_create(c, c->root, "", O_TMPFILE | O_RDWR, 06755, &p);
	if (r != -EOPNOTSUPP) {
		assert_int_equal(r, 0);
		MSG_SET(&q, node, p.node);
		MSG_SET(&q, node2, c->root);
		MSG_SET(&q, name2, SLICE("named"));
		assert_int_equal(host_call(c, MSG_LINK, &q, &p), 0);
		assert_int_equal(mode_of(f, "named"), 06755 & mask);
	}
	plain_mode(f, "/workspace/plain", 5, 06755);
	assert_int_equal(mode_of(f, "plain"), 06755 & mask);
	plain_mode(f, "/workspace/plain", 2, 06711);
	assert_int_equal(mode_of(f, "plain"), 06711 & mask);
	/* of a directory it says which group its files get */
	assert_int_equal(host_mknod(c, "dir", S_IFDIR | 0755, &p), 0);
	chmod_to(f, p.node, 02755, &p);
	assert_int_equal(mode_of(f, "dir"), 02755);
}

static void test_made(void **state)
{
	expect_made(*state, 07777);
}

static void test_made_no_setid(void **state)
{
	expect_made(*state, 01777);
}

/* ---- one owner for everything ---- */

static void expect_owner(struct fixture *f, const char *name, uid_t uid, gid_t gid)
{
	struct stat st = on_host(f, name);
	struct msg p;

	if (st.st_uid != uid || st.st_gid != gid)
		fail_msg("%s belongs to %u:%u", name, st.st_uid, st.st_gid);
	assert_int_equal(host_lookup(&f->c, f->c.root, name, &p), 0);
	assert_true(p.attr.uid == USER && p.attr.gid == GROUP);
}

static int chown_to(struct fixture *f, uint64_t node, uint64_t uid, uint64_t gid)
{
	struct msg q = {0}, p;

	MSG_SET(&q, node, node);
	MSG_SET(&q, valid, SET_UID | SET_GID);
	MSG_SET(&q, uid, uid);
	MSG_SET(&q, gid, gid);
	return host_call(&f->c, MSG_SETATTR, &q, &p);
}

static void test_squash(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	assert_int_equal(chmod(f->hs.dir, 0777), 0);
	assert_false(c->hello.features & HELLO_ROOT);
	assert_true(c->hello.uid == USER && c->hello.gid == GROUP);
	assert_true(c->hello.attr.uid == USER && c->hello.attr.gid == GROUP);
	/* whoever the caller claims to be */
	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE("created"));
	MSG_SET(&q, flags, O_RDWR);
	MSG_SET(&q, mode, 0644);
	MSG_SET(&q, uid, 0);
	MSG_SET(&q, gid, 0);
	assert_int_equal(host_call(c, MSG_CREATE, &q, &p), 0);
	expect_owner(f, "created", USER, GROUP);
	assert_int_equal(host_mknod(c, "dir", S_IFDIR | 0755, &p), 0);
	expect_owner(f, "dir", USER, GROUP);
	assert_int_equal(host_mknod(c, "socket", S_IFSOCK | 0644, &p), 0);
	expect_owner(f, "socket", USER, GROUP);
	plain_mode(f, "/workspace/plain", 5, 0644);
	expect_owner(f, "plain", USER, GROUP);
	plain_mode(f, "/workspace/plaindir", 6, 0755);
	expect_owner(f, "plaindir", USER, GROUP);
	/* what belongs to others on the host is shown as theirs, and stays what it is */
	host_put(&f->hs, "roots", "x");
	expect_owner(f, "roots", 0, 0);
	assert_int_equal(host_lookup(c, c->root, "roots", &p), 0);
	uint64_t roots = p.node;
	assert_int_equal(chown_to(f, roots, USER, GROUP), 0);
	expect_owner(f, "roots", 0, 0);
	assert_int_equal(chown_to(f, roots, 0, 0), -EPERM);
	assert_int_equal(chown_to(f, roots, USER, 0), -EPERM);
	/* no devices, whatever else is allowed */
	assert_int_equal(host_mknod(c, "null", S_IFCHR | 0666, &p), -EPERM);
	assert_int_equal(host_mknod(c, "disk", S_IFBLK | 0666, &p), -EPERM);
}

/* Only root can give files away. */
/* Whoever says nothing of himself would make things as the server, whom the guest does not have. */
static void test_made_by_nobody(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p;

	assert_int_equal(fchown(f->hs.fd, USER, GROUP), 0);
	for (int named = 0; named < 2; named++) {
		struct msg q = {0};

		MSG_SET(&q, node, c->root);
		MSG_SET(&q, name, SLICE("created"));
		MSG_SET(&q, flags, O_RDWR);
		MSG_SET(&q, mode, 04755);
		if (named) {
			MSG_SET(&q, uid, 0);
			MSG_SET(&q, gid, 0);
		}
		assert_int_equal(host_call(c, MSG_CREATE, &q, &p), named ? 0 : -EPERM);
		assert_int_equal(faccessat(f->hs.fd, "created", F_OK, 0), named ? 0 : -1);
	}
	struct stat st = on_host(f, "created");
	assert_true(st.st_uid == USER && st.st_gid == GROUP);
}

static void test_squash_unprivileged(void **state)
{
	char err[256] = "";
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct server_config config = {.dir = "/tmp", .squash = true, .squash_uid = 1};
		struct export *e;

		if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0 ||
		    export_new(&config, &e, err, sizeof(err)) != -EPERM || strlen(err) == 0)
			_exit(1);
		config.squash_uid = 65534;
		config.squash_gid = 65534;
		_exit(export_new(&config, &e, err, sizeof(err)) == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
#define T(test, setup_) cmocka_unit_test_setup_teardown(test, setup_, teardown)
	const struct CMUnitTest tests[] = {
		T(test_strip, setup),
		T(test_strip_always, setup_no_setid),
		T(test_strip_always, setup_squash),
		T(test_made, setup),
		T(test_made_no_setid, setup_no_setid),
		T(test_made_no_setid, setup_squash),
		T(test_squash, setup_squash),
		T(test_made_by_nobody, setup_mapped),
		cmocka_unit_test(test_squash_unprivileged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
