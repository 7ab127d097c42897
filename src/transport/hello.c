#include "transport/hello.h"

#include <errno.h>
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
		return -EPROTO;
	return codec_decode_map((const unsigned char *)data.data + HELLO_MAGIC_LEN,
				data.len - HELLO_MAGIC_LEN, ret, &why);
}
