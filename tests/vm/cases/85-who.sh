# Who may connect over vsock: --reserved-port is root's alone, --allow=cid: that machine's. The loopback's CID is 1.

turned_away() { # UID PORT: that user's client is closed by the server, and says so
	local rc=0
	within 20 setpriv --reuid "$1" --regid "$1" --clear-groups vsockfs "vsock:1:$2" /run/never \
		-o proto=extended,connect_timeout=2 </dev/null >/run/never.out 2>&1 || rc=$?
	same 1 "$rc"
	grep -q 'closed the connection\|nobody took' /run/never.out
}

reserved_port() {
	mkdir -p $H/who /run/never
	echo hello >$H/who/file
	start_server who vsock:1:5021 $H/who --reserved-port --allow=cid:1
	start_client vsock:1:5021 /mnt-who
	same hello "$(cat /mnt-who/file)"
	turned_away 1000 5021
	grep -q 'cid:1, port [0-9]* may not connect' /run/who.log
	stop_client /mnt-who
	stop_server who
}
check reserved_port 90

allow_cid() {
	mkdir -p $H/who /run/never
	start_server who vsock:1:5022 $H/who --allow=cid:7 --allow=uid:0
	turned_away 0 5022
	grep -q 'cid:1, port [0-9]* may not connect' /run/who.log
	stop_server who
	: >/run/who.log
	start_server who vsock:1:5022 $H/who
	grep -q 'every user of every guest may connect by vsock' /run/who.log
	stop_server who
}
check allow_cid 90
