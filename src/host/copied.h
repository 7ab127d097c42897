/*
 * A client that was copied, as a virtual machine is that is restored from a snapshot twice: both
 * copies hold what one session was told. One of them goes on with that session. The other one gets
 * a session of its own, with what it holds of the first: the nodes that are there still, and the
 * files, opened anew under their numbers. Its locks are lost, and its slots begin anew.
 *
 * What the copy had in flight may have been executed before the two parted, or was executed for
 * the other copy: of requests under whose slot and use the first session has begun nothing neither
 * is so. They are named, and may be sent to the new session.
 */
#pragma once

#include <stddef.h>

#include "host/session.h"

struct copied {
	size_t len;
	unsigned char fresh[SESSION_SLOTS * 20]; /* [slot, use] of requests that nobody executed */
};

/* RESUME, of a new session s, of a copy of the client of `from`; as session_resume. */
int copied_resume(struct session *s, struct session *from, const struct msg *q, struct copied *c,
		  const char **ret_why);
