/*
 * A hostile guest: a session of a server over a small export of its own. The first byte says how
 * it speaks: bytes as they come, plain requests, or after HELLO messages of any fields, with ids
 * that the server has named; its session may go on over other connections.
 *
 * Nothing is expected of the answers. What is outside the export stays as it is, the session ends
 * with its connection (-timeout), and gives back every descriptor. No file grows above a limit
 * (RLIMIT_FSIZE), so that nothing fills the disk.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "host/server.h"
#include "plain/plain_codec.h"
#include "plain_host/plain_host.h"
#include "transport/codec.h"
#include "transport/hello.h"
#include "transport/stream.h"

#define FILE_MAX    (1 << 20)
#define MESSAGE_MAX 48 /* of one session */
#define GRACE_MS    40 /* for a session that this guest has lost its way to */
#define RETURNS_MAX 4  /* to one session */

static struct {
	char base[64], dir[80], out[80];
	struct server *server;
	struct stat outside;
	size_t fds;
} world;

static struct {
	struct stream *stream;
	int fd;
	struct head_buf head;
	uint64_t last_id, seq;
	/* of a session that may be resumed: */
	bool resumes;
	uint64_t session, epoch;
	unsigned char token[MSG_TOKEN_LEN];
} guest;

/* ---- the export ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	if (at->level > 0 && remove(path) != 0)
		FUZZ_CHECK(errno == ENOENT);
	return 0;
}

static void put_file(const char *name)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", world.dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	FUZZ_CHECK(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0);
}

/* A file, a directory with a file, and links out of the export. */
static void fill(void)
{
	char path[128];

	(void)nftw(world.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	(void)chmod(world.dir, 0755);
	put_file("f");
	(void)snprintf(path, sizeof(path), "%s/d", world.dir);
	FUZZ_CHECK(mkdir(path, 0755) == 0);
	put_file("d/f");
	(void)snprintf(path, sizeof(path), "%s/out", world.dir);
	FUZZ_CHECK(symlink("../out", path) == 0);
	(void)snprintf(path, sizeof(path), "%s/d/up", world.dir);
	FUZZ_CHECK(symlink("../..", path) == 0);
}

/* The descriptors, without those to the sanitizers' symbolizer. */
static size_t count_descriptors(bool show)
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;
	char target[256];
	size_t n = 0;

	FUZZ_CHECK(d != NULL);
	while ((e = readdir(d)) != NULL) {
		ssize_t len = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);

		if (len < 0)
			continue;
		target[len] = '\0';
		if (strncmp(target, "pipe:", 5) == 0 || strcmp(target, "/dev/null") == 0)
			continue;
		n++;
		if (show)
			(void)fprintf(stderr, "%s: %s\n", e->d_name, target);
	}
	(void)closedir(d);
	return n;
}

static size_t count(const char *dir)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	FUZZ_CHECK(d != NULL);
	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n;
}

static void check_outside(void)
{
	struct stat st;

	FUZZ_CHECK(stat(world.out, &st) == 0);
	FUZZ_CHECK(st.st_size == world.outside.st_size && st.st_ino == world.outside.st_ino &&
		   st.st_mode == world.outside.st_mode && st.st_uid == world.outside.st_uid &&
		   st.st_nlink == 1 &&
		   memcmp(&st.st_mtim, &world.outside.st_mtim, sizeof(st.st_mtim)) == 0 &&
		   memcmp(&st.st_ctim, &world.outside.st_ctim, sizeof(st.st_ctim)) == 0);
	FUZZ_CHECK(count(world.base) == 4); /* ".", "..", the export, what is outside */
}

