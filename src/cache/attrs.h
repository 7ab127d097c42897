/* Attributes: which are the newest, until when; generations. */
#pragma once

#include "cache/cache_priv.h"

void node_bump_locked(struct cache *c, struct node *n);
void node_bump_names_locked(struct cache *c, struct node *n);
void node_bump_data_locked(struct cache *c, struct node *n);
/* Whether a change of ours of it, or of any name in it, began or ended after that time of the
 * clock. */
bool node_bumped_since(const struct node *n, uint64_t clock);
bool node_names_bumped_since(const struct node *n, uint64_t clock);

/* Type and inode number never change, and are noted whatever is kept of the other attributes. */
void node_identify(struct node *n, const struct attr *a);
/* No object changes its type, and what is kept goes by it: such attributes are a mistake. */
bool node_other_type(const struct node *n, const struct attr *a);
void node_attr(const struct node *n, struct attr *ret);
/* Whether attr may be told now. */
bool node_fresh_locked(const struct cache *c, const struct node *n, uint64_t now);

/*
 * Installs attributes that a reply brought. raced: a change of ours that the request itself is
 * not came between (node_bumped_since). promised: they come with a promise that is still good.
 * Returns how long the kernel may keep them: 0 if they are raced.
 */
uint64_t node_install_locked(struct cache *c, struct node *n, const struct attr *a, bool raced,
			     bool promised);
/* Notes attributes that nobody may keep: later ones are compared with them. */
void node_note_locked(struct node *n, const struct attr *a);
