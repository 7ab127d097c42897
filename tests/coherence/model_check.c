#include "model.h"

#include "child.h"
#include "fence.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SHOWN_MAX  20
#define STATES_MAX 12			/* of a history, in a report */
#define ZEROS_NS   UINT64_C(2000000000) /* after a file was made shorter: see doc/coherence.md */
#define PAGE	   4096

static struct tally *tally(const struct look *l)
{
	return &l->a->m->tally;
}

struct look look_begin(struct actor *a, const char *what)
{
	return (struct look){.a = a, .what = what, .begin = now_ns()};
}

void look_end(struct look *l)
{
	l->end = now_ns();
}

static void fence(struct actor *a)
{
	if (a->place != 0 && a->m->set.fences && fence_mount(a->m->set.place[a->place]) != 0)
		err(3, "%s: no fence", a->m->set.place[a->place]);
}

/* From `time` on: what had returned by then shows to this process. */
void actor_synchronised(struct actor *a, const char *by, uint64_t time)
{
	fence(a);
	atomic_fetch_add(&a->m->tally.synchronised, 1);
	if (a->place == 0 || time <= a->synchronised)
		return;
	a->synchronised = time;
	a->synchronised_at = now_ns();
	a->synchronised_by = by;
}

/* ---- which states are possible --------------------------------------------------------------- */

static bool must_show(const struct span *s, const struct look *l)
{
	const struct model_settings *set = &l->a->m->set;
	uint64_t end = atomic_load(&s->end), place = l->a->place;

	if (end == 0 || atomic_load(&s->nothing))
		return false;
	if (place == 0)
		return end < l->begin;
	if (end < l->a->synchronised)
		return true;
	if (s->place == place)
		return end + set->own_late_ns < l->begin;
	if (s->place == 0 || set->separate)
		return end + set->settle_ns < l->begin;
	return end + set->late_ns < l->begin;
}

/* `ring` states of `size` bytes each begin with their spans; `count` were made, and `before` of
 * them count. */
static struct window window_of(const struct look *l, const void *ring, size_t size, uint32_t length,
			       const atomic_uint *count, uint32_t before)
{
	uint32_t made = atomic_load(count), oldest = made > length - 2 ? made - (length - 2) : 0;
	struct window w = {.last = (before != 0 ? before : made) - 1};

	for (w.first = w.last; w.first > oldest; w.first--)
		if (must_show((const struct span *)((const char *)ring +
						    (size_t)(w.first % length) * size),
			      l))
			break;
	w.unknown = w.first == oldest && oldest > 0;
	return w;
}

/* True if none of it was written over while it was read. */
static bool still_there(const struct window *w, uint32_t length, const atomic_uint *count)
{
	return atomic_load(count) - w->first < length;
}

struct window name_window(const struct look *l, unsigned name, uint32_t before)
{
	struct name *n = &l->a->m->name[name];

	return window_of(l, n->ring, sizeof(n->ring[0]), NAME_RING, &n->count, before);
}

bool name_displaced(const struct look *l, unsigned name, uint32_t version)
{
	const struct binding *b = &l->a->m->name[name].ring[version % NAME_RING];
	uint64_t end = atomic_load(&b->span.end);

	return atomic_load(&b->displaced) && b->span.place == l->a->place &&
	       (end == 0 || end + l->a->m->set.own_late_ns > l->begin);
}

static struct window object_window(const struct look *l, const struct object *o)
{
	return window_of(l, o->ring, sizeof(o->ring[0]), STATE_RING, &o->count, 0);
}

/* ---- reports --------------------------------------------------------------------------------- */

struct text {
	size_t n;
	char s[16384];
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	int n = vsnprintf(t->s + t->n, sizeof(t->s) - t->n, format, ap);
	va_end(ap);
	if (n > 0)
		t->n = t->n + (size_t)n < sizeof(t->s) ? t->n + (size_t)n : sizeof(t->s) - 1;
}

static const char *type_text(mode_t type)
{
	return S_ISREG(type)   ? "file"
	       : S_ISDIR(type) ? "directory"
	       : S_ISLNK(type) ? "link"
			       : "any";
}

