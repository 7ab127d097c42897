/*
 * Shared by the files of the plain client. Each calls only those above it here:
 *   plain_peer.c	the server's abilities
 *   plain_wire.c	one request and its reply
 *   plain_path.c	names, nodes and paths of a request
 *   plain_attr.c	the objects at paths, and attributes
 *   plain_dir.c	listings
 *   plain_sure.c	links on the way
 *   plain_file.c	open files
 *   plain_setattr.c	GETATTR, SETATTR
 *   plain_ops.c	the other operations, dispatch
 *   plain_client.c	queue, thread, backend
 *
 * Everything but plain_client.c runs on the worker only and needs no lock.
 * Operations return 0 or -errno and fill the reply; -ENOSYS from the server
 * stays -ENOSYS up to plain_execute, which turns it into EOPNOTSUPP: the
 * kernel takes ENOSYS for "never ask again".
 */
#pragma once

#include "core/backend.h"
#include "plain/plain_client.h"
#include "plain/plain_codec.h"
#include "plain/plain_kept.h"
#include "plain/plain_nodes.h"

/* How the server deals with symbolic links; seen at the start and from its replies. */
enum plain_links {
	LINKS_NONE,	/* no op 17: links are followed, and only listings show them */
	LINKS_FOLLOWED, /* lookup follows: op 17 tells */
	LINKS_TOLD,	/* `mode` tells (PLAIN_MODE_LINK), lookup does not follow */
};

/* Which fields of op 16 the server takes the link's target from. */
enum plain_target { TARGET_UNKNOWN, TARGET_DATA, TARGET_NEW_PATH, TARGET_PATH };

/* Whether a handle that is open to append appends, or fails every write. */
enum plain_appends { APPENDS_UNKNOWN, APPENDS_YES, APPENDS_NO };

/* The server's abilities as they were found, which count for as long as the connection lasts. */
struct plain_peer {
	enum plain_links links;
	enum plain_target target;
	enum plain_appends appends;
	bool owners;		 /* a stat had uid or gid: owners are told */
	uint32_t works, missing; /* a bit per operation: one that has succeeded, or has got -38 */
};

/* The connection. */
struct plain_wire {
	struct stream *stream;
	struct stats *stats;
	void (*lost)(void *arg);
	void *lost_arg;
	bool down, started;	 /* the connection is lost; it has worked */
	const char *start_error; /* the reason if the connection was lost before it has worked */
	atomic_bool stopping;	 /* this client ends the connection itself */
	struct plain_buf request;
	unsigned char *frame;
	size_t frame_cap;
};

struct plain_files;
struct plain_listings;

/* The worker's state. */
struct plain_work {
	struct plain_wire wire;
	struct plain_nodes *nodes;
	struct plain_files *files;
	struct plain_listings *listings;
	struct plain_peer peer;
	uint32_t uid, gid; /* the owner that is shown where the server tells none */
	bool owner_fixed;  /* that owner is shown whatever the server tells */
	uint64_t sure_ms;
	unsigned kept; /* files of which values are kept: plain_kept.c */
	bool kept_logged, link_logged;
	uint64_t version;  /* of attributes */
	struct call *call; /* the call that is executed */
	char *path[3]; /* of the request under way: what the slices of plain_path, 2 and 3 point to
			*/
	size_t path_cap[3];
	unsigned char *payload; /* MSG_PAYLOAD_MAX bytes for replies without call->dest */
};

/* ---- plain_peer.c ---- */

/* The server has answered -38 to this operation before. */
bool plain_peer_lacks(const struct plain_work *w, uint32_t op);
/* The server has answered op with r: logs the consequence of -38 once, and tells vfsstat. */
void plain_peer_answered(struct plain_work *w, uint32_t op, int r);
/* These note the other facts. */
void plain_peer_links(struct plain_work *w, enum plain_links links);
void plain_peer_target(struct plain_work *w, enum plain_target target);
void plain_peer_appends(struct plain_work *w, enum plain_appends appends);
void plain_peer_owners(struct plain_work *w);
/* Tells vfsstat all facts. */
void plain_peer_show(const struct plain_work *w);

/* ---- plain_wire.c ---- */

/*
 * One request and its reply, whose slices are valid until the next exchange.
 * The caller's ids are added. Returns 0, the server's error, or -ENOTCONN when
 * the link is or gets lost.
 */
int plain_exchange(struct plain_work *w, struct plain_request *q, struct plain_reply *ret);
/* The server broke the protocol: logs it once and ends the link. Returns -ENOTCONN. */
int plain_lost(struct plain_work *w, const char *why);
void plain_wire_done(struct plain_wire *c);

/* ---- plain_path.c ---- */

#define PLAIN_NO_NAME ((struct slice){NULL, 0})

/* The path of node, or of name in it (name.len 0: none); 2 and 3 for others at the same time. */
int plain_path(struct plain_work *w, const struct plain_node *node, struct slice name,
	       struct slice *ret);
