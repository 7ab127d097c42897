/* Open files, as fuse_file_info.fh has them. */
#include "fuse/fs_priv.h"

#include <stdlib.h>

#include "core/cleanup.h"
#include "core/log.h"

struct kfile *kfile_new(struct fs *fs)
{
	struct kfile *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	SCOPE_LOCK(&fs->lock);
	f->next = fs->files;
	if (f->next != NULL)
		f->next->prev = f;
	fs->files = f;
	return f;
}

void kfile_free(struct fs *fs, struct kfile *f)
{
	if (f == NULL)
		return;
	(void)pthread_mutex_lock(&fs->lock);
	*(f->prev != NULL ? &f->prev->next : &fs->files) = f->next;
	if (f->next != NULL)
		f->next->prev = f->prev;
	(void)pthread_mutex_unlock(&fs->lock);
	free(f);
}

void kfiles_lose_locks(struct fs *fs)
{
	unsigned lost = 0;

	(void)pthread_mutex_lock(&fs->lock);
	for (struct kfile *f = fs->files; f != NULL; f = f->next) {
		if (!atomic_load(&f->locked))
			continue;
		atomic_store(&f->lost, true);
		lost++;
	}
	(void)pthread_mutex_unlock(&fs->lock);
	stats_add(fs->stats, STAT_conn_locks_lost, lost);
	log_err("the server has released the locks of this mount: %u open files give EIO until they "
		"are closed",
		lost);
}
