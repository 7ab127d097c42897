/*
 * --top: which process asks for what. On a terminal it fills the screen and
 * takes keys; elsewhere it writes one table per interval.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "figure.h"
#include "views.h"

struct row {
	uint32_t pid, uid;
	char command[16];
	uint64_t requests, reads, writes, lookups, rpcs, bytes, time;
};

/* ---- rows ---- */

/* The process of a task: threads are counted together while their process lives. */
static uint32_t process_of(uint32_t task)
{
	char path[40], line[256];
	unsigned long pid = task;

	(void)snprintf(path, sizeof(path), "/proc/%" PRIu32 "/status", task);
	FILE *f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Tgid: %lu", &pid) == 1)
			break;
	if (f != NULL)
		(void)fclose(f);
	return (uint32_t)pid;
}

static const struct stats_process *same_task(const struct snapshot *before,
					     const struct stats_process *p, uint32_t i)
{
	struct rows r = {0};

	if (before != NULL)
		r = snapshot_rows(before, "process", sizeof(*p));
	const struct stats_process *old = i < r.count ? rows_at(&r, i) : NULL;
	return old != NULL && old->pid == p->pid && old->requests <= p->requests ? old : NULL;
}

static void add(struct row *to, const struct stats_process *a, const struct stats_process *b)
{
#define SINCE(field) (b->field - (a != NULL ? a->field : 0))
	to->requests += SINCE(requests);
	to->reads += SINCE(reads);
	to->writes += SINCE(writes);
	to->lookups += SINCE(lookups);
	to->rpcs += SINCE(rpcs);
	to->bytes += SINCE(bytes_read) + SINCE(bytes_written);
	to->time += SINCE(time);
#undef SINCE
}

/* Fills rows, STATS_PROCESSES of them at most; returns how many. */
static size_t gather(const struct snapshot *before, const struct snapshot *now, struct row *rows)
{
	struct rows all = snapshot_rows(now, "process", sizeof(struct stats_process));
	size_t n = 0;

	for (uint32_t i = 0; i < all.count && n < STATS_PROCESSES; i++) {
		const struct stats_process *p = rows_at(&all, i);
		const struct stats_process *old = same_task(before, p, i);
		size_t at = 0;

		if (p->pid == 0 || p->requests == (old != NULL ? old->requests : 0))
			continue;
		uint32_t pid = process_of(p->pid);
		while (at < n && rows[at].pid != pid)
			at++;
		if (at == n) {
			char noted[sizeof(p->comm) + 1] = "";

			memcpy(noted, p->comm, sizeof(p->comm));
			rows[n] = (struct row){.pid = pid, .uid = p->uid};
			/* a thread's name may be its own: the process tells its name while it lives
			 */
			command_name(pid, pid == p->pid ? noted : "", rows[n].command,
				     sizeof(rows[n].command));
			n++;
		}
		add(&rows[at], old, p);
	}
	return n;
}

/* ---- order ---- */

static const struct {
	char key;
	const char *head;
} sorts[] = {{'t', "time"},  {'o', "ops"},   {'r', "reads"}, {'w', "writes"}, {'l', "look-ups"},
	     {'h', "trips"}, {'b', "bytes"}, {'p', "pid"},   {'c', "command"}};
#define SORTS (sizeof(sorts) / sizeof(sorts[0]))

static int by_number(uint64_t a, uint64_t b)
{
	return a > b ? -1 : a < b;
}

static int compare(const void *pa, const void *pb, void *key)
{
	const struct row *a = pa, *b = pb;
	int c = 0;

	switch (*(const char *)key) {
	case 't':
		c = by_number(a->time, b->time);
		break;
	case 'o':
		c = by_number(a->requests, b->requests);
		break;
	case 'r':
		c = by_number(a->reads, b->reads);
		break;
	case 'w':
		c = by_number(a->writes, b->writes);
		break;
	case 'l':
		c = by_number(a->lookups, b->lookups);
		break;
	case 'h':
		c = by_number(a->rpcs, b->rpcs);
		break;
	case 'b':
		c = by_number(a->bytes, b->bytes);
		break;
	case 'c':
		c = strcmp(a->command, b->command);
		break;
	default:
		break;
	}
	return c != 0 ? c : a->pid < b->pid ? -1 : a->pid > b->pid;
}

/* ---- showing ---- */

