#include "host/filesystem.h"

#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "core/cleanup.h"
#include "host/idmap.h"

/* The headers may be older than the kernel. */
#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif
#define HANDLE_OVERLAY 0xf8 /* OVL_FILEID_V1 */

#define FILESYSTEMS_MAX 4096 /* mounts are the host's; a guest cannot make any */
#define DEVICES_MAX	4096 /* btrfs has a device per subvolume */
#define INO_RANGE_SHIFT 48

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#define ZFS_SUPER_MAGIC	   0x2fc12fc1
#define GFS2_MAGIC	   0x01161970
#define VBOXSF_SUPER_MAGIC 0x786f4256

struct filesystem {
	int mount_id;
	int fd; /* keeps the mount, so that its id is not used for another one */
	bool watchable;
	bool by_handle; /* this process may open files by their handles */
	bool flush;
	bool watched;
	fsid_t fsid;
};

struct device {
	dev_t dev;
	uint16_t range;
};

/*
 * Both arrays only grow. Readers take the count (acquire) and need no lock;
 * writers hold the mutex and publish an entry by raising the count.
 */
struct filesystems {
	int proc;
	dev_t root_dev;
	pthread_mutex_t mutex;
	_Atomic uint32_t n;
	_Atomic uint32_t n_devices;
	_Atomic uint32_t unwatched;
	bool (*mark)(void *arg, int fd); /* mutex */
	void *mark_arg;			 /* mutex */
	struct filesystem fs[FILESYSTEMS_MAX];
	struct device devices[DEVICES_MAX];
};

struct handle_buf {
	struct file_handle fh;
	unsigned char bytes[MAX_HANDLE_SZ];
};

static dev_t stx_dev(const struct statx *stx)
{
	return makedev(stx->stx_dev_major, stx->stx_dev_minor);
}

static bool reports_at_close(const struct statfs *sfs)
{
	switch ((unsigned long)sfs->f_type) {
	case EXT4_SUPER_MAGIC: /* ext2 and ext3 as well */
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case TMPFS_MAGIC:
	case F2FS_SUPER_MAGIC:
	case OVERLAYFS_SUPER_MAGIC:
	case ZFS_SUPER_MAGIC:
		return false;
	default: /* NFS, CIFS, FUSE, and all file systems that are not known here */
		return true;
	}
}

/* True if changes made by other machines raise no event on this one. */
static bool is_remote(const struct statfs *sfs)
{
	switch ((unsigned long)sfs->f_type) {
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case FUSE_SUPER_MAGIC:
	case V9FS_MAGIC:
	case CEPH_SUPER_MAGIC:
	case AFS_SUPER_MAGIC:
	case CODA_SUPER_MAGIC:
	case OCFS2_SUPER_MAGIC:
	case GFS2_MAGIC:
	case VBOXSF_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

static int find_mount(struct filesystems *t, int mount_id)
{
	uint32_t n = atomic_load_explicit(&t->n, memory_order_acquire);

	for (uint32_t i = 0; i < n; i++)
		if (t->fs[i].mount_id == mount_id)
			return (int)i;
	return -1;
}

/*
 * The mount's fd for open_by_handle_at(2), which takes no O_PATH descriptor.
 * The first object met on a mount is the mount's root. The root is no directory only
 * where a file is mounted over another; that file is then looked up by name.
 */
static int mount_fd(struct filesystems *t, int fd, mode_t mode)
{
	char name[16];

	(void)snprintf(name, sizeof(name), "%d", fd);
	if (S_ISDIR(mode)) {
		int r = openat(t->proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (r >= 0)
			return r;
	}
	return openat(t->proc, name, O_PATH | O_CLOEXEC);
}

/* The file system that fd is on; a new one is added. hb: the handle of fd's object, NULL if there
 * is none. */
static int register_fs(struct filesystems *t, int fd, struct handle_buf *hb, uint32_t *ret)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_MNT_ID, &stx) < 0)
		return -errno;
	SCOPE_LOCK(&t->mutex);
	int known = find_mount(t, (int)stx.stx_mnt_id);
	if (known >= 0) {
		*ret = (uint32_t)known;
		return 0;
	}
	uint32_t n = atomic_load_explicit(&t->n, memory_order_relaxed);
	if (n == FILESYSTEMS_MAX)
		return -ENFILE;
	struct filesystem *fs = &t->fs[n];
	*fs = (struct filesystem){.mount_id = (int)stx.stx_mnt_id, .fd = -1};
	fs->fd = mount_fd(t, fd, stx.stx_mode);
	if (fs->fd < 0)
		return -errno;
	if (hb != NULL) {
		CLEANUP_CLOSE int probe =
			open_by_handle_at(fs->fd, &hb->fh, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		fs->by_handle = probe >= 0;
	}
	struct statfs sfs;
	fs->flush = true;
	if (fstatfs(fs->fd, &sfs) == 0) {
		fs->flush = reports_at_close(&sfs);
		fs->fsid = sfs.f_fsid;
		fs->watchable = hb != NULL && !is_remote(&sfs);
	}
	fs->watched = fs->watchable && t->mark != NULL && t->mark(t->mark_arg, fs->fd);
	atomic_fetch_add(&t->unwatched, !fs->watched);
	atomic_store_explicit(&t->n, n + 1, memory_order_release);
	*ret = n;
	return 0;
}

static void put_u64(struct identity *id, uint64_t v)
{
	memcpy(id->bytes + id->len, &v, sizeof(v));
	id->len += (uint32_t)sizeof(v);
}

static int identify_by_inode(struct filesystems *t, int fd, struct identity *ret)
{
	struct statx stx;
	uint32_t fs;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME | STATX_MNT_ID, &stx) < 0)
		return -errno;
	int known = find_mount(t, (int)stx.stx_mnt_id);
	if (known >= 0) {
		fs = (uint32_t)known;
	} else {
		int r = register_fs(t, fd, NULL, &fs);
		if (r < 0)
			return r;
	}
	*ret = (struct identity){.fs = fs, .type = IDENTITY_INODE};
	put_u64(ret, stx_dev(&stx));
	put_u64(ret, stx.stx_ino);
	if (stx.stx_mask & STATX_BTIME) {
		put_u64(ret, (uint64_t)stx.stx_btime.tv_sec);
		put_u64(ret, stx.stx_btime.tv_nsec);
	}
	return 0;
}

