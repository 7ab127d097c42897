/*
 * Requests that are executed at most once, over any number of connections: the reply caches of a
 * session (after NFSv4.1, RFC 8881 section 2.10.6).
 *
 * A client that may send a request again gives it a slot, which has one request at a time, and
 * the number of that use of the slot. What was executed under it is kept, from the beginning, until
 * the slot is used again: so a request that comes a second time is answered with the reply of the
 * first, or waits for it. The slots are bounded (SESSION_SLOTS), and so is what is kept.
 *
 * gen is the connection, as way.h numbers them: a reply goes to the one on which the request
 * came last.
 *
 * Thread-safe. One mutex, held for moments.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/msg.h"

struct slots;

int slots_new(uint32_t count, struct slots **ret);
void slots_free(struct slots *t); /* NULL is allowed */

enum slot_verdict {
	SLOT_EXECUTE, /* for the first time: slots_executed and slots_done follow */
	SLOT_WAIT,    /* it is being executed: whoever does that replies */
	SLOT_REPLAY,  /* *reply is its reply; a payload is in buf */
	SLOT_UNSURE, /* a server before this one had begun it: as SLOT_EXECUTE, but see resolve.h */
};

/* The record of a request that began, and whose end nobody knows. */
struct slot_trace {
	uint64_t began; /* ns since 1970 */
	uint64_t size;	/* of the file before an append; SIZE_UNNOTED: it had not come to that */
};
#define SIZE_UNNOTED UINT64_MAX

/* -EPROTO: no client of ours sends this: *ret_why. buf: MSG_PAYLOAD_MAX bytes. */
int slots_begin(struct slots *t, const struct msg *q, uint64_t gen, struct msg *reply,
		unsigned char *buf, const char **ret_why);
/* The same request is to be looked into: SLOT_UNSURE. */
struct slot_trace slots_trace(struct slots *t, uint32_t slot);
/* Before an append is executed: the file has this size. */
void slots_note_size(struct slots *t, uint32_t slot, uint64_t size);
/*
 * The reply to what has begun under this slot is made, and what it tells is counted, but it may
 * have to wait before it is sent. Nothing is kept of a request that the client has given up by
 * then.
 */
void slots_executed(struct slots *t, uint32_t slot, const struct msg *reply);
/* The reply to request id may be sent, on this connection: SLOTS_NOBODY if it was given up. */
#define SLOTS_NOBODY UINT64_MAX
uint64_t slots_done(struct slots *t, uint32_t slot, uint64_t id);
/* The request was malformed: it was not a use of the slot. */
void slots_refused(struct slots *t, uint32_t slot);

/* The session is in the state: its slots are, too. Before the first of them. NULL is nothing. */
struct state;
void slots_use_record(struct slots *t, struct state *state, uint32_t session);
/* One of the state, which a server before this one had. False: it makes no sense. */
bool slots_restore(struct slots *t, uint32_t record);

/*
 * A session that is resumed: the client names the requests that it will send again. Those that it
 * does not name it has the replies of, or has given up: their slots are free. At the end `kept` is
 * called with the reply of each that is named and was executed.
 */
void slots_unclaim(struct slots *t);
bool slots_claim(struct slots *t, uint64_t slot, uint64_t use); /* false: there is no such slot */
/* The last use of a slot that was begun; 0: none, or there is no such slot. */
uint64_t slots_last_use(struct slots *t, uint64_t slot);
struct slots_settle {
	void (*kept)(void *arg, uint64_t op, const struct msg *reply);
	void *arg;
};
/* Returns the ids of those that are not named and still wait, as many as there are slots at most.
 */
size_t slots_settle(struct slots *t, const struct slots_settle *to, uint64_t *ret_ids);
