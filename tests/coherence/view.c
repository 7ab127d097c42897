#include "view.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SHOWN_MAX   25
#define ENTRIES_MAX 512
#define TEXT_LEN    160

static unsigned char bytes_host[FILE_MAX], bytes_guest[FILE_MAX];

void view_init(struct view *v, struct world *w, unsigned me, unsigned place)
{
	const struct settings *set = world_settings(w);

	*v = (struct view){.w = w, .me = me, .place = place};
	v->host = open(set->place[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
	v->guest = open(set->place[place], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (v->host < 0 || v->guest < 0)
		err(3, "%s or %s", set->place[0], set->place[place]);
}

/* ---- one observation ------------------------------------------------------------------------- */

/* Whether a difference is to be shown: one that may still go away is not. */
static bool count(const struct view *v, bool same)
{
	struct tally *t = world_tally(v->w);

	atomic_fetch_add(v->instant ? &t->instant : &t->observed, 1);
	if (!same && v->instant)
		++*v->found;
	if (same || v->instant)
		return false;
	atomic_fetch_add(&t->differing, 1);
	return world_round(v->w)->final && atomic_fetch_add(&t->shown, 1) < SHOWN_MAX;
}

static void show(const struct view *v, const char *name, const char *what, const char *expected,
		 const char *found)
{
	printf("difference: mount %u, round %u: %s: %s: expected %s, found %s\n", v->place,
	       world_round(v->w)->number, name, what, expected, found);
	world_show_log(v->w, name);
	(void)fflush(stdout);
}

void view_late(const struct view *v, const char *name, uint64_t ns)
{
	struct tally *t = world_tally(v->w);
	char found[40];

	atomic_fetch_add(&t->instant_differing, 1);
	(void)snprintf(found, sizeof(found), "%.3f ms later", (double)ns / 1e6);
	if (atomic_fetch_add(&t->shown, 1) < SHOWN_MAX)
		show(v, name, "all of it", "at once", found);
}

static bool same_text(const struct view *v, const char *name, const char *what,
		      const char *expected, const char *found)
{
	bool same = strcmp(expected, found) == 0;

	if (count(v, same))
		show(v, name, what, expected, found);
	return same;
}

static bool same_number(const struct view *v, const char *name, const char *what, uint64_t expected,
			uint64_t found)
{
	char e[24], f[24];

	if (count(v, expected == found)) {
		(void)snprintf(e, sizeof(e), "%" PRIu64, expected);
		(void)snprintf(f, sizeof(f), "%" PRIu64, found);
		show(v, name, what, e, f);
	}
	return expected == found;
}

static void same_time(const struct view *v, const char *name, const char *what, struct timespec e,
		      struct timespec f)
{
	char expected[40], found[40];

	(void)snprintf(expected, sizeof(expected), "%lld.%09ld", (long long)e.tv_sec, e.tv_nsec);
	(void)snprintf(found, sizeof(found), "%lld.%09ld", (long long)f.tv_sec, f.tv_nsec);
	(void)same_text(v, name, what, expected, found);
}

static const char *outcome(long r)
{
	return r >= 0 ? "there" : strerrorname_np(errno) ? strerrorname_np(errno) : "unknown errno";
}

/* ---- names ----------------------------------------------------------------------------------- */

static void same_stat(const struct view *v, const char *name, const struct stat *e,
		      const struct stat *f)
{
	const struct settings *set = world_settings(v->w);
	char expected[16], found[16];

	(void)snprintf(expected, sizeof(expected), "%o", e->st_mode);
	(void)snprintf(found, sizeof(found), "%o", f->st_mode);
	(void)same_text(v, name, "type and mode", expected, found);
	(void)same_number(v, name, "size", (uint64_t)e->st_size, (uint64_t)f->st_size);
	(void)same_number(v, name, "inode number", e->st_ino, f->st_ino);
	same_time(v, name, "mtime", e->st_mtim, f->st_mtim);
	if (set->links || S_ISDIR(e->st_mode) || (e->st_nlink == 1 && f->st_nlink == 1)) {
		(void)same_number(v, name, "links", e->st_nlink, f->st_nlink);
		/* a change of the name alone raises nothing that such a server hears of */
		if (set->links || S_ISDIR(e->st_mode))
			same_time(v, name, "ctime", e->st_ctim, f->st_ctim);
	}
	if (!set->owners)
		return;
	(void)same_number(v, name, "uid", e->st_uid, f->st_uid);
	(void)same_number(v, name, "gid", e->st_gid, f->st_gid);
}

void view_name(const struct view *v, const char *name)
{
	struct stat e, f;
	int re = fstatat(v->host, name, &e, AT_SYMLINK_NOFOLLOW);
	const char *expected = outcome(re);
	int rf = fstatat(v->guest, name, &f, AT_SYMLINK_NOFOLLOW);

	if (!same_text(v, name, "presence", expected, outcome(rf)) || re < 0)
		return;
	same_stat(v, name, &e, &f);
	if (!S_ISLNK(e.st_mode) || !S_ISLNK(f.st_mode))
		return;

	char te[PATH_MAX] = "", tf[PATH_MAX] = "";
	(void)readlinkat(v->host, name, te, sizeof(te) - 1);
	(void)readlinkat(v->guest, name, tf, sizeof(tf) - 1);
	(void)same_text(v, name, "target", te, tf);
}

static const char *xattr_of(int dir, const char *name, char *to, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return outcome(fd);
	n = fgetxattr(fd, XATTR_NAME, to, size - 1);
	const char *r = n >= 0 ? to : outcome(n);
	if (n >= 0)
		to[n] = '\0';
	(void)close(fd);
	return r;
}

void view_xattr(const struct view *v, const char *name)
{
	char e[64], f[64];
	const char *expected = xattr_of(v->host, name, e, sizeof(e));
	const char *found = xattr_of(v->guest, name, f, sizeof(f));

	if (strcmp(found, "EOPNOTSUPP") != 0) /* the plain protocol has none */
		(void)same_text(v, name, XATTR_NAME, expected, found);
}

/* ---- content --------------------------------------------------------------------------------- */

static size_t read_whole(int fd, unsigned char *to)
{
	size_t done = 0;

	while (done < FILE_MAX) {
		ssize_t r = pread(fd, to + done, FILE_MAX - done, (off_t)done);

		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return done;
}

static void same_bytes(const struct view *v, const char *name, const char *what,
		       const unsigned char *e, size_t le, const unsigned char *f, size_t lf)
{
	size_t at = 0, least = le < lf ? le : lf;
	char expected[TEXT_LEN], found[TEXT_LEN];

	if (le == lf && memcmp(e, f, le) == 0) {
		(void)count(v, true);
		return;
	}
	if (!count(v, false))
		return;
	while (at < least && e[at] == f[at])
		at++;
	(void)snprintf(expected, sizeof(expected), "%zu bytes with %#x at %zu", le,
		       at < le ? e[at] : 0u, at);
	(void)snprintf(found, sizeof(found), "%zu bytes with %#x there", lf, at < lf ? f[at] : 0u);
	show(v, name, what, expected, found);
}

static bool is_regular(int dir, const char *name, struct stat *st)
{
	return fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st->st_mode);
}

void view_content(const struct view *v, const char *name)
{
	struct stat e;

	if (!is_regular(v->host, name, &e))
		return;
	int host = openat(v->host, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	const char *expected = outcome(host);
	int guest = openat(v->guest, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (same_text(v, name, "open", expected, outcome(guest)) && host >= 0) {
		size_t le = read_whole(host, bytes_host), lf = read_whole(guest, bytes_guest);

		same_bytes(v, name, "content", bytes_host, le, bytes_guest, lf);
	}
	if (host >= 0)
		(void)close(host);
	if (guest >= 0)
		(void)close(guest);
}

/* ---- listings -------------------------------------------------------------------------------- */

struct listing {
	unsigned n;
	struct dirent entry[ENTRIES_MAX];
};

static struct listing list_host, list_guest;

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct dirent *)a)->d_name, ((const struct dirent *)b)->d_name);
}

/* 0, or the errno as "presence" has it. A symlink in the directory's place is followed by both. */
static int list(int at, const char *name, struct listing *l)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	l->n = 0;
	if (d == NULL)
		return errno;
	errno = 0;
	while ((e = readdir(d)) != NULL) {
		if (l->n == ENTRIES_MAX)
			errx(3, "%s: more than %d names", name, ENTRIES_MAX);
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			l->entry[l->n++] = *e;
	}
	int error = errno;
	(void)closedir(d);
	qsort(l->entry, l->n, sizeof(l->entry[0]), by_name);
	return error;
}

