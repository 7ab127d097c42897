/*
 * place: directories that the host makes, moves away and back, changes and exchanges, and processes
 * in a mount that stand in them or look at them.
 *
 *   place [--looks] ROUNDS HOST MOUNT
 *
 * Without --looks a process enters each directory as soon as it sees it, and asks getcwd(2) after
 * each change on the host: it must say the path, as long as the directory is there. After a rename
 * of a directory above it the new path is looked at first.
 *
 * With --looks somebody looks at one name all the while, on a processor that he gets late: a
 * process with a real-time priority takes it for moments. So the answer to his look-up of the time
 * before the host exchanged two directories may be digested after the mount was told so. After a
 * fence another one must see what the host has.
 *
 * Exit code: 0 well, 1 not, 2 usage, 3 could not go on.
 */
#include "child.h"
#include "clock.h"
#include "fence.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *host, *mount;
static unsigned long wrong;

struct path {
	char s[PATH_MAX];
};

static struct path path(const char *top, const char *name)
{
	struct path p;

	if ((size_t)snprintf(p.s, sizeof(p.s), "%s/%s", top, name) >= sizeof(p.s))
		errx(2, "%s is too long", top);
	return p;
}

static void move(const char *from, const char *to, unsigned flags)
{
	struct path a = path(host, from), b = path(host, to);

	if (renameat2(AT_FDCWD, a.s, AT_FDCWD, b.s, flags) != 0)
		err(3, "rename %s to %s", a.s, b.s);
}

static void make(const char *name)
{
	struct path p = path(host, name);

	if (mkdir(p.s, 0755) != 0)
		err(3, "mkdir %s", p.s);
}

static void fence(void)
{
	if (fence_mount(mount) != 0)
		err(3, "fence");
}

/* ---- where processes stand ------------------------------------------------------------------ */

static void stands(const char *name, const char *after)
{
	struct path want = path(mount, name);
	char is[PATH_MAX];

	if (getcwd(is, sizeof(is)) != NULL && strcmp(is, want.s) == 0)
		return;
	printf("%s: in %s getcwd says %s\n", after, want.s, errno == ENOENT ? strerror(errno) : is);
	wrong++;
}

/* As soon as it is there. */
static void enter(const char *name)
{
	struct path p = path(mount, name);

	while (chdir(p.s) != 0)
		if (errno != ENOENT)
			err(3, "chdir %s", p.s);
}

static void look(const char *name)
{
	struct path p = path(mount, name);
	struct stat st;

	if (stat(p.s, &st) != 0) {
		printf("%s: %s\n", p.s, strerror(errno));
		wrong++;
	}
}

static void stand(unsigned long round)
{
	char top[64], away[64], deep[80], moved[80];

	(void)snprintf(top, sizeof(top), "d%lu", round);
	(void)snprintf(away, sizeof(away), "away%lu", round);
	(void)snprintf(deep, sizeof(deep), "%s/deep", top);
	(void)snprintf(moved, sizeof(moved), "%s/deep", away);
	make(top);
	enter(top);
	fence();
	stands(top, "made by the host and entered at once");
	move(top, away, 0);
	move(away, top, 0);
	fence();
	stands(top, "moved away and back");
	look(top);
	move(top, away, 0);
	move(away, top, 0);
	fence();
	stands(top, "moved away and back once more");
	make(deep);
	enter(deep);
	fence();
	stands(deep, "a directory inside, made and entered");
	struct path p = path(host, deep), q = path(host, top);
	if (chmod(p.s, 0700) != 0 || chmod(q.s, 0711) != 0)
		err(3, "chmod");
	fence();
	stands(deep, "modes changed");
	move(top, away, 0);
	fence();
	look(moved);
	stands(moved, "the directory above moved, and looked at");
	move(away, top, 0);
	fence();
	look(deep);
	stands(deep, "and moved back");
	if (rmdir(p.s) != 0 || rmdir(q.s) != 0)
		err(3, "rmdir");
	fence();
	p = path(mount, top);
	struct stat st;
	if (stat(p.s, &st) == 0 || errno != ENOENT) {
		printf("%s is there after the host has removed it\n", p.s);
		wrong++;
	}
	if (chdir("/") != 0)
		err(3, "chdir /");
}

/* ---- who looks ------------------------------------------------------------------------------- */

static void pin(size_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		err(3, "sched_setaffinity");
}

static _Noreturn void looker(void)
{
	struct path p = path(mount, "p");
	struct stat st;

	pin(0);
	for (;;)
		(void)stat(p.s, &st);
}

/* Takes the processor for some milliseconds, and lets others have it for a moment. */
static _Noreturn void hog(void)
{
	const struct sched_param top = {.sched_priority = 1};
	const struct timespec moment = {.tv_nsec = 300000};

	pin(0);
	if (sched_setscheduler(0, SCHED_FIFO, &top) != 0)
		err(3, "sched_setscheduler");
	for (unsigned n = 0;; n++) {
		uint64_t end = now_ns() + (1 + n % 7) * UINT64_C(1000000);

		while (now_ns() < end)
			;
		(void)nanosleep(&moment, NULL);
	}
}

static ino_t number(const char *top)
{
	struct path p = path(top, "p");
	struct stat st;

	if (stat(p.s, &st) != 0)
		err(3, "%s", p.s);
	return st.st_ino;
}

static void looks(unsigned long rounds)
{
	make("p");
	make("q");
	fence();
	pid_t pids[] = {child_fork(), 0};
	if (pids[0] == 0)
		looker();
	pids[1] = child_fork();
	if (pids[1] == 0)
		hog();
	pin(1);
	for (unsigned long i = 0; i < rounds && wrong == 0; i++) {
		move("p", "away", 0); /* p expires, is looked up, and is the same */
		move("away", "p", 0);
		fence();
		uint64_t end = now_ns() + i % 8 * UINT64_C(250000);
		while (now_ns() < end)
			(void)sched_yield();
		move("p", "q", RENAME_EXCHANGE);
		fence();
		if (number(mount) != number(host)) {
			printf("difference in round %lu: the mount shows the other directory\n", i);
			wrong++;
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		(void)kill(pids[i], SIGKILL);
		(void)waitpid(pids[i], NULL, 0);
	}
}

static bool looking;

static const struct option_row rows[] = {
	{"looks", NULL, "somebody looks at a name all the while, and digests it late",
	 .flag = &looking, .is = true},
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

	unsigned long rounds = options_number(operand[0]);
	host = operand[1];
	mount = operand[2];
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (looking) {
		looks(rounds);
	} else {
		for (unsigned long i = 0; i < rounds; i++)
			stand(i);
	}
	printf("%lu rounds, %lu wrong\n", rounds, wrong);
	return wrong > 0;
}
