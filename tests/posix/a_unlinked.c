/* Files whose name is gone, changed or taken by another while they are open. */
#include "harness.h"

#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/wait.h>

static void all_calls(void)
{
	static char data[100000], got[100000];
	struct stat st = {0}, before = {0};
	struct timespec ts[2] = {{10, 11}, {12, 13}};
	char *m;
	int fd, second;

	h_fill(data, sizeof(data), 1);
	REQUIRE_OK(h_put("f", "hello", 5));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	second = (int)REQUIRE_OK(open("f", O_RDONLY));
	before = h_lstat("f");
	h_tick(before.st_ctim);
	EXPECT_OK(unlink("f"));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(0, st.st_nlink);
	EXPECT_EQ(before.st_ino, st.st_ino);
	EXPECT_EQ(5, st.st_size);
	EXPECT_TRUE(h_tscmp(st.st_ctim, before.st_ctim) > 0, "unlink moves ctime");
	EXPECT_EQ(5, pread(fd, got, 100, 0));
	EXPECT_TRUE(!memcmp(got, "hello", 5), "its bytes are there");
	EXPECT_EQ(sizeof(data), pwrite(fd, data, sizeof(data), 0));
	EXPECT_EQ(sizeof(data), pread(second, got, sizeof(got), 0));
	EXPECT_TRUE(h_is_fill(got, sizeof(got), 1), "written and read without a name");
	EXPECT_OK(fstat(second, &st));
	EXPECT_EQ(sizeof(data), st.st_size);
	EXPECT_OK(ftruncate(fd, 10));
	EXPECT_OK(fstat(second, &st));
	EXPECT_EQ(10, st.st_size);
	EXPECT_OK(ftruncate(fd, 5000));
	EXPECT_EQ(5000, pread(second, got, sizeof(got), 0));
	EXPECT_TRUE(h_is_zero(got + 10, 4990), "regrown, it is zero");
	EXPECT_EQ(5000, lseek(second, 0, SEEK_END));
	EXPECT_OK(fchmod(fd, 0421));
	EXPECT_OK(fstat(second, &st));
	EXPECT_EQ(0421, st.st_mode & 07777);
	EXPECT_OK(fchown(fd, geteuid(), getegid()));
	EXPECT_OK(futimens(fd, ts));
	EXPECT_OK(fstat(second, &st));
	EXPECT_EQ(10, st.st_atim.tv_sec);
	EXPECT_EQ(12, st.st_mtim.tv_sec);
	EXPECT_EQ(13, st.st_mtim.tv_nsec);
	EXPECT_OK(fsync(fd));
	EXPECT_OK(fdatasync(fd));
	m = mmap(NULL, 5000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT_OK(m == MAP_FAILED ? -1 : 0);
	if (m != MAP_FAILED) {
		m[100] = 'M';
		EXPECT_EQ(1, pread(second, got, 1, 100));
		EXPECT_EQ('M', got[0]);
		munmap(m, 5000);
	}
	EXPECT_OK(fallocate(fd, 0, 0, 8192) && errno != EOPNOTSUPP ? -1 : 0);
	if (h_root()) {
		EXPECT_OK(fchown(fd, UA, GB));
		EXPECT_OK(fstat(second, &st));
		EXPECT_EQ(UA, st.st_uid);
		EXPECT_EQ(GB, st.st_gid);
	}
	/* The name again: another file. */
	EXPECT_OK(h_put("f", "other", 5));
	EXPECT_EQ(3, pwrite(fd, "old", 3, 0));
	EXPECT_CONTENT("other", 5, "f");
	EXPECT_EQ(3, pread(second, got, 3, 0));
	EXPECT_TRUE(!memcmp(got, "old", 3), "the old file keeps its own bytes");
	EXPECT_TRUE(h_lstat("f").st_ino != before.st_ino, "the new file has another inode");
	/* Opened anew through /proc it is still the same file. */
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	EXPECT_OK(close(second));
	if (h_root()) {
		second = (int)EXPECT_OK(open(proc, O_RDONLY));
		EXPECT_EQ(3, pread(second, got, 3, 0));
		EXPECT_TRUE(!memcmp(got, "old", 3), "opened anew it is the old file");
		close(second);
	}
	EXPECT_OK(close(fd));
	EXPECT_CONTENT("other", 5, "f");
	unlink("f");
}

/* Among several links the last one counts. */
static void of_several(void)
{
	struct stat st = {0};
	int fd;

	REQUIRE_OK(h_put("a", "x", 1));
	REQUIRE_OK(link("a", "b"));
	fd = (int)REQUIRE_OK(open("a", O_RDWR));
	EXPECT_OK(unlink("a"));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(1, st.st_nlink);
	EXPECT_EQ(1, pwrite(fd, "y", 1, 0));
	EXPECT_CONTENT("y", 1, "b");
	EXPECT_OK(link("b", "c"));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(2, st.st_nlink);
	EXPECT_OK(unlink("b"));
	EXPECT_OK(unlink("c"));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(0, st.st_nlink);
	close(fd);
}

static void many(void)
{
	enum { N = 150 };
	int fds[N], bad = 0;
	char name[32], got[32];

	for (int i = 0; i < N; i++) {
		int n = snprintf(name, sizeof(name), "many-%d", i);

		fds[i] = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
		bad += fds[i] < 0 || write(fds[i], name, (size_t)n) != n || unlink(name);
	}
	EXPECT_EQ(0, bad);
	for (int i = N - 1; i >= 0; i--) {
		int n = snprintf(name, sizeof(name), "many-%d", i);

		bad += pread(fds[i], got, sizeof(got), 0) != n || memcmp(got, name, (size_t)n) ||
		       close(fds[i]);
	}
	EXPECT_EQ(0, bad);
}

/* Renamed, moved and replaced while open, also the directories above. */
static void renamed(void)
{
	struct stat st = {0};
	char got[16] = "";
	int fd, dir, victim;

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(mkdir("d/e", 0755));
	REQUIRE_OK(h_put("d/e/f", "one", 3));
	fd = (int)REQUIRE_OK(open("d/e/f", O_RDWR | O_APPEND));
	dir = (int)REQUIRE_OK(open("d/e", O_RDONLY | O_DIRECTORY));
	EXPECT_OK(rename("d/e/f", "d/g"));
	EXPECT_EQ(3, write(fd, "two", 3));
	EXPECT_CONTENT("onetwo", 6, "d/g");
	EXPECT_OK(rename("d", "moved"));
	EXPECT_EQ(1, write(fd, "!", 1));
	EXPECT_CONTENT("onetwo!", 7, "moved/g");
	EXPECT_OK(fchmod(fd, 0640));
	EXPECT_MODE(0640, "moved/g");
	EXPECT_OK(ftruncate(fd, 2));
	EXPECT_SIZE(2, "moved/g");
	EXPECT_OK(rename("moved/g", "moved/e/h"));
	EXPECT_OK(fstatat(dir, "h", &st, 0));
	EXPECT_EQ(2, st.st_size);
	EXPECT_ERR(ENOENT, fstatat(dir, "f", &st, 0));
	/* Replaced by a rename, the victim lives on in its descriptor. */
	REQUIRE_OK(h_put("v", "victim", 6));
	victim = (int)REQUIRE_OK(open("v", O_RDWR));
	EXPECT_OK(rename("moved/e/h", "v"));
	EXPECT_CONTENT("on", 2, "v");
	EXPECT_EQ(6, pread(victim, got, sizeof(got), 0));
	EXPECT_OK(fstat(victim, &st));
	EXPECT_EQ(0, st.st_nlink);
	EXPECT_EQ(4, pwrite(victim, "more", 4, 6));
	EXPECT_EQ(10, pread(victim, got, sizeof(got), 0));
	EXPECT_EQ(1, write(fd, "Z", 1));
	EXPECT_CONTENT("onZ", 3, "v");
	close(victim);
	close(fd);
	close(dir);
	unlink("v");
	h_rmtree(AT_FDCWD, "moved");
}

/* Descriptors that a child has inherited outlive the parent's. */
static void inherited(void)
{
	int p[2], fd, status = -1;
	pid_t pid;
	char c;

	REQUIRE_OK(h_put("f", "data", 4));
	REQUIRE_OK(pipe(p));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	pid = fork();
	if (pid == 0) {
		char buf[8];

		close(p[1]);
		if (read(p[0], &c, 1) != 0) /* until the parent has closed and unlinked */
			_exit(1);
		if (pread(fd, buf, 8, 0) != 4 || memcmp(buf, "data", 4))
			_exit(2);
		if (pwrite(fd, "more", 4, 4) != 4 || pread(fd, buf, 8, 0) != 8)
			_exit(3);
		_exit(0);
	}
	close(p[0]);
	EXPECT_OK(close(fd));
	EXPECT_OK(unlink("f"));
	EXPECT_OK(h_put("f", "another", 7));
	close(p[1]);
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_CONTENT("another", 7, "f");
	unlink("f");
}

void area_unlinked(void)
{
	all_calls();
	of_several();
	many();
	renamed();
	inherited();
}
