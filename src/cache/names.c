/* Names in directories, present and absent, and the listings that they make up. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/attrs.h"
#include "cache/files.h"
#include "cache/in_kernel_names.h"
#include "cache/names.h"
#include "cache/node.h"
#include "core/outlive.h"

static uint32_t name_hash(const struct node *dir, const char *name, size_t len)
{
	return hash_bytes(name, len, hash_mix(dir->id));
}

struct dentry *name_find_locked(struct cache *c, const struct node *dir, const char *name,
				size_t len)
{
	struct hash_link *l = hash_first(&c->names, name_hash(dir, name, len));

	for (; l != NULL; l = hash_next(l)) {
		struct dentry *d = HASH_ENTRY(l, struct dentry, link);

		if (d->dir == dir && d->len == len && memcmp(d->name, name, len) == 0)
			return d;
	}
	return NULL;
}

/* ---- the list of a directory ---- */

static void list_add(struct dir *dir, struct dentry *d)
{
	d->next = NULL;
	d->prev = dir->last;
	*(dir->last != NULL ? &dir->last->next : &dir->first) = d;
	dir->last = d;
}

static void list_del(struct dir *dir, struct dentry *d)
{
	*(d->prev != NULL ? &d->prev->next : &dir->first) = d->next;
	*(d->next != NULL ? &d->next->prev : &dir->last) = d->prev;
}

void name_to_end_locked(struct dentry *d)
{
	list_del(d->dir->dir, d);
	list_add(d->dir->dir, d);
	d->dir->dir->changes++;
}

/* ---- one name ---- */

static bool name_in_build(const struct dentry *d)
{
	return d->build != 0 && d->build == d->dir->dir->build;
}

static void set_kind(struct cache *c, struct dentry *d, enum name_kind kind)
{
	struct node *n = d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;

	if (n != NULL && n->name == d)
		n->name = NULL;
	if (d->kind == NAME_ABSENT)
		c->absent_count--;
	if (kind == NAME_ABSENT)
		c->absent_count++;
	d->kind = (uint8_t)kind;
}

void name_told_locked(struct dentry *d, bool told)
{
	if (told && d->outlives == 0)
		d->outlives = outlive_name(d->dir->id, d->name, d->len);
	if (!told) {
		outlive_unname(d->outlives);
		d->outlives = 0;
	}
	d->told = told;
}

void name_remove_locked(struct cache *c, struct dentry *d)
{
	struct dir *dir = d->dir->dir;

	name_told_locked(d, false);

	if (name_in_build(d))
		dir->build = 0; /* what is being put together would lack it */
	set_kind(c, d, NAME_UNSURE);
	list_del(dir, d);
	dir->changes++;
	hash_del(&c->names, &d->link);
	stats_sub(c->options.stats, STAT_cache_names, 1);
	free(d);
}

/* Absent names are taken in the order of the table's buckets: as good as at random. */
static void evict_absent(struct cache *c)
{
	while (c->absent_count > c->options.node_budget) {
		struct hash_link *l = *hash_bucket(&c->names, c->absent_hand++ % c->names.size);

		while (l != NULL) {
			struct dentry *d = HASH_ENTRY(l, struct dentry, link);

			l = l->next;
			if (d->kind != NAME_ABSENT)
				continue;
			if (d->told)
				name_take_back_locked(c, d->dir, d->name, d->len, d);
			name_remove_locked(c, d);
		}
	}
}

/* The dentry of a name, made if there is none. */
static struct dentry *get(struct cache *c, struct node *node, const char *name, size_t len)
{
	struct dir *dir = dir_of_locked(node);
	struct dentry *d = name_find_locked(c, node, name, len);

	if (d != NULL || dir == NULL)
		return d;
	d = calloc(1, sizeof(*d) + len + 1);
	if (d == NULL)
		return NULL;
	d->dir = node;
	d->kind = NAME_UNSURE;
	d->len = (uint8_t)len;
	memcpy(d->name, name, len);
	if (hash_add(&c->names, &d->link, name_hash(node, name, len)) < 0) {
		free(d);
		return NULL;
	}
	list_add(dir, d);
	stats_add(c->options.stats, STAT_cache_names, 1);
	return d;
}

int name_restore_locked(struct cache *c, struct node *dir, const char *name, size_t len,
			uint32_t outlives)
{
	struct dentry *d = get(c, dir, name, len);

	if (d == NULL)
		return -ENOMEM;
	if (d->outlives != 0)
		outlive_unname(outlives); /* noted twice */
	else
		d->outlives = outlives;
	d->told = 1;
	return 0;
}

