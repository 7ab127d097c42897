/*
 * model: the host and mounts of it at work on a few names, files and locks, and nobody waits for a
 * checkpoint: each thing that is seen is compared with the states that may be seen at that moment
 * (model.h says which). A file system must find nothing with HOST and MOUNT the same directory.
 */
#include "model.h"

#include "child.h"
#include "options.h"
#include "tree.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STUCK_NS UINT64_C(120000000000) /* no step takes so long but when somebody hangs */

static struct {
	unsigned long seed, seconds, host_workers, guest_workers, load;
	unsigned long own_late_ms, late_ms, settle_ms;
	bool stop_at_first, keep;
} opt = {
	.seed = 1,
	.seconds = 20,
	.host_workers = 2,
	.guest_workers = 2,
	.settle_ms = 10000,
};

static struct model_settings set = {
	.synchronises = SYNC_ALL,
	.locks = true,
	.mappings = true,
	.removed = true,
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

static void remove_all(void)
{
	char path[PATH_MAX + sizeof(model->dir)];

	(void)snprintf(path, sizeof(path), "%s/%s", set.place[0], model->dir);
	if (!opt.keep && tree_remove(path) != 0)
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

static void set_synchronises(char *text)
{
	static const char *const names[] = {
		[SYNC_NONE] = "none", [SYNC_LOCKS] = "locks", [SYNC_ALL] = "all"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) == 0) {
			set.synchronises = i;
			return;
		}
	}
	errx(2, "--synchronise: '%s'?", text);
}

static const struct option_row rows[] = {
	{"seed", "N", "1", .number = &opt.seed},
	{"seconds", "S", "20", .number = &opt.seconds},
	{"host-workers", "N", "2", .number = &opt.host_workers},
	{"guest-workers", "N", "in each mount: 2", .number = &opt.guest_workers},
	{"load", "N", "so many busy processes beside them: 0", .number = &opt.load},
	{"synchronise", "WHAT", "which calls in a mount do: all, locks, none: all",
	 .take = set_synchronises},
	{"fence", NULL, "ask for a fence after each of these calls: they need not be one",
	 .flag = &set.fences, .is = true},
	{"no-locks", NULL, "locks are not the host's (locks=local, no_open)", .flag = &set.locks},
	{"no-mappings", NULL, "what a mapping shows is not compared", .flag = &set.mappings},
	{"no-open", NULL, "a file may be gone (ESTALE) that lost its name when it was open",
	 .flag = &set.removed},
	{"goes-back", NULL, "what a process sees may be older than what it has seen",
	 .flag = &set.goes_back, .is = true},
	{"separate-servers", NULL, "what one mount changed is to the others as the host's",
	 .flag = &set.separate, .is = true},
	{"own-late-ms", "N", "what a mount changed may show in itself so much later: 0",
	 .number = &opt.own_late_ms},
	{"late-ms", "N", "what one mount changed may show in the others so much later: 0",
	 .number = &opt.late_ms},
	{"settle-ms", "N", "what the host changed shows after so long: 10000",
	 .number = &opt.settle_ms},
	{"keep", NULL, "the files stay", .flag = &opt.keep, .is = true},
	{"stop", NULL, "end at the first impossible state", .flag = &opt.stop_at_first, .is = true},
	{0},
};

static const struct options options = {
	.usage = "HOST MOUNT...",
	.row = rows,
	.exit_codes = "0 nothing impossible, 1 something",
};

static void parse(int argc, char **argv)
{
	int first = options_parse(&options, argc, argv);

	if (argc - first < 2 || argc - first > PLACES_MAX || opt.load > WORKERS_MAX)
		options_wrong(&options);
	set.places = (unsigned)(argc - first);
	for (unsigned i = 0; i < set.places; i++) {
		if (realpath(argv[first + (int)i], place[i]) == NULL)
			err(3, "%s", argv[first + (int)i]);
		set.place[i] = place[i];
	}
	set.seed = opt.seed;
	set.own_late_ns = opt.own_late_ms * UINT64_C(1000000);
	set.late_ns = opt.late_ms * UINT64_C(1000000);
	set.settle_ns = opt.settle_ms * UINT64_C(1000000);
}

int main(int argc, char **argv)
{
	parse(argc, argv);
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
