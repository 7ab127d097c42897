/*
 * Deliberate faults, to show that the tests can fail: each breaks one rule of
 * doc/coherence.md, and the torture test must catch it. They exist only in
 * builds with -DVSOCKFS_FAULTS (preset "faults"), chosen by the environment
 * variable VSOCKFS_FAULT=name[,name...]; in any other build FAULT(x) is false
 * at compile time.
 */
#pragma once

#include <stdbool.h>

#define FAULTS(X)                                                                                  \
	X(stamp_ignored) /* client: a reply is installed though an INV overtook it */              \
	X(taint_ignored) /* client: a reply is installed though a change by this client overtook   \
			    it */                                                                  \
	X(bump_once)	 /* client: own changes bump when submitted only */                        \
	X(no_notify)	 /* client: the kernel is told of no invalidation */                       \
	X(no_growth)	 /* client: a file does not grow before the reply that says so */          \
	X(no_expiry)	 /* client: names of directories are taken out of the kernel's tree */     \
	X(expire_once)	 /* client: names expire once, though look-ups may be on their way         \
			  */                                                                       \
	X(size_unforced) /* client: other sizes are told while one is forced */                    \
	X(size_unasked)	 /* client: it does not ask for the size of an open file */                \
	X(read_unsaid)	 /* client: a READ brings more than the size that was told */              \
	X(open_unasked)	 /* client: open(2) without a promise asks for no attributes */            \
	X(direct_kept)	 /* client: pages stay behind a WRITE with O_DIRECT */                     \
	X(no_barrier)	 /* client: an invalidation that found no inode is not repeated */         \
	X(no_sync_fence) /* both: a lock or a new name brings no client up to date */              \
	X(late_promise)	 /* server: the promise is armed after the read */                         \
	X(late_version)	 /* server: the version is drawn after the fstat */                        \
	X(no_own_break)	 /* server: changes by one client break no promise of another */           \
	X(slow_host)	 /* server: no fault, but requests that wait give others time */

enum fault {
#define FAULT_ENUM(name) FAULT_##name,
	FAULTS(FAULT_ENUM)
#undef FAULT_ENUM
};

#ifdef VSOCKFS_FAULTS
bool fault_on(enum fault f);
#define FAULT(name) fault_on(FAULT_##name)
#else
#define FAULT(name) false
#endif
