#include "core/msg.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "core/hash.h"

#define F(field) MSG_BIT(field)
#define T(trait) TRAIT_##trait

struct op_info {
	const char *name;
	uint64_t request, reply;
	uint32_t traits;
};

static const struct op_info *op_info(uint64_t op)
{
	static const struct op_info table[] = {
#define MESSAGE(code, NAME, request, reply, traits, text) [code] = {#NAME, request, reply, traits},
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

bool msg_request_needs(uint64_t op, uint64_t fields)
{
	const struct op_info *info = op_info(op);

	return info != NULL && (info->request & fields) == fields;
}

uint32_t msg_traits(uint64_t op)
{
	const struct op_info *info = op_info(op);

	return info != NULL ? info->traits : 0;
}

uint32_t msg_changes(const struct msg *m)
{
	uint32_t t = msg_traits(m->op);

	if ((t & TRAIT_OPENS) != 0 && (m->flags & O_TRUNC) == 0)
		t &= ~(uint32_t)TRAIT_CHANGES_OBJECT;
	return t & TRAIT_CHANGES;
}

bool msg_changes_data(const struct msg *m)
{
	if ((msg_changes(m) & TRAIT_CHANGES_OBJECT) == 0)
		return false;
	return msg_is(m->op, TRAIT_WRITES | TRAIT_OPENS) || (m->valid & SET_SIZE) != 0;
}

bool msg_synchronises(const struct msg *m)
{
	if (msg_is(m->op, TRAIT_FILE_LOCK) && m->type == LOCK_TYPE_NONE)
		return false;
	return msg_is(m->op, TRAIT_SYNCHRONISES);
}

int msg_errno(int r)
{
	return r < -MSG_ERR_MAX ? -EIO : r;
}

bool msg_name_valid(struct slice name)
{
	return name.len > 0 && name.len <= MSG_NAME_MAX &&
	       memchr(name.data, '/', name.len) == NULL &&
	       memchr(name.data, '\0', name.len) == NULL;
}

bool msg_target_valid(struct slice target)
{
	return target.len > 0 && target.len <= MSG_TARGET_MAX &&
	       memchr(target.data, '\0', target.len) == NULL;
}

struct msg_slot msg_slot_get(const unsigned char *bytes)
{
	struct msg_slot s = {0};

	for (int i = 0; i < 4; i++)
		s.slot = s.slot << 8 | bytes[i];
	for (int i = 4; i < MSG_SLOT_LEN; i++)
		s.use = s.use << 8 | bytes[i];
	return s;
}

void msg_slot_put(struct msg_slot s, unsigned char *bytes)
{
	for (int i = 3; i >= 0; i--, s.slot >>= 8)
		bytes[i] = (unsigned char)s.slot;
	for (int i = MSG_SLOT_LEN - 1; i >= 4; i--, s.use >>= 8)
		bytes[i] = (unsigned char)s.use;
}

uint64_t msg_digest(const struct msg *q)
{
	bool hint = msg_is(q->op, TRAIT_OPENS);
	uint64_t other = MSG_BIT(id) | MSG_BIT(slot) | (hint ? MSG_BIT(size) : 0);
	const uint64_t parts[] = {q->present & ~other,
				  q->op,
				  q->node,
				  q->node2,
				  q->fh,
				  q->fh2,
				  q->off,
				  q->off2,
				  hint ? 0 : q->size,
				  q->flags,
				  q->mode,
				  q->valid,
				  q->owner,
				  q->type,
				  MSG_HAS(q, payload) ? q->payload.len : 0};
	uint64_t h = hash_bytes(q->name.data, MSG_HAS(q, name) ? q->name.len : 0, 0);

	h = hash_bytes(q->name2.data, MSG_HAS(q, name2) ? q->name2.len : 0, h);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		h = hash_mix(h + parts[i]);
	return h;
}
