/*
 * Pages: blocks of files that the kernel has asked for more than once, and so
 * has dropped in between. What the kernel holds is not kept a second time. And
 * READs that may bring it old bytes again.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/node.h"
#include "cache/pages.h"
#include "core/cleanup.h"

#define BLOCK_SHIFT 17 /* 128 KiB, the kernel's smallest readahead */
#define BLOCK_SIZE  ((uint64_t)1 << BLOCK_SHIFT)
#define OPEN_BYTES  (64u << 10) /* of what comes with OPEN */
#define OPEN_TRIES  64u		/* opens that tell whether files are read that are opened */

struct block {
	atomic_uint refs; /* the cache, and whoever copies it */
	struct hash_link link;
	struct node *node;
	uint64_t index;
	struct block *next, *prev; /* of the node */
	struct block *newer, *older;
	uint32_t len; /* less than a block: the end of the file is in it */
	bool visited;
	bool once; /* came with OPEN: of no use once the kernel has read it to the end */
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

static void put(struct block *b)
{
	if (atomic_fetch_sub(&b->refs, 1) == 1)
		free(b);
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
	put(b);
}

void pages_drop_locked(struct cache *c, struct node *n)
{
	if (n->file == NULL)
		return;
	n->file->asked = 0;
	n->file->drop_count++;
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

/* ---- keeping: blocks are copied without the lock ---- */

static struct block *block_new(struct node *n, uint64_t index, const void *data, size_t len,
			       bool once)
{
	struct block *b = malloc(sizeof(*b) + len);

	if (b == NULL)
		return NULL;
	*b = (struct block){
		.refs = 1, .node = n, .index = index, .len = (uint32_t)len, .once = once};
	memcpy(b->data, data, len);
	return b;
}

static void add_locked(struct cache *c, struct block *b)
{
	struct node *n = b->node;
	struct block *old = find(c, n, b->index);

	if (old != NULL)
		drop(c, old);
	if (hash_add(&c->blocks, &b->link, block_hash(n, b->index)) < 0) {
		put(b);
		return;
	}
	b->next = n->file->blocks;
	if (b->next != NULL)
		b->next->prev = b;
	n->file->blocks = b;
	b->older = c->block_newest;
	*(b->older != NULL ? &b->older->newer : &c->block_oldest) = b;
	c->block_newest = b;
	c->block_bytes += b->len;
	stats_add(c->options.stats, STAT_cache_pages, b->len);
	pages_evict_locked(c);
}

struct pages_wanted pages_want_locked(struct cache *c, struct node *n, uint64_t off, size_t asked,
				      size_t len)
{
	struct file *f = c->options.page_budget > 0 ? file_of_locked(n) : NULL;
	struct pages_wanted w = {0};
	bool end = len < asked;

	if (f == NULL || len == 0)
		return w;
	w.first = (off + BLOCK_SIZE - 1) >> BLOCK_SHIFT;
	w.drop_count = f->drop_count;
	for (unsigned i = 0; i < PAGES_BLOCKS; i++) {
		uint64_t start = (w.first + i) << BLOCK_SHIFT;
		uint64_t bit = UINT64_C(1) << ((w.first + i) & 63);

		if (start >= off + len || (start + BLOCK_SIZE > off + len && !end))
			break;
		if (f->asked & bit)
			w.blocks |= 1u << i;
		f->asked |= bit;
	}
	return w;
}

/* At least a quarter of the last ones was read; if not, one of OPEN_TRIES / 4 is tried. */
static bool pays_locked(struct cache *c)
{
	if (c->brought >= OPEN_TRIES) {
		c->brought /= 2;
		c->brought_read /= 2;
	}
	return c->brought++ < OPEN_TRIES / 4 || c->brought_read * 4 >= c->brought ||
	       c->brought % (OPEN_TRIES / 4) == 0;
}

uint64_t pages_with_open_locked(struct cache *c, const struct node *n, const struct msg *m)
{
	const uint64_t other = O_ACCMODE | O_TRUNC | O_DIRECT | O_NOATIME;
	bool opens = msg_is(m->op, TRAIT_OPENS) && !msg_is(m->op, TRAIT_NAMES_OBJECT);

	if (!opens || !c->leased || (m->flags & other) != O_RDONLY || !S_ISREG(n->attr.mode) ||
	    n->attr.version == 0 || n->attr.size == 0 || n->attr.size >= OPEN_BYTES ||
	    c->options.page_budget < OPEN_BYTES || is_appended(n) || find(c, n, 0) != NULL ||
	    !pays_locked(c))
		return 0;
	return n->attr.size + 1 + n->attr.size / 4;
}

struct pages_wanted pages_brought_locked(struct cache *c, struct node *n, size_t len)
{
	struct file *f = c->options.page_budget > 0 && len > 0 ? file_of_locked(n) : NULL;

	return f == NULL || len >= BLOCK_SIZE ? (struct pages_wanted){0}
					      : (struct pages_wanted){.blocks = 1,
								      .once = true,
								      .drop_count = f->drop_count};
}

void pages_keep(struct cache *c, struct node *n, uint64_t off, struct slice data,
		const struct pages_wanted *w)
{
	struct block *new[PAGES_BLOCKS] = {NULL};

	if (w->blocks == 0)
		return;
	for (unsigned i = 0; i < PAGES_BLOCKS; i++) {
		uint64_t from = ((w->first + i) << BLOCK_SHIFT) - off;

		if ((w->blocks & 1u << i) == 0)
			continue;
		uint64_t left = data.len - from;
		new[i] = block_new(n, w->first + i, (const char *)data.data + from,
				   left < BLOCK_SIZE ? left : BLOCK_SIZE, w->once);
	}
	SCOPE_LOCK(&c->lock);
	bool same = n->file->drop_count == w->drop_count;
	for (unsigned i = 0; i < PAGES_BLOCKS; i++) {
		if (new[i] != NULL && same)
			add_locked(c, new[i]);
		else if (new[i] != NULL)
			put(new[i]);
	}
}

/* ---- reading: likewise ---- */

static void let_go(struct pages *p)
{
	while (p->count > 0)
		put(p->blocks[--p->count]);
}

bool pages_read_locked(struct cache *c, struct node *n, uint64_t off, size_t size,
		       struct pages *ret)
{
	*ret = (struct pages){.from = (size_t)(off & (BLOCK_SIZE - 1))};
	if (!S_ISREG(n->attr.mode) || n->file == NULL || n->file->blocks == NULL || size == 0)
		return false;
	for (uint64_t at = off; ret->len < size; at = off + ret->len) {
		struct block *b = find(c, n, at >> BLOCK_SHIFT);
		size_t from = (size_t)(at & (BLOCK_SIZE - 1));

		if (b == NULL || ret->count == PAGES_BLOCKS) {
			let_go(ret);
			return false;
		}
		size_t len = from < b->len ? b->len - from : 0;
		ret->len += len < size - ret->len ? len : size - ret->len;
		b->visited = true;
		(void)atomic_fetch_add(&b->refs, 1);
		ret->blocks[ret->count++] = b;
		if (b->once) {
			c->brought_read += from == 0;
			if (from + size >= b->len)
				drop(c, b);
			break;
		}
		if (b->len < BLOCK_SIZE)
			break;
	}
	return true;
}

void *pages_copy(struct pages *p)
{
	unsigned char *out = malloc(p->len > 0 ? p->len : 1);
	size_t got = 0, from = p->from;

	for (unsigned i = 0; out != NULL && got < p->len; i++) {
		const struct block *b = p->blocks[i];
		size_t len = b->len - from < p->len - got ? b->len - from : p->len - got;

		memcpy(out + got, b->data + from, len);
		got += len;
		from = 0;
	}
	let_go(p);
	return out;
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
