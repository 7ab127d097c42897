/* mkfifo and mknod: modes, device numbers, who may. */
#include "harness.h"

#include <sys/sysmacros.h>

static void fifo_modes(void)
{
	static const mode_t mode[] = {0, 0600, 0644, 0777, 0151, 0222, 01644};
	static const mode_t mask[] = {0, 022, 077, 0777};

	for (unsigned m = 0; m < sizeof(mask) / sizeof(mask[0]); m++) {
		umask(mask[m]);
		for (unsigned i = 0; i < sizeof(mode) / sizeof(mode[0]); i++) {
			h_ctx("mode %04o umask %04o", mode[i], mask[m]);
			EXPECT_OK(mkfifo("p", mode[i]));
			EXPECT_MODE(mode[i] & ~mask[m], "p");
			EXPECT_EQ(S_IFIFO, h_lstat("p").st_mode & S_IFMT);
			EXPECT_OK(unlink("p"));
			EXPECT_OK(mknod("p", S_IFIFO | mode[i], 0));
			EXPECT_MODE(mode[i] & ~mask[m], "p");
			EXPECT_EQ(S_IFIFO, h_lstat("p").st_mode & S_IFMT);
			EXPECT_OK(unlink("p"));
			EXPECT_OK(mknod("p", S_IFREG | mode[i], 0));
			EXPECT_MODE(mode[i] & ~mask[m], "p");
			EXPECT_EQ(S_IFREG, h_lstat("p").st_mode & S_IFMT);
			EXPECT_OK(unlink("p"));
		}
	}
	umask(022);
	h_ctx(NULL);
}

static void effects(void)
{
	FOR_TYPES(t, T_BIT(T_REG) | T_BIT(T_FIFO) | T_BIT(T_SOCK) | T_BIT(T_CHR) | T_BIT(T_BLK)) {
		struct stat dir, st;

		h_ctx("mknod of a %s", h_type_name(t));
		REQUIRE_OK(mkdir("d", 0755));
		dir = h_rewind("d");
		EXPECT_OK(mknod("d/n", h_type_mode(t) | 0640, makedev(1, 3)));
		EXPECT_TIMES("d", &dir, TM_M | TM_C, 0);
		st = h_lstat("d/n");
		EXPECT_EQ(h_type_mode(t) | 0640, st.st_mode);
		EXPECT_EQ(1, st.st_nlink);
		EXPECT_EQ(0, st.st_size);
		EXPECT_EQ(geteuid(), st.st_uid);
		EXPECT_EQ(getegid(), st.st_gid);
		EXPECT_EQ(t == T_CHR || t == T_BLK ? makedev(1, 3) : 0, st.st_rdev);
		EXPECT_TRUE(h_tscmp(st.st_mtim, dir.st_ctim) > 0, "mtime of a new node is now");
		EXPECT_TRUE(h_tscmp(st.st_ctim, dir.st_ctim) > 0, "ctime of a new node is now");
		EXPECT_TRUE(h_tscmp(st.st_atim, dir.st_ctim) > 0, "atime of a new node is now");
		dir = h_rewind("d");
		EXPECT_ERR(EEXIST, mknod("d/n", h_type_mode(t) | 0640, 0));
		EXPECT_TIMES("d", &dir, 0, 0);
		EXPECT_OK(unlink("d/n"));
		EXPECT_OK(rmdir("d"));
	}
	h_ctx(NULL);
}

static void errors(void)
{
	FOR_TYPES(t, T_ALL) {
		h_ctx("name is a %s", h_type_name(t));
		REQUIRE_OK(h_make(t, "x", 0644));
		EXPECT_ERR(EEXIST, mkfifo("x", 0644));
		EXPECT_ERR(EEXIST, mknod("x", S_IFREG | 0644, 0));
		EXPECT_ERR(EEXIST, mknod("x", S_IFSOCK | 0644, 0));
		EXPECT_EQ(h_type_mode(t), h_lstat("x").st_mode & S_IFMT);
		h_remove("x");
	}
	h_ctx(NULL);
	EXPECT_ABSENT("nowhere");
	EXPECT_ERR(ENOENT, mkfifo("x/y", 0644));
	EXPECT_ERR(ENOENT, mkfifo("", 0644));
	EXPECT_ERR2(ENOENT, EISDIR, mkfifo("x/", 0644));
	EXPECT_ERR(EEXIST, mkfifo(".", 0644));
	EXPECT_ERR(EPERM, mknod("x", S_IFDIR | 0755, 0));
	EXPECT_ERR(EINVAL, mknod("x", S_IFLNK | 0755, 0));
	EXPECT_ERR(EINVAL, mknod("x", 0170000 | 0755, 0));
	EXPECT_ABSENT("x");
	/* No type means a regular file. */
	EXPECT_OK(mknod("x", 0640, 0));
	EXPECT_EQ(S_IFREG | 0640, h_lstat("x").st_mode);
	EXPECT_OK(unlink("x"));
}

