/* hfile: the harness's helpers for files, names and times. */
#include "harness.h"
#include "hpriv.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

static int clock_fd = -1; /* the file whose ctime tells the file system's time */
static bool can[T_COUNT];

static const struct {
	const char *name;
	mode_t mode;
} types[T_COUNT] = {
    [T_REG] = {"regular file", S_IFREG},
    [T_DIR] = {"directory", S_IFDIR},
    [T_FIFO] = {"fifo", S_IFIFO},
    [T_SOCK] = {"socket", S_IFSOCK},
    [T_CHR] = {"character device", S_IFCHR},
    [T_BLK] = {"block device", S_IFBLK},
    [T_LNK] = {"symlink", S_IFLNK},
};

const char *h_type_name(enum h_type t)
{
	return types[t].name;
}

mode_t h_type_mode(enum h_type t)
{
	return types[t].mode;
}

bool h_can(enum h_type t)
{
	return can[t];
}

int h_make(enum h_type t, const char *path, mode_t mode)
{
	int fd, r;

	switch (t) {
	case T_REG:
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = fd < 0 ? -1 : close(fd);
		break;
	case T_DIR:
		r = mkdir(path, 0700);
		break;
	case T_LNK:
		return symlink("nowhere", path);
	default:
		r = mknod(path, types[t].mode | 0600, makedev(1, 3));
		break;
	}
	return r ? -1 : chmod(path, mode);
}

int h_remove(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		return -1;
	return S_ISDIR(st.st_mode) ? rmdir(path) : unlink(path);
}

int h_put(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size_t done = 0;

	if (fd < 0)
		return -1;
	while (done < len) {
		ssize_t w = write(fd, (const char *)data + done, len - done);

		if (w <= 0)
			break;
		done += (size_t)w;
	}
	return close(fd) || done < len ? -1 : 0;
}

int h_touch(const char *path)
{
	return h_put(path, "", 0);
}

int h_opens(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags | O_CLOEXEC, mode);

	return fd < 0 ? -1 : close(fd);
}

int h_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st);
}

struct stat h_lstat(const char *path)
{
	struct stat st = {0};
	char text[320];

	snprintf(text, sizeof(text), "lstat(%.200s)", path);
	if (lstat(path, &st))
		h_check(H_AT, false, text, "expected success got %s", strerrorname_np(errno));
	return st;
}

int h_rmtree(int dirfd, const char *name)
{
	struct dirent *e;
	int fd, failed = 0;
	DIR *d;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
		return 0;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return -1;
	fchmod(fd, 0700);
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			failed |= h_rmtree(fd, e->d_name);
	closedir(d);
	return unlinkat(dirfd, name, AT_REMOVEDIR) || failed ? -1 : 0;
}

static unsigned char fill_byte(size_t i, unsigned seed)
{
	uint32_t x = (uint32_t)(i >> 2) * 2654435761u + seed * 40503u + 12345u;

	/* Never 0, so that a hole or a lost page cannot look right. */
	return (unsigned char)((x >> (8 * (i & 3))) | 1);
}

void h_fill(void *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		((unsigned char *)buf)[i] = fill_byte(i, seed);
}

bool h_is_fill(const void *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		if (((const unsigned char *)buf)[i] != fill_byte(i, seed))
			return false;
	return true;
}

