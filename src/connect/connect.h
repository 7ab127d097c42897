/*
 * From an address to a backend: connecting with retries, negotiation,
 * fallback to the plain protocol. A server that refuses is asked once.
 */
#pragma once

#include "core/backend.h"
#include "core/stats.h"
#include "transport/endpoint.h"

enum proto { PROTO_AUTO, PROTO_EXTENDED, PROTO_PLAIN };

struct connect_options {
	enum proto proto;
	/*
	 * What is asked for that the plain protocol cannot give: the option's
	 * name. Not with PROTO_PLAIN; always with PROTO_EXTENDED. NULL: nothing.
	 */
	const char *needs;
	/*
	 * All of connecting and greeting; a server that is not there is tried
	 * again until then. 0: one try, of HELLO_TIMEOUT_MS at most.
	 */
	uint64_t timeout_ms;
	int stop_fd;		/* readable: connecting ends with -EINTR; -1: none */
	size_t send_queue;	/* see link.h */
	const char *plain_base; /* plain mode: the server's path of the root */
	bool push;		/* ask for INV and RESET */
	bool acl;		/* ask for POSIX ACLs */
	uint32_t uid, gid;	/* plain mode: owner that files show, if the server tells none */
	bool owner_fixed;	/* or in any case */
	struct stats *stats;
	void (*lost)(void *arg); /* the link is lost; called once, on the reader */
	void *lost_arg;
};

/* 0 or -errno with one line in err that tells why; the caller names the address. */
int transport_connect(const struct endpoint *e, const struct connect_options *o,
		      struct backend **ret, char *err, size_t err_len);
