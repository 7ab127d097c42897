#include "host/links.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/export_priv.h"

/* How many directories the root is above this one. */
static int depth_of(const struct export *e, int dirfd, unsigned *ret)
{
	unsigned depth = 0;
	int r = export_contains(e, dirfd, &depth);

	if (r <= 0)
		return r < 0 ? r : -ESTALE;
	*ret = depth;
	return 0;
}

/* The part of a path behind its first component, whose length is *ret_len; 0 at the end. */
static const char *next(const char *path, size_t *ret_len)
{
	path += strspn(path, "/");
	*ret_len = strcspn(path, "/");
	return path;
}

static bool stays_inside(const char *target, unsigned depth)
{
	bool named = false; /* a component that may be a link */
	size_t len;

	if (target[0] == '/')
		return false;
	for (const char *p = next(target, &len); len > 0; p = next(p + len, &len)) {
		bool up = len == 2 && p[0] == '.' && p[1] == '.';

		if (up && (named || depth-- == 0))
			return false;
		named = named || !(up || (len == 1 && p[0] == '.'));
	}
	return true;
}

static int may_lead(const struct export *e, const char *target, int dirfd)
{
	unsigned depth;
	int r = depth_of(e, dirfd, &depth);

	if (r < 0)
		return r;
	return stays_inside(target, depth) ? 0 : -EPERM;
}

int links_symlink(const struct export *e, const char *target, int dirfd, const char *name)
{
	pthread_mutex_t *lock CLEANUP(cleanup_unlock) = links_lock(e);
	int r = e->symlinks == SYMLINKS_DENY ? -EPERM : 0;

	if (r == 0 && lock != NULL)
		r = may_lead(e, target, dirfd);
	return r < 0 ? r : symlinkat(target, dirfd, name) < 0 ? -errno : 0;
}

int links_link(const struct export *e, int object, int dirfd, const char *name)
{
	pthread_mutex_t *lock CLEANUP(cleanup_unlock) = links_lock(e);
	int r = lock != NULL ? links_may_move(e, object, -1, dirfd) : 0;

	return r < 0 ? r : export_link(e, object, dirfd, name);
}

pthread_mutex_t *links_lock(const struct export *e)
{
	if (e->symlinks == SYMLINKS_ALLOW)
		return NULL;
	return scope_lock(e->links_mutex);
}

static int may_rise(const struct export *e, int from, int to)
{
	unsigned was, is;
	int r = depth_of(e, from, &was);

	if (r == 0)
		r = depth_of(e, to, &is);
	if (r < 0)
		return r;
	return is >= was ? 0 : -EXDEV;
}

static bool same_directory(int a, int b)
{
	struct stat s, t;

	return fstat(a, &s) == 0 && fstat(b, &t) == 0 && s.st_dev == t.st_dev &&
	       s.st_ino == t.st_ino;
}

int links_may_move(const struct export *e, int object, int from, int to)
{
	char target[PATH_MAX];
	struct stat st;

	if (object < 0)
		return -ENOENT;
	if (fstat(object, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return from < 0 ? 0 : may_rise(e, from, to);
	if (!S_ISLNK(st.st_mode))
		return 0;
	if (from >= 0 && same_directory(from, to))
		return 0; /* it leads where it has led */
	ssize_t n = readlinkat(object, "", target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	return may_lead(e, target, to);
}
