/*
 * A secret of both sides: what a server with one does with clients that have it, have another one,
 * or know of none; what a client does with servers; and that the secret is in no frame.
 */
#include "host_fixture.h"

#include <pthread.h>

#include "connect/connect.h"
#include "core/cleanup.h"
#include "transport/secret.h"

#define DEADLINE_MS 30000

static const char text[] = "correct horse battery staple";

static struct secret secret_of(const char *bytes)
{
	struct secret s = {.len = strlen(bytes)};

	memcpy(s.bytes, bytes, s.len);
	return s;
}

static int setup_secret(void **state)
{
	static struct secret secret;
	const struct server_config config = {.secret = &secret};
	struct fixture *f = calloc(1, sizeof(*f));

	secret = secret_of(text);
	host_server_start(&f->hs, &config);
	*state = f;
	return 0;
}

static int teardown_secret(void **state)
{
	struct fixture *f = *state;

	host_server_stop(&f->hs);
	free(f);
	return 0;
}

/* ---- the server ---- */

struct greeting {
	unsigned char *buf;
	size_t cap, len;
	struct plain_reply reply;
	struct msg hello; /* of the reply, if it has one */
};

static void greeting_done(struct greeting *g)
{
	free(g->buf);
}
#define CLEANUP_GREETING CLEANUP(greeting_done)

static int request(struct host_client *c, const struct plain_request *q, struct greeting *ret)
{
	struct plain_buf out = {0};
	const char *why;

	assert_int_equal(plain_request_encode(q, &out), 0);
	int r = stream_send_plain(c->stream, out.data, out.len);
	plain_buf_done(&out);
	if (r == 0)
		r = stream_recv_plain(c->stream, 65536, &ret->buf, &ret->cap, &ret->len,
				      DEADLINE_MS);
	if (r == 0)
		assert_int_equal(plain_reply_decode(ret->buf, ret->len, &ret->reply, &why), 0);
	return r;
}

static int greet(struct host_client *c, struct msg *m, struct greeting *ret)
{
	unsigned char data[HELLO_DATA_MAX];
	struct plain_request hello = {.op = PLAIN_HELLO};

	MSG_SET(m, version, HELLO_VERSION);
	hello.data = (struct slice){data, hello_encode(m, data)};
	int r = request(c, &hello, ret);
	if (r == 0 && ret->reply.data.len > 0)
		assert_int_equal(hello_decode(ret->reply.data, &ret->hello), 0);
	return r < 0 ? r : (int)ret->reply.err;
}

static bool says(const struct greeting *g, const char *what)
{
	return MSG_HAS(&g->hello, reason) &&
	       memmem(g->hello.reason.data, g->hello.reason.len, what, strlen(what)) != NULL;
}

static void expect_closed(struct host_client *c)
{
	CLEANUP_GREETING struct greeting g = {0};
	struct msg m = {0};

	assert_true(greet(c, &m, &g) < 0 && g.len == 0);
}

/* Asks for the challenge; the nonces of both. */
static void challenged(struct host_client *c, struct secret_nonces *n)
{
	CLEANUP_GREETING struct greeting g = {0};
	struct msg m = {0};

	assert_int_equal(secret_nonce(n->client), 0);
	MSG_SET(&m, nonce, ((struct slice){n->client, SECRET_NONCE_LEN}));
	assert_int_equal(greet(c, &m, &g), -EACCES);
	assert_true(MSG_HAS(&g.hello, nonce) && g.hello.nonce.len == SECRET_NONCE_LEN);
	assert_false(MSG_HAS(&g.hello, proof) || MSG_HAS(&g.hello, node));
	memcpy(n->server, g.hello.nonce.data, SECRET_NONCE_LEN);
}

/* The answer of one who has this secret, as this side. */
static int prove(struct host_client *c, const struct secret *s, enum secret_side side,
		 const struct secret_nonces *n, struct greeting *ret)
{
	unsigned char proof[SECRET_PROOF_LEN];
	struct msg m = {0};

	secret_prove(s, side, n, proof);
	MSG_SET(&m, proof, ((struct slice){proof, sizeof(proof)}));
	return greet(c, &m, ret);
}

static void test_right(void **state)
{
	struct fixture *f = *state;
	const struct secret s = secret_of(text);
	struct secret_nonces n;
	struct msg p;

	host_client_connect(&f->c, &f->hs);
	challenged(&f->c, &n);
	{
		CLEANUP_GREETING struct greeting g = {0};

		assert_int_equal(prove(&f->c, &s, SECRET_CLIENT, &n, &g), 0);
		assert_true(MSG_HAS(&g.hello, proof));
		assert_true(secret_proved(&s, SECRET_SERVER, &n, g.hello.proof.data,
					  g.hello.proof.len));
		f->c.root = g.hello.node;
	}
	assert_int_equal(host_getattr(&f->c, f->c.root, &p), 0);
	host_client_stop(&f->c);
}

