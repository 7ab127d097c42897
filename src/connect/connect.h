/*
 * From an address to a backend: connecting with retries, negotiation,
 * fallback to the plain protocol. A server that refuses is asked once.
 */
#pragma once

#include "core/backend.h"
#include "core/stats.h"
#include "transport/endpoint.h"
#include "transport/secret.h"

enum proto { PROTO_AUTO, PROTO_EXTENDED, PROTO_PLAIN };

struct connect_options {
	enum proto proto;
	/*
	 * The option that the plain protocol cannot fulfil, by its
	 * name. Not with PROTO_PLAIN; always with PROTO_EXTENDED. NULL: nothing.
	 */
	const char *needs;
	/*
	 * For connecting and greeting together; a server that is not there is tried
	 * again until this time has passed. 0: one try, of HELLO_TIMEOUT_MS at most.
	 */
	uint64_t timeout_ms;
	int stop_fd;		/* readable: connecting ends with -EINTR; -1: none */
	size_t send_queue;	/* see link.h */
	const char *plain_base; /* plain mode: the server's path of the root */
	bool resume; /* ask for a session that outlives its connection, where one can be made again
		      */
	uint64_t timeo_ms; /* see link.h */
	bool push;	   /* ask for INV and RESET */
	bool acl;	   /* ask for POSIX ACLs */
	bool keep_files;   /* ask how many open files may be kept for later */
	uint32_t uid, gid; /* plain mode: owner that files show, if the server tells none */
	bool owner_fixed;  /* that owner is shown in any case */
	/* To be proved to the server, which has to prove it in turn; outlives the backend. NULL:
	 * none. */
	const struct secret *secret;
	struct stats *stats;
	void (*lost)(void *arg); /* the link is lost; called once, on the reader */
	void *lost_arg;
};

/* 0 or -errno, with the reason as one line in err; the caller names the address. */
int transport_connect(const struct endpoint *e, const struct connect_options *o,
		      struct backend **ret, char *err, size_t err_len);

/*
 * In the place of a client that was killed (core/outlive.h): a backend whose calls wait until
 * transport_go_on makes its connection again, with the session of before. 0 or -errno.
 */
int transport_take_over(const struct connect_options *o, struct backend **ret);
int transport_go_on(struct backend *b, const struct endpoint *e, const struct connect_options *o);
