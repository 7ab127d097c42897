#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "fuse/fs_priv.h"

struct item {
	struct item *next;
	fuse_ino_t ino;
};

struct notify {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct item *head, **tail;
	bool stopping;
};

static void *notify_main(void *arg)
{
	struct notify *n = arg;

	(void)pthread_mutex_lock(&n->lock);
	while (!n->stopping) {
		struct item *item = n->head;

		if (item == NULL) {
			(void)pthread_cond_wait(&n->work, &n->lock);
			continue;
		}
		n->head = item->next;
		if (n->head == NULL)
			n->tail = &n->head;
		(void)pthread_mutex_unlock(&n->lock);
		/* May write back dirty pages of a mapping, and so wait for WRITEs of our own. */
		(void)fuse_lowlevel_notify_inval_inode(n->fs->se, item->ino, 0, 0);
		stats_add(n->fs->stats, STAT_inval_sent, 1);
		free(item);
		(void)pthread_mutex_lock(&n->lock);
	}
	(void)pthread_mutex_unlock(&n->lock);
	return NULL;
}

void notify_inval_inode(struct notify *n, fuse_ino_t ino)
{
	struct item *item = malloc(sizeof(*item));

	if (item == NULL)
		return; /* the attributes run out by themselves */
	*item = (struct item){.ino = ino};
	SCOPE_LOCK(&n->lock);
	*n->tail = item;
	n->tail = &item->next;
	(void)pthread_cond_signal(&n->work);
}

int notify_new(struct fs *fs, struct notify **ret)
{
	struct notify *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return -ENOMEM;
	n->fs = fs;
	n->tail = &n->head;
	(void)pthread_mutex_init(&n->lock, NULL);
	(void)pthread_cond_init(&n->work, NULL);
	int e = pthread_create(&n->thread, NULL, notify_main, n);
	if (e != 0) {
		free(n);
		return -e;
	}
	*ret = n;
	return 0;
}

void notify_free(struct notify *n)
{
	if (n == NULL)
		return;
	(void)pthread_mutex_lock(&n->lock);
	n->stopping = true;
	(void)pthread_cond_signal(&n->work);
	(void)pthread_mutex_unlock(&n->lock);
	(void)pthread_join(n->thread, NULL);
	while (n->head != NULL) {
		struct item *item = n->head;

		n->head = item->next;
		free(item);
	}
	(void)pthread_mutex_destroy(&n->lock);
	(void)pthread_cond_destroy(&n->work);
	free(n);
}
