/* Names: any byte but '/' and NUL, every length, paths up to PATH_MAX. */
#include "harness.h"

static bool listed(const char *dir, const char *name, ino_t ino)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool found = false;

	if (!d)
		return false;
	while ((e = readdir(d)))
		if (!strcmp(e->d_name, name))
			found = e->d_ino == ino;
	closedir(d);
	return found;
}

static void every_byte(void)
{
	char name[16], path[32], moved[32], target[32];

	REQUIRE_OK(mkdir("d", 0755));
	for (int c = 1; c < 256; c++) {
		ssize_t n;

		if (c == '/')
			continue;
		/* Alone where it can be, else in the middle; then everywhere. */
		snprintf(name, sizeof(name), c == '.' ? "a%cb" : "%c", c);
		snprintf(path, sizeof(path), "d/%s", name);
		snprintf(moved, sizeof(moved), "d/%c%c%c", c, c, c);
		h_ctx("byte %d", c);
		EXPECT_OK(h_touch(path));
		EXPECT_TRUE(listed("d", name, h_lstat(path).st_ino),
			    "readdir gives the name and its inode");
		EXPECT_OK(rename(path, moved));
		EXPECT_ABSENT(path);
		EXPECT_OK(unlink(moved));
		EXPECT_OK(mkdir(moved, 0755));
		EXPECT_OK(rmdir(moved));
		EXPECT_OK(symlink(name, path));
		n = readlink(path, target, sizeof(target));
		EXPECT_TRUE(n == (ssize_t)strlen(name) && !memcmp(target, name, (size_t)n),
			    "target is the name");
		EXPECT_OK(unlink(path));
		EXPECT_EQ(0, h_count("d"));
	}
	h_ctx(NULL);
	/* All at once are all different. */
	for (int c = 1; c < 256; c++) {
		snprintf(path, sizeof(path), "d/x%cx", c);
		if (c != '/' && h_touch(path))
			EXPECT_OK(-1);
	}
	EXPECT_EQ(254, h_count("d"));
	h_rmtree(AT_FDCWD, "d");
}

static void distinct(void)
{
	/* None of these may be taken for another: no case folding, no normal forms, no trimming. */
	static const char *const names[] = {
	    "abc",
	    "ABC",
	    "Abc",
	    "abc ",
	    " abc",
	    "abc.",
	    ".abc",
	    "..abc",
	    "...",
	    "abc\t",
	    "abc\n",
	    "abc~",
	    "\xc3\xa9",
	    "e\xcc\x81",
	    "\xe9",
	    "\xc3\x89",
	    "\xef\xbb\xbf"
	    "abc",
	    "\xe2\x84\xaa",
	    "k",
	    "K",
	    "\xc3",
	    "\xa9",
	    "\xff",
	    "\xfe\xff",
	    "\xed\xa0\x80",
	    "\xf4\x90\x80\x80",
	    "\xc0\xaf",
	    "\xc0\x80",
	    "a\\b",
	    "a:b",
	    "a*b",
	    "a?b",
	    "a|b",
	    "a\"b",
	    "a<b",
	    "con",
	    "nul",
	    "COM1",
	    "-",
	    "--",
	    "-rf",
	    "#",
	    "%2f",
	    "%00",
	    "\x7f",
	    "\x01",
	    "\x1b[31m",
	    "\xf0\x9f\x98\x80",
	};
	enum { N = sizeof(names) / sizeof(names[0]) };
	char path[64];

	REQUIRE_OK(mkdir("d", 0755));
	for (int i = 0; i < N; i++) {
		snprintf(path, sizeof(path), "d/%s", names[i]);
		h_ctx("name '%s'", names[i]);
		EXPECT_ERR(ENOENT, open(path, O_RDONLY));
		EXPECT_OK(h_put(path, names[i], strlen(names[i])));
	}
	EXPECT_EQ(N, h_count("d"));
	for (int i = 0; i < N; i++) {
		snprintf(path, sizeof(path), "d/%s", names[i]);
		h_ctx("name '%s'", names[i]);
		EXPECT_CONTENT(names[i], strlen(names[i]), path);
		EXPECT_OK(unlink(path));
		EXPECT_EQ(N - 1 - i, h_count("d"));
	}
	h_ctx(NULL);
	rmdir("d");
}

