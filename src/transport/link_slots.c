/*
 * The slots of requests that are executed at most once, and their records for a client that takes
 * the place of this one (core/outlive.h).
 */
#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "core/outlive.h"
#include "transport/link_priv.h"

void link_slots_init(struct link *l)
{
	l->free_slot_count = l->slots;
	for (uint32_t i = 0; i < l->slots; i++)
		l->free_slots[i] = l->slots - 1 - i;
}

/* Before the request is sent: whoever takes our place sends it in the same slot. */
static void slot_outlive(const struct call *call)
{
	if (outlive == NULL)
		return;
	struct outlive_slot *s = &outlive->slot[call->slot];
	__atomic_store_n(&s->unique, 0, __ATOMIC_SEQ_CST);
	s->use = call->use;
	s->id = call->id;
	s->digest = call->digest;
	__atomic_store_n(&s->unique, call->unique & ~OUTLIVE_RESENT, __ATOMIC_SEQ_CST);
}

static void slot_free_locked(struct link *l, uint32_t slot)
{
	if (outlive != NULL)
		__atomic_store_n(&outlive->slot[slot].unique, 0, __ATOMIC_SEQ_CST);
	l->free_slots[l->free_slot_count++] = slot;
}

/* False: another call has the slot by now. */
static bool slot_unkeep_locked(struct link *l, uint32_t slot)
{
	for (uint32_t i = 0; i < l->kept_count; i++) {
		if (l->kept[i] != slot)
			continue;
		l->kept_count--;
		memmove(&l->kept[i], &l->kept[i + 1], (l->kept_count - i) * sizeof(l->kept[0]));
		return true;
	}
	return false;
}

/*
 * There is one for each call in flight. A call that is sent again has it already. Answers may be
 * held back until another request is answered: that one does not wait for their slots.
 */
void link_slot_take_locked(struct link *l, struct call *call)
{
	if (call->slot_at == 0 || call->use != 0)
		return;
	if (l->free_slot_count == 0) {
		uint32_t oldest = l->kept[0];

		(void)slot_unkeep_locked(l, oldest);
		slot_free_locked(l, oldest);
	}
	call->slot = l->free_slots[--l->free_slot_count];
	call->use = ++l->slot_uses[call->slot];
	slot_outlive(call);
	wire_set_slot(call);
}

void link_slot_give_locked(struct link *l, struct call *call)
{
	if (call->use != 0)
		slot_free_locked(l, call->slot);
	call->use = 0;
}

/* The call has been answered: the kernel has not, yet. */
void link_slot_keep_locked(struct link *l, struct call *call, const struct msg *reply)
{
	if (outlive == NULL || call->unique == 0 || call->use == 0) {
		link_slot_give_locked(l, call);
		return;
	}
	call->kept = true;
	l->kept[l->kept_count++] = call->slot;
	l->kept_node[call->slot] =
		reply->err == 0 && msg_is(call->req.op, TRAIT_NAMES_OBJECT) ? reply->node : 0;
}

void link_slot_settle_locked(struct link *l, struct call *call)
{
	if (!call->kept)
		return;
	call->kept = false;
	if (l->slot_uses[call->slot] == call->use && slot_unkeep_locked(l, call->slot))
		slot_free_locked(l, call->slot);
	call->use = 0;
}

/* Its id is the one of before, which says nothing about its place. */
static void take_id_locked(struct link *l, struct call *call, uint64_t id)
{
	l->old[l->old_count++] = call;
	call->id = id;
	MSG_SET(&call->req, id, id);
}

/*
 * A request that the kernel sends again, and that had been sent to the server under a slot: it goes
 * there under the same. One that would not be the same is not guessed at.
 */
int link_slot_claim_locked(struct link *l, struct call *call)
{
	uint64_t unique = call->unique & ~OUTLIVE_RESENT;
	uint32_t at = 0;

	if (outlive == NULL || !MSG_HAS(&call->req, slot))
		return 0;
	call->digest = msg_digest(&call->req);
	if ((call->unique & OUTLIVE_RESENT) == 0)
		return 0;
	while (at < l->slots && outlive->slot[at].unique != unique)
		at++;
	if (at == l->slots)
		return 0; /* it had not been sent */
	if (outlive->slot[at].digest != call->digest) {
		log_err("%s, which the kernel sends again, is not what it was: it gets EIO",
			msg_op_name(call->req.op));
		return -EIO;
	}
	for (uint32_t i = 0; i < l->free_slot_count; i++) {
		if (l->free_slots[i] != at)
			continue;
		l->free_slots[i] = l->free_slots[--l->free_slot_count];
		take_id_locked(l, call, outlive->slot[at].id);
		call->slot = at;
		call->use = outlive->slot[at].use;
		break;
	}
	return 0;
}

bool link_slot_among(uint32_t slot, uint64_t use, const struct msg_slot *slots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (slots[i].slot == slot && slots[i].use == use)
			return true;
	return false;
}

/* Requests that the kernel may send again after another client has taken our place: see
 * link_slot_claim_locked. */
void link_slots_spoil(const struct link *l, const struct msg_slot *but, size_t n)
{
	for (uint32_t i = 0; outlive != NULL && i < l->slots; i++) {
		struct outlive_slot *s = &outlive->slot[i];

		if (!link_slot_among(i, s->use, but, n))
			s->digest = ~s->digest;
	}
}
