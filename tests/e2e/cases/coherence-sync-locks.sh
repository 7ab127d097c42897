#!/bin/bash
# Host and two mounts take turns under locks: whoever is granted one, at once, after waiting, raised or lowered, finds what
# the last holder left, whatever file it is in.
# timeout: 600
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/handover
[[ ,$VFS_OPTIONS, != *,no_open,* && ,$VFS_OPTIONS, != *,locks=local,* ]] || skip "the host does not know of these locks"
mount_again "$VFS_TMP/second"
"$VFS_TESTS/coherence/handover" --pairs 6 --turns 150 fcntl,ofd,flock "$VFS_HOST" "$VFS_MNT" "$VFS_TMP/second" \
	>handover.said 2>&1 || fail "$(cat handover.said)"
note "$(cat handover.said)"
umount_vfs "$VFS_TMP/second"
