/* Drop: what is not true any more goes, here and in the kernel. */
#pragma once

#include "cache/cache_priv.h"

/* Everything that is kept, in the kernel as well. */
void cache_drop_all_locked(struct cache *c);
/* The attributes, or the content, of n are not true any more; without a word to the kernel. */
void node_lose_attr_locked(struct node *n);
void node_lose_content_locked(struct cache *c, struct node *n);
/* A name in a directory, or all of them, are not what they were. The first returns whether the
 * cache or the kernel had anything of that name. */
bool name_lose_locked(struct cache *c, struct node *dir, struct slice name);
void names_lose_locked(struct cache *c, struct node *dir);
/* Drops all that was told without a promise; nor does a reply to an earlier request get a time. */
void timed_drop_locked(struct cache *c);
/* The node is about to be freed: what the rooms keep of it goes. */
void node_empty_locked(struct cache *c, struct node *n);