static void add_span(struct text *t, const struct look *l, const struct span *s, bool possible)
{
	uint64_t end = atomic_load(&s->end);

	add(t, "  %c %+10.3f ms", possible ? '*' : ' ',
	    ((double)s->begin - (double)l->begin) / 1e6);
	if (end != 0)
		add(t, " to %+10.3f ms", ((double)end - (double)l->begin) / 1e6);
	else
		add(t, " not returned yet");
	add(t, "  worker %u in place %u: %s%s: ", s->who, s->place, s->op,
	    atomic_load(&s->nothing) ? " (not done)" : "");
}

static void add_name(struct text *t, const struct look *l, unsigned name)
{
	struct model *m = l->a->m;
	struct window w = name_window(l, name, 0);
	uint32_t first = w.last > STATES_MAX ? w.last - STATES_MAX : 0;

	add(t, "  %s has been (* is possible, times from the begin of the look):\n",
	    name_path(name));
	for (uint32_t k = first < w.first ? first : w.first; k <= w.last; k++) {
		uint32_t id = name_in(m, name, k);
		const struct object *o = object_of(m, id);

		if (w.last - k > 2 * STATES_MAX)
			continue;
		add_span(t, l, &m->name[name].ring[k % NAME_RING].span, k >= w.first);
		if (id == ABSENT)
			add(t, "absent\n");
		else
			add(t, "object %u (%s, inode %" PRIu64 ")\n", id,
			    o != NULL ? type_text(o->type) : "gone",
			    o != NULL ? atomic_load(&o->ino) : 0);
	}
}

static void add_object(struct text *t, const struct look *l, const struct object *o)
{
	struct window w = object_window(l, o);
	uint32_t first = w.last > STATES_MAX ? w.last - STATES_MAX : 0;

	add(t, "  object %u (%s%s, inode %" PRIu64 ") has been:\n", atomic_load(&o->id),
	    type_text(o->type), o->grows ? " that only grows" : "", atomic_load(&o->ino));
	for (uint32_t k = first < w.first ? first : w.first; k <= w.last; k++) {
		const struct state *s = &o->ring[k % STATE_RING];

		if (w.last - k > 2 * STATES_MAX)
			continue;
		add_span(t, l, &s->span, k >= w.first);
		add(t, "state %u: %u bytes, mode %o, mtime %u, slots", k, s->size, s->mode,
		    s->mtime);
		for (unsigned i = 0; i < SLOTS && s->slot[i] != NO_BYTES; i++)
			add(t, " %u", s->slot[i]);
		add(t, "\n");
	}
}

void report(const struct look *l, int name, const struct object *o, const char *format, ...)
{
	static struct text t;
	struct actor *a = l->a;
	va_list ap;
	char what[512];

	if (atomic_fetch_add(&a->m->shown, 1) >= SHOWN_MAX)
		return;
	va_start(ap, format);
	(void)vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	t.n = 0;
	add(&t, "impossible: worker %u in place %u: %s: %s", a->who, a->place, l->what, what);
	if (a->synchronised_by != NULL)
		add(&t, "; synchronised %.3f ms before by %s, with what was there %.3f ms before",
		    ((double)l->begin - (double)a->synchronised_at) / 1e6, a->synchronised_by,
		    ((double)l->begin - (double)a->synchronised) / 1e6);
	add(&t, "\n");
	if (name >= 0)
		add_name(&t, l, (unsigned)name);
	if (o != NULL)
		add_object(&t, l, o);
	(void)pthread_mutex_lock(&a->m->showing);
	(void)!write(STDOUT_FILENO, t.s, t.n);
	(void)pthread_mutex_unlock(&a->m->showing);
}

/* ---- one observation ------------------------------------------------------------------------- */

static void count_kind(const struct look *l)
{
	struct tally *t = tally(l);

	for (unsigned i = 0; i < KINDS; i++) {
		const char *none = NULL;

		if (atomic_load(&t->kind[i].what) == l->what ||
		    atomic_compare_exchange_strong(&t->kind[i].what, &none, l->what) ||
		    none == l->what) {
			atomic_fetch_add(&t->kind[i].n, 1);
			return;
		}
	}
}

enum verdict { POSSIBLE, UNKNOWN, BACK, IMPOSSIBLE };

