# Ways to mount, and a clean end.

umount_ends_client() {
	start_client vsock:1:5001 /mnt-end
	pid=$(client_pids /mnt-end)
	test -n "$pid"
	echo x >/mnt-end/$CASE/x
	exec 5</mnt-end/$CASE/x
	not umount /mnt-end # busy
	exec 5<&-
	within 10 umount /mnt-end
	for p in $pid; do wait_for 10 gone $p; done
	same '' "$(ls /mnt-end)"
	same x "$(cat $H/x)"
}
check umount_ends_client

term_ends_client() {
	start_client vsock:1:5001 /mnt-term
	pid=$(client_pids /mnt-term)
	kill -TERM $pid
	for p in $pid; do wait_for 10 gone $p; done
	wait_for 10 not_mounted /mnt-term
}
check term_ends_client

mount_helper() {
	mkdir -p /mnt-helper
	within 20 mount -t fuse.vsockfs vsock:1:5001 /mnt-helper
	mounted /mnt-helper
	test -d /mnt-helper/$CASE
	echo helper >/mnt-helper/$CASE/helper
	same helper "$(cat $H/helper)"
	stop_client /mnt-helper
}
check mount_helper

fstab() {
	mkdir -p /mnt-fstab
	echo 'vsock:1:5001 /mnt-fstab fuse.vsockfs ro,noatime,nosuid,nodev,_netdev 0 0' >/etc/fstab
	within 20 mount /mnt-fstab
	rm /etc/fstab
	grep ' /mnt-fstab fuse.vsockfs ro,' /proc/mounts
	test -d /mnt-fstab/$CASE
	not touch /mnt-fstab/$CASE/no
	stop_client /mnt-fstab
}
check fstab

read_only() {
	start_client vsock:1:5001 /mnt-ro -o ro
	echo x >$H/ro
	same x "$(cat /mnt-ro/$CASE/ro)"
	not touch /mnt-ro/$CASE/no
	test ! -e $H/no
	stop_client /mnt-ro
}
check read_only

kernel_command_line() { # vsockfs.workspace= and vsockfs.source=, no argument
	grep -q 'vsockfs.workspace=/workspace vsockfs.source=vsock:1:5001' /proc/cmdline
	clients() { for p in $(pidof vsockfs); do gone $p || echo $p; done | wc -l; }
	as_many_clients() { [ "$(clients)" = $1 ]; }
	before=$(clients)
	mkdir -p /workspace
	vsockfs </dev/null >>/run/client-workspace.log 2>&1 9>&- &
	pid=$!
	wait_for 20 started $pid mounted /workspace
	mounted /workspace || { last_lines /run/client-workspace.log >&2; false; }
	echo workspace >/workspace/$CASE/ws
	same workspace "$(cat $H/ws)"
	within 20 umount /workspace
	wait_for 10 not_mounted /workspace
	wait_for 10 as_many_clients $before
}
check kernel_command_line

tmpfs_export() { # another file system below the server
	mkdir -p /run/export
	mount -t tmpfs tmpfs /run/export
	start_server tmpfs vsock:1:5007 /run/export
	start_client vsock:1:5007 /mnt-tmpfs
	cd /mnt-tmpfs
	mkdir d
	echo x >d/x
	same x "$(cat /run/export/d/x)"
	stat d/x
	echo longer >/run/export/d/x
	is_longer() { [ "$(cat d/x)" = longer ]; }
	wait_for 5 is_longer
	cd /
	stop_client /mnt-tmpfs
	stop_server tmpfs
	umount /run/export
}
check tmpfs_export

two_servers() {
	mkdir -p $H/second
	start_server second vsock:1:5008 $H/second
	start_client vsock:1:5008 /mnt-second
	echo x >/mnt-second/x
	same x "$(cat $W/second/x)"
	stop_client /mnt-second
	stop_server second
	test ! -e /run/second.pid
}
check two_servers
