#!/bin/bash
# POSIX ACLs: with -o acl what the host's grant is granted in the guest, and a default ACL takes the umask's place anywhere.
# timeout: 120
# options: acl,stats=$VFS_TMP/stats
# as: root mapped
# needs: setfacl getfacl python3 setpriv
set -euo pipefail
. "$VFS_E2E/lib.sh"
cd "$VFS_TMP"
[ "$VFS_CACHE" != cache=ttl ] || skip 'what the host changes shows late'
setfacl -m u:1234:r "$VFS_HOST" 2>err || skip "no ACLs on this file system: $(cat err)"
setfacl -b "$VFS_HOST"
chmod 755 "$VFS_HOST"

# What the umask and a default ACL make of everything that can be made.
fill() (
	umask "$2"
	cd "$1"
	echo x >file
	mkdir dir
	mkfifo fifo
	ln -s file link
	cp /bin/true exe
	python3 -c 'import os; f = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o666); os.link(f"/proc/self/fd/{f}", "tmpfile", src_dir_fd=f)'
)
modes() { (cd "$1" && stat -c '%n %a' -- * && getfacl -cpn -- *); }
# as_on_ext4 MOUNT UMASK [DEFAULT_ACL]
as_on_ext4() {
	mkdir "$VFS_HOST/want" "$VFS_HOST/got"
	chown "$VFS_SERVER_UID" "$VFS_HOST/got"
	[ -z "${3:-}" ] || setfacl -d -m "$3" "$VFS_HOST"/{want,got}
	fill "$VFS_HOST/want" "$2"
	fence "$1"
	fill "$1/got" "$2"
	same "modes and ACLs of umask $2, ${3:-no default ACL}, in ${1##*/}" "$(modes "$VFS_HOST/want")" "$(modes "$VFS_HOST/got")"
	rm -r "$VFS_HOST"/{want,got}
}
note "the umask applies where there is no default ACL, and only there"
mount_again "$VFS_TMP/without"
for mnt in "$VFS_MNT" "$VFS_TMP/without"; do
	for mask in 022 077 000; do
		as_on_ext4 "$mnt" $mask
		as_on_ext4 "$mnt" $mask u::rwx,g::rwx,o::-
		as_on_ext4 "$mnt" $mask u::rwx,u:1234:rwx,g::rx,o::rx
	done
done
umount_vfs "$VFS_TMP/without"

note "each process has its own umask, at the same time"
mkdir "$VFS_HOST/masks"
chown "$VFS_SERVER_UID" "$VFS_HOST/masks"
fence "$VFS_MNT"
makers=()
for mask in 000 022 077 027; do
	(
		umask $mask
		for ((i = 0; i < 300; i++)); do : >"$VFS_MNT/masks/$mask-$i"; done
	) &
	makers+=($!)
done
for maker in "${makers[@]}"; do wait "$maker" || fail "a maker ended with exit code $?"; done
for want in 000-666 022-644 077-600 027-640; do
	same "modes with umask ${want%-*}" "${want#*-}" "$(stat -c %a "$VFS_HOST"/masks/"${want%-*}"-* | sort -u)"
done

note "the plain protocol knows no umask: the guest's kernel applies it"
if [ "$VFS_TRANSPORT" = unix ]; then
	mount_again "$VFS_TMP/plain" proto=plain,plain_base=/workspace
	(umask 027 && : >"$VFS_TMP/plain/masks/plain")
	same 'mode' 640 "$(stat -c %a "$VFS_HOST/masks/plain")"
	umount_vfs "$VFS_TMP/plain"
	refused 'proto=plain and acl exclude each other' "$VFS_BIN/vsockfs" "$VFS_SOURCE" "$VFS_TMP/plain" -o proto=plain,plain_base=/workspace,acl
fi

