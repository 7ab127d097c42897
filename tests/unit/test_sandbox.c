/* What a process in the sandbox can do and what not, tried by a child that enters it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"
#include "host/broker.h"
#include "host/confine.h"
#include "host/leftovers.h"
#include "host/sandbox.h"
#include "host/watch.h"
#include "unit.h"

static char base[64], export_dir[96], outside_file[96], socket_file[96];

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

static int setup(void **state)
{
	char inside[128];

	(void)state;
	(void)snprintf(base, sizeof(base), "/tmp/vsockfs-sandbox-XXXXXX");
	assert_non_null(mkdtemp(base));
	(void)snprintf(export_dir, sizeof(export_dir), "%s/export", base);
	(void)snprintf(outside_file, sizeof(outside_file), "%s/secret", base);
	(void)snprintf(socket_file, sizeof(socket_file), "%s/left", base);
	assert_int_equal(mkdir(export_dir, 0755), 0);
	(void)snprintf(inside, sizeof(inside), "%s/file", export_dir);
	write_file(inside, "inside");
	write_file(outside_file, "secret");
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"export/file", "export/made", "export/d", "secret",
					    "left"};
	char path[128];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", base, names[i]);
		(void)remove(path);
	}
	(void)rmdir(export_dir);
	(void)rmdir(base);
	return 0;
}

/* ---- in the child: what is wrong is its exit code's line ---- */

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			(void)fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition,           \
				      strerror(errno));                                            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

struct child {
	struct sandbox_options options;
	bool shared; /* its mounts are */
	void (*act)(struct sandbox *s);
	int ended; /* by this signal; 0: by itself, with 0 */
};

static void child_main(const struct child *c)
{
	struct sandbox *s;
	char err[256] = "";

	if (c->shared) {
		CHECK(unshare(CLONE_NEWNS) == 0);
		CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
		CHECK(mount(export_dir, export_dir, NULL, MS_BIND, NULL) == 0);
		CHECK(mount(NULL, export_dir, NULL, MS_SHARED, NULL) == 0);
	}
	CHECK(sandbox_new(&c->options, &s, err, sizeof(err)) == 0);
	write_file(socket_file, "");
	CHECK(sandbox_leave(s, socket_file) == 0);
	if (sandbox_enter(s, err, sizeof(err)) < 0) {
		(void)fprintf(stderr, "%s\n", err);
		_exit(2);
	}
	c->act(s);
	sandbox_free(s);
	_exit(0);
}

static void run(const struct child *c)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		child_main(c);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (c->ended != 0)
		assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status),
				 c->ended);
	else
		assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
				 0);
}

static bool has(const struct sandbox *s, const char *what)
{
	char text[SANDBOX_TEXT_MAX], *without;

	sandbox_text(s, text);
	without = strstr(text, "; without");
	if (without != NULL)
		*without = '\0';
	return strstr(text, what) != NULL;
}

static int try_open(int dir, const char *name, int flags)
{
	int fd = openat(dir, name, flags | O_CLOEXEC, 0644);
	int e = fd < 0 ? errno : 0;

	if (fd >= 0)
		(void)close(fd);
	return e;
}

