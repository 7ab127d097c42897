#include "model.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- a change of names ----------------------------------------------------------------------- */

/* What the call must say where the names lead to these; 0: it is done. */
typedef int expect_fn(mode_t x, mode_t y, bool same);

struct change {
	struct actor *a;
	struct look look;
	unsigned names, name[2];
	uint32_t before[2], after[2], version[2];
	struct binding *binding[2];
};

static mode_t type_of(struct model *m, uint32_t id)
{
	struct object *o = object_of(m, id);

	return id == ABSENT ? 0 : o != NULL ? o->type : S_IFMT;
}

static struct change change_of(struct actor *a, unsigned names, unsigned first, unsigned second)
{
	struct change c = {.a = a, .names = names, .name = {first, second}};
	unsigned low = names > 1 && second < first;

	for (unsigned i = 0; i < names; i++)
		(void)pthread_mutex_lock(&a->m->name[c.name[i ^ low]].lock);
	for (unsigned i = 0; i < names; i++)
		c.before[i] = c.after[i] = name_now(a->m, c.name[i]);
	return c;
}

static void change_publish(struct change *c, const char *op)
{
	struct actor *a = c->a;

	for (unsigned i = 0; i < c->names; i++) {
		c->version[i] = atomic_load(&a->m->name[c->name[i]].count);
		c->binding[i] = name_next(a->m, c->name[i], c->after[i], op, a->who, a->place);
		hot_name(a, c->name[i]);
	}
	c->look = look_begin(a, op);
}

/* Whether an answer is what it would be for some of the states that may show to this process. */
static bool could_be(const struct change *c, expect_fn *expect, int error, bool same_only)
{
	struct model *m = c->a->m;
	struct window w[2] = {{0}};

	for (unsigned i = 0; i < c->names; i++) {
		w[i] = name_window(&c->look, c->name[i], c->version[i]);
		if (w[i].unknown)
			return true;
		if (error == ESTALE && name_may_be_stale(&c->look, c->name[i], &w[i])) {
			atomic_fetch_add(&m->tally.estale, 1);
			return true;
		}
	}
	for (uint32_t i = w[0].first; i <= w[0].last; i++) {
		for (uint32_t k = w[1].first; k <= w[1].last; k++) {
			uint32_t x = name_in(m, c->name[0], i),
				 y = c->names > 1 ? name_in(m, c->name[1], k) : ABSENT;
			bool same = x == y && x != ABSENT;
			mode_t tx = type_of(m, x), ty = type_of(m, y);

			if (tx == S_IFMT || ty == S_IFMT)
				return true;
			if (name_displaced(&c->look, c->name[0], i) ||
			    (c->names > 1 && name_displaced(&c->look, c->name[1], k)))
				return true;
			if (same_only ? same : expect(tx, ty, same) == error)
				return true;
		}
	}
	return false;
}

