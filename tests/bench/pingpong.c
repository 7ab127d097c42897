/*
 * Floor 2: what one round trip over a Unix stream socket costs when nothing else is done. Two
 * processes, blocking read(2) and write(2).
 *
 *   pingpong [--warmup N] [--count N] [--sndbuf BYTES] REQUEST_BYTES REPLY_BYTES
 *
 * Prints one JSON object. --sndbuf asks for larger socket buffers than the system's default.
 */
#include <err.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "timing.h"

static size_t read_all(int fd, char *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, buf + got, len - got);

		if (n < 0)
			err(1, "read");
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return got;
}

static void write_all(int fd, const char *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, buf, len);

		if (n < 0)
			err(1, "write");
		buf += n;
		len -= (size_t)n;
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"warmup", required_argument, NULL, 'w'},
						{"count", required_argument, NULL, 'n'},
						{"sndbuf", required_argument, NULL, 's'},
						{NULL, 0, NULL, 0}};
	unsigned warmup = 100, count = 1000, sndbuf = 0;
	struct timing t;
	int p[2], c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return 2;
		*(c == 'w'   ? &warmup
		  : c == 'n' ? &count
			     : &sndbuf) = timing_number(optarg, "option");
	}
	if (argc - optind != 2)
		errx(2, "usage: pingpong [--warmup N] [--count N] [--sndbuf BYTES] REQUEST REPLY");
	size_t request = timing_number(argv[optind], "REQUEST");
	size_t reply = timing_number(argv[optind + 1], "REPLY");
	size_t len = request > reply ? request : reply;
	char *buf = malloc(len + 1);

	if (buf == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
		err(1, "socketpair");
	memset(buf, 'x', len);
	for (int i = 0; i < 2 && sndbuf > 0; i++)
		if (setsockopt(p[i], SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, sizeof(sndbuf)) < 0 &&
		    setsockopt(p[i], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf)) < 0)
			err(1, "SO_SNDBUF");
	timing_new(&t, warmup, count);
	pid_t pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		(void)close(p[0]);
		while (read_all(p[1], buf, request) == request)
			write_all(p[1], buf, reply);
		_exit(0);
	}
	(void)close(p[1]);
	for (unsigned i = 0; i < warmup + count; i++) {
		uint64_t start = timing_now();

		write_all(p[0], buf, request);
		if (read_all(p[0], buf, reply) != reply)
			errx(1, "the other side ended");
		timing_add(&t, i, start);
	}
	(void)close(p[0]);
	(void)waitpid(pid, NULL, 0);
	(void)putchar('{');
	timing_print(&t, stdout);
	(void)puts("}");
	timing_done(&t);
	free(buf);
	return 0;
}
