/* symlink symlinkat readlink readlinkat: what is kept, how it is followed, loops. */
#include "harness.h"

static void targets(void)
{
	static const size_t len[] = {1,	   2,	 59,   60,   61,   100,	 255, 256,
				     1000, 1023, 1024, 2000, 4000, 4094, 4095};
	static const char *const odd[] = {
	    "/", "//",	".",	     "..",	 "a//b",	"a/", "/absolute/nowhere",
	    " ", "a b", "new\nline", "\xff\xfe", "caf\xc3\xa9", "\\", "*",
	    "~"};
	char got[PATH_MAX + 8];

	for (unsigned i = 0; i < sizeof(len) / sizeof(len[0]); i++) {
		char *target = h_name(len[i]);

		h_ctx("target of %zu bytes", len[i]);
		EXPECT_OK(symlink(target, "l"));
		EXPECT_SIZE((long long)len[i], "l");
		EXPECT_EQ(S_IFLNK | 0777, h_lstat("l").st_mode);
		memset(got, 'Z', sizeof(got));
		EXPECT_EQ(len[i], readlink("l", got, sizeof(got)));
		EXPECT_TRUE(!memcmp(got, target, len[i]), "readlink gives the target");
		EXPECT_EQ('Z', got[len[i]]); /* no NUL is added */
		EXPECT_OK(unlink("l"));
		free(target);
	}
	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		h_ctx("target '%s'", odd[i]);
		EXPECT_OK(symlink(odd[i], "l"));
		EXPECT_EQ(strlen(odd[i]), readlink("l", got, sizeof(got)));
		EXPECT_TRUE(!memcmp(got, odd[i], strlen(odd[i])), "readlink gives the target");
		EXPECT_OK(unlink("l"));
	}
	h_ctx(NULL);
	char *longer = h_name(4096);

	EXPECT_ERR(ENAMETOOLONG, symlink(longer, "l"));
	EXPECT_ERR(ENOENT, symlink("", "l"));
	EXPECT_ABSENT("l");
	free(longer);
}

static void effects_and_errors(void)
{
	struct stat dir, st;

	REQUIRE_OK(mkdir("d", 0755));
	dir = h_rewind("d");
	umask(0777); /* does not matter */
	EXPECT_OK(symlink("x", "d/l"));
	umask(022);
	EXPECT_TIMES("d", &dir, TM_M | TM_C, 0);
	st = h_lstat("d/l");
	EXPECT_EQ(S_IFLNK | 0777, st.st_mode);
	EXPECT_EQ(geteuid(), st.st_uid);
	EXPECT_EQ(getegid(), st.st_gid);
	EXPECT_EQ(1, st.st_nlink);
	EXPECT_TRUE(h_tscmp(st.st_mtim, dir.st_ctim) > 0, "mtime of a new symlink is now");
	EXPECT_TRUE(h_tscmp(st.st_ctim, dir.st_ctim) > 0, "ctime of a new symlink is now");
	dir = h_rewind("d");
	EXPECT_ERR(EEXIST, symlink("y", "d/l"));
	EXPECT_TIMES("d", &dir, 0, 0);
	unlink("d/l");
	FOR_TYPES(t, T_ALL) {
		h_ctx("name is a %s", h_type_name(t));
		REQUIRE_OK(h_make(t, "x", 0644));
		EXPECT_ERR(EEXIST, symlink("y", "x"));
		EXPECT_EQ(h_type_mode(t), h_lstat("x").st_mode & S_IFMT);
		h_remove("x");
	}
	h_ctx(NULL);
	EXPECT_ERR(EEXIST, symlink("x", "."));
	EXPECT_ERR(EEXIST, symlink("x", "d/.."));
	EXPECT_ERR(ENOENT, symlink("x", ""));
	EXPECT_ERR(ENOENT, symlink("x", "none/l"));
	EXPECT_ERR(ENOENT, symlink("x", "none/"));
	REQUIRE_OK(h_touch("f"));
	EXPECT_ERR(ENOTDIR, symlink("x", "f/l"));
	EXPECT_ERR(EEXIST, symlink("x", "d/"));
	int fd = (int)REQUIRE_OK(open("d", O_PATH | O_DIRECTORY));

	EXPECT_OK(symlinkat("target", fd, "l"));
	EXPECT_SIZE(6, "d/l");
	EXPECT_OK(symlinkat("../f", fd, "m"));
	EXPECT_OK(stat("d/m", &st));
	EXPECT_EQ(S_IFREG, st.st_mode & S_IFMT);
	close(fd);
	unlink("f");
	h_rmtree(AT_FDCWD, "d");
}