static void differs_in(const struct view *v, const char *dir, const char *name, const char *e,
		       const char *f)
{
	char path[PATH_MAX];

	if (!count(v, false))
		return;
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	show(v, strcmp(dir, ".") == 0 ? name : path, "listing", e, f);
}

void view_dir(const struct view *v, const char *name)
{
	const struct listing *e = &list_host, *f = &list_guest;
	unsigned i = 0, k = 0;
	int re = list(v->host, name, &list_host), rf = list(v->guest, name, &list_guest);

	if (!same_text(v, name, "opening the listing", re ? strerrorname_np(re) : "there",
		       rf ? strerrorname_np(rf) : "there"))
		return;
	while (i < e->n || k < f->n) {
		int c = i == e->n   ? 1
			: k == f->n ? -1
				    : strcmp(e->entry[i].d_name, f->entry[k].d_name);

		if (c < 0)
			differs_in(v, name, e->entry[i++].d_name, "listed", "not listed");
		else if (c > 0)
			differs_in(v, name, f->entry[k++].d_name, "not listed", "listed");
		else if (e->entry[i++].d_type != f->entry[k++].d_type)
			differs_in(v, name, e->entry[i - 1].d_name, "its type", "another type");
		else
			(void)count(v, true);
	}
}

void view_tree(const struct view *v, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	view_name(v, name);
	if (fstatat(v->host, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return;
	if (S_ISREG(st.st_mode))
		view_content(v, name);
	if (!S_ISDIR(st.st_mode))
		return;

	struct listing *l = malloc(sizeof(*l));
	if (l == NULL)
		err(3, "malloc");
	(void)list(v->host, name, l);
	for (unsigned i = 0; i < l->n; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", name, l->entry[i].d_name);
		view_tree(v, path);
	}
	free(l);
	view_dir(v, name);
}

/* ---- what is held open ----------------------------------------------------------------------- */

bool kept_take(const struct view *v, struct kept *k, const char *name)
{
	struct stat e, f;

	*k = (struct kept){.host = -1, .guest = -1};
	(void)snprintf(k->name.s, sizeof(k->name.s), "%s", name);
	k->guest = openat(v->guest, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	k->host = openat(v->host, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	/* While both are open, their inode number belongs to nothing else. */
	if (k->guest < 0 || k->host < 0 || fstat(k->host, &e) != 0 || fstat(k->guest, &f) != 0 ||
	    e.st_ino != f.st_ino || !S_ISREG(e.st_mode) || !S_ISREG(f.st_mode)) {
		kept_drop(k);
		return false;
	}
	if (f.st_size > 0) {
		k->mapped = f.st_size < FILE_MAX ? (size_t)f.st_size : FILE_MAX;
		void *map = mmap(NULL, k->mapped, PROT_READ, MAP_SHARED, k->guest, 0);
		k->map = map != MAP_FAILED ? map : NULL;
	}
	kept_touch(k);
	return true;
}

void kept_touch(const struct kept *k)
{
	if (k->guest < 0)
		return;
	(void)read_whole(k->guest, bytes_guest);
	if (k->map != NULL)
		(void)copy_mapped(bytes_guest, k->map, k->mapped);
}

static void check_map(const struct view *v, struct kept *k, size_t size)
{
	size_t n = size < k->mapped ? size : k->mapped;

	if (k->map == NULL)
		return;
	if (!copy_mapped(bytes_guest, k->map, n))
		(void)same_text(v, k->name.s, "through a mapping", "bytes", "SIGBUS");
	else
		same_bytes(v, k->name.s, "through a mapping", bytes_host, n, bytes_guest, n);
}

void kept_check(const struct view *v, struct kept *k)
{
	const struct settings *set = world_settings(v->w);
	struct stat e, f;

	if (fstat(k->host, &e) != 0)
		err(3, "fstat on the host");
	size_t size = read_whole(k->host, bytes_host);

	if (!set->removed && e.st_nlink == 0 && fstat(k->guest, &f) != 0 && errno == ESTALE)
		return;
	/* Attributes first: a fault asks nobody for the size, and beyond the old one is SIGBUS. */
	if (same_text(v, k->name.s, "fstat of an open file", "there", outcome(fstat(k->guest, &f))))
		same_stat(v, k->name.s, &e, &f);
	if (set->mappings)
		check_map(v, k, size);
	if (set->opened) {
		size_t found = read_whole(k->guest, bytes_guest);

		same_bytes(v, k->name.s, "through an open file", bytes_host, size, bytes_guest,
			   found);
	}
}

void kept_drop(struct kept *k)
{
	if (k->map != NULL)
		(void)munmap(k->map, k->mapped);
	if (k->host >= 0)
		(void)close(k->host);
	if (k->guest >= 0)
		(void)close(k->guest);
	*k = (struct kept){.host = -1, .guest = -1};
}
