/*
 * Telling a service manager how it stands with this process (sd_notify(3)): by a socket that is
 * connected at the start, since later no path leads to the manager's any more.
 */
#pragma once

/* The socket, or -1: nobody asked for it (NOTIFY_SOCKET), or nobody listens. */
int ready_open(void);
/* state: "READY=1". Nothing if fd is -1. */
void ready_tell(int fd, const char *state);
