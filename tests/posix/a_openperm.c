/* open: who may open what for what, and the bits and owners that creation gives. */
#include "harness.h"

static const struct {
	int flags;
	mode_t needs;
	const char *name;
} how[] = {{O_RDONLY, 4, "reading"},
	   {O_WRONLY, 2, "writing"},
	   {O_RDWR, 6, "both"},
	   {O_WRONLY | O_APPEND, 2, "appending"},
	   {O_RDONLY | O_TRUNC, 6, "reading and cutting"},
	   {O_WRONLY | O_TRUNC, 2, "cutting"},
	   {O_RDWR | O_CREAT, 6, "both or creation"}};
enum { HOWS = sizeof(how) / sizeof(how[0]) };

/* Every 3-bit class of the mode against every way to open, as owner, group, other. */
static void matrix(void)
{
	static const char *const cls[] = {"owner", "group", "supplementary group", "other"};

	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(chown("f", UA, GA));
	for (int c = 0; c < 4; c++) {
		int shift = c == 0 ? 6 : c == 3 ? 0 : 3;

		for (mode_t bits = 0; bits < 8; bits++) {
			/* The two other classes have just what this one lacks. */
			mode_t mode =
			    (0777u & ~(7u << shift) & ((7u & ~bits) * 0111u)) | (bits << shift);

			REQUIRE_OK(chmod("f", mode));
			h_ctx("%s of mode %04o", cls[c], mode);
			AS(c == 0   ? CRED(UA, GB)
			   : c == 1 ? CRED(UB, GA)
			   : c == 2 ? CRED(UB, GB, GX, GA)
				    : CRED(UB, GB, GX)) {
				for (int i = 0; i < HOWS; i++) {
					h_ctx("%s of mode %04o opens for %s", cls[c], mode,
					      how[i].name);
					if ((bits & how[i].needs) == how[i].needs)
						EXPECT_OK(h_opens("f", how[i].flags, 0600));
					else
						EXPECT_ERR(EACCES, open("f", how[i].flags, 0600));
				}
			}
		}
	}
	h_ctx("root");
	REQUIRE_OK(chmod("f", 0));
	for (int i = 0; i < HOWS; i++)
		EXPECT_OK(h_opens("f", how[i].flags, 0600));
	unlink("f");
	h_ctx(NULL);
}

static void creating(void)
{
	static const mode_t parent[] = {0777, 0773, 0775, 0776, 0770, 0774, 0771, 0772};

	for (int i = 0; i < 8; i++) {
		bool ok = (parent[i] & 3) == 3;

		h_ctx("creation in a directory of mode %04o", parent[i]);
		REQUIRE_OK(mkdir("d", 0755));
		REQUIRE_OK(chmod("d", parent[i]));
		AS(ALICE) {
			if (ok) {
				EXPECT_OK(h_opens("d/f", O_RDWR | O_CREAT, 0640));
				EXPECT_OWNER(UA, GA, "d/f");
				EXPECT_OK(h_opens("d/f", O_RDWR | O_CREAT | O_TRUNC, 0640));
				/* Created without any right, open all the same. */
				EXPECT_OK(h_opens("d/g", O_RDWR | O_CREAT | O_TRUNC, 0));
				EXPECT_ERR(EACCES, open("d/g", O_RDWR | O_CREAT | O_TRUNC, 0));
				EXPECT_ERR(EACCES, open("d/g", O_RDONLY));
			} else {
				EXPECT_ERR(EACCES, open("d/f", O_RDWR | O_CREAT, 0640));
				EXPECT_ERR(EACCES, open("d/f", O_RDWR | O_CREAT | O_EXCL, 0640));
			}
		}
		h_rmtree(AT_FDCWD, "d");
	}
	/* Search is needed for every directory on the way; reading for none. */
	h_ctx("search");
	REQUIRE_OK(mkdir("a", 0755));
	REQUIRE_OK(mkdir("a/b", 0755));
	REQUIRE_OK(h_touch("a/b/f"));
	REQUIRE_OK(chmod("a", 0711));
	REQUIRE_OK(chmod("a/b", 0711));
	AS(ALICE) {
		EXPECT_OK(h_opens("a/b/f", O_RDONLY, 0));
		EXPECT_ERR(EACCES, open("a", O_RDONLY | O_DIRECTORY));
		EXPECT_ERR(ENOENT, open("a/b/none", O_RDONLY));
		EXPECT_OK(h_opens("a", O_PATH | O_DIRECTORY, 0));
	}
	REQUIRE_OK(chmod("a", 0744));
	AS(ALICE) {
		struct stat st;

		EXPECT_ERR(EACCES, open("a/b/f", O_RDONLY));
		EXPECT_ERR(EACCES, open("a/b/none", O_RDONLY));
		EXPECT_ERR(EACCES, stat("a/b", &st));
		EXPECT_ERR(EACCES, stat("a/.", &st));
		EXPECT_OK(h_opens("a", O_RDONLY | O_DIRECTORY, 0));
		EXPECT_EQ(1, h_count("a"));
		EXPECT_ERR(EACCES, chdir("a"));
	}
	h_rmtree(AT_FDCWD, "a");
	h_ctx(NULL);
}

/* Rights are checked at open, not later; and a change of mode holds at once for the next open. */
static void at_open_only(void)
{
	int fd;
	char c = 'y';

	REQUIRE_OK(h_put("f", "x", 1));
	fd = (int)REQUIRE_OK(open("f", O_RDWR));
	REQUIRE_OK(chmod("f", 0600));
	AS(ALICE) {
		EXPECT_EQ(1, pread(fd, &c, 1, 0));
		EXPECT_EQ(1, pwrite(fd, "y", 1, 0));
		EXPECT_OK(ftruncate(fd, 5));
		EXPECT_OK(fsync(fd));
		EXPECT_ERR(EPERM, fchmod(fd, 0666));
		EXPECT_ERR(EACCES, open("f", O_RDONLY));
	}
	EXPECT_SIZE(5, "f");
	for (int i = 0; i < 10; i++) {
		REQUIRE_OK(chmod("f", 0644));
		AS(ALICE) {
			EXPECT_OK(h_opens("f", O_RDONLY, 0));
		}
		REQUIRE_OK(chmod("f", 0640));
		AS(ALICE) {
			EXPECT_ERR(EACCES, open("f", O_RDONLY));
		}
	}
	close(fd);
	/* O_NOATIME is the owner's. */
	REQUIRE_OK(chmod("f", 0666));
	REQUIRE_OK(chown("f", UA, GA));
	AS(ALICE) {
		EXPECT_OK(h_opens("f", O_RDONLY | O_NOATIME, 0));
	}
	AS(BOB) {
		EXPECT_ERR(EPERM, open("f", O_RDONLY | O_NOATIME));
	}
	unlink("f");
}

void area_openperm(void)
{
	if (!h_root()) {
		/* One's own class is enough to be refused. */
		REQUIRE_OK(h_touch("f"));
		for (mode_t bits = 0; bits < 8; bits++) {
			REQUIRE_OK(chmod("f", (mode_t)(bits << 6) | 077));
			for (int i = 0; i < HOWS; i++) {
				h_ctx("owner with mode bits %o opens for %s", bits, how[i].name);
				if ((bits & how[i].needs) == how[i].needs)
					EXPECT_OK(h_opens("f", how[i].flags, 0600));
				else
					EXPECT_ERR(EACCES, open("f", how[i].flags, 0600));
			}
		}
		h_ctx(NULL);
		unlink("f");
		h_skip("opens by other users need root");
		return;
	}
	matrix();
	creating();
	at_open_only();
}
