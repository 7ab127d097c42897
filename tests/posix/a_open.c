/* open, openat, creat: flags, creation, errors. Permissions are in a_openperm.c. */
#include "harness.h"

#include <sys/wait.h>

static void creation(void)
{
	static const mode_t mode[] = {0, 0600, 0644, 0666, 0777, 0151, 01644, 04711, 0222};
	static const mode_t mask[] = {0, 022, 077, 0777};
	struct stat dir, st;

	for (unsigned m = 0; m < sizeof(mask) / sizeof(mask[0]); m++) {
		umask(mask[m]);
		for (unsigned i = 0; i < sizeof(mode) / sizeof(mode[0]); i++) {
			int fd;

			h_ctx("mode %04o umask %04o", mode[i], mask[m]);
			fd = (int)EXPECT_OK(open("f", O_RDWR | O_CREAT, mode[i]));
			EXPECT_MODE(mode[i] & ~mask[m], "f");
			/* The creator's descriptor works whatever the mode. */
			EXPECT_EQ(2, write(fd, "ab", 2));
			EXPECT_SIZE(2, "f");
			close(fd);
			EXPECT_OK(unlink("f"));
			EXPECT_OK(close(creat("f", mode[i])));
			EXPECT_MODE(mode[i] & ~mask[m], "f");
			EXPECT_OK(unlink("f"));
		}
	}
	umask(022);
	h_ctx(NULL);
	REQUIRE_OK(mkdir("d", 0755));
	dir = h_rewind("d");
	EXPECT_OK(h_opens("d/f", O_WRONLY | O_CREAT, 0644));
	EXPECT_TIMES("d", &dir, TM_M | TM_C, 0);
	st = h_lstat("d/f");
	EXPECT_EQ(0, st.st_size);
	EXPECT_EQ(0, st.st_blocks);
	EXPECT_EQ(1, st.st_nlink);
	EXPECT_EQ(geteuid(), st.st_uid);
	EXPECT_EQ(getegid(), st.st_gid);
	EXPECT_TRUE(h_tscmp(st.st_mtim, dir.st_ctim) > 0, "mtime of a new file is now");
	EXPECT_TRUE(h_tscmp(st.st_ctim, dir.st_ctim) > 0, "ctime of a new file is now");
	EXPECT_TRUE(h_tscmp(st.st_atim, dir.st_ctim) > 0, "atime of a new file is now");
	/* What is there already is only opened. */
	REQUIRE_OK(h_put("d/f", "data", 4));
	st = h_rewind("d/f");
	dir = h_rewind("d");
	EXPECT_OK(h_opens("d/f", O_RDWR | O_CREAT, 0777));
	EXPECT_TIMES("d/f", &st, 0, 0);
	EXPECT_TIMES("d", &dir, 0, 0);
	EXPECT_MODE(0644, "d/f");
	EXPECT_CONTENT("data", 4, "d/f");
	h_rmtree(AT_FDCWD, "d");
}

static void exclusive(void)
{
	FOR_TYPES(t, T_ALL) {
		struct stat before;

		h_ctx("O_EXCL over a %s", h_type_name(t));
		REQUIRE_OK(h_make(t, "x", 0644));
		before = h_rewind("x");
		EXPECT_ERR(EEXIST, open("x", O_RDONLY | O_CREAT | O_EXCL, 0644));
		EXPECT_ERR(EEXIST, open("x", O_WRONLY | O_CREAT | O_EXCL | O_TRUNC, 0644));
		EXPECT_TIMES("x", &before, 0, t == T_LNK ? TM_A : 0);
		h_remove("x");
		EXPECT_OK(h_opens("x", O_WRONLY | O_CREAT | O_EXCL, 0600));
		EXPECT_ERR(EEXIST, open("x", O_WRONLY | O_CREAT | O_EXCL, 0600));
		EXPECT_OK(unlink("x"));
	}
	h_ctx(NULL);
	EXPECT_ABSENT("nowhere");
	/* Of several processes just one makes it. */
	for (int round = 0; round < 20; round++) {
		int p[2];
		char won;
		long winners = 0;

		REQUIRE_OK(pipe(p));
		for (int i = 0; i < 4; i++) {
			pid_t pid = fork();

			if (pid == 0) {
				if (open("race", O_WRONLY | O_CREAT | O_EXCL, 0600) >= 0)
					won = 'w';
				else
					won = errno == EEXIST ? 'e' : '?';
				_exit(write(p[1], &won, 1) != 1);
			}
		}
		close(p[1]);
		for (int i = 0; i < 4; i++) {
			EXPECT_EQ(1, read(p[0], &won, 1));
			EXPECT_TRUE(won != '?', "EEXIST for the losers");
			winners += won == 'w';
		}
		EXPECT_EQ(1, winners);
		close(p[0]);
		while (wait(NULL) > 0)
			;
		unlink("race");
	}
}

