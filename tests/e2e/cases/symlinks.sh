#!/bin/bash
# --symlinks: which links a guest may make, so that no program of the host follows one out of the export.
# timeout: 120
# mounts: none
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd
mkdir export mnt
trap '[ -z "${served:-}" ] || { kill "$served"; wait "$served" || :; }' EXIT

# start HOW : with links and directories of the host's in the export
start() {
	mkdir -p export/a/b/c export/x
	ln -s ../../../outside export/a/b/out # of the host's own, and leads out
	ln -s /etc/passwd export/a/absolute
	ln -s b/c export/a/down
	serve "$PWD/sock" export "--symlinks=$1" 2>log
	mount_vfs "unix:$PWD/sock" "$PWD/mnt"
}
stop() {
	umount_vfs "$PWD/mnt"
	kill "$served"
	wait "$served" || :
	served=''
	rm -rf export
	mkdir export
}
# link TARGET NAME : made, and it leads there
link() {
	must ln -s "$1" "mnt/$2"
	same "the target of $2" "$1" "$(readlink "export/$2")"
}
# no_link TARGET NAME
no_link() {
	refused 'not permitted' ln -s "$1" "mnt/$2"
	must gone "export/$2"
}
# links_stay : no link of the guest's (their names begin with l) leads out of the export
links_stay() {
	local name at
	find export -type l -name 'l*' | while read -r name; do
		at=$(realpath -m "$name")
		[[ $at/ = "$PWD/export/"* ]] || fail "$name leads to $at"
	done
}

note 'allow'
start allow
link /etc/passwd absolute
link ../../.. up
must mv mnt/a/b/out mnt/out
must mv mnt/a/b/c mnt/c
stop

note 'relative'
start relative
link name l1
link a/b/c l2
link ./a//b/ l3
link . l4
link ../../x a/b/l5
link ../../../x a/b/c/l6
link ../../.. a/b/c/l7
link ./.././../x a/b/l8
link '...' l9
link '..x/y' l10
for target in /etc/passwd / // .. ../x ./.. .//../x a/../x a/../../x down/../../../x; do
	no_link "$target" n1
done
no_link ../../.. a/b/n2
no_link ../down/../x a/b/c/n6
no_link l7/../x a/b/c/n7 # behind a link, .. is not where it was
no_link ../../../../x a/b/c/n3
no_link ../x/../../.. a/b/n4
no_link "$PWD/export/x" n5
note 'what exists is shown, and moves where it still stays inside'
same 'shown' /etc/passwd "$(readlink mnt/a/absolute)"
must mv mnt/a/b/l5 mnt/a/b/c/l5
refused 'not permitted' mv mnt/a/b/c/l7 mnt/a/b/l7
refused 'not permitted' mv mnt/a/b/c/l6 mnt/l6
refused 'not permitted' ln mnt/a/b/c/l7 mnt/l7
must ln mnt/a/b/c/l7 mnt/a/b/c/l7b
must mv mnt/a/b/out mnt/a/b/out2 # in its place: it leads where it has led
refused 'not permitted' mv mnt/a/b/out2 mnt/a/out
refused 'not permitted' mv mnt/a/absolute mnt/x/absolute
refused 'not permitted' ln mnt/a/absolute mnt/x/absolute
: >mnt/plain
must mv mnt/plain mnt/a/b/c/plain
must mv mnt/a/b/c/plain mnt/plain
note 'a directory comes no nearer to the root, also in exchange; mv(1) copies what it may'
cat >rename.py <<'PY'
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
old, new, flags, want = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
r = libc.renameat2(-100, old.encode(), -100, new.encode(), flags)
got = errno.errorcode[ctypes.get_errno()] if r else "0"
assert got == want, f"{old} to {new}: {got}, not {want}"
PY
renames() { /usr/bin/python3 rename.py "mnt/$1" "mnt/$2" "$3" "$4" || fail "rename $*"; }
exchange=2
mkdir mnt/top mnt/a/b/c/deep
renames a/b/c c 0 EXDEV
renames a/b b 0 EXDEV
renames a/b/c/deep a/b/deep 0 EXDEV
renames a/b/c a/b/c2 0 0
renames a/b/c2 a/b/c 0 0
renames top a/top 0 0
renames a/b a/b2 0 0
renames a/b2 a/b 0 0
renames a/top a/b/c $exchange EXDEV
renames a/b/c a/top $exchange EXDEV
renames a/top a/b $exchange 0
renames a/top a/b $exchange 0
renames a/b/c/l7 a/l11 $exchange ENOENT
link name a/l11
renames a/b/c/l7 a/l11 $exchange EPERM
renames a/l11 a/b/c/l7 $exchange EPERM
links_stay
rm mnt/a/b/c/l*
must mv mnt/a/b/c mnt/c
must test -d export/c/deep
links_stay
stop

note 'relative, to clients of the plain protocol'
start relative
cat >plain.py <<'PY'
import sys
sys.path.insert(0, sys.argv[2])
from plain_calls import connect, same
ask = connect(sys.argv[1])
def call(op, path, **more):
    return ask(op, path, **more)["err"]
SYMLINK, RENAME, LINK = 16, 9, 18
allowed = sys.argv[3] == "relative"
same("inside", 0 if allowed else -1, call(SYMLINK, "a/b/l1", data=b"../../x"))
same("out", -1, call(SYMLINK, "a/b/l2", data=b"../../../x"))
same("absolute", -1, call(SYMLINK, "l3", data=b"/workspace/x"))
same("moved up", -1, call(RENAME, "a/absolute", new_path="/workspace/absolute"))
same("linked", -1, call(LINK, "a/absolute", new_path="/workspace/absolute"))
same("a directory", -18, call(RENAME, "a/b/c", new_path="/workspace/c"))
same("a directory in its place", 0, call(RENAME, "a/b/c", new_path="/workspace/a/b/d"))
PY
/usr/bin/python3 plain.py "$PWD/sock" "$VFS_TOP/tests/support" relative >said 2>&1 || fail "$(tail -n 1 said)"
links_stay
stop

note 'deny'
start deny
no_link name n1
no_link a/b n2
refused 'not permitted' mv mnt/a/b/out mnt/out
refused 'not permitted' ln mnt/a/absolute mnt/x/absolute
must mv mnt/a/down mnt/x/down
same 'shown' b/c "$(readlink mnt/x/down)"
refused . /usr/bin/python3 rename.py mnt/a/b/c mnt/c 0 0
rm mnt/x/down
/usr/bin/python3 plain.py "$PWD/sock" "$VFS_TOP/tests/support" deny >said 2>&1 || fail "$(tail -n 1 said)"
stop

status=0
"$VFS_BIN/vsockfsd" --listen "unix:$PWD/never" --symlinks=some export 2>said || status=$?
same 'exit code of --symlinks=some' 2 $status
