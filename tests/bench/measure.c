/*
 * Times one operation in a loop, from one thread, and prints one JSON object: times in ns per
 * operation, and what the counters of the mount and of its processes did over the timed operations
 * together.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "counters.h"
#include "timing.h"

#define SMALL_READ 4096
#define ALIGN                                                                                      \
	4096 /* of the buffer: O_DIRECT wants it, and 1 MiB then spans 256 pages and not 257 */

struct run {
	const char *path;
	char **args; /* after the path */
	int fd, dir;
	size_t block;
	off_t size, at;
	bool keep; /* the file's pages where they are */
	char *buf;
};

struct op {
	const char *name, *args, *text;
	int n_args;		       /* least number of arguments */
	void (*setup)(struct run *r);  /* once */
	void (*before)(struct run *r); /* before each, not timed; its requests count */
	void (*once)(struct run *r, unsigned i);
	void (*end)(struct run *r);
};

/* ---- attributes and names ---- */

static void open_file(struct run *r)
{
	r->fd = open(r->path, O_RDONLY | O_CLOEXEC);
	if (r->fd < 0)
		err(1, "%s", r->path);
}

static void once_fstat(struct run *r, unsigned i)
{
	struct stat st;

	(void)i;
	if (fstat(r->fd, &st) < 0)
		err(1, "fstat %s", r->path);
}

static void once_stat(struct run *r, unsigned i)
{
	struct stat st;

	(void)i;
	if (lstat(r->path, &st) < 0)
		err(1, "lstat %s", r->path);
}

static void once_absent(struct run *r, unsigned i)
{
	struct stat st;

	(void)i;
	if (lstat(r->path, &st) == 0 || errno != ENOENT)
		errx(1, "lstat %s: not ENOENT", r->path);
}

static void once_open(struct run *r, unsigned i)
{
	(void)i;
	open_file(r);
	if (read(r->fd, r->buf, SMALL_READ) < 0 || close(r->fd) < 0)
		err(1, "read %s", r->path);
}

static void setup_create(struct run *r)
{
	r->dir = open(r->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (r->dir < 0)
		err(1, "%s", r->path);
}

static void once_create(struct run *r, unsigned i)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "new-%u", i);
	int fd = openat(r->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || close(fd) < 0 || unlinkat(r->dir, name, 0) < 0)
		err(1, "create and unlink %s/%s", r->path, name);
}

/* ---- data ---- */

static void open_data(struct run *r, int flags)
{
	struct stat st;

	r->fd = open(r->path, O_RDONLY | O_CLOEXEC | flags);
	if (r->fd < 0 || fstat(r->fd, &st) < 0)
		err(1, "%s", r->path);
	r->size = st.st_size;
	if (r->size < (off_t)r->block)
		errx(1, "%s: shorter than a block", r->path);
}

static void setup_direct(struct run *r)
{
	open_data(r, O_DIRECT);
}

static void setup_read(struct run *r)
{
	open_data(r, 0);
}

static void once_pread(struct run *r, unsigned i)
{
	off_t blocks = r->size / (off_t)r->block;

	if (pread(r->fd, r->buf, r->block, (off_t)i % blocks * (off_t)r->block) !=
	    (ssize_t)r->block)
		err(1, "pread %s", r->path);
}

