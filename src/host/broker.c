#include "host/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/confine.h"
#include "host/leftovers.h"

enum broker_what { ORDER_REMEMBER, ORDER_SEAL, ORDER_MARK, ORDER_END };

struct broker_order {
	uint32_t order;
	uint64_t mask;		 /* MARK */
	char path[LEFTOVER_MAX]; /* REMEMBER */
};

struct broker {
	int socket;
	pid_t pid;
	pthread_mutex_t mutex; /* one question at a time */
};

/* ---- messages, with a descriptor or without ---- */

union control {
	struct cmsghdr align;
	char room[CMSG_LEN(sizeof(int))]; /* one descriptor; with CMSG_SPACE two fit */
};

static ssize_t send_request(int sock, const struct broker_order *q, int fd)
{
	struct iovec iov = {.iov_base = (void *)q, .iov_len = sizeof(*q)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	union control c = {0};

	if (fd >= 0) {
		m.msg_control = c.room;
		m.msg_controllen = sizeof(c.room);
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);

		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	}
	return sendmsg(sock, &m, MSG_NOSIGNAL);
}

static ssize_t take_request(int sock, struct broker_order *ret, int *ret_fd)
{
	struct iovec iov = {.iov_base = ret, .iov_len = sizeof(*ret)};
	union control c = {0};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = c.room,
			   .msg_controllen = sizeof(c.room)};
	ssize_t n;

	do {
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	const struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	*ret_fd = -1;
	if (h != NULL && h->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(h), sizeof(*ret_fd));
	return n;
}

/* ---- the broker's side ---- */

struct service {
	struct leftovers files;
	int group;
	bool sealed;
};

static int seal(struct service *s, int *fd)
{
	s->group = take_fd(fd);
	if (chdir("/") < 0)
		return -errno;
	s->sealed = true;
	confine_broker();
	return 0;
}

static int mark(const struct service *s, uint64_t mask, int fd)
{
	char path[32];

	if (fd < 0)
		return -EBADF;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fanotify_mark(s->group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, AT_FDCWD, path) < 0
		       ? -errno
		       : 0;
}

static int carry_out(struct service *s, struct broker_order *q, int *fd)
{
	if (q->order != ORDER_END && s->sealed != (q->order == ORDER_MARK))
		return -EPERM;
	switch ((enum broker_what)q->order) {
	case ORDER_REMEMBER:
		q->path[sizeof(q->path) - 1] = '\0';
		return leftovers_add(&s->files, q->path);
	case ORDER_SEAL:
		return seal(s, fd);
	case ORDER_MARK:
		return mark(s, q->mask, *fd);
	case ORDER_END:
		leftovers_remove(&s->files);
		return 0;
	}
	return -EINVAL;
}

static void run_broker(int sock)
{
	static struct service s = {.group = -1};
	static struct broker_order q;
	ssize_t n;
	int fd;

	while ((n = take_request(sock, &q, &fd)) > 0) {
		CLEANUP_CLOSE int passed = fd;
		int32_t r = n == sizeof(q) ? carry_out(&s, &q, &passed) : -EINVAL;

		if (send(sock, &r, sizeof(r), MSG_NOSIGNAL) < 0)
			return;
	}
}

/* Of the server it has nothing: no signal that is meant for both ends it, no stream stays open. */
static void broker_main(int sock)
{
	sigset_t all;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)prctl(PR_SET_NAME, "vsockfsd-broker");
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; null >= 0 && i < 3; i++)
		(void)dup2(null, i);
	if (dup2(sock, 3) == 3) {
		(void)close_range(4, ~0u, 0);
		run_broker(3);
	}
	_exit(0);
}

/* ---- the server's side ---- */

int broker_start(struct broker **ret)
{
	CLEANUP_FREE struct broker *b = calloc(1, sizeof(*b));
	int p[2];

	if (b == NULL)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
		return -errno;
	b->pid = fork();
	if (b->pid == 0)
		broker_main(p[1]);
	int r = b->pid < 0 ? -errno : 0;
	(void)close(p[1]);
	if (r < 0) {
		(void)close(p[0]);
		return r;
	}
	b->socket = p[0];
	(void)pthread_mutex_init(&b->mutex, NULL);
	*ret = TAKE_PTR(b);
	return 0;
}

static int ask(struct broker *b, const struct broker_order *q, int fd)
{
	int32_t answer;
	ssize_t n;

	SCOPE_LOCK(&b->mutex);
	if (send_request(b->socket, q, fd) < 0)
		return -errno;
	do {
		n = recv(b->socket, &answer, sizeof(answer), 0);
	} while (n < 0 && errno == EINTR);
	return n == sizeof(answer) ? answer : n < 0 ? -errno : -EPIPE;
}

int broker_remember(struct broker *b, const char *path)
{
	struct broker_order q = {.order = ORDER_REMEMBER};

	if (strlen(path) >= sizeof(q.path))
		return -ENAMETOOLONG;
	memcpy(q.path, path, strlen(path) + 1);
	return ask(b, &q, -1);
}

int broker_seal(struct broker *b, int group)
{
	const struct broker_order q = {.order = ORDER_SEAL};

	return ask(b, &q, group);
}

int broker_mark(struct broker *b, uint64_t mask, int fd)
{
	const struct broker_order q = {.order = ORDER_MARK, .mask = mask};

	return ask(b, &q, fd);
}

void broker_end(struct broker *b)
{
	const struct broker_order q = {.order = ORDER_END};

	if (b == NULL)
		return;
	(void)ask(b, &q, -1);
	(void)close(b->socket);
	(void)waitpid(b->pid, NULL, 0);
	(void)pthread_mutex_destroy(&b->mutex);
	free(b);
}
