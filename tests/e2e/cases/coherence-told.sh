#!/bin/bash
# No size without its bytes, and a newly opened file is old or new: tests/coherence/told, in each mode of its own, with
# open files and without (no_open), with promises and by timeouts.
# timeout: 600
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/told
count=$((100 / VFS_SLOW))

# told OPTIONS WHAT ROUNDS [ARG...]
told() {
	local home=$VFS_TMP/$1.$2
	mkdir -p "$home/host"
	serve "$home/s" "$home/host"
	mount_vfs "unix:$home/s" "$home/mnt" "$1"
	"$VFS_TESTS/coherence/told" "${@:4}" "$2" "$3" "$home/host" "$home/mnt" >"$home/said" 2>&1 ||
		fail "$1 $2: $(cat "$home/said")"
	note "${1:-default}: $(cat "$home/said")"
	umount_vfs "$home/mnt"
	kill "$served"
	wait "$served" || :
}

for options in '' no_open; do
	told "$options" write $((20 * count))
	told "$options" forced $((10 * count))
	told "$options" own "$count"
	told "$options" open $((count / 4 + 1))
	told "$options" reopen "$count"
	told "$options" direct $((4 * count))
done
for options in cache=ttl cache=none; do
	told "$options" write $((10 * count)) --no-fence
	told "$options" own "$count" --no-fence
	told "$options" open 2 --no-fence
	told "$options" reopen "$count" --no-fence
	told "$options" direct $((4 * count)) --no-fence
done
