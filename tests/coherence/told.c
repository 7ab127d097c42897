/*
 * told: nobody in a mount is told a size that is not there, or finds less than there is.
 *
 *   told [--no-fence] WHAT ROUNDS HOST MOUNT
 *
 *   write   a thread in the mount makes a file longer, by plain writes and by appends; another one
 *           believes what fstat(2) tells, maps that much, touches and reads the last byte
 *   forced  the same, and others chmod(2) and link(2) it, while the host makes it longer
 *   own     host and mount append in turn: what the mount's own write(2) returned for is there
 *   open    sendfile(2), splice(2), copy_file_range(2) and a mapping of an open file see what the
 *           host appended
 *   reopen  a file that the host has made longer in place is read without fstat(2): old or new
 *   direct  what an asynchronous O_DIRECT write has written is what a read of the page cache finds
 *
 * Files have no NUL. Exit code: 0 well, 1 not, 2 usage, 3 could not go on.
 */
#include "child.h"
#include "clock.h"
#include "fence.h"
#include "mapped.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LATE_NS	 UINT64_C(3000000000) /* without a fence: later than that is never */
#define FILE_MAX (1 << 20)

static const char *root, *mount;
static bool fenced = true;
static unsigned long rounds;
static char text[FILE_MAX];
static atomic_ulong looks;
static unsigned long sigbus, missing, zeros, other;
static atomic_bool done;

/* ---- helpers ---- */

static const char *in(const char *where, const char *name)
{
	static _Thread_local char paths[4][PATH_MAX];
	static _Thread_local unsigned i;
	char *path = paths[i++ % 4];

	(void)snprintf(path, PATH_MAX, "%s/%s", where, name);
	return path;
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		err(3, "%s", path);
	return fd;
}

static void put(int fd, size_t len)
{
	if (write(fd, text, len) != (ssize_t)len)
		err(3, "write");
}

static void sync_mount(void)
{
	if (fenced && fence_mount(mount) != 0)
		err(3, "%s: no fence", mount);
}

/* The last byte before size, mapped and read. */
static void touch(int fd, size_t size)
{
	char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	char last = 0;

	looks++;
	/* what is open for appending cannot be mapped shared before Linux 6.6 */
	if (map != MAP_FAILED) {
		if (!copy_mapped(&last, map + size - 1, 1))
			sigbus++;
		else if (last == '\0')
			zeros++;
		(void)munmap(map, size);
	}
	if (pread(fd, &last, 1, (off_t)size - 1) != 1)
		missing++;
	else if (last == '\0')
		zeros++;
}

static void look(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		err(3, "fstat");
	if (st.st_size > 0)
		touch(fd, (size_t)st.st_size);
}

/* ---- write, forced ---- */

struct writer {
	const char *path;
	int flags;
	bool seen; /* goes on when somebody has looked */
};

static void *writer(void *arg)
{
	const struct writer *w = arg;
	int fd = open_file(w->path, O_WRONLY | w->flags);

	for (unsigned long i = 0; i < rounds; i++) {
		unsigned long before = atomic_load(&looks);

		put(fd, 777);
		while (w->seen && atomic_load(&looks) == before)
			(void)sched_yield();
	}
	(void)close(fd);
	atomic_store(&done, true);
	return NULL;
}

static void look_while(struct writer *w, const char *name)
{
	pthread_t t;
	int fd = open_file(in(mount, name), O_RDONLY);

	atomic_store(&done, false);
	if (pthread_create(&t, NULL, writer, w) != 0)
		err(3, "thread");
	while (!atomic_load(&done))
		look(fd);
	(void)pthread_join(t, NULL);
	look(fd);
	(void)close(fd);
}

static void what_write(void)
{
	static const int flags[] = {0, O_APPEND};

	for (unsigned i = 0; i < 2; i++) {
		const char *name = i == 0 ? "plain" : "appended";
		struct writer w = {strdup(in(mount, name)), flags[i], false};
		int fd = open_file(w.path, O_RDWR | O_CREAT | O_TRUNC);

		put(fd, i);
		(void)close(fd);
		look_while(&w, name);
	}
}

static _Noreturn void changer(bool links)
{
	for (mode_t m = 0;; m = (m + 1) % 8) {
		if (!links && chmod(in(mount, "forced"), 0640 | m) != 0)
			err(3, "chmod");
		if (links && link(in(mount, "forced"), in(mount, "linked")) != 0 && errno != ENOENT)
			err(3, "link");
		if (links)
			(void)unlink(in(mount, "linked"));
	}
}

