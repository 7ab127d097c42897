/* Every operation of the server on files, and what must not work. */
#include "host_fixture.h"

#include "host/ops.h"

#include <dirent.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

static void test_file(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	assert_int_equal(host_create(c, c->root, "a", O_RDWR | O_EXCL, 0640, &p), 0);
	uint64_t node = p.node, fh = p.fh;
	assert_int_equal(p.attr.mode, S_IFREG | 0640);
	assert_true(MSG_HAS(&p, attr2) && S_ISDIR(p.attr2.mode));
	assert_int_equal(host_create(c, c->root, "a", O_RDWR | O_EXCL, 0640, &p), -EEXIST);
	assert_int_equal(host_write(c, fh, 0, "hello", O_RDWR, &p), 0);
	assert_true(p.size == 5 && p.off == 0 && p.attr.size == 5);
	uint64_t version = p.attr.version;
	/* What the guest's kernel thinks is the end does not matter. */
	assert_int_equal(host_write(c, fh, 2, " world", O_RDWR | O_APPEND, &p), 0);
	assert_true(p.size == 6 && p.off == 5 && p.attr.size == 11);
	assert_true(p.attr.version > version);
	assert_int_equal(host_read(c, fh, 0, 100, &p), 0);
	assert_int_equal(p.payload.len, 11);
	assert_memory_equal(p.payload.data, "hello world", 11);
	assert_int_equal(host_read(c, fh, 11, 100, &p), 0);
	assert_int_equal(p.payload.len, 0);
	assert_int_equal(host_read(c, fh, 0, MSG_PAYLOAD_MAX + 1, &p), -EINVAL);

	MSG_SET(&q, node, node);
	MSG_SET(&q, valid, SET_SIZE | SET_MODE | SET_MTIME);
	MSG_SET(&q, size, 5);
	MSG_SET(&q, mode, 0600);
	MSG_SET(&q, mtime, ((struct msg_time){-12345, 6789}));
	assert_int_equal(host_call(c, MSG_SETATTR, &q, &p), 0);
	assert_true(p.attr.size == 5 && (p.attr.mode & 07777) == 0600);
	assert_true(p.attr.mtime.sec == -12345 && p.attr.mtime.nsec == 6789);

	/* A create of what is there opens it, truncated if asked. */
	assert_int_equal(host_create(c, c->root, "a", O_RDWR | O_TRUNC, 0640, &p), 0);
	assert_true(p.node == node && p.attr.size == 0 && p.fh != fh);
	host_close(c, p.fh);
	assert_int_equal(host_read(c, p.fh, 0, 1, NULL), -EBADF);

	/* Unlinked, it stays readable by handle and by node. */
	assert_int_equal(host_write(c, fh, 0, "gone", O_RDWR, &p), 0);
	assert_int_equal(host_name_op(c, MSG_UNLINK, c->root, "a"), 0);
	assert_int_equal(host_lookup(c, c->root, "a", &p), -ENOENT);
	assert_int_equal(host_read(c, fh, 0, 10, &p), 0);
	assert_int_equal(p.payload.len, 4);
	host_close(c, fh);
	assert_int_equal(host_getattr(c, node, &p), 0);
	assert_true(p.attr.nlink == 0 && p.attr.size == 4);
	assert_int_equal(host_open(c, node, O_RDONLY, &p), 0);
	host_forget(c, node, 2);
	expect_forgotten(c, node);
}

static void test_names(void **state)
{
	static const struct {
		const char *name;
		size_t len;
		int r;
	} bad[] = {
		{"", 0, -EINVAL},	{".", 1, -EINVAL},    {"..", 2, -EINVAL},
		{"a/b", 3, -EINVAL},	{"/etc", 4, -EINVAL}, {"a\0b", 3, -EINVAL},
		{"../etc", 6, -EINVAL}, {"/", 1, -EINVAL},
	};
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	char longest[MSG_NAME_MAX + 2];
	struct msg p;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		static const uint64_t ops[] = {MSG_LOOKUP, MSG_MKNOD,  MSG_SYMLINK, MSG_UNLINK,
					       MSG_RMDIR,  MSG_CREATE, MSG_RENAME,  MSG_LINK};

		for (size_t k = 0; k < sizeof(ops) / sizeof(ops[0]); k++) {
			struct msg q = {0};

			MSG_SET(&q, node, c->root);
			MSG_SET(&q, node2, c->root);
			MSG_SET(&q, name, ((struct slice){bad[i].name, bad[i].len}));
			MSG_SET(&q, name2, q.name);
			MSG_SET(&q, mode, 0644);
			MSG_SET(&q, flags, 0);
			if (ops[k] == MSG_SYMLINK)
				MSG_SET(&q, payload, SLICE("target"));
			assert_int_equal(host_call(c, ops[k], &q, &p), bad[i].r);
		}
	}
	memset(longest, 'n', sizeof(longest));
	longest[MSG_NAME_MAX + 1] = '\0';
	assert_int_equal(host_create(c, c->root, longest, O_RDWR, 0600, &p), -ENAMETOOLONG);
	longest[MSG_NAME_MAX] = '\0';
	assert_int_equal(host_create(c, c->root, longest, O_RDWR, 0600, &p), 0);
	assert_int_equal(host_create(c, c->root, "\xff\x01\n ", O_RDWR, 0600, &p), 0);
}

static int host_symlink(struct host_client *c, const char *name, const char *to, struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE(name));
	MSG_SET(&q, payload, SLICE(to));
	return host_call(c, MSG_SYMLINK, &q, p);
}

