/*
 * Watching the export for changes that did not come through this server, and
 * breaking the promises about what they touch.
 *
 * fanotify(7), with a mark on each file system that the export is met to have:
 * it sees that whole file system, so an event is first looked up in a filter
 * of handles (hnodes_find_event). Events are "this is no longer true", never
 * what has become of it: the kernel merges and reorders them. Own changes are
 * known by the process id: whoever makes them breaks the promises (struct
 * change). When the kernel's queue, which is bounded, overflows, and when
 * something is mounted or unmounted inside, everybody gets RESET.
 *
 * The events of a system call are queued before it returns. So watch_fence,
 * which reads until there are none, has seen all that had returned before.
 *
 * Calling sequence: watch_new, before any session; watch_free after the last.
 */
#pragma once

#include <stddef.h>

struct export;
struct hnodes;
struct promises;
struct stats;
struct watch;

enum watch_mode {
	WATCH_NONE,
	WATCH_FILESYSTEMS,
};

/* Not being able to watch is no error. Logs how the export is watched. */
int watch_new(struct export *e, struct hnodes *nodes, struct promises *promises,
	      struct stats *stats, struct watch **ret);
void watch_free(struct watch *w); /* NULL is allowed */

enum watch_mode watch_mode(const struct watch *w);

/* Breaks the promises about everything that has returned on the host by now. */
void watch_fence(struct watch *w);
