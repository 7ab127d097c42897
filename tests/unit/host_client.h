/*
 * A server in this process, and a client that speaks the extended protocol to
 * it over a socketpair, one message at a time. Fails the test on anything
 * that is not a proper reply.
 *
 *	struct host_server hs; host_server_start(&hs, NULL);  exports a new directory
 *	struct host_client c;  host_client_start(&c, &hs);
 *	struct msg q = {0}, p; MSG_SET(&q, node, c.root); ...
 *	assert_int_equal(host_call(&c, MSG_LOOKUP, &q, &p), 0);  0 or -errno
 *
 * host_client_start_push is for a client that takes INV and RESET: they are
 * recorded while it waits for a reply, and acknowledged if that is asked for,
 * unless ack is set to HOST_ACK_NONE.
 *
 * A client with HELLO_RESUME (host_client_start_with) may lose its connection and come back:
 *
 *	host_client_lose(&c);
 *	assert_int_equal(host_client_return(&c, &hs), 0);
 *	struct host_items i = {0}; host_item_pair(&i, c.root, 1); ...
 *	host_resume(&c, RESUME_NODES, RESUME_FIRST, &i); ... RESUME_LAST ...
 *	assert_int_equal(host_resumed(&c), 0);
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those four */
#include "cmocka_any.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/server.h"
#include "plain_host/plain_host.h"
#include "transport/codec.h"
#include "transport/hello.h"
#include "plain/plain_codec.h"
#include "transport/stream.h"

struct host_server {
	char base[64]; /* a directory of this test */
	char dir[80];  /* exported: base/export */
	int fd;	       /* of dir */
	struct server *server;
	pid_t pid; /* of a server in a process of its own, which has one client */
};

#define HOST_INVS_MAX 1024

struct host_inv {
	uint64_t node, class;
	char name[MSG_NAME_MAX + 1];
};

enum host_ack { HOST_ACK_DONE, HOST_ACK_DEFERRED, HOST_ACK_NONE };

struct host_client {
	struct stream *stream;
	int fd; /* of stream */
	enum host_ack ack;
	struct host_inv inv[HOST_INVS_MAX];
	size_t n_inv, n_resets, n_wanted; /* since host_clear; wanted: INV that ask for an ACK */
	uint64_t seq;			  /* of the last INV or RESET */
	uint64_t root, last_id;
	struct msg hello; /* without its slices */
	unsigned char token[MSG_TOKEN_LEN];
	struct head_buf head;
	unsigned char payload[MSG_PAYLOAD_MAX]; /* of the last reply */
};

static inline void host_server_directory(struct host_server *hs)
{
	memset(hs, 0, sizeof(*hs));
	static const char template[] = "/tmp/vsockfs-host-XXXXXX";

	_Static_assert(sizeof(hs->base) >= sizeof(template), "it fits");
	memcpy(hs->base, template, sizeof(template));
	assert_non_null(mkdtemp(hs->base));
	(void)snprintf(hs->dir, sizeof(hs->dir), "%s/export", hs->base);
	assert_int_equal(mkdir(hs->dir, 0755), 0);
	hs->fd = open(hs->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(hs->fd >= 0);
}

static inline void host_server_start(struct host_server *hs, const struct server_config *like)
{
	struct server_config config = like != NULL ? *like : (struct server_config){0};
	char err[256];

	host_server_directory(hs);
	config.dir = hs->dir;
	config.plain = &plain_host;
	if (config.plain_prefix == NULL)
		config.plain_prefix = "/workspace";
	if (server_new(&config, &hs->server, err, sizeof(err)) < 0)
		fail_msg("%s", err);
}

static inline void host_server_stop(struct host_server *hs)
{
	char cmd[96];

	server_free(hs->server);
	if (hs->pid > 0)
		assert_int_equal(waitpid(hs->pid, NULL, 0), hs->pid);
	(void)close(hs->fd);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", hs->base);
	assert_int_equal(system(cmd), 0);
}

/* Another connection; nothing is said yet. */
static inline void host_client_reconnect(struct host_client *c, struct host_server *hs)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(server_add(hs->server, sv[0]), 0);
	assert_int_equal(stream_new(sv[1], &c->stream), 0);
	c->fd = sv[1];
}

/* Only the connection; nothing is said yet. */
static inline void host_client_connect(struct host_client *c, struct host_server *hs)
{
	memset(c, 0, sizeof(*c));
	host_client_reconnect(c, hs);
}

static inline void host_client_hello_with(struct host_client *c, uint64_t features);

