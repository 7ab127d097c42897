#!/bin/bash
# What a guest may leave on the host: said in the server's log; with --no-setid and --squash=U:G it may not.
# timeout: 120
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd
mkdir export mnt
chmod 777 . export
trap '[ -z "${served:-}" ] || { kill "$served"; wait "$served" || :; }' EXIT
said='can make \(set-user-ID files\|device nodes\)'

start() {
	serve "$PWD/sock" export "$@" 2>log
	mount_vfs "unix:$PWD/sock" "$PWD/mnt" "$options"
}
stop() {
	umount_vfs "$PWD/mnt"
	kill "$served"
	wait "$served" || :
	served=''
	rm -rf export/*
}
owner() { stat -c '%u:%g %a' "$1"; }

for wrong in 1 a:b 1:2:3 1: :1 -1:0 4294967295:1 1:99999999999999999999; do
	status=0
	"$VFS_BIN/vsockfsd" --listen "unix:$PWD/never" "--squash=$wrong" export 2>said || status=$?
	same "exit code of --squash=$wrong" 2 $status
	same "lines of --squash=$wrong" 1 "$(wc -l <said)"
done
refused 'only root can give' as_user "$VFS_BIN/vsockfsd" --listen "unix:$PWD/never" --squash=1:1 export

note 'said by default'
options=''
start
must grep -q "set-user-ID files of any owner in 'export'; --no-setid" log
install -m 6755 /dev/null mnt/tool
same 'made by root in the guest' '0:0 6755' "$(owner export/tool)"
chmod 6777 export/tool
fence mnt
same 'changed on the host, as shown' '0:0 6777' "$(owner mnt/tool)"
note 'who is not root takes the bits off, whatever the guest knows of them'
for change in 'truncate -s 10' 'truncate -s 0' 'fallocate -l 4096' 'dd if=/etc/hostname status=none conv=notrunc of='; do
	chmod 777 export/tool
	fence mnt
	stat mnt/tool >/dev/null
	chmod 6777 export/tool
	# shellcheck disable=SC2086
	case $change in *=) must as_user ${change}mnt/tool ;; *) must as_user $change mnt/tool ;; esac
	same "after $change" 777 "$(stat -c %a export/tool)"
done
note 'also those of which his kernel cannot know, so that it is for the server to do'
mkfifo -m 666 opened go
for change in 'os.write(fd, b"x")' 'os.ftruncate(fd, 10)' 'os.posix_fallocate(fd, 0, 4096)'; do
	exec 8<>opened 9<>go
	as_user python3 -c "
import os
fd = os.open('mnt/tool', os.O_RDWR)
open('opened', 'w').write('it is\n')
open('go').readline()
$change" &
	user=$!
	read -r -t 30 -u 8 _ || fail "nobody has opened it for $change"
	chmod 6777 export/tool
	echo now >&9
	must wait $user
	same "after $change" 777 "$(stat -c %a export/tool)"
	exec 8>&- 9>&-
done
stop
start --special
must grep -q 'of any owner in .*, and device nodes; ' log
stop

note '--no-setid'
start --no-setid
! grep "$said" log || fail 'said with --no-setid'
install -m 6755 /dev/null mnt/tool
same 'made' '0:0 755' "$(owner export/tool)"
must chmod u+s mnt/tool
same 'changed' '0:0 755' "$(owner export/tool)"
fence mnt
same 'shown' '0:0 755' "$(owner mnt/tool)"
mkdir -m 2775 mnt/dir
same 'a directory' '0:0 2775' "$(owner export/dir)"
python3 -c 'import os; os.umask(0); os.open("mnt/at-once", os.O_CREAT | os.O_WRONLY, 0o6755)'
same 'made with the bits' '0:0 755' "$(owner export/at-once)"
stop
start --no-setid --special
must grep -q 'can make device nodes' log
stop
start --read-only
! grep "$said" log || fail 'said with --read-only'
stop

note '--squash'
options=uid=0,gid=0
start --squash=1234:1235 --special
! grep "$said" log || fail 'said with --squash'
install -m 6755 /dev/null mnt/tool
same 'made' '1234:1235 755' "$(owner export/tool)"
fence mnt
same 'shown' '0:0 755' "$(owner mnt/tool)"
mkdir mnt/dir
ln -s x mnt/link
mkfifo mnt/fifo
for name in dir link fifo; do
	same "the owner of $name" 1234:1235 "$(stat -c %u:%g "export/$name")"
	same "$name as shown" 0:0 "$(stat -c %u:%g "mnt/$name")"
done
chmod 777 mnt
must as_user sh -c ': >mnt/users'
same 'made by a user of the guest' 1234:1235 "$(stat -c %u:%g export/users)"
must chown 0:0 mnt/tool
refused 'not permitted' chown 5:5 mnt/tool
refused 'not permitted' mknod mnt/null c 1 3
echo secret >export/roots
chmod 600 export/roots
fence mnt
same "of the host's root, as shown" 0:0 "$(stat -c %u:%g mnt/roots)"
same "of the host's root, there" 0:0 "$(stat -c %u:%g export/roots)"
stop
