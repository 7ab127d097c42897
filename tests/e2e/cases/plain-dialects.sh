#!/bin/bash
# Our client on plain servers of each dialect, our own among them: what guests do, and the tools that they use.
# timeout: 240
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd vfsstat
support=$VFS_TOP/tests/support
export PYTHONDONTWRITEBYTECODE=1
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
export GIT_CONFIG_NOSYSTEM=1 HOME=$PWD
mkdir root mnt mnt2 mnt3
chmod 777 root
chown 65534:65534 mnt3
server='' client=''

# serve_dialect NAME [OPTION...] : a server of ./root on ./sock
serve_dialect() {
	local name=$1
	shift
	stop_server
	: >ready
	if [ "$name" = ours ]; then
		"$VFS_BIN/vsockfsd" --listen "unix:$PWD/sock" --plain-prefix="$PWD/mnt" --pidfile="$PWD/ready" "$@" root \
			</dev/null 2>server.err &
	else
		/usr/bin/python3 "$support/plain_server.py" --socket "$PWD/sock" --root "$PWD/root" --prefix "$PWD/mnt" \
			--dialect "$name" --blocking --log "$PWD/requests" "$@" >ready 2>server.err &
	fi
	server=$!
	wait_for 20 test -s ready
}
stop_server() {
	[ -z "$server" ] || { kill "$server" 2>/dev/null || :; wait "$server" 2>/dev/null || :; }
	server=
	rm -rf sock requests ready root/* root/.[!.]*
}
trap stop_server EXIT
mount_plain() { # in the foreground, for its log
	"$VFS_BIN/vsockfs" -f "unix:$PWD/sock" "$PWD/mnt" -o "proto=plain,stats=$PWD/stats,$1" </dev/null >client.log 2>&1 &
	client=$!
	wait_for 20 is_mounted "$PWD/mnt"
}
unmount() {
	umount_vfs "$PWD/mnt"
	wait "$client"
}
as() { setpriv --reuid 1001 --regid 1002 --clear-groups --inh-caps=-all -- "$@"; }
dialect_text() { "$VFS_BIN/vfsstat" --json "$PWD/stats" | sed -n 's/.*"conn.dialect": *"\([^"]*\)".*/\1/p'; }
# have PROGRAM : false, and says so, where it is not installed
have() { command -v "$1" >/dev/null || { note "$1 is not installed: skipped"; return 1; }; }

# ---- what it is to work on

[ -d origin ] || {
	mkdir -p origin/src tree/deep/er
	for i in {1..40}; do printf 'int f%d(void) { return %d; }\n' "$i" "$i" >"origin/src/f$i.c"; done
	printf '#!/bin/sh\necho run\n' >origin/run.sh
	chmod 755 origin/run.sh
	printf 'all: sum\nsum: $(patsubst src/%%.c,out/%%.o,$(wildcard src/*.c))\n\tcat $^ >$@\n' >origin/Makefile
	printf 'out/%%.o: src/%%.c\n\t@mkdir -p out\n\tcp $< $@\n' >>origin/Makefile
	cp -r origin/src tree/src
	head -c 100000 /dev/urandom >tree/deep/er/random
	touch -d '2001-02-03 04:05:06.789' tree/src/f1.c tree/deep/er/random
	chmod 640 tree/src/f2.c
	chmod 2750 tree/deep
	chown 77:88 tree/src/f3.c
	touch -d '2002-03-04 05:06:07.5' tree/deep tree/src
}
if have git; then
	git -C origin init -q -b main
	git -C origin add -A
	git -C origin commit -qm first
fi

# look DIR : names, modes, owners, sizes, times and contents
look() {
	(cd "$1" && find . -printf '%P %y %m %U:%G %l ' \( -type d -printf '- %T@\n' -o -printf '%s %T@\n' \) | sort
		find . -type f -exec sha256sum {} + | sort)
}
same_look() {
	look "$2" >want
	look "$3" >found
	cmp -s want found || fail "$1: $(diff want found | sed -n 1,12p)"
}
contents() { (cd "$1" && find . -type f -exec sha256sum {} + | sort); }

# ---- operations

operations() { # operations NAME
	local name=$1
	note "$name: operations"
	echo one >mnt/file
	echo two >>mnt/file
	echo HOST >>root/file
	echo three >>mnt/file
	same "$name: appends" $'one\ntwo\nHOST\nthree' "$(cat root/file)"
	( exec 8>>mnt/both 9>>mnt/both
		for i in {1..40}; do echo "a$i" >&8; echo "h$i" >>root/both; echo "b$i" >&9; done )
	same "$name: lines of three who append" 120 "$(sort -u root/both | wc -l)"
	must truncate -s 100000 mnt/file
	same "$name: grown" 100000 "$(stat -c %s root/file)"
	if [[ $name == seed || $name == other ]]; then
		refused 'ot supported' truncate -s 5 mnt/file
		same "$name: not cut" 100000 "$(stat -c %s root/file)"
	else
		must truncate -s 5 mnt/file
		same "$name: cut" $'one\nt' "$(cat root/file)"
	fi
	: >mnt/file
	same "$name: emptied" 0 "$(stat -c %s root/file)"
	refused 'annot overwrite' bash -c 'set -C; echo x >mnt/both'
	must /usr/bin/python3 -c 'import os; os.fsync(os.open("mnt", os.O_RDONLY)); os.fsync(os.open("mnt/both", os.O_RDWR))'
	refused 'nvalid or incomplete' touch mnt/$'bad\xff'
	touch root/$'bad\xff' root/good
	same "$name: names" good "$(ls mnt | grep -a good)"
	rm -f root/$'bad\xff'

	note "$name: times, owners, modes"
	must touch -d '2003-04-05 06:07:08.25' mnt/both
	must chown 5:6 mnt/both
	must chmod 4751 mnt/both
	must mv mnt/both mnt/moved
	same "$name: what was set" '4751 5:6 1049522828.2500000000' "$(TZ=UTC stat -c '%a %u:%g' mnt/moved) $(find mnt/moved -printf %T@)"
	echo more >>root/moved
	if [ "$name" != seed ]; then want=$(stat -c %u:%g root/moved); else want=0:0; fi
	same "$name: after somebody else's change" "$want" "$(stat -c %u:%g mnt/moved)"

	note "$name: FIFO, socket, device"
	mkfifo root/fifo
	/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("root/socket")'
	mknod root/device c 1 3
	same "$name: types" 'character special file,fifo,socket' \
		"$(stat -c %F mnt/device),$(stat -c %F mnt/fifo),$(stat -c %F mnt/socket)"
	must /usr/bin/python3 -c 'import os; os.open("mnt/fifo", os.O_RDONLY | os.O_NONBLOCK)' # the guest's own
	refused . cat mnt/socket
	refused 'ermission denied' cat mnt/device
	same "$name: the mount lives on" good "$(ls mnt | grep good)"
	[ $name = ours ] || same "$name: requests to open one" 0 "$(grep -cE '"op": (5|10),.*mnt/(fifo|socket|device)"' requests || :)"
	rm mnt/fifo mnt/socket mnt/device
	same "$name: gone" '' "$(find root -type p -o -type s -o -type c)"

	note "$name: users"
	[ $name = ours ] || begun=$(wc -l <requests)
	must as mkdir mnt/home
	must as sh -c 'echo mine >mnt/home/a && chmod 600 mnt/home/a && echo more >>mnt/home/a && mv mnt/home/a mnt/home/b'
	# All but release, which the kernel asks for by itself.
	[ $name = ours ] || same "$name: requests of somebody else" '' \
		"$(tail -n "+$((begun + 1))" requests | grep -v -e '"uid": 1001, "gid": 1002' -e '"release"' | head -n 3)"
	same "$name: owner" '1001:1002 600' "$(stat -c '%u:%g %a' mnt/home/b)"
	same "$name: the user's file" $'mine\nmore' "$(as cat mnt/home/b)"
	refused 'ermission denied' setpriv --reuid 1003 --regid 1003 --clear-groups cat mnt/home/b
	must as rm -r mnt/home
}

appends() { # appends NAME : by two guests, each with an end of its own in mind
	local name=$1 i
	note "$name: two guests append"
	mount_vfs "unix:$PWD/sock" "$PWD/mnt2" "proto=plain,plain_base=$PWD/mnt,cache=ttl"
	: >root/log
	exec 8>>mnt/log 9>>mnt2/log
	for i in {1..20}; do echo "a$i" >&8; echo "b$i" >&9; done
	exec 8>&- 9>&-
	same "$name: in turn" "$(for i in {1..20}; do echo "a$i"; echo "b$i"; done)" "$(cat root/log)"
	if [ "$name" != seed ]; then # whose end is the one just before
		for i in {1..100}; do echo "c$i" >>mnt/log; done &
		for i in {1..100}; do echo "d$i" >>mnt2/log; done
		wait $!
		same "$name: at once" 240 "$(sort -u root/log | wc -l)"
	fi
	umount_vfs "$PWD/mnt2"
}

user_mount() { # user_mount NAME : a mount that an ordinary user makes for himself
	local name=$1
	have fusermount3 || return 0
	if ! as_user test -w /dev/fuse; then # in this case's own mount namespace
		mknod -m 666 "$PWD/fuse" c 10 229
		must mount --bind "$PWD/fuse" /dev/fuse
	fi
	note "$name: an ordinary user's mount"
	chmod 666 sock
	must as_user "$VFS_BIN/vsockfs" "unix:$PWD/sock" "$PWD/mnt3" -o "proto=plain,plain_base=$PWD/mnt" </dev/null
	must as_user sh -c 'mkdir mnt3/own && echo one >mnt3/own/f && echo two >>mnt3/own/f && chmod 700 mnt3/own && echo more >>mnt3/good'
	same "$name: what the user wrote" $'one\ntwo' "$(as_user cat mnt3/own/f)"
	same "$name: and to another's file, as the server lets him" more "$(cat root/good)"
	same "$name: whose it is" 65534 "$(as_user stat -c %u mnt3/own/f)"
	must as_user rm -r mnt3/own
	umount_vfs "$PWD/mnt3"
}

links() { # links NAME : a link to a directory that nothing may happen to
	local name=$1
	note "$name: a link to a precious directory"
	mkdir -p root/precious/sub root/top/inside
	echo keep >root/precious/f
	ln -s ../precious root/top/link
	find root/precious -printf '%P %y %m %s %T@\n' | sort >before
	case $name in
	seed)
		same "$name: it shows as a directory" 'directory keep' "$(stat -c %F mnt/top/link) $(cat mnt/top/link/f)"
		refused 'ot permitted' rm mnt/top/link/f
		refused 'ot permitted' touch mnt/top/link/new
		refused 'ot permitted' bash -c 'echo x >>mnt/top/link/f'
		refused 'ot permitted' mv mnt/top/link/f mnt/f
		refused 'ot permitted' chmod 700 mnt/top/link
		refused 'ot permitted' rm -rf mnt/top/link
		rm -rf mnt/top || :
		;;
	*)
		same "$name: it is a link" ../precious "$(readlink mnt/top/link)"
		same "$name: and leads there" keep "$(cat mnt/top/link/f)"
		must touch -h -d '2001-01-01' mnt/top/link
		must rm -rf mnt/top
		;;
	esac
	find root/precious -printf '%P %y %m %s %T@\n' | sort >after
	same "$name: the precious directory" "$(cat before)" "$(cat after)"

	mkdir root/swap
	ls mnt/swap
	rmdir root/swap
	ln -s precious root/swap
	rm -rf mnt/swap/f mnt/swap/sub 2>/dev/null || :
	if [ "$name" != seed ]; then must ln -s ../over/there mnt/made; same "$name: its target" ../over/there "$(readlink root/made)"
	same "$name: the mount's" ../over/there "$(readlink mnt/made)"
	same "$name: what was tried" '' "$(find root -name '.vsockfs*')"
	must ln mnt/good mnt/hard; same "$name: links" 2 "$(stat -c %h root/good)"; fi
}

