/*
 * A hostile plain server, as the plain client meets it: each request is answered with a reply of
 * any fields, with bytes as they come, or by hanging up, while calls of every kind are made.
 *
 * Every call ends exactly once; what it brings is what the extended protocol would have let through.
 */
#include "fuzz.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "plain/plain_client.h"
#include "plain/plain_codec.h"
#include "transport/codec.h"
#include "transport/stream.h"

#define CALLS	64
#define ENTRIES 12

/* One call at a time, and the server's thread reads the input only while it waits for that. */
static struct {
	struct fuzz_in in;
	struct stream *stream;
	int fd;
	sem_t ended;
	unsigned completions;
	uint64_t nodes[8], fhs[8];
	unsigned n_nodes, n_fhs;
} peer;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_init("vsockfs", LOG_EMERG);
	return 0;
}

/* ---- the server ---- */

static int32_t some_err(struct fuzz_in *in)
{
	static const int32_t errs[] = {0,	0,	  0,	    0,	       -ENOENT, -ENOSYS,
				       -EINVAL, -EEXIST, -EISDIR, -ENOTDIR, -EIO,    -512,
				       1,	INT32_MIN};
	uint8_t c = fuzz_byte(in);

	return c < 200 ? errs[c % FUZZ_COUNT(errs)] : (int32_t)fuzz_number(in);
}

static void put_listing(struct fuzz_in *in, struct plain_reply *p, struct plain_buf *entries)
{
	p->entry_count = fuzz_byte(in) % ENTRIES;
	for (size_t i = 0; i < p->entry_count; i++) {
		uint8_t how = fuzz_byte(in);
		struct plain_entry e = {.name = fuzz_name(in),
					.is_dir = how & 1,
					.mode = (uint32_t)fuzz_number(in),
					.size = (int64_t)fuzz_number(in),
					.ino = fuzz_number(in)};
		FUZZ_CHECK(plain_entry_put(entries, &e) == 0);
	}
	p->entries = (struct slice){entries->data, entries->len};
}

static int answer(struct fuzz_in *in)
{
	static const uint32_t modes[] = {0644, PLAIN_MODE_DIR | 0755, PLAIN_MODE_LINK | 0777, 0100644,
					 040755, 0120777, PLAIN_MODE_FIFO | 0600, UINT32_MAX};
	uint8_t how = fuzz_byte(in);
	struct plain_buf b = {0}, entries = {0};

	if (how >= 240) {
		struct slice s = fuzz_bytes(in, 1024);

		return how >= 248 ? stream_send_raw(peer.stream, s.data, s.len, NULL, 0)
				  : stream_send_plain(peer.stream, s.data, s.len);
	}
	struct plain_reply p = {.err = some_err(in), .has_stat = !(how & 1)};
	uint32_t mode = modes[fuzz_byte(in) % FUZZ_COUNT(modes)];
	p.stat = (struct plain_stat){.size = (int64_t)(fuzz_number(in) & INT64_MAX),
				     .mode = mode,
				     .is_dir = (mode & (PLAIN_MODE_DIR | 040000)) != 0,
				     .mtime = (int64_t)fuzz_number(in),
				     .ino = fuzz_number(in)};
	if (how & 2)
		p.data = fuzz_name(in);
	if (how & 4)
		p.written = (uint32_t)fuzz_number(in);
	p.fh = how & 8 ? fuzz_number(in) : 3;
	if (how & 16)
		put_listing(in, &p, &entries);
	if (how & 32)
		p.stat.is_dir = !p.stat.is_dir;
	FUZZ_CHECK(plain_reply_encode(&p, &b) == 0);
	int r = stream_send_plain(peer.stream, b.data, b.len);
	plain_buf_done(&b);
	plain_buf_done(&entries);
	return r;
}

/* Behind the end of the input it hangs up. */
static void *server_main(void *arg)
{
	unsigned char *buf = NULL;
	size_t cap = 0, len;

	(void)arg;
	while (stream_recv_plain(peer.stream, PLAIN_FRAME_MAX, &buf, &cap, &len, -1) == 0) {
		struct plain_request q;
		const char *why = NULL;

		FUZZ_CHECK(plain_request_decode(buf, len, &q, &why) == 0);
		FUZZ_CHECK(!q.bad_text);
		if (peer.in.left == 0 || answer(&peer.in) < 0)
			break;
	}
	stream_shutdown(peer.stream);
	free(buf);
	return NULL;
}

/* ---- the client ---- */

static void check_listing(struct slice in)
{
	struct dir_entry e;
	int r;

	while ((r = codec_get_entry(&in, &e)) == 1) {
		FUZZ_CHECK(e.name.len > 0 && e.name.len <= MSG_NAME_MAX);
		FUZZ_CHECK(memchr(e.name.data, '/', e.name.len) == NULL);
		FUZZ_CHECK(memchr(e.name.data, 0, e.name.len) == NULL);
		if (e.node != 0)
			peer.nodes[peer.n_nodes++ % 8] = e.node;
	}
	FUZZ_CHECK(r == 0);
}

