/*
 * Directories that are being listed. READDIRPLUS names no open directory; a
 * listing of 100,000 entries would open its directory for each batch, and
 * ext4 would build the order of its hash tree again for each.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/cleanup.h"
#include "host/dirs.h"
#include "host/export.h"
#include "host/hnode.h"

#define DIRS_MAX 8

struct open_dir {
	uint64_t node; /* 0: free */
	int fd;
	uint64_t off;
};

/* No thread uses a descriptor that is in the table: dirs_take removes the one that it returns. */
struct dirs {
	pthread_mutex_t mutex;
	struct open_dir dir[DIRS_MAX]; /* mutex */
	unsigned oldest;	       /* mutex */
};

int dirs_new(struct dirs **ret)
{
	struct dirs *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return -ENOMEM;
	(void)pthread_mutex_init(&d->mutex, NULL);
	*ret = d;
	return 0;
}

void dirs_free(struct dirs *d)
{
	if (d == NULL)
		return;
	for (unsigned i = 0; i < DIRS_MAX; i++)
		if (d->dir[i].node != 0)
			(void)close(d->dir[i].fd);
	(void)pthread_mutex_destroy(&d->mutex);
	free(d);
}

int dirs_seek(int fd, uint64_t off)
{
	struct stat st;

	if (lseek(fd, (off_t)off, SEEK_SET) >= 0)
		return 0;
	int e = errno;
	return fstat(fd, &st) == 0 && st.st_nlink == 0 ? -ENOENT : -e;
}

int dirs_take(struct dirs *d, const struct export *e, struct hnode *node, int object, uint64_t off,
	      int *ret_fd)
{
	CLEANUP_CLOSE int fd = -1;

	/* A listing from the start gets a new descriptor: a file system may have read the entries
	 * when an old one was opened. */
	if (off != 0) {
		SCOPE_LOCK(&d->mutex);
		for (unsigned i = 0; i < DIRS_MAX; i++) {
			if (d->dir[i].node == hnode_id(node) && d->dir[i].off == off) {
				d->dir[i].node = 0;
				*ret_fd = d->dir[i].fd;
				return 0;
			}
		}
	}
	int r = export_reopen(e, object, O_RDONLY | O_DIRECTORY, &fd);
	if (r < 0)
		return r;
	r = off != 0 ? dirs_seek(fd, off) : 0;
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

void dirs_give(struct dirs *d, struct hnode *node, int fd, uint64_t off)
{
	CLEANUP_CLOSE int spare = -1;

	SCOPE_LOCK(&d->mutex);
	struct open_dir *slot = &d->dir[d->oldest];
	d->oldest = (d->oldest + 1) % DIRS_MAX;
	if (slot->node != 0)
		spare = slot->fd;
	*slot = (struct open_dir){hnode_id(node), fd, off};
}

void dirs_forget(struct dirs *d, uint64_t node_id)
{
	int spare[DIRS_MAX], n = 0;

	{
		SCOPE_LOCK(&d->mutex);
		for (unsigned i = 0; i < DIRS_MAX; i++) {
			if (d->dir[i].node == node_id) {
				d->dir[i].node = 0;
				spare[n++] = d->dir[i].fd;
			}
		}
	}
	while (n > 0)
		(void)close(spare[--n]);
}
