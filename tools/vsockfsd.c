/*
 * vsockfsd: serves a host directory to vsockfs in guests.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/options.h"
#include "core/stats.h"
#include "host/creds.h"
#include "host/server.h"
#include "host/state.h"
#include "plain_host/plain_host.h"
#include "transport/endpoint.h"

enum { EXIT_USAGE = 2 };

#define LISTEN_MAX 16

struct settings {
	/* of the table */
	const char *listen; /* the last one */
	const char *plain_prefix, *pidfile, *squash, *state_dir, *stats, *log_level;
	int xdev, plain_links;
	uint64_t session_grace, ack_timeout; /* ns */
	bool read_only, special, no_setid, help, version;
	/* the rest */
	const char *dir;
	uid_t squash_uid;
	gid_t squash_gid;
	struct endpoint endpoints[LISTEN_MAX];
	size_t n_endpoints;
	sigset_t signals; /* that end the server; blocked */
};

static const struct option_spec options[] = {
#define SERVER_OPTION(name, kind, member, values, max, default_text, text)                         \
	{name, OPTION_##kind, offsetof(struct settings, member), values, max, default_text, text},
#include "vsockfsd_options.def"
#undef SERVER_OPTION
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static void usage(FILE *f)
{
	(void)fprintf(f, "usage: vsockfsd --listen ADDR [--listen ADDR...] [option...] DIR\n"
			 "\n"
			 "Serves the directory DIR to vsockfs clients.\n"
			 "\n"
			 "ADDR:\n"
			 "    unix:PATH           a Unix socket, for its owner only\n"
			 "    vsock:[CID:]PORT    a vsock port; without CID, of every one\n"
			 "    fd:N                an inherited socket, listening or connected\n"
			 "\n"
			 "Options:\n");
	options_help(options, OPTIONS, f);
}

/* ---- the command line ---- */

static int take_listen(struct settings *s, char *err, size_t err_len)
{
	if (s->n_endpoints == LISTEN_MAX) {
		(void)snprintf(err, err_len, "more than %d --listen", LISTEN_MAX);
		return -EINVAL;
	}
	int r = endpoint_parse(s->listen, true, &s->endpoints[s->n_endpoints], err, err_len);
	if (r == 0)
		s->n_endpoints++;
	return r;
}

/* Digits, and nothing behind them but end; false for what is no id. */
static bool take_id(const char **at, char end, uint32_t *ret)
{
	char *rest;

	if (**at < '0' || **at > '9')
		return false;
	errno = 0;
	unsigned long v = strtoul(*at, &rest, 10);
	if (errno != 0 || v >= UINT32_MAX || *rest != end)
		return false;
	*at = rest + 1;
	*ret = (uint32_t)v;
	return true;
}

static bool take_squash(struct settings *s)
{
	const char *at = s->squash;

	return at == NULL ||
	       (take_id(&at, ':', &s->squash_uid) && take_id(&at, '\0', &s->squash_gid));
}

static int parse(struct settings *s, int argc, char **argv, char *err, size_t err_len)
{
	struct option longs[OPTIONS + 1] = {0};
	int i, r;

	for (size_t k = 0; k < OPTIONS; k++)
		longs[k] =
			(struct option){options[k].name + 2, /* without "--" */
					options[k].values != NULL ? required_argument : no_argument,
					NULL, 0x100 + (int)k};
	opterr = 0;
	while ((i = getopt_long(argc, argv, ":hV", longs, NULL)) != -1) {
		if (i == 'h' || i == 'V') {
			*(i == 'h' ? &s->help : &s->version) = true;
			continue;
		}
		if (i < 0x100) {
			(void)snprintf(err, err_len, "option '%s' %s", argv[optind - 1],
				       i == ':' ? "needs a value"
						: "is unknown, ambiguous or takes no value");
			return -EINVAL;
		}
		r = option_set(&options[i - 0x100], optarg, s, err, err_len);
		if (r == 0 && optarg != NULL && s->listen == optarg) {
			r = take_listen(s, err, err_len);
			s->listen = NULL;
		}
		if (r < 0)
			return r;
	}
	if (s->help || s->version)
		return 0;
	r = -EINVAL;
	if (log_level_parse(s->log_level) < 0)
		(void)snprintf(err, err_len, "--log-level '%s' is no level", s->log_level);
	else if (s->plain_prefix[0] != '/')
		(void)snprintf(err, err_len, "--plain-prefix '%s' is no absolute path",
			       s->plain_prefix);
	else if (!take_squash(s))
		(void)snprintf(err, err_len, "--squash '%s' is not U:G, two numbers", s->squash);
	else if (argc - optind != 1)
		(void)snprintf(err, err_len,
			       optind == argc ? "which directory to serve is missing"
					      : "unexpected operand '%s'",
			       argv[argc - 1]);
	else if (s->n_endpoints == 0)
		(void)snprintf(err, err_len, "--listen is missing");
	else
		r = 0;
	s->dir = argv[optind];
	return r;
}

/* ---- what is inherited ---- */

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/*
 * Of what whoever started us had open nothing stays but the standard streams and the sockets that
 * are named: a guest that takes this process over finds nothing else in it. Before anything is
 * opened here, for then a number that is named and closed is nobody's.
 */
static int take_inherited(const struct settings *s, char *err, size_t err_len)
{
	char where[ENDPOINT_TEXT_MAX], why[128];
	int fds[LISTEN_MAX];
	unsigned next = 3;
	size_t n = 0;

	for (size_t i = 0; i < s->n_endpoints; i++) {
		int r = endpoint_check(&s->endpoints[i], why, sizeof(why));

		if (r < 0) {
			endpoint_text(&s->endpoints[i], where, sizeof(where));
			(void)snprintf(err, err_len, "%.200s: %s", where, why);
			return r;
		}
		if (s->endpoints[i].kind == ENDPOINT_FD)
			fds[n++] = s->endpoints[i].fd;
	}
	qsort(fds, n, sizeof(*fds), compare_fds);
	for (size_t i = 0; i < n; i++) {
		if ((unsigned)fds[i] > next)
			(void)close_range(next, (unsigned)fds[i] - 1, 0);
		if ((unsigned)fds[i] >= next)
			next = (unsigned)fds[i] + 1;
	}
	(void)close_range(next, ~0u, 0);
	return 0;
}

/* ---- listening ---- */

/* The sockets that are to be removed at the end, if they are still ours. */
struct sockets {
	struct {
		const char *path;
		dev_t dev;
		ino_t ino;
	} socket[LISTEN_MAX];
	size_t n;
};

static void remember_socket(struct sockets *k, const struct endpoint *e)
{
	struct stat st;

	if (e->kind != ENDPOINT_UNIX || stat(e->path, &st) < 0)
		return;
	k->socket[k->n].path = e->path;
	k->socket[k->n].dev = st.st_dev;
	k->socket[k->n].ino = st.st_ino;
	k->n++;
}

static void remove_sockets(const struct sockets *k)
{
	struct stat st;

	/* Another server may have replaced it meanwhile. */
	for (size_t i = 0; i < k->n; i++)
		if (stat(k->socket[i].path, &st) == 0 && st.st_dev == k->socket[i].dev &&
		    st.st_ino == k->socket[i].ino)
			(void)unlink(k->socket[i].path);
}

/* *ret_once: every socket is connected already: the end of their clients is ours. */
static int listen_all(struct server *server, const struct settings *s, struct sockets *k,
		      bool *ret_once, char *err, size_t err_len)
{
	*ret_once = true;
	for (size_t i = 0; i < s->n_endpoints; i++) {
		bool connected = false;
		int fd;

		char where[ENDPOINT_TEXT_MAX], why[256];

		int r = endpoint_listen(&s->endpoints[i], &fd, &connected, why, sizeof(why));
		if (r < 0) {
			endpoint_text(&s->endpoints[i], where, sizeof(where));
			(void)snprintf(err, err_len, "%.200s: %s", where, why);
			return r;
		}
		remember_socket(k, &s->endpoints[i]);
		r = connected ? server_add(server, fd) : server_listen(server, fd);
		if (r < 0) {
			(void)snprintf(err, err_len, "cannot serve: %s", strerror(-r));
			return r;
		}
		*ret_once = *ret_once && connected;
	}
	return 0;
}

/* A link that somebody has put there is not followed, nor is another file's further name. */
static int open_pidfile(const char *path)
{
	CLEANUP_CLOSE int fd = open(
		path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_nlink > 1)
		return S_ISREG(st.st_mode) ? -EMLINK : -EINVAL;
	return ftruncate(fd, 0) < 0 || fchmod(fd, 0644) < 0 ? -errno : take_fd(&fd);
}

static int write_pidfile(const char *path, char *err, size_t err_len)
{
	CLEANUP_CLOSE int fd = open_pidfile(path);
	int r = fd < 0 ? fd : dprintf(fd, "%d\n", (int)getpid()) < 0 ? -errno : 0;

	if (r < 0)
		(void)snprintf(err, err_len, "cannot write the pidfile '%s': %s", path,
			       r == -ELOOP    ? "it is a symbolic link"
			       : r == -EMLINK ? "the file has other names"
					      : strerror(-r));
	return r;
}

/* ---- running ---- */

struct stopper {
	struct server *server;
	sigset_t signals; /* blocked in every thread */
};

static void *stopper_main(void *arg)
{
	struct stopper *s = arg;
	int sig;

	if (sigwait(&s->signals, &sig) == 0)
		server_stop(s->server);
	return NULL;
}

/* What an untrusted guest could leave for others on the host to fall for. */
static void warn_of_plants(const struct settings *s)
{
	if (!creds_privileged() || s->read_only || s->squash != NULL)
		return;
	if (!s->no_setid)
		log_notice("guests can make set-user-ID files of any owner in '%s'%s; "
			   "--no-setid or --squash=U:G forbids it",
			   s->dir, s->special ? ", and device nodes" : "");
	else if (s->special)
		log_notice("guests can make device nodes in '%s'; --squash=U:G forbids it", s->dir);
}

static int serve(const struct settings *s, struct server *server, char *err, size_t err_len)
{
	struct stopper stopper = {.server = server};
	struct sockets sockets = {0};
	pthread_t thread;
	bool once, pidfile = false;

	stopper.signals = s->signals;
	int r = listen_all(server, s, &sockets, &once, err, err_len);
	if (r == 0 && s->pidfile != NULL) {
		r = write_pidfile(s->pidfile, err, err_len);
		pidfile = r == 0;
	}
	if (r == 0) {
		r = -pthread_create(&thread, NULL, stopper_main, &stopper);
		if (r < 0)
			(void)snprintf(err, err_len, "cannot start: %s", strerror(-r));
	}
	if (r == 0) {
		warn_of_plants(s);
		(void)sd_notify(0, "READY=1");
		r = server_run(server, once);
		if (r < 0)
			(void)snprintf(err, err_len, "cannot accept clients: %s", strerror(-r));
		(void)sd_notify(0, "STOPPING=1");
		(void)pthread_kill(thread, SIGTERM); /* ends sigwait, if nothing has yet */
		(void)pthread_join(thread, NULL);
	}
	remove_sockets(&sockets);
	if (pidfile)
		(void)unlink(s->pidfile);
	return r;
}

/* That nobody can watch is no reason not to serve, unless a file was asked for. */
static int make_stats(const struct settings *s, struct stats **ret, char *err, size_t err_len)
{
	int r = s->stats != NULL ? stats_new_side(s->stats, STATS_SERVER, ret)
				 : stats_new_default(STATS_SERVER, ret);

	if (r < 0 && s->stats != NULL) {
		(void)snprintf(err, err_len, "%s: %s", s->stats, strerror(-r));
		return r;
	}
	if (r < 0) {
		/* ENOENT: an ordinary user without a directory for such files */
		log_line(r == -ENOENT ? LOG_INFO : LOG_WARNING, "no statistics for vfsstat: %s",
			 strerror(-r));
		*ret = NULL;
	}
	stats_text(*ret, TEXT_proc_program, "vsockfsd " VSOCKFS_VERSION);
	stats_text(*ret, TEXT_server_directory, s->dir);
	return 0;
}

/* The folder where the sessions are kept; false if an ordinary user has none. */
static bool state_folder(const struct settings *s, char *ret, size_t len)
{
	const char *home = getenv("XDG_STATE_HOME"), *user = getenv("HOME");
	int n;

	if (s->state_dir != NULL)
		n = snprintf(ret, len, "%s", s->state_dir);
	else if (geteuid() == 0)
		n = snprintf(ret, len, "/var/lib/vsockfsd");
	else if (home != NULL && home[0] == '/')
		n = snprintf(ret, len, "%s/vsockfsd", home);
	else if (user != NULL && user[0] == '/')
		n = snprintf(ret, len, "%s/.local/state/vsockfsd", user);
	else
		return false;
	return n > 0 && (size_t)n < len;
}

/* That sessions end with the server is no reason not to serve, unless a folder was asked for. */
static int open_state(const struct settings *s, struct state **ret, char *err, size_t err_len)
{
	char dir[4096], export[4096], listener[ENDPOINT_TEXT_MAX];

	if ((s->state_dir != NULL && strcmp(s->state_dir, "none") == 0) ||
	    s->endpoints[0].kind == ENDPOINT_FD || realpath(s->dir, export) == NULL)
		return 0;
	endpoint_text(&s->endpoints[0], listener, sizeof(listener));
	if (!state_folder(s, dir, sizeof(dir)))
		return 0;
	int r = state_open(dir, export, listener, ret, err, err_len);
	if (r == 0 || s->state_dir != NULL)
		return r;
	log_info("sessions end with this server: %s", err);
	return 0;
}

int main(int argc, char **argv)
{
	struct settings s = {.plain_prefix = "/workspace",
			     .log_level = "notice",
			     .session_grace = UINT64_C(60) * 1000000000,
			     .ack_timeout = UINT64_C(10) * 1000000000};
	struct server *server;
	char err[512] = "";

	log_init("vsockfsd", LOG_NOTICE);
	int r = parse(&s, argc, argv, err, sizeof(err));
	if (r < 0) {
		log_err("%s; see --help", err);
		return EXIT_USAGE;
	}
	if (s.help) {
		usage(stdout);
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	if (s.version) {
		(void)printf("vsockfsd %s\n", VSOCKFS_VERSION);
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	log_init("vsockfsd", log_level_parse(s.log_level));
	struct stats *stats = NULL;
	r = take_inherited(&s, err, sizeof(err));
	/* before any thread is started */
	(void)sigemptyset(&s.signals);
	(void)sigaddset(&s.signals, SIGTERM);
	(void)sigaddset(&s.signals, SIGINT);
	(void)pthread_sigmask(SIG_BLOCK, &s.signals, NULL);
	if (r == 0)
		r = make_stats(&s, &stats, err, sizeof(err));
	struct state *state = NULL;
	if (r == 0)
		r = open_state(&s, &state, err, sizeof(err));
	const struct server_config config = {
		.dir = s.dir,
		.plain_prefix = s.plain_prefix,
		.plain = &plain_host,
		.plain_follow = s.plain_links == 1,
		.read_only = s.read_only,
		.special = s.special,
		.no_setid = s.no_setid,
		.squash = s.squash != NULL,
		.squash_uid = s.squash_uid,
		.squash_gid = s.squash_gid,
		.xdev = s.xdev == 1 ? XDEV_HIDE : XDEV_FOLLOW,
		.session_grace_ms = (unsigned)(s.session_grace / 1000000),
		.ack_ms = (unsigned)(s.ack_timeout / 1000000),
		.state = state,
		.stats = stats,
	};
	if (r == 0)
		r = server_new(&config, &server, err, sizeof(err));
	if (r == 0) {
		r = serve(&s, server, err, sizeof(err));
		server_free(server);
	}
	state_close(state);
	stats_free(stats);
	if (r < 0) {
		log_err("%s", err);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
