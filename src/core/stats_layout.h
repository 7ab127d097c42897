/*
 * The statistics segment as it lies in memory, for the daemon that writes it
 * (stats_segment.c) and for vfsstat. All integers are of the host's byte order.
 *
 *   char magic[8] "VFSSTAT1"; u32 scalars; u32 offset of the first value;
 *   per scalar: struct stats_info; then u32 sections; u32 0;
 *   per section: struct stats_section
 *   at offset: u64 value per scalar
 *
 * A reader finds rows and sections by their names: a later version may add rows,
 * sections, and members at the end of a row, so each section tells its stride.
 *
 * All values are written by relaxed atomic stores and adds. A reader sees each value
 * whole, but several values may be from different moments.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define STATS_MAGIC "VFSSTAT1"
#define STATS_BUCKETS                                                                              \
	40 /* bucket i: from 2^i up to 2^(i+1) - 1; the first takes 0, the last all above */
#define STATS_ERRNOS	   136	/* above the highest of Linux; 0 takes what is none of these */
#define STATS_PENDING	   1024 /* requests of the kernel that are followed at a time */
#define STATS_PROCESSES	   256	/* tasks that are remembered */
#define STATS_TEXT_MAX	   252
#define STATS_SECTIONS_MAX 8

struct stats_info {
	char name[48]; /* "fuse.requests" */
	char type[8];  /* counter, gauge, hist, text, op */
	char unit[8];  /* count, bytes, ns, time (ns on a clock), id */
	char text[128];
};

struct stats_section {
	char name[16];
	uint32_t rows, stride;
	uint32_t info;	 /* offset of struct stats_info[rows]; 0: the rows have no names */
	uint32_t offset; /* of the first row */
};

/* Section "hist". */
struct stats_hist {
	_Atomic uint64_t sum;
	_Atomic uint64_t bucket[STATS_BUCKETS];
};

/* Section "text": the one that `active` names is whole, unless two changes overtook the reader. */
struct stats_text {
	_Atomic uint32_t active;
	char text[2][STATS_TEXT_MAX];
};

/*
 * Section "fuse": requests of the kernel, counted when they come. Section "rpc": messages
 * to the host, counted when they are sent; on a server the messages that it has executed.
 */
struct stats_op {
	_Atomic uint64_t count;
	_Atomic uint64_t wait;	/* rpc: ns in the queue */
	_Atomic uint64_t rpcs;	/* fuse: round trips that the requests caused */
	struct stats_hist time; /* ns until the answer; its buckets' sum is the number of answers */
	_Atomic uint32_t errors[STATS_ERRNOS]; /* by errno */
};

/* Section "pending": a request that the kernel waits for. */
struct stats_pending {
	_Atomic uint64_t unique; /* 0: free */
	_Atomic uint64_t start;	 /* CLOCK_MONOTONIC, ns; 0: being filled in */
	_Atomic uint64_t node;
	_Atomic uint64_t sent; /* when its last message was sent to the host; 0: none was */
	_Atomic uint32_t op;   /* row of section "fuse" */
	_Atomic uint32_t pid, uid;
	_Atomic uint32_t rpcs;	  /* round trips so far */
	_Atomic uint32_t rpc;	  /* row of section "rpc" of its last message, + 1; 0: none */
	_Atomic uint32_t process; /* row of section "process", + 1 */
	uint32_t spare[2];
};

/*
 * Section "process": tasks, by the id in the kernel's request (a thread's). A new task
 * that finds no free row takes that of a task that was quiet for long.
 */
struct stats_process {
	_Atomic uint32_t pid; /* 0: free */
	_Atomic uint32_t uid;
	_Atomic uint64_t last; /* CLOCK_MONOTONIC, ns, of its latest request */
	_Atomic uint64_t requests, reads, writes, lookups, rpcs;
	_Atomic uint64_t bytes_read, bytes_written;
	_Atomic uint64_t time; /* ns that the task waited for this mount */
	char comm[16];
	uint64_t spare[3];
};
