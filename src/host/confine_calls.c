/*
 * Which system calls each role makes, and what happens at any other.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/confine.h"

/* The names are those of 64-bit machines, clone's flags its first argument. */
#if !(defined(__x86_64__) || defined(__aarch64__) || (defined(__riscv) && __riscv_xlen == 64))
#undef VSOCKFS_SECCOMP
#endif
#ifdef VSOCKFS_SECCOMP

#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>

/* clang-format off */
/* The C library and threads: every role. */
static const char *const basic[] = {
	"brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "futex", "membarrier",
	"set_robust_list", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
	"sigaltstack", "restart_syscall", "exit", "exit_group", "getpid", "gettid",
	"sched_yield", "sched_getaffinity", "getrandom", "clock_gettime", "clock_getres",
	"clock_nanosleep", "gettimeofday", "time", "nanosleep", "read", "write", "writev",
	"close", "fstat", "newfstatat", "recvmsg", "recvfrom", "sendmsg", "sendto",
	"lseek",
};

static const char *const broker[] = {
	"fanotify_mark", "unlinkat", "chdir",
};

static const char *const server[] = {
	/* threads, waiting, clients */
	"rt_sigtimedwait", "poll", "ppoll", "epoll_create1", "epoll_ctl", "epoll_wait",
	"epoll_pwait", "eventfd2", "accept4", "shutdown", "getsockopt", "setsockopt",
	"getsockname", "getpeername", "wait4", "getrlimit", "setrlimit", "sysinfo", "pipe2",
	/* who we are */
	"getuid", "geteuid", "getgid", "getegid", "setfsuid", "setfsgid", "setgroups", "capget",
	"capset", "umask",
	/* finding and opening; each in what Landlock or the root leaves */
	"openat", "openat2", "open_by_handle_at", "name_to_handle_at", "close_range", "dup",
	"dup2", "dup3", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "statx",
	"stat", "lstat", "statfs", "fstatfs", "getdents64", "fchdir", "chdir",
	/* content */
	"pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "readv", "ftruncate",
	"fallocate", "fsync", "fdatasync", "sync_file_range", "syncfs", "copy_file_range",
	"sendfile", "splice", "fadvise64", "flock", "msync",
	/* attributes and names */
	"fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "utimensat", "mkdirat",
	"mknodat", "symlinkat", "linkat", "unlink", "unlinkat", "renameat", "renameat2",
	"getxattr", "lgetxattr", "fgetxattr", "setxattr", "lsetxattr", "fsetxattr", "listxattr",
	"llistxattr", "flistxattr", "removexattr", "lremovexattr", "fremovexattr",
	/* watching: without a broker, and where each object has a mark */
	"fanotify_init", "fanotify_mark",
};
/* clang-format on */

/* Async-signal-safe: no call of stdio's that would take a lock. */
static void on_refused(int sig, siginfo_t *info, void *context)
{
	static const char before[] = ": a system call that is not on the sandbox's list: number ";
	char line[128] = "vsockfsd", digits[16];
	size_t n = strlen(line), d = 0;
	int number = info->si_syscall;

	(void)context;
	memcpy(line + n, before, sizeof(before) - 1);
	n += sizeof(before) - 1;
	do
		digits[d++] = (char)('0' + number % 10);
	while ((number /= 10) > 0 && d < sizeof(digits));
	while (d > 0)
		line[n++] = digits[--d];
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0) {
		/* nobody hears it */
	}
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

