/*
 * What the cache asks of whatever is behind it: the extended transport (a link), the
 * plain client, or a fake of a unit test.
 *
 * A call is one request and its completion. The caller owns it from before
 * submit until done has run; the backend owns it in between and completes it
 * exactly once, whatever happens to the link (ENOTCONN when it is lost).
 */
#pragma once

#include <stdatomic.h>

#include "core/msg.h"
#include "core/stats.h"

#define CALL_WIRE_INLINE 768 /* an encoded request without its payload is seldom larger */

struct call {
	/*
	 * The request. Slices in it (names, payload) need to be valid only
	 * during submit, except payload, which must stay until done.
	 */
	struct msg req;

	/* Of the caller, as the server knows them; 0: the client itself. Plain tells them. */
	uint32_t uid, gid;

	/*
	 * Runs once, on a thread of the backend that must not be blocked: the
	 * reader. reply->err is the errno, 0 on success; reply's slices,
	 * payload included, are valid until done returns. NULL: a message
	 * without a reply; the backend then calls sent instead.
	 */
	void (*done)(struct call *call, const struct msg *reply);
	void (*sent)(struct call *call);

	/* Where a reply's payload shall go, if it fits in dest_len; NULL: the backend's buffer. */
	void *dest;
	size_t dest_len;

	/* The backend's own. */
	struct call *next;
	uint64_t id;
	bool queued;
	struct stats_span span;
	size_t wire_len;
	unsigned char *wire; /* wire_inline, or from malloc */
	unsigned char wire_inline[CALL_WIRE_INLINE];
};

struct backend;

struct backend_ops {
	/* Never waits for the host; may wait for room in a bounded queue. */
	void (*submit)(struct backend *b, struct call *call);
	/* Waits while `full` is set. For threads that may stop reading requests. */
	void (*wait_room)(struct backend *b);
	/*
	 * The call is to end with EINTR if it waits for a lock. Any thread; the
	 * caller sees to it that done has not run. False: it is not submitted yet.
	 */
	bool (*cancel)(struct backend *b, const struct call *call);
	/*
	 * Where INV and RESET go: to `pushed`, on the thread that runs completions,
	 * in order of arrival with the replies. What came before is dropped. NULL
	 * where the backend never pushes.
	 */
	void (*listen)(struct backend *b, void (*pushed)(void *arg, const struct msg *m),
		       void *arg);
	/* Ends the link; every call in flight completes before it returns. */
	void (*shutdown)(struct backend *b);
	void (*free)(struct backend *b);
};

/* What the negotiation found out. */
struct backend_info {
	/*
	 * As it was at the start. The cache and the kernel were set up by it: a server that has
	 * lost one of these abilities cannot take the place of the one that had it.
	 */
	bool plain;	    /* plain protocol: no nlink, owner, nanoseconds */
	bool push;	    /* INV and RESET come: replies with a stamp are promises */
	bool watch;	    /* of changes on the host as well, not only of other clients */
	bool acl;	    /* it passes POSIX ACLs on, and attributes tell who has none */
	uint64_t root_node; /* server node id of the root */
	uint64_t epoch;
	struct attr root_attr;
	/*
	 * What may change while the backend lives, when the server was started anew by another
	 * user or with other options. So nobody keeps a copy: it is looked up here each time.
	 * A RESET follows the change, since what was shown before rests on the old facts.
	 */
	atomic_bool server_root; /* the server creates as the caller */
	atomic_bool read_only;
	atomic_bool watch_dirs; /* by directory: not every reply has a stamp */
	atomic_bool umask;	/* the server applies the caller's umask */
	atomic_bool gives_up;	/* it lets the host execute what a client has open for writing */
	_Atomic uint32_t server_uid, server_gid;
};

/* The items of a payload's sequence, for those above the codec: see transport/codec.h. */
struct msg_sequences {
	size_t (*put_pair)(uint64_t a, uint64_t b, unsigned char *buf, size_t cap);
	size_t (*put_uint)(uint64_t v, unsigned char *buf, size_t cap);
	int (*get_entry)(struct slice *in, struct dir_entry *ret);
	int (*get_inv)(struct slice *in, struct inv_item *ret);
};

struct backend {
	const struct backend_ops *ops;
	const struct msg_sequences *sequences;
	struct backend_info info;
	atomic_bool full; /* more is queued than the backend's bound */
};
