/* Requests: their times, their errors, who causes them, which are pending. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/msg.h"
#include "core/stats_priv.h"

#define PROBES 8 /* rows that are looked at for a free one */

enum fuse_row {
#define FUSE_OP(code, name) ROW_##name,
#include "core/fuse_ops.def"
#undef FUSE_OP
	ROW_OTHER,
	FUSE_ROWS
};

const struct stats_op_name stats_fuse_names[] = {
#define FUSE_OP(code, name) {#name, "requests of the kernel: " #name},
#include "core/fuse_ops.def"
#undef FUSE_OP
	{"OTHER", "requests of the kernel that have no name here"},
};
const uint32_t stats_fuse_rows = FUSE_ROWS;

enum rpc_row {
#define MESSAGE(code, NAME, request, reply, traits_, text) RPC_##NAME,
#define PUSH(code, NAME, request, reply, traits_, text)
#include "core/messages.def"
#undef MESSAGE
	RPC_OTHER,
	RPC_ROWS
};

const struct stats_op_name stats_rpc_names[] = {
#define MESSAGE(code, NAME, request, reply, traits_, text) {#NAME, text},
#define PUSH(code, NAME, request, reply, traits_, text)
#include "core/messages.def"
#undef MESSAGE
	{"OTHER", "messages of the plain protocol, and those that have no name here"},
};
const uint32_t stats_rpc_rows = RPC_ROWS;

static uint32_t fuse_row(uint32_t opcode)
{
	static const uint8_t rows[64] = {
#define FUSE_OP(code, name) [code] = ROW_##name + 1,
#include "core/fuse_ops.def"
#undef FUSE_OP
	};

	return opcode < 64 && rows[opcode] != 0 ? rows[opcode] - 1u : ROW_OTHER;
}

static uint32_t rpc_row(uint64_t op)
{
	static const uint8_t rows[128] = {
#define MESSAGE(code, NAME, request, reply, traits_, text) [code] = RPC_##NAME + 1,
#define PUSH(code, NAME, request, reply, traits_, text)
#include "core/messages.def"
#undef MESSAGE
	};

	return op < 128 && rows[op] != 0 ? rows[op] - 1u : RPC_OTHER;
}

const char *stats_fuse_name(uint32_t row)
{
	return stats_fuse_names[row < FUSE_ROWS ? row : ROW_OTHER].name;
}

/* The request that this thread works for. */
static _Thread_local struct {
	const struct stats *stats; /* NULL: no known request */
	uint64_t unique;
	uint32_t pending;
	uint64_t wait, rtt; /* of the message whose completion runs */
} origin;

#define LOAD(field)	    atomic_load_explicit(&(field), memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&(field), value, memory_order_relaxed)

/* ---- processes ---- */

/* Called for a task's first request, while the task surely lives: most tasks have ended before a
 * program reads the statistics. */
static void read_comm(uint32_t pid, char *comm, size_t len)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, comm, len - 1) : 0;

	memset(comm + (n > 0 ? n - 1 : 0), 0, len - (size_t)(n > 0 ? n - 1 : 0));
}

static void process_clear(struct stats_process *p)
{
	STORE(p->requests, 0);
	STORE(p->reads, 0);
	STORE(p->writes, 0);
	STORE(p->lookups, 0);
	STORE(p->rpcs, 0);
	STORE(p->bytes_read, 0);
	STORE(p->bytes_written, 0);
	STORE(p->time, 0);
}

/* The row of a task + 1; 0: none, as for requests that the kernel makes by itself. */
static uint32_t process_find(struct stats *s, uint32_t pid, uint32_t uid, uint64_t now)
{
	uint32_t home = pid * 2654435761u >> 24, victim = 0;
	uint64_t oldest = UINT64_MAX;

	if (pid == 0)
		return 0;
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = (home + i) % STATS_PROCESSES;
		struct stats_process *p = &s->process[at];
		uint32_t owner = LOAD(p->pid);
		uint64_t last = owner == 0 ? 0 : LOAD(p->last);

		if (owner == pid)
			return at + 1;
		if (last < oldest) {
			oldest = last;
			victim = at;
		}
	}
	struct stats_process *p = &s->process[victim];
	uint32_t owner = LOAD(p->pid);
	STORE(p->last, now);
	if (!atomic_compare_exchange_strong(&p->pid, &owner, pid))
		return 0; /* another thread has taken the row for a new task */
	process_clear(p);
	STORE(p->uid, uid);
	read_comm(pid, p->comm, sizeof(p->comm));
	return victim + 1;
}

