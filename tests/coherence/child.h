/* Processes of a test program, which end with it. */
#pragma once

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

/* As fork(2); where it fails the program ends with exit code 3. */
static inline pid_t child_fork(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		err(3, "fork");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(3);
	}
	return pid;
}

/* Zeroed memory that children share. */
static inline void *child_memory(size_t size)
{
	void *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (m == MAP_FAILED)
		err(3, "mmap");
	return m;
}

/*
 * A parent that waits for its children hears when one has ended (SIGCHLD), or has something to
 * say (child_says). child_hear_begin before the first of them; child_hear returns when there
 * was a signal since the last call, or at `until` of now_ns(). Several may be one.
 */
static inline sigset_t child_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGUSR1);
	return set;
}

static inline void child_hear_begin(void)
{
	const sigset_t set = child_signals();

	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		err(3, "sigprocmask");
}

static inline void child_hear(uint64_t until)
{
	const sigset_t set = child_signals();
	const uint64_t now = now_ns(), left = until > now ? until - now : 0;
	const struct timespec ts = {(time_t)(left / 1000000000), (long)(left % 1000000000)};

	if (sigtimedwait(&set, NULL, &ts) < 0 && errno != EAGAIN && errno != EINTR)
		err(3, "sigtimedwait");
}

static inline void child_says(void)
{
	(void)kill(getppid(), SIGUSR1);
}
