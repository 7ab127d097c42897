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
 * Whether an inherited descriptor is there, as far as it is one. To be called before this process
 * opens anything: later the number may belong to a file of its own, and a peer would be taken for
 * what it is not.
 */
int endpoint_check(const struct endpoint *e, char *err, size_t err_len);

/* The address in full: "vsock:2:5001" also where the port was left out. */
void endpoint_text(const struct endpoint *e, char *ret, size_t len);

/*
 * A connected socket; for ENDPOINT_FD a duplicate of the inherited one. One
 * try, which waits within the patience: of a server whose queue is full that
 * is none, -EAGAIN.
 */
int endpoint_connect(const struct endpoint *e, const struct patience *p, int *ret_fd, char *err,
		     size_t err_len);

/*
 * A listening socket; an old Unix socket that nobody listens on is replaced.
 * For ENDPOINT_FD: a duplicate; *ret_connected tells that it is connected
 * already (serve it once) rather than listening.
 */
int endpoint_listen(const struct endpoint *e, int *ret_fd, bool *ret_connected, char *err,
		    size_t err_len);
