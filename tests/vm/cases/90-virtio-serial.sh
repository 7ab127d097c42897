# The client on an inherited fd that leaves the guest: a virtio-serial port, behind which QEMU's socket is the inherited
# connected socket of a vsockfsd outside. outer.sh has the other half; "@@ outer NAME" calls its functions.
M=/mnt2

port= empty=
for p in /sys/class/virtio-ports/*; do
	case $(cat $p/name 2>/dev/null) in
	vsockfs) port=${p##*/} ;;
	nobody) empty=${p##*/} ;;
	esac
done

is() { [ "$(cat "$1")" = "$2" ]; }

# A port that nobody holds open outside takes nothing, and is hung up for as long as that lasts.
nobody_behind_it() {
	test -n "$empty" || skip_check 'the guest has no virtio-serial port'
	mkdir -p /mnt-none
	# one at a time may have it open, and the last one's child may be a moment behind its parent
	free() { (exec 3<>/dev/$empty) 2>/dev/null; }
	for options in connect_timeout=1 connect_timeout=1,proto=plain; do
		rc=0
		wait_for 20 free
		within 25 vsockfs fd:3 /mnt-none -o $options 3<>/dev/$empty </dev/null >/run/nobody.out 2>&1 || rc=$?
		same 1 $rc
		grep -q 'nobody is behind' /run/nobody.out || { last_lines /run/nobody.out >&2; false; }
	done
	wait_for 20 free
	# by a signal, which the parent in the foreground passes on; the line is its child's
	vsockfs fd:3 /mnt-none -o connect_timeout=36000 3<>/dev/$empty </dev/null >/run/nobody.out 2>&1 9>&- &
	pid=$!
	# its child has blocked the signals that it looks at while it connects: 1, 2 and 15
	connecting() {
		child=$(grep -lx "PPid:.$pid" /proc/[0-9]*/status 2>/dev/null) && grep -q '^SigBlk:.*4003$' $child
	}
	wait_for 20 connecting
	kill -TERM $pid
	wait_for 20 gone $pid
	grep -q 'stopped by a signal' /run/nobody.out || { last_lines /run/nobody.out >&2; false; }
	not_mounted /mnt-none
}
check nobody_behind_it 120

inherited_fd() {
	test -n "$port" || skip_check 'the guest has no virtio-serial port'
	# Until the outer side is connected, the port reads as ended.
	connected() { grep -q 'host_connected: 1' /sys/kernel/debug/virtio-ports/$port; }
	test ! -e /sys/kernel/debug/virtio-ports/$port || wait_for 20 connected
	mkdir -p $M
	vsockfs fd:3 $M 3<>/dev/$port </dev/null >/run/client-mnt2.log 2>&1 9>&- &
	pid=$!
	wait_for 20 started $pid mounted $M
	mounted $M || { last_lines /run/client-mnt2.log >&2; false; }
}
check inherited_fd 60

if mounted $M; then
	shows_outside() {
		cd $M
		same 'written outside' "$(cat hello)"
		same 'appearedbig big.sum dir hello link watched ' "appeared$(ls | tr '\n' ' ')"
		same dir "$(readlink link)"
		sha256sum -c big.sum
	}
	check shows_outside 60

	pushed_from_outside() {
		cd $M
		same before "$(cat watched)"
		not stat appeared
		say 'outer change'
		wait_for 10 is watched 'after, and longer'
		wait_for 10 is appeared 'new outside'
	}
	check pushed_from_outside

	arrives_outside() {
		cd $M
		echo 'written inside' >dir/from-guest
		chmod 640 dir/from-guest
		echo moved >dir/first-name
		mv dir/first-name dir/renamed
		ln -s dir/from-guest guest-link
		rm hello
		dd if=/dev/urandom of=/tmp/guest-big bs=1M count=2 2>/dev/null
		cp /tmp/guest-big dir/guest-big
		(cd /tmp && sha256sum guest-big) >dir/guest-big.sum
		rm /tmp/guest-big
		say 'outer verify'
	}
	check arrives_outside 60

	check_end() {
		within 20 umount $M
		wait_for 10 no_client $M
	}
	check_as end check_end
fi
