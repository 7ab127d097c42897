#include "host/state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/hash.h"

#define STATE_MAGIC   UINT64_C(0x31657461747366ca)
#define STATE_VERSION 1
#define LOCK_PAUSE_MS 20
#define OPEN_TRIES    100
#define PATH_LEN      4200
#define GENERATIONS   (UINT64_C(1) << 23) /* STATE_NUMBERS of more would overflow */
#define GROW_BYTES    ((size_t)256 << 10)

struct header {
	uint64_t magic, version, epoch, generation;
	uint64_t sizes[STATE_TABLES]; /* of the records */
};

static const struct {
	const char *name;
	size_t size;
	uint32_t max;
} kinds[STATE_TABLES] = {
	[STATE_SESSIONS] = {"sessions", sizeof(struct state_session), STATE_SESSIONS_MAX},
	[STATE_NODES] = {"nodes", sizeof(struct state_node), 1u << 22},
	[STATE_FILES] = {"files", sizeof(struct state_file), 1u << 18},
	[STATE_LOCKS] = {"locks", sizeof(struct state_lock), 1u << 16},
	[STATE_SLOTS] = {"slots", sizeof(struct state_slot), STATE_SESSIONS_MAX * 256u},
};

/* Where a record begins: whether it counts. */
struct record {
	uint32_t used;
	uint32_t next_free; /* of one that is not: 0 at the end */
};

struct table {
	pthread_mutex_t mutex;
	int fd;
	unsigned char *map; /* of all that may be; what the file has of it may be touched */
	size_t map_len;
	/* mutex: */
	uint32_t count; /* records that the file has room for */
	uint32_t fresh; /* those from here on were never used */
	uint32_t free;
};

struct state {
	atomic_bool frozen;
	char *path;
	int dir, lock;
	struct header *header;
	struct table table[STATE_TABLES];
};

bool state_frozen(const struct state *s)
{
	return atomic_load(&s->frozen);
}

static struct record *record(const struct state *s, enum state_table t, uint32_t n)
{
	return (struct record *)(s->table[t].map + (size_t)(n - 1) * kinds[t].size);
}

void *state_at(const struct state *s, enum state_table t, uint32_t n)
{
	return record(s, t, n);
}

/* Room for some more: with blocks of the disk, since a store could not fail. */
static bool grow_locked(struct table *t, enum state_table kind)
{
	size_t have = (size_t)t->count * kinds[kind].size, want = have + GROW_BYTES;

	if (want > t->map_len)
		want = t->map_len;
	/* Not from the beginning: where the file system cannot, the C library writes into it. */
	if (want == have || posix_fallocate(t->fd, (off_t)have, (off_t)(want - have)) != 0)
		return false;
	uint32_t count = (uint32_t)(want / kinds[kind].size);
	bool more = count > t->count;
	t->count = count;
	return more;
}

uint32_t state_take(struct state *s, enum state_table kind)
{
	if (s == NULL || state_frozen(s))
		return 0;
	struct table *t = &s->table[kind];
	SCOPE_LOCK(&t->mutex);
	uint32_t n = t->free;
	if (n != 0) {
		t->free = record(s, kind, n)->next_free;
	} else {
		if (t->fresh == t->count && !grow_locked(t, kind))
			return 0;
		n = ++t->fresh;
	}
	memset(record(s, kind, n), 0, kinds[kind].size);
	return n;
}

void state_keep(struct state *s, enum state_table t, uint32_t n)
{
	if (n != 0)
		__atomic_store_n(&record(s, t, n)->used, 1, __ATOMIC_RELEASE);
}

void state_give(struct state *s, enum state_table kind, uint32_t n)
{
	if (n == 0 || state_frozen(s))
		return;
	struct table *t = &s->table[kind];
	struct record *r = record(s, kind, n);
	SCOPE_LOCK(&t->mutex);
	__atomic_store_n(&r->used, 0, __ATOMIC_RELEASE);
	r->next_free = t->free;
	t->free = n;
}

