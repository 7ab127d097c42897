#!/bin/bash
# --map-uid, --map-gid: ids of the guest are others on the host, and what has none is nobody's and stays as it is.
# timeout: 120
# mounts: none
# needs: setfacl getfacl
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd
[ $EUID = 0 ] || skip 'only root can give files to others'
mkdir export mnt
chmod 755 . export
trap '[ -z "${served:-}" ] || { kill "$served"; wait "$served" || :; }' EXIT
# guest 0 is 2000, 1000 to 1009 are 100000 on; of groups 0 is 3000, 1000 on are 200000 on
maps=(--map-uid=0:2000 --map-uid=1000:100000:10 --map-gid=0:3000:1 --map-gid=1000:200000:10)
chown 2000:3000 export

start() { serve "$PWD/sock" export "$@" 2>log; }
stop() {
	kill "$served"
	wait "$served" || :
	served=''
}
ids() { stat -c %u:%g "$1"; }
# member UID GID GROUPS CMD...
member() { setpriv --reuid "$1" --regid "$2" --groups "$3" --inh-caps=-all -- "${@:4}"; }

start "${maps[@]}"
mount_vfs "unix:$PWD/sock" "$PWD/mnt" acl
note 'what is made'
echo text >mnt/file
mkdir -m 777 mnt/dir
ln -s x mnt/link
mkfifo mnt/fifo
member 1001 1002 1003 touch mnt/dir/theirs
for name in file dir link fifo; do
	same "$name on the host" 2000:3000 "$(ids export/$name)"
	same "$name in the guest" 0:0 "$(ids mnt/$name)"
done
same 'a user'"'"'s on the host' 100001:200002 "$(ids export/dir/theirs)"
same 'in the guest' 1001:1002 "$(ids mnt/dir/theirs)"
note 'what the host has'
install -o 100009 -g 200009 -m 600 /dev/null export/last
install -o 100010 -g 200009 -m 644 /dev/null export/beyond
install -o 100000 -g 5 -m 666 /dev/null export/group
install -d -o 0 -g 0 -m 777 export/roots
echo secret >export/roots/file
chmod 666 export/roots/file
fence mnt
same 'the last of a range' 1009:1009 "$(ids mnt/last)"
same 'the one beyond' 65534:1009 "$(ids mnt/beyond)"
same 'of another group' 1000:65534 "$(ids mnt/group)"
same 'of root of the host' 65534:65534 "$(ids mnt/roots/file)"
note 'is read, and stays as it is, whoever asks'
same 'read' secret "$(cat mnt/roots/file)"
cp -a export before
for asks in 'eval :>>' 'truncate -s 0' 'chmod 600' 'chown 0:0' 'touch' 'setfacl -m u:0:r' 'setfacl -b' 'setfattr -n user.x -v 1'; do
	for file in beyond group roots/file; do
		[ "$asks" != 'eval :>>' ] || { refused 'not permitted' bash -c ": >>mnt/$file" && continue; }
		# shellcheck disable=SC2086
		[ "$asks" = 'setfacl -b' ] && $asks mnt/$file 2>/dev/null || refused 'not permitted' $asks mnt/$file
	done
done
refused 'not permitted' ln mnt/beyond mnt/name
for asks in 'touch mnt/roots/new' 'mkdir mnt/roots/new' 'ln -s x mnt/roots/new' 'mkfifo mnt/roots/new' 'rm -f mnt/roots/file' \
	'mv mnt/roots/file mnt/moved' 'mv mnt/file mnt/roots/moved' 'ln mnt/file mnt/roots/name' 'setfacl -m d:u:0:r mnt/roots'; do
	# shellcheck disable=SC2086
	refused 'not permitted' $asks
done
same 'unchanged' "$(cd before && listing . | sed 's/ [0-9.]* [0-9.]* \([^ ]*\)$/ \1/')" \
	"$(cd export && listing . | sed 's/ [0-9.]* [0-9.]* \([^ ]*\)$/ \1/')"
rm -rf before
note 'who is nobody on the host'
refused 'not permitted' member 999 1000 1000 touch mnt/dir/new
refused 'not permitted' member 1000 999 1000 touch mnt/dir/new
refused 'not permitted' member 999 1000 1000 mkdir mnt/dir/new
refused 'not permitted' member 999 1000 1000 ln -s x mnt/dir/new
must gone mnt/dir/new
note 'what is given away'
must chown 1005:1006 mnt/file
same 'on the host' 100005:200006 "$(ids export/file)"
same 'in the guest' 1005:1006 "$(ids mnt/file)"
for to in 1 999 1010 2000 100000; do
	refused 'Invalid argument' chown $to mnt/file
	refused 'Invalid argument' chgrp $to mnt/file
