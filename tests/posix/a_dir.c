/* Directories: readdir, positions, types, sizes from none to 100,000 entries. */
#include "harness.h"

#include <sys/syscall.h>

static int make_many(const char *dir, int n)
{
	char name[64];

	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s/entry-%06d", dir, i);
		if (mknod(name, S_IFREG | 0600, 0))
			return -1;
	}
	return 0;
}

/* Lists and counts: each entry-NNNNNN below n once, nothing else but "." and "..". */
static void check_listing(DIR *d, int n, int from)
{
	unsigned char *seen = calloc((size_t)n + 1, 1);
	long total = 0, dots = 0, strange = 0, twice = 0, missed = 0;
	struct dirent *e;

	errno = 0;
	while ((e = readdir(d))) {
		int i;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			dots++;
		else if (sscanf(e->d_name, "entry-%d", &i) == 1 && i >= from && i < n)
			twice += seen[i]++ != 0;
		else
			strange++;
		total++;
	}
	EXPECT_EQ(0, errno);
	for (int i = from; i < n; i++)
		missed += !seen[i];
	EXPECT_EQ(2, dots);
	EXPECT_EQ(0, strange);
	EXPECT_EQ(0, twice);
	EXPECT_EQ(0, missed);
	EXPECT_EQ(n - from + 2, total);
	free(seen);
}

static void basic(void)
{
	struct dirent *e;
	struct stat st;
	char path[300];
	DIR *d;
	int fd;

	REQUIRE_OK(mkdir("d", 0755));
	d = opendir("d");
	REQUIRE_OK(d ? 0 : -1);
	check_listing(d, 0, 0);
	EXPECT_TRUE(readdir(d) == NULL, "the end stays the end");
	closedir(d);
	FOR_TYPES(t, T_ALL) {
		snprintf(path, sizeof(path), "d/%d", t);
		REQUIRE_OK(h_make(t, path, 0644));
	}
	d = opendir("d");
	REQUIRE_OK(d ? 0 : -1);
	while ((e = readdir(d))) {
		snprintf(path, sizeof(path), "d/%s", e->d_name);
		h_ctx("entry %s", e->d_name);
		if (!strcmp(e->d_name, ".."))
			snprintf(path, sizeof(path), ".");
		st = h_lstat(path);
		EXPECT_EQ(st.st_ino, e->d_ino);
		EXPECT_TRUE(e->d_type == IFTODT(st.st_mode) || e->d_type == DT_UNKNOWN,
			    "d_type is right");
	}
	h_ctx(NULL);
	EXPECT_OK(closedir(d));
	EXPECT_ERR(ENOENT, opendir("none") ? 0 : -1);
	EXPECT_ERR(ENOTDIR, opendir("d/0") ? 0 : -1);
	EXPECT_ERR(ENOENT, opendir("") ? 0 : -1);
	fd = (int)REQUIRE_OK(open("d/0", O_RDONLY));
	EXPECT_ERR(ENOTDIR, fdopendir(fd) ? 0 : -1);
	close(fd);
	EXPECT_ERR(EBADF, fdopendir(-1) ? 0 : -1);
	/* The same name made as another type shows the new one. */
	EXPECT_OK(unlink("d/0"));
	EXPECT_OK(mkdir("d/0", 0755));
	d = opendir("d");
	REQUIRE_OK(d ? 0 : -1);
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, "0")) {
			EXPECT_TRUE(e->d_type == DT_DIR || e->d_type == DT_UNKNOWN,
				    "d_type is the new one");
			EXPECT_EQ(h_lstat("d/0").st_ino, e->d_ino);
		}
	}
	EXPECT_OK(dirfd(d));
	EXPECT_OK(fsync(dirfd(d)));
	EXPECT_OK(fdatasync(dirfd(d)));
	closedir(d);
	h_rmtree(AT_FDCWD, "d");
}

/* Positions given by telldir lead back, in any order, also in another stream of the same directory.
 */
static void positions(void)
{
	enum { N = 500 };
	static struct {
		long pos;
		char name[32];
	} at[N + 3];
	struct dirent *e;
	int n = 0, wrong = 0;
	DIR *d, *d2;

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(make_many("d", N));
	d = opendir("d");
	d2 = opendir("d");
	REQUIRE_OK(d && d2 ? 0 : -1);
	for (;;) {
		at[n].pos = telldir(d);
		e = readdir(d);
		if (!e || n == N + 2)
			break;
		snprintf(at[n++].name, sizeof(at[0].name), "%.31s", e->d_name);
	}
	EXPECT_EQ(N + 2, n);
	for (int k = 0; k < n; k++) {
		int i = (k * 211) % n; /* every one, not in order */

		seekdir(d, at[i].pos);
		e = readdir(d);
		wrong += !e || strcmp(e->d_name, at[i].name);
		if (i + 1 < n) {
			wrong += telldir(d) != at[i + 1].pos;
			e = readdir(d);
			wrong += !e || strcmp(e->d_name, at[i + 1].name);
		}
		seekdir(d2, at[i].pos);
		e = readdir(d2);
		wrong += !e || strcmp(e->d_name, at[i].name);
	}
	EXPECT_EQ(0, wrong);
	seekdir(d, at[n].pos);
	EXPECT_TRUE(readdir(d) == NULL, "the last position is the end");
	/* Removal of others leaves a position good. */
	for (int i = 0; i < n; i += 2) {
		char path[64];

		snprintf(path, sizeof(path), "d/%s", at[i].name);
		if (at[i].name[0] == 'e')
			unlink(path);
	}
	wrong = 0;
	for (int i = 1; i < n; i += 2) {
		if (at[i].name[0] != 'e')
			continue;
		seekdir(d, at[i].pos);
		e = readdir(d);
		wrong += !e || strcmp(e->d_name, at[i].name);
	}
	EXPECT_EQ(0, wrong);
	rewinddir(d);
	e = readdir(d);
	EXPECT_TRUE(e && !strcmp(e->d_name, at[0].name), "rewinddir leads to the first");
	closedir(d);
	closedir(d2);
	h_rmtree(AT_FDCWD, "d");
}

