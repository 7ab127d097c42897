/*
 * A hostile server, as the cache and the FUSE side meet it: a kernel asks, and the replies, in any
 * order, are of any fields that the transport lets through, as are INV and RESET between them.
 * Nothing has a thread here, and the clock is the input's.
 *
 * Every request of the kernel is answered exactly once, and by what it asked for: no more bytes, and
 * listings and notifications that a kernel takes. At the end all memory is given back.
 */
#include "fuse_kernel.h"

#include "fuzz.h"

#include "core/log.h"

#define ACTIONS	 96
#define ASKED	 256
#define PENDING	 48 /* of FAKE_CALLS */
#define IN_MAX	 256

/* What a request of the kernel was, for what its answer means. */
struct sent {
	struct question *q;
	uint64_t ino;
	uint32_t size;
	bool learned;
};

struct handle {
	uint64_t ino, fh;
};

static struct {
	struct kernel *k;
	struct sent sent[ASKED];
	size_t n_sent;
	uint64_t inos[16]; /* nodes that the kernel has; the first is the root */
	unsigned n_inos;
	struct handle files[8], dirs[4];
	unsigned n_files, n_dirs;
	bool dir_busy; /* the kernel reads a directory by one call at a time */
} guest;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_init("vsockfs", LOG_EMERG);
	return 0;
}

/* ---- what the kernel checks ---- */

static void check_dirents(const struct sent *s, bool plus)
{
	size_t at = 0, head = plus ? sizeof(struct fuse_direntplus) : sizeof(struct fuse_dirent);

	FUZZ_CHECK(s->q->len <= s->size);
	while (at < s->q->len) {
		struct fuse_dirent d;
		const unsigned char *p = s->q->out + at;

		FUZZ_CHECK(s->q->len - at >= head);
		memcpy(&d, p + (plus ? offsetof(struct fuse_direntplus, dirent) : 0),
		       offsetof(struct fuse_dirent, name));
		const unsigned char *name =
			p + (plus ? offsetof(struct fuse_direntplus, dirent) : 0) +
			offsetof(struct fuse_dirent, name);
		size_t len = (plus ? offsetof(struct fuse_direntplus, dirent) : 0) +
			     offsetof(struct fuse_dirent, name) + d.namelen;
		len = (len + 7) / 8 * 8;
		FUZZ_CHECK(len <= s->q->len - at);
		FUZZ_CHECK(d.namelen > 0 && d.namelen <= 255);
		FUZZ_CHECK(memchr(name, '/', d.namelen) == NULL);
		FUZZ_CHECK(memchr(name, 0, d.namelen) == NULL);
		at += len;
	}
}

static void learn_node(const struct question *q)
{
	struct fuse_entry_out e;

	FUZZ_CHECK(q->len >= sizeof(e));
	memcpy(&e, q->out, sizeof(e));
	FUZZ_CHECK(e.attr_valid_nsec < 1000000000 && e.entry_valid_nsec < 1000000000);
	if (e.nodeid <= 1)
		return;
	for (unsigned i = 0; i < guest.n_inos; i++)
		if (guest.inos[i] == e.nodeid)
			return;
	if (guest.n_inos < FUZZ_COUNT(guest.inos))
		guest.inos[guest.n_inos++] = e.nodeid;
}

static void learn_handle(struct handle *list, unsigned *n, unsigned max, uint64_t ino,
			 const void *out)
{
	struct fuse_open_out o;

	memcpy(&o, out, sizeof(o));
	if (*n < max && o.fh != 0)
		list[(*n)++] = (struct handle){ino, o.fh};
}

