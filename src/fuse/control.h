/*
 * The control socket of a mount, for vfsstat: a Unix stream socket beside the
 * statistics segment (its name ends in .control instead of .stats), mode 0600.
 * Root and the user who mounted may talk to it; others are refused (SO_PEERCRED).
 *
 * One line is a request: words, parted by one space. The answer is any number
 * of lines and then "ok", or "error" and why. Paths are relative to the
 * mountpoint, "." is the root of it; what is no printable ASCII, space and '%'
 * travel as %XX.
 *
 *   get [NAME...]           NAME VALUE per line: all, or these
 *   set NAME=VALUE...       all of them or, on an error, none
 *   drop PATH...            forget what is kept of these
 *   drop --everything
 *   sync                    answered when what the host did before is visible
 *   restart                 the program on the disk takes the place of this one, if
 *                           the mount is supervised; answered when it has
 *   trace on|off            every request goes to the log of the mount
 *   watch NS                from here on one line per request that took NS or
 *                           longer, until the peer hangs up: time uid pid op
 *                           errno ns wait rtt trips path; time is nanoseconds
 *                           since 1970, wait and rtt those of its last message
 *                           to the host
 *
 * One thread serves everybody and never waits for a peer: one that does not
 * read loses lines of its watch (trace.dropped). It also tells the statistics
 * each second that the daemon runs.
 */
#pragma once

struct control;
struct fs;
struct trace;

/*
 * Starts the thread. Without a place for the socket (private statistics, a
 * path too long) there is none, and that is logged. 0 or -errno.
 */
int control_new(struct fs *fs, struct control **ret);
/* Before what the thread uses ends. */
void control_stop(struct control *c);
/* When no fence can be answered any more. */
void control_free(struct control *c);
struct trace *control_trace(struct control *c);
