/* FIFOs and sockets: the name is the file system's, the data goes past it. */
#include "harness.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

void area_fifo(void)
{
	static char big[100000];
	char got[64] = "";
	struct stat before;
	int rd, wr, second, status = -1;
	ssize_t n, total = 0;
	pid_t pid;

	REQUIRE_OK(mkfifo("p", 0644));
	/* Each side waits in open for the other. */
	pid = fork();
	if (pid == 0) {
		wr = open("p", O_WRONLY);
		_exit(write(wr, "through", 7) == 7 ? 0 : 1);
	}
	rd = (int)REQUIRE_OK(open("p", O_RDONLY));
	EXPECT_EQ(7, read(rd, got, sizeof(got)));
	EXPECT_TRUE(!memcmp(got, "through", 7), "what is written is read");
	EXPECT_EQ(0, read(rd, got, sizeof(got))); /* the writer is gone */
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	close(rd);
	/* More than a pipe holds. */
	pid = fork();
	if (pid == 0) {
		wr = open("p", O_WRONLY);
		h_fill(big, sizeof(big), 1);
		_exit(write(wr, big, sizeof(big)) == (ssize_t)sizeof(big) ? 0 : 1);
	}
	rd = (int)REQUIRE_OK(open("p", O_RDONLY));
	while ((n = read(rd, big + total, sizeof(big) - (size_t)total)) > 0)
		total += n;
	EXPECT_EQ(sizeof(big), total);
	EXPECT_TRUE(h_is_fill(big, sizeof(big), 1), "all bytes in order");
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	close(rd);
	/* Without blocking. */
	EXPECT_ERR(ENXIO, open("p", O_WRONLY | O_NONBLOCK));
	rd = (int)REQUIRE_OK(open("p", O_RDONLY | O_NONBLOCK));
	EXPECT_EQ(0, read(rd, got, sizeof(got))); /* no writer yet */
	wr = (int)REQUIRE_OK(open("p", O_WRONLY | O_NONBLOCK));
	EXPECT_ERR(EAGAIN, read(rd, got, sizeof(got)));
	second = (int)REQUIRE_OK(open("p", O_WRONLY));
	EXPECT_EQ(3, write(wr, "one", 3));
	EXPECT_EQ(3, write(second, "two", 3));
	EXPECT_EQ(6, read(rd, got, sizeof(got)));
	EXPECT_TRUE(!memcmp(got, "onetwo", 6), "two writers, one reader");
	EXPECT_ERR(ESPIPE, lseek(rd, 0, SEEK_SET));
	EXPECT_ERR(ESPIPE, pread(rd, got, 1, 0));
	EXPECT_ERR(ESPIPE, pwrite(wr, "x", 1, 0));
	EXPECT_ERR2(EINVAL, EROFS, fsync(rd));
	while (write(wr, big, 4096) > 0)
		;
	EXPECT_EQ(EAGAIN, errno);
	/* poll */
	struct pollfd pf = {.fd = rd, .events = POLLIN};

	EXPECT_EQ(1, poll(&pf, 1, 0));
	EXPECT_TRUE(pf.revents & POLLIN, "poll says there is data");
	close(rd);
	EXPECT_ERR(EPIPE, write(wr, "x", 1)); /* SIGPIPE is ignored */
	close(wr);
	close(second);
	/* Renamed and removed while open, it goes on; another of the name is another. */
	rd = (int)REQUIRE_OK(open("p", O_RDWR));
	EXPECT_OK(rename("p", "q"));
	wr = (int)REQUIRE_OK(open("q", O_WRONLY | O_NONBLOCK));
	EXPECT_EQ(1, write(wr, "r", 1));
	EXPECT_EQ(1, read(rd, got, 1));
	EXPECT_OK(link("q", "p"));
	second = (int)REQUIRE_OK(open("p", O_WRONLY | O_NONBLOCK));
	EXPECT_EQ(1, write(second, "s", 1));
	EXPECT_EQ(1, read(rd, got, 1));
	EXPECT_EQ('s', got[0]);
	close(second);
	EXPECT_OK(unlink("p"));
	EXPECT_OK(unlink("q"));
	EXPECT_EQ(1, write(wr, "t", 1));
	EXPECT_EQ(1, read(rd, got, 1));
	REQUIRE_OK(mkfifo("q", 0600));
	EXPECT_ERR(ENXIO, open("q", O_WRONLY | O_NONBLOCK));
	close(rd);
	close(wr);
	/* The size stays 0, and the mode decides who may. */
	EXPECT_SIZE(0, "q");
	before = h_lstat("q");
	EXPECT_EQ(0, before.st_blocks);
	if (h_root()) {
		AS(ALICE) {
			EXPECT_ERR(EACCES, open("q", O_RDONLY | O_NONBLOCK));
		}
		REQUIRE_OK(chmod("q", 0644));
		AS(ALICE) {
			EXPECT_OK(h_opens("q", O_RDONLY | O_NONBLOCK, 0));
			EXPECT_ERR(EACCES, open("q", O_RDWR));
		}
	}
	unlink("q");
}

