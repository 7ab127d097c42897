#include "plain/plain_kept.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/log.h"
#include "plain/plain_priv.h"

struct plain_kept {
	uint64_t valid;
	struct attr values;
	/* The server's values when these were kept. */
	int64_t size, mtime;
	uint64_t ino;
	bool ours;	 /* the next change of size and mtime is this client's own */
	unsigned *count; /* plain_work.kept */
};

void plain_kept_drop(struct plain_node *node)
{
	if (node->kept == NULL)
		return;
	(*node->kept->count)--;
	free(node->kept);
	node->kept = NULL;
}

void plain_kept_forget(struct plain_node *node, uint64_t valid)
{
	if (node->kept == NULL)
		return;
	node->kept->valid &= ~valid;
	if (node->kept->valid == 0)
		plain_kept_drop(node);
}

void plain_kept_changed(struct plain_node *node)
{
	plain_kept_forget(node, SET_MTIME);
	if (node->kept != NULL)
		node->kept->ours = true;
}

static void show(struct plain_node *node)
{
	const struct plain_kept *k = node->kept;
	struct attr *a = &node->attr;

	if (k->valid & SET_MODE)
		a->mode = (a->mode & S_IFMT) | (k->values.mode & 07777);
	if (k->valid & SET_UID)
		a->uid = k->values.uid;
	if (k->valid & SET_GID)
		a->gid = k->values.gid;
	if (k->valid & SET_ATIME)
		a->atime = k->values.atime;
	if (k->valid & SET_MTIME)
		a->mtime = k->values.mtime;
}

void plain_kept_show(struct plain_node *node, const struct plain_stat *st)
{
	struct plain_kept *k = node->kept;

	if (k == NULL)
		return;
	if (k->ours || k->ino == 0)
		k->ino = st->ino;
	if (k->ours) {
		k->size = st->size;
		k->mtime = st->mtime;
		k->ours = false;
	}
	if (k->size != st->size || k->mtime != st->mtime || (st->ino != 0 && k->ino != st->ino))
		plain_kept_drop(node);
	else
		show(node);
}

static bool same_time(const struct msg_time *a, const struct msg_time *b)
{
	return a->sec == b->sec && a->nsec == b->nsec;
}

/* The values of valid that the server does not show. */
static uint64_t not_shown(uint64_t valid, const struct attr *attr, const struct attr *shown)
{
	uint64_t left = 0;

	if ((attr->mode ^ shown->mode) & 07777)
		left |= SET_MODE;
	if (attr->uid != shown->uid)
		left |= SET_UID;
	if (attr->gid != shown->gid)
		left |= SET_GID;
	if (!same_time(&attr->atime, &shown->atime))
		left |= SET_ATIME;
	if (!same_time(&attr->mtime, &shown->mtime))
		left |= SET_MTIME;
	return valid & left;
}

static int kept_new(struct plain_work *w, struct plain_node *node)
{
	struct plain_kept *k;

	if (node->kept != NULL)
		return 0;
	if (w->kept == PLAIN_KEPT_MAX)
		return -ENOSPC;
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return -ENOMEM;
	/* ino: a made-up number does not tell another file */
	*k = (struct plain_kept){
		.size = (int64_t)node->attr.size, .mtime = node->server_mtime, .count = &w->kept};
	w->kept++;
	node->kept = k;
	if (!w->kept_logged)
		log_notice("plain protocol: the server cannot be told all times, owners and modes "
			   "that are set; they are kept in this guest until it unmounts");
	w->kept_logged = true;
	return 0;
}

int plain_kept_set(struct plain_work *w, struct plain_node *node, uint64_t valid,
		   const struct attr *values)
{
	uint64_t left = not_shown(valid & PLAIN_KEPT_VALUES, values, &node->attr);

	if (left == 0)
		return 0;
	int r = kept_new(w, node);
	if (r < 0)
		return r;
	struct plain_kept *k = node->kept;
	k->valid |= left;
	if (left & SET_MODE)
		k->values.mode = values->mode;
	if (left & SET_UID)
		k->values.uid = values->uid;
	if (left & SET_GID)
		k->values.gid = values->gid;
	if (left & SET_ATIME)
		k->values.atime = values->atime;
	if (left & SET_MTIME)
		k->values.mtime = values->mtime;
	show(node);
	return 0;
}

int plain_kept_copy(struct plain_work *w, const struct plain_node *from, struct plain_node *to)
{
	if (from->kept == NULL || from == to)
		return 0;
	return plain_kept_set(w, to, from->kept->valid, &from->kept->values);
}
