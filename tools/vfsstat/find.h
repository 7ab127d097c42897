/*
 * Which mount or server is meant. Paths are compared as text with
 * /proc/self/mountinfo and with what the segments tell, never resolved: the
 * mount may hang.
 */
#pragma once

#include "segment.h"

/* path made absolute by the working directory, without ".", ".." and "//". -errno. */
int path_absolute(const char *path, char *buf, size_t len);

/*
 * Opens the segment of a mountpoint, of an exported directory, or the file of
 * -o stats=; NULL: the only one there is. On failure, one line or a list of
 * what there is goes to stderr.
 */
int find_segment(const char *path, struct segment **ret);
/* Every segment that is found, those of dead daemons last; for each. */
void each_segment(void (*use)(void *arg, struct segment *g), void *arg);

/*
 * The mount that holds path: its mountpoint in buf and in *ret_inside what
 * follows it in path, without a leading slash. -ENOENT.
 */
int find_mount_of(const char *path, char *buf, size_t len, const char **ret_inside);
