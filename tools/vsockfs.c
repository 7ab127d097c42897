/*
 * vsockfs: mounts a host directory. Also mount.fuse.vsockfs, as mount(8)
 * calls it.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "background.h"
#include "cache/cache.h"
#include "cmdline.h"
#include "connect/connect.h"
#include "core/cleanup.h"
#include "core/log.h"
#include "core/options.h"
#include "core/outlive.h"
#include "core/stats.h"
#include "fuse/fs.h"
#include "host/server.h"
#include "plain_host/plain_host.h"
#include "remount.h"
#include "supervise.h"
#include "watchdog.h"

enum { EXIT_USAGE = 2 };

enum cache_mode { CACHE_NONE, CACHE_TTL, CACHE_LEASE };

#define TIMEOUT_UNSET UINT64_MAX
#define TIMEOUT_TTL   UINT64_C(1000000000)	     /* without a promise */
#define TIMEOUT_CAP   (UINT64_C(86400) * 1000000000) /* under one */
enum locks { LOCKS_UNSET = -1, LOCKS_HOST, LOCKS_LOCAL };

#define ID_UNSET UINT64_MAX

struct mount_settings {
	/* -o */
	int cache, locks, proto, xdev, reconnect;
	uint64_t attr_timeout, entry_timeout, negative_timeout,
		dir_timeout;			/* ns, or TIMEOUT_UNSET */
	uint64_t lease, connect_timeout, timeo; /* ns */
	bool soft, supervise;
	uint64_t page_cache, node_cache, list_after;
	uint64_t readahead, max_background, send_queue, uid, gid, umask;
	bool xattr, acl, no_open, read_only, allow_other, allow_suid, allow_dev;
	const char *plain_base, *fsname, *stats, *log_level, *secret_file;
	char mount_flags[256]; /* generic options for the kernel */
	/* the rest of the command line */
	bool foreground, debug, fake, remount;
	char source[PATH_MAX];
	char mountpoint[PATH_MAX]; /* absolute */
	sigset_t signals;	   /* that end the mount; blocked */
	struct secret secret;	   /* with secret_file */
	struct supervised supervised;
};

static const struct option_spec mount_options[] = {
#define MOUNT_OPTION(name, kind, member, values, max, default_text, text)                          \
	{name,	       OPTION_##kind, offsetof(struct mount_settings, member), values, max,        \
	 default_text, text},
#include "vsockfs_options.def"
#undef MOUNT_OPTION
};
#define MOUNT_OPTIONS (sizeof(mount_options) / sizeof(mount_options[0]))

/* Generic options: those for the kernel, and those that mount(8), systemd or fstab keep to
 * themselves. */
static const char *const kernel_flags[] = {
	"suid", "nosuid", "dev", "nodev", "exec", "noexec", "async", "sync", "dirsync", "noatime",
};
/* nodiratime among them: no FUSE file system has access times of the guest's (S_NOATIME). */
static const char *const ignored[] = {
	"_netdev",	 "nofail",	"user",
	"users",	 "nouser",	"owner",
	"group",	 "auto",	"noauto",
	"relatime",	 "norelatime",	"atime",
	"diratime",	 "strictatime", "defaults",
	"comment",	 "lazytime",	"nolazytime",
	"nostrictatime", "nodiratime",	"default_permissions",
};

static bool in_list(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}
#define IN_LIST(list, name) in_list(list, sizeof(list) / sizeof((list)[0]), name)

static void add_flag(struct mount_settings *s, const char *name)
{
	size_t len = strlen(s->mount_flags);

	(void)snprintf(s->mount_flags + len, sizeof(s->mount_flags) - len, "%s%s",
		       len > 0 ? "," : "", name);
}

static bool generic_option(void *arg, const char *name, const char *value)
{
	struct mount_settings *s = arg;

	if (strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0 || IN_LIST(ignored, name))
		return true;
	if (value != NULL || !IN_LIST(kernel_flags, name))
		return false;
	add_flag(s, name);
	return true;
}

