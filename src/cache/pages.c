/*
 * Pages: blocks of files that the kernel has asked for more than once, and so
 * has dropped in between. What the kernel holds is not kept a second time. And
 * READs that may bring it old bytes again.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/cache_priv.h"
#include "core/cleanup.h"

#define BLOCK_SHIFT 17 /* 128 KiB, the kernel's smallest readahead */
#define BLOCK_SIZE  ((uint64_t)1 << BLOCK_SHIFT)

struct block {
	struct hash_link link;
	struct node *node;
	uint64_t index;
	struct block *next, *prev; /* of the node */
	struct block *newer, *older;
	uint32_t len; /* less than a block: the end of the file is in it */
	bool visited;
	unsigned char data[];
};

static uint32_t block_hash(const struct node *n, uint64_t index)
{
	return (uint32_t)hash_mix(n->id ^ hash_mix(index));
}

static struct block *find(const struct cache *c, const struct node *n, uint64_t index)
{
	struct hash_link *l = hash_first(&c->blocks, block_hash(n, index));

	for (; l != NULL; l = hash_next(l)) {
		struct block *b = HASH_ENTRY(l, struct block, link);

		if (b->node == n && b->index == index)
			return b;
	}
	return NULL;
}

static void drop(struct cache *c, struct block *b)
{
	if (c->block_hand == b)
		c->block_hand = b->newer;
	*(b->newer != NULL ? &b->newer->older : &c->block_newest) = b->older;
	*(b->older != NULL ? &b->older->newer : &c->block_oldest) = b->newer;
	*(b->prev != NULL ? &b->prev->next : &b->node->file->blocks) = b->next;
	if (b->next != NULL)
		b->next->prev = b->prev;
	hash_del(&c->blocks, &b->link);
	c->block_bytes -= b->len;
	stats_sub(c->options.stats, STAT_cache_pages, b->len);
	free(b);
}

void pages_drop_locked(struct cache *c, struct node *n)
{
	if (n->file == NULL)
		return;
	n->file->asked = 0;
	while (n->file->blocks != NULL)
		drop(c, n->file->blocks);
}

/* SIEVE, as in nodes_evict_locked. */
void pages_evict_locked(struct cache *c)
{
	struct block *b = c->block_hand;

	while (c->block_bytes > c->options.page_budget) {
		if (b == NULL)
			b = c->block_oldest;
		struct block *next = b->newer;

		if (b->visited)
			b->visited = false;
		else
			drop(c, b);
		b = next;
	}
	c->block_hand = b;
}

static void keep(struct cache *c, struct node *n, uint64_t index, const void *data, size_t len)
{
	struct block *b = find(c, n, index);

	if (b != NULL)
		drop(c, b);
	b = malloc(sizeof(*b) + len);
	if (b == NULL)
		return;
	*b = (struct block){.node = n, .index = index, .len = (uint32_t)len};
	memcpy(b->data, data, len);
	if (hash_add(&c->blocks, &b->link, block_hash(n, index)) < 0) {
		free(b);
		return;
	}
	b->next = n->file->blocks;
	if (b->next != NULL)
		b->next->prev = b;
	n->file->blocks = b;
	b->older = c->block_newest;
	*(b->older != NULL ? &b->older->newer : &c->block_oldest) = b;
	c->block_newest = b;
	c->block_bytes += len;
	stats_add(c->options.stats, STAT_cache_pages, len);
	pages_evict_locked(c);
}

void pages_install_locked(struct cache *c, struct node *n, uint64_t off, size_t asked,
			  struct slice data)
{
	struct file *f = c->options.page_budget > 0 ? file_of_locked(n) : NULL;
	bool end = data.len < asked;

	if (f == NULL || data.len == 0)
		return;
	for (uint64_t i = (off + BLOCK_SIZE - 1) >> BLOCK_SHIFT;; i++) {
		uint64_t start = i << BLOCK_SHIFT;

		if (start >= off + data.len || (start + BLOCK_SIZE > off + data.len && !end))
			return;
		uint64_t bit = UINT64_C(1) << (i & 63);
		size_t left = (size_t)(off + data.len - start);
		if (f->asked & bit)
			keep(c, n, i, (const char *)data.data + (start - off),
			     left < BLOCK_SIZE ? left : BLOCK_SIZE);
		f->asked |= bit;
	}
}

bool pages_read_locked(struct cache *c, struct node *n, uint64_t off, size_t size, void **ret,
		       size_t *ret_len)
{
	if (!S_ISREG(n->attr.mode) || n->file == NULL || n->file->blocks == NULL || size == 0)
		return false;
	unsigned char *out = malloc(size);
	size_t got = 0;

	while (out != NULL && got < size) {
		uint64_t at = off + got;
		struct block *b = find(c, n, at >> BLOCK_SHIFT);

		if (b == NULL) {
			free(out);
			return false;
		}
		size_t from = (size_t)(at & (BLOCK_SIZE - 1));
		size_t len = from < b->len ? b->len - from : 0;
		if (len > size - got)
			len = size - got;
		memcpy(out + got, b->data + from, len);
		b->visited = true;
		got += len;
		if (b->len < BLOCK_SIZE)
			break;
	}
	*ret = out;
	*ret_len = got;
	return out != NULL;
}

/* ---- the kernel's own pages ---- */

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

void cache_drops_pages(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);
	struct file *f = n != NULL ? file_of_locked(n) : NULL;

	if (f == NULL)
		return;
	file_watch_reads_locked(f);
	f->drops++;
}

void cache_pages_dropped(struct cache *c, uint64_t ino)
{
	SCOPE_LOCK(&c->lock);
	struct node *n = node_find_locked(c, ino);

	if (n != NULL && S_ISREG(n->attr.mode) && n->file != NULL && n->file->drops > 0)
		n->file->drops--;
}
