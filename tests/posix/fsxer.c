/*
 * fsxer: random operations on one file against a model in memory.
 *
 * Every operation's result, the file's size and every byte read are compared with the model; on
 * the first difference the last operations are printed and the program exits 1. The run depends on
 * the seed and the options alone. Operations that the file system does not support are left out
 * after their first try, which is said once.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "prng.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LOG_TAIL = 40, LOG_TEXT = 96 };

static struct {
	const char *path;
	size_t max; /* the file's largest size */
	unsigned long ops, seed;
	bool mmap, verbose;
} opt = {.max = 256 * 1024, .ops = 10000, .seed = 1};

static struct prng rng;
static unsigned char *model, *buf; /* opt.max bytes each; the model is zero past its size */
static size_t size;
static int fd = -1;
static char log_tail[LOG_TAIL][LOG_TEXT];
static unsigned long op_nr;
static unsigned char next_byte = 1;

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

static void note(const char *fmt, ...)
{
	char *line = log_tail[op_nr % LOG_TAIL];
	int n = snprintf(line, LOG_TEXT, "%lu ", op_nr);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, (size_t)(LOG_TEXT - n), fmt, ap);
	va_end(ap);
	if (opt.verbose)
		printf("%s\n", line);
}

static void fail(const char *fmt, ...)
{
	unsigned long first = op_nr >= LOG_TAIL ? op_nr - LOG_TAIL + 1 : 0;
	va_list ap;

	for (unsigned long i = first; i <= op_nr; i++)
		printf("  %s\n", log_tail[i % LOG_TAIL]);
	printf("fsxer: FAILED at operation %lu, seed %lu, size %zu: ", op_nr, opt.seed, size);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

static void check(bool ok, const char *call)
{
	if (!ok)
		fail("%s: %s", call, strerror(errno));
}

static void check_size(void)
{
	struct stat st;

	check(fstat(fd, &st) == 0, "fstat");
	if ((size_t)st.st_size != size)
		fail("fstat gives size %lld, the model has %zu", (long long)st.st_size, size);
	check(stat(opt.path, &st) == 0, "stat");
	if ((size_t)st.st_size != size)
		fail("stat gives size %lld, the model has %zu", (long long)st.st_size, size);
}

static void compare(const unsigned char *got, size_t at, size_t len, const char *how)
{
	size_t i = 0, bad = 0;

	if (memcmp(got, model + at, len) == 0)
		return;
	while (got[i] == model[at + i])
		i++;
	for (size_t k = i; k < len; k++)
		bad += got[k] != model[at + k];
	fail("%s: byte %zu is %#04x, the model has %#04x (%zu of %zu bytes from %zu differ)", how,
	     at + i, got[i], model[at + i], bad, len, at);
}

/* New bytes, different from those of the last few operations. */
static void fresh(size_t len)
{
	for (size_t i = 0; i < len; i++) {
		buf[i] = next_byte + (unsigned char)(i / 512);
		if (buf[i] == 0)
			buf[i] = 0xa5;
	}
	next_byte = (unsigned char)(next_byte + 37);
}

static void model_write(size_t at, size_t len)
{
	memcpy(model + at, buf, len);
	if (at + len > size)
		size = at + len;
}

static void model_resize(size_t to)
{
	if (to < size)
		memset(model + to, 0, size - to);
	size = to;
}

/* Small, page-sized and large lengths alike; half of the offsets on page boundaries or beside. */
static size_t some_length(size_t most)
{
	size_t cap;

	if (most == 0)
		return 0;
	cap = prng_below(&rng, 3) == 0 ? 64 : prng_below(&rng, 2) ? 10000 : 65536;
	return 1 + prng_below(&rng, cap < most ? cap : most);
}

static size_t some_offset(size_t below)
{
	size_t at = below ? prng_below(&rng, below) : 0;

	if (prng_below(&rng, 2)) {
		at &= ~(size_t)4095;
		if (prng_below(&rng, 3) == 0 && at > 0)
			at--;
	}
	return at;
}

/* A range to be written: within the largest size. */
static void some_range(size_t *ret_at, size_t *ret_len)
{
	size_t at = some_offset(opt.max - 1);

	*ret_at = at;
	*ret_len = some_length(opt.max - at);
}

/* A range within the file; false when it is empty. */
static bool some_inner(size_t *ret_at, size_t *ret_len)
{
	if (size == 0)
		return false;
	*ret_at = some_offset(size);
	*ret_len = some_length(size - *ret_at);
	return true;
}

/* ---- operations ---------------------------------------------------------------------------- */

static void op_read(void)
{
	size_t at = some_offset(opt.max), len = some_length(opt.max), want;
	ssize_t r;

	want = at >= size ? 0 : size - at < len ? size - at : len;
	note("read %zu at %zu", len, at);
	r = pread(fd, buf, len, (off_t)at);
	check(r >= 0, "pread");
	if ((size_t)r != want)
		fail("pread gives %zd bytes, the model has %zu", r, want);
	compare(buf, at, want, "pread");
}

static void op_readv(void)
{
	size_t at, len, first;

	if (!some_inner(&at, &len))
		return;
	first = prng_below(&rng, len + 1);
	note("readv %zu+%zu at %zu", first, len - first, at);
	struct iovec v[2] = {{buf, first}, {buf + first, len - first}};

	check(lseek(fd, (off_t)at, SEEK_SET) == (off_t)at, "lseek");
	check(readv(fd, v, 2) == (ssize_t)len, "readv");
	compare(buf, at, len, "readv");
}

static void op_write(void)
{
	size_t at, len;

	some_range(&at, &len);
	note("write %zu at %zu", len, at);
	fresh(len);
	check(pwrite(fd, buf, len, (off_t)at) == (ssize_t)len, "pwrite");
	model_write(at, len);
}

static void op_append(void)
{
	size_t len = some_length(opt.max - size);
	int a;

	if (len == 0)
		return;
	note("append %zu at %zu", len, size);
	fresh(len);
	a = open(opt.path, O_WRONLY | O_APPEND);
	check(a >= 0, "open for appending");
	check(write(a, buf, len) == (ssize_t)len, "append");
	check(close(a) == 0, "close");
	model_write(size, len);
}

static void op_truncate(void)
{
	size_t to = some_offset(prng_below(&rng, 3) ? opt.max : size + 1);

	note("truncate to %zu", to);
	if (prng_below(&rng, 2))
		check(ftruncate(fd, (off_t)to) == 0, "ftruncate");
	else
		check(truncate(opt.path, (off_t)to) == 0, "truncate");
	model_resize(to);
}

static void op_reopen(void)
{
	note("close and reopen");
	check(close(fd) == 0, "close");
	fd = open(opt.path, O_RDWR);
	check(fd >= 0, "open");
}

static void op_sync(void)
{
	note("fsync");
	check((prng_below(&rng, 2) ? fsync(fd) : fdatasync(fd)) == 0, "fsync");
}

/* 0, or -1 and no longer used when the file system has no such thing. */
static int op_fallocate_as(int mode, const char *name, bool *has)
{
	size_t at, len;

	if (mode & FALLOC_FL_PUNCH_HOLE || mode == (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)) {
		if (!some_inner(&at, &len))
			return 0;
	} else {
		some_range(&at, &len);
	}
	note("%s %zu at %zu", name, len, at);
	if (fallocate(fd, mode, (off_t)at, (off_t)len)) {
		check(errno == EOPNOTSUPP || errno == ENOSYS, name);
		printf("fsxer: no %s here\n", name);
		*has = false;
		return -1;
	}
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(model + at, 0, len);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && at + len > size)
		size = at + len;
	return 0;
}

