#include "fuse/task.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

static FILE *open_file(pid_t tid, const char *name)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, name);
	return fopen(path, "re");
}

bool task_being_killed(pid_t tid)
{
	char line[256];
	bool killed = false;

	if (tid == 0)
		return false; /* of a foreign pid namespace: not to be known */
	FILE *f = open_file(tid, "status");
	if (f == NULL)
		return true;
	while (fgets(line, sizeof(line), f) != NULL) {
		unsigned long long mask;

		if ((sscanf(line, "SigPnd: %llx", &mask) == 1 ||
		     sscanf(line, "ShdPnd: %llx", &mask) == 1) &&
		    (mask >> (SIGKILL - 1) & 1) != 0)
			killed = true;
	}
	(void)fclose(f);
	return killed;
}

/* In nanoseconds; a reply is digested in some thousand. */
#define DIGESTED UINT64_C(5000000)

static char state_of(FILE *f)
{
	char line[512], *at;

	/* the name, in parentheses, may have anything in it */
	if (fgets(line, sizeof(line), f) == NULL || (at = strrchr(line, ')')) == NULL)
		return 'R';
	return at[1] != '\0' ? at[2] : 'R';
}

bool task_went_on(pid_t tid, uint64_t *cpu)
{
	FILE *f = tid != 0 ? open_file(tid, "stat") : NULL;
	unsigned long long ran = 0;

	if (f == NULL)
		return tid != 0;
	char state = state_of(f);
	(void)fclose(f);
	if (state != 'R')
		return true;
	f = open_file(tid, "schedstat");
	int n = f != NULL ? fscanf(f, "%llu", &ran) : 0;
	if (f != NULL)
		(void)fclose(f);
	if (n != 1)
		return false;
	if (*cpu == 0)
		*cpu = ran;
	return ran - *cpu >= DIGESTED;
}

bool task_waits_for_lock(pid_t tid)
{
	FILE *f = open_file(tid, "stat");

	if (f == NULL)
		return false;
	char state = state_of(f);
	(void)fclose(f);
	return state == 'D';
}

bool task_walks(pid_t tid)
{
	char line[256];
	bool walks = false;
	FILE *f = tid != 0 ? open_file(tid, "stack") : NULL;

	while (f != NULL && !walks && fgets(line, sizeof(line), f) != NULL)
		walks = strstr(line, "link_path_walk") != NULL;
	if (f != NULL)
		(void)fclose(f);
	return walks;
}

/* Where a system call opens a file, which argument has the flags. */
static int flags_of(long call)
{
	switch (call) {
#ifdef SYS_open
	case SYS_open:
		return 1;
#endif
	case SYS_openat:
		return 2;
	default:
		return -1;
	}
}

static bool changes_names(long call)
{
	switch (call) {
#ifdef SYS_open /* architectures that have the old calls have all of them */
	case SYS_creat:
	case SYS_mkdir:
	case SYS_mknod:
	case SYS_symlink:
	case SYS_link:
	case SYS_rename:
	case SYS_unlink:
	case SYS_rmdir:
#endif
#ifdef SYS_renameat
	case SYS_renameat:
#endif
	case SYS_openat2: /* its flags are in the task's memory */
	case SYS_mkdirat:
	case SYS_mknodat:
	case SYS_symlinkat:
	case SYS_linkat:
	case SYS_renameat2:
	case SYS_unlinkat:
		return true;
	default:
		return false;
	}
}

bool task_changes_names(pid_t tid)
{
	unsigned long long arg[3] = {0};
	long call = -1;
	FILE *f = tid != 0 ? open_file(tid, "syscall") : NULL;

	if (f == NULL)
		return false;
	int n = fscanf(f, "%ld %llx %llx %llx", &call, &arg[0], &arg[1], &arg[2]);
	(void)fclose(f);
	if (n != 4)
		return false;
	int flags = flags_of(call);
	return flags >= 0 ? (arg[flags] & O_CREAT) != 0 : changes_names(call);
}
