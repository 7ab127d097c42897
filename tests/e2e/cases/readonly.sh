#!/bin/bash
# vsockfsd --read-only: everything can be read, nothing changed, whatever the client believes.
# timeout: 60
# mounts: unix
# server: --read-only
set -euo pipefail
. "$VFS_E2E/lib.sh"
cd "$VFS_HOST"
mkdir dir
echo hello >file
chmod 644 file
before=$(stat -c '%a %s %Y %Z %h' file)
cd "$VFS_MNT"
wait_for 5 has_text file hello
must ls -la .
for change in 'touch new' 'mkdir new' 'ln -s x new' 'ln file new' 'mkfifo new' 'mv file new' 'rm file' 'rmdir dir' \
	'chmod 600 file' 'chown 1:1 file' 'touch file' 'truncate -s 1 file' 'dd of=file if=/dev/null conv=notrunc status=none' \
	'fallocate -l 10 file' 'setfattr -n user.x -v y file'; do
	command -v "${change%% *}" >/dev/null || continue
	# shellcheck disable=SC2086
	refused 'Read-only\|not supported' $change
done
same 'attributes' "$before" "$(stat -c '%a %s %Y %Z %h' "$VFS_HOST/file")"
same 'names' $'dir\nfile' "$(ls -A "$VFS_HOST")"
same_trees