static void test_symlink(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	assert_int_equal(host_symlink(c, "s", "/etc/passwd", &p), 0);
	assert_true(S_ISLNK(p.attr.mode));
	uint64_t node = p.node;
	MSG_SET(&q, node, node);
	assert_int_equal(host_call(c, MSG_READLINK, &q, &p), 0);
	assert_int_equal(p.payload.len, strlen("/etc/passwd"));
	assert_memory_equal(p.payload.data, "/etc/passwd", p.payload.len);
	/* The server never follows it. */
	assert_int_equal(host_open(c, node, O_RDONLY, &p), -ELOOP);
	assert_int_equal(host_lookup(c, node, "x", &p), -ENOTDIR);
	assert_int_equal(host_create(c, c->root, "s", O_RDWR, 0600, &p), -ESTALE);
	assert_int_equal(host_create(c, c->root, "s", O_RDWR | O_EXCL, 0600, &p), -EEXIST);
	/* Nor do attributes and links. */
	struct msg set = {0};
	MSG_SET(&set, node, node);
	MSG_SET(&set, valid, SET_MTIME);
	MSG_SET(&set, mtime, ((struct msg_time){1, 2}));
	assert_int_equal(host_call(c, MSG_SETATTR, &set, &p), 0);
	assert_true(S_ISLNK(p.attr.mode) && p.attr.mtime.sec == 1);
	MSG_SET(&set, valid, SET_MODE);
	MSG_SET(&set, mode, 0777);
	assert_int_equal(host_call(c, MSG_SETATTR, &set, &p), -EOPNOTSUPP);
	MSG_SET(&set, valid, SET_SIZE);
	MSG_SET(&set, size, 0);
	assert_int_equal(host_call(c, MSG_SETATTR, &set, &p), -EINVAL);
	struct msg link = {0};
	MSG_SET(&link, node, node);
	MSG_SET(&link, node2, c->root);
	MSG_SET(&link, name2, SLICE("s2"));
	assert_int_equal(host_call(c, MSG_LINK, &link, &p), 0);
	assert_true(S_ISLNK(p.attr.mode) && p.node == node && p.attr.nlink == 2);

	MSG_SET(&q, node, c->root);
	assert_int_equal(host_call(c, MSG_READLINK, &q, &p), -EINVAL);
}

static void test_rename(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	host_put(&f->hs, "a", "aa");
	host_put(&f->hs, "b", "b");
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	uint64_t a = p.node;
	assert_int_equal(host_lookup(c, c->root, "b", &p), 0);
	uint64_t b = p.node;
	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE("a"));
	MSG_SET(&q, node2, c->root);
	MSG_SET(&q, name2, SLICE("b"));
	MSG_SET(&q, flags, RENAME_NOREPLACE);
	assert_int_equal(host_call(c, MSG_RENAME, &q, &p), -EEXIST);
	MSG_SET(&q, flags, RENAME_EXCHANGE);
	assert_int_equal(host_call(c, MSG_RENAME, &q, &p), 0);
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	assert_true(p.node == b);
	MSG_SET(&q, flags, 8);
	assert_int_equal(host_call(c, MSG_RENAME, &q, &p), -EINVAL);
	MSG_SET(&q, flags, 0);
	assert_int_equal(host_call(c, MSG_RENAME, &q, &p), 0);
	assert_true(MSG_HAS(&p, attr) && p.attr.size == 1); /* what was moved */
	assert_true(MSG_HAS(&p, attr2) && MSG_HAS(&p, attr3));
	/* What was under the new name is gone from there, but not for us. */
	assert_int_equal(host_getattr(c, a, &p), 0);
	assert_true(p.attr.nlink == 0 && p.attr.size == 2);
	assert_int_equal(host_lookup(c, c->root, "b", &p), 0);
	assert_true(p.node == b);
}

/* As overlayfs does it: what marks a name that has gone is a character device 0. */
static void test_whiteout(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	host_put(&f->hs, "a", "aa");
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	uint64_t a = p.node;
	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE("a"));
	MSG_SET(&q, node2, c->root);
	MSG_SET(&q, name2, SLICE("b"));
	MSG_SET(&q, flags, RENAME_WHITEOUT);
	assert_int_equal(host_call(c, MSG_RENAME, &q, &p), 0);
	assert_true(p.node == a && p.attr.size == 2);
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	assert_true(S_ISCHR(p.attr.mode) && p.attr.rdev == 0 && p.node != a);
	assert_int_equal(host_open(c, p.node, O_RDONLY, &p), -ENXIO);
	/* over what is there, which goes */
	host_put(&f->hs, "c", "c");
	MSG_SET(&q, name, SLICE("b"));
	MSG_SET(&q, name2, SLICE("c"));
	assert_int_equal(host_call(c, MSG_RENAME, &q, &p), 0);
	assert_int_equal(host_lookup(c, c->root, "c", &p), 0);
	assert_true(p.node == a);
	/* made, and linked */
	q = (struct msg){0};
	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE("w"));
	MSG_SET(&q, mode, S_IFCHR);
	assert_int_equal(host_call(c, MSG_MKNOD, &q, &p), 0);
	assert_true(S_ISCHR(p.attr.mode) && p.attr.rdev == 0);
	MSG_SET(&q, node, p.node);
	MSG_SET(&q, node2, c->root);
	MSG_SET(&q, name2, SLICE("w2"));
	assert_int_equal(host_call(c, MSG_LINK, &q, &p), 0);
	assert_int_equal(p.attr.nlink, 2);
	/* blocks are no whiteouts */
	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE("block"));
	MSG_SET(&q, mode, S_IFBLK);
	assert_int_equal(host_call(c, MSG_MKNOD, &q, &p), -EPERM);
}

struct swapper {
	int dir;
	_Atomic bool stop;
};

static void *swap_main(void *arg)
{
	struct swapper *s = arg;

	while (!s->stop)
		(void)renameat2(s->dir, "a", s->dir, "b", RENAME_EXCHANGE);
	return NULL;
}

