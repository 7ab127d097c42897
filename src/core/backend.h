/*
 * The interface between the cache and the backend that it sends requests to: the extended
 * transport (a link), the plain client, or a fake of a unit test.
 *
 * A call is one request and its completion. The caller owns it from before
 * submit until done has run; the backend owns it in between and completes it
 * exactly once, whatever happens to the link: one that is lost is made again, and
 * the call is sent again. ENOTCONN if that cannot be.
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

	/* The caller's ids, as the server knows them; 0: the client itself. The plain client sends
	 * them. */
	uint32_t uid, gid;

	/*
	 * Runs once, on a thread of the backend that must not be blocked: the
	 * reader. reply->err is the errno, 0 on success; reply's slices,
	 * payload included, are valid until done returns. NULL: a message
	 * without a reply; the backend then calls sent instead.
	 */
	void (*done)(struct call *call, const struct msg *reply);
	void (*sent)(struct call *call);

	/* The buffer for the reply's payload, if that fits in dest_len; NULL: one of the
	 * backend's. */
	void *dest;
	size_t dest_len;

	/* The kernel's number of the request that it is about; 0: none. */
	uint64_t unique;

	/* These belong to the backend. */
	struct call *next;
	uint64_t id;
	uint32_t at; /* its place in the table of calls */
	bool queued;
	struct stats_span span;
	uint32_t slot;	  /* TRAIT_ONCE: of its session, once `use` is not 0 */
	uint32_t slot_at; /* where that stands in wire; 0: nowhere */
	uint64_t use;
	uint64_t digest; /* of the request, for whoever takes our place */
	bool cancelled;	 /* cancel was called: so it is for the next connection, too */
	bool kept;	 /* answered, and the slot waits for `settled` */
	size_t wire_len;
	unsigned char *wire; /* wire_inline, or memory from malloc */
	unsigned char wire_inline[CALL_WIRE_INLINE];
};

struct backend;

/* Takes what a client holds of its session: see backend_events.holds. */
struct backend_holds {
	void (*begin)(void *arg); /* from here on nothing is given back to the server but later */
	void (*node)(void *arg, uint64_t node, uint64_t n); /* n references */
	void (*file)(void *arg, uint64_t fh);		    /* is open */
	void *arg;
};

/* Events that a backend tells by itself. pushed and lost on the thread that runs completions. */
struct backend_events {
	/* INV or RESET, in order of arrival with the replies. */
	void (*pushed)(void *arg, const struct msg *m);
	/* The number of the last of them. */
	uint64_t (*heard)(void *arg);
	/*
	 * A session goes on over another connection: tells `to` all that the client holds of it.
	 * No call is in the server's hands meanwhile, and no FORGET and CLOSE is submitted.
	 */
	void (*holds)(void *arg, const struct backend_holds *to);
	/* Its locks have been released meanwhile. */
	void (*locks_lost)(void *arg);
};

struct backend_ops {
	/* Never waits for the host; may wait for room in a bounded queue. */
	void (*submit)(struct backend *b, struct call *call);
	/*
	 * The kernel has the answer to a call with a number of its own: nobody will ask for it
	 * again. May be NULL.
	 */
	void (*settled)(struct backend *b, struct call *call);
	/* Waits while `full` is set. For threads that need not read further requests meanwhile. */
	void (*wait_room)(struct backend *b);
	/*
	 * Ends the call with EINTR if it waits for a lock. Any thread; the caller
	 * makes sure that done has not run. False: the call is not submitted yet.
	 */
	bool (*cancel)(struct backend *b, const struct call *call);
	/*
	 * Nothing has come from the server for so long that its promises are over: the link may
	 * lead nowhere, of which no system call tells. If it can be made again, it is. May be NULL.
	 */
	void (*silent)(struct backend *b);
	/* Who hears; NULL: nobody. NULL where the backend has nothing to tell. */
	void (*listen)(struct backend *b, const struct backend_events *events, void *arg);
	/* Ends the link; every call in flight completes before it returns. */
	void (*shutdown)(struct backend *b);
	void (*free)(struct backend *b);
};

#define IDLE_FILES     1024  /* backend_info.idle_files of a server that does not say */
#define IDLE_FILES_MAX 65536 /* and at most */

/* The facts that the negotiation found out. */
struct backend_info {
	/*
	 * The facts at the start, by which the cache and the kernel were set up: a server that
	 * lacks one of these abilities cannot take the place of one that had it.
	 */
	bool plain; /* plain protocol: no nlink, owner, nanoseconds */
	bool push;  /* INV and RESET come: replies with a stamp are promises */
	bool watch; /* pushes tell changes on the host as well, not only those of other clients */
	bool acl;   /* the server passes POSIX ACLs on, and attributes tell which files have none */
	uint64_t root_node; /* server node id of the root */
	uint64_t epoch;
	/*
	 * These facts may change while the backend lives, when the server was started anew by
	 * another user or with other options. So no code keeps a copy of them: they are read
	 * here each time. A RESET follows the change, because the cache has answered by the old
	 * facts.
	 */
	atomic_bool server_root; /* the server creates as the caller */
	atomic_bool umask;	 /* the server applies the caller's umask */
	atomic_bool gives_up;	 /* the host may execute files that a client has open for writing */
	_Atomic uint32_t server_uid, server_gid;
	_Atomic uint32_t idle_files; /* open files that may be kept though nobody uses them */
};

/* Reads the items of a payload's sequence, for code that must not use the codec
 * (transport/codec.h). */
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
	atomic_bool away; /* its link is lost, and is being made again: calls wait for that */
};
