/*
 * The part of the sessions that outlives the server's process, be it killed: which there are, the
 * nodes that they were told of, their open files, their locks, and the requests that they may send
 * again.
 *
 * Tables of records of one size, each in a file that is mapped: what was stored is there for the
 * next process, however this one ended, as long as the machine runs. One folder for each export
 * and listener, which one server at a time has.
 *
 * A record is found by its number, from 1. It belongs to whoever took it, who also says which lock
 * covers it; taking and giving are thread-safe. A record that is being filled in counts from
 * state_keep on. Without a state (NULL) there are no records: state_take returns 0, which whoever
 * has it passes to the others.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/msg.h"

struct state;

enum state_table {
	STATE_SESSIONS,
	STATE_NODES,
	STATE_FILES,
	STATE_LOCKS,
	STATE_SLOTS,
	STATE_TABLES
};

#define STATE_SESSIONS_MAX 64 /* sessions that are kept: a bit of state_node.sessions each */
#define STATE_HANDLE_MAX   40
#define STATE_NAME_MAX	   64
#define STATE_REPLY_MAX	   640

/* There was no room for one: requests could be executed twice, locks would be lost unnoticed. */
#define STATE_SLOTS_MISSING 1u
#define STATE_LOCKS_MISSING 2u

struct state_session {
	uint32_t used, unconfirmed, incomplete;
	uint64_t id, features;
	unsigned char token[2][MSG_TOKEN_LEN];
};

struct state_node {
	uint32_t used;
	int32_t handle_type;
	uint64_t id, parent;
	uint64_t sessions; /* those that were told of it: bit n - 1 is session record n */
	uint64_t device;   /* of the file system */
	uint8_t handle_len, name_len; /* name_len 0: not needed */
	unsigned char handle[STATE_HANDLE_MAX];
	char name[STATE_NAME_MAX];
};

struct state_file {
	uint32_t used, session, eager, flags; /* of open(2) */
	uint64_t fh, node;
};

struct state_lock {
	uint32_t used, session, bsd, type;
	uint64_t node, fh, owner, pid, start, end;
};

enum state_phase { STATE_BEGUN = 1, STATE_EXECUTED };
struct state_slot {
	uint32_t used, session, slot, phase; /* enum state_phase */
	uint64_t use, op, id, digest;
	uint64_t began; /* ns since 1970 */
	uint64_t size;	/* of the file before an append */
	uint32_t reply_len;
	unsigned char reply[STATE_REPLY_MAX]; /* as on the wire */
};

/*
 * The state below dir for this export and the listeners' addresses, made if there is none. -EBUSY:
 * another server has it, and still has when it was waited for. One line in err.
 */
#define STATE_WAIT_MS 5000
int state_open(const char *dir, const char *export, const char *listener, unsigned wait_ms,
	       struct state **ret, char *err, size_t err_len);
void state_close(struct state *s); /* NULL is allowed. What is in it stays. */

/* From now on it stays as it is, whatever is taken and given: the process ends, the sessions do
 * not.
 */
void state_freeze(struct state *s); /* NULL is allowed */
bool state_frozen(const struct state *s);

/* Random, and the same for as long as the state is. */
uint64_t state_epoch(const struct state *s);
/* Which process of these this is, from 1: numbers that must not be used again begin with it. */
uint64_t state_generation(const struct state *s);
#define STATE_NUMBERS(generation) ((generation) << 40)

uint32_t state_take(struct state *s, enum state_table t); /* 0: there is no room */
void *state_at(const struct state *s, enum state_table t, uint32_t n);
/* From now on it counts. */
void state_keep(struct state *s, enum state_table t, uint32_t n);
void state_give(struct state *s, enum state_table t, uint32_t n); /* 0 is nothing */
/* There was no room for something of this session: STATE_SLOTS_MISSING, STATE_LOCKS_MISSING. */
void state_miss(struct state *s, uint32_t session, uint32_t what);
/* The next record that counts behind n; 0 at the end. For the start. */
uint32_t state_next(struct state *s, enum state_table t, uint32_t n);
