# What goes wrong ends in an error or can be ended; nothing hangs for good.

nobody_listens() { # one line, exit 1
	mkdir -p /mnt-none
	rc=0
	within 25 vsockfs vsock:1:5999 /mnt-none -o connect_timeout=1 </dev/null >/run/none.out 2>&1 || rc=$?
	same 1 $rc
	test -s /run/none.out
	not_mounted /mnt-none
}
check nobody_listens

bad_arguments() {
	for args in 'vsock:x:y /mnt-none' 'nonsense /mnt-none' 'vsock:1:5001 /mnt-none -o no_such_option'; do
		rc=0
		within 20 vsockfs $args </dev/null >/run/bad.out 2>&1 || rc=$?
		test $rc = 1 -o $rc = 2
		test -s /run/bad.out
		not_mounted /mnt-none
	done
	rc=0
	within 20 vsockfsd --listen vsock:1:5998 /no/such/directory </dev/null >/run/bad.out 2>&1 || rc=$?
	same 1 $rc
	test -s /run/bad.out
}
check bad_arguments

port_taken() {
	rc=0
	within 20 vsockfsd --listen vsock:1:5001 --pidfile=/run/taken.pid $H </dev/null >/run/bad.out 2>&1 || rc=$?
	same 1 $rc
	test -s /run/bad.out
}
check port_taken

server_gone() { # an error, in time: with -o soft, or where there is no other behaviour yet
	mkdir -p $H/soft
	: >$H/soft/known
	start_server soft vsock:1:5011 $H/soft
	if has_option soft; then set -- -o soft,timeo=3; else set --; fi
	start_client vsock:1:5011 /mnt-soft "$@"
	test -e /mnt-soft/known
	kill -KILL "$(cat /run/soft.pid)"
	wait_for 10 gone "$(cat /run/soft.pid)"
	not within 25 stat /mnt-soft/unknown
	not within 25 sh -c 'echo x >/mnt-soft/new'
	within 20 umount /mnt-soft
	wait_for 20 no_client /mnt-soft
}
check server_gone 90

hard_server_gone() { # the default: callers wait, can be killed, and go on when the server is back
	has_option hard || skip_check 'this vsockfs has no -o hard'
	mkdir -p $H/hard
	start_server hard vsock:1:5012 $H/hard
	start_client vsock:1:5012 /mnt-hard
	echo before >/mnt-hard/file
	exec 5</mnt-hard/file
	kill -KILL "$(cat /run/hard.pid)"
	wait_for 10 gone "$(cat /run/hard.pid)"
	/usr/bin/stat /mnt-hard/unknown &
	waiting=$!
	# It has begun to wait. Behind a call that changes the directory it could not be killed: that has the lock.
	waits() { grep -q stat /proc/$1/comm && grep -q -E '^State:[[:space:]]*[SD]' /proc/$1/status; }
	wait_for 10 waits $waiting
	(echo late >/mnt-hard/late) &
	writer=$!
	kill -KILL $waiting
	wait_for 10 gone $waiting
	! gone $writer
	start_server hard vsock:1:5012 $H/hard
	wait_for 40 gone $writer
	wait $writer
	same late "$(cat $H/hard/late)"
	same before "$(cat <&5)"
	exec 5<&-
	same before "$(cat /mnt-hard/file)"
	stop_client /mnt-hard
	stop_server hard
}
check hard_server_gone 120

umount_without_server() {
	mkdir -p $H/gone
	start_server gone vsock:1:5013 $H/gone
	start_client vsock:1:5013 /mnt-gone
	ls /mnt-gone
	kill -KILL "$(cat /run/gone.pid)"
	wait_for 10 gone "$(cat /run/gone.pid)"
	within 20 umount /mnt-gone || within 20 umount -l /mnt-gone
	wait_for 20 no_client /mnt-gone
}
check umount_without_server 90

client_killed() { # the server lets go of what the client held
	start_client vsock:1:5001 /mnt-killed
	: >/mnt-killed/$CASE/locked
	(exec 7>/mnt-killed/$CASE/locked; flock 7; : >/run/locked; exec sleep 600) 9>&- &
	holder=$!
	wait_for 10 test -e /run/locked
	for p in $(client_pids /mnt-killed); do kill -KILL $p; done
	wait_for 10 no_client /mnt-killed
	not within 10 stat /mnt-killed/$CASE/other
	kill_tree $holder
	umount -l /mnt-killed
	wait_for 20 flock -n $W/locked true
	wait_for 20 flock -n $H/locked true
}
check client_killed 90

full_disk() { # ENOSPC reaches the writer, and the mount lives on
	mkdir -p /run/small
	mount -t tmpfs -o size=1m tmpfs /run/small
	start_server small vsock:1:5014 /run/small
	start_client vsock:1:5014 /mnt-small
	not cp /bin/busybox /mnt-small/much
	rm -f /mnt-small/much
	echo x >/mnt-small/little
	same x "$(cat /run/small/little)"
	stop_client /mnt-small
	stop_server small
	umount /run/small
}
check full_disk 60

confined() { # no way out of the export
	mkdir -p $H/conf/dir
	start_server conf vsock:1:5015 $H/conf
	start_client vsock:1:5015 /mnt-conf
	echo outside >$H/outside
	same "$(stat -c %i /mnt-conf)" "$(stat -c %i /mnt-conf/dir/..)"
	# The guest follows links itself: this one is its own /etc.
	ln -s /etc/passwd $H/conf/link
	ln -s ../../outside $H/conf/dir/up
	same "$(cat /etc/passwd)" "$(cat /mnt-conf/link)"
	not cat /mnt-conf/dir/up
	stop_client /mnt-conf
	stop_server conf
}
check confined 60

moved_out() { # a directory that leaves the export cannot be used any more
	mkdir -p $H/out/dir
	start_server out vsock:1:5016 $H/out
	start_client vsock:1:5016 /mnt-out
	cd /mnt-out/dir
	ls
	mv $H/out/dir $H/away
	echo secret >$H/away/secret
	wait_for 10 not cat /mnt-out/dir/secret
	has_option lease || skip_check 'by its handle, only a server that watches can tell (cache=lease)'
	wait_for 10 not cat secret
	cd /
	stop_client /mnt-out
	stop_server out
}
check moved_out 60
