/* The export, for export.c and walk.c. */
#pragma once

#include <pthread.h>

#include "host/export.h"

/* clang-format takes "export" for the keyword of C++. */
/* clang-format off */
struct export {
	int root; /* O_PATH */
	int proc; /* /proc/self/fd, O_PATH */
	dev_t root_dev;
	uint64_t root_ino;
	uint64_t resolve; /* of openat2(2) */
	bool read_only, special, privileged, masks, no_setid, squash, confined;
	uid_t uid; /* with squash */
	gid_t gid;
	const struct owners *owners; /* NULL: ids are the same on both sides */
	enum symlinks symlinks;
	pthread_mutex_t *links_mutex; /* see links.h */
	bool plain_follow;
	char *plain_prefix; /* without '/' at its end */
	struct filesystems *filesystems;
};
/* clang-format on */

struct statx;
bool export_is_root(const struct export *e, const struct statx *stx);