/* It is empty or full of the last session's: whoever kills the run leaves that. */
static void clean_up(void)
{
	(void)nftw(world.base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	(void)rmdir(world.base);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct rlimit limit = {FILE_MAX, FILE_MAX};
	const char *tmp = getenv("TMPDIR");
	char err[256];

	(void)argc;
	(void)argv;
	log_init("vsockfsd", LOG_EMERG);
	(void)signal(SIGXFSZ, SIG_IGN);
	FUZZ_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	(void)snprintf(world.base, sizeof(world.base), "%.32s/vsockfs-fuzz-XXXXXX",
		       tmp != NULL ? tmp : "/tmp");
	FUZZ_CHECK(mkdtemp(world.base) != NULL);
	(void)atexit(clean_up);
	(void)snprintf(world.dir, sizeof(world.dir), "%s/export", world.base);
	(void)snprintf(world.out, sizeof(world.out), "%s/out", world.base);
	FUZZ_CHECK(mkdir(world.dir, 0755) == 0);
	int fd = open(world.out, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	FUZZ_CHECK(fd >= 0 && write(fd, "untouched", 9) == 9 && close(fd) == 0);
	FUZZ_CHECK(stat(world.out, &world.outside) == 0);
	const struct server_config config = {.dir = world.dir,
					     .plain = &plain_host,
					     .plain_prefix = "/w",
					     .plain_follow = true,
					     .ack_ms = 20,
					     .session_grace_ms = GRACE_MS,
					     .session_lease_ms = GRACE_MS};
	if (server_new(&config, &world.server, err, sizeof(err)) < 0) {
		(void)fprintf(stderr, "%s\n", err);
		exit(1);
	}
	return 0;
}

/* ---- the guest ---- */

static void connect_guest(void)
{
	int sv[2];

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	FUZZ_CHECK(server_add(world.server, sv[0]) == 0);
	FUZZ_CHECK(stream_new(sv[1], &guest.stream) == 0);
	guest.fd = sv[1];
}

/* Sends bytes and reads what comes, whatever it is; at the end until the server closes. */
static void pump(const uint8_t *data, size_t size, bool last)
{
	char rest[65536];

	while (size > 0 || last) {
		struct pollfd p = {.fd = guest.fd,
				   .events = (short)(POLLIN | (size ? POLLOUT : 0))};

		(void)poll(&p, 1, -1);
		if (p.revents & (POLLIN | POLLHUP | POLLERR) &&
		    recv(guest.fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0 && errno != EAGAIN)
			return;
		if (!(p.revents & POLLOUT) || size == 0)
			continue;
		ssize_t n = send(guest.fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return;
		data += n > 0 ? n : 0;
		size -= n > 0 ? (size_t)n : 0;
		if (size == 0)
			(void)shutdown(guest.fd, SHUT_WR);
	}
}

static void speak_raw(struct fuzz_in *in)
{
	if (in->left == 0)
		(void)shutdown(guest.fd, SHUT_WR);
	pump(in->at, in->left, true);
}

/* Sends a plain request and waits for its reply; false at the end of the connection. */
static bool plain_call(struct fuzz_in *in, const struct plain_request *q)
{
	struct plain_buf out = {0};
	unsigned char *buf = NULL;
	size_t cap = 0, len = 0;
	struct plain_reply p;
	const char *why;

	FUZZ_CHECK(plain_request_encode(q, &out) == 0);
	int r = stream_send_plain(guest.stream, out.data, out.len);
	if (r == 0)
		r = stream_recv_plain(guest.stream, PLAIN_FRAME_MAX, &buf, &cap, &len, -1);
	if (r == 0) {
		FUZZ_CHECK(plain_reply_decode(buf, len, &p, &why) == 0);
		FUZZ_CHECK(p.err <= 0 && p.err > -4096);
		if (p.fh != 0)
			fuzz_learn(in, p.fh);
	}
	plain_buf_done(&out);
	free(buf);
	return r == 0;
}

static struct slice plain_path(struct fuzz_in *in, char *buf, size_t cap)
{
	static const char *const ways[] = {"/w/", "/w/d/", "/w/out/", "/w/d/up/", "", "/", "/w"};
	uint8_t c = fuzz_byte(in);
	const char *way = ways[c % FUZZ_COUNT(ways)];
	struct slice name = c < 128 ? fuzz_name(in) : (struct slice){"f", 1};
	size_t n = strlen(way);

	memcpy(buf, way, n);
	FUZZ_CHECK(n + name.len <= cap);
	memcpy(buf + n, name.data, name.len);
	return (struct slice){buf, n + name.len};
}

static void speak_plain(struct fuzz_in *in)
{
	char path[512], other[512];

	for (unsigned i = 0; i < MESSAGE_MAX && in->left > 0; i++) {
		uint8_t op = fuzz_byte(in), has = fuzz_byte(in);
		struct plain_request q = {.op = op % (PLAIN_OPS + 1)};

		q.path = plain_path(in, path, sizeof(path));
		if (has & 1)
			q.new_path = plain_path(in, other, sizeof(other));
		if (has & 2)
			q.fh = fuzz_number(in);
		if (has & 4)
			q.off = (int64_t)fuzz_number(in);
		if (has & 8)
			q.sz = (uint32_t)fuzz_number(in) % (1u << 21);
		if (has & 16)
			q.data = fuzz_name(in);
		if (has & 32)
			q.flags = (uint32_t)fuzz_number(in);
		if (has & 64)
			q.mode = (uint32_t)fuzz_number(in);
		if (has & 128)
			q.uid = q.gid = (uint32_t)fuzz_number(in);
		q.has_mtime = q.op == PLAIN_TIMES;
		q.mtime_ns = q.has_mtime ? (int64_t)fuzz_number(in) : 0;
		if (!plain_call(in, &q))
			return;
	}
}

static void note_session(const struct msg *m)
{
	guest.resumes = MSG_HAS(m, token) && m->token.len == MSG_TOKEN_LEN;
	guest.session = m->session;
	guest.epoch = m->epoch;
	if (guest.resumes)
		memcpy(guest.token, m->token.data, MSG_TOKEN_LEN);
}

/* 1, 0 if it is refused, and -1 at the end of the connection. */
static int say_hello(struct fuzz_in *in, struct msg *hello)
{
	unsigned char data[HELLO_DATA_MAX], *buf = NULL;
	struct plain_buf out = {0};
	struct plain_reply p;
	struct msg m = {0};
	size_t cap = 0, len = 0;
	bool refused = false;
	const char *why;

	MSG_SET(hello, version, HELLO_VERSION);
	struct plain_request q = {.op = PLAIN_HELLO, .data = {data, hello_encode(hello, data)}};
	FUZZ_CHECK(plain_request_encode(&q, &out) == 0);
	int r = stream_send_plain(guest.stream, out.data, out.len);
	plain_buf_done(&out);
	if (r == 0)
		r = stream_recv_plain(guest.stream, 65536, &buf, &cap, &len, -1);
	if (r == 0) {
		FUZZ_CHECK(plain_reply_decode(buf, len, &p, &why) == 0);
		refused = p.err != 0;
		FUZZ_CHECK(!refused || MSG_HAS(hello, token));
		FUZZ_CHECK(refused || hello_decode(p.data, &m) == 0);
	}
	if (r == 0 && !refused) {
		fuzz_learn(in, m.node);
		note_session(&m);
	}
	free(buf);
	return r < 0 ? -1 : refused ? 0 : (m.features & HELLO_RESUMED) != 0 ? 2 : 1;
}

static bool greet(struct fuzz_in *in, uint64_t features)
{
	struct msg m = {0};

	MSG_SET(&m, features, features);
	int r = say_hello(in, &m);
	FUZZ_CHECK(r != 0);
	return r > 0;
}

static void leave(void)
{
	stream_free(guest.stream);
	head_buf_done(&guest.head);
	guest.head = (struct head_buf){0};
}

static bool send_resume(uint64_t flags, uint64_t type, struct slice items)
{
	struct msg m = {0};

	MSG_SET(&m, op, MSG_RESUME);
	MSG_SET(&m, id, ++guest.last_id);
	MSG_SET(&m, flags, flags);
	MSG_SET(&m, type, type);
	MSG_SET(&m, payload, items);
	return stream_send(guest.stream, &m) == 0;
}

/* What it says that it has: items of the type, seldom of another. */
static bool resume(struct fuzz_in *in)
{
	unsigned n = fuzz_byte(in) % 4;

	for (unsigned i = 0; i <= n; i++) {
		uint64_t type = fuzz_byte(in) % 16 == 15 ? fuzz_number(in) : fuzz_byte(in) % 3;
		uint8_t how = fuzz_byte(in);
		unsigned char buf[512];
		size_t len = 0;

		for (unsigned k = 0; k < how % 8; k++)
			len += type == RESUME_FILES || how >= 250
				       ? codec_put_uint(fuzz_number(in), buf + len,
							sizeof(buf) - len)
				       : codec_put_pair(fuzz_number(in), fuzz_number(in), buf + len,
							sizeof(buf) - len);
		uint64_t flags =
			how >= 240 ? fuzz_number(in)
				   : (i == 0 ? RESUME_FIRST : 0u) | (i == n ? RESUME_LAST : 0u);
		if (!send_resume(flags, type, (struct slice){buf, len}))
			return false;
	}
	return true;
}

/* Over another connection: with what the server told, seldom with something else. */
static int come_back(struct fuzz_in *in, bool honest)
{
	struct msg m = {0};

	leave();
	connect_guest();
	uint8_t how = honest ? 0 : fuzz_byte(in);
	MSG_SET(&m, features, HELLO_RESUME | (how & 1 ? HELLO_PUSH : 0u));
	MSG_SET(&m, session, how & 2 && how & 4 ? fuzz_number(in) : guest.session);
	MSG_SET(&m, epoch, how & 8 && how & 16 ? fuzz_number(in) : guest.epoch);
	MSG_SET(&m, seq, how & 32 ? fuzz_number(in) : guest.seq);
	if (how >= 248)
		guest.token[0] ^= 1;
	MSG_SET(&m, token, ((struct slice){guest.token, MSG_TOKEN_LEN}));
	return say_hello(in, &m);
}

/* False at the end of the connection. */
static bool go_on(struct fuzz_in *in)
{
	int r = come_back(in, false);

	if (r <= 0)
		return false;
	if (r == 1) /* it is another session */
		return true;
	return resume(in);
}

/* Nothing of it is to be left. */
static void say_goodbye(struct fuzz_in *in)
{
	struct msg m = {0};

	MSG_SET(&m, op, MSG_GOODBYE);
	if (!guest.resumes || stream_send(guest.stream, &m) == 0)
		return;
	if (come_back(in, true) != 2 ||
	    !send_resume(RESUME_FIRST | RESUME_LAST, RESUME_NODES, (struct slice){0}))
		return;
	(void)stream_send(guest.stream, &m);
}

/* Takes what comes up to the reply to this id; false at the end of the connection. */
static bool settle(struct fuzz_in *in, uint64_t id)
{
	static unsigned char payload[MSG_PAYLOAD_MAX];
	const char *why;

	for (;;) {
		struct msg p = {0};
		struct dir_entry e;

		if (stream_recv(guest.stream, &guest.head, &p, &why) < 0)
			return false;
		if (MSG_HAS(&p, payload) &&
		    stream_recv_payload(guest.stream, payload, p.payload.len) < 0)
			return false;
		if (MSG_HAS(&p, op)) {
			guest.seq = p.seq;
			continue;
		}
		FUZZ_CHECK(MSG_HAS(&p, id) && p.err <= MSG_ERR_MAX);
		if (p.id == id)
			return true;
		if (MSG_HAS(&p, node))
			fuzz_learn(in, p.node);
		if (MSG_HAS(&p, fh))
			fuzz_learn(in, p.fh);
		struct slice items = {payload, MSG_HAS(&p, payload) ? p.payload.len : 0};
		if (codec_get_entry(&items, &e) == 1 && e.node != 0)
			fuzz_learn(in, e.node);
	}
}

/* What the message's own payload is: references, open files, or bytes. */
static void sequence(struct fuzz_in *in, struct msg *q, unsigned char buf[64])
{
	size_t n = q->op == MSG_FORGET ? codec_put_pair(fuzz_number(in), fuzz_number(in), buf, 64)
				       : codec_put_uint(fuzz_number(in), buf, 64);

	MSG_SET(q, payload, ((struct slice){buf, n}));
}

static bool one_message(struct fuzz_in *in)
{
	struct msg q = {0}, ping = {0};
	unsigned char buf[64], slot[MSG_SLOT_LEN];
	uint8_t how = fuzz_byte(in);

	q.op = fuzz_op(in);
	fuzz_fields(in, &q);
	if (how < 224)
		fuzz_missing(in, &q, fuzz_needs(q.op, false) & ~MSG_BIT(id));
	if (q.op == MSG_FORGET || q.op == MSG_CLOSE)
		sequence(in, &q, buf);
	if (MSG_HAS(&q, size) && q.size > FILE_MAX && q.op == MSG_READ)
		q.size = FILE_MAX;
	MSG_SET(&q, op, q.op);
	if (how % 16 != 15)
		MSG_SET(&q, id, how % 16 == 14 ? guest.last_id : ++guest.last_id);
	if (q.op == MSG_ACK && how & 1)
		MSG_SET(&q, seq, guest.seq);
	if (guest.resumes && how & 8) {
		const struct msg_slot at = {(uint32_t)fuzz_number(in) % 4, fuzz_byte(in) % 8};

		msg_slot_put(at, slot);
		MSG_SET(&q, slot, ((struct slice){slot, sizeof(slot)}));
	}
	MSG_SET(&ping, op, MSG_PING);
	MSG_SET(&ping, id, ++guest.last_id);
	if (stream_send(guest.stream, &q) < 0)
		return false;
	if (how & 16) /* several are in flight */
		return true;
	return stream_send(guest.stream, &ping) == 0 && settle(in, ping.id);
}

static void speak_extended(struct fuzz_in *in)
{
	uint8_t features = fuzz_byte(in);
	unsigned returns = 0;

	if (!greet(in, features | (features & 1 ? HELLO_RESUME : 0u)))
		return;
	for (unsigned i = 0; i < MESSAGE_MAX && in->left > 0; i++) {
		bool back = guest.resumes && fuzz_byte(in) >= 224;

		if (back ? !go_on(in) : !one_message(in)) {
			if (!guest.resumes || ++returns > RETURNS_MAX)
				return;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {.at = data, .left = size};

	fill();
	memset(&guest, 0, sizeof(guest));
	connect_guest();
	switch (fuzz_byte(&in) % 4) {
	case 0:
		speak_raw(&in);
		break;
	case 1:
		speak_plain(&in);
		break;
	case 2:
		if (greet(&in, HELLO_PUSH))
			speak_raw(&in);
		break;
	default:
		speak_extended(&in);
	}
	say_goodbye(&in);
	leave();
	FUZZ_CHECK(server_run(world.server, true) == 0); /* until the session is gone */
	size_t fds = count_descriptors(false);
	if (world.fds == 0) /* the first session has had all that is made once */
		world.fds = fds;
	/* Of a session whose secret this guest has lost: with each client the server looks around.
	 */
	for (unsigned i = 0; fds != world.fds && i < 100; i++) {
		(void)usleep(GRACE_MS * 1000 / 10);
		connect_guest();
		leave();
		FUZZ_CHECK(server_run(world.server, true) == 0);
		fds = count_descriptors(false);
	}
	if (fds != world.fds)
		(void)count_descriptors(true);
	FUZZ_CHECK(fds == world.fds);
	check_outside();
	return 0;
}
