#!/bin/bash
# Every basic thing once, seen from the mount and from the host.
# timeout: 60
# as: root user mapped
set -euo pipefail
. "$VFS_E2E/lib.sh"
cd "$VFS_MNT"

note "the host's files are there, with their attributes"
mkdir "$VFS_HOST/there"
printf 'from the host\n' >"$VFS_HOST/there/file"
touch -d '2001-02-03 04:05:06.123456789Z' "$VFS_HOST/there/file"
wait_for 10 has_text there/file 'from the host'
same 'mtime' '2001-02-03 04:05:06.123456789 +0000' "$(stat -c %y there/file)"
same 'listing' file "$(ls there)"

note "files: write, read, append, truncate, sparse"
printf 'one\n' >file
printf 'two\n' >>file
same 'content on the host' $'one\ntwo' "$(cat "$VFS_HOST/file")"
truncate -s 3 file
same 'after truncate' one "$(cat "$VFS_HOST/file")"
head -c 5000000 /dev/urandom >big
must cmp big "$VFS_HOST/big"
printf 'Z' | dd of=big bs=1 seek=4999999 conv=notrunc status=none
same 'last byte' Z "$(tail -c 1 "$VFS_HOST/big")"
same 'size' 5000000 "$(stat -c %s big)"
truncate -s 100M sparse
same 'blocks of a hole' 0 "$(stat -c %b sparse)"

note "attributes"
chmod 640 file
same 'mode on the host' 640 "$(stat -c %a "$VFS_HOST/file")"
touch -d '1999-12-31 23:59:59.5Z' file
same 'mtime on the host' 946684799 "$(stat -c %Y "$VFS_HOST/file")"
if [ "$VFS_AS" = root ]; then
	chown 12:34 file
	same 'owner on the host' 12:34 "$(stat -c %u:%g "$VFS_HOST/file")"
fi
(umask 077 && : >private)
same 'umask' 600 "$(stat -c %a private)"
same 'owner of what we create, in the mount' "$(id -u):$(id -g)" "$(stat -c %u:%g private)"
same 'owner of what we create, on the host' "$VFS_SERVER_UID:$VFS_SERVER_UID" "$(stat -c %u:%g "$VFS_HOST/private")"

note "names: mkdir, link, symlink, fifo, rename, unlink, rmdir"
mkdir -p a/b/c
: >a/old
mv a/old a/b/c/new
must test -f "$VFS_HOST/a/b/c/new"
refused 'No such file' cat a/old
ln a/b/c/new hard
same 'links' 2 "$(stat -c %h hard)"
same 'one inode' "$(stat -c %i hard)" "$(stat -c %i a/b/c/new)"
ln -s a/b/c/new soft
same 'link target on the host' a/b/c/new "$(readlink "$VFS_HOST/soft")"
ln -s /nowhere/at/all dangling
same 'dangling target' /nowhere/at/all "$(readlink dangling)"
mkfifo fifo
must test -p "$VFS_HOST/fifo"
echo through >fifo &
same 'fifo' through "$(cat fifo)"
wait
printf 'first' >x
printf 'second' >y
mv -f x y
same 'renamed over' first "$(cat "$VFS_HOST/y")"
rm y hard
must gone "$VFS_HOST/y"
refused 'not empty' rmdir a
rm -r a
must gone "$VFS_HOST/a"
refused 'File exists' mkdir there
refused 'Not a directory' ls file/below
refused 'Is a directory' cat there
refused 'No such file' cat missing

note "the file system itself"
same 'file system type' "$(is_bind && echo ext4 || echo fuse.vsockfs)" "$(findmnt -no FSTYPE -T "$VFS_MNT")"
same 'block size' "$(stat -f -c %S "$VFS_HOST")" "$(stat -f -c %S "$VFS_MNT")"
same 'total blocks' "$(stat -f -c %b "$VFS_HOST")" "$(stat -f -c %b "$VFS_MNT")"
sync -f file
same 'entries' "$(ls -A "$VFS_HOST")" "$(ls -A "$VFS_MNT")"
rm fifo
same_trees
