#include "find.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/mountinfo.h"
#include "core/stats.h"

#define SEGMENTS_MAX 256

/* ---- paths, as text ---- */

int path_absolute(const char *path, char *buf, size_t len)
{
	char joined[2 * PATH_MAX];
	size_t n = 0;

	if (path[0] == '/') {
		(void)snprintf(joined, sizeof(joined), "%s", path);
	} else {
		char cwd[PATH_MAX];

		if (getcwd(cwd, sizeof(cwd)) == NULL)
			return -errno;
		(void)snprintf(joined, sizeof(joined), "%s/%s", cwd, path);
	}
	char *save = NULL;
	for (char *part = strtok_r(joined, "/", &save); part != NULL;
	     part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			while (n > 0 && buf[--n] != '/')
				;
			continue;
		}
		size_t more = strlen(part);
		if (n + more + 2 > len)
			return -ENAMETOOLONG;
		buf[n++] = '/';
		memcpy(buf + n, part, more);
		n += more;
	}
	if (n == 0)
		buf[n++] = '/';
	buf[n] = '\0';
	return 0;
}

/* The part of path below dir: "" for dir itself, NULL if path is not in dir. */
static const char *below(const char *path, const char *dir)
{
	size_t n = strcmp(dir, "/") == 0 ? 0 : strlen(dir);

	if (strncmp(path, dir, n) != 0 || (path[n] != '\0' && path[n] != '/'))
		return NULL;
	return path[n] == '/' ? path + n + 1 : path + n;
}

struct mount {
	char device[32], path[PATH_MAX];
};

/* The innermost mount that holds path, if it is one of ours; the last of several at one place. */
static bool mount_of(const char *path, struct mount *ret)
{
	struct mountinfo m CLEANUP(mountinfo_close) = mountinfo_open(MOUNTINFO_SELF);
	size_t longest = 0;
	bool ours = false;

	while (mountinfo_next(&m) > 0) {
		size_t n = strlen(m.path);

		if (below(path, m.path) == NULL || n < longest)
			continue;
		longest = n;
		ours = strcmp(m.type, "fuse.vsockfs") == 0;
		(void)snprintf(ret->device, sizeof(ret->device), "%s", m.device);
		(void)snprintf(ret->path, sizeof(ret->path), "%s", m.path);
	}
	return ours;
}

int find_mount_of(const char *path, char *buf, size_t len, const char **ret_inside)
{
	struct mount m;

	if (!mount_of(path, &m))
		return -ENOENT;
	(void)snprintf(buf, len, "%s", m.path);
	*ret_inside = below(path, m.path);
	return 0;
}

/* ---- segments ---- */

struct found {
	struct segment *segment[SEGMENTS_MAX];
	struct snapshot *snap[SEGMENTS_MAX];
	size_t n;
};

static void look_in(const char *dir, struct found *all)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL && all->n < SEGMENTS_MAX) {
		const char *dot = strrchr(e->d_name, '.');
		char path[PATH_MAX];
		struct segment *g;

		if (dot == NULL || strcmp(dot, ".stats") != 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (segment_open(path, &g) < 0)
			continue;
		all->segment[all->n] = g;
		all->snap[all->n] = segment_take(g);
		if (all->snap[all->n] == NULL)
			segment_close(g);
		else
			all->n++;
	}
	if (d != NULL)
		(void)closedir(d);
}

static void look_everywhere(struct found *all)
{
	char own[PATH_MAX], path[PATH_MAX];
	DIR *d = opendir("/run/user");
	struct dirent *e;

	all->n = 0;
	look_in("/run/vsockfs", all);
	if (geteuid() != 0 && stats_directory(own, sizeof(own)) == 0)
		look_in(own, all);
	while (geteuid() == 0 && d != NULL && (e = readdir(d)) != NULL) {
		(void)snprintf(path, sizeof(path), "/run/user/%s/vsockfs", e->d_name);
		if (e->d_name[0] != '.')
			look_in(path, all);
	}
	if (d != NULL)
		(void)closedir(d);
}

