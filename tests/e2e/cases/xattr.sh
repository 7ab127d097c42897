#!/bin/bash
# Extended attributes: passed through with -o xattr, and refused without it.
# timeout: 60
# options: xattr
# needs: setfattr getfattr
set -euo pipefail
. "$VFS_E2E/lib.sh"
cd "$VFS_MNT"
: >file
mkdir dir
must setfattr -n user.one -v first file
must setfattr -n user.two -v 0xff00fe file
must setfattr -n user.empty file
must setfattr -n user.of.a.directory -v yes dir
all() { getfattr -d -m - -e hex --absolute-names "$1" | sed 1d; }
same 'on the host' "$(all "$VFS_HOST/file")" "$(all file)"
same 'value' first "$(getfattr --only-values -n user.one file)"
same 'names' 3 "$(all file | grep -c '^user')"
must setfattr -x user.one file
refused 'No such attribute' getfattr -n user.one file
must setfattr -n user.host -v h "$VFS_HOST/file"
same 'set on the host' h "$(getfattr --only-values -n user.host file)"
large=0x$(head -c 3000 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
must setfattr -n user.large -v "$large" file
same 'a large one' "user.large=$large" "$(getfattr -e hex -n user.large file | grep '^user')"
refused 'not supported\|not permitted' setfattr -h -n user.x -v y "$(ln -s file link && echo link)"
must cp --preserve=xattr file copy
same 'copied' "$(all file)" "$(all copy)"
if ! is_bind; then
	mount_again "$VFS_TMP/without"
	refused 'not supported' setfattr -n user.x -v y "$VFS_TMP/without/file"
	umount_vfs "$VFS_TMP/without"
fi
same_trees
