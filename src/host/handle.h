/*
 * The open files of one session.
 *
 * A handle belongs to its session: its number means nothing to another one,
 * and is never used again. handle_get takes a reference, so that CLOSE can
 * come while a READ is still running; the file is closed with the last one.
 * Thread-safe. The number of handles of all sessions together is bounded by
 * the budget they share: -ENFILE, never a silent loss.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/hnode.h"
#include "host/idmap.h"

struct handle_budget {
	_Atomic size_t used;
	size_t max;
};

struct handle {
	struct hnode *node; /* a reference */
	struct hnode_user user;
	int fd;
	int access;		  /* O_RDONLY, O_WRONLY, O_RDWR */
	bool append;		  /* an append-only file (chattr +a): fd has O_APPEND */
	pthread_mutex_t position; /* the file's offset: append, lseek */
	_Atomic unsigned refs;
	struct handle *next; /* of whoever removed it */
};

struct handles {
	struct hnodes *nodes;
	struct handle_budget *budget;
	pthread_mutex_t mutex;
	struct idmap map; /* fh to struct handle */
	uint64_t last;
};

void handles_init(struct handles *t, struct hnodes *nodes, struct handle_budget *budget);
/* Closes all; nobody may hold a reference any more. */
void handles_done(struct handles *t);

/* False if handle_add would say -ENFILE now: ask before creating a file. */
bool handles_room(const struct handles *t);

/* Takes over fd, also on failure; takes its own reference of n. */
int handle_add(struct handles *t, struct hnode *n, int fd, int access, uint64_t *ret_fh);

/* NULL if there is none of that number; to be given back with handle_put. */
struct handle *handle_get(struct handles *t, uint64_t fh);
void handle_put(struct handles *t, struct handle *h); /* NULL is allowed */

/* The handle with its last number's reference, which the caller puts; NULL if there is none. */
struct handle *handle_remove(struct handles *t, uint64_t fh);
