/* Directories that change while they are read: what stays is listed exactly once. */
#include "harness.h"

#include <signal.h>
#include <sys/wait.h>

enum { STAY = 300 };

static int make_stay(void)
{
	char name[64];

	for (int i = 0; i < STAY; i++) {
		snprintf(name, sizeof(name), "d/stay-%d", i);
		if (h_touch(name))
			return -1;
	}
	return 0;
}

/* Reads once; every `step` entries calls change. Checks that all that stays is there once. */
static void read_while(int step, void (*change)(int))
{
	unsigned char seen[STAY] = {0};
	long twice = 0, missed = 0, total = 0;
	struct dirent *e;
	DIR *d = opendir("d");

	REQUIRE_OK(d ? 0 : -1);
	for (;;) {
		int i;

		errno = 0;
		e = readdir(d);
		if (!e || total == 100000)
			break;

		if (sscanf(e->d_name, "stay-%d", &i) == 1 && i >= 0 && i < STAY)
			twice += seen[i]++ != 0;
		if (change && total % step == 0)
			change((int)(total / step));
		total++;
	}
	EXPECT_RET(0, -errno); /* a name that is gone by now is no reason to stop */
	closedir(d);
	for (int i = 0; i < STAY; i++)
		missed += !seen[i];
	EXPECT_EQ(0, twice);
	EXPECT_EQ(0, missed);
	EXPECT_TRUE(total < 100000, "the listing comes to an end");
}

static void add(int i)
{
	char name[64];

	snprintf(name, sizeof(name), "d/added-%d", i);
	EXPECT_OK(h_touch(name));
}

static void remove_one(int i)
{
	char name[64];

	snprintf(name, sizeof(name), "d/gone-%d", i);
	unlink(name);
}

static void rename_one(int i)
{
	char from[64], to[64];

	snprintf(from, sizeof(from), "d/gone-%d", i);
	snprintf(to, sizeof(to), "d/renamed-%d", i);
	rename(from, to);
}

static void make_gone(void)
{
	char name[64];

	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "d/gone-%d", i);
		if (h_touch(name))
			EXPECT_OK(-1);
	}
}

static void in_one_process(void)
{
	h_ctx("entries added meanwhile");
	read_while(1, add);
	h_ctx("entries removed meanwhile");
	make_gone();
	read_while(2, remove_one);
	h_ctx("entries renamed meanwhile");
	make_gone();
	read_while(2, rename_one);
	h_ctx(NULL);
}

/* Removed after it was read, an entry is not listed again; removed before the stream began, never.
 */
static void removed_is_gone(void)
{
	char path[300];
	struct dirent *e;
	long again = 0, n = 0;
	DIR *d;

	REQUIRE_OK(mkdir("r", 0755));
	for (int i = 0; i < 200; i++) {
		snprintf(path, sizeof(path), "r/%d", i);
		REQUIRE_OK(h_touch(path));
	}
	d = opendir("r");
	REQUIRE_OK(d ? 0 : -1);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "r/%s", e->d_name);
		n++;
		if (unlink(path))
			again++;
	}
	EXPECT_EQ(0, again);
	EXPECT_EQ(200, n);
	rewinddir(d);
	for (n = 0; (e = readdir(d));)
		n++;
	EXPECT_EQ(2, n);
	closedir(d);
	EXPECT_OK(rmdir("r"));
}

/* Another process makes, renames and removes names without end. */
static void against_a_process(int kind)
{
	char a[64], b[64];
	pid_t pid = fork();

	if (pid == 0) {
		for (unsigned i = 0;; i++) {
			snprintf(a, sizeof(a), "d/churn-%u", i % 50);
			snprintf(b, sizeof(b), "d/churn-with-a-longer-name-%u", i % 70);
			if (kind == 0) {
				close(open(a, O_WRONLY | O_CREAT, 0600));
				unlink(b);
				rename(a, b);
			} else if (kind == 1) {
				mkdir(a, 0755);
				rmdir(a);
			} else {
				link("d/stay-0", a);
				symlink("x", b);
				unlink(a);
				unlink(b);
			}
		}
	}
	for (int i = 0; i < 60; i++)
		read_while(1, NULL);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

void area_dirchange(void)
{
	static const char *const kinds[] = {"files", "directories", "links"};

	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(make_stay());
	read_while(1, NULL);
	in_one_process();
	removed_is_gone();
	for (int k = 0; k < 3; k++) {
		h_ctx("while another process makes and removes %s", kinds[k]);
		against_a_process(k);
	}
	h_ctx(NULL);
	EXPECT_NLINK(1, "d/stay-1");
	h_rmtree(AT_FDCWD, "d");
}
