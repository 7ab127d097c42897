#include "fuse/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/mountinfo.h"

struct mounts {
	char *mountpoint;
	int fd; /* /proc/self/mountinfo: poll(2) tells of changes */
	pthread_mutex_t lock;
	bool read;    /* since something was mounted or unmounted */
	char **below; /* paths relative to the mountpoint */
	size_t count;
};

static void forget(struct mounts *m)
{
	while (m->count > 0)
		free(m->below[--m->count]);
	free(m->below);
	m->below = NULL;
}

static int note(struct mounts *m, const char *path)
{
	size_t n = strlen(m->mountpoint);

	if (strncmp(path, m->mountpoint, n) != 0 || path[n] != '/')
		return 0;
	char **p = realloc(m->below, (m->count + 1) * sizeof(*p));
	char *copy = strdup(path + n + 1);
	if (p != NULL)
		m->below = p;
	if (p == NULL || copy == NULL) {
		free(copy);
		return -ENOMEM;
	}
	m->below[m->count++] = copy;
	return 0;
}

/* Through a fd of its own: m->fd's change flag stands for what this has not seen. */
static int read_table(struct mounts *m)
{
	struct mountinfo table CLEANUP(mountinfo_close) = mountinfo_open(MOUNTINFO_SELF);
	int r;

	forget(m);
	while ((r = mountinfo_next(&table)) > 0 && (r = note(m, table.path)) == 0)
		;
	return r;
}

enum mounted mounts_below(struct mounts *m, struct cache *cache, uint64_t parent, const char *name,
			  size_t len)
{
	struct pollfd p = {.fd = m->fd, .events = POLLPRI};
	char path[PATH_MAX];

	SCOPE_LOCK(&m->lock);
	/* of a mount that moves with a directory above it poll(2) tells nothing */
	if (poll(&p, 1, 0) != 0 || m->count > 0)
		m->read = false;
	if (!m->read && read_table(m) < 0)
		return MOUNTED_BELOW;
	m->read = true;
	if (m->count == 0)
		return MOUNTED_NONE;
	if (!cache_path(cache, parent, path, sizeof(path)))
		return MOUNTED_BELOW;
	size_t at = strlen(path);
	if (at + len + 2 > sizeof(path))
		return MOUNTED_BELOW;
	if (at > 0)
		path[at++] = '/';
	memcpy(path + at, name, len);
	at += len;
	for (size_t i = 0; i < m->count; i++)
		if (strncmp(m->below[i], path, at) == 0 &&
		    (m->below[i][at] == '\0' || m->below[i][at] == '/'))
			return MOUNTED_BELOW;
	return MOUNTED_NONE;
}

int mounts_new(const char *mountpoint, struct mounts **ret)
{
	struct mounts *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return -ENOMEM;
	(void)pthread_mutex_init(&m->lock, NULL);
	m->fd = open(MOUNTINFO_SELF, O_RDONLY | O_CLOEXEC);
	m->mountpoint = strdup(mountpoint);
	if (m->fd < 0 || m->mountpoint == NULL) {
		int e = m->fd < 0 ? -errno : -ENOMEM;

		mounts_free(m);
		return e;
	}
	*ret = m;
	return 0;
}

void mounts_free(struct mounts *m)
{
	if (m == NULL)
		return;
	forget(m);
	free(m->mountpoint);
	cleanup_close(&m->fd);
	(void)pthread_mutex_destroy(&m->lock);
	free(m);
}
