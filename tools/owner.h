/* USER[:GROUP] and the like of a command line, as chown(1) takes them. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/*
 * A name or a number each; what is left out stays (uid_t)-1, (gid_t)-1. False if there is no such
 * user or group.
 */
bool owner_parse(const char *text, uid_t *ret_uid, gid_t *ret_gid);
