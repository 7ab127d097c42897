#!/bin/bash
# Directories stay where they are: getcwd, shells, git and builds in what the host has just made, moved away and back, and
# changed; and a name that leads to another directory is seen at once, whatever look-up of it is being digested.
# timeout: 240
# needs: git make python3
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test coherence/place
host=$VFS_HOST mnt=$VFS_MNT
is_bind && skip 'the stand-in has the names of the host'
! [[ $VFS_OPTIONS == *cache=ttl* ]] || skip 'compares at once'

note 'where processes stand'
"$VFS_TESTS/coherence/place" 60 "$host" "$mnt" >place.said || fail "$(tail -n 5 place.said)"
note "$(tail -n 1 place.said)"

note 'git, shells and builds in directories that the host has just made'
for i in $(seq 10); do
	mkdir -p "$host/work$i/src"
	printf 'all: src/out\nsrc/out: src/in\n\tpwd -P >/dev/null && cp $< $@\n' >"$host/work$i/Makefile"
	echo "$i" >"$host/work$i/src/in"
	must git init -q "$mnt/work$i"
	(
		cd "$mnt/work$i"
		mv "$host/work$i" "$host/aside"
		mv "$host/aside" "$host/work$i"
		same 'the path of a shell' "$mnt/work$i" "$(pwd -P)"
		must make -s
		same 'what was built' "$i" "$(cat src/out)"
		must git add Makefile src
		must git -c user.name=a -c user.email=a@b commit -q -m one
		chmod 700 "$host/work$i" "$host/work$i/src"
		touch "$host/work$i/new"
		same 'the path in python' "$mnt/work$i/src" "$(cd src && python3 -c 'import os; print(os.getcwd())')"
		must git status
	)
done

if [ "$(id -u)" = 0 ] && [ "$(nproc)" -gt 1 ] && [ "$VFS_TRANSPORT" = unix ] && [ "$VFS_AS" = root ]; then
	note 'who looks at a name, and digests it late'
	"$VFS_TESTS/coherence/place" --looks 150 "$host" "$mnt" >place.said || fail "$(tail -n 5 place.said)"
	note "$(tail -n 1 place.said)"
fi
