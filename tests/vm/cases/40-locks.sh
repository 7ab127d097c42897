# flock(2) within one mount, between two clients of one server, and against the server's side.

holds() { # FILE: someone holds it
	not flock -n "$1" true
}
hold() { # FILE: takes the lock in the background and keeps it until $holder is killed
	rm -f /run/held
	flock "$1" sh -c ': >/run/held; exec sleep 600' 9>&- &
	holder=$!
	wait_for 10 test -e /run/held
}

one_mount() {
	cd $W
	: >lock
	flock -n lock true
	hold lock
	holds lock
	not flock -n -s lock true
	kill_tree $holder
	wait_for 10 flock -n lock true
	flock -s lock flock -n -s lock true
	not flock -s lock flock -n lock true
}
check one_mount

waits() {
	cd $W
	: >wait
	hold wait
	(flock wait sh -c 'echo got >got') &
	waiter=$!
	not within 10 flock -w 0.3 wait true
	test ! -e got
	kill_tree $holder
	wait_for 10 test -s got
	wait $waiter
}
check waits

waiter_killable() {
	cd $W
	: >stuck
	hold stuck
	flock stuck true &
	waiter=$!
	not flock -w 0.3 stuck true
	kill -KILL $waiter
	wait_for 10 gone $waiter
	kill_tree $holder
	wait_for 10 flock -n stuck true
}
check waiter_killable

two_clients() { # locks=host is the default
	start_client vsock:1:5001 /mnt-locks
	B=/mnt-locks/$CASE
	: >$W/shared
	hold $W/shared
	holds $B/shared
	kill_tree $holder
	wait_for 10 flock -n $B/shared true
	hold $B/shared
	holds $W/shared
	holds $H/shared
	kill_tree $holder
	wait_for 10 flock -n $W/shared true
	stop_client /mnt-locks
}
check two_clients 60

server_side() {
	: >$W/host
	hold $H/host
	holds $W/host
	kill_tree $holder
	wait_for 10 flock -n $W/host true
	hold $W/host
	holds $H/host
	kill_tree $holder
	wait_for 10 flock -n $H/host true
}
check server_side