/* Each act outside has a twin inside, which goes through. */
static void act_files(struct sandbox *s)
{
	int dir = open(sandbox_dir(s), O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool files = has(s, "Landlock"), root = has(s, "a root of its own");

	if (!files && !root)
		return; /* an ordinary user on a kernel without it */
	CHECK(dir >= 0);
	CHECK(try_open(dir, "file", O_RDONLY) == 0);
	CHECK(try_open(dir, "file", O_RDWR) == 0);
	CHECK(try_open(dir, "made", O_WRONLY | O_CREAT) == 0);
	CHECK(mkdirat(dir, "d", 0755) == 0);
	CHECK(renameat(dir, "made", dir, "d/made") == 0); /* REFER */
	CHECK(linkat(dir, "d/made", dir, "made", 0) == 0);
	CHECK(unlinkat(dir, "d/made", 0) == 0);

	int e = root ? ENOENT : EACCES;
	CHECK(try_open(AT_FDCWD, outside_file, O_RDONLY) == e);
	CHECK(try_open(dir, "../secret", O_RDONLY) == e);
	CHECK(try_open(AT_FDCWD, "/etc/passwd", O_RDONLY) == e);
	CHECK(unlinkat(AT_FDCWD, outside_file, 0) < 0 && errno == e);
	CHECK(linkat(dir, "file", dir, "../linked", 0) < 0);
	CHECK(renameat(dir, "file", dir, "../renamed") < 0);
	CHECK(try_open(dir, "../made", O_WRONLY | O_CREAT) != 0);
	CHECK(try_open(AT_FDCWD, "/proc/sys/kernel/core_pattern", O_WRONLY) != 0);
	CHECK(try_open(AT_FDCWD, "/proc/1/root/etc/passwd", O_RDONLY) != 0);
	CHECK(try_open(AT_FDCWD, "/proc/self/mountinfo", O_RDONLY) == 0);
	if (root)
		CHECK(try_open(AT_FDCWD, "/new", O_WRONLY | O_CREAT) != 0);
}

static void act_status(struct sandbox *s)
{
	CHECK(has(s, "capabilities") && has(s, "no_new_privs"));
	for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++) {
		bool kept = cap == CAP_CHOWN || cap == CAP_DAC_OVERRIDE ||
			    cap == CAP_DAC_READ_SEARCH || cap == CAP_FOWNER || cap == CAP_FSETID ||
			    cap == CAP_SETUID || cap == CAP_SETGID;

		CHECK(kept || !(confine_caps_held() & (UINT64_C(1) << cap)));
	}
	CHECK(mount("none", "/", "tmpfs", 0, NULL) < 0); /* not reached where there is seccomp */
}

static void *thread_main(void *arg)
{
	(void)arg;
	return unshare(CLONE_FS) == 0 ? (void *)1 : NULL;
}

static void act_thread(struct sandbox *s)
{
	pthread_t t;
	void *result = NULL;

	(void)s;
	CHECK(pthread_create(&t, NULL, thread_main, NULL) == 0);
	CHECK(pthread_join(t, &result) == 0 && result != NULL);
}

