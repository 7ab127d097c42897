/*
 * A backend over the plain protocol: inodes on top of whole paths, many calls
 * on top of one request in flight.
 *
 * plain_client_new asks for the root's attributes (as long as the
 * patience lasts) and starts one worker thread. The worker takes the queued calls in
 * order, executes each as one or more exchanges, and completes it with a
 * reply that looks like the extended server's; node ids, file handles and
 * their references are the client's own. Between calls it notices that the
 * server went away. submit, cancel and shutdown as in core/backend.h.
 *
 * Operations that the protocol does not have are refused, and never silently ignored:
 *   making devices, FIFOs, sockets				EPERM
 *   truncation to a length in between without op 15		EOPNOTSUPP
 *   a change through a directory that is a link, where the
 *   server shows links as their targets			EPERM
 *   rename flags						EINVAL
 *   names that are not UTF-8					EILSEQ
 *   symbolic and hard links on servers without ops 16 and 18	EPERM
 *   LSEEK, FALLOCATE, COPY, xattr: ENOSYS, on which the kernel uses its own
 *   fallback and asks no more; locks: EOPNOTSUPP (the FUSE layer keeps them
 *   local)
 * Times, owners and modes that the server cannot be told are kept in the guest:
 * plain_kept.h. FIFOs, sockets and devices are shown with their types, if the server
 * tells these, and are never opened: the guest's kernel serves them. Made up are the
 * owner, where the server tells none, link count, atime and ctime, and the file
 * system's totals. fsync of a directory, without op 19, opens the directory, and
 * succeeds where the server opens no directories.
 *
 * The server's abilities are learned from its answers: plain_peer.c.
 *
 * A malformed reply is logged once and ends the link; a lost link completes
 * every call with ENOTCONN.
 */
#pragma once

#include "core/backend.h"
#include "core/stats.h"
#include "transport/patience.h"

struct plain_options {
	const char *base;	 /* the server's absolute path of the root */
	uint32_t uid, gid;	 /* the owner that is shown where the server tells none */
	bool owner_fixed;	 /* that owner is shown whatever the server tells */
	uint64_t sure_ms;	 /* for tests: how long a directory counts as one; 0: a second */
	struct stats *stats;	 /* may be NULL */
	void (*lost)(void *arg); /* the link is lost; called once, on the worker; may be NULL */
	void *lost_arg;
	const struct patience *patience; /* bounds plain_client_new; NULL: HELLO_TIMEOUT_MS */
};

/*
 * Takes over fd, also on failure; o->base is copied. 0, or -errno with one
 * line in err.
 */
int plain_client_new(int fd, const struct plain_options *o, struct backend **ret, char *err,
		     size_t err_len);
