#include "host/export.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/creds.h"
#include "host/export_priv.h"
#include "host/filesystem.h"

#define CLIMB_MAX 4096 /* directories above each other */

static int sys_openat2(int dirfd, const char *name, struct open_how *how)
{
	return (int)syscall(SYS_openat2, dirfd, name, how, sizeof(*how));
}

static const char *fd_name(int fd, char buf[16])
{
	(void)snprintf(buf, 16, "%d", fd);
	return buf;
}

/* ---- names ---- */

int export_name_check(struct slice name)
{
	const char *p = name.data;

	if (name.len == 0 || memchr(p, '/', name.len) != NULL || memchr(p, '\0', name.len) != NULL)
		return -EINVAL;
	if (name.len > MSG_NAME_MAX)
		return -ENAMETOOLONG;
	if (p[0] == '.' && (name.len == 1 || (name.len == 2 && p[1] == '.')))
		return -EINVAL;
	return 0;
}

int export_open(const struct export *e, int dirfd, const char *name, int flags, mode_t mode,
		int *ret_fd)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = mode,
		.resolve = e->resolve,
	};

	for (int i = 0; i < 16; i++) {
		int fd = sys_openat2(dirfd, name, &how);

		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		/* EAGAIN: a rename or mount elsewhere while it looked (openat2(2)) */
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return errno == EXDEV ? -ENOENT : -errno;
}

/* ---- objects ---- */

int export_reopen(const struct export *e, int object, int flags, int *ret_fd)
{
	char name[16];
	int fd;

	/* Through the magic link: it leads to the inode itself, names do not matter. */
	do {
		fd = openat(e->proc, fd_name(object, name), flags | O_CLOEXEC | O_NOCTTY);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

bool export_may_write(const struct export *e, int object)
{
	char name[16];

	return faccessat(e->proc, fd_name(object, name), W_OK, AT_EACCESS) == 0;
}

int export_openable(mode_t mode)
{
	if (S_ISREG(mode))
		return 0;
	return S_ISDIR(mode) ? -EISDIR : S_ISLNK(mode) ? -ELOOP : -ENXIO;
}

static struct msg_time stx_time(const struct statx_timestamp *ts)
{
	return (struct msg_time){ts->tv_sec, ts->tv_nsec};
}

int export_attr(const struct export *e, int fd, struct attr *ret)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS, &stx) < 0)
		return -errno;
	*ret = (struct attr){
		.ino = filesystems_ino(e->filesystems,
				       makedev(stx.stx_dev_major, stx.stx_dev_minor), stx.stx_ino),
		.mode = stx.stx_mode,
		.nlink = stx.stx_nlink,
		.uid = stx.stx_uid,
		.gid = stx.stx_gid,
		.rdev = (uint64_t)stx.stx_rdev_major << 32 | stx.stx_rdev_minor,
		.size = stx.stx_size,
		.blocks = stx.stx_blocks,
		.blksize = stx.stx_blksize,
		.atime = stx_time(&stx.stx_atime),
		.mtime = stx_time(&stx.stx_mtime),
		.ctime = stx_time(&stx.stx_ctime),
	};
	return 0;
}

bool export_no_acl(int fd, mode_t mode)
{
	char path[EXPORT_PROC_PATH_MAX];

	return S_ISLNK(mode) ||
	       (getxattr(export_proc_path(fd, path), "system.posix_acl_access", NULL, 0) < 0 &&
		(errno == ENODATA || errno == EOPNOTSUPP));
}

int export_chmod(const struct export *e, int object, mode_t mode)
{
	char name[16];

	/* fchmod(2) refuses O_PATH; a symbolic link is EOPNOTSUPP, as it is on ext4. */
	return fchmodat(e->proc, fd_name(object, name), mode, 0) < 0 ? -errno : 0;
}

