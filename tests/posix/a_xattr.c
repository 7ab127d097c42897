/* user.* extended attributes. */
#include "harness.h"

#include <sys/xattr.h>

static bool has(const char *list, ssize_t len, const char *name)
{
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(list + at) + 1)
		if (!strcmp(list + at, name))
			return true;
	return false;
}

/* Attributes of other classes (security.*) may be there as well: count only user.* */
static int user_count(const char *path)
{
	static char list[65536];
	ssize_t len = llistxattr(path, list, sizeof(list));
	int n = 0;

	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(list + at) + 1)
		n += !strncmp(list + at, "user.", 5);
	return len < 0 ? -1 : n;
}

static void on_a(enum h_type t)
{
	char buf[64], list[1024];
	struct stat before;

	h_ctx("%s", h_type_name(t));
	REQUIRE_OK(h_make(t, "f", 0755));
	EXPECT_EQ(0, user_count("f"));
	EXPECT_ERR(ENODATA, getxattr("f", "user.a", buf, sizeof(buf)));
	EXPECT_ERR(ENODATA, removexattr("f", "user.a"));
	before = h_rewind("f");
	EXPECT_OK(setxattr("f", "user.a", "value", 5, 0));
	EXPECT_TIMES("f", &before, TM_C, 0);
	EXPECT_EQ(5, getxattr("f", "user.a", buf, sizeof(buf)));
	EXPECT_TRUE(!memcmp(buf, "value", 5), "the value is as set");
	/* A size of zero asks for the size. */
	EXPECT_EQ(5, getxattr("f", "user.a", NULL, 0));
	EXPECT_EQ(5, getxattr("f", "user.a", buf, 0));
	EXPECT_ERR(ERANGE, getxattr("f", "user.a", buf, 4));
	EXPECT_ERR(ERANGE, getxattr("f", "user.a", buf, 1));
	EXPECT_EQ(5, getxattr("f", "user.a", buf, 5));
	/* XATTR_CREATE and XATTR_REPLACE. */
	EXPECT_ERR(EEXIST, setxattr("f", "user.a", "x", 1, XATTR_CREATE));
	EXPECT_OK(setxattr("f", "user.a", "longer value", 12, XATTR_REPLACE));
	EXPECT_EQ(12, getxattr("f", "user.a", buf, sizeof(buf)));
	EXPECT_ERR(ENODATA, setxattr("f", "user.b", "x", 1, XATTR_REPLACE));
	EXPECT_OK(setxattr("f", "user.b", "", 0, XATTR_CREATE));
	EXPECT_EQ(0, getxattr("f", "user.b", buf, sizeof(buf)));
	EXPECT_OK(setxattr("f", "user.c", "\0\1\2\377", 4, 0));
	EXPECT_EQ(4, getxattr("f", "user.c", buf, sizeof(buf)));
	EXPECT_TRUE(!memcmp(buf, "\0\1\2\377", 4), "bytes of any value");
	EXPECT_ERR(EINVAL, setxattr("f", "user.a", "x", 1, 0x1000));
	/* The list. */
	EXPECT_EQ(3, user_count("f"));
	ssize_t n = listxattr("f", NULL, 0);

	EXPECT_TRUE(n >= 21, "the size of the list covers three names");
	EXPECT_EQ(n, listxattr("f", list, sizeof(list)));
	EXPECT_TRUE(has(list, n, "user.a") && has(list, n, "user.b") && has(list, n, "user.c"),
		    "all are listed");
	EXPECT_ERR(ERANGE, listxattr("f", list, 3));
	EXPECT_EQ(n, listxattr("f", list, (size_t)n));
	/* By descriptor, by another name, through a symlink. */
	int fd = (int)REQUIRE_OK(open("f", O_RDONLY));

	EXPECT_EQ(12, fgetxattr(fd, "user.a", buf, sizeof(buf)));
	EXPECT_OK(fsetxattr(fd, "user.a", "by fd", 5, 0));
	EXPECT_EQ(5, lgetxattr("f", "user.a", buf, sizeof(buf)));
	EXPECT_EQ(n, flistxattr(fd, list, sizeof(list)));
	EXPECT_OK(fremovexattr(fd, "user.b"));
	EXPECT_ERR(ENODATA, fgetxattr(fd, "user.b", buf, sizeof(buf)));
	EXPECT_EQ(2, user_count("f"));
	close(fd);
	REQUIRE_OK(symlink("f", "l"));
	EXPECT_EQ(5, getxattr("l", "user.a", buf, sizeof(buf)));
	EXPECT_OK(setxattr("l", "user.a", "through", 7, 0));
	EXPECT_EQ(7, getxattr("f", "user.a", buf, sizeof(buf)));
	EXPECT_ERR(EPERM, lsetxattr("l", "user.a", "x", 1, 0)); /* symlinks have none */
	EXPECT_ERR2(ENODATA, EPERM, lgetxattr("l", "user.a", buf, sizeof(buf)));
	unlink("l");
	EXPECT_OK(rename("f", "g"));
	EXPECT_EQ(7, getxattr("g", "user.a", buf, sizeof(buf)));
	EXPECT_OK(removexattr("g", "user.a"));
	EXPECT_OK(lremovexattr("g", "user.c"));
	EXPECT_EQ(0, user_count("g"));
	EXPECT_ERR(ENODATA, removexattr("g", "user.a"));
	EXPECT_OK(setxattr("g", "user.z", "z", 1, 0));
	h_remove("g");
	/* A new file of that name starts with none. */
	REQUIRE_OK(h_make(t, "g", 0755));
	EXPECT_EQ(0, user_count("g"));
	h_remove("g");
	h_ctx(NULL);
}

