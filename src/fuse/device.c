/* The mount as the kernel's files about it show it: none of them touches the mount itself. */
#include "fuse/fs_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/mountinfo.h"

/*
 * "MAJOR:MINOR" of our mount, from mountinfo: a stat(2) would wait for ourselves. False too if
 * another mount has taken its place.
 */
bool device_number(const struct fs *fs, char *ret, size_t len)
{
	struct mountinfo m CLEANUP(mountinfo_close) = mountinfo_open(MOUNTINFO_SELF);
	bool found = false;

	while (mountinfo_next(&m) > 0) {
		/* of several mounts here the last is ours */
		if (strcmp(m.path, fs->mountpoint) == 0 && strcmp(m.type, "fuse.vsockfs") == 0) {
			(void)snprintf(ret, len, "%s", m.device);
			found = true;
		}
	}
	return found && (fs->device[0] == '\0' || strcmp(ret, fs->device) == 0);
}

static int write_kernel(const char *path, uint64_t v)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%" PRIu64, v);
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, (size_t)n) == n ? 0 : -errno;
}

int device_readahead(struct fs *fs, uint64_t bytes)
{
	char dev[32], path[128];

	if (!device_number(fs, dev, sizeof(dev)))
		return -ENOTCONN;
	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb", dev);
	return write_kernel(path, bytes / 1024);
}

int device_background(struct fs *fs, uint64_t n)
{
	char dev[32], path[128];
	unsigned minor;

	if (!device_number(fs, dev, sizeof(dev)) || sscanf(dev, "%*u:%u", &minor) != 1)
		return -ENOTCONN;
	(void)snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/max_background", minor);
	return write_kernel(path, n);
}
