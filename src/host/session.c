#include "host/session.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/stats.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/lock.h"
#include "host/ops.h"
#include "host/plain_server.h"
#include "host/watch.h"
#include "plain/plain_codec.h"
#include "transport/hello.h"
#include "transport/stream.h"

struct session {
	struct host *host;
	uint64_t id;
	void (*done)(void *arg);
	void *done_arg;
	pthread_t main;
	_Atomic bool finished;

	struct handles handles;
	struct lock_session *locks;
	struct dirs *dirs;
	struct promise_session *promises; /* NULL (mutex) at the end */
	bool acl;			  /* set once, by HELLO */

	/*
	 * The turn to receive: the thread that has it reads one frame. It is
	 * passed on by arming one of two descriptors, each for one event and
	 * one thread: the socket, or, when the next frame is in the stream's
	 * buffer already, an eventfd that is always readable. So nobody is
	 * woken up before there is something to read.
	 */
	int fd; /* of stream */
	int turn;
	int event;

	pthread_mutex_t mutex;
	/* mutex: */
	struct stream *stream; /* set once, before other threads; NULL at the end */
	bool closing;
	pthread_t threads[SESSION_THREADS_MAX + SESSION_SLOTS];
	unsigned n_threads;
	unsigned idle;	  /* wait for the turn */
	unsigned waiting; /* for the acknowledgements of other clients */
};

/* What a thread has of its own. */
struct worker {
	struct head_buf head;
	unsigned char *buf;
	struct creds creds;
};

/* ---- what the handlers ask of a session ---- */

struct handles *session_handles(struct session *s)
{
	return &s->handles;
}

struct lock_session *session_locks(struct session *s)
{
	return s->locks;
}

struct dirs *session_dirs(struct session *s)
{
	return s->dirs;
}

struct promise_session *session_promises(struct session *s)
{
	return s->promises;
}

void session_forget(struct session *s, uint64_t id, uint64_t n)
{
	if (promise_forget(s->promises, id, n))
		dirs_forget(s->dirs, id);
}

bool session_acl(const struct session *s)
{
	return s->acl;
}

static int send_reply(struct session *s, struct msg *p, uint64_t id, int result)
{
	if (result < 0) {
		*p = (struct msg){.present = p->present & MSG_BIT(stamp), .stamp = p->stamp};
		MSG_SET(p, err, (uint64_t)-msg_errno(result));
	}
	MSG_SET(p, id, id);
	return stream_send(s->stream, p);
}

/*
 * A request that synchronises has been carried out: what the host had done before is broken
 * now, and the INVs about it leave before the reply. So the client, which receives in order,
 * knows of them when the reply comes. One that takes none may have another mount that does.
 */
static void follow_host(struct session *s, struct change *c)
{
	if (FAULT(no_sync_fence) || !promises_wanted(s->host->promises))
		return;
	watch_drain(s->host->watch);
	change_follows_host(c);
}

void session_lock_granted(struct session *s, uint64_t id, int result)
{
	struct change c = {.all = s->host->promises, .self = s->promises};
	struct msg p = {0};

	if (result == 0) {
		follow_host(s, &c);
		change_wait(&c);
		(void)promise_fence(s->promises);
	}
	/* A connection that is broken is noticed by whoever receives. */
	(void)send_reply(s, &p, id, result);
}

/* ---- requests ---- */

static int dispatch(struct request *r)
{
	static int (*const handlers[])(struct request *) = {
#define MESSAGE(code, NAME, request_, reply_, traits_, text) [code] = op_##NAME,
#define PUSH(code, NAME, request_, reply_, traits_, text)
#include "core/messages.def"
#undef MESSAGE
	};

	if (!msg_op_known(r->q.op))
		return -ENOSYS;
	if (handlers[r->q.op] == NULL) {
		r->why = "a message that only servers send";
		return OP_MALFORMED;
	}
	if (!msg_request_complete(&r->q)) {
		r->why = "a required field is missing";
		return OP_MALFORMED;
	}
	return handlers[r->q.op](r);
}

static void *thread_main(void *arg);

/*
 * Messages after which nothing may be received before they have had their
 * effect: a lock that waits must be known when its CANCEL comes, and what a
 * CLOSE releases is free for the next SETLK.
 */
static bool in_order(const struct msg *q)
{
	bool waits = !msg_is(q->op, TRAIT_FILE_LOCK) || (q->flags & LOCK_WAIT) != 0;

	return msg_is(q->op, TRAIT_IN_ORDER) && waits;
}

