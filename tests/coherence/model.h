/*
 * A model of a few names, files, directories and locks, which processes on the host and in mounts
 * change and look at all the while, and what each of them may see of it.
 *
 * Whoever changes something holds a mutex of the model for it, so that the states of each *name*
 * (which object it leads to) and of each *object* (size, bytes, mode, mtime) follow one another.
 * Each state is noted before the call that makes it, with the time; the time of its return is
 * noted afterwards. Nobody holds anything to look. A look may find the states
 *
 * - from the last one on that must show to it: on the host all calls that had returned before the
 *   look began; in a mount those of this server's mounts that had, and those of the host that
 *   had returned before this process last *synchronised*, or that are as old as `settle_ns`;
 * - up to the last one that had begun when the look was over.
 *
 * And no process sees a thing go back. All else is impossible, and reported with what was done.
 *
 * A process synchronises when a lock is granted to it, and when a create, mkdir, mknod, symlink,
 * link, rename, unlink or rmdir of its succeeds. What had returned before the call began counts,
 * and for a lock what had before its last holder began to let go.
 *
 * Failures of the program itself end it with exit code 3.
 */
#pragma once

#include "../posix/prng.h"
#include "clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define PLACES_MAX   5 /* the host and four mounts */
#define WORKERS_MAX  64
#define DIRS	     3
#define NAMES_IN_DIR 5
#define MOVERS	     5 /* names among which three directories are moved, and never removed */
#define NAMES	     (DIRS * NAMES_IN_DIR + MOVERS)
#define OBJECTS	     2048
#define NAME_RING    512
#define STATE_RING   128
#define SLOTS	     14
#define SLOT_LEN     1000 /* so that no end of a file is the end of a page */
#define FILE_MAX     (SLOTS * SLOT_LEN)
#define HOT	     8
#define KEPT	     5
#define KINDS	     40 /* of calls, at least */

#define ABSENT	 0u
#define ANY	 UINT32_MAX /* a link that is being made: to which of the objects is not known yet */
#define NO_BYTES UINT32_MAX /* of a slot: beyond the end */
#define ZEROS	 0u	    /* of a slot: a truncation made the file longer */

/* ---- what was done --------------------------------------------------------------------------- */

struct span {
	uint64_t begin;
	_Atomic uint64_t end; /* 0: it has not returned */
	unsigned who, place;
	atomic_bool nothing; /* it changed nothing, and need not show */
	const char *op;
};

/*
 * Displaced: by a rename in a mount whose kernel may still have had something else under the old
 * name. It moves what it had, and takes that back behind the reply: doc/coherence.md, "The races".
 */
struct binding {
	struct span span;
	_Atomic uint32_t object;
	atomic_bool displaced;
};

struct name {
	pthread_mutex_t lock;
	atomic_uint count; /* of bindings so far; the latest NAME_RING are there */
	struct binding ring[NAME_RING];
};

struct state {
	struct span span;
	uint32_t size;
	uint32_t mode;
	uint32_t mtime;	      /* seconds, where utimens(2) set it; else 0 */
	uint32_t slot[SLOTS]; /* the state in which it was written last */
};

struct object {
	_Atomic uint32_t id; /* 0 while it is made anew */
	mode_t type;
	bool grows;		 /* never made shorter */
	atomic_uint names;	 /* that lead to it */
	_Atomic uint64_t ino;	 /* 0 until known */
	_Atomic uint64_t gone;	 /* of a directory: when its removal began */
	_Atomic uint64_t shrunk; /* when it was last made shorter */
	pthread_mutex_t lock;
	atomic_uint count;
	struct state ring[STATE_RING];
};

enum lock_kind { LOCK_FCNTL, LOCK_OFD, LOCK_FLOCK, LOCK_FILE, LOCK_DIR, LOCK_KINDS };
#define LOCKS (2 * LOCK_KINDS)

struct lock {
	atomic_int writers, readers; /* who has it, by their own account */
	/* When a holder last began to let go. */
	_Atomic uint64_t write_released, read_released;
};

struct tally {
	atomic_ulong host_changes, guest_changes, refused, looks, observations;
	atomic_ulong choices; /* observations of which more than one state was possible */
	atomic_ulong synchronised, locked, waited, raised, lowered;
	atomic_ulong estale, zeros, displaced; /* seen, and allowed */
	atomic_ulong unknown; /* not judged: too long ago, or not certain of what */
	atomic_ulong impossible, back;
	/* Of these two, by call. */
	struct {
		const char *_Atomic what;
		atomic_ulong n;
	} kind[KINDS];
};

enum synchronises { SYNC_NONE, SYNC_LOCKS, SYNC_ALL };

struct model_settings {
	const char *place[PLACES_MAX]; /* 0 is the host */
	unsigned places;
	uint64_t seed;
	enum synchronises synchronises; /* which calls in a mount do */
	bool locks;			/* the host's locks are the mounts' locks */
	bool fences;			/* a fence after each call that synchronises */
	bool separate;			/* what one mount changes is to another as the host's */
	bool mappings;			/* what a mapping shows is compared */
	bool goes_back;			/* what a process sees may be older than what it has seen */
	bool removed;			/* a file that lost its name while it was open is there */
	uint64_t own_late_ns, late_ns, settle_ns; /* by which a change may be late */
};

