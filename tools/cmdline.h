/*
 * The kernel command line, where guest inits put what to mount:
 * vsockfs.workspace=MOUNTPOINT and vsockfs.source=SOURCE, or what guests of
 * the plain protocol read there: matchlock.workspace=MOUNTPOINT and
 * matchlock.vfs_port=PORT.
 */
#pragma once

#include <stddef.h>

/*
 * Where to mount and what, each from our own word or else from the other. *ret_source is
 * "vsock:" where there is neither. 0; -ENOENT: no mountpoint; -EINVAL: the port is none,
 * which no other port should be tried for.
 */
int cmdline_mountpoint(const char *path, char *ret, size_t len);
int cmdline_source(const char *path, char *ret, size_t len);
