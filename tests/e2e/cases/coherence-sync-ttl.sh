#!/bin/bash
# What is kept by time only goes when a lock is granted: with cache=ttl, and with the default cache where the server cannot
# watch the host.
# timeout: 600
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/handover
need_program vsockfs
LONG=attr_timeout=60,entry_timeout=60,negative_timeout=60,dir_timeout=60

# handover SOURCE OPTIONS WAY
handover() {
	local status=0
	mount_vfs "$1" "$VFS_TMP/first" "$2"
	mount_vfs "$1" "$VFS_TMP/second" "$2"
	"$VFS_TESTS/coherence/handover" "$3" "$VFS_HOST" "$VFS_TMP/first" "$VFS_TMP/second" >handover.said 2>&1 || status=$?
	umount_vfs "$VFS_TMP/first"
	umount_vfs "$VFS_TMP/second"
	return $status
}

serve "$VFS_TMP/s" "$VFS_HOST"
for way in fcntl ofd flock; do
	handover "unix:$VFS_TMP/s" "cache=ttl,$LONG" "$way" || fail "cache=ttl: $(cat handover.said)"
	note "cache=ttl: $(cat handover.said)"
done
kill "$served"
wait "$served" || :

rm -f "$VFS_TMP/s" "$VFS_TMP/s.pid"
unshare --user --map-root-user -- sh -c 'echo 0 >/proc/sys/user/max_fanotify_groups && exec "$@"' sh \
	"$VFS_BIN/vsockfsd" --listen "unix:$VFS_TMP/s" "--pidfile=$VFS_TMP/s.pid" "$VFS_HOST" </dev/null >server.said 2>&1 &
served=$!
wait_for 10 test -s "$VFS_TMP/s.pid"
for way in fcntl flock; do
	handover "unix:$VFS_TMP/s" "$LONG" "$way" || fail "nobody watches: $(cat handover.said)"
	note "nobody watches: $(cat handover.said)"
done
kill "$served"
wait "$served" || :
