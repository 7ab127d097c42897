#!/bin/bash
# How editors save: in place, by a temporary file and rename, with a backup; readers never miss the file.
# timeout: 60
# as: root user
# needs: vim
set -euo pipefail
. "$VFS_E2E/lib.sh"
cd "$VFS_MNT"
inode() { stat -c %i "$1"; }

note "VS Code: truncate and write in place keeps inode, mode and hard links"
printf 'old and longer content\n' >inplace
chmod 640 inplace
ln inplace second
before=$(inode inplace)
printf 'new\n' >inplace
same 'content on the host' new "$(cat "$VFS_HOST/inplace")"
same 'size' 4 "$(stat -c %s inplace)"
same 'inode' "$before" "$(inode inplace)"
same 'mode' 640 "$(stat -c %a inplace)"
same 'through the hard link' new "$(cat second)"

note "atomic save: temporary file, fsync, chmod, rename"
printf 'old\n' >atomic
before=$(inode atomic)
printf 'replaced\n' >.atomic.tmp
mv .atomic.tmp atomic
[ "$(inode atomic)" != "$before" ] || fail 'the rename kept the old inode'
for i in $(seq 20); do
	printf 'version %d\n' "$i" >.atomic.tmp
	sync .atomic.tmp
	chmod 600 .atomic.tmp
	mv .atomic.tmp atomic
	same "version $i" "version $i" "$(cat atomic)"
	same "version $i on the host" "version $i" "$(cat "$VFS_HOST/atomic")"
done
must gone .atomic.tmp

note "while it is replaced, nobody sees a moment without the file"
printf 'version 0\n' >watched
(
	for i in $(seq 300); do
		printf 'version %d\n' "$i" >.watched.tmp
		mv .watched.tmp watched
	done
	: >writer-done
) &
looked=0
until [ -e writer-done ]; do
	said=$(cat watched 2>&1) || fail "after $looked looks: $said"
	[[ $said = 'version '* ]] || fail "after $looked looks, watched is '$said'"
	looked=$((looked + 1))
done
wait
[ $looked -gt 10 ] || fail "only $looked looks while the file was replaced 300 times"

note "vim: renames away by default, writes in place with backupcopy=yes, and keeps a backup when told to"
for how in auto yes; do
	printf 'one\ntwo\n' >vim.$how
	chmod 755 vim.$how
	before=$(inode vim.$how)
	must timeout $((30 * VFS_SLOW)) vim -N -u NONE -i NONE -es --cmd "set backupcopy=$how" -c '1s/one/uno/' -c wq vim.$how
	same "vim with backupcopy=$how" $'uno\ntwo' "$(cat vim.$how)"
	same 'mode' 755 "$(stat -c %a vim.$how)"
	case $how in
	auto) [ "$(inode vim.$how)" != "$before" ] || fail 'vim wrote in place where it could rename' ;;
	yes) same 'inode' "$before" "$(inode vim.$how)" ;;
	esac
done
must timeout $((30 * VFS_SLOW)) vim -N -u NONE -i NONE -es --cmd 'set backup' -c '1s/uno/eins/' -c wq vim.auto
same 'backup' $'uno\ntwo' "$(cat vim.auto~)"
must timeout $((30 * VFS_SLOW)) vim -N -u NONE -i NONE -es -c '1s/eins/one/' -c 'wq!' vim.auto
same 'swap files' '' "$(find . -name '.*.sw?')"

note "sed -i, and a save through a symlink"
sed -i s/one/1/ vim.auto
same 'sed -i' $'1\ntwo' "$(cat "$VFS_HOST/vim.auto")"
ln -s vim.auto to-vim
printf 'through the link\n' >to-vim
same 'link target' 'through the link' "$(cat "$VFS_HOST/vim.auto")"
must test -L to-vim
same_trees