/* The host puts something else under the old name just then: what is told is what has moved. */
static void test_rename_of_what_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct swapper s = {.dir = f->hs.fd};
	struct msg p, q = {0}, back = {0};
	pthread_t thread;
	unsigned told = 0;

	host_put(&f->hs, "a", "aa");
	host_put(&f->hs, "b", "b");
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	assert_int_equal(host_lookup(c, c->root, "b", &p), 0);
	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE("a"));
	MSG_SET(&q, node2, c->root);
	MSG_SET(&q, name2, SLICE("moved"));
	back = q;
	MSG_SET(&back, name, SLICE("moved"));
	MSG_SET(&back, name2, SLICE("a"));
	assert_int_equal(pthread_create(&thread, NULL, swap_main, &s), 0);
	for (int i = 0; i < 3000; i++) {
		struct stat st;

		assert_int_equal(host_call(c, MSG_RENAME, &q, &p), 0);
		assert_int_equal(fstatat(f->hs.fd, "moved", &st, 0), 0);
		if (MSG_HAS(&p, node)) {
			assert_true(p.attr.ino == st.st_ino);
			told++;
		}
		assert_int_equal(host_call(c, MSG_RENAME, &back, &p), 0);
	}
	s.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(told > 0);
}

static void test_mknod(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p;

	assert_int_equal(host_mknod(c, "f", S_IFREG | 0444, &p), 0);
	assert_int_equal(host_mknod(c, "p", S_IFIFO | 0600, &p), 0);
	uint64_t fifo = p.node;
	/* Opening it here would block, or give the guest a pipe to a host's program. */
	assert_int_equal(host_open(c, fifo, O_RDONLY, &p), -ENXIO);
	assert_int_equal(host_create(c, c->root, "p", O_RDWR, 0600, &p), -ESTALE);
	assert_int_equal(host_mknod(c, "d", S_IFDIR | 0700, &p), 0);
	assert_int_equal(p.attr.mode, S_IFDIR | 0700);
	uint64_t dir = p.node;
	assert_int_equal(host_open(c, dir, O_RDONLY, &p), -EISDIR);
	assert_int_equal(host_mknod(c, "c", S_IFCHR | 0600, &p), -EPERM);
	assert_int_equal(host_mknod(c, "b", S_IFBLK | 0600, &p), -EPERM);
	assert_int_equal(host_mknod(c, "s", S_IFSOCK | 0600, &p), -EPERM);
	assert_int_equal(host_mknod(c, "l", S_IFLNK | 0600, &p), -EINVAL);
	assert_int_equal(host_create(c, dir, "in", O_RDWR, 0600, &p), 0);
	assert_int_equal(host_name_op(c, MSG_RMDIR, c->root, "d"), -ENOTEMPTY);
	assert_int_equal(host_name_op(c, MSG_RMDIR, c->root, "f"), -ENOTDIR);
	assert_int_equal(host_name_op(c, MSG_UNLINK, c->root, "d"), -EISDIR);
	assert_int_equal(host_name_op(c, MSG_UNLINK, dir, "in"), 0);
	assert_int_equal(host_name_op(c, MSG_RMDIR, c->root, "d"), 0);
	/* Somebody's working directory still has attributes, and an empty listing. */
	assert_int_equal(host_getattr(c, dir, &p), 0);
	struct msg q = {0};
	MSG_SET(&q, node, dir);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, size, 4096);
	assert_int_equal(host_call(c, MSG_READDIRPLUS, &q, &p), 0);
	assert_true(p.flags == READDIR_END);
}

static void test_special(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p;

	assert_int_equal(host_mknod(c, "s", S_IFSOCK | 0600, &p), 0);
	assert_int_equal(host_open(c, p.node, O_RDONLY, &p), -ENXIO);
	if (geteuid() != 0)
		return;
	assert_int_equal(host_mknod(c, "c", S_IFCHR | 0600, &p), 0);
	assert_true(p.attr.rdev == ((uint64_t)1 << 32 | 3));
	assert_int_equal(host_open(c, p.node, O_RDONLY, &p), -ENXIO);
}

