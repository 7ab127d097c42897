/* Extended attributes. Left out without -o xattr: the kernel then asks once and never again. */
#include <errno.h>
#include <linux/limits.h>
#include <string.h>

#include "fuse/fs_priv.h"

/* size 0 asks for the length, else for the bytes. */
static void finish_xattr(struct krequest *r, const struct cache_reply *reply)
{
	if (reply->err != 0)
		(void)fuse_reply_err(r->req, reply->err);
	else if (r->size == 0)
		(void)fuse_reply_xattr(r->req, reply->msg->size);
	else if (!MSG_HAS(reply->msg, payload))
		(void)fuse_reply_buf(r->req, NULL, 0);
	else
		(void)fuse_reply_buf(r->req, reply->msg->payload.data, reply->msg->payload.len);
	krequest_free(r);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	if (strncmp(name, "user.", 5) != 0) { /* as any server of ours would say */
		(void)fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	struct krequest *r = krequest_new(req, MSG_GETXATTR, finish_xattr);

	if (r == NULL || !krequest_name2(r, name))
		return;
	r->size = size < XATTR_SIZE_MAX ? size : XATTR_SIZE_MAX;
	REQUEST_SET(r, size, r->size);
	krequest_submit(r, ino, 0);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct krequest *r = krequest_new(req, MSG_LISTXATTR, finish_xattr);

	if (r == NULL)
		return;
	r->size = size < XATTR_SIZE_MAX ? size : XATTR_SIZE_MAX;
	REQUEST_SET(r, size, r->size);
	krequest_submit(r, ino, 0);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	struct krequest *r = krequest_new(req, MSG_SETXATTR, finish_err);

	if (r == NULL || !krequest_name2(r, name))
		return;
	if (flags != 0)
		REQUEST_SET(r, flags, (uint64_t)(unsigned)flags);
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