/*
 * A server in another process, and its one client, which takes pushes or not: what
 * this process does then is done by somebody else, as the server sees it.
 * prepare runs in the server's process before it starts.
 */
static bool host_confined; /* set by prepare: Landlock holds that process to the directory */

static inline void host_remote_start_with(struct host_server *hs, struct host_client *c,
					  void (*prepare)(void), uint64_t features)
{
	struct server_config config = {.plain_prefix = "/workspace", .plain = &plain_host};
	char err[256];
	int sv[2];

	host_server_directory(hs);
	assert_int_equal(chmod(hs->base, 0755), 0);
	memset(c, 0, sizeof(*c));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	config.dir = hs->dir;
	hs->pid = fork();
	assert_true(hs->pid >= 0);
	if (hs->pid == 0) {
		(void)close(sv[1]);
		if (prepare != NULL)
			prepare();
		config.confined = host_confined;
		if (server_new(&config, &hs->server, err, sizeof(err)) < 0 ||
		    server_add(hs->server, sv[0]) < 0)
			_exit(1);
		(void)server_run(hs->server, true);
		server_free(hs->server);
		_exit(0);
	}
	(void)close(sv[0]);
	c->fd = sv[1];
	assert_int_equal(stream_new(sv[1], &c->stream), 0);
	host_client_hello_with(c, features);
}

static inline void host_remote_start(struct host_server *hs, struct host_client *c,
				     void (*prepare)(void))
{
	host_remote_start_with(hs, c, prepare, HELLO_PUSH);
}

/* HELLO with what m has besides. 0, or the -errno with which it was refused. */
static inline int host_client_greet(struct host_client *c, struct msg *m)
{
	unsigned char data[HELLO_DATA_MAX], *buf = NULL;
	struct plain_request hello = {.op = PLAIN_HELLO};
	struct plain_reply reply;
	struct plain_buf out = {0};
	size_t cap = 0, len = 0;
	const char *why;

	MSG_SET(m, version, HELLO_VERSION);
	hello.data = (struct slice){data, hello_encode(m, data)};
	assert_int_equal(plain_request_encode(&hello, &out), 0);
	assert_int_equal(stream_send_plain(c->stream, out.data, out.len), 0);
	plain_buf_done(&out);
	assert_int_equal(stream_recv_plain(c->stream, 65536, &buf, &cap, &len, 5000), 0);
	assert_int_equal(plain_reply_decode(buf, len, &reply, &why), 0);
	int r = (int)reply.err;
	if (r == 0) {
		assert_int_equal(hello_decode(reply.data, &c->hello), 0);
		assert_true(msg_reply_complete(MSG_HELLO, &c->hello));
		if (c->hello.features & HELLO_RESUME) {
			assert_true(MSG_HAS(&c->hello, token));
			assert_int_equal(c->hello.token.len, MSG_TOKEN_LEN);
			memcpy(c->token, c->hello.token.data, MSG_TOKEN_LEN);
		}
		c->root = c->hello.node;
	}
	free(buf);
	return r;
}

static inline void host_client_hello_with(struct host_client *c, uint64_t features)
{
	struct msg m = {0};

	if (features != 0)
		MSG_SET(&m, features, features);
	assert_int_equal(host_client_greet(c, &m), 0);
}

static inline void host_client_hello(struct host_client *c)
{
	host_client_hello_with(c, 0);
}

static inline void host_client_start_with(struct host_client *c, struct host_server *hs,
					  uint64_t features)
{
	host_client_connect(c, hs);
	host_client_hello_with(c, features);
}

static inline void host_client_start_push(struct host_client *c, struct host_server *hs)
{
	host_client_start_with(c, hs, HELLO_PUSH);
}

static inline void host_client_start(struct host_client *c, struct host_server *hs)
{
	host_client_connect(c, hs);
	host_client_hello(c);
}

static inline void host_client_stop(struct host_client *c)
{
	stream_free(c->stream);
	head_buf_done(&c->head);
}

/* ---- a connection that is lost ---- */

static inline void host_client_lose(struct host_client *c)
{
	stream_free(c->stream);
	c->stream = NULL;
	head_buf_done(&c->head);
	c->head = (struct head_buf){0};
}

