#include "transport/hello.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "transport/codec.h"

size_t hello_encode(const struct msg *m, unsigned char *buf)
{
	memcpy(buf, HELLO_MAGIC, HELLO_MAGIC_LEN);
	return HELLO_MAGIC_LEN +
	       codec_encode_map(m, buf + HELLO_MAGIC_LEN, HELLO_DATA_MAX - HELLO_MAGIC_LEN);
}

int hello_decode(struct slice data, struct msg *ret)
{
	const char *why;

	if (data.len < HELLO_MAGIC_LEN || memcmp(data.data, HELLO_MAGIC, HELLO_MAGIC_LEN) != 0)
		return -ENOMSG;
	if (data.len > HELLO_TAKEN_MAX)
		return -EPROTO;
	return codec_decode_map((const unsigned char *)data.data + HELLO_MAGIC_LEN,
				data.len - HELLO_MAGIC_LEN, ret, &why);
}

size_t hello_encode_refusal(const char *reason, unsigned char *buf)
{
	struct msg m = {0};

	MSG_SET(&m, reason, ((struct slice){reason, strnlen(reason, HELLO_REASON_MAX)}));
	return hello_encode(&m, buf);
}

void hello_reason(struct slice data, int err, char *ret)
{
	struct msg m = {0};

	if (hello_decode(data, &m) < 0 || !MSG_HAS(&m, reason) || m.reason.len == 0) {
		(void)snprintf(ret, HELLO_REASON_MAX + 1, "%s", strerror(err));
		return;
	}
	size_t n = m.reason.len < HELLO_REASON_MAX ? m.reason.len : HELLO_REASON_MAX;
	const unsigned char *text = m.reason.data;
	for (size_t i = 0; i < n; i++)
		ret[i] = text[i] >= ' ' && text[i] < 0x7f ? (char)text[i] : '?';
	ret[n] = '\0';
}
