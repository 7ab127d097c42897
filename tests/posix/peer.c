#include "peer.h"

#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct request {
	peer_fn *fn;
	long arg[4];
};

struct peer peer_start(const struct h_cred *cred)
{
	struct peer p;
	int sv[2];

	REQUIRE_OK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv));
	p.pid = (pid_t)REQUIRE_OK(fork());
	p.sock = sv[0];
	if (p.pid == 0) {
		struct request rq;

		close(sv[0]);
		umask(022);
		if (cred)
			h_become(cred);
		while (recv(sv[1], &rq, sizeof(rq), 0) == (ssize_t)sizeof(rq) && rq.fn) {
			long r = rq.fn(rq.arg[0], rq.arg[1], rq.arg[2], rq.arg[3]);

			if (send(sv[1], &r, sizeof(r), MSG_NOSIGNAL) != (ssize_t)sizeof(r))
				break;
		}
		_exit(0);
	}
	close(sv[1]);
	return p;
}

void peer_send(struct peer *p, peer_fn *fn, long a, long b, long c, long d)
{
	struct request rq = {.fn = fn, .arg = {a, b, c, d}};

	REQUIRE_OK(send(p->sock, &rq, sizeof(rq), MSG_NOSIGNAL));
}

long peer_recv(struct peer *p)
{
	long r = -EPIPE;
	ssize_t n;

	do
		n = recv(p->sock, &r, sizeof(r), 0);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(r))
		h_check(H_AT, false, "peer process", "expected an answer got none");
	return r;
}

long peer_call(struct peer *p, peer_fn *fn, long a, long b, long c, long d)
{
	peer_send(p, fn, a, b, c, d);
	return peer_recv(p);
}

void peer_end(struct peer *p, bool by_kill)
{
	/* To be told, not by the end of the socket: later peers have inherited our end of it. */
	static const struct request quit;

	if (by_kill)
		kill(p->pid, SIGKILL);
	else
		(void)!send(p->sock, &quit, sizeof(quit), MSG_NOSIGNAL);
	close(p->sock);
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* The first word of a file in the peer's /proc, after the last ')' if there is one. */
static bool proc_word(const struct peer *p, const char *file, char *ret_word, size_t size)
{
	char path[64], buf[512], *s;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", p->pid, file);
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[n] = 0;
	s = strrchr(buf, ')');
	s = s ? s + 1 : buf;
	s += strspn(s, " ");
	s[strcspn(s, " \n")] = 0;
	snprintf(ret_word, size, "%s", s);
	return n > 0;
}

bool peer_sleeps(struct peer *p)
{
	char state[32], call[32];
	long answer;

	for (;;) {
		if (recv(p->sock, &answer, sizeof(answer), MSG_PEEK | MSG_DONTWAIT) >= 0)
			return false;
		if (!proc_word(p, "stat", state, sizeof(state)) || state[0] == 'Z')
			return false;
		/* Asleep, but not in waiting for the request. */
		if ((state[0] == 'S' || state[0] == 'D') &&
		    (!proc_word(p, "syscall", call, sizeof(call)) || atol(call) != SYS_recvfrom))
			return true;
		sched_yield();
	}
}

long do_open(long path, long flags, long mode, long unused)
{
	int fd = open((const char *)path, (int)flags, (mode_t)mode);

	(void)unused;
	return fd < 0 ? -errno : fd;
}

long do_close(long fd, long unused1, long unused2, long unused3)
{
	(void)unused1;
	(void)unused2;
	(void)unused3;
	return close((int)fd) ? -errno : 0;
}

long do_flock(long fd, long op, long unused1, long unused2)
{
	(void)unused1;
	(void)unused2;
	return flock((int)fd, (int)op) ? -errno : 0;
}
