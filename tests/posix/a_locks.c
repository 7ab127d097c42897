/* fcntl POSIX locks: conflicts, ranges, what releases them. Blocking is in a_lockwait.c. */
#include "lockutil.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

static struct peer peer; /* the other process, its descriptor of f */
static int pfd, fd;

static void conflicts(void)
{
	/* The holder has bytes 10 to 19. */
	static const struct {
		long start, len;
		bool overlaps;
	} want[] = {{0, 10, false}, {20, 10, false}, {20, 0, false}, {0, 5, false},
		    {10, 10, true}, {0, 11, true},   {19, 1, true},  {12, 3, true},
		    {5, 100, true}, {0, 0, true},    {19, 0, true},  {1000, 5, false}};
	static const int types[] = {F_RDLCK, F_WRLCK};

	for (int h = 0; h < 2; h++) {
		EXPECT_RET(0, lk_set(fd, types[h], 10, 10));
		for (int w = 0; w < 2; w++) {
			for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
				bool no = want[i].overlaps &&
					  (types[h] == F_WRLCK || types[w] == F_WRLCK);

				h_ctx("%s lock on 10+10, wanted %s on %ld+%ld",
				      h ? "write" : "read", w ? "write" : "read", want[i].start,
				      want[i].len);
				EXPECT_RET(no ? -EAGAIN : 0, peer_call(&peer, lk_set, pfd, types[w],
								       want[i].start, want[i].len));
				if (!no)
					EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_UNLCK, 0, 0));
			}
		}
		EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	}
	h_ctx(NULL);
}

/* What F_GETLK tells about the lock in the way. */
static long getlk_is(long type, long start, long len, long holder)
{
	struct flock lk = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(pfd, F_GETLK, &lk))
		return -errno;
	if (lk.l_type != type)
		return 1;
	if (type == F_UNLCK)
		return 0;
	if (lk.l_whence != SEEK_SET || lk.l_start != start || lk.l_len != len)
		return 2;
	return lk.l_pid == (pid_t)holder ? 0 : 3;
}

static void getlk(void)
{
	struct flock lk = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	long self = getpid();

	h_ctx("F_GETLK (1: type, 2: range, 3: pid is wrong)");
	EXPECT_RET(0, peer_call(&peer, getlk_is, F_UNLCK, 0, 0, 0));
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 5, 7));
	EXPECT_RET(0, peer_call(&peer, getlk_is, F_WRLCK, 5, 7, self));
	EXPECT_RET(0, lk_set(fd, F_RDLCK, 5, 7));
	EXPECT_RET(0, peer_call(&peer, getlk_is, F_RDLCK, 5, 7, self));
	EXPECT_RET(0, lk_set(fd, F_RDLCK, 12, 8)); /* joins */
	EXPECT_RET(0, peer_call(&peer, getlk_is, F_RDLCK, 5, 15, self));
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 100, 0)); /* to the end, wherever */
	EXPECT_RET(0, peer_call(&peer, getlk_is, F_WRLCK, 100, 0, self));
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 200, 0));
	EXPECT_RET(0, peer_call(&peer, getlk_is, F_WRLCK, 100, 100, self));
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	EXPECT_RET(0, lk_set(fd, F_WRLCK, LONG_MAX - 10, 11));
	EXPECT_RET(0, peer_call(&peer, getlk_is, F_WRLCK, LONG_MAX - 10, 0, self));
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	/* One's own locks are never in the way; the peer's are, with its pid. */
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 0, 10));
	EXPECT_OK(fcntl(fd, F_GETLK, &lk));
	EXPECT_EQ(F_UNLCK, lk.l_type);
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_WRLCK, 3, 4));
	lk = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET};
	EXPECT_OK(fcntl(fd, F_GETLK, &lk));
	EXPECT_EQ(F_WRLCK, lk.l_type);
	EXPECT_EQ(3, lk.l_start);
	EXPECT_EQ(4, lk.l_len);
	EXPECT_EQ(peer.pid, lk.l_pid);
	/* A read lock is not in the way of another. */
	EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_RDLCK, 3, 4));
	lk = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET};
	EXPECT_OK(fcntl(fd, F_GETLK, &lk));
	EXPECT_EQ(F_UNLCK, lk.l_type);
	EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_UNLCK, 0, 0));
	h_ctx(NULL);
}

