/* The names, nodes and paths of a request. */
#include <errno.h>
#include <string.h>

#include "plain/plain_priv.h"
#include "transport/codec.h"

int plain_name_check(struct slice name)
{
	const char *p = name.data;

	if (name.len == 0 || (name.len == 1 && p[0] == '.') ||
	    (name.len == 2 && p[0] == '.' && p[1] == '.') || memchr(p, '/', name.len) != NULL ||
	    memchr(p, '\0', name.len) != NULL)
		return -EINVAL;
	if (name.len > MSG_NAME_MAX)
		return -ENAMETOOLONG;
	return utf8_valid(name) ? 0 : -EILSEQ;
}

int plain_node(struct plain_work *w, uint64_t id, struct plain_node **ret)
{
	struct plain_node *node = plain_nodes_find(w->nodes, id);

	/* A request may name only nodes with a reference, so that no operation frees its own
	 * nodes. */
	if (node == NULL || node->refs == 0)
		return -ESTALE;
	*ret = node;
	return 0;
}

int plain_path(struct plain_work *w, const struct plain_node *node, struct slice name,
	       struct slice *ret)
{
	return plain_nodes_path(w->nodes, node, name, &w->path[0], &w->path_cap[0], ret);
}

int plain_path2(struct plain_work *w, const struct plain_node *node, struct slice name,
		struct slice *ret)
{
	return plain_nodes_path(w->nodes, node, name, &w->path[1], &w->path_cap[1], ret);
}

int plain_path3(struct plain_work *w, const struct plain_node *node, struct slice name,
		struct slice *ret)
{
	return plain_nodes_path(w->nodes, node, name, &w->path[2], &w->path_cap[2], ret);
}

int plain_named(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path)
{
	const struct msg *m = &w->call->req;
	int r = plain_name_check(m->name);

	if (r == 0)
		r = plain_node(w, m->node, ret_parent);
	return r < 0 ? r : plain_path(w, *ret_parent, m->name, ret_path);
}

int plain_named2(struct plain_work *w, struct plain_node **ret_parent, struct slice *ret_path)
{
	const struct msg *m = &w->call->req;
	int r = plain_name_check(m->name2);

	if (r == 0)
		r = plain_node(w, m->node2, ret_parent);
	return r < 0 ? r : plain_path2(w, *ret_parent, m->name2, ret_path);
}

void plain_forget_name(struct plain_work *w, const struct plain_node *parent, struct slice name)
{
	struct plain_node *node = plain_nodes_child(w->nodes, parent, name);

	if (node != NULL)
		plain_nodes_detach(w->nodes, node);
}
