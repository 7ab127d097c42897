# The outer side of cases/90-virtio-serial.sh, sourced by run: $outer is the directory that the guest sees, through QEMU.

outer_prepare() {
	mkdir "$outer/dir" &&
		echo 'written outside' >"$outer/hello" &&
		echo 'before' >"$outer/watched" &&
		ln -s dir "$outer/link" &&
		head -c 3000000 /dev/urandom >"$outer/big" &&
		(cd "$outer" && sha256sum big >big.sum)
}

# The guest has cached these names and their attributes: both changes must be pushed to it.
outer_change() {
	echo 'after, and longer' >"$outer/watched" && echo 'new outside' >"$outer/appeared"
}

outer_equal() { # NAME WANTED GOT
	if [[ $2 == "$3" ]]; then result "ok virtio-serial/outer-$1"; else result "not ok virtio-serial/outer-$1 '$3' is not '$2'"; fi
}
outer_verify() {
	outer_equal content 'written inside' "$(cat "$outer/dir/from-guest" 2>&1)"
	outer_equal mode 640 "$(stat -c %a "$outer/dir/from-guest" 2>&1)"
	outer_equal rename 'moved' "$(cat "$outer/dir/renamed" 2>&1)"
	outer_equal link 'dir/from-guest' "$(readlink "$outer/guest-link" 2>&1)"
	outer_equal unlink "$outer/hello is gone" "$([[ -e $outer/hello ]] && echo "$outer/hello is there" || echo "$outer/hello is gone")"
	outer_equal checksum 'guest-big: OK' "$(cd "$outer/dir" && sha256sum -c guest-big.sum 2>&1)"
}