tools() { # tools NAME
	local name=$1 hard=()
	if have git; then
		note "$name: git clone"
		must git clone -q --no-hardlinks origin mnt/clone
		must git -C mnt/clone status --short
		must git -C mnt/clone fsck --strict
		same "$name: git clone" '' "$(git -C mnt/clone status --porcelain)"
		echo change >>mnt/clone/run.sh
		must git -C mnt/clone commit -qam second
		same "$name: git's files" "$(contents mnt/clone)" "$(contents root/clone)"
	fi
	note "$name: tar, cp -a, rsync -a"
	tar -C tree --format=pax -cf tree.tar .
	mkdir mnt/tar
	must tar -C mnt/tar -xpf tree.tar
	same_look "$name: tar x" tree mnt/tar
	must cp -a tree mnt/cp
	same_look "$name: cp -a" tree mnt/cp
	same "$name: contents" "$(contents tree)" "$(contents root/cp)"
	if have rsync; then
		must rsync -a tree/ mnt/rsync/
		same_look "$name: rsync -a" tree mnt/rsync
		same "$name: rsync has nothing more to do" '' "$(rsync -ai tree/ mnt/rsync/)"
	fi
	if have make; then
		note "$name: make"
		cp origin/Makefile mnt/cp
		must make -s -C mnt/cp
		same "$name: made" "$(cat mnt/cp/src/*.c | sort)" "$(sort root/cp/sum)"
		same "$name: nothing to be made" "make: Nothing to be done for 'all'." "$(make -C mnt/cp 2>&1 | grep -v directory)"
	fi
	if have sqlite3; then
		note "$name: sqlite VACUUM"
		must sqlite3 mnt/db "create table t(x); with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
			insert into t select hex(randomblob(100)) from n; delete from t where rowid % 3;"
		if [[ $name == seed || $name == other ]]; then sqlite3 mnt/db vacuum 2>vacuum.err || :; else must sqlite3 mnt/db vacuum; fi
		same "$name: sqlite" $'ok\n1000' "$(sqlite3 mnt/db 'pragma integrity_check; select count(*) from t')"
		same "$name: sqlite on the host" $'ok\n1000' "$(sqlite3 root/db 'pragma integrity_check; select count(*) from t')"
	fi
}

