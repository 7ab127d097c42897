/* Complete listings: put together from batches, served from the cache, and what ends them. */
#include "cache_lease.h"

#include "cache/listing.h"

#define FILE_MODE (S_IFREG | 0644u)
#define DIR_MODE  (S_IFDIR | 0755u)

/* The fake server's directory. Offsets mean nothing; every third entry has no node. */
#define ENTRIES	   30
#define BATCH	   10
#define NODE_OF(i) (2000 + (i))

static bool ascending; /* as those of ext4 and others */

static uint64_t off_of(size_t i)
{
	if (ascending)
		return i * 1000;
	return i == 0 ? 0 : (i * UINT64_C(0x9e3779b97f4a7c15)) >> 1 | 1;
}

static bool has_node(size_t i)
{
	return i % 3 != 2;
}

static const char *name_of(size_t i)
{
	static char names[4][16];
	static unsigned at;
	char *name = names[at++ % COUNT(names)];

	(void)snprintf(name, sizeof(names[0]), "e%zu", i);
	return name;
}

/* Which entries it has now, and how its nodes are numbered: + shift. */
static bool gone[ENTRIES];
static uint64_t shift;

static struct asked *fetch(struct listing *l, uint64_t off, bool plus)
{
	struct asked *a = calloc(1, sizeof(*a));

	assert_non_null(a);
	a->req.done = asked_done;
	listing_fetch(l, &a->req, off, plus);
	assert_int_equal(a->completions, 0);
	return a;
}

/* Answers with the entries that follow its offset, `most` of them; frees. */
static void answer_fetch(struct world *w, struct asked *a, uint64_t stamp, size_t most)
{
	const struct call *call = &a->req.call;
	const struct msg *q = &call->req;
	bool plain = MSG_HAS(q, flags) && (q->flags & READDIR_PLAIN) != 0;
	struct msg m = reply_attr(w, stamp, DIR_MODE, 1);
	size_t i = 0, len = 0;

	while (off_of(i) != q->off)
		assert_true(++i <= ENTRIES);
	for (; i < ENTRIES && most > 0; i++) {
		if (gone[i])
			continue;
		const char *name = name_of(i);
		struct dir_entry e = {.name = {name, strlen(name)},
				      .off = off_of(i + 1),
				      .type = has_node(i) ? 8 : 4,
				      .ino = 900000 + i};

		if (has_node(i) && !plain) {
			e.node = NODE_OF(i) + shift;
			e.attr = attr_now(w, FILE_MODE, i);
			e.attr.ino = e.ino;
		}
		size_t n = codec_put_entry(&e, (unsigned char *)call->dest + len, q->size - len);
		assert_true(n > 0);
		len += n;
		most--;
	}
	MSG_SET(&m, payload, ((struct slice){call->dest, len}));
	if (i == ENTRIES)
		MSG_SET(&m, flags, READDIR_END);
	answer(w->f, a, &m);
	assert_int_equal(a->reply.err, 0);
	free(a);
}

struct opened {
	struct world *w;
	struct listing *l;
};

static struct opened open_dir(struct world *w, uint64_t ino)
{
	struct opened d = {.w = w};

	assert_int_equal(listing_new(w->c, ino, &d.l), 0);
	return d;
}

/* Peeks and takes; as listing_peek. told: the kernel gets the attributes. */
static int next_entry(struct listing *l, uint64_t off, bool plus, struct listing_entry *ret,
		      char name[16])
{
	listing_lock(l);
	int r = listing_peek(l, off, plus, ret);
	if (r == 1) {
		assert_true(ret->name.len < 16);
		memcpy(name, ret->name.data, ret->name.len);
		name[ret->name.len] = '\0';
		listing_take(l, ret);
	}
	listing_unlock(l);
	return r;
}

