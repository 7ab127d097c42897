#!/bin/bash
# A symlink on the host is the guest's to follow, never the server's: the export cannot be left through it.
# timeout: 30
set -euo pipefail
. "$VFS_E2E/lib.sh"
mkdir "$VFS_TMP/outside" "$VFS_HOST/dir"
echo secret >"$VFS_TMP/outside/file"
ln -s "$VFS_TMP/outside" "$VFS_HOST/away"
ln -s ../tmp/outside/file "$VFS_HOST/up"
ln -s / "$VFS_HOST/root"
ln -s loop "$VFS_HOST/loop"
cd "$VFS_MNT"
wait_for 5 test -L loop

# The guest resolves them in its own name space, where the target is the same file as here.
same 'absolute' secret "$(cat away/file)"
same 'above the mount' secret "$(cat up)"
same 'type of what lies behind' "$(findmnt -no FSTYPE -T "$VFS_TMP")" "$(findmnt -no FSTYPE -T away/file)"
refused 'Too many levels' cat loop
same 'as they are' "$VFS_TMP/outside" "$(readlink away)"

# In another root the same links lead elsewhere, or nowhere: so it is not the server that follows them.
# shellcheck disable=SC2016
unshare --mount bash -c 'mount -t tmpfs none "$VFS_TMP/outside" && . "$VFS_E2E/lib.sh" && refused "No such file" cat "$VFS_MNT/away/file"' ||
	fail 'the server followed a symlink'

# A directory that the guest knows, swapped for a symlink by the host: nothing outside is reached through it.
echo inside >"$VFS_HOST/dir/file"
wait_for 5 has_text dir/file inside
exec 5<dir
mv "$VFS_HOST/dir" "$VFS_HOST/moved"
ln -s "$VFS_TMP/outside" "$VFS_HOST/dir"
same 'the directory held open' inside "$(cat /proc/self/fd/5/file)"
is_link() { [ -L dir ]; }
wait_for 5 is_link
same 'hosts file behind it' secret "$(cat "$VFS_HOST/dir/file")"
exec 5<&-