static uint64_t ino_on_host(struct actor *a, unsigned name)
{
	struct stat st;

	return fstatat(a->host, name_path(name), &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static void change_close(struct change *c)
{
	struct model *m = c->a->m;

	for (unsigned i = 0; i < c->names; i++) {
		struct object *gone = object_of(m, c->before[i]), *came = object_of(m, c->after[i]);

		atomic_store(&c->binding[i]->object, c->after[i]);
		atomic_store(&c->binding[i]->span.nothing, c->after[i] == c->before[i]);
		atomic_store(&c->binding[i]->span.end, c->look.end);
		if (gone != came && gone != NULL)
			atomic_fetch_sub(&gone->names, 1);
		if (gone != came && came != NULL)
			atomic_fetch_add(&came->names, 1);
	}
	for (unsigned i = c->names; i > 0; i--)
		(void)pthread_mutex_unlock(&m->name[c->name[i - 1]].lock);
}

static void undo(struct change *c)
{
	c->after[0] = c->before[0];
	c->after[1] = c->before[1];
}

/* A change that was made synchronises, one that nobody was asked to make does not. */
static void change_made(struct change *c)
{
	struct actor *a = c->a;

	atomic_fetch_add(a->place == 0 ? &a->m->tally.host_changes : &a->m->tally.guest_changes, 1);
	if (a->m->set.synchronises == SYNC_ALL)
		actor_synchronised(a, c->look.what, c->look.begin);
}

/*
 * The kernel does nothing where both names lead to one inode, and asks nobody. It may think so
 * when it is no longer true, and the other way round.
 */
static bool nothing_to_do(struct change *c, expect_fn *expect)
{
	struct actor *a = c->a;

	if (c->names < 2 || !could_be(c, expect, 0, true))
		return false;
	const struct object *o = object_of(a->m, c->before[0]);
	return c->before[0] == c->before[1] ||
	       ino_on_host(a, c->name[0]) == (o != NULL ? atomic_load(&o->ino) : 0);
}

static void change_end(struct change *c, expect_fn *expect, long r)
{
	struct actor *a = c->a;
	struct tally *t = &a->m->tally;
	int error = r < 0 ? errno : 0;
	bool possible = true;
	bool same = c->before[0] != ABSENT && c->names > 1 && c->before[0] == c->before[1];
	int expected = expect(type_of(a->m, c->before[0]), type_of(a->m, c->before[1]), same);

	look_end(&c->look);
	if (error == 0 && nothing_to_do(c, expect)) {
		undo(c);
	} else if (error == 0 && expected == 0) {
		change_made(c);
	} else {
		undo(c);
		atomic_fetch_add(&t->refused, 1);
		possible = error != 0 && could_be(c, expect, error, false);
		if (!possible) {
			report(&c->look, (int)c->name[0], NULL, "%s %s: %s, expected %s",
			       name_path(c->name[0]), c->names > 1 ? name_path(c->name[1]) : "",
			       error != 0 ? strerrorname_np(error) : "done",
			       expected != 0 ? strerrorname_np(expected) : "done");
			if (c->names > 1)
				report(&c->look, (int)c->name[1], NULL, "the second name of it");
		}
	}
	check_call(&c->look, possible);
}

/* ---- one name -------------------------------------------------------------------------------- */

static int expect_new(mode_t x, mode_t y, bool same)
{
	(void)y, (void)same;
	return x == 0 ? 0 : EEXIST;
}

static int expect_unlink(mode_t x, mode_t y, bool same)
{
	(void)y, (void)same;
	return x == 0 ? ENOENT : S_ISDIR(x) ? EISDIR : 0;
}

static int expect_rmdir(mode_t x, mode_t y, bool same)
{
	(void)y, (void)same;
	return x == 0 ? ENOENT : S_ISDIR(x) ? 0 : ENOTDIR;
}

/* The descriptor of a file that was made stays with this process. */
static int make_call(struct actor *a, unsigned name, mode_t type, uint32_t id, bool by_open)
{
	char to[16];
	int fd;

	(void)snprintf(to, sizeof(to), "no-%u", id);
	if (S_ISDIR(type))
		return mkdirat(a->at, name_path(name), 0700);
	if (S_ISLNK(type))
		return symlinkat(to, a->at, name_path(name));
	if (!by_open)
		return mknodat(a->at, name_path(name), S_IFREG | 0600, 0);
	struct kept *k = &a->kept[prng_below(&a->rng, KEPT)];
	fd = openat(a->at, name_path(name), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return -1;
	kept_drop(k);
	*k = (struct kept){.fd = fd, .object = id};
	return 0;
}

static void make(struct actor *a, unsigned name)
{
	unsigned what = (unsigned)prng_below(&a->rng, 10);
	bool by_open = what < 6;
	mode_t type = what < 7 ? S_IFREG : what < 9 ? S_IFDIR : S_IFLNK;
	const char *op = by_open	 ? "create"
			 : S_ISREG(type) ? "mknod"
			 : S_ISDIR(type) ? "mkdir"
					 : "symlink";
	struct change c = change_of(a, 1, name, name);
	struct object *o = object_new(a->m, type, chance(a, 60), 0600, a->who, a->place);

	if (c.before[0] == ABSENT)
		c.after[0] = o->id;
	change_publish(&c, op);
	int r = make_call(a, name, type, o->id, by_open);
	change_end(&c, expect_new, r);
	if (c.after[0] == o->id)
		atomic_store(&o->ino, ino_on_host(a, name));
	change_close(&c);
}

static void going(struct actor *a, uint32_t id)
{
	struct object *o = object_of(a->m, id);

	if (o != NULL && S_ISDIR(o->type))
		atomic_store(&o->gone, now_ns());
}

static void not_gone(struct actor *a, uint32_t id)
{
	struct object *o = object_of(a->m, id);

	if (o != NULL)
		atomic_store(&o->gone, 0);
}

static void take_away(struct actor *a, unsigned name)
{
	struct change c = change_of(a, 1, name, name);
	mode_t type = type_of(a->m, c.before[0]);
	/* Now and then the wrong one. */
	bool dir = S_ISDIR(type) == !chance(a, 5);
	expect_fn *expect = dir ? expect_rmdir : expect_unlink;

	if (expect(type, 0, false) == 0) {
		c.after[0] = ABSENT;
		going(a, c.before[0]);
	}
	change_publish(&c, dir ? "rmdir" : "unlink");
	int r = unlinkat(a->at, name_path(name), dir ? AT_REMOVEDIR : 0);
	change_end(&c, expect, r);
	if (c.after[0] != ABSENT)
		not_gone(a, c.before[0]);
	change_close(&c);
}

/* ---- two names ------------------------------------------------------------------------------- */

static int expect_rename(mode_t x, mode_t y, bool same)
{
	if (x == 0)
		return ENOENT;
	if (same || y == 0)
		return 0;
	return S_ISDIR(x) && !S_ISDIR(y) ? ENOTDIR : S_ISDIR(y) && !S_ISDIR(x) ? EISDIR : 0;
}

static int expect_exchange(mode_t x, mode_t y, bool same)
{
	(void)same;
	return x == 0 || y == 0 ? ENOENT : 0;
}

static int expect_noreplace(mode_t x, mode_t y, bool same)
{
	(void)same;
	return x == 0 ? ENOENT : y != 0 ? EEXIST : 0;
}

static int expect_link(mode_t x, mode_t y, bool same)
{
	(void)same;
	return x == 0 ? ENOENT : y != 0 ? EEXIST : S_ISDIR(x) ? EPERM : 0;
}

/* Before it returns to anybody, as far as the model is concerned: its end is not noted yet. */
static void mark_displaced(struct change *c)
{
	bool displaced = false;

	for (unsigned i = 0; i < c->names; i++) {
		struct window w = name_window(&c->look, c->name[i], c->version[i]);

		displaced |= w.first < w.last || name_displaced(&c->look, c->name[i], w.last);
	}
	for (unsigned i = 0; i < c->names; i++)
		atomic_store(&c->binding[i]->displaced, displaced && c->a->place != 0);
}

static void move_name(struct actor *a, unsigned from, unsigned to, unsigned flags)
{
	static const char *const ops[] = {"rename", "rename (noreplace)", "exchange"};
	static expect_fn *const expects[] = {expect_rename, expect_noreplace, expect_exchange};
	struct change c = change_of(a, 2, from, to);
	mode_t x = type_of(a->m, c.before[0]), y = type_of(a->m, c.before[1]);
	bool same = c.before[0] == c.before[1] && c.before[0] != ABSENT;

	if (expects[flags](x, y, same) == 0 && !same) {
		c.after[0] = flags == RENAME_EXCHANGE ? c.before[1] : ABSENT;
		c.after[1] = c.before[0];
		if (flags == 0)
			going(a, c.before[1]);
	}
	change_publish(&c, ops[flags]);
	mark_displaced(&c);
	int r = renameat2(a->at, name_path(from), a->at, name_path(to), flags);
	change_end(&c, expects[flags], r);
	if (c.after[1] == c.before[1])
		not_gone(a, c.before[1]);
	change_close(&c);
}

/* Which object got the name: the request is about what this process's kernel takes for the first
 * one. */
static uint32_t linked(struct change *c)
{
	struct actor *a = c->a;
	uint64_t ino = ino_on_host(a, c->name[1]);
	struct window w = name_window(&c->look, c->name[0], c->version[0]);

	for (uint32_t k = w.last + 1; k-- > w.first;) {
		struct object *o = object_of(a->m, name_in(a->m, c->name[0], k));

		if (o != NULL && atomic_load(&o->ino) == ino)
			return o->id;
	}
	return ABSENT;
}

static void link_name(struct actor *a, unsigned from, unsigned to)
{
	struct change c = change_of(a, 2, from, to);
	mode_t x = type_of(a->m, c.before[0]);

	if (c.before[1] == ABSENT && (a->place != 0 || expect_link(x, 0, false) == 0))
		c.after[1] = a->place != 0 ? ANY : c.before[0];
	change_publish(&c, "link");
	int r = linkat(a->at, name_path(from), a->at, name_path(to), 0);
	int error = errno;
	look_end(&c.look);
	uint32_t got = r == 0 && a->place != 0 ? linked(&c) : c.before[0];
	if (r == 0 && c.before[1] == ABSENT && got != ABSENT) {
		c.after[1] = got;
		check_call(&c.look, true);
		change_made(&c);
	} else if (r != 0 && error == ENOENT && a->place != 0) {
		undo(&c); /* also where the kernel has counted a link twice: see doc/coherence.md */
		atomic_fetch_add(&a->m->tally.refused, 1);
	} else {
		errno = error;
		change_end(&c, expect_link, r);
	}
	change_close(&c);
}

void change_name(struct actor *a)
{
	unsigned what = (unsigned)prng_below(&a->rng, 100), n = some_name(a), to = some_name(a);
	bool mover = n >= NAMES - MOVERS;

	if (mover || to >= NAMES - MOVERS) {
		n = NAMES - 1 - (unsigned)prng_below(&a->rng, MOVERS);
		to = NAMES - 1 - (unsigned)prng_below(&a->rng, MOVERS);
		what = what < 20 ? 95 : 98; /* these are never removed */
	}
	if (n == to)
		to = n < NAMES - MOVERS ? (n + 1) % (NAMES - MOVERS)
					: NAMES - MOVERS + (n + 1) % MOVERS;
	if (what < 40)
		make(a, n);
	else if (what < 58)
		take_away(a, n);
	else if (what < 82)
		move_name(a, n, to, 0);
	else if (what < 92)
		link_name(a, n, to);
	else if (what < 96)
		move_name(a, n, to, RENAME_EXCHANGE);
	else
		move_name(a, n, to, RENAME_NOREPLACE);
}

/* ---- a change of an object ------------------------------------------------------------------- */

static void fill(unsigned char *to, uint64_t record, unsigned slots)
{
	for (size_t at = 0; at < (size_t)slots * SLOT_LEN; at += sizeof(record))
		memcpy(to + at, &record, sizeof(record));
}

static bool write_slots(struct kept *k, unsigned from, unsigned slots, uint32_t version)
{
	static unsigned char data[FILE_MAX];

	fill(data, record_of(k->object, version), slots);
	ssize_t n = pwrite(k->fd, data, (size_t)slots * SLOT_LEN, (off_t)from * SLOT_LEN);
	return n == (ssize_t)((size_t)slots * SLOT_LEN);
}

/* Where it is written, or how long it will be. */
struct extent {
	const char *op;
	unsigned from, to;
};

static struct extent some_extent(struct actor *a, struct kept *k, struct object *o, unsigned now)
{
	unsigned what = (unsigned)prng_below(&a->rng, 100), room = SLOTS - now;
	struct extent e = {"", now, now};

	if (k->append || now == 0 || what < 40) {
		if (room > 0)
			e = (struct extent){
				k->append ? "append" : "write at the end", now,
				now + 1 + (unsigned)prng_below(&a->rng, room < 3 ? room : 3)};
	} else if (what < 65) {
		unsigned from = (unsigned)prng_below(&a->rng, now);
		e = (struct extent){"write", from,
				    from + 1 + (unsigned)prng_below(&a->rng, now - from)};
	} else if (what < 80 && !o->grows) {
		e = (struct extent){"truncate", 0, (unsigned)prng_below(&a->rng, SLOTS)};
	} else if (what < 92) {
		e = (struct extent){"chmod", 0, 0};
	} else {
		e = (struct extent){"utimens", 0, 0};
	}
	return e;
}

static void plan(struct actor *a, struct object *o, struct state *s, const struct extent *e,
		 uint32_t version)
{
	unsigned now = s->size / SLOT_LEN;

	if (strcmp(e->op, "chmod") == 0) {
		s->mode = 0600 | ((s->mode + 1 + (uint32_t)prng_below(&a->rng, 7)) & 7);
	} else if (strcmp(e->op, "utimens") == 0) {
		s->mtime = 1000000000 + version;
	} else if (strcmp(e->op, "truncate") == 0) {
		for (unsigned i = 0; i < SLOTS; i++)
			s->slot[i] = i >= e->to ? NO_BYTES : i >= now ? ZEROS : s->slot[i];
		s->size = e->to * SLOT_LEN;
		s->mtime = 0;
		if (e->to < now)
			atomic_store(&o->shrunk, now_ns());
	} else {
		for (unsigned i = e->from; i < e->to; i++)
			s->slot[i] = version;
		s->size = e->to > now ? e->to * SLOT_LEN : s->size;
		s->mtime = 0;
	}
}

/* A call that failed changed nothing. */
static void not_done(struct state *s, const struct state *before)
{
	s->size = before->size;
	s->mode = before->mode;
	s->mtime = before->mtime;
	memcpy(s->slot, before->slot, sizeof(s->slot));
	atomic_store(&s->span.nothing, true);
}

static bool carry_out(struct kept *k, struct state *s, const struct extent *e, uint32_t version)
{
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = s->mtime}};

	if (strcmp(e->op, "chmod") == 0)
		return fchmod(k->fd, s->mode) == 0;
	if (strcmp(e->op, "utimens") == 0)
		return futimens(k->fd, ts) == 0;
	if (strcmp(e->op, "truncate") == 0)
		return ftruncate(k->fd, s->size) == 0;
	return write_slots(k, e->from, e->to - e->from, version);
}

void change_object(struct actor *a)
{
	struct kept *k = &a->kept[prng_below(&a->rng, KEPT)];
	struct object *o = object_of(a->m, k->object);

	if (k->fd < 0 || o == NULL || chance(a, 10)) {
		kept_take(a, k, some_name(a));
		return;
	}
	(void)pthread_mutex_lock(&o->lock);
	struct extent e = some_extent(a, k, o, object_now(o)->size / SLOT_LEN);
	if (e.op[0] != '\0' && atomic_load(&o->id) == k->object) {
		uint32_t version = atomic_load(&o->count);
		const struct state *before = object_now(o);
		struct state *s = object_next(o, e.op, a->who, a->place);

		plan(a, o, s, &e, version);
		object_publish(o, s);
		struct look l = look_begin(a, e.op);
		bool ok = carry_out(k, s, &e, version);
		look_end(&l);
		if (strcmp(e.op, "truncate") == 0 && atomic_load(&o->shrunk) != 0)
			atomic_store(&o->shrunk, l.end);
		check_open_call(&l, o, ok);
		if (!ok)
			not_done(s, before);
		atomic_store(&s->span.end, l.end);
		atomic_fetch_add(
			a->place == 0 ? &a->m->tally.host_changes : &a->m->tally.guest_changes, 1);
	}
	(void)pthread_mutex_unlock(&o->lock);
}

void change_some(struct actor *a)
{
	if (chance(a, 50))
		change_name(a);
	else
		change_object(a);
}