static void what_forced(void)
{
	struct writer w = {strdup(in(root, "forced")), O_APPEND, true};
	int fd = open_file(w.path, O_RDWR | O_CREAT | O_TRUNC);
	pid_t pids[2];

	put(fd, 1);
	(void)close(fd);
	sync_mount();
	for (int i = 0; i < 2; i++)
		if ((pids[i] = child_fork()) == 0)
			changer(i == 1);
	look_while(&w, "forced");
	for (int i = 0; i < 2; i++) {
		int status;

		(void)kill(pids[i], SIGKILL);
		if (waitpid(pids[i], &status, 0) < 0 || !WIFSIGNALED(status))
			errx(3, "a process in %s has ended", mount);
	}
}

/* ---- own ---- */

static void what_own(void)
{
	static char found[FILE_MAX];
	unsigned seed = 1;

	for (unsigned long i = 0; i < rounds; i++) {
		if (i % 8 == 0)
			(void)close(open_file(in(root, "own"), O_WRONLY | O_CREAT | O_TRUNC));
		if (i % 8 == 0)
			sync_mount();
		int host = open_file(in(root, "own"), O_WRONLY | O_APPEND);
		int reader = open_file(in(mount, "own"), O_RDONLY);
		int fd = open_file(in(mount, "own"), O_WRONLY | O_APPEND);
		size_t len = 8192 + (size_t)rand_r(&seed) % 16384;

		if (i % 3 != 0)
			(void)!pread(reader, found, sizeof(found), 0);
		put(host, 1 + (size_t)rand_r(&seed) % 3000);
		if (i % 2 != 0)
			sync_mount();
		put(fd, len);
		off_t end = lseek(host, 0, SEEK_END);
		ssize_t n = pread(reader, found, sizeof(found), end - (off_t)len);
		looks++;
		missing += n != (ssize_t)len;
		zeros += n > 0 && memchr(found, '\0', (size_t)n) != NULL;
		(void)close(host);
		(void)close(reader);
		(void)close(fd);
	}
}

/* ---- open ---- */

static ssize_t spliced(int fd)
{
	int p[2];

	if (pipe(p) != 0)
		err(3, "pipe");
	loff_t off = 0;
	ssize_t n = splice(fd, &off, p[1], NULL, 65536, 0);
	(void)close(p[0]);
	(void)close(p[1]);
	return n;
}

static ssize_t copied(int fd)
{
	int out = open_file(in(mount, "copied"), O_WRONLY | O_CREAT | O_TRUNC);
	loff_t off = 0;
	ssize_t n = copy_file_range(fd, &off, out, NULL, 65536, 0);

	(void)close(out);
	return n;
}

static bool shows(int fd, int out, size_t size)
{
	off_t off = 0;
	char last = '\0';

	if (sendfile(out, fd, &off, 65536) != (ssize_t)size || spliced(fd) != (ssize_t)size ||
	    copied(fd) != (ssize_t)size)
		return false;
	char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	bool there = copy_mapped(&last, map + size - 1, 1) && last != '\0';
	(void)munmap(map, size);
	return there;
}

static void what_open(void)
{
	int out = open_file("/dev/null", O_WRONLY);

	for (unsigned long i = 0; i < rounds; i++) {
		char name[32], byte;

		(void)snprintf(name, sizeof(name), "open%lu", i % 16);
		int host = open_file(in(root, name), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
		put(host, 1 + i % 5000);
		sync_mount();
		int fd = open_file(in(mount, name), O_RDONLY);
		if (pread(fd, &byte, 1, 0) != 1)
			errx(3, "%s has nothing", name);
		size_t size = 1 + i % 5000;
		for (int more = 0; more < 2; more++, size += 9000) {
			put(host, 9000);
			sync_mount();
			uint64_t begun = now_ns();
			bool there;
			while (!(there = shows(fd, out, size + 9000)) && !fenced &&
			       now_ns() - begun < LATE_NS)
				pause_for_a_moment();
			looks++;
			missing += !there;
		}
		(void)close(host);
		(void)close(fd);
	}
	(void)close(out);
}

/* ---- reopen ---- */

/* All of it, and no fstat(2). */
static size_t read_all(const char *path, char *to, size_t cap)
{
	int fd = open_file(path, O_RDONLY);
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, to + len, cap - len)) > 0)
		len += (size_t)n;
	(void)close(fd);
	return len;
}