/* Reads on from off to the end, fetching where it must; returns the number of fetches. */
static size_t read_from(struct opened d, uint64_t off, bool plus, const char *want)
{
	struct listing_entry e;
	char name[16], all[1024] = "";
	size_t fetches = 0;
	int r;

	while ((r = next_entry(d.l, off, plus, &e, name)) != 0) {
		if (r == -EAGAIN) {
			answer_fetch(d.w, fetch(d.l, off, plus), d.w->seq, BATCH);
			fetches++;
			continue;
		}
		assert_int_equal(r, 1);
		assert_true(e.server_ino != 0 && e.type != 0);
		assert_true(e.off != 0 && e.off != off);
		if (e.ino != 0)
			assert_true(e.attr_ttl > 0 && e.entry_ttl > 0 && e.attr.ino != 0);
		off = e.off;
		(void)strcat(strcat(all, name), " ");
	}
	if (want != NULL)
		assert_string_equal(all, want);
	return fetches;
}

/* What a reading from the entry `from` on must find. */
static const char *names_from(size_t from)
{
	static char all[1024];

	all[0] = '\0';
	for (size_t i = from; i < ENTRIES; i++)
		if (!gone[i])
			(void)strcat(strcat(all, name_of(i)), " ");
	return all;
}

/* A reading from the beginning as opendir and readdir do it. */
static size_t read_all(struct world *w, uint64_t ino, bool plus)
{
	struct opened d = open_dir(w, ino);
	uint64_t hits = stats_get(w->stats, STAT_cache_listing_hits);
	bool cached = listing_rewind(d.l);
	size_t fetches = read_from(d, 0, plus, names_from(0));

	assert_int_equal(cached, fetches == 0);
	assert_int_equal(stats_get(w->stats, STAT_cache_listing_hits), hits + cached);
	listing_free(d.l);
	return fetches;
}

static int setup(void **state)
{
	(void)state;
	memset(gone, 0, sizeof(gone));
	shift = 0;
	ascending = false;
	return 0;
}

/* ---- putting together ---- */

static void test_complete(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), UNKNOWN);
	assert_int_equal(read_all(w, CACHE_ROOT, true), ENTRIES / BATCH);
	assert_int_equal(read_all(w, CACHE_ROOT, true), 0);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 0);
	assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), ABSENT);
	assert_true(known_name(w, CACHE_ROOT, name_of(1)) > CACHE_ROOT);
	assert_int_equal(known_name(w, CACHE_ROOT, name_of(2)), UNKNOWN); /* has no node */
	/* with absent names among them, noted or made by the kernel's questions */
	assert_int_equal(known_name(w, CACHE_ROOT, "yyy"), ABSENT);
	assert_int_equal(read_all(w, CACHE_ROOT, true), 0);
	fake_now += DIR_CAP - 1;
	assert_int_equal(read_all(w, CACHE_ROOT, false), 0);
	fake_now += 1;
	assert_int_equal(read_all(w, CACHE_ROOT, false), ENTRIES / BATCH);
	world_free(w);
}

/* Names only are a listing as well. */
static void test_plain_listing(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(read_all(w, CACHE_ROOT, false), ENTRIES / BATCH);
	assert_int_equal(read_all(w, CACHE_ROOT, true), 0);
	assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), ABSENT);
	assert_int_equal(known_name(w, CACHE_ROOT, name_of(1)), UNKNOWN);
	world_free(w);
}

static void test_not_without_a_promise(void **state)
{
	struct world *w = world_new();

	(void)state;
	for (unsigned without = 0; without < 3; without++) {
		struct opened d = open_dir(w, CACHE_ROOT);

		for (size_t i = 0; i < 3; i++)
			answer_fetch(w, fetch(d.l, off_of(i * BATCH), true),
				     i == without ? NO_STAMP : w->seq, BATCH);
		assert_false(listing_rewind(d.l));
		assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), UNKNOWN);
		listing_free(d.l);
	}
	world_free(w);
}

