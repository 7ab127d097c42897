/* Processes of a test program, which end with it. */
#pragma once

#include <err.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <unistd.h>

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
