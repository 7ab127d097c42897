/*
 * Cleanup attributes for locals, and scope locks.
 */
#pragma once

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void cleanup_free(void *pp)
{
	free(*(void **)pp);
}

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static inline void cleanup_unlock(pthread_mutex_t **m)
{
	if (*m != NULL)
		(void)pthread_mutex_unlock(*m);
}

#define CLEANUP_FREE  CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close)

#define SCOPE_PASTE2(a, b) a##b
#define SCOPE_PASTE(a, b)  SCOPE_PASTE2(a, b)

/* Holds m until the end of the enclosing block. */
#define SCOPE_LOCK(m) SCOPE_LOCK_AS(SCOPE_PASTE(scope_lock_, __LINE__), m)
#define SCOPE_LOCK_AS(name, m)                                                                     \
	pthread_mutex_t *name CLEANUP(cleanup_unlock) __attribute__((unused)) = scope_lock(m)

static inline pthread_mutex_t *scope_lock(pthread_mutex_t *m)
{
	(void)pthread_mutex_lock(m);
	return m;
}

/* Takes a descriptor or pointer out of a cleanup local, which then owns nothing. */
static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}
#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__auto_type take_ptr_ = (p);                                                       \
		(p) = NULL;                                                                        \
		take_ptr_;                                                                         \
	})
