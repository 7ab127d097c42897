/*
 * One connection of a link: its stream, the thread that reads replies and pushes from it, and the
 * thread that writes the calls, or parts of calls, that no submitter could send at once.
 *
 * The wire knows nothing that is of use after its end. Its owner says which call is sent next,
 * which call a reply belongs to, and what follows from the reply (struct wire_owner). When the
 * connection ends, a call that has been sent in part goes back to the owner, whose next wire would
 * send the call from its first byte.
 *
 * One lock, the owner's, covers the wire and all that the owner's functions look at. The lock is
 * not held across a system call. Functions with _locked are called with the lock held.
 */
#pragma once

#include <pthread.h>

#include "core/backend.h"
#include "transport/stream.h"

struct wire;

struct wire_owner {
	pthread_mutex_t *lock;
	struct stats *stats;
	void *arg;
	/* The call that is to be sent next; NULL: there is none, or the next may not be sent
	 * yet. */
	struct call *(*next_locked)(void *arg);
	/* The call that next_locked returned is about to be sent: from now on next_locked returns
	 * the call after this one. */
	void (*begun_locked)(void *arg, struct call *call);
	/* All bytes of the call have been sent. The lock may be released meanwhile, and the call
	 * freed. */
	void (*sent_locked)(void *arg, struct call *call);
	/*
	 * A message's head has been received: called on the reader, without the lock. Fetches the
	 * payload with wire_rest. Returns NULL, or the reason to end the connection.
	 */
	const char *(*received)(void *arg, struct wire *w, struct msg *m);
	/*
	 * The connection has ended, and no thread of the wire touches a call any more: called
	 * once, on the reader, without the lock. part: the call that has been sent in part, or
	 * NULL.
	 */
	void (*lost)(void *arg, const char *why, struct call *part);
};

/* Takes over the stream, also on failure. */
int wire_new(struct stream *stream, const struct wire_owner *owner, struct wire **ret);
/* Ends the connection, and returns when `lost` has returned. Not on the reader. */
void wire_end(struct wire *w);
/* Ends it, and does not wait for that. Any thread. */
void wire_break_locked(struct wire *w);
/* To be called after wire_end. NULL is allowed. */
void wire_free(struct wire *w);

/* Encodes a call into the call's own buffer, whose bytes last until wire_release. */
int wire_encode(struct call *call);
/* Puts call->slot and use into them. */
void wire_set_slot(struct call *call);
void wire_release(struct call *call);
/* How many bytes the call takes on the wire, its payload included. */
size_t wire_bytes(const struct call *call);

/*
 * A call was queued. If it is the first and nothing is being sent, this thread sends it and a few
 * calls that follow, as many bytes as the socket takes: that spares a thread switch on every
 * uncached operation. Otherwise, and for bytes that are left, the writer is woken. Returns whether
 * this thread has sent anything.
 */
bool wire_queued_locked(struct wire *w, bool first);
/* A call may be sent now that could not be sent before: wakes the writer. */
void wire_wake_locked(struct wire *w);

/*
 * The call's reply has come: waits until its sender is back from the system call, so that the
 * call may be freed. False if a part of it has not been sent.
 */
bool wire_let_go_locked(struct wire *w, const struct call *call);

/*
 * For `received`: the message's payload, if it has one, in dest if that has room, else in a buffer
 * of the wire's; counts the message. 0 or -errno.
 */
int wire_rest(struct wire *w, struct msg *m, void *dest, size_t dest_len);
