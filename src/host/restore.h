/*
 * Restoring: what a server before this one had of its clients' sessions (state.h) is there again
 * before the first client comes, as if only the connections had been lost: nodes, open files,
 * locks, and the requests that may come again. What cannot be had any more is left out: ESTALE and
 * EBADF tell the client, and locks that somebody else has taken meanwhile are lost.
 */
#pragma once

struct host;

/* Before any client; logs what was found. 0 or -errno. */
int restore_sessions(struct host *h);
