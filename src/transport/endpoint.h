/*
 * Addresses of servers: parsing, connecting, listening.
 *
 *   unix:PATH  vsock:CID:PORT  vsock:PORT (listen)  vsock: (connect: 2:5001)
 *   fd:N       dir:PATH (connect only: an embedded server)
 *
 * Functions that fail write one clear line into err (err_len bytes) that tells
 * why, and return -errno. endpoint_parse repeats the text that it was given; the
 * others leave it to the caller to name the address.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/types.h>

#include "transport/patience.h"

enum endpoint_kind { ENDPOINT_UNIX, ENDPOINT_VSOCK, ENDPOINT_FD, ENDPOINT_DIR };

#define VSOCK_PORT_DEFAULT 5001
#define VSOCK_CID_DEFAULT  2

#define ENDPOINT_TEXT_MAX (4096 + sizeof("vsock:"))

struct endpoint {
	enum endpoint_kind kind;
	char path[4096];    /* UNIX, DIR */
	uint32_t cid, port; /* VSOCK */
	int fd;		    /* FD */
};

/* True if text begins with a scheme of the list above. */
bool endpoint_is(const char *text);
int endpoint_parse(const char *text, bool listening, struct endpoint *ret, char *err,
		   size_t err_len);

/*
 * Checks that the inherited descriptor of an "fd:" address is open; other addresses always pass. To
 * be called before this process opens anything: later the number may be that of a file of this
 * process, which would be taken for the peer.
 */
int endpoint_check(const struct endpoint *e, char *err, size_t err_len);

/* The address in full: "vsock:2:5001" also where the port was left out. */
void endpoint_text(const struct endpoint *e, char *ret, size_t len);

/*
 * Makes a connected socket; for ENDPOINT_FD a duplicate of the inherited
 * descriptor. It tries once, and waits for the connection within the patience.
 * A server whose queue of connections is full is not waited for: -EAGAIN.
 * From a privileged vsock port if this process may have one: by that a server can tell who is root.
 */
int endpoint_connect(const struct endpoint *e, const struct patience *p, int *ret_fd, char *err,
		     size_t err_len);

/* The file of a Unix socket: who may connect to it. */
struct socket_file {
	mode_t mode;
	uid_t uid; /* (uid_t)-1: stays this process's */
	gid_t gid; /* likewise */
};

/*
 * Makes a listening socket, for its owner alone if file is NULL; an old Unix socket that nobody
 * listens on is replaced. For ENDPOINT_FD: a duplicate of the inherited descriptor, and
 * *ret_connected tells whether that is a connection already, to be served once, instead of a
 * listening socket.
 */
int endpoint_listen(const struct endpoint *e, const struct socket_file *file, int *ret_fd,
		    bool *ret_connected, char *err, size_t err_len);
