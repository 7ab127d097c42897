/*
 * The table of mounts that the kernel shows (proc(5), /proc/PID/mountinfo), line by line:
 *
 *   36 35 98:0 /root /mount\040point rw,noatime master:1 - ext3 /dev/root rw,errors=continue
 *
 *   struct mountinfo m CLEANUP(mountinfo_close) = mountinfo_open(MOUNTINFO_SELF);
 *   while ((r = mountinfo_next(&m)) > 0)
 *           ...m.path...
 *
 * Of several mounts at one place the last one is visible. One thread at a time.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

#define MOUNTINFO_SELF "/proc/self/mountinfo"

struct mountinfo {
	/* The mount that mountinfo_next found; valid until the next call. */
	char *line;			  /* the whole line, '\n' included */
	const char *device;		  /* "MAJOR:MINOR" */
	const char *path;		  /* of the mount point, its octal escapes undone */
	const char *type;		  /* "fuse.vsockfs" */
	const char *options, *fs_options; /* of the mount "ro,nosuid", of the file system "rw" */

	/* used by mountinfo.c alone */
	FILE *file;
	char *words; /* a copy of the line, cut into words */
	size_t size;
	int error;
};

/* If the file cannot be opened, mountinfo_next returns the error. */
struct mountinfo mountinfo_open(const char *file);
/* 1, 0 at the end, or -errno. A line that lacks one of the fields is passed over. */
int mountinfo_next(struct mountinfo *m);
void mountinfo_close(struct mountinfo *m);
