/* stat in all its forms, what its fields say, and statfs. */
#include "harness.h"

#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

static void same_stat(const struct stat *a, const struct stat *b)
{
	EXPECT_EQ(a->st_dev, b->st_dev);
	EXPECT_EQ(a->st_ino, b->st_ino);
	EXPECT_EQ(a->st_mode, b->st_mode);
	EXPECT_EQ(a->st_nlink, b->st_nlink);
	EXPECT_EQ(a->st_uid, b->st_uid);
	EXPECT_EQ(a->st_gid, b->st_gid);
	EXPECT_EQ(a->st_rdev, b->st_rdev);
	EXPECT_EQ(a->st_size, b->st_size);
	EXPECT_EQ(a->st_blksize, b->st_blksize);
	EXPECT_EQ(a->st_blocks, b->st_blocks);
	EXPECT_TRUE(!h_tscmp(a->st_atim, b->st_atim), "atime agrees");
	EXPECT_TRUE(!h_tscmp(a->st_mtim, b->st_mtim), "mtime agrees");
	EXPECT_TRUE(!h_tscmp(a->st_ctim, b->st_ctim), "ctime agrees");
}

static void same_statx(const struct stat *a, const struct statx *b)
{
	EXPECT_EQ(STATX_BASIC_STATS, b->stx_mask & STATX_BASIC_STATS);
	EXPECT_EQ(a->st_dev, makedev(b->stx_dev_major, b->stx_dev_minor));
	EXPECT_EQ(a->st_ino, b->stx_ino);
	EXPECT_EQ(a->st_mode, b->stx_mode);
	EXPECT_EQ(a->st_nlink, b->stx_nlink);
	EXPECT_EQ(a->st_uid, b->stx_uid);
	EXPECT_EQ(a->st_gid, b->stx_gid);
	EXPECT_EQ(a->st_rdev, makedev(b->stx_rdev_major, b->stx_rdev_minor));
	EXPECT_EQ(a->st_size, b->stx_size);
	EXPECT_EQ(a->st_blocks, b->stx_blocks);
	EXPECT_EQ(a->st_mtim.tv_sec, b->stx_mtime.tv_sec);
	EXPECT_EQ(a->st_mtim.tv_nsec, b->stx_mtime.tv_nsec);
	EXPECT_EQ(a->st_ctim.tv_sec, b->stx_ctime.tv_sec);
	EXPECT_EQ(a->st_ctim.tv_nsec, b->stx_ctime.tv_nsec);
}

/* All calls that tell about a file tell the same. */
static void agreement(void)
{
	FOR_TYPES(t, T_ALL) {
		struct stat a, b = {0};
		struct statx x = {0};
		int fd;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(h_make(t, "f", 0640));
		if (t == T_REG)
			REQUIRE_OK(h_put("f", "some content", 12));
		a = h_lstat("f");
		EXPECT_EQ(h_type_mode(t), a.st_mode & S_IFMT);
		EXPECT_EQ(geteuid(), a.st_uid);
		EXPECT_EQ(getegid(), a.st_gid);
		EXPECT_EQ(t == T_DIR ? a.st_nlink : 1, a.st_nlink);
		EXPECT_EQ(t == T_CHR || t == T_BLK ? makedev(1, 3) : 0, a.st_rdev);
		EXPECT_EQ(t == T_REG ? 12 : t == T_LNK ? 7 : t == T_DIR ? a.st_size : 0, a.st_size);
		EXPECT_EQ(h_lstat(".").st_dev, a.st_dev);
		if (t != T_LNK) {
			EXPECT_OK(stat("f", &b));
			same_stat(&a, &b);
		}
		EXPECT_OK(fstatat(AT_FDCWD, "f", &b, AT_SYMLINK_NOFOLLOW));
		same_stat(&a, &b);
		fd = (int)REQUIRE_OK(open("f", O_PATH | O_NOFOLLOW));
		EXPECT_OK(fstat(fd, &b));
		same_stat(&a, &b);
		EXPECT_OK(fstatat(fd, "", &b, AT_EMPTY_PATH));
		same_stat(&a, &b);
		EXPECT_OK(statx(AT_FDCWD, "f", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &x));
		same_statx(&a, &x);
		EXPECT_OK(
		    statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &x));
		same_statx(&a, &x);
		EXPECT_OK(statx(AT_FDCWD, "f", AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC,
				STATX_BASIC_STATS, &x));
		same_statx(&a, &x);
		close(fd);
		h_remove("f");
	}
	h_ctx(NULL);
	struct statx x;
	struct stat st;

	EXPECT_ERR(EINVAL, statx(AT_FDCWD, ".", 0, STATX__RESERVED, &x));
	EXPECT_ERR(EINVAL, statx(AT_FDCWD, ".", AT_STATX_SYNC_TYPE, STATX_BASIC_STATS, &x));
	EXPECT_ERR(EINVAL, fstatat(AT_FDCWD, ".", &st, 0x40000000));
}

