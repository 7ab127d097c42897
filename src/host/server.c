#include "host/server.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/stats.h"
#include "host/admit.h"
#include "host/connection.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/lock.h"
#include "host/promise.h"
#include "host/restore.h"
#include "host/session.h"
#include "host/sessions.h"
#include "host/state.h"
#include "host/turns.h"
#include "host/watch.h"

#define LISTENERS_MAX	   16
#define SESSIONS_MAX	   1024
#define SILENT_MS	   5000 /* a client says something within that, or may have to go */
#define SILENT_MAX	   64	/* that are on their way out */
#define ACCEPT_PAUSE_MS	   100
#define HEARTBEAT_MS	   1000
#define NODE_FDS_MAX	   32768
#define PLAIN_BYTES_SHARED ((size_t)512 << 20)
#define SOCKET_BYTES_SHARED                                                                        \
	((size_t)512 << 20) /* the other connections have what the system gives */
#define FDS_ENOUGH 8192	    /* with less, a build in a guest may run into the limit */

struct client {
	struct client *next;
	struct connection *connection;
	uint64_t peer; /* whoever is the same has the same: peer_of */
};

struct server {
	struct server_config config; /* the strings belong to the caller */
	struct host host;
	int listeners[LISTENERS_MAX];
	unsigned n_listeners; /* before server_run */
	int wake;	      /* eventfd: a client has gone, or server_stop */
	_Atomic bool stop;

	pthread_mutex_t mutex;
	/* mutex: */
	struct client *clients;
	unsigned n_clients;
	uint64_t last_client;
};

static void wake_up(struct server *s)
{
	uint64_t one = 1;

	if (write(s->wake, &one, sizeof(one)) < 0) {
		/* the counter has its largest value: the eventfd is readable */
	}
}

static void client_gone(void *arg)
{
	wake_up(arg);
}

/* Every node's descriptor, open file and lock takes one file descriptor. */
static size_t raise_fd_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return 1024;
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &rl);
	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur > 1u << 24)
		return 1u << 20;
	return rl.rlim_cur;
}

/* Numbers of the clients of one epoch mean the same: sessions that go on keep theirs. */
static int choose_epoch(struct server *s)
{
	struct host *h = &s->host;

	if (h->state == NULL)
		return getrandom(&h->epoch, sizeof(h->epoch), 0) < 0 ? -errno : 0;
	h->epoch = state_epoch(h->state);
	s->last_client = (state_generation(h->state) - 1) << 20;
	return 0;
}

static int setup(struct server *s, char *err, size_t err_len)
{
	size_t fds = raise_fd_limit();
	size_t node_fds = fds / 2 < NODE_FDS_MAX ? fds / 2 : NODE_FDS_MAX;
	size_t lock_fds = (fds - node_fds) / 5;
	if (fds < FDS_ENOUGH)
		log_warning("this process may open only %zu files: clients share %zu open files "
			    "and %zu locks",
			    fds, (fds - node_fds) / 5 * 3, lock_fds);
	int r = export_new(&s->config, &s->host.export, err, err_len);

	if (r < 0)
		return r;
	s->host.config = &s->config;
	/* A fifth is left for listings, sockets and files that are open for a moment. */
	share_pool_init(&s->host.handles.pool, (fds - node_fds) / 5 * 3);
	share_pool_init(&s->host.threads, TURNS_THREADS_SHARED);
	share_pool_init(&s->host.bytes, PLAIN_BYTES_SHARED);
	share_pool_init(&s->host.buffers, SOCKET_BYTES_SHARED);
	s->host.state = s->config.state;
	r = hnodes_new(s->host.export, node_fds, &s->host.nodes);
	if (r == 0)
		hnodes_use_state(s->host.nodes, s->host.state);
	if (r == 0)
		r = promises_new(s->host.nodes, s->config.ack_ms, s->config.nodes_max,
				 s->config.stats, &s->host.promises);
	if (r == 0)
		r = watch_new(s->host.export, s->host.nodes, s->host.promises, s->config.stats,
			      s->config.watch, &s->host.watch);
	if (r == 0)
		r = locks_new(s->host.export, s->host.nodes, lock_fds, &s->host.locks);
	if (r == 0)
		r = sessions_new(s->config.session_grace_ms,
				 s->config.session_lease_ms > 0 ? s->config.session_lease_ms
								: SESSION_LEASE_MS,
				 s->host.state, &s->host.sessions);
	if (r == 0)
		r = choose_epoch(s);
	if (r == 0) {
		s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = s->wake < 0 ? -errno : 0;
	}
	if (r == 0 && s->host.state != NULL)
		r = restore_sessions(&s->host);
	if (r < 0)
		(void)snprintf(err, err_len, "cannot start the server: %s", strerror(-r));
	return r;
}

