/*
 * Creating as the caller: the calling thread's file system identity.
 *
 * Only for what the guest creates: its kernel has checked every permission
 * (default_permissions), the server's part is to give new files their owner,
 * and to let the host's kernel apply the rules that depend on it (group of a
 * setgid directory, and a set-group-ID bit that a caller outside the group may
 * not set, CVE-2022-0358). CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH stay.
 *
 * The caller's umask goes with it: the host's kernel applies it where the
 * directory has no default ACL, and nowhere else (posix_acl_create).
 *
 * Per thread, with raw system calls: glibc's setgroups would change every
 * thread, and umask(2) all that share the thread's struct fs_struct, which
 * each thread that creates has of its own. Calling sequence on one thread:
 *
 *	struct creds saved = CREDS_NONE;		once per thread
 *	r = creds_assume(&saved, privileged, &caller);
 *	if (r >= 0) { mkdirat(...) ...; creds_restore(&saved); }
 *
 * The supplementary groups stay those of the last caller until the next one
 * differs: they mean nothing to a thread that has all capabilities.
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
	bool special; /* CAP_MKNOD is needed as well */
	bool owner;   /* CAP_FOWNER: the guest has checked that the caller is */
	mode_t umask;
};

/* What the thread has at the moment. */
struct creds {
	bool assumed, uid_set, gid_set;
	bool own_umask;	 /* it shares its umask with no other thread */
	mode_t umask;	 /* with own_umask */
	size_t n_groups; /* SIZE_MAX: those that the thread was started with */
	uint64_t groups_hash;
	bool known;
	uint64_t effective, permitted, inheritable; /* capabilities while not assumed */
};

#define CREDS_NONE ((struct creds){.n_groups = (size_t)-1})

/* True if this process can do it at all; asked once, when the server starts. */
bool creds_privileged(void);

/* True if threads can have a umask of their own; asked once, when the server starts. */
bool creds_can_mask(void);

/*
 * 0, or -errno with nothing changed: -EINVAL for an id that this user
 * namespace does not have.
 */
int creds_assume(struct creds *c, bool privileged, const struct creds_caller *caller);

/* Back to the server's own identity; does not touch errno. Aborts if that is refused. */
void creds_restore(struct creds *c);
