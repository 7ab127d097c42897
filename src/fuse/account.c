/* Statistics of the kernel's requests, taken where they come in and where their answers go out. */
#include <linux/fuse.h>

#include <string.h>

#include "fuse/fs_priv.h"
#include "fuse/trace.h"

static bool has_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT &&
	       opcode != FUSE_NOTIFY_REPLY;
}

/* Bytes of arguments before the name; -1: the request has no name. */
static int name_at(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_SYMLINK:
		return 0;
	case FUSE_MKNOD:
		return sizeof(struct fuse_mknod_in);
	case FUSE_MKDIR:
		return sizeof(struct fuse_mkdir_in);
	case FUSE_RENAME:
		return sizeof(struct fuse_rename_in);
	case FUSE_RENAME2:
		return sizeof(struct fuse_rename2_in);
	case FUSE_LINK:
		return sizeof(struct fuse_link_in);
	case FUSE_CREATE:
		return sizeof(struct fuse_create_in);
	default:
		return -1;
	}
}

static void note_name(struct trace *t, const struct fuse_in_header *in)
{
	int at = name_at(in->opcode);
	const char *name = (const char *)(in + 1) + at;

	if (at >= 0 && in->len > sizeof(*in) + (size_t)at)
		trace_name(t, in->unique, name, strnlen(name, in->len - sizeof(*in) - (size_t)at));
}

void account_begin(struct fs *fs, const struct fuse_in_header *in)
{
	struct stats_request r = {.unique = in->unique,
				  .node = in->nodeid,
				  .opcode = in->opcode,
				  .pid = in->pid,
				  .uid = in->uid,
				  .answered = has_answer(in->opcode)};

	if (trace_wanted(fs->trace))
		note_name(fs->trace, in);
	stats_fuse_begin(fs->stats, &r);
}

/* Before the answer is sent, so that whoever got it finds it counted. */
void account_end(struct fs *fs, const struct iovec *iov, int count)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct stats_reply reply = {
		.unique = out->unique, .err = -out->error, .read = out->len - sizeof(*out)};
	struct fuse_write_out written; /* it may lie anywhere in a buffer of somebody's */
	struct stats_answer a;

	if (out->unique == 0)
		return; /* a notification */
	if (count == 2 && iov[1].iov_len >= sizeof(written)) {
		memcpy(&written, iov[1].iov_base, sizeof(written));
		reply.written = written.size;
	}
	if (count == 2 && iov[1].iov_len == sizeof(struct fuse_entry_out))
		reply.no_entry = ((const struct fuse_entry_out *)iov[1].iov_base)->nodeid == 0;
	if (stats_fuse_end(fs->stats, &reply, &a) && trace_wanted(fs->trace))
		trace_answer(fs->trace, &a);
}
