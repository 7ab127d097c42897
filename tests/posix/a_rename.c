/* rename and renameat: each type over each, directories, links, what stays open. */
#include "harness.h"

static void onto_nothing(void)
{
	FOR_TYPES(t, T_ALL) {
		struct stat before, from, to;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(mkdir("a", 0755));
		REQUIRE_OK(mkdir("b", 0755));
		REQUIRE_OK(h_make(t, "a/x", 0640));
		before = h_rewind("a/x");
		from = h_rewind("a");
		EXPECT_OK(rename("a/x", "a/y"));
		EXPECT_ABSENT("a/x");
		EXPECT_TIMES("a", &from, TM_M | TM_C, 0);
		EXPECT_TIMES("a/y", &before, 0, TM_C);
		EXPECT_EQ(before.st_ino, h_lstat("a/y").st_ino);
		EXPECT_EQ(before.st_mode, h_lstat("a/y").st_mode);
		EXPECT_EQ(before.st_nlink, h_lstat("a/y").st_nlink);
		from = h_rewind("a");
		to = h_rewind("b");
		before = h_rewind("a/y");
		EXPECT_OK(rename("a/y", "b/z"));
		EXPECT_ABSENT("a/y");
		EXPECT_EQ(before.st_ino, h_lstat("b/z").st_ino);
		EXPECT_EQ(before.st_mode, h_lstat("b/z").st_mode);
		EXPECT_EQ(before.st_rdev, h_lstat("b/z").st_rdev);
		EXPECT_TIMES("a", &from, TM_M | TM_C, 0);
		EXPECT_TIMES("b", &to, TM_M | TM_C, 0);
		/* Onto itself: nothing happens. */
		from = h_rewind("b");
		EXPECT_OK(rename("b/z", "b/z"));
		EXPECT_OK(rename("b/z", "b/../b/z"));
		EXPECT_TIMES("b", &from, 0, 0);
		EXPECT_OK(h_exists("b/z"));
		EXPECT_EQ(0, h_count("a"));
		EXPECT_EQ(1, h_count("b"));
		h_rmtree(AT_FDCWD, "a");
		h_rmtree(AT_FDCWD, "b");
	}
	h_ctx(NULL);
}

/* Each type over each: files replace files, directories replace empty directories. */
static void over_each(void)
{
	FOR_TYPES(from, T_ALL) {
		FOR_TYPES(to, T_ALL) {
			struct stat a, dir;

			h_ctx("%s over %s", h_type_name(from), h_type_name(to));
			REQUIRE_OK(mkdir("d", 0755));
			REQUIRE_OK(h_make(from, "d/a", 0644));
			REQUIRE_OK(h_make(to, "d/b", 0600));
			a = h_lstat("d/a");
			dir = h_rewind("d");
			if ((from == T_DIR) == (to == T_DIR)) {
				EXPECT_OK(rename("d/a", "d/b"));
				EXPECT_ABSENT("d/a");
				EXPECT_EQ(a.st_ino, h_lstat("d/b").st_ino);
				EXPECT_EQ(a.st_mode, h_lstat("d/b").st_mode);
				EXPECT_TIMES("d", &dir, TM_M | TM_C, 0);
				EXPECT_EQ(1, h_count("d"));
			} else {
				EXPECT_ERR(from == T_DIR ? ENOTDIR : EISDIR, rename("d/a", "d/b"));
				EXPECT_EQ(h_type_mode(from), h_lstat("d/a").st_mode & S_IFMT);
				EXPECT_EQ(h_type_mode(to), h_lstat("d/b").st_mode & S_IFMT);
				EXPECT_TIMES("d", &dir, 0, 0);
				EXPECT_EQ(2, h_count("d"));
			}
			h_rmtree(AT_FDCWD, "d");
		}
	}
	h_ctx(NULL);
}