static void inode_numbers(void)
{
	enum { N = 100 };
	ino_t ino[N];
	char name[32];
	struct stat st;
	int fd, twice = 0, moved = 0;

	REQUIRE_OK(mkdir("d", 0755));
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		REQUIRE_OK(h_touch(name));
		ino[i] = h_lstat(name).st_ino;
		for (int k = 0; k < i; k++)
			twice += ino[k] == ino[i];
	}
	EXPECT_EQ(0, twice);
	for (int i = N - 1; i >= 0; i--) {
		snprintf(name, sizeof(name), "d/%d", i);
		moved += h_lstat(name).st_ino != ino[i];
	}
	EXPECT_EQ(0, moved);
	/* Nothing that is done to a file changes its number. */
	fd = (int)REQUIRE_OK(open("d/0", O_RDWR));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(ino[0], st.st_ino);
	EXPECT_EQ(3, write(fd, "abc", 3));
	EXPECT_OK(ftruncate(fd, 100000));
	EXPECT_OK(fchmod(fd, 0600));
	EXPECT_EQ(ino[0], h_lstat("d/0").st_ino);
	EXPECT_OK(rename("d/0", "d/renamed"));
	EXPECT_EQ(ino[0], h_lstat("d/renamed").st_ino);
	EXPECT_OK(rename("d/renamed", "up"));
	EXPECT_EQ(ino[0], h_lstat("up").st_ino);
	EXPECT_OK(link("up", "d/linked"));
	EXPECT_OK(unlink("up"));
	EXPECT_EQ(ino[0], h_lstat("d/linked").st_ino);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(ino[0], st.st_ino);
	close(fd);
	EXPECT_EQ(ino[0], h_lstat("d/linked").st_ino);
	h_rmtree(AT_FDCWD, "d");
}

static void sizes_and_blocks(void)
{
	static const size_t size[] = {0, 1, 511, 512, 4096, 5000, 65536, 1000000};
	char *data = malloc(1000000);
	struct stat st;

	REQUIRE_OK(data ? 0 : -1);
	h_fill(data, 1000000, 1);
	for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		int fd;

		h_ctx("file of %zu bytes", size[i]);
		REQUIRE_OK(h_put("f", data, size[i]));
		fd = (int)REQUIRE_OK(open("f", O_RDWR));
		EXPECT_OK(fsync(fd));
		st = h_lstat("f");
		EXPECT_EQ(size[i], st.st_size);
		EXPECT_TRUE((size_t)st.st_blocks * 512 >= size[i], "blocks hold the bytes");
		EXPECT_TRUE((size_t)st.st_blocks * 512 <= size[i] + 65536, "and not many more");
		EXPECT_TRUE(st.st_blksize >= 512 && (st.st_blksize & (st.st_blksize - 1)) == 0,
			    "st_blksize is a power of two");
		EXPECT_OK(ftruncate(fd, 0));
		EXPECT_OK(fsync(fd));
		EXPECT_EQ(0, h_lstat("f").st_blocks);
		/* Each write shows at once in the size, by name and by descriptor. */
		for (int k = 1; k <= 5; k++) {
			EXPECT_EQ(100, pwrite(fd, data, 100, (k - 1) * 100));
			EXPECT_SIZE(k * 100, "f");
			EXPECT_OK(fstat(fd, &st));
			EXPECT_EQ(k * 100, st.st_size);
		}
		close(fd);
		unlink("f");
	}
	h_ctx(NULL);
	free(data);
}