static void learn(const struct sent *s)
{
	const struct question *q = s->q;

	switch (q->opcode) {
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		guest.dir_busy = false;
		break;
	default:
		break;
	}
	if (q->err != 0 || q->gone)
		return;
	switch (q->opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
		learn_node(q);
		break;
	case FUSE_CREATE: {
		struct fuse_entry_out e;

		learn_node(q);
		memcpy(&e, q->out, sizeof(e));
		FUZZ_CHECK(q->len >= sizeof(e) + sizeof(struct fuse_open_out));
		learn_handle(guest.files, &guest.n_files, FUZZ_COUNT(guest.files), e.nodeid,
			     q->out + sizeof(e));
		break;
	}
	case FUSE_OPEN:
		FUZZ_CHECK(q->len >= sizeof(struct fuse_open_out));
		learn_handle(guest.files, &guest.n_files, FUZZ_COUNT(guest.files), s->ino, q->out);
		break;
	case FUSE_OPENDIR:
		FUZZ_CHECK(q->len >= sizeof(struct fuse_open_out));
		learn_handle(guest.dirs, &guest.n_dirs, FUZZ_COUNT(guest.dirs), s->ino, q->out);
		break;
	case FUSE_READ:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		FUZZ_CHECK(q->len <= (s->size > 0 ? s->size : sizeof(struct fuse_getxattr_out)));
		break;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		check_dirents(s, q->opcode == FUSE_READDIRPLUS);
		break;
	case FUSE_READLINK:
		FUZZ_CHECK(q->len > 0 && q->len <= MSG_TARGET_MAX);
		FUZZ_CHECK(memchr(q->out, 0, q->len) == NULL);
		break;
	case FUSE_WRITE:
	case FUSE_COPY_FILE_RANGE: {
		struct fuse_write_out o;

		FUZZ_CHECK(q->len == sizeof(o));
		memcpy(&o, q->out, sizeof(o));
		FUZZ_CHECK(o.size <= s->size);
		break;
	}
	default:
		break;
	}
}

static void check_notes(const struct kernel *k)
{
	for (size_t i = 0; i < k->n_notes; i++) {
		const struct note *n = &k->notes[i];

		if (n->code == FUSE_NOTIFY_STORE)
			FUZZ_CHECK(n->off >= 0 && n->len >= 0 && n->off <= INT64_MAX - n->len);
		/* "/" alone is a name that no directory has: a barrier */
		if (n->code == FUSE_NOTIFY_INVAL_ENTRY && strcmp(n->name, "/") != 0)
			FUZZ_CHECK(n->name[0] != '\0' && strchr(n->name, '/') == NULL);
		FUZZ_CHECK(n->ino != 0);
	}
}

/* Takes in what has been answered since. */
static void look(void)
{
	kernel_notified(guest.k);
	for (size_t i = 0; i < guest.n_sent; i++) {
		struct sent *s = &guest.sent[i];

		if (s->learned || !s->q->answered)
			continue;
		s->learned = true;
		learn(s);
	}
	check_notes(guest.k);
	kernel_forget_notes(guest.k);
	guest.k->w->f->n_acks = 0;
}

/* ---- the kernel asks ---- */

static uint64_t some_ino(struct fuzz_in *in)
{
	return guest.inos[fuzz_byte(in) % guest.n_inos];
}

static const char *some_name(struct fuzz_in *in)
{
	static const char *const names[] = {"a", "b", "c", "d", "user.x"};

	return names[fuzz_byte(in) % FUZZ_COUNT(names)];
}

static struct handle some_file(struct fuzz_in *in)
{
	return guest.n_files == 0 ? (struct handle){0}
				  : guest.files[fuzz_byte(in) % guest.n_files];
}

static void put(uint32_t opcode, uint64_t ino, uint32_t size, const struct slice *parts, size_t n)
{
	if (guest.n_sent == ASKED || ino == 0)
		return;
	struct sent *s = &guest.sent[guest.n_sent++];
	*s = (struct sent){.ino = ino, .size = size};
	s->q = kernel_put_request(guest.k, opcode, ino, parts, n);
	kernel_loop(guest.k);
}

#define PUT(opcode, ino, size, ...)                                                                \
	put(opcode, ino, size, (const struct slice[]){__VA_ARGS__},                                \
	    sizeof((const struct slice[]){__VA_ARGS__}) / sizeof(struct slice))

