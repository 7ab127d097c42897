/*
 * One request of a plain client, and the functions for all operations: the session, its open
 * files, the places of the request's paths, its caller.
 */
#pragma once

#include "host/creds.h"
#include "host/export.h"
#include "host/promise.h"
#include "host/share.h"
#include "plain/plain_codec.h"
#include "plain_host/plain_host.h"

struct plain_slot {
	int fd;	       /* -1: free */
	uint64_t uses; /* part of the handle: a number is not used twice */
};

/* The field of op 16 that has the target if `data` has none, as the client's requests showed. */
enum plain_symlink {
	SYMLINK_UNKNOWN,
	SYMLINK_NEW_PATH, /* the target is in new_path */
	SYMLINK_PATH,	  /* the target is in path */
};

struct plain_session {
	struct export *export;
	struct hnodes *nodes;
	struct creds creds;
	struct change change; /* the one of the present request */
	struct plain_slot *slots;
	size_t slot_count, open_count;
	struct share files;  /* as many as open_count */
	bool shows_links;    /* no link is followed, see plain_walk */
	bool names_left_out; /* this has been logged */
	bool links_opened;   /* this has been logged */
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
/* The open file of a request that may have a handle instead of a path, or besides. */
bool plain_slot_named(struct plain_job *j, struct plain_slot **ret);

/*
 * The place that path leads to; the caller ends with export_place_done. follow counts for
 * clients that see targets instead of links. For other clients, their own kernel has resolved
 * all links: a link on the way has been put there by the host since, and the object behind it
 * is not the one that the client means (ELOOP).
 */
int plain_walk(struct plain_session *s, struct slice path, bool follow, struct export_place *ret);
/* plain_walk to an object that has to exist. */
int plain_walk_existing(struct plain_session *s, struct slice path, bool follow,
			struct export_place *ret);

/* The Linux mode of a request's mode: clients send Linux bits or Go's. */
mode_t plain_linux_mode(uint32_t mode);

/*
 * 0, or -ESTALE if the host has moved the object of fd out of the export. afterwards: the request
 * has already changed the object, which is logged.
 */
int plain_inside(const struct plain_job *j, int fd, bool afterwards);
/* Breaks the promises about the name at place, and about the object that had the name before. */
void plain_broke_name(struct plain_job *j, const struct export_place *place);
/* Sets the reply's stat to that of fd. */
int plain_reply_stat(struct plain_job *j, int fd);
/* Until creds_restore, new files belong to the request's caller. */
int plain_assume_caller(struct plain_job *j);
/*
 * Takes the set-id bits off. A write by a privileged server leaves them on the file,
 * where the kernel would take them off for the caller (CVE-2021-20263).
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
