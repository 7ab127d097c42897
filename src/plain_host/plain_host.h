/*
 * The plain protocol's server side, for server_config.plain.
 *
 * Behaves as existing servers do: paths are absolute below plain_prefix. Files
 * are regular files and directories; FIFOs, sockets and devices are shown and
 * never opened.
 *
 * No symbolic link is followed: a link is shown as one, and the client's own
 * kernel resolves it. Old clients know no links. With plain_follow links are
 * followed for a client that has not yet sent anything that only newer clients send,
 * but only inside the export and only by this server, component by component; a name
 * that such a client removes below a link to a directory is removed in the link's target.
 *
 * Creations belong to the request's uid and gid when the server is root.
 * `mode` in replies is Go's os.FileMode (PLAIN_MODE_*), as existing servers
 * send it; in requests Linux bits and Go's set-id and sticky bits both count.
 */
#pragma once

#include "host/plain_server.h"

#define PLAIN_FILES_MAX 4096		   /* open files of a session; more: EMFILE */
#define PLAIN_READ_MAX	((size_t)16 << 20) /* bytes of one read; a larger sz is cut to it */

extern const struct plain_server plain_host;
