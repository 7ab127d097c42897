#!/bin/bash
# tar, rsync -a, cp -a --sparse, find, grep -r in the mount, on a tree with everything in it.
# timeout: 120
# as: root mapped
# needs: tar rsync find grep
set -euo pipefail
. "$VFS_E2E/lib.sh"

note "the tree to copy, made beside the mount"
tree=$VFS_TMP/tree
mkdir -p "$tree"
for i in $(seq 40); do
	mkdir -p "$tree/dir$((i % 8))/deep/er/$i"
	for j in 1 2 3 4 5; do
		printf 'file %d of %d: needle%d\n' "$j" "$i" $((i * j)) >"$tree/dir$((i % 8))/deep/er/$i/file $j.txt"
	done
	head -c $((i * 997)) /dev/urandom >"$tree/dir$((i % 8))/binary$i"
	touch -d "200$((i % 10))-0$((1 + i % 9))-11 01:02:03.$((100000000 + i))Z" "$tree/dir$((i % 8))/binary$i"
done
ln "$tree/dir1/binary1" "$tree/hard link"
ln -s dir1/binary1 "$tree/relative"
ln -s /nowhere "$tree/dangling"
ln -s dir2 "$tree/to-dir"
mkfifo "$tree/fifo"
mkdir -m 1777 "$tree/sticky"
mkdir -m 2755 "$tree/setgid"
: >"$tree/empty"
# The guest's root may read everything, but a server that is an ordinary user only what its mode allows.
if [ "$VFS_AS" = mapped ]; then chmod 400 "$tree/empty"; else chmod 000 "$tree/empty"; fi
printf 'x' >"$tree/$(printf 'new\nline')"
printf 'x' >"$tree/-dash"
printf 'x' >"$tree/$(printf 'not utf-8 \377\376')"
truncate -s 8M "$tree/sparse"
printf 'data' | dd of="$tree/sparse" bs=1M seek=5 conv=notrunc status=none
head -c 3M /dev/zero >"$tree/zeros"
# Long ago: rsync leaves the time of a link alone that lies in the same second.
find "$tree" -type l -exec touch -h -d '2009-09-09 09:09:09.090909Z' {} +
touch -d '2008-08-08 08:08:08.080808Z' "$tree/fifo"
find "$tree" -type d -exec touch -d '2010-10-10 10:10:10.101010101Z' {} +

# Type, mode, links of a file, size, times to the nanosecond, target and contents; owners too, all root's here.
summary() {
	(cd "$1" && find . -mindepth 1 \( -type d -printf '%y %m %U %G %T@ %p\0' -o -printf '%y %m %n %U %G %s %T@ %l %p\0' \) | sort -z
		find . -type f -print0 | sort -z | xargs -0 sha256sum -z) | tr '\0\n' '\n?'
}
summary "$tree" >"$VFS_TMP/expected"
[ "$(wc -l <"$VFS_TMP/expected")" -gt 500 ] || fail 'the tree to copy is too small to show anything'
alike() {
	local differ
	summary "$1" >"$VFS_TMP/found"
	differ=$(diff "$VFS_TMP/expected" "$VFS_TMP/found" | head -n 10) || :
	[ -z "$differ" ] || fail "$2 (< expected, > found): $differ"
}

note "tar: into the mount, from the mount, and inside it"
cd "$VFS_MNT"
tar -C "$VFS_TMP" --format=posix -cf tree.tar tree
mkdir tar
must tar -C tar -xpf tree.tar
alike tar/tree 'after tar x'
must tar -C tar -dpf tree.tar
must tar -C tar --format=posix -czf "$VFS_TMP/back.tgz" tree
mkdir "$VFS_TMP/back"
must tar -C "$VFS_TMP/back" -xpzf "$VFS_TMP/back.tgz"
alike "$VFS_TMP/back/tree" 'after tar c from the mount'

note "rsync -a: in, again without work, a change, back"
must rsync -aH "$tree/" rsync/
alike rsync 'after rsync -a'
same 'what a second rsync would do' '' "$(rsync -aHi "$tree/" rsync/)"
echo changed >>rsync/dir2/binary2
same 'what rsync sees of a change' 1 "$(rsync -aHin "$tree/" rsync/ | grep -c '^>f.*dir2/binary2')"
must rsync -aH --delete --inplace "$tree/" rsync/
alike rsync 'after rsync --inplace'
must rsync -aH rsync/ "$VFS_TMP/rsync-back/"
alike "$VFS_TMP/rsync-back" 'after rsync from the mount'

note "cp -a --sparse, mv between file systems and inside"
must cp -a --sparse=always "$tree" cp
alike cp 'after cp -a'
[ "$(stat -c %b cp/zeros)" -lt 16 ] || fail "cp --sparse=always left $(stat -c %b cp/zeros) blocks in a file of zeros"
[ "$(stat -c %b cp/sparse)" -lt 64 ] || fail "cp left $(stat -c %b cp/sparse) blocks in a sparse file"
must cp -a --reflink=never --sparse=never cp/zeros full
[ "$(stat -c %b full)" -ge 6000 ] || fail 'cp --sparse=never made holes'
must cp -a cp cp2
alike cp2 'after cp -a inside the mount'
must mv cp2 moved
alike moved 'after mv inside the mount'
must mv moved "$VFS_TMP/moved-out"
alike "$VFS_TMP/moved-out" 'after mv out of the mount'
must mv "$VFS_TMP/moved-out" back-in
alike back-in 'after mv into the mount'

note "find and grep -r find what is there"
same 'find -name' 200 "$(find cp -name 'file *.txt' | wc -l)"
same 'find -newer' 0 "$(find cp -newer tree.tar -type f | wc -l)"
same 'find -links' 2 "$(find cp -type f -links 2 | wc -l)"
same 'grep -r' "$(grep -rl needle17 "$tree" | wc -l)" "$(grep -rl needle17 cp | wc -l)"
[ "$(grep -rl needle17 cp | wc -l)" -gt 0 ] || fail 'grep -r found nothing at all'
same 'du' "$(du -s --apparent-size "$VFS_HOST/cp" | cut -f1)" "$(du -s --apparent-size cp | cut -f1)"

note "mount and host are the same"
find . -type p -delete
same_trees
rm -rf tar rsync cp back-in
same 'what rm -r leaves' $'full\ntree.tar' "$(ls -A "$VFS_HOST")"
