/* Declarations that the files of the notifiers share: notify.c says which is which. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "core/hash.h"
#include "fuse/notify.h"

#define NOTIFIERS 4 /* half of them for entries */

#define MS	 UINT64_C(1000000)
#define PARK_MAX (20 * MS) /* an entry is held back no longer, if the host answers at all */

#define ACKS_MAX 64 /* acknowledgements that wait; more become one */

struct notification {
	struct notification *next;	    /* of the queue, or of those that wait for their time */
	struct notification *prev;	    /* of the latter */
	struct notification *older, *newer; /* of all that are not done */
	struct hash_link same;		    /* notify.same, if hashed */
	bool hashed;			    /* queued or waiting, and stands for its equals */
	uint64_t ticket;		    /* ascending */
	/*
	 * Of what the host has changed, until it is done: of n->host_inodes or n->host_entries;
	 * an entry leaves the latter when a reply is given past it, and counts in its directory.
	 */
	struct chain *chain;
	struct notification *chain_older, *chain_newer;
	uint64_t host_ticket; /* ascending in a chain */
	struct passed_dir *passed;
	bool back; /* takes back what the kernel has of a directory whose names were passed */
	uint64_t ino;
	bool nothing; /* only done is called */
	bool entry;   /* a name in ino, and ino's listing; else ino itself */
	bool data;    /* with pages from off on, len of them or all (0) */
	bool settles; /* an entry: only to wait for a lock (cache_sink.settle) */
	bool held_up; /* which a held reply keeps, as was seen last */
	bool asks;    /* for the size as well, if the file is open, when all else is done */
	bool asked;   /* it has; or that is not to be */
	bool expires; /* again, since a task may have given the name its time back */
	enum entry_way way;
	bool parked;	   /* behind a request in the directory, or behind one for the pages */
	bool pages_parked; /* counted in notify.pages_parked */
	uint64_t running;  /* inside the kernel since then; 0: not */
	unsigned tries;
	unsigned drops; /* how often cache_pages_dropped is to be called */
	uint64_t born, not_before;
	uint64_t news;	  /* when it was last asked for */
	uint64_t changed; /* on the host, on our clock; 0: it is no push */
	uint64_t off, len;
	void (*done)(void *arg);
	void *arg;
	struct notify *notify;
	uint32_t outlives; /* outlive_name, of an entry */
	uint32_t serial;   /* with settles: of node; */
	uint32_t task;	   /* which is to go on, too, unless 0 */
	uint64_t cpu;	   /* task_went_on */
	uint64_t node;
	size_t name_len;
	char name[];
};

struct chain {
	struct notification *oldest, *newest;
};

/*
 * A directory in which names that the host has changed are still to be told, past which a
 * reply that synchronises was given. Its attributes have been taken back: so whoever goes
 * through it asks for them, and is answered when the names have been told.
 */
struct passed_dir {
	struct hash_link link; /* notify.passed */
	uint64_t ino;
	unsigned count; /* of its items */
};

/* An acknowledgement is to be sent when everything of the host's up to ticket is done. */
struct ack {
	uint64_t ticket, seq, deadline, born;
	bool passed; /* names that may be held up are not waited for */
};

struct shard {
	struct notify *notify;
	pthread_t thread;
	pid_t tid; /* of that; 0: there is none */
	pthread_cond_t work;
	struct notification *head, **tail;
	struct notification *waiting, *last_waiting; /* by not_before */
	struct notification *running;
};

struct notify {
	struct fs *fs;
	struct mounts *mounts;
	pthread_mutex_t lock; /* all that follows */
	struct shard shards[NOTIFIERS];
	unsigned started;
	uint64_t ticket;
	struct notification *oldest, *newest;
	size_t count;		/* of items */
	struct hash_table same; /* those that others may be merged into, by what they are about */
	struct notify_fence *fences;
	uint64_t host_ticket;
	struct chain host_inodes, host_entries;
	/* those whose size is asked for, all else being done, and what settles one; no order */
	struct chain host_sizes;
	unsigned backs; /* items with back */
	struct hash_table passed;
	atomic_uint n_host, n_passed; /* items in the two chains; directories in passed */
	struct ack acks[ACKS_MAX];    /* ascending */
	unsigned n_acks;
	unsigned pages_parked; /* items whose pages are */
	bool stopping;
	void *unreadable; /* a page, without the lock */
};

enum outcome { DONE, AGAIN, WAITS, PARKED };

/* ---- notify_queue.c: what is not done yet ---- */

_Noreturn void notify_no_memory(void);
struct notification *item_new(uint64_t ino, const char *name, size_t len);
struct shard *notify_shard(struct notify *n, uint64_t ino, bool entry);
void item_enqueue_locked(struct notify *n, struct notification *i);
void shard_wait_locked(struct shard *s, struct notification *i, uint64_t not_before);
void shard_unwait_locked(struct shard *s, struct notification *i);
void item_unhash_locked(struct notify *n, struct notification *i);
void item_unchain_locked(struct notify *n, struct notification *i);
void item_asks_locked(struct notify *n, struct notification *i);
struct passed_dir *notify_passed_locked(const struct notify *n, uint64_t ino);
void notify_add_locked(struct notify *n, struct notification *i, bool host);
void notify_add(struct notify *n, struct notification *i);
void item_finish_locked(struct notify *n, struct notification *i);
void item_done(const struct notification *i);
void item_rejoin_locked(struct notify *n, struct notification *i);

/* ---- notify_wait.c: who waits for it ---- */

void notify_say_locked(struct notify *n);
void notify_mark(void *arg, uint64_t seq);

/* ---- notify_kernel.c: doing it ---- */

enum outcome notify_do_inode(struct notify *n, struct notification *i);
enum outcome notify_do_entry(struct notify *n, struct notification *i);
enum outcome notify_do_size(struct notify *n, const struct notification *i);
bool notify_ask_size(struct notify *n, struct notification *i);
/* Replies that force a size have been written: until then their tasks sleep. */
void notify_after_forced(struct notify *n);
