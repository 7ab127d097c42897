/*
 * Watching the export for changes that did not come through this server, and
 * breaking the promises about what they touch.
 *
 * fanotify(7), with a mark on each file system that the export is met to have:
 * the mark sees the whole file system, so an event's object is first looked up in a
 * filter of handles (hnodes_find_event). Without the privilege for such marks, there are
 * marks on the directories, and on files with several names, about which something is
 * promised. Then the server does not see that the host gives a file a further name in
 * a directory that no client knows. An event only says that a fact about an object is
 * not true any more, never the new fact: the kernel merges and reorders events. Events
 * of this process are known by its id and ignored: the request that makes a change
 * breaks the promises (struct change). When the kernel's queue, which is bounded, overflows, and
 * when something is mounted or unmounted inside, everybody gets RESET.
 *
 * The kernel queues the events of a system call before the call returns. So watch_fence,
 * which reads until the queue is empty, has seen all calls that had returned before.
 *
 * Calling sequence: watch_new, before any session; watch_free after the last.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct export;
struct hnode;
struct hnodes;
struct promises;
struct stats;
struct watch;

enum watch_mode {
	WATCH_NONE,
	WATCH_FILESYSTEMS,
	WATCH_OBJECTS, /* without privileges: directories, and files with several names */
};

/*
 * A fanotify group, and how many events and marks the kernel allows one of this user's. Where this
 * process may not mark file systems any more, mark does it for it: 0 or -errno.
 */
struct watch_group {
	int fd;
	size_t queue_max, user_marks;
	int (*mark)(void *arg, uint64_t mask, int fd); /* NULL: this process does it */
	void *mark_arg;
};

int watch_group_open(struct watch_group *ret); /* 0 or -errno; mark is NULL */

/*
 * Logs how the export is watched. No error if it cannot be watched at all. group is borrowed; with
 * NULL the watcher opens one.
 */
int watch_new(struct export *e, struct hnodes *nodes, struct promises *promises,
	      struct stats *stats, const struct watch_group *group, struct watch **ret);
void watch_free(struct watch *w); /* NULL is allowed */

enum watch_mode watch_mode(const struct watch *w);

/*
 * Makes sure that changes of n, whose object or open file fd is, are seen from now on;
 * false if that is not possible. In WATCH_OBJECTS this may take a mark. The number of marks
 * is limited, and n keeps its mark until no client knows n any more.
 */
bool watch_cover(struct watch *w, struct hnode *n, int fd);
/*
 * watch_cover for a node that was just found in a directory that is covered, after the node's
 * attributes were read: *ret_again is set if the attributes have to be read again. The
 * directory's mark sees changes of a file that has no other name.
 */
struct attr;
bool watch_cover_found(struct watch *w, struct hnode *n, int fd, const struct attr *attr,
		       bool *ret_again);

/* Breaks the promises about all changes by system calls that have returned on the host by now. */
void watch_drain(struct watch *w);
/* watch_drain, and looks for mounts inside the export that have come or gone. */
void watch_fence(struct watch *w);
/* True if the whole export is known to be one file system. */
bool watch_single(struct watch *w);
