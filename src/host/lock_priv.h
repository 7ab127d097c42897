/*
 * What lock.c (the operations), lock_wait.c (those that wait) and lock_file.c (what is locked)
 * share; each calls those after it.
 *
 * Order of mutexes: lock_node.mutex, then locks.mutex, or those of watch.c and hnode.c. The lists
 * of files, ranges and waiters change under locks.mutex, files and ranges under their node's as
 * well: whoever holds either may read them. System calls run under the node's only.
 */
#pragma once

#include <fcntl.h>
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
	int guests;	     /* -1, or of lock_node.guests: taken before fd */
	unsigned waiters;    /* threads that block on fd */
	unsigned generation; /* counts lock_file_release */
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
	int guests; /* -1, or what guests of a read-only export lock among themselves; mutex */
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

/* ---- lock_file.c ---- */

/* A lock_node with a reference, made if make; NULL if there is none. */
struct lock_node *lock_node_get(struct locks *t, struct hnode *node, bool make);
void lock_node_put(struct locks *t, struct lock_node *ln);

/* The rest with ln->mutex held, but for lock_host. */
struct lock_file *lock_file_find(struct lock_node *ln, const struct lock_session *s, uint64_t owner,
				 bool bsd);
int lock_file_make(struct lock_session *s, struct lock_node *ln, const struct lock_request *q,
		   struct lock_file **ret);
/* Something is locked through this open file of the guest; remove: true if that was the last. */
int lock_file_add_fh(struct lock_file *f, uint64_t fh);
bool lock_file_remove_fh(struct lock_file *f, uint64_t fh);
/* Closes f if it holds nothing and nobody waits through it. */
void lock_settle(struct locks *t, struct lock_node *ln, struct lock_file *f);
/* Gives back all that f holds, and settles it. */
void lock_file_release(struct locks *t, struct lock_node *ln, struct lock_file *f);

struct flock lock_to_flock(const struct lock_request *q);
/* One system call; 0 or -errno, -EAGAIN if somebody else has it and !wait. */
int lock_host(const struct lock_file *f, const struct lock_request *q, bool wait);
/* Writes down what the host has granted; under ln->mutex list and host agree. */
int lock_record(struct locks *t, struct lock_file *f, const struct lock_request *q);

/* ---- lock_wait.c ---- */

/* ln->mutex is held. On success, -EINPROGRESS, a reference of ln is taken over. */
int lock_start_waiter(struct lock_session *s, struct lock_node *ln, struct lock_file *f,
		      const struct lock_request *q, const struct lock_wait *wait);

/* Interrupts w until it has left, or for a second. */
void lock_cancel_locked(struct locks *t, struct waiter *w);

/* Joins the threads of waiters that have finished; all: also waits for the others. */
void lock_reap(struct lock_session *s, bool all);
