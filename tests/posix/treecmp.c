/*
 * treecmp: are two directory trees the same?
 *
 * Compared by lstat: type, mode, owner, link count (but of directories), size (but of
 * directories), mtime to the nanosecond, device number; besides: names as bytes, link targets,
 * contents, and which names are links to one file. One process, descriptors relative to their
 * directories, no sorting by locale, each file of a hard-link group read once.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, MAX_SHOWN = 1000 };

static struct {
	bool ids, skip_mtime, skip_nlink, skip_mode, skip_owner, quiet;
	uid_t uid; /* with ids: what every owner in B must be */
	gid_t gid;
} opt;

static unsigned long differences, files;
static char *chunk_a, *chunk_b;

static void *must(void *p)
{
	if (!p) {
		fprintf(stderr, "treecmp: out of memory\n");
		exit(2);
	}
	return p;
}

/* ---- paths for messages -------------------------------------------------------------------- */

static char *path;
static size_t path_len, path_size;

static size_t path_push(const char *name)
{
	size_t was = path_len, n = strlen(name);

	if (path_len + n + 2 > path_size) {
		path_size = 2 * (path_len + n + 2);
		path = must(realloc(path, path_size));
	}
	if (path_len)
		path[path_len++] = '/';
	memcpy(path + path_len, name, n + 1);
	path_len += n;
	return was;
}

static void path_pop(size_t was)
{
	path_len = was;
	path[was] = 0;
}

static void print_escaped(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x20 && c < 0x7f && c != '\\')
			putchar(c);
		else
			printf("\\x%02x", c);
	}
}

