/*
 * Addresses of servers: parsing, connecting, listening.
 *
 *   unix:PATH  vsock:CID:PORT  vsock:PORT (listen)  vsock: (connect: 2:5001)
 *   fd:N       dir:PATH (connect only: an embedded server)
 *
 * Functions that fail write one clear line into err (err_len bytes) that
 * names the address and the reason, and return -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum endpoint_kind { ENDPOINT_UNIX, ENDPOINT_VSOCK, ENDPOINT_FD, ENDPOINT_DIR };

#define VSOCK_PORT_DEFAULT 5001
#define VSOCK_CID_DEFAULT  2

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

/* A connected socket; for ENDPOINT_FD a duplicate of the inherited one. */
int endpoint_connect(const struct endpoint *e, int *ret_fd, char *err, size_t err_len);

/*
 * A listening socket; an old Unix socket that nobody listens on is replaced.
 * For ENDPOINT_FD: a duplicate; *ret_connected tells that it is connected
 * already (serve it once) rather than listening.
 */
int endpoint_listen(const struct endpoint *e, int *ret_fd, bool *ret_connected, char *err,
		    size_t err_len);
