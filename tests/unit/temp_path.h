/* A path in a directory of its own, for a module that makes a file: setup and teardown of a group of tests. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char temp_dir[] = "/tmp/vsockfs-test-XXXXXX";
static char temp_path[64];

static int temp_setup(void **state)
{
	(void)state;
	if (mkdtemp(temp_dir) == NULL)
		return -1;
	(void)snprintf(temp_path, sizeof(temp_path), "%s/file", temp_dir);
	return 0;
}

static int temp_teardown(void **state)
{
	(void)state;
	(void)unlink(temp_path);
	return rmdir(temp_dir);
}
