/*
 * A request of an extended client: what executes it (execute.c), the handlers (ops_*.c) and what
 * they have in common (ops_common.c).
 *
 * messages.def gives each message a handler op_NAME and its line in the
 * dispatch table: a new message is a line there and a function here.
 *
 * A handler reads q, fills p and returns 0 or -errno; execute.c sends the
 * reply. It runs on one of the connection's threads and may block. What it leaves
 * in p points into buf or lives as long as the request.
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
	OP_NO_REPLY = 1,  /* this message has none, or somebody else will send it */
	OP_MALFORMED = 2, /* no client of ours sends this: why says what, the connection ends */
};

struct request {
	struct session *session;
	struct host *host;
	struct creds *creds; /* of this thread */
	struct msg q;	     /* what is not present is zero */
	struct msg p;
	unsigned char *buf;   /* MSG_PAYLOAD_MAX bytes: q's payload, then p's */
	struct stamp stamp;   /* of what was armed for the reply */
	struct change change; /* what it has broken */
	const char *why;
	struct turn turn; /* execute.c's in_order says for which messages it is kept */
};

#define MESSAGE(code, NAME, request_, reply_, traits_, text) int op_##NAME(struct request *r);
#define PUSH(code, NAME, request_, reply_, traits_, text)
#include "core/messages.def"
#undef MESSAGE

/* ---- of execute.c ---- */

/* Executes the request that is in q, and replies. 0, or the connection is to be ended. */
int request_execute(struct request *r);

/* ---- of ops_common.c ---- */

/* A node with its descriptor, for the time of a request. Zero-initialised is empty. */
struct pinned {
	struct hnodes *nodes;
	struct hnode *node;
	uint64_t seen; /* hnodes_seen, from before anything is looked for in it */
	int fd;
	bool pinned;
};
void pinned_done(struct pinned *p);
#define CLEANUP_PINNED CLEANUP(pinned_done)

/* The node of an id, with a descriptor. arm: what the reply promises about it, or 0. */
int request_pin(struct request *r, uint64_t id, unsigned arm, struct pinned *ret);
/* The same for what may be done to a file that is open, wherever the host has moved it. */
int request_pin_open(struct request *r, uint64_t id, unsigned arm, struct pinned *ret);
/*
 * After a call that changes names in a directory, or attributes: -ESTALE, and a line in
 * the log, if the host has moved it out of the export meanwhile.
 */
int request_inside(const struct request *r, const struct pinned *p);

/* The reply promises this about an open file of the client's. */
void request_arm(struct request *r, const struct handle *h, unsigned arm);

/*
 * Tells the client of n, found in a directory that request_pin has armed, and
 * promises its attributes as fd shows them. On failure nothing is told.
 * *ret_covered: somebody would see a change of them.
 */
int request_tell_attr(struct request *r, struct hnode *n, int fd, struct attr *ret,
		      bool *ret_covered);
/* The same for the reply's attr, which is no promise unless it is covered. */
int request_tell_node(struct request *r, struct hnode *n, int fd);

/* Attributes of node, read through fd. */
int request_attr(const struct request *r, struct hnode *node, int fd, struct attr *ret);

/* Sets FIELD attr2 (a directory changed) where it can be had; no error if not. */
void request_parent_attr(struct request *r, const struct pinned *dir);

/* Copies a component into name (MSG_NAME_MAX + 1 bytes), checked. */
int request_name(struct slice s, char *name);

/* Sets FIELD fs. */
int request_statfs(struct request *r, int fd);

/* -EROFS if the export may not be changed. */
int request_writable(const struct request *r);

/*
 * Takes over the caller's identity for creating something, with what `like` keeps of the
 * server's; ends with creds_restore(r->creds).
 */
int request_assume(struct request *r, struct creds_caller like, gid_t groups[MSG_GROUPS_MAX]);

/* The caller of a request that changes a file's content may not leave its set-id bits on. */
bool request_strips_ids(const struct request *r);
/*
 * Takes the set-id bits off an object or open file, as the host's kernel does for a
 * writer who lacks CAP_FSETID (setattr_should_drop_suidgid): the server has it.
 * security.capability goes with any write of the server's (file_remove_privs).
 */
void request_strip_ids(const struct request *r, int fd);

/*
 * Makes fd's node known under name in dir and tells the client: fields node
 * and attr. Takes over fd, which may be an open file unless it is an object
 * (O_PATH).
 */
int request_tell(struct request *r, const struct pinned *dir, const char *name, int object);
/* The same without the client: what the name has, with a reference. */
int request_intern(const struct request *r, const struct pinned *dir, const char *name, int fd,
		   struct hnode **ret);

/* What a name is before a call that takes it away; without node if nothing the clients know. */
struct victim {
	struct hnodes *nodes;
	struct hnode *node;
	int fd;
	uint64_t links; /* before; 0: not known */
};
void victim_find(struct request *r, const struct pinned *dir, const char *name, struct victim *ret);
/* After the call: somebody may have looked it up, and been promised something, meanwhile. */
void victim_again(struct victim *v);
/* After a rename: whether it is what has the name now. */
bool victim_is_at(const struct victim *v, const struct pinned *dir, const char *name);
/* The call has taken something away that was not there when it was looked for. */
void victim_unknown(struct request *r, const struct pinned *dir);
/* The call has succeeded: keeps the file reachable for those who have it. */
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