static void test_owner(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	const unsigned char groups[] = {0, 0, 0x13, 0x88, 0, 0, 0x13, 0x89}; /* 5000, 5001 */
	struct msg p, q = {0};

	if (geteuid() != 0)
		skip();
	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE("mine"));
	MSG_SET(&q, flags, O_RDWR | O_EXCL);
	MSG_SET(&q, mode, 0600);
	MSG_SET(&q, uid, 1234);
	MSG_SET(&q, gid, 5678);
	MSG_SET(&q, groups, ((struct slice){groups, sizeof(groups)}));
	assert_int_equal(host_call(c, MSG_CREATE, &q, &p), 0);
	assert_true(p.attr.uid == 1234 && p.attr.gid == 5678);

	/* A setgid directory gives its group; a bit that the caller may not set goes. */
	assert_int_equal(mkdirat(f->hs.fd, "sgid", 0755), 0);
	assert_int_equal(fchownat(f->hs.fd, "sgid", 1, 5001, 0), 0);
	assert_int_equal(fchmodat(f->hs.fd, "sgid", 02755, 0), 0);
	assert_int_equal(host_lookup(c, c->root, "sgid", &p), 0);
	uint64_t dir = p.node;
	MSG_SET(&q, node, dir);
	MSG_SET(&q, name, SLICE("member"));
	MSG_SET(&q, mode, 02771);
	assert_int_equal(host_call(c, MSG_CREATE, &q, &p), 0);
	assert_true(p.attr.gid == 5001 && p.attr.mode == (S_IFREG | 02771));
	MSG_SET(&q, name, SLICE("stranger"));
	MSG_SET(&q, groups, ((struct slice){groups, 4}));
	assert_int_equal(host_call(c, MSG_CREATE, &q, &p), 0);
	assert_true(p.attr.gid == 5001 && p.attr.mode == (S_IFREG | 0771)); /* CVE-2022-0358 */
	MSG_SET(&q, name, SLICE("subdir"));
	MSG_SET(&q, mode, S_IFDIR | 0755);
	assert_int_equal(host_call(c, MSG_MKNOD, &q, &p), 0);
	assert_true(p.attr.uid == 1234 && p.attr.gid == 5001);
	assert_true(p.attr.mode == (S_IFDIR | 02755));
	/* Where the caller's own permissions would not let it: its kernel has checked. */
	assert_int_equal(fchmodat(f->hs.fd, "sgid", 0700, 0), 0);
	MSG_SET(&q, name, SLICE("link"));
	MSG_SET(&q, payload, SLICE("to"));
	assert_int_equal(host_call(c, MSG_SYMLINK, &q, &p), 0);
	assert_int_equal(p.attr.uid, 1234);
	/* The thread is root again. */
	assert_int_equal(host_create(c, c->root, "root", O_RDWR, 0600, &p), 0);
	assert_true(p.attr.uid == 0 && p.attr.gid == 0);
	MSG_SET(&q, groups, ((struct slice){groups, 3}));
	assert_int_equal(host_call(c, MSG_SYMLINK, &q, &p), -EINVAL);
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	host_put(&f->hs, "a", "text");
	assert_true(c->hello.features & HELLO_READONLY);
	assert_int_equal(host_create(c, c->root, "b", O_RDONLY, 0600, &p), -EROFS);
	assert_int_equal(host_mknod(c, "b", S_IFREG, &p), -EROFS);
	assert_int_equal(host_symlink(c, "b", "a", &p), -EROFS);
	assert_int_equal(host_name_op(c, MSG_UNLINK, c->root, "a"), -EROFS);
	assert_int_equal(host_name_op(c, MSG_RMDIR, c->root, "a"), -EROFS);
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	uint64_t a = p.node;
	assert_int_equal(host_open(c, a, O_RDWR, &p), -EROFS);
	assert_int_equal(host_open(c, a, O_ACCMODE, &p), -EROFS);
	assert_int_equal(host_open(c, a, O_RDONLY | O_TRUNC, &p), -EROFS);
	MSG_SET(&q, node, a);
	MSG_SET(&q, name, SLICE("a"));
	MSG_SET(&q, node2, c->root);
	MSG_SET(&q, name2, SLICE("user.x"));
	MSG_SET(&q, valid, 0);
	MSG_SET(&q, payload, SLICE("x"));
	assert_int_equal(host_call(c, MSG_SETATTR, &q, &p), -EROFS);
	assert_int_equal(host_call(c, MSG_LINK, &q, &p), -EROFS);
	assert_int_equal(host_call(c, MSG_RENAME, &q, &p), -EROFS);
	assert_int_equal(host_call(c, MSG_SETXATTR, &q, &p), -EROFS);
	assert_int_equal(host_call(c, MSG_REMOVEXATTR, &q, &p), -EROFS);
	assert_int_equal(host_open(c, a, O_RDONLY, &p), 0);
	assert_int_equal(host_write(c, p.fh, 0, "x", 0, NULL), -EROFS);
	assert_int_equal(host_read(c, p.fh, 0, 4, &p), 0);
	assert_int_equal(p.payload.len, 4);
}

static void test_tmpfile(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	int r = host_create(c, c->root, "", O_TMPFILE | O_RDWR, 0600, &p);
	if (r == -EOPNOTSUPP)
		skip();
	assert_int_equal(r, 0);
	assert_true(p.attr.nlink == 0);
	uint64_t node = p.node;
	host_close(c, p.fh);
	assert_int_equal(host_getattr(c, node, &p), 0);
	MSG_SET(&q, node, node);
	MSG_SET(&q, node2, c->root);
	MSG_SET(&q, name2, SLICE("named"));
	assert_int_equal(host_call(c, MSG_LINK, &q, &p), 0);
	assert_int_equal(host_lookup(c, c->root, "named", &p), 0);
	assert_true(p.node == node && p.attr.nlink == 1);
}

static void test_data(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};
	char *big = malloc(MSG_PAYLOAD_MAX);

	memset(big, 'x', MSG_PAYLOAD_MAX);
	assert_int_equal(host_create(c, c->root, "a", O_RDWR, 0600, &p), 0);
	uint64_t node = p.node, fh = p.fh;
	MSG_SET(&q, fh, fh);
	MSG_SET(&q, off, MSG_PAYLOAD_MAX);
	MSG_SET(&q, payload, ((struct slice){big, MSG_PAYLOAD_MAX}));
	assert_int_equal(host_call(c, MSG_WRITE, &q, &p), 0);
	assert_true(p.size == MSG_PAYLOAD_MAX && p.attr.size == 2 * MSG_PAYLOAD_MAX);
	assert_int_equal(host_read(c, fh, MSG_PAYLOAD_MAX, MSG_PAYLOAD_MAX, &p), 0);
	assert_int_equal(p.payload.len, MSG_PAYLOAD_MAX);
	assert_memory_equal(p.payload.data, big, MSG_PAYLOAD_MAX);
	free(big);

	struct msg seek = {0};
	MSG_SET(&seek, fh, fh);
	MSG_SET(&seek, off, 0);
	MSG_SET(&seek, flags, SEEK_DATA);
	assert_int_equal(host_call(c, MSG_LSEEK, &seek, &p), 0);
	assert_true(p.off == 0 || p.off == MSG_PAYLOAD_MAX);
	MSG_SET(&seek, flags, SEEK_END);
	assert_int_equal(host_call(c, MSG_LSEEK, &seek, &p), -EINVAL);
	MSG_SET(&seek, flags, SEEK_HOLE);
	MSG_SET(&seek, off, UINT64_MAX);
	assert_int_equal(host_call(c, MSG_LSEEK, &seek, &p), -ENXIO);

	struct msg alloc = {0};
	MSG_SET(&alloc, fh, fh);
	MSG_SET(&alloc, off, MSG_PAYLOAD_MAX);
	MSG_SET(&alloc, size, 4096);
	MSG_SET(&alloc, flags, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	assert_int_equal(host_call(c, MSG_FALLOCATE, &alloc, &p), 0);
	assert_int_equal(host_read(c, fh, MSG_PAYLOAD_MAX, 1, &p), 0);
	assert_int_equal(c->payload[0], 0);

	assert_int_equal(host_create(c, c->root, "copy", O_RDWR, 0600, &p), 0);
	struct msg copy = {0};
	MSG_SET(&copy, fh, fh);
	MSG_SET(&copy, off, MSG_PAYLOAD_MAX + 8192);
	MSG_SET(&copy, fh2, p.fh);
	MSG_SET(&copy, off2, 10);
	MSG_SET(&copy, size, 5);
	assert_int_equal(host_call(c, MSG_COPY, &copy, &p), 0);
	assert_true(p.size == 5 && p.attr.size == 15);

	struct msg sync = {0};
	MSG_SET(&sync, node, node);
	assert_int_equal(host_call(c, MSG_FSYNC, &sync, &p), 0);
	MSG_SET(&sync, node, c->root);
	assert_int_equal(host_call(c, MSG_FSYNC, &sync, &p), 0);
	MSG_SET(&sync, fh, fh);
	MSG_SET(&sync, flags, 1);
	assert_int_equal(host_call(c, MSG_FSYNC, &sync, &p), 0);
	assert_int_equal(host_call(c, MSG_FLUSH, &sync, &p), 0);
	assert_int_equal(host_call(c, MSG_STATFS, &sync, &p), 0);
	assert_true(p.fs.bsize > 0 && p.fs.namemax == 255);
	assert_int_equal(host_call(c, MSG_PING, &sync, &p), 0);
}