int server_new(const struct server_config *config, struct server **ret, char *err, size_t err_len)
{
	struct server *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		(void)snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	s->config = *config;
	s->wake = -1;
	(void)pthread_mutex_init(&s->mutex, NULL);
	/* A file at its size limit, or a client that has gone, gives an error and does not end the
	 * process. */
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	int r = setup(s, err, err_len);
	if (r < 0) {
		server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* Frees the clients that have gone; all: asks the others to go and waits. */
static void reap(struct server *s, bool all)
{
	for (;;) {
		struct client *c;
		{
			SCOPE_LOCK(&s->mutex);
			struct client **at = &s->clients;

			while (*at != NULL && !all && !connection_finished((*at)->connection))
				at = &(*at)->next;
			c = *at;
			if (c == NULL)
				return;
			*at = c->next;
			s->n_clients--;
		}
		connection_free(c->connection);
		free(c);
	}
}

void server_free(struct server *s)
{
	if (s == NULL)
		return;
	for (struct client *c = s->clients; c != NULL; c = c->next)
		(void)connection_shutdown(c->connection);
	reap(s, true);
	state_freeze(s->host.state); /* the sessions may go on with another server */
	for (unsigned i = 0; i < s->n_listeners; i++)
		(void)close(s->listeners[i]);
	sessions_free(s->host.sessions);
	watch_free(s->host.watch);
	promises_free(s->host.promises);
	locks_free(s->host.locks);
	hnodes_free(s->host.nodes);
	export_free(s->host.export);
	cleanup_close(&s->wake);
	(void)pthread_mutex_destroy(&s->mutex);
	free(s);
}

/*
 * Who is at the other end: a guest, by its vsock address; else a user of the Unix socket on which
 * it was accepted, since each virtual machine monitor has one. 0: nobody knows.
 */
static uint64_t peer_of(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_un un;
		struct sockaddr_vm vm;
	} peer = {0}, own = {0};
	socklen_t peer_len = sizeof(peer), own_len = sizeof(own), len = sizeof(struct ucred);
	struct ucred cred = {0};

	if (getpeername(fd, &peer.any, &peer_len) < 0)
		return 0;
	if (peer.any.sa_family == AF_VSOCK)
		return hash_mix(peer.vm.svm_cid);
	if (peer.any.sa_family != AF_UNIX || getsockname(fd, &own.any, &own_len) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return 0;
	return hash_bytes(own.un.sun_path, sizeof(own.un.sun_path), cred.uid);
}

/* One may have as many connections as are left for all others. */
static bool has_share_locked(const struct server *s, uint64_t peer)
{
	unsigned n = 0;

	for (const struct client *c = s->clients; c != NULL; c = c->next)
		n += c->peer == peer && !connection_finished(c->connection);
	return s->n_clients < SESSIONS_MAX && n >= SESSIONS_MAX - s->n_clients;
}

/*
 * Where there is no room for another client, one goes that has connected and then said nothing:
 * so those cannot keep the others out. Of a peer that has its share, one of its own.
 */
static bool make_room_locked(const struct server *s, uint64_t peer)
{
	struct connection *found = NULL;
	bool own = has_share_locked(s, peer);

	if (s->n_clients < SESSIONS_MAX && !own)
		return true;
	for (const struct client *c = s->clients; c != NULL; c = c->next)
		if (!connection_finished(c->connection) && (!own || c->peer == peer) &&
		    (found == NULL || connection_silent(c->connection) > connection_silent(found)))
			found = c->connection;
	if (found == NULL || connection_silent(found) < SILENT_MS ||
	    s->n_clients >= SESSIONS_MAX + SILENT_MAX)
		return false;
	log_info("a client that has said nothing for %llu ms makes room for another one",
		 (unsigned long long)connection_silent(found));
	(void)connection_shutdown(found);
	return true;
}

static bool admits(const struct server *s, int fd)
{
	char who[ADMIT_TEXT_MAX];

	if (s->config.admit == NULL || admit_check(s->config.admit, fd, who) == 0)
		return true;
	log_warning("%s may not connect and is turned away", who);
	return false;
}

int server_add(struct server *s, int fd)
{
	CLEANUP_CLOSE int owned = fd;
	CLEANUP_FREE struct client *c = NULL;

	if (!admits(s, fd))
		return -EACCES;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return -ENOMEM;
	reap(s, false);
	c->peer = peer_of(owned);
	SCOPE_LOCK(&s->mutex);
	if (!make_room_locked(s, c->peer))
		return -EMFILE;
	int r = connection_new(&s->host, s->last_client + 1, take_fd(&owned), client_gone, s,
			       &c->connection);
	if (r < 0)
		return r;
	s->last_client++;
	c->next = s->clients;
	s->clients = TAKE_PTR(c);
	s->n_clients++;
	return 0;
}

int server_listen(struct server *s, int fd)
{
	if (s->n_listeners == LISTENERS_MAX) {
		(void)close(fd);
		return -EMFILE;
	}
	s->listeners[s->n_listeners++] = fd;
	return 0;
}

/* True if accepting should pause: no descriptors at the moment. */
static bool accept_one(struct server *s, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0) {
		/* Any other error concerns that one connection (accept(2)). */
		bool full =
			errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
		if (full)
			log_warning("cannot accept a client: %m");
		return full;
	}
	int r = server_add(s, fd);
	if (r < 0 && r != -EACCES)
		log_warning("a client is turned away: %s", strerror(-r));
	return false;
}

static bool have_clients(struct server *s)
{
	SCOPE_LOCK(&s->mutex);
	return s->n_clients > 0;
}

/* Sets the counters that are not counted event by event but read once in a while. */
static void sample(struct server *s)
{
	struct stats *stats = s->config.stats;

	if (stats == NULL)
		return;
	stats_set(stats, STAT_proc_heartbeat, stats_now());
	stats_set(stats, STAT_server_nodes, hnodes_count(s->host.nodes));
	stats_set(stats, STAT_server_away, sessions_away(s->host.sessions));
	stats_set(stats, STAT_server_files, atomic_load(&s->host.handles.pool.used));
}

/* Of two waits, of which -1 is for ever. */
static int sooner(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static int wait_ms(const struct server *s, bool paused)
{
	return paused ? ACCEPT_PAUSE_MS : s->config.stats != NULL ? HEARTBEAT_MS : -1;
}

int server_run(struct server *s, bool once)
{
	struct pollfd p[LISTENERS_MAX + 1];
	bool paused = false;

	while (!s->stop) {
		nfds_t n = 0;

		reap(s, false);
		if (once && !have_clients(s))
			return 0;
		p[n++] = (struct pollfd){.fd = s->wake, .events = POLLIN};
		for (unsigned i = 0; i < s->n_listeners && !paused; i++)
			p[n++] = (struct pollfd){.fd = s->listeners[i], .events = POLLIN};
		sample(s);
		int ready = poll(p, n, sooner(wait_ms(s, paused), sessions_tick(s->host.sessions)));
		if (ready < 0 && errno != EINTR)
			return -errno;
		paused = false;
		if (ready <= 0)
			continue;
		if (p[0].revents != 0) {
			uint64_t count;

			if (read(s->wake, &count, sizeof(count)) < 0) {
				/* the value does not matter: the eventfd only wakes this thread */
			}
		}
		for (nfds_t i = 1; i < n; i++)
			if (p[i].revents != 0 && accept_one(s, p[i].fd))
				paused = true;
	}
	return 0;
}

void server_stop(struct server *s)
{
	int saved = errno;

	s->stop = true;
	wake_up(s);
	errno = saved;
}