/* What looks like an attack, and is needed: to this process, and no other. */
static void act_own(struct sandbox *s)
{
	struct rlimit rl;

	CHECK(pthread_kill(pthread_self(), 0) == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &rl) == 0 && setrlimit(RLIMIT_NOFILE, &rl) == 0);
	CHECK(fcntl(STDERR_FILENO, F_SETFL, fcntl(STDERR_FILENO, F_GETFL)) == 0);
	CHECK(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) >= 0);
	DIR *dir = opendir(sandbox_dir(s));
	CHECK(dir != NULL && readdir(dir) != NULL && closedir(dir) == 0);
	dir = fdopendir(open(sandbox_dir(s), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	CHECK(dir != NULL && readdir(dir) != NULL && closedir(dir) == 0);
	CHECK(isatty(STDERR_FILENO) == 0);
}

static void act_nothing(struct sandbox *s)
{
	(void)s;
}

#define CHILD(f, ...) run(&(const struct child){.options.dir = export_dir, .act = (f), __VA_ARGS__})

static bool calls_are_listed(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(confine_calls(CONFINE_SERVER) == 0 ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status == 0;
}

static void test_files(void **state)
{
	(void)state;
	CHILD(act_files, .shared = false);
}

static void test_files_with_root(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	CHILD(act_files, .shared = true);
}

static void test_calls(void **state)
{
	(void)state;
	CHILD(act_thread, .ended = 0);
	if (!calls_are_listed())
		skip();
	CHILD(act_status, .ended = SIGSYS);
	CHILD(act_own, .ended = 0);
}

/* Each with arguments that do no harm where nothing refuses it. */
static const struct forbidden {
	const char *name;
	long number, arg[4];
	int parent; /* this argument is another process; 0: none, 1: the first... */
} forbidden[] = {
	{"execve", SYS_execve, {(long)"/bin/true"}, 0},
	{"execveat", SYS_execveat, {-1, (long)""}, 0},
	{"ptrace", SYS_ptrace, {-1}, 2},
	{"process_vm_readv", SYS_process_vm_readv, {0}, 1},
	{"process_vm_writev", SYS_process_vm_writev, {0}, 1},
	{"kill", SYS_kill, {0}, 1},
	{"tkill", SYS_tkill, {0}, 1},
	{"tgkill of another", SYS_tgkill, {0, 1}, 1},
	{"rt_sigqueueinfo", SYS_rt_sigqueueinfo, {0}, 1},
	{"pidfd_open", SYS_pidfd_open, {0}, 1},
	{"pidfd_send_signal", SYS_pidfd_send_signal, {-1}, 0},
	{"prlimit64 of another", SYS_prlimit64, {0}, 1},
	{"fcntl(F_SETOWN)", SYS_fcntl, {-1, F_SETOWN}, 0},
	{"fcntl(F_SETSIG)", SYS_fcntl, {-1, F_SETSIG}, 0},
	{"clone of a process", SYS_clone, {CLONE_SIGHAND}, 0},
	{"socket(AF_INET)", SYS_socket, {AF_INET, SOCK_STREAM}, 0},
	{"socket(AF_VSOCK)", SYS_socket, {AF_VSOCK, SOCK_STREAM}, 0},
	{"socketpair", SYS_socketpair, {-1}, 0},
	{"connect", SYS_connect, {-1}, 0},
	{"bind", SYS_bind, {-1}, 0},
	{"listen", SYS_listen, {-1}, 0},
	{"mount", SYS_mount, {0}, 0},
	{"umount2", SYS_umount2, {0}, 0},
	{"move_mount", SYS_move_mount, {-1}, 0},
	{"open_tree", SYS_open_tree, {-1}, 0},
	{"fsopen", SYS_fsopen, {0}, 0},
	{"pivot_root", SYS_pivot_root, {0}, 0},
	{"chroot", SYS_chroot, {0}, 0},
	{"setns", SYS_setns, {-1}, 0},
	{"unshare(CLONE_NEWUSER)", SYS_unshare, {CLONE_NEWUSER}, 0},
	{"unshare(CLONE_NEWNS)", SYS_unshare, {CLONE_NEWNS}, 0},
	{"setuid", SYS_setuid, {-1}, 0},
	{"setresuid", SYS_setresuid, {-1, -1, -1}, 0},
	{"prctl(PR_GET_DUMPABLE)", SYS_prctl, {PR_GET_DUMPABLE}, 0},
	{"seccomp", SYS_seccomp, {-1}, 0},
	{"bpf", SYS_bpf, {-1}, 0},
	{"io_uring_setup", SYS_io_uring_setup, {0}, 0},
	{"userfaultfd", SYS_userfaultfd, {-1}, 0},
	{"perf_event_open", SYS_perf_event_open, {0}, 0},
	{"memfd_create", SYS_memfd_create, {0}, 0},
	{"keyctl", SYS_keyctl, {-1}, 0},
	{"add_key", SYS_add_key, {0}, 0},
	{"init_module", SYS_init_module, {0}, 0},
	{"kexec_load", SYS_kexec_load, {0, 1 << 30}, 0},
	{"swapon", SYS_swapon, {0}, 0},
	{"reboot", SYS_reboot, {0}, 0},
	{"personality", SYS_personality, {0xffffffff}, 0},
	{"quotactl", SYS_quotactl, {-1}, 0},
};

static const struct forbidden *tried;

static void *call_main(void *arg)
{
	long a[4];

	memcpy(a, tried->arg, sizeof(a));
	if (tried->parent > 0)
		a[tried->parent - 1] = getppid();
	(void)syscall(tried->number, a[0], a[1], a[2], a[3], 0, 0);
	return arg;
}

/* As a guest would that has taken over a thread which serves it. */
static void act_call(struct sandbox *s)
{
	pthread_t t;

	CHECK(pthread_create(&t, NULL, call_main, s) == 0);
	CHECK(pthread_join(t, NULL) == 0);
}

static void test_forbidden_calls(void **state)
{
	(void)state;
	if (!calls_are_listed())
		skip();
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		tried = &forbidden[i];
		print_message("%s\n", tried->name);
		CHILD(act_call, .ended = SIGSYS);
		CHILD(act_call, .options.mode = SANDBOX_OFF); /* which is what ends it */
	}
}

/* ---- by handle ---- */

static struct {
	struct file_handle h;
	unsigned char bytes[MAX_HANDLE_SZ];
} inside_handle, outside_handle;

static bool find_handle(const char *path, struct file_handle *h)
{
	int mount;

	h->handle_bytes = MAX_HANDLE_SZ;
	return name_to_handle_at(AT_FDCWD, path, h, &mount, 0) == 0;
}

/* A handle leads to a file itself, but under Landlock nothing outside can be opened by it. */
static void act_handles(struct sandbox *s)
{
	int mount = open(sandbox_dir(s), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char path[32];

	if (!has(s, "Landlock"))
		return;
	CHECK(mount >= 0);
	CHECK(open_by_handle_at(mount, &inside_handle.h, O_RDWR | O_CLOEXEC) >= 0);
	CHECK(open_by_handle_at(mount, &outside_handle.h, O_RDONLY | O_CLOEXEC) < 0 &&
	      errno == EACCES);
	CHECK(open_by_handle_at(mount, &outside_handle.h, O_WRONLY | O_CLOEXEC) < 0 &&
	      errno == EACCES);
	/* What is left (doc/security.md): a descriptor that only names it. */
	int object = open_by_handle_at(mount, &outside_handle.h, O_PATH | O_CLOEXEC);
	CHECK(object >= 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", object);
	CHECK(try_open(AT_FDCWD, path, O_RDONLY) == EACCES);
	CHECK(try_open(AT_FDCWD, path, O_RDWR) == EACCES);
}

static void test_handles(void **state)
{
	char inside[128];

	(void)state;
	(void)snprintf(inside, sizeof(inside), "%s/file", export_dir);
	if (geteuid() != 0 || !find_handle(inside, &inside_handle.h) ||
	    !find_handle(outside_file, &outside_handle.h))
		skip();
	CHILD(act_handles, .ended = 0);
}

/* Without the sandbox the same acts go through: it is what refuses them. */
static void act_off(struct sandbox *s)
{
	int dir = open(sandbox_dir(s), O_PATH | O_DIRECTORY | O_CLOEXEC);

	CHECK(dir >= 0 && sandbox_watch(s) == NULL && !sandbox_confines(s));
	CHECK(try_open(dir, "../secret", O_RDONLY) == 0);
	CHECK(try_open(AT_FDCWD, outside_file, O_RDONLY) == 0);
	CHECK(linkat(dir, "file", dir, "../left2", 0) == 0 && unlinkat(dir, "../left2", 0) == 0);
	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
}

static void test_off(void **state)
{
	(void)state;
	CHILD(act_off, .options.mode = SANDBOX_OFF);
	assert_int_equal(access(socket_file, F_OK), -1);
}

/* ---- the broker ---- */

static void test_leftovers(void **state)
{
	struct leftovers l = {.n = 0};

	(void)state;
	CHILD(act_nothing, .ended = 0);
	assert_int_equal(access(socket_file, F_OK), -1); /* the broker has removed it */

	write_file(socket_file, "");
	assert_int_equal(leftovers_add(&l, socket_file), 0);
	assert_int_equal(leftovers_add(&l, "/nowhere/at/all"), -ENOENT);
	assert_int_equal(leftovers_add(&l, "/"), -EINVAL);
	assert_int_equal(rename(socket_file, outside_file), 0);
	write_file(socket_file, ""); /* another server's */
	leftovers_remove(&l);
	assert_int_equal(access(socket_file, F_OK), 0);
}

static void test_broker_order(void **state)
{
	struct broker *b;

	(void)state;
	assert_int_equal(broker_start(&b), 0);
	assert_int_equal(broker_remember(b, "/nowhere/at/all"), -ENOENT);
	assert_int_equal(broker_mark(b, 0, STDIN_FILENO), -EPERM);
	assert_int_equal(broker_seal(b, -1), 0);
	assert_int_equal(broker_remember(b, export_dir), -EPERM);
	assert_int_equal(broker_seal(b, -1), -EPERM);
	assert_int_equal(broker_mark(b, 0, -1), -EBADF);
	broker_end(b);
}

static void test_broker_marks(void **state)
{
	struct watch_group g = {.fd = -1};
	struct broker *b;
	int fd;

	(void)state;
	if (geteuid() != 0 || watch_group_open(&g) < 0)
		skip();
	assert_int_equal(broker_start(&b), 0);
	assert_int_equal(broker_seal(b, g.fd), 0);
	fd = open(export_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(broker_mark(b, 0x100 /* FAN_CREATE */, fd) != -EPERM);
	assert_int_equal(broker_mark(b, UINT64_MAX, fd), -EINVAL);
	(void)close(fd);
	broker_end(b);
	(void)close(g.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_with_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forbidden_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leftovers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broker_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broker_marks, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
