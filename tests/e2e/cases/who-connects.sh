#!/bin/bash
# Who may connect: --allow, --socket-mode, --socket-owner; to clients of both protocols.
# timeout: 120
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd
[ $EUID = 0 ] || skip 'only root can be several users'
mkdir export mnt
chmod 755 . export
echo hello >export/file
trap '[ -z "${served:-}" ] || { kill "$served"; wait "$served" || :; }' EXIT
user=65534

start() { serve "$PWD/sock" export "$@" 2>log; }
stop() {
	kill "$served"
	wait "$served" || :
	served=''
}
# peer [CMD...] : what a client of the plain protocol gets that looks up the export
peer() {
	"$@" /usr/bin/python3 -c '
import socket, struct, sys
s = socket.socket(socket.AF_UNIX)
lookup = b"\xa2\x62op\x00\x64path\x6a/workspace"
try:
    s.connect(sys.argv[1])
    s.sendall(struct.pack(">I", len(lookup)) + lookup)
    print("answer" if s.recv(4096) else "closed")
except ConnectionError:
    print("closed")
except PermissionError:
    print("no permission")' "$PWD/sock"
}

note 'by default the socket is its owner'"'"'s alone'
start
same 'the socket' '0:0 600' "$(stat -c '%u:%g %a' sock)"
same 'its owner' answer "$(peer)"
same 'another user' 'no permission' "$(peer as_user)"
stop

note '--socket-mode'
start --socket-mode=666
same 'the socket' '0:0 666' "$(stat -c '%u:%g %a' sock)"
same 'another user' answer "$(peer as_user)"
stop

note '--socket-owner'
start "--socket-owner=$user"
same 'the socket' "$user:0 600" "$(stat -c '%u:%g %a' sock)"
same 'another user' answer "$(peer as_user)"
stop
start --socket-owner=:nogroup --socket-mode=660
same 'the socket' "0:$(getent group nogroup | cut -d: -f3) 660" "$(stat -c '%u:%g %a' sock)"
stop
start --socket-owner=nobody:1234
same 'the socket' "$(id -u nobody):1234 600" "$(stat -c '%u:%g %a' sock)"
stop
install -d -o $user users
refused 'not permitted' as_user "$VFS_BIN/vsockfsd" --listen "unix:$PWD/users/s" --state-dir=none --socket-owner=root export

note '--allow'
start --socket-mode=666 --allow=uid:0
same 'who is named' answer "$(peer)"
same 'who is not' closed "$(peer as_user)"
must grep -q "uid:$user may not connect" log
mount_vfs "unix:$PWD/sock" "$PWD/mnt"
same 'mounted by who is named' hello "$(cat mnt/file)"
umount_vfs "$PWD/mnt"
stop
start --socket-mode=666 --allow=cid:3 --allow=uid:$user
same 'who is named' answer "$(peer as_user)"
same 'root is not' closed "$(peer)"
refused 'closed the connection' timeout 60 "$VFS_BIN/vsockfs" "unix:$PWD/sock" "$PWD/mnt" -o proto=extended,connect_timeout=5
refused . timeout 60 "$VFS_BIN/vsockfs" "unix:$PWD/sock" "$PWD/mnt" -o connect_timeout=2
must is_unmounted "$PWD/mnt"
stop

for wrong in --allow=root --allow=uid:-1 --socket-mode=888 --socket-owner=no-such-user --socket-owner=: --socket-owner=; do
	status=0
	"$VFS_BIN/vsockfsd" --listen "unix:$PWD/never" "$wrong" export 2>said || status=$?
	same "exit code of $wrong" 2 $status
	same "lines of $wrong" 1 "$(wc -l <said)"
done
