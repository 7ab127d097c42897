/*
 * The workers of a torture run: writers on the host and in mounts, readers in mounts. Each is a
 * process; what it does depends on the seed and its number, what comes of it on the others too.
 */
#pragma once

#include "world.h"

/* Never return. `place` is 0 for the host. */
_Noreturn void writer_main(struct world *w, unsigned me, unsigned place);
/* `part` of `parts` readers of this mount. */
_Noreturn void reader_main(struct world *w, unsigned me, unsigned place, unsigned part,
			   unsigned parts);

/* A small repository with two branches that differ a lot, below the host's directory. */
void make_repository(const char *host);
