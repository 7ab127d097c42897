/*
 * Statistics of one mount or server, in memory that other programs may map
 * read-only (stats_layout.h). Those programs need no answer from the
 * daemon: they can read while it hangs, and after it died. A living daemon holds a lock for writing
 * (F_OFD_SETLK) on the file.
 *
 * Any thread counts, without a lock. Times are CLOCK_MONOTONIC in nanoseconds.
 * Each function takes a NULL struct stats and then does nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/stats_layout.h"

enum stat_id {
#define COUNTER(name, unit, text) STAT_##name,
#define GAUGE(name, unit, text)	  STAT_##name,
#define STATS_COMMON_ROWS	  STAT_COMMON, STAT_BEFORE_COMMON = STAT_COMMON - 1,
#define STATS_SERVER_ROWS	  STAT_SERVER, STAT_BEFORE_SERVER = STAT_SERVER - 1,
#include "core/counters.def"
	STAT_COUNT
};

enum stat_hist {
#define HISTOGRAM(name, unit, text) HIST_##name,
#define STATS_COMMON_ROWS	    HIST_COMMON, HIST_BEFORE_COMMON = HIST_COMMON - 1,
#define STATS_SERVER_ROWS	    HIST_SERVER, HIST_BEFORE_SERVER = HIST_SERVER - 1,
#include "core/counters.def"
	HIST_COUNT
};

enum stat_text {
#define TEXT(name, text)  TEXT_##name,
#define STATS_COMMON_ROWS TEXT_COMMON, TEXT_BEFORE_COMMON = TEXT_COMMON - 1,
#define STATS_SERVER_ROWS TEXT_SERVER, TEXT_BEFORE_SERVER = TEXT_SERVER - 1,
#include "core/counters.def"
	TEXT_COUNT
};

struct stats;

enum stats_side { STATS_MOUNT, STATS_SERVER };

/*
 * The segment of a mount. path NULL: private memory. Else the file is made
 * anew (mode 0644), so that a reader of an old file keeps that one; the file stays
 * after stats_free. Returns 0 or -errno.
 */
int stats_new(const char *path, struct stats **ret);
/* stats_new for either side. */
int stats_new_side(const char *path, enum stats_side side, struct stats **ret);
/* Whether a living daemon holds the segment that is open as fd. */
bool stats_locked(int fd);
/*
 * The segment in a new file ("PID.stats") in the directory that stats_directory names;
 * stats_free removes the file.
 */
int stats_new_default(enum stats_side side, struct stats **ret);
void stats_free(struct stats *s);

/* /run/vsockfs for root, else vsockfs in XDG_RUNTIME_DIR. -ENOENT if that is not set. */
int stats_directory(char *buf, size_t len);
/* The file, or NULL for private memory. */
const char *stats_path(const struct stats *s);

void stats_add(struct stats *s, enum stat_id id, uint64_t n);
void stats_sub(struct stats *s, enum stat_id id, uint64_t n);
void stats_set(struct stats *s, enum stat_id id, uint64_t n);
uint64_t stats_get(const struct stats *s, enum stat_id id);
void stats_time(struct stats *s, enum stat_hist id, uint64_t ns);
void stats_text(struct stats *s, enum stat_text id, const char *text);
uint64_t stats_now(void);

/* ---- requests of the kernel ---- */

struct stats_request {
	uint64_t unique, node;
	uint32_t opcode, pid, uid;
	bool answered; /* false: this kind of request has no reply */
};

/* On the thread that handles the request: the round trips that this thread causes from now on
 * belong to the request. */
void stats_fuse_begin(struct stats *s, const struct stats_request *r);

/* The facts about an answered request; err is positive. */
struct stats_answer {
	uint64_t unique, node, ns;
	uint64_t wait, rtt; /* of the message to the host whose reply was the answer; else 0 */
	uint32_t op;	    /* row: see stats_fuse_name */
	uint32_t pid, uid, rpcs;
	int err;
};

/* The reply that is about to be written. */
struct stats_reply {
	uint64_t unique;
	int err;		/* positive */
	uint64_t read, written; /* bytes, of a READ or a WRITE */
	bool no_entry;		/* of a LOOKUP: there is no such name */
};

/*
 * To be called before the reply is written, so that a program that has the reply finds it
 * counted. False if the request is not in the table; ret is then not set.
 */
bool stats_fuse_end(struct stats *s, const struct stats_reply *reply, struct stats_answer *ret);
const char *stats_fuse_name(uint32_t row);

/* ---- messages to the host ---- */

/* A member of struct call, initialised with zeros. */
struct stats_span {
	uint64_t queued, sent;
	uint64_t unique; /* the request that caused it; 0: not known */
	uint32_t pending;
	bool waiting, out; /* in the queue; sent, and not answered */
};

void stats_rpc_queue(struct stats *s, struct stats_span *span, bool oneway);
/* The first byte of the message is about to be sent. Called again for each further round trip. */
void stats_rpc_send(struct stats *s, struct stats_span *span, uint64_t op, bool oneway);
/* Before the completion, on its thread: messages that the completion sends belong to the same
 * request. */
void stats_rpc_done(struct stats *s, struct stats_span *span, uint64_t op, int err);
/* The call ends; one without a reply is not counted as queued or in flight any more. */
void stats_rpc_drop(struct stats *s, struct stats_span *span);
/* The connection was lost: it waits to be sent again. */
void stats_rpc_again(struct stats *s, struct stats_span *span);

/* A server has executed op, in this many nanoseconds. */
void stats_executed(struct stats *s, uint64_t op, uint64_t ns, int err);
