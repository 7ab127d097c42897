/* flock and open file description locks. */
#include "lockutil.h"

#include <errno.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/wait.h>

/* ---- flock --------------------------------------------------------------------------------- */

static long fl(int fd, int op)
{
	return do_flock(fd, op, 0, 0);
}

/*
 * After the last close of the one who had the lock. Over FUSE it goes with
 * RELEASE, which the kernel sends without waiting (fuse_release_common): it may
 * come a moment after close(2) has returned.
 */
static long fl_soon(int fd, int op)
{
	long r = fl(fd, op);

	for (int i = 0; r == -EAGAIN && i < 100000; i++) {
		(void)sched_yield();
		r = fl(fd, op);
	}
	return r;
}

enum { SH = LOCK_SH | LOCK_NB, EX = LOCK_EX | LOCK_NB };

static void fl_matrix(void)
{
	static const int op[] = {SH, EX};
	struct peer p = peer_start(NULL);
	long pf = peer_call(&p, do_open, (long)"f", O_RDONLY, 0, 0);
	int a = (int)REQUIRE_OK(open("f", O_RDWR)), b = (int)REQUIRE_OK(open("f", O_RDONLY));

	for (int h = 0; h < 2; h++) {
		for (int w = 0; w < 2; w++) {
			long want = h || w ? -EAGAIN : 0;

			h_ctx("%s held, %s wanted", h ? "exclusive" : "shared",
			      w ? "exclusive" : "shared");
			EXPECT_RET(0, fl(a, op[h]));
			EXPECT_RET(0, fl(a, op[h]));	/* the same again */
			EXPECT_RET(want, fl(b, op[w])); /* another open file, the same process */
			EXPECT_RET(0, fl(b, LOCK_UN));
			EXPECT_RET(want, peer_call(&p, do_flock, pf, op[w], 0, 0));
			EXPECT_RET(0, peer_call(&p, do_flock, pf, LOCK_UN, 0, 0));
			EXPECT_RET(0, fl(a, LOCK_UN));
			EXPECT_RET(0, fl(a, LOCK_UN)); /* nothing left to unlock */
			EXPECT_RET(0, peer_call(&p, do_flock, pf, op[w], 0, 0));
			EXPECT_RET(0, peer_call(&p, do_flock, pf, LOCK_UN, 0, 0));
		}
	}
	h_ctx("conversion");
	EXPECT_RET(0, fl(a, SH));
	EXPECT_RET(0, fl(a, EX));
	EXPECT_RET(-EAGAIN, fl(b, SH));
	EXPECT_RET(0, fl(a, SH)); /* and down again */
	EXPECT_RET(0, fl(b, SH));
	EXPECT_RET(-EAGAIN, fl(a, EX));
	EXPECT_RET(0, fl(b, LOCK_UN));
	EXPECT_RET(0, fl(a, EX));
	EXPECT_RET(-EAGAIN, peer_call(&p, do_flock, pf, SH, 0, 0));
	EXPECT_RET(0, fl(a, LOCK_UN));
	close(a);
	close(b);
	peer_end(&p, false);
	h_ctx(NULL);
}

