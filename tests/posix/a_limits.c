/* EFBIG, RLIMIT_FSIZE, RLIMIT_NOFILE, and files that run. */
#include "harness.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static volatile sig_atomic_t xfsz;

static void on_xfsz(int sig)
{
	(void)sig;
	xfsz++;
}

static void file_size(void)
{
	static char data[8192];
	struct rlimit rl = {.rlim_cur = 5000, .rlim_max = 5000};
	int fd;

	REQUIRE_OK(h_touch("f"));
	AS(NULL) {
		struct sigaction sa = {.sa_handler = on_xfsz};

		sigaction(SIGXFSZ, &sa, NULL);
		REQUIRE_OK(setrlimit(RLIMIT_FSIZE, &rl));
		fd = (int)REQUIRE_OK(open("f", O_RDWR));
		h_ctx("RLIMIT_FSIZE 5000");
		EXPECT_EQ(4000, write(fd, data, 4000));
		EXPECT_EQ(0, xfsz);
		EXPECT_EQ(1000, write(fd, data, 4000)); /* what there is room for */
		EXPECT_EQ(0, xfsz);
		EXPECT_ERR(EFBIG, write(fd, data, 1));
		EXPECT_EQ(1, xfsz);
		EXPECT_ERR(EFBIG, pwrite(fd, data, 10, 6000));
		EXPECT_EQ(2, xfsz);
		EXPECT_EQ(10, pwrite(fd, data, 10, 4990));
		EXPECT_EQ(1, pwrite(fd, data, 10, 4999));
		EXPECT_ERR(EFBIG, ftruncate(fd, 5001));
		EXPECT_EQ(3, xfsz);
		EXPECT_OK(ftruncate(fd, 5000));
		EXPECT_ERR(EFBIG, truncate("f", 100000));
		EXPECT_EQ(4, xfsz);
		EXPECT_OK(ftruncate(fd, 100));
		EXPECT_EQ(5000, lseek(fd, 5000, SEEK_SET));
		EXPECT_ERR(EFBIG, write(fd, data, 1));
		EXPECT_SIZE(100, "f");
		close(fd);
		fd = (int)REQUIRE_OK(open("f", O_WRONLY | O_APPEND));
		EXPECT_EQ(4900, write(fd, data, sizeof(data)));
		EXPECT_ERR(EFBIG, write(fd, data, 1));
		EXPECT_SIZE(5000, "f");
		close(fd);
		signal(SIGXFSZ, SIG_IGN); /* ignored, only the error is left */
		fd = (int)REQUIRE_OK(open("f", O_RDWR));
		EXPECT_ERR(EFBIG, pwrite(fd, data, 1, 5000));
		if (fallocate(fd, 0, 0, 100) == 0 || errno != EOPNOTSUPP)
			EXPECT_ERR(EFBIG, fallocate(fd, 0, 0, 6000));
		EXPECT_SIZE(5000, "f");
	}
	/* Not caught, the signal ends the process. */
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		struct rlimit core = {0};

		setrlimit(RLIMIT_CORE, &core);
		setrlimit(RLIMIT_FSIZE, &rl);
		signal(SIGXFSZ, SIG_DFL);
		fd = open("f", O_RDWR);
		_exit(pwrite(fd, data, 1, 9000) == 1 ? 1 : 2);
	}
	waitpid(pid, &status, 0);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ,
		    "the writer dies of SIGXFSZ");
	EXPECT_SIZE(5000, "f");
	unlink("f");
}

