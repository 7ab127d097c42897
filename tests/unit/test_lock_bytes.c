/*
 * What is allocated and copied while cache.lock is held: never more than 4 KiB at a time. Every
 * call of malloc, calloc, realloc, strndup, memcpy, memmove and memset from the cache is watched.
 */
#include "cache_lease.h"

#include <dirent.h>

#include "cache/listing.h"

#define FILE_MODE (S_IFREG | 0644u)
#define BLOCK	  (128u << 10)
#define BOUND	  4096

/* ---- watching ---- */

static const void *watched; /* cache.lock; NULL: nothing is */
static bool locked;
static size_t most; /* bytes of one call with the lock held */
static void (*when_unlocked)(size_t size); /* something is allocated without it */

static void saw(size_t size)
{
	if (watched == NULL)
		return;
	if (locked && size > most)
		most = size;
	if (!locked && when_unlocked != NULL)
		when_unlocked(size);
}

int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
	int e = __real_pthread_mutex_lock(m);

	locked = locked || (const void *)m == watched;
	return e;
}

int __real_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
	locked = locked && (const void *)m != watched;
	return __real_pthread_mutex_unlock(m);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	saw(size);
	return __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	saw(n * size);
	return __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size)
{
	saw(size);
	return __real_realloc(p, size);
}

char *__real_strndup(const char *s, size_t len);
char *__wrap_strndup(const char *s, size_t len);
char *__wrap_strndup(const char *s, size_t len)
{
	saw(strnlen(s, len) + 1);
	return __real_strndup(s, len);
}

void *__real_memcpy(void *to, const void *from, size_t len);
void *__wrap_memcpy(void *to, const void *from, size_t len);
void *__wrap_memcpy(void *to, const void *from, size_t len)
{
	saw(len);
	return __real_memcpy(to, from, len);
}

void *__real_memmove(void *to, const void *from, size_t len);
void *__wrap_memmove(void *to, const void *from, size_t len);
void *__wrap_memmove(void *to, const void *from, size_t len)
{
	saw(len);
	return __real_memmove(to, from, len);
}

void *__real_memset(void *to, int byte, size_t len);
void *__wrap_memset(void *to, int byte, size_t len);
void *__wrap_memset(void *to, int byte, size_t len)
{
	saw(len);
	return __real_memset(to, byte, len);
}

/* What the kernel is told is not of interest, and the test's record of it would grow. */
static struct world *watched_world(struct cache_options options, bool watch)
{
	struct world *w = world_watched(options, watch);

	cache_set_sink(w->c, NULL, NULL);
	watched = &w->c->lock;
	locked = false;
	most = 0;
	return w;
}

/* Also that something was seen at all. */
static void done_watching(struct world *w)
{
	watched = NULL;
	assert_in_range(most, 1, BOUND);
	world_free(w);
}

/* ---- pages ---- */

static unsigned char bytes[1 << 20];

/* Whether the cache answered. */
static bool read_at(struct world *w, uint64_t ino, uint64_t off, size_t size)
{
	struct asked *a = asked_new(MSG_READ);

	MSG_SET(&a->req.call.req, off, off);
	MSG_SET(&a->req.call.req, size, size);
	cache_submit(w->c, &a->req, ino, 0);
	bool hit = a->completions == 1;
	if (!hit) {
		struct msg m = reply_attr(w, w->seq, FILE_MODE, 50);

		MSG_SET(&m, payload, ((struct slice){bytes + off, size}));
		answer(w->f, a, &m);
	}
	assert_int_equal(a->reply.err, 0);
	assert_int_equal(a->len, size);
	assert_memory_equal(a->data, bytes + off, sizeof(a->data));
	free(a);
	return hit;
}

static void test_pages(void **state)
{
	struct world *w = watched_world(lease_options(), true);
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i / 1000);
	assert_false(read_at(w, ino, 0, sizeof(bytes)));
	assert_false(read_at(w, ino, 0, sizeof(bytes)));
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), sizeof(bytes));
	assert_true(read_at(w, ino, 0, sizeof(bytes)));
	assert_true(read_at(w, ino, BLOCK - 77, 3 * BLOCK));
	done_watching(w);
}

/* A write of ours begins while blocks are being copied: they are of before it. */
static struct world *writing;
static uint64_t written;
static struct asked *write_of;

static void write_once(size_t size)
{
	if (size < BLOCK)
		return;
	when_unlocked = NULL;
	write_of = ask(writing->c, MSG_WRITE, written);
}

static void test_written_meanwhile(void **state)
{
	struct world *w = watched_world(lease_options(), true);
	uint64_t ino = look_up_file(w, "f", 50);

	(void)state;
	assert_false(read_at(w, ino, 0, BLOCK));
	writing = w;
	written = ino;
	when_unlocked = write_once;
	assert_false(read_at(w, ino, 0, BLOCK));
	assert_non_null(write_of);
	assert_int_equal(stats_get(w->stats, STAT_cache_pages), 0);
	answer_err(w->f, write_of, EIO);
	free(write_of);
	done_watching(w);
}

/* ---- what goes back to the server ---- */

