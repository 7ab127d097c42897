/*
 * A process that outlives the client, and starts it again in the same mount.
 *
 * It keeps /dev/fuse and the tables of core/outlive.h, takes no lock and no memory, and does
 * nothing until it hears of the client: that its first thread has died, upon which another one
 * takes its place (other threads of it may wait in the kernel for what only that one can answer),
 * or that it is to be replaced. A new client is the program as it is on the disk by then, with the
 * arguments of before; the old one is killed when the new one has said that it understands the
 * tables. When that fails too often, the supervisor does what the watchdog does: it aborts the FUSE
 * connection.
 *
 * The client is told its descriptors in the environment (supervised_begin). Its messages are a
 * letter and descriptors: prepared, mounted, ready, and restart, with the descriptor of who is to
 * hear how that went.
 */
#pragma once

#include <stdbool.h>

/* Whether there can be one on this kernel; if not, *ret_why tells what is missing. */
bool supervise_possible(const char **ret_why);

/*
 * The program's work from here on, until the client has ended by itself; returns the exit code. The
 * signals that end the mount are blocked. ready: called when the first client says that it is.
 */
int supervise(char **argv, const char *mountpoint, void (*ready)(void));

/* ---- in a client ---- */

struct supervised {
	bool is, takes_over;
	int device_fd; /* of the client before; if there was one */
};

/* False after having said why not: the tables are not of this version. Waits for its turn. */
bool supervised_begin(struct supervised *ret);
void supervised_mounted(int device_fd, unsigned connection);
/* From here on a watchdog takes the place of a supervisor that is killed. */
void supervised_ready(unsigned connection);
/* Answers "ok" or "error ..." on fd when it has been tried. False: nobody supervises. */
bool supervised_restart(int fd);
