/* link and linkat. */
#include "harness.h"

static void each_type(void)
{
	FOR_TYPES(t, T_NODIR) {
		struct stat a, b, dir;

		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(mkdir("d", 0755));
		REQUIRE_OK(h_make(t, "f", 0644));
		EXPECT_NLINK(1, "f");
		a = h_rewind("f");
		dir = h_rewind("d");
		EXPECT_OK(link("f", "d/g")); /* link(2) does not follow a symlink */
		EXPECT_TIMES("f", &a, TM_C, 0);
		EXPECT_TIMES("d", &dir, TM_M | TM_C, 0);
		a = h_lstat("f");
		b = h_lstat("d/g");
		EXPECT_EQ(2, a.st_nlink);
		EXPECT_EQ(2, b.st_nlink);
		EXPECT_EQ(a.st_ino, b.st_ino);
		EXPECT_EQ(a.st_mode, b.st_mode);
		EXPECT_EQ(a.st_uid, b.st_uid);
		EXPECT_EQ(a.st_gid, b.st_gid);
		EXPECT_EQ(a.st_rdev, b.st_rdev);
		EXPECT_OK(linkat(AT_FDCWD, "d/g", AT_FDCWD, "h", 0));
		EXPECT_NLINK(3, "f");
		EXPECT_NLINK(3, "d/g");
		EXPECT_NLINK(3, "h");
		if (t != T_LNK) {
			EXPECT_OK(chmod("h", 0421));
			EXPECT_MODE(0421, "f");
			EXPECT_MODE(0421, "d/g");
		}
		h_rewind("f");
		EXPECT_EQ(978307201, h_lstat("h").st_mtim.tv_sec);
		b = h_lstat("d/g");
		h_tick(b.st_ctim);
		EXPECT_OK(unlink("f"));
		EXPECT_TIMES("d/g", &b, TM_C, 0);
		EXPECT_ABSENT("f");
		EXPECT_NLINK(2, "d/g");
		EXPECT_OK(unlink("h"));
		EXPECT_NLINK(1, "d/g");
		EXPECT_OK(unlink("d/g"));
		EXPECT_OK(rmdir("d"));
	}
	h_ctx(NULL);
}

static void content(void)
{
	REQUIRE_OK(h_put("f", "one", 3));
	REQUIRE_OK(link("f", "g"));
	EXPECT_CONTENT("one", 3, "g");
	EXPECT_OK(h_put("g", "second", 6));
	EXPECT_CONTENT("second", 6, "f");
	EXPECT_SIZE(6, "f");
	EXPECT_OK(truncate("f", 3));
	EXPECT_CONTENT("sec", 3, "g");
	EXPECT_OK(unlink("f"));
	EXPECT_CONTENT("sec", 3, "g");
	EXPECT_OK(link("g", "f"));
	EXPECT_CONTENT("sec", 3, "f");
	unlink("f");
	unlink("g");
}

static void errors(void)
{
	struct stat dir, f;

	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(mkdir("d", 0755));
	f = h_rewind("f");
	dir = h_rewind("d");
	FOR_TYPES(t, T_ALL) {
		h_ctx("target is a %s", h_type_name(t));
		REQUIRE_OK(h_make(t, "x", 0644));
		EXPECT_ERR(EEXIST, link("f", "x"));
		EXPECT_NLINK(1, "f");
		h_remove("x");
	}
	h_ctx(NULL);
	EXPECT_ERR(EEXIST, link("f", "f"));
	EXPECT_ERR(EEXIST, link("f", "."));
	EXPECT_ERR(EEXIST, link("f", "d/.."));
	EXPECT_ERR(EPERM, link("d", "d/x"));
	EXPECT_ERR(EPERM, link("d", "x"));
	EXPECT_ERR(EPERM, link(".", "x"));
	EXPECT_ERR(ENOENT, link("x", "d/x"));
	EXPECT_ERR(ENOENT, link("f", "nodir/x"));
	EXPECT_ERR(ENOENT, link("f", ""));
	EXPECT_ERR(ENOENT, link("", "x"));
	EXPECT_ERR(ENOTDIR, link("f", "f/x"));
	EXPECT_ERR(ENOTDIR, link("f/x", "x"));
	EXPECT_ERR(ENOTDIR, link("f/", "x"));
	EXPECT_ERR(ENOENT, link("f", "x/"));
	EXPECT_ERR(EINVAL, linkat(AT_FDCWD, "f", AT_FDCWD, "x", 0x40000000));
	EXPECT_ERR(EINVAL, linkat(AT_FDCWD, "f", AT_FDCWD, "x", AT_SYMLINK_NOFOLLOW));
	EXPECT_ABSENT("x");
	EXPECT_TIMES("f", &f, 0, 0);
	EXPECT_TIMES("d", &dir, 0, 0);
	unlink("f");
	rmdir("d");
}

