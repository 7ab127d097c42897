/*
 * torture: one directory on the host, mounts of it, and everybody at work in all of them.
 *
 * Writers on the host and in the mounts change a few hundred names at random, readers look at them
 * through the mounts, so that all caches are full. Then the writers pause ("checkpoint"), the
 * mounts are given the time or the fence that is promised, and everything that is seen through each
 * mount is compared with the host, which is the oracle.
 *
 * Changes and looks meet on ten names per round, which are others in the next: a stale answer shows
 * only when nothing repairs it before the checkpoint.
 */
#include "actor.h"
#include "child.h"
#include "fence.h"
#include "options.h"
#include "view.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS_MAX    64
#define STUCK_S	       120 /* no step takes so long but when somebody hangs */
#define QUIET_BOUND_NS UINT64_C(2000000000)

enum settle { SETTLE_NONE, SETTLE_FENCE, SETTLE_QUIET, SETTLE_WAIT };

static struct {
	unsigned long seed, seconds, checkpoints, ops, host_writers, readers, full_every, mounts,
		wait_ms;
	enum settle settle[2]; /* taken in turn */
	bool guest_writers, stop_at_first;
} opt = {
	.seed = 1,
	.seconds = 20,
	.ops = 60,
	.host_writers = 2,
	.readers = 2,
	.full_every = 4,
	.mounts = PLACES_MAX - 1,
	.settle = {SETTLE_FENCE, SETTLE_QUIET},
};

static struct settings set = {.mappings = true,
			      .opened = true,
			      .instant = true,
			      .owners = true,
			      .links = true,
			      .removed = true,
			      .git = true};
static struct world *world;
static pid_t worker[WORKERS_MAX];
static unsigned workers, writers;

/* How long it took until nothing differed, in rounds without a fence. */
static struct {
	unsigned rounds, waited;
	uint64_t longest_ns;
} quiet;

static struct {
	unsigned long observed, differing, checkpoints, fenced;
} sum;

/* ---- workers --------------------------------------------------------------------------------- */

static _Noreturn void give_up(const char *why)
{
	printf("torture: %s\n", why);
	for (unsigned i = 0; i < workers; i++)
		(void)kill(worker[i], SIGKILL);
	exit(3);
}

/* True in a new worker. */
static bool start(void)
{
	if (workers == WORKERS_MAX)
		give_up("too many workers");
	pid_t pid = child_fork();

	if (pid == 0)
		return true;
	worker[workers++] = pid;
	return false;
}

static void start_all(void)
{
	for (unsigned long i = 0; i < opt.host_writers; i++)
		if (start())
			writer_main(world, workers, 0);
	for (unsigned p = 1; p < set.places && opt.guest_writers; p++)
		if (start())
			writer_main(world, workers, p);
	writers = workers;
	for (unsigned p = 1; p < set.places; p++)
		for (unsigned long i = 0; i < opt.readers; i++)
			if (start())
				reader_main(world, workers, p, (unsigned)i, (unsigned)opt.readers);
}

static void await(unsigned count)
{
	for (unsigned s = 0; !world_all_arrived(world, count, 1000); s++) {
		int status;

		if (waitpid(-1, &status, WNOHANG) > 0)
			give_up(WIFSIGNALED(status) ? strsignal(WTERMSIG(status))
						    : "a worker ended");
		if (s == STUCK_S)
			give_up("a worker is stuck");
	}
}

/* ---- a round --------------------------------------------------------------------------------- */

static void fence(void)
{
	for (unsigned p = 1; p < set.places; p++) {
		if (fence_mount(set.place[p]) < 0) {
			printf("torture: %s: no fence: %s\n", set.place[p], strerror(errno));
			give_up("no fence; --settle says what to do without one");
		}
	}
	sum.fenced++;
}

/* The TTL's promise is about time, so nothing but time can be waited for. */
static void wait_out(void)
{
	struct timespec ts = {(time_t)(opt.wait_ms / 1000), (long)(opt.wait_ms % 1000) * 1000000};

	while (nanosleep(&ts, &ts) != 0)
		;
}