/* ---- the command line ---- */

static void usage(FILE *f)
{
	(void)fprintf(
		f, "usage: vsockfs SOURCE MOUNTPOINT [-o opt,...] [-f] [-d]\n"
		   "\n"
		   "Mounts a host directory.\n"
		   "\n"
		   "SOURCE:\n"
		   "    dir:PATH          a directory of this machine, by an embedded server\n"
		   "    unix:PATH         a vsockfsd on a Unix socket\n"
		   "    vsock:CID:PORT    a vsockfsd on vsock; vsock: is the host, port 5001\n"
		   "    fd:N              a vsockfsd on an inherited descriptor\n"
		   "Left out, SOURCE and MOUNTPOINT come from vsockfs.source= (else vsock:) and\n"
		   "vsockfs.workspace= of the kernel command line, or there from\n"
		   "matchlock.vfs_port= and matchlock.workspace=.\n"
		   "\n"
		   "    -f                stay in the foreground\n"
		   "    -d                as -f, and print every request\n"
		   "    -h, --help        this text\n"
		   "    -V, --version     the version\n"
		   "\n"
		   "Options of -o:\n");
	options_help(mount_options, MOUNT_OPTIONS, f);
	(void)fprintf(f, "Generic mount options become mount flags or are ignored.\n");
}

static int usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int usage_error(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log_err("%s; see --help", line);
	return EXIT_USAGE;
}

static bool copy_text(char *to, size_t len, const char *from)
{
	return (size_t)snprintf(to, len, "%s", from) < len;
}

/* Takes SOURCE and MOUNTPOINT from the operands, or else from the kernel command line. */
static int take_operands(struct mount_settings *s, int n, char **operands)
{
	const char *source = NULL, *mountpoint = NULL;
	static char from_kernel[2][PATH_MAX];

	if (n > 2)
		return usage_error("unexpected operand '%s'", operands[2]);
	if (n == 2) {
		source = operands[0];
		mountpoint = operands[1];
	} else if (n == 1) {
		*(endpoint_is(operands[0]) ? &source : &mountpoint) = operands[0];
	}
	if (mountpoint == NULL) {
		if (cmdline_mountpoint("/proc/cmdline", from_kernel[0], sizeof(from_kernel[0])) < 0)
			return usage_error("%s", "no MOUNTPOINT given");
		mountpoint = from_kernel[0];
	}
	if (source == NULL) {
		if (cmdline_source("/proc/cmdline", from_kernel[1], sizeof(from_kernel[1])) < 0)
			return usage_error("matchlock.vfs_port=%s of the kernel command line is no "
					   "port",
					   from_kernel[1]);
		source = from_kernel[1];
	}
	if (!copy_text(s->source, sizeof(s->source), source))
		return usage_error("%s", "SOURCE is too long");
	if (!copy_text(s->mountpoint, sizeof(s->mountpoint), mountpoint))
		return usage_error("%s", "MOUNTPOINT is too long");
	return 0;
}

static bool has_option(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; p != NULL; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, name, len) == 0 && (p[len] == ',' || p[len] == '\0'))
			return true;
	}
	return false;
}

/* The first option given that the plain protocol cannot provide; NULL: none. */
static const char *extended_only(const struct mount_settings *s)
{
	return s->proto == PROTO_EXTENDED ? "proto=extended"
	       : s->secret_file != NULL	  ? "secret_file"
	       : s->acl			  ? "acl"
	       : s->no_open		  ? "no_open"
	       : s->locks == LOCKS_HOST	  ? "locks=host"
					  : NULL;
}

/*
 * Returns 0 to go on, -1 to exit with success, or an exit code. list gathers
 * all -o and owns what the settings' texts point to.
 */
