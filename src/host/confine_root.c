#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/mountinfo.h"
#include "host/confine.h"

/* ---- will mounts be seen? ---- */

/* Paths are escaped in that table, so that no name looks like one of its words. */
static bool is_shared(const char *line)
{
	const char *at = strstr(line, " shared:"), *end = strstr(line, " - ");

	return at != NULL && (end == NULL || at < end);
}

static bool is_below(const char *path, const char *dir, size_t len)
{
	return strncmp(path, dir, len) == 0 && (path[len] == '/' || len == 0);
}

/* Whether what is mounted somewhere below dir, on its mount or on those there, goes to other
 * namespaces. */
static int all_shared(const char *dir)
{
	struct mountinfo m CLEANUP(mountinfo_close) = mountinfo_open(MOUNTINFO_SELF);
	CLEANUP_FREE char *real = realpath(dir, NULL);
	struct statx stx;
	int r;

	if (real == NULL || statx(AT_FDCWD, real, 0, STATX_MNT_ID, &stx) < 0)
		return -errno;
	size_t len = strcmp(real, "/") == 0 ? 0 : strlen(real);
	while ((r = mountinfo_next(&m)) > 0) {
		bool own = strtoull(m.line, NULL, 10) == stx.stx_mnt_id;

		if ((own || is_below(m.path, real, len)) && !is_shared(m.line))
			return -EXDEV;
	}
	return r;
}

/* ---- file systems that are nowhere yet ---- */

/* options: name and value in turn, up to NULL; a flag has the value "". */
static int new_mount(const char *type, const char *const *options, unsigned attr)
{
	CLEANUP_CLOSE int fs = fsopen(type, FSOPEN_CLOEXEC);

	if (fs < 0)
		return -errno;
	for (; *options != NULL; options += 2)
		if (fsconfig(fs, FSCONFIG_SET_STRING, options[0], options[1], 0) < 0)
			return -errno;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	int fd = fsmount(fs, FSMOUNT_CLOEXEC,
			 attr | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Nothing of /proc is to be written, and of other processes nothing to be seen but what can be
 * traced. */
static int new_proc(void)
{
	static const char *const options[] = {"subset", "pid", "hidepid", "ptraceable", NULL};

	return new_mount("proc", options, MOUNT_ATTR_RDONLY);
}

static int new_tmpfs(void)
{
	static const char *const options[] = {"size", "64k", "nr_inodes", "8", "mode", "755", NULL};

	return new_mount("tmpfs", options, 0);
}

/* Mounts below dir come with it. On all that are there now no device opens and no set-id
 * bit counts. */
static int clone_export(const char *dir, bool read_only)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					      MOUNT_ATTR_NOEXEC |
					      (read_only ? MOUNT_ATTR_RDONLY : 0)};
	CLEANUP_CLOSE int fd =
		open_tree(AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return -errno;
	return take_fd(&fd);
}

/* ---- the root ---- */

static int put(int mount, int root, const char *name)
{
	return mkdirat(root, name, 0755) < 0 ||
			       move_mount(mount, "", root, name, MOVE_MOUNT_F_EMPTY_PATH) < 0
		       ? -errno
		       : 0;
}

/* It is put upon the old root, which lies upon it then, and is taken away. */
static int become_root(int root)
{
	if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0) {
		int r = -errno; /* EINVAL: the old one is the initramfs */

		(void)umount2(".", MNT_DETACH);
		(void)chdir("/");
		return r;
	}
	return umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ? -ENOTRECOVERABLE : 0;
}

static int furnish(int root, int export, int proc)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	int r = put(export, root, CONFINE_EXPORT + 1);

	if (r == 0)
		r = put(proc, root, "proc");
	if (r == 0 && mount_setattr(root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		r = -errno;
	return r < 0 ? -ENOTRECOVERABLE : 0;
}

/* In the new namespace, which sees what the outer one sees until the root is another. */
static int enter(const char *dir, bool read_only)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -errno;
	CLEANUP_CLOSE int export = clone_export(dir, read_only);
	CLEANUP_CLOSE int proc = new_proc();
	CLEANUP_CLOSE int root = new_tmpfs();
	if (export < 0 || proc < 0 || root < 0)
		return export < 0 ? export : proc < 0 ? proc : root;
	int r = become_root(root);
	return r < 0 ? r : furnish(root, export, proc);
}

int confine_root(const char *dir, bool read_only)
{
	int r = all_shared(dir);

	if (r < 0)
		return r;
	return unshare(CLONE_NEWNS) < 0 ? -errno : enter(dir, read_only);
}
