#!/bin/bash
# overlayfs with its upper and work directory in the mount: whiteouts, opaque directories, copies up, in both kinds of attributes.
# timeout: 120
# options: xattr
# server: --special
set -euo pipefail
. "$VFS_E2E/lib.sh"
[ $EUID = 0 ] || skip 'no mounting without privileges'
cd "$VFS_TMP"
mkdir -p lower/dir/deep lower/old m
echo a >lower/a
echo b >lower/b
echo c >lower/dir/c
echo o >lower/old/o
for i in {1..50}; do echo "$i" >"lower/dir/deep/$i"; done

# day KIND [OPTION] : a day's work in the overlay, and what is left of it in the upper directory
day() {
	local kind=$1
	mkdir "$VFS_MNT/$kind" "$VFS_MNT/$kind/upper" "$VFS_MNT/$kind/work"
	mount -t overlay -o "lowerdir=$VFS_TMP/lower,upperdir=$VFS_MNT/$kind/upper,workdir=$VFS_MNT/$kind/work${2:+,$2}" none m 2>err ||
		fail "no overlay with $kind: $(cat err)"
	must bash -c 'echo more >>m/a'
	same 'copied up' $'a\nmore' "$(cat m/a)"
	must rm m/b
	must gone m/b
	must mv m/a m/dir/a
	must bash -c 'echo again >m/b'
	must rm m/b
	must rm -r m/old # and a new one under its name is opaque
	must mkdir m/old
	same 'an opaque directory' '' "$(ls -A m/old)"
	must mv m/dir/deep/1 m/dir/deep/one
	must ln m/dir/c m/dir/c2
	must bash -c 'for i in {2..30}; do rm m/dir/deep/$i; done'
	must chmod 700 m/dir/deep
	local want='dir dir/a dir/c dir/c2 dir/deep old' seen
	seen=$(cd m && find . -mindepth 1 -not -path './dir/deep/*' -printf '%P\n' | sort | paste -sd' ')
	same 'names' "$want" "$seen"
	same 'and those in the deep' 21 "$(ls m/dir/deep | wc -l)"
	must umount m
	mount -t overlay -o "lowerdir=$VFS_TMP/lower,upperdir=$VFS_MNT/$kind/upper,workdir=$VFS_MNT/$kind/work${2:+,$2}" none m
	same 'names, mounted anew' "$want" "$(cd m && find . -mindepth 1 -not -path './dir/deep/*' -printf '%P\n' | sort | paste -sd' ')"
	same 'content' $'a\nmore' "$(cat m/dir/a)"
	must umount m
	same 'a whiteout on the host' 'character special file 0 0' "$(stat -c '%F %t %T' "$VFS_HOST/$kind/upper/b")"
	same 'and in the mount' 'character special file 0 0' "$(stat -c '%F %t %T' "$VFS_MNT/$kind/upper/b")"
}
trap 'umount m 2>/dev/null || :' EXIT
day user userxattr
is_bind || day trusted
if [ "$VFS_TRANSPORT" = unix ]; then
	note "without --special there is no trusted.overlay, and userxattr works all the same"
	mkdir src
	serve "$VFS_TMP/plain" src
	mount_vfs "unix:$VFS_TMP/plain" "$VFS_TMP/mnt" xattr
	VFS_MNT=$VFS_TMP/mnt VFS_HOST=$VFS_TMP/src day user userxattr
	: >mnt/file
	refused 'not supported' setfattr -n trusted.overlay.opaque -v y mnt/file
	umount_vfs "$VFS_TMP/mnt"
	kill "$served"
	wait "$served" || :
fi
