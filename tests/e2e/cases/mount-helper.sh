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
	x-gvfs-name=y comment=z dev exec suid async rw; do
	must "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -o "$option"
	look "-o $option"
done
refused nonsense "$helper" "dir:$VFS_TMP/src" "$VFS_TMP/mnt" -o nonsense
must is_unmounted "$VFS_TMP/mnt"
