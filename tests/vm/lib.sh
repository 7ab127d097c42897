# What the cases and main.sh use, in the guest. Run with a case's file name, it runs that case.
#
# A case is a file of shell functions and, for each, a line "check NAME [SECONDS]". The function runs in a subshell
# with "set -eux" in its own directory of the mount ($W, which is $H on the server's side): the first command that
# fails ends it, and its trace is the reason that is reported. It has SECONDS (default 30) to finish.

MNT=/mnt EXPORT=/export
FIFO=/run/check
SLOW=$(sed -n 's/.*vm\.slow=\([0-9]*\).*/\1/p' /proc/cmdline)
: "${SLOW:=1}" # what all the times here are multiplied by

# Busybox's shell prefers its own applets to what PATH finds: these are to be the real ones.
for tool in cp dd diff mount mv setpriv stat touch; do
	eval "$tool() { /usr/bin/$tool \"\$@\"; }"
done

say() { echo "@@ $*" >/dev/console; }
note() { say "note $*"; }
last_lines() { tail -n "${2:-3}" "$1" 2>/dev/null | tr -s '\n\r\t' '   ' | tail -c 400; }

now() { # centiseconds since boot
	local up rest
	read -r up rest </proc/uptime
	echo "${up%.*}${up#*.}"
}
wait_for() { # SECONDS COMMAND...: until it succeeds
	{ local -; set +x; } 2>/dev/null # the trace shows the call, that is enough
	local limit=$(($1 * SLOW))
	local begun=$(now)
	local end=$((begun + limit * 100))
	shift
	until "$@" >/dev/null 2>&1; do
		if [ "$begun" -gt $end ]; then
			echo "not so within $limit s: $*" >&2
			return 1
		fi
		usleep 20000
		begun=$(now)
	done
}
within() { # SECONDS COMMAND...: fails when it takes longer; 137 if it had to be killed
	{ local -; set +x; } 2>/dev/null
	local limit=$(($1 * SLOW)) program=$2
	shift 2
	[ -x "/usr/bin/$program" ] && program=/usr/bin/$program
	timeout -s KILL "$limit" "$program" "$@"
}
not() { # COMMAND...: must fail, but not by a signal or a timeout
	{ local -; set +x; } 2>/dev/null
	local rc=0
	"$@" || rc=$?
	[ $rc -gt 0 ] && [ $rc -lt 126 ] && return 0
	echo "ended with $rc, should have failed: $*" >&2
	return 1
}
same() { # A B
	{ local -; set +x; } 2>/dev/null
	[ "$1" = "$2" ] || { echo "'$1' is not '$2'" >&2; return 1; }
}
as() { # UID COMMAND...: as that user, in no other group
	{ local -; set +x; } 2>/dev/null
	local uid=$1
	shift
	setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}
has_option() { # NAME: vsockfs has that mount option, or one of its values is so called
	vsockfs --help 2>&1 | grep -Eq "^ +([a-z_]+=)?([a-z]+\\|)*$1([=|][^ ]*)?( |\$)"
}
skip_check() { echo "$*" >/run/check.skip; exit 77; }

