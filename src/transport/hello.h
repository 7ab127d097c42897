/*
 * Negotiation: the first message of a client is a plain frame
 * {op: 32, data: magic + CBOR map}; err 0 and data with our magic in the reply
 * make both sides extended from the next frame on.
 */
#pragma once

#include "core/msg.h"

#define HELLO_MAGIC	 "VSOCKFS1"
#define HELLO_MAGIC_LEN	 8
#define HELLO_VERSION	 1
#define HELLO_DATA_MAX	 512   /* bytes that this version sends */
#define HELLO_TAKEN_MAX	 65536 /* and takes: later versions may say more */
#define HELLO_REASON_MAX 200   /* bytes of a refusal's reason */
#define HELLO_TIMEOUT_MS 3000

/* Writes the magic and the map of m into buf (HELLO_DATA_MAX bytes); returns the length. */
size_t hello_encode(const struct msg *m, unsigned char *buf);

/*
 * 0; -ENOMSG if data does not begin with our magic, -EPROTO if the map behind it is malformed.
 * Keys that this version does not know are passed over.
 */
int hello_decode(struct slice data, struct msg *ret);

/*
 * A refusal is a reply with an error and data that tells the reason.
 * hello_reason makes that reason printable, for a log, in ret (HELLO_REASON_MAX + 1
 * bytes): the reply may come from any program, and may have no data.
 */
size_t hello_encode_refusal(const char *reason, unsigned char *buf);
void hello_reason(struct slice data, int err, char *ret);
