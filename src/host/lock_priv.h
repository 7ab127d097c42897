/*
 * The structs of lock.c (the operations), lock_wait.c (locks that wait) and lock_file.c (locks that
 * are held); each of these files calls only those named after it.
 *
 * Order of mutexes: lock_node.mutex, then locks.mutex, or those of watch.c and hnode.c. The lists
 * of files, ranges and waiters change under locks.mutex, files and ranges under their node's mutex
 * as well, so that a thread that holds either may read them. System calls are made under the node's
 * mutex only.
 */
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "host/idmap.h"
#include "host/lock.h"
#include "host/share.h"

/* One owner's open file description. */
struct lock_file {
	struct lock_file *next;
	struct lock_file *next_own, *prev_own; /* of the session's; locks.mutex */
	struct lock_node *node;
	struct lock_session *session;
	uint64_t owner;
	bool bsd;
	int fd;
	int guests;	     /* -1, or a description of lock_node.guests: locked before fd */
	unsigned waiters;    /* threads that block on fd */
	unsigned generation; /* counts lock_file_release */
	uint32_t *records;   /* of the state, of what it holds; lock_node.mutex */
	size_t n_records;
	struct ranges ranges;
	bool bsd_held;
	enum range_type bsd_type;
	uint64_t *fhs; /* the open files through which locks were set; lock_node.mutex */
	size_t n_fhs;
};

/* A node somebody has locked. */
struct lock_node {
	struct hnode *node;
	unsigned refs; /* operations that run; locks.mutex */
	pthread_mutex_t mutex;
	struct lock_file *files;
	int guests; /* -1, or the file that guests of a read-only export lock; mutex */
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
	bool left;     /* the thread does not wait any more */
	bool finished; /* done has returned: the thread can be joined */
	unsigned pins; /* calls of lock_cancel that use this waiter */
	uint64_t mark; /* deadlock search */
	struct waiter *queued;
};

struct lock_session {
	struct locks *locks;
	struct state *state;
	uint32_t record; /* the session's; 0: none */
	struct share fds, waiting;
	_Atomic size_t files;
	_Atomic size_t ranges;

	/* locks.mutex */
	struct lock_file *first;
	struct waiter *waiters;
	size_t n_waiters; /* that have not left */
	bool ending;
};

struct locks {
	const struct export *export;
	struct hnodes *nodes;
	struct share_pool fds, waiting;
	pthread_attr_t attr;
	pthread_mutex_t mutex;
	pthread_cond_t cond; /* a waiter left */

	/* mutex: */
	struct idmap map; /* node id to struct lock_node */
	uint64_t search;
};

/* ---- lock_file.c ---- */

/* The lock_node of a node, with a reference; NULL if there is none and make is false. */
struct lock_node *lock_node_get(struct locks *t, struct hnode *node, bool make);
void lock_node_put(struct locks *t, struct lock_node *ln);

/* All functions below but lock_host are called with ln->mutex held. */
struct lock_file *lock_file_find(struct lock_node *ln, const struct lock_session *s, uint64_t owner,
				 bool bsd);
int lock_file_make(struct lock_session *s, struct lock_node *ln, const struct lock_request *q,
		   struct lock_file **ret);
/* Notes that a lock was set through this open file of the guest; remove: true if it was the
 * last. */
int lock_file_add_fh(struct lock_file *f, uint64_t fh);
bool lock_file_remove_fh(struct lock_file *f, uint64_t fh);
/* Closes f if it holds no lock and no thread waits through it. */
void lock_settle(struct locks *t, struct lock_node *ln, struct lock_file *f);
/* Releases all locks that f holds, and settles f. */
void lock_file_release(struct locks *t, struct lock_node *ln, struct lock_file *f);

struct flock lock_to_flock(const struct lock_request *q);
/* Makes one system call; 0 or -errno, -EAGAIN if another owner has the lock and !wait. */
int lock_host(const struct lock_file *f, const struct lock_request *q, bool wait);
/* Notes the lock that the host has granted: under ln->mutex the list and the host agree. */
int lock_record(struct locks *t, struct lock_file *f, const struct lock_request *q);
/* Writes down in the state what f holds now. */
void lock_file_record(struct lock_node *ln, struct lock_file *f);

/* ---- lock_wait.c ---- */

/* ln->mutex is held. On success, -EINPROGRESS, a reference of ln is taken over. */
int lock_start_waiter(struct lock_session *s, struct lock_node *ln, struct lock_file *f,
		      const struct lock_request *q, const struct lock_wait *wait);

/* Interrupts w until it has left, at most for a second. */
void lock_cancel_locked(struct locks *t, struct waiter *w);

/* Joins the threads of waiters that have finished; all: also waits for the others. */
void lock_reap(struct lock_session *s, bool all);
