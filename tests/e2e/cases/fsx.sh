#!/bin/bash
# Random reads, writes, truncations and mapped accesses of one file against a model of it.
# timeout: 240
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test posix/fsxer
for seed in 1 2; do
	must "$VFS_TESTS/posix/fsxer" -n 20000 -s $seed "$VFS_MNT/plain$seed"
	must "$VFS_TESTS/posix/fsxer" -n 10000 -s $seed -m "$VFS_MNT/mapped$seed"
	must "$VFS_TESTS/posix/fsxer" -n 1000 -l 20000000 -s $seed -m "$VFS_MNT/large$seed"
done