done
same 'on the host' 100005:200006 "$(ids export/file)"
note 'the group of a directory, and of who may not set its bit'
mkdir -m 2777 mnt/shared
must chown 0:1004 mnt/shared
chmod 2777 mnt/shared
member 1001 1002 1004 sh -c 'touch mnt/shared/member; chmod 2755 mnt/shared/member'
same 'of a member' '100001:200004' "$(ids export/shared/member)"
same 'his bit' 2755 "$(stat -c %a export/shared/member)"
member 1001 1002 1003 python3 -c 'import os; os.umask(0); os.open("mnt/shared/other", os.O_CREAT | os.O_WRONLY, 0o2755)'
same 'of who is none' '100001:200004 755' "$(stat -c '%u:%g %a' export/shared/other)"
note 'who writes to a file that locks by that bit keeps it as a member of its group'
install -o 100000 -g 200004 -m 666 /dev/null export/shared/locks
for who in '1004 2666' '1003 666'; do
	chmod 2666 export/shared/locks
	fence mnt
	stat mnt/shared/locks >/dev/null
	member 1001 1002 "${who% *}" sh -c ': >mnt/shared/locks'
	same "after a write by one of group ${who% *}" "${who#* }" "$(stat -c %a export/shared/locks)"
done
note 'ACLs'
must setfacl -m u:1001:rw,g:1002:r mnt/file
same 'on the host' $'user:100001:rw-\ngroup:200002:r--' "$(getfacl -n export/file 2>/dev/null | grep -E '^(user|group):[0-9]')"
same 'in the guest' $'user:1001:rw-\ngroup:1002:r--' "$(getfacl -n mnt/file 2>/dev/null | grep -E '^(user|group):[0-9]')"
must setfacl -m d:u:1003:rx mnt/shared
same 'the default' default:user:100003:r-x "$(getfacl -n export/shared 2>/dev/null | grep -E '^default:user:[0-9]')"
refused . setfacl -m u:77:r mnt/file
setfacl -m u:77:r export/file
fence mnt
same 'whom the guest does not have' 'user:65534:r--' "$(getfacl -n mnt/file 2>/dev/null | grep 65534)"
umount_vfs "$PWD/mnt"

note 'clients of the plain protocol'
cat >plain.py <<'PY'
import sys
sys.path.insert(0, sys.argv[2])
from plain_calls import connect, same
call = connect(sys.argv[1])
CREATE, MKDIR, UNLINK, RENAME, OPEN, SYMLINK, SETATTR, TRUNCATE, LINK, TIMES = 5, 6, 7, 9, 10, 16, 2, 15, 18, 20
r = call(CREATE, "dir/plain", mode=0o644, uid=1001, gid=1002)
same("create", 0, r["err"])
same("shown", (1001, 1002), (r["stat"].get("uid"), r["stat"].get("gid")))
same("mkdir", 0, call(MKDIR, "dir/plain.d", mode=0o755, uid=1001, gid=1002)["err"])
for uid, gid in (999, 1000), (1000, 999):
    same("nobody creates", -1, call(CREATE, "dir/none", mode=0o644, uid=uid, gid=gid)["err"])
    same("nobody makes", -1, call(MKDIR, "dir/none", mode=0o755, uid=uid, gid=gid)["err"])
for path in "beyond", "group", "roots/file":
    same("chmod " + path, -1, call(SETATTR, path, mode=0o600)["err"])
    same("open " + path, -1, call(OPEN, path, flags=1)["err"])
    same("read " + path, 0, call(OPEN, path)["err"])
    same("truncate " + path, -1, call(TRUNCATE, path, off=1)["err"])
    same("times " + path, -1, call(TIMES, path, mtime_ns=1)["err"])
    same("link " + path, -1, call(LINK, path, new_path="/workspace/dir/name")["err"])
same("create there", -1, call(CREATE, "roots/new", mode=0o644)["err"])
same("make there", -1, call(MKDIR, "roots/new", mode=0o755)["err"])
same("remove there", -1, call(UNLINK, "roots/file")["err"])
same("rename from there", -1, call(RENAME, "roots/file", new_path="/workspace/dir/x")["err"])
same("rename to there", -1, call(RENAME, "file", new_path="/workspace/roots/x")["err"])
PY
/usr/bin/python3 plain.py "$PWD/sock" "$VFS_TOP/tests/support" >said 2>&1 || fail "$(tail -n 1 said)"
same 'created' 100001:200002 "$(ids export/dir/plain)"
same 'made' 100001:200002 "$(ids export/dir/plain.d)"
stop

note 'without the options all is as it is on the host'
start
mount_vfs "unix:$PWD/sock" "$PWD/mnt"
same 'shown' 100001:200002 "$(ids mnt/dir/theirs)"
must touch mnt/roots/file
must chown 1:2 mnt/file
same 'given' 1:2 "$(ids export/file)"
umount_vfs "$PWD/mnt"
stop

for wrong in --map-uid=1 --map-uid=1:2:0 --map-gid=a:b '--map-uid=1:2 --map-uid=1:3' '--map-uid=1:2 --squash=1:2'; do
	status=0
	# shellcheck disable=SC2086
	"$VFS_BIN/vsockfsd" --listen "unix:$PWD/never" $wrong export 2>said || status=$?
	same "exit code of $wrong" 2 $status
	same "lines of $wrong" 1 "$(wc -l <said)"
done
