/* O_TMPFILE, holes, fallocate, copies inside the kernel. */
#include "harness.h"

#include <linux/falloc.h>
#include <sys/sendfile.h>

/* ---- tmpfile ------------------------------------------------------------------------------- */

void area_tmpfile(void)
{
	char proc[64], buf[8] = "";
	struct stat st = {0};
	int fd;

	REQUIRE_OK(mkdir("d", 0755));
	fd = open("d", O_RDWR | O_TMPFILE, 0640);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		h_skip("O_TMPFILE: %s", strerrorname_np(errno));
		return;
	}
	REQUIRE_OK(fd);
	EXPECT_EQ(0, h_count("d"));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(0, st.st_nlink);
	EXPECT_EQ(S_IFREG | 0640, st.st_mode);
	EXPECT_EQ(geteuid(), st.st_uid);
	EXPECT_EQ(5, write(fd, "hello", 5));
	EXPECT_EQ(5, pread(fd, buf, 8, 0));
	EXPECT_OK(fchmod(fd, 0600));
	EXPECT_OK(rmdir("d")); /* it is not in there */
	REQUIRE_OK(mkdir("d", 0755));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	EXPECT_OK(linkat(AT_FDCWD, proc, AT_FDCWD, "d/f", AT_SYMLINK_FOLLOW));
	EXPECT_NLINK(1, "d/f");
	EXPECT_MODE(0600, "d/f");
	EXPECT_CONTENT("hello", 5, "d/f");
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(h_lstat("d/f").st_ino, st.st_ino);
	EXPECT_EQ(1, pwrite(fd, "J", 1, 0));
	EXPECT_CONTENT("Jello", 5, "d/f");
	EXPECT_ERR(EEXIST, linkat(AT_FDCWD, proc, AT_FDCWD, "d/f", AT_SYMLINK_FOLLOW));
	close(fd);
	EXPECT_CONTENT("Jello", 5, "d/f");
	/* Made with O_EXCL it can never be given a name. */
	fd = (int)EXPECT_OK(open("d", O_WRONLY | O_TMPFILE | O_EXCL, 0600));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	EXPECT_ERR(ENOENT, linkat(AT_FDCWD, proc, AT_FDCWD, "d/g", AT_SYMLINK_FOLLOW));
	close(fd);
	EXPECT_ERR(EINVAL, open("d", O_RDONLY | O_TMPFILE, 0600));
	EXPECT_ERR(ENOENT, open("none", O_RDWR | O_TMPFILE, 0600));
	EXPECT_ERR(ENOTDIR, open("d/f", O_RDWR | O_TMPFILE, 0600));
	if (h_root()) {
		AS(ALICE) {
			EXPECT_ERR(EACCES, open("d", O_RDWR | O_TMPFILE, 0600));
		}
		fd = (int)EXPECT_OK(open("d", O_RDWR | O_TMPFILE, 0600));
		EXPECT_OK(linkat(fd, "", AT_FDCWD, "d/h", AT_EMPTY_PATH));
		EXPECT_NLINK(1, "d/h");
		close(fd);
	}
	h_rmtree(AT_FDCWD, "d");
}

/* ---- holes --------------------------------------------------------------------------------- */

enum { MIB = 1 << 20 };

