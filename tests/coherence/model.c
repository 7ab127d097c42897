/*
 * model: the host and mounts of it at work on a few names, files and locks, and nobody waits for a
 * checkpoint: each thing that is seen is compared with the states that may be seen at that moment
 * (model.h says which). A file system must find nothing with HOST and MOUNT the same directory.
 */
#include "model.h"

#include "child.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STUCK_NS UINT64_C(120000000000) /* no step takes so long but when somebody hangs */

static struct {
	unsigned long seconds, host_workers, guest_workers, load;
	bool stop_at_first, keep;
} opt = {.seconds = 20, .host_workers = 2, .guest_workers = 2};

static struct model_settings set = {
	.seed = 1,
	.synchronises = SYNC_ALL,
	.locks = true,
	.mappings = true,
	.removed = true,
	.settle_ns = UINT64_C(10000000000),
};
static char place[PLACES_MAX][PATH_MAX];
static struct model *model;
static pid_t worker[WORKERS_MAX], busy[WORKERS_MAX];
static unsigned workers;

/* ---- workers --------------------------------------------------------------------------------- */

/* The host is faster than any mount, and would leave nobody a look at what it has made. */
static void let_look(struct actor *a)
{
	unsigned long until = atomic_load(&a->m->tally.looks) + prng_below(&a->rng, 12);

	while (atomic_load(&a->m->tally.looks) < until && !atomic_load(&a->m->stop))
		pause_for_a_moment();
}

static void step(struct actor *a)
{
	unsigned what = (unsigned)prng_below(&a->rng, 100);

	if (what < (a->place == 0 ? 45 : 20))
		change_some(a);
	else if (what < (a->place == 0 ? 55 : 70))
		look_some(a);
	else
		lock_session(a);
	if (a->place == 0 && chance(a, 50))
		let_look(a);
}