static void ranges(void)
{
	static const struct {
		short type;
		long start, len;
		const char *after;
	} step[] = {
	    {F_WRLCK, 0, 20, "WWWWWWWWWWWWWWWWWWWW...."},
	    {F_UNLCK, 5, 5, "WWWWW.....WWWWWWWWWW...."},  /* a hole in the middle */
	    {F_RDLCK, 12, 3, "WWWWW.....WWRRRWWWWW...."}, /* another kind in the middle */
	    {F_RDLCK, 3, 4, "WWWRRRR...WWRRRWWWWW...."},  /* over the edge of one */
	    {F_WRLCK, 7, 3, "WWWRRRRWWWWWRRRWWWWW...."},  /* just fills the gap */
	    {F_UNLCK, 0, 1, ".WWRRRRWWWWWRRRWWWWW...."},  /* the start */
	    {F_UNLCK, 19, 1, ".WWRRRRWWWWWRRRWWWW....."}, /* the end */
	    {F_UNLCK, 21, 2, ".WWRRRRWWWWWRRRWWWW....."}, /* nothing */
	    {F_RDLCK, 0, 24, "RRRRRRRRRRRRRRRRRRRRRRRR"}, /* all of it */
	    {F_WRLCK, 10, 0, "RRRRRRRRRRWWWWWWWWWWWWWW"}, /* to the end */
	    {F_UNLCK, 2, 3, "RR...RRRRRWWWWWWWWWWWWWW"},
	    {F_UNLCK, 4, 8, "RR..........WWWWWWWWWWWW"}, /* across two */
	    {F_WRLCK, 1, 11, "RWWWWWWWWWWWWWWWWWWWWWWW"},
	    {F_RDLCK, 23, 0, "RWWWWWWWWWWWWWWWWWWWWWWR"},
	    {F_UNLCK, 0, 0, "........................"},
	};

	for (unsigned i = 0; i < sizeof(step) / sizeof(step[0]); i++) {
		h_ctx("step %u", i);
		EXPECT_RET(0, lk_set(fd, step[i].type, step[i].start, step[i].len));
		LK_EXPECT(&peer, pfd, step[i].after);
	}
	/* Every second byte, then the others: one lock again. */
	for (long i = 0; i < 24; i += 2)
		EXPECT_RET(0, lk_set(fd, F_WRLCK, i, 1));
	LK_EXPECT(&peer, pfd, "W.W.W.W.W.W.W.W.W.W.W.W.");
	for (long i = 1; i < 24; i += 2)
		EXPECT_RET(0, lk_set(fd, F_WRLCK, i, 1));
	EXPECT_RET(0, peer_call(&peer, getlk_is, F_WRLCK, 0, 24, getpid()));
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	/* An upgrade against another reader fails and leaves what there was. */
	h_ctx("upgrade");
	EXPECT_RET(0, lk_set(fd, F_RDLCK, 0, 8));
	EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_RDLCK, 4, 8));
	EXPECT_RET(-EAGAIN, lk_set(fd, F_WRLCK, 0, 8));
	LK_EXPECT(&peer, pfd, "RRRRRRRR........");
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 0, 4));
	LK_EXPECT(&peer, pfd, "WWWWRRRR........");
	EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_UNLCK, 0, 0));
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 0, 8));
	LK_EXPECT(&peer, pfd, "WWWWWWWW........");
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	h_ctx(NULL);
}

static void relative(void)
{
	struct flock lk = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 2, .l_len = 3};

	h_ctx("l_whence and negative lengths");
	REQUIRE_OK(ftruncate(fd, 10));
	EXPECT_EQ(5, lseek(fd, 5, SEEK_SET));
	EXPECT_OK(fcntl(fd, F_SETLK, &lk));
	LK_EXPECT(&peer, pfd, ".......WWW......");
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	lk.l_whence = SEEK_END;
	lk.l_start = -4;
	lk.l_len = 2;
	EXPECT_OK(fcntl(fd, F_SETLK, &lk));
	LK_EXPECT(&peer, pfd, "......WW........");
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	lk.l_len = 0;
	EXPECT_OK(fcntl(fd, F_SETLK, &lk));
	LK_EXPECT(&peer, pfd, "......WWWWWWWWWW");
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 8, -3));
	LK_EXPECT(&peer, pfd, ".....WWW........");
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	EXPECT_RET(-EINVAL, lk_set(fd, F_WRLCK, 2, -3));
	EXPECT_RET(-EINVAL, lk_set(fd, F_WRLCK, -1, 3));
	EXPECT_RET(-EOVERFLOW, lk_set(fd, F_WRLCK, LONG_MAX, 2));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_OK(lockf(fd, F_LOCK, 6));
	LK_EXPECT(&peer, pfd, "WWWWWW..........");
	EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_WRLCK, 6, 1));
	EXPECT_ERR2(EAGAIN, EACCES, lockf(fd, F_TLOCK, 7));
	EXPECT_ERR2(EAGAIN, EACCES, lockf(fd, F_TEST, 7));
	EXPECT_OK(lockf(fd, F_TEST, 6));
	EXPECT_OK(lockf(fd, F_ULOCK, 2));
	LK_EXPECT(&peer, pfd, "..WWWW..........");
	EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_UNLCK, 0, 0));
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	h_ctx(NULL);
}