static void op_fallocate(void)
{
	static bool has[5] = {true, true, true, true, true};
	static const struct {
		int mode;
		const char *name;
	} kind[5] = {{0, "fallocate"},
		     {FALLOC_FL_KEEP_SIZE, "fallocate keeping the size"},
		     {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch hole"},
		     {FALLOC_FL_ZERO_RANGE, "zero range"},
		     {FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero range keeping the size"}};
	size_t k = prng_below(&rng, 5);

	if (has[k])
		op_fallocate_as(kind[k].mode, kind[k].name, &has[k]);
}

static void op_copy(void)
{
	static bool has = true;
	size_t from, to, len;
	off_t in, out;

	if (!has || !some_inner(&from, &len))
		return;
	to = some_offset(opt.max);
	if (len > opt.max - to)
		len = opt.max - to;
	if (len == 0 || (to < from + len && from < to + len))
		return; /* onto itself is EINVAL */
	note("copy_file_range %zu from %zu to %zu", len, from, to);
	memcpy(buf, model + from, len);
	in = (off_t)from;
	out = (off_t)to;
	for (size_t left = len; left > 0;) {
		ssize_t r = copy_file_range(fd, &in, fd, &out, left, 0);

		if (r < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EXDEV) &&
		    left == len) {
			printf("fsxer: no copy_file_range here\n");
			has = false;
			return;
		}
		check(r > 0, "copy_file_range");
		left -= (size_t)r;
	}
	model_write(to, len);
}

/* ---- mappings ------------------------------------------------------------------------------ */

static unsigned char *map(size_t at, size_t len, int prot, size_t *ret_skip)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), start = at / page * page;
	unsigned char *m = mmap(NULL, at - start + len, prot, MAP_SHARED, fd, (off_t)start);

	check(m != MAP_FAILED, "mmap");
	*ret_skip = at - start;
	return m;
}