/* Compares; returns the number of differences. */
static unsigned long check(bool final)
{
	struct tally *t = world_tally(world);

	world_round(world)->final = final;
	atomic_store(&t->observed, 0);
	atomic_store(&t->differing, 0);
	world_begin(world, PHASE_CHECK);
	await(workers);
	return atomic_load(&t->differing);
}

static void check_until_equal(void)
{
	uint64_t start = now_ns(), waited = 0;

	quiet.rounds++;
	if (check(false) != 0) {
		quiet.waited++;
		while (check(false) != 0 && waited < QUIET_BOUND_NS)
			waited = now_ns() - start;
		waited = now_ns() - start;
		if (waited > quiet.longest_ns)
			quiet.longest_ns = waited;
		if (waited >= QUIET_BOUND_NS)
			(void)check(true);
	}
}

static void one_round(unsigned number, struct prng *rng)
{
	struct round *r = world_round(world);
	struct tally *t = world_tally(world);
	enum settle settle = opt.settle[number % 2];
	/* Both orders: what readers do after the last change is cached as well. */
	bool readers_first = prng_below(rng, 2);

	r->number = number;
	r->seed = prng_next(rng);
	r->ops = 1 + (unsigned)prng_below(rng, opt.ops);
	r->full = number % opt.full_every == 0;
	atomic_store(&r->reading, true);
	world_begin(world, PHASE_RUN);
	await(writers);
	if (readers_first) {
		atomic_store(&r->reading, false);
		await(workers);
	}
	if (settle == SETTLE_FENCE)
		fence();
	else if (settle == SETTLE_WAIT)
		wait_out();
	atomic_store(&r->reading, false);
	await(workers);
	if (settle == SETTLE_QUIET)
		check_until_equal();
	else
		(void)check(true);
	sum.observed += atomic_load(&t->observed);
	sum.differing += atomic_load(&t->differing);
	sum.checkpoints++;
}

static unsigned long differences(void)
{
	struct tally *t = world_tally(world);

	return sum.differing + atomic_load(&t->instant_differing) + atomic_load(&t->errors);
}

static void run(void)
{
	struct prng rng = {opt.seed};
	uint64_t end = now_ns() + opt.seconds * UINT64_C(1000000000);

	for (unsigned n = 0; opt.checkpoints > 0 ? n < opt.checkpoints : now_ns() < end; n++) {
		one_round(n, &rng);
		if (differences() > (opt.stop_at_first ? 0 : 1000))
			break;
	}
	world_begin(world, PHASE_END);
	for (unsigned i = 0; i < workers; i++)
		(void)waitpid(worker[i], NULL, 0);
}

/* ---- options --------------------------------------------------------------------------------- */

static enum settle settle_of(const char *text)
{
	if (strcmp(text, "fence") == 0)
		return SETTLE_FENCE;
	if (strcmp(text, "quiet") == 0)
		return SETTLE_QUIET;
	if (strcmp(text, "none") == 0)
		return SETTLE_NONE;
	if (strncmp(text, "wait:", 5) != 0)
		errx(2, "--settle: '%s'?", text);
	opt.wait_ms = options_number(text + 5);
	return SETTLE_WAIT;
}

static void set_settle(char *text)
{
	char *comma = strchr(text, ',');

	if (comma != NULL)
		*comma = '\0';
	opt.settle[0] = settle_of(text);
	opt.settle[1] = comma != NULL ? settle_of(comma + 1) : opt.settle[0];
}

/* A server without pushes. */
static void set_ttl(char *none)
{
	(void)none;
	set.mappings = set.opened = set.instant = false;
}

