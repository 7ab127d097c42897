#!/bin/bash
# The host does not answer a READ: what takes back the pages that it has locked waits in the client, not in the kernel. So the
# rest is told, and a client that is killed ends.
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd vfsstat
cd "$VFS_TMP"
mkdir -p src mnt
head -c 1000000 /dev/zero >src/file
head -c 1000000 /dev/zero >src/other
serve "$VFS_TMP/s" src
trap 'kill -CONT $served 2>/dev/null || :' EXIT
mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt" "stats=$VFS_TMP/stats"
client=$(client_of "$VFS_TMP/mnt")
figure() { "$VFS_BIN/vfsstat" --json "$VFS_TMP/stats" | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"; }
at_least() { [ "$(figure "$1")" -ge "$2" ]; }
cat mnt/other >/dev/null
exec 5<mnt/file
kill -STOP "$served"
note "a READ that is not answered"
cat <&5 >/dev/null 2>&1 &
reader=$!
wait_for 10 at_least fuse.pending 1
must "$VFS_BIN/vfsstat" drop --everything "$VFS_TMP/stats"
wait_for 10 at_least inval.parked 1
note "the client is killed"
exec 5<&-
kill -KILL "$client"
wait_for 10 no_clients_of "$VFS_TMP/mnt"
wait_for 10 ended "$reader"
must timeout -s KILL $((20 * VFS_SLOW)) umount -l "$VFS_TMP/mnt"
kill -CONT "$served"

# Behind a WRITE it is waited for only for a moment: then nothing but the end of the connection wakes the notifier.
note "a WRITE that is not answered, and a notifier that is stuck behind it"
mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt" "stats=$VFS_TMP/stats"
client=$(client_of "$VFS_TMP/mnt")
cat mnt/other >/dev/null
exec 5<>mnt/file
kill -STOP "$served"
printf x >&5 &
writer=$!
wait_for 10 at_least fuse.pending 1
must "$VFS_BIN/vfsstat" drop --everything "$VFS_TMP/stats"
stuck() { grep -qs '^State:.D' "/proc/$client"/task/*/status; }
wait_for 10 stuck
note "the client is killed"
exec 5<&-
kill -KILL "$client"
wait_for 10 no_clients_of "$VFS_TMP/mnt"
wait_for 10 ended "$writer"
must timeout -s KILL $((20 * VFS_SLOW)) umount -l "$VFS_TMP/mnt"
kill -CONT "$served"
kill -TERM "$served"
wait "$served" || fail "vsockfsd: exit code $?"