declare -A found=(
	[seed]='links: unseen; owners: not told; append: here; ops:; not: 15 16 17 18 19 20'
	[newer]='links: in mode; owners: told; append: server; target: data; ops: 15 16 17 18 19 20; not:'
	[other]='links: in mode; owners: told; append: server; target: path; ops: 16 17 18 19; not: 15 20'
	[ours]='links: in mode; owners: told; append: server; target: data; ops: 15 16 17 18 19 20; not:'
)
declare -A said=([seed]='operation 15 operation 16 operation 17 operation 18 operation 19 operation 20' [newer]=''
	[other]='operation 15 operation 20')
for name in seed newer other ours; do
	serve_dialect $name
	mount_plain attr_timeout=0,entry_timeout=0,negative_timeout=0
	operations $name
	appends $name
	user_mount $name
	links $name
	unmount
	serve_dialect $name
	mount_plain cache=ttl
	install -o 5 -g 6 /dev/null root/theirs
	must stat mnt/theirs
	tools $name
	same "$name: what was found out" "${found[$name]}" "$(dialect_text)"
	unmount
	[ $name = ours ] || same "$name: the log says so once" "${said[$name]}" "$({ grep -oE 'operation [0-9]+' client.log || :; } | sort | xargs)"
	same "$name: and what is kept here" 1 "$(grep -c 'kept in this guest until' client.log || :)"
done
