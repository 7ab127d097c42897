/* Sticky directories, set-group-id directories, set-id bits that writers clear, and umask. */
#include "harness.h"

#include <sys/uio.h>

/* ---- sticky: a name belongs to the owner of the directory and the owner of the file ------- */

void area_sticky(void)
{
	if (!h_root()) {
		REQUIRE_OK(mkdir("d", 0755));
		EXPECT_OK(chmod("d", 01777));
		EXPECT_MODE(01777, "d");
		REQUIRE_OK(h_touch("d/f"));
		EXPECT_OK(unlink("d/f"));
		h_skip("sticky directories between users need root");
		return;
	}
	FOR_TYPES(t, T_ALL) {
		for (unsigned who = 0; who < 8; who++) {
			uid_t dir = who & 1 ? UA : UB, file = who & 2 ? UA : UB;
			bool sticky = who & 4, may = !sticky || dir == UA || file == UA;

			h_ctx(
			    "user %u removes a %s of user %u in a directory of user %u of mode %04o",
			    UA, h_type_name(t), file, dir, sticky ? 01777 : 0777);
			REQUIRE_OK(mkdir("d", 0755));
			REQUIRE_OK(h_make(t, "d/f", 0777));
			REQUIRE_OK(lchown("d/f", file, GB));
			REQUIRE_OK(chown("d", dir, GB));
			REQUIRE_OK(chmod("d", sticky ? 01777 : 0777));
			AS(ALICE) {
				if (may) {
					EXPECT_OK(h_remove("d/f"));
					EXPECT_ABSENT("d/f");
				} else {
					EXPECT_ERR2(EPERM, EACCES, h_remove("d/f"));
					EXPECT_OK(h_exists("d/f"));
				}
				/* Anybody may add a name, and take back his own. */
				EXPECT_OK(
				    h_make(t == T_CHR || t == T_BLK ? T_REG : t, "d/own", 0600));
				EXPECT_OK(h_remove("d/own"));
			}
			if (!may) {
				AS(CRED(UA, GA, GB)) { /* the group does not help */
					EXPECT_ERR2(EPERM, EACCES, h_remove("d/f"));
				}
				AS(CRED(UB, GA)) {
					EXPECT_OK(h_remove("d/f"));
				}
			}
			h_rmtree(AT_FDCWD, "d");
		}
	}
	h_ctx(NULL);
}

/* ---- setgid: what is made inside belongs to the directory's group -------------------------- */

/* The calls, as one table. 0 or -1. */
static int create_in(enum h_type t, const char *path, mode_t mode)
{
	int fd;

	switch (t) {
	case T_REG:
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
		return fd < 0 ? -1 : close(fd);
	case T_DIR:
		return mkdir(path, mode);
	case T_FIFO:
		return mkfifo(path, mode);
	case T_LNK:
		return symlink("x", path);
	default:
		return mknod(path, h_type_mode(t) | mode, 0);
	}
}