static int parse_arguments(struct mount_settings *s, int argc, char **argv, char **list)
{
	const char *base = strrchr(argv[0], '/');
	bool helper = strcmp(base != NULL ? base + 1 : argv[0], "mount.fuse.vsockfs") == 0;
	static const struct option long_options[] = {
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{"foreground", no_argument, NULL, 'F'},
		{NULL, 0, NULL, 0},
	};
	char err[512];
	size_t len = 0;
	int c;

	*list = calloc(1, 1);
	opterr = 0;
	while ((c = getopt_long(argc, argv, helper ? "o:dfhVnsvrwt:N:" : "o:dfhV", long_options,
				NULL)) != -1) {
		switch (c) {
		case 'o': {
			size_t more = strlen(optarg);
			char *p = realloc(*list, len + more + 2);

			if (p == NULL)
				return 1;
			*list = p;
			if (len > 0)
				p[len++] = ',';
			memcpy(p + len, optarg, more + 1);
			len += more;
			break;
		}
		case 'f':
			*(helper ? &s->fake : &s->foreground) = true;
			break;
		case 'F':
			s->foreground = true;
			break;
		case 'd':
			s->debug = s->foreground = true;
			break;
		case 'r':
			s->read_only = true;
			break;
		case 'n': /* no mtab, sloppy, verbose, read-write, type: nothing to do */
		case 's':
		case 'v':
		case 'w':
		case 't':
			break;
		case 'h':
			usage(stdout);
			return -1;
		case 'V':
			(void)printf("vsockfs %s\n", VSOCKFS_VERSION);
			return -1;
		default: {
			const char opt[2] = {(char)optopt, '\0'};

			if (optopt == 0 || optopt > 'z')
				return usage_error("unknown option %s", argv[optind - 1]);
			if (optopt == 'o')
				return usage_error("option -%s needs a value", opt);
			return usage_error("unknown option -%s", opt);
		}
		}
	}
	if (*list == NULL)
		return 1;
	s->remount = has_option(*list, "remount");
	if (s->remount) /* the kernel's own options are in the list as well, such as user_id= */
		return take_operands(s, argc - optind, argv + optind);
	if (options_parse(mount_options, MOUNT_OPTIONS, *list, s, generic_option, s, err,
			  sizeof(err)) < 0)
		return usage_error("%s", err);
	if (s->allow_suid)
		add_flag(s, "suid");
	if (s->allow_dev)
		add_flag(s, "dev");
	if ((s->uid == ID_UNSET) != (s->gid == ID_UNSET))
		return usage_error("%s", "options uid and gid go together");
	if (s->no_open && s->cache != CACHE_LEASE)
		return usage_error("%s", "option no_open needs cache=lease");
	if (s->no_open && s->locks == LOCKS_HOST)
		return usage_error("%s", "options no_open and locks=host exclude each other");
	if (s->proto == PROTO_PLAIN && extended_only(s) != NULL)
		return usage_error("options proto=plain and %s exclude each other",
				   extended_only(s));
	if (s->log_level != NULL && log_level_parse(s->log_level) < 0)
		return usage_error("option log_level: '%s' is no level", s->log_level);
	return take_operands(s, argc - optind, argv + optind);
}

/* ---- the embedded server of dir: ---- */

/* Whether path `inner` is `outer` or below it; both are absolute and resolved. */
static bool is_within(const char *inner, const char *outer)
{
	size_t n = strlen(outer);

	if (strcmp(outer, "/") == 0)
		return true;
	return strncmp(inner, outer, n) == 0 && (inner[n] == '\0' || inner[n] == '/');
}