static void test_xattr(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	host_put(&f->hs, "a", "");
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	MSG_SET(&q, node, p.node);
	MSG_SET(&q, name2, SLICE("user.color"));
	MSG_SET(&q, payload, SLICE("green"));
	MSG_SET(&q, size, 0);
	int r = host_call(c, MSG_SETXATTR, &q, &p);
	if (r == -EOPNOTSUPP)
		skip();
	assert_int_equal(r, 0);
	MSG_SET(&q, flags, 1); /* XATTR_CREATE */
	assert_int_equal(host_call(c, MSG_SETXATTR, &q, &p), -EEXIST);
	q.present &= ~MSG_BIT(payload);
	assert_int_equal(host_call(c, MSG_GETXATTR, &q, &p), 0);
	assert_true(p.size == 5 && !MSG_HAS(&p, payload));
	MSG_SET(&q, size, 4);
	assert_int_equal(host_call(c, MSG_GETXATTR, &q, &p), -ERANGE);
	MSG_SET(&q, size, 5);
	assert_int_equal(host_call(c, MSG_GETXATTR, &q, &p), 0);
	assert_memory_equal(p.payload.data, "green", 5);
	MSG_SET(&q, size, 100);
	assert_int_equal(host_call(c, MSG_LISTXATTR, &q, &p), 0);
	assert_true(p.size == 11 && p.payload.len == 11);
	MSG_SET(&q, size, 3);
	assert_int_equal(host_call(c, MSG_LISTXATTR, &q, &p), -ERANGE);
	assert_int_equal(host_call(c, MSG_REMOVEXATTR, &q, &p), 0);
	assert_int_equal(host_call(c, MSG_GETXATTR, &q, &p), -ENODATA);
	static const char *const others[] = {"trusted.x", "security.capability",
					     "system.posix_acl_access", "plain"};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		MSG_SET(&q, name2, SLICE(others[i]));
		MSG_SET(&q, flags, 0);
		MSG_SET(&q, payload, SLICE("x"));
		assert_int_equal(host_call(c, MSG_SETXATTR, &q, &p), -EOPNOTSUPP);
	}
}

static int host_acl(const char *dir, const char *name, const char *attr, unsigned group_perm)
{
	/* user::rwx, user:1234:rwx, group::PERM, mask::rwx, other::--- */
	struct {
		uint32_t version;
		struct {
			uint16_t tag, perm;
			uint32_t id;
		} e[5];
	} acl = {2,
		 {{1, 7, UINT32_MAX},
		  {2, 7, 1234},
		  {4, (uint16_t)group_perm, UINT32_MAX},
		  {16, 7, UINT32_MAX},
		  {32, 0, UINT32_MAX}}};
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return setxattr(path, attr, &acl, sizeof(acl), 0);
}

static int host_make(struct host_client *c, uint64_t dir, const char *name, uint64_t mode,
		     uint64_t mask, struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, node, dir);
	MSG_SET(&q, name, SLICE(name));
	MSG_SET(&q, mode, mode);
	if (mask != 0)
		MSG_SET(&q, umask, mask);
	if (!S_ISREG(mode))
		return host_call(c, MSG_MKNOD, &q, p);
	MSG_SET(&q, flags, O_RDWR);
	return host_call(c, MSG_CREATE, &q, p);
}

static void test_umask(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p;

	if (!(c->hello.features & HELLO_UMASK))
		skip();
	assert_int_equal(host_make(c, c->root, "f", S_IFREG | 0666, 027, &p), 0);
	assert_int_equal(p.attr.mode & 07777, 0640);
	assert_int_equal(host_make(c, c->root, "none", S_IFREG | 0666, 0, &p), 0);
	assert_int_equal(p.attr.mode & 07777, 0666);
	assert_int_equal(host_make(c, c->root, "pipe", S_IFIFO | 0666, 0777, &p), 0);
	assert_int_equal(p.attr.mode & 07777, 0);
	assert_int_equal(host_make(c, c->root, "d", S_IFDIR | 0777, 077, &p), 0);
	assert_int_equal(p.attr.mode & 07777, 0700);
	uint64_t dir = p.node;
	if (host_acl(f->hs.dir, "d", "system.posix_acl_default", 7) < 0)
		skip();
	/* the default ACL takes the place of the umask */
	assert_int_equal(host_make(c, dir, "f", S_IFREG | 0666, 077, &p), 0);
	assert_int_equal(p.attr.mode & 07777, 0660);
	assert_int_equal(host_make(c, dir, "d", S_IFDIR | 0777, 077, &p), 0);
	assert_int_equal(p.attr.mode & 07777, 0770);
	assert_int_equal(host_make(c, dir, "p", S_IFIFO | 0666, 022, &p), 0);
	assert_int_equal(p.attr.mode & 07777, 0660);
	/* and this process's own stays what it was */
	assert_int_equal(umask(0), 0);
}

