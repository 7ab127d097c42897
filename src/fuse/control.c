#include "fuse/control.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/outlive.h"
#include "fuse/fs_priv.h"
#include "fuse/trace.h"
#include "fuse/tuning.h"

#define CLIENTS_MAX   16
#define LINE_MAX_LEN  (64 * 1024)  /* of a request */
#define OUT_MAX	      (256 * 1024) /* what a peer has not read yet */
#define WORDS_MAX     1024
#define HEARTBEAT_MS  1000
#define LINES_AT_ONCE 512

struct peer {
	uint64_t id; /* 0: free */
	int fd;
	char *in, *out;
	size_t in_len, out_len;
	bool watches;
	uint64_t min;	   /* of its watch, ns */
	bool fences;	   /* waits for a fence, and reads no further request */
	bool closes, gone; /* when everything is sent; now */
};

/* A fence that a peer waits for. */
struct peer_sync {
	struct control *control;
	struct peer_sync *next;
	uint64_t peer;
	int err;
};

struct control {
	struct fs *fs;
	struct trace *trace;
	pthread_t thread;
	bool started;
	int listener, wake;
	char *path;
	atomic_bool stopping;
	bool to_log; /* trace on */
	uint64_t last_id;
	struct peer peers[CLIENTS_MAX];

	pthread_mutex_t lock;	  /* the fields below */
	struct peer_sync *synced; /* fences that were answered */
};

static void wake_up(struct control *c)
{
	uint64_t one = 1;

	if (write(c->wake, &one, sizeof(one)) < 0) {
		/* the counter is full: it is readable */
	}
}

/* ---- answering ---- */

/* Puts text into what the peer is to get; false without room. */
static bool put(struct peer *p, const char *text, size_t len)
{
	if (p->out_len + len > OUT_MAX)
		return false;
	memcpy(p->out + p->out_len, text, len);
	p->out_len += len;
	return true;
}

static bool say(struct peer *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool say(struct peer *p, const char *fmt, ...)
{
	char line[2 * PATH_MAX];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return false;
	if ((size_t)n > sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	return put(p, line, (size_t)n);
}

static void send_out(struct peer *p)
{
	while (p->out_len > 0) {
		ssize_t n = send(p->fd, p->out, p->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			p->gone = true;
			return;
		}
		p->out_len -= (size_t)n;
		memmove(p->out, p->out + n, p->out_len);
	}
	p->gone = p->closes;
}

/* ---- the live log ---- */

static void update_wanted(struct control *c)
{
	uint64_t min = c->to_log ? 0 : UINT64_MAX;

	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (c->peers[i].id != 0 && c->peers[i].watches && c->peers[i].min < min)
			min = c->peers[i].min;
	trace_want(c->trace, min);
}

/* name in the directory of the line, or the directory's own path; "#5" for a node without one. */
static void line_path(struct control *c, const struct trace_line *l, char *buf, size_t len)
{
	char dir[PATH_MAX];

	if (!cache_path(c->fs->cache, l->answer.node, dir, sizeof(dir)))
		(void)snprintf(dir, sizeof(dir), "#%" PRIu64, l->answer.node);
	if (l->name[0] == '\0')
		(void)snprintf(buf, len, "%s", dir[0] != '\0' ? dir : ".");
	else
		(void)snprintf(buf, len, "%s%s%s", dir, dir[0] != '\0' ? "/" : "", l->name);
}

static void escape(const char *from, char *to, size_t len)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)from; *p != '\0' && n + 4 < len; p++) {
		if (*p > ' ' && *p < 0x7f && *p != '%') {
			to[n++] = (char)*p;
		} else {
			to[n++] = '%';
			to[n++] = hex[*p >> 4];
			to[n++] = hex[*p & 15];
		}
	}
	to[n] = '\0';
}

static void show_line(struct control *c, const struct trace_line *l)
{
	const struct stats_answer *a = &l->answer;
	char path[PATH_MAX + TRACE_NAME_MAX], escaped[PATH_MAX + TRACE_NAME_MAX];

	line_path(c, l, path, sizeof(path));
	escape(path, escaped, sizeof(escaped));
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct peer *p = &c->peers[i];

		if (p->id == 0 || !p->watches || a->ns < p->min)
			continue;
		if (!say(p,
			 "%" PRIu64 " %" PRIu32 " %" PRIu32 " %s %d %" PRIu64 " %" PRIu64
			 " %" PRIu64 " %" PRIu32 " %s",
			 l->when, a->uid, a->pid, stats_fuse_name(a->op), a->err, a->ns, a->wait,
			 a->rtt, a->rpcs, escaped))
			stats_add(c->fs->stats, STAT_trace_dropped, 1);
	}
	if (c->to_log)
		log_notice("trace: %s %s by pid %" PRIu32 ", uid %" PRIu32 ": %s, %" PRIu64
			   " us, %" PRIu32 " round trips",
			   stats_fuse_name(a->op), escaped, a->pid, a->uid,
			   a->err == 0 ? "ok" : strerror(a->err), a->ns / 1000, a->rpcs);
}

