#include "background.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"

static int ready_fd = -1; /* the child's end of the pipe to its parent */

static _Noreturn void parent(int fd, pid_t child, int (*check)(void *arg), void *arg)
{
	char byte;
	int status;
	ssize_t n = read(fd, &byte, 1);

	if (n == 1) {
		if (check == NULL || check(arg) == 0)
			_exit(0);
		(void)kill(child, SIGTERM);
	}
	if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) != 0)
		_exit(WEXITSTATUS(status));
	_exit(1);
}

void background_start(bool foreground, int (*check)(void *arg), void *arg)
{
	int p[2];

	if (foreground)
		return;
	if (pipe2(p, O_CLOEXEC) < 0) {
		log_err("cannot make a pipe: %m");
		exit(1);
	}
	pid_t child = fork();
	if (child < 0) {
		log_err("cannot fork: %m");
		exit(1);
	}
	if (child > 0) {
		(void)close(p[1]);
		parent(p[0], child, check, arg);
	}
	(void)close(p[0]);
	ready_fd = p[1];
	(void)setsid();
}

void background_abandon(void)
{
	if (ready_fd >= 0)
		(void)close(ready_fd);
	ready_fd = -1;
}

void background_detach(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	log_to_syslog();
	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		if (fd != 2 || !log_is_journal())
			(void)dup2(null, fd);
	if (null > 2)
		(void)close(null);
	(void)!chdir("/");
}

void background_ready(void)
{
	if (ready_fd < 0)
		return;
	background_detach();
	(void)!write(ready_fd, "R", 1);
	(void)close(ready_fd);
	ready_fd = -1;
}