/* ---- socket -------------------------------------------------------------------------------- */

static struct sockaddr_un at(const char *name)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", name);
	return sa;
}

static long bind_to(int s, const char *name)
{
	struct sockaddr_un sa = at(name);

	return bind(s, (struct sockaddr *)&sa, sizeof(sa));
}

static long connect_to(int s, const char *name)
{
	struct sockaddr_un sa = at(name);

	return connect(s, (struct sockaddr *)&sa, sizeof(sa));
}

void area_socket(void)
{
	int listener = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_STREAM, 0)), client, conn, other, dgram,
	    sender;
	struct stat dir;
	char got[16];

	REQUIRE_OK(mkdir("d", 0755));
	dir = h_rewind("d");
	if (bind_to(listener, "d/s")) {
		h_skip("bind: %s", strerrorname_np(errno));
		return;
	}
	EXPECT_TIMES("d", &dir, TM_M | TM_C, 0);
	EXPECT_EQ(S_IFSOCK | 0755, h_lstat("d/s").st_mode); /* 0777 less the umask */
	EXPECT_OWNER(geteuid(), getegid(), "d/s");
	other = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERR(EADDRINUSE, bind_to(other, "d/s"));
	EXPECT_ERR(EADDRINUSE, bind_to(other, "d"));
	EXPECT_ERR(ENOENT, bind_to(other, "none/s"));
	EXPECT_ERR(EINVAL, bind_to(listener, "d/t")); /* has a name already */
	client = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERR(ECONNREFUSED, connect_to(client, "d/s")); /* nobody listens */
	EXPECT_OK(listen(listener, 5));
	EXPECT_OK(connect_to(client, "d/s"));
	conn = (int)REQUIRE_OK(accept(listener, NULL, NULL));
	EXPECT_EQ(4, write(client, "ping", 4));
	EXPECT_EQ(4, read(conn, got, sizeof(got)));
	EXPECT_EQ(4, write(conn, "pong", 4));
	EXPECT_EQ(4, read(client, got, sizeof(got)));
	EXPECT_TRUE(!memcmp(got, "pong", 4), "bytes go both ways");
	close(client);
	close(conn);
	EXPECT_ERR(ENXIO, open("d/s", O_RDWR));
	/* The name may change, be linked, be removed: the socket listens on. */
	EXPECT_OK(rename("d/s", "d/renamed"));
	client = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERR(ENOENT, connect_to(client, "d/s"));
	EXPECT_OK(connect_to(client, "d/renamed"));
	conn = (int)REQUIRE_OK(accept(listener, NULL, NULL));
	close(client);
	close(conn);
	EXPECT_OK(link("d/renamed", "d/linked"));
	EXPECT_OK(unlink("d/renamed"));
	client = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_OK(connect_to(client, "d/linked"));
	close(client);
	REQUIRE_OK(symlink("linked", "d/sym"));
	client = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_OK(connect_to(client, "d/sym"));
	close(client);
	if (h_root()) {
		/* Connecting is writing. */
		REQUIRE_OK(chmod("d/linked", 0755));
		AS(ALICE) {
			client = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_STREAM, 0));
			EXPECT_ERR(EACCES, connect_to(client, "d/linked"));
			EXPECT_ERR(EACCES, bind_to(client, "d/alice"));
		}
		REQUIRE_OK(chmod("d/linked", 0722));
		AS(ALICE) {
			client = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_STREAM, 0));
			EXPECT_OK(connect_to(client, "d/linked"));
		}
	}
	close(listener);
	client = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERR(ECONNREFUSED, connect_to(client, "d/linked"));
	EXPECT_OK(unlink("d/linked"));
	EXPECT_OK(bind_to(other, "d/linked")); /* the name is free again */
	close(other);
	REQUIRE_OK(h_touch("d/file"));
	EXPECT_ERR(ECONNREFUSED, connect_to(client, "d/file"));
	close(client);
	/* Datagrams. */
	dgram = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	sender = (int)REQUIRE_OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	EXPECT_OK(bind_to(dgram, "d/dgram"));
	EXPECT_OK(connect_to(sender, "d/dgram"));
	EXPECT_EQ(5, send(sender, "gram!", 5, 0));
	EXPECT_EQ(5, recv(dgram, got, sizeof(got), 0));
	close(dgram);
	close(sender);
	h_rmtree(AT_FDCWD, "d");
}