static void what_reopen(void)
{
	static const size_t sizes[] = {30, 120, 5000, 20000};
	static char found[65536];

	for (unsigned long i = 0; i < rounds; i++) {
		char name[32];
		size_t from = sizes[i % 3], to = sizes[1 + i % 3];

		(void)snprintf(name, sizeof(name), "reopen%lu", i);
		memset(text, 'a', from);
		int host = open_file(in(root, name), O_WRONLY | O_CREAT | O_TRUNC);
		put(host, from);
		(void)close(host);
		sync_mount(); /* the names of the directory are known by then, and this one is new */
		if (read_all(in(mount, name), found, sizeof(found)) != from)
			errx(3, "%s: not what was just made", name);
		memset(text, 'b', to);
		host = open_file(in(root, name), O_WRONLY);
		put(host, to);
		(void)close(host);
		size_t n = read_all(in(mount, name), found, sizeof(found));
		looks++;
		/* the last page tells: what is before it may be of before */
		missing += n == from && found[n - 1] == 'b';
		zeros += memchr(found, '\0', n) != NULL;
		other += n != from && n != to;
		(void)unlink(in(root, name));
	}
}

/* ---- direct ---- */

static void what_direct(void)
{
	enum { BLOCK = 4096, BLOCKS = 4 };
	aio_context_t context = 0;
	char *block, found[BLOCK];

	if (posix_memalign((void **)&block, BLOCK, BLOCK) != 0 ||
	    syscall(SYS_io_setup, 4, &context) != 0)
		err(3, "io_setup");
	int host = open_file(in(root, "direct"), O_RDWR | O_CREAT | O_TRUNC);
	put(host, BLOCK * BLOCKS);
	sync_mount();
	int direct = open_file(in(mount, "direct"), O_RDWR | O_DIRECT);
	int fd = open_file(in(mount, "direct"), O_RDONLY);
	for (unsigned long i = 0; i < rounds; i++) {
		struct iocb cb = {.aio_lio_opcode = IOCB_CMD_PWRITE,
				  .aio_fildes = (uint32_t)direct,
				  .aio_buf = (uintptr_t)block,
				  .aio_nbytes = BLOCK,
				  .aio_offset = (int64_t)(i % BLOCKS) * BLOCK};
		struct iocb *list = &cb;
		struct io_event event;

		(void)!pread(fd, found, BLOCK, cb.aio_offset);
		memset(block, 'A' + (int)(i % 26), BLOCK);
		if (syscall(SYS_io_submit, context, 1, &list) != 1)
			err(3, "io_submit");
		while (i % 2 == 0 && pread(fd, found, BLOCK, cb.aio_offset) == BLOCK &&
		       syscall(SYS_io_getevents, context, 0, 1, &event, &(struct timespec){0}) == 0)
			;
		if (i % 2 != 0 && (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1 ||
				   event.res != BLOCK))
			err(3, "io_getevents");
		looks++;
		other += pread(fd, found, BLOCK, cb.aio_offset) != BLOCK ||
			 memcmp(found, block, BLOCK) != 0;
	}
	(void)syscall(SYS_io_destroy, context);
	(void)close(direct);
	(void)close(fd);
	(void)close(host);
	free(block);
}

/* ---- all of it ---- */

static const struct option_row rows[] = {
	{"no-fence", NULL, "the mount has none: what shows late is right in the end",
	 .flag = &fenced},
	{0},
};

static const struct options options = {
	.usage = "write|forced|own|open|reopen|direct ROUNDS HOST MOUNT",
	.operands = 4,
	.row = rows,
	.exit_codes = "0 well, 1 not",
};

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} whats[] = {{"write", what_write}, {"forced", what_forced}, {"own", what_own},
		     {"open", what_open},   {"reopen", what_reopen}, {"direct", what_direct}};
	char **operand = argv + options_parse(&options, argc, argv);
	size_t what = 0;

	while (what < 6 && strcmp(whats[what].name, operand[0]) != 0)
		what++;
	if (what == 6)
		options_wrong(&options);
	rounds = options_number(operand[1]);
	root = operand[2];
	mount = operand[3];
	memset(text, 't', sizeof(text));
	mapped_init();
	whats[what].run();
	printf("%s: %lu looks: %lu SIGBUS, %lu short, %lu NULs, %lu other\n", whats[what].name,
	       atomic_load(&looks), sigbus, missing, zeros, other);
	if (looks == 0)
		errx(3, "nobody has looked");
	return sigbus + missing + zeros + other != 0;
}