static int server_main(const struct mount_settings *s, const char *dir, int fd, bool own_namespace)
{
	char err[512];
	struct server_config config = {.dir = dir,
				       .plain_prefix = "/workspace",
				       .plain = &plain_host,
				       .special = true, /* the caller could make them by himself */
				       .xdev = s->xdev == XDEV_HIDE ? XDEV_HIDE : XDEV_FOLLOW};
	struct server *server;

	log_init("vsockfs-server", log_level());
	/*
	 * The mount will lie inside the export: seen from a mount namespace that it
	 * is not in, the directory is empty; an ordinary user cannot have one, and
	 * never enters any file system mounted inside.
	 */
	if (own_namespace &&
	    (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)) {
		if (errno != EPERM) {
			log_err("cannot make a mount namespace: %m");
			return 1;
		}
		config.xdev = XDEV_HIDE;
	}
	if (server_new(&config, &server, err, sizeof(err)) < 0) {
		log_err("%s", err);
		return 1;
	}
	if (!s->foreground)
		background_detach();
	int r = server_add(server, fd);
	if (r == 0)
		r = server_run(server, true);
	server_free(server);
	return r < 0 ? 1 : 0;
}

/* Starts the server process on one end of a socketpair; *ret_fd is the other. */
static int start_embedded(const struct mount_settings *s, const struct endpoint *e, int *ret_fd,
			  pid_t *ret_pid)
{
	char dir[PATH_MAX];
	struct stat st;
	int p[2];

	if (realpath(e->path, dir) == NULL || stat(dir, &st) < 0) {
		log_err("%s: %m", e->path);
		return -1;
	}
	if (!S_ISDIR(st.st_mode)) {
		log_err("%s: not a directory", e->path);
		return -1;
	}
	if (is_within(dir, s->mountpoint)) {
		log_err("%s: the mountpoint would hide the exported directory %s", s->mountpoint,
			dir);
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0) {
		log_err("cannot make a socketpair: %m");
		return -1;
	}
	pid_t pid = fork();
	if (pid < 0) {
		log_err("cannot fork: %m");
		return -1;
	}
	if (pid == 0) {
		(void)close(p[0]);
		background_abandon();
		(void)setsid(); /* a ^C at the terminal ends the mount first */
		_exit(server_main(s, dir, p[1], is_within(s->mountpoint, dir)));
	}
	(void)close(p[1]);
	*ret_fd = p[0];
	*ret_pid = pid;
	return 0;
}

/* ---- the mount ---- */

struct stop_watch {
	struct fs *fs;
	sigset_t signals;
	atomic_bool ended; /* the mount has gone: nothing is left to stop */
};

static void *wait_for_signal(void *arg)
{
	struct stop_watch *w = arg;
	int sig;

	if (sigwait(&w->signals, &sig) == 0 && !atomic_load(&w->ended))
		fs_stop(w->fs);
	return NULL;
}

/* The mount exists: whoever waits for that hears of it. */
static int begin(const struct mount_settings *s, struct fs *fs, const struct endpoint *e,
		 const struct connect_options *connect, struct backend *b)
{
	int r = 0;

	if (s->supervised.takes_over) {
		r = fs_take_over(fs);
		if (r == 0)
			r = transport_go_on(b, e, connect);
	} else if (s->supervised.is) {
		supervised_mounted(fs_device(fs), fs_connection(fs));
	} else {
		watchdog_start(s->mountpoint, fs_connection(fs));
	}
	if (r == 0 && s->supervised.is)
		supervised_ready(fs_connection(fs));
	if (r == 0 && s->supervised.is && !s->foreground)
		background_detach();
	if (r == 0)
		background_ready();
	return r;
}

static int run_mount(const struct mount_settings *s, struct cache *cache,
		     const struct endpoint *endpoint, const struct connect_options *connect,
		     struct stats *stats)
{
	struct fs_options options = {
		.fsname = s->fsname != NULL ? s->fsname : s->source,
		.mount_flags = s->mount_flags,
		.allow_other = s->allow_other,
		.read_only = s->read_only,
		.host_locks =
			s->locks != LOCKS_LOCAL && !s->no_open && !cache_backend(cache)->info.plain,
		.no_open = s->no_open,
		.xattr = s->xattr || s->acl,
		.acl = s->acl,
		.map_ids = s->uid != ID_UNSET && !cache_backend(cache)->info.plain,
		.uid = (uint32_t)s->uid,
		.gid = (uint32_t)s->gid,
		.umask = (uint32_t)s->umask,
		.max_background = (unsigned)s->max_background,
		.readahead = (unsigned)s->readahead,
		.debug = s->debug,
		.takes_over = s->supervised.takes_over,
		.device_fd = s->supervised.device_fd,
		.restart = supervised_restart,
		.stats = stats,
	};
	struct stop_watch watch = {.signals = s->signals};
	pthread_t thread;
	struct fs *fs;
	char err[1024];

