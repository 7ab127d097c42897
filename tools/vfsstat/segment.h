/*
 * A statistics segment, read: segment_open, segment_take as often as wanted,
 * segment_close. Nothing here asks the daemon or touches a mount.
 *
 * A snapshot is a copy, checked once: whatever the file claims, its rows lie
 * inside the copy and its texts end. Rows are found by name; one that this
 * version of the daemon does not have reads as 0 or "".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/stats_layout.h"

struct segment;
struct snapshot;

/* 0 or -errno; -EPROTO: no statistics segment. */
int segment_open(const char *path, struct segment **ret);
void segment_close(struct segment *g);
/* NULL without memory. Freed with snapshot_free. */
struct snapshot *segment_take(struct segment *g);
void snapshot_free(struct snapshot *s);

/* How the daemon is. */
enum daemon_state {
	DAEMON_RUNS,
	DAEMON_STOPPED, /* SIGSTOP, or a debugger */
	DAEMON_HANGS,	/* shows no sign of life */
	DAEMON_ENDED,
	DAEMON_DIED,
};
enum daemon_state snapshot_daemon(const struct snapshot *s);
const char *daemon_state_name(enum daemon_state state);

bool snapshot_is_mount(const struct snapshot *s);
uint64_t snapshot_time(const struct snapshot *s);   /* CLOCK_MONOTONIC, ns, when it was taken */
uint64_t snapshot_uptime(const struct snapshot *s); /* ns since the daemon's start */
uint64_t snapshot_rss(const struct snapshot *s);    /* bytes; 0: not known */

/* The rows of a section, and what names them. */
struct rows {
	const struct stats_info *info; /* NULL: they have no names */
	const char *first;
	uint32_t count, stride;
};
/* "scalar" for counters and gauges. At least min bytes per row; else there are none. */
struct rows snapshot_rows(const struct snapshot *s, const char *section, size_t min);
const void *rows_at(const struct rows *r, uint32_t i);

uint64_t snapshot_value(const struct snapshot *s, const char *name);
const char *snapshot_text(const struct snapshot *s, const char *name);
const char *stats_text_now(const struct stats_text *t);

/* The request that waits longest. */
struct oldest {
	bool exists;
	const char *op;
	const char *rpc;	      /* its last message to the host; NULL: none */
	uint64_t node, age, sent_age; /* ns; sent_age 0: nothing was sent */
	uint32_t pid, uid;
};
struct oldest snapshot_oldest(const struct snapshot *s);

/* Command name of a process, from /proc or as the daemon noted it. */
void command_name(uint32_t pid, const char *noted, char *buf, size_t len);
