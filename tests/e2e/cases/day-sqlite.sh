#!/bin/bash
# sqlite3 in the mount: rollback and WAL mode, writers at once, readers beside them, a writer that is killed.
# timeout: 180
# as: root mapped
# needs: sqlite3
set -euo pipefail
. "$VFS_E2E/lib.sh"
cd "$VFS_MNT"
sql() { # sql DATABASE : statements from standard input, waiting for locks
	sqlite3 -bail -batch -cmd '.timeout 60000' "$@"
}
ask() { sql "$1" <<<"$2"; }

for mode in delete wal; do
	db=$mode.db
	note "$mode: made, filled, read back"
	same 'journal mode' $mode "$(ask $db "PRAGMA journal_mode=$mode;")"
	ask $db 'CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT, n INTEGER, body BLOB); CREATE INDEX by_n ON t(n);
		CREATE TABLE counter(n INTEGER); INSERT INTO counter VALUES(0);'
	ask $db 'WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<5000)
		INSERT INTO t(who, n, body) SELECT 0, i, randomblob(100) FROM c;'
	same 'rows' 5000 "$(ask $db 'SELECT count(*) FROM t;')"

	note "$mode: four writers at once, each adding to one counter in 25 transactions"
	writers=()
	for who in 1 2 3 4; do
		for i in $(seq 25); do
			echo "BEGIN IMMEDIATE; UPDATE counter SET n=n+1;
				INSERT INTO t(who, n, body) VALUES($who, $i, randomblob(500)); COMMIT;"
		done | sql $db >"$VFS_TMP/writer$who" 2>&1 &
		writers+=($!)
	done
	reads=0
	while [ "$(jobs -rp)" ]; do
		n=$(ask $db 'SELECT n FROM counter;')
		rows=$(ask $db "SELECT (SELECT n FROM counter) - (SELECT count(*) FROM t WHERE who>0);")
		same "counter less rows in one transaction, the counter near $n" 0 "$rows"
		reads=$((reads + 1))
	done
	for i in "${!writers[@]}"; do
		wait "${writers[$i]}" || fail "writer $((i + 1)): $(tail -n 1 "$VFS_TMP/writer$((i + 1))")"
	done
	[ $reads -gt 0 ] || fail 'nobody read while the writers wrote'
	same 'counter' 100 "$(ask $db 'SELECT n FROM counter;')"
	same 'rows of the writers' '25|25|25|25' "$(ask $db 'SELECT group_concat(c, "|") FROM
		(SELECT count(*) AS c FROM t WHERE who>0 GROUP BY who);')"

	note "$mode: a writer killed in the middle of a transaction leaves nothing of it"
	mkfifo "$VFS_TMP/feed.$mode"
	sql $db <"$VFS_TMP/feed.$mode" >"$VFS_TMP/killed" 2>&1 &
	killed=$!
	exec {feed}>"$VFS_TMP/feed.$mode"
	# A cache of ten pages, so that the transaction reaches the files before it is committed.
	echo "PRAGMA cache_size=10; BEGIN IMMEDIATE; UPDATE t SET body=randomblob(300);
		UPDATE counter SET n=-1; SELECT 'written';" >&"$feed"
	wait_for 30 grep -q written "$VFS_TMP/killed"
	kill -9 $killed
	wait "$killed" 2>/dev/null || :
	exec {feed}>&-
	same 'counter after the kill' 100 "$(ask $db 'SELECT n FROM counter;')"

	note "$mode: whole, in the mount and on the host"
	ask $db 'DELETE FROM t WHERE n % 3 = 0; VACUUM;'
	same 'integrity' ok "$(ask $db 'PRAGMA integrity_check;')"
	[ $mode = delete ] || ask $db 'PRAGMA wal_checkpoint(TRUNCATE);' >/dev/null
	same 'integrity on the host' ok "$(ask "$VFS_HOST/$db" 'PRAGMA integrity_check;')"
	same 'dump' "$(ask "$VFS_HOST/$db" .dump | sha256sum)" "$(ask $db .dump | sha256sum)"
	same 'left beside it' "$db" "$(find . -maxdepth 1 -name "$mode*" -printf '%f ' | sed 's, $,,')"
done
same_trees
