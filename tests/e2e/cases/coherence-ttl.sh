#!/bin/bash
# The promise of timeouts: when they are over, mounts show what the host has. With cache=ttl, and with the default cache
# where the server cannot watch the host.
# timeout: 120
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/torture
need_program vsockfs
SHORT=attr_timeout=0.4,entry_timeout=0.4,negative_timeout=0.4

# torture SOURCE OPTIONS [FLAG...]
torture() {
	local source=$1 options=$2 status=0
	shift 2
	mount_vfs "$source" "$VFS_TMP/first" "$options"
	mount_vfs "$source" "$VFS_TMP/second" "$options"
	# As in coherence-torture: a mount that is held up by a request of its own acknowledges before it has applied a change.
	"$VFS_TESTS/coherence/torture" --guest-writers --ttl --late-ms $((1000 * VFS_SLOW)) --own-late-ms $((100 * VFS_SLOW)) "$@" \
		"$VFS_HOST" "$VFS_TMP/first" "$VFS_TMP/second" >torture.said || status=$?
	umount_vfs "$VFS_TMP/first"
	umount_vfs "$VFS_TMP/second"
	find "$VFS_HOST" -mindepth 1 -delete
	return $status
}

note 'cache=ttl'
serve "$VFS_TMP/s" "$VFS_HOST"
torture "unix:$VFS_TMP/s" "cache=ttl,$SHORT" --settle wait:700 --seconds 15 || fail "$(cat torture.said)"
note "$(tail -n 3 torture.said)"
note 'a fence takes back what is kept by time'
torture "unix:$VFS_TMP/s" cache=ttl,attr_timeout=60,entry_timeout=60,negative_timeout=60 --settle fence --seconds 12 ||
	fail "$(cat torture.said)"
note "$(tail -n 3 torture.said)"
note 'compared before they are over, the same differs'
status=0
torture "unix:$VFS_TMP/s" cache=ttl --settle none --seconds 12 --stop || status=$?
[ $status = 1 ] || fail "the exit code is $status: $(cat torture.said)"
kill "$served"
wait "$served" || :

note 'a server without a way to watch'
rm -f "$VFS_TMP/s" "$VFS_TMP/s.pid"
unshare --user --map-root-user -- sh -c 'echo 0 >/proc/sys/user/max_fanotify_groups && exec "$@"' sh \
	"$VFS_BIN/vsockfsd" --listen "unix:$VFS_TMP/s" "--pidfile=$VFS_TMP/s.pid" "$VFS_HOST" </dev/null >server.said 2>&1 &
served=$!
wait_for 10 test -s "$VFS_TMP/s.pid"
torture "unix:$VFS_TMP/s" "$SHORT" --settle wait:700 --seconds 15 || fail "$(cat torture.said) $(cat server.said)"
note "$(tail -n 3 torture.said)" "$(cat server.said)"
kill "$served"
wait "$served" || :
