/* For tests of the export below the protocol: a directory, exported; `base` is outside. */
#pragma once

#include "host_client.h"

#include <semaphore.h>
#include <stdatomic.h>

#include "host/export.h"

struct fixture {
	char base[64];
	int base_fd, fd; /* base, base/export */
	struct export *e;
	sem_t go;
};

static inline int open_export(struct fixture *f)
{
	char dir[80], err[256];

	(void)snprintf(dir, sizeof(dir), "%s/export", f->base);
	const struct server_config config = {.dir = dir, .plain_prefix = "/workspace/"};
	if (export_new(&config, &f->e, err, sizeof(err)) < 0)
		fail_msg("%s", err);
	return 0;
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	(void)snprintf(f->base, sizeof(f->base), "/tmp/vsockfs-host-XXXXXX");
	assert_non_null(mkdtemp(f->base));
	f->base_fd = open(f->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->base_fd, "export", 0755), 0);
	f->fd = openat(f->base_fd, "export", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->base_fd >= 0 && f->fd >= 0);
	*state = f;
	return open_export(f);
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[96];

	export_free(f->e);
	(void)close(f->fd);
	(void)close(f->base_fd);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", f->base);
	assert_int_equal(system(cmd), 0);
	free(f);
	return 0;
}

static inline void make_file(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	(void)close(fd);
}
