#include "host/export.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "host/creds.h"
#include "host/export_priv.h"
#include "host/filesystem.h"
#include "host/owners.h"

#define SETID	      (S_ISUID | S_ISGID)
#define MAKES_TMPFILE (O_TMPFILE & ~O_DIRECTORY)
#define CLIMB_MAX     4096 /* directories above each other */
#define HINT_MAX      64   /* of them that are climbed in one call */
#define LOG_PAUSE_S   5	   /* between two lines of one kind that a guest can cause */

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

/* True if opening a file with these flags changes it, or lets the caller change it. */
static bool changes(int flags)
{
	return !(flags & O_PATH) &&
	       ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0);
}

int export_open(const struct export *e, int dirfd, const char *name, int flags, mode_t mode,
		int *ret_fd)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = e->no_setid ? mode & ~(mode_t)SETID : mode,
		.resolve = e->resolve,
	};

	if (e->read_only && changes(flags))
		return -EROFS;
	int r = flags & (O_CREAT | MAKES_TMPFILE) ? export_changeable(e, dirfd) : 0;
	if (r < 0)
		return r;
	for (int i = 0; i < 16; i++) {
		int fd = sys_openat2(dirfd, name, &how);

		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		/* EAGAIN: something was renamed or mounted during the look-up (openat2(2)) */
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return errno == EXDEV ? -ENOENT : -errno;
}

/* ---- ids ---- */

uid_t export_shown_uid(const struct export *e, uid_t uid)
{
	return e->squash ? e->uid : e->owners != NULL ? id_to_guest(&e->owners->uid, uid) : uid;
}

gid_t export_shown_gid(const struct export *e, gid_t gid)
{
	return e->squash ? e->gid : e->owners != NULL ? id_to_guest(&e->owners->gid, gid) : gid;
}

static int to_host(const struct id_ranges *r, uint64_t id, uint32_t *ret)
{
	static const struct id_ranges same = {.n = 0};

	return id_to_host(r != NULL ? r : &same, id, ret) ? 0 : -EPERM;
}

int export_host_uid(const struct export *e, uint64_t uid, uid_t *ret)
{
	return to_host(e->owners != NULL ? &e->owners->uid : NULL, uid, ret);
}

int export_host_gid(const struct export *e, uint64_t gid, gid_t *ret)
{
	return to_host(e->owners != NULL ? &e->owners->gid : NULL, gid, ret);
}

const struct owners *export_owners(const struct export *e)
{
	return e->owners;
}

int export_changeable(const struct export *e, int fd)
{
	struct stat st;

	if (e->owners == NULL)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	return id_has_guest(&e->owners->uid, st.st_uid) && id_has_guest(&e->owners->gid, st.st_gid)
		       ? 0
		       : -EPERM;
}

/* ---- objects ---- */

