/*
 * The byte ranges that one owner has locked: a sorted list without overlaps. As with
 * fcntl(2), a new lock replaces the ranges that it covers, splits a range that it lies
 * in, and joins neighbours of its own type.
 *
 * Not locked: the struct that embeds a list says which mutex covers it. start and end are
 * both inside.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum range_type { RANGE_READ = 0, RANGE_WRITE = 1, RANGE_NONE = 2 }; /* F_RDLCK, F_WRLCK, F_UNLCK */

struct range {
	struct range *next;
	uint64_t start, end;
	enum range_type type;
	uint64_t pid; /* the process that asked for the lock */
};

struct ranges {
	struct range *first;
	size_t n;
};

/* RANGE_NONE takes the range out. -ENOMEM with nothing changed. */
int ranges_set(struct ranges *r, uint64_t start, uint64_t end, enum range_type type, uint64_t pid);
void ranges_clear(struct ranges *r);

/* The first range that a lock of this type would have to wait for, or NULL. */
const struct range *ranges_conflict(const struct ranges *r, uint64_t start, uint64_t end,
				    enum range_type type);
