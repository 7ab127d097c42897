/*
 * What the processes of one torture run share: the steps they take together, the names they work
 * on, the tally, and a log of every operation.
 *
 * The parent makes the world and forks. It alone begins a step; every worker takes part in every
 * step and arrives at its end. Names are relative to a place, which is the host's directory or a
 * mount of it. Failures of the program itself end it with exit code 3.
 */
#pragma once

#include "../posix/prng.h"
#include "clock.h"
#include "mapped.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DIRS_MAX     21 /* "", d0 to d3, and d0 to d3 in each of them */
#define NAMES_IN_DIR 14
#define NAME_LEN     40
#define HOT_MAX	     10
#define PLACES_MAX   5 /* the host and four mounts */
#define FILE_MAX     (192 * 1024)

enum phase {
	PHASE_RUN,   /* writers change, readers look until `reading` is false */
	PHASE_CHECK, /* readers compare */
	PHASE_END,
};

struct settings {
	const char *place[PLACES_MAX]; /* 0 is the host */
	unsigned places;
	uint64_t seed;
	/* What is compared; doc/coherence.md tells which promise leaves out what. */
	bool mappings;		   /* what a mapping shows that was made before */
	bool opened;		   /* what a file shows that was opened before */
	bool instant;		   /* what the other mounts show when a guest's call returns... */
	unsigned long own_late_ms; /* the same for the mount that made the change */
	unsigned long late_ms; /* ...or so much later, where it had to defer its acknowledgement */
	bool owners;	       /* uid and gid */
	bool links;   /* ctime of files, and link count of those with more names than one */
	bool removed; /* what was opened, and lost its name on the host before it was read */
	bool git;     /* a repository that is checked out on the host */
};

struct name {
	char s[NAME_LEN];
};

struct operation {
	uint64_t ns;
	int err;
	unsigned who;
	char op[16];
	struct name a, b;
};

struct world;

struct world *world_new(const struct settings *set);
const struct settings *world_settings(const struct world *w);

/* ---- steps ----------------------------------------------------------------------------------- */

/* The parent: begins a step; waits until `count` workers arrived, or `done` says to stop waiting.
 */
void world_begin(struct world *w, enum phase phase);
bool world_all_arrived(struct world *w, unsigned count, unsigned wait_ms);

/* A worker: waits for the step after `*step`, and arrives at its end. */
enum phase world_next(struct world *w, unsigned *step);
void world_arrive(struct world *w);

/* What the parent says about the step, before it begins it. */
struct round {
	uint64_t seed; /* of the hot names */
	unsigned number, ops;
	bool full;  /* compare every name, not only the hot ones */
	bool final; /* what differs is reported; otherwise only counted */
	atomic_bool reading;
};
struct round *world_round(struct world *w);

/* ---- names ----------------------------------------------------------------------------------- */

struct name name_dir(unsigned i);			 /* i below DIRS_MAX; "." is the first */
struct name name_in_dir(unsigned dir, unsigned i);	 /* i below NAMES_IN_DIR */
struct name name_hot(const struct world *w, unsigned i); /* i below HOT_MAX */
struct name name_pick(const struct world *w, struct prng *rng);

/* ---- tally and log --------------------------------------------------------------------------- */

struct tally {
	atomic_ulong observed, differing;	 /* of this step */
	atomic_ulong instant, instant_differing; /* of the private names, through the whole run */
	atomic_ulong late, latest_us; /* of these, what another mount showed after a while only */
	atomic_ulong host_changes, guest_changes, looks;
	atomic_ulong estale; /* seen by callers */
	atomic_ulong errors; /* that no race explains; reported as differences */
	atomic_ulong shown;
};
struct tally *world_tally(struct world *w);

void world_log(struct world *w, unsigned who, const char *op, const char *a, const char *b,
	       int err);
/* The latest operations that named it, oldest first, to standard output. */
void world_show_log(const struct world *w, const char *name);
