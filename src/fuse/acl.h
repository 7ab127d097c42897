/*
 * POSIX ACLs as the kernel sends and takes them: the value of the attributes
 * system.posix_acl_access and system.posix_acl_default (acl(5),
 * <linux/posix_acl_xattr.h>). Ids in them are mapped as owners are (ids.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/msg.h"

struct fs;

bool acl_is_name(const char *name);

/*
 * Changes the ids of a value in place, to what the guest is shown or to the
 * server's. -EPERM if it names one that cannot be given. What is no ACL stays
 * as it is, for the host to refuse.
 */
void acl_show(const struct fs *fs, void *value, size_t len);
int acl_to_server(const struct fs *fs, void *value, size_t len);
