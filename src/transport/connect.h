/*
 * From an address to a backend: connecting with retries, negotiation,
 * fallback to the plain protocol.
 */
#pragma once

#include "core/backend.h"
#include "core/stats.h"
#include "transport/endpoint.h"

enum proto { PROTO_AUTO, PROTO_EXTENDED, PROTO_PLAIN };

struct connect_options {
	enum proto proto;
	unsigned timeout_ms;	/* how long an unreachable server is tried again */
	size_t send_queue;	/* see rpc.h */
	const char *plain_base; /* plain mode: the server's path of the root */
	bool push;		/* ask for INV and RESET */
	bool acl;		/* ask for POSIX ACLs */
	uint32_t uid, gid;	/* plain mode: owner that files show */
	struct stats *stats;
	void (*lost)(void *arg); /* the link is lost; called once, on the reader */
	void *lost_arg;
};

/* 0 or -errno with one line in err that tells why; the caller names the address. */
int transport_connect(const struct endpoint *e, const struct connect_options *o,
		      struct backend **ret, char *err, size_t err_len);
