/*
 * The open files of one session.
 *
 * A handle belongs to its session: its number means nothing to another one,
 * and is never used again. handle_get takes a reference, so that CLOSE can
 * come while a READ is still running; the file is closed with the last one.
 * Thread-safe. The number of handles of all sessions together is bounded, and each
 * has a share of them (share.h): -ENFILE, never a silent loss. A client may keep open what nobody
 * uses, up to what its session is granted of that.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/hnode.h"
#include "host/idmap.h"
#include "host/share.h"

struct state;

struct handle_pool {
	struct share_pool pool;
	atomic_size_t granted; /* of it, to keep for later */
};

struct handle {
	struct hnode *node; /* a reference */
	struct hnode_user user;
	int fd;
	int flags;		  /* of open(2), as opened */
	bool append;		  /* an append-only file (chattr +a): fd has O_APPEND */
	bool eager;		  /* OPEN_GIVE_UP */
	pthread_mutex_t writable; /* covers the next two members */
	unsigned writers;	  /* requests that are writing */
	bool given_up; /* fd is open for reading only, until the next request that writes */
	pthread_mutex_t position; /* covers the file's offset, which append and lseek use */
	_Atomic unsigned refs;
	uint32_t record;     /* of the state; 0: none */
	bool listed;	     /* handles.mutex: see handles_unlist */
	struct handle *next; /* of whoever removed it */
};

struct handles {
	struct hnodes *nodes;
	struct handle_pool *pool;
	struct share share;
	struct state *state; /* handles_use_record */
	uint32_t session;    /* its record; 0: none */
	size_t granted;	     /* constant */
	pthread_mutex_t mutex;
	struct idmap map; /* fh to struct handle */
	uint64_t last;
};

/* keeps: the client asks how many open files it may keep. */
void handles_init(struct handles *t, struct hnodes *nodes, struct handle_pool *pool, bool keeps);
/* How many open files the client may keep that nobody uses. */
size_t handles_granted(const struct handles *t);
/* The session is in the state: its open files are, too. Before the first of them. */
void handles_use_record(struct handles *t, struct state *state, uint32_t session);
/* An open file of the state, opened anew: fd is taken over, also on failure. */
int handle_restore(struct handles *t, struct hnode *n, int fd, uint32_t record);
/* Closes all; nobody may hold a reference any more. */
void handles_done(struct handles *t);

/* False if handle_add would say -ENFILE now: ask before creating a file. */
bool handles_room(const struct handles *t);

/*
 * Takes over fd, also on failure; takes its own reference of n. flags: those that fd was opened
 * with, and eager whether OPEN_GIVE_UP came with them.
 */
int handle_add(struct handles *t, struct hnode *n, int fd, int flags, bool eager, uint64_t *ret_fh);

/*
 * Opens a file anew, as op_OPEN does: only regular files of the export, and only as the export
 * allows.
 */
struct export;
int handle_reopen(const struct export *e, int object, int flags, int *ret_fd);
/* Opens the file of another session's handle for this one, under that number. 0 or -errno. */
int handle_copy(struct handles *t, const struct export *e, const struct handle *from, uint64_t fh);

/* NULL if no handle has that number; to be given back with handle_put. */
struct handle *handle_get(struct handles *t, uint64_t fh);
void handle_put(struct handles *t, struct handle *h); /* NULL is allowed */

/*
 * The files that the client has open after a connection was lost: those that are not listed since
 * handles_unlist are told, so many at once. No other request runs meanwhile.
 */
void handles_unlist(struct handles *t);
void handle_list(struct handles *t, uint64_t fh);
size_t handles_unlisted(struct handles *t, uint64_t *fhs, size_t max);

/* The handle with its last number's reference, which the caller puts; NULL if there is none. */
struct handle *handle_remove(struct handles *t, uint64_t fh);

/*
 * A file that is open for writing anywhere cannot be executed (ETXTBSY), and the client's RELEASE
 * comes after its close(2) has returned. So a descriptor for writing of a file that may be executed
 * is exchanged for one for reading when the client flushes, under the same number, and back when
 * the client writes again. A caller that needs a descriptor for writing calls begin before, and end
 * afterwards.
 *
 * handle_give_up does nothing while a request writes, or where the file could not be opened for
 * writing again.
 */
int handle_write_begin(const struct export *e, struct handle *h); /* 0 or -errno */
void handle_write_end(const struct export *e, struct handle *h);
void handle_give_up(const struct export *e, struct handle *h);

/* Gives up all handles of the node, or opens them for writing again while that is possible. */
void handles_give_up(struct handles *t, const struct export *e, const struct hnode *n);
void handles_take_back(struct handles *t, const struct export *e, const struct hnode *n);
