/* Open files and directories, as fuse_file_info.fh has them: by a number, which outlives us. */
#include "fuse/fs_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/outlive.h"

#define PER_PAGE (PAGED_BYTES / sizeof(struct kfile *))

/* A free place holds twice the number of the next one, and 1. */
static bool is_free(const struct kfile *f)
{
	return ((uintptr_t)f & 1) != 0;
}

static struct kfile **place(const struct fs *fs, uint64_t number)
{
	return (struct kfile **)paged_at(&fs->kfiles, number / PER_PAGE) + number % PER_PAGE;
}

/* Whoever looks has no lock: the kernel knows a number only when its place has been written. */
static struct kfile *at_place(const struct fs *fs, uint64_t number)
{
	return __atomic_load_n(place(fs, number), __ATOMIC_ACQUIRE);
}

static void put_locked(struct fs *fs, uint64_t number, struct kfile *f)
{
	__atomic_store_n(place(fs, number), f, __ATOMIC_RELEASE);
}

struct kfile *kfile_of(const struct fs *fs, const struct fuse_file_info *fi)
{
	if (fi->fh == 0 || fi->fh >= __atomic_load_n(&fs->numbers, __ATOMIC_ACQUIRE))
		return NULL;
	struct kfile *f = at_place(fs, fi->fh);
	return is_free(f) ? NULL : f;
}

static uint64_t take_number_locked(struct fs *fs)
{
	uint64_t number = fs->free_number;

	if (number != 0) {
		fs->free_number = (uint64_t)(uintptr_t)at_place(fs, number) >> 1;
		return number;
	}
	number = fs->numbers > 0 ? fs->numbers : 1; /* no number is 0 */
	if (number / PER_PAGE == fs->kfiles.count && paged_grow(&fs->kfiles) < 0)
		return 0;
	__atomic_store_n(&fs->numbers, number + 1, __ATOMIC_RELEASE);
	return number;
}

static void give_number_locked(struct fs *fs, uint64_t number)
{
	put_locked(fs, number, (struct kfile *)(uintptr_t)(fs->free_number << 1 | 1));
	fs->free_number = number;
}

static void link_locked(struct fs *fs, struct kfile *f)
{
	f->next = fs->files;
	if (f->next != NULL)
		f->next->prev = f;
	fs->files = f;
}

struct kfile *kfile_new(struct fs *fs)
{
	struct kfile *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	SCOPE_LOCK(&fs->lock);
	f->number = take_number_locked(fs);
	if (f->number == 0) {
		free(f);
		return NULL;
	}
	put_locked(fs, f->number, f);
	link_locked(fs, f);
	return f;
}

void kfile_released(const struct kfile *f)
{
	if (outlive != NULL && f->number < OUTLIVE_FILES)
		__atomic_store_n(&outlive_file_at((uint32_t)f->number)->used, 0, __ATOMIC_SEQ_CST);
}

void kfile_free(struct fs *fs, struct kfile *f)
{
	if (f == NULL)
		return;
	kfile_released(f);
	(void)pthread_mutex_lock(&fs->lock);
	give_number_locked(fs, f->number);
	*(f->prev != NULL ? &f->prev->next : &fs->files) = f->next;
	if (f->next != NULL)
		f->next->prev = f->prev;
	(void)pthread_mutex_unlock(&fs->lock);
	free(f);
}

void kfiles_free(struct fs *fs)
{
	while (fs->files != NULL) /* of a mount that was taken away from its users */
		kfile_free(fs, fs->files);
	paged_done(&fs->kfiles);
}

/* ---- for whoever takes our place ---- */

enum {
	KEPT_FLUSH = 1,
	KEPT_WRITES = 2,
	KEPT_DIRECT = 4,
	KEPT_AGAIN = 8,
	KEPT_LOCKED = 16,
	KEPT_LOST = 32,
	KEPT_DIR = 64
};

