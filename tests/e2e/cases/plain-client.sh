#!/bin/bash
# Plain clients, honest and hostile, on our server; and mixed with clients of our own.
# timeout: 240
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd
support=$VFS_TOP/tests/support
export PYTHONDONTWRITEBYTECODE=1
mkdir root scratch mnt
server=
serve() {
	"$VFS_BIN/vsockfsd" --listen "unix:$PWD/sock" --pidfile="$PWD/pid" "$@" 2>>server.log &
	server=$!
	wait_for 20 test -s pid
}
stop_server() {
	[ -z "$server" ] || { kill "$server" 2>/dev/null || :; wait "$server" 2>/dev/null || :; }
	server=
}
trap stop_server EXIT

note "a client written from the protocol's description alone"
serve root
/usr/bin/python3 "$support/plain_client.py" --socket "$PWD/sock" selftest root >out 2>&1 || fail "$(tail -n 8 out)"
passed=$(sed -n 's/^\([0-9]*\) passed, 0 failed$/\1/p' out)
[ "${passed:-0}" -gt 500 ] || fail "only '${passed:-none}' checks: $(tail -n 3 out)"
note "$passed checks"

note "and an older one, that knows no links"
stop_server
serve root --plain-links=follow
/usr/bin/python3 "$support/plain_client.py" --socket "$PWD/sock" selftest root --links follow >out 2>&1 || fail "$(tail -n 8 out)"
note "$(tail -n 1 out)"

note "it works beside clients of the extended protocol"
must "$VFS_BIN/vsockfs" "unix:$PWD/sock" mnt -o attr_timeout=0,entry_timeout=0,negative_timeout=0
echo ours >mnt/ours
/usr/bin/python3 "$support/plain_client.py" --socket "$PWD/sock" selftest root --links follow >out 2>&1 || fail "$(tail -n 8 out)"
same "our file" ours "$(cat root/ours)"
umount_vfs mnt
stop_server

note "hostile ones"
serve scratch
before=$(cat pid)
/usr/bin/python3 "$support/hostile_client.py" --socket "$PWD/sock" --iterations 300 --need-extended --rss-limit 0 >out 2>&1 ||
	fail "$(grep FAIL out | head -n 5; tail -n 1 out)"
same "the server's process" "$before" "$(cat pid)"
kill -0 "$before" || fail "the server died"
note "$(tail -n 1 out)"
must grep -q 'HELLO accepted' out
must "$VFS_BIN/vsockfs" "unix:$PWD/sock" mnt
must ls mnt
umount_vfs mnt
lines=$(grep -c 'connection closed' server.log || :)
[ "$lines" -gt 100 ] || fail "only $lines lines tell what was wrong"
stop_server

note "hostile ones, on a read-only export: nothing of it changes"
mkdir canary twin
for top in canary twin; do
	mkdir -p $top/dir/empty
	echo content >$top/set-id
	chmod 6755 $top/set-id
	touch -a -d '2 days ago' $top/dir $top/set-id
	touch $top/dir/old
	ln -s set-id $top/link
done
look() { find canary -printf '%p %y %m %n %U %G %s %T@ %C@ %l\n' | sort; cat canary/set-id; }
stat -c '%n %x' canary/dir canary/set-id >before
serve canary --read-only
readonly_client() { /usr/bin/python3 "$support/hostile_client.py" --socket "$PWD/sock" --only readonly "$@" >out 2>&1 || fail "$(grep FAIL out | head -n 5; tail -n 1 out)"; }
readonly_client --iterations 300
stat -c '%n %x' canary/dir canary/set-id >after
same "times of access" "$(cat before)" "$(cat after)"
look >before
/usr/bin/python3 "$support/hostile_client.py" --socket "$PWD/sock" --only fields --only fuzz --iterations 300 --rss-limit 0 >out 2>&1 || :
readonly_client --iterations 300
look >after
same "the export" "$(cat before)" "$(cat after)"
same "its content" 6755,content "$(stat -c %a canary/set-id),$(cat canary/set-id)"
same "its names" 'dir empty link old set-id' "$(find canary -mindepth 1 -printf '%f\n' | sort | xargs)"
note "$(tail -n 1 out)"
stop_server
serve twin
readonly_client --writable
note "$(tail -n 1 out)"
stop_server

note "garbage instead of a server: one line, exit code 1"
cat >garbage.py <<'EOF'
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind("garbage.sock"); s.listen()
print("ready", flush=True)
while True:
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(bytes(range(256)) * 40)
    c.close()
EOF
/usr/bin/python3 garbage.py >ready &
server=$!
wait_for 20 grep -q ready ready
status=0
timeout $((60 * VFS_SLOW)) "$VFS_BIN/vsockfs" "unix:$PWD/garbage.sock" mnt 2>err || status=$?
same "exit code" 1 $status
same "lines on standard error: $(head -n 3 err)" 1 "$(wc -l <err)"
is_unmounted "$PWD/mnt" || fail "it mounted"
