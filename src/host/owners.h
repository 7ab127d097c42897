/*
 * Whose files: ranges of the guest's ids that are other ids on the host, in both directions, as
 * user namespaces and idmapped mounts have them.
 *
 * A range that is not empty leaves no other ids: what has one on the host is shown as
 * OWNERS_NOBODY, and cannot be changed (export.h); what has one in the guest can make nothing, and
 * nothing can be given to it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OWNERS_RANGES_MAX 64
#define OWNERS_NOBODY	  65534 /* the kernel's overflowuid and overflowgid */

struct id_ranges {
	struct {
		uint32_t guest, host, count;
	} ranges[OWNERS_RANGES_MAX];
	size_t n; /* 0: every id is the same on both sides */
};

struct owners {
	struct id_ranges uid, gid;
};

/*
 * Adds "GUEST:HOST[:COUNT]", COUNT ids from each on, by default 1. -EINVAL with one line in err; so
 * also for one that overlaps another on either side.
 */
int id_ranges_parse(struct id_ranges *r, const char *text, char *err, size_t err_len);

bool id_has_guest(const struct id_ranges *r, uint32_t host);
/* The id that the guest is shown. */
uint32_t id_to_guest(const struct id_ranges *r, uint32_t host);
/* False: this id of the guest is none on the host; *ret is untouched. */
bool id_to_host(const struct id_ranges *r, uint64_t guest, uint32_t *ret);

/*
 * The ids in a POSIX ACL, as extended attributes have it (linux/posix_acl_xattr.h), to the guest's
 * or the host's, in place. -EINVAL for an id that is none on the host, and for what is no ACL.
 */
void acl_to_guest(const struct owners *o, unsigned char *acl, size_t len);
int acl_to_host(const struct owners *o, unsigned char *acl, size_t len);
