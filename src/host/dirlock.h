/*
 * Requests that take names away exclude each other per directory, from the look
 * at the object that has the name until the system call that takes the name away:
 * otherwise another object, put there by another client in between, would lose a
 * link, and no client would be told. The host's programs cannot be excluded.
 *
 *	struct dirlock l CLEANUP(dirlock_release) = dirlock_take(dirfd, -1);
 *
 * Any thread, which takes no second dirlock while it has one. There is a fixed number
 * of locks in the process, which the directories share.
 */
#pragma once

struct dirlock {
	unsigned count, index[2]; /* ascending */
};

/* Locks two directories, which may be the same, or with -1 for the second only one. */
struct dirlock dirlock_take(int dirfd, int dirfd2);
void dirlock_release(struct dirlock *l);