static void forget(struct found *all, const struct segment *but)
{
	for (size_t i = 0; i < all->n; i++) {
		snapshot_free(all->snap[i]);
		if (all->segment[i] != but)
			segment_close(all->segment[i]);
	}
}

static bool lives(const struct snapshot *s)
{
	return snapshot_daemon(s) < DAEMON_ENDED;
}

/* Where it is mounted, or what is served. */
static const char *place_of(const struct snapshot *s)
{
	return snapshot_text(s, snapshot_is_mount(s) ? "mount.point" : "server.directory");
}

static void list(const struct found *all, const char *why)
{
	(void)fprintf(stderr, "vfsstat: %s\n", why);
	for (size_t i = 0; i < all->n; i++)
		(void)fprintf(stderr, "    %-40s %s, %s\n", place_of(all->snap[i]),
			      snapshot_text(all->snap[i], "proc.program"),
			      daemon_state_name(snapshot_daemon(all->snap[i])));
}

/* How well a segment fits: 0 not at all; a living daemon before a dead one, ours before a
 * namesake's. */
static int fits(const struct snapshot *s, const char *path, const struct mount *m)
{
	const char *place = place_of(s);

	if (m != NULL && snapshot_is_mount(s) && lives(s) &&
	    strcmp(snapshot_text(s, "mount.device"), m->device) == 0)
		return 4;
	if (strcmp(place, path) != 0)
		return 0;
	return lives(s) ? snapshot_is_mount(s) ? 3 : 2 : 1;
}

static int find_by_path(const char *path, struct segment **ret)
{
	static struct found all;
	struct mount m;
	char absolute[PATH_MAX];
	int best = 0, r = path_absolute(path, absolute, sizeof(absolute));

	if (r < 0) {
		(void)fprintf(stderr, "vfsstat: %s: %s\n", path, strerror(-r));
		return r;
	}
	bool mounted = mount_of(absolute, &m);
	bool exact = mounted && strcmp(m.path, absolute) == 0;
	look_everywhere(&all);
	struct segment *found = NULL;
	for (size_t i = 0; i < all.n; i++) {
		int f = fits(all.snap[i], absolute, exact ? &m : NULL);

		if (f > best) {
			best = f;
			found = all.segment[i];
		}
	}
	if (found == NULL && !mounted && segment_open(absolute, &found) < 0)
		found = NULL;
	if (found == NULL && mounted)
		(void)fprintf(
			stderr,
			"vfsstat: %s is mounted, but its statistics are not to be found; if it "
			"was mounted with -o stats=FILE, name that file\n",
			m.path);
	else if (found == NULL)
		(void)fprintf(stderr, "vfsstat: %s: no vsockfs is mounted there, and none was\n",
			      absolute);
	forget(&all, found);
	*ret = found;
	return found != NULL ? 0 : -ENOENT;
}

int find_segment(const char *path, struct segment **ret)
{
	static struct found all;
	size_t alive = 0, at = 0;

	if (path != NULL)
		return find_by_path(path, ret);
	look_everywhere(&all);
	for (size_t i = 0; i < all.n; i++) {
		if (lives(all.snap[i])) {
			alive++;
			at = i;
		}
	}
	if (alive == 1 || (alive == 0 && all.n == 1)) {
		*ret = all.segment[at];
		forget(&all, *ret);
		return 0;
	}
	if (all.n == 0)
		(void)fprintf(stderr, "vfsstat: no vsockfs is mounted, and no vsockfsd runs\n");
	else
		list(&all, "which one?");
	forget(&all, NULL);
	return -ENOENT;
}

void each_segment(void (*use)(void *arg, struct segment *g), void *arg)
{
	static struct found all;

	look_everywhere(&all);
	for (int dead = 0; dead < 2; dead++)
		for (size_t i = 0; i < all.n; i++)
			if (lives(all.snap[i]) == (dead == 0))
				use(arg, all.segment[i]);
	forget(&all, NULL);
}