/* Attributes say who has no ACL, to those who have asked. */
static void test_acl(void **state)
{
	struct fixture *f = *state;
	struct msg p, q = {0};
	struct host_client c;

	host_client_connect(&c, &f->hs);
	host_client_hello_with(&c, HELLO_ACL);
	assert_true(c.hello.features & HELLO_ACL);
	assert_false(f->c.hello.features & HELLO_ACL);
	host_put(&f->hs, "a", "");
	assert_int_equal(host_lookup(&c, c.root, "a", &p), 0);
	uint64_t a = p.node;
	assert_int_equal(p.attr.flags, ATTR_NO_ACL);
	assert_int_equal(host_lookup(&f->c, f->c.root, "a", &p), 0);
	assert_int_equal(p.attr.flags, 0);
	if (host_acl(f->hs.dir, "a", "system.posix_acl_access", 0) < 0)
		goto end;
	assert_int_equal(host_getattr(&c, a, &p), 0);
	assert_int_equal(p.attr.flags, 0);
	MSG_SET(&q, node, a);
	MSG_SET(&q, name2, SLICE("system.posix_acl_access"));
	MSG_SET(&q, size, 100);
	assert_int_equal(host_call(&c, MSG_GETXATTR, &q, &p), 0);
	assert_int_equal(p.size, 4 + 5 * 8);
	assert_int_equal(host_call(&c, MSG_LISTXATTR, &q, &p), 0);
	assert_memory_equal(p.payload.data, "system.posix_acl_access", 24);
	assert_int_equal(host_call(&c, MSG_REMOVEXATTR, &q, &p), 0);
	assert_true(MSG_HAS(&p, attr) && p.attr.flags == ATTR_NO_ACL);
end:
	host_client_stop(&c);
}

/* An ACL that somebody sets who is not of the file's group takes its set-group-ID bit off. */
static void test_acl_strips(void **state)
{
	struct fixture *f = *state;
	unsigned char value[4 + 5 * 8];
	char path[128];
	struct msg p, q = {0};
	struct host_client c;

	if (geteuid() != 0)
		skip();
	host_put(&f->hs, "a", "");
	(void)snprintf(path, sizeof(path), "%s/a", f->hs.dir);
	if (host_acl(f->hs.dir, "a", "system.posix_acl_access", 5) < 0)
		skip();
	assert_int_equal(getxattr(path, "system.posix_acl_access", value, sizeof(value)),
			 (int)sizeof(value));
	assert_int_equal(chown(path, 1000, 2000), 0);
	host_client_connect(&c, &f->hs);
	host_client_hello_with(&c, HELLO_ACL);
	assert_int_equal(host_lookup(&c, c.root, "a", &p), 0);
	MSG_SET(&q, node, p.node);
	MSG_SET(&q, name2, SLICE("system.posix_acl_access"));
	MSG_SET(&q, payload, ((struct slice){value, sizeof(value)}));
	MSG_SET(&q, uid, 1000);
	for (unsigned gid = 2000; gid <= 2001; gid++) {
		assert_int_equal(chmod(path, 02770), 0);
		MSG_SET(&q, gid, gid);
		assert_int_equal(host_call(&c, MSG_SETXATTR, &q, &p), 0);
		assert_int_equal(p.attr.mode & 07777, gid == 2000 ? 02770 : 0770);
	}
	host_client_stop(&c);
}

/* What overlayfs notes in its upper directory. */
static void test_trusted(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};

	if (geteuid() != 0)
		skip();
	host_put(&f->hs, "a", "");
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	MSG_SET(&q, node, p.node);
	MSG_SET(&q, name2, SLICE("trusted.overlay.opaque"));
	MSG_SET(&q, payload, SLICE("y"));
	MSG_SET(&q, size, 100);
	assert_int_equal(host_call(c, MSG_SETXATTR, &q, &p), 0);
	q.present &= ~MSG_BIT(payload);
	assert_int_equal(host_call(c, MSG_GETXATTR, &q, &p), 0);
	assert_int_equal(p.size, 1);
	assert_int_equal(host_call(c, MSG_LISTXATTR, &q, &p), 0);
	assert_memory_equal(p.payload.data, "trusted.overlay.opaque", 23);
	MSG_SET(&q, name2, SLICE("trusted.x"));
	assert_int_equal(host_call(c, MSG_GETXATTR, &q, &p), -EOPNOTSUPP);
}

/* How many descriptors of this process, which is the server, are open for writing the file. */
static unsigned writers_of(const struct fixture *f, const char *name)
{
	char path[128], at[64], to[256], line[64];
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *d;
	unsigned n = 0, flags;

	assert_non_null(dir);
	(void)snprintf(path, sizeof(path), "%s/%s", f->hs.dir, name);
	while ((d = readdir(dir)) != NULL) {
		(void)snprintf(at, sizeof(at), "/proc/self/fd/%.20s", d->d_name);
		ssize_t len = readlink(at, to, sizeof(to));

		if (len < 0 || (size_t)len != strlen(path) || memcmp(to, path, (size_t)len) != 0)
			continue;
		(void)snprintf(at, sizeof(at), "/proc/self/fdinfo/%.20s", d->d_name);
		FILE *info = fopen(at, "re");
		while (info != NULL && fgets(line, sizeof(line), info) != NULL)
			if (sscanf(line, "flags: %o", &flags) == 1)
				n += (flags & O_ACCMODE) != O_RDONLY;
		if (info != NULL)
			(void)fclose(info);
	}
	(void)closedir(dir);
	return n;
}