void state_miss(struct state *s, uint32_t session, uint32_t what)
{
	struct state_session *r = session != 0 ? state_at(s, STATE_SESSIONS, session) : NULL;

	if (r != NULL && !state_frozen(s))
		__atomic_fetch_or(&r->incomplete, what, __ATOMIC_RELEASE);
}

uint32_t state_next(struct state *s, enum state_table kind, uint32_t n)
{
	if (s == NULL)
		return 0;
	struct table *t = &s->table[kind];
	SCOPE_LOCK(&t->mutex);
	while (n < t->fresh)
		if (__atomic_load_n(&record(s, kind, ++n)->used, __ATOMIC_ACQUIRE) == 1)
			return n;
	return 0;
}

void state_freeze(struct state *s)
{
	if (s != NULL)
		atomic_store(&s->frozen, true);
}

uint64_t state_epoch(const struct state *s)
{
	return s->header->epoch;
}

uint64_t state_generation(const struct state *s)
{
	return s->header->generation;
}

/* ---- opening ---- */

/* All that the file has is looked at once: what does not count is free. */
static void load(struct state *s, enum state_table kind)
{
	struct table *t = &s->table[kind];

	t->fresh = t->count;
	for (uint32_t n = t->count; n > 0; n--) {
		struct record *r = record(s, kind, n);

		if (r->used == 1)
			continue;
		r->next_free = t->free;
		t->free = n;
	}
}

