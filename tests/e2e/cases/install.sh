#!/bin/bash
# What `cmake --install` puts where: into systems whose /sbin is a link, and others, below any prefix.
# timeout: 120
# mounts: none
# needs: cmake
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd vfsstat
helper=mount.fuse.vsockfs

# install_to DIR PREFIX : the manifest is in manifest, without the root
install_to() {
	DESTDIR=$PWD/$1 must cmake --install "$VFS_BUILD" --prefix "$2"
	cut -c2- "$VFS_BUILD/install_manifest.txt" | sort >manifest
}
# links_in DIR : each leads to a file in DIR
no_dangling_links() {
	local link
	find "$1" -type l -name "$helper" | grep . >links || fail "no $helper in $1"
	while read -r link; do
		[[ $(realpath -e "$link") = "$PWD/$1"/* ]] || fail "$link leads to $(readlink "$link")"
	done <links
}
# What is there and not in before, against the manifest.
check_manifest() {
	(cd "$1" && find . ! -type d -printf '%P\n' | sort) | comm -23 - before >there
	must test -s there
	must diff manifest there
}
on_this_machine() { ls -lid --time-style=+%s /{sbin,usr/sbin,usr/bin,usr/local/bin}/{$helper,vsockfs} 2>/dev/null || :; }
# check ROOT WHERE PREFIX : the helper comes to WHERE
check() {
	(cd "$1" && find . ! -type d -printf '%P\n' | sort) >before
	on_this_machine >host.before
	install_to "$1" "$3"
	must test -L "$1/$2/$helper"
	must test -x "$1$3/bin/vsockfs"
	no_dangling_links "$1"
	check_manifest "$1"
	on_this_machine | must diff host.before -
}

note 'a system whose /sbin is a link, by a relative path or by an absolute one'
for target in usr/sbin /usr/sbin; do
	mkdir -p link/usr/sbin
	ln -s "$target" link/sbin
	check link usr/sbin /usr
	same 'the link' "$target" "$(readlink link/sbin)"
	rm -r link
done
note 'one whose /usr/sbin is a link as well'
mkdir -p link/usr/bin
ln -s usr/sbin link/sbin
ln -s bin link/usr/sbin
check link usr/bin /usr
rm -r link

note 'one where it is a directory'
mkdir -p old/sbin
check old sbin /usr
must test ! -L old/sbin

note 'a directory for a package, where there is nothing yet: as on this machine'
for prefix in /usr /usr/local /opt/vsockfs; do
	mkdir "new"
	if [ -L /sbin ]; then
		check new "$([ -L /usr/sbin ] && echo usr/bin || echo usr/sbin)" "$prefix"
		must test ! -e new/sbin
	else
		check new sbin "$prefix"
	fi
	rm -r new
done