/* What the reply promises; that a name is not there is a promise as well. */
static void set_stamp(struct request *r, int result)
{
	const struct stamp *stamp = &r->stamp;

	if (stamp->armed && !stamp->uncovered &&
	    (result == 0 || (result == -ENOENT && msg_is(r->q.op, TRAIT_LOOKS_UP))))
		MSG_SET(&r->p, stamp, stamp->seq);
}

/* With FAULT(slow_host): one in four takes up to 2 ms before it is executed, one in four after it.
 */
static void wait_a_moment(const struct request *r, bool executed)
{
	uint64_t x = hash_mix(r->q.id) >> (executed ? 0 : 16);
	const struct timespec ts = {.tv_nsec = (long)(x / 4 % 2000) * 1000};

	if (x % 4 == 0)
		(void)nanosleep(&ts, NULL);
}

/* With FAULT(late_promise): what should have been armed before. */
static void arm_late(struct request *r)
{
	const uint64_t ids[] = {r->q.node, r->q.node2, r->p.node};

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct hnode *n;

		if (promise_node(r->session->promises, ids[i], INV_ATTR | INV_DATA | INV_NAMES,
				 &r->stamp, &n) == 0)
			hnode_unref(r->host->nodes, n);
	}
}

static void spawn_locked(struct session *s)
{
	if (s->idle == 0 && s->n_threads - s->waiting < SESSION_THREADS_MAX && !s->closing &&
	    s->n_threads < sizeof(s->threads) / sizeof(s->threads[0]) &&
	    pthread_create(&s->threads[s->n_threads], NULL, thread_main, s) == 0)
		s->n_threads++;
}

/*
 * A thread that waits for other clients does not count: two clients that
 * each wait for the other with all their threads would receive no ACK.
 */
static void wait_for_others(struct request *r)
{
	struct session *s = r->session;

	if (!change_waits(&r->change))
		return;
	{
		SCOPE_LOCK(&s->mutex);
		s->waiting++;
		spawn_locked(s);
	}
	change_wait(&r->change);
	SCOPE_LOCK(&s->mutex);
	s->waiting--;
}

static void warn_of_limit(struct host *h, int result)
{
	if ((result == -EMFILE || result == -ENFILE) && !atomic_exchange(&h->fds_short, true))
		log_warning("requests are refused for want of file descriptors: raise the limit "
			    "(RLIMIT_NOFILE, LimitNOFILE= of systemd)");
}

/* 0, or the connection is to be ended. */
static int execute(struct session *s, struct request *r)
{
	if (!MSG_HAS(&r->q, op) || (!MSG_HAS(&r->q, id) && !msg_is(r->q.op, TRAIT_ONEWAY))) {
		r->why = "no op or no id";
		return -EPROTO;
	}
	r->p.present = 0;
	r->stamp = (struct stamp){0};
	if (!in_order(&r->q))
		session_pass_turn(r);
	if (FAULT(slow_host))
		wait_a_moment(r, false);
	uint64_t start = stats_now();
	int result = dispatch(r);
	stats_executed(s->host->config->stats, r->q.op, stats_now() - start,
		       result < 0 ? -result : 0);
	session_pass_turn(r); /* a reply may have to wait for the client to read */
	bool synchronises = result == 0 && msg_synchronises(&r->q);
	if (synchronises)
		follow_host(s, &r->change);
	wait_for_others(r);
	if (synchronises)
		(void)promise_fence(s->promises);
	if (result == OP_NO_REPLY)
		return 0;
	if (result == OP_MALFORMED)
		return -EPROTO;
	if (FAULT(slow_host))
		wait_a_moment(r, true);
	if (FAULT(late_promise))
		arm_late(r);
	set_stamp(r, result);
	warn_of_limit(r->host, result);
	return send_reply(s, &r->p, r->q.id, result);
}

/* Receives the next request with its payload. */
static int receive(struct session *s, struct worker *w, struct request *r)
{
	memset(&r->q, 0, sizeof(r->q));
	r->why = NULL;
	int e = stream_recv(s->stream, &w->head, &r->q, &r->why);
	if (e == 0 && MSG_HAS(&r->q, payload)) {
		e = stream_recv_payload(s->stream, w->buf, r->q.payload.len);
		r->q.payload.data = w->buf;
	}
	return e;
}

