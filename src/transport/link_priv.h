/* Declarations that link.c (calls), link_slots.c (their slots) and link_resume.c (connections that
 * are lost and made again) share. */
#pragma once

#include <pthread.h>

#include "transport/link.h"
#include "transport/wire.h"

/*
 * Where a call is: `next` links the queue of those that are to be sent; table[] holds each call
 * that waits for a reply, queued or sent, under the low bits of its id.
 */
#define TABLE_BITS 20
#define TABLE_MAX  (1u << TABLE_BITS)

struct link {
	struct backend base; /* first: struct backend * is a struct link * */
	struct link_options options;
	struct keeper *keeper; /* of link_resume.c; constant after link_keep. NULL: there is none */
	void (*keeper_end)(struct keeper *k); /* after stopping was set: waits for it */
	void (*keeper_free)(struct keeper *k);

	pthread_mutex_t lock; /* the fields below, and the wire's; never held across a completion */
	pthread_cond_t room;  /* to wait_room: queued_bytes fell */
	pthread_cond_t keep;  /* to the keeper: the wire is lost, or stopping */
	struct wire *wire;    /* NULL: there is none at the moment */
	struct call *head, **tail;
	size_t queued_bytes; /* of calls that are not sent, or not all of them */
	unsigned in_flight, slots;
	struct call **table;
	uint32_t *free_index;
	uint32_t table_size, free_count;
	struct call *old[MSG_SLOTS_MAX]; /* those with an id of a client before */
	uint32_t old_count;
	uint64_t sequence;
	bool down;	 /* the wire is lost, and the keeper makes another one */
	bool overdue;	 /* it has been for longer than calls are to wait */
	bool lost;	 /* for good */
	bool stopping;	 /* shutdown was called */
	const char *why; /* the wire was lost */
	const struct backend_events *events; /* NULL: nobody listens yet */
	void *events_arg;

	/* The session, if it can be resumed. */
	bool resumes;
	bool another; /* another copy of this client has gone on with it; the keeper's own */
	uint64_t session;
	unsigned char token[MSG_TOKEN_LEN];
	uint64_t slot_uses[MSG_SLOTS_MAX]; /* of each slot, the number of its last use */
	uint32_t free_slots[MSG_SLOTS_MAX];
	uint32_t free_slot_count;
	/* Of calls that were answered, and whose answer the kernel may not have: oldest first. */
	uint32_t kept[MSG_SLOTS_MAX], kept_count;
	uint64_t kept_node[MSG_SLOTS_MAX]; /* by slot: of which the answer told a reference; 0: none
					    */
};

/* ---- link_slots.c ---- */

void link_slots_init(struct link *l);
void link_slot_take_locked(struct link *l, struct call *call);
void link_slot_give_locked(struct link *l, struct call *call);
/* The call has been answered, and the kernel has not yet: its slot is kept until it is settled. */
void link_slot_keep_locked(struct link *l, struct call *call, const struct msg *reply);
void link_slot_settle_locked(struct link *l, struct call *call);
/* Before the call is encoded: 0, or -EIO for one that the kernel sends again, changed. */
int link_slot_claim_locked(struct link *l, struct call *call);
bool link_slot_among(uint32_t slot, uint64_t use, const struct msg_slot *slots, size_t n);
void link_slots_spoil(const struct link *l, const struct msg_slot *but, size_t n);

/* ---- link.c ---- */

/* Ends a call that is in no table and queue any more. */
void link_call_fail(struct link *l, struct call *call, int err);
/* Takes a call out, queued or not; NULL when none is left. oneway: of those without a reply only.
 */
struct call *link_take_any(struct link *l, bool oneway);
/* Of the calls that were sent under a slot, before the link was lost, ends all but these: nobody
 * knows whether they were executed. Returns how many. */
unsigned link_end_unsure(struct link *l, const struct msg_slot *but, size_t n);
/* CANCEL for a call that is in the table, if its id is still `id`. */
bool link_send_cancel(struct link *l, uint64_t id);
/* Takes over the stream, also on failure. */
int link_connect_wire(struct link *l, struct stream *stream);
/* Who hears, with its argument; NULL: nobody. */
const struct backend_events *link_events(struct link *l, void **ret_arg);
void link_set_facts(struct link *l, const struct msg *hello);
void link_outlive(const struct link *l, const struct msg *hello);
/* All calls end with err, and those that come from now on. */
void link_end(struct link *l, const char *why);