static void op_mapread(void)
{
	size_t at, len, skip;
	unsigned char *m;

	if (!some_inner(&at, &len))
		return;
	note("mapread %zu at %zu", len, at);
	m = map(at, len, PROT_READ, &skip);
	memcpy(buf, m + skip, len);
	check(munmap(m, skip + len) == 0, "munmap");
	compare(buf, at, len, "a mapping");
}

static void op_mapwrite(void)
{
	size_t at, len, skip, page = (size_t)sysconf(_SC_PAGESIZE), tail;
	unsigned char *m;
	int sync = (int)prng_below(&rng, 3);

	some_range(&at, &len);
	note("mapwrite %zu at %zu%s%s", len, at, at + len > size ? ", grows first" : "",
	     sync == 0	 ? ", msync"
	     : sync == 1 ? ", msync async"
			 : "");
	if (at + len > size) {
		check(ftruncate(fd, (off_t)(at + len)) == 0, "ftruncate");
		size = at + len;
	}
	fresh(len);
	m = map(at, len, PROT_READ | PROT_WRITE, &skip);
	memcpy(m + skip, buf, len);
	model_write(at, len);
	if (sync < 2)
		check(msync(m, skip + len, sync == 0 ? MS_SYNC : MS_ASYNC) == 0, "msync");
	/* The rest of the last page is past the end of the file and must be zero. */
	tail = (page - (at + len) % page) % page;
	if (at + len == size)
		for (size_t i = 0; i < tail; i++)
			if (m[skip + len + i])
				fail("byte %zu past the end is %#04x in the mapping", i,
				     m[skip + len + i]);
	check(munmap(m, skip + len) == 0, "munmap");
}