static void link_counts(void)
{
	char name[32];

	REQUIRE_OK(mkdir("d", 0755));
	if (h_lstat("d").st_nlink != 2) {
		h_skip("directories do not count their subdirectories here");
	} else {
		for (int i = 0; i < 20; i++) {
			EXPECT_NLINK(2 + i, "d");
			snprintf(name, sizeof(name), "d/%d", i);
			EXPECT_OK(mkdir(name, 0755));
		}
		EXPECT_OK(h_touch("d/file"));
		EXPECT_OK(symlink("0", "d/link"));
		EXPECT_NLINK(22, "d");
		EXPECT_OK(rename("d/0", "d/1"));
		EXPECT_NLINK(21, "d");
		EXPECT_OK(rename("d/1", "out"));
		EXPECT_NLINK(20, "d");
		EXPECT_OK(rmdir("out"));
		for (int i = 2; i < 20; i++) {
			snprintf(name, sizeof(name), "d/%d", i);
			EXPECT_OK(rmdir(name));
			EXPECT_NLINK(21 - i, "d");
		}
	}
	h_rmtree(AT_FDCWD, "d");
	REQUIRE_OK(h_touch("f"));
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		EXPECT_OK(link("f", name));
		EXPECT_NLINK(i + 2, "f");
		EXPECT_NLINK(i + 2, name);
	}
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		EXPECT_OK(unlink(name));
		EXPECT_NLINK(20 - i, "f");
	}
	unlink("f");
}

void area_stat(void)
{
	agreement();
	inode_numbers();
	sizes_and_blocks();
	link_counts();
}

void area_statfs(void)
{
	struct statfs a = {0}, b = {0};
	struct statvfs v = {0};
	int fd;

	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(mkdir("d", 0755));
	EXPECT_OK(statfs(".", &a));
	EXPECT_TRUE(a.f_bsize >= 512 && (a.f_bsize & (a.f_bsize - 1)) == 0,
		    "f_bsize is a power of two");
	EXPECT_TRUE(a.f_blocks > 0, "there are blocks");
	EXPECT_TRUE(a.f_bfree <= a.f_blocks, "no more free than there are");
	EXPECT_TRUE(a.f_bavail <= a.f_bfree, "no more for users than free");
	EXPECT_TRUE(a.f_ffree <= a.f_files, "no more free inodes than there are");
	EXPECT_EQ(255, a.f_namelen);
	EXPECT_TRUE(a.f_type != 0, "the type has a number");
	for (int i = 0; i < 3; i++) {
		const char *path = i == 0 ? "f" : i == 1 ? "d" : "/proc/self/cwd/f";

		h_ctx("%s", path);
		EXPECT_OK(statfs(path, &b));
		EXPECT_EQ(a.f_type, b.f_type);
		EXPECT_EQ(a.f_bsize, b.f_bsize);
		EXPECT_EQ(a.f_blocks, b.f_blocks);
		EXPECT_EQ(a.f_namelen, b.f_namelen);
		EXPECT_EQ(0, memcmp(&a.f_fsid, &b.f_fsid, sizeof(a.f_fsid)));
		fd = (int)REQUIRE_OK(open(path, i == 1 ? O_RDONLY : O_PATH));
		EXPECT_OK(fstatfs(fd, &b));
		EXPECT_EQ(a.f_type, b.f_type);
		EXPECT_EQ(a.f_blocks, b.f_blocks);
		close(fd);
		EXPECT_OK(statvfs(path, &v));
		EXPECT_EQ(a.f_bsize, v.f_bsize);
		EXPECT_EQ(a.f_blocks, v.f_blocks);
		EXPECT_EQ(255, v.f_namemax);
		EXPECT_EQ(0, v.f_flag & ST_RDONLY);
	}
	h_ctx(NULL);
	EXPECT_EQ(255, pathconf(".", _PC_NAME_MAX));
	EXPECT_EQ(4096, pathconf(".", _PC_PATH_MAX));
	EXPECT_ERR(ENOENT, statfs("none", &a));
	EXPECT_ERR(ENOTDIR, statfs("f/x", &a));
	EXPECT_ERR(EFAULT, statfs(".", h_bad_ptr()));
	/* A file without a name tells, too. */
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	EXPECT_OK(unlink("f"));
	EXPECT_OK(fstatfs(fd, &b));
	EXPECT_EQ(a.f_type, b.f_type);
	close(fd);
	rmdir("d");
}
