/*
 * Who may connect: rules about the peer of a socket, as the kernel knows it. What a peer says of
 * itself comes later, with HELLO.
 *
 * Calling sequence: a struct admit of zeros lets everybody in; admit_parse adds a rule; admit_check
 * asks for one connected socket, on any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADMIT_RULES_MAX 64
#define ADMIT_TEXT_MAX	64

enum admit_kind { ADMIT_CID, ADMIT_UID };

struct admit {
	struct {
		enum admit_kind kind;
		uint32_t id;
	} rules[ADMIT_RULES_MAX];
	size_t n;	    /* 0: whoever can connect may; else a peer that no rule names may not */
	bool reserved_port; /* a vsock peer's port is below 1024, which takes privilege there */
};

/* Adds the rule "cid:N" or "uid:N"; -EINVAL with one line in err. */
int admit_parse(struct admit *a, const char *text, char *err, size_t err_len);

/* 0 if the peer of fd may connect; else -EACCES, and which peer that is in who (ADMIT_TEXT_MAX). */
int admit_check(const struct admit *a, int fd, char *who);