/* Any close of the file by the process lets go of all its locks on it. */
static void released_by_close(void)
{
	int second, duplicate, child;

	h_ctx("release by close");
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 0, 4));
	second = (int)REQUIRE_OK(open("f", O_RDONLY));
	LK_EXPECT(&peer, pfd, "WWWW...."); /* an open changes nothing */
	EXPECT_OK(close(second));
	LK_EXPECT(&peer, pfd, "........");
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 0, 4));
	duplicate = (int)REQUIRE_OK(dup(fd));
	EXPECT_RET(0, lk_set(duplicate, F_RDLCK, 2, 4));
	LK_EXPECT(&peer, pfd, "WWRRRR..");
	EXPECT_OK(close(duplicate));
	LK_EXPECT(&peer, pfd, "........");
	REQUIRE_OK(link("f", "hard"));
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 0, 4));
	second = (int)REQUIRE_OK(open("hard", O_RDWR));
	EXPECT_RET(0, lk_set(second, F_WRLCK, 2, 4)); /* the same process: no conflict */
	LK_EXPECT(&peer, pfd, "WWWWWW..");
	EXPECT_OK(close(second));
	LK_EXPECT(&peer, pfd, "........");
	unlink("hard");
	/* Another file's close does not matter. */
	REQUIRE_OK(h_touch("g"));
	second = (int)REQUIRE_OK(open("g", O_RDWR));
	EXPECT_RET(0, lk_set(fd, F_WRLCK, 0, 4));
	EXPECT_RET(0, lk_set(second, F_RDLCK, 0, 4));
	EXPECT_OK(close(second));
	LK_EXPECT(&peer, pfd, "WWWW....");
	unlink("g");
	/* A child does not have them, and its close does not end them. */
	h_ctx("locks and fork");
	child = (int)REQUIRE_OK(fork());
	if (child == 0) {
		long r = lk_set(fd, F_WRLCK, 0, 1), s = lk_set(fd, F_WRLCK, 4, 2);

		close(fd);
		_exit(r == -EAGAIN && s == 0 ? 0 : 1);
	}
	int status = -1;

	waitpid(child, &status, 0);
	EXPECT_EQ(0, status);
	LK_EXPECT(&peer, pfd, "WWWW....");
	/* Reading, writing, cutting, renaming do not care about locks, nor they about them. */
	h_ctx("locks are advisory");
	EXPECT_OK(rename("f", "h"));
	EXPECT_OK(h_put("h", "0123456789", 10)); /* which closes, and so lets go */
	LK_EXPECT(&peer, pfd, "........");
	EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_WRLCK, 0, 0));
	EXPECT_EQ(1, pwrite(fd, "X", 1, 3));
	EXPECT_OK(ftruncate(fd, 5));
	EXPECT_OK(rename("h", "f"));
	EXPECT_RET(-EAGAIN, lk_set(fd, F_RDLCK, 0, 1));
	EXPECT_RET(0, peer_call(&peer, lk_set, pfd, F_UNLCK, 0, 0));
	h_ctx(NULL);
}

static void released_by_death(void)
{
	for (int killed = 0; killed < 2; killed++) {
		struct peer p = peer_start(NULL);
		long f = peer_call(&p, do_open, (long)"f", O_RDWR, 0, 0);

		h_ctx("release by %s", killed ? "SIGKILL" : "exit");
		EXPECT_RET(0, peer_call(&p, lk_set, f, F_WRLCK, 2, 3));
		LK_EXPECT(&peer, pfd, "..WWW...");
		EXPECT_RET(-EAGAIN, lk_set(fd, F_RDLCK, 0, 0));
		peer_end(&p, killed);
		/* Over a server the release may be under way; a blocking lock waits for it. */
		EXPECT_RET(0, lk_wait(fd, F_WRLCK, 0, 0));
		EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
		LK_EXPECT(&peer, pfd, "........");
	}
	h_ctx(NULL);
}

