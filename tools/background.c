#include "background.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"

static int ready_fd = -1; /* the child's end of the pipe to its parent */

/* Signals that end a mount also end the making of it: they reach the parent, whose pid is known. */
static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP};
#define PASSED_ON (sizeof(passed_on) / sizeof(passed_on[0]))
static volatile sig_atomic_t child_pid;

static void pass_on(int sig)
{
	(void)kill(child_pid, sig);
}

static void pass_signals_on(pid_t child)
{
	const struct sigaction pass = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
	struct sigaction old;

	child_pid = child;
	for (size_t i = 0; i < PASSED_ON; i++)
		if (sigaction(passed_on[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			(void)sigaction(passed_on[i], &pass, NULL);
}

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
	sigset_t passed, old;
	int p[2];

	if (foreground)
		return;
	if (pipe2(p, O_CLOEXEC) < 0) {
		log_err("cannot make a pipe: %m");
		exit(1);
	}
	/* None is lost before the parent can pass it on. */
	(void)sigemptyset(&passed);
	for (size_t i = 0; i < PASSED_ON; i++)
		(void)sigaddset(&passed, passed_on[i]);
	(void)sigprocmask(SIG_BLOCK, &passed, &old);
	pid_t child = fork();
	if (child < 0) {
		log_err("cannot fork: %m");
		exit(1);
	}
	if (child > 0) {
		pass_signals_on(child);
		(void)sigprocmask(SIG_SETMASK, &old, NULL);
		(void)close(p[1]);
		parent(p[0], child, check, arg);
	}
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
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
