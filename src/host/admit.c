#include "host/admit.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RESERVED_PORT_MAX 1023 /* LAST_RESERVED_PORT of af_vsock.c */

static const char *const schemes[] = {[ADMIT_CID] = "cid:", [ADMIT_UID] = "uid:"};

/* Digits and nothing else; the kernel keeps the largest number for "any" and "none". */
static bool take_number(const char *text, uint32_t *ret)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	unsigned long v = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

int admit_parse(struct admit *a, const char *text, char *err, size_t err_len)
{
	uint32_t id;

	if (a->n == ADMIT_RULES_MAX) {
		(void)snprintf(err, err_len, "more than %d peers", ADMIT_RULES_MAX);
		return -EINVAL;
	}
	for (size_t k = 0; k < sizeof(schemes) / sizeof(schemes[0]); k++) {
		size_t len = strlen(schemes[k]);

		if (strncmp(text, schemes[k], len) != 0 || !take_number(text + len, &id))
			continue;
		a->rules[a->n].kind = (enum admit_kind)k;
		a->rules[a->n++].id = id;
		return 0;
	}
	(void)snprintf(err, err_len, "'%s' names no peer; use cid:N or uid:N", text);
	return -EINVAL;
}

struct admit_peer {
	bool known; /* it is one of the kinds that a rule can name */
	enum admit_kind kind;
	uint32_t id;
	uint32_t port; /* ADMIT_CID */
};

static struct admit_peer peer_of(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_vm vm;
		struct sockaddr_storage room;
	} a = {0};
	struct ucred cred;
	socklen_t len = sizeof(a), cred_len = sizeof(cred);

	if (getpeername(fd, &a.any, &len) < 0)
		return (struct admit_peer){0};
	if (a.any.sa_family == AF_VSOCK && len >= sizeof(a.vm))
		return (struct admit_peer){true, ADMIT_CID, a.vm.svm_cid, a.vm.svm_port};
	/* Of whoever called connect(2), as this process's user namespace knows him. */
	if (a.any.sa_family == AF_UNIX &&
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) == 0)
		return (struct admit_peer){true, ADMIT_UID, cred.uid, 0};
	return (struct admit_peer){0};
}

static bool named(const struct admit *a, const struct admit_peer *p)
{
	for (size_t i = 0; i < a->n; i++)
		if (p->known && a->rules[i].kind == p->kind && a->rules[i].id == p->id)
			return true;
	return a->n == 0;
}

int admit_check(const struct admit *a, int fd, char *who)
{
	if (a->n == 0 && !a->reserved_port)
		return 0;
	struct admit_peer p = peer_of(fd);
	if (named(a, &p) &&
	    !(a->reserved_port && p.known && p.kind == ADMIT_CID && p.port > RESERVED_PORT_MAX))
		return 0;
	if (!p.known)
		(void)snprintf(who, ADMIT_TEXT_MAX, "a peer of unknown kind");
	else if (p.kind == ADMIT_UID)
		(void)snprintf(who, ADMIT_TEXT_MAX, "uid:%u", p.id);
	else
		(void)snprintf(who, ADMIT_TEXT_MAX, "cid:%u, port %u", p.id, p.port);
	return -EACCES;
}
