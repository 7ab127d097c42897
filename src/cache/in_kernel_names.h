/* In kernel, names: which the kernel has, and how they are taken back. */
#pragma once

#include "cache/cache_priv.h"

/*
 * A look-up is to be answered with n for a time, though the kernel may have the name as n: it
 * may be no first one. False: it is to be answered for no time.
 */
bool name_confirmed_locked(struct cache *c, uint32_t task, const struct node *n);
/* The task has digested all that it was told before. */
void names_arrive_locked(struct cache *c, uint32_t task);
void names_done(struct cache *c);
bool name_kernel_holds_locked(const struct cache *c, const struct dentry *d);
/* How it is taken back. d: what is known of it, which may be NULL. */
enum entry_way name_way(const struct dentry *d);
/* The kernel may not keep it any more. d: what is known of it, which may be NULL. */
void name_take_back_locked(struct cache *c, const struct node *dir, const char *name, size_t len,
			   const struct dentry *d);