static void from_handle(uint32_t fs, const struct handle_buf *hb, struct identity *ret)
{
	ret->fs = fs;
	ret->type = hb->fh.handle_type;
	ret->len = hb->fh.handle_bytes;
	memcpy(ret->bytes, hb->fh.f_handle, ret->len);
}

/*
 * An overlayfs without nfs_export has handles that tell objects apart, and are
 * in fanotify's events, but cannot be opened (Linux 6.6). The handle remains that
 * of the lower object when the object has been copied up (ovl_check_encode_origin).
 * Other file systems with handles of this kind make them from inode numbers alone.
 */
static int make_handle(int dirfd, const char *name, int flags, struct handle_buf *hb,
		       int *ret_mount_id)
{
	hb->fh.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(dirfd, name, &hb->fh, ret_mount_id, flags) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	hb->fh.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(dirfd, name, &hb->fh, ret_mount_id, flags | AT_HANDLE_FID) == 0 &&
	    hb->fh.handle_type == HANDLE_OVERLAY)
		return 0;
	return -EOPNOTSUPP;
}

int filesystems_identify(struct filesystems *t, int fd, struct identity *ret)
{
	struct handle_buf hb;
	int mount_id;
	uint32_t fs;

	int e = make_handle(fd, "", AT_EMPTY_PATH, &hb, &mount_id);
	if (e == -EOPNOTSUPP || e == -EOVERFLOW)
		return identify_by_inode(t, fd, ret);
	if (e < 0)
		return e;
	int known = find_mount(t, mount_id);
	if (known >= 0) {
		fs = (uint32_t)known;
	} else {
		int r = register_fs(t, fd, &hb, &fs);
		if (r < 0)
			return r;
	}
	from_handle(fs, &hb, ret);
	return 0;
}

int filesystems_identify_at(struct filesystems *t, int dirfd, const char *name,
			    struct identity *ret)
{
	struct handle_buf hb;
	int mount_id;

	int e = make_handle(dirfd, name, 0, &hb, &mount_id);
	if (e < 0)
		return e;
	int known = find_mount(t, mount_id);
	if (known < 0)
		return -EAGAIN;
	from_handle((uint32_t)known, &hb, ret);
	return 0;
}

static uint64_t hash_bytes(uint64_t h, const unsigned char *p, uint32_t len)
{
	for (uint32_t at = 0; at < len; at += 8) {
		uint64_t v = 0;

		memcpy(&v, p + at, len - at < 8 ? len - at : 8);
		h = idmap_mix(h ^ v) + len;
	}
	return h;
}

uint64_t identity_hash(const struct identity *id, uint64_t seed)
{
	uint64_t h = idmap_mix(seed ^ ((uint64_t)id->fs << 32 | (uint32_t)id->type));

	return hash_bytes(h, id->bytes, id->len);
}

uint64_t identity_handle_hash(int32_t type, const void *bytes, uint32_t len)
{
	return hash_bytes((uint32_t)type, bytes, len);
}