static int take_list(scmp_filter_ctx f, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int number = seccomp_syscall_resolve_name(names[i]);
		/* not on this machine, or newer than the library */
		if (number == __NR_SCMP_ERROR || number < 0)
			continue;
		int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, number, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

struct some {
	const char *name;
	unsigned arg;
	uint64_t mask, value; /* the argument, under the mask */
	uint32_t action;      /* SCMP_ACT_ALLOW, or what it is answered */
};

#define ANY   0, 0, 0
#define IS(v) UINT32_MAX, (v)

static int take_table(scmp_filter_ctx f, const struct some *t, size_t n)
{
	int r = 0;

	for (; r == 0 && n > 0; t++, n--) {
		const struct scmp_arg_cmp arg = {t->arg, SCMP_CMP_MASKED_EQ, t->mask, t->value};

		r = seccomp_rule_add_array(f, t->action, seccomp_syscall_resolve_name(t->name),
					   t->mask != 0, &arg);
	}
	return r;
}

/*
 * System calls that are made in some ways only, or that the C library can do without. The kernel
 * asks the filter at each of these calls, whereas it remembers that the others are allowed whatever
 * their arguments (seccomp_cache_check_allow): so none that is made for each message belongs here.
 */
static int take_some(scmp_filter_ctx f, bool is_server)
{
	const uint64_t thread = CLONE_THREAD | CLONE_VM;
	const struct some every[] = {
		/* Its flags are in memory, which no filter reads: clone is tried then. */
		{"clone3", ANY, SCMP_ACT_ERRNO(ENOSYS)},
		/* stdio asks whether it writes to a terminal. */
		{"ioctl", ANY, SCMP_ACT_ERRNO(ENOTTY)},
		{"prctl", 0, IS(PR_SET_NAME), SCMP_ACT_ALLOW},
		/* The C library names its memory. */
		{"prctl", 0, IS(0x53564d41 /* PR_SET_VMA */), SCMP_ACT_ERRNO(EINVAL)},
		/* To no other process; also at abort(3). */
		{"tgkill", 0, IS((unsigned)getpid()), SCMP_ACT_ALLOW},
		/* Not F_SETOWN, which has the kernel send signals. */
		{"fcntl", 1, IS(F_DUPFD), SCMP_ACT_ALLOW},
		{"fcntl", 1, IS(F_GETFD), SCMP_ACT_ALLOW},
		{"fcntl", 1, IS(F_SETFD), SCMP_ACT_ALLOW}, /* fdopendir(3) */
		{"fcntl", 1, IS(F_GETFL), SCMP_ACT_ALLOW},
		{"fcntl", 1, IS(F_SETFL), SCMP_ACT_ALLOW},
		{"fcntl", 1, IS(F_DUPFD_CLOEXEC), SCMP_ACT_ALLOW},
		{"fcntl", 1, IS(F_OFD_GETLK), SCMP_ACT_ALLOW},
		{"fcntl", 1, IS(F_OFD_SETLK), SCMP_ACT_ALLOW},
		{"fcntl", 1, IS(F_OFD_SETLKW), SCMP_ACT_ALLOW},
	};
	const struct some servers[] = {
		{"clone", 0, thread, thread, SCMP_ACT_ALLOW},
		{"unshare", 0, IS(CLONE_FS), SCMP_ACT_ALLOW},
		{"prlimit64", 0, IS(0), SCMP_ACT_ALLOW}, /* of this process */
	};
	int r = take_table(f, every, sizeof(every) / sizeof(*every));

	return r < 0 || !is_server ? r : take_table(f, servers, sizeof(servers) / sizeof(*servers));
}

#define TAKE(f, list) take_list(f, list, sizeof(list) / sizeof((list)[0]))

int confine_calls(enum confine_role role)
{
	struct sigaction refused = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_TRAP);

	if (f == NULL)
		return -ENOMEM;
	/* A tree, where the library has it; and no change of the processor's speculation, which
	 * kernels before 5.16 make slower with a filter: no code of a guest's runs in here. */
	(void)seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	(void)seccomp_attr_set(f, SCMP_FLTATR_CTL_SSB, 1);
	int r = TAKE(f, basic);
	if (r == 0)
		r = role == CONFINE_SERVER ? TAKE(f, server) : TAKE(f, broker);
	if (r == 0)
		r = take_some(f, role == CONFINE_SERVER);
	if (r == 0 && sigaction(SIGSYS, &refused, NULL) < 0)
		r = -errno;
	if (r == 0)
		r = seccomp_load(f);
	seccomp_release(f);
	return r;
}

#else

int confine_calls(enum confine_role role)
{
	(void)role;
	return -EOPNOTSUPP;
}

#endif