static void following(void)
{
	struct stat st;
	char path[64];

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(mkdir("d/sub", 0755));
	REQUIRE_OK(h_put("d/f", "content", 7));
	REQUIRE_OK(symlink("../f", "d/sub/l")); /* relative to the link's directory */
	EXPECT_CONTENT("content", 7, "d/sub/l");
	EXPECT_OK(chdir("d/sub"));
	EXPECT_CONTENT("content", 7, "l");
	EXPECT_OK(chdir("../.."));
	REQUIRE_OK(symlink("d/sub", "s"));
	EXPECT_CONTENT("content", 7, "s/l");
	EXPECT_CONTENT("content", 7, "s/../f"); /* ".." of where the link leads */
	EXPECT_OK(stat("s", &st));
	EXPECT_EQ(S_IFDIR, st.st_mode & S_IFMT);
	EXPECT_OK(lstat("s/", &st)); /* a slash follows */
	EXPECT_EQ(S_IFDIR, st.st_mode & S_IFMT);
	EXPECT_OK(lstat("s", &st));
	EXPECT_EQ(S_IFLNK, st.st_mode & S_IFMT);
	EXPECT_OK(h_touch("s/new"));
	EXPECT_OK(h_exists("d/sub/new"));
	/* The target may come, go and change. */
	REQUIRE_OK(symlink("later", "l"));
	EXPECT_ERR(ENOENT, stat("l", &st));
	EXPECT_OK(h_touch("later"));
	EXPECT_OK(stat("l", &st));
	EXPECT_EQ(S_IFREG, st.st_mode & S_IFMT);
	EXPECT_OK(unlink("later"));
	EXPECT_OK(mkdir("later", 0755));
	EXPECT_OK(stat("l", &st));
	EXPECT_EQ(S_IFDIR, st.st_mode & S_IFMT);
	EXPECT_OK(rmdir("later"));
	EXPECT_ERR(ENOENT, stat("l", &st));
	/* The link itself is replaced by another of the same name. */
	EXPECT_OK(unlink("l"));
	EXPECT_OK(symlink("d/f", "l"));
	EXPECT_CONTENT("content", 7, "l");
	EXPECT_OK(symlink("d/sub/new", "l2"));
	EXPECT_OK(rename("l2", "l"));
	EXPECT_CONTENT("", 0, "l");
	unlink("l");
	unlink("s");
	h_rmtree(AT_FDCWD, "d");
	/* Forty in a row are followed, more are not. */
	REQUIRE_OK(h_touch("c0"));
	for (int i = 1; i <= 41; i++) {
		char target[16];

		snprintf(path, sizeof(path), "c%d", i);
		snprintf(target, sizeof(target), "c%d", i - 1);
		REQUIRE_OK(symlink(target, path));
		if (i <= 40)
			EXPECT_OK(stat(path, &st));
		else
			EXPECT_ERR(ELOOP, stat(path, &st));
	}
	EXPECT_ERR(ELOOP, open("c41", O_RDONLY));
	EXPECT_OK(lstat("c41", &st));
	for (int i = 0; i <= 41; i++) {
		snprintf(path, sizeof(path), "c%d", i);
		unlink(path);
	}
	REQUIRE_OK(symlink("self", "self"));
	REQUIRE_OK(symlink("b", "a"));
	REQUIRE_OK(symlink("a", "b"));
	EXPECT_ERR(ELOOP, stat("self", &st));
	EXPECT_ERR(ELOOP, stat("a", &st));
	EXPECT_ERR(ELOOP, stat("self/x", &st));
	EXPECT_ERR(ELOOP, lstat("a/x", &st));
	EXPECT_ERR(ELOOP, open("a", O_RDWR | O_CREAT, 0644));
	EXPECT_OK(lstat("a", &st));
	unlink("self");
	unlink("a");
	unlink("b");
}

