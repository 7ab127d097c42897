/* Extended attributes. Left out without -o xattr: the kernel then asks once and never again. */
#include <errno.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuse/acl.h"
#include "fuse/fs_priv.h"

/* size 0 asks for the length, else for the bytes. */
static void reply_xattr(struct krequest *r, const struct msg *m, struct slice value)
{
	if (r->size == 0)
		(void)fuse_reply_xattr(r->req, m->size);
	else
		(void)fuse_reply_buf(r->req, value.data, value.len);
}

static void finish_getxattr(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0)
		(void)fuse_reply_err(r->req, reply->err);
	else
		reply_xattr(r, reply->msg, reply->msg->payload);
	krequest_free(r);
}

static void finish_get_acl(struct krequest *r, const struct cache_reply *reply)
{
	struct slice value = reply->err == 0 ? reply->msg->payload : (struct slice){0};
	void *copy = value.len > 0 ? malloc(value.len) : NULL;

	if (reply->err == EOPNOTSUPP) /* or the kernel would let nobody in */
		(void)fuse_reply_err(r->req, ENODATA);
	else if (reply->err != 0 || (value.len > 0 && copy == NULL))
		(void)fuse_reply_err(r->req, reply->err != 0 ? reply->err : ENOMEM);
	else {
		if (copy != NULL)
			acl_show(r->fs, memcpy(copy, value.data, value.len), value.len);
		reply_xattr(r, reply->msg, (struct slice){copy, value.len});
	}
	free(copy);
	krequest_free(r);
}

/* Whether the server is asked for this attribute; any other is EOPNOTSUPP, as any server of ours
 * would say. */
static bool is_passed(const struct fs *fs, const char *name)
{
	return strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.overlay.", 16) == 0 ||
	       (fs->options.acl && acl_is_name(name));
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	if (!is_passed(req_fs(req), name)) {
		(void)fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	struct krequest *r = krequest_new(req, MSG_GETXATTR,
					  acl_is_name(name) ? finish_get_acl : finish_getxattr);

	if (r == NULL || !krequest_name2(r, name))
		return;
	r->size = size < XATTR_SIZE_MAX ? size : XATTR_SIZE_MAX;
	REQUEST_SET(r, size, r->size);
	krequest_submit(r, ino, 0);
}

/* trusted.* is for CAP_SYS_ADMIN alone, and shown to nobody else (simple_xattr_list). */
static size_t without_trusted(const char *names, size_t len, char *to)
{
	size_t used = 0;

	for (size_t at = 0, n; at < len; at += n) {
		n = strnlen(names + at, len - at - 1) + 1;
		if (strncmp(names + at, "trusted.", 8) == 0)
			continue;
		memcpy(to + used, names + at, n);
		used += n;
	}
	return used;
}

static void finish_listxattr(struct krequest *r, const struct cache_reply *reply)
{
	struct slice names = reply->err == 0 ? reply->msg->payload : (struct slice){0};
	char *copy = names.len > 0 ? malloc(names.len) : NULL;

	if (reply->err != 0 || (names.len > 0 && copy == NULL)) {
		(void)fuse_reply_err(r->req, reply->err != 0 ? reply->err : ENOMEM);
	} else {
		if (copy != NULL && fuse_req_ctx(r->req)->uid != 0)
			names = (struct slice){copy, without_trusted(names.data, names.len, copy)};
		reply_xattr(r, reply->msg, names);
	}
	free(copy);
	krequest_free(r);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct krequest *r = krequest_new(req, MSG_LISTXATTR, finish_listxattr);

	if (r == NULL)
		return;
	r->size = size < XATTR_SIZE_MAX ? size : XATTR_SIZE_MAX;
	REQUEST_SET(r, size, r->size);
	krequest_submit(r, ino, 0);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	int e = acl_is_name(name) ? acl_to_server(req_fs(req), (void *)(uintptr_t)value, size) : 0;

	if (e == 0 && !is_passed(req_fs(req), name))
		e = -EOPNOTSUPP;
	if (e < 0) {
		(void)fuse_reply_err(req, -e);
		return;
	}
	struct krequest *r = krequest_new(req, MSG_SETXATTR, finish_err);

	if (r == NULL || !krequest_name2(r, name))
		return;
	if (flags != 0)
		REQUEST_SET(r, flags, (uint64_t)(unsigned)flags);
	if (acl_is_name(name)) /* takes set-group-ID off where the caller is not of the group */
		krequest_caller(r, S_ISGID);
	krequest_payload(r, value, size);
	krequest_submit(r, ino, 0);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct krequest *r = krequest_new(req, MSG_REMOVEXATTR, finish_err);

	if (r != NULL && krequest_name2(r, name))
		krequest_submit(r, ino, 0);
}

void ops_xattr(struct fuse_lowlevel_ops *ops)
{
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->setxattr = op_setxattr;
	ops->removexattr = op_removexattr;
}
