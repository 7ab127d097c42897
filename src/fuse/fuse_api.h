/* libfuse, seen by this folder alone. */
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

/* Up to libfuse 3.15 there is a flag for it, without which the name is invalidated; then it is what
 * the function does. */
static inline int fuse_api_expire_entry(struct fuse_session *se, fuse_ino_t parent,
					const char *name, size_t len)
{
#if FUSE_VERSION < FUSE_MAKE_VERSION(3, 16)
	return fuse_lowlevel_notify_expire_entry(se, parent, name, len, FUSE_LL_EXPIRE_ONLY);
#else
	return fuse_lowlevel_notify_expire_entry(se, parent, name, len);
#endif
}
