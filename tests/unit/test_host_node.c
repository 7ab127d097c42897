/* Nodes: identity, descriptors that come and go, directories that leave the export. */
#include "export_fixture.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "host/filesystem.h"
#include "host/hnode.h"

static bool may_mount; /* set by main */

static struct hnode *intern(struct fixture *f, struct hnodes *t, struct hnode *parent,
			    const char *path, const char *name)
{
	int fd = openat(f->fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct hnode *n;

	assert_true(fd >= 0);
	assert_int_equal(hnodes_intern(t, fd, parent, name, hnodes_seen(t), &n), 0);
	hnode_offer(t, n, fd);
	return n;
}

static ino_t pinned_ino(struct hnodes *t, struct hnode *n)
{
	struct stat st;
	int fd;

	assert_int_equal(hnode_pin(t, n, &fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	hnode_unpin(t, n);
	return st.st_ino;
}

static void test_nodes(void **state)
{
	enum { N = 100, FDS = 8 };
	struct fixture *f = *state;
	struct hnode *n[N], *again;
	struct hnodes *t;
	int fd;

	assert_int_equal(hnodes_new(f->e, FDS, &t), 0);
	struct hnode *root = intern(f, t, NULL, ".", NULL);
	for (int i = 0; i < N; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		make_file(f->fd, name);
		n[i] = intern(f, t, root, name, name);
		for (int k = 0; k < i; k++)
			assert_true(hnode_id(n[i]) != hnode_id(n[k]));
	}
	assert_int_equal(hnodes_count(t), N + 1);
	assert_int_equal(hnodes_open(t), FDS);
	/* Each is found again, with few descriptors, in whatever order. */
	for (int i = 0; i < 3 * N; i++) {
		struct stat st;
		char name[16];
		int k = i * 37 % N;

		(void)snprintf(name, sizeof(name), "f%d", k);
		assert_int_equal(fstatat(f->fd, name, &st, 0), 0);
		assert_int_equal(pinned_ino(t, n[k]), st.st_ino);
		assert_true(hnodes_open(t) <= FDS);
	}
	/* Those in use stay, however many. */
	for (int i = 0; i < N; i++)
		assert_int_equal(hnode_pin(t, n[i], &fd), 0);
	assert_true(hnodes_open(t) >= N);
	for (int i = 0; i < N; i++)
		hnode_unpin(t, n[i]);
	assert_true(hnodes_open(t) <= FDS);

	/* The same file by another name is the same node, and versions only grow. */
	assert_int_equal(renameat(f->fd, "f5", f->fd, "g5"), 0);
	again = intern(f, t, root, "g5", "g5");
	assert_ptr_equal(again, n[5]);
	uint64_t version = hnode_version(again);
	assert_true(hnode_version(n[5]) > version);
	hnode_unref(t, again);
	/* Another file by the same name is not, even with the inode number used again. */
	assert_int_equal(unlinkat(f->fd, "f6", 0), 0);
	make_file(f->fd, "f6");
	again = intern(f, t, root, "f6", "f6");
	assert_true(hnode_id(again) != hnode_id(n[6]));
	hnode_unref(t, again);
	/* Forgotten and known again: a new id. */
	uint64_t id = hnode_id(n[7]);
	hnode_unref(t, n[7]);
	assert_int_equal(hnodes_count(t), N);
	fd = openat(f->fd, "f7", O_PATH | O_CLOEXEC);
	assert_int_equal(hnodes_find(t, fd, &again), -ENOENT);
	(void)close(fd);
	n[7] = intern(f, t, root, "f7", "f7");
	assert_true(hnode_id(n[7]) > id);

	/* Unlinked and kept: still reachable after all the others were used. */
	fd = openat(f->fd, "f8", O_PATH | O_CLOEXEC);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	hnode_keep(t, n[8], fd);
	assert_int_equal(unlinkat(f->fd, "f8", 0), 0);
	for (int i = 9; i < N; i++)
		(void)pinned_ino(t, n[i]);
	assert_int_equal(pinned_ino(t, n[8]), st.st_ino);
	/* Unlinked, with nothing but an open file: that will do. */
	struct hnode_user user = {.fd = openat(f->fd, "f9", O_WRONLY | O_CLOEXEC)};
	assert_int_equal(fstat(user.fd, &st), 0);
	hnode_attach(t, n[9], &user);
	assert_int_equal(unlinkat(f->fd, "f9", 0), 0);
	for (int i = 10; i < N; i++)
		(void)pinned_ino(t, n[i]);
	assert_int_equal(pinned_ino(t, n[9]), st.st_ino);
	hnode_detach(t, n[9], &user);
	(void)close(user.fd);
	for (int i = 0; i < N; i++)
		hnode_unref(t, n[i]);
	hnode_unref(t, root);
	assert_int_equal(hnodes_open(t), 0);
	hnodes_free(t);
}

/* A handle opens a directory wherever it is; the export does not. */
static void test_moved_out(void **state)
{
	struct fixture *f = *state;
	struct hnodes *t;
	int fd;

	assert_int_equal(hnodes_new(f->e, 0, &t), 0);
	assert_int_equal(mkdirat(f->fd, "a", 0755), 0);
	assert_int_equal(mkdirat(f->fd, "a/b", 0755), 0);
	struct hnode *root = intern(f, t, NULL, ".", NULL);
	struct hnode *a = intern(f, t, root, "a", "a");
	struct hnode *b = intern(f, t, a, "a/b", "b");
	assert_int_equal(hnodes_open(t), 0); /* every use opens anew */
	assert_int_equal(hnode_pin(t, b, &fd), 0);
	hnode_unpin(t, b);
	assert_int_equal(renameat(f->fd, "a", f->base_fd, "a"), 0);
	assert_int_equal(hnode_pin(t, a, &fd), -ESTALE);
	assert_int_equal(hnode_pin(t, b, &fd), -ESTALE);
	assert_int_equal(renameat(f->base_fd, "a", f->fd, "a"), 0);
	assert_int_equal(hnode_pin(t, b, &fd), 0);
	hnode_unpin(t, b);
	hnode_unref(t, b);
	hnode_unref(t, a);
	hnode_unref(t, root);
	hnodes_free(t);
}

static void see_all(void *arg)
{
	(void)arg;
}

static bool see_file_system(void *arg, int fd)
{
	(void)arg;
	return fd >= 0;
}

/* Nodes of an export in which every rename is seen; on_use tells of what has not been told yet. */
static struct hnodes *new_watched(struct fixture *f, void (*on_use)(void *arg), void *arg)
{
	struct hnodes *t;

	assert_int_equal(hnodes_new(f->e, 10, &t), 0);
	hnodes_on_use(t, on_use, arg);
	filesystems_watch(export_filesystems(f->e), see_file_system, NULL);
	return t;
}

/*
 * Where every rename is seen: one that was told of while the name was looked up is
 * not forgotten when the node is made.
 */
static void test_moved_as_it_is_found(void **state)
{
	struct fixture *f = *state;
	struct hnodes *t = new_watched(f, see_all, NULL);
	struct hnode *n;
	int fd;

	assert_int_equal(mkdirat(f->fd, "a", 0755), 0);
	make_file(f->fd, "f");
	struct hnode *root = intern(f, t, NULL, ".", NULL);
	for (int is_dir = 0; is_dir < 2; is_dir++) {
		const char *name = is_dir ? "a" : "f";
		uint64_t seen = hnodes_seen(t);
		int object = openat(f->fd, name, O_PATH | O_CLOEXEC);

		assert_int_equal(renameat(f->fd, name, f->base_fd, name), 0);
		hnodes_moved(t, is_dir);
		assert_int_equal(hnodes_intern(t, object, root, name, seen, &n), 0);
		hnode_offer(t, n, object);
		assert_int_equal(hnode_pin(t, n, &fd), -ESTALE);
		/* a link or rename of ours that is as old */
		hnode_renamed(t, n, root, name, seen);
		assert_int_equal(hnode_pin(t, n, &fd), -ESTALE);
		assert_int_equal(renameat(f->base_fd, name, f->fd, name), 0);
		hnodes_moved(t, is_dir);
		hnode_renamed(t, n, root, name, hnodes_seen(t));
		assert_int_equal(hnode_pin(t, n, &fd), 0);
		assert_int_equal(hnode_inside(t, n, fd), 0);
		hnode_unpin(t, n);
		hnode_unref(t, n);
	}
	hnode_unref(t, root);
	hnodes_free(t);
}

/* For hnode_moved, of the directory at dirfd. */
struct handle {
	struct file_handle fh;
	unsigned char bytes[MAX_HANDLE_SZ];
};

static void get_handle(int dirfd, struct handle *h)
{
	int mount_id;

	h->fh.handle_bytes = MAX_HANDLE_SZ;
	assert_int_equal(name_to_handle_at(dirfd, "", &h->fh, &mount_id, AT_EMPTY_PATH), 0);
}

/*
 * Somebody uses what is below a directory between hnodes_moved and hnode_moved, and
 * finds that it was inside by its old place: that does not count any longer.
 */
static void test_used_as_it_is_moved(void **state)
{
	struct fixture *f = *state;
	struct handle out;
	struct hnodes *t = new_watched(f, see_all, NULL);
	int fd;

	assert_int_equal(mkdirat(f->fd, "a", 0755), 0);
	assert_int_equal(mkdirat(f->fd, "a/b", 0755), 0);
	struct hnode *root = intern(f, t, NULL, ".", NULL);
	struct hnode *a = intern(f, t, root, "a", "a");
	struct hnode *b = intern(f, t, a, "a/b", "b");
	get_handle(f->base_fd, &out);
	assert_int_equal(renameat(f->fd, "a", f->base_fd, "a"), 0);
	hnodes_moved(t, true);
	assert_int_equal(hnode_pin(t, b, &fd), 0);
	hnode_unpin(t, b);
	hnode_moved(t, a, true, &out.fh, "a");
	assert_int_equal(hnode_pin(t, b, &fd), -ESTALE);
	assert_int_equal(hnode_pin(t, a, &fd), -ESTALE);
	hnode_unref(t, b);
	hnode_unref(t, a);
	hnode_unref(t, root);
	hnodes_free(t);
}

/* What the host has done, and nobody has been told of yet. */
struct untold {
	struct hnodes *t;
	struct hnode *moved; /* NULL: nothing */
	struct handle to;
	const char *name;
};

static void tell_untold(void *arg)
{
	struct untold *u = arg;
	struct hnode *n = u->moved;

	u->moved = NULL;
	if (n == NULL)
		return;
	hnodes_moved(u->t, true);
	hnode_moved(u->t, n, true, &u->to.fh, u->name);
}

/* The host moves d to p, we move it from there to q, and then we are told of the first. */
static void test_moved_by_both(void **state)
{
	struct fixture *f = *state;
	struct untold u = {.name = "d"};
	struct hnodes *t = new_watched(f, tell_untold, &u);
	int fd;

	u.t = t;
	assert_int_equal(mkdirat(f->fd, "p", 0755), 0);
	assert_int_equal(mkdirat(f->fd, "q", 0755), 0);
	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	struct hnode *root = intern(f, t, NULL, ".", NULL);
	struct hnode *p = intern(f, t, root, "p", "p");
	struct hnode *q = intern(f, t, root, "q", "q");
	struct hnode *d = intern(f, t, root, "d", "d");
	assert_int_equal(hnode_pin(t, p, &fd), 0);
	get_handle(fd, &u.to);
	hnode_unpin(t, p);
	uint64_t seen = hnodes_seen(t);
	assert_int_equal(renameat(f->fd, "d", f->fd, "p/d"), 0);
	u.moved = d;
	assert_int_equal(renameat(f->fd, "p/d", f->fd, "q/d"), 0);
	hnode_renamed(t, d, q, "d", seen);
	assert_int_equal(hnode_pin(t, d, &fd), 0);
	hnode_unpin(t, d);
	/* Now q is moved out, and takes d along. */
	assert_int_equal(renameat(f->fd, "q", f->base_fd, "q"), 0);
	get_handle(f->base_fd, &u.to);
	u.moved = q;
	assert_int_equal(hnode_pin(t, d, &fd), -ESTALE);
	assert_int_equal(hnode_pin(t, q, &fd), -ESTALE);
	assert_int_equal(hnode_pin(t, p, &fd), 0);
	hnode_unpin(t, p);
	hnode_unref(t, d);
	hnode_unref(t, q);
	hnode_unref(t, p);
	hnode_unref(t, root);
	hnodes_free(t);
}

static int drop_cap(int cap, bool back)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &h, d) < 0)
		return -errno;
	if (back)
		d[0].effective |= 1u << cap;
	else
		d[0].effective &= ~(1u << cap);
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

/* Without CAP_DAC_READ_SEARCH: by name, and only if it is still the same file. */
static void test_by_name(void **state)
{
	struct fixture *f = *state;
	struct hnodes *t;
	struct stat st;
	int fd;

	assert_int_equal(drop_cap(CAP_DAC_READ_SEARCH, false), 0);
	export_free(f->e);
	(void)open_export(f); /* what it may do is found out when it starts */
	assert_int_equal(hnodes_new(f->e, 0, &t), 0);
	assert_int_equal(mkdirat(f->fd, "a", 0755), 0);
	make_file(f->fd, "a/f");
	make_file(f->fd, "a/g");
	assert_int_equal(fstatat(f->fd, "a/f", &st, 0), 0);
	struct hnode *root = intern(f, t, NULL, ".", NULL);
	struct hnode *a = intern(f, t, root, "a", "a");
	struct hnode *n = intern(f, t, a, "a/f", "f");
	assert_false(hnode_by_handle(t, n));
	assert_int_equal(pinned_ino(t, n), st.st_ino);
	/* The parent's own descriptor is opened from its parent, and so on. */
	assert_int_equal(renameat(f->fd, "a/g", f->fd, "a/f"), 0);
	assert_int_equal(hnode_pin(t, n, &fd), -ESTALE); /* another file now */
	make_file(f->fd, "a/h");
	assert_int_equal(unlinkat(f->fd, "a/f", 0), 0);
	assert_int_equal(hnode_pin(t, n, &fd), -ESTALE);
	struct hnode *h = intern(f, t, a, "a/h", "h");
	assert_int_equal(renameat(f->fd, "a/h", f->fd, "h2"), 0);
	assert_int_equal(hnode_pin(t, h, &fd), -ESTALE);
	hnode_renamed(t, h, root, "h2", hnodes_seen(t)); /* looked up again */
	assert_int_equal(hnode_pin(t, h, &fd), 0);
	hnode_unpin(t, h);
	/* Parents that go in a circle, after renames that we did not see. */
	hnode_renamed(t, a, h, "x", hnodes_seen(t));
	hnode_renamed(t, h, a, "y", hnodes_seen(t));
	assert_int_equal(hnode_pin(t, h, &fd), -ESTALE);
	hnode_unref(t, h);
	hnode_unref(t, n);
	hnode_unref(t, a);
	hnode_unref(t, root);
	hnodes_free(t);
	if (geteuid() == 0)
		assert_int_equal(drop_cap(CAP_DAC_READ_SEARCH, true), 0);
}

/* What is reached through a read-only mount alone stays read-only, also by handle. */
static void test_read_only_mount(void **state)
{
	struct fixture *f = *state;
	char from[96], to[96];
	struct hnodes *t;
	int fd, file;

	if (!may_mount)
		skip();
	assert_int_equal(hnodes_new(f->e, 0, &t), 0);
	assert_int_equal(mkdirat(f->base_fd, "other", 0755), 0);
	make_file(f->base_fd, "other/f");
	assert_int_equal(mkdirat(f->fd, "ro", 0755), 0);
	assert_int_equal(mkdirat(f->fd, "rw", 0755), 0);
	(void)snprintf(from, sizeof(from), "%s/other", f->base);
	(void)snprintf(to, sizeof(to), "%s/export/ro", f->base);
	assert_int_equal(mount(from, to, NULL, MS_BIND, NULL), 0);
	assert_int_equal(mount(NULL, to, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);

	struct hnode *root = intern(f, t, NULL, ".", NULL);
	struct hnode *dir = intern(f, t, root, "ro", "ro");
	struct hnode *n = intern(f, t, dir, "ro/f", "f");
	assert_int_equal(hnode_pin(t, n, &fd), 0);
	assert_int_equal(export_reopen(f->e, fd, O_RDWR, &file), -EROFS);
	hnode_unpin(t, n);
	assert_int_equal(hnode_pin(t, dir, &fd), 0); /* it is inside */
	hnode_unpin(t, dir);
	hnode_unref(t, n);
	hnode_unref(t, dir);
	hnode_unref(t, root);
	hnodes_free(t);
	assert_int_equal(umount2(to, MNT_DETACH), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_nodes),
		T(test_moved_out),
		T(test_moved_as_it_is_found),
		T(test_used_as_it_is_moved),
		T(test_moved_by_both),
		T(test_by_name),
		T(test_read_only_mount),
	};

	may_mount =
		unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;

	return cmocka_run_group_tests(tests, NULL, NULL);
}