struct dentry *name_set_node_locked(struct cache *c, struct node *dir, const char *name, size_t len,
				    struct node *node)
{
	struct dentry *d = get(c, dir, name, len);

	if (d == NULL)
		return NULL;
	if (d->kind == NAME_ABSENT || d->kind == NAME_UNSURE)
		dir->dir->ordered = false; /* it has no place in the listing */
	set_kind(c, d, NAME_NODE);
	d->id = node->id;
	d->until = TICK(cache_now() + c->options.cap.entry);
	node->name = d;
	d->type = (uint8_t)(node->attr.mode >> 12);
	return d;
}

struct dentry *name_set_absent_locked(struct cache *c, struct node *dir, const char *name,
				      size_t len)
{
	struct dentry *d = get(c, dir, name, len);

	if (d == NULL)
		return NULL;
	set_kind(c, d, NAME_ABSENT);
	d->until = TICK(cache_now() + c->options.cap.negative);
	if (c->absent_count > c->options.node_budget) {
		evict_absent(c);
		d = name_find_locked(c, dir, name, len); /* it may have been the one */
	}
	return d;
}

struct dentry *name_set_listed_locked(struct cache *c, struct node *dir, const char *name,
				      size_t len, uint64_t ino, uint8_t type)
{
	struct dentry *d = get(c, dir, name, len);

	if (d == NULL)
		return NULL;
	set_kind(c, d, NAME_LISTED);
	d->ino = ino;
	d->type = type;
	return d;
}

void name_lose_node_locked(struct cache *c, struct dentry *d, const struct node *n)
{
	/* it is there still, and what says that no other names are there may rest upon it */
	if (!d->dir->dir->complete && !name_in_build(d)) {
		name_remove_locked(c, d);
		return;
	}
	set_kind(c, d, NAME_LISTED);
	d->ino = n->attr.ino;
	name_told_locked(d, false); /* the kernel has no inode for it */
}

void name_unsure_locked(struct cache *c, struct node *node, const char *name, size_t len)
{
	struct dir *dir = dir_of_locked(node);

	if (dir == NULL)
		return;
	struct dentry *d = name_find_locked(c, node, name, len);
	if (d == NULL && dir->complete)
		d = get(c, node, name, len);
	if (d == NULL) {
		dir->complete = dir->ordered = false; /* without memory for it */
		return;
	}
	dir->ordered = false;
	dir->changes++;
	if (!dir->complete && !name_kernel_holds_locked(c, d)) {
		name_remove_locked(c, d);
		return;
	}
	set_kind(c, d, NAME_UNSURE);
}

void names_drop_locked(struct cache *c, struct node *node, bool tell)
{
	struct dir *dir = dir_if_any(node);

	if (dir == NULL)
		return;
	dir->complete = dir->ordered = false;
	dir->build = 0;
	while (dir->first != NULL) {
		struct dentry *d = dir->first;
		struct node *n = d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;

		if (tell && n != NULL)
			idle_unnamed_locked(c, n);
		if (tell && name_kernel_holds_locked(c, d))
			name_take_back_locked(c, node, d->name, d->len, d);
		name_remove_locked(c, d);
	}
}

/* ---- answers ---- */

int name_answer_locked(struct cache *c, struct node *node, const char *name, size_t len,
		       uint64_t now, struct node **ret, uint64_t *ret_ttl)
{
	struct dir *dir = dir_if_any(node);

	if (dir == NULL || now >= c->lease_until)
		return -EAGAIN;
	struct dentry *d = name_find_locked(c, node, name, len);
	if (d == NULL) {
		if (!dir->complete || now >= dir->until)
			return -EAGAIN;
		/* remembered, for the kernel is to be told when it comes */
		d = name_set_absent_locked(c, node, name, len);
		if (d == NULL)
			return -EAGAIN;
	}
	uint64_t until = (uint64_t)d->until << TICK_SHIFT;
	if (now >= until)
		return -EAGAIN;
	*ret_ttl = until - now;
	if (d->kind == NAME_ABSENT) {
		name_told_locked(d, true);
		return 0;
	}
	struct node *n = d->kind == NAME_NODE ? node_find_locked(c, d->id) : NULL;
	if (n == NULL || !node_fresh_locked(c, n, now) || (n->flags & NODE_PROMISED) == 0)
		return -EAGAIN;
	name_told_locked(d, true);
	*ret = n;
	return 1;
}
