#!/bin/bash
# What is mounted inside the mount stays mounted while the host changes everything around it, and the rest is seen.
# timeout: 60
set -euo pipefail
. "$VFS_E2E/lib.sh"
host=$VFS_HOST mnt=$VFS_MNT
mkdir -p "$host/top/dir/point/deeper" "$host/side/point"
echo old >"$host/top/dir/file"
fence "$mnt"
below=("$mnt/top/dir/point" "$mnt/side/point")
trap 'umount "${below[@]}" 2>/dev/null || :' EXIT
for at in "${below[@]}"; do
	must mount -t tmpfs tmpfs "$at"
	echo kept >"$at/inside"
done
ls -lR "$mnt" >/dev/null

both_there() {
	local at
	for at in "${below[@]}"; do
		is_mounted "$at" || fail "$1: nothing is mounted at $at any more"
		same "$1: inside $at" kept "$(cat "$at/inside")"
	done
}

for i in $(seq 20); do
	note "round $i"
	# Attributes and listings of every directory on the way, and names beside the way.
	echo "$i" >"$host/top/dir/file"
	echo "$i" >"$host/top/dir/.new"
	mv "$host/top/dir/.new" "$host/top/dir/other"
	chmod $((700 + i % 8)) "$host/top" "$host/top/dir" "$host/side" "$host/top/dir/point" "$host/side/point"
	touch -d "2020-01-01 00:00:$i" "$host/top/dir/point" "$host/side/point" "$host/side"
	mkdir "$host/top/dir/beside$i"
	touch "$host/top/dir/point/hidden$i"
	fence "$mnt"
	both_there "after changes beside it, round $i"
	same "the file beside" "$i" "$(cat "$mnt/top/dir/file")"
	same "the file that was replaced" "$i" "$(cat "$mnt/top/dir/other")"
	same "mode of a directory above" $((700 + i % 8)) "$(stat -c %a "$mnt/top")"
	[ -d "$mnt/top/dir/beside$i" ] || fail "the new directory beside is not seen"
done

note 'the entry itself is renamed away and back: the way there is another for a moment'
# Through a bind mount the names are the same ones, and busy.
is_bind || for i in $(seq 20); do
	mv "$host/top/dir" "$host/top/away"
	mv "$host/top/away" "$host/top/dir"
	mv "$host/side/point" "$host/side/away"
	mv "$host/side/away" "$host/side/point"
	fence "$mnt"
	both_there "after a rename and back, round $i"
done

note 'a directory above is renamed in the guest: the mount moves with it, and nobody says so'
mv "$mnt/top" "$mnt/up"
below=("$mnt/up/dir/point" "$mnt/side/point")
both_there 'after a rename in the guest'
is_bind || for i in $(seq 3); do
	mv "$host/up" "$host/away"
	mv "$host/away" "$host/up"
	fence "$mnt"
	both_there "after a rename and back of what was renamed, round $i"
done
mv "$mnt/up" "$mnt/top"
below=("$mnt/top/dir/point" "$mnt/side/point")
umount "${below[@]}"
fence "$mnt"
same 'what the mount hid' 20 "$(find "$mnt/top/dir/point" -name 'hidden*' | wc -l)"
