#!/bin/bash
# A server with a secret: who has it mounts, comes back after a restart of the server, and is sure of the server; others do not.
# timeout: 180
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd
mkdir export mnt
echo hello >export/file
umask 077
printf 'a secret of 23 bytes...\n' >right
printf 'another one, of 25 bytes.\n' >wrong
umask 022
trap '[ -z "${served:-}" ] || { kill "$served"; wait "$served" || :; }' EXIT
"$VFS_BIN/vsockfsd" --secret-file=right --listen unix:nowhere/s export 2>&1 | grep -q 'built without' && skip 'built without libnettle'

start() { serve "$PWD/sock" export --state-dir="$PWD/state" "$@" 2>log; }
stop() {
	kill "$served"
	wait "$served" || :
	served=''
}
# not_mounted TEXT OPTIONS : the client says TEXT, once
not_mounted() {
	local status=0
	timeout $((60 * VFS_SLOW)) "$VFS_BIN/vsockfs" "unix:$PWD/sock" "$PWD/mnt" -o "connect_timeout=10$2" </dev/null 2>said || status=$?
	same "exit code with $2" 1 $status
	same "lines with $2" 1 "$(wc -l <said)"
	grep -q -- "$1" said || fail "with '$2': was to say '$1', and said '$(cat said)'"
	must is_unmounted "$PWD/mnt"
}

start --secret-file=right
note 'who has it'
mount_vfs "unix:$PWD/sock" "$PWD/mnt" "secret_file=$PWD/right"
same 'content' hello "$(cat mnt/file)"
exec 7>mnt/open
echo before >&7
note 'and comes back'
stop
start --secret-file=right
echo after >&7
same 'written over the restart' $'before\nafter' "$(cat export/open)"
note 'unless the secret is another one by then'
stop
start --secret-file=wrong
refused . timeout $((60 * VFS_SLOW)) cat mnt/new
exec 7>&-
umount -l mnt
wait_for 60 no_clients_of "$PWD/mnt"
stop

note 'who has another one, or none'
start --secret-file=right
not_mounted 'the server refuses: the secret is another one' ",secret_file=$PWD/wrong"
not_mounted 'the server refuses: a secret is needed' ''
not_mounted . ,proto=plain
must grep -q 'a client of the plain protocol has no secret' log
! grep -q 'a secret of 23' log || fail 'the secret is in the log'
stop

note 'a server that has none'
start
not_mounted 'the server does not ask for the secret' ",secret_file=$PWD/right"
stop

note 'what is no secret'
for mode in 604 620; do
	install -m $mode right open
	refused 'use mode 600' "$VFS_BIN/vsockfsd" --listen "unix:$PWD/never" --secret-file=open export
	refused 'use mode 600' "$VFS_BIN/vsockfs" "unix:$PWD/never" mnt -o secret_file=open
done
printf 'too short' >short
chmod 600 short
refused 'not of 16' "$VFS_BIN/vsockfsd" --listen "unix:$PWD/never" --secret-file=short export
refused 'No such file' "$VFS_BIN/vsockfs" "unix:$PWD/never" mnt -o secret_file=nowhere
refused 'exclude each other' "$VFS_BIN/vsockfs" "unix:$PWD/never" mnt -o secret_file=right,proto=plain
refused 'of dir: is our own' "$VFS_BIN/vsockfs" "dir:$PWD/export" mnt -o secret_file=right
must is_unmounted "$PWD/mnt"
