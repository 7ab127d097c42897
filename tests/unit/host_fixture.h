/* For tests of the server: one server with one client, per test. */
#pragma once

#include "host_client.h"

struct fixture {
	struct host_server hs;
	struct host_client c;
};

static inline int start(void **state, const struct server_config *config)
{
	struct fixture *f = calloc(1, sizeof(*f));

	host_server_start(&f->hs, config);
	host_client_start(&f->c, &f->hs);
	*state = f;
	return 0;
}

static inline int setup(void **state)
{
	return start(state, NULL);
}

static inline int setup_read_only(void **state)
{
	const struct server_config config = {.read_only = true};

	return start(state, &config);
}

static inline int setup_special(void **state)
{
	const struct server_config config = {.special = true};

	return start(state, &config);
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	host_client_stop(&f->c);
	host_server_stop(&f->hs);
	free(f);
	return 0;
}

/* FORGET has no reply, and is not in order with the requests behind it. */
static inline void expect_forgotten(struct host_client *c, uint64_t node)
{
	struct msg p;

	int r = 0;

	/* Each look is a round trip. */
	for (int i = 0; i < 100000 && r == 0; i++)
		r = host_getattr(c, node, &p);
	assert_int_equal(r, -ESTALE);
}

static inline int host_mknod(struct host_client *c, const char *name, uint64_t mode, struct msg *p)
{
	struct msg q = {0};

	MSG_SET(&q, node, c->root);
	MSG_SET(&q, name, SLICE(name));
	MSG_SET(&q, mode, mode);
	MSG_SET(&q, rdev, (uint64_t)1 << 32 | 3);
	return host_call(c, MSG_MKNOD, &q, p);
}