static void refused_prover(struct fixture *f, const struct secret *s, enum secret_side side,
			   const struct secret_nonces *others)
{
	CLEANUP_GREETING struct greeting g = {0};
	struct secret_nonces n;

	host_client_connect(&f->c, &f->hs);
	challenged(&f->c, &n);
	assert_int_equal(prove(&f->c, s, side, others != NULL ? others : &n, &g), -EACCES);
	assert_true(says(&g, "the secret is another one"));
	assert_false(MSG_HAS(&g.hello, proof) || MSG_HAS(&g.hello, nonce));
	expect_closed(&f->c);
	host_client_stop(&f->c);
}

static void test_wrong(void **state)
{
	struct fixture *f = *state;
	const struct secret s = secret_of(text), other = secret_of("correct horse battery stapla"),
			    longer = secret_of("correct horse battery staple ");
	struct secret_nonces n;

	refused_prover(f, &other, SECRET_CLIENT, NULL);
	refused_prover(f, &longer, SECRET_CLIENT, NULL);
	refused_prover(f, &s, SECRET_SERVER, NULL); /* a server's own proof, sent back */
	/* What another connection has proved. */
	host_client_connect(&f->c, &f->hs);
	challenged(&f->c, &n);
	host_client_stop(&f->c);
	refused_prover(f, &s, SECRET_CLIENT, &n);
}

/* Of those that have not been asked: without a nonce, with a short one, with a proof at once. */
static void test_none(void **state)
{
	static const unsigned char zeros[SECRET_NONCE_LEN];
	struct fixture *f = *state;

	for (int i = 0; i < 4; i++) {
		CLEANUP_GREETING struct greeting g = {0};
		struct msg m = {0};

		host_client_connect(&f->c, &f->hs);
		if (i == 1)
			MSG_SET(&m, nonce, ((struct slice){zeros, SECRET_NONCE_LEN - 1}));
		if (i == 2)
			MSG_SET(&m, proof, ((struct slice){zeros, SECRET_PROOF_LEN}));
		if (i == 3) {
			MSG_SET(&m, features, HELLO_RESUME);
			MSG_SET(&m, session, 1);
			MSG_SET(&m, token, ((struct slice){zeros, MSG_TOKEN_LEN}));
		}
		assert_int_equal(greet(&f->c, &m, &g), -EACCES);
		assert_true(says(&g, "a secret is needed"));
		assert_false(MSG_HAS(&g.hello, nonce) || MSG_HAS(&g.hello, node));
		expect_closed(&f->c);
		host_client_stop(&f->c);
	}
}

/* The second HELLO has to have the proof; the plain protocol has none, before and after. */
static void test_instead(void **state)
{
	struct fixture *f = *state;
	const struct plain_request lookup = {.op = PLAIN_LOOKUP, .path = SLICE("/workspace")};

	for (int i = 0; i < 4; i++) {
		CLEANUP_GREETING struct greeting g = {0};
		struct secret_nonces n;
		struct msg m = {0};
		int r;

		host_client_connect(&f->c, &f->hs);
		if (i != 3)
			challenged(&f->c, &n);
		if (i == 0) /* nothing */
			r = greet(&f->c, &m, &g);
		else if (i == 1) { /* another challenge */
			MSG_SET(&m, nonce, ((struct slice){n.client, SECRET_NONCE_LEN}));
			r = greet(&f->c, &m, &g);
		} else {
			r = request(&f->c, &lookup, &g) < 0 ? -EIO : (int)g.reply.err;
			assert_false(g.reply.has_stat);
		}
		assert_int_equal(r, -EACCES);
		expect_closed(&f->c);
		host_client_stop(&f->c);
	}
}

/* ---- the client ---- */

struct dialling {
	int fd;
	const struct secret *secret;
	int r;
	char err[256];
};

static void *dial(void *arg)
{
	struct dialling *d = arg;
	const struct endpoint e = {.kind = ENDPOINT_FD, .fd = d->fd};
	const struct connect_options o = {.timeout_ms = DEADLINE_MS,
					  .stop_fd = -1,
					  .send_queue = 1 << 20,
					  .plain_base = "/w",
					  .needs = "secret_file",
					  .secret = d->secret};
	struct backend *b;

	d->r = transport_connect(&e, &o, &b, d->err, sizeof(d->err));
	if (d->r == 0) {
		b->ops->shutdown(b);
		b->ops->free(b);
	}
	(void)shutdown(d->fd, SHUT_RDWR);
	return NULL;
}