static void lengths(void)
{
	REQUIRE_OK(mkdir("d", 0755));
	for (size_t n = 1; n <= 255; n += n < 250 ? 7 : 1) {
		char *name = h_name(n), path[300];

		snprintf(path, sizeof(path), "d/%s", name);
		h_ctx("name of %zu bytes", n);
		EXPECT_OK(h_touch(path));
		EXPECT_TRUE(listed("d", name, h_lstat(path).st_ino),
			    "readdir gives the name and its inode");
		EXPECT_OK(unlink(path));
		free(name);
	}
	char *longest = h_name(255), *longer = h_name(256), *far = h_name(1000);
	char wide[256];
	struct stat st;

	h_ctx(NULL);
	EXPECT_OK(chdir("d"));
	EXPECT_OK(mkdir(longest, 0755));
	EXPECT_OK(rmdir(longest));
	EXPECT_OK(symlink(longest, longest));
	EXPECT_SIZE(255, longest);
	EXPECT_OK(unlink(longest));
	EXPECT_OK(mkfifo(longest, 0644));
	EXPECT_OK(link(longest, "short"));
	EXPECT_OK(unlink(longest));
	EXPECT_OK(rename("short", longest));
	EXPECT_OK(unlink(longest));
	/* 255 bytes count, not characters. */
	for (int i = 0; i < 255; i += 3)
		memcpy(wide + i, "\xe2\x82\xac", 3);
	wide[255] = 0;
	EXPECT_OK(h_touch(wide));
	EXPECT_TRUE(listed(".", wide, h_lstat(wide).st_ino),
		    "readdir gives the name and its inode");
	EXPECT_OK(unlink(wide));
	for (int i = 0; i < 2; i++) {
		const char *name = i ? far : longer;

		h_ctx("name of %zu bytes", strlen(name));
		EXPECT_ERR(ENAMETOOLONG, stat(name, &st));
		EXPECT_ERR(ENAMETOOLONG, open(name, O_RDONLY));
		EXPECT_ERR(ENAMETOOLONG, open(name, O_WRONLY | O_CREAT, 0644));
		EXPECT_ERR(ENAMETOOLONG, mkdir(name, 0755));
		EXPECT_ERR(ENAMETOOLONG, mkfifo(name, 0644));
		EXPECT_ERR(ENAMETOOLONG, symlink("x", name));
		EXPECT_ERR(ENAMETOOLONG, unlink(name));
		EXPECT_ERR(ENAMETOOLONG, rmdir(name));
	}
	h_ctx(NULL);
	EXPECT_EQ(0, h_count("."));
	EXPECT_OK(chdir(".."));
	rmdir("d");
	free(longest);
	free(longer);
	free(far);
}

/* A path of PATH_MAX - 1 bytes works, one more does not; relative steps reach deeper still. */
static void path_lengths(void)
{
	char *ok, *over, *name = h_name(200);
	struct stat st;
	int depth = 0;

	REQUIRE_OK(h_put("f", "x", 1));
	ok = h_long_path("f", PATH_MAX - 1);
	over = h_long_path("f", PATH_MAX);
	EXPECT_OK(stat(ok, &st));
	EXPECT_OK(h_opens(ok, O_RDWR, 0));
	EXPECT_OK(chmod(ok, 0600));
	EXPECT_ERR(ENAMETOOLONG, stat(over, &st));
	EXPECT_ERR(ENAMETOOLONG, open(over, O_RDWR));
	EXPECT_ERR(ENAMETOOLONG, open(over, O_RDWR | O_CREAT, 0644));
	EXPECT_ERR(ENAMETOOLONG, unlink(over));
	EXPECT_OK(unlink(ok));
	free(ok);
	free(over);
	ok = h_long_path("new", PATH_MAX - 1);
	EXPECT_OK(mkdir(ok, 0755));
	EXPECT_OK(rmdir(ok));
	EXPECT_OK(symlink("x", ok));
	EXPECT_OK(unlink(ok));
	EXPECT_OK(h_opens(ok, O_WRONLY | O_CREAT | O_EXCL, 0644));
	EXPECT_OK(rename(ok, "other"));
	EXPECT_OK(rename("other", ok));
	EXPECT_OK(unlink("new"));
	free(ok);
	/* 40 levels of 200 bytes are more than a path can say. */
	AS(NULL) {
		for (; depth < 40; depth++) {
			EXPECT_OK(mkdir(name, 0755));
			REQUIRE_OK(chdir(name));
		}
		EXPECT_OK(h_put("bottom", "deep", 4));
		EXPECT_CONTENT("deep", 4, "bottom");
		EXPECT_OK(stat("../..", &st));
		EXPECT_OK(unlink("bottom"));
		for (; depth > 0; depth--) {
			REQUIRE_OK(chdir(".."));
			EXPECT_OK(rmdir(name));
		}
	}
	free(name);
}

void area_names(void)
{
	every_byte();
	distinct();
	lengths();
	path_lengths();
}
