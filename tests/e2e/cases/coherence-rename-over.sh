#!/bin/bash
# A name that is renamed over again and again is never missing, never torn and never goes back: in the mounts while the
# host does it, on the host and in the second mount while the first one does it.
# timeout: 1200
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/replace
count=${VFS_REPLACE_COUNT:-10000}
second=$VFS_TMP/second
mount_again "$second"
fenced=()
is_bind || [ "$VFS_CACHE" ] || fenced=(--fence)
replace() {
	"$VFS_TESTS/coherence/replace" "$@" >replace.said 2>&1 || fail "$(cat replace.said)"
	note "$(cat replace.said)"
}

note 'on the host'
replace "${fenced[@]}" "$count" "$VFS_HOST" "$VFS_MNT" "$second"
note 'in the first mount, seen on the host'
replace "$count" "$VFS_MNT" "$VFS_HOST"
note 'in the first mount, seen in the second'
# Two embedded servers hear of each other's changes as the host's.
[ "$VFS_TRANSPORT" = dir ] || fenced=()
replace "${fenced[@]}" "$((count / 4))" "$VFS_MNT" "$second"
umount_vfs "$second"