/* ---- threads ---- */

static void arm(struct session *s, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events};

	(void)epoll_ctl(s->turn, EPOLL_CTL_MOD, fd, &ev);
}

/* True for the first to do it. */
static bool close_session(struct session *s)
{
	SCOPE_LOCK(&s->mutex);
	bool first = !s->closing;
	s->closing = true;
	if (s->stream != NULL)
		stream_shutdown(s->stream);
	if (s->event >= 0)
		arm(s, s->event, EPOLLIN); /* without EPOLLONESHOT: every thread wakes up */
	if (s->promises != NULL)
		promise_session_stop(s->promises);
	return first;
}

/* False at the end of the session. */
static bool take_turn(struct session *s)
{
	struct epoll_event ev;
	int n;

	{
		SCOPE_LOCK(&s->mutex);
		s->idle++;
	}
	do {
		n = epoll_wait(s->turn, &ev, 1, -1);
	} while (n < 0 && errno == EINTR);
	SCOPE_LOCK(&s->mutex);
	s->idle--;
	return n == 1 && !s->closing;
}

void session_pass_turn(struct request *r)
{
	struct session *s = r->session;

	if (!r->has_turn)
		return;
	r->has_turn = false;
	/* Read before the mutex is taken: the next thread takes it after its turn has come. */
	bool more = stream_buffered(s->stream);
	{
		SCOPE_LOCK(&s->mutex);
		spawn_locked(s);
	}
	if (more)
		arm(s, s->event, EPOLLIN | EPOLLONESHOT);
	else
		arm(s, s->fd, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT);
}

static void log_end(const struct session *s, const struct request *r, int e)
{
	unsigned long long id = s->id;

	if (e == -EPROTO)
		log_warning("client %llu: malformed message (%s): %s; connection closed", id,
			    msg_op_name(MSG_HAS(&r->q, op) ? r->q.op : 0),
			    r->why != NULL ? r->why : "no reason given");
	else if (e != -ENODATA)
		log_info("client %llu: connection lost: %s", id, strerror(-e));
}

static void work(struct session *s)
{
	struct worker w = {.creds = CREDS_NONE, .buf = malloc(MSG_PAYLOAD_MAX + 1)};
	struct request r = {
		.session = s,
		.host = s->host,
		.creds = &w.creds,
		.buf = w.buf,
		.change = {.all = s->host->promises, .self = s->promises},
	};
	int e = w.buf == NULL ? -ENOMEM : 0;

	while (e == 0 && take_turn(s)) {
		r.has_turn = true;
		e = receive(s, &w, &r);
		if (e == 0)
			e = execute(s, &r);
	}
	if (e < 0 && close_session(s))
		log_end(s, &r, e);
	head_buf_done(&w.head);
	free(w.buf);
}

static void *thread_main(void *arg)
{
	work(arg);
	return NULL;
}

static void join_threads(struct session *s)
{
	/* None is started once closing is set. */
	for (unsigned i = 0; i < s->n_threads; i++)
		(void)pthread_join(s->threads[i], NULL);
}

static int first_turn(struct session *s)
{
	struct epoll_event later = {.events = EPOLLONESHOT};
	struct epoll_event now = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT};

	/* Never both armed: even without EPOLLIN a socket reports EPOLLHUP. */
	if (epoll_ctl(s->turn, EPOLL_CTL_ADD, s->event, &later) < 0 ||
	    epoll_ctl(s->turn, EPOLL_CTL_ADD, s->fd, &now) < 0)
		return -errno; /* EPERM: nothing that can be waited for */
	return 0;
}

/* ---- plain, and the change to extended ---- */

/* What this server pushes to a client that takes it. */
static uint64_t push_features(const struct session *s)
{
	switch (watch_mode(s->host->watch)) {
	case WATCH_FILESYSTEMS:
		return HELLO_PUSH | HELLO_WATCH;
	case WATCH_OBJECTS:
		return HELLO_PUSH | HELLO_WATCH | HELLO_WATCH_DIRS;
	default:
		return HELLO_PUSH;
	}
}

