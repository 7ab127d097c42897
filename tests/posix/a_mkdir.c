/* mkdir mkdirat rmdir, and directories that are removed while open. */
#include "harness.h"

static bool counts_subdirs(const char *dir)
{
	return h_lstat(dir).st_nlink >= 2;
}

static void modes(void)
{
	static const mode_t mode[] = {0, 0700, 0755, 0777, 0111, 0555, 0151, 0644, 01777};
	static const mode_t mask[] = {0, 022, 077, 0777, 0151};

	for (unsigned m = 0; m < sizeof(mask) / sizeof(mask[0]); m++) {
		umask(mask[m]);
		for (unsigned i = 0; i < sizeof(mode) / sizeof(mode[0]); i++) {
			h_ctx("mode %04o umask %04o", mode[i], mask[m]);
			EXPECT_OK(mkdir("d", mode[i]));
			EXPECT_MODE(mode[i] & ~mask[m], "d");
			EXPECT_EQ(S_IFDIR, h_lstat("d").st_mode & S_IFMT);
			EXPECT_OK(rmdir("d"));
		}
		/* Of the special bits only the sticky one may be asked for. */
		EXPECT_OK(mkdir("d", 07700));
		EXPECT_MODE((mode_t)(01700 & ~mask[m]), "d");
		EXPECT_OK(rmdir("d"));
	}
	umask(022);
	h_ctx(NULL);
}

static void effects(void)
{
	struct stat dir, st;
	char now[PATH_MAX], was[PATH_MAX];
	bool subdirs;
	nlink_t nlink;

	REQUIRE_OK(mkdir("p", 0755));
	subdirs = counts_subdirs("p");
	if (!subdirs)
		h_skip("directories do not count their subdirectories here");
	dir = h_rewind("p");
	nlink = dir.st_nlink;
	EXPECT_OK(mkdir("p/d", 0755));
	EXPECT_TIMES("p", &dir, TM_M | TM_C, 0);
	st = h_lstat("p/d");
	EXPECT_EQ(geteuid(), st.st_uid);
	EXPECT_EQ(getegid(), st.st_gid);
	EXPECT_EQ(0, h_count("p/d"));
	EXPECT_EQ(1, h_count("p"));
	EXPECT_TRUE(h_tscmp(st.st_mtim, dir.st_ctim) > 0, "mtime of a new directory is now");
	EXPECT_TRUE(h_tscmp(st.st_ctim, dir.st_ctim) > 0, "ctime of a new directory is now");
	EXPECT_TRUE(h_tscmp(st.st_atim, dir.st_ctim) > 0, "atime of a new directory is now");
	if (subdirs) {
		EXPECT_NLINK((long)nlink + 1, "p");
		EXPECT_NLINK(2, "p/d");
		EXPECT_OK(mkdir("p/d/e", 0755));
		EXPECT_NLINK(3, "p/d");
		EXPECT_NLINK((long)nlink + 1, "p");
		EXPECT_OK(h_touch("p/d/f"));
		EXPECT_NLINK(3, "p/d");
		EXPECT_OK(rmdir("p/d/e"));
		EXPECT_NLINK(2, "p/d");
		EXPECT_OK(unlink("p/d/f"));
	}
	EXPECT_EQ(h_lstat("p").st_ino, h_lstat("p/d/..").st_ino);
	EXPECT_EQ(st.st_ino, h_lstat("p/d/.").st_ino);
	dir = h_rewind("p");
	EXPECT_OK(rmdir("p/d"));
	EXPECT_TIMES("p", &dir, TM_M | TM_C, 0);
	EXPECT_NLINK((long)nlink, "p");
	EXPECT_ABSENT("p/d");
	EXPECT_EQ(0, h_count("p"));
	/* A name of 255 bytes, slashes at the end, many in a row. */
	char *longest = h_name(255);

	EXPECT_OK(mkdir(longest, 0755));
	EXPECT_OK(rmdir(longest));
	free(longest);
	EXPECT_OK(mkdir("p/d///", 0755));
	EXPECT_OK(rmdir("p//d/"));
	EXPECT_OK(mkdir("p/./d", 0755));
	EXPECT_OK(mkdir("p/d/../e", 0755));
	EXPECT_EQ(2, h_count("p"));
	EXPECT_OK(getcwd(was, sizeof(was)) ? 0 : -1);
	EXPECT_OK(chdir("p/d"));
	EXPECT_OK(mkdir("sub", 0755));
	EXPECT_OK(getcwd(now, sizeof(now)) ? 0 : -1);
	EXPECT_TRUE(strlen(now) > 4 && !strcmp(now + strlen(now) - 4, "/p/d"),
		    "getcwd ends in /p/d");
	EXPECT_OK(chdir("../.."));
	EXPECT_OK(rmdir("p/d/sub"));
	EXPECT_OK(rmdir("p/d"));
	EXPECT_OK(rmdir("p/e"));
	EXPECT_OK(rmdir("p"));
}

