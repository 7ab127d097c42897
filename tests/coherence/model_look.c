#include "model.h"

#include "mapped.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define MAP_SIZE (FILE_MAX + 4096 - FILE_MAX % 4096)

static unsigned char bytes[2 * FILE_MAX];
static int pipe_read, pipe_write;

bool chance(struct actor *a, unsigned percent)
{
	return prng_below(&a->rng, 100) < percent;
}

/* Where something was changed a moment ago, an old answer is most likely. */
unsigned some_name(struct actor *a)
{
	if (chance(a, 65))
		return atomic_load(&a->m->hot[prng_below(&a->rng, HOT)]);
	return (unsigned)prng_below(&a->rng, NAMES);
}

void hot_name(struct actor *a, unsigned name)
{
	atomic_store(&a->m->hot[atomic_fetch_add(&a->m->hot_at, 1) % HOT], name);
}

/* ---- by name --------------------------------------------------------------------------------- */

static void look_stat(struct actor *a)
{
	unsigned n = some_name(a);
	struct stat st = {0};
	struct look l = look_begin(a, "stat");
	int error = fstatat(a->at, name_path(n), &st, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;

	look_end(&l);
	struct object *o = check_name(
		&l, n, (struct found){error, st.st_mode & S_IFMT, error == 0 ? st.st_ino : 0});
	if (o != NULL)
		check_stat(&l, o, &st);
}

static void look_link(struct actor *a)
{
	unsigned n = some_name(a);
	char to[40] = "", expected[40];
	struct look l = look_begin(a, "readlink");
	ssize_t r = readlinkat(a->at, name_path(n), to, sizeof(to) - 1);
	struct found f = {.error = r < 0 ? errno : 0, .type = S_IFLNK};

	look_end(&l);
	if (f.error == EINVAL) /* it is something else, of which readlink(2) does not tell more */
		f = (struct found){0};
	if (f.error == 0 && f.type == S_IFLNK) {
		struct object *o = object_of(a->m, (uint32_t)strtoul(to + 3, NULL, 10));
		f.ino = o != NULL ? atomic_load(&o->ino) : 0;
		(void)snprintf(expected, sizeof(expected), "no-%u", o != NULL ? o->id : 0);
		if (o != NULL && strcmp(to, expected) != 0)
			report(&l, (int)n, o, "leads to %s", to);
	}
	(void)check_name(&l, n, f);
}

static void look_listing(struct actor *a)
{
	unsigned dir = (unsigned)prng_below(&a->rng, DIRS + 1);
	bool listed[NAMES] = {false};
	mode_t type[NAMES];
	struct dirent *e;
	struct look l = look_begin(a, "listing");
	int fd = openat(a->at, dir_path(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (d == NULL)
		err(3, "%s", dir_path(dir));
	while ((e = readdir(d)) != NULL) {
		unsigned i = dir * NAMES_IN_DIR + (unsigned)(e->d_name[1] - '0');

		if ((e->d_name[0] != 'n' && e->d_name[0] != 'm') || i >= NAMES)
			continue;
		listed[i] = true;
		type[i] = (mode_t)DTTOIF(e->d_type);
	}
	(void)closedir(d);
	look_end(&l);
	for (unsigned i = dir * NAMES_IN_DIR;
	     i < NAMES && (dir == DIRS || i < (dir + 1) * NAMES_IN_DIR); i++)
		check_listed(&l, i,
			     listed[i] ? (struct found){0, type[i], 0}
				       : (struct found){.error = ENOENT});
}

/* ---- by what is open ------------------------------------------------------------------------- */

void kept_drop(struct kept *k)
{
	if (k->map != NULL)
		(void)munmap(k->map, MAP_SIZE);
	if (k->fd >= 0)
		(void)close(k->fd);
	*k = (struct kept){.fd = -1};
}

static struct found open_found(int fd, struct stat *st)
{
	struct found f = {.error = fd < 0 ? errno : 0};

	if (fd >= 0 && fstat(fd, st) != 0)
		f.error = errno;
	else if (fd >= 0)
		f = (struct found){0, st->st_mode & S_IFMT, st->st_ino};
	else if (f.error == ELOOP)
		f = (struct found){.type = S_IFLNK};
	else if (f.error == EISDIR)
		f = (struct found){.type = S_IFDIR};
	return f;
}

void kept_take(struct actor *a, struct kept *k, unsigned name)
{
	struct stat st = {0};
	bool append = chance(a, 30);

	kept_drop(k);
	struct look l = look_begin(a, "open");
	int fd = openat(a->at, name_path(name),
			O_RDWR | O_NOFOLLOW | O_CLOEXEC | (append ? O_APPEND : 0));
	struct found f = open_found(fd, &st);
	look_end(&l);
	struct object *o = check_name(&l, name, f);
	if (fd < 0)
		return;
	if (o == NULL) {
		(void)close(fd);
		return;
	}
	check_stat(&l, o, &st);
	*k = (struct kept){.fd = fd, .object = o->id, .append = append};
	if (chance(a, 70)) {
		void *map = mmap(NULL, MAP_SIZE, PROT_READ, MAP_SHARED, fd, 0);
		k->map = map != MAP_FAILED ? map : NULL;
	}
}

static void look_fstat(struct actor *a, struct kept *k, struct object *o)
{
	struct stat st;
	struct look l = look_begin(a, "fstat");
	bool ok = fstat(k->fd, &st) == 0;

	look_end(&l);
	check_open_call(&l, o, ok);
	if (ok)
		check_stat(&l, o, &st);
}

/* By calls of this size, until there is nothing more. */
static ssize_t read_all(int fd)
{
	size_t n = 0;
	ssize_t r;

	while (n < FILE_MAX && (r = pread(fd, bytes + n, sizeof(bytes) - n, (off_t)n)) > 0)
		n += (size_t)r;
	return n == 0 && r < 0 ? -1 : (ssize_t)n;
}

static void look_read(struct actor *a, struct kept *k, struct object *o)
{
	struct look l = look_begin(a, "read");
	ssize_t n = read_all(k->fd);

	look_end(&l);
	check_open_call(&l, o, n >= 0);
	if (n >= 0)
		check_read(&l, o, bytes, (size_t)n);
}

/* The end only, as who follows a log does. */
static void look_end_of_file(struct actor *a, struct kept *k, struct object *o)
{
	struct stat st;
	struct look l = look_begin(a, "read to the size that fstat tells");
	bool ok = fstat(k->fd, &st) == 0;
	ssize_t n = ok ? pread(k->fd, bytes, (size_t)st.st_size, 0) : -1;

	look_end(&l);
	check_open_call(&l, o, ok && n >= 0);
	if (!ok || n < 0)
		return;
	check_stat(&l, o, &st);
	if (n < st.st_size) /* else more may be there */
		check_read(&l, o, bytes, (size_t)n);
}

static void look_mapped(struct actor *a, struct kept *k, struct object *o)
{
	struct look l = look_begin(a, "mapping");
	size_t n = k->map != NULL ? check_mapped_size(&l, o) : 0;

	if (n == 0 || !a->m->set.mappings)
		return;
	bool there = copy_mapped(bytes, k->map, n);
	look_end(&l);
	check_mapped(&l, o, bytes, n, there);
}

static ssize_t move(int from, bool splices)
{
	loff_t at = 0;
	ssize_t n;

	do {
		n = splices ? splice(from, &at, pipe_write, NULL, FILE_MAX, 0)
			    : sendfile(pipe_write, from, &at, FILE_MAX);
	} while (n > 0 && at < FILE_MAX);
	return n < 0 ? -1 : at;
}

static void look_moved(struct actor *a, struct kept *k, struct object *o)
{
	bool splices = chance(a, 50);
	struct look l = look_begin(a, splices ? "splice" : "sendfile");
	ssize_t n = move(k->fd, splices);

	look_end(&l);
	check_open_call(&l, o, n >= 0);
	for (ssize_t at = 0, r; at < n; at += r)
		if ((r = read(pipe_read, bytes + at, (size_t)(n - at))) <= 0)
			err(3, "pipe");
	if (n >= 0)
		check_read(&l, o, bytes, (size_t)n);
}

static void look_copied(struct actor *a, struct kept *k, struct object *o)
{
	loff_t from = 0, to = 0;
	ssize_t n;

	if (ftruncate(a->copy, 0) != 0)
		err(3, "a copy");
	struct look l = look_begin(a, "copy_file_range");
	l.elsewhere = true;
	do {
		n = copy_file_range(k->fd, &from, a->copy, &to, FILE_MAX, 0);
	} while (n > 0 && from < FILE_MAX);
	look_end(&l);
	check_open_call(&l, o, n >= 0);
	if (n < 0)
		return;
	n = read_all(a->copy);
	check_open_call(&l, o, n == to);
	check_read(&l, o, bytes, n < 0 ? 0 : (size_t)n);
}

void look_kept(struct actor *a, struct kept *k)
{
	static void (*const looks[])(struct actor *, struct kept *, struct object *) = {
		look_fstat,  look_read,	  look_read,  look_end_of_file,
		look_mapped, look_mapped, look_moved, look_copied,
	};
	struct object *o = object_of(a->m, k->object);

	if (k->fd < 0 || o == NULL)
		kept_take(a, k, some_name(a));
	else
		looks[prng_below(&a->rng, sizeof(looks) / sizeof(looks[0]))](a, k, o);
}

/* ---- where it stands ------------------------------------------------------------------------- */

static void stand_in(struct actor *a)
{
	unsigned n = some_name(a);
	struct stat st = {0};
	struct found f = {0};

	if (chance(a, 50))
		n = NAMES - 1 - (unsigned)prng_below(&a->rng, MOVERS);
	if (fchdir(a->at) != 0)
		err(3, "fchdir");
	a->cwd = ABSENT;
	struct look l = look_begin(a, "chdir");
	f.error = chdir(name_path(n)) == 0 ? 0 : errno;
	if (f.error == 0 && stat(".", &st) == 0)
		f = (struct found){0, S_IFDIR, st.st_ino};
	look_end(&l);
	if (f.error == ENOTDIR)
		f = (struct found){.type = S_IFREG};
	else if (f.error == ENOENT && n < DIRS * NAMES_IN_DIR)
		return; /* absent, or a link that leads nowhere */
	struct object *o = check_name(&l, n, f);
	if (o == NULL)
		return;
	a->cwd = o->id;
	a->cwd_below = n >= DIRS * NAMES_IN_DIR && chance(a, 50);
	if (a->cwd_below && chdir("below") != 0)
		check_open_call(&l, o, false);
}

static void look_cwd(struct actor *a)
{
	const char *place = a->m->set.place[a->place];
	char path[PATH_MAX], prefix[PATH_MAX];
	struct look l = look_begin(a, "getcwd");
	bool ok = getcwd(path, sizeof(path)) != NULL;
	const char *shown = path;
	size_t n;

	look_end(&l);
	n = (size_t)snprintf(prefix, sizeof(prefix), "%s/%s/", place, a->m->dir);
	if (ok && strncmp(path, prefix, n) == 0) {
		shown = path + n;
		size_t end = strlen(path), below = strlen("/below");
		if (a->cwd_below && end > below && strcmp(path + end - below, "/below") == 0)
			path[end - below] = '\0';
	}
	check_cwd(&l, ok ? shown : NULL);
}

/* ---- all of it ------------------------------------------------------------------------------- */

void look_some(struct actor *a)
{
	unsigned what = (unsigned)prng_below(&a->rng, 100);
	struct kept *k = &a->kept[prng_below(&a->rng, KEPT)];

	if (what < 30)
		look_stat(a);
	else if (what < 34)
		look_link(a);
	else if (what < 42)
		look_listing(a);
	else if (what < 82)
		look_kept(a, k);
	else if (what < 92)
		kept_take(a, k, some_name(a));
	else if (what < 95 || a->cwd == ABSENT)
		stand_in(a);
	else
		look_cwd(a);
	atomic_fetch_add(&a->m->tally.looks, 1);
}

void look_init(struct actor *a)
{
	char name[16];
	int ends[2];

	for (unsigned i = 0; i < KEPT; i++)
		a->kept[i].fd = -1;
	if (pipe2(ends, O_CLOEXEC) != 0)
		err(3, "pipe");
	pipe_read = ends[0];
	pipe_write = ends[1];
	(void)snprintf(name, sizeof(name), "copy%u", a->who);
	a->copy = openat(a->at, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (a->copy < 0)
		err(3, "%s", name);
}
