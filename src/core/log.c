#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
	char program[32];
	atomic_int level;
	bool journal;
	atomic_bool syslog; /* set while other threads log */
} log_state = {.program = "vsockfs", .level = LOG_NOTICE};

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

void log_line(int level, const char *fmt, ...)
{
	int saved = errno;
	char line[2048];
	int at = 0;
	va_list ap;

	if (level > log_state.level)
		return;
	if (log_state.journal)
		at = snprintf(line, sizeof(line), "<%d>", level);
	if (!log_state.syslog)
		at += snprintf(line + at, sizeof(line) - (size_t)at, "%s: ", log_state.program);
	errno = saved; /* for %m */
	va_start(ap, fmt);
	int n = vsnprintf(line + at, sizeof(line) - (size_t)at, fmt, ap);
	va_end(ap);
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
		errno = saved;
		return;
	}
	line[at++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)at) < 0) {
		/* there is no other place to log to */
	}
	errno = saved;
}
