/* truncate and ftruncate, each assertion made of both. */
#include "harness.h"

static bool by_fd;

/* Either call, by the case under test. */
static int cut(const char *path, off_t size)
{
	int fd, r, err;

	if (!by_fd)
		return truncate(path, size);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	r = ftruncate(fd, size);
	err = errno;
	close(fd);
	errno = err;
	return r;
}

static void sizes(void)
{
	static const off_t size[] = {0,	    1,	    2,	    511,     512,     513,
				     4095,  4096,   4097,   8191,    65535,   65536,
				     65537, 131071, 131073, 1048575, 1048577, 3000000};
	enum { N = sizeof(size) / sizeof(size[0]), DATA = 200000 };
	static char data[DATA], got[1 << 22];

	h_fill(data, DATA, 1);
	for (int i = 0; i < N; i++) {
		off_t kept = size[i] < DATA ? size[i] : DATA;
		int fd;

		h_ctx("%s to %ld", by_fd ? "ftruncate" : "truncate", (long)size[i]);
		REQUIRE_OK(h_put("f", data, DATA));
		EXPECT_OK(cut("f", size[i]));
		EXPECT_SIZE(size[i], "f");
		fd = (int)REQUIRE_OK(open("f", O_RDONLY));
		EXPECT_EQ(size[i], read(fd, got, sizeof(got)));
		EXPECT_TRUE(h_is_fill(got, (size_t)kept, 1), "kept bytes are as written");
		EXPECT_TRUE(h_is_zero(got + kept, (size_t)(size[i] - kept)), "new bytes are zero");
		/* Cut and grown again: the old bytes must not come back. */
		EXPECT_OK(cut("f", kept / 2));
		EXPECT_OK(cut("f", DATA + 5000));
		EXPECT_EQ(DATA + 5000, pread(fd, got, sizeof(got), 0));
		EXPECT_TRUE(h_is_fill(got, (size_t)(kept / 2), 1), "kept bytes are as written");
		EXPECT_TRUE(h_is_zero(got + kept / 2, (size_t)(DATA + 5000 - kept / 2)),
			    "bytes cut and regrown are zero");
		close(fd);
	}
	unlink("f");
	h_ctx(NULL);
}

static void huge(void)
{
	static const off_t size[] = {0x7fffffff, 0x80000000, 0xffffffff, 0x100000001,
				     0x10000000000};
	char c[8];

	for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		int fd;

		h_ctx("%s to %lld", by_fd ? "ftruncate" : "truncate", (long long)size[i]);
		REQUIRE_OK(h_put("f", "abc", 3));
		EXPECT_OK(cut("f", size[i]));
		EXPECT_SIZE(size[i], "f");
		EXPECT_TRUE(h_lstat("f").st_blocks < 2048, "a grown file takes no blocks");
		fd = (int)REQUIRE_OK(open("f", O_RDONLY));
		EXPECT_EQ(5, pread(fd, c, 8, size[i] - 5));
		EXPECT_TRUE(h_is_zero(c, 5), "the end is zero");
		EXPECT_EQ(0, pread(fd, c, 8, size[i]));
		EXPECT_EQ(size[i], lseek(fd, 0, SEEK_END));
		close(fd);
		unlink("f");
	}
	h_ctx(NULL);
}

static void times_and_errors(void)
{
	static const off_t size[] = {5, 2, 900, 0}; /* the first is the size it has */
	struct stat before;

	h_ctx("%s", by_fd ? "ftruncate" : "truncate");
	for (int i = 0; i < 4; i++) {
		REQUIRE_OK(h_put("f", "hello", 5));
		before = h_rewind("f");
		EXPECT_OK(cut("f", size[i]));
		EXPECT_TIMES("f", &before, TM_M | TM_C, 0);
		EXPECT_EQ(before.st_mode, h_lstat("f").st_mode);
	}
	before = h_rewind("f");
	EXPECT_ERR(EINVAL, cut("f", -1));
	EXPECT_ERR(EINVAL, cut("f", LLONG_MIN));
	EXPECT_ERR(EFBIG, cut("f", LLONG_MAX));
	EXPECT_TIMES("f", &before, 0, 0);
	EXPECT_SIZE(0, "f");
	unlink("f");
	REQUIRE_OK(mkdir("d", 0755));
	EXPECT_ERR(EISDIR, cut("d", 0));
	rmdir("d");
	EXPECT_ERR(ENOENT, cut("f", 0));
	REQUIRE_OK(h_put("f", "hello", 5));
	REQUIRE_OK(symlink("f", "l"));
	EXPECT_OK(cut("l", 3));
	EXPECT_SIZE(3, "f");
	EXPECT_SIZE(1, "l");
	EXPECT_CONTENT("hel", 3, "f");
	unlink("l");
	EXPECT_OK(link("f", "g"));
	EXPECT_OK(cut("g", 1));
	EXPECT_CONTENT("h", 1, "f");
	unlink("g");
	EXPECT_OK(chmod("f", 0444));
	if (!h_root())
		EXPECT_ERR(EACCES, cut("f", 0));
	unlink("f");
	h_ctx(NULL);
}

