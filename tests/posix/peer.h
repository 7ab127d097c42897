/*
 * peer: a child process that makes calls on request, for whatever needs a second process.
 *
 * Calling sequence: peer_start(), any number of peer_call() or peer_send()/peer_recv() pairs (one
 * request under way at a time), peer_end(). A function runs in the peer with the peer's memory as
 * it was at peer_start(), and returns a value or a negative errno. Threads: none.
 */
#ifndef POSIX_PEER_H
#define POSIX_PEER_H

#include "harness.h"

typedef long peer_fn(long a, long b, long c, long d);

struct peer {
	pid_t pid;
	int sock;
};

/* cred NULL: unchanged. */
struct peer peer_start(const struct h_cred *cred);
void peer_send(struct peer *p, peer_fn *fn, long a, long b, long c, long d);
long peer_recv(struct peer *p);
long peer_call(struct peer *p, peer_fn *fn, long a, long b, long c, long d);
/* Lets the peer exit and waits; kill: by SIGKILL. */
void peer_end(struct peer *p, bool kill);
/*
 * Returns when the peer sleeps in the kernel (true) or has answered (false). It is for strength
 * only: an assertion must hold as well when the peer is not there yet.
 */
bool peer_sleeps(struct peer *p);

/* Calls for a peer, and for oneself. Descriptors are those of the process that runs them. */
long do_open(long path, long flags, long mode, long unused);
long do_close(long fd, long unused1, long unused2, long unused3);
long do_flock(long fd, long op, long unused1, long unused2);

#endif
