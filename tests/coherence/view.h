/*
 * What one process sees through a mount, compared with what it sees on the host.
 *
 * Each compared fact is one observation. A view is of one process; the tally is shared. Names that
 * are being changed meanwhile must not be compared.
 */
#pragma once

#include "world.h"

#include <sys/stat.h>

struct view {
	struct world *w;
	unsigned me, place;
	int host, guest; /* the two directories */
	bool instant; /* counts apart from the round's; differences are counted only in `found` */
	unsigned long *found;
};

void view_init(struct view *v, struct world *w, unsigned me, unsigned place);

/* Presence, type, mode, links, size, times, owner, inode number; where a symlink leads. */
void view_name(const struct view *v, const char *name);
/* Size and bytes through an open of both files just now. */
void view_content(const struct view *v, const char *name);
/* The extended attribute XATTR_NAME. */
#define XATTR_NAME "user.torture"
void view_xattr(const struct view *v, const char *name);
/* The names and types of a listing. */
void view_dir(const struct view *v, const char *name);
/* Of an instant view: what differed did so for this long, which is a difference. */
void view_late(const struct view *v, const char *name, uint64_t ns);
/* A directory with all below it, by all three. */
void view_tree(const struct view *v, const char *name);

/*
 * A file that is held open in the mount and on the host, and mapped in the mount. `take` takes hold
 * of what the name leads to, if that is one regular file on both sides; false if not. `touch` reads
 * through both, so that pages are cached. `check` compares attributes, and the bytes by pread and
 * through the mapping.
 */
struct kept {
	struct name name;
	int host, guest; /* -1: empty */
	unsigned char *map;
	size_t mapped;
};

bool kept_take(const struct view *v, struct kept *k, const char *name);
void kept_touch(const struct kept *k);
void kept_check(const struct view *v, struct kept *k);
void kept_drop(struct kept *k);
