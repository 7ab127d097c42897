#include "host/creds.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/idmap.h"

#define CAP_WORDS _LINUX_CAPABILITY_U32S_3
#define CAP(n)	  (UINT64_C(1) << (n))

static int caps_get(uint64_t *ret_effective, uint64_t *ret_permitted, uint64_t *ret_inheritable)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[CAP_WORDS];

	if (syscall(SYS_capget, &h, d) < 0)
		return -errno;
	*ret_effective = (uint64_t)d[1].effective << 32 | d[0].effective;
	*ret_permitted = (uint64_t)d[1].permitted << 32 | d[0].permitted;
	*ret_inheritable = (uint64_t)d[1].inheritable << 32 | d[0].inheritable;
	return 0;
}

/*
 * Gives back CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, but no other capability
 * that setfsuid took from the effective set (CAP_FS_MASK): the guest's kernel
 * has checked the permissions.
 */
static int caps_keep_dac(const struct creds *c, const struct creds_caller *caller)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[CAP_WORDS];
	const uint64_t drop = CAP(CAP_CHOWN) | CAP(CAP_FSETID) | CAP(CAP_LINUX_IMMUTABLE) |
			      CAP(CAP_MAC_OVERRIDE) | (caller->owner ? 0 : CAP(CAP_FOWNER)) |
			      (caller->special ? 0 : CAP(CAP_MKNOD));
	uint64_t effective = c->effective & ~drop;

	for (int i = 0; i < CAP_WORDS; i++) {
		d[i].effective = (uint32_t)(effective >> (32 * i));
		d[i].permitted = (uint32_t)(c->permitted >> (32 * i));
		d[i].inheritable = (uint32_t)(c->inheritable >> (32 * i));
	}
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

bool creds_privileged(void)
{
	const uint64_t need = CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_FOWNER) |
			      CAP(CAP_SETUID) | CAP(CAP_SETGID);
	uint64_t effective = 0, permitted, inheritable;

	return geteuid() == 0 && caps_get(&effective, &permitted, &inheritable) == 0 &&
	       (effective & need) == need;
}

static uint64_t hash_groups(const gid_t *g, size_t n)
{
	uint64_t h = n;

	for (size_t i = 0; i < n; i++)
		h = idmap_mix(h ^ idmap_mix(g[i] + UINT64_C(1)));
	return h;
}

/* A raw system call: glibc's setgroups(3) would change the groups of every thread. */
static int thread_setgroups(struct creds *c, const struct creds_caller *caller)
{
	uint64_t h = hash_groups(caller->groups, caller->n_groups);

	if (c->n_groups == caller->n_groups && c->groups_hash == h)
		return 0;
	if (syscall(SYS_setgroups, caller->n_groups, caller->groups) < 0)
		return -errno;
	c->n_groups = caller->n_groups;
	c->groups_hash = h;
	return 0;
}

bool creds_can_mask(void)
{
	return unshare(CLONE_FS) == 0; /* a container's seccomp filter may refuse it */
}

/*
 * A thread begins with the struct fs_struct of the one that started it, which
 * may be in the middle of creating a file: so the new thread sets a umask of its
 * own, also if that is 0.
 */
static int thread_umask(struct creds *c, mode_t mask)
{
	if (!c->own_umask && unshare(CLONE_FS) < 0)
		return mask != 0 ? -errno : 0;
	if (!c->own_umask || c->umask != mask)
		(void)umask(mask);
	c->own_umask = true;
	c->umask = mask;
	return 0;
}

int creds_assume(struct creds *c, bool privileged, const struct creds_caller *caller)
{
	int r = thread_umask(c, caller->umask);

	if (r < 0 || !privileged)
		return r;
	if (!c->known) {
		r = caps_get(&c->effective, &c->permitted, &c->inheritable);
		if (r < 0)
			return r;
		c->known = true;
	}
	c->assumed = true;
	if (caller->gid != getegid()) {
		c->gid_set = true;
		(void)setfsgid(caller->gid);
		if ((gid_t)setfsgid((gid_t)-1) != caller->gid)
			r = -EINVAL; /* setfsuid reports no errors; with -1 it only tells the id */
	}
	if (r == 0 && caller->uid != 0) {
		/*
		 * While uid is 0 the capabilities decide and the groups mean
		 * nothing. From here on CAP_FSETID is gone, as it must be: the
		 * kernel then strips set-group-ID where the caller may not have it.
		 */
		r = thread_setgroups(c, caller);
		if (r == 0) {
			c->uid_set = true;
			(void)setfsuid(caller->uid);
			if ((uid_t)setfsuid((uid_t)-1) != caller->uid)
				r = -EINVAL;
		}
		if (r == 0)
			r = caps_keep_dac(c, caller);
	}
	if (r < 0)
		creds_restore(c);
	return r;
}

void creds_restore(struct creds *c)
{
	int saved = errno;

	if (!c->assumed)
		return;
	/* fsuid 0 brings the file system capabilities back (cap_task_fix_setuid) */
	if (c->uid_set && ((void)setfsuid(0), setfsuid((uid_t)-1) != 0))
		abort(); /* otherwise files would be given to the wrong owner */
	if (c->gid_set) {
		gid_t own = getegid();

		(void)setfsgid(own);
		if ((gid_t)setfsgid((gid_t)-1) != own)
			abort();
	}
	c->assumed = c->uid_set = c->gid_set = false;
	errno = saved;
}