struct model {
	struct model_settings set;
	char dir[64]; /* in each place */
	struct tally tally;
	atomic_bool stop;
	_Atomic uint64_t progress[WORKERS_MAX];
	atomic_uint next_object, shown;
	pthread_mutex_t showing;
	atomic_uint hot_at, hot[HOT];
	struct lock lock[LOCKS];
	struct name name[NAMES];
	struct object object[OBJECTS];
};

struct model *model_new(const struct model_settings *set);
const char *name_path(unsigned name);
/* The directory of a name. */
const char *dir_path(unsigned dir);

/* With the name's lock held. A state is made known before the call that makes it. */
uint32_t name_now(struct model *m, unsigned name);
struct binding *name_next(struct model *m, unsigned name, uint32_t object, const char *op,
			  unsigned who, unsigned place);

/* A new object, which no name leads to. */
struct object *object_new(struct model *m, mode_t type, bool grows, mode_t mode, unsigned who,
			  unsigned place);
/* NULL when that was too long ago. */
struct object *object_of(struct model *m, uint32_t id);
/* With the object's lock held: the last state, and a further one, which begins as its copy. */
struct state *object_now(struct object *o);
struct state *object_next(struct object *o, const char *op, unsigned who, unsigned place);
void object_publish(struct object *o, struct state *s);

/* ---- one process ----------------------------------------------------------------------------- */

enum facet { FACET_SIZE, FACET_LENGTH, FACET_MODE, FACET_MTIME, FACET_SLOT };

/* The last state that this process saw of an object, by each way of looking. */
struct seen {
	uint32_t id;
	uint32_t state[FACET_SLOT + SLOTS];
};

struct kept {
	int fd; /* -1: none */
	uint32_t object;
	bool append;
	unsigned char *map;
};

struct actor {
	struct model *m;
	unsigned who, place;
	int at, host; /* the directories of this place and of the host */
	struct prng rng;
	uint64_t synchronised;
	uint64_t synchronised_at;
	const char *synchronised_by;
	struct kept kept[KEPT];
	uint32_t cwd; /* the directory that this process stands in */
	bool cwd_below;
	int lock_fd[LOCKS];
	int copy;		      /* a file of its own */
	uint32_t seen_name[NAMES][2]; /* by look-up, and in a listing */
	struct seen seen[OBJECTS];
};

/* A call that looks. Between its begin and its end the caller does it. */
struct look {
	struct actor *a;
	const char *what;
	uint64_t begin, end;
	bool elsewhere; /* the host looked for it: what this process's kernel has may be older */
};

/* What a look found under a name: `error`, or something of this type. 0 where it did not tell. */
struct found {
	int error;
	mode_t type;
	ino_t ino;
};

/* The states that a look may find; empty with `unknown`, where they are not remembered. */
struct window {
	uint32_t first, last;
	bool unknown;
};

struct look look_begin(struct actor *a, const char *what);
void look_end(struct look *l);
void actor_synchronised(struct actor *a, const char *by, uint64_t time);

/* `before`: the states before this one only (0: all). */
struct window name_window(const struct look *l, unsigned name, uint32_t before);
uint32_t name_in(struct model *m, unsigned name, uint32_t version);
/* Whether ESTALE may be all that is said of the name. */
bool name_may_be_stale(const struct look *l, unsigned name, const struct window *w);
/* Whether that state may for a moment show as another. */
bool name_displaced(const struct look *l, unsigned name, uint32_t version);

/* Each is one observation, which is reported if no possible state gives it. */
/* The object that was found, if that is certain; else NULL. */
struct object *check_name(const struct look *l, unsigned name, struct found f);
void check_listed(const struct look *l, unsigned name, struct found f);
void check_stat(const struct look *l, struct object *o, const struct stat *st);
/* Bytes from the beginning, until there were no more. */
void check_read(const struct look *l, struct object *o, const unsigned char *bytes, size_t n);
/* How many bytes a mapping must have; and those, or that there was no page. */
size_t check_mapped_size(const struct look *l, struct object *o);
void check_mapped(const struct look *l, struct object *o, const unsigned char *bytes, size_t n,
		  bool there);
void check_cwd(const struct look *l, const char *path);
/* Of an open file: a call that must not fail. */
void check_open_call(const struct look *l, struct object *o, bool ok);

/* Counts an observation that the caller has judged. */
void check_call(const struct look *l, bool ok);

/* One line, with the states of a name and of an object, if any. */
__attribute__((format(printf, 4, 5))) void report(const struct look *l, int name,
						  const struct object *o, const char *format, ...);

/* What the bytes of a slot are in this state of this object. */
uint64_t record_of(uint32_t object, uint32_t state);

/* ---- what it does ---------------------------------------------------------------------------- */

unsigned some_name(struct actor *a);
void hot_name(struct actor *a, unsigned name);
bool chance(struct actor *a, unsigned percent);

void look_some(struct actor *a);
/* Opens what the name leads to and keeps it, if it is a file. */
void look_kept(struct actor *a, struct kept *k);
void kept_take(struct actor *a, struct kept *k, unsigned name);
void kept_drop(struct kept *k);
void look_init(struct actor *a);

void change_name(struct actor *a);
void change_object(struct actor *a);
void change_some(struct actor *a);

/* Takes a lock, and does something under it. */
void lock_session(struct actor *a);
void lock_init(struct actor *a);
