/*
 * Where the symbolic links of a guest may lead: a program of the host that follows one leaves the
 * export with it, as no client can.
 *
 * Where not all are allowed (server.h), a link that a client makes, moves or gives another name has
 * a relative target that climbs no further than the export's root from where the link is, and
 * climbs at its beginning only, because behind a name that is a link itself ".." leads anywhere. A
 * directory may move no nearer to the root than it was, for the links in it would then climb out:
 * EXDEV, upon which mv(1) copies, and each link is made anew. What the host moves is the host's own
 * affair.
 *
 * All of that holds at one moment only: what is looked at and what is done are under one mutex,
 * which is taken last, behind those of directories (dirlock.h).
 */
#pragma once

#include <pthread.h>

struct export;

/* symlinkat(2), if the target may be that, and export_link, if the object may be there; -EPERM. */
int links_symlink(const struct export *e, const char *target, int dirfd, const char *name);
int links_link(const struct export *e, int object, int dirfd, const char *name);

/* Until it is unlocked nothing moves. NULL where all links are allowed: nothing is to be asked. */
pthread_mutex_t *links_lock(const struct export *e);
/*
 * Called with the lock: whether an object (O_PATH; -1: there is none, -ENOENT) that is in the
 * directory from may be in the directory to. from -1: in another place besides, as a further name.
 */
int links_may_move(const struct export *e, int object, int from, int to);
