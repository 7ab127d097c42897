/* Symbolic links on the way: no change is made through one. */
#include <errno.h>
#include <sys/stat.h>

#include "core/log.h"
#include "plain/plain_priv.h"

/* Asks the server which object the directory's name is now. */
static int find_sure(struct plain_work *w, struct plain_node *dir)
{
	struct plain_found f;
	struct slice path;
	int r;

	if (w->peer.links == LINKS_NONE)
		return plain_listed_as_dir(w, dir);
	r = plain_path3(w, dir, PLAIN_NO_NAME, &path);
	if (r == 0)
		r = plain_find(w, PLAIN_LOOKUP, path, &f);
	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && f.type != S_IFDIR))
		return -ESTALE;
	if (r == 0)
		dir->sure = plain_now_ms();
	return r;
}

/* 0 if dir and the directories above it are no symbolic links. */
static int sure(struct plain_work *w, struct plain_node *dir)
{
	for (; dir->parent != NULL; dir = dir->parent) {
		if (dir->sure != 0 && plain_now_ms() - dir->sure < w->sure_ms)
			continue;
		int r = find_sure(w, dir);
		if (r == -EPERM && !w->link_logged) {
			log_notice("plain protocol: a symbolic link shows as a directory: nothing "
				   "is changed through it");
			w->link_logged = true;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int plain_sure_of(struct plain_work *w, struct plain_node *node)
{
	bool dir = node->has_attr && S_ISDIR(node->attr.mode);

	if (!dir && node->parent == NULL)
		return 0; /* no path leads to a node without a name */
	return sure(w, dir ? node : node->parent);
}

int plain_named_sure(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path)
{
	int r = plain_named(w, ret_parent, ret_path);

	return r < 0 ? r : sure(w, *ret_parent);
}

int plain_named2_sure(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path)
{
	int r = plain_named2(w, ret_parent, ret_path);

	return r < 0 ? r : sure(w, *ret_parent);
}