static void print_rows(FILE *f, const struct snapshot *before, const struct snapshot *now,
		       char sort, size_t most, const char *end)
{
	static struct row rows[STATS_PROCESSES];
	size_t n = gather(before, now, rows);

	qsort_r(rows, n, sizeof(rows[0]), compare, &sort);
	(void)fprintf(f, "%7s %-15s%7s%8s%8s%9s%7s%7s%7s%s", "pid", "command", "ops", "reads",
		      "writes", "look-ups", "trips", "bytes", "time", end);
	for (size_t i = 0; i < n && i < most; i++) {
		const struct row *w = &rows[i];
		char b[7][FIGURE_MAX];

		(void)fprintf(
			f, "%7" PRIu32 " %-15s%7s%8s%8s%9s%7s%7s%7s%s", w->pid, w->command,
			figure_count((double)w->requests, b[0]),
			figure_count((double)w->reads, b[1]), figure_count((double)w->writes, b[2]),
			figure_count((double)w->lookups, b[3]), figure_count((double)w->rpcs, b[4]),
			figure_bytes((double)w->bytes, b[5]), figure_time(w->time, b[6]), end);
	}
}

/* ---- the terminal ---- */

static volatile sig_atomic_t ended;
static struct termios saved;

static void on_end(int sig)
{
	ended = sig;
}

#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"

static void put(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		ended = SIGHUP;
}

static void screen_leave(void)
{
	put(SCREEN_LEAVE);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}

/* A crash, or a stop by ^Z, must not leave the terminal as it is now. */
static void on_crash(int sig)
{
	screen_leave();
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

static void screen_enter(void)
{
	struct sigaction sa = {.sa_handler = on_end};
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP};
	static const int crashes[] = {SIGSEGV, SIGBUS, SIGABRT};
	struct termios raw = saved;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		(void)sigaction(ends[i], &sa, NULL);
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		(void)signal(crashes[i], on_crash);
	sa.sa_handler = SIG_IGN;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	put(SCREEN_ENTER);
}

static void draw(const struct snapshot *before, const struct snapshot *now, char sort)
{
	struct winsize w = {.ws_row = 24, .ws_col = 80};
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		return;
	(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &w);
	(void)fputs("\033[H", f);
	(void)fprintf(f, "%s: %s, sorted by %s\033[K\n", snapshot_text(now, "mount.point"),
		      daemon_state_name(snapshot_daemon(now)), ({
			      const char *name = "";
			      for (size_t i = 0; i < SORTS; i++)
				      if (sorts[i].key == sort)
					      name = sorts[i].head;
			      name;
		      }));
	(void)fputs("keys: t time, o ops, r reads, w writes, l look-ups, h trips, b bytes, "
		    "q quit\033[K\n",
		    f);
	print_rows(f, before, now, sort, w.ws_row > 5 ? w.ws_row - 4u : 1, "\033[K\n");
	(void)fputs("\033[J", f);
	(void)fclose(f);
	put(text);
	free(text);
}

/* The key that came within ms; 0: none. */
static char wait_key(int ms)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	char key = 0;

	if (poll(&p, 1, ms) <= 0)
		return 0;
	return read(STDIN_FILENO, &key, 1) == 1 ? key : 'q';
}

static int full_screen(struct segment *g, const struct repeat *r)
{
	struct snapshot *before = NULL, *now = segment_take(g);
	int ms = r->interval > 0 ? (int)(r->interval * 1000) : 1000;
	char sort = 't';
	unsigned long n = 0;

	screen_enter();
	while (now != NULL && !ended) {
		draw(before, now, sort);
		char key = wait_key(ms);
		if (key == 'q' || (r->count > 0 && ++n >= r->count))
			break;
		for (size_t i = 0; i < SORTS; i++)
			if (sorts[i].key == key)
				sort = key;
		if (key != 0)
			continue; /* the same figures in another order */
		snapshot_free(before);
		before = now;
		now = segment_take(g);
	}
	screen_leave();
	snapshot_free(before);
	snapshot_free(now);
	if (ended != 0 && ended != SIGTSTP) {
		(void)signal(ended, SIG_DFL);
		(void)raise(ended);
	}
	return 0;
}

static void plain_text(const struct snapshot *before, const struct snapshot *now, unsigned long n)
{
	if (n > 0)
		(void)putchar('\n');
	print_rows(stdout, before, now, 't', STATS_PROCESSES, "\n");
	if (before == NULL)
		report_notes(stdout, output_width(stdout), now);
}

int view_top(struct segment *g, const struct repeat *r)
{
	if (isatty(STDOUT_FILENO) && tcgetattr(STDIN_FILENO, &saved) == 0)
		return full_screen(g, r);
	return repeat_view(g, r, plain_text);
}