static void descriptors(void)
{
	char buf[16] = "";
	int ro, rw, p[2];

	REQUIRE_OK(h_put("f", "hello world", 11));
	ro = (int)REQUIRE_OK(open("f", O_RDONLY));
	rw = (int)REQUIRE_OK(open("f", O_RDWR));
	EXPECT_ERR2(EINVAL, EBADF, ftruncate(ro, 1));
	EXPECT_SIZE(11, "f");
	/* The offset stays; a write after the cut leaves a hole. */
	EXPECT_EQ(8, read(rw, buf, 8));
	EXPECT_OK(ftruncate(rw, 2));
	EXPECT_EQ(8, lseek(rw, 0, SEEK_CUR));
	EXPECT_EQ(0, read(rw, buf, 8));
	EXPECT_EQ(1, write(rw, "X", 1));
	EXPECT_CONTENT("he\0\0\0\0\0\0X", 9, "f");
	/* What one descriptor cuts, the other sees at once. */
	EXPECT_EQ(9, lseek(ro, 0, SEEK_END));
	EXPECT_OK(ftruncate(rw, 4));
	EXPECT_EQ(4, lseek(ro, 0, SEEK_END));
	EXPECT_EQ(0, pread(ro, buf, 8, 4));
	EXPECT_EQ(4, pread(ro, buf, 8, 0));
	/* The right to cut comes with the descriptor. */
	EXPECT_OK(chmod("f", 0));
	EXPECT_OK(ftruncate(rw, 1));
	EXPECT_SIZE(1, "f");
	close(ro);
	close(rw);
	unlink("f");
	REQUIRE_OK(mkdir("d", 0755));
	ro = (int)REQUIRE_OK(open("d", O_RDONLY));
	EXPECT_ERR2(EINVAL, EBADF, ftruncate(ro, 0));
	close(ro);
	rmdir("d");
	REQUIRE_OK(h_make(T_FIFO, "p", 0644));
	rw = (int)REQUIRE_OK(open("p", O_RDWR));
	EXPECT_ERR(EINVAL, ftruncate(rw, 0));
	EXPECT_ERR(EINVAL, truncate("p", 0));
	close(rw);
	unlink("p");
	REQUIRE_OK(pipe(p));
	EXPECT_ERR(EINVAL, ftruncate(p[1], 0));
	close(p[0]);
	close(p[1]);
	/* Created without write permission, cut through the creating descriptor. */
	rw = (int)REQUIRE_OK(open("f", O_RDWR | O_CREAT, 0400));
	EXPECT_OK(ftruncate(rw, 12));
	EXPECT_SIZE(12, "f");
	close(rw);
	unlink("f");
}

static void who(void)
{
	struct stat before;

	REQUIRE_OK(h_put("f", "hello", 5));
	REQUIRE_OK(chown("f", UA, GA));
	for (by_fd = false;; by_fd = true) {
		h_ctx("%s", by_fd ? "ftruncate" : "truncate");
		REQUIRE_OK(chmod("f", 0644));
		before = h_rewind("f");
		AS(BOB) {
			EXPECT_ERR(EACCES, cut("f", 0));
		}
		EXPECT_TIMES("f", &before, 0, 0);
		AS(ALICE) {
			EXPECT_OK(cut("f", 4));
		}
		REQUIRE_OK(chmod("f", 0466)); /* the owner's class counts, not the widest */
		AS(ALICE) {
			EXPECT_ERR(EACCES, cut("f", 0));
		}
		AS(BOB) {
			EXPECT_OK(cut("f", 9));
		}
		REQUIRE_OK(chmod("f", 0646));
		AS(CRED(UB, GB, GA)) {
			EXPECT_ERR(EACCES, cut("f", 0));
		}
		REQUIRE_OK(chmod("f", 0464));
		AS(CRED(UB, GB, GA)) {
			EXPECT_OK(cut("f", 7));
		}
		EXPECT_SIZE(7, "f");
		REQUIRE_OK(chmod("f", 0));
		EXPECT_OK(cut("f", 3)); /* root */
		EXPECT_SIZE(3, "f");
		if (by_fd)
			break;
	}
	unlink("f");
	h_ctx(NULL);
}

void area_truncate(void)
{
	for (by_fd = false;; by_fd = true) {
		sizes();
		huge();
		times_and_errors();
		if (by_fd)
			break;
	}
	descriptors();
	if (h_root())
		who();
}