static void fl_sharing(void)
{
	int a = (int)REQUIRE_OK(open("f", O_RDWR)), b = (int)REQUIRE_OK(open("f", O_RDWR)), d;

	/* A duplicate is the same open file: the lock ends with the last of them, or any unlock. */
	h_ctx("dup");
	d = (int)REQUIRE_OK(dup(a));
	EXPECT_RET(0, fl(a, EX));
	EXPECT_RET(0, fl(d, EX));
	EXPECT_OK(close(a));
	EXPECT_RET(-EAGAIN, fl(b, SH));
	EXPECT_OK(close(d));
	EXPECT_RET(0, fl_soon(b, SH | LOCK_NB));
	EXPECT_RET(0, fl(b, LOCK_UN));
	a = (int)REQUIRE_OK(open("f", O_RDWR));
	d = (int)REQUIRE_OK(dup(a));
	EXPECT_RET(0, fl(a, EX));
	EXPECT_RET(0, fl(d, LOCK_UN));
	EXPECT_RET(0, fl(b, EX));
	EXPECT_RET(0, fl(b, LOCK_UN));
	close(d);
	h_ctx("fork");
	EXPECT_RET(0, fl(a, EX));
	AS(NULL) {
		EXPECT_RET(-EAGAIN, fl(b, EX));
		EXPECT_RET(0, fl(a, EX)); /* inherited: it is the child's too */
		EXPECT_OK(close(a));
	}
	EXPECT_RET(-EAGAIN, fl(b, SH)); /* its close does not end it */
	AS(NULL) {
		EXPECT_RET(0, fl(a, LOCK_UN));
	}
	EXPECT_RET(0, fl(b, EX)); /* its unlock does */
	EXPECT_RET(0, fl(b, LOCK_UN));
	h_ctx("another close does not matter");
	EXPECT_RET(0, fl(a, EX));
	d = (int)REQUIRE_OK(open("f", O_RDWR));
	EXPECT_OK(close(d));
	EXPECT_RET(-EAGAIN, fl(b, EX));
	h_ctx("names do not matter");
	REQUIRE_OK(link("f", "g"));
	d = (int)REQUIRE_OK(open("g", O_RDONLY));
	EXPECT_RET(-EAGAIN, fl(d, SH));
	EXPECT_OK(rename("g", "f")); /* two names of one file: both stay */
	EXPECT_OK(unlink("g"));
	EXPECT_OK(rename("f", "h"));
	EXPECT_RET(-EAGAIN, fl(d, SH));
	EXPECT_OK(rename("h", "f"));
	close(d);
	EXPECT_OK(close(a));
	EXPECT_RET(0, fl_soon(b, EX));
	EXPECT_OK(close(b));
	h_ctx("kinds of descriptor");
	a = (int)REQUIRE_OK(open("f", O_RDONLY));
	EXPECT_RET(0, fl(a, EX)); /* reading is enough for an exclusive lock */
	close(a);
	a = (int)REQUIRE_OK(open("f", O_WRONLY));
	EXPECT_RET(0, fl(a, SH));
	close(a);
	a = (int)REQUIRE_OK(open("f", O_PATH));
	EXPECT_RET(-EBADF, fl(a, SH));
	close(a);
	REQUIRE_OK(mkdir("d", 0755));
	a = (int)REQUIRE_OK(open("d", O_RDONLY | O_DIRECTORY));
	b = (int)REQUIRE_OK(open("d", O_RDONLY | O_DIRECTORY));
	EXPECT_RET(0, fl(a, EX));
	EXPECT_RET(-EAGAIN, fl(b, EX));
	EXPECT_OK(close(a));
	EXPECT_RET(0, fl_soon(b, EX));
	close(b);
	rmdir("d");
	a = (int)REQUIRE_OK(open("f", O_RDWR));
	EXPECT_RET(-EINVAL, fl(a, 0));
	EXPECT_RET(-EINVAL, fl(a, LOCK_NB));
	EXPECT_RET(-EINVAL, fl(a, LOCK_SH | LOCK_EX));
	/* fcntl locks are another matter. */
	h_ctx("flock beside fcntl");
	struct peer p = peer_start(NULL);

	EXPECT_RET(0, fl(a, EX));
	b = (int)peer_call(&p, do_open, (long)"f", O_RDWR, 0, 0);
	EXPECT_RET(0, peer_call(&p, lk_set, b, F_WRLCK, 0, 0));
	EXPECT_RET(-EAGAIN, lk_set(a, F_WRLCK, 0, 0));
	EXPECT_RET(-EAGAIN, peer_call(&p, do_flock, b, EX, 0, 0));
	EXPECT_RET(0, fl(a, LOCK_UN));
	EXPECT_RET(0, peer_call(&p, do_flock, b, EX, 0, 0));
	EXPECT_RET(-EAGAIN, fl(a, SH));
	peer_end(&p, true);
	EXPECT_RET(0, fl(a, LOCK_EX)); /* waits for the end of the dead */
	close(a);
	h_ctx(NULL);
}

void area_flock(void)
{
	int fd;

	REQUIRE_OK(h_touch("f"));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	if (flock(fd, EX) && (errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP)) {
		h_skip("flock: %s", strerrorname_np(errno));
		return;
	}
	close(fd);
	lk_shared();
	fl_matrix();
	fl_sharing();
	lk_blocking(LK_FLOCK);
	unlink("f");
}

/* ---- open file description locks ----------------------------------------------------------- */

