/* Statistics of the kernel's requests, taken where they come in and where their answers go out. */
#include <linux/fuse.h>

#include "fuse/fs_priv.h"

static bool has_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT &&
	       opcode != FUSE_NOTIFY_REPLY;
}

void account_begin(struct fs *fs, const struct fuse_in_header *in)
{
	struct stats_request r = {.unique = in->unique,
				  .node = in->nodeid,
				  .opcode = in->opcode,
				  .pid = in->pid,
				  .uid = in->uid,
				  .answered = has_answer(in->opcode)};

	stats_fuse_begin(fs->stats, &r);
}

/* Before the answer is sent, so that whoever got it finds it counted. */
void account_end(struct fs *fs, const struct iovec *iov, int count)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct stats_reply reply = {
		.unique = out->unique, .err = -out->error, .read = out->len - sizeof(*out)};
	struct stats_answer a;

	if (out->unique == 0)
		return; /* a notification */
	if (count == 2 && iov[1].iov_len >= sizeof(struct fuse_write_out))
		reply.written = ((const struct fuse_write_out *)iov[1].iov_base)->size;
	if (count == 2 && iov[1].iov_len == sizeof(struct fuse_entry_out))
		reply.no_entry = ((const struct fuse_entry_out *)iov[1].iov_base)->nodeid == 0;
	(void)stats_fuse_end(fs->stats, &reply, &a);
}
