#!/bin/sh
# Runs the cases one after the other, in the guest. Lines that start with "@@ " are for the outer side.
. /vm/lib.sh

say "begin $(uname -r)"
if ! start_server common vsock:1:5001 "$EXPORT"; then
	say "not ok vm/server vsockfsd did not start: $(last_lines /run/common.log)"
elif ! start_client vsock:1:5001 "$MNT"; then
	say "not ok vm/client vsockfs did not mount: $(last_lines "$(client_log "$MNT")")"
else
	say "ok vm/start"
fi

for f in /vm/cases/*.sh; do
	CASE=${f##*/[0-9][0-9]-}
	CASE=${CASE%.sh}
	export CASE
	if ! common_alive && ! common_restart; then
		say "not ok $CASE/setup the common server and mount cannot be started: $(last_lines /run/common.log)"
		continue
	fi
	sh /vm/lib.sh "$f" || say "not ok $CASE/end the case itself ended with $?"
	common_alive || say "not ok $CASE/alive the common mount did not survive this case"
done

CASE=vm
check_end() {
	within 20 umount "$MNT"
	wait_for 20 no_client "$MNT"
	pid=$(cat /run/common.pid)
	kill -TERM "$pid"
	wait_for 20 gone "$pid"
	test ! -e /run/common.pid
}
if common_alive; then check_as end check_end 60; fi

# What a build with a sanitizer had to say.
bad=$(grep -hE 'ERROR: [A-Z][a-z]+Sanitizer|WARNING: [A-Z][a-z]+Sanitizer|runtime error: ' /run/*.log | head -n 3)
if [ -n "$bad" ]; then
	cat /run/*.log
	say "not ok vm/sanitizer $(echo "$bad" | tr '\n' ' ')"
fi

# What the kernel had to say about the drivers, FUSE first of all.
bad=$(dmesg | grep -E 'WARNING: |BUG: |Oops|general protection|blocked for more than|segfault at|traps: ' | head -n 3)
if [ -z "$bad" ]; then
	say 'ok vm/kernel-log'
else
	dmesg
	say "not ok vm/kernel-log $(echo "$bad" | tr '\n' ' ')"
fi
say end
