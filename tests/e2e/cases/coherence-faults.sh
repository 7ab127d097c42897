#!/bin/bash
# Each deliberate fault of core/fault.h is caught by the torture test, or by that of what it breaks: no_growth by a file that
# grows, no_expiry and expire_once by directories that the host moves, what synchronises by the model; without a fault it
# finds nothing. Only for builds of the preset "faults"; tests/coherence/run makes one.
# timeout: 1800
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/torture
need_test coherence/grow
need_test coherence/model
need_test coherence/place
grep -q '^VSOCKFS_FAULTS:BOOL=ON' "$VFS_BUILD/CMakeCache.txt" || skip 'not a build with faults'
seconds=$((60 * VFS_SLOW))
names=$(sed -n 's/^\tX(\([a-z_]*\)).*/\1/p' "$VFS_TOP/src/core/fault.h")
# What generations keep out are requests and replies that wait somewhere for a moment: without slow_host hardly one does. A
# version drawn late misleads only who has nothing else to go by: the second bump of an own change, or a stamp.
names=${names/late_version/bump_once,late_version,slow_host}
names=${names/taint_ignored/taint_ignored,slow_host}
names=${names/bump_once$'\n'/bump_once,slow_host$'\n'}
names=${VFS_FAULTS:-${names/%slow_host/}}
[ "$names" ] || fail 'no faults found in core/fault.h'

# one FAULT SEED SECONDS : the test's exit code; a server, two mounts and a host directory of its own for each
one() {
	local fault=$1 seed=$2 status=0 home=$VFS_TMP/$1.$2
	mkdir -p "$home/host"
	export VSOCKFS_FAULT=${fault#none}
	serve "$home/s" "$home/host"
	mount_vfs "unix:$home/s" "$home/first" "$VFS_OPTIONS"
	mount_vfs "unix:$home/s" "$home/second" "$VFS_OPTIONS"
	local program=(torture --guest-writers --ops-per-round 30 --full-every 8 --late-ms $((1000 * VFS_SLOW))
		--own-late-ms $((100 * VFS_SLOW)) --stop --seed "$seed" --seconds "$3"
		"$home/host" "$home/first" "$home/second")
	case $fault in
	no_growth) program=(grow 2000 "$home/host" "$home/first") ;;
	no_expiry) program=(place 20 "$home/host" "$home/first") ;;
	expire_once) program=(place --looks 3000 "$home/host" "$home/first") ;;
	*sync*)
		program=(model --late-ms $((1000 * VFS_SLOW)) --own-late-ms $((100 * VFS_SLOW)) --stop
			--seed "$seed" --seconds "$3" "$home/host" "$home/first" "$home/second")
		;;
	esac
	timeout $((120 * VFS_SLOW + $3)) "$VFS_TESTS/coherence/${program[0]}" "${program[@]:1}" >"$home/said" 2>&1 || status=$?
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
	limit=$seconds
	[[ $fault != *slow_host ]] || limit=$((3 * seconds)) # less is done in the same time
	one "$fault" 1 "$limit" || status=$?
	case $status in
	1)
		caught=$((caught + 1))
		note "$fault: caught after $((SECONDS - begun)) s: $(grep -m 1 -e '^difference' -e 'with a NUL' -e '^impossible' -e 'getcwd says' "$VFS_TMP/$fault.1/said")"
		;;
	0)
		missed+=" $fault"
		note "$fault: NOT caught: $(tail -n 1 "$VFS_TMP/$fault.1/said")"
		;;
	*) fail "$fault: exit code $status: $(tail -n 5 "$VFS_TMP/$fault.1/said")" ;;
	esac
done
for fault in none slow_host; do
	status=0
	one "$fault" 1 "$((seconds / 2))" || status=$?
	[ $status = 0 ] || fail "with $fault the exit code is $status: $(cat "$VFS_TMP/$fault.1/said")"
	note "$fault: $(tail -n 1 "$VFS_TMP/$fault.1/said")"
done
[ -z "$missed" ] || fail "$caught caught; not caught:$missed"
