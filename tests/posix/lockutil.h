/* lockutil: what the areas of locks share: calls for peers, a picture of a file's locks, signals.
 */
#ifndef POSIX_LOCKUTIL_H
#define POSIX_LOCKUTIL_H

#include "peer.h"

/* fcntl locks; each returns 0 or a negative errno. */
long lk_set(long fd, long type, long start, long len);
long lk_wait(long fd, long type, long start, long len);
long ofd_set(long fd, long type, long start, long len);
long ofd_wait(long fd, long type, long start, long len);

/*
 * The locks that stand in the way of this process (ofd: of this open file), byte by byte, as two
 * bits each: 0 free, 1 read, 2 write. lk_expect compares them, seen by the peer, with a string of
 * '.', 'R' and 'W'.
 */
long lk_map(long fd, long bytes, long ofd, long unused);
#define LK_EXPECT(peer, fd, want) lk_expect(H_AT, peer, fd, want)
bool lk_expect(const char *file, int line, struct peer *p, long fd, const char *want);

/* Memory that all processes of the area share. */
struct lk_shared {
	volatile int released, signals, counter, stop;
};
struct lk_shared *lk_shared(void);

/*
 * A peer's blocking call under a timer that fires every 3 ms, without and with SA_RESTART: the
 * first must end with EINTR (a single signal could come too early), the second never.
 */
enum lk_kind { LK_POSIX, LK_OFD, LK_FLOCK };
long lk_wait_with_timer(long fd, long kind, long restart, long unused);
/* A blocking exclusive lock; then -EPROTO unless shared->released was set by then. */
long lk_wait_then_check(long fd, long kind, long unused1, long unused2);
/* The n-fold "lock, read a number from the file, write it plus one, unlock", opened anew. */
long lk_count_up(long path, long kind, long times, long unused);
/* The tests that all three kinds share; f exists. */
void lk_blocking(enum lk_kind kind);

#endif