static void replaced_links(void)
{
	struct stat st = {0}, before;
	char buf[8] = "";
	int fd;

	/* Two names of one file: rename does nothing and says so with success. */
	REQUIRE_OK(h_put("a", "one", 3));
	REQUIRE_OK(link("a", "b"));
	EXPECT_OK(rename("a", "b"));
	EXPECT_OK(h_exists("a"));
	EXPECT_OK(h_exists("b"));
	EXPECT_NLINK(2, "a");
	/* The replaced file loses one link; what is open lives on. */
	REQUIRE_OK(h_put("c", "two", 3));
	fd = (int)REQUIRE_OK(open("c", O_RDWR));
	before = h_rewind("a");
	EXPECT_OK(rename("c", "a"));
	EXPECT_CONTENT("two", 3, "a");
	EXPECT_CONTENT("one", 3, "b");
	EXPECT_NLINK(1, "a");
	EXPECT_NLINK(1, "b");
	EXPECT_TIMES("b", &before, TM_C, TM_A);
	EXPECT_EQ(3, pread(fd, buf, 8, 0));
	EXPECT_EQ(3, pwrite(fd, "two", 3, 3));
	EXPECT_CONTENT("twotwo", 6, "a");
	EXPECT_OK(rename("b", "a"));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(0, st.st_nlink);
	EXPECT_EQ(6, st.st_size);
	EXPECT_EQ(6, pread(fd, buf, 8, 0));
	EXPECT_TRUE(!memcmp(buf, "twotwo", 6), "a replaced open file keeps its bytes");
	EXPECT_EQ(3, pwrite(fd, "new", 3, 0));
	EXPECT_CONTENT("one", 3, "a");
	close(fd);
	/* Symlinks are renamed and replaced themselves. */
	REQUIRE_OK(symlink("a", "l"));
	REQUIRE_OK(h_put("n", "n", 1));
	EXPECT_OK(rename("l", "m"));
	EXPECT_EQ(S_IFLNK, h_lstat("m").st_mode & S_IFMT);
	EXPECT_OK(rename("n", "m"));
	EXPECT_EQ(S_IFREG, h_lstat("m").st_mode & S_IFMT);
	EXPECT_CONTENT("one", 3, "a");
	REQUIRE_OK(symlink("a", "l"));
	EXPECT_OK(rename("l", "a")); /* over what it pointed to */
	EXPECT_EQ(S_IFLNK, h_lstat("a").st_mode & S_IFMT);
	EXPECT_ERR(ELOOP, stat("a", &st));
	unlink("a");
	unlink("m");
}

static void directories(void)
{
	struct stat st;
	bool subdirs;
	int fd;

	REQUIRE_OK(mkdir("a", 0755));
	REQUIRE_OK(mkdir("b", 0755));
	subdirs = h_lstat("a").st_nlink == 2;
	REQUIRE_OK(mkdir("a/d", 0755));
	REQUIRE_OK(mkdir("a/d/e", 0755));
	REQUIRE_OK(h_put("a/d/e/f", "deep", 4));
	fd = (int)REQUIRE_OK(open("a/d/e", O_RDONLY | O_DIRECTORY));
	st = h_lstat("a/d");
	EXPECT_OK(rename("a/d", "b/d2"));
	EXPECT_EQ(st.st_ino, h_lstat("b/d2").st_ino);
	EXPECT_EQ(h_lstat("b").st_ino, h_lstat("b/d2/..").st_ino);
	EXPECT_CONTENT("deep", 4, "b/d2/e/f");
	EXPECT_ABSENT("a/d/e/f");
	if (subdirs) {
		EXPECT_NLINK(2, "a");
		EXPECT_NLINK(3, "b");
		EXPECT_NLINK(3, "b/d2");
	}
	/* A descriptor of a directory below goes with it. */
	EXPECT_OK(close(openat(fd, "f", O_RDONLY)));
	EXPECT_OK(close(openat(fd, "../../../b/d2/e/f", O_RDONLY)));
	EXPECT_OK(close(openat(fd, "g", O_WRONLY | O_CREAT, 0644)));
	EXPECT_OK(h_exists("b/d2/e/g"));
	close(fd);
	/* Never into itself. */
	EXPECT_ERR(EINVAL, rename("b", "b/x"));
	EXPECT_ERR(EINVAL, rename("b", "b/d2/x"));
	EXPECT_ERR(EINVAL, rename("b", "b/d2/e/x"));
	EXPECT_ERR(EINVAL, rename("b", "b/d2"));
	EXPECT_ERR2(ENOTEMPTY, EEXIST, rename("b/d2", "b"));
	EXPECT_ERR2(ENOTEMPTY, EEXIST, rename("b/d2/e", "b"));
	/* Over a full directory, over an empty one. */
	REQUIRE_OK(mkdir("a/full", 0755));
	REQUIRE_OK(h_touch("a/full/x"));
	REQUIRE_OK(mkdir("a/empty", 0700));
	EXPECT_ERR2(ENOTEMPTY, EEXIST, rename("b/d2", "a/full"));
	EXPECT_ERR2(ENOTEMPTY, EEXIST, rename("a/empty", "a/full"));
	fd = (int)REQUIRE_OK(open("a/empty", O_RDONLY | O_DIRECTORY));
	EXPECT_OK(rename("b/d2", "a/empty"));
	EXPECT_CONTENT("deep", 4, "a/empty/e/f");
	EXPECT_ERR(ENOENT, openat(fd, "e", O_RDONLY));
	EXPECT_ERR(ENOENT, openat(fd, "new", O_WRONLY | O_CREAT, 0644));
	close(fd);
	if (subdirs) {
		EXPECT_NLINK(4, "a");
		EXPECT_NLINK(2, "b");
	}
	EXPECT_OK(rename("a/empty", "a/again/")); /* a slash is right for a directory */
	EXPECT_OK(rename("a/again/", "a/empty"));
	h_rmtree(AT_FDCWD, "a");
	rmdir("b");
}

