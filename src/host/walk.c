/*
 * export_walk: whole paths of plain clients.
 *
 * The kernel resolves only single components (export_open). So a symbolic link leads
 * only where this file lets it, even if a process exchanges directories and links
 * meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "host/export_priv.h"

#define LINKS_MAX 40 /* as the kernel's MAXSYMLINKS */
/*
 * Components, and directories that are climbed through for "..": a path of 4095 bytes with 40 links
 * of 4095 bytes each, up and down a deep tree, makes millions of them.
 */
#define STEPS_MAX 8192

struct walk {
	const struct export *e;
	int dir;    /* the directory that was reached; owned */
	char *todo; /* the rest of the path; owned */
	char *at;   /* in todo */
	unsigned links, steps;
};

/* The part of path below plain_prefix, NULL if it is not below. */
static const char *below_prefix(const struct export *e, const char *path)
{
	size_t len = strlen(e->plain_prefix);

	if (path[0] != '/' || strncmp(path, e->plain_prefix, len) != 0 ||
	    (path[len] != '/' && path[len] != '\0'))
		return NULL;
	return path + len;
}

static int set_dir(struct walk *w, int fd)
{
	cleanup_close(&w->dir);
	w->dir = fd;
	return 0;
}

static int go_root(struct walk *w)
{
	int fd = fcntl(w->e->root, F_DUPFD_CLOEXEC, 0);

	return fd < 0 ? -errno : set_dir(w, fd);
}

/* Goes to "..". RESOLVE_BENEATH refuses "..", so the place that it leads to is checked
 * afterwards. */
static int go_up(struct walk *w)
{
	struct statx stx;

	if (statx(w->dir, "", AT_EMPTY_PATH, STATX_INO, &stx) < 0)
		return -errno;
	if (export_is_root(w->e, &stx))
		return -EACCES; /* the directory above is outside */
	int fd = openat(w->dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unsigned depth = 0;
	int r = export_contains(w->e, fd, &depth);
	w->steps += depth;
	if (r <= 0) {
		(void)close(fd);
		return r < 0 ? r
			     : -EACCES; /* the directory was moved out of the export meanwhile */
	}
	return set_dir(w, fd);
}

/* Puts the target of a link in front of the rest of the path. */
static int follow(struct walk *w, int object)
{
	CLEANUP_FREE char *target = malloc(PATH_MAX);
	const char *part;

	if (++w->links > LINKS_MAX)
		return -ELOOP;
	if (target == NULL)
		return -ENOMEM;
	ssize_t n = readlinkat(object, "", target, PATH_MAX - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	part = target;
	if (target[0] == '/') {
		part = below_prefix(w->e, target);
		if (part == NULL)
			return -EACCES;
		int r = go_root(w);
		if (r < 0)
			return r;
	}
	size_t len = strlen(part), rest = strlen(w->at);
	if (len + 1 + rest >= PATH_MAX)
		return -ENAMETOOLONG;
	char *todo = malloc(len + rest + 2);
	if (todo == NULL)
		return -ENOMEM;
	memcpy(todo, part, len);
	todo[len] = '/';
	memcpy(todo + len + 1, w->at, rest + 1);
	free(w->todo);
	w->todo = w->at = todo;
	return 0;
}

/* The next component into name; "." when there is none; *ret_last if only slashes follow. */
static int next_name(struct walk *w, char name[MSG_NAME_MAX + 1], bool *ret_last)
{
	while (*w->at == '/')
		w->at++;
	size_t len = strcspn(w->at, "/");
	if (len > MSG_NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 0) {
		memcpy(name, ".", 2);
	} else {
		memcpy(name, w->at, len);
		name[len] = '\0';
	}
	w->at += len;
	*ret_last = w->at[strspn(w->at, "/")] == '\0';
	return 0;
}

/* Takes one component. 1: it was the last one, and *ret is filled in. */
static int step(struct walk *w, enum walk_links links, struct export_place *ret)
{
	CLEANUP_CLOSE int object = -1;
	char name[MSG_NAME_MAX + 1];
	struct stat st = {0};
	bool last;

	if (w->steps++ > STEPS_MAX)
		return -ELOOP;
	int r = next_name(w, name, &last);

	if (r < 0)
		return r;
	bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
	if (dots) {
		r = name[1] == '.' ? go_up(w) : 0;
		if (r < 0 || !last)
			return r;
		memcpy(name, ".", 2);
	}
	r = export_open(w->e, w->dir, name, O_PATH, 0, &object);
	if (r == -ENOENT && last && !dots) {
		/* no error: the client may be about to make the object */
	} else if (r < 0) {
		return r;
	} else if (fstat(object, &st) < 0) {
		return -errno;
	}
	/* a link before the last component, or before a slash ("link/"), is always followed */
	if (S_ISLNK(st.st_mode) && (!last || links == WALK_FOLLOW))
		return links == WALK_NO_LINKS ? -ELOOP : follow(w, object);
	if (last) {
		ret->dirfd = take_fd(&w->dir);
		memcpy(ret->name, name, sizeof(name));
		ret->object = take_fd(&object);
		ret->mode = st.st_mode;
		return 1;
	}
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return set_dir(w, take_fd(&object));
}

bool export_below_prefix(const struct export *e, struct slice path)
{
	const char *p = path.data;
	size_t len = strlen(e->plain_prefix);

	return path.len > 0 && p[0] == '/' && path.len >= len &&
	       memcmp(p, e->plain_prefix, len) == 0 && (path.len == len || p[len] == '/');
}

bool export_plain_follow(const struct export *e)
{
	return e->plain_follow;
}

int export_walk(const struct export *e, const char *path, enum walk_links links,
		struct export_place *ret)
{
	struct walk w = {.e = e, .dir = -1};
	const char *part = below_prefix(e, path);

	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	if (part == NULL)
		return path[0] == '/' ? -EACCES : -EINVAL;
	w.todo = w.at = strdup(part);
	int r = w.todo == NULL ? -ENOMEM : go_root(&w);
	while (r == 0)
		r = step(&w, links, ret);
	free(w.todo);
	cleanup_close(&w.dir);
	return r < 0 ? r : 0;
}

void export_place_done(struct export_place *p)
{
	cleanup_close(&p->dirfd);
	cleanup_close(&p->object);
	p->dirfd = p->object = -1;
}