void kfile_outlive(const struct fs *fs, const struct kfile *f, fuse_ino_t ino, uint64_t unique)
{
	if (outlive == NULL)
		return;
	if (f->number >= OUTLIVE_FILES) {
		outlive->overflow = 1;
		return;
	}
	struct outlive_file *to = outlive_file_at((uint32_t)f->number);
	const struct outlive_file record = {
		.ino = ino,
		.fh = f->listing == NULL ? cache_server_file(fs->cache, f->fh) : 0,
		.unique = unique & ~OUTLIVE_RESENT,
		.flags = (f->flush ? KEPT_FLUSH : 0u) | (f->writes ? KEPT_WRITES : 0u) |
			 (f->direct ? KEPT_DIRECT : 0u) | (f->again ? KEPT_AGAIN : 0u) |
			 (atomic_load(&f->locked) ? KEPT_LOCKED : 0u) |
			 (atomic_load(&f->lost) ? KEPT_LOST : 0u) |
			 (f->listing != NULL ? KEPT_DIR : 0u)};
	uint32_t used = to->used;

	*to = record;
	to->used = used;
	if (f->number >= outlive->file_slots)
		outlive->file_slots = (uint32_t)f->number + 1;
	__atomic_store_n(&to->used, 1, __ATOMIC_SEQ_CST);
}

void kfile_was_locked(const struct fs *fs, struct kfile *f)
{
	atomic_store(&f->locked, true);
	if (outlive != NULL && f->number < OUTLIVE_FILES)
		(void)__atomic_fetch_or(&outlive_file_at((uint32_t)f->number)->flags, KEPT_LOCKED,
					__ATOMIC_SEQ_CST);
	(void)fs;
}

void kfile_not_again(const struct fs *fs, struct kfile *f)
{
	f->again = false;
	if (outlive != NULL && f->number < OUTLIVE_FILES)
		(void)__atomic_fetch_and(&outlive_file_at((uint32_t)f->number)->flags,
					 ~(uint32_t)KEPT_AGAIN, __ATOMIC_SEQ_CST);
	(void)fs;
}

static int restore(struct fs *fs, uint32_t number, const struct outlive_file *o)
{
	struct kfile *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return -ENOMEM;
	f->number = number;
	f->flush = (o->flags & KEPT_FLUSH) != 0;
	f->writes = (o->flags & KEPT_WRITES) != 0;
	f->direct = (o->flags & KEPT_DIRECT) != 0;
	f->again = (o->flags & KEPT_AGAIN) != 0;
	atomic_store(&f->locked, (o->flags & KEPT_LOCKED) != 0);
	atomic_store(&f->lost, (o->flags & KEPT_LOST) != 0);
	*place(fs, number) = f;
	link_locked(fs, f);
	if ((o->flags & KEPT_DIR) != 0)
		return listing_new(fs->cache, o->ino, &f->listing);
	f->fh = cache_restore_file(fs->cache, o->ino, o->fh, f->direct);
	return f->fh != 0 ? 0 : -ENOMEM;
}

int kfiles_restore(struct fs *fs)
{
	int r = 0;

	SCOPE_LOCK(&fs->lock);
	for (uint32_t i = 1; i < outlive->file_slots && r == 0; i++) {
		const struct outlive_file *o = outlive_file_at(i);

		while (i / PER_PAGE >= fs->kfiles.count && r == 0)
			r = paged_grow(&fs->kfiles) < 0 ? -ENOMEM : 0;
		fs->numbers = i + 1;
		if (r == 0 && o->used)
			r = restore(fs, i, o);
		else if (r == 0)
			give_number_locked(fs, i);
	}
	return r;
}

/* The kernel has not had the answer to the request that opened it. */
void kfiles_not_opened(struct fs *fs, uint64_t unique)
{
	for (struct kfile *f = fs->files, *next; f != NULL; f = next) {
		const struct outlive_file *o = outlive_file_at((uint32_t)f->number);

		next = f->next;
		if (o->unique != unique)
			continue;
		if (f->listing != NULL)
			listing_free(f->listing);
		else
			cache_unrestore_file(fs->cache, o->ino, f->fh, f->direct);
		kfile_free(fs, f);
	}
}

void kfiles_lose_locks(struct fs *fs)
{
	unsigned lost = 0;

	(void)pthread_mutex_lock(&fs->lock);
	for (struct kfile *f = fs->files; f != NULL; f = f->next) {
		if (!atomic_load(&f->locked))
			continue;
		atomic_store(&f->lost, true);
		if (outlive != NULL && f->number < OUTLIVE_FILES)
			(void)__atomic_fetch_or(&outlive_file_at((uint32_t)f->number)->flags,
						KEPT_LOST, __ATOMIC_SEQ_CST);
		lost++;
	}
	(void)pthread_mutex_unlock(&fs->lock);
	stats_add(fs->stats, STAT_conn_locks_lost, lost);
	log_err("the server has released the locks of this mount: %u open files give EIO until they "
		"are closed",
		lost);
}
