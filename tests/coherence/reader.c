#include "actor.h"
#include "view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEPT_MAX 24
#define OWNERS	 6 /* writers whose own names are looked at */

static struct view view;
static struct prng rng;
static struct kept kept[KEPT_MAX];
static char bytes[64 * 1024];

/* ---- filling the caches ---------------------------------------------------------------------- */

static void look_read(const char *name)
{
	int fd = openat(view.guest, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0) {
		if (errno == ESTALE)
			atomic_fetch_add(&world_tally(view.w)->estale, 1);
		return;
	}
	(void)!pread(fd, bytes, sizeof(bytes), 0);
	(void)close(fd);
}

static void look_list(const char *name)
{
	int fd = openat(view.guest, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (d == NULL)
		return;
	while (readdir(d) != NULL)
		;
	(void)closedir(d);
}

static void look_keep(const char *name)
{
	struct kept *k = &kept[prng_below(&rng, KEPT_MAX)];

	kept_drop(k);
	(void)kept_take(&view, k, name);
}

static void look_once(void)
{
	struct name n = name_pick(view.w, &rng),
		    dir = name_dir((unsigned)prng_below(&rng, DIRS_MAX));
	const char *slash = strrchr(n.s, '/');
	struct stat st;

	/* What a writer of this mount is changing and is about to look at itself. */
	if (prng_below(&rng, 6) == 0) {
		(void)snprintf(n.s, sizeof(n.s), "own%u%s", (unsigned)prng_below(&rng, OWNERS),
			       prng_below(&rng, 2) ? "" : "-b");
		slash = NULL;
	}
	switch (prng_below(&rng, 16)) {
	case 0:
	case 1:
	case 2:
		look_read(n.s);
		break;
	case 3: /* the directory of a name that is likely to be hot */
		(void)snprintf(dir.s, sizeof(dir.s), "%.*s", slash ? (int)(slash - n.s) : 1,
			       slash ? n.s : ".");
		look_list(dir.s);
		break;
	case 4:
		look_list(dir.s);
		break;
	case 5:
		(void)!readlinkat(view.guest, n.s, bytes, sizeof(bytes));
		break;
	case 6:
		if (prng_below(&rng, 4) == 0)
			look_keep(n.s);
		break;
	case 7:
		kept_touch(&kept[prng_below(&rng, KEPT_MAX)]);
		break;
	case 8:
		(void)fstatat(view.guest, n.s, &st, 0);
		break;
	case 9: /* most of the time absent */
		(void)snprintf(n.s + strlen(n.s), 5, "%s", prng_below(&rng, 2) ? ".tmp" : "~");
		(void)fstatat(view.guest, n.s, &st, AT_SYMLINK_NOFOLLOW);
		break;
	default:
		(void)fstatat(view.guest, n.s, &st, AT_SYMLINK_NOFOLLOW);
		break;
	}
	atomic_fetch_add(&world_tally(view.w)->looks, 1);
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void compare_name(const char *name)
{
	struct name n;

	view_name(&view, name);
	(void)snprintf(n.s, sizeof(n.s), "%.30s~", name);
	view_name(&view, n.s);
	(void)snprintf(n.s, sizeof(n.s), "%.30s.tmp", name);
	view_name(&view, n.s);
}

/* Attributes before listings, which would bring them anew, and before opens. */
static void compare_all(unsigned part, unsigned parts)
{
	for (unsigned d = part; d < DIRS_MAX; d += parts) {
		view_name(&view, name_dir(d).s);
		for (unsigned i = 0; i < NAMES_IN_DIR; i++)
			compare_name(name_in_dir(d, i).s);
	}
	for (unsigned d = part; d < DIRS_MAX; d += parts) {
		view_dir(&view, name_dir(d).s);
		for (unsigned i = 0; i < NAMES_IN_DIR; i++)
			view_content(&view, name_in_dir(d, i).s);
	}
	if (part == 0 && world_settings(view.w)->git)
		view_tree(&view, "git");
}

static void compare_hot(unsigned part, unsigned parts)
{
	for (unsigned i = part; i < HOT_MAX; i += parts)
		compare_name(name_hot(view.w, i).s);
	for (unsigned i = part; i < HOT_MAX; i += parts)
		view_content(&view, name_hot(view.w, i).s);
	for (unsigned i = part; i < 3; i += parts) {
		struct name dir = name_hot(view.w, i);
		char *slash = strrchr(dir.s, '/');

		(void)snprintf(slash ? slash : dir.s, 2, "%s", slash ? "" : ".");
		view_dir(&view, dir.s);
	}
}

static void compare(unsigned part, unsigned parts)
{
	for (unsigned i = 0; i < KEPT_MAX; i++)
		if (kept[i].guest >= 0)
			kept_check(&view, &kept[i]);
	if (world_round(view.w)->full)
		compare_all(part, parts);
	else
		compare_hot(part, parts);
}

_Noreturn void reader_main(struct world *w, unsigned me, unsigned place, unsigned part,
			   unsigned parts)
{
	const struct round *round = world_round(w);
	unsigned step = 0;
	enum phase phase;

	view_init(&view, w, me, place);
	rng.state = world_settings(w)->seed * 1000003 + me;
	for (unsigned i = 0; i < KEPT_MAX; i++)
		kept[i] = (struct kept){.host = -1, .guest = -1};
	while ((phase = world_next(w, &step)) != PHASE_END) {
		if (phase == PHASE_RUN)
			while (atomic_load(&round->reading))
				look_once();
		else
			compare(part, parts);
		world_arrive(w);
	}
	_exit(0);
}
