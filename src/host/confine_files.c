#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/confine.h"

/* The headers may be older than the kernel: linux/landlock.h as of Linux 6.12. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule	    445
#define SYS_landlock_restrict_self  446
#endif
#define CREATE_RULESET_VERSION 1
#define RULE_PATH_BENEATH      1

enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_CHAR = 1 << 6,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SOCK = 1 << 9,
	FS_MAKE_FIFO = 1 << 10,
	FS_MAKE_BLOCK = 1 << 11,
	FS_MAKE_SYM = 1 << 12,
	FS_REFER = 1 << 13,	/* ABI 2 */
	FS_TRUNCATE = 1 << 14,	/* 3 */
	FS_IOCTL_DEV = 1 << 15, /* 5 */
	FS_READ = FS_READ_FILE | FS_READ_DIR,
	/* Overlayfs's whiteouts are character devices that anybody may make. */
	FS_CHANGE = FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG |
		    FS_MAKE_FIFO | FS_MAKE_SYM | FS_MAKE_CHAR | FS_REFER | FS_TRUNCATE,
	FS_SPECIAL = FS_MAKE_SOCK | FS_MAKE_BLOCK,
};

enum { ABI_REFER = 2, ABI_TRUNCATE = 3, ABI_NET = 4, ABI_IOCTL = 5, ABI_SCOPE = 6 };
enum { NET_BIND_TCP = 1, NET_CONNECT_TCP = 2, SCOPE_ABSTRACT = 1, SCOPE_SIGNAL = 2 };

struct ruleset {
	uint64_t fs, net, scoped;
};

struct __attribute__((packed)) path_rule {
	uint64_t allowed;
	int32_t parent;
};

static int allow(int ruleset, const char *path, uint64_t access)
{
	CLEANUP_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
	struct path_rule rule = {.allowed = access, .parent = fd};

	return fd < 0 || syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0
		       ? -errno
		       : 0;
}

static int new_ruleset(int abi)
{
	struct ruleset r = {
		.fs = FS_EXECUTE | FS_READ | FS_CHANGE | FS_SPECIAL |
		      (abi >= ABI_IOCTL ? FS_IOCTL_DEV : 0),
		.net = NET_BIND_TCP | NET_CONNECT_TCP,
		.scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL,
	};
	const size_t size = abi >= ABI_SCOPE ? 24 : abi >= ABI_NET ? 16 : 8;

	if (abi < ABI_TRUNCATE)
		r.fs &= ~(uint64_t)FS_TRUNCATE;
	int fd = (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
	return fd < 0 ? -errno : fd;
}

int confine_files(const char *dir, bool read_only, bool special, int *ret_abi)
{
	const int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
	uint64_t access = FS_READ;

	if (abi < ABI_REFER)
		return -EOPNOTSUPP;
	if (!read_only)
		access |= FS_CHANGE | (special ? FS_SPECIAL : 0);
	if (abi < ABI_TRUNCATE)
		access &= ~(uint64_t)FS_TRUNCATE;
	CLEANUP_CLOSE int ruleset = new_ruleset(abi);
	if (ruleset < 0)
		return ruleset;
	int r = allow(ruleset, dir, access);
	if (r == 0)
		r = allow(ruleset, "/proc/self", FS_READ);
	if (r < 0)
		return r;
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return -errno;
	*ret_abi = abi;
	return 0;
}
