#include "core/mountinfo.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FIELD_DEVICE = 2, FIELD_PATH = 4, FIELD_OPTIONS = 5 };

static bool octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Undoes the kernel's escapes, a backslash and three digits each (mangle_path), in place. */
static void unescape(char *p)
{
	char *to = p;

	while (*p != '\0') {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && octal(p[2]) && octal(p[3])) {
			*to++ = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 4;
		} else {
			*to++ = *p++;
		}
	}
	*to = '\0';
}

/* The type follows a "-" behind any number of optional fields. Cuts m->words up. */
static bool parse(struct mountinfo *m)
{
	bool optional_over = false;
	char *save = NULL, *path = NULL;
	int n = 0;

	m->type = NULL;
	for (char *w = strtok_r(m->words, " \n", &save); w != NULL;
	     w = strtok_r(NULL, " \n", &save), n++) {
		m->fs_options = w; /* the last word; the source before it may be empty */
		if (n == FIELD_DEVICE)
			m->device = w;
		else if (n == FIELD_PATH)
			path = w;
		else if (n == FIELD_OPTIONS)
			m->options = w;
		else if (optional_over && m->type == NULL)
			m->type = w;
		else if (n > FIELD_OPTIONS && !optional_over)
			optional_over = strcmp(w, "-") == 0;
	}
	if (m->type == NULL)
		return false;
	unescape(path);
	m->path = path;
	return true;
}

struct mountinfo mountinfo_open(const char *file)
{
	struct mountinfo m = {.file = fopen(file, "re")};

	m.error = m.file == NULL ? errno : 0;
	return m;
}

int mountinfo_next(struct mountinfo *m)
{
	while (m->error == 0) {
		errno = 0; /* remains 0 at the end of the file */
		if (getline(&m->line, &m->size, m->file) < 0)
			return -errno;
		free(m->words);
		m->words = strdup(m->line);
		if (m->words == NULL)
			return -ENOMEM;
		if (parse(m))
			return 1;
	}
	return -m->error;
}

void mountinfo_close(struct mountinfo *m)
{
	if (m->file != NULL)
		(void)fclose(m->file);
	free(m->line);
	free(m->words);
}
