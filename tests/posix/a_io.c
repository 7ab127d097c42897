/* read write lseek, vectors, big transfers, appending, O_DIRECT and the sync flags. */
#include "harness.h"

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

/* ---- io ------------------------------------------------------------------------------------ */

static void positions(void)
{
	char buf[64] = "";
	int fd, other;

	fd = (int)REQUIRE_OK(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
	other = (int)REQUIRE_OK(open("f", O_RDWR));
	EXPECT_EQ(5, write(fd, "hello", 5));
	EXPECT_EQ(5, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(0, lseek(other, 0, SEEK_CUR));
	EXPECT_EQ(5, read(other, buf, sizeof(buf)));
	EXPECT_TRUE(!memcmp(buf, "hello", 5), "what one descriptor writes the other reads");
	EXPECT_EQ(0, read(other, buf, sizeof(buf)));
	EXPECT_EQ(3, write(fd, "abc", 3));
	EXPECT_EQ(3, read(other, buf, sizeof(buf)));
	EXPECT_EQ(8, lseek(other, 0, SEEK_END));
	EXPECT_EQ(6, lseek(fd, -2, SEEK_CUR));
	EXPECT_EQ(1, write(fd, "X", 1));
	EXPECT_CONTENT("helloaXc", 8, "f");
	/* pread and pwrite leave the offset alone. */
	EXPECT_EQ(2, pread(fd, buf, 2, 0));
	EXPECT_EQ(2, pwrite(fd, "HE", 2, 0));
	EXPECT_EQ(7, lseek(fd, 0, SEEK_CUR));
	EXPECT_CONTENT("HElloaXc", 8, "f");
	EXPECT_EQ(0, pread(fd, buf, 10, 8));
	EXPECT_EQ(0, pread(fd, buf, 10, 1000000));
	EXPECT_EQ(1, pread(fd, buf, 10, 7));
	/* Past the end: reading gives nothing, writing makes a hole. */
	EXPECT_EQ(100, lseek(fd, 100, SEEK_SET));
	EXPECT_EQ(0, read(fd, buf, 10));
	EXPECT_SIZE(8, "f");
	EXPECT_EQ(1, write(fd, "!", 1));
	EXPECT_SIZE(101, "f");
	EXPECT_EQ(64, pread(other, buf, 64, 8));
	EXPECT_TRUE(h_is_zero(buf, 64), "the gap is zero");
	EXPECT_EQ(0, lseek(fd, -101, SEEK_END));
	EXPECT_EQ(201, lseek(fd, 100, SEEK_END));
	EXPECT_SIZE(101, "f");
	close(fd);
	close(other);
	unlink("f");
}

static void vectors(void)
{
	static char a[5000], b[70000], c[3], got[100000];
	struct iovec out[3] = {{a, sizeof(a)}, {b, sizeof(b)}, {c, sizeof(c)}};
	struct iovec in[4] = {{got, 7}, {got + 7, 0}, {got + 7, 4096}, {got + 4103, 90000}};
	struct iovec many[IOV_MAX];
	const ssize_t total = sizeof(a) + sizeof(b) + sizeof(c);
	int fd;

	h_fill(a, sizeof(a), 1);
	h_fill(b, sizeof(b), 2);
	h_fill(c, sizeof(c), 3);
	fd = (int)REQUIRE_OK(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
	EXPECT_EQ(total, writev(fd, out, 3));
	EXPECT_EQ(total, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(total, readv(fd, in, 4));
	EXPECT_TRUE(!memcmp(got, a, sizeof(a)) && !memcmp(got + sizeof(a), b, sizeof(b)),
		    "readv gives the bytes");
	EXPECT_EQ(total, pwritev(fd, out, 3, 1000));
	EXPECT_SIZE(total + 1000, "f");
	memset(got, 0, sizeof(got));
	EXPECT_EQ(total, preadv(fd, in, 4, 1000));
	EXPECT_TRUE(!memcmp(got, a, sizeof(a)) && !memcmp(got + sizeof(a), b, sizeof(b)),
		    "preadv gives the bytes");
	EXPECT_EQ(total, lseek(fd, 0, SEEK_CUR));
	for (int i = 0; i < IOV_MAX; i++)
		many[i] = (struct iovec){got + i * 17, 17};
	h_fill(got, IOV_MAX * 17, 4);
	EXPECT_EQ(IOV_MAX * 17, pwritev(fd, many, IOV_MAX, 3));
	memset(got, 0, sizeof(got));
	EXPECT_EQ(IOV_MAX * 17, preadv(fd, many, IOV_MAX, 3));
	EXPECT_TRUE(h_is_fill(got, IOV_MAX * 17, 4), "1024 vectors give the bytes");
	close(fd);
	unlink("f");
}

/* Transfers about and beyond the sizes that a network file system splits at. */
static void sizes(void)
{
	static const size_t size[] = {1,       4095,	4096,	 4097,	  65536,   131072, 131073,
				      1048575, 1048576, 1048577, 2097152, 3145733, 8388608};
	static const off_t start[] = {0, 1, 4095, 123457};
	char *out = malloc(8388608), *in = malloc(8388608);
	int fd;

	REQUIRE_OK(out && in ? 0 : -1);
	for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		for (int k = 0; k < 4; k++) {
			h_ctx("%zu bytes at %ld", size[i], (long)start[k]);
			h_fill(out, size[i], i * 4 + (unsigned)k);
			fd = (int)REQUIRE_OK(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
			EXPECT_EQ(size[i], pwrite(fd, out, size[i], start[k]));
			EXPECT_SIZE(start[k] + (off_t)size[i], "f");
			EXPECT_EQ(size[i], pread(fd, in, 8388608, start[k]));
			EXPECT_TRUE(h_is_fill(in, size[i], i * 4 + (unsigned)k),
				    "the bytes read are those written");
			close(fd);
			fd = (int)REQUIRE_OK(open("f", O_RDONLY)); /* and once more, opened anew */
			EXPECT_EQ(start[k], pread(fd, in, (size_t)start[k], 0));
			EXPECT_TRUE(h_is_zero(in, (size_t)start[k]), "the gap before is zero");
			EXPECT_EQ(size[i], pread(fd, in, 8388608, start[k]));
			EXPECT_TRUE(h_is_fill(in, size[i], i * 4 + (unsigned)k),
				    "the bytes read are those written");
			close(fd);
		}
	}
	h_ctx(NULL);
	free(out);
	free(in);
	unlink("f");
}

static void large_offsets(void)
{
	static const off_t at[] = {0x7fffffff,	0x80000000,   0xfffffffe,
				   0x100000000, 0x1fffffffff, 0x7ffffffffff};
	char buf[16];
	int fd;

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		h_ctx("offset %#llx", (long long)at[i]);
		fd = (int)REQUIRE_OK(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
		EXPECT_EQ(10, pwrite(fd, "0123456789", 10, at[i] - 5));
		EXPECT_SIZE(at[i] + 5, "f");
		memset(buf, 0, sizeof(buf));
		EXPECT_EQ(10, pread(fd, buf, 16, at[i] - 5));
		EXPECT_TRUE(!memcmp(buf, "0123456789", 10), "bytes at a large offset");
		EXPECT_EQ(16, pread(fd, buf, 16, at[i] - 21));
		EXPECT_TRUE(h_is_zero(buf, 16), "the bytes before are zero");
		EXPECT_EQ(at[i], lseek(fd, at[i], SEEK_SET));
		EXPECT_EQ(5, read(fd, buf, 16));
		EXPECT_TRUE(!memcmp(buf, "56789", 5), "bytes read from there");
		EXPECT_OK(fsync(fd));
		EXPECT_TRUE(h_lstat("f").st_blocks < 2048, "the gap takes no blocks");
		close(fd);
	}
	h_ctx(NULL);
	unlink("f");
}

/* Many small writes in an order that is no order, read back in another. */
static void scattered(void)
{
	enum { N = 2000, STEP = 97 };
	static char all[N * STEP], got[N * STEP];
	int fd = (int)REQUIRE_OK(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644)), bad = 0;

	h_fill(all, sizeof(all), 9);
	for (int i = 0; i < N; i++) {
		int k = (i * 1237) % N;

		bad += pwrite(fd, all + k * STEP, STEP, (off_t)k * STEP) != STEP;
	}
	EXPECT_EQ(0, bad);
	for (int i = 0; i < N; i++) {
		int k = (i * 791) % N;

		bad += pread(fd, got, STEP, (off_t)k * STEP) != STEP ||
		       memcmp(got, all + k * STEP, STEP);
	}
	EXPECT_EQ(0, bad);
	EXPECT_CONTENT(all, sizeof(all), "f");
	close(fd);
	unlink("f");
}

/* A writer and a reader in two processes: what the writer says is written is read. */
static void between_processes(void)
{
	char buf[16] = "", c = 0;
	int to[2], from[2];
	pid_t pid;

	REQUIRE_OK(pipe(to));
	REQUIRE_OK(pipe(from));
	REQUIRE_OK(h_touch("f"));
	pid = fork();
	if (pid == 0) {
		int fd = open("f", O_RDWR);

		for (unsigned i = 0; i < 100; i++) {
			snprintf(buf, sizeof(buf), "%08u", i);
			c = pwrite(fd, buf, 8, (off_t)i * 4096 * (i % 3)) == 8;
			if (write(from[1], &c, 1) != 1 || read(to[0], &c, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	int fd = (int)REQUIRE_OK(open("f", O_RDONLY));

	for (unsigned i = 0; i < 100; i++) {
		char want[16];

		EXPECT_EQ(1, read(from[0], &c, 1));
		EXPECT_EQ(1, c);
		snprintf(want, sizeof(want), "%08u", i);
		EXPECT_EQ(8, pread(fd, buf, 8, (off_t)i * 4096 * (i % 3)));
		EXPECT_TRUE(!memcmp(buf, want, 8), "the reader sees what was just written");
		EXPECT_EQ(1, write(to[1], &c, 1));
	}
	waitpid(pid, NULL, 0);
	close(fd);
	for (int i = 0; i < 2; i++) {
		close(to[i]);
		close(from[i]);
	}
	unlink("f");
}

void area_io(void)
{
	positions();
	vectors();
	sizes();
	large_offsets();
	scattered();
	between_processes();
}

/* ---- append -------------------------------------------------------------------------------- */

static void two_descriptors(void)
{
	int a = (int)REQUIRE_OK(open("f", O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0644));
	int b = (int)REQUIRE_OK(open("f", O_WRONLY | O_APPEND)),
	    c = (int)REQUIRE_OK(open("f", O_WRONLY));
	struct iovec v[2] = {{(void *)(uintptr_t) "<<", 2}, {(void *)(uintptr_t) ">>", 2}};
	char buf[64] = "";

	EXPECT_EQ(3, write(a, "one", 3));
	EXPECT_EQ(3, write(b, "two", 3));
	EXPECT_EQ(6, lseek(b, 0, SEEK_CUR));
	EXPECT_EQ(5, write(a, "three", 5));
	EXPECT_EQ(11, lseek(a, 0, SEEK_CUR));
	EXPECT_CONTENT("onetwothree", 11, "f");
	/* The offset is moved to the end by each write, wherever it was. */
	EXPECT_EQ(0, lseek(a, 0, SEEK_SET));
	EXPECT_EQ(1, write(a, "4", 1));
	EXPECT_EQ(12, lseek(a, 0, SEEK_CUR));
	EXPECT_EQ(4, writev(b, v, 2));
	EXPECT_CONTENT("onetwothree4<<>>", 16, "f");
	/* A plain writer beside it. */
	EXPECT_EQ(3, pwrite(c, "ONE", 3, 0));
	EXPECT_EQ(1, pwrite(c, "!", 1, 20));
	EXPECT_EQ(1, write(a, "5", 1));
	EXPECT_CONTENT("ONEtwothree4<<>>\0\0\0\0!5", 22, "f");
	/* Linux appends even with pwrite. */
	EXPECT_EQ(1, pwrite(a, "6", 1, 0));
	EXPECT_CONTENT("ONEtwothree4<<>>\0\0\0\0!56", 23, "f");
	EXPECT_OK(ftruncate(c, 3));
	EXPECT_EQ(1, write(a, "x", 1));
	EXPECT_EQ(1, write(b, "y", 1));
	EXPECT_CONTENT("ONExy", 5, "f");
	EXPECT_OK(ftruncate(a, 0));
	EXPECT_EQ(1, write(b, "z", 1));
	EXPECT_CONTENT("z", 1, "f");
	EXPECT_EQ(0, lseek(a, 0, SEEK_SET));
	EXPECT_EQ(1, read(a, buf, sizeof(buf)));
	EXPECT_EQ('z', buf[0]);
	EXPECT_OK(h_put("f", "replaced", 8)); /* cut by another open */
	EXPECT_EQ(1, write(a, "+", 1));
	EXPECT_CONTENT("replaced+", 9, "f");
	close(a);
	close(b);
	close(c);
	unlink("f");
}

/* Several processes append records: all are there, whole, each process's in its order. */
static void processes(int record)
{
	enum { PROCS = 4, EACH = 100 };
	char *buf = malloc((size_t)record * PROCS * EACH + 1);
	int next[PROCS] = {0}, bad = 0, status;
	ssize_t got = 0, n;

	h_ctx("records of %d bytes", record);
	REQUIRE_OK(buf ? 0 : -1);
	REQUIRE_OK(h_touch("f"));
	for (int p = 0; p < PROCS; p++) {
		if (fork() == 0) {
			int fd = open("f", O_WRONLY | O_APPEND);

			for (int i = 0; i < EACH; i++) {
				memset(buf, 'a' + p, (size_t)record);
				snprintf(buf, (size_t)record, "%d:%04d", p, i);
				if (write(fd, buf, (size_t)record) != record)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (int p = 0; p < PROCS; p++) {
		EXPECT_OK(wait(&status));
		EXPECT_EQ(0, status);
	}
	EXPECT_SIZE((long long)record * PROCS * EACH, "f");
	int fd = (int)REQUIRE_OK(open("f", O_RDONLY));

	while ((n = read(fd, buf + got, (size_t)(record * PROCS * EACH + 1 - got))) > 0)
		got += n;
	EXPECT_EQ((long long)record * PROCS * EACH, got);
	for (ssize_t at = 0; at + record <= got; at += record) {
		int p, i;

		if (sscanf(buf + at, "%d:%d", &p, &i) != 2 || p < 0 || p >= PROCS || i != next[p]) {
			bad++;
			continue;
		}
		next[p]++;
		for (int k = 8; k < record; k++)
			bad += buf[at + k] != 'a' + p;
	}
	EXPECT_EQ(0, bad);
	close(fd);
	free(buf);
	unlink("f");
	h_ctx(NULL);
}

void area_append(void)
{
	two_descriptors();
	processes(16);
	processes(4096);
	processes(5003);
}

/* ---- direct -------------------------------------------------------------------------------- */

static void flagged(const char *name, int flag)
{
	enum { BLOCK = 4096, N = 64 };
	char *mem = NULL, *in = NULL;
	int fd, plain;

	h_ctx("%s", name);
	REQUIRE_OK(posix_memalign((void **)&mem, BLOCK, BLOCK * N) ? -1 : 0);
	REQUIRE_OK(posix_memalign((void **)&in, BLOCK, BLOCK * N) ? -1 : 0);
	fd = open("f", O_RDWR | O_CREAT | O_TRUNC | flag, 0644);
	if (fd < 0 && errno == EINVAL && flag == O_DIRECT) {
		h_skip("O_DIRECT: EINVAL");
		return;
	}
	REQUIRE_OK(fd);
	plain = (int)REQUIRE_OK(open("f", O_RDWR));
	h_fill(mem, BLOCK * N, 5);
	EXPECT_EQ(BLOCK * N, write(fd, mem, BLOCK * N));
	EXPECT_SIZE(BLOCK * N, "f");
	EXPECT_EQ(BLOCK * N, pread(plain, in, BLOCK * N, 0));
	EXPECT_TRUE(h_is_fill(in, BLOCK * N, 5), "a plain read sees what was written");
	memset(in, 0, BLOCK * N);
	EXPECT_EQ(BLOCK * N, pread(fd, in, BLOCK * N, 0));
	EXPECT_TRUE(h_is_fill(in, BLOCK * N, 5), "a read sees what was written");
	/* A plain write is seen here, and the other way round, cached or not. */
	for (int i = 0; i < 8; i++) {
		char c = (char)('A' + i);

		EXPECT_EQ(1, pwrite(plain, &c, 1, i * BLOCK));
		EXPECT_EQ(BLOCK, pread(fd, in, BLOCK, i * BLOCK));
		EXPECT_EQ(c, in[0]);
		memset(mem, 'a' + i, BLOCK);
		EXPECT_EQ(BLOCK, pwrite(fd, mem, BLOCK, i * BLOCK));
		EXPECT_EQ(1, pread(plain, &c, 1, i * BLOCK + 17));
		EXPECT_EQ('a' + i, c);
	}
	EXPECT_EQ(0, pread(fd, in, BLOCK, BLOCK * N));
	EXPECT_OK(ftruncate(plain, BLOCK + 100));
	EXPECT_EQ(BLOCK + 100, pread(fd, in, 2 * BLOCK, 0));
	EXPECT_EQ(BLOCK, pwrite(fd, mem, BLOCK, 10 * BLOCK));
	EXPECT_SIZE(11 * BLOCK, "f");
	EXPECT_EQ(BLOCK, pread(fd, in, BLOCK, 5 * BLOCK));
	EXPECT_TRUE(h_is_zero(in, BLOCK), "the gap is zero");
	EXPECT_OK(fsync(fd));
	EXPECT_OK(fdatasync(fd));
	EXPECT_OK(sync_file_range(plain, 0, 0, SYNC_FILE_RANGE_WRITE));
	EXPECT_EQ(flag & O_DIRECT, fcntl(fd, F_GETFL) & O_DIRECT);
	close(fd);
	close(plain);
	free(mem);
	free(in);
	unlink("f");
	h_ctx(NULL);
}

void area_direct(void)
{
	flagged("O_DIRECT", O_DIRECT);
	flagged("O_SYNC", O_SYNC);
	flagged("O_DSYNC", O_DSYNC);
	flagged("O_DIRECT|O_SYNC", O_DIRECT | O_SYNC);
	flagged("plain", 0);
}