note "what the host grants is granted, and what it takes away is gone"
as_1234() { setpriv --reuid 1234 --regid 1234 --clear-groups --inh-caps=-all -- "$@"; }
mkdir "$VFS_HOST/dir"
echo secret >"$VFS_HOST/dir/file"
chown -R "$VFS_SERVER_UID" "$VFS_HOST/dir"
chmod 700 "$VFS_HOST/dir"
chmod 600 "$VFS_HOST/dir/file"
fence "$VFS_MNT"
refused denied as_1234 cat "$VFS_MNT/dir/file"
setfacl -m u:1234:x "$VFS_HOST/dir"
setfacl -m u:1234:r "$VFS_HOST/dir/file"
fence "$VFS_MNT"
same 'read by the ACL' secret "$(as_1234 cat "$VFS_MNT/dir/file")"
refused denied as_1234 ls "$VFS_MNT/dir"
refused denied as_1234 truncate -s 0 "$VFS_MNT/dir/file"
setfacl -m m::- "$VFS_HOST/dir/file"
fence "$VFS_MNT"
refused denied as_1234 cat "$VFS_MNT/dir/file"
same 'ACLs as the host has them' "$(cd "$VFS_HOST" && getfacl -cpn dir dir/file | grep -v '^user:65534')" \
	"$(cd "$VFS_MNT" && getfacl -cpn dir dir/file)"

note "and the guest changes them"
must setfacl -m u:1234:rw,g:55:r "$VFS_MNT/dir/file"
must setfacl -d -m u:1234:rx "$VFS_MNT/dir"
same 'on the host' "$(getfacl -cpn "$VFS_MNT/dir/file" "$VFS_MNT/dir")" "$(getfacl -cpn "$VFS_HOST/dir/file" "$VFS_HOST/dir")"
must as_1234 truncate -s 3 "$VFS_MNT/dir/file"
must chmod 640 "$VFS_MNT/dir/file"
same 'the mask after chmod' r-- "$(getfacl -cpn "$VFS_HOST/dir/file" | sed -n 's/^mask:://p')"
refused denied as_1234 truncate -s 0 "$VFS_MNT/dir/file"
must setfacl -b "$VFS_MNT/dir/file"
refused denied as_1234 cat "$VFS_MNT/dir/file"
same 'none is left' 0 "$(getfacl -cpn "$VFS_HOST/dir/file" | grep -c :1234:)" || :

note "ids in them are mapped as owners are"
if [ "$VFS_AS" = mapped ] && ! is_bind; then
	must setfacl -m u:0:r,g:0:w "$VFS_MNT/dir/file"
	same 'on the host' "group:$VFS_SERVER_UID:-w- user:$VFS_SERVER_UID:r--" \
		"$(getfacl -cpn "$VFS_HOST/dir/file" | grep ":$VFS_SERVER_UID:" | sort | paste -sd' ')"
	same 'in the guest' 'group:0:-w- user:0:r--' "$(getfacl -cpn "$VFS_MNT/dir/file" | grep :0: | sort | paste -sd' ')"
	refused 'not permitted' setfacl -m "u:$VFS_SERVER_UID:r" "$VFS_MNT/dir/file"
fi

if [ $EUID = 0 ] && [ "$VFS_AS" = root ] && ! is_bind; then
	note "a file system without ACLs lets in by the mode, and says that it has none"
	mkdir ram ram.mnt
	mount -t ramfs none ram
	echo hello >ram/file
	for cache in none lease; do
		mount_vfs "dir:$VFS_TMP/ram" "$VFS_TMP/ram.mnt" "acl,cache=$cache"
		same 'content' hello "$(as_1234 cat ram.mnt/file)"
		refused 'denied' as_1234 touch ram.mnt/new
		refused 'not supported' setfacl -m u:1234:rw ram.mnt/file
		umount_vfs "$VFS_TMP/ram.mnt"
	done
	umount ram
fi

note "where attributes say that there is none, nobody asks the host for it"
is_bind || [ "$VFS_CACHE" ] && exit
python3 - <<'PYTHON'
import os, sys
sys.path.insert(0, os.environ["VFS_E2E"])
from lib import *
os.mkdir(HOST + "/many")
for i in range(200):
    put(f"{HOST}/many/{i}", b"")
bash('fence "$VFS_MNT"')
os.setgid(1234)
os.setuid(1234)  # root is let in without an ACL
names = sorted(os.listdir(MNT + "/many"))
before = counter("rpc.requests"), counter("cache.attr_hits")
for name in names:
    check(not os.access(f"{MNT}/many/{name}", os.W_OK), "nobody may write")
    check(os.access(f"{MNT}/many/{name}", os.R_OK), "all may read")
same("round trips for 200 ACLs that are not there", 0, counter("rpc.requests") - before[0])
check(counter("cache.attr_hits") - before[1] >= 200, "the kernel did not ask for them: this tests nothing")
PYTHON