static void errors(void)
{
	struct stat dir;

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(h_touch("d/f"));
	REQUIRE_OK(mkdir("d/e", 0755));
	dir = h_rewind("d");
	EXPECT_ERR(ENOENT, rename("d/none", "d/x"));
	EXPECT_ERR(ENOENT, rename("d/none", "d/f"));
	EXPECT_ERR(ENOENT, rename("d/f", "d/none/x"));
	EXPECT_ERR(ENOENT, rename("d/none/f", "d/x"));
	EXPECT_ERR(ENOENT, rename("", "d/x"));
	EXPECT_ERR(ENOENT, rename("d/f", ""));
	EXPECT_ERR(ENOTDIR, rename("d/f", "d/f/x"));
	EXPECT_ERR(ENOTDIR, rename("d/f/x", "d/x"));
	EXPECT_ERR(ENOTDIR, rename("d/f/", "d/x"));
	EXPECT_ERR(ENOTDIR, rename("d/f", "d/x/"));
	EXPECT_ERR(ENOTDIR, rename("d/e", "d/f/"));
	EXPECT_ERR(EBUSY, rename("d/.", "d/x"));
	EXPECT_ERR(EBUSY, rename("d/e/..", "d/x"));
	EXPECT_ERR(EBUSY, rename("d/e", "d/."));
	EXPECT_ERR(EBUSY, rename(".", "d/x"));
	EXPECT_ERR(EBUSY, rename("..", "d/x"));
	EXPECT_ERR2(EBUSY, EXDEV, rename("/", "d/x")); /* EXDEV on a mount of its own */
	EXPECT_ERR(EINVAL, rename("d", "d/e"));
	EXPECT_ERR(EINVAL, rename("d", "d/x"));
	EXPECT_TIMES("d", &dir, 0, 0);
	EXPECT_EQ(2, h_count("d"));
	/* A name too long fails on either side and leaves the other alone. */
	char *longest = h_name(255), *longer = h_name(256);

	EXPECT_ERR(ENAMETOOLONG, rename("d/f", longer));
	EXPECT_ERR(ENAMETOOLONG, rename(longer, "d/x"));
	EXPECT_OK(rename("d/f", longest));
	EXPECT_OK(rename(longest, "d/f"));
	free(longest);
	free(longer);
	h_rmtree(AT_FDCWD, "d");
}

static void at_calls(void)
{
	int a, b;

	REQUIRE_OK(mkdir("a", 0755));
	REQUIRE_OK(mkdir("b", 0755));
	a = (int)REQUIRE_OK(open("a", O_PATH | O_DIRECTORY));
	b = (int)REQUIRE_OK(open("b", O_RDONLY | O_DIRECTORY));
	REQUIRE_OK(h_put("a/f", "x", 1));
	EXPECT_OK(renameat(a, "f", b, "g"));
	EXPECT_CONTENT("x", 1, "b/g");
	EXPECT_OK(renameat(b, "g", AT_FDCWD, "h"));
	EXPECT_OK(renameat(AT_FDCWD, "h", a, "../b/i"));
	EXPECT_CONTENT("x", 1, "b/i");
	EXPECT_ERR(EBADF, renameat(-1, "i", a, "x"));
	EXPECT_ERR(EBADF, renameat(b, "i", -1, "x"));
	EXPECT_OK(rename("b", "c")); /* b, the descriptor, follows */
	EXPECT_OK(renameat(b, "i", b, "j"));
	EXPECT_CONTENT("x", 1, "c/j");
	close(a);
	close(b);
	h_rmtree(AT_FDCWD, "c");
	rmdir("a");
}

/* While one name is replaced over and over, the other process never finds it missing. */
static void replaced_while_looked_at(void)
{
	int p[2];
	pid_t pid;
	long missing = 0, wrong = 0, looked = 0;
	char c;

	REQUIRE_OK(h_put("f", "AAAA", 4));
	REQUIRE_OK(pipe(p));
	pid = fork();
	if (pid == 0) {
		int bad = 0;

		for (int i = 0; i < 500; i++)
			bad |= h_put("tmp", i % 2 ? "AAAA" : "BBBB", 4) || rename("tmp", "f");
		c = (char)bad;
		_exit(write(p[1], &c, 1) != 1);
	}
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	while (read(p[0], &c, 1) != 1) {
		char buf[8] = "";
		int fd = open("f", O_RDONLY);

		looked++;
		if (fd < 0) {
			missing++;
			continue;
		}
		if (read(fd, buf, 8) != 4 || (strcmp(buf, "AAAA") && strcmp(buf, "BBBB")))
			wrong++;
		close(fd);
	}
	EXPECT_EQ(0, c);
	EXPECT_EQ(0, missing);
	EXPECT_EQ(0, wrong);
	EXPECT_TRUE(looked > 0, "looked at least once");
	close(p[0]);
	close(p[1]);
	unlink("f");
}

void area_rename(void)
{
	onto_nothing();
	over_each();
	replaced_links();
	directories();
	errors();
	at_calls();
	replaced_while_looked_at();
}