static int host_flush(struct host_client *c, uint64_t fh, uint64_t flags)
{
	struct msg q = {0};

	MSG_SET(&q, fh, fh);
	if (flags != 0)
		MSG_SET(&q, flags, flags);
	return host_call(c, MSG_FLUSH, &q, NULL);
}

static int host_set(struct host_client *c, uint64_t node, uint64_t valid, uint64_t v, uint64_t fh)
{
	struct msg q = {0};

	MSG_SET(&q, node, node);
	MSG_SET(&q, valid, valid);
	if (valid == SET_MODE)
		MSG_SET(&q, mode, v);
	else
		MSG_SET(&q, size, v);
	if (fh != 0)
		MSG_SET(&q, fh, fh);
	return host_call(c, MSG_SETATTR, &q, NULL);
}

/* The host can execute what is flushed, and whoever has it open can go on writing. */
/* Held while a CLOSE is not to go on when the next frame is received. */
static pthread_mutex_t close_goes_on = PTHREAD_MUTEX_INITIALIZER;

void __real_turn_pass(struct turn *turn);
void __wrap_turn_pass(struct turn *turn);
void __wrap_turn_pass(struct turn *turn)
{
	const struct request *r =
		(const void *)((const char *)turn - offsetof(struct request, turn));

	__real_turn_pass(turn);
	if (r->q.op != MSG_CLOSE)
		return;
	(void)pthread_mutex_lock(&close_goes_on);
	(void)pthread_mutex_unlock(&close_goes_on);
}

static void test_give_up(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p;

	assert_true(c->hello.features & HELLO_GIVE_UP);
	assert_int_equal(host_create(c, c->root, "f", O_RDWR, 0755, &p), 0);
	uint64_t node = p.node, fh = p.fh;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(host_write(c, fh, i, "x", O_RDWR, &p), 0);
		assert_int_equal(writers_of(f, "f"), 1);
		assert_int_equal(host_flush(c, fh, 0), 0);
		assert_int_equal(writers_of(f, "f"), 1);
		assert_int_equal(host_flush(c, fh, FLUSH_GIVE_UP), 0);
		assert_int_equal(writers_of(f, "f"), 0);
		assert_int_equal(host_read(c, fh, 0, 10, &p), 0);
		assert_int_equal(p.payload.len, i + 1);
	}
	assert_int_equal(host_set(c, node, SET_SIZE, 1, fh), 0);
	assert_int_equal(writers_of(f, "f"), 1);
	/* what nobody may execute is left alone */
	assert_int_equal(host_set(c, node, SET_MODE, 0644, 0), 0);
	assert_int_equal(host_flush(c, fh, FLUSH_GIVE_UP), 0);
	assert_int_equal(writers_of(f, "f"), 1);
	/* until it becomes so: then at once, also through a second open file */
	assert_int_equal(host_open(c, node, O_WRONLY, &p), 0);
	uint64_t fh2 = p.fh;
	assert_int_equal(writers_of(f, "f"), 2);
	assert_int_equal(host_set(c, node, SET_MODE, 0755, 0), 0);
	assert_int_equal(writers_of(f, "f"), 0);
	assert_int_equal(host_write(c, fh2, 1, "y", O_WRONLY, &p), 0);
	assert_int_equal(host_write(c, fh, 2, "z", O_RDWR | O_APPEND, &p), 0);
	assert_int_equal(p.off, 2);
	assert_int_equal(writers_of(f, "f"), 2);
	/* closed when CLOSE has been received, whatever its thread does then */
	assert_int_equal(pthread_mutex_lock(&close_goes_on), 0);
	host_close(c, fh);
	host_close(c, fh2);
	int r = host_getattr(c, node, &p);
	unsigned writers = writers_of(f, "f");
	assert_int_equal(pthread_mutex_unlock(&close_goes_on), 0);
	assert_int_equal(r, 0);
	assert_int_equal(writers, 0);
	/* who sends no FLUSH */
	assert_int_equal(host_open(c, node, O_WRONLY | OPEN_GIVE_UP, &p), 0);
	fh = p.fh;
	assert_int_equal(host_write(c, fh, 0, "w", O_WRONLY, &p), 0);
	assert_int_equal(writers_of(f, "f"), 0);
	assert_int_equal(host_set(c, node, SET_SIZE, 2, fh), 0);
	assert_int_equal(writers_of(f, "f"), 0);
	assert_int_equal(host_create(c, c->root, "g", O_WRONLY | OPEN_GIVE_UP, 0755, &p), 0);
	assert_int_equal(writers_of(f, "g"), 0);
	assert_int_equal(host_write(c, p.fh, 0, "w", O_WRONLY, &p), 0);
}

static int set_flag(const char *path, int flag, bool on)
{
	int flags, fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	int r = ioctl(fd, FS_IOC_GETFLAGS, &flags);
	flags = on ? flags | flag : flags & ~flag;
	if (r == 0)
		r = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	(void)close(fd);
	return r;
}

static void test_append_only(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg p, q = {0};
	char path[128];

	host_put(&f->hs, "a", "one");
	(void)snprintf(path, sizeof(path), "%s/a", f->hs.dir);
	if (set_flag(path, FS_APPEND_FL, true) < 0)
		skip();
	assert_int_equal(host_lookup(c, c->root, "a", &p), 0);
	uint64_t a = p.node;
	int refused = host_open(c, a, O_WRONLY, &p);
	int truncated = host_open(c, a, O_WRONLY | O_APPEND | O_TRUNC, &p);
	int r = host_open(c, a, O_WRONLY | O_APPEND, &p);
	MSG_SET(&q, fh, p.fh);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, payload, SLICE("two"));
	int over = host_call(c, MSG_WRITE, &q, &p);
	MSG_SET(&q, flags, O_APPEND);
	int behind = host_call(c, MSG_WRITE, &q, &p);
	assert_int_equal(set_flag(path, FS_APPEND_FL, false), 0); /* or it cannot be removed */
	assert_int_equal(refused, -EPERM);
	assert_int_equal(truncated, -EPERM);
	assert_int_equal(r, 0);
	assert_int_equal(over, -EPERM);
	assert_int_equal(behind, 0);
	assert_true(p.off == 3 && p.attr.size == 6);
}

