/*
 * Well-formed messages of nonsense: any op, any fields, values at the edges.
 * Nothing is expected but that the server answers or closes the connection,
 * that what is outside the export stays as it is, and that the sanitizers
 * find nothing. Reproducible: VSOCKFS_FUZZ_SEED, VSOCKFS_FUZZ_STEPS.
 */
#include "host_fixture.h"

#include <poll.h>

struct fuzz {
	struct fixture *f;
	struct host_client *c;
	uint64_t seed;
	uint64_t nodes[8], fhs[8]; /* that replies named */
	unsigned n_nodes, n_fhs;
	unsigned closed;
};

static uint64_t rnd(struct fuzz *z, uint64_t n)
{
	z->seed = z->seed * 6364136223846793005u + 1442695040888963407u;
	return (z->seed >> 33) % n;
}

/* Sizes in between would fill the disk or memory in earnest. */
static uint64_t number(struct fuzz *z)
{
	static const uint64_t edges[] = {0,
					 1,
					 2,
					 3,
					 4,
					 255,
					 4096,
					 0100644,
					 040755,
					 0120777,
					 010600,
					 1u << 20,
					 (1u << 20) + 1,
					 UINT64_C(1) << 45,
					 INT64_MAX,
					 UINT64_C(1) << 63,
					 UINT64_MAX,
					 UINT32_MAX};

	return edges[rnd(z, sizeof(edges) / sizeof(edges[0]))];
}

static struct slice text(struct fuzz *z)
{
	static const char *const texts[] = {
		"",
		"a",
		"b",
		"c",
		"d",
		".",
		"..",
		"/",
		"../out",
		"d/../..",
		"user.x",
		"out",
		"security.capability",
		"x\xff\n",
		"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
		"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
		"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
		"nnnnnnnnnnnnnnnnn",
	};
	const char *t = texts[rnd(z, sizeof(texts) / sizeof(texts[0]))];
	struct slice s = SLICE(t);

	s.len += rnd(z, 20) == 0; /* the NUL */
	return s;
}

static uint64_t op(struct fuzz *z)
{
	static const uint64_t ops[] = {
#define MESSAGE(code, NAME, request, reply, traits_, text_) code,
#include "core/messages.def"
#undef MESSAGE
	};

	return rnd(z, 50) == 0 ? rnd(z, 200) : ops[rnd(z, sizeof(ops) / sizeof(ops[0]))];
}

static uint64_t known(struct fuzz *z, const uint64_t *ids, unsigned n)
{
	return n == 0 || rnd(z, 8) == 0 ? number(z) : ids[rnd(z, n)];
}

#define MAYBE(z, q, field, value)                                                                  \
	do {                                                                                       \
		if (rnd(z, 16) != 0)                                                               \
			MSG_SET(q, field, value);                                                  \
	} while (0)

static void nonsense(struct fuzz *z, struct msg *q, unsigned char payload[64])
{
	MAYBE(z, q, node, known(z, z->nodes, z->n_nodes));
	MAYBE(z, q, node2, known(z, z->nodes, z->n_nodes));
	MAYBE(z, q, fh, known(z, z->fhs, z->n_fhs));
	MAYBE(z, q, fh2, known(z, z->fhs, z->n_fhs));
	MAYBE(z, q, name, text(z));
	MAYBE(z, q, name2, text(z));
	MAYBE(z, q, off, number(z));
	MAYBE(z, q, off2, number(z));
	MAYBE(z, q, size, number(z));
	MAYBE(z, q, flags, rnd(z, 2) ? number(z) : rnd(z, 1u << 23));
	MAYBE(z, q, mode, number(z));
	MAYBE(z, q, valid, rnd(z, 256));
	MAYBE(z, q, atime, ((struct msg_time){(int64_t)number(z), (uint32_t)rnd(z, 1000000000)}));
	MAYBE(z, q, mtime, ((struct msg_time){(int64_t)number(z), (uint32_t)rnd(z, 1000000000)}));
	MAYBE(z, q, owner, rnd(z, 3));
	MAYBE(z, q, type, rnd(z, 4));
	MAYBE(z, q, rdev, number(z));
	if (rnd(z, 2) == 0) {
		MSG_SET(q, uid, number(z));
		MSG_SET(q, gid, number(z));
		MSG_SET(q, groups, ((struct slice){payload, rnd(z, 32)}));
	}
	for (int i = 0; i < 64; i++)
		payload[i] = (unsigned char)rnd(z, 256);
	if (rnd(z, 3) == 0) {
		size_t n = codec_put_pair(known(z, z->nodes, z->n_nodes), number(z), payload, 64);

		MSG_SET(q, payload, ((struct slice){payload, n}));
	} else if (rnd(z, 2) == 0) {
		size_t n = codec_put_uint(known(z, z->fhs, z->n_fhs), payload, 64);

		MSG_SET(q, payload, ((struct slice){payload, n}));
	} else {
		MAYBE(z, q, payload, ((struct slice){payload, rnd(z, 64)}));
	}
}

