/* The verbs: one request to the control socket of a mount (fuse/control.h). Exit codes. */
#pragma once

#include "segment.h"

/* Sends one line and shows what comes before "ok". */
int control_ask(const struct segment *g, const char *request);
/* --slow: shows requests that took longer than ms, until the mount or the reader goes. */
int control_slow(const struct segment *g, double ms);
/* A path for a request: '%', spaces and what is no printable ASCII as %XX. */
int control_escape(const char *path, char *buf, size_t len);
