#include "world.h"

#include "child.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_SIZE  (1u << 15)
#define LOG_SHOWN 14
#define SUBDIRS	  4

struct world {
	struct settings set;
	struct round round;
	struct tally tally;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock */
	enum phase phase;
	unsigned step, arrived;

	atomic_ulong logged;
	struct operation log[LOG_SIZE];
};

struct world *world_new(const struct settings *set)
{
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;
	struct world *w = child_memory(sizeof(*w));

	w->set = *set;
	mapped_init();
	(void)pthread_mutexattr_init(&ma);
	(void)pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	(void)pthread_mutex_init(&w->lock, &ma);
	(void)pthread_condattr_init(&ca);
	(void)pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	(void)pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&w->changed, &ca);
	return w;
}

const struct settings *world_settings(const struct world *w)
{
	return &w->set;
}

struct round *world_round(struct world *w)
{
	return &w->round;
}

struct tally *world_tally(struct world *w)
{
	return &w->tally;
}

/* ---- steps ----------------------------------------------------------------------------------- */

void world_begin(struct world *w, enum phase phase)
{
	(void)pthread_mutex_lock(&w->lock);
	w->phase = phase;
	w->step++;
	w->arrived = 0;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
}

bool world_all_arrived(struct world *w, unsigned count, unsigned wait_ms)
{
	uint64_t end = now_ns() + (uint64_t)wait_ms * 1000000;
	struct timespec ts = {(time_t)(end / 1000000000), (long)(end % 1000000000)};
	int r = 0;

	(void)pthread_mutex_lock(&w->lock);
	while (w->arrived < count && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&w->changed, &w->lock, &ts);
	bool all = w->arrived >= count;
	(void)pthread_mutex_unlock(&w->lock);
	return all;
}

enum phase world_next(struct world *w, unsigned *step)
{
	(void)pthread_mutex_lock(&w->lock);
	while (w->step == *step)
		(void)pthread_cond_wait(&w->changed, &w->lock);
	*step = w->step;
	enum phase phase = w->phase;
	(void)pthread_mutex_unlock(&w->lock);
	return phase;
}

void world_arrive(struct world *w)
{
	(void)pthread_mutex_lock(&w->lock);
	w->arrived++;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
}

/* ---- names ----------------------------------------------------------------------------------- */

struct name name_dir(unsigned i)
{
	struct name n = {"."};

	if (i > 0 && i <= SUBDIRS)
		(void)snprintf(n.s, sizeof(n.s), "d%u", i - 1);
	else if (i > SUBDIRS)
		(void)snprintf(n.s, sizeof(n.s), "d%u/d%u", (i - SUBDIRS - 1) / SUBDIRS,
			       (i - SUBDIRS - 1) % SUBDIRS);
	return n;
}

struct name name_in_dir(unsigned dir, unsigned i)
{
	struct name n = name_dir(dir);
	size_t at = strlen(n.s);

	(void)snprintf(dir == 0 ? n.s : n.s + at, sizeof(n.s) - at, dir == 0 ? "n%u" : "/n%u", i);
	return n;
}

/* The hot names lie in three directories, so that listings meet changes as well. */
struct name name_hot(const struct world *w, unsigned i)
{
	struct prng dirs = {w->round.seed + i % 3}, names = {w->round.seed + 1000 + i};

	return name_in_dir((unsigned)prng_below(&dirs, DIRS_MAX),
			   (unsigned)prng_below(&names, NAMES_IN_DIR));
}

struct name name_pick(const struct world *w, struct prng *rng)
{
	if (prng_below(rng, 10) < 7)
		return name_hot(w, (unsigned)prng_below(rng, HOT_MAX));
	return name_in_dir((unsigned)prng_below(rng, DIRS_MAX),
			   (unsigned)prng_below(rng, NAMES_IN_DIR));
}

/* ---- log ------------------------------------------------------------------------------------- */

static void copy(char *to, size_t size, const char *from)
{
	(void)snprintf(to, size, "%s", from != NULL ? from : "");
}

void world_log(struct world *w, unsigned who, const char *op, const char *a, const char *b, int err)
{
	struct operation *o = &w->log[atomic_fetch_add(&w->logged, 1) % LOG_SIZE];

	o->ns = now_ns();
	o->who = who;
	o->err = err;
	copy(o->op, sizeof(o->op), op);
	copy(o->a.s, sizeof(o->a.s), a);
	copy(o->b.s, sizeof(o->b.s), b);
}

/* What was done to a directory above counts as well. */
static bool mentions(const struct operation *o, const struct name *n, const char *name)
{
	size_t len = strlen(n->s);

	if (len == 0 || strncmp(n->s, name, len) != 0)
		return false;
	return name[len] == '\0' || (name[len] == '/' && o->err == 0);
}

void world_show_log(const struct world *w, const char *name)
{
	unsigned long end = atomic_load(&w->logged), found[LOG_SHOWN];
	unsigned n = 0;

	for (unsigned long i = end; i > 0 && end - i < LOG_SIZE - 1 && n < LOG_SHOWN; i--) {
		const struct operation *o = &w->log[(i - 1) % LOG_SIZE];

		if (mentions(o, &o->a, name) || mentions(o, &o->b, name))
			found[n++] = i - 1;
	}
	while (n > 0) {
		const struct operation *o = &w->log[found[--n] % LOG_SIZE];

		printf("    %10.3f ms  worker %u  %s %s %s  %s\n",
		       ((double)o->ns - (double)now_ns()) / 1e6, o->who, o->op, o->a.s, o->b.s,
		       o->err != 0 ? strerrorname_np(o->err) : "ok");
	}
}
