/* INIT: what is agreed with kernels of 5.10 to 6.18, and what is refused. */
#include "fuse_kernel.h"

/* Each from its first version with that; the flags are those of fuse_send_init, fuse_new_init. */
static const struct kernel_version kernels[] = {
    {"5.10", 32, 0x03fffffb, 0},
    {"5.11", 33, 0x13fffffb, 0},	/* HANDLE_KILLPRIV_V2 */
    {"5.15", 34, 0x33fffffb, 0},	/* SETXATTR_EXT */
    {"5.16", 35, 0x33fffffb, 0},	/* FOPEN_NOFLUSH */
    {"5.17", 36, 0x73fffffb, 0x1},	/* INIT_EXT, SECURITY_CTX */
    {"6.1", 37, 0x73fffffb, 0x5},	/* HAS_INODE_DAX; TMPFILE */
    {"6.2", 38, 0x73fffffb, 0xd},	/* EXPIRE_ONLY */
    {"6.6", 39, 0x73fffffb, 0x1d},	/* DIRECT_IO_ALLOW_MMAP */
    {"6.9", 40, 0x73fffffb, 0xfd},	/* PASSTHROUGH, NO_EXPORT_SUPPORT, HAS_RESEND */
    {"6.12", 41, 0x73fffffb, 0x1fd},	/* ALLOW_IDMAP */
    {"6.14", 42, 0x73fffffb, 0x3fd},	/* OVER_IO_URING */
    {"6.15", 43, 0x73fffffb, 0x5fd},	/* REQUEST_TIMEOUT */
    {"6.16", 44, 0x73fffffb, 0x5fd},	/* NOTIFY_INC_EPOCH */
    {"6.18", 45, 0x73fffffb, 0x5fd},
};

/* What is asked of every kernel, and what of none. */
#define ALWAYS                                                                                     \
	(FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_DO_READDIRPLUS |                \
	 FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES)
#define NEVER                                                                                      \
	(FUSE_WRITEBACK_CACHE | FUSE_READDIRPLUS_AUTO | FUSE_HANDLE_KILLPRIV |                     \
	 FUSE_HANDLE_KILLPRIV_V2 | FUSE_SPLICE_READ)
#define NEVER2 (~KERNEL_DIRECT_MMAP & ~KERNEL_EXPIRE_ONLY)

struct agreed {
	uint32_t minor, flags, flags2, max_readahead, max_write, max_background;
	bool expires;
};

static struct agreed agree_in(struct world *w, const struct kernel_version *v,
			      struct fs_options options)
{
	struct kernel *k = kernel_new(w, options);
	const struct fuse_init_out *o = ANSWER(kernel_init(k, v), struct fuse_init_out);
	struct agreed a = {o->minor,	     o->flags,	   o->flags2,		  o->max_readahead,
			   o->max_write, o->max_background, k->fs->expire_entries};

	assert_int_equal(o->major, FUSE_KERNEL_VERSION);
	assert_int_equal(o->congestion_threshold, o->max_background * 3 / 4);
	assert_int_equal(o->time_gran, 1);
	assert_int_equal(o->max_pages, MSG_PAYLOAD_MAX / 4096);
	kernel_free(k);
	return a;
}

static struct agreed agree(const struct kernel_version *v, struct fs_options options)
{
	struct world *w = world_new();
	struct agreed a = agree_in(w, v, options);

	world_free(w);
	return a;
}

/* Nothing is agreed that the kernel has not offered. */
static void test_every_kernel(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(kernels); i++) {
		const struct kernel_version *v = &kernels[i];
		struct agreed a = agree(v, kernel_options());

		print_message("kernel %s, 7.%u\n", v->name, v->minor);
		assert_int_equal(a.flags & ~v->flags, 0);
		assert_int_equal(a.flags2 & ~v->flags2, 0);
		assert_int_equal(a.flags & ALWAYS, ALWAYS);
		assert_int_equal(a.flags & NEVER, 0);
		assert_int_equal(a.flags2 & NEVER2, 0);
		assert_true(a.minor >= 31);
		assert_int_equal(a.max_write, MSG_PAYLOAD_MAX);
		assert_int_equal(a.max_background, 64);
	}
}