/* Batches that do not follow each other, or come twice, are no whole directory. */
static void test_not_with_a_gap(void **state)
{
	struct world *w = world_new();
	struct opened d = open_dir(w, CACHE_ROOT);

	(void)state;
	answer_fetch(w, fetch(d.l, 0, true), w->seq, BATCH);
	answer_fetch(w, fetch(d.l, off_of(2 * BATCH), true), w->seq, BATCH);
	assert_false(listing_rewind(d.l));
	answer_fetch(w, fetch(d.l, off_of(BATCH), true), w->seq, ENTRIES);
	assert_false(listing_rewind(d.l));
	assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), UNKNOWN);
	listing_free(d.l);
	assert_int_equal(read_all(w, CACHE_ROOT, true), ENTRIES / BATCH);
	world_free(w);
}

/* Whatever happens to the names meanwhile, before, between, or during a batch, ends it. */
static void test_interrupted(void **state)
{
	enum { NAME, NAMES, RESET, CREATE, UNLINK, OTHER_LISTING, NOTHING, HOWS };

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		for (int in_flight = 0; in_flight < 2; in_flight++) {
			struct world *w = world_new();
			struct opened d = open_dir(w, CACHE_ROOT), other = open_dir(w, CACHE_ROOT);
			uint64_t stamp = w->seq;
			struct asked *a;

			answer_fetch(w, fetch(d.l, 0, true), stamp, BATCH);
			a = in_flight ? fetch(d.l, off_of(BATCH), true) : NULL;
			switch (how) {
			case NAME:
				(void)inv_name(w, FAKE_ROOT, "quite another");
				break;
			case NAMES:
				(void)inv(w, FAKE_ROOT, INV_NAMES);
				break;
			case RESET:
				(void)reset(w);
				break;
			case CREATE:
				done_with(w, ask_name(w, MSG_CREATE, CACHE_ROOT, "new"),
					  reply_node(w, w->seq, 77, FILE_MODE, 1));
				break;
			case UNLINK:
				done_with(w, ask_name(w, MSG_UNLINK, CACHE_ROOT, name_of(3)),
					  reply_err(NO_STAMP, EIO));
				break;
			case OTHER_LISTING:
				answer_fetch(w, fetch(other.l, 0, true), w->seq, BATCH);
				break;
			default:
				(void)inv_name(w, 4444, name_of(3));
				(void)inv(w, NODE_OF(1), INV_ATTR | INV_DATA);
			}
			if (a == NULL) /* the rest is from after it, the beginning is not */
				a = fetch(d.l, off_of(BATCH), true);
			answer_fetch(w, a, in_flight ? stamp : w->seq, BATCH);
			answer_fetch(w, fetch(d.l, off_of(2 * BATCH), true), w->seq, BATCH);
			assert_int_equal(listing_rewind(d.l), how == NOTHING);
			assert_int_equal(known_name(w, CACHE_ROOT, "zzz"),
					 how == NOTHING ? ABSENT : UNKNOWN);
			listing_free(d.l);
			listing_free(other.l);
			world_free(w);
		}
	}
}

/*
 * Nodes of the first batches go before the last one comes, by an invalidation of
 * their attributes, for want of room, or because the kernel forgets them: their names
 * stay, and the listing is complete, or it is not said to be.
 */
