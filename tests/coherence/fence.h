/* The fence of a mount, for tests: see VSOCKFS_IOC_FENCE in src/fuse/fs.h. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* 0, or -1 with errno. */
static inline int fence_mount(const char *mountpoint)
{
	uint64_t seq;
	int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -1 : ioctl(fd, _IOR('V', 1, uint64_t), &seq);
	int saved = errno;

	if (fd >= 0)
		(void)close(fd);
	errno = saved;
	return r;
}