static void at_flags(void)
{
	char proc[64];
	int d1, d2, fd;

	REQUIRE_OK(mkdir("d1", 0755));
	REQUIRE_OK(mkdir("d2", 0755));
	REQUIRE_OK(h_put("d1/f", "x", 1));
	REQUIRE_OK(symlink("f", "d1/l"));
	d1 = (int)REQUIRE_OK(open("d1", O_RDONLY | O_DIRECTORY));
	d2 = (int)REQUIRE_OK(open("d2", O_PATH | O_DIRECTORY));
	EXPECT_OK(linkat(d1, "f", d2, "f2", 0));
	EXPECT_NLINK(2, "d2/f2");
	EXPECT_OK(linkat(d1, "l", d2, "l2", 0));
	EXPECT_EQ(S_IFLNK, h_lstat("d2/l2").st_mode & S_IFMT);
	EXPECT_EQ(h_lstat("d1/l").st_ino, h_lstat("d2/l2").st_ino);
	EXPECT_OK(linkat(d1, "l", d2, "f3", AT_SYMLINK_FOLLOW));
	EXPECT_EQ(S_IFREG, h_lstat("d2/f3").st_mode & S_IFMT);
	EXPECT_NLINK(3, "d1/f");
	fd = (int)REQUIRE_OK(open("d1/f", O_RDONLY));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	EXPECT_OK(linkat(AT_FDCWD, proc, d2, "f4", AT_SYMLINK_FOLLOW));
	EXPECT_NLINK(4, "d1/f");
	if (h_root()) {
		EXPECT_OK(linkat(fd, "", d2, "f5", AT_EMPTY_PATH));
		EXPECT_NLINK(5, "d2/f5");
		EXPECT_OK(unlink("d2/f5"));
	}
	EXPECT_ERR(ENOENT, linkat(fd, "", d2, "f6", 0));
	EXPECT_OK(unlink("d1/f"));
	EXPECT_OK(unlink("d2/f2"));
	EXPECT_OK(unlink("d2/f3"));
	EXPECT_OK(unlink("d2/f4"));
	/* The last name is gone: there is no way back. */
	EXPECT_ERR(ENOENT, linkat(AT_FDCWD, proc, d2, "f7", AT_SYMLINK_FOLLOW));
	close(fd);
	/* Links to what a dangling symlink names. */
	EXPECT_ERR(ENOENT, linkat(d1, "l", d2, "f8", AT_SYMLINK_FOLLOW));
	EXPECT_OK(linkat(d1, "l", d1, "l3", 0));
	EXPECT_NLINK(3, "d1/l");
	EXPECT_OK(unlink("d1/l"));
	EXPECT_OK(unlink("d1/l3"));
	EXPECT_OK(unlink("d2/l2"));
	/* A directory that is gone takes no names. */
	REQUIRE_OK(h_touch("f"));
	EXPECT_OK(rmdir("d2"));
	EXPECT_ERR(ENOENT, linkat(AT_FDCWD, "f", d2, "g", 0));
	EXPECT_NLINK(1, "f");
	unlink("f");
	close(d1);
	close(d2);
	rmdir("d1");
}

