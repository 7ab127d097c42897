/*
 * The kernel command line, where guest inits put what to mount:
 * vsockfs.workspace=MOUNTPOINT and vsockfs.source=SOURCE, or what guests of
 * the plain protocol read there: matchlock.workspace=MOUNTPOINT and
 * matchlock.vfs_port=PORT.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * The value of the last `key=value` word in the file at path; a value may be
 * quoted as a whole, "key=\"a b\"" or "\"key=a b\"". False if there is none
 * or it does not fit.
 */
bool cmdline_get(const char *path, const char *key, char *ret, size_t len);

/*
 * Where to mount and what, each from our own word or else from the other. *ret_source is
 * "vsock:" where there is neither. 0; -ENOENT: no mountpoint; -EINVAL: the port is none,
 * which no other port should be tried for.
 */
int cmdline_mountpoint(const char *path, char *ret, size_t len);
int cmdline_source(const char *path, char *ret, size_t len);