static const struct option_row rows[] = {
	{"seed", "N", "1", .number = &opt.seed},
	{"seconds", "S", "20", .number = &opt.seconds},
	{"checkpoints", "N", "instead of --seconds", .number = &opt.checkpoints},
	{"ops-per-round", "N", "at most so many operations of each writer between checkpoints: 60",
	 .number = &opt.ops},
	{"mounts", "N", "use the first N mounts only", .number = &opt.mounts},
	{"host-writers", "N", "2", .number = &opt.host_writers},
	{"guest-writers", NULL, "a writer in each mount too", .flag = &opt.guest_writers,
	 .is = true},
	{"readers", "N", "in each mount: 2", .number = &opt.readers},
	{"full-every", "N", "compare all names in every Nth round, and the hot ones in each: 4",
	 .number = &opt.full_every},
	{"settle", "WHAT[,WHAT]",
	 "before comparing: fence, quiet (compare until equal, for at most\n"
	 "2 s), wait:MS, none; two are taken in turn: fence,quiet",
	 .take = set_settle},
	{"no-mappings", NULL, "what a mapping shows that was made before is not compared",
	 .flag = &set.mappings},
	{"separate-servers", NULL, "what one mount changed need not show in the others at once",
	 .flag = &set.instant},
	{"ttl", NULL,
	 "a server without pushes: both, and what a file shows that was opened\n"
	 "before is not compared",
	 .take = set_ttl},
	{"own-late-ms", "N", "what a mount changed may show in itself so much later: 0",
	 .number = &set.own_late_ms},
	{"late-ms", "N", "what one mount changed may show in the others so much later: 0",
	 .number = &set.late_ms},
	{"any-owner", NULL, "uid and gid are not compared", .flag = &set.owners},
	{"any-links", NULL,
	 "a file's ctime is not compared, nor its link count where it has, or\n"
	 "had, more names than one (a server that watches by directory)",
	 .flag = &set.links},
	{"no-open", NULL,
	 "a file may be gone (ESTALE) that the host removed when it was open, and\n"
	 "empty or not read yet (the mount option no_open)",
	 .flag = &set.removed},
	{"no-git", NULL, "no checkout on the host", .flag = &set.git},
	{"stop", NULL, "end at the first difference", .flag = &opt.stop_at_first, .is = true},
	{0},
};

static const struct options options = {
	.usage = "HOST MOUNT...",
	.row = rows,
	.exit_codes = "0 no difference, 1 differences",
};

/* The index of the first place. */
static int parse(int argc, char **argv)
{
	int first = options_parse(&options, argc, argv);

	set.places = (unsigned)(argc - first);
	if (set.places > opt.mounts + 1)
		set.places = (unsigned)opt.mounts + 1;
	if (set.places < 2 || set.places > PLACES_MAX || opt.ops == 0 || opt.full_every == 0 ||
	    opt.readers == 0)
		options_wrong(&options);
	return first;
}

int main(int argc, char **argv)
{
	int first = parse(argc, argv);

	for (unsigned i = 0; i < set.places; i++)
		set.place[i] = argv[first + (int)i];
	set.seed = opt.seed;
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	world = world_new(&set);
	if (set.git)
		make_repository(set.place[0]);
	start_all();
	run();

	const struct tally *t = world_tally(world);
	printf("changes: %lu on the host, %lu in the mounts; looks: %lu; ESTALE: %lu; errors: %lu\n",
	       atomic_load(&t->host_changes), atomic_load(&t->guest_changes),
	       atomic_load(&t->looks), atomic_load(&t->estale), atomic_load(&t->errors));
	printf("checkpoints: %lu; fenced: %lu; without a fence: %u, of which %u not equal at once, "
	       "longest until equal %.1f ms\n",
	       sum.checkpoints, sum.fenced, quiet.rounds, quiet.waited,
	       (double)quiet.longest_ns / 1e6);
	printf("at once: %lu facts, %lu times late, longest %.1f ms\n", atomic_load(&t->instant),
	       atomic_load(&t->late), (double)atomic_load(&t->latest_us) / 1e3);
	printf("%lu observations, %lu differences\n", sum.observed + atomic_load(&t->instant),
	       differences());
	return differences() > 0;
}