void area_ofdlocks(void)
{
	struct flock lk = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int a, b, d;
	long pf, r;
	struct peer p =
	    peer_start(NULL); /* before the opens: an inherited descriptor holds locks */

	REQUIRE_OK(h_touch("f"));
	a = (int)REQUIRE_OK(open("f", O_RDWR));
	b = (int)REQUIRE_OK(open("f", O_RDWR));
	r = ofd_set(a, F_WRLCK, 0, 10);
	if (r == -EINVAL || r == -ENOLCK || r == -ENOSYS) {
		h_skip("open file description locks: %s", strerrorname_np((int)-r));
		peer_end(&p, false);
		return;
	}
	EXPECT_RET(0, r);
	pf = peer_call(&p, do_open, (long)"f", O_RDWR, 0, 0);
	/* They belong to the open file: two of one process are strangers. */
	EXPECT_RET(-EAGAIN, ofd_set(b, F_RDLCK, 5, 1));
	EXPECT_RET(0, ofd_set(b, F_RDLCK, 10, 5));
	EXPECT_RET(-EAGAIN, ofd_set(a, F_WRLCK, 0, 0));
	EXPECT_RET(0, ofd_set(a, F_RDLCK, 0, 0));
	EXPECT_RET(0, ofd_set(b, F_RDLCK, 0, 0));
	EXPECT_RET(-EAGAIN, ofd_set(b, F_WRLCK, 0, 1));
	EXPECT_RET(0, ofd_set(a, F_UNLCK, 0, 0));
	EXPECT_RET(0, ofd_set(b, F_UNLCK, 0, 0));
	EXPECT_RET(0, ofd_set(a, F_WRLCK, 3, 4));
	LK_EXPECT(&p, pf, "...WWWW...");
	EXPECT_EQ(peer_call(&p, lk_map, pf, 10, 0, 0), peer_call(&p, lk_map, pf, 10, 1, 0));
	EXPECT_OK(fcntl(b, F_OFD_GETLK, &lk));
	EXPECT_EQ(F_WRLCK, lk.l_type);
	EXPECT_EQ(3, lk.l_start);
	EXPECT_EQ(4, lk.l_len);
	EXPECT_EQ(-1, lk.l_pid);
	lk = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
	EXPECT_OK(fcntl(a, F_OFD_GETLK, &lk));
	EXPECT_EQ(F_UNLCK, lk.l_type);
	lk = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_pid = 5};
	EXPECT_ERR(EINVAL, fcntl(a, F_OFD_SETLK, &lk));
	/* Ranges split and join like others. */
	EXPECT_RET(0, ofd_set(a, F_UNLCK, 4, 2));
	LK_EXPECT(&p, pf, "...W..W...");
	EXPECT_RET(0, ofd_set(a, F_RDLCK, 5, 4));
	LK_EXPECT(&p, pf, "...W.RRRR.");
	EXPECT_RET(0, ofd_set(a, F_WRLCK, 0, 10));
	LK_EXPECT(&p, pf, "WWWWWWWWWW");
	/* A close of another open file of the same file does not matter. */
	d = (int)REQUIRE_OK(open("f", O_RDWR));
	EXPECT_OK(close(d));
	LK_EXPECT(&p, pf, "WWWWWWWWWW");
	/* Nor of a duplicate, unless it is the last. */
	d = (int)REQUIRE_OK(dup(a));
	EXPECT_RET(0, ofd_set(d, F_WRLCK, 0, 5));
	EXPECT_OK(close(a));
	LK_EXPECT(&p, pf, "WWWWWWWWWW");
	EXPECT_RET(-EAGAIN, ofd_set(b, F_RDLCK, 0, 1));
	/* A child's descriptor is the same open file. */
	AS(NULL) {
		EXPECT_RET(0, ofd_set(d, F_RDLCK, 0, 2));
		EXPECT_OK(close(d));
	}
	LK_EXPECT(&p, pf, "RRWWWWWWWW");
	EXPECT_OK(close(d));
	EXPECT_RET(0, ofd_wait(b, F_WRLCK, 0, 0));
	EXPECT_RET(0, ofd_set(b, F_UNLCK, 0, 0));
	/* The peer's process ends. */
	EXPECT_RET(0, peer_call(&p, ofd_set, pf, F_WRLCK, 0, 0));
	EXPECT_RET(-EAGAIN, ofd_set(b, F_WRLCK, 0, 0));
	EXPECT_RET(-EAGAIN, lk_set(b, F_WRLCK, 0, 0));
	peer_end(&p, true);
	EXPECT_RET(0, ofd_wait(b, F_WRLCK, 0, 0));
	/* Against POSIX locks, even of the same process. */
	d = (int)REQUIRE_OK(open("f", O_RDWR));
	EXPECT_RET(-EAGAIN, lk_set(d, F_RDLCK, 0, 1));
	EXPECT_RET(-EAGAIN, lk_set(b, F_RDLCK, 0, 1));
	EXPECT_RET(0, ofd_set(b, F_UNLCK, 0, 0));
	EXPECT_RET(0, lk_set(d, F_WRLCK, 0, 5));
	EXPECT_RET(-EAGAIN, ofd_set(b, F_RDLCK, 4, 1));
	EXPECT_RET(0, ofd_set(b, F_RDLCK, 5, 1));
	EXPECT_RET(0, lk_set(d, F_UNLCK, 0, 0));
	close(b);
	close(d);
	a = (int)REQUIRE_OK(open("f", O_RDONLY));
	EXPECT_RET(-EBADF, ofd_set(a, F_WRLCK, 0, 1));
	EXPECT_RET(0, ofd_set(a, F_RDLCK, 0, 1));
	close(a);
	lk_shared();
	lk_blocking(LK_OFD);
	unlink("f");
}
