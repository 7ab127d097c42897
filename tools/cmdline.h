/*
 * The kernel command line, where guest inits put what to mount:
 * vsockfs.workspace=MOUNTPOINT and vsockfs.source=SOURCE.
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
