#!/bin/bash
# As mount.fuse.vsockfs: mount(8), fstab, mount(8)'s own flags, and options that are others' business.
# timeout: 60
# mounts: none
# needs: findmnt
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs
cd "$VFS_TMP"
mkdir src mnt sbin
echo hello >src/file
ln -s "$VFS_BIN/vsockfs" sbin/mount.fuse.vsockfs
helper=$VFS_TMP/sbin/mount.fuse.vsockfs
# mount(8) looks for its helpers in /sbin, and in this namespace ours is there.
mount -t overlay overlay -o "lowerdir=$VFS_TMP/sbin:/usr/sbin" /usr/sbin || skip 'no overlay file system to put a mount helper in place'
must test -x /sbin/mount.fuse.vsockfs

look() {
	same "content, mounted by $1" hello "$(cat mnt/file)"
	same "type, mounted by $1" fuse.vsockfs "$(findmnt -no FSTYPE mnt)"
	umount mnt
	wait_for 10 no_clients_of "$VFS_TMP/mnt"
}

note "called as mount(8) does"
must "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -o rw,attr_timeout=2
look 'the helper'
must "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -n -s -v -t fuse.vsockfs -o rw
look 'the helper with -n -s -v -t'

note "-f is mount(8)'s fake there: everything but the mount"
must "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -f -o rw
must is_unmounted "$VFS_TMP/mnt"
refused . "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -f -o attr_timeout=soon

note "mount -t fuse.vsockfs"
must mount -t fuse.vsockfs "dir:$VFS_TMP/src" "$VFS_TMP/mnt"
look 'mount -t'
must mount -v -n -t fuse.vsockfs -o ro,attr_timeout=2,noatime "dir:$VFS_TMP/src" "$VFS_TMP/mnt"
refused 'Read-only' touch mnt/new
look 'mount -o ro'
refused 'missing' mount -t fuse.vsockfs "dir:$VFS_TMP/missing" "$VFS_TMP/mnt"
must is_unmounted "$VFS_TMP/mnt"

note "a line of fstab, with everything that one finds in such lines"
everything=_netdev,nofail,user,noauto,relatime,x-systemd.automount,x-systemd.idle-timeout=60,comment=x,attr_timeout=2
echo "dir:$VFS_TMP/src $VFS_TMP/mnt fuse.vsockfs $everything 0 0" >fstab
must mount --fstab fstab "$VFS_TMP/mnt"
look 'fstab'
for option in defaults auto noauto user nouser users owner group _netdev nofail relatime strictatime lazytime x-anything \
	x-gvfs-name=y comment=z dev exec suid async rw nodiratime; do
	must "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -o "$option"
	look "-o $option"
done
refused nonsense "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -o nonsense
must is_unmounted "$VFS_TMP/mnt"

note "what mount(8) keeps to itself has names of its own"
flags() { findmnt -no OPTIONS mnt | tr , '\n' | grep -xE 'nosuid|nodev|noexec|noatime|ro' | sort | paste -sd,; }
echo "dir:$VFS_TMP/src $VFS_TMP/mnt fuse.vsockfs allow_suid,allow_dev,nodiratime 0 0" >fstab
must mount --fstab fstab "$VFS_TMP/mnt"
same 'flags with allow_suid,allow_dev' '' "$(flags)"
look 'fstab with allow_suid,allow_dev'
must mount -t fuse.vsockfs -o dev,suid "dir:$VFS_TMP/src" "$VFS_TMP/mnt"
same 'flags without them' nodev,nosuid "$(flags)"

note "mount -o remount: the flags change, and nothing else does"
ino=$(stat -c %i mnt/file)
must mount -o remount,ro "$VFS_TMP/mnt"
same 'flags' nodev,nosuid,ro "$(flags)"
refused 'Read-only' touch mnt/new
same 'read' hello "$(cat mnt/file)"
must mount -o remount,rw,noexec "$VFS_TMP/mnt"
same 'flags' nodev,noexec,nosuid "$(flags)"
must touch mnt/new
must test -e src/new
must "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -o remount,exec,noatime,dev,suid # as mount.fuse3 does
same 'flags, by the helper' noatime,nodev,nosuid "$(flags)"
must "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -o remount,allow_suid
same 'flags, with allow_suid' noatime,nodev "$(flags)"
must mount -i -o remount,bind,ro "$VFS_TMP/mnt" # the mount alone, not its file system
must "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -o remount,relatime
same 'flags, with what was read-only by itself' nodev,ro "$(flags)"
must "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -o remount,rw,noatime
same 'flags, with rw' noatime,nodev "$(flags)"
same 'the same file system' "$ino" "$(stat -c %i mnt/file)"
same 'one mount' 1 "$(findmnt -n "$VFS_TMP/mnt" | wc -l)"
refused 'no mount of vsockfs' "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/src" -o remount,ro
umount mnt
wait_for 10 no_clients_of "$VFS_TMP/mnt"
must mount -t fuse.vsockfs -o ro "dir:$VFS_TMP/src" "$VFS_TMP/mnt"
must mount -o remount,rw "$VFS_TMP/mnt"
must rm mnt/new
look 'mount -o ro, and rw later'
