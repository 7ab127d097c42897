/*
 * Requests that take names away exclude each other per directory, from the look
 * at what is there until the call: else the object that another client has put
 * there in between would lose a link, and nobody would be told. What the host's
 * programs do in between cannot be excluded.
 *
 *	struct dirlock l CLEANUP(dirlock_release) = dirlock_take(dirfd, -1);
 *
 * Any thread; nothing else of this kind is taken meanwhile. The locks are the
 * process's own, and directories share them.
 */
#pragma once

struct dirlock {
	unsigned count, index[2]; /* ascending */
};

/* Two directories, which may be one, or -1 for the second. */
struct dirlock dirlock_take(int dirfd, int dirfd2);
void dirlock_release(struct dirlock *l);