bool h_is_zero(const void *buf, size_t len)
{
	const unsigned char *p = buf;

	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

void *h_bad_ptr(void)
{
	static void *bad;

	if (!bad)
		bad = mmap(NULL, 1 << 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return bad;
}

long h_sysctl(const char *path, long dflt)
{
	FILE *f = fopen(path, "re");
	long v = dflt;

	if (f) {
		if (fscanf(f, "%ld", &v) != 1)
			v = dflt;
		fclose(f);
	}
	return v;
}

long h_count(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	long n = 0;

	if (!d)
		return -1;
	errno = 0;
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	if (errno)
		n = -1;
	closedir(d);
	return n;
}

char *h_name(size_t len)
{
	char *s = malloc(len + 1);

	if (!s)
		_exit(3);
	for (size_t i = 0; i < len; i++)
		s[i] = (char)('a' + i % 26);
	s[len] = 0;
	return s;
}

char *h_long_path(const char *path, size_t len)
{
	size_t own = strlen(path), pad = len - own;
	char *s = malloc(len + 1);

	if (!s || own > len || pad == 1) /* one byte cannot be padded */
		_exit(3);
	for (size_t i = 0; i < pad; i++)
		s[i] = i % 2 ? '/' : '.';
	if (pad % 2) /* "././/x" */
		s[pad - 1] = '/';
	memcpy(s + pad, path, own + 1);
	return s;
}

/* ---- times -------------------------------------------------------------------------------- */

void hfile_init(void)
{
	static const char name[] = "probe";

	clock_fd = open(".clock", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (clock_fd < 0 || fchmod(clock_fd, 0666)) {
		h_check(H_AT, false, "create a file", "expected success got %s",
			strerrorname_np(errno));
		_exit(99);
	}
	for (enum h_type t = T_REG; t < T_COUNT; t++) {
		can[t] = h_make(t, name, 0600) == 0;
		h_remove(name);
	}
}

int h_tscmp(struct timespec a, struct timespec b)
{
	if (a.tv_sec != b.tv_sec)
		return a.tv_sec < b.tv_sec ? -1 : 1;
	return a.tv_nsec < b.tv_nsec ? -1 : a.tv_nsec > b.tv_nsec;
}

void h_tick(struct timespec t)
{
	static const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
	struct stat st;

	/* The server's clock, not ours, is what a ctime comes from: so ask a file. */
	do {
		if (futimens(clock_fd, now) || fstat(clock_fd, &st)) {
			h_check(H_AT, false, "clock file", "expected success got %s",
				strerrorname_np(errno));
			_exit(99);
		}
	} while (h_tscmp(st.st_ctim, t) <= 0);
}

struct stat h_rewind(const char *path)
{
	static const struct timespec past[2] = {{.tv_sec = 978307200, .tv_nsec = 111111111},
						{.tv_sec = 978307201, .tv_nsec = 222222222}};
	struct stat st;

	if (utimensat(AT_FDCWD, path, past, AT_SYMLINK_NOFOLLOW))
		h_check(H_AT, false, "set times to the past", "expected success got %s for %s",
			strerrorname_np(errno), path);
	st = h_lstat(path);
	h_tick(st.st_ctim);
	return st;
}

void h_expect_times(const char *file, int line, const char *path, const struct stat *before,
		    unsigned moved, unsigned any)
{
	struct stat st;
	char text[320];

	if (lstat(path, &st)) {
		snprintf(text, sizeof(text), "lstat(%.200s)", path);
		h_check(file, line, false, text, "expected success got %s", strerrorname_np(errno));
		return;
	}
	const struct {
		unsigned bit;
		const char *name;
		struct timespec was, is;
	} t[] = {{TM_A, "atime", before->st_atim, st.st_atim},
		 {TM_M, "mtime", before->st_mtim, st.st_mtim},
		 {TM_C, "ctime", before->st_ctim, st.st_ctim}};

	for (int i = 0; i < 3; i++) {
		int cmp = h_tscmp(t[i].is, t[i].was);

		if (any & t[i].bit)
			continue;
		snprintf(text, sizeof(text), "%s of %.200s", t[i].name, path);
		h_check(file, line, moved & t[i].bit ? cmp > 0 : cmp == 0, text,
			"expected %s than %lld.%09ld got %lld.%09ld",
			moved & t[i].bit ? "later" : "no other", (long long)t[i].was.tv_sec,
			t[i].was.tv_nsec, (long long)t[i].is.tv_sec, t[i].is.tv_nsec);
	}
}

bool h_has_atime(void)
{
	struct stat before;
	char c;
	int fd, cmp;

	h_put(".atime", "x", 1);
	before = h_rewind(".atime");
	fd = open(".atime", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, &c, 1) != 1 || close(fd))
		return false;
	cmp = h_tscmp(h_lstat(".atime").st_atim, before.st_atim);
	unlink(".atime");
	return cmp > 0;
}
