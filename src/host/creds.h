/*
 * Creating as the caller: the calling thread's file system identity.
 *
 * Only for the files that the guest creates: its kernel has checked every permission
 * (default_permissions), the server's part is to give new files their owner,
 * and to let the host's kernel apply the rules that depend on it (group of a
 * setgid directory, and a set-group-ID bit that a caller outside the group may
 * not set, CVE-2022-0358). CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH stay.
 *
 * The thread takes the caller's umask as well: the host's kernel applies the umask
 * where the directory has no default ACL, and nowhere else (posix_acl_create).
 *
 * Per thread, with raw system calls: glibc's setgroups would change every
 * thread, and umask(2) all threads that share one struct fs_struct, so each
 * thread that creates files has one of its own. Calling sequence on one thread:
 *
 *	struct creds saved = CREDS_NONE;		once per thread
 *	r = creds_assume(&saved, privileged, &caller);
 *	if (r >= 0) { mkdirat(...) ...; creds_restore(&saved); }
 *
 * The supplementary groups stay those of the last caller until the next one
 * differs: the groups mean nothing to a thread that has all capabilities.
 * An unprivileged server creates as itself: then only the umask is the caller's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct creds_caller {
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* supplementary, n_groups of them */
	size_t n_groups;
	bool special; /* the thread keeps CAP_MKNOD */
	bool owner;   /* the thread keeps CAP_FOWNER: the guest has checked the owner */
	mode_t umask;
};

/* The identity that the thread has at the moment. */
struct creds {
	bool assumed, uid_set, gid_set;
	bool own_umask;	 /* the thread shares its umask with no other thread */
	mode_t umask;	 /* with own_umask */
	size_t n_groups; /* SIZE_MAX: the groups that the thread was started with */
	uint64_t groups_hash;
	bool known;
	uint64_t effective, permitted, inheritable; /* capabilities while not assumed */
};

#define CREDS_NONE ((struct creds){.n_groups = (size_t)-1})

/* True if this process may assume identities at all; asked once, when the server starts. */
bool creds_privileged(void);

/* True if threads can have a umask of their own; asked once, when the server starts. */
bool creds_can_mask(void);

/*
 * Assumes the caller's identity. 0, or -errno with nothing changed: -EINVAL for
 * an id that this user namespace does not have.
 */
int creds_assume(struct creds *c, bool privileged, const struct creds_caller *caller);

/* Takes the server's own identity again; does not touch errno. Aborts if the kernel refuses. */
void creds_restore(struct creds *c);