int filesystems_open(struct filesystems *t, const struct identity *id, int *ret_fd)
{
	struct handle_buf hb;

	if (id->type == IDENTITY_INODE || !t->fs[id->fs].by_handle)
		return -EOPNOTSUPP;
	hb.fh.handle_bytes = id->len;
	hb.fh.handle_type = id->type;
	memcpy(hb.fh.f_handle, id->bytes, id->len);
	/* exportfs returns ENOMEM also for an inode that is just being removed. */
	int fd = -1;
	for (int i = 0; fd < 0 && i < 2; i++) {
		fd = open_by_handle_at(t->fs[id->fs].fd, &hb.fh, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 && errno != ENOMEM)
			return -errno;
	}
	if (fd < 0)
		return -ESTALE;
	*ret_fd = fd;
	return 0;
}

uint64_t filesystems_fsid(const struct filesystems *t, uint32_t fs)
{
	uint64_t id = 0;

	_Static_assert(sizeof(t->fs[fs].fsid) == sizeof(id), "two ints");
	memcpy(&id, &t->fs[fs].fsid, sizeof(id));
	return id;
}

bool filesystems_by_handle(struct filesystems *t, uint32_t fs)
{
	return t->fs[fs].by_handle;
}

void filesystems_watch(struct filesystems *t, bool (*mark)(void *arg, int fd), void *arg)
{
	SCOPE_LOCK(&t->mutex);
	t->mark = mark;
	t->mark_arg = arg;
	uint32_t unwatched = 0;
	for (uint32_t i = 0; i < t->n; i++) {
		t->fs[i].watched = mark != NULL && t->fs[i].watchable && mark(arg, t->fs[i].fd);
		unwatched += !t->fs[i].watched;
	}
	atomic_store(&t->unwatched, unwatched);
}

bool filesystems_watchable(const struct filesystems *t, uint32_t fs)
{
	return t->fs[fs].watchable;
}

bool filesystems_watched(const struct filesystems *t, uint32_t fs)
{
	return t->fs[fs].watched;
}

bool filesystems_all_watched(const struct filesystems *t)
{
	return atomic_load(&t->unwatched) == 0;
}

bool filesystems_next(const struct filesystems *t, const void *fsid, uint32_t *at, uint32_t *ret)
{
	uint32_t n = atomic_load_explicit(&t->n, memory_order_acquire);

	while (*at < n) {
		uint32_t i = (*at)++;

		if (memcmp(&t->fs[i].fsid, fsid, sizeof(t->fs[i].fsid)) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

bool filesystems_flush(struct filesystems *t, uint32_t fs)
{
	return t->fs[fs].flush;
}

/*
 * A device's range follows from the device number, so that a server that is
 * started again gives the same inode numbers, in whatever order devices are met.
 */
static uint16_t add_device(struct filesystems *t, dev_t dev)
{
	uint16_t range = (uint16_t)(idmap_mix(dev) % 0xffff + 1);

	SCOPE_LOCK(&t->mutex);
	uint32_t n = atomic_load_explicit(&t->n_devices, memory_order_relaxed);
	for (uint32_t i = 0; i < n; i++) {
		if (t->devices[i].dev == dev)
			return t->devices[i].range;
		if (t->devices[i].range == range) {
			range = (uint16_t)(range % 0xffff + 1);
			i = (uint32_t)-1; /* look at all of them again */
		}
	}
	if (n < DEVICES_MAX) {
		t->devices[n] = (struct device){dev, range};
		atomic_store_explicit(&t->n_devices, n + 1, memory_order_release);
	}
	return range;
}

uint64_t filesystems_ino(struct filesystems *t, dev_t dev, uint64_t ino)
{
	if (dev == t->root_dev)
		return ino;
	uint32_t n = atomic_load_explicit(&t->n_devices, memory_order_acquire);
	uint64_t range = 0;
	for (uint32_t i = 0; i < n && range == 0; i++)
		if (t->devices[i].dev == dev)
			range = t->devices[i].range;
	if (range == 0)
		range = add_device(t, dev);
	return range << INO_RANGE_SHIFT ^ ino;
}

int filesystems_new(int root, int proc, struct filesystems **ret)
{
	struct filesystems *t = calloc(1, sizeof(*t));
	struct identity id;
	struct statx stx;

	if (t == NULL)
		return -ENOMEM;
	t->proc = proc;
	(void)pthread_mutex_init(&t->mutex, NULL);
	int r = statx(root, "", AT_EMPTY_PATH, STATX_TYPE, &stx) < 0 ? -errno : 0;
	if (r == 0) {
		t->root_dev = stx_dev(&stx);
		r = filesystems_identify(t, root, &id);
	}
	if (r < 0) {
		filesystems_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void filesystems_free(struct filesystems *t)
{
	if (t == NULL)
		return;
	for (uint32_t i = 0; i < t->n; i++)
		(void)close(t->fs[i].fd);
	(void)pthread_mutex_destroy(&t->mutex);
	free(t);
}