static void on_done(struct call *call, const struct msg *reply)
{
	uint64_t op = call->req.op;

	FUZZ_CHECK(peer.completions++ == 0);
	FUZZ_CHECK(reply->err <= MSG_ERR_MAX);
	if (reply->err == 0) {
		FUZZ_CHECK(msg_reply_complete(op, reply));
		if (MSG_HAS(reply, payload) && MSG_HAS(&call->req, size))
			FUZZ_CHECK(reply->payload.len <= call->req.size);
		if (op == MSG_READLINK)
			FUZZ_CHECK(msg_target_valid(reply->payload));
		if (op == MSG_WRITE)
			FUZZ_CHECK(reply->size <= call->req.payload.len);
		if (op == MSG_READDIRPLUS)
			check_listing(reply->payload);
		if (MSG_HAS(reply, attr))
			FUZZ_CHECK((reply->attr.mode & S_IFMT) != 0);
		if (MSG_HAS(reply, node))
			peer.nodes[peer.n_nodes++ % 8] = reply->node;
		if (MSG_HAS(reply, fh))
			peer.fhs[peer.n_fhs++ % 8] = reply->fh;
	}
	FUZZ_CHECK(sem_post(&peer.ended) == 0);
}

static uint64_t some(struct fuzz_in *in, const uint64_t *ids, unsigned n)
{
	uint8_t c = fuzz_byte(in);

	return c < 240 ? ids[c % (n == 0 ? 1 : n < 8 ? n : 8)] : fuzz_number(in);
}

static struct slice guest_name(struct fuzz_in *in)
{
	static const char *const names[] = {"a", "b", "c", "d", "x\xff"};
	const char *name = names[fuzz_byte(in) % FUZZ_COUNT(names)];

	return (struct slice){name, strlen(name)};
}

/* As the cache asks: what it sets itself is sound. */
static void one_call(struct fuzz_in *in, struct backend *b)
{
	struct call *call = calloc(1, sizeof(*call));
	struct msg *q = &call->req;
	uint64_t op = fuzz_op(in);

	FUZZ_CHECK(call != NULL);
	if (!msg_op_known(op) || msg_is(op, TRAIT_ONEWAY | TRAIT_PUSHED) || op == MSG_HELLO)
		op = MSG_LOOKUP;
	call->done = on_done;
	MSG_SET(q, op, op);
	fuzz_missing(in, q, fuzz_needs(op, false));
	if (MSG_HAS(q, node) || msg_is(op, TRAIT_WRITES | TRAIT_READS))
		MSG_SET(q, node, some(in, peer.nodes, peer.n_nodes));
	if (MSG_HAS(q, node2))
		MSG_SET(q, node2, some(in, peer.nodes, peer.n_nodes));
	if (MSG_HAS(q, fh))
		MSG_SET(q, fh, some(in, peer.fhs, peer.n_fhs));
	if (MSG_HAS(q, name))
		q->name = guest_name(in);
	if (MSG_HAS(q, name2))
		q->name2 = guest_name(in);
	if (MSG_HAS(q, size) && op != MSG_SETATTR)
		q->size %= 65537;
	if (op == MSG_SETATTR)
		fuzz_missing(in, q, MSG_BIT(mode) | MSG_BIT(size) | MSG_BIT(atime) | MSG_BIT(mtime) |
					    MSG_BIT(uid) | MSG_BIT(gid));
	if (MSG_HAS(q, off))
		q->off &= INT64_MAX;
	call->uid = call->gid = fuzz_byte(in);
	peer.completions = 0;
	b->ops->submit(b, call);
	while (sem_wait(&peer.ended) < 0)
		;
	free(call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct plain_options o = {.base = "/w"};
	struct backend *b = NULL;
	pthread_t server;
	char err[256];
	int sv[2];

	memset(&peer, 0, sizeof(peer));
	peer.in = (struct fuzz_in){.at = data, .left = size};
	FUZZ_CHECK(sem_init(&peer.ended, 0, 0) == 0);
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	peer.fd = sv[1];
	FUZZ_CHECK(stream_new(sv[1], &peer.stream) == 0);
	FUZZ_CHECK(pthread_create(&server, NULL, server_main, NULL) == 0);
	int r = plain_client_new(sv[0], &o, &b, err, sizeof(err));
	if (r == 0) {
		peer.nodes[peer.n_nodes++] = b->info.root_node;
		for (unsigned i = 0; i < CALLS && peer.in.left > 0; i++)
			one_call(&peer.in, b);
		b->ops->shutdown(b);
		b->ops->free(b);
	}
	stream_shutdown(peer.stream);
	FUZZ_CHECK(pthread_join(server, NULL) == 0);
	stream_free(peer.stream);
	(void)sem_destroy(&peer.ended);
	return 0;
}
