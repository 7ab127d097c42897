/*
 * The exported directory: its root, what confines names to it, and the system
 * calls on one object that need care.
 *
 * Calling sequence: export_new once, any use, export_free when every session
 * has gone. Everything but new and free may be called from any thread; there
 * is no state but file descriptors. export_new sets the process's umask to 0:
 * mode bits that arrive have been masked by the guest's kernel already, or
 * the caller's umask comes with them (creds.h).
 *
 * Confinement: a name is one component, resolved from a directory's fd by
 * openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
 * RESOLVE_NO_SYMLINKS, never by joining paths (gondolin#44, mvm#1470).
 *
 * "object" below is an O_PATH | O_NOFOLLOW descriptor of anything, also of a
 * symbolic link, a FIFO or an unlinked file; nothing here follows a link that
 * an object is.
 *
 * With read_only no function here changes anything, whoever asks: a call that
 * would change something returns -EROFS, and files are opened so that reading
 * does not change the access time, where that is possible.
 *
 * Functions return 0 or -errno; fds returned are the caller's to close.
 */
#pragma once

#include "core/msg.h"
#include "host/server.h"

#include <sys/stat.h>
#include <sys/types.h>

struct export;
struct filesystems;

int export_new(const struct server_config *config, struct export **ret, char *err, size_t err_len);
void export_free(struct export *e);

bool export_read_only(const struct export *e);
bool export_special(const struct export *e);
/* True if Landlock confines the process to the export. */
bool export_confined(const struct export *e);
/* True if the server may assume a caller's identity and override permissions. */
bool export_privileged(const struct export *e);
/* True if it creates as the caller: a read-only export creates nothing, and needs no privilege. */
bool export_assumes(const struct export *e);
/* True if no file may have set-id bits: they are left out of each mode that a client asks for. */
bool export_no_setid(const struct export *e);
/* True if all files are shown as one owner's, whose ids are then in *ret_uid and *ret_gid. */
bool export_squashed(const struct export *e, uid_t *ret_uid, gid_t *ret_gid);
/*
 * Ids of the host as the guest is shown them. To the host: -EPERM for what is no id there, and all
 * that a client says about ids passes by here.
 */
uid_t export_shown_uid(const struct export *e, uid_t uid);
gid_t export_shown_gid(const struct export *e, gid_t gid);
int export_host_uid(const struct export *e, uint64_t uid, uid_t *ret);
int export_host_gid(const struct export *e, uint64_t gid, gid_t *ret);
/* For ACLs; NULL if ids are the same on both sides. */
const struct owners *export_owners(const struct export *e);
/*
 * -EPERM for an object whose owner or group the guest does not have (HAS_UNMAPPED_ID of the
 * kernel): neither it nor, for a directory, its names are to be changed. The functions here that
 * change ask by themselves.
 */
int export_changeable(const struct export *e, int fd);
/* True if the server can apply the umask of a request's caller. */
bool export_masks(const struct export *e);
/* The root as an object; the export's own, not to be closed. */
int export_root(const struct export *e);
struct filesystems *export_filesystems(const struct export *e);

/* 0 if name is one component: -EINVAL for "", ".", "..", '/' or NUL inside, -ENAMETOOLONG. */
int export_name_check(struct slice name);

/*
 * Opens one component of a directory. flags as open(2), O_CLOEXEC and
 * O_NOFOLLOW are added; mode counts with O_CREAT. A mount point that
 * xdev=hide hides is -ENOENT. name must have passed export_name_check.
 */
int export_open(const struct export *e, int dirfd, const char *name, int flags, mode_t mode,
		int *ret_fd);

/*
 * Opens an object itself for I/O, whatever became of its names. Only regular
 * files and directories may be given: opening a FIFO or a device would block
 * or act (CVE-2020-35517), see export_openable.
 */
int export_reopen(const struct export *e, int object, int flags, int *ret_fd);

/* True if the object could be opened for writing at this moment. */
bool export_may_write(const struct export *e, int object);

/*
 * 0 for a regular file, -EISDIR for a directory, -ELOOP for a symbolic link,
 * -ENXIO for anything else.
 */
int export_openable(mode_t mode);

/* Attributes of an object or open file, inode number mapped; version is left 0. */
int export_attr(const struct export *e, int fd, struct attr *ret);

/* True if the mode alone, and no ACL, decides who may access the file that is open as fd. */
bool export_no_acl(int fd, mode_t mode);

/* chmod, truncate, link for an object. */
int export_chmod(const struct export *e, int object, mode_t mode);
int export_truncate(const struct export *e, int object, off_t size);
int export_link(const struct export *e, int object, int dirfd, const char *name);

#define EXPORT_PROC_PATH_MAX 32
/* "/proc/self/fd/N", for calls that take only paths (xattr). */
const char *export_proc_path(int fd, char buf[EXPORT_PROC_PATH_MAX]);

/*
 * 1 if the directory is the root or below it at this moment, 0 if not, or -errno.
 * depth, if not NULL: how many directories below the root this one was when it was checked last,
 * 0 if that is not known. While the depth is unchanged, the check takes the same number of system
 * calls at any depth.
 */
int export_contains(const struct export *e, int dirfd, unsigned *depth);
/*
 * The same for any object or open file. One that is no directory is inside if the name by which it
 * was opened is inside now, or was inside when it was removed. 0 also if that cannot be found out.
 */
int export_inside(const struct export *e, int fd);
/* Logs that `what` was done to an object outside the export; the number of lines is bounded. */
void export_log_outside(const char *what);

/*
 * For plain clients, which send whole paths as they would see them: absolute,
 * and below plain_prefix.
 *
 * Resolves path as the client's own kernel would, one component at a time and
 * inside the export only: relative symbolic links from their directory,
 * absolute ones only when they point below plain_prefix, at most 40 links
 * (-ELOOP). Whatever leads outside, ".." of the root too, is -EACCES. `links`
 * says which of them are followed.
 *
 * A missing last component is no error: ret->object is -1. A missing or
 * non-directory one before it is -ENOENT or -ENOTDIR. On success the caller
 * ends with export_place_done.
 */
struct export_place {
	int dirfd;		     /* directory that holds name */
	char name[MSG_NAME_MAX + 1]; /* last component after links; "." for the root */
	int object;		     /* the object that has the name, or -1 */
	mode_t mode;		     /* type and permissions of object, 0 if there is none */
};

enum walk_links {
	WALK_FOLLOW,	  /* all of them */
	WALK_FOLLOW_DIRS, /* all but the last component */
	WALK_NO_LINKS,	  /* none: one that is not the last component is -ELOOP */
};
int export_walk(const struct export *e, const char *path, enum walk_links links,
		struct export_place *ret);
/* True if path is absolute and below plain_prefix, as text. */
bool export_below_prefix(const struct export *e, struct slice path);
/* Plain clients are shown links as their targets until they say that they know links. */
bool export_plain_follow(const struct export *e);
void export_place_done(struct export_place *p);
