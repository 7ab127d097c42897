/*
 * Structures of lock.c.
 *
 * Order of mutexes: lock_node.mutex, then locks.mutex. The lists of files,
 * ranges and waiters change under locks.mutex, files and ranges under their
 * node's as well: whoever holds either may read them. System calls run under
 * the node's only.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "host/idmap.h"
#include "host/lock.h"

/* One owner's open file description. */
struct lock_file {
	struct lock_file *next;
	struct lock_session *session;
	uint64_t owner;
	bool bsd;
	int fd;
	unsigned waiters;    /* threads that block on fd */
	unsigned generation; /* counts release_all */
	struct ranges ranges;
	bool bsd_held;
	uint64_t *fhs; /* open files that were locked through; lock_node.mutex */
	size_t n_fhs;
};

/* A node somebody has locked. */
struct lock_node {
	struct hnode *node;
	unsigned refs; /* operations that run; locks.mutex */
	pthread_mutex_t mutex;
	struct lock_file *files;
};

struct waiter {
	struct waiter *next;
	struct lock_session *session;
	struct lock_node *node; /* a reference */
	struct lock_file *file;
	struct lock_request q;
	struct lock_wait wait;
	pthread_t thread;

	/* locks.mutex */
	bool cancelled;
	bool left;     /* does not wait any more */
	bool finished; /* done has run: join it */
	unsigned pins; /* lock_cancel looks at it */
	uint64_t mark; /* deadlock search */
	struct waiter *queued;
};

struct lock_session {
	struct locks *locks;
	_Atomic size_t files;
	_Atomic size_t ranges;

	/* locks.mutex */
	struct waiter *waiters;
	size_t n_waiters; /* that have not left */
	bool ending;
};

struct locks {
	const struct export *export;
	struct hnodes *nodes;
	size_t fd_max;
	_Atomic size_t fds;
	pthread_attr_t attr;
	pthread_mutex_t mutex;
	pthread_cond_t cond; /* a waiter left */

	/* mutex: */
	struct idmap map; /* node id to struct lock_node */
	uint64_t search;
};
