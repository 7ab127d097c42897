/* Memory mappings: shared and private, against read and write, msync, other processes. */
#include "harness.h"

#include <linux/magic.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <sys/wait.h>

static long page;

static void *map(int fd, size_t len, int prot, int flags, off_t at)
{
	void *p = mmap(NULL, len, prot, flags, fd, at);

	EXPECT_OK(p == MAP_FAILED ? -1 : 0);
	return p == MAP_FAILED ? NULL : p;
}

static void shared(void)
{
	const size_t len = 64 * (size_t)page;
	char *buf = malloc(len), *m, *m2;
	int fd, other;

	REQUIRE_OK(buf ? 0 : -1);
	h_fill(buf, len, 1);
	REQUIRE_OK(h_put("f", buf, len));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	other = (int)REQUIRE_OK(open("f", O_RDWR));
	m = map(fd, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	m2 = map(other, len, PROT_READ, MAP_SHARED, 0);
	if (!m || !m2)
		return;
	EXPECT_TRUE(h_is_fill(m, len, 1), "the mapping shows the file");
	/* Store here, see it by read and in the other mapping; write there, see it here. */
	for (int i = 0; i < 16; i++) {
		size_t at = (size_t)i * 3 * (size_t)page + (size_t)i;
		char c = 0;

		m[at] = (char)('A' + i);
		EXPECT_EQ(1, pread(other, &c, 1, (off_t)at));
		EXPECT_EQ('A' + i, c);
		EXPECT_EQ('A' + i, m2[at]);
		c = (char)('a' + i);
		EXPECT_EQ(1, pwrite(other, &c, 1, (off_t)at + 1));
		EXPECT_EQ('a' + i, m[at + 1]);
		EXPECT_EQ('a' + i, m2[at + 1]);
	}
	EXPECT_OK(msync(m, len, MS_SYNC));
	EXPECT_OK(msync(m, len, MS_ASYNC));
	EXPECT_OK(msync(m, (size_t)page, MS_SYNC | MS_INVALIDATE));
	EXPECT_ERR(EINVAL, msync(m + 1, 1, MS_SYNC));
	EXPECT_ERR(EINVAL, msync(m, 1, MS_SYNC | MS_ASYNC));
	memcpy(buf, m, len);
	EXPECT_OK(munmap(m, len));
	EXPECT_CONTENT(buf, len, "f");
	/* A mapping outlives its descriptor and its name. */
	m = map(fd, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	EXPECT_OK(close(fd));
	EXPECT_OK(unlink("f"));
	if (m) {
		m[5] = '!';
		EXPECT_EQ('!', m2[5]);
		EXPECT_EQ(1, pread(other, buf, 1, 5));
		EXPECT_EQ('!', buf[0]);
		EXPECT_OK(msync(m, len, MS_SYNC));
		munmap(m, len);
	}
	munmap(m2, len);
	close(other);
	free(buf);
}

static void private(void)
{
	char *m, c;
	int fd;

	REQUIRE_OK(h_put("f", "0123456789", 10));
	fd = (int)REQUIRE_OK(open("f", O_RDONLY));
	m = map(fd, 10, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	if (!m)
		return;
	EXPECT_EQ('3', m[3]);
	m[3] = 'X';
	EXPECT_EQ(1, pread(fd, &c, 1, 3));
	EXPECT_EQ('3', c);
	EXPECT_OK(msync(m, 10, MS_SYNC));
	EXPECT_CONTENT("0123456789", 10, "f");
	munmap(m, 10);
	close(fd);
	/* Rights: a read-only descriptor gives no shared writing, and mprotect does not either. */
	fd = (int)REQUIRE_OK(open("f", O_RDONLY));
	EXPECT_ERR(EACCES, mmap(NULL, 10, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
	m = map(fd, 10, PROT_READ, MAP_SHARED, 0);
	if (m) {
		EXPECT_ERR(EACCES, mprotect(m, 10, PROT_READ | PROT_WRITE));
		munmap(m, 10);
	}
	close(fd);
	unlink("f");
}

/* The last page: zero past the end, and what is stored there is not in the file. */
static void last_page(void)
{
	char *m, *got = malloc((size_t)page * 3);
	int fd;

	REQUIRE_OK(got ? 0 : -1);
	REQUIRE_OK(h_put("f", "hello", 5));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	m = map(fd, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	if (!m)
		return;
	EXPECT_TRUE(h_is_zero(m + 5, (size_t)page - 5), "past the end it is zero");
	m[0] = 'J';
	m[100] = 'x';
	EXPECT_OK(msync(m, (size_t)page, MS_SYNC));
	EXPECT_SIZE(5, "f");
	EXPECT_CONTENT("Jello", 5, "f");
	munmap(m, (size_t)page);
	/* Grown afterwards, the stray byte must not appear. */
	EXPECT_OK(ftruncate(fd, 2 * page));
	EXPECT_EQ(2 * page, pread(fd, got, (size_t)page * 3, 0));
	EXPECT_TRUE(h_is_zero(got + 5, (size_t)(2 * page - 5)), "grown, it is zero");
	/* A mapping shows growth made through a descriptor. */
	m = map(fd, 4 * (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	if (m) {
		EXPECT_EQ(3, pwrite(fd, "new", 3, 3 * page));
		EXPECT_TRUE(!memcmp(m + 3 * page, "new", 3),
			    "the mapping shows what was written past the old end");
		m[2 * page] = 'h'; /* into the hole */
		EXPECT_EQ(1, pread(fd, got, 1, 2 * page));
		EXPECT_EQ('h', got[0]);
		/* Cut and grown: the mapping shows zeroes. */
		m[page + 7] = 'y';
		EXPECT_OK(ftruncate(fd, page + 3));
		EXPECT_OK(ftruncate(fd, 4 * page));
		EXPECT_EQ(0, m[page + 7]);
		EXPECT_EQ(0, m[3 * page]);
		munmap(m, 4 * (size_t)page);
	}
	free(got);
	close(fd);
	unlink("f");
}

static sigjmp_buf bus;

static void on_bus(int sig)
{
	siglongjmp(bus, sig);
}

static void past_the_end(void)
{
	struct sigaction sa = {.sa_handler = on_bus};
	volatile int got = 0;
	char *m;
	int fd;

	REQUIRE_OK(h_touch("f"));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	REQUIRE_OK(ftruncate(fd, page));
	m = map(fd, 3 * (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	if (!m)
		return;
	sigaction(SIGBUS, &sa, NULL);
	if (sigsetjmp(bus, 1) == 0)
		((volatile char *)m)[page] = 1;
	else
		got++;
	EXPECT_EQ(1, got); /* a page wholly past the end */
	EXPECT_OK(ftruncate(fd, 3 * page));
	if (sigsetjmp(bus, 1) == 0)
		((volatile char *)m)[page] = 1;
	else
		got++;
	EXPECT_EQ(1, got);
	EXPECT_OK(ftruncate(fd, 0));
	if (sigsetjmp(bus, 1) == 0)
		((volatile char *)m)[0] = 1;
	else
		got++;
	EXPECT_EQ(2, got);
	signal(SIGBUS, SIG_DFL);
	EXPECT_SIZE(0, "f");
	munmap(m, 3 * (size_t)page);
	close(fd);
	unlink("f");
}

/* Another process stores; this one reads by mapping, by read, and the other way round. */
static void processes(void)
{
	int to[2], from[2], fd;
	volatile char *m;
	pid_t pid;
	char c = 0;

	REQUIRE_OK(h_touch("f"));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	REQUIRE_OK(ftruncate(fd, 4 * page));
	REQUIRE_OK(pipe(to));
	REQUIRE_OK(pipe(from));
	pid = fork();
	if (pid == 0) {
		int own = open("f", O_RDWR);
		volatile char *mine =
		    mmap(NULL, 4 * (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);

		if (mine == MAP_FAILED)
			_exit(1);
		for (int i = 0; i < 50; i++) {
			mine[i * 300] = (char)(i + 1);
			if (write(from[1], "", 1) != 1 || read(to[0], &c, 1) != 1)
				_exit(1);
			if (mine[i * 300 + 1] != (char)(i + 2))
				_exit(2);
		}
		_exit(0);
	}
	m = map(fd, 4 * (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	for (int i = 0; m && i < 50; i++) {
		if (read(from[0], &c, 1) != 1)
			break;
		EXPECT_EQ(i + 1, m[i * 300]);
		EXPECT_EQ(1, pread(fd, &c, 1, i * 300));
		EXPECT_EQ(i + 1, c);
		c = (char)(i + 2);
		if (i % 2)
			m[i * 300 + 1] = c;
		else
			EXPECT_EQ(1, pwrite(fd, &c, 1, i * 300 + 1));
		EXPECT_EQ(1, write(to[1], "", 1));
	}
	int status = -1;

	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	if (m)
		munmap((void *)(uintptr_t)m, 4 * (size_t)page);
	close(fd);
	for (int i = 0; i < 2; i++) {
		close(to[i]);
		close(from[i]);
	}
	unlink("f");
}

static bool on_fuse(void)
{
	struct statfs sfs;

	return statfs(".", &sfs) == 0 && sfs.f_type == FUSE_SUPER_MAGIC;
}

/* A file opened for appending can be mapped like any other. */
static void appended(void)
{
	char *m, c = 0;
	int fd, plain;

	REQUIRE_OK(h_put("f", "0123456789", 10));
	fd = (int)REQUIRE_OK(open("f", O_RDWR | O_APPEND));
	plain = (int)REQUIRE_OK(open("f", O_RDONLY));
	h_ctx("private mapping of a file opened with O_APPEND");
	m = map(fd, 10, PROT_READ, MAP_PRIVATE, 0);
	if (m) {
		EXPECT_TRUE(!memcmp(m, "0123456789", 10), "it shows the file");
		munmap(m, 10);
	}
	h_ctx("shared mapping of a file opened with O_APPEND");
	m = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED && errno == ENODEV && on_fuse()) {
		/* before Linux 6.6, a file that bypasses the page cache cannot be */
		h_skip("shared mapping of a file opened with O_APPEND: ENODEV over FUSE");
		m = NULL;
	} else {
		if (m != MAP_FAILED)
			munmap(m, (size_t)page);
		m = map(fd, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	}
	if (m) {
		EXPECT_TRUE(!memcmp(m, "0123456789", 10), "it shows the file");
		EXPECT_EQ(3, write(fd, "abc", 3));
		EXPECT_TRUE(!memcmp(m, "0123456789abc", 13), "it shows what was appended");
		m[2] = 'X';
		EXPECT_EQ(1, pread(plain, &c, 1, 2));
		EXPECT_EQ('X', c);
		EXPECT_EQ(1, pread(fd, &c, 1, 2));
		EXPECT_EQ('X', c);
		EXPECT_EQ(1, write(fd, "d", 1));
		EXPECT_OK(msync(m, (size_t)page, MS_SYNC));
		munmap(m, (size_t)page);
		EXPECT_CONTENT("01X3456789abcd", 14, "f");
	}
	h_ctx(NULL);
	close(fd);
	close(plain);
	unlink("f");
}

static void times(void)
{
	struct stat before;
	char *m;
	int fd;

	REQUIRE_OK(h_put("f", "0123456789", 10));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	before = h_rewind("f");
	m = map(fd, 10, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	if (m) {
		m[0] = 'x';
		EXPECT_OK(msync(m, 10, MS_SYNC));
		EXPECT_TIMES("f", &before, TM_M | TM_C, TM_A);
		munmap(m, 10);
	}
	close(fd);
	unlink("f");
}

/* Buffers of read and write that are themselves mappings of the file or of another one. */
static void as_buffers(void)
{
	const size_t len = 8 * (size_t)page;
	char *buf = malloc(len), *m;
	int a, b;

	REQUIRE_OK(buf ? 0 : -1);
	h_fill(buf, len, 4);
	REQUIRE_OK(h_put("a", buf, len));
	a = (int)REQUIRE_OK(open("a", O_RDWR));
	b = (int)REQUIRE_OK(open("b", O_RDWR | O_CREAT | O_TRUNC, 0644));
	m = map(a, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	if (m) {
		EXPECT_EQ(len, write(b, m, len));
		EXPECT_CONTENT(buf, len, "b");
		EXPECT_EQ(page, pwrite(a, m + 4 * page, (size_t)page, 0)); /* from itself */
		EXPECT_TRUE(!memcmp(m, buf + 4 * page, (size_t)page),
			    "written from its own mapping");
		h_fill(buf, len, 5);
		EXPECT_EQ(len, pwrite(b, buf, len, 0));
		EXPECT_EQ(len, pread(b, m, len, 0));
		EXPECT_OK(msync(m, len, MS_SYNC));
		EXPECT_CONTENT(buf, len, "a");
		munmap(m, len);
	}
	close(a);
	close(b);
	free(buf);
	unlink("a");
	unlink("b");
}

void area_mmap(void)
{
	page = sysconf(_SC_PAGESIZE);
	shared();
	private();
	last_page();
	past_the_end();
	processes();
	appended();
	times();
	as_buffers();
}