static void ask_names(struct fuzz_in *in, unsigned which)
{
	uint64_t ino = some_ino(in), other = some_ino(in);
	const char *name = some_name(in), *name2 = some_name(in);
	struct fuse_mknod_in mknod = {.mode = S_IFREG | 0644};
	struct fuse_mkdir_in mkdir = {.mode = 0755};
	struct fuse_create_in create = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0644};
	struct fuse_rename2_in rename = {.newdir = other, .flags = fuzz_byte(in) & 3};
	struct fuse_link_in link = {.oldnodeid = other};

	switch (which % 9) {
	case 0:
		PUT(FUSE_LOOKUP, ino, 0, STRING(name));
		break;
	case 1:
		PUT(FUSE_MKNOD, ino, 0, ARG(mknod), STRING(name));
		break;
	case 2:
		PUT(FUSE_MKDIR, ino, 0, ARG(mkdir), STRING(name));
		break;
	case 3:
		PUT(FUSE_CREATE, ino, 0, ARG(create), STRING(name));
		break;
	case 4:
		PUT(FUSE_SYMLINK, ino, 0, STRING(name), STRING(name2));
		break;
	case 5:
		PUT(FUSE_UNLINK, ino, 0, STRING(name));
		break;
	case 6:
		PUT(FUSE_RMDIR, ino, 0, STRING(name));
		break;
	case 7:
		PUT(FUSE_RENAME2, ino, 0, ARG(rename), STRING(name), STRING(name2));
		break;
	default:
		PUT(FUSE_LINK, ino, 0, ARG(link), STRING(name));
	}
}

static void ask_attrs(struct fuzz_in *in, unsigned which)
{
	uint64_t ino = some_ino(in);
	struct fuse_getattr_in getattr = {0};
	struct fuse_setattr_in setattr = {.valid = fuzz_byte(in) & 0x3f, .size = 100, .mode = 0600};
	struct fuse_getxattr_in getxattr = {.size = (fuzz_byte(in) & 3) * 20u};
	struct fuse_setxattr_in setxattr = {.size = 3};

	switch (which % 7) {
	case 0:
		PUT(FUSE_GETATTR, ino, 0, ARG(getattr));
		break;
	case 1:
		PUT(FUSE_SETATTR, ino, 0, ARG(setattr));
		break;
	case 2:
		put(FUSE_READLINK, ino, 0, NULL, 0);
		break;
	case 3:
		put(FUSE_STATFS, ino, 0, NULL, 0);
		break;
	case 4:
		PUT(FUSE_GETXATTR, ino, getxattr.size, ARG(getxattr), STRING("user.x"));
		break;
	case 5:
		PUT(FUSE_LISTXATTR, ino, getxattr.size, ARG(getxattr));
		break;
	default:
		PUT(FUSE_SETXATTR, ino, 0,
		    ((struct slice){&setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE}), STRING("user.x"),
		    ((struct slice){"abc", 3}));
	}
}

static void ask_files(struct fuzz_in *in, unsigned which)
{
	static const char bytes[100] = "bytes";
	uint64_t ino = some_ino(in);
	struct handle h = some_file(in), h2 = some_file(in);
	struct fuse_open_in open = {.flags = fuzz_byte(in) & 1 ? O_RDWR : O_RDONLY};
	uint64_t off = (uint64_t)(fuzz_byte(in) & 7) * 2048;
	struct fuse_read_in read = {.fh = h.fh, .offset = off, .size = 4096};
	struct fuse_write_in write = {.fh = h.fh, .offset = off, .size = sizeof(bytes),
				      .flags = fuzz_byte(in) & 1 ? O_APPEND | O_RDWR : O_RDWR};
	struct fuse_flush_in flush = {.fh = h.fh, .lock_owner = 5};
	struct fuse_lseek_in lseek = {.fh = h.fh, .offset = off, .whence = SEEK_HOLE};
	struct fuse_fallocate_in allocate = {.fh = h.fh, .offset = off, .length = 4096};
	struct fuse_lk_in lock = {.fh = h.fh, .owner = 5, .lk = {.end = 10, .type = F_WRLCK}};
	struct fuse_copy_file_range_in copy = {.fh_in = h.fh, .off_in = 0, .nodeid_out = h2.ino,
					       .fh_out = h2.fh, .off_out = off, .len = 4096};

	switch (which % 10) {
	case 0:
		PUT(FUSE_OPEN, ino, 0, ARG(open));
		break;
	case 1:
		PUT(FUSE_READ, h.ino, read.size, ARG(read));
		break;
	case 2:
		PUT(FUSE_WRITE, h.ino, write.size, ARG(write), ((struct slice){bytes, sizeof(bytes)}));
		break;
	case 3:
		PUT(FUSE_FLUSH, h.ino, 0, ARG(flush));
		break;
	case 4:
		PUT(FUSE_LSEEK, h.ino, 0, ARG(lseek));
		break;
	case 5:
		PUT(FUSE_FALLOCATE, h.ino, 0, ARG(allocate));
		break;
	case 6:
		PUT(FUSE_GETLK, h.ino, 0, ARG(lock));
		break;
	case 7:
		PUT(FUSE_SETLK, h.ino, 0, ARG(lock));
		break;
	case 8:
		PUT(FUSE_COPY_FILE_RANGE, h.ino, 4096, ARG(copy));
		break;
	default:
		PUT(FUSE_OPENDIR, ino, 0, ARG(open));
	}
}