static int open_table(struct state *s, enum state_table kind, bool fresh)
{
	struct table *t = &s->table[kind];
	struct stat st;

	t->map_len = kinds[kind].size * kinds[kind].max;
	t->fd = openat(s->dir, kinds[kind].name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (t->fd < 0 || (fresh && ftruncate(t->fd, 0) < 0) || fstat(t->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return -EINVAL;
	void *map = mmap(NULL, t->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	t->map = map;
	size_t len = (size_t)st.st_size < t->map_len ? (size_t)st.st_size : t->map_len;
	/* Also what looks like a record may have been a hole, as in a copy: a store could fail. */
	if (len > 0 && posix_fallocate(t->fd, 0, (off_t)len) != 0)
		return -ENOSPC;
	t->count = (uint32_t)(len / kinds[kind].size);
	load(s, kind);
	return 0;
}

/*
 * A header of another version, or none, is that of a state that begins now. It gets its magic when
 * the tables are empty (open_all): until then it is none.
 */
static int open_header(struct state *s, bool *ret_fresh)
{
	CLEANUP_CLOSE int fd =
		openat(s->dir, "header", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct header is = {.version = STATE_VERSION};

	for (int i = 0; i < STATE_TABLES; i++)
		is.sizes[i] = kinds[i].size;
	if (fd < 0 || posix_fallocate(fd, 0, sizeof(is)) != 0)
		return fd < 0 ? -errno : -ENOSPC;
	void *map = mmap(NULL, sizeof(is), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	struct header *h = s->header = map;
	*ret_fresh = h->magic != STATE_MAGIC || h->version != is.version ||
		     h->generation >= GENERATIONS ||
		     memcmp(h->sizes, is.sizes, sizeof(is.sizes)) != 0;
	if (*ret_fresh) {
		if (getrandom(&is.epoch, sizeof(is.epoch), 0) != sizeof(is.epoch))
			return -EIO;
		__atomic_store_n(&h->magic, 0, __ATOMIC_RELEASE);
		*h = is;
	}
	h->generation++;
	return 0;
}

static int make(const char *path)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* The folder with this name, and those above it that are missing. */
static int make_folders(char *path)
{
	int r = 0;

	for (char *p = path + 1; r == 0 && *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		r = make(path);
		*p = '/';
	}
	return r == 0 ? make(path) : r;
}

static int name_folder(const char *dir, const char *export, const char *listener,
		       char path[PATH_LEN])
{
	uint32_t key[2];

	for (uint32_t i = 0; i < 2; i++) {
		key[i] = hash_bytes(export, strlen(export), i + 1);
		key[i] = hash_bytes(listener, strlen(listener), key[i]);
	}
	int n = snprintf(path, PATH_LEN, "%s/%08x%08x", dir, key[0], key[1]);
	return n >= PATH_LEN ? -ENAMETOOLONG : 0;
}

/* A server that is ending may have it for a moment. */
static int take_lock(int fd, unsigned wait_ms)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};

	for (unsigned ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; ms += LOCK_PAUSE_MS) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (ms >= wait_ms)
			return -EBUSY;
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

/* Only ours, and nobody else's meanwhile. -ENOENT: whoever had it has just removed it. */
static int open_folder(struct state *s, unsigned wait_ms)
{
	CLEANUP_CLOSE int lock = take_fd(&s->lock), dir = take_fd(&s->dir); /* of the try before */
	struct stat st;
	int r = make_folders(s->path);

	if (r < 0)
		return r;
	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->dir < 0 || fstat(s->dir, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
		return -EPERM;
	s->lock = openat(s->dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = s->lock < 0 ? -errno : take_lock(s->lock, wait_ms);
	if (r < 0)
		return r;
	return fstat(s->lock, &st) < 0 ? -errno : st.st_nlink == 0 ? -ENOENT : 0;
}

static int open_all(struct state *s, unsigned wait_ms)
{
	bool fresh = false;
	int r = -ENOENT;

	for (int i = 0; r == -ENOENT && i < OPEN_TRIES; i++)
		r = open_folder(s, wait_ms);
	if (r == 0)
		r = open_header(s, &fresh);
	for (int i = 0; r == 0 && i < STATE_TABLES; i++)
		r = open_table(s, (enum state_table)i, fresh);
	if (r == 0)
		__atomic_store_n(&s->header->magic, STATE_MAGIC, __ATOMIC_RELEASE);
	return r;
}

int state_open(const char *dir, const char *export, const char *listener, unsigned wait_ms,
	       struct state **ret, char *err, size_t err_len)
{
	struct state *s = calloc(1, sizeof(*s));
	char path[PATH_LEN] = "";
	int r = -ENOMEM;

	if (s != NULL) {
		s->dir = s->lock = -1;
		for (int i = 0; i < STATE_TABLES; i++) {
			s->table[i].fd = -1;
			(void)pthread_mutex_init(&s->table[i].mutex, NULL);
		}
		r = name_folder(dir, export, listener, path);
		if (r == 0 && (s->path = strdup(path)) == NULL)
			r = -ENOMEM;
		if (r == 0)
			r = open_all(s, wait_ms);
	}
	if (r < 0) {
		(void)snprintf(err, err_len, "%.200s: %s", path[0] != '\0' ? path : dir,
			       r == -EBUSY ? "another server has it" : strerror(-r));
		state_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* Of no use to the next server: nobody has a session. */
static void remove_all(const struct state *s)
{
	for (int i = 0; i < STATE_TABLES; i++)
		(void)unlinkat(s->dir, kinds[i].name, 0);
	(void)unlinkat(s->dir, "header", 0);
	(void)unlinkat(s->dir, "lock", 0);
	(void)unlinkat(AT_FDCWD, s->path, AT_REMOVEDIR);
}

void state_close(struct state *s)
{
	if (s == NULL)
		return;
	if (s->table[STATE_TABLES - 1].map != NULL && state_next(s, STATE_SESSIONS, 0) == 0)
		remove_all(s);
	for (int i = 0; i < STATE_TABLES; i++) {
		struct table *t = &s->table[i];

		if (t->map != NULL)
			(void)munmap(t->map, t->map_len);
		cleanup_close(&t->fd);
		(void)pthread_mutex_destroy(&t->mutex);
	}
	if (s->header != NULL)
		(void)munmap(s->header, sizeof(*s->header));
	cleanup_close(&s->lock);
	cleanup_close(&s->dir);
	free(s->path);
	free(s);
}