	if (fs_mount(cache, &options, s->mountpoint, &fs, err, sizeof(err)) < 0) {
		log_err("%s", err);
		cache_backend(cache)->ops->shutdown(cache_backend(cache));
		return 1;
	}
	watch.fs = fs;
	int e = pthread_create(&thread, NULL, wait_for_signal, &watch);
	if (e == 0) {
		e = -begin(s, fs, endpoint, connect, cache_backend(cache));
		if (e == 0)
			e = -fs_run(fs);
		atomic_store(&watch.ended, true);
		(void)pthread_kill(thread, SIGTERM); /* ends sigwait, if nothing has yet */
		(void)pthread_join(thread, NULL);
	}
	if (e != 0)
		log_err("cannot run: %s", strerror(e));
	cache_backend(cache)->ops->shutdown(cache_backend(cache));
	fs_free(fs);
	return e != 0;
}

/*
 * Where vfsstat looks for it, or in the file that was asked for. That nobody
 * can watch is no reason not to mount.
 */
static int make_stats(const struct mount_settings *s, struct stats **ret)
{
	int r = s->stats != NULL ? stats_new(s->stats, ret) : stats_new_default(STATS_MOUNT, ret);

	if (r < 0 && s->stats != NULL) {
		log_err("%s: %s", s->stats, strerror(-r));
		return r;
	}
	if (r < 0) {
		/* ENOENT: an ordinary user without a directory for such files */
		log_line(r == -ENOENT ? LOG_INFO : LOG_WARNING, "no statistics for vfsstat: %s",
			 strerror(-r));
		r = stats_new(NULL, ret);
	}
	if (r < 0) {
		log_err("out of memory");
		return r;
	}
	stats_text(*ret, TEXT_proc_program, "vsockfs " VSOCKFS_VERSION);
	stats_text(*ret, TEXT_mount_point, s->mountpoint);
	if (outlive != NULL)
		stats_add(*ret, STAT_client_restarts, outlive->restarts);
	stats_text(*ret, TEXT_mount_source, s->fsname != NULL ? s->fsname : s->source);
	return 0;
}

static uint64_t or_default(uint64_t timeout, uint64_t unset)
{
	return timeout == TIMEOUT_UNSET ? unset : timeout;
}

static struct cache_times cache_times(const struct mount_settings *s, uint64_t unset)
{
	return (struct cache_times){
		.attr = or_default(s->attr_timeout, unset),
		.entry = or_default(s->entry_timeout, unset),
		.negative = or_default(s->negative_timeout, unset),
		.dir = or_default(s->dir_timeout, unset),
	};
}

/* Why an option cannot be had of this server; NULL: all can. */
static const char *missing(const struct mount_settings *s, struct cache *cache)
{
	if (s->no_open && !cache_leased(cache))
		return "no_open needs a server that tells of changes, and this one does not";
	if (s->acl && !cache_backend(cache)->info.acl)
		return "acl needs a server that passes ACLs on, and this one does not";
	return NULL;
}