static void ask_listing(struct fuzz_in *in)
{
	struct handle h = guest.n_dirs == 0 ? (struct handle){guest.inos[0], 0}
					    : guest.dirs[fuzz_byte(in) % guest.n_dirs];
	uint8_t how = fuzz_byte(in);
	struct fuse_read_in read = {.fh = h.fh, .offset = fuzz_number(in),
				    .size = how & 1 ? 4096 : 512};

	if (guest.n_dirs == 0 || guest.dir_busy || guest.n_sent == ASKED)
		return;
	guest.dir_busy = true;
	if (how & 2)
		PUT(FUSE_READDIRPLUS, h.ino, read.size, ARG(read));
	else
		PUT(FUSE_READDIR, h.ino, read.size, ARG(read));
}

/* ---- the server answers ---- */

static size_t put_entries(struct fuzz_in *in, unsigned char *buf, size_t cap)
{
	size_t n = 0;

	for (unsigned left = fuzz_byte(in) % 8; left > 0; left--) {
		struct dir_entry e = {.name = fuzz_name(in),
				      .off = fuzz_number(in),
				      .type = fuzz_byte(in) % 16,
				      .ino = fuzz_number(in),
				      .node = fuzz_number(in)};
		fuzz_ATTR(in, &e.attr);
		n += codec_put_entry(&e, buf + n, cap - n);
	}
	return n;
}

/* The checks of the transport: receive_message. */
static bool let_through(const struct call *call, const struct msg *m)
{
	uint64_t asked = MSG_HAS(&call->req, payload) ? call->req.payload.len : call->req.size;

	if (m->err > MSG_ERR_MAX)
		return false;
	if (m->err != 0)
		return true;
	if (!msg_reply_complete(call->req.op, m))
		return false;
	if (msg_is(call->req.op, TRAIT_WRITES) && MSG_HAS(m, size) && m->size > asked)
		return false;
	if (msg_is(call->req.op, TRAIT_WRITES) && MSG_HAS(m, off) &&
	    (m->off > INT64_MAX || m->size > INT64_MAX - m->off))
		return false;
	if (!MSG_HAS(m, payload))
		return true;
	if (MSG_HAS(&call->req, size) && m->payload.len > call->req.size)
		return false;
	return !msg_is(call->req.op, TRAIT_TARGET) || msg_target_valid(m->payload);
}

/* As the transport hands it over: of exactly these bytes, and gone afterwards. */
static void deliver(struct call *call, struct msg *m)
{
	unsigned char *bytes = NULL;

	if (!let_through(call, m))
		*m = (struct msg){.err = EIO, .present = MSG_BIT(err)};
	if (MSG_HAS(m, payload)) {
		bytes = unit_copy(m->payload.data, m->payload.len);
		if (call->dest != NULL && m->payload.len <= call->dest_len) {
			memcpy(call->dest, bytes, m->payload.len);
			m->payload.data = call->dest;
		} else {
			m->payload.data = bytes;
		}
	}
	call->done(call, m);
	free(bytes);
}

