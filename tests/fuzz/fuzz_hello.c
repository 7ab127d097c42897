/* The data of HELLO and of its reply, a refusal's reason included: a map that may have grown. */
#include "fuzz.h"

#include "transport/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *exact = malloc(HELLO_MAGIC_LEN + size);
	unsigned char again[HELLO_DATA_MAX];
	char reason[HELLO_REASON_MAX + 1];
	struct slice in = {exact, HELLO_MAGIC_LEN + size};
	struct msg m = {0}, back = {0};

	FUZZ_CHECK(exact != NULL);
	memcpy(exact, HELLO_MAGIC, HELLO_MAGIC_LEN);
	if (size > 0)
		memcpy(exact + HELLO_MAGIC_LEN, data, size);
	if (hello_decode(in, &m) == 0) {
		size_t n = hello_encode(&m, again);
		if (n > HELLO_MAGIC_LEN) {
			FUZZ_CHECK(hello_decode((struct slice){again, n}, &back) == 0);
			FUZZ_CHECK(back.present == m.present);
		}
		(void)msg_reply_complete(MSG_HELLO, &m);
	}
	hello_reason(in, 71, reason);
	for (const char *p = reason; *p != '\0'; p++)
		FUZZ_CHECK(*p >= ' ' && *p < 0x7f);
	free(exact);
	return 0;
}