/* 1 MiB of it, and as few messages as before. */
static void test_outbox(void **state)
{
	enum { N = 100000 };
	struct world *w = watched_world(lease_options(), true);

	(void)state;
	(void)pthread_mutex_lock(&w->c->lock);
	for (uint64_t i = 0; i < N; i++)
		cache_give_back_locked(w->c, (UINT64_C(1) << 40) + i, 1);
	(void)pthread_mutex_unlock(&w->c->lock);
	cache_forget_flush(w->c);
	assert_int_equal(w->f->n_forgets, N);
	for (uint64_t i = 0; i < N; i += 1000)
		assert_int_equal(fake_forgotten(w->f, (UINT64_C(1) << 40) + i), 1);
	assert_in_range(w->f->n_forget_messages, 4, 6);
	done_watching(w);
}

/* ---- listings ---- */

/* Entries from `first` to `last`, as many as fit; the last one that did. */
static uint64_t reply_batch(struct world *w, struct asked *a, uint64_t first, uint64_t last)
{
	unsigned char *buf = a->req.call.dest;
	size_t len = 0, one;
	uint64_t i = first;

	for (; i <= last; i++, len += one) {
		char name[32];
		struct dir_entry e = {.off = i,
				      .type = DT_REG,
				      .ino = 5000 + i,
				      .node = 100000 + i,
				      .attr = attr_now(w, FILE_MODE, i)};

		(void)snprintf(name, sizeof(name), "name%llu", (unsigned long long)i);
		e.name = (struct slice){name, strlen(name)};
		one = codec_put_entry(&e, buf + len, a->req.call.dest_len - len);
		if (one == 0)
			break;
	}
	struct msg m = reply_attr(w, w->seq, S_IFDIR | 0755, 0);
	MSG_SET(&m, payload, ((struct slice){buf, len}));
	MSG_SET(&m, flags, i > last ? READDIR_END : 0);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.err, 0);
	return i - 1;
}

/* A directory of some thousand names, in batches that grow. */
static void test_listing(void **state)
{
	enum { NAMES = 20000 };
	struct cache_options options = lease_options();
	struct listing *l;

	(void)state;
	options.node_budget = 100000;
	struct world *w = watched_world(options, true);
	uint64_t dir = look_up(w, CACHE_ROOT, "d", 60, S_IFDIR | 0755, w->seq);
	assert_int_equal(listing_new(w->c, dir, &l), 0);
	for (uint64_t at = 0; at < NAMES;) {
		struct asked *a = asked_new(MSG_READDIRPLUS);

		listing_fetch(l, &a->req, at, true);
		at = reply_batch(w, a, at + 1, NAMES);
		free(a);
	}
	assert_true(listing_rewind(l)); /* it is complete */
	assert_true(known_name(w, dir, "name1") - 1 < UNKNOWN - 1);
	assert_true(known_name(w, dir, "name20000") - 1 < UNKNOWN - 1);
	assert_int_equal(known_name(w, dir, "name"), ABSENT);
	listing_free(l);
	done_watching(w);
}

/* ---- links ---- */

/* What is longer than any link says is passed on, and not kept. */
static void test_links(void **state)
{
	struct world *w = watched_world(lease_options(), true);
	uint64_t ino = look_up(w, CACHE_ROOT, "l", 70, S_IFLNK | 0777, w->seq);
	static char target[100000];

	(void)state;
	memset(target, 'x', sizeof(target));
	for (int i = 0; i < 2; i++) {
		struct asked *a = ask(w->c, MSG_READLINK, ino);
		struct msg m = reply_attr(w, w->seq, S_IFLNK | 0777, 70);
		size_t len = i == 0 ? sizeof(target) : 4095;

		MSG_SET(&m, payload, ((struct slice){target, len}));
		answer(w->f, a, &m);
		assert_int_equal(a->len, len);
		free(a);
	}
	struct asked *a = ask(w->c, MSG_READLINK, ino);
	assert_true(a->from_cache);
	assert_int_equal(a->len, 4095);
	free(a);
	done_watching(w);
}

/* ---- what is kept by time ---- */

static void test_timed(void **state)
{
	enum { NODES = 5000 };
	struct world *w = watched_world(lease_options(), true);
	char name[32];

	(void)state;
	for (uint64_t i = 0; i < NODES; i++) {
		(void)snprintf(name, sizeof(name), "name%llu", (unsigned long long)i);
		(void)look_up(w, CACHE_ROOT, name, 100000 + i, FILE_MODE, NO_STAMP);
	}
	assert_int_equal(w->c->timed.n_nodes, NODES);
	assert_true(w->c->timed.name_bytes >= NODES * sizeof(name));
	watched = NULL; /* what the kernel is told is recorded by the test */
	cache_set_sink(w->c, &recording_sink, w);
	cache_drop_timed(w->c);
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, NULL), NODES);
	assert_int_equal(w->n_told, 2 * NODES);
	done_watching(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pages),
	    cmocka_unit_test(test_written_meanwhile),
	    cmocka_unit_test(test_outbox),
	    cmocka_unit_test(test_listing),
	    cmocka_unit_test(test_links),
	    cmocka_unit_test(test_timed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