static void reply(struct fuzz_in *in)
{
	struct fake *f = guest.k->w->f;
	unsigned char buf[8192];
	uint8_t which = fuzz_byte(in), how = fuzz_byte(in);
	struct msg m = {0};

	if (f->n_waiting == 0)
		return;
	struct call *call = fake_take(f, which % f->n_waiting);
	if (how < 16)
		MSG_SET(&m, err, fuzz_number(in));
	if (how & 1)
		fuzz_fields(in, &m);
	if (how & 2)
		MSG_SET(&m, stamp, guest.k->w->seq);
	if (call->req.op == MSG_READDIRPLUS && how & 4)
		MSG_SET(&m, payload, ((struct slice){buf, put_entries(in, buf, sizeof(buf))}));
	if (call->req.op == MSG_READDIRPLUS && how & 8)
		MSG_SET(&m, flags, READDIR_END);
	if (!MSG_HAS(&m, err))
		fuzz_missing(in, &m, fuzz_needs(call->req.op, true));
	deliver(call, &m);
}

static void push(struct fuzz_in *in)
{
	struct world *w = guest.k->w;
	unsigned char buf[4096];
	uint8_t how = fuzz_byte(in);
	size_t n = 0;

	w->seq = how & 8 ? fuzz_number(in) : w->seq + 1;
	if (how < 16) {
		push_payload(w, MSG_RESET, w->seq, 0, buf, 0);
		return;
	}
	if (how < 24) {
		struct slice s = fuzz_bytes(in, sizeof(buf));

		push_payload(w, MSG_INV, w->seq, how & 1, s.data, s.len);
		return;
	}
	for (unsigned left = how & 3; left > 0; left--) {
		struct inv_item i = {.node = fuzz_number(in), .class = fuzz_byte(in) & 15};

		if (i.class & INV_NAME)
			i.name = fuzz_name(in);
		n += codec_put_inv(&i, buf + n, sizeof(buf) - n);
	}
	push_payload(w, MSG_INV, w->seq, how & 4 ? INV_ACK : 0, buf, n);
}

/* ---- one input ---- */

static void act(struct fuzz_in *in)
{
	uint8_t what = fuzz_byte(in);
	unsigned which = what / 8;

	if (guest.k->w->f->n_waiting >= PENDING)
		what |= 4;
	switch (what % 8) {
	case 0:
		ask_names(in, which);
		break;
	case 1:
		ask_attrs(in, which);
		break;
	case 2:
		ask_files(in, which);
		break;
	case 3:
		ask_listing(in);
		break;
	case 4:
		push(in);
		break;
	case 5:
		kernel_later(guest.k, (uint64_t)fuzz_byte(in) * 20000000);
		break;
	default:
		reply(in);
	}
	look();
}

/* The link is lost; until then nothing may be left that waits. */
static void lose_link(void)
{
	struct fake *f = guest.k->w->f;

	for (unsigned i = 0; i < 100000 && f->n_waiting > 0; i++) {
		struct msg m = {.err = ENOTCONN, .present = MSG_BIT(err)};
		struct call *call = fake_take(f, 0);

		call->done(call, &m);
		kernel_later(guest.k, 1000000);
	}
	FUZZ_CHECK(f->n_waiting == 0);
	for (unsigned i = 0; i < 64; i++)
		kernel_later(guest.k, SECOND / 4);
	look();
	for (size_t i = 0; i < guest.n_sent; i++)
		FUZZ_CHECK(guest.sent[i].q->answered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {.at = data, .left = size};
	struct fs_options o = kernel_options();
	uint8_t how = fuzz_byte(&in);

	memset(&guest, 0, sizeof(guest));
	o.host_locks = (how & 1) == 0;
	guest.k = kernel_mounted(o);
	guest.inos[guest.n_inos++] = CACHE_ROOT;
	fuzz_learn(&in, FAKE_ROOT);
	for (uint64_t node = 1; node < FUZZ_KNOWN; node++)
		fuzz_learn(&in, 2000 + node);
	for (unsigned i = 0; i < ACTIONS && in.left > 0; i++)
		act(&in);
	lose_link();
	kernel_unmounted(guest.k);
	return 0;
}