/* 0, 1 after what was connected failed, or -1 if nothing ever was. */
static int connect_and_run(const struct mount_settings *s, const struct endpoint *e,
			   struct stats *stats)
{
	/* Until there is a mount to stop; the signal stays pending. */
	CLEANUP_CLOSE int stop_fd = signalfd(-1, &s->signals, SFD_CLOEXEC);
	struct connect_options connect = {
		.proto = (enum proto)s->proto,
		.needs = extended_only(s) != NULL	      ? extended_only(s)
			 : strncmp(s->source, "dir:", 4) == 0 ? "dir:"
							      : NULL,
		.timeout_ms = s->connect_timeout / 1000000,
		.stop_fd = stop_fd,
		.send_queue = s->send_queue,
		.plain_base = s->plain_base != NULL ? s->plain_base : s->mountpoint,
		.uid = s->uid != ID_UNSET ? (uint32_t)s->uid : geteuid(),
		.gid = s->gid != ID_UNSET ? (uint32_t)s->gid : getegid(),
		/* who mounts for himself alone may do what the server lets him do */
		.owner_fixed = s->uid != ID_UNSET || geteuid() != 0,
		.resume = s->reconnect != 0,
		.timeo_ms = s->soft ? s->timeo / 1000000 : 0,
		.push = s->cache == CACHE_LEASE,
		.keep_files = s->cache == CACHE_LEASE,
		.acl = s->acl,
		.secret = s->secret_file != NULL ? &s->secret : NULL,
		.stats = stats,
	};
	struct cache_options options = {
		.lease = s->lease,
		.page_budget = s->page_cache,
		.node_budget = s->node_cache,
		.list_after = s->list_after,
		.no_open = s->no_open,
		.stats = stats,
	};
	if (s->cache != CACHE_NONE)
		options.ttl = cache_times(s, TIMEOUT_TTL);
	if (s->cache == CACHE_LEASE)
		options.cap = cache_times(s, TIMEOUT_CAP);
	struct backend *backend;
	struct cache *cache;
	char err[512];
	int result = 1;

	if (s->supervised.takes_over) {
		if (transport_take_over(&connect, &backend) < 0) {
			log_err("out of memory");
			return 1;
		}
	} else if (transport_connect(e, &connect, &backend, err, sizeof(err)) < 0) {
		char where[ENDPOINT_TEXT_MAX];

		endpoint_text(e, where, sizeof(where));
		log_err("%s: %s", e->kind == ENDPOINT_VSOCK ? where : s->source, err);
		return -1;
	}
	if (cache_new(backend, &options, &cache) == 0) {
		const char *why = missing(s, cache);

		if (why == NULL) {
			result = run_mount(s, cache, e, &connect, stats);
		} else {
			log_err("%s", why);
			backend->ops->shutdown(backend);
		}
		cache_free(cache);
	} else {
		log_err("out of memory");
		backend->ops->shutdown(backend);
	}
	backend->ops->free(backend);
	return result;
}

/* The parent's proof that the mount answers: a request of its own. */
static int mount_answers(void *arg)
{
	const struct mount_settings *s = arg;
	struct stat st;

	if (stat(s->mountpoint, &st) == 0)
		return 0;
	log_err("%s: mounted, but it does not answer: %m", s->mountpoint);
	return -1;
}

/* In the place of another client nothing is looked up in the mount, where nobody would answer. */
static int find_mountpoint(struct mount_settings *s)
{
	char absolute[PATH_MAX];
	struct stat st;

	if (s->supervised.takes_over) {
		(void)copy_text(s->mountpoint, sizeof(s->mountpoint), outlive->mountpoint);
		return 0;
	}
	if (realpath(s->mountpoint, absolute) == NULL || stat(absolute, &st) < 0) {
		log_err("%s: %m", s->mountpoint);
		return -1;
	}
	if (!S_ISDIR(st.st_mode)) {
		log_err("%s: not a directory", s->mountpoint);
		return -1;
	}
	(void)copy_text(s->mountpoint, sizeof(s->mountpoint), absolute);
	if (outlive != NULL)
		(void)copy_text(outlive->mountpoint, sizeof(outlive->mountpoint), absolute);
	return 0;
}

