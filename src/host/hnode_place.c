/*
 * The place of a node, as far as it is known, and whether that is inside the export: checked at
 * each use.
 */
#include "host/hnode_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/export.h"

void hnode_renamed(struct hnodes *t, struct hnode *n, struct hnode *parent, const char *name,
		   uint64_t seen)
{
	/* Otherwise an earlier move by the host would be noted after this one. */
	if (t->catch_up != NULL)
		t->catch_up(t->catch_up_arg);
	SCOPE_LOCK(&t->mutex);
	if (parent != NULL) {
		hnode_name_locked(t, n, parent, name, seen);
		return;
	}
	n->parent = 0;
	n->linked = n->by_parent = n->outside = false;
	n->checked = 0;
}

/* ---- nodes that were moved out of the export ---- */

/* 1 or 0: the directory with this handle is inside, or not; -errno if that cannot be found out. */
static int contains_handle(struct hnodes *t, const struct identity *id)
{
	CLEANUP_CLOSE int fd = -1;
	int r = filesystems_open(t->fs, id, &fd);

	return r < 0 ? r : export_contains(t->export, fd, NULL);
}

void hnode_moved(struct hnodes *t, struct hnode *n, bool is_dir, const struct file_handle *to,
		 const char *name)
{
	struct identity id = {.fs = n->fs};
	bool known = false;
	int inside = -ESTALE;

	if (to != NULL && to->handle_bytes <= sizeof(id.bytes)) {
		id.type = to->handle_type;
		id.len = to->handle_bytes;
		memcpy(id.bytes, to->f_handle, id.len);
		SCOPE_LOCK(&t->mutex);
		struct hnode *parent = hnode_find_locked(t, &id, identity_hash(&id, t->seed));
		known = parent != NULL;
		if (known) {
			hnode_name_locked(t, n, parent, name, t->seen);
			n->by_parent = n->by_parent && parent->marked;
		}
	}
	if (!known && id.len > 0 && is_dir)
		inside = contains_handle(t, &id);
	SCOPE_LOCK(&t->mutex);
	n->checked = 0;
	/* Nodes below n may have been checked by n's old place since hnodes_moved. */
	if (is_dir)
		t->moves++;
	if (known)
		return;
	n->parent = 0;
	n->linked = n->by_parent = false;
	/* A file with several names may have had the one that was moved outside before. */
	n->outside = inside == 0;
	n->epoch = t->lost;
}

void hnodes_on_use(struct hnodes *t, void (*catch_up)(void *arg), void *arg)
{
	t->catch_up = catch_up;
	t->catch_up_arg = arg;
}

void hnodes_moved(struct hnodes *t, bool is_dir)
{
	t->seen++;
	if (is_dir)
		t->moves++;
}

void hnodes_lost(struct hnodes *t)
{
	SCOPE_LOCK(&t->mutex);
	t->seen++;
	t->moves++;
	t->lost++;
}

static struct hnode *link_locked(const struct hnodes *t, const struct hnode *n)
{
	return n->linked && n->epoch == t->lost ? hnode_parent_locked(t, n) : NULL;
}

static bool outside_locked(const struct hnodes *t, const struct hnode *n)
{
	return n->outside && n->epoch == t->lost;
}

/*
 * Follows the remembered parents. 1: n is inside. 0: n is outside. -EAGAIN: the place of *ret_ask,
 * the uppermost parent that is known, with a reference, has to be checked first. moves:
 * hnodes.moves, read once by the caller, because the next move may be counted at any moment.
 */
static int inside_locked(struct hnodes *t, struct hnode *n, uint32_t moves, struct hnode **ret_ask)
{
	struct hnode *top = n, *parent;
	unsigned depth = 0;

	while (!outside_locked(t, top) && top->checked != moves && depth++ < DEPTH_MAX &&
	       (parent = link_locked(t, top)) != NULL)
		top = parent;
	if (outside_locked(t, top))
		return 0;
	if (top->checked != moves) {
		hnode_ref(top);
		*ret_ask = top;
		return -EAGAIN;
	}
	for (; n != top; n = hnode_parent_locked(t, n))
		n->checked = moves;
	return 1;
}

