#!/bin/bash
# What a killed process had asked for may be done all the same: the mount then shows it, whatever the kernel has kept.
# mounts: unix
# options: stats=$VFS_TMP/stats
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfsd
cd "$VFS_MNT"
mkdir gone d
echo old >data
echo x >from
echo y >unlinked
ls -l . d >/dev/null
cat data >/dev/null
for absent in made link to new/; do
	[ ! -e "$absent" ] || fail "$absent is there"
done

# in_flight PID CALL : it waits for the answer to this call, and not to a look-up before, where the kernel tells which
in_flight() {
	local stack
	stack=$(cat "/proc/$1/stack" 2>/dev/null) || stack="$(cat "/proc/$1/wchan") $2"
	[[ $stack == *request_wait*$2* ]]
}
listed() { ls | grep -qx "$1"; }
not_listed() { ! listed "$1"; }
has_mode() { [ "$(stat -c %a "$1")" = "$2" ]; }

stopped() { grep -q '^State:.[Tt]' "/proc/$VFS_SERVER_PID/status"; }
trap 'kill -CONT "$VFS_SERVER_PID"' EXIT

# killed CALL CMD... : it runs while the server is stopped, is killed, and only then the server answers. What it looks at before
# is in the cache: what the end of the last one has taken back is told by then.
killed() {
	local call=$1
	shift
	"$VFS_BIN/vfsstat" sync "$VFS_TMP/stats"
	stat . ./* >/dev/null
	kill -STOP "$VFS_SERVER_PID"
	wait_for 10 stopped
	"$@" &
	local pid=$!
	wait_for 10 in_flight $pid "$call"
	kill -KILL $pid
	wait $pid 2>/dev/null || :
	kill -CONT "$VFS_SERVER_PID"
}
killed fuse_mkdir mkdir made
wait_for 10 test -d made
wait_for 10 listed made
killed fuse_link ln data link
wait_for 10 test -e link
killed fuse_unlink unlink unlinked
wait_for 10 gone unlinked
wait_for 10 not_listed unlinked
killed fuse_rename mv -T from to
wait_for 10 test -e to
wait_for 10 gone from
killed fuse_rmdir rmdir gone
wait_for 10 gone gone
killed setattr chmod 600 data
wait_for 10 has_mode data 600
killed setattr python3 -c 'import os; os.truncate("data", 2)'
wait_for 10 has_text data ol
cd /
same_trees
