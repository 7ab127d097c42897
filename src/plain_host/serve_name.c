/* Names, links and listings. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "host/dirlock.h"
#include "host/hnode.h"
#include "host/links.h"
#include "plain_host/plain_job.h"
#include "transport/codec.h"

static bool is_root(const struct export_place *p)
{
	return strcmp(p->name, ".") == 0;
}

/* Sets the reply's stat to that of the object that was made at place. */
static int reply_stat_of_new(struct plain_job *j, const struct export_place *place)
{
	CLEANUP_CLOSE int fd = -1;

	if (export_open(j->s->export, place->dirfd, place->name, O_PATH, 0, &fd) < 0)
		return 0; /* the object is gone again; stat is optional */
	return plain_reply_stat(j, fd);
}

static int made(struct plain_job *j)
{
	plain_broke_name(j, &j->place);
	int r = plain_inside(j, j->place.dirfd, true);
	return r < 0 ? r : reply_stat_of_new(j, &j->place);
}

/* The place of an object that is to be made. */
static int walk_new(struct plain_job *j, struct slice path, struct export_place *ret)
{
	int r = plain_walk(j->s, path, false, ret);

	if (r == 0 && ret->object >= 0)
		r = -EEXIST;
	return r < 0 ? r : export_changeable(j->s->export, ret->dirfd);
}

/* The place of an object that is to be removed or renamed. */
static int walk_name(struct plain_job *j, struct slice path, struct export_place *ret)
{
	int r = plain_walk_existing(j->s, path, false, ret);

	if (r == 0 && is_root(ret))
		r = -EBUSY;
	return r < 0 ? r : export_changeable(j->s->export, ret->dirfd);
}

int plain_serve_mkdir(struct plain_job *j)
{
	int r = walk_new(j, j->q->path, &j->place);

	if (r == 0)
		r = plain_assume_caller(j);
	if (r < 0)
		return r;
	if (mkdirat(j->place.dirfd, j->place.name, plain_linux_mode(j->q->mode)) < 0)
		r = -errno;
	creds_restore(&j->s->creds);
	return r < 0 ? r : made(j);
}

/* Makes the directory at the first len bytes of the path, unless it exists. */
static int ensure_dir(struct plain_job *j, size_t len)
{
	struct plain_request q = *j->q;
	struct plain_job part = {
		.s = j->s, .q = &q, .p = j->p, .place = PLAIN_NO_PLACE, .place2 = PLAIN_NO_PLACE};

	q.path.len = len;
	int r = plain_walk(j->s, q.path, true, &part.place);
	if (r == 0 && part.place.object >= 0) {
		r = S_ISDIR(part.place.mode) ? 0 : -ENOTDIR;
	} else if (r == 0) {
		export_place_done(&part.place);
		r = plain_serve_mkdir(&part);
		if (r == -EEXIST)
			r = 0; /* another process was faster, or a link dangles: the next step fails
				*/
	}
	export_place_done(&part.place);
	return r;
}

int plain_serve_mkdirall(struct plain_job *j)
{
	const struct slice path = j->q->path;
	const char *p = path.data;
	int r = -ENOENT;

	for (size_t end = 1; end <= path.len; end++) {
		if (end < path.len && p[end] != '/')
			continue;
		r = ensure_dir(j, end);
		if (r < 0 && !(r == -EACCES && end < path.len)) /* directories above the prefix are
								   not the server's to make */
			break;
	}
	j->p->has_stat = false;
	return r;
}

/* Called with the directory's lock: the object found now is the one that the call will take
 * away. */
static void look_again(struct plain_job *j, struct export_place *place)
{
	int fd;

	if (export_open(j->s->export, place->dirfd, place->name, O_PATH, 0, &fd) < 0)
		return;
	cleanup_close(&place->object);
	place->object = fd;
}

/* As Go's os.Remove: takes a file or an empty directory, for both operations. */
int plain_serve_remove(struct plain_job *j)
{
	int r = walk_name(j, j->q->path, &j->place);

	if (r < 0)
		return r;
	int flags = S_ISDIR(j->place.mode) ? AT_REMOVEDIR : 0;
	struct dirlock lock CLEANUP(dirlock_release) = dirlock_take(j->place.dirfd, -1);
	look_again(j, &j->place);
	if (unlinkat(j->place.dirfd, j->place.name, flags) < 0)
		return -errno;
	plain_broke_name(j, &j->place);
	return plain_inside(j, j->place.dirfd, true);
}