static void deep(void)
{
	enum { DEPTH = 60 };
	char path[DEPTH * 6 + 8] = "deep";
	size_t n = 4;

	REQUIRE_OK(mkdir(path, 0755));
	for (int i = 0; i < DEPTH; i++) {
		n += (size_t)snprintf(path + n, sizeof(path) - n, "/l%d", i);
		EXPECT_OK(mkdir(path, 0755));
	}
	for (int i = 0; i < DEPTH; i++) {
		EXPECT_OK(rmdir(path));
		*strrchr(path, '/') = 0;
	}
	EXPECT_OK(rmdir("deep"));
}

static void mkdir_errors(void)
{
	struct stat dir;

	REQUIRE_OK(mkdir("p", 0755));
	dir = h_rewind("p");
	FOR_TYPES(t, T_ALL) {
		h_ctx("name is a %s", h_type_name(t));
		REQUIRE_OK(h_make(t, "x", 0644));
		EXPECT_ERR(EEXIST, mkdir("x", 0755));
		EXPECT_EQ(h_type_mode(t), h_lstat("x").st_mode & S_IFMT);
		h_remove("x");
	}
	h_ctx(NULL);
	EXPECT_ABSENT("nowhere");
	EXPECT_ERR(EEXIST, mkdir("p", 0755));
	EXPECT_ERR(EEXIST, mkdir(".", 0755));
	EXPECT_ERR(EEXIST, mkdir("..", 0755));
	EXPECT_ERR(EEXIST, mkdir("p/", 0755));
	EXPECT_ERR(EEXIST, mkdir("p/.", 0755));
	EXPECT_ERR(EEXIST, mkdir("/", 0755));
	EXPECT_ERR(ENOENT, mkdir("", 0755));
	EXPECT_ERR(ENOENT, mkdir("p/a/b", 0755));
	EXPECT_ERR(ENOENT, mkdir("p/a/.", 0755));
	EXPECT_ABSENT("p/a");
	EXPECT_TIMES("p", &dir, 0, 0);
	EXPECT_OK(rmdir("p"));
}

static void rmdir_errors(void)
{
	struct stat dir;

	FOR_TYPES(t, T_NODIR) {
		h_ctx("rmdir of a %s", h_type_name(t));
		REQUIRE_OK(h_make(t, "x", 0644));
		EXPECT_ERR(ENOTDIR, rmdir("x"));
		EXPECT_ERR(ENOTDIR, unlinkat(AT_FDCWD, "x", AT_REMOVEDIR));
		EXPECT_OK(h_exists("x"));
		unlink("x");
	}
	REQUIRE_OK(mkdir("d", 0755));
	FOR_TYPES(t, T_ALL) {
		h_ctx("a %s inside", h_type_name(t));
		REQUIRE_OK(h_make(t, "d/x", 0644));
		dir = h_rewind("d");
		EXPECT_ERR2(ENOTEMPTY, EEXIST, rmdir("d"));
		EXPECT_TIMES("d", &dir, 0, 0);
		h_remove("d/x");
	}
	h_ctx(NULL);
	REQUIRE_OK(mkdir("d/e", 0755));
	REQUIRE_OK(symlink("d", "l"));
	EXPECT_ERR(ENOTDIR, rmdir("l"));
	EXPECT_ERR(ENOTDIR, rmdir("l/"));
	EXPECT_ERR(EINVAL, rmdir("d/."));
	EXPECT_ERR(EINVAL, rmdir("."));
	EXPECT_ERR2(ENOTEMPTY, EEXIST, rmdir("d/e/.."));
	EXPECT_ERR2(ENOTEMPTY, EEXIST, rmdir(".."));
	EXPECT_ERR(EBUSY, rmdir("/"));
	EXPECT_ERR(ENOENT, rmdir(""));
	EXPECT_ERR(ENOENT, rmdir("x"));
	EXPECT_ERR(ENOENT, rmdir("x/y"));
	EXPECT_OK(rmdir("l/e")); /* through a symlink in the middle */
	unlink("l");
	EXPECT_OK(rmdir("d"));
	EXPECT_ERR(ENOENT, rmdir("d"));
	/* Empty once more after much has been in it. */
	REQUIRE_OK(mkdir("d", 0755));
	for (int i = 0; i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "d/file-%d", i);
		if (h_touch(name))
			EXPECT_OK(-1);
	}
	EXPECT_ERR2(ENOTEMPTY, EEXIST, rmdir("d"));
	for (int i = 0; i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "d/file-%d", i);
		if (unlink(name))
			EXPECT_OK(-1);
	}
	EXPECT_OK(rmdir("d"));
}

