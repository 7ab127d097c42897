#!/bin/bash
# Concurrent changes of names and files by several processes; afterwards mount and host are the same.
# timeout: 240
# as: root user
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test posix/fsstorm
need_test posix/treecmp
for seed in 1 2; do
	must "$VFS_TESTS/posix/fsstorm" -p 6 -n 2000 -s $seed "$VFS_MNT"
	[ "$(find "$VFS_HOST" | wc -l)" -gt 50 ] || fail 'the storm left next to nothing to compare'
	treecmp "$VFS_HOST" "$VFS_MNT"
done