static void test_nodes_lost_meanwhile(void **state)
{
	enum { INVALIDATED, EVICTED, FORGOTTEN, HOWS };

	(void)state;
	for (int how = 0; how < HOWS; how++) {
		struct cache_options options = lease_options();

		options.node_budget = how == EVICTED ? 1 : options.node_budget;
		struct world *w = world_with(options);
		struct opened d = open_dir(w, CACHE_ROOT);
		uint64_t ino[BATCH] = {0};

		answer_fetch(w, fetch(d.l, 0, true), w->seq, BATCH);
		for (size_t i = 0; i < BATCH; i++) {
			struct listing_entry e;
			char name[16];

			if (how == FORGOTTEN) {
				assert_int_equal(next_entry(d.l, off_of(i), true, &e, name), 1);
				ino[i] = e.ino;
			}
			if (how != EVICTED && has_node(i))
				(void)inv(w, NODE_OF(i), INV_ATTR);
		}
		(void)read_from(d, off_of(BATCH), true, NULL);
		for (size_t i = 0; i < BATCH; i++)
			if (ino[i] != 0)
				forget_all(w, ino[i]);
		for (size_t i = 0; i < ENTRIES; i++)
			assert_int_not_equal(known_name(w, CACHE_ROOT, name_of(i)), ABSENT);
		assert_true(listing_rewind(d.l));
		assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), ABSENT);
		assert_int_equal(read_all(w, CACHE_ROOT, false), 0);
		listing_free(d.l);
		world_free(w);
	}
}

/* Whoever gives a listing up leaves nothing half done to the next. */
static void test_given_up(void **state)
{
	struct world *w = world_new();
	struct opened d = open_dir(w, CACHE_ROOT);

	(void)state;
	answer_fetch(w, fetch(d.l, 0, true), w->seq, BATCH);
	listing_free(d.l);
	uint64_t names = stats_get(w->stats, STAT_cache_names);
	(void)inv(w, NODE_OF(1), INV_ATTR);
	assert_int_equal(known_name(w, CACHE_ROOT, name_of(1)), UNKNOWN);
	assert_int_equal(stats_get(w->stats, STAT_cache_names), names - 1); /* kept for no listing */
	assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), UNKNOWN);
	assert_int_equal(read_all(w, CACHE_ROOT, true), ENTRIES / BATCH);
	assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), ABSENT);
	world_free(w);
}

/* A listing that was read before a change of ours, and comes after it. */
static void test_overtaken_by_an_own_change(void **state)
{
	(void)state;
	for (int during = 0; during < 2; during++) {
		struct world *w = world_new();
		struct opened d = open_dir(w, CACHE_ROOT);
		struct asked *change = NULL, *a;

		if (during)
			change = ask_name(w, MSG_UNLINK, CACHE_ROOT, name_of(3));
		a = fetch(d.l, 0, true);
		if (!during)
			change = ask_name(w, MSG_UNLINK, CACHE_ROOT, name_of(3));
		done_with(w, change, reply_node(w, w->seq, NODE_OF(3), FILE_MODE, 3));
		answer_fetch(w, a, w->seq, ENTRIES); /* has the name */
		assert_false(listing_rewind(d.l));
		assert_int_equal(known_name(w, CACHE_ROOT, name_of(3)), UNKNOWN);
		assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), UNKNOWN);
		listing_free(d.l);
		world_free(w);
	}
}

/* What the server does not list any more is not there. */
static void test_listed_again(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	(void)inv_name(w, FAKE_ROOT, name_of(5));
	gone[5] = gone[9] = true; /* the second INV is still to come */
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 0);
	assert_int_equal(known_name(w, CACHE_ROOT, name_of(5)), ABSENT);
	assert_int_equal(known_name(w, CACHE_ROOT, name_of(9)), ABSENT);
	world_free(w);
}

/*
 * A name that the kernel still holds and that the listing has not: its INV is
 * to come, and has to be told.
 */
static void test_held_name_that_is_not_listed(void **state)
{
	struct world *w = world_new();

	(void)state;
	(void)look_up(w, CACHE_ROOT, name_of(5), NODE_OF(5), FILE_MODE, w->seq);
	gone[5] = true;
	assert_int_equal(read_all(w, CACHE_ROOT, true), 3);
	assert_int_equal(read_all(w, CACHE_ROOT, true), 3); /* not with that name in it */
	told_clear(w);
	(void)inv_name(w, FAKE_ROOT, "first");
	(void)inv_name(w, FAKE_ROOT, name_of(5));
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, name_of(5)), 1);
	assert_int_equal(read_all(w, CACHE_ROOT, true), 3);
	assert_int_equal(read_all(w, CACHE_ROOT, true), 0);
	world_free(w);
}