/* By another connection, with what the client knows of its session. As host_client_greet. */
static inline int host_client_return(struct host_client *c, struct host_server *hs)
{
	unsigned char token[MSG_TOKEN_LEN];
	struct msg m = {0};

	memcpy(token, c->token, sizeof(token));
	MSG_SET(&m, features, c->hello.features & (HELLO_PUSH | HELLO_ACL | HELLO_RESUME));
	MSG_SET(&m, session, c->hello.session);
	MSG_SET(&m, epoch, c->hello.epoch);
	MSG_SET(&m, seq, c->seq);
	MSG_SET(&m, token, ((struct slice){token, sizeof(token)}));
	host_client_reconnect(c, hs);
	return host_client_greet(c, &m);
}

struct host_items {
	unsigned char buf[1024];
	size_t len;
};

static inline void host_item_pair(struct host_items *i, uint64_t a, uint64_t b)
{
	size_t n = codec_put_pair(a, b, i->buf + i->len, sizeof(i->buf) - i->len);

	assert_true(n > 0);
	i->len += n;
}

static inline void host_item(struct host_items *i, uint64_t v)
{
	size_t n = codec_put_uint(v, i->buf + i->len, sizeof(i->buf) - i->len);

	assert_true(n > 0);
	i->len += n;
}

#define HOST_RESUME_ID 99999

static inline void host_resume(struct host_client *c, uint64_t type, uint64_t flags,
			       const struct host_items *i)
{
	struct msg q = {0};

	MSG_SET(&q, op, MSG_RESUME);
	MSG_SET(&q, id, HOST_RESUME_ID);
	MSG_SET(&q, type, type);
	MSG_SET(&q, flags, flags);
	MSG_SET(&q, payload, ((struct slice){i != NULL ? i->buf : (const void *)"",
					     i != NULL ? i->len : 0}));
	assert_int_equal(stream_send(c->stream, &q), 0);
}

/* The reply to the last of them comes before anything else: 0, or -errno if there is none. */
static inline int host_resumed(struct host_client *c)
{
	struct msg p = {0};
	const char *why;
	int r = stream_recv(c->stream, &c->head, &p, &why);

	if (r == 0) {
		assert_true(MSG_HAS(&p, id) && !MSG_HAS(&p, op));
		assert_int_equal(p.id, HOST_RESUME_ID);
		assert_int_equal(p.err, 0);
	}
	return r;
}

static inline uint64_t host_send(struct host_client *c, uint64_t op, struct msg *q)
{
	MSG_SET(q, op, op);
	if (!MSG_HAS(q, id))
		MSG_SET(q, id, ++c->last_id);
	assert_int_equal(stream_send(c->stream, q), 0);
	return q->id;
}

/* FORGET, CLOSE, CANCEL */
static inline void host_post(struct host_client *c, uint64_t op, struct msg *q)
{
	MSG_SET(q, op, op);
	assert_int_equal(stream_send(c->stream, q), 0);
}

static inline void host_clear(struct host_client *c)
{
	c->n_inv = c->n_resets = c->n_wanted = 0;
}

static inline void host_ack(struct host_client *c, uint64_t seq, uint64_t flags)
{
	struct msg q = {0};

	MSG_SET(&q, seq, seq);
	if (flags != 0)
		MSG_SET(&q, flags, flags);
	host_post(c, MSG_ACK, &q);
}

static inline void host_record(struct host_client *c, const struct msg *m)
{
	struct slice in = m->payload;
	struct inv_item item;
	int r;

	assert_true(m->seq > c->seq || (m->op == MSG_INV && m->seq == c->seq));
	c->seq = m->seq;
	if (m->op == MSG_RESET) {
		c->n_resets++;
		if (c->ack != HOST_ACK_NONE)
			host_ack(c, m->seq, 0);
		return;
	}
	assert_true(m->op == MSG_INV && MSG_HAS(m, age));
	while ((r = codec_get_inv(&in, &item)) == 1) {
		struct host_inv *i = &c->inv[c->n_inv++];

		assert_true(c->n_inv <= HOST_INVS_MAX && item.class != 0);
		*i = (struct host_inv){.node = item.node, .class = item.class};
		if (item.name.len > 0)
			memcpy(i->name, item.name.data, item.name.len);
	}
	assert_int_equal(r, 0);
	if (!(MSG_HAS(m, flags) && (m->flags & INV_ACK)))
		return;
	c->n_wanted++;
	if (c->ack != HOST_ACK_NONE)
		host_ack(c, m->seq, c->ack == HOST_ACK_DEFERRED ? ACK_DEFERRED : 0);
}

static inline void host_recv_any(struct host_client *c, struct msg *p)
{
	const char *why = "?";

	memset(p, 0, sizeof(*p));
	int r = stream_recv(c->stream, &c->head, p, &why);
	if (r < 0)
		fail_msg("no reply: %d %s", r, why);
	if (MSG_HAS(p, payload)) {
		assert_int_equal(stream_recv_payload(c->stream, c->payload, p->payload.len), 0);
		p->payload.data = c->payload;
	}
}

