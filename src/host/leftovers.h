/*
 * Files of ours (sockets, a pidfile, statistics) that are to be gone when the server has ended,
 * if they are still ours: another server may have replaced them meanwhile. Each is kept as a
 * descriptor of its directory and a name, so that neither our directory nor our root matters.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define LEFTOVER_MAX  4096 /* bytes of a path, '\0' included */
#define LEFTOVERS_MAX 24

struct leftovers {
	struct {
		int dir;
		char name[256];
		dev_t dev;
		ino_t ino;
	} file[LEFTOVERS_MAX];
	size_t n;
};

int leftovers_add(struct leftovers *l, const char *path); /* 0 or -errno; it is there by now */
void leftovers_remove(struct leftovers *l);