/* A mapping that stays across a write and a cut through the descriptor. */
static void op_mapbeside(void)
{
	size_t at, len, skip, half;
	unsigned char *m;

	if (!some_inner(&at, &len) || len < 2)
		return;
	half = len / 2;
	note("write %zu at %zu beside a mapping", half, at);
	m = map(at, len, PROT_READ | PROT_WRITE, &skip);
	memcpy(buf, m + skip, len); /* fault all in */
	compare(buf, at, len, "a mapping");
	fresh(half);
	check(pwrite(fd, buf, half, (off_t)at) == (ssize_t)half, "pwrite");
	model_write(at, half);
	memcpy(buf, m + skip, len);
	compare(buf, at, len, "a mapping after a write");
	m[skip + len - 1] = next_byte;
	model[at + len - 1] = next_byte;
	check(pread(fd, buf, len, (off_t)at) == (ssize_t)len, "pread");
	compare(buf, at, len, "a read after a store");
	check(munmap(m, skip + len) == 0, "munmap");
}

static void check_all(void)
{
	note("compare all");
	check_size();
	check(pread(fd, buf, opt.max, 0) == (ssize_t)size, "pread of all");
	compare(buf, 0, size, "the whole file");
}

static const struct {
	void (*fn)(void);
	unsigned weight;
	bool mmap;
} ops[] = {{op_read, 20, false},   {op_readv, 5, false},      {op_write, 25, false},
	   {op_append, 6, false},  {op_truncate, 8, false},   {op_reopen, 3, false},
	   {op_sync, 2, false},	   {op_fallocate, 12, false}, {op_copy, 6, false},
	   {check_all, 1, false},  {op_mapread, 12, true},    {op_mapwrite, 12, true},
	   {op_mapbeside, 6, true}};
enum { OPS = sizeof(ops) / sizeof(ops[0]) };

static void one_op(void)
{
	unsigned total = 0, pick;

	for (int i = 0; i < OPS; i++)
		total += ops[i].mmap && !opt.mmap ? 0 : ops[i].weight;
	pick = (unsigned)prng_below(&rng, total);
	for (int i = 0; i < OPS; i++) {
		unsigned w = ops[i].mmap && !opt.mmap ? 0 : ops[i].weight;

		if (pick < w) {
			ops[i].fn();
			return;
		}
		pick -= w;
	}
}

static void usage(FILE *to)
{
	fprintf(to, "usage: fsxer [-n OPS] [-s SEED] [-l SIZE] [-m] [-v] FILE\n"
		    "  -n  number of operations (10000)\n"
		    "  -s  seed (1)\n"
		    "  -l  largest size of the file in bytes (262144)\n"
		    "  -m  use mappings, too\n"
		    "  -v  print each operation\n");
}

static unsigned long number(const char *s)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(s, &end, 10);
	if (errno || *end || end == s) {
		fprintf(stderr, "fsxer: bad number '%s'\n", s);
		exit(2);
	}
	return v;
}

int main(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "n:s:l:mvh")) != -1) {
		if (c == 'n')
			opt.ops = number(optarg);
		else if (c == 's')
			opt.seed = number(optarg);
		else if (c == 'l')
			opt.max = number(optarg);
		else if (c == 'm')
			opt.mmap = true;
		else if (c == 'v')
			opt.verbose = true;
		else {
			usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : 2;
		}
	}
	if (optind + 1 != argc || opt.max < 2) {
		usage(stderr);
		return 2;
	}
	opt.path = argv[optind];
	setvbuf(stdout, NULL, _IOLBF, 0);
	rng.state = opt.seed;
	model = calloc(1, opt.max);
	buf = malloc(opt.max);
	fd = open(opt.path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (!model || !buf || fd < 0) {
		fprintf(stderr, "fsxer: %s: %s\n", opt.path, strerror(errno));
		return 2;
	}
	for (op_nr = 0; op_nr < opt.ops; op_nr++) {
		one_op();
		check_size();
	}
	op_reopen();
	check_all();
	check(close(fd) == 0, "close");
	check(unlink(opt.path) == 0, "unlink");
	printf("fsxer: %lu operations, seed %lu: ok\n", opt.ops, opt.seed);
	free(model);
	free(buf);
	return 0;
}
