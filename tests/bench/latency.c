/*
 * latency: from a system call on the host to the guest seeing it.
 *
 *   latency [--fence] COUNT HOST MOUNT
 *
 * One process makes the call in HOST and notes when it returned; the other looks in MOUNT, over and
 * over, at what it knew before, which its caches answer. A sample is the time from the return until
 * the first look that shows the change began: what looks later is certain to see it. What was not
 * seen within a second counts as a failure.
 *
 * Prints one JSON object per line and operation, times in ns. Exit code: 0, 1 if a change was not
 * seen in time, 2 usage, 3 could not go on.
 */
#include "timing.h"
#include "../coherence/fence.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEEN_NS	 UINT64_C(1000000000)
#define GIVEN_UP UINT64_C(10000000000) /* then the mount has lost it for good */
#define WARM	 50		       /* looks at the state before */

/* The guest asks for call number `wanted`, the host tells when `made` of them had returned. */
static struct shared {
	atomic_uint wanted, made;
	_Atomic uint64_t returned;
} * shared;

static int kept = -1; /* of the file that is written, opened in the mount */

/* ---- the operations: how the host makes the nth, whether the guest sees it ------------------- */

static void must(bool well, const char *what)
{
	if (!well)
		err(3, "%s", what);
}

static void put(const char *name, unsigned n)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	must(fd >= 0 && pwrite(fd, &n, sizeof(n), 0) == sizeof(n) && close(fd) == 0, name);
}

static bool is_there(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0;
}

static void name_of(char *to, size_t size, unsigned n)
{
	(void)snprintf(to, size, "name%u", n);
}

static void write_prepare(unsigned count)
{
	(void)count;
	put("file", 0);
}

static void write_make(unsigned n)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("file", O_WRONLY | O_CLOEXEC);
	must(pwrite(fd, &n, sizeof(n), 0) == sizeof(n), "pwrite");
}

static bool write_seen(unsigned n)
{
	unsigned found = 0;

	if (kept < 0)
		kept = open("file", O_RDONLY | O_CLOEXEC);
	must(pread(kept, &found, sizeof(found), 0) == sizeof(found), "pread");
	return found == n;
}

static void size_make(unsigned n)
{
	must(truncate("file", n) == 0, "truncate");
}

static bool size_seen(unsigned n)
{
	struct stat st;

	return lstat("file", &st) == 0 && st.st_size == n;
}

static void create_prepare(unsigned count)
{
	(void)count;
}

static void create_make(unsigned n)
{
	char name[32];

	name_of(name, sizeof(name), n);
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	must(fd >= 0, "create");
	/* close raises events of its own; its time is not that of the creation */
	(void)close(fd);
}

static bool there_seen(unsigned n)
{
	char name[32];

	name_of(name, sizeof(name), n);
	return is_there(name);
}

static void unlink_prepare(unsigned count)
{
	char name[32];

	for (unsigned i = 1; i <= count; i++) {
		name_of(name, sizeof(name), i);
		put(name, i);
	}
}

static void unlink_make(unsigned n)
{
	char name[32];

	name_of(name, sizeof(name), n);
	must(unlink(name) == 0, "unlink");
}

static bool gone_seen(unsigned n)
{
	return !there_seen(n);
}

static void rename_prepare(unsigned count)
{
	(void)count;
	put("name0", 0);
}

static void rename_make(unsigned n)
{
	char a[32], b[32];

	name_of(a, sizeof(a), n - 1);
	name_of(b, sizeof(b), n);
	must(rename(a, b) == 0, "rename");
}

static bool rename_seen(unsigned n)
{
	bool to = there_seen(n), from = there_seen(n - 1);

	return to && !from;
}

static void chmod_make(unsigned n)
{
	must(chmod("file", 0600 | (n & 0177)) == 0, "chmod");
}

static bool chmod_seen(unsigned n)
{
	struct stat st;

	return lstat("file", &st) == 0 && (st.st_mode & 07777) == (0600 | (n & 0177));
}

static const struct op {
	const char *name;
	void (*prepare)(unsigned count);
	void (*make)(unsigned n);
	bool (*seen)(unsigned n);
} ops[] = {
	{"write", write_prepare, write_make, write_seen},
	{"truncate", write_prepare, size_make, size_seen},
	{"create", create_prepare, create_make, there_seen},
	{"unlink", unlink_prepare, unlink_make, gone_seen},
	{"rename", rename_prepare, rename_make, rename_seen},
	{"chmod", write_prepare, chmod_make, chmod_seen},
};

/* ---- the two processes ----------------------------------------------------------------------- */

static void enter(const char *place, const char *dir)
{
	must(chdir(place) == 0 && chdir(dir) == 0, place);
}

static _Noreturn void host_main(const struct op *op, unsigned count)
{
	for (unsigned n = 1; n <= count; n++) {
		while (atomic_load(&shared->wanted) < n)
			(void)sched_yield();
		op->make(n);
		atomic_store(&shared->returned, timing_now());
		atomic_store(&shared->made, n);
	}
	_exit(0);
}

/* When the first look began that saw it. */
static uint64_t watch(const struct op *op, unsigned n)
{
	uint64_t asked = timing_now(), began;

	for (;;) {
		began = timing_now();
		if (op->seen(n) || began - asked > GIVEN_UP)
			return began;
		(void)sched_yield();
	}
}

static unsigned measure(const struct op *op, unsigned count)
{
	struct timing t;
	unsigned unseen = 0;

	timing_new(&t, 0, count);
	for (unsigned n = 1; n <= count; n++) {
		for (int i = 0; i < WARM; i++)
			(void)op->seen(n);
		atomic_store(&shared->wanted, n);
		uint64_t began = watch(op, n);
		while (atomic_load(&shared->made) < n)
			(void)sched_yield();
		uint64_t returned = atomic_load(&shared->returned);
		t.ns[n - 1] = began > returned ? began - returned : 0;
		if (t.ns[n - 1] > SEEN_NS)
			unseen++;
	}
	printf("{\"op\":\"%s\",\"unseen\":%u,", op->name, unseen);
	timing_print(&t, stdout);
	printf("}\n");
	(void)fflush(stdout);
	timing_done(&t);
	return unseen;
}

static unsigned run(const struct op *op, unsigned count, const char *host, const char *mount,
		    bool fence)
{
	pid_t parent = getpid(), pid;
	int status;

	enter(host, ".");
	must(mkdir(op->name, 0755) == 0, op->name);
	enter(host, op->name);
	op->prepare(count);
	atomic_store(&shared->wanted, 0);
	atomic_store(&shared->made, 0);
	pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(3);
		host_main(op, count);
	}
	must(!fence || fence_mount(mount) >= 0, "no fence");
	enter(mount, op->name);
	unsigned unseen = measure(op, count);
	if (kept >= 0)
		(void)close(kept);
	kept = -1;
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	if (status != 0)
		errx(3, "the host's process failed");
	return unseen;
}

/* Absolute paths, because both work in their directories. */
int main(int argc, char **argv)
{
	bool fence = argc > 1 && strcmp(argv[1], "--fence") == 0;
	unsigned unseen = 0;

	if (argc != 4 + fence) {
		(void)fprintf(stderr, "usage: latency [--fence] COUNT HOST MOUNT\n");
		return 2;
	}
	char **arg = argv + 1 + fence;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	must(shared != MAP_FAILED, "mmap");
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		unseen += run(&ops[i], timing_number(arg[0], "COUNT"), arg[1], arg[2], fence);
	return unseen > 0;
}
