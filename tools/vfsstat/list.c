/* --list: every figure that there can be, from the tables. */
#include <string.h>

#include "core/stats_priv.h"
#include "views.h"

static void put(const char *name, const char *type, const char *unit, const char *text)
{
	char dotted[64];

	(void)snprintf(dotted, sizeof(dotted), "%s", name);
	char *sep = strchr(dotted, '_');
	if (sep != NULL)
		*sep = '.';
	(void)printf("%-28s %-8s %-6s %s\n", dotted, type, unit, text);
}

int view_list(void)
{
#define COUNTER(name, unit, text)   put(#name, "counter", #unit, text);
#define GAUGE(name, unit, text)	    put(#name, "gauge", #unit, text);
#define HISTOGRAM(name, unit, text) put(#name, "hist", #unit, text);
#define TEXT(name, text)	    put(#name, "text", "", text);
#include "core/counters.def"
	for (uint32_t i = 0; i < stats_fuse_rows; i++)
		(void)printf("fuse.op.%-20s %-8s %-6s %s\n", stats_fuse_names[i].name, "op", "ns",
			     stats_fuse_names[i].text);
	for (uint32_t i = 0; i < stats_rpc_rows; i++)
		(void)printf("rpc.op.%-21s %-8s %-6s %s\n", stats_rpc_names[i].name, "op", "ns",
			     stats_rpc_names[i].text);
	return fflush(stdout) == 0 ? 0 : 1;
}
