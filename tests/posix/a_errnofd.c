/* One table of all calls that take a descriptor, against descriptors that cannot serve them. */
#include "harness.h"

#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static struct stat st;
static struct statfs sfs;
static char buf[64];
static struct iovec vec = {buf, sizeof(buf)};
static const struct timespec ts[2] = {{1, 1}, {1, 1}};

static struct flock whole(void)
{
	return (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET};
}

/* RD, WR: needs that access. PATH: works on an O_PATH descriptor. DIR_: asks for a directory. */
enum { RD = 1, WR = 2, PATH = 4, DIR_ = 8 };

#define CALLS(X)                                                                                   \
	X(read, read(fd, buf, 1), RD)                                                              \
	X(pread, pread(fd, buf, 1, 0), RD)                                                         \
	X(readv, readv(fd, &vec, 1), RD)                                                           \
	X(preadv, preadv(fd, &vec, 1, 0), RD)                                                      \
	X(write, write(fd, buf, 1), WR)                                                            \
	X(pwrite, pwrite(fd, buf, 1, 0), WR)                                                       \
	X(writev, writev(fd, &vec, 1), WR)                                                         \
	X(pwritev, pwritev(fd, &vec, 1, 0), WR)                                                    \
	X(lseek, lseek(fd, 0, SEEK_CUR), 0)                                                        \
	X(fstat, fstat(fd, &st), PATH)                                                             \
	X(fstatfs, fstatfs(fd, &sfs), PATH)                                                        \
	X(fchmod, fchmod(fd, 0755), 0)                                                             \
	X(fchown, fchown(fd, (uid_t)-1, (gid_t)-1), 0)                                             \
	X(futimens, syscall(SYS_utimensat, fd, NULL, ts, 0), 0)                                    \
	X(fsync, fsync(fd), 0)                                                                     \
	X(fdatasync, fdatasync(fd), 0)                                                             \
	X(syncfs, syncfs(fd), 0)                                                                   \
	X(flock, flock(fd, LOCK_SH | LOCK_NB), 0)                                                  \
	X(setlk, fcntl(fd, F_SETLK, &lk), RD)                                                      \
	X(getlk, fcntl(fd, F_GETLK, &lk), 0)                                                       \
	X(ioctl, ioctl(fd, FIONREAD, &n), 0)                                                       \
	X(getdents, syscall(SYS_getdents64, fd, buf, sizeof(buf)), DIR_)                           \
	X(fchdir, fchdir(fd), PATH | DIR_)                                                         \
	X(openat, openat(fd, "none", O_RDONLY), PATH | DIR_)                                       \
	X(mkdirat, mkdirat(fd, "x/y", 0755), PATH | DIR_)                                          \
	X(fstatat, fstatat(fd, "none", &st, 0), PATH | DIR_)                                       \
	X(unlinkat, unlinkat(fd, "none", 0), PATH | DIR_)                                          \
	X(renameat, renameat(fd, "none", fd, "x"), PATH | DIR_)                                    \
	X(linkat, linkat(fd, "none", fd, "x", 0), PATH | DIR_)                                     \
	X(symlinkat, symlinkat("x", fd, "none/x"), PATH | DIR_)                                    \
	X(mkfifoat, mkfifoat(fd, "none/x", 0644), PATH | DIR_)                                     \
	X(fchmodat, fchmodat(fd, "none", 0644, 0), PATH | DIR_)                                    \
	X(fchownat, fchownat(fd, "none", 0, 0, 0), PATH | DIR_)                                    \
	X(utimensat, utimensat(fd, "none", ts, 0), PATH | DIR_)                                    \
	X(faccessat, faccessat(fd, "none", F_OK, 0), PATH | DIR_)                                  \
	X(readlinkat, readlinkat(fd, "none", buf, sizeof(buf)), PATH | DIR_)

#define X(id, call, flags)                                                                         \
	static long c_##id(int fd)                                                                 \
	{                                                                                          \
		struct flock lk = whole();                                                         \
		int n;                                                                             \
		(void)lk;                                                                          \
		(void)n;                                                                           \
		return call;                                                                       \
	}
CALLS(X)
#undef X

static const struct {
	const char *name;
	long (*fn)(int fd);
	unsigned flags;
} calls[] = {
#define X(id, call, flags) {#id, c_##id, flags},
    CALLS(X)
#undef X
};
enum { N = sizeof(calls) / sizeof(calls[0]) };