/* ---- requests ---- */

static void verb_get(struct control *c, struct peer *p, char **words, size_t n)
{
	char value[64];
	bool all = n == 0;

	for (size_t w = 0; w < n; w++) {
		size_t i = 0;

		while (tuning_name(i) != NULL && strcmp(tuning_name(i), words[w]) != 0)
			i++;
		if (tuning_get(c->fs, i, value, sizeof(value)) < 0) {
			(void)say(p, "error there is no setting '%s'", words[w]);
			return;
		}
		(void)say(p, "%s %s", words[w], value);
	}
	for (size_t i = 0; all && tuning_name(i) != NULL; i++)
		if (tuning_get(c->fs, i, value, sizeof(value)) == 0)
			(void)say(p, "%s %s", tuning_name(i), value);
	(void)say(p, "ok");
}

static void verb_set(struct control *c, struct peer *p, char **words, size_t n)
{
	char err[256];

	if (n == 0)
		(void)say(p, "error set what?");
	else if (tuning_set(c->fs, words, n, err, sizeof(err)) < 0)
		(void)say(p, "error %s", err);
	else
		(void)say(p, "ok");
}

/* %XX to its byte, in place; false if that is malformed. */
static bool unescape(char *p)
{
	char *to = p;

	while (*p != '\0') {
		unsigned v;

		if (*p != '%') {
			*to++ = *p++;
			continue;
		}
		if (sscanf(p + 1, "%2X", &v) != 1 || v == 0 || p[2] == '\0')
			return false;
		*to++ = (char)v;
		p += 3;
	}
	*to = '\0';
	return true;
}

static void verb_drop(struct control *c, struct peer *p, char **words, size_t n)
{
	bool everything = n == 1 && strcmp(words[0], "--everything") == 0;

	if (n == 0) {
		(void)say(p, "error drop what?");
		return;
	}
	if (everything)
		cache_drop(c->fs->cache, 0);
	for (size_t w = 0; w < n && !everything; w++) {
		uint64_t ino = 0;

		if (unescape(words[w]))
			ino = strcmp(words[w], ".") == 0 ? CACHE_ROOT
							 : cache_find_path(c->fs->cache, words[w]);
		/* what the cache does not know it does not keep */
		if (ino != 0)
			cache_drop(c->fs->cache, ino);
	}
	(void)say(p, "ok");
}

/* On whatever thread. */
static void sync_done(void *arg, int err, uint64_t seq)
{
	struct peer_sync *s = arg;
	struct control *c = s->control;

	(void)seq;
	s->err = err;
	SCOPE_LOCK(&c->lock);
	s->next = c->synced;
	c->synced = s;
	wake_up(c);
}

static void verb_sync(struct control *c, struct peer *p)
{
	struct peer_sync *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		(void)say(p, "error out of memory");
		return;
	}
	s->control = c;
	s->peer = p->id;
	p->fences = true;
	fs_fence_async(c->fs, sync_done, s);
}

static void finish_syncs(struct control *c)
{
	(void)pthread_mutex_lock(&c->lock);
	struct peer_sync *s = TAKE_PTR(c->synced);
	(void)pthread_mutex_unlock(&c->lock);
	while (s != NULL) {
		struct peer_sync *next = s->next;

		for (size_t i = 0; i < CLIENTS_MAX; i++) {
			struct peer *p = &c->peers[i];

			if (p->id != s->peer)
				continue;
			p->fences = false;
			if (s->err != 0)
				(void)say(p, "error %s", strerror(-s->err));
			else
				(void)say(p, "ok");
		}
		free(s);
		s = next;
	}
}

static void verb_trace(struct control *c, struct peer *p, char **words, size_t n)
{
	bool on = n == 1 && strcmp(words[0], "on") == 0;

	if (!on && (n != 1 || strcmp(words[0], "off") != 0)) {
		(void)say(p, "error trace takes on or off");
		return;
	}
	c->to_log = on;
	update_wanted(c);
	(void)say(p, "ok");
}

