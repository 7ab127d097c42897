# The build's own suite, when there is one, over the mount: each of its areas is a check.
M=/mnt-suite

check_start() {
	[ -x /usr/bin/posix-suite ] || skip_check 'the build has no tests/posix/posix-suite'
	start_server suite vsock:1:5018 $H --special
	start_client vsock:1:5018 $M
	chmod 777 $M
}
check_as start check_start

posix_area() {
	{ local -; set +ex; } 2>/dev/null
	posix-suite -t $((150 * SLOW)) $M $area >/run/posix.out 2>&1
	rc=$?
	cat /run/posix.out
	[ $rc = 0 ] || { grep -v -E '^(ok |skip |posix-suite:)' /run/posix.out | head -n 3 >&2; exit 1; }
}

if mounted $M; then
	for area in $(posix-suite -L | cut -d ' ' -f 1); do
		# tens of thousands of entries take minutes on an emulated processor; tests/e2e runs these
		case $area in dir | dirchange) continue ;; esac
		check_as $area posix_area 165
	done
	check_end() {
		stop_client $M
		stop_server suite
	}
	check_as end check_end
fi
