/*
 * Locks of guests, held on the host: other guests and the host's own programs
 * see them.
 *
 * Each (session, node, owner, kind) has one private open file description: a
 * POSIX lock of the guest is an open-file-description lock there (fcntl(2),
 * F_OFD_SETLK), because plain POSIX locks would all belong to the server's
 * process and be released whenever the process closes any descriptor of the file;
 * a BSD lock is flock(2). The locks of each POSIX owner are kept in a list as well,
 * for the owner's pid (F_GETLK) and for deadlocks among our own clients, which the
 * kernel does not look for with such locks.
 *
 * A lock that has to wait has a thread of its own for that, so that other requests
 * are executed; a signal (LOCK_SIGNAL) without SA_RESTART interrupts the wait.
 *
 * One struct locks per server, one struct lock_session per client; all
 * functions are thread-safe. Ranges are [start, end], both inside.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/range.h"

#define LOCK_SIGNAL	 (SIGRTMIN + 5)
#define LOCK_WAITERS_MAX 128   /* of a session; more: ENOLCK */
#define LOCK_WAITERS_ALL 1024  /* of all sessions; each is a thread */
#define LOCK_RANGES_MAX	 65536 /* of a session */

struct export;
struct hnode;
struct hnodes;
struct locks;
struct lock_session;

/* fd_max: open file descriptions for locks, of all sessions. Installs the signal's handler. */
int locks_new(const struct export *e, struct hnodes *nodes, size_t fd_max, struct locks **ret);
void locks_free(struct locks *t);

int lock_session_new(struct locks *t, struct lock_session **ret);
/* The session is in the state: its locks are, too. Before the first of them. */
struct state;
void lock_session_use_record(struct lock_session *s, struct state *state, uint32_t session);
/* Takes a lock of the state again, if nobody has another one: 0 or -errno. The record goes. */
int lock_restore(struct lock_session *s, struct hnode *node, uint32_t record);
/* Whether it has locks, or waits for one. */
bool lock_session_holds(const struct lock_session *s);
/* Interrupts every waiter, waits for it, and releases all. NULL is allowed. */
void lock_session_free(struct lock_session *s);

struct lock_request {
	struct hnode *node;
	uint64_t fh; /* the open file through which it is locked: its CLOSE releases */
	uint64_t owner;
	uint64_t pid;
	bool bsd;
	enum range_type type;
	uint64_t start, end; /* at most INT64_MAX, which is the end of any file */
};

/* done is called on the waiter's thread with the result of a lock that had to wait: 0 or -errno. */
struct lock_wait {
	uint64_t id; /* for lock_cancel; not 0 */
	void (*done)(void *arg, int result);
	void *arg;
};

/*
 * Sets or releases a lock. wait NULL: -EAGAIN if another owner has a lock in the
 * way. Otherwise -EINPROGRESS says that wait->done will be called, exactly once.
 * -EDEADLK: the owner in the way waits, directly or over others, for this owner.
 */
int lock_set(struct lock_session *s, const struct lock_request *q, const struct lock_wait *wait);

/* Ends the waiter with -EINTR, unless it has the lock already. Unknown ids are ignored. */
void lock_cancel(struct lock_session *s, uint64_t id);

struct lock_conflict {
	enum range_type type; /* RANGE_NONE: nobody's lock is in the way */
	uint64_t start, end;
	uint64_t pid; /* 0: not a process of this guest */
};

/* fd: an open file of the node. POSIX locks only. */
int lock_test(struct lock_session *s, const struct lock_request *q, int fd,
	      struct lock_conflict *ret);

/* A close(2) in the guest: releases the owner's POSIX locks on the node, its BSD lock if bsd. */
void lock_release_owner(struct lock_session *s, struct hnode *node, uint64_t owner, bool bsd);

/*
 * An open file is closed: releases the locks that were set through it and through no
 * other one. An open-file-description lock of the guest has an owner that no FLUSH names.
 */
void lock_release_handle(struct lock_session *s, struct hnode *node, uint64_t fh);
