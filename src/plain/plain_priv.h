/*
 * What the files of the plain client share: plain_client.c (queue, thread,
 * link), plain_ops.c (dispatch, names), plain_attr.c (attributes), plain_file.c
 * (open files), plain_dir.c (listings).
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
#include "plain/plain_nodes.h"

/* How the server deals with symbolic links; seen at the start and from its replies. */
enum plain_links {
	LINKS_NONE,	/* no op 17: they are followed and cannot be told from their targets */
	LINKS_FOLLOWED, /* lookup follows: op 17 tells */
	LINKS_TOLD,	/* `mode` tells (PLAIN_MODE_LINK), lookup does not follow */
};

struct plain_files;
struct plain_listings;

struct plain_client;

/* The worker's state. */
struct plain_work {
	struct plain_client *client;
	struct plain_nodes *nodes;
	struct plain_files *files;
	struct plain_listings *listings;
	enum plain_links links;
	bool no_truncate;  /* op 15 was answered -38 */
	uint32_t uid, gid; /* the shown owner */
	uint64_t version;  /* of attributes */
	struct call *call; /* that is executed */
	/* Paths of the request under way: slices from plain_path and plain_path2. */
	char *path[2];
	size_t path_cap[2];
	unsigned char *payload; /* MSG_PAYLOAD_MAX bytes for replies without call->dest */
};

/* ---- plain_client.c ---- */

/*
 * One request and its reply, whose slices are valid until the next exchange.
 * The caller's ids are added. Returns 0, the server's error, or -ENOTCONN when
 * the link is or gets lost.
 */
int plain_exchange(struct plain_work *w, struct plain_request *q, struct plain_reply *ret);
/* The server broke the protocol: logs it once and ends the link. Returns -ENOTCONN. */
int plain_lost(struct plain_work *w, const char *why);
uint64_t plain_now_ms(void);

/* ---- plain_ops.c ---- */

#define PLAIN_NO_NAME ((struct slice){NULL, 0})

/* Executes w->call, all but its completion. Returns 0 or -errno for the reply. */
int plain_execute(struct plain_work *w, struct msg *reply);

/* The path of node, or of name in it (name.len 0: none); 2 for a second one at the same time. */
int plain_path(struct plain_work *w, const struct plain_node *node, struct slice name,
	       struct slice *ret);
int plain_path2(struct plain_work *w, const struct plain_node *node, struct slice name,
		struct slice *ret);
/* 0 for a component that may be sent: -EILSEQ for one that is not UTF-8. */
int plain_name_check(struct slice name);
/* The node of a request; -ESTALE for an unknown one. */
int plain_node(struct plain_work *w, uint64_t id, struct plain_node **ret);

/* Takes the name of whatever node is called so. */
void plain_forget_name(struct plain_work *w, const struct plain_node *parent, struct slice name);

/* ---- plain_attr.c ---- */

#define PLAIN_PERMISSIONS  0777u
#define PLAIN_SPECIAL_BITS 07000u
#define PLAIN_BLOCK_SIZE   4096u

/* Learns what the server can do and the attributes of the root. */
int plain_probe(struct plain_work *w);

/* What is at a path. */
struct plain_found {
	struct plain_stat stat;
	bool is_link;
};
/* op: PLAIN_LOOKUP, which finds out about links, or PLAIN_GETATTR. */
int plain_find(struct plain_work *w, enum plain_op op, struct slice path, struct plain_found *ret);
uint32_t plain_type(const struct plain_found *f); /* S_IFREG, S_IFDIR, S_IFLNK */
bool plain_told_as_link(const struct plain_stat *st);
/* The target is ret->data. */
int plain_readlink(struct plain_work *w, struct slice path, struct plain_reply *ret);

/* Installs what was found as the node's attributes; -ESTALE if it is of another type now. */
int plain_install(struct plain_work *w, struct plain_node *node, struct slice path,
		  const struct plain_found *f);
/* Asks for the node's attributes and installs them. */
int plain_refresh(struct plain_work *w, struct plain_node *node);
/* Sets reply->attr to the node's, as of now. */
void plain_reply_attr(struct plain_work *w, struct msg *reply, const struct plain_node *node);
/* Makes the node of a name that f was found at, adds the reply's reference, sets node and attr. */
int plain_reply_entry(struct plain_work *w, struct msg *reply, struct plain_node *parent,
		      struct slice name, struct slice path, const struct plain_found *f);
/* For a fresh file or directory: makes its permissions those asked for. */
void plain_fix_mode(struct plain_work *w, struct slice path, uint32_t mode, struct plain_found *f);

int plain_do_getattr(struct plain_work *w, struct msg *reply);
int plain_do_setattr(struct plain_work *w, struct msg *reply);

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

/* ---- plain_dir.c ---- */

int plain_listings_new(struct plain_listings **ret);
void plain_listings_free(struct plain_listings *t);

int plain_do_readdir(struct plain_work *w, struct msg *reply);
/* True if the directory could be listed and has an entry. */
bool plain_not_empty(struct plain_work *w, struct slice path);