static void no_descriptor(void)
{
	int closed = (int)REQUIRE_OK(open("file", O_RDWR));

	close(closed);
	for (int i = 0; i < N; i++) {
		h_ctx("%s", calls[i].name);
		EXPECT_ERR(EBADF, calls[i].fn(closed));
		EXPECT_ERR(EBADF, calls[i].fn(-1));
		EXPECT_ERR(EBADF, calls[i].fn(1000000));
	}
	h_ctx(NULL);
	EXPECT_ERR(EBADF, ftruncate(-1, 0));
	EXPECT_ERR(EBADF, fallocate(-1, 0, 0, 1));
	EXPECT_ERR(EBADF, close(-1));
	EXPECT_ERR(EBADF,
		   mmap(NULL, 4096, PROT_READ, MAP_SHARED, closed, 0) == MAP_FAILED ? -1 : 0);
	EXPECT_ERR(EBADF, copy_file_range(closed, NULL, closed, NULL, 1, 0));
}

static void wrong_access(void)
{
	int ro = (int)REQUIRE_OK(open("file", O_RDONLY)),
	    wo = (int)REQUIRE_OK(open("file", O_WRONLY));
	int path = (int)REQUIRE_OK(open("file", O_PATH));

	for (int i = 0; i < N; i++) {
		h_ctx("%s", calls[i].name);
		if (calls[i].flags & WR)
			EXPECT_ERR(EBADF, calls[i].fn(ro));
		if (calls[i].flags & RD)
			EXPECT_ERR(EBADF, calls[i].fn(wo));
		if (calls[i].flags & DIR_) {
			EXPECT_ERR(ENOTDIR, calls[i].fn(ro));
			EXPECT_ERR(calls[i].flags & PATH ? ENOTDIR : EBADF, calls[i].fn(path));
		} else if (calls[i].flags & PATH) {
			EXPECT_OK(calls[i].fn(path));
		} else {
			EXPECT_ERR(EBADF, calls[i].fn(path));
		}
	}
	h_ctx(NULL);
	EXPECT_ERR2(EINVAL, EBADF, ftruncate(ro, 0));
	EXPECT_ERR(EBADF, ftruncate(path, 0));
	EXPECT_ERR(EBADF, fallocate(ro, 0, 0, 1));
	EXPECT_ERR(EBADF, copy_file_range(wo, NULL, wo, NULL, 1, 0));
	EXPECT_ERR(EBADF, copy_file_range(ro, NULL, ro, NULL, 1, 0));
	EXPECT_ERR(EBADF, sendfile(ro, ro, NULL, 1));
	EXPECT_ERR(EACCES, mmap(NULL, 4096, PROT_READ, MAP_SHARED, wo, 0) == MAP_FAILED ? -1 : 0);
	EXPECT_ERR(EACCES, mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED ? -1 : 0);
	EXPECT_ERR(EACCES, mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, wo, 0) == MAP_FAILED ? -1 : 0);
	close(ro);
	close(wo);
	close(path);
}

