#!/bin/bash
# An overlayfs as the export: its handles open nothing, but changes on the host are seen.
# timeout: 60
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd vfsstat
PATH=$VFS_BIN:$PATH
cd "$VFS_TMP"
[ $EUID = 0 ] || skip 'no mounting without privileges'
printf '6.6\n%s\n' "$(uname -r)" | sort -VC || skip 'a kernel without handles for it'
mkdir layers mnt src
mount -t tmpfs none layers
mkdir layers/{lower,upper,work}
mkdir layers/lower/sub
echo old >layers/lower/file
echo old >layers/lower/sub/file
mount -t overlay none -o lowerdir=layers/lower,upperdir=layers/upper,workdir=layers/work src 2>err ||
	skip "no overlayfs here: $(cat err)"

vsockfsd --listen "unix:$VFS_TMP/s" src 2>said &
server=$!
wait_for 20 test -S s
grep -q 'changes on the host are seen' said || fail "it does not watch: $(cat said)"
mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt"
for file in file sub/file; do
	same 'before' old "$(cat mnt/$file)"
	echo changed >src/$file # is copied up
	vfsstat sync mnt
	same 'after a change' changed "$(cat mnt/$file)"
	echo changed twice >src/$file
	vfsstat sync mnt
	same 'after another' 'changed twice' "$(cat mnt/$file)"
done
same 'names' "file sub" "$(echo $(ls mnt))"
[ ! -e mnt/sub/new ] || fail 'a name that is not there is'
echo new >src/sub/new
rm src/file
vfsstat sync mnt
same 'a new one' new "$(cat mnt/sub/new)"
same 'names' sub "$(echo $(ls mnt))"
umount_vfs "$VFS_TMP/mnt"
kill $server
wait $server
umount src layers
