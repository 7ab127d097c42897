/*
 * The server's abilities. There are dialects of the plain protocol, and no message
 * tells which one a server speaks: each fact is learned from the first answer that
 * shows it.
 */
#include <errno.h>
#include <stdio.h>

#include "core/log.h"
#include "plain/plain_priv.h"

/* Operations that a server may lack, and the consequence that is then logged. */
static const struct {
	uint32_t op;
	const char *name, *without;
} optional[] = {
	{PLAIN_TRUNCATE, "truncate", "files cannot be cut to a length other than 0"},
	{PLAIN_SYMLINK, "symlink", "no symbolic links can be made"},
	{PLAIN_READLINK, "readlink",
	 "symbolic links show as their targets, and nothing is changed through one that shows as "
	 "a directory"},
	{PLAIN_LINK, "link", "no hard links can be made"},
	{PLAIN_FSYNC_PATH, "fsync by path", "what is to be made durable is opened"},
	{PLAIN_TIMES, "times", "times that are set are kept in this guest"},
};

bool plain_peer_lacks(const struct plain_work *w, uint32_t op)
{
	return op < PLAIN_OPS && (w->peer.missing & 1u << op) != 0;
}

static void list_ops(char *buf, size_t size, uint32_t ops)
{
	size_t at = 0;

	buf[0] = '\0';
	for (uint32_t op = PLAIN_MKDIRALL; op < PLAIN_OPS && at < size; op++)
		if (ops & 1u << op)
			at += (size_t)snprintf(buf + at, size - at, " %u", op);
}

void plain_peer_show(const struct plain_work *w)
{
	static const char *const links[] = {"unseen", "by op 17", "in mode"};
	static const char *const appends[] = {"", "; append: server", "; append: here"};
	static const char *const targets[] = {"", "; target: data", "; target: new_path",
					      "; target: path"};
	const struct plain_peer *p = &w->peer;
	char works[32], missing[32], text[200];

	list_ops(works, sizeof(works), p->works);
	list_ops(missing, sizeof(missing), p->missing);
	(void)snprintf(text, sizeof(text), "links: %s; owners: %s%s%s; ops:%s; not:%s",
		       links[p->links], p->owners ? "told" : "not told", appends[p->appends],
		       targets[p->target], works, missing);
	stats_text(w->wire.stats, TEXT_conn_dialect, text);
}

void plain_peer_answered(struct plain_work *w, uint32_t op, int r)
{
	struct plain_peer *p = &w->peer;
	uint32_t bit = op < PLAIN_OPS ? 1u << op : 0;

	if (op < PLAIN_MKDIRALL || r == -ENOTCONN || ((p->works | p->missing) & bit) != 0)
		return;
	*(r == -ENOSYS ? &p->missing : &p->works) |= bit;
	for (size_t i = 0; r == -ENOSYS && i < sizeof(optional) / sizeof(optional[0]); i++)
		if (optional[i].op == op)
			log_notice("plain protocol: the server has no %s (operation %u): %s",
				   optional[i].name, op, optional[i].without);
	plain_peer_show(w);
}

void plain_peer_links(struct plain_work *w, enum plain_links links)
{
	if (w->peer.links == links)
		return;
	w->peer.links = links;
	plain_peer_show(w);
}

void plain_peer_target(struct plain_work *w, enum plain_target target)
{
	if (w->peer.target == target)
		return;
	w->peer.target = target;
	plain_peer_show(w);
}

void plain_peer_appends(struct plain_work *w, enum plain_appends appends)
{
	w->peer.appends = appends;
	if (appends == APPENDS_NO)
		log_notice("plain protocol: the server does not append: what is appended goes to "
			   "the end of the file as it was just before");
	plain_peer_show(w);
}

void plain_peer_owners(struct plain_work *w)
{
	if (w->peer.owners)
		return;
	w->peer.owners = true;
	plain_peer_show(w);
}