static void too_big(void)
{
	int fd = (int)REQUIRE_OK(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
	char c = 0;

	EXPECT_ERR(EFBIG, pwrite(fd, "x", 1, LLONG_MAX - 1));
	EXPECT_ERR(EFBIG, ftruncate(fd, LLONG_MAX));
	EXPECT_ERR(EFBIG, truncate("f", LLONG_MAX));
	EXPECT_ERR2(EINVAL, EOVERFLOW, pwrite(fd, "xy", 2, LLONG_MAX));
	EXPECT_ERR(EINVAL, pwrite(fd, "x", 1, LLONG_MIN));
	EXPECT_ERR(EINVAL, pread(fd, &c, 1, -2));
	EXPECT_EQ(0, pread(fd, &c, 1, LLONG_MAX - 1));
	EXPECT_SIZE(0, "f");
	close(fd);
	unlink("f");
}

static void descriptors(void)
{
	REQUIRE_OK(h_touch("f"));
	AS(NULL) {
		struct rlimit rl = {.rlim_cur = 30, .rlim_max = 30};
		int fd, last = -1;

		REQUIRE_OK(setrlimit(RLIMIT_NOFILE, &rl));
		while ((fd = open("f", O_RDONLY)) >= 0)
			last = fd;
		EXPECT_EQ(29, last);
		EXPECT_ERR(EMFILE, open("f", O_RDONLY));
		EXPECT_ERR(EMFILE, open("new", O_RDWR | O_CREAT, 0644));
		EXPECT_ABSENT("new");
		EXPECT_ERR(EMFILE, opendir(".") ? 0 : -1);
		EXPECT_OK(close(last));
		EXPECT_EQ(29, open("f", O_RDONLY));
	}
	unlink("f");
}

static int copy_file(const char *from, const char *to)
{
	static char buf[65536];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755), bad = 0;
	ssize_t n;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		bad |= write(out, buf, (size_t)n) != n;
	return n < 0 || close(in) || close(out) || bad ? -1 : 0;
}

/* A program cannot be written while it runs, nor run while it is written. */
static void running(void)
{
	int in[2], out[2], fd, status = -1;
	pid_t pid;
	char c;

	if (copy_file("/bin/cat", "prog")) {
		h_skip("ETXTBSY: no /bin/cat to copy");
		return;
	}
	REQUIRE_OK(pipe(in));
	REQUIRE_OK(pipe(out));
	pid = fork();
	if (pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		close(out[0]);
		execl("./prog", "./prog", (char *)NULL);
		_exit(errno == EACCES ? 77 : 78);
	}
	close(in[0]);
	close(out[1]);
	/* cat answers: so it runs. */
	if (write(in[1], "x", 1) != 1 || read(out[0], &c, 1) != 1) {
		waitpid(pid, &status, 0);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			h_skip("ETXTBSY: programs do not run here (noexec)");
		else
			EXPECT_EQ(0, status);
		unlink("prog");
		return;
	}
	EXPECT_ERR(ETXTBSY, open("prog", O_WRONLY));
	EXPECT_ERR(ETXTBSY, open("prog", O_RDWR | O_TRUNC));
	EXPECT_ERR(ETXTBSY, truncate("prog", 0));
	EXPECT_OK(h_opens("prog", O_RDONLY, 0));
	EXPECT_OK(chmod("prog", 0700));
	EXPECT_OK(rename("prog", "prog2"));
	EXPECT_ERR(ETXTBSY, open("prog2", O_WRONLY));
	EXPECT_OK(unlink("prog2")); /* but the name may go */
	EXPECT_EQ(1, write(in[1], "y", 1));
	EXPECT_EQ(1, read(out[0], &c, 1));
	EXPECT_EQ('y', c);
	close(in[1]);
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	close(out[0]);
	REQUIRE_OK(copy_file("/bin/cat", "prog"));
	fd = (int)REQUIRE_OK(open("prog", O_WRONLY));
	pid = fork();
	if (pid == 0) {
		close(0);
		execl("./prog", "./prog", "prog", (char *)NULL);
		_exit(errno == ETXTBSY ? 76 : 78);
	}
	waitpid(pid, &status, 0);
	EXPECT_EQ(76, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	close(fd);
	EXPECT_OK(chmod("prog", 0644));
	EXPECT_ERR(EACCES, execl("./prog", "./prog", (char *)NULL));
	EXPECT_ERR(EACCES, execl(".", ".", (char *)NULL));
	EXPECT_ERR(ENOENT, execl("./none", "./none", (char *)NULL));
	unlink("prog");
}

void area_limits(void)
{
	file_size();
	too_big();
	descriptors();
	running();
}
