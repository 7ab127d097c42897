#!/bin/bash
# git, sqlite from both sides, exact logs, names, counters under locks and a tree that is unpacked, while the connection is cut inside
# of frames several times a second: nothing wrong, lost or done twice. tests/chaos/run does it for longer.
# timeout: 240
# mounts: none
# as: root
# needs: git tar
set -euo pipefail
. "$VFS_E2E/lib.sh"
need_program vsockfs vsockfsd vfsstat
python3 -c 'import sqlite3' || skip "Python's sqlite3 is not there"
"$VFS_TOP/tests/chaos/run" --seconds 25 --bin "$VFS_BIN" --work "$VFS_TMP" >chaos.said 2>&1 || fail "$(tail -n 40 chaos.said)"
note "$(cat chaos.said)"
