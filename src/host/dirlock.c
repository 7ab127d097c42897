#include "host/dirlock.h"

#include <pthread.h>
#include <sys/stat.h>

#include "core/hash.h"

#define LOCKS 64

#define LOCKS_8 /* eight initialisers */                                                           \
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,           \
		PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,   \
		PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER
static pthread_mutex_t locks[LOCKS] = {LOCKS_8, LOCKS_8, LOCKS_8, LOCKS_8,
				       LOCKS_8, LOCKS_8, LOCKS_8, LOCKS_8};

static unsigned index_of(int dirfd)
{
	struct stat st;

	return fstat(dirfd, &st) == 0 ? hash_mix(st.st_ino ^ hash_mix(st.st_dev)) % LOCKS : 0;
}

struct dirlock dirlock_take(int dirfd, int dirfd2)
{
	unsigned a = index_of(dirfd), b = dirfd2 >= 0 ? index_of(dirfd2) : a;
	struct dirlock l = {.count = 1 + (a != b), .index = {a < b ? a : b, a < b ? b : a}};

	for (unsigned i = 0; i < l.count; i++)
		(void)pthread_mutex_lock(&locks[l.index[i]]);
	return l;
}

void dirlock_release(struct dirlock *l)
{
	for (unsigned i = 0; i < l->count; i++)
		(void)pthread_mutex_unlock(&locks[l->index[i]]);
}
