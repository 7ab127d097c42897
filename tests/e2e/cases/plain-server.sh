#!/bin/bash
# Our client on plain servers of the seed's kind: old and modern, silent or closing at the greeting, and broken ones.
# timeout: 240
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs
support=$VFS_TOP/tests/support
mkdir root mnt
export PYTHONDONTWRITEBYTECODE=1
server=

# serve OPTION... : a plain server on ./sock, of ./root
serve() {
	stop_server
	: >ready
	/usr/bin/python3 "$support/plain_server.py" --socket "$PWD/sock" --root "$PWD/root" --prefix "$PWD/mnt" \
		--log "$PWD/requests" "$@" >ready 2>server.err &
	server=$!
	wait_for 20 grep -q ready ready
}
stop_server() {
	[ -z "$server" ] || { kill "$server" 2>/dev/null || :; wait "$server" 2>/dev/null || :; }
	server=
	rm -f sock requests
}
trap stop_server EXIT
unmount() { umount_vfs "$PWD/mnt"; }
lists_300() { [ "$(ls mnt | wc -l)" = 300 ]; }

# everything that the plain protocol can do, seen from both sides
exercise() {
	echo one >mnt/file
	echo two >>mnt/file
	same "an append" $'one\ntwo' "$(cat root/file)"
	must mkdir mnt/dir
	must mv mnt/file mnt/dir/moved
	same "after a rename" $'one\ntwo' "$(cat root/dir/moved)"
	must dd if=/dev/urandom of=mnt/big bs=1M count=5 status=none
	must cmp mnt/big root/big
	must cp mnt/big mnt/copy
	must cmp root/big root/copy
	must chmod 640 mnt/copy
	same "a mode" 640 "$(stat -c %a root/copy)"
	must truncate -s 0 mnt/copy
	must truncate -s 100 mnt/copy
	same "a grown file" 100 "$(stat -c %s root/copy)"
	refused 'ot empty' rmdir mnt/dir
	refused 'o such file' cat mnt/none
	refused 's a directory' unlink mnt/dir
	must rm -r mnt/dir mnt/big mnt/copy
	same "what is left" '' "$(ls root)"
	for i in {1..300}; do echo "$i" >"root/n$i"; done
	wait_for 10 lists_300
	same "300 files" "$(cat root/n* | sort | sha256sum)" "$(cat mnt/n* | sort | sha256sum)"
	must rm -r root/n*
}

for variant in '' --modern --no-omit --close-on-hello --silent-hello; do
	note "a plain server ${variant:-as old as the seed}"
	serve ${variant:+"$variant"}
	must "$VFS_BIN/vsockfs" "unix:$PWD/sock" "$PWD/mnt" -o attr_timeout=0,entry_timeout=0,negative_timeout=0
	exercise
	unmount
	same "requests that are not byte for byte the seed's" 0 "$(grep -c '"canonical": false' requests || :)"
	must grep -q '"op": 32' requests
done

note "what an old server cannot do is refused, not dropped"
serve
must "$VFS_BIN/vsockfs" "unix:$PWD/sock" "$PWD/mnt" -o proto=plain
same "a greeting in spite of proto=plain" 0 "$(grep -c '"op": 32' requests || :)"
echo 0123456789 >mnt/file
refused 'ot supported' truncate -s 5 mnt/file
same "the file that was not truncated" 11 "$(stat -c %s root/file)"
refused 'ot permitted\|ot supported' ln -s file mnt/link
refused 'ot permitted\|ot supported' ln mnt/file mnt/hard
refused 'nvalid or incomplete' touch mnt/$'bad\xff'
must cat mnt/file
unmount

note "what a modern one can"
serve --modern
must "$VFS_BIN/vsockfs" "unix:$PWD/sock" "$PWD/mnt"
must truncate -s 5 mnt/file
same "the file that was truncated" 01234 "$(cat root/file)"
must ln mnt/file mnt/hard
same "links" 2 "$(stat -c %h root/file)"
must ln -s over/there mnt/link
same "where a link leads" over/there "$(readlink root/link)"
same "and in the mount" over/there "$(readlink mnt/link)"
unmount

note "proto=extended does not put up with it"
refused 'plain protocol only' "$VFS_BIN/vsockfs" "unix:$PWD/sock" mnt -o proto=extended
is_unmounted "$PWD/mnt" || fail "it mounted all the same"

note "a server that breaks in the middle: an error, no hang, no crash"
for fault in garbage-reply oversize-reply truncate-reply deep-reply indefinite-reply die-after; do
	serve --modern "--$fault" 6
	must "$VFS_BIN/vsockfs" "unix:$PWD/sock" "$PWD/mnt" -o cache=none
	for _ in {1..12}; do timeout $((20 * VFS_SLOW)) stat mnt/file >/dev/null 2>&1 || status=$?; done
	[ "${status:-0}" -ne 124 ] || fail "$fault: stat hangs"
	refused 'not connected' timeout $((20 * VFS_SLOW)) ls mnt
	unmount
	status=0
done
stop_server
