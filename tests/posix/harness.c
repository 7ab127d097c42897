/* harness: counting, output, credentials and the runner. The file helpers are in hfile.c. */
#include "harness.h"
#include "hpriv.h"

#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

enum {
	EXIT_REQUIRE = 99, /* a REQUIRE failed and has been counted */
	MAX_SHOWN = 100,   /* failures printed per area: a dead mount must not print thousands */
	CLEANUP_SECONDS = 120,
};

struct shared {
	atomic_long passed, failed, skipped, shown;
};

static struct shared *tally;
static struct h_options options;
static const char *area = "setup";
static pid_t area_pid;
static char context[256];
static int base_fd = -1;

/* ---- output ------------------------------------------------------------------------------- */

/* One line, one write; bytes that a terminal would not show become \xNN. */
static void put_line(const char *s)
{
	char out[4096];
	size_t n = 0;

	for (; *s && n < sizeof(out) - 6; s++) {
		unsigned char c = (unsigned char)*s;

		if (c >= 0x20 && c < 0x7f)
			out[n++] = (char)c;
		else
			n += (size_t)snprintf(out + n, sizeof(out) - n, "\\x%02x", c);
	}
	out[n++] = '\n';
	for (size_t done = 0; done < n;) {
		ssize_t w = write(STDOUT_FILENO, out + done, n - done);

		if (w < 0 && errno != EINTR)
			return;
		done += w > 0 ? (size_t)w : 0;
	}
}

void h_ctx(const char *fmt, ...)
{
	va_list ap;

	context[0] = 0;
	if (!fmt)
		return;
	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
}

