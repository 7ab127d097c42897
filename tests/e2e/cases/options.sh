#!/bin/bash
# What the command lines take and refuse: exit code 0, 1 or 2, and one clear line.
# timeout: 120
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd
PATH=$VFS_BIN:$PATH
cd "$VFS_TMP"
mkdir src mnt
echo hello >src/file
: >file
# Left out, SOURCE is the host's vsock port, which no test may dial: so none leaves it out without this.
echo 'quiet vsockfs.source=dir:/nowhere' >cmdline
mount --bind cmdline /proc/cmdline

# says CODE TEXT CMD... : ends with CODE and one line on standard error that has TEXT; nothing gets mounted
says() {
	local code=$1 text=$2 status=0 mounts
	shift 2
	mounts=$(wc -l </proc/self/mounts)
	timeout $((30 * VFS_SLOW)) "$@" </dev/null >out 2>err || status=$?
	same "exit code of '$*' ($(head -n 1 err))" "$code" $status
	same "lines that '$*' says ($(head -n 3 err))" 1 "$(wc -l <err)"
	grep -qi -- "$text" err || fail "'$*' was to say '$text', and said '$(cat err)'"
	same "mounts after '$*'" "$mounts" "$(wc -l </proc/self/mounts)"
}

note "help and version go to standard output"
for program in vsockfs vsockfsd; do
	for flag in --help --version; do
		$program $flag >out 2>err || fail "$program $flag: exit code $?"
		same "$program $flag on standard error" '' "$(cat err)"
		grep -q "$program" out || fail "$program $flag does not name $program: $(head -n 2 out)"
	done
done
vsockfs --help >out
for option in cache= attr_timeout= locks= xattr uid= connect_timeout= stats=; do
	grep -q -- "$option" out || fail "vsockfs --help does not tell of $option"
done

note "usage errors: exit code 2"
says 2 mountpoint vsockfs dir:src
says 2 more vsockfs dir:src mnt more
says 2 nonsense vsockfs dir:src mnt -o nonsense
says 2 nonsense vsockfs dir:src mnt -o attr_timeout=5,nonsense=3
says 2 attr_timeout vsockfs dir:src mnt -o attr_timeout=soon
says 2 attr_timeout vsockfs dir:src mnt -o attr_timeout=-1
says 2 cache vsockfs dir:src mnt -o cache=perhaps
says 2 locks vsockfs dir:src mnt -o locks=
says 2 max_background vsockfs dir:src mnt -o max_background=9999999
says 2 uid vsockfs dir:src mnt -o uid=0
says 2 umask vsockfs dir:src mnt -o umask=999
says 2 cache=lease vsockfs dir:src mnt -o no_open,cache=ttl
says 2 locks=host vsockfs dir:src mnt -o no_open,locks=host
for asks in acl no_open locks=host; do
	says 2 "proto=plain and $asks exclude" vsockfs dir:src mnt -o "proto=plain,$asks"
done
says 2 xattr vsockfs dir:src mnt -o xattr=3
says 2 frobnicate vsockfs --frobnicate dir:src mnt
says 2 gopher vsockfs gopher:src mnt
says 2 src vsockfs src mnt
says 2 vsock vsockfs vsock:zero:5001 mnt
says 2 vsock vsockfs vsock:1:port mnt
says 2 fd vsockfs fd:three mnt
says 2 listen vsockfsd src
says 2 directory vsockfsd --listen unix:s
says 2 frobnicate vsockfsd --frobnicate --listen unix:s src
says 2 gopher vsockfsd --listen gopher:s src

note "what cannot be done: exit code 1"
says 1 missing vsockfs dir:missing mnt
says 1 file vsockfs dir:file mnt
says 1 missing vsockfs dir:src missing
says 1 file vsockfs dir:src file
says 1 'fd:99\|descriptor' vsockfs fd:99 mnt
says 1 missing vsockfsd --listen unix:s missing
says 1 file vsockfsd --listen unix:s file
says 1 nowhere vsockfsd --listen unix:nowhere/s src
same "the address, once" 'vsockfsd: unix:nowhere/s: cannot listen: No such file or directory' "$(cat err)"
note "a descriptor that nobody passed on is none of our own either"
for fd in {3..9}; do # bash passes on those above
	says 1 "fd:$fd: no such descriptor" vsockfsd --listen "fd:$fd" src
	says 1 "fd:$fd: no such descriptor" vsockfs "fd:$fd" mnt
