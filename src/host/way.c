#include "host/way.h"

#include <errno.h>

#include "transport/stream.h"

void way_init(struct way *w)
{
	(void)pthread_rwlock_init(&w->lock, NULL);
	w->stream = NULL;
}

void way_done(struct way *w)
{
	(void)pthread_rwlock_destroy(&w->lock);
}

void way_set(struct way *w, struct stream *stream)
{
	(void)pthread_rwlock_wrlock(&w->lock);
	w->stream = stream;
	(void)pthread_rwlock_unlock(&w->lock);
}

int way_send(struct way *w, const struct msg *m)
{
	(void)pthread_rwlock_rdlock(&w->lock);
	int r = w->stream != NULL ? stream_send(w->stream, m) : -ENOTCONN;
	(void)pthread_rwlock_unlock(&w->lock);
	return r;
}

void way_break(struct way *w)
{
	(void)pthread_rwlock_rdlock(&w->lock);
	if (w->stream != NULL)
		stream_shutdown(w->stream);
	(void)pthread_rwlock_unlock(&w->lock);
}
