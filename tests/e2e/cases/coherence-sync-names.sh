#!/bin/bash
# Host and two mounts take turns by names: files made with O_EXCL, directories, and a token that is renamed. Whoever makes
# one finds what was done while it was another's, in that directory too: .git/index.lock, then .git/index.
# timeout: 600
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/handover
[ "$VFS_CACHE" != cache=ttl ] || skip "by timeouts only a lock brings what is new"
mount_again "$VFS_TMP/second"
"$VFS_TESTS/coherence/handover" --pairs 6 --turns 150 lockfile,lockdir,rename "$VFS_HOST" "$VFS_MNT" "$VFS_TMP/second" \
	>handover.said 2>&1 || fail "$(cat handover.said)"
note "$(cat handover.said)"
umount_vfs "$VFS_TMP/second"