/* What a client has sent, frame by frame, in one piece; m points into it. */
static struct msg heard(struct stream *s, unsigned char *all, size_t room, size_t *ret_len)
{
	CLEANUP_FREE unsigned char *buf = NULL;
	size_t cap = 0, len = 0;
	struct plain_request q;
	struct msg m = {0};
	const char *why;

	assert_int_equal(stream_recv_plain(s, 65536, &buf, &cap, &len, DEADLINE_MS), 0);
	assert_true(*ret_len + len <= room);
	unsigned char *here = all + *ret_len;
	memcpy(here, buf, len);
	*ret_len += len;
	assert_int_equal(plain_request_decode(here, len, &q, &why), 0);
	assert_int_equal(q.op, PLAIN_HELLO);
	assert_int_equal(hello_decode(q.data, &m), 0);
	return m;
}

static void answer(struct stream *s, int err, struct msg *m)
{
	unsigned char data[HELLO_DATA_MAX];
	struct plain_reply reply = {.err = err};
	struct plain_buf out = {0};

	if (m != NULL)
		reply.data = (struct slice){data, hello_encode(m, data)};
	assert_int_equal(plain_reply_encode(&reply, &out), 0);
	assert_int_equal(stream_send_plain(s, out.data, out.len), 0);
	plain_buf_done(&out);
}

static struct msg a_server(void)
{
	struct msg m = {0};

	MSG_SET(&m, version, HELLO_VERSION);
	MSG_SET(&m, slots, 8);
	MSG_SET(&m, node, 1);
	m.attr.mode = S_IFDIR | 0755;
	m.present |= MSG_BIT(attr);
	return m;
}

enum impostor { PROVES, PROVES_NOTHING, PROVES_WRONG, ECHOES, ASKS_NOTHING, REFUSES, PLAIN };

/* A server of the test's, which knows the secret and does otherwise. */
static void meet(enum impostor as, const char *error)
{
	const struct secret s = secret_of(text), other = secret_of("another secret of theirs");
	struct dialling d = {.secret = &s, .err = ""};
	unsigned char all[2048], proof[SECRET_PROOF_LEN];
	struct secret_nonces n;
	struct stream *stream;
	pthread_t thread;
	size_t len = 0;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	d.fd = sv[1];
	assert_int_equal(stream_new(sv[0], &stream), 0);
	assert_int_equal(pthread_create(&thread, NULL, dial, &d), 0);
	struct msg m = heard(stream, all, sizeof(all), &len), p = a_server();
	assert_true(MSG_HAS(&m, nonce) && m.nonce.len == SECRET_NONCE_LEN);
	assert_false(MSG_HAS(&m, features) || MSG_HAS(&m, proof));
	memcpy(n.client, m.nonce.data, SECRET_NONCE_LEN);
	if (as == ASKS_NOTHING) {
		answer(stream, 0, &p);
	} else if (as == REFUSES || as == PLAIN) {
		answer(stream, as == PLAIN ? -ENOSYS : -EBUSY, NULL);
	} else {
		struct msg challenge = {0};

		assert_int_equal(secret_nonce(n.server), 0);
		MSG_SET(&challenge, nonce, ((struct slice){n.server, SECRET_NONCE_LEN}));
		answer(stream, -EACCES, &challenge);
		m = heard(stream, all, sizeof(all), &len);
		assert_true(MSG_HAS(&m, proof) &&
			    secret_proved(&s, SECRET_CLIENT, &n, m.proof.data, m.proof.len));
		secret_prove(as == PROVES_WRONG ? &other : &s, SECRET_SERVER, &n, proof);
		if (as == ECHOES)
			memcpy(proof, m.proof.data, sizeof(proof));
		if (as != PROVES_NOTHING)
			MSG_SET(&p, proof, ((struct slice){proof, sizeof(proof)}));
		answer(stream, 0, &p);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(d.r == 0, error == NULL);
	if (error != NULL && strstr(d.err, error) == NULL)
		fail_msg("'%s' is to be in: %s", error, d.err);
	assert_null(memmem(all, len, text, 8)); /* nor a part of it */
	stream_free(stream);
	(void)close(sv[1]);
}

static void test_servers(void **state)
{
	(void)state;
	meet(PROVES, NULL);
	meet(PROVES_NOTHING, "does not have the secret");
	meet(PROVES_WRONG, "does not have the secret");
	meet(ECHOES, "does not have the secret");
	meet(ASKS_NOTHING, "does not ask for the secret");
	meet(REFUSES, "refuses: Device or resource busy");
	meet(PLAIN, "plain protocol only, and secret_file needs");
}

/* ---- the proof, and the file ---- */

/* By another implementation: Python's hmac and hashlib. */
static void test_proof(void **state)
{
	static const unsigned char want[2][SECRET_PROOF_LEN] = {
		{0x77, 0x8c, 0x87, 0xaa, 0x44, 0x46, 0xc5, 0xa0, 0x6f, 0x12, 0x35, 0xb9, 0x6f, 0x4d, 0x00, 0x3c, 0x65, 0xc4, 0xc1, 0xde, 0xed, 0x41, 0x48, 0x00, 0x4c, 0xc2, 0x8a, 0x8c, 0xad, 0xb1, 0x34, 0xc6},
		{0x10, 0x77, 0xde, 0x07, 0x37, 0x60, 0xfb, 0xe1, 0xce, 0x68, 0x42, 0x8f, 0xd0, 0xbb, 0x0b, 0xc8, 0x12, 0x6c, 0x9e, 0x59, 0x78, 0x35, 0x9f, 0xe8, 0xe2, 0x9c, 0x05, 0x2e, 0xc0, 0xc7, 0xbd, 0xf6},
	};
	const struct secret s = secret_of("0123456789abcdef");
	unsigned char proof[SECRET_PROOF_LEN];
	struct secret_nonces n;

	(void)state;
	memset(n.client, 0xc1, sizeof(n.client));
	memset(n.server, 0x5e, sizeof(n.server));
	for (int side = 0; side < 2; side++) {
		secret_prove(&s, (enum secret_side)side, &n, proof);
		assert_memory_equal(proof, want[side], sizeof(proof));
		assert_true(secret_proved(&s, (enum secret_side)side, &n, proof, sizeof(proof)));
		assert_false(secret_proved(&s, (enum secret_side)side, &n, proof, 0));
		assert_false(secret_proved(&s, (enum secret_side)side, &n, proof, 31));
		proof[31] ^= 1;
		assert_false(secret_proved(&s, (enum secret_side)side, &n, proof, sizeof(proof)));
	}
}

static int read_file(const struct host_server *hs, const char *content, size_t len, mode_t mode,
		     struct secret *ret, char *err, size_t err_len)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/secret", hs->base);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, len), len);
	assert_int_equal(fchmod(fd, mode), 0);
	(void)close(fd);
	return secret_read(path, ret, err, err_len);
}

