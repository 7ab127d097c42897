/*
 * grow: a file that the host appends to all the while, and that several processes in a mount read
 * at its end.
 *
 * The file has no NUL. A reader that finds one was shown the rest of a page behind an end that is
 * not the end any more. After each round of appends the writer waits for a fence and compares
 * what the mount shows, and the size it tells, with the host.
 *
 *   grow [--no-fence] [--changes WHAT] ROUNDS HOST MOUNT
 *
 * --changes link, chmod or truncate: somebody in the mount does that to the file in a loop, or the
 * host makes it shorter. The kernel then takes sizes at times that nobody knows
 * (src/cache/in_kernel_size.c): NULs may show, and are counted, but not for longer than a second.
 *
 * Exit code: 0 well, 1 not, 2 usage, 3 could not go on.
 */
#include "child.h"
#include "fence.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define READERS	 3
#define TAIL	 8192
#define FILE_MAX 200000
#define LAST_MS	 2000.0 /* what may be wrong for a while is not for so long */

static struct shared {
	atomic_bool done;
	atomic_ulong reads, grown, nuls;
} * shared;

static bool fenced = true;
static const char *changes = "";
static char host[PATH_MAX], mount[PATH_MAX], other[PATH_MAX];
static char bytes_host[FILE_MAX + TAIL], bytes_mount[FILE_MAX + TAIL];

/* ---- in the mount ---------------------------------------------------------------------------- */

static _Noreturn void reader(void)
{
	static char tail[2 * TAIL];
	int fd = open(mount, O_RDONLY | O_CLOEXEC);
	struct stat st, last = {0};

	if (fd < 0)
		err(3, "%s", mount);
	while (!atomic_load(&shared->done)) {
		if (stat(mount, &st) != 0)
			err(3, "%s", mount);
		ssize_t n =
			pread(fd, tail, sizeof(tail), st.st_size > TAIL ? st.st_size - TAIL : 0);
		if (n < 0)
			err(3, "%s", mount);
		atomic_fetch_add(&shared->reads, 1);
		atomic_fetch_add(&shared->grown, st.st_size != last.st_size);
		atomic_fetch_add(&shared->nuls, memchr(tail, '\0', (size_t)n) != NULL);
		last = st;
	}
	_exit(0);
}

/*
 * ENOENT: the kernel has counted the link that goes twice, because somebody was told of the new
 * count before it took its own from the old one (fuse_entry_unlinked). It is right again with the
 * next look.
 */
static int link_and_unlink(void)
{
	if (link(mount, other) != 0)
		return errno == ENOENT ? 0 : -1;
	return unlink(other);
}

static _Noreturn void changer(void)
{
	unsigned n = 0;

	while (!atomic_load(&shared->done)) {
		int r = 0;

		if (strcmp(changes, "chmod") == 0)
			r = chmod(mount, 0600 | (n++ % 8));
		else if (strcmp(changes, "link") == 0)
			r = link_and_unlink();
		if (r != 0)
			err(3, "%s: %s", mount, changes);
	}
	_exit(0);
}

/* ---- on the host ----------------------------------------------------------------------------- */

static size_t whole(const char *path, char *to, off_t *ret_size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || stat(path, &st) != 0)
		err(3, "%s", path);
	*ret_size = st.st_size;
	ssize_t n = read(fd, to, sizeof(bytes_host));
	if (n < 0)
		err(3, "%s", path);
	(void)close(fd);
	return (size_t)n;
}

static bool equal(void)
{
	off_t size, size_mount;
	size_t n = whole(host, bytes_host, &size);
	size_t m = whole(mount, bytes_mount, &size_mount);

	return size == size_mount && n == m && memcmp(bytes_host, bytes_mount, n) == 0;
}

static double now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* Until the readers have read so often. */
static void let_read(unsigned long times)
{
	unsigned long until = atomic_load(&shared->reads) + times;

	while (atomic_load(&shared->reads) < until) {
		if (waitpid(-1, NULL, WNOHANG) != 0)
			errx(3, "a process in %s has ended", mount);
		(void)sched_yield();
	}
}

