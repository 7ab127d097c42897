#include "host/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"

/* The directory of a path, and the name in it. */
static int open_parent(const char *path, char name[256])
{
	const char *slash = strrchr(path, '/'), *last = slash != NULL ? slash + 1 : path;
	char dir[LEFTOVER_MAX];

	if (*last == '\0' || strlen(last) >= 256 || strlen(path) >= sizeof(dir))
		return -EINVAL;
	memcpy(name, last, strlen(last) + 1);
	(void)snprintf(dir, sizeof(dir), "%.*s", slash != NULL ? (int)(slash - path) + 1 : 1,
		       slash != NULL ? path : ".");
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int leftovers_add(struct leftovers *l, const char *path)
{
	struct stat st;
	char name[256];

	if (l->n == LEFTOVERS_MAX)
		return -ENOSPC;
	CLEANUP_CLOSE int dir = open_parent(path, name);
	if (dir < 0)
		return dir;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	memcpy(l->file[l->n].name, name, sizeof(name));
	l->file[l->n].dev = st.st_dev;
	l->file[l->n].ino = st.st_ino;
	l->file[l->n++].dir = take_fd(&dir);
	return 0;
}

void leftovers_remove(struct leftovers *l)
{
	struct stat st;

	for (size_t i = 0; i < l->n; i++) {
		if (fstatat(l->file[i].dir, l->file[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    st.st_dev == l->file[i].dev && st.st_ino == l->file[i].ino)
			(void)unlinkat(l->file[i].dir, l->file[i].name, 0);
		cleanup_close(&l->file[i].dir);
	}
	l->n = 0;
}
