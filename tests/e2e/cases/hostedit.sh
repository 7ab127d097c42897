#!/bin/bash
# What changes on the host is seen in the mount within attr_timeout (1 s by default), at once with cache=none, and
# not before its time with attr_timeout=60: without that last one the first two would show nothing.
# timeout: 90
set -euo pipefail
. "$VFS_E2E/lib.sh"
cd "$VFS_HOST"

mkdir -p dir moved/below
for f in content grows shrinks mode gone replaced kept dir/a moved/below/file; do
	printf '%s: as it was\n' "$f" >$f
done
ln -s content link
mkdir becomes-file
printf 'x' >becomes-dir

none=$VFS_TMP/none long=$VFS_TMP/long
mount_again "$none" cache=none
mount_again "$long" cache=ttl,attr_timeout=60,entry_timeout=60,negative_timeout=60

# Everything that a look can see without opening a file or listing the directory, which would ask the host.
look() {
	(
		cd "$1"
		stat -c '%n %F %a %s %Y' content grows shrinks mode gone replaced link becomes-dir becomes-file dir new 2>&1 || :
		readlink link
	)
}
for mnt in "$VFS_MNT" "$none" "$long"; do
	wait_for 3 test -e "$mnt/becomes-dir"
	look "$mnt" >/dev/null
	same 'content' 'content: as it was' "$(cat "$mnt/content")"
	same 'listing' a "$(ls "$mnt/dir")"
done
old=$(look "$long")
same 'old view' "$(look "$VFS_HOST")" "$old"
exec 5<"$VFS_MNT/grows"
same 'held open' 'grows: as it was' "$(cat <&5)"

note "the host changes everything"
printf 'content: as it IS\n' >content
printf 'and more\n' >>grows
truncate -s 3 shrinks
chmod 751 mode
rm gone
printf 'replaced: by another file\n' >.replaced
mv .replaced replaced
ln -sfn kept link
rm -r becomes-dir becomes-file
mkdir becomes-dir
printf 'now a file\n' >becomes-file
printf 'new\n' >new
mv dir/a dir/b
mkdir dir/sub
mv moved/below moved/elsewhere

seen() { # seen MNT : every one of these changes, contents included
	[ "$(look "$1")" = "$(look "$VFS_HOST")" ] &&
		[ "$(cat "$1/content")" = 'content: as it IS' ] &&
		[ "$(cat "$1/grows")" = $'grows: as it was\nand more' ] &&
		[ "$(cat "$1/shrinks")" = shr ] &&
		[ "$(cat "$1/replaced")" = 'replaced: by another file' ] &&
		[ "$(cat "$1/link")" = 'kept: as it was' ] &&
		[ "$(cat "$1/new")" = new ] &&
		[ "$(ls "$1/dir")" = $'b\nsub' ] &&
		[ "$(cat "$1/moved/elsewhere/file")" = 'moved/below/file: as it was' ] &&
		[ ! -e "$1/moved/below" ] && [ ! -e "$1/gone" ]
}

seen "$none" || fail "with cache=none a change on the host is not seen at once: $(diff <(look "$VFS_HOST") <(look "$none"))"
if ! is_bind; then
	same 'with attr_timeout=60, the old view' "$old" "$(look "$long")"
fi
wait_for 3 seen "$VFS_MNT"
if ! is_bind; then
	same 'with attr_timeout=60, still the old view' "$old" "$(look "$long")"
fi
same 'what was appended, through the descriptor held open' 'and more' "$(cat <&5)"

note "edits by turns, host and mount, each on top of the other's"
cd "$VFS_MNT"
for i in 1 2 3; do
	echo "host $i" >>"$VFS_HOST/turns"
	wait_for 3 grep -qx "host $i" turns
	echo "guest $i" >>turns
	same 'last line on the host' "guest $i" "$(tail -n 1 "$VFS_HOST/turns")"
done
same 'all turns' $'host 1\nguest 1\nhost 2\nguest 2\nhost 3\nguest 3' "$(cat turns)"
exec 5<&-
umount_vfs "$none"
umount_vfs "$long"
same_trees