static uint32_t process_begin(struct stats *s, const struct stats_request *r, uint32_t row,
			      uint64_t now)
{
	uint32_t found = process_find(s, r->pid, r->uid, now);

	if (found == 0)
		return 0;
	struct stats_process *p = &s->process[found - 1];
	STORE(p->last, now);
	stats_count(&p->requests, 1);
	if (row == ROW_READ)
		stats_count(&p->reads, 1);
	else if (row == ROW_WRITE)
		stats_count(&p->writes, 1);
	else if (row == ROW_LOOKUP)
		stats_count(&p->lookups, 1);
	return found;
}

/* ---- requests of the kernel ---- */

/* Request numbers grow by two (fuse_get_unique), so those in flight seldom have the same row. */
static uint32_t pending_home(uint64_t unique)
{
	return (uint32_t)(unique >> 1) % STATS_PENDING;
}

static struct stats_pending *pending_take(struct stats *s, uint64_t unique)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		struct stats_pending *p = &s->pending[(pending_home(unique) + i) % STATS_PENDING];
		uint64_t none = 0;

		if (LOAD(p->unique) == 0 &&
		    atomic_compare_exchange_strong(&p->unique, &none, unique))
			return p;
	}
	return NULL;
}

static struct stats_pending *pending_find(struct stats *s, uint64_t unique)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		struct stats_pending *p = &s->pending[(pending_home(unique) + i) % STATS_PENDING];

		if (LOAD(p->unique) == unique)
			return p;
	}
	return NULL;
}

void stats_fuse_begin(struct stats *s, const struct stats_request *r)
{
	if (s == NULL)
		return;
	uint64_t now = stats_now();
	uint32_t row = fuse_row(r->opcode);
	uint32_t process = process_begin(s, r, row, now);

	stats_count(&s->value[STAT_fuse_requests], 1);
	stats_count(&s->fuse[row].count, 1);
	origin.stats = NULL;
	if (!r->answered)
		return;
	stats_count(&s->value[STAT_fuse_pending], 1);
	struct stats_pending *p = pending_take(s, r->unique);
	if (p == NULL) {
		stats_count(&s->value[STAT_fuse_untimed], 1);
		return;
	}
	STORE(p->node, r->node);
	STORE(p->op, row);
	STORE(p->pid, r->pid);
	STORE(p->uid, r->uid);
	STORE(p->rpcs, 0);
	STORE(p->rpc, 0);
	STORE(p->sent, 0);
	STORE(p->process, process);
	atomic_store_explicit(&p->start, now, memory_order_release);
	origin.stats = s;
	origin.wait = origin.rtt = 0;
	origin.unique = r->unique;
	origin.pending = (uint32_t)(p - s->pending);
}

static void count_error(struct stats *s, struct stats_op *op, int err)
{
	if (err == 0)
		return;
	(void)atomic_fetch_add_explicit(&op->errors[err > 0 && err < STATS_ERRNOS ? err : 0], 1,
					memory_order_relaxed);
	if (s->fuse != NULL && op >= s->fuse && op < s->fuse + FUSE_ROWS)
		stats_count(&s->value[err == ENOENT ? STAT_fuse_enoent : STAT_fuse_errors], 1);
}

static void count_bytes(struct stats *s, uint32_t row, struct stats_process *who,
			const struct stats_reply *reply)
{
	if (row == ROW_READ) {
		stats_count(&s->value[STAT_fuse_bytes_read], reply->read);
		if (who != NULL)
			stats_count(&who->bytes_read, reply->read);
	} else if (row == ROW_WRITE) {
		stats_count(&s->value[STAT_fuse_bytes_written], reply->written);
		if (who != NULL)
			stats_count(&who->bytes_written, reply->written);
	}
}

/* Frees the row of a pending request, and returns the facts about the request. */
static struct stats_answer pending_end(struct stats_pending *p, const struct stats_reply *reply,
				       uint32_t *ret_process)
{
	struct stats_answer a = {.unique = reply->unique,
				 .node = LOAD(p->node),
				 .op = LOAD(p->op),
				 .pid = LOAD(p->pid),
				 .uid = LOAD(p->uid),
				 .rpcs = LOAD(p->rpcs),
				 .ns = stats_now() - LOAD(p->start),
				 .err = reply->err};

	if (a.op == ROW_LOOKUP && reply->no_entry)
		a.err = ENOENT; /* the kernel got an entry without a node, which it remembers */
	*ret_process = LOAD(p->process);
	STORE(p->start, 0);
	atomic_store_explicit(&p->unique, 0, memory_order_release);
	return a;
}

