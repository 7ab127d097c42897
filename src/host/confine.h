/*
 * The single means by which a process takes rights from itself: see sandbox.h for what they are
 * combined to. Each is for a process that has one thread yet, and is inherited by those that it
 * starts. 0 or -errno; on failure nothing of that means is in force.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- capabilities: bit N is capability N ---- */

uint64_t confine_caps_held(void); /* that are permitted at the moment */
/* Keeps no others, in any set, and for no program that would be executed. */
int confine_caps(uint64_t keep);
int confine_no_new_privs(void);

/* ---- a root of its own ---- */

#define CONFINE_EXPORT "/export" /* where the exported directory is in it */

/*
 * A mount namespace whose root holds nothing but the exported directory (an absolute path), with
 * what is mounted below, and /proc with the processes that this one may trace, read-only. Mounts of
 * the outer namespace are propagated into it. -EXDEV: they would not be, for those there are not
 * shared (mount_namespaces(7)). -ENOTRECOVERABLE: it failed halfway, the process must end.
 */
int confine_root(const char *dir, bool read_only);

/* ---- Landlock ---- */

/*
 * Files outside of dir cannot be opened, made, removed or renamed any more by names or through
 * descriptors of directories; reading what /proc tells of this process stays. special: sockets and
 * block devices may be made. *ret_abi: the kernel's. -EOPNOTSUPP: none, or one that cannot
 * let files be moved between directories.
 */
int confine_files(const char *dir, bool read_only, bool special, int *ret_abi);

/* ---- system calls ---- */

enum confine_role { CONFINE_SERVER, CONFINE_BROKER };

/*
 * No others than those on the role's list: the process ends by SIGSYS, after one line that tells
 * the number. -EOPNOTSUPP: built without libseccomp, or with a sanitizer.
 */
int confine_calls(enum confine_role role);

/* All that fits the broker (broker.h). What cannot be had is not to be had for the server either,
 * which says so. */
void confine_broker(void);
