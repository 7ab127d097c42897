#!/bin/bash
# The torture test finds nothing where nothing is kept, and does find what is kept for a time only.
# timeout: 60
# options: cache=none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/torture
mount_again "$VFS_TMP/second" cache=none
# A mapping asks nobody.
torture() { "$VFS_TESTS/coherence/torture" --settle none --no-mappings --guest-writers "$@"; }

note 'nothing is kept'
must torture --seconds 6 "$VFS_HOST" "$VFS_MNT" "$VFS_TMP/second"

is_bind || {
	note 'everything is kept for a minute'
	umount_vfs "$VFS_TMP/second"
	mkdir "$VFS_HOST/ttl"
	mount_again "$VFS_TMP/second" cache=ttl,attr_timeout=60,entry_timeout=60,negative_timeout=60
	status=0
	torture --seconds 20 --stop "$VFS_HOST/ttl" "$VFS_TMP/second/ttl" >torture.ttl || status=$?
	[ $status = 1 ] || fail "with cache=ttl the exit code is $status: $(tail -n 1 torture.ttl)"
	grep -q '^difference: ' torture.ttl || fail "no difference is shown"
}
umount_vfs "$VFS_TMP/second"
