# shellcheck shell=bash
# Helpers of the cases written in bash. Source it first:  . "$VFS_E2E/lib.sh"
#
# A case ends by running through (passed), by fail, or by skip. Whatever it must not fail at goes through
# must/refused/same/wait_for, which say in one line what was expected and what was found.

set -euo pipefail
# Not errexit's bare end, but the line that failed.
trap 'echo "failed at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2' ERR
set -E

fail() {
	[[ $* != *$'\n'* ]] || echo "$*"
	echo "${*//$'\n'/ | }" # the runner quotes the last line of the output
	exit 1
}

skip() {
	echo "$*"
	exit 77
}

note() { echo "# $*"; }

# The stand-in of the runner's own test: a bind mount, which shows neither caching nor our programs.
is_bind() { [ "$VFS_TRANSPORT" = bind ]; }

# need_program NAME... : ours, of VFS_BIN
need_program() {
	local name
	! is_bind || skip 'the stand-in has none of our programs'
	for name; do
		[ -x "$VFS_BIN/$name" ] || skip "no program $name"
	done
}

# need_test NAME : a built test program, below VFS_TESTS
need_test() { [ -x "$VFS_TESTS/$1" ] || skip "the test program $1 is not built"; }

# must CMD... : fails with the command's own words. They go through a file: a daemon that CMD starts and that keeps
# its output open must not keep us waiting.
must() {
	local said=$VFS_TMP/said.$BASHPID
	"$@" >"$said" 2>&1 || fail "$* : exit code $?: $(tail -n 5 "$said" | grep . || echo 'it said nothing')"
	rm -f "$said"
}

# refused TEXT CMD... : CMD fails and says TEXT (a basic regular expression)
refused() {
	local text=$1 said status=0
	shift
	said=$("$@" 2>&1 </dev/null) || status=$?
	[ $status -ne 0 ] || fail "$* : was to be refused, and went through"
	grep -q -- "$text" <<<"$said" || fail "$* : was to say '$text', and said '$said'"
}