void area_setgid(void)
{
	if (!h_root()) {
		REQUIRE_OK(mkdir("d", 0755));
		EXPECT_OK(chmod("d", 02775));
		EXPECT_MODE(02775, "d");
		EXPECT_OK(mkdir("d/e", 0755));
		EXPECT_MODE(02755, "d/e");
		EXPECT_OK(h_touch("d/e/f"));
		EXPECT_OWNER(geteuid(), getegid(), "d/e/f");
		h_skip("set-group-id directories of other groups need root");
		return;
	}
	FOR_TYPES(t, T_BIT(T_REG) | T_BIT(T_DIR) | T_BIT(T_FIFO) | T_BIT(T_SOCK) | T_BIT(T_LNK)) {
		for (int setgid = 0; setgid < 2; setgid++) {
			gid_t want = setgid ? GX : GA;
			mode_t inherited = setgid && t == T_DIR ? 02000 : 0;

			h_ctx("%s made in a directory of mode %04o", h_type_name(t),
			      setgid ? 02777 : 0777);
			REQUIRE_OK(mkdir("d", 0755));
			REQUIRE_OK(chown("d", UB, GX));
			REQUIRE_OK(chmod("d", setgid ? 02777 : 0777));
			AS(ALICE) {
				EXPECT_OK(create_in(t, "d/f", 0750));
				EXPECT_OWNER(UA, want, "d/f");
				if (t != T_LNK)
					EXPECT_MODE(0750 | inherited, "d/f");
				if (t == T_DIR) {
					EXPECT_OK(mkdir("d/f/sub", 0711));
					EXPECT_OWNER(UA, want, "d/f/sub");
					EXPECT_MODE(0711 | inherited, "d/f/sub");
					EXPECT_OK(h_touch("d/f/sub/file"));
					EXPECT_OWNER(UA, want, "d/f/sub/file");
				}
				/* Moved in, a file keeps its group. */
				EXPECT_OK(create_in(t, "d/g", 0640));
			}
			AS(CRED(UA, GA, GX, GY)) {
				EXPECT_OK(create_in(t, "d/member", 0770));
				EXPECT_OWNER(UA, want, "d/member");
			}
			/* Root's own. */
			EXPECT_OK(create_in(t, "d/root", 0755));
			EXPECT_OWNER(0, setgid ? GX : 0, "d/root");
			if (t != T_LNK)
				EXPECT_MODE(0755 | inherited, "d/root");
			REQUIRE_OK(mkdir("plain", 0777));
			REQUIRE_OK(create_in(t, "plain/f", 0644));
			REQUIRE_OK(lchown("plain/f", UA, GB));
			EXPECT_OK(rename("plain/f", "d/moved"));
			EXPECT_OWNER(UA, GB, "d/moved");
			if (t != T_DIR) {
				EXPECT_OK(link("d/moved", "d/linked"));
				EXPECT_OWNER(UA, GB, "d/linked");
			}
			rmdir("plain");
			h_rmtree(AT_FDCWD, "d");
		}
	}
	/* A set-group-id program cannot be made for a group that one is not in. */
	h_ctx("set-group-id file made in a set-group-id directory");
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(chown("d", UB, GX));
	REQUIRE_OK(chmod("d", 02777));
	AS(ALICE) {
		EXPECT_OK(create_in(T_REG, "d/f", 02755));
		EXPECT_OWNER(UA, GX, "d/f");
		EXPECT_MODE(0755, "d/f");
	}
	AS(CRED(UA, GA, GX)) {
		EXPECT_OK(create_in(T_REG, "d/g", 02755));
		EXPECT_OWNER(UA, GX, "d/g");
		EXPECT_MODE(02755, "d/g");
	}
	h_rmtree(AT_FDCWD, "d");
	h_ctx("set-id file made in a plain directory");
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(chmod("d", 0777));
	AS(ALICE) {
		EXPECT_OK(create_in(T_REG, "d/f", 06755));
		EXPECT_OWNER(UA, GA, "d/f");
		EXPECT_MODE(06755, "d/f");
	}
	h_rmtree(AT_FDCWD, "d");
	h_ctx(NULL);
}

/* ---- suid: writing by another than root takes set-id bits away ----------------------------- */

static const char data[4096] = "xyz";

static long w_write(int fd)
{
	return write(fd, data, 10);
}

static long w_pwrite(int fd)
{
	return pwrite(fd, data, 10, 3);
}

static long w_writev(int fd)
{
	struct iovec v[2] = {{(void *)(uintptr_t)data, 5}, {(void *)(uintptr_t)data, 6}};

	return writev(fd, v, 2);
}

static long w_append(int fd)
{
	long r = fcntl(fd, F_SETFL, O_APPEND);

	return r ? r : write(fd, data, 10);
}

static long w_large(int fd)
{
	static char big[1 << 20];

	return write(fd, big, sizeof(big));
}

static long w_ftruncate(int fd)
{
	return ftruncate(fd, 2);
}

static long w_grow(int fd)
{
	return ftruncate(fd, 100000);
}

static long w_truncate(int fd)
{
	(void)fd;
	return truncate("f", 1);
}

static long w_open(int fd)
{
	(void)fd;
	return close(open("f", O_WRONLY | O_TRUNC));
}

static long w_fallocate(int fd)
{
	return fallocate(fd, 0, 0, 10000);
}

