#include "core/outlive.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"

#define MAGIC  UINT64_C(0x6576696c74756f76)
#define LAYOUT 1
#define ALIGN  ((size_t)4096)

struct outlive *outlive;
_Thread_local uint64_t outlive_unique;

/* Where the large tables begin in the file. */
#define NODES_AT ((sizeof(struct outlive) + ALIGN - 1) / ALIGN * ALIGN)
#define FILES_AT (NODES_AT + (size_t)OUTLIVE_NODES * sizeof(struct outlive_node))
#define NAMES_AT (FILES_AT + (size_t)OUTLIVE_FILES * sizeof(struct outlive_file))
#define BYTES	 (NAMES_AT + (size_t)OUTLIVE_UNITS * OUTLIVE_UNIT)

#define NAME_UNITS_MAX ((sizeof(struct outlive_name) + 255 + OUTLIVE_UNIT - 1) / OUTLIVE_UNIT)

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t free_names[NAME_UNITS_MAX + 1]; /* by units; names_lock */
static uint32_t gain_hint;

static _Thread_local struct {
	uint32_t n;
	uint16_t at[1024];
} gains;

static void *at(size_t off)
{
	return (unsigned char *)outlive + off;
}

/* Stores before this one are done when those that follow are. */
static void then(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

int outlive_create(void)
{
	CLEANUP_CLOSE int fd = memfd_create("vsockfs", MFD_CLOEXEC);

	/* sparse: memory is taken when something is written */
	if (fd < 0 || ftruncate(fd, (off_t)BYTES) < 0)
		return -errno;
	const struct outlive begin = {.magic = MAGIC, .layout = LAYOUT};
	if (pwrite(fd, &begin, offsetof(struct outlive, slot), 0) < 0)
		return -errno;
	return take_fd(&fd);
}

static struct outlive_name *name_at(uint32_t unit)
{
	return at(NAMES_AT + (size_t)unit * OUTLIVE_UNIT);
}

static void free_name(uint32_t unit)
{
	struct outlive_name *n = name_at(unit);

	n->next_free = free_names[n->units];
	free_names[n->units] = unit;
}

static void find_free_names(void)
{
	for (uint32_t u = 1; u < outlive->name_units; u += name_at(u)->units) {
		if (name_at(u)->units == 0) { /* killed while it was made */
			outlive->name_units = u;
			break;
		}
		if (name_at(u)->dir == 0)
			free_name(u);
	}
}

int outlive_map(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((size_t)st.st_size != BYTES)
		return -EPROTO;
	void *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	const struct outlive *o = p;
	if (o->magic != MAGIC || o->layout != LAYOUT) {
		(void)munmap(p, BYTES);
		return -EPROTO;
	}
	outlive = p;
	find_free_names();
	return 0;
}

/* ---- nodes ---- */

struct outlive_node *outlive_node_at(uint32_t slot)
{
	return at(NODES_AT + (size_t)slot * sizeof(struct outlive_node));
}

void outlive_node(const struct outlive_node *n)
{
	uint32_t slot = (uint32_t)n->id;

	if (outlive == NULL)
		return;
	if (slot >= OUTLIVE_NODES) {
		outlive->overflow = 1;
		return;
	}
	struct outlive_node *to = outlive_node_at(slot);
	if (slot >= outlive->node_slots)
		outlive->node_slots = slot + 1;
	if (to->id != n->id)
		to->nlookup = 0;
	then();
	to->id = n->id;
	to->server = n->server;
	to->size = n->size;
	to->mode = n->mode;
	to->locked = n->locked;
	then();
	to->nlookup = n->nlookup;
}

/* ---- names ---- */

static uint32_t name_take(uint8_t units)
{
	uint32_t unit = free_names[units];

	if (unit != 0) {
		free_names[units] = name_at(unit)->next_free;
		return unit;
	}
	unit = outlive->name_units > 0 ? outlive->name_units : 1;
	if (OUTLIVE_UNITS - unit < units)
		return 0;
	name_at(unit)->dir = 0;
	name_at(unit)->units = units;
	then();
	outlive->name_units = unit + units;
	return unit;
}

uint32_t outlive_name(uint64_t dir, const char *name, size_t len)
{
	if (outlive == NULL)
		return 0;
	size_t bytes = offsetof(struct outlive_name, name) + len;
	SCOPE_LOCK(&names_lock);
	uint32_t unit = name_take((uint8_t)((bytes + OUTLIVE_UNIT - 1) / OUTLIVE_UNIT));
	if (unit == 0) {
		outlive->overflow = 1;
		return 0;
	}
	struct outlive_name *n = name_at(unit);
	n->len = (uint8_t)len;
	memcpy(n->name, name, len);
	then();
	n->dir = dir;
	return unit;
}

void outlive_unname(uint32_t unit)
{
	if (outlive == NULL || unit == 0)
		return;
	SCOPE_LOCK(&names_lock);
	name_at(unit)->dir = 0;
	then();
	free_name(unit);
}

struct outlive_name *outlive_next_name(uint32_t *unit)
{
	uint32_t u = *unit == 0 ? 1 : *unit + name_at(*unit)->units;

	while (u < outlive->name_units && name_at(u)->dir == 0)
		u += name_at(u)->units;
	*unit = u;
	return u < outlive->name_units ? name_at(u) : NULL;
}

/* ---- references on their way ---- */

void outlive_gain(uint64_t ino)
{
	if (outlive == NULL || outlive_unique == 0 ||
	    gains.n == sizeof(gains.at) / sizeof(gains.at[0]))
		return;
	for (uint32_t i = 0; i < OUTLIVE_GAINS; i++) {
		uint32_t g = gain_hint++ % OUTLIVE_GAINS;

		if (__atomic_load_n(&outlive->gain[g].unique, __ATOMIC_ACQUIRE) != 0)
			continue;
		outlive->gain[g].ino = ino;
		__atomic_store_n(&outlive->gain[g].unique, outlive_unique, __ATOMIC_RELEASE);
		gains.at[gains.n++] = (uint16_t)g;
		return;
	}
}

void outlive_gained(void)
{
	while (gains.n > 0)
		outlive_gain_end(gains.at[--gains.n] + 1u);
}

uint32_t outlive_gain_hold(void)
{
	return gains.n > 0 ? gains.at[--gains.n] + 1u : 0;
}

void outlive_gain_end(uint32_t held)
{
	if (held != 0)
		__atomic_store_n(&outlive->gain[held - 1].unique, 0, __ATOMIC_RELEASE);
}

/* ---- files ---- */

struct outlive_file *outlive_file_at(uint32_t number)
{
	return at(FILES_AT + (size_t)number * sizeof(struct outlive_file));
}