static void names_and_sizes(void)
{
	static const size_t size[] = {1, 10, 100, 255, 256, 1000, 2000, 3000};
	char *name, *value = malloc(65537), *got = malloc(65537);
	char key[32];

	REQUIRE_OK(value && got ? 0 : -1);
	REQUIRE_OK(h_touch("f"));
	for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		h_ctx("value of %zu bytes", size[i]);
		h_fill(value, size[i], i);
		EXPECT_OK(setxattr("f", "user.v", value, size[i], 0));
		EXPECT_EQ(size[i], getxattr("f", "user.v", got, 65537));
		EXPECT_TRUE(h_is_fill(got, size[i], i), "the value is as set");
	}
	h_ctx(NULL);
	EXPECT_ERR(E2BIG, setxattr("f", "user.v", value, 65537, 0));
	EXPECT_OK(removexattr("f", "user.v"));
	/* "user." and 250 bytes make 255. */
	name = h_name(256);
	memcpy(name, "user.", 5);
	EXPECT_ERR(ERANGE, setxattr("f", name, "x", 1, 0));
	EXPECT_ERR(ERANGE, getxattr("f", name, got, 10));
	name[255] = 0;
	EXPECT_OK(setxattr("f", name, "x", 1, 0));
	EXPECT_EQ(1, getxattr("f", name, got, 10));
	EXPECT_OK(removexattr("f", name));
	EXPECT_ERR(EINVAL, setxattr("f", "user.", "x", 1, 0));
	EXPECT_ERR(ERANGE, setxattr("f", "", "x", 1, 0));
	EXPECT_ERR(EOPNOTSUPP, setxattr("f", "noclass", "x", 1, 0));
	EXPECT_ERR(EOPNOTSUPP, setxattr("f", "nosuch.class", "x", 1, 0));
	EXPECT_OK(setxattr("f", "user.\xff\xfe \n", "odd", 3, 0));
	EXPECT_EQ(3, getxattr("f", "user.\xff\xfe \n", got, 10));
	EXPECT_OK(removexattr("f", "user.\xff\xfe \n"));
	/* Many at once. */
	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "user.key%d", i);
		EXPECT_OK(setxattr("f", key, key, strlen(key), XATTR_CREATE));
	}
	EXPECT_EQ(50, user_count("f"));
	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "user.key%d", i);
		EXPECT_EQ(strlen(key), getxattr("f", key, got, 100));
		EXPECT_TRUE(!memcmp(got, key, strlen(key)), "each has its own value");
		EXPECT_OK(removexattr("f", key));
	}
	EXPECT_EQ(0, user_count("f"));
	EXPECT_ERR(ENOENT, getxattr("none", "user.a", got, 10));
	EXPECT_ERR(ENOENT, setxattr("none", "user.a", "x", 1, 0));
	EXPECT_ERR(ENOENT, listxattr("none", got, 10));
	EXPECT_ERR(ENOENT, removexattr("none", "user.a"));
	EXPECT_ERR(ENOTDIR, getxattr("f/x", "user.a", got, 10));
	EXPECT_ERR(EBADF, fgetxattr(-1, "user.a", got, 10));
	EXPECT_ERR(EFAULT, setxattr("f", "user.a", h_bad_ptr(), 10, 0));
	EXPECT_OK(setxattr("f", "user.a", "0123456789", 10, 0));
	EXPECT_ERR(EFAULT, getxattr("f", "user.a", h_bad_ptr(), 10));
	free(name);
	free(value);
	free(got);
	unlink("f");
}

/* user.* is only for files and directories, and follows their permission bits. */
static void who(void)
{
	char buf[16];

	FOR_TYPES(t, T_BIT(T_FIFO) | T_BIT(T_SOCK) | T_BIT(T_CHR)) {
		h_ctx("%s", h_type_name(t));
		REQUIRE_OK(h_make(t, "n", 0666));
		EXPECT_ERR(EPERM, setxattr("n", "user.a", "x", 1, 0));
		EXPECT_ERR2(ENODATA, EPERM, getxattr("n", "user.a", buf, sizeof(buf)));
		h_remove("n");
	}
	h_ctx(NULL);
	if (!h_root())
		return;
	REQUIRE_OK(h_touch("f"));
	REQUIRE_OK(chmod("f", 0644));
	REQUIRE_OK(setxattr("f", "user.a", "value", 5, 0));
	AS(ALICE) {
		EXPECT_EQ(5, getxattr("f", "user.a", buf, sizeof(buf)));
		EXPECT_ERR(EACCES, setxattr("f", "user.a", "x", 1, 0));
		EXPECT_ERR(EACCES, removexattr("f", "user.a"));
	}
	REQUIRE_OK(chmod("f", 0602));
	AS(ALICE) {
		EXPECT_ERR(EACCES, getxattr("f", "user.a", buf, sizeof(buf)));
		EXPECT_OK(setxattr("f", "user.a", "x", 1, 0));
		EXPECT_EQ(1, user_count("f")); /* listing needs no right */
		EXPECT_OK(removexattr("f", "user.a"));
	}
	unlink("f");
	/* In a sticky directory only its owner may mark it. */
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(chmod("d", 01777));
	AS(ALICE) {
		EXPECT_ERR(EPERM, setxattr("d", "user.a", "x", 1, 0));
	}
	REQUIRE_OK(chmod("d", 0777));
	AS(ALICE) {
		EXPECT_OK(setxattr("d", "user.a", "x", 1, 0));
	}
	rmdir("d");
}

void area_xattr(void)
{
	REQUIRE_OK(h_touch("f"));
	if (setxattr("f", "user.probe", "x", 1, 0)) {
		h_skip("user extended attributes: %s", strerrorname_np(errno));
		return;
	}
	unlink("f");
	on_a(T_REG);
	on_a(T_DIR);
	names_and_sizes();
	who();
}