/* Lists root; returns how many names besides "." and ".."; all of them begin with 'e'. */
static unsigned list(struct host_client *c, uint64_t size, bool plain, unsigned char *seen)
{
	unsigned n = 0, dots = 0;
	uint64_t off = 0;

	for (;;) {
		struct msg q = {0}, p;
		struct dir_entry e;
		int r;

		MSG_SET(&q, node, c->root);
		MSG_SET(&q, off, off);
		MSG_SET(&q, size, size);
		if (plain)
			MSG_SET(&q, flags, READDIR_PLAIN);
		assert_int_equal(host_call(c, MSG_READDIRPLUS, &q, &p), 0);
		assert_true(p.payload.len <= size);
		struct slice in = p.payload;
		while ((r = codec_get_entry(&in, &e)) == 1) {
			char name[16] = {0};

			assert_true(e.name.len < sizeof(name));
			memcpy(name, e.name.data, e.name.len);
			off = e.off;
			if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
				/* as the file system has them, but never above the root */
				assert_true(e.node == 0 && e.ino == c->hello.attr.ino);
				dots++;
				continue;
			}
			assert_int_equal(name[0], 'e');
			seen[atoi(name + 1)]++;
			n++;
			assert_int_equal(e.type, DT_REG);
			assert_int_equal(e.node != 0, !plain);
			if (!plain) {
				assert_true(S_ISREG(e.attr.mode) && e.attr.ino == e.ino);
				host_forget(c, e.node, 1);
			}
		}
		assert_int_equal(r, 0);
		if (p.flags & READDIR_END) {
			assert_int_equal(dots, 2);
			return n;
		}
		assert_true(p.payload.len > 0);
	}
}

static void test_readdir(void **state)
{
	enum { N = 3000 };
	struct fixture *f = *state;
	static const uint64_t sizes[] = {700, 4096, 65536, MSG_PAYLOAD_MAX};
	unsigned char seen[N];

	for (int i = 0; i < N; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "e%d", i);
		host_put(&f->hs, name, "");
	}
	for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		memset(seen, 0, sizeof(seen));
		assert_int_equal(list(&f->c, sizes[i / 2], i % 2 == 1, seen), N);
		for (int k = 0; k < N; k++)
			assert_int_equal(seen[k], 1);
	}
	struct msg q = {0}, p;
	MSG_SET(&q, node, f->c.root);
	MSG_SET(&q, off, 0);
	MSG_SET(&q, size, 10);
	assert_int_equal(host_call(&f->c, MSG_READDIRPLUS, &q, &p), -EINVAL);
	MSG_SET(&q, off, UINT64_MAX);
	assert_int_equal(host_call(&f->c, MSG_READDIRPLUS, &q, &p), -EINVAL);
	assert_int_equal(host_lookup(&f->c, f->c.root, "e0", &p), 0);
	MSG_SET(&q, node, p.node);
	MSG_SET(&q, off, 0);
	assert_int_equal(host_call(&f->c, MSG_READDIRPLUS, &q, &p), -ENOTDIR);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* All of a small file comes with OPEN, to who asks for more than it has and only reads. */
static void test_open_brings_content(void **state)
{
	struct fixture *f = *state;
	struct host_client *c = &f->c;
	struct msg q = {0}, p;
	static const struct {
		uint64_t size, flags;
		bool brings;
	} cases[] = {
		{6, O_RDONLY, true},   {MSG_PAYLOAD_MAX, O_RDONLY, true},
		{5, O_RDONLY, false},  {0, O_RDONLY, false},
		{100, O_WRONLY, false}, {100, O_RDWR, false},
	};

	host_put(&f->hs, "content", "12345");
	assert_int_equal(host_lookup(c, c->root, "content", &p), 0);
	uint64_t node = p.node;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		MSG_SET(&q, node, node);
		MSG_SET(&q, flags, cases[i].flags);
		MSG_SET(&q, size, cases[i].size);
		assert_int_equal(host_call(c, MSG_OPEN, &q, &p), 0);
		if (MSG_HAS(&p, payload) != cases[i].brings)
			fail_msg("case %zu", i);
		if (cases[i].brings) {
			assert_int_equal(p.payload.len, 5);
			assert_memory_equal(p.payload.data, "12345", 5);
		}
		host_close(c, p.fh);
	}
	MSG_SET(&q, flags, O_RDONLY);
	MSG_SET(&q, size, MSG_PAYLOAD_MAX + 1);
	assert_int_equal(host_call(c, MSG_OPEN, &q, &p), -EINVAL);
	assert_int_equal(host_open(c, node, O_RDONLY, &p), 0);
	assert_false(MSG_HAS(&p, payload)); /* a client of before */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_file),
		T(test_open_brings_content),
		T(test_names),
		T(test_symlink),
		T(test_rename),
		T(test_rename_of_what_is_replaced),
		T(test_mknod),
		cmocka_unit_test_setup_teardown(test_special, setup_special, teardown),
		T(test_owner),
		cmocka_unit_test_setup_teardown(test_read_only, setup_read_only, teardown),
		T(test_tmpfile),
		T(test_data),
		T(test_xattr),
		T(test_whiteout),
		T(test_umask),
		T(test_acl),
		T(test_acl_strips),
		T(test_append_only),
		T(test_give_up),
		cmocka_unit_test_setup_teardown(test_trusted, setup_special, teardown),
		T(test_readdir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