void area_holes(void)
{
	static char block[65536], got[65536];
	int fd = (int)REQUIRE_OK(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
	off_t at;
	bool holes;

	h_fill(block, sizeof(block), 1);
	/* Data at 1 and at 3 MiB, the file 4 MiB long. */
	REQUIRE_OK(pwrite(fd, block, sizeof(block), MIB));
	REQUIRE_OK(pwrite(fd, block, sizeof(block), 3 * MIB));
	REQUIRE_OK(ftruncate(fd, 4 * MIB));
	EXPECT_SIZE(4 * MIB, "f");
	EXPECT_OK(fsync(fd));
	EXPECT_TRUE((long long)h_lstat("f").st_blocks * 512 < MIB, "holes take no blocks");
	EXPECT_TRUE((long long)h_lstat("f").st_blocks * 512 >= (long long)(2 * sizeof(block)),
		    "data takes blocks");
	/* Whole-file answers are allowed; wrong ones are not. */
	at = lseek(fd, 0, SEEK_DATA);
	if (at < 0 && errno == EINVAL) {
		h_skip("SEEK_DATA: EINVAL");
		close(fd);
		return;
	}
	holes = at != 0;
	if (!holes)
		h_skip("SEEK_DATA finds no holes here");
	else
		EXPECT_EQ(MIB, at);
	EXPECT_EQ(MIB, lseek(fd, MIB, SEEK_DATA));
	EXPECT_EQ(MIB + 5, lseek(fd, MIB + 5, SEEK_DATA));
	if (holes) {
		EXPECT_EQ(3 * MIB, lseek(fd, MIB + (off_t)sizeof(block), SEEK_DATA));
		EXPECT_EQ(3 * MIB, lseek(fd, 2 * MIB, SEEK_DATA));
		EXPECT_EQ(0, lseek(fd, 0, SEEK_HOLE));
		EXPECT_EQ(77, lseek(fd, 77, SEEK_HOLE));
		EXPECT_EQ(MIB + (off_t)sizeof(block), lseek(fd, MIB, SEEK_HOLE));
		EXPECT_EQ(2 * MIB, lseek(fd, 2 * MIB, SEEK_HOLE));
		EXPECT_EQ(3 * MIB + (off_t)sizeof(block), lseek(fd, 3 * MIB, SEEK_HOLE));
		EXPECT_ERR(ENXIO, lseek(fd, 3 * MIB + (off_t)sizeof(block), SEEK_DATA));
	}
	EXPECT_ERR(ENXIO, lseek(fd, 4 * MIB, SEEK_DATA));
	EXPECT_ERR(ENXIO, lseek(fd, 4 * MIB, SEEK_HOLE));
	EXPECT_ERR(ENXIO, lseek(fd, 40 * MIB, SEEK_DATA));
	EXPECT_ERR(ENXIO, lseek(fd, -1, SEEK_DATA));
	/* The end counts as a hole. */
	EXPECT_OK(h_put("g", block, sizeof(block)));
	int g = (int)REQUIRE_OK(open("g", O_RDONLY));

	EXPECT_EQ(sizeof(block), lseek(g, 0, SEEK_HOLE));
	EXPECT_EQ(sizeof(block), lseek(g, 0, SEEK_CUR));
	EXPECT_EQ(0, lseek(g, 0, SEEK_DATA));
	EXPECT_EQ(sizeof(block) - 1, lseek(g, sizeof(block) - 1, SEEK_DATA));
	close(g);
	unlink("g");
	for (int i = 0; i < 64; i++) {
		off_t where = (off_t)i * (off_t)sizeof(got);

		if (pread(fd, got, sizeof(got), where) != (ssize_t)sizeof(got)) {
			EXPECT_OK(-1);
			continue;
		}
		if (where == MIB || where == 3 * MIB)
			EXPECT_TRUE(h_is_fill(got, sizeof(got), 1),
				    "data between holes is as written");
		else
			EXPECT_TRUE(h_is_zero(got, sizeof(got)), "holes read as zero");
	}
	/* A hole that is written is one no more. */
	EXPECT_EQ(1, pwrite(fd, "x", 1, 2 * MIB));
	if (holes)
		EXPECT_EQ(2 * MIB, lseek(fd, MIB + (off_t)sizeof(block), SEEK_DATA));
	REQUIRE_OK(ftruncate(fd, 0));
	EXPECT_ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	EXPECT_ERR(ENXIO, lseek(fd, 0, SEEK_HOLE));
	close(fd);
	unlink("f");
}

/* ---- fallocate ----------------------------------------------------------------------------- */

enum { LEN = 256 * 1024 };

static int alloc_fd;

/* A fresh file of LEN pattern bytes for each case. */
static bool begin(const char *name, int mode)
{
	static char data[LEN];

	h_ctx("%s", name);
	h_fill(data, LEN, 3);
	REQUIRE_OK(h_put("f", data, LEN));
	alloc_fd = (int)REQUIRE_OK(open("f", O_RDWR));
	if (fallocate(alloc_fd, mode, 0, 4096) && (errno == EOPNOTSUPP || errno == ENOSYS)) {
		h_skip("fallocate %s: %s", name, strerrorname_np(errno));
		close(alloc_fd);
		return false;
	}
	REQUIRE_OK(ftruncate(alloc_fd, 0));
	REQUIRE_OK(pwrite(alloc_fd, data, LEN, 0));
	return true;
}

static void finish(void)
{
	close(alloc_fd);
	unlink("f");
	h_ctx(NULL);
}

static char *whole(off_t size)
{
	char *got = malloc((size_t)size + 1);

	REQUIRE_OK(got ? 0 : -1);
	EXPECT_EQ(size, pread(alloc_fd, got, (size_t)size + 1, 0));
	return got;
}

static void plain_modes(void)
{
	struct stat before;
	char *got;

	if (begin("of mode 0", 0)) {
		EXPECT_OK(fallocate(alloc_fd, 0, 1000, LEN));
		EXPECT_SIZE(LEN + 1000, "f");
		got = whole(LEN + 1000);
		EXPECT_TRUE(h_is_fill(got, LEN, 3), "what was there stays");
		EXPECT_TRUE(h_is_zero(got + LEN, 1000), "what is new is zero");
		free(got);
		EXPECT_OK(fallocate(alloc_fd, 0, 0, 10)); /* within: nothing changes */
		EXPECT_SIZE(LEN + 1000, "f");
		before = h_rewind("f");
		EXPECT_OK(fallocate(alloc_fd, 0, LEN, 5000));
		EXPECT_SIZE(LEN + 5000, "f");
		EXPECT_TIMES("f", &before, TM_C | TM_M, 0);
		EXPECT_TRUE((long long)h_lstat("f").st_blocks * 512 >= LEN + 5000,
			    "blocks are taken");
		EXPECT_OK(posix_fallocate(alloc_fd, 0, LEN + 6000) ? -1 : 0);
		EXPECT_SIZE(LEN + 6000, "f");
		EXPECT_ERR(EINVAL, fallocate(alloc_fd, 0, 0, 0));
		EXPECT_ERR(EINVAL, fallocate(alloc_fd, 0, -1, 10));
		EXPECT_ERR(EINVAL, fallocate(alloc_fd, 0, 0, -1));
		EXPECT_ERR(EFBIG, fallocate(alloc_fd, 0, LLONG_MAX - 5, 100));
		EXPECT_ERR(EOPNOTSUPP, fallocate(alloc_fd, 0x10000, 0, 100));
		EXPECT_ERR(EOPNOTSUPP, fallocate(alloc_fd, FALLOC_FL_PUNCH_HOLE, 0, 100));
		EXPECT_SIZE(LEN + 6000, "f");
		finish();
	}
	if (begin("KEEP_SIZE", FALLOC_FL_KEEP_SIZE)) {
		EXPECT_OK(fallocate(alloc_fd, FALLOC_FL_KEEP_SIZE, 0, 4 * LEN));
		EXPECT_SIZE(LEN, "f");
		EXPECT_TRUE((long long)h_lstat("f").st_blocks * 512 >= 4 * LEN,
			    "blocks past the end are taken");
		got = whole(LEN);
		EXPECT_TRUE(h_is_fill(got, LEN, 3), "what was there stays");
		free(got);
		EXPECT_OK(ftruncate(alloc_fd, 2 * LEN));
		got = whole(2 * LEN);
		EXPECT_TRUE(h_is_zero(got + LEN, LEN), "grown into, it is zero");
		free(got);
		finish();
	}
}

/* PUNCH_HOLE and ZERO_RANGE, on and off block boundaries. */
static void zeroing(const char *name, int mode)
{
	static const struct {
		off_t at, len;
	} range[] = {{0, 4096},	     {4096, 8192},   {1, 1},	     {100, 5000},
		     {65536, 65536}, {4095, 2},	     {LEN - 10, 10}, {LEN - 5000, 5000},
		     {0, LEN},	     {12345, 100000}};

	for (unsigned i = 0; i < sizeof(range) / sizeof(range[0]); i++) {
		off_t at = range[i].at, len = range[i].len;
		struct stat before;
		char *got;

		if (!begin(name, mode))
			return;
		h_ctx("%s, %ld bytes at %ld", name, (long)len, (long)at);
		/* Cached pages must go, too. */
		free(whole(LEN));
		before = h_rewind("f");
		EXPECT_OK(fallocate(alloc_fd, mode, at, len));
		EXPECT_SIZE(LEN, "f");
		EXPECT_TIMES("f", &before, TM_C | TM_M, 0);
		got = whole(LEN);
		EXPECT_TRUE(h_is_zero(got + at, (size_t)len), "the range is zero");
		char *want = malloc(LEN);

		REQUIRE_OK(want ? 0 : -1);
		h_fill(want, LEN, 3);
		EXPECT_TRUE(!memcmp(got, want, (size_t)at), "what is before stays");
		EXPECT_TRUE(!memcmp(got + at + len, want + at + len, (size_t)(LEN - at - len)),
			    "what is after stays");
		free(want);
		free(got);
		finish();
	}
	if (!begin(name, mode))
		return;
	/* At and past the end with KEEP_SIZE nothing grows. */
	EXPECT_OK(fallocate(alloc_fd, mode | FALLOC_FL_KEEP_SIZE, LEN - 100, 10000));
	EXPECT_SIZE(LEN, "f");
	EXPECT_OK(fallocate(alloc_fd, mode | FALLOC_FL_KEEP_SIZE, LEN + 5000, 10000));
	EXPECT_SIZE(LEN, "f");
	if (!(mode & FALLOC_FL_KEEP_SIZE)) {
		EXPECT_OK(fallocate(alloc_fd, mode, LEN - 100, 10000));
		EXPECT_SIZE(LEN + 9900, "f");
	}
	if (mode & FALLOC_FL_PUNCH_HOLE) {
		long long was;

		EXPECT_OK(fsync(alloc_fd));
		was = h_lstat("f").st_blocks;
		EXPECT_OK(fallocate(alloc_fd, mode, 0, LEN / 2));
		EXPECT_OK(fsync(alloc_fd));
		EXPECT_TRUE((long long)h_lstat("f").st_blocks < was,
			    "a punched hole gives blocks back");
	}
	finish();
}

static void shifting(void)
{
	char *got, *want = malloc(LEN);
	off_t block = h_lstat(".").st_blksize;

	REQUIRE_OK(want ? 0 : -1);
	h_fill(want, LEN, 3);
	if (begin("COLLAPSE_RANGE", FALLOC_FL_COLLAPSE_RANGE)) {
		EXPECT_OK(fallocate(alloc_fd, FALLOC_FL_COLLAPSE_RANGE, 4 * block, 2 * block));
		EXPECT_SIZE(LEN - 2 * block, "f");
		got = whole(LEN - 2 * block);
		EXPECT_TRUE(!memcmp(got, want, (size_t)(4 * block)), "what is before stays");
		EXPECT_TRUE(!memcmp(got + 4 * block, want + 6 * block, (size_t)(LEN - 6 * block)),
			    "what is after moves up");
		free(got);
		EXPECT_ERR(EINVAL, fallocate(alloc_fd, FALLOC_FL_COLLAPSE_RANGE, 1, block));
		EXPECT_ERR(EINVAL, fallocate(alloc_fd, FALLOC_FL_COLLAPSE_RANGE, 0, LEN));
		finish();
	}
	if (begin("INSERT_RANGE", FALLOC_FL_INSERT_RANGE)) {
		EXPECT_OK(fallocate(alloc_fd, FALLOC_FL_INSERT_RANGE, 4 * block, 2 * block));
		EXPECT_SIZE(LEN + 2 * block, "f");
		got = whole(LEN + 2 * block);
		EXPECT_TRUE(!memcmp(got, want, (size_t)(4 * block)), "what is before stays");
		EXPECT_TRUE(h_is_zero(got + 4 * block, (size_t)(2 * block)),
			    "what is inserted is zero");
		EXPECT_TRUE(!memcmp(got + 6 * block, want + 4 * block, (size_t)(LEN - 4 * block)),
			    "what is after moves down");
		free(got);
		EXPECT_ERR(EINVAL, fallocate(alloc_fd, FALLOC_FL_INSERT_RANGE, 1, block));
		EXPECT_ERR(EINVAL, fallocate(alloc_fd, FALLOC_FL_INSERT_RANGE, 10 * LEN, block));
		finish();
	}
	free(want);
}

void area_fallocate(void)
{
	plain_modes();
	zeroing("PUNCH_HOLE", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	zeroing("ZERO_RANGE", FALLOC_FL_ZERO_RANGE);
	zeroing("ZERO_RANGE|KEEP_SIZE", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
	shifting();
}

/* ---- copyrange ----------------------------------------------------------------------------- */

void area_copyrange(void)
{
	enum { N = 3 * MIB + 777 };
	char *data = malloc(N), *got = malloc(N);
	int in, out, p[2];
	off_t a, b;
	struct stat before;
	ssize_t r;

	if (data == NULL || got == NULL)
		abort(); /* the parent of the area reports it */
	h_fill(data, N, 6);
	REQUIRE_OK(h_put("in", data, N));
	in = (int)REQUIRE_OK(open("in", O_RDONLY));
	out = (int)REQUIRE_OK(open("out", O_RDWR | O_CREAT | O_TRUNC, 0644));
	before = h_rewind("out");
	for (long long total = 0; total < N; total += r) {
		r = copy_file_range(in, NULL, out, NULL, N, 0);
		if (r <= 0) {
			EXPECT_EQ(N - total, r);
			break;
		}
	}
	EXPECT_CONTENT(data, N, "out");
	EXPECT_TIMES("out", &before, TM_M | TM_C, TM_A);
	EXPECT_EQ(N, lseek(in, 0, SEEK_CUR));
	EXPECT_EQ(N, lseek(out, 0, SEEK_CUR));
	EXPECT_EQ(0, copy_file_range(in, NULL, out, NULL, 10, 0));
	/* With offsets of its own it leaves the descriptors' alone. */
	a = 1000;
	b = 5;
	EXPECT_EQ(3000, copy_file_range(in, &a, out, &b, 3000, 0));
	EXPECT_EQ(4000, a);
	EXPECT_EQ(3005, b);
	EXPECT_EQ(N, lseek(in, 0, SEEK_CUR));
	EXPECT_EQ(3005, pread(out, got, 3005, 0));
	EXPECT_TRUE(!memcmp(got, data, 5) && !memcmp(got + 5, data + 1000, 3000),
		    "the range is copied");
	/* Past the end of both: grows with a hole. */
	a = 0;
	b = N + 10000;
	EXPECT_EQ(100, copy_file_range(in, &a, out, &b, 100, 0));
	EXPECT_SIZE(N + 10100, "out");
	EXPECT_EQ(10000, pread(out, got, 10000, N));
	EXPECT_TRUE(h_is_zero(got, 10000), "the gap is zero");
	a = N;
	EXPECT_EQ(0, copy_file_range(in, &a, out, &b, 100, 0));
	EXPECT_SIZE(N + 10100, "out");
	/* Within one file; never onto itself. */
	a = 0;
	b = 2 * MIB;
	EXPECT_EQ(5000, copy_file_range(out, &a, out, &b, 5000, 0));
	EXPECT_EQ(5000, pread(out, got, 5000, 2 * MIB));
	EXPECT_TRUE(!memcmp(got, data, 5) && !memcmp(got + 5, data + 1000, 3000),
		    "copied within the file");
	a = 0;
	b = 100;
	EXPECT_ERR(EINVAL, copy_file_range(out, &a, out, &b, 5000, 0));
	EXPECT_ERR(EINVAL, copy_file_range(in, &a, out, &b, 10, 1));
	EXPECT_ERR(EBADF, copy_file_range(in, &a, in, &b, 10, 0));
	int app = (int)REQUIRE_OK(open("out", O_WRONLY | O_APPEND)),
	    dir = (int)REQUIRE_OK(open(".", O_RDONLY));

	EXPECT_ERR(EBADF, copy_file_range(in, &a, app, &b, 10, 0));
	EXPECT_ERR(EISDIR, copy_file_range(dir, &a, out, &b, 10, 0));
	REQUIRE_OK(pipe(p));
	EXPECT_ERR(EINVAL, copy_file_range(p[0], NULL, out, &b, 10, 0));
	/* sendfile and splice see the same bytes. */
	EXPECT_OK(ftruncate(out, 0));
	EXPECT_EQ(0, lseek(out, 0, SEEK_SET));
	a = 0;
	while (a < N && (r = sendfile(out, in, &a, (size_t)(N - a))) > 0)
		;
	EXPECT_CONTENT(data, N, "out");
	a = 12345;
	EXPECT_EQ(4096, splice(in, &a, p[1], NULL, 4096, 0));
	EXPECT_EQ(4096, read(p[0], got, N));
	EXPECT_TRUE(!memcmp(got, data + 12345, 4096), "splice out of a file");
	EXPECT_EQ(4096, write(p[1], data, 4096));
	b = 777;
	EXPECT_EQ(4096, splice(p[0], NULL, out, &b, 4096, 0));
	EXPECT_EQ(4096, pread(out, got, 4096, 777));
	EXPECT_TRUE(!memcmp(got, data, 4096), "splice into a file");
	close(in);
	close(out);
	close(app);
	close(dir);
	close(p[0]);
	close(p[1]);
	free(data);
	free(got);
	unlink("in");
	unlink("out");
}
