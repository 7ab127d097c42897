#!/bin/bash
# Configuring asks for no more than what is built, and builds with optimisation where nothing else is said.
# timeout: 120
# mounts: none
# needs: cmake ninja pkg-config gcc
. "$VFS_E2E/lib.sh"
need_program vsockfs

export CMAKE_GENERATOR=Ninja
# Every library but cmocka.
mkdir pc
for dir in $(pkg-config --variable pc_path pkg-config | tr : ' '); do
	find "$dir" -name '*.pc' ! -name cmocka.pc -exec ln -sf -t pc {} + 2>/dev/null || :
done
export PKG_CONFIG_LIBDIR=$PWD/pc PKG_CONFIG_PATH=
pkg-config --exists fuse3 libcbor libseccomp || skip 'the libraries are not found by pkg-config'
must test "$(pkg-config --exists cmocka; echo $?)" != 0

# configured DIR NAME : the value in the cache
configured() { sed -n "s/^$2:[A-Z]*=//p" "$1/CMakeCache.txt"; }

must cmake -S "$VFS_TOP" -B build
same 'the build type' RelWithDebInfo "$(configured build CMAKE_BUILD_TYPE)"
same 'tests that nobody asked for' OFF "$(configured build VSOCKFS_TESTS)"
must test ! -e build/tests

must cmake -S "$VFS_TOP" -B debug -DCMAKE_BUILD_TYPE=Debug
same 'the build type that was asked for' Debug "$(configured debug CMAKE_BUILD_TYPE)"

refused cmocka cmake -S "$VFS_TOP" -B tests -DVSOCKFS_TESTS=ON

note "without libseccomp only where that was asked for"
rm -f pc/libseccomp.pc
refused 'VSOCKFS_SECCOMP=OFF' cmake -S "$VFS_TOP" -B seccomp
must cmake -S "$VFS_TOP" -B seccomp -DVSOCKFS_SECCOMP=OFF

note "without libnettle it is said, and built"
rm -f pc/nettle.pc
cmake -S "$VFS_TOP" -B nettle -DVSOCKFS_SECCOMP=OFF >said 2>&1 || fail "$(tail -n 3 said)"
must grep -q 'nettle is missing' said