static void verb_watch(struct control *c, struct peer *p, char **words, size_t n)
{
	char *end = NULL;

	if (n == 1)
		p->min = strtoull(words[0], &end, 10);
	if (end == NULL || end == words[0] || *end != '\0' || p->min == UINT64_MAX) {
		(void)say(p, "error watch takes a number of nanoseconds");
		return;
	}
	p->watches = true;
	update_wanted(c);
}

/* The answer comes from whoever starts us again: by then we may have gone. */
static void verb_restart(const struct control *c, struct peer *p)
{
	if (outlive == NULL || c->fs->options.restart == NULL || !c->fs->options.restart(p->fd))
		(void)say(p,
			  "error this mount has no supervisor: it was mounted without supervise");
}

static void request(struct control *c, struct peer *p, char *line)
{
	char *words[WORDS_MAX], *save = NULL;
	size_t n = 0;

	for (char *w = strtok_r(line, " ", &save); w != NULL && n < WORDS_MAX;
	     w = strtok_r(NULL, " ", &save))
		words[n++] = w;
	const char *verb = n > 0 ? words[0] : "";
	if (n == WORDS_MAX)
		(void)say(p, "error too many words");
	else if (strcmp(verb, "get") == 0)
		verb_get(c, p, words + 1, n - 1);
	else if (strcmp(verb, "set") == 0)
		verb_set(c, p, words + 1, n - 1);
	else if (strcmp(verb, "drop") == 0)
		verb_drop(c, p, words + 1, n - 1);
	else if (strcmp(verb, "sync") == 0 && n == 1)
		verb_sync(c, p);
	else if (strcmp(verb, "restart") == 0 && n == 1)
		verb_restart(c, p);
	else if (strcmp(verb, "trace") == 0)
		verb_trace(c, p, words + 1, n - 1);
	else if (strcmp(verb, "watch") == 0)
		verb_watch(c, p, words + 1, n - 1);
	else
		(void)say(p, "error unknown request");
}

/* ---- peers ---- */

static void drop_peer(struct control *c, struct peer *p)
{
	(void)close(p->fd);
	free(p->in);
	free(p->out);
	*p = (struct peer){0};
	update_wanted(c);
}