done
note "a pidfile does not lead to another file"
echo whole >victim
ln -s victim linked.pid
ln victim hard.pid
mkfifo fifo.pid
says 1 "'linked.pid': it is a symbolic link" vsockfsd --listen unix:s --pidfile=linked.pid src
says 1 "'hard.pid': the file has other names" vsockfsd --listen unix:s --pidfile=hard.pid src
says 1 "'fifo.pid'" vsockfsd --listen unix:s --pidfile=fifo.pid src
same "the file that links led to" whole "$(cat victim)"
must test -L linked.pid
rm hard.pid fifo.pid
says 1 stats vsockfs dir:src mnt -o stats=nowhere/stats
before=$SECONDS
says 1 no-socket vsockfs unix:no-socket mnt -o connect_timeout=1
same "the address, once" 'vsockfs: unix:no-socket: cannot connect: No such file or directory' "$(cat err)"
[ $((SECONDS - before)) -lt $((10 * VFS_SLOW)) ] || fail "connect_timeout=1 took $((SECONDS - before)) s"
says 1 'cannot connect: Not a directory' vsockfs unix:file/s mnt -o connect_timeout=1000
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("closed")'
if [ $EUID = 0 ]; then
	chown 65534 closed
	chmod 600 closed
	says 1 'cannot connect: Permission denied' setpriv --bounding-set=-dac_override --inh-caps=-dac_override \
		vsockfs unix:closed mnt -o connect_timeout=1000
fi
long=$(printf 'x%.0s' {1..200})
says 2 'long' vsockfs "unix:$long" mnt -o connect_timeout=1

note "a server that comes up within connect_timeout is waited for"
vsockfs unix:late mnt -o connect_timeout=60 >out 2>err &
client=$!
ended $client && fail "did not wait for the server: $(cat err)"
serve late src
wait $client || fail "gave up on a server that came: $(cat err)"
same 'through it' hello "$(cat mnt/file)"

note "an address that is in use is refused, and its server lives on"
says 1 late vsockfsd --listen unix:late src
same 'through it, still' hello "$(cat mnt/file)"
umount_vfs "$VFS_TMP/mnt"
kill -KILL "$served"
wait "$served" 2>/dev/null || :

note "the socket that a killed server left is no obstacle"
must test -S late
serve late src
mount_vfs unix:late "$VFS_TMP/mnt"
same 'through it' hello "$(cat mnt/file)"
umount_vfs "$VFS_TMP/mnt"
kill -TERM "$served"
wait "$served" || fail "vsockfsd: exit code $? on SIGTERM"
must gone late.pid

note "the background holds neither our output nor our directory"
vsockfs dir:src mnt </dev/null >out 2>&1 || fail "exit code $?: $(cat out)"
same 'said' '' "$(cat out)"
for pid in $(clients_of mnt); do
	same "descriptors of process $pid that are our output" '' "$(find "/proc/$pid/fd" -lname "$VFS_TMP/out")"
	[ "$pid" != "$(client_of mnt)" ] || same 'working directory of the client' / "$(readlink "/proc/$pid/cwd")"
done
umount_vfs "$VFS_TMP/mnt"

note "paths: relative, with spaces, commas and colons, behind a symlink"
mkdir 'src a,b:c' 'mnt a,b:c'
echo odd >'src a,b:c/file'
mount_vfs 'dir:src a,b:c' "$VFS_TMP/mnt a,b:c"
same 'through odd paths' odd "$(cat 'mnt a,b:c/file')"
umount 'mnt a,b:c'
wait_for 10 no_clients_of "$VFS_TMP/mnt a,b:c"
ln -s src link
vsockfs dir:link mnt
same 'through a symlink' hello "$(cat mnt/file)"
umount mnt
wait_for 10 no_clients_of mnt

