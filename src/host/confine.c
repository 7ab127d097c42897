#include "host/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CAP_WORDS _LINUX_CAPABILITY_U32S_3
#define CAP(n)	  (UINT64_C(1) << (n))

uint64_t confine_caps_held(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[CAP_WORDS] = {0};

	if (syscall(SYS_capget, &h, d) < 0)
		return 0;
	return (uint64_t)d[1].permitted << 32 | d[0].permitted;
}

/* Without CAP_SETPCAP the bounding set stays, which no_new_privs makes meaningless. */
static void drop_bounding(uint64_t keep)
{
	for (unsigned long cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep & CAP(cap)))
			(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

int confine_caps(uint64_t keep)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[CAP_WORDS] = {0};

	keep &= confine_caps_held();
	drop_bounding(keep);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int i = 0; i < CAP_WORDS; i++)
		d[i].effective = d[i].permitted = (uint32_t)(keep >> (32 * i));
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

int confine_no_new_privs(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

void confine_broker(void)
{
	/* Marking file systems; finding the file that a descriptor is, and removing those of ours.
	 */
	(void)confine_caps(CAP(CAP_SYS_ADMIN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_DAC_READ_SEARCH));
	(void)confine_no_new_privs();
	(void)confine_calls(CONFINE_BROKER);
}