static void symlinks(void)
{
	REQUIRE_OK(symlink("f", "l"));
	EXPECT_ERR(ENOENT, open("l", O_RDONLY));
	EXPECT_ERR(EEXIST, open("l", O_RDWR | O_CREAT | O_EXCL, 0644));
	EXPECT_ERR(ELOOP, open("l", O_RDWR | O_CREAT | O_NOFOLLOW, 0644));
	EXPECT_ABSENT("f");
	EXPECT_OK(h_opens("l", O_RDWR | O_CREAT, 0640)); /* makes what it points to */
	EXPECT_EQ(S_IFREG | 0640, h_lstat("f").st_mode);
	EXPECT_EQ(S_IFLNK, h_lstat("l").st_mode & S_IFMT);
	EXPECT_OK(h_opens("l", O_RDONLY, 0));
	EXPECT_ERR(ELOOP, open("l", O_RDONLY | O_NOFOLLOW));
	EXPECT_ERR(ELOOP, open("l", O_WRONLY | O_NOFOLLOW));
	EXPECT_ERR2(ENOTDIR, ELOOP, open("l", O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
	EXPECT_OK(h_opens("f", O_RDONLY | O_NOFOLLOW, 0));
	REQUIRE_OK(h_put("f", "data", 4));
	EXPECT_OK(h_opens("l", O_WRONLY | O_TRUNC, 0));
	EXPECT_SIZE(0, "f");
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(h_touch("d/x"));
	REQUIRE_OK(symlink("d", "ld"));
	EXPECT_OK(h_opens("ld", O_RDONLY | O_DIRECTORY, 0));
	EXPECT_OK(h_opens("ld/x", O_RDONLY | O_NOFOLLOW, 0));
	EXPECT_OK(h_opens("ld/", O_RDONLY | O_NOFOLLOW, 0));
	unlink("ld");
	unlink("d/x");
	rmdir("d");
	unlink("l");
	unlink("f");
}

static void directories(void)
{
	int fd, p;
	char c;

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(h_touch("f"));
	EXPECT_ERR(EISDIR, open("d", O_WRONLY));
	EXPECT_ERR(EISDIR, open("d", O_RDWR));
	EXPECT_ERR(EISDIR, open("d", O_RDONLY | O_TRUNC));
	EXPECT_ERR(EISDIR, open("d", O_WRONLY | O_TRUNC));
	EXPECT_ERR(EISDIR, open("d", O_RDONLY | O_CREAT, 0644));
	EXPECT_ERR(EISDIR, open("d", O_RDWR | O_CREAT, 0644));
	EXPECT_ERR(EEXIST, open("d", O_RDWR | O_CREAT | O_EXCL, 0644));
	EXPECT_ERR(EISDIR, open("x/", O_WRONLY | O_CREAT, 0644));
	EXPECT_ABSENT("x");
	EXPECT_ERR(ENOTDIR, open("f", O_RDONLY | O_DIRECTORY));
	EXPECT_ERR(ENOTDIR, open("f/", O_RDONLY));
	EXPECT_ERR(ENOTDIR, open("f/x", O_RDONLY));
	EXPECT_ERR(ENOTDIR, open("f/x", O_RDWR | O_CREAT, 0644));
	EXPECT_ERR(ENOENT, open("x/y", O_RDWR | O_CREAT, 0644));
	EXPECT_ERR(ENOENT, open("", O_RDONLY));
	EXPECT_ERR(ENOENT, open("", O_RDWR | O_CREAT, 0644));
	EXPECT_ERR(ENOENT, open("x", O_RDWR));
	EXPECT_ERR(ENOENT, open("x", O_RDWR | O_EXCL));
	fd = (int)REQUIRE_OK(open("d", O_RDONLY | O_DIRECTORY));
	EXPECT_ERR(EISDIR, read(fd, &c, 1));
	EXPECT_ERR(EBADF, write(fd, &c, 1));
	EXPECT_ERR2(EISDIR, EBADF, pread(fd, &c, 1, 0));
	EXPECT_OK(fsync(fd));
	EXPECT_OK(close(openat(fd, "in", O_WRONLY | O_CREAT | O_EXCL, 0600)));
	EXPECT_OK(h_exists("d/in"));
	EXPECT_OK(close(openat(fd, ".", O_RDONLY)));
	EXPECT_OK(close(openat(fd, "..", O_RDONLY)));
	EXPECT_OK(close(openat(fd, "../f", O_RDONLY)));
	p = (int)REQUIRE_OK(open("d", O_PATH));
	EXPECT_OK(close(openat(p, "in", O_RDWR)));
	EXPECT_ERR(EBADF, fsync(p));
	close(p);
	p = (int)REQUIRE_OK(open("f", O_RDONLY));
	EXPECT_ERR(ENOTDIR, openat(p, "x", O_RDONLY));
	EXPECT_ERR(ENOTDIR, openat(p, "x", O_WRONLY | O_CREAT, 0644));
	close(p);
	EXPECT_ERR(EBADF, openat(-1, "x", O_RDONLY));
	unlink("d/in");
	rmdir("d");
	EXPECT_OK(fsync(fd));
	close(fd);
	unlink("f");
}

static void truncation(void)
{
	static const int flags[] = {O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDWR | O_CREAT};
	struct stat before;

	for (int i = 0; i < 4; i++) {
		h_ctx("flags %#o", flags[i]);
		for (int empty = 0; empty < 2; empty++) {
			REQUIRE_OK(h_put("f", "something", empty ? 0 : 9));
			REQUIRE_OK(chmod("f", 0640));
			before = h_rewind("f");
			EXPECT_OK(h_opens("f", flags[i] | O_TRUNC, 0777));
			EXPECT_SIZE(0, "f");
			EXPECT_MODE(0640, "f");
			EXPECT_TIMES("f", &before, TM_M | TM_C, 0);
			EXPECT_EQ(before.st_ino, h_lstat("f").st_ino);
			EXPECT_EQ(0, h_lstat("f").st_blocks);
		}
		REQUIRE_OK(h_put("f", "something", 9));
		before = h_rewind("f");
		EXPECT_OK(h_opens("f", flags[i], 0));
		EXPECT_TIMES("f", &before, 0, 0);
		EXPECT_SIZE(9, "f");
	}
	h_ctx(NULL);
	/* Linux cuts even a file opened for reading, if it may be written. */
	EXPECT_OK(h_opens("f", O_RDONLY | O_TRUNC, 0));
	EXPECT_SIZE(0, "f");
	/* Another descriptor sees the cut, and a later write past it leaves a hole. */
	REQUIRE_OK(h_put("f", "0123456789", 10));
	int fd = (int)REQUIRE_OK(open("f", O_RDWR));

	EXPECT_EQ(8, lseek(fd, 8, SEEK_SET));
	EXPECT_OK(h_opens("f", O_WRONLY | O_TRUNC, 0));
	EXPECT_EQ(1, write(fd, "x", 1));
	EXPECT_CONTENT("\0\0\0\0\0\0\0\0x", 9, "f");
	close(fd);
	unlink("f");
}

static void special(void)
{
	int rd, wr, p;
	struct stat st;
	char c = 'x';

	REQUIRE_OK(mkfifo("p", 0644));
	EXPECT_ERR(ENXIO, open("p", O_WRONLY | O_NONBLOCK));
	rd = (int)EXPECT_OK(open("p", O_RDONLY | O_NONBLOCK));
	wr = (int)EXPECT_OK(open("p", O_WRONLY | O_NONBLOCK | O_TRUNC));
	close(rd);
	close(wr);
	EXPECT_OK(h_opens("p", O_RDWR | O_CREAT, 0600));
	unlink("p");
	REQUIRE_OK(mknod("s", S_IFSOCK | 0644, 0));
	EXPECT_ERR(ENXIO, open("s", O_RDONLY));
	EXPECT_ERR(ENXIO, open("s", O_RDWR));
	p = (int)EXPECT_OK(open("s", O_PATH));
	close(p);
	unlink("s");
	/* O_PATH: a name held, nothing more. */
	REQUIRE_OK(h_put("f", "abc", 3));
	p = (int)REQUIRE_OK(open("f", O_PATH));
	EXPECT_ERR(EBADF, read(p, &c, 1));
	EXPECT_ERR(EBADF, write(p, &c, 1));
	EXPECT_ERR(EBADF, fchmod(p, 0600));
	EXPECT_ERR(EBADF, ftruncate(p, 0));
	EXPECT_OK(fstat(p, &st));
	EXPECT_EQ(h_lstat("f").st_ino, st.st_ino);
	EXPECT_OK(unlink("f"));
	EXPECT_OK(fstat(p, &st));
	EXPECT_EQ(0, st.st_nlink);
	close(p);
	REQUIRE_OK(symlink("nowhere", "l"));
	p = (int)REQUIRE_OK(open("l", O_PATH | O_NOFOLLOW));
	EXPECT_OK(fstat(p, &st));
	EXPECT_EQ(S_IFLNK, st.st_mode & S_IFMT);
	close(p);
	unlink("l");
}

static void descriptor_flags(void)
{
	int fd, dup_fd;
	char c;

	REQUIRE_OK(h_put("f", "abcdef", 6));
	fd = (int)REQUIRE_OK(open("f", O_RDWR | O_APPEND | O_CLOEXEC));
	EXPECT_EQ(O_RDWR | O_APPEND, fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_OK(fcntl(fd, F_SETFL, O_NONBLOCK)); /* takes O_APPEND away */
	EXPECT_EQ(O_NONBLOCK, fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK));
	EXPECT_OK(fcntl(fd, F_SETFL, 0));
	EXPECT_EQ(1, write(fd, "X", 1));
	EXPECT_CONTENT("Xbcdef", 6, "f");
	EXPECT_OK(fcntl(fd, F_SETFL, O_APPEND));
	EXPECT_EQ(1, write(fd, "Y", 1));
	EXPECT_CONTENT("XbcdefY", 7, "f");
	EXPECT_EQ(7, lseek(fd, 0, SEEK_CUR));
	dup_fd = (int)REQUIRE_OK(dup(fd));
	EXPECT_EQ(2, lseek(dup_fd, 2, SEEK_SET));
	EXPECT_EQ(2, lseek(fd, 0, SEEK_CUR));
	EXPECT_OK(close(fd));
	EXPECT_EQ(1, read(dup_fd, &c, 1));
	EXPECT_EQ('c', c);
	EXPECT_OK(close(dup_fd));
	EXPECT_ERR(EBADF, close(dup_fd));
	fd = (int)REQUIRE_OK(open("f", O_RDONLY));
	EXPECT_ERR(EBADF, write(fd, "x", 1));
	EXPECT_ERR(EBADF, pwrite(fd, "x", 1, 0));
	close(fd);
	fd = (int)REQUIRE_OK(open("f", O_WRONLY));
	EXPECT_ERR(EBADF, read(fd, &c, 1));
	EXPECT_ERR(EBADF, pread(fd, &c, 1, 0));
	close(fd);
	/* "Neither": the permissions of both, for what is only asked about and ioctl(2). */
	fd = (int)REQUIRE_OK(open("f", O_ACCMODE));
	EXPECT_ERR(EBADF, read(fd, &c, 1));
	EXPECT_ERR(EBADF, write(fd, "x", 1));
	EXPECT_OK(fstat(fd, &(struct stat){0}));
	close(fd);
	fd = (int)REQUIRE_OK(open("g", O_ACCMODE | O_CREAT, 0600));
	EXPECT_ERR(EBADF, write(fd, "x", 1));
	close(fd);
	EXPECT_OK(unlink("g"));
	/* Many at once, of the same file and of several. */
	int fds[200];

	for (int i = 0; i < 200; i++) {
		fds[i] = open("f", i % 2 ? O_RDONLY : O_RDWR);
		if (fds[i] < 0)
			EXPECT_OK(-1);
	}
	for (int i = 0; i < 200; i += 20) {
		EXPECT_EQ(1, pread(fds[i], &c, 1, 0));
		EXPECT_EQ('X', c);
	}
	for (int i = 0; i < 200; i++)
		close(fds[i]);
	unlink("f");
}

void area_open(void)
{
	creation();
	exclusive();
	symlinks();
	directories();
	truncation();
	special();
	descriptor_flags();
}
