/* Names: what directories have and have not, and the listings that they make up. */
#pragma once

#include "cache/cache_priv.h"

/* The directory's part of a node; NULL if n is no directory, and as long as no name in it is known.
 */
static inline struct dir *dir_if_any(const struct node *n)
{
	return S_ISDIR(n->attr.mode) ? n->dir : NULL;
}

struct dentry *name_find_locked(struct cache *c, const struct node *dir, const char *name,
				size_t len);

/*
 * Notes a name that a promise covers, in place of what was known of it. NULL without memory:
 * then the name may not be told to the kernel.
 */
struct dentry *name_set_node_locked(struct cache *c, struct node *dir, const char *name, size_t len,
				    struct node *node);
struct dentry *name_set_absent_locked(struct cache *c, struct node *dir, const char *name,
				      size_t len);
struct dentry *name_set_listed_locked(struct cache *c, struct node *dir, const char *name,
				      size_t len, uint64_t ino, uint8_t type);
/* A change of ours begins, or ended nobody knows how. */
void name_unsure_locked(struct cache *c, struct node *dir, const char *name, size_t len);
/* The name is gone, and the kernel knows. */
/* The kernel may hold it from now on, or does not any more. */
void name_told_locked(struct dentry *d, bool told);
/* One that the kernel may hold, and of which nothing else is known. 0 or -errno. */
int name_restore_locked(struct cache *c, struct node *dir, const char *name, size_t len,
			uint32_t outlives);
void name_remove_locked(struct cache *c, struct dentry *d);
/* The node that d leads to is about to be freed. */
void name_lose_node_locked(struct cache *c, struct dentry *d, const struct node *n);
/* Moves d to the end of its directory's list. */
void name_to_end_locked(struct dentry *d);
/* All names of a directory; tell: the kernel, of those that it may hold. */
void names_drop_locked(struct cache *c, struct node *dir, bool tell);
/* Answers a LOOKUP: 1 there, 0 absent, -EAGAIN unknown. *ret_ttl: for how long. */
int name_answer_locked(struct cache *c, struct node *dir, const char *name, size_t len,
		       uint64_t now, struct node **ret, uint64_t *ret_ttl);

/*
 * With no_open the look-up of its name is all that is seen of a file's being
 * opened. Without a promise the kernel looks up each time, and its pages go.
 */
static inline bool name_opens(const struct cache *c, uint32_t mode)
{
	return c->options.no_open && S_ISREG(mode);
}
