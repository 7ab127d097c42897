/*
 * What plain.c (session, attributes, open files) and plain_names.c (names and
 * listings) share.
 */
#pragma once

#include "host/creds.h"
#include "host/export.h"
#include "host/plain.h"
#include "host/promise.h"
#include "plain/plain_codec.h"

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
/* Makes s->data hold cap bytes. */
int plain_data_reserve(struct plain_session *s, size_t cap);

int plain_serve_mkdir(struct plain_job *j);
int plain_serve_mkdirall(struct plain_job *j);
int plain_serve_remove(struct plain_job *j);
int plain_serve_rename(struct plain_job *j);
int plain_serve_symlink(struct plain_job *j);
int plain_serve_readlink(struct plain_job *j);
int plain_serve_link(struct plain_job *j);
int plain_serve_readdir(struct plain_job *j);
