#include "supervise.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/outlive.h"
#include "watchdog.h"

#define VARIABLE "VSOCKFS_SUPERVISED" /* SOCKET,TABLES,DEVICE */

/*
 * <sys/pidfd.h> of newer systems: it tells of the end of one thread (Linux 6.9). That of a process,
 * or of its first thread (from 6.15 on, delay_group_leader), waits until the last one has ended.
 */
#define OF_THREAD O_EXCL

#define RESTARTS_MAX 5 /* in as many seconds: */
#define RESTARTS_S   60

#define LEFT_MAX   8
#define REST_MS	   1000 /* for which a client that was killed is waited for, */
#define REST_QUIET 20	/* or until its threads have not moved for so many */

enum { PREPARED = 'P', GO = 'G', MOUNTED = 'M', READY = 'Y', RESTART = 'R' };

/* ---- messages ---- */

static bool send_letter(int sock, char letter, const int *fds, size_t n)
{
	struct iovec iov = {&letter, 1};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	return sendmsg(sock, &m, MSG_NOSIGNAL) == 1;
}

/* 0: nothing came, or the other end has closed. Descriptors that did not come are -1. */
static char receive_letter(int sock, int flags, int fds[2])
{
	char letter = 0;
	struct iovec iov = {&letter, 1};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = {0};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};

	fds[0] = fds[1] = -1;
	if (recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC) != 1)
		return 0;
	const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c != NULL && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return letter;
}

/* ---- the supervisor ---- */

struct candidate {
	pid_t pid;	 /* 0: there is none */
	int pidfd, sock; /* pidfd: from `prepared` on, of a thread that waits for nothing */
	bool prepared, ready;
};

struct supervisor {
	char **argv;
	char path[PATH_MAX]; /* of the program */
	sigset_t signals;
	int signal_fd, tables, device, abort_fd, folder; /* folder: in which it was started */
	struct candidate now, next;
	int asker; /* who waits for a restart; -1: nobody */
	pid_t left[LEFT_MAX];
	unsigned n_left;
	time_t starts[RESTARTS_MAX];
	unsigned started;
	void (*ready)(void);
};

static int open_pid(pid_t pid, unsigned flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

bool supervise_possible(const char **ret_why)
{
	CLEANUP_CLOSE int fd = open_pid(getpid(), OF_THREAD);

	*ret_why = "it needs Linux 6.9";
	return fd >= 0;
}

static void tell_asker(struct supervisor *s, const char *text)
{
	if (s->asker < 0)
		return;
	if (send(s->asker, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		/* he has gone */
	}
	cleanup_close(&s->asker);
	s->asker = -1;
}

static _Noreturn void become(const struct supervisor *s, int sock)
{
	char value[64];

	sigset_t child;

	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	(void)sigprocmask(SIG_UNBLOCK, &child, NULL);
	(void)snprintf(value, sizeof(value), "%d,%d,%d", sock, s->tables, s->device);
	if (s->folder >= 0 && fchdir(s->folder) < 0)
		log_warning("the folder in which the mount was made: %m");
	if (fcntl(sock, F_SETFD, 0) == 0 && fcntl(s->tables, F_SETFD, 0) == 0 &&
	    (s->device < 0 || fcntl(s->device, F_SETFD, 0) == 0) && setenv(VARIABLE, value, 1) == 0)
		(void)execv(s->path, s->argv);
	log_err("cannot start %s: %m", s->path);
	_exit(127);
}

static bool spawn(struct supervisor *s, struct candidate *ret)
{
	int p[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
		return false;
	pid_t pid = fork();
	if (pid == 0)
		become(s, p[1]);
	(void)close(p[1]);
	*ret = (struct candidate){
		.pid = pid, .sock = p[0], .pidfd = pid > 0 ? open_pid(pid, 0) : -1};
	if (ret->pidfd >= 0)
		return true;
	(void)close(p[0]);
	*ret = (struct candidate){0};
	return false;
}

static void client_done(struct candidate *c)
{
	cleanup_close(&c->pidfd);
	cleanup_close(&c->sock);
	*c = (struct candidate){.pidfd = -1, .sock = -1};
}

/* Whether each thread of a process that was killed has ended, or waits where no signal reaches it.
 */
static bool threads_rest(pid_t pid)
{
	char path[64], line[512];
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	bool rest = true;
	while (dir != NULL && rest && (e = readdir(dir)) != NULL) {
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", (int)pid, e->d_name);
		CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : 0;
		line[n > 0 ? n : 0] = '\0';
		const char *state = strrchr(line, ')');

		rest = state == NULL || strchr("ZXxD", state[2]) != NULL;
	}
	if (dir != NULL)
		(void)closedir(dir);
	return rest;
}

/*
 * A system call that a killed thread is in may still take a request from the kernel, which then is
 * not among those that come again, or answer one: it ends first. What a thread waits for that
 * cannot be killed is what the next client answers; and there is no sleep that long without.
 */
static void wait_for_rest(pid_t pid)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	unsigned quiet = 0;

	for (unsigned i = 0; i < REST_MS && quiet < REST_QUIET; i++) {
		siginfo_t info = {0};

		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
		    info.si_pid == pid)
			return;
		quiet = threads_rest(pid) ? quiet + 1 : 0;
		(void)nanosleep(&pause, NULL);
	}
}

static void go(struct supervisor *s)
{
	s->now = s->next;
	s->next = (struct candidate){.pidfd = -1, .sock = -1};
	(void)send_letter(s->now.sock, GO, NULL, 0);
}

/* False: that would be too often. */
static bool may_start(struct supervisor *s)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_BOOTTIME, &t);
	time_t *oldest = &s->starts[s->started % RESTARTS_MAX];
	if (s->started >= RESTARTS_MAX && t.tv_sec - *oldest < RESTARTS_S)
		return false;
	*oldest = t.tv_sec;
	s->started++;
	return true;
}

