# What is changed on the server's side shows in the mount, although the guest has cached what was there before.
# Design, I2: within 10 ms while connected; here, emulated on a busy machine, within 5 s. The mount's own timeouts are
# far longer than that, so that only a push can be what mends it; a client without cache=lease has but its 1 s.
M=/mnt-pushed W=/mnt-pushed/$CASE
LONG=attr_timeout=600,entry_timeout=600,negative_timeout=600

check_start() {
	if has_option lease; then set -- -o cache=lease,$LONG; else set --; fi
	start_client vsock:1:5001 $M "$@"
}
check_as start check_start

warm() { for i in 1 2 3; do stat "$@" >/dev/null; done; }
is() { [ "$(cat "$1")" = "$2" ]; }
mode_is() { [ "$(stat -c %a "$1")" = "$2" ]; }
absent() { [ ! -e "$1" ]; }
lists() { [ "$(ls "$1" | tr '\n' ' ')" = "$2" ]; }

content() {
	cd $W
	echo before >$H/c
	same before "$(cat c)"
	warm c
	echo 'after, and longer' >$H/c
	wait_for 5 is c 'after, and longer'
	same 18 "$(stat -c %s c)"
	# The same length, by an open file.
	exec 5<>$H/c
	echo AFTER >&5
	wait_for 5 is c "$(cat $H/c)"
	exec 5>&-
	# One byte, in a file of many pages.
	dd if=/dev/zero of=$H/z bs=4096 count=100 2>/dev/null
	cmp z $H/z
	printf x | dd of=$H/z bs=1 seek=300000 conv=notrunc 2>/dev/null
	wait_for 5 cmp z $H/z
}
check content

attributes() {
	cd $W
	echo x >$H/a
	warm a
	chmod 600 $H/a
	wait_for 5 mode_is a 600
	command truncate -s 100 $H/a
	wait_for 5 cmp a $H/a
}
check attributes

names() {
	mkdir $W/n
	cd $W/n
	not stat new # cached as absent
	lists . ''
	echo x >$H/n/new
	wait_for 5 test -e new
	wait_for 5 lists . 'new '
	mv $H/n/new $H/n/newer
	wait_for 5 absent new
	wait_for 5 test -e newer
	wait_for 5 lists . 'newer '
	mkdir $H/n/d
	: >$H/n/d/in
	wait_for 5 test -e d/in
	mv $H/n/d $H/n/e
	wait_for 5 test -e e/in
	wait_for 5 absent d/in
	rm -r $H/n/e $H/n/newer
	wait_for 5 lists . ''
	wait_for 5 absent e
}
check names

replaced() { # I6: a rename over a name never shows a moment without it
	cd $W
	echo 0 >$H/r
	cat r
	(for i in $(seq 1 60); do echo $i >$H/r.new; mv $H/r.new $H/r; done; : >$H/r.done) &
	while [ ! -e $H/r.done ]; do cat r >/dev/null; done
	wait
	wait_for 5 is r 60
}
check replaced

many() { # a burst
	mkdir $W/m
	cd $W/m
	for i in $(seq 1 100); do echo old >$H/m/f$i; done
	cat f* >/dev/null
	for i in $(seq 1 100); do echo new $i >$H/m/f$i; done
	all_new() { [ "$(cat f* | grep -c new)" = 100 ]; }
	wait_for 5 all_new
}
check many

stale_without_push() { # the same, where nothing is pushed: else these checks would prove nothing
	start_client vsock:1:5001 /mnt-stale -o cache=ttl,$LONG
	cd /mnt-stale/$CASE
	echo before >$H/stale
	cat stale
	same 7 "$(stat -c %s stale)"
	not stat late
	echo 'after, and longer' >$H/stale
	: >$H/late
	not wait_for 2 sh -c '[ "$(stat -c %s stale)" != 7 ]'
	test ! -e late
	cd /
	stop_client /mnt-stale
}
check stale_without_push

check_end() { stop_client $M; }
check_as end check_end