/* Tells the node of the object that was renamed to place2, if a client knows it. */
static void tell_renamed(struct plain_job *j, uint64_t seen)
{
	struct hnodes *t = j->s->nodes;
	struct hnode *n, *dir;

	if (t == NULL || hnodes_find(t, j->place.object, &n) < 0)
		return;
	if (hnodes_find(t, j->place2.dirfd, &dir) < 0)
		dir = NULL;
	hnode_renamed(t, n, dir, j->place2.name, seen);
	hnode_unref(t, dir);
	hnode_unref(t, n);
}

/* tell_renamed for a file that has got another name: one directory's mark does not see all changes
 * any more. */
static void tell_linked(struct plain_job *j)
{
	struct hnode *n;

	if (j->s->nodes == NULL || hnodes_find(j->s->nodes, j->place.object, &n) < 0)
		return;
	hnode_cover_by_parent(j->s->nodes, n, false);
	hnode_unref(j->s->nodes, n);
}

static int rename_place(struct plain_job *j)
{
	const struct export_place *from = &j->place, *to = &j->place2;
	pthread_mutex_t *links CLEANUP(cleanup_unlock) = links_lock(j->s->export);
	int r = links != NULL ? links_may_move(j->s->export, from->object, from->dirfd, to->dirfd)
			      : 0;

	if (r == 0 && renameat(from->dirfd, from->name, to->dirfd, to->name) < 0)
		r = -errno;
	return r;
}

int plain_serve_rename(struct plain_job *j)
{
	int r = walk_name(j, j->q->path, &j->place);

	if (r == 0)
		r = plain_walk(j->s, j->q->new_path, false, &j->place2);
	if (r == 0 && is_root(&j->place2))
		r = -EBUSY;
	if (r == 0)
		r = export_changeable(j->s->export, j->place2.dirfd);
	if (r < 0)
		return r;
	struct dirlock lock CLEANUP(dirlock_release) =
		dirlock_take(j->place.dirfd, j->place2.dirfd);
	look_again(j, &j->place);
	look_again(j, &j->place2);
	uint64_t seen = j->s->nodes != NULL ? hnodes_seen(j->s->nodes) : 0;
	r = rename_place(j);
	if (r < 0)
		return r;
	tell_renamed(j, seen);
	plain_broke_name(j, &j->place);
	plain_broke_name(j, &j->place2);
	/* The object was watched in its old directory, and may not be in the new one (watch.h). */
	change_broke_fd(&j->s->change, j->place.object, INV_DATA, NULL);
	r = plain_inside(j, j->place.dirfd, true);
	return r < 0 ? r : plain_inside(j, j->place2.dirfd, true);
}

/* True if path is a name that could be made now. */
static bool is_free(struct plain_job *j, struct slice path)
{
	struct export_place place = PLAIN_NO_PLACE;
	bool is = walk_new(j, path, &place) == 0;

	export_place_done(&place);
	return is;
}

/*
 * Some clients send the link in path and its target in new_path, others the reverse. A
 * link has an absolute path below the prefix, and a target seldom does: the first request
 * that shows the order decides for as long as the client is connected. If both fields could
 * be the link, and no earlier request has shown the order, the link is the field whose name
 * is free, if that of the other is not, as with ln(1) of an existing file. Otherwise no link
 * is made: with a wrong guess the link would be at the wrong place.
 */
static int symlink_order(struct plain_job *j, enum plain_symlink *ret)
{
	const struct plain_request *q = j->q;
	bool path = export_below_prefix(j->s->export, q->path);
	bool new_path = export_below_prefix(j->s->export, q->new_path);

	if (q->path.len == 0 || q->new_path.len == 0)
		return -ENOENT;
	if (!path && !new_path)
		return -EACCES;
	if (path != new_path) {
		*ret = j->s->symlink = path ? SYMLINK_NEW_PATH : SYMLINK_PATH;
		return 0;
	}
	if (j->s->symlink != SYMLINK_UNKNOWN) {
		*ret = j->s->symlink;
		return 0;
	}
	path = is_free(j, q->path);
	new_path = is_free(j, q->new_path);
	if (path == new_path)
		return path ? -EINVAL : -EEXIST;
	*ret = path ? SYMLINK_NEW_PATH : SYMLINK_PATH;
	return 0;
}

/* path is the link and data the target; without data see symlink_order. */
static int symlink_fields(struct plain_job *j, struct slice *ret_link, struct slice *ret_target)
{
	const struct plain_request *q = j->q;
	enum plain_symlink order;

	if (q->data.len != 0) {
		*ret_link = q->path;
		*ret_target = q->data;
		return 0;
	}
	int r = symlink_order(j, &order);
	if (r < 0)
		return r;
	*ret_link = order == SYMLINK_NEW_PATH ? q->path : q->new_path;
	*ret_target = order == SYMLINK_NEW_PATH ? q->new_path : q->path;
	return 0;
}

