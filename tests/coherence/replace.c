/*
 * replace: renames over one name again and again in one place, while a process in each other place
 * opens and reads that name in a loop.
 *
 * Each content is a generation: a head with its number and length, then the same word all over. A
 * reader must always find the name, and in it one generation whole, never an older one than before;
 * and the last one when all is done: at once, or after a fence.
 *
 *   replace [--fence] COUNT WRITER READER...
 *
 * Exit code: 0 well, 1 not, 2 usage, 3 could not go on.
 */
#include "child.h"
#include "fence.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME	    "replaced"
#define TEMPORARY   ".replaced.tmp"
#define WORDS_MAX   1500 /* three pages */
#define READERS_MAX 8
#define SHOWN_MAX   10

struct reader {
	atomic_ulong reads, generations, absent, errors, torn, backwards, not_last;
};

static struct shared {
	atomic_bool done;
	atomic_ulong shown, last;
	struct reader reader[READERS_MAX];
} * shared;

/* Neighbours differ in length, and no length is a whole number of pages. */
static size_t words_of(uint64_t generation)
{
	return 2 + generation * 397 % (WORDS_MAX - 2);
}

static uint64_t word_of(uint64_t generation)
{
	return generation * UINT64_C(0x9e3779b97f4a7c15);
}

/* ---- the writer ------------------------------------------------------------------------------ */

static void replace(uint64_t generation)
{
	static uint64_t words[WORDS_MAX];
	size_t n = words_of(generation);

	words[0] = generation;
	for (size_t i = 1; i < n; i++)
		words[i] = word_of(generation);
	int fd = open(TEMPORARY, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, words, n * sizeof(words[0])) != (ssize_t)(n * sizeof(words[0])) ||
	    close(fd) != 0)
		err(3, "writing " TEMPORARY);
	if (rename(TEMPORARY, NAME) != 0)
		err(3, "rename");
}

/* ---- a reader -------------------------------------------------------------------------------- */

static void complain(const char *place, const char *what, uint64_t a, uint64_t b)
{
	if (atomic_fetch_add(&shared->shown, 1) < SHOWN_MAX)
		printf("%s: %s (%" PRIu64 ", %" PRIu64 ")\n", place, what, a, b);
}

/* The generation; 0 for none. */
static uint64_t look(struct reader *r, const char *place, int dir)
{
	static uint64_t words[WORDS_MAX + 1];
	int fd = openat(dir, NAME, O_RDONLY | O_CLOEXEC);

	atomic_fetch_add(&r->reads, 1);
	if (fd < 0) {
		atomic_fetch_add(errno == ENOENT ? &r->absent : &r->errors, 1);
		complain(place, strerror(errno), 0, 0);
		return 0;
	}
	ssize_t len = read(fd, words, sizeof(words));
	int error = errno;
	(void)close(fd);
	if (len < 0) {
		atomic_fetch_add(&r->errors, 1);
		complain(place, strerror(error), 0, 0);
		return 0;
	}
	size_t n = (size_t)len / sizeof(words[0]);
	bool whole = n >= 2 && n * sizeof(words[0]) == (size_t)len && n == words_of(words[0]);
	for (size_t i = 1; whole && i < n; i++)
		whole = words[i] == word_of(words[0]);
	if (!whole) {
		atomic_fetch_add(&r->torn, 1);
		complain(place, "torn: bytes, generation in the head", (uint64_t)len,
			 n > 0 ? words[0] : 0);
		return 0;
	}
	return words[0];
}

/* Writes to `ready` when it has read for the first time. */
static _Noreturn void read_on(struct reader *r, const char *place, bool fence, int ready)
{
	uint64_t last = 0, now;
	int dir = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		err(3, "%s", place);
	for (bool first = true; !atomic_load(&shared->done); first = false) {
		now = look(r, place, dir);
		if (now != 0 && now < last) {
			atomic_fetch_add(&r->backwards, 1);
			complain(place, "went backwards", last, now);
		}
		if (now > last) {
			atomic_fetch_add(&r->generations, 1);
			last = now;
		}
		if (first && write(ready, "", 1) != 1)
			err(3, "%s", place);
	}
	if (fence && fence_mount(place) < 0)
		err(3, "%s: no fence", place);
	now = look(r, place, dir);
	if (now != atomic_load(&shared->last)) {
		atomic_fetch_add(&r->not_last, 1);
		complain(place, "not the last generation", atomic_load(&shared->last), now);
	}
	(void)fflush(stdout);
	_exit(0);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static bool print(const struct reader *r, const char *place)
{
	printf("%s: %lu reads, %lu generations, %lu ENOENT, %lu other errors, %lu torn, "
	       "%lu backwards, %lu not the last\n",
	       place, r->reads, r->generations, r->absent, r->errors, r->torn, r->backwards,
	       r->not_last);
	return r->absent + r->errors + r->torn + r->backwards + r->not_last == 0;
}

static void enter(const char *place)
{
	if (chdir(place) != 0)
		err(3, "%s", place);
}

/* Starts a reader, and waits until it has read. */
static pid_t start(struct reader *r, const char *place, bool fence)
{
	int ready[2];
	char byte;

	if (pipe2(ready, O_CLOEXEC) != 0)
		err(3, "pipe");
	pid_t pid = child_fork();
	if (pid == 0)
		read_on(r, place, fence, ready[1]);
	(void)close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		errx(3, "%s: the reader ended", place);
	(void)close(ready[0]);
	return pid;
}

/* Absolute paths, because the writer works in its directory. */
int main(int argc, char **argv)
{
	bool fence = argc > 1 && strcmp(argv[1], "--fence") == 0, well = true;
	char **arg = argv + 1 + fence, **reader = arg + 2;
	int n = argc - 3 - fence;
	pid_t pid[READERS_MAX];

	if (n < 1 || n > READERS_MAX || atoi(arg[0]) <= 0) {
		(void)fprintf(stderr, "usage: replace [--fence] COUNT WRITER READER...\n");
		return 2;
	}
	uint64_t count = (uint64_t)atoi(arg[0]);
	shared = child_memory(sizeof(*shared));
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	enter(arg[1]);
	replace(1);
	for (int i = 0; i < n; i++) {
		if (fence)
			(void)fence_mount(reader[i]);
		pid[i] = start(&shared->reader[i], reader[i], fence);
	}
	for (uint64_t g = 2; g <= count; g++)
		replace(g);
	atomic_store(&shared->last, count);
	atomic_store(&shared->done, true);
	for (int i = 0; i < n; i++) {
		int status;

		if (waitpid(pid[i], &status, 0) != pid[i] || status != 0)
			errx(3, "%s: the reader failed", reader[i]);
		well = print(&shared->reader[i], reader[i]) && well;
	}
	return !well;
}
