/*
 * Counters of one mount, in memory that other programs may map read-only.
 *
 * Any thread adds without a lock. The segment describes itself: a reader
 * needs no header of this project, works while the daemon hangs, and after it
 * died. Layout, all integers of the host's byte order:
 *
 *   char magic[8] "VFSSTAT1"; u32 counters; u32 offset of the first value;
 *   per counter: char name[48], unit[16], text[128];
 *   at offset: u64 value per counter
 */
#pragma once

#include <stdint.h>

enum stat_id {
#define COUNTER(name, unit, text) STAT_##name,
#include "core/counters.def"
#undef COUNTER
	STAT_COUNT
};

#define STATS_MAGIC "VFSSTAT1"

struct stats;

/*
 * path NULL: private memory. Else the file is made anew (mode 0644), so that
 * a reader of an old one keeps what it has. Returns 0 or -errno.
 */
int stats_new(const char *path, struct stats **ret);
void stats_free(struct stats *s);

/* A NULL s is allowed and counts nothing. */
void stats_add(struct stats *s, enum stat_id id, uint64_t n);
void stats_sub(struct stats *s, enum stat_id id, uint64_t n);
uint64_t stats_get(const struct stats *s, enum stat_id id);