static void read_links(void)
{
	char buf[32];
	int fd;

	FOR_TYPES(t, T_NOLNK) {
		h_ctx("readlink of a %s", h_type_name(t));
		REQUIRE_OK(h_make(t, "x", 0644));
		EXPECT_ERR(EINVAL, readlink("x", buf, sizeof(buf)));
		EXPECT_ERR(EINVAL, readlinkat(AT_FDCWD, "x", buf, sizeof(buf)));
		h_remove("x");
	}
	h_ctx(NULL);
	REQUIRE_OK(symlink("0123456789", "l"));
	for (size_t n = 1; n <= 12; n++) {
		size_t want = n < 10 ? n : 10;

		h_ctx("buffer of %zu bytes", n);
		memset(buf, 'Z', sizeof(buf));
		EXPECT_EQ(want, readlink("l", buf, n));
		EXPECT_TRUE(!memcmp(buf, "0123456789", want),
			    "readlink gives the start of the target");
		EXPECT_EQ('Z', buf[want]);
	}
	h_ctx(NULL);
	volatile size_t zero = 0; /* gcc knows that no object has size 0 */

	EXPECT_ERR(EINVAL, readlink("l", buf, zero));
	EXPECT_ERR(ENOENT, readlink("none", buf, sizeof(buf)));
	EXPECT_ERR(ENOENT, readlink("", buf, sizeof(buf)));
	EXPECT_ERR(ENOENT, readlink("l/x", buf, sizeof(buf)));
	EXPECT_ERR(ENOENT, readlink("l/", buf, sizeof(buf)));
	fd = (int)REQUIRE_OK(open("l", O_PATH | O_NOFOLLOW));
	EXPECT_EQ(10, readlinkat(fd, "", buf, sizeof(buf)));
	EXPECT_OK(rename("l", "m"));
	EXPECT_EQ(10, readlinkat(fd, "", buf, sizeof(buf)));
	EXPECT_ERR(ENOENT, readlink("l", buf, sizeof(buf)));
	EXPECT_OK(unlink("m"));
	EXPECT_EQ(10, readlinkat(fd, "", buf, sizeof(buf)));
	close(fd);
	/* Read, replaced, read: never the old text. */
	for (int i = 0; i < 50; i++) {
		char text[32];

		snprintf(text, sizeof(text), "target-%d", i);
		EXPECT_OK(symlink(text, "l"));
		EXPECT_EQ(strlen(text), readlink("l", buf, sizeof(buf)));
		EXPECT_TRUE(!memcmp(buf, text, strlen(text)), "readlink gives the new target");
		unlink("l");
	}
}

static void who(void)
{
	char buf[8];

	REQUIRE_OK(mkdir("d", 0755));
	AS(ALICE) {
		EXPECT_ERR(EACCES, symlink("x", "d/l"));
	}
	REQUIRE_OK(chmod("d", 0777));
	AS(ALICE) {
		EXPECT_OK(symlink("x", "d/l"));
		EXPECT_OWNER(UA, GA, "d/l");
	}
	AS(BOB) { /* a link's own mode keeps nobody from reading it */
		EXPECT_EQ(1, readlink("d/l", buf, sizeof(buf)));
	}
	REQUIRE_OK(chmod("d", 0776));
	AS(BOB) {
		EXPECT_ERR(EACCES, readlink("d/l", buf, sizeof(buf)));
		EXPECT_ERR(EACCES, symlink("x", "d/m"));
	}
	REQUIRE_OK(chmod("d", 0771));
	AS(BOB) {
		EXPECT_EQ(1, readlink("d/l", buf, sizeof(buf)));
		EXPECT_ERR(EACCES, symlink("x", "d/m"));
	}
	h_rmtree(AT_FDCWD, "d");
}

void area_symlink(void)
{
	targets();
	effects_and_errors();
	following();
}

void area_readlink(void)
{
	read_links();
	if (h_root())
		who();
}