/* ---- whether a node is inside ---- */

static int contains(struct hnodes *t, struct hnode *n, int fd)
{
	unsigned depth = atomic_load(&n->depth);
	int r = export_contains(t->export, fd, &depth);

	if (r == 1)
		atomic_store(&n->depth, depth);
	return r;
}

/* The node has the name by which it was found, in a directory that is inside. */
static bool is_at_name(struct hnodes *t, struct hnode *n)
{
	char name[NAME_MAX + 1];
	struct hnode *parent = hnode_last_seen(t, n, name);
	CLEANUP_CLOSE int fd = -1;
	struct identity id;
	int parent_fd;

	if (parent == NULL)
		return false;
	bool found = false;
	if (hnode_pin_depth(t, parent, 0, &parent_fd) == 0) {
		found = contains(t, parent, parent_fd) == 1 &&
			(filesystems_identify_at(t->fs, parent_fd, name, &id) == 0 ||
			 (export_open(t->export, parent_fd, name, O_PATH, 0, &fd) == 0 &&
			  filesystems_identify(t->fs, fd, &id) == 0)) &&
			hnode_is(n, &id);
		hnode_unpin(t, parent);
	}
	hnode_unref(t, parent);
	return found;
}

/*
 * 1: n is inside. 0: n is outside, or its place cannot be found out. For a file with several names
 * the name counts by which it was opened, also if that one is outside and another is inside.
 */
static int look_for(struct hnodes *t, struct hnode *n, int fd)
{
	struct stat st;

	if (!n->file && n->depth == 0) {
		if (fstat(fd, &st) < 0)
			return -errno;
		n->file = !S_ISDIR(st.st_mode);
	}
	if (!n->file)
		return contains(t, n, fd);
	return is_at_name(t, n) ? 1 : export_inside(t->export, fd);
}

static int look_for_uppermost(struct hnodes *t, struct hnode *n, uint32_t moves)
{
	int fd;
	int r = hnode_pin_depth(t, n, 0, &fd);

	if (r < 0)
		return r;
	r = look_for(t, n, fd);
	hnode_unpin(t, n);
	if (r == 0)
		return -ESTALE;
	if (r < 0)
		return r;
	SCOPE_LOCK(&t->mutex);
	n->checked = moves;
	return 0;
}

/* Checks n by the remembered parents, which are true where every rename is seen. */
static int check_remembered(struct hnodes *t, struct hnode *n)
{
	for (;;) {
		struct hnode *ask = NULL;
		uint32_t moves;
		int r;
		{
			SCOPE_LOCK(&t->mutex);
			moves = t->moves;
			r = inside_locked(t, n, moves, &ask);
		}
		if (r != -EAGAIN)
			return r == 0 ? -ESTALE : 0;
		r = look_for_uppermost(t, ask, moves);
		hnode_unref(t, ask);
		if (r < 0)
			return r;
	}
}

int hnode_inside(struct hnodes *t, struct hnode *n, int fd)
{
	if (t->catch_up != NULL && filesystems_all_watched(t->fs)) {
		t->catch_up(t->catch_up_arg);
		return check_remembered(t, n);
	}
	int r = look_for(t, n, fd);
	return r == 0 ? -ESTALE : r < 0 ? r : 0;
}

static bool has_users(struct hnodes *t, const struct hnode *n)
{
	SCOPE_LOCK(&t->mutex);
	return n->users != NULL;
}

static int pin(struct hnodes *t, struct hnode *n, bool open_stays, int *ret_fd)
{
	int fd;
	int r = hnode_pin_depth(t, n, 0, &fd);

	if (r < 0)
		return r;
	r = hnode_inside(t, n, fd);
	if (r == -ESTALE && open_stays && has_users(t, n))
		r = 0;
	if (r < 0)
		hnode_unpin(t, n);
	else
		*ret_fd = fd;
	return r;
}

int hnode_pin(struct hnodes *t, struct hnode *n, int *ret_fd)
{
	return pin(t, n, false, ret_fd);
}

int hnode_pin_open(struct hnodes *t, struct hnode *n, int *ret_fd)
{
	return pin(t, n, true, ret_fd);
}
