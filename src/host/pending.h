/*
 * Invalidations that a session has not been sent yet, merged: one entry per
 * node with the classes that are broken and the names in it.
 *
 * Bounded: more than 64 names of one directory become all names; more than
 * 65,536 nodes and names are refused, and the owner sends RESET instead. Not
 * locked. A struct of zeros is empty. Times in nanoseconds.
 */
#pragma once

#include "core/msg.h"
#include "host/idmap.h"

#define PENDING_NAMES_MAX 64
#define PENDING_MAX	  65536

struct pending_name;
struct pending_node {
	uint64_t node;
	unsigned class; /* without INV_NAME */
	unsigned n_names;
	struct pending_name *names;
};

struct pending {
	struct pending_node *v;
	size_t n, cap;
	size_t count;	    /* nodes and names */
	struct idmap by_id; /* node id to index + 1 */
	uint64_t oldest;
};

#define PENDING_ALL_NAMES 1

/* 0; PENDING_ALL_NAMES: all names of the directory are broken now; -ENOBUFS, -ENOMEM. */
int pending_add(struct pending *p, uint64_t node, unsigned class, const char *name, uint64_t seen);
void pending_clear(struct pending *p);
void pending_done(struct pending *p);
void pending_swap(struct pending *a, struct pending *b);
/* The time at which the oldest item was added; 0 if there is none. */
uint64_t pending_oldest(const struct pending *p);

/* One item after the other; false at the end. Items live as long as p is not changed. */
struct pending_cursor {
	size_t i;
	const struct pending_name *name;
	bool in_names;
};
bool pending_next(const struct pending *p, struct pending_cursor *at, struct inv_item *ret);
