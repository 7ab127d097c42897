/*
 * Acts for a sandboxed server in the world outside: a process of its own that speaks with
 * no guest.
 *
 * The broker is forked before anything is opened, keeps the privileges that the server gives up,
 * and takes orders over a socket pair. Calling sequence:
 *
 *	broker_start		before any thread, and before anything is opened
 *	broker_remember		any number: a file of ours that is to go at the end
 *	broker_seal		the group of fanotify to mark for, or -1
 *	broker_mark		any number, from any thread
 *	broker_end		removes what is remembered and still the same; waits
 *
 * Once it is sealed the broker keeps CAP_SYS_ADMIN and what finding and removing files needs, and
 * takes the last two orders alone. So a guest that has taken the server over can have file systems
 * marked of which it has a descriptor, and end the server: nothing else. When the server dies, the
 * broker ends and removes nothing: another server may have begun to use the same names.
 *
 * Functions return 0 or -errno; -EPIPE: the broker has died.
 */
#pragma once

#include <stdint.h>

struct broker;

int broker_start(struct broker **ret);
int broker_remember(struct broker *b, const char *path);
int broker_seal(struct broker *b, int group);
/* Marks the whole file system of fd, which may be one of O_PATH, for the group. */
int broker_mark(struct broker *b, uint64_t mask, int fd);
void broker_end(struct broker *b); /* NULL is allowed */