/* A rewound or newly opened stream shows what is there by then. */
static void fresh_after_rewind(void)
{
	DIR *d, *held;
	long n;

	REQUIRE_OK(mkdir("d", 0755));
	held = opendir("d");
	REQUIRE_OK(held ? 0 : -1);
	for (int round = 0; round < 30; round++) {
		char path[32];

		h_ctx("round %d", round);
		snprintf(path, sizeof(path), "d/new%d", round);
		EXPECT_OK(round % 2 ? mkdir(path, 0755) : h_touch(path));
		rewinddir(held);
		for (n = 0; readdir(held);)
			n++;
		EXPECT_EQ(round + 3, n);
		d = opendir("d");
		for (n = 0; d && readdir(d);)
			n++;
		EXPECT_EQ(round + 3, n);
		if (d)
			closedir(d);
	}
	for (int round = 29; round >= 0; round--) {
		char path[32];

		h_ctx("round %d", round);
		snprintf(path, sizeof(path), "d/new%d", round);
		EXPECT_OK(h_remove(path));
		rewinddir(held);
		for (n = 0; readdir(held);)
			n++;
		EXPECT_EQ(round + 2, n);
	}
	h_ctx(NULL);
	closedir(held);
	rmdir("d");
}

/* Two streams, and two descriptors of one open file, do not and do share a position. */
static void streams(void)
{
	char buf[4096];
	int a, b;
	long n;

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(make_many("d", 20));
	a = (int)REQUIRE_OK(open("d", O_RDONLY | O_DIRECTORY));
	b = (int)REQUIRE_OK(dup(a));
	EXPECT_TRUE(syscall(SYS_getdents64, a, buf, sizeof(buf)) > 0,
		    "the first read gives entries");
	EXPECT_EQ(0, syscall(SYS_getdents64, a, buf, sizeof(buf)));
	EXPECT_EQ(0, syscall(SYS_getdents64, b, buf, sizeof(buf)));
	EXPECT_EQ(0, lseek(b, 0, SEEK_SET));
	EXPECT_TRUE(syscall(SYS_getdents64, a, buf, sizeof(buf)) > 0,
		    "rewound, there are entries again");
	close(b);
	b = (int)REQUIRE_OK(open("d", O_RDONLY | O_DIRECTORY));
	EXPECT_TRUE(syscall(SYS_getdents64, b, buf, sizeof(buf)) > 0,
		    "another open file has its own position");
	/* Small buffers: a few entries at a time, none lost. */
	EXPECT_EQ(0, lseek(a, 0, SEEK_SET));
	for (long total = 0;;) {
		n = syscall(SYS_getdents64, a, buf, 64);
		if (n <= 0) {
			EXPECT_EQ(0, n);
			EXPECT_EQ(22, total);
			break;
		}
		for (long at = 0; at < n; total++)
			at += *(unsigned short *)(void *)(buf + at + 16); /* d_reclen */
	}
	close(a);
	close(b);
	h_rmtree(AT_FDCWD, "d");
}

static void big(int n)
{
	struct stat st;
	char name[64];
	int removed = 0;
	DIR *d;

	h_ctx("%d entries", n);
	REQUIRE_OK(mkdir("big", 0755));
	REQUIRE_OK(make_many("big", n));
	d = opendir("big");
	REQUIRE_OK(d ? 0 : -1);
	check_listing(d, n, 0);
	rewinddir(d);
	check_listing(d, n, 0);
	for (int i = 0; i < n; i += n / 50) {
		snprintf(name, sizeof(name), "big/entry-%06d", i);
		EXPECT_OK(stat(name, &st));
		snprintf(name, sizeof(name), "big/entry+%06d", i);
		EXPECT_ERR(ENOENT, stat(name, &st));
	}
	for (int i = 0; i < n / 2; i++) {
		snprintf(name, sizeof(name), "big/entry-%06d", i);
		removed += unlink(name) == 0;
	}
	EXPECT_EQ(n / 2, removed);
	rewinddir(d);
	check_listing(d, n, n / 2);
	closedir(d);
	EXPECT_ERR2(ENOTEMPTY, EEXIST, rmdir("big"));
	/* What rm -r does: remove while reading. */
	d = opendir("big");
	REQUIRE_OK(d ? 0 : -1);
	for (struct dirent *e; (e = readdir(d));)
		removed += unlinkat(dirfd(d), e->d_name, 0) == 0;
	closedir(d);
	EXPECT_EQ(n, removed);
	EXPECT_OK(rmdir("big"));
	h_ctx(NULL);
}

void area_dir(void)
{
	basic();
	positions();
	fresh_after_rewind();
	streams();
	big(10000);
	if (h_opt()->large)
		big(100000);
}
