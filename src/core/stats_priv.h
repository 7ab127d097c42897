/* The statistics, for stats.c (counting), stats_ops.c (requests) and stats_segment.c (the file). */
#pragma once

#include <pthread.h>

#include "core/stats.h"

struct stats {
	char *base;
	size_t size;
	enum stats_side side;
	int fd; /* locked while the daemon lives; -1: private memory */
	char *path;
	bool remove;	       /* remove the file at the end */
	pthread_mutex_t texts; /* covers writing the texts */

	/* Pointers into base. On a server, those of sections that only mounts have are NULL. */
	_Atomic uint64_t *value;
	struct stats_hist *hist;
	struct stats_text *text;
	struct stats_op *fuse, *rpc;
	struct stats_pending *pending;
	struct stats_process *process;
};

/* The names of the rows of sections "fuse" and "rpc". */
struct stats_op_name {
	const char *name, *text;
};
extern const struct stats_op_name stats_fuse_names[], stats_rpc_names[];
extern const uint32_t stats_fuse_rows, stats_rpc_rows;

static inline void stats_count(_Atomic uint64_t *v, uint64_t n)
{
	(void)atomic_fetch_add_explicit(v, n, memory_order_relaxed);
}

void stats_hist_add(struct stats_hist *h, uint64_t v);
