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
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/options.h"
#include "core/stats.h"
#include "host/admit.h"
#include "host/creds.h"
#include "host/owners.h"
#include "host/sandbox.h"
#include "host/server.h"
#include "host/state.h"
#include "plain_host/plain_host.h"
#include "transport/endpoint.h"
#include "transport/secret.h"

#include "owner.h"
#include "ready.h"

enum { EXIT_USAGE = 2 };

#define LISTEN_MAX 16

struct settings {
	/* of the table */
	const char *listen, *allow, *map_uid, *map_gid; /* the last one of each */
	const char *socket_owner, *secret_file;
	uint64_t socket_mode;
	const char *plain_prefix, *pidfile, *squash, *state_dir, *stats, *log_level;
	int xdev, symlinks, plain_links, sandbox;
	uint64_t session_grace, ack_timeout; /* ns */
	bool read_only, special, no_setid, reserved_port, help, version;
	/* the rest */
	const char *dir;
	uid_t squash_uid;
	gid_t squash_gid;
	struct owners owners;
	struct admit admit;
	struct secret secret; /* with secret_file */
	struct socket_file socket_file;
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

static int take_allow(struct settings *s, char *err, size_t err_len)
{
	char why[128];
	int r = admit_parse(&s->admit, s->allow, why, sizeof(why));

	if (r < 0)
		(void)snprintf(err, err_len, "--allow: %s", why);
	return r;
}

static int take_range(struct id_ranges *ranges, const char *option, const char *text, char *err,
		      size_t err_len)
{
	char why[256];
	int r = id_ranges_parse(ranges, text, why, sizeof(why));

	if (r < 0)
		(void)snprintf(err, err_len, "%s: %s", option, why);
	return r;
}

/* Options that may be given several times are taken as they come. */
static int take_repeated(struct settings *s, char *err, size_t err_len)
{
	int r = s->listen != NULL  ? take_listen(s, err, err_len)
		: s->allow != NULL ? take_allow(s, err, err_len)
				   : 0;

	if (s->map_uid != NULL)
		r = take_range(&s->owners.uid, "--map-uid", s->map_uid, err, err_len);
	if (s->map_gid != NULL)
		r = take_range(&s->owners.gid, "--map-gid", s->map_gid, err, err_len);
	s->listen = s->allow = s->map_uid = s->map_gid = NULL;
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

static bool maps(const struct settings *s)
{
	return s->owners.uid.n > 0 || s->owners.gid.n > 0;
}

static bool take_socket_file(struct settings *s)
{
	struct socket_file *f = &s->socket_file;

	*f = (struct socket_file){(mode_t)s->socket_mode, (uid_t)-1, (gid_t)-1};
	return s->socket_owner == NULL || owner_parse(s->socket_owner, &f->uid, &f->gid);
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
		if (r == 0)
			r = take_repeated(s, err, err_len);
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
	else if (s->squash != NULL && maps(s))
		(void)snprintf(err, err_len,
			       "--squash and --map-uid or --map-gid exclude each other");
	else if (!take_socket_file(s))
		(void)snprintf(err, err_len, "--socket-owner '%s': no such user or group",
			       s->socket_owner);
	else if (argc - optind != 1)
		(void)snprintf(err, err_len,
			       optind == argc ? "which directory to serve is missing"
					      : "unexpected operand '%s'",
			       argv[argc - 1]);
	else if (s->n_endpoints == 0)
		(void)snprintf(err, err_len, "--listen is missing");
	else
		r = 0;
	s->admit.reserved_port = s->reserved_port;
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

/* Descriptors that are opened before the server is confined, and removed or told at its end. */
struct outside {
	int socket[LISTEN_MAX]; /* -1: none */
	bool connected[LISTEN_MAX];
	int pidfile, ready;
	struct state *state;
};

static void outside_done(struct outside *o)
{
	state_close(o->state);
	for (size_t i = 0; i < LISTEN_MAX; i++)
		cleanup_close(&o->socket[i]);
	cleanup_close(&o->pidfile);
	cleanup_close(&o->ready);
}

static int listen_all(const struct settings *s, struct sandbox *box, struct outside *o, char *err,
		      size_t err_len)
{
	char where[ENDPOINT_TEXT_MAX], why[256];

	for (size_t i = 0; i < s->n_endpoints; i++) {
		const struct endpoint *e = &s->endpoints[i];
		int r = endpoint_listen(e, &s->socket_file, &o->socket[i], &o->connected[i], why,
					sizeof(why));

		if (r == 0 && e->kind == ENDPOINT_UNIX) {
			r = sandbox_leave(box, e->path);
			if (r < 0)
				(void)snprintf(why, sizeof(why), "%s", strerror(-r));
		}
		if (r < 0) {
			endpoint_text(e, where, sizeof(where));
			(void)snprintf(err, err_len, "%.200s: %s", where, why);
			return r;
		}
	}
	return 0;
}

/* *ret_once: every socket is connected already: the end of their clients is ours. */
static int hand_over(struct server *server, struct outside *o, bool *ret_once, char *err,
		     size_t err_len)
{
	*ret_once = true;
	for (size_t i = 0; i < LISTEN_MAX; i++) {
		if (o->socket[i] < 0)
			continue;
		int fd = take_fd(&o->socket[i]);
		int r = o->connected[i] ? server_add(server, fd) : server_listen(server, fd);

		if (r < 0) { /* also the one peer that there is, if it may not connect */
			(void)snprintf(err, err_len, "cannot serve: %s", strerror(-r));
			return r;
		}
		*ret_once = *ret_once && o->connected[i];
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

/* Empty as yet: who waits for it waits for the number. */
static int make_pidfile(const char *path, struct sandbox *box, int *ret_fd, char *err,
			size_t err_len)
{
	CLEANUP_CLOSE int fd = open_pidfile(path);
	int r = fd < 0 ? fd : sandbox_leave(box, path);

	if (r < 0)
		(void)snprintf(err, err_len, "cannot write the pidfile '%s': %s", path,
			       r == -ELOOP    ? "it is a symbolic link"
			       : r == -EMLINK ? "the file has other names"
					      : strerror(-r));
	else
		*ret_fd = take_fd(&fd);
	return r;
}

static int write_pidfile(const struct settings *s, int fd, char *err, size_t err_len)
{
	if (fd < 0 || dprintf(fd, "%d\n", (int)getpid()) > 0)
		return 0;
	int r = -errno;
	(void)snprintf(err, err_len, "cannot write the pidfile '%s': %s", s->pidfile, strerror(-r));
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

/* Warns of files that an untrusted guest could leave for others on the host to fall for. */
static void warn_of_plants(const struct settings *s)
{
	if (!creds_privileged() || s->read_only || s->squash != NULL)
		return;
	if (!s->no_setid)
		log_notice("guests can make set-user-ID files of any owner%s in '%s'%s; "
			   "--no-setid or --squash=U:G forbids it",
			   s->owners.uid.n > 0 ? " that --map-uid names" : "", s->dir,
			   s->special ? ", and device nodes" : "");
	else if (s->special)
		log_notice("guests can make device nodes in '%s'; --squash=U:G forbids it", s->dir);
}

/* Of a guest of vsock each user, and each program, can speak with this server. */
static void warn_of_peers(const struct settings *s)
{
	for (size_t i = 0; i < s->n_endpoints; i++)
		if (s->endpoints[i].kind == ENDPOINT_VSOCK && !s->reserved_port) {
			log_notice("every user of %s may connect by vsock; --reserved-port admits "
				   "root alone%s",
				   s->admit.n > 0 ? "the guests that --allow names" : "every guest",
				   s->admit.n > 0 ? "" : ", --allow=cid:N one guest");
			return;
		}
}

static void say_what_holds(const struct settings *s, const struct sandbox *box)
{
	char text[SANDBOX_TEXT_MAX];

	sandbox_text(box, text);
	log_notice("%s", text);
	warn_of_plants(s);
	warn_of_peers(s);
}

static int serve(const struct settings *s, struct sandbox *box, struct outside *o,
		 struct server *server, char *err, size_t err_len)
{
	struct stopper stopper = {.server = server, .signals = s->signals};
	pthread_t thread;
	bool once;

	int r = hand_over(server, o, &once, err, err_len);
	if (r == 0) {
		r = -pthread_create(&thread, NULL, stopper_main, &stopper);
		if (r < 0)
			(void)snprintf(err, err_len, "cannot start: %s", strerror(-r));
	}
	if (r < 0)
		return r;
	say_what_holds(s, box);
	r = write_pidfile(s, o->pidfile, err, err_len);
	cleanup_close(&o->pidfile);
	o->pidfile = -1;
	if (r == 0) {
		ready_tell(o->ready, "READY=1");
		r = server_run(server, once);
		if (r < 0)
			(void)snprintf(err, err_len, "cannot accept clients: %s", strerror(-r));
		ready_tell(o->ready, "STOPPING=1");
	}
	(void)pthread_kill(thread, SIGTERM); /* ends sigwait, if nothing has yet */
	(void)pthread_join(thread, NULL);
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
	const char *unit = getenv("STATE_DIRECTORY"); /* systemd.exec(5): one, or more with ":" */
	int n;

	if (s->state_dir != NULL)
		n = snprintf(ret, len, "%s", s->state_dir);
	else if (unit != NULL && unit[0] == '/')
		n = snprintf(ret, len, "%.*s", (int)strcspn(unit, ":"), unit);
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
	int r = state_open(dir, export, listener, STATE_WAIT_MS, ret, err, err_len);
	if (r == 0 || s->state_dir != NULL)
		return r;
	log_info("sessions end with this server: %s", err);
	return 0;
}

/* Everything that lies outside of the export is opened here. */
static int prepare(struct settings *s, struct sandbox *box, struct outside *o,
		   struct stats **ret_stats, char *err, size_t err_len)
{
	int r = s->secret_file != NULL ? secret_read(s->secret_file, &s->secret, err, err_len) : 0;

	if (r == 0)
		r = make_stats(s, ret_stats, err, err_len);
	if (r == 0 && *ret_stats != NULL && s->stats == NULL)
		(void)sandbox_leave(box, stats_path(*ret_stats));
	if (r == 0)
		r = listen_all(s, box, o, err, err_len);
	if (r == 0 && s->pidfile != NULL)
		r = make_pidfile(s->pidfile, box, &o->pidfile, err, err_len);
	if (r == 0)
		r = open_state(s, &o->state, err, err_len);
	o->ready = ready_open();
	return r < 0 ? r : sandbox_enter(box, err, err_len);
}

static int run(const struct settings *s, struct sandbox *box, struct outside *o,
	       struct stats *stats, char *err, size_t err_len)
{
	struct server *server;
	const struct server_config config = {
		.dir = sandbox_dir(box),
		.plain_prefix = s->plain_prefix,
		.plain = &plain_host,
		.plain_follow = s->plain_links == 1,
		.read_only = s->read_only,
		.special = s->special,
		.no_setid = s->no_setid,
		.squash = s->squash != NULL,
		.squash_uid = s->squash_uid,
		.squash_gid = s->squash_gid,
		.owners = maps(s) ? &s->owners : NULL,
		.admit = &s->admit,
		.secret = s->secret_file != NULL ? &s->secret : NULL,
		.xdev = s->xdev == 1 ? XDEV_HIDE : XDEV_FOLLOW,
		.symlinks = (enum symlinks)s->symlinks,
		.privileged = sandbox_privileged(box),
		.confined = sandbox_confines(box),
		.session_grace_ms = (unsigned)(s->session_grace / 1000000),
		.ack_ms = (unsigned)(s->ack_timeout / 1000000),
		.state = o->state,
		.stats = stats,
		.watch = sandbox_watch(box),
	};
	int r = server_new(&config, &server, err, err_len);

	if (r < 0)
		return r;
	r = serve(s, box, o, server, err, err_len);
	server_free(server);
	return r;
}

/* Before any thread is started: the one that stops the server takes these signals. */
static void block_signals(struct settings *s)
{
	(void)sigemptyset(&s->signals);
	(void)sigaddset(&s->signals, SIGTERM);
	(void)sigaddset(&s->signals, SIGINT);
	(void)pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
}

static int serve_directory(struct settings *s)
{
	const struct sandbox_options wanted = {
		.mode = (enum sandbox_mode)s->sandbox,
		.dir = s->dir,
		.read_only = s->read_only,
		.special = s->special,
	};
	struct outside outside = {.pidfile = -1, .ready = -1};
	struct sandbox *box = NULL;
	struct stats *stats = NULL;
	char err[512] = "";

	memset(outside.socket, 0xff, sizeof(outside.socket)); /* -1 */
	int r = take_inherited(s, err, sizeof(err));
	if (r == 0)
		r = sandbox_new(&wanted, &box, err, sizeof(err));
	block_signals(s);
	if (r == 0)
		r = prepare(s, box, &outside, &stats, err, sizeof(err));
	if (r == 0)
		r = run(s, box, &outside, stats, err, sizeof(err));
	outside_done(&outside);
	stats_free(stats);
	sandbox_free(box);
	if (r < 0)
		log_err("%s", err);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static struct settings s = {.plain_prefix = "/workspace",
				    .log_level = "notice",
				    .socket_mode = 0600,
				    .session_grace = UINT64_C(60) * 1000000000,
				    .ack_timeout = UINT64_C(10) * 1000000000};
	char err[512] = "";

	log_init("vsockfsd", LOG_NOTICE);
	if (parse(&s, argc, argv, err, sizeof(err)) < 0) {
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
	return serve_directory(&s);
}
