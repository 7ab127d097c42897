/*
 * A process that outlives the client by a moment. A thread of the client that waits in the kernel
 * for a page or a directory, which a request has locked that the client was to answer, keeps a
 * client that is killed from ending, and with it everybody who waits for an answer. The watchdog
 * hears of the death of the client's first thread, and aborts the FUSE connection: then all of
 * them go on.
 */
#pragma once

#define WATCHDOG_NAME "vsockfs-watchdog"

/*
 * Starts one, a child that ends with the caller, for the mount at `mountpoint`. It waits for the
 * end of the thread that starts it. Without the right to see FUSE's connections there is none,
 * which the log says.
 */
void watchdog_start(const char *mountpoint, unsigned connection);

/* The file that aborts that connection when something is written to it; -1: there is no right to.
 */
int watchdog_abort_file(unsigned connection);

/* The program's main function when it was started under WATCHDOG_NAME. */
int watchdog_main(int argc, char **argv);