/* On this side of the mount; the host keeps its pages. */
static void drop_pages(struct run *r)
{
	if (!r->keep && posix_fadvise(r->fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
		err(1, "%s", r->path);
}

/* From the start again. */
static void before_seqread(struct run *r)
{
	if (r->at > 0 && r->at + (off_t)r->block <= r->size)
		return;
	r->at = 0;
	if (lseek(r->fd, 0, SEEK_SET) < 0)
		err(1, "%s", r->path);
	drop_pages(r);
}

static void once_seqread(struct run *r, unsigned i)
{
	(void)i;
	if (read(r->fd, r->buf, r->block) != (ssize_t)r->block)
		err(1, "read %s", r->path);
	r->at += (off_t)r->block;
}

static void setup_seqwrite(struct run *r)
{
	r->size = (off_t)timing_number(r->args[0], "MIB") << 20;
	r->fd = open(r->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (r->fd < 0)
		err(1, "%s", r->path);
}

/* From the start again: of an empty file, before the disk hears of it. */
static void before_seqwrite(struct run *r)
{
	if (r->at > 0 && r->at + (off_t)r->block <= r->size)
		return;
	r->at = 0;
	if (ftruncate(r->fd, 0) < 0 || lseek(r->fd, 0, SEEK_SET) < 0)
		err(1, "%s", r->path);
}

static void once_seqwrite(struct run *r, unsigned i)
{
	(void)i;
	if (write(r->fd, r->buf, r->block) != (ssize_t)r->block)
		err(1, "write %s", r->path);
	r->at += (off_t)r->block;
}

static void end_seqwrite(struct run *r)
{
	if (unlink(r->path) < 0)
		err(1, "unlink %s", r->path);
}

/* ---- programs ---- */

extern char **environ;

static void once_run(struct run *r, unsigned i)
{
	posix_spawn_file_actions_t fa;
	pid_t pid;
	int status;

	(void)i;
	if (posix_spawn_file_actions_init(&fa) != 0 ||
	    posix_spawn_file_actions_addopen(&fa, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) != 0 ||
	    posix_spawn_file_actions_addchdir_np(&fa, r->path) != 0)
		errx(1, "posix_spawn_file_actions");
	int e = posix_spawnp(&pid, r->args[0], &fa, NULL, r->args, environ);
	if (e != 0)
		errx(1, "%s: %s", r->args[0], strerror(e));
	if (waitpid(pid, &status, 0) < 0)
		err(1, "waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		errx(1, "%s failed, wait status 0x%x", r->args[0], (unsigned)status);
	(void)posix_spawn_file_actions_destroy(&fa);
}

/* ---- the table ---- */

static const struct op ops[] = {
    {"fstat", "FILE", "fstat of one open file", 1, open_file, NULL, once_fstat, NULL},
    {"stat", "PATH", "lstat", 1, NULL, NULL, once_stat, NULL},
    {"absent", "PATH", "lstat that finds nothing", 1, NULL, NULL, once_absent, NULL},
    {"open", "FILE", "open, read 4 KiB, close", 1, NULL, NULL, once_open, NULL},
    {"create", "DIR", "create a file, close, unlink", 1, setup_create, NULL, once_create, NULL},
    {"direct", "FILE", "read a block with O_DIRECT", 1, setup_direct, NULL, once_pread, NULL},
    {"pread", "FILE", "read a block whose pages were dropped", 1, setup_read, drop_pages,
     once_pread, NULL},
    {"seqread", "FILE", "read a block of a file whose pages were dropped, from start to end", 1,
     setup_read, before_seqread, once_seqread, NULL},
    {"seqwrite", "FILE MIB", "write a block of a new file of MIB", 2, setup_seqwrite,
     before_seqwrite, once_seqwrite, end_seqwrite},
    {"run", "DIR COMMAND...", "run a program in DIR, its output to /dev/null", 2, NULL, NULL,
     once_run, NULL},
};
#define OPS (sizeof(ops) / sizeof(ops[0]))

static void usage(FILE *f)
{
	(void)fputs("usage: measure [OPTION...] OPERATION ARGUMENT...\n\n", f);
	for (size_t i = 0; i < OPS; i++)
		(void)fprintf(f, "    %-8s %-16s %s\n", ops[i].name, ops[i].args, ops[i].text);
	(void)fputs(
	    "\n    --warmup N     operations that are not timed (default 0)\n"
	    "    --count N      operations that are (default 1)\n"
	    "    --block BYTES  of direct, pread, seqread and seqwrite (default 1 MiB)\n"
	    "    --keep         pread and seqread drop no pages: on the host's own file system\n"
	    "    --stats FILE   the mount's statistics segment\n"
	    "    --watch PID    a process whose context switches and CPU time are counted; repeatable\n",
	    f);
}

static const struct op *find_op(const char *name, int n_args)
{
	for (size_t i = 0; i < OPS; i++)
		if (strcmp(ops[i].name, name) == 0 && n_args >= ops[i].n_args)
			return &ops[i];
	return NULL;
}

static void loop(const struct op *op, struct run *r, struct timing *t)
{
	struct counters *before = NULL;

	for (unsigned i = 0; i < t->warmup + t->count; i++) {
		if (i == t->warmup) {
			counters_settle();
			before = counters_take();
		}
		if (op->before != NULL)
			op->before(r);
		uint64_t start = timing_now();
		op->once(r, i);
		timing_add(t, i, start);
	}
	counters_settle();
	struct counters *after = counters_take();
	(void)putchar('{');
	timing_print(t, stdout);
	(void)putchar(',');
	counters_print(before, after, stdout);
	(void)puts("}");
	free(before);
	free(after);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"warmup", required_argument, NULL, 'w'}, {"count", required_argument, NULL, 'n'},
	    {"block", required_argument, NULL, 'b'},  {"stats", required_argument, NULL, 's'},
	    {"watch", required_argument, NULL, 'p'},  {"keep", no_argument, NULL, 'k'},
	    {"help", no_argument, NULL, 'h'},	      {NULL, 0, NULL, 0}};
	struct run r = {.fd = -1, .dir = -1, .block = (size_t)1 << 20};
	unsigned warmup = 0, count = 1;
	struct timing t;
	int c;

	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (c) {
		case 'w':
			warmup = timing_number(optarg, "--warmup");
			break;
		case 'n':
			count = timing_number(optarg, "--count");
			break;
		case 'b':
			r.block = timing_number(optarg, "--block");
			break;
		case 's':
			counters_open_stats(optarg);
			break;
		case 'p':
			counters_watch((pid_t)timing_number(optarg, "--watch"));
			break;
		case 'k':
			r.keep = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	int n_args = argc - optind - 1;
	const struct op *op = n_args >= 0 ? find_op(argv[optind], n_args) : NULL;
	if (op == NULL || count == 0 || r.block == 0) {
		usage(stderr);
		return 2;
	}
	r.path = argv[optind + 1];
	r.args = argv + optind + 2;
	if (posix_memalign((void **)&r.buf, ALIGN, r.block < SMALL_READ ? SMALL_READ : r.block) !=
	    0)
		errx(1, "out of memory");
	memset(r.buf, 'x', r.block);
	timing_new(&t, warmup, count);
	if (op->setup != NULL)
		op->setup(&r);
	loop(op, &r, &t);
	if (op->end != NULL)
		op->end(&r);
	timing_done(&t);
	free(r.buf);
	return 0;
}