static void reconnect(struct fuzz *z)
{
	host_client_stop(z->c);
	host_client_start(z->c, &z->f->hs);
	z->n_nodes = z->n_fhs = 0;
	z->nodes[z->n_nodes++] = z->c->root;
	z->closed++;
}

/* Reads replies until the one to ping; false if the connection was closed. */
static bool settle(struct fuzz *z, uint64_t ping)
{
	for (;;) {
		const char *why;
		struct msg p = {0};

		if (stream_recv(z->c->stream, &z->c->head, &p, &why) < 0 ||
		    (MSG_HAS(&p, payload) &&
		     stream_recv_payload(z->c->stream, NULL, p.payload.len) < 0))
			return false;
		assert_true(MSG_HAS(&p, id) && p.err < 4096);
		if (p.id == ping)
			return true;
		if (MSG_HAS(&p, node))
			z->nodes[z->n_nodes < 8 ? z->n_nodes++ : rnd(z, 8)] = p.node;
		if (MSG_HAS(&p, fh))
			z->fhs[z->n_fhs < 8 ? z->n_fhs++ : rnd(z, 8)] = p.fh;
	}
}

static unsigned long environment(const char *name, unsigned long otherwise)
{
	const char *v = getenv(name);

	return v != NULL ? strtoul(v, NULL, 0) : otherwise;
}

static void test_fuzz(void **state)
{
	struct fuzz z = {.f = *state, .c = &((struct fixture *)*state)->c};
	unsigned long steps = environment("VSOCKFS_FUZZ_STEPS", 8000);
	struct stat before, after;
	char out[80];

	z.seed = environment("VSOCKFS_FUZZ_SEED", 1);
	(void)snprintf(out, sizeof(out), "%s/out", z.f->hs.base);
	int fd = open(out, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "untouched", 9), 9);
	(void)close(fd);
	assert_int_equal(stat(out, &before), 0);
	assert_int_equal(symlinkat("../out", z.f->hs.fd, "out"), 0);
	z.nodes[z.n_nodes++] = z.c->root;
	for (unsigned long i = 0; i < steps; i++) {
		unsigned char payload[64];
		struct msg q = {0}, ping = {0};

		nonsense(&z, &q, payload);
		MSG_SET(&q, op, op(&z));
		if (rnd(&z, 50) != 0)
			MSG_SET(&q, id, ++z.c->last_id);
		MSG_SET(&ping, op, MSG_PING);
		MSG_SET(&ping, id, ++z.c->last_id);
		if (stream_send(z.c->stream, &q) < 0 || stream_send(z.c->stream, &ping) < 0 ||
		    !settle(&z, ping.id))
			reconnect(&z);
		if (i % 1000 == 0) { /* what is sparse is not to grow for ever */
			(void)unlinkat(z.f->hs.fd, "a", 0);
			(void)unlinkat(z.f->hs.fd, "b", 0);
		}
	}
	assert_true(z.closed > 0 && z.closed < steps / 2);
	assert_int_equal(stat(out, &after), 0);
	assert_true(after.st_size == 9 && after.st_ino == before.st_ino &&
		    after.st_mode == before.st_mode && after.st_uid == before.st_uid &&
		    after.st_mtim.tv_nsec == before.st_mtim.tv_nsec && after.st_nlink == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fuzz, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
