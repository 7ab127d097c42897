/*
 * Open files that the kernel has closed. One that was opened for reading only
 * serves the next such open(2) of the same node: no round trip, and as it is a
 * descriptor of the server, no later unlink on the host takes it away. And the
 * READs of a file that meet its WRITEs.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "cache/cache_priv.h"

#define IDLE_MAX 1024 /* a descriptor of the server each */

struct file *file_of_locked(struct node *n)
{
	if (!S_ISREG(n->attr.mode))
		return NULL;
	if (n->file == NULL)
		n->file = calloc(1, sizeof(*n->file));
	return n->file;
}

void file_watch_reads_locked(struct file *f)
{
	if (f->watched)
		return;
	f->watched = true;
	f->read_from = UINT64_MAX;
	f->read_to = 0;
}

void file_read_locked(struct node *n, uint64_t off, uint64_t size)
{
	struct file *f = S_ISREG(n->attr.mode) ? n->file : NULL;
	uint64_t end = off + size;

	if (f == NULL || !f->watched)
		return;
	f->read_from = off < f->read_from ? off : f->read_from;
	f->read_to = end > f->read_to ? end : f->read_to;
}

bool file_written_locked(struct node *n, uint64_t off, uint64_t size, bool last)
{
	struct file *f = S_ISREG(n->attr.mode) ? n->file : NULL;

	if (f == NULL || !f->watched)
		return false;
	if (last && f->drops == 0)
		f->watched = false;
	return f->read_from < off + size && f->read_to > off;
}

static void unlink_idle(struct cache *c, struct idle_file *f)
{
	struct idle_file **at = &f->node->file->idle;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	*(f->newer != NULL ? &f->newer->older : &c->file_newest) = f->older;
	*(f->older != NULL ? &f->older->newer : &c->file_oldest) = f->newer;
	c->file_count--;
}

static void close_idle(struct cache *c, struct idle_file *f)
{
	unlink_idle(c, f);
	cache_close_locked(c, f->fh);
	free(f);
}

bool idle_take_locked(struct cache *c, struct node *n, uint64_t *ret_fh, uint64_t *ret_flags)
{
	struct idle_file *f = S_ISREG(n->attr.mode) && n->file != NULL ? n->file->idle : NULL;

	if (f == NULL)
		return false;
	*ret_fh = f->fh;
	*ret_flags = f->flags;
	unlink_idle(c, f);
	free(f);
	return true;
}

void idle_keep_locked(struct cache *c, struct node *n, uint64_t fh, uint64_t flags)
{
	struct file *file = file_of_locked(n);
	struct idle_file *f = file != NULL && n->nlookup > 0 ? malloc(sizeof(*f)) : NULL;

	if (f == NULL) {
		cache_close_locked(c, fh);
		return;
	}
	*f = (struct idle_file){
		.next = file->idle, .older = c->file_newest, .node = n, .fh = fh, .flags = flags};
	file->idle = f;
	*(f->older != NULL ? &f->older->newer : &c->file_oldest) = f;
	c->file_newest = f;
	if (++c->file_count > IDLE_MAX)
		close_idle(c, c->file_oldest);
}

void idle_close_locked(struct cache *c, struct node *n)
{
	if (n == NULL) {
		while (c->file_oldest != NULL)
			close_idle(c, c->file_oldest);
		return;
	}
	while (S_ISREG(n->attr.mode) && n->file != NULL && n->file->idle != NULL)
		close_idle(c, n->file->idle);
}