int export_truncate(const struct export *e, int object, off_t size)
{
	struct stat st;
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (fstat(object, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	r = export_reopen(e, object, O_WRONLY, &fd);
	if (r < 0)
		return r;
	do {
		r = ftruncate(fd, size) < 0 ? -errno : 0;
	} while (r == -EINTR);
	return r;
}

int export_link(const struct export *e, int object, int dirfd, const char *name)
{
	char from[16];

	/* AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH; the magic link does not, and ends at the
	 * object even if that is a symbolic link itself. */
	return linkat(e->proc, fd_name(object, from), dirfd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno
											  : 0;
}

const char *export_proc_path(int fd, char buf[EXPORT_PROC_PATH_MAX])
{
	(void)snprintf(buf, EXPORT_PROC_PATH_MAX, "/proc/self/fd/%d", fd);
	return buf;
}

/* ---- confinement of directories ---- */

bool export_is_root(const struct export *e, const struct statx *stx)
{
	return makedev(stx->stx_dev_major, stx->stx_dev_minor) == e->root_dev &&
	       stx->stx_ino == e->root_ino;
}

/*
 * A directory that was moved out of the export is still reachable through a
 * descriptor or a handle, RESOLVE_BENEATH notwithstanding: that only looks at
 * the way from the descriptor down. Called when a directory is opened by its
 * handle again. The watcher will call for it as well: a rename of a directory
 * for which it sees no destination inside revokes what lies below it, and
 * where it cannot see renames, this is asked before each use once there may
 * have been one.
 */
int export_contains(const struct export *e, int dirfd)
{
	CLEANUP_CLOSE int cur = -1;
	struct statx stx, up;

	if (statx(dirfd, "", AT_EMPTY_PATH, STATX_INO, &stx) < 0)
		return -errno;
	for (int i = 0; i < CLIMB_MAX; i++) {
		if (export_is_root(e, &stx))
			return 1;
		int fd = openat(cur >= 0 ? cur : dirfd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0) /* ENOENT: not connected to this mount (path_connected) */
			return errno == ENOENT ? 0 : -errno;
		cleanup_close(&cur);
		cur = fd;
		if (statx(cur, "", AT_EMPTY_PATH, STATX_INO, &up) < 0)
			return -errno;
		if (up.stx_ino == stx.stx_ino && up.stx_dev_major == stx.stx_dev_major &&
		    up.stx_dev_minor == stx.stx_dev_minor)
			return 0; /* the root of everything */
		stx = up;
	}
	return 0;
}

/* ---- the export ---- */

bool export_read_only(const struct export *e)
{
	return e->read_only;
}

bool export_special(const struct export *e)
{
	return e->special;
}

bool export_privileged(const struct export *e)
{
	return e->privileged;
}

bool export_masks(const struct export *e)
{
	return e->masks;
}

int export_root(const struct export *e)
{
	return e->root;
}

struct filesystems *export_filesystems(const struct export *e)
{
	return e->filesystems;
}

static int copy_prefix(const char *prefix, char **ret)
{
	size_t len = strlen(prefix);

	while (len > 0 && prefix[len - 1] == '/')
		len--;
	*ret = strndup(prefix, len); /* "/" becomes "": every absolute path is below it */
	return *ret == NULL ? -ENOMEM : 0;
}

static int setup(struct export *e, const struct server_config *config, char *err, size_t err_len)
{
	CLEANUP_CLOSE int probe = -1;
	struct statx stx;
	int r;

	e->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (e->proc < 0) {
		r = -errno;
		(void)snprintf(err, err_len, "cannot open /proc/self/fd, is /proc mounted? %s",
			       strerror(-r));
		return r;
	}
	e->root = open(config->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (e->root < 0) {
		r = -errno;
		(void)snprintf(err, err_len, "cannot export '%s': %s", config->dir, strerror(-r));
		return r;
	}
	r = export_open(e, e->root, ".", O_PATH | O_DIRECTORY, 0, &probe);
	if (r < 0) {
		(void)snprintf(err, err_len, "cannot confine '%s' with openat2(2): %s", config->dir,
			       strerror(-r));
		return r;
	}
	r = statx(e->root, "", AT_EMPTY_PATH, STATX_INO, &stx) < 0 ? -errno : 0;
	if (r == 0) {
		e->root_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
		e->root_ino = stx.stx_ino;
		r = filesystems_new(e->root, e->proc, &e->filesystems);
	}
	if (r == 0)
		r = copy_prefix(config->plain_prefix != NULL ? config->plain_prefix : "/",
				&e->plain_prefix);
	if (r < 0)
		(void)snprintf(err, err_len, "cannot export '%s': %s", config->dir, strerror(-r));
	return r;
}

int export_new(const struct server_config *config, struct export **ret, char *err, size_t err_len)
{
	struct export *e = calloc(1, sizeof(*e));

	if (e == NULL) {
		(void)snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	e->root = e->proc = -1;
	e->read_only = config->read_only;
	e->special = config->special;
	e->privileged = creds_privileged();
	e->resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
		     (config->xdev == XDEV_HIDE ? RESOLVE_NO_XDEV : 0);
	(void)umask(0);
	e->masks = creds_can_mask();
	int r = setup(e, config, err, err_len);
	if (r < 0) {
		export_free(e);
		return r;
	}
	*ret = e;
	return 0;
}

void export_free(struct export *e)
{
	if (e == NULL)
		return;
	filesystems_free(e->filesystems);
	cleanup_close(&e->root);
	cleanup_close(&e->proc);
	free(e->plain_prefix);
	free(e);
}