# Processes. A zombie is gone.
gone() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
	case ${stat##*) } in Z*) return 0 ;; esac
	return 1
}
kill_tree() { # PID...: and all that descend from it
	local pid stat rest
	for pid; do
		kill -STOP "$pid" 2>/dev/null
		for stat in /proc/[0-9]*/stat; do
			rest=$(cat "$stat" 2>/dev/null) || continue
			rest=${rest##*) }
			set -- $rest
			[ "$2" = "$pid" ] && { stat=${stat#/proc/}; kill_tree "${stat%/stat}"; }
		done
		kill -KILL "$pid" 2>/dev/null
	done
}
fuse_mounts() { sed -n 's/^[^ ]* \([^ ]*\) fuse\.vsockfs .*/\1/p' /proc/mounts; }
clear_check() { # MOUNTS...: ends what a check has left that failed or was skipped, and unmounts what was not mounted before it
	local f m
	for f in /proc/[0-9]*/environ; do
		tr '\0' '\n' <"$f" 2>/dev/null | grep -qx "CHECK=$CHECK" || continue
		f=${f#/proc/}
		kill -KILL "${f%/environ}"
	done 2>/dev/null
	# A subshell shows the environment of the shell it came from; it is a shell of a case without its parent.
	for f in /proc/[0-9]*/stat; do
		tr '\0' ' ' <"${f%stat}cmdline" 2>/dev/null | grep -q '^sh /vm/lib.sh ' || continue
		set -- "$*" $(sed 's/^.*) //' "$f" 2>/dev/null)
		f=${f#/proc/}
		[ "${3-}" = 1 ] && kill -KILL "${f%/stat}"
		set -- $1
	done
	for m in $(fuse_mounts); do
		case " $* " in *" $m "*) ;; *) umount -l "$m" ;; esac
	done
	cd /
}
abort_fuse() { # every FUSE mount: what waits in one is released with ENOTCONN
	local f
	for f in /sys/fs/fuse/connections/*/abort; do [ -e "$f" ] && echo 1 >"$f"; done
}

# Mounts, clients and servers.
mounted() { grep -q "^[^ ]* $1 fuse" /proc/mounts; }
not_mounted() { ! mounted "$1"; }
client_log() { echo "/run/client$(echo "$1" | tr / -).log"; }
client_pids() { # MOUNTPOINT: whether or not vsockfs went into the background
	local f
	for f in /proc/[0-9]*/cmdline; do
		tr '\0' ' ' <"$f" 2>/dev/null | grep -Eq "^[^ ]*(vsockfs|mount\.fuse\.vsockfs) (.* )?$1( |\$)" || continue
		f=${f#/proc/}
		gone "${f%/cmdline}" || echo "${f%/cmdline}"
	done
}
no_client() { [ -z "$(client_pids "$1")" ]; }
start_server() { # NAME ADDR DIR [OPTION...]: and waits for its pidfile, /run/NAME.pid
	{ local -; set +x; } 2>/dev/null
	local name=$1 addr=$2 dir=$3 pid
	shift 3
	rm -f "/run/$name.pid"
	vsockfsd --listen "$addr" --pidfile="/run/$name.pid" "$@" "$dir" </dev/null >>"/run/$name.log" 2>&1 5>&- 9>&- &
	pid=$!
	wait_for 20 started "$pid" test -s "/run/$name.pid"
	test -s "/run/$name.pid" || { echo "vsockfsd: $(last_lines "/run/$name.log")" >&2; return 1; }
}
start_client() { # SOURCE MOUNTPOINT [OPTION...]: and waits for the mount
	{ local -; set +x; } 2>/dev/null
	local log pid mnt=$2
	log=$(client_log "$mnt")
	mkdir -p "$mnt"
	vsockfs "$@" </dev/null >>"$log" 2>&1 5>&- 9>&- &
	pid=$!
	wait_for 20 started "$pid" mounted "$mnt"
	mounted "$mnt" || { echo "vsockfs: $(last_lines "$log")" >&2; return 1; }
}
started() { # PID COMMAND...: it is so, or will never be, as that process ended
	local pid=$1
	shift
	"$@" && return 0
	gone "$pid" && ! "$@" # it may have become so just before that
}
stop_client() { # MOUNTPOINT: a clean end
	{ local -; set +x; } 2>/dev/null
	within 20 umount "$1"
	wait_for 20 no_client "$1"
}
stop_server() { # NAME
	{ local -; set +x; } 2>/dev/null
	local pid
	pid=$(cat "/run/$1.pid")
	kill -TERM "$pid"
	wait_for 20 gone "$pid"
}
common_alive() {
	[ -s /run/common.pid ] && ! gone "$(cat /run/common.pid)" && mounted "$MNT" && within 15 ls "$MNT" >/dev/null 2>&1
}
common_restart() {
	local pid
	abort_fuse
	while mounted "$MNT"; do umount -l "$MNT" || break; done
	for pid in $(client_pids "$MNT") $(cat /run/common.pid 2>/dev/null); do kill -KILL "$pid"; done
	start_server common vsock:1:5001 "$EXPORT" && start_client vsock:1:5001 "$MNT"
} 2>/dev/null

CHECK=0
check_as() { # NAME FUNCTION [SECONDS]
	local name=$CASE/$1 fn=$2 limit=$((${3:-30} * SLOW)) n rc pid out=/run/check.log t f before
	CHECK=$CASE-$((${CHECK##*-} + 1))
	before=$(fuse_mounts | tr '\n' ' ')
	rm -f /run/check.skip
	t=$(now)
	(
		# What this starts is known by this variable.
		export CHECK
		(set -eux; "$fn") 9>&-
		echo "$CHECK $?" >&9
	) </dev/null >"$out" 2>&1 &
	pid=$!
	rc=
	while read -r -t "$limit" n rc <&9; do
		[ "$n" = "$CHECK" ] && break # else the late end of one that was given up
		rc=
	done
	t=$(($(now) - t))
	case $rc in
	0) say "ok $name ($((t / 100)).$((t / 10 % 10)) s)" ;;
	77)
		say "skip $name $(cat /run/check.skip)"
		clear_check $before
		;;
	*)
		echo "--- $name"
		tail -n 40 "$out"
		for f in /run/*.log; do
			[ "$f" = "$out" ] || { echo "--- $f"; tail -n 15 "$f"; }
		done
		if [ -n "$rc" ]; then
			say "not ok $name $(last_lines "$out")"
		else
			kill_tree $pid
			say "not ok $name no end within $limit s: $(last_lines "$out")"
			# What even SIGKILL does not end waits in FUSE.
			wait_for 2 gone $pid || abort_fuse
		fi
		clear_check $before
		;;
	esac
}
check() { # NAME [SECONDS]: the function of that name
	check_as "$(echo "$1" | tr _ -)" "$1" "${2-}"
}

[ -p $FIFO ] || mkfifo $FIFO
exec 9<>$FIFO
if [ $# = 1 ]; then
	W=$MNT/$CASE H=$EXPORT/$CASE
	rm -rf "$H"
	mkdir -p "$H"
	. "$1"
	rm -rf "$H"
fi