/* The same for a name that the listing leads elsewhere, or that the kernel holds as absent. */
static void test_held_name_that_leads_elsewhere(void **state)
{
	(void)state;
	for (int absent = 0; absent < 2; absent++) {
		struct world *w = world_new();

		if (absent)
			look_up_absent(w, CACHE_ROOT, name_of(4), w->seq);
		else
			(void)look_up(w, CACHE_ROOT, name_of(4), NODE_OF(4), FILE_MODE, w->seq);
		shift = 5000;
		struct opened d = open_dir(w, CACHE_ROOT);
		answer_fetch(w, fetch(d.l, 0, true), w->seq, ENTRIES); /* not read by anybody */
		(void)inv_name(w, FAKE_ROOT, "first");
		(void)inv_name(w, FAKE_ROOT, name_of(4));
		assert_true(told(w, TOLD_ENTRY, CACHE_ROOT, name_of(4)) >= 1);
		listing_free(d.l);
		shift = 0;
		world_free(w);
	}
}

/* ---- serving ---- */

/* From any cursor, in the order of the server, by whoever opened it when. */
static void test_offsets(void **state)
{
	struct world *w = world_new();
	struct opened old = open_dir(w, CACHE_ROOT);
	struct listing_entry e;
	char name[16];

	(void)state;
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	for (size_t i = ENTRIES; i-- > 0;)
		assert_int_equal(read_from(old, off_of(i), false, names_from(i)), 0);
	assert_int_equal(next_entry(old.l, off_of(ENTRIES), false, &e, name), 0);
	/* an offset that none of the entries has is the server's to understand */
	assert_int_equal(next_entry(old.l, 12345, false, &e, name), -EAGAIN);
	/* two readers, turn by turn, and back to the beginning */
	struct opened d = open_dir(w, CACHE_ROOT);
	assert_true(listing_rewind(d.l));
	for (size_t i = 0; i < ENTRIES; i++) {
		assert_int_equal(next_entry(d.l, off_of(i), false, &e, name), 1);
		assert_string_equal(name, name_of(i));
		assert_int_equal(next_entry(old.l, off_of(ENTRIES - 1 - i), false, &e, name), 1);
		assert_string_equal(name, name_of(ENTRIES - 1 - i));
	}
	assert_true(listing_rewind(d.l));
	assert_int_equal(next_entry(d.l, 0, false, &e, name), 1);
	assert_string_equal(name, name_of(0));
	listing_free(old.l);
	listing_free(d.l);
	world_free(w);
}

/* A peek is not a take: the same entry again. */
static void test_peek_twice(void **state)
{
	struct world *w = world_new();
	struct opened d = open_dir(w, CACHE_ROOT);
	struct listing_entry e;

	(void)state;
	assert_int_equal(read_all(w, CACHE_ROOT, true), 3);
	for (int i = 0; i < 3; i++) {
		listing_lock(d.l);
		assert_int_equal(listing_peek(d.l, off_of(4), true, &e), 1);
		unit_assert_slice(e.name, name_of(4));
		listing_unlock(d.l);
	}
	listing_free(d.l);
	world_free(w);
}

/* A reader in the middle goes on where he was when the cache does not have it any more. */
static void test_end_in_the_middle(void **state)
{
	struct world *w = world_new();
	struct opened d = open_dir(w, CACHE_ROOT);
	struct listing_entry e;
	char name[16];

	(void)state;
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(next_entry(d.l, off_of(i), false, &e, name), 1);
	gone[8] = true;
	(void)inv_name(w, FAKE_ROOT, name_of(8));
	assert_int_equal(read_from(d, off_of(7), false, names_from(7)), 3);
	assert_false(listing_rewind(d.l)); /* the beginning was not seen */
	listing_free(d.l);
	world_free(w);
}

