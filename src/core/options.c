#include "core/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static int refuse(char *err, size_t err_len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(char *err, size_t err_len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err, err_len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Digits of the given base; false if there are none, too many, or something follows. */
static bool parse_number(const char *text, unsigned base, const char **rest, uint64_t *ret)
{
	uint64_t v = 0;
	const char *p = text;

	for (; *p >= '0' && (unsigned)(*p - '0') < base; p++)
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return false;
	*rest = p;
	*ret = v;
	return p != text;
}

static bool parse_seconds(const char *text, uint64_t *ret)
{
	const char *p;
	uint64_t v, unit = 1000000000;

	if (!parse_number(text, 10, &p, &v) || __builtin_mul_overflow(v, unit, &v))
		return false;
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9'; p++) {
			unit /= 10;
			if (__builtin_add_overflow(v, unit * (uint64_t)(*p - '0'), &v))
				return false;
		}
	}
	*ret = v;
	return *p == '\0';
}

static bool parse_size(const char *text, uint64_t *ret)
{
	const char *p;
	uint64_t unit = 1;

	if (!parse_number(text, 10, &p, ret))
		return false;
	switch (*p) {
	case 'k':
	case 'K':
		unit = 1u << 10;
		break;
	case 'm':
	case 'M':
		unit = 1u << 20;
		break;
	case 'g':
	case 'G':
		unit = 1u << 30;
		break;
	default:
		break;
	}
	p += unit != 1;
	return *p == '\0' && !__builtin_mul_overflow(*ret, unit, ret);
}

/* The index of value in "a|b|c", -1 if value is not in the list. */
static int choice(const char *values, const char *value)
{
	size_t len = strlen(value);
	int i = 0;

	for (const char *p = values;; i++) {
		size_t n = strcspn(p, "|");

		if (n == len && strncmp(p, value, n) == 0)
			return i;
		if (p[n] == '\0')
			return -1;
		p += n + 1;
	}
}

int option_set(const struct option_spec *spec, const char *value, void *into, char *err,
	       size_t err_len)
{
	void *at = (char *)into + spec->offset;
	const char *rest;
	uint64_t v = 0;
	bool ok = true;
	int index;

	if (spec->kind == OPTION_ON || spec->kind == OPTION_OFF) {
		if (value != NULL)
			return refuse(err, err_len, "option %s takes no value, not '%s'",
				      spec->name, value);
		*(bool *)at = spec->kind == OPTION_ON;
		return 0;
	}
	if (value == NULL || *value == '\0')
		return refuse(err, err_len, "option %s needs a value: %s", spec->name,
			      spec->values);
	switch (spec->kind) {
	case OPTION_SECONDS:
		ok = parse_seconds(value, &v);
		break;
	case OPTION_SIZE:
		ok = parse_size(value, &v);
		break;
	case OPTION_NUMBER:
		ok = parse_number(value, 10, &rest, &v) && *rest == '\0';
		break;
	case OPTION_OCTAL:
		ok = parse_number(value, 8, &rest, &v) && *rest == '\0';
		break;
	case OPTION_TEXT:
		*(const char **)at = value;
		return 0;
	case OPTION_CHOICE:
		index = choice(spec->values, value);
		if (index < 0) {
			(void)snprintf(err, err_len, "option %s is one of %s, not '%s'", spec->name,
				       spec->values, value);
			return -EINVAL;
		}
		*(int *)at = index;
		return 0;
	case OPTION_ON:
	case OPTION_OFF:
		break;
	}
	if (!ok || v > spec->max)
		return refuse(err, err_len, "option %s: '%s' is no number, or out of range",
			      spec->name, value);
	*(uint64_t *)at = v;
	return 0;
}

/* Ends the option at p in place, undoing the escapes; returns the next one or NULL. */
static char *cut(char *p)
{
	char *to = p;

	for (; *p != '\0' && *p != ','; p++) {
		if (*p == '\\' && (p[1] == ',' || p[1] == '\\'))
			p++;
		*to++ = *p;
	}
	char *next = *p == ',' ? p + 1 : NULL;
	*to = '\0';
	return next;
}

void option_show(const struct option_spec *spec, const void *from, char *buf, size_t len)
{
	const void *at = (const char *)from + spec->offset;

	if (spec->kind == OPTION_CHOICE) {
		const char *p = spec->values;

		for (int i = *(const int *)at; i > 0 && strchr(p, '|') != NULL; i--)
			p = strchr(p, '|') + 1;
		(void)snprintf(buf, len, "%.*s", (int)strcspn(p, "|"), p);
		return;
	}
	uint64_t v = *(const uint64_t *)at;
	int n = snprintf(buf, len, "%llu",
			 (unsigned long long)(spec->kind == OPTION_SECONDS ? v / 1000000000 : v));
	if (spec->kind != OPTION_SECONDS || v % 1000000000 == 0 || n < 0 || (size_t)n >= len)
		return;
	n += snprintf(buf + n, len - (size_t)n, ".%09llu", (unsigned long long)(v % 1000000000));
	while ((size_t)n < len && n > 0 && buf[n - 1] == '0')
		buf[--n] = '\0';
}

int options_parse(const struct option_spec *table, size_t n, char *list, void *into,
		  options_other *other, void *arg, char *err, size_t err_len)
{
	for (char *p = list, *next; p != NULL; p = next) {
		const struct option_spec *spec = NULL;

		next = cut(p);
		if (*p == '\0')
			continue;
		char *value = strchr(p, '=');
		if (value != NULL)
			*value++ = '\0';
		for (size_t i = 0; i < n && spec == NULL; i++)
			if (strcmp(table[i].name, p) == 0)
				spec = &table[i];
		if (spec != NULL) {
			int r = option_set(spec, value, into, err, err_len);

			if (r < 0)
				return r;
		} else if (other == NULL || !other(arg, p, value)) {
			return refuse(err, err_len, "unknown option '%s'", p);
		}
	}
	return 0;
}

void options_help(const struct option_spec *table, size_t n, FILE *f)
{
	for (size_t i = 0; i < n; i++) {
		char left[64];

		(void)snprintf(left, sizeof(left), "%s%s%s", table[i].name,
			       table[i].values != NULL ? "=" : "",
			       table[i].values != NULL ? table[i].values : "");
		(void)fprintf(f, "    %-28s %s", left, table[i].text);
		if (table[i].default_text != NULL)
			(void)fprintf(f, " (%s)", table[i].default_text);
		(void)fprintf(f, "\n");
	}
}

/* "--x" is a flag of a command line, "x" a word of a list. */
void options_man(const struct option_spec *table, size_t n, FILE *f)
{
	for (size_t i = 0; i < n; i++) {
		bool flag = strncmp(table[i].name, "--", 2) == 0;

		(void)fprintf(f, ".It %s %s", flag ? "Fl" : "Cm", table[i].name + flag);
		if (table[i].values != NULL)
			(void)fprintf(f, " Ns = Ns Ar %s", table[i].values);
		(void)fprintf(f, "\n%s.\n", table[i].text);
		if (table[i].default_text != NULL)
			(void)fprintf(f, "Default: %s.\n", table[i].default_text);
	}
}
