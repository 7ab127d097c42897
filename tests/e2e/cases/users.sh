#!/bin/bash
# Several users on one mount of root's: each owns what it makes, and is refused what is not its own.
# timeout: 60
# needs: setpriv
set -euo pipefail
. "$VFS_E2E/lib.sh"
cd "$VFS_MNT"
chmod 755 .
as() { # as UID:GID[,GROUP...] CMD...
	local ids=$1 uid groups
	shift
	uid=${ids%%:*} groups=${ids#*:}
	setpriv --reuid "$uid" --regid "${groups%%,*}" --groups "$groups" --inh-caps=-all -- "$@"
}
owner() { stat -c %u:%g:%a "$1"; }

mkdir -m 1777 tmp
mkdir -m 2775 shared
chown 0:3000 shared
as 1001:2001 sh -c 'echo mine >tmp/a; mkdir tmp/d; ln -s x tmp/l; mkfifo tmp/p'
for name in a d l p; do
	same "owner of tmp/$name" 1001:2001 "$(stat -c %u:%g "tmp/$name")"
	same "owner of tmp/$name on the host" 1001:2001 "$(stat -c %u:%g "$VFS_HOST/tmp/$name")"
done

note "others"
chmod 600 tmp/a
refused 'Permission denied' as 1002:2002 cat tmp/a
refused 'Operation not permitted' as 1002:2002 rm -f tmp/a
refused 'Operation not permitted' as 1002:2002 chmod 666 tmp/a
refused 'Permission denied' as 1002:2002 touch not-here
same 'for its owner' mine "$(as 1001:2001 cat tmp/a)"
same 'for root' mine "$(cat tmp/a)"

note "supplementary groups, and a setgid directory"
refused 'Permission denied' as 1002:2002 touch shared/x
as 1002:2002,3000 touch shared/x
as 1002:2002,3000 mkdir shared/sub
same 'file in a setgid directory' 1002:3000 "$(stat -c %u:%g shared/x)"
same 'directory in it' 1002:3000:2755 "$(owner shared/sub)"
as 1002:2002,3000 chgrp 3000 shared/sub
refused 'Operation not permitted' as 1002:2002,3000 chgrp 4000 shared/x
refused 'Operation not permitted' as 1002:2002 chown 1001 shared/x

note "set-user-ID bits: cleared by another's write and by chown"
cp /bin/true tmp/suid
chown 1001:2001 tmp/suid
for how in 'dd of=tmp/suid conv=notrunc status=none' 'truncate -s 3 tmp/suid' 'dd of=tmp/suid oflag=append conv=notrunc status=none'; do
	chmod 6777 tmp/suid
	# shellcheck disable=SC2086
	as 1002:2002 $how <<<x
	same "mode after $how" 777 "$(stat -c %a tmp/suid)"
	same "mode on the host after $how" 777 "$(stat -c %a "$VFS_HOST/tmp/suid")"
done
chmod 6755 tmp/suid
chown 1001 tmp/suid
same 'after chown' 755 "$(stat -c %a tmp/suid)"

note "umask, and what root makes"
as 1001:2001 bash -c 'umask 027; : >tmp/umask; mkdir tmp/umask.d'
same 'file with umask 027' 1001:2001:640 "$(owner tmp/umask)"
same 'directory with umask 027' 1001:2001:750 "$(owner tmp/umask.d)"
: >by-root
same 'by root' 0:0 "$(stat -c %u:%g "$VFS_HOST/by-root")"
rm tmp/p
same_trees