/* The next reply. */
static inline uint64_t host_recv(struct host_client *c, struct msg *p)
{
	for (;;) {
		host_recv_any(c, p);
		if (MSG_HAS(p, id))
			return p->id;
		host_record(c, p);
	}
}

static inline int host_call(struct host_client *c, uint64_t op, struct msg *q, struct msg *p)
{
	struct msg unused;

	if (p == NULL)
		p = &unused;
	q->present &= ~MSG_BIT(id);
	uint64_t id = host_send(c, op, q);
	assert_true(host_recv(c, p) == id);
	if (MSG_HAS(p, err) && p->err != 0)
		return -(int)p->err;
	assert_true(msg_reply_complete(op, p));
	return 0;
}

#ifndef SLICE
#define SLICE(s) ((struct slice){(s), strlen(s)})
#endif

static inline int host_lookup(struct host_client *c, uint64_t dir, const char *name, struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, node, dir);
	MSG_SET(&q, name, SLICE(name));
	return host_call(c, MSG_LOOKUP, &q, p);
}

static inline int host_getattr(struct host_client *c, uint64_t node, struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, node, node);
	return host_call(c, MSG_GETATTR, &q, p);
}

static inline int host_create(struct host_client *c, uint64_t dir, const char *name, uint64_t flags,
			      uint64_t mode, struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, node, dir);
	MSG_SET(&q, name, SLICE(name));
	MSG_SET(&q, flags, flags);
	MSG_SET(&q, mode, mode);
	return host_call(c, MSG_CREATE, &q, p);
}

static inline int host_open(struct host_client *c, uint64_t node, uint64_t flags, struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, node, node);
	MSG_SET(&q, flags, flags);
	return host_call(c, MSG_OPEN, &q, p);
}

static inline int host_write(struct host_client *c, uint64_t fh, uint64_t off, const char *text,
			     uint64_t flags, struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, fh, fh);
	MSG_SET(&q, off, off);
	MSG_SET(&q, flags, flags);
	MSG_SET(&q, payload, SLICE(text));
	return host_call(c, MSG_WRITE, &q, p);
}

static inline int host_read(struct host_client *c, uint64_t fh, uint64_t off, uint64_t size,
			    struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, fh, fh);
	MSG_SET(&q, off, off);
	MSG_SET(&q, size, size);
	return host_call(c, MSG_READ, &q, p);
}

static inline int host_name_op(struct host_client *c, uint64_t op, uint64_t dir, const char *name)
{
	struct msg q = {0};

	MSG_SET(&q, node, dir);
	MSG_SET(&q, name, SLICE(name));
	return host_call(c, op, &q, NULL);
}

static inline void host_close(struct host_client *c, uint64_t fh)
{
	unsigned char buf[16];
	struct msg q = {0};

	MSG_SET(&q, payload, ((struct slice){buf, codec_put_uint(fh, buf, sizeof(buf))}));
	host_post(c, MSG_CLOSE, &q);
}

static inline void host_forget(struct host_client *c, uint64_t node, uint64_t n)
{
	unsigned char buf[32];
	struct msg q = {0};

	MSG_SET(&q, payload, ((struct slice){buf, codec_put_pair(node, n, buf, sizeof(buf))}));
	host_post(c, MSG_FORGET, &q);
}

/* Everything that returned on the host before is recorded after it. */
static inline uint64_t host_fence(struct host_client *c)
{
	struct msg q = {0}, p;

	assert_int_equal(host_call(c, MSG_FENCE, &q, &p), 0);
	assert_true(p.seq >= c->seq);
	return p.seq;
}

/* What was recorded about a node: classes, or with name only INV_NAME of that one. */
static inline uint64_t host_told(const struct host_client *c, uint64_t node, const char *name)
{
	uint64_t told = 0;

	for (size_t i = 0; i < c->n_inv; i++) {
		const struct host_inv *v = &c->inv[i];

		if (v->node != node)
			continue;
		if (name == NULL)
			told |= v->class & ~(uint64_t)INV_NAME;
		else if (v->class & INV_NAME && strcmp(v->name, name) == 0)
			told |= INV_NAME;
	}
	return told;
}

/* Makes a file on the host's side. */
static inline void host_put(struct host_server *hs, const char *name, const char *text)
{
	int fd = openat(hs->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(close(fd), 0);
}