/* Opens through the magic link, which leads to the inode itself whatever its names are. */
static int reopen(const struct export *e, int object, int flags, int *ret_fd)
{
	char name[16];
	int fd;

	do {
		fd = openat(e->proc, fd_name(object, name), flags | O_CLOEXEC | O_NOCTTY);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int export_reopen(const struct export *e, int object, int flags, int *ret_fd)
{
	int r = changes(flags) ? export_changeable(e, object) : 0;

	if (r < 0)
		return r;
	if (!e->read_only || (flags & O_PATH))
		return reopen(e, object, flags, ret_fd);
	if (changes(flags))
		return -EROFS;
	/* Reading changes the access time; only the owner may ask the kernel not to (open(2)). */
	r = reopen(e, object, flags | O_NOATIME, ret_fd);
	return r == -EPERM ? reopen(e, object, flags, ret_fd) : r;
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
		.uid = export_shown_uid(e, stx.stx_uid),
		.gid = export_shown_gid(e, stx.stx_gid),
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
	struct stat st;

	if (e->read_only)
		return -EROFS;
	int r = export_changeable(e, object);
	if (r < 0)
		return r;
	/* A directory's set-group-ID bit is allowed: it says which group new files get. */
	if (e->no_setid && (mode & SETID) && !(fstat(object, &st) == 0 && S_ISDIR(st.st_mode)))
		mode &= ~(mode_t)SETID;
	/* fchmod(2) refuses an O_PATH descriptor. A symbolic link gives EOPNOTSUPP, as on ext4. */
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

	if (e->read_only)
		return -EROFS;
	int r = export_changeable(e, object);
	if (r < 0)
		return r;
	/* AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH. The magic link does not, and leads to the
	 * object even if the object is a symbolic link itself. */
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

/* Whether the root is `depth` directories above this one. */
static bool root_is_above(const struct export *e, int dirfd, unsigned depth)
{
	CLEANUP_CLOSE int fd = -1;
	char up[3 * HINT_MAX + 1];
	struct statx stx;

	if (depth == 0 || depth > HINT_MAX)
		return false;
	for (unsigned i = 0; i < depth; i++)
		memcpy(up + 3 * (size_t)i, "../", 3);
	up[3 * (size_t)depth] = '\0';
	fd = openat(dirfd, up, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_INO, &stx) == 0 &&
	       export_is_root(e, &stx);
}

/* The path that the kernel tells of a descriptor (d_path), -errno if the path is too long. */
static ssize_t path_of(const struct export *e, int fd, char path[PATH_MAX])
{
	char name[16];
	ssize_t n = readlinkat(e->proc, fd_name(fd, name), path, PATH_MAX - 1);

	if (n < 0 || n == PATH_MAX - 1)
		return n < 0 ? -errno : -ENAMETOOLONG;
	path[n] = '\0';
	return n;
}

/* The part of path below the root, without '/' in front; NULL if path is not below the root. */
static const char *path_below(const struct export *e, const char *path)
{
	char root[PATH_MAX];
	ssize_t n = path_of(e, e->root, root); /* each time: the host may rename it */

	if (n == 1)
		n = 0; /* "/" */
	return n >= 0 && strncmp(path, root, (size_t)n) == 0 && path[n] == '/' ? path + n + 1
									       : NULL;
}

/*
 * The dentry of a file, or of a directory that this server may not search, moves with it
 * (d_move), so the path of a descriptor tells where the name is by which it was opened. The path is
 * verified by walking down from the root, because the path of a file on another file system, or on
 * a mount that is gone, may look the same. An unlinked file has no name to walk to: it counts as
 * being where its name was.
 */
static int contains_by_path(const struct export *e, int fd)
{
	static const char deleted[] = " (deleted)";
	CLEANUP_CLOSE int found = -1;
	char path[PATH_MAX];
	struct statx a, b;
	ssize_t n = path_of(e, fd, path);
	const char *below = n > 0 ? path_below(e, path) : NULL;

	if (below == NULL)
		return 0;
	if ((size_t)n >= sizeof(deleted) && strcmp(path + n + 1 - sizeof(deleted), deleted) == 0)
		return 1;
	int r = export_open(e, e->root, below, O_PATH, 0, &found);
	if (r < 0)
		return r == -EACCES; /* this server may not walk down: the path alone decides */
	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO, &a) < 0 ||
	    statx(found, "", AT_EMPTY_PATH, STATX_INO, &b) < 0)
		return -errno;
	return a.stx_ino == b.stx_ino && a.stx_dev_major == b.stx_dev_major &&
	       a.stx_dev_minor == b.stx_dev_minor;
}

/*
 * A directory that was moved out of the export is still reachable through a
 * descriptor or a handle, in spite of RESOLVE_BENEATH, which only looks at the way
 * from the descriptor down. The directory's ".." tells where the directory is now.
 */
int export_contains(const struct export *e, int dirfd, unsigned *depth)
{
	CLEANUP_CLOSE int cur = -1;
	struct statx stx, up;

	if (depth != NULL && root_is_above(e, dirfd, *depth))
		return 1;
	if (statx(dirfd, "", AT_EMPTY_PATH, STATX_INO, &stx) < 0)
		return -errno;
	for (unsigned i = 0; i < CLIMB_MAX; i++) {
		if (export_is_root(e, &stx)) {
			if (depth != NULL)
				*depth = i;
			return 1;
		}
		int fd = openat(cur >= 0 ? cur : dirfd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno == EACCES) /* mode 0000: ".." cannot be looked up in it */
			return contains_by_path(e, dirfd);
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

int export_inside(const struct export *e, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? export_contains(e, fd, NULL) : contains_by_path(e, fd);
}

void export_log_outside(const char *what)
{
	static _Atomic int64_t logged;
	static atomic_uint before;
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t last = atomic_load(&logged);
	if ((last != 0 && now.tv_sec - last < LOG_PAUSE_S) ||
	    !atomic_compare_exchange_strong(&logged, &last, now.tv_sec + 1)) {
		atomic_fetch_add(&before, 1);
		return;
	}
	unsigned more = atomic_exchange(&before, 0);
	log_warning("%s: carried out where the host had moved it out of the export meanwhile, and "
		    "answered with ESTALE%s",
		    what, more > 0 ? "; so were others before" : "");
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

bool export_confined(const struct export *e)
{
	return e->confined;
}

bool export_privileged(const struct export *e)
{
	return e->privileged;
}

bool export_assumes(const struct export *e)
{
	return e->privileged && !e->read_only;
}

bool export_no_setid(const struct export *e)
{
	return e->no_setid;
}

bool export_squashed(const struct export *e, uid_t *ret_uid, gid_t *ret_gid)
{
	if (!e->squash)
		return false;
	*ret_uid = e->uid;
	*ret_gid = e->gid;
	return true;
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

	if (e->squash && !e->privileged && (e->uid != geteuid() || e->gid != getegid())) {
		(void)snprintf(err, err_len, "only root can give what guests make to %u:%u", e->uid,
			       e->gid);
		return -EPERM;
	}
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
	e->plain_follow = config->plain_follow;
	e->read_only = config->read_only;
	e->special = config->special;
	e->no_setid = config->no_setid || config->squash;
	e->squash = config->squash;
	e->confined = config->confined;
	e->uid = config->squash_uid;
	e->gid = config->squash_gid;
	e->owners = config->owners;
	e->privileged = config->privileged || creds_privileged();
	e->resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
		     (config->xdev == XDEV_HIDE ? RESOLVE_NO_XDEV : 0);
	(void)umask(0);
	e->masks = creds_can_mask();
	e->symlinks = config->symlinks;
	e->links_mutex = calloc(1, sizeof(*e->links_mutex));
	int r = e->links_mutex == NULL ? -ENOMEM : 0;
	if (r < 0)
		(void)snprintf(err, err_len, "out of memory");
	else
		(void)pthread_mutex_init(e->links_mutex, NULL);
	if (r == 0)
		r = setup(e, config, err, err_len);
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
	if (e->links_mutex != NULL)
		(void)pthread_mutex_destroy(e->links_mutex);
	free(e->links_mutex);
	free(e->plain_prefix);
	free(e);
}