bool stats_fuse_end(struct stats *s, const struct stats_reply *reply, struct stats_answer *ret)
{
	if (s == NULL)
		return false;
	stats_sub(s, STAT_fuse_pending, 1);
	struct stats_pending *p = pending_find(s, reply->unique);
	if (p == NULL)
		return false;

	uint32_t process;
	struct stats_answer a = pending_end(p, reply, &process);
	struct stats_op *op = &s->fuse[a.op];
	struct stats_process *who = NULL;

	if (process != 0 && LOAD(s->process[process - 1].pid) == a.pid)
		who = &s->process[process - 1];
	stats_hist_add(&op->time, a.ns);
	stats_count(&op->rpcs, a.rpcs);
	if (a.rpcs == 0)
		stats_count(&s->value[STAT_fuse_answered], 1);
	if (who != NULL)
		stats_count(&who->time, a.ns);
	count_error(s, op, a.err);
	count_bytes(s, a.op, who, reply);
	if (origin.stats == s && origin.unique == reply->unique) {
		a.wait = origin.wait;
		a.rtt = origin.rtt;
	}
	*ret = a;
	return true;
}

/* ---- messages to the host ---- */

/* The request that a message belongs to, if it is still pending. */
static struct stats_pending *span_pending(struct stats *s, const struct stats_span *span)
{
	struct stats_pending *p = span->unique != 0 ? &s->pending[span->pending] : NULL;

	return p != NULL && LOAD(p->unique) == span->unique ? p : NULL;
}

void stats_rpc_queue(struct stats *s, struct stats_span *span, bool oneway)
{
	*span = (struct stats_span){0};
	if (s == NULL || oneway)
		return;
	span->queued = stats_now();
	span->waiting = true;
	stats_count(&s->value[STAT_rpc_waiting], 1);
	if (origin.stats == s) {
		span->unique = origin.unique;
		span->pending = origin.pending;
	}
}

void stats_rpc_send(struct stats *s, struct stats_span *span, uint64_t op, bool oneway)
{
	if (s == NULL)
		return;
	struct stats_op *row = &s->rpc[rpc_row(op)];
	struct stats_pending *p = span_pending(s, span);
	bool heartbeat = msg_is(op, TRAIT_HEARTBEAT);

	stats_count(&row->count, 1);
	stats_count(&s->value[oneway	  ? STAT_rpc_oneway
			      : heartbeat ? STAT_rpc_pings
					  : STAT_rpc_requests],
		    1);
	if (oneway)
		return;
	if (!heartbeat && p == NULL)
		stats_count(&s->value[STAT_rpc_own], 1);
	span->sent = stats_now();
	if (span->waiting) {
		span->waiting = false;
		stats_sub(s, STAT_rpc_waiting, 1);
	} else {
		span->queued = span->sent;
	}
	stats_count(&row->wait, span->sent - span->queued);
	if (!heartbeat)
		stats_hist_add(&s->hist[HIST_rpc_wait], span->sent - span->queued);
	span->out = true;
	stats_count(&s->value[STAT_rpc_pending], 1);

	if (p == NULL)
		return;
	uint32_t process = LOAD(p->process);
	(void)atomic_fetch_add_explicit(&p->rpcs, 1, memory_order_relaxed);
	STORE(p->rpc, rpc_row(op) + 1);
	STORE(p->sent, span->sent);
	if (process != 0)
		stats_count(&s->process[process - 1].rpcs, 1);
}

void stats_rpc_done(struct stats *s, struct stats_span *span, uint64_t op, int err)
{
	if (s == NULL)
		return;
	struct stats_op *row = &s->rpc[rpc_row(op)];
	uint64_t now = stats_now(), rtt = now - span->sent;

	stats_set(s, STAT_conn_heard, now);
	stats_sub(s, STAT_rpc_pending, 1);
	span->out = false;
	stats_hist_add(&row->time, rtt);
	if (!msg_is(op, TRAIT_HEARTBEAT))
		stats_hist_add(&s->hist[HIST_rpc_rtt], rtt);
	if (err != 0)
		stats_count(&s->value[STAT_rpc_errors], 1);
	count_error(s, row, err);
	origin.stats = span->unique != 0 ? s : NULL;
	origin.unique = span->unique;
	origin.pending = span->pending;
	origin.wait = span->sent - span->queued;
	origin.rtt = rtt;
}

void stats_rpc_drop(struct stats *s, struct stats_span *span)
{
	if (s == NULL)
		return;
	if (span->waiting)
		stats_sub(s, STAT_rpc_waiting, 1);
	if (span->out)
		stats_sub(s, STAT_rpc_pending, 1);
	span->waiting = span->out = false;
}

void stats_rpc_again(struct stats *s, struct stats_span *span)
{
	stats_rpc_drop(s, span);
	if (s == NULL)
		return;
	span->waiting = true;
	stats_count(&s->value[STAT_rpc_waiting], 1);
}

void stats_executed(struct stats *s, uint64_t op, uint64_t ns, int err)
{
	if (s == NULL)
		return;
	struct stats_op *row = &s->rpc[rpc_row(op)];

	stats_count(&row->count, 1);
	stats_count(&s->value[STAT_server_requests], 1);
	stats_hist_add(&row->time, ns);
	count_error(s, row, err);
	if (err != 0)
		stats_count(&s->value[STAT_server_errors], 1);
}