static int open_dir(unsigned p)
{
	char path[PATH_MAX + sizeof(model->dir)];
	uint64_t begun = now_ns();
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", set.place[p], model->dir);
	while ((fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		if (now_ns() - begun > STUCK_NS)
			err(3, "%s", path);
		pause_for_a_moment();
	}
	return fd;
}

static _Noreturn void work(unsigned who, unsigned p)
{
	struct actor *a = calloc(1, sizeof(*a));

	if (a == NULL)
		err(3, "calloc");
	a->m = model;
	a->who = who;
	a->place = p;
	a->rng.state = set.seed * 1000 + who;
	a->at = open_dir(p);
	a->host = open_dir(0);
	lock_init(a);
	look_init(a);
	while (!atomic_load(&model->stop)) {
		step(a);
		atomic_store(&model->progress[who], now_ns());
	}
	_exit(0);
}

static void start(unsigned p)
{
	if (workers == WORKERS_MAX)
		errx(2, "too many workers");
	atomic_store(&model->progress[workers], now_ns());
	pid_t pid = child_fork();
	if (pid == 0)
		work(workers, p);
	worker[workers++] = pid;
}

static void start_load(void)
{
	for (unsigned long i = 0; i < opt.load; i++) {
		busy[i] = child_fork();
		while (busy[i] == 0)
			;
	}
}

/* ---- the directory --------------------------------------------------------------------------- */

static void make_dir(int at, const char *name)
{
	if (mkdirat(at, name, 0755) != 0)
		err(3, "%s/%s/%s", set.place[0], model->dir, name);
}

/* Of the directories that are moved, each has one below it. */
static void make_moved(int at, unsigned name)
{
	char below[64];
	struct stat st;
	struct object *o = object_new(model, S_IFDIR, false, 0755, 0, 0);

	make_dir(at, name_path(name));
	(void)snprintf(below, sizeof(below), "%s/below", name_path(name));
	make_dir(at, below);
	if (fstatat(at, name_path(name), &st, 0) != 0)
		err(3, "%s", name_path(name));
	atomic_store(&o->ino, st.st_ino);
	atomic_store(&o->names, 1);
	struct binding *b = name_next(model, name, o->id, "at first", 0, 0);
	atomic_store(&b->span.end, b->span.begin);
}

static void make_all(void)
{
	char path[PATH_MAX + sizeof(model->dir)];

	(void)snprintf(model->dir, sizeof(model->dir), "model-%ju-%d", (uintmax_t)set.seed,
		       (int)getpid());
	(void)snprintf(path, sizeof(path), "%s/%s", set.place[0], model->dir);
	if (mkdir(path, 0755) != 0)
		err(3, "%s", path);
	int at = open_dir(0);
	for (unsigned i = 0; i <= DIRS; i++)
		make_dir(at, dir_path(i));
	for (unsigned i = 0; i < 3; i++)
		make_moved(at, NAMES - MOVERS + i);
	(void)close(at);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static void remove_all(void)
{
	char path[PATH_MAX + sizeof(model->dir)];

	(void)snprintf(path, sizeof(path), "%s/%s", set.place[0], model->dir);
	if (!opt.keep && nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
		warn("%s", path);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static unsigned long wrong(void)
{
	return atomic_load(&model->tally.impossible) + atomic_load(&model->tally.back);
}

static _Noreturn void give_up(const char *why)
{
	printf("model: %s\n", why);
	for (unsigned i = 0; i < workers; i++)
		(void)kill(worker[i], SIGKILL);
	exit(3);
}

static void watch(uint64_t end)
{
	int status;

	while (now_ns() < end && wrong() <= (opt.stop_at_first ? 0 : 1000)) {
		const uint64_t look = now_ns() + STUCK_NS / 4;

		child_hear(look < end ? look : end);
		if (waitpid(-1, &status, WNOHANG) > 0)
			give_up(WIFSIGNALED(status) ? strsignal(WTERMSIG(status))
						    : "a worker ended");
		for (unsigned i = 0; i < workers; i++)
			if (atomic_load(&model->progress[i]) + STUCK_NS < now_ns())
				give_up("a worker is stuck");
	}
}

/* Each ends with the call that it is in, unless that never returns. */
static void await(pid_t pid)
{
	const uint64_t until = now_ns() + STUCK_NS;
	int status;
	pid_t r;

	while ((r = waitpid(pid, &status, WNOHANG)) == 0) {
		if (now_ns() > until)
			give_up("a worker is stuck");
		child_hear(until);
	}
	if (r != pid || status != 0)
		give_up("a worker ended badly");
}

static void end_all(void)
{
	atomic_store(&model->stop, true);
	for (unsigned i = 0; i < workers; i++)
		await(worker[i]);
	for (unsigned long i = 0; i < opt.load; i++) {
		(void)kill(busy[i], SIGKILL);
		(void)waitpid(busy[i], NULL, 0);
	}
}

static void print_sum(void)
{
	struct tally *t = &model->tally;

	printf("seed %ju: changes: %lu on the host, %lu in the mounts, %lu refused; looks: %lu; locks: %lu, of "
	       "which %lu waited for, %lu raised, %lu lowered; synchronised: %lu\n",
	       (uintmax_t)set.seed, t->host_changes, t->guest_changes, t->refused, t->looks,
	       t->locked, t->waited, t->raised, t->lowered, t->synchronised);
	printf("ESTALE: %lu; zeros behind a truncation: %lu; displaced by a rename: %lu; not judged: %lu; of several possible "
	       "states: %lu; went back: %lu\n",
	       t->estale, t->zeros, t->displaced, t->unknown, t->choices, t->back);
	for (unsigned i = 0; i < KINDS && t->kind[i].what != NULL; i++)
		printf("impossible by %s: %lu\n", t->kind[i].what, t->kind[i].n);
	printf("%lu observations, %lu impossible\n", t->observations, wrong());
}

/* ---- options --------------------------------------------------------------------------------- */

static void usage(FILE *to)
{
	(void)fputs(
		"usage: model [OPTION...] HOST MOUNT...\n"
		"  --seed N           1\n"
		"  --seconds S        20\n"
		"  --host-workers N   2\n"
		"  --guest-workers N  in each mount: 2\n"
		"  --load N           so many busy processes beside them: 0\n"
		"  --synchronise WHAT which calls in a mount do: all, locks, none: all\n"
		"  --fence            ask for a fence after each of these calls: they need not be one\n"
		"  --no-locks         locks are not the host's (locks=local, no_open)\n"
		"  --no-mappings      what a mapping shows is not compared\n"
		"  --no-open          a file may be gone (ESTALE) that lost its name when it was open\n"
		"  --separate-servers what one mount changed is to the others as the host's\n"
		"  --own-late-ms N    what a mount changed may show in itself so much later: 0\n"
		"  --late-ms N        what one mount changed may show in the others so much later: 0\n"
		"  --settle-ms N      what the host changed shows after so long: 10000\n"
		"  --keep             the files stay\n"
		"  --stop             end at the first impossible state\n"
		"exit code: 0 nothing impossible, 1 something, 2 usage, 3 could not go on\n",
		to);
}

static unsigned long number(const char *text)
{
	char *end;

	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n > UINT32_MAX)
		errx(2, "'%s' is no number", text);
	return n;
}

static enum synchronises synchronises(const char *text)
{
	if (strcmp(text, "all") == 0)
		return SYNC_ALL;
	if (strcmp(text, "locks") == 0)
		return SYNC_LOCKS;
	if (strcmp(text, "none") != 0)
		errx(2, "--synchronise: '%s'?", text);
	return SYNC_NONE;
}

enum {
	OPT_SEED = 1,
	OPT_SECONDS,
	OPT_HOST_WORKERS,
	OPT_GUEST_WORKERS,
	OPT_LOAD,
	OPT_SYNCHRONISE,
	OPT_FENCE,
	OPT_NO_LOCKS,
	OPT_NO_MAPPINGS,
	OPT_NO_OPEN,
	OPT_GOES_BACK,
	OPT_SEPARATE,
	OPT_OWN_LATE,
	OPT_LATE,
	OPT_SETTLE,
	OPT_KEEP,
	OPT_STOP,
	OPT_HELP,
};

static const struct option options[] = {
	{"seed", required_argument, NULL, OPT_SEED},
	{"seconds", required_argument, NULL, OPT_SECONDS},
	{"host-workers", required_argument, NULL, OPT_HOST_WORKERS},
	{"guest-workers", required_argument, NULL, OPT_GUEST_WORKERS},
	{"load", required_argument, NULL, OPT_LOAD},
	{"synchronise", required_argument, NULL, OPT_SYNCHRONISE},
	{"fence", no_argument, NULL, OPT_FENCE},
	{"no-locks", no_argument, NULL, OPT_NO_LOCKS},
	{"no-mappings", no_argument, NULL, OPT_NO_MAPPINGS},
	{"no-open", no_argument, NULL, OPT_NO_OPEN},
	{"goes-back", no_argument, NULL, OPT_GOES_BACK},
	{"separate-servers", no_argument, NULL, OPT_SEPARATE},
	{"own-late-ms", required_argument, NULL, OPT_OWN_LATE},
	{"late-ms", required_argument, NULL, OPT_LATE},
	{"settle-ms", required_argument, NULL, OPT_SETTLE},
	{"keep", no_argument, NULL, OPT_KEEP},
	{"stop", no_argument, NULL, OPT_STOP},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

static void parse_one(int c)
{
	switch (c) {
	case OPT_SEED:
		set.seed = number(optarg);
		break;
	case OPT_SECONDS:
		opt.seconds = number(optarg);
		break;
	case OPT_HOST_WORKERS:
		opt.host_workers = number(optarg);
		break;
	case OPT_GUEST_WORKERS:
		opt.guest_workers = number(optarg);
		break;
	case OPT_LOAD:
		opt.load = number(optarg);
		break;
	case OPT_SYNCHRONISE:
		set.synchronises = synchronises(optarg);
		break;
	case OPT_FENCE:
		set.fences = true;
		break;
	case OPT_NO_LOCKS:
		set.locks = false;
		break;
	case OPT_NO_MAPPINGS:
		set.mappings = false;
		break;
	case OPT_NO_OPEN:
		set.removed = false;
		break;
	case OPT_GOES_BACK:
		set.goes_back = true;
		break;
	case OPT_SEPARATE:
		set.separate = true;
		break;
	case OPT_OWN_LATE:
		set.own_late_ns = number(optarg) * UINT64_C(1000000);
		break;
	case OPT_LATE:
		set.late_ns = number(optarg) * UINT64_C(1000000);
		break;
	case OPT_SETTLE:
		set.settle_ns = number(optarg) * UINT64_C(1000000);
		break;
	case OPT_KEEP:
		opt.keep = true;
		break;
	case OPT_STOP:
		opt.stop_at_first = true;
		break;
	case OPT_HELP:
		usage(stdout);
		exit(0);
	default:
		usage(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		parse_one(c);
	set.places = (unsigned)(argc - optind);
	if (argc - optind < 2 || set.places > PLACES_MAX || opt.load > WORKERS_MAX) {
		usage(stderr);
		return 2;
	}
	for (unsigned i = 0; i < set.places; i++) {
		if (realpath(argv[optind + (int)i], place[i]) == NULL)
			err(3, "%s", argv[optind + (int)i]);
		set.place[i] = place[i];
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	model = model_new(&set);
	make_all();
	child_hear_begin();
	start_load();
	for (unsigned p = 0; p < set.places; p++)
		for (unsigned long i = 0; i < (p == 0 ? opt.host_workers : opt.guest_workers); i++)
			start(p);
	watch(now_ns() + opt.seconds * UINT64_C(1000000000));
	end_all();
	remove_all();
	print_sum();
	return wrong() > 0;
}
