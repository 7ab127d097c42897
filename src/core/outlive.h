/*
 * Records that outlive a client that is killed: tables in a memfd that its supervisor keeps, of all
 * that the kernel and the server hold by number. Whoever takes a dead client's place reads them.
 *
 * Each function writes its record before the kernel or the server hears of what it tells, and a
 * record counts from its last store on: so a client may be killed between any two instructions.
 * The memory is never given back; it is as large as the most that was held at one time.
 *
 * There is one mount in a process, so there is one set of tables, which `outlive` leads to; NULL:
 * nobody supervises, and all functions but outlive_create and outlive_map do nothing.
 *
 * Threads: nodes and gains under cache.lock, slots and the session under link.lock, files under
 * fs.lock; names from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTLIVE_RESENT                                                                             \
	(UINT64_C(1) << 63) /* FUSE_UNIQUE_RESEND: this request had been read before */
#define OUTLIVE_SLOTS	 256
#define OUTLIVE_GAINS	 8192
#define OUTLIVE_NODES	 (UINT32_C(1) << 25)
#define OUTLIVE_FILES	 (UINT32_C(1) << 20)
#define OUTLIVE_UNITS	 (UINT32_C(1) << 26)
#define OUTLIVE_UNIT	 32 /* bytes of names */
#define OUTLIVE_INIT_MAX 512

/* A node that the kernel holds: counts while nlookup is not 0. */
struct outlive_node {
	uint64_t id, server, nlookup;
	uint64_t size; /* that the kernel has of it */
	uint32_t mode, locked;
};

/* An open file or directory, in fuse_file_info.fh: counts while `used`. */
struct outlive_file {
	uint64_t ino, fh; /* the server's */
	uint64_t unique;  /* of the request that opened it */
	uint32_t flags, used;
};

/* A request with a slot: counts while `unique` is not 0. `use` is that of the slot's last use. */
struct outlive_slot {
	uint64_t unique, use, id, digest;
};

/* A reference that the kernel gets with the answer to `unique`. */
struct outlive_gain {
	uint64_t unique, ino;
};

/* Names that the kernel holds. */
struct outlive_name {
	uint64_t dir; /* 0: it is free */
	uint32_t next_free;
	uint8_t units, len;
	char name[];
};

struct outlive_session {
	uint64_t session, epoch, root, features, uid, gid, slots;
	unsigned char token[16];
};

struct outlive {
	uint64_t magic, layout;
	uint64_t overflow; /* something had no room: nobody can take over */
	uint64_t begun;	   /* the kernel's INIT has been answered */
	uint64_t restarts;
	uint64_t seq; /* of the last invalidation that was taken in */
	uint32_t init_len, node_slots, file_slots, name_units;
	unsigned char init[OUTLIVE_INIT_MAX];
	char mountpoint[4096]; /* absolute: to look for it would wait for ourselves */
	struct outlive_session session;
	struct outlive_slot slot[OUTLIVE_SLOTS];
	struct outlive_gain gain[OUTLIVE_GAINS];
};

extern struct outlive *outlive;

/* The request that this thread is busy with; 0: none of the kernel's. */
extern _Thread_local uint64_t outlive_unique;

/* A memfd with empty tables, or -errno. */
int outlive_create(void);
/* Maps the tables, from here on `outlive`. 0 or -errno; -EPROTO: those of another version. */
int outlive_map(int fd);

/* ---- nodes; slot: the lower half of the id ---- */

struct outlive_node *outlive_node_at(uint32_t slot);
void outlive_node(const struct outlive_node *n);

/* ---- names ---- */

/* The number of the record; 0: nothing was noted. */
uint32_t outlive_name(uint64_t dir, const char *name, size_t len);
void outlive_unname(uint32_t at);
/* The next record that counts behind *at, which is 0 at first; NULL: there is none. */
struct outlive_name *outlive_next_name(uint32_t *at);

/* ---- references that are on their way to the kernel ---- */

/* This thread is about to count one more reference to ino for outlive_unique. */
void outlive_gain(uint64_t ino);
/* This thread's answer has been written. */
void outlive_gained(void);
/* It is held: a number for outlive_gain_end, which is to be called when it has been written; 0:
 * nothing is gained. */
uint32_t outlive_gain_hold(void);
void outlive_gain_end(uint32_t held);

/* ---- files ---- */

struct outlive_file *outlive_file_at(uint32_t number);
