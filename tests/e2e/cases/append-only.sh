#!/bin/bash
# Append-only files of the host (chattr +a) take appends and nothing else, as on the host itself.
# timeout: 60
# needs: chattr lsattr
set -euo pipefail
. "$VFS_E2E/lib.sh"
[ $EUID = 0 ] || skip 'chattr +a is for root'
echo one >"$VFS_HOST/log"
chattr +a "$VFS_HOST/log" 2>err || skip "no chattr +a here: $(cat err)"
trap 'chattr -a "$VFS_HOST/log"' EXIT

try() {
	local mnt=$1 before=$2
	must bash -c "echo two >>'$mnt/log'"
	must dd "of=$mnt/log" oflag=append conv=notrunc status=none <<<three
	must bash -c "{ echo four; echo five; } >>'$mnt/log'"
	same 'lines on the host' $((before + 4)) "$(wc -l <"$VFS_HOST/log")"
	same 'in the mount' "$(cat "$VFS_HOST/log")" "$(cat "$mnt/log")"
	refused 'not permitted' bash -c "echo no >'$mnt/log'"
	refused 'not permitted' bash -c "dd 'of=$mnt/log' conv=notrunc status=none <<<no"
	refused 'not permitted' truncate -s 1 "$mnt/log"
	refused 'not permitted' rm -f "$mnt/log"
	refused 'not permitted' mv "$mnt/log" "$mnt/log2"
	same 'nothing else went through' $((before + 4)) "$(wc -l <"$VFS_HOST/log")"
}
fence "$VFS_MNT"
try "$VFS_MNT" 1
if ! is_bind && [ -z "$VFS_CACHE" ]; then
	note "where the kernel opens without asking"
	mount_again "$VFS_TMP/no_open" no_open
	try "$VFS_TMP/no_open" 5
	umount_vfs "$VFS_TMP/no_open"
fi
