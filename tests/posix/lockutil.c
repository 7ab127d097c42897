#include "lockutil.h"

#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

static long setlk(long fd, int cmd, long type, long start, long len)
{
	struct flock lk = {
	    .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl((int)fd, cmd, &lk) ? -errno : 0;
}

long lk_set(long fd, long type, long start, long len)
{
	return setlk(fd, F_SETLK, type, start, len);
}

long lk_wait(long fd, long type, long start, long len)
{
	return setlk(fd, F_SETLKW, type, start, len);
}

long ofd_set(long fd, long type, long start, long len)
{
	return setlk(fd, F_OFD_SETLK, type, start, len);
}

long ofd_wait(long fd, long type, long start, long len)
{
	return setlk(fd, F_OFD_SETLKW, type, start, len);
}

long lk_map(long fd, long bytes, long ofd, long unused)
{
	long map = 0;

	(void)unused;
	for (long i = 0; i < bytes; i++) {
		struct flock lk = {
		    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = i, .l_len = 1};

		if (fcntl((int)fd, ofd ? F_OFD_GETLK : F_GETLK, &lk))
			return -errno;
		if (lk.l_type != F_UNLCK)
			map |= (lk.l_type == F_RDLCK ? 1L : 2L) << (2 * i);
	}
	return map;
}

bool lk_expect(const char *file, int line, struct peer *p, long fd, const char *want)
{
	char got[32] = "";
	size_t n = strlen(want);
	long map = peer_call(p, lk_map, fd, (long)n, 0, 0);

	for (size_t i = 0; i < n && map >= 0; i++)
		got[i] = ".RW?"[(map >> (2 * i)) & 3];
	return h_check(file, line, map >= 0 && !strcmp(got, want), "locks of the first bytes",
		       "expected %s got %s (%ld)", want, got, map);
}

struct lk_shared *lk_shared(void)
{
	static struct lk_shared *s;

	if (!s)
		s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			 0);
	return s;
}

static void on_timer(int sig)
{
	(void)sig;
	lk_shared()->signals++;
}

static long lock_whole(int fd, enum lk_kind kind, bool exclusive, bool wait)
{
	if (kind == LK_FLOCK)
		return do_flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB), 0, 0);
	return setlk(fd,
		     kind == LK_POSIX ? (wait ? F_SETLKW : F_SETLK)
				      : (wait ? F_OFD_SETLKW : F_OFD_SETLK),
		     exclusive ? F_WRLCK : F_RDLCK, 0, 0);
}

static long unlock_whole(int fd, enum lk_kind kind)
{
	if (kind == LK_FLOCK)
		return do_flock(fd, LOCK_UN, 0, 0);
	return setlk(fd, kind == LK_POSIX ? F_SETLK : F_OFD_SETLK, F_UNLCK, 0, 0);
}

long lk_wait_with_timer(long fd, long kind, long restart, long unused)
{
	struct sigaction sa = {.sa_handler = on_timer, .sa_flags = restart ? SA_RESTART : 0};
	struct itimerval tv = {{0, 3000}, {0, 3000}}, off = {0};
	long r;

	(void)unused;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &tv, NULL);
	r = lock_whole((int)fd, (enum lk_kind)kind, true, true);
	setitimer(ITIMER_REAL, &off, NULL);
	signal(SIGALRM, SIG_IGN);
	if (r == 0 && !lk_shared()->released)
		return -EPROTO;
	return r;
}

long lk_wait_then_check(long fd, long kind, long unused1, long unused2)
{
	long r = lock_whole((int)fd, (enum lk_kind)kind, true, true);

	(void)unused1;
	(void)unused2;
	return r == 0 && !lk_shared()->released ? -EPROTO : r;
}

long lk_count_up(long path, long kind, long times, long unused)
{
	int fd = open((const char *)path, O_RDWR);

	(void)unused;
	for (long i = 0; i < times; i++) {
		char buf[16] = "";
		long r = lock_whole(fd, (enum lk_kind)kind, true, true);

		if (r)
			return r;
		if (pread(fd, buf, sizeof(buf) - 1, 0) < 0)
			return -errno;
		snprintf(buf, sizeof(buf), "%08d", atoi(buf) + 1);
		if (pwrite(fd, buf, 8, 0) != 8)
			return -EIO;
		r = unlock_whole(fd, (enum lk_kind)kind);
		if (r)
			return r;
	}
	return close(fd) ? -errno : 0;
}

static int opened(struct peer *p)
{
	long fd = peer_call(p, do_open, (long)"f", O_RDWR, 0, 0);

	EXPECT_TRUE(fd >= 0, "the peer opens the file");
	return (int)fd;
}

