#include "core/msg.h"

#include <errno.h>
#include <string.h>

#define F(field) MSG_BIT(field)

struct op_info {
	const char *name;
	uint64_t request, reply;
};

static const struct op_info *op_info(uint64_t op)
{
	static const struct op_info table[] = {
#define MESSAGE(code, NAME, request, reply, text) [code] = {#NAME, request, reply},
#include "core/messages.def"
#undef MESSAGE
	};

	if (op >= sizeof(table) / sizeof(table[0]) || table[op].name == NULL)
		return NULL;
	return &table[op];
}

const char *msg_op_name(uint64_t op)
{
	const struct op_info *info = op_info(op);

	return info != NULL ? info->name : "?";
}

bool msg_op_known(uint64_t op)
{
	return op_info(op) != NULL;
}

bool msg_request_complete(const struct msg *m)
{
	const struct op_info *info = MSG_HAS(m, op) ? op_info(m->op) : NULL;

	return info != NULL && (m->present & info->request) == info->request;
}

bool msg_reply_complete(uint64_t op, const struct msg *m)
{
	const struct op_info *info = op_info(op);

	if (info == NULL)
		return false;
	return m->err != 0 || (m->present & info->reply) == info->reply;
}

bool msg_synchronises(const struct msg *m)
{
	switch (m->op) {
	case MSG_SETLK:
		return m->type != LOCK_TYPE_NONE;
	case MSG_CREATE:
	case MSG_MKNOD:
	case MSG_SYMLINK:
	case MSG_LINK:
	case MSG_UNLINK:
	case MSG_RMDIR:
	case MSG_RENAME:
		return true;
	default:
		return false;
	}
}

int msg_errno(int r)
{
	return r < -MSG_ERR_MAX ? -EIO : r;
}

bool msg_target_valid(struct slice target)
{
	return target.len > 0 && target.len <= MSG_TARGET_MAX &&
	       memchr(target.data, '\0', target.len) == NULL;
}