static void many(void)
{
	enum { LINKS = 200 };
	char name[32];
	struct stat st;
	ino_t ino;

	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(mkdir("d", 0755));
	ino = h_lstat("f").st_ino;
	for (int i = 0; i < LINKS; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		if (link("f", name))
			EXPECT_OK(-1);
	}
	EXPECT_NLINK(LINKS + 1, "f");
	EXPECT_NLINK(LINKS + 1, "d/0");
	EXPECT_EQ(LINKS, h_count("d"));
	for (int i = 0; i < LINKS; i += 10) {
		snprintf(name, sizeof(name), "d/%d", i);
		EXPECT_OK(lstat(name, &st));
		EXPECT_EQ(ino, st.st_ino);
	}
	for (int i = 0; i < LINKS; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		if (unlink(name))
			EXPECT_OK(-1);
	}
	EXPECT_NLINK(1, "f");
	EXPECT_OK(rmdir("d"));
	unlink("f");
}

static void who(void)
{
	bool guarded = h_sysctl("/proc/sys/fs/protected_hardlinks", 0) != 0;

	REQUIRE_OK(mkdir("mine", 0755));
	REQUIRE_OK(mkdir("open", 0777));
	REQUIRE_OK(chmod("open", 0777));
	REQUIRE_OK(mkdir("shut", 0700));
	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(chown("f", UA, GA));
	REQUIRE_OK(h_touch("shut/f"));
	REQUIRE_OK(chown("shut/f", UA, GA));
	AS(ALICE) {
		EXPECT_ERR(EACCES, link("f", "mine/g"));
		EXPECT_ERR(EACCES, link("f", "shut/g"));
		EXPECT_ERR(EACCES, link("shut/f", "open/g"));
		EXPECT_OK(link("f", "open/g"));
		EXPECT_NLINK(2, "open/g");
		EXPECT_OK(unlink("open/g"));
		/* Search without write, write without search. */
		EXPECT_OK(mkdir("open/d", 0300));
		EXPECT_OK(link("f", "open/d/g"));
		EXPECT_OK(unlink("open/d/g"));
		EXPECT_OK(chmod("open/d", 0600));
		EXPECT_ERR(EACCES, link("f", "open/d/g"));
		EXPECT_OK(chmod("open/d", 0500));
		EXPECT_ERR(EACCES, link("f", "open/d/g"));
		EXPECT_OK(rmdir("open/d"));
	}
	EXPECT_NLINK(1, "f");
	/* Another user's file: fs.protected_hardlinks asks for the right to read and write it. */
	AS(BOB) {
		if (guarded)
			EXPECT_ERR(EPERM, link("f", "open/h"));
		else
			EXPECT_OK(link("f", "open/h"));
	}
	unlink("open/h");
	REQUIRE_OK(chmod("f", 0666));
	AS(BOB) {
		EXPECT_OK(link("f", "open/h"));
		EXPECT_OWNER(UA, GA, "open/h");
		EXPECT_ERR(EACCES, link("f", "mine/h"));
	}
	EXPECT_NLINK(2, "f");
	unlink("open/h");
	REQUIRE_OK(chmod("f", 04777));
	AS(BOB) {
		if (guarded)
			EXPECT_ERR(EPERM, link("f", "open/h"));
		else
			EXPECT_OK(link("f", "open/h"));
	}
	unlink("open/h");
	h_rmtree(AT_FDCWD, "mine");
	h_rmtree(AT_FDCWD, "open");
	h_rmtree(AT_FDCWD, "shut");
	unlink("f");
}

void area_link(void)
{
	each_type();
	content();
	errors();
	at_flags();
	many();
	if (h_root())
		who();
}
