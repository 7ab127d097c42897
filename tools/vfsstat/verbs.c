#include "verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "figure.h"

static int fail(const char *place, const char *why)
{
	(void)fprintf(stderr, "vfsstat: %s: %s\n", place, why);
	return -1;
}

/* A stream to the control socket, or NULL after having said why not. */
static FILE *dial(const struct segment *g)
{
	struct segment *writable = (struct segment *)(uintptr_t)g;
	struct snapshot *s = segment_take(writable);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	FILE *f = NULL;

	if (s == NULL)
		return NULL;
	const char *place = snapshot_text(s, "mount.point"),
		   *path = snapshot_text(s, "mount.control");
	enum daemon_state d = snapshot_daemon(s);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!snapshot_is_mount(s))
		(void)fail(snapshot_text(s, "server.directory"), "a server takes no commands");
	else if (d >= DAEMON_ENDED)
		(void)fail(place, "the daemon is gone");
	else if (d == DAEMON_STOPPED)
		(void)fail(place, "the daemon is stopped: it would not answer");
	else if (path[0] == '\0' ||
		 (size_t)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path) >= sizeof(a.sun_path))
		(void)fail(place, "it has no control socket");
	else if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		(void)fail(place, errno == EACCES
					  ? "only root and the owner of the mount may do this"
					  : strerror(errno));
	else
		f = fdopen(fd, "r+");
	if (f == NULL)
		cleanup_close(&fd);
	snapshot_free(s);
	return f;
}

/* Reads up to "ok" or "error ..."; each line before goes to use. */
static int answer(FILE *f, void (*use)(char *line))
{
	char *line = NULL;
	size_t cap = 0;
	int result = 2;

	while (result == 2 && getline(&line, &cap, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "ok") == 0) {
			result = 0;
		} else if (strncmp(line, "error ", 6) == 0) {
			(void)fprintf(stderr, "vfsstat: %s\n", line + 6);
			result = 1;
		} else {
			use(line);
		}
	}
	free(line);
	if (result == 2) {
		(void)fprintf(stderr, "vfsstat: the daemon hung up\n");
		result = 1;
	}
	return result;
}

static void show(char *line)
{
	(void)puts(line);
}

int control_ask(const struct segment *g, const char *request)
{
	FILE *f = dial(g);

	if (f == NULL)
		return 1;
	int r = 1;
	if (fprintf(f, "%s\n", request) > 0 && fflush(f) == 0)
		r = answer(f, show);
	(void)fclose(f);
	return fflush(stdout) == 0 ? r : 1;
}

int control_escape(const char *path, char *buf, size_t len)
{
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)path; *p != '\0'; p++) {
		bool plain = *p > ' ' && *p < 0x7f && *p != '%';

		if (n + 4 > len)
			return -ENAMETOOLONG;
		if (plain)
			buf[n++] = (char)*p;
		else
			n += (size_t)snprintf(buf + n, len - n, "%%%02X", *p);
	}
	buf[n] = '\0';
	return 0;
}

/* ---- --slow ---- */

/* time uid pid op path err ns wait rtt trips; ns all but the first, CLOCK_REALTIME, too. */
static void show_slow(char *line)
{
	uint64_t when, ns, wait, rtt;
	uint32_t uid, pid, trips;
	int err, at = 0;
	char op[24], total[FIGURE_MAX], queue[FIGURE_MAX], host[FIGURE_MAX], here[FIGURE_MAX];

	if (sscanf(line,
		   "%" SCNu64 " %" SCNu32 " %" SCNu32 " %23s %d %" SCNu64 " %" SCNu64 " %" SCNu64
		   " %" SCNu32 " %n",
		   &when, &uid, &pid, op, &err, &ns, &wait, &rtt, &trips, &at) != 9)
		return;
	time_t sec = (time_t)(when / 1000000000);
	struct tm tm;
	char clock[16] = "";
	if (localtime_r(&sec, &tm) != NULL)
		(void)strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	const char *result = err == 0 ? "ok" : strerrorname_np(err);
	uint64_t rest = ns > wait + rtt ? ns - wait - rtt : 0;
	(void)printf(
		"%s.%03u %5" PRIu32 " %7" PRIu32 " %-12s %-7s %5s %5s %5s %5s %2" PRIu32 " %s\n",
		clock, (unsigned)(when / 1000000 % 1000), uid, pid, op,
		result != NULL ? result : "?", figure_time(ns, total), figure_time(wait, queue),
		figure_time(rtt, host), figure_time(rest, here), trips, line + at);
	(void)fflush(stdout);
	if (ferror(stdout))
		exit(1);
}

int control_slow(const struct segment *g, double ms)
{
	FILE *f = dial(g);

	if (f == NULL)
		return 1;
	(void)printf("%-12s %5s %7s %-12s %-7s %5s %5s %5s %5s %2s %s\n", "time", "uid", "pid",
		     "operation", "result", "total", "queue", "host", "here", "rt", "path");
	(void)fflush(stdout);
	int r = 1;
	if (fprintf(f, "watch %.0f\n", ms * 1e6) > 0 && fflush(f) == 0)
		r = answer(f, show_slow);
	(void)fclose(f);
	return r;
}
