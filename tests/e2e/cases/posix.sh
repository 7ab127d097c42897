#!/bin/bash
# The POSIX suite: as root, as an ordinary user on root's mount, and with everything an ordinary user's.
# timeout: 400
# as: root user
# options: xattr
# server: --special
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_test posix/posix-suite
suite() { # suite WHO DIR [FLAG...] : its summary, or its last lines
	local who=$1 dir=$2 said
	shift 2
	mkdir "$dir"
	[ "$VFS_AS" = user ] || chown "$who:$who" "$dir"
	said=$VFS_TMP/suite.$who
	"$VFS_TESTS/posix/posix-suite" -t $((60 * VFS_SLOW)) "$@" "$dir" >"$said" 2>&1 </dev/null || {
		cat "$said"
		fail "posix-suite as uid $who: $(tail -n 1 "$said")"
	}
	note "as uid $who: $(tail -n 1 "$said")"
}
chmod 755 "$VFS_MNT"
if [ "$VFS_AS" = user ]; then
	suite 65534 "$VFS_MNT/suite"
else
	suite 0 "$VFS_MNT/root"
	suite 65534 "$VFS_MNT/user" -u 65534:65534
fi
