#!/bin/bash
# The server's sandbox: what its process may do, what the line at its start says of it, and what it must not break.
# timeout: 180
# mounts: none
# needs: setpriv python3
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd
PATH=$VFS_BIN:$PATH
cd "$VFS_TMP"
mkdir src src/sub
echo hello >src/file
[ $EUID = 0 ] || skip 'needs root'
mount --make-rprivate / # with --shared they were not

# status PID FIELD : of each of its threads, each value once
status() { sed -n "s/^$2:\t//p" /proc/"$1"/task/*/status | sort -u; }
# said_once TEXT : the server's log has one line of the sandbox, with TEXT
said_once() {
	same 'lines of the sandbox' 1 "$(grep -c '^vsockfsd: sandbox: ' said)"
	grep -q "^vsockfsd: sandbox: .*$1" said || fail "the line was to say '$1', and says '$(grep sandbox: said)'"
}
# begin FLAG... : a server with a client, so that all of its threads are there
begin() {
	serve "$VFS_TMP/s" src "$@" 2>said
	mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt"
	same 'through the mount' hello "$(cat mnt/file)"
	broker=$(cat "/proc/$served/task/$served/children")
	broker=${broker% }
}
end() {
	umount_vfs "$VFS_TMP/mnt"
	kill -TERM "$served"
	wait "$served" || fail "vsockfsd: exit code $? on SIGTERM"
	must gone s.pid
	must gone s
	[ -z "$broker" ] || wait_for 10 ended "$broker"
}
# caps NAME... : the mask
caps() {
	local name mask=0
	for name; do
		case $name in
		chown) bit=0 ;; dac_override) bit=1 ;; dac_read_search) bit=2 ;; fowner) bit=3 ;; fsetid) bit=4 ;;
		setgid) bit=6 ;; setuid) bit=7 ;; sys_admin) bit=21 ;; mknod) bit=27 ;;
		esac
		mask=$((mask | 1 << bit))
	done
	printf '%016x' $mask
}
# confined PID MASK [SET] : all of its threads have these capabilities and no way to others
confined() {
	local set
	for set in CapPrm CapEff ${3-CapBnd}; do
		same "$set of $1" "$2" "$(status "$1" $set)"
	done
	same "CapInh and CapAmb of $1" "$(caps)" "$(status "$1" CapInh; status "$1" CapAmb | grep -v "$(caps)" || :)"
	same "NoNewPrivs of $1" 1 "$(status "$1" NoNewPrivs)"
	same "Seccomp of $1" "$listed" "$(status "$1" Seccomp)"
}
creating=(chown dac_override dac_read_search fowner fsetid setgid setuid)

begin
listed=2
! grep -q 'without seccomp: it was built without' said || listed=0
landlock=1
! grep -q 'without Landlock' said || landlock=''
end

note "a server of root: capabilities to create as anybody, and no others; no_new_privs; seccomp"
begin
said_once '7 capabilities, no_new_privs'
said_once 'without a root of its own: what is mounted below would not be seen'
confined "$served" "$(caps "${creating[@]}")"
[ "$(find /proc/"$served"/task -mindepth 1 -maxdepth 1 | wc -l)" -gt 2 ] || fail 'the server was to have threads'
confined "$broker" "$(caps dac_override dac_read_search sys_admin)"
same 'what the broker has open' '/dev/null /dev/null /dev/null' \
	"$(for fd in 0 1 2; do readlink "/proc/$broker/fd/$fd"; done | paste -sd' ')"
same 'the rest of it' "anon_inode socket" \
	"$(find "/proc/$broker/fd" -lname 'socket:*' -printf 'socket\n' -o -lname 'anon_inode:*fanotify*' -printf 'anon_inode\n' | sort -u | paste -sd' ')"
end

note "with --special: device nodes, and trusted.overlay.*"
begin --special
confined "$served" "$(caps "${creating[@]}" mknod sys_admin)"
end

note "with --read-only: those to read; and to tell an access time to stay"
begin --read-only
confined "$served" "$(caps dac_read_search fowner)"
same 'as another group' hello "$(setpriv --reuid 0 --regid 65534 --clear-groups cat mnt/file)"
refused 'Read-only' touch mnt/file
end

note "descriptors that were passed on unasked are not kept"
echo secret >file.passed
exec 9<file.passed
begin
same 'descriptors of what was passed on' '' "$(find "/proc/$served/fd" "/proc/$broker/fd" -lname '*passed')"
exec 9<&-
end

note "a server of an ordinary user has none, and is confined all the same"
mkdir theirs
echo hello >theirs/file
chown -R 65534:65534 theirs
as_user "$VFS_BIN/vsockfsd" --listen "unix:$VFS_TMP/theirs/s" --pidfile="$VFS_TMP/theirs/pid" theirs </dev/null 2>said &
job=$!
wait_for 20 test -s theirs/pid
served=$(cat theirs/pid)
said_once 'no capabilities, no_new_privs'
confined "$served" "$(caps)" '' # the bounding set is not an ordinary user's to change
kill -TERM "$served"
wait "$job" || fail "vsockfsd: exit code $?"
must gone theirs/pid
must gone theirs/s

note "an ordinary user's is enough for --sandbox=require: Landlock needs no privilege"
if [ "$listed$landlock" = 21 ]; then
	as_user "$VFS_BIN/vsockfsd" --sandbox=require --listen "unix:$VFS_TMP/theirs/s" --pidfile="$VFS_TMP/theirs/pid" theirs \
		</dev/null 2>said &
	job=$!
	wait_for 20 test -s theirs/pid
	kill -TERM "$(cat theirs/pid)"
	wait "$job" || fail "vsockfsd: exit code $?"
fi

note "a listener and a log that were opened before it, and again in their place"
for _ in 1 2; do
	python3 - "$VFS_BIN/vsockfsd" <<'P' &
import os, socket, sys
if os.path.exists("fd"):
    os.unlink("fd")
s = socket.socket(socket.AF_UNIX)
s.bind("fd")
s.listen()
os.dup2(s.fileno(), 9)
os.dup2(os.open("fd.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
os.execv(sys.argv[1], [sys.argv[1], "--listen", "fd:9", "--pidfile=fd.pid", "src"])
P
	served=$!
	wait_for 20 test -s fd.pid
	mount_vfs "unix:$VFS_TMP/fd" "$VFS_TMP/mnt"
	same 'through the mount' hello "$(cat mnt/file)"
	confined "$served" "$(caps "${creating[@]}")"
	umount_vfs "$VFS_TMP/mnt"
	kill -TERM "$served"
	wait "$served" || fail "vsockfsd: exit code $?"
	must gone fd.pid
done
same 'lines in the log' 2 "$(grep -c 'sandbox: ' fd.log)"

note "--sandbox=off"
begin --sandbox=off
said_once 'off$'
same 'Seccomp' 0 "$(status "$served" Seccomp)"
same 'NoNewPrivs' 0 "$(status "$served" NoNewPrivs)"
same 'broker' '' "$broker"
end

# without CALL... CMD... : where the kernel does not know these system calls, by a seccomp filter of our own
cat >without.py <<'P'
import ctypes, os, struct, sys
calls, argv = [int(c) for c in sys.argv[1].split(",")], sys.argv[2:]
code = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # the number
for i, call in enumerate(calls):
    code.append(struct.pack("HBBI", 0x15, len(calls) - i, 0, call))
code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
code.append(struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | 38))  # ENOSYS
program = ctypes.create_string_buffer(b"".join(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))
assert libc.prctl(22, 2, filter) == 0, os.strerror(ctypes.get_errno())
os.execv(argv[0], argv)
P
if [ "$(uname -m)" = x86_64 ] || [ "$(uname -m)" = aarch64 ]; then
	# missing CALLS LINE WORDS : require refuses with LINE, try says WORDS
	missing() {
		local status=0
		note "without the system calls $1"
		python3 without.py "$1" "$VFS_BIN/vsockfsd" --sandbox=require --listen unix:s --pidfile=r.pid src >out 2>&1 </dev/null ||
			status=$?
		same "exit code ($(cat out))" 1 $status
		same 'lines' 1 "$(wc -l <out)"
		grep -q -- "--sandbox=require: $2" out || fail "it said: $(cat out)"
		must gone s
		must gone r.pid
		python3 without.py "$1" "$VFS_BIN/vsockfsd" --listen "unix:$VFS_TMP/s" --pidfile="$VFS_TMP/s.pid" src </dev/null 2>said &
		served=$!
		wait_for 20 test -s s.pid
		said_once "$3"
		mount_vfs "unix:$VFS_TMP/s" "$VFS_TMP/mnt"
		same 'through the mount' hello "$(cat mnt/file)"
		umount_vfs "$VFS_TMP/mnt"
		kill -TERM "$served"
		wait "$served" || fail "vsockfsd: exit code $?"
	}
	if [ "$(uname -m)" = x86_64 ]; then prctl=157 seccomp=317; else prctl=167 seccomp=277; fi
	missing 444 'without a root of its own' 'without Landlock: this kernel has none' # landlock_create_ruleset
	missing $prctl,$seccomp 'without no_new_privs: Function not implemented' 'without no_new_privs: .*without seccomp: '
fi

note "where mounts are shared, it has a root of its own, and sees what is mounted into the export later"
mount --bind src src
mount --make-shared src
begin --sandbox=require
said_once 'a root of its own'
same 'its root' 'export proc' "$(ls "/proc/$served/root" | paste -sd' ')"
same 'of /proc it can be told' 'ro hidepid=ptraceable subset=pid' \
	"$(awk '$5 == "/proc" { split($6, o, ","); print o[1], $NF }' "/proc/$served/mountinfo" | sed 's/rw,//; s/,/ /')"
same 'nothing else is mounted there' '/ /export /proc' "$(awk '{ print $5 }' "/proc/$served/mountinfo" | sort | paste -sd' ')"
mount -t tmpfs none src/sub
echo inside >src/sub/inside
wait_for 20 has_text mnt/sub/inside inside
echo written >mnt/sub/written
same 'on the host' written "$(cat src/sub/written)"
echo changed >src/sub/inside
fence mnt
same 'a change on a file system that was mounted later' changed "$(cat mnt/sub/inside)"
end
umount src/sub
umount src

if [ "$landlock" ] && [ -w /proc/sys/vm/drop_caches ]; then
	note "files that the server finds by their handles alone, while no name of them is in memory"
	mkdir cold
	for i in {1..200}; do echo "$i" >"cold/f$i"; done
	echo two >cold/one
	ln cold/one cold/other
	(
		ulimit -n 128
		exec vsockfsd --listen "unix:$VFS_TMP/c" --pidfile="$VFS_TMP/c.pid" cold </dev/null 2>said
	) &
	served=$!
	wait_for 20 test -s c.pid
	mount_vfs "unix:$VFS_TMP/c" "$VFS_TMP/mnt" page_cache=0
	python3 -c 'import os, signal; os.open("mnt/other", os.O_PATH); open("held", "w"); signal.pause()' &
	holder=$! # so the guest's kernel keeps that name, and opens by it without another look-up
	wait_for 20 test -e held
	stat mnt/one >/dev/null # the name by which it was seen last
	for i in {1..200}; do stat -c %s "mnt/f$i"; done >/dev/null
	rm cold/one
	fence mnt
	sync -f cold
	echo 2 >/proc/sys/vm/drop_caches
	same 'by a name that it was not seen by last' two "$(cat mnt/other 2>&1)"
	kill "$holder"
	wait "$holder" || :
	for i in {1..200}; do same "f$i" "$i" "$(cat "mnt/f$i" 2>&1)"; done
	umount_vfs "$VFS_TMP/mnt"
	kill -TERM "$served"
	wait "$served" || fail "vsockfsd: exit code $?"
fi