static void removed_while_open(void)
{
	struct stat st = {0};
	char cwd[PATH_MAX];
	int fd, sub;
	DIR *dir;

	REQUIRE_OK(mkdir("d", 0755));
	fd = (int)REQUIRE_OK(open("d", O_RDONLY | O_DIRECTORY));
	sub = (int)REQUIRE_OK(open("d", O_PATH | O_DIRECTORY));
	EXPECT_OK(rmdir("d"));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(0, st.st_nlink);
	EXPECT_EQ(S_IFDIR, st.st_mode & S_IFMT);
	EXPECT_OK(fstat(sub, &st));
	EXPECT_ERR(ENOENT, openat(fd, "f", O_WRONLY | O_CREAT, 0644));
	EXPECT_ERR(ENOENT, openat(fd, "f", O_RDONLY));
	EXPECT_ERR(ENOENT, mkdirat(fd, "f", 0755));
	EXPECT_ERR(ENOENT, symlinkat("x", fd, "f"));
	EXPECT_ERR(ENOENT, mkfifoat(fd, "f", 0644));
	REQUIRE_OK(h_touch("f"));
	EXPECT_ERR(ENOENT, renameat(AT_FDCWD, "f", fd, "f"));
	EXPECT_ERR(ENOENT, unlinkat(fd, "f", 0));
	EXPECT_OK(fsync(fd));
	dir = fdopendir(fd);
	EXPECT_TRUE(dir != NULL, "fdopendir of a removed directory");
	if (dir) {
		errno = 0;
		while (readdir(dir))
			;
		EXPECT_TRUE(errno == 0 || errno == ENOENT, "reading a removed directory ends");
		closedir(dir);
	}
	close(sub);
	/* The working directory itself goes. */
	AS(NULL) {
		REQUIRE_OK(mkdir("d", 0755));
		REQUIRE_OK(chdir("d"));
		EXPECT_OK(rmdir("../d"));
		EXPECT_ERR(ENOENT, open("x", O_WRONLY | O_CREAT, 0644));
		EXPECT_ERR(ENOENT, getcwd(cwd, sizeof(cwd)) ? 0 : -1);
		EXPECT_ERR(EINVAL, rmdir("."));
		EXPECT_OK(stat(".", &st));
		EXPECT_EQ(0, st.st_nlink);
	}
	/* A new one of the same name is another directory. */
	REQUIRE_OK(mkdir("d", 0755));
	fd = (int)REQUIRE_OK(open("d", O_RDONLY | O_DIRECTORY));
	EXPECT_OK(rmdir("d"));
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(h_touch("d/new"));
	EXPECT_ERR(ENOENT, openat(fd, "new", O_RDONLY));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(0, st.st_nlink);
	close(fd);
	unlink("d/new");
	rmdir("d");
	unlink("f");
}

/* make: mkdir is tested, else rmdir; both need the right to write the parent. */
static void who(bool make)
{
	static const struct {
		mode_t mode;
		bool ok;
	} parent[] = {{0777, true},  {0773, true},  {0770, false}, {0774, false}, {0775, false},
		      {0776, false}, {0771, false}, {0772, false}, {0000, false}};

	for (unsigned i = 0; i < sizeof(parent) / sizeof(parent[0]); i++) {
		h_ctx("%s in a directory of mode %04o", make ? "mkdir" : "rmdir", parent[i].mode);
		REQUIRE_OK(mkdir("p", 0777));
		if (!make)
			REQUIRE_OK(mkdir("p/d", 0777));
		REQUIRE_OK(chmod("p", parent[i].mode));
		AS(ALICE) {
			if (parent[i].ok)
				EXPECT_OK(make ? mkdir("p/d", 0755) : rmdir("p/d"));
			else
				EXPECT_ERR(EACCES, make ? mkdir("p/d", 0755) : rmdir("p/d"));
		}
		EXPECT_OK(chmod("p", 0755));
		EXPECT_EQ(make == parent[i].ok, h_exists("p/d") == 0);
		if (make && parent[i].ok) {
			EXPECT_OWNER(UA, GA, "p/d");
			EXPECT_MODE(0755, "p/d");
		}
		h_rmtree(AT_FDCWD, "p");
	}
	h_ctx(NULL);
}

void area_mkdir(void)
{
	modes();
	effects();
	deep();
	mkdir_errors();
	if (h_root())
		who(true);
}

void area_rmdir(void)
{
	rmdir_errors();
	removed_while_open();
	if (h_root())
		who(false);
}
