#!/bin/bash
# SIGTERM, SIGINT and umount end the client cleanly, and the server sees it go; callers of a server that hangs or
# died can be killed, and the mount can be taken away.
# timeout: 120
# mounts: none
# needs: fusermount3
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd
PATH=$VFS_BIN:$PATH
cd "$VFS_TMP"
mkdir -p src/sub mnt
echo hello >src/file
serve "$VFS_TMP/s" src
server=$served
# A descriptor may go while find looks.
sockets() { { find "/proc/$server/fd" -lname 'socket:*' 2>/dev/null || :; } | wc -l; }
idle=$(sockets)
server_is_idle() { [ "$(sockets)" = "$idle" ]; }

# ends HOW CMD... : a client in the foreground and one in the background end by CMD, with exit code 0
ends() {
	local how=$1 source
	shift
	for source in "dir:$VFS_TMP/src" "unix:$VFS_TMP/s"; do
		vsockfs -f "$source" "$VFS_TMP/mnt" >out 2>&1 &
		client=$!
		wait_for 20 is_mounted "$VFS_TMP/mnt"
		same "through $source" hello "$(cat mnt/file)"
		[[ $source = dir:* ]] || [ "$(sockets)" -gt "$idle" ] || fail 'the server has no session to see the end of'
		"$@"
		wait $client || fail "$how of vsockfs -f $source: exit code $?: $(tail -n 1 out)"
		wait_for 10 is_unmounted "$VFS_TMP/mnt"
		mount_vfs "$source" "$VFS_TMP/mnt"
		client=$(client_of "$VFS_TMP/mnt")
		"$@"
		wait_for 10 no_clients_of "$VFS_TMP/mnt"
		wait_for 10 is_unmounted "$VFS_TMP/mnt"
		wait_for 10 server_is_idle
		note "$how, $source"
	done
}
signal_client() { kill "-$1" "$client"; }
ends SIGTERM signal_client TERM
ends SIGINT signal_client INT
ends umount umount "$VFS_TMP/mnt"
ends fusermount3 fusermount3 -u "$VFS_TMP/mnt"
ends 'umount -l' umount -l "$VFS_TMP/mnt"

note "SIGTERM while somebody works in the mount"
mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt"
# One that stays whatever it is told of the file, as tail -f would not.
(cd mnt && exec sleep infinity <file) &
worker=$!
works() { [ "$(readlink "/proc/$worker/cwd") $(readlink "/proc/$worker/fd/0")" = "$VFS_TMP/mnt $VFS_TMP/mnt/file" ]; }
wait_for 10 works
kill -TERM "$(client_of "$VFS_TMP/mnt")"
wait_for 10 no_clients_of "$VFS_TMP/mnt"
kill $worker
wait $worker 2>/dev/null || :
wait_for 10 is_unmounted "$VFS_TMP/mnt"
wait_for 10 server_is_idle

note "SIGTERM to one whose mount was taken away while somebody works in it, with another in its place"
vsockfs -f "unix:$VFS_TMP/s" "$VFS_TMP/mnt" >out 2>&1 &
client=$!
wait_for 20 is_mounted "$VFS_TMP/mnt"
(cd mnt && exec tail -f file >/dev/null 2>&1) &
tail=$!
wait_for 10 eval "[ \"\$(readlink /proc/$tail/cwd)\" = '$VFS_TMP/mnt' ]"
umount -l "$VFS_TMP/mnt"
mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt"
kill -TERM $client
wait $client || fail "exit code $?: $(tail -n 1 out)"
same 'what it said' '' "$(cat out)"
same 'the other one' hello "$(cat mnt/file)"
kill $tail
wait $tail 2>/dev/null || :
umount_vfs "$VFS_TMP/mnt"
wait_for 10 server_is_idle

note "while the server is stopped, SIGKILL ends a caller; afterwards the mount works on"
mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt" cache=none
same 'before' hello "$(cat mnt/file)"
stopped() { grep -q '^State:.[Tt]' "/proc/$server/status"; }
kill -STOP "$server"
wait_for 10 stopped # until then it may still answer
blocked=()
# A name is made in a directory of its own, and nothing else is opened with O_CREAT: the kernel locks the directory
# meanwhile, and looks no other name up in it.
for call in 'stat mnt/file' 'cat mnt/file' 'ls mnt/other' 'touch mnt/sub/new' 'dd of=mnt/file bs=1 count=1 if=/dev/zero conv=notrunc,nocreat'; do
	$call >/dev/null 2>&1 &
	blocked+=($!)
done
in_request() { # in the kernel, waiting for an answer of the mount
	local pid
	for pid; do
		grep -q request_wait_answer "/proc/$pid/stack" || return 1
	done
}
if [ -r "/proc/${blocked[0]}/stack" ]; then
	wait_for 10 in_request "${blocked[@]}"
fi
for pid in "${blocked[@]}"; do
	ended "$pid" && fail 'a call on the mount of a stopped server came back'
	kill -KILL "$pid"
done
for pid in "${blocked[@]}"; do
	wait_for 10 ended "$pid"
	wait "$pid" 2>/dev/null || :
done
kill -CONT "$server"
wait_for 10 has_text mnt/file hello
umount_vfs "$VFS_TMP/mnt"
rm -f src/sub/new

note "SIGTERM ends the client while the server is stopped"
mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt"
kill -STOP "$server"
kill -TERM "$(client_of "$VFS_TMP/mnt")"
wait_for 20 no_clients_of "$VFS_TMP/mnt"
wait_for 10 is_unmounted "$VFS_TMP/mnt"
kill -CONT "$server"
wait_for 10 server_is_idle

note "a server that ends with a client: exit code 0, and the mount can be taken away"
mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt"
same 'before' hello "$(cat mnt/file)"
kill -TERM "$server"
wait "$server" || fail "vsockfsd: exit code $? on SIGTERM with a client"
timeout -s KILL 5 ls mnt/other >/dev/null 2>&1 && fail 'a name was found with no server'
must timeout -s KILL $((20 * VFS_SLOW)) umount -l "$VFS_TMP/mnt"
wait_for 10 no_clients_of "$VFS_TMP/mnt"