int plain_path2(struct plain_work *w, const struct plain_node *node, struct slice name,
		struct slice *ret);
int plain_path3(struct plain_work *w, const struct plain_node *node, struct slice name,
		struct slice *ret);
/* 0 for a component that may be sent: -EILSEQ for one that is not UTF-8. */
int plain_name_check(struct slice name);
/* The node of a request; -ESTALE for an unknown one. */
int plain_node(struct plain_work *w, uint64_t id, struct plain_node **ret);
/* The node and the path that the request's node and name, or node2 and name2, mean. */
int plain_named(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path);
int plain_named2(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path);
/* Detaches the node that has this name. */
void plain_forget_name(struct plain_work *w, const struct plain_node *parent, struct slice name);

/* ---- plain_attr.c ---- */

#define PLAIN_PERMISSIONS  0777u
#define PLAIN_SPECIAL_BITS 07000u
#define PLAIN_BLOCK_SIZE   4096u

/* Learns the server's abilities and the attributes of the root. */
int plain_probe(struct plain_work *w);

/* The object at a path. */
struct plain_found {
	struct plain_stat stat;
	uint32_t type; /* S_IFMT */
};
/* op: PLAIN_LOOKUP, which finds out about links, or PLAIN_GETATTR. */
int plain_find(struct plain_work *w, enum plain_op op, struct slice path, struct plain_found *ret);
/* The type in a stat or an entry: S_IFREG where the server does not tell. */
uint32_t plain_type(uint32_t mode, bool is_dir);
struct plain_found plain_found_of(struct plain_work *w, const struct plain_stat *st);
/* Reads a link; the target is ret->data. */
int plain_readlink(struct plain_work *w, struct slice path, struct plain_reply *ret);

/* Asks for the node's attributes and installs them. */
int plain_refresh(struct plain_work *w, struct plain_node *node);
/* Sets reply->attr to the node's attributes, with a new version. */
void plain_reply_attr(struct plain_work *w, struct msg *reply, const struct plain_node *node);
/* Makes the node of a name that f was found at, adds the reply's reference, sets node and attr. */
int plain_reply_entry(struct plain_work *w, struct msg *reply, struct plain_node *parent,
		      struct slice name, struct slice path, const struct plain_found *f);
/* The mode for a request: permissions, and Go's bits for set-id and sticky. */
uint32_t plain_told_mode(uint32_t mode);
/* Gives a file or directory that was just made the permissions that were asked for. */
void plain_fix_mode(struct plain_work *w, struct slice path, uint32_t mode, struct plain_found *f);
/*
 * The request has made the object that the reply names in parent. Where the server tells no owners
 * the object is shown as the caller's, and with the mode asked for.
 */
int plain_made(struct plain_work *w, struct msg *reply, struct plain_node *parent);

/* ---- plain_dir.c ---- */

int plain_listings_new(struct plain_listings **ret);
void plain_listings_free(struct plain_listings *t);

int plain_do_readdir(struct plain_work *w, struct msg *reply);
/* 0 if the parent's listing has dir as a directory, -EPERM if with another type. */
int plain_listed_as_dir(struct plain_work *w, struct plain_node *dir);
/* True if the directory could be listed and has an entry. */
bool plain_not_empty(struct plain_work *w, struct slice path);

/* ---- plain_sure.c ---- */

/*
 * To be called before a change of a node: 0 if its directory and those above it are known to
 * be no symbolic links, as the server told within the last second; for a directory, itself as well.
 * Through a link the server would make the change in another directory. -EPERM: the directory is a
 * link that the server shows as its target. -ESTALE: the directory has become a link.
 */
int plain_sure_of(struct plain_work *w, struct plain_node *node);
/* plain_named and plain_named2, before a change. */
int plain_named_sure(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path);
int plain_named2_sure(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path);

/* ---- plain_file.c ---- */

int plain_files_new(struct plain_files **ret);
void plain_files_free(struct plain_files *t);

int plain_do_open(struct plain_work *w, struct msg *reply);
int plain_do_create(struct plain_work *w, struct msg *reply);
int plain_do_read(struct plain_work *w, struct msg *reply);
int plain_do_write(struct plain_work *w, struct msg *reply);
int plain_do_fsync(struct plain_work *w, struct msg *reply);
int plain_do_close(struct plain_work *w, struct msg *reply);
/* MKNOD of a regular file. */
int plain_make_file(struct plain_work *w, struct msg *reply);
/* SETATTR's part: sets the size of a file. */
int plain_set_size(struct plain_work *w, struct plain_node *node, uint64_t size);
/* The server's handle of the request's open file, 0 without one. */
uint64_t plain_request_fh(struct plain_work *w);

/* ---- plain_setattr.c ---- */

int plain_do_getattr(struct plain_work *w, struct msg *reply);
int plain_do_setattr(struct plain_work *w, struct msg *reply);

/* ---- plain_ops.c ---- */

/* Executes w->call without completing it. Returns 0 or -errno for the reply. */
int plain_execute(struct plain_work *w, struct msg *reply);