static void directories(void)
{
	int fd = (int)REQUIRE_OK(open("dir", O_RDONLY | O_DIRECTORY)), tty = 0;

	for (int i = 0; i < N; i++) {
		h_ctx("%s of a directory", calls[i].name);
		if (calls[i].flags & RD && calls[i].fn != c_setlk)
			EXPECT_ERR(EISDIR, calls[i].fn(fd));
		if (calls[i].flags & WR)
			EXPECT_ERR(EBADF, calls[i].fn(fd));
		if (calls[i].fn == c_fstat || calls[i].fn == c_fsync ||
		    calls[i].fn == c_fdatasync || calls[i].fn == c_flock ||
		    calls[i].fn == c_fstatfs || calls[i].fn == c_lseek)
			EXPECT_OK(calls[i].fn(fd));
		if ((calls[i].flags & DIR_) && (calls[i].flags & PATH) && calls[i].fn != c_fchdir)
			EXPECT_ERR(ENOENT, calls[i].fn(fd));
	}
	h_ctx(NULL);
	EXPECT_ERR(EINVAL, syscall(SYS_getdents64, fd, buf, 4)); /* too small for any entry */
	EXPECT_ERR(ENODEV, mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
	EXPECT_ERR2(EBADF, EISDIR, fallocate(fd, 0, 0, 1));
	EXPECT_ERR(ENOTTY, ioctl(fd, 0x5401 /* TCGETS */, &tty));
	close(fd);
}

/* Arguments that are wrong for a descriptor that is right. */
static void arguments(void)
{
	int fd = (int)REQUIRE_OK(open("file", O_RDWR)), tty = 0;
	struct iovec none = {h_bad_ptr(), 10};
	struct flock lk = whole();

	REQUIRE_OK(ftruncate(fd, 10000));
	EXPECT_ERR(EFAULT, read(fd, h_bad_ptr(), 10));
	EXPECT_ERR(EFAULT, pread(fd, h_bad_ptr(), 10, 0));
	EXPECT_ERR(EFAULT, write(fd, h_bad_ptr(), 10));
	EXPECT_ERR(EFAULT, pwrite(fd, h_bad_ptr(), 10, 0));
	EXPECT_ERR(EFAULT, readv(fd, &none, 1));
	EXPECT_ERR(EFAULT, writev(fd, &none, 1));
	EXPECT_ERR(EFAULT, syscall(SYS_newfstatat, fd, "", h_bad_ptr(), AT_EMPTY_PATH));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_CUR));
	EXPECT_SIZE(10000, "file");
	EXPECT_ERR(EINVAL, lseek(fd, -1, SEEK_SET));
	EXPECT_ERR(EINVAL, lseek(fd, -10001, SEEK_END));
	EXPECT_ERR(EINVAL, lseek(fd, -1, SEEK_CUR));
	EXPECT_ERR(EINVAL, lseek(fd, 0, 99));
	EXPECT_ERR2(EINVAL, EOVERFLOW, lseek(fd, LLONG_MAX, SEEK_END));
	EXPECT_ERR(EINVAL, pread(fd, buf, 1, -1));
	EXPECT_ERR(EINVAL, pwrite(fd, buf, 1, -1));
	EXPECT_ERR(EINVAL, syscall(SYS_readv, fd, &vec, -1L)); /* raw: gcc knows better */
	EXPECT_ERR(EINVAL, syscall(SYS_readv, fd, &vec, IOV_MAX + 1L));
	EXPECT_ERR(EINVAL, syscall(SYS_writev, fd, &vec, IOV_MAX + 1L));
	EXPECT_EQ(0, readv(fd, &vec, 0));
	EXPECT_ERR(EINVAL, ftruncate(fd, -1));
	EXPECT_ERR(EINVAL, flock(fd, 0));
	EXPECT_ERR(EINVAL, flock(fd, LOCK_SH | LOCK_EX));
	lk.l_type = 77;
	EXPECT_ERR(EINVAL, fcntl(fd, F_SETLK, &lk));
	lk = whole();
	lk.l_whence = 77;
	EXPECT_ERR(EINVAL, fcntl(fd, F_SETLK, &lk));
	lk = whole();
	lk.l_start = -1;
	EXPECT_ERR(EINVAL, fcntl(fd, F_SETLK, &lk));
	EXPECT_ERR(EFAULT, fcntl(fd, F_SETLK, h_bad_ptr()));
	EXPECT_ERR2(EINVAL, EBADF, fcntl(fd, 9999, 0));
	EXPECT_ERR(ENOTTY, ioctl(fd, 0x5401 /* TCGETS */, &tty));
	EXPECT_ERR(EINVAL, mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 1) == MAP_FAILED ? -1 : 0);
	EXPECT_ERR(EINVAL, mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
	EXPECT_ERR(ENOTDIR, syscall(SYS_getdents64, fd, buf, sizeof(buf)));
	/* Zero bytes are no error, whatever the address. */
	EXPECT_EQ(0, read(fd, buf, 0));
	EXPECT_EQ(0, write(fd, buf, 0));
	EXPECT_EQ(0, pread(fd, buf, 0, 1 << 30));
	EXPECT_EQ(0, pwrite(fd, buf, 0, 1 << 30));
	EXPECT_SIZE(10000, "file");
	close(fd);
}

void area_errnofd(void)
{
	REQUIRE_OK(h_put("file", "0123456789", 10));
	REQUIRE_OK(mkdir("dir", 0755));
	no_descriptor();
	wrong_access();
	directories();
	arguments();
	unlink("file");
	rmdir("dir");
}
