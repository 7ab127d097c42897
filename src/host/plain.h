/*
 * The plain protocol's server side: one session per connection that has not
 * become extended.
 *
 * Calling sequence, all from the connection's own thread:
 *
 *	plain_session_new
 *	stream_recv_plain(limit PLAIN_FRAME_MAX) -> plain_request_decode
 *		-EPROTO: log the reason, close the connection
 *		op PLAIN_HELLO: session.c's own; it answers with plain_reply_encode
 *		else plain_handle -> stream_send_plain
 *	plain_session_free	closes the session's files
 *
 * Behaves as existing servers do: paths are absolute below plain_prefix. Files
 * are regular files and directories; FIFOs, sockets and devices are shown and
 * never opened.
 *
 * No symbolic link is followed: a link is shown as one, and the client's own
 * kernel resolves it. Old clients know no links. With plain_follow they are
 * followed for a client that has not yet sent what only newer ones send, but
 * only inside the export and only by us, component by component; what such a
 * client removes below a link to a directory is removed in the link's target.
 *
 * Creations belong to the request's uid and gid when the server is root.
 * `mode` in replies is Go's os.FileMode (PLAIN_MODE_*), as existing servers
 * send it; in requests Linux bits and Go's set-id and sticky bits both count.
 */
#pragma once

#include <stddef.h>

struct export;
struct hnodes;
struct plain_request;
struct plain_session;
struct promises;

#define PLAIN_FILES_MAX 4096		   /* open files of a session; more: EMFILE */
#define PLAIN_READ_MAX	((size_t)16 << 20) /* bytes of one read; a larger sz is cut to it */

/*
 * All are borrowed until plain_session_free. The promises in p are broken by
 * what this client changes, and nodes, which other clients know, are told
 * where it moves them (NULL: there are none). 0 or -errno.
 */
int plain_session_new(struct export *ex, struct hnodes *nodes, struct promises *p,
		      struct plain_session **ret);
void plain_session_free(struct plain_session *s);

/*
 * Executes q and gives the encoded reply, which s owns until the next call.
 * What goes wrong with the request is part of the reply; -ENOMEM is returned
 * only when there is no memory for any reply: close the connection.
 */
int plain_handle(struct plain_session *s, const struct plain_request *q, const void **ret_reply,
		 size_t *ret_len);