/* A waiter gets the lock when, and not before, the holder lets go in one of several ways. */
static void granted(enum lk_kind kind)
{
	static const char *const ways[] = {"unlock", "close", "exit", "SIGKILL"};
	struct lk_shared *sh = lk_shared();

	for (int way = 0; way < 4; way++) {
		struct peer holder = peer_start(NULL), waiter = peer_start(NULL);
		int h = opened(&holder), w = opened(&waiter);

		h_ctx("a waiter gets the lock after the holder's %s", ways[way]);
		sh->released = 0;
		EXPECT_RET(0, peer_call(&holder,
					kind == LK_FLOCK ? do_flock
					: kind == LK_OFD ? ofd_set
							 : lk_set,
					h, kind == LK_FLOCK ? LOCK_EX : F_WRLCK, 0, 0));
		peer_send(&waiter, lk_wait_then_check, w, kind, 0, 0);
		EXPECT_TRUE(peer_sleeps(&waiter), "the waiter waits");
		sh->released = 1;
		if (way == 0)
			EXPECT_RET(0, peer_call(&holder,
						kind == LK_FLOCK ? do_flock
						: kind == LK_OFD ? ofd_set
								 : lk_set,
						h, kind == LK_FLOCK ? LOCK_UN : F_UNLCK, 0, 0));
		else if (way == 1)
			EXPECT_RET(0, peer_call(&holder, do_close, h, 0, 0, 0));
		else
			peer_end(&holder, way == 3);
		EXPECT_RET(0, peer_recv(&waiter));
		if (way < 2)
			peer_end(&holder, false);
		peer_end(&waiter, false);
	}
	h_ctx(NULL);
}

static void interrupted(enum lk_kind kind)
{
	struct lk_shared *sh = lk_shared();
	struct peer holder = peer_start(NULL), waiter = peer_start(NULL), third = peer_start(NULL);
	peer_fn *set = kind == LK_FLOCK ? do_flock : kind == LK_OFD ? ofd_set : lk_set;
	long ex = kind == LK_FLOCK ? LOCK_EX | LOCK_NB : F_WRLCK,
	     un = kind == LK_FLOCK ? LOCK_UN : F_UNLCK;
	int h = opened(&holder), w = opened(&waiter), t = opened(&third);

	h_ctx("a signal without SA_RESTART");
	sh->released = sh->signals = 0;
	EXPECT_RET(0, peer_call(&holder, set, h, ex, 0, 0));
	EXPECT_RET(-EINTR, peer_call(&waiter, lk_wait_with_timer, w, kind, 0, 0));
	EXPECT_TRUE(sh->signals > 0, "the handler ran");
	EXPECT_RET(-EAGAIN, peer_call(&waiter, set, w, ex, 0, 0)); /* it is still the holder's */
	EXPECT_RET(0, peer_call(&holder, set, h, un, 0, 0));
	/* The interrupted request has left nothing behind. */
	EXPECT_RET(0, peer_call(&third, set, t, ex, 0, 0));
	EXPECT_RET(0, peer_call(&third, set, t, un, 0, 0));
	h_ctx("signals with SA_RESTART");
	sh->released = sh->signals = 0;
	EXPECT_RET(0, peer_call(&holder, set, h, ex, 0, 0));
	peer_send(&waiter, lk_wait_with_timer, w, kind, 1, 0);
	while (sh->signals < 5)
		sched_yield();
	sh->released = 1;
	EXPECT_RET(0, peer_call(&holder, set, h, un, 0, 0));
	EXPECT_RET(0, peer_recv(&waiter));
	EXPECT_RET(-EAGAIN, peer_call(&third, set, t, ex, 0, 0));
	EXPECT_RET(0, peer_call(&waiter, set, w, un, 0, 0));
	h_ctx("a waiter that is killed");
	EXPECT_RET(0, peer_call(&holder, set, h, ex, 0, 0));
	sh->released = 0;
	peer_send(&waiter, lk_wait_then_check, w, kind, 0, 0);
	EXPECT_TRUE(peer_sleeps(&waiter), "the waiter waits");
	peer_end(&waiter, true);
	EXPECT_RET(0, peer_call(&holder, set, h, un, 0, 0));
	EXPECT_RET(0, peer_call(&third, set, t, ex, 0, 0));
	EXPECT_RET(0, peer_call(&third, set, t, un, 0, 0));
	peer_end(&holder, false);
	peer_end(&third, false);
	h_ctx(NULL);
}

/* Several processes count in one file: with a lock that excludes, no count is lost. */
static void exclusion(enum lk_kind kind)
{
	enum { PEERS = 4, EACH = 60 };
	struct peer p[PEERS];

	h_ctx("mutual exclusion");
	REQUIRE_OK(h_put("count", "00000000", 8));
	for (int i = 0; i < PEERS; i++)
		p[i] = peer_start(NULL);
	for (int i = 0; i < PEERS; i++)
		peer_send(&p[i], lk_count_up, (long)"count", kind, EACH, 0);
	for (int i = 0; i < PEERS; i++)
		EXPECT_RET(0, peer_recv(&p[i]));
	for (int i = 0; i < PEERS; i++)
		peer_end(&p[i], false);
	EXPECT_CONTENT("00000240", 8, "count");
	unlink("count");
	h_ctx(NULL);
}

void lk_blocking(enum lk_kind kind)
{
	granted(kind);
	interrupted(kind);
	exclusion(kind);
}
