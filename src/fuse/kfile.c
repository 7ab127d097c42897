/* Open files, as fuse_file_info.fh has them. */
#include "fuse/fs_priv.h"

#include <stdlib.h>

#include "core/cleanup.h"

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
