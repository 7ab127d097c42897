/*
 * The greeting: a client that says HELLO in a plain frame is extended from the next frame on,
 * and has a session.
 */
#pragma once

#include <stdint.h>

#include "core/msg.h"

struct host;
struct plain_reply;
struct session;

/*
 * Answers a HELLO with this data; the data of the reply are written to buf (HELLO_DATA_MAX bytes).
 * err 0: *ret is the client's session, which the caller owns. -ENOSYS: this is no HELLO of ours,
 * and the connection remains plain. Any other error: the client is refused.
 */
void greeting_answer(struct host *h, uint64_t client, struct slice data, unsigned char *buf,
		     struct plain_reply *reply, struct session **ret);