/* A reader who was at the end before there was more. */
/* An offset that was never told: where they ascend, the listing goes on behind it. */
static void test_strange_offsets(void **state)
{
	(void)state;
	ascending = true;
	struct world *w = world_new();
	struct opened d = open_dir(w, CACHE_ROOT);

	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(known_name(w, CACHE_ROOT, "yyy"), ABSENT); /* is no place in it */
	for (size_t i = 0; i < ENTRIES; i++)
		for (uint64_t more = 1; more < 1000; more += 499)
			assert_int_equal(read_from(d, off_of(i) + more, false, names_from(i + 1)), 0);
	assert_int_equal(read_from(d, UINT64_MAX, false, ""), 0);
	/* one that was told, and whose entry has gone */
	gone[12] = true;
	(void)inv_name(w, FAKE_ROOT, name_of(12));
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(read_from(d, off_of(12), false, names_from(12)), 0);
	listing_free(d.l);
	world_free(w);
}

static void test_cursor_of_an_older_listing(void **state)
{
	struct world *w = world_new();
	struct opened d = open_dir(w, CACHE_ROOT);

	(void)state;
	gone[ENTRIES - 1] = true;
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(read_from(d, off_of(20), false, names_from(20)), 0);
	gone[ENTRIES - 1] = false;
	(void)inv_name(w, FAKE_ROOT, name_of(ENTRIES - 1));
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(read_from(d, off_of(ENTRIES - 1), false, names_from(ENTRIES - 1)), 0);
	/* and one whose next entry has gone */
	struct listing_entry e;
	char name[16];
	assert_int_equal(next_entry(d.l, off_of(6), false, &e, name), 1);
	gone[7] = true;
	(void)inv_name(w, FAKE_ROOT, name_of(7));
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(read_from(d, off_of(7), false, names_from(7)), 0);
	listing_free(d.l);
	world_free(w);
}

/* A name that was absent, and was then found there, has no place in the listing. */
static void test_found_after_all(void **state)
{
	struct world *w = world_new();
	struct opened d = open_dir(w, CACHE_ROOT);

	(void)state;
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(known_name(w, CACHE_ROOT, "new"), ABSENT);
	fake_now += NEG_CAP;
	assert_true(listing_rewind(d.l));
	(void)look_up(w, CACHE_ROOT, "new", 60, FILE_MODE, w->seq); /* before its INV has come */
	assert_false(listing_rewind(d.l));
	listing_free(d.l);
	world_free(w);
}

/* A name that only a listing told of is the kernel's once a LOOKUP was answered with it. */
static void test_listed_name_that_is_looked_up(void **state)
{
	(void)state;
	for (int looked_up = 0; looked_up < 2; looked_up++) {
		struct world *w = world_new();
		struct opened d = open_dir(w, CACHE_ROOT);

		answer_fetch(w, fetch(d.l, 0, true), w->seq, ENTRIES);
		(void)inv_name(w, FAKE_ROOT, "first"); /* that takes the listing along */
		if (looked_up) {
			struct asked *a = ask_name(w, MSG_LOOKUP, CACHE_ROOT, name_of(4));

			assert_true(a->local && a->reply.ino != 0);
			free(a);
		}
		(void)inv_name(w, FAKE_ROOT, name_of(4));
		assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, name_of(4)), looked_up);
		listing_free(d.l);
		world_free(w);
	}
}

/* Nodes may go when there are too many: of their names it is known that they are there. */
static void test_evicted_nodes(void **state)
{
	struct cache_options options = lease_options();

	(void)state;
	options.node_budget = 3;
	struct world *w = world_with(options);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3); /* names only */
	options.stats = w->stats;
	struct opened d = open_dir(w, CACHE_ROOT);
	for (size_t i = 0; i < 3; i++)
		answer_fetch(w, fetch(d.l, off_of(i * BATCH), true), w->seq, BATCH);
	listing_free(d.l); /* held the last batch's nodes */
	assert_true(stats_get(w->stats, STAT_cache_nodes) <= 1 + 3);
	assert_int_equal(read_all(w, CACHE_ROOT, true), 0);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 0);
	assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), ABSENT);
	world_free(w);
}