static void access_modes(void)
{
	int ro = (int)REQUIRE_OK(open("f", O_RDONLY)), wo = (int)REQUIRE_OK(open("f", O_WRONLY));

	h_ctx("access modes");
	EXPECT_RET(-EBADF, lk_set(ro, F_WRLCK, 0, 1));
	EXPECT_RET(0, lk_set(ro, F_RDLCK, 0, 1));
	EXPECT_RET(-EBADF, lk_set(wo, F_RDLCK, 4, 1));
	EXPECT_RET(0, lk_set(wo, F_WRLCK, 4, 1));
	LK_EXPECT(&peer, pfd, "R...W...");
	EXPECT_RET(0, lk_set(ro, F_UNLCK, 0, 0));
	close(ro);
	close(wo);
	/* Without a name, and far beyond the end. */
	REQUIRE_OK(h_touch("u"));
	int u = (int)REQUIRE_OK(open("u", O_RDWR));
	long pu = peer_call(&peer, do_open, (long)"u", O_RDWR, 0, 0);

	EXPECT_OK(unlink("u"));
	EXPECT_RET(0, lk_set(u, F_WRLCK, 1L << 40, 10));
	EXPECT_RET(-EAGAIN, peer_call(&peer, lk_set, pu, F_WRLCK, (1L << 40) + 9, 1));
	EXPECT_RET(0, peer_call(&peer, lk_set, pu, F_WRLCK, (1L << 40) + 10, 1));
	EXPECT_RET(0, peer_call(&peer, do_close, pu, 0, 0, 0));
	close(u);
	h_ctx(NULL);
}

void area_locks(void)
{
	REQUIRE_OK(h_touch("f"));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	if (lk_set(fd, F_WRLCK, 0, 0) == -ENOLCK || lk_set(fd, F_WRLCK, 0, 0) == -ENOSYS) {
		h_skip("POSIX locks: not supported");
		return;
	}
	EXPECT_RET(0, lk_set(fd, F_UNLCK, 0, 0));
	pfd = (int)REQUIRE_OK(open("f", O_RDWR)); /* the peer inherits the number, too */
	peer = peer_start(NULL);
	conflicts();
	getlk();
	ranges();
	relative();
	released_by_close();
	released_by_death();
	access_modes();
	peer_end(&peer, false);
	close(fd);
	close(pfd);
	unlink("f");
}

/* ---- lockwait ------------------------------------------------------------------------------ */

/* Waits for a byte that another waits to give only for ours: says who was refused, then lets go. */
static long deadlock(long file, long own, long wanted, long unused)
{
	long r = lk_wait(file, F_WRLCK, wanted, 1);

	(void)unused;
	lk_set(file, F_UNLCK, own, 1);
	if (r == 0)
		lk_set(file, F_UNLCK, wanted, 1);
	return r;
}

static void deadlocks(int n)
{
	struct peer p[3];
	long f[3], refused = 0, granted = 0;

	h_ctx("circle of %d", n);
	for (int i = 0; i < n; i++) {
		p[i] = peer_start(NULL);
		f[i] = peer_call(&p[i], do_open, (long)"f", O_RDWR, 0, 0);
		EXPECT_RET(0, peer_call(&p[i], lk_set, f[i], F_WRLCK, i, 1));
	}
	for (int i = 0; i < n; i++)
		peer_send(&p[i], deadlock, f[i], i, (i + 1) % n, 0);
	for (int i = 0; i < n; i++) {
		long r = peer_recv(&p[i]);

		refused += r == -EDEADLK;
		granted += r == 0;
	}
	EXPECT_EQ(1, refused);
	EXPECT_EQ(n - 1, granted);
	for (int i = 0; i < n; i++)
		peer_end(&p[i], false);
	h_ctx(NULL);
}

/* A writer waits until the last of several readers has let go. */
static void several_readers(void)
{
	struct peer r[3], w = peer_start(NULL);
	long f[3], wf = peer_call(&w, do_open, (long)"f", O_RDWR, 0, 0);

	h_ctx("a writer waits for three readers");
	lk_shared()->released = 0;
	for (int i = 0; i < 3; i++) {
		r[i] = peer_start(NULL);
		f[i] = peer_call(&r[i], do_open, (long)"f", O_RDONLY, 0, 0);
		EXPECT_RET(0, peer_call(&r[i], lk_set, f[i], F_RDLCK, 0, 0));
	}
	peer_send(&w, lk_wait_then_check, wf, LK_POSIX, 0, 0);
	EXPECT_TRUE(peer_sleeps(&w), "the writer waits");
	for (int i = 0; i < 3; i++) {
		if (i == 2)
			lk_shared()->released = 1;
		EXPECT_RET(0, peer_call(&r[i], lk_set, f[i], F_UNLCK, 0, 0));
		peer_end(&r[i], false);
	}
	EXPECT_RET(0, peer_recv(&w));
	peer_end(&w, false);
	h_ctx(NULL);
}

void area_lockwait(void)
{
	REQUIRE_OK(h_touch("f"));
	lk_shared();
	lk_blocking(LK_POSIX);
	several_readers();
	deadlocks(2);
	deadlocks(3);
	unlink("f");
}
