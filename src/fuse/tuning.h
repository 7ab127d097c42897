/*
 * The settings of a mount that can be changed while it lives, by the names and
 * in the units of the mount options. Any thread; one caller at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct fs;

/* How often a name exists: for (i = 0; tuning_name(i) != NULL; i++). */
const char *tuning_name(size_t i);
/* The value of setting i as text. 0 or -errno. */
int tuning_get(struct fs *fs, size_t i, char *buf, size_t len);
/*
 * words: NAME=VALUE, n of them; they are changed. All of them are set, or none
 * and one line is in err.
 */
int tuning_set(struct fs *fs, char **words, size_t n, char *err, size_t err_len);
