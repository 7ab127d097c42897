#include "host/way.h"

#include <errno.h>

#include "transport/stream.h"

void way_init(struct way *w)
{
	(void)pthread_rwlock_init(&w->lock, NULL);
	w->stream = NULL;
	w->gen = 0;
}

void way_done(struct way *w)
{
	(void)pthread_rwlock_destroy(&w->lock);
}

uint64_t way_set(struct way *w, struct stream *stream)
{
	(void)pthread_rwlock_wrlock(&w->lock);
	w->stream = stream;
	w->gen += stream != NULL;
	uint64_t gen = w->gen;
	(void)pthread_rwlock_unlock(&w->lock);
	return gen;
}

/* A stream that is this one. */
static bool leads_there(const struct way *w, uint64_t gen)
{
	return w->stream != NULL && (gen == WAY_ANY || gen == w->gen);
}

int way_send(struct way *w, uint64_t gen, const struct msg *m)
{
	(void)pthread_rwlock_rdlock(&w->lock);
	int r = leads_there(w, gen) ? stream_send(w->stream, m) : -ENOTCONN;
	(void)pthread_rwlock_unlock(&w->lock);
	return r;
}

void way_break(struct way *w, uint64_t gen)
{
	(void)pthread_rwlock_rdlock(&w->lock);
	if (leads_there(w, gen))
		stream_shutdown(w->stream);
	(void)pthread_rwlock_unlock(&w->lock);
}

uint64_t way_gen(struct way *w)
{
	(void)pthread_rwlock_rdlock(&w->lock);
	uint64_t gen = w->gen;
	(void)pthread_rwlock_unlock(&w->lock);
	return gen;
}