/* An entry with attributes is the kernel's from then on, as a name too; a plain one is not. */
static void test_entries_are_told(void **state)
{
	(void)state;
	for (int plus = 0; plus < 2; plus++) {
		struct world *w = world_new();
		struct opened d = open_dir(w, CACHE_ROOT);
		struct listing_entry e;
		char name[16];

		answer_fetch(w, fetch(d.l, 0, true), w->seq, ENTRIES);
		assert_true(listing_rewind(d.l));
		assert_int_equal(next_entry(d.l, off_of(4), plus, &e, name), 1);
		assert_int_equal(e.ino != 0, plus);
		(void)inv_name(w, FAKE_ROOT, "first");
		(void)inv(w, NODE_OF(4), INV_ATTR);
		(void)inv_name(w, FAKE_ROOT, name_of(4));
		assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, name_of(4)), plus);
		if (plus)
			assert_int_equal(told(w, TOLD_ATTR, e.ino, NULL), 1);
		listing_free(d.l);
		world_free(w);
	}
}

/* A batch that an INV overtakes while it is read: what was outdated is not told. */
static void test_outdated_batch(void **state)
{
	struct world *w = world_new();
	struct opened d = open_dir(w, CACHE_ROOT);
	struct listing_entry e;
	char name[16];

	(void)state;
	answer_fetch(w, fetch(d.l, 0, true), w->seq, BATCH);
	assert_int_equal(next_entry(d.l, 0, true, &e, name), 1);
	assert_true(e.ino != 0);
	(void)inv(w, NODE_OF(1), INV_ATTR);
	assert_int_equal(next_entry(d.l, off_of(1), true, &e, name), 1);
	assert_int_equal(e.ino, 0); /* name and type */
	(void)inv_name(w, FAKE_ROOT, name_of(3));
	assert_int_equal(next_entry(d.l, off_of(2), true, &e, name), -EAGAIN);
	/* the request that fetches it anew gets it, whatever comes meanwhile */
	struct asked *a = fetch(d.l, off_of(2), true);
	uint64_t old = w->seq;
	(void)inv_name(w, FAKE_ROOT, name_of(4));
	answer_fetch(w, a, old, BATCH);
	assert_int_equal(next_entry(d.l, off_of(2), true, &e, name), 1);
	assert_int_equal(next_entry(d.l, off_of(3), true, &e, name), -EAGAIN);
	listing_free(d.l);
	world_free(w);
}

/* A listing in the kernel, from the cache as well, is told to go when a name changes. */
static void test_the_kernels_listing(void **state)
{
	struct world *w = world_new();

	(void)state;
	(void)inv_name(w, FAKE_ROOT, "x");
	assert_int_equal(w->n_told, 0);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	(void)inv(w, FAKE_ROOT, INV_ATTR);
	assert_int_equal(told(w, TOLD_ATTR, CACHE_ROOT, NULL), 1); /* pages stay */
	(void)inv_name(w, FAKE_ROOT, "x");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "x"), 1);
	(void)inv_name(w, FAKE_ROOT, "x");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "x"), 1); /* it has none any more */
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	(void)inv_name(w, FAKE_ROOT, "y");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "y"), 1);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 0);
	told_clear(w);
	(void)inv_name(w, FAKE_ROOT, "z");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "z"), 1);
	(void)inv_name(w, FAKE_ROOT, "z");
	assert_int_equal(told(w, TOLD_ENTRY, CACHE_ROOT, "z"), 1);
	/* and a reading from the cache alone is enough */
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	struct opened d = open_dir(w, CACHE_ROOT);
	cache_drop(w->c, 12345);
	assert_int_equal(read_from(d, 0, false, NULL), 0);
	listing_free(d.l);
	world_free(w);
}

