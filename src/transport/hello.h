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
#define HELLO_DATA_MAX	 512
#define HELLO_TIMEOUT_MS 3000

/* Writes magic and map into buf (HELLO_DATA_MAX bytes); returns the length. */
size_t hello_encode(const struct msg *m, unsigned char *buf);

/* 0, or -EPROTO if data is no hello of ours. */
int hello_decode(struct slice data, struct msg *ret);