static void test_file(void **state)
{
	struct fixture *f = *state;
	static char big[SECRET_MAX + 2];
	struct secret s = {0};
	char err[256] = "";

	memset(big, 'x', sizeof(big));
	assert_int_equal(read_file(&f->hs, "0123456789abcdef\n", 17, 0600, &s, err, sizeof(err)), 0);
	assert_int_equal(s.len, 16);
	assert_memory_equal(s.bytes, "0123456789abcdef", 16);
	assert_int_equal(read_file(&f->hs, "0123456789\0bcdef", 16, 0440, &s, err, sizeof(err)), 0);
	assert_memory_equal(s.bytes, "0123456789\0bcdef", 16);
	assert_int_equal(read_file(&f->hs, big, SECRET_MAX, 0600, &s, err, sizeof(err)), 0);
	assert_int_equal(s.len, SECRET_MAX);

	static const mode_t open_to[] = {0604, 0602, 0620, 0644};
	for (size_t i = 0; i < sizeof(open_to) / sizeof(open_to[0]); i++)
		assert_int_equal(read_file(&f->hs, big, 32, open_to[i], &s, err, sizeof(err)),
				 -EINVAL);
	assert_non_null(strstr(err, "/secret'"));
	assert_int_equal(read_file(&f->hs, "", 0, 0600, &s, err, sizeof(err)), -EINVAL);
	assert_int_equal(read_file(&f->hs, big, 15, 0600, &s, err, sizeof(err)), -EINVAL);
	assert_int_equal(read_file(&f->hs, "0123456789abcde\n", 16, 0600, &s, err, sizeof(err)),
			 -EINVAL);
	assert_int_equal(read_file(&f->hs, big, SECRET_MAX + 1, 0600, &s, err, sizeof(err)), -EINVAL);
	assert_int_equal(read_file(&f->hs, big, SECRET_MAX + 2, 0600, &s, err, sizeof(err)), -EINVAL);
	assert_int_equal(secret_read(f->hs.dir, &s, err, sizeof(err)), -EINVAL);
	assert_int_equal(secret_read("/nowhere", &s, err, sizeof(err)), -ENOENT);
	assert_int_equal(s.len, SECRET_MAX); /* untouched by what failed */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_secret, teardown_secret)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_right),	      TEST(test_wrong),
		TEST(test_none),	      TEST(test_instead),
		cmocka_unit_test(test_servers), cmocka_unit_test(test_proof),
		TEST(test_file),
	};
	struct secret none;
	char why[256];

	if (secret_read("/nowhere", &none, why, sizeof(why)) == -ENOSYS) {
		(void)printf("skipped: %s\n", why);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
