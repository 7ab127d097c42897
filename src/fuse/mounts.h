/*
 * The mounts inside our mount. The kernel detaches such mounts when the
 * entry they lie at or below is invalidated (d_invalidate); an entry that only
 * expires keeps them.
 *
 * Thread-safe. Mounts of other mount namespaces are not seen.
 */
#pragma once

#include "cache/cache.h"

struct mounts;

enum mounted {
	MOUNTED_NONE,
	MOUNTED_BELOW, /* at the name or below it, or it cannot be told */
};

/* mountpoint: absolute, resolved. 0 or -errno. */
int mounts_new(const char *mountpoint, struct mounts **ret);
void mounts_free(struct mounts *m);

/* Whether something is mounted at name in the directory `parent`, or below that. */
enum mounted mounts_below(struct mounts *m, struct cache *cache, uint64_t parent, const char *name,
			  size_t len);