static int give_up(struct supervisor *s, const char *why)
{
	log_err("the mount ends: %s", why);
	if (s->abort_fd >= 0 && write(s->abort_fd, "1", 1) < 0)
		log_err("cannot abort the connection: %m");
	if (s->next.pid > 0)
		(void)kill(s->next.pid, SIGKILL);
	return 1;
}

/* A mount that has gone needs no client. */
static bool mount_is_gone(const struct supervisor *s)
{
	struct pollfd p = {.fd = s->device, .events = 0};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLNVAL)) != 0;
}

/* Those that could not be reaped when another one took their place. */
static void reap_left(struct supervisor *s)
{
	for (size_t i = 0; i < LEFT_MAX; i++)
		if (s->left[i] > 0 && waitpid(s->left[i], NULL, WNOHANG) != 0)
			s->left[i] = 0;
}

static void leave(struct supervisor *s, pid_t pid)
{
	s->left[s->n_left++ % LEFT_MAX] = pid;
}

/* Its exit code; -1: it was killed, or some of its threads still wait in the kernel. */
static int how_it_ended(pid_t pid, bool wait)
{
	int status;

	if (waitpid(pid, &status, wait ? 0 : WNOHANG) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* -1: it goes on. */
static int now_ended(struct supervisor *s)
{
	/* nothing waits for a mount that has gone */
	bool gone = s->device < 0 || mount_is_gone(s);
	if (!gone)
		wait_for_rest(s->now.pid);
	int code = how_it_ended(s->now.pid, gone);
	bool asked = s->next.pid > 0 && s->next.prepared;

	leave(s, s->now.pid);
	client_done(&s->now);
	if (code >= 0)
		return code;
	if (gone)
		return 1;
	if (asked) {
		go(s);
		return -1;
	}
	log_err("the client was killed: another one takes its place");
	if (s->next.pid == 0 && (!may_start(s) || !spawn(s, &s->next)))
		return give_up(s, "the client was killed too often, or cannot be started");
	return -1;
}

static int next_ended(struct supervisor *s)
{
	int code = how_it_ended(s->next.pid, true);

	client_done(&s->next);
	if (s->device < 0)
		return code > 0 ? code : 1; /* there never was a mount */
	if (s->now.pid > 0) {
		tell_asker(
			s,
			"error the program on the disk cannot take the place of this one: its log "
			"says why\n");
		return -1;
	}
	if (!may_start(s) || !spawn(s, &s->next))
		return give_up(s, "no client can take the place of the one that was killed");
	return -1;
}

static void restart(struct supervisor *s, int asker)
{
	if (s->asker >= 0 || s->next.pid > 0) {
		const int own = s->asker;

		s->asker = asker;
		tell_asker(s, "error it is being restarted\n");
		s->asker = own;
		return;
	}
	s->asker = asker;
	if (!spawn(s, &s->next))
		tell_asker(s, "error cannot start a process\n");
}

static void hear(struct supervisor *s, struct candidate *c)
{
	int fds[2];

	switch (receive_letter(c->sock, MSG_DONTWAIT, fds)) {
	case PREPARED:
		c->prepared = true;
		cleanup_close(&c->pidfd);
		c->pidfd = fds[0];
		if (s->now.pid > 0)
			(void)kill(s->now.pid, SIGKILL); /* go follows its end */
		else
			go(s);
		return;
	case MOUNTED:
		s->device = fds[0];
		s->abort_fd = fds[1];
		return;
	case READY:
		if (!c->ready && s->ready != NULL)
			s->ready();
		s->ready = NULL;
		c->ready = true;
		tell_asker(s, "ok\n");
		return;
	case RESTART:
		restart(s, fds[0]);
		return;
	case 0: /* it ends */
		cleanup_close(&c->sock);
		c->sock = -1;
		return;
	default:
		return;
	}
}

static void pass_on(const struct supervisor *s)
{
	struct signalfd_siginfo i;

	if (read(s->signal_fd, &i, sizeof(i)) != sizeof(i) || i.ssi_signo == SIGCHLD)
		return;
	/* blocked in a client until it can unmount */
	if (s->now.pid > 0)
		(void)kill(s->now.pid, (int)i.ssi_signo);
	if (s->next.pid > 0)
		(void)kill(s->next.pid, (int)i.ssi_signo);
}

static int turn(struct supervisor *s)
{
	struct pollfd p[] = {{s->signal_fd, POLLIN, 0},
			     {s->now.sock, POLLIN, 0},
			     {s->next.sock, POLLIN, 0},
			     {s->now.pidfd, POLLIN, 0},
			     {s->next.pidfd, POLLIN, 0}};

	if (poll(p, sizeof(p) / sizeof(p[0]), -1) < 0)
		return -1;
	if (p[0].revents != 0)
		pass_on(s);
	if (p[1].revents != 0)
		hear(s, &s->now);
	else if (p[2].revents != 0)
		hear(s, &s->next);
	else if (p[3].revents != 0)
		return now_ended(s);
	else if (p[4].revents != 0)
		return next_ended(s);
	return -1;
}

int supervise(char **argv, const char *mountpoint, void (*ready)(void))
{
	struct supervisor s = {.argv = argv,
			       .device = -1,
			       .abort_fd = -1,
			       .asker = -1,
			       .now = {.pidfd = -1, .sock = -1},
			       .next = {.pidfd = -1, .sock = -1},
			       .ready = ready};
	ssize_t n = readlink("/proc/self/exe", s.path, sizeof(s.path) - 1);
	int code = -1;

	s.tables = outlive_create();
	s.folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	(void)sigemptyset(&s.signals);
	(void)sigaddset(&s.signals, SIGTERM);
	(void)sigaddset(&s.signals, SIGINT);
	(void)sigaddset(&s.signals, SIGHUP);
	(void)sigaddset(&s.signals, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &s.signals, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	s.signal_fd = signalfd(-1, &s.signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (n <= 0 || s.tables < 0 || s.signal_fd < 0 || !spawn(&s, &s.next)) {
		log_err("%s: cannot supervise the client: %m", mountpoint);
		return 1;
	}
	while (code < 0) {
		code = turn(&s);
		reap_left(&s);
	}
	return code;
}

/* ---- in a client ---- */

static int to_supervisor = -1;

static atomic_uint own_connection; /* of FUSE; 0: not known yet */

/* Its end tells of a kill, whatever other threads wait for. It tells the supervisor, or a watchdog.
 */
static void *live(void *arg)
{
	struct pollfd p = {.fd = to_supervisor, .events = 0};

	*(int *)arg = open_pid(gettid(), OF_THREAD);
	if (!send_letter(to_supervisor, PREPARED, arg, 1))
		return NULL;
	while (poll(&p, 1, -1) != 1)
		;
	if (atomic_load(&own_connection) != 0) {
		log_err("the supervisor has been killed: nobody starts this client again");
		watchdog_start(outlive->mountpoint, atomic_load(&own_connection));
	}
	for (;;)
		(void)pause();
	return NULL;
}

static bool begin_life(void)
{
	static int pidfd;
	pthread_t thread;
	sigset_t all, old;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	int e = pthread_create(&thread, NULL, live, &pidfd);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return e == 0 && pthread_detach(thread) == 0;
}

bool supervised_begin(struct supervised *ret)
{
	const char *value = getenv(VARIABLE);
	int tables, fds[2];

	*ret = (struct supervised){.device_fd = -1};
	if (value == NULL ||
	    sscanf(value, "%d,%d,%d", &to_supervisor, &tables, &ret->device_fd) != 3)
		return true;
	(void)unsetenv(VARIABLE);
	(void)fcntl(to_supervisor, F_SETFD, FD_CLOEXEC);
	(void)fcntl(tables, F_SETFD, FD_CLOEXEC);
	if (ret->device_fd >= 0)
		(void)fcntl(ret->device_fd, F_SETFD, FD_CLOEXEC);
	int r = outlive_map(tables);
	(void)close(tables);
	if (r < 0) {
		log_err("cannot take the place of the client before: %s",
			r == -EPROTO ? "its tables are of another version" : strerror(-r));
		return false;
	}
	if (!begin_life() || receive_letter(to_supervisor, 0, fds) != GO)
		return false;
	ret->is = true;
	ret->takes_over = ret->device_fd >= 0;
	if (ret->takes_over && (outlive->overflow || !outlive->begun)) {
		log_err("cannot take the place of the client before: it had not begun, or held more "
			"than its tables have room for");
		return false;
	}
	outlive->restarts += ret->takes_over;
	return true;
}

void supervised_mounted(int device_fd, unsigned connection)
{
	CLEANUP_CLOSE int abort_fd = watchdog_abort_file(connection);
	const int fds[] = {device_fd, abort_fd};

	(void)send_letter(to_supervisor, MOUNTED, fds, abort_fd >= 0 ? 2 : 1);
}

void supervised_ready(unsigned connection)
{
	atomic_store(&own_connection, connection);
	(void)send_letter(to_supervisor, READY, NULL, 0);
}

bool supervised_restart(int fd)
{
	return to_supervisor >= 0 && send_letter(to_supervisor, RESTART, &fd, 1);
}
