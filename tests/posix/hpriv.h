/* Between harness.c and hfile.c only. */
#ifndef POSIX_HPRIV_H
#define POSIX_HPRIV_H

/* In the area's child, its directory current: finds what this user can make, opens the clock file.
 */
void hfile_init(void);

#endif
