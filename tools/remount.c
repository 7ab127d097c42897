#include "remount.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/mountinfo.h"

/*
 * Not suid and dev: nobody asks for them here, and mount.fuse3 adds them to whatever it
 * passes on.
 */
static const struct {
	const char *name;
	unsigned long set, clear;
} words[] = {
	{"ro", MS_RDONLY, 0},	     {"rw", 0, MS_RDONLY},
	{"nosuid", MS_NOSUID, 0},    {"allow_suid", 0, MS_NOSUID},
	{"nodev", MS_NODEV, 0},	     {"allow_dev", 0, MS_NODEV},
	{"noexec", MS_NOEXEC, 0},    {"exec", 0, MS_NOEXEC},
	{"sync", MS_SYNCHRONOUS, 0}, {"async", 0, MS_SYNCHRONOUS},
	{"dirsync", MS_DIRSYNC, 0},  {"noatime", MS_NOATIME, MS_RELATIME},
	{"atime", 0, MS_NOATIME},    {"relatime", MS_RELATIME, MS_NOATIME},
};

static void apply_word(unsigned long *flags, const char *word, size_t len)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strlen(words[i].name) == len && memcmp(words[i].name, word, len) == 0)
			*flags = (*flags & ~words[i].clear) | words[i].set;
}

static void apply(unsigned long *flags, const char *list)
{
	for (;;) {
		size_t len = strcspn(list, ",");

		apply_word(flags, list, len);
		if (list[len] == '\0')
			return;
		list += len + 1;
	}
}

/* False if there is no mount of ours. From the table: the daemon need not answer. */
static bool flags_now(const char *mountpoint, unsigned long *ret)
{
	struct mountinfo m CLEANUP(mountinfo_close) = mountinfo_open(MOUNTINFO_SELF);
	bool ours = false;

	while (mountinfo_next(&m) > 0) {
		if (strcmp(m.path, mountpoint) != 0)
			continue;
		unsigned long of_mount = 0, of_fs = 0;

		ours = strcmp(m.type, "fuse.vsockfs") == 0;
		apply(&of_mount, m.options);
		apply(&of_fs, m.fs_options);
		*ret = of_mount | of_fs; /* either may be read-only by itself (remount,bind,ro) */
	}
	return ours;
}

int remount(const char *mountpoint, const char *list)
{
	char absolute[PATH_MAX];
	unsigned long flags;
	bool found = flags_now(mountpoint, &flags);

	if (!found && realpath(mountpoint, absolute) != NULL) {
		mountpoint = absolute;
		found = flags_now(mountpoint, &flags);
	}
	if (!found) {
		log_err("%s: no mount of vsockfs to be changed", mountpoint);
		return 1;
	}
	apply(&flags, list);
	if (mount(NULL, mountpoint, NULL, MS_REMOUNT | flags, NULL) < 0) {
		log_err("%s: cannot change the mount: %m", mountpoint);
		return 1;
	}
	return 0;
}
