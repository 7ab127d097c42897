/*
 * One request of a plain client, and what all operations need for it: its session, its open
 * files, where its paths lead, its caller.
 */
#pragma once

#include "host/creds.h"
#include "host/export.h"
#include "host/promise.h"
#include "plain/plain_codec.h"
#include "plain_host/plain_host.h"

struct plain_slot {
	int fd;	       /* -1: free */
	uint64_t uses; /* part of the handle: a number is not used twice */
};

/* Which fields of op 16 mean what, where `data` has no target; seen from what a client sends. */
enum plain_symlink {
	SYMLINK_UNKNOWN,
	SYMLINK_NEW_PATH, /* the target is in new_path */
	SYMLINK_PATH,	  /* the target is in path */
};

struct plain_session {
	struct export *export;
	struct hnodes *nodes;
	struct creds creds;
	struct change change; /* of the request at hand */
	struct plain_slot *slots;
	size_t slot_count, open_count;
	bool shows_links;    /* no link is followed, see plain_walk */
	bool names_left_out; /* logged */
	bool links_opened;   /* logged */
	enum plain_symlink symlink;
	struct plain_buf reply, entries;
	unsigned char *data; /* of a read or readlink */
	size_t data_cap;
};

#define PLAIN_NO_PLACE                                                                             \
	{                                                                                          \
		.dirfd = -1, .object = -1                                                          \
	}

/* One request. Operations return 0 or -errno and fill *p; plain_handle ends the places. */
struct plain_job {
	struct plain_session *s;
	const struct plain_request *q;
	struct plain_reply *p;
	struct export_place place;  /* of q->path */
	struct export_place place2; /* of q->new_path */
};

int plain_slot_find(struct plain_session *s, uint64_t fh, struct plain_slot **ret); /* -EBADF */
/* Takes over fd, also on failure. */
int plain_slot_add(struct plain_session *s, int fd, uint64_t *ret_fh);
/* The open file of a request that may name one instead of a path, or with it. */
bool plain_slot_named(struct plain_job *j, struct plain_slot **ret);

/*
 * Where path leads; the caller ends with export_place_done. follow counts for clients
 * to whom links show as their targets. For the others their own kernel has resolved
 * all links: one on the way has been put there by the host since, and what is beyond
 * it is not what the client means (ELOOP).
 */
int plain_walk(struct plain_session *s, struct slice path, bool follow, struct export_place *ret);
/* The same, of something that is to be there. */
int plain_walk_existing(struct plain_session *s, struct slice path, bool follow,
			struct export_place *ret);

/* Of a request: clients send Linux bits or Go's. */
mode_t plain_linux_mode(uint32_t mode);

/*
 * 0, or -ESTALE if the host has moved what fd is out of the export. afterwards: something has been
 * done to it, and that is logged.
 */
int plain_inside(const struct plain_job *j, int fd, bool afterwards);
/* The name at place, and what was there before, have changed. */
void plain_broke_name(struct plain_job *j, const struct export_place *place);
/* Sets the reply's stat to fd's. */
int plain_reply_stat(struct plain_job *j, int fd);
/* Until creds_restore, what is made belongs to the request's caller. */
int plain_assume_caller(struct plain_job *j);
/*
 * A write by a privileged server leaves the set-id bits where the kernel
 * would take them from the caller's (CVE-2021-20263).
 */
void plain_drop_setid(struct plain_session *s, int fd);
/* Makes s->data hold cap bytes. */
int plain_data_reserve(struct plain_session *s, size_t cap);

/* ---- serve_attr.c ---- */

int plain_serve_lookup(struct plain_job *j);
int plain_serve_getattr(struct plain_job *j);
int plain_serve_setattr(struct plain_job *j);
int plain_serve_truncate(struct plain_job *j);
int plain_serve_times(struct plain_job *j);

/* ---- serve_file.c ---- */

int plain_serve_create(struct plain_job *j);
int plain_serve_open(struct plain_job *j);
int plain_serve_release(struct plain_job *j);
int plain_serve_read(struct plain_job *j);
int plain_serve_write(struct plain_job *j);
int plain_serve_fsync(struct plain_job *j);

/* ---- serve_name.c ---- */

int plain_serve_mkdir(struct plain_job *j);
int plain_serve_mkdirall(struct plain_job *j);
int plain_serve_remove(struct plain_job *j);
int plain_serve_rename(struct plain_job *j);
int plain_serve_symlink(struct plain_job *j);
int plain_serve_readlink(struct plain_job *j);
int plain_serve_link(struct plain_job *j);
int plain_serve_readdir(struct plain_job *j);