# same WHAT EXPECTED FOUND
same() { [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"; }

# A pipe that nobody writes to: reading it with a limit is a pause that costs no process.
exec {vfs_silence}<> <(:)
pause() { read -rt 0.05 -u "$vfs_silence" || :; }

# wait_for SECONDS CMD... : until CMD succeeds; fails if it still does not when begun after SECONDS (times VFS_SLOW)
wait_for() {
	local seconds=$1 begun end
	shift
	begun=${EPOCHREALTIME/./}
	end=$((begun + seconds * 1000000 * VFS_SLOW))
	until "$@" >/dev/null 2>&1; do
		[ "$begun" -lt $end ] || fail "still not so after $((seconds * VFS_SLOW)) s: $*"
		pause
		begun=${EPOCHREALTIME/./}
	done
}

# has_text FILE TEXT : FILE is TEXT, for wait_for
has_text() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }
gone() { [ ! -e "$1" ] && [ ! -L "$1" ]; }
# ended PID : also one of ours that nobody has waited for yet: bash may miss a SIGCHLD that comes while it handles another
ended() {
	local stat tasks
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
	tasks=("/proc/$1/task/"*) # of a process whose first thread alone has ended there are more
	[[ ${stat##*) } = Z* && ${#tasks[@]} -le 1 ]]
}
is_mounted() { awk -v at="${1// /\\\\040}" '$5 == at { found = 1 } END { exit !found }' /proc/self/mountinfo; }
is_unmounted() { ! is_mounted "$1"; }

# as_user CMD... : as the ordinary user, without any capability
as_user() { setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all -- "$@"; }

# Name, type, mode, links, owner, group, size, times and link target of everything below a directory.
listing() {
	(cd "$1" && find . -printf '%P %y %m %n %U %G %s %T@ %C@ %l\0' | sort -z | tr '\n\0' '?\n')
}

# same_trees : contents and attributes are the same in the mount and on the host. Over an ordinary user's server with
# uid=0,gid=0, what is that user's on the host is root's in the mount.
same_trees() {
	local host=$VFS_HOST mnt=$VFS_MNT differ
	[ "$(find "$host" -mindepth 1 -print -quit)" ] || fail "nothing to compare below $host"
	differ=$(diff -r --no-dereference "$host" "$mnt" 2>&1 | head -n 20) || :
	[ -z "$differ" ] || fail "mount and host differ: $differ"
	listing "$host" | if [ "$VFS_AS" = mapped ]; then
		sed -E "s/( . [0-7]+ [0-9]+) $VFS_SERVER_UID $VFS_SERVER_UID ([0-9]+ [0-9.]+ [0-9.]+ )/\1 0 0 \2/"
	else
		cat
	fi >"$VFS_TMP/listing.host"
	listing "$mnt" >"$VFS_TMP/listing.mnt"
	differ=$(diff "$VFS_TMP/listing.host" "$VFS_TMP/listing.mnt" | head -n 20) || :
	[ -z "$differ" ] || fail "attributes differ (< host, > mount): $differ"
	[ ! -x "$VFS_TESTS/posix/treecmp" ] || treecmp "$host" "$mnt"
}

# treecmp HOST MNT : the same by the test program, which knows of every type of file
treecmp() {
	local ids=()
	[ "$VFS_AS" != mapped ] || is_bind || ids=(--ids 0:0)
	must "$VFS_TESTS/posix/treecmp" "${ids[@]}" "$1" "$2"
}

# serve SOCKET DIR [FLAG...] : starts vsockfsd and waits for it; its pid is in $served
serve() {
	local socket=$1 dir=$2
	shift 2
	rm -f "$socket.pid"
	"$VFS_BIN/vsockfsd" --listen "unix:$socket" "--pidfile=$socket.pid" "$@" "$dir" </dev/null &
	# shellcheck disable=SC2034
	served=$!
	wait_for 20 test -s "$socket.pid"
}

# mount_vfs SOURCE MOUNTPOINT [OPTIONS]
mount_vfs() {
	mkdir -p "$2"
	"$VFS_BIN/vsockfs" "$1" "$2" ${3:+-o "$3"} </dev/null >"$VFS_TMP/mount.said" 2>&1 ||
		fail "vsockfs $1 $2 ${3:-}: exit code $?: $(cat "$VFS_TMP/mount.said")"
	is_mounted "$2" || fail "vsockfs returned 0, and $2 is not mounted"
}

# mount_again MOUNTPOINT [OPTIONS] : the export of this case once more, for cases with two mounts
mount_again() {
	mkdir -p "$1"
	if is_bind; then
		must mount --bind "$VFS_HOST" "$1"
	else
		mount_vfs "$VFS_SOURCE" "$1" "${2:-$VFS_CACHE}"
	fi
}

# The processes of the client that serves MOUNTPOINT: vsockfs, found by its arguments. An embedded server is one too.
clients_of() {
	local pid
	for pid in /proc/[0-9]*; do
		pid=${pid#/proc/}
		if [ "$(readlink "/proc/$pid/exe" 2>/dev/null)" = "$VFS_BIN/vsockfs" ] &&
			tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "$1"; then
			echo "$pid"
		fi
	done
}
# The one of them that answers the kernel.
client_of() {
	local pid
	for pid in $(clients_of "$1"); do
		[ -z "$(find "/proc/$pid/fd" -lname /dev/fuse 2>/dev/null)" ] || echo "$pid"
	done
}
no_clients_of() { [ -z "$(clients_of "$1")" ]; }

# umount_vfs MOUNTPOINT : and its client has ended
umount_vfs() {
	must umount "$1"
	is_bind || wait_for 10 no_clients_of "$1"
}

# The cache that the runner's -o asked for (cache=none, cache=ttl), for further mounts; none is the default, lease.
VFS_CACHE=$(grep -oP '(?<![a-z_])cache=[a-z]+' <<<"${VFS_OPTIONS:-}" || :)

# fence MOUNTPOINT... : whatever returned on the host before is visible
fence() {
	is_bind || [ "$VFS_CACHE" ] || python3 -c '
import fcntl, os, sys
for m in sys.argv[1:]:
    fd = os.open(m, os.O_RDONLY)
    fcntl.ioctl(fd, 0x80085601, bytes(8))
    os.close(fd)' "$@" ||
		fail "no fence on $*"
}