/* Three appends, each in the middle of what the last one sets off. */
static void append(int fd, unsigned *seed)
{
	static char text[1000];
	struct stat st;

	memset(text, 'p', sizeof(text));
	if (fstat(fd, &st) != 0)
		err(3, "%s", host);
	if ((st.st_size > FILE_MAX - 4000 ||
	     (strcmp(changes, "truncate") == 0 && rand_r(seed) % 4 == 0)) &&
	    ftruncate(fd, rand_r(seed) % (st.st_size + 1)) != 0)
		err(3, "%s", host);
	for (int i = 0; i < 3; i++) {
		size_t n = 1 + (size_t)rand_r(seed) % 900;

		if (write(fd, text, n) != (ssize_t)n)
			err(3, "%s", host);
		let_read((unsigned long)rand_r(seed) % 20);
	}
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int run(unsigned long rounds, const char *root, const char *root_mount)
{
	unsigned long late = 0, wrong = 0;
	double longest = 0;
	unsigned seed = 1;
	int fd = open(host, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, "first", 5) != 5)
		err(3, "%s", host);
	if (fenced && fence_mount(root_mount) != 0)
		err(3, "%s: no fence", root_mount);
	for (int i = 0; i < READERS; i++)
		if (child_fork() == 0)
			reader();
	if (child_fork() == 0)
		changer();
	for (unsigned long i = 0; i < rounds && wrong == 0; i++) {
		if (*changes == '\0' && atomic_load(&shared->nuls) > 0)
			break;
		append(fd, &seed);
		if (fenced && fence_mount(root_mount) != 0)
			err(3, "%s: no fence", root_mount);
		double begun = now_ms();
		if (equal())
			continue;
		late++;
		wrong = fenced && *changes == '\0';
		while (!wrong && !equal())
			wrong = now_ms() - begun > LAST_MS;
		if (now_ms() - begun > longest)
			longest = now_ms() - begun;
	}
	atomic_store(&shared->done, true);
	for (int i = 0, status; i < READERS + 1; i++)
		if (wait(&status) < 0 || status != 0)
			errx(3, "a process in %s ended with status %#x", root_mount,
			     (unsigned)status);
	(void)unlink(host);
	unsigned long nuls = atomic_load(&shared->nuls);
	printf("%s: %lu reads in %s, %lu after a new size; with a NUL: %lu; not equal at once: %lu, "
	       "longest %.1f ms; wrong: %lu\n",
	       root, atomic_load(&shared->reads), root_mount, atomic_load(&shared->grown), nuls,
	       late, longest, wrong);
	if (wrong == 0 && nuls == 0 && atomic_load(&shared->grown) < rounds / 10)
		errx(3, "the readers were not there");
	return wrong != 0 || (nuls != 0 && *changes == '\0');
}

static void set_changes(char *text)
{
	if (strcmp(text, "link") != 0 && strcmp(text, "chmod") != 0 &&
	    strcmp(text, "truncate") != 0)
		errx(2, "--changes: '%s'?", text);
	changes = text;
}

static const struct option_row rows[] = {
	{"no-fence", NULL, "the mount has none: what shows late is right in the end",
	 .flag = &fenced},
	{"changes", "WHAT", "link, chmod (in the mount) or truncate (on the host): as well",
	 .take = set_changes},
	{0},
};

static const struct options options = {
	.usage = "ROUNDS HOST MOUNT",
	.operands = 3,
	.row = rows,
	.exit_codes = "0 well, 1 not",
};

int main(int argc, char **argv)
{
	char **operand = argv + options_parse(&options, argc, argv);

	const char *root = operand[1], *root_mount = operand[2];
	(void)snprintf(host, sizeof(host), "%s/grown", root);
	(void)snprintf(mount, sizeof(mount), "%s/grown", root_mount);
	(void)snprintf(other, sizeof(other), "%s/grown.2", root_mount);
	shared = child_memory(sizeof(*shared));
	return run(options_number(operand[0]), root, root_mount);
}
