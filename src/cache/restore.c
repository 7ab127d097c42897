#include "cache/restore.h"

#include <sys/stat.h>

#include "cache/in_kernel.h"
#include "cache/names.h"
#include "cache/node.h"
#include "cache/opens.h"
#include "core/cleanup.h"
#include "core/outlive.h"

int cache_restore_locked(struct cache *c)
{
	uint32_t at = 0;
	struct outlive_name *o;
	int r = nodes_restore_locked(c);

	for (uint32_t i = 1; r == 0 && i < c->slot_count; i++)
		if (node_at_locked(c, i) != NULL)
			kernel_data_noted_locked(node_at_locked(c, i));

	/* The replies of before may be older than what was taken in, and than our own changes. */
	c->clock = 1;
	c->last_seq = c->floor_seq = outlive->seq;
	while (r == 0 && (o = outlive_next_name(&at)) != NULL) {
		struct node *dir = node_find_locked(c, o->dir);

		if (dir != NULL && S_ISDIR(dir->attr.mode))
			r = name_restore_locked(c, dir, o->name, o->len, at);
		else
			outlive_unname(at); /* the kernel has forgotten the directory */
	}
	return r;
}

uint64_t cache_server_file(struct cache *c, uint64_t fh)
{
	SCOPE_LOCK(&c->lock);
	return opens_find_locked(c, fh);
}

uint64_t cache_restore_file(struct cache *c, uint64_t ino, uint64_t server, bool appending)
{
	(void)pthread_mutex_lock(&c->lock);
	uint64_t fh = opens_add_locked(c, server);
	(void)pthread_mutex_unlock(&c->lock);
	if (fh != 0)
		cache_opened(c, ino, true, appending);
	return fh;
}

/* The server closes what the client does not say that it has. */
void cache_unrestore_file(struct cache *c, uint64_t ino, uint64_t fh, bool appending)
{
	cache_opened(c, ino, false, appending);
	SCOPE_LOCK(&c->lock);
	(void)opens_take_locked(c, fh);
}

void cache_doubt(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	if (n != NULL && n->id != CACHE_ROOT)
		n->flags |= NODE_DOUBTED;
}