static int hello_reply(struct session *s, const struct msg *q, struct msg *p)
{
	const struct host *h = s->host;
	int root = export_root(h->export);
	uint64_t asked = MSG_HAS(q, features) ? q->features : 0;
	bool push = (asked & HELLO_PUSH) != 0;
	struct stamp stamp = {0};
	struct hnode *n;
	int r = hnodes_intern(h->nodes, root, NULL, NULL, 0, &n);

	if (r < 0)
		return r;
	r = promise_tell(s->promises, n, 0, &stamp);
	if (r < 0) {
		hnode_unref(h->nodes, n);
		return r;
	}
	MSG_SET(p, version, q->version < HELLO_VERSION ? q->version : HELLO_VERSION);
	MSG_SET(p, slots, SESSION_SLOTS);
	MSG_SET(p, epoch, h->epoch);
	MSG_SET(p, session, s->id);
	uid_t uid = geteuid();
	gid_t gid = getegid();
	bool squashed = export_squashed(h->export, &uid, &gid);
	MSG_SET(p, features,
		(export_privileged(h->export) && !squashed ? HELLO_ROOT : 0u) |
			(export_read_only(h->export) ? HELLO_READONLY : 0u) |
			(export_masks(h->export) ? HELLO_UMASK : 0u) | HELLO_GIVE_UP |
			(asked & HELLO_ACL) | (push ? push_features(s) : 0u));
	MSG_SET(p, uid, uid);
	MSG_SET(p, gid, gid);
	s->acl = (asked & HELLO_ACL) != 0;
	uint64_t version = hnode_version(n);
	r = export_attr(h->export, root, &p->attr);
	if (r == 0) {
		p->attr.version = version;
		MSG_SET(p, node, hnode_id(n));
		p->present |= MSG_BIT(attr);
	}
	hnode_unref(h->nodes, n);
	return r;
}

/* What is wrong with a greeting of ours; NULL: nothing. 0 is no version. */
static const char *wrong_hello(int decoded, const struct msg *hello)
{
	if (decoded < 0)
		return "the greeting is malformed";
	if (!MSG_HAS(hello, version) || hello->version == 0)
		return "the greeting has no version";
	return NULL;
}

/* Fills the reply to HELLO, whose data goes to buf: err 0, -ENOSYS or a refusal. */
static void answer_hello(struct session *s, struct slice data, struct plain_reply *reply,
			 struct msg *p, unsigned char *buf)
{
	struct msg hello = {0};
	int r = hello_decode(data, &hello);

	if (r == -ENOMSG) {
		reply->err = -ENOSYS; /* what a server says that knows no HELLO */
		return;
	}
	const char *why = wrong_hello(r, &hello);
	r = why != NULL ? -EPROTO : hello_reply(s, &hello, p);
	reply->err = msg_errno(r);
	if (r < 0 && why == NULL)
		why = strerror(-r);
	if (r < 0)
		log_warning("client %llu: refused: %s", (unsigned long long)s->id, why);
	reply->data =
		(struct slice){buf, r < 0 ? hello_encode_refusal(why, buf) : hello_encode(p, buf)};
}

/*
 * 1: extended from the next frame on. 0: it remains plain. -ENODATA: refused, which ends the
 * connection: a client that takes an error for a plain server's gets nothing without a greeting.
 */
static int handle_hello(struct session *s, const struct plain_request *q)
{
	unsigned char data[HELLO_DATA_MAX];
	struct plain_reply reply = {0};
	struct plain_buf out = {0};
	struct msg p = {0};

	answer_hello(s, q->data, &reply, &p, data);
	int r = plain_reply_encode(&reply, &out);
	if (r == 0)
		r = stream_send_plain(s->stream, out.data, out.len);
	plain_buf_done(&out);
	if (r == 0 && reply.err == 0 && (p.features & HELLO_PUSH)) /* after the reply, for order */
		r = promise_session_push(s->promises, s->stream);
	if (r < 0)
		return r;
	return reply.err == 0 ? 1 : reply.err == -ENOSYS ? 0 : -ENODATA;
}

static int handle_plain(struct session *s, struct plain_session **plain,
			const struct plain_request *q)
{
	const struct plain_server *server = s->host->config->plain;
	const void *reply;
	size_t len;
	int r = 0;

	if (*plain == NULL)
		r = server->session_new(s->host->export, s->host->nodes, s->host->promises, plain);
	uint64_t start = stats_now();
	if (r == 0)
		r = server->handle(*plain, q, &reply, &len);
	stats_executed(s->host->config->stats, 0, stats_now() - start, 0);
	if (r == 0)
		r = stream_send_plain(s->stream, reply, len);
	return r;
}

