#include "mapped.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>

static sigjmp_buf on_bus_error;

static void bus_error(int sig)
{
	(void)sig;
	siglongjmp(on_bus_error, 1);
}

void mapped_init(void)
{
	struct sigaction sa = {.sa_handler = bus_error, .sa_flags = SA_NODEFER};

	(void)sigaction(SIGBUS, &sa, NULL);
}

bool copy_mapped(void *to, const void *from, size_t size)
{
	if (sigsetjmp(on_bus_error, 0) != 0)
		return false;
	memcpy(to, from, size);
	return true;
}