static const struct {
	const char *name;
	long (*fn)(int fd);
} writer[] = {{"write", w_write},
	      {"pwrite", w_pwrite},
	      {"writev", w_writev},
	      {"append", w_append},
	      {"write of 1 MiB", w_large},
	      {"ftruncate", w_ftruncate},
	      {"ftruncate to grow", w_grow},
	      {"truncate", w_truncate},
	      {"open with O_TRUNC", w_open},
	      {"fallocate", w_fallocate}};
enum { WRITERS = sizeof(writer) / sizeof(writer[0]) };

/* Is there such a call here? Said once if not. */
static bool has_writer(int i)
{
	int fd, r;

	if (writer[i].fn != w_fallocate)
		return true;
	REQUIRE_OK(h_touch("f"));
	fd = (int)REQUIRE_OK(open("f", O_WRONLY));
	r = fallocate(fd, 0, 0, 1);
	if (r)
		h_skip("set-id bits and fallocate: %s", strerrorname_np(errno));
	close(fd);
	unlink("f");
	return r == 0;
}

/* owner, another who may write, root */
static void suid_case(int i, int caller, mode_t before, mode_t after)
{
	static const char *const name[] = {"owner", "other", "root"};

	h_ctx("%s by %s on mode %04o", writer[i].name, name[caller], before);
	REQUIRE_OK(h_put("f", "hello", 5));
	REQUIRE_OK(chown("f", UA, GA));
	REQUIRE_OK(chmod("f", before));
	AS(caller == 0 ? ALICE : caller == 1 ? BOB : CRED(0, 0)) {
		int fd = (int)REQUIRE_OK(open("f", O_WRONLY));

		EXPECT_MODE(before, "f"); /* opening alone changes nothing */
		EXPECT_OK(writer[i].fn(fd));
		EXPECT_MODE(caller == 2 ? before : after, "f");
		close(fd);
	}
	EXPECT_MODE(caller == 2 ? before : after, "f");
	unlink("f");
}

void area_suid(void)
{
	static const struct {
		mode_t before, after;
	} mode[] = {{06777, 0777}, {04777, 0777}, {02777, 0777}, {04666, 0666}, {0777, 0777}};

	if (!h_root()) {
		for (int i = 0; i < WRITERS; i++) {
			if (!has_writer(i))
				continue;
			h_ctx("%s on one's own file of mode 4755", writer[i].name);
			REQUIRE_OK(h_put("f", "hello", 5));
			REQUIRE_OK(chmod("f", 04755));
			int fd = (int)REQUIRE_OK(open("f", O_WRONLY));

			EXPECT_MODE(04755, "f");
			EXPECT_OK(writer[i].fn(fd));
			EXPECT_MODE(0755, "f");
			close(fd);
			unlink("f");
		}
		h_ctx(NULL);
		return;
	}
	for (int i = 0; i < WRITERS; i++) {
		if (!has_writer(i))
			continue;
		for (unsigned m = 0; m < sizeof(mode) / sizeof(mode[0]); m++)
			for (int caller = 0; caller < 3; caller++)
				suid_case(i, caller, mode[m].before, mode[m].after);
		/* Without group execution the bit means something else and a member may keep it. */
		suid_case(i, 0, 02666, 02666);
	}
	h_ctx(NULL);
}

/* ---- umask --------------------------------------------------------------------------------- */

void area_umask(void)
{
	static const mode_t mask[] = {0, 002, 022, 027, 077, 0177, 0777, 0333};

	for (unsigned i = 0; i < sizeof(mask) / sizeof(mask[0]); i++) {
		FOR_TYPES(t, T_BIT(T_REG) | T_BIT(T_DIR) | T_BIT(T_FIFO) | T_BIT(T_SOCK)) {
			for (mode_t mode = 0; mode <= 0777; mode += 0111) {
				h_ctx("%s of mode %04o under umask %04o", h_type_name(t), mode,
				      mask[i]);
				umask(mask[i]);
				EXPECT_OK(create_in(t, "f", mode));
				EXPECT_MODE(mode & ~mask[i], "f");
				h_remove("f");
			}
		}
		/* chmod does not care. */
		h_ctx("chmod under umask %04o", mask[i]);
		REQUIRE_OK(create_in(T_REG, "f", 0));
		EXPECT_OK(chmod("f", 0777));
		EXPECT_MODE(0777, "f");
		h_remove("f");
	}
	umask(022);
	h_ctx(NULL);
}
