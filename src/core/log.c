#include "core/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct {
	char program[32];
	atomic_int level;
	bool journal;
	atomic_bool syslog; /* set while other threads log */
} log_state = {.program = "vsockfs", .level = LOG_NOTICE};

/* A token for each line (a bucket, which fills again). */
static struct {
	pthread_mutex_t mutex;
	uint64_t at; /* ns, when it was looked at last */
	uint64_t tokens, left_out;
} bucket = {.mutex = PTHREAD_MUTEX_INITIALIZER, .tokens = LOG_BURST};

static uint64_t now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Whether a line may be written; *ret_left_out: how many could not since the last one. */
static bool take_token(uint64_t *ret_left_out)
{
	const uint64_t each = UINT64_C(1000000000) / LOG_RATE;
	uint64_t t = now(), fresh;

	(void)pthread_mutex_lock(&bucket.mutex);
	fresh = (t - bucket.at) / each;
	if (fresh > 0) {
		bucket.at = t;
		bucket.tokens =
			bucket.tokens + fresh < LOG_BURST ? bucket.tokens + fresh : LOG_BURST;
	}
	bool may = bucket.tokens > 0;
	if (may) {
		bucket.tokens--;
		*ret_left_out = bucket.left_out;
		bucket.left_out = 0;
	} else {
		bucket.left_out++;
	}
	(void)pthread_mutex_unlock(&bucket.mutex);
	return may;
}

static bool stderr_is_journal(void)
{
	const char *env = getenv("JOURNAL_STREAM");
	struct stat st;
	unsigned long long dev, ino;

	return env != NULL && sscanf(env, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_init(const char *program, int level)
{
	(void)snprintf(log_state.program, sizeof(log_state.program), "%s", program);
	log_state.level = level;
	log_state.journal = stderr_is_journal();
}

void log_to_syslog(void)
{
	if (log_state.journal)
		return;
	openlog(log_state.program, LOG_PID, LOG_DAEMON);
	log_state.syslog = true;
}

bool log_is_journal(void)
{
	return log_state.journal;
}

void log_set_level(int level)
{
	log_state.level = level;
}

int log_level(void)
{
	return log_state.level;
}

int log_level_parse(const char *text)
{
	static const struct {
		const char *name;
		int level;
	} names[] = {
		{"error", LOG_ERR}, {"3", LOG_ERR},	    {"warning", LOG_WARNING},
		{"4", LOG_WARNING}, {"notice", LOG_NOTICE}, {"5", LOG_NOTICE},
		{"info", LOG_INFO}, {"6", LOG_INFO},	    {"debug", LOG_DEBUG},
		{"7", LOG_DEBUG},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(text, names[i].name) == 0)
			return names[i].level;
	return -1;
}

static void write_line(int level, const char *fmt, va_list ap, int saved)
{
	char line[2048];
	int at = 0;

	if (log_state.journal)
		at = snprintf(line, sizeof(line), "<%d>", level);
	if (!log_state.syslog)
		at += snprintf(line + at, sizeof(line) - (size_t)at, "%s: ", log_state.program);
	errno = saved; /* for %m */
	int n = vsnprintf(line + at, sizeof(line) - (size_t)at, fmt, ap);
	if (n > 0)
		at += n;
	if ((size_t)at > sizeof(line) - 2)
		at = (int)sizeof(line) - 2;
	/* One message stays one line, whatever bytes a name from the peer has. */
	for (int i = 0; i < at; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = '?';
	if (log_state.syslog) {
		syslog(level, "%.*s", at, line);
		return;
	}
	line[at++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)at) < 0) {
		/* there is no other place to log to */
	}
}

static void write_text(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void write_text(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_line(level, fmt, ap, 0);
	va_end(ap);
}

void log_line(int level, const char *fmt, ...)
{
	int saved = errno;
	uint64_t left_out = 0;
	va_list ap;

	if (level > log_state.level)
		return;
	if (log_state.level < LOG_DEBUG && !take_token(&left_out)) {
		errno = saved;
		return;
	}
	if (left_out > 0)
		write_text(LOG_WARNING, "%llu lines were left out of this log",
			   (unsigned long long)left_out);
	va_start(ap, fmt);
	write_line(level, fmt, ap, saved);
	va_end(ap);
	errno = saved;
}