static void differ(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void differ(const char *fmt, ...)
{
	va_list ap;

	if (differences++ >= MAX_SHOWN || opt.quiet)
		return;
	print_escaped(path_len ? path : ".", path_len ? path_len : 1);
	printf(": ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

/* ---- hard links: a map of the inodes of each side to those of the other --------------------- */

struct slot {
	dev_t dev;
	ino_t ino; /* 0: free */
	dev_t other_dev;
	ino_t other_ino;
};

struct map {
	struct slot *slot;
	size_t size, used; /* size is a power of two */
};

static struct map a_to_b, b_to_a;

static struct slot *map_find(struct map *m, dev_t dev, ino_t ino)
{
	size_t i = (size_t)((ino ^ dev * 31) * 0x9e3779b97f4a7c15u >> 20) & (m->size - 1);

	while (m->slot[i].ino && (m->slot[i].ino != ino || m->slot[i].dev != dev))
		i = (i + 1) & (m->size - 1);
	return &m->slot[i];
}

static void map_grow(struct map *m)
{
	struct map old = *m;

	m->size = old.size ? old.size * 2 : 1024;
	m->slot = must(calloc(m->size, sizeof(*m->slot)));
	for (size_t i = 0; i < old.size; i++)
		if (old.slot[i].ino)
			*map_find(m, old.slot[i].dev, old.slot[i].ino) = old.slot[i];
	free(old.slot);
}

/* True when the pair is known already, so that the content need not be read again. */
static bool map_pair(struct map *m, const struct stat *from, const struct stat *to,
		     const char *side)
{
	struct slot *s;

	if (m->used * 2 >= m->size)
		map_grow(m);
	s = map_find(m, from->st_dev, from->st_ino);
	if (!s->ino) {
		*s = (struct slot){from->st_dev, from->st_ino, to->st_dev, to->st_ino};
		m->used++;
		return false;
	}
	if (s->other_dev != to->st_dev || s->other_ino != to->st_ino)
		differ("hard links: one file in %s, several in the other", side);
	return true;
}

/* ---- one pair of names --------------------------------------------------------------------- */

static const char *type_name(mode_t mode)
{
	return S_ISREG(mode)	? "regular file"
	       : S_ISDIR(mode)	? "directory"
	       : S_ISLNK(mode)	? "symlink"
	       : S_ISFIFO(mode) ? "fifo"
	       : S_ISSOCK(mode) ? "socket"
	       : S_ISCHR(mode)	? "character device"
	       : S_ISBLK(mode)	? "block device"
				: "unknown type";
}

static void compare_content(int da, int db, const char *name)
{
	int fa = openat(da, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	int fb = openat(db, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	off_t at = 0;

	/* O_NOATIME is the owner's alone. */
	if (fa < 0 && errno == EPERM)
		fa = openat(da, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fa < 0)
		differ("open in A: %s", strerror(errno));
	if (fb < 0 && errno == EPERM)
		fb = openat(db, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fb < 0)
		differ("open in B: %s", strerror(errno));
	while (fa >= 0 && fb >= 0) {
		ssize_t a = pread(fa, chunk_a, CHUNK, at), b = pread(fb, chunk_b, CHUNK, at), i = 0;

		if (a < 0 || b < 0) {
			differ("read in %s: %s", a < 0 ? "A" : "B", strerror(errno));
			break;
		}
		if (a == 0 && b == 0)
			break;
		if (a != b || memcmp(chunk_a, chunk_b, (size_t)a)) {
			while (i < a && i < b && chunk_a[i] == chunk_b[i])
				i++;
			differ("content differs from byte %lld on", (long long)(at + i));
			break;
		}
		at += a;
	}
	if (fa >= 0)
		close(fa);
	if (fb >= 0)
		close(fb);
}

static void compare_target(int da, int db, const char *name)
{
	ssize_t a = readlinkat(da, name, chunk_a, CHUNK), b = readlinkat(db, name, chunk_b, CHUNK);

	if (a < 0 || b < 0)
		differ("readlink in %s: %s", a < 0 ? "A" : "B", strerror(errno));
	else if (a != b || memcmp(chunk_a, chunk_b, (size_t)a))
		differ("link target differs (%zd and %zd bytes)", a, b);
}

static void compare_fields(const struct stat *a, const struct stat *b)
{
	uid_t uid = opt.ids ? opt.uid : a->st_uid;
	gid_t gid = opt.ids ? opt.gid : a->st_gid;

	if (!opt.skip_mode && (a->st_mode & 07777) != (b->st_mode & 07777))
		differ("mode %04o and %04o", a->st_mode & 07777, b->st_mode & 07777);
	if (!opt.skip_owner && (uid != b->st_uid || gid != b->st_gid))
		differ("owner %u:%u, expected %u:%u", b->st_uid, b->st_gid, uid, gid);
	if (!opt.skip_nlink && !S_ISDIR(a->st_mode) && a->st_nlink != b->st_nlink)
		differ("link count %lu and %lu", (unsigned long)a->st_nlink,
		       (unsigned long)b->st_nlink);
	if (!S_ISDIR(a->st_mode) && a->st_size != b->st_size)
		differ("size %lld and %lld", (long long)a->st_size, (long long)b->st_size);
	if (!opt.skip_mtime &&
	    (a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec))
		differ("mtime %lld.%09ld and %lld.%09ld", (long long)a->st_mtim.tv_sec,
		       a->st_mtim.tv_nsec, (long long)b->st_mtim.tv_sec, b->st_mtim.tv_nsec);
	if ((S_ISCHR(a->st_mode) || S_ISBLK(a->st_mode)) && a->st_rdev != b->st_rdev)
		differ("device %u:%u and %u:%u", major(a->st_rdev), minor(a->st_rdev),
		       major(b->st_rdev), minor(b->st_rdev));
}

static void compare_dirs(int da, int db);

static void compare_pair(int da, int db, const char *name)
{
	struct stat a, b;
	bool known = false;

	files++;
	if (fstatat(da, name, &a, AT_SYMLINK_NOFOLLOW)) {
		differ("lstat in A: %s", strerror(errno));
		return;
	}
	if (fstatat(db, name, &b, AT_SYMLINK_NOFOLLOW)) {
		differ("lstat in B: %s", strerror(errno));
		return;
	}
	if ((a.st_mode & S_IFMT) != (b.st_mode & S_IFMT)) {
		differ("%s and %s", type_name(a.st_mode), type_name(b.st_mode));
		return;
	}
	compare_fields(&a, &b);
	if (!S_ISDIR(a.st_mode) && (a.st_nlink > 1 || b.st_nlink > 1)) {
		bool there = map_pair(&a_to_b, &a, &b, "A"), back = map_pair(&b_to_a, &b, &a, "B");

		known = there && back;
	}
	if (S_ISREG(a.st_mode) && !known && a.st_size == b.st_size && a.st_size > 0)
		compare_content(da, db, name);
	if (S_ISLNK(a.st_mode))
		compare_target(da, db, name);
	if (S_ISDIR(a.st_mode)) {
		int sa = openat(da, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		int sb = openat(db, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (sa < 0 || sb < 0) {
			differ("open in %s: %s", sa < 0 ? "A" : "B", strerror(errno));
			if (sa >= 0)
				close(sa);
			if (sb >= 0)
				close(sb);
			return;
		}
		compare_dirs(sa, sb);
	}
}

/* ---- one pair of directories --------------------------------------------------------------- */

struct list {
	char **name;
	size_t n, size;
};

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a directory, in the order of their bytes; the descriptor stays open. */
static struct list names_of(int fd, const char *side)
{
	struct list l = {0};
	struct dirent *e;
	int own = dup(fd);
	DIR *d = own < 0 ? NULL : fdopendir(own);

	if (!d) {
		differ("open in %s: %s", side, strerror(errno));
		if (own >= 0)
			close(own);
		return l;
	}
	for (errno = 0; (e = readdir(d)); errno = 0) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (l.n == l.size) {
			l.size = l.size ? 2 * l.size : 64;
			l.name = must(realloc(l.name, l.size * sizeof(*l.name)));
		}
		l.name[l.n++] = must(strdup(e->d_name));
	}
	if (errno)
		differ("readdir in %s: %s", side, strerror(errno));
	closedir(d);
	if (l.n)
		qsort(l.name, l.n, sizeof(*l.name), by_bytes);
	for (size_t i = 1; i < l.n; i++)
		if (!strcmp(l.name[i - 1], l.name[i])) {
			size_t was = path_push(l.name[i]);

			differ("listed twice in %s", side);
			path_pop(was);
		}
	return l;
}

static void list_free(struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->name[i]);
	free(l->name);
}

/* Takes both descriptors. */
static void compare_dirs(int da, int db)
{
	struct list a = names_of(da, "A"), b = names_of(db, "B");
	size_t i = 0, k = 0;

	while (i < a.n || k < b.n) {
		int cmp = i == a.n ? 1 : k == b.n ? -1 : strcmp(a.name[i], b.name[k]);
		size_t was = path_push(cmp <= 0 ? a.name[i] : b.name[k]);

		if (cmp == 0)
			compare_pair(da, db, a.name[i]);
		else
			differ("only in %s", cmp < 0 ? "A" : "B");
		path_pop(was);
		i += cmp <= 0;
		k += cmp >= 0;
	}
	list_free(&a);
	list_free(&b);
	close(da);
	close(db);
}

/* ---- main ---------------------------------------------------------------------------------- */

static void usage(FILE *to)
{
	fprintf(to, "usage: treecmp [--ids UID:GID] [--ignore FIELD]... [--quiet] A B\n"
		    "  --ids     every owner in A must show as this pair in B\n"
		    "  --ignore  mode, owner, nlink or mtime\n"
		    "Exit: 0 the same, 1 different, 2 trouble.\n");
}

static bool ignore(const char *field)
{
	if (!strcmp(field, "mtime"))
		opt.skip_mtime = true;
	else if (!strcmp(field, "nlink"))
		opt.skip_nlink = true;
	else if (!strcmp(field, "mode"))
		opt.skip_mode = true;
	else if (!strcmp(field, "owner"))
		opt.skip_owner = true;
	else
		return false;
	return true;
}

static int open_root(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		fprintf(stderr, "treecmp: %s: %s\n", dir, strerror(errno));
		exit(2);
	}
	return fd;
}

int main(int argc, char **argv)
{
	struct rlimit rl;
	int i = 1, a, b;

	for (; i < argc && argv[i][0] == '-'; i++) {
		unsigned uid, gid;
		char end;

		if (!strcmp(argv[i], "--ids") && i + 1 < argc &&
		    sscanf(argv[i + 1], "%u:%u%c", &uid, &gid, &end) == 2) {
			opt.ids = true;
			opt.uid = uid;
			opt.gid = gid;
			i++;
		} else if (!strcmp(argv[i], "--ignore") && i + 1 < argc && ignore(argv[i + 1])) {
			i++;
		} else if (!strcmp(argv[i], "--quiet")) {
			opt.quiet = true;
		} else {
			usage(strcmp(argv[i], "--help") ? stderr : stdout);
			return strcmp(argv[i], "--help") ? 2 : 0;
		}
	}
	if (i + 2 != argc) {
		usage(stderr);
		return 2;
	}
	/* Two descriptors for each level. */
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	chunk_a = must(malloc(CHUNK));
	chunk_b = must(malloc(CHUNK));
	path_pop(path_push(""));
	a = open_root(argv[i]);
	b = open_root(argv[i + 1]);
	compare_pair(a, b, ".");
	close(a);
	close(b);
	if (differences)
		printf("treecmp: %lu differences in %lu pairs\n", differences, files);
	free(chunk_a);
	free(chunk_b);
	free(path);
	free(a_to_b.slot);
	free(b_to_a.slot);
	return differences ? 1 : 0;
}