/* Returns 1 when the client has said HELLO, or -errno at the end of the connection. */
static int serve_plain(struct session *s)
{
	struct plain_session *plain = NULL;
	CLEANUP_FREE unsigned char *buf = NULL;
	size_t cap = 0, len = 0;
	int r = 0;

	while (r == 0) {
		struct plain_request q;
		const char *why = "a frame of length 0 or more than the limit";

		r = stream_recv_plain(s->stream, PLAIN_FRAME_MAX, &buf, &cap, &len, -1);
		if (r == 0)
			r = plain_request_decode(buf, len, &q, &why);
		if (r == -EPROTO)
			log_warning("client %llu: malformed plain message: %s; connection closed",
				    (unsigned long long)s->id, why);
		else if (r < 0 && r != -ENODATA)
			log_info("client %llu: connection lost: %s", (unsigned long long)s->id,
				 strerror(-r));
		if (r < 0)
			break;
		r = q.op == PLAIN_HELLO ? handle_hello(s, &q) : handle_plain(s, &plain, &q);
	}
	s->host->config->plain->session_free(plain);
	return r;
}

/* ---- a session's life ---- */

static void drop_everything(struct session *s)
{
	lock_session_free(TAKE_PTR(s->locks));
	dirs_free(TAKE_PTR(s->dirs));
	handles_done(&s->handles);
	struct promise_session *promises;
	{
		SCOPE_LOCK(&s->mutex);
		promises = TAKE_PTR(s->promises);
	}
	promise_session_free(promises);
	struct stream *stream;
	{
		SCOPE_LOCK(&s->mutex);
		stream = TAKE_PTR(s->stream);
		cleanup_close(&s->turn);
		cleanup_close(&s->event);
		s->turn = s->event = -1;
	}
	stream_free(stream);
	/* The sanitizers have a heap of their own: there this call would be the first to set up
	   glibc's, which two threads must not do at once. */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
	(void)malloc_trim(0); /* of a million nodes the last one may hold the whole heap */
#endif
}

static void *session_main(void *arg)
{
	struct session *s = arg;
	struct stats *stats = s->host->config->stats;

	log_info("client %llu: connected", (unsigned long long)s->id);
	stats_add(stats, STAT_server_connections, 1);
	stats_add(stats, STAT_server_sessions, 1);
	if (serve_plain(s) == 1) {
		int r = first_turn(s);

		if (r < 0)
			log_err("client %llu: cannot wait for its messages: %s",
				(unsigned long long)s->id, strerror(-r));
		else
			work(s);
	}
	(void)close_session(s);
	join_threads(s);
	drop_everything(s);
	log_info("client %llu: gone", (unsigned long long)s->id);
	stats_sub(stats, STAT_server_sessions, 1);
	atomic_store(&s->finished, true);
	s->done(s->done_arg);
	return NULL;
}

/* Signals are the business of whoever runs the server. */
static int start_main(struct session *s)
{
	sigset_t all, old;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = -pthread_create(&s->main, NULL, session_main, s);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int session_new(struct host *host, uint64_t id, int fd, void (*done)(void *arg), void *arg,
		struct session **ret)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		(void)close(fd);
		return -ENOMEM;
	}
	s->host = host;
	s->id = id;
	s->fd = fd;
	s->turn = s->event = -1;
	s->done = done;
	s->done_arg = arg;
	(void)pthread_mutex_init(&s->mutex, NULL);
	handles_init(&s->handles, host->nodes, &host->handles);
	int r = stream_new(fd, &s->stream);
	if (r == 0) {
		s->turn = epoll_create1(EPOLL_CLOEXEC);
		s->event = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		r = s->turn < 0 || s->event < 0 ? -errno : 0;
	}
	if (r == 0)
		r = lock_session_new(host->locks, &s->locks);
	if (r == 0)
		r = dirs_new(&s->dirs);
	if (r == 0)
		r = promise_session_new(host->promises, &s->promises);
	if (r == 0)
		r = start_main(s);
	if (r < 0) {
		drop_everything(s);
		(void)pthread_mutex_destroy(&s->mutex);
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void session_shutdown(struct session *s)
{
	(void)close_session(s);
}

bool session_finished(const struct session *s)
{
	return atomic_load(&s->finished);
}

void session_free(struct session *s)
{
	if (s == NULL)
		return;
	(void)pthread_join(s->main, NULL);
	(void)pthread_mutex_destroy(&s->mutex);
	free(s);
}