static void test_read_from_the_cache_alone(void **state)
{
	struct world *w = world_new();
	struct asked *a = ask_name(w, MSG_MKNOD, CACHE_ROOT, "d");
	struct msg m = reply_node(w, w->seq, 40, DIR_MODE, 1);

	(void)state;
	answer(w->f, a, &m);
	uint64_t dir = a->reply.ino;
	free(a);
	assert_int_equal(read_all(w, dir, false), 3);
	(void)inv(w, 40, INV_DATA); /* the mark is used up, the names are not */
	assert_int_equal(told(w, TOLD_DATA, dir, NULL), 1);
	assert_int_equal(read_all(w, dir, false), 0);
	(void)inv(w, 40, INV_DATA);
	assert_int_equal(told(w, TOLD_DATA, dir, NULL), 2);
	world_free(w);
}

/* Own changes: all names stay known, but their order is the server's to tell. */
static void test_own_changes(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	struct asked *a = ask_name(w, MSG_UNLINK, CACHE_ROOT, name_of(3));
	struct opened d = open_dir(w, CACHE_ROOT);
	assert_false(listing_rewind(d.l));
	done_with(w, a, reply_node(w, w->seq, NODE_OF(3), FILE_MODE, 1));
	gone[3] = true;
	assert_false(listing_rewind(d.l));
	listing_free(d.l);
	assert_int_equal(known_name(w, CACHE_ROOT, name_of(3)), ABSENT);
	assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), ABSENT);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 0);
	world_free(w);
}

/* The lease ends: nothing is listed, nothing is denied. */
static void test_end_of_the_lease(void **state)
{
	struct cache_options options = lease_options();

	(void)state;
	options.lease = 10 * SECOND;
	struct world *w = world_with(options);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	fake_now += 10 * SECOND;
	assert_int_equal(known_name(w, CACHE_ROOT, "zzz"), UNKNOWN);
	struct opened d = open_dir(w, CACHE_ROOT);
	assert_false(listing_rewind(d.l));
	listing_free(d.l);
	world_free(w);
}

/* More builds than their number has bits for. */
static void test_many_builds(void **state)
{
	struct world *w = world_new();

	(void)state;
	for (int i = 0; i < 300; i++) {
		(void)inv_name(w, FAKE_ROOT, name_of(1));
		struct opened d = open_dir(w, CACHE_ROOT);
		answer_fetch(w, fetch(d.l, 0, false), w->seq, BATCH);
		listing_free(d.l); /* never ended */
	}
	assert_int_equal(read_all(w, CACHE_ROOT, false), 3);
	assert_int_equal(read_all(w, CACHE_ROOT, false), 0);
	world_free(w);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_complete),
	    TEST(test_plain_listing),
	    TEST(test_not_without_a_promise),
	    TEST(test_not_with_a_gap),
	    TEST(test_interrupted),
	    TEST(test_nodes_lost_meanwhile),
	    TEST(test_given_up),
	    TEST(test_overtaken_by_an_own_change),
	    TEST(test_listed_again),
	    TEST(test_held_name_that_is_not_listed),
	    TEST(test_held_name_that_leads_elsewhere),
	    TEST(test_offsets),
	    TEST(test_peek_twice),
	    TEST(test_end_in_the_middle),
	    TEST(test_strange_offsets),
	    TEST(test_cursor_of_an_older_listing),
	    TEST(test_found_after_all),
	    TEST(test_listed_name_that_is_looked_up),
	    TEST(test_evicted_nodes),
	    TEST(test_entries_are_told),
	    TEST(test_outdated_batch),
	    TEST(test_the_kernels_listing),
	    TEST(test_read_from_the_cache_alone),
	    TEST(test_own_changes),
	    TEST(test_end_of_the_lease),
	    TEST(test_many_builds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