int plain_serve_symlink(struct plain_job *j)
{
	struct slice link, target;
	char text[PATH_MAX];
	int r = symlink_fields(j, &link, &target);

	if (r < 0)
		return r;
	if (target.len >= sizeof(text))
		return -ENAMETOOLONG;
	if (memchr(target.data, '\0', target.len) != NULL)
		return -EINVAL;
	memcpy(text, target.data, target.len);
	text[target.len] = '\0';
	r = walk_new(j, link, &j->place);
	if (r == 0)
		r = plain_assume_caller(j);
	if (r < 0)
		return r;
	r = links_symlink(j->s->export, text, j->place.dirfd, j->place.name);
	creds_restore(&j->s->creds);
	return r < 0 ? r : made(j);
}

int plain_serve_readlink(struct plain_job *j)
{
	int r = plain_walk_existing(j->s, j->q->path, false, &j->place);

	if (r == 0 && !S_ISLNK(j->place.mode))
		r = -EINVAL;
	if (r == 0)
		r = plain_data_reserve(j->s, PATH_MAX);
	if (r < 0)
		return r;
	ssize_t n = readlinkat(j->place.object, "", (char *)j->s->data, PATH_MAX);
	if (n < 0)
		return -errno;
	j->p->data = (struct slice){j->s->data, (size_t)n};
	return 0;
}

int plain_serve_link(struct plain_job *j)
{
	int r = plain_walk_existing(j->s, j->q->path, false, &j->place);

	if (r == 0)
		r = walk_new(j, j->q->new_path, &j->place2);
	if (r == 0 && S_ISDIR(j->place.mode))
		r = -EPERM;
	if (r == 0)
		r = links_link(j->s->export, j->place.object, j->place2.dirfd, j->place2.name);
	if (r < 0)
		return r;
	tell_linked(j);
	change_broke_fd(&j->s->change, j->place.object, INV_ATTR | INV_DATA, NULL);
	plain_broke_name(j, &j->place2);
	r = plain_inside(j, j->place2.dirfd, true);
	return r < 0 ? r : plain_reply_stat(j, j->place.object);
}

/* ---- listings ---- */

static int add_entry(struct plain_job *j, int dirfd, const char *name)
{
	struct plain_session *s = j->s;
	CLEANUP_CLOSE int fd = -1;
	struct plain_entry e = {.name = {name, strlen(name)}};
	struct attr a;

	if (!utf8_valid(e.name)) {
		if (!s->names_left_out)
			log_notice("names that are not UTF-8 are left out of the listings of a "
				   "plain client");
		s->names_left_out = true;
		return 0;
	}
	int r = export_open(s->export, dirfd, name, O_PATH, 0, &fd);
	if (r == 0)
		r = export_attr(s->export, fd, &a);
	if (r == -ENOENT || r == -ESTALE)
		return 0; /* the entry was removed meanwhile, or is hidden */
	if (r < 0)
		return r;
	e.is_dir = S_ISDIR(a.mode);
	e.mode = plain_go_mode(a.mode);
	e.size = (int64_t)a.size;
	e.ino = a.ino;
	r = plain_entry_put(&s->entries, &e);
	if (r == 0)
		j->p->entry_count++;
	return r;
}

int plain_serve_readdir(struct plain_job *j)
{
	struct plain_session *s = j->s;
	struct dirent *d;
	int fd;
	int r = plain_walk_existing(s, j->q->path, true, &j->place);

	if (r == 0 && !S_ISDIR(j->place.mode))
		r = -ENOTDIR;
	if (r == 0)
		r = export_reopen(s->export, j->place.object, O_RDONLY | O_DIRECTORY, &fd);
	if (r < 0)
		return r;
	DIR *dir = fdopendir(fd);
	if (dir == NULL) {
		(void)close(fd);
		return -ENOMEM;
	}
	s->entries.len = 0;
	errno = 0;
	while (r == 0 && (d = readdir(dir)) != NULL) {
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			r = add_entry(j, fd, d->d_name);
		errno = 0;
	}
	if (r == 0 && errno != 0)
		r = -errno;
	(void)closedir(dir);
	j->p->entries = (struct slice){s->entries.data, s->entries.len};
	return r == -EMSGSIZE ? -EOVERFLOW : r;
}
