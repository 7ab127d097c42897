/* connect PATH SECONDS FD COMMAND...: connects to a Unix socket, trying again until it is there, and runs COMMAND with
 * the connected socket as FD. The shell has no way to do this. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int
fail(const char *what)
{
	fprintf(stderr, "connect: %s: %s\n", what, strerror(errno));
	return 1;
}

int
main(int argc, char **argv)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	if (argc < 5 || strlen(argv[1]) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "usage: connect PATH SECONDS FD COMMAND...\n");
		return 2;
	}
	memcpy(addr.sun_path, argv[1], strlen(argv[1]) + 1);
	const time_t end = time(NULL) + atoi(argv[2]);
	const int want = atoi(argv[3]);

	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0)
		return fail("socket");
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if ((errno != ENOENT && errno != ECONNREFUSED) || time(NULL) > end)
			return fail(argv[1]);
		poll(NULL, 0, 10);
	}
	if (fd != want) {
		if (dup2(fd, want) < 0)
			return fail("dup2");
		close(fd);
	}
	execvp(argv[4], argv + 4);
	return fail(argv[4]);
}
