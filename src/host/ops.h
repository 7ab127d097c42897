/*
 * A request of an extended client: its execution (execute.c), the handlers (ops_*.c) and the
 * functions that handlers share (ops_common.c).
 *
 * messages.def gives each message a handler op_NAME and its line in the
 * dispatch table: a new message is a line there and a function here.
 *
 * A handler reads q, fills p and returns 0 or -errno; execute.c sends the
 * reply. A handler runs on one of the connection's threads and may block. Slices in p
 * point into buf, or to memory that lives as long as the request.
 */
#pragma once

#include "core/msg.h"
#include "host/creds.h"
#include "host/handle.h"
#include "host/promise.h"
#include "host/session.h"
#include "host/turns.h"

/* Returned by a handler instead of 0 or -errno. */
enum op_result {
	OP_NO_REPLY = 1, /* the message has no reply, or another thread will send it */
	OP_MALFORMED =
		2, /* no client of ours sends this: the connection ends, why has the reason */
};

struct request {
	struct session *session;
	uint64_t gen; /* of the session's connections */
	struct host *host;
	struct creds *creds; /* of this thread */
	struct msg q;	     /* fields that are not present are zero */
	struct msg p;
	unsigned char *buf;   /* MSG_PAYLOAD_MAX bytes: q's payload, then p's */
	struct stamp stamp;   /* of what was armed for the reply */
	struct change change; /* what it has broken */
	uint32_t slot;	      /* SLOT_NONE: it may be executed again */
	const char *why;
	struct turn turn; /* execute.c's in_order says for which messages it is kept */
};

#define MESSAGE(code, NAME, request_, reply_, traits_, text) int op_##NAME(struct request *r);
#define PUSH(code, NAME, request_, reply_, traits_, text)
#include "core/messages.def"
#undef MESSAGE

/* ---- of execute.c ---- */

/* Executes the request that is in q, and replies. 0, or -errno: the connection is to be ended. */
int request_execute(struct request *r);

/* ---- of ops_common.c ---- */

/* A node with its descriptor, for the time of a request. Zero-initialised is empty. */
struct pinned {
	struct hnodes *nodes;
	struct hnode *node;
	uint64_t seen; /* hnodes_seen, from before names are looked up in the node */
	int fd;
	bool pinned;
};
void pinned_done(struct pinned *p);
#define CLEANUP_PINNED CLEANUP(pinned_done)

/* The node of an id, with a descriptor. arm: the promises that the reply makes about it, or 0. */
int request_pin(struct request *r, uint64_t id, unsigned arm, struct pinned *ret);
/* request_pin for an operation that an open file allows wherever the host has moved the file. */
int request_pin_open(struct request *r, uint64_t id, unsigned arm, struct pinned *ret);
/*
 * After a call that changes names in a directory, or attributes: -ESTALE, and a line in
 * the log, if the host has moved the node out of the export meanwhile.
 */
int request_inside(const struct request *r, const struct pinned *p);

/* The reply makes these promises about an open file of the client. */
void request_arm(struct request *r, const struct handle *h, unsigned arm);

/*
 * Tells the client of n, found in a directory that request_pin has armed, and
 * promises the attributes that fd shows. On failure the client is told of no node.
 * *ret_covered: a change of the attributes would be seen.
 */
int request_tell_attr(struct request *r, struct hnode *n, int fd, struct attr *ret,
		      bool *ret_covered);
/* request_tell_attr for the reply's own attr, which is promised only if it is covered. */
int request_tell_node(struct request *r, struct hnode *n, int fd);

/* Attributes of node, read through fd. */
int request_attr(const struct request *r, struct hnode *node, int fd, struct attr *ret);

/* Sets the field attr2, the changed directory's attributes. Without them the field is left out. */
void request_parent_attr(struct request *r, const struct pinned *dir);

/* Checks a component and copies it into name (MSG_NAME_MAX + 1 bytes). */
int request_name(struct slice s, char *name);

/* Sets the field fs. */
int request_statfs(struct request *r, int fd);

/* -EROFS if the export may not be changed. */
int request_writable(const struct request *r);

/*
 * Assumes the caller's identity for creating something; `like` says which capabilities the
 * server keeps. Ends with creds_restore(r->creds).
 */
int request_assume(struct request *r, struct creds_caller like, gid_t groups[MSG_GROUPS_MAX]);

/* True if set-id bits of a file go when the request's caller changes the content. */
bool request_strips_ids(const struct request *r);
/*
 * Takes the set-id bits off an object or open file, as the host's kernel does for a
 * writer without CAP_FSETID (setattr_should_drop_suidgid): the server has that capability.
 * security.capability goes with any write of the server's (file_remove_privs).
 */
void request_strip_ids(const struct request *r, int fd);

/*
 * Makes fd's node known under name in dir and tells the client: fields node
 * and attr. Takes over fd, which may be an open file unless it is an object
 * (O_PATH).
 */
int request_tell(struct request *r, const struct pinned *dir, const char *name, int object);
/* The node that the name has, with a reference, without telling the client. */
int request_intern(const struct request *r, const struct pinned *dir, const char *name, int fd,
		   struct hnode **ret);

/* The object that has a name, before a call that takes the name away. node: NULL if no client knows
 * the object. */
struct victim {
	struct hnodes *nodes;
	struct hnode *node;
	int fd;
	uint64_t links; /* its link count before the call; 0: not known */
};
void victim_find(struct request *r, const struct pinned *dir, const char *name, struct victim *ret);
/* After the call: looks for the node again, which another client may have been told of
 * meanwhile. */
void victim_again(struct victim *v);
/* After a rename: whether this object has the name now. */
bool victim_is_at(const struct victim *v, const struct pinned *dir, const char *name);
/* The call has taken an object away that was not there when the name was looked up. */
void victim_unknown(struct request *r, const struct pinned *dir);
/* The call has succeeded: keeps the file reachable for clients that have it open. */
void victim_gone(struct request *r, struct victim *v);
void victim_done(struct victim *v);
#define CLEANUP_VICTIM CLEANUP(victim_done)

/* An open file of this session; -EBADF. */
struct handle_ref {
	struct handles *handles;
	struct handle *h;
};
int request_handle(struct request *r, uint64_t fh, struct handle_ref *ret);
void handle_ref_done(struct handle_ref *p);
#define CLEANUP_HANDLE CLEANUP(handle_ref_done)