void h_skip(const char *fmt, ...)
{
	char msg[512], line[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	atomic_fetch_add(&tally->skipped, 1);
	snprintf(line, sizeof(line), "skip %s: %s", area, msg);
	put_line(line);
}

bool h_check(const char *file, int line, bool ok, const char *text, const char *fmt, ...)
{
	char detail[1024], out[2048];
	int saved = errno;
	long shown;
	va_list ap;

	if (ok) {
		atomic_fetch_add(&tally->passed, 1);
		return true;
	}
	atomic_fetch_add(&tally->failed, 1);
	shown = atomic_fetch_add(&tally->shown, 1);
	if (shown <= MAX_SHOWN) {
		va_start(ap, fmt);
		vsnprintf(detail, sizeof(detail), fmt, ap);
		va_end(ap);
		if (shown == MAX_SHOWN)
			snprintf(out, sizeof(out), "not ok %s: further failures are only counted",
				 area);
		else
			snprintf(out, sizeof(out), "not ok %s %s:%d %s%s%s: %s", area, file, line,
				 context, context[0] ? ": " : "", text, detail);
		put_line(out);
	}
	errno = saved;
	return false;
}

/* ---- assertions --------------------------------------------------------------------------- */

static const char *errname(int err)
{
	const char *s = err > 0 ? strerrorname_np(err) : NULL;

	return s ? s : "an unknown errno";
}

long h_expect_ok(const char *file, int line, const char *text, long ret, bool require)
{
	int err = errno;

	if (!h_check(file, line, ret != -1, text, "expected success got %s", errname(err)) &&
	    require)
		_exit(EXIT_REQUIRE);
	errno = err;
	return ret;
}

bool h_expect_err(const char *file, int line, const char *text, int want, int want2, long ret)
{
	int err = errno;
	char or [32] = "";

	if (want2)
		snprintf(or, sizeof(or), " or %s", errname(want2));
	if (ret != -1)
		return h_check(file, line, false, text, "expected %s%s got success (%ld)",
			       errname(want), or, ret);
	return h_check(file, line, err == want || (want2 && err == want2), text,
		       "expected %s%s got %s", errname(want), or, errname(err));
}

bool h_expect_eq(const char *file, int line, const char *text, long long want, long long got)
{
	return h_check(file, line, want == got, text, "expected %lld got %lld", want, got);
}

bool h_expect_ret(const char *file, int line, const char *text, long want, long got)
{
	char w[32], g[32];

	snprintf(w, sizeof(w), "%ld", want);
	snprintf(g, sizeof(g), "%ld", got);
	return h_check(file, line, want == got, text, "expected %s got %s",
		       want < 0 && want > -200 ? errname((int)-want) : w,
		       got < 0 && got > -200 ? errname((int)-got) : g);
}

bool h_expect_mode(const char *file, int line, const char *path, unsigned want)
{
	struct stat st;
	char text[320];

	snprintf(text, sizeof(text), "mode of %.200s", path);
	if (lstat(path, &st))
		return h_check(file, line, false, text, "expected %04o got %s", want,
			       errname(errno));
	return h_check(file, line, (st.st_mode & 07777) == want, text, "expected %04o got %04o",
		       want, st.st_mode & 07777);
}

bool h_expect_owner(const char *file, int line, const char *path, long uid, long gid)
{
	struct stat st;
	char text[320];

	snprintf(text, sizeof(text), "owner of %.200s", path);
	if (lstat(path, &st))
		return h_check(file, line, false, text, "expected %ld:%ld got %s", uid, gid,
			       errname(errno));
	return h_check(file, line, st.st_uid == (uid_t)uid && st.st_gid == (gid_t)gid, text,
		       "expected %ld:%ld got %u:%u", uid, gid, st.st_uid, st.st_gid);
}

bool h_expect_nlink(const char *file, int line, const char *path, long want)
{
	struct stat st;
	char text[320];

	snprintf(text, sizeof(text), "link count of %.200s", path);
	if (lstat(path, &st))
		return h_check(file, line, false, text, "expected %ld got %s", want,
			       errname(errno));
	return h_check(file, line, (long)st.st_nlink == want, text, "expected %ld got %ld", want,
		       (long)st.st_nlink);
}

bool h_expect_size(const char *file, int line, const char *path, long long want)
{
	struct stat st;
	char text[320];

	snprintf(text, sizeof(text), "size of %.200s", path);
	if (lstat(path, &st))
		return h_check(file, line, false, text, "expected %lld got %s", want,
			       errname(errno));
	return h_check(file, line, (long long)st.st_size == want, text, "expected %lld got %lld",
		       want, (long long)st.st_size);
}

bool h_expect_content(const char *file, int line, const char *path, const void *want, size_t len)
{
	char *got = malloc(len + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0, at = 0;
	char text[320];
	bool ok;

	snprintf(text, sizeof(text), "content of %.200s", path);
	if (fd < 0 || !got) {
		free(got);
		return h_check(file, line, false, text, "expected %zu bytes got %s", len,
			       errname(errno));
	}
	while (n < len + 1) {
		ssize_t r = read(fd, got + n, len + 1 - n);

		if (r <= 0)
			break;
		n += (size_t)r;
	}
	close(fd);
	while (at < n && at < len && got[at] == ((const char *)want)[at])
		at++;
	ok = n == len && at == len;
	h_check(file, line, ok, text, "expected %zu bytes got %s%zu bytes, first difference at %zu",
		len, n > len ? "more than " : "", n > len ? len : n, at);
	free(got);
	return ok;
}

/* ---- credentials -------------------------------------------------------------------------- */

bool h_root(void)
{
	return geteuid() == 0;
}

void h_become(const struct h_cred *cred)
{
	/* A user without privilege may keep what it is. */
	if (geteuid() == cred->uid && getegid() == cred->gid && cred->uid != 0 && !cred->ngroups)
		return;
	if (setgroups(cred->ngroups, cred->groups) || setresgid(cred->gid, cred->gid, cred->gid) ||
	    setresuid(cred->uid, cred->uid, cred->uid)) {
		h_check(H_AT, false, "switch credentials", "expected %u:%u got %s", cred->uid,
			cred->gid, errname(errno));
		_exit(EXIT_REQUIRE);
	}
}

bool h_in_group(gid_t gid)
{
	gid_t list[1024];
	int n = getgroups(1024, list);

	for (int i = 0; i < n; i++)
		if (list[i] == gid)
			return true;
	return getegid() == gid;
}

struct h_as h_as_begin(const struct h_cred *cred, const char *file, int line)
{
	struct h_as as = {.file = file, .line = line, .pid = fork()};

	if (as.pid < 0) {
		h_check(file, line, false, "fork", "expected success got %s", errname(errno));
		_exit(EXIT_REQUIRE);
	}
	if (as.pid == 0) {
		as.child = true;
		umask(022);
		if (cred)
			h_become(cred);
	}
	return as;
}

bool h_as_again(struct h_as *as)
{
	int status;

	if (as->child) {
		if (as->ran)
			_exit(0);
		as->ran = true;
		return true;
	}
	while (waitpid(as->pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	if (status != 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REQUIRE))
		h_check(as->file, as->line, false, "child process", "expected exit got status %#x",
			status);
	return false;
}

/* ---- the runner --------------------------------------------------------------------------- */

static volatile sig_atomic_t alarmed;

static void on_alarm(int sig)
{
	(void)sig;
	alarmed = 1;
}

const struct h_options *h_opt(void)
{
	return &options;
}

void h_init(const char *dir, const struct h_options *opt)
{
	struct sigaction sa = {.sa_handler = on_alarm}; /* no SA_RESTART: it ends waitpid */
	struct rlimit rl;

	options = *opt;
	tally =
	    mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	base_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tally == MAP_FAILED || base_fd < 0) {
		fprintf(stderr, "posix-suite: %s: %s\n", dir, strerror(errno));
		exit(2);
	}
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < 4096) {
		rl.rlim_cur = rl.rlim_max < 4096 ? rl.rlim_max : 4096;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	sigaction(SIGALRM, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Waits at most that long for an end, without reaping; false when the child is still there. */
static bool wait_child(pid_t pid, unsigned seconds)
{
	/* It goes on ticking: a signal that comes just before waitid must not be the last. */
	struct itimerval tv = {.it_value.tv_sec = seconds, .it_interval.tv_sec = 1}, off = {0};
	siginfo_t info;
	int r;

	alarmed = 0;
	setitimer(ITIMER_REAL, &tv, NULL);
	do
		r = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	while (r < 0 && errno == EINTR && !alarmed);
	setitimer(ITIMER_REAL, &off, NULL);
	return r == 0;
}

static bool wait_or_kill(pid_t pid, unsigned seconds, const char *what, int *ret_status)
{
	bool in_time = wait_child(pid, seconds);

	/*
	 * The child leads its own process group, so this reaches only what it started: all of it
	 * after a hang, and helpers that a failed REQUIRE left behind otherwise. It is not reaped
	 * yet, so its number is still its own.
	 */
	kill(-pid, SIGKILL);
	if (!in_time) {
		h_check(H_AT, false, what, "expected an end within %u seconds got a hang", seconds);
		if (!wait_child(pid, 10)) {
			h_check(H_AT, false, what,
				"expected to die of SIGKILL got an unkillable process");
			return false;
		}
	}
	return waitpid(pid, ret_status, 0) == pid && in_time;
}

static void run_child(const char *dir, void (*fn)(void))
{
	setpgid(0, 0);
	signal(SIGALRM, SIG_DFL);
	umask(022);
	if (fchdir(base_fd) || chdir(dir)) {
		h_check(H_AT, false, "chdir to the area's directory", "expected success got %s",
			errname(errno));
		_exit(EXIT_REQUIRE);
	}
	area_pid = getpid();
	hfile_init();
	fn();
	if (getpid() != area_pid) /* a block was left by return or break */
		h_check(H_AT, false, "test code",
			"expected AS blocks to end in place got a stray child");
	_exit(0);
}

void h_run_area(const char *name, void (*fn)(void))
{
	char dir[64];
	int status = 0;
	pid_t pid;

	area = name;
	atomic_store(&tally->shown, 0);
	h_ctx(NULL);
	snprintf(dir, sizeof(dir), "posix-%s.%d", name, (int)getpid());
	if (mkdirat(base_fd, dir, 0755) || fchmodat(base_fd, dir, 0755, 0)) {
		h_check(H_AT, false, "make the area's directory", "expected success got %s",
			errname(errno));
		return;
	}
	pid = fork();
	if (pid == 0)
		run_child(dir, fn);
	setpgid(pid, pid);
	if (pid > 0 && wait_or_kill(pid, options.timeout, "area", &status)) {
		if (WIFSIGNALED(status))
			h_check(H_AT, false, "area", "expected an end got signal %d",
				WTERMSIG(status));
		else if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != EXIT_REQUIRE)
			h_check(H_AT, false, "area", "expected exit 0 got %d", WEXITSTATUS(status));
	}
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		_exit(h_rmtree(base_fd, dir) ? 1 : 0);
	}
	setpgid(pid, pid);
	if (pid > 0 && wait_or_kill(pid, CLEANUP_SECONDS, "cleanup", &status))
		h_check(H_AT, status == 0, "removal of the area's directory",
			"expected an empty directory got status %#x", status);
}

int h_summary(void)
{
	long failed = atomic_load(&tally->failed);
	char line[128];

	snprintf(line, sizeof(line), "posix-suite: %ld passed, %ld failed, %ld skipped",
		 atomic_load(&tally->passed), failed, atomic_load(&tally->skipped));
	put_line(line);
	return failed ? 1 : 0;
}
