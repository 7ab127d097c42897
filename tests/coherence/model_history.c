#include "model.h"

#include "child.h"
#include "mapped.h"

#include <err.h>
#include <stdio.h>
#include <string.h>

static void shared_mutex(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t a;

	(void)pthread_mutexattr_init(&a);
	(void)pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	(void)pthread_mutex_init(mutex, &a);
}

struct model *model_new(const struct model_settings *set)
{
	struct model *m = child_memory(sizeof(*m));

	m->set = *set;
	m->next_object = 1;
	shared_mutex(&m->showing);
	mapped_init();
	for (unsigned i = 0; i < OBJECTS; i++)
		shared_mutex(&m->object[i].lock);
	for (unsigned i = 0; i < NAMES; i++) {
		shared_mutex(&m->name[i].lock);
		struct binding *b = name_next(m, i, ABSENT, "at first", 0, 0);
		atomic_store(&b->span.end, b->span.begin);
	}
	return m;
}

const char *dir_path(unsigned dir)
{
	static const char *const path[] = {"d0", "d1", "d2", "moved"};

	return path[dir];
}

const char *name_path(unsigned name)
{
	static char path[NAMES][24];
	unsigned dir = name / NAMES_IN_DIR < DIRS ? name / NAMES_IN_DIR : DIRS;

	if (path[name][0] == '\0')
		(void)snprintf(path[name], sizeof(path[name]), "%s/%c%u", dir_path(dir),
			       dir < DIRS ? 'n' : 'm', name - dir * NAMES_IN_DIR);
	return path[name];
}

static void span_begin(struct span *s, const char *op, unsigned who, unsigned place)
{
	atomic_store(&s->end, 0);
	atomic_store(&s->nothing, false);
	s->op = op;
	s->who = who;
	s->place = place;
	s->begin = now_ns();
}

uint32_t name_now(struct model *m, unsigned name)
{
	struct name *n = &m->name[name];

	return atomic_load(&n->ring[(atomic_load(&n->count) - 1) % NAME_RING].object);
}

struct binding *name_next(struct model *m, unsigned name, uint32_t object, const char *op,
			  unsigned who, unsigned place)
{
	struct name *n = &m->name[name];
	struct binding *b = &n->ring[atomic_load(&n->count) % NAME_RING];

	atomic_store(&b->object, object);
	atomic_store(&b->displaced, false);
	span_begin(&b->span, op, who, place);
	atomic_fetch_add(&n->count, 1);
	return b;
}

uint32_t name_in(struct model *m, unsigned name, uint32_t version)
{
	return atomic_load(&m->name[name].ring[version % NAME_RING].object);
}

struct object *object_new(struct model *m, mode_t type, bool grows, mode_t mode, unsigned who,
			  unsigned place)
{
	uint32_t id;
	struct object *o;

	do {
		id = atomic_fetch_add(&m->next_object, 1);
		o = &m->object[id % OBJECTS];
	} while (atomic_load(&o->names) > 0);
	atomic_store(&o->id, 0);
	o->type = type;
	o->grows = grows;
	atomic_store(&o->ino, 0);
	atomic_store(&o->gone, 0);
	atomic_store(&o->shrunk, 0);
	atomic_store(&o->count, 0);
	struct state *s = &o->ring[0];
	memset(s, 0, sizeof(*s));
	span_begin(&s->span, "made", who, place);
	s->mode = mode;
	for (unsigned i = 0; i < SLOTS; i++)
		s->slot[i] = NO_BYTES;
	atomic_store(&s->span.end, s->span.begin);
	atomic_store(&o->count, 1);
	atomic_store(&o->id, id);
	return o;
}

struct object *object_of(struct model *m, uint32_t id)
{
	struct object *o = &m->object[id % OBJECTS];

	return id != ABSENT && id != ANY && atomic_load(&o->id) == id ? o : NULL;
}

struct state *object_now(struct object *o)
{
	return &o->ring[(atomic_load(&o->count) - 1) % STATE_RING];
}

struct state *object_next(struct object *o, const char *op, unsigned who, unsigned place)
{
	struct state *s = &o->ring[atomic_load(&o->count) % STATE_RING];

	*s = *object_now(o);
	span_begin(&s->span, op, who, place);
	return s;
}

void object_publish(struct object *o, struct state *s)
{
	s->span.begin = now_ns();
	atomic_fetch_add(&o->count, 1);
}