note "options reach the mount"
mount_vfs dir:src "$VFS_TMP/mnt" ro,nosuid,nodev,noexec,noatime,fsname=mine,cache=none,locks=local,umask=022,max_background=16
for option in ro nosuid nodev noexec noatime; do
	findmnt -no OPTIONS mnt | tr , '\n' | grep -qx $option || fail "$option is not set: $(findmnt -no OPTIONS mnt)"
done
same 'source that mount(8) shows' mine "$(findmnt -no SOURCE mnt)"
refused 'Read-only' touch mnt/new
umount_vfs "$VFS_TMP/mnt"
mount_vfs dir:src "$VFS_TMP/mnt"
same 'source by default' dir:src "$(findmnt -no SOURCE mnt)"
same 'type' fuse.vsockfs "$(findmnt -no FSTYPE mnt)"
for option in default_permissions allow_other rw; do
	findmnt -no OPTIONS mnt | tr , '\n' | grep -qx $option || fail "$option is not on for root"
done
same 'for another user' hello "$(as_user cat mnt/file)"
umount_vfs "$VFS_TMP/mnt"
mount_vfs dir:src "$VFS_TMP/mnt" noallow_other
refused 'Permission denied' as_user cat mnt/file
umount_vfs "$VFS_TMP/mnt"

note "-f stays, and -d tells more"
vsockfs -f dir:src mnt >out 2>err &
client=$!
wait_for 20 is_mounted "$VFS_TMP/mnt"
umount mnt
wait $client || fail "vsockfs -f: exit code $? after umount: $(cat err)"
vsockfs -d -f dir:src mnt >out 2>err.d &
client=$!
wait_for 20 is_mounted "$VFS_TMP/mnt"
same 'with -d' hello "$(cat mnt/file)"
umount mnt
wait $client || fail "vsockfs -d: exit code $? after umount"
[ "$(wc -c <err.d)" -gt "$(wc -c <err)" ] || fail '-d says no more than -f'

note "a mountpoint inside its own export works; one that equals or contains it is refused"
mkdir -p src/in/side
mount_vfs "dir:$VFS_TMP/src" "$VFS_TMP/src/in/side"
same 'through the mount' hello "$(cat src/in/side/file)"
same 'the mountpoint, seen in itself, is the empty directory below' '' "$(timeout $((10 * VFS_SLOW)) ls src/in/side/in/side)"
echo more >src/in/side/more
same 'written' more "$(cat src/more)"
must timeout $((20 * VFS_SLOW)) find src/in/side
umount_vfs "$VFS_TMP/src/in/side"
says 1 mountpoint vsockfs dir:src src
says 1 mountpoint vsockfs dir:src/in src
says 1 mountpoint vsockfs "dir:$VFS_TMP/src/../src/" "$VFS_TMP/link"

note "the kernel command line names what no argument does"
says 2 mountpoint vsockfs
says 1 nowhere vsockfs mnt
printf 'quiet vsockfs.source=dir:%s vsockfs.workspace=%s root=/dev/x\n' "$VFS_TMP/src" "$VFS_TMP/mnt" >cmdline
must vsockfs
same 'mounted as the command line says' hello "$(cat mnt/file)"
umount mnt
umount /proc/cmdline
wait_for 10 is_unmounted "$VFS_TMP/mnt"
wait_for 10 no_clients_of vsockfs

if [ $EUID = 0 ]; then
	note "no room for the statistics is a warning, and leaves no file"
	mount -t tmpfs -o size=4k none /run
	mkdir /run/vsockfs
	says_once() { grep -c 'no statistics for vfsstat: No space left' said || :; }
	vsockfs dir:src mnt -f </dev/null 2>said &
	client=$!
	wait_for 20 is_mounted "$VFS_TMP/mnt"
	same 'lines about it' 1 "$(says_once)"
	same 'files' '' "$(ls -A /run/vsockfs)"
	same 'it works' hello "$(cat mnt/file)"
	umount_vfs "$VFS_TMP/mnt"
	wait $client
	vsockfsd --listen unix:full --state-dir=none --pidfile=full.pid src </dev/null 2>said &
	server=$!
	wait_for 20 test -s full.pid
	same 'lines of the server about it' 1 "$(says_once)"
	same 'files' '' "$(ls -A /run/vsockfs)"
	kill -TERM $server
	wait $server
	umount /run
fi
