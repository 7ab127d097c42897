#include "fuse/acl.h"

#include <endian.h>
#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <string.h>

#include "fuse/fs_priv.h"

bool acl_is_name(const char *name)
{
	return strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) == 0 ||
	       strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT) == 0;
}

/* The number of entries, 0 for what is no ACL. */
static size_t entries(const void *value, size_t len)
{
	struct posix_acl_xattr_header h;

	if (len < sizeof(h) || (len - sizeof(h)) % sizeof(struct posix_acl_xattr_entry) != 0)
		return 0;
	memcpy(&h, value, sizeof(h));
	return le32toh(h.a_version) == POSIX_ACL_XATTR_VERSION
		       ? (len - sizeof(h)) / sizeof(struct posix_acl_xattr_entry)
		       : 0;
}

/* Calls map for each id, with whether it is a user's. */
static int each_id(const struct fs *fs, void *value, size_t len,
		   int (*map)(const struct fs *fs, bool user, uint32_t *id))
{
	unsigned char *at = (unsigned char *)value + sizeof(struct posix_acl_xattr_header);

	for (size_t n = fs->options.map_ids ? entries(value, len) : 0; n > 0; n--) {
		struct posix_acl_xattr_entry e;

		memcpy(&e, at, sizeof(e));
		unsigned tag = le16toh(e.e_tag);
		if (tag == ACL_USER || tag == ACL_GROUP) {
			uint32_t id = le32toh(e.e_id);
			int r = map(fs, tag == ACL_USER, &id);

			if (r < 0)
				return r;
			e.e_id = htole32(id);
			memcpy(at, &e, sizeof(e));
		}
		at += sizeof(e);
	}
	return 0;
}

static int show(const struct fs *fs, bool user, uint32_t *id)
{
	*id = user ? uid_shown(fs, *id) : gid_shown(fs, *id);
	return 0;
}

static int give(const struct fs *fs, bool user, uint32_t *id)
{
	if (user ? !uid_settable(fs, *id) : !gid_settable(fs, *id))
		return -EPERM;
	*id = user ? uid_to_server(fs, *id) : gid_to_server(fs, *id);
	return 0;
}

void acl_show(const struct fs *fs, void *value, size_t len)
{
	(void)each_id(fs, value, len, show);
}

int acl_to_server(const struct fs *fs, void *value, size_t len)
{
	return each_id(fs, value, len, give);
}