/* Counts; true when it is to be reported. */
static bool judge(const struct look *l, const struct window *w, enum verdict v)
{
	struct tally *t = tally(l);

	atomic_fetch_add(&t->observations, 1);
	if (w->first < w->last)
		atomic_fetch_add(&t->choices, 1);
	if (v == UNKNOWN)
		atomic_fetch_add(&t->unknown, 1);
	else if (v == BACK)
		atomic_fetch_add(&t->back, 1);
	else if (v == IMPOSSIBLE)
		atomic_fetch_add(&t->impossible, 1);
	if (v == BACK || v == IMPOSSIBLE) {
		count_kind(l);
		child_says();
	}
	return v == BACK || v == IMPOSSIBLE;
}

static const char *verdict_text(enum verdict v)
{
	return v == BACK ? ", which is older than what this process has seen" : "";
}

void check_call(const struct look *l, bool ok)
{
	struct window none = {0};

	(void)judge(l, &none, ok ? POSSIBLE : IMPOSSIBLE);
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool leads_to(struct model *m, uint32_t id, const struct found *f, bool *unknown)
{
	const struct object *o = object_of(m, id);

	if (id == ABSENT)
		return f->error == ENOENT;
	if (f->error != 0)
		return false;
	if (id == ANY)
		return true;
	if (o == NULL) {
		*unknown = true;
		return false;
	}
	uint64_t ino = atomic_load(&o->ino);
	return (f->type == 0 || o->type == f->type) && (f->ino == 0 || ino == 0 || ino == f->ino);
}

/* Where two objects are possible that had the same inode number one after the other, it is neither.
 */
static struct object *only_one(struct model *m, unsigned name, const struct window *w,
			       const struct found *f)
{
	uint32_t id = ABSENT;
	bool unknown = false;

	for (uint32_t k = w->first; k <= w->last; k++) {
		uint32_t other = name_in(m, name, k);

		if (other == id || !leads_to(m, other, f, &unknown))
			continue;
		if (other == ABSENT || other == ANY || id != ABSENT)
			return NULL;
		id = other;
	}
	return unknown ? NULL : object_of(m, id);
}

static unsigned dir_of(unsigned name)
{
	return name / NAMES_IN_DIR < DIRS ? name / NAMES_IN_DIR : DIRS;
}

/* Whether it has had a name in another directory than this one, as far as is remembered. */
static bool was_elsewhere(const struct model *m, const struct object *o, unsigned name)
{
	uint32_t id = atomic_load(&o->id);

	for (unsigned n = 0; n < NAMES; n++) {
		const struct name *other = &m->name[n];
		uint32_t count = atomic_load(&other->count);

		/* no name leads from or to the directory of those that are moved only */
		if (dir_of(n) == dir_of(name) || (dir_of(n) == DIRS) != (dir_of(name) == DIRS))
			continue;
		if (count >= NAME_RING &&
		    other->ring[(count + 1) % NAME_RING].span.begin > o->ring[0].span.begin)
			return true;
		for (unsigned i = 0; i < NAME_RING; i++)
			if (atomic_load(&other->ring[i].object) == id)
				return true;
	}
	return false;
}

/*
 * The kernel moves the dentry of a directory that it has in another one only if it gets the locks
 * for that at once, and says ESTALE otherwise; always, where rename(2) between two directories holds
 * one of them itself (d_splice_alias, __d_unalias): see doc/coherence.md, "What is not". Within one
 * directory it needs none.
 */
bool name_may_be_stale(const struct look *l, unsigned name, const struct window *w)
{
	struct model *m = l->a->m;

	if (l->a->place == 0)
		return false;
	if (w->first < w->last)
		return true;
	const struct object *o = object_of(m, name_in(m, name, w->last));
	return o != NULL && S_ISDIR(o->type) && was_elsewhere(m, o, name);
}

static enum verdict judge_name(const struct look *l, unsigned name, const struct found *f,
			       struct window *w, uint32_t *seen)
{
	struct model *m = l->a->m;
	uint32_t from = *seen > w->first ? *seen : w->first;
	bool unknown = w->unknown;

	if (f->error == ESTALE && name_may_be_stale(l, name, w)) {
		atomic_fetch_add(&m->tally.estale, 1);
		return POSSIBLE;
	}
	for (uint32_t k = from; k <= w->last; k++) {
		if (!leads_to(m, name_in(m, name, k), f, &unknown))
			continue;
		if (!m->set.goes_back)
			*seen = k;
		return POSSIBLE;
	}
	if (unknown || !still_there(w, NAME_RING, &m->name[name].count))
		return UNKNOWN;
	for (uint32_t k = w->first; k <= w->last; k++) {
		if (name_displaced(l, name, k)) {
			atomic_fetch_add(&m->tally.displaced, 1);
			return UNKNOWN;
		}
	}
	for (uint32_t k = w->first; k < from; k++)
		if (leads_to(m, name_in(m, name, k), f, &unknown))
			return BACK;
	return IMPOSSIBLE;
}

static void report_name(const struct look *l, unsigned name, const struct found *f, enum verdict v)
{
	if (f->error != 0)
		report(l, (int)name, NULL, "%s is %s%s", name_path(name), strerrorname_np(f->error),
		       verdict_text(v));
	else
		report(l, (int)name, NULL, "%s is a %s with inode %ju%s", name_path(name),
		       type_text(f->type), (uintmax_t)f->ino, verdict_text(v));
}

struct object *check_name(const struct look *l, unsigned name, struct found f)
{
	struct window w = name_window(l, name, 0);
	enum verdict v = judge_name(l, name, &f, &w, &l->a->seen_name[name][0]);

	if (judge(l, &w, v))
		report_name(l, name, &f, v);
	return v == POSSIBLE && f.error == 0 && f.ino != 0 ? only_one(l->a->m, name, &w, &f) : NULL;
}

/* What is replaced while a directory is read may be missed on any file system. */
void check_listed(const struct look *l, unsigned name, struct found f)
{
	struct window w = name_window(l, name, 0);
	enum verdict v;

	if (f.error == ENOENT && w.first < w.last)
		v = POSSIBLE;
	else
		v = judge_name(l, name, &f, &w, &l->a->seen_name[name][1]);
	if (judge(l, &w, v))
		report_name(l, name, &f, v);
}

/* How often the object was put under a name, as far as is remembered: once unless it was moved. */
static unsigned times_named(const struct model *m, uint32_t object)
{
	unsigned times = 0;

	for (unsigned n = 0; n < NAMES; n++) {
		for (unsigned i = 0; i < NAME_RING; i++)
			times += atomic_load(&m->name[n].ring[i].object) == object;
		times += atomic_load(&m->name[n].count) > NAME_RING;
	}
	return times;
}

void check_cwd(const struct look *l, const char *path)
{
	struct actor *a = l->a;
	struct object *o = object_of(a->m, a->cwd);
	struct window none = {0};
	enum verdict v = o == NULL ? UNKNOWN : IMPOSSIBLE;

	if (path == NULL && o != NULL) {
		uint64_t gone = atomic_load(&o->gone);
		/* One that was moved is followed when its new name is looked up; before, whoever
		 * looks at the old one takes it out of the tree. */
		if ((gone != 0 && gone < l->end) || times_named(a->m, a->cwd) > 1)
			v = POSSIBLE;
	}
	/* A move by another shows in it with the next look-up only: each name that it ever had will
	 * do. */
	for (unsigned n = 0; path != NULL && n < NAMES && v == IMPOSSIBLE; n++) {
		const struct name *name = &a->m->name[n];

		if (strcmp(path, name_path(n)) != 0)
			continue;
		for (unsigned i = 0; i < NAME_RING; i++)
			if (atomic_load(&name->ring[i].object) == a->cwd)
				v = POSSIBLE;
		if (v == IMPOSSIBLE && atomic_load(&name->count) > NAME_RING)
			v = UNKNOWN;
	}
	if (judge(l, &none, v))
		report(l, -1, o, "in directory object %u, inode %ju: %s", a->cwd,
		       (uintmax_t)(o != NULL ? atomic_load(&o->ino) : 0),
		       path != NULL ? path : "ENOENT");
}

/* ---- objects --------------------------------------------------------------------------------- */

uint64_t record_of(uint32_t object, uint32_t state)
{
	return state == ZEROS ? 0 : (uint64_t)object << 32 | state;
}

/* What is looked for in a state. */
struct wanted {
	unsigned facet, slot;
	uint64_t value;
	bool mapped;
};

static const struct state *state_in(const struct object *o, uint32_t k)
{
	return &o->ring[k % STATE_RING];
}

/* A file grows page by page while one write(2) makes it longer. */
static bool size_between(const struct object *o, const struct window *w, uint32_t k, uint64_t size)
{
	return k > w->first && size % PAGE == 0 && size > state_in(o, k - 1)->size &&
	       size < state_in(o, k)->size;
}

static bool gives(const struct object *o, const struct window *w, uint32_t k,
		  const struct wanted *want)
{
	const struct state *s = state_in(o, k);

	switch (want->facet) {
	case FACET_SIZE:
	case FACET_LENGTH:
		return s->size == want->value || size_between(o, w, k, want->value);
	case FACET_MODE:
		return s->mode == want->value;
	case FACET_MTIME:
		return s->mtime == 0 || s->mtime == want->value;
	default:
		if (s->slot[want->slot] == NO_BYTES)
			return want->mapped && want->value == 0;
		return record_of(o->id, s->slot[want->slot]) == want->value;
	}
}

/* This process's own memory of the object. */
static struct seen *seen_of(const struct look *l, const struct object *o)
{
	uint32_t id = atomic_load(&o->id);
	struct seen *seen = &l->a->seen[id % OBJECTS];

	if (seen->id != id)
		*seen = (struct seen){.id = id};
	return seen;
}

static bool any_gives(const struct object *o, const struct window *w, uint32_t from, uint32_t to,
		      const struct wanted *want, uint32_t *ret_state)
{
	for (uint32_t k = from; k <= to; k++) {
		if (gives(o, w, k, want)) {
			*ret_state = k;
			return true;
		}
	}
	return false;
}

static enum verdict judge_object(const struct look *l, const struct object *o, uint32_t id,
				 const struct window *w, const struct wanted *want,
				 uint32_t *ret_state)
{
	uint32_t seen = seen_of(l, o)->state[want->facet + want->slot];
	uint32_t from = seen > w->first ? seen : w->first, none;

	if (any_gives(o, w, from, w->last, want, ret_state))
		return POSSIBLE;
	enum verdict v = from > w->first && any_gives(o, w, w->first, from - 1, want, &none)
				 ? BACK
				 : IMPOSSIBLE;
	if (w->unknown || !still_there(w, STATE_RING, &o->count) || atomic_load(&o->id) != id)
		return UNKNOWN;
	return v;
}

static void see(const struct look *l, const struct object *o, unsigned facet, uint32_t state)
{
	if (l->elsewhere || l->a->m->set.goes_back)
		return;
	uint32_t *seen = &seen_of(l, o)->state[facet];

	if (state > *seen)
		*seen = state;
}

/* True and the state that it was found in, the first of them. */
static bool check_value(const struct look *l, const struct object *o, const char *what,
			struct wanted want, uint32_t *ret_state)
{
	uint32_t id = atomic_load(&o->id);
	struct window w = object_window(l, o);
	enum verdict v = judge_object(l, o, id, &w, &want, ret_state);

	if (judge(l, &w, v))
		report(l, -1, o, "%s is %" PRIu64 "%s", what, want.value, verdict_text(v));
	if (v == POSSIBLE)
		see(l, o, want.facet, *ret_state);
	return v == POSSIBLE;
}

void check_stat(const struct look *l, struct object *o, const struct stat *st)
{
	uint32_t state;
	uint64_t size = (uint64_t)st->st_size;

	if (!S_ISREG(o->type))
		return;
	/* This process can read as far as it was told that the file goes. */
	if (check_value(l, o, "the size", (struct wanted){FACET_SIZE, 0, size, false}, &state))
		see(l, o, FACET_LENGTH, state);
	(void)check_value(l, o, "the mode",
			  (struct wanted){FACET_MODE, 0, st->st_mode & 07777, false}, &state);
	(void)check_value(l, o, "mtime",
			  (struct wanted){FACET_MTIME, 0, (uint64_t)st->st_mtim.tv_sec, false},
			  &state);
}

void check_open_call(const struct look *l, struct object *o, bool ok)
{
	struct window none = {0};
	int error = errno;

	if (!ok && error == ESTALE && !l->a->m->set.removed)
		ok = true;
	if (judge(l, &none, ok ? POSSIBLE : IMPOSSIBLE))
		report(l, -1, o, "%s", strerrorname_np(error));
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static bool shrunk_lately(const struct look *l, const struct object *o)
{
	uint64_t shrunk = atomic_load(&o->shrunk);

	return shrunk != 0 && shrunk + ZEROS_NS > l->begin;
}

/* Of all states that may be seen. */
static void sizes(const struct look *l, const struct object *o, const struct window *w,
		  uint32_t *least, uint32_t *most)
{
	uint32_t seen = seen_of(l, o)->state[FACET_LENGTH];

	*least = UINT32_MAX;
	*most = 0;
	for (uint32_t k = seen > w->first ? seen : w->first; k <= w->last; k++) {
		uint32_t size = state_in(o, k)->size;

		*least = size < *least ? size : *least;
		*most = size > *most ? size : *most;
	}
}

/*
 * What goes by the kernel's pages asks for no size: of a file that others have made shorter it sees
 * zeros up to the old end until a READ has told the kernel the new one, whatever the size is by then.
 */
static bool by_pages(const struct look *l)
{
	return l->a->place != 0 &&
	       (strcmp(l->what, "splice") == 0 || strcmp(l->what, "sendfile") == 0 ||
		strcmp(l->what, "copy_file_range") == 0);
}

static void check_length(const struct look *l, const struct object *o, size_t n)
{
	struct window w = object_window(l, o);
	uint32_t least, most, state;

	sizes(l, o, &w, &least, &most);
	/* A read is of several moments: it ends with a page where the file has become shorter
	 * meanwhile. */
	if (w.first < w.last && n % PAGE == 0 && least <= n && n <= most) {
		(void)judge(l, &w, POSSIBLE);
	} else if (by_pages(l) && n > least && shrunk_lately(l, o)) {
		atomic_fetch_add(&tally(l)->zeros, 1);
		(void)judge(l, &w, POSSIBLE);
	} else {
		(void)check_value(l, o, "the end that was read to",
				  (struct wanted){FACET_LENGTH, 0, n, false}, &state);
	}
}

/* One record of a slot; the first state that has it, or UINT32_MAX. */
static uint32_t check_record(const struct look *l, const struct object *o, const struct window *w,
			     size_t at, uint64_t record, bool mapped)
{
	struct wanted want = {FACET_SLOT, (unsigned)(at / SLOT_LEN), record, mapped};
	uint32_t id = atomic_load(&o->id), state = UINT32_MAX;
	enum verdict v = judge_object(l, o, id, w, &want, &state);

	if (v == IMPOSSIBLE && record == 0 && !o->grows && shrunk_lately(l, o)) {
		atomic_fetch_add(&tally(l)->zeros, 1);
		v = POSSIBLE;
	}
	if (judge(l, w, v))
		report(l, -1, o, "at %zu there is record %u of object %u%s%s", at, (uint32_t)record,
		       (uint32_t)(record >> 32), record == 0 ? ", zeros" : "", verdict_text(v));
	return state;
}

static void check_bytes(const struct look *l, const struct object *o, const unsigned char *bytes,
			size_t n, bool mapped)
{
	struct window w = object_window(l, o);
	uint64_t record = 0, last = 0;
	uint32_t seen = UINT32_MAX;

	for (size_t at = 0; at + sizeof(record) <= n; at += sizeof(record)) {
		bool first = at % SLOT_LEN == 0;

		if (first && at > 0 && seen != UINT32_MAX)
			see(l, o, FACET_SLOT + (unsigned)((at - 1) / SLOT_LEN), seen);
		if (first)
			seen = UINT32_MAX;
		memcpy(&record, bytes + at, sizeof(record));
		if (!first && record == last)
			continue;
		uint32_t state = check_record(l, o, &w, at, record, mapped);
		seen = state < seen ? state : seen;
		last = record;
	}
}

void check_read(const struct look *l, struct object *o, const unsigned char *bytes, size_t n)
{
	check_length(l, o, n);
	check_bytes(l, o, bytes, n, false);
}

size_t check_mapped_size(const struct look *l, struct object *o)
{
	struct window w = object_window(l, o);
	uint32_t least, most;

	sizes(l, o, &w, &least, &most);
	return w.unknown || least == UINT32_MAX ? 0 : least;
}

void check_mapped(const struct look *l, struct object *o, const unsigned char *bytes, size_t n,
		  bool there)
{
	struct window w = object_window(l, o);
	bool shorter = check_mapped_size(l, o) < n;

	if (judge(l, &w, there || shorter ? POSSIBLE : IMPOSSIBLE))
		report(l, -1, o, "SIGBUS below %zu", n);
	if (there)
		check_bytes(l, o, bytes, n, true);
}
