#!/bin/bash
# Each deliberate fault of core/fault.h is caught by the torture test, and without a fault it finds nothing. Only for
# builds of the preset "faults"; tests/coherence/run makes one.
# timeout: 1800
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/torture
grep -q '^VSOCKFS_FAULTS:BOOL=ON' "$VFS_BUILD/CMakeCache.txt" || skip 'not a build with faults'
seconds=$((60 * VFS_SLOW))
names=$(sed -n 's/^\tX(\([a-z_]*\)).*/\1/p' "$VFS_TOP/src/core/fault.h")
# A version drawn late misleads only who has nothing else to go by: the second bump of an own change, or a stamp. What the
# taint keeps out are replies that wait somewhere for a moment; without slow_reply hardly one does. Those are rare all the same.
names=${names/late_version/bump_once,late_version}
names=${names/taint_ignored/taint_ignored,slow_reply}
names=${VFS_FAULTS:-${names/%slow_reply/}}
declare -A longer=([taint_ignored,slow_reply]=5 [bump_once]=2)
[ "$names" ] || fail 'no faults found in core/fault.h'

# one FAULT SEED SECONDS : the torture test's exit code; a server, two mounts and a host directory of its own for each
one() {
	local fault=$1 seed=$2 status=0 home=$VFS_TMP/$1.$2
	mkdir -p "$home/host"
	export VSOCKFS_FAULT=${fault#none}
	serve "$home/s" "$home/host"
	mount_vfs "unix:$home/s" "$home/first" "$VFS_OPTIONS"
	mount_vfs "unix:$home/s" "$home/second" "$VFS_OPTIONS"
	timeout $((120 * VFS_SLOW + $3)) "$VFS_TESTS/coherence/torture" --guest-writers --ops-per-round 30 --full-every 8 \
		--late-ms $((1000 * VFS_SLOW)) --own-late-ms $((100 * VFS_SLOW)) --stop --seed "$seed" --seconds "$3" \
		"$home/host" "$home/first" "$home/second" >"$home/said" 2>&1 || status=$?
	umount_vfs "$home/first"
	umount_vfs "$home/second"
	kill "$served"
	wait "$served" || :
	unset VSOCKFS_FAULT
	return $status
}

caught=0 missed=
for fault in $names; do
	status=0
	begun=$SECONDS
	one "$fault" 1 "$((seconds * ${longer[$fault]:-1}))" || status=$?
	case $status in
	1)
		caught=$((caught + 1))
		note "$fault: caught after $((SECONDS - begun)) s: $(grep -m 1 '^difference' "$VFS_TMP/$fault.1/said")"
		;;
	0)
		missed+=" $fault"
		note "$fault: NOT caught: $(tail -n 1 "$VFS_TMP/$fault.1/said")"
		;;
	*) fail "$fault: exit code $status: $(tail -n 5 "$VFS_TMP/$fault.1/said")" ;;
	esac
done
for fault in none slow_reply; do
	status=0
	one "$fault" 1 "$((seconds / 2))" || status=$?
	[ $status = 0 ] || fail "with $fault the exit code is $status: $(cat "$VFS_TMP/$fault.1/said")"
	note "$fault: $(tail -n 1 "$VFS_TMP/$fault.1/said")"
done
[ -z "$missed" ] || fail "$caught caught; not caught within $seconds s:$missed"
