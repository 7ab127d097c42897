/*
 * Watching the export for changes that did not come through this server, and
 * breaking the promises about what they touch.
 *
 * fanotify(7), with a mark on each file system that the export is met to have:
 * it sees that whole file system, so an event is first looked up in a filter
 * of handles (hnodes_find_event). Without the privilege for that, with marks on
 * the directories, and files of several names, that something is promised
 * about. Then a further name that the host gives to a file in another
 * directory, which no client knows, is not seen. Events are "this is no longer true", never
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

#include <stdbool.h>
#include <stddef.h>

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

/* Not being able to watch is no error. Logs how the export is watched. */
int watch_new(struct export *e, struct hnodes *nodes, struct promises *promises,
	      struct stats *stats, struct watch **ret);
void watch_free(struct watch *w); /* NULL is allowed */

enum watch_mode watch_mode(const struct watch *w);

/*
 * Sees to it that changes of n, whose object or open file fd is, are seen from
 * now on; false if they are not. In WATCH_OBJECTS that may take a mark, of which
 * there are so many only, and which n keeps until no client knows it any more.
 */
bool watch_cover(struct watch *w, struct hnode *n, int fd);
/*
 * The same for what was just found in a directory that is covered, after its
 * attributes were read: *ret_again is set if they have to be read again. A
 * file that has no other name is seen by the directory's mark.
 */
struct attr;
bool watch_cover_found(struct watch *w, struct hnode *n, int fd, const struct attr *attr,
		       bool *ret_again);

/* Breaks the promises about everything that has returned on the host by now. */
void watch_drain(struct watch *w);
/* The same, and looks for what was mounted inside meanwhile. */
void watch_fence(struct watch *w);
/* Whether the whole export is one file system, as far as can be told. */
bool watch_single(struct watch *w);
