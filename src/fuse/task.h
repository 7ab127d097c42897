/*
 * The state of a task of the guest, by /proc: the thread ids are those of the kernel's
 * requests. Reads small files and waits for nobody; any thread may call.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The task has a SIGKILL pending that it has not seen yet, or is gone. */
bool task_being_killed(pid_t tid);

/*
 * The task has digested what it was told some time ago: it sleeps, which it did not do since, or is
 * gone, or has had the CPU for longer since the first call. *cpu is 0 for that one, and the
 * caller's to keep. False also where that is not to be known.
 */
bool task_went_on(pid_t tid, uint64_t *cpu);

/* The task sleeps uninterruptibly, as in the kernel's rw_semaphores. */
bool task_waits_for_lock(pid_t tid);

/*
 * The task is on its way to the last name of a path, and so has not locked the directory that it is
 * in. False also where that is not to be known (/proc/TID/stack needs CAP_SYS_ADMIN).
 */
bool task_walks(pid_t tid);

/*
 * The task is inside a system call that makes, moves or removes a name, and so may hold the lock of
 * a directory. False also where that is not to be known (/proc/TID/syscall needs ptrace(2)'s
 * permission).
 */
bool task_changes_names(pid_t tid);
