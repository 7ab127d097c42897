#!/bin/bash
# ./configure and make -j2 of a real C project in the mount: libltdl, as the libtool packages bring its sources.
# timeout: 240
# as: root mapped
# needs: make gcc
set -euo pipefail
. "$VFS_E2E/lib.sh"
for part in configure build-aux/ltmain.sh; do
	[ -f "/usr/share/libtool/$part" ] || skip 'the sources of libltdl are not installed (libltdl-dev, libtool)'
done
cd "$VFS_MNT"
# With its times: none of the files that the package brings is newer than what it was made from.
cp -rL --preserve=timestamps /usr/share/libtool libltdl
mkdir build-aux
cp -L --preserve=timestamps /usr/share/libtool/build-aux/* build-aux/

note "configure"
cd libltdl
./configure --prefix="$VFS_MNT/prefix" --enable-ltdl-install >"$VFS_TMP/out" 2>&1 || fail "configure: $(tail -n 5 "$VFS_TMP/out")"

note "make -j2, and again: nothing left to do"
make -j2 >"$VFS_TMP/out" 2>&1 || fail "make: $(tail -n 5 "$VFS_TMP/out")"
make >"$VFS_TMP/out" 2>&1 || fail "second make: $(tail -n 5 "$VFS_TMP/out")"
! grep -E 'CC|LD|libtool' "$VFS_TMP/out" || fail 'the second make built something'

note "touch one source: just that one is built again"
touch lt_error.c
make >"$VFS_TMP/out" 2>&1 || fail "make after a touch: $(tail -n 5 "$VFS_TMP/out")"
grep -q 'lt_error' "$VFS_TMP/out" || fail 'the touched source was not built again'
! grep -q 'slist' "$VFS_TMP/out" || fail 'a source that nobody touched was built again'

note "install, and a program against it"
make install >"$VFS_TMP/out" 2>&1 || fail "make install: $(tail -n 5 "$VFS_TMP/out")"
cat >../program.c <<'END'
#include <ltdl.h>
#include <stdio.h>
int main(void)
{
	int bad = lt_dlinit();
	printf("ltdl %d\n", bad);
	return bad;
}
END
must gcc -o ../program ../program.c -I../prefix/include ../prefix/lib/libltdl.a -ldl
same 'the program' 'ltdl 0' "$(../program)"
same 'the program, on the host' 'ltdl 0' "$("$VFS_HOST/program")"
same_trees

make clean >/dev/null
same 'objects after make clean' '' "$(find . -name '*.o' -o -name '*.lo')"
same_trees
