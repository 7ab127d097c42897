#include "owner.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_number(const char *text)
{
	return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

static bool take_number(const char *text, uint32_t *ret)
{
	errno = 0;
	unsigned long v = strtoul(text, NULL, 10);
	if (errno != 0 || v >= UINT32_MAX) /* the largest means "unchanged" to chown(2) */
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool take_user(const char *text, uid_t *ret)
{
	const struct passwd *pw;

	if (is_number(text))
		return take_number(text, ret);
	pw = getpwnam(text);
	if (pw != NULL)
		*ret = pw->pw_uid;
	return pw != NULL;
}

static bool take_group(const char *text, gid_t *ret)
{
	const struct group *gr;

	if (is_number(text))
		return take_number(text, ret);
	gr = getgrnam(text);
	if (gr != NULL)
		*ret = gr->gr_gid;
	return gr != NULL;
}

bool owner_parse(const char *text, uid_t *ret_uid, gid_t *ret_gid)
{
	const char *colon = strchr(text, ':');
	char user[256];
	int n = colon != NULL ? (int)(colon - text) : (int)strnlen(text, sizeof(user));

	if ((size_t)n >= sizeof(user) || (n == 0 && (colon == NULL || colon[1] == '\0')))
		return false;
	(void)snprintf(user, sizeof(user), "%.*s", n, text);
	*ret_uid = (uid_t)-1;
	*ret_gid = (gid_t)-1;
	return (n == 0 || take_user(user, ret_uid)) &&
	       (colon == NULL || take_group(colon + 1, ret_gid));
}
