#include "watchdog.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"

#define ABORT_FD 3 /* of the watchdog */

/* A mount of FUSE's connections that no namespace has: there may be none in ours. */
static int connections(void)
{
	CLEANUP_CLOSE int fs = fsopen("fusectl", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return open("/sys/fs/fuse/connections", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fsmount(fs, FSMOUNT_CLOEXEC, 0);
}

int watchdog_abort_file(unsigned connection)
{
	char path[32];
	CLEANUP_CLOSE int dir = connections();

	(void)snprintf(path, sizeof(path), "%u/abort", connection);
	return dir < 0 ? -1 : openat(dir, path, O_WRONLY | O_CLOEXEC);
}

static _Noreturn void become(int fd, pid_t parent)
{
	char number[16];

	(void)snprintf(number, sizeof(number), "%d", (int)parent);
	if (fd == ABORT_FD ? fcntl(fd, F_SETFD, 0) == 0 : dup2(fd, ABORT_FD) == ABORT_FD)
		(void)execl("/proc/self/exe", WATCHDOG_NAME, number, (char *)NULL);
	_exit(127);
}

void watchdog_start(const char *mountpoint, unsigned connection)
{
	CLEANUP_CLOSE int fd = watchdog_abort_file(connection);
	pid_t self = getpid(), pid = fd < 0 ? -1 : fork();

	if (pid == 0)
		become(fd, self);
	if (pid < 0)
		log_info("%s: no watchdog: %m", mountpoint);
}

int watchdog_main(int argc, char **argv)
{
	pid_t parent = argc == 2 ? (pid_t)strtol(argv[1], NULL, 10) : 0;
	sigset_t all;
	int sig = 0;

	(void)sigfillset(&all);
	if (parent <= 0 || sigprocmask(SIG_SETMASK, &all, NULL) < 0 ||
	    close_range(ABORT_FD + 1, ~0U, 0) < 0 || chdir("/") < 0)
		return 2;
	for (int fd = 0; fd < ABORT_FD;
	     fd++) /* whoever reads what the client says waits for its end */
		(void)close(fd);
	if (prctl(PR_SET_PDEATHSIG, SIGUSR1) < 0)
		return 2;
	while (getppid() == parent && (sigwait(&all, &sig) != 0 || sig != SIGUSR1))
		;
	return write(ABORT_FD, "1", 1) == 1 ? 0 : 1;
}