/* Why a mount cannot be supervised; NULL: it can. */
static const char *not_supervised(const struct mount_settings *s, const struct endpoint *e)
{
	const char *why = NULL;

	if (s->no_open)
		return "with no_open nobody knows what is open";
	if (s->proto == PROTO_PLAIN || !s->reconnect || e->kind == ENDPOINT_FD ||
	    e->kind == ENDPOINT_DIR)
		return "there is no session that could go on";
	return supervise_possible(&why) ? NULL : why;
}

static int run(char **argv, struct mount_settings *s)
{
	struct endpoint e;
	char err[512];
	struct stats *stats;
	pid_t server = -1;

	if (endpoint_parse(s->source, false, &e, err, sizeof(err)) < 0)
		return usage_error("%s", err);
	if (endpoint_check(&e, err, sizeof(err)) < 0) {
		log_err("%s: %s", s->source, err);
		return 1;
	}
	if (s->secret_file != NULL && e.kind == ENDPOINT_DIR)
		return usage_error("%s", "option secret_file: the server of dir: is our own");
	if (s->secret_file != NULL &&
	    secret_read(s->secret_file, &s->secret, err, sizeof(err)) < 0) {
		log_err("%s", err);
		return 1;
	}
	if (find_mountpoint(s) < 0)
		return 1;
	if (s->fake)
		return 0;

	sigset_t signals;
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGHUP);

	if (s->supervise && !s->supervised.is) {
		const char *why = not_supervised(s, &e);

		if (why != NULL)
			return usage_error("option supervise: %s", why);
		background_start(s->foreground, mount_answers, s);
		return supervise(argv, s->mountpoint, background_ready);
	}
	background_start(s->foreground || s->supervised.is, mount_answers, s);
	(void)signal(SIGPIPE, SIG_IGN);
	if (e.kind == ENDPOINT_DIR) {
		if (start_embedded(s, &e, &e.fd, &server) < 0)
			return 1;
		e.kind = ENDPOINT_FD;
	}
	int r = make_stats(s, &stats);
	if (r < 0)
		return 1;
	(void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
	s->signals = signals;
	r = connect_and_run(s, &e, stats);
	stats_text(stats, TEXT_conn_state, "ended");
	stats_free(stats);
	if (server > 0) {
		(void)close(e.fd);
		/* One that never answered may hang on a file system that is not there: it is
		   not waited for. */
		if (r < 0)
			(void)kill(server, SIGKILL);
		else
			(void)waitpid(server, NULL, 0);
	}
	return r != 0;
}

int main(int argc, char **argv)
{
	static struct mount_settings s = {
		.cache = CACHE_LEASE,
		.locks = LOCKS_UNSET,
		.attr_timeout = TIMEOUT_UNSET,
		.entry_timeout = TIMEOUT_UNSET,
		.negative_timeout = TIMEOUT_UNSET,
		.dir_timeout = TIMEOUT_UNSET,
		.lease = UINT64_C(10000000000),
		.page_cache = 64u << 20,
		.node_cache = 262144,
		.list_after = 2,
		.connect_timeout = UINT64_C(10) * 1000000000,
		.timeo = UINT64_C(60) * 1000000000,
		.reconnect = 1,
		.readahead = 1 << 20,
		.max_background = 64,
		.send_queue = 64 << 20,
		.uid = ID_UNSET,
		.gid = ID_UNSET,
	};
	char *list;

	if (argc > 0 && strcmp(argv[0], WATCHDOG_NAME) == 0)
		return watchdog_main(argc, argv);
	log_init("vsockfs", LOG_NOTICE);
	if (!supervised_begin(&s.supervised))
		return 1;
	s.allow_other = geteuid() == 0;
	int r = parse_arguments(&s, argc, argv, &list);
	if (r == 0) {
		if (s.debug)
			log_init("vsockfs", LOG_DEBUG);
		else if (s.log_level != NULL)
			log_init("vsockfs", log_level_parse(s.log_level));
		r = !s.remount ? run(argv, &s) : s.fake ? 0 : remount(s.mountpoint, list);
	}
	free(list);
	return r < 0 ? 0 : r;
}
