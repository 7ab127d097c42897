#!/bin/bash
# sqlite on the host and in the mount at once, four processes each, with each kind of rollback journal: every row that was
# committed is there for whoever asks afterwards, nothing is said but busy, and the database is whole.
# timeout: 3600
set -euo pipefail
. "$VFS_E2E/lib.sh"
python3 -c 'import sqlite3' || skip "Python's sqlite3 is not there"
[[ ,$VFS_OPTIONS, != *,no_open,* && ,$VFS_OPTIONS, != *,locks=local,* ]] || skip "the host does not know of these locks"
# VFS_SQLITE_SECONDS, VFS_SQLITE_LOAD: tests/coherence/run
"$VFS_TOP/tests/coherence/sqlite.py" --seconds "${VFS_SQLITE_SECONDS:-4}" --load "${VFS_SQLITE_LOAD:-0}" \
	"$VFS_HOST" "$VFS_MNT" >sqlite.said 2>&1 ||
	fail "$(cat sqlite.said)"
note "$(cat sqlite.said)"