static void at_calls(void)
{
	int d;

	REQUIRE_OK(mkdir("d", 0755));
	d = (int)REQUIRE_OK(open("d", O_PATH | O_DIRECTORY));
	EXPECT_OK(mkfifoat(d, "p", 0600));
	EXPECT_EQ(S_IFIFO | 0600, h_lstat("d/p").st_mode);
	EXPECT_OK(mknodat(d, "r", S_IFREG | 0600, 0));
	EXPECT_EQ(S_IFREG | 0600, h_lstat("d/r").st_mode);
	EXPECT_OK(unlinkat(d, "p", 0));
	EXPECT_OK(unlinkat(d, "r", 0));
	EXPECT_OK(rmdir("d"));
	EXPECT_ERR(ENOENT, mkfifoat(d, "p", 0600));
	EXPECT_ERR(ENOENT, mknodat(d, "r", S_IFREG | 0600, 0));
	close(d);
}

static void device_numbers(void)
{
	static const unsigned number[][2] = {{0, 1},	{1, 3},		 {8, 0},    {8, 255},
					     {8, 256},	{255, 255},	 {256, 1},  {259, 1048575},
					     {4095, 0}, {4095, 1048575}, {10, 200}, {1, 65536}};

	if (!h_can(T_CHR)) {
		AS(NULL) {
			EXPECT_ERR(EPERM, mknod("c", S_IFCHR | 0600, makedev(1, 3)));
			EXPECT_ERR(EPERM, mknod("b", S_IFBLK | 0600, makedev(8, 0)));
			EXPECT_ABSENT("c");
			EXPECT_ABSENT("b");
		}
		h_skip("device nodes: EPERM for this user");
		return;
	}
	for (unsigned i = 0; i < sizeof(number) / sizeof(number[0]); i++) {
		dev_t dev = makedev(number[i][0], number[i][1]);

		for (int block = 0; block < 2; block++) {
			struct stat st;

			h_ctx("%s device %u:%u", block ? "block" : "character", number[i][0],
			      number[i][1]);
			EXPECT_OK(mknod("n", (block ? S_IFBLK : S_IFCHR) | 0640, dev));
			st = h_lstat("n");
			EXPECT_EQ((block ? S_IFBLK : S_IFCHR) | 0640, st.st_mode);
			EXPECT_EQ(number[i][0], major(st.st_rdev));
			EXPECT_EQ(number[i][1], minor(st.st_rdev));
			EXPECT_OK(link("n", "m"));
			EXPECT_EQ(dev, h_lstat("m").st_rdev);
			EXPECT_OK(unlink("n"));
			EXPECT_OK(rename("m", "n"));
			EXPECT_EQ(dev, h_lstat("n").st_rdev);
			EXPECT_OK(unlink("n"));
		}
	}
	h_ctx(NULL);
}

static void who(void)
{
	REQUIRE_OK(mkdir("mine", 0755));
	REQUIRE_OK(mkdir("open", 0777));
	REQUIRE_OK(chmod("open", 0777));
	AS(ALICE) {
		EXPECT_ERR(EACCES, mkfifo("mine/p", 0644));
		EXPECT_ERR(EACCES, mknod("mine/r", S_IFREG | 0644, 0));
		EXPECT_OK(mkfifo("open/p", 0644));
		EXPECT_OK(mknod("open/r", S_IFREG | 0644, 0));
		EXPECT_OK(mknod("open/s", S_IFSOCK | 0644, 0));
		EXPECT_OWNER(UA, GA, "open/p");
		EXPECT_OWNER(UA, GA, "open/r");
		EXPECT_OWNER(UA, GA, "open/s");
		EXPECT_ERR(EPERM, mknod("open/c", S_IFCHR | 0644, makedev(1, 3)));
		EXPECT_ERR(EPERM, mknod("open/b", S_IFBLK | 0644, makedev(1, 3)));
		EXPECT_ERR(EPERM, mknod("open/d", S_IFDIR | 0755, 0));
		EXPECT_ABSENT("open/c");
		EXPECT_ABSENT("open/b");
	}
	h_rmtree(AT_FDCWD, "open");
	rmdir("mine");
}

void area_mknod(void)
{
	fifo_modes();
	effects();
	errors();
	at_calls();
	device_numbers();
	if (h_root())
		who();
}