/* True if accepting should pause: no descriptors or memory at the moment. */
static bool accept_peer(struct control *c)
{
	CLEANUP_CLOSE int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred who = {0};
	socklen_t len = sizeof(who);
	struct peer *p = NULL;

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
	for (size_t i = 0; i < CLIENTS_MAX && p == NULL; i++)
		if (c->peers[i].id == 0)
			p = &c->peers[i];
	if (p == NULL || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return false;
	*p = (struct peer){.id = ++c->last_id,
			   .fd = take_fd(&fd),
			   .in = malloc(LINE_MAX_LEN),
			   .out = malloc(OUT_MAX)};
	if (p->in == NULL || p->out == NULL) {
		drop_peer(c, p);
		return false;
	}
	if (who.uid != 0 && who.uid != geteuid()) {
		(void)say(p, "error only root and the owner of the mount, uid %u, may do this",
			  (unsigned)geteuid());
		p->closes = true;
		send_out(p);
	}
	return false;
}

/* The requests that are complete; the next one waits while a fence does. */
static void serve(struct control *c, struct peer *p)
{
	while (!p->fences && !p->closes) {
		char *end = memchr(p->in, '\n', p->in_len);

		if (end == NULL)
			break;
		*end = '\0';
		size_t used = (size_t)(end - p->in) + 1;
		request(c, p, p->in);
		p->in_len -= used;
		memmove(p->in, p->in + used, p->in_len);
	}
	if (!p->fences && p->in_len == LINE_MAX_LEN) {
		(void)say(p, "error the request is too long");
		p->closes = true;
	}
	send_out(p);
}

static void receive(struct control *c, struct peer *p)
{
	ssize_t n = recv(p->fd, p->in + p->in_len, LINE_MAX_LEN - p->in_len, MSG_DONTWAIT);

	if (n > 0) {
		p->in_len += (size_t)n;
		serve(c, p);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		p->gone = true;
	}
}

/* ---- the thread ---- */

/* As fast as they come there may be no end of lines: peers and the heartbeat have their turn. */
static void show_lines(struct control *c)
{
	struct trace_line l;
	unsigned n = 0;

	while (n < LINES_AT_ONCE && trace_take(c->trace, &l)) {
		show_line(c, &l);
		n++;
	}
	if (n == LINES_AT_ONCE)
		wake_up(c);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (c->peers[i].id != 0)
			serve(c, &c->peers[i]);
}

static void *control_main(void *arg)
{
	struct control *c = arg;
	bool paused = false;

	while (!atomic_load(&c->stopping)) {
		struct pollfd p[2 + CLIENTS_MAX];

		stats_set(c->fs->stats, STAT_proc_heartbeat, stats_now());
		p[0] = (struct pollfd){.fd = c->wake, .events = POLLIN};
		p[1] = (struct pollfd){.fd = paused ? -1 : c->listener, .events = POLLIN};
		for (size_t i = 0; i < CLIENTS_MAX; i++) {
			const struct peer *q = &c->peers[i];

			p[2 + i] = (struct pollfd){
				.fd = q->id != 0 ? q->fd : -1,
				.events = (short)((q->in_len < LINE_MAX_LEN ? POLLIN : 0) |
						  (q->out_len > 0 ? POLLOUT : 0))};
		}
		paused = false;
		if (poll(p, 2 + CLIENTS_MAX, HEARTBEAT_MS) <= 0)
			continue;
		uint64_t n;
		if (p[0].revents != 0 && read(c->wake, &n, sizeof(n)) > 0) {
			finish_syncs(c);
			show_lines(c);
		}
		for (size_t i = 0; i < CLIENTS_MAX; i++) {
			struct peer *q = &c->peers[i];

			if (q->id != 0 && (p[2 + i].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
				receive(c, q);
			if (q->id != 0 && (p[2 + i].revents & POLLOUT) != 0)
				send_out(q);
			if (q->id != 0 && q->gone)
				drop_peer(c, q);
		}
		if (p[1].revents != 0)
			paused = accept_peer(c);
	}
	return NULL;
}

/* ---- life ---- */

/* The name of the segment with another end. */
static int socket_path(const struct stats *stats, struct sockaddr_un *ret)
{
	const char *path = stats_path(stats);
	size_t n = path != NULL ? strlen(path) : 0;

	if (n == 0)
		return -ENOENT;
	if (n > 6 && strcmp(path + n - 6, ".stats") == 0)
		n -= 6;
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	int len = snprintf(ret->sun_path, sizeof(ret->sun_path), "%.*s.control", (int)n, path);
	return (size_t)len < sizeof(ret->sun_path) ? 0 : -ENAMETOOLONG;
}

static int listen_there(struct control *c)
{
	struct sockaddr_un a;
	int r = socket_path(c->fs->stats, &a);

	if (r < 0)
		return r;
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* before bind: the file has these permissions from its beginning (unix_bind_bsd) */
	if (fd < 0 || fchmod(fd, 0600) < 0)
		return -errno;
	if (unlink(a.sun_path) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	c->path = strdup(a.sun_path);
	if (c->path == NULL) {
		(void)unlink(a.sun_path);
		return -ENOMEM;
	}
	if (listen(fd, CLIENTS_MAX) < 0)
		return -errno;
	c->listener = take_fd(&fd);
	stats_text(c->fs->stats, TEXT_mount_control, c->path);
	return 0;
}

int control_new(struct fs *fs, struct control **ret)
{
	struct control *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->fs = fs;
	c->listener = -1;
	(void)pthread_mutex_init(&c->lock, NULL);
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r = c->wake < 0 ? -errno : trace_new(fs->stats, c->wake, &c->trace);
	if (r == 0) {
		int e = listen_there(c);

		if (e < 0)
			log_info("no control socket for vfsstat: %s", strerror(-e));
		r = -pthread_create(&c->thread, NULL, control_main, c);
	}
	c->started = r == 0;
	if (r < 0) {
		control_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct trace *control_trace(struct control *c)
{
	return c->trace;
}

void control_stop(struct control *c)
{
	if (c == NULL || !c->started)
		return;
	atomic_store(&c->stopping, true);
	wake_up(c);
	(void)pthread_join(c->thread, NULL);
	c->started = false;
}

void control_free(struct control *c)
{
	if (c == NULL)
		return;
	control_stop(c);
	finish_syncs(c);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (c->peers[i].id != 0)
			drop_peer(c, &c->peers[i]);
	if (c->path != NULL)
		(void)unlink(c->path);
	cleanup_close(&c->listener);
	cleanup_close(&c->wake);
	trace_free(c->trace);
	(void)pthread_mutex_destroy(&c->lock);
	free(c->path);
	free(c);
}
