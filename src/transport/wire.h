/*
 * One connection of a link: its stream, the thread that reads replies and pushes from it, and the
 * thread that writes what no submitter could send at once.
 *
 * The wire knows nothing that is of use after its end. Which call is sent next, whose reply a
 * message is, and what follows from it, its owner says (struct wire_owner). When the connection
 * ends, a call that has been sent in part goes back to the owner, whose next wire would send it
 * from its first byte.
 *
 * One lock covers the wire and what the owner's functions look at: the owner's own. It is not held
 * across a system call. Functions with _locked are called with it held.
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
	/* The call that is to be sent next; NULL: there is none, or it may not be sent yet. */
	struct call *(*next_locked)(void *arg);
	/* The sending of what next_locked told begins: next_locked tells another one from now on.
	 */
	void (*begun_locked)(void *arg, struct call *call);
	/* All of it has gone. The lock may be released meanwhile, and the call freed. */
	void (*sent_locked)(void *arg, struct call *call);
	/*
	 * A message's head has come: on the reader, without the lock. Fetches the rest with
	 * wire_rest. Returns NULL, or why the connection is to end.
	 */
	const char *(*received)(void *arg, struct wire *w, struct msg *m);
	/*
	 * The connection has ended, and no thread of the wire touches a call any more: once, on
	 * the reader, without the lock. part: the call that has been sent in part, or NULL.
	 */
	void (*lost)(void *arg, const char *why, struct call *part);
};

/* Takes over the stream, also on failure. */
int wire_new(struct stream *stream, const struct wire_owner *owner, struct wire **ret);
/* Ends the connection, and returns when `lost` has returned. Not on the reader. */
void wire_end(struct wire *w);
/* After wire_end. NULL is nothing. */
void wire_free(struct wire *w);

/* Makes the bytes of a call in its own buffer, which last until wire_release. */
int wire_encode(struct call *call);
void wire_release(struct call *call);
/* How many bytes are sent for it, those of its payload included. */
size_t wire_bytes(const struct call *call);

/*
 * A call was queued. If it is the first and nothing is being sent, this thread sends it and a few
 * that follow, as far as the socket takes them: that spares a thread switch on every uncached
 * operation. Else, and for what is left, the writer is woken. Returns whether this thread sent.
 */
bool wire_queued_locked(struct wire *w, bool first);
/* A call may be sent by now that could not be before. */
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