/* What the kernel has to have: by INIT_EXT alone it is known, and only so is it agreed. */
static void test_newer_features(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(kernels); i++) {
		const struct kernel_version *v = &kernels[i];
		struct agreed a = agree(v, kernel_options());
		bool maps = v->minor >= 39;

		assert_int_equal(a.expires, v->minor >= 38);
		assert_int_equal((a.flags2 & KERNEL_DIRECT_MMAP) != 0, maps);
		if (maps)
			assert_true((a.flags & KERNEL_INIT_EXT) != 0);
	}
	/* flags2 of a kernel that does not say that there are any is whatever lies there */
	struct kernel_version odd = kernel_6_18;
	odd.flags &= ~KERNEL_INIT_EXT;
	odd.minor = 37;
	struct agreed a = agree(&odd, kernel_options());
	assert_int_equal(a.flags2, 0);
	assert_false(a.expires);
}

static bool has(struct fs_options o, uint32_t flag)
{
	return (agree(&kernel_6_18, o).flags & flag) != 0;
}

static void test_options(void **state)
{
	struct fs_options o = kernel_options();

	(void)state;
	assert_true(has(o, FUSE_POSIX_LOCKS) && has(o, FUSE_FLOCK_LOCKS));
	o.host_locks = false;
	assert_false(has(o, FUSE_POSIX_LOCKS) || has(o, FUSE_FLOCK_LOCKS));
	assert_true(has(o, FUSE_ATOMIC_O_TRUNC));
	o.no_open = true; /* nobody would truncate */
	assert_false(has(o, FUSE_ATOMIC_O_TRUNC));
	assert_false(has(o, FUSE_POSIX_ACL));
	o.acl = true;
	assert_true(has(o, FUSE_POSIX_ACL));
	o.max_background = 200;
	assert_int_equal(agree(&kernel_6_18, o).max_background, 200);
	assert_int_equal(agree(&kernel_6_18, o).max_readahead, 1 << 17);
	o.readahead = 1 << 16;
	assert_int_equal(agree(&kernel_6_18, o).max_readahead, 1 << 16);
}

/* A server that tells of changes, and one that does not. */
static void test_servers(void **state)
{
	struct world *w = world_watched(lease_options(), false);
	struct agreed a;

	(void)state;
	a = agree_in(w, &kernel_6_18, kernel_options());
	assert_int_equal(a.flags & (FUSE_AUTO_INVAL_DATA | FUSE_EXPLICIT_INVAL_DATA |
				    FUSE_CACHE_SYMLINKS | FUSE_DONT_MASK),
			 FUSE_AUTO_INVAL_DATA);
	world_free(w);
	w = world_new();
	w->f->base.info.umask = true;
	a = agree_in(w, &kernel_6_18, kernel_options());
	assert_int_equal(a.flags & (FUSE_AUTO_INVAL_DATA | FUSE_EXPLICIT_INVAL_DATA |
				    FUSE_CACHE_SYMLINKS | FUSE_DONT_MASK),
			 FUSE_EXPLICIT_INVAL_DATA | FUSE_CACHE_SYMLINKS | FUSE_DONT_MASK);
	world_free(w);
}

/* An older major version ends the session; a newer one is to come again with ours. */
static void test_major_versions(void **state)
{
	struct kernel *k = kernel_new(world_new(), kernel_options());
	struct fuse_init_in in = {.major = 6, .minor = 40};

	(void)state;
	assert_err(kernel_ask(k, FUSE_INIT, 0, ARG(in)), EPROTO);
	in.major = 8;
	struct question *q = kernel_ask(k, FUSE_INIT, 0, ARG(in));
	assert_int_equal(ANSWER(q, struct fuse_init_out)->major, FUSE_KERNEL_VERSION);
	assert_err(kernel_init(k, &kernel_6_18), 0);
	kernel_unmounted(k);
}

/* Nothing is done before INIT, and INIT is done once. */
static void test_order(void **state)
{
	struct kernel *k = kernel_new(world_new(), kernel_options());

	(void)state;
	assert_err(kernel_ask(k, FUSE_LOOKUP, CACHE_ROOT, STRING("a")), EIO);
	assert_int_equal(k->w->f->n_waiting, 0);
	assert_err(kernel_init(k, &kernel_6_18), 0);
	assert_err(kernel_init(k, &kernel_6_18), EIO);
	(void)kernel_looks_up(k, CACHE_ROOT, "a", 50, S_IFREG | 0644);
	kernel_unmounted(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_kernel), cmocka_unit_test(test_newer_features),
	    cmocka_unit_test(test_options),	 cmocka_unit_test(test_servers),
	    cmocka_unit_test(test_major_versions), cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
