/*
 * Log lines to stderr, with a syslog priority prefix when stderr is the
 * journal (JOURNAL_STREAM of systemd.exec(5)).
 *
 * The program's name is process-wide and set once, before any thread starts.
 * log_line is safe from every thread and writes one line with one write(2).
 * Libraries log at LOG_DEBUG only; the function that handles an error logs it,
 * once. log_line never touches errno.
 */
#pragma once

#include <stdbool.h>
#include <syslog.h>

/* level: LOG_ERR (3), LOG_WARNING, LOG_NOTICE, LOG_INFO or LOG_DEBUG (7). */
void log_init(const char *program, int level);
int log_level(void);
void log_set_level(int level); /* any thread, at any time */

/*
 * From here on lines go to syslog(3) instead of stderr, unless stderr is the journal:
 * for a daemon that lets go of its terminal.
 */
void log_to_syslog(void);
bool log_is_journal(void);

/* The level of "error", "warning", "notice", "info", "debug" or a number; -1 for any other text. */
int log_level_parse(const char *text);

/*
 * Lines are bounded, for a peer can cause them: after LOG_BURST at once, LOG_RATE in a second, and
 * one that tells how many were left out. At LOG_DEBUG all are written.
 */
#define LOG_BURST 400
#define LOG_RATE  20
void log_line(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...)	 log_line(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)	 log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_level() >= LOG_DEBUG)                                                      \
			log_line(LOG_DEBUG, __VA_ARGS__);                                          \
	} while (0)
